"""The workers as text; `markup` has them as a table.

They are few, so each gets a sentence. The rule here: what a worker says of itself is shown, and
nothing that could be mistaken for a way to end it by its pid.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from queuectl_magics.presence import WorkerInfo
from queuectl_magics.views.words import NO_WORKERS, ago, one_line


def workers(found: Sequence[WorkerInfo], now: datetime) -> str:
    """Return a line per worker, or one that says there is none."""
    if not found:
        return NO_WORKERS
    return "\n".join(worker_line(worker, now) for worker in found)


def worker_line(worker: WorkerInfo, now: datetime) -> str:
    """Return the one line of a worker."""
    side = "one job at a time" if worker.count == 1 else f"{worker.count} jobs side by side"
    since = ago(worker.started_at, now)
    return f"Worker {one_line(worker.name)} in a {one_line(worker.kind)}: {side}, started {since}"
