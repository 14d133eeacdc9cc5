"""What may be enqueued, in the kinds of values that a notebook has at hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from queuectl_magics import JobQueue, clock
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.job import JobSpec

SOON_S = 30


@pytest.fixture
def queue(home):
    """A queue without a worker."""
    with JobQueue(home) as opened:
        yield opened


@pytest.mark.parametrize(
    ("options", "field", "kept"),
    [
        ({"priority": np.int64(3)}, "priority", 3),
        ({"max_retries": np.int32(5)}, "max_retries", 5),
        ({"timeout": np.float64(1.5)}, "timeout_s", 1.5),
        ({"timeout": timedelta(minutes=5)}, "timeout_s", 300.0),
        ({"grace": pd.Timedelta("2s")}, "grace_s", 2.0),
        ({"grace": np.timedelta64(2000, "ms")}, "grace_s", 2.0),
        ({"max_output": np.int64(20_000)}, "output_bytes_max", 20_000),
        ({"max_output": "64k"}, "output_bytes_max", 65_536),
        ({"name": np.str_("train")}, "name", "train"),
        ({"tags": "sweep"}, "tags", ("sweep",)),
        ({"tag": np.str_("sweep")}, "tags", ("sweep",)),
        ({"tags": np.array(["a", "b"])}, "tags", ("a", "b")),
        ({"tags": pd.Series(["a", "b"])}, "tags", ("a", "b")),
        ({"cwd": Path("/")}, "cwd", "/"),
        ({"id": 7}, "id", "7"),
        ({"id": np.int64(8)}, "id", "8"),
    ],
)
def test_values_of_numpy_pandas_and_the_like_are_taken_for_what_they_mean(
    queue, home, options, field, kept
):
    """They are kept as plain texts and numbers, which any process can read again."""
    job = queue.enqueue("true", **options)

    with JobQueue(home) as other:
        (record,) = other.records()
    assert getattr(record, field) == getattr(job.record, field) == kept


@pytest.mark.parametrize("wrap", [str, np.str_, Path, lambda text: JobSpec(command=np.str_(text))])
def test_command_may_be_any_kind_of_text(queue, wrap):
    """As it comes from an array, a frame or a path."""
    found = wrap("true")
    jobs = queue.enqueue_all(np.array([found]) if isinstance(found, np.str_) else [found])

    assert [job.command for job in jobs] == ["true"]


def test_numbers_and_paths_become_the_texts_that_variables_are(queue):
    """`env={"SEED": 1}` is what everybody writes."""
    env = {"SEED": 1, "RATE": np.float64(0.1), "TO": Path("/tmp"), "NAME": np.str_("x")}
    job = queue.enqueue('echo "$SEED $RATE $TO $NAME"', env=env)
    queue.worker()

    assert job.wait(SOON_S).output == "1 0.1 /tmp x\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["ls", "-l"], "as you would type it: shlex.join makes one"),
        (("ls", "-l"), "as you would type it: shlex.join makes one"),
        ({"command": "ls"}, "as you would type it: enqueue_all takes dicts"),
        (5, "Expected `str`, got `int` - at `$.command`"),
        (None, "the job has no command"),
        (b"ls", "Expected `str`, got `bytes` - at `$.command`"),
    ],
)
def test_what_is_no_text_is_no_command(queue, command, line):
    """A list is what `subprocess` takes: the line says how to make a text of it."""
    with pytest.raises(InvalidInputError) as refused:
        queue.enqueue(command)

    assert line in str(refused.value)
    assert queue.jobs() == []


@pytest.mark.parametrize("wanted", [None, 5, "true", {"command": "true"}])
def test_what_is_no_list_of_jobs_is_refused(queue, wanted):
    """The line names the call that takes a single job."""
    with pytest.raises(InvalidInputError, match="for a single one there is enqueue"):
        queue.enqueue_all(wanted)


def test_nothing_means_as_the_queue_is_configured(queue):
    """What a wrapper passes on without having been given it."""
    nothing = dict.fromkeys(("id", "name", "tags", "priority", "delay", "env", "grace", "cwd"))
    job = queue.enqueue("true", **nothing, max_retries=None)

    assert (job.record.tags, job.record.grace_s, job.record.max_retries) == ((), 5.0, 3)


@pytest.mark.parametrize("given", [{"timeout": 5, "timeout_s": 50}, {"tag": "a", "tags": ["b"]}])
def test_one_thing_said_twice_is_refused(queue, given):
    """Neither the first nor the last wins in silence."""
    with pytest.raises(InvalidInputError, match="mean the same: give one of them"):
        queue.enqueue("true", **given)


def test_number_too_large_to_print_is_refused_in_words(queue):
    """Python itself refuses to print it."""
    with pytest.raises(InvalidInputError, match="priority is too large a number"):
        queue.enqueue("true", priority=10**5000)


def test_spec_shows_what_was_asked():
    """A zero that was given, and no default."""
    assert repr(JobSpec(command="a", max_retries=0)) == "JobSpec(command='a', max_retries=0)"
    assert repr(JobSpec(command="")) == "JobSpec(command='')"


def test_delay_counts_from_the_time_by_the_clock(queue, monkeypatch):
    """Also when the clock was set back a day since the latest event."""
    queue.enqueue("true")
    earlier = clock.utc_now() - timedelta(days=1)
    monkeypatch.setattr(clock, "utc_now", lambda: earlier)

    job = queue.enqueue("true", delay="5s")

    assert job.record.due_at == earlier + timedelta(seconds=5)
    assert job.record.created_at > earlier
