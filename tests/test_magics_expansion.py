"""Which braces are ours, what becomes of them, and that a shell gets values byte for byte."""

from __future__ import annotations

import ast
import contextlib
import functools
import math
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.magics import expansion
from queuectl_magics.magics.expansion import FIELD_CHARS_MAX, expand


class Job:
    """Has the shape of a queue's job."""

    __module__ = "queuectl_magics.jobqueue.job"

    def __init__(self, id: str) -> None:
        self.id = id

    def f(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return f"<Job {self.id}: a long line for the notebook>"


class Autocall:
    """Has the shape of IPython's `exit` and `quit`: to be called, with no text of its own."""

    def __call__(self, code: int = 0) -> None:
        message = "the kernel would have been shut down"
        raise AssertionError(message)


class Args:
    """Has the shape of parsed arguments."""

    lr = 0.5
    path = Path("out dir/run")


class Model:
    """Can be called, and has a text of its own."""

    def __call__(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "Model(8)"


def train() -> str:
    """Stand for a function of the user's."""
    return "trained"


NAMES = {
    "lr": 0.001,
    "x": 5,
    "y": "a b",
    "n": 3,
    "a": 1,
    "b": 2,
    "HOME": "mine",
    "name": "it's $HOME",
    "empty": "",
    "nothing": None,
    "w": 8,
    "cfg": {"lr": 3, "it's": 4, "a:b": 6},
    "d": {"}": "brace", "{": "open"},
    "files": ["a b", "c.txt", "it's"],
    "pair": (1, Path("x y")),
    "none_at_all": [],
    "args": Args(),
    "path": Path("/data/my runs/1"),
    "job": Job("7"),
    "jobs": [Job("7"), Job("my job")],
    "exit": Autocall(),
    "quit": Autocall(),
    "open": open,
    "model": Model(),
    "train": train,
    "math": math,
    "Path": Path,
    "größe": 4,
    "input": "in.txt",
}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("python train.py --lr {lr}", "python train.py --lr 0.001"),
        ("{x}{x} {x}", "55 5"),
        ("--out=runs/{y}/{x}", "--out=runs/'a b'/5"),
        ("{ x }", "5"),
        ("{größe}", "4"),
        ("{empty}", "''"),
        ("{nothing}", "None"),
        ("{path}", "'/data/my runs/1'"),
        ("{args.lr * 2}", "1.0"),
        ("{args.path}", "'out dir/run'"),
        ('{cfg["lr"]}', "3"),
        ("{cfg['lr']}", "3"),
        ('{cfg["it\'s"]}', "4"),
        ('{d["}"]}', "brace"),
        ('{d["{"]}', "open"),
        ("{ {'a': x}['a'] }", "5"),
        ("{[p for p in files][0]}", "'a b'"),
        ("{[x for x in files][1]}", "c.txt"),
        ("{' '.join(p for p in files[:2])}", "'a b c.txt'"),
        ("{sum(i * x for i in range(3))}", "15"),
        ("{(lambda p: p + x)(1)}", "6"),
        ("{len(files)}", "3"),
        ("{str(path)[1:5]}", "data"),
        ("{x if n else b}", "5"),
        ("{-x}", "-5"),
        ("{n-1}", "2"),
        ("{x != n}", "True"),
        ("{train()}", "trained"),
        ("{math.floor(2.5)}", "2"),
        ("{Path('a') / str(x)}", "a/5"),
        ("{input}", "in.txt"),
        ("{model}", "'Model(8)'"),
        ('f"{x}"', 'f"5"'),
        ("{x}}", "5}"),
        ("{{x}", "{5"),
        ("{a,{x}}", "{a,5}"),
        ("{1..{n}}", "{1..3}"),
        ("{undefined} {x}", "{undefined} 5"),
        ("awk '{print $1}' {path}", "awk '{print $1}' '/data/my runs/1'"),
        ("curl -d '{\"lr\": {lr}}'", "curl -d '{\"lr\": 0.001}'"),
        ("find . -exec echo {} {x} \\;", "find . -exec echo {} 5 \\;"),
    ],
)
def test_an_expression_of_known_names_is_replaced(text, expanded):
    """Names, attributes, indexes, calls; each brace on its own, whatever stands beside it."""
    assert expanded == expand(text, NAMES)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("{lr:.0e}", "1e-03"),
        ("{x:03d}", "005"),
        ("{x!r}", "5"),
        ("{y!r}", "''\"'\"'a b'\"'\"''"),
        ("{y!s}", "'a b'"),
        ("{größe!a}", "4"),
        ("{y!r:>8}", "'   '\"'\"'a b'\"'\"''"),
        ("{x !r}", "5"),
        ("{x:>{w}}", "'       5'"),
        ("{x:{'0'}{n}}", "{x:{'0'}3}"),
        ("{lr:{w}.{n}f}", "'   0.001'"),
        ("{x:{undefined}}", "{x:{undefined}}"),
        ("{x:'>3}", "''\"'\"''\"'\"'5'"),
        ("{x:)>3}", "'))5'"),
        ('{cfg["a:b"]:>3}', "'  6'"),
        ("{y[0:1]:>2}", "' a'"),
        ("{x:}", "5"),
        ("{files!r:.4}", "'['\"'\"'a '"),
        ("{job:>3}", "'  7'"),
    ],
)
def test_conversions_and_formats_are_those_of_f_strings(text, expanded):
    """`!r`, `!s`, `!a`, a format after the colon, and braces in that format."""
    assert expanded == expand(text, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo nothing here",
        "find . -exec echo {} \\;",
        "{ }",
        "{",
        "}",
        "}{",
        "a { b",
        "awk '{print $1}'",
        "awk '{print}'",
        "awk '{print(x)}'",
        "awk '/x/{exit}'",
        "awk 'END{exit(x)}'",
        "awk '{quit}'",
        "awk '{n++} {n += x} END{print n}'",
        "{print}",
        "{len}",
        "{open}",
        "{train}",
        "{math}",
        "{Path}",
        "{1}",
        "{'a'}",
        "{len('a')}",
        "{1 + 1}",
        "{True}",
        "{__import__('os')}",
        "{undefined}",
        "{undefined + x}",
        "{x.y for y in undefined}",
        "{[p for p in undefined]}",
        "{a,b}",
        "{a, b}",
        "{a,}",
        "{,a}",
        "{*files}",
        "{a=b}",
        "{a for a in files}",
        "{a)(b}",
        "{a)",
        "{a # b}",
        "{await x}",
        "{(yield x)}",
        "{x;}",
        "{a b}",
        "{x\n}",
        "{\n  x\n}",
        "cp a.{txt,bak}",
        "{1..3}",
        "{a..b}",
        "{1..x}",
        "{x..3}",
        "grep -E '[0-9]{3}'",
        "grep -E '[0-9]{2,5}'",
        "grep -E '[0-9]{2,}'",
        '{"a":{"b":1}}',
        '{"x": 1, "n": [1, {"lr": {}}]}',
        '\'{"a":{"b":{"c":1}}}\'',
        "${HOME}",
        "${x}",
        "${x:-n}",
        "${x:-{n}}",
        "${x:-${n}}",
        '"${x:-"{n}"}"',
        "${x:-'}'}",
        "${x:-\\}{n}}",
        "'${x}'",
        "$${x}",
        "\\${x}",
        '"\\${x}"',
        "`echo ${x}`",
        "\\{x}",
        '"\\{x}"',
        "sed -n '/a\\{2\\}/p'",
        "{{x",
        "x}}",
        "{{a,b},{a,b}}",
        "{x!}",
        "{x!q}",
        "{!r}",
        "{:>3}",
        "{x[}",
        "{" * 300 + "x",
        "{" + "(" * 300 + "x}",
        "{x + '" + "a" * FIELD_CHARS_MAX + "'}",
    ],
)
def test_what_is_not_ours_is_left_as_it_is(text):
    """The shell's braces, awk's, JSON's, regular expressions, unknown names, and plain code."""
    assert text == expand(text, NAMES)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("{{x}}", "{x}"),
        ("{{}}", "{}"),
        ("{{undefined}}", "{undefined}"),
        ("awk '{{print}}'", "awk '{print}'"),
        ("awk '{{print {x}}}'", "awk '{print 5}'"),
        ("{{{x}}}", "{5}"),
        ("{{ {x} }}", "{ 5 }"),
        ("{{{{.Names}}}}", "{{.Names}}"),
        ('{{"lr": {lr}}}', '{"lr": 0.001}'),
        ('{{\n  "a": {{"b": {x}}}\n}}', '{\n  "a": {"b": 5}\n}'),
        ('{{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
        ('{"a": {{"b": {x}}}}', '{"a": {"b": 5}}'),
        ("{{x}} {x} {{x}}", "{x} 5 {x}"),
        ("'{{gsub(/\\{/, \"\")}}'", "'{gsub(/\\{/, \"\")}'"),
        ("{{a,b}}", "{a,b}"),
    ],
)
def test_doubled_braces_that_belong_together_are_literal_ones(text, expanded):
    """`{{…}}` is `{…}` when both its braces pair with both at the other end."""
    assert expanded == expand(text, NAMES)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("cat {files}", "cat 'a b' c.txt 'it'\"'\"'s'"),
        ("cat {pair}", "cat 1 'x y'"),
        ("cat {files[:1]}", "cat 'a b'"),
        ("cat {none_at_all} -", "cat  -"),
        ("cat {(a, y)}", "cat 1 'a b'"),
        ("echo '{files}'", "echo 'a b c.txt it'\\''s'"),
        ('echo "{files}"', 'echo "a b c.txt it\'s"'),
        ("echo {set(files[1:2])}", "echo '{'\"'\"'c.txt'\"'\"'}'"),
        ("--after {job}", "--after 7"),
        ("--after {jobs}", "--after 7 'my job'"),
        ("--after {jobs[0].id}", "--after 7"),
    ],
)
def test_a_list_is_its_items_and_a_job_its_id(text, expanded):
    """Each item is one word; a set keeps Python's text, for it has no order."""
    assert expanded == expand(text, NAMES)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("{name}", "'it'\"'\"'s $HOME'"),
        ("'{name}'", "'it'\\''s $HOME'"),
        ('"{name}"', '"it\'s \\$HOME"'),
        ('"it\'s {y}"', '"it\'s a b"'),
        ("'say \"{y}\"'", "'say \"a b\"'"),
        ("\\'{y}", "\\''a b'"),
        ('"\\"{y}"', '"\\"a b"'),
        ("'\\'{y}", "'\\''a b'"),
        ("$'it\\'s {y}'", "$'it\\'s ''a b'$''"),
        ('"$(cat {y})"', "\"$(cat 'a b')\""),
        ('"$(echo "{y}" \'{y}\' {y})" "{y}"', '"$(echo "a b" \'a b\' \'a b\')" "a b"'),
        ('"$( (echo {y}) )" "{y}"', '"$( (echo \'a b\') )" "a b"'),
        ("$(echo ')' {y}) {y}", "$(echo ')' 'a b') 'a b'"),
        ("${x:-$(cat {y})}", "${x:-$(cat 'a b')}"),
        ('"${x:-it\'s}" {y}', "\"${x:-it's}\" 'a b'"),
        ("${x:-'it}'} {y}", "${x:-'it}'} 'a b'"),
        ("a=({y}) <(cat {y})", "a=('a b') <(cat 'a b')"),
        ('case x in a) echo "{y}";; esac', 'case x in a) echo "a b";; esac'),
        (
            "$(case x in a) {y};; (b) {y};; esac) {y}",
            "$(case x in a) 'a b';; (b) 'a b';; esac) 'a b'",
        ),
        ('"$(echo case {y})" "{y}"', '"$(echo case \'a b\')" "a b"'),
        ("# don't {x}\n{y}", "# don't {x}\n'a b'"),
        ("echo a#don\\'t {x}", "echo a#don\\'t 5"),
        ("echo $# {y} ${#x} {y}", "echo $# 'a b' ${#x} 'a b'"),
        ('"$(echo # it\'s)\n{y})" "{y}"', '"$(echo # it\'s)\n\'a b\')" "a b"'),
        ("awk '{print $'{n}'}'", "awk '{print $'3'}'"),
        ("`echo {x}` {y}", "`echo 5` 'a b'"),
        ("`echo '` {y}", "`echo '` 'a b'"),
        ("$(( ({x} + 1) * (2) )) {y}", "$(( (5 + 1) * (2) )) 'a b'"),
        ("$((x << 2))\n{y}\n2", "$((x << 2))\n'a b'\n2"),
        ('"unclosed {y}', '"unclosed a b'),
        ("unclosed) {y}", "unclosed) 'a b'"),
        ("\\", "\\"),
    ],
)
def test_a_value_is_quoted_for_the_place_where_it_stands(text, expanded):
    """Bare, in either quotes, in substitutions anew; comments and escapes do not mislead."""
    assert expanded == expand(text, NAMES)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$HOME{x}", "${HOME}5"),
        ('"$HOME{x} $HOME"', '"${HOME}5 $HOME"'),
        ("'$HOME{x}'", "'$HOME5'"),
        ("\\$HOME{x}", "\\$HOME5"),
        ("$HOME/{x}", "$HOME/5"),
        ("$HOME{undefined}", "$HOME{undefined}"),
        ("echo {x}>out", "echo '5'>out"),
        ("cat {x}<in", "cat '5'<in"),
        ("echo {x} >out", "echo 5 >out"),
        ("echo {y}>out", "echo 'a b'>out"),
        ('echo "{x}>out"', 'echo "5>out"'),
    ],
)
def test_a_value_does_not_melt_into_its_neighbours(text, expanded):
    """It neither lengthens the name of a variable nor becomes the number of a stream."""
    assert expanded == expand(text, NAMES)


HEREDOCS = [
    ("cat <<EOF\nit's {name}\nEOF\necho {y}", "cat <<EOF\nit's it's \\$HOME\nEOF\necho 'a b'"),
    ("cat <<'EOF'\nit's {name}\nEOF\n{y}", "cat <<'EOF'\nit's it's $HOME\nEOF\n'a b'"),
    ('cat <<"E F"\n{name}\nE F\n{y}', "cat <<\"E F\"\nit's $HOME\nE F\n'a b'"),
    ("cat <<\\EOF\n{name}\nEOF\n{y}", "cat <<\\EOF\nit's $HOME\nEOF\n'a b'"),
    ("cat <<-EOF\n\t{y}'\n\tEOF\n{y}", "cat <<-EOF\n\ta b'\n\tEOF\n'a b'"),
    ("cat <<A <<B {y}\n'{y}\nA\n{y}'\nB\n{y}", "cat <<A <<B 'a b'\n'a b\nA\na b'\nB\n'a b'"),
    ('"$(cat <<E\n{y}"\nE\n)" "{y}"', '"$(cat <<E\na b"\nE\n)" "a b"'),
    ("cat <<E\n$(echo {y}) $HOME{x}\nE", "cat <<E\n$(echo 'a b') ${HOME}5\nE"),
    ("cat <<E\n$(cat <<F\n{y}\nF\n)\nE\n{y}", "cat <<E\n$(cat <<F\na b\nF\n)\nE\n'a b'"),
    ("cat <<E\n$(oops\nE\n{y}", "cat <<E\n$(oops\nE\n'a b'"),
    ("cat <<EOF\n{y}", "cat <<EOF\n'a b'"),
    ("cat <<< {y}\n{y}", "cat <<< 'a b'\n'a b'"),
]


@pytest.mark.parametrize(("text", "expanded"), HEREDOCS)
def test_a_here_document_has_its_own_escapes(text, expanded):
    """An apostrophe in it opens no quotes; with a quoted delimiter it takes the value as it is."""
    assert expanded == expand(text, NAMES)


@pytest.mark.parametrize("delimiter", ["EOF", "'EOF'", "-EOF"])
@pytest.mark.parametrize("value", ["EOF", "a\nEOF\nrm -rf ~"])
def test_a_value_that_would_end_its_here_document_is_refused(delimiter, value):
    """Or its remaining lines would be commands."""
    with pytest.raises(InvalidInputError, match=r"holds 'EOF'.*choose another delimiter"):
        expand(f"cat <<{delimiter}\n{{value}}\nEOF\n", {"value": value})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("print({name!r}, '{y}')", "print(\"it's $HOME\", 'a b')"),
        ("# it's {y}\nz = {x}  # {x}", "# it's a b\nz = 5  # 5"),
        ("\\textbf{{x}} \\frac{x}{y}", "\\textbf{x} \\frac5a b"),
        ("for f in {files}", "for f in a b c.txt it's"),
        ("{{'a': {x}}}", "{'a': 5}"),
        ("${x} {a,b} {undefined} `{y}` $HOME{x}", "${x} {a,b} {undefined} `a b` $HOME5"),
        ("{name}{name}", "it's $HOMEit's $HOME"),
    ],
)
def test_without_quoting_values_go_in_as_they_are(text, expanded):
    """A text that is not the shell's has other quotes and comments: none of them counts."""
    assert expanded == expand(text, NAMES, quote=False)


def refuse(what: str) -> None:
    """Raise an error whose text has two lines."""
    message = f"{what}\n  and more"
    raise LookupError(message)


def say_nothing() -> None:
    """Raise an error without a text."""
    raise RuntimeError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "echo {1/x}",
            "cannot evaluate {1/x}: ZeroDivisionError: division by zero",
        ),
        (
            'a {cfg["no"]} b',
            "cannot evaluate {cfg[\"no\"]}: KeyError: 'no'",
        ),
        (
            "{refuse('this')}",
            "cannot evaluate {refuse('this')}: LookupError: this and more",
        ),
        (
            "{say_nothing()}",
            "cannot evaluate {say_nothing()}: RuntimeError",
        ),
        (
            "{Job.f}",
            "cannot evaluate {Job.f}: TypeError: a function is not a value; call it",
        ),
        (
            "`echo {y}`",
            "cannot put {y} into backquotes: write $(…)",
        ),
        (
            "$((1 + {y}))",
            "cannot put {y} into $((…)): give a plain number",
        ),
        (
            "$(({evil}))",
            "cannot put {evil} into $((…)): give a plain number",
        ),
    ],
)
def test_an_expression_that_fails_stops_the_command(text, message):
    """One line: which brace, why, and that nothing happened."""
    names = {"x": 0, "y": "a`b", "cfg": {}, "refuse": refuse, "Job": Job, "evil": "a[$(id)]"}

    with pytest.raises(InvalidInputError) as caught:
        expand(text, names | {"say_nothing": say_nothing})

    assert f"{message} (nothing was enqueued)" == str(caught.value)


@pytest.mark.parametrize("text", ["{x:q}", "{y:.2f}", "{undefined_key[0]:d}"])
def test_a_format_that_does_not_fit_stops_the_command(text):
    """A known name with a mistaken format is a slip, not somebody else's brace."""
    with pytest.raises(InvalidInputError, match=r"^cannot evaluate \{.*Error: .*enqueued\)$"):
        expand(text, {"x": 1, "y": "text", "undefined_key": ["text"]})


def test_each_expression_is_evaluated_once_and_in_order():
    """What an expression does besides, it does once."""
    seen = []

    def note(what):
        seen.append(what)
        return what

    assert "1 '2' \"3\" 4" == expand(
        "{note(1)} '{note(2)}' \"{note(3)}\" {note(4)}", {"note": note}
    )
    assert [1, 2, 3, 4] == seen


def test_evaluating_leaves_the_namespace_alone():
    """Neither builtins nor a name bound in braces end up in the user's namespace."""
    names = {"x": 1}

    assert "3" == expand("{(lambda k: k + x)(2)}", names)
    assert {"x": 1} == names


def test_a_name_of_the_users_wins_over_a_builtin():
    """`len = 3` in the notebook is what `{len}` means, and `print = "laser"` likewise."""
    assert "3 laser" == expand("{len} {print}", {"len": 3, "print": "laser"})


def test_a_strange_escape_in_an_expression_warns_nobody():
    """What Python thinks of a text that may not be Python at all is not shown."""
    assert "{'\\d' + undefined} 5" == expand("{'\\d' + undefined} {x}", {"x": 5})


def test_a_partial_is_a_value_like_any_other():
    """Only what has no text of its own counts as code."""
    assert "functools.partial" in expand("{p}", {"p": functools.partial(train)})


def test_a_long_text_full_of_braces_is_read_quickly():
    """Sixty kilobytes of JSON do not freeze the notebook, and come out untouched."""
    row = '{"x": {"n": [1, {"a": "b"}], "lr": "{}"}, "y": "it\\"s"}, '
    text = "[" + row * 1_000 + "]"
    begun = time.perf_counter()

    assert text == expand(f"'{text}'", NAMES)[1:-1]
    assert 20 > time.perf_counter() - begun


def test_the_module_needs_no_notebook():
    """It is Python's standard library and our errors: no IPython, no pandas."""
    tree = ast.parse(Path(expansion.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not {name for name in imported if name.startswith(("IPython", "pandas", "ipykernel"))}


# ── a real shell ─────────────────────────────────────────────────────────────────────────────────


def said_by(shell: str, command: str) -> str:
    """Run *command* and return what it wrote, byte for byte."""
    run = subprocess.run(
        [shell.encode(), b"-c", command.encode()], capture_output=True, check=False, timeout=30
    )

    assert b"" == run.stderr, (command, run.stderr)
    return run.stdout.decode()


HOSTILE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text(
    st.sampled_from("'\"\\$`!{}()<>|&;#~*?[] \t\n=%-aE0é")
)
# Each writes the value and then one full stop, for `$(…)` takes line ends away.
PLACES = [
    "printf %s. {value}",
    "printf %s. '{value}'",
    'printf %s. "{value}"',
    'printf %s. pre"{value}"""',
    "printf %s. \"$(printf %s. {value})\" | sed '$s/.$//'",
    'printf %s "$(printf %s. "{value}")"',
    "printf %s \"$(printf %s. '{value}')\"",
    'printf %s "$(case a in (b) ;; a) printf %s. {value} ;; esac)"',
    "# it's \"\nprintf %s. {value}",
    'printf %s "${undefined-$(printf %s. {value})}"',
    "sh -c 'printf %s. \"$1\"' _ {value}",
    "unset v; printf %s. $v{value}",
    'unset v; printf %s. "$v{value}"',
]


@pytest.mark.parametrize("text", PLACES)
@given(value=HOSTILE)
@example(value="$(touch /tmp/pwned) `id` ${HOME} \\ \" ' ! {} \n")
@example(value="'; exit 9; '")
@example(value='"; exit 9; "')
@example(value="\\")
@example(value="")
@example(value="\n")
@example(value="-n")
@settings(max_examples=25, deadline=None)
def test_a_shell_gets_every_value_byte_for_byte(text, value):
    """Whatever it holds: quotes, dollars, backquotes, line ends, braces."""
    prefix = "pre" if "pre" in text else ""

    assert f"{prefix}{value}." == said_by("sh", expand(text, {"value": value}))


@pytest.mark.parametrize("shell", ["sh", "bash"])
@given(value=HOSTILE)
@settings(max_examples=25, deadline=None)
def test_dollar_quotes_get_every_value_byte_for_byte(shell, value):
    """`$'…'` is bash's, where its escapes go on working; the value arrives in any shell."""
    said = said_by(shell, expand("printf %s. $'a {value} b'", {"value": value}))

    assert said.removeprefix("$") in {f"a {value} b.", f"a {value}$ b."}


@pytest.mark.parametrize("delimiter", ["E0F", "'E0F'"])
@given(value=HOSTILE)
@settings(max_examples=25, deadline=None)
def test_a_here_document_gets_every_value_byte_for_byte(delimiter, value):
    """Any value without the delimiter arrives; dash 0.5.12 itself garbles `E` before U+0080."""
    text = f"cat <<{delimiter}\nit's {{value}}\nE0F\nprintf %s. {{value}}"

    assert f"it's {value}\n{value}." == said_by("bash", expand(text, {"value": value}))


@given(values=st.lists(HOSTILE, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_list_arrives_as_just_as_many_words(values):
    """Each item is one argument, also an empty one or one with blanks."""
    command = expand('sh -c \'printf "%s." "$#" "$@"\' _ {values}', {"values": values})

    assert "".join(f"{word}." for word in [len(values), *values]) == said_by("sh", command)


@given(value=HOSTILE)
@settings(max_examples=25, deadline=None)
def test_a_program_between_quotes_gets_a_python_literal(value):
    """`{value!r}` between single quotes is how a value becomes part of a Python program."""
    command = expand("python -c 'print({value!r})'", {"value": value})
    program = said_by("sh", command.replace("python -c", "printf %s", 1))

    assert value == ast.literal_eval(program.removeprefix("print(").removesuffix(")"))


@given(text=st.text(st.sampled_from("{}$'\"\\`()<#\n x5:!,=")))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_to_its_end(text):
    """However broken, it is expanded or refused; without names only doubled braces change."""
    without = expand(text, {})

    assert text == without or "{{" in text
    with contextlib.suppress(InvalidInputError):
        expand(text, {"x": "a b"})


def test_job_of_somebody_else_is_what_it_says_it_is():
    """Only a handle of ours stands for its id."""
    theirs = type("Job", (), {"id": 3, "__str__": lambda _self: "my own"})()

    assert expand("echo {j}", {"j": theirs}) == "echo 'my own'"
    assert expand("echo {j}", {"j": Job("3")}) == "echo 3"
