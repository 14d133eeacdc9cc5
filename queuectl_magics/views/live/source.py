"""What a live table asks of a queue.

The table knows no store and no queue: whoever has one answers these questions, and a test or a
benchmark answers them with jobs made by hand. The rule here: every answer is quick and comes from
any thread; `changes` holds nothing back and promises nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from queuectl_magics.job import JobRecord


class Changes(NamedTuple):
    """What happened since the last look.

    Attributes:
        seq: ask from here the next time.
        jobs: the jobs that are new or have changed, in the order of enqueueing.
        gone: ids of jobs that were pruned.
        whole: these are all jobs there are: forget what you knew.

    """

    seq: int
    jobs: Sequence[JobRecord]
    gone: Sequence[str] = ()
    whole: bool = False


class Standing(NamedTuple):
    """How the queue stands, apart from its jobs."""

    paused: bool
    workers: int
    slots: int


class Source(Protocol):
    """A queue, as far as the live table needs one."""

    @property
    def title(self) -> str:
        """What the queue is called."""

    def changes(self, since: int | None) -> Changes:
        """Return what changed after *since*; everything for None."""

    def standing(self) -> Standing:
        """Return whether the queue is paused, and who works on it."""

    def output_size(self, id: str, attempt: int) -> int:
        """Return how many bytes that attempt has printed."""

    def output(self, id: str, attempt: int, offset: int, limit: int) -> tuple[bytes, int]:
        """Return at most *limit* bytes of what it printed, and where to go on."""

    def cancel(self, ids: Iterable[str]) -> int:
        """Call off those of these jobs that can be, and return how many."""

    def retry(self, ids: Iterable[str]) -> int:
        """Retry those of these jobs that can be, and return how many."""

    def pause(self) -> None:
        """Start no job any more."""

    def resume(self) -> None:
        """Start jobs again."""
