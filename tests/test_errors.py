"""The one family of errors that a person can meet."""

from __future__ import annotations

import pickle

import pytest

from queuectl_magics import errors
from queuectl_magics.errors import QueuectlError, StoreFullError, did_you_mean
from queuectl_magics.job import State
from queuectl_magics.lifecycle import IllegalTransitionError

FAMILY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and kind.__module__ == errors.__name__
]


def test_every_error_of_the_module_belongs_to_the_family():
    """A door that translates `QueuectlError` misses none."""
    strangers = [kind for kind in FAMILY if not issubclass(kind, QueuectlError)]

    assert StoreFullError in FAMILY
    assert [] == strangers


@pytest.mark.parametrize("kind", FAMILY)
def test_text_of_an_error_is_what_it_was_given(kind):
    """The text is for a person: nothing is put before it or after it."""
    assert "job 7 is gone" == str(kind("job 7 is gone"))


def test_bug_is_no_error_for_a_person():
    """A broken rule of ours must not be dressed up as a mistake of theirs."""
    assert not issubclass(IllegalTransitionError, QueuectlError)


def test_full_disk_names_the_jobs_that_were_stored_before():
    """`accepted` is a tuple, empty unless given, and survives a trip to another process."""
    error = StoreFullError("the disk is full", ["1", "2"])

    assert ("1", "2") == error.accepted
    assert () == StoreFullError("the disk is full").accepted
    assert ("1", "2") == pickle.loads(pickle.dumps(error)).accepted


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("compelted", ["completed", "dead"], " Did you mean 'completed'?"),
        ("comand", ("id", "command", "name"), " Did you mean 'command'?"),
        ("train", iter(["train2", "tran"]), " Did you mean 'train2'?"),
        ("xyz", ["completed", "dead"], ""),
        ("xyz", [], ""),
        ("", ["completed"], ""),
        ("--max", ["--max-b", "--tag", "--max-a"], " Did you mean '--max-b' or '--max-a'?"),
        ("--", ["--max-b"], ""),
        ("complete", State, " Did you mean 'completed'?"),
    ],
)
def test_nearest_known_word_is_offered_and_nothing_far_away(word, known, hint):
    """A typo gets its word back as text; a word of another world gets silence."""
    assert hint == did_you_mean(word, known)
