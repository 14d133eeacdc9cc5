"""Jobs as plain text: the lines that people read and that `grep` cuts apart."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl_magics.job import Attempt, JobRecord, State
from queuectl_magics.views import text, words
from queuectl_magics.views.status import Status

AT = datetime(2026, 11, 24, 10, 51, 23, tzinfo=UTC)
HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x9b31m<b>\u202e\ud800\nx"
TAMED = "<b>\\u202e\ufffd⏎x"


def after(seconds: float) -> datetime:
    """Return a moment so long after AT."""
    return AT + timedelta(seconds=seconds)


def job(state: State = State.PENDING, **fields: object) -> JobRecord:
    """Make a job by hand."""
    known = {"attempts": 0, "max_retries": 3, "created_at": AT, "updated_at": AT}
    command = "echo Hello from job1"
    return JobRecord(**{"id": "job1", "command": command, "state": state, **known, **fields})


def picture(*jobs: JobRecord) -> Status:
    """Take a picture of these jobs at AT."""
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    return Status(jobs=jobs, counts=counts, now=AT, workers=1, slots=1, busy=1)


RAN = {"attempt": 1, "started_at": AT, "finished_at": after(0.4)}


# --- one line ------------------------------------------------------------------------------------


def test_new_job_is_confirmed():
    """The line names the id and the command."""
    assert "Job enqueued: id=job1, command=echo Hello from job1" == text.enqueued(job())


def test_worker_says_what_it_runs():
    """The line names the id and the command."""
    assert "Running job job1: echo Hello from job1" == text.running(job())


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (job(State.COMPLETED, **RAN), "Job job1 completed successfully."),
        (
            job(State.FAILED, attempts=1, exit_code=3, due_at=after(2.4), **RAN),
            "Job job1 failed: exit 3 (attempt 1 of 3), next attempt due in 2 s (10:51:25Z)",
        ),
        (
            job(State.FAILED, attempts=2, reason="time limit", **RAN),
            "Job job1 failed: time limit (attempt 2 of 3)",
        ),
        (
            job(State.DEAD, attempts=3, exit_code=3, **RAN),
            "Job job1 is dead after 3 failed attempts: exit 3",
        ),
        (
            job(State.DEAD, attempts=1, max_retries=0, exit_code=3, **RAN),
            "Job job1 is dead after 1 failed attempt: exit 3",
        ),
        (job(State.DEAD, reason="job 3 died"), "Job job1 is dead: job 3 died"),
        (job(State.DEAD), "Job job1 is dead."),
        (job(State.CANCELLED, reason="cancelled while running"), "Job job1 cancelled."),
        (job(reason="never started"), "Job job1 is pending again: never started"),
        (job(), "Job job1 is pending."),
    ],
)
def test_worker_says_how_an_attempt_ended(record, line):
    """One line a result: what happened, why, and what happens next."""
    assert line == text.ended(record)


def test_next_attempt_on_another_day_comes_with_its_date():
    """A time of day would be misleading then."""
    record = job(State.FAILED, attempts=1, exit_code=3, due_at=after(86_400), **RAN)

    assert text.ended(record).endswith(", next attempt due in 24 h (2026-11-25T10:51:23Z)")


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            job(State.PROCESSING, name="train", attempt=1, started_at=after(-192)),
            "▶ job1 train · processing 3 min 12 s · attempt 1 of 3 · epoch 3/10",
        ),
        (
            job(State.PROCESSING, name="x", attempt=1, started_at=after(-5), stopping="cancelled"),
            "▶ job1 x · processing 5.0 s · attempt 1 of 3, being cancelled · epoch 3/10",
        ),
        (
            job(State.COMPLETED, name="train", **RAN),
            "✓ job1 train · completed in 0.4 s · epoch 3/10",
        ),
        (
            job(State.FAILED, name="train", attempts=1, exit_code=3, due_at=after(4), **RAN),
            "↻ job1 train · failed after 0.4 s · exit 3; attempt 2 of 3 due in 4 s · epoch 3/10",
        ),
        (
            job(State.DEAD, name="train", attempts=3, exit_code=3, **RAN),
            "✗ job1 train · dead · exit 3 · 3 failed attempts · epoch 3/10",
        ),
    ],
)
def test_line_tells_who_where_why_and_the_last_output(record, line):
    """The one line of a job reads the same in a terminal and in a notebook."""
    assert line == text.line(record, AT, "epoch 2/10\nepoch 3/10\n\n")


def test_line_of_a_new_job_is_short():
    """A job that never ran has no time, no reason and no output to tell."""
    assert "○ job1 echo Hello from job1 · pending" == text.line(job(), AT)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("fields", "line"),
    [({}, "job · echo Hello from job1"), ({"name": "train"}, "job · train")],
)
def test_plain_line_says_nothing_that_varies(state, fields, line):
    """Whenever it runs and however it ends, the line is the same."""
    ran = {} if state is State.PENDING else RAN
    record = job(state, id=str(state), **fields, **ran)

    assert line == text.line(record, AT, "output", plain=True)


def test_line_is_cut_to_the_width_and_painted_after():
    """Colour adds no cell, and cutting cannot cut a sequence in two."""
    record = job(State.DEAD, exit_code=3, **RAN)

    assert "✗ job1 echo He…" == text.line(record, AT, width=15)
    assert "\x1b[31m✗\x1b[0m job1 echo He…" == text.line(record, AT, width=15, colour=True)


# --- the queue -----------------------------------------------------------------------------------


def test_status_has_a_total_a_table_and_a_summary():
    """The layout, to the character."""
    jobs = (
        job(State.COMPLETED),
        job(id="2", command="sleep 1\nsleep 2\n", state=State.DEAD, attempts=3),
    )
    expected = """\
Total jobs: 2

ID    STATE      ATTEMPTS  UPDATED_AT            COMMAND
job1  completed         0  2026-11-24T10:51:23Z  echo Hello from job1
2     dead              3  2026-11-24T10:51:23Z  sleep 1⏎sleep 2

Summary:
  pending: 0
  processing: 0
  completed: 1
  failed: 0
  dead: 1
  cancelled: 0"""

    assert expected == text.status(picture(*jobs))


def test_status_of_an_empty_queue_keeps_its_layout():
    """What reads the table finds its header, and every state its zero."""
    lines = text.status(picture()).splitlines()

    assert "Total jobs: 0" == lines[0]
    assert ["ID", "STATE", "ATTEMPTS", "UPDATED_AT", "COMMAND"] == lines[2].split()
    assert [f"  {state}: 0" for state in State] == lines[-6:]


def test_total_is_of_the_whole_queue():
    """A table of some jobs does not make the queue smaller."""
    status = Status(jobs=(job(),), counts={State.PENDING: 7}, now=AT, workers=0, slots=0, busy=0)

    assert text.status(status).startswith("Total jobs: 7\n")


def test_no_jobs_are_told_as_such():
    """An empty list is a sentence, not an empty table."""
    assert "No jobs." == text.jobs([])


@pytest.mark.parametrize("width", [64, 80, 120])
def test_table_fits_the_terminal(width):
    """Commands are cut to the width, by cells and not by characters."""
    lines = text.jobs([job(command="日本語 " * 60), job(command="x" * 500)], width=width)
    wide, narrow = map(words.cells, lines.splitlines()[1:])

    assert width - 1 <= wide <= width
    assert width == narrow


def test_command_keeps_some_room_in_a_narrow_terminal():
    """However narrow, the beginning of the command is seen."""
    assert text.jobs([job()], width=20).endswith("  echo Hello from…")


def test_colour_paints_the_state_and_moves_nothing():
    """With the colours taken out, the table is the same."""
    jobs = [job(state, id=f"日本-pending-{state}") for state in State]
    painted = text.jobs(jobs, colour=True)

    assert text.jobs(jobs) == words.clean(painted)
    assert "\x1b[32mcompleted \x1b[0m" in painted


# --- one job -------------------------------------------------------------------------------------


def test_show_tells_everything_about_a_job():
    """Keys and values, then a table of the attempts."""
    before = Attempt(
        number=1,
        started_at=after(-60),
        finished_at=after(-30),
        exit_code=137,
        reason="exit 137 (SIGKILL?)",
        worker="nb-1",
        cpu_s=28.0,
        memory_bytes_max=7_900_000_000,
    )
    record = job(
        State.PROCESSING,
        name="train",
        command="cd x\nmake",
        cwd="/home/ada",
        shell="/bin/bash",
        tags=("gpu", "paper"),
        env_names=("LR", "TOKEN"),
        priority=5,
        attempts=1,
        interrupts=1,
        attempt=2,
        started_at=after(-12),
        worker="nb-1",
        history=(before,),
    )
    expected = """\
id:          job1
name:        train
state:       ▶ processing (attempt 2 of 3)
command:     cd x
             make
cwd:         /home/ada
shell:       /bin/bash
env:         LR, TOKEN
tags:        gpu, paper
priority:    5
attempts:    1 of 3 failed
interrupts:  1
backoff:     2 ** attempts s, at most 1 h 00 min
created_at:  2026-11-24T10:51:23Z (just now)
updated_at:  2026-11-24T10:51:23Z (just now)

NUMBER  STARTED               ELAPSED  EXIT  REASON               WORKER   CPU  MEMORY
     1  2026-11-24T10:50:23Z     30 s   137  exit 137 (SIGKILL?)  nb-1    28 s  7.9 GB
     2  2026-11-24T10:51:11Z     12 s     -  processing           nb-1       -       -"""

    assert expected == text.show(record, picture(record))


def test_show_of_a_new_job_leaves_out_what_was_not_set():
    """No name, no tags, no attempts: nothing is shown of them."""
    record = job(due_at=after(540), backoff_jitter=0.5)
    shown = text.show(record, picture())

    assert "due_at:      2026-11-24T11:00:23Z (due in 9 min)" in shown.splitlines()
    assert "at most 1 h 00 min, jitter 0.5" in shown
    assert not {"name:", "tags:", "env:", "NUMBER"} & set(shown.split())


def test_show_paints_the_state():
    """Only the state is painted; the reason after it is not."""
    record = job(State.DEAD, exit_code=137, **RAN)
    shown = text.show(record, picture(), colour=True)

    assert "\x1b[31m✗ dead\x1b[0m (exit 137 (SIGKILL?))" in shown


def test_reason_that_repeats_the_state_is_left_out():
    """'cancelled (cancelled)' is not said."""
    record = job(State.CANCELLED, reason="cancelled")

    assert "state:       ⊘ cancelled" in text.show(record, picture()).splitlines()


# --- hostile text --------------------------------------------------------------------------------


def everything(record: JobRecord, tail: str) -> list[str]:
    """Return what every function of the module makes of a job."""
    status = picture(record)
    return [
        text.enqueued(record),
        text.running(record),
        text.ended(record),
        text.line(record, AT, tail),
        text.line(record, AT, tail, plain=True),
        text.status(status),
        text.jobs([record]),
        text.show(record, status),
    ]


@pytest.mark.parametrize("state", State)
def test_hostile_job_is_tamed_everywhere(state):
    """Id, name, command, reason, worker, tags, folder, output: all of it is cleaned."""
    fields = dict.fromkeys(("id", "name", "command", "reason", "worker", "cwd", "shell"), HOSTILE)
    lists = {"tags": (HOSTILE,), "env_names": (HOSTILE,)}
    shown = everything(job(state, stopping=HOSTILE, **fields, **lists, **RAN), HOSTILE)

    assert shown[0] == f"Job enqueued: id={TAMED}, command={TAMED}"
    assert 1 == len({len(line.splitlines()) for line in shown[:5]})
    assert [] == [c for c in "".join(shown) if c != "\n" and unicodedata.category(c)[0] == "C"]


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_no_text_breaks_out_of_its_line(command, name):
    """Whatever is in a command or a name, it cannot forge a line of a table."""
    record = job(State.DEAD, command=command, name=name, id=name, **RAN)

    assert 2 == len(text.jobs([record]).splitlines())
    assert 1 == len(text.line(record, AT, command).splitlines())


def test_ten_megabytes_of_output_make_a_short_line():
    """Only the end of an output is looked at, and only a little of it is shown."""
    record = job(State.COMPLETED, **RAN)

    assert words.cells(text.line(record, AT, "x" * 10_000_000)) < 120
