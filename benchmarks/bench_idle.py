"""What a worker with nothing to do costs: CPU and wake-ups of a process over half a minute.

Beside it, in the same half minute, a Python process that only sleeps, and one whose worker watches
a job that runs for minutes. Linux only: the figures are the kernel's own counters.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from measuring import Table, fresh

WINDOW_S = float(os.environ.get("WINDOW_S", "30"))
SETTLE_S = 4.0
SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"
WORKER = """
import sys
from queuectl_magics import JobQueue
queue = JobQueue(sys.argv[1]); queue.worker(2)
for command in sys.argv[2:]:
    queue.enqueue(command, timeout_s=600)
print("ready", flush=True); sys.stdin.read()
"""


def spent(pid: int) -> tuple[float, int]:
    """Return the CPU seconds and the wake-ups of all threads of *pid* so far."""
    nanoseconds = wakeups = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                wakeups += int(line.split()[1])
    return nanoseconds / 1e9, wakeups


def main() -> None:
    long = f"sleep {WINDOW_S + 30}"
    programs = {
        "a Python that sleeps": [SLEEPER],
        "a worker, nothing to do": [WORKER, str(fresh("idle") / ".queuectl")],
        "a worker, one job that runs": [WORKER, str(fresh("busy") / ".queuectl"), long],
    }
    started = {}
    for name, arguments in programs.items():
        argv = [sys.executable, "-c", *arguments]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        started[name] = process
    time.sleep(SETTLE_S)
    before = {name: spent(process.pid) for name, process in started.items()}
    time.sleep(WINDOW_S)
    table = Table("idle", f"Idle for {WINDOW_S:g} s", "what", "% of a core", "wake-ups a second")
    for name, process in started.items():
        cpu_s, wakeups = spent(process.pid)
        cpu_s, wakeups = cpu_s - before[name][0], wakeups - before[name][1]
        table.add(name, f"{100 * cpu_s / WINDOW_S:.4f}", f"{wakeups / WINDOW_S:.2f}")
        process.kill()
    table.show()


if __name__ == "__main__":
    main()
