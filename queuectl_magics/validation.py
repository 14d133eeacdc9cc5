"""What may be enqueued: every value is checked here, before anything is written.

Job ids name files and the journal must stay readable by any JSON tool, so what could break either
is refused at the door. The rule here: a refusal names the value and what is allowed, and bad input
changes nothing; of an environment variable only the name is ever shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from queuectl_magics.errors import InvalidInputError, did_you_mean
from queuectl_magics.job import JobSpec, State
from queuectl_magics.settings import BASE_MAX, RETRIES_MAX, SECONDS_MAX, SIZE_MAX

States = str | State | Iterable[str | State]
"""How states are named: one, or several of them."""

COMMAND_BYTES_MAX = 8 * 1024 * 1024
UTF8_BYTES_MAX = 4
HUGE = 10**30
PRIORITY_MAX = 1_000_000
TIMEOUT_S_MIN = 0.001
OUTPUT_MIN = 16 * 1024
NAME_LENGTH_MAX = 200
ID_LENGTH_MAX = 64
# Zero-width joiners are part of the writing where letters join (from Arabic to Khmer) and between
# pictures; anywhere else they hide.
_JOINS = (
    "[\\u0600-\\u0dff\\u1000-\\u109f\\u1780-\\u17ff\\u2190-\\u2bff\\ufe0f\\U0001f000-\\U0001faff]"
)
# Patterns are compiled when they are needed: a command that only looks needs none.
JOINER = rf"(?<={_JOINS})[\u200c\u200d](?={_JOINS})"
_ID = rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{ID_LENGTH_MAX - 1}}}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def check(spec: JobSpec) -> None:
    """Accept *spec* or say what is wrong with it.

    Raises:
        InvalidInputError: with the first thing that does not fit.

    Example:
        >>> check(JobSpec(command="echo hi", id="job-1"))

    """
    check_own(spec)
    if spec.name is not None:
        _check_name("name", spec.name)
    for tag in spec.tags:
        _check_name("tag", tag)
    check_range("max_retries", spec.max_retries, RETRIES_MAX)
    check_range("backoff_base", spec.backoff_base, BASE_MAX)
    check_range("backoff_cap_s", spec.backoff_cap_s, SECONDS_MAX)
    check_range("backoff_jitter", spec.backoff_jitter, 1)
    check_range("timeout_s", spec.timeout_s, SECONDS_MAX, low=TIMEOUT_S_MIN)
    check_range("grace_s", spec.grace_s, SECONDS_MAX)
    check_range("output_bytes_max", spec.output_bytes_max, SIZE_MAX, low=OUTPUT_MIN)
    check_range("delay_s", spec.delay_s, SECONDS_MAX)
    check_range("priority", spec.priority, PRIORITY_MAX, low=-PRIORITY_MAX)
    if spec.cwd is not None:
        _check_text("the directory", spec.cwd)
        if not os.path.isdir(spec.cwd):
            why = "is a file" if os.path.exists(spec.cwd) else "does not exist: create it first"
            msg = f"the directory {spec.cwd!r} {why}"
            raise InvalidInputError(msg)
    _check_shell(spec.shell)
    for name, value in spec.env.items():
        if not re.fullmatch(_VARIABLE, name):
            before, equals, _ = name.partition("=")
            shown = f"{before}=…" if equals else name  # it may have been meant for a value
            msg = f"{shown!r} is no name for an environment variable: letters, digits and _"
            raise InvalidInputError(msg)
        _check_text(f"the value of the environment variable {name}", value)


def check_own(spec: JobSpec) -> None:
    """Accept what *spec* does not share with another of the same policy: its command, its id.

    Raises:
        InvalidInputError: with the first thing that does not fit.

    """
    _check_command(spec.command)
    if spec.id is not None:
        _check_id(spec.id)


def _check_text(what: str, text: str) -> None:
    if "\0" in text:
        msg = f"{what} contains a NUL byte, which no process can be given: remove it"
        raise InvalidInputError(msg)
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"{what} contains half a character (a lone surrogate, at {error.start}): remove it"
        if "\udc80" <= text[error.start] <= "\udcff":  # as Python reads a byte that it cannot
            msg += ", or if it looks whole, say that it is UTF-8: LC_ALL=C.UTF-8"
        raise InvalidInputError(msg) from None


def _check_command(command: str) -> None:
    if not command.strip():
        msg = "the command is empty: give one, like  echo hello"
        raise InvalidInputError(msg)
    _check_text("the command", command)
    if len(command) * UTF8_BYTES_MAX > COMMAND_BYTES_MAX < len(command.encode()):
        limit = COMMAND_BYTES_MAX // 1024**2
        msg = f"the command is longer than {limit} MiB: put its data into a file"
        raise InvalidInputError(msg)


def _check_id(id: str) -> None:
    if not re.fullmatch(_ID, id) or id.endswith("."):
        msg = (
            f"{id!r} cannot be an id: 1 to {ID_LENGTH_MAX} letters, digits, '.', '_' and '-', "
            "not starting with '.' or '-', not ending with '.'"
        )
        raise InvalidInputError(msg)


def _check_name(what: str, name: str) -> None:
    _check_text(f"the {what}", name)
    is_seen = name.isprintable() or re.sub(JOINER, "", name).isprintable()
    if not name.strip() or len(name) > NAME_LENGTH_MAX or not is_seen:
        msg = f"{name[:80]!r} cannot be a {what}: 1 to {NAME_LENGTH_MAX} printable characters"
        raise InvalidInputError(msg)


def check_range(what: str, value: float | None, high: float, low: float = 0) -> None:
    """Accept *value*, or None, if it lies from *low* to *high*.

    Raises:
        InvalidInputError: it does not.

    """
    if value is not None and not low <= value <= high:
        is_huge = isinstance(value, int) and abs(value) >= HUGE  # Python does not even print it
        told = "too large a number" if is_huge else value
        msg = f"{what} is {told}: it must be from {low:,.16g} to {high:,.16g}"
        raise InvalidInputError(msg)


def check_signal(number: int) -> int:
    """Return *number* as a plain one if a process can be sent that signal.

    Raises:
        InvalidInputError: it cannot.

    """
    import signal

    given: object = number  # 15.0 and True are equal to a number, and would be written as they are
    is_whole = hasattr(given, "__index__") and not isinstance(given, bool)
    if not is_whole or number not in signal.valid_signals():
        msg = f"{number!r} is no signal: give its number, like signal.SIGINT"
        raise InvalidInputError(msg)
    return int(number)


def _check_shell(shell: str | None) -> None:
    if shell is None:
        return
    import shlex

    _check_text("the shell", shell)
    try:
        words = shlex.split(shell)
    except ValueError:
        words = []
    if not words:
        msg = f"{shell!r} is no program: name one, like bash or python"
        raise InvalidInputError(msg)


def parse_states(states: States) -> frozenset[State]:
    """Return the states that *states* names, be it one or several.

    Raises:
        InvalidInputError: there is none of that name.

    Example:
        >>> sorted(parse_states(["failed", "dead"]))
        [<State.DEAD: 'dead'>, <State.FAILED: 'failed'>]

    """
    several: object = [states] if isinstance(states, str) else states
    if not isinstance(several, Iterable):
        msg = f"{states!r} is no state: name one, or several of them"
        raise InvalidInputError(msg)
    return frozenset(_parse_state(state) for state in several)


def _parse_state(state: object) -> State:
    word = str(state).strip().lower()
    try:
        return State("cancelled" if word == "canceled" else word)
    except ValueError:
        near = did_you_mean(word, list(State))
        msg = f"there is no state {str(state)!r}.{near} Known: {', '.join(State)}"
        raise InvalidInputError(msg) from None
