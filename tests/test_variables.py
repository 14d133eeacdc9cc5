"""The variables that we listen to: where the home is, and whether output may vary."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from queuectl_magics import variables
from queuectl_magics.errors import HomeError, InvalidInputError
from queuectl_magics.variables import find_home


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory to stand in, with no home named in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUEUECTL_HOME", raising=False)
    return tmp_path


def test_home_is_what_is_named_then_the_variable_then_here(folder, monkeypatch):
    """An argument goes before `QUEUECTL_HOME`, and that before `.queuectl`; empty is not named."""
    assert folder / ".queuectl" == find_home()

    monkeypatch.setenv("QUEUECTL_HOME", "")
    assert folder / ".queuectl" == find_home()

    monkeypatch.setenv("QUEUECTL_HOME", "/elsewhere/q")
    assert Path("/elsewhere/q") == find_home()
    assert folder / "mine" == find_home("mine")
    assert Path("/abs") == find_home(Path("/abs"))
    assert Path.home() / "q" == find_home("~/q")


@pytest.mark.parametrize("named", ["", "  ", "a\0b", "~no-such-user-here/q"])
def test_home_that_names_no_directory_is_refused(folder, named):
    """An empty variable in a script must not make the current directory a queue."""
    with pytest.raises(InvalidInputError, match="cannot be the queue's home"):
        find_home(named)

    assert [] == list(folder.iterdir())


def test_standing_in_a_deleted_directory_is_told(folder):
    """A relative home has no meaning there; an absolute one has."""
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()

    with pytest.raises(HomeError, match="has been deleted: go to another one"):
        find_home()
    assert Path("/abs") == find_home("/abs")


@pytest.mark.parametrize(
    ("value", "plain"),
    [("1", True), ("yes", True), ("", False), ("0", False), ("False", False), ("no", False)],
)
def test_plain_is_asked_for_by_a_variable(monkeypatch, value, plain):
    """`QUEUECTL_PLAIN=0` says no as clearly as not setting it."""
    monkeypatch.setenv("QUEUECTL_PLAIN", value)

    assert plain is variables.plain()
