"""A disk whose power may be cut: what was asked of it, and what it may hold afterwards.

The file operations of the store are recorded through a shim over `os`. Then, for a cut after each
of them, the states are enumerated that a file system may leave behind: any subset of the names
that no `fsync` of their folder has confirmed, and the data that no `fsync` of its file has
confirmed lost, torn, zero-filled or with a hole.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOAK = bool(os.environ.get("QUEUECTL_SOAK_S"))  # set by `make soak`
NAME_SUBSETS_MAX = 2**10 if SOAK else 2**7
STATES_PER_POINT_MAX = 2_000
REAL = {
    name: getattr(os, name)
    for name in (
        "open", "write", "pwrite", "ftruncate", "truncate", "fsync", "fdatasync", "rename",
        "replace", "link", "unlink", "remove", "mkdir", "dup", "close",
    )
    if hasattr(os, name)
}  # fmt: skip


class Killed(BaseException):
    """The process was killed at this operation."""


# --- the recorder -------------------------------------------------------------------------------


class Disk:
    """What a process asks of the file system below *root*, operation by operation.

    Attributes:
        ops: the operations so far; names are relative to *root*, files are numbers.
        kill_at: the index of the operation at which the process is killed, if any.
        killed_at: how many operations there were when it was killed.
        room: how many bytes are free, if the disk is about to be full.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ops: list[tuple] = []
        self.kill_at: int | None = None
        self.killed_at = 0
        self.room: int | None = None
        self.dead = False
        self._names: dict[str, int] = {}
        self._fds: dict[int, int | str] = {}
        self._number = itertools.count(1)

    def adopt(self) -> None:
        """Take what lies below *root* already as being on the disk."""
        for folder, _, files in os.walk(self.root):
            if folder != str(self.root):
                self.ops.append(("mkdir", self._rel(folder)))
            for name in files:
                path = os.path.join(folder, name)
                file = self._names[self._rel(path)] = next(self._number)
                self.ops.append(("create", self._rel(path), file))
                self.ops.append(("write", file, 0, Path(path).read_bytes()))
                self.ops.append(("sync", file))
        for folder, _, _ in os.walk(self.root):
            self.ops.append(("syncdir", self._rel(folder)))

    @contextmanager
    def recording(self) -> Iterator[Disk]:
        """Record what this process does within the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in REAL:
                patch.setattr(os, name, getattr(self, name))
            yield self

    def _rel(self, path: object) -> str:
        return os.path.relpath(os.fspath(path), self.root)

    def _ours(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(
            str(self.root)
        )

    def _note(self, *op: object) -> None:
        if self.kill_at == len(self.ops) and not self.dead:
            self.dead, self.killed_at = True, len(self.ops)
            raise Killed
        if not self.dead:
            self.ops.append(op)

    def open(self, path, flags, mode=0o777, **more):
        """Record a new file, or that one was emptied."""
        ours = self._ours(path)
        rel = self._rel(path) if ours else ""
        is_new = ours and flags & os.O_CREAT and rel not in self._names
        if is_new:
            self._note("create", rel, file := next(self._number))
            if self.dead:
                return REAL["open"](os.devnull, os.O_RDWR)
            self._names[rel] = file
        elif ours and flags & os.O_TRUNC:
            self._note("truncate", self._names[rel], 0)
        fd = REAL["open"](path, flags, mode, **more)
        if ours:
            self._fds[fd] = self._names.get(rel, rel)
        return fd

    def write(self, fd, data):
        """Record bytes at the end of a file, or where its descriptor stands."""
        file = self._fds.get(fd)
        if file is None:
            return REAL["write"](fd, data)
        return self._write(file, fd, data, None)

    def pwrite(self, fd, data, offset):
        """Record bytes at a place of a file."""
        file = self._fds.get(fd)
        if file is None:
            return REAL["pwrite"](fd, data, offset)
        return self._write(file, fd, data, offset)

    def _write(self, file, fd, data, offset):
        import fcntl

        if offset is None:
            append = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
            at = os.fstat(fd).st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
        else:
            at = offset
        if self.room is not None:
            data = data[: self.room]
            self.room -= len(data)
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._note("write", file, at, bytes(data))
        if self.dead:
            return len(data)
        return REAL["write"](fd, data) if offset is None else REAL["pwrite"](fd, data, offset)

    def ftruncate(self, fd, size):
        """Record that a file was cut."""
        self._note("truncate", self._fds[fd], size)
        if not self.dead:
            REAL["ftruncate"](fd, size)

    def truncate(self, path, size):
        """Record that a file was cut."""
        self._note("truncate", self._names[self._rel(path)], size)
        if not self.dead:
            REAL["truncate"](path, size)

    def fsync(self, fd):
        """Record that a file, or the names in a folder, are on the disk now."""
        file = self._fds.get(fd)
        if isinstance(file, int):
            self._note("sync", file)
        elif file is not None:
            self._note("syncdir", file)

    fdatasync = fsync

    def rename(self, old, new):
        """Record that a file has another name now."""
        if not self._ours(old):
            REAL["rename"](old, new)
            return
        a, b = self._rel(old), self._rel(new)
        if self._names.get(a) == self._names.get(b) and a in self._names:
            return  # two names of one file: rename(2) does nothing
        file = self._names.get(a)
        self._note("rename", a, b, file)
        if self.dead:
            return
        REAL["rename"](old, new)
        self._names[b] = self._names.pop(a)

    replace = rename

    def link(self, old, new):
        """Record that a file has a second name."""
        self._note("link", self._rel(new), file := self._names[self._rel(old)])
        if not self.dead:
            REAL["link"](old, new)
            self._names[self._rel(new)] = file

    def unlink(self, path, **more):
        """Record that a name is gone."""
        if not self._ours(path):
            REAL["unlink"](path, **more)
        elif self._rel(path) not in self._names:
            raise FileNotFoundError(path)
        else:
            self._note("unlink", self._rel(path))
            if not self.dead:
                REAL["unlink"](path, **more)
                del self._names[self._rel(path)]

    remove = unlink

    def mkdir(self, path, mode=0o777, **more):
        """Record a new folder."""
        if self._ours(path) and not os.path.exists(path) and os.path.isdir(os.path.dirname(path)):
            self._note("mkdir", self._rel(path))
        if not self.dead:
            REAL["mkdir"](path, mode, **more)

    def dup(self, fd):
        """Remember what the new descriptor stands for."""
        new = REAL["dup"](fd)
        if fd in self._fds:
            self._fds[new] = self._fds[fd]
        return new

    def close(self, fd):
        """Forget a descriptor."""
        self._fds.pop(fd, None)
        REAL["close"](fd)


# --- the states that a cut may leave ------------------------------------------------------------

NAMING = ("create", "rename", "link", "unlink", "mkdir")
Left = dict[str, bytes | None]  # name → content; None for a folder


def states_after(ops: list[tuple], dice: random.Random) -> Iterator[Left]:
    """Yield what the disk may hold when the power is cut after *ops*."""
    synced = {op[1]: at for at, op in enumerate(ops) if op[0] == "syncdir"}
    naming = [(at, op) for at, op in enumerate(ops) if op[0] in NAMING]
    loose = [at for at, op in naming if at > synced.get(os.path.dirname(op[1]) or ".", -1)]
    sure = [op for at, op in naming if not loose or at < loose[0]]
    rest = [(at, op) for at, op in naming if loose and at >= loose[0]]
    begin: dict[str, int | None] = {}
    for op in sure:
        apply_name(begin, op)
    variants = {
        file: list(contents_after(list(changes), dice)) for file, changes in by_file(ops).items()
    }
    chances = list(subsets(loose, dice))
    for lost in chances:
        names = dict(begin)
        for at, op in rest:
            if at not in lost:
                apply_name(names, op)
        names = rooted(names)
        files = sorted({file for file in names.values() if file is not None})
        choices = [variants.get(file, [b""]) for file in files]
        for chosen in combinations(choices, max(50, STATES_PER_POINT_MAX // len(chances)), dice):
            content = dict(zip(files, chosen, strict=True))
            yield {name: None if file is None else content[file] for name, file in names.items()}


def apply_name(names: dict[str, int | None], op: tuple) -> None:
    """Let one operation on names take effect."""
    match op:
        case ("create" | "link", name, file):
            names[name] = file
        case ("rename", old, new, file):
            names.pop(old, None)
            names[new] = file
        case ("unlink", name):
            names.pop(name, None)
        case ("mkdir", name):
            names[name] = None


def rooted(names: dict[str, int | None]) -> dict[str, int | None]:
    """Return the names whose folders are there."""
    kept: dict[str, int | None] = {}
    for name in sorted(names):
        folder = os.path.dirname(name)
        if not folder or folder in kept:
            kept[name] = names[name]
    return kept


def subsets(loose: list[int], dice: random.Random) -> Iterator[set[int]]:
    """Yield which of the unconfirmed operations are lost: every subset, if they are few."""
    yield set()
    yield set(loose)
    if 2 ** len(loose) <= NAME_SUBSETS_MAX:
        for count in range(1, len(loose)):
            yield from map(set, itertools.combinations(loose, count))
        return
    for at in range(1, len(loose)):  # the tail is lost; the head is lost; one is lost; one stays
        yield set(loose[at:])
        yield set(loose[:at])
    for one in loose:
        yield {one}
        yield set(loose) - {one}
    for _ in range(NAME_SUBSETS_MAX):
        yield {at for at in loose if dice.random() < 0.5}


def by_file(ops: list[tuple]) -> dict[int, list[tuple[tuple, bool]]]:
    """Return for each file its changes, each with whether a sync has confirmed it."""
    changes: dict[int, list[tuple[tuple, bool]]] = {}
    for op in ops:
        if op[0] in ("write", "truncate"):
            changes.setdefault(op[1], []).append((op, False))
        elif op[0] == "sync":
            changes[op[1]] = [(change, True) for change, _ in changes.get(op[1], [])]
    return changes


def contents_after(changes: list[tuple[tuple, bool]], dice: random.Random) -> Iterator[bytes]:
    """Yield what a file may hold: each unconfirmed write there, lost, zeros, torn or holed."""
    sure = [op for op, confirmed in changes if confirmed]
    loose = [op for op, confirmed in changes if not confirmed]
    base = written(b"", [(op, "there") for op in sure])
    yield written(base, [(op, "there") for op in loose])
    if not loose:
        return
    fates = ("lost", "there", "zeros")
    if len(loose) <= 3:
        chosen = list(itertools.product(fates, repeat=len(loose)))
    else:
        chosen = [tuple(dice.choice(fates) for _ in loose) for _ in range(27)]
        chosen += [("lost",) * len(loose), ("zeros",) * len(loose)]
        chosen += [("zeros",) + ("there",) * (len(loose) - 1)]
    for fate in chosen:
        yield written(base, list(zip(loose, fate, strict=True)))
    for at, op in enumerate(loose):
        if op[0] == "write":
            for cut in cuts(op[3]):
                for kind in ("torn", "torn-zeros", "holed"):
                    before = [(other, "there") for other in loose[:at]]
                    after = [(other, "there") for other in loose[at + 1 :]]
                    yield written(base, [*before, (op, (kind, cut)), *after])
                    yield written(base, [*before, (op, (kind, cut))])


def cuts(data: bytes) -> list[int]:
    """Return where a write may be torn: near its ends, in the middle, at the ends of its lines."""
    places = {1, len(data) // 2, len(data) - 1, *range(1, len(data), 7 if SOAK else len(data))}
    places |= {at for at, byte in enumerate(data) if byte == ord("\n")}
    places |= {at + 1 for at, byte in enumerate(data[:-1]) if byte == ord("\n")}
    good = sorted(place for place in places if 0 < place < len(data))
    return good if len(good) <= 6 or SOAK else [*good[:3], *good[-3:]]


def written(base: bytes, changes: list[tuple[tuple, object]]) -> bytes:
    """Return *base* after *changes*, each with its fate."""
    content = bytearray(base)
    for op, fate in changes:
        if fate == "lost":
            continue
        if op[0] == "truncate":
            del content[op[2] :]
            content.extend(bytes(max(0, op[2] - len(content))))
            continue
        _, _, at, data = op
        match fate:
            case "zeros":
                data = bytes(len(data))
            case ("torn", cut):
                data = data[:cut]
            case ("torn-zeros", cut):
                data = data[:cut] + bytes(len(data) - cut)
            case ("holed", cut):
                data = bytes(cut) + data[cut:]
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data
    return bytes(content)


def combinations(
    choices: list[list[bytes]], most: int, dice: random.Random
) -> Iterator[tuple[bytes, ...]]:
    """Yield every combination of contents; if they are many, the first one and a sample."""
    count = 1
    for one in choices:
        count *= len(one)
    if count <= most:
        yield from itertools.product(*choices)
        return
    yield tuple(one[0] for one in choices)
    for _ in range(most):
        yield tuple(dice.choice(one) for one in choices)
