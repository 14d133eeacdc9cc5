"""The line that updates in place: what is sent, when, for which cell, and what a file keeps."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

from queuectl_magics import clock, output
from queuectl_magics.job import State
from queuectl_magics.jobqueue import Job
from queuectl_magics.magics import bar, lines
from queuectl_magics.magics.bar import Bar

GATED = "until [ -e go ]; do sleep 0.02; done"


def line_threads() -> list[threading.Thread]:
    """Return the threads that update lines."""
    return [one for one in threading.enumerate() if one.name == "queuectl-lines"]


@pytest.fixture
def manual(frontend, monkeypatch):
    """A notebook whose lines are looked at only when a test says so."""
    monkeypatch.setattr(lines.Lines, "_follow", lambda _self: None)
    frontend.run("%config QueueMagics.autostart = False")
    return frontend


@pytest.fixture
def seconds(monkeypatch):
    """The clock of the lines and the bar, which a test moves."""
    now = [1000.0]
    fake = SimpleNamespace(monotonic_s=lambda: now[0], utc_now=clock.utc_now)
    monkeypatch.setattr(lines, "clock", fake)
    monkeypatch.setattr(bar, "clock", fake)
    return now


def of(notebook) -> lines.Lines:
    """Return the lines of a notebook."""
    (magics,) = (
        one for one in notebook.shell.configurables if type(one).__name__ == "QueueMagics"
    )
    return magics.lines


# --- one job ----------------------------------------------------------------------------------


def test_a_job_is_one_line_that_is_replaced_until_it_is_over(frontend, until):
    """Shown once, then replaced under the same display id; each time the whole line."""
    frontend.run(f"%enqueue -n train -o job echo epoch 1; {GATED}; echo epoch 2")
    until(lambda: "epoch 1" in frontend.sent[-1].text)
    Path("go").touch()
    until(lambda: "completed" in frontend.sent[-1].text)

    first, *updates = frontend.sent
    assert (False, {True}) == (first.update, {sent.update for sent in updates})
    assert 1 == len({sent.display_id for sent in frontend.sent})
    assert all(sent.text[2:].startswith("1 train · ") for sent in frontend.sent)
    assert all({"text/plain", "text/html"} == set(sent.data) for sent in frontend.sent)
    assert updates[-1].text.endswith("epoch 2")
    until(lambda: not line_threads())


def test_a_job_of_the_python_api_is_a_line_too(frontend, until):
    """Also when it comes before any magic has been called, which is what loads the lines."""
    frontend.run(
        "from queuectl_magics import JobQueue; queue = JobQueue(); worker = queue.worker()"
    )
    frontend.run(f"queue.enqueue('{GATED}; echo hello')")
    Path("go").touch()
    until(lambda: frontend.sent and "completed" in frontend.sent[-1].text)

    assert frontend.sent[-1].update
    assert frontend.sent[-1].text.endswith("hello")


def test_a_chatty_job_is_shown_at_most_four_times_a_second(frontend, until):
    """Whatever it prints; the last line is shown."""
    frontend.run("%enqueue for i in $(seq 100); do echo line $i; sleep 0.01; done")
    until(lambda: "completed" in frontend.sent[-1].text)

    *running, last = frontend.sent
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(running)]
    assert min(gaps, default=1.0) >= 0.9 * lines.INTERVAL_S
    assert last.text.endswith("line 100")


def test_a_busy_cell_does_not_stop_the_lines(frontend):
    """A cell that blocks the main thread: the line goes on, and belongs to that cell."""
    frontend.run("%enqueue sleep 0.3; echo done")
    frontend.run("import time; time.sleep(1.5)")

    sent = [sent for sent in frontend.sent if "completed" in sent.text]
    assert "queuectl-lines" == sent[0].thread
    assert 3 == sent[0].cell  # the first has loaded the extension


def test_the_thread_prints_nothing(frontend, capfd, until):
    """Neither into the cell that happens to run nor anywhere else."""
    cells = [frontend.run("%enqueue echo hello"), frontend.run("import time; time.sleep(1)")]
    until(lambda: not line_threads())

    assert "" == "".join(cell.out.partition("Out")[0] + cell.err for cell in cells)
    assert ("", "") == tuple(capfd.readouterr())


def test_what_was_sent_between_two_cells_is_sent_again_with_the_next(frontend, until):
    """An exporter listens only while a cell runs; once is enough."""
    frontend.run(f"%enqueue {GATED}; echo done")
    Path("go").touch()
    until(lambda: "completed" in frontend.sent[-1].text)
    (between,) = [sent for sent in frontend.sent if "completed" in sent.text]
    assert 2 == between.cell

    frontend.run("1")
    frontend.run("2")

    again = [sent for sent in frontend.sent if "completed" in sent.text and sent is not between]
    assert [(3, between.data, "MainThread")] == [(s.cell, s.data, s.thread) for s in again]


def test_a_cell_that_ends_with_the_job_shows_it_as_over(frontend):
    """`%queue_wait` returns at once when the job is over, before the thread has looked."""
    frontend.run("%enqueue -o job sleep 0.1; echo done")
    frontend.run("job.wait()")

    last = [sent for sent in frontend.sent if sent.display_id == frontend.sent[0].display_id][-1]
    assert (3, True) == (last.cell, "completed" in last.text)


def test_a_job_that_is_over_is_shown_without_a_thread(frontend, until):
    """There is nothing to wait for."""
    frontend.run("%enqueue -o job true\n%queue_wait")
    until(lambda: not line_threads())

    frontend.run("job")

    assert "completed" in frontend.sent[-1].text
    assert [] == line_threads()


def test_unloading_leaves_the_lines_as_they_are(frontend, until):
    """The thread ends at once, also in the middle of a job."""
    frontend.run("%enqueue sleep 60")
    until(lambda: "processing" in frontend.sent[-1].text)

    frontend.run("%unload_ext queuectl_magics")
    number = len(frontend.sent)
    frontend.run("1")

    assert [] == line_threads()
    assert number == len(frontend.sent)


# --- what is drawn, and what it costs ------------------------------------------------------------


def test_a_line_says_why_a_job_waits(manual, seconds):
    """No worker, a paused queue, a time to come: whatever keeps it from running."""
    manual.run("%enqueue -n now true")
    assert "pending · no worker is running (start one: " in manual.sent[-1].text
    manual.run("%enqueue -n later --delay 90 true")
    assert "pending · due in 90 s" in manual.sent[-1].text
    manual.run("%queue_pause\n%enqueue -n held true")
    assert "pending · the queue is paused" in manual.sent[-1].text


def test_the_reason_is_looked_at_once_a_second(manual, seconds):
    """A second later the line says what else is in the way."""
    manual.run("%queue_pause\njob = %enqueue true\njob")

    manual.shell.user_ns["job"].queue.resume()
    seconds[0] += 1.01
    manual.run("1")

    assert "pending · no worker is running" in manual.sent[-1].text


def test_two_hundred_lines_cost_nothing_while_nothing_changes(manual, seconds, monkeypatch):
    """No log is read and nothing is sent."""
    manual.run("%queue_config set durability none")
    manual.run("show = get_ipython().display_formatter.format")
    manual.run("for _ in range(200):\n    job = %enqueue true\n    show(job)")
    assert 200 == len(manual.sent)
    read: list[Path] = []
    monkeypatch.setattr(output, "tail", lambda path, *_: read.append(path) or (b"", 0))
    sent = len(manual.sent)

    for _ in range(20):
        seconds[0] += lines.INTERVAL_S
        manual.run("1")

    assert ([], sent) == (read, len(manual.sent))


def test_another_moment_alone_is_no_news(manual, seconds, monkeypatch):
    """The line of a job that waits says as of when, but is not sent for that."""
    manual.run("%enqueue -o job true")
    first = manual.sent[-1].data["text/html"]
    assert "as of " in first
    later = clock.utc_now() + timedelta(hours=1)
    monkeypatch.setattr(lines.clock, "utc_now", lambda: later)
    seconds[0] += 1.01
    manual.run("1")
    assert 1 == len(manual.sent)

    manual.run("job.queue.pause()")
    seconds[0] += 1.01
    manual.run("1")

    moment = f"as of {later:%Y-%m-%dT%H:%M:%SZ}"
    assert (2, True, False) == (
        len(manual.sent),
        moment in manual.sent[-1].data["text/html"],
        moment in first,
    )


def test_a_log_is_read_only_when_it_has_grown(manual, seconds, monkeypatch, until):
    """The clock of a running job ticks once a second without it."""
    manual.run("%config QueueMagics.autostart = True")
    manual.run(f"%enqueue -o job echo begun; {GATED}")
    job = manual.shell.user_ns["job"]
    until(lambda: "begun" in job.output)
    seconds[0] += 1.01
    manual.run("1")
    read: list[Path] = []
    tail = output.tail
    monkeypatch.setattr(output, "tail", lambda path, *rest: read.append(path) or tail(path, *rest))
    sent = len(manual.sent)

    for _ in range(8):
        seconds[0] += lines.INTERVAL_S
        manual.run("1")

    assert [] == read
    assert len(manual.sent) - sent <= 2


def test_after_a_minute_a_line_is_updated_once_a_second(manual, seconds):
    """A job of many hours must not fill the memory of a server that nobody watches."""
    manual.run("%enqueue -o job true")
    seconds[0] += lines.EAGER_S + 1
    manual.run("1")
    shown = len(manual.sent)

    manual.run("job.queue.pause()")
    for _ in range(3):
        seconds[0] += lines.INTERVAL_S
        manual.run("1")
    assert shown == len(manual.sent)
    seconds[0] += lines.INTERVAL_S
    manual.run("1")
    assert shown + 1 == len(manual.sent)


def test_a_pruned_job_leaves_its_line(manual, seconds):
    """There is nothing more to say of it, and shown again it says so."""
    manual.run("%enqueue -o job true\n%queue_cancel 1\n%queue_prune")
    seconds[0] += 1.01
    sent = len(manual.sent)
    assert None is manual.run("1").error
    assert sent == len(manual.sent)

    manual.run("job")

    assert "<Job 1: job 1 is no longer in the queue: it was pruned>" == manual.sent[-1].text


def test_a_look_that_fails_is_tried_again(manual, seconds, monkeypatch):
    """There may be no free descriptor for a moment."""
    manual.run("%enqueue -o job true")
    manual.run("job.cancel()")
    seconds[0] += 1.01
    with monkeypatch.context() as patch:
        full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        patch.setattr(Job, "record", property(lambda _self: (_ for _ in ()).throw(full)))
        assert None is manual.run("1").error

    manual.run("2")

    assert "cancelled" in manual.sent[-1].text


def test_hostile_output_is_escaped(frontend, until):
    """What a job prints is text, not markup, and no terminal control."""
    frontend.run(r"%enqueue -n '<b>x' printf '<script>\033[2Jhi\n'")
    until(lambda: "completed" in frontend.sent[-1].text)

    html = frontend.sent[-1].data["text/html"]
    assert "<script>" not in html
    assert "<b>x" not in html
    assert "\033[2J" not in html + frontend.sent[-1].text


# --- the bar of a waiting cell ------------------------------------------------------------------


def test_a_short_wait_has_no_bar(frontend):
    """Nothing flickers."""
    frontend.run("job = %enqueue true\n%queue_wait")

    assert [] == frontend.sent


def test_a_bar_appears_after_a_moment_and_is_full_in_the_end(frontend):
    """It is replaced in place and stays."""
    frontend.run("a = %enqueue sleep 0.8\nb = %enqueue sleep 0.1\n%queue_wait a b")
    frontend.run("a = %enqueue sleep 0.8\nb = %enqueue sleep 0.1")
    frontend.run("%queue_wait {a} {b}")

    shown = [(sent.update, sent.text) for sent in frontend.sent]
    assert [(False, "0 of 2 jobs over"), (True, "2 of 2 jobs over")] == [shown[0], shown[-1]]
    assert 1 == len({sent.display_id for sent in frontend.sent})
    assert 'max="2"' in frontend.sent[-1].data["text/html"]


def test_a_bar_is_drawn_at_most_four_times_a_second(frontend, seconds):
    """And always when it is full."""
    shown = Bar(of(frontend))
    frontend._running.set(9)

    for done in range(80):
        seconds[0] += 1 / 16
        shown.show(done, 1000, "jobs")
    shown.show(1000, 1000, "jobs")

    assert (5 - bar.PATIENCE_S) * 4 + 2 == len(frontend.sent)
    assert "1,000 of 1,000 jobs over" == frontend.sent[-1].text


def test_in_a_terminal_the_bar_is_a_line_that_is_redrawn(notebook, seconds, monkeypatch, capsys):
    """On stderr, if that is a terminal; what follows begins on a line of its own."""
    monkeypatch.setattr(bar.sys.stderr, "isatty", lambda: True, raising=False)
    shown = Bar(of(notebook))
    for done in (0, 1):
        seconds[0] += 1
        shown.show(done, 2, "jobs")
    shown.end()
    shown.end()

    assert "\r\x1b[K0 of 2 jobs over\r\x1b[K1 of 2 jobs over\n" == capsys.readouterr().err


def test_without_a_terminal_there_is_no_bar(notebook, seconds, capsys):
    """A file or a pipe gets nothing, and neither does a wait for no job."""
    shown = Bar(of(notebook))
    seconds[0] += 1
    shown.show(0, 1, "jobs")
    shown.show(0, 0, "jobs")
    shown.end()

    assert ("", "") == tuple(capsys.readouterr())


# --- what a file keeps ------------------------------------------------------------------------


CELLS = [
    "%load_ext queuectl_magics",
    "%enqueue -n first sleep 0.3; echo done",
    "import time; time.sleep(0.1)",
    "x = %queue_wait first",
]


def saved_states(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the lines that a notebook keeps."""
    return [
        out.data["text/plain"]
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if out.output_type == "display_data"
    ]


def make_file(path: Path) -> Path:
    """Write a notebook that enqueues in one cell and has others after it."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return path


def test_a_notebook_run_by_nbclient_keeps_the_last_state(own_home, monkeypatch):
    """The job ended in a later cell, or between two of them."""
    monkeypatch.setenv("QUEUECTL_HOME", str(own_home))
    notebook = nbformat.read(make_file(own_home.parent / "a.ipynb"), as_version=4)

    NotebookClient(notebook, timeout=60, kernel_name="python3").execute(cwd=own_home.parent)

    (line,) = saved_states(notebook)
    assert line.startswith("✓ 1 first · completed in 0.3 s · done")


def test_a_notebook_run_by_papermill_keeps_the_last_state(own_home, monkeypatch):
    """The same for papermill."""
    monkeypatch.setenv("QUEUECTL_HOME", str(own_home))
    path = make_file(own_home.parent / "a.ipynb")

    papermill.execute_notebook(path, path, progress_bar=False, cwd=own_home.parent)

    (line,) = saved_states(nbformat.read(path, as_version=4))
    assert line.startswith("✓ 1 first · completed in 0.3 s · done")
    assert State.COMPLETED in line
