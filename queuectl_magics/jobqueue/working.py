"""Who works on a queue: its engine, the worker of this process, and stopping all of them.

The worker is loaded when it is asked for: a notebook that only looks does without. The rule here:
a worker is given the store and the settings, never the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from queuectl_magics import presence, settings, values
from queuectl_magics.errors import RefusedError
from queuectl_magics.job import JobRecord
from queuectl_magics.jobqueue import own
from queuectl_magics.jobqueue.looking import Looking
from queuectl_magics.presence import WorkerInfo
from queuectl_magics.views.words import NO_WORKER

if TYPE_CHECKING:
    from queuectl_magics.engines.local import LocalEngine
    from queuectl_magics.worker import Worker


class Working(Looking):
    """A queue, as far as it can be looked at and worked on."""

    _own: own.Own | None = None

    def engine(self) -> LocalEngine:
        """Return the engine that runs the commands of this queue."""
        from queuectl_magics.engines.local import local_engine

        return local_engine(self.store)

    def new_worker(
        self,
        *,
        count: int | Callable[[], int | None] | None = None,
        kind: str = "terminal",
        on_change: Callable[[list[JobRecord]], None] | None = None,
        drain: bool = False,
    ) -> Worker:
        """Return a worker that has not been started; `count` None follows the setting."""
        from queuectl_magics.worker import Worker

        store, settings = self.store, self._settings

        def room() -> tuple[int, bool]:
            config = settings.read()
            store.durability = config.durability
            return (count() if callable(count) else count) or config.count, config.paused

        return Worker(
            self.store,
            self.engine(),
            room=room,
            kind=kind,
            on_change=on_change,
            drain=drain,
        )

    def worker(self, count: int | None = None, *, kind: str = "python") -> Worker:
        """Return the worker of this process, a background thread, starting it if need be.

        Args:
            count: how many jobs it runs side by side, from now on; None leaves it as it is, at
                first the setting `count`.
            kind: what the list of workers shall say.

        Raises:
            InvalidInputError: *count* is out of bounds.

        """
        if count is not None:
            count = values.whole("count", count, settings.COUNT_MAX, low=1)
        with own.starting:
            mine = own.take(self.identity)
            if mine is None:
                mine = self._new_own(kind, count)
            elif count is not None:
                mine.count = count
                mine.worker.slots_changed()
            mine.users.add(self._whole)
            self._own = mine
        return mine.worker

    def _new_own(self, kind: str, count: int | None) -> own.Own:
        self.store.catch_up()  # it says if the home is gone
        mine = own.Own(count)
        mine.worker = self.new_worker(count=lambda: mine.count, kind=kind)
        mine.worker.start()
        own.keep(self.identity, mine)
        return mine

    @property
    def own_worker(self) -> Worker | None:
        """The worker of this process, if we ever asked for it."""
        return self._own.worker if self._own else None

    def stop_workers(self, *, now: bool = False) -> list[WorkerInfo]:
        """Ask every worker of this home to stop, and return them.

        Args:
            now: end the running jobs and hand them back; otherwise they are finished first.

        Raises:
            RefusedError: no worker is running.

        """
        found = self.workers()
        if not found:
            msg = f"{NO_WORKER}: there is nothing to stop"
            raise RefusedError(msg)
        mine, message = own.find(self.identity), presence.STOP_NOW if now else presence.STOP
        besides = None if mine is None else mine.worker.name
        presence.ring(self.store.paths.workers, message, besides=besides)
        if mine is not None:  # by word, lest a bell be heard after it was asked to go on
            mine.stop(now=now)
        return found
