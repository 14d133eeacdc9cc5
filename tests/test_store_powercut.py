"""Power cuts, simulated: every state a disk may be in afterwards is opened by the real code.

What a disk may hold stands in `disks`, what must hold of it in `power_cuts`; here are the stories
that are cut, and mutants of the store that prove that this has teeth.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

import stores
from disks import SOAK, Disk, Killed, states_after
from power_cuts import (
    NOW,
    Examined,
    History,
    all_well,
    booted,
    encoded,
    enqueue,
    examine,
    lay_out,
    new_disk,
    opened,
)
from queuectl_magics import codec, environment, journal, lifecycle
from queuectl_magics.errors import QueuectlError, StoreDamagedError, StoreFullError
from queuectl_magics.events import Event
from queuectl_magics.job import Exit, JobRecord, State
from queuectl_magics.store import Store, archive, compaction, opening, repair
from queuectl_magics.store import store as store_module
from queuectl_magics.store.generation import Generation
from queuectl_magics.table import Table

pytestmark = pytest.mark.timeout(7_200 if SOAK else 120)


@pytest.fixture
def lab(memory: Path) -> Path:
    """A folder in memory, if there is one."""
    return memory


# --- the stories --------------------------------------------------------------------------------


def a_life(lab: Path) -> History:
    """Record the creation of a queue, changes, compactions, a prune, and unconfirmed changes."""
    with opened(new_disk(lab)) as (store, history):
        history.ack(store)
        for step in (
            lambda: enqueue(store, "1", "2", "3"),
            lambda: store.transact(stores.lease("1")),
            lambda: store.transact(stores.settle("1")),
            lambda: compaction.compact(store),
            lambda: enqueue(store, "4"),
            lambda: store.transact(stores.lease("2")),
            lambda: store.transact(stores.settle("2", 1)),
            lambda: store.transact(stores.prune("1")),
            lambda: compaction.compact(store),
        ):
            step()
            history.ack(store)
        enqueue(store, "5", wait=False)
        enqueue(store, "6", wait=False)
        enqueue(store, "7", wait=False)
        store.sync(store.seq)
        history.ack(store)
        enqueue(store, "8", wait=False)
        compaction.compact(store)
        history.ack(store)
        enqueue(store, "9")
        history.ack(store)
    return history


def a_killed_compaction(lab: Path, after: int) -> tuple[History, int]:
    """Record a compaction killed at its operation number *after*, and another process's changes.

    Returns the history and at which operation the killing was; -1 if it came to its end before.
    """
    with opened(new_disk(lab)) as (store, history):
        disk = history.disk
        history.ack(store)
        enqueue(store, "1", "2")
        store.transact(stores.lease("1"))
        store.transact(stores.settle("1"))
        store.transact(stores.prune("1"))
        history.ack(store)
        enqueue(store, "3", wait=False)
        disk.kill_at = began = len(disk.ops) + after
        try:
            compaction.compact(store)
        except Killed:
            pass
        else:
            return history, -1
        store.close()
        disk.kill_at, disk.dead = None, False
        other = Store(disk.root / "home")
        enqueue(other, "4")
        history.ack(other)
        compaction.compact(other)
        enqueue(other, "5")
        history.ack(other)
        other.close()
    return history, began


def killed_compactions(lab: Path, *, first: int = 0, until_caught: bool = False) -> Examined:
    """Examine what a cut leaves after a compaction was killed, at each of its operations."""
    examined = Examined()
    for kill in itertools.count(first):
        history, began = a_killed_compaction(lab, kill)
        if began < 0 or (until_caught and examined.violations):
            return examined
        examine(history, lab, first=began, into=examined, until_caught=until_caught)
    raise AssertionError


def test_nothing_acknowledged_is_lost_in_a_power_cut(lab):
    """Whenever the power is cut, the queue opens again as of an event not before the last ack."""
    history = a_life(lab)

    examined = examine(history, lab)

    assert all_well(f"in a life of {len(history.disk.ops)} operations", examined)


def test_a_process_killed_in_a_compaction_and_then_a_power_cut_lose_nothing(lab):
    """A compaction killed at any operation, others that go on, then a cut: nothing is lost."""
    examined = killed_compactions(lab)

    assert all_well("after a killed compaction", examined)


def test_a_power_cut_during_the_recovery_from_a_power_cut_loses_nothing(lab):
    """What was there after the first cut is there after the second, wherever that falls."""
    history, examined, dice = a_life(lab), Examined(), random.Random(2)
    ops, found = history.disk.ops, []
    for count in range(20, len(ops)):
        found += [(history.acked(count), state) for state in states_after(ops[:count], dice)]
    for acked, state in dice.sample(found, 20 if SOAK else 6):
        lay_out(state, lab / "live")
        again = a_second_life(lab, acked)
        examine(again, lab, first=again.acks[0][0], into=examined)

    assert all_well("while recovering from one", examined)


def a_second_life(lab: Path, acked: int) -> History:
    """Record a recovery and what comes after it."""
    disk = Disk(lab / "live")
    disk.adopt()
    shutil.copytree(lab / "live", lab / "copy", dirs_exist_ok=True)
    with booted("between"), closing(Store(lab / "copy" / "home")) as copy:
        start, seq = list(copy.table.jobs.values()), copy.seq
    shutil.rmtree(lab / "copy")
    history = History(disk, start, seq)
    assert acked <= seq
    history.acks.append((len(disk.ops), seq))
    with booted("between"), disk.recording(), closing(Store(disk.root / "home")) as store:
        enqueue(store, "x", "y", wait=False)
        enqueue(store, "z")
        history.ack(store)
        compaction.compact(store)
        enqueue(store, "u")
        history.ack(store)
    return history


def test_a_process_killed_while_it_creates_a_queue_and_then_a_power_cut_lose_nothing(lab):
    """Whoever finds half a queue finishes it, names and all, before accepting a job."""
    examined = Examined()
    for kill in itertools.count():
        disk = new_disk(lab)
        disk.kill_at = kill
        killed = False
        with booted("before"), disk.recording():
            try:
                Store(disk.root / "home").close()
            except Killed:
                killed = True
            disk.kill_at, disk.dead = None, False
            history = History(disk)
            with closing(Store(disk.root / "home")) as store:
                enqueue(store, "1")
                history.ack(store)
        examine(history, lab, first=kill, into=examined)
        if not killed:
            break

    assert all_well("after a killed creation", examined)


def test_an_acknowledged_line_that_was_altered_is_never_cut_off(lab):
    """After another start of the machine a damaged line is told from one that a cut has torn."""
    examined = bit_rot(lab)

    assert all_well("and bits that changed", examined)


def bit_rot(lab: Path) -> Examined:
    """Change a bit in each line but the last, after another start: the store must refuse."""
    examined = Examined()
    with opened(new_disk(lab)) as (store, _):
        for id in ("1", "2", "3", "4"):
            enqueue(store, id)
    path = lab / "live" / "home" / "journal.jsonl"
    whole = path.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    with booted("after"):
        for begin, end in itertools.pairwise(ends[:-1]):
            for at in range(begin + 1, end, 1 if SOAK else 7):
                data = bytearray(whole)
                data[at] ^= 1
                path.write_bytes(data)
                examined["states"] += 1
                with contextlib.suppress(StoreDamagedError):
                    Store(path.parent).close()
                    examined.blame("an acknowledged event is lost", f"byte {at}")
    return examined


def test_two_processes_and_a_compaction_between_them_lose_nothing(lab):
    """What one acknowledges while the other compacts survives, whenever the power is cut."""
    with opened(new_disk(lab)) as (store, history):
        other = Store(history.disk.root / "home")

        def meanwhile(point: str) -> None:
            if point == "snapshot-written":
                enqueue(other, "b")
                history.ack(other)
                enqueue(other, "c", wait=False)

        store.at = meanwhile
        enqueue(store, "a")
        history.ack(store)
        compaction.compact(store)
        other.sync(other.seq)
        history.ack(other)
        enqueue(store, "d")
        history.ack(store)
        enqueue(other, "e")
        history.ack(other)
        other.close()

    examined = examine(history, lab)

    assert all_well("with two processes", examined)


def test_without_durability_a_finished_compaction_is_what_survives(lab):
    """`durability = none` promises what the last compaction covered, and that the queue opens."""
    with opened(new_disk(lab)) as (store, history):
        store.durability = "none"
        enqueue(store, "1", "2", "3")
        compaction.compact(store)
        history.ack(store)
        enqueue(store, "4")
        enqueue(store, "5")
        compaction.compact(store)
        history.ack(store)
        enqueue(store, "6")

    examined = examine(history, lab)

    assert all_well("without durability", examined)


def test_what_a_full_disk_has_accepted_survives(lab):
    """An error that names what was stored tells the truth, also after a power cut."""
    assert all_well("on a full disk", full_disk(lab))


def full_disk(lab: Path) -> Examined:
    """Examine a life in which the disk was full for a moment."""
    with opened(new_disk(lab)) as (store, history):
        enqueue(store, "1")
        history.ack(store)
        history.disk.room = 500
        with pytest.raises(StoreFullError) as full:
            enqueue(store, "2", "3", "4", "5")
        assert ("2", "3") == full.value.accepted
        history.ack(store)
        history.disk.room = None
        enqueue(store, "6")
        history.ack(store)
    return examine(history, lab)


def test_the_jobs_of_another_tool_survive_their_import(lab):
    """A jobs.json that was there before us is imported whole or waits to be imported."""
    disk = new_disk(lab)
    row = {"id": "a", "command": "echo a", "state": "pending", "attempts": 0, "max_retries": 3}
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    old = json.dumps([row | times, row | times | {"id": "b", "state": "completed"}]).encode()
    (disk.root / "home").mkdir()
    (disk.root / "home" / "jobs.json").write_bytes(old)
    disk.adopt()
    jobs = codec.decode_classic_jobs(old, NOW)
    history = History(disk, jobs, len(jobs))
    history.acks.append((len(disk.ops), len(jobs)))
    with booted("before"), disk.recording(), closing(Store(disk.root / "home")) as store:
        enqueue(store, "c")
        history.ack(store)

    examined = examine(history, lab, first=history.acks[0][0])

    assert all_well("during an import", examined)


def test_an_accepted_job_finds_its_environment_after_a_power_cut(lab):
    """The variables of a job are on the disk before the job is, also if others wrote them."""
    assert all_well("while variables are kept", variables(lab))


def variables(lab: Path) -> Examined:
    """Examine how a process is killed while it keeps variables and another uses them."""
    examined = Examined()
    for kill in itertools.count():
        history, killed = a_job_with_variables(lab, kill)
        first = history.disk.killed_at if killed else history.began
        examine(history, lab, first=first, check=missing_environment, into=examined)
        if not killed:
            return examined
    raise AssertionError


def a_job_with_variables(lab: Path, kill: int) -> tuple[History, bool]:
    """Record how a process is killed while it keeps variables, and another enqueues with them."""
    with opened(new_disk(lab)) as (store, history):
        disk, killed = history.disk, False
        history.ack(store)
        disk.kill_at = len(disk.ops) + kill
        try:
            environment.keep(store.paths.env, {"TOKEN": "secret"})
        except Killed:
            killed = True
        disk.kill_at, disk.dead = None, False
        environment._confirm.cache_clear()  # another process
        reference = environment.keep(store.paths.env, {"TOKEN": "secret"})
        enqueue(store, "1", env_ref=reference)
        history.ack(store)
    return history, killed


def missing_environment(store: Store, _seq: int) -> str | None:
    """Say whether a job has lost its variables."""
    environment._recall.cache_clear()
    try:
        for job in store.table.jobs.values():
            environment.recall(store.paths.env, job.env_ref)
    except QueuectlError:
        return "the environment of an accepted job is lost"
    return None


def test_an_archived_job_is_lost_in_no_power_cut_and_shown_once(lab):
    """A job is in the store or in the archive, whoever is killed and whenever the power is cut."""
    assert all_well("while jobs are archived", archiving(lab))


def archiving(lab: Path, *, until_caught: bool = False) -> Examined:
    """Examine how a process is killed while it archives, and others go on."""
    examined = Examined()
    for kill in itertools.count():
        history, killed = a_life_with_an_archive(lab, kill)
        shown = functools.partial(not_shown_once, history)
        first = history.disk.killed_at if killed else history.began
        examine(history, lab, first=first, check=shown, into=examined, until_caught=until_caught)
        if not killed or examined.violations:
            return examined
    raise AssertionError


def a_life_with_an_archive(lab: Path, kill: int) -> tuple[History, bool]:
    """Record how a process is killed while it archives, and another prunes and archives."""
    with opened(new_disk(lab)) as (store, history):
        disk, killed = history.disk, False
        enqueue(store, "old")
        finish(store, "old")
        archive.move_finished(store, 0)
        enqueue(store, "1", "2", "3")
        finish(store, "1", "2", "3")
        history.ack(store)
        disk.kill_at = len(disk.ops) + kill
        try:
            archive.move_finished(store, 1)
        except Killed:
            killed = True
        store.close()
        disk.kill_at, disk.dead = None, False
        other = Store(disk.root / "home")
        enqueue(other, "pruned")
        finish(other, "pruned")
        history.ack(other)
        for id in ("pruned", "2"):
            if id in other.table.jobs:
                drop(other, id)
                history.dropped[id] = other.seq
                history.ack(other)
        archive.move_finished(other, 0)
        history.ack(other)
        compaction.compact(other)
        other.close()
    return history, killed


def drop(store: Store, id: str) -> None:
    """Prune a job as the queue does."""

    def decide(table: Table, now: datetime) -> list[Event]:
        archive.forget_unfinished(store.paths.home, table)
        return [lifecycle.prune(table.jobs[id], now=now)]

    store.transact(decide)


def finish(store: Store, *ids: str) -> None:
    """Bring jobs to their end."""
    store.transact(lambda table, now: [lifecycle.cancel(table.jobs[id], now=now) for id in ids])


def not_shown_once(history: History, store: Store, seq: int) -> str | None:
    """Say whether a job that was archived is missing, or is there twice, or a pruned one is."""
    home, kept = store.paths.home, store.table.jobs
    found = [*kept, *(job.id for job in archive.records(home, kept))]
    ever = {id for at, jobs in history.expected().items() if at <= seq for id in jobs}
    dropped = {id for id, at in history.dropped.items() if at <= seq}
    return None if sorted(found) == sorted(ever - dropped) else f"listed {sorted(found)}"


def test_a_repair_that_is_cut_short_can_be_done_again(lab, monkeypatch):
    """Whatever a repair leaves half done is repaired to the same jobs, or opens with them."""
    monkeypatch.setattr(repair, "_users", lambda _paths: iter(()))
    examined = Examined()
    for damage in (damaged_journal, damaged_snapshot, damaged_header):
        history, wanted = a_repair(lab, damage)
        visit = functools.partial(repaired_to, wanted)
        examine(history, lab, first=history.began, visit=visit, into=examined)

    assert all_well("during a repair", examined)


def a_repair(lab: Path, damage: Callable[[Path], None]) -> tuple[History, dict[str, bytes]]:
    """Record a repair; return also the jobs that it comes out with."""
    disk = new_disk(lab)
    home = disk.root / "home"
    with booted("before"):
        with closing(Store(home)) as store:
            enqueue(store, "1", "2")
            compaction.compact(store)
            enqueue(store, "3")
            compaction.compact(store)
            for id in ("4", "5", "6"):
                enqueue(store, id)
            store.transact(stores.lease("1"))
        damage(home)
        shutil.copytree(home, lab / "copy")
        repair.repair(lab / "copy")
        with closing(Store(lab / "copy")) as copy:
            wanted = encoded(copy.table)
        shutil.rmtree(lab / "copy")
        disk.adopt()
        history = History(disk)
        with disk.recording():
            repair.repair(home)
    return history, wanted


def repaired_to(wanted: dict[str, bytes], home: Path) -> tuple[str, str] | None:
    """Open the queue, after another repair if need be, and compare it with what it must be."""
    try:
        store = Store(home)
    except StoreDamagedError:
        repair.repair(home)
        store = Store(home)
    with closing(store):
        found = encoded(store.table)
        return None if found == wanted else ("other jobs", f"{sorted(found)}")


def damaged_journal(home: Path) -> None:
    """Damage a line in the middle of the journal."""
    path = home / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"echo 5"', b'"echo x"'))


def damaged_snapshot(home: Path) -> None:
    """Damage the snapshot."""
    path = home / "jobs.json"
    path.write_bytes(path.read_bytes().replace(b'"echo 2"', b'"echo x"'))


def damaged_header(home: Path) -> None:
    """Damage the first line of the journal."""
    path = home / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"generation":3', b'"generation":4'))


@pytest.mark.parametrize("seed", range(40 if SOAK else 2))
def test_a_random_life_survives_power_cuts(seed, lab):
    """Two processes do this and that, one is killed at some operation: nothing acked is lost."""
    history = a_random_life(lab, random.Random(seed))

    examined = examine(history, lab)

    assert all_well(f"in random life {seed}", examined)


def a_random_life(lab: Path, dice: random.Random) -> History:
    """Record some steps of two processes; whoever is killed is started again."""
    with opened(new_disk(lab)) as (first, history):
        disk, stores, names = history.disk, [first, first], itertools.count()
        stores[1] = Store(disk.root / "home")
        disk.kill_at = len(disk.ops) + dice.randrange(80)
        for _ in range(16):
            which = dice.randrange(2)
            try:
                step(stores[which], dice, f"{next(names)}")
                if dice.random() < 0.7:
                    stores[which].sync(stores[which].seq)
                    history.ack(stores[which])
            except Killed:
                stores[which].close()
                disk.kill_at, disk.dead = None, False
                stores[which] = Store(disk.root / "home")
        for store in stores:
            store.close()
    return history


def step(store: Store, dice: random.Random, name: str) -> None:
    """Change something at random, without waiting for the disk."""
    store.catch_up()
    jobs = list(store.table.jobs.values())
    match dice.randrange(6):
        case 0 | 1:
            enqueue(store, f"{name}a", f"{name}b", wait=False)
        case 2 if jobs:
            advance(store, dice.choice(jobs))
        case 3 | 4 if jobs:
            for job in jobs:
                advance(store, job)
        case 5:
            compaction.compact(store)


def advance(store: Store, job: JobRecord) -> None:
    """Take a job one step further in its life."""

    def decide(_table: Table, now: datetime) -> list[Event]:
        match job.state:
            case State.PENDING | State.FAILED:
                return [lifecycle.lease(job, worker="w", token="t", now=now)]
            case State.PROCESSING:
                code = job.order % 2
                return [lifecycle.settle(job, job.attempt, Exit(code=code, finished_at=now))]
        return [lifecycle.prune(job, now=now)]

    store.transact(decide, wait=False)


# --- mutants: a store without one of its precautions must be caught -----------------------------


def no_folder_sync(patch: pytest.MonkeyPatch) -> None:
    """No fsync of any folder."""
    for module in (compaction, opening, store_module):
        patch.setattr(module, "sync_folder", lambda _path: None)


def no_sync_of_the_folder_above(patch: pytest.MonkeyPatch) -> None:
    """No fsync of the folder in which the home was created."""
    patch.setattr(
        opening, "sync_folder", lambda path: path.name == "home" and journal.sync_folder(path)
    )


def no_sync_of_the_new_home(patch: pytest.MonkeyPatch) -> None:
    """No fsync of the home after its files were created."""
    patch.setattr(
        opening, "sync_folder", lambda path: path.name != "home" and journal.sync_folder(path)
    )


def no_sync_between_the_renames(patch: pytest.MonkeyPatch) -> None:
    """No fsync of the home in a compaction."""
    patch.setattr(compaction, "sync_folder", lambda _path: None)


def no_sync_of_an_adopted_name(patch: pytest.MonkeyPatch) -> None:
    """An ack trusts that whoever renamed the journal has synced the home."""
    patch.setattr(store_module, "sync_folder", lambda _path: None)


def _unsynced_file(patch: pytest.MonkeyPatch, name: str) -> None:
    def write_file(path: Path, data: bytes) -> None:
        with pytest.MonkeyPatch.context() as within:
            if path.name == name:
                within.setattr(journal, "sync_data", lambda _fd: None)
            journal.write_file(path, data)

    patch.setattr(compaction, "write_file", write_file)


def no_sync_of_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    """No fsync of jobs.tmp."""
    _unsynced_file(patch, "jobs.tmp")


def no_sync_of_the_new_journal(patch: pytest.MonkeyPatch) -> None:
    """No fsync of journal.tmp."""
    _unsynced_file(patch, "journal.tmp")


def no_announcement(patch: pytest.MonkeyPatch) -> None:
    """The old journal does not say which snapshot is coming, but is synced."""

    def announce(self: Store, _note: object) -> None:
        journal.sync_data(self.current.fd)
        self.mark_durable(self.table.seq)

    patch.setattr(Store, "announce", announce)


def old_journal_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The snapshot is announced, but the old journal is not durable before the swap."""
    announce = Store.announce

    def announce_only(self: Store, note: object) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(store_module, "sync_data", lambda _fd: None)
            announce(self, note)

    patch.setattr(Store, "announce", announce_only)


def journal_renamed_first(patch: pytest.MonkeyPatch) -> None:
    """The journal takes its name before the snapshot does."""
    other = {"jobs.tmp": "journal.tmp", "journal.tmp": "jobs.tmp"}
    rename = Path.rename

    def swapped(self: Path, target: Path) -> Path:
        if self.name in other and (self.parent / "journal.prev.jsonl").exists():
            names = {"jobs.tmp": "jobs.json", "journal.tmp": "journal.jsonl"}
            name = other[self.name]
            return rename(self.with_name(name), self.with_name(names[name]))
        return rename(self, target)

    patch.setattr(Path, "rename", swapped)


def acknowledged_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    """A change is acknowledged before the disk has it."""
    patch.setattr(Store, "sync", lambda _self, _seq: None)


def archive_not_synced(patch: pytest.MonkeyPatch) -> None:
    """Jobs leave the store before the archive is on the disk."""
    patch.setattr(archive, "sync_data", lambda _fd: None)


def archive_without_a_name(patch: pytest.MonkeyPatch) -> None:
    """Jobs leave the store before the name of the archive is on the disk."""
    patch.setattr(archive, "sync_folder", lambda _path: None)


def unfinished_archive_kept(patch: pytest.MonkeyPatch) -> None:
    """What a crash has left in the archive stays there when its job is pruned."""
    patch.setattr(archive, "forget_unfinished", lambda _home, _table: None)


def variables_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """Variables that are there already are taken to be on the disk."""
    patch.setattr(environment, "_confirm", functools.lru_cache(lambda _path: None))


def accepted_though_not_synced(patch: pytest.MonkeyPatch) -> None:
    """What a full disk has stored is named before the disk has it."""
    refusal = Store.refusal

    def refuse(self: Store, *why: object) -> Exception:
        self.sync = lambda _seq: delattr(self, "sync")
        return refusal(self, *why)

    patch.setattr(Store, "refusal", refuse)


def no_watermark(patch: pytest.MonkeyPatch) -> None:
    """No line says what is on the disk already."""
    patch.setattr(store_module, "frame", lambda seq, _durable, body: journal.frame(seq, 0, body))


def everything_said_to_be_durable(patch: pytest.MonkeyPatch) -> None:
    """Each line claims that the one before it is on the disk."""
    patch.setattr(
        store_module, "frame", lambda seq, _durable, body: journal.frame(seq, seq - 1, body)
    )


def a_cut_is_not_told_from_damage(patch: pytest.MonkeyPatch) -> None:
    """A hole is refused, whichever start of the machine it comes from."""
    judge = Generation.judge
    patch.setattr(Generation, "judge", lambda self, rest, _boot: judge(self, rest, self.boot))


def a_torn_tail_stays(patch: pytest.MonkeyPatch) -> None:
    """What a cut has torn is appended to."""
    patch.setattr(Generation, "cut", lambda _self, _rest: None)


def life(lab: Path) -> Examined:
    """Examine a life until something is caught."""
    return examine(a_life(lab), lab, until_caught=True)


def archiving_badly(lab: Path) -> Examined:
    """Examine archiving until something is caught."""
    return archiving(lab, until_caught=True)


def killing_late(lab: Path) -> Examined:
    """Examine compactions killed towards their end until something is caught."""
    return killed_compactions(lab, first=15, until_caught=True)


@pytest.mark.parametrize(
    ("mutate", "story"),
    [
        (no_folder_sync, life),
        (no_sync_of_the_folder_above, life),
        (no_sync_of_the_new_home, life),
        (no_sync_between_the_renames, life),
        (no_sync_of_an_adopted_name, killing_late),
        (no_sync_of_the_snapshot, life),
        (no_sync_of_the_new_journal, life),
        (no_announcement, life),
        (old_journal_not_synced, life),
        (journal_renamed_first, life),
        (acknowledged_before_the_sync, life),
        (archive_not_synced, archiving_badly),
        (archive_without_a_name, archiving_badly),
        (unfinished_archive_kept, archiving_badly),
        (variables_not_confirmed, variables),
        (accepted_though_not_synced, full_disk),
        (no_watermark, bit_rot),
        (everything_said_to_be_durable, life),
        (a_cut_is_not_told_from_damage, life),
        (a_torn_tail_stays, life),
    ],
    ids=lambda value: value.__name__,
)
def test_a_store_without_one_of_its_precautions_is_caught(mutate, story, lab, monkeypatch):
    """The simulation has teeth: it finds what each precaution is there for."""
    mutate(monkeypatch)

    examined = story(lab)

    assert not all_well(mutate.__name__, examined)
