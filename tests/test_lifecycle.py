"""The rules of a job's life, written out by hand; nothing here asks the code what is right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from msgspec.structs import replace

from queuectl_magics import lifecycle
from queuectl_magics.errors import RefusedError
from queuectl_magics.events import (
    Cancelled,
    Died,
    Enqueued,
    Failed,
    Interrupted,
    JobEvent,
    Leased,
    Pruned,
    Retried,
    StopRequested,
    Succeeded,
)
from queuectl_magics.job import NOT_YET, Attempt, Exit, JobRecord, JobSpec, State
from queuectl_magics.lifecycle import TRANSITIONS, IllegalTransitionError, evolve

TABLE = """
             Leased      Succeeded  Failed  Died  Cancelled  Interrupted  StopRequested  Retried
pending      processing  ·          ·       dead  cancelled  ·            ·              ·
processing   ·           completed  failed  dead  cancelled  pending      processing     ·
failed       processing  ·          ·       ·     cancelled  ·            ·              pending
dead         ·           ·          ·       ·     ·          ·            ·              pending
cancelled    ·           ·          ·       ·     ·          ·            ·              pending
completed    ·           ·          ·       ·     ·          ·            ·              pending
"""
_columns, *_rows = (line.split() for line in TABLE.strip().splitlines())
CELLS = {
    (state, column): outcome
    for state, *outcomes in _rows
    for column, outcome in zip(_columns, outcomes, strict=True)
}
ALLOWED = [cell for cell, outcome in CELLS.items() if outcome != "·"]
FORBIDDEN = [cell for cell, outcome in CELLS.items() if outcome == "·"]

T0 = datetime(2025, 11, 4, 10, 0, tzinfo=UTC)
T1 = datetime(2025, 11, 4, 11, 0, tzinfo=UTC)
LATER = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)

FIRST = Attempt(number=1, started_at=T0, finished_at=T0, exit_code=9, reason="exit 9", worker="w0")
SECOND = Attempt(
    number=2,
    started_at=T0,
    finished_at=T0,
    exit_code=1,
    reason="exit 1",
    worker="w1",
    cpu_s=0.5,
    memory_bytes_max=1000,
    due_at=T1,
)
IDLE = JobRecord(
    id="7",
    command="make",
    state=State.PENDING,
    attempts=2,
    max_retries=5,
    created_at=T0,
    updated_at=T0,
    name="build",
    tags=("a", "b"),
    priority=5,
    cwd="/src",
    env_names=("TOKEN",),
    seq=20,
    order=4,
    due_at=T1,
    interrupts=1,
    attempt=2,
    worker="w1",
    started_at=T0,
    finished_at=T0,
    exit_code=1,
    reason="exit 1",
    cpu_s=0.5,
    memory_bytes_max=1000,
    history=(FIRST,),
)
RUNNING = replace(
    IDLE,
    state=State.PROCESSING,
    due_at=None,
    token="t2",
    stopping="time limit",
    stop_signal=2,
    finished_at=None,
    exit_code=None,
    reason=None,
    cpu_s=None,
    memory_bytes_max=None,
)
COST = {"cpu_s": 1.5, "memory_bytes_max": 2000}
END = {"at": T1, "id": "7", "attempt": 2, **COST}
EVENTS = {
    "Leased": Leased(at=T1, id="7", attempt=3, worker="w2", token="t3"),
    "Succeeded": Succeeded(**END, exit_code=0),
    "Failed": Failed(**END, exit_code=1, reason="exit 1", due_at=LATER),
    "Died": Died(**END, exit_code=1, reason="exit 1"),
    "Cancelled": Cancelled(**END, exit_code=143, reason="cancelled"),
    "Interrupted": Interrupted(**END, reason="vanished"),
    "StopRequested": StopRequested(at=T1, id="7", attempt=2, why="cancelled", signal=9),
    "Retried": Retried(at=T1, id="7"),
}

# What an allowed cell changes in the record, besides the state, `updated_at` and `seq`.
LEASED = {
    "attempt": 3,
    "token": "t3",
    "worker": "w2",
    "due_at": None,
    "started_at": T1,
    "finished_at": None,
    "exit_code": None,
    "reason": None,
    "cpu_s": None,
    "memory_bytes_max": None,
    "history": (FIRST, SECOND),
}
ENDED = {"finished_at": T1, "token": None, "stopping": None, "stop_signal": None, **COST}
FRESH = {"attempts": 0, "interrupts": 0, "due_at": None}
CHANGES = {
    ("pending", "Leased"): LEASED,
    ("pending", "Died"): {"due_at": None},
    ("pending", "Cancelled"): {"due_at": None},
    ("processing", "Succeeded"): {**ENDED, "exit_code": 0, "reason": None},
    ("processing", "Failed"): {
        **ENDED,
        "exit_code": 1,
        "reason": "exit 1",
        "attempts": 3,
        "due_at": LATER,
    },
    ("processing", "Died"): {**ENDED, "exit_code": 1, "reason": "exit 1", "attempts": 3},
    ("processing", "Cancelled"): {**ENDED, "exit_code": 143, "reason": "cancelled"},
    ("processing", "Interrupted"): {
        **ENDED,
        "exit_code": None,
        "reason": "vanished",
        "interrupts": 2,
    },
    ("processing", "StopRequested"): {"stopping": "cancelled", "stop_signal": 9},
    ("failed", "Leased"): LEASED,
    ("failed", "Cancelled"): {"due_at": None},
    ("failed", "Retried"): FRESH,
    ("dead", "Retried"): FRESH,
    ("cancelled", "Retried"): FRESH,
    ("completed", "Retried"): FRESH,
}


def a_job(state: str) -> JobRecord:
    """Return a job with a past, in *state*."""
    return RUNNING if state == "processing" else replace(IDLE, state=State(state))


def test_table_of_the_code_is_the_table_of_the_design():
    """Every allowed cell is there, and no other; the kinds of event are all accounted for."""
    found = {
        (str(state), event.__name__): str(outcome)
        for state, row in TRANSITIONS.items()
        for event, outcome in row.items()
    }

    assert {cell: CELLS[cell] for cell in ALLOWED} == found
    assert {*_columns, "Enqueued", "Pruned"} == {kind.__name__ for kind in get_args(JobEvent)}
    assert 48 == len(CELLS)
    assert set(CHANGES) == set(ALLOWED)


@pytest.mark.parametrize(("state", "column"), ALLOWED)
def test_allowed_event_changes_these_fields_and_no_others(state, column):
    """An allowed cell gives exactly the record that is written out above."""
    moved = {"state": State(CELLS[state, column]), "updated_at": T1, "seq": 21}
    expected = replace(a_job(state), **moved, **CHANGES[state, column])

    assert expected == evolve(a_job(state), EVENTS[column], 21)


@pytest.mark.parametrize(("state", "column"), FORBIDDEN)
def test_forbidden_event_is_refused_and_says_which_job_and_state(state, column):
    """An empty cell raises, names job, state and event, and leaves the record as it was."""
    job = a_job(state)

    with pytest.raises(IllegalTransitionError, match=f"job 7 is {state}.*{column}.*event 21"):
        evolve(job, EVENTS[column], 21)
    assert a_job(state) == job


@pytest.mark.parametrize("state", ["completed", "dead", "cancelled"])
def test_job_that_is_over_can_be_pruned(state):
    """Pruning a job that is over drops it."""
    event = lifecycle.prune(a_job(state), now=T1)

    assert Pruned(at=T1, id="7") == event
    assert evolve(a_job(state), event, 21) is None


@pytest.mark.parametrize("state", ["pending", "processing", "failed"])
def test_job_that_is_not_over_cannot_be_pruned(state):
    """Neither the decision nor the fold drops a job that may still run."""
    with pytest.raises(RefusedError, match=f"job 7 is {state}.*cancel it first"):
        lifecycle.prune(a_job(state), now=T1)
    with pytest.raises(IllegalTransitionError, match=f"job 7 is {state}"):
        evolve(a_job(state), Pruned(at=T1, id="7"), 21)


def test_enqueued_job_takes_its_place_from_the_event_number():
    """The record comes from the event; its place in the line is the event's number."""
    event = lifecycle.enqueue(IDLE, now=T0)

    assert Enqueued(at=T0, id="7", job=IDLE) == event
    assert replace(IDLE, seq=33, order=33) == evolve(None, event, 33)


def test_enqueued_job_has_its_times_from_the_event():
    """They are written once; a line that has them twice, as older ones do, means the same."""
    bare = replace(IDLE, created_at=NOT_YET, updated_at=NOT_YET)
    expected = replace(IDLE, created_at=T1, updated_at=T1, seq=33, order=33)

    assert expected == evolve(None, Enqueued(at=T1, id="7", job=bare), 33)
    assert expected == evolve(None, Enqueued(at=T1, id="7", job=IDLE), 33)


def test_job_is_not_enqueued_twice():
    """An id that is taken is refused."""
    with pytest.raises(IllegalTransitionError, match="job 7 was enqueued twice"):
        evolve(IDLE, lifecycle.enqueue(IDLE, now=T0), 21)


@pytest.mark.parametrize("event", [*EVENTS.values(), Pruned(at=T1, id="7")])
def test_event_of_an_unknown_job_is_refused(event):
    """Nothing but `Enqueued` brings a job into being."""
    with pytest.raises(IllegalTransitionError, match="job 7, which does not exist"):
        evolve(None, event, 21)


@pytest.mark.parametrize("attempt", [1, 2])
def test_lease_always_carries_a_higher_attempt_number(attempt):
    """Attempt numbers only grow: the number of an attempt is never given out again."""
    with pytest.raises(IllegalTransitionError, match=f"attempt {attempt} of job 7"):
        evolve(IDLE, replace(EVENTS["Leased"], attempt=attempt), 21)


@pytest.mark.parametrize(
    "column", ["Succeeded", "Failed", "Died", "Cancelled", "Interrupted", "StopRequested"]
)
@pytest.mark.parametrize("attempt", [1, 3])
def test_journal_event_of_another_attempt_is_refused(column, attempt):
    """What speaks of a running job names its current attempt, or is refused."""
    with pytest.raises(IllegalTransitionError, match=f"attempt {attempt} of job 7"):
        evolve(RUNNING, replace(EVENTS[column], attempt=attempt), 21)


@pytest.mark.parametrize(
    ("job", "attempt"),
    [(None, 2), (RUNNING, 1), (RUNNING, 3), (IDLE, 2), (a_job("completed"), 2)],
    ids=["pruned", "older", "newer", "handed back", "over"],
)
def test_late_result_of_a_fenced_attempt_is_refused(job, attempt):
    """Whoever reports an attempt that is not the current one is told nothing happened."""
    late = Exit(code=0, finished_at=T1)

    assert lifecycle.settle(job, attempt, late) is None
    assert lifecycle.rescue(job, attempt, started=True, now=T1) is None
    assert lifecycle.rescue(job, attempt, started=False, now=T1) is None
    assert lifecycle.hand_back(job, attempt, now=T1, reason="stopped") is None


def test_new_job_is_its_spec_and_the_settings_of_the_moment():
    """What the spec leaves open is filled in once, and is the job's own from then on."""
    settings = {"max_retries": 3, "backoff_base": 2.0, "backoff_cap_s": 3600.0}
    plain = lifecycle.new_job(
        JobSpec(command="make"), id="1", due_from=T0, cwd="/home", **settings
    )
    spec = JobSpec(
        command="make",
        name="build",
        max_retries=0,
        backoff_base=0.0,
        backoff_cap_s=0.0,
        cwd="/src",
        delay_s=90,
        priority=-1,
    )
    asked = lifecycle.new_job(spec, id="1", due_from=T0, cwd="/home", **settings)
    same = {"id": "1", "command": "make", "state": State.PENDING, "attempts": 0}

    assert JobRecord(**same, **settings, cwd="/home") == plain
    assert (
        JobRecord(
            **same,
            name="build",
            max_retries=0,
            backoff_base=0.0,
            backoff_cap_s=0.0,
            cwd="/src",
            due_at=T0 + timedelta(seconds=90),
            priority=-1,
        )
        == asked
    )


def test_job_keeps_the_names_of_its_environment_but_no_values():
    """The record of a job never holds what a variable was set to."""
    spec = JobSpec(command="make", env={"TOKEN": "s3cret", "A": "hidden"})
    job = lifecycle.new_job(
        spec, id="1", due_from=T0, max_retries=3, backoff_base=2, backoff_cap_s=60, env_ref="e1"
    )

    assert ("A", "TOKEN") == job.env_names
    assert "e1" == job.env_ref
    assert "s3cret" not in repr(job)


@pytest.mark.parametrize(
    ("stopping", "exit_reason", "code", "event", "reason"),
    [
        (None, None, 0, Succeeded, None),
        (None, None, 137, Failed, "exit 137 (SIGKILL?)"),
        (None, "no such directory: /src", 127, Failed, "no such directory: /src"),
        ("time limit", None, 143, Failed, "time limit"),
        ("time limit", None, 0, Failed, "time limit"),
        ("cancelled", None, 143, Cancelled, "cancelled while running"),
        ("cancelled", None, 0, Cancelled, "cancelled while running"),
        ("cancelled", "no such directory", 127, Cancelled, "cancelled while running"),
    ],
)
def test_end_of_an_attempt_means_one_thing(stopping, exit_reason, code, event, reason):
    """Exit code 0 alone is success, unless the attempt was being ended."""
    job = replace(RUNNING, stopping=stopping)
    end = Exit(code=code, finished_at=T1, reason=exit_reason, **COST)
    found = lifecycle.settle(job, 2, end)
    facts = {**END, "finished_at": T1, "exit_code": code, "reason": reason}
    if event is Failed:
        facts["due_at"] = T1 + timedelta(seconds=8)

    assert event(**facts) == found
    late = lifecycle.settle(job, 2, end, now=LATER)
    assert event(**facts | {"at": LATER}) == late


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_cancel_of_a_waiting_job_takes_effect_at_once(state):
    """Nothing runs, so nothing has to be stopped first; its place in time is given up."""
    job = evolve(a_job(state), lifecycle.cancel(a_job(state), now=T1), 21)

    assert ("cancelled", None) == (job.state, job.due_at)


@pytest.mark.parametrize(
    ("state", "hint"),
    [("completed", "retry 7"), ("dead", "retry 7"), ("cancelled", "cannot be cancelled$")],
)
def test_cancel_of_a_job_that_is_over_is_refused(state, hint):
    """The message says in which state the job is, and how to run it again."""
    with pytest.raises(RefusedError, match=f"job 7 is {state}.*{hint}"):
        lifecycle.cancel(a_job(state), now=T1)


@pytest.mark.parametrize(
    ("state", "hint"), [("pending", "will run anyway"), ("processing", "cancel it first")]
)
def test_retry_of_a_job_that_has_its_run_before_it_is_refused(state, hint):
    """There is nothing to retry in a job that waits for its turn or runs."""
    with pytest.raises(RefusedError, match=f"job 7 is {state}.*{hint}"):
        lifecycle.retry(a_job(state), now=T1)


@pytest.mark.parametrize("state", ["failed", "dead", "cancelled", "completed"])
def test_retried_job_is_due_at_once(state):
    """A retry by hand does not wait for the backoff."""
    job = evolve(a_job(state), lifecycle.retry(a_job(state), now=T0), 21)

    assert T1 == a_job(state).due_at
    assert job.due_at is None


@pytest.mark.parametrize(
    ("job", "attempt"),
    [(RUNNING, 2), (replace(RUNNING, stopping=None), 1), (IDLE, 2), (a_job("dead"), 2)],
    ids=["being ended", "older attempt", "waiting", "over"],
)
def test_only_the_current_attempt_is_asked_to_end(job, attempt):
    """An attempt that is being ended already, or is no longer the current one, is left alone."""
    assert lifecycle.stop(job, attempt, why="time limit", now=T1) is None


def test_attempt_is_asked_politely_to_end():
    """The reason is written down; the processes get TERM first."""
    job = replace(RUNNING, stopping=None)
    asked = StopRequested(at=T1, id="7", attempt=2, why="time limit", signal=15)

    assert asked == lifecycle.stop(job, 2, why="time limit", now=T1)
