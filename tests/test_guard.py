"""The guard: limits hold when the worker has been killed, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import signal
import site
import subprocess
import sys
from pathlib import Path

import pytest

from processes import guards_of, processes_with, stat_of
from queuectl_magics import Job, JobQueue, guard, lifecycle, presence, worker
from queuectl_magics.errors import HomeError
from queuectl_magics.job import Exit, JobRecord, State
from queuectl_magics.lock import Lock
from queuectl_magics.store import Store, store

LONG_S = 20


def has_guard(home: Path) -> bool:
    """Whether a guard is there."""
    probe = Lock(home / "guard.lock")
    try:
        return not probe.try_acquire()
    finally:
        probe.close()


def ended(queue: JobQueue, job: Job) -> Exit | None:
    """Return the exit record of *job* once there is one."""
    found = queue.engine().find(job.record)
    return found if isinstance(found, Exit) else None


@pytest.fixture
def queue(own_home):
    """A queue whose jobs and whose guard are killed in the end."""
    with JobQueue(own_home) as opened:
        yield opened


@pytest.fixture
def orphan(queue, home, until):
    """Enqueue a job, let a worker start it, and kill the worker with SIGKILL.

    The guard is there before: it takes its time, and a time limit would be over first.
    """
    told = os.fsencode(f"QUEUECTL_HOME={home}")

    def enqueue(command: str, **options: object) -> Job:
        argv = [sys.executable, "-m", "queuectl_magics", "--home", str(home), "worker", "-n", "4"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
            until(lambda: presence.workers(queue.store.paths.workers))
            guard.ensure(home)
            until(lambda: has_guard(home))
            job = queue.enqueue(command, **options)
            until(lambda: processes_with(told))
            os.kill(process.pid, signal.SIGKILL)
        return job

    return enqueue


def test_time_limit_holds_without_a_worker(queue, orphan, until):
    """The guard asks for the end, sends TERM, and the next worker settles what happened."""
    job = orphan("sleep 60", timeout_s=1.0, max_retries=1)
    until(lambda: ended(queue, job))

    assert (State.PROCESSING, "timed out after 1 s") == (job.state, job.record.stopping)

    queue.worker()
    job.wait(LONG_S)
    assert (State.DEAD, "timed out after 1 s") == (job.state, job.record.reason)
    assert job.elapsed.total_seconds() < 10


DIES_AFTER_THE_START = """
import os, signal
from queuectl_magics.cli import main
from queuectl_magics.engines.local import Child as C
begin = C.begin
C.begin = lambda *a: (begin(*a), os.kill(os.getpid(), signal.SIGKILL))
main()
"""


def test_time_limit_holds_though_the_worker_died_with_the_start(queue, home, until):
    """The guard is called before the command is, for there is no later moment that is sure."""
    job = queue.enqueue("sleep 60", timeout_s=1.0)
    argv = [sys.executable, "-c", DIES_AFTER_THE_START, "--home", str(home), "worker", "start"]
    died = subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=LONG_S, check=False)

    assert -signal.SIGKILL == died.returncode
    assert 143 == until(lambda: ended(queue, job)).code


def test_guard_that_was_killed_is_replaced(queue, home, until, monkeypatch):
    """While there is a worker: both may be killed, one after the other."""
    monkeypatch.setattr(worker, "LOOK_S", 0.1)
    queue.worker()
    queue.enqueue("sleep 60", timeout_s=60)
    first = until(lambda: guards_of(home))
    for pid in first:
        os.kill(pid, signal.SIGKILL)

    until(lambda: {*guards_of(home)} - {*first})


def test_term_proof_command_is_killed_without_a_worker(queue, orphan, until):
    """The grace is the guard's business too."""
    job = orphan(
        "trap '' TERM; while :; do sleep 0.05; done", timeout_s=0.5, grace_s=0.3, max_retries=1
    )

    assert 137 == until(lambda: ended(queue, job)).code


def test_output_cap_holds_without_a_worker(queue, orphan, until):
    """A runaway log is kept in bounds while no kernel is there."""
    job = orphan("sleep 1; yes | head -c 30000000; sleep 2", output_bytes_max=64 * 1024)
    until(lambda: job.log_path().stat().st_size >= 30_000_000)
    until(lambda: os.stat(job.log_path()).st_blocks * 512 < 256 * 1024)


FROM_A_PATH_BY_HAND = """
import sys
sys.path += sys.argv[2:]
from queuectl_magics import JobQueue
with JobQueue(sys.argv[1]) as queue:
    queue.worker()
    queue.enqueue("sleep 60", timeout_s=60)
    sys.stdin.read()
"""


def test_guard_finds_what_a_notebook_has_put_on_its_path(queue, home, until):
    """Whoever imports us from a folder of his own has a guard as well."""
    bare = Path(sys.base_prefix) / "bin" / "python3"
    folders = [str(Path(guard.__file__).parents[1]), *site.getsitepackages()]
    argv = [bare, "-c", FROM_A_PATH_BY_HAND, home, *folders]
    environ = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env=environ) as process:
        until(lambda: guards_of(home) and has_guard(home))
        process.stdin.close()


@pytest.fixture
def stray(queue, monkeypatch):
    """Start a job that nobody looks after and whose time is up; guards here are impatient."""
    monkeypatch.setattr(guard, "POLL_S", 0.01)
    monkeypatch.setattr(guard, "LINGER_S", 0.0)
    engine, running = queue.engine(), []

    def start() -> Job:
        job = queue.enqueue("sleep 60", timeout_s=0.01)
        claim = engine.prepare(job.record, 1, "t")
        queue.store.transact(
            lambda table, now: [
                lifecycle.lease(table.jobs[job.id], worker="gone", token="t", now=now)
            ]
        )
        running.append(engine.place(job.record, claim, dict(os.environ)))
        running[-1].begin()
        return job

    yield start
    for one in running:
        one.signal(signal.SIGKILL)
        one.wait()


def test_guard_stays_when_the_disk_refuses_for_a_moment(queue, home, stray, monkeypatch):
    """An error of the disk may pass, and nobody else would hold the time limits then."""
    transact, refused = Store.transact, []

    def refuse(store, *args, **keys):
        if len(refused) < 3:
            refused.append(store)
            msg = f"{store.paths.journal} cannot be used: Input/output error"
            raise HomeError(msg)
        return transact(store, *args, **keys)

    job = stray()
    monkeypatch.setattr(Store, "transact", refuse)
    guard.guard(home)

    assert 3 == len(refused)
    assert 143 == ended(queue, job).code


def test_guard_opens_the_queue_anew_when_the_disk_did_not_confirm(queue, home, stray, monkeypatch):
    """A store that may write no more is of no use to the other jobs."""
    sync, failed = store.sync_data, []

    def fail_once(fd: int) -> None:
        if not failed:
            failed.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)

    jobs = [stray(), stray()]
    monkeypatch.setattr(store, "sync_data", fail_once)
    guard.guard(home)

    assert failed
    assert [143, 143] == [ended(queue, job).code for job in jobs]


def test_guard_is_called_once(home, queue, until):
    """While one is there, calling again starts no other."""
    queue.enqueue("sleep 2", timeout_s=10)
    queue.worker()
    until(lambda: has_guard(home))
    guard.ensure(home)
    guard.guard(home)  # a second one in this process returns at once

    assert has_guard(home)


def test_guard_is_no_child_of_the_worker(home, queue, until):
    """It leaves no zombie in the kernel's process table."""
    queue.enqueue("sleep 1", timeout_s=10)
    queue.worker()
    until(lambda: has_guard(home))
    guards = guards_of(home)

    assert guards
    assert f"{os.getpid()}" not in {stat_of(pid)[1] for pid in guards}


def test_short_job_costs_no_guard():
    """Without limits of its own it is guarded after some seconds, or when it prints too much."""
    job = JobRecord(
        id="1",
        command="true",
        state=State.PROCESSING,
        attempts=0,
        max_retries=3,
        created_at=None,
        updated_at=None,
    )

    asked = [(0.1, 0), (3.0, 0), (0.1, job.output_bytes_max + 1)]
    assert [False, True, True] == [guard.wants_guard(job, *about) for about in asked]


def test_a_guard_that_can_never_open_the_queue_goes_in_the_end(home, monkeypatch):
    """Who guards nothing need not stay; a moment's refusal is waited out."""
    opened = []

    def refuse(path):
        opened.append(path)
        raise HomeError(path)

    home.mkdir()
    monkeypatch.setattr(guard, "Store", refuse)
    monkeypatch.setattr(guard, "POLL_S", 0.0)

    guard.guard(home)

    assert len(opened) == guard.REFUSALS_MAX
