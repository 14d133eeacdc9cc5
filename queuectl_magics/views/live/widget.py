"""The widget: a table's two roads to the page, and nothing else.

All that a live table does is in `table`, which knows no widget; what is shown is in `browser/`.
The rule here: this is the one module that imports anywidget, and it is imported when the first
live table is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from queuectl_magics.views.live import assets, road
from queuectl_magics.views.live.source import Source
from queuectl_magics.views.live.table import LEASE_S, LiveTable
from queuectl_magics.views.words import one_line


class LiveWidget(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore] # its base has no types
    """What a page is told of a table when it loads it."""

    _esm = assets.script()
    _css = assets.sheet()
    about = traitlets.Dict().tag(sync=True)


def make(source: Source, on_turn: Callable[[], None] = lambda: None) -> Any:
    """Return a widget that shows the jobs of *source*, live.

    Args:
        source: whose jobs.
        on_turn: called by the pusher's thread after each turn in which jobs had changed.

    """
    kernel, tables = road.open_road()
    widget = LiveWidget()
    widget.about = {
        "title": one_line(source.title),
        "kernel": kernel,
        "table": widget.model_id,
        "states": assets.looks(),
        "lease_ms": LEASE_S * 1000,
    }
    table = LiveTable(source, widget.send, on_turn)
    road.keep_first_road_open(widget)
    widget.on_msg(table.hear)
    tables[widget.model_id] = table
    return widget
