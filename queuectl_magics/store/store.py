"""One open store: catch up, change, make durable.

Reading needs no lock: a process remembers how far into the journal it has read and folds what came
since; asking an unchanged journal costs one `stat`. A change is: lock, catch up, decide, append,
fold, unlock; and only then, outside the lock, wait for the disk, one thread for all that wait. The
lock is on the journal itself: there is no other file that one might delete to get rid of it. The
rules here: what is decided is checked against the lifecycle before a byte is written; after a
failed `fdatasync` this handle writes no more, since the outcome is unknown; Ctrl-C waits for the
end of a change, and what it cuts short while reading is read anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from queuectl_magics import clock, codec
from queuectl_magics.codec import Announced, Booted, Opened
from queuectl_magics.errors import (
    HomeError,
    HomeGoneError,
    OutcomeUnknownError,
    QueuectlError,
    StoreBusyError,
    StoreDamagedError,
    StoreFullError,
)
from queuectl_magics.events import JobEvent
from queuectl_magics.journal import boot_id, frame, read_span, sync_data, sync_folder
from queuectl_magics.lock import Lock
from queuectl_magics.store import opening, reserve
from queuectl_magics.store.generation import DISK_FULL, REPAIR, Generation
from queuectl_magics.store.home import prepare_home
from queuectl_magics.store.interrupts import Undisturbed
from queuectl_magics.table import Table

LOCK_TIMEOUT_S = 5.0
SWAP_S = 0.002
SWAP_LOOKS = 200

Decide = Callable[[Table, datetime], Iterable[JobEvent]]

_open_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Store:
    """The jobs of one home, as of the last time we looked, and the way to change them.

    Args:
        home: the directory; created when missing.
        durability: `commit` waits for the disk before a change is acknowledged; `none` does not.

    Raises:
        HomeError: the home cannot be used.
        StoreBusyError: another process held its lock all the time.
        StoreDamagedError: a file in it was altered.
        StoreFullError: the disk is full.

    """

    def __init__(self, home: Path, durability: str = "commit") -> None:
        self.paths = prepare_home(home)
        self.durability = durability
        self.boot = boot_id()
        self._current: Generation | None = None
        self._broken: str | None = None
        self._written_seq = 0
        self._named = 0  # the generation whose journal's name is known to be on disk
        self._lock = Lock(self.paths.journal, create=False)
        self._renew_locks()
        _open_stores.add(self)
        try:
            opening.create_if_missing(self.paths, self.boot, LOCK_TIMEOUT_S)
            with self.exclusive():
                pass
        except OSError as error:
            self.close()
            raise self.refusal(error) from None
        except BaseException:
            self.close()
            raise

    def _renew_locks(self) -> None:
        """Start with free locks; a forked child may have inherited held ones, and half a table."""
        self._writing = threading.Lock()
        self._reading = threading.RLock()
        self._turn = threading.Condition(self._reading)
        self._news = threading.Condition()
        self._syncing = False
        if self._current is not None:
            self._current.trusted = False

    # --- reading ------------------------------------------------------------------------------

    @property
    def current(self) -> Generation:
        """The journal as it is open now; ask for it anew after each look."""
        assert self._current is not None
        return self._current

    @property
    def table(self) -> Table:
        """The jobs as of the last look."""
        return self.current.table

    @property
    def header(self) -> Opened:
        """What the journal says of itself; `store` is the identity of the home."""
        return self.current.header

    @property
    def seq(self) -> int:
        """The number of the latest event that was taken in."""
        return self.table.seq

    def at(self, point: str) -> None:
        """Mark a place in a sequence of steps; tests make a crash happen here."""

    @contextmanager
    def reading(self, *, look: bool = True) -> Iterator[Table]:
        """Hold the table still, caught up if you *look*, while the block lasts; keep it short."""
        with self._reading:
            if look:
                self._catch_up()
            yield self.table

    def catch_up(self) -> bool:
        """Take in what other processes wrote; say whether there was anything."""
        with self._reading:
            before = self.table.seq
            self._catch_up()
            return before != self.table.seq

    def wait_for_news(self, timeout_s: float) -> None:
        """Sleep until this process changes the store, or for *timeout_s* seconds."""
        with self._news:
            self._news.wait(timeout_s)

    def _catch_up(self, locked: os.stat_result | None = None) -> None:
        """Take in what is new; *locked* tells of the journal, if its lock is held."""
        current, exclusive = self._current, locked is not None
        try:
            about = locked or os.stat(self.paths.journal)
            if current is None or not current.trusted or about.st_ino != current.inode:
                self._reopen(exclusive=exclusive)
            elif about.st_size > current.offset:
                data = read_span(current.fd, current.offset, about.st_size)
                self._take(current, data, exclusive=exclusive)
            elif about.st_size < current.offset:
                msg = f"{self.paths.journal} was cut short by something else; {REPAIR}"
                raise StoreDamagedError(msg)
        except FileNotFoundError:
            raise self._deleted() from None

    def _take(self, current: Generation, data: bytes, start: int = 0, *, exclusive: bool) -> None:
        rest = current.take(data, start)
        if exclusive and rest:
            current.judge(rest, self.boot)
            current.cut(rest)
            self._confirm(current.fd)

    def _reopen(self, *, exclusive: bool) -> None:
        known = self._current
        found = opening.open_generation(self.paths, known)
        for _ in range(0 if exclusive else SWAP_LOOKS):
            if found is not None:
                break
            time.sleep(SWAP_S)
            found = opening.open_generation(self.paths, known)
        if found is None:
            what = "was altered or lost: it is not the snapshot of its journal"
            msg = f"{self.paths.jobs} {what}; {REPAIR}"
            raise StoreDamagedError(msg)
        opened, data = found
        if known is not None:  # they may share the table: half-way through, neither is good
            known.trusted = False
        try:
            self._take(opened, data, opened.offset, exclusive=exclusive)
            self._current = opened
        finally:
            for unused in (known, opened):
                if unused is not None and unused is not self._current:
                    unused.close()

    def _deleted(self) -> HomeGoneError:
        return HomeGoneError(f"the queue's home {self.paths.home} was deleted while it was in use")

    # --- changing -----------------------------------------------------------------------------

    def transact(
        self,
        decide: Decide,
        *,
        timeout_s: float | None = LOCK_TIMEOUT_S,
        wait: bool = True,
        vital: bool = False,
    ) -> list[JobEvent]:
        """Lock, catch up, let *decide* look at the table, and record the events that it returns.

        *decide* gets the table and the moment, and must not keep either. Returns the events. With
        *wait* they are on disk when this returns (unless `durability` is `none`). *vital* events,
        the ends of attempts, may use the space that was put by for a full disk.

        Raises:
            StoreBusyError: another process held the lock for *timeout_s* seconds.
            StoreFullError: the disk is full; its `accepted` names what was stored all the same.
            OutcomeUnknownError: the disk did not confirm.

        """
        with Undisturbed():
            with self._locked(timeout_s):
                events = list(decide(self.table, self.now()))
                refusal = self._record(events, vital=vital) if events else None
            if events and (wait or refusal is not None):  # what is named as stored is on disk
                self.sync(self._written_seq)
            if events:
                with self._news:
                    self._news.notify_all()
        if refusal is not None:
            raise refusal
        return events

    @contextmanager
    def exclusive(self, timeout_s: float | None = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Keep every other thread and process from changing the store, and catch up first."""
        with Undisturbed(), self._locked(timeout_s):
            yield

    @contextmanager
    def _locked(self, timeout_s: float | None) -> Iterator[None]:
        if not self._writing.acquire(timeout=-1 if timeout_s is None else timeout_s):
            msg = "the queue is locked by another thread of this process: try again"
            raise StoreBusyError(msg)
        try:
            if self._broken:
                raise OutcomeUnknownError(self._broken)
            try:
                about = self._lock.acquire(timeout_s)
            except FileNotFoundError:
                raise self._deleted() from None
            with self._reading:
                self._catch_up(about)
                yield
        finally:
            try:
                self._lock.release()
            finally:
                self._writing.release()

    def now(self) -> datetime:
        """Return the moment, never before that of the latest event."""
        now, last = clock.utc_now(), self.table.last_at
        return now if last is None or now > last else last

    def _record(self, events: list[JobEvent], *, vital: bool) -> QueuectlError | None:
        """Append *events* and fold what was stored; return why not all of them were."""
        current, table = self.current, self.table
        notes = []
        if current.boot != self.boot:
            notes = [Booted(at=self.now(), boot=self.boot)]
            if current.boot:
                self.mark_durable(table.seq)  # what outlived a start of the machine is on disk
        changes = table.prepare(events, table.seq + 1 + len(notes))
        lines = [
            frame(seq, current.durable, codec.encode_line(line))
            for seq, line in enumerate([*notes, *events], table.seq + 1)
        ]
        current.trusted = False
        make_room = (lambda: reserve.give_up(self.paths.reserve)) if vital else reserve.leave_alone
        stored, problem = current.append(lines, make_room)
        if notes and stored:
            table.pass_over()
            current.boot = self.boot
            stored -= 1
        table.apply(changes[:stored])
        self._written_seq = table.seq
        current.trusted = True
        if problem is None:
            return None
        return self.refusal(problem, [event.id for event in events[:stored]])

    def announce(self, note: Announced) -> None:
        """Append *note* and see it to the disk; the lock is held.

        It has the number of the line before it, so that readers pass it over.
        """
        line = frame(self.table.seq, self.current.durable, codec.encode_line(note))
        _, problem = self.current.append([line], reserve.leave_alone)
        if problem is not None:
            raise problem
        self._confirm(self.current.fd, self.header.generation)
        self.mark_durable(self.table.seq)

    def refusal(self, problem: OSError, accepted: list[str] | None = None) -> QueuectlError:
        """Return what to raise for *problem*; *accepted* are the jobs that were stored before."""
        if problem.errno in DISK_FULL:
            named = f"; stored before that: {', '.join(accepted[:20])}" if accepted else ""
            return StoreFullError(f"the disk of {self.paths.home} is full{named}", accepted or ())
        what = problem.filename or self.paths.journal
        return HomeError(f"{what} cannot be used: {problem.strerror}")

    # --- the disk -----------------------------------------------------------------------------

    def begin_sync(self) -> None:
        """Let the disk begin with the latest change, while there is something else to do."""
        with self._reading:
            if self.durability == "commit":
                self.current.begin_sync()

    def sync(self, seq: int) -> None:
        """Return when event *seq* is on disk: one thread syncs for all that wait.

        Raises:
            OutcomeUnknownError: the disk did not confirm; this store writes no more.

        """
        if self.durability != "commit":
            return
        with Undisturbed():  # whoever leads must also say that it has ended
            with self._turn:
                while self._syncing and self.current.durable < seq:
                    self._turn.wait()
                if self.current.durable >= seq:
                    return
                if self._broken:
                    raise OutcomeUnknownError(self._broken)
                self._syncing = True
            self._lead_sync()

    def _lead_sync(self) -> None:
        durable = 0
        try:
            with self._reading:
                generation, upto = self.header.generation, self.table.seq
                fd = os.dup(self.current.fd)  # another thread may go on to the next generation
            try:
                self._confirm(fd, generation)
            finally:
                os.close(fd)
            durable = upto
        except OSError as error:
            msg = f"the change is written, but the disk could not be asked: {error.strerror}"
            raise OutcomeUnknownError(msg) from None
        finally:
            with self._turn:
                self.mark_durable(durable)
                self._syncing = False
                self._turn.notify_all()

    def _confirm(self, fd: int, generation: int | None = None) -> None:
        """Sync the journal *fd*; after a failure never again, for a second try would lie.

        With *generation* its name is synced too, once: a compaction may have been killed between
        giving the name and seeing it to the disk.
        """
        try:
            sync_data(fd)
            if generation is not None and generation != self._named:
                sync_folder(self.paths.home)
                self._named = generation
        except OSError as error:
            self._broken = (
                f"the disk did not confirm a change ({error.strerror}): it may be lost in a power "
                "cut; reopen the queue to go on"
            )
            raise OutcomeUnknownError(self._broken) from None

    def mark_durable(self, seq: int) -> None:
        """Remember that everything up to event *seq* is on disk."""
        with self._reading:
            self.current.durable = max(self.current.durable, seq)

    def close(self) -> None:
        """Close the files; they are opened again if the store is used afterwards.

        A change that another thread is in the middle of is finished and seen to the disk first;
        one that still waits for the lock keeps it.
        """
        with self._reading:
            if self._current is not None:
                with suppress(QueuectlError):
                    self.sync(self._written_seq)
                self._current.close()
        if self._writing.acquire(blocking=False):
            self._lock.close()
            self._writing.release()


def _renew_in_child() -> None:
    for store in list(_open_stores):
        store._renew_locks()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_renew_in_child)
