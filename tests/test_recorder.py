"""A command sees what it would see without a recorder, and both outlive whoever started them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import stat_of
from queuectl_magics import recorder
from queuectl_magics.spawning import Environment
from recorded import SIGNALS, without_names

FORMS = ["short", "asks for its pid", "long", "a program's"]
LINES = [
    "true",
    "false",
    "exit 3",
    "(exit 4)",
    "exec sh -c 'exit 5'",
    "exec true",
    "exec no-such-program-anywhere",
    "no-such-program-anywhere",
    "touch plain; ./plain",
    "trap 'exit 7' EXIT; exit 0",
    "trap 'echo bye' EXIT; exit 8",
    "trap 'exit 9' TERM; kill -TERM $$",
    "false | true",
    "true | false",
    "set -e; false; echo unreachable",
    "set -u; echo $unset_variable; echo unreachable",
    "kill -TERM $$",
    "kill -INT $$",
    "kill -KILL $$",
    "kill -SEGV $$",
    "sh -c 'kill -KILL $$'; echo $?",
    "yes | head -n 1",
    'echo "$# [$1] [$*]"',
    "set -- a b; shift; echo $1",
    "cat; echo read nothing",
    "readlink /proc/self/fd/0",
    "for i in 1 2 3; do echo out$i; echo err$i >&2; done",
    'echo "it\'s" \'a "quote"\' \\\\ \\$HOME `echo b` $(echo c)',
    "printf '%s|' 100% '%d' \"a  b\"; echo",
    "echo one\necho two\n\necho three",
    "echo a \\\n  b",
    "cat <<END\nhere $((1 + 1))\nEND",
    "cat <<'END'\nhere $((1 + 1))\nEND",
    "# only a comment",
    "echo before # and a comment",
    "echo ü 漢字 🚀 é\u2028x",
    "printf 'no newline at the end'",
    "echo 'a\tb\rc'",
    "if true; then echo yes; fi",
    "case x in x) echo case;; esac",
    "f() { return 6; }; f",
    "echo hidden >/dev/null; echo shown >&2",
    "exec >other; echo gone",
    "exec 9>&-; echo nine",
    "exec 3<&0; cat <&3; echo three",
    "umask; pwd; echo $PWD",
    "cd / && pwd",
    "echo $((",
    "if true; then",
    "echo 'unfinished",
    ")",
    "wait; echo waited",
    "(echo in; exit 2) || echo or $?",
    "{ echo group; } 2>&1",
    "A=1 B=$A env | grep -c '^[AB]='",
    "echo *.nothing",
    "eval 'echo evaluated; exit 11'",
    "echo ${f-unset} ${c-unset}",
    "echo ${unset_one?is missing}; echo unreachable",
    "echo ${unset_one:=given} $unset_one",
    ": >/no/such/directory/file; echo unreachable",
    "echo x >/no/such/directory/file; echo reachable",
    "cd /no/such/directory; echo reachable",
    "sh -c 'exit 12'",
    "sh -c 'kill -TERM $PPID; sleep 0.1'; echo unreachable",
    "python3 -c 'import os; os.kill(os.getppid(), 9)'; echo unreachable",
    "true &",
    "false & wait $!",
    "(trap 'echo inner' EXIT); echo outer",
    "x=$(echo inner; exit 13); echo $x $?",
    "trap",
    "echo $-",
    "set -f; echo *",
    "shift",
    "break; echo on",
    "return 6; echo unreachable",
    'read x; echo "<$x> $?"',
    "IFS=:; a=1:2; echo $a",
    "IFS=1; false",
    "PATH=/nowhere; QUEUECTL_RUN=other; LC_ALL=C; exit 14",
    "QUEUECTL_RUN=other; PATH=/nowhere; false",
    "unset QUEUECTL_RUN; false",
    "printf() { echo shadowed; }; printf x; false",
    "e'x'it 17",
    "command exec sh -c 'exit 19'",
    "builtin_like=1 . ./nothing; echo unreachable",
]
DISGUISED = [
    "e'x'ec false",
    "ex\\ec false",
    "c=exe; ${c}c false",
    "t''rap - EXIT; false",
    "c=tra; ${c}p 'echo mine' EXIT; false",
]


def oracle(command: str, folder: Path) -> tuple[int, bytes]:
    """Return what a plain `sh -c` makes of *command*: the code as a shell tells it, the output."""
    folder.mkdir()
    plain = subprocess.run(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={"PATH": os.environ["PATH"], recorder.MARKER_VARIABLE: "plain"},
        check=False,
    )
    code = 128 - plain.returncode if plain.returncode < 0 else plain.returncode
    shutil.rmtree(folder)
    return code, plain.stdout


# --- what a command sees and how its end is told ------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("line", LINES)
def test_a_command_does_what_sh_makes_of_it(attempt, tmp_path, line, form):
    """Exit code and output are those of `sh -c`, in whichever way the command is handed over."""
    code, printed = oracle(line, tmp_path / "work")
    done = attempt(line, form=form)

    assert code == done.wait()
    assert code == done.code
    if code != 2:  # a syntax error is told in other words when it stands in a file
        assert without_names(printed) == without_names(done.output)


@pytest.mark.parametrize("line", DISGUISED)
def test_end_is_recorded_however_a_builtin_is_spelt(attempt, line):
    """A command that calls `exec` or `trap` by another name still has its end on record."""
    done = attempt(line)

    assert 1 == done.wait()
    assert 1 == done.code


@pytest.mark.parametrize(("line", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("echo $((", 2)])
def test_record_holds_pid_and_code(attempt, line, code):
    """The run file holds two lines of JSON: who the recorder is, and how the command ended."""
    done = attempt(line)
    done.wait()

    lines = done.path.read_text().split()
    told = [json.loads(line) for line in lines]
    assert [{"pid": done.pid}, {"code": code}] == [keyed(line, "pid", "code") for line in told]
    assert {done.marker} == {line["run"] for line in told}


def keyed(line: dict, *keys: str) -> dict:
    """Return these keys of a line, where it has them."""
    return {key: line[key] for key in keys if key in line}


def test_record_of_another_run_is_not_believed(attempt):
    """A run file may be used again: what an earlier run wrote into it is not of this one."""
    done = attempt("exit 3")
    done.wait()

    assert 3 == recorder.read_record(done.path, done.marker).code
    assert recorder.RunRecord() == recorder.read_record(done.path, "another-run")


def test_record_shows_the_pid_at_once(attempt, until, held):
    """While the command runs the record tells the recorder, and no code."""
    running = attempt(held)

    assert running.pid == until(lambda: recorder.read_record(running.path).pid)
    assert running.code is None


def test_dollar_dollar_is_the_commands_own_shell(attempt):
    """A command that kills itself by `$$` ends as 137: the recorder lives to write it down."""
    done = attempt("echo $$; kill -9 $$")

    assert 137 == done.wait()
    assert 137 == done.code
    assert done.pid != int(done.output.split()[0])


@pytest.mark.parametrize("line", ["kill -9 ${$}", "p=$; eval kill -9 $p$p"])
def test_dollar_dollar_is_found_however_it_is_spelt(attempt, line):
    """The same when `$$` does not stand in the command letter by letter."""
    assert 137 == attempt(line).wait()


def test_command_runs_in_a_session_of_its_own(attempt, until, held):
    """No Ctrl-C and no killed group of ours reaches it: session and group are its own."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)

    stat = stat_of(running.pid)
    assert [str(running.pid)] * 2 == stat[2:4]
    (running.folder / "go").touch()
    running.wait()


def test_command_gets_no_descriptor_of_ours_but_the_lock(attempt, tmp_path):
    """What we open is not inherited; the run file is, as number 9, and the log twice."""
    with open(tmp_path / "ours", "w") as ours:
        done = attempt("for fd in /proc/$$/fd/*; do echo ${fd##*/} $(readlink $fd); done")
        done.wait()

    found = dict(line.split(maxsplit=1) for line in done.output.decode().splitlines())
    log, lock = str(done.log), str(done.path)
    assert ["/dev/null", log, log, lock] == [found[number] for number in "0129"]
    assert [lock, log, log] == sorted(name for name in found.values() if name in (log, lock))
    assert ours.name not in found.values()


@pytest.mark.parametrize("form", ["short", "asks for its pid"])
def test_command_of_sh_has_no_arguments_and_is_called_sh(attempt, form):
    """`$0` is what `sh -c` says it is."""
    done = attempt('echo "$0 $# $@."', form=form)
    done.wait()

    assert b"sh 0 .\n" == done.output


IGNORED_FOR_US = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def test_command_gets_signals_as_they_come_by_default(attempt):
    """What Python ignores, or `nohup` or a shell ignored for us, the command does not."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED_FOR_US}
    try:
        done = attempt("grep -E 'Sig(Ign|Blk)' /proc/self/status")
    finally:
        for number, disposition in before.items():
            signal.signal(number, disposition)
    done.wait()

    ignored = int(done.output.split()[-1], 16)
    blocked = int(done.output.split()[1], 16)
    assert 0 == blocked
    assert not [number for number in signal.valid_signals() if ignored & 1 << (number - 1)]


def test_recorder_hears_what_its_starter_ignores(attempt, until):
    """A shell cannot trap what was ignored before it, under a worker of `nohup`, say."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        # short sleeps: one that has only just been forked may not hear the one signal of this test
        running = attempt("echo begun; while :; do sleep 0.01; done")
    finally:
        signal.signal(signal.SIGHUP, before)
    until(lambda: b"begun" in running.output)
    running.signal(signal.SIGHUP)

    assert 129 == until(lambda: running.code)


@pytest.mark.parametrize("name", ["a b", "it's", 'a "b"', "$HOME", "ü 漢字", "-n", "*"])
def test_directory_may_have_any_name(attempt, name):
    """The command starts in its directory, and PWD says so."""
    done = attempt('echo "$PWD"; pwd; [ . -ef "$PWD" ]', name=name)

    assert 0 == done.wait()
    assert [str(done.folder)] * 2 == done.output.decode().splitlines()


def test_directory_that_is_gone_is_a_failure(tmp_path):
    """Without its directory a command does not run at all, and the log says why."""
    path, log = tmp_path / "1.1.run", tmp_path / "log"
    fd = recorder.claim(path)
    argv = recorder.arguments("echo ran", str(tmp_path / "gone"), [], tmp_path / "script")
    pid = recorder.spawn(fd, log, argv, Environment({"PATH": os.environ["PATH"]}), {})
    os.close(fd)

    assert 0 != os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert recorder.read_record(path).code not in (0, None)
    assert b"gone" in log.read_bytes()
    assert b"ran" not in log.read_bytes().split()


def test_log_is_appended_to_and_private(attempt, tmp_path):
    """Both streams go to one file, in the order written; a second look finds it as it was."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log").write_bytes(b"earlier\n")
    done = attempt("echo out; echo err >&2; sh -c 'echo out; echo err >&2'; echo out")
    done.wait()

    assert b"earlier\nout\nerr\nout\nerr\nout\n" == done.output


def test_log_of_a_new_attempt_is_readable_by_its_owner_only(attempt):
    """What a job prints may be private, whatever the umask."""
    before = os.umask(0)
    try:
        done = attempt("true")
    finally:
        os.umask(before)
    done.wait()

    assert 0o600 == done.log.stat().st_mode & 0o777
    assert 0o600 == done.path.stat().st_mode & 0o777


def test_command_of_a_mebibyte_runs(attempt):
    """A command too long for an argument goes through a script file, private as the rest."""
    word = "x" * 1024**2
    done = attempt(f"echo {word}; exit 4")

    assert 4 == done.wait()
    assert word.encode() + b"\n" == done.output
    assert 0o600 == (done.folder / "script").stat().st_mode & 0o777


@pytest.mark.parametrize("program", [[], ["/bin/sh"]])
def test_script_is_whole_or_refused(tmp_path, monkeypatch, program):
    """A write that takes only part of the script is continued: half a command must never run."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1000]))
    command = "echo " + "x" * 200_000
    recorder.arguments(command, "/", program, tmp_path / "script")

    assert command + "\n" == (tmp_path / "script").read_text()


# --- who survives what --------------------------------------------------------------------------

STARTER = """
import os, sys, time
from pathlib import Path
from queuectl_magics import recorder
from queuectl_magics.spawning import Environment
folder, command = Path(sys.argv[1]), sys.argv[2]
fd = recorder.claim(folder / "1.1.run")
argv = recorder.arguments(command, str(folder), [], folder / "script")
print(recorder.spawn(fd, folder / "log", argv, Environment(os.environ), {}), flush=True)
os.close(fd)
time.sleep(100)
"""


@pytest.mark.parametrize("name", SIGNALS)
def test_command_survives_whatever_its_starter_gets(tmp_path, until, held, name):
    """A signal to the starter's whole process group leaves command and record alone."""
    path, log = tmp_path / "1.1.run", tmp_path / "log"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), held],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with starter:
        starter.stdout.readline()
        until(lambda: b"begun" in log.read_bytes())
        os.killpg(starter.pid, getattr(signal, name))
    alive = recorder.is_running(path)
    (tmp_path / "go").touch()
    recorder.wait_until_gone(path)

    assert alive
    assert 7 == recorder.read_record(path).code
    assert b"begun\ndone\n" == log.read_bytes()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_recorder_survives_a_signal_of_its_own(attempt, until, held, name):
    """The recorder ends with its command and not before, unless it is killed outright."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    os.kill(running.pid, getattr(signal, name))
    (running.folder / "go").touch()

    assert 7 == running.wait()
    assert 7 == running.code


def test_nothing_is_recorded_when_the_recorder_is_killed(attempt, until, held):
    """Without a recorder the command goes on, locked, and its end is never known."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()

    assert recorder.is_running(running.path)
    (running.folder / "go").touch()
    recorder.wait_until_gone(running.path)
    assert not recorder.is_running(running.path)
    assert running.code is None
    assert running.pid == recorder.read_record(running.path).pid
