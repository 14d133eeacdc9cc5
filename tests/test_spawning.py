"""A process is started while other threads go on, and nothing that C would misread gets there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from queuectl_magics import spawning
from queuectl_magics.spawning import Environment

HELD_UP = """
import os, sys, threading
from queuectl_magics import spawning

os.mkfifo("pipe")  # until somebody reads from it, the child is held up in opening it
files = {"opened": [(1, "pipe", os.O_WRONLY)], "copied": []}
begin = ("/bin/sh", ["sh", "-c", "echo begun"], spawning.Environment({}), {})
threading.Thread(target=spawning.spawn, args=begin, kwargs=files).start()
print(open("pipe").read(), end="")
"""


def spawn(
    *argv: str,
    environ: dict[str, str] | None = None,
    more: dict[str, str] | None = None,
    log: str = os.devnull,
) -> int:
    """Run a command of `sh`; return its exit code."""
    opened = [(0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT)]
    given = Environment(environ or {}), more or {}
    pid = spawning.spawn("/bin/sh", ["sh", "-c", *argv], *given, opened=opened, copied=[])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_other_threads_go_on_while_a_start_takes_long(tmp_path):
    """A start may have to wait for a core or a disk; the cell of a notebook does not."""
    argv = [sys.executable, "-c", HELD_UP]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=60, check=True)

    assert b"begun\n" == done.stdout


def test_process_gets_its_words_and_its_environment_and_nothing_else(tmp_path):
    """Bytes that are no text come through as they are."""
    log = str(tmp_path / "log")
    odd = os.fsdecode(b"\xff \xc3\xa9")
    code = spawn('echo "$1 $ODD"; env; exit 3', "sh", odd, environ={"ODD": odd}, log=log)

    said = os.fsencode(f"{odd} {odd}\n")
    assert 3 == code
    assert said in (tmp_path / "log").read_bytes()
    assert b"PATH" not in (tmp_path / "log").read_bytes()


def test_environment_is_shared_and_has_something_of_each_process(tmp_path):
    """What is given to one alone wins, and the next one does not see it."""
    shared = {"A": "1", "B": "2"}
    for number, (more, said) in enumerate(
        [
            ({}, "1,2,"),
            ({"C": "3"}, "1,2,3"),
            ({"B": "x", "C": "y"}, "1,x,y"),
        ]
    ):
        log = tmp_path / str(number)
        assert 0 == spawn('echo "$A,$B,$C"', environ=shared, more=more, log=str(log))
        assert f"{said}\n" == log.read_text()

    environ = Environment(shared)
    shared["D"] = "4"  # too late
    assert [b"A=1", b"B=2", b"C=3", None] == list(environ.joined({"C": "3"}))
    assert [b"A=1", b"B=2", None] == list(environ.joined({}))
    assert [b"A=1", b"B=x", b"C=3", None] == list(environ.joined({"B": "x", "C": "3"}))


NO_ENVIRONMENTS = [{"A": "a\0b"}, {"A\0": "b"}, {"": "b"}, {"A=B": "c"}]


@pytest.mark.parametrize("variables", NO_ENVIRONMENTS)
def test_what_is_no_environment_is_refused(variables):
    """C would cut it short, and run the command in another one."""
    for given in ({"environ": variables}, {"more": variables}):
        with pytest.raises(ValueError, match=r"null byte|illegal"):
            spawn("true", **given)


def test_what_is_no_argument_is_refused():
    """C would cut it short, and run something else."""
    with pytest.raises(ValueError, match="null byte"):
        spawn("echo a\0b")


def test_what_cannot_be_started_says_why(tmp_path):
    """A program that is not there, a file that cannot be opened: the system's own words."""
    with pytest.raises(FileNotFoundError):
        spawning.spawn(str(tmp_path / "none"), ["none"], Environment({}), {}, opened=[], copied=[])
    with pytest.raises(FileNotFoundError):
        spawn("true", log=str(tmp_path / "none" / "log"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        spawning.spawn("/bin/sh", ["sh"], Environment({}), {}, opened=[], copied=[(10**9, 1)])
