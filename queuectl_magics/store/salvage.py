"""What can be saved from a damaged store: every whole snapshot and every whole line there is.

A home holds the same facts more than once: two snapshots, two journals, and perhaps the drafts of
a compaction or a repair that was killed. Each journal says which bytes its snapshots had, so that
a snapshot is known to be whole, and as of which event. `salvage` takes the base from which the
fewest events are missing, folds every whole event after it through the lifecycle, in order, and
tells what it could not read. The rules here: nothing is written; what a line says is believed only
if its CRC is right; what a gap makes impossible is passed over and told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from queuectl_magics import codec
from queuectl_magics.codec import Announced, Booted, Opened
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.events import Enqueued, JobEvent, Pruned
from queuectl_magics.job import JobRecord
from queuectl_magics.journal import number
from queuectl_magics.lifecycle import IllegalTransitionError, evolve
from queuectl_magics.store.home import Paths
from queuectl_magics.store.opening import checksum, snapshot_text
from queuectl_magics.table import Table

_ID = re.compile(rb'"id":"([A-Za-z0-9._-]{1,64})"')
_BEGINS = re.compile(rb'\{"seq":')
_ENDS = re.compile(rb'"crc":"[0-9a-f]{8}"\}')

Key = tuple[int, str]
"""The length and the checksum of a snapshot."""


class BadLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line that cannot be read: which event it must have been, and of which job, if told.

    `unfinished`: its end is missing, as a crash leaves it. `foreign`: it is whole, but nothing
    that this version understands.
    """

    file: str
    line: int
    byte: int
    event: int | None = None
    job: str | None = None
    unfinished: bool = False
    foreign: bool = False


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A whole event that makes no sense without what was lost."""

    event: int
    job: str
    why: str


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs to start from: those of `file` as of event `seq`; `sure` if its bytes are proven."""

    file: str
    seq: int
    jobs: list[JobRecord]
    sure: bool = True
    bad_lines: list[BadLine] = []


class Source:
    """What one journal holds.

    Attributes:
        header: its first line, if that is whole.
        events: number → event, or None for a note of the journal itself.
        snapshots: the snapshots that it speaks of, and as of which event each was.
        bad_lines: what cannot be read.
        vouched: ids that a bad line tells twice, as an enqueueing does.

    """

    def __init__(self, path: Path) -> None:
        self.file = path.name
        self.header: Opened | None = None
        self.events: dict[int, JobEvent | None] = {}
        self.snapshots: dict[Key, int] = {}
        self.bad_lines: list[BadLine] = []
        self.vouched: set[str] = set()
        data = path.read_bytes() if path.exists() else b""
        at, wanted = 0, 0
        for count, line in enumerate(data.split(b"\n"), 1):
            if line:
                unfinished = at + len(line) == len(data)
                wanted = self._take(line, count, at, wanted, unfinished=unfinished)
            at += len(line) + 1

    def _take(self, line: bytes, count: int, at: int, wanted: int, *, unfinished: bool) -> int:
        """Take in what is whole in *line*; return the number of the event wanted next."""
        pieces = _whole(line)
        is_bad, foreign, mark = pieces != [line] or unfinished, False, wanted
        for piece in pieces:
            numbers = number(piece)
            assert numbers is not None
            try:
                self._note(numbers.seq, codec.decode_line(piece), is_first=count == 1)
            except codec.Unreadable:
                is_bad = foreign = True
            mark = numbers.seq + 1
        if is_bad:
            told = [id.decode() for id in _ID.findall(line)[:2]]
            self.vouched |= {told[0]} if len(told) > 1 and told[0] == told[1] else set()
            self.bad_lines.append(
                BadLine(
                    file=self.file,
                    line=count,
                    byte=at,
                    event=wanted if count > 1 and wanted else None,
                    job=told[0] if told else None,
                    unfinished=unfinished,
                    foreign=foreign,
                )
            )
            mark = max(mark, wanted + 1 if wanted else 0)
        return mark

    def _note(self, seq: int, found: codec.Line, *, is_first: bool) -> None:
        match found:
            case Opened() if is_first:
                self.header = found
                self.snapshots[found.snapshot_bytes, found.snapshot_crc] = seq
            case Announced():
                self.snapshots[found.snapshot_bytes, found.snapshot_crc] = found.upto
            case Opened() | Booted():
                self.events.setdefault(seq, None)
            case _:
                self.events.setdefault(seq, found)


def _whole(line: bytes) -> list[bytes]:
    """Return the whole lines within *line*: itself, or those whose newline was damaged."""
    if number(line) is not None:
        return [line]
    found, at = [], 0
    for end in _ENDS.finditer(line):
        for begin in _BEGINS.finditer(line, at, end.end()):
            piece = line[begin.start() : end.end()]
            if number(piece) is not None:
                found.append(piece)
                at = end.end()
                break
    return found


class Salvage:
    """What can be saved from a home.

    Attributes:
        store: the identity of the store, if it can be read.
        jobs: the jobs, by id, as they come out.
        upto: the highest event of which anything is known.
        base: what they were folded from.
        lost: the events that are nowhere, as runs from a first to a last number.
        passed_over: whole events that make no sense without the lost ones.
        events_since: how many events were folded into the base.
        bad_lines: the lines that cannot be read.
        sources: the journals, and drafts of journals, of this store.

    """

    def __init__(self, paths: Paths) -> None:
        sources = [Source(path) for path in _journals(paths)]
        headers = [source.header for source in sources if source.header]
        self.home = paths.home
        self.store = headers[0].store if headers else None
        self.sources = [
            source
            for source in sources
            if source.header is None or source.header.store == self.store
        ]
        self.generation = max((header.generation for header in headers), default=0)
        self._events = self._merge()
        proven = list(_proven(paths, self.sources))
        told = [bad.event or 0 for bad in self._bad() if not bad.unfinished]
        reached = [seq for source in self.sources for seq in source.snapshots.values()]
        self.upto = max([*self._events, *told, *reached, *(base.seq for base in proven)])
        self.base = min([*proven, *_unproven(paths, self.sources, self.upto)], key=self._cost)
        self.lost = list(self._gaps(self.base))
        self.passed_over: list[Passed] = []
        self.events_since = 0
        self.jobs = {job.id: job for job in self.base.jobs}
        self._fold()
        self.bad_lines = [*self.base.bad_lines, *map(self._without_doubt, self._bad())]

    def _merge(self) -> dict[int, JobEvent | None]:
        events: dict[int, JobEvent | None] = {}
        for source in self.sources:
            for seq, event in source.events.items():
                events.setdefault(seq, event)
        return dict(sorted(events.items()))

    def _bad(self) -> Iterator[BadLine]:
        """Yield the bad lines of the journals; a draft that was being written does not count."""
        for source in self.sources:
            if source.file.endswith(".jsonl"):
                yield from source.bad_lines

    def _without_doubt(self, bad: BadLine) -> BadLine:
        """Leave out a job that nothing else speaks of: its very name may be what is damaged."""
        known = bad.job is None or bad.job in self.jobs
        known = known or any(bad.job in source.vouched for source in self.sources)
        known = known or any(event and event.id == bad.job for event in self._events.values())
        return bad if known else msgspec.structs.replace(bad, job=None)

    def _gaps(self, base: Base) -> Iterator[tuple[int, int]]:
        """Yield the first and the last of each run of events that are nowhere."""
        before = base.seq
        for seq in (*self._events, self.upto + 1):
            if seq > before + 1:
                yield before + 1, seq - 1
            before = max(before, seq)

    def _cost(self, base: Base) -> tuple[int, bool, int]:
        """Order bases: nothing lost before much lost, sure before unsure, new before old."""
        lost = sum(last - first + 1 for first, last in self._gaps(base))
        return lost + len(base.bad_lines), not base.sure, -base.seq

    def is_harmless(self, bad: BadLine) -> bool:
        """Say whether what stood in that line is known from elsewhere, or was never accepted."""
        lost = any(first <= (bad.event or 0) <= last for first, last in self.lost)
        return not lost and bad.event is not None

    def _fold(self) -> None:
        for seq, event in self._events.items():
            if event is None or seq <= self.base.seq:
                continue
            before = self.jobs.get(event.id)
            if isinstance(event, Enqueued):
                before = None  # if there is one of this id, its pruning is among what was lost
                self.jobs.pop(event.id, None)
            if isinstance(event, Pruned) and before is None:
                continue
            try:
                after = evolve(before, event, seq)
            except IllegalTransitionError as error:
                self.passed_over.append(Passed(event=seq, job=event.id, why=str(error)))
                continue
            self.events_since += 1
            if after is None:
                del self.jobs[event.id]
            else:
                self.jobs[event.id] = after

    @property
    def next_number(self) -> int:
        """The next short id: never one that was used before, as far as that can be told."""
        numbers = [source.header.next_number for source in self.sources if source.header]
        ever = [event.job for event in self._events.values() if isinstance(event, Enqueued)]
        return max([*numbers, Table(ever).next_number, Table(self.jobs.values()).next_number])

    @property
    def foreign(self) -> list[BadLine]:
        """The whole lines that this version does not understand."""
        return [bad for bad in self.bad_lines if bad.foreign]


def _journals(paths: Paths) -> list[Path]:
    """Return where events may lie: the journals first, then drafts, the newest first."""
    drafts = sorted(paths.home.glob("journal.*tmp"), reverse=True)
    return [path for path in (paths.journal, paths.journal_prev, *drafts) if path.exists()]


def _snapshots(paths: Paths) -> Iterator[tuple[Path, bytes]]:
    for path in (paths.jobs, paths.jobs_prev, *sorted(paths.home.glob("jobs.*tmp"))):
        if path.exists():
            yield path, path.read_bytes()


def _proven(paths: Paths, sources: Iterable[Source]) -> Iterator[Base]:
    """Yield the bases whose bytes a journal speaks of, and what a queue begins with: nothing."""
    known: dict[Key, int] = {}
    for source in sources:
        for key, seq in source.snapshots.items():
            known.setdefault(key, seq)
    yield Base(file="an empty queue", seq=0, jobs=[])
    nothing = known.get(_key(snapshot_text([])))
    if nothing is not None:
        yield Base(file="an empty queue", seq=nothing, jobs=[])
    for path, text in _snapshots(paths):
        if _key(text) in known:
            try:
                jobs = codec.decode_jobs(text)
            except codec.Unreadable:
                continue
            yield Base(file=path.name, seq=known[_key(text)], jobs=jobs)
    for source in sources:
        if source.header is not None and source.header.generation == 1:
            yield from _imported(paths, source.header, known)


def _imported(paths: Paths, header: Opened, known: dict[Key, int]) -> Iterator[Base]:
    """Yield the jobs of another tool's file as they were imported when the queue was created."""
    try:
        jobs = codec.decode_classic_jobs(paths.jobs_prev.read_bytes(), header.at)
    except (OSError, InvalidInputError):
        return
    seq = known.get(_key(snapshot_text(jobs)))
    if seq is not None:
        yield Base(file=paths.jobs_prev.name, seq=seq, jobs=jobs)


def _unproven(paths: Paths, sources: list[Source], upto: int) -> Iterator[Base]:
    """Yield what a snapshot says that no journal vouches for, line by line."""
    begins = min(sources[0].snapshots.values(), default=0) if sources else 0
    for path, text in _snapshots(paths):
        if path.suffix == ".json":
            jobs, bad_lines = _read_lines(path.name, text)
            if any(job.seq for job in jobs):  # else it is another tool's
                newest = max(job.seq for job in jobs)
                seq = max(min(newest, upto), begins if path == paths.jobs else 0)
                yield Base(file=path.name, seq=seq, jobs=jobs, sure=False, bad_lines=bad_lines)


def _read_lines(file: str, text: bytes) -> tuple[list[JobRecord], list[BadLine]]:
    try:
        return codec.decode_jobs(text), []
    except codec.Unreadable:
        pass
    jobs, bad_lines, at = [], [], 0
    for count, line in enumerate(text.split(b"\n"), 1):
        if line.strip() not in (b"", b"[", b"]", b"[]"):
            try:
                jobs += codec.decode_jobs(b"[%b]" % line.strip().removesuffix(b","))
            except codec.Unreadable:
                told = _ID.search(line)
                job = told[1].decode() if told else None
                bad_lines.append(BadLine(file=file, line=count, byte=at, job=job))
        at += len(line) + 1
    return jobs, bad_lines


def _key(text: bytes) -> Key:
    return len(text), checksum(text)
