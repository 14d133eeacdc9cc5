"""How fast jobs are accepted: one at a time, each on disk before the call returns, and in bulk.

The floor of one at a time is one append of the same bytes and one `fdatasync`; the two take turns
in the same process. What does not sync is also measured in a loop of its own, as the peers are. In
bulk there is one sync for all, so the figure is jobs a second, beside the same jobs merely turned
into JSON.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import peers
from measuring import Table, fresh, medians, quantile, run_json, seconds

from queuectl_magics import JobQueue
from queuectl_magics.job import JobSpec

SINGLE = 300
LOOP = 100
BULK = 10_000
REPEAT = int(os.environ.get("REPEAT", "5"))


def append_and_sync(folder: Path, line: bytes) -> Callable[[], None]:
    """Return the floor: a line appended to a file and seen to the disk."""
    fd = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def act() -> None:
        os.write(fd, line)
        os.fdatasync(fd)

    return act


def timed(actions: list[Callable[[], object]], count: int) -> list[list[float]]:
    """Return the seconds of each action, taken in turns."""
    figures: list[list[float]] = [[] for _ in actions]
    for _ in range(count):
        for number, action in enumerate(actions):
            figures[number].append(seconds(action))
    return figures


def main() -> None:
    folder = fresh("enqueue")
    durable, lax = JobQueue(folder / "commit"), JobQueue(folder / "none")
    lax.configure("durability", "none")
    durable.enqueue("true")
    line = (durable.home / "journal.jsonl").read_bytes().splitlines(keepends=True)[-1]
    actions = [
        append_and_sync(folder, line),
        lambda: durable.enqueue("true"),
        lambda: lax.enqueue("true"),
    ]
    timed(actions, 20)
    figures = timed(actions, SINGLE)
    table = Table(
        "enqueue", "Enqueue one by one", "what", "p50 µs", "p99 µs", "p50 to one append + sync"
    )
    floor = statistics.median(figures[0])
    names = ("one append + fdatasync", "enqueue, durable", "enqueue, durability = none")
    for name, each in zip(names, figures, strict=True):
        middle = statistics.median(each)
        table.add(name, middle * 1e6, quantile(each, 0.99) * 1e6, f"{middle / floor:.2f}")
    took = statistics.median(looped_s() for _ in range(REPEAT))
    table.add("… in a loop of its own", f"{took * 1e6:,.0f} (mean)", "", f"{took / floor:.2f}")
    for peer in peers.PEERS:
        if peer.program not in ("litequeue", "persist_queue", "huey", "task_spooler", "queuectl"):
            continue
        missing = peers.why_missing(peer)
        if missing:
            table.add(peer.name, missing, "", "")
            continue
        took = statistics.median(stored_s(peer) for _ in range(REPEAT))
        table.add(peer.name, f"{took * 1e6:,.0f} (mean)", "", f"{took / floor:.2f}")
    table.show()

    specs = [JobSpec(command=f"python train.py --lr {number}") for number in range(BULK)]
    bulk = Table("bulk", f"Enqueue {BULK:,} at once, one sync", "what", "jobs/s", "ratio")

    def accept() -> float:
        queue = JobQueue(fresh("bulk") / ".queuectl")
        began = time.perf_counter()
        queue.enqueue_all(specs)
        return BULK / (time.perf_counter() - began)

    def encode() -> float:
        return BULK / seconds(lambda: [msgspec.json.encode(spec) for spec in specs])

    ours, json_only = medians(REPEAT, accept, encode)
    bulk.add("enqueue_all", ours, f"{ours / json_only:.2f}")
    bulk.add("the same specs as JSON, nothing else", json_only, "1.00")
    bulk.show()


def looped_s() -> float:
    """Return the mean seconds to accept one job without a sync, with nothing in between."""
    queue = JobQueue(fresh("loop") / ".queuectl")
    queue.configure("durability", "none")
    return seconds(lambda: [queue.enqueue("true") for _ in range(LOOP)]) / LOOP


def stored_s(peer: peers.Peer) -> float:
    """Return the mean seconds that *peer* takes to accept one job."""
    folder = fresh(peer.program)
    argv = [peers.PYTHON, Path(__file__).parent / "peer_programs.py", peer.program]
    env = {**os.environ, "HOME": str(folder)}
    found = run_json([*argv, str(LOOP), folder], env=env, timeout=120)
    if isinstance(found, str):
        print(f"{peer.name}: {found}", file=sys.stderr)
        return float("nan")
    return float(found["stored_s"]) / LOOP


if __name__ == "__main__":
    main()
