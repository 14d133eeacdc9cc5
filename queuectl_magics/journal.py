r"""Numbered JSON lines: what one line of the journal looks like, and where the good ones end.

A line is a JSON object that anyone can read, with its number in front and a CRC-32 of everything
before it at its end; its newline is its commit mark. So a line that was torn by a power cut, or
changed by a disk or an editor, is told from a whole one. The rule here: bytes only; what the
events mean, and when a bad line may be cut off, is the store's business. Lines are split at `\n`
and nowhere else: a command may contain any other line separator.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from zlib import crc32

import msgspec

StrPath = str | os.PathLike[str]
LINE_START = b'{"seq":'  # which no line holds but at its start: texts have their quotes escaped
_TAIL = len(b',"crc":"00000000"}')


def frame(seq: int, durable: int, body: bytes) -> bytes:
    r"""Return the JSON object *body* as line number *seq*.

    *durable* is the highest number that the writer knew to be on disk when it wrote.

    Example:
        >>> frame(7, 6, b'{"op":"pruned","id":"1"}')
        b'{"seq":7,"d":6,"op":"pruned","id":"1","crc":"210f7b4e"}\n'

    """
    text = b'{"seq":%d,"d":%d,%b' % (seq, durable, body[1:-1])
    return b'%b,"crc":"%08x"}\n' % (text, crc32(text))


class Number(msgspec.Struct, frozen=True, gc=False):
    """The numbers in front of a line."""

    seq: int
    durable: int = msgspec.field(name="d")


_numbers = msgspec.json.Decoder(Number)


def number(line: bytes) -> Number | None:
    """Return the numbers of *line* (without its newline), or None if it is not whole."""
    if line[-_TAIL:] != b',"crc":"%08x"}' % crc32(line[:-_TAIL]):
        return None
    try:
        return _numbers.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_span(fd: int, start: int, end: int) -> bytes:
    """Return the bytes of *fd* from *start* to *end*, or to the end of the file."""
    parts = []
    while start < end and (part := os.pread(fd, end - start, start)):
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_file(path: StrPath, data: bytes) -> None:
    """Write a whole new file, readable by its owner only, and see it to the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(fd, data)
        sync_data(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*; the system may take it in several pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: Path) -> None:
    """See the names in the folder *path* to the disk, so that a rename survives a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_data(fd: int) -> None:
    """See the data written to *fd* to the disk; on macOS through the drive's own cache."""
    flush_drive = getattr(fcntl, "F_FULLFSYNC", None)
    if flush_drive is None:
        os.fdatasync(fd)
    else:
        fcntl.fcntl(fd, flush_drive)


def begin_sync(fd: int, start: int, end: int) -> None:
    """Let the disk begin with bytes *start* to *end* of *fd*; `sync_data` has less to wait for.

    Source: posix_fadvise(2). Linux begins to write what it is told that nobody needs; what is
    being written stays in memory. Elsewhere, and where that fails, nothing is done.
    """
    if end > start and hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_DONTNEED)


@cache
def boot_id() -> str:
    """Return a short word that changes at every start of the machine; empty if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        pass
    import subprocess

    asked = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout[:8]
    except (OSError, subprocess.CalledProcessError):
        return ""
