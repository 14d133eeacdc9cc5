"""Where a line's options end, and that what follows them stays as it was typed."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl_magics.errors import InvalidInputError
from queuectl_magics.magics import grammar
from queuectl_magics.magics.grammar import split_options, split_words

OPTIONS_FIRST = "Options come first; write `--` before a command that begins with a dash."


@click.command("enqueue", context_settings={"allow_interspersed_args": False})
@click.option("-n", "--name")
@click.option("-r", "--retries", type=int)
@click.option("-e", "--env", multiple=True)
@click.option("-v", "--verbose", count=True)
@click.option("-f", "--force", is_flag=True)
@click.option("--live/--no-live", "-l/-L", default=False)
@click.option("--size", nargs=2, type=int)
@click.option("--mode", flag_value="fast")
@click.option("-w", "--wait", is_flag=False, flag_value="60")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def enqueue(**values: object) -> dict[str, object]:
    """Give back what was understood."""
    return values


@click.command("logs")
@click.option("-h", "--host")
def logs(**values: object) -> dict[str, object]:
    """Give back what was understood."""
    return values


@pytest.mark.parametrize(
    ("line", "options", "rest"),
    [
        ("", [], ""),
        ("  \t ", [], ""),
        ("python train.py", [], "python train.py"),
        ("  python train.py  ", [], "python train.py"),
        ("python train.py --lr 0.1 -n x", [], "python train.py --lr 0.1 -n x"),
        ("--name train python t.py", ["--name", "train"], "python t.py"),
        ("--name=train python t.py", ["--name=train"], "python t.py"),
        ("-n train python t.py", ["-n", "train"], "python t.py"),
        ("-ntrain python t.py", ["-ntrain"], "python t.py"),
        ("-n=train ls", ["-n=train"], "ls"),
        ("-r3 ls", ["-r3"], "ls"),
        ("-r -3 ls", ["-r", "-3"], "ls"),
        ("-n -r ls", ["-n", "-r"], "ls"),
        ("-n --live ls", ["-n", "--live"], "ls"),
        ("-f ls", ["-f"], "ls"),
        ("-fv ls", ["-fv"], "ls"),
        ("-vvv ls", ["-vvv"], "ls"),
        ("--verbose --verbose ls", ["--verbose", "--verbose"], "ls"),
        ("-fvn train ls", ["-fvn", "train"], "ls"),
        ("-fvntrain ls", ["-fvntrain"], "ls"),
        ("-fvr=3 ls", ["-fvr=3"], "ls"),
        ("--live ls", ["--live"], "ls"),
        ("--no-live ls", ["--no-live"], "ls"),
        ("-L ls", ["-L"], "ls"),
        ("-Lf ls", ["-Lf"], "ls"),
        ("--mode ls", ["--mode"], "ls"),
        ("--size 3 4 ls", ["--size", "3", "4"], "ls"),
        ("--size=3 4 ls", ["--size=3", "4"], "ls"),
        ("--wait", ["--wait"], ""),
        ("--wait -f ls", ["--wait", "-f"], "ls"),
        ("--wait -- ls", ["--wait"], "ls"),
        ("--wait 5 ls", ["--wait", "5"], "ls"),
        ("--wait=5 ls", ["--wait=5"], "ls"),
        ("-w5 ls", ["-w5"], "ls"),
        ("-fw ls", ["-fw", "ls"], ""),
        ("-e A=1 --env B=2 ls", ["-e", "A=1", "--env", "B=2"], "ls"),
        ("-h", ["-h"], ""),
        ("--help", ["--help"], ""),
        ("-n x -h ls", ["-n", "x", "-h"], "ls"),
        ("-fh ls", ["-fh"], "ls"),
        ("-n x", ["-n", "x"], ""),
        ("-n\tx\tls  -l", ["-n", "x"], "ls  -l"),
        ("-n x \\\n -f \\\n ls \\\n -l", ["-n", "x", "-f"], "ls \\\n -l"),
        ("\n-f\nls\n", ["-f"], "ls"),
    ],
)
def test_options_end_at_the_first_word_that_is_none(line, options, rest):
    """Short, long, attached, combined, repeated, with one value, two, or none."""
    assert (options, rest) == split_options(line, enqueue)


@pytest.mark.parametrize(
    ("line", "options", "rest"),
    [
        ("--", [], ""),
        ("-- ", [], ""),
        ("-- ls", [], "ls"),
        ("--\tls", [], "ls"),
        ("-- -n x", [], "-n x"),
        ("-- --strange", [], "--strange"),
        ("-- -- ls", [], "-- ls"),
        ("-f -- -x", ["-f"], "-x"),
        ("-n x --", ["-n", "x"], ""),
        ("--name='--' ls", ["--name=--"], "ls"),
        ("-n '--' ls", ["-n", "--"], "ls"),
        ("ls -- x", [], "ls -- x"),
        ("- ls", [], "- ls"),
        ("-", [], "-"),
        ("-f - | cat", ["-f"], "- | cat"),
        ("-n - ls", ["-n", "-"], "ls"),
        ("'-f' ls", [], "'-f' ls"),
        ('"--name" x', [], '"--name" x'),
        ("\\-f ls", [], "\\-f ls"),
        ("-'f' ls", [], "-'f' ls"),
        ("-'' ls", [], "-'' ls"),
        ("-\\f ls", [], "-\\f ls"),
        ("--'' ls", [], "ls"),
        ("–n x", [], "–n x"),  # noqa: RUF001 - a dash that a word processor made
        ("+x ls", [], "+x ls"),
    ],
)
def test_two_dashes_end_the_options_and_one_dash_is_none(line, options, rest):
    """After `--` everything is the command; a lone or a quoted dash begins it."""
    assert (options, rest) == split_options(line, enqueue)


@pytest.mark.parametrize(
    "rest",
    [
        "echo 'a  b'   \"c\"",
        'echo "it\'s"',
        "echo it's unbalanced \"",
        "a | b > c 2>&1; d && e & f",
        "for f in *; do echo $f; done",
        "# a comment",
        "echo a # b",
        "grep -v --name x -n -- y",
        "awk '{print $1}' {path}",
        "echo \\",
        "echo a\\ b",
        "echo a\\ ",
        "echo 'a' \\\\",
        "echo a\n\n\techo b",
        "echo %x %%y ?z !a",
        "echo \u00a0 é 🙂",
        "=x ls",
        "-",
    ],
)
@pytest.mark.parametrize("options", ["", "-f ", "--name 'my job' ", "-- "])
def test_the_command_is_the_very_text_that_was_typed(options, rest):
    """Quotes, pipes, `--flags`, `;`, `#` and odd blanks are the shell's to read."""
    assert rest == split_options(options + rest, enqueue)[1]


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("  \t ls \r\n", "ls"),
        (" -f \t ls  -l \n", "ls  -l"),
        ("-- \n ls\\  ", "ls\\ "),
        ("ls \\\\  ", "ls \\\\"),
        ("ls \\\\\\  ", "ls \\\\\\ "),
        ("\u00a0ls\u00a0", "\u00a0ls\u00a0"),
    ],
)
def test_only_the_blanks_around_the_command_are_taken_off(line, rest):
    """A last blank that a backslash quotes is part of the command."""
    assert rest == split_options(line, enqueue)[1]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ('--name "my job" ls', ["--name", "my job"]),
        ("--name 'my job' ls", ["--name", "my job"]),
        ("--name my\\ job ls", ["--name", "my job"]),
        ('--name="my job" ls', ["--name=my job"]),
        ('"--name=my job" ls', []),
        ('--na"me=my job" ls', ["--name=my job"]),
        ("--env 'A=b c' ls", ["--env", "A=b c"]),
        ('--env=A="b c" ls', ["--env=A=b c"]),
        ("-eA='b c'\"d e\"f ls", ["-eA=b cd ef"]),
        ("-n '' ls", ["-n", ""]),
        ("--name= ls", ["--name="]),
        ("-n 'a\"b' ls", ["-n", 'a"b']),
        ('-n "it\'s" ls', ["-n", "it's"]),
        ('-n "a\\"b\\\\c\\$d\\`e\\f" ls', ["-n", 'a"b\\c$d`e\\f']),
        ("-n 'a\\b' ls", ["-n", "a\\b"]),
        ("-n a\\\nb ls", ["-n", "ab"]),
        ('-n "a\\\nb" ls', ["-n", "ab"]),
        ("-n 'a\nb' ls", ["-n", "a\nb"]),
        ("-n $HOME/*.py~ ls", ["-n", "$HOME/*.py~"]),
        ("-n #1 ls", ["-n", "#1"]),
        ("-n a;b ls", ["-n", "a;b"]),
        ("-n a\u00a0b ls", ["-n", "a\u00a0b"]),
    ],
)
def test_the_words_of_options_follow_the_quoting_of_the_shell(line, options):
    """Quotes and backslashes are taken away; nothing is expanded."""
    words, rest = split_options(line, enqueue)

    assert options == words
    assert rest.endswith("ls")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--nmae x ls",
            "enqueue has no option --nmae. Did you mean '--name'? " + OPTIONS_FIRST,
        ),
        (
            "-f --evn=TOKEN=secret ls",
            "enqueue has no option --evn. Did you mean '--env'? " + OPTIONS_FIRST,
        ),
        (
            "--zzz ls",
            "enqueue has no option --zzz. " + OPTIONS_FIRST,
        ),
        (
            "-x ls",
            "enqueue has no option -x. " + OPTIONS_FIRST,
        ),
        (
            "-fxSECRET ls",
            "enqueue has no option -x. " + OPTIONS_FIRST,
        ),
        (
            "-5 ls",
            "enqueue has no option -5. " + OPTIONS_FIRST,
        ),
        ("--name", "--name needs a value, and none follows it: write `--name VALUE`"),
        ("-n", "-n needs a value, and none follows it: write `-n VALUE`"),
        ("-fvn ", "-n needs a value, and none follows it: write `-n VALUE`"),
        ("--name -- ls", "--name needs a value, and none follows it: write `--name VALUE`"),
        ("--size 3", "--size needs a value, and none follows it: write `--size VALUE`"),
        ("--size=3", "--size needs a value, and none follows it: write `--size VALUE`"),
        ("--force=1 ls", "--force is a switch and takes no value: write it without the `=`"),
        ("--no-live=1 ls", "--no-live is a switch and takes no value: write it without the `=`"),
        ("--help=me ls", "--help is a switch and takes no value: write it without the `=`"),
        ("-f=1 ls", "-f is a switch and takes no value: write it without the `=`"),
        (
            "--env 'TOKEN=secret ls",
            "the quote ' at character 7 of the line is never closed",
        ),
        (
            '-eTOKEN="secret ls',
            'the quote " at character 9 of the line is never closed',
        ),
        (
            "-n don't ls",
            "the quote ' at character 7 of the line is never closed",
        ),
        (
            "-n x\\",
            "a backslash at the end of the line quotes nothing: double it, or take it away",
        ),
    ],
)
def test_options_that_cannot_be_read_are_refused(line, message):
    """One line that says what, which and what now, and never shows a value."""
    with pytest.raises(InvalidInputError) as caught:
        split_options(line, enqueue)

    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("line", "options", "rest"),
    [
        ("--help x", ["--help"], "x"),
        ("-h node1 x", ["-h", "node1"], "x"),
    ],
)
def test_a_command_may_use_the_names_of_the_help_for_something_else(line, options, rest):
    """`-h` and `--help` are known to every command, and are what it says they are."""
    assert (options, rest) == split_options(line, logs)


@pytest.mark.parametrize(
    "line",
    [
        "-n train ls -l",
        "-fvvn train --live --size 3 4 ls",
        "--size=3 4 -e A=1 -eB=2 --no-live ls",
        "--wait 5 ls",
        "--wait -f ls",
        "-w5 -L --mode ls",
        "-n -r -r3 ls",
        "-n '' ls",
        "-n=x ls",
        "-- ls",
        "-n x -- -f",
    ],
)
def test_click_reads_the_same_options_in_a_terminal(line):
    """The words that we took are those that Click takes; the command is the rest."""
    words, rest = split_options(line, enqueue)

    in_a_terminal = enqueue.main(shlex.split(line), standalone_mode=False)
    in_a_notebook = enqueue.main([*words, "--", *shlex.split(rest)], standalone_mode=False)

    assert in_a_terminal == in_a_notebook


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   ", []),
        ("3", ["3"]),
        ("3 train  j4\t5\n6", ["3", "train", "j4", "5", "6"]),
        ("'my job' \"x y\" a\\ b", ["my job", "x y", "a b"]),
        ("--grep 'loss: ' -n 50", ["--grep", "loss: ", "-n", "50"]),
        ("--state=dead -- -x", ["--state=dead", "--", "-x"]),
        ("'' \"\"", ["", ""]),
        ("a'b'\"c\"d", ["abcd"]),
        ('"a\\"b" "a\\b" \'a\\b\'', ['a"b', "a\\b", "a\\b"]),
        ("a#b #c; $d *", ["a#b", "#c;", "$d", "*"]),
        ("a \\\n b", ["a", "b"]),
        ("größe 🙂", ["größe", "🙂"]),
    ],
)
def test_the_words_of_other_verbs_are_split_as_the_shell_does(line, words):
    """Quotes hold blanks together and go away; comments and variables mean nothing here."""
    assert words == split_words(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 'b", "the quote ' at character 3 of the line is never closed"),
        ('a b"c', 'the quote " at character 4 of the line is never closed'),
        ("don't", "the quote ' at character 4 of the line is never closed"),
        ("'a' \"b\\\"", 'the quote " at character 5 of the line is never closed'),
        ("a \\", "a backslash at the end of the line quotes nothing"),
    ],
)
def test_words_that_cannot_be_split_are_refused(line, message):
    """In our words, with the place where it went wrong."""
    with pytest.raises(InvalidInputError) as caught:
        split_words(line)

    assert str(caught.value).startswith(message)


@given(words=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_quoted_words_come_back_as_they_were(words):
    """Whatever `shlex.join` quotes, we read."""
    assert words == split_words(shlex.join(words))


@given(line=st.text(st.sampled_from("-nfv='\"\\ \t\nxé#;|")))
@settings(max_examples=500)
def test_any_line_is_split_or_refused(line):
    """However broken: the rest is a piece of the line, or one of our errors says why not."""
    try:
        _, rest = split_options(line, enqueue)
    except InvalidInputError:
        return

    assert rest in line


def test_a_long_word_is_read_quickly():
    """Reading takes one pass, however long the line and wherever its quote is left open."""
    line = "-n '" + 'a"\\' * 200_000 + "' ls " + "'\"" * 99_999

    assert "ls" == split_options(line, enqueue)[1][:2]


def test_the_module_needs_no_notebook():
    """It is Click and our errors: no IPython, no pandas."""
    tree = ast.parse(Path(grammar.__file__).read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]

    assert ["__future__", "re", "click", "queuectl_magics.errors"] == [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in found
    ]
