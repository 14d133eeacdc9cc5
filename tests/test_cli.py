"""`queuectl` as a program: its streams, its exit codes, a terminal, and what signals do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import pytest

from queuectl_magics import JobQueue, cli
from queuectl_magics.lock import Lock

BIN = Path(sys.executable).parent
QUEUECTL = str(BIN / "queuectl")
LONG_S = 60


@pytest.fixture
def environ(own_home):
    """The environment of a person whose queue is the home of this test."""
    kept = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS"}}
    return {**kept, "QUEUECTL_HOME": str(own_home), "TERM": "xterm-256color"}


@pytest.fixture
def queuectl(environ, tmp_path):
    """Run `queuectl` as a process of its own."""

    def run(*arguments: str | bytes, **options) -> subprocess.CompletedProcess:
        given = {"capture_output": True, "cwd": tmp_path, "env": environ, "timeout": LONG_S}
        if "input" not in options:
            given["stdin"] = subprocess.DEVNULL
        argv = [QUEUECTL, *arguments]
        return subprocess.run(argv, check=False, **{"text": True, **given, **options})

    return run


@pytest.fixture
def shell(environ, tmp_path):
    """Run a line of shell text in which `queuectl` is known; return its code and what it said."""

    def run(line: str) -> tuple[int, str, str]:
        env = {**environ, "PATH": f"{BIN}:{environ['PATH']}"}
        argv = ["bash", "-c", line]
        ran = subprocess.run(
            argv,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=env,
            text=True,
            timeout=LONG_S,
        )
        return ran.returncode, ran.stdout, ran.stderr

    return run


class Screen:
    """A process in a terminal of its own, and what it has painted so far."""

    def __init__(self, argv: list[str], environ: dict[str, str], columns: int) -> None:
        self.painted = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execve(argv[0], argv, environ)

    def read_until(self, pattern: str) -> None:
        """Wait until it has painted something that *pattern* fits."""
        while not re.search(pattern, self.painted):
            piece = os.read(self.fd, 65_536).decode()
            assert piece, self.painted
            self.painted += piece

    def press_ctrl_c(self) -> None:
        """Do so."""
        os.write(self.fd, b"\x03")

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        with contextlib.suppress(OSError):
            while piece := os.read(self.fd, 65_536):
                self.painted += piece.decode()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def screen(environ):
    """Run `queuectl` in a terminal."""

    def start(*arguments: str, columns: int = 100, **variables: str) -> Screen:
        return Screen([QUEUECTL, *arguments], {**environ, **variables}, columns)

    return start


# --- the program ---------------------------------------------------------------------------------


def test_three_names_call_the_same_program(environ):
    """`queuectl`, `queuectl-magics` for whoever has another queuectl, and the module."""
    for argv in (
        [QUEUECTL],
        [f"{BIN}/queuectl-magics"],
        [sys.executable, "-m", "queuectl_magics"],
    ):
        ran = subprocess.run(
            [*argv, "--version"], capture_output=True, check=True, env=environ, text=True
        )
        assert re.fullmatch(r"queuectl \d+\.\d+\.\S+\n", ran.stdout)
        assert "" == ran.stderr


def test_bare_call_shows_the_verbs_and_touches_nothing(queuectl, own_home):
    """Exit code 0: whoever asks like that wants to know."""
    bare = queuectl()

    assert (0, "", queuectl("--help").stdout) == (bare.returncode, bare.stderr, bare.stdout)
    assert bare.stdout.startswith("Usage: queuectl [OPTIONS] COMMAND [ARGS]...\n")
    assert not own_home.exists()


def test_first_session_reads_as_users_of_queuectl_know_it(queuectl, environ, tmp_path):
    """Enqueue, start a worker, see both jobs end, stop it with SIGTERM, look."""
    one = queuectl("enqueue", '{"id":"job1","command":"echo Hello from job1"}')
    assert "Job enqueued: id=job1, command=echo Hello from job1\n" == one.stdout
    queuectl("enqueue", "--id", "bad", "-r", "1", "no-such-program")

    with subprocess.Popen(
        [QUEUECTL, "worker", "start"], env=environ, stdout=subprocess.PIPE, text=True
    ) as worker:
        said = [worker.stdout.readline() for _ in range(5)]
        worker.send_signal(signal.SIGTERM)
        rest = worker.stdout.read()
        assert 0 == worker.wait(LONG_S)

    assert re.fullmatch(
        r"Worker started \(\d+-\w+, one job at a time\)\. Press Ctrl\+C to stop\.\n", said[0]
    )
    assert [
        "Running job job1: echo Hello from job1\n",
        "Job job1 completed successfully.\n",
        "Running job bad: no-such-program\n",
        "Job bad is dead after 1 failed attempt: exit 127 (command not found)\n",
    ] == said[1:]
    assert "Stopping after the current jobs (once more: stop now) …\nWorker stopped.\n" == rest
    status = queuectl("status").stdout
    assert status.startswith("Total jobs: 2\n\nID    STATE      ATTEMPTS  UPDATED_AT  ")
    assert status.endswith(
        "Summary:\n  pending: 0\n  processing: 0\n  completed: 1\n"
        "  failed: 0\n  dead: 1\n  cancelled: 0\n"
    )
    assert 1 == queuectl("wait").returncode


def test_home_is_where_the_option_or_the_variable_says(queuectl, own_home, tmp_path, environ):
    """The option goes first; a home that is a file or is nameless is refused in one line."""
    del environ["QUEUECTL_HOME"]
    assert 0 == queuectl("--home", "mine", "enqueue", "true").returncode
    assert (tmp_path / "mine" / "jobs.json").exists()
    assert not own_home.exists()

    (tmp_path / "file").touch()
    for named, code in (("file", 1), ("file/x", 1), ("", 2)):
        ran = queuectl("--home", named, "status")
        assert (code, "", 1) == (ran.returncode, ran.stdout, ran.stderr.count("\n"))
        assert re.match("Error: .*(the queue's home .* is a file|cannot be the qu)", ran.stderr)


def test_damaged_journal_is_refused_by_every_verb_and_left_alone(queuectl, own_home):
    """One line on stderr, with the file and the way out, also when JSON was asked for."""
    queuectl("enqueue", "true")
    journal = own_home / "journal.jsonl"
    before = journal.read_bytes() + b"garbage\n"
    journal.write_bytes(before)

    for words in (["status", "--json"], ["enqueue", "x"]):
        ran = queuectl(*words)
        assert (1, "", 1) == (ran.returncode, ran.stdout, ran.stderr.count("\n"))
        assert ran.stderr.startswith(f"Error: {journal}: ")
    assert 1 == queuectl("repair", "--dry-run").returncode
    assert before == journal.read_bytes()


# --- bytes ---------------------------------------------------------------------------------------


def test_bytes_that_are_no_text_are_refused_in_one_line(queuectl):
    """In a command, a name, an id, a verb; the line can be read in any terminal."""
    for words, told in (
        ([b"enqueue", b"echo \xff"], "the command contains half a character"),
        ([b"enqueue", b"--name", b"\xff", b"x"], "the name contains half a character"),
        ([b"enqueue", b"--id", b"\xff", b"x"], "cannot be an id"),
        ([b"enqueue", b"--env", b"A=\xff", b"x"], "the environment variable A contains half a"),
        ([b"show", b"\xff"], "there is no job"),
        ([b"\xff"], "queuectl has no verb"),
    ):
        ran = queuectl(*words, text=False)
        assert told in ran.stderr.decode("ascii")
        assert (b"", 1) == (ran.stdout, ran.stderr.count(b"\n"))


def test_directory_and_variables_of_any_bytes_do(queuectl, environ, tmp_path):
    """A home may have any name; what the environment holds arrives as it was."""
    folder = os.fsencode(tmp_path) + b"/\xff"
    variables = {os.fsencode(k): os.fsencode(v) for k, v in environ.items()} | {b"ODD": b"\xfe"}

    assert (
        0
        == queuectl(
            b"--home", folder, b"enqueue", b'echo "$ODD" | od -tx1', env=variables
        ).returncode
    )
    assert 0 == queuectl(b"--home", folder, b"run").returncode
    assert "fe 0a" in queuectl(b"--home", folder, b"logs", b"1").stdout


def test_terminal_that_lacks_letters_gets_escapes(queuectl, environ):
    """JSON is UTF-8 all the same."""
    queuectl("enqueue", "--name", "né", "echo ✓")
    ascii_only = {**environ, "PYTHONIOENCODING": "ascii"}

    shown = queuectl("show", "1", env=ascii_only)
    assert (0, "") == (shown.returncode, shown.stderr)
    assert "n\\xe9" in shown.stdout
    listed = queuectl("list", "--json", env=ascii_only, text=False)
    assert "né" == json.loads(listed.stdout.decode("utf-8"))[0]["name"]


def test_command_may_be_as_long_as_the_system_allows(queuectl):
    """128 KiB as an argument, a MiB and more by standard input; tables cut it."""
    long = "true " + "x" * 100_000
    assert f"Job enqueued: id=1, command={long}\n" == queuectl("enqueue", long).stdout
    assert 0 == queuectl("enqueue", "-", input=f'{{"command": "true {"y" * 2**20}"}}').returncode
    assert 0 == queuectl("run").returncode
    assert max(map(len, queuectl("status").stdout.splitlines())) <= 200


# --- streams -------------------------------------------------------------------------------------


def test_reader_that_has_gone_is_no_error(queuectl, shell):
    """`| head` ends what only prints, and never stops work."""
    queuectl("enqueue", "-", input='{"command": "true"}\n' * 2000)
    assert (0, "", "") == shell(
        "set -o pipefail; queuectl list | true && queuectl list --json | true"
    )

    queuectl("cancel", *map(str, range(4, 2001)))
    ran = shell("set -o pipefail; queuectl run | head -n 1")
    assert (0, "Running job 1: true\n", "") == ran
    assert 3 == json.loads(queuectl("status", "--json").stdout)["counts"]["completed"]


def test_following_ends_when_nobody_reads_any_more(shell, own_home, until):
    """Not only when the job does."""
    with JobQueue(own_home) as queue:
        queue.worker()
        job = queue.enqueue("seq 100000; sleep 60")
        until(lambda: "100000" in job.output)

        assert (0, "1\n", "") == shell("set -o pipefail; queuectl logs -f 1 | head -n 1")
        assert "processing" == job.state
        job.cancel()
        job.wait(LONG_S)


def test_answer_that_cannot_be_printed_is_an_error(queuectl, shell):
    """What was asked for is done; that the answer is lost is said."""
    for words in ("enqueue true", "run", "status --json", "logs -f 1 --json", "enqueue -h"):
        code, _, err = shell(f"queuectl {words} > /dev/full")
        assert (1, 1) == (code, err.count("\n"))
        assert "No space left on device" in err
    assert "completed" == json.loads(queuectl("show", "1", "--json").stdout)["state"]


def test_closed_streams_do_no_harm(queuectl, shell, own_home):
    """No file of the queue takes the place of a stream that is missing."""
    assert (0, "", "") == shell("queuectl enqueue 'echo hi' >&-")
    assert (0, "", "") == shell("queuectl run <&- >&- 2>&-")
    assert (2, "", "") == shell("queuectl lisst 2>&-")
    code, _, err = shell("queuectl enqueue - <&-")
    assert (2, "Error: nothing came from standard input") == (code, err.partition(": give")[0])
    assert "hi\n" == queuectl("logs", "1").stdout
    assert 0 == queuectl("status").returncode


def test_notes_go_to_stderr(queuectl):
    """A warning is one line without a place in our source."""
    queuectl("enqueue", "true")
    ran = queuectl("wait", "--timeout", "0", "--json")

    assert (124, "") == (ran.returncode, ran.stdout)
    assert re.fullmatch(
        r"Note: no worker is running, .*\nError: not over after 0 s: 1 \(the jobs go on\)\n",
        ran.stderr,
    )


# --- a terminal ----------------------------------------------------------------------------------


def test_terminal_gets_colour_and_lines_that_fit(queuectl, screen):
    """Unless it says NO_COLOR, or cannot do it; text in a pipe has none."""
    queuectl("enqueue", "true " + "x" * 200)
    shown = {}
    for name, variables in {
        "colour": {"NO_COLOR": ""},
        "none": {"NO_COLOR": "1"},
        "dumb": {"TERM": "dumb"},
    }.items():
        status = screen("status", columns=72, **variables)
        assert 0 == status.end()
        shown[name] = status.painted.replace("\r\n", "\n")

    coloured = re.compile(r"\x1b\[[\d;]*m")
    assert coloured.search(shown["colour"])
    assert coloured.sub("", shown["colour"]) == shown["none"] == shown["dumb"]
    assert 72 == max(map(len, shown["none"].splitlines()))
    assert not coloured.search(queuectl("status").stdout)


def test_run_has_a_progress_bar_that_leaves_nothing_behind(queuectl, screen):
    """It is painted below what is said, and wiped before the next line."""
    for command in ("true", "sleep 0.2", "exit 3"):
        queuectl("enqueue", "-r", "1", command)
    run = screen("run")
    assert 1 == run.end()

    bar = "█" * 20 + "░" * 10 + " 2/3 jobs"
    assert f"\n{bar}\r\x1b[K" in run.painted
    assert run.painted.endswith(
        "\r\x1b[KJob 3 is dead after 1 failed attempt: exit 3\r\n2 completed, 1 dead\r\n"
    )
    lines = re.sub(r"[█░]+ \d/3 jobs\r\x1b\[K", "", run.painted).splitlines()
    assert "Running job 1: true" == lines[0]
    assert "2/3" not in "".join(lines)


def test_watched_status_is_painted_over_until_all_jobs_are_over(screen, own_home, tmp_path):
    """Each picture begins at the top of the one before and fits into the terminal."""
    with JobQueue(own_home) as queue:
        held = f"while ! [ -e {tmp_path}/go ]; do sleep 0.05; done"
        queue.enqueue_all([held, *["true"] * 40])
        queue.worker()
        watching = screen("status", "--watch", columns=60)
        watching.read_until("0 of 41 over: 40 pending, 1 processing\r\n")
        (tmp_path / "go").touch()
        assert 0 == watching.end()

    pictures = re.split(r"\x1b\[\d+F", watching.painted)
    assert len(pictures) > 1
    assert "41 of 41 over: 41 completed\r\n" in pictures[-1]
    assert "… and 21 other jobs\r\n" in pictures[-1]
    assert max(picture.count("\n") for picture in pictures) <= 24


def test_options_behind_a_whole_command_are_noticed(queuectl):
    """They are part of it, since options come first; somebody may have meant otherwise."""
    late = queuectl("enqueue", "echo hi", "-n", "train")
    meant = queuectl("enqueue", "head", "-n", "3")

    assert "Note: -n stands behind the command, so it is part of it: options come" in late.stderr
    assert "" == meant.stderr


def test_where_only_ascii_can_be_written_pictures_stay_pictures(queuectl, environ):
    """A symbol of ours is a sign as wide as it; what somebody typed is told by its number."""
    queuectl("enqueue", "-n", "ü", "true")
    queuectl("run")
    picture = queuectl("timeline", env=environ | {"PYTHONIOENCODING": "ascii"}).stdout
    told = queuectl("list", env=environ | {"PYTHONIOENCODING": "ascii"}).stdout

    assert ". waiting  # running  - backing off" in picture
    assert re.search(r"1 \\xfc +\.*#.* \+$", picture, re.MULTILINE)
    assert "completed" in told


def test_bar_fits_into_a_narrow_terminal(screen, own_home, tmp_path):
    """What is wrapped could not be wiped away."""
    with JobQueue(own_home) as queue:
        queue.enqueue_all(["true", f"while ! [ -e {tmp_path}/go ]; do sleep 0.05; done"])
        queue.worker()
        waiting = screen("wait", columns=34)
        waiting.read_until("█")
        (tmp_path / "go").touch()
        assert 0 == waiting.end()

    bars = [piece for piece in re.split(r"\r|\x1b\[K|\n", waiting.painted) if "░" in piece]
    assert bars
    assert max(map(len, bars)) < 34


def test_ctrl_c_stops_the_waiting_and_not_the_job(queuectl, screen, own_home, until):
    """130, no traceback; neither `wait` nor `logs -f` takes the job with it."""
    with JobQueue(own_home) as queue:
        queue.worker()
        job = queue.enqueue("echo on; sleep 60")
        until(lambda: job.output == "on\n")
        for words, seen in ((["wait"], "0/1 jobs"), (["logs", "-f", "1"], "on\r\n")):
            waiting = screen(*words)
            waiting.read_until(seen)
            waiting.press_ctrl_c()
            assert 130 == waiting.end()
            assert "Traceback" not in waiting.painted
        assert "processing" == job.state
        job.cancel()
        job.wait(LONG_S)


def test_first_ctrl_c_finishes_the_current_jobs_and_the_second_hands_them_back(queuectl, screen):
    """A worker ends with 0 either way; `run` with 130 if it leaves something to do."""
    queuectl("enqueue", "sleep 1; echo done")
    queuectl("enqueue", "sleep 60")
    worker = screen("worker", "start")
    worker.read_until("Running job 1")
    worker.press_ctrl_c()
    assert 0 == worker.end()
    assert "Stopping after the current jobs" in worker.painted
    assert "Job 1 completed successfully.\r\nWorker stopped.\r\n" in worker.painted

    run = screen("run")
    run.read_until("Running job 2")
    run.press_ctrl_c()
    run.read_until("Stopping after")
    run.press_ctrl_c()
    assert 130 == run.end()
    assert "Job 2 is pending again: its worker was stopped" in run.painted
    assert "pending" == json.loads(queuectl("show", "2", "--json").stdout)["state"]


def test_worker_stop_reaches_a_worker_in_another_terminal(queuectl, environ, own_home, until):
    """Both signals have their words too: stop, and stop --now."""
    with subprocess.Popen(
        [QUEUECTL, "worker", "-n", "2", "--json"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert "2 jobs side by side" in worker.stderr.readline()
        queuectl("enqueue", "sleep 60")
        assert worker.stderr.readline().startswith("Running job 1")
        assert queuectl("worker", "stop").stdout.endswith("asked to stop.\n")
        assert worker.poll() is None
        assert 0 == queuectl("worker", "stop", "--now").returncode
        assert 0 == worker.wait(LONG_S)
        assert [] == json.loads(worker.stdout.read())
    assert 1 == queuectl("worker", "stop").returncode


# --- in this process -----------------------------------------------------------------------------


def test_whatever_goes_wrong_is_one_line_and_an_exit_code(own_home, capsys, monkeypatch):
    """What Python and the system say as well; only a bug of ours has a traceback."""
    for error, code, line in (
        (PermissionError(13, "Permission denied", "/x"), 1, "Error: Permission denied: /x\n"),
        (OSError("odd"), 1, "Error: odd\n"),
        (TimeoutError("late\nvery"), 124, "Error: late⏎very\n"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"), 2, "Error: 'utf-8' codec can't"),
        (KeyboardInterrupt(), 130, "\n"),
    ):
        monkeypatch.setattr(cli.Terminal, "queue", property(_raiser(error)))
        assert code == cli.run(["--home", str(own_home), "status"], cli.Terminal())
        assert capsys.readouterr().err.startswith(line)


def _raiser(error):
    def fail(_session):
        raise error

    return fail


def test_main_ends_the_process_and_leaves_no_lock(own_home, capsys, monkeypatch):
    """Also when the verb was refused."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "stdin", None)
    for words, code in ((["status"], 0), (["show", "1"], 1), (["--version"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main(["--home", str(own_home), *words])
        assert code == ended.value.code
    assert sys.stdin.read() == ""
    sys.stdin.close()
    assert Lock(own_home / "journal.jsonl").try_acquire()


def test_what_is_said_never_stops_the_work(capsys, monkeypatch):
    """A full disk behind stdout is told once, at the end."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    session = cli.Terminal()
    monkeypatch.setattr(cli.click, "echo", full)
    session.say("hello")
    session.note("hello")
    assert 7 == session.fail("hello", 7)
    with pytest.raises(OSError, match="the answer cannot be printed"):
        session.write("hello")
    session.close()
