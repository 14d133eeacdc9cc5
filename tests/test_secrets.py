"""Secrets and strangers: a value given with `--env` shows up nowhere, and files are private."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from queuectl_magics import JobQueue, cli
from queuectl_magics.commands import verbs
from queuectl_magics.errors import HomeError, QueuectlError
from queuectl_magics.jobqueue import Details, JobList
from queuectl_magics.store import archive, compaction, repair

CANARY = "c4n4ry-5ecret-value"
UMASKS = (0, 0o022, 0o077)


@pytest.fixture
def queue(own_home) -> Iterator[JobQueue]:
    """A queue whose first job was given the canary."""
    with closing(JobQueue(own_home)) as opened:
        yield opened


def readable(home: Path) -> dict[str, bytes]:
    """Return what lies in the home, but for the kept environments and pipes."""
    found = {}
    for path in home.rglob("*"):
        if path.is_file() and path.parent.name != "env":
            found[str(path.relative_to(home))] = path.read_bytes()
    return found


def leaks(home: Path) -> list[str]:
    """Return the files that hold the canary."""
    return sorted(name for name, data in readable(home).items() if CANARY.encode() in data)


def told(home: Path, *words: str) -> str:
    """Return what `queuectl` prints for *words*, whatever comes of it."""
    session = cli.Terminal()
    session.home = str(home)
    runner = CliRunner()
    with runner.isolation() as streams:
        cli.run(words, session)
        session.close()
        return b"".join(stream.getvalue() for stream in streams[:2]).decode()


def secret_job(queue: JobQueue, command: str = 'test -n "$TOKEN"', **options: object) -> str:
    """Enqueue a command that needs the canary and return its id."""
    return queue.enqueue(command, env={"TOKEN": CANARY}, **options).id


def our_processes(home: Path) -> dict[int, bytes]:
    """Return the arguments and names of all processes that belong to the home."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            folder = Path("/proc", name)
            environ, arguments = (
                (folder / "environ").read_bytes(),
                (folder / "cmdline").read_bytes(),
            )
            if os.fsencode(home) in environ + arguments and int(name) != os.getpid():
                found[int(name)] = arguments + (folder / "comm").read_bytes()
    return found


# --- values -------------------------------------------------------------------------------------


def test_a_secret_value_is_in_no_file_but_its_own(queue):
    """Not in a snapshot, a journal, the archive, a run file or what a repair keeps."""
    dead = secret_job(queue, 'test -n "$TOKEN"; exit 3', max_retries=1)
    script = secret_job(queue, 'import os; assert os.environ["TOKEN"]', shell="python")
    queue.worker()
    queue.wait(dead, script, timeout=60)
    waiting = secret_job(queue, delay_s=3600)

    archive.move_finished(queue.store, 0)
    compaction.compact(queue.store)
    queue.job(waiting).cancel()
    compaction.compact(queue.store)
    (queue.home / "jobs.json").write_bytes(b"damaged")
    queue.close()
    repair.repair(queue.home)

    assert [] == leaks(queue.home)
    assert any(CANARY.encode() in path.read_bytes() for path in (queue.home / "env").iterdir())


def test_a_job_that_prints_its_secret_has_it_in_its_own_log_alone(queue):
    """What a command prints is its own affair; it is copied nowhere."""
    id = secret_job(queue, 'echo "$TOKEN"')
    queue.worker()
    queue.wait(id, timeout=60)

    assert [f"logs/{id}.1.log"] == leaks(queue.home)
    assert f"{CANARY}\n" == queue.job(id).output


def test_no_process_of_ours_has_a_secret_among_its_arguments(queue, until):
    """While a job runs, its recorder, its shell and the guard can be listed by anyone."""
    id = secret_job(queue, 'test -n "$TOKEN" && sleep 60', timeout_s=50)
    queue.worker()

    def all_running() -> dict[int, bytes] | None:
        found = our_processes(queue.home)
        sleeps = any(text.startswith(b"sleep") for text in found.values())
        is_guarded = any(b"queuectl_magics.guard" in text for text in found.values())
        return found if sleeps and is_guarded else None

    running = until(all_running)
    queue.job(id).cancel()

    assert len(running) > 2
    assert [] == [text for text in running.values() if CANARY.encode() in text]


def test_no_verb_shows_a_secret_as_text_or_as_json(queue):
    """Names are shown, values never: not of a job that waits, runs, died or was archived."""
    secret_job(queue, name="first")
    dead = secret_job(queue, 'test -n "$TOKEN"; exit 3', max_retries=1)
    queue.worker()
    queue.wait("1", dead, timeout=60)
    secret_job(queue, delay_s=3600)
    queue.close()
    calls = [
        (verb, *more)
        for verb, more in (
            ("status", ()),
            ("list", ()),
            ("list", ("--all",)),
            ("show", ("1",)),
            ("show", ("2",)),
            ("show", ("3",)),
            ("timeline", ()),
            ("logs", ("2",)),
            ("wait", ("1",)),
            ("dlq", ("list",)),
            ("config", ("list",)),
            ("worker", ("status",)),
            ("repair", ("--dry-run",)),
            ("retry", ("2",)),
            ("cancel", ("3",)),
            ("retry", ("3",)),
            ("pause", ()),
            ("resume", ()),
            ("run", ()),
            ("prune", ("3", "2")),
            ("enqueue", ("--env", f"TOKEN={CANARY}", "true")),
            ("worker", ("stop",)),
        )
    ]
    assert verbs.keys() == {call[0] for call in calls}

    shown = {}
    for call in calls:
        shown[call] = told(queue.home, *call)
        head = call[:2] if call[0] in ("dlq", "config", "worker") else call[:1]
        as_json = (*head, "--json", *call[len(head) :])
        shown[as_json] = told(queue.home, *as_json)

    assert [] == [call for call, text in shown.items() if CANARY in text]
    assert "TOKEN" in shown["show", "1"]
    assert "TOKEN" in shown["list", "--json"]
    assert ["TOKEN"] == json.loads(shown["show", "--json", "1"])["env_names"]


def test_no_object_shows_a_secret(queue):
    """Not in a repr, nor in the HTML that a saved notebook keeps."""
    job = queue.job(secret_job(queue))
    details = Details(job.record, queue.status())
    things = [job, JobList([job]), details, queue, job.record, queue.status(), queue.timeline()]

    shown = [repr(thing) for thing in things]
    shown += [thing._repr_html_() for thing in things if hasattr(thing, "_repr_html_")]
    shown += [queue.frame().to_html(), str(things)]

    assert [] == [text for text in shown if CANARY in text]


def test_a_cell_shows_no_secret(notebook, own_home):
    """Neither as the value of the magic nor in what it displays."""
    notebook.run("%config QueueMagics.autostart = False")
    cell = notebook.run(f"%enqueue --env TOKEN={CANARY} sleep 1")
    again = notebook.run("%queue_show 1")

    assert CANARY not in repr(cell) + repr(again) + cell.value._repr_html_()
    assert "TOKEN" in repr(again.value)


@pytest.mark.parametrize("form", ["--env TOKEN={token!secret}", "--env=TOKEN={token!secret}"])
def test_a_secret_may_be_the_value_of_a_variable(notebook, form):
    """It is hidden there anyway; what it holds is not read again."""
    notebook.run(f"token = {CANARY + '{x} $y'!r}; x = 1")
    cell = notebook.run(f'%enqueue -o job {form} printf %s "$TOKEN"')
    notebook.run("job.wait(60)")

    assert CANARY + "{x} $y" == notebook.shell.user_ns["job"].output
    assert CANARY not in repr(cell)


@pytest.mark.parametrize(
    "code",
    [
        "%enqueue -n {token!secret} echo",
        "%enqueue --env {token!secret}=3 echo",
        "%enqueue --env={token!secret} echo",
        "%enqueue -i python print({token!secret})",
        "%%job -i python -e\nprint('{token!secret}')",
        '%enqueue {"command": "echo {token!secret}"}',
    ],
)
def test_a_secret_that_would_be_kept_or_shown_is_refused(notebook, code):
    """And not passed on as those very characters, with which the job would go wrong later."""
    notebook.run(f"token = {CANARY!r}")

    assert "and in --env NAME={token!secret}" in notebook.refused(code)
    assert [] == notebook.run("%queue_list").value


def test_a_secret_of_an_unknown_name_is_refused_as_a_variable_too(notebook):
    """A wrong credential would be noticed much later."""
    line = notebook.refused("%enqueue --env TOKEN={tokn!secret} true")

    assert "{tokn!secret} is no expression of names that are known" in line


@pytest.mark.parametrize(
    "words",
    [
        ("--env", f"1X={CANARY}", "true"),
        ("--env", f"A B={CANARY}", "true"),
        ("--env", f"={CANARY}", "true"),
        ("--env", f"TOKEN={CANARY}", "--priority", "many", "true"),
        ("--env", f"TOKEN={CANARY}", "--cwd", "/nowhere", "true"),
        ("--env", f"TOKEN={CANARY}", ""),
        (json.dumps({"command": "true", "env": {"TOKEN": [CANARY]}}),),
        (json.dumps({"command": "true", "env": CANARY}),),
        (json.dumps({"command": "true", "env": {f"1{'X'}": CANARY}}),),
        (json.dumps({"command": 7, "env": {"TOKEN": CANARY}}),),
        ('{"command": "true", "env": {"TOKEN": "' + CANARY + '"}',),
    ],
)
def test_no_error_shows_a_secret(queue, words):
    """A mistake elsewhere in the line does not spill what stands beside it."""
    said = told(queue.home, "enqueue", *words)

    assert said.startswith("Error: ")
    assert CANARY not in said


@pytest.mark.parametrize("value", [f"{CANARY}\0", f"{CANARY}\ud800"])
def test_a_value_that_cannot_be_given_to_a_process_is_refused_without_being_shown(queue, value):
    """Only its name is told."""
    with pytest.raises(QueuectlError, match="TOKEN") as refused:
        queue.enqueue("true", env={"TOKEN": value})

    assert CANARY not in str(refused.value)


def test_a_missing_environment_is_told_by_its_file(queue):
    """The reason for which such a job cannot start names no value."""
    id = secret_job(queue, max_retries=1)
    for path in (queue.home / "env").iterdir():
        path.write_bytes(path.read_bytes() + b"X=1\0")
    queue.worker()
    queue.wait(id, timeout=60)

    assert "altered" in queue.job(id).record.reason
    assert CANARY not in told(queue.home, "show", id)


# --- files --------------------------------------------------------------------------------------


def everything(queue: JobQueue) -> None:
    """Make use of all that leaves a file behind."""
    script = queue.enqueue("print(1)", shell="python", env={"A": "b"})
    failing = queue.enqueue("echo out; exit 1", max_retries=1, timeout_s=20)
    queue.worker()
    queue.wait(script, failing, timeout=60)
    queue.configure("count", "2")
    archive.move_finished(queue.store, 0)
    compaction.compact(queue.store)
    running = queue.enqueue("sleep 30", timeout_s=20)
    queue.retry(failing)
    queue.wait(failing, timeout=60)
    compaction.compact(queue.store)
    with (queue.home / "journal.jsonl").open("ab") as file:
        file.write(b"torn")
    queue.job(running.id).cancel()


@pytest.mark.parametrize("mask", UMASKS, ids=oct)
def test_every_file_is_private_under_any_umask(own_home, mask, until):
    """Folders 0700, files 0600: logs, run files, the archive and what a repair keeps, too."""
    before = os.umask(mask)
    try:
        with closing(JobQueue(own_home)) as queue:
            everything(queue)
            modes = [(path, path.lstat().st_mode) for path in own_home.rglob("*")]
            workers = queue.workers()
            queue.stop_workers()
        until(lambda: not any(our_processes(own_home)))
        (own_home / "jobs.json").write_bytes(b"damaged")
        repair.repair(own_home)
        modes += [(path, path.lstat().st_mode) for path in own_home.rglob("*")]
    finally:
        os.umask(before)

    names = {path.name.split("-")[0] for path, _ in modes}
    wrong = [
        (str(path.relative_to(own_home)), oct(mode))
        for path, mode in modes
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    ]
    assert {"archive", "damaged", "guard.log", "config.json", "torn", "jobs.prev.json"} <= names
    assert workers
    assert 0o700 == stat.S_IMODE(own_home.stat().st_mode)
    assert [] == wrong


def test_a_home_that_others_may_read_is_made_private(own_home):
    """A directory that was there before is closed to others when it becomes a home."""
    own_home.mkdir(mode=0o755)

    JobQueue(own_home).close()

    assert 0o700 == stat.S_IMODE(own_home.stat().st_mode)


@pytest.mark.parametrize("use", [JobQueue, repair.repair], ids=["open", "repair"])
def test_the_home_of_another_user_is_refused(own_home, monkeypatch, use: Callable):
    """Nothing is read or written in a directory that someone else may change."""
    JobQueue(own_home).close()
    before = readable(own_home)
    monkeypatch.setattr(os, "geteuid", lambda: own_home.stat().st_uid + 1)

    with pytest.raises(HomeError, match="belongs to another user"):
        use(own_home)

    assert before == readable(own_home)
