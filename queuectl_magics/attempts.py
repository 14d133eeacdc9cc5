"""The attempts of one worker: what runs, and what has ended and waits to be settled.

One `poll` sleeps on everything at once: the worker's bell and, where the system has them, a
descriptor per attempt that becomes ready at its end. Only an attempt without such a descriptor
costs a sleeping thread. The rule here: an end is kept until it has been settled, whatever goes
wrong in between.
"""

from __future__ import annotations

import math
import random
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime

from queuectl_magics import lifecycle
from queuectl_magics.engines import Running, Vanished
from queuectl_magics.events import JobEvent
from queuectl_magics.job import AttemptKey, Exit, JobRecord, key_of
from queuectl_magics.limits import Watch
from queuectl_magics.presence import Presence
from queuectl_magics.store import Store
from queuectl_magics.table import Table

RETRY_S = 1.0

End = tuple[JobRecord, Exit | Vanished]


class Attempts:
    """What one worker has started or adopted.

    Args:
        store: where the watches write down why they end an attempt.
        presence: the worker's bell, which also wakes the sleep.

    Attributes:
        running: job id and attempt → the watch on it, from its start until its end is settled.

    """

    def __init__(self, store: Store, presence: Presence) -> None:
        self.running: dict[AttemptKey, Watch] = {}
        self._ended: deque[End] = deque()
        self._store = store
        self._presence = presence
        self._by_fd: dict[int, Running] = {}
        self._unwaited: list[Running] = []
        self._poll = select.poll()  # select() itself cannot watch descriptors above 1023

    def listen(self) -> None:
        """Include the bell in the sleep, once it is there."""
        self._poll.register(self._presence.bell_fd, select.POLLIN)

    def __iter__(self) -> Iterator[AttemptKey]:
        """Yield job id and number of all attempts that are in our hands."""
        yield from self.running
        yield from (key_of(job) for job, _ in list(self._ended))  # threads add to it meanwhile

    @property
    def has_ended(self) -> bool:
        """Whether there is an end to be settled."""
        return bool(self._ended)

    def add(self, job: JobRecord, found: Running | Exit | Vanished) -> None:
        """Take an attempt of *job* into our hands: wait for its end, or settle it."""
        if isinstance(found, Exit | Vanished):
            self._ended.append((job, found))
            return
        self.running[key_of(job)] = Watch(found, self._store)
        fd = found.fileno()
        if fd is None:
            self._wait_in_thread(found)
        else:
            self._by_fd[fd] = found
            self._poll.register(fd, select.POLLIN)

    def _wait_in_thread(self, running: Running) -> None:
        """Let a thread wait for an end; where none can be started now, the next sleep tries."""

        def wait() -> None:
            while True:
                try:
                    outcome = running.wait()
                    break
                except OSError:  # no descriptor is free: it may get better
                    time.sleep(RETRY_S)
            self._ended.append((running.job, outcome))
            self._presence.ring()

        name = f"queuectl-job-{running.job.id}"
        try:
            threading.Thread(target=wait, name=name, daemon=True).start()
        except RuntimeError:  # the system has no more threads for us: it may get better
            self._unwaited.append(running)

    def sleep(self, timeout_s: float) -> bool:
        """Sleep until the bell rings or an attempt ends, but no longer; say if the bell rang."""
        unwaited, self._unwaited = self._unwaited, []
        for running in unwaited:
            self._wait_in_thread(running)
        if self._unwaited:
            timeout_s = min(timeout_s, RETRY_S)
        rang = False
        for fd, _ in self._poll.poll(math.ceil(timeout_s * 1000)):
            found = self._by_fd.pop(fd, None)
            if found is None:
                rang = True
                continue
            self._poll.unregister(fd)
            try:
                outcome = found.finish()
            except OSError:
                outcome = None
            if outcome is None:  # its recorder was killed, but something of it lives on
                self._wait_in_thread(found)
            else:
                self._ended.append((found.job, outcome))
        return rang

    def take_ended(self) -> list[End]:
        """Return what has ended; give it to `settled` or, if that fails, to `put_back`."""
        return [self._ended.popleft() for _ in range(len(self._ended))]

    def put_back(self, ended: list[End]) -> None:
        """Keep these ends for the next time."""
        self._ended.extend(ended)

    def settled(self, ended: list[End]) -> None:
        """Let go of what has been settled."""
        for job, _ in ended:
            self.running.pop(key_of(job), None)

    def forget(self) -> None:
        """Let go of everything that still runs; nothing of it is ended."""
        for fd in self._by_fd:
            self._poll.unregister(fd)
        for running in (*self._by_fd.values(), *self._unwaited):
            running.leave()
        self._by_fd.clear()
        self._unwaited.clear()


def settlements(ended: list[End], table: Table, now: datetime) -> Iterator[JobEvent]:
    """Yield the events that the ends of attempts lead to; none for those that come too late."""
    for job, outcome in ended:
        current = table.jobs.get(job.id)
        if isinstance(outcome, Vanished):
            event = lifecycle.rescue(current, job.attempt, started=outcome.started, now=now)
        else:
            dice = random.random()  # noqa: S311 - jitter, not secrecy
            event = lifecycle.settle(current, job.attempt, outcome, now=now, dice=dice)
        if event is not None:
            yield event
