"""A real queue, asked by the live table; and the same queue watched in a terminal."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.events import EventManager
from ipywidgets import Widget

from queuectl_magics.commands import watching
from queuectl_magics.commands.verb import Session
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobQueue
from queuectl_magics.jobqueue.live import TABLES_MAX, QueueSource
from queuectl_magics.views.live.pusher import the_pusher
from queuectl_magics.views.live.table import LiveTable


@pytest.fixture
def queue(home) -> Iterator[JobQueue]:
    """A queue without a worker."""
    with JobQueue(home) as opened:
        yield opened


def test_first_look_is_whole_and_later_ones_are_what_changed(queue):
    """Only jobs that an event touched are told again, and those that were pruned by id."""
    source = QueueSource(queue)
    queue.enqueue_all([{"command": "a"}, {"command": "b"}, {"command": "c"}])
    first = source.changes(None)
    queue.cancel("2")
    queue.enqueue("d")
    second = source.changes(first.seq)
    queue.prune("2")
    third = source.changes(second.seq)

    assert (True, ["1", "2", "3"]) == (first.whole, [job.id for job in first.jobs])
    assert (False, ["2", "4"]) == (second.whole, [job.id for job in second.jobs])
    assert ([], ["2"]) == (third.jobs, third.gone)
    assert ((), ()) == (tuple(source.changes(third.seq).jobs), tuple(third.jobs))


def test_changes_of_another_process_are_seen(queue, home):
    """Another handle on the same home is as good as another process."""
    source = QueueSource(queue)
    seq = source.changes(None).seq
    with JobQueue(home) as other:
        other.enqueue("x")

        assert ["1"] == [job.id for job in source.changes(seq).jobs]


def test_deeds_skip_what_does_not_fit(queue):
    """All that can be cancelled is; the rest is left alone, and the number is told."""
    source = QueueSource(queue)
    queue.enqueue_all([{"command": "a"}, {"command": "b"}])
    queue.cancel("1")

    assert 1 == source.cancel(["1", "2", "9"])
    assert 2 == source.retry(["1", "2", "9"])
    assert 0 == source.retry(["1"])
    assert {State.PENDING} == {job.state for job in queue.jobs()}


def test_click_on_cancel_does_not_wait_for_the_end_of_the_job(queue, monkeypatch):
    """The thread that takes clicks takes the next one at once, though no worker is there."""
    asked = []
    monkeypatch.setattr(queue, "cancel", lambda *ids, **more: asked.append((ids, more)))
    queue.enqueue("a")

    assert 1 == QueueSource(queue).cancel(["1"])
    assert [(("1",), {"wait": False})] == asked


@pytest.fixture
def shell(monkeypatch) -> SimpleNamespace:
    """What a live table asks of IPython in a kernel; `published` is what was shown."""
    made = SimpleNamespace(kernel=object(), published=[])
    made.events = EventManager(made, {"post_run_cell": lambda _: None})
    made.display_pub = SimpleNamespace(publish=lambda **keys: made.published.append(keys))
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: made)
    return made


def live_tables() -> set[LiveTable]:
    """Return the tables that are there."""
    gc.collect()
    return set(the_pusher()._tables)


def test_tables_of_cells_that_ran_again_hear_of_no_more_cells(queue, shell):
    """Each run of the cell makes another one; the newest of them are brought up to date."""
    for _ in range(3 * TABLES_MAX):
        queue.live()._ipython_display_()
    shown = queue.live()
    for _ in range(TABLES_MAX):  # one may be shown again and again
        shown._ipython_display_()
        queue.live()._ipython_display_()
    for _ in range(TABLES_MAX):
        queue.live()._ipython_display_()
    queue.enqueue("true")
    shell.published.clear()
    shell.events.trigger("post_run_cell", None)

    assert TABLES_MAX == len([keys for keys in shell.published if keys["update"]])


def test_tables_that_nobody_sees_any_more_are_freed(queue, shell):
    """The newest few stay, and of those what the user closes goes, though `Out` has its value."""
    before = live_tables()
    values = [queue.live() for _ in range(2 * TABLES_MAX)]
    for live in values:
        live._ipython_display_()
    newest = live_tables() - before
    assert TABLES_MAX == len(newest)
    del newest
    Widget.close_all()

    assert set() == live_tables() - before


def test_picture_below_the_table_is_kept_up_to_date_on_ipykernel_7_0(frontend, monkeypatch, until):
    """A thread belongs to no cell there: the picture is sent as by the cell of the table."""
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: frontend.shell)
    frontend.run("%config QueueMagics.autostart = False\n%enqueue -o job true")
    before = live_tables()
    frontend.run("%queue_status --live")
    (table,) = live_tables() - before
    frontend.shell.user_ns["job"].cancel()

    def is_told() -> bool:
        table.turn()
        return any(sent.update and "1 cancelled" in sent.text for sent in frontend.sent)

    until(is_told)


def test_pause_is_seen(queue):
    """The table shows how the queue stands."""
    source = QueueSource(queue)
    source.pause()
    paused = source.standing()
    source.resume()

    assert (True, 0) == (paused.paused, paused.workers)
    assert not source.standing().paused


def test_output_is_read_from_the_log(queue):
    """Piece by piece, by byte offset."""
    source = QueueSource(queue)
    path = queue.enqueue("x").log_path(1)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"hello\n")

    assert 6 == source.output_size("1", 1)
    assert (b"llo", 5) == source.output("1", 1, 2, 3)
    assert 0 == source.output_size("1", 2)


def test_live_is_text_outside_of_a_notebook(queue):
    """In plain Python there is nothing to update."""
    queue.enqueue("echo hi")

    assert "Total jobs: 1" in repr(queue.live())
    assert "echo hi" in queue.live().text()


def test_live_prints_text_where_there_is_no_kernel(queue, capsys):
    """In a terminal IPython too."""
    queue.live()._ipython_display_()

    assert "Total jobs: 0" in capsys.readouterr().out


class Screen(Session):
    """A terminal that keeps what is written."""

    def __init__(self, queue: JobQueue, lines: int) -> None:
        self._queue, self._lines = queue, lines
        self.written: list[str] = []

    @property
    def height(self) -> int:
        return self._lines

    @property
    def queue(self) -> JobQueue:
        return self._queue

    @property
    def home_path(self) -> Path:
        return self._queue.home

    def say(self, line: str) -> None:
        self.written.append(line)

    def write(self, text: str) -> None:
        self.written.append(text)


def over_after(queue: JobQueue, looks: int, monkeypatch: Any) -> None:
    """Let the only job be over after that many looks."""
    left = [looks]

    def sleep(_seconds: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            queue.cancel("1")

    monkeypatch.setattr(watching.time, "sleep", sleep)


def test_watching_paints_over_what_it_has_painted(queue, monkeypatch):
    """Each picture begins at the top of the one before."""
    queue.enqueue("true")
    over_after(queue, 2, monkeypatch)
    screen = Screen(queue, 24)
    watched = watching.watch(screen)

    assert 1 == watched.status.over
    first, second, *_, last = screen.written
    assert first.startswith("\x1b[J\x1b[?7l0 of 1 over")  # too long a line is cut off,
    assert all(piece.endswith("\n\x1b[?7h") for piece in screen.written)  # but only here
    assert second.startswith("\x1b[4F\x1b[J\x1b[?7l0 of 1 over")
    assert "1 of 1 over: 1 cancelled" in last


def test_watching_without_a_terminal_prints_a_line_a_change(queue, monkeypatch):
    """Nothing is painted over in a file."""
    queue.enqueue("true")
    over_after(queue, 3, monkeypatch)
    screen = Screen(queue, 0)
    watching.watch(screen)

    assert ["0 of 1 over: 1 pending", "1 of 1 over: 1 cancelled"] == [
        line.strip().partition("  ")[2] for line in screen.written
    ]


def test_watching_ends_with_ctrl_c_and_leaves_the_jobs_alone(queue, monkeypatch):
    """The last picture stays; no error is shown."""
    queue.enqueue("true")

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", interrupt)

    assert 1 == watching.watch(Screen(queue, 24)).status.counts[State.PENDING]


def test_watching_shows_as_many_jobs_as_fit(queue):
    """A thousand jobs do not scroll a terminal of ten lines."""
    queue.enqueue_all([{"command": "true"} for _ in range(100)])
    screen = Screen(queue, 10)
    picture = watching.paint(queue.status(), width=80, height=10, session=screen)

    assert picture.count("\n") < 10
    assert "… and 94 other jobs" in picture
