"""What callers give as a value: one row for each kind that a notebook is full of."""

from __future__ import annotations

import enum
import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.values import plain, seconds, whole


class Colour(str, enum.Enum):  # noqa: UP042 - the kind whose `str()` is not its text
    """An enum of texts as they were made before `StrEnum`."""

    RED = "red"


class Level(enum.IntEnum):
    """An enum of numbers."""

    HIGH = 3


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("text", "text"),
        (np.str_("text"), "text"),
        (Colour.RED, "red"),
        (Path("a", "b"), "a/b"),
        (7, 7),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (Level.HIGH, 3),
        (0.5, 0.5),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (Fraction(1, 2), 0.5),
    ],
    ids=repr,
)
def test_what_means_a_text_or_a_number_becomes_pythons_own(given, meant):
    """Only those can be written down."""
    found = plain(given)

    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    "given", [None, True, np.True_, b"x", [1], np.array([1]), Decimal("0.5")], ids=repr
)
def test_what_may_mean_several_things_stays_as_it_is(given):
    """Whoever checks it names it in the refusal."""
    assert plain(given) is given


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (90, 90.0),
        ("10m", 600.0),
        (np.str_("1h"), 3600.0),
        (np.float64(1.5), 1.5),
        (timedelta(minutes=5), 300.0),
        (pd.Timedelta("5s"), 5.0),
        (np.timedelta64(5, "s"), 5.0),
        (np.timedelta64(5, "s").astype("m8[ns]"), 5.0),
        (np.timedelta64(2, "m"), 120.0),
        (math.inf, math.inf),
        (-1, -1.0),
    ],
    ids=repr,
)
def test_a_time_is_seconds_a_text_or_a_span(given, meant):
    """The same wherever a time is asked for."""
    assert seconds("timeout", given) == meant


@pytest.mark.parametrize("given", [None, [], True, math.nan, b"1", 10**400], ids=repr)
def test_no_time_is_refused_by_name(given):
    """The line says which, what and what now."""
    with pytest.raises(InvalidInputError) as refused:
        seconds("timeout", given)

    assert str(refused.value) == f"timeout is {given!r}: give seconds, or a text like '10m'"


@pytest.mark.parametrize("given", [1, 1_000, np.int64(2)], ids=repr)
def test_whole_number_within_its_bounds_is_taken(given):
    """The bounds are meant too."""
    assert whole("count", given, 1_000, low=1) == given


@pytest.mark.parametrize("given", [0, 1_001, 2.5, 2.0, "2", True, None, math.nan], ids=repr)
def test_what_is_no_whole_number_within_the_bounds_is_refused(given):
    """Two and a half workers would be written down, and nobody could read the list again."""
    with pytest.raises(InvalidInputError) as refused:
        whole("count", given, 1_000, low=1)

    expected = f"count is {given!r}: it must be a whole number from 1 to 1,000"
    assert str(refused.value) == expected
