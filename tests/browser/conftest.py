"""A real JupyterLab and Notebook 7, a real Chromium, and a page with the live table alone.

Started once per run: the server in a folder of its own, which serves both front ends; the browser;
one page of each front end, in which every test opens its own notebook with its own kernel. The
pages are driven by JupyterLab's commands, of which Notebook 7 is made too, not by keys; and every
wait has an end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / ".artifacts"
OTHER_KERNELS = ("6", "7.1.0")
BIN = Path(sys.executable).parent
CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
READY = """async () => {
  const end = performance.now() + 60000;
  while (performance.now() < end) {
    const panel = window.jupyterapp?.shell?.currentWidget;
    if (panel?.context && panel.sessionContext) {
      await panel.context.ready; await panel.sessionContext.ready; await panel.revealed;
      const kernel = panel.sessionContext.session?.kernel;
      if (kernel) { await kernel.info; return kernel.id; }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("JupyterLab is not ready");
}"""
# Once in some hundred starts a kernel, with nothing of ours in it yet, never answers the first
# question of the front end. It is restarted then, as a person would do.
OPEN = """async (path) => {
  const panel = await window.jupyterapp.commands.execute(
    "docmanager:open", { path, factory: "Notebook" });
  await panel.context.ready; await panel.revealed;
  const context = panel.sessionContext;
  const answer = async () => { await context.ready; return await context.session.kernel.info; };
  const patience = () => new Promise((done) => setTimeout(done, 20_000));
  while (!(await Promise.race([answer(), patience()])))
    context.session?.kernel?.restart().catch(() => {});
}"""
CLOSE = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.sessionContext.shutdown();
  panel.context.model.dirty = false;
  panel.dispose();
}"""
RUN = """async ([number, wait]) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = number; notebook.deselectAll();
  const done = window.jupyterapp.commands.execute("notebook:run-cell");
  if (wait) await done;
}"""


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], timeout_s: float = 10) -> None:
    """Return when *condition* is true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def add_kernel(folder: Path, version: str) -> None:
    """Tell a server of another ipykernel, which `make test` has put into `.kernels`."""
    folder.mkdir(parents=True)
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    path = {"PYTHONPATH": f"{ROOT / '.kernels' / version}:{ROOT}"}
    spec = {"argv": launch, "display_name": folder.name, "language": "python", "env": path}
    (folder / "kernel.json").write_text(json.dumps(spec))


class Server:
    """A JupyterLab and a Notebook 7 with nothing of the person who runs the tests in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "notebooks"
        self.root.mkdir()
        self.token = secrets.token_hex(12)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        quiet = folder / "settings" / "@jupyterlab" / "apputils-extension"
        quiet.mkdir(parents=True)
        news = {"fetchNews": "false", "checkForUpdates": False}
        (quiet / "notification.jupyterlab-settings").write_text(json.dumps(news))
        env = {key: os.environ[key] for key in ("LANG", "LC_ALL") if key in os.environ}
        env |= {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(folder),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "PYTHONPATH": str(ROOT),
        }
        for version in OTHER_KERNELS:
            add_kernel(folder / "data" / "kernels" / f"ipykernel{version}", version)
        self.log = folder / "server.log"
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=self.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, timeout_s: float = 60) -> Server:
        """Return when it answers."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                self.api("status")
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise TimeoutError(self.log.read_text()[-3000:])

    def api(self, path: str, method: str = "GET", body: object = None) -> Any:
        """Ask the server's own interface."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        """End it, and the kernels with it."""
        for session in self.api("sessions"):
            self.api(f"sessions/{session['id']}", "DELETE")
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def write(self, name: str, cells: list[str], kernel: str = "python3") -> Path:
        """Write a notebook with these code cells, for a kernel of that name."""
        path = self.root / name
        written = [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": f"c{number}",
                "metadata": {},
                "outputs": [],
                "source": source,
            }
            for number, source in enumerate(cells)
        ]
        spec = {"display_name": kernel, "language": "python", "name": kernel}
        metadata = {"kernelspec": spec}
        whole = {"cells": written, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(whole))
        return path


class Front:
    """A front end in a page: JupyterLab, or Notebook 7, which has one notebook a page."""

    def __init__(self, page: Any, server: Server, folder: str) -> None:
        page.set_default_timeout(10_000)
        self.page = page
        self.server = server
        self.is_lab = folder.startswith("lab")
        self._folder = folder

    def load(self, name: str, more: str = "", *, wait: bool = True) -> None:
        """Load the page anew with that notebook in it, and *wait* for its kernel."""
        token = f"token={self.server.token}{more}"
        self.page.goto(f"{self.server.url}/{self._folder}/{name}?{token}")
        if wait:
            self.page.evaluate(READY)

    def open(self, name: str) -> None:
        """Open a notebook and wait for its kernel."""
        self.page.bring_to_front()  # a browser slows down the pages that nobody sees
        if self.is_lab:
            self.page.evaluate(OPEN, name)
        else:
            self.load(name)

    def close(self) -> None:
        """Close the notebook and end its kernel."""
        self.page.evaluate(CLOSE)


class Notebook:
    """A notebook that is open in a front end, with a queue home of its own."""

    artifacts = ARTIFACTS

    def __init__(self, front: Front, path: Path, home: Path) -> None:
        self.front = front
        self.page = front.page
        self.path = path
        self.name = path.name
        self.home = home

    @property
    def panel(self) -> Any:
        """All of it that is in the page."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    @property
    def table(self) -> Any:
        """The live table in it."""
        return self.panel.locator(".qlive")

    def row(self, id: str) -> Any:
        """The row of that job."""
        return self.table.locator(".qport .qrow:not([hidden])").filter(
            has=self.page.locator(".c-job > b", has_text=re.compile(f"^{re.escape(id)}$"))
        )

    def run(self, number: int, *, wait: bool = True) -> None:
        """Run a cell; without *wait*, return while it runs."""
        self.page.evaluate(RUN, [number, wait])

    @contextmanager
    def blocked_by(self, number: int) -> Iterator[None]:
        """Let a cell run meanwhile: it makes a file, and ends when that is gone."""
        busy = self.home.with_suffix(".busy")
        self.run(number, wait=False)
        until(busy.exists)
        yield
        busy.unlink()

    def command(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Execute one of JupyterLab's commands and wait for its end."""
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }",
            [name, args or {}],
        )

    def save(self) -> dict[str, Any]:
        """Save it and return what is in the file."""
        self.command("docmanager:save")
        return json.loads(self.path.read_text())

    def reload(self) -> None:
        """Load the page again; the kernel goes on, and may be too busy to answer."""
        self.front.load(self.name, wait=False)

    def reopen(self) -> None:
        """End the kernel, close the notebook, open it again with a new kernel."""
        self.front.close()
        self.front.open(self.name)

    def shoot(self, name: str) -> None:
        """Keep a picture of the page."""
        ARTIFACTS.mkdir(exist_ok=True)
        where = "" if self.front.is_lab else "-notebook7"
        self.page.screenshot(path=ARTIFACTS / f"{name}{where}.png")


@pytest.fixture(scope="session", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that starts while the first tests, which need none, are running."""
    found = Server(tmp_path_factory.mktemp("lab"))
    yield found
    found.wait().stop()


@pytest.fixture(scope="session")
def server(started: Server) -> Server:
    """A JupyterLab and Notebook 7 that answer."""
    return started.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no Chromium is on PATH: see `make test`"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=CHROMIUM_ARGS
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def context(browser: Any) -> Iterator[Any]:
    """What the pages of the front ends share: a cache."""
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def lab(server: Server, context: Any) -> Front:
    """A page of JupyterLab."""
    server.write("start.ipynb", [""])
    front = Front(context.new_page(), server, "lab/tree")
    front.load("start.ipynb", "&reset")
    front.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    return front


@pytest.fixture(scope="session")
def notebook7(server: Server, context: Any) -> Front:
    """A page of Notebook 7."""
    return Front(context.new_page(), server, "notebooks")


@pytest.fixture
def front(request: pytest.FixtureRequest) -> Front:
    """Where a test opens its notebook: JupyterLab, unless it asks for another by name."""
    return request.getfixturevalue(getattr(request, "param", "lab"))


@pytest.fixture
def notebook(
    front: Front, server: Server, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook whose first lines load the magics with an empty queue."""
    opened = []

    def make(*cells: str, kernel: str = "python3") -> Notebook:
        name = re.sub(r"\W+", "-", request.node.name)[:80]
        home = server.root.parent / "homes" / name / ".queuectl"
        start = (
            f"import os; os.environ['QUEUECTL_HOME'] = {str(home)!r}\n"
            "%load_ext queuectl_magics\n%queue_worker start -n 4"
        )
        path = server.write(f"{name}.ipynb", [start, *cells], kernel)
        front.open(path.name)
        book = Notebook(front, path, home)
        opened.append(book)
        book.run(0)
        return book

    yield make
    if opened:
        front.close()
