"""The script and the style sheet of the live table, as the browser gets them.

`browser/` holds a few modules, each about one thing and short enough to be read, but a widget is
given one module. They are laid end to end, in the order of `PARTS`; their imports of each other
fall away, and so do comments and indentation, which only readers need. The rules here: every part
is a module that works as it stands; a comment has a line of its own; a division has spaces around
it, a regular expression none; no template or brace inside the braces of a template; no two parts
declare the same name, and none one that is the browser's; and colours, words and symbols come from
`words.LOOKS` alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import product
from string import ascii_letters

from queuectl_magics.views.style import DARK
from queuectl_magics.views.words import LOOKS

PARTS = ("dom", "rows", "order", "road", "head", "grid", "colours", "log", "table")

_IMPORT = re.compile(r"^import\b[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)
_LITERAL = re.compile(r'("(?:[^"\\\n]|\\.)*"|`[^`]*`|(?<=[\s(])/(?![\s/*])(?:[^/\\\n]|\\.)+/\w*)')
_SPACE = re.compile(r"\s*([{}()\[\];,:?=<>+*/&|!%-])\s*")
_NEEDLESS = re.compile(r"[,;]([}\])])|\((\w+)\)(?==>)")
_IN_BRACES = re.compile(r"(?<=\$\{)([^{}]*)(?=\})")
_DECLARED = re.compile(
    r"(?:^|[;}])(?:const|let|async function|function) ?(?:(\w+)(?=[=(])|(\[[\w,]+\])(?==))"
)
_GIVEN = re.compile(r"function ?\w*\(([^()]*)\)|\(([^()]*)\)=>|(?<![\w.])(\w+)=>")
_NUMBER = re.compile(r"const ([A-Z_]+)=([\d.]+);")
# What declares and is followed by another of its kind: between them no statement ends, and no
# block that holds one. `for(let` does not count.
_NEIGHBOURS = re.compile(r"(?<![\w(])(let[ \[{](?:[^;{}]|\{[^;{}]*\})+);let ?")
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CSS_SPACE = re.compile(r"\s*([{};,>])\s*|(?<=[\w-]):\s+|\s+")


@cache
def script() -> str:
    """Return the one module that the browser runs."""
    parts = [_part(f"{name}.js") for name in PARTS]
    whole = "".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)
    pieces = _split(_COMMENT.sub("", whole))
    code = "\0".join(_SPACE.sub(r"\1", re.sub(r"\s+", " ", code)) for code in pieces[::2])
    code = _join_declarations(_shorten_names(code))
    pieces[::2] = code.split("\0")
    return _NEEDLESS.sub(r"\1\2", "".join(pieces))


def _split(text: str) -> list[str]:
    """Return code and literals in turn; what a template holds in braces is code."""
    pieces = _LITERAL.split(text)
    for place in reversed(range(1, len(pieces), 2)):
        if pieces[place].startswith("`"):
            parts = enumerate(_IN_BRACES.split(pieces[place]))
            split = [_LITERAL.split(part) if number % 2 else [part] for number, part in parts]
            pieces[place : place + 1] = [piece for part in split for piece in part]
    return pieces


def _shorten_names(code: str) -> str:
    """Put numbers for their names, and short names where nothing else can be meant.

    A name that is also a key somewhere, or the short form of one, is left alone; as that of a
    property, after a dot, it stays.
    """
    for name, value in _NUMBER.findall(code):
        code = re.sub(rf"\b{name}\b", value, code.replace(f"const {name}={value};", ""))
    found = (" ".join(groups) for groups in (*_DECLARED.findall(code), *_GIVEN.findall(code)))
    uses = Counter(re.findall(r"\w+", code))
    names = sorted({*re.findall(r"\w{3,}", " ".join(found))}, key=lambda name: (-uses[name], name))
    short = _unknown_names(code)
    for name in (name for name in names if not _is_key(name, code)):
        code = re.sub(rf"(?<!(?<!\.\.)\.)\b{name}\b", next(short), code)
    return code


def _unknown_names(code: str) -> Iterator[str]:
    """Yield the names of one letter, then those of two, that mean nothing in *code*."""
    known = {*re.findall(r"\w+", code), "do", "if", "in", "of"}
    for letters in (ascii_letters, product(ascii_letters, repeat=2)):
        yield from (name for name in map("".join, letters) if name not in known)


def _is_key(name: str, code: str) -> bool:
    """Say whether *name* stands before a colon, or in braces, alone or with a default."""
    alone = rf"[{{,]{name}(?=[,}}])|(?:,|(?<![)>e])\{{){name}(?==)"
    return bool(re.search(rf"(?<![\w?]){name}:", code)) or any(
        _opened_by(code[: found.start() + 1]) == "{" for found in re.finditer(alone, code)
    )


def _opened_by(code: str) -> str:
    """Return the last bracket that is open at the end of *code*."""
    depth = 0
    for sign in reversed(code):
        depth += (sign in ")]}") - (sign in "([{")
        if depth < 0:
            return sign
    return ""


def _join_declarations(code: str) -> str:
    """Let neighbours share one `let`, which serves as well where nobody assigns again."""
    code, joined = re.sub(r"\bconst(?=[ \[{])", "let", code), 1
    while joined:
        code, joined = _NEIGHBOURS.subn(r"\1,", code)
    return code


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
