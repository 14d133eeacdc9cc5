"""Every system call of a store's day fails once, in every way; nothing acknowledged is lost.

A day: open a home with a torn tail after a restart of the machine, take in a job, run it, compact,
take in another. Each call of it is made to fail in turn: with an error of the disk, with Ctrl-C,
or by a kill. Whatever comes out, the same store may go on being used (or says that it must be
reopened), it agrees with one that reads all files anew, and no descriptor stays open.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from queuectl_magics.errors import OutcomeUnknownError, QueuectlError, StoreFullError
from queuectl_magics.store import Store, store
from queuectl_magics.store.compaction import compact
from stores import enqueue, lease, settle

CALLS = {
    os: "open stat fstat pread write ftruncate fdatasync fsync dup rename link unlink mkdir",
    fcntl: "flock",
}


class Killed(BaseException):
    """Ends everything as SIGKILL does; what is caught on the way may do nothing any more."""


class Faults:
    """Counts the system calls, and lets number *at* of them fail; after a kill, all others too.

    With *done* the call does its work first, and only its caller does not get to know. Only calls
    of the thread that made it count: what other tests have left running has a day of its own.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, at: int, failure: BaseException, *, done: bool
    ) -> None:
        self.count = 0
        self.at = at
        self.failure = failure
        self.done = done
        self.thread = threading.get_ident()
        for module, names in CALLS.items():
            for name in names.split():
                patch.setattr(module, name, self.failing(getattr(module, name)))

    def failing(self, call: Callable) -> Callable:
        """Return *call*, which fails when its turn comes."""

        def perhaps(*args, **keys):
            if threading.get_ident() != self.thread:
                return call(*args, **keys)
            if args[-1] == fcntl.LOCK_UN and not isinstance(self.failure, Killed):
                return call(*args, **keys)  # letting go cannot fail
            self.count += 1
            if self.count == self.at + 1:
                if self.done:
                    call(*args, **keys)
                raise self.failure
            if self.count > self.at and isinstance(self.failure, Killed):
                raise self.failure
            return call(*args, **keys)

        return perhaps


@contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Collect nothing that other tests have left: its last call would be one of ours."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def prepared(home: Path) -> None:
    """Make a home with one job, a torn tail, and a boot that is over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "boot_id", lambda: "earlier")
        made = Store(home)
    made.transact(enqueue("1"))
    made.close()
    with made.paths.journal.open("ab") as file:
        file.write(b'{"seq":2,"d"')


def day(home: Path, acknowledged: dict[str, str], opened: list[Store]) -> None:
    """Do what a store does in its life; write down what was acknowledged."""
    made = Store(home)
    opened.append(made)
    made.transact(enqueue("2"))
    acknowledged["2"] = "pending"
    made.transact(lease("1"))
    acknowledged["1"] = "processing"
    made.transact(settle("1"), vital=True)
    acknowledged["1"] = "completed"
    compact(made)
    made.transact(enqueue("3"))
    acknowledged["3"] = "pending"
    with made.reading():
        pass


def kept(acknowledged: dict[str, str], jobs: dict) -> bool:
    """Say whether every acknowledged job is there, at least as far as was acknowledged."""
    order = ["pending", "processing", "completed"]
    return all(
        id in jobs and order.index(jobs[id].state) >= order.index(state)
        for id, state in acknowledged.items()
    )


def one_fault(home: Path, at: int, failure: BaseException, *, done: bool) -> bool:
    """Let call number *at* of a day fail, and check what is left; False if there was none."""
    prepared(home)
    descriptors = len(os.listdir("/proc/self/fd"))
    acknowledged, opened = {"1": "pending"}, []
    with no_garbage_collected(), pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, at, failure, done=done)
        with suppress(QueuectlError, OSError, KeyboardInterrupt, Killed):
            day(home, acknowledged, opened)
    same = opened[0] if opened else Store(home)
    if not isinstance(failure, Killed):
        with suppress(OutcomeUnknownError):  # the disk was asked in vain: reopen
            same.transact(enqueue("4"))
            acknowledged["4"] = "pending"
    else:
        same.close()
    fresh = Store(home)
    same.catch_up()

    assert kept(acknowledged, fresh.table.jobs), (at, failure)
    assert fresh.table.jobs == same.table.jobs, (at, failure)
    assert fresh.table.counts == same.table.counts, (at, failure)
    fresh.transact(enqueue("5"))
    assert compact(fresh)
    assert not list(home.glob("*.tmp")), (at, failure)
    same.catch_up()
    assert fresh.table.jobs == same.table.jobs, (at, failure)
    fresh.close()
    same.close()
    if opened and not isinstance(failure, Killed | KeyboardInterrupt):
        assert descriptors == len(os.listdir("/proc/self/fd")), (at, failure)
    return faults.count > at


@pytest.mark.parametrize(
    ("failure", "done"),
    [
        (OSError(errno.EIO, "Input/output error"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EMFILE, "Too many open files"), False),
        (KeyboardInterrupt(), False),
        (KeyboardInterrupt(), True),
        (Killed(), False),
        (Killed(), True),
    ],
    ids=["EIO", "ENOSPC", "EMFILE", "Ctrl-C", "Ctrl-C after", "kill", "kill after"],
)
def test_any_system_call_may_fail_once(memory, failure, done):
    """Nothing acknowledged is lost, and nobody has to start again who was not told to."""
    at = 0
    while one_fault(memory / f"{at}", at, failure, done=done):
        shutil.rmtree(memory / f"{at}")
        at += 1

    assert at > 90


def test_day_without_faults_is_acknowledged_as_a_whole(memory):
    """Otherwise the test above would prove nothing."""
    prepared(memory / "home")
    acknowledged, opened = {}, []
    day(memory / "home", acknowledged, opened)
    opened[0].close()

    assert {"1": "completed", "2": "pending", "3": "pending"} == acknowledged
    assert StoreFullError is not None
