"""Validation: what may be enqueued, and what a refusal says."""

from __future__ import annotations

import pytest

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.job import JobSpec, State
from queuectl_magics.validation import check, check_range, parse_states


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"id": "a", "name": "naïve 日本", "tags": ("x", "y z")},
        {"id": "A-1_b.c"},
        {"name": "\u0645\u06cc\u200c\u062e\u0648", "tags": ("👩\u200d👧", "❤\ufe0f\u200d🔥")},
        {"id": "9" * 64},
        {"max_retries": 0, "backoff_base": 0.0, "backoff_cap_s": 0.0, "backoff_jitter": 1.0},
        {"max_retries": 1_000_000, "priority": -1_000_000, "delay_s": 315_360_000.0},
        {"cwd": "/", "env": {"A": "", "_b2": "x=y\n"}, "shell": "bash -euo pipefail"},
        {"command": "x" * (8 * 1024 * 1024)},
        {"command": "printf '\\n\\t'\n# second line\n"},
        {"timeout_s": 0.001, "grace_s": 0.0, "output_bytes_max": 16_384},
    ],
)
def test_what_fits_is_accepted(spec):
    """At its limits too."""
    check(JobSpec(**{"command": "echo", **spec}))


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"command": ""}, "the command is empty: give one, like  echo hello"),
        ({"command": " \n\t"}, "the command is empty"),
        ({"command": "a\0b"}, "the command contains a NUL byte"),
        ({"command": "a\udcff"}, "the command contains half a character (a lone surrogate, at 1)"),
        ({"command": "é" * (4 * 1024 * 1024 + 1)}, "the command is longer than 8 MiB"),
        *(
            ({"id": id}, f"{id!r} cannot be an id: 1 to 64 letters")
            for id in ("", "a/b", "..", ".", ".a", "a.", "-x", "a b", "é", "a\n", "a\0", "9" * 65)
        ),
        ({"name": ""}, "'' cannot be a name: 1 to 200 printable characters"),
        ({"name": " "}, "cannot be a name"),
        ({"name": "a\nb"}, "cannot be a name"),
        ({"name": "a\u200db"}, "cannot be a name"),
        ({"name": "日\u200d本"}, "cannot be a name"),
        ({"name": "\x1b[31m"}, "cannot be a name"),
        ({"name": "n" * 201}, "cannot be a name"),
        ({"name": "\ud800"}, "the name contains half a character"),
        ({"tags": ("a", "")}, "'' cannot be a tag"),
        ({"tags": ("a\0",)}, "the tag contains a NUL byte"),
        ({"max_retries": -1}, "max_retries is -1: it must be from 0 to 1,000,000"),
        ({"backoff_base": float("nan")}, "backoff_base is nan: it must be from 0 to"),
        ({"backoff_base": float("inf")}, "backoff_base is inf"),
        ({"backoff_cap_s": -0.1}, "backoff_cap_s is -0.1: it must be from 0 to 315,360,000"),
        ({"backoff_jitter": 1.1}, "backoff_jitter is 1.1: it must be from 0 to 1"),
        ({"delay_s": -1.0}, "delay_s is -1.0"),
        ({"priority": 10**6 + 1}, "it must be from -1,000,000 to 1,000,000"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0: it must be from 0.001 to"),
        ({"grace_s": float("nan")}, "grace_s is nan"),
        ({"output_bytes_max": 1}, "output_bytes_max is 1: it must be from 16,384 to"),
        ({"cwd": "/no/such/place"}, "the directory '/no/such/place' does not exist"),
        ({"cwd": "/\0"}, "the directory contains a NUL byte"),
        ({"shell": " "}, "' ' is no program: name one, like bash or python"),
        ({"shell": "'"}, '"\'" is no program'),
        ({"shell": "a\0"}, "the shell contains a NUL byte"),
        ({"env": {"1A": ""}}, "'1A' is no name for an environment variable"),
        ({"env": {"A=s3cret": ""}}, "'A=…' is no name for an environment variable"),
        ({"env": {"A": "\0"}}, "the value of the environment variable A contains a NUL byte"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(spec, line):
    """The line says which value, and what is allowed."""
    with pytest.raises(InvalidInputError) as refused:
        check(JobSpec(**{"command": "echo", **spec}))

    assert line in str(refused.value)


def test_refusal_never_shows_the_value_of_a_variable():
    """It may be a secret."""
    with pytest.raises(InvalidInputError) as refused:
        check(JobSpec(command="echo", env={"TOKEN": "s3cret\0"}))

    assert "s3cret" not in str(refused.value)


def test_range_is_not_asked_of_what_is_not_given():
    """None means: as the queue is configured."""
    check_range("count", None, 10, low=1)
    with pytest.raises(InvalidInputError, match="count is 0: it must be from 1 to 10"):
        check_range("count", 0, 10, low=1)


@pytest.mark.parametrize(
    ("words", "states"),
    [
        ("dead", {State.DEAD}),
        (" Dead ", {State.DEAD}),
        ("canceled", {State.CANCELLED}),
        (State.FAILED, {State.FAILED}),
        (["failed", State.DEAD, "DEAD"], {State.FAILED, State.DEAD}),
        ([], set()),
    ],
)
def test_states_are_read_in_any_case_and_spelling(words, states):
    """American `canceled` is understood; `cancelled` is what is written."""
    assert states == parse_states(words)


def test_unknown_state_is_refused_with_the_nearest_and_all():
    """The line helps whoever mistyped, and whoever guessed."""
    with pytest.raises(InvalidInputError) as refused:
        parse_states(["dead", "compelted"])

    assert (
        "there is no state 'compelted'. Did you mean 'completed'? "
        "Known: pending, processing, completed, failed, dead, cancelled"
    ) == str(refused.value)


def test_what_is_no_name_is_no_state():
    """A number, for one."""
    with pytest.raises(InvalidInputError, match="5 is no state: name one, or several of them"):
        parse_states(5)
