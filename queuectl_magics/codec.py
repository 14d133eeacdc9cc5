"""Events and jobs ⇄ JSON, and the name of the format they are written in.

msgspec does the work: the classes in `job` and `events` are the format, and a value that does not
fit its annotation is refused on the way in. The rule here: bytes in, values out, no files. Times
are ISO 8601 with a Z. A job is one line, so that `jobs.json` diffs, greps and tails.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from queuectl_magics.errors import InvalidInputError, did_you_mean
from queuectl_magics.events import JobEvent
from queuectl_magics.job import JobRecord, JobSpec, State

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
_lines: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_jobs: msgspec.json.Decoder[list[JobRecord]] = msgspec.json.Decoder(list[JobRecord])
_specs = msgspec.json.Decoder(JobSpec)

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


def encode_line(line: Line) -> bytes:
    """Return an event, or one of the journal's own notes, as one JSON object without a newline."""
    return _encoder.encode(line)


def decode_line(line: bytes) -> Line:
    """Return what stands in *line*; keys that we do not know are passed over.

    Raises:
        msgspec.DecodeError: the line is nothing of this format.

    """
    return _lines.decode(line)


def encode_jobs(jobs: Iterable[JobRecord]) -> bytes:
    """Return *jobs* as the lines of a JSON array, without the brackets."""
    return b",\n".join(map(_encoder.encode, jobs))


def decode_jobs(text: bytes) -> list[JobRecord]:
    """Return the jobs in the JSON array *text*, our own snapshot.

    Raises:
        msgspec.DecodeError: the text is no such array.

    """
    return _jobs.decode(text)


class _Classic(msgspec.Struct, frozen=True):
    """A job as older tools write it: the seven keys, any others passed over."""

    id: str | int
    command: str
    state: str = "pending"
    attempts: int = 0
    max_retries: int = 3
    created_at: datetime | None = None
    updated_at: datetime | None = None


_classics = msgspec.json.Decoder(list[_Classic])
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
        rows = _classics.decode(text)
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
    for key, value in found.items():
        name = ALIASES.get(key, key) if isinstance(key, str) else repr(key)
        if name not in keys:
            near = did_you_mean(name, keys)
            msg = f"a job has no key {key!r}.{near} It can have: {', '.join(keys)}"
            raise InvalidInputError(msg)
        spec[name] = value
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
