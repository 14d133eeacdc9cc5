"""Eight real processes take ten thousand jobs: each job once, and everybody gets some."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

from queuectl_magics.store import Store
from stores import enqueue

PROCESSES, JOBS = 8, 6_000

WORKER = """
import json, sys
from pathlib import Path
from queuectl_magics import lifecycle
from queuectl_magics.job import Exit
from queuectl_magics.store import Store

home, name = sys.argv[1:]
opened = Store(Path(home), durability="none")
leased, running = [], []
print("ready", flush=True)
input()

def decide(table, now):
    for id in running:
        job = table.jobs[id]
        yield lifecycle.settle(job, job.attempt, Exit(code=0, finished_at=now))
    for job in table.pick_due(now, 1):
        yield lifecycle.lease(job, worker=name, token="t", now=now)

while True:
    events = opened.transact(decide, timeout_s=None, vital=True)
    running = [event.id for event in events if hasattr(event, "worker")]
    leased += running
    if not running:
        break
print(json.dumps(leased), flush=True)
"""


def test_every_job_is_leased_once_and_every_process_gets_some(memory, capsys):
    """The lock is fair, nobody sees an old table, and no job is taken twice or left behind."""
    made = Store(memory / "home", durability="none")
    made.transact(enqueue(*map(str, range(JOBS))))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(memory / "home"), f"worker{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    try:
        assert ["ready\n"] * PROCESSES == [worker.stdout.readline() for worker in workers]
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        shares = [json.loads(worker.communicate()[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    made.catch_up()
    jobs = made.table.jobs.values()
    made.close()
    with capsys.disabled():
        told = sorted(map(len, shares))
        sys.stdout.write(f"\n{JOBS} jobs, shares of {PROCESSES} processes: {told}\n")

    assert {f"{n}": 1 for n in range(JOBS)} == Counter(id for share in shares for id in share)
    assert {"completed"} == {job.state for job in jobs}
    assert {1} == {job.attempt for job in jobs}
    assert Counter(map(len, shares)) == Counter(
        Counter(job.worker for job in jobs)[f"worker{n}"] for n in range(PROCESSES)
    )
    assert min(map(len, shares)) > 0
