"""Which jobs come in and which may go.

First what was asked for is read and checked, without the queue; then, inside a transaction, ids
are given out, or old jobs chosen. The rules here: all of it or none; and what a choice means for a
job is the lifecycle's business.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from msgspec.structs import asdict, replace

from queuectl_magics import clock, codec, lifecycle, validation, values
from queuectl_magics.errors import InvalidInputError, RefusedError
from queuectl_magics.events import Enqueued
from queuectl_magics.job import TERMINAL, JobRecord, JobSpec
from queuectl_magics.settings import KEPT_MAX, SECONDS_MAX, Config, parse_size_bytes
from queuectl_magics.table import Table
from queuectl_magics.validation import States
from queuectl_magics.values import Seconds
from queuectl_magics.variables import current_folder

Wanted = str | os.PathLike[str] | Mapping[str, Any] | JobSpec
"""What may be enqueued: a command, a dict of the fields of `JobSpec`, or a `JobSpec`."""

_DURATIONS = frozenset(("delay_s", "timeout_s", "grace_s", "backoff_cap_s"))
_PLAIN_KINDS = frozenset((str, int, float))
_PLAIN_KEYS = frozenset(("command", "name", "priority", "max_retries", "shell", "on_lost"))
_PLAIN = JobSpec(command="").policy  # the defaults fit, and most jobs ask for nothing else


def read_specs(wanted: Iterable[Wanted]) -> tuple[list[JobSpec], list[bytes]]:
    """Return what is *wanted*, checked, and the policy of each; one object for all that share it.

    Raises:
        InvalidInputError: the first thing that does not fit, and in which of several jobs.

    """
    many: object = wanted
    is_one = type(many) is not list and isinstance(many, str | Mapping | JobSpec)
    if type(many) is not list and values.is_frame(many):
        msg = "a DataFrame is no list of jobs: give a column, or .to_dict('records')"
        raise InvalidInputError(msg)
    if is_one or not isinstance(many, Iterable):
        msg = "enqueue_all takes a list of jobs: for a single one there is enqueue"
        raise InvalidInputError(msg)
    specs: list[JobSpec] = []
    policies: list[bytes] = []
    policy = _PLAIN
    wanted = list(wanted)
    for number, one in enumerate(wanted, 1):
        try:
            spec, policy = _checked(one, policy)
        except InvalidInputError as error:
            where = f"job {number} of {len(wanted)}: " if len(wanted) > 1 else ""
            raise InvalidInputError(where + str(error)) from None
        specs.append(spec)
        policies.append(policy)
    return specs, policies


def _checked(wanted: Any, known: bytes) -> tuple[JobSpec, bytes]:
    """Return what is *wanted*, checked, and its policy; the *known* one fits."""
    policy: bytes | None
    if isinstance(wanted, str):
        spec, policy, known = JobSpec(command=str.__str__(wanted)), _PLAIN, _PLAIN
    elif isinstance(wanted, JobSpec) and _is_sound(wanted, known):
        spec, policy = wanted, known
    else:
        if isinstance(wanted, JobSpec):
            wanted = asdict(wanted)
        elif isinstance(wanted, os.PathLike):
            wanted = {"command": wanted}
        spec = codec.spec_from(_as_dict(wanted) if isinstance(wanted, Mapping) else wanted)
        policy = _policy(spec)
    if policy == known:
        validation.check_own(spec)
        return spec, known
    validation.check(spec)
    return spec, spec.policy


def _is_sound(spec: JobSpec, known: bytes) -> bool:
    """Say whether what is in *spec* is of the right kind; anything can have been put into it."""
    id: object = spec.id
    return type(spec.command) is str and (id is None or type(id) is str) and _policy(spec) == known


def _policy(spec: JobSpec) -> bytes | None:
    """Return the policy of *spec*, if what is in it can be written down."""
    try:
        return spec.policy
    except (TypeError, ValueError, OverflowError):
        return None


def _as_dict(wanted: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return *wanted* with its values as they are kept: `"10m"` becomes 600.0."""
    return {
        key: value
        if type(value) in _PLAIN_KINDS and key in _PLAIN_KEYS  # most of them, and at once
        else _as_kept(codec.ALIASES.get(key, key) if isinstance(key, str) else "", value)
        for key, value in wanted.items()
        if value is not None  # as if it were not there
    }


def _as_kept(name: str, value: Any) -> Any:
    """Return the *value* of the field *name* as a text, a number, or several of them."""
    if name == "env" and isinstance(value, Mapping):
        return {values.plain(variable): _as_text(one) for variable, one in value.items()}
    if name == "tags" and isinstance(value, Iterable):
        return [values.plain(one) for one in ([value] if isinstance(value, str) else value)]
    if name == "command" and isinstance(value, list | tuple | Mapping):
        way = "enqueue_all takes dicts" if isinstance(value, Mapping) else "shlex.join makes one"
        msg = f"a command is one text, as you would type it: {way}"
        raise InvalidInputError(msg)
    if name in _DURATIONS and (isinstance(value, str) or values.is_span(value)):
        return values.seconds(name, value)
    if name == "output_bytes_max" and isinstance(value, str):
        return parse_size_bytes(value)
    return _as_text(value) if name == "id" else values.plain(value)


def _as_text(value: object) -> object:
    """Return a number as it would be typed, anything else as it is."""
    given = values.plain(value)
    return str(given) if isinstance(given, int | float) and not isinstance(given, bool) else given


def current_cwd() -> str:
    """Return the directory where we stand, in which a command runs that names no other.

    Raises:
        InvalidInputError: its name cannot be kept.
        HomeError: it has been deleted.

    """
    cwd = current_folder()
    try:
        cwd.encode()
    except UnicodeEncodeError:
        msg = f"the directory you are in, {cwd!r}, has a name that is no UTF-8: go to another one"
        raise InvalidInputError(msg) from None
    return cwd


def assign_ids(table: Table, specs: Sequence[JobSpec]) -> list[str]:
    """Return an id for each of *specs*: its own, or the next short number that is free.

    Raises:
        InvalidInputError: an id is taken.

    """
    taken: set[str] = set()
    for spec in specs:
        if spec.id is not None:
            if spec.id in table.jobs or spec.id in taken:
                msg = f"the id {spec.id!r} is taken: choose another, or leave it out"
                raise InvalidInputError(msg)
            taken.add(spec.id)
    numbers = map(str, itertools.count(table.next_number))  # of which none was ever used
    if not taken:
        return list(itertools.islice(numbers, len(specs)))
    free = (number for number in numbers if number not in taken)
    return [next(free) if spec.id is None else spec.id for spec in specs]


def accept(
    table: Table,
    specs: Sequence[JobSpec],
    policies: Sequence[bytes],
    config: Config,
    *,
    now: datetime,
    cwd: str,
    kept: Sequence[str | None],
) -> Iterator[Enqueued]:
    """Yield new jobs: with what was asked for, and the queue's settings otherwise.

    *kept* names the environment of all of them, and then what each has of its own; *policies* are
    those of `read_specs`.

    Raises:
        InvalidInputError: an id is taken.

    """
    environ_ref, *env_refs = kept
    before = record = None
    by_the_clock = min(now, clock.utc_now())
    ids = assign_ids(table, specs)
    for spec, policy, id, env_ref in zip(specs, policies, ids, env_refs, strict=True):
        if record is not None and policy is before:
            record = replace(record, id=id, command=spec.command)
        else:
            record = lifecycle.new_job(
                replace(spec, cwd=os.path.join(cwd, spec.cwd)) if spec.cwd else spec,
                id=id,
                due_from=by_the_clock,
                max_retries=config.max_retries,
                backoff_base=config.backoff_base,
                backoff_cap_s=config.backoff_cap,
                cwd=cwd,
                environ_ref=environ_ref,
                env_ref=env_ref,
            )
            before = policy
        yield lifecycle.enqueue(record, now=now)


def prunable(
    states: States, *, older_than_s: Seconds, keep: int
) -> Callable[[Iterable[JobRecord], datetime], list[JobRecord]]:
    """Return how to choose, of all jobs, those that may be dropped.

    Raises:
        InvalidInputError: there is no such state, or a number does not fit.
        RefusedError: jobs in one of *states* are not over.

    """
    chosen, kept = validation.parse_states(states), values.whole("keep", keep, KEPT_MAX)
    age_s = values.seconds("older_than_s", older_than_s)
    validation.check_range("older_than_s", age_s, SECONDS_MAX)
    age = timedelta(seconds=age_s)
    if not chosen <= TERMINAL:
        msg = "only completed, dead and cancelled jobs can be pruned (cancel the others first)"
        raise RefusedError(msg)

    def choose(jobs: Iterable[JobRecord], now: datetime) -> list[JobRecord]:
        fitting = [job for job in jobs if job.state in chosen and now - job.updated_at >= age]
        fitting.sort(key=attrgetter("updated_at", "seq"))  # newest means ended last
        return fitting[: max(0, len(fitting) - kept)]

    return choose
