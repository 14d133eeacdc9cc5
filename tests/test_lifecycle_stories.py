"""The rules of a job's life, played out: what becomes of a job, attempt by attempt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from queuectl_magics import lifecycle
from queuectl_magics.events import Died, Failed, Interrupted, JobEvent, Leased, StopRequested
from queuectl_magics.job import Attempt, Exit, JobRecord, JobSpec, OnLost
from queuectl_magics.lifecycle import evolve

T0 = datetime(2025, 11, 4, 10, 0, tzinfo=UTC)
T1 = datetime(2025, 11, 4, 11, 0, tzinfo=UTC)
LATER = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
COST = {"cpu_s": 1.5, "memory_bytes_max": 2000}


def a_new_job(**spec) -> JobRecord:
    """Return a job as the fold of its own `Enqueued`."""
    job = lifecycle.new_job(
        JobSpec(command="make", **spec),
        id="7",
        due_from=T0,
        max_retries=3,
        backoff_base=2.0,
        backoff_cap_s=3600.0,
    )
    return fold(None, lifecycle.enqueue(job, now=T0))


def fold(job: JobRecord | None, *events: JobEvent) -> JobRecord:
    """Return *job* after *events*, numbered on from its own."""
    for event in events:
        job = evolve(job, event, job.seq + 1 if job else 1)
    return job


def leased(job: JobRecord, at: datetime = T0) -> JobRecord:
    """Return *job* in the hands of a worker."""
    return fold(job, lifecycle.lease(job, worker="w1", token="t", now=at))


def tried(job: JobRecord, code: int, at: datetime = T0, **exit_facts) -> JobRecord:
    """Return *job* after one more attempt, which ended with *code*."""
    job = leased(job, at)
    end = Exit(code=code, finished_at=at, **exit_facts)
    return fold(job, lifecycle.settle(job, job.attempt, end))


def vanished(job: JobRecord, *, started: bool = True) -> JobRecord:
    """Return *job* after one more attempt, of which no exit record was found."""
    job = leased(job)
    return fold(job, lifecycle.rescue(job, job.attempt, started=started, now=T1))


def test_job_that_succeeds_at_once_has_no_failed_attempts():
    """`attempts` counts failures: 0 after a first-time success."""
    job = tried(a_new_job(), 0)

    assert ("completed", 0, 1, 0) == (job.state, job.attempts, job.attempt, job.exit_code)


def test_job_that_fails_three_times_is_dead_after_two_and_four_seconds():
    """With the defaults the waits are 2 s and 4 s, and the third failure is the last."""
    job = tried(a_new_job(), 1, T0)

    assert ("failed", 1, T0 + timedelta(seconds=2)) == (job.state, job.attempts, job.due_at)

    job = tried(job, 2, T1)

    assert ("failed", 2, T1 + timedelta(seconds=4)) == (job.state, job.attempts, job.due_at)

    job = tried(job, 3, LATER)

    assert ("dead", 3, None) == (job.state, job.attempts, job.due_at)
    assert [1, 2, 3] == [attempt.exit_code for attempt in job.all_attempts()]


def test_job_that_succeeds_at_last_keeps_its_count_of_failures():
    """Success does not take back the failed attempts before it."""
    job = tried(tried(tried(a_new_job(), 1), 1), 0)

    assert ("completed", 2, 3) == (job.state, job.attempts, job.attempt)


@pytest.mark.parametrize("max_retries", [0, 1])
def test_max_retries_of_0_and_1_both_mean_a_single_attempt(max_retries):
    """The first failure of such a job is its last."""
    job = tried(a_new_job(max_retries=max_retries), 1)

    assert ("dead", 1, 1) == (job.state, job.attempts, job.attempt)


def test_waits_grow_to_the_cap_and_stay_there():
    """2 s, 4 s, 8 s, and then never more than the job's own cap."""
    job, waits = a_new_job(max_retries=9, backoff_cap_s=10), []
    for _ in range(5):
        job = tried(job, 1)
        waits.append((job.due_at - T0).total_seconds())

    assert [2, 4, 8, 10, 10] == waits


def test_longest_wait_that_can_be_asked_for_is_a_moment_in_time():
    """A base of a million and a cap of ten years do not stop a job from being settled."""
    job = tried(a_new_job(max_retries=99, backoff_base=1e6, backoff_cap_s=315_360_000), 1)
    job = tried(job, 1)

    assert T0 + timedelta(days=3650) == job.due_at


@pytest.mark.parametrize(
    ("jitter", "dice", "wait_s"), [(0, 0.9, 2), (0.5, 0, 2), (0.5, 0.5, 1.5), (1, 1, 0)]
)
def test_wait_is_shortened_by_jitter_only_as_far_as_the_dice_say(jitter, dice, wait_s):
    """No jitter, or dice of 0, means the full wait; the dice are given, never thrown."""
    job = leased(a_new_job(backoff_jitter=jitter))
    event = lifecycle.settle(job, 1, Exit(code=1, finished_at=T1), dice=dice)

    assert T1 + timedelta(seconds=wait_s) == event.due_at


@pytest.mark.parametrize("code", [0, 1, 143])
def test_cancel_of_a_running_job_waits_for_its_processes(code):
    """The wish is written down first; however the command ends, the job is then cancelled."""
    job = leased(a_new_job())
    job = fold(job, lifecycle.cancel(job, now=T1))

    assert ("processing", "cancelled") == (job.state, job.stopping)

    job = fold(job, lifecycle.settle(job, 1, Exit(code=code, finished_at=LATER)))

    assert ("cancelled", code, 0) == (job.state, job.exit_code, job.attempts)
    assert (None, None) == (job.stopping, job.token)


@pytest.mark.parametrize("started", [True, False])
def test_cancelled_job_whose_processes_vanish_is_cancelled(started):
    """A job that was called off does not come back because its recorder was killed."""
    job = leased(a_new_job())
    job = fold(job, lifecycle.cancel(job, now=T1))
    job = fold(job, lifecycle.rescue(job, 1, started=started, now=LATER))

    assert ("cancelled", 0, 0) == (job.state, job.attempts, job.interrupts)


def test_retry_gives_a_fresh_allowance_and_keeps_the_past():
    """Failures and interrupts start from 0; the history and the attempt number go on."""
    job = tried(tried(vanished(a_new_job()), 1), 2)
    dead = tried(job, 3)
    fresh = fold(dead, lifecycle.retry(dead, now=T1))

    assert ("dead", 3, 1, 4) == (dead.state, dead.attempts, dead.interrupts, dead.attempt)
    assert ("pending", 0, 0, 4) == (fresh.state, fresh.attempts, fresh.interrupts, fresh.attempt)
    assert fresh.due_at is None
    assert dead.all_attempts() == fresh.all_attempts()

    again = tried(fresh, 0)

    assert ("completed", 0, 5) == (again.state, again.attempts, again.attempt)
    assert [None, 1, 2, 3, 0] == [attempt.exit_code for attempt in again.all_attempts()]


def test_attempt_that_is_handed_back_costs_nothing():
    """A worker told to stop returns the job: no failure, no interrupt, due at once."""
    job = leased(tried(a_new_job(), 1))
    back = fold(job, lifecycle.hand_back(job, 2, now=T1, reason="the worker was stopped"))

    assert ("pending", 1, 0, 2) == (back.state, back.attempts, back.interrupts, back.attempt)
    assert back.due_at is None
    assert 3 == lifecycle.lease(back, worker="w2", token="t", now=T1).attempt
    assert "the worker was stopped" == leased(back).history[-1].reason


def test_attempt_that_never_started_costs_nothing():
    """A lease whose command was never begun is handed back, however often."""
    job = a_new_job()
    for _ in range(20):
        job = vanished(job, started=False)

    assert ("pending", 0, 0, 20) == (job.state, job.attempts, job.interrupts, job.attempt)


def test_fifth_interrupt_is_the_last():
    """Four times an interrupted job comes back; the fifth time it is dead, without a failure."""
    job = a_new_job(max_retries=1)
    for count in (1, 2, 3, 4):
        job = vanished(job)

        assert ("pending", count, 0) == (job.state, job.interrupts, job.attempts)

    job = vanished(job)

    assert ("dead", 0, "interrupted 5 times") == (job.state, job.attempts, job.reason)


def test_history_keeps_the_latest_hundred_attempts():
    """Beyond a hundred past attempts the oldest are let go; numbers are not given out again."""
    job = a_new_job(max_retries=1000, backoff_base=0)
    for code in range(1, 106):
        job = tried(job, code)

    assert 105 == job.attempt
    assert list(range(5, 105)) == [attempt.number for attempt in job.history]
    assert list(range(5, 106)) == [attempt.exit_code for attempt in job.all_attempts()]


def test_history_keeps_how_each_attempt_ended():
    """Worker, moments, exit code, reason, cost and the wait after it outlive the next lease."""
    job = tried(a_new_job(), 3, T1, **COST)
    due_at = job.due_at
    job = leased(vanished(job), LATER)
    past = {"number": 1, "worker": "w1", "started_at": T1, "finished_at": T1}
    vanishing = "interrupted: its processes vanished without an exit record"

    assert due_at is not None
    assert (
        Attempt(**past, exit_code=3, reason="exit 3", **COST, due_at=due_at),
        Attempt(number=2, worker="w1", started_at=T0, finished_at=T1, reason=vanishing),
    ) == job.history
    assert Attempt(number=3, worker="w1", started_at=LATER) == job.latest()


def test_job_before_its_first_attempt_has_no_attempts_to_show():
    """Nothing is made up before the first lease."""
    assert a_new_job().latest() is None
    assert () == a_new_job().all_attempts()


def test_same_events_give_the_same_job_whatever_the_rules_are_now(monkeypatch):
    """A replay decides nothing: no backoff is computed, no allowance is compared."""
    accepted = lifecycle.enqueue(replace(a_new_job(), max_retries=1, backoff_cap_s=0.0), now=T0)
    events = [
        accepted,
        Leased(at=T0, id="7", attempt=1, worker="w1", token="t"),
        Failed(at=T0, id="7", attempt=1, exit_code=1, due_at=LATER),
        Leased(at=T0, id="7", attempt=2, worker="w1", token="t"),
        Interrupted(at=T0, id="7", attempt=2),
        Leased(at=T0, id="7", attempt=3, worker="w1", token="t"),
        Failed(at=T0, id="7", attempt=3, exit_code=1, due_at=T1),
    ]
    before = fold(None, *events)
    monkeypatch.setattr(lifecycle, "INTERRUPTS_MAX", 1)
    monkeypatch.setattr(lifecycle, "backoff_s", None)
    monkeypatch.setattr(lifecycle, "explain_exit", None)

    assert ("failed", 2, 1, T1) == (
        before.state,
        before.attempts,
        before.interrupts,
        before.due_at,
    )
    assert before == fold(None, *events)


def test_dependency_that_died_makes_a_waiting_job_dead_without_an_attempt():
    """Such a death names its reason and counts no failure."""
    job = fold(a_new_job(), Died(at=T1, id="7", attempt=0, reason="job 3 is dead"))

    assert ("dead", "job 3 is dead", 0, 0) == (job.state, job.reason, job.attempts, job.attempt)
    assert () == job.all_attempts()


def test_cancel_between_two_attempts_does_not_rewrite_how_the_first_one_ended():
    """The reason of a failed attempt is still there after a cancel and a retry by hand."""
    job = tried(a_new_job(), 1)
    job = fold(job, lifecycle.cancel(job, now=T1))

    assert ("cancelled", "exit 1") == (job.state, job.reason)

    job = leased(fold(job, lifecycle.retry(job, now=T1)))

    assert ["exit 1"] == [attempt.reason for attempt in job.history]


def test_cancel_before_the_first_attempt_is_the_reason():
    """There is no attempt that could have another one."""
    job = a_new_job()
    job = fold(job, lifecycle.cancel(job, now=T1))

    assert ("cancelled", "cancelled") == (job.state, job.reason)


def test_time_limit_does_not_take_back_a_cancel():
    """A job that was called off stays called off when the guard also wants it gone."""
    job = leased(a_new_job())
    job = fold(job, lifecycle.cancel(job, now=T0))
    job = fold(job, StopRequested(at=T1, id="7", attempt=1, why="time limit"))
    end = Exit(code=143, finished_at=LATER)

    assert "cancelled" == fold(job, lifecycle.settle(job, 1, end)).state


def test_cancel_overrides_a_time_limit():
    """Whoever calls off a job that is being ended does not want it back."""
    job = leased(a_new_job(timeout_s=1))
    job = fold(job, lifecycle.stop(job, 1, why="timed out after 1 s", now=T0))
    job = fold(job, lifecycle.cancel(job, now=T1, signal=2))

    assert ("cancelled", 2) == (job.stopping, job.stop_signal)


def test_job_that_is_being_cancelled_is_not_handed_back():
    """A worker that stops in the middle of a cancel does not revive the job."""
    job = leased(a_new_job())
    job = fold(job, lifecycle.cancel(job, now=T0))
    job = fold(job, lifecycle.hand_back(job, 1, now=T1, reason="the worker was stopped"))

    assert ("cancelled", "cancelled while running") == (job.state, job.reason)


def handed_back(**spec) -> JobRecord:
    """Return a job that is being ended because its worker was told to stop now."""
    job = leased(a_new_job(**spec))
    return fold(job, lifecycle.stop(job, 1, why=lifecycle.HAND_BACK, now=T0))


@pytest.mark.parametrize("code", [0, 1, 143])
def test_end_of_a_job_that_is_handed_back_costs_nothing(code):
    """Whoever reads it: a worker that dies before it can settle leaves that to the next one."""
    job = handed_back(max_retries=1)
    end = Exit(code=code, finished_at=T1, **COST)
    job = fold(job, lifecycle.settle(job, 1, end, now=LATER))

    assert ("pending", 0, 0, None) == (job.state, job.attempts, job.interrupts, job.exit_code)
    assert ("its worker was stopped", T1) == (job.reason, job.finished_at)
    assert job.stopping is None


@pytest.mark.parametrize("on_lost", OnLost)
def test_job_that_vanishes_while_it_is_handed_back_costs_nothing(on_lost):
    """Its recorder may be killed as well: it was to run again, whatever becomes of a lost one."""
    job = handed_back(on_lost=on_lost)
    job = fold(job, lifecycle.rescue(job, 1, started=True, now=T1))

    assert ("pending", 0, 0) == (job.state, job.attempts, job.interrupts)
    assert "its worker was stopped" == job.reason


@pytest.mark.parametrize("how", ["ended", "vanished"])
def test_cancel_overrides_a_hand_back(how):
    """Whoever calls off a job that is being ended does not want it back."""
    job = handed_back()
    job = fold(job, lifecycle.cancel(job, now=T1, signal=9))
    if how == "ended":
        event = lifecycle.settle(job, 1, Exit(code=137, finished_at=LATER))
    else:
        event = lifecycle.rescue(job, 1, started=True, now=LATER)

    assert 9 == job.stop_signal
    assert "cancelled" == fold(job, event).state


def test_job_that_died_of_five_interrupts_shows_five():
    """The count on the record agrees with the reason next to it."""
    job = a_new_job()
    for _ in range(5):
        job = vanished(job)

    assert ("interrupted 5 times", 5) == (job.reason, job.interrupts)


@pytest.mark.parametrize(
    ("on_lost", "state", "counts", "reason"),
    [
        (OnLost.RETRY, "pending", (0, 1), "interrupted: its processes vanished without an exit"),
        (OnLost.FAIL, "failed", (1, 0), "interrupted: its processes vanished without an exit"),
        (OnLost.HOLD, "dead", (0, 1), "interrupted; held until retried"),
    ],
)
def test_job_says_what_becomes_of_it_when_its_processes_vanish(on_lost, state, counts, reason):
    """It runs again at no cost, or it has failed, or it waits for a person."""
    job = vanished(a_new_job(on_lost=on_lost))

    assert (state, counts) == (job.state, (job.attempts, job.interrupts))
    assert job.reason.startswith(reason)


@pytest.mark.parametrize("on_lost", OnLost)
def test_attempt_that_never_started_is_no_loss(on_lost):
    """Whatever was to become of a lost one."""
    job = vanished(a_new_job(on_lost=on_lost), started=False)

    assert ("pending", 0, 0) == (job.state, job.attempts, job.interrupts)


def test_end_that_was_noticed_late_keeps_its_own_time():
    """It ended while no worker was there: the backoff counts from its end."""
    job = leased(a_new_job())
    end = Exit(code=1, finished_at=T1)
    job = fold(job, lifecycle.settle(job, 1, end, now=LATER))

    assert (T1, LATER, T1 + timedelta(seconds=2)) == (job.finished_at, job.updated_at, job.due_at)
