"""Any sequence of legal events, folded into a table, against a dict that knows nothing of it."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from queuectl_magics.events import (
    Cancelled,
    Failed,
    Interrupted,
    Pruned,
    Retried,
    StopRequested,
    Succeeded,
)
from queuectl_magics.table import Table
from tables import STATES, T0, enqueued, ids, leased, seconds


class AnyLife(RuleBasedStateMachine):
    """Any sequence of legal events, against a plain dict that knows nothing of the table.

    The model keeps, per id: state, priority, place in the line, moment and attempt. Time only goes
    forward.
    """

    waiting = Bundle("waiting")
    running = Bundle("running")
    over = Bundle("over")
    gone = Bundle("gone")

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.model: dict[str, dict] = {}
        self.now = 0
        self.events = 0
        self.highest = 0

    def fold(self, event) -> None:
        """Let the table take in *event*."""
        self.table.fold(event)
        self.events += 1

    def enter(self, id: str, priority: int = 0, due: int | None = None) -> str:
        """Let a job come in, in the table and in the model."""
        moment = None if due is None else seconds(due)
        self.fold(enqueued(id, priority=priority, due_at=moment))
        self.model[id] = {
            "state": "pending",
            "priority": priority,
            "order": self.events,
            "due": due,
            "attempt": 0,
        }
        return id

    @rule(target=waiting, priority=st.integers(-2, 2), delay=st.none() | st.integers(-3, 9))
    def enqueue_numbered(self, priority, delay):
        """A job comes in and gets the next number, which no job ever had."""
        number = self.table.next_number
        assert number > self.highest

        self.highest = number
        return self.enter(f"{number}", priority, None if delay is None else self.now + delay)

    @rule(target=waiting, priority=st.integers(-2, 2))
    def enqueue_named(self, priority):
        """A job comes in with a name of its own."""
        return self.enter(f"job{self.events}", priority)

    @rule(target=waiting, id=consumes(gone))
    def enqueue_again(self, id):
        """A job comes in with an id that a pruned job had."""
        return self.enter(id)

    def move(self, id: str, state: str, **changes) -> str:
        """Write down in the model what became of a job."""
        self.model[id] |= {"state": state, **changes}
        return id

    @rule(target=running, id=consumes(waiting))
    def lease(self, id):
        """A worker takes a job, due or not: time is not the fold's question."""
        attempt = self.model[id]["attempt"] + 1
        self.fold(leased(id, attempt))
        return self.move(id, "processing", attempt=attempt, due=None)

    @rule(target=over, id=consumes(running))
    def succeed(self, id):
        """An attempt ends well."""
        attempt = self.model[id]["attempt"]
        self.fold(Succeeded(at=T0, id=id, attempt=attempt, exit_code=0))
        return self.move(id, "completed")

    @rule(target=waiting, id=consumes(running), delay=st.integers(0, 9))
    def fail(self, id, delay):
        """An attempt fails and the next one is due in a while."""
        due, attempt = self.now + delay, self.model[id]["attempt"]
        self.fold(Failed(at=T0, id=id, attempt=attempt, exit_code=1, due_at=seconds(due)))
        return self.move(id, "failed", due=due)

    @rule(target=waiting, id=consumes(running), counted=st.booleans())
    def interrupt(self, id, counted):
        """An attempt is handed back, or vanishes."""
        attempt = self.model[id]["attempt"]
        self.fold(Interrupted(at=T0, id=id, attempt=attempt, counted=counted))
        return self.move(id, "pending")

    @rule(id=running)
    def ask_to_stop(self, id):
        """A running job is asked to end; it still runs."""
        attempt = self.model[id]["attempt"]
        self.fold(StopRequested(at=T0, id=id, attempt=attempt, why="cancelled"))

    @rule(target=over, id=consumes(waiting) | consumes(running))
    def cancel(self, id):
        """A job is called off."""
        attempt = self.model[id]["attempt"]
        self.fold(Cancelled(at=T0, id=id, attempt=attempt))
        return self.move(id, "cancelled", due=None)

    @rule(target=waiting, id=consumes(over))
    def retry(self, id):
        """A job that is over gets a fresh allowance."""
        self.fold(Retried(at=T0, id=id))
        return self.move(id, "pending", due=None)

    @rule(target=gone, id=consumes(over))
    def prune(self, id):
        """A job that is over is dropped."""
        self.fold(Pruned(at=T0, id=id))
        del self.model[id]
        return id

    @rule(by=st.integers(1, 5))
    def time_passes(self, by):
        """Nothing happens for a while."""
        self.now += by

    @rule()
    def reopen(self):
        """Another process reads the snapshot."""
        old = self.table
        self.table = Table(list(old.jobs.values()), old.seq, old.next_number)

    @rule(count=st.integers(0, 4))
    def pick_some(self, count):
        """The first so many of the line, and the line is as it was."""
        assert self.line()[:count] == ids(self.table.pick_due(seconds(self.now), count))

    def line(self) -> list[str]:
        """Return the ids that are due, sorted as the design says."""
        due = [
            (-job["priority"], job["order"], id)
            for id, job in self.model.items()
            if job["state"] in ("pending", "failed")
            and (job["due"] is None or job["due"] <= self.now)
        ]
        return [id for *_, id in sorted(due)]

    @invariant()
    def counts_equal_a_recount(self):
        """Counts, running jobs and the order of the jobs agree with the model."""
        states = Counter(job["state"] for job in self.model.values())
        running = {id for id, job in self.model.items() if job["state"] == "processing"}

        assert dict.fromkeys(STATES, 0) | states == self.table.counts
        assert running == self.table.processing
        assert list(self.model) == list(self.table.jobs)
        assert self.events == self.table.seq
        assert self.highest < self.table.next_number

    @invariant()
    def pick_is_the_head_of_a_sorted_line(self):
        """All that is due, once each, by priority and then by age; the rest waits for its time."""
        now = seconds(self.now)
        later = [
            job["due"]
            for job in self.model.values()
            if job["state"] in ("pending", "failed") and (job["due"] or 0) > self.now
        ]

        assert self.line() == ids(self.table.pick_due(now, 1000))
        assert (seconds(min(later)) if later else None) == self.table.next_due()
        assert set(self.line()) == {
            id
            for id, job in self.table.jobs.items()
            if job.state in ("pending", "failed") and (job.due_at is None or job.due_at <= now)
        }


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(deadline=None, stateful_step_count=40)
