"""A queue outlives its workers: killed at random, none of its jobs is lost, repeated or stuck."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from evidence import command, evidence
from processes import guards_of
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobQueue

JOBS = 150
WORKERS = 3
SLOTS = 2
SOAK_S = 12.0
SEED = 20251104


def soak(queue: JobQueue, terminal, work: Path, dice: random.Random) -> int:
    """Enqueue bit by bit while workers are killed and replaced; return how many were killed."""

    def new():
        return terminal.start("worker", "start", "--count", str(SLOTS))

    workers, killed, left = [new() for _ in range(WORKERS)], 0, JOBS
    end_at = time.monotonic() + SOAK_S
    while left or time.monotonic() < end_at:
        for _ in range(min(left, dice.randint(1, 4))):
            queue.enqueue(command(dice.uniform(0, 0.4)), cwd=str(work))
            left -= 1
        time.sleep(dice.uniform(0, 0.4))
        number = dice.randrange(WORKERS)
        workers[number].kill()
        workers[number].wait()
        killed += 1
        workers[number] = new()
    for worker in workers:
        worker.kill()
        worker.wait()
    return killed + WORKERS


def test_no_job_is_lost_repeated_or_stuck_while_workers_are_killed(
    own_home, terminal, tmp_path, capsys
):
    """Three workers are killed at random for twelve seconds: every job runs exactly once."""
    work = tmp_path / "work"
    work.mkdir()
    with JobQueue(own_home) as queue:
        killed = soak(queue, terminal, work, random.Random(SEED))
        adopted = queue.store.table.counts[State.PROCESSING]
        terminal.run("run", "--count", "8")
        records = queue.records()
        printed = {record.id: queue.job(record.id).output for record in records}
    begun, ended, overlaps = (evidence(work, name) for name in ("begun", "ended", "overlaps"))
    with capsys.disabled():
        print(  # noqa: T201 - what a soak saw is worth a line
            f"\n{killed} workers killed, {adopted} jobs left running by the last; {len(records)} "
            f"jobs: {sum(begun.values())} begun, {sum(ended.values())} ended, "
            f"{sum(overlaps.values())} overlaps, "
            f"{sum(record.attempt > 1 for record in records)} leased more than once"
        )

    ids = {record.id for record in records}
    assert JOBS == len(ids)
    assert Counter(ids) == begun
    assert Counter(ids) == ended
    assert Counter() == overlaps
    assert {(State.COMPLETED, 0, 0, 0)} == {
        (record.state, record.exit_code, record.attempts, record.interrupts) for record in records
    }
    assert {id: f"output of {id}\n" for id in ids} == printed
    assert [] == list(queue.store.paths.workers.iterdir())


# --- the guard goes when it is not needed --------------------------------------------------------


def has_opened_the_queue(pid: int) -> bool:
    """Say whether that process has begun to look at a journal."""
    try:
        return any("journal.jsonl" in os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.fixture
def guarded(own_home, terminal, tmp_path, until):
    """A job that runs on with a guard beside it, while its worker is dead."""
    with JobQueue(own_home) as queue:
        line = "echo begun; until [ -e go ]; do sleep 0.02; done"
        job = queue.enqueue(line, cwd=str(tmp_path), timeout_s=600)
        worker = terminal.start("worker", "start")
        until(lambda: any(has_opened_the_queue(pid) for pid in guards_of(own_home)))
        until(lambda: job.output)
        worker.kill()
        worker.wait()
        yield job


def test_guard_leaves_when_the_queue_is_idle(guarded, own_home, tmp_path, until, terminal):
    """When the job is over and settled there is nothing to guard."""
    (tmp_path / "go").touch()
    terminal.run("run")

    assert State.COMPLETED is guarded.state
    until(lambda: not guards_of(own_home))


def test_guard_leaves_when_nothing_runs_any_more(guarded, own_home, tmp_path, until):
    """A job that has ended needs no guard, though no worker may come for weeks to settle it."""
    (tmp_path / "go").touch()

    until(lambda: not guards_of(own_home))


def test_guard_leaves_when_its_home_is_deleted(guarded, own_home, tmp_path, until):
    """No process polls for ever on a directory that is gone."""
    (tmp_path / "go").touch()
    shutil.rmtree(own_home)

    until(lambda: not guards_of(own_home), 5)
