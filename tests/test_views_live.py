"""The kernel's side of the live table, with jobs made by hand."""

from __future__ import annotations

import json
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views.live import assets, road, searching, still, wire
from queuectl_magics.views.live import table as live_table
from queuectl_magics.views.live.log import BEHIND_BYTES_MAX, LINE_BYTES_MAX, Following
from queuectl_magics.views.live.pusher import Pusher
from queuectl_magics.views.live.source import Changes, Standing
from queuectl_magics.views.live.table import ANSWERS_MAX, FOLLOWING_MAX, LiveTable
from queuectl_magics.views.live.tails import ALWAYS_RUNNING, Tails
from queuectl_magics.views.progress import Said
from queuectl_magics.views.status import Status, choose

NOW = datetime(2026, 11, 24, 10, 51, tzinfo=UTC)


def job(id: str = "1", state: State = State.PENDING, **more: Any) -> JobRecord:
    """Make a job."""
    begun = state is not State.PENDING
    return JobRecord(
        **{
            "id": id,
            "command": f"make {id}",
            "state": state,
            "attempts": 0,
            "max_retries": 3,
            "created_at": NOW,
            "updated_at": NOW,
            "attempt": int(begun),
            "order": int(id),
            "started_at": NOW if begun else None,
            **more,
        }
    )


class FakeSource:
    """A queue in memory."""

    title = "folder/.queuectl"

    def __init__(self, *jobs: JobRecord) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.seq = 1
        self.touched: list[tuple[int, str]] = []
        self.now = Standing(paused=False, workers=1, slots=2)
        self.logs: dict[str, bytes] = {}
        self.done: list[tuple[str, Any]] = []
        self.error: Exception | None = None

    def put(self, job: JobRecord) -> None:
        self.seq += 1
        self.jobs[job.id] = job
        self.touched.append((self.seq, job.id))

    def drop(self, id: str) -> None:
        self.seq += 1
        del self.jobs[id]
        self.touched.append((self.seq, id))

    def changes(self, since: int | None) -> Changes:
        if self.error:
            raise self.error
        if since is None:
            return Changes(self.seq, list(self.jobs.values()), whole=True)
        ids = {id for seq, id in self.touched if seq > since}
        found = [self.jobs[id] for id in ids if id in self.jobs]
        return Changes(self.seq, found, [id for id in ids if id not in self.jobs])

    def standing(self) -> Standing:
        return self.now

    def output_size(self, id: str, attempt: int) -> int:
        return len(self.logs.get(id, b""))

    def output(self, id: str, attempt: int, offset: int, limit: int) -> tuple[bytes, int]:
        piece = self.logs.get(id, b"")[offset : offset + limit]
        return piece, offset + len(piece)

    def cancel(self, ids: Any) -> int:
        self.done.append(("cancel", list(ids)))
        if self.error:
            raise self.error
        return len(self.done[-1][1])

    def retry(self, ids: Any) -> int:
        self.done.append(("retry", list(ids)))
        return len(self.done[-1][1])

    def pause(self) -> None:
        self.now = self.now._replace(paused=True)

    def resume(self) -> None:
        self.now = self.now._replace(paused=False)


class Sent(list[tuple[dict[str, Any], Any]]):
    """What a table has sent, unpacked."""

    def __call__(self, content: dict[str, Any], buffers: list[bytes] | None) -> None:
        self.append((content, unpack(buffers[0]) if buffers else None))

    def take(self, kind: str) -> list[tuple[dict[str, Any], Any]]:
        """Return what was sent of that kind, and forget all."""
        found = [pair for pair in self if pair[0]["kind"] == kind]
        self.clear()
        return found


def unpack(packed: bytes) -> Any:
    """Read what `wire.pack` wrote."""
    return json.loads(zlib.decompress(packed))


@pytest.fixture
def sent() -> Sent:
    """What the table sends."""
    return Sent()


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are taken by the tests."""
    monkeypatch.setattr(Pusher, "poke", lambda self: None)


def greeted(source: FakeSource, sent: Sent) -> LiveTable:
    """Return a table that a view has said hello to."""
    table = LiveTable(source, sent)
    table.answer({"op": "hello", "rid": "h"})
    table.turn()
    return table


# --- the wire ------------------------------------------------------------------------------------


def test_snapshot_is_columns_in_chunks():
    """Each chunk says with which row it begins; together they are all jobs."""
    jobs = [job(str(n)) for n in range(1, 8)]
    parts = [(first, unpack(packed)) for first, packed in wire.chunks(jobs, {}, rows_max=3)]

    assert [0, 3, 6] == [first for first, _ in parts]
    assert list(wire.COLUMNS) == list(parts[0][1])
    assert [job.id for job in jobs] == [id for _, part in parts for id in part["id"]]


def test_empty_queue_is_one_empty_chunk():
    """A view must hear that there is nothing."""
    [(first, packed)] = wire.chunks([], {})

    assert 0 == first
    assert {"id": []}.items() <= unpack(packed).items()


def test_text_on_the_wire_is_clean_and_short():
    """Control sequences are gone, overrides can be read, and nothing is long."""
    hostile = job(command="\x1b]0;x\x07ls \u202e" + "y" * 9999, name="a\nb")
    id, name, command = wire.fixed(hostile)

    assert ("1", "a⏎b") == (id, name)
    assert command.startswith("ls \\u202ey")
    assert len(command) == wire.COMMAND_CELLS


def test_lone_surrogates_do_not_stop_the_wire():
    """What cannot be encoded is replaced."""
    assert ["?"] == unpack(wire.pack(["\ud800"]))


@pytest.mark.parametrize(
    ("state", "attempts", "number"),
    [
        (State.PENDING, 0, 0),
        (State.PROCESSING, 0, 1),
        (State.PROCESSING, 1, 2),
        (State.FAILED, 1, 1),
        (State.DEAD, 3, 3),
        (State.COMPLETED, 2, 3),
        (State.CANCELLED, 0, 1),
        (State.CANCELLED, 2, 2),
    ],
)
def test_attempt_is_counted_as_a_person_would(state, attempts, number):
    """The second of three is 2/3 while it runs, and 3/3 when the third has failed."""
    assert number == wire.changing(job("1", state, attempts=attempts))[1]
    called_off = job("1", State.CANCELLED, attempts=1, reason="cancelled while running")
    assert wire.changing(called_off)[1] == 2


# --- what the jobs print -------------------------------------------------------------------------


def test_running_job_is_read_again_only_when_it_has_printed():
    """One look at the size is enough to know."""
    source = FakeSource(job("1", State.PROCESSING))
    source.logs["1"] = b"epoch 1/4\n"
    tails = Tails(source)
    tails.note(source.jobs.values())

    assert [("1", Said("epoch 1/4", 0.25))] == tails.look()
    assert [] == tails.look()
    source.logs["1"] += b"epoch 2/4\n"
    assert [("1", Said("epoch 2/4", 0.5))] == tails.look()


def test_jobs_that_are_over_are_read_newest_first_and_the_wanted_before():
    """A hundred thousand last lines take their time; those in sight do not wait."""
    jobs = [job(str(n), State.COMPLETED) for n in range(1, 6)]
    source = FakeSource(*jobs)
    tails = Tails(source)
    tails.note(jobs)
    tails.want({"2"})
    seen = []
    while found := tails.look(budget_s=1e-9):
        seen += [id for id, _ in found]

    assert [] == seen
    assert ["2", "5", "4", "3", "2", "1"] == [id for id, _ in tails.look(budget_s=5)]


def test_many_running_jobs_are_looked_at_in_turn():
    """A turn stays short however many run, and none is forgotten."""
    jobs = [job(str(n), State.PROCESSING) for n in range(1, 3 * ALWAYS_RUNNING)]
    source = FakeSource(*jobs)
    source.logs = {job.id: b"x\n" for job in jobs}
    tails = Tails(source)
    tails.note(jobs)
    first = tails.look()

    assert len(first) <= ALWAYS_RUNNING
    assert {job.id for job in jobs} == {id for id, _ in first} | {
        id for _ in range(9) for id, _ in tails.look()
    }


def test_ffmpeg_is_measured_against_its_head():
    """The duration stands so far above that the tail no longer holds it."""
    source = FakeSource(job("1", State.PROCESSING))
    source.logs["1"] = b"  Duration: 00:01:40.00, x\n" + b"time=00:00:50.00 speed=1x   \r" * 999
    tails = Tails(source)
    tails.note(source.jobs.values())

    assert 0.5 == tails.look()[0][1].progress


# --- a log ---------------------------------------------------------------------------------------


def test_log_comes_in_lines_and_a_rest():
    """A line without an end is sent as it is so far, and again when it is whole."""
    source = FakeSource(job("1", State.PROCESSING))
    source.logs["1"] = b"one\ntwo\n 10%\r 20%"
    log = Following(source, "v", "1", 1)
    first = log.look() or {}
    nothing = log.look()
    source.logs["1"] += b"\r 30%\nend"
    second = log.look() or {}

    assert (["one", "two"], " 20%", False) == (first["lines"], first["rest"], first["begun"])
    assert nothing is None
    assert ([" 30%"], "end", True) == (second["lines"], second["rest"], second["begun"])


def test_log_that_is_not_there_yet_is_one_empty_piece():
    """The drawer hears that it is followed."""
    piece = Following(FakeSource(), "v", "1", 1).look() or {}

    assert ([], "") == (piece["lines"], piece["rest"])


def test_long_log_begins_near_its_end_and_says_what_is_left_out():
    """Ten megabytes do not go to the browser."""
    source = FakeSource()
    source.logs["1"] = b"0123456789\n" * 1_000_000
    piece = Following(source, "v", "1", 1).look() or {}

    assert "left out" in piece["lines"][0]
    assert {"0123456789"} == set(piece["lines"][1:])
    assert len(piece["lines"]) < 7000


def test_log_that_runs_away_is_skipped_in():
    """A job that prints faster than a browser can show does not pile up."""
    source = FakeSource()
    source.logs["1"] = b"a\n"
    log = Following(source, "v", "1", 1)
    log.look()
    source.logs["1"] += b"b" * (2 * BEHIND_BYTES_MAX)
    piece = log.look() or {}

    assert "left out" in piece["lines"][0]
    assert len(piece["rest"]) < LINE_BYTES_MAX + 99


def test_colours_stay_and_everything_else_goes():
    """SGR is for the browser to draw; titles, links and the clipboard are nobody's."""
    source = FakeSource()
    source.logs["1"] = b"\x1b[31mred\x1b[0m \x1b]0;gotcha\x07\xff\n"
    piece = Following(source, "v", "1", 1).look() or {}

    assert ["\x1b[31mred\x1b[0m \ufffd\x1b[0m"] == piece["lines"]


# --- the table -----------------------------------------------------------------------------------


def test_hello_is_answered_with_everything(sent):
    """A snapshot, numbered, with how the queue stands."""
    greeted(FakeSource(job("1"), job("2", State.PROCESSING)), sent)
    [(head, columns)] = sent.take("snapshot")

    assert (2, 1, {"paused": False, "workers": 1, "slots": 2}) == (
        head["count"],
        head["number"],
        head["queue"],
    )
    assert [0, 1] == columns["state"]


def test_changes_are_told_in_numbered_deltas(sent):
    """New jobs in full, known ones in short, gone ones by id, words apart."""
    source = FakeSource(job("1"), job("2"))
    table = greeted(source, sent)
    sent.clear()
    source.put(job("1", State.PROCESSING))
    source.put(job("3"))
    source.drop("2")
    source.logs["1"] = b"epoch 1/2\n"
    table.turn()
    [(head, body)] = sent.take("delta")

    assert 2 == head["number"]
    assert ["3"] == [row[0] for row in body["new"]]
    assert [["1", 1]] == [row[:2] for row in body["changed"]]
    assert [["1", "epoch 1/2", 0.5]] == body["said"]
    assert ["2"] == body["gone"]


def test_nothing_new_sends_nothing(sent):
    """Silence costs no bytes."""
    table = greeted(FakeSource(job("1")), sent)
    sent.clear()
    for _ in range(5):
        table.turn()

    assert [] == sent


def test_table_is_watched_for_as_long_as_its_lease(sent, monkeypatch):
    """Without a sign of life from a view it gets no turns."""
    table = LiveTable(FakeSource(), sent)
    before = table.is_watched()
    table.answer({"op": "beat", "rid": "b"})
    during = table.is_watched()
    later = time.monotonic() + live_table.LEASE_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert (False, True, False) == (before, during, table.is_watched())


def test_request_that_comes_twice_is_done_once(sent):
    """The same click by both roads cancels once and gets the same answer."""
    source = FakeSource(job("1"))
    table = LiveTable(source, sent)
    asked = {"op": "cancel", "rid": "r1", "jobs": ["1"]}

    assert table.answer(asked) == table.answer(asked)
    assert [("cancel", ["1"])] == source.done


def test_request_that_comes_twice_at_once_is_done_once(sent):
    """The second road may be quicker than the end of the first."""
    source = FakeSource(job("1"))
    slow = source.cancel

    def cancel(ids: Any) -> int:
        time.sleep(0.1)
        return slow(ids)

    source.cancel = cancel  # type: ignore[method-assign]
    table = LiveTable(source, sent)
    asked = {"op": "cancel", "rid": "r1", "jobs": ["1"]}
    threads = [threading.Thread(target=table.answer, args=(asked,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(source.done)


def test_interrupted_answer_keeps_nobody_waiting(sent):
    """The same request comes by the other road, whose thread must not hang."""
    source = FakeSource()
    source.error = KeyboardInterrupt()
    table = LiveTable(source, sent)
    with pytest.raises(KeyboardInterrupt):
        table.answer({"op": "cancel", "rid": "r", "jobs": []})

    assert "interrupted" in table.answer({"op": "cancel", "rid": "r", "jobs": []})["error"]


def test_logs_of_pages_that_are_gone_are_not_followed_for_ever(sent):
    """A page that is loaded again is another view, and nobody says that the old one has left."""
    source = FakeSource(job("1", State.PROCESSING))
    source.logs["1"] = b"hi\n"
    table = greeted(source, sent)
    for n in range(3 * FOLLOWING_MAX):
        what = {"op": "follow", "rid": str(n), "view": str(n), "job": "1", "attempt": 1}
        table.answer(what)
    table.turn()

    views = [str(n) for n in range(2 * FOLLOWING_MAX, 3 * FOLLOWING_MAX)]
    assert views == [piece["view"] for piece, _ in sent.take("log")]


def test_job_that_begins_anew_has_said_nothing(sent):
    """What it printed before it was retried is in its log, and no news."""
    source = FakeSource(job("1", State.DEAD, attempts=3, exit_code=3))
    source.logs["1"] = b"out of memory\n"
    table = greeted(source, sent)
    source.put(job("1", State.PENDING, attempt=1, exit_code=3))
    table.turn()
    [(_, body)] = sent.take("delta")

    assert [["1", "", None]] == body["said"]
    assert "" == body["changed"][0][-1]


def test_answers_are_not_kept_for_ever(sent):
    """The memory of what was asked is bounded."""
    table = LiveTable(FakeSource(), sent)
    for n in range(2 * ANSWERS_MAX):
        table.answer({"op": "beat", "rid": str(n)})

    assert ANSWERS_MAX == len(table._answered)


def test_error_is_an_answer(sent):
    """Whoever clicked learns why nothing happened."""
    source = FakeSource()
    source.error = ValueError("the disk is full")
    table = LiveTable(source, sent)

    assert "the disk is full" == table.answer({"op": "cancel", "rid": "r", "jobs": []})["error"]
    assert "does not know" in table.answer({"op": "explode", "rid": "s"})["error"]


def test_pause_and_resume_reach_the_queue_and_the_view(sent):
    """The next turn tells how the queue stands, without waiting for its second."""
    source = FakeSource()
    table = greeted(source, sent)
    table.answer({"op": "pause", "rid": "1"})
    table.turn()

    assert source.now.paused
    assert sent.take("delta")[0][0]["queue"]["paused"]
    table.answer({"op": "resume", "rid": "2"})
    assert not source.now.paused


def test_log_is_sent_to_the_view_that_follows_it_until_it_leaves(sent):
    """Each view has its own drawer."""
    source = FakeSource(job("1", State.PROCESSING))
    source.logs["1"] = b"hi\n"
    table = greeted(source, sent)
    table.answer({"op": "follow", "rid": "1", "view": "v", "job": "1", "attempt": 1})
    table.turn()
    [(piece, _)] = sent.take("log")
    table.answer({"op": "leave", "rid": "2", "view": "v"})
    source.logs["1"] += b"ho\n"
    table.turn()

    assert ("v", ["hi"]) == (piece["view"], piece["lines"])
    assert [] == sent.take("log")


def found(sent: Sent) -> dict[str, str]:
    """Return which jobs were found by what they have printed, and by which words."""
    said = [row for _, body in sent.take("delta") for row in body["said"] if len(row) > 3]
    return {row[0]: row[3] for row in said}


def test_output_is_searched_where_the_last_line_is_another(sent):
    """All the words, in any case, in the output or in what else is known of the job."""
    jobs = [job(str(n), State.DEAD, attempts=3) for n in range(1, 5)]
    source = FakeSource(*jobs, job("5"))
    source.logs |= {"1": b"CUDA out of memory\nbye\n", "2": b"out of luck\n", "3": b"Memory\n"}
    source.logs["4"] = b"memory\n" + b"x" * 2 * searching.SEARCHED_BYTES
    table = greeted(source, sent)
    table.answer({"op": "find", "rid": "1", "view": "v", "query": " memory MAKE"})
    table.turn()

    assert {"3": " memory make", "1": " memory make"} == found(sent)
    table.answer({"op": "find", "rid": "2", "view": "v", "query": "memory #3"})
    table.turn()
    assert {"3": "memory #3"} == found(sent)


def test_job_that_has_changed_is_searched_again(sent):
    """And after a new snapshot all are, for the browser has forgotten; until nothing is asked."""
    source = FakeSource(job("1"), job("2", State.PROCESSING))
    table = greeted(source, sent)
    table.answer({"op": "find", "rid": "1", "view": "v", "query": "oops"})
    table.turn()
    assert {} == found(sent)
    source.logs["2"] = b"oops\nwell\n"
    source.put(job("2", State.DEAD, attempts=3))
    table.turn()
    assert {"2": "oops"} == found(sent)
    table.answer({"op": "hello", "rid": "2"})
    table.turn()
    table.turn()
    assert {"2": "oops"} == found(sent)
    table.answer({"op": "find", "rid": "3", "view": "v", "query": ""})
    source.put(job("2", State.DEAD, attempts=2))
    table.turn()
    assert {} == found(sent)


def test_running_job_is_searched_again_when_it_has_printed_more(sent, monkeypatch):
    """Its words may be long past when it ends; not at every line, and it is told only once."""
    now_s = 0.0
    monkeypatch.setattr(searching, "time", SimpleNamespace(perf_counter=lambda: now_s))
    source = FakeSource(job("1", State.PROCESSING), job("2", State.PROCESSING))
    source.logs["1"] = b"well\n"
    table = greeted(source, sent)
    table.answer({"op": "find", "rid": "1", "view": "v", "query": "oops"})
    table.turn()
    source.logs["1"] += b"oops\nwell\n"
    table.turn()
    now_s = searching.AGAIN_S
    table.turn()
    assert {"1": "oops"} == found(sent)
    source.logs |= {"1": b"well\noops\nwell\nyes\n", "2": b"no\noops\nno\n"}
    table.turn()
    assert {} == found(sent)
    now_s += searching.AGAIN_S
    table.turn()

    assert {"2": "oops"} == found(sent)


def test_words_are_found_where_the_browser_does_not_see_them(sent):
    """It has the beginning of a long command; the kernel has all of it."""
    table = greeted(FakeSource(job("1", command="make " + "x" * 5000 + " needle")), sent)
    table.answer({"op": "find", "rid": "1", "view": "v", "query": "make needle"})
    table.turn()

    assert {"1": "make needle"} == found(sent)


def test_new_job_with_the_id_of_one_that_was_pruned_is_a_new_row(sent):
    """Even if both happened since the last turn; and it is searched, and found, anew."""
    source = FakeSource(job("1", State.COMPLETED, command="old"))
    source.logs["1"] = b"needle\nend\n"
    table = greeted(source, sent)
    table.answer({"op": "find", "rid": "1", "view": "v", "query": "needle"})
    table.turn()
    assert {"1": "needle"} == found(sent)
    source.put(job("1", State.COMPLETED, command="new", order=99))
    table.turn()
    [(_, body)] = sent.take("delta")

    assert ["1"] == body["gone"]
    assert [["1", "", "new"]] == [row[:3] for row in body["new"]]
    assert "changed" not in body
    assert any("needle" in row for row in body["said"])


def test_hit_of_a_job_that_is_gone_is_not_that_of_the_new_one_with_its_id(sent):
    """What was waiting to be searched is forgotten with it."""
    source = FakeSource()
    search = searching.Searching(source)
    search.ask("v", "needle")
    search.look()
    search.note([job("1", command="make " + "x" * 5000 + " needle")])
    search.drop(["1"])
    search.note([job("1", command="make")])

    assert [] == search.look()


def test_two_views_search_for_their_own_words(sent):
    """A job that fits both is told with the words of both."""
    source = FakeSource(job("1", State.COMPLETED))
    source.logs["1"] = b"this and that\nend\n"
    table = greeted(source, sent)
    for view, query in (("a", "this"), ("b", "that"), ("c", "nothing")):
        table.answer({"op": "find", "rid": view, "view": view, "query": query})
    table.turn()

    assert {"1": "that\nthis"} == found(sent)


def test_searches_of_views_that_are_gone_end(sent):
    """A page that is loaded again is another view, and what the old one asked is forgotten."""
    source = FakeSource(job("1", State.COMPLETED))
    source.logs["1"] = b"word0 word1 word2 word3 word4 word5\n"
    table = greeted(source, sent)
    for n in range(6):
        table.answer({"op": "find", "rid": str(n), "view": str(n), "query": f"word{n}"})
    table.turn()

    assert {"1": "word2\nword3\nword4\nword5"} == found(sent)


def test_job_that_the_browser_finds_itself_is_neither_read_nor_told(sent, monkeypatch):
    """A word of every command would have every log read, and every job sent."""
    source = FakeSource(*(job(str(n), State.COMPLETED) for n in range(1, 4)))
    source.logs = dict.fromkeys(source.jobs, b"make\n")
    search = searching.Searching(source)
    monkeypatch.setattr(source, "output", None)
    search.ask("v", "make")

    assert [] == search.look()


def test_search_takes_turns(sent):
    """A turn reads no more logs than it has time for, the newest job's first."""
    source = FakeSource(*(job(str(n), State.COMPLETED) for n in range(1, 101)))
    source.logs = dict.fromkeys(source.jobs, b"yes\n")
    search = searching.Searching(source)
    search.ask("v", "yes")
    looks = [search.look(budget_s=1e-9) for _ in range(100)]

    assert [] == looks[0]
    assert "100" == search.look()[0][0].id


def test_failed_turn_is_told_and_ends_the_watch(sent):
    """A queue that was deleted does not leave a table that seems alive."""
    source = FakeSource()
    table = greeted(source, sent)
    table.stumble(ValueError("gone"))

    assert "gone" == sent.take("trouble")[0][0]["text"]
    assert not table.is_watched()


def test_sending_where_no_cell_is_known_uses_the_cell_of_the_table(sent):
    """Threads get a LookupError on ipykernel 7.0: the context of the table is used then."""
    raised = []

    def send(content: dict[str, Any], buffers: Any) -> None:
        if not raised:
            raised.append(content)
            raise LookupError
        sent(content, buffers)

    LiveTable(FakeSource(), send).hear(None, {"op": "beat", "rid": "1"}, None)

    assert 1 == len(sent.take("answer"))


# --- the thread ----------------------------------------------------------------------------------


class FakeTable:
    """Counts its turns."""

    def __init__(self, turns: int, error: Exception | None = None) -> None:
        self.left = turns
        self.error = error
        self.stumbled = 0

    def is_watched(self) -> bool:
        return self.left > 0

    def turn(self) -> None:
        self.left -= 1
        if self.error:
            raise self.error

    def stumble(self, error: Exception) -> None:
        self.stumbled += 1
        raise error


def test_pusher_gives_turns_while_somebody_watches(monkeypatch):
    """It stops by itself, goes on when poked, and an error ends nothing."""
    monkeypatch.undo()
    pusher, good, bad = Pusher(), FakeTable(2), FakeTable(2, ValueError("x"))
    pusher.add(good)
    pusher.add(bad)
    pusher.poke()
    end = time.monotonic() + 5
    while (good.left or bad.left) and time.monotonic() < end:
        time.sleep(0.01)
    good.left = 1
    pusher.poke()
    while good.left and time.monotonic() < end:
        time.sleep(0.01)

    assert (0, 0, 2) == (good.left, bad.left, bad.stumbled)


# --- what a page loads, and what remains ---------------------------------------------------------


def test_script_is_one_module_and_colours_come_from_the_looks():
    """No part imports another any more; the sheet has a colour for each state."""
    script, sheet = assets.script(), assets.sheet()

    assert script.endswith("export default{render};")
    assert 1 == script.count("export ")
    assert all(f"--q{n}:#" in sheet for n in range(len(State)))
    assert [["pending", "○"], ["processing", "▶"]] == assets.looks()[:2]


def test_names_that_may_be_keys_are_left_alone():
    """A short name replaces a declared one only where it can be nothing else."""
    for code, short in {
        "const LIMIT_MS=5;const other=x=>x.other;other(LIMIT_MS)": "const a=x=>x.other;a(5)",
        "const one=1;const two=2;f(one,two,...two)": "const b=1;const a=2;f(b,a,...a)",
        "const one=1;f({one,two})": "const one=1;f({one,two})",
        "function f(one,[two]){g({one:two})}": "function f(one,[a]){g({one:a})}",
        "const f=({one,two=3})=>one+two": "const f=({one,two=3})=>one+two",
    }.items():
        assert short == assets._shorten_names(code)


def test_what_a_template_holds_is_code():
    """Names in its braces are shortened too; its text and the strings in it are not."""
    pieces = assets._split('f(`name ${name ? "name" : other}!`, "name")')

    assert ["f(", "name ? ", " : other", ", ", ")"] == pieces[::2]
    assert ["`name ${", '"name"', "}!`", '"name"'] == pieces[1::2]


def test_neighbouring_declarations_share_one_word():
    """What stands between two of them, a statement or a loop, keeps them apart."""
    joined = {
        "const a=1;let b={c:2};const[d]=e;": "let a=1,b={c:2},[d]=e;",
        "const a=1;run();const b=2;": "let a=1;run();let b=2;",
        "const f=()=>{run();};const b=2;": "let f=()=>{run();};let b=2;",
        "for(const a of b)run(a);const c=2;": "for(let a of b)run(a);let c=2;",
    }

    assert list(joined.values()) == list(map(assets._join_declarations, joined))


def test_without_a_kernel_there_is_no_second_road():
    """In plain Python, and in a terminal, the first road is all there is."""
    name, _ = road.open_road()

    assert name == ""


def test_still_shows_first_what_a_person_would_ask_about():
    """Of many jobs those that run or went wrong, in the order in which they came."""
    jobs = tuple(
        job(str(n), State.DEAD if n == 7 else State.COMPLETED, finished_at=NOW + timedelta(1))
        for n in range(1, 99)
    )
    chosen = choose(jobs, 3)
    status = Status(
        jobs=jobs, counts={State.DEAD: 1, State.COMPLETED: 97}, now=NOW, workers=0, slots=0, busy=0
    )

    assert ["7", "97", "98"] == [job.id for job in chosen]
    assert "98 jobs as of 2026-11-24T10:51:00Z: 1 dead, 97 completed" in still.as_text(status)
    assert "A snapshot of 2026-11-24T10:51:00Z" in still.as_html(status)
    assert "0 jobs" in still.as_text(msgspec.structs.replace(status, jobs=(), counts={}))
