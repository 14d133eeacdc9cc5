"""The local engine: commands run on this machine, each under a recorder.

The end of an attempt is a descriptor that becomes readable or, where the system has no such thing,
a sleep in a shared `flock` on its run file, which wakes when the last of its processes is gone.
What our own child has cost comes from `wait4`. The rule here: an exit record is decisive whoever
is alive; without one, a held lock means "leave it alone".
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import sys
import threading
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from queuectl_magics import clock, output, recorder
from queuectl_magics.engines import CANNOT_START, Running, Vanished
from queuectl_magics.job import Exit, JobRecord
from queuectl_magics.store import Store

SPARES_MAX = 64  # as many as may end while the disk is asked


def marker(store: str, job: JobRecord) -> str:
    """Return the word that all processes of the current attempt carry in their environment."""
    return f"{store}-{job.id}.{job.attempt}-{job.token}"


class Claim(NamedTuple):
    """A run file that we have locked, and the descriptor that holds the lock."""

    path: str
    fd: int


class LocalEngine:
    """Runs commands as processes of this machine.

    Args:
        store: the identity of the store, part of every marker.
        home: the queue's home, told to the commands so that they can use the same queue.
        run: the folder of the run files.
        logs: the folder of the logs.

    """

    def __init__(self, *, store: str, home: Path, run: Path, logs: Path) -> None:
        self.store = store
        self.home = home
        self.run = run
        self.logs = logs
        self._spare: deque[str] = deque()

    def prepare(self, job: JobRecord, attempt: int, token: str) -> object:
        """Create and lock the run file."""
        spare = self._spare.popleft() if self._spare else None
        path = f"{self.run}/{recorder.run_name(job.id, attempt, token)}"
        return Claim(path, recorder.claim(path, spare))

    def run_path(self, job: JobRecord) -> str:
        """Return the run file of the current attempt of *job*: paths would be too slow here."""
        return f"{self.run}/{recorder.run_name(job.id, job.attempt, job.token)}"

    def log_path(self, job: JobRecord) -> str:
        """Return the log of the current attempt of *job*."""
        return f"{self.logs}/{output.log_name(job.id, job.attempt)}"

    def abandon(self, prepared: object) -> None:
        """Let go of the run file and remove it: the next lease has another name."""
        assert isinstance(prepared, Claim)
        os.close(prepared.fd)
        with contextlib.suppress(OSError):  # a sweep removes it; others are still to be let go of
            _remove(prepared.path)

    def start(
        self, job: JobRecord, prepared: object, environ: Mapping[str, str]
    ) -> Running | Exit:
        """Start the recorder; from here on the lock belongs to it and to what it starts."""
        assert isinstance(prepared, Claim)
        try:
            cwd = job.cwd or str(self.home.parent)
            program = _program(job.shell, environ)
            problem = _problem(cwd, job.shell, program)
            if problem:
                return Exit(code=CANNOT_START, finished_at=clock.utc_now(), reason=problem)
            child = Child(self, job)
            script = recorder.script_path(child.path)
            argv = recorder.arguments(job.command, cwd, program or [], script)
            variables = self._variables(job, environ, program or [], cwd)
            child.pid = recorder.spawn(prepared.fd, child.log, argv, variables)
        except (OSError, ValueError) as error:  # ValueError: what no process can be given
            why = f"cannot start: {getattr(error, 'strerror', None) or error}"
            return Exit(code=CANNOT_START, finished_at=clock.utc_now(), reason=why)
        finally:
            os.close(prepared.fd)
        return child

    def _variables(
        self, job: JobRecord, environ: Mapping[str, str], program: list[str], cwd: str
    ) -> dict[str, str]:
        variables = {
            **environ,
            "QUEUECTL_HOME": str(self.home),
            "QUEUECTL_JOB_ID": job.id,
            "QUEUECTL_ATTEMPT": str(job.attempt),
            recorder.MARKER_VARIABLE: marker(self.store, job),
            "PWD": cwd,
        }
        if program and Path(program[0]).name.startswith("python"):
            # a script file would put its own folder first; modules beside the notebook must import
            paths = [cwd, environ.get("PYTHONPATH", "")]
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return variables

    def find(self, job: JobRecord) -> Running | Exit | Vanished:
        """Read the run file of an attempt that another worker started."""
        stray = self.beside(job)
        return stray.finish() or stray

    def beside(self, job: JobRecord) -> Running:
        """Return the attempt of *job* without a look at its run file."""
        return Stray(self, job)

    def forget(self, job: JobRecord) -> None:
        """Keep the run file for another run, or remove it; remove the script, shorten the log."""
        path = self.run_path(job)
        if len(self._spare) < SPARES_MAX:
            self._spare.append(path)
        else:
            _remove(path)
        if job.shell or len(job.command) > recorder.ARGUMENT_BYTES_MAX // 4:
            _remove(recorder.script_path(path))
        output.limit(self.log_path(job), job.output_bytes_max)

    def sweep(self, current: Collection[JobRecord]) -> None:
        """Remove the run files and scripts of all other attempts."""
        kept = {Path(self.run_path(job)).stem for job in current}
        for path in self.run.iterdir():
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what was kept for other runs."""
        while self._spare:
            _remove(self._spare.popleft())


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _program(shell: str | None, environ: Mapping[str, str]) -> list[str] | None:
    """Return the argument list that `shell` means; empty for `sh`, None if it cannot be found."""
    if shell is None:
        return []
    words = shlex.split(shell)
    found = shutil.which(words[0], path=environ.get("PATH"))
    if found is None and words[0] == "python":
        found = sys.executable
    return [found, *words[1:]] if found else None


def _problem(cwd: str, shell: str | None, program: list[str] | None) -> str | None:
    if program is None:
        return f"cannot start: the program {shell!r} was not found"
    if not os.path.isdir(cwd):
        return f"cannot start: the directory {cwd} does not exist any more"
    return None


def local_engine(store: Store) -> LocalEngine:
    """Return the local engine for the jobs of *store*."""
    paths = store.paths
    return LocalEngine(store=store.header.store, home=paths.home, run=paths.run, logs=paths.logs)


class _Placed:
    """What one's own child and a stray have in common."""

    def __init__(self, engine: LocalEngine, job: JobRecord) -> None:
        self.job = job
        self.path = engine.run_path(job)
        self.log = engine.log_path(job)
        self._marker = marker(engine.store, job)
        self._fd: int | None = None

    def signal(self, number: int, *, again: bool = False) -> int:
        """Send a signal to all processes of the attempt, *again* to those that missed it."""
        return recorder.signal_tree(self.path, self._marker, number, again=again)

    def age_s(self) -> float:
        """Return for how many seconds its recorder has lived."""
        return recorder.age_s(self.path, self._marker)

    def printed_bytes(self) -> int:
        """Return the length of its log, with what was dropped."""
        return output.size(self.log)

    def limit_output(self, bytes_max: int) -> None:
        """Drop the middle of its log when that is too long."""
        output.limit(self.log, bytes_max)

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _record(self) -> Exit | Vanished | None:
        """Return what the run file says of the end; None if there is none and something lives.

        What has vanished is gone altogether: whatever lived on without the lock is killed.
        """
        running = recorder.is_running(self.path)
        record = recorder.read_record(self.path, self._marker)  # in this order: it may just end
        if record.code is not None:
            return Exit(code=record.code, finished_at=recorder.ended_at(self.path))
        if running:
            return None
        recorder.end_remains(self.path, self._marker)
        return Vanished(started=record.pid is not None)

    def _wait_for_record(self) -> Exit | Vanished:
        """Return what the run file says once nothing lives that could still change it."""
        while (end := self._record()) is None:
            recorder.wait_until_gone(self.path)
        return end


class Child(_Placed):
    """An attempt whose recorder is our own child."""

    def __init__(self, engine: LocalEngine, job: JobRecord) -> None:
        super().__init__(engine, job)
        self.pid: int | None = None

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the recorder ends (Linux)."""
        if self._fd is None and self.pid is not None and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # an old kernel, or no descriptors left: a thread
                self._fd = os.pidfd_open(self.pid)
        return self._fd

    def finish(self) -> Exit | Vanished | None:
        """Reap the recorder; what it left is asked for only if it was killed itself."""
        self.close()
        pid, self.pid = self.pid, None
        if pid is not None:
            try:
                _, status, usage = os.wait4(pid, 0)
            except ChildProcessError:  # something else in this process has reaped it
                return self._record()
            if os.WIFEXITED(status):
                return Exit(
                    code=os.WEXITSTATUS(status),
                    finished_at=clock.utc_now(),
                    cpu_s=round(usage.ru_utime + usage.ru_stime, 6),
                    memory_bytes_max=_memory_bytes(usage.ru_maxrss),
                )
        return self._record()

    def wait(self) -> Exit | Vanished:
        """Wait for the recorder; if it was killed itself, for whatever it has left behind."""
        return self.finish() or self._wait_for_record()

    def leave(self) -> None:
        """Leave the attempt to other workers, but reap its recorder when it ends."""
        self.close()
        if self.pid is not None:
            with contextlib.suppress(RuntimeError):  # no more threads: a zombie does no harm
                threading.Thread(target=os.waitpid, args=(self.pid, 0), daemon=True).start()
            self.pid = None


class Stray(_Placed):
    """An attempt that another worker started and left."""

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the recorder ends (Linux)."""
        if self._fd is None:
            self._fd = recorder.open_recorder(self.path, self._marker)
        return self._fd

    def finish(self) -> Exit | Vanished | None:
        """Look at the run file."""
        self.close()
        return self._record()

    def wait(self) -> Exit | Vanished:
        """Wait until it is gone, or has ended and left something in the background."""
        recorder.wait_for_end(self.path, self._marker)
        return self._wait_for_record()

    def leave(self) -> None:
        """Leave the attempt to other workers."""
        self.close()


def _memory_bytes(peak: int) -> int | None:
    """Return the peak memory of a child, or None if it cannot be told from our own.

    A child begins life in our memory, and the system counts that as its peak: only what is larger
    than ours was surely the child's own.
    """
    if peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return None
    return peak * (1 if sys.platform == "darwin" else 1024)
