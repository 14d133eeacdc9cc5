"""Some bytes put by, so that the ends of attempts can be written down even on a full disk.

A queue whose disk is full refuses new jobs, but what is running ends all the same. The rule here:
nothing depends on the reserve; where it cannot be put by or given up, a full disk is just full.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from queuectl_magics.journal import write_file

BYTES = 64 * 1024


def put_by(path: Path) -> None:
    """Take up space on the disk, unless that was done before."""
    with suppress(OSError):
        if not path.exists() or not path.stat().st_size:
            write_file(path, b"\0" * BYTES)


def give_up(path: Path) -> bool:
    """Free the space; False if there was none."""
    try:
        if path.stat().st_size == 0:
            return False
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def leave_alone() -> bool:
    """Free nothing, for a change that is not vital."""
    return False
