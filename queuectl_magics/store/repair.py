"""Mend a damaged store: say what can be saved, write it as a new pair, keep what was there.

It works on files alone, since a damaged store cannot be opened, and under the store's lock. The
rules here: first it is told what would be done; a healthy store, and one that only looks damaged
to this version, are left as they are; every file that gets replaced lies in `damaged-…/` before
that; and the new files take their places like those of a compaction, by fsync and rename, so that
a repair that was killed can be done again and comes out the same.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from queuectl_magics import clock, codec, presence
from queuectl_magics.codec import FORMAT, Opened
from queuectl_magics.errors import (
    HomeError,
    InvalidInputError,
    RefusedError,
    StoreBusyError,
    StoreDamagedError,
)
from queuectl_magics.job import JobRecord, State
from queuectl_magics.journal import boot_id, frame, sync_folder, write_file
from queuectl_magics.lock import Lock
from queuectl_magics.settings import read_config
from queuectl_magics.store import archive, opening
from queuectl_magics.store.generation import REPAIR
from queuectl_magics.store.home import OTHER, Paths, check_home
from queuectl_magics.store.opening import checksum, snapshot_text
from queuectl_magics.store.salvage import BadLine, Passed, Salvage
from queuectl_magics.store.store import LOCK_TIMEOUT_S
from queuectl_magics.table import Table

TOLD_MAX = 50


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a store, what can be saved, and what has been done.

    Attributes:
        problem: what is wrong; None if the store is healthy.
        saved: state → how many jobs there are, or can be saved.
        origin: what they were put together from.
        lost: the events of which nothing is left, as runs from a first to a last number.
        passed_over: whole events that make no sense without the lost ones.
        bad_lines: the lines that cannot be read and held something that is lost now.
        mended: whether the store has been repaired.
        kept_in: where the damaged files are.

    """

    home: str
    problem: str | None = None
    saved: dict[State, int] = {}
    origin: str = ""
    lost: list[tuple[int, int]] = []
    passed_over: list[Passed] = []
    bad_lines: list[BadLine] = []
    mended: bool = False
    kept_in: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether the store can be opened now."""
        return self.problem is None or self.mended

    def text(self) -> str:
        """Return all of it as lines for a person."""
        if self.problem is None:
            return f"The queue in {self.home} is healthy: {_counted(self.saved)}. {NOTHING_DONE}"
        lines = [f"The queue in {self.home} {'was' if self.mended else 'is'} damaged."]
        lines += [f"Found: {self.problem}."]
        lines += [f"Saved: {_counted(self.saved)}, from {self.origin}."]
        lines += _first(f"Damaged: {_place(bad)}" for bad in self.bad_lines)
        lines += _first(f"Lost: {_run(first, last)}" for first, last in self.lost)
        lines += _first(f"Passed over: {passed.why}" for passed in self.passed_over)
        lines += _concerned(self)
        if self.mended:
            lines += [f"Repaired. The damaged files are in {self.kept_in}."]
        else:
            lines += [f"{NOTHING_DONE} `queuectl repair` saves this and keeps the damaged files."]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()


NOTHING_DONE = "Nothing was changed."


def _counted(saved: dict[State, int]) -> str:
    total = sum(saved.values())
    states = ", ".join(f"{count} {state}" for state, count in saved.items() if count)
    return f"{total} {'job' if total == 1 else 'jobs'}" + (f" ({states})" if states else "")


def _first(lines: Iterator[str]) -> list[str]:
    told = list(lines)
    more = [f"  … and {len(told) - TOLD_MAX} more"] if len(told) > TOLD_MAX else []
    return told[:TOLD_MAX] + more


def _place(bad: BadLine) -> str:
    where = f"{bad.file}, line {bad.line}, byte {bad.byte}"
    known = [f"event {bad.event}"] if bad.event else []
    known += [f"job {bad.job}"] if bad.job else []
    return where + (f" ({', '.join(known)})" if known else "")


def _run(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"


def _concerned(report: Report) -> list[str]:
    """Say which jobs may have lost something."""
    if not (report.lost or report.bad_lines):
        return ["Nothing is lost."]
    jobs = [bad.job for bad in report.bad_lines if bad.job]
    jobs += [passed.job for passed in report.passed_over]
    count = sum(last - first + 1 for first, last in report.lost)
    told = {bad.event for bad in report.bad_lines if bad.job and bad.event}
    lines = []
    if jobs:
        named = ", ".join(dict.fromkeys(jobs))
        lines.append(f"Look at: {named} (they may be in an earlier state than they were).")
    if count > len(told):
        what = "an event" if count - len(told) == 1 else f"{count - len(told)} events"
        lines.append(f"Of {what} not even the job is known: any job may have lost it.")
    return lines


def diagnose(paths: Paths, boot: str) -> tuple[str | None, Table]:
    """Return what is wrong with the store, or None, and its jobs if it is healthy.

    What opening the store mends by itself, the torn end that a crash leaves, is not wrong.
    """
    if not paths.journal.exists():
        return _diagnose_without_journal(paths)
    generation = None
    try:
        found = opening.open_generation(paths, None)
        if found is None:
            return f"{paths.jobs.name} is not the snapshot of {paths.journal.name}", Table()
        generation, data = found
        rest = generation.take(data, generation.offset)
        if rest:
            generation.judge(rest, boot)
    except StoreDamagedError as error:
        return str(error).removesuffix(f"; {REPAIR}"), Table()
    except codec.Unreadable as error:
        return f"{paths.jobs.name} cannot be read ({error})", Table()
    finally:
        if generation is not None:
            generation.close()
    return None, generation.table


def _diagnose_without_journal(paths: Paths) -> tuple[str | None, Table]:
    if paths.journal_prev.exists():
        return f"{paths.journal.name} is missing", Table()
    if not paths.jobs.exists():
        return None, Table()
    try:
        return None, Table(opening.imported(paths.jobs.read_bytes(), clock.utc_now()))
    except InvalidInputError as error:
        msg = (
            f"{paths.jobs} is not ours and cannot be imported: {error} (mend it, or move it away)"
        )
        raise RefusedError(msg) from None


def repair(home: Path, *, dry_run: bool = False) -> Report:
    """Say what is wrong with the store in *home* and, unless *dry_run*, mend it.

    Raises:
        HomeError: there is no queue, it is someone else's, or its settings cannot be read.
        RefusedError: nothing can be saved, or it is not for this version to mend.
        StoreBusyError: a process uses the store.

    """
    if not home.is_dir():
        msg = f"there is no queue in {home}: {OTHER}"
        raise HomeError(msg)
    check_home(home)
    paths = Paths(home)
    with _locked(paths, create=False):
        report, _ = _look(paths)
    if report.problem is None:
        read_config(home)  # it says what to do, and nothing but the defaults could be put there
    if dry_run or report.problem is None:
        return report
    with _locked(paths, create=True):
        return _mend(paths)


def _look(paths: Paths) -> tuple[Report, Salvage | None]:
    problem, table = diagnose(paths, boot_id())
    if problem is None:
        return Report(home=str(paths.home), saved=table.counts), None
    found = Salvage(paths)
    _refuse_what_is_not_ours(found)
    return _report(paths.home, problem, found), found


def _mend(paths: Paths) -> Report:
    report, found = _look(paths)
    if found is None:
        return report
    _refuse_while_in_use(paths)
    now = clock.utc_now()
    kept = _keep_damaged(paths, report, now)
    _write(paths, found, now)
    problem, _ = diagnose(paths, boot_id())
    if problem is not None:
        msg = f"the repair failed ({problem}); the damaged files are in {kept}"
        raise StoreDamagedError(msg)
    return msgspec.structs.replace(report, mended=True, kept_in=str(kept))


@contextmanager
def _locked(paths: Paths, *, create: bool) -> Iterator[None]:
    """Keep others from creating, compacting or changing the store; a look makes no file."""
    locks = Lock(paths.compact_lock, create=create), Lock(paths.journal, create=False)
    try:
        for lock in locks:
            with suppress(FileNotFoundError):
                lock.acquire(LOCK_TIMEOUT_S)
        yield
    finally:
        for lock in locks:
            lock.close()


def _refuse_what_is_not_ours(found: Salvage) -> None:
    formats = {source.header.format for source in found.sources if source.header} - {FORMAT}
    if formats or found.foreign:
        where = f" ({_place(found.foreign[0])})" if found.foreign else f" ({formats.pop()})"
        msg = f"whole lines are not understood{where}: use the queuectl_magics that wrote them"
        raise RefusedError(msg)
    if not (found.jobs or found.base.seq or found.events_since):
        msg = f"nothing can be saved from {found.home}: move it away, or restore it from a backup"
        raise RefusedError(msg)


def _report(home: Path, problem: str, found: Salvage) -> Report:
    base, since = found.base, found.events_since
    proven = "" if base.sure else ", which no journal vouches for"
    origin = f"{base.file} as of event {base.seq}{proven}"
    origin += f" and {since} {'event' if since == 1 else 'events'} since" if since else ""
    return Report(
        home=str(home),
        problem=problem,
        saved=Table(found.jobs.values()).counts,
        origin=origin,
        lost=found.lost,
        passed_over=found.passed_over,
        bad_lines=[bad for bad in found.bad_lines if not found.is_harmless(bad)],
    )


def _refuse_while_in_use(paths: Paths) -> None:
    users = list(_users(paths))
    if users:
        msg = f"the queue in {paths.home} is in use by {', '.join(users)}: stop that first"
        raise StoreBusyError(msg)


def _users(paths: Paths) -> Iterator[str]:
    """Name the workers of the home and, where the system tells, who else has its files open."""
    workers = [path.stem for path in sorted(paths.workers.glob("*.json"))]
    yield from (f"worker {name}" for name in workers if presence.is_alive(paths.workers, name))
    files = {os.path.realpath(paths.journal)}
    for pid in filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        if int(pid) != os.getpid() and files & set(_open_files(pid)):
            with suppress(OSError):
                yield f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"


def _open_files(pid: str) -> Iterator[str]:
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{fd}")


def _keep_damaged(paths: Paths, report: Report, now: datetime) -> Path:
    """Give every file that gets replaced a second name in a folder of its own, with the report."""
    stem = f"damaged-{now:%Y%m%dT%H%M%SZ}"
    taken = len(list(paths.home.glob(f"{stem}*")))
    folder = paths.home / (f"{stem}-{taken + 1}" if taken else stem)
    folder.mkdir(mode=0o700)
    for path in (paths.jobs, paths.journal, paths.jobs_prev, paths.journal_prev):
        if path.exists():
            os.link(path, folder / path.name)
    write_file(folder / "report.txt", f"{report.text()}\n".encode())
    sync_folder(folder)
    return folder


def _write(paths: Paths, found: Salvage, now: datetime) -> None:
    """Write the new pair in the order of a compaction, then a copy of it as the pair before.

    The number of the snapshot is beyond everything that was ever written, so that a store that
    was open all the time reads it. The drafts carry the generation in their names: those of a
    repair that was killed are among the sources of the next one, and must not be overwritten.
    """
    jobs = list(found.jobs.values())
    snapshot, generation = snapshot_text(jobs), found.generation + 1
    archived = archive.records(paths.home, {})
    header = Opened(
        at=now,
        format=FORMAT,
        store=found.store or uuid.uuid4().hex,
        generation=generation,
        boot=boot_id(),
        next_number=max(found.next_number, Table(archived).next_number),
        snapshot_bytes=len(snapshot),
        snapshot_crc=checksum(snapshot),
    )
    seq = _beyond(found, jobs)
    journal = frame(seq, seq, codec.encode_line(header))
    old_drafts = [*paths.home.glob("jobs.*tmp"), *paths.home.glob("journal.*tmp")]
    for pair in ((paths.jobs, paths.journal), (paths.jobs_prev, paths.journal_prev)):
        drafts = [path.with_name(f"{path.stem}.{generation}.tmp") for path in pair]
        write_file(drafts[0], snapshot)
        write_file(drafts[1], journal)
        sync_folder(paths.home)
        for draft, path in zip(drafts, pair, strict=True):
            draft.rename(path)
            sync_folder(paths.home)
    for draft in old_drafts:
        draft.unlink(missing_ok=True)


def _beyond(found: Salvage, jobs: list[JobRecord]) -> int:
    return max([found.upto, *(job.seq for job in jobs)]) + 1
