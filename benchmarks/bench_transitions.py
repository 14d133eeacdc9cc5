"""What one change costs with a history of 1,000 to 1,000,000 events: it should not depend on it.

Each history has a queue of its own, `durability = none` so that the disk does not hide the rest;
the queues take turns, so that what else the machine does hits all alike. A naive `jobs.json` that
is read and rewritten takes its turns too, up to 10,000 jobs.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

from histories import ends, finished, leases
from measuring import Table, fresh, seconds

SIZES = [int(n) for n in os.environ.get("SIZES", "1000 10000 100000 1000000").split()]
TURNS = 200
PENDING = 250
NAIVE_MAX = 10_000


def main() -> None:
    changes: dict[str, Callable[[int], object]] = {}
    for size in SIZES:
        jobs = size // 3 + PENDING
        queue = finished(fresh(f"history-{size}") / ".queuectl", jobs, pending=PENDING)
        first = jobs - PENDING + 1

        def change(turn: int, queue=queue, first=first) -> None:  # noqa: ANN001
            queue.store.transact(leases([str(first + turn)]))
            queue.store.transact(ends([str(first + turn)]))

        changes[f"{size:,} events"] = change
        if jobs <= NAIVE_MAX:
            changes[f"{size:,} events, naive jobs.json"] = naive(fresh("naive"), jobs)
    took: dict[str, list[float]] = {name: [] for name in changes}
    for turn in range(TURNS):
        for name, change in changes.items():
            if "naive" not in name or turn < TURNS // 10:
                took[name].append(seconds(lambda: change(turn)) / 2)  # noqa: B023
    table = Table("transitions", "One change", "history", "p50 µs", "changes/s", "to the first")
    first_s = statistics.median(next(iter(took.values())))
    for name, each in took.items():
        middle = statistics.median(each)
        table.add(name, middle * 1e6, 1 / middle, f"{middle / first_s:.2f}")
    table.show()


def naive(folder: Path, count: int) -> Callable[[int], None]:
    """Return a change of state in a file that is rewritten."""
    file = folder / "jobs.json"
    file.write_text(
        json.dumps([{"id": n, "command": "python x.py", "state": "pending"} for n in range(count)])
    )

    def change(turn: int) -> None:
        for state in ("processing", "completed"):
            jobs = json.loads(file.read_text())
            jobs[turn]["state"] = state
            file.write_text(json.dumps(jobs))

    return change


if __name__ == "__main__":
    main()
