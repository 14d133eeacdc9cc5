"""The words every view uses, and that nothing hostile comes through them."""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl_magics.job import JobRecord, State
from queuectl_magics.views import words

AT = datetime(2026, 11, 24, 10, 51, 23, tzinfo=UTC)
TEN_MB = 10_000_000

hostile = st.text(
    st.sampled_from("\x1b\x07\x08\r\n\t\x9b\x9d\x90\x9c\x7f[]P\\0m;8:?!~ aé日\u202e\u200b\ud800")
    | st.characters(codec=None),
    max_size=60,
)


def after(seconds: float) -> datetime:
    """Return a moment so long after AT."""
    return AT + timedelta(seconds=seconds)


def job(state: State = State.PENDING, **fields: object) -> JobRecord:
    """Make a job by hand."""
    known = {"attempts": 0, "max_retries": 3, "created_at": AT, "updated_at": AT}
    return JobRecord(**{"id": "1", "command": "true", "state": state, **known, **fields})


# --- looks ---------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Return the relative luminance of '#rrggbb' as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def tint(colour: str, ground: str, part: float) -> str:
    """Return *ground* with that much of *colour* laid over it."""
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * part + b * (1 - part)):02x}" for a, b in pairs)


def test_every_state_has_a_look_of_its_own():
    """No two states share a symbol, a class or a colour."""
    assert list(State) == list(words.LOOKS)
    for field in ("symbol", "css", "light", "dark", "sgr"):
        assert len(State) == len({getattr(look, field) for look in words.LOOKS.values()})


@pytest.mark.parametrize("state", State)
def test_colours_can_be_read(state):
    """Contrast is at least 4.5 on light and dark pages, and on the tint of a chip."""
    look = words.LOOKS[state]

    assert all(contrast(look.light, page) >= 4.5 for page in ("#ffffff", "#f5f5f5"))
    assert all(contrast(look.dark, page) >= 4.5 for page in ("#111111", "#1e1e1e", "#303030"))
    assert contrast(look.light, tint(look.light, "#ffffff", 0.10)) >= 4.5
    assert contrast(look.dark, tint(look.dark, "#1e1e1e", 0.14)) >= 4.5


# --- how long ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0.0 s"),
        (0, "0.0 s"),
        (0.41, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "9 s"),
        (12.9, "12 s"),
        (59.99, "59 s"),
        (60, "1 min 00 s"),
        (192, "3 min 12 s"),
        (7500, "2 h 05 min"),
        (86_399, "23 h 59 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration_has_two_units_at_most(seconds, text):
    """A duration is read like a clock that runs: it is never rounded up to the next unit."""
    assert text == words.duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "just now"),
        (0.9, "just now"),
        (12.9, "12 s ago"),
        (119, "119 s ago"),
        (200, "3 min ago"),
        (7300, "2 h ago"),
        (400_000, "4 d ago"),
    ],
)
def test_ago_has_one_unit(seconds, text):
    """How long ago is told roughly, and a clock that went back is 'just now'."""
    assert text == words.ago(AT, after(seconds))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "due now"), (0, "due now"), (3.2, "due in 4 s"), (539, "due in 9 min")],
)
def test_due_never_promises_too_much(seconds, text):
    """What is left is rounded up: nobody looks again too early."""
    assert text == words.due(job(due_at=after(seconds)), AT)


def test_job_without_a_due_moment_is_due_now():
    """No `due_at` means: as soon as there is a slot."""
    assert "due now" == words.due(job(), AT)


def test_elapsed_before_the_first_attempt_is_none():
    """A job that never ran has no elapsed time, not zero."""
    assert None is words.elapsed_s(job(), AT)


def test_elapsed_of_a_running_job_goes_on():
    """While it runs, elapsed is from its start until now."""
    running = job(State.PROCESSING, attempt=1, started_at=AT)

    assert 12.0 == words.elapsed_s(running, after(12))
    assert 0.0 == words.elapsed_s(running, after(-12))


def test_elapsed_of_a_job_that_is_over_stands_still():
    """When it is over, elapsed is how long the latest attempt ran."""
    over = job(State.DEAD, attempt=1, started_at=AT, finished_at=after(3))

    assert 3.0 == words.elapsed_s(over, after(1000))
    assert None is words.elapsed_s(job(State.DEAD, attempt=1, started_at=AT), after(1000))


def test_stamp_is_utc_to_the_second():
    """Wherever the moment comes from, it is written in UTC with a Z."""
    there = AT.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+05:30").tzinfo)

    assert "2026-11-24T10:51:23Z" == words.stamp(there + timedelta(microseconds=999_999))


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (512, "512 B"), (3_140_000, "3.1 MB"), (182e6, "182 MB"), (5e15, "5000 TB")],
)
def test_memory_is_told_in_decimal_units(size_bytes, text):
    """A size has a unit, and a decimal only where it matters."""
    assert text == words.memory(size_bytes)


def test_nouns_are_counted_in_english():
    """One job, two jobs, and thousands with commas."""
    assert ["1 job", "0 jobs", "12,000 jobs"] == [words.counted(n, "job") for n in (1, 0, 12_000)]


@pytest.mark.parametrize("max_retries", [0, 1])
def test_zero_and_one_retries_both_mean_one_attempt(max_retries):
    """'attempt 1 of 0' is never shown."""
    assert "attempt 1 of 1" == words.attempt_of(job(max_retries=max_retries))


def test_interrupt_does_not_count_against_the_allowance():
    """Attempt number 4 is still the second of three when two of them were interrupts."""
    assert "attempt 2 of 3" == words.attempt_of(job(attempt=4, attempts=1, interrupts=2))


# --- hostile text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain text", "plain text"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("naïve 日本 👍", "naïve 日本 👍"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b[2J\x1b[1;1Hgone\x1b[?25l", "gone"),
        ("\x1b]0;new title\x07x", "x"),
        ("\x1b]52;c;ZXZpbA==\x1b\\x", "x"),
        ("\x9d52;c;ZXZpbA==\x9cx", "x"),
        ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
        ("\x1bPq#0;2;0;0;0\n#0!9~\x1b\\x", "x"),
        ("\x1b(0lqk\x1b(B", "lqk"),
        ("\x1bcreset", "reset"),
        ("torn \x1b", "torn "),
        ("torn \x1b[12", "torn 12"),
        ("torn \x1b]52;c;ZXZp", "torn 52;c;ZXZp"),
        ("\x1b\x1b[0m[31mx", "[31mx"),
        ("bell\x07 nul\x00 back\b del\x7f nel\x85", "bell nul back del nel"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("日\u200d本", "日\\u200d本"),
        ("👩\u200d\u200d👧", "👩\\u200d\\u200d👧"),
        ("a\u200bb\ufeff\u2066\u061c\u200f", "a\\u200bb\\ufeff\\u2066\\u061c\\u200f"),
        ("a\u2028b\U000e0041\u3164", "a\\u2028b\\U000e0041\\u3164"),
        ("lone \ud800 \udc9b[31m", "lone \ufffd \ufffd[31m"),
        (" 10%\r 50%\r100%", "100%"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("spin\rdone\nnext 1\rnext 2\r", "done\nnext 2"),
    ],
)
def test_clean_text_acts_on_nothing_and_hides_nothing(text, cleaned):
    """What a terminal would obey goes; what a reader would not see becomes an escape."""
    assert cleaned == words.clean(text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\x1b[1;38;5;208mhot\x1b[0m", "\x1b[1;38;5;208mhot\x1b[0m"),
        ("\x1b[38;2;8;8;8mgrey", "\x1b[38;2;8;8;8mgrey\x1b[0m"),
        ("\x1b[38:2::255:0:0mred\x1b[m", "\x1b[38:2::255:0:0mred\x1b[m\x1b[0m"),
        ("\x1b[8mhidden", "hidden"),
        ("\x1b[5;31mblinks", "blinks"),
        ("\x1b[2K\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1b]0;t\x07plain", "plain"),
    ],
)
def test_colour_is_kept_where_it_is_asked_for(text, cleaned):
    """Colour and weight stay and are reset at the end; what conceals or blinks goes."""
    assert cleaned == words.clean(text, keep_colour=True)


@given(hostile)
def test_no_control_and_no_format_character_comes_through(text):
    """Whatever goes in: out come only characters that can be seen, newline and tab."""
    cleaned = words.clean(text)

    assert not [
        c
        for c in cleaned
        if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]


@given(hostile)
def test_cleaning_twice_changes_nothing(text):
    """What is clean stays as it is: no removal puts a new sequence together."""
    assert words.clean(text) == words.clean(words.clean(text))


@given(hostile)
def test_only_colour_comes_through_as_an_escape(text):
    """With colour kept, every ESC begins a sequence that sets a colour."""
    rest = re.sub(words._COLOUR, "", words.clean(text, keep_colour=True))

    assert not [c for c in rest if c not in "\n\t" and unicodedata.category(c) == "Cc"]


def test_every_format_character_of_unicode_is_known():
    """The list of characters to make visible is complete for this Python's Unicode."""
    unseen = [chr(code) for code in range(sys.maxunicode + 1) if _is_unseen(chr(code))]

    assert [] == [f"U+{ord(c):04X}" for c in unseen if words.clean(c) == c]


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in {"Cf", "Zl", "Zp", "Cs"}


@pytest.mark.parametrize(
    "text",
    [
        "x" * TEN_MB,
        "日" * (TEN_MB // 3),
        "\x1b" * (TEN_MB // 10),
        "\x1b]" * (TEN_MB // 10),
        "\x1b]0;" + "a" * TEN_MB,
        "\x1b[" + "1" * TEN_MB,
        "\x1b[" + "38;2;1;1;1;1;" * (TEN_MB // 100) + "8m",
        "\x9d" * (TEN_MB // 10),
        "\r" * TEN_MB + "x",
        ("a" * 99 + "\r") * (TEN_MB // 100),
    ],
    ids=["text", "wide", "esc", "osc", "torn osc", "torn csi", "sgr", "c1", "cr", "progress"],
)
def test_ten_megabytes_on_one_line_take_one_pass(text):
    """No text makes cleaning slow: the time grows with its length and no faster."""
    start = time.perf_counter()
    words.clean(text, keep_colour=True)
    words.shorten(text, 80)

    assert time.perf_counter() - start < 10


# --- one line ------------------------------------------------------------------------------------


def test_lines_are_joined_visibly():
    """A command of several lines stays readable on one; blank ends do not count."""
    assert "for i in 1 2⏎do echo $i⏎done" == words.one_line("\nfor i in 1 2\ndo\techo $i\ndone\n")


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("short", 10, "short"),
        ("exactly 10", 10, "exactly 10"),
        ("a bit longer", 10, "a bit lon…"),
        ("日本語です", 10, "日本語です"),
        ("日本語ですね", 10, "日本語で…"),
        ("e\u0301" * 5, 5, "e\u0301" * 5),
        ("a\nb", 3, "a⏎b"),
        ("\x1b[31mred", 3, "red"),
        ("word", 1, "…"),
        ("日", 1, "…"),
        ("word", 0, ""),
        ("", 0, ""),
    ],
)
def test_text_is_cut_by_the_cells_it_takes(text, width, short):
    """A wide character takes two cells of a terminal, a combining one none."""
    assert short == words.shorten(text, width)


@given(hostile, st.integers(0, 40))
def test_short_text_never_takes_more_than_its_width(text, width):
    """Whatever the text: one line, within the width."""
    short = words.shorten(text, width)

    assert words.cells(short) <= width
    assert "\n" not in short


def test_last_lines_are_those_that_say_something():
    """Blank lines are left out, and only the end of a long output is looked at."""
    tail = "x" * TEN_MB + "\nstart\n\n 10%\r 20%\n\x1b[K\n"

    assert ["start", " 20%"] == words.last_lines(tail, 2)
    assert [] == words.last_lines(None) == words.last_lines("\n \n")


def test_heading_is_the_name_or_the_command():
    """A job is called by its name; without one, by what it runs."""
    assert "train" == words.heading(job(name="train", command="python train.py"))
    assert "python tr…" == words.heading(job(command="python train.py"), 10)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State.PROCESSING, "processing 12 s"),
        (State.COMPLETED, "completed in 3.0 s"),
        (State.FAILED, "failed after 3.0 s"),
        (State.DEAD, "dead"),
    ],
)
def test_standing_is_the_state_with_its_time(state, text):
    """The state comes as a word, and with the time that belongs to it."""
    ended = None if state is State.PROCESSING else after(3)
    record = job(state, attempt=1, started_at=AT, finished_at=ended)

    assert text == words.standing(record, after(12))


def test_marks_without_a_width_cannot_make_a_short_text_long():
    """A letter under a million accents takes one cell, and yet it is cut."""
    assert 100 > len(words.shorten("e" + "\u0301" * 1_000_000, 10))
