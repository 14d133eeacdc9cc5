"""The verbs that change jobs or settings: `cancel`, `retry`, `dlq`, `config`, `prune`.

Each is one call of the queue. The rule here: a verb that names several jobs does all of it or, if
one of them refuses, none; and one that could hit many jobs at once wants to be told which.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from queuectl_magics.commands.verb import (
    DURATION,
    SIGNAL,
    Family,
    Session,
    Verb,
    each,
    records_of,
)
from queuectl_magics.errors import InvalidInputError, RefusedError
from queuectl_magics.job import State
from queuectl_magics.jobqueue import Job, JobList, Pruned
from queuectl_magics.settings import setting_name
from queuectl_magics.views import text


def _one_or_many(jobs: list[Job], refs: tuple[str, ...]) -> Job | JobList:
    return jobs[0] if len(refs) == 1 else JobList(jobs)


def _told(word: str) -> Any:
    def tell(jobs: Job | JobList, _session: Session) -> str:
        return "\n".join(f"Job {job.id} {word}." for job in each(jobs)) or "No jobs."

    return tell


def _cancelled(jobs: Job | JobList, _session: Session) -> str:
    return "\n".join(
        f"Job {job.id} is being cancelled."
        if job.state is State.PROCESSING
        else f"Job {job.id} cancelled."
        for job in each(jobs)
    )


@click.command("cancel", cls=Verb, text=_cancelled, json=records_of)
@click.option(
    "--signal",
    "number",
    type=SIGNAL,
    default="TERM",
    help="What running jobs get first (default TERM); KILL follows when their grace is over.",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.pass_obj
def cancel(session: Session, ids: tuple[str, ...], number: int) -> Job | JobList:
    """Call jobs off, and end what they have started."""
    return _one_or_many(session.queue.cancel(*ids, signal=number), ids)


@click.command("retry", cls=Verb, text=_told("is pending again"), json=records_of)
@click.option("--failed", is_flag=True, help="All jobs that failed or are dead.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def retry(session: Session, ids: tuple[str, ...], *, failed: bool) -> Job | JobList:
    """Give jobs all their attempts again, due at once."""
    if failed == bool(ids):
        msg = "name the jobs to retry, or say --failed for all that failed or are dead"
        raise InvalidInputError(msg)
    if failed:
        queue = session.queue
        return JobList(queue.retry(states=(State.FAILED, State.DEAD)))
    return _one_or_many(session.queue.retry(*ids), ids)


dlq = Family("dlq", default="list", help="The dead letter queue: jobs whose attempts are spent.")


@dlq.command(
    "list",
    text=lambda jobs, session: text.jobs(jobs.records, width=session.width, colour=session.colour),
    json=records_of,
)
@click.pass_obj
def dlq_list(session: Session) -> JobList:
    """List the dead jobs."""
    return JobList(session.queue.jobs(State.DEAD))


@dlq.command("retry", text=_told("is pending again"), json=records_of)
@click.option("--all", "everything", is_flag=True, help="All dead jobs.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def dlq_retry(session: Session, ids: tuple[str, ...], *, everything: bool) -> Job | JobList:
    """Give dead jobs all their attempts again, due at once."""
    if everything == bool(ids):
        msg = "name the dead jobs to retry, or say --all"
        raise InvalidInputError(msg)
    queue = session.queue
    if everything:
        return JobList(queue.retry(states=State.DEAD))
    for id in ids:
        record = queue.job(id).record
        if record.state is not State.DEAD:
            msg = f"job {record.id} is {record.state}, not dead (to retry any job: retry ID)"
            raise RefusedError(msg)
    return _one_or_many(queue.retry(*ids), ids)


config = Family("config", default="list", help="The settings of this queue.")


def _settings(session: Session) -> dict[str, Any]:
    found = msgspec.structs.asdict(session.queue.config)
    return {key.replace("_", "-"): value for key, value in found.items()}


def _as_lines(found: dict[str, Any], _session: Session) -> str:
    return "\n".join(f"{key} = {_plain(value)}" for key, value in found.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


@config.command("list", text=_as_lines)
@click.pass_obj
def config_list(session: Session) -> dict[str, Any]:
    """List the settings."""
    return _settings(session)


@config.command("get", text=lambda value, _session: _plain(value))
@click.argument("key")
@click.pass_obj
def config_get(session: Session, key: str) -> Any:
    """Show one setting."""
    return _settings(session)[setting_name(key)]


@config.command("set", text=_as_lines, context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("value")
@click.pass_obj
def config_set(session: Session, key: str, value: str) -> dict[str, Any]:
    """Change a setting for the jobs enqueued from now on."""
    session.queue.configure(key, value)
    name = setting_name(key)
    return {name: _settings(session)[name]}


@click.command("prune", cls=Verb, text=lambda ids, _session: ids.text())
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="completed, cancelled or dead; may be repeated (default: the first two).",
)
@click.option(
    "--older-than", type=DURATION, default="0", help="Only jobs that ended this long ago."
)
@click.option(
    "--keep", type=click.IntRange(min=0), default=0, metavar="N", help="But not the newest N."
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.pass_obj
def prune(
    session: Session, ids: tuple[str, ...], states: tuple[str, ...], older_than: float, keep: int
) -> Pruned:
    """Drop jobs that are over, with their logs. Dead jobs only when you say so."""
    chosen = states or (State.COMPLETED, State.CANCELLED)
    return Pruned(session.queue.prune(*ids, states=chosen, older_than_s=older_than, keep=keep))
