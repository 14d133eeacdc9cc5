"""Waiting for the end of an attempt that is not ours, and ending one with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from queuectl_magics import recorder
from recorded import Attempt, without_names

TREES = {
    "children": "sleep 100 & sleep 100 & wait",
    "a pipeline": "sleep 100 | sleep 100 | cat",
    "a shell that is gone": "sleep 100 & exec sleep 100",
    "nohup": "nohup sleep 100 >nohup.out & wait",
    "a setsid grandchild": "setsid sleep 100 & wait",
    "a double fork": "(setsid sh -c 'sleep 100 & sleep 100 & wait' &); sleep 100",
    "an empty environment": "env -i sleep 100 & wait",
    "one that ignores TERM": "trap '' TERM; sleep 100",
    "a Python child": f'{sys.executable} -c \'import subprocess as s; s.run(["sleep", "100"])\'',
}


# --- waiting for what is not ours ----------------------------------------------------------------


def ended(path: Path, marker: str) -> threading.Thread:
    """Start a thread that waits for the end of an attempt."""
    thread = threading.Thread(target=recorder.wait_for_end, args=(path, marker), daemon=True)
    thread.start()
    return thread


def test_waiting_ends_with_the_recorder(attempt, until, held):
    """Whoever adopted an attempt wakes when it has ended, and not before."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    waiting = ended(running.path, running.marker)
    assert waiting.is_alive()
    (running.folder / "go").touch()

    until(lambda: not waiting.is_alive())
    assert 7 == running.code


def test_waiting_does_not_mind_what_goes_on_in_the_background(attempt, until):
    """An exit record ends the waiting, though a background child still holds the lock."""
    running = attempt("sleep 100 & until [ -e go ]; do sleep 0.02; done")
    until(running.members)
    waiting = ended(running.path, running.marker)
    (running.folder / "go").touch()

    until(lambda: not waiting.is_alive())
    assert recorder.is_running(running.path)
    assert 0 == running.code


def test_waiting_ends_when_the_recorder_was_killed(attempt, until, held):
    """Without a recorder there will be no record: waiting ends with the last process at most."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    waiting = ended(running.path, running.marker)
    os.kill(running.pid, signal.SIGKILL)
    (running.folder / "go").touch()

    until(lambda: not waiting.is_alive())
    assert running.code is None


def test_waiting_is_not_fooled_by_a_pid_that_was_used_again(tmp_path, until):
    """A stranger with the recorder's pid is not waited for: it does not carry the marker."""
    path = tmp_path / "1.1.run"
    with stranger() as process:
        fd = recorder.claim(path)
        os.pwrite(fd, b'{"pid":%d,"run":"marker"}\n' % process.pid, 0)
        waiting = ended(path, "marker")
        os.close(fd)

        until(lambda: not waiting.is_alive())


def test_waiting_for_one_that_is_being_prepared_goes_on_until_it_is_given_up(tmp_path, until):
    """Locked and without a pid is about to start; free and without one never will."""
    path = tmp_path / "1.1.run"
    fd = recorder.claim(path)
    waiting = ended(path, "marker")
    assert waiting.is_alive()
    os.close(fd)

    until(lambda: not waiting.is_alive())


def test_age_counts_from_the_start(attempt, until, held):
    """An attempt's age is that of its recorder, whoever asks; one that is over has none."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)

    assert until(lambda: recorder.age_s(running.path, running.marker) > 0.05)
    assert recorder.age_s(running.path, running.marker) < 60
    (running.folder / "go").touch()
    running.wait()
    assert 0 == recorder.age_s(running.path, running.marker)


@pytest.mark.parametrize("name", recorder._TAKEN)
@pytest.mark.parametrize("by", ["sh", "python3"])
def test_signal_to_all_of_its_group_is_an_end_like_any_other(attempt, name, by):
    """A command may end all that it has started so: it has failed, and was not interrupted."""
    number = int(signal.Signals[f"SIG{name}"])
    program = f"import os, signal; signal.signal({number}, 0); os.killpg(0, {number})"
    line = {"sh": f"kill -{number} 0; sleep 60", "python3": f"python3 -c '{program}'; sleep 60"}[
        by
    ]
    running = attempt(line)
    running.wait()

    assert 128 + number == recorder.read_record(running.path, running.marker).code


# --- killing the tree ----------------------------------------------------------------------------


@contextlib.contextmanager
def stranger():
    """A process of someone else: a session with two members."""
    process = subprocess.Popen(
        ["sh", "-c", "sleep 100 & sleep 100"], start_new_session=True, env={"PATH": os.defpath}
    )
    try:
        yield process
        assert process.poll() is None, "the stranger was killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_settled(running: Attempt, least: int) -> bool:
    """Say whether all the processes of a tree are there."""
    asleep = 0
    for pid in running.members():
        with contextlib.suppress(OSError):
            asleep += Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    return asleep >= least


@pytest.mark.parametrize("name", TREES)
def test_killing_takes_the_whole_tree_and_spares_the_recorder(attempt, until, name):
    """Nothing of it is left, wherever it went; and how it ended is on record all the same."""
    running = attempt(TREES[name])
    until(lambda: is_settled(running, TREES[name].count("sleep")))
    sent = running.signal(signal.SIGKILL)

    assert sent >= 1
    assert running.wait() == until(lambda: running.code)
    assert running.code in (128 + signal.SIGKILL, 128 + signal.SIGTERM)  # of the command, of it
    until(lambda: not running.members())
    assert not recorder.is_running(running.path)


def test_term_gives_a_command_the_chance_to_tidy_up(attempt, until):
    """TERM reaches the command, whose trap decides the exit code; the recorder writes it down."""
    running = attempt("trap 'echo tidy; exit 5' TERM; echo begun; while :; do sleep 0.02; done")
    until(lambda: b"begun" in running.output)
    running.signal(signal.SIGTERM)

    assert 5 == running.wait()
    assert 5 == running.code
    assert [b"begun", b"tidy"] == without_names(running.output)[:2]


def test_a_suspended_command_can_be_killed(attempt, until):
    """A command that suspended itself is killed like any other."""
    running = attempt("echo begun; kill -STOP $$; echo continued")
    until(lambda: b"begun" in running.output)
    running.signal(signal.SIGKILL)

    assert 137 == running.wait()


def test_a_tree_that_was_suspended_as_a_whole_can_be_killed(attempt, until, held):
    """So is one whose whole group somebody suspended, the recorder included."""
    running = attempt(held)
    until(lambda: b"begun" in running.output)
    os.killpg(running.pid, signal.SIGSTOP)
    running.signal(signal.SIGKILL)

    assert until(lambda: running.code) in (137, 143)


def test_the_tree_of_another_queue_is_left_alone(attempt, until, held):
    """Two queues may both have a job 1 in its first attempt: the marker tells them apart."""
    mine, theirs = attempt(held), attempt(held, name="theirs")
    until(lambda: b"begun" in mine.output and b"begun" in theirs.output)
    assert mine.path.name == theirs.path.name
    mine.signal(signal.SIGKILL)
    mine.wait()

    assert recorder.is_running(theirs.path)
    (theirs.folder / "go").touch()
    assert 7 == theirs.wait()


def test_nothing_is_killed_when_the_lock_is_free(tmp_path):
    """An attempt that is over has no processes, whoever has its recorder's pid by now."""
    path = tmp_path / "1.1.run"
    with stranger() as process:
        path.write_text(f'{{"pid":{process.pid},"run":"marker"}}\n')

        assert 0 == recorder.signal_tree(path, "marker", signal.SIGKILL)


def test_a_pid_that_was_used_again_is_not_killed(tmp_path):
    """While a background child holds the lock, the recorder's pid may be a stranger's session."""
    path = tmp_path / "1.1.run"
    with stranger() as process:
        fd = recorder.claim(path)
        os.pwrite(fd, b'{"pid":%d,"run":"marker"}\n' % process.pid, 0)

        assert 0 == recorder.signal_tree(path, "marker", signal.SIGKILL)
        os.close(fd)


def test_an_attempt_that_has_not_started_gets_no_signal(tmp_path):
    """Locked and without a pid: the answer 0 says that the signal must be sent again."""
    path = tmp_path / "1.1.run"
    fd = recorder.claim(path)

    assert 0 == recorder.signal_tree(path, "marker", signal.SIGTERM)
    os.close(fd)
