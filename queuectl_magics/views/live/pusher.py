"""The one thread of a process that sends to its live tables.

Ten times a second it gives every table a turn; when no table is watched it sleeps until one is.
One thread and not one each, because the server drops messages when there are too many, and because
something other than the cell must go on while a cell runs. The rule here: a turn that fails ends
nothing: its table says so to its viewers and is tried again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from functools import cache
from typing import Protocol
from weakref import WeakSet

TURN_S = 0.1
POKED_TURN_S = 0.04


class Turning(Protocol):
    """What can be given turns."""

    def is_watched(self) -> bool:
        """Say whether a turn would be worth anything."""

    def turn(self) -> None:
        """Send what is new."""

    def stumble(self, error: Exception) -> None:
        """Hear that a turn has failed."""


class Pusher:
    """Gives turns to tables, for as long as somebody watches one."""

    def __init__(self) -> None:
        self._tables: WeakSet[Turning] = WeakSet()
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, table: Turning) -> None:
        """Give turns to *table* from now on."""
        with self._lock:
            self._tables.add(table)

    def poke(self) -> None:
        """Take the next turn soon: somebody has just begun to watch, or has clicked."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="queuectl-live", daemon=True
                )
                self._thread.start()
        self._bell.set()

    def _run(self) -> None:
        while True:
            if not self._give_turns():
                self._bell.wait()
            elif self._bell.wait(TURN_S):
                time.sleep(POKED_TURN_S)
            self._bell.clear()

    def _give_turns(self) -> bool:
        """Give each watched table a turn, hold none of them, and say whether there was one."""
        with self._lock:
            watched = [table for table in self._tables if table.is_watched()]
        for table in watched:
            try:
                table.turn()
            except Exception as error:  # noqa: BLE001 - this thread has nobody to raise to
                with contextlib.suppress(Exception):  # it may be sending that has failed
                    table.stumble(error)
        return bool(watched)


@cache
def the_pusher() -> Pusher:
    """Return the pusher of this process."""
    return Pusher()
