"""What a change costs, and what is promised when it returns."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from queuectl_magics import clock, lifecycle
from queuectl_magics.errors import StoreBusyError
from queuectl_magics.job import Exit
from queuectl_magics.lifecycle import IllegalTransitionError
from queuectl_magics.store import Store
from queuectl_magics.store.compaction import compact, is_cheap, is_worthwhile, tidy_if_cheap
from queuectl_magics.table import Table
from stores import (
    Counted,
    enqueue,
    lease,
    reread,
    settle,
)


@pytest.fixture
def home(memory: Path) -> Path:
    """The path of a home in memory."""
    return memory / "home"


# --- what it costs ------------------------------------------------------------------------------


def cost_of_a_transition(home: Path, history: int) -> tuple[Counter, Counter]:
    """Return calls and bytes of two transitions, and of a reader's look, after *history* jobs."""
    writer = Store(home / str(history))
    ids = [f"{n:05}" for n in range(history)]
    writer.transact(enqueue(*ids, "12345"))
    for id in ids:
        writer.transact(lease(id), wait=False)
        writer.transact(settle(id), wait=False)
    reader = Store(home / str(history))
    names = "write", "pread", "fdatasync", "fsync", "open", "stat", "ftruncate", "rename"
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch, *names)
        writer.transact(lease("12345"))
        writer.transact(settle("12345"))
        reader.catch_up()
    assert reader.table.jobs == writer.table.jobs
    writer.close()
    reader.close()
    return counted.calls, counted.bytes


def test_transition_costs_the_same_whatever_the_history(home):
    """As many calls and (but for the digits of its number) bytes after 5,000 jobs as after 10."""
    few_calls, few_bytes = cost_of_a_transition(home, 10)
    many_calls, many_bytes = cost_of_a_transition(home, 5000)

    assert few_calls == many_calls
    assert {"write": 2, "fdatasync": 2, "pread": 1, "stat": 3} == few_calls
    for name in ("write", "pread"):
        assert 0 < many_bytes[name] - few_bytes[name] <= 4 * len("000")  # of two `seq` and two `d`


def test_look_at_an_unchanged_journal_is_one_stat(opened, monkeypatch):
    """Nothing is opened, locked or read."""
    counted = Counted(monkeypatch, "stat", "fstat", "open", "pread", "read", "write", "listdir")
    opened.catch_up()
    with opened.reading():
        pass

    assert {"stat": 2} == counted.calls


def test_threads_that_wait_for_the_disk_share_one_sync(opened, monkeypatch, until):
    """While one thread syncs, seven write; the next sync is for all of them."""
    sync, syncs = os.fdatasync, []

    def slow(fd):
        if not syncs:
            until(lambda: len(opened.table.jobs) == 8)
        syncs.append(fd)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=opened.transact, args=[enqueue(f"{n}")]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2 == len(syncs)
    assert 8 == opened.current.durable


def test_change_is_on_disk_when_it_returns_and_not_synced_under_the_lock(opened, monkeypatch):
    """Another process may go on while we wait for the disk."""
    other = Store(opened.paths.home)
    sync = os.fdatasync
    seen = []

    def spy(fd):
        with other.exclusive(timeout_s=0):
            seen.append(list(other.table.jobs))
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", spy)
    opened.transact(enqueue("1"))
    other.close()

    assert [["1"]] == seen


def test_without_durability_nothing_waits_for_the_disk(home, monkeypatch):
    """`durability = none` syncs neither at a change nor at opening again."""
    made = Store(home, durability="none")
    counted = Counted(monkeypatch, "fdatasync", "fsync")
    made.transact(enqueue("1"))
    again = Store(home, durability="none")
    again.transact(lease("1"))

    assert {} == counted.calls
    made.close()
    again.close()


def test_change_that_does_not_wait_is_synced_by_the_next_one_that_does(opened, monkeypatch):
    """`wait=False` returns at once; what was written earlier is covered by a later sync."""
    counted = Counted(monkeypatch, "fdatasync")
    opened.transact(enqueue("1"), wait=False)
    assert {} == counted.calls

    opened.transact(enqueue("2"))
    opened.sync(1)

    assert {"fdatasync": 1} == counted.calls


def test_name_of_a_new_journal_is_synced_before_the_first_acknowledgement(home, monkeypatch):
    """Whoever compacted may have been killed before it could do so."""
    made, other = Store(home), Store(home)
    made.transact(enqueue("1"))
    compact(other)
    counted = Counted(monkeypatch, "fsync", "fdatasync")
    made.transact(enqueue("2"))
    made.transact(enqueue("3"))

    assert {"fdatasync": 2, "fsync": 1} == counted.calls
    made.close()
    other.close()


# --- deciding -----------------------------------------------------------------------------------


def test_decision_for_nothing_writes_nothing(opened, monkeypatch):
    """A look under the lock leaves no trace."""
    counted = Counted(monkeypatch, "write", "fdatasync")

    assert [] == opened.transact(lambda _table, _now: iter(()))
    assert {} == counted.calls


def test_decision_that_fails_changes_nothing_and_frees_the_lock(opened):
    """Whatever it raises comes out; the next change goes through, also in another process."""
    other = Store(opened.paths.home)
    with pytest.raises(ZeroDivisionError):
        opened.transact(lambda _table, _now: [1 / 0])
    with pytest.raises(IllegalTransitionError, match=r"enqueued twice"):
        opened.transact(enqueue("1", "1"))
    opened.transact(enqueue("2"), timeout_s=0)
    other.transact(enqueue("3"), timeout_s=0)
    other.close()

    assert ["2", "3"] == list(reread(opened.paths.home))


def test_change_inside_a_change_is_refused(opened):
    """The lock is not taken twice: the message says who has it."""

    def decide(_table, _now):
        opened.transact(enqueue("1"), timeout_s=0)

    with pytest.raises(StoreBusyError, match=r"another thread of this process"):
        opened.transact(decide)


def test_events_are_returned_in_their_order(opened):
    """Several jobs come in at once; the decision may be a generator."""
    events = opened.transact(lambda table, now: iter(enqueue("b", "a")(table, now)))

    assert ["b", "a"] == [event.id for event in events]
    assert opened.table.jobs == reread(opened.paths.home)


def test_clock_that_is_set_back_does_not_turn_back_the_journal(opened, monkeypatch):
    """No event is older than the one before it, whichever process writes it."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    other = Store(opened.paths.home)
    for hour, writer, id in [
        (0, opened, "1"),
        (-3, other, "2"),
        (-2, opened, "3"),
        (1, other, "4"),
    ]:
        monkeypatch.setattr(clock, "utc_now", lambda hour=hour: noon + timedelta(hours=hour))
        writer.transact(enqueue(id))
    other.close()

    assert [12, 12, 12, 13] == [job.created_at.hour for job in reread(opened.paths.home).values()]


def test_late_report_does_not_turn_back_the_journal(opened, monkeypatch):
    """An attempt that ended before the latest event leaves the latest moment where it is."""
    noon = datetime(2099, 1, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(clock, "utc_now", lambda: noon)
    opened.transact(enqueue("1", "2"))
    opened.transact(lease("1"))
    ended = Exit(code=0, finished_at=noon - timedelta(hours=1))
    opened.transact(lambda table, _: [lifecycle.settle(table.jobs["1"], 1, ended)])

    assert noon == opened.now()


def test_news_of_this_process_wake_whoever_waits(opened, until):
    """Long before the timeout."""
    woken = []

    def wait():
        opened.wait_for_news(timeout_s=600)
        woken.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    numbers = iter(range(10**6))
    until(lambda: opened.transact(enqueue(f"{next(numbers)}"), wait=False) and woken)
    thread.join()


@pytest.mark.parametrize(("durability", "syncs"), [("commit", 1), ("none", 0)])
def test_what_was_not_waited_for_is_seen_to_the_disk_in_the_end(
    home, monkeypatch, durability, syncs
):
    """Closing the store waits for it; what others wrote is theirs to wait for."""
    made, other = Store(home, durability), Store(home, durability)
    made.transact(enqueue("1"), wait=False)
    other.catch_up()
    counted = Counted(monkeypatch, "fdatasync")
    other.close()
    assert {} == counted.calls

    made.close()
    assert syncs == counted.calls["fdatasync"]


def test_store_is_closed_when_the_change_of_another_thread_is_done(opened, until):
    """Its descriptors may be given to other files at once: nothing of ours must go there."""
    deciding, closing = threading.Event(), threading.Event()

    def decide(table, now):
        deciding.set()
        closing.wait()
        return enqueue("1")(table, now)

    change = threading.Thread(target=opened.transact, args=[decide])
    change.start()
    deciding.wait()
    close = threading.Thread(target=opened.close)
    close.start()
    closing.set()
    close.join()
    change.join()

    assert ["1"] == list(reread(opened.paths.home))


def test_lock_that_another_thread_waits_for_is_left_to_it(home, opened):
    """Closing its descriptor would let two in at once."""
    other = Store(home)
    with other.exclusive():
        change = threading.Thread(target=opened.transact, args=[enqueue("1")])
        change.start()
        while not opened._writing.locked():
            pass
        opened.close()
    change.join()
    other.close()

    assert ["1"] == list(reread(home))


# --- interrupts ---------------------------------------------------------------------------------


def look_again_after(store: Store, interrupted: Callable) -> None:
    """Look at a journal twice: at first Ctrl-C comes while the table takes in an event."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.catch_up()
    store.catch_up()


@pytest.mark.parametrize("step", range(5))
def test_interrupt_while_reading_leaves_no_half_read_table(opened, step):
    """Ctrl-C may fall anywhere between two steps of the fold; the next look is right."""
    other = Store(opened.paths.home)
    other.transact(enqueue("1", "2", "3"))
    other.transact(lease("1"))
    other.transact(settle("1", 1))
    steps, take = iter(range(100)), Table._take

    def interrupted(table, id, before, after, at):
        if next(steps) == step:
            table.counts[after.state] += 1
            raise KeyboardInterrupt
        take(table, id, before, after, at)

    look_again_after(opened, interrupted)

    assert other.table.jobs == opened.table.jobs
    assert other.table.counts == opened.table.counts
    assert 5 == opened.table.seq
    other.close()


@pytest.mark.parametrize("step", range(2))
def test_interrupt_while_going_on_to_a_new_journal_leaves_no_half_read_table(opened, step):
    """The table goes over from the old journal to the new one, whole or not at all."""
    other = Store(opened.paths.home)
    other.transact(enqueue("1", "2", "3"))
    opened.catch_up()
    compact(other)
    other.transact(lease("1"))
    other.transact(settle("1", 1))
    steps, take = iter(range(100)), Table._take

    def interrupted(table, id, before, after, at):
        take(table, id, before, after, at)
        if next(steps) == step:
            table.counts[after.state] += 1
            raise KeyboardInterrupt

    look_again_after(opened, interrupted)

    assert other.table.jobs == opened.table.jobs
    assert other.table.counts == opened.table.counts
    other.close()


def test_failure_between_write_and_fold_is_read_anew(opened, monkeypatch):
    """What was written is there, for us as for others."""
    with monkeypatch.context() as patch:
        patch.setattr(Table, "apply", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened.transact(enqueue("1"))
    opened.transact(enqueue("2"))

    assert ["1", "2"] == list(opened.table.jobs) == list(reread(opened.paths.home))


# --- when to compact ----------------------------------------------------------------------------


def test_compaction_is_cheap_while_the_snapshot_is_small_and_worthwhile_when_outgrown(
    opened, monkeypatch
):
    """A journal without news is left alone; one that is larger than its snapshot is folded."""
    from queuectl_magics.store import compaction

    assert (False, False) == (is_cheap(opened), is_worthwhile(opened))
    opened.transact(enqueue("1"))
    assert (True, False) == (is_cheap(opened), is_worthwhile(opened))

    monkeypatch.setattr(compaction, "JOURNAL_BYTES_MIN", 10)
    assert (True, True) == (is_cheap(opened), is_worthwhile(opened))
    tidy_if_cheap(opened)

    assert (False, False) == (is_cheap(opened), opened.current.offset > 1000)
    opened.transact(enqueue("2"))
    tidy_if_cheap(opened)
    assert not is_cheap(opened)
