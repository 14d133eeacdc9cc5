"""What the tests of the store share: decisions to give to `Store.transact`, and ways to look."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import pytest

from queuectl_magics import lifecycle
from queuectl_magics.events import JobEvent
from queuectl_magics.job import Exit, JobRecord, JobSpec
from queuectl_magics.store import Store
from queuectl_magics.store.compaction import compact
from queuectl_magics.table import Table

Decision = Callable[[Table, datetime], Iterable[JobEvent]]

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # what is synced there is quick
POINTS_OF_COMPACTION = [
    "snapshot-written",
    "announced",
    "journal-written",
    "previous-kept",
    "jobs-renamed",
    "jobs-durable",
    "journal-renamed",
    "journal-durable",
]


# --- decisions ----------------------------------------------------------------------------------


def enqueue(
    *ids: str, backoff_base: float = 2.0, env_ref: str | None = None, **words: str
) -> Decision:
    """Return a decision that brings jobs into being; three failures and they are dead.

    *words* are texts of the specification; `{id}` in them is the id of the job.
    """
    policy = {"max_retries": 3, "backoff_base": backoff_base, "backoff_cap_s": 60.0}

    def accepted(id: str, now: datetime) -> JobEvent:
        spec = {key: word.format(id=id) for key, word in {"command": "true", **words}.items()}
        job = lifecycle.new_job(JobSpec(**spec), id=id, due_from=now, env_ref=env_ref, **policy)
        return lifecycle.enqueue(job, now=now)

    return lambda _, now: [accepted(id, now) for id in ids]


def change(id: str, verb: Callable[..., JobEvent], *arguments: object, **keys: object) -> Decision:
    """Return a decision that does to a job what *verb* of the lifecycle says."""
    return lambda table, now: [verb(table.jobs[id], *arguments, now=now, **keys)]


def lease(id: str) -> Decision:
    """Return a decision that gives a job to a worker."""
    return change(id, lifecycle.lease, worker="w", token="t")


def settle(id: str, code: int = 0) -> Decision:
    """Return a decision that ends a job's attempt."""

    def decide(table: Table, now: datetime) -> list[JobEvent]:
        job = table.jobs[id]
        return [lifecycle.settle(job, job.attempt, Exit(code=code, finished_at=now))]

    return decide


def cancel(id: str) -> Decision:
    """Return a decision that calls a job off."""
    return change(id, lifecycle.cancel)


def prune(id: str) -> Decision:
    """Return a decision that drops a job that is over."""
    return change(id, lifecycle.prune)


# --- crashes ------------------------------------------------------------------------------------


def crash_while_compacting(store: Store, point: str) -> None:
    """Begin a compaction that comes no further than to *point*."""

    def crash(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    store.at = crash
    with pytest.raises(KeyboardInterrupt):
        compact(store)


# --- looking ------------------------------------------------------------------------------------


def read_anew(home: Path) -> Table:
    """Return the table as somebody sees it who reads all files anew."""
    fresh = Store(home)
    fresh.close()
    return fresh.table


def reread(home: Path) -> dict[str, JobRecord]:
    """Return the jobs as somebody sees them who reads all files anew."""
    return read_anew(home).jobs


class Counted:
    """Counts the calls of functions of `os`, and the bytes that they moved."""

    def __init__(self, patch: pytest.MonkeyPatch, *names: str) -> None:
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        for name in names:
            patch.setattr(os, name, self.counting(name, getattr(os, name)))

    def counting(self, name: str, function: Callable) -> Callable:
        """Return *function*, counted."""

        def counted(*args, **keys):
            self.calls[name] += 1
            found = function(*args, **keys)
            if name in ("write", "pread"):
                self.bytes[name] += found if name == "write" else len(found)
            return found

        return counted
