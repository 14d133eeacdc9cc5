"""What Tab offers after one of our magics: options, ids and names, states, settings.

IPython asks every matcher at each Tab; ours answers only on a line that holds one of our magics,
and then alone, so that no Python names are mixed in. Where it has nothing to offer (the command of
`%enqueue`, a directory), the others answer. The rule here: it never waits for another process, and
a queue that has not been used yet is not opened for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from IPython.core.completer import SimpleCompletion, context_matcher

from queuectl_magics.commands.verb import Family
from queuectl_magics.errors import QueuectlError
from queuectl_magics.events import Cancelled, Retried
from queuectl_magics.job import TERMINAL, JobRecord, State
from queuectl_magics.lifecycle import states_that_take
from queuectl_magics.magics.calling import CELL_MAGICS, ENQUEUE, LINE_MAGICS
from queuectl_magics.settings import PARSERS
from queuectl_magics.table import Table

if TYPE_CHECKING:
    from queuectl_magics.magics.door import QueueMagics

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
_LINE = re.compile(r"^\s*(?:[^%]*=\s*)?(?P<sign>%%?)(?P<magic>\w+)[ \t]+(?P<rest>.*)$", re.DOTALL)
_PLAIN = re.compile(r"[\w@+:.,/][\w@%+=:.,/-]*")


class Completion:
    """The matcher of one shell."""

    def __init__(self, door: QueueMagics) -> None:
        self._door = door

        @context_matcher()  # type: ignore[untyped-decorator,unused-ignore]
        def queuectl_matcher(context: Any) -> Any:
            return self._match(context.text_until_cursor)

        self._matcher = queuectl_matcher

    @property
    def _matchers(self) -> list[Any]:
        completer = getattr(self._door.shell, "Completer", None)
        return [] if completer is None else completer.custom_matchers

    def open(self) -> None:
        """Offer completions from now on."""
        self._matchers.insert(0, self._matcher)

    def close(self) -> None:
        """Offer nothing any more."""
        if self._matcher in self._matchers:
            self._matchers.remove(self._matcher)

    def _match(self, before: str) -> dict[str, Any]:
        """Return what may follow, in the form that IPython wants of a matcher."""
        found = _LINE.match(before)
        known = CELL_MAGICS if found and found["sign"] == "%%" else LINE_MAGICS
        if found is None or found["magic"] not in known:
            return {"completions": [], "suppress": False}
        *words, fragment = re.split(r"[ \t]+", found["rest"])
        words = [word for word in words if word]
        offered = self._offer(known[found["magic"]], words, fragment)
        fitting = [word for word in dict.fromkeys(offered) if word.startswith(fragment)]
        return {
            "completions": [SimpleCompletion(word, type="queue") for word in fitting],
            "suppress": bool(fitting),
            "matched_fragment": fragment,
            "ordered": True,
        }

    def _offer(
        self, command: click.Command, words: list[str], fragment: str, path: str = ""
    ) -> Iterable[str]:
        """Return what may stand after *words* on a line of *command*."""
        if isinstance(command, Family) and words and words[0] in command.commands:
            inner = command.commands[words[0]]
            return self._offer(inner, words[1:], fragment, f"{command.name} ")
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
        return self._arguments(command, words, f"{path}{command.name}")

    def _arguments(self, command: click.Command, words: list[str], path: str) -> Iterable[str]:
        names = [param.name for param in command.params if isinstance(param, click.Argument)]
        if "key" in names:
            return PARSERS if not words else []
        if "ids" in names or ("id" in names and not words):
            return self._jobs(FITTING.get(path, frozenset(State)), words)
        return []

    def _jobs(self, fitting: frozenset[State], words: list[str]) -> list[str]:
        """Return the ids, newest first, and then the names, of jobs that fit."""
        queue = self._door.opened
        if queue is None:
            return []
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
