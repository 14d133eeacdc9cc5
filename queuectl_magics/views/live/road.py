"""The second road from the browser: the kernel's control channel.

Messages of widgets queue up behind the cell that runs (on ipykernel 6, and on 7.4 as it comes);
the control channel has a thread of its own. So a click that was not answered on the first road
within a quarter of a second is sent again on this one, by a socket that the page opens for it. The
rules here: whatever is missing, the table works by the first road alone; what is done here runs on
another thread while a cell runs, so it never prints, displays or touches the shell.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from queuectl_magics.views.live.table import LiveTable

REQUEST = "queuectl_request"
REPLY = "queuectl_reply"


def open_road() -> tuple[str, WeakValueDictionary[str, LiveTable]]:
    """Return the kernel's name for the page, or '', and where a table is found by its own name.

    A table lives for as long as its widget: it is not kept here.
    """
    kernel_class: Any = getattr(sys.modules.get("ipykernel.kernelbase"), "Kernel", None)
    if kernel_class is None or not kernel_class.initialized():
        return "", _tables()
    kernel = kernel_class.instance()
    file = kernel.config.get("IPKernelApp", {}).get("connection_file", "")
    name = Path(str(file)).stem.removeprefix("kernel-")
    tables = _tables()

    def answer(stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        content = parent["content"]
        found = tables.get(content.get("table", ""))
        reply = found.answer(content) if found else {"kind": "unknown"}
        kernel.session.send(stream, REPLY, reply, parent, ident=ident)

    kernel.control_handlers[REQUEST] = answer
    return name, tables


@cache
def _tables() -> WeakValueDictionary[str, LiveTable]:
    return WeakValueDictionary()


def keep_first_road_open(widget: Any) -> None:
    """Let ipykernel 7.4 answer on a thread of its own, as 7.1 to 7.3 do.

    7.4.0 sends the page's next message to the shell from which the widget was last written to; a
    widget is made in a cell, so that is the main one, which is busy.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001
