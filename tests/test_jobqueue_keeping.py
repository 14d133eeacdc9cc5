"""What stays of jobs that are over: archived ones are found, pruned ones leave no trace."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuectl_magics import JobQueue, environment, output, recorder
from queuectl_magics.errors import InvalidInputError, RefusedError, UnknownJobError
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobList, keeping
from queuectl_magics.store import archive
from queuectl_magics.views.text import jobs as as_text

DAY_S = 86_400.0


@pytest.fixture
def queue(own_home) -> Iterator[JobQueue]:
    """A queue with no jobs and no worker."""
    with closing(JobQueue(own_home)) as opened:
        yield opened


def end(queue: JobQueue, *commands: str, **options: object) -> list[str]:
    """Enqueue commands, run them to their end, and return their ids."""
    jobs = [queue.enqueue(command, **options) for command in commands]
    mine = queue.new_worker(drain=True)
    mine.start()
    assert mine.join(60)
    return [job.id for job in jobs]


def files(queue: JobQueue, *folders: str) -> list[str]:
    """Return the names of what lies in those folders of the home."""
    return sorted(path.name for folder in folders for path in (queue.home / folder).iterdir())


def make_old(queue: JobQueue, *, but: str | None = None) -> None:
    """Make the kept environments look as if they had been kept two days ago."""
    then = time.time() - 2 * DAY_S
    for path in (queue.home / "env").iterdir():
        if path.stem != but:
            os.utime(path, (then, then))


# --- the archive --------------------------------------------------------------------------------


def test_an_archived_job_is_shown_with_its_output(queue):
    """Its record comes from the archive, and its log has stayed where it was."""
    (id,) = end(queue, "echo hello")
    archive.move_finished(queue.store, 0)

    job = queue.job(id)

    assert State.COMPLETED is job.state
    assert "hello\n" == job.output
    assert [id] == [record.id for record in queue.status(refs=[id]).jobs]


def test_a_handle_goes_on_telling_of_its_job_when_that_is_archived(queue):
    """Whoever holds a job does not lose it because an idle worker tidies."""
    job = queue.enqueue("true")
    listed = JobList(queue.jobs())
    job.cancel()

    archive.move_finished(queue.store, 0)

    assert State.CANCELLED is job.state
    assert [State.CANCELLED] == [record.state for record in listed.records]
    assert "1" in as_text(listed.records)


def test_all_jobs_are_listed_once_in_the_order_in_which_they_came(queue):
    """The archive is listed only when it is asked for."""
    for _ in range(4):
        queue.enqueue("true").cancel()
    archive.move_finished(queue.store, 2)

    assert ["3", "4"] == [job.id for job in queue.jobs()]
    assert ["1", "2", "3", "4"] == [job.id for job in queue.jobs(archived=True)]
    assert ["1", "2", "3", "4"] == [one.id for one in JobList(queue.jobs(archived=True)).records]


def test_states_and_tags_hold_for_the_archive_too(queue):
    """What is listed with `--all` can be narrowed as without."""
    queue.enqueue("true", tags=["a"]).cancel()
    queue.enqueue("true", tags=["b"]).cancel()
    archive.move_finished(queue.store, 0)

    assert ["2"] == [job.id for job in queue.jobs(tag="b", archived=True)]
    assert [] == queue.jobs("dead", archived=True)


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_an_archived_job_cannot_be_changed(queue, verb):
    """It is history; the message says what can be done."""
    queue.enqueue("true").cancel()
    archive.move_finished(queue.store, 0)

    with pytest.raises(RefusedError, match="job 1 is in the archive: it can be shown"):
        getattr(queue, verb)("1")


def test_an_unknown_job_is_unknown_with_an_archive_as_without(queue):
    """The search ends with the same words."""
    queue.enqueue("true").cancel()
    archive.move_finished(queue.store, 0)
    queue.enqueue("true")

    with pytest.raises(UnknownJobError, match="there is no job '7'"):
        queue.job("7")
    with pytest.raises(UnknownJobError, match="there is no job '7'"):
        queue.retry("7")


def test_jobs_of_the_queue_and_of_the_archive_can_be_named_together(queue):
    """Each word is looked up on its own, in the order in which it was named."""
    queue.enqueue("true").cancel()
    archive.move_finished(queue.store, 0)
    queue.enqueue("true", name="train")

    found = queue.records(refs=["train", "1"])

    assert ["2", "1"] == [record.id for record in found]


def test_the_id_of_an_archived_job_that_has_a_log_is_taken(queue):
    """A new job would write into the old one's log."""
    end(queue, "echo old", id="train")
    archive.move_finished(queue.store, 0)

    with pytest.raises(InvalidInputError, match="'train' is taken by a job in the archive"):
        queue.enqueue("echo new", id="train")


def test_a_new_job_never_begins_with_the_log_of_a_pruned_one(queue):
    """A log that a crash has left behind goes when its id is used again, and no other does."""
    folder = queue.home / "logs"
    for name in ("train.1.log", "train.2.log", "train.x.1.log", "train.x.log"):
        (folder / name).write_text("old\n")

    job = queue.enqueue("echo new", id="train")

    assert ["train.x.1.log", "train.x.log"] == files(queue, "logs")
    job.cancel()


def test_an_idle_worker_archives_by_the_setting(queue, until):
    """It happens by itself, some seconds after the last job."""
    queue.configure("keep-finished", "1")
    end(queue, "true", "true", "true")

    queue.worker()

    until(lambda: len(queue.jobs()) == 1)
    assert ["1", "2", "3"] == [job.id for job in queue.jobs(archived=True)]


def test_the_command_line_shows_and_lists_what_is_archived(queue, terminal):
    """`show` and `list --all` find it; `list` does not."""
    queue.enqueue("echo first").cancel()
    queue.enqueue("echo second")
    archive.move_finished(queue.store, 0)

    shown = json.loads(terminal.run("show", "1", "--json"))
    listed = json.loads(terminal.run("list", "--all", "--json"))

    assert ("1", "echo first") == (shown["id"], shown["command"])
    assert ["1", "2"] == [job["id"] for job in listed]
    assert "echo first" not in terminal.run("list")


# --- prune --------------------------------------------------------------------------------------


def test_a_pruned_job_leaves_no_trace(queue):
    """Its logs, of all its attempts, and what was left of its runs go with it."""
    ids = end(queue, "exit 1", "echo kept", max_retries=2, backoff_base=0)
    (queue.home / "run" / f"{ids[0]}.1.0a1b2c3d.run").write_text("left by a crash")
    (queue.home / "run" / f"{ids[0]}.2.4e5f6a7b.script").write_text("left by a crash")
    assert ["1.1.log", "1.2.log", "2.1.log"] == files(queue, "logs")

    queue.prune(ids[0])

    assert ["2.1.log"] == files(queue, "logs", "run")
    assert ["2"] == [job.id for job in queue.jobs()]


def test_many_attempts_leave_no_log_behind(queue, monkeypatch):
    """A history that was cut does not hide the logs of its oldest attempts."""
    monkeypatch.setattr("queuectl_magics.lifecycle.HISTORY_MAX", 2)
    (id,) = end(queue, "exit 1", max_retries=6, backoff_base=0)
    assert 6 == len(files(queue, "logs"))

    queue.prune(id)

    assert [] == files(queue, "logs")


def test_a_new_job_with_the_id_of_a_pruned_one_keeps_its_log(queue):
    """Between the pruning and the removal of the files another process may have used the id."""
    end(queue, "echo old", id="train")
    with queue.store.reading() as table:
        old = table.jobs["train"]
    queue.prune("train")
    end(queue, "echo new", id="train")

    keeping.remove_traces(queue.store, [old])

    assert "new\n" == queue.job("train").output


def test_prune_drops_old_ends_and_keeps_the_newest(queue):
    """Age, state and number narrow what goes; dead jobs go only when they are asked for."""
    end(queue, "true", "true", "exit 1", max_retries=1)

    assert [] == queue.prune(older_than_s=3600) == queue.prune(older_than_s="1h")
    assert ["1"] == queue.prune(keep=1)
    assert ["2"] == queue.prune(states="completed")
    assert ["3"] == queue.prune(states=[State.DEAD])


@pytest.mark.parametrize(
    "given", [{"keep": 2.5}, {"keep": -1}, {"older_than_s": "old"}, {"states": ["ded"]}]
)
def test_absurd_wish_prunes_nothing(queue, given):
    """Bad input changes nothing."""
    end(queue, "true")

    with pytest.raises(InvalidInputError):
        queue.prune(**given)

    assert ["1"] == [job.id for job in queue.jobs()]


def test_newest_means_ended_last_not_enqueued_last(queue):
    """A job that waited long and has only just ended is the newest."""
    waited = queue.enqueue("true", delay=3600)
    queue.enqueue("true").cancel()
    waited.cancel()

    assert ["2"] == queue.prune(keep=1)


def test_an_archived_job_is_pruned_with_its_log_by_its_id(queue):
    """Else the logs of a long life would stay for ever; the other lines stay as they are."""
    end(queue, "echo one", "echo two", "exit 1", max_retries=1)
    archive.move_finished(queue.store, 0)
    (path,) = archive.paths(queue.home)
    lines = path.read_bytes().splitlines()

    assert ["1"] == queue.prune("1")

    assert lines[1:] == path.read_bytes().splitlines()
    assert ["2.1.log", "3.1.log"] == files(queue, "logs")
    assert ["2", "3"] == [job.id for job in queue.jobs(archived=True)]
    with pytest.raises(UnknownJobError):
        queue.prune("1")


def test_age_and_number_hold_for_the_queue_and_its_archive_together(queue):
    """The archive has the oldest ends: they are what a person means to drop."""
    end(queue, "true", "true", "true")
    archive.move_finished(queue.store, 1)
    assert ["3"] == [job.id for job in queue.jobs()]

    assert [] == queue.prune(older_than_s=3600)
    assert ["1"] == queue.prune(keep=2)
    assert ["2", "3"] == queue.prune()
    assert [] == archive.paths(queue.home)
    assert [] == files(queue, "logs")


def test_pruning_an_archive_that_fails_changes_nothing_in_it(queue, monkeypatch):
    """A full disk: it is as it was, without a draft beside it, and may be pruned later."""
    end(queue, "true", "true")
    archive.move_finished(queue.store, 0)

    def write_half(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, "write_file", write_half)
    with pytest.raises(OSError, match="No space"):
        queue.prune("1")
    monkeypatch.undo()

    assert ["1", "2"] == [job.id for job in queue.jobs(archived=True)]
    assert [] == list(queue.home.glob("*.tmp"))
    assert ["1"] == queue.prune("1")


def test_a_pruned_job_does_not_come_back_from_an_unfinished_archiving(queue, monkeypatch):
    """What a crash has left in the archive goes with the job."""
    queue.enqueue("true").cancel()
    queue.enqueue("true").cancel()
    with queue.store.reading() as table:
        archive._append(queue.home, list(table.jobs.values()), queue.store.now())

    queue.prune("1")

    assert ["2"] == [job.id for job in queue.jobs(archived=True)]


# --- kept environments --------------------------------------------------------------------------


def test_an_environment_goes_when_no_job_refers_to_it_any_more(queue):
    """Values are not kept for longer than they are of use."""
    queue.enqueue("true", env={"TOKEN": "old"}).cancel()
    kept = queue.enqueue("true", env={"TOKEN": "new"})
    make_old(queue)
    assert 3 == len(files(queue, "env"))

    queue.prune("1")

    wanted = {f"{kept.record.env_ref}.env", f"{kept.record.environ_ref}.env"}
    assert wanted == set(files(queue, "env"))


def test_an_environment_of_today_stays(queue):
    """A job that is about to be accepted may refer to it."""
    queue.enqueue("true", env={"TOKEN": "new"}).cancel()

    queue.prune("1")

    assert 2 == len(files(queue, "env"))


def test_a_draft_that_was_never_finished_goes_too(queue):
    """What a killed process has left is litter, and holds values."""
    queue.enqueue("true").cancel()
    (queue.home / "env" / "x.1234.tmp").write_text("TOKEN=x")
    make_old(queue)

    queue.prune("1")

    assert [] == files(queue, "env")


def test_an_environment_that_is_swept_while_a_job_is_accepted_is_kept_again(
    queue, own_home, monkeypatch
):
    """The job finds its variables, although another process has just removed the file."""
    queue.enqueue("true", env={"TOKEN": "old"}).cancel()
    make_old(queue)
    keep = environment.keep

    def keep_and_lose(folder, variables):
        reference = keep(folder, variables)
        if variables.get("TOKEN") and len(queue.jobs()) == 1:
            make_old(queue)
            with closing(JobQueue(own_home)) as other:
                other.prune("1")
        return reference

    monkeypatch.setattr(environment, "keep", keep_and_lose)
    job = queue.enqueue("true", env={"TOKEN": "old"})

    assert {"TOKEN": "old"} == environment._recall.__wrapped__(
        queue.store.paths.env, job.record.env_ref
    )
    assert (queue.store.paths.env / f"{job.record.environ_ref}.env").exists()


def test_the_names_of_files_are_those_of_the_others(queue):
    """What is removed is what the recorder and the log writer have named."""
    run = recorder.run_path(queue.store.paths.run, "1", 2, "0a1b2c3d")

    assert "1.2.0a1b2c3d.run" == run.name
    assert "1.2.0a1b2c3d.script" == Path(recorder.script_path(str(run))).name
    assert "1.2.log" == output.log_path(queue.store.paths.logs, "1", 2).name


def test_jobs_that_went_to_the_archive_are_waited_for_and_found_by_name(queue):
    """Whether an idle worker has been there makes no difference."""
    queue.configure("keep-finished", 1)
    jobs = queue.enqueue_all([{"command": "true", "name": f"n{n}"} for n in range(4)])
    mine = queue.new_worker(drain=True)
    mine.start()
    assert ["1", "2", "3", "4"] == [job.id for job in queue.wait()]
    assert mine.join(60)
    archive.move_finished(queue.store, 1)
    queue.enqueue("true", name="n3x")

    assert ["4", "5"] == [job.id for job in queue.jobs()]
    assert jobs[0] == queue.job("n0")
    assert "completed" == queue.job("n0").state
    with pytest.raises(UnknownJobError, match="there is no job 'n9'"):
        queue.job("n9")


def test_archived_jobs_that_share_a_name_need_an_id(queue):
    """As in the queue."""
    end(queue, "true", "true", name="twin")
    archive.move_finished(queue.store, 0)

    with pytest.raises(UnknownJobError, match=r"2 jobs have the name 'twin': use an id \(1, 2\)"):
        queue.job("twin")


@pytest.mark.parametrize("age", [float("inf"), 1e15, -5])
def test_absurd_age_prunes_nothing(queue, age):
    """No traceback, and no job that ends in the future."""
    end(queue, "true")

    with pytest.raises(InvalidInputError, match="older_than_s"):
        queue.prune(older_than_s=age)
