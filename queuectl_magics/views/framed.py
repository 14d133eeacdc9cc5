"""The frame of a status as a notebook shows it: what is asked first above it, and moments short.

It is a `pandas.DataFrame` in all it does; whatever is taken from it, or made of it, is an ordinary
one. The rule here: only the picture differs, never a value. Loaded with pandas, and only then.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd

from queuectl_magics.views.markup import head_html
from queuectl_magics.views.status import Status
from queuectl_magics.views.words import duration

CELLS_MAX = 120
SHORT = "%Y-%m-%d %H:%M:%S"


class StatusFrame(pd.DataFrame):
    """A `DataFrame` that is shown below the counts of the queue that it is of."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def __reduce__(self) -> Any:
        """Be kept as an ordinary frame, which can be read where we are not."""
        return pd.DataFrame(self).__reduce__()

    def _repr_html_(self) -> str | None:
        status: Status | None = getattr(self, "_status", None)
        table: Any = _short(pd.DataFrame(self))
        limit = pd.get_option("display.max_colwidth")
        with pd.option_context("display.max_colwidth", limit and max(limit, CELLS_MAX)):
            html: str | None = table._repr_html_()
        if html is None or status is None:
            return html
        return f"{head_html(status)}{html}"


def _short(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what would be seen of *frame*, with short moments, and blanks for what is missing."""
    shown = frame.copy(deep=False)
    if not shown.index.is_unique:
        return shown
    rows_max = pd.get_option("display.max_rows") or len(shown)
    seen = shown.index[: rows_max // 2 + 1].union(shown.index[-rows_max // 2 - 1 :], sort=False)
    few = shown if len(shown) <= rows_max else shown.loc[seen]
    for name, column in few.items():
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            told: Any = column.dt.strftime(SHORT).fillna("")
        elif column.dtype.kind == "m":
            told = [_told(value) for value in column]
        elif pd.api.types.is_extension_array_dtype(column.dtype) and column.hasnans:
            told = column.astype("string").fillna("")
        else:
            continue
        whole = pd.Series("", index=shown.index, dtype="object")
        whole.loc[few.index] = told
        shown[name] = whole
    return shown


def framed(columns: dict[str, Any], ids: Any, status: Status) -> StatusFrame:
    """Return *columns* as a frame that is shown below the counts of *status*."""
    frame = StatusFrame(columns, index=ids, copy=False)
    head = msgspec.structs.replace(status, jobs=())
    object.__setattr__(frame, "_status", head)  # past pandas, which would make a column of it
    return frame


def _told(value: Any) -> str:
    return "" if pd.isna(value) else duration(value.total_seconds())
