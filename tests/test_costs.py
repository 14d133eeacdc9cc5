"""What things cost, counted and not timed: system calls, syncs, bytes, lines, files, modules.

A time tells nothing on a busy machine; a count is the same everywhere. Each bound is what is
needed today; whoever needs more says why, here. `benchmarks/` has the times.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from queuectl_magics import JobQueue, codec, lifecycle, validation
from queuectl_magics.job import Exit, JobSpec
from queuectl_magics.store.opening import snapshot_text
from queuectl_magics.table import Table

CALLS = [
    *("close", "dup", "fdatasync", "fstat", "fsync", "ftruncate", "link", "mkdir", "open"),
    *("pread", "pwrite", "read", "rename", "replace", "scandir", "stat", "truncate", "unlink"),
    "write",
]
HEAVY = {"pandas", "numpy", "ipywidgets", "anywidget", "distributed", "dask", "psutil", "pytest"}
JOBS = 20
LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "queuectl_magics")
print(*sorted(set(sys.modules) - before))
"""
STATUS = """
import sys
from queuectl_magics import cli
try:
    cli.main(["--home", sys.argv[1], "status"])
except SystemExit:
    print(*sorted(sys.modules))
"""
COLLECTED = """
import gc, sys
looks = []
from queuectl_magics.__main__ import main
gc.callbacks.append(lambda phase, _: looks.append(gc.get_freeze_count()))
sys.argv[1:] = ["--home", sys.argv[1], "status"]
try:
    main()
except SystemExit:
    print(looks.count(0), gc.get_freeze_count(), int(gc.isenabled()))
"""
TYPING = """
import sys
from queuectl_magics.__main__ import main
sys.argv[1:] = ["--home", sys.argv[1], "status"]
try:
    main()
except SystemExit:
    loaded = "typing_extensions" in sys.modules
    import typing_extensions
    print(loaded, typing_extensions.__name__)
"""


class Calls(Counter[str]):
    """How often each function was called; `created` names the files that it made."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[str] = []
        self.written = 0

    @property
    def syncs(self) -> int:
        """How often we waited for the disk."""
        return self["fsync"] + self["fdatasync"]


@pytest.fixture
def counting(monkeypatch):
    """Count what is asked of the system while the block lasts, by all threads of this process."""

    @contextmanager
    def count() -> Iterator[Calls]:
        calls = Calls()

        def counted(module, name: str):
            real = getattr(module, name)

            def call(*args, **kwargs):
                calls[name] += 1
                if name == "open" and args[1] & os.O_CREAT and not os.path.exists(args[0]):
                    calls.created.append(os.fspath(args[0]))
                    calls["stat"] -= 1  # our own look
                if name in ("write", "pwrite"):
                    calls.written += len(args[1])
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            for name in CALLS:
                patched.setattr(os, name, counted(os, name))
            patched.setattr(fcntl, "flock", counted(fcntl, "flock"))
            yield calls

    return count


@pytest.fixture
def queue(home):
    """A queue with a few jobs, whose first sync is over."""
    with JobQueue(home) as made:
        made.enqueue_all([JobSpec(command="true")] * JOBS)
        yield made


def lease(queue: JobQueue, id: str) -> None:
    """Give a job to a worker."""
    queue.store.transact(
        lambda table, now: [lifecycle.lease(table.jobs[id], worker="w", token="t", now=now)]
    )


def succeed(queue: JobQueue, id: str) -> None:
    """Let a job that was leased end well."""
    queue.store.transact(
        lambda table, now: [
            lifecycle.settle(table.jobs[id], 1, Exit(code=0, finished_at=now), now=now)
        ]
    )


def test_a_change_is_one_write_and_one_sync(queue, counting) -> None:
    """Lock, look once, append, unlock, sync: nothing else, and nothing that is done twice."""
    with counting() as calls:
        lease(queue, "1")
    assert (calls["write"], calls.syncs, calls["flock"], calls["stat"]) == (1, 1, 2, 1)
    assert calls["open"] == calls["read"] == calls["pread"] == calls["rename"] == 0
    assert calls.total() <= 7


def test_a_change_without_durability_is_never_synced(queue, counting) -> None:
    """`durability = none` saves the sync, and only that."""
    queue.store.durability = "none"
    with counting() as calls:
        lease(queue, "1")
    assert (calls["write"], calls.syncs) == (1, 0)
    assert calls.total() <= 4


def test_a_change_costs_the_same_after_a_long_history(queue, counting) -> None:
    """O(1): the calls and the bytes of a change do not grow with the number of jobs."""
    with counting() as early:
        lease(queue, "1")
    queue.enqueue_all([JobSpec(command="true")] * 3_000)
    with counting() as late:
        lease(queue, "2")
    assert dict(late) == dict(early)
    assert abs(late.written - early.written) <= 8  # longer numbers


def test_bytes_per_transition_are_few(queue, counting) -> None:
    """An event holds what happened, not the whole job again."""
    with counting() as calls:
        lease(queue, "3")
        leased = calls.written
        succeed(queue, "3")
    assert leased <= 160
    assert calls.written - leased <= 220


def test_an_accepted_job_is_one_sync(queue, counting) -> None:
    """The environment was written for the first job; the others only refer to it."""
    queue.enqueue_all([JobSpec(command="true")])  # pytest has changed the environment since
    queue.enqueue_all([JobSpec(command="true")])  # the first to find the file confirms its name
    with counting() as calls:
        queue.enqueue("true")
    assert (calls["write"], calls.syncs) == (1, 1)
    assert calls.created == []
    assert calls.total() <= 14


@pytest.fixture
def steps(monkeypatch):
    """The names of what the main thread asks of the system on the way of a change, in order."""
    asked: list[str] = []

    def noted(name: str):
        real = getattr(os, name)

        def call(*args, **kwargs):
            if threading.current_thread() is threading.main_thread():
                asked.append(name)
            return real(*args, **kwargs)

        return call

    for name in ("write", "posix_fadvise", "scandir", "fdatasync"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, noted(name))
    return asked


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be told to begin")
def test_the_disk_works_while_the_workers_are_looked_for(queue, steps) -> None:
    """It begins as soon as the line is written: what we do until it has ended takes no time."""
    queue.enqueue("true")  # pytest has changed the environment since
    steps.clear()
    queue.enqueue("true")
    assert steps == ["write", "posix_fadvise", "scandir", "fdatasync"]
    steps.clear()
    queue.configure("durability", "none")
    steps.clear()
    queue.enqueue("true")
    assert steps == ["write", "scandir"]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be told to begin")
def test_the_disk_is_not_told_to_begin_with_what_others_wrote(queue, home, steps) -> None:
    """A range without an end would put the whole journal out of the memory."""
    with JobQueue(home) as other:
        steps.clear()
        other.store.begin_sync()
        queue.enqueue("true")
        other.store.catch_up()
        steps.clear()
        other.store.begin_sync()
        assert steps == []


def test_a_worker_that_was_stopped_is_not_waited_for(queue, steps) -> None:
    """The others are rung before the disk is asked, as if it had never been."""
    queue.enqueue("true")
    queue.worker().stop()
    assert queue.own_worker.join(20)
    steps.clear()
    queue.enqueue("true")
    assert steps[-2:] == ["scandir", "fdatasync"]


def test_our_own_worker_is_rung_and_given_the_interpreter_at_once(queue, steps) -> None:
    """It can only begin when we wait for the disk, so nothing comes before that."""
    queue.pause()
    queue.enqueue("true")
    queue.worker().has_looked.wait(10)
    steps.clear()
    queue.enqueue("true")
    assert steps == ["write", "write", "fdatasync", "scandir"]  # the line, the bell


def test_many_jobs_accepted_at_once_are_one_write_and_one_sync(queue, counting) -> None:
    """A sweep of a thousand waits for the disk once."""
    queue.enqueue_all([JobSpec(command="true")])
    queue.enqueue_all([JobSpec(command="true")])
    with counting() as calls:
        queue.enqueue_all([JobSpec(command=f"echo {number}") for number in range(1_000)])
    assert (calls["write"], calls.syncs) == (1, 1)
    assert calls.total() <= 25
    assert calls.written <= 1_000 * (240 + len(os.getcwd()))  # no moment and no default twice


def test_jobs_of_one_policy_are_checked_and_built_once(queue, monkeypatch) -> None:
    """In a sweep only the command differs: the other fields are checked once, defaults never."""
    done = Counter[str]()

    def counted(module, name: str):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, **kw: done.update([name]) or real(*args, **kw)
        )

    counted(validation, "check")
    counted(lifecycle, "new_job")
    commands = [f"echo {number}" for number in range(500)]
    queue.enqueue_all([*commands, *(JobSpec(command=each, name="n") for each in commands)])
    assert done == {"check": 1, "new_job": 2}


def test_a_job_takes_few_bytes_of_memory() -> None:
    """A sweep of jobs that ran one after the other, as a process has it that opens the queue."""
    began = datetime(2026, 11, 24, tzinfo=UTC)
    jobs = []
    for number in range(1, 5_001):
        spec = JobSpec(command=f"python train.py --lr {number / 7:.6f}")
        settings = {"max_retries": 3, "backoff_base": 2.0, "backoff_cap_s": 60.0}
        places = {"cwd": "/home/someone/notebooks", "environ_ref": "64fc2afb4dc1c058446b"}
        job = lifecycle.new_job(spec, id=str(number), due_from=began, **settings, **places)
        job = lifecycle.evolve(None, lifecycle.enqueue(job, now=began), number)
        at = began + timedelta(seconds=number)
        job = lifecycle.evolve(
            job, lifecycle.lease(job, worker="1-abc", token="t", now=at), number
        )
        done = Exit(code=0, finished_at=at + timedelta(seconds=0.5), cpu_s=0.1 * number)
        jobs.append(lifecycle.evolve(job, lifecycle.settle(job, 1, done), 2 * number))
    text = snapshot_text(jobs)
    gc.collect()
    tracemalloc.start()
    try:
        table = Table(codec.decode_jobs(text))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert list(table.jobs.values()) == jobs
    assert taken / len(jobs) <= 700


def test_looking_at_an_unchanged_queue_reads_nothing(queue, counting) -> None:
    """Asking again costs a look at the size of the journal."""
    with counting() as calls, queue.store.reading():
        pass
    assert calls["stat"] <= 1
    assert calls["fstat"] <= 1
    assert calls.total() <= 2


def test_catching_up_parses_each_new_line_once(queue, home, monkeypatch) -> None:
    """Another process reads what was appended since it last looked, and no more."""
    other = JobQueue(home)
    other.store.catch_up()
    parsed: list[bytes] = []
    decode = codec.decode_line
    monkeypatch.setattr(codec, "decode_line", lambda line: parsed.append(line) or decode(line))
    for id in ("1", "2", "3"):
        lease(queue, id)
    assert parsed == []  # the writer knows what it wrote
    other.store.catch_up()
    assert [json.loads(line)["id"] for line in parsed] == ["1", "2", "3"]
    other.store.catch_up()
    assert len(parsed) == 3
    other.close()


def test_a_job_that_runs_costs_two_files_and_few_syncs(queue, counting, monkeypatch) -> None:
    """A log and a run file; ends and new leases share a transaction, and slots have threads."""
    threads = Counter[str]()
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        threads[thread.name.rstrip("0123456789")] += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    with counting() as calls:
        queue.worker(2)
        queue.wait(timeout=60)
        queue.own_worker.stop()
        assert queue.own_worker.join(10)
    of_jobs = [path for path in calls.created if path.endswith((".run", ".log"))]
    assert len(of_jobs) <= 2 * JOBS
    assert len(calls.created) - len(of_jobs) <= 6  # the worker's own
    assert calls.syncs <= 2 * JOBS + 4
    assert calls["unlink"] <= JOBS + 8
    assert calls["read"] <= JOBS // 2  # the bell is heard only when it has rung
    assert calls.total() <= 30 * JOBS
    assert threads["queuectl-job-"] == 2


def last_words(program: str, *arguments: str) -> list[str]:
    """Return the words that *program* prints last, from a process without a coverage hook."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    argv = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()[-1].split()


def test_load_ext_imports_nothing_heavy(tmp_path, monkeypatch) -> None:
    """`%load_ext` comes before anything is wanted: it names the magics and loads nothing else."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "q"))
    found = set(last_words(LOAD))
    assert not (HEAVY | {"click", "msgspec", "queuectl_magics.store"}) & found
    assert len(found) <= 12
    assert not (tmp_path / "q").exists()


def test_queuectl_status_imports_nothing_heavy(home) -> None:
    """A terminal answers at once: no notebook, no event loop, no network, no database."""
    found = set(last_words(STATUS, str(home)))
    assert not (HEAVY | {"IPython", "traitlets", "asyncio", "ssl", "http", "sqlite3"}) & found
    assert not {"subprocess", "hashlib", "ctypes", "difflib", "html", "json", "shutil"} & found
    assert not {"signal", "locale", "importlib.metadata", "queuectl_magics.views.progress"} & found
    assert len(found) <= 180


def test_queuectl_collects_no_garbage_while_it_loads(home) -> None:
    """What is loaded stays; a command that goes on, as a worker does, collects as any other."""
    looks, frozen, is_on = map(int, last_words(COLLECTED, str(home)))
    assert looks == 0
    assert frozen > 10_000
    assert is_on


def test_queuectl_takes_what_typing_can_do_from_there(home) -> None:
    """What it loads for nobody is not loaded, and whoever asks for it afterwards has it."""
    pytest.importorskip("typing_extensions")
    assert last_words(TYPING, str(home)) == ["False", "typing_extensions"]
