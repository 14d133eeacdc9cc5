"""What Tab offers after each magic, through IPython's own completer."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter

from queuectl_magics.commands import verbs
from queuectl_magics.job import State
from queuectl_magics.jobqueue import JobQueue
from queuectl_magics.settings import PARSERS


def offered(notebook, text: str) -> list[str]:
    """Return what may replace the last word of *text*, in the order in which it is offered."""
    with provisionalcompleter():
        found = list(notebook.shell.Completer.completions(text, len(text)))
    return [text[: one.start].rpartition(" ")[2] + one.text for one in found]


@pytest.fixture
def filled(notebook, own_home, until):
    """A notebook whose queue has a job in each state that a test can bring about."""
    notebook.run("%config QueueMagics.autostart = False")
    slow = {"backoff_base": 3000, "backoff_cap_s": 3000}
    with JobQueue(own_home) as queue:
        queue.worker()
        queue.enqueue("true", id="done-1", name="my-train").wait()
        queue.enqueue("exit 3", id="dead.1", name="twice", max_retries=1).wait()
        queue.enqueue("true", id="cancelled", name="twice", delay_s=900).cancel()
        failed = queue.enqueue("exit 3", id="failed", name="has space", **slow)
        until(lambda: failed.state is State.FAILED)
    notebook.run("%enqueue --id 17 true")
    return notebook


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%queue_show ", ["17", "failed", "cancelled", "dead.1", "done-1", "my-train"]),
        ("job = %queue_show ", ["17", "failed", "cancelled", "dead.1", "done-1", "my-train"]),
        ("x['a'] = %queue_show my-", ["my-train"]),
        ("a, b = %queue_logs d", ["dead.1", "done-1"]),
        ("%queue_logs done-", ["done-1"]),
        ("%queue_status 17 f", ["failed"]),
        ("for i in x:\n    %queue_logs my", ["my-train"]),
        ("%queue_wait ", ["17", "failed"]),
        ("%queue_cancel ", ["17", "failed"]),
        ("%queue_cancel 17 ", ["failed"]),
        ("%queue_retry ", ["failed", "cancelled", "dead.1", "done-1", "my-train"]),
        ("%queue_dlq retry ", ["dead.1"]),
        ("%queue_prune c", ["cancelled"]),
    ],
)
def test_ids_and_names_are_offered_newest_first(filled, text, words):
    """Those of the jobs that the verb can do anything with; ids may hold dashes and dots."""
    assert words == offered(filled, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%enqueue --max-r", ["--max-retries"]),
        ("%enqueue -n x --max-r", ["--max-retries"]),
        ("%enqueue --json --max-r", ["--max-retries"]),
        ("%enqueue --o", ["--on-lost", "--out"]),
        ("%%job --exp", ["--expand"]),
        ("%queue_status --st", ["--state"]),
        ("%queue_status --state ", list(State)),
        ("%queue_status --state=c", ["--state=completed", "--state=cancelled"]),
        ("%queue_prune --state d", ["dead"]),
        ("%enqueue --on-lost ", ["retry", "fail", "hold"]),
        ("%enqueue -i ", ["bash", "python", "sh"]),
        ("%%job --shell p", ["python"]),
        ("%queue_worker ", ["start", "stop", "status"]),
        ("%queue_worker stop --n", ["--now"]),
        ("%queue_dlq r", ["retry"]),
        ("%queue_config set ", list(PARSERS)),
        ("%queue_config get back", ["backoff-base", "backoff-cap"]),
        ("%queue_wa", ["%queue_wait"]),
    ],
)
def test_options_and_their_values_are_offered(notebook, text, words):
    """Options, states, settings, programs and sub-verbs, and nothing of Python's."""
    assert words == offered(notebook, text)


def test_every_verb_offers_its_options(notebook):
    """A new option needs no other line."""
    for name in verbs:
        magic = "%enqueue" if name == "enqueue" else f"%queue_{name}"
        assert "--help" in offered(notebook, f"{magic} --h"), magic


@pytest.mark.parametrize(
    "text",
    [
        "%enqueue ls --max-r",
        "%enqueue -n x ls ",
        "%enqueue -- --max-r",
        "%enqueue --cwd ",
        "%queue_config set count ",
        "%queue_worker nothing ",
        "%queue_worker start stop ",
        "%queue_show 1 ",
        "%queue_pause ",
        "%timeit ",
        "%%enqueue --max-r",
        "from os import p",  # `import o` would make IPython look through all folders of modules
        "x = 1 + ",
    ],
)
def test_elsewhere_nothing_of_ours_is_offered(filled, text):
    """Behind the command's first word, where no job may stand, and on every other line."""
    ours = {"17", "done-1", "--max-retries", "start", "pending", *PARSERS}

    assert set() == ours & set(offered(filled, text))


def test_a_queue_that_was_never_used_is_not_opened(notebook, own_home):
    """Tab creates no directory."""
    offered(notebook, "%queue_logs ")

    assert not own_home.exists()


def test_jobs_of_another_process_are_offered(filled, own_home):
    """The table is brought up to date, which costs a look at the journal."""
    with JobQueue(own_home) as queue:
        queue.enqueue("true", id="elsewhere")

    assert ["elsewhere"] == offered(filled, "%queue_logs else")


def test_a_queue_that_cannot_be_read_offers_nothing(filled, own_home):
    """No error appears while somebody types."""
    own_home.rename(own_home.with_name("moved"))

    assert "17" not in offered(filled, "%queue_logs ")


@pytest.mark.filterwarnings("ignore:.*is pending deprecation:PendingDeprecationWarning")
def test_the_older_completer_offers_the_same(filled):
    """A terminal without Jedi, and tools that call `complete`."""
    text = "x = %queue_logs done-"

    assert ["done-1"] == filled.shell.complete("done-", text, len(text))[1]
