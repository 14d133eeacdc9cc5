"""The arithmetic of waiting: a few cases by hand, and what holds for every number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl_magics.retry import backoff_s

attempts_any = st.integers(1, 100) | st.integers(1, 10**400)
finite = st.floats(allow_nan=False, allow_infinity=False)
growing = st.floats(min_value=1.0, allow_nan=False, allow_infinity=False)
caps = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
fractions = st.floats(min_value=0.0, max_value=1.0)


@pytest.mark.parametrize(
    ("attempts", "wait_s"),
    [(1, 2), (2, 4), (3, 8), (4, 16), (11, 2048), (12, 3600), (5000, 3600), (10**400, 3600)],
)
def test_wait_doubles_until_it_is_an_hour(attempts, wait_s):
    """With the defaults: 2 s, 4 s, 8 s … and never more than an hour."""
    assert wait_s == backoff_s(attempts)


@pytest.mark.parametrize(
    ("attempts", "base", "cap_s", "wait_s"),
    [
        (3, 10, 3600, 1000),
        (3, 1, 3600, 1),
        (3, 0, 3600, 0),
        (3, 1.5, 3600, 3.375),
        (3, 10, 0, 0),
        (3, 10, 0.5, 0.5),
        (3, -2, 3600, 0),
        (3, 10**400, 3600, 3600),
    ],
)
def test_base_and_cap_are_the_job_s_own(attempts, base, cap_s, wait_s):
    """The wait is `base ** attempts`, at most the cap, at least nothing."""
    assert wait_s == backoff_s(attempts, base=base, cap_s=cap_s)


@pytest.mark.parametrize(
    ("jitter", "dice", "wait_s"),
    [(0, 0, 8), (0, 1, 8), (0.25, 0, 8), (0.25, 0.5, 7), (0.25, 1, 6), (1, 1, 0)],
)
def test_jitter_takes_off_at_most_its_fraction(jitter, dice, wait_s):
    """The dice say how much of the fraction is taken off; without jitter they say nothing."""
    assert wait_s == backoff_s(3, jitter=jitter, dice=dice)


@given(attempts_any, finite, caps, fractions, fractions)
def test_wait_is_finite_and_between_nothing_and_the_cap(attempts, base, cap_s, jitter, dice):
    """Whatever base, cap and number of failures, however huge."""
    wait_s = backoff_s(attempts, base=base, cap_s=cap_s, jitter=jitter, dice=dice)

    assert math.isfinite(wait_s)
    assert 0 <= wait_s <= cap_s


@given(attempts_any, attempts_any, growing, caps)
def test_wait_never_shrinks_from_one_failure_to_the_next(one, other, base, cap_s):
    """Without jitter, and with a base that grows, more failures never mean a shorter wait."""
    fewer, more = sorted((one, other))

    assert backoff_s(fewer, base=base, cap_s=cap_s) <= backoff_s(more, base=base, cap_s=cap_s)


@given(attempts_any, growing, caps, fractions, fractions)
def test_jitter_only_ever_shortens_and_keeps_its_share(attempts, base, cap_s, jitter, dice):
    """The wait lies between what the jitter leaves and the wait without it."""
    full_s = backoff_s(attempts, base=base, cap_s=cap_s)
    wait_s = backoff_s(attempts, base=base, cap_s=cap_s, jitter=jitter, dice=dice)

    assert full_s * (1 - jitter) <= wait_s <= full_s


@given(attempts_any, finite, caps, fractions)
def test_dice_mean_nothing_without_jitter(attempts, base, cap_s, dice):
    """Jobs that did not ask for noise get none."""
    plain_s = backoff_s(attempts, base=base, cap_s=cap_s)

    assert plain_s == backoff_s(attempts, base=base, cap_s=cap_s, dice=dice)
