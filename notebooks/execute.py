"""Execute a notebook in a real kernel and print what it says, as it says it, then its jobs.

`python notebooks/execute.py notebooks/quickstart.ipynb` is what `make run` does. The notebook runs
in a temporary directory with a queue home of its own, so it neither sees nor leaves anything here.
With `--save` its outputs are written back into it, plain, as nbval compares them. The exit code is
0 only if every cell ran, or failed where it is tagged `raises-exception`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from queuectl_magics import JobQueue, clock
from queuectl_magics.job import Attempt, JobRecord
from queuectl_magics.views import text, words

SOURCE_LINES_MAX = 16
WIDTH = 99
CELL_TIMEOUT_S = 300
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Printer(NotebookClient):
    """A notebook client that prints each cell's source and its text outputs as they arrive.

    An output that updates in place is printed when it first appears and, if it has changed, once
    more when a cell ends: a log has no place to update in.
    """

    def __init__(self, notebook: nbformat.NotebookNode, **options: Any) -> None:
        super().__init__(notebook, on_cell_start=self.start, on_cell_executed=self.end, **options)
        self.shown: dict[str, str] = {}
        self.updated: dict[str, str] = {}
        self.line_open = False

    def say(self, text: str, indent: str = "") -> None:
        """Print *text*, whole lines, indented."""
        if self.line_open:
            print()
            self.line_open = False
        if not sys.stdout.isatty():
            text = ANSI.sub("", text)
        for line in text.rstrip("\n").split("\n"):
            print(f"{indent}{line}".rstrip())
        sys.stdout.flush()

    def stream(self, text: str) -> None:
        """Print *text* as it is: a line may come in pieces."""
        if not sys.stdout.isatty():
            text = ANSI.sub("", text)
        print(text, end="", flush=True)
        self.line_open = not text.endswith("\n")

    def start(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Print the source of the code cell that is about to run."""
        if cell.cell_type != "code":
            return
        lines = cell.source.splitlines()
        self.say(f"\n── cell {cell_index + 1} " + "─" * 60)
        self.say("\n".join(lines[:SOURCE_LINES_MAX]), indent="    ")
        if len(lines) > SOURCE_LINES_MAX:
            self.say(f"… {len(lines) - SOURCE_LINES_MAX} more lines", indent="    ")

    def end(self, **_: Any) -> None:
        """Print how the outputs that update in place look now that the cell has ended."""
        for name, line in self.updated.items():
            if line != self.shown.get(name):
                self.say(line)
                self.shown[name] = line
        self.updated.clear()

    def process_message(
        self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int
    ) -> nbformat.NotebookNode | None:
        """Print what a message from the kernel says, besides keeping it."""
        content = msg["content"]
        text = content.get("data", {}).get("text/plain") if "data" in content else None
        name = content.get("transient", {}).get("display_id")
        match msg["msg_type"]:
            case "stream":
                self.stream(content["text"])
            case "display_data" | "execute_result" if text:
                self.say(text)
                if name:
                    self.shown[name] = text
            case "update_display_data" if text and name:
                self.updated[name] = text
            case "error":
                traceback = content["traceback"] or [f"{content['ename']}: {content['evalue']}"]
                self.say("\n".join(traceback))
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, *, save: bool) -> int:
    """Execute the notebook at *path* and print its jobs; return the exit code."""
    notebook = nbformat.read(path, as_version=4)
    metadata = dict(notebook.metadata)
    with tempfile.TemporaryDirectory(prefix="queuectl-", ignore_cleanup_errors=True) as folder:
        printer = Printer(
            notebook,
            timeout=CELL_TIMEOUT_S,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        own = {"QUEUECTL_HOME": f"{folder}/.queuectl", "TMPDIR": folder}
        own["QUEUECTL_PLAIN"] = "1" if save else ""
        try:
            printer.execute(env={**os.environ, **own})
        except CellExecutionError:  # its traceback was printed when it came
            printer.say(f"\n{path.name} failed: see above")
            return 1
        except (CellTimeoutError, DeadKernelError) as error:
            printer.say(f"\n{path.name} failed: {error}")
            return 1
        for journal in sorted(Path(folder).rglob(".queuectl/journal.jsonl")):
            print_queue(journal.parent, printer)
    if save:
        notebook.metadata = nbformat.from_dict(metadata)
        nbformat.write(notebook, path)
    return 0


def print_queue(home: Path, printer: Printer) -> None:
    """Print job by job what happened in the queue in *home*, then its status."""
    with JobQueue(home) as queue:
        printer.say("\n══ job by job " + "═" * 60 + "\n")
        for job in queue.jobs():
            record = job.record
            printer.say(text.line(record, clock.utc_now(), job.logs(lines=1)))
            printer.say("\n".join(attempts(record)), indent="    ")
        printer.say("\n══ status " + "═" * 64 + "\n")
        printer.say(text.status(queue.status(), width=WIDTH) + "\n")


def attempts(record: JobRecord) -> list[str]:
    """Return the command of a job, and a line for each of its attempts if one of them failed."""
    lines = [f"$ {words.shorten(record.command, WIDTH - 6)}"]
    tried = record.all_attempts()
    if len(tried) > 1:
        for attempt in tried:
            why = attempt.reason or f"exit {attempt.exit_code}"
            lines.append(f"attempt {attempt.number}: {why}{took(attempt)}")
    return lines


def took(attempt: Attempt) -> str:
    """Return how long an attempt ran, if that is known."""
    if attempt.started_at is None or attempt.finished_at is None:
        return ""
    return f" after {words.duration((attempt.finished_at - attempt.started_at).total_seconds())}"


def main() -> int:
    """Read the command line and execute the notebook that it names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--save", action="store_true", help="keep the outputs in the notebook")
    asked = parser.parse_args()
    if not asked.notebook.is_file():
        print(f"there is no notebook {asked.notebook}", file=sys.stderr)
        return 2
    code = execute(asked.notebook, save=asked.save)
    if code == 0:
        print("\nThat was a real kernel. `make lab` opens the notebooks in JupyterLab.")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
