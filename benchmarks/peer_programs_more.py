"""More peers for `peer_programs.py`: those that are clusters or pools, and the PyPI `queuectl`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from peer_programs import WORKERS, Clock, work


def dask(paths: list[str], folder: Path) -> None:
    """Run with Dask distributed: one process, two threads; nothing is stored."""
    from distributed import Client, LocalCluster

    options = {"dashboard_address": None, "local_directory": str(folder)}
    with (
        LocalCluster(1, threads_per_worker=WORKERS, processes=False, **options) as cluster,
        Client(cluster) as client,
    ):
        clock = Clock()
        futures = client.map(work, paths, pure=False)
        clock.stored()
        client.gather(futures)
        clock.done()


def joblib(paths: list[str], folder: Path) -> None:  # noqa: ARG001
    """Run with joblib's loky, two processes that are there already; nothing is stored."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS) as pool:
        pool(delayed(abs)(number) for number in range(WORKERS))
        clock = Clock()
        clock.stored()
        pool(delayed(work)(path) for path in paths)
        clock.done()


def hyperqueue(paths: list[str], folder: Path) -> None:
    """Run with HyperQueue's cluster in the wheel, one job of many tasks; nothing is stored."""
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster(str(folder), WorkerConfig(cores=WORKERS)) as cluster:
        client = cluster.client()
        clock = Clock()
        job = Job()
        for path in paths:
            job.program(["sh", "-c", "true"], stdout=path, stderr=path)
        submitted = client.submit(job)
        clock.stored()
        client.wait_for_jobs([submitted])
        clock.done()


def queuectl(paths: list[str], folder: Path) -> None:
    """Run with the `queuectl` of PyPI, its two worker processes and its SQLite file."""
    from queuectl.config import Config
    from queuectl.queue import Queue
    from queuectl.storage import Storage

    file = str(folder / "queue.db")
    storage = Storage(file)
    queue = Queue(storage, Config(storage))
    clock = Clock()
    for _ in paths:
        queue.enqueue({"command": "true"})
    clock.stored()
    program = (
        "import sys; from queuectl.storage import Storage; from queuectl.config import Config; "
        "from queuectl.worker import Worker; from threading import Event; "
        "s = Storage(sys.argv[1]); Worker(sys.argv[2], s, Config(s), Event()).run()"
    )
    argv = [sys.executable, "-c", program, file]
    workers = [
        subprocess.Popen([*argv, str(number)], stdout=subprocess.DEVNULL, cwd=folder)
        for number in range(WORKERS)
    ]
    while storage.get_job_stats().get("completed", 0) < len(paths):
        time.sleep(0.01)
    clock.done()
    for worker in workers:
        worker.kill()


PROGRAMS: dict[str, Callable[[list[str], Path], None]] = {
    program.__name__: program for program in (dask, joblib, hyperqueue, queuectl)
}
