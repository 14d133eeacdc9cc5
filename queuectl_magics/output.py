"""The log of an attempt: what its command printed, read in pieces, and kept from growing for ever.

A command writes straight into its log file, with nobody in between, so a log may be huge, may
still grow, and may hold anything at all. When it outgrows its limit the middle is given back to
the disk: the file keeps its length, the beginning and the end stay where they are, and a line of
ours says how much is gone. The rule here: read by byte offset and only as much as was asked for;
bytes that are no UTF-8 become the replacement character, never an error.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from queuectl_magics.journal import StrPath

CHUNK = 64 * 1024
BLOCK = 4096
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_NOTE = "\n[queuectl: {bytes:>15,} bytes of output were dropped here, see --max-output]\n"


def log_name(id: str, attempt: int) -> str:
    """Return the name of the log of that attempt."""
    return f"{id}.{attempt}.log"


def log_path(folder: Path, id: str, attempt: int) -> Path:
    """Return where the output of that attempt is kept."""
    return folder / log_name(id, attempt)


def read_text(path: Path) -> str:
    """Return all of the log, or an empty text if there is none."""
    return b"".join(_pieces(path)).decode("utf-8", errors="replace")


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield what is in the file, passing over what was given back to the disk."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        end, at = os.fstat(fd).st_size, 0
        while at < end:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
                stop = os.lseek(fd, start, os.SEEK_HOLE)
            except OSError:  # nothing but a hole is left, or a file system without holes
                start, stop = at, end
            while piece := os.pread(fd, min(stop - start, CHUNK), start):
                yield piece
                start += len(piece)
            at = stop
    finally:
        os.close(fd)


def read_from(path: Path, offset: int, limit: int = CHUNK) -> tuple[bytes, int]:
    """Return at most *limit* bytes from byte *offset* on, and the offset at which to go on."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b"", offset
    try:
        if offset < os.fstat(fd).st_size:
            with contextlib.suppress(OSError):  # a file system without holes
                offset = os.lseek(fd, offset, os.SEEK_DATA)
        piece = os.pread(fd, limit, offset)
        return piece, offset + len(piece)
    finally:
        os.close(fd)


def tail(path: Path, lines: int, bytes_max: int | None = None) -> tuple[bytes, int]:
    """Return the last *lines* lines as they are, and the offset at which to go on.

    Reads backwards, as far as it takes or, for a view, *bytes_max* bytes at most: a line may be of
    any length. Lines that were dropped from the middle do not count.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b"", 0
    try:
        end = at = os.fstat(fd).st_size
        first = max(0, end - bytes_max) if bytes_max is not None else 0
        pieces: list[bytes] = []
        newlines = 0
        while at > first and newlines <= lines:
            begin = max(first, at - CHUNK)
            piece = os.pread(fd, at - begin, begin)
            at = begin if not piece.startswith(b"\0") else _end_before_hole(fd, begin)
            pieces.append(piece.lstrip(b"\0").replace(b"\0" * BLOCK, b""))
            newlines += piece.count(b"\n")
    finally:
        os.close(fd)
    data = b"".join(reversed(pieces))
    kept = data.split(b"\n")[-(lines + data.endswith(b"\n")) :] if lines else []
    return b"\n".join(kept), end


def _end_before_hole(fd: int, at: int) -> int:
    """Return where the bytes before the hole end that *at* lies in, or *at* if it lies in none."""
    with contextlib.suppress(OSError):  # a file system without holes
        hole = os.lseek(fd, 0, os.SEEK_HOLE)
        if hole < at < os.lseek(fd, hole, os.SEEK_DATA):
            return hole
    return at


def size(path: StrPath) -> int:
    """Return the length of the log, with what was dropped."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def limit(path: StrPath, bytes_max: int) -> None:
    """Drop the middle of a log that is longer than *bytes_max*."""
    if size(path) > bytes_max:
        drop_middle(path, bytes_max)


def drop_middle(path: StrPath, bytes_max: int) -> None:
    """Give the middle of the log back to the disk, so that about *bytes_max* bytes are kept.

    Half of what is kept is the beginning, half the end; a line between them says how much is gone.
    Does nothing where the system cannot punch holes into a file.
    """
    head = max(BLOCK, bytes_max // 2 // BLOCK * BLOCK)
    try:
        fd = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        end = (os.fstat(fd).st_size - head) // BLOCK * BLOCK
        if end > head and _punch(fd, head, end - head):
            note = _NOTE.format(bytes=end - head).encode()
            os.pwrite(fd, note, head - len(note))
    finally:
        os.close(fd)


def _punch(fd: int, offset: int, length: int) -> bool:
    """Free those bytes of the file, by fallocate(2) with FALLOC_FL_PUNCH_HOLE."""
    if sys.platform != "linux":
        return False
    import ctypes

    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    done: int = fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length)
    return done == 0
