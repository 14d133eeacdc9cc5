"""The lifecycle: one table, one fold, and the decisions that lead to events.

`TRANSITIONS` is the design: a row per state, a column per event, an empty cell where the event is
impossible. `evolve` is the only code in the package that gives a job a state; live changes and the
replay of a journal both go through it, so they cannot differ.

Five rules:
1. Nothing else in the package assigns a state.
2. Nothing here reads a clock, a file or a random number: they are arguments.
3. Decisions are recorded, never recomputed: `Failed.due_at` holds the moment.
4. Time writes no events: "due" is a question about a job and a clock.
5. Everything that ends an attempt names it; a late result of another attempt is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from queuectl_magics.errors import RefusedError
from queuectl_magics.events import (
    SIGTERM,
    Cancelled,
    Died,
    Ended,
    Enqueued,
    Event,
    Failed,
    Interrupted,
    JobEvent,
    Leased,
    Pruned,
    Retried,
    StopRequested,
    Succeeded,
)
from queuectl_magics.exits import explain_exit
from queuectl_magics.job import (
    PROCESSING,
    TERMINAL,
    WAITING,
    Exit,
    JobRecord,
    JobSpec,
    OnLost,
    State,
)
from queuectl_magics.retry import backoff_s

# fmt: off
TRANSITIONS: dict[State, dict[type[Event], State]] = {
    State.PENDING:    {Leased: State.PROCESSING, Died: State.DEAD, Cancelled: State.CANCELLED},
    State.PROCESSING: {Succeeded: State.COMPLETED, Failed: State.FAILED, Died: State.DEAD,
                       Cancelled: State.CANCELLED, Interrupted: State.PENDING,
                       StopRequested: State.PROCESSING},
    State.FAILED:     {Leased: State.PROCESSING, Cancelled: State.CANCELLED,
                       Retried: State.PENDING},
    State.DEAD:       {Retried: State.PENDING},
    State.CANCELLED:  {Retried: State.PENDING},
    State.COMPLETED:  {Retried: State.PENDING},
}
# fmt: on


def states_that_take(event: type[Event]) -> frozenset[State]:
    """Return the states in which a job can take *event*.

    Example:
        >>> sorted(map(str, states_that_take(Cancelled)))
        ['failed', 'pending', 'processing']

    """
    return frozenset(state for state, row in TRANSITIONS.items() if event in row)


INTERRUPTS_MAX = 5
HISTORY_MAX = 100
CANCEL = "cancelled"
HAND_BACK = "its worker was stopped"
CANCELLED_RUNNING = "cancelled while running"
VANISHED = "interrupted: its processes vanished without an exit record"
LOST = 255


class IllegalTransitionError(Exception):
    """An event that the table does not allow: a bug, or a journal written by something else."""


def evolve(job: JobRecord | None, event: JobEvent, seq: int) -> JobRecord | None:
    """Return *job* as it is after *event* number *seq*; None when it is no longer kept.

    Raises:
        IllegalTransitionError: the table has no such cell, or the event names another attempt.

    """
    if isinstance(event, Enqueued):
        if job is not None:
            msg = f"job {event.id} was enqueued twice (event {seq})"
            raise IllegalTransitionError(msg)
        at = event.at
        return replace(event.job, created_at=at, updated_at=at, seq=seq, order=seq)
    if job is None:
        msg = f"event {seq} speaks of job {event.id}, which does not exist"
        raise IllegalTransitionError(msg)
    kind = type(event)
    if kind is Pruned and job.state in TERMINAL:
        return None
    state = TRANSITIONS[job.state].get(kind)
    if state is None:
        msg = f"job {job.id} is {job.state}: it cannot take {kind.__name__} (event {seq})"
        raise IllegalTransitionError(msg)
    changes = _CHANGES[kind](job, event, seq)
    return replace(job, state=state, updated_at=event.at, seq=seq, **changes)


# What each event changes besides the state: a function an event, since a million are replayed.


def _leased(job: JobRecord, event: Leased, seq: int) -> dict[str, Any]:
    if event.attempt <= job.attempt:
        msg = f"event {seq} leases attempt {event.attempt} of job {job.id} after {job.attempt}"
        raise IllegalTransitionError(msg)
    changes: dict[str, Any] = {
        "attempt": event.attempt,
        "token": event.token,
        "worker": event.worker,
        "due_at": None,
        "started_at": event.at,
        "reason": None,
    }
    if job.attempt:  # the facts of that one go into the history
        changes |= dict.fromkeys(("finished_at", "exit_code", "cpu_s", "memory_bytes_max"))
        changes["history"] = job.all_attempts()[-HISTORY_MAX:]
    return changes


def _stop_requested(job: JobRecord, event: StopRequested, seq: int) -> dict[str, Any]:
    _same_attempt(job, event.attempt, seq)
    why = CANCEL if job.stopping == CANCEL else event.why
    return {"stopping": why, "stop_signal": event.signal}


def _retried(_job: JobRecord, _event: Retried, _seq: int) -> dict[str, Any]:
    return {"attempts": 0, "interrupts": 0, "due_at": None}


def _ended(job: JobRecord, event: Ended, seq: int) -> dict[str, Any]:
    if job.state is not PROCESSING:  # the reason of its latest attempt stays with that one
        reason = event.reason if job.attempt == 0 else job.reason
        return {"reason": reason, "due_at": None}
    _same_attempt(job, event.attempt, seq)
    return {
        "finished_at": event.finished_at or event.at,
        "exit_code": event.exit_code,
        "reason": event.reason,
        "token": None,
        "stopping": None,
        "stop_signal": None,
        "cpu_s": event.cpu_s,
        "memory_bytes_max": event.memory_bytes_max,
    }


def _failed(job: JobRecord, event: Failed, seq: int) -> dict[str, Any]:
    return _ended(job, event, seq) | {"attempts": job.attempts + 1, "due_at": event.due_at}


def _died(job: JobRecord, event: Died, seq: int) -> dict[str, Any]:
    changes = _ended(job, event, seq)
    if job.state is not PROCESSING:
        return changes
    if event.exit_code is None:
        return changes | {"interrupts": job.interrupts + 1}
    return changes | {"attempts": job.attempts + 1}


def _interrupted(job: JobRecord, event: Interrupted, seq: int) -> dict[str, Any]:
    return _ended(job, event, seq) | {"interrupts": job.interrupts + event.counted}


_CHANGES: dict[type[Event], Callable[[JobRecord, Any, int], dict[str, Any]]] = {
    Leased: _leased,
    StopRequested: _stop_requested,
    Succeeded: _ended,
    Failed: _failed,
    Died: _died,
    Cancelled: _ended,
    Interrupted: _interrupted,
    Retried: _retried,
}


def _same_attempt(job: JobRecord, attempt: int, seq: int) -> None:
    if attempt != job.attempt:
        msg = f"event {seq} ends attempt {attempt} of job {job.id}, which is at {job.attempt}"
        raise IllegalTransitionError(msg)


# --- decisions: what is, and what is wanted → the event to record -------------------------------


def enqueue(record: JobRecord, *, now: datetime) -> Enqueued:
    """Accept a job: *record* comes from `new_job`."""
    return Enqueued(at=now, id=record.id, job=record)


def new_job(
    spec: JobSpec,
    *,
    id: str,
    due_from: datetime,
    max_retries: int,
    backoff_base: float,
    backoff_cap_s: float,
    cwd: str | None = None,
    environ_ref: str | None = None,
    env_ref: str | None = None,
) -> JobRecord:
    """Return the record a job starts out with: *spec*, and the queue's settings of this moment.

    Its delay counts from *due_from*, the time by the clock, which the moment of its acceptance is
    ahead of after the clock was set back.
    """
    return JobRecord(
        id=id,
        command=spec.command,
        state=State.PENDING,
        attempts=0,
        max_retries=max_retries if spec.max_retries is None else spec.max_retries,
        name=spec.name,
        tags=spec.tags,
        priority=spec.priority,
        backoff_base=backoff_base if spec.backoff_base is None else spec.backoff_base,
        backoff_cap_s=backoff_cap_s if spec.backoff_cap_s is None else spec.backoff_cap_s,
        backoff_jitter=spec.backoff_jitter,
        cwd=spec.cwd or cwd,
        shell=spec.shell,
        environ_ref=environ_ref,
        env_ref=env_ref,
        env_names=tuple(sorted(spec.env)),
        timeout_s=spec.timeout_s,
        grace_s=spec.grace_s,
        output_bytes_max=spec.output_bytes_max,
        on_lost=spec.on_lost,
        due_at=due_from + timedelta(seconds=spec.delay_s) if spec.delay_s else None,
    )


def lease(job: JobRecord, *, worker: str, token: str, now: datetime) -> Leased:
    """Give *worker* the right to run the next attempt of *job*."""
    return Leased(at=now, id=job.id, attempt=job.attempt + 1, worker=worker, token=token)


def settle(
    job: JobRecord | None,
    attempt: int,
    exit: Exit,
    *,
    now: datetime | None = None,
    dice: float = 0.0,
) -> JobEvent | None:
    """Decide what the end of an attempt means; None for a late result of a fenced attempt.

    Exit code 0 alone is success, unless the attempt was being ended. What was ended because its
    worker was stopped costs nothing, whoever settles it. A job is dead when its failed attempts
    reach `max_retries`; 0 and 1 both mean a single attempt.
    """
    if job is None or job.state is not PROCESSING or job.attempt != attempt:
        return None
    facts: dict[str, Any] = {
        "at": now or exit.finished_at,
        "finished_at": exit.finished_at,
        "id": job.id,
        "attempt": attempt,
        "exit_code": exit.code,
        "cpu_s": exit.cpu_s,
        "memory_bytes_max": exit.memory_bytes_max,
    }
    if job.stopping == CANCEL:
        return Cancelled(**facts, reason=CANCELLED_RUNNING)
    if job.stopping == HAND_BACK:  # without a code: that one tells of our signal, not of the job
        return Interrupted(**facts | {"exit_code": None}, counted=False, reason=HAND_BACK)
    if exit.code == 0 and job.stopping is None:
        return Succeeded(**facts)
    reason = exit.reason or job.stopping or explain_exit(exit.code)
    attempts = job.attempts + 1
    if attempts >= job.max_retries:
        return Died(**facts, reason=reason)
    wait_s = backoff_s(
        attempts,
        base=job.backoff_base,
        cap_s=job.backoff_cap_s,
        jitter=job.backoff_jitter,
        dice=dice,
    )
    due_at = exit.finished_at + timedelta(seconds=wait_s)
    return Failed(**facts, reason=reason, due_at=due_at)


def rescue(
    job: JobRecord | None, attempt: int, *, started: bool, now: datetime
) -> JobEvent | None:
    """Decide what becomes of an attempt whose processes vanished without an exit record."""
    if job is None or job.state is not PROCESSING or job.attempt != attempt:
        return None
    if not started:
        return hand_back(job, attempt, now=now, reason="never started")
    if job.stopping == HAND_BACK:
        return hand_back(job, attempt, now=now, reason=HAND_BACK)
    if job.stopping == CANCEL:
        return Cancelled(at=now, id=job.id, attempt=attempt, reason=CANCELLED_RUNNING)
    if job.on_lost is OnLost.FAIL:
        return settle(job, attempt, Exit(code=LOST, finished_at=now, reason=VANISHED))
    if job.on_lost is OnLost.HOLD:
        return Died(at=now, id=job.id, attempt=attempt, reason="interrupted; held until retried")
    if job.interrupts + 1 >= INTERRUPTS_MAX:
        reason = f"interrupted {INTERRUPTS_MAX} times"
        return Died(at=now, id=job.id, attempt=attempt, reason=reason)
    return Interrupted(at=now, id=job.id, attempt=attempt, reason=VANISHED)


def hand_back(
    job: JobRecord | None, attempt: int, *, now: datetime, reason: str
) -> JobEvent | None:
    """Return a leased job to the queue at no cost: it never ran, or its worker was told to stop.

    None if the attempt is no longer the current one; a job that was being cancelled is cancelled.
    """
    if job is None or job.state is not PROCESSING or job.attempt != attempt:
        return None
    if job.stopping == CANCEL:
        return Cancelled(at=now, id=job.id, attempt=attempt, reason=CANCELLED_RUNNING)
    return Interrupted(at=now, id=job.id, attempt=attempt, counted=False, reason=reason)


def cancel(job: JobRecord, *, now: datetime, signal: int = SIGTERM) -> Cancelled | StopRequested:
    """Call a job off: at once if it waits; if it runs, ask first that its processes be ended.

    *signal* is what its processes get first; those that are left after the grace are killed.

    Raises:
        RefusedError: the job is over already.

    """
    if job.state in WAITING:
        return Cancelled(at=now, id=job.id, attempt=job.attempt, reason="cancelled")
    if job.state is PROCESSING:
        return StopRequested(at=now, id=job.id, attempt=job.attempt, why=CANCEL, signal=signal)
    hint = "" if job.state is State.CANCELLED else f" (run it again with retry {job.id})"
    msg = f"job {job.id} is {job.state}: it cannot be cancelled{hint}"
    raise RefusedError(msg)


def stop(job: JobRecord, attempt: int, *, why: str, now: datetime) -> StopRequested | None:
    """Ask that an attempt be ended: its time is up, or its worker's (`HAND_BACK`).

    None if that is too late, or if it is being ended already: the first reason stands, but for a
    person's cancel, which goes before all others.
    """
    if job.state is not PROCESSING or job.attempt != attempt or job.stopping is not None:
        return None
    return StopRequested(at=now, id=job.id, attempt=attempt, why=why)


def retry(job: JobRecord, *, now: datetime) -> Retried:
    """Give a job that is over, or waits for its next attempt, a fresh allowance, due at once.

    Raises:
        RefusedError: the job is waiting to run or running.

    """
    if Retried in TRANSITIONS[job.state]:
        return Retried(at=now, id=job.id)
    hint = " (cancel it first)" if job.state is PROCESSING else " and will run anyway"
    msg = f"job {job.id} is {job.state}{hint}: there is nothing to retry"
    raise RefusedError(msg)


def prune(job: JobRecord, *, now: datetime) -> Pruned:
    """Drop a job that is over.

    Raises:
        RefusedError: the job is not over.

    """
    if job.state in TERMINAL:
        return Pruned(at=now, id=job.id)
    msg = f"job {job.id} is {job.state}: only a job that is over can be pruned (cancel it first)"
    raise RefusedError(msg)
