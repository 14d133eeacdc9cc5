"""The run file is lock and record at once: who holds it, and what it tells after anything."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from queuectl_magics import recorder
from queuectl_magics.spawning import Environment

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
    assert 0 == recorder.age_s(path, "marker")


def test_attempt_being_prepared_is_running(tmp_path):
    """Between the claim and the start the claimer itself holds the lock."""
    path = tmp_path / "1.1.run"
    fd = recorder.claim(path)
    prepared = recorder.is_running(path)
    os.close(fd)

    assert prepared
    assert not recorder.is_running(path)


LOW = """
import os, sys
from queuectl_magics import recorder
from queuectl_magics.spawning import Environment
free = int(sys.argv[1])
null = os.open("/dev/null", os.O_RDWR)
for number in range(10):
    if number != null:
        os.dup2(null, number)
os.close(free)
fd = recorder.claim("1.1.run")
if fd in (0, 1, 2, 9) or os.get_inheritable(fd):
    sys.exit(f"descriptor {fd}")
argv = recorder.arguments("echo out; echo err >&2; cat; exit 7", ".", [], "script")
pid = recorder.spawn(fd, "log", argv, Environment(os.environ), {recorder.MARKER_VARIABLE: "m"})
os.close(fd)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("free", [0, 1, 2, 3, 9])
def test_any_descriptor_may_be_the_next_free_one(tmp_path, free):
    """Whatever numbers the system gives us, streams and record of the command are its own."""
    argv = [sys.executable, "-c", LOW, str(free)]
    done = subprocess.run(argv, cwd=tmp_path, timeout=60, check=False)

    assert 0 == done.returncode
    assert b"out\nerr\n" == (tmp_path / "log").read_bytes()
    assert 7 == recorder.read_record(tmp_path / "1.1.run", "m").code
    assert not recorder.is_running(tmp_path / "1.1.run")


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


@pytest.mark.parametrize("step", ["os.open", "fcntl.fcntl", "fcntl.flock", "os.pwrite"])
def test_failed_claim_leaks_no_descriptor(tmp_path, monkeypatch, step):
    """When descriptors run out in the middle of it, none is left open by it."""
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(recorder, "OWN_DESCRIPTORS", range(100))
    monkeypatch.setattr(f"{recorder.__name__}.{step}", refuse)
    with pytest.raises(OSError, match="Too many"):
        recorder.claim(tmp_path / "1.1.run")
    monkeypatch.undo()

    assert [] == list(tmp_path.iterdir())
    assert before == set(os.listdir("/proc/self/fd"))


def test_failed_start_leaks_no_descriptor(tmp_path):
    """A log that cannot be opened is no start, and leaves nothing open."""
    fd = recorder.claim(tmp_path / "1.1.run")
    argv = recorder.arguments("true", "/", [], tmp_path / "script")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        recorder.spawn(fd, tmp_path / "no" / "log", argv, Environment({}), {})
    after = set(os.listdir("/proc/self/fd"))
    os.close(fd)

    assert before == after


def test_one_job_in_a_process_is_moved_out_of_the_way(tmp_path):
    """The recorder's own descriptor is given away once, and stays taken."""
    argv = [sys.executable, "-c", MOVED]
    done = subprocess.run(argv, cwd=tmp_path, timeout=60, check=False)

    assert 0 == done.returncode


MOVED = """
import os, sys
from queuectl_magics import recorder
from queuectl_magics.spawning import Environment
null = os.open("/dev/null", os.O_RDWR)
for number in range(9):
    if number != null:
        os.dup2(null, number)
os.closerange(9, 20)
first, second = recorder.claim("1.1.run"), recorder.claim("2.1.run")
sys.exit(not (first == 10 and second == 11 and os.readlink("/proc/self/fd/9") == "/dev/null"))
"""


def refuse(*_, **__):
    """Fail as a process does that has too many files open."""
    raise OSError(24, "Too many open files")


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
