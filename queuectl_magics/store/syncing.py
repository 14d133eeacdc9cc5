"""Make changes durable without waiting for it.

A worker must not stand still for a disk: what it leases may start and what has ended may be shown
as soon as it is written, if only the disk has it a moment later. The rule here: what may be thrown
away once a change is durable (the exit record of a settled attempt) is kept until then.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from queuectl_magics.errors import QueuectlError
from queuectl_magics.job import JobRecord
from queuectl_magics.store.store import Store

GATHER_S = 0.005
RETRY_S = 1.0


class Syncing:
    """A thread that sees a store's changes to the disk, soon after they were made.

    Args:
        store: the store.
        forget: called for each job whose end is on disk; it only tidies up.

    Attributes:
        error: why the disk did not confirm the last time, if it did not.

    """

    def __init__(self, store: Store, forget: Callable[[JobRecord], None]) -> None:
        self.error: QueuectlError | None = None
        self._store = store
        self._seq = 0
        self._forget = forget
        self._ended: list[JobRecord] = []
        self._wanted = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="queuectl-sync", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def soon(self, seq: int, ended: Iterable[JobRecord]) -> None:
        """See event *seq* to the disk, and then forget what was needed of the *ended*."""
        with self._wanted:
            self._seq = max(self._seq, seq)
            self._ended.extend(ended)
            self._wanted.notify()

    def close(self) -> None:
        """Finish what was asked for and end."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        self._thread.join()

    def _run(self) -> None:
        done = 0
        while True:
            with self._wanted:
                while self._seq == done and not self._ended and not self._closing:
                    self._wanted.wait()
                if self._seq == done and not self._ended:
                    return
                done, ended = self._seq, self._ended
                self._ended = []
                closing = self._closing
            if not closing:
                time.sleep(GATHER_S)  # one sync for all that changes in the meantime
            try:
                self._store.sync(self._store.seq)
            except QueuectlError as error:
                self.error = error
                if closing:
                    return
                with self._wanted:
                    done, self._ended = -1, ended + self._ended
                    self._wanted.wait(RETRY_S)
                continue
            self.error = None
            for job in ended:
                with contextlib.suppress(OSError):
                    self._forget(job)
