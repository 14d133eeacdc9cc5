"""A queue on a disk that is really full, or has really become read-only: a small one in memory.

What a full disk takes at which byte is told by `test_store_disk.py`, with a disk that is a fake.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl_magics.errors import HomeError, StoreFullError
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobQueue

PIECE = b"x" * 512


class SmallDisk:
    """A disk of one MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def mount(self, *options: str) -> bool:
        """Mount it, or change how it is mounted; say whether we may."""
        argv = ["mount", "-t", "tmpfs", "-o", ",".join(["size=1m", *options])]
        tried = subprocess.run(
            [*argv, "tmpfs", str(self.folder)], capture_output=True, check=False
        )
        return tried.returncode == 0

    def fill(self) -> None:
        """Leave no byte of it."""
        with contextlib.suppress(OSError), self.filler.open("wb", 0) as filler:
            while filler.write(PIECE):
                pass
        assert 0 == os.statvfs(self.folder).f_bavail


@pytest.fixture
def disk(tmp_path: Path, own_home: Path) -> Iterator[SmallDisk]:
    """A small disk in the place of the home."""
    own_home.mkdir()
    disk = SmallDisk(own_home)
    if not disk.mount():
        pytest.skip("only root may mount a disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(own_home)], check=True)


def enqueue_until_refused(queue: JobQueue) -> list[str]:
    """Return what a full disk has accepted."""
    told = []
    try:
        while True:
            told.append(queue.enqueue("true", delay=3600).id)
    except StoreFullError as error:
        return [*told, *error.accepted]


def test_a_full_disk_loses_nothing_and_works_again_when_there_is_room(
    disk, own_home, tmp_path, until
):
    """What was accepted is there, what was running is settled, and the next job is accepted."""
    with JobQueue(own_home) as queue:
        queue.worker()
        line = "echo begun; until [ -e go ]; do sleep 0.02; done; exit 7"
        running = queue.enqueue(line, cwd=str(tmp_path), max_retries=1)
        until(lambda: running.output)
        disk.fill()
        told = enqueue_until_refused(queue)
        (tmp_path / "go").touch()
        until(lambda: running.state is State.DEAD)
        disk.filler.unlink()
        told.append(queue.enqueue("true", delay=3600).id)

    with JobQueue(own_home) as queue:
        assert (7, "begun\n") == (queue.job(running.id).exit_code, queue.job(running.id).output)
        assert [running.id, *told] == [record.id for record in queue.records()]


def test_a_read_only_disk_is_refused_and_left_as_it_is(disk, own_home):
    """One line says what it is; when it can be written again, all jobs are there."""
    with JobQueue(own_home) as queue:
        queue.enqueue("true")
    assert disk.mount("remount", "ro")

    with pytest.raises(HomeError, match="is read-only or unreadable: choose another"):
        JobQueue(own_home)

    assert disk.mount("remount", "rw")
    with JobQueue(own_home) as queue:
        assert ["1"] == [record.id for record in queue.records()]
