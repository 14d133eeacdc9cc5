"""What an attempt may use, and ending it when it used more or is no longer wanted.

Whoever supervises an attempt, its worker or the guard, holds a `Watch` on it and looks now and
then. A look asks for the end of an attempt whose time is up, sends the signals that were asked
for, and sees how long its log is by now. The rules here: the reason is written down before the
first signal; TERM comes first and KILL after the job's grace; how long an attempt has run is told
by clocks that nobody sets; while a job runs its log is shortened by the guard alone, since giving
a gigabyte back to the disk takes a third of a second of CPU time, which no kernel should pay. What
is over the limit at its end is cut by its worker.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime

from queuectl_magics import clock, lifecycle
from queuectl_magics.engines import Running
from queuectl_magics.events import JobEvent
from queuectl_magics.job import JobRecord
from queuectl_magics.store import Store
from queuectl_magics.table import Table

ENDING_S = 0.05
FIRST_LOOK_S = 0.05
CALM_S = 2.0
OUTPUT_LOOK_S = 0.1
OUTPUT_BYTES_PER_S = 128 * 1024 * 1024


class Watch:
    """The supervision of one attempt.

    Args:
        running: the attempt.
        store: where the reason for its end is written down.

    Attributes:
        printed_bytes: how long its log was when it was last measured.

    """

    def __init__(self, running: Running, store: Store) -> None:
        self.running = running
        self._store = store
        self._since_s = clock.monotonic_s()
        self._started_s: float | None = None
        self._signalled_s: float | None = None
        self._heard = False
        self._look_at_s = self._measure_at_s = self._since_s + FIRST_LOOK_S
        self.printed_bytes = 0

    @property
    def age_s(self) -> float:
        """For how many seconds we have been watching."""
        return clock.monotonic_s() - self._since_s

    def look(self, job: JobRecord, *, unwanted: bool = False) -> float:
        """Enforce the limits of *job*, as it is now; return in how many seconds to look again.

        *unwanted* ends the attempt and hands the job back: its worker was told to stop.
        """
        now_s = clock.monotonic_s()
        if job.stopping is not None:
            return self._end(job, now_s)
        if unwanted:
            return self._ask_to_end(job, lifecycle.HAND_BACK)
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + self._check_time(job, now_s)
        return self._look_at_s - now_s

    def _end(self, job: JobRecord, now_s: float) -> float:
        if self._signalled_s is None:
            self._signalled_s = now_s
        if now_s - self._signalled_s >= job.grace_s:
            self.running.signal(signal.SIGKILL)
        else:  # once it was heard, for those that had only just started and missed it
            number = job.stop_signal or signal.SIGTERM
            self._heard |= self.running.signal(number, again=self._heard) > 0
        return ENDING_S

    def _check_time(self, job: JobRecord, now_s: float) -> float:
        if job.timeout_s is None:
            return CALM_S
        if self._started_s is None:
            self._started_s = now_s - self.running.age_s()
        left_s = job.timeout_s - (now_s - self._started_s)
        if left_s > 0:
            return min(left_s, CALM_S)
        return self._ask_to_end(job, f"timed out after {job.timeout_s:g} s")

    def _ask_to_end(self, job: JobRecord, why: str) -> float:
        """Write down why it is to end, and send the first signal at once: it may end by itself.

        The disk is not waited for: a power cut would end the attempt with the reason.
        """

        def decide(table: Table, now: datetime) -> Iterator[JobEvent]:
            current = table.jobs.get(job.id)
            event = current and lifecycle.stop(current, job.attempt, why=why, now=now)
            if event:
                yield event

        # vital: on a full disk it may be this very attempt that fills it
        is_asked = self._store.transact(decide, vital=True, wait=False)
        return self._end(job, clock.monotonic_s()) if is_asked else CALM_S

    def measure(self, job: JobRecord) -> float:
        """See how long the log is by now; return in how many seconds to measure again.

        That is the sooner the faster it grows, so that it never gets far beyond its limit.
        """
        now_s = clock.monotonic_s()
        if now_s >= self._measure_at_s:
            bytes_now = self.running.printed_bytes()
            is_fast = bytes_now - self.printed_bytes > job.output_bytes_max // 8
            self.printed_bytes = bytes_now
            until_full_s = max(OUTPUT_LOOK_S, job.output_bytes_max / OUTPUT_BYTES_PER_S)
            self._measure_at_s = now_s + (OUTPUT_LOOK_S if is_fast else min(CALM_S, until_full_s))
        return self._measure_at_s - now_s

    def limit_output(self, job: JobRecord) -> float:
        """Measure the log and drop the middle of one that has grown beyond its limit."""
        before = self.printed_bytes
        wait_s = self.measure(job)
        if self.printed_bytes > max(before, job.output_bytes_max):
            self.running.limit_output(job.output_bytes_max)
        return wait_s
