"""From the call that enqueues to the first word of the command, while the worker is idle.

The command writes into a named pipe, and a witness, a process of its own, says when it has read
it: whoever enqueued may still be waiting for the disk then. The floor is a bare `Popen` in a
thread of a pool, for a notebook must not stand still, and all take turns; beside it are the same
in the thread that asks, and a floor that first appends a line to a file and waits for the disk,
for every enqueue is durable. Once with the worker in the enqueuing process (the notebook), and
once with it in another. A first round is not counted: in it each home keeps the environment.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import peers
from measuring import Table, fresh, quantile

from queuectl_magics import JobQueue

SAMPLES = int(os.environ.get("SAMPLES", "60"))
PAUSE_S = 0.02
FLOOR, SYNCED = "floor: bare Popen, thread pool", "… after an append and fdatasync"
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


def main() -> None:
    folder = fresh("pickup")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    witness = subprocess.Popen([sys.executable, "-c", WITNESS, pipe], stdout=subprocess.PIPE)
    assert witness.stdout is not None
    command = f"echo x > {pipe}"
    mine, other = JobQueue(folder / "mine"), JobQueue(folder / "other")
    mine.worker(2)
    argv = [sys.executable, "-c", WORKER, other.home]
    there = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert there.stdout is not None
    there.stdout.readline()
    pool = ThreadPoolExecutor(2)
    starters: dict[str, Callable[[], object]] = {
        FLOOR: lambda: pool.submit(bare, command, folder),
        "… in the thread that asks": lambda: bare(command, folder),
        SYNCED: lambda: (sync(folder), pool.submit(bare, command, folder))[1],
        "in the process of the worker": lambda: mine.enqueue(command),
        "from another process": lambda: other.enqueue(command),
    }
    starters |= command_line_peers(command, folder)
    table = Table(
        "pickup", "Pick-up", "what", "p50 ms", "p99 ms", "p50 to the floor", "… with a sync"
    )
    took: dict[str, list[float]] = {name: [] for name in starters}
    for number in range(SAMPLES + 1):
        for name, start in starters.items():
            began = time.perf_counter()
            left = start()
            (seen,) = struct.unpack("d", witness.stdout.read(8))
            if number > 0:
                took[name].append((seen - began) * 1000)
            if isinstance(left, Future):
                left = left.result()
            if isinstance(left, subprocess.Popen):
                left.wait()
            time.sleep(PAUSE_S)
    floor, synced = quantile(took[FLOOR], 0.5), quantile(took[SYNCED], 0.5)
    for name, each in took.items():
        middle = quantile(each, 0.5)
        table.add(
            name, middle, quantile(each, 0.99), f"{middle / floor:.2f}", f"{middle / synced:.2f}"
        )
    for peer in peers.PEERS:
        if peer.command in ("tsp", "nq") and peers.why_missing(peer):
            table.add(peer.name, peers.why_missing(peer), "", "", "")
    table.show()
    witness.kill()
    there.kill()
    mine.close()
    if "task-spooler" in starters:  # its server stays otherwise
        env = {**os.environ, "TS_SOCKET": str(folder / "s")}
        subprocess.run(["tsp", "-K"], env=env, check=False)


def sync(folder: Path) -> None:
    """Append a line to a file and wait for the disk."""
    fd = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, b"x" * 300 + b"\n")
    os.fdatasync(fd)
    os.close(fd)


def bare(command: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the command as the floor does."""
    with open(folder / "floor.log", "wb") as log:
        return subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=log, start_new_session=True
        )


def command_line_peers(command: str, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the peers that are started from a command line."""
    here = {peer.command for peer in peers.PEERS if not peers.why_missing(peer)}
    found: dict[str, Callable[[], object]] = {}
    if "tsp" in here:
        tsp = {**os.environ, "TS_SOCKET": str(folder / "s"), "TMPDIR": str(folder)}
        found["task-spooler"] = lambda: subprocess.run(
            ["tsp", "sh", "-c", command], env=tsp, stdout=subprocess.DEVNULL, check=True
        )
    if "nq" in here:
        nq = {**os.environ, "NQDIR": str(folder / "nq")}
        found["nq"] = lambda: subprocess.run(
            ["nq", "sh", "-c", command], env=nq, stdout=subprocess.DEVNULL, check=True
        )
    return found


if __name__ == "__main__":
    main()
