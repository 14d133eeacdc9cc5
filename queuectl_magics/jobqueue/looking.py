"""The ways to look at a whole queue: records, a status, a frame, a live table, a timeline.

Each takes a picture of the queue and hands it to a view; pandas and the widget are loaded when
they are asked for. The rule here: looking changes no job.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from queuectl_magics import clock, presence, settings, validation, values
from queuectl_magics.errors import InvalidInputError, QueuectlError
from queuectl_magics.job import JobRecord
from queuectl_magics.jobqueue import keeping
from queuectl_magics.jobqueue.job import Job
from queuectl_magics.presence import WorkerInfo
from queuectl_magics.settings import Config
from queuectl_magics.store import Store, archive
from queuectl_magics.validation import States
from queuectl_magics.views import words
from queuectl_magics.views.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from queuectl_magics.jobqueue.jobqueue import JobQueue
    from queuectl_magics.jobqueue.live import Live
    from queuectl_magics.views.timeline import Timeline

Ref = str | int | Job
"""How a job is named: by its id, by a name that only one job has, or by a `Job`."""
Refs = Ref | Iterable["Refs"]
"""One job, or several of them."""


class Looking:
    """A queue, as far as it can be looked at.

    Attributes:
        home: its directory.
        plain: whether nothing that varies is shown.
        store: where the jobs are.
        identity: a word that tells this queue from all others, also from a copy of its folder, by
            whatever path it was opened.

    """

    def __init__(self, home: Path, *, plain: bool) -> None:
        self.home = home
        self.plain = plain
        self._settings = settings.Settings(home)
        self.store = Store(home)
        try:
            self.store.durability = self.config.durability
        except QueuectlError:
            self.store.close()
            raise
        about = os.stat(home)
        self.identity = f"{self.store.header.store}-{about.st_dev}-{about.st_ino}"

    @property
    def config(self) -> Config:
        """The settings kept in the home, as they are now."""
        return self._settings.read()

    def has(self, id: str | int) -> bool:
        """Say whether there is a job with this id; in the archive it does not count."""
        with self.store.reading() as table:
            return str(id) in table.jobs

    def records(
        self,
        state: States | None = None,
        *,
        refs: Refs | None = None,
        tag: str | None = None,
        archived: bool = False,
    ) -> list[JobRecord]:
        """Return what is known now of each job, in the order in which they came.

        Args:
            state: only jobs in this state, or in one of these.
            refs: only these jobs, in this order; None means all.
            tag: only jobs with this tag.
            archived: those in the archive, too, which may be many.

        Raises:
            InvalidInputError: there is no such state.
            UnknownJobError: there is no such job.

        """
        wanted = None if state is None else validation.parse_states(state)
        if refs is not None:
            found = keeping.find_anywhere(self.store, self._words(refs))
        elif archived:
            found = keeping.with_archived(self.store)
        else:
            with self.store.reading() as table:
                found = list(table.jobs.values())
        return [
            job
            for job in found
            if (wanted is None or job.state in wanted) and (tag is None or tag in job.tags)
        ]

    def job(self, ref: Ref) -> Job:
        """Return the job with this id, or with this name if only one has it.

        Raises:
            UnknownJobError: there is none, or several have that name.

        """
        return self.jobs(refs=[ref])[0]

    def jobs(
        self,
        state: States | None = None,
        *,
        refs: Refs | None = None,
        tag: str | None = None,
        archived: bool = False,
    ) -> list[Job]:
        """Return the jobs in the order in which they came; the arguments are those of `records`.

        Example:
            `queue.jobs("dead")`, `queue.jobs(tag="sweep")`

        """
        found = self.records(state, refs=refs, tag=tag, archived=archived)
        with self.store.reading() as table:
            return [
                Job(self._whole, job.id, archived=None if archive.is_in(table.jobs, job) else job)
                for job in found
            ]

    @property
    def _whole(self) -> JobQueue:
        """The same queue, with all that can be done to it: no other kind is ever made."""
        return cast("JobQueue", self)

    def _words(self, refs: Refs) -> list[str]:
        """Return ids and names for *refs*, and see to it that handles are of this queue."""
        words = []
        for ref in _flat(refs):
            if isinstance(ref, Job) and ref.queue.identity != self.identity:
                msg = f"job {ref.id} is in another queue ({ref.queue.home}): ask that one"
                raise InvalidInputError(msg)
            words.append(ref.id if isinstance(ref, Job) else str(ref))
        return words

    def _living(self, refs: Refs) -> list[str]:
        """Return ids and names for *refs*, and see to it that they can be changed."""
        words = self._words(refs)
        keeping.refuse_archived(self.store, words)
        return words

    def status(self, state: States | None = None, *, refs: Refs | None = None) -> Status:
        """Return a picture of the queue now: the jobs asked for, the counts, who works.

        The arguments are those of `records`.
        """
        with self.store.reading():  # the jobs and their counts are of the same moment
            records = self.records(state, refs=refs)
            table = self.store.table
            counts, busy = dict(table.counts), len(table.processing)
        workers = self.workers()
        return Status(
            jobs=tuple(records),
            counts=counts,
            now=clock.utc_now(),
            workers=len(workers),
            slots=sum(worker.count for worker in workers),
            busy=busy,
            paused=self.config.paused,
        )

    def frame(self, state: States | None = None, *, refs: Refs | None = None) -> pd.DataFrame:
        """Return the jobs as a DataFrame indexed by `id`, as `%queue_status` does."""
        from queuectl_magics.views.frame import status_frame

        frame: pd.DataFrame = status_frame(self.status(state, refs=refs))
        return frame

    def live(self) -> Live:
        """Return the queue as a live table, as `%queue_status --live` does.

        Example:
            `queue.live()` as the last line of a cell; outside of a notebook it is text.

        """
        from queuectl_magics.jobqueue.live import Live

        return Live(self._whole)

    def timeline(self, *, refs: Refs | None = None) -> Timeline:
        """Return who ran when, and in which slot, as a picture; `print` it to see it as text."""
        from queuectl_magics.views.timeline import Timeline

        return Timeline(self.status(refs=refs), plain=self.plain)

    def strays(self) -> list[JobRecord]:
        """Return the jobs that are being run, or were, by a worker that is gone."""
        with self.store.reading() as table:
            running = [table.jobs[id] for id in table.processing]
        folder = self.store.paths.workers
        return [job for job in running if not presence.is_alive(folder, job.worker)]

    def workers(self) -> list[WorkerInfo]:
        """Return the workers of this home that are alive, whichever process they live in."""
        return presence.workers(self.store.paths.workers)

    @property
    def held_back_by(self) -> str:
        """Why no job will start until somebody does something; empty if one may."""
        if self.config.paused:
            return (
                "the queue is paused, so nothing will start until it is resumed "
                "(queue.resume(), %queue_resume, or queuectl resume)"
            )
        if not self.workers():
            return (
                f"{words.NO_WORKER}, so nothing will happen until one is started "
                "(queue.worker(), %queue_worker start, or queuectl worker start)"
            )
        return ""

    def __repr__(self) -> str:
        try:
            with self.store.reading() as table:
                counts = ", ".join(f"{n} {state}" for state, n in table.counts.items() if n)
        except QueuectlError as error:
            counts = str(error)
        return f"<JobQueue {self.home}: {counts or 'no jobs'}>"


def _ids_of(frame: Any) -> object:
    """Return the ids in a frame of ours: its index or, if that was changed, its column."""
    if getattr(getattr(frame, "index", None), "name", None) == "id":
        return frame.index
    if "id" in frame.columns:
        return frame["id"]
    msg = "this DataFrame does not say which jobs it means: it has no index or column `id`"
    raise InvalidInputError(msg)


def _flat(refs: object) -> Iterator[object]:
    """Yield each of *refs*, and each that is in a list of them."""
    if values.is_frame(refs):
        refs = _ids_of(refs)
    if isinstance(refs, str) or not isinstance(refs, Iterable):
        yield refs
        return
    for ref in refs:
        yield from _flat(ref)
