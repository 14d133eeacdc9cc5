"""The home: the directory of one queue, and whether it may be used.

A home is private (0700, every file 0600) and lies on a local disk: `flock`, on which everything
rests, does not exclude across the caches of two network clients. The rule here: a home that cannot
be used is refused before anything in it is touched, with the reason and the way out.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from queuectl_magics.errors import HomeError
from queuectl_magics.variables import ALLOW_NETWORK_VARIABLE, HOME_VARIABLE

NETWORK_TYPES = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "virtiofs", "afs", "ceph", "lustre")
OTHER = f"choose another with --home or {HOME_VARIABLE}"
FOLDERS = ("run", "logs", "env", "workers")
QUEUE_NAMES = {"journal.jsonl", "jobs.json", "journal.prev.jsonl", "jobs.prev.json"}
OWN_NAMES = {
    *FOLDERS,
    *("compact.lock", "guard.lock", "guard.log", "reserve", "config.json", ".gitignore"),
}
OWN_BEGINNINGS = ("archive-", "damaged-", "torn-")


class Paths:
    """Where each file of the home lies."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.jobs = home / "jobs.json"
        self.journal = home / "journal.jsonl"
        self.jobs_prev = home / "jobs.prev.json"
        self.journal_prev = home / "journal.prev.jsonl"
        self.compact_lock = home / "compact.lock"
        self.reserve = home / "reserve"
        self.run = home / "run"
        self.logs = home / "logs"
        self.env = home / "env"
        self.workers = home / "workers"

    def torn(self, seq: int) -> Path:
        """Return where the bytes cut off after event *seq* are kept."""
        return self.home / f"torn-{seq}.bin"


def prepare_home(home: Path) -> Paths:
    """Make *home* ready for use, creating it if need be, and return its paths.

    Raises:
        HomeError: it is a file, someone else's, unreadable, read-only or on a network disk.

    """
    _check_disk(home)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_home(home)
        _furnish(home)
    except (FileExistsError, NotADirectoryError) as error:
        path = Path(error.filename)
        file = next((part for part in (path, *path.parents) if part.is_file()), path)
        msg = f"the queue's home {home} cannot be used, {file} is a file: {OTHER}"
        raise HomeError(msg) from None
    except OSError as error:
        msg = f"the queue's home {home} cannot be used ({error.strerror}): {OTHER}"
        raise HomeError(msg) from None
    return Paths(home)


def check_home(home: Path) -> None:
    """Accept the directory *home*, or say why it cannot be used; changes nothing.

    Raises:
        HomeError: it is someone else's, unreadable, read-only, on a network disk, or a directory
            that holds other things than a queue.

    """
    if home.stat().st_uid != os.geteuid():
        msg = f"the queue's home {home} belongs to another user: {OTHER}"
        raise HomeError(msg)
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK) or os.statvfs(home).f_flag & os.ST_RDONLY:
        msg = f"the queue's home {home} is read-only or unreadable: {OTHER}"
        raise HomeError(msg)
    names = set(os.listdir(home))
    left = (name for name in names if not name.endswith(".tmp"))
    strange = {name for name in left if not name.startswith(OWN_BEGINNINGS)} - OWN_NAMES
    if strange and not names & QUEUE_NAMES:
        msg = f"{home} is no queue's home: there are other things in it ({min(strange)}): {OTHER}"
        raise HomeError(msg)
    _check_disk(home)


def _check_disk(home: Path) -> None:
    kind = filesystem_type(home)
    if kind.startswith(NETWORK_TYPES) and not os.environ.get(ALLOW_NETWORK_VARIABLE):
        msg = (
            f"the queue's home {home} is on a network file system ({kind}), where locks do not "
            f"hold: {OTHER}, or set {ALLOW_NETWORK_VARIABLE}=1 if only one machine uses it"
        )
        raise HomeError(msg)


def _furnish(home: Path) -> None:
    if stat.S_IMODE(home.stat().st_mode) & 0o077:
        home.chmod(0o700)
    for folder in FOLDERS:
        (home / folder).mkdir(mode=0o700, exist_ok=True)
    ignore = home / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
        ignore.chmod(0o600)


def filesystem_type(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that *path* is on, or an empty text if unknown.

    *mounts* is the text of `/proc/mounts`, for tests.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text()
        except OSError:
            return ""
    real = os.path.realpath(path) + "/"
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, name, *_ = line.split(" ")
        folder = point.replace("\\040", " ").rstrip("/") + "/"
        if real.startswith(folder) and len(folder) >= len(best):  # the last one on top is in force
            best, kind = folder, name
    return kind
