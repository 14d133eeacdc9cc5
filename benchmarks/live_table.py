"""What the live table costs, in a real JupyterLab and a real Chromium.

For each number of jobs and of updates a second: bytes and messages to the browser, CPU of the
kernel (without what the simulation itself takes), frames, the time from a change in the
kernel to its text on the screen, the time to the first rows and to the complete picture, the heap
of the page.
The jobs are made up in the kernel, so that what is measured is the table and not a store. Before
it counts, it lets the table read the last lines of all that is over, 2 ms in each turn: that takes
some 25 s for 100,000 jobs, and twice the CPU.

    python benchmarks/live_table.py [--rows 1000,10000] [--updates 50] [--seconds 8]

Goals: 60 frames/s with 99 % of them in 17 ms, 95 % of changes on screen in 150 ms, first picture
in 1 s, 12 KB/s at 50 updates/s, 2 % of a core.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MAKE = """
from benchmarks.simulated_jobs import Simulated
from queuectl_magics.views.live import widget
jobs = Simulated({rows})
table = widget.make(jobs)
"""
SHOW = """
jobs.start({updates})
table
"""
FIGURES = "jobs.tell()"
# Count frames, and how late the line that tells its time is on the screen.
WATCH = """() => {
  const seen = window.seen = { frames: [], late: [], rows: 0, first: 0, from: Date.now() };
  let last = performance.now();
  let shown = "";
  const look = (now) => {
    seen.frames.push(now - last);
    last = now;
    const rows = document.querySelector(".qlive")?.table.rows;
    const whole = rows?.expected && rows.loaded >= rows.expected;
    const painted = document.querySelector(".qport .qrow");
    if (!seen.rows && painted) seen.rows = Date.now();
    if (!seen.first && whole && painted) seen.first = Date.now();
    const line = document.querySelector(".qport")?.textContent.match(/at (\\d{13})/)?.[1];
    if (line && line !== shown) seen.late.push(Date.now() - Number(line));
    shown = line ?? shown;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
RESET = "() => Object.assign(window.seen, { frames: [], late: [], from: Date.now() })"
READ = """() => ({ ...window.seen, seconds: (Date.now() - window.seen.from) / 1000 })"""


def load_lab() -> Any:
    """Return the fixtures of the browser tests: the same server, the same page."""
    spec = importlib.util.spec_from_file_location("lab", ROOT / "tests/browser/conftest.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(values: list[float], share: float) -> float:
    return (
        sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
    )


def cell_text(page: Any, number: int) -> list[float]:
    """Return the figures that a cell has printed."""
    return page.evaluate(
        "(n) => JSON.parse(window.jupyterapp.shell.currentWidget.content.widgets[n].model.outputs"
        ".get(0).toJSON().text)",
        number,
    )


def measure(book: Any, rows: int, updates: int, seconds: float) -> str:
    page = book.page
    devtools = page.context.new_cdp_session(page)
    wire = {"bytes": 0, "messages": 0}

    def count(event: dict[str, Any]) -> None:
        data = event["response"]["payloadData"]
        size = len(data) * 3 // 4 if event["response"]["opcode"] == 2 else len(data)
        wire["bytes"] += size
        wire["messages"] += 1

    devtools.on("Network.webSocketFrameReceived", count)
    devtools.send("Network.enable")
    try:
        book.run(0)
        page.evaluate(WATCH)
        begun = page.evaluate("() => Date.now()")
        book.run(1)
        page.wait_for_function("() => window.seen.first", timeout=60_000)
        rows_s, first_s = (
            (page.evaluate(f"() => window.seen.{moment}") - begun) / 1000
            for moment in ("rows", "first")
        )
        page.wait_for_timeout(3000 + rows // 4)
        book.run(2)
        page.evaluate(RESET)
        wire.update(bytes=0, messages=0)
        page.wait_for_timeout(seconds * 1000)
        seen, taken = page.evaluate(READ), dict(wire)
        book.run(3)
        before, after = cell_text(page, 2), cell_text(page, 3)
        heap = devtools.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    finally:
        book.front.close()
        devtools.detach()
    wall = after[2] - before[2]
    own = (after[0] - before[0] - (after[1] - before[1])) / wall
    fps = len(seen["frames"]) / seen["seconds"]
    return (
        f"{rows:>7,} {updates:>6,} {taken['bytes'] / seen['seconds'] / 1000:>8.1f} "
        f"{taken['messages'] / seen['seconds']:>6.1f} {own:>7.1%} {fps:>5.0f} "
        f"{part(seen['frames'], 0.99):>8.0f} {part(seen['late'], 0.5):>6.0f} "
        f"{part(seen['late'], 0.95):>6.0f} {rows_s:>6.2f} {first_s:>7.2f} {heap:>7.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="1000,10000,100000")
    parser.add_argument("--updates", default="50,500,2000")
    parser.add_argument("--seconds", type=float, default=8)
    asked = parser.parse_args()
    lab = load_lab()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = lab.Server(Path(folder)).wait()
        try:
            chromium = playwright.chromium.launch(
                executable_path=lab.CHROMIUM, headless=True, args=lab.CHROMIUM_ARGS
            )
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            front = lab.Front(page, server, "lab/tree")
            server.write("start.ipynb", [""])
            front.load("start.ipynb", "&reset")
            print(
                "   rows upd./s     KB/s msg./s  kernel   fps p99 ms/f"
                "  p50 ms p95 ms rows s whole s heap MB",
                flush=True,
            )
            for rows in map(int, asked.rows.split(",")):
                for updates in map(int, asked.updates.split(",")):
                    cells = [MAKE.format(rows=rows), SHOW.format(updates=updates)]
                    path = server.write(f"{rows}-{updates}.ipynb", [*cells, FIGURES, FIGURES])
                    front.open(path.name)
                    book = lab.Notebook(front, path, path)
                    print(measure(book, rows, updates, asked.seconds), flush=True)
            chromium.close()
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
