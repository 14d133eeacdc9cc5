"""Jobs as the browser gets them: columns for all, short rows for what changed.

A snapshot is a few chunks of columns, since columns of like values compress well; a delta has
whole rows for new jobs, rows without the texts that never change for known ones, and rows of three
for jobs that only printed something, of four where that was searched for. The rules here:
everything is JSON, compressed with zlib, which every browser can read; moments are milliseconds
since 1970, and `None` where there is none; every text is cleaned and cut here, and is still shown
as text only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.progress import Said
from queuectl_magics.views.reason import cause
from queuectl_magics.views.words import attempt_number, attempts_allowed, shorten

# What never changes, then what does. The browser's `rows.js` has the same list.
FIXED = ("id", "name", "command")
CHANGING = (
    "state",
    "number",
    "allowed",
    "attempt",
    "stopping",
    "started",
    "finished",
    "due",
    "cause",
)
SAID = ("line", "progress")
COLUMNS = (*FIXED, *CHANGING, *SAID)

CHUNK_ROWS = 10_000
COMMAND_CELLS = 400
NAME_CELLS = 80
LINE_CELLS = 200
CAUSE_CELLS = 120
LEVEL = 1  # zlib: the fastest; better ones cost more time than they save

_CODE = {state: number for number, state in enumerate(State)}

Row = list[Any]


def ms(moment: datetime | None) -> int | None:
    """Return *moment* as milliseconds since 1970."""
    return None if moment is None else int(moment.timestamp() * 1000)


def fixed(job: JobRecord) -> Row:
    """Return what never changes of *job*."""
    return [job.id, shorten(job.name or "", NAME_CELLS), shorten(job.command, COMMAND_CELLS)]


def changing(job: JobRecord) -> Row:
    """Return what an event may change of *job*; `number` is the attempt as a person counts it."""
    return [
        _CODE[job.state],
        attempt_number(job),
        attempts_allowed(job),
        job.attempt,
        int(job.stopping is not None),
        ms(job.started_at),
        ms(job.finished_at),
        ms(job.due_at),
        "" if job.state is State.COMPLETED else shorten(cause(job), CAUSE_CELLS),
    ]


def said(what: Said | None) -> Row:
    """Return the last line of a job and its progress; None when nobody has looked yet."""
    if what is None:
        return [None, None]
    done = what.progress
    return [shorten(what.line, LINE_CELLS), None if done is None else round(done, 3)]


def chunks(
    jobs: Sequence[JobRecord], heard: dict[str, Said], rows_max: int = CHUNK_ROWS
) -> Iterator[tuple[int, bytes]]:
    """Yield all jobs as columns, a chunk at a time, with the number of its first row."""
    for first in range(0, max(1, len(jobs)), rows_max):
        part = jobs[first : first + rows_max]
        rows = [fixed(job) + changing(job) + said(heard_of(job, heard)) for job in part]
        columns = zip(*rows, strict=True) if rows else [[] for _ in COLUMNS]
        yield first, pack(dict(zip(COLUMNS, map(list, columns), strict=True)))


def heard_of(job: JobRecord, heard: dict[str, Said]) -> Said | None:
    """Return what *job* has said; one that never ran, or begins anew, has said nothing."""
    has_begun = job.attempt and job.state is not State.PENDING
    return heard.get(job.id) if has_begun else Said("", None)


def delta(
    *,
    new: Iterable[JobRecord],
    changed: Iterable[JobRecord],
    spoken: Iterable[tuple[str, Said]],
    found: Iterable[tuple[str, Said, str]],
    gone: Sequence[str],
) -> dict[str, Any]:
    """Return what changed, leaving out what is empty.

    Of a job that was *found* the browser learns by which words, beside what it has said.
    """
    parts = {
        "new": [fixed(job) + changing(job) + said(heard_of(job, {})) for job in new],
        "changed": [[job.id, *changing(job)] for job in changed],
        "said": [
            *([id, *said(what)] for id, what in spoken),
            *([id, *said(what), words] for id, what, words in found),
        ],
        "gone": list(gone),
    }
    return {name: rows for name, rows in parts.items() if rows}


def pack(value: object) -> bytes:
    """Return *value* as compressed JSON."""
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate, as in the bytes of a file's name
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return zlib.compress(text, LEVEL)
