"""What must hold after a power cut: every state that a disk may be in is opened by the real code.

Each state is laid out in memory, opened after "another boot", and compared with the history: it
must be the queue as of some event, not before the last one that had been acknowledged.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import stores
from disks import SOAK, Disk, Left, states_after
from queuectl_magics import clock, codec, journal
from queuectl_magics.errors import QueuectlError
from queuectl_magics.events import Event
from queuectl_magics.job import JobRecord
from queuectl_magics.store import Store, compaction, repair
from queuectl_magics.store import home as home_module
from queuectl_magics.store import store as store_module
from queuectl_magics.table import Table

USED_EVERY = 1 if SOAK else 6
NOW = datetime(2026, 11, 24, 8, 11, 4, tzinfo=UTC)


class History:
    """What was written to the journal, and what was acknowledged when."""

    def __init__(self, disk: Disk, start: Iterable[JobRecord] = (), seq: int = 0) -> None:
        self.disk = disk
        self.start = list(start)
        self.start_seq = seq
        self.began = len(disk.ops)
        self.acks: list[tuple[int, int]] = []
        self.dropped: dict[str, int] = {}

    def ack(self, store: Store) -> None:
        """Note that everything up to now was acknowledged."""
        self.acks.append((len(self.disk.ops), store.seq))

    def acked(self, ops: int) -> int:
        """Return the last event that had been acknowledged after so many operations."""
        return max((seq for at, seq in self.acks if at <= ops), default=0)

    def expected(self) -> dict[int, dict[str, bytes]]:
        """Return the jobs as of each event, folded from the lines that were written."""
        table = Table(self.start, seq=self.start_seq)
        found = {table.seq: encoded(table)}
        for op in self.disk.ops[self.began :]:
            if op[0] != "write":
                continue
            for line in op[3].split(b"\n"):
                numbers = journal.number(line)
                if numbers is None or numbers.seq != table.seq + 1:
                    continue
                event = codec.decode_line(line)
                if isinstance(event, Event):
                    table.fold(event)
                else:
                    table.pass_over()
                found[table.seq] = encoded(table)
        return found


def encoded(table: Table) -> dict[str, bytes]:
    """Return the jobs of a table as they are written."""
    return {id: codec.encode_jobs([job]) for id, job in table.jobs.items()}


class Examined(Counter):
    """How many states were opened, and what was wrong with how many; with an example of each."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, str] = {}
        self.seen: set[bytes] = set()

    def blame(self, what: str, example: str) -> None:
        """Count a violation."""
        self[what] += 1
        self.examples.setdefault(what, example)

    @property
    def violations(self) -> dict[str, int]:
        """What went wrong how often."""
        return {what: count for what, count in self.items() if what not in ("states", "points")}

    def __str__(self) -> str:
        told = f"{self['points']} cuts, {self['states']} states, {self.violations or 'all well'}"
        return told + "".join(f"\n    {k}: {v}" for k, v in self.examples.items())


def all_well(story: str, examined: Examined) -> bool:
    """Print what was examined, for `pytest -s` and for failures, and say whether all held."""
    sys.stdout.write(f"\npower cuts {story}: {examined}\n")
    return not examined.violations


def lay_out(state: Left, root: Path) -> None:
    """Make *root* hold exactly *state*."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in sorted(state):
        content = state[name]
        if content is None:
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_bytes(content)


def examine(
    history: History,
    lab: Path,
    *,
    first: int = 0,
    check: Callable[[Store, int], str | None] = lambda _store, _seq: None,
    visit: Callable[[Path], tuple[str, str] | None] | None = None,
    into: Examined | None = None,
    until_caught: bool = False,
) -> Examined:
    """Cut the power after each operation from *first* on and open every state."""
    examined, dice = Examined() if into is None else into, random.Random(1)
    ops, expected = history.disk.ops, history.expected()
    salt = repr(sorted(expected.items())).encode()
    with booted("after"):
        for count in range(first, len(ops) + 1):
            examined["points"] += 1
            acked = history.acked(count)
            for state in states_after(ops[:count], dice):
                key = fingerprint(state, salt + b"%d" % acked)
                if key in examined.seen:
                    continue
                examined.seen.add(key)
                examined["states"] += 1
                lay_out(state, lab / "after")
                use, home = examined["states"] % USED_EVERY == 0, lab / "after" / "home"
                if visit is not None:
                    problem = visit(home)
                else:
                    problem = reopen(home, acked, expected, check, use=use)
                if problem:
                    last = ops[count - 1][:3] if count else ()
                    sizes = {k: v and len(v) for k, v in state.items()}
                    examined.blame(problem[0], f"after {count} {last}: {problem[1]} {sizes}")
                    if until_caught:
                        return examined
    return examined


def fingerprint(state: Left, salt: bytes) -> bytes:
    """Return what tells states apart for the opening: the two files in force, and all names."""
    told = hashlib.sha256(salt + str(sorted(state)).encode())
    for name in sorted(state):
        if "prev" not in name and "tmp" not in name and state[name]:
            told.update(name.encode() + b"\0" + state[name])
    return told.digest()


def reopen(
    home: Path,
    acked: int,
    expected: dict[int, dict[str, bytes]],
    check: Callable[[Store, int], str | None],
    *,
    use: bool,
) -> tuple[str, str] | None:
    """Open what a cut has left, compare it with the history, and use it."""
    jobs = home / "jobs.json"
    if jobs.exists():
        try:
            json.loads(jobs.read_bytes())
        except ValueError:
            return "jobs.json is no JSON", repr(jobs.read_bytes()[:80])
    try:
        store = Store(home)
    except QueuectlError as error:
        return "refused", str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a violation
        return f"crashed: {type(error).__name__}", str(error)
    try:
        seq, found = store.seq, encoded(store.table)
        if seq < acked:
            return "an acknowledged event is lost", f"event {seq} of {acked}"
        if found != expected.get(seq):
            wanted = expected.get(seq, {})
            return "other jobs", f"as of {seq}: {sorted(found)} and not {sorted(wanted)}"
        problem = check(store, seq)
        if problem or not use:
            return (problem, f"as of {seq}") if problem else None
        enqueue(store, "afterwards")
        used = encoded(store.table)
    finally:
        store.close()
    for act in (compaction.compact, lambda _store: None):
        with closing(Store(home)) as again:
            if encoded(again.table) != used:
                return "changed when reopened", f"as of {seq}"
            act(again)
    return None


@contextmanager
def booted(boot: str) -> Iterator[None]:
    """Pretend that the machine was started another time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "boot_id", lambda: boot)
        for module in (store_module, repair):
            patch.setattr(module, "boot_id", lambda: boot, raising=False)
        patch.setattr(home_module, "filesystem_type", lambda _path: "")  # 1 ms, each time
        patch.setattr(clock, "utc_now", lambda: NOW)  # so that equal states are seen to be equal
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=7))
        yield


def enqueue(store: Store, *ids: str, wait: bool = True, env_ref: str | None = None) -> None:
    """Accept a job for each of *ids*."""
    store.transact(stores.enqueue(*ids, command="echo {id}", env_ref=env_ref), wait=wait)


@contextmanager
def opened(disk: Disk, boot: str = "before") -> Iterator[tuple[Store, History]]:
    """Open the home below the disk's root and record."""
    with booted(boot), disk.recording():
        store = Store(disk.root / "home")
        try:
            yield store, History(disk)
        finally:
            store.close()


def new_disk(lab: Path) -> Disk:
    """Return a disk that holds nothing but a folder."""
    root = lab / "live"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    return Disk(root)
