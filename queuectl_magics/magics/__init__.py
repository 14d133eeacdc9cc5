"""The notebook door: every verb as a magic, jobs as lines that update in place.

`load` registers a line magic per verb (`%enqueue`, and `%queue_` in front of the others) and
`%%job`; `unload` leaves nothing behind. The rule here: loading is quick and creates no file;
pandas and the rest come in when a verb needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load(shell: InteractiveShell) -> None:
    """Give *shell* its magics."""
    from queuectl_magics.magics.door import QueueMagics

    unload(shell)
    QueueMagics(shell).open()


def unload(shell: InteractiveShell) -> None:
    """Take the magics away from *shell* again, if it has them."""
    from queuectl_magics.magics.door import QueueMagics

    configurables: list[object] = list(shell.configurables)
    for magics in configurables:
        if isinstance(magics, QueueMagics):
            magics.close()
