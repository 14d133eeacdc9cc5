"""The attempts of one worker: what runs, and what has ended and waits to be settled.

A thread waits for each of them, asleep in the system. It is the thread that takes the worker's
next turn when its attempt has ended, and waits for what was started in that turn: the system wakes
it on the very core that the ended job leaves, where a single thread for all, woken wherever it ran
last, would push another job aside and leave that core idle. The rules here: only who has the turn
adds an attempt or lets go of one; an end is kept until it has been settled, whatever goes wrong in
between.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial

from queuectl_magics import lifecycle
from queuectl_magics.engines import Engine, Running, Vanished
from queuectl_magics.events import JobEvent
from queuectl_magics.job import AttemptKey, Exit, JobRecord, key_of
from queuectl_magics.limits import CALM_S, Watch
from queuectl_magics.store import Store
from queuectl_magics.table import Table

RETRY_S = 1.0

End = tuple[JobRecord, Exit | Vanished]


class Attempts:
    """What one worker has started or adopted.

    Args:
        store: where the watches write down why they end an attempt.
        on_end: called, in a turn, by the thread whose attempt has ended.
        on_idle: called by a thread that has nothing to wait for any more.

    Attributes:
        turn: held by the one thread that may change any of this just now.
        running: job id and attempt → the watch on it, from its start until its end is settled.

    """

    def __init__(
        self, store: Store, *, on_end: Callable[[], None], on_idle: Callable[[], None]
    ) -> None:
        self.turn = threading.Lock()
        self.running: dict[AttemptKey, Watch] = {}
        self._store = store
        self._on_end = on_end
        self._on_idle = on_idle
        self._ended: deque[End] = deque()
        self._unwaited: deque[Running] = deque()
        self._coming: set[int] = set()  # threads that want the turn, for the end they have seen

    def __iter__(self) -> Iterator[AttemptKey]:
        """Yield job id and number of all attempts that are in our hands."""
        yield from self.running
        yield from (key_of(job) for job, _ in list(self._ended))  # threads add to it meanwhile

    @property
    def are_unseen(self) -> bool:
        """Whether there are ends for which no thread is on its way to a turn."""
        return len(self._ended) > len(self._coming)

    def add(self, job: JobRecord, found: Running | Exit | Vanished) -> None:
        """Take an attempt of *job* into our hands: it is to be settled, or to be waited for."""
        if isinstance(found, Exit | Vanished):
            self._ended.append((job, found))
        else:
            self.running[key_of(job)] = Watch(found, self._store)
            self._unwaited.append(found)

    def begin(self, *, all: bool) -> None:
        """Begin the attempts: *all*, or those that no thread on its way to a turn will begin."""
        for found in list(self._unwaited)[0 if all else len(self._coming) :]:
            found.begin()

    def see_to_all(self) -> None:
        """Start a thread for each attempt for which none of those on their way will wait."""
        while len(self._unwaited) > len(self._coming):
            found = self._unwaited.pop()
            name = f"queuectl-job-{found.job.id}"
            try:
                threading.Thread(target=self._wait, args=(found,), name=name, daemon=True).start()
            except Exception:  # noqa: BLE001 - there are no more threads: it may get better
                self._unwaited.append(found)
                self._look_at_unwaited()
                return

    def _look_at_unwaited(self) -> None:
        """See which of the attempts that nobody waits for have ended all the same."""
        for found in list(self._unwaited):
            with suppress(OSError):
                outcome = found.record()
                if outcome is not None:
                    self._unwaited.remove(found)
                    self._ended.append((found.job, outcome))

    def _wait(self, running: Running | None) -> None:
        """Wait for *running*, have the turn at its end, and wait for what was started in it."""
        me = threading.get_ident()
        while running is not None:
            outcome = _outcome(running)
            self._coming.add(me)
            self._ended.append((running.job, outcome))
            with self.turn:
                self._on_end()
                self.see_to_all()
                self._coming.discard(me)
                running = self._unwaited.popleft() if self._unwaited else None
        self._on_idle()

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


def _outcome(running: Running) -> Exit | Vanished:
    """Wait for the end of an attempt, however often that fails."""
    while True:
        try:
            return running.wait()
        except Exception:  # noqa: BLE001 - no descriptor, no memory: it may get better
            time.sleep(RETRY_S)


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


def end_abandoned(store: Store, engine: Engine, jobs: list[JobRecord]) -> None:
    """End jobs that are to be stopped and whose worker is gone, all at once; record their ends."""
    watches: dict[str, Watch] = {}
    while jobs:
        wait_s, left = CALM_S, []
        for job in jobs:
            found = engine.find(job)
            if isinstance(found, Exit | Vanished):
                store.transact(partial(settlements, [(job, found)]), vital=True)
                engine.forget(job)
            else:
                watch = watches.setdefault(job.id, Watch(found, store))
                wait_s = min(wait_s, watch.look(job))
                left.append(job)
        jobs = left
        if jobs:
            store.wait_for_news(wait_s)
    engine.close()
