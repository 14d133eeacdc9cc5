"""Which jobs have printed what somebody searches for.

The browser has ids, names, commands and last lines, and finds those itself. All that the jobs have
printed stays with the kernel: while a search stands in some view, logs are read in the background,
the newest job first, and the browser is told of each that holds the words. The rules here: a turn
takes no longer than it is allowed to; of a log only the end is read; and a job that has changed is
read again, for it may have printed the words meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from queuectl_magics.job import JobRecord
from queuectl_magics.views.live.source import Source

SEARCHED_BYTES = 64 * 1024
TURN_S = 0.03
VIEWS_MAX = 4


class Searching:
    """The searches of all views of a table."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._queries: dict[str, str] = {}
        self._waiting: deque[JobRecord] = deque()
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

    def look(self, budget_s: float = TURN_S) -> list[tuple[JobRecord, str]]:
        """Return jobs and the queries that they fit, for as long as the budget lasts."""
        with self._lock:
            begins, self._begins = self._begins, False
            queries = [(query, query.split()) for query in self._queries.values()]
        if begins:
            jobs = self._source.changes(None).jobs if queries else ()
            self._waiting = deque(reversed(jobs))
        found = []
        until_s = time.perf_counter() + budget_s
        while self._waiting and time.perf_counter() < until_s:
            job = self._waiting.popleft()
            told = f"#{job.id}\n{job.name or ''}\n{job.command}\n".lower()
            missing = [(query, words) for query, words in queries if not _holds(told, words)]
            text = told + self._output(job) if missing and job.attempt else told
            fitting = [query for query, words in missing if _holds(text, words)]
            if fitting:
                found.append((job, "\n".join(fitting)))
        return found

    def _output(self, job: JobRecord) -> str:
        size = self._source.output_size(job.id, job.attempt)
        start = max(0, size - SEARCHED_BYTES)
        data, _ = self._source.output(job.id, job.attempt, start, SEARCHED_BYTES)
        return data.decode("utf-8", "replace").lower()


def _holds(text: str, words: Iterable[str]) -> bool:
    return all(word in text for word in words)
