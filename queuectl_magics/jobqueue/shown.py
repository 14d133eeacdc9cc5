"""Values that know how to be looked at: several jobs, one job in full, a log, the workers.

A notebook shows what a cell evaluates to, by `_repr_html_` or as plain text. The rule here: these
classes only carry records and hand them to the views; each has both forms, so that it reads the
same in a terminal, in a saved notebook and in an export.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from queuectl_magics import clock
from queuectl_magics.job import JobRecord
from queuectl_magics.jobqueue.job import Job
from queuectl_magics.jobqueue.jobqueue import JobQueue
from queuectl_magics.presence import WorkerInfo
from queuectl_magics.store import archive
from queuectl_magics.views import text, words, workers
from queuectl_magics.views.status import Status

# What `show` tells of a job that is the same in each run, whatever the machine.
PLAIN_FACTS = frozenset({"id", "name", "command", "priority", "attempts", "backoff"})


class JobList(list[Job]):
    """Several jobs of one queue, in order."""

    @property
    def records(self) -> list[JobRecord]:
        """What is known of each of them now, but for those that have been pruned meanwhile."""
        if not self:
            return []
        store = self[0].queue.store
        with store.reading() as table:
            jobs = table.jobs
            found = [job.archived or jobs.get(job.id) for job in self]
        gone = [job.id for job, record in zip(self, found, strict=True) if record is None]
        moved = archive.find_all(store.paths.home, gone, jobs) if gone else {}
        records = [record or moved.get(job.id) for job, record in zip(self, found, strict=True)]
        return [record for record in records if record is not None]

    @property
    def _plain(self) -> bool:
        return bool(self) and self[0].queue.plain

    def _repr_html_(self) -> str | None:
        if self._plain:
            return None
        from queuectl_magics.views import markup

        return markup.jobs_html(self.records, clock.utc_now())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython's form
        printer.text("..." if cycle else text.jobs(self.records, plain=self._plain))


class Details:
    """Everything about one job at one moment; *plain*: nothing that differs from run to run."""

    def __init__(self, record: JobRecord, status: Status, *, plain: bool = False) -> None:
        self.record = record
        self.status = status
        self._plain = plain

    def text(self, *, colour: bool = False) -> str:
        """Return it as lines of `key: value` and a table of attempts."""
        if not self._plain:
            return text.show(self.record, self.status, colour=colour)
        facts = text.facts(self.record, self.status)
        return "\n".join(f"{key}: {told}" for key, told in facts if key in PLAIN_FACTS)

    def _repr_html_(self) -> str | None:
        if self._plain:
            return None
        from queuectl_magics.views import markup

        return markup.show_html(self.record, self.status)

    def __repr__(self) -> str:
        return self.text()


class Log(str):
    """What a job printed; a text like any other, shown as it is and not as a Python literal.

    Attributes:
        followed: it has been shown already, piece by piece.
        nothing: what to say if it is empty.

    """

    __slots__ = ("followed", "nothing")

    followed: bool
    nothing: str

    def __new__(cls, value: str, *, followed: bool = False, nothing: str = "") -> Self:
        """Make a log of *value*."""
        log = super().__new__(cls, value)
        log.followed, log.nothing = followed, nothing
        return log

    def _ipython_display_(self) -> None:
        if not self.followed:
            raise NotImplementedError  # which leaves it to the others

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002, FBT001
        printer.text(self.rstrip("\n") or self.nothing)


class Pruned(list[str]):
    """The ids of the jobs that were dropped."""

    def text(self) -> str:
        """Return how many they were."""
        return f"Pruned {words.counted(len(self), 'job')}."

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002, FBT001
        printer.text(self.text())


class WorkerList(list[WorkerInfo]):
    """Workers of one queue, oldest first; *told* is what was said to them, if anything."""

    def __init__(
        self, queue: JobQueue, found: Iterable[WorkerInfo] | None = None, *, told: str = ""
    ) -> None:
        super().__init__(queue.workers() if found is None else found)
        self._plain = queue.plain
        self._told = told

    def text(self) -> str:
        """Return a line per worker, or one that says there is none."""
        if self._told:
            names = ["A worker"] if self._plain else [f"Worker {one.name}" for one in self]
            return "\n".join(f"{name} {self._told}." for name in names)
        if self._plain:
            return "A worker is running." if self else words.NO_WORKERS
        return workers.workers(self, clock.utc_now())

    def _repr_html_(self) -> str | None:
        if self._plain or self._told:
            return None
        from queuectl_magics.views import markup

        return markup.workers_html(self, clock.utc_now())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002, FBT001
        printer.text(self.text())
