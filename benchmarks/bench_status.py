"""What looking costs with 1,000, 10,000 and 100,000 jobs: counts, a frame, opening, memory.

Opening is compared with `json.loads` of the lines of the same files; the frame with pandas reading
the same `jobs.json`. Memory is that of the process after opening, above an empty queue's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from histories import again, ends, finished, leases
from measuring import Table, fresh, medians, seconds

from queuectl_magics import JobQueue
from queuectl_magics.job import State
from queuectl_magics.store.compaction import compact

SIZES = [int(size) for size in os.environ.get("SIZES", "1000 10000 100000").split()]
REPEAT = int(os.environ.get("REPEAT", "5"))
MEMORY = """
import os, sys
from pathlib import Path
from queuectl_magics import JobQueue
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
JobQueue(sys.argv[2]); before = held(); queue = JobQueue(sys.argv[1]); print(held() - before)
"""


def main() -> None:
    table = Table(
        "status",
        "Looking at a queue (ms; a column that begins with to is a ratio)",
        *("jobs", "counts, unchanged", "counts, one change", "status()", "DataFrame"),
        *("to pandas.read_json", "open, compacted", "open, journal only", "to json.loads"),
        *("tail of 1,000 events", "bytes a job"),
    )
    for size in SIZES:
        table.add(size, *measure(size))
    table.show()


def measure(size: int) -> list[object]:
    import pandas as pd

    home = fresh(f"status-{size}") / ".queuectl"
    queue = finished(home, size)
    reader = JobQueue(home)  # as another process would have it
    reader.frame()
    counts = [ms(lambda: counted(reader)) for _ in range(REPEAT)]
    changed, tails = [], []
    ids = [job.id for job in queue.records("pending")]
    for number in range(REPEAT):
        queue.store.transact(leases([ids[number]]))
        changed.append(ms(lambda: counted(reader)))
    for number in range(REPEAT):
        some = ids[100 * number + 10 : 100 * number + 90]
        for _ in range(6):
            queue.store.transact(leases(some))
            queue.store.transact(ends(some))
            queue.store.transact(again(some))
        tails.append(ms(reader.store.catch_up) * 1000 / (6 * 3 * len(some)))
    status = [ms(reader.status) for _ in range(REPEAT)]
    journal = home / "journal.jsonl"
    opened, lines = medians(
        REPEAT,
        lambda: ms(lambda: opening(home)),
        lambda: ms(lambda: [json.loads(line) for line in journal.open()]),
    )
    compact(queue.store)
    open_compacted = statistics.median(ms(lambda: opening(home)) for _ in range(REPEAT))
    frame, pandas_ms = medians(
        REPEAT, lambda: ms(reader.frame), lambda: ms(lambda: pd.read_json(home / "jobs.json"))
    )
    argv = [sys.executable, "-c", MEMORY, home, fresh("empty") / ".queuectl"]
    memory = int(subprocess.run(argv, capture_output=True, check=True).stdout)
    found = [statistics.median(each) for each in (counts, changed, status)]
    return [
        *found, frame, f"{frame / pandas_ms:.2f}", open_compacted, opened,
        f"{opened / lines:.2f}", statistics.median(tails), memory // size,
    ]  # fmt: skip


def counted(queue: JobQueue) -> int:
    """Ask for the counts, as a badge or a monitor does."""
    with queue.store.reading() as table:
        return sum(dict(table.counts).values()) + table.counts[State.DEAD]


def opening(home: Path) -> None:
    """Open the queue, as a new kernel would, and close it again."""
    JobQueue(home).store.close()


def ms(action: Callable[[], object]) -> float:
    return seconds(action) * 1000


if __name__ == "__main__":
    Path(fresh("status")).mkdir(exist_ok=True)
    main()
