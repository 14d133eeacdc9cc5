"""A job as its user sees it: live, waitable, printable.

A `Job` is an id and the queue that it is in; each property looks at the store. So it stays true
when another process works on the queue, and it can be made again from its id at any time. The rule
here: Ctrl-C stops the waiting, never the job.
"""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queuectl_magics import clock, output, values
from queuectl_magics.errors import (
    InvalidInputError,
    JobFailedError,
    QueuectlError,
    UnknownJobError,
)
from queuectl_magics.job import TERMINAL, WAITING, JobRecord, State
from queuectl_magics.store import archive
from queuectl_magics.values import Seconds
from queuectl_magics.views import text, words

if TYPE_CHECKING:
    from queuectl_magics.jobqueue.jobqueue import JobQueue

FOLLOW_POLL_S = 0.1
TAIL_LINES = 5
CHECK_LINES = 10
LINES_MAX = 2**31


class Job:
    """One job of a queue; `await job` waits for it without blocking.

    Args:
        queue: the queue that it is in.
        id: its id.
        archived: all that is known of it, if it has left the queue for the archive.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from queuectl_magics import JobQueue
        >>> with TemporaryDirectory() as home, JobQueue(home) as queue:
        ...     job = queue.enqueue("exit 3", max_retries=1)
        ...     worker = queue.worker()
        ...     print(job.wait(timeout=60).state, job.exit_code, job.attempts)
        dead 3 1

    """

    __slots__ = ("__weakref__", "_archived", "_queue", "id")

    def __init__(self, queue: JobQueue, id: str, *, archived: JobRecord | None = None) -> None:
        self.id = id
        self._queue = queue
        self._archived = archived

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a copy, here or in another process, find the job in its queue anew."""
        return Job, (self._queue, self.id)

    @property
    def queue(self) -> JobQueue:
        """The queue that it is in."""
        return self._queue

    @property
    def archived(self) -> JobRecord | None:
        """All that is known of it, if it is known to have left the queue for the archive."""
        return self._archived

    @property
    def record(self) -> JobRecord:
        """Everything that is known about the job now.

        Raises:
            UnknownJobError: it has been pruned.

        """
        if self._archived is not None:
            return self._archived
        store = self._queue.store
        with store.reading() as table:
            jobs, record = table.jobs, table.jobs.get(self.id)
        if record is None:
            record = self._archived = archive.find(store.paths.home, self.id, jobs)
        if record is None:
            msg = f"job {self.id} is no longer in the queue: it was pruned"
            raise UnknownJobError(msg)
        return record

    @property
    def state(self) -> State:
        """Where it stands: pending, processing, completed, failed, dead or cancelled."""
        return self.record.state

    @property
    def name(self) -> str | None:
        """The name it was given, if any."""
        return self.record.name

    @property
    def command(self) -> str:
        """What it runs."""
        return self.record.command

    @property
    def attempts(self) -> int:
        """How many attempts have failed so far."""
        return self.record.attempts

    @property
    def exit_code(self) -> int | None:
        """The exit code of the latest attempt that ended; None while it runs or before it did."""
        return self.record.exit_code

    @property
    def elapsed(self) -> timedelta | None:
        """How long the latest attempt took, or has taken so far; None before the first."""
        seconds = words.elapsed_s(self.record, clock.utc_now())
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def output(self) -> str:
        """What the latest attempt has printed so far, stdout and stderr as they came."""
        return self.logs()

    def log_path(self, attempt: int | None = None) -> Path:
        """Return the file that holds the output of *attempt*, by default the latest."""
        number = self.record.attempt if attempt is None else attempt
        return output.log_path(self._queue.store.paths.logs, self.id, number)

    def logs(self, *, attempt: int | None = None, lines: int | None = None) -> str:
        """Return the output of *attempt* (default: the latest), or its last *lines* lines.

        Raises:
            InvalidInputError: there was no such attempt, or *lines* is no number of lines.

        """
        if attempt is not None:
            attempt = self.check_attempt(attempt)
        path = self.log_path(attempt)
        if lines is None:
            return output.read_text(path)
        return _text(output.tail(path, values.whole("lines", lines, LINES_MAX))[0])

    def tail(self, *, attempt: int | None = None, lines: int = TAIL_LINES) -> str:
        """Return the last *lines* lines, for a view: at most 64 KiB, of a line of any length."""
        return _text(output.tail(self.log_path(attempt), lines, output.CHUNK)[0])

    def check_attempt(self, attempt: int) -> int:
        """Return *attempt* if there was such an attempt.

        Raises:
            InvalidInputError: there was not.

        """
        latest, number = self.record.attempt, values.plain(attempt)
        if type(number) is int and 1 <= number <= latest:
            return number
        been = f"attempts 1 to {latest}" if latest else "no attempt yet"
        msg = f"job {self.id} has had {been}: there is no attempt {attempt!r}"
        raise InvalidInputError(msg)

    def follow(self, *, lines: int | None = None) -> Iterator[str]:
        """Yield the output as it comes, attempt after attempt, until the job is over.

        Args:
            lines: start with the last *lines* lines of what is there already; None with all of it.

        """
        record = self.record
        if record.state in WAITING and (why := self._queue.held_back_by):
            warnings.warn(why, stacklevel=2)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        attempt, offset = record.attempt, 0
        if lines is not None:
            count = values.whole("lines", lines, LINES_MAX)
            piece, offset = output.tail(self.log_path(attempt), count)
            yield decoder.decode(piece)
        while True:
            record = self.record  # read before the log: what comes before its end is not missed
            while True:
                piece, offset = _next_lines(self.log_path(attempt), offset)
                if not piece:
                    break
                yield decoder.decode(piece)
            is_over = record.state in TERMINAL
            if record.attempt == attempt and not is_over:
                self._queue.store.wait_for_news(FOLLOW_POLL_S)
                continue
            if half := decoder.decode(b"", final=True):  # of a character that never came whole
                yield half
            if record.attempt == attempt:
                return
            attempt, offset = attempt + 1, 0

    def wait(self, timeout: Seconds | None = None) -> Job:
        """Return this job once it is completed, dead or cancelled.

        Args:
            timeout: give up after that time; None waits for ever.

        Raises:
            TimeoutError: it is not over yet; it goes on.
            KeyboardInterrupt: the waiting was interrupted; the job goes on.

        """
        self._queue.wait(self, timeout=timeout)
        return self

    def __await__(self) -> Generator[Any, None, Job]:
        """Wait without blocking the kernel: `await job`."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> Job:
        import asyncio

        records = self._queue.records(refs=[self])
        for pause_s in self._queue.pauses([record.id for record in records]):
            await asyncio.sleep(pause_s)
        return self

    def check(self) -> Job:
        """Return this job if it completed.

        Raises:
            JobFailedError: it is in any other state; the message ends with its last output.

        """
        record = self.record
        if record.state is State.COMPLETED:
            return self
        last = words.clean(self.tail(lines=CHECK_LINES).rstrip("\n"))
        why = f": {words.one_line(record.reason)}" if record.reason else ""
        msg = f"job {self.id} is {record.state}{why}" + (f"\n{last}" if last else "")
        raise JobFailedError(msg)

    def frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row an attempt, oldest first; of many the last 101.

        Indexed by `number`; columns: `started_at`, `finished_at`, `elapsed`, `exit_code`,
        `reason`, `worker`, `cpu_s` and `memory_bytes_max`, missing where unknown.

        Example:
            `job.frame().memory_bytes_max.max()`

        """
        from queuectl_magics.views.frame import attempts_frame

        return attempts_frame(self.record, clock.utc_now())

    def cancel(self) -> Job:
        """Call the job off; if it is running, end its processes.

        Raises:
            RefusedError: it is over already.

        """
        self._queue.cancel(self)
        return self

    def retry(self) -> Job:
        """Give the job a fresh allowance of attempts and make it due at once.

        Raises:
            RefusedError: it is waiting to run or running.

        """
        self._queue.retry(self)
        return self

    def __eq__(self, other: object) -> bool:
        """Two handles are equal when they mean the same job of the same queue."""
        if not isinstance(other, Job):
            return NotImplemented
        return self.id == other.id and self._queue.identity == other._queue.identity

    def __hash__(self) -> int:
        return hash((self.id, self._queue.identity))

    def __repr__(self) -> str:
        try:
            record = self.record
        except UnknownJobError:
            return f"<Job {self.id}: pruned>"
        except QueuectlError as error:
            return f"<Job {self.id}: {error}>"
        return f"<{text.line(record, clock.utc_now(), None, plain=self._queue.plain)}>"

    def _repr_html_(self) -> str:
        """Return the one line of the job, for a notebook."""
        from queuectl_magics.views import markup

        try:
            record = self.record
        except QueuectlError:  # a cell must show something, and no traceback
            from html import escape

            return escape(repr(self))
        return markup.line_html(record, clock.utc_now(), self.tail(), plain=self._queue.plain)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").removesuffix("\n")


def _next_lines(path: Path, offset: int) -> tuple[bytes, int]:
    """Return what comes next in a log; a long piece ends with a line, lest a colour be torn."""
    piece, after = output.read_from(path, offset)
    end = piece.rfind(b"\n") + 1
    if len(piece) == output.CHUNK and end:
        return piece[:end], after - len(piece) + end
    return piece, after
