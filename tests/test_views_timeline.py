"""Who ran when, as a picture and as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from queuectl_magics.job import Attempt, JobRecord, State
from queuectl_magics.views.status import Status
from queuectl_magics.views.timeline import BACKING_OFF, JOBS_MAX, RUNNING, WAITING, Timeline

AT = datetime(2026, 11, 24, 10, 51, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """Return the moment that many seconds later."""
    return AT + timedelta(seconds=seconds)


def job(id: str, state: State, **more: Any) -> JobRecord:
    """Make a job that was enqueued at AT."""
    known = {"command": f"make {id}", "attempts": 0, "max_retries": 3, "order": int(id)}
    return JobRecord(
        **{"id": id, "state": state, "created_at": AT, "updated_at": AT, **known, **more}
    )


def ran(id: str, start: float, end: float, **more: Any) -> JobRecord:
    """Make a job that ran once and well."""
    moments = {"started_at": after(start), "finished_at": after(end)}
    return job(id, State.COMPLETED, attempt=1, exit_code=0, **moments, **more)


def timeline(*jobs: JobRecord, now: float = 10) -> Timeline:
    """Return the timeline of these jobs."""
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    return Timeline(Status(jobs=jobs, counts=counts, now=after(now), workers=1, slots=2, busy=0))


def kinds(line: Timeline) -> list[tuple[str, float, float]]:
    """Return what happened, and when, in seconds."""
    return [
        (span.kind, (span.start - AT).total_seconds(), (span.end - AT).total_seconds())
        for span in line.spans
    ]


def test_waiting_running_and_backing_off_are_told_apart():
    """A job waits, fails, backs off until it is due, and then waits for a slot."""
    failed = job(
        "1",
        State.FAILED,
        attempts=2,
        attempt=2,
        exit_code=3,
        started_at=after(4),
        finished_at=after(5),
        due_at=after(8),
        history=(
            Attempt(
                number=1,
                started_at=after(1),
                finished_at=after(2),
                exit_code=3,
                due_at=after(3.5),
            ),
        ),
    )

    assert [
        (WAITING, 0, 1),
        (RUNNING, 1, 2),
        (BACKING_OFF, 2, 3.5),
        (WAITING, 3.5, 4),
        (RUNNING, 4, 5),
        (BACKING_OFF, 5, 8),
        (WAITING, 8, 10),
    ] == kinds(timeline(failed))


def test_attempt_that_runs_ends_now():
    """Its bar reaches the right edge."""
    assert [(WAITING, 0, 2), (RUNNING, 2, 10)] == kinds(
        timeline(job("1", State.PROCESSING, attempt=1, started_at=after(2)))
    )


def test_attempts_that_overlap_are_in_different_slots():
    """A slot is free again when its attempt has ended."""
    line = timeline(ran("1", 0, 4), ran("2", 1, 3), ran("3", 4, 5))

    assert {"1": 1, "2": 2, "3": 1} == {s.job: s.slot for s in line.spans if s.slot}


def test_text_has_a_line_a_job():
    """Dots, blocks, shades: without colour, and as wide as asked."""
    text = timeline(ran("1", 5, 10), job("2", State.PENDING)).text(width=60)
    first, second = text.splitlines()[1:3]

    assert re.search(r"^1 make 1  ·+█+ ✓$", first)
    assert re.search(r"^2 make 2  ·+ ○$", second)
    assert all(len(line) <= 60 for line in text.splitlines())


def test_text_may_be_coloured():
    """The state's symbol has the state's colour."""
    assert "\x1b[32m✓\x1b[0m" in timeline(ran("1", 5, 10)).text(colour=True)


def test_nothing_is_said_of_an_empty_queue():
    """No picture of nothing."""
    assert "No jobs." == timeline().text()
    assert "<svg" not in timeline()._repr_html_()


def test_picture_is_complete_and_escaped():
    """One SVG, no script, and a hostile name is text."""
    html = timeline(ran("1", 1, 9, name="<script>alert(1)</script>"))._repr_html_()

    assert html.count("<svg") == 1 + 2  # and the key to waiting and completed
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "1: running 8.0 s (completed, slot 1)" in html


def test_many_jobs_are_cut_to_those_that_matter():
    """The picture stays readable; what is left out is said."""
    line = timeline(*(ran(str(n), 1, 2) for n in range(1, JOBS_MAX + 12)))

    assert "… and 11 other jobs" in line.text()
    assert "… and 11 other jobs" in line._repr_html_()


def test_slot_is_never_drawn_idle_while_a_job_without_a_line_ran_there():
    """Attempts of the many others are one grey line, as long as they took."""
    many = [ran(str(n), n, n + 1) for n in range(1, JOBS_MAX + 101)]
    html = timeline(*many, now=JOBS_MAX + 101)._repr_html_()
    ((drawn, title),) = re.findall(r'qm-others" d="([^"]*)"><title>([^<]*)', html)
    start, end = map(float, re.fullmatch(r"M([\d.]+) \d+H([\d.]+)", drawn).groups())

    assert title == "100 attempts of other jobs"
    assert end - start > 300


def test_what_ran_is_shown_before_what_only_waits():
    """A queue of thousands still shows whom it ran."""
    waiting = [job(str(n), State.PENDING) for n in range(10, 500)]
    html = timeline(ran("1", 1, 2), *waiting)._repr_html_()

    assert "1: running 1.0 s (completed, slot 1)" in html


def test_key_names_the_outcomes_that_are_to_be_seen():
    """No colour goes unexplained, and none is explained that is not there."""
    dead = job("2", State.DEAD, attempts=3, attempt=1, started_at=after(1), finished_at=after(2))
    caption = timeline(ran("1", 1, 2), dead)._repr_html_().partition("<p")[2]

    assert all(f"</svg> {word}</span>" in caption for word in (WAITING, "completed", "dead"))
    assert "</svg> running</span>" not in caption


def test_long_times_have_few_ticks():
    """A week is not cut into seconds."""
    html = timeline(ran("1", 10, 600_000), now=600_000)._repr_html_()

    assert html.count("qm-tick") < 12


def test_plain_timeline_tells_how_attempts_ended_and_nothing_that_varies():
    """No time, no picture: the same jobs give the same text in every run."""
    first = Attempt(number=1, started_at=after(1), finished_at=after(2), exit_code=3)
    both = ran("1", 4, 5, attempts=1, history=(first,), name="train")
    waits = job("2", State.FAILED, attempts=1, attempt=1, exit_code=3, started_at=after(1))
    jobs = (both, waits)
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    status = Status(jobs=jobs, counts=counts, now=after(9), workers=1, slots=1, busy=0)
    plain = Timeline(status, plain=True)

    assert "job · train · failed, completed\njob · make 2" == repr(plain)
    assert plain._repr_html_() is None
