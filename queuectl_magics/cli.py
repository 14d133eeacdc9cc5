"""The terminal door: `queuectl <verb>` prints what a verb returns.

It finds the queue, lets Click parse, and prints the value as text or, with `--json`, as JSON and
nothing else on stdout; everything said along the way goes to stderr then. The rules here: no verb
is defined or decided here; an error is one line on stderr; a reader that has gone (`| head`) is no
error and never stops the work; and the exit code means something: 0 done, 1 refused or a job died,
2 not understood, 124 timed out, 130 interrupted.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from queuectl_magics.commands import verbs
from queuectl_magics.commands.verb import Family, Session, Shown
from queuectl_magics.errors import InvalidInputError, QueuectlError
from queuectl_magics.variables import find_home
from queuectl_magics.version import version
from queuectl_magics.views.words import one_line, shorten

if TYPE_CHECKING:
    from queuectl_magics.jobqueue import JobQueue

DIED, USAGE, TIMED_OUT, INTERRUPTED = 1, 2, 124, 130
WIDTH_UNLIMITED = 200
BAR_CELLS = 30
IN_ASCII = dict(zip("○▶✓✗↻⊘█░▌·…→⏎", "o>+x@/#-|.~>|", strict=True))
CLEAR_LINE = "\r\x1b[K"
MISPLACED = {
    "--home": "--home goes before the verb: queuectl --home DIR status",
    "--json": "--json goes after the verb: queuectl status --json",
}


class Terminal(Session):
    """A call from a terminal: it may block, and says things on stdout unless JSON is wanted."""

    foreground = True

    def __init__(self) -> None:
        self.home: str | None = None
        self._repaints = _can_repaint(sys.stdout)
        self.colour = self._repaints and not os.environ.get("NO_COLOR")
        self._queue: JobQueue | None = None
        self._bar = ""

    @property
    def width(self) -> int:
        """The width of the terminal; wide enough for most where there is none."""
        return _terminal_size().columns if sys.stdout.isatty() else WIDTH_UNLIMITED

    @property
    def height(self) -> int:
        """The height of the terminal; 0 where there is none, or where nothing goes back."""
        return _terminal_size().lines if self._repaints else 0

    @property
    def queue(self) -> JobQueue:
        """The queue of this call."""
        if self._queue is None:
            from queuectl_magics.jobqueue import JobQueue

            self._queue = JobQueue(self.home, python="")
        return self._queue

    @property
    def home_path(self) -> Path:
        """The home that this call is about."""
        return find_home(self.home)

    def say(self, line: str) -> None:
        """Print a line, on stderr if stdout is for JSON alone; whoever works is not stopped."""
        with contextlib.suppress(OSError):
            self._print(line + "\n", err=self.json_only)

    def write(self, text: str) -> None:
        """Print a piece of output as it comes; the call ends when nobody reads any more."""
        if not self._print(text, err=self.json_only):
            raise click.exceptions.Exit(0)

    def note(self, message: Warning | str, *_: object, **__: object) -> None:
        """Print a warning as one line, in the form of `warnings.showwarning`."""
        with contextlib.suppress(OSError):
            self._print(f"Note: {one_line(str(message))}\n", err=True)

    def fail(self, error: Exception | str, code: int) -> int:
        """Print what went wrong as one line and return *code*."""
        with contextlib.suppress(OSError):
            self._print(f"Error: {one_line(str(error))}\n", err=True)
        return code

    def show(self, shown: Shown) -> None:
        """Print the value of a verb."""
        if shown.as_json:
            self._print(shown.json.encode() + b"\n")
        elif text := shown.text:
            self._print(text if text.endswith("\n") else text + "\n")

    def progress(self, done: int, total: int, label: str) -> None:
        """Draw a bar on stderr if that is a terminal; it goes when all is done."""
        if done >= total or not _can_repaint(sys.stderr):
            self._wipe()
            return
        filled = BAR_CELLS * done // total
        bar = f"{'█' * filled}{'░' * (BAR_CELLS - filled)} {done}/{total} {label}"
        bar = shorten(bar, _terminal_size().columns - 1)  # a line that is wrapped cannot be wiped
        if bar != self._bar:
            with contextlib.suppress(OSError):
                self._wipe()
                click.echo(bar, nl=False, err=True)
            self._bar = bar

    def _wipe(self) -> None:
        if self._bar:
            self._bar = ""
            click.echo(CLEAR_LINE, nl=False, err=True)

    def _print(self, text: str | bytes, *, err: bool = False) -> bool:
        """Print *text* and say whether somebody can have read it."""
        stream = sys.stderr if err else sys.stdout
        self._wipe()
        try:
            click.echo(text, file=stream, nl=False, color=True)  # it is clean, or wanted raw
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            return False
        except OSError as error:
            msg = f"the answer cannot be printed ({error.strerror})"
            raise OSError(msg) from None
        return True

    def close(self) -> None:
        """Leave the line and the home tidy."""
        with contextlib.suppress(OSError):
            self._wipe()
        if self._queue is not None:
            self._queue.close()


def _terminal_size() -> os.terminal_size:
    import shutil

    return shutil.get_terminal_size()


def _can_repaint(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _choose_home(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj.home = value


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        click.echo(f"queuectl {version()}")
        ctx.exit()


root = Family(
    "queuectl",
    commands=verbs,
    help="A job queue that lives in a notebook and outlives it.",
    params=[
        click.Option(
            ["--home"],
            metavar="DIR",
            expose_value=False,
            callback=_choose_home,
            help="The queue's directory (default: $QUEUECTL_HOME, or .queuectl here).",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Show the version and exit.",
        ),
    ],
)


def run(arguments: Sequence[str] | None, session: Terminal) -> int:
    """Run one verb, print what it returns or what went wrong, and return the exit code."""
    args = None if arguments is None else list(arguments)
    try:
        shown: Any = root.main(args, prog_name="queuectl", obj=session, standalone_mode=False)
        if not isinstance(shown, Shown):  # --help and --version have printed already
            return int(shown or 0)
        code = shown.exit_code
        session.show(shown)
    except click.UsageError as error:
        return session.fail(_usage(error), USAGE)
    except (InvalidInputError, UnicodeEncodeError) as error:
        return session.fail(error, USAGE)
    except QueuectlError as error:
        return session.fail(error, DIED)
    except TimeoutError as error:
        return session.fail(error, TIMED_OUT)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return session.fail(f"{error.strerror or error}{where}", DIED)
    return code


def _usage(error: click.UsageError) -> str:
    """Return what was not understood, and where to read how it goes."""
    if isinstance(error, click.NoSuchOption) and error.option_name in MISPLACED:
        return MISPLACED[error.option_name]
    where = error.ctx.command_path if error.ctx else "queuectl"
    message = error.format_message()
    stop = "" if message.endswith((".", "?", "?)")) else "."
    return f"{message}{stop} See {where} -h"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and end the process with its exit code."""
    _prepare_streams()
    session = Terminal()
    warnings.showwarning = session.note
    try:
        code = run(arguments, session)
    finally:
        session.close()
    sys.exit(code)


def _prepare_streams() -> None:
    """Open those that are closed, lest a file of ours take their place; never fail on a letter.

    Where one cannot be written, a symbol of ours is a sign of ASCII in its place, as wide as it,
    and anything else is its number.
    """
    codecs.register_error("queuectl", _in_ascii)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="queuectl")  # type: ignore[union-attr]


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    written = (IN_ASCII.get(one, one) for one in found)
    return "".join(written).encode("ascii", "backslashreplace").decode(), error.end
