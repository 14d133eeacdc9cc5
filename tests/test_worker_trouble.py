"""A worker goes on when the store, the disk or the system refuse, and when it was fenced off."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
from datetime import UTC, datetime

import pytest

from benches import FOR_EVER_S, HELD, LOUD, MARK, SOON_S
from queuectl_magics import (
    attempts,
    environment,
    lifecycle,
    limits,
    presence,
    recorder,
    worker,
)
from queuectl_magics.engines.local import Child, LocalEngine
from queuectl_magics.errors import OutcomeUnknownError, StoreFullError
from queuectl_magics.job import Exit, State
from queuectl_magics.jobqueue import JobQueue
from queuectl_magics.presence import Presence
from queuectl_magics.store import Store, store, syncing
from queuectl_magics.table import Table
from queuectl_magics.worker import Stopping
from tables import enqueued

# --- trouble -------------------------------------------------------------------------------------


def test_worker_ends_when_its_home_is_deleted(bench, terminal, until):
    """Or moved away: it says so, and does not look for ever at what is not there."""
    process = terminal.start("worker", "start")
    bench.enqueue(HELD)
    until(bench.begun())
    bench.home.rename(bench.home.with_name("away"))
    said, _ = process.communicate(timeout=30)

    assert 1 == process.returncode
    assert f"Error: the queue's home {bench.home} was deleted while it was in use\n" in said
    assert not bench.home.exists()


def test_worker_ends_when_its_home_is_replaced(bench, terminal, until):
    """The new queue is another one, whose jobs it does not touch."""
    process = terminal.start("worker", "start")
    until(bench.queue.workers)
    bench.home.rename(bench.home.with_name("away"))
    with JobQueue(bench.home) as newer:
        job = newer.enqueue("true")
        said, _ = process.communicate(timeout=30)

        assert State.PENDING is job.state
    assert 1 == process.returncode
    assert re.search("was (deleted|replaced) while it was in use", said)  # as it happened to look
    bench.queue.store.close()


TROUBLES = {
    "a full disk": StoreFullError("the disk is full"),
    "no descriptors": OSError(errno.EMFILE, "Too many open files"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_worker_recovers_when_the_store_refuses(bench, monkeypatch, impatient, trouble):
    """Nothing is stuck or repeated: each job runs once, and the worker says what was wrong."""
    transact, left, seen = Store.transact, [1, 2, 3, 5, 6, 8], []

    def refuse(store, *args, **keys):
        if threading.current_thread().name.startswith(("queuectl-worker", "queuectl-job")):
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


def failing(
    monkeypatch,
    name: str,
    *,
    times: int,
    skip: int = 0,
    error: BaseException,
    of: type = LocalEngine,
    thread: str = "",
):
    """Let a step of the engine (or *of* another) fail so often, after it worked *skip* times."""
    step, calls = getattr(of, name), []

    def fail(*args, **keys):
        if thread and threading.current_thread().name != thread:
            return step(*args, **keys)
        calls.append(1)
        if skip < len(calls) <= skip + times:
            raise error
        return step(*args, **keys)

    monkeypatch.setattr(of, name, fail)
    return calls


def test_worker_recovers_when_nothing_can_be_prepared(bench, monkeypatch, impatient):
    """No descriptors, no space for a run file: the job stays pending until there are some."""
    error = OSError(errno.EMFILE, "Too many open files")
    calls = failing(monkeypatch, "prepare", times=3, error=error)
    job = bench.enqueue()
    bench.drain()

    assert 4 == len(calls)
    assert (State.COMPLETED, 0, 1) == (job.state, job.attempts, job.record.attempt)


def test_draining_goes_on_when_it_cannot_see_whether_anything_is_left(
    bench, monkeypatch, impatient
):
    """No descriptors at that moment, and `queuectl run` still works everything off."""
    error = OSError(errno.EMFILE, "Too many open files")
    calls = failing(monkeypatch, "_is_drained", times=3, error=error, of=worker.Worker)
    job = bench.enqueue()
    bench.drain()

    assert 3 < len(calls)
    assert State.COMPLETED is job.state


def test_end_is_recorded_though_nothing_more_can_be_started(bench, monkeypatch, until, impatient):
    """On a full disk no run file can be made; what has ended must not wait for that."""
    error = OSError(errno.ENOSPC, "No space left on device")
    failing(monkeypatch, "prepare", times=10**9, skip=1, error=error)
    bench.queue.worker()
    first, second = bench.enqueue(), bench.enqueue()
    until(lambda: first.state is State.COMPLETED, SOON_S)

    assert State.PENDING is second.state


def test_time_limit_holds_on_a_full_disk(bench, monkeypatch, until, impatient):
    """The reason for an end uses the space put by: it may be this job that fills the disk."""
    transact = Store.transact

    def refuse(store, decide, *, vital=False, **keys):
        if threading.current_thread().name == "queuectl-worker" and not vital:
            raise TROUBLES["a full disk"]
        return transact(store, decide, vital=vital, **keys)

    bench.queue.worker()
    job = bench.enqueue(HELD, timeout_s=0.3, max_retries=1)
    until(bench.begun())
    monkeypatch.setattr(Store, "transact", refuse)
    until(lambda: job.state is State.DEAD, SOON_S)

    assert "timed out after 0.3 s" == job.record.reason


def test_tries_on_a_full_disk_leave_no_run_files(bench, monkeypatch, until, impatient):
    """Each try to lease a job has a name of its own for it, and leaves nothing behind."""
    error = StoreFullError("the disk is full")
    calls = failing(
        monkeypatch, "_record", times=5, error=error, of=Store, thread="queuectl-worker"
    )
    jobs = [bench.enqueue() for _ in range(3)]
    bench.queue.worker(2)
    until(lambda: len(calls) > 3)
    assert len(list(bench.queue.store.paths.run.iterdir())) <= 2
    bench.queue.wait(timeout=60)

    assert {State.COMPLETED} == {job.state for job in jobs}
    assert len(list(bench.queue.store.paths.run.iterdir())) <= 3


def test_job_is_started_though_another_cannot_be_forgotten(bench, monkeypatch, impatient):
    """What goes wrong in tidying up after one job keeps no leased job from its start."""
    error = OSError(errno.EROFS, "Read-only file system")
    failing(monkeypatch, "forget", times=1, error=error)
    jobs = [bench.enqueue(), bench.enqueue()]
    bench.drain()

    assert {State.COMPLETED} == {job.state for job in jobs}
    assert ["1.1", "2.1"] == bench.runs


def test_a_sync_that_could_not_be_asked_for_is_asked_for_again(bench, monkeypatch, until):
    """What was wrong is not said for ever, and what has ended is tidied up all the same."""
    monkeypatch.setattr(syncing, "RETRY_S", 0.01)
    error = OutcomeUnknownError("the disk could not be asked")
    calls = failing(monkeypatch, "sync", times=3, error=error, of=Store, thread="queuectl-sync")
    mine = bench.queue.worker()
    bench.enqueue().wait(60)
    until(lambda: len(calls) > 3)
    bench.enqueue().wait(60)

    assert until(lambda: mine.error is None and len(mine.engine._spare) == 1)


@pytest.mark.parametrize("place", [(Child, "wait"), (worker.Worker, "_until_due_s")])
def test_no_descriptor_at_the_moment_of_an_end_ends_no_worker(
    bench, monkeypatch, until, impatient, place
):
    """Whatever is asked for between two turns may fail, as all that is asked for in one may."""
    monkeypatch.setattr("queuectl_magics.attempts.RETRY_S", 0.01)
    mine = bench.queue.worker(2)
    job = bench.enqueue(HELD)
    until(bench.begun())
    failing(monkeypatch, place[1], times=1, error=OSError(errno.EMFILE, ""), of=place[0])
    bench.enqueue()
    bench.go()
    bench.queue.wait(timeout=60)

    assert State.COMPLETED is job.state
    assert mine.is_alive()
    assert ["1.1", "2.1"] == bench.runs


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_jobs_whose_start_was_not_reached_are_not_stuck(bench, monkeypatch, until, begun):
    """What ends a worker between its starts leaves no lock: the other jobs run elsewhere."""
    jobs = [bench.enqueue() for _ in range(3)]
    failing(monkeypatch, "add", times=1, skip=begun, error=MemoryError(), of=attempts.Attempts)
    mine = bench.queue.worker(3)
    until(lambda: not mine.is_alive())
    with JobQueue(bench.home) as queue:
        queue.worker(3)
        queue.wait(timeout=60)

    assert isinstance(mine.error, MemoryError)
    assert {(State.COMPLETED, 0, 0)} == {
        (job.state, job.attempts, job.record.interrupts) for job in jobs
    }
    assert [f"{id}.{1 if id <= begun else 2}" for id in (1, 2, 3)] == sorted(bench.runs)


def test_what_ends_a_worker_ends_it_whichever_thread_has_the_turn(bench, monkeypatch, until):
    """A job's own thread, which takes the turn at its end, hands on what it cannot deal with."""
    first = bench.enqueue(HELD)
    mine = bench.queue.worker(1)
    until(bench.begun())
    second = bench.enqueue()
    failing(monkeypatch, "add", times=1, error=MemoryError(), of=attempts.Attempts)
    bench.go()
    until(lambda: not mine.is_alive())
    with JobQueue(bench.home) as queue:
        queue.worker()
        queue.wait(timeout=60)

    assert isinstance(mine.error, MemoryError)
    assert [State.COMPLETED] * 2 == [first.state, second.state]
    assert ["1.1", "2.2"] == bench.runs


def test_what_runs_is_waited_for_whatever_ends_its_worker(bench, monkeypatch, until):
    """A recorder that nobody reaps would stay in the list of processes as long as the kernel."""
    before = set(threading.enumerate())
    failing(monkeypatch, "_enforce_limits", times=1, error=MemoryError(), of=worker.Worker, skip=1)
    mine = bench.queue.worker(1)
    assert mine.has_looked.wait(SOON_S)
    bench.enqueue(HELD)
    until(lambda: not mine.is_alive())
    until(bench.begun())
    assert set(threading.enumerate()) - before
    bench.go()
    until(lambda: not set(threading.enumerate()) - before, SOON_S)

    bench.drain()
    assert ["1.1"] == bench.runs


def test_job_begins_before_whoever_watches_is_told(bench, until):
    """A terminal that stands still (Ctrl-S) holds up no job that is leased."""
    blocked, told = threading.Event(), []

    def tell(jobs) -> None:
        told.extend((job.id, job.state) for job in jobs)
        if ("2", State.PROCESSING) in told:
            blocked.wait(60)

    bench.enqueue(HELD)
    bench.enqueue()
    last = bench.queue.new_worker(count=1, drain=True, on_change=tell)
    last.start()
    until(bench.begun())
    bench.go()
    until(lambda: ("2", State.PROCESSING) in told)
    until(lambda: ["1.1", "2.1"] == bench.runs, SOON_S)
    blocked.set()

    assert last.join(10)


@pytest.fixture
def deaf(only_bells, monkeypatch):
    """A loop that hears of nothing but what the threads of its jobs tell it."""
    monkeypatch.setattr(worker, "FIRST_LOOK_S", FOR_EVER_S)
    monkeypatch.setattr(limits, "OUTPUT_BYTES_PER_S", 1)


def test_what_fails_in_a_jobs_own_turn_is_told_to_the_loop(bench, deaf, monkeypatch, until):
    """It sees to it at once: the end is settled, and the next job is run."""
    monkeypatch.setattr(worker, "RETRY_S", 0.02)
    bench.enqueue(HELD)
    mine = bench.queue.worker(1)
    until(bench.begun())
    bench.enqueue()
    full = StoreFullError("the disk is full", ())
    calls = failing(
        monkeypatch, "transact", times=1, error=full, of=Store, thread="queuectl-job-1"
    )
    bench.go()
    until(lambda: ["1.1", "2.1"] == bench.runs, SOON_S)
    bench.queue.wait(timeout=60)

    assert calls
    assert mine.error is None


def test_loop_ends_as_soon_as_the_last_job_has_ended(bench, deaf, until):
    """It is told that nobody waits for anything any more."""
    job = bench.enqueue(HELD)
    last = bench.queue.new_worker(drain=True)
    last.start()
    until(bench.begun())
    time.sleep(2 * limits.FIRST_LOOK_S)  # no condition: the loop is to be asleep for good
    bench.go()

    assert last.join(SOON_S)
    assert State.COMPLETED is job.state


def test_what_cannot_begin_is_settled_at_once(bench, deaf, until):
    """An end that no thread has seen is the loop's own."""
    job = bench.enqueue(max_retries=1)
    for path in bench.queue.store.paths.env.iterdir():
        path.unlink()
    environment._recall.cache_clear()
    bench.queue.worker()
    until(lambda: job.state is State.DEAD, SOON_S)

    assert "missing or was altered" in job.record.reason


def test_no_job_starts_in_the_place_of_another_once_the_queue_is_paused(
    bench, elsewhere, monkeypatch, until
):
    """When `pause` has returned the thread of a job that ends has heard of it, as the loop has."""
    first, held, slept = bench.enqueue(HELD), threading.Event(), threading.Event()
    sleep = Presence.sleep

    def oversleep(self, timeout_s: float) -> bool:
        if bench.runs:
            slept.set()
            held.wait(60)
        return sleep(self, timeout_s)

    monkeypatch.setattr(Presence, "sleep", oversleep)
    bench.queue.worker(1)
    until(bench.begun())
    second = bench.enqueue()
    assert slept.wait(SOON_S)
    elsewhere.pause()
    bench.go()
    until(lambda: first.state is State.COMPLETED, SOON_S)
    assert State.PENDING is second.state
    held.set()
    elsewhere.resume()
    bench.queue.wait(timeout=60)

    assert ["1.1", "2.1"] == bench.runs


def test_worker_that_has_left_leases_nothing_at_the_end_of_what_it_left(bench, until):
    """The thread that waits for a job outlives its worker, and only reaps."""
    before = set(threading.enumerate())
    bench.enqueue(HELD)
    mine = bench.queue.worker(1)
    until(bench.begun())
    second = bench.enqueue()
    mine.stop(Stopping.LEAVE)
    assert mine.join(SOON_S)
    assert set(threading.enumerate()) - before
    bench.go()
    until(lambda: not set(threading.enumerate()) - before, SOON_S)

    assert State.PENDING is second.state
    bench.drain()
    assert ["1.1", "2.1"] == bench.runs


@pytest.fixture
def no_more_threads(monkeypatch):
    """A kernel that cannot start any, from the moment on at which this is called."""
    start, refused = threading.Thread.start, []

    def stop_starting(times: int = 10**9) -> list[str]:
        def refuse(thread) -> None:
            if len(refused) < times:
                refused.append(thread.name)
                msg = "can't start new thread"
                raise RuntimeError(msg)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        return refused

    return stop_starting


def test_worker_goes_on_while_no_threads_can_be_started(bench, until, impatient, no_more_threads):
    """Each attempt needs one: it is tried again, and the job runs once all the same."""
    mine = bench.queue.worker(2)
    assert mine.has_looked.wait(SOON_S)
    refused = no_more_threads(5)
    jobs = [bench.enqueue(), bench.enqueue()]
    until(lambda: {State.COMPLETED} == {job.state for job in jobs}, SOON_S)

    assert {"queuectl-job-1", "queuectl-job-2"} == {*refused}
    assert ["1.1", "2.1"] == sorted(bench.runs)
    assert mine.is_alive()


def test_worker_that_cannot_begin_is_in_no_list(bench, no_more_threads):
    """Whoever asked for it is told, and may ask again."""
    no_more_threads(1)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        bench.queue.new_worker().start()
    assert [] == bench.queue.workers()
    bench.enqueue()
    bench.drain()

    assert ["1.1"] == bench.runs


def test_worker_settles_what_no_thread_waits_for(bench, until, impatient, no_more_threads):
    """Where none can be started at all, jobs run and end; it only takes a moment longer."""
    mine = bench.queue.worker(2)
    assert mine.has_looked.wait(SOON_S)
    no_more_threads()
    jobs = [bench.enqueue() for _ in range(5)]
    until(lambda: {State.COMPLETED} == {job.state for job in jobs}, SOON_S)

    assert [f"{number}.1" for number in range(1, 6)] == sorted(bench.runs)
    assert mine.is_alive()


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
    run = bench.run_path(job)

    def take_over(table, now):
        yield lifecycle.hand_back(table.jobs[job.id], 1, now=now, reason="fenced")

    def lease(table, now):
        yield lifecycle.lease(table.jobs[job.id], worker=someone, token="t", now=now)

    bench.queue.store.transact(take_over)
    bench.queue.store.transact(lease)
    bench.go()
    recorder.wait_until_gone(run)
    assert State.COMPLETED is bench.enqueue().wait(60).state

    record = job.record
    assert (State.PROCESSING, 2, someone) == (record.state, record.attempt, record.worker)
    assert own.is_alive()


def test_late_result_settles_nothing():
    """The same, of the decision alone."""
    now = datetime.now(UTC)
    ends = [(enqueued("1").job, Exit(code=0, finished_at=now))]

    assert [] == list(attempts.settlements(ends, Table(), now))


def test_late_result_frees_no_slot(bench, until):
    """A worker that leased a job again, while its fenced attempt still ran, counts right."""
    bench.queue.worker(3)
    job = bench.enqueue(f"{MARK}; until [ -e go.$QUEUECTL_ATTEMPT ]; do sleep 0.02; done")
    until(bench.begun())
    run = bench.run_path(job)
    fence(bench, job)
    presence.ring(bench.queue.store.paths.workers)
    until(lambda: "1.2" in bench.runs)
    others = [bench.enqueue(LOUD.format(HELD)) for _ in range(4)]
    until(lambda: len(bench.lines("log")) >= 1)
    bench.go("go.1")
    recorder.wait_until_gone(run)
    until(lambda: len(bench.lines("log")) >= 2)
    for _ in range(10):
        presence.ring(bench.queue.store.paths.workers)
        time.sleep(0.02)  # not for a condition: for something that must not happen
    begun = bench.lines("log")
    bench.go("go.2")
    bench.go()
    bench.queue.wait(*others, job, timeout=60)

    assert ["+ 2", "+ 3"] == begun  # the third slot is the second attempt's
    assert 4 * 2 == len(bench.lines("log"))
