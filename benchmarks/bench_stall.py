"""The worst moment of a kernel's main thread while 8 processes hammer the same home.

A main thread that only wants to run every millisecond, beside a worker with two slots, notes how
late it was. The floor is the same thread with the same worker while the 8 processes hammer a home
of their own, for 8 busy processes on a few cores make everybody late: the difference is what the
shared lock and the shared journal cost. Every look at the queue by that thread is timed as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from measuring import Table, fresh, quantile

from queuectl_magics import JobQueue

HAMMERS = 8
SECONDS = float(os.environ.get("SECONDS", "5"))
REPEAT = int(os.environ.get("REPEAT", "3"))
TICK_S = 0.001
HAMMER = """
import sys, time
from queuectl_magics import JobQueue
queue = JobQueue(sys.argv[1]); end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    job = queue.enqueue("true", delay_s=3600)
    queue.cancel(job)
"""


def main() -> None:
    table = Table(
        "stall",
        f"A main thread while {HAMMERS} processes hammer",
        *("home", "late p50 ms", "p99", "worst", "a look at the counts, p50 ms", "worst"),
    )
    for turn in range(REPEAT):
        for name, same in (("another", False), ("the same", True)):
            late, looks = measure(same=same)
            figures = [quantile(late, 0.5), quantile(late, 0.99), max(late)]
            table.add(f"{name} ({turn + 1})", *figures, quantile(looks, 0.5), max(looks))
    table.show()


def measure(*, same: bool) -> tuple[list[float], list[float]]:
    """Return by how many milliseconds each tick was late, and how many each look took."""
    mine, theirs = fresh("mine") / ".queuectl", fresh("theirs") / ".queuectl"
    with JobQueue(mine) as queue:
        queue.worker(2)
        argv = [sys.executable, "-c", HAMMER, mine if same else theirs, str(SECONDS)]
        hammers = [subprocess.Popen(argv) for _ in range(HAMMERS)]
        time.sleep(1.0)  # their imports
        late, looks, end = [], [], time.perf_counter() + SECONDS - 1
        while (now := time.perf_counter()) < end:
            time.sleep(TICK_S)
            late.append((time.perf_counter() - now - TICK_S) * 1000)
            if len(late) % 10 == 0:
                began = time.perf_counter()
                repr(queue)
                looks.append((time.perf_counter() - began) * 1000)
        for hammer in hammers:
            hammer.wait()
    return late, looks


if __name__ == "__main__":
    main()
