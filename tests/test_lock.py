"""One holder at a time, known by name, and gone when its process is gone."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from queuectl_magics import lock as locks
from queuectl_magics.errors import StoreBusyError
from queuectl_magics.lock import Lock


@pytest.fixture
def path(tmp_path) -> Path:
    """Where the lock is; nothing is there yet."""
    return tmp_path / "lock"


def is_free(path: Path) -> bool:
    """Say whether nobody holds the lock."""
    probe = Lock(path)
    free = probe.try_acquire()
    probe.close()
    return free


def test_lock_is_held_by_one_and_free_after_release(path):
    """The file is made, for its owner only, and stays."""
    lock = Lock(path)
    lock.acquire()
    assert not is_free(path)

    lock.release()
    assert is_free(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    lock.close()


def test_lock_is_free_after_close_and_may_be_taken_again(path):
    """Closing twice, or letting go of what is not held, does no harm."""
    lock = Lock(path)
    lock.release()
    lock.close()
    assert lock.try_acquire()
    lock.close()
    lock.close()
    assert is_free(path)
    assert lock.try_acquire()
    lock.release()
    lock.release()
    assert is_free(path)
    lock.close()


def test_whoever_waits_too_long_is_told_who_holds_it(path):
    """By its pid, as far as the system tells."""
    holder, other = Lock(path), Lock(path)
    holder.acquire()
    with pytest.raises(StoreBusyError, match=f"locked by process {os.getpid()}: try again"):
        other.acquire(timeout_s=0.003)
    assert not other.try_acquire()
    holder.close()
    assert other.try_acquire()
    other.close()


def test_holder_is_somebody_where_the_system_does_not_tell(path, monkeypatch):
    """As on macOS, or when the lock has become free since."""
    lock = Lock(path)
    assert "another process" == lock.holder()
    lock.acquire()
    monkeypatch.setattr(Path, "read_text", lambda _: (_ for _ in ()).throw(FileNotFoundError))
    assert "another process" == lock.holder()
    lock.close()


def test_whoever_waits_for_ever_gets_it_when_it_is_free(path):
    """Without polling."""
    holder, other = Lock(path), Lock(path)
    holder.acquire()
    got = threading.Event()

    def wait():
        other.acquire()
        got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.is_set()
    holder.release()
    thread.join()

    assert not is_free(path)
    holder.close()
    other.close()


def test_file_that_was_replaced_while_waiting_is_let_go(path):
    """What is locked in the end is the file that bears the name."""
    holder, other = Lock(path), Lock(path)
    holder.acquire()
    other.try_acquire()
    path.unlink()
    path.write_text("a new file")
    holder.release()
    other.acquire()

    with path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.close()
    other.close()


def test_file_that_was_deleted_while_waiting_is_made_again(path):
    """Or missed, if it must not be created."""
    for create in (True, False):
        path.touch()
        lock = Lock(path, create=create)
        lock.acquire()
        lock.release()
        path.unlink()
        if create:
            lock.acquire()
            assert not is_free(path)
        else:
            with pytest.raises(FileNotFoundError):
                lock.acquire()
            assert not path.exists()
        lock.close()


def test_forked_child_closes_what_it_inherited(path):
    """Whatever its parent held: the hook itself, for a child is not measured."""
    lock = Lock(path)
    lock.acquire()
    locks._drop_in_child()

    assert is_free(path)
    assert lock.try_acquire()
    lock.close()


def test_killed_process_holds_nothing(path):
    """The system drops the lock, at once."""
    code = f"""
from pathlib import Path
from queuectl_magics.lock import Lock
lock = Lock(Path({str(path)!r}))
lock.acquire()
print("held", flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert "held\n" == process.stdout.readline()
    lock = Lock(path)
    with pytest.raises(StoreBusyError, match=f"process {process.pid}"):
        lock.acquire(timeout_s=0)
    process.kill()
    lock.acquire()
    lock.close()
    process.communicate()
