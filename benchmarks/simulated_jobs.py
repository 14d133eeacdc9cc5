"""A queue of made-up jobs that change as often as asked; the kernel of `live_table.py` runs it."""

from __future__ import annotations

import json
import random
import resource
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.live.source import Changes, Standing

RUNNING = 40
LINES = (
    "step {n}/400 loss={x:.4f}",
    "[{n:>3}/400] building core.cc.o",
    "epoch {m}/10 accuracy={x:.3f}",
)


class Simulated:
    """Jobs in memory: a third is over, forty run, the others wait."""

    title = "simulated"

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.seq = 1
        self.busy_s = 0.0
        self._jobs: dict[str, JobRecord] = {}
        self._logs: dict[str, tuple[int, bytes]] = {}
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._dice = random.Random(7)
        self._running: list[str] = []
        self._next = rows // 3
        now = datetime.now(UTC)
        for number in range(rows):
            self._make(number, now)
        for _ in range(min(RUNNING, rows // 10)):
            self._start()
        self._marked = self._running[0]

    def _make(self, number: int, now: datetime) -> None:
        over = number < self._next
        begun = now - timedelta(seconds=self._dice.randrange(100, 3000)) if over else None
        rate = self._dice.choice(["1e-3", "3e-4"])
        self._jobs[str(number)] = JobRecord(
            id=str(number),
            command=f"python train.py --lr {rate} --seed {number}",
            state=State.COMPLETED if over else State.PENDING,
            attempts=0,
            max_retries=3,
            created_at=now,
            updated_at=now,
            order=number,
            attempt=int(over),
            started_at=begun,
            finished_at=begun + timedelta(seconds=self._dice.randrange(5, 60)) if begun else None,
        )
        self._logs[str(number)] = (15, b"done in 12.5 s\n") if over else (0, b"")

    def _put(self, job: JobRecord) -> None:
        self.seq += 1
        self._jobs[job.id] = job
        self._touched.add(job.id)

    def _print(self, id: str, line: str) -> None:
        self._logs[id] = self._logs[id][0] + len(line), line.encode()

    def _start(self) -> None:
        if self._next == self.rows:
            return
        id, self._next = str(self._next), self._next + 1
        now = datetime.now(UTC)
        self._put(replace(self._jobs[id], state=State.PROCESSING, attempt=1, started_at=now))
        self._running.append(id)

    def update(self, number: int) -> None:
        """Change one job; every fifth time, let the first print what time it is."""
        with self._lock:
            if number % 5 == 0:
                self._print(self._marked, f"at {int(time.time() * 1000)}\n")
                return
            dice, id = self._dice, self._dice.choice(self._running[1:])
            if dice.random() < 0.06 and self._next < self.rows:
                self._running.remove(id)
                now = datetime.now(UTC)
                self._put(replace(self._jobs[id], state=State.COMPLETED, finished_at=now))
                self._start()
                return
            line = dice.choice(LINES)
            done = {"n": dice.randrange(400), "m": dice.randrange(10), "x": dice.random()}
            self._print(id, line.format(**done) + "\n")

    def run(self, updates: int) -> None:
        """Change jobs for ever, so many times a second."""
        due, number = time.perf_counter(), 0
        while True:
            number += 1
            before = time.thread_time()
            self.update(number)
            self.busy_s += time.thread_time() - before
            due += 1 / updates
            time.sleep(max(0.0, due - time.perf_counter()))

    def start(self, updates: int) -> None:
        """Let them change from now on, in a thread."""
        threading.Thread(target=self.run, args=(updates,), daemon=True).start()

    def tell(self) -> None:
        """Print what the kernel has used, what of it was the simulation, and the time."""
        use = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps([use.ru_utime + use.ru_stime, self.busy_s, time.time()]))

    # --- what the live table asks ---------------------------------------------------------------

    def changes(self, since: int | None) -> Changes:
        """Return what changed."""
        with self._lock:
            touched, self._touched = self._touched, set()
            if since is None:
                return Changes(self.seq, list(self._jobs.values()), whole=True)
            return Changes(self.seq, [self._jobs[id] for id in touched])

    def standing(self) -> Standing:
        """Return that one worker works."""
        return Standing(paused=False, workers=1, slots=RUNNING)

    def output_size(self, id: str, _attempt: int) -> int:
        """Return how much a job has printed."""
        return self._logs[id][0]

    def output(self, id: str, _attempt: int, _offset: int, _limit: int) -> tuple[bytes, int]:
        """Return what it printed last."""
        return self._logs[id][1], self._logs[id][0]

    def cancel(self, _ids: Iterable[str]) -> int:
        """Change nothing."""
        return 0

    retry = cancel

    def pause(self) -> None:
        """Change nothing."""

    resume = pause
