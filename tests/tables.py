"""Events for tables: what the tests of the table, by example and at random, fold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from queuectl_magics.events import Enqueued, Leased
from queuectl_magics.job import JobRecord, State

T0 = datetime(2025, 11, 4, 10, 0, tzinfo=UTC)
STATES = ["pending", "processing", "completed", "failed", "dead", "cancelled"]


def seconds(count: float) -> datetime:
    """Return the moment *count* seconds after the tests begin."""
    return T0 + timedelta(seconds=count)


def enqueued(
    id: str, *, priority: int = 0, due_at: datetime | None = None, **keys: object
) -> Enqueued:
    """Return the event that brings a job into being."""
    job = JobRecord(
        id=id,
        command="true",
        state=State.PENDING,
        attempts=0,
        max_retries=3,
        created_at=T0,
        updated_at=T0,
        priority=priority,
        due_at=due_at,
        **keys,
    )
    return Enqueued(at=T0, id=id, job=job)


def leased(id: str, attempt: int = 1) -> Leased:
    """Return the event that gives an attempt to a worker."""
    return Leased(at=T0, id=id, attempt=attempt, worker="w", token="t")


def ids(jobs: Iterable[JobRecord]) -> list[str]:
    """Return the ids of *jobs*, in their order."""
    return [job.id for job in jobs]
