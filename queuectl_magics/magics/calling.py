"""Call one verb from a cell: read the line, let Click parse it, hand the value to IPython.

A magic's line is read by the same Click command as in the terminal; what is special here is that
`{expr}` is Python's, that `-o NAME` binds the value, that a final `;` silences every verb but
`%enqueue` (whose `;` is the shell's), and that a mistake is one red line. The rules here: errors
leave as exactly `UsageError` (IPython prints a traceback for a subclass), but for what a cell may
want to catch; and only the thread that runs the cell prints.
"""

from __future__ import annotations

import copy
import keyword
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from IPython.core.error import UsageError

from queuectl_magics.commands import verbs
from queuectl_magics.commands.enqueueing import enqueue, looks_like_object, with_secrets
from queuectl_magics.commands.verb import Family, Session, Shown, Verb
from queuectl_magics.errors import InvalidInputError, QueuectlError
from queuectl_magics.jobqueue import Job, JobQueue
from queuectl_magics.magics.bar import Bar
from queuectl_magics.magics.expansion import expand
from queuectl_magics.magics.grammar import split_options, split_words
from queuectl_magics.magics.hiding import expand_for_variable, expand_hiding, refuse_hidden
from queuectl_magics.magics.names import LINE_MAGICS, PREFIX
from queuectl_magics.magics.spelling import misspelt
from queuectl_magics.views.words import one_line

if TYPE_CHECKING:
    from queuectl_magics.magics.door import QueueMagics

SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "busybox"})
STOPPED = "stopped waiting; the jobs go on"
ACCEPTED = "it may have been accepted before: see %queue_list before you enqueue it again"


class Call(Session):
    """One call of a verb from a cell.

    Args:
        door: the magics it belongs to.
        names: what `{expr}` may use: the variables of the place where the magic stands.

    """

    def __init__(self, door: QueueMagics, names: Mapping[str, object]) -> None:
        self._door = door
        self._names = names
        self._bar = Bar(door.lines)
        self.plain = door.is_plain
        self.bind_to: str | None = None
        self.expands = False
        self.secrets: dict[str, str] = {}

    @property
    def queue(self) -> JobQueue:
        """The queue of this notebook."""
        return self._door.queue

    @property
    def home_path(self) -> Path:
        """The home of this notebook's queue."""
        return self._door.home_path

    def say(self, line: str) -> None:
        """Print a line into the cell that runs."""
        self.write(f"{line}\n")

    def write(self, text: str) -> None:
        """Print a piece of output into the cell that runs."""
        stream = sys.stderr if self.json_only else sys.stdout
        print(text, end="", file=stream, flush=True)

    def progress(self, done: int, total: int, label: str) -> None:
        """Draw the bar of a waiting cell."""
        self._bar.show(done, total, label)

    def worker_wanted(self, *, wanted: bool) -> None:
        """Remember whether `%enqueue` may start the worker."""
        self._door.may_start_worker = wanted

    def is_taken(self, name: str) -> bool:
        """Say whether IPython itself needs the variable *name*."""
        return self._door.is_taken(name)

    # --- the three kinds of magic ---------------------------------------------------------------

    def magic(self, name: str, line: str, cell: str | None) -> Any:
        """Call the magic *name*, with the cell below its line if it is one of `%%`."""
        if cell is not None:
            return self.script(line, cell)
        return self.enqueue(line) if name == "enqueue" else self.line(command_of(name), line)

    def line(self, command: click.Command, line: str) -> Any:
        """Call a verb with the words of *line*; None if it ends with `;`."""
        bare = line.rstrip()
        silenced = bare.endswith(";") and not bare.endswith("\\;")
        words = self._expand_all(split_words(bare[:-1] if silenced else bare))
        value = self._value(self._invoke(command, words))
        return None if silenced or self.json_only else value

    def enqueue(self, line: str) -> Any:
        """Enqueue the command in *line*, which is the shell's from its first word on."""
        options, text = split_options(line, ENQUEUE)
        words = self._expand_all(options)
        if text == "-":
            msg = "a notebook has no standard input to read jobs from: use %%job, or JobQueue()"
            raise InvalidInputError(msg)
        if not words and not text:
            words = ["--help"]
        return self._enqueued(ENQUEUE, words, self._command(text, _program(self, words)))

    def script(self, line: str, body: str) -> Any:
        """Enqueue the cell *body* as a script."""
        options, rest = split_options(line, JOB)
        if rest:
            msg = "%%job takes options only in its first line: the script goes below it"
            raise InvalidInputError(msg)
        return self._enqueued(JOB, self._expand_all(options), body.strip("\n"))

    def _enqueued(self, command: click.Command, words: list[str], text: str) -> Any:
        value = self._value(self._invoke(command, [*words, "--", text] if text else words))
        if value is not None:
            self._door.start_worker()
        return None if self.json_only else value

    def _command(self, text: str, program: str) -> str:
        """Return the command as it is to be enqueued: expanded, or a JSON object as it stands."""
        if text[:1] in {"'", '"'} and text[-1:] == text[:1] and looks_like_object(text[1:-1]):
            text = text[1:-1]  # as it was quoted for a terminal
        if looks_like_object(text):
            refuse_hidden(text)
            return text
        return self.expand(text, quote=_is_shell(program))

    def expand(self, text: str, *, quote: bool = True) -> str:
        """Return *text* with the values of its `{expr}`; *quote* if a shell reads it."""
        if not quote:
            refuse_hidden(text)
            return expand(text, self._names, quote=False)
        expanded, hidden = expand_hiding(text, self._names)
        self.secrets |= hidden
        if note := misspelt(text, self._names):
            _note(note)
        return expanded

    def _expand_all(self, words: list[str]) -> list[str]:
        return [
            expand_for_variable(word, self._names)
            if before == "--env" or word.startswith("--env=")
            else self.expand(word, quote=False)
            for before, word in pairwise(["", *words])
        ]

    # --- a verb and its value -------------------------------------------------------------------

    def _invoke(self, command: click.Command, args: list[str]) -> Shown | None:
        """Call the verb; None if it only printed its help."""
        try:
            with (
                command.make_context(name_of(command), args, obj=self) as context,
                _noting_warnings(),
            ):
                shown = command.invoke(context)
        except click.exceptions.Exit:
            return None
        finally:
            self._bar.end()
        assert isinstance(shown, Shown)
        return shown

    def _value(self, shown: Shown | None) -> Any:
        """Return what the cell evaluates to, and bind it to the name that was asked for."""
        if shown is None:
            return None
        value = shown.notebook
        if self.bind_to is not None:
            self._door.bind(self.bind_to, value)
        if shown.as_json:
            print(shown.json)  # noqa: T201 - in the cell that runs
        elif value is None:
            self.say(shown.text)
        return value


@contextmanager
def one_red_line(name: str) -> Iterator[None]:
    """Turn what a person can do wrong into one line without a traceback."""
    try:
        yield
    except click.ClickException as error:
        told = one_line(error.format_message())
        if isinstance(error, click.MissingParameter):
            told = f"{told.removesuffix('.')} ({name}? shows how)"
        raise UsageError(told) from None
    except TimeoutError as error:  # which a cell may want to catch
        raise _without_traceback(TimeoutError(one_line(str(error)))) from None
    except (QueuectlError, UnicodeEncodeError) as error:
        raise UsageError(one_line(str(error))) from None
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise UsageError(one_line(f"{error.strerror or error}{where}")) from None
    except KeyboardInterrupt:
        told = ACCEPTED if name.endswith(("enqueue", "job")) else STOPPED
        raise _without_traceback(KeyboardInterrupt(told)) from None


def _without_traceback(error: BaseException) -> BaseException:
    """Return *error*, which IPython will show as the one line that it is."""
    line = [f"{type(error).__name__}: {error}"]
    error._render_traceback_ = lambda: line  # type: ignore[attr-defined]
    return error


@contextmanager
def _noting_warnings() -> Iterator[None]:
    """Show a warning as one line, without the place in our source that it came from."""
    with warnings.catch_warnings():
        warnings.showwarning = _note
        yield


def _note(message: Warning | str, *_: object, **__: object) -> None:
    print(f"Note: {message}", file=sys.stderr)  # noqa: T201 - in the cell that runs


# --- the commands of a notebook ------------------------------------------------------------------


def _bind(context: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    if not value.isidentifier() or keyword.iskeyword(value):
        msg = f"{value!r} cannot be the name of a variable"
        raise click.BadParameter(msg)
    if context.obj.is_taken(value):
        msg = f"{value!r} is a name of IPython's own: choose another"
        raise click.BadParameter(msg)
    context.obj.bind_to = value


def _expand(context: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    context.obj.expands = value


@click.pass_obj
def _enqueue_script(call: Call, /, command: tuple[str, ...], **options: Any) -> Job:
    """Enqueue a script as it stands: it is no JSON, and a first line `#!` names its program."""
    given = {key: value for key, value in options.items() if value not in (None, (), {})}
    body = "".join(command)
    first = body.partition("\n")[0]
    if first.startswith("#!") and "shell" not in given:
        given["shell"] = first.removeprefix("#!").strip()
    if call.expands:
        body = call.expand(body, quote=_is_shell(given.get("shell", "sh")))
    given = with_secrets(given, call)
    return call.queue.enqueue_all([{"command": body, **given}])[0]


def _in_notebook(help: str, metavar: str, *extra: click.Option) -> Verb:
    """Return `enqueue` as it is in a notebook, with what only a notebook needs."""
    verb = copy.copy(enqueue)
    verb.help = help
    bind = click.Option(
        ["-o", "--out"],
        metavar="NAME",
        expose_value=False,
        callback=_bind,
        help="Also bind the job to this variable.",
    )
    verb.params = [copy.copy(param) for param in [*enqueue.params, bind, *extra]]
    for param in verb.params:
        if isinstance(param, click.Argument):
            param.metavar = metavar
    return verb


ENQUEUE = _in_notebook(
    """Put a COMMAND into the queue and return at once, with its job.

    Options come first; everything after them is the command, as you would type it into a shell:
    quotes, pipes and `;` are the shell's, and so is $name. {expr} is Python's: its value goes in,
    quoted for the shell; write {{ and }} for braces. COMMAND may also be a JSON object with a
    "command" and any of the options as keys.
    """,
    "COMMAND",
)
JOB = _in_notebook(
    """Put the rest of the cell into the queue as a script and return at once, with its job.

    The script is run by sh, by the program named with -i (python is the one of this kernel), or
    by the one that its first line names after #!. It is taken as it stands; with -e the values
    of its {expr} go in, quoted if a shell runs it.
    """,
    "",
    click.Option(
        ["-e", "--expand"],
        is_flag=True,
        expose_value=False,
        callback=_expand,
        help="Put the values of {expr} into the script.",
    ),
)
JOB.callback = _enqueue_script


def _program(call: Call, words: list[str]) -> str:
    """Return the program that *words*, the options of `%enqueue`, name to run the command."""
    if not words:
        return "sh"
    args = [*words, "--", "true"]
    context = ENQUEUE.make_context("%enqueue", args, obj=call, resilient_parsing=True)
    return context.params.get("shell") or "sh"


def _is_shell(program: str) -> bool:
    try:
        words = shlex.split(program)
    except ValueError:  # which is told when the job is checked
        words = []
    return any(os.path.basename(word) in SHELLS for word in words)  # also in `env bash`


def command_of(magic: str) -> click.Command:
    """Return the command that *magic* calls: the verb, or what a notebook has in its place."""
    special = {"enqueue": ENQUEUE, "job": JOB}
    return special.get(magic) or verbs[LINE_MAGICS[magic]]


def name_of(command: click.Command) -> str:
    """Return the magic that calls *command*."""
    if command is JOB:
        return "%%job"
    return "%enqueue" if command is ENQUEUE else f"%{PREFIX}{command.name}"


def help_of(command: click.Command) -> str:
    """Return what `name?` shows: the verb's help and, for a family, that of each verb in it."""
    context = click.Context(command, info_name=name_of(command), **command.context_settings)
    texts = [command.get_help(context)]
    if isinstance(command, Family):
        for word, verb in command.commands.items():
            settings = verb.context_settings
            inner = click.Context(verb, info_name=word, parent=context, **settings)
            texts.append(verb.get_help(inner))
    return "\n\n".join(texts)
