"""A command and the record of its end outlive whoever started them; killing takes the tree."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from processes import is_alive, processes_with, session_of, stat_of
from queuectl_magics import recorder

SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"]
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
TREES = {
    "children": "sleep 100 & sleep 100 & wait",
    "a pipeline": "sleep 100 | sleep 100 | cat",
    "a shell that is gone": "sleep 100 & exec sleep 100",
    "nohup": "nohup sleep 100 >nohup.out & wait",
    "a setsid grandchild": "setsid sleep 100 & wait",
    "a double fork": "(setsid sh -c 'sleep 100 & sleep 100 & wait' &); sleep 100",
    "an empty environment": "env -i sleep 100 & wait",
    "one that ignores TERM": "trap '' TERM; sleep 100",
    "a Python child": f'{sys.executable} -c \'import subprocess as s; s.run(["sleep", "100"])\'',
}


class Attempt:
    """One command under a recorder, in a folder of its own, reached as an engine would."""

    def __init__(self, folder: Path, command: str, *, form: str = "short") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.marker = f"{uuid.uuid4().hex}-1.1-0"
        self.path = recorder.run_path(folder, "1", 1)
        self.log = folder / "log"
        program = ["/bin/sh"] if form == "a program's" else []
        command = {
            "asks for its pid": "# $$\n",
            "long": f"#{'x' * recorder.ARGUMENT_BYTES_MAX}\n",
        }.get(form, "") + command
        fd = recorder.claim(self.path)
        try:
            argv = recorder.arguments(command, str(folder), program, folder / "script")
            self.pid = recorder.spawn(fd, self.log, argv, self.environ())
        finally:
            os.close(fd)

    def environ(self) -> dict[str, str]:
        """Return what the command is given."""
        return {"PATH": os.environ["PATH"], recorder.MARKER_VARIABLE: self.marker}

    @property
    def output(self) -> bytes:
        """What it has printed."""
        return self.log.read_bytes()

    @property
    def code(self) -> int | None:
        """The exit code in its record."""
        return recorder.read_record(self.path, self.marker).code

    def wait(self) -> int:
        """Return the exit code of the recorder."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def members(self) -> set[int]:
        """Return what is alive of it besides the recorder."""
        wanted = f"{recorder.MARKER_VARIABLE}={self.marker}".encode()
        found = {*session_of(self.pid), *processes_with(wanted, files=["environ"])}
        return set(filter(is_alive, found)) - {self.pid}

    def signal(self, number: int) -> int:
        """Signal the whole tree."""
        return recorder.signal_tree(self.path, self.marker, number)

    def kill(self) -> set[int]:
        """Kill what is alive of it, and return what that was."""
        found = self.members()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        return found


@pytest.fixture
def attempt(tmp_path):
    """Start attempts, each in a folder of its own; what they leave is killed in the end."""
    started = []

    def start(command: str, *, name: str = "work", form: str = "short") -> Attempt:
        started.append(Attempt(tmp_path / name, command, form=form))
        return started[-1]

    yield start
    for one in started:
        while one.kill():
            pass


@pytest.fixture
def held(tmp_path):
    """A command that runs until the file `go` appears beside it, then ends with exit code 7."""
    return "echo begun; until [ -e go ]; do sleep 0.02; done; echo done; exit 7"


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


def without_names(text: bytes) -> list[bytes]:
    """Return the lines, without the `sh: 1: ` or `/path/script: 3: ` before a complaint.

    A signal's `Killed` is said by the shell above, which a plain `sh -c` does not have.
    """
    said_above = (b"Killed", b"Terminated", b"Segmentation fault")
    lines = [line.rpartition(b": ")[2] for line in text.split(b"\n")]
    return [line for line in lines if line not in said_above]


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


def test_command_gets_signals_as_they_come_by_default(attempt):
    """What Python ignores, or a shell ignored for us, is not ignored by the command."""
    done = attempt("grep -E 'Sig(Ign|Blk)' /proc/self/status")
    done.wait()

    ignored = int(done.output.split()[-1], 16)
    blocked = int(done.output.split()[1], 16)
    assert 0 == blocked
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ):
        assert not ignored & 1 << (number - 1)


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
    pid = recorder.spawn(fd, log, argv, {"PATH": os.environ["PATH"]})
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
folder, command = Path(sys.argv[1]), sys.argv[2]
fd = recorder.claim(folder / "1.1.run")
argv = recorder.arguments(command, str(folder), [], folder / "script")
print(recorder.spawn(fd, folder / "log", argv, dict(os.environ)), flush=True)
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


# --- the lock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["sleep 100 &", "setsid sleep 100 &", "exec 9>&-; sleep 100"])
def test_run_file_is_locked_while_anything_lives(attempt, until, line):
    """Locked means alive: a background child keeps the lock when its command is long over."""
    running = attempt(line)
    until(running.members)
    if "&" == line[-1]:
        assert 0 == running.wait()
        assert 0 == running.code

    assert recorder.is_running(running.path)
    while running.members():
        running.signal(signal.SIGKILL)
    until(lambda: not recorder.is_running(running.path))


def test_run_file_is_free_after_the_command(attempt):
    """Free with a code means finished."""
    done = attempt("true")
    done.wait()

    assert not recorder.is_running(done.path)
    recorder.wait_until_gone(done.path)


def test_attempt_that_never_was_is_not_running(tmp_path):
    """No run file: nothing to wait for, nothing to read, nothing to kill."""
    path = tmp_path / "1.1.run"

    recorder.wait_until_gone(path)
    recorder.wait_for_end(path, "marker")
    assert not recorder.is_running(path)
    assert recorder.RunRecord() == recorder.read_record(path)
    assert 0 == recorder.signal_tree(path, "marker", signal.SIGKILL)
    assert 0 == recorder.age_s(path)


def test_attempt_being_prepared_is_running(tmp_path):
    """Between the claim and the start the claimer itself holds the lock."""
    path = tmp_path / "1.1.run"
    fd = recorder.claim(path)
    prepared = recorder.is_running(path)
    os.close(fd)

    assert prepared
    assert not recorder.is_running(path)


def test_claim_leaves_the_low_descriptors_free(tmp_path):
    """The recorder's own numbers end at 9; ours is above, and no other program inherits it."""
    fd = recorder.claim(tmp_path / "1.1.run")
    inheritable = os.get_inheritable(fd)
    os.close(fd)

    assert fd >= 10
    assert not inheritable


def test_lock_of_one_attempt_is_not_inherited_by_another(attempt, tmp_path, until, held):
    """A command started while another is being prepared does not keep that other's lock."""
    path = tmp_path / "2.1.run"
    fd = recorder.claim(path)
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    os.close(fd)

    assert recorder.is_running(running.path)
    assert not recorder.is_running(path)


def test_attempt_that_lives_cannot_be_claimed_again(attempt, until, held):
    """Two attempts under one name would be two at a time: the second claim is refused."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)

    with pytest.raises(BlockingIOError):
        recorder.claim(running.path)


def test_refused_claim_leaves_the_record_alone(attempt, until, held):
    """The record of an attempt that lives survives somebody's try to claim it."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    before = running.path.read_bytes()
    with contextlib.suppress(BlockingIOError):
        recorder.claim(running.path)

    assert before == running.path.read_bytes()


def test_claim_of_what_a_dead_claimer_left_starts_afresh(tmp_path):
    """A run file whose claimer died is taken over, and nothing of it is believed."""
    path = tmp_path / "1.1.run"
    path.write_bytes(b'{"pid":1,"run":"m"}\n{"code":0,"run":"m"}\n')
    os.close(recorder.claim(path))

    assert recorder.RunRecord() == recorder.read_record(path)
    assert recorder.RECORD_BYTES == path.stat().st_size


def test_run_file_is_used_again(attempt, tmp_path):
    """Making a file per run is dear: that of a run that is over becomes that of another."""
    done = attempt("exit 3")
    done.wait()
    inode = done.path.stat().st_ino
    os.close(recorder.claim(tmp_path / "2.1.run", done.path))

    assert inode == (tmp_path / "2.1.run").stat().st_ino
    assert recorder.RunRecord() == recorder.read_record(tmp_path / "2.1.run")
    assert not done.path.exists()


def test_run_file_that_is_still_held_is_not_used_again(attempt, tmp_path, until):
    """What an old run left in the background must not make a new one look alive."""
    done = attempt("sleep 100 & exit 3")
    done.wait()
    inode = done.path.stat().st_ino
    os.close(recorder.claim(tmp_path / "2.1.run", done.path))

    assert done.members()
    assert inode != (tmp_path / "2.1.run").stat().st_ino
    assert not recorder.is_running(tmp_path / "2.1.run")


def test_spare_that_is_gone_is_no_hindrance(tmp_path):
    """Somebody tidied up: there is a new file then."""
    os.close(recorder.claim(tmp_path / "2.1.run", tmp_path / "1.1.run"))

    assert recorder.RECORD_BYTES == (tmp_path / "2.1.run").stat().st_size


@pytest.mark.parametrize("step", ["fcntl.fcntl", "os.posix_spawn", "os.open"])
def test_failed_start_leaks_no_descriptor(tmp_path, monkeypatch, step):
    """When descriptors run out in the middle of a start, none is left open by it."""

    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    fd = recorder.claim(tmp_path / "1.1.run")
    argv = recorder.arguments("true", "/", [], tmp_path / "script")
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(recorder, "OWN_DESCRIPTORS_MAX", 100)
    monkeypatch.setattr(f"{recorder.__name__}.{step}", refuse)
    with pytest.raises(OSError, match="Too many"):
        recorder.spawn(fd, tmp_path / "log", argv, {})
    monkeypatch.undo()
    after = set(os.listdir("/proc/self/fd"))
    os.close(fd)

    assert before == after


# --- the record ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 KiB where one may be mounted; else any folder."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte of that disk, if it is small."""
    if os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize > 1024**2:
        return
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
        while filler.write(b"x" * 1024):
            pass
    assert 0 == os.statvfs(folder).f_bavail


def test_exit_is_recorded_on_a_full_disk(small_disk, attempt, until):
    """The record is written in place, into bytes that were taken beforehand."""
    line = "echo begun; until [ -e ../go ]; do sleep 0.02; done; exit 7"
    running = attempt(line, name=small_disk.name)
    until(lambda: b"begun" in running.output)
    about = running.path.stat()
    fill(small_disk)
    (small_disk.parent / "go").touch()

    assert 7 == running.wait()
    assert 7 == running.code
    after = running.path.stat()
    assert (about.st_ino, about.st_size, about.st_blocks) == (
        after.st_ino,
        after.st_size,
        after.st_blocks,
    )


def test_record_torn_at_any_byte_tells_the_truth_or_nothing(attempt):
    """A half-written record is as good as none; no code is ever read that was not written."""
    done = attempt("exit 137")
    done.wait()
    whole = done.path.read_bytes()
    ends = {whole.index(b"\n") + 1, whole.rindex(b"}") + 1}
    blank = b" " * (recorder.RECORD_BYTES - 1) + b"\n"

    for length in range(len(whole)):
        done.path.write_bytes(whole[:length] + blank[length:])
        found = recorder.read_record(done.path)
        assert found.pid in (None, done.pid)
        assert found.code == (137 if length >= max(ends) else None)


@pytest.mark.parametrize(
    "text",
    [b"", b" " * 127 + b"\n", b'{"code":', b'{"code":0', b'{"code":"0"}\n', b"[0]\n", b"\0" * 128,
     b"\xff\xfe", b'{"code":null}', b'"code"', b"0\n", b"{}\n{}\n", b"code=0\n"],
)  # fmt: skip
def test_what_is_no_record_is_ignored(tmp_path, text):
    """Rubbish in a run file never becomes an exit code."""
    path = tmp_path / "1.1.run"
    path.write_bytes(text)

    assert recorder.RunRecord() == recorder.read_record(path)


# --- waiting for what is not ours ----------------------------------------------------------------


def ended(path: Path, marker: str) -> threading.Thread:
    """Start a thread that waits for the end of an attempt."""
    thread = threading.Thread(target=recorder.wait_for_end, args=(path, marker), daemon=True)
    thread.start()
    return thread


def test_waiting_ends_with_the_recorder(attempt, until, held):
    """Whoever adopted an attempt wakes when it has ended, and not before."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    waiting = ended(running.path, running.marker)
    assert waiting.is_alive()
    (running.folder / "go").touch()

    until(lambda: not waiting.is_alive())
    assert 7 == running.code


def test_waiting_does_not_mind_what_goes_on_in_the_background(attempt, until):
    """An exit record ends the waiting, though a background child still holds the lock."""
    running = attempt("sleep 100 & until [ -e go ]; do sleep 0.02; done")
    until(running.members)
    waiting = ended(running.path, running.marker)
    (running.folder / "go").touch()

    until(lambda: not waiting.is_alive())
    assert recorder.is_running(running.path)
    assert 0 == running.code


def test_waiting_ends_when_the_recorder_was_killed(attempt, until, held):
    """Without a recorder there will be no record: waiting ends with the last process at most."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    waiting = ended(running.path, running.marker)
    os.kill(running.pid, signal.SIGKILL)
    (running.folder / "go").touch()

    until(lambda: not waiting.is_alive())
    assert running.code is None


def test_waiting_is_not_fooled_by_a_pid_that_was_used_again(tmp_path, until):
    """A stranger with the recorder's pid is not waited for: it does not carry the marker."""
    path = tmp_path / "1.1.run"
    with stranger() as process:
        fd = recorder.claim(path)
        os.pwrite(fd, b'{"pid":%d,"run":"marker"}\n' % process.pid, 0)
        waiting = ended(path, "marker")
        os.close(fd)

        until(lambda: not waiting.is_alive())


def test_waiting_for_one_that_is_being_prepared_goes_on_until_it_is_given_up(tmp_path, until):
    """Locked and without a pid is about to start; free and without one never will."""
    path = tmp_path / "1.1.run"
    fd = recorder.claim(path)
    waiting = ended(path, "marker")
    assert waiting.is_alive()
    os.close(fd)

    until(lambda: not waiting.is_alive())


def test_age_counts_from_the_start(attempt, until, held):
    """An attempt's age is that of its recorder, whoever asks; one that is over has none."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)

    assert until(lambda: recorder.age_s(running.path) > 0.05)
    assert recorder.age_s(running.path) < 60
    (running.folder / "go").touch()
    running.wait()
    assert 0 == recorder.age_s(running.path)


# --- killing the tree ----------------------------------------------------------------------------


@contextlib.contextmanager
def stranger():
    """A process of someone else: a session with two members."""
    process = subprocess.Popen(
        ["sh", "-c", "sleep 100 & sleep 100"], start_new_session=True, env={"PATH": os.defpath}
    )
    try:
        yield process
        assert process.poll() is None, "the stranger was killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_settled(running: Attempt, least: int) -> bool:
    """Say whether all the processes of a tree are there."""
    asleep = 0
    for pid in running.members():
        with contextlib.suppress(OSError):
            asleep += Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    return asleep >= least


@pytest.mark.parametrize("name", TREES)
def test_killing_takes_the_whole_tree_and_spares_the_recorder(attempt, until, name):
    """Nothing of it is left, wherever it went; and how it ended is on record all the same."""
    running = attempt(TREES[name])
    until(lambda: is_settled(running, TREES[name].count("sleep")))
    sent = running.signal(signal.SIGKILL)

    assert sent >= 1
    assert running.wait() == until(lambda: running.code)
    assert running.code in (128 + signal.SIGKILL, 128 + signal.SIGTERM)  # of the command, of it
    until(lambda: not running.members())
    assert not recorder.is_running(running.path)


def test_term_gives_a_command_the_chance_to_tidy_up(attempt, until):
    """TERM reaches the command, whose trap decides the exit code; the recorder writes it down."""
    running = attempt("trap 'echo tidy; exit 5' TERM; echo begun; while :; do sleep 0.02; done")
    until(lambda: b"begun" in running.output)
    running.signal(signal.SIGTERM)

    assert 5 == running.wait()
    assert 5 == running.code
    assert [b"begun", b"tidy"] == without_names(running.output)[:2]


def test_a_suspended_command_can_be_killed(attempt, until):
    """A command that suspended itself is killed like any other."""
    running = attempt("echo begun; kill -STOP $$; echo continued")
    until(lambda: b"begun" in running.output)
    running.signal(signal.SIGKILL)

    assert 137 == running.wait()


def test_a_tree_that_was_suspended_as_a_whole_can_be_killed(attempt, until, held):
    """So is one whose whole group somebody suspended, the recorder included."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    os.killpg(running.pid, signal.SIGSTOP)
    running.signal(signal.SIGKILL)

    assert until(lambda: running.code) in (137, 143)


def test_the_tree_of_another_queue_is_left_alone(attempt, until, held):
    """Two queues may both have a job 1 in its first attempt: the marker tells them apart."""
    mine, theirs = attempt(held), attempt(held, name="theirs")
    until(lambda: b"begun" in mine.output and b"begun" in theirs.output)
    assert mine.path.name == theirs.path.name
    mine.signal(signal.SIGKILL)
    mine.wait()

    assert recorder.is_running(theirs.path)
    (theirs.folder / "go").touch()
    assert 7 == theirs.wait()


def test_nothing_is_killed_when_the_lock_is_free(tmp_path):
    """An attempt that is over has no processes, whoever has its recorder's pid by now."""
    path = tmp_path / "1.1.run"
    with stranger() as process:
        path.write_text(f'{{"pid":{process.pid},"run":"marker"}}\n')

        assert 0 == recorder.signal_tree(path, "marker", signal.SIGKILL)


def test_a_pid_that_was_used_again_is_not_killed(tmp_path):
    """While a background child holds the lock, the recorder's pid may be a stranger's session."""
    path = tmp_path / "1.1.run"
    with stranger() as process:
        fd = recorder.claim(path)
        os.pwrite(fd, b'{"pid":%d,"run":"marker"}\n' % process.pid, 0)

        assert 0 == recorder.signal_tree(path, "marker", signal.SIGKILL)
        os.close(fd)


def test_an_attempt_that_has_not_started_gets_no_signal(tmp_path):
    """Locked and without a pid: the answer 0 says that the signal must be sent again."""
    path = tmp_path / "1.1.run"
    fd = recorder.claim(path)

    assert 0 == recorder.signal_tree(path, "marker", signal.SIGTERM)
    os.close(fd)
