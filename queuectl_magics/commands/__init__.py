"""The verbs, each defined once, for both doors.

`verbs` has all of them by name: `queuectl <verb>` in a terminal, `%queue_<verb>` in a notebook
(`%enqueue` for the first). The rules here: a new verb is one function in one of these files and
its line in `VERBS`, and both doors have it; a verb's file, and Click with it, is loaded when the
verb is first asked for, because loading all takes longer than any of them runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

# name → file and object, the most important first
VERBS = {
    "enqueue": "enqueueing.enqueue",
    "run": "working.run",
    "worker": "working.worker",
    "status": "asking.status",
    "list": "asking.list_",
    "show": "asking.show",
    "timeline": "asking.timeline",
    "logs": "asking.logs",
    "wait": "working.wait",
    "cancel": "changing.cancel",
    "retry": "changing.retry",
    "dlq": "changing.dlq",
    "config": "changing.config",
    "prune": "changing.prune",
    "pause": "working.pause",
    "resume": "working.resume",
    "repair": "repairing.repair",
}


class Verbs(Mapping[str, "click.Command"]):
    """The verbs by name, each loaded when it is first asked for."""

    def __getitem__(self, name: str) -> click.Command:
        file, _, attribute = VERBS[name].partition(".")
        command: click.Command = getattr(import_module(f"{__name__}.{file}"), attribute)
        return command

    def __contains__(self, name: object) -> bool:
        return name in VERBS

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


verbs = Verbs()
