"""The archive: jobs that are over and beyond the limit, one line each, in a file per month.

A queue of a hundred thousand finished jobs would be slow to open for the sake of its past. So an
idle worker moves the oldest that completed or were cancelled to `archive-YYYYMM.jsonl`, a few at a
time; dead ones stay, and logs stay. The rules here: a job's line is on the disk before the event
that takes the job out of the store is written, and a job that is in the store is not in the
archive, whatever that says; so a crash between the two neither loses a job nor shows it twice. An
archived job is history: it can be looked at and pruned, and its short number is never used again;
an id that a person chose may be, and then means the newest job of that id.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from pathlib import Path

import msgspec

from queuectl_magics import clock, codec, lifecycle
from queuectl_magics.errors import QueuectlError
from queuectl_magics.events import JobEvent
from queuectl_magics.job import JobRecord, State
from queuectl_magics.journal import sync_data, sync_folder, write_all, write_file
from queuectl_magics.settings import read_config
from queuectl_magics.store.compaction import tidy_if_cheap
from queuectl_magics.store.store import Store
from queuectl_magics.table import Table

MOVED = (State.COMPLETED, State.CANCELLED)
SLICE = 200
SLICES_MAX = 10
BLOCK = 256 * 1024
DRAFT_AGE_S = 3600.0


def tidy(store: Store) -> None:
    """Do what an idle worker does: archive what is beyond the limit, then fold the journal."""
    try:
        move_finished(store, read_config(store.paths.home).keep_finished)
    except (OSError, QueuectlError):
        return  # a full disk, a lock that is held: another time
    tidy_if_cheap(store)


def move_finished(store: Store, keep: int) -> int:
    """Move jobs that completed or were cancelled to the archive, until *keep* of them are left.

    Returns how many were moved. The oldest ends go first; dead jobs stay and do not count. At most
    `SLICES_MAX` slices at a time, and others may take the lock between them.
    """
    with store.reading() as table:
        over = sum(table.counts[state] for state in MOVED)
        if over <= keep:
            return 0
        jobs = list(table.jobs.values())
    count = min(over - keep, SLICE * SLICES_MAX)
    movable = (job for job in jobs if job.state in MOVED)
    oldest = heapq.nsmallest(count, movable, key=attrgetter("updated_at", "seq"))
    return sum(_move(store, oldest[at : at + SLICE]) for at in range(0, len(oldest), SLICE))


def _move(store: Store, jobs: Sequence[JobRecord]) -> int:
    def decide(table: Table, now: datetime) -> list[JobEvent]:
        unchanged = [job for job in jobs if _is_same(table.jobs.get(job.id), job)]
        forget_unfinished(store.paths.home, table)
        _append(store.paths.home, unchanged, now)
        store.at("archived")
        return [lifecycle.prune(job, now=now) for job in unchanged]

    return len(store.transact(decide))


def _is_same(current: JobRecord | None, job: JobRecord) -> bool:
    return current is not None and current.seq == job.seq


def paths(home: Path) -> list[Path]:
    """Return the files of the archive, oldest first."""
    return sorted(home.glob(f"archive-{'[0-9]' * 6}.jsonl"))


def _append(home: Path, jobs: Sequence[JobRecord], now: datetime) -> None:
    """See the lines of *jobs* to the disk; on an error the file is as it was."""
    if not jobs:
        return
    path = max([*paths(home)[-1:], home / f"archive-{now:%Y%m}.jsonl"])
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(fd).st_size
        text = b"".join(codec.encode_jobs([job]) + b"\n" for job in jobs)
        try:
            write_all(fd, text)
            sync_data(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)
    sync_folder(home)


def forget_unfinished(home: Path, table: Table) -> None:
    """Cut the lines at the end whose jobs are still in *table*; the lock of the store is held.

    They are what a crash leaves between the archive and the store: were they kept, a job that is
    pruned later would come back.
    """
    for path in paths(home)[-1:]:
        size = keep = path.stat().st_size
        for begin, line in _backwards(path):
            job = _job(line)
            if job is not None and not is_in(table.jobs, job):
                break
            if job is not None or begin + len(line) == size:  # or a line that was being written
                keep = begin
        if keep < size:
            fd = os.open(path, os.O_WRONLY)
            try:
                os.ftruncate(fd, keep)
                sync_data(fd)
            finally:
                os.close(fd)


def drop(store: Store, jobs: Iterable[JobRecord]) -> None:
    """Take these jobs out of the archive; each file is exchanged as a whole or left as it is.

    A file is read and written anew without the lock, for it may be long; under the lock it is
    given its name, if it is still what was read.
    """
    unwanted = {(job.id, job.order) for job in jobs}
    for draft in store.paths.home.glob("archive-*.tmp"):  # of somebody who was killed
        with suppress(FileNotFoundError):
            if clock.utc_now().timestamp() - draft.stat().st_mtime > DRAFT_AGE_S:
                draft.unlink()
    for path in paths(store.paths.home) if unwanted else []:
        while not _exchange(store, path, unwanted):
            pass


def _exchange(store: Store, path: Path, unwanted: Collection[tuple[str, int]]) -> bool:
    """Give *path* a text without the *unwanted*; False if somebody changed it meanwhile."""
    draft = path.with_suffix(f".{os.urandom(4).hex()}.tmp")
    try:
        read = path.read_bytes()
    except FileNotFoundError:
        return True
    lines = read.split(b"\n")
    kept = [
        line
        for line in lines
        if (job := _job(line)) is None or (job.id, job.order) not in unwanted
    ]
    if len(kept) == len(lines):
        return True
    text = b"\n".join(kept)
    try:
        write_file(draft, text)
        with store.exclusive(timeout_s=None):
            if not path.exists() or path.read_bytes() != read:
                return False
            draft.rename(path) if text else path.unlink()
            sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return True


def records(
    home: Path, kept: Mapping[str, JobRecord], *, name: str | None = None
) -> list[JobRecord]:
    """Return the archived jobs, in the order in which they came to the queue, each of them once.

    *kept* are the jobs of the store, looked at before the archive is. With *name* only those that
    have it; other lines are not even decoded.
    """
    part = b"" if name is None else b'"name":%b' % msgspec.json.encode(name)
    found: dict[tuple[str, int], JobRecord] = {}
    for path in paths(home):
        with path.open("rb") as lines:
            for job in (_job(line) for line in lines if part in line):
                if job is not None and not is_in(kept, job) and name in (None, job.name):
                    found[job.id, job.order] = job
    return sorted(found.values(), key=attrgetter("order"))


def find(home: Path, id: str, kept: Mapping[str, JobRecord]) -> JobRecord | None:
    """Return the newest archived job of this id, or None."""
    return find_all(home, [id], kept).get(id)


def find_all(
    home: Path, ids: Iterable[str], kept: Mapping[str, JobRecord]
) -> dict[str, JobRecord]:
    """Return the newest archived job of each id that there is; *kept* as in `records`."""
    wanted = {b'{"id":%b' % msgspec.json.encode(id): id for id in ids}
    found: dict[str, JobRecord] = {}
    for path in reversed(paths(home)):
        for _, line in _backwards(path):
            if len(found) == len(wanted):
                return found
            id = wanted.get(line.partition(b",")[0])
            job = _job(line) if id is not None and id not in found else None
            if job is not None and not is_in(kept, job):
                found[job.id] = job
    return found


def is_in(kept: Mapping[str, JobRecord], job: JobRecord) -> bool:
    """Say whether the store still has the job: then it is not in the archive."""
    current = kept.get(job.id)
    return current is not None and current.order == job.order


def _job(line: bytes) -> JobRecord | None:
    """Return the job of *line*, or None if it is not whole."""
    try:
        return codec.decode_jobs(b"[%b]" % line)[0]
    except (*codec.Unreadable, IndexError):
        return None


def _backwards(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line, without its newline, and where it begins, from the last to the first."""
    fd = os.open(path, os.O_RDONLY)
    try:
        end, rest = os.fstat(fd).st_size, b""
        while end:
            begin = max(0, end - BLOCK)
            text = os.pread(fd, end - begin, begin) + rest
            rest, *pieces = text.split(b"\n")
            at = begin + len(text)
            for piece in reversed(pieces):
                at -= len(piece)
                if piece:
                    yield at, piece
                at -= 1
            end = begin
        if rest:
            yield 0, rest
    finally:
        os.close(fd)
