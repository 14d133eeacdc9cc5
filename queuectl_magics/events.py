"""Facts, in the past tense: everything that can happen to a job.

An event is one line of the journal. It records decisions (the moment a retry is due, the reason a
job died) so that a replay never has to decide again. The rule here: a new kind of fact gets a
class here, a column in `lifecycle.TRANSITIONS`, and a new journal format if an older reader would
misunderstand it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from queuectl_magics.job import JobRecord

SIGTERM = 15  # by POSIX; only to know that, the module signal is not worth loading


class Event(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="op"
):
    """Something that happened at `at` to the job `id`."""

    at: datetime
    id: str


class Enqueued(Event, frozen=True, kw_only=True, omit_defaults=True, tag="enqueued"):
    """A job was accepted; `job` is its record as it starts out, at `at`."""

    job: JobRecord


class Leased(Event, frozen=True, kw_only=True, omit_defaults=True, tag="leased"):
    """`worker` got the right to run attempt `attempt`; `token` marks its processes."""

    attempt: int
    worker: str
    token: str


class Ended(Event, frozen=True, kw_only=True, omit_defaults=True, tag="ended"):
    """What the ways in which an attempt can end have in common; never written as such.

    `finished_at` is set when it ended before it was noticed, while no worker was there.
    """

    attempt: int
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str | None = None
    cpu_s: float | None = None
    memory_bytes_max: int | None = None


class Succeeded(Ended, frozen=True, kw_only=True, omit_defaults=True, tag="succeeded"):
    """The attempt ended with exit code 0."""


class Failed(Ended, frozen=True, kw_only=True, omit_defaults=True, tag="failed"):
    """The attempt failed and the next one is due at `due_at`."""

    due_at: datetime


class Died(Ended, frozen=True, kw_only=True, omit_defaults=True, tag="died"):
    """The job's allowance is spent: it is a dead letter."""


class Cancelled(Ended, frozen=True, kw_only=True, omit_defaults=True, tag="cancelled"):
    """Someone called the job off; if it was running, its processes are gone by now."""


class Interrupted(Ended, frozen=True, kw_only=True, omit_defaults=True, tag="interrupted"):
    """The attempt vanished without an exit record, or was handed back; `counted` if it cost."""

    counted: bool = True


class StopRequested(Event, frozen=True, kw_only=True, omit_defaults=True, tag="stop_requested"):
    """Attempt `attempt` is to be ended because of `why`; written before the first signal.

    `signal` is what its processes are sent first; the grace of the job later they are killed.
    """

    attempt: int
    why: str
    signal: int = SIGTERM


class Retried(Event, frozen=True, kw_only=True, omit_defaults=True, tag="retried"):
    """Someone gave the job a fresh allowance."""


class Pruned(Event, frozen=True, kw_only=True, omit_defaults=True, tag="pruned"):
    """The job was dropped from the store."""


JobEvent = (
    Enqueued
    | Leased
    | Succeeded
    | Failed
    | Died
    | Cancelled
    | Interrupted
    | StopRequested
    | Retried
    | Pruned
)
