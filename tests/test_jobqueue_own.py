"""The worker that a process has for a queue, and copies of a queue and its jobs."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import shutil
import sys
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from queuectl_magics import Job, JobQueue
from queuectl_magics.errors import HomeGoneError, InvalidInputError
from queuectl_magics.jobqueue import own

SOON_S = 30


@pytest.fixture
def queue(home):
    """A queue without a worker."""
    with JobQueue(home) as opened:
        yield opened


def names(queue: JobQueue) -> list[str]:
    """Return the names of all workers of the queue."""
    return [worker.name for worker in queue.workers()]


def test_every_queue_of_a_home_has_the_same_worker(queue, home):
    """A cell that is run again makes another `JobQueue`, and no second worker."""
    worker = queue.worker()
    with JobQueue(home) as again:
        assert again.worker(3) is worker
        assert names(queue) == [worker.name] == names(again)
        assert again.workers()[0].count == 3
        assert again.enqueue("true").wait(SOON_S).state == "completed"


def test_worker_stops_with_the_last_that_uses_it(home, until):
    """Whoever started it may be gone before the others are."""
    first, second = JobQueue(home), JobQueue(home)
    worker = first.worker()
    second.worker()

    first.close()
    assert second.enqueue("true").wait(SOON_S).state == "completed"
    second.close()

    until(lambda: not worker.is_alive())


def test_queue_that_was_dropped_leaves_its_worker_to_the_next(home, until):
    """Nothing keeps the queue alive, and its jobs go on."""
    queue = JobQueue(home)
    worker, dropped = queue.worker(), weakref.ref(queue)
    del queue
    until(lambda: gc.collect() is not None and dropped() is None)

    with JobQueue(home) as another:
        assert another.worker() is worker
    until(lambda: not worker.is_alive())


def test_worker_that_was_told_to_stop_is_not_returned_again(queue, until):
    """`stop_workers()` and then `worker()`: a worker runs."""
    before = queue.worker()

    queue.stop_workers(now=True)
    after = queue.worker()

    until(lambda: not before.is_alive())
    assert after.is_alive()
    assert queue.enqueue("true").wait(SOON_S).state == "completed"


def test_worker_that_finishes_its_job_takes_back_its_stop(queue, until):
    """Beside a second one two jobs would run at once."""
    worker = queue.worker()
    jobs = queue.enqueue_all(["sleep 0.3"] * 3)
    until(lambda: jobs[0].state == "processing")

    queue.stop_workers()
    assert queue.worker() is worker
    queue.wait(jobs)

    spans = sorted((job.record.started_at, job.record.finished_at) for job in jobs)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert worker.is_alive()


def test_no_worker_starts_in_a_home_that_was_deleted(queue):
    """The line says what happened, and no folder comes back."""
    shutil.rmtree(queue.home)

    with pytest.raises(HomeGoneError, match="was deleted while it was in use"):
        queue.worker()

    assert own.find(queue.identity) is None


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_copy_of_a_job_is_a_handle_of_the_same_job(queue, again, tmp_path):
    """It opens files of its own, so that nothing of ours is closed when it is dropped."""
    job = queue.enqueue("true")
    twin = again(job)
    assert isinstance(twin, Job)
    assert twin == job
    assert hash(twin) == hash(job)

    twin.cancel()
    del twin
    gc.collect()
    with (tmp_path / "other").open("w+") as other:  # it would be given a descriptor of ours
        assert job.state == "cancelled"
        assert queue.enqueue("true").id == "2"
        assert os.fstat(other.fileno()).st_size == 0


@pytest.mark.parametrize("part", ["current", "_lock"])
def test_what_holds_a_descriptor_cannot_be_copied(queue, part):
    """The copy would close what is not its own."""
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(getattr(queue.store, part))


def state_of(job: Job) -> str:
    """Return the state of *job*, as another process sees it."""
    return job.state


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_job_may_be_sent_to_another_process(queue, method):
    """As an argument of a process pool."""
    job = queue.enqueue("true")
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert pool.submit(state_of, job).result(SOON_S) == "pending"


def test_another_path_to_the_home_is_the_same_queue(queue, home, tmp_path):
    """A link, and `..` on the way."""
    job = queue.enqueue("true")
    link = tmp_path / "link"
    link.symlink_to(home)

    for path in (link, home / ".." / home.name):
        with JobQueue(path) as same:
            assert same.job(job).id == job.id
            assert same.job("1") == job


def test_commands_find_the_python_that_enqueued_them(queue):
    """Also where no virtual environment is activated; a terminal has its own PATH."""
    queue.worker()

    found = queue.enqueue("command -v python").wait(SOON_S).output
    assert os.path.dirname(found) == os.path.dirname(sys.executable)
    with JobQueue(queue.home, python="") as other:
        environ = {"PATH": "/nowhere"}
        (job,) = other.enqueue_all(['echo "$PATH"'], environ=environ)
        assert job.wait(SOON_S).output == "/nowhere\n"


def test_copy_of_a_home_is_another_queue(queue, tmp_path):
    """It has the same name within, and a worker of its own."""
    queue.worker()
    job = queue.enqueue("true").wait(SOON_S)
    shutil.copytree(queue.home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.bell"))

    with JobQueue(tmp_path / "copy") as other:
        assert other.job(job.id) != job
        worker = other.worker()
        assert worker is not queue.own_worker
        assert other.enqueue("echo in the copy").wait(SOON_S).output == "in the copy\n"
        with pytest.raises(InvalidInputError, match="is in another queue"):
            other.job(job)


def test_nothing_is_kept_of_a_worker_that_has_stopped(home):
    """Neither the table of a queue that is closed, nor its descriptors."""
    stores = weakref.WeakSet()
    for _ in range(3):
        with JobQueue(home) as first, JobQueue(home) as second:
            first.worker()
            second.worker()
            first.close()
            stores.update((first.store, second.store))
        del first, second

    gc.collect()
    assert not stores
