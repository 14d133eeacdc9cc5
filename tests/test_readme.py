"""What the README says is so: its table, its verbs, its options, its lines of code, its links."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl_magics.commands import verbs
from queuectl_magics.commands.verb import Family
from queuectl_magics.job import State
from queuectl_magics.lifecycle import TRANSITIONS
from queuectl_magics.magics.hiding import expand_hiding
from queuectl_magics.settings import PARSERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ONLY_IN_NOTEBOOKS = {"--out", "-o", "--expand", "-e"}
EVERY_VERB_HAS = {"--json"}
FAMILIES = {name for name, verb in verbs.items() if isinstance(verb, Family)}

# Runs its standard input as one cell of a fresh IPython, then names the magics that are there.
RUN_CELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
shell.run_cell(sys.stdin.read()).raise_error()
magics = shell.magics_manager.magics
print("magics:", *("%" + name for name in magics["line"]), *("%%" + n for n in magics["cell"]))
"""


def section(heading: str) -> str:
    """Return what stands under *heading*, up to the next one of its level or above."""
    _, _, rest = README.partition(f"\n{heading}\n")
    assert rest, f"the README has no heading {heading!r}"
    level = heading.split(" ", 1)[0]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table in *text*, its header first, the rule left out."""
    found = re.search(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert found is not None
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()
    ]
    return [table[0], *table[2:]]


def code(language: str) -> list[str]:
    """Return the fenced blocks in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """Return what is set as code within lines of text."""
    return re.findall(r"`([^`\n]+)`", text)


def all_verbs() -> Iterator[str]:
    """Yield every verb, those of a family with its name in front."""
    for name, command in verbs.items():
        if isinstance(command, Family):
            yield from (f"{name} {inner}" for inner in command.commands)
        else:
            yield name


def run(arguments: list[str], folder: Path, text: str | None = None) -> str:
    """Run a process in *folder*, which holds the queue's home; return what it printed."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("QUEUECTL_")}
    environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ.get("PATH", "")
    environ["IPYTHONDIR"] = str(folder / "ipython")
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_lifecycle_table_is_the_one_in_the_code() -> None:
    """Row by row and cell by cell, with a dot where an event is impossible."""
    header, *body = rows(section("## The lifecycle"))
    events = {event.__name__: event for row in TRANSITIONS.values() for event in row}

    assert {"state", *events} == set(header)
    assert {
        state.value: {
            name: row[event].value if event in row else "·" for name, event in events.items()
        }
        for state, row in TRANSITIONS.items()
    } == {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in body}


def test_the_lifecycle_table_has_each_state_once() -> None:
    """A row a state."""
    assert sorted(State) == sorted(line[0] for line in rows(section("## The lifecycle"))[1:])


def test_every_verb_has_a_row_and_every_row_is_a_verb() -> None:
    """In the terminal's words and in the notebook's."""
    table = rows(section("## Verbs and magics"))[1:]
    magic = {name: f"%queue_{name}" for name in all_verbs()} | {"enqueue": "%enqueue"}

    assert {f"queuectl {name}": magic[name] for name in all_verbs()} == {
        spans(terminal)[0]: spans(notebook)[0] for terminal, notebook, _ in table
    }


def test_every_command_that_is_named_exists() -> None:
    """Anywhere in the text, but where it says what is not there yet."""
    text = README.replace(section("### Not yet"), "")
    for words in re.findall(r"queuectl ([a-z]+(?: [a-z]+)?)(?![\w-])", "\n".join(spans(text))):
        first, _, second = words.partition(" ")

        assert first in verbs
        if first in FAMILIES:
            assert second in verbs[first].commands


def test_the_options_of_enqueue_are_all_there_and_no_others() -> None:
    """With their short forms; the ones that a notebook adds, too."""
    params = verbs["enqueue"].params
    real = {name for param in params for name in param.opts if name.startswith("-")}
    table = rows(section("### Options of enqueue"))[1:]
    named = [name for row in table for name in re.findall(r"(?<![\w-])--?[a-z][\w-]*", row[0])]

    assert sorted((real - EVERY_VERB_HAS) | ONLY_IN_NOTEBOOKS) == sorted(named)


def test_the_settings_are_all_named() -> None:
    """In one sentence below the verbs."""
    sentence = re.search(r"The settings are (.*?)\.", section("## Verbs and magics"), re.DOTALL)

    assert sentence is not None
    assert list(PARSERS) == spans(sentence[1])


def test_the_braces_do_what_the_table_says() -> None:
    """What is typed becomes what runs."""
    names = {"path": "my notes.txt", "lr": 0.001, "files": ["a.csv", "b.csv"], "auth": "x"}
    for typed, runs, _ in rows(section("### `{expr}`, `$name` and `{{ }}`"))[1:]:
        command = spans(typed)[0].removeprefix("%enqueue ")
        expected = command if runs == "the same" else spans(runs)[0]

        assert expected == expand_hiding(command, names)[0]


@pytest.mark.parametrize("block", code("python"))
def test_the_lines_of_python_run(block: str, tmp_path: Path) -> None:
    """As they stand, in an empty folder."""
    run([sys.executable, "-W", "error", "-c", block], tmp_path)


def test_the_lines_of_the_notebook_run_and_every_magic_is_named(tmp_path: Path) -> None:
    """In a fresh IPython; the magics that it then has are those of the table."""
    (lines,) = code("ipython")
    told = run([sys.executable, "-c", RUN_CELL], tmp_path, lines)
    there = {
        name
        for name in told.rpartition("magics:")[2].split()
        if name in ("%enqueue", "%%job") or name.startswith("%queue_")
    }

    assert there == set(re.findall(r"%%job|%enqueue|%queue_\w+", section("## Verbs and magics")))
    assert there >= set(re.findall(r"%%job|%enqueue|%queue_\w+", README))


def test_the_lines_of_the_terminal_run(tmp_path: Path) -> None:
    """One block after the other: the files that they make are there to be read."""
    for block in code("sh"):
        lines = block.splitlines()
        if shutil.which("jq") is None:
            lines = [line for line in lines if not line.startswith("jq ")]
        told = run(["sh", "-e"], tmp_path, "\n".join(lines))

        assert told


def test_the_commands_of_make_exist() -> None:
    """`make run` and the others are targets."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)

    assert set(re.findall(r"make ([a-z]+)  ", README)) | {"lab"} <= set(targets)


def test_every_promise_names_the_tests_behind_it() -> None:
    """And each of them exists."""
    named = [spans(row[-1]) for row in rows(section("## What is promised"))[1:]]
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", tests, flags=re.MULTILINE))

    assert all(named)
    assert set() == {name for names in named for name in names} - known


def test_relative_links_lead_somewhere() -> None:
    """Files and folders that the README links to exist."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]

    assert links
    assert [] == [link for link in links if not (ROOT / link.partition("#")[0]).exists()]


def test_the_design_is_at_most_ten_short_decisions() -> None:
    """A page that grows is a page that nobody reads."""
    decisions = re.split(r"^\d+\. ", section("## Design"), flags=re.MULTILINE)[1:]

    assert len(decisions) <= 10
    assert [] == [text for text in decisions if len(text.strip().splitlines()) > 5]
