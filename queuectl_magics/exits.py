"""What an exit code probably means, in words.

A person reads "exit 137 (SIGKILL?)" where the system says 137. The rule here: the code itself is
always told, and what it may mean is told as a guess where it is one.
"""

from __future__ import annotations

SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV",
           13: "SIGPIPE", 15: "SIGTERM"}  # fmt: skip


def explain_exit(code: int) -> str:
    """Put an exit code into words; `sh` cannot tell a signal from `exit 137`, hence the question.

    Example:
        >>> explain_exit(137)
        'exit 137 (SIGKILL?)'
        >>> explain_exit(127)
        'exit 127 (command not found)'

    """
    if code == 127:  # noqa: PLR2004 - POSIX shell, "command not found"
        return "exit 127 (command not found)"
    if code == 126:  # noqa: PLR2004 - POSIX shell, "found but not executable"
        return "exit 126 (not executable)"
    name = SIGNALS.get(code - 128)
    return f"exit {code} ({name}?)" if name else f"exit {code}"
