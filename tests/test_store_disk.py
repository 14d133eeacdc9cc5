"""What a full disk takes and what it refuses; and what a failing disk is not asked again."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from queuectl_magics.errors import HomeError, OutcomeUnknownError, StoreFullError
from queuectl_magics.store import Store, reserve
from queuectl_magics.store.compaction import compact, tidy_if_cheap
from stores import Counted, enqueue, lease, reread, settle


@pytest.fixture
def home(memory: Path) -> Path:
    """The path of a home in memory."""
    return memory / "home"


class FullDisk:
    """Takes *room* bytes, from all files together, and then no more until some are freed."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int, code: int = errno.ENOSPC) -> None:
        self.room = room
        self.code = code
        self._write, self._truncate = os.write, os.truncate
        patch.setattr(os, "write", self.write)
        patch.setattr(os, "truncate", self.truncate)

    def write(self, fd, data):
        """Write what there is room for."""
        if self.room <= 0:
            raise OSError(self.code, os.strerror(self.code))
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written

    def truncate(self, path, size):
        """Free what is cut off."""
        self.room += os.stat(path).st_size - size
        self._truncate(path, size)


# --- a full disk --------------------------------------------------------------------------------


def test_refusal_of_a_full_disk_names_exactly_what_was_stored(home, monkeypatch):
    """Whatever number of bytes still finds room: whole lines stay, a partial one goes."""
    for room in range(0, 1100, 3):
        place = home.parent / f"{room}"
        made = Store(place)
        with monkeypatch.context() as patch:
            FullDisk(patch, room)
            try:
                made.transact(enqueue("1", "2", "3"))
                stored = ["1", "2", "3"]
            except StoreFullError as error:
                stored, text = list(error.accepted), str(error)
                assert all(f" {id}" in text for id in stored)
        assert stored == list(made.table.jobs) == list(reread(place)), room
        made.transact(enqueue("4"))

        assert [*stored, "4"] == list(made.table.jobs) == list(reread(place)), room
        assert not list(place.glob("torn-*"))
        made.close()
        shutil.rmtree(place)
    assert ["1", "2", "3"] == stored


def test_what_a_full_disk_took_is_synced_before_it_is_named(opened, monkeypatch):
    """What the refusal calls stored is as safe as what was acknowledged."""
    counted = Counted(monkeypatch, "fdatasync")
    FullDisk(monkeypatch, 500)
    with pytest.raises(StoreFullError) as caught:
        opened.transact(enqueue("1", "2", "3"))

    assert ("1", "2") == caught.value.accepted
    assert {"fdatasync": 1} == counted.calls


def test_partial_line_that_cannot_be_cut_is_cut_by_the_next_writer(opened, monkeypatch):
    """It is a torn tail like any other; a reader in between does not see it."""
    other = Store(opened.paths.home)
    with monkeypatch.context() as patch:
        FullDisk(patch, 300)
        patch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "")))
        with pytest.raises(StoreFullError):
            opened.transact(enqueue("1", "2"))
    other.catch_up()
    assert ["1"] == list(other.table.jobs)

    other.transact(enqueue("3"))

    assert ["1", "3"] == list(reread(opened.paths.home))
    assert opened.catch_up()
    assert opened.table.jobs == other.table.jobs
    other.close()


def test_torn_tail_is_cut_even_if_it_cannot_be_kept_aside(opened, monkeypatch):
    """On a full disk a queue must still open; what is cut off was never acknowledged."""
    opened.transact(enqueue("1"))
    with opened.paths.journal.open("ab") as file:
        file.write(b'{"seq":2,"d"')
    FullDisk(monkeypatch, 5)

    assert ["1"] == list(reread(opened.paths.home))


def test_end_of_an_attempt_is_recorded_on_a_full_disk(opened, monkeypatch):
    """The space that was put by is given up for it, once, and for nothing else."""
    opened.transact(enqueue("1", "2", "3", "4"))
    for id in ("1", "2"):
        opened.transact(lease(id))
    reserve.put_by(opened.paths.reserve)
    assert reserve.BYTES == opened.paths.reserve.stat().st_size

    disk = FullDisk(monkeypatch, 3)
    with pytest.raises(StoreFullError):
        opened.transact(lease("3"))
    disk.room = 3
    opened.transact(settle("1"), vital=True)
    assert 0 == opened.paths.reserve.stat().st_size

    disk.room = 3
    with pytest.raises(StoreFullError):
        opened.transact(settle("2"), vital=True)

    disk.room = 10**6
    reserve.put_by(opened.paths.reserve)
    opened.transact(settle("2"), vital=True)
    assert reserve.BYTES == opened.paths.reserve.stat().st_size
    assert ["completed", "completed", "pending", "pending"] == [
        job.state for job in reread(opened.paths.home).values()
    ]


def test_end_of_an_attempt_is_recorded_on_a_full_disk_after_a_restart_too(home, monkeypatch):
    """The note of the new start of the machine may use the space that was put by as well."""
    made = Store(home)
    made.transact(enqueue("1"))
    made.transact(lease("1"))
    reserve.put_by(made.paths.reserve)
    made.boot = "another"
    FullDisk(monkeypatch, 0)
    made.transact(settle("1"), vital=True)
    made.close()

    assert "completed" == reread(home)["1"].state


def test_note_of_a_restart_may_be_all_that_found_room(home, monkeypatch):
    """Then no job was stored, and the note is not written again."""
    made = Store(home)
    made.boot = "another"
    with monkeypatch.context() as patch:
        FullDisk(patch, 150)
        with pytest.raises(StoreFullError) as caught:
            made.transact(enqueue("1"))
    made.transact(enqueue("2"))
    made.close()

    assert () == caught.value.accepted
    assert ["2"] == list(reread(home))
    assert 1 == made.paths.journal.read_bytes().count(b'"booted"')


def test_without_a_reserve_a_full_disk_is_full(opened, monkeypatch):
    """Nothing was put by, or it could not be."""
    FullDisk(monkeypatch, 0)
    reserve.put_by(opened.paths.reserve)
    with pytest.raises(StoreFullError):
        opened.transact(enqueue("1"), vital=True)


def test_disk_that_refuses_for_another_reason_is_named(opened, monkeypatch):
    """Read-only by now, or broken: the message has the file and the system's own word."""
    FullDisk(monkeypatch, 0, errno.EROFS)
    with pytest.raises(HomeError, match=r"journal.jsonl cannot be used: Read-only file system"):
        opened.transact(enqueue("1"))


def test_full_disk_stops_no_compaction_half_way(opened, monkeypatch):
    """Whatever number of bytes still finds room: the store is as it was, and no draft is left."""
    opened.transact(enqueue("1", "2"))
    before = opened.paths.jobs.read_bytes()
    names = {path.name for path in opened.paths.home.iterdir()}
    for room in range(0, 750, 7):
        with monkeypatch.context() as patch:
            FullDisk(patch, room)
            with pytest.raises(OSError, match=r"No space left"):
                compact(opened)
        assert before == opened.paths.jobs.read_bytes()
        assert names == {path.name for path in opened.paths.home.iterdir()}
        assert ["1", "2"] == list(reread(opened.paths.home))
    with monkeypatch.context() as patch:
        FullDisk(patch, 0)
        tidy_if_cheap(opened)

    assert compact(opened)
    assert opened.table.jobs == reread(opened.paths.home)


# --- a failing disk -----------------------------------------------------------------------------


def failing(code: int, times: int, calls: list):
    """Return a function that fails its first *times* calls."""

    def fail(*args):
        calls.append(args)
        if len(calls) <= times:
            raise OSError(code, os.strerror(code))

    return fail


def test_failed_sync_is_not_tried_again(opened, monkeypatch):
    """A second try would lie; this store writes no more, but it reads, and reopening goes on."""
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(errno.EIO, 1, calls))
        with pytest.raises(OutcomeUnknownError, match=r"did not confirm.*Input/output.*reopen"):
            opened.transact(enqueue("1"))
        with pytest.raises(OutcomeUnknownError):
            opened.transact(enqueue("2"))
        with pytest.raises(OutcomeUnknownError):
            opened.sync(1)
    assert 1 == len(calls)

    again = Store(opened.paths.home)
    again.transact(enqueue("3"))
    again.close()

    assert opened.catch_up()
    assert ["1", "3"] == list(opened.table.jobs) == list(reread(opened.paths.home))


def test_failed_sync_fails_everyone_who_waited_for_it(opened, monkeypatch, until):
    """No thread is told that its change is safe, and none waits for ever."""
    calls, outcomes = [], []

    def fail(_fd):
        calls.append(1)
        until(lambda: len(opened.table.jobs) == 4)
        raise OSError(errno.EIO, "")

    def change(id):
        with pytest.raises(OutcomeUnknownError):
            opened.transact(enqueue(id))
        outcomes.append(id)

    monkeypatch.setattr(os, "fdatasync", fail)
    threads = [threading.Thread(target=change, args=[f"{n}"]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["0", "1", "2", "3"] == sorted(outcomes)
    assert [1] == calls


def test_failed_sync_of_a_compaction_counts_as_one(opened, monkeypatch):
    """The system reports a lost write once: whoever hears of it must not go on."""
    opened.transact(enqueue("1"), wait=False)
    sync = os.fdatasync

    def fail(fd):
        if os.fstat(fd).st_ino == opened.current.inode:
            raise OSError(errno.EIO, "")
        sync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OutcomeUnknownError):
            compact(opened)
    with pytest.raises(OutcomeUnknownError):
        opened.sync(1)
    with pytest.raises(OutcomeUnknownError):
        opened.transact(enqueue("2"))
    assert ["1"] == list(reread(opened.paths.home))


def test_sync_that_could_not_be_asked_for_may_be_asked_for_again(opened, monkeypatch):
    """Without a free descriptor the outcome is unknown, but nothing was lost by asking."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", failing(errno.EMFILE, 9, []))
        with pytest.raises(OutcomeUnknownError, match=r"Too many open files"):
            opened.transact(enqueue("1"))
    opened.transact(enqueue("2"))

    assert 2 == opened.current.durable
