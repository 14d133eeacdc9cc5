"""`enqueue`: accept a command, or JSON that describes one or many.

The options are those of `JobSpec`; the rest of the line is the command, exactly as typed. Several
words from a terminal are quoted again one by one, so that what the shell had already taken apart
arrives as it was; a single word is taken as shell text. The rules here: nothing is accepted unless
everything is; and what begins as JSON is JSON, so that a slip in it is no command.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import warnings
from typing import Any

import click

from queuectl_magics.codec import ALIASES, spec_from
from queuectl_magics.commands.verb import DURATION, SIZE, Session, Verb, each, records_of
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.job import OnLost
from queuectl_magics.jobqueue import Job, JobList
from queuectl_magics.views import text

_JSON = re.compile(r'\s*(\[\s*)?\{\s*("|\})')


def _shown(jobs: Job | JobList, _session: Session) -> str:
    return "\n".join(map(text.enqueued, each(jobs)))


def _variables(
    _ctx: click.Context, _param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            msg = "write NAME=VALUE, like --env THREADS=4"  # what was typed may be a secret
            raise click.BadParameter(msg)
        found[name] = value
    return found


@click.command(
    "enqueue",
    cls=Verb,
    text=_shown,
    json=records_of,
    context_settings={"allow_interspersed_args": False},
)
@click.option("--id", metavar="ID", help="The job's id; by default the next short number.")
@click.option("--name", "-n", metavar="NAME", help="A name to call it by.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag; may be repeated.")
@click.option("--priority", "-p", type=int, metavar="N", help="Higher runs first (default 0).")
@click.option(
    "--max-retries",
    "-r",
    type=int,
    metavar="N",
    help="Dead after N failed attempts; 0 and 1 both mean a single attempt.",
)
@click.option("--backoff-base", type=float, metavar="B", help="Wait B ** attempts seconds.")
@click.option("--backoff-cap", "backoff_cap_s", type=DURATION, help="But never longer than this.")
@click.option("--backoff-jitter", type=float, metavar="J", help="Take off up to this fraction.")
@click.option("--delay", "delay_s", type=DURATION, help="Not before this long from now, like 10m.")
@click.option("--cwd", metavar="DIR", help="The directory to run in; by default this one.")
@click.option(
    "--env",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_variables,
    help="An environment variable; may be repeated. Its value is never shown.",
)
@click.option("--shell", "-i", metavar="PROG", help="What runs the command, like bash or python.")
@click.option(
    "--timeout", "-t", "timeout_s", type=DURATION, help="End an attempt after this long."
)
@click.option("--grace", "grace_s", type=DURATION, help="From TERM to KILL (default 5s).")
@click.option(
    "--max-output",
    "output_bytes_max",
    type=SIZE,
    help="Keep this much of an attempt's output; the middle is dropped (default 256M).",
)
@click.option(
    "--on-lost",
    type=click.Choice([str(word) for word in OnLost]),
    help="What to do when its processes vanish, as in a power cut (default retry).",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def enqueue(session: Session, /, command: tuple[str, ...], **options: Any) -> Job | JobList:
    """Put a COMMAND into the queue and return at once.

    Options come first; everything after them is the command, as you would type it into a shell.
    COMMAND may also be a JSON object with a "command" and any of the options as keys, an array of
    such objects, or one object a line; - reads them from standard input.
    """
    given = {key: value for key, value in options.items() if value not in (None, (), {})}
    given = with_secrets(given, session)
    line = command[0] if len(command) == 1 else shlex.join(command)
    if len(command) > 1 and (command[0] == "-" or looks_like_object(command[0])):
        msg = f"nothing may follow {command[0][:40]}: options come before it"
        raise InvalidInputError(msg)
    _note_late_options(command)
    if line != "-" and not looks_like_object(line):
        return session.queue.enqueue_all([{"command": line, **given}])[0]
    found = _read_json(_standard_input() if line == "-" else line)
    many = found if isinstance(found, list) else [found]
    jobs = session.queue.enqueue_all([_with_options(one, given) for one in many])
    return jobs[0] if isinstance(found, dict) and line != "-" else JobList(jobs)


def _note_late_options(command: tuple[str, ...]) -> None:
    """Warn of options of ours behind a whole command line: they have become part of it."""
    if len(command) <= 1 or " " not in command[0]:
        return
    ours = {name for param in enqueue.params for name in param.opts if name.startswith("-")}
    late = [word for word in command[1:] if word.partition("=")[0] in ours]
    if late:
        msg = f"{late[0]} stands behind the command, so it is part of it: options come first"
        warnings.warn(msg, stacklevel=2)


def with_secrets(options: dict[str, Any], session: Session) -> dict[str, Any]:
    """Return *options* with the secrets of the call among the environment variables."""
    if not session.secrets:
        return options
    return {**options, "env": {**options.get("env", {}), **session.secrets}}


def looks_like_object(line: str) -> bool:
    """Say whether *line* is meant as one or several JSON objects and not as shell text."""
    return _JSON.match(line) is not None


def _with_options(found: Any, given: dict[str, Any]) -> Any:
    """Return the object *found* with what was *given* for all; its own goes before that."""
    if not isinstance(found, dict):
        return spec_from(found)  # which refuses it
    named = {ALIASES.get(key, key) for key in found}
    both = {**{key: value for key, value in given.items() if key not in named}, **found}
    if isinstance(own := found.get("env"), dict) and "env" in given:
        both["env"] = {**given["env"], **own}
    tags = next((found[key] for key in ("tags", "tag") if key in found), None)
    if isinstance(tags, list) and "tags" in given:
        both["tags"] = [*given["tags"], *tags]
        both.pop("tag", None)
    return both


def _standard_input() -> str:
    """Return what comes from standard input; bytes that are no UTF-8 are left to be refused."""
    read = sys.stdin.buffer.read().decode("utf-8-sig", errors="surrogateescape")
    if not read.strip():
        msg = "nothing came from standard input: give JSON objects, an array or one a line"
        raise InvalidInputError(msg)
    return read


def _read_json(text: str) -> Any:
    """Return an object, or a list: of an array, or of one object a line.

    Raises:
        InvalidInputError: it is malformed; the message says where.

    """
    try:
        return json.loads(text)
    except RecursionError:
        msg = "this JSON is nested too deeply to describe jobs"
        raise InvalidInputError(msg) from None
    except ValueError as error:
        numbered = enumerate(text.split("\n"), 1)
        lines = {number: line for number, line in numbered if line.strip()}
        if len(lines) > 1 and (
            _begins_with_object(lines) or all(map(looks_like_object, lines.values()))
        ):
            return [_read_line(number, line) for number, line in lines.items()]
        msg = f"this is no JSON ({error}): give an object, an array, or one object a line"
        raise InvalidInputError(msg) from None


def _begins_with_object(lines: dict[int, str]) -> bool:
    """Say whether the first of *lines* is a whole object: then each is meant to be one."""
    try:
        return isinstance(json.loads(next(iter(lines.values()))), dict)
    except (ValueError, RecursionError):
        return False


def _read_line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            why = f"{error.msg}, column {error.colno}"
        msg = f"line {number} is no JSON ({why}): {line[:40]}"
        raise InvalidInputError(msg) from None
