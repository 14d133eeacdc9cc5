"""The magics in a real IPython: what each of them does, and that nothing of them stays behind."""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import threading
from pathlib import Path

import click
import pandas as pd
import pytest
from IPython.lib.pretty import pretty

from queuectl_magics.commands import verbs
from queuectl_magics.commands.enqueueing import enqueue
from queuectl_magics.job import Exit, State
from queuectl_magics.jobqueue import Job, JobList, JobQueue
from queuectl_magics.magics.calling import STOPPED

EXTENSION = "queuectl_magics"


def traces(shell) -> dict[str, object]:
    """Return what an extension may leave behind in a shell and in its process."""
    gc.collect()
    magics = shell.magics_manager.magics
    formatter = shell.display_formatter.ipython_display_formatter
    return {
        "magics": {kind: set(names) for kind, names in magics.items()},
        "attributes": set(vars(shell.magics_manager.user_magics)),
        "configurables": [type(one).__name__ for one in shell.configurables],
        "events": {event: list(calls) for event, calls in shell.events.callbacks.items()},
        "matchers": list(shell.Completer.custom_matchers),
        "formatters": list(formatter.type_printers),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


# --- loading ----------------------------------------------------------------------------------


def test_loading_prints_nothing_and_makes_nothing(notebook, own_home):
    """`%load_ext` is silent, and a queue is made when it is first needed."""
    notebook.run(f"%unload_ext {EXTENSION}")
    before = sorted(os.listdir(own_home.parent))

    cell = notebook.run(f"%load_ext {EXTENSION}")

    assert ("", "", None) == (cell.out, cell.err, cell.error)
    assert before == sorted(os.listdir(own_home.parent))


def test_loading_twice_changes_nothing(notebook):
    """The second `%load_ext` is IPython's to answer."""
    cell = notebook.run(f"%load_ext {EXTENSION}")

    assert "already loaded" in cell.out
    assert 1 == [type(one).__name__ for one in notebook.shell.configurables].count("QueueMagics")


def test_each_verb_is_a_magic(notebook):
    """A new verb needs no other line to appear in a notebook."""
    names = {f"queue_{name}" for name, verb in verbs.items() if verb is not enqueue}

    assert {*names, "enqueue"} <= set(notebook.shell.magics_manager.magics["line"])
    assert "job" in notebook.shell.magics_manager.magics["cell"]


@pytest.mark.parametrize("can_update", [False, True])
def test_unloading_leaves_nothing_behind(make_notebook, can_update):
    """No magic, setting, event, matcher, formatter, thread or open file, however often."""
    notebook = make_notebook(can_update=can_update)
    notebook.run(f"%unload_ext {EXTENSION}")
    notebook.run("%lsmagic\n%config")  # IPython loads some of its own only now
    before = traces(notebook.shell)

    for _ in range(2):
        notebook.run(f"%load_ext {EXTENSION}")
        notebook.run("%enqueue -o job echo a")
        notebook.run(f"%reload_ext {EXTENSION}")
        notebook.run("%queue_wait")
        notebook.run("print(job.output)")
        notebook.run(f"%reload_ext {EXTENSION}")
        notebook.run("job.output")
        notebook.run(f"%unload_ext {EXTENSION}")

    assert before == traces(notebook.shell)
    assert "not found" in notebook.refused("%enqueue a")


def test_unloading_leaves_the_magic_of_another_alone(notebook):
    """Who has replaced `%enqueue` in the meantime keeps it."""
    notebook.shell.register_magic_function(lambda line: "theirs", "line", "enqueue")

    notebook.run(f"%unload_ext {EXTENSION}")

    assert "theirs" == notebook.run("%enqueue a").value


def test_unloading_works_without_the_home(notebook, own_home):
    """The directory may be gone by then."""
    notebook.run("%enqueue true\n%queue_wait")
    own_home.rename(own_home.with_name("moved"))

    assert None is notebook.run(f"%unload_ext {EXTENSION}").error


def test_a_running_job_survives_reloading_and_is_adopted(notebook, own_home, until):
    """`%reload_ext` takes over what was running; it runs once, and its exit code is kept."""
    notebook.run("%enqueue -o job -r 1 echo begun; until [ -e go ]; do sleep 0.05; done; exit 7")
    job = notebook.shell.user_ns["job"]
    until(lambda: "begun" in job.output)

    notebook.run(f"%reload_ext {EXTENSION}")
    notebook.run(f"%reload_ext {EXTENSION}")
    Path("go").touch()
    notebook.run("%queue_wait")

    assert (State.DEAD, 7, "begun\n", 1) == (
        job.state,
        job.exit_code,
        job.output,
        job.record.attempt,
    )


def test_a_job_that_waits_is_run_after_loading(notebook, own_home):
    """A queue that is there already goes on when the extension is loaded."""
    notebook.run(f"%unload_ext {EXTENSION}")
    with JobQueue(own_home) as queue:
        queue.enqueue("echo later")

    notebook.run(f"%load_ext {EXTENSION}\njob = %queue_wait 1")

    assert "later\n" == notebook.shell.user_ns["job"].output


def test_loading_works_with_a_damaged_queue(notebook, own_home):
    """It says so in one line, and so does each verb."""
    notebook.run("%enqueue true\n%queue_wait")
    notebook.run(f"%unload_ext {EXTENSION}")
    (own_home / "journal.jsonl").write_bytes(b"rubbish\n")

    cell = notebook.run(f"%load_ext {EXTENSION}")

    assert cell.out.startswith(f"{EXTENSION}: ")
    assert 1 == cell.out.count("\n")
    assert "journal" in notebook.refused("%queue_list")


def test_loading_works_where_the_directory_was_deleted(notebook, tmp_path):
    """Somebody has removed the directory that the kernel stands in."""
    notebook.run(f"%unload_ext {EXTENSION}")
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    cell = notebook.run(f"%load_ext {EXTENSION}")

    assert (None, "") == (cell.error, cell.out)
    os.chdir(tmp_path)


# --- settings ---------------------------------------------------------------------------------


def test_config_lists_the_settings_with_their_help(notebook):
    """`%config QueueMagics` is the place to look."""
    told = notebook.run("%config QueueMagics").out

    for name in ("home", "plain", "autostart"):
        assert f"QueueMagics.{name}=" in told
    assert "Let %enqueue start the worker of this kernel." in told


def test_config_home_switches_the_queue(notebook, tmp_path):
    """Another home is another queue; what is in the first one is still run."""
    first = notebook.run("%enqueue -o first sleep 0.2; echo one").value

    notebook.run("%config QueueMagics.home = 'other'")
    second = notebook.run("%enqueue echo two").value
    notebook.run("%queue_wait")
    notebook.run("%config QueueMagics.home = ''\n%queue_wait")

    assert (tmp_path / "other", "1") == (second.queue.home, second.id)
    assert (State.COMPLETED, State.COMPLETED) == (first.state, second.state)


def test_the_home_stays_where_it_is_when_the_directory_changes(notebook, own_home, tmp_path):
    """`%cd` does not hide the queue."""
    (tmp_path / "sub").mkdir()
    notebook.run("%enqueue true")

    notebook.run("%cd -q sub")

    assert own_home == notebook.run("%enqueue true").value.queue.home
    notebook.run("%config QueueMagics.home = 'here'")
    assert tmp_path / "sub" / "here" == notebook.run("%enqueue true").value.queue.home


def test_the_environment_names_the_home_at_any_time(notebook, tmp_path, monkeypatch):
    """`QUEUECTL_HOME` counts when a queue is needed, below `%config`."""
    monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "named"))
    assert tmp_path / "named" == notebook.run("%enqueue true").value.queue.home

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QUEUECTL_HOME", "~/mine")
    assert tmp_path / "mine" == notebook.run("%enqueue true").value.queue.home


def test_a_setting_that_does_not_fit_is_refused_and_reloading_works(notebook, own_home):
    """IPython keeps the bad value; we say so in a line and go on with the good ones."""
    notebook.run("%config QueueMagics.home = 'good'")
    notebook.run("%config QueueMagics.plain = 'banana'")

    cell = notebook.run(f"%reload_ext {EXTENSION}")

    assert None is cell.error
    assert 1 == cell.out.count("\n")
    assert "'banana'" in cell.out
    assert own_home.parent / "good" == notebook.run("%enqueue true").value.queue.home


def test_a_home_that_cannot_be_is_refused(notebook):
    """Neither a NUL byte nor a user that there is not ever becomes a home."""
    notebook.run("%config QueueMagics.home = '~nobody-of-this-name/q'")
    assert "" == notebook.run("%config QueueMagics.home").value
    notebook.run(r"%config QueueMagics.home = 'a\0b'")

    assert "cannot be the queue's home" in notebook.run(f"%reload_ext {EXTENSION}").out
    assert "" == notebook.run("%config QueueMagics.home").value


def test_without_autostart_nothing_runs_by_itself(notebook):
    """A person may want the queue only, and another process to work."""
    notebook.run("%config QueueMagics.autostart = False")

    job = notebook.run("%enqueue true").value

    assert [] == job.queue.workers()


# --- enqueue ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("echo a; echo b", "echo a; echo b"),
        ("echo a;", "echo a;"),
        ("echo 'a  b' \"c\" | cat -n", "echo 'a  b' \"c\" | cat -n"),
        ("python t.py --lr 0.1 -n 3", "python t.py --lr 0.1 -n 3"),
        ("-n x -- -e a", "-e a"),
        ("-p 3 -r 0 awk '{print $1}' *.txt", "awk '{print $1}' *.txt"),
        ("for f in *; do echo $f; done", "for f in *; do echo $f; done"),
        ("echo {lr} {two words} {{x}}", "echo 0.1 {two words} {x}"),
        ("echo {lr!r:>5} {name} '{name}'", "echo '  0.1' 'a b' 'a b'"),
        ('{"command": "echo {lr}", "name": "j"}', "echo {lr}"),
        ('\'{"command": "echo {lr}"}\'', "echo {lr}"),
    ],
)
def test_the_command_is_raw_but_for_what_is_python(notebook, line, command):
    """Options come first, the rest is the shell's, and `{expr}` is Python's."""
    notebook.run("%config QueueMagics.autostart = False\nlr, name = 0.1, 'a b'")

    assert command == notebook.run(f"%enqueue {line}").value.command


def test_a_loop_enqueues_and_a_function_sees_its_own_names(notebook):
    """A magic works in the body of a loop; in a function `{expr}` is what Python would see."""
    notebook.run("%config QueueMagics.autostart = False\nwho = 'outside'")
    notebook.run("for i in range(2):\n    %enqueue echo {i}")
    notebook.run("def go(who):\n    return get_ipython().run_line_magic('enqueue', 'echo {who}')")
    notebook.run("def call(who):\n    %enqueue echo {who}\ncall('inside')")

    jobs = notebook.run("%queue_list").value

    assert ["echo 0", "echo 1", "echo inside"] == [job.command for job in jobs]


def test_a_job_is_assigned_and_bound(notebook):
    """`job = %enqueue` shows nothing; `-o NAME` binds as well and the cell shows the job."""
    cell = notebook.run("job = %enqueue echo a")
    assert (None, "") == (cell.value, cell.out)

    cell = notebook.run("%enqueue -o other -n x echo b")
    assert isinstance(cell.value, Job)
    assert cell.value is notebook.shell.user_ns["other"]
    assert "x" in cell.out


@pytest.mark.parametrize(
    "code",
    [
        "%enqueue -o job -i python print({s!r}, {n})",
        "%%job -o job -i python -e\nprint({s!r}, {n})",
    ],
)
def test_values_are_quoted_for_a_shell_only_where_one_reads_them(notebook, code):
    """A Python program gets them as Python writes them, from a line and from a cell."""
    notebook.run("s = \"a 'b'\"; n = 2")
    notebook.run(code)
    notebook.run("job.wait(60)")

    assert "a 'b' 2\n" == notebook.shell.user_ns["job"].output


@pytest.mark.parametrize("program", ["bash", "'env bash'", "/bin/dash", "busybox"])
def test_values_are_quoted_for_whatever_leads_to_a_shell(notebook, program):
    """A value that would be shell code, if it went in as it is, stays one word."""
    notebook.run("s = 'a; b'")
    job = notebook.run(f"%enqueue --delay 1h -i {program} echo {{s}}").value

    assert "echo 'a; b'" == job.command


def test_interrupted_enqueueing_says_that_it_may_have_been_done(notebook, monkeypatch):
    """Who runs the cell again without a look may have the job twice."""
    enqueue_all = JobQueue.enqueue_all

    def interrupted(*args, **keys):
        enqueue_all(*args, **keys)
        raise KeyboardInterrupt

    monkeypatch.setattr(JobQueue, "enqueue_all", interrupted)
    cell = notebook.run("%enqueue true")

    assert "it may have been accepted before: see %queue_list" in cell.out + cell.err


@pytest.mark.parametrize("name", ["get_ipython", "In", "exit"])
def test_names_that_ipython_needs_are_not_bound(notebook, name):
    """All later magics would fail without a word of why."""
    line = notebook.refused(f"%enqueue -o {name} true")

    assert f"{name!r} is a name of IPython's own: choose another" in line
    assert [] == notebook.run("%queue_list").value


@pytest.mark.parametrize("how", ["its directory is gone", "its settings cannot be read"])
def test_a_refusal_leaves_the_worker_alone(notebook, tmp_path, monkeypatch, until, how):
    """What waits goes on to be run, and what runs to be settled, whatever was refused."""
    notebook.run("%enqueue -o job sleep 0.2")
    queue = notebook.shell.user_ns["job"].queue
    own, config = queue.own_worker, queue.home / "config.json"
    if how.startswith("its directory"):
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
    else:
        config.write_text("garbage")
    notebook.refused("%enqueue echo x")
    config.unlink(missing_ok=True)

    assert until(lambda: "completed" == notebook.shell.user_ns["job"].state)
    assert own.is_alive()


def test_json_prints_json_and_nothing_else(notebook):
    """`--json` is for programs; the name is bound all the same."""
    cell = notebook.run("%enqueue --json -o job echo a")
    told = json.loads(cell.out)
    assert ("1", "echo a", None) == (told["id"], told["command"], cell.value)
    assert "1" == notebook.shell.user_ns["job"].id

    notebook.run("%queue_wait")
    assert 1 == json.loads(notebook.run("%queue_status --json").out)["total"]


def test_a_cell_is_a_script(notebook):
    """`%%job` takes the cell as it stands, with a last line that fails."""
    notebook.run("%%job -o job -n script -r 1\nx='a  b'\necho \"$x\" {lr}\n( exit 3 )\n")

    job = notebook.run("job.wait(30)").value

    assert ("a  b {lr}\n", State.DEAD, 3) == (job.output, job.state, job.exit_code)


@pytest.mark.parametrize(
    ("options", "body", "output"),
    [
        ("-i python", "import sys\nprint(sys.executable)\n", f"{sys.executable}\n"),
        ("-i bash", '{ "echo" a; }\n', "a\n"),
        ("", "#!/usr/bin/env python3\nprint([1, 2][0])\n", "1\n"),
        ("--shell=sh", "#!/usr/bin/env python3\necho $((1 + 1))\n", "2\n"),
        ("-e", "echo {name} '{name}' {{x}}\n", "a b a b {x}\n"),
        ("-e -i python", "print({n} + 1, '{name}', {{1}})\n", "42 a b {1}\n"),
        ("-e", "#!/bin/sh\necho {name}\n", "a b\n"),
    ],
)
def test_a_cell_is_run_by_the_program_that_it_is_for(notebook, options, body, output):
    """`-i`, or a first line `#!`; with `-e` the values of its `{expr}` go in."""
    notebook.run("name, n = 'a b', 41")
    notebook.run(f"%%job -o job {options}\n{body}")

    assert output == notebook.run("job.wait(30).output").value


def test_a_python_cell_imports_what_lies_beside_the_notebook(notebook, tmp_path):
    """It is a background script of this very environment."""
    (tmp_path / "beside.py").write_text("VALUE = 5\n")

    notebook.run("%%job -i python -o job\nimport beside\nprint(beside.VALUE)")

    assert "5\n" == notebook.run("job.wait(30).output").value


# --- the other verbs --------------------------------------------------------------------------


def test_the_verbs_return_what_they_are_about(notebook):
    """A DataFrame, jobs, text: values to go on with, shown as text in a terminal."""
    notebook.run("%enqueue -n one echo hello")

    assert isinstance(notebook.run("%queue_wait one").value, Job)
    assert isinstance(notebook.run("%queue_wait").value, JobList)
    cell = notebook.run("%queue_status one")
    assert isinstance(cell.value, pd.DataFrame)
    assert ["completed"] == list(cell.value["state"])
    assert "hello\n" == notebook.run("log = %queue_logs one\nlog").value
    assert "id:" in notebook.run("%queue_show one").out
    assert "No jobs." in notebook.run("%queue_dlq").out
    assert {"count": 2} == notebook.run("%queue_config set count 2").value
    assert ["1"] == notebook.run("%queue_prune").value


def test_nothing_shown_in_a_terminal_is_markup(notebook):
    """No HTML where text is wanted."""
    cells = ["%enqueue echo a", "%queue_wait", "%queue_status", "%queue_list", "%queue_show 1"]

    shown = "".join(notebook.run(cell).out for cell in cells)

    assert "echo a" in shown
    assert "<div" not in shown
    assert "<table" not in shown


def test_a_verb_without_a_value_says_what_it_did(notebook):
    """`%queue_pause` would otherwise be silent."""
    assert "The queue is paused" in notebook.run("%queue_pause").out
    assert "resumed" in notebook.run("%queue_resume").out


def test_a_final_semicolon_silences_every_other_verb(notebook):
    """As at the end of an expression; `%enqueue`'s is the shell's."""
    notebook.run("%enqueue -n a true\n%queue_wait ;")

    for line in ("%queue_list ;", "%queue_status --failed;", "%queue_show a;  "):
        assert ("", None) == notebook.run(line)[:2][::-1], line
    assert r"'a;'" in notebook.refused(r"%queue_show a\;")


def test_logs_that_were_followed_are_not_shown_again(notebook):
    """`-f` streams into the cell; the value is there for who assigns it."""
    notebook.run("%enqueue echo a; sleep 0.2; echo b")

    cell = notebook.run("log = %queue_logs -f 1\nlog")

    assert ("a\nb\n", "a\nb\n") == (cell.value, cell.out.partition("Out")[0])
    assert "a" not in cell.out.partition("Out")[2]


def test_run_works_off_what_is_pending(notebook):
    """`%queue_run` starts the worker of this kernel and waits."""
    notebook.run("%config QueueMagics.autostart = False\n%enqueue true\n%enqueue true")

    assert [State.COMPLETED] * 2 == [job.state for job in notebook.run("%queue_run").value]


def test_starting_the_worker_again_changes_how_much_it_does(notebook, until):
    """There is one worker a kernel: `start -n 2` tells it to run two jobs side by side."""
    notebook.run("%queue_worker start")

    (worker,) = notebook.run("%queue_worker start -n 2").value
    assert 2 == worker.count
    notebook.run("%enqueue sleep 60\n%enqueue sleep 60")

    until(lambda: 2 == len(notebook.run("%queue_list --state processing").value))
    assert 1 == len(notebook.run("%queue_worker").value)


def test_after_a_stop_a_job_says_why_it_waits(frontend, until):
    """The person has stopped the worker: `%enqueue` does not start it, and the line says so."""
    frontend.run("%enqueue true\n%queue_wait")
    assert "asked to stop" in frontend.run("%queue_worker stop").out
    until(lambda: not frontend.run("%queue_worker status").value)

    job = frontend.run("%enqueue true").value
    assert "no worker is running (start one: %queue_worker start)" in frontend.sent[-1].text

    frontend.run("%queue_worker start\n%queue_wait")
    assert State.COMPLETED is job.state


@pytest.mark.filterwarnings("default")
def test_waiting_without_a_worker_notes_it_in_one_line(notebook):
    """Nothing would happen: the note names the remedy and no line of our source."""
    notebook.run("%config QueueMagics.autostart = False\n%enqueue true")

    for _ in range(2):
        cell = notebook.run("%queue_wait --timeout 100ms")
        assert cell.err.startswith("Note: no worker is running")
        assert cell.err.count("\n") == 1
        assert cell.out == "TimeoutError: not over after 0.1 s: 1 (the jobs go on)\n"
        assert TimeoutError is type(cell.error)


def test_a_variable_that_is_misspelt_is_noted_and_left_to_the_shell(notebook):
    """One line says so; the command is enqueued as it stands."""
    notebook.run("%config QueueMagics.autostart = False")
    cell = notebook.run("name = 'Ada'\n%enqueue -o job echo {nmae} {name}")

    assert cell.err.startswith("Note: {nmae} is left to the shell: there is no variable 'nmae'.")
    assert cell.err.count("\n") == 1
    assert "echo {nmae} Ada" == notebook.shell.user_ns["job"].command


def test_answers_that_would_be_empty_are_sentences(notebook):
    """A log without a word, and what was pruned; as values they are what they were."""
    notebook.run("%enqueue -o job true\njob.wait(30)")

    assert "Job 1 has printed nothing." == pretty(notebook.run("log = %queue_logs 1\nlog").value)
    assert "" == notebook.shell.user_ns["log"]
    assert "Pruned 1 job." == pretty(notebook.run("gone = %queue_prune\ngone").value)
    assert ["1"] == notebook.shell.user_ns["gone"]


def test_an_interrupt_stops_the_waiting_and_not_the_job(notebook, monkeypatch):
    """It says so once, in one line, and is still an interrupt: Run All stops."""
    notebook.run("%enqueue -o job sleep 60")
    monkeypatch.setattr(
        JobQueue, "wait", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    )

    cell = notebook.run("%queue_wait")

    assert KeyboardInterrupt is type(cell.error)
    assert f"KeyboardInterrupt: {STOPPED}\n" == cell.out + cell.err
    assert notebook.shell.user_ns["job"].state in {State.PENDING, State.PROCESSING}


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("%enqueue echo {half}", "a lone surrogate"),
        ("%%job\necho \udc80", "a lone surrogate"),
        ("%queue_show {half}", "there is no job"),
        ("%enqueue --nme x echo", "Did you mean '--name'?"),
        ("%enqueue -r", "-r needs a value"),
        ("%enqueue -n x", "the command is empty"),
        ("%enqueue -", "no standard input"),
        ("%enqueue -o 1x echo", "cannot be the name of a variable"),
        ("%enqueue -o class echo", "cannot be the name of a variable"),
        ("%enqueue --priority x echo", "'x' is not a valid integer"),
        ("%enqueue --delay banana echo", "'banana' is no duration"),
        ("%enqueue --id a/b echo", "'a/b' cannot be an id"),
        ("%enqueue --cwd /nowhere echo", "does not exist"),
        ("%enqueue --name 'x echo", "never closed"),
        ("%enqueue echo {known/0}", "ZeroDivisionError"),
        ('%enqueue {"comand": "x"}', "Did you mean 'command'?"),
        ('%enqueue {"command": }', "no JSON"),
        ("%enqueue a\0b", "NUL"),
        ("%%job one\ntwo", "the script goes below it"),
        ("%%job\n \n", "empty"),
        ("%%job -e\necho {known/0}", "ZeroDivisionError"),
        ("%%job --i python\nx", "has no option --i"),
        ("%queue_cancel", "Missing argument 'ID...' (%queue_cancel? shows how)"),
        ("%queue_cancel 99", "there is no job '99'"),
        ("%queue_retry", "name the jobs to retry"),
        ("%queue_status --faild", "Did you mean '--failed'?"),
        ("%queue_status --state banana", "there is no state 'banana'"),
        ("%queue_show 1 2", "unexpected extra argument"),
        ("%queue_show 'a", "never closed"),
        ("%queue_wait --timeout x", "'x' is no duration"),
        ("%queue_worker strt", "Did you mean 'start'?"),
        ("%queue_worker start -n 0", "0 is not in the range"),
        ("%queue_worker stop", "no worker is running"),
        ("%queue_config set cont 1", "Did you mean 'count'?"),
        ("%queue_config set count 0", "a whole number from 1"),
        ("%queue_prune --state pending", "cancel the others first"),
        ("%queue_dlq retry", "name the dead jobs to retry, or say --all"),
        ("%queue_nope", "not found"),
    ],
)
def test_a_mistake_is_one_red_line(notebook, cell, told):
    """What was wrong, and what to do now; nothing is enqueued by half."""
    notebook.run(r"known, half = 1, '\udc80'")

    assert told in notebook.refused(cell)

    assert [] == notebook.run("%queue_list").value


def test_an_answer_of_the_system_is_one_line_as_well(notebook, monkeypatch):
    """A full table of files or a device that fails: what, and where."""
    error = OSError(5, "Input/output error", "/dev/disk")
    monkeypatch.setattr(JobQueue, "jobs", lambda *_, **__: (_ for _ in ()).throw(error))

    assert "Input/output error: /dev/disk" == notebook.refused("%queue_run")


def test_a_home_that_is_gone_is_told_once_and_made_anew(notebook, own_home):
    """Who removes `.queuectl` may go on with a new queue."""
    notebook.run("%enqueue true\n%queue_wait")
    notebook.run("!rm -rf .queuectl")

    assert "deleted" in notebook.refused("%enqueue echo 1")
    job = notebook.run("%enqueue echo 2").value
    notebook.run("%queue_wait")

    assert ("1", State.COMPLETED) == (job.id, job.state)


def test_a_home_that_is_a_file_is_refused(notebook, own_home):
    """The first use tells it."""
    own_home.write_text("")

    assert str(own_home) in notebook.refused("%enqueue true")


def test_an_error_of_ours_keeps_its_traceback(notebook, monkeypatch):
    """A bug is not a mistake of the person."""
    monkeypatch.setattr(JobQueue, "jobs", lambda *_, **__: 1 / 0)

    assert "ZeroDivisionError" in notebook.run("%queue_run").out


def test_no_value_of_a_variable_is_ever_shown(notebook, own_home):
    """`--env TOKEN=…` reaches the command and nothing else: no line, error, help or file."""
    secret = "s3cret-value"
    cells = [
        f'%enqueue --env TOKEN={secret} -o job test "$TOKEN" = $(echo s3)cret-value',
        "%queue_wait",
        "%queue_show 1",
        "%queue_status",
        "%queue_list",
        "%queue_list --json",
        "%queue_show --json 1",
        "job",
        "repr(job), job.record",
        f"%enqueue --env {secret} true",
        f"%enqueue --env TOKEN={secret} --max-retries -1 true",
        f"%enqueue --env 'T N={secret}' true",
        f"%enqueue --env TOKEN={secret} --nme x true",
        f"%enqueue --env TOKEN={secret} --env 'x",
        f"%%job --env A=1 TOKEN={secret}\ntrue",
        f'%enqueue {{"command": "true", "env": {{"TOKEN": "{secret}"}}, "comand": 1}}',
        "%enqueue?",
    ]

    told = [cell for cell in map(notebook.run, cells) if secret in cell.out + cell.err]
    kept = [
        path
        for path in own_home.rglob("*")
        if path.is_file() and path.parent.name != "env" and secret.encode() in path.read_bytes()
    ]

    assert ([], []) == (told, kept)
    assert 0 == notebook.shell.user_ns["job"].exit_code


# --- help -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("%enqueue", ["Usage: %enqueue [OPTIONS] COMMAND", "--max-retries", "--out", "{expr}"]),
        ("%%job", ["Usage: %%job [OPTIONS]\n", "-i", "--expand", "#!"]),
        ("%queue_logs", ["Usage: %queue_logs [OPTIONS] ID", "--follow", "-h, --help"]),
        ("%queue_worker", ["Usage: %queue_worker", "Usage: %queue_worker start", "--now"]),
        ("%queue_config", ["Usage: %queue_config set [OPTIONS] KEY VALUE"]),
    ],
)
def test_a_question_mark_shows_the_help(notebook, name, told):
    """`%enqueue?` is what `queuectl enqueue --help` is in a terminal."""
    shown = notebook.run(f"{name}?").out

    for text in told:
        assert text in shown.replace(" \n", "\n")


def test_help_is_an_option_of_every_verb(notebook):
    """`-h` prints it and does nothing else; a bare `%enqueue` is the same."""
    for name, verb in verbs.items():
        magic = "%enqueue" if verb is enqueue else f"%queue_{name}"
        cell = notebook.run(f"{magic} -h")
        assert cell.out.startswith(f"Usage: {magic}"), magic
        assert None is cell.value
    assert notebook.run("%enqueue").out == notebook.run("%enqueue --help").out
    assert notebook.run("%%job -h\nx").out.startswith("Usage: %%job [OPTIONS]")
    assert [] == notebook.run("%queue_list").value


# --- plain ------------------------------------------------------------------------------------


def test_plain_shows_nothing_that_varies(frontend):
    """No time, no id that is chosen at random, no update: a saved output can be compared."""
    frontend.run("%config QueueMagics.plain = True")
    cells = [
        "%enqueue -n one echo hello",
        "%%job -n two\nexit 3",
        "%enqueue -n three -r 1 exit 3",
        "%queue_wait one three",
        "%queue_list",
        "%queue_show three",
        "%queue_worker",
        "%queue_status",
        "%queue_logs one",
        "%queue_worker stop",
        "%queue_wait",
        "%queue_timeline one three",
        "%queue_status --live",
    ]
    ran = [frontend.run(cell) for cell in cells]
    shown, frame = [cell.out for cell in ran], ran[7].value

    assert ["job · one", "job · two", "job · three"] == [sent.text for sent in frontend.sent]
    assert {None} == {sent.display_id for sent in frontend.sent}
    assert "ID  STATE      ATTEMPTS  COMMAND\n1   completed         0  echo hello" in shown[4]
    assert "id: 3\nname: three\ncommand: exit 3\npriority: 0\nattempts: 1 of 1 failed" in shown[5]
    assert "A worker is running.\n" in shown[6]
    assert ["state", "name", "attempts", "exit_code", "reason", "command"] == list(frame.columns)
    assert ["", "", "exit 3"] == list(frame["reason"])
    assert "A worker asked to stop.\n" in shown[9]
    assert "job · one · completed\njob · three · dead\n" in shown[11]
    assert "ID  STATE      ATTEMPTS  COMMAND\n1 " in shown[12]


def test_plain_can_be_asked_for_by_the_environment(frontend, monkeypatch):
    """`QUEUECTL_PLAIN=1`, for whoever runs the notebook."""
    monkeypatch.setenv("QUEUECTL_PLAIN", "1")

    frontend.run("%enqueue echo hello")

    assert ("job · echo hello", None) == (frontend.sent[0].text, frontend.sent[0].display_id)


def test_plain_says_nothing_of_what_was_adopted(frontend, own_home, until):
    """How many jobs ended meanwhile is a matter of luck."""
    frontend.run("%enqueue -o job echo begun; sleep 60")
    until(lambda: "begun" in frontend.shell.user_ns["job"].output)
    frontend.run("%config QueueMagics.plain = True")

    assert "" == frontend.run(f"%reload_ext {EXTENSION}").out


def test_the_magics_know_every_option_of_the_terminal():
    """The doors agree: `%enqueue` and `%%job` take what `queuectl enqueue` takes, and more."""
    from queuectl_magics.magics.calling import ENQUEUE, JOB

    def options(command: click.Command) -> set[str]:
        return {name for param in command.params for name in param.opts}

    assert {"-o", "--out"} == options(ENQUEUE) - options(enqueue)
    assert {"-o", "--out", "-e", "--expand"} == options(JOB) - options(enqueue)
    assert options(enqueue) < options(ENQUEUE)


# --- while you were away -------------------------------------------------------------------------


def test_loading_says_in_one_line_what_became_of_the_jobs_of_a_dead_kernel(
    notebook, terminal, own_home, until
):
    """How many ended how and which go on; and not a word when nothing happened meanwhile."""
    ends = ["exit 0", "exit 3", "until [ -e late ]; do sleep 0.02; done"]
    with JobQueue(own_home) as queue:
        for end in ends:
            line = f"echo begun; until [ -e go ]; do sleep 0.02; done; {end}"
            queue.enqueue(line, cwd=str(own_home.parent), max_retries=1)
        worker = terminal.start("worker", "start", "--count", "3")
        until(lambda: all(job.output for job in queue.jobs()))
        worker.kill()
        worker.wait()
        (own_home.parent / "go").touch()
        ended = [queue.job(id) for id in ("1", "2")]
        until(lambda: all(isinstance(queue.engine().find(job.record), Exit) for job in ended))

        told = "While you were away: 1 completed, 1 dead, 1 still processing (adopted).\n"
        assert told == notebook.run("%reload_ext queuectl_magics").out
        (own_home.parent / "late").touch()
        queue.wait(timeout=60)
        queue.enqueue("true", delay=3600)

        assert "" == notebook.run("%reload_ext queuectl_magics").out


def shown(frontend) -> list[str]:
    """Return the titles of the jobs whose lines were sent, in order."""
    found = (re.search(r"(?:○|▶|✓) (\d+)", sent.data["text/plain"]) for sent in frontend.sent)
    return [match[1] for match in found if match]


def test_every_enqueue_of_a_cell_shows_its_line(frontend):
    """Not only the last, which IPython itself would show; and that one once."""
    frontend.run("%config QueueMagics.autostart = False")
    nested = "if True:\n    %enqueue true"
    frontend.run(f"%enqueue true\nx = 1\n%enqueue -n b true\n{nested}\n%enqueue true")

    assert ["1", "2", "3", "4"] == shown(frontend)


def test_an_enqueue_whose_value_is_taken_is_left_to_whoever_takes_it(frontend):
    """A variable, and what is made of it; shown when it is asked for, also a second time."""
    frontend.run("%config QueueMagics.autostart = False")
    frontend.run("job = %enqueue true\nother = 1")
    assert [] == shown(frontend)

    frontend.run("%enqueue -o job true\njob")
    frontend.run("job")
    assert ["2", "2"] == shown(frontend)


def test_a_sweep_shows_its_first_jobs_and_says_that_there_are_more(frontend):
    """A hundred lines are no answer."""
    frontend.run("%config QueueMagics.autostart = False")
    cell = frontend.run("for n in range(100):\n    %enqueue true")

    assert ["1", "2", "3", "4", "5"] == shown(frontend)
    assert "… and more: %queue_status shows all of them\n" == cell.out

    frontend.sent.clear()
    frontend.run("for n in range(6):\n    %enqueue true\n%enqueue true")
    assert ["101", "102", "103", "104", "105", "107"] == shown(frontend)
