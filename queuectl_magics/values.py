"""What callers give as a value, and the plain text or number that is meant by it.

Notebooks are full of values that are not of Python's own kinds: NumPy's and pandas' scalars, time
spans, paths, enums. They mean a text or a number, and only those can be written down. The rule
here: what can mean one thing only is taken as that; what could mean several (a truth value as a
number, two and a half workers) is refused, with what is allowed.
"""

from __future__ import annotations

import contextlib
import math
import os
from datetime import timedelta

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.settings import parse_duration_s

Seconds = float | str | timedelta
"""How a time is given: as seconds, as a text like `"10m"`, or as a `timedelta`."""


def plain(value: object) -> object:
    """Return the `str`, `int` or `float` that *value* is another kind of; anything else as it is.

    Example:
        >>> from pathlib import Path
        >>> plain(Path("data", "a.csv"))
        'data/a.csv'

    """
    if isinstance(value, bool) or type(value) in (str, int, float):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    from numbers import Integral, Real

    if is_span(value):  # NumPy calls its own a whole number
        return value
    if isinstance(value, Integral):
        return int(value)
    try:
        return float(value) if isinstance(value, Real) else value
    except OverflowError:
        return value


def is_span(value: object) -> bool:
    """Say whether *value* is a span of time: Python's, pandas' or NumPy's, none loaded for it."""
    return isinstance(value, timedelta) or type(value).__name__ == "timedelta64"


def is_frame(value: object) -> bool:
    """Say whether *value* is a pandas `DataFrame`, without loading pandas for it."""
    return any(kind.__name__ == "DataFrame" for kind in type(value).__mro__)


def seconds(what: str, value: object) -> float:
    """Return how many seconds *value*, some `Seconds`, is.

    Raises:
        InvalidInputError: it is no time; *what* says which one.

    Example:
        >>> seconds("timeout", "1h30m")
        5400.0

    """
    if is_span(value) and not isinstance(value, timedelta):
        value = value.astype("timedelta64[us]").item()  # type: ignore[attr-defined]
    given = value.total_seconds() if isinstance(value, timedelta) else plain(value)
    if isinstance(given, str):
        return parse_duration_s(given)
    with contextlib.suppress(OverflowError):
        if isinstance(given, int | float) and not isinstance(given, bool):
            number = float(given)
            if not math.isnan(number):
                return number
    msg = f"{what} is {value!r}: give seconds, or a text like '10m'"
    raise InvalidInputError(msg)


def whole(what: str, value: object, high: int, low: int = 0) -> int:
    """Return *value* if it is a whole number from *low* to *high*.

    Raises:
        InvalidInputError: it is not; *what* says which one.

    Example:
        >>> whole("count", 2, 1_000, low=1)
        2

    """
    given = plain(value)
    if isinstance(given, int) and not isinstance(given, bool) and low <= given <= high:
        return given
    msg = f"{what} is {value!r}: it must be a whole number from {low:,} to {high:,}"
    raise InvalidInputError(msg)
