"""The script and the style sheet of the live table, as the browser gets them.

`browser/` holds a few modules, each about one thing and short enough to be read, but a widget is
given one module. They are laid end to end, in the order of `PARTS`; their imports of each other
fall away, and so do comments and indentation, which only readers need. The rules here: every part
is a module that works as it stands; a comment has a line of its own; a division has spaces around
it, a regular expression none; no template inside a template; no two parts use the same name; and
colours, words and symbols come from `words.LOOKS` alone.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from queuectl_magics.views.style import DARK
from queuectl_magics.views.words import LOOKS

PARTS = ("dom", "rows", "order", "road", "head", "grid", "colours", "log", "table")

_IMPORT = re.compile(r"^import\b[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)
_LITERAL = re.compile(r'("(?:[^"\\\n]|\\.)*"|`[^`]*`|(?<=[\s(])/(?![\s/*])(?:[^/\\\n]|\\.)+/\w*)')
_SPACE = re.compile(r"\s*([{}()\[\];,:?=<>+*/&|!%-])\s*")
_NEEDLESS = re.compile(r"[,;]([}\])])|\((\w+)\)(?==>)")
_DECLARED = re.compile(
    r"(?:^|[;}])(?:const|let|async function|function) ?(\w+(?=[=(])|\[[\w,]+\](?==))"
)
_NUMBER = re.compile(r"const ([A-Z_]+)=([\d.]+);")
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CSS_SPACE = re.compile(r"\s*([{};,>])\s*|(?<=[\w-]):\s+|\s+")


@cache
def script() -> str:
    """Return the one module that the browser runs."""
    parts = [_part(f"{name}.js") for name in PARTS]
    whole = "".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)
    pieces = _LITERAL.split(_COMMENT.sub("", whole))
    pieces[::2] = [_SPACE.sub(r"\1", re.sub(r"\s+", " ", code)) for code in pieces[::2]]
    return _NEEDLESS.sub(r"\1\2", _shorten_names(pieces))


def _shorten_names(pieces: list[str]) -> str:
    """Put numbers for their names, and short names where nothing else can be meant.

    *pieces* are code and literals in turn. A name that is also that of a property, or may be a
    short form of one, or stands in a literal, is left alone.
    """
    code, literals = "\0".join(pieces[::2]), " ".join(pieces[1::2])
    for name, value in _NUMBER.findall(code):
        code = re.sub(rf"\b{name}\b", value, code.replace(f"const {name}={value};", ""))
    declared = [name for names in _DECLARED.findall(code) for name in re.findall(r"\w+", names)]
    for number, name in enumerate(dict.fromkeys(declared)):
        other = rf"\.{name}\b|\b{name}:|[{{,]{name}[,}}]"
        if not re.search(other, code) and not re.search(rf"\b{name}\b", literals):
            code = re.sub(rf"(?<!\w){name}(?!\w)", f"${_digits(number)}", code)
    pieces[::2] = code.split("\0")
    return "".join(pieces)


def _digits(number: int) -> str:
    """Return *number* in letters: a to z, then ba, bb and so on."""
    rest, digit = divmod(number, 26)
    return (_digits(rest) if rest else "") + chr(ord("a") + digit)


@cache
def sheet() -> str:
    """Return the style sheet, with the colours of the states on light and on dark."""
    fronts = ",".join(f"{front} .qlive" for front in DARK)
    light = "".join(f"--q{n}:{look.light};" for n, look in enumerate(LOOKS.values()))
    dark = "".join(f"--q{n}:{look.dark};" for n, look in enumerate(LOOKS.values()))
    states = "".join(f".qlive .s{n}{{--s:var(--q{n})}}" for n in range(len(LOOKS)))
    bare = _CSS_SPACE.sub(_css_space, _CSS_COMMENT.sub("", _part("live.css").strip()))
    return f".qlive{{{light}}}{fronts}{{{dark}--tint:14%}}{states}{bare}".replace(";}", "}")


def _css_space(found: re.Match[str]) -> str:
    return found[1] or (":" if found[0].startswith(":") else " ")


def looks() -> list[list[str]]:
    """Return the word and the symbol of each state, in the order of their numbers on the wire."""
    return [[state.value, look.symbol] for state, look in LOOKS.items()]


def _part(name: str) -> str:
    return files("queuectl_magics.views.live").joinpath("browser", name).read_text("utf-8")
