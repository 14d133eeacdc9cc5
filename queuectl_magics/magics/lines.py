"""A job as the value of a cell: one line that updates in place, with no widget.

The line stands under a display id; a thread replaces it as the job goes on, and the last
replacement is what a saved or exported notebook keeps. The rules here: at most four updates a
second and line (after a minute, one), each with the whole line; what was sent since the last cell
ended is sent once more when the next one ends, for an exporter listens only while a cell runs; an
update belongs to the cell that runs now, not to the one that it came from, or exporters would not
apply it; and the thread prints nothing and reads a log only when that has grown.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

from queuectl_magics import clock, output
from queuectl_magics.errors import QueuectlError
from queuectl_magics.job import TERMINAL, WAITING, JobRecord, State
from queuectl_magics.jobqueue import Job
from queuectl_magics.views import markup, text
from queuectl_magics.views.reason import reason
from queuectl_magics.views.words import DUE_NOW, NO_WORKER

INTERVAL_S = 0.25
CLOCK_INTERVAL_S = 1.0
CLOCK_LINES_PER_S = 50
EAGER_S = 60.0
CLOSING_S = 1.0
TAIL_LINES = 5
START = "start one: %queue_worker start"

Bundle = dict[str, str]


class _Held:
    """What keeps a waiting job from running; each queue is asked only once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[bool, bool]] = {}

    def why(self, job: Job, record: JobRecord, now: datetime) -> str | None:
        """Return why *job* waits, or None if it does not; slots come and go and are not named."""
        if record.state not in WAITING:
            return None
        queue = job.queue
        if queue.home not in self._known:
            own = queue.own_worker
            works = (own is not None and own.is_alive()) or bool(queue.workers())
            self._known[queue.home] = works, queue.config.paused
        works, paused = self._known[queue.home]
        why = reason(record, now, workers=int(works), slots=1, busy=0, paused=paused)
        if why == DUE_NOW:
            return ""
        return why if works or paused else why.replace(NO_WORKER, f"{NO_WORKER} ({START})")


class _Line:
    """One line on the screen: a job, its display id, and what was sent last."""

    def __init__(self, job: Job, display_id: str) -> None:
        self.job = job
        self.display_id = display_id
        self.sent: Bundle = {}
        self.is_over = False
        self.is_unsure = False
        self._seen: object = None
        self._told: object = None
        self._tail = ""
        self._began_at_s = clock.monotonic_s()
        self._drawn_at_s = 0.0
        self._sent_at_s = -INTERVAL_S

    def look(self, held: _Held, clock_interval_s: float) -> bool:
        """Draw the line as it is now, and say whether it is time to send it.

        Args:
            held: what keeps jobs from running.
            clock_interval_s: how often to send it if only the time has gone by.

        Raises:
            QueuectlError: the job was pruned, or its home is gone.

        """
        record, now_s = self.job.record, clock.monotonic_s()
        is_over = record.state in TERMINAL
        is_eager = now_s - self._began_at_s < EAGER_S
        interval_s = INTERVAL_S if is_eager else CLOCK_INTERVAL_S
        if not is_over and now_s - self._sent_at_s < interval_s:
            return False
        seen = record.seq, output.size(self.job.log_path(record.attempt))
        if seen == self._seen and (is_over or now_s - self._drawn_at_s < clock_interval_s):
            return False
        if seen != self._seen:
            is_new = record.state is State.PENDING  # what it printed, it did before it was retried
            self._tail = "" if is_new else self.job.tail(attempt=record.attempt, lines=TAIL_LINES)
        self._seen, self._drawn_at_s, self.is_over = seen, now_s, is_over
        now = clock.utc_now()
        why = held.why(self.job, record, now)
        bundle = {
            "text/plain": text.line(record, now, self._tail, why=why),
            "text/html": markup.line_html(record, now, self._tail, why=why),
        }
        told = {**bundle, "text/html": bundle["text/html"].replace(markup.as_of(now), "")}
        if told == self._told:  # another moment alone is no news
            return False
        self.sent, self._told, self._sent_at_s = bundle, told, now_s
        return True

    def look_plainly(self) -> None:
        """Draw the line so that it never differs, and never look again."""
        record, now = self.job.record, clock.utc_now()
        self.display_id, self.is_over = "", True
        self.sent = {
            "text/plain": text.line(record, now, plain=True),
            "text/html": markup.line_html(record, now, plain=True),
        }


class Lines:
    """The lines of one shell.

    Args:
        shell: where they are shown.
        is_plain: says whether nothing that varies may be shown.

    """

    def __init__(self, shell: InteractiveShell, *, is_plain: Callable[[], bool]) -> None:
        self.is_plain = is_plain
        self._shell = shell
        self._live: list[_Line] = []
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._cell = contextvars.copy_context()

    @property
    def can_update(self) -> bool:
        """Whether the front end replaces what was shown; a terminal does not."""
        return hasattr(self._shell, "kernel")

    def open(self) -> None:
        """Follow the cells from now on."""
        if self.can_update:
            self._shell.events.register("pre_run_cell", self._note_cell)
            self._shell.events.register("post_run_cell", self._end_cell)

    def close(self) -> None:
        """Leave every line as it is."""
        self._closing.set()
        if self.can_update:
            self._shell.events.unregister("pre_run_cell", self._note_cell)
            self._shell.events.unregister("post_run_cell", self._end_cell)
        if self._thread is not None:
            self._thread.join(CLOSING_S)

    # --- what is sent, and when -----------------------------------------------------------------

    def show(self, job: Job) -> None:
        """Show *job* as the value of the cell that runs."""
        line = _Line(job, self.new_display_id())
        try:
            if self.is_plain():
                line.look_plainly()
            else:
                line.look(_Held(), CLOCK_INTERVAL_S)
        except QueuectlError as error:
            line.is_over, line.sent = True, {"text/plain": f"<Job {job.id}: {error}>"}
        self.publish(line.sent, line.display_id, update=False)
        if line.is_over:
            return
        self._note_cell()
        with self._lock:
            self._live.append(line)
            if self._thread is None or not self._thread.is_alive():
                name = "queuectl-lines"
                self._thread = threading.Thread(target=self._follow, name=name, daemon=True)
                self._thread.start()

    def _follow(self) -> None:
        """Replace lines until all of their jobs are over."""
        while not self._closing.wait(INTERVAL_S):
            with self._lock:
                self._cell.run(self._send_news, a_cell_ends=False)
                if all(line.is_over for line in self._live):
                    self._thread = None
                    return

    def _send_news(self, *, a_cell_ends: bool) -> None:
        """Send each line that has changed, and at a cell's end what perhaps nobody received."""
        held, clock_interval_s = (
            _Held(),
            max(CLOCK_INTERVAL_S, len(self._live) / CLOCK_LINES_PER_S),
        )
        for line in self._live:
            try:
                has_news = not line.is_over and line.look(held, clock_interval_s)
            except QueuectlError:
                line.is_over, has_news = True, False
            except OSError:  # no descriptor is free: it may get better
                continue
            if has_news or (line.is_unsure and a_cell_ends):
                self.publish(line.sent, line.display_id, update=True)
                line.is_unsure = not a_cell_ends

    def _note_cell(self, *_: object) -> None:
        """Remember which cell runs: what the thread sends belongs to it."""
        self._cell = contextvars.copy_context()

    def _end_cell(self, *_: object) -> None:
        """Bring the lines up to date while the cell still counts as running."""
        with self._lock:
            self._send_news(a_cell_ends=True)
            self._live = [line for line in self._live if not line.is_over]

    def publish(self, bundle: Bundle, display_id: str, *, update: bool) -> None:
        """Send *bundle*, under a display id unless that is empty."""
        transient = {"display_id": display_id} if display_id else {}
        self._shell.display_pub.publish(data=bundle, transient=transient, update=update)

    @staticmethod
    def new_display_id() -> str:
        """Return a display id that nothing else has."""
        return f"queuectl-{os.urandom(6).hex()}"
