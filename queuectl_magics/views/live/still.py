"""The picture that stays when the live table is gone.

A saved notebook, an export, a kernel that was restarted: the widget is dead there, and front ends
show an error in its place. So below it stands a picture of the queue, with its time. The style
rules here hide the picture while the table lives and the dead widget when it does not: they select
by what is in the page, so they need no script. The rule: without them (an untrusted notebook, a
mail) both may be seen, and what is seen is true.
"""

from __future__ import annotations

import msgspec

from queuectl_magics.views import text
from queuectl_magics.views.markup import status_html
from queuectl_magics.views.status import Status, choose
from queuectl_magics.views.words import counted, stamp

ROWS_MAX = 30

# `:has` cannot stand inside `:has`, hence the chain.
_DEAD = ".jp-OutputArea:has(.qstill):not(:has(.qlive)) .jp-OutputArea-child"
SWAP = (
    "<style>.jp-OutputArea:has(.qlive) .jp-OutputArea-child:has(.qstill){display:none}"
    f"{_DEAD}:has(>.jp-OutputArea-output.lm-Panel){{display:none}}</style>"
)


def as_html(status: Status) -> str:
    """Return the picture of *status* as HTML that hides itself beside a live table."""
    chosen = msgspec.structs.replace(status, jobs=choose(status.jobs, ROWS_MAX))
    note = (
        f"<p><i>A snapshot of {stamp(status.now)}. The table is not live here: "
        "run the cell to go live again.</i></p>"
    )
    return f'<div class="qstill">{SWAP}{note}{status_html(chosen)}</div>'


def as_text(status: Status) -> str:
    """Return the picture of *status* as a few lines of text."""
    counts = ", ".join(f"{n} {state}" for state, n in status.counts.items() if n)
    head = f"{counted(status.total, 'job')} as of {stamp(status.now)}"
    lines = [f"{head}: {counts}" if counts else head]
    jobs = choose(status.jobs, ROWS_MAX)
    return "\n".join([*lines, text.jobs(jobs)] if jobs else lines)
