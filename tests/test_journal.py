"""One line of the journal: what it looks like, and that nothing else looks like one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl_magics import journal
from queuectl_magics.journal import (
    boot_id,
    frame,
    number,
    read_span,
    sync_data,
    sync_folder,
    write_file,
)

LINE = b'{"seq":7,"d":6,"op":"pruned","id":"1","crc":"210f7b4e"}\n'
numbers = st.integers(0, 2**63 - 1)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
bodies = st.dictionaries(st.text().map("x".__add__), values | st.lists(values), min_size=1)


@pytest.fixture(autouse=True)
def fresh_boot_id():
    """Nothing is remembered from one test to the next."""
    boot_id.cache_clear()
    yield
    boot_id.cache_clear()


# --- lines --------------------------------------------------------------------------------------


def test_line_is_written_to_the_letter():
    """The format of the journal does not change by accident."""
    assert LINE == frame(7, 6, b'{"op":"pruned","id":"1"}')


@given(numbers, numbers, bodies)
def test_line_is_one_json_object_with_its_numbers(seq, durable, body):
    """Any JSON tool reads it; what it is about stands between its numbers and its CRC."""
    line = frame(seq, durable, json.dumps(body).encode())
    found = json.loads(line)

    assert ["seq", "d", *body, "crc"] == list(found)
    assert {"seq": seq, "d": durable, **body} == {k: v for k, v in found.items() if k != "crc"}
    assert line.endswith(b"\n")
    assert 1 == line.count(b"\n")


@given(numbers, numbers, st.text())
def test_numbers_of_a_line_are_read_back(seq, durable, text):
    """Whatever stands in it, also `{"seq":` as a text."""
    body = json.dumps({"op": text, "command": '{"seq":1,"d":2,' + text}, ensure_ascii=False)
    line = frame(seq, durable, body.encode("utf-8", "replace"))
    found = number(line[:-1])

    assert (seq, durable) == (found.seq, found.durable)
    assert 1 == line.count(journal.LINE_START)


def test_part_of_a_line_is_no_line():
    """Cut off at any byte, at either end."""
    for cut in range(len(LINE) - 1):
        assert number(LINE[:cut]) is None
        assert number(LINE[cut + 1 : -1]) is None
    assert number(LINE) is None


def test_line_with_any_bit_flipped_is_no_line():
    """Also in the digits of its CRC."""
    for at in range(len(LINE) - 1):
        for bit in range(8):
            changed = bytearray(LINE[:-1])
            changed[at] ^= 1 << bit
            assert number(bytes(changed)) is None


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"\0" * 60, b'{"op":"x"', b'{"seq":"7","d":6', b'{"seq":7,"d":6,\xff']
)
def test_line_with_a_good_crc_and_no_numbers_is_no_line(text):
    """Somebody else's JSON is not ours."""
    crc = b"%08x" % journal.crc32(text)

    assert number(text + b',"crc":"' + crc + b'"}') is None


# --- files --------------------------------------------------------------------------------------


def test_file_is_written_as_a_whole_for_its_owner_only(tmp_path, monkeypatch):
    """However little the system takes at a time; what was there before is gone."""
    path, write = tmp_path / "file", os.write
    path.write_bytes(b"x" * 100)
    path.chmod(0o600)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    write_file(path, b"0123456789")
    write_file(tmp_path / "new", b"")

    assert b"0123456789" == path.read_bytes()
    assert 0o600 == stat.S_IMODE((tmp_path / "new").stat().st_mode)


@pytest.mark.parametrize(("start", "end"), [(0, 10), (3, 7), (9, 10), (5, 5), (3, 99), (99, 120)])
@pytest.mark.parametrize("step", [1, 4, 100])
def test_span_of_a_file_is_read_as_a_whole(tmp_path, monkeypatch, start, end, step):
    """However little the system gives at a time, and not beyond its end."""
    path, pread = tmp_path / "file", os.pread
    path.write_bytes(b"0123456789")
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, step), at))
    with path.open("rb") as file:
        assert b"0123456789"[start:end] == read_span(file.fileno(), start, end)


def test_file_that_cannot_be_synced_is_closed_all_the_same(tmp_path, monkeypatch):
    """A failing disk costs no descriptors."""

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "fsync", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        write_file(tmp_path / "file", b"x")
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)

    assert before == len(os.listdir("/proc/self/fd"))


def test_data_go_through_the_cache_of_the_drive_on_macos(tmp_path, monkeypatch):
    """There `fsync` stops at the drive; `F_FULLFSYNC` does not."""
    calls = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, what: calls.append(what))
    monkeypatch.delattr(os, "fdatasync")
    write_file(tmp_path / "file", b"x")
    sync_data(7)

    assert [51, 51] == calls


# --- the start of the machine -------------------------------------------------------------------


def test_start_of_the_machine_has_a_word_that_stays():
    """The first eight characters of the system's own."""
    assert Path("/proc/sys/kernel/random/boot_id").read_text()[:8] == boot_id() == boot_id()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (subprocess.CompletedProcess([], 0, stdout="9F3C01AA-BEEF\n"), "9F3C01AA"),
        (FileNotFoundError(), ""),
        (subprocess.CalledProcessError(1, "sysctl"), ""),
    ],
)
def test_macos_is_asked_in_its_own_way(monkeypatch, answer, word):
    """Where nothing answers the word is empty."""

    def no_file(*_):
        raise FileNotFoundError

    def run(*_, **__):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Path, "read_text", no_file)
    monkeypatch.setattr(subprocess, "run", run)

    assert word == boot_id()
