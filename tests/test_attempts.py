"""Every attempt is waited for by a thread, which takes the next turn, and no end is lost."""

from __future__ import annotations

import threading

import pytest

from queuectl_magics import attempts
from queuectl_magics.attempts import Attempts
from queuectl_magics.engines import Vanished
from tables import enqueued

LONG_S = 10.0


class Attempt:
    """An attempt that ends when it is told to."""

    def __init__(self, id: str) -> None:
        self.job = enqueued(id).job
        self.told, self.steps = threading.Event(), []
        self.wait_errors: list[Exception] = []

    def begin(self) -> None:
        if "begun" not in self.steps:
            self.steps.append("begun")

    def wait(self) -> Vanished:
        self.begin()
        self.steps.append("waited for")
        if self.wait_errors:
            raise self.wait_errors.pop()
        assert self.told.wait(LONG_S)
        return Vanished(started=True)

    def record(self) -> Vanished | None:
        return Vanished(started=True) if self.told.is_set() else None


class Worker:
    """The turns that are taken: in each what has ended is settled, and what waits is added."""

    def __init__(self) -> None:
        self.attempts = Attempts(None, on_end=self.go_on, on_idle=self.rest)
        self.next: list[Attempt] = []
        self.settled: list[str] = []
        self.turns: list[str] = []
        self.rested: list[str] = []

    def go_on(self) -> None:
        assert self.attempts.turn.locked()
        self.turns.append(threading.current_thread().name)
        ended = self.attempts.take_ended()
        self.attempts.settled(ended)
        self.settled += [job.id for job, _ in ended]
        for found in self.next:
            self.attempts.add(found.job, found)
        self.next = []
        self.attempts.begin(all=False)

    def rest(self) -> None:
        self.rested.append(threading.current_thread().name)

    def take_turn(self, *found: Attempt) -> None:
        """Take a turn as the loop does."""
        with self.attempts.turn:
            for one in found:
                self.attempts.add(one.job, one)
            self.attempts.begin(all=True)
            self.attempts.see_to_all()


@pytest.fixture
def worker():
    """A worker that settles and adds, and does nothing else."""
    return Worker()


@pytest.fixture
def started(monkeypatch):
    """The names of the threads that are started; `allowed` empty lets none start."""
    start, names, allowed = threading.Thread.start, [], [True]

    def counted(thread) -> None:
        names.append(thread.name)
        if not allowed:
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    return names, allowed


def waited(*found: Attempt):
    """Return a condition: somebody waits for each of them."""
    return lambda: all("waited for" in one.steps for one in found)


def test_the_thread_that_saw_an_end_waits_for_what_comes_in_its_place(worker, started, until):
    """One thread for a slot, however many jobs come by, and it tells when it has nothing left."""
    names, _ = started
    one, two, three = map(Attempt, "123")
    worker.take_turn(one)
    for before, after in ((one, two), (two, three)):
        worker.next = [after]
        before.told.set()
        until(waited(after))
    assert [] == worker.rested
    three.told.set()
    until(lambda: worker.rested)

    assert ["queuectl-job-1"] == names == list(dict.fromkeys(worker.turns)) == worker.rested
    assert ["1", "2", "3"] == worker.settled
    assert [] == list(worker.attempts)


def test_what_comes_besides_gets_a_thread_of_its_own(worker, started, until):
    """A job in the place of one that ended, and another since a slot was free: both are run."""
    names, _ = started
    one, two, three = map(Attempt, "123")
    worker.take_turn(one)
    worker.next = [two, three]
    one.told.set()
    until(waited(two, three))

    assert ["queuectl-job-1", "queuectl-job-3"] == names
    two.told.set()
    three.told.set()


def test_threads_on_their_way_take_what_another_one_has_started(worker, started, until):
    """Two jobs end at once: who has the turn first settles both, and each waits for one."""
    names, _ = started
    one, two, three, four = map(Attempt, "1234")
    worker.take_turn(one, two)
    with worker.attempts.turn:
        worker.next = [three, four]
        one.told.set()
        two.told.set()
        until(lambda: ["1", "2"] == sorted(job.id for job, _ in worker.attempts._ended))
    until(waited(three, four))

    assert ["queuectl-job-1", "queuectl-job-2"] == sorted(names)
    assert ["1", "2"] == sorted(worker.settled)
    three.told.set()
    four.told.set()


def test_loop_begins_what_it_adds_and_leaves_the_waiting_to_who_is_on_the_way(
    worker, started, until
):
    """A job is not begun later because some thread will wait for it."""
    names, _ = started
    one, two = map(Attempt, "12")
    worker.take_turn(one)
    with worker.attempts.turn:
        one.told.set()
        until(lambda: not worker.attempts.are_unseen and worker.attempts._ended)
        worker.attempts.add(two.job, two)
        worker.attempts.begin(all=True)
        assert ["begun"] == two.steps
        worker.attempts.see_to_all()
    until(waited(two))

    assert ["queuectl-job-1"] == names
    assert ["begun", "waited for"] == two.steps
    two.told.set()


def test_wait_that_fails_is_tried_again(worker, monkeypatch, until):
    """No descriptor, no memory: whatever it is, the end is not missed."""
    monkeypatch.setattr(attempts, "RETRY_S", 0.01)
    one = Attempt("1")
    one.wait_errors = [OSError("no descriptor"), MemoryError()]
    one.told.set()
    worker.take_turn(one)
    until(lambda: worker.rested)

    assert ["1"] == worker.settled


def test_ends_are_seen_where_no_thread_can_be_started(worker, started, until):
    """What nobody can wait for is looked at, and waited for as soon as somebody can."""
    names, allowed = started
    allowed.clear()
    one, two = map(Attempt, "12")
    worker.take_turn(one, two)
    assert not worker.attempts.are_unseen
    two.told.set()
    worker.take_turn()
    assert worker.attempts.are_unseen
    assert ["2"] == [job.id for job, _ in worker.attempts._ended]
    allowed.append(True)
    worker.take_turn()
    until(waited(one))

    assert "queuectl-job-1" == names[-1]
    one.told.set()
