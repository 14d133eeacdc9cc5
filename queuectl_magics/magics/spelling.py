"""A `{name}` that was probably meant as Python's, but is spelt like none of its names.

Braces that mean nothing in Python are the shell's, and a slip would run as it stands, three times.
The rule here: it is a note and never a refusal, since `awk '{print}'` looks the same.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping

from queuectl_magics.errors import did_you_mean

_BRACED = re.compile(r"(?<![$\\{])\{([A-Za-z_]\w*)\}(?!\})")


def misspelt(command: str, names: Mapping[str, object]) -> str:
    """Return a note on the first `{name}` in *command* that is nearly one of *names*, or ''.

    Example:
        >>> misspelt("echo {nmae}", {"name": "Ada"})
        "{nmae} is left to the shell: there is no variable 'nmae'. Did you mean 'name'?"

    """
    for word in _BRACED.findall(command):
        if word in names or hasattr(builtins, word):
            continue
        ours = [name for name in names if not name.startswith("_")]
        if near := did_you_mean(word, ours):
            return f"{{{word}}} is left to the shell: there is no variable {word!r}.{near}"
    return ""
