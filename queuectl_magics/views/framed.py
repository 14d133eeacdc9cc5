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

    def _repr_html_(self) -> str | None:
        status: Status | None = getattr(self, "_status", None)
        shown = pd.DataFrame(self)
        if status is None:  # a copy that was kept somewhere else
            return shown.to_html()
        for name, column in shown.items():
            if isinstance(column.dtype, pd.DatetimeTZDtype):
                shown[name] = column.dt.strftime(SHORT).fillna("")
            elif column.dtype.kind == "m":
                shown[name] = [_told(value) for value in column]
            elif pd.api.types.is_extension_array_dtype(column.dtype) and column.hasnans:
                shown[name] = column.astype("string").fillna("")
        with pd.option_context("display.max_colwidth", CELLS_MAX):
            table: Any = shown.to_html(
                max_rows=pd.get_option("display.max_rows"), show_dimensions=True, notebook=True
            )
        return f"{head_html(status)}{table}"


def framed(columns: dict[str, Any], ids: Any, status: Status) -> StatusFrame:
    """Return *columns* as a frame that is shown below the counts of *status*."""
    frame = StatusFrame(columns, index=ids, copy=False)
    head = msgspec.structs.replace(status, jobs=())
    object.__setattr__(frame, "_status", head)  # past pandas, which would make a column of it
    return frame


def _told(value: Any) -> str:
    return "" if pd.isna(value) else duration(value.total_seconds())
