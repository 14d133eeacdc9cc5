"""A worker runs each job once, N side by side, and leaves nothing behind, whatever kills it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processes import pids, words_of
from queuectl_magics import lifecycle, limits, presence, recorder, worker
from queuectl_magics.engines.local import LocalEngine
from queuectl_magics.errors import StoreFullError
from queuectl_magics.job import Exit, State
from queuectl_magics.jobqueue import JobQueue, looking
from queuectl_magics.presence import Presence
from queuectl_magics.store import Store, store
from queuectl_magics.validation import OUTPUT_MAX
from queuectl_magics.worker import Stopping

MARK = 'echo "$QUEUECTL_JOB_ID.$QUEUECTL_ATTEMPT" >>runs'
HELD = f"{MARK}; echo begun; until [ -e go ]; do sleep 0.02; done; echo done"
LOUD = 'echo "+ $QUEUECTL_JOB_ID" >>log; {}; echo "- $QUEUECTL_JOB_ID" >>log'
DIE = """
import os, signal
from queuectl_magics.engines.local import LocalEngine as E
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""
FOR_EVER_S = 600.0
SOON_S = 3.0


class Bench:
    """A queue, a folder in which its jobs leave their evidence, and what else a test needs."""

    def __init__(self, home: Path, work: Path) -> None:
        work.mkdir(exist_ok=True)
        self.home, self.work = home, work
        self.queue = JobQueue(home)

    def enqueue(self, command: str = MARK, **options):
        """Enqueue a job that leaves its evidence in the folder."""
        return self.queue.enqueue(command, cwd=str(self.work), **options)

    def go(self, name: str = "go") -> None:
        """Let held jobs end."""
        (self.work / name).touch()

    def lines(self, name: str) -> list[str]:
        """Return the evidence."""
        path = self.work / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    @property
    def runs(self) -> list[str]:
        """Which attempts have run, as `job.attempt`, in the order in which they began."""
        return self.lines("runs")

    def begun(self, count: int = 1):
        """Return a condition: that many attempts have begun."""
        return lambda: len(self.runs) >= count

    def drain(self, count: int = 1) -> None:
        """Work off everything that is left."""
        last = self.queue.new_worker(count=count, drain=True)
        last.start()
        assert last.join(60)
        assert last.error is None

    def run_path(self, job) -> Path:
        """Return the run file of the job's current attempt."""
        return recorder.run_path(self.queue.store.paths.run, job.id, job.record.attempt)

    def members(self, job) -> list[int]:
        """Return the living processes of a job."""
        told = {f"QUEUECTL_JOB_ID={job.id}".encode(), f"QUEUECTL_HOME={self.home}".encode()}
        return [pid for pid in pids() if told <= words_of(pid, "environ")]


@pytest.fixture
def bench(own_home, tmp_path):
    """A queue with nothing in it; its worker leaves in the end, and its jobs are killed."""
    bench = Bench(own_home, tmp_path / "work")
    yield bench
    if (own := bench.queue.own_worker) is not None and own.is_alive():
        own.stop(Stopping.LEAVE)
        own.join(10)
    bench.queue.close()


@pytest.fixture
def elsewhere(bench):
    """The same queue, opened once more: it sees what another process would see, and no more."""
    with JobQueue(bench.home) as queue:
        yield queue


@pytest.fixture
def only_bells(monkeypatch):
    """A worker that never looks around by itself: what it does, it does because it was woken."""
    monkeypatch.setattr(worker, "LOOK_S", FOR_EVER_S)
    monkeypatch.setattr(worker, "TIDY_AFTER_S", FOR_EVER_S)
    monkeypatch.setattr(worker, "ADOPT_EVERY_S", FOR_EVER_S)
    monkeypatch.setattr(limits, "CALM_S", FOR_EVER_S)
    monkeypatch.setattr(looking, "CONFIG_LOOK_S", FOR_EVER_S, raising=False)


@pytest.fixture
def impatient(monkeypatch):
    """A worker that looks around, and tries again, all the time."""
    monkeypatch.setattr(worker, "LOOK_S", 0.02)
    monkeypatch.setattr(worker, "RETRY_S", 0.02)
    monkeypatch.setattr(worker, "ADOPT_EVERY_S", 0.01)


def most_at_once(lines: list[str]) -> int:
    """Return how many jobs ran side by side, by their own evidence."""
    now, most = 0, 0
    for line in lines:
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    return most


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
        return switches(process.pid) - before <= 6

    until(is_quiet)
    lags = []
    for _ in range(4):
        record = bench.enqueue().wait(60).record
        lags.append(record.started_at - record.created_at)
    assert min(lags) < timedelta(seconds=0.1)
    assert sorted(lags)[2] < timedelta(seconds=1)


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


# --- stopping ------------------------------------------------------------------------------------


def stop_by_signal(number):
    """Return how to stop a worker by a signal."""
    return lambda _terminal, process: process.send_signal(number)


def stop_by_verb(*arguments):
    """Return how to stop all workers from another terminal."""
    return lambda terminal, _process: terminal.run("worker", "stop", *arguments)


def begin(bench, terminal, until, *, before: str = ""):
    """Start a worker in another process and let it begin a job that is held."""
    job = bench.enqueue(HELD)
    bench.enqueue()
    process = terminal.start("worker", "start", before=before)
    until(bench.begun())
    return job, process


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
        bench.enqueue(HELD, output_bytes_max=OUTPUT_MAX)  # its log need not be looked at
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


def kill(process) -> None:
    """Kill a process outright and wait until it is gone."""
    process.kill()
    process.wait()


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
    start, asked = LocalEngine.start, []

    def cancel_first(self, job, prepared, environ):
        if not asked:
            asked.append(job.id)
            elsewhere.cancel(job.id)
        return start(self, job, prepared, environ)

    monkeypatch.setattr(LocalEngine, "start", cancel_first)
    bench.queue.worker()
    job = bench.enqueue(HELD)
    job.wait(60)

    assert State.CANCELLED is job.state
    until(lambda: not bench.members(job))


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


POINTS = {
    "about to lease": "E.prepare = die",
    "claimed": """
prepare = E.prepare
E.prepare = lambda *a: (prepare(*a), die())""",
    "leased": "E.start = die",
    "spawned": """
start = E.start
E.start = lambda *a: (start(*a), die())""",
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


# --- trouble -------------------------------------------------------------------------------------


TROUBLES = {
    "a full disk": StoreFullError("the disk is full"),
    "no descriptors": OSError(errno.EMFILE, "Too many open files"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_worker_recovers_when_the_store_refuses(bench, monkeypatch, impatient, trouble):
    """Nothing is stuck or repeated: each job runs once, and the worker says what was wrong."""
    transact, left, seen = Store.transact, [1, 2, 3, 5, 6, 8], []

    def refuse(store, *args, **keys):
        if threading.current_thread().name == "queuectl-worker":
            seen.append(1)
            if len(seen) in left:
                raise TROUBLES[trouble]
        return transact(store, *args, **keys)

    monkeypatch.setattr(Store, "transact", refuse)
    jobs = [bench.enqueue() for _ in range(6)]
    bench.drain(2)

    assert {State.COMPLETED} == {job.state for job in jobs}
    assert sorted(f"{job.id}.1" for job in jobs) == sorted(bench.runs)


@pytest.fixture
def one_of_three_leases(monkeypatch):
    """A disk that is full in the middle of three leases, once: only the first is stored."""
    write, cut = os.write, []

    def only_the_first(fd, data):
        text = bytes(data)
        if not cut and text.count(b'"op":"leased"') == 3:
            cut.append(fd)
            return write(fd, text[: text.index(b"\n") + 10])
        if cut == [fd]:
            cut.append("full")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr(os, "write", only_the_first)
    return cut


def test_lease_that_was_stored_in_part_is_handed_back(bench, impatient, one_of_three_leases):
    """What was leased but never started is not stuck: the worker finds it among its own."""
    jobs = [bench.enqueue() for _ in range(3)]
    bench.queue.worker(3)
    bench.queue.wait(timeout=60)

    assert one_of_three_leases
    assert {(State.COMPLETED, 0, 0)} == {
        (job.state, job.attempts, job.record.interrupts) for job in jobs
    }
    assert [job.id for job in jobs] == sorted(run.partition(".")[0] for run in bench.runs)


def test_draining_does_not_end_before_what_was_stored_in_part(
    bench, monkeypatch, one_of_three_leases
):
    """A worker that works everything off leaves none of its own leases behind."""
    monkeypatch.setattr(worker, "RETRY_S", 0.02)
    jobs = [bench.enqueue() for _ in range(3)]
    bench.drain(3)

    assert one_of_three_leases
    assert [State.COMPLETED] * 3 == [job.state for job in jobs]


def failing(monkeypatch, name: str, *, times: int, skip: int = 0, error: BaseException):
    """Let a step of the engine fail that many times, after it worked *skip* times."""
    step, calls = getattr(LocalEngine, name), []

    def fail(*args):
        calls.append(1)
        if skip < len(calls) <= skip + times:
            raise error
        return step(*args)

    monkeypatch.setattr(LocalEngine, name, fail)
    return calls


def test_worker_recovers_when_nothing_can_be_prepared(bench, monkeypatch, impatient):
    """No descriptors, no space for a run file: the job stays pending until there are some."""
    error = OSError(errno.EMFILE, "Too many open files")
    calls = failing(monkeypatch, "prepare", times=3, error=error)
    job = bench.enqueue()
    bench.drain()

    assert 4 == len(calls)
    assert (State.COMPLETED, 0, 1) == (job.state, job.attempts, job.record.attempt)


def test_end_is_recorded_though_nothing_more_can_be_started(bench, monkeypatch, until, impatient):
    """On a full disk no run file can be made; what has ended must not wait for that."""
    error = OSError(errno.ENOSPC, "No space left on device")
    failing(monkeypatch, "prepare", times=10**9, skip=1, error=error)
    bench.queue.worker()
    first, second = bench.enqueue(), bench.enqueue()
    until(lambda: first.state is State.COMPLETED, SOON_S)

    assert State.PENDING is second.state


def test_job_is_started_though_another_cannot_be_forgotten(bench, monkeypatch, impatient):
    """What goes wrong in tidying up after one job keeps no leased job from its start."""
    error = OSError(errno.EROFS, "Read-only file system")
    failing(monkeypatch, "forget", times=1, error=error)
    jobs = [bench.enqueue(), bench.enqueue()]
    bench.drain()

    assert {State.COMPLETED} == {job.state for job in jobs}
    assert ["1.1", "2.1"] == bench.runs


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS])
def test_worker_does_without_descriptors_of_processes(bench, monkeypatch, until, number):
    """An old kernel, a strict container or too many open files: the end is seen all the same."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    bench.queue.worker(2)
    jobs = [bench.enqueue() for _ in range(3)]
    until(lambda: {State.COMPLETED} == {job.state for job in jobs}, SOON_S)

    assert ["1.1", "2.1", "3.1"] == sorted(bench.runs)


def test_worker_runs_jobs_among_a_thousand_open_files(bench, raised_limit, until):
    """A kernel may have more files open than select() can watch."""
    with contextlib.ExitStack() as many:
        for _ in range(1100):
            many.enter_context(open(os.devnull))
        bench.queue.worker()
        job = bench.enqueue(HELD)
        until(bench.begun())
        bench.go()
        job.wait(10)

    assert State.COMPLETED is job.state


def test_worker_survives_who_watches_it(bench):
    """An error in showing a change keeps no job from its end."""

    def fail(_jobs) -> None:
        raise LookupError

    jobs = [bench.enqueue(), bench.enqueue()]
    last = bench.queue.new_worker(on_change=fail, drain=True)
    last.start()
    last.join(60)

    assert {State.COMPLETED} == {job.state for job in jobs}


def test_job_is_not_stuck_when_the_disk_did_not_confirm(bench, monkeypatch, until, impatient):
    """A worker that may write no more, after a failed fsync, must not sit on its jobs."""
    sync, failed = store.sync_data, []

    def fail_once(fd: int) -> None:
        if not failed and threading.current_thread() is not threading.main_thread():
            failed.append(fd)
            raise OSError(errno.EIO, "Input/output error")
        sync(fd)

    job = bench.enqueue()
    monkeypatch.setattr(store, "sync_data", fail_once)
    last = bench.queue.new_worker()
    last.start()
    until(lambda: failed)
    with JobQueue(bench.home) as queue:
        queue.worker()
        until(lambda: queue.job(job.id).state is State.COMPLETED, SOON_S)

    assert 1 == len({run.partition(".")[0] for run in bench.runs})
    last.stop(Stopping.LEAVE)
    assert last.join(10)


# --- fencing -------------------------------------------------------------------------------------


def fence(bench, job) -> None:
    """Take a job away from its worker, as if another had judged its attempt to be over."""
    attempt = job.record.attempt
    bench.queue.store.transact(
        lambda table, now: [
            lifecycle.hand_back(table.jobs[job.id], attempt, now=now, reason="fenced")
        ]
    )


@pytest.fixture
def someone(bench):
    """The name of a worker that is alive and does nothing."""
    someone = Presence(
        bench.queue.store.paths.workers, kind="python", count=1, now=datetime.now(UTC)
    )
    someone.announce()
    yield someone.info.name
    someone.leave()


def test_late_result_of_a_fenced_attempt_is_refused(bench, until, someone):
    """An attempt that is no longer the current one decides nothing, however it ends."""
    own = bench.queue.worker()
    job = bench.enqueue(HELD)
    until(bench.begun())

    def take_over(table, now):
        yield lifecycle.hand_back(table.jobs[job.id], 1, now=now, reason="fenced")

    def lease(table, now):
        yield lifecycle.lease(table.jobs[job.id], worker=someone, token="t", now=now)

    bench.queue.store.transact(take_over)
    bench.queue.store.transact(lease)
    bench.go()
    recorder.wait_until_gone(recorder.run_path(bench.queue.store.paths.run, job.id, 1))
    assert State.COMPLETED is bench.enqueue().wait(60).state

    record = job.record
    assert (State.PROCESSING, 2, someone) == (record.state, record.attempt, record.worker)
    assert own.is_alive()


def test_late_result_is_no_verdict():
    """The same, of the decision alone."""
    ended = Exit(code=0, finished_at=datetime.now(UTC))

    assert worker.verdict(None, 1, ended, datetime.now(UTC)) is None


def test_late_result_frees_no_slot(bench, until):
    """A worker that leased a job again, while its fenced attempt still ran, counts right."""
    bench.queue.worker(3)
    job = bench.enqueue(f"{MARK}; until [ -e go.$QUEUECTL_ATTEMPT ]; do sleep 0.02; done")
    until(bench.begun())
    fence(bench, job)
    presence.ring(bench.queue.store.paths.workers)
    until(lambda: "1.2" in bench.runs)
    others = [bench.enqueue(LOUD.format(HELD)) for _ in range(4)]
    until(lambda: len(bench.lines("log")) >= 1)
    bench.go("go.1")
    recorder.wait_until_gone(recorder.run_path(bench.queue.store.paths.run, job.id, 1))
    until(lambda: len(bench.lines("log")) >= 2)
    for _ in range(10):
        presence.ring(bench.queue.store.paths.workers)
        time.sleep(0.02)  # not for a condition: for something that must not happen
    bench.go("go.2")
    bench.go()
    bench.queue.wait(*others, job, timeout=60)

    assert 4 * 2 == len(bench.lines("log"))
    assert 2 == most_at_once(bench.lines("log")[:3])
