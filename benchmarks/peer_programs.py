"""One run of one peer: enqueue N times `true`, have two workers run them, wait for the last one.

Started as `peer_programs.py PEER N FOLDER` by the Python of the peers' own environment, so nothing
of ours is imported. Prints `{"stored_s": …, "done_s": …}`, counted from the first enqueue. A peer
that does not run commands itself gets the bare `Popen` of the floor as its job, with the output in
a file, so that each does the same work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

WORKERS = 2


def work(path: str) -> int:
    """Run one job: what the floor does."""
    with open(path, "wb") as log:
        return subprocess.Popen(
            ["sh", "-c", "true"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ).wait()


class Clock:
    """Remembers when all was stored and when all was done."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.stored_s = 0.0

    def stored(self) -> None:
        """Note that the last job has been accepted."""
        self.stored_s = time.perf_counter() - self.began

    def done(self) -> None:
        """Print the result."""
        print(json.dumps({"stored_s": self.stored_s, "done_s": time.perf_counter() - self.began}))


def in_threads(loop: Callable[[], None]) -> None:
    """Run *loop* in as many threads as there are workers, until all have returned."""
    threads = [threading.Thread(target=loop) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wait_for_files(folder: Path, pattern: str, count: int) -> None:
    """Wait until *count* files match."""
    while sum(1 for _ in folder.glob(pattern)) < count:
        time.sleep(0.01)


def naive(paths: list[str], folder: Path) -> None:
    """Run with one `jobs.json` that is read and rewritten at each change of a state."""
    file, lock = folder / "jobs.json", threading.Lock()
    file.write_text("[]")

    def change(number: int | None, state: str) -> dict[str, object] | None:
        with lock:
            jobs = json.loads(file.read_text())
            if number is None:
                job = next((job for job in jobs if job["state"] == "pending"), None)
            else:
                job = jobs[number]
            if job is not None:
                job["state"] = state
                file.write_text(json.dumps(jobs))
            return job

    clock = Clock()
    for number, path in enumerate(paths):
        jobs = json.loads(file.read_text())
        jobs.append({"id": number, "command": path, "state": "pending"})
        file.write_text(json.dumps(jobs))
    clock.stored()

    def loop() -> None:
        while (job := change(None, "processing")) is not None:
            work(str(job["command"]))
            change(int(str(job["id"])), "completed")

    in_threads(loop)
    clock.done()


def task_spooler(paths: list[str], folder: Path) -> None:
    """Run with `tsp`, which keeps the output in files of its own."""
    env = {**os.environ, "TS_SOCKET": str(folder / "s"), "TMPDIR": str(folder)}
    env["TS_SLOTS"] = str(WORKERS)
    subprocess.run(["tsp"], env=env, stdout=subprocess.DEVNULL, check=False)  # starts its server
    clock = Clock()
    for _ in paths:
        subprocess.run(["tsp", "sh", "-c", "true"], env=env, stdout=subprocess.DEVNULL, check=True)
    clock.stored()
    subprocess.run(["tsp", "-w"], env=env, stdout=subprocess.DEVNULL, check=False)
    clock.done()
    subprocess.run(["tsp", "-K"], env=env, check=False)


def nq(paths: list[str], folder: Path) -> None:
    """Run with `nq`: a folder is a queue of one slot, so two folders."""
    queues = [folder / str(number) for number in range(WORKERS)]
    for queue in queues:
        queue.mkdir()
    clock = Clock()
    for number, _ in enumerate(paths):
        env = {**os.environ, "NQDIR": str(queues[number % WORKERS])}
        argv = ["nq", "sh", "-c", "true"]
        subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=True)
    clock.stored()
    for queue in queues:
        subprocess.run(["nq", "-w"], env={**os.environ, "NQDIR": str(queue)}, check=True)
    clock.done()


def gnu_parallel(paths: list[str], folder: Path) -> None:
    """Run with GNU parallel, a file of results per job and a log of jobs."""
    argv = ["parallel", "-j", str(WORKERS), "--results", str(folder / "r")]
    argv += ["--joblog", str(folder / "log"), "sh -c true {}"]
    clock = Clock()
    clock.stored()
    given = "\n".join(str(number) for number, _ in enumerate(paths))
    subprocess.run(argv, input=given, text=True, stdout=subprocess.DEVNULL, check=True)
    clock.done()


def huey(paths: list[str], folder: Path) -> None:
    """Run with huey on SQLite, two threads."""
    from huey import SqliteHuey

    app = SqliteHuey(filename=str(folder / "huey.db"))
    task = app.task()(work)
    consumer = app.create_consumer(workers=WORKERS, worker_type="thread", initial_delay=0.001)
    clock = Clock()
    results = [task(path) for path in paths]
    clock.stored()
    consumer.start()
    while app.result_count() < len(results):
        time.sleep(0.005)
    clock.done()
    consumer.stop(graceful=False)


def rq(paths: list[str], folder: Path) -> None:
    """Run with rq, two workers that fork, and a Redis that appends to its file every second."""
    from redis import Redis
    from rq import Queue

    socket = str(folder / "redis.sock")
    argv = ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", str(folder)]
    server = subprocess.Popen([*argv, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
    while not Path(socket).exists():
        time.sleep(0.01)
    queue = Queue(connection=Redis(unix_socket_path=socket))
    worker = [str(Path(sys.executable).parent / "rq"), "worker", "--burst", "--quiet"]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    clock = Clock()
    for path in paths:
        queue.enqueue("peer_programs.work", path)
    clock.stored()
    argv = [*worker, "--url", f"unix://{socket}"]
    workers = [subprocess.Popen(argv, env=here) for _ in range(WORKERS)]
    for process in workers:
        process.wait()
    clock.done()
    server.terminate()


def persist_queue(paths: list[str], folder: Path) -> None:
    """Run with persist-queue's SQLite queue that is acknowledged."""
    import persistqueue

    queue = persistqueue.SQLiteAckQueue(str(folder), multithreading=True, auto_commit=True)
    clock = Clock()
    for path in paths:
        queue.put(path)
    clock.stored()

    def loop() -> None:
        while True:
            try:
                item = queue.get(block=False)
            except persistqueue.exceptions.Empty:
                return
            work(item)
            queue.ack(item)

    in_threads(loop)
    clock.done()


def litequeue(paths: list[str], folder: Path) -> None:
    """Run with litequeue on SQLite."""
    from litequeue import LiteQueue

    name = str(folder / "lite.db")
    queue = LiteQueue(name)
    clock = Clock()
    for path in paths:
        queue.put(path)
    clock.stored()

    def loop() -> None:
        mine = LiteQueue(name)
        while (message := mine.pop()) is not None:
            work(message.data)
            mine.done(message.message_id)

    in_threads(loop)
    clock.done()


def main() -> None:
    name, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    (folder / "logs").mkdir()
    paths = [str(folder / "logs" / f"{number}.log") for number in range(count)]
    programs: dict[str, Callable[[list[str], Path], None]] = {
        program.__name__: program
        for program in (
            *(naive, task_spooler, nq, gnu_parallel, huey, rq, persist_queue, litequeue),
        )
    }
    if name not in programs:
        import peer_programs_more

        programs = peer_programs_more.PROGRAMS
    programs[name](paths, folder)


if __name__ == "__main__":
    main()
