"""The Python API: a queue and its jobs, without a notebook and without a terminal."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import shutil
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

import queuectl_magics
from queuectl_magics import Job, JobQueue, State, clock, presence
from queuectl_magics.errors import (
    HomeError,
    InvalidInputError,
    JobFailedError,
    OutcomeUnknownError,
    RefusedError,
    UnknownJobError,
)
from queuectl_magics.job import JobSpec, OnLost
from queuectl_magics.jobqueue import Details, JobList, Log, WorkerList, waiting
from queuectl_magics.presence import Presence
from queuectl_magics.settings import Config

SOON_S = 30


@pytest.fixture
def queue(home):
    """A queue without a worker."""
    with JobQueue(home) as opened:
        yield opened


class Printer:
    """What IPython hands to `_repr_pretty_`."""

    def __init__(self):
        self.said = ""

    def text(self, text):
        """Take a piece."""
        self.said += text


def pretty(value) -> str:
    """Show *value* as the terminal of IPython does."""
    printer = Printer()
    value._repr_pretty_(printer, cycle=False)
    return printer.said


# --- opening and closing -------------------------------------------------------------------------


def test_package_offers_three_names_and_its_version():
    """`from queuectl_magics import JobQueue, Job, State` is the whole door."""
    assert {"Job", "JobQueue", "State"} <= set(queuectl_magics.__all__)
    assert queuectl_magics.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="has no attribute 'Jobs'"):
        _ = queuectl_magics.Jobs


def test_queue_is_a_context_that_can_be_opened_again(home):
    """Leaving it stops the worker of this process and keeps the jobs."""
    with JobQueue(home) as queue:
        worker = queue.worker()
        job = queue.enqueue("echo kept").wait(SOON_S)
    assert not worker.is_alive()

    with JobQueue(str(home)) as again:
        assert [job] == again.jobs()
        assert "kept\n" == again.job("1").output
        assert home == again.home


def test_queue_that_is_dropped_leaves_no_descriptor_open(home):
    """Few people close what they have asked only one thing."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        JobQueue(home).status()
    gc.collect()

    assert before == len(os.listdir("/proc/self/fd"))


def test_error_of_a_job_that_failed_is_text(queue, monkeypatch):
    """Names of files, and what was printed, may hold anything at all."""
    job = queue.enqueue("true")
    record = replace(job.record, state=State.DEAD, reason="no \x1b]0;gotcha\x07dir")
    monkeypatch.setattr(Job, "record", record)
    with pytest.raises(JobFailedError) as failed:
        job.check()

    assert str(failed.value).isprintable()


@pytest.mark.parametrize("attempt", [2, 99, -1, "x", True])
def test_output_of_an_attempt_that_never_was_is_refused(queue, attempt):
    """An empty text would be taken for an attempt that printed nothing."""
    job = queue.enqueue("echo on")
    queue.worker()
    job.wait(SOON_S)
    with pytest.raises(InvalidInputError, match="attempts 1 to 1: there is no attempt"):
        job.logs(attempt=attempt)

    assert "on\n" == job.logs(attempt=1)


def test_two_queues_on_one_home_in_one_process_see_the_same_jobs(queue, home):
    """A change through one is seen through the other at its next look."""
    with JobQueue(home) as other:
        first = queue.enqueue("true")
        second = other.enqueue("true")
        other.worker()

        assert [first, second] == queue.jobs() == other.jobs()
        assert [State.COMPLETED] * 2 == [job.state for job in queue.wait(timeout=SOON_S)]


def test_home_that_cannot_be_used_leaves_nothing_open(tmp_path):
    """A settings file that was damaged by hand is told at once, and the files are closed again."""
    (tmp_path / "config.json").write_text("{")
    before = os.listdir("/proc/self/fd")

    with pytest.raises(HomeError, match="mend it"):
        JobQueue(tmp_path)

    assert len(before) == len(os.listdir("/proc/self/fd"))


# --- enqueueing ----------------------------------------------------------------------------------


def test_job_keeps_what_was_asked_for(queue, tmp_path):
    """Every option of a job, in the form of Python and in that of a person."""
    job = queue.enqueue(
        "echo hi",
        id="job1",
        name="greet",
        tags=["a", "b"],
        priority=5,
        max_retries=7,
        backoff_base=3,
        backoff_cap="1h",
        delay="10m",
        timeout=90,
        max_output="64k",
        cwd=tmp_path,
        env={"TOKEN": "s3cret"},
        shell="bash",
    )
    record = job.record

    assert ("job1", "greet", "echo hi", 0) == (job.id, job.name, job.command, job.attempts)
    assert (State.PENDING, None, None, "") == (job.state, job.exit_code, job.elapsed, job.output)
    assert (("a", "b"), 5, 7) == (record.tags, record.priority, record.max_retries)
    assert (3.0, 3600.0, 90.0) == (record.backoff_base, record.backoff_cap_s, record.timeout_s)
    assert (65_536, str(tmp_path), "bash") == (record.output_bytes_max, record.cwd, record.shell)
    assert timedelta(minutes=10) == record.due_at - record.created_at
    assert ("TOKEN",) == record.env_names
    assert "s3cret" not in repr(job) + repr(record) + (queue.home / "journal.jsonl").read_text()


def test_job_takes_the_settings_of_its_moment(queue):
    """What is configured later is for later jobs."""
    queue.configure("max-retries", 5)
    before = queue.enqueue("true")
    queue.configure("max_retries", "9")

    assert (5, 9) == (before.record.max_retries, queue.enqueue("true").record.max_retries)
    assert Config(max_retries=9, count=2) == queue.configure("count", 2) == queue.config


def test_job_of_a_batch_is_what_it_would_be_alone(queue, tmp_path):
    """What jobs beside each other share is worked out once; nothing of one gets into another."""
    plain, named = {}, {"name": "n", "tags": ("t",), "priority": 3}
    full = {
        **named,
        "max_retries": 9,
        "backoff_base": 3.0,
        "backoff_cap_s": 5.0,
        "backoff_jitter": 0.5,
        "delay_s": 60.0,
        "cwd": str(tmp_path),
        "env": {"A": "1"},
        "shell": "bash",
        "timeout_s": 7.0,
        "grace_s": 1.0,
        "output_bytes_max": 20_000,
        "on_lost": OnLost.FAIL,
    }
    assert set(full) | {"command", "id"} == set(JobSpec.__struct_fields__)
    shared = [plain, plain, named, named, full, full, {**full, "env": {"A": "2"}}, plain]
    shared += [{name: value} for name, value in full.items()]
    specs = [JobSpec(command=f"echo {n}", **each) for n, each in enumerate(shared)]

    together = [job.record for job in queue.enqueue_all(specs)]
    alone = [queue.enqueue_all([spec])[0].record for spec in specs]

    for one, other, spec in zip(together, alone, specs, strict=True):
        assert one.command == spec.command
        waits = [job.due_at and job.due_at - job.created_at for job in (one, other)]
        assert waits[0] == waits[1]
        own = {"id": "", "seq": 0, "order": 0, "created_at": None, "updated_at": None}
        assert replace(one, **own, due_at=None) == replace(other, **own, due_at=None)


def test_ids_are_the_next_short_numbers_that_are_free(queue):
    """An id of one's own is passed over, in the queue and within a batch."""
    queue.enqueue("true", id="2")
    jobs = queue.enqueue_all(["a", {"command": "b", "id": "3"}, JobSpec(command="c"), "d"])

    assert ["4", "3", "5", "6"] == [job.id for job in jobs]
    assert ["2", "4", "3", "5", "6"] == [job.id for job in queue.jobs()]


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ([{"command": "a", "id": "x"}, {"command": "b", "id": "x"}], "the id 'x' is taken"),
        (["a", {"command": "b", "id": "old"}], "the id 'old' is taken"),
        (["a", " "], "job 2 of 2: the command is empty"),
        ([{"command": "a", "name": "n"}, {"command": "\0", "name": "n"}], "job 2 of 2: the comm"),
        (["a", {"command": "b", "id": "../x"}], "job 2 of 2: '../x' cannot be an id"),
        (["a", {"command": "b", "priority": 10**9}, "c"], "job 2 of 3: priority is"),
        (["a", JobSpec(command="b", cwd="/no/such"), "c"], "job 2 of 3: the directory"),
        (["a", {"command": "b", "dealy": 1}], "job 2 of 2: a job has no key 'dealy'. Did you"),
        (["a", {"command": "b", "delay": "soon"}], "job 2 of 2: 'soon' is no duration"),
        ([{"command": "a", "priority": "high"}], "the job object does not fit"),
        ([{"command": "a", 5: 6}], "a job has no key 5"),
        ([{"id": "a"}], "the job has no command"),
        ([["a"]], "a job is a JSON object with at least a command"),
        ([5], "a job is a JSON object"),
        ("echo hi", "enqueue_all takes a list of jobs"),
        ({"command": "a"}, "enqueue_all takes a list of jobs"),
    ],
)
def test_batch_is_accepted_whole_or_not_at_all(queue, wanted, line):
    """One bad job, and nothing has changed; the line says which one of several it is."""
    queue.enqueue("true", id="old")

    with pytest.raises(InvalidInputError) as refused:
        queue.enqueue_all(wanted)

    assert line in str(refused.value)
    assert ["old"] == [job.id for job in queue.jobs()]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"tags": 5}, "Expected `array`, got `int` - at `$.tags`"),
        ({"on_lost": "holdd"}, "Invalid enum value 'holdd' - at `$.on_lost`"),
        ({"max_retries": 2.5}, "Expected `int | null`, got `float` - at `$.max_retries`"),
        ({"priority": False}, "Expected `int`, got `bool` - at `$.priority`"),
        ({"backoff_base": float("nan")}, "backoff_base is nan: it must be from 0"),
        ({"priority": object()}, "Expected `int`, got `object` - at `$.priority`"),
        ({"env": {"A": True}}, "Expected `str`, got `bool` - at `$.env[...]`"),
        ({"command": 5}, "Expected `str`, got `int` - at `$.command`"),
        ({"name": 7}, "Expected `str | null`, got `int` - at `$.name`"),
        ({"tags": ["\ud800"]}, "the tag contains half a character"),
    ],
)
def test_spec_of_anything_is_checked_like_any_other_wish(queue, home, values, line):
    """A `JobSpec` takes whatever it is given; the journal must stay readable."""
    good = JobSpec(command="true")
    with pytest.raises(InvalidInputError, match=re.escape(line)):
        queue.enqueue_all([good, JobSpec(**{"command": "true"} | values)])

    assert [] == queue.jobs()
    assert [JobSpec(command="true")] == [good]
    with JobQueue(home) as other:
        assert [] == other.jobs()


def test_command_runs_where_and_as_whom_it_was_enqueued(queue, tmp_path, monkeypatch):
    """The directory, the variables and a relative `cwd` are those of the moment of enqueueing."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "blue")
    here = queue.enqueue('echo "$PWD $COLOUR $SHADE"', env={"SHADE": "dark"})
    below = queue.enqueue("pwd", cwd="sub")
    (other,) = queue.enqueue_all(['echo "$COLOUR"'], environ={"COLOUR": "red"})
    monkeypatch.chdir("/")
    monkeypatch.setenv("COLOUR", "green")
    queue.worker()

    assert f"{tmp_path} blue dark\n" == here.wait(SOON_S).output
    assert f"{tmp_path}/sub\n" == below.wait(SOON_S).output
    assert "red\n" == other.wait(SOON_S).output


@pytest.mark.parametrize(("name", "error"), [("gone", HomeError), ("x\udcff", InvalidInputError)])
def test_directory_that_cannot_be_kept_is_refused(queue, tmp_path, monkeypatch, name, error):
    """It was deleted, or its name is no text."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    if error is HomeError:
        folder.rmdir()

    with pytest.raises(error, match="go to another one"):
        queue.enqueue("true")
    assert [] == queue.jobs()


def test_threads_may_share_a_queue(queue):
    """Eight threads enqueue, one worker runs: every job once, every id different."""
    jobs: list[Job] = []
    queue.worker(8)

    def enqueue(number: int) -> None:
        own = [queue.enqueue(f"echo {number} {turn}") for turn in range(5)]
        jobs.extend(job.wait(SOON_S) for job in own)

    threads = [threading.Thread(target=enqueue, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)

    assert 40 == len({job.id for job in jobs})
    assert Counter({State.COMPLETED: 40}) == Counter(job.state for job in jobs)
    assert 40 == len({job.output for job in jobs})
    assert {1} == {job.record.attempt for job in jobs}


# --- finding -------------------------------------------------------------------------------------


def test_job_is_found_by_id_number_unique_name_or_handle(queue):
    """An id goes before a name."""
    one, two = queue.enqueue_all(["a", {"command": "b", "name": "1"}])
    named = queue.enqueue("c", name="train")

    assert one == queue.job("1") == queue.job(1) == queue.job(one)
    assert named == queue.job("train")
    assert {one, two, named} == {*queue.jobs(), one}
    assert one != "1"
    assert [named, two] == queue.jobs(refs=["train", 2, named])
    assert queue.has("2")
    assert not queue.has("train")


def test_unknown_and_ambiguous_words_are_refused_with_a_way_out(queue):
    """The nearest word, where to look, or the ids that share the name."""
    queue.enqueue_all([{"command": "a", "name": "train"}] * 2)

    with pytest.raises(UnknownJobError, match=r"2 jobs have the name 'train': use an id \(1, 2\)"):
        queue.job("train")
    with pytest.raises(UnknownJobError, match=r"there is no job 'trian'\. Did you mean 'train'"):
        queue.job("trian")
    with pytest.raises(UnknownJobError, match=r"there is no job 'zzz'\. See them with status"):
        queue.job("zzz")


def test_handle_of_another_queue_is_refused(queue, tmp_path):
    """Both have a job 1; to cancel the wrong one would be a disaster."""
    queue.enqueue("true")
    with JobQueue(tmp_path / "other") as other:
        stranger = other.enqueue("true")

        with pytest.raises(InvalidInputError, match="job 1 is in another queue"):
            queue.cancel(stranger)
        assert stranger != queue.job(1)
    assert State.PENDING is queue.job(1).state


def test_jobs_are_chosen_by_state_and_tag(queue):
    """Both at once too; an unknown state is refused."""
    a, b, c = queue.enqueue_all(
        [
            {"command": "a", "tags": ["x"]},
            {"command": "b", "tags": ["x", "y"]},
            "c",
        ]
    )
    b.cancel()

    assert [a, b] == queue.jobs(tag="x")
    assert [b] == queue.jobs("cancelled", tag="x")
    assert [a, c] == queue.jobs(State.PENDING)
    assert [] == queue.jobs("dead")
    with pytest.raises(InvalidInputError, match=r"there is no state 'pendign'\. Did you mean"):
        queue.jobs("pendign")


def test_frame_of_a_job_has_a_row_an_attempt(queue):
    """What each attempt came to and cost, ready to be computed with."""
    queue.worker()
    job = queue.enqueue("exit 3", max_retries=2, backoff_base=0.01).wait(timeout=30)
    frame = job.frame()

    assert [1, 2] == frame.index.to_list()
    assert [3, 3] == frame.exit_code.to_list()
    assert (frame.elapsed.dt.total_seconds() > 0).all()
    assert (frame.cpu_s > 0).all()


def test_status_and_frame_are_pictures_of_the_queue(queue):
    """The jobs asked for, and the counts of all."""
    queue.enqueue_all(["a", "b"])
    queue.job(2).cancel()
    status = queue.status("pending")

    assert (["1"], 2, 1, 0) == (
        [job.id for job in status.jobs],
        status.total,
        status.counts[State.CANCELLED],
        status.workers,
    )
    assert ["pending", "cancelled"] == list(queue.frame().state)
    assert ["2"] == list(queue.frame(refs=[2]).index)
    assert f"<JobQueue {queue.home}: 1 pending, 1 cancelled>" == repr(queue)


# --- changing ------------------------------------------------------------------------------------


def test_several_jobs_are_changed_together_or_not_at_all(queue):
    """One that refuses keeps the others as they are; one that is named twice counts once."""
    queue.enqueue_all(["a", "b", {"command": "c", "name": "last"}])
    assert ["2"] == [job.id for job in queue.cancel("2", 2)]

    with pytest.raises(RefusedError, match="job 2 is cancelled"):
        queue.cancel(1, 2)
    with pytest.raises(UnknownJobError):
        queue.cancel(1, "nope")
    with pytest.raises(RefusedError, match="job 1 is pending"):
        queue.retry(2, 1)

    assert "pending cancelled pending" == " ".join(job.state for job in queue.jobs())
    assert ["3", "1"] == [job.id for job in queue.cancel("last", 3, 1)]
    assert [] == queue.cancel() == queue.retry()


@pytest.mark.parametrize("signal", ["INT", 0, 999, True, None, 15.0, []])
def test_signal_that_no_process_can_be_sent_cancels_nothing(queue, signal):
    """It would be in the journal, where nobody could read it any more."""
    job = queue.enqueue("true")
    with pytest.raises(InvalidInputError, match="is no signal: give its number"):
        queue.cancel(job, signal=signal)

    assert "pending" == job.state


def test_job_can_be_retried_after_its_death_and_keeps_its_history(queue):
    """`attempts` starts again at 0; the number of the attempt goes on."""
    job = queue.enqueue("echo tried >&2; exit 3", max_retries=2, backoff_base=0)
    queue.worker()
    job.wait(SOON_S)
    assert (State.DEAD, 3, 2) == (job.state, job.exit_code, job.attempts)
    assert job.elapsed < timedelta(seconds=SOON_S)

    with pytest.raises(JobFailedError, match="job 1 is dead: exit 3\ntried"):
        job.check()
    queue.pause()
    assert (State.PENDING, 0) == (job.retry().state, job.attempts)
    with pytest.raises(RefusedError):
        job.retry()
    queue.resume()
    assert 2 == job.wait(SOON_S).attempts
    assert [1, 2, 3, 4] == [attempt.number for attempt in job.record.all_attempts()]
    assert "tried\n" == job.logs(attempt=4) == job.logs(attempt=1)
    with pytest.raises(InvalidInputError, match="has had attempts 1 to 4: there is no attempt 5"):
        job.check_attempt(5)
    with pytest.raises(RefusedError, match="job 1 is dead"):
        job.cancel()


def test_only_what_is_over_can_be_pruned_and_its_logs_go_too(queue):
    """Completed and cancelled jobs by default, dead ones when asked for; never the newest."""
    done = queue.enqueue_all(["echo 1", "echo 2", {"command": "false", "max_retries": 1}])
    queue.worker()
    queue.wait(timeout=SOON_S)
    queue.pause()
    queue.enqueue("true")
    log = done[0].log_path()
    assert log.exists()

    assert [] == queue.prune(older_than_s=3600)
    assert ["1"] == queue.prune(keep=1)
    assert not log.exists()
    assert "<Job 1: pruned>" == repr(done[0])
    with pytest.raises(UnknownJobError, match="job 1 is no longer in the queue: it was pruned"):
        _ = done[0].state
    with pytest.raises(RefusedError, match="job 4 is pending"):
        queue.prune(2, 4)
    with pytest.raises(RefusedError, match="only completed, dead and cancelled"):
        queue.prune(states=[State.PENDING])
    assert ["3"] == queue.prune(states=[State.DEAD])
    assert ["2"] == queue.prune("2", 2)
    assert ["4"] == [job.id for job in queue.jobs()]


# --- waiting -------------------------------------------------------------------------------------


def test_wait_gives_up_in_time_and_leaves_the_jobs_alone(queue):
    """The line names who is not over; a warning says that nobody works."""
    jobs = queue.enqueue_all(["sleep 60"] * 12)

    with (
        pytest.warns(UserWarning, match="no worker is running, so nothing will happen until"),
        pytest.raises(TimeoutError, match=r"over after 0.1 s: 1, 2, .*10 … \(the jobs go on\)"),
    ):
        queue.wait(timeout=0.1)
    queue.pause()
    with pytest.warns(UserWarning, match="the queue is paused"), pytest.raises(TimeoutError):
        jobs[0].wait(0)

    assert 12 == queue.status().counts[State.PENDING]


def test_wait_returns_the_jobs_named_or_all(queue):
    """What was looked at is handed on, for a progress bar; pruned jobs are left out."""
    looks = []
    queue.worker()
    first, second = queue.enqueue_all(["true", "exit 0"])

    assert [second] == queue.wait(second, timeout=SOON_S, on_look=looks.append)
    assert [first, second] == queue.wait(timeout=SOON_S)
    assert "2" == looks[-1][0].id
    queue.prune(1)
    assert [second] == queue.wait()
    assert second is second.check()


def test_wait_for_many_does_not_wake_at_every_news(queue, monkeypatch):
    """Until few are left it only looks now and then; the last ones are told of at once."""
    jobs = queue.enqueue_all(["true"] * 40)
    looks = []

    def cancel_some(kind: str, count: int) -> None:
        looks.append((kind, len(jobs)))
        queue.cancel(*jobs[:count])
        del jobs[:count]

    sleep = SimpleNamespace(sleep=lambda _: cancel_some("sleep", 15))
    monkeypatch.setattr(waiting, "time", sleep)
    monkeypatch.setattr(queue.store, "wait_for_news", lambda _: cancel_some("news", 5))
    with pytest.warns(UserWarning, match="no worker"):
        queue.wait()

    assert [("sleep", 40), ("sleep", 25), ("news", 10), ("news", 5)] == looks


def test_await_waits_without_blocking(queue):
    """Other coroutines go on meanwhile."""
    queue.worker()

    async def both() -> list[State]:
        jobs = queue.enqueue_all(["sleep 0.2", "exit 1"])
        return [job.state for job in await asyncio.gather(*jobs)]

    queue.configure("max-retries", 1)
    with ThreadPoolExecutor() as pool:  # a browser of other tests may hold this thread's loop
        assert [State.COMPLETED, State.DEAD] == pool.submit(lambda: asyncio.run(both())).result()


def test_following_yields_every_attempt_as_it_comes(queue, tmp_path):
    """Nothing is lost between a look and the next, nor between attempts; characters stay whole."""
    flag = tmp_path / "go"
    job = queue.enqueue(
        f"printf 'né'; while ! [ -e {flag} ]; do sleep 0.01; done; printf 'e\\n'; exit 1",
        max_retries=2,
        backoff_base=0,
    )
    queue.worker()
    told = []
    for piece in job.follow():
        told.append(piece)
        if "né" in "".join(told):
            flag.touch()

    assert "née\nnée\n" == "".join(told)
    assert ["née\n", ""] == ["".join(job.follow(lines=lines)) for lines in (1, 0)]


def test_following_starts_with_the_last_lines(queue):
    """Exactly so many, whether or not the last one is finished, and however long the log."""
    long = queue.enqueue("seq 1 30000")
    torn = queue.enqueue("printf 'a\\nb\\nc'")
    queue.worker()
    queue.wait(timeout=SOON_S)

    assert "29999\n30000\n" == "".join(long.follow(lines=2))
    assert "b\nc" == "".join(torn.follow(lines=2)) == torn.logs(lines=2)
    assert "a\nb\nc" == "".join(torn.follow(lines=9)) == "".join(torn.follow()) == torn.output
    pieces = list(long.follow())
    assert long.output == "".join(pieces)
    assert len(pieces) > 1
    assert all(piece.endswith("\n") for piece in pieces)


def test_following_what_nobody_runs_says_so(queue):
    """Otherwise it would be silent for ever."""
    job = queue.enqueue("true")

    pieces = job.follow()
    threading.Timer(0.2, job.cancel).start()

    with pytest.warns(UserWarning, match="no worker is running"):
        assert [] == list(pieces)


# --- workers -------------------------------------------------------------------------------------


def test_worker_of_this_process_is_one_and_its_count_can_be_changed(queue, until):
    """Asking again returns the same; a count counts from now on."""
    worker = queue.worker()
    assert (worker, worker) == (queue.worker(3), queue.own_worker)
    assert until(lambda: [3] == [info.count for info in queue.workers()])
    assert worker is queue.worker()
    assert [3] == [info.count for info in queue.workers()]

    queue.enqueue_all(["sleep 60"] * 4)
    until(lambda: 3 == queue.status().counts[State.PROCESSING])
    assert [worker.name] == [info.name for info in queue.stop_workers(now=True)]
    assert worker.join(SOON_S)
    assert 4 == queue.status().counts[State.PENDING]
    with pytest.raises(RefusedError, match="no worker is running: there is nothing to stop"):
        queue.stop_workers()


def test_job_is_accepted_though_nobody_can_be_woken(queue, monkeypatch):
    """No descriptor is free: it is stored, so nothing may be raised; workers look now and then."""

    def refuse(_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "scandir", refuse)

    assert "pending" == queue.enqueue("true").state


def test_worker_follows_the_setting_of_durability(queue, home, until):
    """Whoever sets it in another process means all workers of the home."""
    queue.configure("durability", "none")
    queue.worker()
    with JobQueue(home) as other:
        for word in ("commit", "none"):
            other.configure("durability", word)
            assert until(lambda word=word: word == queue.store.durability)


def test_workers_of_other_processes_hear_of_a_job_though_we_have_our_own(queue, monkeypatch):
    """Ours may be full: each change wakes it and everybody else, and each of them once."""
    rung = []
    mine = queue.worker()
    other = Presence(queue.store.paths.workers, kind="terminal", count=1, now=clock.utc_now())
    other.announce()
    monkeypatch.setattr(mine, "ring", lambda: rung.append("mine") or mine.name)
    monkeypatch.setattr(presence, "_is_ringing", lambda fd: rung.append("other"))
    queue.enqueue("true", delay="1h")

    assert ["mine", "other"] == rung
    assert presence.LOOK == other.listen()
    other.leave()


def test_the_others_hear_of_a_job_though_the_disk_did_not_confirm_it(queue, monkeypatch):
    """It is there for everyone to see, whether it will outlive a power cut or not."""

    def no_disk(_fd):
        raise OSError(errno.EIO, "it is broken")

    queue.worker()
    other = Presence(queue.store.paths.workers, kind="terminal", count=1, now=clock.utc_now())
    other.announce()
    queue.enqueue("true", delay="1h")
    assert presence.LOOK == other.listen()
    monkeypatch.setattr(os, "fdatasync", no_disk)
    with pytest.raises(OutcomeUnknownError):
        queue.enqueue("true", delay="1h")

    assert presence.LOOK == other.listen()
    other.leave()


@pytest.mark.parametrize("count", [0, -1, 1001, 2.5, "2", True])
def test_absurd_count_starts_no_worker(queue, count):
    """None means the setting; nothing else does."""
    with pytest.raises(InvalidInputError, match="must be a whole number from 1 to 1,000"):
        queue.worker(count)

    assert queue.own_worker is None


def test_job_of_a_worker_that_is_gone_can_be_cancelled(queue, own_home, until):
    """Nobody is there to do it: whoever asks ends its processes."""
    with JobQueue(own_home) as other:
        other.worker()
        job = queue.enqueue("sleep 60")
        until(lambda: job.state is State.PROCESSING and job.record.attempt == 1)
    assert ["1"] == [record.id for record in queue.strays()]

    assert State.CANCELLED is job.cancel().state
    assert [] == queue.strays()


# --- how they look -------------------------------------------------------------------------------


def test_values_know_how_to_be_looked_at(queue, home):
    """As text and as markup, both escaped; what a job printed is shown as it is."""
    queue.worker()
    job = queue.enqueue("echo '<b>'", name="<i>").wait(SOON_S)
    several = JobList(queue.jobs())
    details = Details(job.record, queue.status(refs=[job]))

    assert repr(job).startswith("<✓ 1 <i> · completed in")
    assert "&lt;i&gt;" in job._repr_html_()
    assert "completed" in pretty(several)
    assert "<i>" not in several._repr_html_() + details._repr_html_()
    assert repr(details).startswith("id:          1\nname:        <i>\n")
    assert "<b>" == pretty(Log("<b>\n"))
    assert Log("shown already", followed=True)._ipython_display_() is None
    with pytest.raises(NotImplementedError):
        Log("not yet")._ipython_display_()
    assert "in a python: one job at a time" in pretty(WorkerList(queue))
    assert "1 worker as of" in WorkerList(queue)._repr_html_()
    assert WorkerList(queue, told="asked to stop")._repr_html_() is None
    queue.prune()
    assert [] == several.records == JobList().records
    assert "No jobs." == pretty(several)


def test_plain_values_say_nothing_that_varies(home):
    """No id, time or place, so that a saved notebook can be compared with a new run."""
    with JobQueue(home, plain=True) as queue:
        job = queue.enqueue("true", name="train", tags=["x"])
        several, details = JobList([job]), Details(job.record, queue.status(), plain=True)

        assert "<job · train>" == repr(job)
        assert several._repr_html_() is details._repr_html_() is None
        assert "true" in pretty(several)
        assert not re.search(r"\d{4}-\d\d", pretty(several) + repr(details))
        assert "No worker is running." == pretty(WorkerList(queue))
        worker = queue.worker()
        assert "A worker is running." == pretty(WorkerList(queue))
        assert WorkerList(queue)._repr_html_() is None
        assert "A worker is told." == pretty(WorkerList(queue, told="is told"))
        worker.stop()


def test_home_that_was_deleted_is_told_even_by_a_repr(tmp_path):
    """A notebook shows a repr: it must not end in a traceback."""
    queue = JobQueue(tmp_path / "q")
    job = queue.enqueue("true")
    shutil.rmtree(queue.home)

    assert "was deleted while it was in use" in repr(queue)
    assert "was deleted while it was in use" in repr(job)
    with pytest.raises(HomeError):
        queue.enqueue("true")


def test_job_can_be_a_key_and_is_the_same_in_every_handle(queue):
    """Two handles mean the same job if their queues have the same home."""
    job = queue.enqueue("true")

    assert {job: 1} == {Job(queue, "1"): 1}
    assert queue is job.queue
    assert queue.home / "logs" / "1.0.log" == job.log_path()


def test_several_jobs_may_come_in_a_list(queue):
    """What `enqueue_all` and `jobs` return is taken as it is; a text is one name, not letters."""
    jobs = queue.enqueue_all(["true"] * 12)
    assert ["12"] == [record.id for record in queue.records(refs="12")]
    assert ["1", "3", "2"] == [job.id for job in queue.jobs(refs=[jobs[0], [3], "2"])]

    queue.cancel(jobs[:2], [3])
    assert 3 == len(queue.jobs(["cancelled", "dead"])) == len(queue.retry(queue.jobs("cancelled")))
    queue.worker(2)
    assert jobs[-1].id == queue.wait(jobs, timeout="30s")[-1].id


def test_no_job_is_not_every_job(queue):
    """A selection that turns out to be empty changes nothing, and there is nothing to wait for."""
    queue.enqueue("true", id="over").cancel()
    queue.enqueue("true")

    assert [] == queue.wait([]) == queue.cancel([]) == queue.retry([]) == queue.prune([])
    assert [] == queue.records(refs=[]) == list(queue.status(refs=[]).jobs) == queue.jobs([])
    assert 2 == len(queue.jobs())


@pytest.mark.parametrize("timeout", ["10 parsecs", [], float("nan"), True])
def test_waiting_for_no_time_is_refused(queue, timeout):
    """A nan would wait for ever."""
    job = queue.enqueue("true")

    with pytest.raises(InvalidInputError):
        job.wait(timeout)


def test_waiting_takes_a_time_as_a_text_or_a_span(queue):
    """As everything else does that takes a time."""
    job = queue.enqueue("true")

    for timeout in ("1ms", timedelta(milliseconds=1)):
        with pytest.warns(UserWarning, match="no worker"), pytest.raises(TimeoutError):
            job.wait(timeout)


def test_await_is_as_honest_as_wait(queue):
    """It warns when nothing runs, refuses what is gone, and does not block."""
    job = queue.enqueue("true")

    async def wait() -> None:
        await asyncio.wait_for(job, 0.3)

    with (
        ThreadPoolExecutor(1) as pool,
        pytest.warns(UserWarning, match="no worker is running"),
        pytest.raises(TimeoutError),
    ):
        pool.submit(lambda: asyncio.run(wait())).result()
    queue.prune(job.cancel())
    with ThreadPoolExecutor(1) as pool, pytest.raises(UnknownJobError):
        pool.submit(lambda: asyncio.run(wait())).result()


def test_warning_names_the_line_that_waits(queue):
    """However it waits: the place is the caller's, not ours."""
    job = queue.enqueue("true")

    for wait in (queue.wait, job.wait):
        with pytest.warns(UserWarning, match="no worker") as told, pytest.raises(TimeoutError):
            wait(timeout=0.01)
        assert __file__ == told[0].filename


def test_waiting_for_what_runs_does_not_speak_of_a_pause(queue, until):
    """A pause holds back what waits, and nothing else."""
    queue.worker()
    job = queue.enqueue("sleep 0.3")
    until(lambda: job.state is State.PROCESSING)
    queue.pause()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert State.COMPLETED is job.wait(SOON_S).state


def test_log_is_told_to_the_line_however_long_it_is(queue):
    """The last lines are all of them, whatever their length, and as `follow` has them."""
    queue.worker()
    job = queue.enqueue("seq -f 'line %050.0f' 1 5000; printf '\\n\\n'").wait(SOON_S)

    found = job.logs(lines=3002)
    assert 3001 == found.count("\n")
    assert found.startswith(f"line {2001:050}\n")
    assert found + "\n" == "".join(job.follow(lines=3002))
    assert len(job.tail(lines=3002)) < 66_000


def test_each_attempt_is_read_on_its_own(queue, tmp_path):
    """Half a character at the end of one does not become whole in the next."""
    queue.worker()
    gate = tmp_path / "gate"
    first = f"printf 'a\\342'; until [ -e {gate} ]; do sleep 0.01; done; exit 1"
    both = f"if [ $QUEUECTL_ATTEMPT = 1 ]; then {first}; else printf '\\202\\254b'; fi"
    pieces = queue.enqueue(both, max_retries=2, backoff_base=0).follow()

    assert "a" == next(pieces)
    gate.touch()
    assert "\ufffd\ufffd\ufffdb" == "".join(pieces)
    assert "abc\ufffd" == "".join(queue.enqueue(r"printf 'abc\342\202'").follow())


@pytest.mark.parametrize(
    "asked", [{"attempt": 0}, {"attempt": "1"}, {"lines": -1}, {"lines": 2.5}]
)
def test_log_of_nothing_is_refused(queue, asked):
    """Nothing is taken for the latest attempt, or for all but the first lines."""
    queue.worker()
    job = queue.enqueue("echo a").wait(SOON_S)

    with pytest.raises(InvalidInputError):
        job.logs(**asked)
    assert "a" == job.logs(attempt=job.frame().index[0], lines=1)


def test_handle_of_a_job_that_was_pruned_is_shown_without_a_traceback(queue):
    """A cell says what became of it."""
    job = queue.enqueue("true").cancel()
    queue.prune(job)

    assert "&lt;Job 1: pruned&gt;" == job._repr_html_()


def test_jobs_are_retried_by_state_in_one_step(queue):
    """Whatever else a worker takes in the meantime."""
    queue.enqueue_all(["true"] * 3)
    queue.cancel(1, 2)

    assert ["1", "2"] == [job.id for job in queue.retry("1", states="cancelled")]
    assert [] == queue.retry(states=["dead", "failed"])


def test_cancelling_need_not_wait_for_a_job_that_nobody_has_in_hand(queue, own_home, until):
    """It is ended in the background, within its grace."""
    with JobQueue(own_home) as other:
        other.worker()
        job = queue.enqueue("trap '' TERM; while :; do sleep 0.1; done", grace="1s")
        until(lambda: job.state is State.PROCESSING and job.record.attempt == 1)

    queue.cancel(job, wait=False)
    assert "cancelled" == job.record.stopping

    until(lambda: job.state is State.CANCELLED)


def test_frame_of_jobs_names_them_by_its_index(queue):
    """The rows of a selection are the jobs that are meant; as commands they mean nothing."""
    queue.enqueue_all(["true"] * 3)
    frame = queue.frame()

    assert ["2", "3"] == [job.id for job in queue.jobs(refs=frame[1:])]
    with pytest.raises(InvalidInputError, match=r"give a column, or .to_dict\('records'\)"):
        queue.enqueue_all(frame)
    assert 3 == len(queue.enqueue_all(frame.command))
    assert ["2"] == [job.id for job in queue.jobs(refs=frame.reset_index()[1:2])]
    with pytest.raises(InvalidInputError, match="it has no index or column `id`"):
        queue.cancel(frame.reset_index(drop=True))


def test_what_people_write_can_be_imported_from_the_package():
    """The classes that signatures and docstrings speak of."""
    for name in queuectl_magics.__all__:
        assert getattr(queuectl_magics, name).__module__.startswith("queuectl_magics")
    assert queuectl_magics.JobSpec is JobSpec


@pytest.mark.parametrize("home", [5, b"/tmp/x", "/tmp/\ud800x", " ", "a\0b"])
def test_what_names_no_directory_is_no_home(home):
    """One line, and nothing is made."""
    with pytest.raises(InvalidInputError, match="cannot be the queue's home: name a directory"):
        JobQueue(home)
