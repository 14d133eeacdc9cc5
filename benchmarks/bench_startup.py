"""How long `%load_ext` and a command in the terminal take, beside the least they could take.

`%load_ext queuectl_magics` in a fresh IPython beside an extension that is empty; `queuectl` beside
`python -c "import click"`. Each in a process of its own, in turns; wall time, which is what a
person waits for, and the CPU time, which a busy machine disturbs less. A ratio is the median of
those within a turn.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from measuring import ROOT, Table, fresh

from queuectl_magics import JobQueue

REPEAT = int(os.environ.get("REPEAT", "9"))
LOAD = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
sys.path.insert(0, sys.argv[2])
wall, cpu = time.perf_counter(), time.process_time()
shell.run_line_magic("load_ext", sys.argv[1])
print((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)
"""


def load_ms(extension: str, folder: Path) -> tuple[float, float]:
    """Return wall and CPU milliseconds of loading *extension* in a new IPython."""
    argv = [sys.executable, "-c", LOAD, extension, str(folder)]
    done = subprocess.run(
        argv, env=environ(folder), capture_output=True, text=True, check=True, cwd=folder
    )
    wall, cpu = done.stdout.split()[-2:]
    return float(wall), float(cpu)


def environ(folder: Path) -> dict[str, str]:
    """Return an environment in which modules are compiled once, as if installed."""
    env = {**os.environ, "IPYTHONDIR": str(folder), "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(ROOT)]))
    return env


def command_ms(argv: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return wall and CPU milliseconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(argv, env=environ(folder), stdout=subprocess.DEVNULL, check=True, cwd=folder)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1000, cpu * 1000


def main() -> None:
    folder, bare, busy = fresh("startup"), fresh("startup-bare"), fresh("startup-busy")
    with JobQueue(busy / ".queuectl") as queue:  # that of the commands is in `folder`
        queue.enqueue("true", delay="1d")
    for place in (folder, bare, busy):
        (place / "empty_extension.py").write_text("def load_ipython_extension(shell): pass\n")
    queuectl = [str(Path(sys.executable).with_name("queuectl"))]
    actions = {
        "%load_ext of an empty extension": lambda: load_ms("empty_extension", bare),
        "%load_ext queuectl_magics": lambda: load_ms("queuectl_magics", bare),
        "%load_ext where jobs wait": lambda: load_ms("queuectl_magics", busy),
        'python -c ""': lambda: command_ms([sys.executable, "-c", ""], folder),
        'python -c "import click"': lambda: command_ms(
            [sys.executable, "-c", "import click"], folder
        ),
        "queuectl status": lambda: command_ms([*queuectl, "status"], folder),
        "queuectl enqueue true": lambda: command_ms([*queuectl, "enqueue", "true"], folder),
        "queuectl --version": lambda: command_ms([*queuectl, "--version"], folder),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for turn in range(REPEAT + 1):
        for name, action in actions.items():
            figures = action()
            if turn:
                took[name].append(figures)
    table = Table("startup", "Start-up", "what", "wall ms", "CPU ms", "CPU, to the floor")
    middle = {
        name: [statistics.median(each) for each in zip(*figures, strict=True)]
        for name, figures in took.items()
    }
    empty = middle["%load_ext of an empty extension"][1]
    for name, (wall, cpu) in middle.items():
        if name.startswith("%"):
            over = f"+{cpu - empty:.1f} ms"
        else:  # of the same turn: the machine's speed changes from one to the next
            pairs = zip(took[name], took['python -c "import click"'], strict=True)
            over = f"{statistics.median(ours[1] / click[1] for ours, click in pairs):.2f}"
        table.add(name, wall, cpu, over)
    table.show()


if __name__ == "__main__":
    main()
