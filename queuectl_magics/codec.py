"""Events and jobs ⇄ JSON, and the name of the format they are written in.

msgspec does the work: the classes in `job` and `events` are the format, and a value that does not
fit its annotation is refused on the way in. Times are ISO 8601 with a Z. A job is one line, so
that `jobs.json` diffs, greps and tails. The rules here: bytes in, values out, no files; and what
many jobs have in common (a directory, a worker, a moment) is in memory once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import pairwise
from sys import intern
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from queuectl_magics.errors import InvalidInputError, did_you_mean
from queuectl_magics.events import Enqueued, JobEvent, Leased
from queuectl_magics.job import BACKOFF_BASE, BACKOFF_CAP_S, NOT_YET, JobRecord, JobSpec, State

FORMAT = "queuectl.journal/1"
Unreadable = (msgspec.DecodeError, UnicodeDecodeError)


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="opened"):
    """The first line of a journal: which snapshot it continues, and from which event on."""

    at: datetime
    format: str
    store: str
    generation: int
    boot: str
    next_number: int
    snapshot_bytes: int
    snapshot_crc: str


class Booted(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="booted"):
    """The lines from here on were written after another start of the machine."""

    at: datetime
    boot: str


class Announced(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="announced"):
    """A snapshot of everything up to event `upto` is about to take its place.

    It brings its own `next_number`: the numbers of jobs that were pruned are in no snapshot.
    """

    at: datetime
    upto: int
    next_number: int = 1
    snapshot_bytes: int
    snapshot_crc: str


Line = JobEvent | Opened | Booted | Announced

_encoder = msgspec.json.Encoder()
_headers = msgspec.json.Decoder(Opened)

PART_BYTES = 256 * 1024
_NEXT_JOB = b',\n{"id":"'

ALIASES = {
    "maxRetries": "max_retries",
    "backoff_cap": "backoff_cap_s",
    "backoff-cap": "backoff_cap_s",
    "delay": "delay_s",
    "timeout": "timeout_s",
    "timeout_seconds": "timeout_s",
    "grace": "grace_s",
    "max_output": "output_bytes_max",
    "tag": "tags",
}


# A millisecond each to make, and a short command needs but one of them.


@cache
def _lines() -> msgspec.json.Decoder[Line]:
    return msgspec.json.Decoder(Line)


@cache
def _jobs() -> msgspec.json.Decoder[list[JobRecord]]:
    return msgspec.json.Decoder(list[JobRecord])


def encode_line(line: Line) -> bytes:
    """Return an event, or one of the journal's own notes, as one JSON object without a newline."""
    return _encoder.encode(line)


def decode_header(line: bytes) -> Opened:
    """Return what the first line of a journal says.

    Raises:
        msgspec.DecodeError: it is no such line.

    """
    return _headers.decode(line)


def decode_line(line: bytes) -> Line:
    """Return what stands in *line*; keys that we do not know are passed over.

    Raises:
        msgspec.DecodeError: the line is nothing of this format.

    """
    found = _lines().decode(line)
    if isinstance(found, Enqueued):
        _share_texts(found.job)
    elif isinstance(found, Leased):
        force_setattr(found, "worker", intern(found.worker))
    return found


def encode_jobs(jobs: Iterable[JobRecord]) -> bytes:
    """Return *jobs* as the lines of a JSON array, without the brackets."""
    return b",\n".join(map(_encoder.encode, jobs))


def decode_jobs(text: bytes) -> list[JobRecord]:
    """Return the jobs in the JSON array *text*, our own snapshot.

    It is read in parts: else what turns out to be there twice would leave holes in the memory.

    Raises:
        msgspec.DecodeError: the text is no such array.

    """
    jobs: list[JobRecord] = []
    view, opening, start = memoryview(text), b"", 0
    while (end := text.find(_NEXT_JOB, start + PART_BYTES)) >= 0:
        jobs += _decode_part(b"".join((opening, view[start:end], b"]")))
        opening, start = b"[", end + 1
    return jobs + _decode_part(b"".join((opening, view[start:])))


def _decode_part(text: bytes) -> list[JobRecord]:
    jobs = _jobs().decode(text)
    for before, job in pairwise([*jobs[:1], *jobs]):
        # only an event may leave them out, whose own moment they are
        if job.created_at is NOT_YET or job.updated_at is NOT_YET:
            msg = f"job {job.id} has lost its times"
            raise msgspec.DecodeError(msg)
        _share_texts(job)
        _share_values(job, before)
    return jobs


# A record takes 320 bytes, and all that it refers to 750 more; sharing leaves half of the latter.
# It is spelled out, for it is done for every job there is: as a loop it takes twice as long.


@lru_cache
def _one(number: float) -> float:
    """Return one and the same object for the same *number*, as `intern` does for a text."""
    return number


def _share_texts(job: JobRecord) -> None:
    """Let *job* have texts in common with all jobs that have the same."""
    if job.cwd is not None:
        force_setattr(job, "cwd", intern(job.cwd))
    if job.shell is not None:
        force_setattr(job, "shell", intern(job.shell))
    if job.environ_ref is not None:
        force_setattr(job, "environ_ref", intern(job.environ_ref))
    if job.env_ref is not None:
        force_setattr(job, "env_ref", intern(job.env_ref))
    if job.worker is not None:
        force_setattr(job, "worker", intern(job.worker))


def _share_values(job: JobRecord, before: JobRecord) -> None:
    """Let *job* have numbers in common with all jobs, and times with the one *before*."""
    if job.backoff_base is not BACKOFF_BASE:  # that object is not written, another 2.0 is
        force_setattr(job, "backoff_base", _one(job.backoff_base))
    if job.backoff_cap_s is not BACKOFF_CAP_S:
        force_setattr(job, "backoff_cap_s", _one(job.backoff_cap_s))
    if job.created_at == before.created_at:
        force_setattr(job, "created_at", before.created_at)
    if job.started_at == before.started_at:
        force_setattr(job, "started_at", before.started_at)
    if job.updated_at == before.updated_at:
        force_setattr(job, "updated_at", before.updated_at)
    if job.updated_at == job.created_at:
        force_setattr(job, "updated_at", job.created_at)
    if job.finished_at == job.updated_at:
        force_setattr(job, "finished_at", job.updated_at)


class _Classic(msgspec.Struct, frozen=True):
    """A job as older tools write it: the seven keys, any others passed over."""

    id: str | int
    command: str
    state: str = "pending"
    attempts: int = 0
    max_retries: int = 3
    created_at: datetime | None = None
    updated_at: datetime | None = None


_CLASSIC_STATES = {"canceled": "cancelled", "processing": "pending", "running": "pending"}


def decode_classic_jobs(text: bytes, now: datetime) -> list[JobRecord]:
    """Return the jobs of a `jobs.json` that another tool wrote.

    What was being processed there has no process that we could know, so it starts over as pending;
    a failed job is due at once. Times without a zone are taken as UTC.

    Raises:
        InvalidInputError: it is no such array; the message names what is wrong.

    """
    if not text.strip():
        return []
    try:
        rows = msgspec.json.decode(text, type=list[_Classic])
    except (msgspec.DecodeError, UnicodeError) as error:
        msg = f"it is not an array of jobs: {error}"
        raise InvalidInputError(msg) from None
    jobs = []
    for number, row in enumerate(rows, 1):
        word = row.state.lower()
        try:
            state = State(_CLASSIC_STATES.get(word, word))
        except ValueError:
            msg = f"job {row.id!r} has the unknown state {row.state!r}."
            raise InvalidInputError(msg + did_you_mean(word, list(State))) from None
        created = row.created_at or now
        updated = row.updated_at or created
        jobs.append(
            JobRecord(
                id=str(row.id),
                command=row.command,
                state=state,
                attempts=row.attempts,
                max_retries=row.max_retries,
                created_at=_in_utc(created),
                updated_at=_in_utc(updated),
                attempt=row.attempts,
                seq=number,
                order=number,
            )
        )
    return jobs


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        msg = f"the time {moment.isoformat()} is out of range"
        raise InvalidInputError(msg) from None


def spec_from(found: Any) -> JobSpec:
    """Return the job that the decoded JSON value *found* asks for.

    Raises:
        InvalidInputError: no object, an unknown key, a value of the wrong kind.

    Example:
        >>> spec_from({"id": "job1", "command": "echo hi"}).id
        'job1'

    """
    if not isinstance(found, dict):
        msg = 'a job is a JSON object with at least a command, like {"command": "echo hi"}'
        raise InvalidInputError(msg)
    keys = JobSpec.__struct_fields__
    spec: dict[str, Any] = {}
    said: dict[str, str] = {}
    for key, value in found.items():
        name = ALIASES.get(key, key) if isinstance(key, str) else repr(key)
        if name not in keys:
            near = did_you_mean(name, keys)
            msg = f"a job has no key {key!r}.{near} It can have: {', '.join(keys)}"
            raise InvalidInputError(msg)
        if name in spec:
            msg = f"{said[name]!r} and {key!r} mean the same: give one of them"
            raise InvalidInputError(msg)
        spec[name], said[name] = value, key
    if "command" not in spec:
        msg = 'the job has no command: add one, like {"command": "echo hi"}'
        raise InvalidInputError(msg)
    try:
        return msgspec.convert(spec, JobSpec)
    except msgspec.ValidationError as error:
        msg = f"the job object does not fit: {error}"
        raise InvalidInputError(msg) from None


def to_json(value: Any) -> bytes:
    """Return any value of ours as JSON, indented, for `--json`."""
    return msgspec.json.format(_encoder.encode(value), indent=2)
