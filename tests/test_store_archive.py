"""Jobs that are over and beyond the limit move to the archive: none lost, none twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from queuectl_magics import clock, lifecycle, settings
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.events import JobEvent
from queuectl_magics.job import Exit, JobSpec, State
from queuectl_magics.store import Store, archive, compaction
from queuectl_magics.table import Table

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


@pytest.fixture
def clock_at(monkeypatch) -> Callable[[datetime], None]:
    """Set the clock."""
    now = [START]
    monkeypatch.setattr(clock, "utc_now", lambda: now[0])

    def set_clock(moment: datetime) -> None:
        now[0] = moment

    return set_clock


@pytest.fixture
def store(home, clock_at) -> Iterator[Store]:
    """An open store with no jobs."""
    with closing(Store(home, durability="none")) as opened:
        yield opened


def add(store: Store, *ids: str, ended: State | None = State.COMPLETED) -> None:
    """Accept jobs and bring each to its end, or leave them pending."""

    def decide(table: Table, now: datetime) -> Iterator[JobEvent]:
        for id in ids:
            spec = JobSpec(command=f"echo {id}")
            job = lifecycle.new_job(
                spec, id=id, due_from=now, max_retries=1, backoff_base=2.0, backoff_cap_s=60.0
            )
            yield lifecycle.enqueue(job, now=now)
            if ended is State.CANCELLED:
                yield lifecycle.cancel(job, now=now)
            elif ended is not None:
                code = 0 if ended is State.COMPLETED else 1
                lease = lifecycle.lease(job, worker="w", token="t", now=now)
                yield lease
                leased = lifecycle.evolve(job, lease, 1)
                yield lifecycle.settle(leased, 1, Exit(code=code, finished_at=now), now=now)

    store.transact(decide)


def act(store: Store, decide: Callable, id: str) -> None:
    """Let *decide* change the job *id*."""
    store.transact(lambda table, now: [decide(table.jobs[id], now=now)])


def archived(store: Store) -> list[str]:
    """Return the ids in the archive."""
    return [job.id for job in archive.records(store.paths.home, store.table.jobs)]


def listed(store: Store) -> list[str]:
    """Return all ids, sorted, those in the archive too."""
    return sorted([*store.table.jobs, *archived(store)])


class CrashError(Exception):
    """The process ends here."""


def crash_when_archived(store: Store) -> None:
    """Move a job to the archive, but crash before the store knows."""

    def at(point: str) -> None:
        if point == "archived":
            raise CrashError

    store.at = at
    with pytest.raises(CrashError):
        archive.move_finished(store, 0)
    store.at = lambda _point: None


def test_the_oldest_ends_beyond_the_limit_move_to_the_archive(store):
    """What is over and beyond the limit leaves the store, the oldest first, until it fits."""
    add(store, "1", "2", "3", "4", "5")

    moved = archive.move_finished(store, 2)

    assert 3 == moved
    assert ["4", "5"] == list(store.table.jobs)
    assert ["1", "2", "3"] == archived(store)


def test_nothing_moves_while_there_is_room(store):
    """The archive does not even come into being before it is needed."""
    add(store, "1", "2", "3")

    moved = archive.move_finished(store, 3)

    assert 0 == moved
    assert [] == archive.paths(store.paths.home)


def test_oldest_means_ended_first_not_enqueued_first(store, clock_at):
    """A job that waited long and has only just ended stays; somebody may be looking at it."""
    add(store, "early", ended=None)
    add(store, "late")
    clock_at(START + timedelta(hours=1))
    act(store, lifecycle.cancel, "early")

    archive.move_finished(store, 1)

    assert ["early"] == list(store.table.jobs)


def test_dead_jobs_and_those_that_are_not_over_stay(store):
    """A dead letter is never put away, however many there are."""
    add(store, "dead1", "dead2", ended=State.DEAD)
    add(store, "waiting", ended=None)
    add(store, "off", ended=State.CANCELLED)

    moved = archive.move_finished(store, 0)

    assert 1 == moved
    assert ["dead1", "dead2", "waiting"] == list(store.table.jobs)
    assert ["off"] == archived(store)


def test_dead_jobs_neither_move_nor_count(store):
    """However many died, as many that ended well stay as the limit says."""
    add(store, "dead", "dead2", ended=State.DEAD)
    add(store, "1", "2", "3")

    archive.move_finished(store, 2)

    assert ["dead", "dead2", "2", "3"] == list(store.table.jobs)


def test_an_archive_is_a_private_file_per_month_with_a_job_per_line(store, clock_at):
    """Other tools read it line by line; nobody else reads it at all."""
    add(store, "1")
    archive.move_finished(store, 0)
    clock_at(datetime(2026, 12, 1, tzinfo=UTC))
    add(store, "2")
    archive.move_finished(store, 0)

    files = archive.paths(store.paths.home)

    assert ["archive-202611.jsonl", "archive-202612.jsonl"] == [path.name for path in files]
    assert [0o600, 0o600] == [path.stat().st_mode & 0o777 for path in files]
    assert ["1", "2"] == [json.loads(path.read_text())["id"] for path in files]
    assert ["1", "2"] == archived(store)


def test_a_clock_set_back_opens_no_earlier_file(store, clock_at, home):
    """The newest file is the only one that is written to."""
    clock_at(datetime(2026, 12, 1, tzinfo=UTC))
    add(store, "1")
    archive.move_finished(store, 0)
    clock_at(START)
    store.table.last_at = None
    add(store, "2")
    archive.move_finished(store, 0)

    assert ["archive-202612.jsonl"] == [path.name for path in archive.paths(home)]


def test_an_archived_job_is_found_by_its_id(store):
    """The whole record comes back, with its history."""
    add(store, "1", "11", "111")
    before = store.table.jobs["11"]
    archive.move_finished(store, 0)

    found = archive.find(store.paths.home, "11", store.table.jobs)

    assert before == found
    assert archive.find(store.paths.home, "2", store.table.jobs) is None


def test_a_long_archive_is_searched_from_its_end(store, monkeypatch):
    """Lines are found across the blocks in which the file is read."""
    monkeypatch.setattr(archive, "BLOCK", 100)
    ids = [f"job{number}" for number in range(30)]
    add(store, *ids)
    archive.move_finished(store, 0)

    found = [archive.find(store.paths.home, id, {}) for id in ids]

    assert ids == [job.id for job in found]


def test_of_two_archived_jobs_with_one_id_the_newest_is_found(store):
    """An id that a person chose may be used again once its job is in the archive."""
    for _ in range(2):
        add(store, "train")
        archive.move_finished(store, 0)

    found = archive.find(store.paths.home, "train", store.table.jobs)

    assert ["train", "train"] == archived(store)
    assert max(job.order for job in archive.records(store.paths.home, {})) == found.order


def test_a_job_in_the_store_is_not_in_the_archive(store):
    """After a crash between the two files a job is listed once, as the store has it."""
    add(store, "1", "2")

    crash_when_archived(store)

    assert ["1", "2"] == listed(store)
    assert archive.find(store.paths.home, "1", store.table.jobs) is None


def test_a_crash_between_archive_and_store_is_made_good_the_next_time(store):
    """The lines of the first try are cut; each job is in the archive once."""
    add(store, "1", "2")
    crash_when_archived(store)

    moved = archive.move_finished(store, 0)

    lines = archive.paths(store.paths.home)[0].read_text().splitlines()
    assert 2 == moved
    assert ["1", "2"] == [json.loads(line)["id"] for line in lines]


def test_a_job_that_is_pruned_after_such_a_crash_does_not_come_back(store):
    """Whoever drops jobs first forgets what a crash left in the archive."""
    add(store, "0")
    archive.move_finished(store, 0)
    add(store, "1", "2")
    crash_when_archived(store)

    with store.exclusive():
        archive.forget_unfinished(store.paths.home, store.table)
    act(store, lifecycle.prune, "1")

    assert ["0", "2"] == listed(store)


def test_a_job_that_was_retried_after_such_a_crash_is_archived_as_it_ends(store):
    """The line of the first try is not the one that counts."""
    add(store, "1")
    crash_when_archived(store)
    act(store, lifecycle.retry, "1")
    act(store, lifecycle.cancel, "1")

    archive.move_finished(store, 0)

    assert [State.CANCELLED] == [job.state for job in archive.records(store.paths.home, {})]


@pytest.mark.parametrize("torn", [b'{"id":"9","comm', b"\0" * 40, b"{", b"\n\n"])
def test_a_torn_line_is_passed_over_and_never_glued_to_the_next(store, torn):
    """A crash in the middle of a line costs nothing, since its job is still in the store."""
    add(store, "1")
    archive.move_finished(store, 0)
    path = archive.paths(store.paths.home)[0]
    path.write_bytes(path.read_bytes() + torn)
    add(store, "2")

    archive.move_finished(store, 0)

    assert ["1", "2"] == archived(store)


def test_a_damaged_line_takes_no_other_with_it(store):
    """What can be read is shown; what cannot is left where it is."""
    add(store, "1", "2", "3")
    archive.move_finished(store, 0)
    path = archive.paths(store.paths.home)[0]
    path.write_bytes(path.read_bytes().replace(b'"id":"2"', b'"id":"2'))
    add(store, "4")

    archive.move_finished(store, 0)

    assert ["1", "3", "4"] == archived(store)
    assert b'"id":"2,' in path.read_bytes()


def test_a_full_disk_leaves_the_archive_as_it_was(store, monkeypatch):
    """A line that does not fit is taken back, and its job stays in the store."""
    add(store, "1")
    archive.move_finished(store, 0)
    add(store, "2")
    before = archive.paths(store.paths.home)[0].read_bytes()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "sync_data", full)
    with pytest.raises(OSError, match="No space"):
        archive.move_finished(store, 0)

    assert before == archive.paths(store.paths.home)[0].read_bytes()
    assert ["2"] == list(store.table.jobs)


def test_two_processes_that_tidy_at_once_move_each_job_once(store, home):
    """What another has moved meanwhile is not moved again."""
    add(store, "1", "2", "3")
    with closing(Store(home)) as other:
        store.at = lambda _point: None
        first = archive.move_finished(other, 1)
        second = archive.move_finished(store, 1)

    assert (2, 0) == (first, second)
    assert ["1", "2"] == archived(store)


def test_many_jobs_move_in_slices_and_not_all_at_once(store, monkeypatch):
    """The lock is let go between slices, and a long backlog is left for the next idle moment."""
    monkeypatch.setattr(archive, "SLICE", 2)
    monkeypatch.setattr(archive, "SLICES_MAX", 3)
    add(store, *map(str, range(1, 11)))
    slices = []
    store.at = slices.append

    moved = archive.move_finished(store, 1)

    assert 6 == moved
    assert ["archived"] * 3 == slices
    assert 4 == len(store.table.jobs)


def test_short_numbers_are_not_used_again(store, home):
    """The number of an archived job stays its own, also after compaction and a new start."""
    add(store, "1", "2", "3")
    archive.move_finished(store, 0)
    compaction.compact(store)

    with closing(Store(home)) as reopened:
        number = reopened.table.next_number

    assert 4 == number


def test_an_idle_worker_tidies_by_the_setting(store, home):
    """The setting `keep-finished` is read each time, so that it takes effect at once."""
    add(store, "1", "2", "3")
    settings.write_setting(home, "keep-finished", "1")

    archive.tidy(store)

    assert ["3"] == list(store.table.jobs)
    assert [["3"]] == [[job["id"] for job in json.loads((home / "jobs.json").read_text())]]


def test_tidying_never_fails(store, home, monkeypatch):
    """A full disk or a damaged setting is somebody else's to tell; the next time may be better."""
    add(store, "1")
    (home / "config.json").write_text("{")

    archive.tidy(store)

    assert ["1"] == list(store.table.jobs)


def test_by_default_twenty_thousand_are_kept(home):
    """The limit is far beyond what most queues ever see."""
    assert 20_000 == settings.read_config(home).keep_finished


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_a_limit_that_makes_no_sense_is_refused(store, home, value):
    """The setting is a whole number."""
    with pytest.raises(InvalidInputError, match="whole number"):
        settings.write_setting(home, "keep-finished", value)


def test_file_that_grew_while_it_was_written_anew_loses_nothing(store, monkeypatch):
    """The lock is held for the new name alone: what others archived meanwhile is read again."""
    add(store, "1", "2")
    archive.move_finished(store, 0)
    (first,) = [job for job in archive.records(store.paths.home, {}) if job.id == "1"]
    write_file, late = archive.write_file, []

    def write_and_move(path, text):
        write_file(path, text)
        if not late:
            late.append(path)
            add(store, "3")
            archive.move_finished(store, 0)

    monkeypatch.setattr(archive, "write_file", write_and_move)
    archive.drop(store, [first])

    assert ["2", "3"] == [job.id for job in archive.records(store.paths.home, {})]
    assert not list(store.paths.home.glob("*.tmp"))


def test_several_threads_may_prune_at_once(store):
    """What one drops does not come back with another's copy of the file."""
    add(store, *map(str, range(1, 201)))
    archive.move_finished(store, 0)
    jobs = archive.records(store.paths.home, {})

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda n: archive.drop(store, jobs[n:160:4]), range(4)):
            pass

    assert jobs[160:] == archive.records(store.paths.home, {})


def test_draft_of_a_prune_that_was_killed_is_removed_in_time(store):
    """One that may be somebody's now is left alone."""
    add(store, "1")
    archive.move_finished(store, 0)
    old, new = (store.paths.home / f"archive-202611.{name}.tmp" for name in ("old", "new"))
    for draft in (old, new):
        draft.touch()
    os.utime(old, (0, 0))

    archive.drop(store, archive.records(store.paths.home, {}))

    assert (False, True) == (old.exists(), new.exists())
