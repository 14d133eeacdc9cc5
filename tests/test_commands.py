"""The verbs: what each returns, prints and refuses; in this process, as `queuectl` calls them."""

from __future__ import annotations

import io
import json
import sys
from typing import NamedTuple

import click
import pytest

from queuectl_magics import Job, JobQueue, cli, clock, environment
from queuectl_magics.commands import verbs
from queuectl_magics.commands.enqueueing import looks_like_object
from queuectl_magics.commands.verb import Family, Session, Verb
from queuectl_magics.errors import StoreFullError

ROOT = Family("queuectl", commands=verbs)
STATES = ("pending", "processing", "completed", "failed", "dead", "cancelled")


class Ran(NamedTuple):
    """What came of a call."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """What was printed, all of it, as JSON."""
        return json.loads(self.out)


@pytest.fixture
def queuectl(home, capsys):
    """Call a verb with the home of this test."""

    def call(*arguments: str) -> Ran:
        session = cli.Terminal()
        try:
            code = cli.run(["--home", str(home), *arguments], session)
        finally:
            session.close()
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def stdin(monkeypatch):
    """Let standard input hold these bytes."""

    def hold(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return hold


def refusal(ran: Ran) -> str:
    """Return the one line of an error; nothing else was printed."""
    assert ("", 1) == (ran.out, ran.err.count("\n")), ran
    assert ran.err.startswith("Error: ")
    return ran.err.removeprefix("Error: ").rstrip("\n")


def every_verb(family: click.Group = ROOT, *before: str) -> list[tuple[str, ...]]:
    """Return the words of all verbs."""
    found = []
    for name, command in family.commands.items():
        inner = isinstance(command, Family)
        found += every_verb(command, *before, name) if inner else [(*before, name)]
    return found


def find(words: tuple[str, ...]) -> click.Command:
    """Return the verb that these words call."""
    command: click.Command = ROOT
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


# --- the verbs as a whole ------------------------------------------------------------------------


@pytest.mark.parametrize("words", every_verb(), ids=" ".join)
def test_every_verb_has_help_a_text_and_json(words, queuectl):
    """`-h` works, the first sentence fits into the list of verbs, and every option says why."""
    verb = find(words)
    shown = queuectl(*words, "-h")

    assert isinstance(verb, Verb)
    assert (0, "") == (shown.code, shown.err)
    assert shown.out.startswith(f"Usage: queuectl {' '.join(words)} ")
    assert not verb.get_short_help_str(62).endswith("...")
    assert "--json" in shown.out
    assert "INTEGER RANGE" not in shown.out
    assert all(param.help for param in verb.params if isinstance(param, click.Option))
    assert max(map(len, shown.out.splitlines())) <= 80


def test_verbs_are_listed_in_the_order_of_their_use(queuectl):
    """Not in that of the alphabet."""
    shown = queuectl("-h")
    listed = [line.split()[0] for line in shown.out.partition("Commands:\n")[2].splitlines()]

    assert (0, "") == (shown.code, shown.err)
    assert list(verbs) == listed
    assert ["enqueue", "run", "worker", "status", "list"] == listed[:5]
    assert shown == queuectl("--help")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lisst"], "queuectl has no verb 'lisst'. Did you mean 'list'? See queuectl -h"),
        (["worker", "strat"], "queuectl worker has no verb 'strat'. Did you mean 'start'? See"),
        (["dlq", "xyzzy"], "queuectl dlq has no verb 'xyzzy'. Known: list, retry. See queuectl"),
        (["show"], "Missing argument 'ID'. See queuectl show -h"),
        (["show", "1", "2"], "Got unexpected extra argument (2). See queuectl show -h"),
        (["status", "--fialed"], "--failed"),
        (["status", "--fialed"], "See queuectl status -h"),
        ([], "Missing command. See queuectl -h"),
        (["config", "set", "count"], "Missing argument 'VALUE'. See queuectl config set -h"),
        (["logs", "1", "-n", "x"], "Invalid value for '--lines' / '-n': 'x' is not a valid int"),
        (["run", "-n", "0"], "Invalid value for '--count' / '-n': 0 is not in the range"),
        (["run", "-n", "1001"], "1001 is not in the range 1<=x<=1000. See queuectl run -h"),
        (["wait", "--timeout", "soon"], "'soon' is no duration: write 90, 90s, 10m, 6h or 2d"),
        (["enqueue", "--env", "TOKEN", "x"], "write NAME=VALUE, like --env THREADS=4"),
        (["enqueue", "--max-output", "much", "x"], "'much' is no size: write 500000, 64k"),
        (["enqueue", "--on-lost", "cry", "x"], "'cry' is not one of 'retry', 'fail', 'hold'"),
        (["cancel", "--signal", "TREM", "1"], "there is no signal 'TREM'. Did you mean 'TERM'?"),
        (["status", "--home", "x"], "--home goes before the verb: queuectl --home DIR status"),
        (["--json", "status"], "--json goes after the verb: queuectl status --json"),
        ([""], "queuectl has no verb ''. Known: enqueue,"),
    ],
)
def test_what_is_not_understood_is_one_line_that_teaches(queuectl, home, words, line):
    """What, which, what now; exit code 2, and nothing has changed."""
    ran = queuectl(*words)

    assert line in refusal(ran)
    assert 2 == ran.code
    assert not home.exists()


@pytest.mark.parametrize(
    "words",
    [
        *(["show", "9"], ["logs", "9"], ["cancel", "9"], ["retry", "9"], ["wait", "9"]),
        *(["dlq", "retry", "9"], ["prune", "9"], ["status", "9"], ["list", "9"]),
    ],
)
def test_unknown_job_is_refused_by_every_verb(queuectl, words):
    """Exit code 1: it was understood, and there is no such job."""
    ran = queuectl(*words)

    assert "there is no job '9'. See them with status." == refusal(ran)
    assert 1 == ran.code
    assert ran == queuectl(*words, "--json")


def test_session_promises_what_a_door_must_bring():
    """The base of both doors: a plain width, no bar, no worker; the rest is theirs."""
    with pytest.raises(TypeError, match=r"abstract methods.*home_path.*queue.*say.*write"):
        Session()

    session = Cell(None)

    assert (80, 0, False) == (session.width, session.height, session.foreground)
    assert Session.progress(session, 1, 2, "jobs") is None
    assert Session.worker_wanted(session, wanted=True) is None


# --- enqueue -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["echo Hello; echo $HOME | wc"], "echo Hello; echo $HOME | wc"),
        (["echo", "a b", "$HOME", "it's"], """echo 'a b' '$HOME' 'it'"'"'s'"""),
        (["--", "--weird", "-x"], "--weird -x"),
        (["--priority", "5", "--", "-x"], "-x"),
        (["python", "train.py", "--json", "-h"], "python train.py --json -h"),
        (["[ -d /tmp ] && echo yes"], "[ -d /tmp ] && echo yes"),
        (["{ echo a; }"], "{ echo a; }"),
        (["[[ 1 ]]"], "[[ 1 ]]"),
        (["printf '%s\n' a\nprintf b"], "printf '%s\n' a\nprintf b"),
        (["wait"], "wait"),
    ],
)
def test_command_is_what_follows_the_options(queuectl, home, words, command):
    """One word is shell text; several are quoted again one by one; options end at the first."""
    ran = queuectl("enqueue", *words)

    assert 0 == ran.code
    assert ran.out == f"Job enqueued: id=1, command={command}\n".replace(
        "\n", "⏎", command.count("\n")
    )
    with JobQueue(home) as queue:
        assert command == queue.job(1).command


def test_options_become_what_the_job_keeps(queuectl):
    """All of them, in the units of a person."""
    options = (
        "--id job1 -n train --tag a --tag b -p -5 -r 0 --backoff-base 1.5 --backoff-cap 10m "
        "--backoff-jitter 0.5 --delay 1h --cwd / --env A=x=y --env B= -i bash -t 90 --grace 1m "
        "--max-output 64k --on-lost hold"
    )
    job = queuectl("enqueue", *options.split(), "--json", "echo $A").json

    assert ["id", "command", "state", "attempts", "max_retries"] == list(job)[:5]
    kept = {
        "id": "job1",
        "command": "echo $A",
        "name": "train",
        "tags": ["a", "b"],
        "priority": -5,
        "max_retries": 0,
        "backoff_base": 1.5,
        "backoff_cap_s": 600.0,
        "backoff_jitter": 0.5,
        "cwd": "/",
        "env_names": ["A", "B"],
        "shell": "bash",
        "timeout_s": 90.0,
        "grace_s": 60.0,
        "output_bytes_max": 65_536,
        "on_lost": "hold",
    }
    assert kept.items() <= job.items()
    assert "x=y" not in queuectl("show", "train").out + queuectl("show", "train", "--json").out


def test_json_is_read_from_the_argument(queuectl):
    """An object, an array, or one object a line; options fill in what an object leaves open."""
    one = '{"id": "job1", "command": "echo Hello from job1"}'
    assert "Job enqueued: id=job1, command=echo Hello from job1\n" == queuectl("enqueue", one).out

    two = queuectl("enqueue", "-r", "7", '[{"command": "a", "maxRetries": 2}, {"command": "b"}]')
    assert "Job enqueued: id=1, command=a\nJob enqueued: id=2, command=b\n" == two.out
    assert [2, 7] == [job["max_retries"] for job in queuectl("list", "1", "2", "--json").json]

    lines = queuectl("enqueue", "--json", ' {"command": "c"}\r\n\n{"command": "d"}\n').json
    assert ["c", "d"] == [job["command"] for job in lines]
    assert isinstance(queuectl("enqueue", "--json", '{"command": "e"}').json, dict)


@pytest.mark.parametrize(
    ("data", "commands"),
    [
        (b'{"command": "a"}', ["a"]),
        (b'\xef\xbb\xbf[{"command": "a"},\n {"command": "b", "delay": "10m"}]\n', ["a", "b"]),
        (b'{"command": "a"}\r\n\r\n{"command": "b"}\r\n', ["a", "b"]),
        (b"[]", []),
        ('{"command": "écho 日本"}'.encode(), ["écho 日本"]),
        (b'{"command": "true ' + b"x" * 2**20 + b'"}', ["true " + "x" * 2**20]),
    ],
)
def test_json_is_read_from_standard_input(queuectl, stdin, data, commands):
    """It is always an array that `--json` prints, however many there were."""
    stdin(data)

    assert commands == [job["command"] for job in queuectl("enqueue", "--json", "-").json]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "nothing came from standard input: give JSON objects, an array or one a line"),
        (b" \n", "nothing came from standard input"),
        (b"echo hi", "this is no JSON (Expecting value: line 1 column 1 (char 0)): give an obj"),
        (b'"echo hi"', "a job is a JSON object with at least a command"),
        (b'["echo hi"]', "a job is a JSON object with at least a command"),
        (b"null", "a job is a JSON object with at least a command"),
        (
            b'{"command": "a"}\n\n{"command": }',
            "line 3 is no JSON (Expecting value, column 13): {",
        ),
        (b'{"command": "a"}\n{"priority": ' + b"1" * 5000 + b"}", "line 2 is no JSON (Exceeds"),
        (b'{"command": "a"}\n' + b"[" * 100_000, "line 2 is no JSON (maximum recursion"),
        (b'{"command": "a"}\nnot json', "line 2 is no JSON (Expecting value, column 1): not json"),
        (b'{\n"command": "a"\n"x"}', "this is no JSON (Expecting ',' delimiter: line 3"),
        (b'{"command": "a"}\n{"command": "a", "id": "b/c"}', "job 2 of 2: 'b/c' cannot be an id"),
        (b'[{"command": "a", "id": "x"}, {"command": "b", "id": "x"}]', "the id 'x' is taken"),
        (b'[{"command": "a"}, {"command": "b", "id": "old"}]', "the id 'old' is taken"),
        (b"[" * 100_000, "this JSON is nested too deeply"),
        (b"9" * 5000, "this is no JSON"),
        (b'{"command": "a \xff"}', "the command contains half a character"),
        (b'{"command": "a \\ud800"}', "the command contains half a character"),
        (b'{"command": "a \\u0000"}', "the command contains a NUL byte"),
        (b'{"command": "a", "max_retries": 1.5}', "the job object does not fit: Expected `int"),
        (b'{"command": "a", "backoff_base": NaN}', "backoff_base is nan"),
        (b'{"command": "a", "priority": 1e99}', "the job object does not fit"),
        (b'{"command": "a", "env": {"T": true}}', "the job object does not fit: Expected `str`"),
    ],
)
def test_json_that_does_not_fit_changes_nothing(queuectl, stdin, data, line):
    """However many of its objects do fit; the line says which one does not."""
    queuectl("enqueue", "--id", "old", "true")
    stdin(data)
    ran = queuectl("enqueue", "-")

    assert line in refusal(ran)
    assert 2 == ran.code
    assert ["old"] == [job["id"] for job in queuectl("list", "--json").json]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "the command is empty: give one, like  echo hello"),
        ([" "], "the command is empty"),
        (["--id", "a/b", "x"], "'a/b' cannot be an id"),
        (["--id", "-x", "x"], "'-x' cannot be an id"),
        (["--max-retries", "-1", "x"], "max_retries is -1: it must be from 0 to 1,000,000"),
        (["--backoff-base", "nan", "x"], "backoff_base is nan"),
        (["--priority", "9" * 30, "x"], "it must be from -1,000,000 to 1,000,000"),
        (["--cwd", "/nope", "x"], "the directory '/nope' does not exist: create it first"),
        (["--env", "1A=s3cret", "x"], "'1A' is no name for an environment variable"),
        (["--shell", "", "x"], "'' is no program"),
        (["-", "--json"], "nothing may follow -: options come before it"),
        (['{"command": "x"}', "-r", "5"], 'nothing may follow {"command": "x"}: options come'),
        (['{"command": '], "this is no JSON (Expecting value: line 1 column 13 (char 12))"),
        (["{}"], "the job has no command"),
        (['{"comand": "x"}'], "a job has no key 'comand'. Did you mean 'command'?"),
        (['{"name": 5, "command": "x"}'], "the job object does not fit: Expected `str | null`"),
    ],
)
def test_job_that_does_not_fit_is_refused(queuectl, words, line):
    """The line says what does not; no secret is in it."""
    ran = queuectl("enqueue", *words)

    assert line in refusal(ran)
    assert "s3cret" not in ran.err
    assert 2 == ran.code
    assert [] == queuectl("list", "--json").json


@pytest.mark.parametrize("line", ['{"', "{ }", ' [ {"', '[{"a":1}]', '\n{\n"'])
def test_what_begins_as_json_is_json(line):
    """No shell command begins like that."""
    assert looks_like_object(line)


@pytest.mark.parametrize("line", ["", "{ a; }", "[ a ]", "[[ a ]]", "{a,b}", "[1]", "x {}", "{{"])
def test_groups_tests_and_braces_are_the_shells(line):
    """They begin a command."""
    assert not looks_like_object(line)


# --- run, wait, worker ---------------------------------------------------------------------------


def test_run_tells_what_happens_and_returns_when_all_is_over(queuectl):
    """The lines that users of queuectl know, and the exit code of a death."""
    queuectl("enqueue", '{"id":"job1","command":"echo Hello from job1"}')
    queuectl("enqueue", "--id", "bad", "-r", "2", "--backoff-base", "0", "exit 3")
    ran = queuectl("run")

    assert [
        "Running job job1: echo Hello from job1",
        "Job job1 completed successfully.",
        "Running job bad: exit 3",
        "Job bad failed: exit 3 (attempt 1 of 2), next attempt due now",
        "Running job bad: exit 3",
        "Job bad is dead after 2 failed attempts: exit 3",
        "1 completed, 1 dead",
    ] == [line.partition(" (1")[0] for line in ran.out.splitlines()] or ran.out
    assert (1, "") == (ran.code, ran.err)
    assert Ran(0, "No jobs.\n", "") == queuectl("run")
    assert "Hello from job1\n" == queuectl("logs", "job1").out


def test_run_json_prints_the_jobs_and_talks_on_stderr(queuectl):
    """What it says along the way does not get into the JSON."""
    queuectl("enqueue", "true")
    ran = queuectl("run", "--json", "-n", "2")

    assert ["completed"] == [job["state"] for job in ran.json]
    assert "Running job 1: true\nJob 1 completed successfully.\n" == ran.err
    assert Ran(0, "[]\n", "") == queuectl("run", "--json")


def test_run_waits_for_what_other_workers_have_taken(queuectl, own_home, until):
    """It returns when the jobs it found waiting are over, whoever ran them."""
    with JobQueue(own_home) as other:
        other.worker()
        job = other.enqueue("sleep 0.5; exit 1", max_retries=1)
        until(lambda: job.state == "processing")
        ran = queuectl("run")

    assert (1, "1 dead\n") == (ran.code, ran.out)


def test_paused_queue_starts_nothing_and_says_so(queuectl):
    """`pause` and `resume` are verbs of their own; `run` does not wait for ever."""
    queuectl("enqueue", "true")
    assert "The queue is paused: nothing starts until it is resumed.\n" == queuectl("pause").out
    assert {"paused": True} == queuectl("pause", "--json").json

    ran = queuectl("run")
    assert "the queue is paused, nothing would start: resume it first" == refusal(ran)
    assert 1 == ran.code
    assert queuectl("status", "--json").json["paused"]

    assert "The queue is resumed.\n" == queuectl("resume").out
    assert {"paused": False} == queuectl("resume", "--json").json
    assert 0 == queuectl("run").code


def test_wait_says_how_it_ended(queuectl):
    """One job in words, several as counts; 1 when one of them died; unknown time is refused."""
    queuectl("enqueue", "true")
    queuectl("enqueue", "-r", "1", "exit 3")
    queuectl("run")

    assert Ran(0, "Job 1 completed successfully.\n", "") == queuectl("wait", "1")
    assert (1, "Job 2 is dead after 1 failed attempt: exit 3\n") == queuectl("wait", "2")[:2]
    assert Ran(1, "1 completed, 1 dead\n", "") == queuectl("wait")
    assert "completed" == queuectl("wait", "1", "--json").json["state"]
    assert ["1", "2"] == [job["id"] for job in queuectl("wait", "1", "2", "--json").json]
    queuectl("prune", "--state", "completed", "--state", "dead")
    assert Ran(0, "No jobs.\n", "") == queuectl("wait")


def test_wait_that_times_out_has_an_exit_code_of_its_own(queuectl):
    """124, as of timeout(1)."""
    queuectl("enqueue", "true")
    with pytest.warns(UserWarning, match="no worker is running"):
        ran = queuectl("wait", "--timeout", "100ms", "--json")

    assert "not over after 0.1 s: 1 (the jobs go on)" == refusal(ran)
    assert 124 == ran.code


def test_workers_are_listed_and_asked_to_stop(queuectl, home):
    """A second stop is told that there is none."""
    assert Ran(0, "No worker is running.\n", "") == queuectl("worker", "status")
    assert [] == queuectl("worker", "status", "--json").json

    with JobQueue(home) as other:
        worker = other.worker(2)
        listed = queuectl("worker", "status")
        assert f"Worker {worker.name} in a python: 2 jobs side by side" in listed.out
        assert [worker.name] == [w["name"] for w in queuectl("worker", "stop", "--json").json]
        assert worker.join(30)

    ran = queuectl("worker", "stop", "--now")
    assert "no worker is running: there is nothing to stop" == refusal(ran)
    assert 1 == ran.code


class Cell(Session):
    """A call from a notebook, which does not exist for this call alone."""

    def __init__(self, queue):
        self.theirs = queue
        self.said = []
        self.wanted = None

    @property
    def queue(self):
        """The queue of the notebook."""
        return self.theirs

    @property
    def home_path(self):
        """Where it is."""
        return self.theirs.home

    def say(self, line):
        """Remember the line."""
        self.said.append(line)

    def write(self, text):
        """Remember the piece."""
        self.said.append(text)

    def worker_wanted(self, *, wanted):
        """Remember it."""
        self.wanted = wanted

    def call(self, *words):
        """Call a verb; return its value and its text."""
        shown = ROOT.main([*words], obj=self, standalone_mode=False)
        return shown.value, shown.text


def test_notebook_has_its_worker_in_the_background(home):
    """There `run` only waits and `worker start` returns at once; `worker stop` is remembered."""
    with JobQueue(home) as queue:
        cell = Cell(queue)
        queue.enqueue("true")
        jobs, summary = cell.call("run", "-n", "2")
        assert (["1"], "1 completed", []) == ([job.id for job in jobs], summary, cell.said)
        assert ([2], None) == ([info.count for info in queue.workers()], cell.wanted)

        workers, _ = cell.call("worker", "start", "-n", "3")
        assert ([queue.own_worker.name], True) == ([info.name for info in workers], cell.wanted)
        _, told = cell.call("worker", "stop")
        assert (f"Worker {queue.own_worker.name} asked to stop.", False) == (told, cell.wanted)
        assert queue.own_worker.join(30)


def test_worker_of_a_paused_queue_says_that_it_waits(queuectl, monkeypatch):
    """It was started, and yet nothing happens."""
    monkeypatch.setattr("queuectl_magics.commands.working._work", lambda *_: None)
    queuectl("pause")

    assert [
        "The queue is paused: nothing starts until it is resumed.",
        "Worker stopped.",
    ] == queuectl("worker", "start").out.splitlines()[1:]


def test_worker_that_breaks_down_says_why(queuectl, monkeypatch):
    """One line and exit code 1; nothing is lost."""

    def break_down(_worker):
        msg = "the disk of this test is full"
        raise StoreFullError(msg)

    queuectl("enqueue", "true")
    monkeypatch.setattr("queuectl_magics.worker.Worker._turn", break_down)
    ran = queuectl("run")

    assert (1, "", "Error: the disk of this test is full\n") == ran
    assert "pending" == queuectl("show", "1", "--json").json["state"]


# --- looking -------------------------------------------------------------------------------------


def test_status_is_the_total_a_table_and_a_summary(queuectl, monkeypatch):
    """To the letter: other tools cut it apart."""
    moment = clock.utc_now().replace(2026, 11, 24, 10, 51, 23)
    monkeypatch.setattr(clock, "utc_now", lambda: moment)
    queuectl("enqueue", "--id", "job1", "echo Hello from job1")
    queuectl("enqueue", "sleep 1\nsleep 2")
    queuectl("cancel", "1")

    assert (
        "Total jobs: 2\n"
        "\n"
        "ID    STATE      ATTEMPTS  UPDATED_AT            COMMAND\n"
        "job1  pending           0  2026-11-24T10:51:23Z  echo Hello from job1\n"
        "1     cancelled         0  2026-11-24T10:51:23Z  sleep 1⏎sleep 2\n"
        "\n"
        "Summary:\n"
        "  pending: 1\n"
        "  processing: 0\n"
        "  completed: 0\n"
        "  failed: 0\n"
        "  dead: 0\n"
        "  cancelled: 1\n"
    ) == queuectl("status").out


def test_status_json_has_the_counts_and_what_matters_of_each_job(queuectl):
    """The columns of the notebook's table; the counts are those of the whole queue."""
    queuectl("enqueue", "--name", "a", "true")
    queuectl("enqueue", "-r", "1", "exit 3")
    queuectl("run")
    found = queuectl("status", "--failed", "--json").json

    assert ["total", "counts", "workers", "paused", "jobs"] == list(found)
    assert (2, STATES, 0) == (found["total"], tuple(found["counts"]), found["workers"])
    (job,) = found["jobs"]
    assert ("2", None, "dead", 1, 3, "exit 3") == tuple(
        job[key] for key in ("id", "name", "state", "attempts", "exit_code", "reason")
    )
    assert 0 <= job["elapsed_s"] < 30
    assert job["created_at"] <= job["updated_at"]


def test_jobs_are_listed_by_state_tag_and_id(queuectl):
    """`list` and `status` choose alike; nothing found is no error."""
    queuectl("enqueue", "--tag", "x", "--name", "one", "true")
    queuectl("enqueue", "--tag", "x", "true")
    queuectl("cancel", "2")

    def ids(*words: str) -> list[str]:
        return [job["id"] for job in queuectl("list", *words, "--json").json]

    assert ["1", "2"] == ids() == ids("--tag", "x")
    assert ["2"] == ids("--state", "Canceled") == ids("--tag", "x", "2")
    assert ["1", "2"] == ids("--state", "pending", "--state", "cancelled")
    assert ["2", "1"] == ids("2", "one", "1")
    assert [] == ids("--tag", "y") == ids("--state", "dead")
    assert Ran(0, "No jobs.\n", "") == queuectl("list", "--state", "dead")
    assert ["1"] == [j["id"] for j in queuectl("status", "one", "--json").json["jobs"]]
    assert "there is no state 'ded'. Did you mean 'dead'?" in refusal(
        queuectl("list", "--state", "ded")
    )


def test_show_tells_all_of_one_job(queuectl):
    """As facts and attempts, or as the record itself."""
    queuectl("enqueue", "--name", "a", "-r", "1", "exit 3")
    queuectl("run")
    shown = queuectl("show", "a")

    assert "state:       ✗ dead (exit 3)\n" in shown.out
    assert "NUMBER  STARTED" in shown.out
    assert ("1", "dead", 3) == tuple(
        queuectl("show", "1", "--json").json[key] for key in ("id", "state", "exit_code")
    )


def test_logs_are_what_the_job_printed(queuectl):
    """Of an attempt, its last lines, cleaned or raw; a torn last line gets its end."""
    queuectl(
        "enqueue", "-r", "2", "--backoff-base", "0", r"printf '\033[2J\033]0;x\007a\nb'; exit 1"
    )
    queuectl("run")

    assert "a\nb\n" == queuectl("logs", "1").out == queuectl("logs", "1", "--attempt", "1").out
    assert "b\n" == queuectl("logs", "1", "-n", "1").out
    assert Ran(0, "", "") == queuectl("logs", "1", "-n", "0")
    assert "\x1b[2J\x1b]0;x\x07a\nb\n" == queuectl("logs", "1", "--raw").out
    assert {"output": "a\nb"} == queuectl("logs", "1", "--json").json
    assert "a\nb" == queuectl("logs", "1", "-f").out
    assert {"output": "a\nb"} == queuectl("logs", "1", "-f", "--json").json
    assert "leave out --attempt" in refusal(queuectl("logs", "1", "-f", "--attempt", "1"))
    assert "there is no attempt 3" in refusal(queuectl("logs", "1", "--attempt", "3"))
    queuectl("enqueue", "true")
    assert Ran(0, "", "") == queuectl("logs", "2")


def test_followed_progress_bar_keeps_moving(queuectl):
    r"""A `\r` goes back to the start of the line; what is kept is the last state."""
    queuectl("enqueue", r"printf '10%%\r20%%\r\n\033[2Jdone\n'")
    queuectl("run")

    assert "10%\r20%\r\ndone\n" == queuectl("logs", "-f", "1").out
    assert {"output": "20%\ndone\n"} == queuectl("logs", "-f", "1", "--json").json


def test_timeline_is_a_picture_of_who_ran_when(queuectl):
    """As text, or as its spans."""
    queuectl("enqueue", "true")
    queuectl("run")

    assert "1" in queuectl("timeline").out
    assert queuectl("timeline", "1", "--json").json


def test_watched_status_ends_when_all_jobs_are_over(queuectl):
    """Without a terminal it is a line whenever the counts change."""
    queuectl("enqueue", "true")
    queuectl("run")

    assert queuectl("status", "--watch").out.endswith("  1 of 1 over: 1 completed\n")
    assert "leave out the states and ids" in refusal(queuectl("status", "--live", "1"))


# --- changing ------------------------------------------------------------------------------------


def test_jobs_are_cancelled_together_or_not_at_all(queuectl):
    """By id or name; one that is over keeps all the others."""
    for name in "abc":
        queuectl("enqueue", "--name", name, "true")
    assert "Job 1 cancelled.\nJob 2 cancelled.\n" == queuectl("cancel", "1", "b", "2").out

    ran = queuectl("cancel", "c", "a")
    assert "job 1 is cancelled: it cannot be cancelled" == refusal(ran)
    assert 1 == ran.code
    assert "pending" == queuectl("list", "c", "--json").json[0]["state"]
    assert "cancelled" == queuectl("cancel", "--signal", "9", "c", "--json").json["state"]


def test_running_job_is_being_cancelled_until_its_processes_are_gone(queuectl, own_home, until):
    """The line says so; the worker does it."""
    with JobQueue(own_home) as other:
        other.worker()
        job = other.enqueue("trap '' TERM; echo on; sleep 60", grace=60)
        until(lambda: job.output == "on\n")
        assert "Job 1 is being cancelled.\n" == queuectl("cancel", "1").out
        assert job.state == "processing"
        assert "Job 1 is being cancelled.\n" == queuectl("cancel", "1", "--signal", "KILL").out


def test_dead_letters_are_listed_and_retried(queuectl):
    """One, several or all; only dead ones, and the line says how to retry any other."""
    for _ in range(3):
        queuectl("enqueue", "-r", "1", "exit 3")
    queuectl("run")
    assert ["1", "2", "3"] == [job["id"] for job in queuectl("dlq", "list", "--json").json]
    assert queuectl("dlq").out == queuectl("dlq", "list").out == queuectl("list").out

    assert "Job 1 is pending again.\n" == queuectl("dlq", "retry", "1").out
    ran = queuectl("dlq", "retry", "1", "2")
    assert "job 1 is pending, not dead (to retry any job: retry ID)" == refusal(ran)
    assert ["2", "3"] == [job["id"] for job in queuectl("dlq", "--json").json]
    assert ["2", "3"] == [job["id"] for job in queuectl("dlq", "retry", "--all", "--json").json]
    assert Ran(0, "No jobs.\n", "") == queuectl("dlq", "retry", "--all")
    assert Ran(0, "No jobs.\n", "") == queuectl("dlq")
    for words in (["dlq", "retry"], ["dlq", "retry", "--all", "1"]):
        assert "name the dead jobs to retry, or say --all" == refusal(queuectl(*words))


def test_retry_is_for_what_is_over_or_has_failed(queuectl):
    """By name, or all that failed or are dead."""
    queuectl("enqueue", "-r", "1", "exit 3")
    queuectl("enqueue", "true")
    queuectl("run")

    assert ["1"] == [job["id"] for job in queuectl("retry", "--failed", "--json").json]
    assert "Job 2 is pending again.\n" == queuectl("retry", "2").out
    assert Ran(0, "No jobs.\n", "") == queuectl("retry", "--failed")
    assert "there is nothing to retry" in refusal(queuectl("retry", "1"))
    for words in (["retry"], ["retry", "--failed", "1"]):
        ran = queuectl(*words)
        assert "name the jobs to retry, or say --failed" in refusal(ran)
        assert 2 == ran.code


def test_prune_drops_what_is_over(queuectl):
    """Dead ones only when asked for; the newest and the young can be spared."""
    for command in ("true", "true", "exit 3"):
        queuectl("enqueue", "-r", "1", command)
    queuectl("run")

    assert "Pruned 0 jobs.\n" == queuectl("prune", "--older-than", "1h").out
    assert ["1"] == queuectl("prune", "--keep", "1", "--json").json
    assert "Pruned 1 job.\n" == queuectl("prune").out
    assert ["3"] == [job["id"] for job in queuectl("list", "--json").json]
    assert "only completed, dead and cancelled" in refusal(queuectl("prune", "--state", "failed"))
    assert "Pruned 1 job.\n" == queuectl("prune", "--state", "dead").out


def test_settings_are_listed_asked_for_and_set(queuectl):
    """As lines, as one value, or as JSON with true types; `_` is as good as `-`."""
    assert [
        *("max-retries = 3", "backoff-base = 2", "backoff-cap = 3600", "count = 1"),
        *("durability = commit", "paused = false"),
    ] == queuectl("config").out.splitlines()[:6]
    assert "max-retries = 5\n" == queuectl("config", "set", "max_retries", "5").out
    assert "5\n" == queuectl("config", "get", "max-retries").out
    assert {"backoff-cap": 600.0} == queuectl("config", "set", "backoff-cap", "10m", "--json").json
    assert 600.0 == queuectl("config", "get", "backoff-cap", "--json").json
    assert queuectl("config", "--json") == queuectl("config", "list", "--json")
    assert (5, False) == tuple(
        queuectl("config", "--json").json[key] for key in ("max-retries", "paused")
    )
    for words in (["get", "coutn"], ["set", "coutn", "1"]):
        ran = queuectl("config", *words)
        assert "there is no setting 'coutn'. Did you mean 'count'? Known:" in refusal(ran)
        assert 2 == ran.code
    assert "'-3' does not fit: a whole" in refusal(queuectl("config", "set", "count", "-3"))


def test_verb_returns_the_object_that_a_notebook_shows(home):
    """The same call, without printing: a job, a list, a text."""
    session = cli.Terminal()
    session.home = str(home)

    def value(*words: str) -> object:
        return cli.root.main([*words], obj=session, standalone_mode=False).notebook

    assert isinstance(value("enqueue", "true"), Job)
    assert ["1"] == list(value("status").index)
    session.plain = True
    assert ["state", "name", "attempts", "exit_code", "reason", "command"] == list(value("status"))
    session.close()


def test_options_beside_json_go_to_every_object_and_give_way_to_its_own(queuectl, home):
    """Variables and tags are put together; of anything else the object's own value counts."""
    told = '{"command": "true", "env": {"B": "2"}, "tag": ["y"], "timeout": 5}'
    queuectl("enqueue", "--env", "A=1", "--env", "B=1", "--tag", "x", "-t", "9", told)
    queuectl("enqueue", "--env", "A=1", '{"command": "true", "timeout": 5}')

    with JobQueue(home) as queue:
        both, one = queue.records()
        variables = environment.recall(queue.store.paths.env, both.env_ref)
    assert (["A", "B"], {"A": "1", "B": "2"}) == (list(both.env_names), dict(variables))
    assert (("x", "y"), 5.0) == (both.tags, both.timeout_s)
    assert (("A",), 5.0) == (one.env_names, one.timeout_s)
