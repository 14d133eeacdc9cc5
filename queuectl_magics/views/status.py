"""A picture of the queue at one moment.

Whoever has the store takes the picture; every view is drawn from it, so that the frame, the text
and the markup of one status agree with each other even while the queue goes on. The rule here: a
picture does not change and asks nobody; `counts` speaks of the whole queue, `jobs` may be a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from queuectl_magics.job import TERMINAL, JobRecord, State
from queuectl_magics.views.reason import reason

ASKED_FIRST = (
    State.PROCESSING,
    State.FAILED,
    State.DEAD,
    State.PENDING,
    State.CANCELLED,
    State.COMPLETED,
)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The queue as it was at `now`.

    Attributes:
        jobs: the jobs to show, in the order in which they came.
        counts: state → how many jobs of the whole queue are in it.
        now: the moment of the picture, aware, in UTC.
        workers: how many workers are running.
        slots: how many jobs the workers can run at once.
        busy: how many of the slots are taken.
        paused: whether no worker may start a job.

    Example:
        >>> from datetime import UTC
        >>> now = datetime(2026, 11, 24, 10, 51, tzinfo=UTC)
        >>> Status(jobs=(), counts={State.DEAD: 2}, now=now, workers=1, slots=2, busy=0).total
        2

    """

    jobs: tuple[JobRecord, ...]
    counts: dict[State, int]
    now: datetime
    workers: int
    slots: int
    busy: int
    paused: bool = False

    @property
    def total(self) -> int:
        """How many jobs the queue has."""
        return sum(self.counts.values())

    @property
    def over(self) -> int:
        """How many jobs are over: completed, dead or cancelled."""
        return sum(self.counts.get(state, 0) for state in TERMINAL)

    def reason(self, job: JobRecord) -> str:
        """Return why *job* stands where it stands."""
        return reason(
            job,
            self.now,
            workers=self.workers,
            slots=self.slots,
            busy=self.busy,
            paused=self.paused,
        )


def choose(
    jobs: Sequence[JobRecord], count_max: int, first: Sequence[State] = ASKED_FIRST
) -> tuple[JobRecord, ...]:
    """Return the jobs that a person would ask about first, in the order in which they came.

    Args:
        jobs: all of them, in any order.
        count_max: how many may be shown.
        first: the states in the order of their interest; of one state the newest go first.

    """
    if len(jobs) <= count_max:
        return tuple(jobs)
    boxes: dict[State, list[JobRecord]] = {state: [] for state in first}
    for job in reversed(jobs):
        boxes[job.state].append(job)
    chosen = [job for box in boxes.values() for job in box][:count_max]
    return tuple(sorted(chosen, key=lambda job: job.order))
