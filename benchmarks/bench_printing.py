"""What a job that prints as fast as it can costs the process of its worker, a kernel for most.

The same command writes into a bare file, which then holds all of it; into a pipe that a thread
reads, as many runners do, which then keep it in memory or write it again; and as a job of ours,
of which the default limit of output is kept. The CPU time is that of the process that started it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from measuring import Table, fresh

from queuectl_magics import JobQueue

GIGABYTES = float(os.environ.get("GIGABYTES", "4"))
COMMAND = f"head -c {GIGABYTES * 1e9:.0f} /dev/zero"


def into_a_file(log: Path) -> None:
    with log.open("wb") as opened:
        subprocess.run(COMMAND, shell=True, stdout=opened, check=True)


def through_a_pipe(log: Path) -> None:
    with (
        log.open("wb") as opened,
        subprocess.Popen(COMMAND, shell=True, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        while piece := process.stdout.read1(1 << 16):
            opened.write(piece)


def own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    folder = fresh("printing")
    table = Table(
        "printing",
        f"A command that prints {GIGABYTES:g} GB",
        "where it goes",
        "GB/s",
        "CPU s per GB of who started it",
        "MB on disk",
    )

    def measure(name: str, log: Path, run: Callable[[Path], None]) -> None:
        cpu_s, began = own_cpu_s(), time.perf_counter()
        run(log)
        took, cpu_s = time.perf_counter() - began, own_cpu_s() - cpu_s
        held = log.stat().st_blocks * 512 / 1e6
        table.add(name, GIGABYTES / took, f"{cpu_s / GIGABYTES:.4f}", held)

    measure("a bare file", folder / "file", into_a_file)
    (folder / "file").unlink()
    measure("a pipe, and a thread that writes it down", folder / "pipe", through_a_pipe)
    (folder / "pipe").unlink()
    with JobQueue(folder / ".queuectl") as queue:
        queue.worker()
        measure(
            "a job", queue.store.paths.logs / "1.1.log", lambda _: queue.enqueue(COMMAND).wait()
        )
    table.show()


if __name__ == "__main__":
    main()
