"""Anything that can happen to a store, in any order, against a dict that knows nothing of it.

Two handles work on one home as two processes would, and are killed in the middle of things. The
model is a dict of id → [state, failed attempts]; it never asks the code what is right.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import stores
from queuectl_magics import lifecycle
from queuectl_magics.errors import StoreFullError
from queuectl_magics.job import Exit
from queuectl_magics.store import Store
from queuectl_magics.store.compaction import compact
from tables import STATES

settings.register_profile("quick", max_examples=100, stateful_step_count=30)
settings.register_profile("soak", max_examples=20_000, stateful_step_count=60)
PROFILE = settings.get_profile(
    "soak" if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else "quick"
)

handles = st.sampled_from("ab")
places = st.integers(0, 99)


class Killed(BaseException):
    """Ends a step as SIGKILL does: nothing is put in order, and the handle is never used again."""


class AnyStore(RuleBasedStateMachine):
    """What may happen to a store that two processes share."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=stores.MEMORY, prefix="queuectl-machine-"))
        self.model: dict[str, list] = {}
        self.last_number = 0
        self.stores = {name: Store(self.home, durability="none") for name in "ab"}

    def teardown(self) -> None:
        """Leave nothing behind."""
        for store in self.stores.values():
            store.close()
        shutil.rmtree(self.home)

    def some(self, place: int, *states: str) -> str | None:
        """Return the id of one of the jobs in *states*, or None."""
        found = [id for id, (state, _) in self.model.items() if state in states]
        return found[place % len(found)] if found else None

    def numbered(self, count: int):
        """Return a decision that enqueues *count* jobs under the next numbers."""

        def decide(table, now):
            ids = [str(table.next_number + i) for i in range(count)]
            return stores.enqueue(*ids, command="echo {id}", backoff_base=0.0)(table, now)

        return decide

    def entered(self, ids) -> None:
        """Write down in the model that jobs came in, each under a number never used before."""
        for id in ids:
            assert int(id) > self.last_number
            self.last_number = int(id)
            self.model[id] = ["pending", 0]

    # --- what people and workers do -----------------------------------------------------------

    @rule(name=handles, count=st.integers(1, 5))
    def enqueue(self, name, count):
        """Several jobs come in at once."""
        events = self.stores[name].transact(self.numbered(count))

        assert count == len(events)
        self.entered(event.id for event in events)

    @rule(name=handles, count=st.integers(1, 4))
    def lease(self, name, count):
        """A worker takes what is due: the oldest first, each once."""
        waiting = [id for id, (state, _) in self.model.items() if state in ("pending", "failed")]

        def decide(table, now):
            return [
                lifecycle.lease(job, worker=name, token="t", now=now)
                for job in table.pick_due(now, count)
            ]

        leased = [event.id for event in self.stores[name].transact(decide)]

        assert waiting[:count] == leased
        for id in leased:
            self.model[id][0] = "processing"

    @rule(name=handles, place=places, code=st.sampled_from([0, 0, 1]))
    def settle(self, name, place, code):
        """An attempt ends; the third failure is the last."""
        id = self.some(place, "processing")

        def decide(table, now):
            job = table.jobs[id]
            return [lifecycle.settle(job, job.attempt, Exit(code=code, finished_at=now))]

        if id is None:
            return
        self.stores[name].transact(decide, vital=True)
        failures = self.model[id][1] + code
        self.model[id] = [
            ("failed" if failures < 3 else "dead") if code else "completed",
            failures,
        ]

    @rule(name=handles, place=places)
    def settle_late(self, name, place):
        """The result of an attempt that is no longer the current one changes nothing."""
        id = self.some(place, *STATES)

        def decide(table, now):
            job = table.jobs[id]
            event = lifecycle.settle(job, job.attempt + 1, Exit(code=0, finished_at=now))
            return [] if event is None else [event]

        assert id is None or [] == self.stores[name].transact(decide)

    @rule(name=handles, place=places)
    def rescue(self, name, place):
        """An attempt never started: the job is handed back at no cost."""
        id = self.some(place, "processing")
        if id is None:
            return
        self.stores[name].transact(
            lambda table, now: [
                lifecycle.rescue(table.jobs[id], table.jobs[id].attempt, started=False, now=now)
            ]
        )
        self.model[id][0] = "pending"

    @rule(name=handles, place=places)
    def cancel(self, name, place):
        """A waiting job is called off."""
        id = self.some(place, "pending", "failed")
        if id is None:
            return
        self.stores[name].transact(lambda table, now: [lifecycle.cancel(table.jobs[id], now=now)])
        self.model[id][0] = "cancelled"

    @rule(name=handles, place=places)
    def retry(self, name, place):
        """A job that is over, or failed, gets a fresh allowance."""
        id = self.some(place, "completed", "dead", "cancelled", "failed")
        if id is None:
            return
        self.stores[name].transact(lambda table, now: [lifecycle.retry(table.jobs[id], now=now)])
        self.model[id] = ["pending", 0]

    @rule(name=handles, place=places)
    def prune(self, name, place):
        """A job that is over is dropped."""
        id = self.some(place, "completed", "dead", "cancelled")
        if id is None:
            return
        self.stores[name].transact(lambda table, now: [lifecycle.prune(table.jobs[id], now=now)])
        del self.model[id]

    @rule(name=handles, busy=st.booleans())
    def compact(self, name, busy):
        """The journal is folded into a new snapshot, perhaps while the other one writes."""
        store, other = self.stores[name], self.stores["b" if name == "a" else "a"]

        def at(point):
            if busy and point == "snapshot-written":
                self.entered(event.id for event in other.transact(self.numbered(2)))

        store.at = at
        assert compact(store)
        store.at = lambda _: None

    @rule(name=handles)
    def reopen(self, name):
        """A process ends and another one begins."""
        self.stores[name].close()
        self.stores[name] = Store(self.home, durability="none")

    @rule(name=handles)
    def another_start_of_the_machine(self, name):
        """From now on this handle believes that the machine was started anew."""
        self.stores[name].boot = f"boot{self.stores[name].table.seq}"

    # --- what goes wrong ----------------------------------------------------------------------

    @rule(name=handles, count=st.integers(1, 4), cut=st.integers(0, 1500))
    def killed_while_writing(self, name, count, cut):
        """A process dies after *cut* bytes: a whole line counts, a torn one does not."""
        store, other = self.stores[name], self.stores["b" if name == "a" else "a"]
        write = os.write

        def torn(fd, data):
            write(fd, data[:cut])
            raise Killed

        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(os, "write", torn)
            store.transact(self.numbered(count))
        store.close()
        other.catch_up()  # beside a torn tail, which only a writer may cut off
        stored = [id for id in other.table.jobs if id not in self.model]
        self.entered(stored)
        self.stores[name] = Store(self.home, durability="none")

        assert len(stored) <= count

    @rule(name=handles, count=st.integers(1, 4), room=st.integers(0, 1500), undo=st.booleans())
    def disk_full_while_writing(self, name, count, room, undo):
        """The disk takes *room* bytes more: the refusal names exactly what was stored."""
        store, write = self.stores[name], os.write

        def full(fd, data):
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = write(fd, data[:room])
            room -= written
            return written

        def no_undo(fd, size):
            raise OSError(errno.EIO, "Input/output error")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", full)
            if not undo:
                patch.setattr(os, "ftruncate", no_undo)
            try:
                stored = [event.id for event in store.transact(self.numbered(count))]
            except StoreFullError as error:
                stored = list(error.accepted)
        assert stored == [id for id in store.table.jobs if id not in self.model]
        self.entered(stored)

    @rule(name=handles, point=st.sampled_from(stores.POINTS_OF_COMPACTION))
    def killed_while_compacting(self, name, point):
        """A process dies at a named point of a compaction: nobody notices."""
        store = self.stores[name]
        with pytest.MonkeyPatch.context() as patch:

            def at(reached):
                if reached == point:
                    patch.setattr(Path, "unlink", lambda *_, **__: None)  # the drafts stay
                    raise Killed

            store.at = at
            with pytest.raises(Killed):
                compact(store)
        store.close()
        self.stores[name] = Store(self.home, durability="none")

    # --- what holds after every step ----------------------------------------------------------

    @invariant()
    def every_handle_shows_what_the_model_says(self):
        """Both handles, and a third one that reads everything anew, agree with the model."""
        json.loads((self.home / "jobs.json").read_bytes())
        fresh = Store(self.home, durability="none")
        self.agrees(fresh)
        fresh.close()
        for store in self.stores.values():
            store.catch_up()
            self.agrees(store)
            assert fresh.table.jobs == store.table.jobs
            assert fresh.table.seq == store.table.seq

    def agrees(self, store: Store) -> None:
        """Compare jobs, their order, counts, running jobs and the next number with the model."""
        table = store.table
        states = Counter(state for state, _ in self.model.values())
        running = {id for id, (state, _) in self.model.items() if state == "processing"}

        assert self.model == {id: [job.state, job.attempts] for id, job in table.jobs.items()}
        assert list(self.model) == list(table.jobs)
        assert dict.fromkeys(STATES, 0) | states == table.counts
        assert running == table.processing
        assert self.last_number < table.next_number


TestAnyStore = AnyStore.TestCase
TestAnyStore.settings = settings(
    PROFILE, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyStore = pytest.mark.timeout(0 if PROFILE.max_examples > 1000 else 120)(TestAnyStore)
