"""A queue outlives its workers: killed at random, none of its jobs is lost, repeated or stuck.

Workers without one of the precautions are caught by the same evidence.
"""

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
from queuectl_magics.jobqueue import Job, JobQueue

JOBS = 150
WORKERS = 3
SLOTS = 2
SOAK_S = 6.0
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
    """Three workers are killed at random, again and again: every job runs exactly once."""
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


# --- mutants: workers without one of the precautions are caught by the same evidence -------------

MUTANTS = {
    "none": "",
    # the recorder writes into the same file, through a descriptor that does not hold its lock
    "the lock is not inherited": """
import os
from queuectl_magics import recorder
spawn = recorder.spawn
def apart(run_fd, *rest):
    fd = os.open(f"/proc/self/fd/{run_fd}", os.O_RDWR)
    try:
        return spawn(fd, *rest)
    finally:
        os.close(fd)
recorder.spawn = apart
""",
    "the run file is not locked": """
import fcntl, types
from queuectl_magics import recorder
unlocked = types.SimpleNamespace(**vars(fcntl))
unlocked.flock = lambda *_: None
recorder.fcntl = unlocked
""",
    "a free lock is believed before an exit record": """
from queuectl_magics import recorder
read_record = recorder.read_record
recorder.read_record = lambda *a: recorder.RunRecord(pid=read_record(*a).pid)
""",
}


REMAINS_ARE_LEFT = """
from queuectl_magics import recorder
recorder.end_remains = lambda *_: None
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder in which jobs leave their evidence."""
    work = tmp_path / "work"
    work.mkdir()
    return work


def orphan(queue: JobQueue, terminal, work, until, *, mutant: str, seconds: float) -> Job:
    """Return a job that takes that long and whose worker was killed as soon as it had begun."""
    job = queue.enqueue(command(seconds), cwd=str(work))
    worker = terminal.start("worker", "start", before=MUTANTS[mutant])
    until(lambda: evidence(work, "begun"))
    worker.kill()
    worker.wait()
    return job


UNLOCKED = ["the lock is not inherited", "the run file is not locked"]


@pytest.mark.parametrize("mutant", UNLOCKED)
def test_a_job_that_is_taken_for_gone_while_it_runs_says_so(
    own_home, terminal, work, until, mutant
):
    """The evidence has teeth: the second attempt finds the first one alive."""
    with JobQueue(own_home) as queue:
        orphan(queue, terminal, work, until, mutant=mutant, seconds=600)
        terminal.start("worker", "start", before=MUTANTS[mutant] + REMAINS_ARE_LEFT)

        until(lambda: evidence(work, "overlaps"))


@pytest.mark.parametrize("mutant", UNLOCKED)
def test_a_job_that_is_taken_for_gone_is_at_least_never_beside_itself(
    own_home, terminal, work, until, mutant
):
    """Without the lock, what still lives is found and ended before the job begins again."""
    with JobQueue(own_home) as queue:
        job = orphan(queue, terminal, work, until, mutant=mutant, seconds=600)
        terminal.start("worker", "start", before=MUTANTS[mutant])

        until(lambda: evidence(work, "begun")[job.id] > 1)
        assert {} == evidence(work, "overlaps")
        assert 1 <= job.record.interrupts


def test_a_job_whose_end_is_not_believed_says_so(own_home, terminal, work, until):
    """The evidence has teeth: it counts how often a job has begun."""
    mutant = "a free lock is believed before an exit record"
    with JobQueue(own_home) as queue:
        job = orphan(queue, terminal, work, until, mutant=mutant, seconds=1)
        until(lambda: evidence(work, "ended"))
        terminal.start("worker", "start", before=MUTANTS[mutant])

        until(lambda: evidence(work, "begun")[job.id] > 1)


@pytest.mark.parametrize("ends_first", [False, True])
def test_with_all_precautions_the_same_job_has_nothing_to_say(
    own_home, terminal, work, until, ends_first
):
    """It runs once, whether the next worker comes before its end or after it."""
    with JobQueue(own_home) as queue:
        job = orphan(queue, terminal, work, until, mutant="none", seconds=2)
        until(lambda: evidence(work, "ended") or not ends_first)
        terminal.start("worker", "start")

        until(lambda: job.state is State.COMPLETED)
        assert {job.id: 1} == evidence(work, "begun")
        assert {} == evidence(work, "overlaps")


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
