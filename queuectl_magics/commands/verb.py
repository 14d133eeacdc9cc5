"""What a verb is: a Click command that returns a value, and how each door shows that value.

Click parses; the callback talks to the queue and returns a `Job`, a list or a `Status`; the
terminal prints `text(value)`, the notebook hands `notebook(value)` to IPython, and `--json` turns
any value into JSON. The rule here: a verb is defined once and knows neither door; what a door must
offer while a verb works (saying a line, showing progress) is in its `Session`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from queuectl_magics.codec import to_json
from queuectl_magics.errors import QueuectlError, did_you_mean
from queuectl_magics.job import JobRecord
from queuectl_magics.jobqueue import Job, JobList, JobQueue
from queuectl_magics.settings import parse_duration_s, parse_size_bytes


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


# Click makes one too, but has its text translated: 3 ms, in every call of every verb.
HELP = click.Option(
    ["-h", "--help"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_help,
    help="Show this message and exit.",
)


class Session(ABC):
    """What one call of a verb may use.

    Attributes:
        foreground: the process exists for this call alone, so it may block and take signals.
        colour: whether the text may carry colour.
        plain: whether to show nothing that varies.
        json_only: the person wants JSON and nothing else.
        secrets: values that the command takes from its environment, by the names it knows them by.

    """

    secrets: Mapping[str, str] = MappingProxyType({})
    foreground = False
    colour = False
    plain = False
    json_only = False

    @property
    def width(self) -> int:
        """How many columns a line may have."""
        return 80

    @property
    def height(self) -> int:
        """How many lines can be painted over; 0 where none can."""
        return 0

    @property
    @abstractmethod
    def queue(self) -> JobQueue:
        """The queue, opened at its first use."""

    @property
    @abstractmethod
    def home_path(self) -> Path:
        """The home of the queue, for a verb that must not open it."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Tell the person something while the verb works."""

    @abstractmethod
    def write(self, text: str) -> None:
        """Pass on a piece of a job's output, as it comes."""

    def progress(self, done: int, total: int, label: str) -> None:  # noqa: B027 - it may be dropped
        """Show how much of the work is done."""

    def worker_wanted(self, *, wanted: bool) -> None:  # noqa: B027 - a terminal has no use for it
        """Hear that the person wants a worker in this process from now on, or no longer."""


class Shown:
    """A value that a verb returned, with the ways to show it."""

    def __init__(self, value: Any, verb: Verb, *, session: Session) -> None:
        self.value = value
        self.verb = verb
        self.as_json = session.json_only
        self._session = session

    @property
    def text(self) -> str:
        """The value as text for a terminal, without a final newline."""
        return self.verb.text(self.value, self._session)

    @property
    def notebook(self) -> Any:
        """The value as the object that a cell evaluates to."""
        return self.verb.notebook(self.value, self._session)

    @property
    def json(self) -> str:
        """The value as JSON."""
        return to_json(self.verb.json(self.value)).decode()

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return self.verb.exit_code(self.value)


class _Helped(click.Command):
    """A command whose `--help` is `HELP`."""

    def get_help_option(self, ctx: click.Context) -> click.Option:  # noqa: ARG002 - Click's form
        """Return `--help`."""
        return HELP


class Verb(_Helped):
    """A command with its ways of being shown; `--help` and `--json` come with it.

    Args:
        text: value and session → text for a terminal.
        notebook: value and session → what a cell evaluates to.
        exit_code: value → the exit code of the process.
        json: value → something that can be encoded as JSON.

    """

    def __init__(
        self,
        *args: Any,
        text: Callable[[Any, Session], str] = lambda value, _session: str(value),
        notebook: Callable[[Any, Session], Any] = lambda value, _session: value,
        exit_code: Callable[[Any], int] = lambda _value: 0,
        json: Callable[[Any], Any] = lambda value: value,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.text = text
        self.notebook = notebook
        self.exit_code = exit_code
        self.json = json
        self.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=_note_json,
                help="Print JSON and nothing else.",
            )
        )

    def invoke(self, ctx: click.Context) -> Shown:
        """Call the verb and keep its value together with how to show it."""
        value = super().invoke(ctx)
        return Shown(value, self, session=ctx.obj)


def records_of(jobs: Job | JobList) -> JobRecord | list[JobRecord]:
    """Return what is known of one job or of several, as `--json` prints it."""
    return jobs.records if isinstance(jobs, JobList) else jobs.record


def each(jobs: Job | JobList) -> list[JobRecord]:
    """Return what is known of every job, be it one or several."""
    return jobs.records if isinstance(jobs, JobList) else [jobs.record]


def _note_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        ctx.obj.json_only = True


class Family(_Helped, click.Group):
    """Verbs that share a first word; `default` is meant when no second word is given.

    Without a default, a bare call shows the help. Verbs are listed in the order of their
    definition, the most important first.
    """

    command_class = Verb

    def __init__(self, *args: Any, default: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default verb in front if only options, or nothing, were given."""
        bare = not args or (args[0].startswith("-") and args[0] not in HELP.opts)
        if self.default and bare:
            args = [self.default, *args]
        return super().parse_args(ctx, args or ["--help"])

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's form
        """Return the verbs in the order of their definition."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one may have been meant."""
        name = args[0] if args else "-"
        if not name.startswith("-") and name not in self.commands:
            near = did_you_mean(name, self.commands) or f" Known: {', '.join(self.commands)}"
            ctx.fail(f"{ctx.command_path} has no verb {name!r}.{near}")
        return super().resolve_command(ctx, args)


class Measure(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since 8.3
    """A quantity with a unit, such as `90s` or `64k`; *parse* returns how much that is."""

    def __init__(self, name: str, parse: Callable[[Any], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number that *value* means."""
        try:
            return self._parse(value)
        except QueuectlError as error:
            self.fail(str(error), param, ctx)


class SignalName(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since 8.3
    """A signal: `TERM`, `SIGINT`, `9`."""

    name = "signal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that *value* means."""
        import signal

        word = str(value).upper()
        known = {found.name.removeprefix("SIG"): int(found) for found in signal.Signals}
        number = known.get(word.removeprefix("SIG"), int(word) if word.isdecimal() else 0)
        if number not in known.values():
            near = did_you_mean(word.removeprefix("SIG"), known)
            self.fail(f"there is no signal {value!r}.{near}", param, ctx)
        return number


DURATION = Measure("duration", parse_duration_s)
SIGNAL = SignalName()
SIZE = Measure("size", parse_size_bytes)
