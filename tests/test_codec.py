"""What is written, to the letter; what is read back; and what is refused, with which words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from queuectl_magics import codec
from queuectl_magics.codec import Announced, Booted, Opened
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.events import (
    Cancelled,
    Died,
    Enqueued,
    Failed,
    Interrupted,
    JobEvent,
    Leased,
    Pruned,
    Retried,
    StopRequested,
    Succeeded,
)
from queuectl_magics.job import Attempt, JobRecord, JobSpec, OnLost, State

T0 = datetime(2025, 11, 4, 10, 0, tzinfo=UTC)
T1 = datetime(2025, 11, 4, 10, 0, 0, 250_000, tzinfo=UTC)
PLAIN = JobRecord(
    id="7",
    command="echo 'a\nb'",
    state=State.PENDING,
    attempts=0,
    max_retries=3,
    created_at=T0,
    updated_at=T0,
)
SEVEN = ["id", "command", "state", "attempts", "max_retries", "created_at", "updated_at"]

# The format: every kind of line as it is written. A change here is a new journal format.
LINES = [
    (
        Enqueued(at=T0, id="7", job=PLAIN),
        (
            '{"op":"enqueued","at":"2025-11-04T10:00:00Z","id":"7","job":{"id":"7",'
            '"command":"echo \'a\\nb\'","state":"pending","attempts":0,"max_retries":3,'
            '"created_at":"2025-11-04T10:00:00Z","updated_at":"2025-11-04T10:00:00Z"}}'
        ),
    ),
    (
        Leased(at=T1, id="7", attempt=1, worker="w", token="t"),
        (
            '{"op":"leased","at":"2025-11-04T10:00:00.250000Z","id":"7","attempt":1,"worker":"w",'
            '"token":"t"}'
        ),
    ),
    (
        Succeeded(at=T0, id="7", attempt=1, exit_code=0, cpu_s=0.5, memory_bytes_max=9),
        (
            '{"op":"succeeded","at":"2025-11-04T10:00:00Z","id":"7","attempt":1,"exit_code":0,'
            '"cpu_s":0.5,"memory_bytes_max":9}'
        ),
    ),
    (
        Failed(at=T0, id="7", attempt=1, exit_code=2, reason="exit 2", due_at=T1),
        (
            '{"op":"failed","at":"2025-11-04T10:00:00Z","id":"7","attempt":1,"exit_code":2,'
            '"reason":"exit 2","due_at":"2025-11-04T10:00:00.250000Z"}'
        ),
    ),
    (
        Died(at=T0, id="7", attempt=0, reason="job 3 is dead"),
        '{"op":"died","at":"2025-11-04T10:00:00Z","id":"7","attempt":0,"reason":"job 3 is dead"}',
    ),
    (
        Cancelled(at=T0, id="7", attempt=0),
        '{"op":"cancelled","at":"2025-11-04T10:00:00Z","id":"7","attempt":0}',
    ),
    (
        Interrupted(at=T0, id="7", attempt=1),
        '{"op":"interrupted","at":"2025-11-04T10:00:00Z","id":"7","attempt":1}',
    ),
    (
        Interrupted(at=T0, id="7", attempt=1, counted=False),
        '{"op":"interrupted","at":"2025-11-04T10:00:00Z","id":"7","attempt":1,"counted":false}',
    ),
    (
        StopRequested(at=T0, id="7", attempt=1, why="cancelled"),
        (
            '{"op":"stop_requested","at":"2025-11-04T10:00:00Z","id":"7","attempt":1,'
            '"why":"cancelled"}'
        ),
    ),
    (Retried(at=T0, id="7"), '{"op":"retried","at":"2025-11-04T10:00:00Z","id":"7"}'),
    (Pruned(at=T0, id="7"), '{"op":"pruned","at":"2025-11-04T10:00:00Z","id":"7"}'),
]

texts = st.text(max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(UTC))
common = {"at": moments, "id": texts}
ended = common | {
    "attempt": integers,
    "finished_at": st.none() | moments,
    "exit_code": st.none() | integers,
    "reason": st.none() | texts,
    "cpu_s": st.none() | floats,
    "memory_bytes_max": st.none() | integers,
}
past_attempts = st.builds(
    Attempt,
    number=integers,
    started_at=st.none() | moments,
    finished_at=st.none() | moments,
    exit_code=st.none() | integers,
    reason=st.none() | texts,
    worker=st.none() | texts,
    cpu_s=st.none() | floats,
    memory_bytes_max=st.none() | integers,
)
jobs = st.builds(
    JobRecord,
    id=texts,
    command=texts,
    state=st.sampled_from(State),
    **dict.fromkeys(["attempts", "max_retries", "priority", "seq", "order"], integers),
    **dict.fromkeys(["interrupts", "attempt"], integers),
    **dict.fromkeys(["created_at", "updated_at"], moments),
    **dict.fromkeys(["due_at", "started_at", "finished_at"], st.none() | moments),
    **dict.fromkeys(["name", "cwd", "shell", "environ_ref", "env_ref"], st.none() | texts),
    **dict.fromkeys(["token", "worker", "stopping", "reason"], st.none() | texts),
    **dict.fromkeys(["tags", "env_names"], st.lists(texts, max_size=3).map(tuple)),
    **dict.fromkeys(["backoff_base", "backoff_cap_s", "backoff_jitter"], floats),
    **dict.fromkeys(["exit_code", "memory_bytes_max", "stop_signal"], st.none() | integers),
    **dict.fromkeys(["cpu_s", "timeout_s"], st.none() | floats),
    grace_s=floats,
    output_bytes_max=integers,
    on_lost=st.sampled_from(OnLost),
    history=st.lists(past_attempts, max_size=3).map(tuple),
)
BUILDS = {
    Enqueued: common | {"job": jobs},
    Leased: common | {"attempt": integers, "worker": texts, "token": texts},
    Succeeded: ended,
    Failed: ended | {"due_at": moments},
    Died: ended,
    Cancelled: ended,
    Interrupted: ended | {"counted": st.booleans()},
    StopRequested: common | {"attempt": integers, "why": texts, "signal": integers},
    Retried: common,
    Pruned: common,
    Opened: {
        "at": moments,
        **dict.fromkeys(["format", "store", "boot", "snapshot_crc"], texts),
        **dict.fromkeys(["generation", "next_number", "snapshot_bytes"], integers),
    },
    Booted: {"at": moments, "boot": texts},
    Announced: {
        "at": moments,
        "upto": integers,
        "next_number": integers,
        "snapshot_bytes": integers,
        "snapshot_crc": texts,
    },
}
lines = st.one_of([st.builds(kind, **parts) for kind, parts in BUILDS.items()])


# --- the journal's lines and the snapshot's jobs ------------------------------------------------


@pytest.mark.parametrize(("event", "line"), LINES)
def test_event_is_written_to_the_letter(event, line):
    """The format of the journal does not change by accident."""
    assert line == codec.encode_line(event).decode()
    assert event == codec.decode_line(line.encode())


def test_format_shows_every_kind_of_event():
    """No kind of event is missing from the lines above, nor from the properties below."""
    assert set(get_args(JobEvent)) == {type(event) for event, _ in LINES}
    assert set(get_args(codec.Line)) == set(BUILDS)


@given(lines)
def test_line_reads_back_as_what_was_written(line):
    """Any event comes back equal, and of its own class."""
    found = codec.decode_line(codec.encode_line(line))

    assert line == found
    assert type(line) is type(found)


@given(lines)
def test_event_is_one_line_of_plain_json(line):
    """Whatever a command contains, its event has no newline in it."""
    text = codec.encode_line(line)

    assert b"\n" not in text
    assert b"\r" not in text
    assert "op" == next(iter(json.loads(text)))


@given(lines, st.integers() | texts | st.lists(st.none()))
def test_unknown_key_of_a_line_is_passed_over(line, value):
    """A later version may add keys to an event and to its job; we still read ours."""
    found = json.loads(codec.encode_line(line)) | {"a_later_key": value}
    if "job" in found:
        found["job"]["another"] = value

    assert line == codec.decode_line(json.dumps(found).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b'{"op":"vanished","at":"2025-11-04T10:00:00Z","id":"7"}',
        b'{"op":"ended","at":"2025-11-04T10:00:00Z","id":"7","attempt":1}',
        b'{"at":"2025-11-04T10:00:00Z","id":"7"}',
        b'{"op":"retried","id":"7"}',
        b'{"op":"retried","at":"yesterday","id":"7"}',
        b'{"op":"retried","at":"2025-11-04T10:00:00Z","id":7}',
        b'{"op":"failed","at":"2025-11-04T10:00:00Z","id":"7","attempt":1}',
        b'{"op":"retried","at":"2025-11-04T10:00:00Z","id":"7"} {}',
    ],
)
def test_line_that_does_not_fit_is_refused(line):
    """An unknown kind, a missing key, a wrong type or half a line is no event."""
    with pytest.raises(msgspec.DecodeError):
        codec.decode_line(line)


def test_properties_below_know_every_field():
    """A field that is added to a job or an event is added above, too."""
    made = {"id", "command", "state", "cpu_s", "history", *_names_of(jobs)}

    assert set(JobRecord.__struct_fields__) == made
    for kind, parts in BUILDS.items():
        assert set(kind.__struct_fields__) == set(parts)


def _names_of(built) -> set[str]:
    """Return the names of what a strategy builds its values from."""
    return set(built.wrapped_strategy.kwargs)


@given(st.lists(jobs, max_size=4))
def test_snapshot_reads_back_and_has_one_job_per_line(records):
    """The lines between the brackets are the jobs, in their order."""
    text = codec.encode_jobs(records)

    assert records == codec.decode_jobs(b"[\n" + text + b"\n]\n")
    assert max(len(records), 1) == len(text.split(b"\n"))


@given(records=st.lists(jobs, max_size=6), part_bytes=st.integers(0, 2_000))
def test_snapshot_that_is_read_in_parts_reads_back_the_same(records, part_bytes):
    """Where a part ends is no matter, whatever the jobs hold."""
    text = b"[\n" + codec.encode_jobs(records) + b"\n]\n"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(codec, "PART_BYTES", part_bytes)
        assert records == codec.decode_jobs(text)
        pretty = msgspec.json.format(text, indent=1)
        assert records == codec.decode_jobs(pretty)


def test_snapshot_is_written_again_to_the_letter():
    """What is in memory once is still written, or left out, as it was for each job."""
    written = replace(PLAIN, backoff_base=float("2"), backoff_cap_s=float("3600"))
    text = codec.encode_jobs([PLAIN, written, written, PLAIN, written])

    assert [0, 1, 1, 0, 1] == [line.count(b"backoff_cap_s") for line in text.splitlines()]
    assert text == codec.encode_jobs(codec.decode_jobs(b"[" + text + b"]"))


@pytest.mark.parametrize("damage", [b"x%b", b"%b]", b"%b,", b'{"id":"1"},\n%b'])
def test_what_is_no_array_is_refused_in_parts_too(monkeypatch, damage):
    """The parts are accepted only if together they are what a snapshot is."""
    monkeypatch.setattr(codec, "PART_BYTES", 0)
    text = b"[\n" + codec.encode_jobs([PLAIN, PLAIN]) + b"\n]\n"
    with pytest.raises(msgspec.DecodeError):
        codec.decode_jobs(damage % text)


@pytest.mark.parametrize("lost", ["created_at", "updated_at"])
def test_a_job_of_a_snapshot_that_has_lost_a_time_is_refused(lost):
    """Only the event that a job comes from may leave its times out: it is then."""
    text = codec.encode_jobs([PLAIN])
    assert [PLAIN] == codec.decode_jobs(b"[%b]" % text)
    with pytest.raises(msgspec.DecodeError):
        codec.decode_jobs(b"[%b]" % text.replace(lost.encode(), b"x"))


def test_what_many_jobs_have_in_common_is_in_memory_once():
    """A directory, an environment, a worker and a moment are not kept once a job."""
    asked = {"cwd": "/here", "shell": "bash -e", "environ_ref": "a1", "env_ref": "b2"}
    times = {"created_at": T0, "updated_at": T1, "started_at": T0, "finished_at": T1}
    job = replace(PLAIN, worker="1-abc", backoff_base=1.5, backoff_cap_s=7.5, **asked, **times)
    text = codec.encode_jobs([job, replace(job, id="8")])
    one, two = codec.decode_jobs(b"[" + text + b"]")
    for name in (*asked, *times, "worker", "backoff_base", "backoff_cap_s"):
        assert getattr(one, name) is getattr(two, name), name
    assert one.finished_at is one.updated_at
    lines = [codec.encode_line(Enqueued(at=T0, id="7", job=job))] * 2
    one, two = (codec.decode_line(line).job for line in lines)
    assert one.cwd is two.cwd
    assert one.environ_ref is two.environ_ref


@given(jobs)
def test_seven_classic_keys_come_first_and_always(job):
    """Whatever a job has become, the file opens with the keys that every such tool writes."""
    assert SEVEN == list(json.loads(codec.encode_jobs([job])))[:7]


def test_plain_job_is_written_with_the_seven_keys_alone():
    """What was never set is not written."""
    assert {
        "id": "7",
        "command": "echo 'a\nb'",
        "state": "pending",
        "attempts": 0,
        "max_retries": 3,
        "created_at": "2025-11-04T10:00:00Z",
        "updated_at": "2025-11-04T10:00:00Z",
    } == json.loads(codec.encode_jobs([PLAIN]))


def test_json_for_people_is_indented():
    """`--json` prints something that can be read."""
    assert b'{\n  "state": "dead"\n}' == codec.to_json({"state": State.DEAD})


# --- a jobs.json of another tool ----------------------------------------------------------------


def classic(**keys) -> JobRecord:
    """Return the one job of a foreign file, in which it has *keys*."""
    text = json.dumps([{"id": "job1", "command": "make", **keys}]).encode()
    (job,) = codec.decode_classic_jobs(text, T1)
    return job


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("pending", "pending"),
        ("processing", "pending"),
        ("running", "pending"),
        ("completed", "completed"),
        ("COMPLETED", "completed"),
        ("failed", "failed"),
        ("dead", "dead"),
        ("Dead", "dead"),
        ("cancelled", "cancelled"),
        ("canceled", "cancelled"),
    ],
)
def test_state_of_another_tool_is_understood(theirs, ours):
    """Spelling and case are forgiven; what was being run there starts over here."""
    job = classic(state=theirs)

    assert (ours, None) == (job.state, job.due_at)


def test_job_of_another_tool_keeps_its_seven_values():
    """All seven keys are taken over; its next attempt is numbered on from its failures."""
    found = classic(
        state="failed",
        attempts=2,
        max_retries=5,
        created_at="2025-11-04T10:00:00Z",
        updated_at="2025-11-04T10:00:00.250Z",
        output="a key of theirs",
    )

    assert (
        JobRecord(
            id="job1",
            command="make",
            state=State.FAILED,
            attempts=2,
            max_retries=5,
            created_at=T0,
            updated_at=T1,
            attempt=2,
            seq=1,
            order=1,
        )
        == found
    )


@pytest.mark.parametrize("written", ["2025-11-04T10:00:00", "2025-11-04 10:00:00"])
def test_time_without_a_zone_is_taken_as_utc(written):
    """A naive time never gets further than the door."""
    job = classic(created_at=written, updated_at=written)

    assert (T0, T0) == (job.created_at, job.updated_at)


def test_time_with_an_offset_is_turned_into_utc():
    """Times in our files are written with a Z."""
    job = classic(created_at="2025-11-04T15:30:00+05:30")

    assert b'"created_at":"2025-11-04T10:00:00Z"' in codec.encode_jobs([job])


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_time_that_is_none_in_utc_is_refused(written):
    """Before the first year or after the last one."""
    with pytest.raises(InvalidInputError, match="is out of range"):
        classic(created_at=written)


def test_missing_keys_of_another_tool_are_filled_in():
    """An id and a command are enough; a number is an id too; times default to the import."""
    job = classic(id=12)

    assert ("12", "pending", 0, 3) == (job.id, job.state, job.attempts, job.max_retries)
    assert (T1, T1) == (job.created_at, job.updated_at)
    assert T0 == classic(created_at="2025-11-04T10:00:00Z").updated_at


def test_jobs_of_another_tool_keep_their_order():
    """The place in the file is the place in the line."""
    text = b'[{"id": "b", "command": "true"}, {"id": "a", "command": "true"}]'
    found = codec.decode_classic_jobs(text, T0)

    assert [("b", 1, 1), ("a", 2, 2)] == [(job.id, job.order, job.seq) for job in found]


@pytest.mark.parametrize("text", [b"", b" \n", b"[]", b"[ ]\n"])
def test_empty_file_of_another_tool_has_no_jobs(text):
    """A file that was created and never written to is an empty queue."""
    assert [] == codec.decode_classic_jobs(text, T0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"not json", "not an array of jobs"),
        (b"null", "Expected `array`, got `null`"),
        (b'{"jobs": []}', "Expected `array`, got `object`"),
        (b"[1]", r"Expected `object`, got `int` - at `\$\[0\]`"),
        (b'[{"id": "a", "command": "x"}, {"id": "b"}]', r"`command` - at `\$\[1\]`"),
        (b'[{"command": "x"}]', r"`id` - at `\$\[0\]`"),
        (b'[{"id": "a", "command": 7}]', r"got `int` - at `\$\[0\]\.command`"),
        (b'[{"id": "a", "command": "x", "created_at": "soon"}]', r"`\$\[0\]\.created_at`"),
        (b'[{"id": "a", "command": "x"}', "not an array of jobs"),
        (b'[{"id": "a", "command": "\xff"}]', "not an array of jobs"),
    ],
)
def test_garbage_from_another_tool_is_refused_where_it_stands(text, words):
    """The message says what was expected and at which job."""
    with pytest.raises(InvalidInputError, match=words):
        codec.decode_classic_jobs(text, T0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("complete", "job 'job1' has the unknown state 'complete'. Did you mean 'completed'?"),
        ("zombie", "job 'job1' has the unknown state 'zombie'."),
    ],
)
def test_unknown_state_of_another_tool_is_refused_by_name(state, words):
    """The message names the job, the word, and the nearest word that exists."""
    with pytest.raises(InvalidInputError) as caught:
        classic(state=state)

    assert words == str(caught.value)


# --- the JSON object that asks for a job --------------------------------------------------------


def test_spec_takes_every_key_there_is():
    """The object's keys are the fields of `JobSpec`."""
    whole = {
        "command": "make",
        "id": "job1",
        "name": "build",
        "tags": ["a", "b"],
        "priority": -5,
        "max_retries": 0,
        "backoff_base": 1.5,
        "backoff_cap_s": 60,
        "backoff_jitter": 0.5,
        "delay_s": 2,
        "cwd": "/src",
        "env": {"A": "1"},
        "shell": "bash",
        "timeout_s": 90.0,
        "grace_s": 1.5,
        "output_bytes_max": 4096,
        "on_lost": "hold",
    }
    found = codec.spec_from(json.loads(json.dumps(whole)))

    assert set(JobSpec.__struct_fields__) == set(whole)
    assert JobSpec(**(whole | {"tags": ("a", "b"), "on_lost": OnLost.HOLD})) == found
    assert JobSpec(command="make") == codec.spec_from({"command": "make", "id": None})


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("maxRetries", 5, "max_retries"),
        ("backoff_cap", 60, "backoff_cap_s"),
        ("backoff-cap", 60, "backoff_cap_s"),
        ("delay", 2, "delay_s"),
        ("timeout", 2, "timeout_s"),
        ("timeout_seconds", 2, "timeout_s"),
        ("grace", 2, "grace_s"),
        ("max_output", 4096, "output_bytes_max"),
        ("tag", ["a"], "tags"),
    ],
)
def test_other_spelling_of_a_key_is_understood(key, value, field):
    """What other tools call it is taken for what it is here."""
    found = codec.spec_from({"command": "make", key: value})
    expected = tuple(value) if field == "tags" else value

    assert expected == getattr(found, field)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"comand": "x"}', "a job has no key 'comand'. Did you mean 'command'? It can have: "),
        ('{"command": "x", "retries": 3}', "no key 'retries'. Did you mean 'max_retries'?"),
        ('{"command": "x", "colour": 3}', "no key 'colour'. It can have: command, id, name, "),
        ('{"command": "x", "state": "dead"}', "a job has no key 'state'."),
        ('{"id": "job1"}', 'the job has no command: add one, like {"command": "echo hi"}'),
        ("{}", "the job has no command: add one"),
        ('{"command": 5}', "does not fit: Expected `str`, got `int` - at `$.command`"),
        ('{"command": null}', "Expected `str`, got `null` - at `$.command`"),
        ('{"command": "x", "id": 1}', "Expected `str | null`, got `int` - at `$.id`"),
        ('{"command": "x", "priority": "high"}', "Expected `int`, got `str` - at `$.priority`"),
        ('{"command": "x", "priority": true}', "Expected `int`, got `bool` - at `$.priority`"),
        ('{"command": "x", "tags": "a"}', "Expected `array`, got `str` - at `$.tags`"),
        ("[]", 'a job is a JSON object with at least a command, like {"command": "echo hi"}'),
        ('"echo hi"', "a job is a JSON object"),
        ("7", "a job is a JSON object"),
        ("null", "a job is a JSON object"),
    ],
)
def test_spec_that_cannot_be_understood_is_refused_with_a_lesson(text, words):
    """The message says what is wrong, and what would be right."""
    with pytest.raises(InvalidInputError) as caught:
        codec.spec_from(json.loads(text))

    assert words in str(caught.value)


@pytest.mark.parametrize("env", ['{"TOKEN": ["s3cret"]}', '"s3cret"', '["s3cret"]'])
def test_refusal_of_a_spec_does_not_show_the_environment(env):
    """An error message names the key, never what the variable was set to."""
    with pytest.raises(InvalidInputError, match="env") as caught:
        codec.spec_from({"command": "x", "env": json.loads(env)})

    assert "s3cret" not in str(caught.value)


def test_spec_does_not_show_the_values_of_its_environment():
    """A repr in a notebook or a traceback names the variables only."""
    shown = repr(JobSpec(command="make", env={"TOKEN": "s3cret"}, priority=5))

    assert shown.startswith("JobSpec(command='make', priority=5, ")
    assert "env=['TOKEN']" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("key", [7, None, ("command",)])
def test_key_that_is_no_text_is_refused_with_a_lesson(key):
    """A dict from Python may have any key."""
    with pytest.raises(InvalidInputError, match="a job has no key"):
        codec.spec_from({"command": "make", key: "x"})
