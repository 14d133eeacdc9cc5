"""The jobs as of event N, with what is needed to answer quickly.

A `Table` is what the journal folds into: the jobs in the order in which they came, their counts by
state, and two heaps from which the next job to run is taken. The rule here: every way in changes
all of it together; so a count can never disagree with the jobs. A heap entry is good only while
the job has not changed since it was pushed (`seq`), which makes removal free; and there are no
heaps before the first question that needs them, for most processes only look.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import attrgetter

from queuectl_magics.events import JobEvent
from queuectl_magics.job import PROCESSING, WAITING, JobRecord, State
from queuectl_magics.lifecycle import evolve

NUMBER_DIGITS_MAX = 15
HEAP_SLACK = 4096
REMEMBERED_EVENTS_MAX = 65_536

Change = tuple[str, JobRecord | None, JobRecord | None, datetime]


class Table:
    """All jobs as of event number `seq`.

    Attributes:
        jobs: id → job, in the order of enqueueing. Read it, never write to it.
        counts: state → how many jobs; every state has a row.
        processing: ids of the jobs that are being run.
        next_number: the next short id; never one that was used before.
        last_at: the latest moment that any event names, or None.

    """

    def __init__(self, jobs: Iterable[JobRecord] = (), seq: int = 0, next_number: int = 1) -> None:
        self.jobs: dict[str, JobRecord] = {job.id: job for job in jobs}
        self.seq = seq
        self.next_number = next_number
        self.last_at = max(map(attrgetter("updated_at"), self.jobs.values()), default=None)
        states = Counter(map(attrgetter("state"), self.jobs.values()))
        self.counts: dict[State, int] = {state: states[state] for state in State}
        self.processing = {job.id for job in self.jobs.values() if job.state is PROCESSING}
        self._ready: list[tuple[int, int, int, str]] | None = None
        self._later: list[tuple[datetime, int, str]] = []
        self._touched: deque[str | None] = deque(maxlen=REMEMBERED_EVENTS_MAX)
        for id in self.jobs:
            self._note_number(id)

    def prepare(self, events: Iterable[JobEvent], first: int | None = None) -> list[Change]:
        """Return what *events* would change; changes nothing.

        The first one has the number *first*, by default the next.

        Raises:
            IllegalTransitionError: the lifecycle does not allow one of them.

        """
        changes: list[Change] = []
        touched: dict[str, JobRecord | None] = {}
        for seq, event in enumerate(events, self.seq + 1 if first is None else first):
            id = event.id
            before = touched[id] if id in touched else self.jobs.get(id)
            touched[id] = after = evolve(before, event, seq)
            changes.append((id, before, after, event.at))
        return changes

    def apply(self, changes: Iterable[Change]) -> None:
        """Take in what `prepare` returned."""
        for change in changes:
            self._take(*change)

    def fold(self, event: JobEvent) -> None:
        """Take in the next event.

        Raises:
            IllegalTransitionError: the lifecycle does not allow it; nothing was changed.

        """
        before = self.jobs.get(event.id)
        self._take(event.id, before, evolve(before, event, self.seq + 1), event.at)

    def pass_over(self) -> None:
        """Count a line of the journal that speaks of no job."""
        self.seq += 1
        self._touched.append(None)

    def touched_since(self, seq: int) -> set[str] | None:
        """Return the ids that the events after number *seq* spoke of; None if that is forgotten.

        A view that asks again and again need not look at every job; one that was away for long, or
        that looked at the table before this one, must.
        """
        count = self.seq - seq
        if not 0 <= count <= len(self._touched):
            return None
        newest = itertools.islice(reversed(self._touched), count)
        return {id for id in newest if id is not None}

    def _take(
        self, id: str, before: JobRecord | None, after: JobRecord | None, at: datetime
    ) -> None:
        if before is None:
            self._note_number(id)
        else:
            self.counts[before.state] -= 1
            if before.state is PROCESSING:
                self.processing.discard(id)
        if after is None:
            del self.jobs[id]
        else:
            state = after.state
            self.jobs[id] = after
            self.counts[state] += 1
            if state is PROCESSING:
                self.processing.add(id)
            elif self._ready is not None and state in WAITING:
                self._file(after, self._ready)
                if not (len(self._ready) + len(self._later)) % HEAP_SLACK:
                    self._drop_heaps_if_stale()
        self.seq += 1
        self._touched.append(id if before is None else before.id)  # not each event's own copy
        if self.last_at is None or at > self.last_at:
            self.last_at = at

    def _note_number(self, id: str) -> None:
        is_short = len(id) <= NUMBER_DIGITS_MAX or id == str(self.next_number)
        if id.isdecimal() and is_short:
            number = int(id)
            if number >= self.next_number:
                self.next_number = number + 1

    def _file(self, job: JobRecord, ready: list[tuple[int, int, int, str]]) -> None:
        if job.due_at is not None:
            heapq.heappush(self._later, (job.due_at, job.seq, job.id))
        else:
            heapq.heappush(ready, (-job.priority, job.order, job.seq, job.id))

    def _drop_heaps_if_stale(self) -> None:
        """Forget the heaps when they hold far more than waits: here nobody takes anything out."""
        waiting = sum(self.counts[state] for state in WAITING)
        if (
            self._ready is not None
            and len(self._ready) + len(self._later) > HEAP_SLACK + 2 * waiting
        ):
            self._ready, self._later = None, []

    def _line(self) -> list[tuple[int, int, int, str]]:
        """Return the heap of what may run now, putting everyone in line at the first call."""
        if self._ready is None:
            ready: list[tuple[int, int, int, str]] = []
            self._later = []
            for job in self.jobs.values():
                if job.state in WAITING:
                    self._file(job, ready)
            self._ready = ready
        return self._ready

    def _current(self, id: str, seq: int) -> JobRecord | None:
        job = self.jobs.get(id)
        return job if job is not None and job.seq == seq and job.state in WAITING else None

    def pick_due(self, now: datetime, count: int) -> list[JobRecord]:
        """Return up to *count* jobs that may run now: highest priority first, then oldest first.

        Nothing is taken out: until the lease of a job has been folded it will be picked again.
        """
        ready = self._line()
        while self._later and self._later[0][0] <= now:
            _, seq, id = heapq.heappop(self._later)
            job = self._current(id, seq)
            if job is not None:
                heapq.heappush(ready, (-job.priority, job.order, job.seq, job.id))
        picked: list[JobRecord] = []
        entries: list[tuple[int, int, int, str]] = []
        while ready and len(picked) < count:
            entry = heapq.heappop(ready)
            job = self._current(entry[3], entry[2])
            if job is not None:
                picked.append(job)
                entries.append(entry)
        for entry in entries:
            heapq.heappush(ready, entry)
        return picked

    def next_due(self) -> datetime | None:
        """Return when the next job that waits for its time is due, or None."""
        self._line()
        while self._later:
            due_at, seq, id = self._later[0]
            if self._current(id, seq) is not None:
                return due_at
            heapq.heappop(self._later)
        return None

    def named(self, name: str) -> Iterator[JobRecord]:
        """Yield the jobs of this name, oldest first."""
        return (job for job in self.jobs.values() if job.name == name)
