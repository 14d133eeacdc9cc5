"""A queue: every verb there is, as a method.

It brings the store, the environment of its user and a worker together. The notebook and the
terminal call these methods and show what they return. The rule here: a method decides through the
lifecycle, inside one transaction, and rings the bell when something became due.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any, Self

from queuectl_magics import environment, lifecycle, presence, settings, validation, variables
from queuectl_magics.events import SIGTERM, JobEvent
from queuectl_magics.job import WAITING, JobRecord, State
from queuectl_magics.jobqueue import accepting, keeping, waiting
from queuectl_magics.jobqueue.accepting import Wanted
from queuectl_magics.jobqueue.finding import find_all
from queuectl_magics.jobqueue.job import Job
from queuectl_magics.jobqueue.looking import Refs
from queuectl_magics.jobqueue.working import Working
from queuectl_magics.journal import sync_folder
from queuectl_magics.settings import Config
from queuectl_magics.store import archive
from queuectl_magics.store.compaction import tidy_if_cheap
from queuectl_magics.store.interrupts import Undisturbed
from queuectl_magics.store.store import Decide
from queuectl_magics.table import Table
from queuectl_magics.validation import States
from queuectl_magics.values import Seconds


class JobQueue(Working):
    r"""The queue in *home*: safe to use from several threads, and from several processes at once.

    Args:
        home: its directory, created when missing; by default `QUEUECTL_HOME`, or `.queuectl` where
            we stand.
        python: the interpreter whose folder comes first in the PATH of the commands, so that their
            `python` is ours; by default the one that runs us, none if empty.
        plain: show nothing that varies (times, ids), for doctests and notebooks under test; by
            default what `QUEUECTL_PLAIN` says.

    Raises:
        InvalidInputError: *home* is no name of a directory.
        HomeError: the home cannot be used.
        StoreDamagedError: a file in it was altered.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home, JobQueue(home) as queue:
        ...     worker = queue.worker()
        ...     queue.enqueue("echo hello").wait(timeout=60).output
        'hello\n'

    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        python: str | None = None,
        plain: bool | None = None,
    ) -> None:
        super().__init__(
            variables.find_home(home), plain=variables.plain() if plain is None else plain
        )
        self._python = sys.executable if python is None else python

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a copy, here or in another process, open the home anew: it has files of its own."""
        return _reopened, (self.home, self._python, self.plain)

    # --- changing -----------------------------------------------------------------------------

    def enqueue(self, command: str, **options: Any) -> Job:
        """Accept *command* and return at once; it is on disk when this returns.

        Args:
            command: what to run, by `sh` unless `shell` says otherwise.
            options: the fields of `JobSpec`, all optional: `id` (default: the next short number),
                `name`, `tags`, `priority` (higher first, default 0), `max_retries` (dead after so
                many failed attempts), `backoff_base` and `backoff_cap` (wait base ** attempts
                seconds, at most the cap), `backoff_jitter` (0 to 1), `delay`, `cwd` (default: the
                directory where we stand), `env` (names to values), `shell`, `timeout`, `grace`,
                `max_output`, `on_lost`. Times are seconds, texts like "10m", or a `timedelta`.

        Raises:
            InvalidInputError: a value does not fit, or the id is taken; nothing was changed.

        Example:
            `queue.enqueue("python train.py", name="train", max_retries=5, delay="10m")`

        """
        is_plain = type(command) is str and not options
        return self.enqueue_all([command if is_plain else {"command": command, **options}])[0]

    def enqueue_all(
        self, wanted: Iterable[Wanted], *, environ: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Accept several jobs in one transaction: all of them or, if one does not fit, none.

        Args:
            wanted: commands, dicts of what `enqueue` takes, or specs.
            environ: the environment to run them in; by default ours, as it is now.

        Raises:
            InvalidInputError: a value does not fit, or an id is taken; nothing was changed.

        Example:
            `queue.enqueue_all([f"python train.py --seed {seed}" for seed in range(100)])`

        """
        specs, policies = accepting.read_specs(wanted)
        config, cwd = self.config, accepting.current_cwd()
        captured = environment.capture(environ, python=self._python)
        variables = [captured, *(spec.env for spec in specs)]
        kept = keeping.keep(self.store, variables)

        def decide(table: Table, now: datetime) -> Iterable[JobEvent]:
            keeping.refuse_taken(self.store, table, specs)
            keeping.keep_again(self.store, zip(kept, variables, strict=True))
            return accepting.accept(table, specs, policies, config, now=now, cwd=cwd, kept=kept)

        return self._change(decide, config)

    def _change(self, decide: Decide, config: Config | None = None) -> list[Job]:
        """Change the queue as *decide* says; return the jobs once it is on disk."""
        store = self.store
        store.durability = (config or self.config).durability
        with Undisturbed():
            events = store.transact(decide, wait=False)
            if not events:
                return []
            # A worker may begin while we wait for the disk: after a power cut neither was there.
            own = self._own
            if own is None or not own.works:
                store.begin_sync()  # so what we do until it has ended takes no time of its own
                presence.ring(store.paths.workers)
                jobs = [Job(self, event.id) for event in events]
                store.sync(store.seq)
                return jobs
            mine = own.worker.ring()
            try:
                store.sync(store.seq)  # at once: only here ours gets the interpreter
            finally:
                presence.ring(store.paths.workers, besides=mine)
            return [Job(self, event.id) for event in events]

    def cancel(self, *refs: Refs, signal: int = SIGTERM, wait: bool = True) -> list[Job]:
        """Call jobs off: at once if they wait; if they run, their processes are ended first.

        All or, if one of them cannot be cancelled, none. *signal* is what the processes get; those
        that are left when the job's grace is over are killed. A worker does that; where none is
        running we do it ourselves and return when they are gone or, if *wait* is false, at once.

        Raises:
            InvalidInputError, RefusedError: no such signal; one of the jobs is over already.
            UnknownJobError: there is no such job.

        """
        number = validation.check_signal(signal)
        words = self._living(refs)
        jobs = self._change(
            lambda table, now: [
                lifecycle.cancel(job, now=now, signal=number) for job in find_all(table, words)
            ]
        )
        running = [record for job in jobs if (record := job.record).stopping]
        if running and not self.workers():  # whichever worker there is takes them over
            from queuectl_magics.attempts import end_abandoned

            ends = (self.store, self.engine(), running)
            if wait:
                end_abandoned(*ends)
            else:
                name = "queuectl-cancel"
                Thread(target=end_abandoned, args=ends, name=name, daemon=True).start()
        return jobs

    def retry(self, *refs: Refs, states: States | None = None) -> list[Job]:
        """Give jobs that are over, or wait for their next attempt, a fresh allowance.

        With *states* instead of jobs: all that are in one of these at that moment.

        Raises:
            RefusedError: one of them is waiting to run or running; nothing was changed.
            UnknownJobError: there is no such job.

        """
        words = self._living(refs)
        wanted = frozenset() if states is None else validation.parse_states(states)

        def decide(table: Table, now: datetime) -> Iterable[JobEvent]:
            chosen = [job for job in table.jobs.values() if job.state in wanted]
            once = {job.id: job for job in find_all(table, words) + chosen}
            return [lifecycle.retry(job, now=now) for job in once.values()]

        return self._change(decide)

    def prune(
        self,
        *refs: Refs,
        states: States = (State.COMPLETED, State.CANCELLED),
        older_than_s: Seconds = 0.0,
        keep: int = 0,
    ) -> list[str]:
        """Drop jobs that are over, and their logs, also from the archive; return their ids.

        Args:
            refs: these jobs; or, when none is named, all that fit:
            states: only jobs in these states; dead ones are dropped only when asked for.
            older_than_s: only jobs that ended at least that many seconds ago.
            keep: but not the newest *keep* of them.

        Raises:
            InvalidInputError: there is no such state, or a number does not fit.
            RefusedError: a named job is not over, or jobs in a state that is asked for are not.
            UnknownJobError: there is no such job.

        """
        words = self._words(refs)
        choose = accepting.prunable(states, older_than_s=older_than_s, keep=keep)
        dropped: list[JobRecord] = []
        before = [] if refs else keeping.with_archived(self.store)  # which may take long

        def chosen(table: Table, now: datetime) -> list[JobRecord]:
            if refs:
                return keeping.find_anywhere(self.store, words)
            every = {(job.id, job.order): job for job in [*before, *table.jobs.values()]}
            return choose(every.values(), now)

        def decide(table: Table, now: datetime) -> Iterator[JobEvent]:
            archive.forget_unfinished(self.home, table)
            for job in chosen(table, now):
                if archive.is_in(table.jobs, job):
                    yield lifecycle.prune(job, now=now)
                dropped.append(job)

        self._change(decide)
        keeping.remove_traces(self.store, dropped)
        return [job.id for job in dropped]

    def configure(self, key: str, value: str | float) -> Config:
        """Set one setting of this home, for all jobs that are enqueued from now on.

        Raises:
            InvalidInputError: no such setting, or a value that does not fit; nothing was changed.

        """
        with self.store.exclusive():
            settings.write_setting(self.home, key, value)
            sync_folder(self.home)
        presence.ring(self.store.paths.workers)
        return self.config

    def pause(self) -> None:
        """Start no job any more, in any worker of this home; what runs goes on."""
        self.configure("paused", "true")

    def resume(self) -> None:
        """Let the workers start jobs again."""
        self.configure("paused", "false")

    # --- waiting ------------------------------------------------------------------------------

    def wait(
        self,
        *refs: Refs,
        timeout: Seconds | None = None,
        on_look: Callable[[list[JobRecord]], None] | None = None,
    ) -> list[Job]:
        """Return these jobs, or by default all jobs, once each of them is over.

        Args:
            refs: which jobs.
            timeout: give up after that time; None waits for ever.
            on_look: called at each look with the records waited for, for a progress bar.

        Raises:
            TimeoutError: some are not over yet; they go on.
            UnknownJobError: there is no such job.
            Exception: what ended the worker of this process, if that was no wish of anyone's.

        """
        ids = [record.id for record in self.records(refs=refs or None)]
        waiting.until_over(self.store, self.pauses(ids, timeout=timeout, on_look=on_look))
        gone = set() if refs else keeping.pruned(self.store, ids)
        return [Job(self, id) for id in ids if id not in gone]

    def pauses(
        self,
        ids: Sequence[str],
        *,
        timeout: Seconds | None = None,
        on_look: Callable[[list[JobRecord]], None] | None = None,
    ) -> Iterator[float]:
        """Yield how long to pause before the next look, until all of these jobs are over."""
        return waiting.pauses(
            self.store,
            ids,
            timeout=timeout,
            on_look=on_look or (lambda _records: None),
            held_back_by=self._held_back_by,
        )

    def _held_back_by(self, records: Iterable[JobRecord]) -> str:
        """Return why *records* do not go on; raise what ended our worker, if it was that."""
        mine = self.own_worker
        if mine is not None and mine.error is not None and not mine.is_alive():
            raise mine.error
        if self.config.paused and not any(record.state in WAITING for record in records):
            return ""  # what runs goes on
        return self.held_back_by

    def close(self, timeout_s: float = 1.0) -> None:
        """Close the files; if nobody else uses our worker, stop it and leave its jobs running."""
        if self._own is None or self._own.release(self, timeout_s):
            tidy_if_cheap(self.store)
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reopened(home: Path, python: str, plain: bool) -> JobQueue:  # noqa: FBT001 - as it is kept
    return JobQueue(home, python=python, plain=plain)
