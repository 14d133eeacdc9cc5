"""Jobs as plain text, for a terminal and for logs.

These lines are read by people and cut apart by `grep` and `awk`: a column never moves, a state is
always its word, and colour comes on top where it was asked for. The rule here: a function returns
text without a final newline, and every text that is not ours has passed through `words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from queuectl_magics.job import Attempt, JobRecord, State
from queuectl_magics.views.reason import brief, cause
from queuectl_magics.views.status import Status
from queuectl_magics.views.words import (
    LOOKS,
    RESET,
    ago,
    attempts_allowed,
    cells,
    clean,
    counted,
    due,
    duration,
    heading,
    memory,
    one_line,
    shorten,
    stamp,
    standing,
)

WIDTH = 80
COMMAND_WIDTH_MIN = 16
TAIL_CELLS = 60
SPOKEN = (
    State.COMPLETED,
    State.FAILED,
    State.DEAD,
    State.CANCELLED,
    State.PENDING,
    State.PROCESSING,
)
GAP = "  "


# --- one line ------------------------------------------------------------------------------------


def enqueued(record: JobRecord) -> str:
    """Return the line that confirms a new job.

    Example:
        'Job enqueued: id=job1, command=echo Hello from job1'

    """
    return f"Job enqueued: id={one_line(record.id)}, command={one_line(record.command)}"


def running(record: JobRecord) -> str:
    """Return the line with which a worker starts an attempt: 'Running job job1: echo Hello'."""
    return f"Running job {one_line(record.id)}: {one_line(record.command)}"


def ended(record: JobRecord) -> str:
    """Return the line with which a worker tells how an attempt ended; moments are UTC.

    Example:
        'Job job1 failed: exit 3 (attempt 1 of 3), next attempt due in 2 s (10:51:25Z)'

    """
    job = f"Job {one_line(record.id)}"
    why = one_line(cause(record))
    failed = counted(record.attempts, "failed attempt")
    match record.state:
        case State.COMPLETED:
            return f"{job} completed successfully."
        case State.FAILED:
            of = f"attempt {record.attempts} of {attempts_allowed(record)}"
            return f"{job} failed: {why} ({of}){_next(record)}"
        case State.DEAD:
            after = f" after {failed}" if record.attempts else ""
            return f"{job} is dead{after}: {why}" if why else f"{job} is dead{after}."
        case State.CANCELLED:
            return f"{job} cancelled."
        case State.PENDING | State.PROCESSING:
            return f"{job} is {record.state} again: {why}" if why else f"{job} is {record.state}."


def _next(record: JobRecord) -> str:
    if record.due_at is None:
        return ""
    end = record.finished_at or record.updated_at
    at = stamp(record.due_at)
    if record.due_at.date() == end.date():
        at = at.partition("T")[2]
    return f", next attempt {due(record, end)} ({at})"


def line(
    record: JobRecord,
    now: datetime,
    tail: str | None = None,
    *,
    why: str | None = None,
    width: int | None = None,
    plain: bool = False,
    colour: bool = False,
) -> str:
    """Return the one line of a job: who, where it stands, why, and what it printed last.

    Args:
        record: the job.
        now: the moment for which it is asked.
        tail: the end of its output so far, as it is; its last line is shown.
        why: why it stands there, if more is known than the job itself can tell.
        width: how many cells the line may take; None for no limit.
        plain: say nothing that differs from run to run (no id, time, state or output), so that a
            saved notebook can be compared with a new run.
        colour: paint the symbol.

    Example:
        '▶ 12 train · processing 3 min 12 s · attempt 1 of 3 · epoch 3/10'
        plain: 'job · train'

    """
    if plain:
        return f"job · {heading(record)}"
    symbol = LOOKS[record.state].symbol
    parts = [
        f"{symbol} {one_line(record.id)} {heading(record)}",
        standing(record, now),
        shorten(brief(record, now) if why is None else why, TAIL_CELLS),
        shorten(_last_said(tail), TAIL_CELLS) if tail else "",
    ]
    text = " · ".join(part for part in parts if part)
    if width is not None:
        text = shorten(text, width)
    return _paint(text[:1], record.state) + text[1:] if colour else text


def _last_said(tail: str) -> str:
    from queuectl_magics.views import progress  # its patterns take a millisecond to be compiled

    return progress.read(tail).line


def while_away(records: Iterable[JobRecord]) -> str:
    """Return the line with which a kernel that comes back says what its jobs did meanwhile.

    Example:
        'While you were away: 3 completed, 1 dead, 2 still processing (adopted).'

    """
    told = {State.PROCESSING: "still processing (adopted)", State.PENDING: "to run again"}
    counts = Counter(record.state for record in records)
    parts = [f"{counts[state]} {told.get(state, state)}" for state in SPOKEN if counts[state]]
    return f"While you were away: {', '.join(parts)}." if parts else ""


# --- the queue -----------------------------------------------------------------------------------


def status(status: Status, *, width: int = WIDTH, colour: bool = False) -> str:
    """Return the total, a table of the jobs, and a summary with a line a state.

    Args:
        status: the picture of the queue.
        width: how many cells a line may take; commands are cut to fit.
        colour: paint the states.

    Example:
        Total jobs: 1

        ID    STATE      ATTEMPTS  UPDATED_AT            COMMAND
        job1  completed         0  2026-11-24T10:51:23Z  echo Hello from job1

        Summary:
          pending: 0
          ...

    """
    summary = [f"  {state}: {status.counts.get(state, 0)}" for state in State]
    table = _job_table(status.jobs, width, colour=colour)
    return "\n".join([f"Total jobs: {status.total}", "", *table, "", "Summary:", *summary])


def jobs(
    records: Sequence[JobRecord],
    *,
    width: int = WIDTH,
    plain: bool = False,
    colour: bool = False,
) -> str:
    """Return a table of *records*, at most *width* cells wide, or 'No jobs.'.

    *plain* leaves out the times.
    """
    if not records:
        return "No jobs."
    return "\n".join(_job_table(records, width, plain=plain, colour=colour))


def _job_table(
    records: Sequence[JobRecord], width: int, *, plain: bool = False, colour: bool
) -> list[str]:
    states = [record.state for record in records]
    rows = [
        (
            one_line(record.id),
            record.state.value,
            str(record.attempts),
            stamp(record.updated_at),
            record.command,
        )
        for record in records
    ]
    header = ("ID", "STATE", "ATTEMPTS", "UPDATED_AT", "COMMAND")
    used = sum(_widths([header, *rows])[:-1]) + len(GAP) * (len(header) - 1)
    left = max(COMMAND_WIDTH_MIN, width - used)
    columns = _aligned(header, [(*row[:-1], shorten(row[-1], left)) for row in rows], right={2})
    if colour:
        painted = (_paint(*pair) for pair in zip(columns[1][1:], states, strict=True))
        columns[1] = [columns[1][0], *painted]
    if plain:
        del columns[3]
    return _lines(columns)


def _widths(rows: Iterable[Sequence[str]]) -> list[int]:
    return [max(map(cells, column)) for column in zip(*rows, strict=True)]


def _aligned(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int]
) -> list[list[str]]:
    """Return the columns of a table, padded; those numbered in *right* hold numbers."""
    columns = []
    for index, column in enumerate(zip(header, *rows, strict=True)):
        width = max(map(cells, column))
        pads = [" " * (width - cells(cell)) for cell in column]
        pairs = (
            zip(pads, column, strict=True) if index in right else zip(column, pads, strict=True)
        )
        columns.append([first + second for first, second in pairs])
    return columns


def _lines(columns: Sequence[Sequence[str]]) -> list[str]:
    return [GAP.join(row).rstrip() for row in zip(*columns, strict=True)]


def _paint(text: str, state: State) -> str:
    return f"\x1b[{LOOKS[state].sgr}m{text}{RESET}"


# --- one job -------------------------------------------------------------------------------------


def facts(record: JobRecord, status: Status) -> list[tuple[str, str]]:
    """Return what there is to know about a job as pairs of key and text, cleaned.

    Of environment variables the names, never the values. What was not set is left out.
    """
    now = status.now
    why = one_line(status.reason(record))
    state = f"{LOOKS[record.state].symbol} {record.state}"
    failed = f"{record.attempts} of {attempts_allowed(record)} failed"
    pairs = [
        ("id", one_line(record.id)),
        ("name", one_line(record.name or "")),
        ("state", f"{state} ({why})" if why and why != record.state else state),
        ("command", clean(record.command).strip("\n")),
        ("cwd", one_line(record.cwd or "")),
        ("shell", one_line(record.shell or "")),
        ("env", ", ".join(map(one_line, record.env_names))),
        ("tags", ", ".join(map(one_line, record.tags))),
        ("priority", str(record.priority)),
        ("attempts", failed),
        ("interrupts", str(record.interrupts) if record.interrupts else ""),
        ("backoff", _backoff(record)),
        ("created_at", f"{stamp(record.created_at)} ({ago(record.created_at, now)})"),
        ("updated_at", f"{stamp(record.updated_at)} ({ago(record.updated_at, now)})"),
        ("due_at", f"{stamp(record.due_at)} ({due(record, now)})" if record.due_at else ""),
    ]
    return [(key, text) for key, text in pairs if text]


def _backoff(record: JobRecord) -> str:
    cap = duration(record.backoff_cap_s)
    jitter = f", jitter {record.backoff_jitter:g}" if record.backoff_jitter else ""
    return f"{record.backoff_base:g} ** attempts s, at most {cap}{jitter}"


ATTEMPT_HEADER = ("NUMBER", "STARTED", "ELAPSED", "EXIT", "REASON", "WORKER", "CPU", "MEMORY")
ATTEMPT_NUMBERS = {0, 2, 3, 6, 7}


def attempt_rows(record: JobRecord, now: datetime) -> list[tuple[str, ...]]:
    """Return a row of texts an attempt, oldest first, to go under `ATTEMPT_HEADER`."""
    attempts = record.all_attempts()
    running = record.attempt if record.state is State.PROCESSING else None
    return [_attempt_row(a, now if a.number == running else None) for a in attempts]


def _attempt_row(attempt: Attempt, now: datetime | None) -> tuple[str, ...]:
    end = now or attempt.finished_at
    seconds = (end - attempt.started_at).total_seconds() if end and attempt.started_at else None
    reason = one_line(attempt.reason or ("processing" if now else ""))
    return (
        str(attempt.number),
        stamp(attempt.started_at) if attempt.started_at else "-",
        "-" if seconds is None else duration(seconds),
        "-" if attempt.exit_code is None else str(attempt.exit_code),
        shorten(reason, COMMAND_WIDTH_MIN * 2) or "-",
        one_line(attempt.worker or "-"),
        "-" if attempt.cpu_s is None else duration(attempt.cpu_s),
        "-" if attempt.memory_bytes_max is None else memory(attempt.memory_bytes_max),
    )


def show(record: JobRecord, status: Status, *, colour: bool = False) -> str:
    """Return everything there is to know about a job: keys and values, then its attempts.

    Example:
        id:          job1
        state:       ↻ failed (exit 3; attempt 2 of 3 due in 4 s)
        ...

    """
    pairs = facts(record, status)
    width = max(len(key) for key, _ in pairs) + len(GAP) + 1
    lines = []
    for key, text in pairs:
        shown = text
        if colour and key == "state":
            word = text.split(" (", 1)[0]
            shown = _paint(word, record.state) + text.removeprefix(word)
        lines.append(f"{key}:".ljust(width) + shown.replace("\n", "\n" + " " * width))
    rows = attempt_rows(record, status.now)
    if rows:
        lines += ["", *_lines(_aligned(ATTEMPT_HEADER, rows, right=ATTEMPT_NUMBERS))]
    return "\n".join(lines)
