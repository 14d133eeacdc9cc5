"""`repair`: explain and mend a store that cannot be opened.

It works on the files of the home and never opens the queue, which would be refused. The rule here:
`--dry-run` says the same and changes nothing, and the exit code tells whether the queue can be
used now.
"""

from __future__ import annotations

import click

from queuectl_magics.commands.verb import Session, Verb
from queuectl_magics.store import repair as mending
from queuectl_magics.store.repair import Report


@click.command(
    "repair",
    cls=Verb,
    text=lambda report, _session: report.text(),
    exit_code=lambda report: int(not report.is_well),
)
@click.option("--dry-run", is_flag=True, help="Show what can be saved and change nothing.")
@click.pass_obj
def repair(session: Session, *, dry_run: bool) -> Report:
    """Explain a damaged queue and save what can be read."""
    return mending.repair(session.home_path, dry_run=dry_run)
