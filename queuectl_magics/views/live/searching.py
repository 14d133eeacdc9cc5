"""Which jobs have printed what somebody searches for.

The browser has ids, names, commands and last lines, as far as it shows them, and finds these
itself. The rest stays with the kernel, above all what the jobs have printed: while a search stands
in some view, logs are read in the background, the newest job first, and the browser is told of
each job that holds the words. The rules here: a turn takes no longer than it may; of a log only
the end is read; and a job is read again when it has changed or, once a second, has printed more,
for the words may be there now.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from queuectl_magics.job import JobRecord
from queuectl_magics.views.live import wire
from queuectl_magics.views.live.source import Source

SEARCHED_BYTES = 64 * 1024
TURN_S = 0.03
AGAIN_S = 1.0
VIEWS_MAX = 4


class Searching:
    """The searches of all views of a table."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._queries: dict[str, str] = {}
        self._waiting: deque[JobRecord] = deque()
        self._talking: dict[str, JobRecord] = {}
        self._heard_at_s = 0.0
        self._told: dict[str, frozenset[str]] = {}
        self._begins = False
        self._lock = threading.Lock()

    def ask(self, view: str, query: str) -> None:
        """Search for the words of *query* from now on; for nothing if there are none."""
        with self._lock:
            self._queries.pop(view, None)
            if query.strip():
                self._queries[view] = query.lower()
            while len(self._queries) > VIEWS_MAX:  # of a page that was left nobody tells us
                del self._queries[next(iter(self._queries))]
            self._begins = True

    def begin(self) -> None:
        """Search all jobs anew: the browsers have forgotten what was found."""
        self._begins = True

    def note(self, jobs: Iterable[JobRecord]) -> None:
        """Hear that *jobs* are new or have changed."""
        if self._queries:
            self._waiting.extend(jobs)

    def drop(self, ids: Iterable[str]) -> None:
        """Forget jobs that are gone, and with them what was told of them."""
        gone = set(ids)
        for id in gone:
            self._told.pop(id, None)
            self._talking.pop(id, None)
        if gone:
            self._waiting = deque(job for job in self._waiting if job.id not in gone)

    def hear(self, jobs: Iterable[JobRecord]) -> None:
        """Hear that *jobs*, which run, have printed more."""
        if self._queries:
            self._talking.update((job.id, job) for job in jobs)

    def look(self, budget_s: float = TURN_S) -> list[tuple[JobRecord, str]]:
        """Return jobs and the queries that they fit, for as long as the budget lasts."""
        now_s = time.perf_counter()
        with self._lock:
            begins, self._begins = self._begins, False
            queries = [(query, query.split()) for query in self._queries.values()]
        if begins:
            jobs = self._source.changes(None).jobs if queries else ()
            self._waiting = deque(reversed(jobs))
            self._told.clear()
        if self._talking and now_s >= self._heard_at_s + AGAIN_S:
            self._waiting.extend(self._talking.values())
            self._talking, self._heard_at_s = {}, now_s
        found = []
        while self._waiting and time.perf_counter() < now_s + budget_s:
            job = self._waiting.popleft()
            told = self._told.get(job.id, frozenset())
            fitting = told.union(self._fitting(job, queries))
            if fitting != told:
                self._told[job.id] = fitting
                found.append((job, "\n".join(sorted(fitting))))
        return found

    def _fitting(self, job: JobRecord, queries: Iterable[tuple[str, list[str]]]) -> list[str]:
        """Return the queries that *job* fits, but for those that the browser finds itself."""
        id, name, command = wire.fixed(job)
        known = f"#{id}\n{name}\n{command}\n".lower()
        missing = [(query, words) for query, words in queries if not _holds(known, words)]
        if not missing:
            return []
        text = f"{known}{job.name or ''}\n{job.command}\n".lower()
        if job.attempt:
            text += self._output(job)
        return [query for query, words in missing if _holds(text, words)]

    def _output(self, job: JobRecord) -> str:
        size = self._source.output_size(job.id, job.attempt)
        start = max(0, size - SEARCHED_BYTES)
        data, _ = self._source.output(job.id, job.attempt, start, SEARCHED_BYTES)
        return data.decode("utf-8", "replace").lower()


def _holds(text: str, words: Iterable[str]) -> bool:
    return all(word in text for word in words)
