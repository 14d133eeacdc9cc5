"""Exit codes in words."""

from __future__ import annotations

import pytest

from queuectl_magics.exits import explain_exit


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exit 1"),
        (2, "exit 2"),
        (126, "exit 126 (not executable)"),
        (127, "exit 127 (command not found)"),
        (128, "exit 128"),
        (130, "exit 130 (SIGINT?)"),
        (137, "exit 137 (SIGKILL?)"),
        (139, "exit 139 (SIGSEGV?)"),
        (143, "exit 143 (SIGTERM?)"),
        (255, "exit 255"),
    ],
)
def test_exit_code_is_put_into_words(code, words):
    """The reason of a failure names the code and what it probably means."""
    assert words == explain_exit(code)
