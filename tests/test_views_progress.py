"""How far a program is, read from its output."""

from __future__ import annotations

import time

import pytest

from queuectl_magics.views import progress

FFMPEG_HEAD = "Input #0, mov:\n  Duration: 00:01:40.00, start: 0.000000, bitrate: 128 kb/s\n"


@pytest.mark.parametrize(
    ("output", "done"),
    [
        (" 45%|████▌     | 45/100 [00:12<00:14,  3.2it/s]", 0.45),
        ("train: 7.5%|█  | 3/40", 0.075),
        ("  0%|  | 0/9\r 33%|███  | 3/9\r 66%|██████  | 6/9", 0.66),
        ("[ 80%] Building CXX object", 0.8),
        ("[12/345] Linking CXX executable", 12 / 345),
        ("Epoch 3/10 loss=0.5", 0.3),
        ("epoch: 3 of 10", 0.3),
        ("step [20/400]", 0.05),
        ("tests/test_store.py ........        [ 45%]", 0.45),
        ("data.zip            45%[====>       ]  45.1M  1.2MB/s", 0.45),
        (" 1450K .......... .......... .......... 45% 2.3M 3s", 0.45),
        ("#########                 45.3%", 0.453),
        ("\r 45  100M   45 45.0M    0     0  1.2M      0  0:01:20", 0.45),
        ("     ━━━━━━━━━━━ 12.3/24.6 MB 5.2 MB/s eta 0:00:03", 0.5),
        ("Downloading 10 %\rDownloading 45 %", 0.45),
        ("\x1b[32m 45%\x1b[0m compiling", 0.45),
        ("::progress 0.42 reading", 0.42),
        ("::progress 42%", 0.42),
        ("epoch 3/10\nloss 0.25\naccuracy 0.93", 0.3),
        ("epoch 3/10\nepoch 4/10", 0.4),
        ("100 12.3M  100 12.3M", None),
        ("Downloading 45 %", None),
        ("epoch 11/10", None),
        ("epoch 0/0", None),
        ("cpu 93% busy", None),
        ("accuracy 93 %", None),
        ("2026/11/24 10:51", None),
        ("300%|", None),
        ("::progress 7 of 9", None),
        ("::progress much", None),
        ("time=00:00:50.00 bitrate=N/A", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_progress_is_read_only_where_it_is_meant(output, done):
    """Bars and counters that programs print are understood; other percentages are not guessed."""
    assert pytest.approx(done) == progress.read(output).progress


def test_ffmpeg_is_measured_against_the_duration_at_its_beginning():
    """What ffmpeg overwrites says how much it has done; how much there is stands in its head."""
    said = progress.read("frame= 99 fps=25 time=00:00:25.00 speed=2x\r", FFMPEG_HEAD)

    assert 0.25 == said.progress


def test_announced_progress_is_shown_as_its_message():
    """The marker is for us; a person sees the percentage and the words."""
    assert ("42% third file", 0.42) == progress.read("x\n::progress 0.42 third file\n")


def test_last_line_is_the_last_state_of_what_was_overwritten():
    """A line that was rewritten a hundred times shows as it is now."""
    assert "two" == progress.read("zero\none\rtwo\n\n").line


@pytest.mark.parametrize("blank", ["\x1b[0m\n", " 99%|█|\r\x1b[K", "\r \r"])
def test_what_leaves_nothing_to_see_is_no_last_line(blank):
    """A colour that is reset, a bar that is wiped away: the line before was the last."""
    assert ("all well", None) == progress.read(f"all well\n{blank}")


def test_later_lines_do_not_hide_how_far_it_is():
    """A warning below the bar is what was said last; the bar stands."""
    assert ("a warning", 0.3) == progress.read("epoch 3/10\na warning")


@pytest.mark.parametrize("unit", ["9", "[", "9/", "#", ". ", "\r9%", "\x1b[", "9 ", "epoch "])
def test_ten_hostile_megabytes_are_read_at_once(unit):
    """No line makes the reading slow, however it is built."""
    text = unit * (10_000_000 // len(unit))
    before = time.perf_counter()
    progress.read(text)

    assert time.perf_counter() - before < 0.5
