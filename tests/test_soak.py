"""The soak: workers, kernels, terminals and the guard are killed at random, under load.

A moment of it belong to every run of the tests; `make soak` runs it for ten minutes. The
evidence is written by the jobs themselves and by the terminals that were told "Job enqueued".
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from evidence import command, evidence
from processes import guards_of
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobQueue

SOAK_S = float(os.environ.get("QUEUECTL_SOAK_S", "12"))
SEED = int(os.environ.get("QUEUECTL_SOAK_SEED", "20261124"))
JOBS_AHEAD = 12


class Soak:
    """Processes that use one home, to be killed and replaced."""

    def __init__(self, home: Path, work: Path) -> None:
        self.home, self.work = home, work
        self.dice = random.Random(SEED)
        self.killed: Counter[str] = Counter()
        self.told: set[str] = set()
        self.number = 0
        self.crew = {
            name: self.start(name) for name in ("worker 1", "worker 2", "worker 3", "kernel")
        }

    def start(self, kind: str) -> subprocess.Popen[bytes]:
        """Start a worker of a terminal, or a real kernel that loads the extension."""
        if kind == "kernel":
            self.number += 1
            connection = self.work / f"kernel-{self.number}.json"
            argv = ["ipykernel_launcher", "-f", str(connection)]
            argv += ["--InteractiveShellApp.extensions=queuectl_magics"]
        else:
            argv = ["queuectl_magics", "worker", "start", "--count", "2"]
        return self.spawn(*argv, output=subprocess.DEVNULL)

    def spawn(self, *argv: str, output: int) -> subprocess.Popen[bytes]:
        """Start a Python module for this home, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            cwd=self.work,
            start_new_session=True,
            env={**os.environ, "QUEUECTL_HOME": str(self.home), "PYTHONUNBUFFERED": "1"},
        )

    def kill(self, process: subprocess.Popen[bytes], kind: str) -> None:
        """Kill it and see it gone."""
        process.kill()
        process.wait()
        self.killed[kind] += 1

    def enqueue_in_terminal(self) -> None:
        """Enqueue in another process, which may be killed before, while or after it does."""
        line = command(self.dice.uniform(0, 0.3))
        process = self.spawn("queuectl_magics", "enqueue", line, output=subprocess.PIPE)
        try:
            said, _ = process.communicate(timeout=self.dice.uniform(0.05, 0.8))
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            self.killed["terminal"] += 1
        self.told |= set(re.findall(r"Job enqueued: id=(\w+)", said.decode()))

    def kill_guard(self) -> None:
        """Kill the guard of this home, if there is one."""
        for pid in guards_of(self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed["guard"] += 1

    def step(self, queue: JobQueue) -> None:
        """Give it work, wait a moment, and kill something."""
        waiting = queue.status().counts[State.PENDING]
        for _ in range(max(0, JOBS_AHEAD - waiting)):
            line = command(self.dice.uniform(0, 0.3))
            self.told.add(queue.enqueue(line, cwd=str(self.work), timeout_s=120).id)
        time.sleep(self.dice.uniform(0, 0.7))
        victim = self.dice.choice([*self.crew, *self.crew, "guard", "terminal"])
        if victim == "guard":
            self.kill_guard()
        elif victim == "terminal":
            self.enqueue_in_terminal()
        else:
            self.kill(self.crew[victim], victim.partition(" ")[0])
            self.crew[victim] = self.start(victim)

    def close(self) -> None:
        """Kill what is left."""
        for kind, process in self.crew.items():
            self.kill(process, kind.partition(" ")[0])


def test_nothing_is_lost_twice_or_stuck_whoever_is_killed(own_home, terminal, tmp_path, capsys):
    """Whatever is killed at whatever moment: each accepted job runs exactly once."""
    work = tmp_path / "work"
    work.mkdir()
    with JobQueue(own_home) as queue:
        soak = Soak(own_home, work)
        end_at = time.monotonic() + SOAK_S
        while time.monotonic() < end_at:
            soak.step(queue)
        soak.close()
        left = queue.status().counts
        terminal.run("run", "--count", "8")
        records = queue.records()
    begun, ended, overlaps = (evidence(work, name) for name in ("begun", "ended", "overlaps"))
    ids = {record.id for record in records}
    lost, stuck = soak.told - ids, [r.id for r in records if r.state is not State.COMPLETED]
    with capsys.disabled():
        print(  # noqa: T201 - what a soak saw is worth a line
            f"\nsoak of {SOAK_S:g} s: {sum(soak.killed.values())} kills "
            f"({', '.join(f'{n} {kind}' for kind, n in sorted(soak.killed.items()))}); "
            f"{len(ids)} jobs, {left[State.PROCESSING]} still running at the end; {len(lost)} "
            f"lost, {sum(overlaps.values())} overlapping, {len(stuck)} stuck, "
            f"{sum(n > 1 for n in begun.values())} begun twice"
        )

    assert set() == lost
    assert Counter() == overlaps
    assert [] == stuck
    assert Counter(ids) == begun
    assert Counter(ids) == ended
