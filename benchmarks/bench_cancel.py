"""How soon a running job is over when it is cancelled.

From the call of `cancel` to the state `cancelled`, once all processes of the job have ended: with
the worker in the same process, and in another one. The job is a `sleep` that has begun. The floor
is what cannot be avoided: SIGTERM to a bare `sleep`, until it is reaped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from measuring import Table, fresh, quantile

from queuectl_magics import JobQueue

SAMPLES = int(os.environ.get("SAMPLES", "100"))


def floor_ms() -> float:
    sleep = subprocess.Popen(["sleep", "600"], start_new_session=True)
    began = time.perf_counter()
    sleep.terminate()
    sleep.wait()
    return (time.perf_counter() - began) * 1000


def cancel_ms(queue: JobQueue) -> float:
    job = queue.enqueue("echo begun; sleep 600")
    while job.output != "begun\n":
        time.sleep(0.002)
    began = time.perf_counter()
    job.cancel()
    while job.state != "cancelled":
        time.sleep(0.0005)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    folder = fresh("cancel")
    table = Table(
        "cancel", "Cancel a running job", "the worker is", "p50 ms", "p99 ms", "worst ms"
    )

    def measure(name: str, once: Callable[[], float]) -> None:
        took = [once() for _ in range(SAMPLES)]
        table.add(name, quantile(took, 0.5), quantile(took, 0.99), max(took))

    measure("none: a bare sleep and SIGTERM", floor_ms)
    with JobQueue(folder / "near") as queue:
        queue.worker()
        measure("in this process", lambda: cancel_ms(queue))
    with JobQueue(folder / "far") as queue:
        argv = [sys.executable, "-m", "queuectl_magics", "--home", str(queue.home)]
        worker = subprocess.Popen([*argv, "worker", "start"], stdout=subprocess.DEVNULL)
        measure("in another process", lambda: cancel_ms(queue))
        worker.terminate()
        worker.wait()
    table.show()


if __name__ == "__main__":
    main()
