"""The bar of a cell that waits, shown only if the waiting takes a moment.

A notebook replaces it in place under a display id, so that a saved one keeps the last state; a
terminal redraws its line on stderr. The rule here: it is drawn by the thread that runs the cell,
at most four times a second, and the full bar is always drawn once the bar has been shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from queuectl_magics import clock

if TYPE_CHECKING:
    from queuectl_magics.magics.lines import Lines

PATIENCE_S = 0.5
INTERVAL_S = 0.25
REDRAW = "\r\x1b[K"


class Bar:
    """The bar of one call."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._began_s = clock.monotonic_s()
        self._drawn_s = 0.0
        self._display_id = ""
        self._told = ""
        self._line_open = False

    def show(self, done: int, total: int, noun: str) -> None:
        """Show how much is done."""
        now_s = clock.monotonic_s()
        told = f"{done:,} of {total:,} {noun.removesuffix('s') if total == 1 else noun} over"
        if self._lines.is_plain() or not total or told == self._told:
            return
        if not self._told and (done == total or now_s - self._began_s < PATIENCE_S):
            return
        if done < total and now_s - self._drawn_s < INTERVAL_S:
            return
        self._told, self._drawn_s = told, now_s
        if self._lines.can_update:
            self._publish(told, done, total)
        elif sys.stderr.isatty():
            self._print(REDRAW + told)
            self._line_open = True

    def end(self) -> None:
        """Leave the bar as it is, and the line that it stands in."""
        if self._line_open:
            self._print("\n")
            self._line_open = False

    def _publish(self, told: str, done: int, total: int) -> None:
        from queuectl_magics.views import markup

        update = bool(self._display_id)
        self._display_id = self._display_id or self._lines.new_display_id()
        bundle = {"text/plain": told, "text/html": markup.bar_html(done, total, told)}
        self._lines.publish(bundle, self._display_id, update=update)

    @staticmethod
    def _print(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)  # noqa: T201 - a bar is made for a terminal
