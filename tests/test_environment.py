"""A command gets the environment of whoever enqueued it, and nobody else gets to see it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from queuectl_magics import environment
from queuectl_magics.errors import InvalidInputError, StoreDamagedError

SECRET = "s3cr3t-value"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where environments are kept."""
    folder = tmp_path / "env"
    folder.mkdir(mode=0o700)
    return folder


# --- what is captured ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["JPY_PARENT_PID", "JPY_INTERRUPT_EVENT", "JPY_SESSION_NAME", "QUEUECTL_JOB_ID", "_",
     "QUEUECTL_ATTEMPT", "QUEUECTL_RUN", "OLDPWD", "PWD", "SHLVL"],
)  # fmt: skip
def test_what_speaks_of_one_process_alone_is_left_out(name):
    """A kernel's parent, a shell's depth and a job's own number mean nothing to another job."""
    kept = environment.capture({name: "1", "HOME": "/h"})

    assert {"HOME": "/h", "PYTHONUNBUFFERED": "1"} == kept


def test_environment_of_this_process_is_the_default(monkeypatch):
    """Without a word it is our own; an empty one is empty, and not ours."""
    monkeypatch.setenv("OF_THIS_PROCESS", "1")

    assert "1" == environment.capture()["OF_THIS_PROCESS"]
    assert {"PYTHONUNBUFFERED": "1"} == environment.capture({})


@pytest.mark.parametrize(("given", "kept"), [({}, "1"), ({"PYTHONUNBUFFERED": ""}, "")])
def test_python_is_unbuffered_unless_the_user_says_otherwise(given, kept):
    """Logs are live; an empty value is the user's way to say no."""
    assert kept == environment.capture(given)["PYTHONUNBUFFERED"]


@pytest.mark.parametrize(
    ("backend", "kept"),
    [("module://matplotlib_inline.backend_inline", None), ("Agg", "Agg"), ("", "")],
)
def test_plotting_back_end_of_a_kernel_is_left_out(backend, kept):
    """The inline back end exists in kernels only; one that the user chose stays."""
    assert kept == environment.capture({"MPLBACKEND": backend}).get("MPLBACKEND")


def test_folder_of_the_kernels_python_comes_first():
    """`python` in a command is the notebook's own."""
    kept = environment.capture({"PATH": "/usr/bin:/bin"}, python="/venv/bin/python")

    assert "/venv/bin:/usr/bin:/bin" == kept["PATH"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/venv/bin:/bin", "/venv/bin:/bin"),
        ("/bin:/venv/bin", "/venv/bin:/bin:/venv/bin"),
        ("/venv/binary:/bin", "/venv/bin:/venv/binary:/bin"),
        (None, f"/venv/bin:{os.defpath}"),
    ],
)
def test_path_is_changed_only_where_it_has_to_be(before, after):
    """Already first: left alone. Further behind: moved before all others. No PATH: made one."""
    given = {} if before is None else {"PATH": before}

    assert after == environment.capture(given, python="/venv/bin/python")["PATH"]


@pytest.mark.parametrize("python", [None, "", "python"])
def test_unknown_python_changes_no_path(python):
    """The current directory never slips into PATH."""
    assert "/bin" == environment.capture({"PATH": "/bin"}, python=python)["PATH"]


def test_virtual_environment_is_named():
    """Tools that look at VIRTUAL_ENV see the one that PATH starts with."""
    kept = environment.capture({"VIRTUAL_ENV": "/other"}, python=sys.executable)

    expected = sys.prefix if sys.prefix != sys.base_prefix else "/other"
    assert expected == kept["VIRTUAL_ENV"]


@pytest.mark.parametrize(
    "given", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": f"{SECRET}\0"}, {"A": 1}, {1: "A"}]
)
def test_variables_that_no_process_can_be_given_are_refused(given):
    """Before they are kept, and without a word of a value."""
    with pytest.raises(InvalidInputError, match="cannot be given to a process") as refused:
        environment.capture(given)

    assert SECRET not in str(refused.value)


def test_variable_without_a_name_that_was_inherited_is_left_out(monkeypatch):
    """Nobody can take it away in a shell, and no process of ours could be given it."""
    monkeypatch.setattr(environment, "_own", {})
    monkeypatch.setattr(os, "environ", {"": "x", "A": "1"})

    assert {"A": "1", "PYTHONUNBUFFERED": "1"} == environment.capture()


def test_capture_leaves_what_it_was_given_alone():
    """Neither the mapping nor the process's own environment is changed."""
    given = {"PATH": "/bin", "SHLVL": "1"}
    before = dict(os.environ)
    environment.capture(given, python="/venv/bin/python")

    assert {"PATH": "/bin", "SHLVL": "1"} == given
    assert before == dict(os.environ)


# --- keeping and recalling -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"A": "1"},
        {"B": "2", "A": "a b\nc\td", "EMPTY": ""},
        {"EQUALS": "a=b=c", "UNICODE": "ü 漢字 🚀", "QUOTES": '"it\'s"'},
        {"BYTES": os.fsdecode(b"caf\xe9 \xff")},
        {f"N{number}": "x" * 1000 for number in range(200)},
    ],
)
def test_what_is_kept_is_recalled(folder, variables):
    """Any value that a process can have comes back as it was."""
    reference = environment.keep(folder, variables)

    assert variables == environment.recall(folder, reference)


def test_no_reference_means_no_variables(folder):
    """A job that was given none has no file of its own."""
    assert {} == environment.recall(folder, None)


def test_same_variables_share_a_file(folder):
    """A thousand jobs of one notebook keep their environment once, in whatever order it came."""
    references = {
        environment.keep(folder, {"A": "1", "B": "2"}),
        environment.keep(folder, {"B": "2", "A": "1"}),
    }

    assert 1 == len(references)
    assert 1 == len(list(folder.iterdir()))


def test_own_environment_is_read_once_and_known_again(folder, monkeypatch):
    """Every `enqueue` asks: while nothing changes it costs a look, and no file is read."""
    reference = environment.keep(folder, environment.capture())
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read again"))

    assert reference == environment.keep(folder, environment.capture())


def test_change_of_the_own_environment_is_noticed(folder, monkeypatch):
    """Set, changed and unset: each enqueued job gets what holds at that moment."""
    references = [environment.keep(folder, environment.capture())]
    for value in ("1", "2"):
        monkeypatch.setenv("OF_THIS_PROCESS", value)
        references.append(environment.keep(folder, environment.capture()))
        assert value == environment.recall(folder, references[-1])["OF_THIS_PROCESS"]
    monkeypatch.delenv("OF_THIS_PROCESS")
    references.append(environment.keep(folder, environment.capture()))

    assert references[0] == references[3]
    assert 3 == len(set(references))


@pytest.mark.parametrize("how", ["removed", "altered", "replaced"])
def test_own_environment_is_kept_again_when_its_file_changed(folder, how):
    """That it was kept a moment ago does not mean that it is there."""
    reference = environment.keep(folder, environment.capture())
    path = folder / f"{reference}.env"
    text = path.read_bytes()
    if how == "altered":
        path.write_bytes(text[:-2] + b"?\0")
        os.utime(path, (1, 1))
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(text[:-2] + b"?\0")

    assert reference == environment.keep(folder, environment.capture())
    environment.keep_again(folder, reference, environment.capture())
    assert text == path.read_bytes()


def test_other_variables_are_kept_again_when_their_file_is_gone(folder):
    """Those of one job are not remembered; what lies there is theirs by its name."""
    reference = environment.keep(folder, {"TOKEN": SECRET})
    path = folder / f"{reference}.env"
    before = path.stat()
    environment.keep_again(folder, reference, {"TOKEN": SECRET})
    assert before == path.stat()
    path.unlink()
    environment.keep_again(folder, reference, {"TOKEN": SECRET})

    assert {"TOKEN": SECRET} == environment.recall(folder, reference)


def test_each_folder_and_each_mapping_is_looked_at(folder, tmp_path):
    """What was kept elsewhere is not here; a mapping that was changed is another one."""
    captured, given = environment.capture(), {"A": "1"}
    (tmp_path / "other").mkdir()
    for place in (folder, tmp_path / "other"):
        assert (place / f"{environment.keep(place, captured)}.env").exists()
    first = environment.keep(folder, given)
    given["A"] = "2"

    assert {"A": "2"} == environment.recall(folder, environment.keep(folder, given))
    assert {"A": "1"} == environment.recall(folder, first)


def test_what_is_captured_or_recalled_cannot_be_changed(folder):
    """It is handed out again and again: whoever adds something makes a mapping of his own."""
    reference = environment.keep(folder, environment.capture())
    for shared in (environment.capture(), environment.recall(folder, reference)):
        with pytest.raises(TypeError):
            shared["A"] = "1"


def test_other_variables_have_another_file(folder):
    """A name is told by the content: names and values cannot run into each other."""
    variables = [{"A": "1"}, {"A": "2"}, {"B": "1"}, {"A": "1\nB=1"}, {"A": "1", "B": "1"}]

    assert 5 == len({environment.keep(folder, given) for given in variables})


def test_file_is_readable_by_its_owner_only(folder):
    """0600, whatever the umask."""
    before = os.umask(0)
    try:
        environment.keep(folder, {"TOKEN": SECRET})
    finally:
        os.umask(before)

    assert [0o600] == [path.stat().st_mode & 0o777 for path in folder.iterdir()]


def alter(path: Path) -> None:
    """Change one value."""
    path.write_bytes(path.read_bytes().replace(SECRET.encode(), b"another-value"))


ALTERATIONS = {
    "another value": alter,
    "one more variable": lambda path: path.write_bytes(path.read_bytes() + b"LD_PRELOAD=x\0"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_altered_file_is_refused_without_showing_a_value(folder, how):
    """A command never runs in an environment that is not the one it was enqueued with."""
    reference = environment.keep(folder, {"TOKEN": SECRET})
    path = next(folder.iterdir())
    ALTERATIONS[how](path)

    with pytest.raises(
        StoreDamagedError, match="missing or was altered: enqueue it again"
    ) as seen:
        environment.recall(folder, reference)
    assert str(path) in str(seen.value)
    assert SECRET not in repr(seen.value)
    assert seen.value.__cause__ is None


def test_enqueueing_again_mends_an_altered_file(folder):
    """The way out that the error names is one."""
    reference = environment.keep(folder, {"TOKEN": SECRET})
    alter(next(folder.iterdir()))

    assert reference == environment.keep(folder, {"TOKEN": SECRET})
    assert {"TOKEN": SECRET} == environment.recall(folder, reference)


def test_many_threads_may_keep_the_same_variables_at_once(folder):
    """No draft of one is taken for that of another, and none is left over."""
    start, problems = threading.Barrier(8), []
    variables = {"A": "x" * 100_000}

    def keep() -> None:
        start.wait()
        try:
            reference = environment.keep(folder, variables)
            assert variables == environment.recall(folder, reference)
        except Exception as problem:  # noqa: BLE001 - told below
            problems.append(problem)

    threads = [threading.Thread(target=keep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == problems
    assert 1 == len(list(folder.iterdir()))


def test_full_disk_leaves_no_draft(folder, monkeypatch):
    """A failed keep raises and leaves the folder as it was."""

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        environment.keep(folder, {"A": "1"})
    monkeypatch.undo()

    assert [] == list(folder.iterdir())


# --- from the door to the command ----------------------------------------------------------------


def test_job_of_a_process_with_odd_bytes_in_its_environment_runs(terminal, own_home):
    """One variable in another encoding must not make the whole queue unusable."""
    odd = "import os; os.environb[b'ODD'] = b'caf\\xe9'"
    process = terminal.start("enqueue", 'printf %s "$ODD" | od -An -tx1', before=odd)
    said, _ = process.communicate(timeout=60)
    terminal.run("run")

    assert 0 == process.returncode, said
    assert "63 61 66 e9" == (own_home / "logs" / "1.1.log").read_text().strip()


def test_values_reach_the_command_and_nothing_else(terminal, own_home, tmp_path):
    """A value given with --env is in the command's environment and in one private file."""
    said = terminal.run("enqueue", "--env", f"TOKEN={SECRET}", 'test -n "$TOKEN" && echo yes')
    for arguments in (["run"], ["status"], ["list"], ["show", "1"], ["list", "--json"]):
        said += terminal.run(*arguments)
    holding = subprocess.run(
        ["grep", "-rl", SECRET, str(tmp_path)], capture_output=True, text=True, check=False
    ).stdout.split()

    assert "yes\n" == (own_home / "logs" / "1.1.log").read_text()
    assert SECRET not in said
    assert "TOKEN" in said
    assert [str(own_home / "env")] == [os.path.dirname(path) for path in holding]
