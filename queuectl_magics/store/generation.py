"""One generation of the store: an open journal, folded into a table as far as it was read.

A compaction starts a new generation. A crash can leave a torn last line; a power cut can leave a
hole before lines that did reach the disk; neither was ever acknowledged, so both may be cut off.
Anything else was acknowledged and then changed: it is refused, with the place and the way out. The
rules here: when in doubt it is damage, for a lost line would be a lost job; and a whole line that
was once visible is never taken back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from queuectl_magics import codec
from queuectl_magics.codec import Booted, Opened
from queuectl_magics.errors import StoreDamagedError
from queuectl_magics.events import Event
from queuectl_magics.journal import LINE_START, begin_sync, number, write_all
from queuectl_magics.lifecycle import IllegalTransitionError
from queuectl_magics.store.home import Paths
from queuectl_magics.table import Table

REPAIR = "nothing was changed; `queuectl repair` explains what can be saved"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Generation:
    """An open journal and the table that it folds into.

    Attributes:
        fd, inode: the open file; -1 when it was closed.
        header: the first line of the journal.
        base_seq: the event up to which the snapshot in the header reaches.
        table: the jobs as of the last line that was taken in.
        offset: how many bytes of the file have been taken in.
        boot: the start of the machine in which the latest line was written.
        durable: the highest event that is known to be on disk.
        trusted: False while a change is half done: if it stays so, read everything again.

    """

    def __init__(
        self, paths: Paths, fd: int, *, header: Opened, base_seq: int, table: Table, offset: int
    ) -> None:
        self.paths = paths
        self.fd = fd
        self.inode = os.fstat(fd).st_ino
        self.header = header
        self.base_seq = base_seq
        self.table = table
        self.offset = offset
        self.boot = header.boot
        self.durable = base_seq
        self.trusted = False
        self._appended_at: int | None = None

    def close(self) -> None:
        """Close the file; what was read stays."""
        fd, self.fd = self.fd, -1  # in this order: a descriptor must not be closed twice
        self.trusted = False
        if fd >= 0:
            os.close(fd)

    def __reduce__(self) -> str:
        """Refuse to be copied: a copy would close the descriptor that is not its own."""
        msg = "an open journal cannot be copied: open the home again"
        raise TypeError(msg)

    def __del__(self) -> None:  # a queue that is dropped, as in `JobQueue().status()`
        self.close()

    # --- reading ------------------------------------------------------------------------------

    def take(self, data: bytes, start: int = 0) -> bytes:
        """Fold the whole lines of *data* from *start* on; return the bytes that are left over.

        Lines that the table has seen already are passed over. It stops at the first line that is
        not whole or not next: another process may be writing it at this moment.

        Raises:
            StoreDamagedError: a whole line contradicts what came before it.

        """
        table, taken, durable = self.table, start, 0
        self.trusted = False
        while (end := data.find(b"\n", taken)) >= 0:
            line = data[taken:end]
            found = number(line)
            if found is None or found.seq > table.seq + 1:
                break
            if found.seq > table.seq:
                self._fold(line, found.seq)
                durable = found.durable  # it never falls from line to line: all writers read all
            elif b'"op":"booted"' in line:
                self._note_boot(line)
            taken = end + 1
        self.offset += taken - start
        self.durable = max(self.durable, durable)
        self.trusted = True
        return data[taken:]

    def _fold(self, line: bytes, seq: int) -> None:
        try:
            found = codec.decode_line(line)
            if isinstance(found, Event):
                self.table.fold(found)
            else:  # a note of the journal itself
                self.table.pass_over()
                self._note_boot(line)
        except (*codec.Unreadable, IllegalTransitionError) as error:
            msg = (
                f"{self.paths.journal}: event {seq} makes no sense here ({error}): it was written "
                f"by a newer queuectl_magics, or by hand; {REPAIR}"
            )
            raise StoreDamagedError(msg) from error

    def _note_boot(self, line: bytes) -> None:
        found = codec.decode_line(line)
        if isinstance(found, Booted):
            self.boot = found.boot

    def judge(self, rest: bytes, boot: str) -> None:
        """Accept that *rest*, which starts with a bad line, is cut off; the lock is held.

        A line can be torn by a kill: then it has no newline yet. After another start of the
        machine (*boot*; unknown if empty) anything may be left of what had not been acknowledged,
        and only a later line that knew the bad one to be on disk gives damage away.

        Raises:
            StoreDamagedError: the bad line had been acknowledged.

        """
        wanted = self.table.seq + 1
        parts = rest.split(LINE_START)[1:]  # not at newlines: one of them may be what was changed
        lines = [number(LINE_START + part.partition(b"\n")[0]) for part in parts if b"\n" in part]
        later = [found for found in lines if found is not None and found.seq >= wanted]
        if self.boot == boot != "":
            damaged = bool(later) or (b"\n" in rest and rest.strip(b"\n") != b"")
        else:
            damaged = any(found.durable >= wanted for found in later)
        if damaged:
            msg = (
                f"{self.paths.journal}: the line of event {wanted}, at byte {self.offset}, is "
                f"damaged; {REPAIR}"
            )
            raise StoreDamagedError(msg)

    def cut(self, rest: bytes) -> None:
        """Cut off *rest*, on which judgement was passed, and keep it aside; the lock is held."""
        with suppress(OSError):  # a full disk: nothing that was promised is in there
            _set_aside(self.paths, self.table.seq, rest)
        os.ftruncate(self.fd, self.offset)

    # --- writing ------------------------------------------------------------------------------

    def append(
        self, lines: Sequence[bytes], make_room: Callable[[], bool]
    ) -> tuple[int, OSError | None]:
        """Write *lines*; return how many are whole in the file and, if not all are, why.

        The caller holds the lock, has caught up, and folds the whole ones. On a full disk
        *make_room* is asked once for more.
        """
        self._appended_at = self.offset
        data = memoryview(b"".join(lines))
        written, problem = 0, None
        while written < len(data):
            try:
                written += os.write(self.fd, data[written:])
            except OSError as error:
                if error.errno in DISK_FULL and make_room():
                    continue
                problem = error
                break
        if problem is None:
            self.offset += written
            return len(lines), None
        whole, kept = 0, 0
        while kept + len(lines[whole]) <= written:
            kept += len(lines[whole])
            whole += 1
        with suppress(OSError):  # else the next writer finds a torn tail
            os.ftruncate(self.fd, self.offset + kept)
        self.offset += kept
        return whole, problem

    def begin_sync(self) -> None:
        """Let the disk begin with what was appended last, if anything was."""
        if self._appended_at is not None:
            begin_sync(self.fd, self._appended_at, self.offset)


def _set_aside(paths: Paths, seq: int, rest: bytes) -> None:
    fd = os.open(paths.torn(seq), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        write_all(fd, rest)
    finally:
        os.close(fd)
