"""Secrets in a command: what is typed, what is kept, and what the command gets."""

from __future__ import annotations

import os
import subprocess

import pytest

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.magics.hiding import expand_hiding

TOKEN = "s3cr$t 'with' \"quotes\"; echo no `x` \\ end"
NAMES = {"token": TOKEN, "n": 3, "cfg": {"key": "abc"}}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("run {token!secret}", 'run "$QUEUECTL_SECRET_1"'),
        ('run "a {token!secret} b"', 'run "a ${QUEUECTL_SECRET_1} b"'),
        ("run --key={cfg['key']!secret} -n {n}", 'run --key="$QUEUECTL_SECRET_1" -n 3'),
        ("run {token!secret} {n!secret}", 'run "$QUEUECTL_SECRET_1" "$QUEUECTL_SECRET_2"'),
        ("run {n}", "run 3"),
        ("awk '{print $1}' ${HOME}", "awk '{print $1}' ${HOME}"),
    ],
)
def test_secret_becomes_a_variable(text, written):
    """The command holds a name, in the form that its place wants."""
    assert written == expand_hiding(text, NAMES)[0]


@pytest.mark.parametrize(
    "text",
    [
        "printf %s {token!secret}",
        'printf %s "{token!secret}"',
        'printf %s "$(printf %s {token!secret})"',
        "cat <<END\n{token!secret}\nEND",
    ],
)
def test_value_arrives_as_it_is(text):
    """Whatever the secret holds, the command gets it byte for byte."""
    command, hidden = expand_hiding(text, NAMES)
    printed = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert TOKEN == printed.rstrip("\n")
    assert "s3cr" not in command


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo '{token!secret}'", "single quotes"),
        ("echo {tokn!secret}", "no expression of names that are known"),
    ],
)
def test_secret_that_cannot_be_hidden_is_refused(text, problem):
    """Nothing is enqueued, and the message does not hold the value."""
    with pytest.raises(InvalidInputError, match=problem) as caught:
        expand_hiding(text, NAMES)

    assert "s3cr" not in str(caught.value)
