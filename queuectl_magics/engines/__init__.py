"""Engines: where commands run.

An engine places an attempt somewhere, waits for its end, and can find it again when the worker
that started it is gone. It decides nothing: whether an exit means another attempt is the
lifecycle's business. The rule here: `prepare` runs before the lease is written and must leave
behind something by which any other process can tell whether the attempt lives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from queuectl_magics.job import Exit, JobRecord

CANNOT_START = 126


class Vanished:
    """An attempt that is over without an exit record; `started` says whether it ever began."""

    def __init__(self, *, started: bool) -> None:
        self.started = started


class Running(Protocol):
    """One attempt that has been placed."""

    job: JobRecord

    def begin(self) -> None:
        """Start it, if that is still to be done; what goes wrong there is its end."""

    def wait(self) -> Exit | Vanished:
        """Begin it, and return how it ended, once nothing of it is left; sleeps until then."""

    def record(self) -> Exit | Vanished | None:
        """Return what is written down of its end, for who cannot wait; None before that."""

    def signal(self, number: int, *, again: bool = False) -> int:
        """Send a signal to all its processes and return to how many it went.

        *Again* it goes to those alone that cannot have heard it.
        """

    def age_s(self) -> float:
        """Return for how many seconds it has been running."""

    def printed_bytes(self) -> int:
        """Return how much it has printed."""

    def limit_output(self, bytes_max: int) -> None:
        """Drop the middle of its output beyond *bytes_max*."""


class Engine(Protocol):
    """A place where commands run."""

    def prepare(self, job: JobRecord, attempt: int, token: str) -> object:
        """Make ready for that attempt of *job*; called with the store locked, so be quick."""

    def abandon(self, prepared: object) -> None:
        """Undo `prepare`: the lease was not granted."""

    def place(self, job: JobRecord, prepared: object, environ: Mapping[str, str]) -> Running:
        """Return the leased attempt of *job*, which is yet to begin, in that environment."""

    def find(self, job: JobRecord) -> Running | Exit | Vanished:
        """Look for the current attempt of *job*, which some other worker started."""

    def beside(self, job: JobRecord) -> Running:
        """Return the current attempt of *job*, of which a living worker takes care."""

    def forget(self, job: JobRecord) -> None:
        """Tidy up after an attempt whose end is in the journal: no more than its output stays."""

    def sweep(self, current: Collection[JobRecord]) -> None:
        """Remove what is left of all attempts but those of *current*; store locked, synced."""

    def close(self) -> None:
        """Remove what was kept for further attempts."""
