"""The variables of the environment that we listen to, and where the home is by default.

`QUEUECTL_HOME` names the queue's directory, `QUEUECTL_PLAIN` asks for output that never varies.
The rule here: this is all that `%load_ext` has to know, so nothing is imported for it.
"""

from __future__ import annotations

import os
from pathlib import Path

from queuectl_magics.errors import HomeError, InvalidInputError

HOME_VARIABLE = "QUEUECTL_HOME"
PLAIN_VARIABLE = "QUEUECTL_PLAIN"
ALLOW_NETWORK_VARIABLE = "QUEUECTL_ALLOW_NETWORK_HOME"
HOME_DEFAULT = ".queuectl"


def find_home(home: str | os.PathLike[str] | None = None) -> Path:
    """Return the absolute home: *home*, or `QUEUECTL_HOME`, or `.queuectl` where we stand.

    Raises:
        InvalidInputError: it is no name of a directory.
        HomeError: we stand in a directory that has been deleted.

    """
    given: object = home if home is not None else os.environ.get(HOME_VARIABLE) or HOME_DEFAULT
    named = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(named, str) or not named.strip() or "\0" in named or not _can_name(named):
        msg = f"{named!r} cannot be the queue's home: name a directory, like .queuectl"
        raise InvalidInputError(msg)
    try:
        path = Path(named).expanduser()
    except RuntimeError:
        msg = f"{named!r} cannot be the queue's home: there is no such user"
        raise InvalidInputError(msg) from None
    return path if path.is_absolute() else Path(current_folder(), path)


def _can_name(path: str) -> bool:
    """Say whether a file can be named so, here and in this locale."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def current_folder() -> str:
    """Return the directory where we stand.

    Raises:
        HomeError: it has been deleted.

    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        msg = "the directory you are in has been deleted: go to another one (cd)"
        raise HomeError(msg) from None


def plain() -> bool:
    """Say whether `QUEUECTL_PLAIN` asks for output without times and ids that vary."""
    return os.environ.get(PLAIN_VARIABLE, "").lower() not in ("", "0", "false", "no")
