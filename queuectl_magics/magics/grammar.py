r"""How a magic's line is read: options first, then the command, raw.

IPython's own parser rejects `%enqueue python t.py --lr 0.1` and loses quotes on the way. Here the
options of the Click command are taken from the front of the line, and what is left is handed on as
the very text that was typed, so that its quotes, pipes and `--flags` reach the shell. The rule: we
only find out where the options end; what they mean is decided by the same Click command as in the
terminal. No message shows an option's value, which may be a secret (`--env TOKEN=…`).
"""

from __future__ import annotations

import re

import click

from queuectl_magics.errors import InvalidInputError, did_you_mean

HELP = ("-h", "--help")

_BLANKS = re.compile(r"(?:[ \t\r\n]|\\\r?\n)*")
_WORD = re.compile(r"""(?:[^ \t\r\n'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")*""", re.DOTALL)
_PIECE = re.compile(r"""\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|([^'"\\]+)""", re.DOTALL)
_OPTION = re.compile(r"""-[^ \t\r\n'"\\]""")
_END_OF_OPTIONS = re.compile(r"--(?=[ \t\r\n]|$)")

# The options of a command by each of their names; None is a switch, which takes no value.
_Options = dict[str, click.Option | None]


def split_options(line: str, command: click.Command) -> tuple[list[str], str]:
    """Return the option words that *line* begins with, and the rest of it as it was typed.

    Options end at the first word that is none, or after `--`. The words follow the shell's
    quoting; a dash that is quoted, or alone, begins the rest: the original text without the blanks
    around it.

    Raises InvalidInputError for an option that *command* has not, a missing value, an open quote.

    Example:
        >>> import click
        >>> name = click.Option(["-n", "--name"])
        >>> split_options("-n 'my job' grep -v '#' a.txt", click.Command("enqueue", params=[name]))
        (['-n', 'my job'], "grep -v '#' a.txt")

    """
    options = _options_of(command)
    words: list[str] = []
    at = _skip_blanks(line, 0)
    while _OPTION.match(line, at):
        word, at = _read_word(line, at)
        if word == "--":
            break
        words.append(word)
        name, attached = _named(word, options, command)
        option = options[name]
        for _ in range(_values_to_come(option, line[at:], attached=attached)):
            at = _skip_blanks(line, at)
            if at == len(line) or _END_OF_OPTIONS.match(line, at):
                message = f"{name} needs a value, and none follows it: write `{name} VALUE`"
                raise InvalidInputError(message)
            value, at = _read_word(line, at)
            words.append(value)
        at = _skip_blanks(line, at)
    return words, _strip(line[at:])


def split_words(line: str) -> list[str]:
    r"""Return the words of *line*, split and unquoted as the shell does; nothing is expanded.

    Raises InvalidInputError for a quote that is never closed, or a backslash at the end.

    Example:
        >>> split_words(r"3 'my job' --grep=a\ b")
        ['3', 'my job', '--grep=a b']

    """
    words: list[str] = []
    at = _skip_blanks(line, 0)
    while at < len(line):
        word, at = _read_word(line, at)
        words.append(word)
        at = _skip_blanks(line, at)
    return words


def _options_of(command: click.Command) -> _Options:
    declared = [one for one in command.params if isinstance(one, click.Option)]
    options: _Options = dict.fromkeys(HELP)
    for one in declared:
        options |= dict.fromkeys(one.opts, None if one.is_flag or one.count else one)
        options |= dict.fromkeys(one.secondary_opts)
    return options


def _named(word: str, options: _Options, command: click.Command) -> tuple[str, bool]:
    """Return the last option that *word* names, and whether its value is attached to it."""
    name, equals, _ = word.partition("=")
    if equals and name in options and options[name] is None:
        message = f"{name} is a switch and takes no value: write it without the `=`"
        raise InvalidInputError(message)
    if name.startswith("--") or (name in options and not equals):
        if name not in options:
            raise _no_such_option(name, options, command)
        return name, bool(equals)
    for end, letter in enumerate(word[1:], start=2):
        name = f"-{letter}"
        if name not in options:
            raise _no_such_option(name, options, command)
        if options[name] is not None:
            return name, end < len(word)
    return name, False


def _values_to_come(option: click.Option | None, rest: str, *, attached: bool) -> int:
    """Return how many of the words in *rest* are values of *option*, counted as Click does."""
    if option is None:
        return 0
    if getattr(option, "_flag_needs_value", False):  # the value may be left out
        following = rest[_skip_blanks(rest, 0) :]
        return int(not attached and bool(following) and not _OPTION.match(following))
    return option.nargs - attached


def _no_such_option(name: str, options: _Options, command: click.Command) -> InvalidInputError:
    return InvalidInputError(
        f"{command.name} has no option {name}.{did_you_mean(name, options)} "
        "Options come first; write `--` before a command that begins with a dash."
    )


def _skip_blanks(line: str, at: int) -> int:
    blanks = _BLANKS.match(line, at)
    return blanks.end() if blanks else at


def _read_word(line: str, at: int) -> tuple[str, int]:
    """Return the word at *at* without its quotes, and where it ends."""
    found = _WORD.match(line, at)
    end = found.end() if found else at
    stop = line[end : end + 1]
    if stop == "\\":
        message = "a backslash at the end of the line quotes nothing: double it, or take it away"
        raise InvalidInputError(message)
    if stop in {"'", '"'}:
        message = (
            f"the quote {stop} at character {end + 1} of the line is never closed: "
            rf"close it, or write \{stop} for the plain character"
        )
        raise InvalidInputError(message)
    return _PIECE.sub(_unquoted, line[at:end]), end


def _unquoted(piece: re.Match[str]) -> str:
    escaped, single, double, plain = piece.groups()
    if escaped is not None:
        return "" if escaped == "\n" else escaped
    if double is not None:
        return re.sub(r'\\([\\"$`])|\\\n', lambda pair: pair[1] or "", double)
    return single if single is not None else plain


def _strip(rest: str) -> str:
    """Return *rest* without the blanks around it, but with a last one that is escaped."""
    text = rest.rstrip(" \t\r\n")
    backslashes = len(text) - len(text.rstrip("\\"))
    return rest[: len(text) + backslashes % 2].lstrip(" \t\r\n")
