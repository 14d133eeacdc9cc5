"""A worker runs each job once, N side by side, and is woken by whatever is to do."""

from __future__ import annotations

import re
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from benches import FOR_EVER_S, HELD, LOUD, MARK, SOON_S, most_at_once
from queuectl_magics import clock, limits, presence, worker
from queuectl_magics.job import State

# --- order and number ----------------------------------------------------------------------------


def test_jobs_run_in_the_order_in_which_they_came(bench):
    """One at a time, first in first out."""
    for _ in range(6):
        bench.enqueue(LOUD.format(":"))
    bench.drain()

    assert [f"{sign} {id}" for id in range(1, 7) for sign in "+-"] == bench.lines("log")


def test_higher_priority_goes_first(bench):
    """Among what is due the highest priority goes first, and the oldest among equals."""
    for priority in (0, 5, -3, 5, 0):
        bench.enqueue(priority=priority)
    bench.drain()

    assert ["2.1", "4.1", "1.1", "5.1", "3.1"] == bench.runs


@pytest.mark.parametrize("count", [1, 3])
def test_count_is_how_many_run_side_by_side(bench, until, count):
    """All slots are used, and never one more."""
    bench.queue.worker(count)
    for _ in range(3 * count):
        bench.enqueue(LOUD.format("until [ -e go ]; do sleep 0.02; done; sleep 0.05"))
    until(lambda: len(bench.lines("log")) == count)
    bench.go()
    bench.queue.wait(timeout=60)

    assert 3 * count * 2 == len(bench.lines("log"))
    assert count == most_at_once(bench.lines("log"))


def test_setting_the_count_takes_effect_at_once(bench, elsewhere, until, only_bells):
    """More slots start more jobs while others run; fewer let those that run finish first."""
    bench.queue.worker()
    for _ in range(3):
        bench.enqueue(HELD)
    until(bench.begun(1))
    elsewhere.configure("count", "3")
    until(bench.begun(3), SOON_S)
    elsewhere.configure("count", "1")
    until(lambda: [1] == [found.count for found in elsewhere.workers()], SOON_S)
    bench.enqueue(LOUD.format("sleep 0.05"))
    bench.enqueue(LOUD.format("sleep 0.05"))
    assert [] == bench.lines("log")
    bench.go()
    bench.queue.wait(timeout=60)

    assert ["+ 4", "- 4", "+ 5", "- 5"] == bench.lines("log")


def test_nothing_is_started_once_the_queue_is_paused(bench, elsewhere, until, only_bells):
    """When `pause` has returned no job begins any more, though the worker has just been busy."""
    bench.queue.worker(2)
    bench.enqueue()
    until(bench.begun())
    elsewhere.pause()
    job = bench.enqueue()
    time.sleep(0.2)  # not for a condition: for something that must not happen
    state = job.state
    elsewhere.resume()
    job.wait(60)

    assert State.PENDING is state


def test_delayed_job_starts_when_it_is_due(bench, only_bells):
    """Not before, though there is nothing else to do; and without being looked for."""
    bench.queue.worker()
    job = bench.enqueue(delay_s=0.4)
    job.wait(60)
    waited = job.record.started_at - job.record.created_at

    assert timedelta(seconds=0.4) <= waited < timedelta(seconds=20)


def test_job_that_comes_first_is_not_held_up_by_one_that_waits_for_its_time(bench, only_bells):
    """A worker that sleeps until a job is due still starts another one at once."""
    bench.queue.worker()
    late = bench.enqueue(delay_s=3600)
    bench.enqueue().wait(60)

    assert State.PENDING is late.state


# --- attempts ------------------------------------------------------------------------------------


def test_job_is_tried_again_until_it_succeeds(bench, only_bells):
    """Failed attempts are counted, and the output of each is kept."""
    bench.queue.worker()
    job = bench.enqueue(f"{MARK}; wc -l <runs; [ $(wc -l <runs) = 3 ]", backoff_base=0).wait(60)

    assert (State.COMPLETED, 2, 0) == (job.state, job.attempts, job.exit_code)
    assert ["1.1", "1.2", "1.3"] == bench.runs
    assert ["1\n", "2\n", "3\n"] == [job.logs(attempt=number) for number in (1, 2, 3)]
    assert [1, 1, 0] == [attempt.exit_code for attempt in job.record.all_attempts()]


def test_job_dies_when_its_attempts_are_spent(bench, only_bells):
    """Three failures and no more; the reason says how the last one ended."""
    bench.queue.worker()
    job = bench.enqueue(f"{MARK}; exit 3", backoff_base=0, max_retries=3).wait(60)

    assert (State.DEAD, 3, 3) == (job.state, job.attempts, job.exit_code)
    assert "exit 3" == job.record.reason
    assert 3 == len(bench.runs)


@pytest.mark.parametrize("max_retries", [0, 1])
def test_single_attempt_is_not_tried_again(bench, max_retries):
    """0 and 1 both mean: once."""
    job = bench.enqueue(f"{MARK}; kill -9 $$", max_retries=max_retries)
    bench.drain()

    assert (State.DEAD, 1, 137) == (job.state, job.attempts, job.exit_code)
    assert ["1.1"] == bench.runs


def test_wait_between_attempts_is_kept(bench):
    """The second attempt begins when the backoff is over, and others run meanwhile."""
    job = bench.enqueue(f"{MARK}; [ $QUEUECTL_ATTEMPT = 2 ]", backoff_base=0.5)
    other = bench.enqueue()
    bench.drain()
    first, second = job.record.all_attempts()

    assert timedelta(seconds=0.5) <= second.started_at - first.finished_at
    assert ["1.1", "2.1", "1.2"] == bench.runs
    assert State.COMPLETED is other.state


def test_clock_that_is_set_back_spends_no_attempts(bench, monkeypatch):
    """A retry waits for its time by the clock as it is now, not as it was before."""
    utc_now = clock.utc_now
    bench.queue.worker()
    bench.enqueue().wait(60)
    monkeypatch.setattr(clock, "utc_now", lambda: utc_now() - timedelta(days=1))
    job = bench.enqueue(f"{MARK}; exit 1", max_retries=6, backoff_base=60)
    bench.enqueue().wait(60)
    bench.enqueue().wait(60)

    assert (State.FAILED, 1) == (job.state, job.attempts)
    assert ["1.1", "2.1", "3.1", "4.1"] == bench.runs


def test_job_says_what_it_cost(bench):
    """The end of one's own child comes with its processor time."""
    job = bench.enqueue("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    bench.drain()

    assert 0 < job.record.cpu_s < 10


def test_draining_ends_when_nothing_is_left(bench):
    """It waits for retries, and runs what comes while it works."""
    queuectl = f"{sys.executable} -m queuectl_magics --home {bench.home}"
    inner = f"{queuectl} enqueue 'echo inner >>runs'"
    bench.enqueue(f"{MARK}; {inner}; [ $QUEUECTL_ATTEMPT = 2 ]", backoff_base=0.05)
    bench.drain()

    assert ["1.1", "1.2", "inner", "inner"] == sorted(bench.runs)
    assert 3 == bench.queue.store.table.counts[State.COMPLETED]


def test_drained_queue_needs_no_worker(bench):
    """With nothing to do it returns at once, and leaves no trace."""
    bench.drain()

    assert [] == bench.queue.workers()
    assert [] == list(bench.queue.store.paths.workers.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"shell": "no-such-program"},
            "cannot start: the program 'no-such-program' was not found",
        ),
        ({"logs": True}, "cannot start: Not a directory"),
        ({"cwd": True}, "cannot start: the directory .* does not exist any more"),
        ({"env": {"A": "1"}}, "cannot start: the environment of the job, .*, is missing or"),
    ],
)
def test_job_that_cannot_start_says_why(bench, tmp_path, options, reason):
    """It fails like any other, with a reason that names what is wrong; nothing is stuck."""
    keys = {"max_retries": 1} | options
    paths = bench.queue.store.paths
    if keys.pop("logs", None):
        paths.logs.rmdir()
        paths.logs.write_text("in the way")
    if keys.get("cwd"):
        keys["cwd"] = str(tmp_path / "gone")
        (tmp_path / "gone").mkdir()
    job = bench.queue.enqueue("true", **keys)
    if "cwd" in keys:
        (tmp_path / "gone").rmdir()
    for path in paths.env.iterdir() if "env" in keys else ():
        path.unlink()
    bench.drain()

    assert State.DEAD is job.state
    assert re.match(reason, job.record.reason)
    assert [] == list(paths.run.iterdir())


# --- waking up -----------------------------------------------------------------------------------

ONLY_BELLS = f"import queuectl_magics.worker as w\nw.LOOK_S = {FOR_EVER_S}"


def switches(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep so far."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        found += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)[1])
    return found


def test_idle_worker_sleeps_and_wakes_at_a_ring(bench, terminal, until):
    """It wakes twice in three seconds at most, and yet starts a job at once."""
    process = terminal.start("worker", "start")
    until(bench.queue.workers)

    def is_quiet() -> bool:
        """Say whether it slept for three seconds; it may first have things to put in order."""
        before = switches(process.pid)
        time.sleep(3)
        return switches(process.pid) - before <= 2

    until(is_quiet)
    lags = []
    for _ in range(4):
        record = bench.enqueue().wait(60).record
        lags.append(record.started_at - record.created_at)
    assert min(lags) < timedelta(seconds=0.1)
    assert sorted(lags)[2] < timedelta(seconds=1)


def test_worker_sleeps_as_long_while_a_job_runs(bench, monkeypatch, until):
    """To watch one job costs no more wake-ups than to have nothing to do."""
    sleep, naps = presence.Presence.sleep, []

    def nap(self, timeout_s: float) -> bool:
        naps.append(timeout_s)
        return sleep(self, timeout_s)

    monkeypatch.setattr(presence.Presence, "sleep", nap)
    monkeypatch.setattr(limits, "FIRST_LOOK_S", 0.01)
    job = bench.enqueue(HELD)
    bench.queue.worker()
    until(bench.begun())

    until(lambda: naps[-1] > 0.9 * worker.LOOK_S)
    assert State.PROCESSING is job.state
    bench.go()
    job.wait(60)


def test_worker_of_another_process_is_woken_by_whatever_is_to_do(bench, terminal, until):
    """A new job, a retry by hand, a cancel and a setting: each is taken up without a look."""
    terminal.start("worker", "start", before=ONLY_BELLS)
    until(bench.queue.workers)
    first = bench.enqueue("[ -e ok ]", max_retries=1).wait(60)
    assert State.DEAD is first.state
    bench.go("ok")
    assert State.COMPLETED is first.retry().wait(60).state
    held = [bench.enqueue(HELD), bench.enqueue(HELD)]
    until(bench.begun(1))
    terminal.run("config", "set", "count", "2")
    until(bench.begun(2))

    assert State.CANCELLED is held[0].cancel().wait(60).state
    assert State.PROCESSING is held[1].state
