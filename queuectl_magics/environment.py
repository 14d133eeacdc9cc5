"""The environment of whoever enqueued a job, kept once and apart from the journal.

A command runs where and as it was typed: in that directory, with that PATH and that virtual
environment. The variables lie in one file per distinct set, named by its content; jobs only hold
the name. So a thousand jobs of one notebook share a file, and no secret ever reaches `jobs.json`,
the journal, a repr or a status. A file looks like the output of `env -0`, since a value may be any
bytes. The rule here: values go in and come out by reference, and nothing prints them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from queuectl_magics import clock
from queuectl_magics.errors import InvalidInputError, StoreDamagedError
from queuectl_magics.journal import sync_folder, write_file

_OURS_ALONE = (
    *("JPY_PARENT_PID", "JPY_INTERRUPT_EVENT", "JPY_SESSION_NAME"),
    *("QUEUECTL_JOB_ID", "QUEUECTL_ATTEMPT", "QUEUECTL_RUN"),  # a job may enqueue jobs
    *("OLDPWD", "PWD", "SHLVL", "_"),
)
REMEMBERED = 64
# What `os.environb` keeps; to ask that itself takes 20 µs, a tenth of all it takes to enqueue.
_BYTES: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)

_own: dict[str | None, tuple[dict[bytes, bytes], Mapping[str, str]]] = {}
_kept: dict[Path, tuple[Mapping[str, str] | None, str, tuple[int, ...]]] = {}
_NOTHING = (None, "", ())


def capture(
    environ: Mapping[str, str] | None = None, *, python: str | None = None
) -> Mapping[str, str]:
    """Return the environment in which the commands of this process should run.

    *python* is the interpreter of a notebook's kernel: its folder comes first in PATH, so that
    `python` in a command is the notebook's own, whatever the kernel was started from. Variables
    that speak of this process alone are left out, and so is a plotting back end that only works
    inside a kernel. Python's output is unbuffered unless the user says otherwise, so that logs are
    live. Of our own environment it is the same object until that changes: `keep` knows it again.

    Raises:
        InvalidInputError: *environ* holds what no process can be given.

    """
    if environ is not None:
        _check(environ)
        return _chosen(environ, python)
    before, kept = _own.get(python, (None, {}))
    if before != _BYTES:
        now = dict(_BYTES)
        kept = MappingProxyType(_chosen(os.environ, python))
        _own[python] = now, kept
    return kept


def _check(given: Mapping[str, str]) -> None:
    many: object = given
    if not isinstance(many, Mapping):
        msg = f"an environment is a mapping of names to values, no {type(many).__name__}"
        raise InvalidInputError(msg)
    for name, value in given.items():
        pair: tuple[object, object] = (name, value)
        are_texts = all(isinstance(one, str) for one in pair)
        if not are_texts or not name or "=" in name or "\0" in name + value:
            msg = (
                f"the environment variable {name!r} cannot be given to a process: it needs a name "
            )
            raise InvalidInputError(msg + "without = or NUL, and a text without NUL as its value")


def _chosen(given: Mapping[str, str], python: str | None) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name and name not in _OURS_ALONE}
    if kept.get("MPLBACKEND", "").startswith("module://"):
        del kept["MPLBACKEND"]
    kept.setdefault("PYTHONUNBUFFERED", "1")
    folder = os.path.dirname(python or "")
    if folder:
        path = kept.get("PATH", os.defpath)
        if path.split(os.pathsep)[0] != folder:
            kept["PATH"] = folder + os.pathsep + path
        if sys.prefix != sys.base_prefix:
            kept["VIRTUAL_ENV"] = sys.prefix
    return kept


def keep(folder: Path, variables: Mapping[str, str]) -> str:
    """Write *variables* into *folder*, unless they are there already; return their reference.

    Where we have kept them before they are taken to be there still: look again, by `keep_again`,
    when nobody can remove them any more.
    """
    known, reference, _ = _kept.get(folder, _NOTHING)
    return reference if known is variables else _keep(folder, variables)


def keep_again(folder: Path, reference: str, variables: Mapping[str, str]) -> None:
    """Write *variables* anew if they were removed, or those that we kept altered, since then."""
    _, known, version = _kept.get(folder, _NOTHING)
    now = _version(folder, reference)
    if now != version if known == reference else not now:
        _keep(folder, variables)


def _keep(folder: Path, variables: Mapping[str, str]) -> str:
    reference = _write_if_missing(folder, variables)
    if isinstance(variables, MappingProxyType):  # others may change, and be the same object
        _kept[folder] = variables, reference, _version(folder, reference)
    return reference


def _version(folder: Path, reference: str) -> tuple[int, ...]:
    """Return what changes when a kept file is removed or altered."""
    try:
        about = os.stat(f"{folder}/{reference}.env")
    except FileNotFoundError:
        return ()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _write_if_missing(folder: Path, variables: Mapping[str, str]) -> str:
    pairs = (f"{name}={variables[name]}" for name in sorted(variables))
    try:
        text = b"".join(os.fsencode(pair) + b"\0" for pair in pairs)
    except UnicodeEncodeError as error:
        name = error.object.partition("=")[0]
        msg = (
            f"the environment variable {name!a} cannot be written in this locale: "
            "set LC_ALL=C.UTF-8"
        )
        raise InvalidInputError(msg) from None
    reference = _reference(text)
    path = folder / f"{reference}.env"
    if not path.exists() or path.read_bytes() != text:
        draft = folder / f"{reference}.{os.urandom(4).hex()}.tmp"
        try:
            write_file(draft, text)
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(folder)
    else:
        _confirm(path)
    return reference


def older_than(folder: Path, age_s: float) -> dict[str, Path]:
    """Return the references, and drafts that were never finished, of at least that age."""
    found, now_s = {}, clock.utc_now().timestamp()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if now_s - path.stat().st_mtime >= age_s:
                found[path.name.removesuffix(".env")] = path
    return found


@functools.lru_cache(maxsize=REMEMBERED)
def _confirm(path: Path) -> None:
    """See the name of *path* to the disk, once: whoever wrote it may have been killed before."""
    sync_folder(path.parent)


def recall(folder: Path, reference: str | None) -> Mapping[str, str]:
    """Return the variables kept under *reference*.

    Raises:
        StoreDamagedError: the file is gone or was altered.

    """
    return {} if reference is None else _recall(folder, reference)


@functools.lru_cache(maxsize=REMEMBERED)
def _recall(folder: Path, reference: str) -> Mapping[str, str]:
    """Read what is kept under *reference*; what is named by its content never changes."""
    path = folder / f"{reference}.env"
    try:
        text = path.read_bytes()
    except OSError:
        text = b""
    if _reference(text) != reference:
        msg = f"the environment of the job, {path}, is missing or was altered: enqueue it again"
        raise StoreDamagedError(msg)
    pairs = (os.fsdecode(pair).partition("=") for pair in text.split(b"\0")[:-1])
    return MappingProxyType({name: value for name, _, value in pairs})


def _reference(text: bytes) -> str:
    import hashlib

    return hashlib.sha256(text).hexdigest()[:20]
