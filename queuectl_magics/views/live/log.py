r"""One job's output as the drawer of a live table follows it.

The drawer begins with the end of what is there and gets what comes, in whole lines and the rest of
one that has no end yet: a bar that is drawn over and over with `\r` is one such rest. The rules
here: a piece has a bounded size, whatever the job prints; a log that grows faster than a browser
can show is skipped in, and the skip is said; text is cleaned, but for its colours.
"""

from __future__ import annotations

from typing import Any

from queuectl_magics.views.live.source import Source
from queuectl_magics.views.words import clean, memory

PIECE_BYTES = 64 * 1024
BEHIND_BYTES_MAX = 512 * 1024
LINE_BYTES_MAX = 8 * 1024


class Following:
    """The output of one attempt, followed by one view."""

    def __init__(self, source: Source, view: str, id: str, attempt: int) -> None:
        self.view = view
        self.id = id
        self.attempt = attempt
        self._source = source
        self._offset = 0
        self._rest = b""
        self._begun = False

    def look(self) -> dict[str, Any] | None:
        """Return the next piece, if there is one; always one at the first time."""
        size = self._source.output_size(self.id, self.attempt)
        begun, self._begun = self._begun, True
        if begun and size == self._offset:
            return None
        left_out = self._skip(size, limit=BEHIND_BYTES_MAX if begun else PIECE_BYTES)
        data, self._offset = self._source.output(self.id, self.attempt, self._offset, PIECE_BYTES)
        whole, ended, self._rest = (self._rest + data).rpartition(b"\n")
        if left_out and b"\n" in whole:
            whole = whole.partition(b"\n")[2]  # it begins in the middle of a line
        lines = [_shown(line) for line in whole.split(b"\n")] if ended else []
        self._rest = self._rest[-PIECE_BYTES:]
        if left_out:
            lines.insert(0, f"… {memory(left_out)} left out …")
        return {
            "view": self.view,
            "job": self.id,
            "attempt": self.attempt,
            "begun": begun,
            "lines": lines,
            "rest": _shown(self._rest),
        }

    def _skip(self, size: int, *, limit: int) -> int:
        """Jump towards the end if that is too far away; return how many bytes are left out."""
        if size - self._offset <= limit:
            return 0
        left_out = size - PIECE_BYTES - self._offset
        self._offset += left_out
        self._rest = b""
        return left_out


def _shown(line: bytes) -> str:
    r"""Return a line as text: its last state after `\r`, and only so much of it."""
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    cut = last[:LINE_BYTES_MAX].decode("utf-8", "replace")
    more = f" … {memory(len(last) - LINE_BYTES_MAX)} more" if len(last) > LINE_BYTES_MAX else ""
    return clean(cut, keep_colour=True) + more
