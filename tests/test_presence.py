"""Who works on a home is told by locks alone, and a bell wakes or stops them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from queuectl_magics import presence
from queuectl_magics.presence import LOOK, STOP, STOP_NOW, Presence

T0 = datetime(2025, 11, 4, 10, 0, tzinfo=UTC)
PIPE_BYTES = 4096

OTHER = """
import os, select, sys, time
from datetime import datetime, UTC
from pathlib import Path
from queuectl_magics.presence import Presence
mine = Presence(Path(sys.argv[1]), kind="terminal", count=2, now=datetime.now(UTC))
mine.announce()
{then}
print(mine.info.name, flush=True)
while select.select([mine.bell_fd], [], []):
    print(mine.listen().decode(), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where workers announce themselves."""
    folder = tmp_path / "workers"
    folder.mkdir()
    return folder


def new(folder: Path, *, count: int = 1, now: datetime = T0) -> Presence:
    """Return a worker of this process that nobody has heard of yet."""
    return Presence(folder, kind="python", count=count, now=now)


@pytest.fixture
def here(folder):
    """A worker of this process that was announced."""
    here = new(folder)
    here.announce()
    yield here
    here.leave()


@pytest.fixture
def other(folder):
    """Start workers in processes of their own; what is left of them is killed by pid."""
    started = []

    def start(then: str = "") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER.format(then=then), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        process.name = process.stdout.readline().strip()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def names(folder: Path) -> list[str]:
    """Return the names of the workers that are listed."""
    return [worker.name for worker in presence.workers(folder)]


# --- alive means locked --------------------------------------------------------------------------


def test_worker_is_listed_from_its_announcement_until_it_leaves(folder):
    """Before and after there is no trace of it."""
    worker = new(folder, count=3)
    before = names(folder), presence.is_alive(folder, worker.info.name)
    worker.announce()
    during = presence.workers(folder), presence.is_alive(folder, worker.info.name)
    worker.leave()

    assert ([], False) == before
    assert ([worker.info], True) == during
    assert [] == names(folder)
    assert not presence.is_alive(folder, worker.info.name)
    assert [] == list(folder.iterdir())


def test_worker_tells_where_it_lives(folder, here):
    """Its name, process, kind, count and start are there for everyone to read."""
    told = presence.workers(folder)[0]

    assert (os.getpid(), "python", 1, T0) == (told.pid, told.kind, told.count, told.started_at)
    assert told.name.startswith(f"{os.getpid()}-")


def test_files_of_a_worker_are_for_its_owner_only(folder, here):
    """0600 each."""
    assert [0o600] * 2 == [path.stat().st_mode & 0o777 for path in folder.iterdir()]


def test_workers_of_one_process_are_told_apart(folder, here):
    """A process may hold several workers: each has a name and a lock of its own."""
    second = new(folder, now=T0.replace(year=2024))
    second.announce()
    listed = names(folder)
    second.leave()

    assert [second.info.name, here.info.name] == listed
    assert [here.info.name] == names(folder)


def test_nobody_is_alive_without_a_name_or_a_file(folder):
    """A job that was never leased has no worker; a name that nobody has is nobody's."""
    assert not presence.is_alive(folder, None)
    assert not presence.is_alive(folder, "1-abcdef")
    assert [] == list(folder.iterdir())


def test_count_is_corrected_in_place(folder, here):
    """When the setting changes the list of workers says so, and the lock is kept all the while."""
    for count in (20, 3):
        here.tell_count(count)
        assert [count] == [worker.count for worker in presence.workers(folder)]


def test_reader_never_meets_half_of_what_a_worker_says(folder, here):
    """A worker that corrects itself does not drop out of the list for a moment."""
    done = threading.Event()

    def correct() -> None:
        count = 0
        while not done.is_set():
            count += 1
            here.tell_count(count)

    thread = threading.Thread(target=correct)
    thread.start()
    seen = [len(presence.workers(folder)) for _ in range(1000)]
    done.set()
    thread.join()

    assert {1} == set(seen)


def test_worker_in_another_process_is_alive(folder, other):
    """A lock speaks across processes."""
    process = other()

    assert presence.is_alive(folder, process.name)
    assert [process.name] == names(folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_worker_is_gone_and_its_files_are_removed(folder, other, number):
    """The system drops the lock; whoever looks next tidies up."""
    process = other()
    process.send_signal(number)
    process.wait()

    assert not presence.is_alive(folder, process.name)
    assert 2 == len(list(folder.iterdir()))
    assert [] == names(folder)
    assert [] == list(folder.iterdir())


def test_new_worker_clears_away_what_dead_ones_left(folder, other):
    """A queue whose workers are killed again and again does not fill with their files."""
    process = other()
    process.kill()
    process.wait()
    worker = new(folder)
    worker.announce()
    left = {path.stem for path in folder.iterdir()}
    worker.leave()

    assert {worker.info.name} == left


DIE = """
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from queuectl_magics.presence import Presence
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
{point} = die
Presence(Path(sys.argv[1]), kind="terminal", count=2, now=datetime.now(UTC)).announce()
"""


@pytest.mark.parametrize("point", ["os.mkfifo", "Presence._describe", "Path.rename"])
def test_worker_that_dies_before_it_has_its_name_leaves_nothing(folder, here, point):
    """Its lock is free and it will never be listed; whoever is announced next clears it away."""
    argv = [sys.executable, "-c", DIE.format(point=point), folder]
    assert -signal.SIGKILL == subprocess.run(argv, timeout=60, check=False).returncode
    assert 3 <= len(list(folder.iterdir())) <= 4

    assert [here.info] == presence.workers(folder)
    assert {f"{here.info.name}.json", f"{here.info.name}.bell"} == set(os.listdir(folder))


def test_worker_that_is_being_announced_is_left_alone(folder, monkeypatch):
    """Its file has not its name yet, but is locked."""
    worker = new(folder)
    describe = worker._describe

    def looked_at(path: Path) -> None:
        assert [] == presence.workers(folder)
        describe(path)

    monkeypatch.setattr(worker, "_describe", looked_at)
    worker.announce()

    assert [worker.info] == presence.workers(folder)
    assert 1 == presence.ring(folder)
    worker.leave()
    assert [] == list(folder.iterdir())


def test_suspended_worker_is_alive(folder, other):
    """No heartbeat decides: a machine that sleeps loses no worker."""
    process = other()
    process.send_signal(signal.SIGSTOP)

    assert presence.is_alive(folder, process.name)
    process.send_signal(signal.SIGCONT)


def test_forked_child_does_not_keep_a_dead_worker_alive(folder, other, until):
    """A kernel that used multiprocessing and was killed is dead, though its children live."""
    process = other("child = os.fork()\nif child == 0: time.sleep(100)\nprint(child, flush=True)")
    child, name = int(process.name), process.stdout.readline().strip()
    try:
        assert presence.is_alive(folder, name)
        process.kill()
        process.wait()

        until(lambda: not presence.is_alive(folder, name))  # it may only just have been forked
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_program_that_a_worker_started_does_not_keep_it_alive(folder, other):
    """Neither lock nor bell is inherited by a program."""
    then = (
        "import subprocess as s; print(s.Popen(['sleep', '100'], close_fds=False).pid, flush=True)"
    )
    process = other(then)
    child, name = int(process.name), process.stdout.readline().strip()
    try:
        process.kill()
        process.wait()

        assert not presence.is_alive(folder, name)
        assert 0 == presence.ring(folder)
    finally:
        os.kill(child, signal.SIGKILL)


def test_worker_that_is_just_appearing_is_never_taken_for_a_dead_one(folder):
    """While many look and tidy, a new worker stays in the list from its first moment."""
    done, wrong = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            presence.workers(folder)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        worker = new(folder)
        worker.announce()
        if not presence.is_alive(folder, worker.info.name) or 2 != len(list(folder.iterdir())):
            wrong.append(worker.info.name)
        worker.leave()
    done.set()
    for thread in threads:
        thread.join()

    assert [] == wrong


def test_those_who_ask_do_not_take_each_other_for_a_worker(folder):
    """A dead worker's file that several look at at once is dead for all of them."""
    (folder / "1-dead.json").write_text("{}")
    start, found = threading.Barrier(4), []

    def ask() -> None:
        start.wait()
        found.extend(presence.is_alive(folder, "1-dead") for _ in range(300))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [False] * 1200 == found


def test_what_is_no_description_is_left_out(folder, here):
    """A locked file that says nothing intelligible is no worker to show."""
    (folder / f"{here.info.name}.json").write_text("{")

    assert [] == names(folder)
    assert presence.is_alive(folder, here.info.name)


# --- the bell ------------------------------------------------------------------------------------


def test_nobody_hears_where_nobody_is(folder, tmp_path):
    """Ringing in an empty home, or in none, is no error."""
    assert 0 == presence.ring(folder)
    assert 0 == presence.ring(tmp_path / "missing")


def test_ring_is_heard_once(here):
    """A worker that listened has heard; it does not hear the same ring again."""
    here.ring()

    assert LOOK == here.listen()
    assert b"" == here.listen()


def test_everyone_hears_a_ring(folder, here, other):
    """Whoever changes the queue wakes all workers, in every process."""
    process = other()

    assert 2 == presence.ring(folder)
    assert LOOK == here.listen()
    assert f"{LOOK.decode()}\n" == process.stdout.readline()


def test_one_alone_can_be_rung(folder, here, other):
    """A message for one worker is not heard by the others."""
    process = other()

    assert 1 == presence.ring(folder, STOP, only=process.name)
    assert f"{STOP.decode()}\n" == process.stdout.readline()
    assert b"" == here.listen()


def test_sleeping_worker_wakes_in_a_moment(folder, other):
    """It sleeps in the system, and a ring from another process wakes it within 100 ms."""
    process = other()
    waits_s = []
    for _ in range(5):
        rung_at = time.monotonic()
        presence.ring(folder)
        process.stdout.readline()
        waits_s.append(time.monotonic() - rung_at)

    assert min(waits_s) < 0.1


def test_bell_can_be_slept_on(here):
    """Its descriptor is readable while a ring is unheard, also one that came before the sleep."""
    silent = select.select([here.bell_fd], [], [], 0)[0]
    here.ring()
    ringing = select.select([here.bell_fd], [], [], 0)[0]
    here.listen()

    assert [] == silent
    assert [here.bell_fd] == ringing
    assert [] == select.select([here.bell_fd], [], [], 0)[0]


def test_worker_listens_on_a_high_descriptor_too(folder, here, raised_limit):
    """A kernel may have more than a thousand files open."""
    with contextlib.ExitStack() as many:
        for _ in range(1100):
            many.enter_context(open(os.devnull))
        worker = new(folder)
        worker.announce()
        presence.ring(folder)
        heard = worker.listen()
        number = worker.bell_fd
        worker.leave()

    assert number > 1023
    assert LOOK == heard


@pytest.mark.parametrize("message", [STOP, STOP_NOW])
def test_stop_gets_through_however_often_was_rung(folder, here, message):
    """A worker that has not listened for a long time still hears that it should stop."""
    fcntl.fcntl(here.bell_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    for _ in range(PIPE_BYTES + 10):
        presence.ring(folder)
    assert 1 == presence.ring(folder, message)

    assert message in here.listen()


def test_who_has_been_woken_already_is_not_rung_again(folder, here, other):
    """Who enqueues rings the worker of its own process first, and then all others."""
    process = other()

    assert 1 == presence.ring(folder, besides=here.info.name)
    assert b"" == here.listen()
    assert f"{LOOK.decode()}\n" == process.stdout.readline()


def test_unheard_rings_do_not_pile_up(folder, here):
    """A bell that rings already need not be rung again."""
    for _ in range(10):
        assert 1 == presence.ring(folder)

    assert LOOK == here.listen()


def test_ringing_a_full_pipe_is_no_error(folder, here):
    """It counts as heard: the worker will look when it empties the pipe."""
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(here.bell_fd, b"." * 4096)
    here.ring()

    assert 1 == presence.ring(folder)
    assert 1 == presence.ring(folder, STOP)
    assert 4096 == len(here.listen())


def test_bell_of_a_dead_worker_is_silent(folder, other):
    """A pipe that nobody reads is passed over, and does not block or kill who rings."""
    process = other()
    process.kill()
    process.wait()

    assert 0 == presence.ring(folder)


def test_ring_after_leaving_touches_nothing(folder):
    """A job may end after its worker left: the descriptor may be someone else's file by then."""
    worker = new(folder)
    worker.announce()
    number = worker.bell_fd
    worker.leave()
    reader, writer = os.pipe()
    try:
        assert number in (reader, writer)
        worker.ring()
        assert [] == select.select([reader], [], [], 0)[0]
    finally:
        os.close(reader)
        os.close(writer)


def test_ring_in_the_middle_of_a_ring_does_not_hang(here, monkeypatch):
    """A signal may come at any moment, and its answer is to ring."""
    write, depth = os.write, []

    def interrupted(fd: int, data: bytes) -> int:
        if not depth:
            depth.append(1)
            here.ring()
        return write(fd, data)

    monkeypatch.setattr(os, "write", interrupted)
    here.ring()

    assert LOOK * 2 == here.listen()


def test_worker_that_dies_while_its_bell_is_rung_has_not_heard_it(tmp_path, monkeypatch):
    """Killed between the look at its bell and the ring: nothing is raised to who enqueues."""
    bell = tmp_path / "worker.bell"
    os.mkfifo(bell)
    reader = os.open(bell, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(presence, "_is_ringing", lambda _: os.close(reader))

    assert 0 == presence.ring(tmp_path)


@pytest.mark.parametrize("timeout_s", [0.0, -0.0001, -5.0])
def test_sleep_that_is_over_already_ends_at_once(here, timeout_s):
    """The moment until which to sleep may have passed while there was something to do."""
    assert not here.sleep(timeout_s)


def test_sleep_ends_at_a_ring_and_says_so(here):
    """Whoever rings need not be another process, and nobody sleeps on what was not heard."""
    assert not here.is_ringing
    here.ring()
    assert here.is_ringing
    assert here.sleep(60)
    assert LOOK == here.listen()
    assert not here.is_ringing
