"""A bench for workers: a queue, jobs that leave evidence of their own, and what stops them."""

from __future__ import annotations

from pathlib import Path

from processes import pids, words_of
from queuectl_magics import recorder
from queuectl_magics.jobqueue import JobQueue

MARK = 'echo "$QUEUECTL_JOB_ID.$QUEUECTL_ATTEMPT" >>runs'
HELD = f"{MARK}; echo begun; until [ -e go ]; do sleep 0.02; done; echo done"
LOUD = 'echo "+ $QUEUECTL_JOB_ID" >>log; {}; echo "- $QUEUECTL_JOB_ID" >>log'
FOR_EVER_S = 600.0
SOON_S = 3.0


class Bench:
    """A queue, a folder in which its jobs leave their evidence, and what else a test needs."""

    def __init__(self, home: Path, work: Path) -> None:
        work.mkdir(exist_ok=True)
        self.home, self.work = home, work
        self.queue = JobQueue(home)

    def enqueue(self, command: str = MARK, **options):
        """Enqueue a job that leaves its evidence in the folder."""
        return self.queue.enqueue(command, cwd=str(self.work), **options)

    def go(self, name: str = "go") -> None:
        """Let held jobs end."""
        (self.work / name).touch()

    def lines(self, name: str) -> list[str]:
        """Return the evidence."""
        path = self.work / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    @property
    def runs(self) -> list[str]:
        """Which attempts have run, as `job.attempt`, in the order in which they began."""
        return self.lines("runs")

    def begun(self, count: int = 1):
        """Return a condition: that many attempts have begun."""
        return lambda: len(self.runs) >= count

    def drain(self, count: int = 1) -> None:
        """Work off everything that is left."""
        last = self.queue.new_worker(count=count, drain=True)
        last.start()
        assert last.join(60)
        assert last.error is None, last.error

    def run_path(self, job) -> Path:
        """Return the run file of the job's current attempt."""
        record = job.record
        run = self.queue.store.paths.run
        return recorder.run_path(run, job.id, record.attempt, record.token)

    def members(self, job) -> list[int]:
        """Return the living processes of a job."""
        told = {f"QUEUECTL_JOB_ID={job.id}".encode(), f"QUEUECTL_HOME={self.home}".encode()}
        return [pid for pid in pids() if told <= words_of(pid, "environ")]


def most_at_once(lines: list[str]) -> int:
    """Return how many jobs ran side by side, by their own evidence."""
    now, most = 0, 0
    for line in lines:
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    return most


def begin(bench, terminal, until, *, before: str = ""):
    """Start a worker in another process and let it begin a job that is held."""
    job = bench.enqueue(HELD)
    bench.enqueue()
    process = terminal.start("worker", "start", before=before)
    until(bench.begun())
    return job, process


def kill(process) -> None:
    """Kill a process outright and wait until it is gone."""
    process.kill()
    process.wait()
