r"""How far a program is, read from what it prints.

Most programs that take long say so already: tqdm, pip, wget, curl, ffmpeg, ninja, pytest, a loop
that prints `epoch 3/10`. Nobody should have to change a command to see a bar, and whoever wants to
can print `::progress 0.42 message`. The rules here: a number counts only where a program puts its
progress (at the start of a line, in brackets, before a bar, or anywhere in a line that was
overwritten with `\r`), since "accuracy 93 %" is none; what is not understood is None, never a
guess; and only the last line that says something counts, so that the bar follows the program.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LINES_MAX = 5
LINE_CHARS_MAX = 1000
PERCENT_MAX = 100

_SAID = re.compile(
    r"^\s*::progress\s+(?P<value>\d{1,3}(?:\.\d{1,9})?|\.\d{1,9})(?P<percent>%?)\s*(?P<message>.*)$"
)
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_PERCENT = re.compile(
    r"(?P<bar>\d{1,3}(?:\.\d{1,3})?)\s?%\s?(?:\||\[[=>. #-]*\])"  # tqdm, wget
    r"|^\s*\[?\s*(?P<first>\d{1,3}(?:\.\d{1,3})?)\s?%"  # make, ninja, rsync
    r"|\[\s*(?P<bracket>\d{1,3}(?:\.\d{1,3})?)\s?%\s*\]\s*$"  # pytest, apt
    r"|\.{5}\s+(?P<dots>\d{1,3})%"  # wget, into a file
    r"|^#*\s+(?P<hashes>\d{1,3}\.\d)%$"  # curl -#
)
_ANY_PERCENT = re.compile(r"(?<![\d.])(?P<any>\d{1,3}(?:\.\d{1,3})?)\s?%")
_CURL = re.compile(r"^\s*(?P<curl>\d{1,3})\s+\d[\d.]*[kMGTP]?\s+\d{1,3}\s+\d[\d.]*[kMGTP]?\s")
_COUNT = re.compile(
    r"^\s*\[\s*(?P<done>\d{1,9})\s?/\s?(?P<all>\d{1,9})\s*\]"  # [12/345]
    r"|\b(?:epoch|step|batch|iter|iteration|round|chunk|fold|file|part)s?:?\s*[\[(]?"
    r"(?P<done2>\d{1,9})\s?(?:/|of)\s?(?P<all2>\d{1,9})\b"
    r"|\b(?P<done3>\d{1,9}(?:\.\d{1,3})?)\s?/\s?"
    r"(?P<all3>\d{1,9}(?:\.\d{1,3})?)\s[kMG]i?B\b",  # pip
    re.IGNORECASE,
)
_CLOCK = r"(\d{1,4}):([0-5]\d):([0-5]\d(?:\.\d{1,3})?)"
_FFMPEG_WHOLE = re.compile(rf"\bDuration: {_CLOCK}")
_FFMPEG_DONE = re.compile(rf"\btime={_CLOCK}")


class Said(NamedTuple):
    """What a program has said last: a line of text and, perhaps, how far it is (0 to 1)."""

    line: str
    progress: float | None


def read(tail: str, head: str = "") -> Said:
    r"""Return the last line of *tail* that is not blank, and how far the program is by it.

    Args:
        tail: the end of the output as it is, with its `\r` and colours; the line returned is not
            cleaned either.
        head: the beginning of the output; ffmpeg tells there, and only there, how long it is.

    Example:
        >>> read("one\ntwo 45%|████▌     | 45/100 [00:12<00:14]\n").progress
        0.45
        >>> read("::progress 0.42 reading the third file")
        Said(line='42% reading the third file', progress=0.42)
        >>> read("epoch 3/10 loss=0.2").progress, read("accuracy 93 %").progress
        (0.3, None)

    """
    lines = [(line, _state(line)) for line in tail[-LINES_MAX * LINE_CHARS_MAX :].split("\n")]
    lines = [(line, state) for line, state in lines if _ESCAPE.sub("", state).strip()]
    last, shown = "", None
    for line, state in reversed(lines[-LINES_MAX:]):
        said = _SAID.match(state)
        done = _announced(said) if said else _found(line, state, head)
        if shown is None:
            shown = state if done is None or said is None else f"{done:.0%} {said['message']}"
            last = shown.strip()
        if done is not None:
            return Said(last, done)
    return Said(last, None)


def _state(line: str) -> str:
    r"""Return what is left of a line that was overwritten with `\r`."""
    return line.rstrip("\r").rpartition("\r")[2][:LINE_CHARS_MAX]


def _announced(said: re.Match[str]) -> float | None:
    value = float(said["value"])
    value = value / PERCENT_MAX if said["percent"] else value
    return value if value <= 1 else None


def _found(line: str, state: str, head: str) -> float | None:
    plain = _ESCAPE.sub("", state)
    found = _PERCENT.search(plain)
    if found is None and "\r" in line:
        found = _ANY_PERCENT.search(plain) or _CURL.match(plain)
    if found is not None:
        percent = next(float(group) for group in found.groups() if group)
        return percent / PERCENT_MAX if percent <= PERCENT_MAX else None
    counted = _COUNT.search(plain)
    if counted is not None:
        done, whole = (float(group) for group in counted.groups() if group)
        return done / whole if done <= whole > 0 else None
    at, all_ = _FFMPEG_DONE.search(plain), _FFMPEG_WHOLE.search(head)
    if at and all_ and (whole := _seconds(all_)) > 0:
        return min(1.0, _seconds(at) / whole)
    return None


def _seconds(clock: re.Match[str]) -> float:
    hours, minutes, seconds = clock.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
