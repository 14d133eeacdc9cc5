"""Open a journal with its snapshot; write the first pair of a new home.

`jobs.json` may be the snapshot that the journal's header names, or one that a line of the journal
announced (a compaction was cut short between its two renames). The rule here: a pair that does not
belong together is refused, never guessed at; and what another tool wrote is taken over as a whole
or not at all.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from datetime import datetime
from zlib import crc32

from queuectl_magics import clock, codec, validation
from queuectl_magics.codec import FORMAT, Announced, Opened
from queuectl_magics.errors import HomeGoneError, InvalidInputError, StoreDamagedError
from queuectl_magics.job import JobRecord, JobSpec
from queuectl_magics.journal import frame, number, read_span, sync_folder, write_file
from queuectl_magics.lock import Lock
from queuectl_magics.settings import RETRIES_MAX
from queuectl_magics.store.generation import REPAIR, Generation
from queuectl_magics.store.home import Paths
from queuectl_magics.table import Table


def checksum(data: bytes) -> str:
    """Return the CRC-32 of *data* as eight hexadecimal digits."""
    return f"{crc32(data):08x}"


def snapshot_text(jobs: list[JobRecord], slice_size: int = 500) -> bytes:
    """Return the text of `jobs.json`: an array, one job per line.

    It is made slice by slice, so that other threads get their turn.
    """
    if not jobs:
        return b"[]\n"
    starts = range(0, len(jobs), slice_size)
    slices = [codec.encode_jobs(jobs[start : start + slice_size]) for start in starts]
    return b"[\n" + b",\n".join(slices) + b"\n]\n"


# --- a new home ---------------------------------------------------------------------------------


def create_if_missing(paths: Paths, boot: str, timeout_s: float) -> None:
    """Write the first journal of a home, beside the `jobs.json` of an older tool if there is one.

    Raises:
        StoreBusyError: another process has been at it for *timeout_s* seconds.
        StoreDamagedError: there is a `jobs.json`, but it holds no jobs, or a journal of its own
            has been lost.

    """
    if paths.journal.exists():
        return
    only_one = Lock(paths.compact_lock)
    try:
        only_one.acquire(timeout_s)
        if not paths.journal.exists():
            _create(paths, clock.utc_now(), boot)
    finally:
        only_one.close()


def imported(text: bytes, now: datetime) -> list[JobRecord]:
    """Return the jobs of a `jobs.json` that another tool wrote, if all of them can be ours.

    Raises:
        InvalidInputError: they cannot; the message names the first thing that is wrong.

    """
    jobs = codec.decode_classic_jobs(text, now)
    _check_import(jobs)
    return jobs


def _create(paths: Paths, now: datetime, boot: str) -> None:
    if paths.journal_prev.exists():
        msg = f"{paths.journal} is missing; {REPAIR}"
        raise StoreDamagedError(msg)
    for folder in paths.home.parents:  # the home itself may be new, and so may what it lies in
        with suppress(OSError):
            sync_folder(folder)
    try:
        old = paths.jobs.read_bytes()
    except FileNotFoundError:
        old = b""
    try:
        jobs = imported(old, now)
    except InvalidInputError as error:
        msg = f"{paths.jobs} cannot be imported: {error} (mend it, or move it away)"
        raise StoreDamagedError(msg) from None
    snapshot = snapshot_text(jobs)
    if jobs and old != snapshot:  # else it is our own, of an import that was cut short
        write_file(paths.jobs_prev, old)
        sync_folder(paths.home)
    opened = Opened(
        at=now,
        format=FORMAT,
        store=uuid.uuid4().hex,
        generation=1,
        boot=boot,
        next_number=Table(jobs).next_number,
        snapshot_bytes=len(snapshot),
        snapshot_crc=checksum(snapshot),
    )
    drafts = {paths.jobs: snapshot, paths.journal: frame(len(jobs), 0, codec.encode_line(opened))}
    for path, text in drafts.items():
        draft = path.with_suffix(".tmp")
        write_file(draft, text)
        draft.rename(path)
        sync_folder(paths.home)


def _check_import(jobs: list[JobRecord]) -> None:
    seen: set[str] = set()
    for job in jobs:
        if job.id in seen:
            msg = f"it has two jobs with the id {job.id!r}"
            raise InvalidInputError(msg)
        seen.add(job.id)
        try:
            validation.check(JobSpec(command=job.command, id=job.id, max_retries=job.max_retries))
            validation.check_range("attempts", job.attempts, RETRIES_MAX)
        except InvalidInputError as error:
            msg = f"job {job.id!r}: {error}"
            raise InvalidInputError(msg) from None


# --- an existing one ----------------------------------------------------------------------------


def open_generation(paths: Paths, known: Generation | None) -> tuple[Generation, bytes] | None:
    """Open the journal; return it with its text, of which only the first line is taken in.

    If what is *known* reaches at least as far as the journal's snapshot, its table is taken over,
    and the snapshot is not read. None if `jobs.json` and the journal do not belong together; that
    is damage, unless another process is exchanging the two at this moment.

    Raises:
        HomeGoneError: it is the journal of another store, or an older one.
        StoreDamagedError: its first line is not one that we can read.

    """
    fd = os.open(paths.journal, os.O_RDWR | os.O_APPEND)
    opened = None
    try:
        data = read_span(fd, 0, os.fstat(fd).st_size)
        offset = data.find(b"\n") + 1
        seq, header = _read_header(paths, data[: max(offset - 1, 0)])
        if known is not None:
            _check_same(paths, known, header, os.fstat(fd).st_ino)
        if known is not None and known.trusted and known.table.seq >= seq:
            table = known.table
        else:
            found = _read_snapshot(paths, seq, header, data)
            if found is None:
                return None
            table = found
        opened = Generation(paths, fd, header=header, base_seq=seq, table=table, offset=offset)
    finally:
        if opened is None:
            os.close(fd)
    if known is not None:
        opened.durable = max(opened.durable, known.durable)
    return opened, data


def _check_same(paths: Paths, known: Generation, header: Opened, inode: int) -> None:
    """Refuse a journal that is not what became of the one that we know; never merge the two."""
    older = header.generation <= known.header.generation and inode != known.inode
    if header.store != known.header.store or older:
        msg = f"the queue's home {paths.home} was replaced while it was in use: reopen it"
        raise HomeGoneError(msg)


def _read_header(paths: Paths, line: bytes) -> tuple[int, Opened]:
    found, header = number(line), None
    if found is not None:  # else anything may stand there
        with suppress(*codec.Unreadable):
            header = codec.decode_header(line)
    if found is None or header is None:
        msg = f"{paths.journal}: line 1 is damaged; {REPAIR}"
        raise StoreDamagedError(msg)
    if header.format != FORMAT:
        msg = (
            f"{paths.journal} is written as {header.format}, this version reads {FORMAT}: "
            "use a newer queuectl_magics"
        )
        raise StoreDamagedError(msg)
    return found.seq, header


def _read_snapshot(paths: Paths, seq: int, header: Opened, journal: bytes) -> Table | None:
    """Return `jobs.json` as a table as of the event it reaches up to, or None if it is another."""
    try:
        text = paths.jobs.read_bytes()
    except FileNotFoundError:
        return None
    key = (len(text), checksum(text))
    if key == (header.snapshot_bytes, header.snapshot_crc):
        return Table(codec.decode_jobs(text), seq, header.next_number)
    for line in journal.split(b"\n"):
        if b'"op":"announced"' in line and number(line) is not None:
            note = codec.decode_line(line)
            if isinstance(note, Announced) and key == (note.snapshot_bytes, note.snapshot_crc):
                return Table(codec.decode_jobs(text), note.upto, note.next_number)
    return None
