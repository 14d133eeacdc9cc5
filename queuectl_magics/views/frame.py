"""The queue as a pandas DataFrame.

A frame is for asking questions of many jobs at once, so every column has its true type, and the
same one when there are no jobs: `frame.elapsed.sum()` and `frame[frame.exit_code == 3]` work. The
rules here: pandas is imported inside the functions, for it takes longer than the rest of the
package together (hence `Any` where a DataFrame is returned); columns are built as whole lists; and
texts are cleaned, because a frame is printed as often as it is asked. The exact command is the
job's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.status import Status
from queuectl_magics.views.words import clean, elapsed_s

MICROSECONDS = 1_000_000


def status_frame(status: Status) -> Any:
    """Return a `pandas.DataFrame` with a row a job, indexed by `id`.

    Columns: `state` (categorical, all six), `name`, `attempts` (how many failed), `exit_code`
    (`Int64`, missing before the first end), `elapsed` (of the latest attempt), `reason`,
    `command`, `created_at` and `updated_at` (UTC). A text that is missing is empty.

    Example:
        `status_frame(status).groupby("state").elapsed.mean()`

    """
    import pandas as pd

    jobs = status.jobs
    code = {state: number for number, state in enumerate(State)}
    columns = {
        "state": pd.Categorical.from_codes(
            _integers([code[job.state] for job in jobs]),
            categories=pd.Index([str(state) for state in State]),
        ),
        "name": pd.array(_shown([job.name or "" for job in jobs]), dtype="string"),
        "attempts": _integers([job.attempts for job in jobs]),
        "exit_code": _optional_integers([job.exit_code for job in jobs]),
        "elapsed": _elapsed([elapsed_s(job, status.now) for job in jobs]),
        "reason": pd.array(_shown([status.reason(job) for job in jobs]), dtype="string"),
        "command": pd.array(_shown([job.command for job in jobs]), dtype="string"),
        "created_at": _moments([job.created_at for job in jobs]),
        "updated_at": _moments([job.updated_at for job in jobs]),
    }
    ids = pd.Index(_shown([job.id for job in jobs]), dtype="string", name="id")
    from queuectl_magics.views.framed import framed

    return framed(columns, ids, status)


def attempts_frame(record: JobRecord, now: datetime | None = None) -> Any:
    """Return a `pandas.DataFrame` with a row an attempt of *record*, oldest first.

    Indexed by `number`; columns: `started_at`, `finished_at`, `elapsed`, `exit_code`, `reason`,
    `worker`, `cpu_s` and `memory_bytes_max` (missing where unknown). With *now*, `elapsed` of an
    attempt that is running is given too.

    Example:
        `attempts_frame(record).memory_bytes_max.max()`

    """
    import pandas as pd

    attempts = record.all_attempts()
    columns = {
        "started_at": _moments(attempt.started_at for attempt in attempts),
        "finished_at": _moments(attempt.finished_at for attempt in attempts),
        "elapsed": _elapsed(
            (end - attempt.started_at).total_seconds() if attempt.started_at and end else None
            for attempt in attempts
            for end in [attempt.finished_at or now]
        ),
        "exit_code": _optional_integers([attempt.exit_code for attempt in attempts]),
        "reason": pd.array(_shown([a.reason or "" for a in attempts]), dtype="string"),
        "worker": pd.array(_shown([a.worker or "" for a in attempts]), dtype="string"),
        "cpu_s": pd.array([attempt.cpu_s for attempt in attempts], dtype="Float64"),
        "memory_bytes_max": _optional_integers([a.memory_bytes_max for a in attempts]),
    }
    numbers = pd.Index([attempt.number for attempt in attempts], dtype="int64", name="number")
    return pd.DataFrame(columns, index=numbers)


def _shown(texts: list[str]) -> list[str]:
    joined = "".join(texts)
    if joined.isascii() and joined.isprintable():
        return texts
    return [clean(text) for text in texts]


def _integers(values: Iterable[int]) -> Any:
    import numpy as np

    return np.array(list(values), dtype="int64")


def _optional_integers(values: list[int | None]) -> Any:
    import pandas as pd

    numbers = _integers(0 if value is None else value for value in values)
    missing = _integers(value is None for value in values).astype(bool)
    return pd.arrays.IntegerArray(numbers, missing)


def _ticks(seconds: Iterable[float | None]) -> Any:
    """Return whole microseconds, with NaT's number for what is missing."""
    import numpy as np

    numbers = np.array(list(seconds), dtype="float64")  # None becomes nan
    ticks = np.rint(np.nan_to_num(numbers) * MICROSECONDS).astype("int64")
    return np.where(np.isnan(numbers), np.iinfo("int64").min, ticks)


def _elapsed(seconds: Iterable[float | None]) -> Any:
    import pandas as pd

    return pd.TimedeltaIndex(_ticks(seconds).view("timedelta64[us]"))


def _moments(moments: Iterable[datetime | None]) -> Any:
    import pandas as pd

    ticks = _ticks([None if moment is None else moment.timestamp() for moment in moments])
    return pd.DatetimeIndex(ticks.view("datetime64[us]")).tz_localize("UTC")
