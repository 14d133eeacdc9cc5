"""The table agrees with a recount, and picks as a sorted list would."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from queuectl_magics.events import (
    Cancelled,
    Failed,
    Interrupted,
    Pruned,
    Retried,
    StopRequested,
    Succeeded,
)
from queuectl_magics.job import State
from queuectl_magics.lifecycle import IllegalTransitionError
from queuectl_magics.table import HEAP_SLACK, Table
from tables import STATES, T0, enqueued, ids, leased, seconds


def table_of(*events) -> Table:
    """Return the table that *events* fold into."""
    table = Table()
    for event in events:
        table.fold(event)
    return table


def content(table: Table) -> tuple:
    """Return everything that a table tells, and what it would pick."""
    return (
        list(table.jobs.values()),
        table.counts,
        table.processing,
        table.seq,
        table.next_number,
        ids(table.pick_due(seconds(10**6), 10**6)),
    )


def test_empty_table_has_a_row_for_every_state():
    """Nobody has to ask whether a state has a count."""
    table = Table()

    assert dict.fromkeys(STATES, 0) == table.counts
    assert [] == table.pick_due(T0, 5)
    assert table.next_due() is None
    assert (0, 1, None) == (table.seq, table.next_number, table.last_at)


def test_jobs_of_equal_priority_run_in_the_order_in_which_they_came():
    """First in, first out; ids play no part in it."""
    table = table_of(*map(enqueued, ["9", "10", "b", "a"]))

    assert ["9", "10", "b", "a"] == ids(table.pick_due(T0, 10))


@pytest.mark.parametrize("state", ["pending", "failed"])
@pytest.mark.parametrize(
    ("due_at", "due"), [(None, True), (-1, True), (0, True), (0.000001, False)]
)
def test_waiting_job_is_due_when_its_moment_has_come(state, due_at, due):
    """A job without a moment is due at once; a moment that is now is due."""
    moment = None if due_at is None else seconds(due_at)
    job = replace(enqueued("1").job, state=State(state), due_at=moment)

    assert ([job] if due else []) == Table([job]).pick_due(T0, 1)


@pytest.mark.parametrize("state", ["processing", "completed", "dead", "cancelled"])
def test_job_that_does_not_wait_is_never_due(state):
    """Only pending and failed jobs may be leased."""
    job = replace(enqueued("1").job, state=State(state))

    assert [] == Table([job]).pick_due(T0, 1)


def test_higher_priority_runs_first_and_ties_run_in_order():
    """Priority is a number, and larger is sooner; below 0 is later."""
    wanted = {"a": 0, "b": 5, "c": -1, "d": 5, "e": 0}
    table = table_of(*(enqueued(id, priority=priority) for id, priority in wanted.items()))

    assert ["b", "d", "a", "e", "c"] == ids(table.pick_due(T0, 10))


def test_pick_takes_nothing_away_and_leaves_nothing_out():
    """The same jobs are picked until a lease is folded; a smaller count picks the first ones."""
    table = table_of(*map(enqueued, "abcd"))

    assert ["abcd", "ab", "abcd", "", "abc"] == [
        "".join(ids(table.pick_due(T0, count))) for count in (10, 2, 4, 0, 3)
    ]

    table.fold(leased("b"))

    assert ["a", "c", "d"] == ids(table.pick_due(T0, 10))
    assert ["a", "c"] == ids(table.pick_due(T0, 2))


def test_delayed_job_moves_into_line_when_its_time_comes():
    """Time alone makes a job due, to the microsecond, and its priority then counts."""
    late = enqueued("late", priority=9, due_at=seconds(5))
    table = table_of(late, enqueued("now"))

    assert ["now"] == ids(table.pick_due(seconds(4.999999), 10))
    assert ["late", "now"] == ids(table.pick_due(seconds(5), 10))
    assert ["late", "now"] == ids(table.pick_due(seconds(6), 10))


def test_due_job_takes_the_place_of_its_enqueueing_not_of_its_time():
    """A job that waited for its moment is as old as it is."""
    table = table_of(enqueued("a", due_at=seconds(5)), enqueued("b"), enqueued("c", due_at=T0))

    assert ["a", "b", "c"] == ids(table.pick_due(seconds(5), 10))


def test_next_due_is_the_earliest_moment_that_a_job_waits_for():
    """A worker may sleep until then; jobs that left or came into line do not count."""
    table = table_of(
        enqueued("a", due_at=seconds(9)),
        enqueued("b", due_at=seconds(5)),
        enqueued("c", due_at=seconds(7)),
        enqueued("d"),
    )

    assert seconds(5) == table.next_due()

    table.fold(Cancelled(at=T0, id="b", attempt=0))

    assert seconds(7) == table.next_due()

    table.pick_due(seconds(7), 1)

    assert seconds(9) == table.next_due()

    table.fold(leased("a"))

    assert table.next_due() is None


def test_job_that_was_due_stays_due_when_the_clock_is_set_back():
    """It came into line when its time had come, and keeps its place."""
    table = table_of(enqueued("a", due_at=seconds(5)))
    table.pick_due(seconds(6), 10)

    assert ["a"] == ids(table.pick_due(T0, 10))
    assert table.next_due() is None


def test_failed_job_waits_for_the_moment_in_its_event():
    """The retry is due when `Failed` says so, and not before."""
    failed = Failed(at=T0, id="a", attempt=1, exit_code=1, due_at=seconds(2))
    table = table_of(enqueued("a"), leased("a"), failed)

    assert [] == table.pick_due(seconds(1), 10)
    assert seconds(2) == table.next_due()
    assert ["a"] == ids(table.pick_due(seconds(2), 10))


def test_retry_by_hand_does_not_leave_the_old_moment_behind():
    """A failed job that is retried is due now, once."""
    failed = Failed(at=T0, id="a", attempt=1, exit_code=1, due_at=seconds(2))
    table = table_of(enqueued("a"), leased("a"), failed, Retried(at=T0, id="a"))

    assert table.next_due() is None
    assert ["a"] == ids(table.pick_due(T0, 10))
    assert ["a"] == ids(table.pick_due(seconds(3), 10))


def test_job_that_is_handed_back_is_picked_once():
    """The entry of its first wait is still in the heap, and is good for nothing."""
    back = Interrupted(at=T0, id="a", attempt=1, counted=False)
    table = table_of(enqueued("a"), enqueued("b"), leased("a"), back)

    assert ["a", "b"] == ids(table.pick_due(T0, 10))
    assert ["a", "b"] == ids(table.pick_due(T0, 10))


def test_id_that_was_pruned_and_came_back_is_picked_once():
    """Entries of the job that had the id before are not taken for the new one."""
    table = table_of(
        enqueued("a", priority=9),
        enqueued("b", priority=1),
        Cancelled(at=T0, id="a", attempt=0),
        Pruned(at=T0, id="a"),
        enqueued("a"),
    )

    assert ["b", "a"] == ids(table.pick_due(T0, 10))
    assert ["b", "a"] == list(table.jobs)


def test_counts_follow_a_job_through_its_life():
    """Each fold moves one job from one row to another; pruning takes it out."""
    steps = [
        (enqueued("a"), "pending"),
        (leased("a"), "processing"),
        (StopRequested(at=T0, id="a", attempt=1, why="time limit"), "processing"),
        (Failed(at=T0, id="a", attempt=1, due_at=T0), "failed"),
        (leased("a", 2), "processing"),
        (Succeeded(at=T0, id="a", attempt=2, exit_code=0), "completed"),
        (Retried(at=T0, id="a"), "pending"),
        (Cancelled(at=T0, id="a", attempt=2), "cancelled"),
    ]
    table = Table()
    for event, state in steps:
        table.fold(event)

        assert dict.fromkeys(STATES, 0) | {state: 1} == table.counts
        assert ({"a"} if state == "processing" else set()) == table.processing

    table.fold(Pruned(at=T0, id="a"))

    assert dict.fromkeys(STATES, 0) == table.counts
    assert {} == table.jobs


def test_forbidden_event_changes_nothing_in_the_table():
    """A refused event leaves jobs, counts, number and picks as they were."""
    table = table_of(enqueued("1"), enqueued("2"), leased("2"))
    before = content(table)

    for event in [
        enqueued("1"),
        leased("2", 2),
        leased("3"),
        Succeeded(at=T0, id="2", attempt=9, exit_code=0),
        Pruned(at=T0, id="1"),
    ]:
        with pytest.raises(IllegalTransitionError):
            table.fold(event)
    assert content(table_of(enqueued("1"), enqueued("2"), leased("2"))) == before
    assert before == content(table)


def test_prepare_changes_nothing_and_apply_does_what_fold_does():
    """A batch is decided against itself first, and then taken in as if folded one by one."""
    batch = [
        enqueued("2"),
        leased("1"),
        Succeeded(at=T0, id="1", attempt=1, exit_code=0),
        Pruned(at=T0, id="1"),
        enqueued("1", priority=3),
    ]
    table, same = table_of(enqueued("1")), table_of(enqueued("1"))
    changes = table.prepare(batch)

    assert content(same) == content(table)

    table.apply(changes)
    for event in batch:
        same.fold(event)

    assert content(same) == content(table)
    assert ["1", "2"] == ids(table.pick_due(T0, 10))


def test_batch_with_a_forbidden_event_changes_nothing():
    """All of a batch or none of it."""
    table = table_of(enqueued("1"))

    with pytest.raises(IllegalTransitionError, match="event 3"):
        table.prepare([enqueued("2"), enqueued("1")])
    assert content(table_of(enqueued("1"))) == content(table)


def test_line_that_speaks_of_no_job_is_counted():
    """The journal's own notes have numbers too."""
    table = table_of(enqueued("a"))
    table.pass_over()
    table.fold(enqueued("b"))

    assert (3, 3) == (table.seq, table.jobs["b"].order)


def test_last_moment_is_the_latest_that_any_event_names():
    """Whoever writes next can tell if the clock was set back; a late report does not do so."""
    late = Succeeded(at=seconds(2), id="a", attempt=1, exit_code=0)
    table = table_of(enqueued("a"), replace(leased("a"), at=seconds(3)), late)

    assert seconds(3) == table.last_at


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_first_question_may_come_at_any_time(count):
    """There is no line before somebody asks for it; then everyone stands in it once."""
    events = [
        enqueued("a"),
        enqueued("b", due_at=seconds(5)),
        leased("a"),
        Interrupted(at=T0, id="a", attempt=1),
    ]
    table = table_of(*events[:count])
    table.next_due()
    for event in events[count:]:
        table.fold(event)

    assert ["a"] == ids(table.pick_due(T0, 10))
    assert seconds(5) == table.next_due()
    assert ["a", "b"] == ids(table.pick_due(seconds(5), 10))


def test_batch_may_be_numbered_on_from_a_note():
    """What the journal writes down for itself comes before the events of a change."""
    table = table_of(enqueued("a"))
    changes = table.prepare([enqueued("b"), leased("b")], first=3)
    table.pass_over()
    table.apply(changes)

    assert (4, 3, 4) == (table.seq, table.jobs["b"].order, table.jobs["b"].seq)


@pytest.mark.parametrize(
    ("used", "number"),
    [
        ([], 1),
        (["1", "2", "3"], 4),
        (["3", "1"], 4),
        (["41"], 42),
        (["007"], 8),
        (["job1", "a", "1.5", "-9", "1e3", "²", ""], 1),
        (["20251104093000"], 20251104093001),
        (["2025110409300000"], 1),
    ],
)
def test_next_number_is_above_every_number_that_was_used(used, number):
    """Names are no numbers, and neither is a row of more than fifteen digits."""
    table = table_of(*map(enqueued, used))

    assert number == table.next_number
    assert number == Table(table.jobs.values()).next_number


def test_number_of_a_pruned_job_is_not_given_out_again():
    """What was once job 3 stays job 3 in logs and in memory, also after a snapshot."""
    gone = [Cancelled(at=T0, id="3", attempt=0), Pruned(at=T0, id="3")]
    table = table_of(*map(enqueued, ["1", "2", "3"]), *gone)

    assert 4 == table.next_number
    assert 4 == Table(table.jobs.values(), table.seq, table.next_number).next_number


def test_numbers_do_not_run_out_after_nine_digits():
    """The number given out after 999999999 is not given out twice."""
    table = table_of(enqueued("999999999"))
    table.fold(enqueued(f"{table.next_number}"))

    assert f"{table.next_number}" not in table.jobs


def test_jobs_of_a_name_come_oldest_first():
    """Several jobs may share a name."""
    named = [enqueued("c", name="x"), enqueued("a", name="y"), enqueued("b", name="x")]

    assert ["c", "b"] == ids(table_of(*named, enqueued("d")).named("x"))
    assert [] == ids(table_of(*named).named("z"))


# --- what changed lately -------------------------------------------------------------------------


def test_touched_are_the_jobs_of_the_events_since():
    """A view asks for what changed after the event up to which it knows."""
    table = table_of(enqueued("1"), enqueued("2"))
    seq = table.seq
    table.fold(leased("1"))
    table.pass_over()

    assert {"1"} == table.touched_since(seq)
    assert set() == table.touched_since(table.seq)
    assert {"1", "2"} == table.touched_since(0)


def test_touched_is_unknown_beyond_what_is_remembered():
    """A table that was opened later, or an event that is not there yet: look at everything."""
    table = Table(table_of(enqueued("1")).jobs.values(), seq=7)

    assert table.touched_since(6) is None
    assert table.touched_since(8) is None
    assert set() == table.touched_since(7)


def test_heaps_do_not_grow_where_nobody_takes_anything_out():
    """A process whose worker has stopped goes on reading what others enqueue and finish."""
    table = table_of(*map(enqueued, ["first"]))
    assert ["first"] == ids(table.pick_due(T0, 10))
    for n in range(3 * HEAP_SLACK):
        table.fold(enqueued(str(n)))
        table.fold(Cancelled(at=T0, id=str(n), attempt=0))

    assert len(table._ready or ()) <= HEAP_SLACK
    assert ["first"] == ids(table.pick_due(T0, 10))


def test_number_is_never_given_twice_beyond_fifteen_digits():
    """A row of nines may be an id, and the numbers go on after it."""
    table = table_of(enqueued("9" * 15))
    assert 10**15 == table.next_number

    table = table_of(enqueued("9" * 15), enqueued(str(10**15)))
    assert 10**15 + 1 == table.next_number
