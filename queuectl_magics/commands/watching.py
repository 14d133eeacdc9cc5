"""`queuectl status --watch`: the queue in a terminal, painted again as it changes.

The picture stands where it was first painted: each one begins by going back to the top of the one
before. It ends when all jobs are over, or with Ctrl-C; the last picture stays. The rule here:
where there is no terminal nothing is painted over; a line is printed whenever the counts change.
"""

from __future__ import annotations

import time

from queuectl_magics.commands.verb import Session
from queuectl_magics.views import text, words
from queuectl_magics.views.status import Status, choose

INTERVAL_S = 0.25
ROWS_MIN = 3
UP, CLEAR = "\x1b[{}F", "\x1b[J"
CUT, WRAP = "\x1b[?7l", "\x1b[?7h"  # what a line does at the right edge; DECAWM of the VT100


class Watched:
    """What was watched, as it was last; it has been shown already."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def text(self, *, width: int, colour: bool) -> str:  # noqa: ARG002 - as that of a live table
        """Return nothing: it has been shown already."""
        return ""


def watch(session: Session) -> Watched:
    """Show the queue until every job is over or Ctrl-C, and return its last picture."""
    painted, told = 0, ""
    while True:
        status = session.queue.status()
        if session.height:
            picture = paint(status, width=session.width, height=session.height, session=session)
            # cut, for a line that is wrapped is two, and the next picture would begin too low
            top = UP.format(painted) if painted else ""
            session.write(f"{top}{CLEAR}{CUT}{picture}\n{WRAP}")
            painted = picture.count("\n") + 1
        elif (line := summary(status)) != told:
            told = line
            session.write(f"{words.stamp(status.now)}  {line}\n")
        if status.over == status.total:
            return Watched(status)
        try:
            time.sleep(INTERVAL_S)
        except KeyboardInterrupt:
            return Watched(status)


def summary(status: Status) -> str:
    """Return the counts in one line: '3 of 10 over: 2 processing, 5 pending'."""
    counts = ", ".join(f"{n} {state}" for state, n in status.counts.items() if n)
    return f"{status.over} of {status.total} over: {counts}" if counts else "No jobs."


def paint(status: Status, *, width: int, height: int, session: Session) -> str:
    """Return a picture of *status* that fits into *height* lines."""
    rows = max(ROWS_MIN, height - 4)
    shown = choose(status.jobs, rows)
    lines = [words.shorten(summary(status), width)]
    if shown:
        lines += ["", text.jobs(shown, width=width, colour=session.colour)]
    if len(shown) < status.total:
        lines.append(f"… and {words.counted(status.total - len(shown), 'other job')}")
    return "\n".join(lines)
