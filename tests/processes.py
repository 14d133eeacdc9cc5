"""Which processes of this machine belong to a test: told by their words, never by their names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path


def words_of(pid: int, *files: str) -> set[bytes]:
    """Return the words in those files of a process; none if it is gone or not ours to read."""
    with contextlib.suppress(OSError):
        texts = [Path(f"/proc/{pid}/{file}").read_bytes() for file in files]
        return {word for text in texts for word in text.split(b"\0")}
    return set()


def pids() -> list[int]:
    """Return all processes but this one."""
    found = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return [pid for pid in found if pid != os.getpid()]


def stat_of(pid: int) -> list[str]:
    """Return state, parent, group, session and what follows; nothing if the process is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def is_alive(pid: int) -> bool:
    """Say whether that is a process, and no zombie."""
    return stat_of(pid)[:1] not in ([], ["Z"])


def session_of(leader: int) -> list[int]:
    """Return the processes in the session that *leader* began, whether it still lives or not."""
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


def processes_with(*words: bytes, files: Sequence[str] = ("environ", "cmdline")) -> list[int]:
    """Return the living processes that have one of *words* in their environment or arguments."""
    return [pid for pid in pids() if words_of(pid, *files) & {*words}]


def guards_of(home: Path) -> list[int]:
    """Return the processes that guard that home."""
    told = {b"queuectl_magics.guard", os.fsencode(home)}
    return [pid for pid in pids() if told <= words_of(pid, "cmdline")]
