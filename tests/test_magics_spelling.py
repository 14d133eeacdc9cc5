"""A `{name}` that is spelt like none of Python's names."""

from __future__ import annotations

import pytest

from queuectl_magics.magics.spelling import misspelt

NAMES = {"name": "Ada", "learning_rate": 0.1, "_hidden": 1, "x": 1}


@pytest.mark.parametrize("command", ["echo {nmae}", "train '{learning_rat}'", "a {x} {naem}"])
def test_slip_is_noted_with_what_may_have_been_meant(command):
    """The command would run as it stands, three times."""
    note = misspelt(command, NAMES)

    assert "is left to the shell: there is no variable" in note
    assert "Did you mean" in note


@pytest.mark.parametrize(
    "command",
    [
        "echo {name}",
        "echo ${nmae}",
        "echo {{nmae}}",
        "echo \\{nmae}",
        "echo {nmae,naem}",
        "echo {1..3}",
        "awk '{print}'",
        "echo {hiden}",
        "echo {}",
        "echo {xyz_abc}",
    ],
)
def test_what_is_the_shells_own_is_passed_over(command):
    """No false alarm where the braces have a meaning, or nothing is near."""
    assert misspelt(command, NAMES) == ""
