"""Why a job stands where it stands, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.reason import brief, reason
from queuectl_magics.views.status import Status

AT = datetime(2026, 11, 24, 10, 51, 23, tzinfo=UTC)
SOON = AT + timedelta(seconds=4)


def job(state: State = State.PENDING, **fields: object) -> JobRecord:
    """Make a job by hand."""
    known = {"attempts": 0, "max_retries": 3, "created_at": AT, "updated_at": AT}
    return JobRecord(**{"id": "1", "command": "true", "state": state, **known, **fields})


@pytest.mark.parametrize(
    ("workers", "slots", "busy", "why"),
    [
        (1, 2, 1, "due now"),
        (0, 0, 0, "no worker is running"),
        (1, 1, 1, "the only slot is busy"),
        (1, 2, 2, "all 2 slots are busy"),
    ],
)
def test_pending_job_waits_for_a_slot(workers, slots, busy, why):
    """A job that is due says what keeps it, and claims nothing when nothing does."""
    assert why == reason(job(), AT, workers=workers, slots=slots, busy=busy)


def test_pending_job_of_a_paused_queue_says_so():
    """While the queue is paused that is the reason, whatever the slots."""
    assert "the queue is paused" == reason(job(), AT, workers=1, slots=1, busy=0, paused=True)


def test_pending_job_waits_for_its_moment_first():
    """Before it is due, the workers do not matter."""
    later = job(due_at=AT + timedelta(minutes=9))

    assert "due in 9 min" == reason(later, AT, workers=0, slots=0, busy=0)
    assert "due in 9 min" == brief(later, AT)


def test_interrupted_job_says_so():
    """Interrupts are told, in the singular and the plural."""
    assert "1 interrupt; due now" == reason(job(interrupts=1), AT, workers=1, slots=1, busy=0)
    assert "2 interrupts; due now" == brief(job(interrupts=2), AT)


@pytest.mark.parametrize(
    ("stopping", "why"),
    [
        (None, "attempt 2 of 3"),
        ("cancelled", "attempt 2 of 3, being cancelled"),
        ("time limit of 5 s", "attempt 2 of 3, being stopped: time limit of 5 s"),
    ],
)
def test_running_job_counts_its_attempt(stopping, why):
    """A running job says which attempt it is at, and whether it is being ended."""
    running = job(State.PROCESSING, attempts=1, attempt=2, stopping=stopping)

    assert why == reason(running, AT, workers=1, slots=1, busy=1)
    assert why == brief(running, AT)


@pytest.mark.parametrize(
    ("fields", "workers", "why"),
    [
        ({"exit_code": 3, "due_at": SOON}, 1, "exit 3; attempt 2 of 3 due in 4 s"),
        ({"exit_code": 3, "due_at": AT}, 1, "exit 3; attempt 2 of 3 due now"),
        ({"exit_code": 127}, 1, "exit 127 (command not found); attempt 2 of 3 due now"),
        ({"reason": "time limit", "exit_code": 137}, 1, "time limit; attempt 2 of 3 due now"),
        ({}, 1, "failed; attempt 2 of 3 due now"),
        ({"exit_code": 3}, 0, "exit 3; attempt 2 of 3 due now, but no worker is running"),
        ({"exit_code": 3, "due_at": SOON}, 0, "exit 3; attempt 2 of 3 due in 4 s"),
    ],
)
def test_failed_job_says_why_and_when_it_is_tried_again(fields, workers, why):
    """Cause, next attempt, its moment; and what keeps it when the moment has come."""
    failed = job(State.FAILED, attempts=1, attempt=1, **fields)

    assert why == reason(failed, AT, workers=workers, slots=1, busy=0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"state": State.DEAD, "reason": "exit 3", "exit_code": 3}, "exit 3"),
        ({"state": State.DEAD, "exit_code": 139}, "exit 139 (SIGSEGV?)"),
        ({"state": State.DEAD}, ""),
        ({"state": State.CANCELLED, "reason": "cancelled"}, "cancelled"),
        ({"state": State.CANCELLED, "attempt": 1, "attempts": 1, "exit_code": 3}, "exit 3"),
        ({"state": State.CANCELLED, "attempt": 1, "exit_code": 0}, ""),  # retried before
        (
            {"state": State.CANCELLED, "attempt": 1, "reason": "cancelled while running"},
            "cancelled while running",
        ),
        ({"state": State.COMPLETED, "exit_code": 0}, ""),
    ],
)
def test_job_that_is_over_gives_the_reason_that_was_recorded(fields, why):
    """What was recorded is told; a job that completed needs no reason."""
    assert why == reason(job(**fields), AT, workers=1, slots=1, busy=0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"state": State.PENDING}, ""),
        ({"state": State.CANCELLED, "reason": "cancelled"}, ""),
        ({"state": State.CANCELLED, "reason": "cancelled while running"}, "while running"),
        ({"state": State.DEAD, "reason": "exit 3", "attempts": 3}, "exit 3 · 3 failed attempts"),
        ({"state": State.DEAD, "attempts": 1}, "1 failed attempt"),
        ({"state": State.DEAD, "reason": "interrupted 5 times"}, "interrupted 5 times"),
        ({"state": State.COMPLETED}, ""),
    ],
)
def test_brief_reason_does_not_repeat_the_state(fields, why):
    """Next to the state, only what is new is said."""
    assert why == brief(job(**fields), AT)


def test_status_gives_the_reason_of_its_moment():
    """A picture of the queue answers with its own clock and its own workers."""
    status = Status(jobs=(job(),), counts={State.PENDING: 1}, now=AT, workers=1, slots=2, busy=2)

    assert "all 2 slots are busy" == status.reason(status.jobs[0])


def test_status_counts_the_whole_queue():
    """Totals come from the counts, also when only a part of the jobs is in the picture."""
    counts = {State.PENDING: 4, State.DEAD: 2, State.CANCELLED: 1, State.COMPLETED: 3}
    status = Status(jobs=(), counts=counts, now=AT, workers=0, slots=0, busy=0)

    assert (10, 6) == (status.total, status.over)
