"""The nouns: what a person asked for, what became of it, how one attempt ended.

These are values and nothing else: frozen, flat, without a clock or a file behind them. A
`JobRecord` is one line of `jobs.json`, and its first seven fields, in this order, are the ones
that every tool of the queuectl family writes; so the file opens with `jq` and pandas whatever
reads it. None of them can be part of a cycle, so the garbage collector passes over a hundred
thousand of them (`gc=False`). The rule here: no field holds the value of an environment variable,
only names and a reference.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from msgspec.structs import astuple


class State(StrEnum):
    """Where a job stands. Why it stands there is a reason, computed, never a state."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


class OnLost(StrEnum):
    """What becomes of a job whose processes vanished without an exit record.

    `retry`: it runs again, at no cost to its allowance. `fail`: that attempt counts as failed.
    `hold`: it is a dead letter until a person says retry.
    """

    RETRY = "retry"
    FAIL = "fail"
    HOLD = "hold"


BACKOFF_BASE = 2.0
BACKOFF_CAP_S = 3600.0
OUTPUT_BYTES_MAX = 256 * 1024 * 1024
NOT_YET = datetime.fromtimestamp(0, UTC)
PROCESSING = State.PROCESSING  # Python 3.11 takes 0.2 µs to ask an enum for a member
WAITING = frozenset({State.PENDING, State.FAILED})
TERMINAL = frozenset({State.COMPLETED, State.DEAD, State.CANCELLED})


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asked for; the keys of the JSON object that `enqueue` takes.

    `None` means "as the queue is configured". Seconds are floats; `delay` counts from now.

    Example:
        >>> JobSpec(command="python train.py", name="train", max_retries=5).priority
        0

    """

    command: str
    id: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    max_retries: int | None = None
    backoff_base: float | None = None
    backoff_cap_s: float | None = None
    backoff_jitter: float = 0.0
    delay_s: float = 0.0
    cwd: str | None = None
    env: dict[str, str] = {}
    shell: str | None = None
    timeout_s: float | None = None
    grace_s: float = 5.0
    output_bytes_max: int = OUTPUT_BYTES_MAX
    on_lost: OnLost = OnLost.RETRY

    @property
    def policy(self) -> bytes:
        """All but the command and the id, as bytes: in a sweep the same for every job.

        Raises:
            TypeError, ValueError, OverflowError: a value of a kind that no job can have.

        """
        return _encode(astuple(self)[_OWN:])

    def __repr__(self) -> str:
        plain = msgspec.structs.asdict(_NOTHING_ASKED)
        given = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if name != "env" and (name == "command" or value != plain[name])
        }
        if self.env:
            given["env"] = sorted(self.env)
        return f"JobSpec({', '.join(f'{name}={value!r}' for name, value in given.items())})"


_NOTHING_ASKED = JobSpec(command="")
_OWN = len(("command", "id"))
_encode = msgspec.msgpack.Encoder().encode  # JSON knows no nan, and would make it None


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended, as seen by whoever waited for it.

    `code` is what `sh` reports: 128 + n when signal n ended the command. `cpu_s` and
    `memory_bytes_max` come from `wait4` and are `None` where we were not the parent. `reason` is
    set when the command could not even be started.
    """

    code: int
    finished_at: datetime
    reason: str | None = None
    cpu_s: float | None = None
    memory_bytes_max: int | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One execution that is over, kept in the job's history; its retry was due at `due_at`."""

    number: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str | None = None
    worker: str | None = None
    cpu_s: float | None = None
    memory_bytes_max: int | None = None
    due_at: datetime | None = None


AttemptKey = tuple[str, int]


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A job: what was asked, and what became of it up to event number `seq`.

    Its times come from the events that it was folded from; before the first they are `NOT_YET`,
    which is not written, or each line of the journal would say the same moment three times.
    `attempts` counts the attempts that failed; `attempt` is the number of the current or latest
    attempt, and only ever grows. The flat fields from `worker` on speak of that latest attempt;
    `history` holds the ones before it.
    """

    id: str
    command: str
    state: State
    attempts: int
    max_retries: int
    created_at: datetime = NOT_YET
    updated_at: datetime = NOT_YET

    name: str | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    backoff_base: float = BACKOFF_BASE
    backoff_cap_s: float = BACKOFF_CAP_S
    backoff_jitter: float = 0.0
    cwd: str | None = None
    shell: str | None = None
    environ_ref: str | None = None
    env_ref: str | None = None
    env_names: tuple[str, ...] = ()
    timeout_s: float | None = None
    grace_s: float = 5.0
    output_bytes_max: int = OUTPUT_BYTES_MAX
    on_lost: OnLost = OnLost.RETRY

    seq: int = 0
    order: int = 0
    due_at: datetime | None = None
    interrupts: int = 0
    attempt: int = 0
    token: str | None = None
    worker: str | None = None
    stopping: str | None = None
    stop_signal: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str | None = None
    cpu_s: float | None = None
    memory_bytes_max: int | None = None
    history: tuple[Attempt, ...] = ()

    def latest(self) -> Attempt | None:
        """Return the current or latest attempt, or None before the first."""
        if self.attempt == 0:
            return None
        return Attempt(
            number=self.attempt,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            reason=self.reason,
            worker=self.worker,
            cpu_s=self.cpu_s,
            memory_bytes_max=self.memory_bytes_max,
            due_at=self.due_at,
        )

    def all_attempts(self) -> tuple[Attempt, ...]:
        """Return every attempt, oldest first, the current one last."""
        latest = self.latest()
        return (*self.history, latest) if latest else self.history


def key_of(job: JobRecord) -> AttemptKey:
    """Return what tells the current attempt of *job* from all others."""
    return job.id, job.attempt
