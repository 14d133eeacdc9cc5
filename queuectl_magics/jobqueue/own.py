"""The worker that this process has for a queue.

There may be many `JobQueue`s of one home in a process, when a cell is run again and again, but two
workers would run two jobs where one was asked for. So the worker is found by the queue that it
works on, and it stops when none of those that asked for it is open any more. The rule here: at
most one for each queue; it knows the store and the settings, and keeps no `JobQueue` alive.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queuectl_magics.jobqueue.jobqueue import JobQueue
    from queuectl_magics.worker import Worker

starting = threading.RLock()
_known: dict[str, Own] = {}


class Own:
    """The worker of this process for one queue.

    Attributes:
        worker: the worker.
        count: how many jobs it runs side by side; None follows the setting.
        users: those who asked for it and are still open.

    """

    worker: Worker

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.users: weakref.WeakSet[JobQueue] = weakref.WeakSet()

    @property
    def works(self) -> bool:
        """Whether it is alive and has not been asked to stop."""
        return self.worker.is_alive() and not self.worker.is_stopping

    def stop(self, *, now: bool) -> None:
        """Ask it to end, its jobs first or *now*."""
        from queuectl_magics.worker import Stopping

        self.worker.stop(Stopping.NOW if now else Stopping.AFTER_CURRENT)

    def release(self, user: JobQueue, timeout_s: float) -> bool:
        """Do without *user*, and end if it was the last; say whether its files may be closed."""
        from queuectl_magics.worker import Stopping

        with starting:
            self.users.discard(user)
            if self.users:
                return self.worker.store is not user.store
            self.worker.stop(Stopping.LEAVE)
        if not self.worker.join(timeout_s):
            return False  # it waits for the lock: let it keep its files
        with starting:
            if _known.get(user.identity) is self:
                del _known[user.identity]
        if self.worker.store is not user.store:  # of one that was closed before us
            self.worker.store.close()
        return True


def find(queue: str) -> Own | None:
    """Return what works in this process on the *queue* of that identity, if anything does."""
    own = _known.get(queue)
    return own if own is not None and own.works else None


def take(queue: str) -> Own | None:
    """Return it to be used again, though it may have been asked to stop after its jobs.

    A second worker beside one that finishes its job would run two where one was asked for.
    """
    own = _known.get(queue)
    return own if own is not None and own.worker.is_alive() and own.worker.go_on() else None


def keep(queue: str, own: Own) -> None:
    """Remember that *own* works on that *queue*."""
    _known[queue] = own
