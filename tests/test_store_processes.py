"""Several processes on one home: locked out, stopped, killed, forked; and homes that go away."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuectl_magics.errors import HomeError, StoreBusyError, StoreDamagedError
from queuectl_magics.lock import Lock
from queuectl_magics.store import Store, opening, store
from queuectl_magics.store.compaction import compact, tidy_if_cheap
from stores import (
    POINTS_OF_COMPACTION,
    cancel,
    crash_while_compacting,
    enqueue,
    prune,
    read_anew,
    reread,
)


@pytest.fixture
def home(memory: Path) -> Path:
    """The path of a home in memory."""
    return memory / "home"


@pytest.fixture
def other(home, opened) -> Iterator[Store]:
    """The store of another process, as far as files and locks can tell."""
    made = Store(home)
    yield made
    made.close()


@pytest.fixture
def python() -> Iterator[Callable[[str], subprocess.Popen]]:
    """Start a Python of our own that runs a text; it is killed in the end."""
    started = []

    def start(text: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def forked(work: Callable[[], object]) -> int:
    """Do *work* in a forked child and return its exit code; 0 if it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside other threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


HOLD = """
    from pathlib import Path
    from queuectl_magics.store import Store

    with Store(Path({home!r})).exclusive():
        print("held", flush=True)
        input()
"""


# --- the lock -----------------------------------------------------------------------------------


def test_stopped_process_that_holds_the_lock_is_named(home, opened, python):
    """Writers are told its pid in time, readers do not notice, and its death frees the lock."""
    holder = python(HOLD.format(home=str(home)))
    assert "held\n" == holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreBusyError, match=rf"locked by process {holder.pid}: try again"):
        opened.transact(enqueue("1"), timeout_s=0.02)
    with opened.reading() as table:
        assert {} == table.jobs

    holder.kill()
    opened.transact(enqueue("1"))

    assert ["1"] == list(reread(home))


def test_opening_does_not_wait_for_ever(home, opened, python, monkeypatch):
    """A new process is told as well who holds the lock."""
    holder = python(HOLD.format(home=str(home)))
    assert "held\n" == holder.stdout.readline()
    monkeypatch.setattr(Lock, "_wait", lambda lock, _, wait=Lock._wait: wait(lock, 0.02))
    with pytest.raises(StoreBusyError, match=rf"process {holder.pid}"):
        Store(home)


def test_deleting_what_looks_like_a_lock_lets_nobody_in_twice(home, opened, other):
    """The lock is on the journal itself; to delete that would be to delete the queue."""
    with opened.exclusive():
        for path in home.glob("*lock*"):
            path.unlink()
        with pytest.raises(StoreBusyError):
            other.transact(enqueue("2"), timeout_s=0)
    other.transact(enqueue("1"), timeout_s=0)

    assert ["1"] == list(reread(home))


def test_stopped_holder_goes_on_where_it_was(home, opened, python, until):
    """Whoever was impatient meanwhile has not got in, whatever was deleted."""
    holder = python(f"""
        from pathlib import Path
        from queuectl_magics import lifecycle
        from queuectl_magics.job import JobSpec
        from queuectl_magics.store import Store

        keys = {{"max_retries": 3, "backoff_base": 2.0, "backoff_cap_s": 60.0}}

        def decide(table, now):
            print("held", flush=True)
            input()
            spec = JobSpec(command="true")
            job = lifecycle.new_job(spec, id="theirs", due_from=now, **keys)
            return [lifecycle.enqueue(job, now=now)]

        Store(Path({str(home)!r})).transact(decide)
        """)
    assert "held\n" == holder.stdout.readline()
    holder.send_signal(signal.SIGSTOP)
    (home / "compact.lock").unlink()
    with pytest.raises(StoreBusyError):
        opened.transact(enqueue("ours"), timeout_s=0)
    holder.send_signal(signal.SIGCONT)
    holder.communicate("go on\n")
    opened.transact(enqueue("ours"))

    assert ["theirs", "ours"] == list(reread(home))


def test_two_processes_that_make_one_home_make_one_store(home, monkeypatch):
    """The second one waits for the first one's journal, and finds it."""
    made = []
    create = opening._create

    def beaten(paths, now, boot):
        create(paths, now, boot)
        made.append(paths)

    def late(path, exists=Path.exists):
        if path.name != "journal.jsonl" or made:
            return exists(path)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "exists", exists)
            Store(home).close()
        return False

    monkeypatch.setattr(opening, "_create", beaten)
    monkeypatch.setattr(Path, "exists", late)
    Store(home).close()

    assert 1 == len(made)


def test_forked_child_does_not_keep_its_parents_lock(home, opened, python):
    """The parent is killed while it holds the lock; its child lives on, the lock is free."""
    parent = python(f"""
        import os, sys, time
        from pathlib import Path
        from queuectl_magics.store import Store

        with Store(Path({str(home)!r})).exclusive():
            child = os.fork()
            if child == 0:
                print(os.getpid(), flush=True)
                time.sleep(600)
            time.sleep(600)
        """)
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        opened.transact(enqueue("1"))
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_child_may_use_the_store_that_it_inherited(home, opened):
    """Even if a thread of its parent was in the middle of a change."""
    opened.transact(enqueue("1"))
    with opened.exclusive():
        opened.table.counts["pending"] += 7
        code = forked(lambda: opened.wait_for_news(0.0) or child_reads(opened))
    assert 0 == code

    assert 0 == forked(lambda: opened.transact(enqueue("2")))
    opened.transact(enqueue("3"))

    assert ["1", "2", "3"] == list(opened.table.jobs) == list(reread(home))


def test_forked_child_starts_with_free_locks_and_reads_anew(opened):
    """Whatever other threads of its parent were doing: the hook itself."""
    opened.transact(enqueue("1"))
    opened._writing.acquire()
    opened._syncing = True
    opened.table.counts["pending"] += 7
    store._renew_in_child()
    opened.transact(enqueue("2"))

    assert 2 == opened.table.counts["pending"] == opened.seq


def child_reads(opened: Store) -> None:
    """Look at the store as a child whose parent holds the lock."""
    with opened.reading() as table:
        assert 1 == table.counts["pending"]
    with pytest.raises(StoreBusyError):
        opened.transact(enqueue("x"), timeout_s=0)


def test_command_that_is_started_under_the_lock_does_not_keep_it(opened, other):
    """Descriptors are closed when a program starts."""
    with opened.exclusive():
        child = subprocess.Popen(["sleep", "600"])
    try:
        other.transact(enqueue("1"), timeout_s=0)
    finally:
        child.kill()
        child.wait()


# --- homes that go away -------------------------------------------------------------------------


def test_home_that_is_deleted_while_in_use_is_missed(home, opened):
    """Neither a look nor a change makes a new one under the old name."""
    opened.transact(enqueue("1"))
    shutil.rmtree(home)
    for use in (opened.catch_up, lambda: opened.transact(enqueue("2"))):
        with pytest.raises(HomeError, match=rf"{home} was deleted while it was in use"):
            use()
    tidy_if_cheap(opened)
    assert not home.exists()


def test_journal_that_is_deleted_while_in_use_is_missed(opened):
    """The lock is still there, the journal is not."""
    opened.transact(enqueue("1"))
    opened.paths.journal.unlink()
    with pytest.raises(HomeError, match=r"was deleted"):
        opened.transact(enqueue("2"))
    assert not opened.paths.journal.exists()


def test_home_that_was_replaced_by_another_is_not_merged(home, opened):
    """The new one has an identity of its own, and loses nothing to us."""
    opened.transact(enqueue("1"))
    shutil.rmtree(home)
    newer = Store(home)
    newer.transact(enqueue("a"))
    newer.close()
    for use in (opened.catch_up, lambda: opened.transact(enqueue("2"))):
        with pytest.raises(HomeError, match=rf"{home} was replaced while it was in use: reopen"):
            use()

    assert ["a"] == list(reread(home))


def test_home_that_was_restored_from_a_backup_is_not_merged(home, opened):
    """It is the same store, but an older one: its numbers would be given out twice."""
    opened.transact(enqueue("1"))
    shutil.copytree(home, home.with_name("backup"))
    opened.transact(enqueue("2"))
    shutil.rmtree(home)
    shutil.copytree(home.with_name("backup"), home)
    with pytest.raises(HomeError, match=r"was replaced"):
        opened.transact(enqueue("3"))

    assert ["1"] == list(reread(home))


def test_journal_that_was_cut_short_while_in_use_is_refused(opened):
    """What had been read is gone from the file: nobody of ours does that."""
    opened.transact(enqueue("1"))
    os.truncate(opened.paths.journal, opened.current.offset - 5)
    for use in (opened.catch_up, lambda: opened.transact(enqueue("2"))):
        with pytest.raises(StoreDamagedError, match=r"journal.jsonl was cut short.*repair"):
            use()


def test_snapshot_that_was_altered_while_in_use_is_noticed_at_the_next_opening(opened, other):
    """Whoever has read the store goes on; a compaction then writes it anew."""
    opened.transact(enqueue("1"))
    opened.paths.jobs.write_text("[{}]")
    with pytest.raises(StoreDamagedError, match=r"jobs.json was altered"):
        Store(opened.paths.home)
    assert compact(other)

    assert ["1"] == list(reread(opened.paths.home))


def test_reader_gives_up_on_a_pair_that_stays_apart(opened, monkeypatch):
    """While two files are exchanged it looks again; for ever would be too long."""
    monkeypatch.setattr(store, "SWAP_LOOKS", 3)
    opened.paths.jobs.write_text("[{}]")
    opened.current.trusted = False
    with pytest.raises(StoreDamagedError, match=r"jobs.json was altered"):
        opened.catch_up()


# --- compaction beside others -------------------------------------------------------------------


def test_reader_goes_on_after_compactions_of_others(opened, other):
    """After one, and after two since its last look."""
    for id in ("1", "2", "3"):
        other.transact(enqueue(id))
        compact(other)
        other.transact(enqueue(id + "0"))
        if id != "2":
            assert opened.catch_up()
            assert other.table.jobs == opened.table.jobs
    opened.transact(enqueue("4"))

    assert opened.table.jobs == reread(opened.paths.home)
    assert 4 == opened.header.generation


def test_reader_in_the_middle_of_an_exchange_sees_every_job(opened, other):
    """At each named point of a compaction a look, and an opening, show what there is."""
    other.transact(enqueue("1"))
    other.transact(enqueue("2"))
    reached = []

    def look(point):
        reached.append(point)
        json.loads(opened.paths.jobs.read_bytes())
        opened.catch_up()
        assert ["1", "2"] == list(opened.table.jobs)
        opened.current.trusted = False
        opened.catch_up()
        assert ["1", "2"] == list(opened.table.jobs)

    other.at = look
    assert compact(other)
    assert POINTS_OF_COMPACTION == reached


def test_what_is_written_during_a_compaction_is_in_the_new_journal(opened, other):
    """Writing down all jobs takes long; others go on meanwhile."""
    opened.transact(enqueue("1"))

    def at(point):
        if point == "snapshot-written":
            other.transact(enqueue("2"))
            opened.transact(enqueue("3"))

    opened.at = at
    assert compact(opened)
    assert ["1", "2", "3"] == list(reread(opened.paths.home))
    assert b'"id":"1"' not in opened.paths.journal.read_bytes()
    assert other.catch_up() is True
    assert opened.table.jobs == other.table.jobs


def test_only_one_compacts_at_a_time(opened, other):
    """The second one leaves it, and the first one's drafts, alone."""
    opened.transact(enqueue("1"))
    answers = []

    def at(point):
        if point == "snapshot-written":
            answers.append(compact(other))
            assert (opened.paths.home / "jobs.tmp").exists()

    opened.at = at

    assert compact(opened)
    assert [False] == answers


def test_compaction_is_given_up_if_somebody_else_got_in_between(opened, other):
    """As when the file `compact.lock` was deleted: the older snapshot does not win."""
    opened.transact(enqueue("1"))

    def at(point):
        if point == "snapshot-written":
            opened.paths.compact_lock.unlink()
            other.transact(enqueue("2"))
            assert compact(other)

    opened.at = at

    assert not compact(opened)
    assert 2 == opened.header.generation
    assert ["1", "2"] == list(reread(opened.paths.home))
    assert not (opened.paths.home / "jobs.tmp").exists()


@pytest.mark.parametrize("point", POINTS_OF_COMPACTION)
def test_process_that_is_killed_while_it_compacts_loses_nothing(home, opened, point):
    """A real process, gone at a named point; the next compaction cleans up after it."""
    opened.transact(enqueue("1", "2"))

    def work():
        opened.at = lambda reached: os._exit(9) if reached == point else None
        compact(opened)

    assert 9 == forked(work)
    opened.transact(enqueue("3"))
    assert ["1", "2", "3"] == list(opened.table.jobs) == list(reread(home))

    assert compact(opened)
    assert ["1", "2", "3"] == list(opened.table.jobs) == list(reread(home))
    assert [] == list(home.glob("*.tmp"))


def test_number_of_a_pruned_job_is_not_given_out_after_a_compaction(home, opened):
    """The journal remembers it, for all who come later."""
    opened.transact(enqueue("1", "2"))
    for decision in (cancel("1"), cancel("2"), prune("1"), prune("2")):
        opened.transact(decision)
    for _ in range(2):
        compact(opened)

        assert (3, 3) == (opened.table.next_number, read_anew(home).next_number)


def test_number_of_a_pruned_job_is_not_given_out_after_a_compaction_that_was_killed(home, opened):
    """It stands in no snapshot, and the line that enqueued it is passed over."""
    opened.at = lambda point: point == "snapshot-written" and opened.transact(enqueue("1", "2"))
    compact(opened)
    opened.transact(cancel("2"))
    opened.transact(prune("2"))
    crash_while_compacting(opened, "jobs-renamed")
    found = read_anew(home)

    assert (["1"], 3) == (list(found.jobs), found.next_number)


def test_start_of_the_machine_is_known_from_a_line_that_is_in_the_snapshot(home, opened):
    """A compaction was killed between its renames; nobody notes the same start once more."""
    opened.boot = "another"
    opened.transact(enqueue("1"))
    crash_while_compacting(opened, "jobs-renamed")
    fresh = Store(home)
    fresh.close()

    assert "another" == fresh.current.boot


def test_previous_pair_is_kept_for_a_repair(opened):
    """It is what was in force before the compaction, to the byte."""
    opened.transact(enqueue("1"))
    compact(opened)
    opened.transact(enqueue("2"))
    jobs, journal = opened.paths.jobs.read_bytes(), opened.paths.journal.read_bytes()
    compact(opened)

    assert jobs == opened.paths.jobs_prev.read_bytes()
    assert opened.paths.journal_prev.read_bytes().startswith(journal)


def test_disk_without_hard_links_is_compacted_all_the_same(opened, monkeypatch):
    """There is no previous pair then."""

    def refuse(*_, **__):
        raise PermissionError

    opened.transact(enqueue("1"))
    monkeypatch.setattr(os, "link", refuse)

    assert compact(opened)
    assert not opened.paths.jobs_prev.exists()


def test_tidying_never_raises(opened, python, monkeypatch):
    """Somebody holds the lock, the disk fails, the home is gone: then it is not tidied."""
    opened.transact(enqueue("1"))
    holder = python(HOLD.format(home=str(opened.paths.home)))
    assert "held\n" == holder.stdout.readline()
    monkeypatch.setattr(Lock, "_wait", lambda lock, _, wait=Lock._wait: wait(lock, 0.0))
    tidy_if_cheap(opened)
    assert 1 == opened.header.generation
    holder.kill()
    holder.wait()
    tidy_if_cheap(opened)
    assert 2 == opened.header.generation


# --- Ctrl-C -------------------------------------------------------------------------------------

LOOP = """
    from pathlib import Path
    from queuectl_magics import lifecycle
    from queuectl_magics.job import JobSpec
    from queuectl_magics.store import Store
    from queuectl_magics.store.compaction import compact

    keys = {{"max_retries": 3, "backoff_base": 2.0, "backoff_cap_s": 60.0}}

    def decide(table, now):
        id = str(table.next_number)
        job = lifecycle.new_job(JobSpec(command="true"), id=id, due_from=now, **keys)
        return [lifecycle.enqueue(job, now=now)]

    opened = Store(Path({home!r}))
    other = Store(Path({home!r}))
    acknowledged, interrupts = [], 0
    while interrupts < 30:
        try:
            print("go", flush=True)
            while True:
                acknowledged += [opened.transact(decide)[0].id]
                other.catch_up()
                if len(acknowledged) % 16 == 0:
                    compact(opened)
        except KeyboardInterrupt:
            interrupts += 1
    fresh = Store(Path({home!r}))
    for one in (opened, other):
        one.catch_up()
        assert fresh.table.jobs == one.table.jobs, "the handles differ"
        assert len(one.table.jobs) == one.table.counts["pending"], "a count is wrong"
    assert len(acknowledged) == len(set(acknowledged)), "acknowledged twice"
    assert set(acknowledged) <= set(fresh.table.jobs), "lost"
    assert len(fresh.table.jobs) - len(acknowledged) <= interrupts, "stored twice"
    print("done", flush=True)
"""


def test_ctrl_c_neither_loses_nor_doubles_an_acknowledged_job(home, python, until):
    """Thirty real interrupts, at any place of a tight loop of changes, looks and compactions."""
    process, dice = python(LOOP.format(home=str(home))), random.Random(1)
    journal = home / "journal.jsonl"
    for _ in range(30):
        assert "go\n" == process.stdout.readline()
        changes = iter(range(dice.randrange(1, 40)))
        seen = journal.stat().st_mtime_ns

        def changed(changes=changes):
            nonlocal seen
            now = journal.stat().st_mtime_ns
            if now == seen:
                return False
            seen = now
            return next(changes, None) is None

        while not changed():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)

    assert "done\n" == process.stdout.readline()
    assert 0 == process.wait()


def test_ctrl_c_waits_for_the_end_of_a_change(opened, monkeypatch):
    """The change is whole and on disk before `KeyboardInterrupt` comes out."""
    sync = os.fdatasync

    def press(fd):
        signal.raise_signal(signal.SIGINT)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", press)
    with pytest.raises(KeyboardInterrupt):
        opened.transact(enqueue("1"))

    assert ["1"] == list(opened.table.jobs)
    assert 1 == opened.current.durable
    assert signal.default_int_handler is signal.getsignal(signal.SIGINT)


def test_ctrl_c_does_not_leave_everybody_waiting_for_a_sync(opened, monkeypatch):
    """Whoever was about to ask the disk for all others asks it, and says that it has."""
    lead = opened._lead_sync

    def press():
        signal.raise_signal(signal.SIGINT)
        lead()

    opened.transact(enqueue("1"), wait=False)
    monkeypatch.setattr(opened, "_lead_sync", press)
    with pytest.raises(KeyboardInterrupt):
        opened.sync(1)

    assert 1 == opened.current.durable
    assert not opened._syncing


def test_ignored_ctrl_c_stays_ignored(opened):
    """Somebody else's choice is left alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        opened.transact(enqueue("1"))
        assert signal.SIG_IGN is signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_lock_of_a_compaction_is_not_kept(opened):
    """Neither after success nor after a failure."""
    opened.at = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        compact(opened)
    del opened.at
    compact(opened)
    with opened.paths.compact_lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
