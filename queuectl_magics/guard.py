"""The guard: keeps logs within bounds, and enforces all limits when no worker is there to do it.

A kernel may be killed while its jobs go on; then nobody would end a job whose time is up. And a
log that grows by a gigabyte a second costs CPU time to shorten, which a kernel needs for its
cells: while a job runs that is the guard's work, and only what is over the limit at its end is its
worker's. The guard is one small process per home, started by a worker when a job may need it, and
gone when nothing runs. It holds no state: what is running, and under which limits, stands in the
store; whether a worker lives is told by that worker's lock. The rule here: it never leases,
settles or adopts; that is left to the next worker.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from queuectl_magics import clock, presence, recorder
from queuectl_magics.engines import Vanished
from queuectl_magics.engines.local import local_engine
from queuectl_magics.errors import HomeError, HomeGoneError, OutcomeUnknownError, QueuectlError
from queuectl_magics.job import OUTPUT_BYTES_MAX, AttemptKey, Exit, JobRecord, key_of
from queuectl_magics.limits import Watch
from queuectl_magics.lock import Lock
from queuectl_magics.store import Store

PATIENCE_S = 3.0
CALL_EVERY_S = 2.0
POLL_S = 0.5
LINGER_S = 2.0
REFUSALS_MAX = 120  # a minute; who cannot even open the queue guards nothing


def wants_guard(job: JobRecord, age_s: float, printed_bytes: int = 0) -> bool:
    """Say whether *job*, running for *age_s* seconds, needs somebody beside its worker.

    At once if it has limits of its own or has printed too much; otherwise when it has run for some
    seconds, so that short jobs never cost a process.
    """
    own_limits = job.timeout_s is not None or job.output_bytes_max != OUTPUT_BYTES_MAX
    return own_limits or age_s >= PATIENCE_S or printed_bytes > job.output_bytes_max


def ensure(home: Path) -> None:
    """Start the guard of *home* unless it is there already."""
    lock = Lock(home / "guard.lock")
    try:
        if not lock.try_acquire():
            return
    finally:
        lock.close()
    environ = {k: v for k, v in os.environ.items() if k != recorder.MARKER_VARIABLE}
    # it must find what we have found: a notebook may have put us on its path, or lie beside us
    folders = [*filter(None, sys.path), str(Path(__file__).parents[1])]
    environ["PYTHONPATH"] = os.pathsep.join(folders)
    argv = [sys.executable, "-m", "queuectl_magics.guard", str(home)]
    with open(
        os.open(home / "guard.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
    ) as log:
        subprocess.run(
            # the shell ends at once, so that the guard is nobody's child and leaves no zombie
            ["/bin/sh", "-c", '"$@" &', "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=environ,
            check=False,
        )


class Caller:
    """Calls the guard of *home* for the jobs that want one, and again now and then.

    For it may be killed as we may.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._called_s = -CALL_EVERY_S

    def see_to(self, job: JobRecord, age_s: float = 0.0, printed_bytes: int = 0) -> None:
        """Start the guard if *job* wants it; one called a moment ago may still be starting."""
        now_s = clock.monotonic_s()
        if now_s - self._called_s < CALL_EVERY_S or not wants_guard(job, age_s, printed_bytes):
            return
        self._called_s = now_s
        with contextlib.suppress(OSError):  # no descriptor, no process: the next time perhaps
            ensure(self._home)


class Guard:
    """The loop of the process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._engine = local_engine(store)
        self._watches: dict[AttemptKey, Watch] = {}

    def look(self) -> float | None:
        """Enforce what has to be; return when to look again, or None if nothing is left to guard.

        An attempt that has ended is no longer ours, even if nobody has settled it yet.
        """
        with self._store.reading() as table:
            jobs = [table.jobs[id] for id in table.processing]
        looks = [wait_s for job in jobs if (wait_s := self._look_at(job)) is not None]
        current = set(map(key_of, jobs))
        self._watches = {key: watch for key, watch in self._watches.items() if key in current}
        return min([POLL_S, *looks]) if looks else None

    def _look_at(self, job: JobRecord) -> float | None:
        watch = self._watches.get(key_of(job)) or Watch(self._engine.beside(job), self._store)
        self._watches[key_of(job)] = watch
        if presence.is_alive(self._store.paths.workers, job.worker):
            return watch.limit_output(job)
        if isinstance(self._engine.find(job), Exit | Vanished):
            return None
        return min(watch.limit_output(job), watch.look(job))


def guard(home: Path) -> None:
    """Guard *home* until nothing has been running for a moment."""
    only_one = Lock(home / "guard.lock")
    refused = 0
    while refused < REFUSALS_MAX and only_one.try_acquire():
        left: float | None = POLL_S
        try:
            store = Store(home)
            try:
                _watch_until_idle(Guard(store))
                only_one.close()
                left = Guard(store).look()  # a job may have been leased while we were leaving
                refused = 0
            finally:
                store.close()
        except HomeGoneError:
            return
        except (QueuectlError, OSError):  # the disk refuses: it may get better, also opened anew
            refused += 1
            time.sleep(POLL_S)
        finally:
            only_one.close()
        if left is None:
            return


def _watch_until_idle(guarding: Guard) -> None:
    idle_since: float | None = None
    while idle_since is None or clock.monotonic_s() - idle_since < LINGER_S:
        try:
            wait_s = guarding.look()
        except (HomeGoneError, OutcomeUnknownError):  # nothing is left, or it writes no more
            raise
        except (QueuectlError, OSError):  # the disk refuses, the lock is held: it may get better
            wait_s = POLL_S
        if wait_s is not None:
            idle_since = None
        elif idle_since is None:
            idle_since = clock.monotonic_s()
        time.sleep(POLL_S if wait_s is None else wait_s)


if __name__ == "__main__":
    with contextlib.suppress(HomeError, FileNotFoundError):
        guard(Path(sys.argv[1]))
