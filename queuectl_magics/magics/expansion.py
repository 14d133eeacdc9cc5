r"""Python's expressions in braces, evaluated, and made safe for the place where they stand.

`%enqueue python train.py --lr {lr} --out "runs/{name}"` must reach the program byte for byte, also
when a name holds a space, a quote or `$(rm -r ~)`. IPython's own expansion quotes nothing, takes
`$x` from the shell, and one brace that it does not understand turns off all the others. Our rules:

1. Each brace on its own. A brace is ours when its text is one Python expression (`!r`, `:.0e` as
   in f-strings; on one line) whose free names are all known, at least one of them the user's.
   Anything else stays as it is: `{print $1}`, `{}`, `{a,b}`, `{1..3}`, `{2,5}`, `{"a": 1}`.
   So do bare names of code, which is no value: `{print}`, `{exit}`, a function, class or module.
2. A brace after `$` is the shell's, with all it holds but `$(…)`: `${HOME}`, `${x:-y}`.
3. `{{…}}` is the literal `{…}` when its outer braces are a pair and its inner ones are, too; what
   is between them is read as usual. A `{{` or `}}` without such a partner stays: nested JSON.
4. A list or a tuple is its items, a job its id, anything else its `str()`.
5. Bare, a value is quoted for the shell; between quotes it is escaped for them; `$(…)` begins
   anew. Where no escape is safe (backquotes, `$((…))`), a value that would need one is refused.

The place is known from one reading, left to right, with a stack of places (`OPENS`, `CLOSES`).
What a value means between the quotes of `python -c 'print({name!r})'` is that program's business.
"""

from __future__ import annotations

import ast
import builtins
import re
import shlex
import symtable
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from inspect import isclass, ismodule, isroutine

from queuectl_magics.errors import InvalidInputError


class Place(StrEnum):
    """Where a character stands, which decides what the shell makes of it."""

    COMMAND = "a command"
    CASE = "case … esac"
    SINGLE = "single quotes"
    ANSI = "$'…'"
    DOUBLE = "double quotes"
    PARAMETER = "${…}"
    QUOTED_PARAMETER = "${…} between double quotes"
    ARITHMETIC = "$((…))"
    BACKQUOTE = "backquotes"
    HEREDOC = "a here-document"
    QUOTED_HEREDOC = "a here-document whose delimiter is quoted"
    FOREIGN = "a text that is not the shell's"


# What opens which place (of two openers that begin alike, the longer one first), what closes it.
_SUBSTITUTION = {"$((": Place.ARITHMETIC, "$(": Place.COMMAND, "`": Place.BACKQUOTE}
_QUOTES = {"$'": Place.ANSI, "'": Place.SINGLE, '"': Place.DOUBLE}
_IN_DOUBLE = _SUBSTITUTION | {"${": Place.QUOTED_PARAMETER}
_IN_PARAMETER = _SUBSTITUTION | _QUOTES | {"${": Place.PARAMETER}
OPENS: dict[Place, dict[str, Place]] = {
    Place.COMMAND: _IN_PARAMETER | {"(": Place.COMMAND},
    Place.CASE: _IN_PARAMETER | {"(": Place.COMMAND},
    Place.DOUBLE: _IN_DOUBLE,
    Place.PARAMETER: _IN_PARAMETER,
    Place.QUOTED_PARAMETER: _IN_DOUBLE | {'"': Place.DOUBLE},
    Place.ARITHMETIC: _IN_DOUBLE | {"(": Place.ARITHMETIC},
    Place.HEREDOC: _IN_DOUBLE,
}
CLOSES = {
    Place.COMMAND: ")",
    Place.SINGLE: "'",
    Place.ANSI: "'",
    Place.DOUBLE: '"',
    Place.PARAMETER: "}",
    Place.QUOTED_PARAMETER: "}",
    Place.ARITHMETIC: ")",
    Place.BACKQUOTE: "`",
}
COMMANDS = frozenset({Place.COMMAND, Place.CASE})
PARAMETERS = frozenset({Place.PARAMETER, Place.QUOTED_PARAMETER})
VERBATIM = frozenset({Place.SINGLE, Place.QUOTED_HEREDOC, Place.FOREIGN})
# Builtins that act and return nothing: awk's `{print(n)}` and `{exit(n)}` are not for us to call.
ACTS = frozenset({"print", "exec", "exit", "quit", "help", "input", "breakpoint"})
WORD_STARTS_AFTER = frozenset({"", " ", "\t", "\n", ";", "&", "|", "(", ")", "$("})
FIELD_CHARS_MAX = 1000
NOT_ENQUEUED = "(nothing was enqueued)"

_PLAIN = re.compile(r"[\w@%+=:,./-]*", re.ASCII)
_RUN = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*|\w+|.", re.DOTALL)
_ESCAPED = re.compile(r"\\.?", re.DOTALL)
_LINE = re.compile(r"[^\n]*")
_CASE = re.compile(r"case(?=\s[^;&|()]*?\sin\s)")
_ESAC = re.compile(r"esac\b")
_HEREDOC = re.compile(r"""(?<!<)<<(?!<)(-?)[ \t]*(?:'([^'\n]+)'|"([^"\n]+)"|(\\?)([\w.+-]+))""")
_NESTING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[()\[\]{}]""")
_CONVERSION = re.compile(r"(.*)!([rsa])\s*", re.DOTALL)
_CONVERT: dict[str, Callable[[object], object]] = {"r": repr, "s": str, "a": ascii}


def expand(text: str, names: Mapping[str, object], *, quote: bool = True) -> str:
    """Return *text* with the expressions in braces replaced by their values from *names*.

    With *quote* the text is the shell's, and every value arrives as it is, byte for byte. Without,
    the text is not the shell's, and values go in unquoted.

    Raises InvalidInputError when an expression fails, or its value has no safe form in its place.

    Example:
        >>> expand("train --lr {lr:.0e} --tag {tag} | awk '{print $1}'", {"lr": 0.1, "tag": "a b"})
        "train --lr 1e-01 --tag 'a b' | awk '{print $1}'"

    """
    return _Reading(text, names, quote=quote).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A brace that is ours."""

    source: str
    tree: ast.Expression
    scope: dict[str, object]
    conversion: str = ""
    spec: str = ""

    def words(self) -> list[str] | None:
        """Return the words that the value makes, or None for the bare name of some code."""
        try:
            code = compile(self.tree, "<braces>", "eval", dont_inherit=True)
            value = eval(code, {**self.scope, "__builtins__": builtins})  # noqa: S307 - the user's
            if isinstance(self.tree.body, ast.Name) and _is_code(value):
                return None
            return self._as_text(value)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            message = f"cannot evaluate {self.source}: {reason} {NOT_ENQUEUED}"
            raise InvalidInputError(message) from error

    def _as_text(self, value: object) -> list[str]:
        if _is_code(value):
            message = f"a {type(value).__name__} is not a value; call it"
            raise TypeError(message)
        if self.conversion or self.spec:
            convert = _CONVERT.get(self.conversion, _id_of_job)
            return [format(convert(value), self.spec)]
        items = value if isinstance(value, list | tuple) else [value]
        return [str(_id_of_job(item)) for item in items]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heredoc:
    """A here-document: `<<` announces it, its body begins after the end of that line."""

    delimiter: str
    tabs: bool
    place: Place
    end: int = 0
    depth: int = 0
    mark: int = 0


class _Reading:
    """One reading of a text, left to right: each step takes what stands at `at`, or passes."""

    def __init__(self, text: str, names: Mapping[str, object], *, quote: bool) -> None:
        self.text = text
        self.names = names
        self.at = 0
        self.out: list[str] = []
        self.places = [Place.COMMAND if quote else Place.FOREIGN]
        self.partners = _partners(text)
        self.doubled_ends: set[int] = set()
        self.announced: list[_Heredoc] = []
        self.bodies: list[_Heredoc] = []

    def run(self) -> str:
        while self.at < len(self.text):
            self._end_of_heredoc()
            _ = (
                self._backslash_or_doubled_end()
                or self._closer()
                or self._opener()
                or self._brace()
                or self._heredoc()
                or self._comment_or_case()
                or self._take(_RUN)
            )
        self._end_of_heredoc()
        return "".join(self.out)

    def _put(self, written: str, chars: int) -> bool:
        self.out.append(written)
        self.at += chars
        return True

    def _take(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.text, self.at)
        return found is not None and self._put(found[0], len(found[0]))

    def _starts(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def _backslash_or_doubled_end(self) -> bool:
        if self.at in self.doubled_ends:
            return self._put("}", 2)
        return self.places[-1] not in VERBATIM and self._take(_ESCAPED)

    def _closer(self) -> bool:
        closer = CLOSES.get(self.places[-1])
        if closer is None or len(self.places) == 1 or not self._starts(closer):
            return False
        self.places.pop()
        return self._put(closer, 1)

    def _opener(self) -> bool:
        for opener, place in OPENS.get(self.places[-1], {}).items():
            if self._starts(opener):
                self.places += [place] * max(1, opener.count("("))
                return self._put(opener, len(opener))
        return False

    def _brace(self) -> bool:
        if not self._starts("{"):
            return False
        place, inner_end = self.places[-1], self.partners.get(self.at + 1)
        in_parameter = place not in COMMANDS and PARAMETERS.intersection(self.places[-2:])
        if in_parameter or self.text[max(0, self.at - 1)] == "$":
            return self._put("{", 1)
        if self._starts("{{") and inner_end and self.partners.get(self.at) == inner_end + 1:
            self.doubled_ends.add(inner_end)
            return self._put("{", 2)
        field = None if self._starts("{{") else _field(self.text, self.at, self.names)
        words = field.words() if field else None
        if field is None or words is None:
            return self._put("{", 1)
        written = _placed(words, place, field.source)
        if place not in VERBATIM and self.out:  # or it would lengthen the name of a variable
            self.out[-1] = re.sub(r"^\$(\w+)$", r"${\1}", self.out[-1])
        if place in COMMANDS and self.text.startswith(("<", ">"), self.at + len(field.source)):
            written = re.sub(r"^(\d+)$", r"'\1'", written)  # or it would be a file descriptor
        return self._put(written, len(field.source))

    def _comment_or_case(self) -> bool:
        before = self.out[-1] if self.out else ""
        if self.places[-1] not in COMMANDS or before not in WORD_STARTS_AFTER:
            return False
        if self._starts("#"):
            return self._take(_LINE)
        if self._take(_CASE):
            self.places.append(Place.CASE)
            return True
        return self.places[-1] is Place.CASE and self._take(_ESAC) and bool(self.places.pop())

    def _heredoc(self) -> bool:
        if self.places[-1] not in COMMANDS:
            return False
        if found := _HEREDOC.match(self.text, self.at):
            tabs, single, double, backslash, bare = found.groups()
            place = Place.QUOTED_HEREDOC if single or double or backslash else Place.HEREDOC
            delimiter = single or double or bare
            self.announced.append(_Heredoc(delimiter=delimiter, tabs=bool(tabs), place=place))
            return self._put(found[0], len(found[0]))
        return self._starts("\n") and bool(self.announced) and self._start_of_heredoc()

    def _start_of_heredoc(self) -> bool:
        """Enter the body up to its last line; without a last line it was no here-document."""
        heredoc = self.announced.pop(0)
        pattern = ("^\t*" if heredoc.tabs else "^") + re.escape(heredoc.delimiter) + "$"
        last = re.compile(pattern, re.MULTILINE).search(self.text, self.at + 1)
        self._put("\n", 1)
        if last:
            depth, mark = len(self.places), len(self.out)
            self.bodies.append(replace(heredoc, end=last.end(), depth=depth, mark=mark))
            self.places.append(heredoc.place)
        return True

    def _end_of_heredoc(self) -> None:
        while self.bodies and self.at >= self.bodies[-1].end:
            body = self.bodies.pop()
            del self.places[body.depth :]
            lines = "".join(self.out[body.mark :]).split("\n")
            if [line.lstrip("\t" * body.tabs) for line in lines].count(body.delimiter) > 1:
                what = f"a value holds {body.delimiter!r}, which ends the here-document around it"
                message = f"{what}; choose another delimiter {NOT_ENQUEUED}"
                raise InvalidInputError(message)


def _placed(words: list[str], place: Place, source: str) -> str:
    """Return *words* as they must be written at *place* to arrive as they are."""
    joined = " ".join(words)
    match place:
        case Place.COMMAND | Place.CASE:
            return " ".join(shlex.quote(word) for word in words)
        case Place.SINGLE:
            return joined.replace("'", r"'\''")
        case Place.ANSI:
            return f"'{shlex.quote(joined)}$'"
        case Place.DOUBLE:
            return re.sub(r'([\\"$`])', r"\\\1", joined)
        case Place.HEREDOC:
            return re.sub(r"([\\$`])", r"\\\1", joined)
        case Place.ARITHMETIC | Place.BACKQUOTE if not _PLAIN.fullmatch(joined):
            remedy = "write $(…)" if place is Place.BACKQUOTE else "give a plain number"
            message = f"cannot put {source} into {place}: {remedy} {NOT_ENQUEUED}"
            raise InvalidInputError(message)
        case _:
            return joined


def _partners(text: str) -> dict[int, int]:
    """Return for each `{` that is closed where its `}` stands; quotes are not looked at."""
    partners: dict[int, int] = {}
    waiting: list[int] = []
    for brace in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if brace[0] == "{":
            waiting.append(brace.start())
        elif brace[0] == "}" and waiting:
            partners[waiting.pop()] = brace.start()
    return partners


def _field(text: str, start: int, names: Mapping[str, object]) -> _Field | None:
    """Return the field that the `{` at *start* opens, or None when that brace is not ours."""
    line = _LINE.match(text, start, start + FIELD_CHARS_MAX)
    for end in _ends(line[0] if line else ""):
        source = text[start : start + end]
        inside = source[1:-1]
        for cut in (len(inside), *(colon.start() for colon in re.finditer(":", inside))):
            converted = _CONVERSION.fullmatch(inside[:cut])
            field = _expression(source, converted[1] if converted else inside[:cut], names)
            if field and field.scope:
                spec = expand(inside[cut + 1 :], names, quote=False)
                if "{" in spec or "}" in spec:
                    break
                return replace(field, conversion=converted[2] if converted else "", spec=spec)
    return None


def _ends(line: str) -> Iterator[int]:
    """Yield where the brace that *line* begins with may end: its partner, else the first `}`."""
    depth = 0
    for token in _NESTING.finditer(line):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if depth == 0 and token[0] == "}":
            yield token.end()
            break
    yield line.find("}") + 1


def _expression(source: str, inside: str, names: Mapping[str, object]) -> _Field | None:
    """Return the field when *inside* is one expression of known names, or None.

    It must mean the same alone and as the only argument of a call, which `a,b`, `a=b`, `a:=b`,
    `*a`, `a)(b` and `a for a in b` do not.
    """
    inside = inside.strip()
    if not any(word in names for word in re.findall(r"\w+", inside)):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(inside, mode="eval")
            call = ast.parse(f"_({inside})", mode="eval").body
            free = set(_free(symtable.symtable(inside, "<braces>", "eval")))
            compile(tree, "<braces>", "eval", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    alone = ast.dump(
        ast.Call(func=ast.Name(id="_", ctx=ast.Load()), args=[tree.body], keywords=[])
    )
    if ast.dump(call) != alone or not all(_known(name, names) for name in free):
        return None
    scope = {name: names[name] for name in free if name in names}
    return _Field(source=source, tree=tree, scope=scope)


def _free(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that an expression takes from outside; a comprehension binds its own."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _free(child)


def _known(name: str, names: Mapping[str, object]) -> bool:
    known = name in names or hasattr(builtins, name)
    return known and not (name in ACTS and callable(names.get(name, print)))


def _is_code(value: object) -> bool:
    """Return whether *value* is code: something to call or import that has no text of its own."""
    nameless = type(value).__repr__ is object.__repr__ and type(value).__str__ is object.__str__
    return ismodule(value) or isclass(value) or isroutine(value) or (callable(value) and nameless)


def _id_of_job(value: object) -> object:
    """Return the id of a job of ours, whose class need not be loaded; any other value as it is."""
    of = f"{type(value).__module__}.{type(value).__name__}"
    return getattr(value, "id", value) if of == "queuectl_magics.jobqueue.job.Job" else value
