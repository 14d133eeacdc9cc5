"""What a crash may leave and what a disk may change, byte by byte, on a small store.

Three outcomes are allowed: the very same jobs; a refusal that names file, place and way out; or,
for a last line that was never acknowledged, the jobs before it and the cut-off bytes kept aside.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from queuectl_magics.errors import StoreDamagedError
from queuectl_magics.job import JobRecord
from queuectl_magics.store import Store, store
from queuectl_magics.store import home as homes
from queuectl_magics.store.compaction import compact
from stores import enqueue, lease, settle

HERE, ELSEWHERE = "b00t0001", "b00t0002"
BOOTS = pytest.mark.parametrize("boot", [HERE, ELSEWHERE], ids=["same boot", "other boot"])
GARBAGE = random.Random(7).randbytes(2000)


class Small(NamedTuple):
    """A small store: its two files, and what it held after each line of its journal."""

    jobs: bytes
    journal: bytes
    held: dict[int, dict[str, JobRecord]]

    def up_to(self, place: int) -> int:
        """Return the end of the last line that ends at *place* or before."""
        return max(end for end in self.held if end <= place)

    @property
    def header(self) -> int:
        """How long the first line is."""
        return min(self.held)


class Opened(NamedTuple):
    """What came of an attempt to open a home: jobs or a refusal, and the bytes kept aside."""

    jobs: dict[str, JobRecord] | None
    refusal: str
    aside: bytes


@pytest.fixture(autouse=True)
def one_start_of_the_machine(monkeypatch) -> None:
    """Let every store believe in one and the same start of the machine; and open quickly."""
    monkeypatch.setattr(store, "boot_id", lambda: HERE)
    monkeypatch.setattr(homes, "filesystem_type", lambda _: "")


@pytest.fixture
def place(memory: Path) -> Path:
    """A home in memory."""
    return memory


def small(home: Path, *, wait: bool = True) -> Small:
    """Make a small store: two jobs in the snapshot, four lines in the journal."""
    made = Store(home)
    made.transact(enqueue("1", "2", command="é 'J*'"))
    compact(made)
    held = {made.current.offset: dict(made.table.jobs)}
    for decide in (lease("1"), settle("1"), lease("2"), settle("2", 1)):
        made.transact(decide, wait=wait)
        held[made.current.offset] = dict(made.table.jobs)
    made.close()
    return Small((home / "jobs.json").read_bytes(), (home / "journal.jsonl").read_bytes(), held)


def opened(home: Path, jobs: bytes | None, journal: bytes, *, boot: str = HERE) -> Opened:
    """Open a store of these two files; a refusal must have changed nothing."""
    for old in home.glob("torn-*.bin"):
        old.unlink()
    (home / "journal.jsonl").write_bytes(journal)
    if jobs is None:
        (home / "jobs.json").unlink()
    else:
        (home / "jobs.json").write_bytes(jobs)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "boot_id", lambda: boot)
            found = Store(home)
    except StoreDamagedError as error:
        assert journal == (home / "journal.jsonl").read_bytes()
        assert [] == list(home.glob("torn-*.bin"))
        return Opened(None, str(error), b"")
    table = found.table
    found.close()
    assert sum(table.counts.values()) == len(table.jobs)
    return Opened(table.jobs, "", b"".join(p.read_bytes() for p in home.glob("torn-*.bin")))


def refused_well(home: Path, refusal: str) -> bool:
    """Say whether *refusal* names file and way out, and the place in a journal."""
    file = str(home / "jobs.json") in refusal or (
        str(home / "journal.jsonl: ") in refusal
        and ("line 1 " in refusal or ("event " in refusal and " at byte " in refusal))
    )
    return file and "queuectl repair" in refusal


# --- torn tails ---------------------------------------------------------------------------------


@BOOTS
def test_journal_cut_at_any_byte_holds_what_its_whole_lines_say(place, boot):
    """A torn line is kept aside and cut off; only the header has to be whole."""
    jobs, journal, held = good = small(place)
    for cut in range(len(journal) + 1):
        found = opened(place, jobs, journal[:cut], boot=boot)
        if cut < good.header:
            assert refused_well(place, found.refusal), cut
            continue
        whole = good.up_to(cut)

        assert held[whole] == found.jobs, cut
        assert journal[whole:cut] == found.aside, cut
        assert journal[:whole] == (place / "journal.jsonl").read_bytes(), cut


def test_store_with_a_torn_tail_goes_on_where_its_whole_lines_end(place):
    """The next event takes the place of the torn line, and everybody reads it."""
    jobs, journal, _ = good = small(place)
    for cut in range(good.header, len(journal), 7):
        opened(place, jobs, journal[:cut])
        again = Store(place)
        again.transact(enqueue("after"))
        last = Store(place)

        assert again.table.jobs == last.table.jobs, cut
        assert "after" in last.table.jobs, cut
        again.close()
        last.close()


@BOOTS
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\n", GARBAGE], ids=["0", "ff", "nl", "any"])
def test_tail_of_anything_is_cut_off_or_refused(place, filler, boot):
    """From any byte on the file may hold zeros, ones, newlines or garbage.

    While the machine was not started anew only a kill can tear a line, which leaves no newline; so
    a bad line that has one was changed later, and is refused. Blank lines say nothing either way.
    """
    jobs, journal, held = good = small(place)
    for cut in range(good.header, len(journal), 1 if boot == HERE else 3):
        changed = journal[:cut] + (filler * len(journal))[: len(journal) - cut]
        lines = cut + 1 if filler == b"\n" and cut + 1 in held else cut
        whole = good.up_to(lines)
        rest = changed[whole:]
        found = opened(place, jobs, changed, boot=boot)
        if boot == HERE and b"\n" in rest and rest.strip(b"\n"):
            assert refused_well(place, found.refusal), cut
        else:
            assert held[whole] == found.jobs, cut
            assert rest == found.aside, cut


# --- bits that flip -----------------------------------------------------------------------------


def flips(text: bytes, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield *text* with each single bit of *places* flipped."""
    for at in places:
        for bit in range(8):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            yield at, bytes(changed)


def some_places(good: Small) -> list[int]:
    """Return all bytes of the header and of the last two lines, all newlines, and some others."""
    *_, third, _, last = sorted(good.held)
    inner = range(good.header, third)
    ends = [end - 1 for end in good.held]
    return sorted({*range(good.header), *inner[::5], *ends, *range(third, last)})


def test_every_flipped_bit_of_the_journal_is_refused(place):
    """Nothing but a lost last newline looks like a line that a kill has torn."""
    jobs, journal, held = good = small(place)
    before_last = good.up_to(len(journal) - 1)
    for at, changed in flips(journal, some_places(good)):
        found = opened(place, jobs, changed)
        if at == len(journal) - 1:
            assert held[before_last] == found.jobs
            assert changed[before_last:] == found.aside
        else:
            assert refused_well(place, found.refusal), at


def test_every_flipped_bit_is_refused_after_a_restart_of_the_machine_too(place):
    """All lines but the last are known to have been on disk, for a later line says so."""
    jobs, journal, held = good = small(place)
    before_last = good.up_to(len(journal) - 1)
    for at, changed in flips(journal, some_places(good)[good.header :: 2]):
        found = opened(place, jobs, changed, boot=ELSEWHERE)
        if at < before_last:
            assert refused_well(place, found.refusal), at
        else:
            assert held[before_last] == found.jobs, at
            assert changed[before_last:] == found.aside, at


def test_every_flipped_bit_of_the_snapshot_is_refused(place):
    """The journal's header knows the length and the CRC of its snapshot."""
    jobs, journal, _ = small(place)
    for at, changed in flips(jobs, range(0, len(jobs), 3)):
        assert refused_well(place, opened(place, changed, journal).refusal), at


def test_snapshot_that_is_cut_or_lost_is_refused(place):
    """However short it is, and even if it is gone."""
    jobs, journal, _ = small(place)
    for cut in range(len(jobs)):
        assert refused_well(place, opened(place, jobs[:cut], journal).refusal), cut
    assert refused_well(place, opened(place, None, journal).refusal)


# --- holes that a power cut leaves --------------------------------------------------------------


def with_a_hole(good: Small, line: int) -> bytes:
    """Return the journal of *good* with its event line number *line* (0, 1 …) turned to zeros."""
    ends = sorted(good.held)
    start, end = ends[line], ends[line + 1]
    return good.journal[:start] + bytes(end - start) + good.journal[end:]


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_hole_in_what_was_never_acknowledged_is_cut_off_after_a_power_cut(place, line):
    """Pages reach the disk in any order: what lies behind the hole was not acknowledged either."""
    good = small(place, wait=False)
    start = sorted(good.held)[line]
    found = opened(place, good.jobs, with_a_hole(good, line), boot=ELSEWHERE)

    assert good.held[start] == found.jobs
    assert with_a_hole(good, line)[start:] == found.aside


@pytest.mark.parametrize("line", [0, 1, 2])
def test_hole_before_good_lines_is_damage_while_the_machine_was_up(place, line):
    """A kill tears the end of a file only."""
    good = small(place, wait=False)

    assert refused_well(place, opened(place, good.jobs, with_a_hole(good, line)).refusal)


@pytest.mark.parametrize("line", [0, 1, 2])
def test_hole_in_what_a_later_line_knew_to_be_on_disk_is_damage(place, line):
    """It was acknowledged, so it must not be cut off, whatever has happened to the machine."""
    good = small(place)
    refusal = opened(place, good.jobs, with_a_hole(good, line), boot=ELSEWHERE).refusal

    assert refused_well(place, refusal)


def test_what_outlived_a_restart_of_the_machine_is_known_to_be_on_disk(place, monkeypatch):
    """Also with `durability = none`: a hole in lines from before the restart is damage."""
    good = small(place, wait=False)
    monkeypatch.setattr(store, "boot_id", lambda: ELSEWHERE)
    later = Store(place, durability="none")
    later.transact(enqueue("3"))
    later.close()
    journal = (place / "journal.jsonl").read_bytes()
    changed = with_a_hole(good._replace(journal=journal), 1)

    assert refused_well(place, opened(place, good.jobs, changed, boot="b00t0003").refusal)


def test_unknown_start_of_the_machine_is_taken_for_another(place, monkeypatch):
    """Where the system has no word for it, a power cut cannot be ruled out."""
    monkeypatch.setattr(store, "boot_id", lambda: "")
    good = small(place, wait=False)
    found = opened(place, good.jobs, with_a_hole(good, 3) + b"\n", boot="")

    assert good.held[sorted(good.held)[3]] == found.jobs


def test_line_of_an_unknown_start_of_the_machine_is_not_known_to_be_on_disk(place, monkeypatch):
    """Whoever could not name the start may have written just now."""
    with monkeypatch.context() as patch:
        patch.setattr(store, "boot_id", lambda: "")
        small(place, wait=False)
    later = Store(place, durability="none")
    later.transact(enqueue("3"))
    later.close()

    assert (HERE, 2) == (later.current.boot, later.current.durable)


def test_start_of_the_machine_is_noted_once_per_start(place, monkeypatch):
    """The note has a number of its own, and lines after it belong to the new start."""
    small(place)
    monkeypatch.setattr(store, "boot_id", lambda: ELSEWHERE)
    for id in ("3", "4"):
        later = Store(place)
        later.transact(enqueue(id))
        later.close()
    lines = [json.loads(line) for line in (place / "journal.jsonl").read_text().splitlines()]

    assert ["booted", "enqueued", "enqueued"] == [line["op"] for line in lines[-3:]]
    assert [n for n, _ in enumerate(lines, 2)] == [line["seq"] for line in lines]


# --- lines that somebody else wrote -------------------------------------------------------------


def test_refusal_says_what_to_do(place):
    """File, place and remedy stand in one sentence."""
    good = small(place)
    start = sorted(good.held)[1]

    assert opened(place, good.jobs, with_a_hole(good, 1)).refusal == (
        f"{place}/journal.jsonl: the line of event 4, at byte {start}, is damaged; nothing was "
        "changed; `queuectl repair` explains what can be saved"
    )
