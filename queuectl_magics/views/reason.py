"""Why a job stands where it stands.

A state says where, a reason says why, and only the reason may change by itself: with the clock, or
with the workers. So it is computed when someone looks and never stored. `REASONS` has a row a
state. The rule here: a reason says what is known, in the words of the glossary, and claims nothing
about what will happen next.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from queuectl_magics.exits import explain_exit
from queuectl_magics.job import JobRecord, State
from queuectl_magics.lifecycle import CANCEL, CANCELLED_RUNNING, HAND_BACK
from queuectl_magics.views.words import DUE_NOW, NO_WORKER, attempt_of, counted, due


def reason(
    record: JobRecord,
    now: datetime,
    *,
    workers: int,
    slots: int,
    busy: int,
    paused: bool = False,
) -> str:
    """Return why *record* stands where it stands, or '' when the state says it all.

    Args:
        record: the job.
        now: the moment for which it is asked.
        workers: how many workers are running.
        slots: how many jobs they can run at once, together.
        busy: how many of the slots are taken.
        paused: whether no worker may start a job.

    Example:
        For a job that failed with exit code 3, four seconds before its next attempt:
        'exit 3; attempt 2 of 3 due in 4 s'.

    """
    held = "the queue is paused" if paused else _held(workers, slots, busy)
    return REASONS[record.state](record, now, held)


def brief(record: JobRecord, now: datetime) -> str:
    """Return the reason to be read after the state, as far as the job itself can tell it.

    Nothing is said of the workers, and nothing that the state has said already: 'while running',
    not 'cancelled while running', and '' for a job that is pending and due.
    """
    why = REASONS[record.state](record, now, "")
    if record.state is State.DEAD and record.attempts:
        failed = counted(record.attempts, "failed attempt")
        return f"{why} · {failed}" if why else failed
    return "" if why == DUE_NOW else why.removeprefix(record.state.value).lstrip()


def cause(record: JobRecord) -> str:
    """Return why the latest attempt ended as it did, or why the job was given up.

    After a retry the latest attempt is one of the round before: of that nothing is said.
    """
    was_ended = record.reason == CANCELLED_RUNNING
    is_old = {  # what was handed back or interrupted has no exit code
        State.PENDING: was_ended or record.exit_code is not None,
        State.CANCELLED: not was_ended,
    }
    if record.attempt and not record.attempts and is_old.get(record.state):
        return ""
    if record.reason:
        return record.reason
    return "" if record.exit_code is None else explain_exit(record.exit_code)


def _held(workers: int, slots: int, busy: int) -> str:
    """Return what keeps every job that is due from running, or ''."""
    if workers == 0:
        return NO_WORKER
    if busy < slots:
        return ""
    return "the only slot is busy" if slots == 1 else f"all {slots} slots are busy"


def _pending(record: JobRecord, now: datetime, held: str) -> str:
    when = due(record, now)
    why = held if held and when == DUE_NOW else when
    return f"{counted(record.interrupts, 'interrupt')}; {why}" if record.interrupts else why


def _processing(record: JobRecord, now: datetime, held: str) -> str:
    del now, held
    if record.stopping is None:
        return attempt_of(record)
    ends = {CANCEL: "cancelled", HAND_BACK: f"handed back: {HAND_BACK}"}
    end = ends.get(record.stopping, f"stopped: {record.stopping}")
    return f"{attempt_of(record)}, being {end}"


def _failed(record: JobRecord, now: datetime, held: str) -> str:
    when = due(record, now)
    but = f", but {held}" if held and when == DUE_NOW else ""
    return f"{cause(record) or 'failed'}; {attempt_of(record)} {when}{but}"


def _given_up(record: JobRecord, now: datetime, held: str) -> str:
    del now, held
    return cause(record)


def _completed(record: JobRecord, now: datetime, held: str) -> str:
    del record, now, held
    return ""


REASONS: dict[State, Callable[[JobRecord, datetime, str], str]] = {
    State.PENDING: _pending,
    State.PROCESSING: _processing,
    State.COMPLETED: _completed,
    State.FAILED: _failed,
    State.DEAD: _given_up,
    State.CANCELLED: _given_up,
}
