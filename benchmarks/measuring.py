"""What all benches share: the floor, pairs, fresh folders, tables, and where the figures go.

Absolute figures of a machine say little and those of a busy one nothing, so every figure is also
given as a ratio to a floor or a peer that was measured right before and after it. Nothing is ever
deleted here: on a file system without a journal, a mass deletion makes the creation of files 10 to
25 times dearer for a minute, since freed inodes must not be used again so soon.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
RESULTS = BENCH / "results"
SLOTS = 2
_made = 0


def fresh(name: str) -> Path:
    """Return a folder that is new and empty."""
    global _made  # noqa: PLW0603
    _made += 1
    folder = BENCH / "run" / f"{time.strftime('%m%d-%H%M%S')}-{os.getpid()}" / f"{_made}-{name}"
    folder.mkdir(parents=True)
    return folder


def bare(command: str, log: Path) -> subprocess.Popen[bytes]:
    """Start *command* as barely as Python can: a session of its own, its output in a new file."""
    with open(log, "wb") as output:
        return subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def floor_jobs_per_s(count: int, slots: int = SLOTS) -> float:
    """Run *count* times `true` from a thread pool, and return how many a second."""
    folder = fresh("floor")

    def run(number: int) -> None:
        bare("true", folder / f"{number}.log").wait()

    began = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        for _ in pool.map(run, range(count)):
            pass
    return count / (time.perf_counter() - began)


def seconds(action: Callable[[], object]) -> float:
    """Return how long *action* takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def medians(repetitions: int, *actions: Callable[[], float]) -> list[float]:
    """Return the median of each action's figure; they take turns, so that noise hits all alike."""
    figures: list[list[float]] = [[] for _ in actions]
    for turn in range(repetitions):
        order = range(len(actions)) if turn % 2 == 0 else reversed(range(len(actions)))
        for number in order:
            figures[number].append(actions[number]())
    return [statistics.median(each) for each in figures]


def bracketed(action: Callable[[], float], floor: Callable[[], float]) -> tuple[float, float]:
    """Return the figure of *action*, and its ratio to the mean of a floor before and after it."""
    before = floor()
    figure = action()
    return figure, figure / ((before + floor()) / 2)


def quantile(figures: Sequence[float], share: float) -> float:
    """Return the figure below which *share* of *figures* lie."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run_json(argv: Sequence[str | Path], **options: Any) -> Any:
    """Run a program of ours and return the JSON in its last line; its error text if it fails."""
    timeout_s = options.pop("timeout", 300)
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=timeout_s, **options
        )
    except subprocess.TimeoutExpired:
        return f"took more than {timeout_s} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


class Table:
    """Rows for the screen and for `.bench/results/NAME.json`."""

    def __init__(self, name: str, title: str, *columns: str) -> None:
        self.name, self.title, self.columns = name, title, columns
        self.rows: list[tuple[str, ...]] = []

    def add(self, *cells: object) -> None:
        """Add a row; floats get three significant digits."""
        self.rows.append(tuple(_shown(cell) for cell in cells))

    def show(self) -> None:
        """Print the table as Markdown, and write it down."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        print(f"\n### {self.title}\n")
        for line in lines:
            print("| " + " | ".join(line) + " |")
        sys.stdout.flush()
        RESULTS.mkdir(parents=True, exist_ok=True)
        about = {"title": self.title, "columns": self.columns, "rows": self.rows}
        (RESULTS / f"{self.name}.json").write_text(json.dumps(about | machine(), indent=1) + "\n")


def _shown(cell: object) -> str:
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def machine() -> dict[str, Any]:
    """Return what the figures were taken on."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if "model name" in line), "")
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "disk": _disk(),
        "load": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def _disk() -> str:
    from queuectl_magics.store.home import filesystem_type

    kind = filesystem_type(ROOT)
    device = next(
        (line.split()[0] for line in Path("/proc/mounts").read_text().splitlines()
         if kind and line.split()[2] == kind), ""
    )  # fmt: skip
    task = Path(f"/sys/fs/ext4/{Path(device).name}/journal_task")
    if task.exists() and task.read_text().strip() == "<none>":
        return f"{kind} without a journal"
    return kind
