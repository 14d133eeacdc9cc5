"""The frame of a status, as a notebook shows it."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pandas as pd

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.frame import status_frame
from queuectl_magics.views.status import Status

AT = datetime(2026, 11, 24, 10, 51, 23, 456789, tzinfo=UTC)


def frame(*states: State) -> pd.DataFrame:
    """Return the frame of a queue with a job in each of these states, and a thousand more."""
    jobs = tuple(
        JobRecord(
            id=str(n),
            command="echo '<b>' " + "x" * 90,
            state=state,
            attempts=0,
            max_retries=3,
            created_at=AT,
            updated_at=AT,
            attempt=int(state is not State.PENDING),
            started_at=None if state is State.PENDING else AT,
            finished_at=AT + timedelta(seconds=1) if state is State.COMPLETED else None,
        )
        for n, state in enumerate(states, 1)
    )
    counts = dict.fromkeys(State, 1000)
    return status_frame(Status(jobs=jobs, counts=counts, now=AT, workers=1, slots=2, busy=1))


def test_counts_stand_above_the_table():
    """What one asks first: how many, in which state, who works."""
    html = frame(State.PENDING, State.COMPLETED)._repr_html_()

    assert html.index("6,000 jobs") < html.index("✓ completed <b>1,000</b>") < html.index("<table")
    assert "1 of 2 slots busy" in html


def test_moments_are_short_what_is_missing_is_blank_and_texts_are_whole():
    """No microseconds, no NaT and no <NA>; a command is not cut where it begins to differ."""
    html = frame(State.PENDING, State.COMPLETED)._repr_html_()

    assert "2026-11-24 10:51:23<" in html
    assert "<td>1.0 s</td>" in html
    assert not any(word in html for word in ("456789", "NaT", "NaN", "&lt;NA&gt;", "0 days"))
    assert "x" * 90 in html
    assert "<b>' x" not in html


def test_it_is_a_frame_in_all_it_does():
    """What is taken from it, or made of it, is an ordinary one with the same values."""
    found = frame(State.PENDING, State.COMPLETED)

    assert isinstance(found, pd.DataFrame)
    assert found.elapsed.sum() == pd.Timedelta("1s")
    assert type(found[found.state == "pending"]) is pd.DataFrame
    assert type(found.drop(columns="name")) is pd.DataFrame
    found["mine"] = 1
    assert "mine" in found._repr_html_()
    again = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(found))
    assert "<table" in again._repr_html_()


def test_long_frame_is_cut_like_any_other():
    """By pandas' own limit."""
    assert frame(*[State.PENDING] * 500)._repr_html_().count("<tr") < 80


def test_pandas_own_options_are_heard():
    """Fewer rows, whole texts, or no HTML at all."""
    many = frame(*[State.COMPLETED] * 500)

    with pd.option_context("display.min_rows", 4, "display.max_colwidth", None):
        assert many._repr_html_().count("<tr") < 12
    with pd.option_context("display.notebook_repr_html", False):  # noqa: FBT003 - pandas' form
        assert many._repr_html_() is None
    again = pickle.loads(pickle.dumps(many))
    assert type(again) is pd.DataFrame
    many.index = ["x"] * 500
    assert "<table" in many._repr_html_()
