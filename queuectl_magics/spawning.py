"""Start a process while the other threads of this one go on.

`os.posix_spawn` and `subprocess` hold the interpreter until the child has begun, and on a busy
machine that is most of what a start takes: neither a notebook's cell nor a second start could get
on with it. So the C function is called through `ctypes`, which lets go of the interpreter. The
rule here: strings are checked before they are handed over, since C would cut them short.
Source: posix_spawn(3) and `<spawn.h>` of glibc, musl and macOS.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
OPAQUE_BYTES = 1024  # three times what any of them needs for one of its structures
SETSIGDEF, SETSIGMASK = 0x04, 0x08
SETSID = 0x400 if sys.platform == "darwin" else 0x80

_quick = ctypes.PyDLL(None)  # keeps the interpreter: for what takes no time
_posix_spawn = ctypes.CDLL(None).posix_spawn


def _check(number: int) -> None:
    if number:
        raise OSError(number, os.strerror(number))


def _attributes() -> ctypes.Array[ctypes.c_char]:
    """Return how all are started: in a session of their own, no signal blocked and none ignored.

    What is ignored, by `nohup` or by Python, could not be trapped by a shell.
    """
    attributes, signals = (ctypes.create_string_buffer(OPAQUE_BYTES) for _ in range(2))
    _check(_quick.posix_spawnattr_init(attributes))
    flags = ctypes.c_short(SETSID | SETSIGDEF | SETSIGMASK)
    _check(_quick.posix_spawnattr_setflags(attributes, flags))
    _check(_quick.sigemptyset(signals))
    _check(_quick.posix_spawnattr_setsigmask(attributes, signals))
    for number in CATCHABLE:
        _check(_quick.sigaddset(signals, int(number)))
    _check(_quick.posix_spawnattr_setsigdefault(attributes, signals))
    return attributes


_ATTRIBUTES = _attributes()


class Environment:
    """Variables, encoded once for the many processes that get them and a few of their own.

    Args:
        variables: name → value.

    Raises:
        ValueError: a null byte is in one of them, or a variable has no proper name.

    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)
        self._array = _array(_pairs(self._variables))

    def joined(self, more: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
        """Return them and *more*, which win, for C; valid as long as this object is there."""
        if not more.keys().isdisjoint(self._variables):
            return _array(_pairs({**self._variables, **more}))
        ours, count = _pairs(more), len(self._variables)
        array = (ctypes.c_char_p * (count + len(ours) + 1))()
        ctypes.memmove(array, self._array, count * ctypes.sizeof(ctypes.c_char_p))
        array[count:-1] = [*ours]
        return array


def spawn(
    program: str,
    argv: list[str],
    environ: Environment,
    more: Mapping[str, str],
    *,
    opened: Sequence[tuple[int, str, int]],
    copied: Sequence[tuple[int, int]],
) -> int:
    """Start *program* in a session of its own and return its pid.

    Args:
        program: its path.
        argv: its arguments, its own name first.
        environ: its environment.
        more: what of its environment is for this one alone.
        opened: the descriptors that are opened for it, each with a path and the flags of open(2);
            what is created can be read and written by its owner alone.
        copied: pairs of a descriptor and the one that it becomes there, done after that.

    Raises:
        OSError: the system could not start it, or could not open one of the files.
        ValueError: a string has a null byte in it, or a variable no proper name.

    """
    path, *files = _encoded([program, *(name for _, name, _ in opened)])
    words, variables = _array(_encoded(argv)), environ.joined(more)
    actions, pid = ctypes.create_string_buffer(OPAQUE_BYTES), ctypes.c_int()
    _quick.posix_spawn_file_actions_init(actions)
    try:
        for (fd, _, flags), name in zip(opened, files, strict=True):
            _check(_quick.posix_spawn_file_actions_addopen(actions, fd, name, flags, 0o600))
        for fd, onto in copied:
            _check(_quick.posix_spawn_file_actions_adddup2(actions, fd, onto))
        _check(_posix_spawn(ctypes.byref(pid), path, actions, _ATTRIBUTES, words, variables))
    finally:
        _quick.posix_spawn_file_actions_destroy(actions)
    return pid.value


def _pairs(variables: Mapping[str, str]) -> list[bytes]:
    if "" in variables or "=" in "".join(variables):
        msg = "illegal environment variable name"
        raise ValueError(msg)
    return _encoded([f"{name}={value}" for name, value in variables.items()])


def _encoded(texts: list[str]) -> list[bytes]:
    """Encode all at once: one by one they would take a good part of the time of a start."""
    encoded = os.fsencode("\0".join(texts)).split(b"\0") if texts else []
    if len(encoded) != len(texts):
        msg = "embedded null byte"
        raise ValueError(msg)
    return encoded


def _array(strings: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(strings) + 1))(*strings)
