"""The local engine starts what was asked for, tells how it ended, and finds it again."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from queuectl_magics import environment, recorder
from queuectl_magics.engines import CANNOT_START, Vanished, local
from queuectl_magics.engines.local import LocalEngine, marker
from queuectl_magics.job import Exit, JobRecord, State

T0 = datetime(2025, 11, 4, 10, 0, tzinfo=UTC)
HELD = "echo begun; until [ -e go ]; do sleep 0.02; done; exit 7"


class Place:
    """An engine, a folder to work in, and what was started."""

    def __init__(self, folder: Path, store: str) -> None:
        self.work = folder / "work"
        home = folder / ".queuectl"
        for path in (self.work, home / "run", home / "logs"):
            path.mkdir(parents=True)
        self.engine = LocalEngine(store=store, home=home, run=home / "run", logs=home / "logs")
        self.placed = []

    def job(self, command: str, **keys) -> JobRecord:
        """Return a job that was just leased."""
        known = {"id": "1", "attempts": 0, "max_retries": 3, "attempt": 1, "token": "t0ken"}
        known |= {"state": State.PROCESSING, "created_at": T0, "updated_at": T0}
        return JobRecord(**known | {"command": command, "cwd": str(self.work)} | keys)

    def start(self, job: JobRecord, environ: dict[str, str] | None = None):
        """Prepare and start it."""
        prepared = self.engine.prepare(job, job.attempt, job.token)
        given = environment.capture() if environ is None else environ
        started = self.engine.place(job, prepared, given)
        started.begin()
        self.placed.append(job)
        return started

    def run(self, command: str, environ: dict[str, str] | None = None, **keys):
        """Run a command to its end; return how it ended and what it printed."""
        job = self.job(command, **keys)
        started = self.start(job, environ)
        outcome = started if isinstance(started, Exit) else started.wait()
        return outcome, self.output(job)

    def output(self, job: JobRecord) -> str:
        """Return what the attempt has printed."""
        log = self.engine.logs / f"{job.id}.{job.attempt}.log"
        return log.read_text() if log.exists() else ""

    def recorder(self, job: JobRecord) -> int | None:
        """Return the recorder's pid."""
        return recorder.read_record(self.engine.run_path(job)).pid

    def go(self) -> None:
        """Let a held command end."""
        (self.work / "go").touch()


@pytest.fixture
def place(tmp_path):
    """A local engine; what it started is killed in the end."""
    place = Place(tmp_path, uuid.uuid4().hex)
    yield place
    for job in place.placed:
        found = place.engine.find(job)
        while not isinstance(found, Exit | Vanished) and found.signal(signal.SIGKILL):
            time.sleep(0.01)
        if pid := place.recorder(job):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


# --- what runs -----------------------------------------------------------------------------------


def test_command_without_a_program_is_run_by_sh(place):
    """The shell is `sh`, in the directory of the job."""
    outcome, printed = place.run("echo $0; pwd; exit 3")

    assert 3 == outcome.code
    assert f"sh\n{place.work}\n" == printed
    assert outcome.reason is None


def test_command_can_be_for_bash(place):
    """`shell` names the program that runs the command: arrays are bash's."""
    outcome, printed = place.run("a=(x y); echo ${a[1]}; [[ -n $BASH ]]", shell="bash")

    assert 0 == outcome.code
    assert "y\n" == printed


def test_program_may_have_options_of_its_own(place):
    """`shell` is split as a shell would split it."""
    _, printed = place.run("false; echo unreachable", shell="bash -e")

    assert "" == printed


def test_python_runs_a_script(place):
    """Python gets the command as a file: line numbers are right, and it may read itself."""
    outcome, printed = place.run(
        "import sys, os\nprint(len(sys.argv), os.path.isabs(sys.argv[0]), os.getcwd())\n1 / 0",
        shell="python",
    )

    assert 1 == outcome.code
    assert f"1 True {place.work}" == printed.splitlines()[0]
    assert "line 3, in <module>" in printed
    assert "ZeroDivisionError" in printed


def test_python_imports_what_lies_in_its_directory(place):
    """Modules beside the notebook can be imported, and a PYTHONPATH of the user's still counts."""
    (place.work / "beside.py").write_text("NAME = 'beside'")
    other = place.work.parent / "other"
    other.mkdir()
    (other / "elsewhere.py").write_text("NAME = 'elsewhere'")
    environ = environment.capture() | {"PYTHONPATH": str(other)}
    outcome, printed = place.run(
        "import beside, elsewhere; print(beside.NAME, elsewhere.NAME)", environ, shell="python"
    )

    assert 0 == outcome.code, printed
    assert "beside elsewhere\n" == printed


def test_python_is_that_of_the_notebook(place):
    """With the environment of a kernel `python` is the kernel's own, in sh and as a program."""
    environ = environment.capture({"PATH": os.defpath}, python=sys.executable)
    _, by_sh = place.run("command -v python", environ)
    _, itself = place.run("import sys; print(sys.executable)", environ, id="2", shell="python")

    assert str(Path(sys.executable).parent / "python") == by_sh.strip()
    assert Path(sys.executable).parent == Path(itself.strip()).parent


def test_python_is_ours_where_there_is_no_other(place):
    """A PATH without any `python` falls back on the one that runs the worker."""
    outcome, printed = place.run("print(6 * 7)", {"PATH": "/nonexistent"}, shell="python")

    assert 0 == outcome.code
    assert "42\n" == printed


def test_script_is_private_and_removed_afterwards(place):
    """The script of a program lies beside the run file as long as it is needed."""
    job = place.job("import os, sys; print(oct(os.stat(sys.argv[0]).st_mode))", shell="python")
    place.start(job).wait()
    lies = sorted(path.name for path in place.engine.run.iterdir())
    place.engine.forget(job)
    place.engine.close()

    assert "0o100600\n" == place.output(job)
    assert ["1.1.t0ken.run", "1.1.t0ken.script"] == lies
    assert [] == list(place.engine.run.iterdir())


def test_script_of_a_long_command_is_removed_afterwards(place):
    """So is that of a command that was too long for an argument; and forgetting twice is fine."""
    job = place.job("# " + "ü" * 60_000 + "\necho done")
    place.start(job).wait()
    assert 2 == len(list(place.engine.run.iterdir()))
    place.engine.forget(job)
    place.engine.forget(job)
    place.engine.close()

    assert "done\n" == place.output(job)
    assert [] == list(place.engine.run.iterdir())


def test_run_files_of_all_that_ended_meanwhile_are_used_again(place):
    """A slow disk confirms dozens of ends at once; the next dozens of jobs make no file."""
    jobs = [place.job("true", id=str(number)) for number in range(40)]
    for job in jobs:
        os.close(place.engine.prepare(job, 1, job.token).fd)
    for job in jobs:
        place.engine.forget(job)
    assert 40 == len(list(place.engine.run.iterdir()))
    for job in jobs:
        os.close(place.engine.prepare(job, 2, job.token).fd)

    assert {f"{job.id}.2.t0ken.run" for job in jobs} == {
        p.name for p in place.engine.run.iterdir()
    }


def test_command_is_told_where_it_belongs(place):
    """It may use the same queue, say which job it is, and know that it is being tried again."""
    names = ["QUEUECTL_HOME", "QUEUECTL_JOB_ID", "QUEUECTL_ATTEMPT", "PWD"]
    line = "; ".join(f"echo ${name}" for name in names)
    _, printed = place.run(line, {"QUEUECTL_JOB_ID": "outer", "PWD": "/"}, id="j.1", attempt=4)

    assert [str(place.engine.home), "j.1", "4", str(place.work)] == printed.splitlines()


def test_command_gets_the_environment_that_it_was_given(place):
    """Nothing of the worker's own environment gets through."""
    os.environ["OF_THE_WORKER"] = "1"
    try:
        _, printed = place.run("/usr/bin/env", {"MINE": "a b\nc", "ALSO": "ü=x"})
    finally:
        del os.environ["OF_THE_WORKER"]

    assert "MINE=a b\nc\n" in printed
    assert "ALSO=ü=x\n" in printed
    assert "OF_THE_WORKER" not in printed
    assert "PYTHON" not in printed


def test_environment_that_has_a_name_is_encoded_once(place):
    """A thousand jobs of one notebook share one; what has no name may be another each time."""
    named = [place.job("true", environ_ref=ref, env_ref=own) for ref, own in ("ab", "ab", "ac")]
    same, again, other = (place.engine.encoded(job, {"A": "1"}) for job in named)
    assert same is again
    assert same is not other

    nameless = place.job("true", env_ref="b")
    first, second = (place.engine.encoded(nameless, {"A": value}) for value in "12")
    assert [b"A=1", None] == list(first.joined({}))
    assert [b"A=2", None] == list(second.joined({}))
    for number in range(2 * local.ENVIRONMENTS_MAX):
        place.engine.encoded(place.job("true", environ_ref=f"r{number}"), {})
    assert len(place.engine._environments) <= local.ENVIRONMENTS_MAX


@pytest.mark.parametrize("variables", [{"": "x"}, {"A": "\0"}])
def test_job_that_no_process_can_be_started_for_does_not_end_its_worker(place, variables):
    """Such variables are refused at the door; if some are kept all the same, the job fails."""
    outcome, _ = place.run("true", variables)

    assert CANNOT_START == outcome.code
    assert outcome.reason.startswith("cannot start: ")
    assert is_free(place)


def test_marker_is_of_this_queue_this_attempt_and_this_lease(place):
    """No two attempts in the world carry the same marker."""
    job = place.job("true")
    words = [
        marker("store", job),
        marker("other", job),
        marker("store", replace(job, attempt=2)),
        marker("store", replace(job, token="other")),
    ]

    assert 4 == len(set(words))
    _, printed = place.run("echo $QUEUECTL_RUN")
    assert marker(place.engine.store, job) == printed.strip()


# --- what cannot run -----------------------------------------------------------------------------


def is_free(place: Place) -> bool:
    """Say whether nothing holds the run file."""
    return not recorder.is_running(place.engine.run_path(place.job("true")))


@pytest.mark.parametrize("shell", ["no-such-program", "no-such-program -x", "/no/such/program"])
def test_program_that_is_missing_is_named(place, shell):
    """A missing program is an exit with a reason, and nothing is left locked."""
    outcome, printed = place.run("true", shell=shell)

    assert CANNOT_START == outcome.code
    assert f"cannot start: the program {shell!r} was not found" == outcome.reason
    assert "" == printed
    assert is_free(place)


def test_directory_that_is_missing_is_named(place):
    """So is a missing directory."""
    outcome, _ = place.run("true", cwd="/no/such/directory")

    assert CANNOT_START == outcome.code
    assert "the directory /no/such/directory does not exist any more" in outcome.reason
    assert is_free(place)


def test_log_that_cannot_be_written_is_a_reason(place):
    """A folder of logs that is none, or full, or read-only, is told and not run into."""
    place.engine.logs.rmdir()
    place.engine.logs.write_text("a file")
    outcome, _ = place.run("true")

    assert CANNOT_START == outcome.code
    assert "cannot start: Not a directory" == outcome.reason
    assert is_free(place)


def test_environment_that_is_too_large_is_a_reason(place):
    """What the system refuses to start is told in the system's words."""
    outcome, _ = place.run("true", {"LARGE": "x" * 4_000_000})

    assert CANNOT_START == outcome.code
    assert "cannot start: Argument list too long" == outcome.reason
    assert is_free(place)


def test_abandoned_preparation_is_free_again(place):
    """A lease that was not granted leaves nothing locked; the attempt can be prepared again."""
    job = place.job("true")
    place.engine.abandon(place.engine.prepare(job, 1, job.token))

    assert is_free(place)
    assert 0 == place.run("true")[0].code


# --- what it cost --------------------------------------------------------------------------------


def test_processor_time_is_that_of_the_command(place):
    """A command that works for 0.3 s has used 0.3 s; one that sleeps has used next to nothing."""
    busy, _ = place.run("import time\nwhile time.process_time() < 0.3: pass", shell="python")
    asleep, _ = place.run("sleep 0.3", id="2")

    assert 0.3 <= busy.cpu_s < 3
    assert asleep.cpu_s < 0.2


def test_memory_is_told_only_when_it_is_surely_the_childs(place):
    """A child begins life in our memory, so what is no more than ours says nothing about it."""
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    small, _ = place.run("true")
    large, _ = place.run(f"x = b'x' * {ours + 32 * 1024**2}", id="2", shell="python")

    assert small.memory_bytes_max is None
    assert ours + 32 * 1024**2 <= large.memory_bytes_max < 3 * ours + 512 * 1024**2


# --- finding it again ----------------------------------------------------------------------------


def test_finds_that_nothing_was_ever_prepared(place):
    """No run file: the worker died before it began, and the attempt never ran."""
    found = place.engine.find(place.job("true"))

    assert isinstance(found, Vanished)
    assert not found.started


def test_finds_that_it_never_started(place):
    """A run file that nobody holds and nothing was written to: it never ran."""
    job = place.job("true")
    place.engine.abandon(place.engine.prepare(job, 1, job.token))
    found = place.engine.find(job)

    assert isinstance(found, Vanished)
    assert not found.started


def test_finds_that_it_is_being_prepared(place):
    """A held run file is left alone, though nothing runs yet; given up, it never ran."""
    job = place.job("true")
    prepared = place.engine.prepare(job, 1, job.token)
    found = place.engine.find(job)
    assert not isinstance(found, Exit | Vanished)
    place.engine.abandon(prepared)

    assert not found.wait().started


def test_finds_that_it_runs_and_waits_for_its_end(place, until):
    """One who did not start it can wait for it all the same, and gets its exit code."""
    job = place.job(HELD)
    place.start(job)
    until(lambda: place.output(job))
    found = place.engine.find(job)
    assert not isinstance(found, Exit | Vanished)
    assert 0 < found.age_s() < 60
    place.go()
    outcome = found.wait()

    assert 7 == outcome.code
    assert outcome.cpu_s is None
    assert outcome.memory_bytes_max is None


def test_finds_how_and_when_it_ended(place):
    """What ended while nobody watched tells its code, and the moment at which it ended."""
    job = place.job("exit 7")
    child = place.start(job)
    ended = child.wait()
    pause_s = 0.3
    time.sleep(pause_s)  # not for a condition: a later look must not say a later end
    found = place.engine.find(job)

    assert isinstance(found, Exit)
    assert 7 == found.code
    assert abs(found.finished_at - ended.finished_at) < timedelta(seconds=pause_s)


def test_finds_the_end_though_something_runs_in_the_background(place):
    """An exit record is decisive whoever is alive."""
    job = place.job("sleep 100 & exit 7")
    assert 7 == place.start(job).wait().code
    found = place.engine.find(job)

    assert not is_free(place)
    assert isinstance(found, Exit)
    assert 7 == found.code


def test_finds_that_it_lives_without_its_recorder_and_then_that_it_is_gone(place, until):
    """A killed recorder means "leave it alone" until the last process of the command is gone."""
    job = place.job(HELD)
    child = place.start(job)
    until(lambda: place.output(job))
    os.kill(place.recorder(job), signal.SIGKILL)
    found = place.engine.find(job)
    assert not isinstance(found, Exit | Vanished)
    place.go()

    assert found.wait().started
    assert child.wait().started
    assert place.engine.find(job).started


def test_finds_each_attempt_by_itself(place):
    """The record of an earlier attempt says nothing about a later one."""
    job = place.job("exit 7")
    place.start(job).wait()

    assert isinstance(place.engine.find(replace(job, attempt=2)), Vanished)
    assert isinstance(place.engine.find(replace(job, id="2")), Vanished)


def test_child_that_someone_else_reaped_still_tells_its_end(place, until):
    """A kernel's user may call `os.wait()`; the exit record holds the code all the same."""
    job = place.job(HELD)
    child = place.start(job)
    until(lambda: place.output(job))
    place.go()
    os.waitpid(place.recorder(job), 0)

    assert 7 == child.wait().code


def test_signal_reaches_everything_but_the_recorder(place, until):
    """A placed attempt can be ended by whoever placed it and by whoever found it."""
    for id, look in (
        ("1", lambda child, _job: child),
        ("2", lambda _, job: place.engine.find(job)),
    ):
        job = place.job("sleep 100 & echo begun; wait", id=id)
        child = place.start(job)
        until(lambda job=job: place.output(job))
        placed = look(child, job)

        assert placed.signal(signal.SIGKILL) >= 1
        assert 137 == child.wait().code
