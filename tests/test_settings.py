"""Settings: what is allowed, how it is written down."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl_magics import settings
from queuectl_magics.errors import HomeError, InvalidInputError
from queuectl_magics.settings import (
    Config,
    parse_duration_s,
    parse_size_bytes,
    read_config,
    write_setting,
)

# --- durations and sizes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("6h", 21_600.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("1h30m", 5400.0),
        (" 1H 30M ", 5400.0),
        ("500ms", 0.5),
        ("0.5", 0.5),
        ("0", 0.0),
        (12, 12.0),
        (1.5, 1.5),
        ("3650d", 315_360_000.0),
    ],
)
def test_duration_is_seconds_unless_a_unit_says_otherwise(text, seconds):
    """Units may be combined, and their case and spaces do not matter."""
    assert seconds == parse_duration_s(text)


@pytest.mark.parametrize(
    "text", ["", "m", "-5", "1e5", "nan", "inf", "10 minutes", "1h-30m", "5x"]
)
def test_what_is_no_duration_is_refused_with_what_to_write(text):
    """Negative, infinite and wordy times are refused by the same line."""
    with pytest.raises(InvalidInputError, match="is no duration: write 90, 90s, 10m, 6h or 2d"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["3651d", "9" * 400])
def test_duration_of_more_than_ten_years_is_a_slip(text):
    """Nobody waits that long."""
    with pytest.raises(InvalidInputError, match="is too long: at most ten years"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500000", 500_000),
        ("64k", 65_536),
        ("64KB", 65_536),
        ("256M", 268_435_456),
        ("1.5GiB", 1_610_612_736),
        ("2 T", 2_199_023_255_552),
        (10, 10),
    ],
)
def test_size_is_bytes_unless_a_unit_says_otherwise(text, size):
    """A unit counts by 1024, however it is written."""
    assert size == parse_size_bytes(text)


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5.5M", "5x", "1e6"])
def test_what_is_no_size_is_refused_with_what_to_write(text):
    """The line shows how a size is written."""
    with pytest.raises(InvalidInputError, match="is no size: write 500000, 64k, 256M or 2G"):
        parse_size_bytes(text)


# --- the file ------------------------------------------------------------------------------------


def test_settings_are_the_defaults_until_one_is_set(tmp_path):
    """What is set is kept, beside the others, in a file that only its owner can read."""
    assert Config() == settings.read_config(tmp_path)

    settings.write_setting(tmp_path, "max-retries", "5")
    settings.write_setting(tmp_path, "Backoff_Cap", "10m")
    config = settings.write_setting(tmp_path, "paused", "yes")

    path = tmp_path / "config.json"
    assert Config(max_retries=5, backoff_cap=600.0, paused=True) == config
    assert config == settings.read_config(tmp_path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())
    assert 5 == msgspec.json.decode(path.read_bytes())["max_retries"]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("max-retries", "-1", "'-1' does not fit: a whole number from 0 to 1,000,000"),
        ("max-retries", "2.5", "'2.5' does not fit: a whole number"),
        ("count", "0", "'0' does not fit: a whole number from 1 to 1,000"),
        ("count", "9" * 5000, "does not fit: a whole number"),
        ("backoff-base", "nan", "'nan' does not fit: a number from 0 to 1,000,000"),
        ("backoff-base", "two", "'two' does not fit: a number"),
        ("backoff-cap", "-1", "'-1' is no duration"),
        ("durability", "comit", "commit or none. Did you mean 'commit'?"),
        ("durability", "x", "'x' does not fit: commit or none"),
        ("paused", "maybe", "'maybe' does not fit: true or false"),
        ("coutn", "3", "there is no setting 'coutn'. Did you mean 'count'? Known: max-retries,"),
    ],
)
def test_setting_that_does_not_fit_changes_nothing(tmp_path, key, value, line):
    """The line names the value and what is allowed."""
    with pytest.raises(InvalidInputError) as refused:
        settings.write_setting(tmp_path, key, value)

    assert line in str(refused.value)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "\xff", '{"count": "x"}', '{"count": 0}', '{"max_retries": -1}'),
        *('{"backoff_base": 1e999}', '{"backoff_cap": -1}', '{"durability": "often"}'),
    ],
)
def test_file_that_was_damaged_by_hand_is_refused_with_a_remedy(tmp_path, text):
    """A value that could not have been set cannot be read either: no worker waits for it."""
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(HomeError, match="mend it, or delete it to return to the defaults"):
        settings.read_config(tmp_path)


def test_directory_in_place_of_the_file_is_refused(tmp_path):
    """What the system says is in the line."""
    (tmp_path / "config.json").mkdir()

    with pytest.raises(HomeError, match="Is a directory"):
        settings.read_config(tmp_path)


def test_settings_of_a_newer_version_are_passed_over(tmp_path):
    """An older program in the same home goes on working."""
    (tmp_path / "config.json").write_text('{"count": 3, "colour": "blue"}')

    assert Config(count=3) == settings.read_config(tmp_path)


def test_setting_on_a_full_disk_stays_as_it_was_and_leaves_nothing(tmp_path, monkeypatch):
    """The line says which file, and what holds now."""
    write_setting(tmp_path, "count", 2)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        HomeError, match=r"config.json cannot be written \(No space .*count is as it"
    ):
        write_setting(tmp_path, "count", 3)

    assert 2 == read_config(tmp_path).count
    assert ["config.json"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("text", ["9" * 400, "9" * 320 + "k", "2000T"])
def test_size_that_no_disk_has_is_refused(text):
    """However many digits somebody's finger left on the key."""
    with pytest.raises(InvalidInputError, match="is too large for a size"):
        parse_size_bytes(text)


@given(st.floats(min_value=0, max_value=settings.SECONDS_MAX))
def test_every_duration_that_is_accepted_can_be_read_again(seconds):
    """However Python writes it: 0.01 ms is 1e-05."""
    with tempfile.TemporaryDirectory() as folder:
        write_setting(Path(folder), "backoff-cap", seconds)

        assert seconds == read_config(Path(folder)).backoff_cap


def test_tiny_duration_leaves_the_home_usable(tmp_path):
    """As a person types it."""
    write_setting(tmp_path, "backoff-cap", "0.01ms")

    assert 1e-05 == read_config(tmp_path).backoff_cap


def test_settings_that_cannot_be_read_now_are_not_called_damaged(tmp_path, monkeypatch):
    """Too few descriptors: nobody shall delete good settings for that."""
    write_setting(tmp_path, "count", 2)

    def no_descriptor(_path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "read_bytes", no_descriptor)
    with pytest.raises(HomeError, match=r"cannot be read \(Too many open files\): try again"):
        read_config(tmp_path)
