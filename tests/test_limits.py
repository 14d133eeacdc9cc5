"""Time limits, stops and output caps of real processes, supervised by a worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from processes import is_alive
from queuectl_magics import Job, JobQueue, limits, output, recorder
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.job import State

LONG_S = 20


def run_path(queue: JobQueue, job: Job) -> Path:
    """Return the run file of the job's first attempt."""
    return recorder.run_path(queue.store.paths.run, job.id, 1, job.record.token)


def pids_in(path: Path) -> list[int]:
    """Return the pids that a job has written into *path*, one a line."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def queue(home):
    """A queue that is left with nothing running."""
    with JobQueue(home) as opened:
        opened.worker(4)
        yield opened
        for job in opened.jobs(State.PROCESSING):
            opened.cancel(job, signal=signal.SIGKILL)
        opened.wait(timeout=LONG_S)


def test_attempt_that_takes_too_long_is_ended_and_counts_as_failed(queue):
    """With a time limit, the reason says so and the allowance is spent."""
    job = queue.enqueue("sleep 60", timeout_s=0.3, max_retries=1).wait(LONG_S)

    assert (State.DEAD, "timed out after 0.3 s", 1) == (
        job.state,
        job.record.reason,
        job.attempts,
    )


def test_attempt_that_timed_out_is_tried_again(queue):
    """A timeout is a failure like any other: it waits for its retry."""
    job = queue.enqueue("sleep 60", timeout_s=0.2, max_retries=2, backoff_base=0).wait(LONG_S)

    assert (2, 2) == (job.attempts, job.record.attempt)


def test_command_that_answers_a_timeout_with_exit_0_has_not_succeeded(queue):
    """Exit code 0 alone is success, but not when the attempt was being ended."""
    job = queue.enqueue(
        "trap 'exit 0' TERM; while :; do sleep 0.05; done", timeout_s=0.2, max_retries=1
    ).wait(LONG_S)

    assert (State.DEAD, 0) == (job.state, job.exit_code)


def test_command_that_ignores_term_is_killed_after_its_grace(queue):
    """TERM, the grace, then KILL; the recorder writes 137."""
    job = queue.enqueue(
        "trap '' TERM; while :; do sleep 0.05; done", timeout_s=0.2, grace_s=0.2, max_retries=1
    ).wait(LONG_S)

    assert (State.DEAD, 137) == (job.state, job.exit_code)


def test_command_may_use_its_grace_to_clean_up(queue, tmp_path):
    """What a TERM trap does is done, and its exit code is kept."""
    done = tmp_path / "cleaned"
    job = queue.enqueue(
        f"trap 'touch {done}; exit 7' TERM; while :; do sleep 0.05; done",
        timeout_s=0.3,
        max_retries=1,
    ).wait(LONG_S)

    assert (True, 7) == (done.exists(), job.exit_code)


def test_cancel_ends_the_whole_tree(queue, tmp_path, until):
    """Children, a grandchild in a session of its own and a double fork are gone."""
    pids = tmp_path / "pids"
    job = queue.enqueue(
        f"sleep 61 & echo $! >> {pids}; "
        f"setsid sh -c 'echo $$ >> {pids}; exec sleep 62' & "
        f"(sh -c 'echo $$ >> {pids}; exec sleep 63' &) ; wait"
    )
    until(lambda: len(pids_in(pids)) == 3)
    job.cancel()
    job.wait(LONG_S)

    assert State.CANCELLED == job.state
    until(lambda: not any(map(is_alive, pids_in(pids))))


def test_cancel_sends_the_signal_that_was_asked_for(queue, tmp_path, until):
    """A program that saves its work on INT gets INT."""
    got, ready = tmp_path / "got", tmp_path / "ready"
    job = queue.enqueue(
        f"trap 'echo INT > {got}; exit 1' INT; touch {ready}; while :; do sleep 0.05; done"
    )
    until(ready.exists)
    queue.cancel(job, signal=signal.SIGINT)
    job.wait(LONG_S)

    assert "INT\n" == got.read_text()


def test_cancelled_job_is_cancelled_even_if_its_command_then_succeeds(queue, tmp_path, until):
    """The person's word counts, not the exit code of a command that was being ended."""
    ready = tmp_path / "ready"
    job = queue.enqueue(f"trap 'exit 0' TERM; touch {ready}; while :; do sleep 0.05; done")
    until(ready.exists)
    job.cancel()
    job.wait(LONG_S)

    assert State.CANCELLED == job.state


def test_cancel_right_after_the_start_is_not_lost(queue, until):
    """A job that is cancelled while its recorder is only just starting ends all the same."""
    for _ in range(10):
        job = queue.enqueue("sleep 60", grace_s=50)
        until(lambda job=job: job.state is State.PROCESSING)
        job.cancel()
        job.wait(LONG_S)

        assert State.CANCELLED == job.state


def test_signal_that_was_not_heard_is_repeated(queue, until, monkeypatch):
    """A shell's child that has yet to drop its parent's traps hears nothing: it is told again."""
    told: list[int] = []
    kill = os.kill

    def deaf_at_first(pid, number):
        if number == signal.SIGTERM:
            told.append(pid)
        if number != signal.SIGTERM or told.count(pid) > 1:
            kill(pid, number)

    job = queue.enqueue("sleep 60", grace_s=50)
    until(lambda: recorder.is_running(run_path(queue, job)) and job.state is State.PROCESSING)
    until(lambda: recorder.read_record(run_path(queue, job)).pid)
    monkeypatch.setattr(recorder.os, "kill", deaf_at_first)
    job.cancel()
    job.wait(LONG_S)

    assert State.CANCELLED == job.state
    assert 2 == max(map(told.count, told))


def test_signal_that_is_caught_comes_once(queue, until, tmp_path):
    """A command that tidies up when it is asked to end is not asked again and again."""
    job = queue.enqueue(
        "trap 'echo asked' TERM; echo ready; until [ -e go ]; do sleep 0.02; done",
        cwd=str(tmp_path),
        grace_s=50,
    )
    until(lambda: "ready" in job.output)
    job.cancel()
    until(lambda: "asked" in job.output)
    looks = time.monotonic() + 5 * limits.ENDING_S
    until(lambda: time.monotonic() > looks)
    (tmp_path / "go").touch()
    job.wait(LONG_S)

    assert 1 == job.output.count("asked")


def on_disk(job: Job) -> int:
    """Return how many bytes of the disk the log of *job* takes."""
    return os.stat(job.log_path()).st_blocks * 512


def test_output_beyond_its_limit_loses_its_middle_and_says_so(queue, until):
    """Beginning and end stay, the disk holds little more than the limit, the length is kept."""
    limit, printed = 64 * 1024, 40_000_000
    job = queue.enqueue(
        f"echo first; yes | head -c {printed}; echo last", output_bytes_max=limit
    ).wait(LONG_S)
    until(lambda: on_disk(job) < limit + 64 * 1024)

    text = job.output
    assert os.stat(job.log_path()).st_size > printed
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert "bytes of output were dropped here" in text


@pytest.mark.parametrize("limits", [{}, {"output_bytes_max": 64 * 1024}], ids=["default", "own"])
def test_kernel_leaves_the_shortening_of_a_log_to_the_guard(queue, until, monkeypatch, limits):
    """A job that prints a gigabyte a second costs its worker no CPU time while it runs."""
    ours: list[str] = []
    monkeypatch.setattr(output, "drop_middle", lambda path, _: ours.append(path))
    job = queue.enqueue("head -c 400000000 /dev/zero; sleep 60", **limits)
    until(lambda: job.log_path().exists() and job.log_path().stat().st_size >= 400_000_000)
    until(lambda: on_disk(job) < 300_000_000)

    assert [] == ours


def test_reader_that_follows_passes_over_what_was_dropped(queue, until):
    """Byte offsets stay valid: following goes on behind the hole."""
    job = queue.enqueue(
        "echo first; yes | head -c 30000000; echo last", output_bytes_max=64 * 1024
    ).wait(LONG_S)
    until(lambda: on_disk(job) < 128 * 1024)
    pieces = "".join(job.follow())

    assert pieces.startswith("first\n")
    assert pieces.endswith("last\n")
    assert len(pieces) < 400_000


def test_small_output_is_never_touched(queue):
    """Below the limit the log is what the command printed."""
    job = queue.enqueue("seq 1000", output_bytes_max=16 * 1024).wait(LONG_S)

    assert "".join(f"{n}\n" for n in range(1, 1001)) == job.output


@pytest.mark.parametrize(
    "option",
    [{"timeout_s": 0}, {"timeout_s": -1}, {"grace_s": -1}, {"output_bytes_max": 1}],
)
def test_limits_out_of_bounds_are_refused(queue, option):
    """A limit that makes no sense changes nothing."""
    with pytest.raises(InvalidInputError, match="it must be from"):
        queue.enqueue("true", **option)
    assert [] == queue.jobs()
