"""The verbs that run jobs or wait for them: `run`, `worker`, `wait`.

In a terminal the process is the worker until it is told to stop: the first Ctrl-C (or TERM)
finishes the current jobs, the second ends them and hands them back. In a notebook the worker is a
thread of the kernel and these verbs only start, stop and watch it. The rule here: an interrupted
wait leaves the jobs alone, and the exit code says whether a job died (1) or is not over (130).
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import click

from queuectl_magics import clock
from queuectl_magics.commands.verb import (
    DURATION,
    Family,
    Session,
    Verb,
    each,
    records_of,
)
from queuectl_magics.errors import RefusedError
from queuectl_magics.job import TERMINAL, JobRecord, State
from queuectl_magics.jobqueue import Job, JobList, WorkerList
from queuectl_magics.settings import COUNT_MAX
from queuectl_magics.store import Store
from queuectl_magics.views import text
from queuectl_magics.worker import Stopping, Worker

DIED, NOT_OVER = 1, 130
LOOK_S = 0.25

_COUNT = click.option(
    "--count",
    "-n",
    type=click.IntRange(1, COUNT_MAX),
    metavar="N",
    help="How many jobs side by side (default: the setting count).",
)


def _exit_code(jobs: Job | JobList) -> int:
    states = {record.state for record in each(jobs)}
    if State.DEAD in states:
        return DIED
    return 0 if states <= TERMINAL else NOT_OVER


def _summary(jobs: Job | JobList, _session: Session) -> str:
    if isinstance(jobs, Job):
        return text.ended(jobs.record)
    counts = Counter(record.state for record in jobs.records)
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "No jobs."


@contextmanager
def _stopping_on_signals(session: Session, worker: Worker) -> Iterator[None]:
    """Let the first signal finish the current jobs and the second end them.

    Afterwards they are ignored if one has come: a third must not end the process half way out.
    """

    def stop(_number: int, _frame: Any) -> None:
        if not worker.is_stopping:
            worker.stop(Stopping.AFTER_CURRENT)
            session.say("Stopping after the current jobs (once more: stop now) …")
        else:
            worker.stop(Stopping.NOW)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if worker.is_stopping else handler)


def _work(session: Session, worker: Worker) -> None:
    """Run *worker* in the foreground until it ends."""
    with _stopping_on_signals(session, worker):
        worker.start()
        _wait_for_end(worker)
    if worker.error is not None:
        raise worker.error


def _wait_for_end(worker: Worker) -> None:
    """Sleep until *worker* has ended, and hear every signal meanwhile.

    One that comes just before the main thread falls asleep on a lock is heard at the next signal
    only. A descriptor, to which Python writes at each, ends the sleep for sure.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def tell_end() -> None:
        worker.join()
        with suppress(BlockingIOError):  # there is enough to be heard
            os.write(told, b"\0")

    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        end = Thread(target=tell_end, name="queuectl-end", daemon=True)
        end.start()
        while worker.is_alive():
            os.read(heard, 4096)
        end.join()
    finally:
        signal.set_wakeup_fd(before)
        os.close(heard)
        os.close(told)


def _reporter(session: Session) -> Callable[[list[JobRecord]], None]:
    def report(records: list[JobRecord]) -> None:
        for record in records:
            show = text.running if record.state is State.PROCESSING else text.ended
            session.say(show(record))

    return report


def _watch(session: Session, store: Store, wanted: list[str]) -> Callable[[list[JobRecord]], None]:
    """Return what reports changed jobs and shows how many of the *wanted* ones are over.

    Those that other workers have finished are looked for now and then: to look at all jobs after
    each one would cost the square of their number.
    """
    report, left, look_at_s = _reporter(session), set(wanted), 0.0

    def look(changed: list[JobRecord]) -> None:
        nonlocal look_at_s
        report(changed)
        left.difference_update(job.id for job in changed if job.state in TERMINAL)
        now_s = clock.monotonic_s()
        if now_s >= look_at_s or not changed:
            look_at_s = now_s + LOOK_S
            with store.reading() as table:
                jobs = table.jobs
                over = [id for id in left if id not in jobs or jobs[id].state in TERMINAL]
            left.difference_update(over)
        session.progress(len(wanted) - len(left), len(wanted), "jobs")

    return look


@click.command(
    "run",
    cls=Verb,
    text=_summary,
    exit_code=_exit_code,
    json=records_of,
)
@_COUNT
@click.pass_obj
def run(session: Session, count: int | None) -> JobList:
    """Run all that waits, with a progress bar, then return.

    Exit code 1 if a job died, 130 if it was stopped before all were over.
    """
    queue = session.queue
    if queue.config.paused:
        msg = "the queue is paused, nothing would start: resume it first"
        raise RefusedError(msg)
    waiting = [job.id for job in queue.jobs() if job.state not in TERMINAL]
    look = _watch(session, queue.store, waiting)
    if not waiting:
        return JobList()
    stopped = False
    if session.foreground:
        look([])
        mine = queue.new_worker(count=count, on_change=look, drain=True)
        _work(session, mine)
        stopped = mine.is_stopping
    else:
        queue.worker(count, kind="kernel")
    left = [id for id in waiting if queue.has(id)]
    if left and not stopped:  # other workers may have taken some
        queue.wait(*left, on_look=lambda _records: look([]))
    return JobList(queue.job(id) for id in left if queue.has(id))


@click.command(
    "pause",
    cls=Verb,
    text=lambda _value, _session: "The queue is paused: nothing starts until it is resumed.",
    json=lambda _value: {"paused": True},
)
@click.pass_obj
def pause(session: Session) -> None:
    """Let no worker start a job until `resume`; what runs goes on."""
    session.queue.pause()


@click.command(
    "resume",
    cls=Verb,
    text=lambda _value, _session: "The queue is resumed.",
    json=lambda _value: {"paused": False},
)
@click.pass_obj
def resume(session: Session) -> None:
    """Let the workers start jobs again."""
    session.queue.resume()


worker = Family("worker", default="start", help="The workers of this queue.")


def _worker_lines(workers: WorkerList, _session: Session) -> str:
    return workers.text()


@worker.command(
    "start",
    text=lambda workers, session: "Worker stopped." if session.foreground else workers.text(),
)
@_COUNT
@click.pass_obj
def worker_start(session: Session, count: int | None) -> WorkerList:
    """Run jobs as they come, in a terminal until Ctrl-C.

    In a notebook the worker is a thread in the background.
    """
    queue = session.queue
    if not session.foreground:
        queue.worker(count, kind="kernel")
        session.worker_wanted(wanted=True)
        return WorkerList(queue)
    mine = queue.new_worker(count=count, on_change=_reporter(session))
    slots = count or queue.config.count
    side = "one job at a time" if slots == 1 else f"{slots} jobs side by side"
    session.say(f"Worker started ({mine.name}, {side}). Press Ctrl+C to stop.")
    if queue.config.paused:
        session.say("The queue is paused: nothing starts until it is resumed.")
    _work(session, mine)
    return WorkerList(queue)


@worker.command(
    "stop",
    text=_worker_lines,
)
@click.option("--now", is_flag=True, help="End the running jobs and hand them back.")
@click.pass_obj
def worker_stop(session: Session, *, now: bool) -> WorkerList:
    """Ask every worker to finish its current jobs and stop."""
    session.worker_wanted(wanted=False)
    stopped = session.queue.stop_workers(now=now)
    return WorkerList(session.queue, stopped, told="asked to stop")


@worker.command("status", text=_worker_lines)
@click.pass_obj
def worker_status(session: Session) -> WorkerList:
    """List the workers of this queue."""
    return WorkerList(session.queue)


@click.command(
    "wait",
    cls=Verb,
    text=_summary,
    exit_code=_exit_code,
    json=records_of,
)
@click.option("--timeout", type=DURATION, help="Give up after this long; the jobs go on.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def wait(session: Session, ids: tuple[str, ...], timeout: float | None) -> Job | JobList:
    """Wait until jobs are over: those named, or all.

    Exit code 1 if one of them died, 124 if they were not over in time.
    """

    def look(records: list[JobRecord]) -> None:
        over = sum(record.state in TERMINAL for record in records)
        session.progress(over, len(records), "jobs")

    jobs = session.queue.wait(*ids, timeout=timeout, on_look=look)
    return jobs[0] if len(ids) == 1 else JobList(jobs)
