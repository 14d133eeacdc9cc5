"""The live table in a real JupyterLab and, where front ends differ, Notebook 7; with real jobs."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from nbconvert import HTMLExporter

BOTH = pytest.mark.parametrize("front", ["lab", "notebook7"], indirect=True)
SHOW = "%queue_status --live"
# It prints, waits for the file `go`, and prints again.
HALF = "echo epoch 3/10; until [ -e {go} ]; do sleep 0.05; done; echo epoch 10/10"
ENDLESS = "%enqueue echo epoch 3/10; sleep 60"
# A cell that blocks the kernel until its file is taken away.
BLOCK = """
import os, time
busy = os.environ["QUEUECTL_HOME"] + ".busy"
open(busy, "w").close()
while os.path.exists(busy):
    time.sleep(0.02)
"""
TELL_PID = "import os, pathlib; pathlib.Path({path!r}).write_text(str(os.getpid()))"
HOSTILE = r"""
name = "<img src=x onerror=window.hurt=1>"
command = (
    ": \u202egnp.exe; printf '<script>window.hurt=1</script>\\033]0;title\\007"
    "\\033[31mred\\033[0m \\377\\376 \\342\\200\\256rlo\\n'; "
    "head -c 10000000 /dev/zero | tr '\\0' '<'; echo '<img src=x onerror=window.hurt=1>'"
)
from queuectl_magics import JobQueue
queue = JobQueue()
queue.enqueue(command, name=name)
queue.wait()
queue.enqueue("echo '<b>bold</b>' '<img src=x onerror=window.hurt=1>'", name="<i>x</i>").wait()
"""
ALL_VIEWS = """
for name, rest in [("list", ""), ("show", "1"), ("timeline", ""), ("status", "")]:
    display(get_ipython().run_line_magic(f"queue_{name}", rest))
display(queue.job("1"))
"""
CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
  };
  const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3]));
  const ground = (node) => {
    if (!node) return [1, 1, 1];
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(node.parentElement));
  };
  const light = (rgb) => rgb.map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const found = [];
  const table = [...document.querySelectorAll(".qlive")].at(-1);
  const walk = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.offsetParent) continue;
    if (getComputedStyle(node).opacity === "0") continue;
    const below = ground(node);
    const [a, b] = [light(over(rgba(getComputedStyle(node).color), below)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${node.className} ${walk.currentNode.data}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@BOTH
def test_jobs_are_seen_to_run(notebook, tmp_path: Path):
    """Pending, processing with its progress and last line, completed: without running a cell."""
    go = tmp_path / "go"
    book = notebook(SHOW, f"%enqueue --name train {HALF.format(go=go)}")
    book.run(1)
    book.table.get_by_text("No jobs yet").wait_for()
    book.run(2)
    book.row("1").get_by_text("processing").wait_for()
    book.row("1").get_by_text("epoch 3/10", exact=True).wait_for()
    book.row("1").get_by_text("30%").wait_for()
    book.shoot("processing")
    go.touch()
    book.row("1").get_by_text("completed").wait_for()
    book.row("1").get_by_text("epoch 10/10", exact=True).wait_for()

    assert "1 of 1 over" in book.table.inner_text()


@BOTH
def test_cancel_retry_and_pause_work_while_a_cell_blocks_the_kernel(notebook):
    """A click is answered in well under a second although the cell goes on for much longer."""
    book = notebook(ENDLESS, SHOW, BLOCK)
    book.run(1)
    book.run(2)
    book.row("1").get_by_text("processing").wait_for()
    with book.blocked_by(3):
        took = cancel(book)
        book.shoot("cancelled-while-busy")
        book.table.get_by_text("Pause", exact=True).click()
        book.table.get_by_text("Paused").wait_for()
        book.row("1").get_by_role("button", name="retry job 1").click()
        book.row("1").get_by_text("pending").wait_for()
        book.table.get_by_text("Resume", exact=True).click()
        book.row("1").get_by_text("processing").wait_for()
        book.row("1").get_by_role("button", name="cancel job 1").click()
        book.row("1").get_by_text("cancelled").wait_for()

    assert took < 1.5


def test_control_channel_answers_when_the_first_road_is_blocked(notebook):
    """On ipykernel 6, where comm messages wait for the cell, the second road is taken."""
    assert cancel_while_busy(notebook(ENDLESS, SHOW, BLOCK, kernel="ipykernel6")) < 2.0


def test_first_ipykernel_with_subshells_cancels_while_a_cell_blocks_it(notebook):
    """On 7.1 as on the newest."""
    assert cancel_while_busy(notebook(ENDLESS, SHOW, BLOCK, kernel="ipykernel7.1.0")) < 2.0


def cancel_while_busy(book) -> float:
    """Cancel the job of *book* while its last cell blocks the kernel; return how long it took."""
    book.run(1)
    book.run(2)
    book.row("1").get_by_text("processing").wait_for()
    with book.blocked_by(3):
        return cancel(book)


def cancel(book) -> float:
    """Click on Cancel; return in how many seconds the job is cancelled."""
    book.row("1").hover()
    before = time.monotonic()
    book.row("1").get_by_role("button", name="cancel job 1").click()
    book.row("1").get_by_text("cancelled").wait_for()
    return time.monotonic() - before


def test_log_is_followed_while_the_job_runs(notebook, tmp_path: Path):
    """Double-click opens the drawer; what the job prints appears in it, and can be searched."""
    go = tmp_path / "go"
    book = notebook(f"%enqueue echo $((6*7)) apples; {HALF.format(go=go)}", SHOW)
    book.run(1)
    book.run(2)
    book.row("1").dblclick()
    book.table.locator(".qtext").get_by_text("epoch 3/10").wait_for()
    go.touch()
    book.table.locator(".qtext").get_by_text("epoch 10/10").wait_for()
    book.shoot("log")
    for words, number in (("43 apples", 0), ("42 apples", 1)):  # said by output alone
        book.table.get_by_placeholder("Search").fill(words)
        shown = "(n) => document.querySelector('.qlive').table.order.length === n"
        book.page.wait_for_function(shown, arg=number)


def test_keys_in_the_table_do_not_reach_the_notebook(notebook):
    """`d d` deletes a cell in JupyterLab, but not when it is meant for the table."""
    book = notebook("%enqueue true", SHOW)
    book.run(1)
    book.run(2)
    book.row("1").click()
    cells = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    before = book.page.evaluate(cells)
    for key in ("d", "d", "b", "x", "m"):
        book.page.keyboard.press(key)

    assert before == book.page.evaluate(cells)


def test_every_text_can_be_read(notebook):
    """Contrast is at least 4.5 for each text, in both themes, wide and narrow."""
    book = notebook(
        "%enqueue echo fine\n%enqueue --max-retries 1 echo 'it broke'; exit 3\n"
        f"{ENDLESS}\n%enqueue --max-retries 5 exit 1\n%enqueue --delay 1h true",
        SHOW,
    )
    book.run(1)
    book.run(2)
    book.row("2").get_by_text("dead").wait_for()
    book.row("2").dblclick()
    book.table.locator(".qtext").get_by_text("it broke").wait_for()
    try:
        for theme in ("Dark", "Light"):
            book.command("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
            book.page.locator("#jupyterlab-splash").wait_for(state="detached")
            for width, name in ((460, "narrow"), (1280, "all-states")):
                book.page.set_viewport_size({"width": width, "height": 900})
                narrow = book.page.locator(".qlive.narrow")
                narrow.wait_for(state="attached" if width < 1000 else "detached")
                book.shoot(f"{name}-{theme.lower()}")
                assert [] == book.page.evaluate(CONTRAST), (theme, width)
    finally:
        book.page.set_viewport_size({"width": 1280, "height": 900})
        book.command("apputils:change-theme", {"theme": "JupyterLab Light"})


def test_hostile_text_is_text(notebook):
    """Markup, terminal sequences, overrides, ten megabytes without an end: shown, never obeyed."""
    book = notebook(HOSTILE, SHOW, ALL_VIEWS)
    book.run(1)
    book.run(2)
    book.run(3)
    book.row("1").get_by_text("<img src=x onerror=window.hurt=1>").first.wait_for()
    text = book.row("1").inner_text()
    book.row("2").dblclick()
    book.table.locator(".qtext").get_by_text("<b>bold</b>").wait_for()
    book.row("1").dblclick()
    book.table.locator(".qtext").get_by_text("left out").wait_for()
    book.table.locator(".qtext").get_by_text("more").first.wait_for()
    book.shoot("hostile")

    assert r"\u202egnp.exe" in text
    assert "\u202e" not in book.table.inner_text()
    assert 0 == book.table.locator("img, script, .qport i i i, .c-job i").count()
    assert 5 == book.panel.locator(".jp-Cell").nth(3).locator(".qm").count()
    assert 0 == book.panel.locator(".jp-OutputArea :is(img, script, .qm i, .qm code b)").count()
    assert book.page.evaluate("() => window.hurt === undefined")


@BOTH
def test_reload_while_a_cell_runs_is_never_blank_and_goes_on_live(notebook):
    """The page is loaded again: a snapshot stands there until the kernel answers."""
    book = notebook(ENDLESS, SHOW, BLOCK)
    book.run(1)
    book.run(2)
    book.row("1").get_by_text("processing").wait_for()
    book.save()
    with book.blocked_by(3):
        book.reload()
        book.panel.get_by_text("A snapshot of").or_(book.table).first.wait_for()
        book.shoot("reloaded-while-busy")
        assert not book.panel.get_by_text("Loading widget").is_visible()
    book.row("1").get_by_text("processing").wait_for()
    book.table.get_by_text("Live", exact=True).wait_for()


def test_restarted_kernel_is_told_and_the_cell_goes_live_again(notebook):
    """After a restart the table stands still and says what to do; doing it helps."""
    book = notebook("%enqueue true", SHOW)
    book.run(1)
    book.run(2)
    book.row("1").get_by_text("completed").wait_for()
    restart = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    book.page.evaluate(f"async () => {{ await ({restart})(); }}")
    book.table.get_by_text("Kernel restarted: run the cell to go live again").wait_for()
    book.shoot("restarted")
    book.run(0)
    book.run(2)
    book.table.get_by_text("Live", exact=True).wait_for()


def test_killed_kernel_is_told_and_the_cell_goes_live_again(notebook, tmp_path: Path):
    """The server starts another; what stands there says so, and the job it had begun goes on."""
    pid, go = tmp_path / "pid", tmp_path / "go"
    book = notebook(f"%enqueue {HALF.format(go=go)}", SHOW, TELL_PID.format(path=str(pid)))
    for cell in (1, 2, 3):
        book.run(cell)
    book.row("1").get_by_text("processing").wait_for()
    os.kill(int(pid.read_text()), signal.SIGKILL)
    book.table.get_by_text("Kernel restarted: run the cell to go live again").wait_for()
    book.shoot("killed")
    book.page.get_by_role("dialog").get_by_role("button", name="Ok").click()
    book.run(0)
    book.run(2)
    book.row("1").get_by_text("processing").wait_for()
    go.touch()
    book.row("1").get_by_text("completed").wait_for()


def test_saved_notebook_shows_a_snapshot_where_it_is_not_live(notebook, tmp_path: Path):
    """Opened again without its kernel, and exported: the jobs with their time, and no error."""
    book = notebook("%enqueue echo hello", SHOW, "%queue_wait")
    for number in (1, 2, 3):
        book.run(number)
    book.row("1").get_by_text("completed").wait_for()
    book.save()
    book.reopen()
    book.panel.get_by_text("A snapshot of").wait_for()
    book.shoot("reopened")
    reopened = book.panel.inner_text()
    code = book.panel.locator(".qstill td code").first
    assert "0px" == code.evaluate("(node) => getComputedStyle(node).paddingLeft")
    exported, _ = HTMLExporter().from_filename(str(book.path))
    (tmp_path / "export.html").write_text(exported)
    page = book.page.context.new_page()
    page.route(re.compile("^http"), lambda route: route.abort())
    page.goto((tmp_path / "export.html").as_uri(), wait_until="domcontentloaded")
    page.get_by_text("A snapshot of").wait_for()
    page.screenshot(path=book.artifacts / "exported.png")
    text = page.locator("main").inner_text()
    page.close()

    for shown in (reopened, text):
        assert "completed" in shown
        assert "rror" not in shown
        assert "Loading widget" not in shown


def test_unwatched_table_sends_nothing(notebook):
    """Scrolled out of sight, it lets its lease run out, and comes back with everything."""
    book = notebook(
        "from queuectl_magics.views.live import table; table.LEASE_S = 1.0\n%enqueue true",
        SHOW,
        "import time\n"
        "from queuectl_magics.views.live.pusher import the_pusher\n"
        "[one] = the_pusher()._tables\n"
        "while one.is_watched(): time.sleep(0.02)\n"
        "number = one._number\n"
        "%enqueue true\n%queue_wait\n"
        "time.sleep(0.3)  # three turns\n"
        "print('sent', one._number - number)",
    )
    book.run(1)
    book.run(2)
    book.row("1").get_by_text("completed").wait_for()
    book.table.evaluate("(node) => { node.style.display = 'none'; }")
    book.run(3)
    book.panel.get_by_text("sent 0", exact=True).wait_for()
    book.table.evaluate("(node) => { node.style.display = ''; }")
    book.row("2").get_by_text("completed").wait_for()
