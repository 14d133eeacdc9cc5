"""The verbs that only look: `status`, `list`, `show`, `timeline`, `logs`.

They change no job; only opening a home takes its lock, for a moment. The rule here: what a job
printed is hostile text; it is cleaned before it reaches a terminal unless the person asks for the
raw bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from queuectl_magics.commands.verb import Session, Verb, records_of
from queuectl_magics.errors import InvalidInputError
from queuectl_magics.job import TERMINAL, State
from queuectl_magics.jobqueue import Details, JobList, Log
from queuectl_magics.views import text, words
from queuectl_magics.views.status import Status

if TYPE_CHECKING:
    from queuectl_magics.commands.watching import Watched
    from queuectl_magics.jobqueue.live import Live
    from queuectl_magics.views.timeline import Timeline

STATE_HELP = f"Only jobs in this state; may be repeated: {', '.join(State)}."

VARYING = ("elapsed", "created_at", "updated_at")


def _text(found: Status | Live | Watched, session: Session) -> str:
    if isinstance(found, Status):
        return text.status(found, width=session.width, colour=session.colour)
    return found.text(width=session.width, colour=session.colour)


def _as_json(found: Status | Live | Watched) -> dict[str, Any]:
    status = found if isinstance(found, Status) else found.status
    return {
        "total": status.total,
        "counts": status.counts,
        "workers": status.workers,
        "paused": status.paused,
        "jobs": [
            {
                "id": job.id,
                "name": job.name,
                "state": job.state,
                "attempts": job.attempts,
                "exit_code": job.exit_code,
                "elapsed_s": words.elapsed_s(job, status.now),
                "reason": status.reason(job),
                "command": job.command,
                "created_at": job.created_at,
                "updated_at": job.updated_at,
            }
            for job in status.jobs
        ],
    }


def _frame(found: Status | Live, session: Session) -> Any:
    if not isinstance(found, Status):
        return found
    from queuectl_magics.views.frame import status_frame

    frame = status_frame(found)
    if not session.plain:
        return frame
    over = frame["state"].isin([*TERMINAL])
    return frame.drop(columns=list(VARYING)).assign(reason=frame["reason"].where(over, ""))


@click.command(
    "status",
    cls=Verb,
    text=_text,
    notebook=_frame,
    json=_as_json,
)
@click.option("--state", "states", multiple=True, metavar="STATE", help=STATE_HELP)
@click.option("--failed", is_flag=True, help="Only jobs that failed or are dead.")
@click.option(
    "--live",
    "--watch",
    "live",
    is_flag=True,
    help="Go on showing how it changes: a live table, or in a terminal until all jobs are over.",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def status(
    session: Session,
    *,
    states: tuple[str, ...],
    failed: bool,
    live: bool,
    ids: tuple[str, ...],
) -> Status | Live | Watched:
    """Show the jobs and how many there are in each state.

    As JSON: total, counts, workers, paused and, of each job, what the table of a notebook has.
    """
    if live:
        if states or failed or ids:
            msg = "--live shows all jobs: leave out the states and ids, and filter in the table"
            raise InvalidInputError(msg)
        if not session.foreground:
            return session.queue.live()
        from queuectl_magics.commands.watching import watch

        return watch(session)
    if failed:
        states += (State.FAILED, State.DEAD)
    return session.queue.status(states or None, refs=ids or None)


@click.command(
    "list",
    cls=Verb,
    text=lambda jobs, session: text.jobs(jobs.records, width=session.width, colour=session.colour),
    json=records_of,
)
@click.option("--state", "states", multiple=True, metavar="STATE", help=STATE_HELP)
@click.option("--tag", metavar="TAG", help="Only jobs with this tag.")
@click.option("--all", "archived", is_flag=True, help="Also those in the archive.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def list_(
    session: Session,
    *,
    states: tuple[str, ...],
    tag: str | None,
    archived: bool,
    ids: tuple[str, ...],
) -> JobList:
    """List the jobs, oldest first.

    As JSON: an array of the jobs with all that is known of them.
    """
    return JobList(
        session.queue.jobs(states or None, refs=ids or None, tag=tag, archived=archived)
    )


@click.command(
    "show",
    cls=Verb,
    text=lambda details, session: details.text(colour=session.colour),
    json=lambda details: details.record,
)
@click.argument("id")
@click.pass_obj
def show(session: Session, id: str) -> Details:
    """Show one job in full: what was asked, every attempt, and why."""
    status = session.queue.status(refs=[id])
    return Details(status.jobs[0], status, plain=session.plain)


@click.command(
    "timeline",
    cls=Verb,
    text=lambda timeline, session: timeline.text(width=session.width, colour=session.colour),
    json=lambda timeline: timeline.spans,
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def timeline(session: Session, ids: tuple[str, ...]) -> Timeline:
    """Show who ran when, and in which slot."""
    return session.queue.timeline(refs=ids or None)


@click.command(
    "logs",
    cls=Verb,
    text=lambda log, _session: "" if log.followed else str(log),
    json=lambda log: {"output": str(log)},
)
@click.option("--follow", "-f", is_flag=True, help="Go on until the job is over.")
@click.option(
    "--lines", "-n", type=click.IntRange(min=0), metavar="N", help="Only the last N lines."
)
@click.option(
    "--attempt",
    type=click.IntRange(min=1),
    metavar="N",
    help="Which attempt; by default the latest.",
)
@click.option("--raw", is_flag=True, help="With all its terminal control sequences.")
@click.argument("id")
@click.pass_obj
def logs(
    session: Session,
    id: str,
    *,
    follow: bool,
    lines: int | None,
    attempt: int | None,
    raw: bool,
) -> Log:
    """Show what a job has printed, stdout and stderr as they came."""
    job = session.queue.job(id)
    if attempt is not None:
        if follow:
            msg = "--follow shows each attempt as it comes: leave out --attempt"
            raise InvalidInputError(msg)
        job.check_attempt(attempt)
    show_text = str if raw else lambda piece: words.clean(piece, keep_colour=session.colour)
    if not follow:
        yet = "" if job.state in TERMINAL else " yet"
        found = show_text(job.logs(attempt=attempt, lines=lines))
        return Log(found, nothing=f"Job {job.id} has printed nothing{yet}.")
    is_asked_again = session.json_only or not session.foreground  # a terminal has seen it all
    kept = []
    for piece in job.follow(lines=lines):
        if is_asked_again:
            kept.append(piece)
        session.write("\r".join(map(show_text, piece.split("\r"))))  # progress bars keep moving
    return Log(show_text("".join(kept)), followed=True)
