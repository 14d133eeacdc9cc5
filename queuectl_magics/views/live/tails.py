"""What the jobs print, read a little at a time.

A job that runs is looked at in every turn: one `stat`, and a read when its log has grown. Of jobs
that are over only the last line matters; there may be a hundred thousand of them, so they are read
in the background, the newest and the ones on the screen first, and then forgotten: the browser
keeps them. The rule here: a turn takes no longer than it is allowed to.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.live.source import Source
from queuectl_magics.views.progress import Said, read

TAIL_BYTES = 4096
HEAD_BYTES = 2048
TURN_S = 0.002
ALWAYS_RUNNING = 64


class Tails:
    """The last lines of the jobs of *source*.

    Attributes:
        grown: the running jobs that had printed more at the last look.

    """

    def __init__(self, source: Source) -> None:
        self.grown: list[JobRecord] = []
        self._source = source
        self._running: dict[str, JobRecord] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._heads: dict[str, tuple[int, str]] = {}
        self._said: dict[str, Said] = {}
        self._waiting: deque[JobRecord] = deque()
        self._turns = 0

    def forget(self) -> None:
        """Begin anew: all jobs are about to be told again."""
        self._running.clear()
        self._seen.clear()
        self._waiting.clear()

    def note(self, jobs: Iterable[JobRecord], *, first: bool = True) -> None:
        """Hear that *jobs* are new or changed; look at them soon, or, if not *first*, in turn."""
        for job in jobs:
            if job.state is State.PROCESSING:
                self._running[job.id] = job
                continue
            self._running.pop(job.id, None)
            self._seen.pop(job.id, None)
            self._heads.pop(job.id, None)
            self._said.pop(job.id, None)
            if job.attempt and first:
                self._waiting.appendleft(job)
            elif job.attempt:
                self._waiting.append(job)

    def want(self, ids: set[str]) -> None:
        """Bring forward the jobs with these *ids*: somebody is looking at them."""
        wanted = [job for job in self._waiting if job.id in ids]
        self._waiting.extendleft(reversed(wanted))  # read twice does no harm

    def drop(self, ids: Iterable[str]) -> None:
        """Forget jobs that are gone."""
        for id in ids:
            self._running.pop(id, None)
            self._said.pop(id, None)
            self._seen.pop(id, None)
            self._heads.pop(id, None)

    @property
    def heard(self) -> dict[str, Said]:
        """What the running jobs have said last."""
        return self._said

    def look(self, budget_s: float = TURN_S) -> list[tuple[str, Said]]:
        """Return what is new, for as long as the budget lasts."""
        until_s = time.perf_counter() + budget_s
        self.grown = []
        spoken = [(job.id, found) for job in self._in_turn() if (found := self._listen(job))]
        while self._waiting and time.perf_counter() < until_s:
            job = self._waiting.popleft()
            if job.id not in self._running:
                spoken.append((job.id, self.read(job)))
        return spoken

    def _in_turn(self) -> list[JobRecord]:
        """Return the running jobs to look at now: all of them, or if there are many, some."""
        running = list(self._running.values())
        if len(running) <= ALWAYS_RUNNING:
            return running
        self._turns += 1
        groups = len(running) // ALWAYS_RUNNING + 1
        return running[self._turns % groups :: groups]

    def _listen(self, job: JobRecord) -> Said | None:
        """Return what *job*, which is running, says now, if that is new."""
        size = self._source.output_size(job.id, job.attempt)
        if self._seen.get(job.id) == (job.attempt, size):
            return None
        self._seen[job.id] = job.attempt, size
        self.grown.append(job)
        found = self.read(job, size)
        if self._said.get(job.id) == found:
            return None
        self._said[job.id] = found
        return found

    def read(self, job: JobRecord, size: int | None = None) -> Said:
        """Return what *job* has said last; one that begins anew has said nothing yet."""
        if job.state is State.PENDING:
            return Said("", None)
        if size is None:
            size = self._source.output_size(job.id, job.attempt)
        if not size:
            return Said("", None)
        start = max(0, size - TAIL_BYTES)
        tail, _ = self._source.output(job.id, job.attempt, start, TAIL_BYTES)
        return read(
            tail.lstrip(b"\0").decode("utf-8", "replace"), self._head(job) if start else ""
        )

    def _head(self, job: JobRecord) -> str:
        """Return the beginning of the output; kept while the job runs."""
        number, head = self._heads.get(job.id, (0, ""))
        if number != job.attempt:
            data, _ = self._source.output(job.id, job.attempt, 0, HEAD_BYTES)
            head = data.decode("utf-8", "replace")
            if job.state is State.PROCESSING:
                self._heads[job.id] = job.attempt, head
        return head
