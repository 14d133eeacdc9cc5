"""Who is working on a home, and how to wake or stop them.

Each worker holds the lock of a file of its own in `workers/`, which the system drops when the
worker dies, and listens to a named pipe beside it, its bell. Whoever changes the queue rings all
bells, so that an idle worker sleeps without polling and still starts a job at once. The rules
here: alive means locked, and no pid, age or heartbeat decides; a file is locked before it gets its
name, so that one that is found unlocked is a dead worker's and never comes back to life.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import termios
import threading
from datetime import datetime
from pathlib import Path

import msgspec

from queuectl_magics.lock import Lock, is_locked

LOOK = b"."
STOP = b"s"
STOP_NOW = b"k"
INFO_BYTES = 512


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says about itself: where it lives and how much it does at once."""

    name: str
    pid: int
    kind: str
    count: int
    started_at: datetime


class Presence:
    """A worker's own file and bell, from `announce` until `leave`."""

    def __init__(self, folder: Path, *, kind: str, count: int, now: datetime) -> None:
        name = f"{os.getpid()}-{os.urandom(3).hex()}"
        self.info = WorkerInfo(name=name, pid=os.getpid(), kind=kind, count=count, started_at=now)
        self._folder = folder
        self._path = folder / f"{name}.json"
        self._bell_path = folder / f"{name}.bell"
        self._lock = Lock(folder / f"{name}.tmp")
        self._ringing = threading.RLock()  # a signal may ring in the middle of a ring
        self.bell_fd = -1
        self._poll = select.poll()  # select() itself cannot watch descriptors above 1023

    def announce(self) -> None:
        """Listen, and appear in the list of workers; clear away what dead ones left there."""
        workers(self._folder)
        self._lock.acquire()
        os.mkfifo(self._bell_path, 0o600)
        self.bell_fd = os.open(self._bell_path, os.O_RDWR | os.O_NONBLOCK)
        self._poll.register(self.bell_fd, select.POLLIN)
        self._describe(self._lock.path)
        self._lock.path.rename(self._path)

    def _describe(self, path: Path) -> None:
        """Write about us in one stroke and in place, so that no reader meets half of it."""
        fd = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(fd, msgspec.json.encode(self.info).ljust(INFO_BYTES), 0)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        finally:
            os.close(fd)

    def sleep(self, timeout_s: float) -> bool:
        """Sleep until the bell rings, but no longer than that; say whether it rang."""
        return bool(self._poll.poll(max(0, math.ceil(timeout_s * 1000))))

    @property
    def is_ringing(self) -> bool:
        """Whether something was rung that nobody has listened to."""
        return _is_ringing(self.bell_fd)

    def listen(self) -> bytes:
        """Return what was rung since the last time, without waiting."""
        try:
            return os.read(self.bell_fd, 4096)
        except BlockingIOError:
            return b""

    def tell_count(self, count: int) -> None:
        """Correct what the list of workers says we do at once."""
        if count != self.info.count:
            self.info = msgspec.structs.replace(self.info, count=count)
            self._describe(self._path)

    def ring(self) -> None:
        """Wake this worker from another of its threads."""
        with self._ringing:  # else the descriptor could be closed, and be someone else's, by now
            try:
                if self.bell_fd >= 0 and not _is_ringing(self.bell_fd):
                    os.write(self.bell_fd, LOOK)
            except OSError:
                return  # the worker has left

    def leave(self) -> None:
        """Disappear from the list of workers."""
        for path in (self._bell_path, self._path, self._lock.path):
            path.unlink(missing_ok=True)
        with self._ringing:
            fd, self.bell_fd = self.bell_fd, -1
            if fd >= 0:
                os.close(fd)
        self._lock.close()


def is_alive(folder: Path, name: str | None) -> bool:
    """Say whether the worker *name* still lives."""
    return name is not None and is_locked(folder / f"{name}.json")


def workers(folder: Path) -> list[WorkerInfo]:
    """Return the workers that live, oldest first; what dead ones left behind is removed."""
    found = []
    for path in sorted(folder.glob("*.json")):
        if not is_alive(folder, path.stem):
            _remove(path)
            continue
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=WorkerInfo))
        except (OSError, msgspec.DecodeError):
            continue  # it has just left
    for path in folder.glob("*.tmp"):
        _remove_if_dead(path)
    return sorted(found, key=lambda worker: worker.started_at)


def _remove_if_dead(draft: Path) -> None:
    """Remove what a worker left that died before it had its name.

    Under its lock: a worker that is only just about to take it finds the file gone, and begins
    anew.
    """
    lock = Lock(draft, create=False)
    with contextlib.suppress(FileNotFoundError):
        if lock.try_acquire():
            _remove(draft)
    lock.close()


def _remove(path: Path) -> None:
    """Remove the files of a dead worker; first the bell, which nobody would miss."""
    path.with_suffix(".bell").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def ring(
    folder: Path, message: bytes = LOOK, *, only: str | None = None, besides: str | None = None
) -> int:
    """Ring the bell of every worker, or of one, *besides* that one; return how many heard it."""
    heard = 0
    try:
        bells = [entry.path for entry in os.scandir(folder) if entry.name.endswith(".bell")]
    except OSError:  # the home is gone, or no descriptor is free: they look now and then anyway
        return 0
    for bell in bells:
        if only is not None and not bell.endswith(f"/{only}.bell"):
            continue
        if besides is not None and bell.endswith(f"/{besides}.bell"):
            continue
        try:
            fd = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            continue  # nobody listens there any more
        try:
            if message != LOOK or not _is_ringing(fd):
                os.write(fd, message)
            heard += 1
        except BlockingIOError:
            heard += 1  # it has not even heard the last rings: it will look
        except BrokenPipeError:
            pass  # it has died since
        finally:
            os.close(fd)
    return heard


def _is_ringing(fd: int) -> bool:
    """Say whether a ring is still unheard; more would fill the pipe until a stop finds no room."""
    return any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
