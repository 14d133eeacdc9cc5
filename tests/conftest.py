"""What every test may use."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from benches import FOR_EVER_S, Bench
from processes import processes_with
from queuectl_magics import limits, worker
from queuectl_magics.jobqueue import JobQueue
from queuectl_magics.store import Store
from queuectl_magics.worker import Stopping
from recorded import Attempt
from stores import MEMORY

# A busy machine must not fail a test: how long an example takes says nothing about the product.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The path of a queue home; nothing is there yet."""
    return tmp_path / ".queuectl"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, if the machine has such: what is synced there is quick."""
    with tempfile.TemporaryDirectory(prefix="queuectl-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def opened(home: Path) -> Iterator[Store]:
    """An open store."""
    made = Store(home)
    yield made
    made.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for a condition and return what it returned; fail when it does not come true."""

    def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        give_up_at = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > give_up_at:
                pytest.fail(f"not true within {timeout_s:g} s: {condition}", pytrace=True)
            time.sleep(0.01)
        return found

    return until


@pytest.fixture
def own_home(home: Path) -> Iterator[Path]:
    """A queue home; what its jobs and its guard still run in the end is killed."""
    yield home
    told = os.fsencode(f"QUEUECTL_HOME={home}"), os.fsencode(home)
    while pids := processes_with(*told):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


class Terminal:
    """Runs `queuectl` for one home, as a person in a terminal would."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, before: str = "") -> subprocess.Popen[str]:
        """Start it and return at once; the Python text *before* runs first in its process."""
        code = f"{before}\nfrom queuectl_magics.cli import main\nmain()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--home", str(self.home), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Run it to its end and return what it printed."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        return said

    def close(self) -> None:
        """End what still runs, by its pid."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def terminal(own_home: Path) -> Iterator[Terminal]:
    """`queuectl` in other processes, with the home of this test."""
    terminal = Terminal(own_home)
    yield terminal
    terminal.close()


@pytest.fixture
def bench(own_home, tmp_path):
    """A queue with nothing in it; its worker leaves in the end, and its jobs are killed."""
    bench = Bench(own_home, tmp_path / "work")
    yield bench
    if (own := bench.queue.own_worker) is not None and own.is_alive():
        own.stop(Stopping.LEAVE)
        own.join(10)
    bench.queue.close()


@pytest.fixture
def elsewhere(bench):
    """The same queue, opened once more: it sees what another process would see, and no more."""
    with JobQueue(bench.home) as queue:
        yield queue


@pytest.fixture
def only_bells(monkeypatch):
    """A worker that never looks around by itself: what it does, it does because it was woken."""
    monkeypatch.setattr(worker, "LOOK_S", FOR_EVER_S)
    monkeypatch.setattr(worker, "TIDY_AFTER_S", FOR_EVER_S)
    monkeypatch.setattr(worker, "ADOPT_EVERY_S", FOR_EVER_S)
    monkeypatch.setattr(limits, "CALM_S", FOR_EVER_S)


@pytest.fixture
def impatient(monkeypatch):
    """A worker that looks around, and tries again, all the time."""
    monkeypatch.setattr(worker, "LOOK_S", 0.02)
    monkeypatch.setattr(worker, "RETRY_S", 0.02)
    monkeypatch.setattr(worker, "ADOPT_EVERY_S", 0.01)


@pytest.fixture
def attempt(tmp_path):
    """Start attempts, each in a folder of its own; what they leave is killed in the end."""
    started = []

    def start(command: str, *, name: str = "work", form: str = "short") -> Attempt:
        started.append(Attempt(tmp_path / name, command, form=form))
        return started[-1]

    yield start
    for one in started:
        while one.kill():
            pass


@pytest.fixture
def held(tmp_path):
    """A command that runs until the file `go` appears beside it, then ends with exit code 7."""
    return "echo begun; until [ -e go ]; do sleep 0.02; done; echo done; exit 7"


@pytest.fixture
def raised_limit() -> Iterator[None]:
    """Allow this process more than a thousand open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before[0]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Sent(NamedTuple):
    """What a notebook sent to its front end: the texts, the place, and the cell it belongs to."""

    data: dict[str, str]
    display_id: str | None
    update: bool
    cell: int
    thread: str
    at_s: float

    @property
    def text(self) -> str:
        """What a person reads."""
        return self.data["text/plain"]


class Cell(NamedTuple):
    """What came of running a cell."""

    value: Any
    out: str
    err: str
    error: BaseException | None


class Notebook:
    """An IPython shell in this process, with the extension loaded.

    Args:
        can_update: it has a front end that replaces what was shown, as a kernel has, and like
            ipykernel 7.0 it does not know where to show what comes from outside of any cell.

    """

    def __init__(self, *, can_update: bool) -> None:
        from IPython.core.displaypub import DisplayPublisher
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        running: ContextVar[int] = ContextVar("running")
        sent: list[Sent] = []

        class Publisher(DisplayPublisher):
            def publish(self, data, metadata=None, *, transient=None, update=False, **_):
                name = (transient or {}).get("display_id")
                thread = threading.current_thread().name
                at_s = time.monotonic()
                sent.append(Sent(data, name, update, running.get(), thread, at_s))

        self.sent = sent
        self.shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
        self._running = running
        self._cells = 0
        if can_update:
            self.shell.kernel = object()
            self.shell.display_pub = Publisher(shell=self.shell)
        self.run("%load_ext queuectl_magics")

    def run(self, code: str) -> Cell:
        """Run a cell and return what came of it."""
        self._cells += 1
        token = self._running.set(self._cells)
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()) as out,
                contextlib.redirect_stderr(io.StringIO()) as err,
            ):
                ran = self.shell.run_cell(code, store_history=True)
        finally:
            self._running.reset(token)
        error = ran.error_before_exec or ran.error_in_exec
        return Cell(ran.result, out.getvalue(), err.getvalue(), error)

    def refused(self, code: str) -> str:
        """Run a cell that must be refused with one red line, and return that line."""
        cell = self.run(code)
        name, _, line = cell.err.rstrip("\n").partition(": ")
        assert "UsageError" == name, cell
        assert "" == cell.out
        assert "\n" not in line
        return line

    def close(self) -> None:
        """Take the extension away, if that has not been done."""
        if "queuectl_magics" in self.shell.extension_manager.loaded:
            self.run("%unload_ext queuectl_magics")
        atexit.unregister(self.shell.atexit_operations)  # a hundred shells take their time


@pytest.fixture
def make_notebook(own_home: Path, monkeypatch) -> Iterator[Callable[..., Notebook]]:
    """Make notebooks that stand in one directory, whose queue is `own_home`."""
    monkeypatch.chdir(own_home.parent)
    monkeypatch.setenv("IPYTHONDIR", str(own_home.parent / ".ipython"))
    monkeypatch.delenv("QUEUECTL_HOME", raising=False)
    monkeypatch.delenv("QUEUECTL_PLAIN", raising=False)
    made: list[Notebook] = []

    def make(*, can_update: bool = False) -> Notebook:
        made.append(Notebook(can_update=can_update))
        return made[-1]

    yield make
    for notebook in made:
        notebook.close()


@pytest.fixture
def notebook(make_notebook: Callable[..., Notebook]) -> Notebook:
    """IPython as in a terminal: what it shows is text."""
    return make_notebook()


@pytest.fixture
def frontend(make_notebook: Callable[..., Notebook]) -> Notebook:
    """IPython as in a kernel: what it shows can be replaced."""
    return make_notebook(can_update=True)
