"""The local engine: commands run on this machine, each under a recorder.

The end of our own child, and what it has cost, comes from `wait4`; that of a stray from a sleep on
its recorder or, where the system has no such thing, on the lock of its run file, which wakes when
the last of its processes is gone. The rule here: an exit record is decisive whoever is alive;
without one, a held lock means "leave it alone".
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import sys
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from queuectl_magics import clock, output, recorder
from queuectl_magics.engines import CANNOT_START, Running, Vanished
from queuectl_magics.job import Exit, JobRecord
from queuectl_magics.spawning import Environment
from queuectl_magics.store import Store

SPARES_MAX = 64  # as many as may end while the disk is asked
ENVIRONMENTS_MAX = 16
OF_THE_ATTEMPT = (
    "QUEUECTL_HOME",
    "QUEUECTL_JOB_ID",
    "QUEUECTL_ATTEMPT",
    recorder.MARKER_VARIABLE,
    "PWD",
)


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
        self._environments: dict[tuple[str | None, str | None], Environment] = {}

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

    def place(self, job: JobRecord, prepared: object, environ: Mapping[str, str]) -> Running:
        """Return the attempt; from when it begins the lock belongs to it and what it starts."""
        assert isinstance(prepared, Claim)
        return Child(self, job, prepared, environ)

    def encoded(self, job: JobRecord, environ: Mapping[str, str]) -> Environment:
        """Return the *environ* of *job* for `spawn`, as the last time if it has a name."""
        refs = job.environ_ref, job.env_ref
        found = self._environments.get(refs)
        if found is None:
            shared = {name: value for name, value in environ.items() if name not in OF_THE_ATTEMPT}
            found = Environment(shared)
            if job.environ_ref is not None:  # without a name it may be another one the next time
                if len(self._environments) >= ENVIRONMENTS_MAX:
                    self._environments.clear()
                self._environments[refs] = found
        return found

    def find(self, job: JobRecord) -> Running | Exit | Vanished:
        """Read the run file of an attempt that another worker started."""
        stray = self.beside(job)
        return stray.record() or stray

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


def _program(shell: str | None, environ: Mapping[str, str]) -> list[str]:
    """Return the argument list that `shell` means; empty for `sh`."""
    if shell is None:
        return []
    words = shlex.split(shell)
    found = shutil.which(words[0], path=environ.get("PATH"))
    if found is None and words[0] == "python":
        found = sys.executable
    if found is None:
        msg = f"the program {shell!r} was not found"
        raise ValueError(msg)
    return [found, *words[1:]]


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

    def record(self) -> Exit | Vanished | None:
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
        while (end := self.record()) is None:
            recorder.wait_until_gone(self.path)
        return end


class Child(_Placed):
    """An attempt whose recorder is, or will be, our own child."""

    def __init__(
        self, engine: LocalEngine, job: JobRecord, claim: Claim, environ: Mapping[str, str]
    ) -> None:
        super().__init__(engine, job)
        self._engine = engine
        self._claim: Claim | None = claim
        self._environ = environ
        self._problem: Exit | None = None
        self._pid: int | None = None

    def begin(self) -> None:
        """Start the recorder, and let go of the lock, which it has inherited."""
        claim, self._claim = self._claim, None
        if claim is None:
            return
        try:
            self._pid = self._spawn(claim.fd)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must not be stuck
            why = f"cannot start: {getattr(error, 'strerror', None) or error}"
            self._problem = Exit(code=CANNOT_START, finished_at=clock.utc_now(), reason=why)
        finally:
            os.close(claim.fd)

    def _spawn(self, run_fd: int) -> int:
        job = self.job
        cwd = job.cwd or str(self._engine.home.parent)
        program = _program(job.shell, self._environ)
        if not os.path.isdir(cwd):
            msg = f"the directory {cwd} does not exist any more"
            raise ValueError(msg)
        argv = recorder.arguments(job.command, cwd, program, recorder.script_path(self.path))
        environ = self._engine.encoded(job, self._environ)
        return recorder.spawn(run_fd, self.log, argv, environ, self._variables(program, cwd))

    def _variables(self, program: list[str], cwd: str) -> dict[str, str]:
        """Return what is of this attempt alone in its environment."""
        values = (str(self._engine.home), self.job.id, str(self.job.attempt), self._marker, cwd)
        variables = dict(zip(OF_THE_ATTEMPT, values, strict=True))
        if program and Path(program[0]).name.startswith("python"):
            # a script file would put its own folder first; modules beside the notebook must import
            paths = [cwd, self._environ.get("PYTHONPATH", "")]
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return variables

    def record(self) -> Exit | Vanished | None:
        """Return why it could not begin, or what the run file says."""
        return self._problem or super().record()

    def wait(self) -> Exit | Vanished:
        """Reap the recorder; if it was killed itself, wait for whatever it has left behind."""
        self.begin()
        pid, self._pid = self._pid, None
        if pid is not None:
            with contextlib.suppress(ChildProcessError):  # something else here has reaped it
                _, status, usage = os.wait4(pid, 0)
                if os.WIFEXITED(status):
                    return Exit(
                        code=os.WEXITSTATUS(status),
                        finished_at=clock.utc_now(),
                        cpu_s=round(usage.ru_utime + usage.ru_stime, 6),
                        memory_bytes_max=_memory_bytes(usage.ru_maxrss),
                    )
        return self._wait_for_record()


class Stray(_Placed):
    """An attempt that another worker started and left."""

    def begin(self) -> None:
        """Nothing: it has begun."""

    def wait(self) -> Exit | Vanished:
        """Wait until it is gone, or has ended and left something in the background."""
        recorder.wait_for_end(self.path, self._marker)
        return self._wait_for_record()


def _memory_bytes(peak: int) -> int | None:
    """Return the peak memory of a child, or None if it cannot be told from our own.

    A child begins life in our memory, and the system counts that as its peak: only what is larger
    than ours was surely the child's own.
    """
    if peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return None
    return peak * (1 if sys.platform == "darwin" else 1024)
