"""The worker: lease what is due, hand it to the engine, settle what ended.

One thread runs a loop of named steps and sleeps on its bell; those that wait for its attempts take
a turn of their own when one has ended. It lives in a kernel, where it must never print, or is the
process `queuectl worker start`. The rules here: one thread at a time has the turn; an attempt is
prepared (locked) before its lease is written and started only after that; what ended and what is
due next go into one transaction; the disk confirms in the background, and an exit record is kept
until it has; a worker that stops leaves what is running alone, for the next one to adopt.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum

from queuectl_magics import clock, environment, guard, lifecycle, presence
from queuectl_magics.attempts import Attempts, settlements
from queuectl_magics.engines import CANNOT_START, Engine
from queuectl_magics.errors import HomeGoneError, OutcomeUnknownError, QueuectlError
from queuectl_magics.events import JobEvent
from queuectl_magics.job import Exit, JobRecord, State, key_of
from queuectl_magics.limits import FIRST_LOOK_S
from queuectl_magics.presence import Presence
from queuectl_magics.store import Store, archive, reserve
from queuectl_magics.store.compaction import is_worthwhile, tidy_if_cheap
from queuectl_magics.store.syncing import Syncing
from queuectl_magics.table import Table

LOOK_S = 2.0
RETRY_S = 1.0
ADOPT_EVERY_S = 0.5
TIDY_AFTER_S = 0.5
FOLD_EVERY_S = 5.0


class Stopping(StrEnum):
    """How a worker may be asked to stop."""

    AFTER_CURRENT = "after the current jobs"
    NOW = "now"
    LEAVE = "leaving the jobs running"


class Worker:
    """Runs the jobs of a store, as many side by side as it has slots.

    Args:
        store: where the jobs are.
        engine: where they run.
        room: how many jobs may run at once, and whether none may be started for now (paused);
            asked at each ring, so that a setting takes effect at once.
        kind: `kernel` or `terminal`, for the list of workers.
        on_change: called from the thread that has the turn, with the jobs that have changed.
        drain: return as soon as nothing is left to run or to wait for.

    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        *,
        room: Callable[[], tuple[int, bool]],
        kind: str = "terminal",
        on_change: Callable[[list[JobRecord]], None] | None = None,
        drain: bool = False,
    ) -> None:
        self.store = store
        self.engine = engine
        self.error: Exception | None = None
        self.has_looked = threading.Event()
        self._told: set[Stopping] = set()  # each word by itself: none replaces another
        self._deciding = threading.Lock()
        self._is_over = False
        self._room = room
        self._slots = 0
        self._rang = True
        self._on_change = on_change
        self._drain = drain
        self._folder = store.paths.workers
        self._presence = Presence(self._folder, kind=kind, count=room()[0], now=clock.utc_now())
        self._attempts = Attempts(store, on_end=self._go_on, on_idle=self._presence.ring)
        self._syncing = Syncing(store, engine.forget)
        self._look_s = LOOK_S
        self._wake_at_s = 0.0
        self._failure: Exception | None = None
        self._adopt_at_s = 0.0
        self._guard = guard.Caller(store.paths.home)
        self._busy_at = self._folded_at = clock.monotonic_s()
        self._is_untidy = True
        self._thread = threading.Thread(target=self._run, name="queuectl-worker", daemon=True)

    @property
    def name(self) -> str:
        """The name under which this worker leases."""
        return self._presence.info.name

    def start(self) -> None:
        """Run the loop in a thread that never keeps the process alive."""
        self._presence.announce()
        try:
            self._syncing.start()
            self._thread.start()
        except BaseException:  # without a thread it would be in the list of workers for ever
            self._presence.leave()
            raise

    @property
    def is_stopping(self) -> bool:
        """Whether the loop has been asked to end, in whichever way."""
        return bool(self._told)

    def stop(self, how: Stopping = Stopping.AFTER_CURRENT) -> None:
        """Ask the loop to end; safe in a signal's own moment."""
        self._told.add(how)
        self._presence.ring()

    def go_on(self) -> bool:
        """Take back a stop after the current jobs; say whether it was not too late for that.

        It is when the loop has decided to end, or was asked to end its jobs or to leave them.
        """
        with self._deciding:
            goes_on = not self._is_over and self._told <= {Stopping.AFTER_CURRENT}
            if goes_on:
                self._told.discard(Stopping.AFTER_CURRENT)
        self._presence.ring()
        return goes_on

    def ring(self) -> str:
        """Wake it, if it sleeps, since something may be due, and return its name."""
        self._presence.ring()
        return self.name

    def slots_changed(self) -> None:
        """Say in the list of workers how many jobs run side by side from now on."""
        self._presence.tell_count(self._room()[0])
        self._presence.ring()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the loop's end and say whether it has come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def is_alive(self) -> bool:
        """Say whether the loop runs in its thread."""
        return self._thread.is_alive()

    # --- the loop -----------------------------------------------------------------------------

    def _run(self) -> None:
        """Lease, run and settle until asked to stop (or, draining, until all is done)."""
        try:
            reserve.put_by(self.store.paths.reserve)  # results are written even on a full disk
            self._sweep()
            while self._turn():
                self._rang |= self._presence.sleep(self._wake_at_s - clock.monotonic_s())
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
            self.error = error
        finally:
            with self._attempts.turn:
                self._is_over = True
            self._syncing.close()
            self.engine.close()
            self._presence.leave()

    def _sweep(self) -> None:
        """Remove what workers that were killed have left of attempts that are settled."""
        self.store.sync(self.store.seq)  # an exit record is needed until its end is on disk
        with self.store.exclusive(timeout_s=None):
            jobs = self.store.table.jobs
            self.engine.sweep([jobs[id] for id in self.store.table.processing])

    def _turn(self) -> bool:
        """Take every step once, and note until when to sleep; say whether to go on."""
        with self._attempts.turn:
            pause_s = self._take_steps()
            self._wake_at_s = clock.monotonic_s() + (pause_s or 0.0)
        return pause_s is not None

    def _take_steps(self) -> float | None:
        """Return for how long to sleep then, unless the bell rings; None means to end."""
        try:
            if self._failure:
                raise self._failure
            try:
                self._look_around()
                self._settle_and_lease()
                self._enforce_limits()
                self._tidy()
            finally:  # what has begun is waited for, whatever goes wrong
                self._attempts.see_to_all()
            is_drained = self._drain and self._is_drained()
            pause_s = self._pause_s()
        except (OutcomeUnknownError, HomeGoneError) as error:
            # we may write no more: let others have the jobs
            self.error = error
            return None
        except (QueuectlError, OSError) as error:  # a full disk, no descriptors: it may get better
            self.error, is_drained, pause_s = error, False, RETRY_S
        else:
            self.error = self._syncing.error
            self.has_looked.set()
        return None if self._decide_to_end(is_drained=is_drained) else pause_s

    def _go_on(self) -> None:
        """Settle and lease in the turn of a thread that has seen the end of its attempt.

        For all else that there is to do, and for what goes wrong, the loop has a look soon.
        """
        if self._is_over:
            return
        is_ringing = self._presence.is_ringing
        try:
            with contextlib.suppress(QueuectlError, OSError):  # the loop will meet it as well
                if is_ringing:  # whoever has paused the queue is not to see one more job start
                    self._hear()
                self._settle_and_lease(alone=False)
        except Exception as error:  # noqa: BLE001 - it ends the loop, as if it had come up there
            self._failure = error
        if is_ringing or self._wake_at_s - clock.monotonic_s() > FIRST_LOOK_S:
            self._presence.ring()

    def _decide_to_end(self, *, is_drained: bool) -> bool:
        """Say whether to end; once that was a yes, it is too late to go on."""
        with self._deciding:
            has_stopped = self.is_stopping and not any(self._attempts)
            self._is_over = is_drained or has_stopped or Stopping.LEAVE in self._told
            return self._is_over

    def _is_drained(self) -> bool:
        with self.store.reading() as table:
            counts = table.counts
            mine = any(table.jobs[id].worker == self.name for id in table.processing)
        return not (mine or any(self._attempts) or counts[State.PENDING] or counts[State.FAILED])

    def _hear(self) -> None:
        """Take in what was rung, and what is set."""
        rung = self._presence.listen()
        if presence.STOP_NOW in rung:
            self._told.add(Stopping.NOW)
        if presence.STOP in rung:
            self._told.add(Stopping.AFTER_CURRENT)
        count, is_paused = self._room()
        self._presence.tell_count(count)
        self._slots = 0 if is_paused else count

    def _look_around(self) -> None:
        """Take in what others did and what is set: when someone rang, and now and then."""
        now_s = clock.monotonic_s()
        is_time = now_s >= self._adopt_at_s
        if self._rang or is_time:
            self._hear()
            self._adopt_strays(every=is_time)
            self._rang = False
        if is_time:
            self._adopt_at_s = now_s + ADOPT_EVERY_S

    def _adopt_strays(self, *, every: bool) -> None:
        """Take in what others did, and take over attempts that nobody has in hand.

        *Every* one, or only those that are to be stopped.
        """
        with self.store.reading() as table:
            processing = [table.jobs[id] for id in table.processing]
        running = [job for job in processing if every or job.stopping]
        ours = set(self._attempts)
        strays = [job for job in running if key_of(job) not in ours]
        for job in strays:
            if job.worker != self.name and presence.is_alive(self._folder, job.worker):
                continue
            self._attempts.add(job, self.engine.find(job))

    def _settle_and_lease(self, *, alone: bool = True) -> None:
        """Record what ended and lease what is due, in one transaction; then begin the leased.

        Unless *alone*, or watched, it leaves some to the threads on their way to wait for them.
        """
        ended, running = self._attempts.take_ended(), self._attempts.running
        free = self._free(len(running) - sum(key_of(job) in running for job, _ in ended))
        if not ended and not (free > 0 and self._until_due_s() == 0):
            return
        prepared: dict[str, object] = {}
        trouble: list[OSError] = []

        def decide(table: Table, now: datetime) -> Iterator[JobEvent]:
            yield from settlements(ended, table, now)
            # by the clock that `due_at` was told by: *now* stands still while the clock is behind
            for job in table.pick_due(clock.utc_now(), free):
                token = os.urandom(4).hex()
                lease = lifecycle.lease(job, worker=self.name, token=token, now=now)
                try:
                    prepared[job.id] = self.engine.prepare(job, lease.attempt, token)
                except OSError as error:  # what has ended must be settled all the same
                    trouble.append(error)
                    return
                yield lease

        try:
            try:
                events = self.store.transact(decide, timeout_s=None, vital=bool(ended), wait=False)
            except BaseException:
                self._attempts.put_back(ended)
                raise
            self._attempts.settled(ended)
            jobs = self.store.table.jobs
            for id, claim in list(prepared.items()):
                self._place(jobs[id], claim)
                del prepared[id]
        finally:  # the lock of what never begins would look like a running job for ever
            self._attempts.begin(all=alone or self._on_change is not None)
            for claim in prepared.values():
                self.engine.abandon(claim)
        self._syncing.soon(self.store.seq, [job for job, _ in ended])
        if self._on_change is not None:
            with contextlib.suppress(Exception):  # what goes wrong there is not the jobs' business
                self._on_change([jobs[event.id] for event in events if event.id in jobs])
        if trouble:
            raise trouble[0]

    def _free(self, running: int) -> int:
        """Return how many more jobs may be started while *running* are."""
        return 0 if self.is_stopping else max(0, self._slots - running)

    def _until_due_s(self) -> float:
        """Return in how many seconds the next job is due, of those that were seen: others ring."""
        with self.store.reading(look=False) as table:
            if table.pick_due(clock.utc_now(), 1):
                return 0.0
            due_at = table.next_due()
        if due_at is None:
            return LOOK_S
        return max(0.0, (due_at - clock.utc_now()).total_seconds())

    def _place(self, job: JobRecord, claim: object) -> None:
        """Hand a leased job to the engine, with the *claim* that was prepared for it."""
        folder = self.store.paths.env
        try:
            captured = environment.recall(folder, job.environ_ref) or environment.capture()
            environ = {**captured, **environment.recall(folder, job.env_ref)}
        except QueuectlError as error:
            self.engine.abandon(claim)
            reason, now = f"cannot start: {error}", clock.utc_now()
            self._attempts.add(job, Exit(code=CANNOT_START, finished_at=now, reason=reason))
        else:
            self._guard.see_to(job)  # first: from its start on we may die at any moment
            self._attempts.add(job, self.engine.place(job, claim, environ))

    def _enforce_limits(self) -> None:
        """End what must end and see what grows; note when to look again."""
        jobs, unwanted = self.store.table.jobs, Stopping.NOW in self._told
        looks = [LOOK_S]
        for (id, attempt), watch in self._attempts.running.items():
            job = jobs.get(id)
            if job is not None and job.attempt == attempt:
                looks += [watch.look(job, unwanted=unwanted), watch.measure(job)]
                self._guard.see_to(job, watch.age_s, watch.printed_bytes)
        self._look_s = min(looks)

    def _tidy(self) -> None:
        """Fold the journal a moment after the last job, and now and then while there are many."""
        now_s = clock.monotonic_s()
        if any(self._attempts):
            self._busy_at, self._is_untidy = now_s, True
            if now_s - self._folded_at > FOLD_EVERY_S:
                self._folded_at = now_s
                if is_worthwhile(self.store):
                    tidy_if_cheap(self.store)
        elif self._is_untidy and now_s - self._busy_at >= TIDY_AFTER_S:
            self._is_untidy = False
            archive.tidy(self.store)

    def _pause_s(self) -> float:
        """Return in how many seconds something is due, or to be seen."""
        if self._syncing.error is not None:
            return RETRY_S
        if self._attempts.are_unseen:
            return 0.0
        wait_s, running = self._look_s, len(self._attempts.running)
        if self._is_untidy and not running:
            wait_s = min(wait_s, TIDY_AFTER_S)
        if self._free(running) > 0:
            wait_s = min(wait_s, self._until_due_s())
        return wait_s
