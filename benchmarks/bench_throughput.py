"""Jobs from the first enqueue to the last end, per second: ours, the floor and the peers.

2 slots, `true` in `sh`, the output of each in a file. Ours with everything on: durable, results in
the journal, jobs that survive the kernel. Every run, of ours, of a peer and of the floor alike, is
in a process of its own and stands between two runs of the floor; the ratio to those two is the
figure that counts. Also: the same with 10,000 jobs stored already, and from a process that holds
2 GB. A row for the floor in a process that has slept for two seconds: Linux lets such a one
preempt its children sooner, which makes it a sixth faster, and us not.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import peers
from measuring import SLOTS, Table, bracketed, floor_jobs_per_s, fresh, run_json

JOBS = 2_000
STORED = 10_000
BALLAST_BYTES = 2_000_000_000
REST_S = 2.0
WARM_UP = 200
REPEAT = int(os.environ.get("REPEAT", "5"))


def ours(count: int, *, stored: int = 0, ballast: int = 0) -> float:
    """Run *count* jobs in a process of its own, and return jobs a second."""
    argv = [sys.executable, __file__, "--one", str(count), str(stored), str(ballast)]
    found = run_json([*argv, str(fresh("ours"))])
    if isinstance(found, str):
        sys.exit(found)
    return count / float(found)


def floor(count: int, *, rest_s: float = 0.0) -> float:
    """Run *count* bare processes from a process of its own, and return jobs a second."""
    found = run_json([sys.executable, __file__, "--floor", str(count), str(rest_s)])
    if isinstance(found, str):
        sys.exit(found)
    return float(found)


def one_floor(count: int, rest_s: float) -> float:
    """Return the floor's jobs a second in this process, after a short run and a rest."""
    floor_jobs_per_s(WARM_UP)
    time.sleep(rest_s)
    return floor_jobs_per_s(count)


def one(count: int, stored: int, ballast: int, folder: Path) -> float:
    """Return the seconds that *count* jobs take, from the first enqueue to the last end."""
    from queuectl_magics import JobQueue
    from queuectl_magics.job import JobSpec, State

    held = bytearray(ballast)
    held[::4096] = b"x" * len(held[::4096])
    with JobQueue(folder / ".queuectl") as queue:
        if stored:
            for job in queue.enqueue_all([JobSpec(command="true")] * stored):
                job.id  # noqa: B018
            queue.cancel(*range(1, stored + 1))
        began = time.perf_counter()
        queue.enqueue_all([JobSpec(command="true")] * count)
        queue.worker(SLOTS)
        queue.wait()
        took = time.perf_counter() - began
        assert queue.store.table.counts[State.COMPLETED] == count
    assert len(held) == ballast
    return took


def peer_rate(peer: peers.Peer) -> float:
    """Run *peer* once and return jobs a second; NaN with the reason printed if it fails."""
    folder = fresh(peer.program)
    argv = [peers.PYTHON, Path(__file__).parent / "peer_programs.py", peer.program]
    env = {**os.environ, "HOME": str(folder)}
    found = run_json([*argv, str(peer.jobs), folder], env=env, timeout=120)
    if isinstance(found, str):
        print(f"{peer.name}: {found}", file=sys.stderr)
        return float("nan")
    return peer.jobs / float(found["done_s"])


def main() -> None:
    table = Table(
        "throughput",
        f"End to end, {SLOTS} slots, `true`, output in a file",
        "what", "jobs", "jobs/s", "ratio to the floor", "from", "to", "what is stored",
    )  # fmt: skip

    def measure(name: str, jobs: int, kept: str, rate: object, repeat: int) -> None:
        assert callable(rate)
        runs = [bracketed(rate, lambda: floor(min(jobs, 1000))) for _ in range(repeat)]
        ratios = sorted(ratio for _, ratio in runs)
        middle = statistics.median(ratio for _, ratio in runs)
        rates = statistics.median(figure for figure, _ in runs)
        table.add(
            name, jobs, rates, f"{middle:.2f}", f"{ratios[0]:.2f}", f"{ratios[-1]:.2f}", kept
        )

    kept = "JSON, fsync"
    measure("floor: bare Popen", JOBS, "nothing", lambda: floor(JOBS), REPEAT)
    measure("… that has rested", JOBS, "nothing", lambda: floor(JOBS, rest_s=REST_S), REPEAT)
    measure("queuectl_magics", JOBS, kept, lambda: ours(JOBS), REPEAT)
    measure(f"… {STORED:,} stored", JOBS, kept, lambda: ours(JOBS, stored=STORED), REPEAT)
    measure("… from 2 GB", JOBS, kept, lambda: ours(JOBS, ballast=BALLAST_BYTES), REPEAT)
    for peer in peers.PEERS:
        missing = peers.why_missing(peer)
        if missing:
            table.add(peer.name, peer.jobs, missing, "", "", "", peer.kept)
        else:
            measure(peer.name, peer.jobs, peer.kept, lambda peer=peer: peer_rate(peer), REPEAT)
    table.show()
    print("\n" + ", ".join(f"{name} {number}" for name, number in peers.versions().items()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(one(*map(int, sys.argv[2:5]), Path(sys.argv[5])))
    elif sys.argv[1:2] == ["--floor"]:
        print(one_floor(int(sys.argv[2]), float(sys.argv[3])))
    else:
        main()
