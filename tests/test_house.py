"""The house's rules, read off its source: how long, how named, what imports what."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "queuectl_magics"
SOURCES = sorted(PACKAGE.rglob("*.py"))

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
BANNED = {"manager", "util", "helper", "handler", "task"}
STATE_SETTERS = {"JobRecord", "replace", "_replace", "__replace__"}
ATTRIBUTE_SETTERS = {"setattr", "__setattr__", "force_setattr"}
READS_FOREIGN_STATES = ("codec.py", "decode_classic_jobs")

KINDS = {".py", ".js", ".css"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def where(path: Path, line: int | None = None) -> str:
    """Say where something is, as an editor likes it."""
    return f"{path.relative_to(ROOT)}:{line}" if line else f"{path.relative_to(ROOT)}"


def parse(path: Path) -> ast.Module:
    """Read a source file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def words_of(name: str) -> set[str]:
    """Split `snake_case` and `CamelCase` into words, lower case, singular."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return {word.lower().removesuffix("s") for word in words}


def paragraphs(text: str | None) -> int:
    """Count what blank lines separate."""
    return len([part for part in re.split(r"\n\s*\n", text or "") if part.strip()])


def name_called(call: ast.Call) -> str:
    """Return the last word of what is called: `replace` for `msgspec.structs.replace(…)`."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def state_assignments(tree: ast.AST, *, allowed: str | None = None) -> Iterator[int]:
    """Yield the lines on which a job is given a state, but for the function *allowed*."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function) and node.name == allowed:
            continue
        match node:
            case ast.Attribute(attr="state", ctx=ast.Store() | ast.Del()):
                yield node.lineno
            case ast.Call() if name_called(node) in STATE_SETTERS and any(
                keyword.arg == "state" for keyword in node.keywords
            ):
                yield node.lineno
            case ast.Call() if name_called(node) in ATTRIBUTE_SETTERS and any(
                isinstance(arg, ast.Constant) and arg.value == "state" for arg in node.args
            ):
                yield node.lineno
        yield from state_assignments(node, allowed=allowed)


def modules_after(code: str, cwd: Path) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after *code*."""
    script = (
        f"{code}\nimport sys\nprint('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    )
    environment = {
        **os.environ,
        "IPYTHONDIR": str(cwd / "ipython"),
        "PYTHONPATH": str(ROOT),
        "QUEUECTL_HOME": str(cwd / ".queuectl"),
    }
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        cwd=cwd,
        env=environment,
        text=True,
        timeout=60,
    )

    assert 0 == run.returncode, run.stderr
    return set(run.stdout.rpartition("LOADED")[2].split())


def test_there_is_a_house_to_look_at():
    """The rules below are about real files: none of them passes for want of any."""
    assert {"lifecycle.py", "codec.py"} <= {path.name for path in SOURCES}


def test_package_holds_nothing_but_its_source():
    """What a merge or an editor leaves behind does not reach the people who install us."""
    strays = [
        where(path)
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and path.suffix not in KINDS | {".pyc"} and path.name != "py.typed"
    ]

    assert [] == strays


def test_every_file_is_at_most_400_lines():
    """A file can be read in one sitting."""
    long = [
        f"{where(path)} has {lines} lines"
        for path in SOURCES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES_MAX
    ]

    assert [] == long


def test_every_function_is_at_most_70_lines():
    """A function fits on a screen, docstring included."""
    long = [
        f"{where(path, node.lineno)} {node.name} has {lines} lines"
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, Function)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]

    assert [] == long


def test_every_module_says_what_it_is_and_why():
    """A module opens with a sentence of what, then a paragraph of why and which rule holds."""
    silent = [where(path) for path in SOURCES if paragraphs(ast.get_docstring(parse(path))) < 2]

    assert [] == silent


def test_no_file_or_folder_has_a_name_that_says_nothing():
    """No manager, util, helper, handler or task: a file is named after what it is about."""
    vague = [
        where(path)
        for path in sorted(PACKAGE.rglob("*"))
        if BANNED & words_of(path.stem) and path.suffix != ".pyc"
    ]

    assert [] == vague


def test_no_class_or_function_has_a_name_that_says_nothing():
    """The same for classes and functions, in any case and in the plural."""
    vague = [
        f"{where(path, node.lineno)} {node.name}"
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, Function | ast.ClassDef) and BANNED & words_of(node.name)
    ]

    assert [] == vague


def test_only_the_lifecycle_gives_a_job_a_state():
    """Live changes and replay go through `evolve`; only another tool's file comes with a state."""
    assigned = [
        where(path, line)
        for path in SOURCES
        if path.name != "lifecycle.py"
        for line in state_assignments(
            parse(path),
            allowed=READS_FOREIGN_STATES[1] if path.name == READS_FOREIGN_STATES[0] else None,
        )
    ]

    assert [] == assigned


@pytest.mark.parametrize(
    "code",
    [
        "job.state = State.DEAD",
        "a, job.state = 1, State.DEAD",
        "job.state += 'x'",
        "job: int\njob.state: State = State.DEAD",
        "replace(job, state=State.DEAD)",
        "msgspec.structs.replace(job, state=State.DEAD)",
        "def f():\n    return [JobRecord(id='1', state=State.DEAD)]",
        "object.__setattr__(job, 'state', State.DEAD)",
        "force_setattr(job, 'state', State.DEAD)",
    ],
)
def test_each_way_of_giving_a_job_a_state_is_seen(code):
    """The rule above has eyes: it finds an assignment however it is spelt."""
    assert [len(code.splitlines())] == list(state_assignments(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "state = job.state",
        "find(state=State.DEAD)",
        "replace(job, attempts=1)",
        "def decode():\n    JobRecord(state=State.DEAD)",
    ],
)
def test_reading_a_state_is_free(code):
    """The rule above is about giving a state; it can be told of one function that may."""
    assert [] == list(state_assignments(ast.parse(code), allowed="decode"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("JobManager", {"job", "manager"}),
        ("_string_utils", {"string", "util"}),
        ("HTTPHandler2", {"http", "handler", "2"}),
        ("multitasking", {"multitasking"}),
    ],
)
def test_a_name_is_split_into_its_words(name, words):
    """Snake and camel case, acronyms and plurals; a word inside a word does not count."""
    assert words == words_of(name)


def test_importing_the_package_loads_no_heavy_library(tmp_path):
    """`import queuectl_magics` is quick: pandas and widgets wait until something is shown."""
    loaded = modules_after("import queuectl_magics", tmp_path)

    assert "queuectl_magics" in loaded
    assert set() == {"pandas", "ipywidgets", "anywidget"} & loaded


def test_load_ext_loads_no_heavy_library(tmp_path):
    """`%load_ext queuectl_magics` is as quick."""
    loaded = modules_after(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance().run_line_magic('load_ext', 'queuectl_magics')\n"
        "assert 'enqueue' in InteractiveShell.instance().magics_manager.magics['line']",
        tmp_path,
    )

    assert set() == {"pandas", "ipywidgets", "anywidget"} & loaded


def test_the_command_line_loads_neither_ipython_nor_pandas(tmp_path):
    """`queuectl` in a terminal answers at once: it needs no notebook."""
    loaded = modules_after("import queuectl_magics.cli", tmp_path)

    assert set() == {"IPython", "pandas", "ipywidgets", "anywidget"} & loaded


def test_imports_point_downward():
    """The layers of `pyproject.toml` hold, every file stands in one, and the core does no I/O."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=60,
    )

    assert 0 == run.returncode, run.stdout + run.stderr
