"""Whatever kills a worker or a recorder: each job runs once, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from benches import FOR_EVER_S, HELD, LOUD, MARK, SOON_S, kill
from queuectl_magics import attempts, limits, recorder, worker
from queuectl_magics.job import State

DIE = """
import os, signal
from queuectl_magics.engines.local import Child as C, LocalEngine as E
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""


# --- a worker that is killed ---------------------------------------------------------------------


def test_job_goes_on_when_its_worker_is_killed_and_is_adopted(bench, terminal, until):
    """Exit code and output are kept, and it has run exactly once."""
    job = bench.enqueue(f"{HELD}; exit 7", max_retries=1)
    process = terminal.start("worker", "start")
    until(bench.begun())
    kill(process)
    bench.queue.worker()
    assert State.PROCESSING is job.state
    bench.go()
    job.wait(60)

    assert (State.DEAD, 7, 1) == (job.state, job.exit_code, job.attempts)
    assert "begun\ndone\n" == job.output
    assert ["1.1"] == bench.runs


def test_cancelling_what_a_living_worker_has_adopted_waits_for_nothing(
    bench, terminal, until, monkeypatch
):
    """Whose worker is gone is ended by who asks, unless another one has it in hand."""
    job = bench.enqueue(HELD)
    process = terminal.start("worker", "start")
    until(bench.begun())
    kill(process)
    mine = bench.queue.worker()
    until(lambda: any(mine._attempts))
    monkeypatch.setattr(attempts, "end_abandoned", None)
    job.cancel()

    assert "cancelled" == job.wait(60).state


def test_stray_that_is_to_be_stopped_is_taken_over_at_the_ring(
    bench, terminal, until, monkeypatch
):
    """Whoever cancels a job whose worker has just died does not wait for the next look around."""
    job = bench.enqueue(HELD)
    process = terminal.start("worker", "start")
    until(bench.begun())
    monkeypatch.setattr(worker, "ADOPT_EVERY_S", 3600.0)
    mine = bench.queue.worker()
    assert mine.has_looked.wait(SOON_S)
    kill(process)
    job.cancel()

    assert "cancelled" == job.wait(SOON_S).state


def test_jobs_that_nobody_has_in_hand_are_ended_all_at_once(bench, terminal, until):
    """Each may take its whole grace; whoever cancels many of them waits once for all."""
    line = "trap 'touch term.$QUEUECTL_JOB_ID' TERM; echo begun; while :; do sleep 0.05; done"
    jobs = [bench.enqueue(line, grace=1) for _ in range(3)]
    process = terminal.start("worker", "start", "--count", "3")
    until(lambda: all("begun" in job.output for job in jobs))
    kill(process)
    bench.queue.cancel(*jobs)

    heard = [(bench.work / f"term.{job.id}").stat().st_mtime for job in jobs]
    ends = [job.record.finished_at.timestamp() for job in jobs]
    assert {State.CANCELLED} == {job.state for job in jobs}
    assert max(heard) < min(ends)


def test_job_that_ended_while_nobody_was_there_is_settled(bench, terminal, until):
    """The next worker reads the exit record, and the end is dated when it was."""
    job = bench.enqueue(HELD)
    process = terminal.start("worker", "start")
    until(bench.begun())
    kill(process)
    bench.go()
    recorder.wait_until_gone(bench.run_path(job))
    gone_at = datetime.now(UTC)
    time.sleep(0.3)  # not for a condition: the end must not be dated by the look
    bench.drain()

    assert State.COMPLETED is job.state
    assert job.record.finished_at < gone_at + timedelta(seconds=0.2)
    assert ["1.1"] == bench.runs


def test_living_worker_adopts_from_a_dead_one(bench, terminal, until, impatient):
    """Nobody has to start anything: a worker that is there takes over by itself."""
    job = bench.enqueue(HELD)
    process = terminal.start("worker", "start")
    until(bench.begun())
    bench.queue.worker()
    kill(process)
    bench.go()

    assert State.COMPLETED is job.wait(60).state
    assert ["1.1"] == bench.runs


def test_adopted_attempt_takes_a_slot(bench, terminal, until):
    """Adopting does not make a worker run more jobs than it should."""
    bench.enqueue(LOUD.format(HELD))
    process = terminal.start("worker", "start")
    until(bench.begun())
    kill(process)
    own = bench.queue.worker(1)
    second = bench.enqueue(LOUD.format(":"))
    until(own.has_looked.is_set)
    assert ["+ 1"] == bench.lines("log")
    assert State.PENDING is second.state
    bench.go()
    bench.queue.wait(timeout=60)

    assert ["+ 1", "- 1", "+ 2", "- 2"] == bench.lines("log")


def test_a_new_job_with_the_id_of_a_pruned_one_keeps_its_run_file(bench, until):
    """What the first one left is used again for other runs: never the file of one that runs."""
    bench.queue.worker(2)
    bench.enqueue("true", id="a").wait(60)
    bench.queue.prune("a")
    job = bench.enqueue(HELD, id="a")
    until(bench.begun())
    for _ in range(3):
        bench.enqueue("true").wait(60)

    assert recorder.is_running(bench.run_path(job))
    job.cancel()
    assert "cancelled" == job.wait(60).state


POINTS = {
    "about to lease": "E.prepare = die",
    "claimed": """
prepare = E.prepare
E.prepare = lambda *a: (prepare(*a), die())""",
    "leased": "C.begin = die",
    "spawned": """
begin = C.begin
C.begin = lambda *a: (begin(*a), die())""",
    "before it is on disk": "from queuectl_magics.store import Store\nStore.sync = die",
    "ended": "from queuectl_magics import lifecycle\nlifecycle.settle = die",
    "settled": "E.forget = die",
}


@pytest.mark.parametrize("point", POINTS)
def test_job_runs_exactly_once_wherever_its_worker_is_killed(bench, terminal, point):
    """No attempt is lost, counted or repeated, at whichever step the worker dies."""
    job = bench.enqueue(f"{MARK}; echo done; exit 0")
    process = terminal.start("worker", "start", before=DIE + POINTS[point])
    said, _ = process.communicate(timeout=60)
    assert -signal.SIGKILL == process.returncode, said
    bench.drain()

    record = job.record
    assert (State.COMPLETED, 0, 0) == (record.state, record.attempts, record.interrupts)
    assert 1 == len(bench.runs)
    assert "done\n" == job.output


# --- a recorder that is killed -------------------------------------------------------------------


def test_job_whose_recorder_is_killed_runs_again_when_it_is_gone(bench, until, impatient):
    """First its command is waited for, then it is one interrupt and runs again: never two."""
    overlap = "exec 8>only; flock -n 8 || echo overlap >>log"
    bench.queue.worker()
    job = bench.enqueue(f"{overlap}; {HELD}")
    until(bench.begun())
    os.kill(recorder.read_record(bench.run_path(job)).pid, signal.SIGKILL)
    other = bench.enqueue()
    looks = time.monotonic() + 0.3
    until(lambda: time.monotonic() > looks)
    assert State.PROCESSING is job.state
    assert State.PENDING is other.state
    bench.go()
    bench.queue.wait(timeout=60)

    assert (State.COMPLETED, 0, 1) == (job.state, job.attempts, job.record.interrupts)
    assert ["1.1", "1.2", "2.1"] == sorted(bench.runs)
    assert [] == bench.lines("log")


KILLS_ITS_RECORDER = "kill -9 $(cut -d' ' -f6 /proc/self/stat)"


def test_five_interrupts_are_the_end(bench, impatient):
    """A job that takes its recorder down with it is not tried for ever."""
    job = bench.enqueue(f"{MARK}; {KILLS_ITS_RECORDER}", max_retries=1)
    bench.drain()

    assert (State.DEAD, 0, 5) == (job.state, job.attempts, job.record.interrupts)
    assert "interrupted 5 times" == job.record.reason
    assert [f"1.{number}" for number in range(1, 6)] == bench.runs


def test_interrupted_job_runs_again_at_once(bench, until, only_bells):
    """What was handed back is due: it does not wait for the worker to look around."""
    bench.queue.worker()
    job = bench.enqueue(f"{MARK}; [ $QUEUECTL_ATTEMPT = 2 ] || {KILLS_ITS_RECORDER}")
    until(lambda: job.state is State.COMPLETED, SOON_S)

    assert 1 == job.record.interrupts


def test_child_that_someone_else_reaped_does_not_stop_the_worker(bench, until, monkeypatch):
    """A kernel's user may call `os.wait()`, or ignore SIGCHLD: the exit record is there."""

    def too_late(pid: int, options: int) -> None:
        os.waitpid(pid, options)
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))

    monkeypatch.setattr(os, "wait4", too_late)
    own = bench.queue.worker()
    job = bench.enqueue(f"{MARK}; exit 7", max_retries=1)
    until(lambda: job.state is State.DEAD, SOON_S)

    assert (7, ["1.1"]) == (job.exit_code, bench.runs)
    assert own.is_alive()


def test_job_whose_time_is_up_is_ended_then(bench, monkeypatch, until):
    """Nothing else that a worker has to do later puts off what it has to do now."""
    monkeypatch.setattr(worker, "TIDY_AFTER_S", FOR_EVER_S)
    bench.queue.worker()
    job = bench.enqueue(HELD, timeout_s=0.3, max_retries=1)
    until(lambda: job.state is State.DEAD, SOON_S)

    assert "timed out after 0.3 s" == job.record.reason


def test_job_that_took_another_ones_place_is_ended_when_its_time_is_up(
    bench, only_bells, monkeypatch, until
):
    """The loop, which may sleep for long while one job runs, hears of the start of the next."""
    monkeypatch.setattr(limits, "OUTPUT_BYTES_PER_S", 1)  # nor does it wake to measure a log
    bench.queue.worker(1)
    bench.enqueue(HELD)
    until(bench.begun())
    job = bench.enqueue("sleep 60", timeout_s=0.3, max_retries=1)
    time.sleep(2 * limits.FIRST_LOOK_S)  # no condition: the loop is to be asleep for good
    bench.go()
    until(lambda: job.state is State.DEAD, SOON_S)

    assert "timed out after 0.3 s" == job.record.reason


UNLOCKED = """
import subprocess
beat = "echo begun; until [ -e stop ]; do echo x >>beats.$QUEUECTL_ATTEMPT; sleep 0.01; done"
subprocess.run(["sh", "-c", beat])
"""


def test_what_lives_on_without_the_lock_is_ended_before_the_job_runs_again(
    bench, until, impatient
):
    """Python closes the lock's descriptor for what it starts: it must not run beside the next."""
    bench.queue.worker()
    job = bench.enqueue(f"{MARK}; case $QUEUECTL_ATTEMPT in 1) python -c '{UNLOCKED}';; esac")
    beats = bench.work / "beats.1"
    until(beats.exists)
    for pid in sorted(bench.members(job)):  # the recorder first: it must not see the end
        if recorder.PROC.joinpath(str(pid), "fd/9").exists():
            os.kill(pid, signal.SIGKILL)
    job.wait(60)
    size = beats.stat().st_size

    assert (State.COMPLETED, 0, 1) == (job.state, job.attempts, job.record.interrupts)
    assert ["1.1", "1.2"] == bench.runs
    assert [] == bench.members(job)
    assert size == beats.stat().st_size
