"""What may stand at a place in a magic's line: an option or its value, a job, a verb, a setting.

All of it is read off the Click commands and the jobs of the queue. The rule here: it never waits
for another process, and a queue that has not been used yet is not opened for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

import click

from queuectl_magics.commands.verb import Family
from queuectl_magics.errors import QueuectlError
from queuectl_magics.events import Cancelled, Retried
from queuectl_magics.job import TERMINAL, JobRecord, State
from queuectl_magics.jobqueue import JobQueue
from queuectl_magics.lifecycle import states_that_take
from queuectl_magics.magics.calling import ENQUEUE
from queuectl_magics.settings import PARSERS
from queuectl_magics.table import Table

OFFERED_MAX = 200
PROGRAMS = ("bash", "python", "sh")
# Which jobs a verb can do anything with; any other verb takes all.
FITTING: dict[str, frozenset[State]] = {
    "cancel": states_that_take(Cancelled),
    "wait": frozenset(State) - TERMINAL,
    "retry": states_that_take(Retried),
    "dlq retry": frozenset({State.DEAD}),
    "prune": TERMINAL,
}
_PLAIN = re.compile(r"[\w@+:.,/][\w@%+=:.,/-]*")


def offers(
    command: click.Command,
    words: list[str],
    fragment: str,
    queue: JobQueue | None,
    path: str = "",
) -> Iterable[str]:
    """Return what may stand after *words* on a line of *command*, where *fragment* has begun."""
    if isinstance(command, Family) and words and words[0] in command.commands:
        inner = command.commands[words[0]]
        return offers(inner, words[1:], fragment, queue, f"{command.name} ")
    options = _options(command)
    wanted = options.get(words[-1]) if words else None
    if wanted is not None and not wanted.is_flag:
        return _values(wanted)
    if "=" in fragment and (option := options.get(fragment.partition("=")[0])):
        return [f"{option.opts[0]}={value}" for value in _values(option)]
    if command is ENQUEUE and not _all_options(words, options):
        return []  # the command has begun: it is the shell's
    if fragment.startswith("-"):
        return sorted({"--help", *(name for name in options if name.startswith("--"))})
    if isinstance(command, Family):
        return [] if words else list(command.commands)
    names = [param.name for param in command.params if isinstance(param, click.Argument)]
    if "key" in names:
        return PARSERS if not words else []
    if queue is not None and ("ids" in names or ("id" in names and not words)):
        return _jobs(queue, FITTING.get(f"{path}{command.name}", frozenset(State)), words)
    return []


def _jobs(queue: JobQueue, fitting: frozenset[State], words: list[str]) -> list[str]:
    """Return the ids, newest first, and then the names, of jobs that fit."""
    try:
        with queue.store.reading() as table:
            jobs = reversed(table.jobs.values())
            fits = (job for job in jobs if job.state in fitting)
            newest = list(islice(fits, OFFERED_MAX))
            names = [name for job in newest if (name := _unique_name(job, table))]
    except (QueuectlError, OSError):
        return []
    offered = [*(job.id for job in newest), *names]
    return [word for word in offered if word not in words and _PLAIN.fullmatch(word)]


def _unique_name(job: JobRecord, table: Table) -> str | None:
    """Return the name of *job* if it means this job and no other."""
    name = job.name
    if name is None or name in table.jobs or len(list(table.named(name))) != 1:
        return None
    return name


def _options(command: click.Command) -> dict[str, click.Option]:
    return {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
    }


def _all_options(words: list[str], options: dict[str, click.Option]) -> bool:
    """Say whether *words* are options and their values, and nothing else yet."""
    takes_value = False
    for word in words:
        if takes_value:
            takes_value = False
        elif word.startswith("-") and word != "--":
            option = options.get(word)
            takes_value = option is not None and not option.is_flag
        else:
            return False
    return True


def _values(option: click.Option) -> Iterable[str]:
    """Return the values that *option* may have, where they can be counted."""
    if option.name in {"state", "states"}:
        return list(State)
    if isinstance(option.type, click.Choice):
        return option.type.choices
    return PROGRAMS if option.name == "shell" else []
