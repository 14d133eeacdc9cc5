"""A log is read in pieces, whatever it holds, and kept from growing for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from queuectl_magics import output
from queuectl_magics.output import BLOCK

KEPT = 64 * 1024


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of the second attempt of job 7; nothing is there yet."""
    return output.log_path(tmp_path, "7", 2)


def lines(count: int) -> bytes:
    """Return that many numbered lines of 16 bytes."""
    return b"".join(b"line %010d\n" % number for number in range(count))


def test_log_is_named_after_job_and_attempt(tmp_path):
    """Every attempt has a log of its own."""
    assert tmp_path / "7.2.log" == output.log_path(tmp_path, "7", 2)


def test_log_that_is_not_there_is_empty(log):
    """A job that has not begun has printed nothing; asking is no error."""
    assert "" == output.read_text(log)
    assert (b"", 0) == output.tail(log, 5)
    assert (b"", 3) == output.read_from(log, 3)
    assert 0 == output.size(log)
    output.drop_middle(log, KEPT)
    assert not log.exists()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"one\ntwo\n", "one\ntwo\n"),
        ("ü 漢字 🚀".encode(), "ü 漢字 🚀"),
        (b"caf\xe9\n", "caf�\n"),
        (b"a\rb\r\nc\x1b[31m", "a\rb\r\nc\x1b[31m"),
        (b"nul\0nul", "nul\0nul"),
    ],
)
def test_text_is_whatever_was_printed(log, data, text):
    """Line ends and control characters stay; bytes that are no UTF-8 are replaced."""
    log.write_bytes(data)

    assert text == output.read_text(log)


def test_reading_goes_on_where_it_stopped(log):
    """Piece by piece nothing is lost and nothing is read twice."""
    data = lines(1000)
    log.write_bytes(data)
    pieces, offset = [], 0
    while True:
        piece, offset = output.read_from(log, offset, limit=999)
        if not piece:
            break
        pieces.append(piece)

    assert data == b"".join(pieces)
    assert len(data) == offset
    assert {999} == {len(piece) for piece in pieces[:-1]}


def test_reading_on_sees_what_came_since(log):
    """At the end there is nothing, until more is printed."""
    log.write_bytes(b"one\n")
    _, offset = output.read_from(log, 0)
    nothing, offset = output.read_from(log, offset)
    with log.open("ab") as more:
        more.write(b"two\n")

    assert b"" == nothing
    assert (b"two\n", 8) == output.read_from(log, offset)


@pytest.mark.parametrize(
    ("data", "count", "tail"),
    [
        (b"", 3, b""),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"a\n\nb\n", 2, b"\nb\n"),
        (b"a\n\n\n", 2, b"\n\n"),
        (b"50%\r100%\n", 1, b"50%\r100%\n"),
        ("ü\u2028x\n".encode(), 1, "ü\u2028x\n".encode()),
        (b"caf\xe9\n", 1, b"caf\xe9\n"),
        (lines(20_000), 19_999, lines(20_000)[16:]),
        (b"a\n" + b"x" * 200_000 + b"\nb\n", 2, b"x" * 200_000 + b"\nb\n"),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, bytes) else None,
)
def test_tail_is_the_last_lines(log, data, count, tail):
    """Lines end at a line feed and nowhere else."""
    log.write_bytes(data)

    assert (tail, len(data)) == output.tail(log, count)


def test_tail_of_a_huge_log_looks_at_its_end_only(log):
    """A log of a tebibyte is as quick as any: no more than the last piece is read."""
    with log.open("wb") as file:
        file.truncate(1024**4)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n")

    assert b"last but one\nlast\n" == output.tail(log, 2)[0]
    assert b"\nlast but one\nlast\n" == output.tail(log, 10_000)[0]
    assert (b"last\n", 1024**4 + 19) == output.read_from(log, 1024**4 + 14)
    assert 1024**4 + 19 == output.size(log)


def test_tail_is_cut_at_the_limit(log):
    """A line without end is shown from where the piece begins, and is no error."""
    log.write_bytes("ü".encode() * 100)

    assert ("ü".encode() * 5)[1:] == output.tail(log, 1, 9)[0]


# --- keeping it small ----------------------------------------------------------------------------


def dropped(log: Path, data: bytes, bytes_max: int = KEPT) -> str:
    """Write a log, drop its middle, and return what is left as text."""
    log.write_bytes(data)
    output.drop_middle(log, bytes_max)
    return output.read_text(log)


def on_disk(log: Path) -> int:
    """Return how many bytes of the disk the log takes."""
    return log.stat().st_blocks * 512


def test_middle_is_given_back_to_the_disk(log):
    """A log of 1 MiB that may keep 64 KiB takes about that, and is as long as before."""
    data = lines(65536)
    dropped(log, data)

    assert len(data) == output.size(log)
    assert KEPT <= on_disk(log) <= KEPT + 2 * BLOCK


def test_beginning_and_end_are_kept_and_a_line_says_what_is_gone(log):
    """Half of what is kept is the beginning, half the end."""
    data = lines(65536)
    text = dropped(log, data)
    head, note, tail = text.partition("\n[queuectl: ")
    gone, _, tail = tail.partition(" bytes of output were dropped here, see --max-output]\n")

    assert "\n[queuectl: " == note
    assert data.decode().startswith(head)
    assert data.decode().endswith(tail)
    assert KEPT // 2 - 200 < len(head) <= KEPT // 2
    assert KEPT // 2 <= len(tail) < KEPT // 2 + BLOCK
    assert len(data) - KEPT // 2 - len(tail) == int(gone.replace(",", ""))
    assert "\0" not in text


def test_log_within_its_limit_is_left_alone(log):
    """Nothing is dropped that need not be."""
    data = lines(KEPT // 16)

    assert data.decode() == dropped(log, data)


def test_dropping_again_moves_the_end_and_corrects_the_note(log):
    """A log that goes on growing is dropped again and again; the beginning stays."""
    data = lines(65536)
    log.write_bytes(data)
    for _ in range(4):
        output.drop_middle(log, KEPT)
        with log.open("ab") as more:
            more.write(data)
    output.drop_middle(log, KEPT)
    text = output.read_text(log)

    assert 1 == text.count("[queuectl: ")
    assert text.startswith("line 0000000000\n")
    assert text.endswith("line 0000065535\n")
    assert 5 * len(data) == output.size(log)
    assert on_disk(log) <= KEPT + 2 * BLOCK


def test_follower_passes_over_what_was_dropped(log):
    """Who was reading in the middle goes on at the end, without a flood of nothing."""
    data = lines(65536)
    log.write_bytes(data)
    _, offset = output.read_from(log, 0, limit=200_000)
    output.drop_middle(log, KEPT)
    rest = b""
    while True:
        piece, offset = output.read_from(log, offset)
        if not piece:
            break
        rest += piece

    assert len(data) == offset
    assert data.endswith(rest)
    assert KEPT // 2 <= len(rest) < KEPT // 2 + BLOCK


def test_tail_of_a_log_without_a_middle_is_text(log):
    """The hole is not part of the last lines, however far back one looks."""
    dropped(log, lines(65536))
    tail, _ = output.tail(log, 10_000)

    assert b"\0" not in tail
    assert tail.startswith(b"line 0000000000\n")
    assert b"bytes of output were dropped here" in tail
    assert tail.endswith(b"line 0000065535\n")


def test_writer_goes_on_at_the_end(log):
    """The command has its log open for appending and notices nothing."""
    with log.open("ab", buffering=0) as command:
        command.write(lines(65536))
        output.drop_middle(log, KEPT)
        command.write(b"after\n")

    assert output.read_text(log).endswith("line 0000065535\nafter\n")


def test_log_is_whole_where_no_hole_can_be_punched(log, monkeypatch):
    """Another system keeps all of it: no note claims that something was dropped."""
    monkeypatch.setattr(output.sys, "platform", "darwin")
    data = lines(65536)

    assert data.decode() == dropped(log, data)


@pytest.mark.parametrize("bytes_max", [0, 1, 100, BLOCK, 3 * BLOCK])
def test_tiny_limit_keeps_a_block_of_each_end(log, bytes_max):
    """However small the limit, there is a beginning and an end."""
    text = dropped(log, lines(65536), bytes_max)

    assert text.startswith("line 0000000000\n")
    assert text.endswith("line 0000065535\n")
    assert on_disk(log) <= 4 * BLOCK


def test_log_is_read_whole_though_a_read_may_return_less(log, monkeypatch):
    """The system may return less than was asked for (never more than 2 GiB): the rest follows."""
    data = lines(10_000)
    log.write_bytes(data)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 1000), at))

    assert data.decode() == output.read_text(log)
