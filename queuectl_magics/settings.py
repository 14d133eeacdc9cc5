"""What can be configured, where it is kept, and how a duration is written.

The settings of a queue lie in `config.json` in its home, so that every kernel and terminal that
uses the home agrees; a job keeps the values that held when it was enqueued. The rule here: a value
is checked once, at the door, with an error that names what is allowed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from queuectl_magics.errors import HomeError, InvalidInputError, did_you_mean
from queuectl_magics.job import BACKOFF_BASE, BACKOFF_CAP_S

RETRIES_MAX = 1_000_000
SECONDS_MAX = 10 * 365 * 86_400.0
COUNT_MAX = 1_000
KEPT_MAX = 10_000_000
SIZE_MAX = 2**50
BASE_MAX = 1_000_000.0

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SIZE = r"(\d+(?:\.\d+)?)\s*([kmgt])?(?:i?b)?"  # compiled when it is needed
_PART = r"(\d+(?:\.\d+)?)(ms|[smhdw]?)"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one queue; times in seconds.

    `durability` is `commit` (a change is on disk before it is acknowledged) or `none` (a power cut
    may take the last moments). `count` is how many jobs a worker runs side by side. While `paused`
    no worker starts a job; what runs goes on. Of jobs that completed or were cancelled an
    idle worker moves all but the newest `keep_finished` to the archive; none is dropped, and dead
    ones stay.
    """

    max_retries: int = 3
    backoff_base: float = BACKOFF_BASE
    backoff_cap: float = BACKOFF_CAP_S
    count: int = 1
    durability: str = "commit"
    paused: bool = False
    keep_finished: int = 20_000


def parse_duration_s(text: str | float) -> float:
    """Return the seconds in *text*: `90`, `90s`, `10m`, `6h`, `2d`, `1h30m`, `500ms`.

    Raises:
        InvalidInputError: it is no duration, or longer than ten years.

    Example:
        >>> parse_duration_s("1h30m")
        5400.0

    """
    if isinstance(text, float):
        seconds = text
    else:
        word = str(text).strip().lower().replace(" ", "")
        parts = re.findall(_PART, word)
        if not parts or "".join(number + unit for number, unit in parts) != word:
            msg = f"{str(text)!r} is no duration: write 90, 90s, 10m, 6h or 2d"
            raise InvalidInputError(msg)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= seconds <= SECONDS_MAX:
        msg = f"{str(text)!r} is too long: at most ten years (3650d)"
        raise InvalidInputError(msg)
    return seconds


def parse_size_bytes(text: str | int) -> int:
    """Return the bytes in *text*: `500000`, `64k`, `256M`, `1.5GiB`; a unit counts by 1024.

    Raises:
        InvalidInputError: it is no size.

    Example:
        >>> parse_size_bytes("64k")
        65536

    """
    found = re.fullmatch(_SIZE, str(text).strip().lower())
    if found is None:
        msg = f"{str(text)!r} is no size: write 500000, 64k, 256M or 2G"
        raise InvalidInputError(msg)
    size = float(found[1]) * 1024 ** " kmgt".index(found[2] or " ")
    if size > SIZE_MAX:
        msg = f"{str(text)[:40]!r} is too large for a size: at most {SIZE_MAX:,} bytes"
        raise InvalidInputError(msg)
    return int(size)


def _whole(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        msg = f"{text!r} does not fit: a whole number from {low} to {high:,}"
        raise InvalidInputError(msg)
    return value


def _base(text: str | float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= BASE_MAX:
        msg = f"{text!r} does not fit: a number from 0 to {BASE_MAX:,.0f}"
        raise InvalidInputError(msg)
    return value


def _durability(text: str) -> str:
    if text not in ("commit", "none"):
        near = did_you_mean(text, ("commit", "none"))
        msg = f"{text!r} does not fit: commit or none" + (f".{near}" if near else "")
        raise InvalidInputError(msg)
    return text


def _yes_or_no(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    if text.lower() not in words:
        msg = f"{text!r} does not fit: true or false"
        raise InvalidInputError(msg)
    return words[text.lower()]


PARSERS: dict[str, Any] = {
    "max-retries": lambda text: _whole(text, 0, RETRIES_MAX),
    "backoff-base": _base,
    "backoff-cap": parse_duration_s,
    "count": lambda text: _whole(text, 1, COUNT_MAX),
    "durability": _durability,
    "paused": _yes_or_no,
    "keep-finished": lambda text: _whole(text, 0, KEPT_MAX),
}


def _parsed(name: str, value: object) -> Any:
    """Return *value* as it is kept; a duration is taken as it is, for no person writes 1e-05."""
    parse = PARSERS[name]
    is_kept = parse is parse_duration_s and isinstance(value, float)
    return parse(value if is_kept else str(value).strip())


def setting_name(key: str) -> str:
    """Return the name of the setting *key*, which may be written with `_`.

    Raises:
        InvalidInputError: there is no such setting.

    """
    name = str(key).strip().lower().replace("_", "-")
    if name not in PARSERS:
        near = did_you_mean(name, PARSERS)
        msg = f"there is no setting {key!r}.{near} Known: {', '.join(PARSERS)}"
        raise InvalidInputError(msg)
    return name


def read_config(home: Path) -> Config:
    """Return the settings kept in *home*; the defaults where there are none.

    Raises:
        HomeError: `config.json` was damaged by hand.

    """
    path = home / "config.json"
    try:
        config = msgspec.json.decode(path.read_bytes(), type=Config)
        for name in PARSERS:
            _parsed(name, getattr(config, name.replace("-", "_")))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}): try again"
        raise HomeError(msg) from None
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidInputError) as error:
        msg = f"{path} cannot be read ({error}): mend it, or delete it to return to the defaults"
        raise HomeError(msg) from None
    return config


NO_FILE = (0, 0)


class Settings:
    """The settings of one *home*, read again only when their file was replaced."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = os.fspath(home / "config.json")
        self._known: tuple[tuple[int, int], Config] = ((-1, -1), Config())

    def read(self) -> Config:
        """Return them as they are now.

        Raises:
            HomeError: `config.json` was damaged by hand.

        """
        version = self._version()
        if version != self._known[0]:
            self._known = version, read_config(self._home)
        return self._known[1]

    def _version(self) -> tuple[int, int]:
        """Return what changes when the file is replaced."""
        if self._known[0] == NO_FILE and not os.access(self._path, os.F_OK):
            return NO_FILE  # most homes have none, and an exception costs more than the look
        try:
            about = os.stat(self._path)
        except FileNotFoundError:
            return NO_FILE
        return about.st_mtime_ns, about.st_ino


def write_setting(home: Path, key: str, value: str | float) -> Config:
    """Set *key* to *value* in *home* and return the settings as they are now.

    Raises:
        InvalidInputError: no such setting, or a value that does not fit; nothing was changed.
        HomeError: the disk is full, or the settings cannot be read.

    """
    name = setting_name(key)
    parsed = _parsed(name, value)
    config = msgspec.structs.replace(read_config(home), **{name.replace("-", "_"): parsed})
    path = home / "config.json"
    draft = path.with_name(f"config.{os.getpid()}.tmp")
    try:
        with open(draft, "wb", opener=_private) as file:
            file.write(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        msg = f"{path} cannot be written ({error.strerror}): {name} is as it was"
        raise HomeError(msg) from None
    return config


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
