"""Words, symbols and colours of a job, and text made safe to show.

Every view says the same thing in the same words because all of them take the words from here. The
rule here: whatever a person or a program has written is hostile until `clean` has seen it. A job's
output can hold sequences that retitle the terminal, fill the clipboard or turn text around; after
`clean` it is text and nothing else, and what would have been invisible can be seen.
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from queuectl_magics.job import PROCESSING, JobRecord, State
from queuectl_magics.lifecycle import CANCELLED_RUNNING
from queuectl_magics.validation import JOINER


class Look(NamedTuple):
    """How a state looks: symbol, class, colours on light and on dark, and its SGR code."""

    symbol: str
    css: str
    light: str
    dark: str
    sgr: str


# Each colour has a contrast of at least 4.5 on the page and on a tint of itself (10 %, dark 14 %).
LOOKS: dict[State, Look] = {
    State.PENDING: Look("○", "qm-pending", "#57606a", "#a3adb8", "2"),
    State.PROCESSING: Look("▶", "qm-processing", "#0860c7", "#6cb0ff", "36"),
    State.COMPLETED: Look("✓", "qm-completed", "#1a7432", "#56d364", "32"),
    State.FAILED: Look("↻", "qm-failed", "#8a5a00", "#e3b341", "33"),
    State.DEAD: Look("✗", "qm-dead", "#c21f2b", "#ff8a82", "31"),
    State.CANCELLED: Look("⊘", "qm-cancelled", "#6e5494", "#bda7de", "35"),
}

COMMAND_CELLS = 40
TAIL_CHARS_MAX = 65_536
CHARS_PER_CELL_MAX = 8
DUE_NOW = "due now"
NO_WORKER = "no worker is running"
NO_WORKERS = f"{NO_WORKER.capitalize()}."


# --- how long, how often, how much ---------------------------------------------------------------

DECIMAL_BELOW_S = 9.95
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86_400
KILO = 1000


def elapsed_s(record: JobRecord, now: datetime) -> float | None:
    """Return for how many seconds the latest attempt ran, or has been running; None before it.

    Example:
        >>> from datetime import timedelta
        >>> at = datetime(2026, 11, 24, 10, 51, tzinfo=UTC)
        >>> job = JobRecord(id="1", command="true", state=State.PROCESSING, attempts=0,
        ...     max_retries=3, created_at=at, updated_at=at, attempt=1, started_at=at)
        >>> elapsed_s(job, at + timedelta(seconds=12))
        12.0

    """
    start = record.started_at
    if start is None:
        return None
    end = now if record.state is PROCESSING else record.finished_at
    if end is None:
        return None
    seconds = (end - start).total_seconds()
    return seconds if seconds > 0 else 0.0  # a wall clock may go back


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units, as a running clock would show it.

    Example:
        >>> [duration(s) for s in (0.41, 12.9, 192, 7500, 273600)]
        ['0.4 s', '12 s', '3 min 12 s', '2 h 05 min', '3 d 4 h']

    """
    if seconds < DECIMAL_BELOW_S:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def _coarse(seconds: float, *, up: bool) -> str:
    """Return a length of time in one unit, rounded *up* or down."""
    unit_s, unit = 1, "s"
    for larger_s, name in ((MINUTE_S, "min"), (HOUR_S, "h"), (DAY_S, "d")):
        if seconds >= 2 * larger_s:
            unit_s, unit = larger_s, name
    units = seconds / unit_s
    return f"{math.ceil(units) if up else int(units)} {unit}"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago *moment* was, in one unit: 'just now', '12 s ago', '3 min ago'."""
    seconds = (now - moment).total_seconds()
    return f"{_coarse(seconds, up=False)} ago" if seconds >= 1 else "just now"


def due(record: JobRecord, now: datetime) -> str:
    """Return 'due in 9 min', rounded up so that it never promises too much, or 'due now'."""
    if record.due_at is None or record.due_at <= now:
        return DUE_NOW
    return f"due in {_coarse((record.due_at - now).total_seconds(), up=True)}"


def stamp(moment: datetime) -> str:
    """Return *moment* to the second, in UTC: '2026-11-24T10:51:23Z'."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def counted(number: int, noun: str) -> str:
    """Return '1 job', '2 jobs', '12,000 jobs'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def memory(size_bytes: int) -> str:
    """Return a size in decimal units: '512 B', '3.1 MB', '182 MB'."""
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < KILO:
            break
        size, unit = size / KILO, larger
    return f"{size:.1f} {unit}" if unit != "B" and size < KILO / 100 else f"{size:.0f} {unit}"


# --- what it is called, where it stands ----------------------------------------------------------


def attempts_allowed(record: JobRecord) -> int:
    """Return how many attempts may fail before the job is dead: 0 and 1 both mean one."""
    return max(1, record.max_retries)


def attempt_number(record: JobRecord) -> int:
    """Return which attempt a person would call the latest, the 2 of '2 of 3'; 0 before any."""
    if record.attempt == 0:
        return 0
    ran_well = record.state in (State.PROCESSING, State.COMPLETED)
    called_off = record.state is State.CANCELLED and record.reason == CANCELLED_RUNNING
    return max(1, record.attempts + int(ran_well or called_off))


def attempt_of(record: JobRecord) -> str:
    """Return 'attempt 2 of 3' for the attempt that runs now or comes next.

    It counts against the allowance: an interrupt, which cost nothing, does not make it larger.
    """
    return f"attempt {record.attempts + 1} of {attempts_allowed(record)}"


def heading(record: JobRecord, width: int = COMMAND_CELLS) -> str:
    """Return the job's name, or its command if it has none, cleaned, in at most *width* cells."""
    return shorten(record.name or record.command, width)


def standing(record: JobRecord, now: datetime) -> str:
    """Return the state as a word, with the time that goes with it.

    Example:
        'processing 3 min 12 s', 'completed in 0.4 s', 'failed after 12 s', 'pending'

    """
    seconds, link = elapsed_s(record, now), _TIMED.get(record.state)
    if seconds is None or link is None:
        return record.state.value
    return f"{record.state}{link}{duration(seconds)}"


_TIMED = {State.PROCESSING: " ", State.COMPLETED: " in ", State.FAILED: " after "}


# --- text that is safe to show -------------------------------------------------------------------

# No alternative can begin inside another: every class stops at the next control character, and
# the repetitions are possessive, so that ten megabytes of hostile text take one pass. `re`
# compiles each of these at its first use: most texts need none of them.
_CONTROL = (
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # CSI: colours, cursor, erase
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"  # OSC, DCS, SOS, PM, APC: title, clipboard, links
    r"[^\x00-\x07\x0e-\x1f\x80-\x9f]*+(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*+[0-~]?"  # any other escape, whole or torn
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # what is left of C0 and C1, but for \t \n \r
)
# SGR that sets colour or weight and nothing else: what conceals or blinks goes.
_SGR = (
    r"(?:[34]8;5;\d{1,3}|[34]8;2;\d{1,3};\d{1,3};\d{1,3}|[34]8:[25][:\d]{1,20}"
    r"|0?[0-479]|2[1-79]|[34][0-79]|9[0-7]|10[0-7])?"
)
_COLOUR = rf"\x1b\[{_SGR}(?:;{_SGR})*m"
_UNSEEN = (
    # Unicode's format characters (Cf), line and paragraph separators, and surrogates ...
    "[\\xad\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u180e\\u200b-\\u200f"
    "\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\U000110bd\\U000110cd"
    "\\U00013430-\\U0001343f\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e007f\\ud800-\\udfff"
    # ... and letters and marks that have no shape
    "\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u3164\\uffa0\\U000e0100-\\U000e01ef]+"
)
RESET = "\x1b[0m"
SURROGATE_FIRST, SURROGATE_LAST, PLANE_END = 0xD800, 0xDFFF, 0x10000


def _keep_colour(found: re.Match[str]) -> str:
    return found[0] if re.fullmatch(_COLOUR, found[0]) else ""


@cache
def _escape(character: str) -> str:
    code = ord(character)
    if SURROGATE_FIRST <= code <= SURROGATE_LAST:
        return "\ufffd"
    return f"\\u{code:04x}" if code < PLANE_END else f"\\U{code:08x}"


def _make_seen(found: re.Match[str]) -> str:
    return found["kept"] or "".join(map(_escape, found[0]))


def clean(text: str, *, keep_colour: bool = False) -> str:
    r"""Return *text* with nothing in it that acts on a terminal or hides from a reader.

    Control sequences and control characters go, but for newline and tab; with *keep_colour*, SGR
    sequences that set a colour or a weight stay, and the text ends with a reset. Of a line that
    was overwritten with `\r` the last state stays. Bidirectional overrides, zero-width and other
    format characters become escapes that can be read; lone surrogates become U+FFFD.

    Example:
        >>> clean("\x1b]0;gotcha\x07 10%\r100%\x1b[31m done\u202e")
        '100% done\\u202e'

    """
    if text.isascii():
        if text.isprintable():
            return text
    else:
        text = re.sub(rf"(?P<kept>{JOINER})|{_UNSEEN}", _make_seen, text)
    text = re.sub(_CONTROL, _keep_colour if keep_colour else "", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return text + RESET if "\x1b" in text and not text.endswith(RESET) else text


def one_line(text: str) -> str:
    """Return *text*, cleaned, on one line: newlines become ⏎ and tabs spaces."""
    return clean(text).strip().replace("\n", "⏎").replace("\t", " ")


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cells(text: str) -> int:
    """Return how many cells of a terminal *text* takes.

    Example:
        >>> cells("naïve 日本")
        10

    """
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def shorten(text: str, width: int) -> str:
    r"""Return *text*, cleaned, on one line of at most *width* cells; … marks what was cut off.

    Example:
        >>> shorten("for i in 1 2 3\ndo echo $i; done", 20)
        'for i in 1 2 3⏎do e…'

    """
    if width <= 0:
        return ""
    if len(text) <= width and text.isascii() and text.isprintable():
        return text.strip()  # nearly all, so a table of 100,000 is quick
    text = one_line(text)
    if text.isascii():
        return text if len(text) <= width else text[: width - 1] + "…"
    taken = cut = 0
    for index, character in enumerate(text):
        if taken < width:
            cut = index
        taken += _cells_of(character)
        if taken > width or index > CHARS_PER_CELL_MAX * width:
            return text[:cut] + "…"
    return text


def last_lines(tail: str | None, count: int = 1) -> list[str]:
    """Return the last *count* lines of a job's output that are not blank, cleaned, oldest first.

    At most the last 65,536 characters are looked at.
    """
    lines = clean((tail or "")[-TAIL_CHARS_MAX:]).split("\n")
    return [line.rstrip() for line in lines if line.strip()][-count:]
