"""Which directory may be a home, what is found in it at first, and who may read it."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from queuectl_magics import codec
from queuectl_magics.codec import FORMAT, Opened
from queuectl_magics.errors import HomeError, StoreDamagedError, StoreFullError
from queuectl_magics.journal import frame
from queuectl_magics.store import Store, opening, reserve
from queuectl_magics.store import home as homes
from queuectl_magics.store.compaction import compact
from queuectl_magics.store.home import filesystem_type
from stores import enqueue

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CLASSIC = [
    {
        "id": "job1",
        "command": "echo hi",
        "state": "failed",
        "attempts": 2,
        "max_retries": 3,
        "created_at": "2025-11-04T10:30:00Z",
        "updated_at": "2025-11-04T10:30:00Z",
        "note": "a key of theirs",
    },
    {"id": 7, "command": "true", "state": "processing"},
]
MOUNTS = """\
proc /proc proc rw 0 0
/dev/vda / ext4 rw,relatime 0 0
server:/export /mnt/nfs nfs4 rw,addr=10.0.0.1 0 0
/dev/vdb /mnt/nfs/local xfs rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
tmpfs /over tmpfs rw 0 0
user@server:/ /over fuse.sshfs rw 0 0
"""


def closed(home: Path, *ids: str) -> Store:
    """Return a store of these jobs, closed again."""
    made = Store(home)
    if ids:
        made.transact(enqueue(*ids))
    made.close()
    return made


def files(home: Path) -> dict[str, bytes]:
    """Return what lies in *home*: name → content."""
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}


# --- which directory may be a home --------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_home_and_all_in_it_are_private_whatever_the_umask(home, umask):
    """0700 for folders, 0600 for files; also for a folder that was there before."""
    home.mkdir(mode=0o755)
    before = os.umask(umask)
    try:
        made = Store(home)
        made.transact(enqueue("1"))
        reserve.put_by(made.paths.reserve)
        compact(made)
        with made.paths.journal.open("ab") as file:
            file.write(b"torn")
        made.transact(enqueue("2"))
        made.close()
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}

    assert {"jobs.prev.json", "journal.prev.jsonl", "torn-1.bin", "run"} <= {
        path.name for path in modes
    }
    assert {path: 0o700 if path.is_dir() else 0o600 for path in modes} == modes


def test_home_is_hidden_from_git(home):
    """Nobody commits a queue by accident; what the user wrote there stays."""
    closed(home)
    assert "*\n" == (home / ".gitignore").read_text()

    (home / ".gitignore").write_text("mine")
    closed(home)
    assert "mine" == (home / ".gitignore").read_text()


@pytest.mark.parametrize("below", ["", "deep/down"])
def test_file_is_no_home(home, below):
    """Neither a file nor something below one."""
    home.write_text("a file")
    with pytest.raises(HomeError, match=rf"{home} is a file: choose another with --home"):
        Store(home / below)
    assert "a file" == home.read_text()


def test_file_in_the_place_of_a_folder_is_named(home):
    """The folders of a home are its own."""
    home.mkdir()
    (home / "logs").write_text("a file")
    with pytest.raises(HomeError, match=r"logs is a file"):
        Store(home)


def test_folder_with_other_things_is_no_home(home):
    """A slip of the keyboard must not turn somebody's project into a queue."""
    home.mkdir()
    (home / "thesis.tex").touch()
    with pytest.raises(HomeError, match=r"no queue's home: there are other things in it \(thesis"):
        Store(home)
    assert ["thesis.tex"] == os.listdir(home)


def test_home_may_hold_other_things_beside_the_queue(home):
    """Whoever puts a note into it may go on."""
    closed(home, "1")
    (home / "note.txt").touch()

    assert ["1"] == list(closed(home).table.jobs)


def test_home_of_another_user_is_refused(home, monkeypatch):
    """Commands that somebody else can change would run as ours."""
    home.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(HomeError, match=rf"{home} belongs to another user: choose another"):
        Store(home)
    assert {} == files(home)


def test_home_that_cannot_be_written_is_refused(home, monkeypatch):
    """Before anything is tried."""
    home.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(HomeError, match=rf"{home} is read-only or unreadable: choose another"):
        Store(home)
    assert {} == files(home)


def test_home_on_a_read_only_disk_is_refused(home, monkeypatch):
    """Root may write everywhere but there."""
    home.mkdir()
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(HomeError, match=r"read-only"):
        Store(home)
    assert {} == files(home)


def test_home_that_cannot_be_made_is_refused(home, monkeypatch):
    """With the system's own word for it."""

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(HomeError, match=r"cannot be used \(Read-only file system\): choose"):
        Store(home)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/.queuectl", "ext4"),
        ("/mnt/nfs/me/.queuectl", "nfs4"),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfsnot", "ext4"),
        ("/mnt/nfs/local/.queuectl", "xfs"),
        ("/mnt/with space/.queuectl", "cifs"),
        ("/over/.queuectl", "fuse.sshfs"),
    ],
)
def test_file_system_is_the_nearest_mount_the_latest_on_top(path, kind):
    """As the system's own list of mounts has it."""
    assert kind == filesystem_type(Path(path), MOUNTS)


def test_file_system_is_unknown_where_there_is_no_list_of_mounts(monkeypatch):
    """As on macOS."""

    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "" == filesystem_type(Path("/"))


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre"])
def test_network_file_system_is_refused_before_anything_is_written(home, monkeypatch, kind):
    """Locks do not hold there; the message says so, and how to insist."""
    monkeypatch.setattr(homes, "filesystem_type", lambda _: kind)
    with pytest.raises(
        HomeError, match=rf"network file system \({kind}\).*=1 if only one machine"
    ):
        Store(home)
    assert not home.exists()

    monkeypatch.setenv("QUEUECTL_ALLOW_NETWORK_HOME", "1")
    closed(home)


def test_file_that_may_not_be_opened_is_named(home, monkeypatch):
    """A home that was once used by root."""
    closed(home)
    look = os.open

    def refuse(path, *args):
        if str(path).endswith("journal.jsonl"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HomeError, match=r"journal.jsonl cannot be used: Permission denied"):
        Store(home)


def test_failed_opening_keeps_no_descriptor(home):
    """However often it is tried."""
    closed(home, "1")
    (home / "jobs.json").write_text("[]")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StoreDamagedError, match=r"jobs.json was altered or lost"):
            Store(home)

    assert before == len(os.listdir("/proc/self/fd"))


def test_disk_that_is_full_at_first_leaves_a_home_that_opens_later(home, monkeypatch):
    """Whichever write fails."""
    write = os.write
    for good in range(5):
        calls = iter(range(100))

        def full(fd, data, calls=calls, good=good):
            if next(calls) >= good:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(fd, data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            try:
                closed(home)
            except StoreFullError as error:
                assert f"the disk of {home} is full" == str(error)  # noqa: PT017
    closed(home, "1")


# --- what is found in it ------------------------------------------------------------------------


def test_new_home_has_an_empty_array(home):
    """`jq` and pandas open it from the first moment on."""
    closed(home)

    assert "[]\n" == (home / "jobs.json").read_text()
    assert not (home / "jobs.prev.json").exists()


def test_jobs_of_another_tool_are_taken_over(home):
    """Their file is kept beside ours; what ran there starts over; numbers go on from theirs."""
    home.mkdir()
    (home / "jobs.json").write_text(json.dumps(CLASSIC))
    made = Store(home)
    made.transact(enqueue("9"))

    assert [("job1", "failed", 2), ("7", "pending", 0), ("9", "pending", 0)] == [
        (job.id, job.state, job.attempts) for job in made.table.jobs.values()
    ]
    assert 10 == made.table.next_number
    assert CLASSIC == json.loads((home / "jobs.prev.json").read_text())
    assert ["job1", "7"] == [job["id"] for job in json.loads((home / "jobs.json").read_text())]
    made.close()
    again = closed(home)
    assert made.table.jobs == again.table.jobs


@pytest.mark.parametrize("text", ["", "[]", " \n"])
def test_empty_file_of_another_tool_is_an_empty_queue(home, text):
    """There is nothing to keep."""
    home.mkdir()
    (home / "jobs.json").write_text(text)

    assert {} == closed(home).table.jobs
    assert not (home / "jobs.prev.json").exists()


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ("not json", "not an array of jobs"),
        ('{"id": "1"}', "not an array of jobs"),
        ([{"id": "1", "command": "x"}] * 2, "two jobs with the id '1'"),
        ([{"id": "../x", "command": "x"}], "'../x' cannot be an id"),
        ([{"id": "1", "command": " "}], "job '1': the command is empty"),
        ([{"id": "1", "command": "x", "state": "zombie"}], "unknown state 'zombie'"),
        ([{"id": "1", "command": "x", "attempts": -1}], "attempts is -1"),
        ([{"id": "1", "command": "x", "max_retries": -1}], "max_retries is -1"),
        ([{"id": "1", "command": "x", "created_at": "0001-01-01T00:00:00+14:00"}], "out of range"),
    ],
)
def test_file_that_is_no_list_of_jobs_is_refused_and_not_touched(home, jobs, words):
    """The message names the file, what is wrong with it, and what to do."""
    home.mkdir()
    text = jobs if isinstance(jobs, str) else json.dumps(jobs)
    (home / "jobs.json").write_text(text)
    for _ in range(2):
        with pytest.raises(StoreDamagedError) as caught:
            Store(home)
        assert f"{home}/jobs.json cannot be imported: " in str(caught.value)
        assert words in str(caught.value)
        assert "(mend it, or move it away)" in str(caught.value)
    assert text == (home / "jobs.json").read_text()
    assert {".gitignore", "jobs.json", "compact.lock"} == set(files(home))


def test_import_that_is_cut_short_is_taken_up_again(home, monkeypatch):
    """At whichever step: the same jobs in the end, and the original is kept."""
    home.mkdir()
    (home / "jobs.json").write_text(json.dumps(CLASSIC))
    rename = Path.rename
    steps = []

    def cut_short(path, target):
        steps.append(target.name)
        if len(steps) < 4:
            raise KeyboardInterrupt
        rename(path, target)
        raise KeyboardInterrupt

    for _ in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", cut_short)
            with pytest.raises(KeyboardInterrupt):
                Store(home)
    found = closed(home).table.jobs

    assert ["job1", "7"] == list(found)
    assert (2, 2, "failed") == (found["job1"].attempts, found["job1"].attempt, found["job1"].state)
    assert CLASSIC == json.loads((home / "jobs.prev.json").read_text())


def test_lost_journal_is_not_taken_for_a_new_home(home):
    """Its jobs would be taken over without their past, and those that run would run twice."""
    made = Store(home)
    made.transact(enqueue("1"))
    compact(made)
    made.close()
    (home / "journal.jsonl").unlink()
    before = files(home)
    with pytest.raises(StoreDamagedError, match=r"journal.jsonl is missing.*queuectl repair"):
        Store(home)

    assert before == files(home)


def journal_of(home: Path, *, format: str = FORMAT, lines: list[bytes] = ()) -> None:
    """Write a journal of one's own beside an empty snapshot."""
    home.mkdir()
    (home / "jobs.json").write_bytes(opening.snapshot_text([]))
    header = Opened(
        at=T0,
        format=format,
        store="s",
        generation=1,
        boot="b",
        next_number=1,
        snapshot_bytes=3,
        snapshot_crc=opening.checksum(b"[]\n"),
    )
    framed = [frame(seq, 0, line) for seq, line in enumerate(lines, 1)]
    text = frame(0, 0, codec.encode_line(header)) + b"".join(framed)
    (home / "journal.jsonl").write_bytes(text)


def test_journal_of_a_newer_format_is_refused_with_its_name(home):
    """The way out is a newer version, not a repair."""
    journal_of(home, format="queuectl.journal/2")
    before = files(home)
    with pytest.raises(StoreDamagedError) as caught:
        Store(home)

    assert str(caught.value) == (
        f"{home}/journal.jsonl is written as queuectl.journal/2, this version reads "
        "queuectl.journal/1: use a newer queuectl_magics"
    )
    assert before == {name: text for name, text in files(home).items() if name in before}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            b'{"op":"teleported","at":"2026-01-01T00:00:00Z","id":"1"}',
            "Invalid value 'teleported'",
        ),
        (b'{"op":"retried","at":"2026-01-01T00:00:00Z","id":"1"}', "job 1, which does not exist"),
        (b'{"op":"retried","at":"2026-01-01T00:00:00Z"}', "missing required field `id`"),
    ],
)
def test_whole_line_that_makes_no_sense_is_refused(home, line, words):
    """It is as somebody wrote it: a newer version, or a hand."""
    journal_of(home, lines=[line])
    before = files(home)
    with pytest.raises(StoreDamagedError) as caught:
        Store(home)

    assert f"{home}/journal.jsonl: event 1 makes no sense here" in str(caught.value)
    assert words in str(caught.value)
    assert "by a newer queuectl_magics, or by hand" in str(caught.value)
    assert before == {name: text for name, text in files(home).items() if name in before}


NESTED = b'{"op":"opened","x":' + b"[" * 200_000  # deeper than any decoder goes


@pytest.mark.parametrize("first", [b"", b"\n", b"{}\n", b'{"op":"opened"}\n', NESTED + b"\n"])
def test_journal_without_its_first_line_is_refused(home, first):
    """It appears whole or not at all, so this is damage."""
    closed(home, "1")
    (home / "journal.jsonl").write_bytes(first)
    with pytest.raises(StoreDamagedError, match=r"journal.jsonl: line 1 is damaged"):
        Store(home)


def test_journal_that_begins_with_a_line_of_another_kind_is_refused(home):
    """Also if that line is whole."""
    closed(home, "1")
    _, _, rest = (home / "journal.jsonl").read_bytes().partition(b"\n")
    (home / "journal.jsonl").write_bytes(rest)
    with pytest.raises(StoreDamagedError, match=r"line 1 is damaged"):
        Store(home)
    (home / "journal.jsonl").write_bytes(frame(0, 0, b'{"op":"teleported"}'))
    with pytest.raises(StoreDamagedError, match=r"line 1 is damaged"):
        Store(home)
