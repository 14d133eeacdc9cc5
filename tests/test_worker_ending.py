"""A worker that is told to stop, and a job that is called off: both end in good order."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time

import pytest

from benches import HELD, LOUD, MARK, SOON_S, begin, kill
from queuectl_magics.engines.local import Child
from queuectl_magics.job import State
from queuectl_magics.settings import SIZE_MAX
from queuectl_magics.worker import Stopping

# --- stopping ------------------------------------------------------------------------------------


def stop_by_signal(number):
    """Return how to stop a worker by a signal."""
    return lambda _terminal, process: process.send_signal(number)


def stop_by_verb(*arguments):
    """Return how to stop all workers from another terminal."""
    return lambda terminal, _process: terminal.run("worker", "stop", *arguments)


ONCE = [stop_by_signal(signal.SIGTERM), stop_by_signal(signal.SIGINT), stop_by_verb()]


@pytest.mark.parametrize("stop", ONCE, ids=["TERM", "INT", "verb"])
def test_stopped_worker_finishes_what_it_runs(bench, terminal, until, stop):
    """The current job is finished, no other is begun, and the exit code is 0."""
    job, process = begin(bench, terminal, until)
    stop(terminal, process)
    assert process.poll() is None
    bench.go()
    said, _ = process.communicate(timeout=60)

    assert 0 == process.returncode, said
    assert (State.COMPLETED, "begun\ndone\n") == (job.state, job.output)
    assert ["1.1"] == bench.runs
    assert [] == bench.queue.workers()


def insist(process, number: int) -> None:
    """Signal until it ends: a signal may come while the first is still being told."""
    while process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_stopped_twice_ends_its_jobs_and_hands_them_back(bench, terminal, until, number):
    """The job is pending again as if it had never run: neither failed nor interrupted."""
    job, process = begin(bench, terminal, until)
    process.send_signal(number)
    said = ""
    while "Stopping" not in said:
        said = process.stdout.readline()
    insist(process, number)

    record = job.record
    assert 0 == process.returncode
    assert (State.PENDING, 0, 0, 1) == (
        record.state,
        record.attempts,
        record.interrupts,
        record.attempt,
    )
    until(lambda: not bench.members(job))
    bench.go()
    bench.drain()
    assert ["1.1", "1.2", "2.1"] == sorted(bench.runs)
    assert State.COMPLETED is job.state


TWICE = """
import click, os, signal
echo = click.echo
def again(text=None, **keys):
    echo(text, **keys)
    if text and "Stopping" in text:
        click.echo = echo
        os.kill(os.getpid(), signal.SIGTERM)
click.echo = again
"""


def test_second_signal_counts_however_soon_it_comes(bench, terminal, until):
    """Whoever reads that the worker is stopping, and signals again, is heard."""
    _, process = begin(bench, terminal, until, before=TWICE)
    process.send_signal(signal.SIGTERM)

    until(lambda: process.poll() is not None, SOON_S)


def test_worker_told_to_stop_now_hands_its_jobs_back(bench, terminal, until):
    """The same by `worker stop --now`; what ignores TERM is killed after its grace."""
    job = bench.enqueue(f"trap '' TERM; {HELD}", grace_s=0.2)
    process = terminal.start("worker", "start")
    until(bench.begun())
    terminal.run("worker", "stop", "--now")
    process.communicate(timeout=60)

    assert 0 == process.returncode
    assert (State.PENDING, 0, 0) == (job.state, job.attempts, job.record.interrupts)
    until(lambda: not bench.members(job))


# Its second attempt succeeds; the first takes its time to tidy up when it is asked to end.
TIDY = f"trap 'touch asked' TERM; {HELD}; [ $QUEUECTL_ATTEMPT = 2 ]"


def test_job_that_is_handed_back_is_not_lost_with_its_worker(bench, terminal, until):
    """A worker that is killed before the job has ended leaves word that it is to run again."""
    job = bench.enqueue(TIDY, max_retries=1, grace_s=60)
    process = terminal.start("worker", "start")
    until(bench.begun())
    terminal.run("worker", "stop", "--now")
    until((bench.work / "asked").exists)
    kill(process)
    bench.go()
    bench.drain()

    assert (State.COMPLETED, 0, 0) == (job.state, job.attempts, job.record.interrupts)
    assert ["1.1", "1.2"] == bench.runs


def test_job_that_is_handed_back_is_not_lost_when_its_worker_leaves(bench, until):
    """A queue that is closed meanwhile does not wait; the next worker hands the job back."""
    own = bench.queue.worker()
    job = bench.enqueue(TIDY, max_retries=1, grace_s=60)
    until(bench.begun())
    own.stop(Stopping.NOW)
    until((bench.work / "asked").exists)
    own.stop(Stopping.LEAVE)
    assert own.join(60)
    bench.go()
    bench.drain()

    assert (State.COMPLETED, 0, ["1.1", "1.2"]) == (job.state, job.attempts, bench.runs)


def test_job_that_is_cancelled_while_it_is_handed_back_is_cancelled(bench, until):
    """The person's word counts, not the worker's."""
    own = bench.queue.worker()
    job = bench.enqueue(TIDY, grace_s=60)
    until(bench.begun())
    own.stop(Stopping.NOW)
    until((bench.work / "asked").exists)
    job.cancel()
    bench.go()
    assert own.join(60)

    assert State.CANCELLED is job.state


def test_job_that_ended_while_its_worker_was_stopping_is_not_run_again(bench, until):
    """Only what was cut short is handed back; a result that came first stands."""
    own = bench.queue.worker(2)
    held, short = (
        bench.enqueue(HELD),
        bench.enqueue(f"{MARK}; until [ -e ok ]; do sleep 0.02; done"),
    )
    until(bench.begun(2))
    bench.go("ok")
    short.wait(60)
    own.stop(Stopping.NOW)
    assert own.join(60)

    assert (State.PENDING, State.COMPLETED) == (held.state, short.state)


def test_worker_that_leaves_lets_its_jobs_go_on(bench, until):
    """A kernel that closes does not wait and ends nothing; the next worker settles the end."""
    own = bench.queue.worker()
    job = bench.enqueue(HELD)
    until(bench.begun())
    own.stop(Stopping.LEAVE)
    assert own.join(60)
    assert State.PROCESSING is job.state
    bench.go()
    bench.drain()

    assert (State.COMPLETED, ["1.1"], "begun\ndone\n") == (job.state, bench.runs, job.output)


# --- going on after all --------------------------------------------------------------------------


def test_worker_that_finishes_its_job_can_be_told_to_go_on(bench, until):
    """Then there is no need of another one beside it: what it runs still counts."""
    own = bench.queue.worker()
    bench.enqueue(LOUD.format(HELD))
    until(bench.begun())
    own.stop()
    job = bench.enqueue(LOUD.format(":"))
    assert own.go_on()
    assert not own.is_stopping
    bench.go()
    job.wait(60)

    assert own.is_alive()
    assert ["+ 1", "- 1", "+ 2", "- 2"] == bench.lines("log")


@pytest.mark.parametrize("how", [Stopping.NOW, Stopping.LEAVE])
def test_worker_that_lets_go_of_its_jobs_does_not_go_on(bench, until, how):
    """They are handed back, or left to others: that is not taken back."""
    own = bench.queue.worker()
    bench.enqueue(HELD)
    until(bench.begun())
    own.stop(how)
    own.stop()

    assert not own.go_on()
    assert own.is_stopping
    assert own.join(60)


def test_worker_that_has_ended_does_not_go_on(bench):
    """Whoever asks needs another one, and is told so."""
    own = bench.queue.worker()
    own.stop()
    assert own.join(60)

    assert not own.go_on()
    assert own.is_stopping


def test_worker_goes_on_when_it_says_so(bench):
    """However close to its end it is asked: a yes is kept, and after a no it is gone."""
    for _ in range(100):
        own = bench.queue.worker()
        own.stop()
        job = bench.enqueue("true")
        if own.go_on():
            assert State.COMPLETED is job.wait(60).state
            assert own.is_alive()
        else:
            assert own.join(60)


# --- cancelling ----------------------------------------------------------------------------------

TREE = f"{MARK}; setsid sleep 100 & (setsid sleep 100 &); nohup sleep 100 | cat & wait"


def test_cancelled_job_is_gone_within_a_second(bench, elsewhere, until):
    """All its processes are, wherever they went; the job is cancelled, and not tried again."""
    bench.queue.worker()
    job = bench.enqueue(TREE)
    until(bench.begun())
    until(lambda: len(bench.members(job)) >= 6)
    asked_at = time.monotonic()
    elsewhere.job(job.id).cancel()
    until(lambda: job.state is State.CANCELLED)
    took_s = time.monotonic() - asked_at

    assert took_s < 1
    assert [] == until(lambda: [] if bench.members(job) else [[]]) or True
    assert not bench.members(job)
    assert "cancelled while running" == job.record.reason
    assert ["1.1"] == bench.runs


def test_cancel_from_elsewhere_is_heard_at_once(bench, elsewhere, until, only_bells):
    """A worker without a free slot, which was woken a moment ago, still hears of it."""
    bench.queue.worker()
    for number in "123":
        bench.enqueue(HELD, output_bytes_max=SIZE_MAX)  # its log need not be looked at
        until(lambda number=number: f"{number}.1" in bench.runs)
        job = elsewhere.job(number)  # asking the worker's own queue would make it look
        job.cancel()
        until(lambda job=job: job.state is State.CANCELLED, SOON_S)


def test_job_that_ignores_term_is_killed_after_its_grace(bench, until):
    """TERM first, KILL when the grace is over."""
    bench.queue.worker()
    job = bench.enqueue(f"trap 'echo asked >>asked' TERM; while :; do {MARK}; sleep 0.02; done",
                        grace_s=0.5)  # fmt: skip
    until(bench.begun())
    asked_at = time.monotonic()
    job.cancel().wait(60)
    took_s = time.monotonic() - asked_at

    assert took_s >= 0.5
    assert (State.CANCELLED, ["asked"]) == (job.state, bench.lines("asked"))
    until(lambda: not bench.members(job))


def test_cancelled_job_may_tidy_up(bench, until):
    """A job that ends well after TERM is cancelled all the same."""
    bench.queue.worker()
    job = bench.enqueue(f"trap 'echo tidy; exit 0' TERM; {HELD}")
    until(bench.begun())
    job.cancel().wait(60)

    assert State.CANCELLED is job.state
    assert "tidy" in job.output


def test_cancel_works_while_the_worker_is_dead(bench, terminal, until):
    """Whoever cancels ends the processes, asking first, and records the end."""
    job = bench.enqueue(f"trap 'echo asked >>asked; exit 0' TERM; {HELD}")
    process = terminal.start("worker", "start")
    until(bench.begun())
    kill(process)
    assert bench.members(job)
    job.cancel()

    assert State.CANCELLED is job.state
    assert ["asked"] == bench.lines("asked")
    until(lambda: not bench.members(job))


def test_job_cancelled_while_it_starts_does_not_slip_through(bench, elsewhere, until, monkeypatch):
    """A cancel that comes between the lease and the start still ends the job."""
    begin, asked = Child.begin, []

    def cancel_first(self):
        if not asked:
            asked.append(self.job.id)
            elsewhere.cancel(self.job.id)
        begin(self)

    monkeypatch.setattr(Child, "begin", cancel_first)
    bench.queue.worker()
    job = bench.enqueue(HELD)
    job.wait(60)

    assert State.CANCELLED is job.state
    until(lambda: not bench.members(job))
