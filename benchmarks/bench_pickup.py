"""From the call that enqueues to the first word of the command, while the worker is idle.

The command writes into a named pipe, and a witness, a process of its own, says when it has read
it: whoever enqueued may still be waiting for the disk then. The floor is a bare `Popen` in a
thread of a pool, for a notebook must not stand still; beside it are the same in the thread that
asks, and a floor that first appends a line to a file and waits for the disk, for every enqueue is
durable. Ours is measured with the worker in the enqueuing process (the notebook), and with it in
another. All take turns, and each is a process of its own that rests in between, as a notebook
does: in one process for all, whatever starts processes would keep the caches warm for the others.
A first round is not counted: in it each home keeps the environment.
"""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import peers
from measuring import Table, bare, fresh, quantile

from queuectl_magics import JobQueue

SAMPLES = int(os.environ.get("SAMPLES", "60"))
PAUSE_S = 0.02
FLOOR, SYNCED = "floor: bare Popen, thread pool", "… after an append and fdatasync"
ASKING = "… in the thread that asks"
HERE, THERE = "in the process of the worker", "from another process"
PEERS = {"tsp": "task-spooler", "nq": "nq"}
WORKER = """
import sys, time
from queuectl_magics import JobQueue
queue = JobQueue(sys.argv[1]); queue.worker(2); print("ready", flush=True); sys.stdin.read()
"""
WITNESS = """
import os, struct, sys, time
pipe = os.open(sys.argv[1], os.O_RDWR)
while True:
    os.read(pipe, 16); os.write(1, struct.pack("d", time.perf_counter()))
"""


class Asking:
    """A process that starts the command each time it is asked to."""

    def __init__(self, way: str, folder: Path, pipe: Path) -> None:
        argv = [sys.executable, __file__, "--ask", way, folder, pipe]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.says()  # that it is ready

    def ask(self) -> None:
        """Let it start the command."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)

    def says(self) -> float:
        """Return when it began to."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    folder = fresh("pickup")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    witness = subprocess.Popen([sys.executable, "-c", WITNESS, pipe], stdout=subprocess.PIPE)
    assert witness.stdout is not None
    here = {peer.command for peer in peers.PEERS if not peers.why_missing(peer)}
    ways = [FLOOR, ASKING, SYNCED, HERE, THERE, *(PEERS[name] for name in PEERS if name in here)]
    asking = {way: Asking(way, folder, pipe) for way in ways}
    table = Table(
        "pickup", "Pick-up", "what", "p50 ms", "p99 ms", "p50 to the floor", "… with a sync"
    )
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(SAMPLES + 1):
        for way, process in asking.items():
            process.ask()
            (seen,) = struct.unpack("d", witness.stdout.read(8))
            began = process.says()
            if number > 0:
                took[way].append((seen - began) * 1000)
            time.sleep(PAUSE_S)
    floor, synced = quantile(took[FLOOR], 0.5), quantile(took[SYNCED], 0.5)
    for way, each in took.items():
        middle = quantile(each, 0.5)
        table.add(
            way, middle, quantile(each, 0.99), f"{middle / floor:.2f}", f"{middle / synced:.2f}"
        )
    for peer in peers.PEERS:
        if peer.command in PEERS and peers.why_missing(peer):
            table.add(peer.name, peers.why_missing(peer), "", "", "")
    table.show()
    for process in asking.values():
        process.end()
    witness.kill()
    if "tsp" in here:  # its server stays otherwise
        env = {**os.environ, "TS_SOCKET": str(folder / "s")}
        subprocess.run(["tsp", "-K"], env=env, check=False)


def ask(way: str, folder: Path, pipe: str) -> None:
    """Be the process of one way: at each line that is read start the command, and say when."""
    command = f"echo x > {pipe}"
    logs = (folder / f"{os.getpid()}.{number}.log" for number in itertools.count())
    if way == HERE:
        start = in_this_process(folder / "mine", command)
    elif way == THERE:
        start = in_another_process(folder / "other", command)
    elif way in PEERS.values():
        start = by_a_command(way, command, folder)
    else:
        start = by_popen(way, command, logs, folder)
    print(0.0, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        left = start()
        print(began, flush=True)
        if isinstance(left, Future):
            left = left.result()
        if isinstance(left, subprocess.Popen):
            left.wait()


def in_this_process(home: Path, command: str) -> Callable[[], object]:
    """Return how a notebook enqueues."""
    queue = JobQueue(home)
    queue.worker(2)
    return lambda: queue.enqueue(command)


def in_another_process(home: Path, command: str) -> Callable[[], object]:
    """Return how one enqueues whose worker is elsewhere."""
    queue = JobQueue(home)
    argv = [sys.executable, "-c", WORKER, home]
    there = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert there.stdout is not None
    there.stdout.readline()
    return lambda: there and queue.enqueue(command)


def by_popen(way: str, command: str, logs: Iterator[Path], folder: Path) -> Callable[[], object]:
    """Return how the floor starts it."""
    pool = ThreadPoolExecutor(2)
    if way == ASKING:
        return lambda: bare(command, next(logs))
    if way == FLOOR:
        return lambda: pool.submit(bare, command, next(logs))
    return lambda: (sync(folder), pool.submit(bare, command, next(logs)))[1]


def sync(folder: Path) -> None:
    """Append a line to a file and wait for the disk."""
    fd = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"x" * 300 + b"\n")
    os.fdatasync(fd)
    os.close(fd)


def by_a_command(peer: str, command: str, folder: Path) -> Callable[[], object]:
    """Return how a peer is called that is a command itself."""
    given = {"TS_SOCKET": str(folder / "s"), "TMPDIR": str(folder), "NQDIR": str(folder / "nq")}
    name = "tsp" if peer == "task-spooler" else peer
    return lambda: subprocess.run(
        [name, "sh", "-c", command],
        env={**os.environ, **given},
        stdout=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        ask(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
    else:
        main()
