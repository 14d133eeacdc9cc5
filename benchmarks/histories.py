"""Queues with a long past, made straight through the store: nothing is run.

Every job is enqueued, leased and has succeeded, as `%enqueue python train.py …` would leave it;
the last ones are left pending, for whoever wants to do something with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from queuectl_magics import JobQueue, lifecycle
from queuectl_magics.events import JobEvent
from queuectl_magics.job import Exit, JobRecord, JobSpec
from queuectl_magics.table import Table

BATCH = 5_000
LEFT_PENDING = 500


def finished(home: Path, jobs: int, *, pending: int = LEFT_PENDING) -> JobQueue:
    """Return a queue with *jobs* jobs in *home*; all but the last *pending* have succeeded."""
    queue = JobQueue(home)
    queue.configure("durability", "none")
    for start in range(0, jobs, BATCH):
        numbers = range(start, min(start + BATCH, jobs))
        queue.enqueue_all([JobSpec(command=f"python train.py --lr {n / 7:.6f}") for n in numbers])
        ids = [str(number + 1) for number in numbers if number < jobs - pending]
        queue.store.transact(leases(ids))
        queue.store.transact(ends(ids))
    return queue


def leases(ids: list[str]) -> object:
    """Return a decision that leases these jobs."""

    def decide(table: Table, now: datetime) -> Iterator[JobEvent]:
        for id in ids:
            yield lifecycle.lease(table.jobs[id], worker="1-abcdef", token="01234567", now=now)

    return decide


def ends(ids: list[str]) -> object:
    """Return a decision by which these jobs have succeeded."""

    def decide(table: Table, now: datetime) -> Iterator[JobEvent]:
        for id in ids:
            yield end(table.jobs[id], now)

    return decide


def again(ids: list[str]) -> object:
    """Return a decision that gives these jobs a fresh allowance."""
    return lambda table, now: [lifecycle.retry(table.jobs[id], now=now) for id in ids]


def end(job: JobRecord, now: datetime) -> JobEvent:
    """Return the event by which *job* has succeeded."""
    done = Exit(code=0, finished_at=now, cpu_s=0.012345, memory_bytes_max=12_345_678)
    event = lifecycle.settle(job, job.attempt, done, now=now)
    assert event is not None
    return event
