"""Run a command so that it, and the record of its end, outlive us.

A few words of POSIX `sh` in a session of their own run the command and write its exit code into a
file that was prepared beforehand, so that this works when every worker is dead and the disk is
full. That one file is lock, start record and exit record at once: the claimer locks it before the
lease is written, and the lock is inherited by everything the command starts. Locked means alive;
free with a code means finished; free without one means it never ran, or was interrupted. The rule
here: no pid is ever trusted alone, since pids are used again; a process is ours if it carries our
marker.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from queuectl_magics import spawning
from queuectl_magics.clock import monotonic_s
from queuectl_magics.journal import StrPath, write_file
from queuectl_magics.lock import is_locked
from queuectl_magics.spawning import Environment

MARKER_VARIABLE = "QUEUECTL_RUN"
RECORD_BYTES = 512
RUN_DESCRIPTOR = 9
OWN_DESCRIPTORS = (0, 1, 2, RUN_DESCRIPTOR)
PROC = Path("/proc")
TAKEN_BY_RECORDER = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENDING = (*TAKEN_BY_RECORDER, signal.SIGKILL)
ARGUMENT_BYTES_MAX = 100_000
FOREIGN_POLL_S = 0.05
REMAINS_S = 2.0
REMAINS_LOOK_S = 0.005

# Descriptor 9 is the run file: dash can redirect to one-digit descriptors only. $1 is the
# directory, $2 the command. Each record names the run that it is of, so that one left from another
# run is never believed. None of them dies of what a command may send to all of its group (TERM,
# USR1 …) without having written its record.
#
# Three ways to run the command, because a fork costs as much as the rest of the recorder:
# `_DIRECT`: by the recorder's own shell, whose EXIT trap writes the record; for a command that
#   cannot take that trap away. A signal ends the shell, as it would end the command's own.
# `_EVAL`: in a subshell, which takes an `exec`, `exit` or `trap` upon itself.
# `_NESTED`: by a shell of its own, for a command that asks for its own pid: in a subshell `$$` is
#   still the recorder.
_PID = 'printf \'{"pid":%d,"run":"%s"}\\n\' $$ "$QUEUECTL_RUN" >&9; cd "$1" && '
_TAKEN = ("HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "ALRM", "PIPE")
_BEGIN = f"trap : {' '.join(_TAKEN)}; {_PID}"
_END = '; c=$?; printf \'{"code":%d,"run":"%s"}\\n\' $c "$QUEUECTL_RUN" >&9; exit $c'
_DIRECT = "".join(
    (
        'trap "command printf \'{\\"code\\":%d,\\"run\\":\\"%s\\"}\\n\'',
        ' \\"\\$?\\" $QUEUECTL_RUN >&9" EXIT; ',
        *(f"trap 'exit {128 + signal.Signals['SIG' + name]}' {name}; " for name in _TAKEN),
        _PID,
        'eval "set --; $2"',
    )
)
_EVAL = _BEGIN + '(eval "set --; $2")' + _END
_NESTED = _BEGIN + 'sh -c "$2"' + _END
_PROGRAM = _BEGIN + '(shift; "$@")' + _END
_OWN_PID = re.compile(r"\$\$|\$\{\$|\beval\b")
_OWN_SHELL = re.compile(
    r"\b(?:exec|trap|exit|return|break|continue|set|unset|readonly|export|alias|command|builtin"
    r"|source|kill|wait|umask|ulimit|times)\b|(?:^|[;&|({\s])\.\s"
    # or what may become one of these words: a quote or a backslash within a word, a variable
    r"|\w['\"]+\w|[\\$`]"
)


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorder has written so far: its pid once it started, the code once it ended.

    `run` is the marker of the run that it is of.
    """

    pid: int | None = None
    code: int | None = None
    run: str | None = None


def run_name(id: str, attempt: int, token: str | None) -> str:
    """Return the name of the run file of that attempt.

    The token of its lease is part of it: a job that was pruned may have left the name of its file
    to another of the same id, and what it left is used again or removed later.
    """
    return f"{id}.{attempt}.{token}.run"


def run_path(folder: Path, id: str, attempt: int, token: str | None) -> Path:
    """Return the run file of that attempt."""
    return folder / run_name(id, attempt, token)


def script_path(path: str) -> str:
    """Return where a command goes that is too long for an argument, or for another program.

    *path* is the run file of its attempt.
    """
    return f"{path.removesuffix('.run')}.script"


def claim(path: StrPath, spare: StrPath | None = None) -> int:
    """Create the run file, lock it, and return the descriptor that holds the lock.

    *spare* is the run file of a run that is over and settled: it is renamed and used again, since
    making and deleting a file per run is the dearest step of a short one. Something in the
    background may still hold its lock; then there is a new file after all.
    """
    if spare is not None:
        try:
            os.rename(spare, path)
            return _claim(path)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.unlink(path)
    return _claim(path)


def _claim(path: StrPath) -> int:
    """Open, lock and blank the run file; remove it if that fails: nobody else will use it."""
    try:
        fd = _out_of_the_way(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(fd, b" " * (RECORD_BYTES - 1) + b"\n", 0)
        except BaseException:
            os.close(fd)
            raise
    except BlockingIOError:  # somebody has it
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return fd


def _out_of_the_way(fd: int) -> int:
    """Return a descriptor for the same file that is none of those the recorder uses itself.

    Its own descriptor of the run file stays taken, by nothing, or each job would come by here.
    """
    if fd not in OWN_DESCRIPTORS:
        return fd
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(OWN_DESCRIPTORS) + 1)
    except OSError:
        os.close(fd)
        raise
    with contextlib.suppress(OSError):
        if fd == RUN_DESCRIPTOR:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, fd, inheritable=False)
            os.close(null)
            return moved
    os.close(fd)
    return moved


def arguments(command: str, cwd: str, program: Sequence[str], script: StrPath) -> list[str]:
    """Return the argument list of the recorder; a long command, or a program's, goes to *script*.

    *program* empty means `sh` itself; otherwise the command is a script for that program.
    """
    if not program and len(command.encode()) <= ARGUMENT_BYTES_MAX:
        return ["sh", "-c", _recorder(command), "sh", cwd, command]
    write_file(script, command.encode() + b"\n")
    return ["sh", "-c", _PROGRAM, "sh", cwd, *(program or ["sh"]), str(script)]


def _recorder(command: str) -> str:
    """Return the recorder that suits *command*."""
    if _OWN_PID.search(command):
        return _NESTED
    return _EVAL if _OWN_SHELL.search(command) else _DIRECT


def spawn(
    run_fd: int, log: StrPath, argv: list[str], environ: Environment, more: Mapping[str, str]
) -> int:
    """Start a recorder in a session of its own and return its pid.

    *more* is what of its environment is for this one alone.

    Raises:
        OSError: the system could not start it.
        ValueError: the command or the environment is none that a process can be given.

    """
    return spawning.spawn(
        "/bin/sh",
        argv,
        environ,
        more,
        opened=[
            (0, os.devnull, os.O_RDONLY),
            (1, os.fspath(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ],
        copied=[(1, 2), (run_fd, RUN_DESCRIPTOR)],
    )


def read_record(path: StrPath, marker: str | None = None) -> RunRecord:
    """Return what the recorder has written into its run file.

    With *marker* only what the recorder of that very run has written.
    """
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        return RunRecord()
    found = RunRecord()
    for line in text.split(b"\n"):
        try:
            record = msgspec.json.decode(line.strip() or b"{}", type=RunRecord)
        except msgspec.DecodeError:
            break  # half written: as good as not there
        if record.run is not None and marker in (None, record.run):
            found = RunRecord(pid=record.pid or found.pid, code=record.code, run=record.run)
    return found


def is_running(path: StrPath) -> bool:
    """Say whether anything of the attempt is alive, or its start is being prepared."""
    return is_locked(path)


def ended_at(path: StrPath) -> datetime:
    """Return when the exit record was written."""
    return datetime.fromtimestamp(os.stat(path).st_mtime, tz=UTC)


def age_s(path: StrPath, marker: str) -> float:
    """Return for how many seconds the attempt's recorder has lived; 0 if that cannot be told.

    By the system's own clock since its start, so that setting the wall clock changes nothing.
    Source: proc(5), `/proc/pid/stat` field 22, in ticks since boot.
    """
    pid = read_record(path, marker).pid
    if pid is None or not _carries(pid, f"{MARKER_VARIABLE}={marker}".encode()):
        return 0.0
    try:
        stat = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        ticks = int(stat[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)
    except (OSError, AttributeError):
        return 0.0


def wait_until_gone(path: StrPath) -> None:
    """Return when nothing that the attempt started is alive any more; sleeps in the system."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _open_recorder(path: StrPath, marker: str) -> int | None:
    """Return a descriptor that becomes readable when the attempt's recorder ends.

    None if it has not started or has ended, or where the system has no such descriptors.
    """
    pid = read_record(path, marker).pid
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    if _carries(pid, f"{MARKER_VARIABLE}={marker}".encode()):
        return fd
    os.close(fd)  # the recorder has ended and its pid was used again
    return None


def wait_for_end(path: StrPath, marker: str) -> None:
    """Return when the attempt's recorder has ended, though it is no child of ours.

    Sleeps in the system where that can tell us of the end of any process; elsewhere, and for the
    moment of the start, it looks now and then, since what the command left in the background may
    hold the lock for ever.
    """
    while is_running(path) and read_record(path, marker).code is None:
        fd = _open_recorder(path, marker)
        if fd is None:
            time.sleep(FOREIGN_POLL_S)
            continue
        try:
            end = select.poll()  # select() itself cannot watch descriptors above 1023
            end.register(fd, select.POLLIN)
            end.poll()
        finally:
            os.close(fd)
        return


def signal_tree(path: StrPath, marker: str, number: int, *, again: bool = False) -> int:
    """Send signal *number* to everything that the attempt started; return to how many of them.

    That is its session, and every process that carries *marker* in its environment. The recorder,
    which may be the command's own shell, only gets what it can take: after any other signal it
    must still write down how the command ended. *Again* it goes only to those that would die of
    it, for they have not heard it: a shell's child that has yet to drop its parent's traps hears
    nothing.
    """
    pid = read_record(path, marker).pid
    if pid is None or not is_running(path):
        return 0
    for_recorder = signal.SIGTERM if number == signal.SIGKILL else number
    sent = 0
    for member in _members(pid, marker):
        if member == pid and for_recorder not in TAKEN_BY_RECORDER:
            continue
        if again and not _dies_of(member, number):
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, for_recorder if member == pid else number)
            sent += member != pid
            if number in ENDING:
                os.kill(member, signal.SIGCONT)  # what is suspended would not hear it
    return sent


def end_remains(path: StrPath, marker: str) -> None:
    """Kill what lives on of an attempt whose recorder is gone and whose lock is free.

    It would run beside the next attempt: a program may have closed the lock's descriptor for those
    that it started, as Python's `subprocess` does. Returns when they are gone, or after a moment.
    """
    pid = read_record(path, marker).pid
    give_up_at = monotonic_s() + REMAINS_S
    while pid and PROC.exists() and (members := _members(pid, marker)):
        for member in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        if monotonic_s() > give_up_at:
            return
        time.sleep(REMAINS_LOOK_S)


def _dies_of(pid: int, number: int) -> bool:
    """Say whether the process neither catches nor ignores the signal. Source: proc(5), status."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return False
    masks = [int(line[7:], 16) for line in lines if line.startswith(("SigIgn:", "SigCgt:"))]
    return bool(masks) and not any(mask >> (number - 1) & 1 for mask in masks)


def _members(recorder: int, marker: str) -> list[int]:
    """Return the pids of the recorder's session and of whatever else carries the marker."""
    wanted = f"{MARKER_VARIABLE}={marker}".encode()
    session = recorder if _carries(recorder, wanted) or not PROC.exists() else -1
    found = []
    for pid in _all_pids():
        try:
            in_session = os.getsid(pid) == session
        except (ProcessLookupError, PermissionError):
            continue
        if in_session or _carries(pid, wanted):
            found.append(pid)
    return found


def _carries(pid: int, wanted: bytes) -> bool:
    try:
        return wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _all_pids() -> list[int]:
    """Return every process there is: from /proc or, on systems without, from POSIX `ps`."""
    if PROC.exists():
        return [int(name) for name in os.listdir(PROC) if name.isdecimal()]
    listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=True)
    return [int(word) for word in listed.stdout.split()]
