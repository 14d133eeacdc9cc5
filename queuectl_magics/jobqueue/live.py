"""A queue as a live table: `%queue_status --live`, `JobQueue.live()`.

Here the queue answers what the table asks, and here the table gets its companion: a picture of the
queue as plain HTML below it, which a style rule hides for as long as the table lives. It is what
remains in a saved notebook, in an export, or when the kernel is gone. The rules here: the picture
is refreshed rarely, for each refresh marks the notebook as changed, and for the last time when all
jobs are over; and outside of a notebook the same object is text.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from queuectl_magics import clock, output
from queuectl_magics.errors import QueuectlError, RefusedError
from queuectl_magics.events import Cancelled, Retried
from queuectl_magics.job import JobRecord, State
from queuectl_magics.lifecycle import CANCEL, states_that_take
from queuectl_magics.views import text
from queuectl_magics.views.live import still
from queuectl_magics.views.live.source import Changes, Standing
from queuectl_magics.views.status import Status

if TYPE_CHECKING:
    from queuectl_magics.jobqueue.jobqueue import JobQueue

REFRESH_S = 30.0
TABLES_MAX = 8
CANCELLABLE = states_that_take(Cancelled)
RETRYABLE = states_that_take(Retried) - {State.COMPLETED}  # what went well is no failure to mend
TRIES = 3


# Of the newest tables: the events of its shell, what it hears the end of a cell by, its widget.
_hooks: deque[tuple[Any, Callable[..., None], ReferenceType[Any]]] = deque()


class QueueSource:
    """What the live table asks, answered by *queue*."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._table: object = None
        self._logs = queue.store.paths.logs

    @property
    def title(self) -> str:
        """The last two parts of the home's path: enough to tell one queue from another."""
        return os.path.join(*self._queue.home.parts[-2:])

    def changes(self, since: int | None) -> Changes:
        """Return what changed after event number *since*; everything for None."""
        with self._queue.store.reading() as table:
            touched = None
            if since is not None and table is self._table:
                touched = table.touched_since(since)
            self._table = table
            if touched is None:
                return Changes(table.seq, list(table.jobs.values()), whole=True)
            found = [table.jobs[id] for id in touched if id in table.jobs]
            gone = [id for id in touched if id not in table.jobs]
        return Changes(table.seq, sorted(found, key=lambda job: job.order), gone)

    def standing(self) -> Standing:
        """Return whether the queue is paused, and who works on it."""
        workers = self._queue.workers()
        slots = sum(worker.count for worker in workers)
        return Standing(self._queue.config.paused, len(workers), slots)

    def output_size(self, id: str, attempt: int) -> int:
        """Return how many bytes that attempt has printed."""
        return output.size(output.log_path(self._logs, id, attempt))

    def output(self, id: str, attempt: int, offset: int, limit: int) -> tuple[bytes, int]:
        """Return at most *limit* bytes of what it printed, and where to go on."""
        return output.read_from(output.log_path(self._logs, id, attempt), offset, limit)

    def cancel(self, ids: Iterable[str]) -> int:
        """Call off those of these jobs that can be, and return how many."""
        fits = lambda job: job.state in CANCELLABLE and job.stopping != CANCEL  # noqa: E731
        # who asks may be the thread that takes clicks: it does not wait for a job's grace
        return self._change(ids, fits, partial(self._queue.cancel, wait=False))

    def retry(self, ids: Iterable[str]) -> int:
        """Retry those of these jobs that can be, and return how many."""
        return self._change(ids, lambda job: job.state in RETRYABLE, self._queue.retry)

    def _change(
        self,
        ids: Iterable[str],
        fits: Callable[[JobRecord], bool],
        change: Callable[..., Any],
    ) -> int:
        """Change those that fit, all at once; look again if one has changed meanwhile."""
        wanted = list(ids)
        for left in reversed(range(TRIES)):
            with self._queue.store.reading() as table:
                found = [id for id in wanted if id in table.jobs and fits(table.jobs[id])]
            try:
                if found:
                    change(*found)
            except RefusedError:
                if not left:
                    raise
            else:
                return len(found)
        return 0

    def pause(self) -> None:
        """Start no job any more."""
        self._queue.pause()

    def resume(self) -> None:
        """Start jobs again."""
        self._queue.resume()


class Live:
    """The jobs of *queue*, live where there is a notebook, and as text where there is none.

    Example:
        `JobQueue().live()` as the last line of a cell.

    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._display_id = f"queuectl-{os.urandom(6).hex()}"
        self._shown: object = None
        self._refreshed_at_s = 0.0
        self._publish: Callable[..., Any] | None = None

    @property
    def status(self) -> Status:
        """The queue as it is now."""
        return self._queue.status()

    def text(self, *, width: int = text.WIDTH, colour: bool = False) -> str:
        """Return the queue as it is now, as text."""
        if self._queue.plain:
            return text.jobs(self.status.jobs, width=width, plain=True)
        return text.status(self.status, width=width, colour=colour)

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        """Show the table and its companion; IPython calls this for the value of a cell."""
        from IPython.core.getipython import get_ipython

        shell: Any = get_ipython()
        if shell is None or not hasattr(shell, "kernel") or self._queue.plain:
            print(self.text())  # noqa: T201 - the main thread, as the value of its cell
            return
        from queuectl_magics.views.live.widget import make

        self._publish = shell.display_pub.publish
        # not kept here: IPython keeps the value of each cell, and a widget that is closed must go
        widget = make(QueueSource(self._queue), on_turn=self._refresh)
        bundle: Any = widget._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        self._publish(data={**data, "text/plain": self._one_line()}, metadata=metadata)
        self._send_still(update=False)
        shell.events.register("post_run_cell", self._after_cell)
        _hooks.append((shell.events, self._after_cell, ref(widget)))
        if len(_hooks) > TABLES_MAX:  # a cell that is run again leaves a table that nobody sees
            _drop_oldest()

    def _one_line(self) -> str:
        return f"Live table of {self._queue.home}"

    def _after_cell(self, *_: object) -> None:
        """Bring the companion up to date at the end of a cell: it may be the last one."""
        with contextlib.suppress(QueuectlError, OSError, ValueError):
            self._send_still(update=True)

    def _refresh(self) -> None:
        """Bring the companion up to date while the table is watched, now and then."""
        with self._queue.store.reading() as table:
            counts = table.counts
            over = not (counts[State.PENDING] or counts[State.PROCESSING] or counts[State.FAILED])
        now_s = clock.monotonic_s()
        if over or now_s - self._refreshed_at_s >= REFRESH_S:
            self._send_still(update=True)

    def _send_still(self, *, update: bool) -> None:
        seq = self._queue.store.seq
        if seq == self._shown:
            return
        status = self.status
        data = {"text/plain": still.as_text(status), "text/html": still.as_html(status)}
        assert self._publish is not None
        transient = {"display_id": self._display_id}
        self._publish(data=data, transient=transient, update=update)
        self._shown, self._refreshed_at_s = seq, clock.monotonic_s()  # if that went well


def _drop_oldest() -> None:
    """Let the oldest table go: what was shown of it in its place is the picture."""
    events, hook, widget = _hooks.popleft()
    if all((events, hook) != other[:2] for other in _hooks):  # it may have been shown again since
        with contextlib.suppress(ValueError):
            events.unregister("post_run_cell", hook)
    if (found := widget()) is not None:
        found.close()
