"""`{token!secret}`: a value that a command may use and nobody may see.

The command gets the name of an environment variable in its place; the value goes the way of
`--env`, which no status, list, repr or file of the journal ever shows. The rule here: the place
decides how the variable is written, and where the shell would not put the value in as one word, it
is refused.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.magics.expansion import expand

_SECRET = re.compile(r"(?<![\\$])\{([^{}\n]+?)!secret\}")
_NAME = "QUEUECTL_SECRET_{number}"
_PROBE = "$'\""


def expand_hiding(text: str, names: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """Return *text*, the shell's, expanded, and the variables that its secrets became.

    Raises:
        InvalidInputError: a secret is no expression of known names, or stands within single quotes
            or another place where the shell takes no variable.

    Example:
        >>> expand_hiding("curl -H {auth!secret} {url}", {"auth": "Bearer x", "url": "a.b"})
        ('curl -H "$QUEUECTL_SECRET_1" a.b', {'QUEUECTL_SECRET_1': 'Bearer x'})

    """
    marked, values = _mark(text, names)
    probes = {word: f"{word}{_PROBE}" for word in values}
    expanded = expand(marked, {**names, **probes})
    hidden: dict[str, str] = {}
    for number, (word, value) in enumerate(values.items(), 1):
        variable = _NAME.format(number=number)
        hidden[variable] = value
        expanded = _write(expanded, word, variable)
    return expanded, hidden


def expand_for_variable(text: str, names: Mapping[str, object]) -> str:
    """Return `NAME=VALUE`, expanded: the value of a variable is hidden anyway.

    Raises:
        InvalidInputError: a secret is no expression of known names, or stands in the name, which
            is shown.

    Example:
        >>> expand_for_variable("TOKEN={auth!secret}", {"auth": "x"})
        'TOKEN=x'

    """
    name, equals, _ = text.removeprefix("--env=").partition("=")
    refuse_hidden(name if equals else text)
    marked, values = _mark(text, names)
    return expand(marked, {**names, **values}, quote=False)


def refuse_hidden(text: str) -> None:
    """Return if there is no secret in *text*, which is kept or shown as it is.

    Raises:
        InvalidInputError: there is one.

    """
    found = _SECRET.search(text)
    if found is not None:
        msg = (
            f"{found[0]} can stand in a command that a shell runs, and in --env NAME={found[0]}, "
            "for the command to read from its environment (nothing was enqueued)"
        )
        raise InvalidInputError(msg)


def _mark(text: str, names: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """Return *text* with an unknown word for each secret, and the values of these words."""
    values: dict[str, str] = {}

    def mark(found: re.Match[str]) -> str:
        source = "{" + found[1] + "}"
        value = expand(source, names, quote=False)
        if value == source:
            msg = f"{found[0]} is no expression of names that are known (nothing was enqueued)"
            raise InvalidInputError(msg)
        word = f"q{os.urandom(8).hex()}"
        values[word] = value
        return "{" + word + "}"

    return _SECRET.sub(mark, text), values


def _write(text: str, word: str, variable: str) -> str:
    """Put the variable where the probe came out, in the form that this place wants."""
    forms = {
        shlex.quote(f"{word}{_PROBE}"): f'"${variable}"',  # a word of its own
        f"{word}\\$'\\\"": f"${{{variable}}}",  # within double quotes
        f"{word}\\$'\"": f"${{{variable}}}",  # in a here-document
    }
    for form, written in forms.items():
        if form in text:
            return text.replace(form, written)
    msg = (
        "a secret cannot stand within single quotes or where the shell takes no variable: "
        "use double quotes (nothing was enqueued)"
    )
    raise InvalidInputError(msg)
