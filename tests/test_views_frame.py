"""The queue as a DataFrame: true types, with and without jobs, and fast."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from queuectl_magics.job import Attempt, JobRecord, State
from queuectl_magics.views.frame import attempts_frame, status_frame
from queuectl_magics.views.status import Status

AT = datetime(2026, 11, 24, 10, 51, 23, 123_456, tzinfo=UTC)
TYPES = {
    "state": "category",
    "name": "string",
    "attempts": "int64",
    "exit_code": "Int64",
    "elapsed": "timedelta64[us]",
    "reason": "string",
    "command": "string",
    "created_at": "datetime64[us, UTC]",
    "updated_at": "datetime64[us, UTC]",
}


def job(id: str, state: State = State.PENDING, **fields: object) -> JobRecord:
    """Make a job by hand."""
    known = {"attempts": 0, "max_retries": 3, "created_at": AT, "updated_at": AT}
    return JobRecord(**{"id": id, "command": "true", "state": state, **known, **fields})


def picture(*jobs: JobRecord) -> Status:
    """Take a picture of these jobs, twelve seconds after AT."""
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    now = AT + timedelta(seconds=12)
    return Status(jobs=jobs, counts=counts, now=now, workers=1, slots=1, busy=1)


RAN = {"attempt": 1, "started_at": AT, "finished_at": AT + timedelta(seconds=2.5)}
JOBS = (
    job("1", State.COMPLETED, exit_code=0, name="prepare", **RAN),
    job("2", State.PROCESSING, attempt=1, started_at=AT),
    job("job3"),
    job("4", State.DEAD, attempts=3, exit_code=3, reason="exit 3", **RAN),
)


@pytest.mark.parametrize("jobs", [(), JOBS], ids=["no jobs", "four jobs"])
def test_columns_have_their_types_with_and_without_jobs(jobs):
    """Code that works on a full queue works on an empty one."""
    frame = status_frame(picture(*jobs))

    assert list(TYPES.items()) == [(column, str(frame[column].dtype)) for column in frame]
    assert ("id", "string") == (frame.index.name, str(frame.index.dtype))
    assert list(State) == list(frame.state.cat.categories)
    assert not frame.state.cat.ordered
    assert len(jobs) == len(frame)


def test_a_row_tells_what_the_job_tells():
    """Every value is the job's, and what is not known is missing, not zero."""
    frame = status_frame(picture(*JOBS))

    assert ["completed", "processing", "pending", "dead"] == list(frame.state)
    assert ["prepare", "", "", ""] == list(frame.name)
    assert [0, 0, 0, 3] == list(frame.attempts)
    assert [0, pd.NA, pd.NA, 3] == list(frame.exit_code)
    assert ["", "attempt 1 of 3", "the only slot is busy", "exit 3"] == list(frame.reason)
    assert pd.Timestamp(AT) == frame.created_at["job3"]


def test_elapsed_is_a_length_of_time():
    """It can be summed; a job that never ran has none."""
    elapsed = status_frame(picture(*JOBS)).elapsed

    assert pd.Timedelta(seconds=2.5) == elapsed["1"]
    assert pd.Timedelta(seconds=12) == elapsed["2"]
    assert pd.isna(elapsed["job3"])
    assert pd.Timedelta(seconds=17) == elapsed.sum()


def test_jobs_are_found_by_what_is_asked():
    """The usual questions work: by state, by exit code, by name."""
    frame = status_frame(picture(*JOBS))

    assert ["4"] == list(frame[frame.state == "dead"].index)
    assert ["4"] == list(frame[frame.exit_code == 3].index)
    assert ["1"] == list(frame[frame["name"] == "prepare"].index)
    assert 6 == len(frame.groupby("state", observed=False).size())


def test_moments_are_exact_to_the_microsecond():
    """No moment is rounded on its way into the frame, in this century."""
    moments = [
        datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 2, 3, 4, 5, 6, 1, tzinfo=UTC),
        datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    frame = status_frame(picture(*(job(str(at.year), created_at=at) for at in moments)))

    assert moments == [moment.to_pydatetime() for moment in frame.created_at]


def test_hostile_text_is_cleaned_in_a_frame():
    """A frame is printed too: control sequences, lone surrogates and overrides come out tame."""
    frame = status_frame(picture(job("1", command="a\x1b[2J\ud800\u202eb\nc", name="\x07n")))

    assert "a\ufffd\\u202eb\nc" == frame.command["1"]
    assert "n" == frame["name"]["1"]


@pytest.mark.timeout(60)
def test_a_hundred_thousand_jobs_are_no_reason_to_wait():
    """Columns are built as lists: a quarter of a second, and ten times that under coverage."""
    jobs = tuple(JOBS[number % 4] for number in range(100_000))
    status = Status(jobs=jobs, counts={}, now=AT, workers=1, slots=1, busy=1)
    status_frame(picture(*JOBS))  # what loads late is loaded
    times = []
    for _ in range(3):
        start = time.perf_counter()
        frame = status_frame(status)
        times.append(time.perf_counter() - start)

    assert 100_000 == len(frame)
    assert min(times) < 5


def test_attempts_frame_has_a_row_an_attempt():
    """The history comes first, the current attempt last, with what it cost."""
    before = Attempt(
        number=1,
        started_at=AT,
        finished_at=AT + timedelta(seconds=2),
        exit_code=137,
        reason="exit 137 (SIGKILL?)",
        worker="nb",
        cpu_s=1.5,
        memory_bytes_max=4096,
    )
    running = job("1", State.PROCESSING, attempt=2, started_at=AT, history=(before,))
    frame = attempts_frame(running, AT + timedelta(seconds=12))

    assert [1, 2] == list(frame.index)
    assert [137, pd.NA] == list(frame.exit_code)
    assert [pd.Timedelta(seconds=2), pd.Timedelta(seconds=12)] == list(frame.elapsed)
    assert [1.5, pd.NA] == list(frame.cpu_s)
    assert [4096, pd.NA] == list(frame.memory_bytes_max)
    assert pd.isna(attempts_frame(running).elapsed[2])


def test_attempts_frame_of_a_new_job_has_the_same_types():
    """No attempts yet: no rows, and the columns are what they will be."""
    ran = attempts_frame(job("1", State.COMPLETED, exit_code=0, **RAN))
    new = attempts_frame(job("1"))

    assert 0 == len(new)
    assert list(ran.dtypes) == list(new.dtypes)
    assert "number" == new.index.name


def test_pandas_is_not_loaded_before_a_frame_is_asked_for():
    """Importing the views costs no pandas."""
    code = (
        "import sys, queuectl_magics.views.frame, queuectl_magics.views.markup\n"
        "print({'pandas', 'numpy', 'IPython'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert "set()" == run.stdout.strip()
