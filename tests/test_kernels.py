"""Real kernels, of each ipykernel that we promise to work with, and a real terminal.

`make test` puts older ipykernels into `.kernels`; the newest one is that of the environment.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pexpect
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from evidence import command, evidence
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobQueue
from queuectl_magics.magics.calling import STOPPED

ROOT = Path(__file__).parent.parent
FOLDERS = {"6": ROOT / ".kernels/6", "7.0.1": ROOT / ".kernels/7.0.1", "7": None}
REPLY_S = 60.0
RESTARTS = int(os.environ.get("QUEUECTL_SOAK_RESTARTS", "2"))
JOBS_A_RESTART = 10
SEED = 20251104
ENDLESS = "sleep 600"
GATED = "echo begun; echo x >> starts; until [ -e go ]; do sleep 0.02; done; echo ended; exit 7"


class Ran(NamedTuple):
    """What came of a cell: the messages to the front end, and the reply."""

    messages: list[dict[str, Any]]
    reply: dict[str, Any]

    def of(self, *types: str) -> list[dict[str, Any]]:
        """Return the contents of the messages of these types."""
        return [one["content"] for one in self.messages if one["msg_type"] in types]

    def stream(self, name: str) -> str:
        """Return what was printed to `stdout` or `stderr`."""
        return "".join(one["text"] for one in self.of("stream") if one["name"] == name)

    @property
    def value(self) -> str | None:
        """Return what the cell evaluates to, as text."""
        return next((one["data"]["text/plain"] for one in self.of("execute_result")), None)

    @property
    def lines(self) -> list[str]:
        """Return the texts of what was displayed and of what replaced it."""
        found = self.of("display_data", "update_display_data")
        return [one["data"]["text/plain"] for one in found]

    @property
    def error(self) -> dict[str, Any] | None:
        """Return the error that the cell ended with."""
        return next(iter(self.of("error")), None)


class Kernel:
    """A kernel with some version of ipykernel, and its only client."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self.folder = folder
        self.manager: Any = None
        self._client: Any = None

    def start(self) -> None:
        """Start the first process, or another after `shut_down`."""
        first = FOLDERS[self.version]
        if first is not None and not (first / "ipykernel").is_dir():
            pytest.fail(f"{first} is missing: `make test` puts the ipykernels there that we test")
        paths = [str(first)] if first else []
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        for name in ("QUEUECTL_HOME", "QUEUECTL_PLAIN"):
            environ.pop(name, None)
        environ["IPYTHONDIR"] = str(self.folder / ".ipython")
        quiet = ["--log-level=ERROR"]
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environ, cwd=self.folder, extra_arguments=quiet)
        self.connect()

    def connect(self) -> None:
        """Talk to the process, which may be a new one."""
        if self._client is not None:
            self._client.stop_channels()
        self._client = self.manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=REPLY_S)

    def begin(self, code: str) -> str:
        """Send a cell and return its number."""
        return self._client.execute(code)

    def end(self, number: str) -> Ran:
        """Return what came of the cell with this number, with what came before it."""
        messages = []
        while True:
            message = self._client.get_iopub_msg(timeout=REPLY_S)
            messages.append(message)
            if message["parent_header"].get("msg_id") == number and (
                message["content"].get("execution_state") == "idle"
            ):
                return Ran(messages, self._reply(number))

    def run(self, code: str) -> Ran:
        """Run a cell."""
        return self.end(self.begin(code))

    def until(self, type: str, text: str = "") -> list[dict[str, Any]]:
        """Return what comes until a message of this type that holds *text*, and this one."""
        messages = []
        while (
            not messages
            or messages[-1]["msg_type"] != type
            or (text not in str(messages[-1]["content"]))
        ):
            messages.append(self._client.get_iopub_msg(timeout=REPLY_S))
        return messages

    def complete(self, code: str) -> list[str]:
        """Return what Tab offers at the end of *code*, as the line would be then."""
        reply = self._reply(self._client.complete(code, len(code)))
        return [code[: reply["cursor_start"]] + match for match in reply["matches"]]

    def _reply(self, number: str) -> dict[str, Any]:
        while True:
            reply = self._client.get_shell_msg(timeout=REPLY_S)
            if reply["parent_header"]["msg_id"] == number:
                return reply["content"]

    def interrupt(self) -> None:
        """Press Stop."""
        self.manager.interrupt_kernel()

    def restart(self, *, now: bool) -> None:
        """Choose Restart, or have the server do it after the kernel has died."""
        self.manager.restart_kernel(now=now)
        self.connect()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the process as the system would, and wait until it is gone."""
        process = self.manager.provisioner.process
        os.kill(process.pid, number)
        process.wait()

    def close(self) -> None:
        """End the process."""
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


def kernel_of(version: str, tmp_path_factory) -> Iterator[Kernel]:
    """Start a kernel, load the extension, and end the kernel after the last test."""
    kernel = Kernel(version, tmp_path_factory.mktemp(f"kernel-{version}"))
    kernel.start()
    yield kernel
    kernel.close()


@pytest.fixture(scope="module", params=FOLDERS)
def shared_kernel(request, tmp_path_factory):
    """A kernel of each version, with the extension loaded."""
    for kernel in kernel_of(request.param, tmp_path_factory):
        kernel.loading = kernel.run("%load_ext queuectl_magics")
        kernel.run("import sys; heavy = {'pandas', 'ipywidgets', 'anywidget'} & set(sys.modules)")
        kernel.before = kernel.run("import os; sorted(os.listdir('.'))").value
        yield kernel


@pytest.fixture
def kernel(shared_kernel, own_home):
    """The same kernel, with a home of this test alone."""
    shared_kernel.run(f"%cd -q {own_home.parent}")
    shared_kernel.run(f"%config QueueMagics.home = {str(own_home)!r}")
    yield shared_kernel
    shared_kernel.run("jobs = %queue_list\nfor job in jobs:\n    job.cancel()")
    shared_kernel.run("%reload_ext queuectl_magics")


# --- each ipykernel -----------------------------------------------------------------------------


def test_it_is_the_ipykernel_that_was_meant(kernel):
    """The folder comes first on the kernel's path."""
    version = kernel.run("import ipykernel; ipykernel.__version__").value.strip("'")

    assert version.startswith(f"{kernel.version}.") or version == kernel.version


def test_loading_is_silent_and_light(kernel):
    """No message, no pandas, no widgets, no directory."""
    assert {"status", "execute_input"} == {one["msg_type"] for one in kernel.loading.messages}
    assert "set()" == kernel.run("heavy").value
    assert "['.ipython']" == kernel.before


def test_the_line_is_replaced_by_a_thread_whatever_the_kernel_does(kernel, own_home):
    """While a cell blocks, and between two cells; each time for the cell that runs or ran last."""
    begun = kernel.begin(f"%enqueue -n train echo one; {GATED}")
    (shown,) = kernel.end(begun).of("display_data")
    name = shown["transient"]["display_id"]
    between = kernel.until("update_display_data", "begun")
    blocked = kernel.begin("import time; time.sleep(1.2)")
    (own_home.parent / "go").touch()
    ran = kernel.end(blocked)

    updates = [one for one in ran.messages if one["msg_type"] == "update_display_data"]
    assert {name} == {one["content"]["transient"]["display_id"] for one in updates}
    assert begun == between[-1]["parent_header"]["msg_id"]
    assert blocked == updates[-1]["parent_header"]["msg_id"]
    assert "failed after" in ran.lines[-1]
    assert "exit 7" in ran.lines[-1]


def test_the_last_state_is_sent_again_with_the_next_cell(kernel, own_home):
    """It came between two cells, when an exporter does not listen; a third cell gets nothing."""
    kernel.run("%enqueue -r 1 " + GATED)
    (own_home.parent / "go").touch()
    kernel.until("update_display_data", "dead")

    second, third = kernel.run("1"), kernel.run("1")

    assert ["✗ 1 "] == [line[:4] for line in second.lines]
    assert [] == third.lines


def test_an_interrupt_stops_the_waiting_and_not_the_job(kernel):
    """Stop: one line says it, the cell has failed, the job runs on."""
    kernel.run(f"job = %enqueue {ENDLESS}")
    number = kernel.begin("%queue_wait")
    kernel.until("display_data", "0 of 1 job over")

    kernel.interrupt()
    ran = kernel.end(number)

    assert ("KeyboardInterrupt", STOPPED) == (ran.error["ename"], ran.error["evalue"])
    assert [f"KeyboardInterrupt: {STOPPED}"] == ran.error["traceback"]
    assert "error" == ran.reply["status"]
    assert "'processing'" == kernel.run("str(job.state)").value


def test_a_job_can_be_awaited_and_the_awaiting_stopped(kernel):
    """`await job` leaves the kernel free; Stop ends it, and the job runs on."""
    assert "'hello'" in kernel.run("job = %enqueue echo hello\n(await job).output.strip()").value

    kernel.run(f"%enqueue -o job {ENDLESS}")
    number = kernel.begin("await job")
    kernel.until("update_display_data", "processing 1")  # a second has gone by: it waits
    kernel.interrupt()

    assert "CancelledError" == kernel.end(number).error["ename"]
    assert "'processing'" == kernel.run("str(job.state)").value


def test_logs_are_followed_into_the_cell(kernel, own_home):
    """Piece by piece as they come, and not once more in the end."""
    kernel.run(f"job = %enqueue -r 1 {GATED}")
    number = kernel.begin("%queue_logs -f 1")
    first = kernel.until("stream")[-1]["content"]["text"]
    (own_home.parent / "go").touch()
    ran = kernel.end(number)

    assert ("begun\n", "ended\n") == (first, ran.stream("stdout"))
    assert [] == ran.of("execute_result")


def test_tab_and_question_mark_work(kernel):
    """Through the kernel's own requests."""
    kernel.run("job = %enqueue --id my-job true\n%queue_wait")

    assert ["x = %queue_logs my-job"] == kernel.complete("x = %queue_logs my")
    assert ["%enqueue --max-retries"] == kernel.complete("%enqueue --max-r")
    (page,) = kernel.run("%enqueue?").reply["payload"]
    assert "Usage: %enqueue [OPTIONS] COMMAND" in page["data"]["text/plain"]


def test_values_reach_the_command_byte_for_byte(kernel):
    """`{expr}` from a cell to the arguments of a program."""
    kernel.run("name, files = '''it's \"$HOME\" `x` {y} ü''', ['a b', '*', '']")
    command = "import sys; print(ascii(sys.argv[1:]))"

    kernel.run(f"job = %enqueue python -c '{command}' {{name}} \"<{{name}}>\" {{files}} {{{{x}}}}")

    told = kernel.run("eval(job.wait(30).output) == [name, f'<{name}>', *files, '{x}']")
    assert "True" == told.value


def test_a_mistake_is_a_line_without_a_traceback(kernel):
    """And Run All stops there."""
    ran = kernel.run("%queue_cancel 99")

    assert ran.stream("stderr").startswith("UsageError: there is no job '99'")
    assert 1 == ran.stream("stderr").count("\n")
    assert [] == ran.of("error")
    assert "error" == ran.reply["status"]


def test_unloading_ends_the_threads(kernel, own_home):
    """What runs goes on, and is adopted when the extension is loaded again."""
    kernel.run("%enqueue -r 1 -o job " + GATED)
    kernel.until("update_display_data", "begun")

    kernel.run("%unload_ext queuectl_magics")
    names = "[t.name for t in threading.enumerate() if 'queuectl' in t.name]"
    left = kernel.run(f"import threading; {names}").value
    kernel.run("%load_ext queuectl_magics")
    kernel.run(f"%config QueueMagics.home = {str(own_home)!r}\n%queue_worker start")
    (own_home.parent / "go").touch()
    ran = kernel.run("job.wait(30); str(job.state), job.exit_code, job.output")

    assert "queuectl-lines" not in left
    assert "queuectl-worker" not in left
    assert r"('dead', 7, 'begun\nended\n')" == ran.value
    assert "x\n" == (own_home.parent / "starts").read_text()


def test_two_notebooks_share_a_home(shared_kernel, kernel, tmp_path_factory, own_home):
    """One waits for what the other has enqueued; Stop in one does not disturb the other."""
    if kernel.version != "7":
        return
    for other in kernel_of("6", tmp_path_factory):
        other.run(f"%load_ext queuectl_magics\n%config QueueMagics.home = {str(own_home)!r}")
        kernel.run(f"%cd -q {own_home.parent}\njob = %enqueue -r 1 {GATED}")
        waits = [(one, one.begin("job = %queue_wait")) for one in (other, kernel)]
        for one, _ in waits:
            one.until("display_data", "0 of 1 job over")
        kernel.interrupt()
        (own_home.parent / "go").touch()

        assert "KeyboardInterrupt" == kernel.end(waits[1][1]).error["ename"]
        assert "1 of 1 job over" == other.end(waits[0][1]).lines[-1]
        assert "'dead'" == other.run("str(job[0].state)").value


# --- a job outlives its kernel -------------------------------------------------------------------


def interrupt(kernel: Kernel) -> None:
    """Press Stop while a cell runs."""
    number = kernel.begin("import time; print('in', flush=True); time.sleep(60)")
    kernel.until("stream")
    kernel.interrupt()
    assert "KeyboardInterrupt" == kernel.end(number).error["ename"]


def shut_down(kernel: Kernel, *, now: bool) -> None:
    """Choose Shut Down, and start a new kernel later."""
    kernel.manager.shutdown_kernel(now=now)
    kernel.manager.cleanup_resources()
    kernel.start()


def kill(kernel: Kernel) -> None:
    """Let the system kill the kernel, and the server start another."""
    kernel.kill()
    kernel.restart(now=True)


def exit_at_once(kernel: Kernel) -> None:
    """Let the kernel leave as it does when its server has died."""
    kernel.begin("import os; os._exit(1)")
    kernel.manager.provisioner.process.wait()
    kernel.restart(now=True)


ACTIONS: dict[str, Callable[[Kernel], None]] = {
    "interrupt": interrupt,
    "restart": lambda kernel: kernel.restart(now=False),
    "restart now": lambda kernel: kernel.restart(now=True),
    "shut down": lambda kernel: shut_down(kernel, now=False),
    "shut down now": lambda kernel: shut_down(kernel, now=True),
    "SIGKILL": kill,
    "os._exit": exit_at_once,
}


@pytest.fixture(scope="module", params=["6", "7"])
def mortal(request, tmp_path_factory):
    """A kernel that does not survive these tests, time and again."""
    yield from kernel_of(request.param, tmp_path_factory)


@pytest.mark.parametrize("action", ACTIONS)
def test_running_jobs_survive_whatever_befalls_their_kernel(mortal, own_home, action):
    """They run on and once; output and exit code are kept; the next kernel adopts them.

    One ends while no kernel has the extension loaded, the other when the next one has.
    """
    folder = own_home.parent
    mortal.run(f"%cd -q {folder}\n%env QUEUECTL_HOME={own_home}")
    mortal.run("%reload_ext queuectl_magics\n%queue_worker start -n 2")
    for name in ("away", "after"):
        mortal.run(f"%enqueue -r 1 -n {name} {GATED.replace('go', name)}")
        mortal.until("update_display_data", "begun")

    ACTIONS[action](mortal)
    mortal.run(f"%cd -q {folder}\n%env QUEUECTL_HOME={own_home}")
    (folder / "away").touch()
    told = mortal.run("%reload_ext queuectl_magics").stream("stdout")
    (folder / "after").touch()
    mortal.run("jobs = %queue_wait away after")

    with JobQueue(own_home) as jobs:
        for job in jobs.jobs():
            assert (State.DEAD, 7, "begun\nended\n") == (job.state, job.exit_code, job.output)
            assert (1, 0) == (job.record.attempt, job.record.interrupts)
    assert "x\nx\n" == (folder / "starts").read_text()
    assert 1 == told.count("\n")
    assert "While you were away: " in told


COME_BACK = """
%cd -q {work}
%env QUEUECTL_HOME={home}
%reload_ext queuectl_magics
%queue_worker start -n 8
"""


@pytest.mark.timeout(600)
def test_jobs_run_exactly_once_however_often_their_kernel_is_restarted(
    mortal, own_home, tmp_path, capsys
):
    """Interrupted and restarted under load, gently or at once, at whatever moment of its cell."""
    dice = random.Random(SEED)
    work = tmp_path / "work"
    work.mkdir()
    come_back = COME_BACK.format(work=work, home=own_home)
    with JobQueue(own_home) as queue:
        for _ in range(RESTARTS):
            wanted = [command(dice.uniform(0, 3)) for _ in range(JOBS_A_RESTART)]
            queue.enqueue_all({"command": one, "cwd": str(work)} for one in wanted)
            mortal.begin(come_back + "import time; time.sleep(60)")
            time.sleep(dice.uniform(0, 1.5))
            if dice.random() < 0.5:
                mortal.interrupt()
            mortal.restart(now=dice.random() < 0.5)
        mortal.run(come_back + "_ = %queue_wait")
        records = queue.records()
    ids = [record.id for record in records]
    begun, ended, overlaps = (evidence(work, name) for name in ("begun", "ended", "overlaps"))
    with capsys.disabled():
        print(  # noqa: T201 - what a soak saw is worth a line
            f"\n{RESTARTS} restarts of ipykernel {mortal.version}; {len(ids)} jobs, "
            f"{begun.total()} begun, {ended.total()} ended, {overlaps.total()} overlapping"
        )

    assert RESTARTS * JOBS_A_RESTART == len(ids)
    assert Counter(ids) == begun
    assert Counter(ids) == ended
    assert {} == overlaps
    assert {(State.COMPLETED, 0, 0)} == {
        (record.state, record.attempts, record.interrupts) for record in records
    }


# --- saved outputs, and a terminal ---------------------------------------------------------------

PLAIN_CELLS = [
    "%load_ext queuectl_magics",
    "%enqueue -n one echo hello",
    "%%job -n two -r 1 -o two\necho $RANDOM $$; exit 3",
    "job = %enqueue -n three sleep 0.7",
    "%queue_wait",
    "job",
    "%queue_status",
    "%queue_status --live",
    "%queue_timeline",
    "%queue_list",
    "%queue_show two",
    "%queue_logs one",
    "%queue_worker",
    "%queue_run",
    "%queue_dlq",
    "%queue_cancel one",
    "two.exit_code, two.state",
    "%queue_worker stop",
]


def test_plain_outputs_are_the_same_in_every_run(own_home):
    """Compared by nbval, strictly, with nothing replaced, in a kernel and a home of its own."""
    path = own_home.parent / "plain.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in PLAIN_CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    environ = {**os.environ, "QUEUECTL_PLAIN": "1", "QUEUECTL_HOME": str(own_home / "first")}
    client = NotebookClient(notebook, timeout=REPLY_S, kernel_name="python3", allow_errors=True)
    client.execute(cwd=own_home.parent, env=environ)
    nbformat.write(notebook, path)

    nbval = ["-p", "nbval.plugin", "--nbval", "--nbval-current-env", "-c", os.devnull]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *nbval, str(path)],
        capture_output=True,
        check=False,
        cwd=own_home.parent,
        env=environ
        | {"QUEUECTL_HOME": str(own_home / "second"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        text=True,
        timeout=100,
    )

    assert 0 == ran.returncode, ran.stdout
    assert f"{len(cells)} passed" in ran.stdout


class Prompt:
    """IPython in a terminal."""

    def __init__(self, folder: Path) -> None:
        options = ["--no-banner", "--no-confirm-exit", "--simple-prompt", "--colors=NoColor"]
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", *options],
            cwd=folder,
            env={**os.environ, "IPYTHONDIR": str(folder / ".ipython")},
            encoding="utf-8",
            timeout=REPLY_S,
            dimensions=(50, 120),
        )
        self.number = 1

    def send(self, line: str) -> str:
        """Type a line at the next prompt; return what was printed before that prompt."""
        self.process.expect_exact(f"In [{self.number}]: ")
        self.number += 1
        self.process.sendline(line)
        return self.process.before


def test_in_a_terminal_results_are_text_and_leaving_leaves_the_jobs(own_home, until):
    """No markup; Ctrl-C stops the waiting; `exit` does not wait for what runs."""
    prompt = Prompt(own_home.parent)
    prompt.send("%load_ext queuectl_magics")
    prompt.send("job = %enqueue -n long " + GATED)
    prompt.send("%enqueue echo hello")
    prompt.send("%queue_wait")
    prompt.process.expect_exact("0 of 2 jobs over")
    prompt.process.sendintr()
    prompt.process.expect_exact(f"KeyboardInterrupt: {STOPPED}")
    prompt.send("%queue_status")
    prompt.send("exit")
    told = prompt.process.before
    began = time.monotonic()
    prompt.process.expect(pexpect.EOF)
    assert time.monotonic() - began < 5
    prompt.process.close()

    assert 0 == prompt.process.exitstatus
    assert "processing" in told
    assert "<div" not in told
    with JobQueue(own_home) as jobs:
        job = jobs.job("long")
        assert State.PROCESSING is job.state
        jobs.worker()
        (own_home.parent / "go").touch()
        until(lambda: job.exit_code == 7)
        assert "begun\nended\n" == job.output
        assert 1 == job.record.attempt
