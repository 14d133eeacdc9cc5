"""Which magic calls which verb.

`%enqueue` is the first verb; each of the others has `queue_` before its name, and `%%job` is
`enqueue` for a whole cell. The rule here: names only, so that a notebook can have all
magics before anything that they need is loaded.
"""

from __future__ import annotations

from queuectl_magics.commands import VERBS

PREFIX = "queue_"
LINE_MAGICS = {"enqueue" if verb == "enqueue" else PREFIX + verb: verb for verb in VERBS}
CELL_MAGICS = {"job": "enqueue"}
