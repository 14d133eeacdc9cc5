"""A damaged store is explained and mended: what can be read is saved, what cannot is named."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from queuectl_magics import cli, clock, codec, journal
from queuectl_magics.errors import HomeError, RefusedError, StoreBusyError, StoreDamagedError
from queuectl_magics.events import JobEvent
from queuectl_magics.job import JobRecord, State
from queuectl_magics.lock import Lock
from queuectl_magics.presence import Presence
from queuectl_magics.store import Store, archive, compaction, generation, repair
from stores import enqueue, lease, prune, settle

SOAK = bool(os.environ.get("QUEUECTL_SOAK_S"))  # set by `make soak`
pytestmark = pytest.mark.timeout(3_600 if SOAK else 120)
FILES = ("jobs.json", "journal.jsonl", "jobs.prev.json", "journal.prev.jsonl")


def add(store: Store, *ids: str) -> None:
    """Accept jobs."""
    store.transact(enqueue(*ids, command="echo {id}", name="name-{id}"))


def act(store: Store, id: str, decide: Callable[[JobRecord, datetime], JobEvent]) -> None:
    """Record what *decide* says about a job."""
    store.transact(lambda table, now: [decide(table.jobs[id], now)])


@pytest.fixture
def whole(home) -> dict[str, JobRecord]:
    """The jobs of a home with two generations; events 1 to 8 are in jobs.json, 9 to 15 are not."""
    with closing(Store(home)) as store:
        add(store, "1", "2", "3")  # 1 2 3
        store.transact(lease("1"))  # 4
        compaction.compact(store)
        store.transact(settle("1"))  # 5
        add(store, "4", "5")  # 6 7
        store.transact(lease("2"))  # 8
        compaction.compact(store)
        store.transact(settle("2", 1))  # 9
        store.transact(lease("3"))  # 10
        store.transact(settle("3"))  # 11
        add(store, "6")  # 12
        store.transact(lease("4"))  # 13
        store.transact(prune("1"))  # 14
        store.transact(lease("2"))  # 15
        return dict(store.table.jobs)


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a journal, with their newlines."""
    return path.read_bytes().splitlines(keepends=True)


def spoil_event(path: Path, seq: int, *, change: Callable[[bytes], bytes] | None = None) -> int:
    """Damage the line of event *seq*, in its time by default; return where it begins."""
    at, lines = 0, lines_of(path)
    change = change or (lambda line: line.replace(b'"at":"2', b'"at":"3'))
    for index, line in enumerate(lines):
        numbers = journal.number(line.rstrip(b"\n"))
        if index and numbers and numbers.seq == seq and b'"op":"announced"' not in line:
            lines[index] = change(line)
            assert lines[index] != line
            path.write_bytes(b"".join(lines))
            return at
        at += len(line)
    raise AssertionError(seq)


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def contents(home: Path) -> dict[str, bytes]:
    """Return all that lies in a home."""
    found = sorted(path for path in home.rglob("*") if path.is_file())
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def opened(home: Path) -> dict[str, JobRecord]:
    """Return the jobs of a home that must be whole."""
    with closing(Store(home)) as store:
        return dict(store.table.jobs)


def concerned(report: repair.Report) -> set[str]:
    """Return the jobs that a report says may have lost something."""
    bad = {line.job for line in report.bad_lines if line.job}
    return bad | {passed.job for passed in report.passed_over}


def without(jobs: dict[str, JobRecord], *ids: str) -> dict[str, JobRecord]:
    """Return all jobs but those."""
    return {id: job for id, job in jobs.items() if id not in ids}


# --- healthy stores -----------------------------------------------------------------------------


def test_a_healthy_store_is_left_as_it_is(home, whole):
    """Nothing is written, and the person is told that all is well."""
    before = contents(home)

    report = repair.repair(home)

    assert report.problem is None
    assert f"The queue in {home} is healthy: 5 jobs" in report.text()
    assert "Nothing was changed." in report.text()
    assert before == contents(home)


def test_the_torn_end_that_a_crash_leaves_is_not_damage(home, whole):
    """Opening the queue cuts it off; there is nothing to repair."""
    with (home / "journal.jsonl").open("ab") as file:
        file.write(b'{"seq":16,"d":15,"op":"enq')
    before = contents(home)

    report = repair.repair(home)

    assert report.problem is None
    assert before == contents(home)
    assert whole == opened(home)


def test_the_jobs_of_another_tool_need_no_repair(home):
    """They are imported when the queue is opened; that is said, and nothing is done."""
    home.mkdir()
    (home / "jobs.json").write_text('[{"id": "a", "command": "true"}]')

    report = repair.repair(home)

    assert report.problem is None
    assert 1 == sum(report.saved.values())
    assert ["jobs.json"] == sorted(contents(home))


def test_a_jobs_json_that_is_not_ours_is_told_and_not_touched(home):
    """Garbage of another tool is not repaired away."""
    home.mkdir()
    (home / "jobs.json").write_text("{'not': 'jobs'}")
    before = (home / "jobs.json").read_bytes()

    with pytest.raises(RefusedError, match=r"jobs\.json is not ours .* \(mend it, or move it"):
        repair.repair(home)

    assert before == (home / "jobs.json").read_bytes()


def test_what_no_other_verb_would_open_is_not_called_healthy(home, whole):
    """The settings are no part of the store, but without them nothing can be done."""
    (home / "config.json").write_text("garbage")
    with pytest.raises(HomeError, match="mend it, or delete it to return to the defaults"):
        repair.repair(home)


def test_jobs_of_another_tool_that_cannot_be_imported_are_told(home):
    """By repair as by everyone who would open the queue."""
    home.mkdir()
    (home / "jobs.json").write_text('[{"id": "a/b", "command": "true"}]')
    with pytest.raises(RefusedError, match="cannot be imported: job 'a/b': 'a/b' cannot be an id"):
        repair.repair(home)


def test_what_a_repair_has_kept_makes_no_foreign_home(home, whole):
    """Who removes everything else goes on with a new queue."""
    (home / "journal.jsonl").unlink()
    repair.repair(home)
    for path in home.iterdir():
        if path.is_file():
            path.unlink()

    with closing(Store(home)) as store:
        assert {} == store.table.jobs


def test_an_empty_home_is_healthy(home):
    """A queue that was never used has nothing to lose."""
    home.mkdir()

    report = repair.repair(home, dry_run=True)

    assert report.problem is None
    assert {} == contents(home)


def test_where_there_is_no_queue_none_is_made(home):
    """A mistyped home is told, not created."""
    with pytest.raises(HomeError, match="there is no queue"):
        repair.repair(home)

    assert not home.exists()


def test_the_home_of_another_user_is_refused(home, whole, monkeypatch):
    """Nobody repairs what is not theirs."""
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)

    with pytest.raises(HomeError, match="belongs to another user"):
        repair.repair(home)


# --- damaged stores -----------------------------------------------------------------------------


@pytest.mark.parametrize("seq", range(9, 16))
def test_a_damaged_line_costs_its_event_and_no_other(home, whole, seq):
    """The line is named with its file, byte, event and job; all other jobs are as they were."""
    job = {9: "2", 10: "3", 11: "3", 12: "6", 13: "4", 14: "1", 15: "2"}[seq]
    at = spoil_event(home / "journal.jsonl", seq)
    with pytest.raises(StoreDamagedError):
        Store(home)

    report = repair.repair(home)

    (bad,) = report.bad_lines
    assert ("journal.jsonl", at, seq, job) == (bad.file, bad.byte, bad.event, bad.job)
    assert [(seq, seq)] == report.lost
    assert {job} == concerned(report)
    assert without(whole, job) == without(opened(home), job)


def test_showing_what_would_be_done_changes_nothing(home, whole):
    """With `--dry-run` the report is the same but for its end, and every file is as it was."""
    spoil_event(home / "journal.jsonl", 10)
    before = contents(home)

    shown = repair.repair(home, dry_run=True)

    assert before == contents(home)
    assert not shown.mended
    assert "Nothing was changed. `queuectl repair` saves this" in shown.text()
    done = repair.repair(home)
    assert done.mended
    assert shown.text().splitlines()[1:-1] == done.text().splitlines()[1:-1]


def test_what_the_damaged_files_were_is_kept(home, whole):
    """Every file that is replaced lies in a private folder, as it was, with the report."""
    spoil_event(home / "journal.jsonl", 10)
    before = {name: (home / name).read_bytes() for name in FILES}

    report = repair.repair(home)

    folder = Path(report.kept_in)
    kept = {name: (folder / name).read_bytes() for name in FILES}
    assert before == kept
    assert folder.name.startswith("damaged-")
    assert 0o700 == folder.stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert "event 10" in (folder / "report.txt").read_text()


def test_an_altered_snapshot_costs_nothing_while_the_one_before_is_whole(home, whole):
    """The jobs are folded from the previous snapshot and both journals."""
    flip(home / "jobs.json", 40)

    report = repair.repair(home)

    assert [] == report.lost
    assert "jobs.prev.json as of event 4 and 11 events since" == report.origin
    assert "Nothing is lost." in report.text()
    assert whole == opened(home)


def test_a_lost_snapshot_costs_nothing_while_the_one_before_is_whole(home, whole):
    """A deleted jobs.json is put together again."""
    (home / "jobs.json").unlink()

    repair.repair(home)

    assert whole == opened(home)


def test_a_damaged_first_line_costs_nothing(home, whole):
    """The journal before has announced the snapshot, so that it is known as of which event."""
    flip(home / "journal.jsonl", 20)

    report = repair.repair(home)

    assert "jobs.json as of event 8 and 7 events since" == report.origin
    assert [] == report.lost
    assert whole == opened(home)


def test_a_lost_journal_costs_what_was_in_it_alone(home, whole):
    """What happened since the snapshot is gone, and that cannot be known; the rest is saved."""
    (home / "journal.jsonl").unlink()
    with pytest.raises(StoreDamagedError, match=r"journal\.jsonl is missing"):
        Store(home)

    report = repair.repair(home)

    assert "journal.jsonl is missing" == report.problem
    assert {"1", "2", "3", "4", "5"} == set(opened(home))


def test_a_lost_newline_costs_nothing(home, whole):
    """Two lines that have become one are told apart by their checksums."""
    spoil_event(home / "journal.jsonl", 10, change=lambda line: line[:-1] + b" ")

    report = repair.repair(home)

    assert [] == report.lost
    assert whole == opened(home)


@pytest.mark.parametrize("spoil", [(b'"5","command"', b'"5,"command"'), (b"created", b"reated")])
def test_when_no_snapshot_is_proven_the_lines_of_the_newest_are_taken(home, whole, spoil):
    """Without any other source each job that can be read is better than none; that is told."""
    (home / "jobs.prev.json").unlink()
    (home / "journal.prev.jsonl").unlink()
    before, line, after = (home / "jobs.json").read_bytes().partition(b'{"id":"5"')
    (home / "jobs.json").write_bytes(before + (line + after).replace(*spoil, 1))

    report = repair.repair(home)

    assert "which no journal vouches for" in report.text()
    assert ["jobs.json"] == [bad.file for bad in report.bad_lines]
    assert without(whole, "5") == opened(home)


def test_an_altered_snapshot_is_better_than_nothing_though_nothing_came_after_it(home):
    """The first line of the journal says how many events there were, not what they were."""
    with closing(Store(home)) as store:
        add(store, "1", "2")
        compaction.compact(store)
        whole = dict(store.table.jobs)
    for name in ("jobs.prev.json", "journal.prev.jsonl"):
        (home / name).unlink(missing_ok=True)
    text = (home / "jobs.json").read_bytes()
    (home / "jobs.json").write_bytes(text.replace(b"echo 2", b"echo 3"))

    report = repair.repair(home)

    assert "jobs.json as of event 2, which no journal vouches for" in report.text()
    assert {**whole, "2": replace(whole["2"], command="echo 3")} == opened(home)


def test_the_snapshot_of_a_queue_that_was_never_compacted_is_known(home):
    """Every queue begins with nothing, whatever has become of the file that says so."""
    with closing(Store(home)) as store:
        add(store, "1", "2")
        whole = dict(store.table.jobs)
    (home / "jobs.json").write_text("garbage")

    report = repair.repair(home)

    assert [] == report.lost
    assert whole == opened(home)


def test_what_was_imported_from_another_tool_is_imported_again(home):
    """The other tool's file is kept as jobs.prev.json, and gives the same jobs."""
    home.mkdir()
    (home / "jobs.json").write_text('[{"id": "a", "command": "true"}]')
    with closing(Store(home)) as store:
        add(store, "1")
        whole = dict(store.table.jobs)
    (home / "jobs.json").write_text("garbage")

    report = repair.repair(home)

    assert [] == report.lost
    assert whole == opened(home)


def test_when_nothing_at_all_can_be_read_nothing_is_done(home):
    """An empty queue in place of a lost one would hide the loss."""
    with closing(Store(home)) as store:
        add(store, "1")
    for name in ("jobs.json", "journal.jsonl"):
        (home / name).write_bytes(b"\xff" * 300)
    before = contents(home)

    with pytest.raises(RefusedError, match="nothing can be saved"):
        repair.repair(home)

    assert before == contents(home)


# --- what a gap means ---------------------------------------------------------------------------


def test_a_job_that_was_being_run_stays_so(home, whole):
    """Whether its processes live is for a worker to find out."""
    spoil_event(home / "journal.jsonl", 12)

    report = repair.repair(home)

    assert State.PROCESSING == opened(home)["4"].state
    assert 2 == report.saved[State.PROCESSING]


def test_an_event_that_makes_no_sense_without_a_lost_one_is_passed_over(home, whole):
    """The end of an attempt whose lease was lost is told, and the job is where it was."""
    spoil_event(home / "journal.jsonl", 10)

    report = repair.repair(home)

    (passed,) = report.passed_over
    assert (11, "3") == (passed.event, passed.job)
    assert "Look at: 3" in report.text()
    assert State.PENDING == opened(home)["3"].state


def test_a_job_whose_enqueueing_was_lost_is_lost_and_told(home, whole):
    """Its command is nowhere else; what came later speaks of a job that does not exist."""
    with closing(Store(home)) as store:
        store.transact(lease("6"))
    spoil_event(home / "journal.jsonl", 12)

    report = repair.repair(home)

    assert "6" not in opened(home)
    assert {"6"} == concerned(report)
    assert "job 6, which does not exist" in report.text()


def test_a_new_job_with_the_id_of_one_whose_pruning_was_lost_is_kept(home, whole):
    """An id is given twice only after a pruning: so the older job had been pruned."""
    with closing(Store(home)) as store:
        add(store, "1")
        newest = store.table.jobs["1"]
    spoil_event(home / "journal.jsonl", 14)

    repair.repair(home)

    assert newest == opened(home)["1"]


def test_a_damaged_line_that_does_not_even_tell_its_job_concerns_all(home, whole):
    """What cannot be known is said."""
    spoil_event(home / "journal.jsonl", 9, change=lambda line: b"\0" * (len(line) - 1) + b"\n")

    report = repair.repair(home)

    assert [(9, 9)] == report.lost
    assert "any job may have lost it" in report.text()


def test_a_damaged_line_is_not_believed_when_it_names_a_job_that_nobody_knows(home, whole):
    """The name of the job may be the very thing that was damaged."""
    spoil_event(
        home / "journal.jsonl", 10, change=lambda line: line.replace(b'"id":"3"', b'"id":"s"')
    )

    report = repair.repair(home)

    assert [None] == [bad.job for bad in report.bad_lines]
    assert "any job may have lost it" in report.text()


# --- what comes after ---------------------------------------------------------------------------


def test_a_repaired_queue_is_the_same_queue(home, whole):
    """It has its identity, so that running jobs are still its own, and one more generation."""
    with closing(Store(home)) as store:
        before = store.header
    spoil_event(home / "journal.jsonl", 10)

    repair.repair(home)

    with closing(Store(home)) as store:
        assert before.store == store.header.store
        assert before.generation + 1 == store.header.generation


def test_numbers_are_not_used_again_after_a_repair(home, whole):
    """Neither those of pruned jobs nor those in the archive."""
    with closing(Store(home)) as store:
        add(store, "7")
        store.transact(lease("7"))
        store.transact(settle("7"))
        archive.move_finished(store, 1)
        add(store, "8")
    spoil_event(home / "journal.jsonl", 9)
    flip(home / "journal.jsonl", 20)
    (home / "journal.prev.jsonl").unlink()

    repair.repair(home)

    with closing(Store(home)) as store:
        assert 9 == store.table.next_number


def test_a_repaired_queue_can_be_used_and_repaired_again(home, whole):
    """The new pair has a copy, so that the next damage costs no more than this one."""
    spoil_event(home / "journal.jsonl", 12)
    repair.repair(home)
    with closing(Store(home)) as store:
        add(store, "new")
        whole = dict(store.table.jobs)
    flip(home / "jobs.json", 40)

    report = repair.repair(home)

    assert [] == report.lost
    assert whole == opened(home)
    assert 2 == len(list(home.glob("damaged-*")))


def test_a_repair_leaves_private_files_and_no_drafts(home, whole):
    """All of it is readable by its owner only, under any umask."""
    (home / "jobs.tmp").write_bytes(b"litter")
    spoil_event(home / "journal.jsonl", 12)
    before = os.umask(0)
    try:
        repair.repair(home)
    finally:
        os.umask(before)

    assert [] == list(home.glob("*tmp"))
    assert {0o600} == {(home / name).stat().st_mode & 0o777 for name in FILES}


def test_a_store_that_was_open_all_the_time_reads_what_was_repaired(home, whole):
    """Its numbers are all below the new snapshot's, so that it begins anew."""
    with closing(Store(home)) as store:
        spoil_event(home / "journal.jsonl", 12)
        repair.repair(home)

        store.catch_up()

        assert without(whole, "6") == store.table.jobs
        add(store, "new")
        assert "new" in opened(home)


# --- refused ------------------------------------------------------------------------------------


def test_a_home_with_a_living_worker_is_not_repaired(home, whole):
    """The worker is named, and nothing is touched."""
    spoil_event(home / "journal.jsonl", 12)
    worker = Presence(home / "workers", kind="terminal", count=1, now=clock.utc_now())
    worker.announce()
    before = contents(home)

    with pytest.raises(StoreBusyError, match=f"in use by worker {worker.info.name}: stop that"):
        repair.repair(home)

    assert before == contents(home)
    worker.leave()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nothing tells who opened a file")
def test_a_home_that_another_process_has_open_is_not_repaired(home, whole):
    """The process is named by its number."""
    code = f"import time; f = open({str(home / 'journal.jsonl')!r}); print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        spoil_event(home / "journal.jsonl", 12)

        with pytest.raises(StoreBusyError, match=f"in use by process {other.pid} "):
            repair.repair(home)
        shown = repair.repair(home, dry_run=True)
    finally:
        other.communicate(b"\n")

    assert shown.problem


def test_a_store_that_is_locked_is_not_repaired(home, whole, monkeypatch):
    """Whoever holds the lock is named after some seconds."""
    monkeypatch.setattr(repair, "LOCK_TIMEOUT_S", 0.05)
    spoil_event(home / "journal.jsonl", 12)
    lock = Lock(home / "journal.jsonl")
    lock.acquire()

    with pytest.raises(StoreBusyError, match="locked by"):
        repair.repair(home)

    lock.close()


def test_the_journal_of_a_newer_version_is_not_repaired(home, whole, monkeypatch):
    """It is not damaged, and an older version would throw away what it does not know."""
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "FORMAT", "queuectl.journal/2")
        with closing(Store(home)) as store:
            compaction_of(store)
    before = contents(home)

    with pytest.raises(RefusedError, match=r"queuectl\.journal/2"):
        repair.repair(home)

    assert before == contents(home)


def compaction_of(store: Store) -> None:
    """Compact, although the new header cannot be read by this version."""
    with pytest.raises(StoreDamagedError):
        compaction.compact(store)


def test_a_whole_line_of_an_unknown_kind_is_not_repaired_away(home, whole):
    """It was written by a newer version; the old one refuses rather than drop it."""
    line = journal.frame(16, 15, b'{"op":"teleported","at":"2026-01-01T00:00:00Z","id":"2"}')
    with (home / "journal.jsonl").open("ab") as file:
        file.write(line)

    with pytest.raises(RefusedError, match="not understood"):
        repair.repair(home)


# --- the verb -----------------------------------------------------------------------------------


def test_the_verb_works_although_the_queue_cannot_be_opened(home, whole, capsys):
    """In a terminal: what would be done, then doing it; the exit code says if all is well now."""
    spoil_event(home / "journal.jsonl", 10)

    refused = cli_code("--home", str(home), "status")
    shown = cli_code("--home", str(home), "repair", "--dry-run")
    done = cli_code("--home", str(home), "repair")
    again = cli_code("--home", str(home), "repair", "--json")

    assert (1, 1, 0, 0) == (refused, shown, done, again)
    said = capsys.readouterr()
    assert "`queuectl repair` explains what can be saved" in said.err
    assert "Damaged: journal.jsonl, line 3" in said.out
    assert '"problem": null' in said.out


def cli_code(*words: str) -> int:
    """Run `queuectl` in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return ended.value.code


def test_the_magic_mends_the_queue_of_the_notebook(notebook, own_home):
    """The queue that the kernel had open goes on with what was repaired."""
    notebook.run("%config QueueMagics.autostart = False")
    notebook.run("%enqueue echo 1")
    notebook.run("%enqueue echo 2")
    with closing(Store(own_home)) as store:
        compaction.compact(store)
    flip(own_home / "jobs.json", 40)

    report = notebook.run("%queue_repair").value

    assert report.mended
    assert "Nothing is lost." in repr(report)
    assert ["1", "2"] == [job.id for job in notebook.run("%queue_list").value]


def test_a_home_of_nobody_is_told_by_the_verb(home, capsys):
    """One line, and nothing is created."""
    assert 1 == cli_code("--home", str(home), "repair")

    assert "Error: there is no queue in" in capsys.readouterr().err
    assert not home.exists()


# --- any damage ---------------------------------------------------------------------------------


def damages(home: Path) -> Iterable[tuple[str, int, int]]:
    """Yield which bit of which file to change: a sample, but in a soak at every byte.

    Not the names of jobs, which a report repeats, nor the last newline: a line without it looks
    like one that was never finished.
    """
    every = []
    for name in FILES[:2]:
        data = (home / name).read_bytes()
        ids = {at for found in re.finditer(rb'"id":"[^"]*"', data) for at in range(*found.span())}
        every += [(name, at) for at in range(len(data) - 1) if at not in ids]
    dice = random.Random(5)
    chosen = every if SOAK else dice.sample(every, 250)
    return [(name, at, dice.randrange(8)) for name, at in chosen]


def test_whatever_bit_is_changed_what_differs_afterwards_was_told(home, whole, tmp_path):
    """A repair opens the queue again; each job is as it was, or the report has named it."""
    wrong = []
    for name, at, bit in damages(home):
        copy = tmp_path / "copy"
        shutil.copytree(home, copy)
        flip(copy / name, at, bit)

        report = repair.repair(copy)
        found = opened(copy)

        differ = {id for id in whole.keys() | found.keys() if whole.get(id) != found.get(id)}
        unknown = "any job may have lost it" in report.text()
        if not (unknown or differ <= concerned(report)) or (report.problem and not report.mended):
            wrong.append((name, at, bit, differ, report.text()))
        shutil.rmtree(copy)

    assert [] == wrong


def test_whatever_is_cut_off_the_rest_is_saved(home, whole, tmp_path):
    """A journal that ends too early opens by itself or is repaired; what is left is kept."""
    size = (home / "journal.jsonl").stat().st_size
    for at in range(0, size, 1 if SOAK else 37):
        copy = tmp_path / "copy"
        shutil.copytree(home, copy)
        os.truncate(copy / "journal.jsonl", at)

        repair.repair(copy)

        assert {"2", "3", "4", "5"} <= set(opened(copy))
        shutil.rmtree(copy)


def test_a_report_as_json_says_the_same(home, whole):
    """`--json` gives every fact as a value."""
    at = spoil_event(home / "journal.jsonl", 10)

    told = json.loads(codec.to_json(repair.repair(home)))

    assert [[10, 10]] == told["lost"]
    assert [{"file": "journal.jsonl", "line": 3, "byte": at, "event": 10, "job": "3"}] == (
        told["bad_lines"]
    )
    assert 5 == sum(told["saved"].values())


def test_a_long_report_is_cut(home):
    """Fifty places are enough to read."""
    with closing(Store(home)) as store:
        add(store, *map(str, range(200)))
    for seq in range(1, 161, 2):
        spoil_event(home / "journal.jsonl", seq)

    report = repair.repair(home)

    assert "… and 30 more" in report.text()
    assert 80 == len(report.lost)
    assert 120 == len(opened(home))


def test_the_word_for_opening_and_repairing_is_the_same(home, whole):
    """What a refusal says, the report says again."""
    spoil_event(home / "journal.jsonl", 10)
    with pytest.raises(StoreDamagedError) as refused:
        Store(home)

    report = repair.repair(home, dry_run=True)

    assert str(refused.value) == f"{report.problem}; {generation.REPAIR}"
