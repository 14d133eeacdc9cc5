"""What is kept of jobs that are over, and what goes with them.

A finished job leaves a record, a log per attempt, perhaps a run file, and a share in a kept
environment. Records beyond the limit lie in the archive, where they are found but not changed.
The rules here: what is dropped leaves no trace; nothing is removed that a job, even one accepted
this very moment, still needs, so everything is removed under the store's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from queuectl_magics import environment, output
from queuectl_magics.errors import InvalidInputError, RefusedError, UnknownJobError
from queuectl_magics.job import JobRecord, JobSpec
from queuectl_magics.jobqueue.finding import find, find_all, refuse_several
from queuectl_magics.store import Store, archive
from queuectl_magics.table import Table

SLICE = 200
UNUSED_AGE_S = 86_400.0


def find_anywhere(store: Store, words: Sequence[str]) -> list[JobRecord]:
    """Return the jobs that *words* mean, in the queue or else in the archive.

    Raises:
        UnknownJobError: a word means no job, or several.

    """
    with store.reading() as table:
        try:
            return find_all(table, words)
        except UnknownJobError:
            if not archive.paths(store.paths.home):
                raise
    found: dict[tuple[str, int], JobRecord] = {}
    for word in words:
        record = _archived(store, word)
        if record is None:
            with store.reading() as table:
                record = find(table, word)
        found[record.id, record.order] = record
    return list(found.values())


def _archived(store: Store, word: str) -> JobRecord | None:
    """Return the archived job that *word* means, if it means none in the queue.

    Raises:
        UnknownJobError: several archived jobs have that name.

    """
    with store.reading() as table:
        if word in table.jobs or any(table.named(word)):
            return None
        jobs = table.jobs
    home = store.paths.home
    if not archive.paths(home):
        return None
    found = archive.find(home, word, jobs)
    if found is None:
        named = archive.records(home, jobs, name=word)
        refuse_several(word, named)
        found = named[0] if named else None
    return found


def with_archived(store: Store) -> list[JobRecord]:
    """Return all jobs of the queue and of the archive, in the order in which they came."""
    with store.reading() as table:
        kept = dict(table.jobs)
    return [*archive.records(store.paths.home, kept), *kept.values()]


def pruned(store: Store, ids: Iterable[str]) -> set[str]:
    """Return which of *ids* are neither in the queue nor in the archive any more."""
    with store.reading() as table:
        jobs = table.jobs
        gone = {id for id in ids if id not in jobs}
    return gone - archive.find_all(store.paths.home, gone, jobs).keys() if gone else gone


def refuse_archived(store: Store, words: Iterable[str]) -> None:
    """Return if none of *words* means an archived job.

    Raises:
        RefusedError: one of them does; it can be looked at or pruned, but not changed.

    """
    for word in words:
        if _archived(store, word) is not None:
            msg = f"job {word} is in the archive: it can be shown, not changed (enqueue it again)"
            raise RefusedError(msg)


def refuse_taken(store: Store, table: Table, specs: Iterable[JobSpec]) -> None:
    """Return if no archived job has the log that one of *specs* would write to; lock held.

    To look for every id in the archive would cost too much; a log that lies there says when it is
    worth it. An archived job that has none, since it never ran, does not keep its id.

    Raises:
        InvalidInputError: the id is taken.

    """
    for spec in specs:
        if spec.id is None or spec.id in table.jobs:
            continue
        if output.log_path(store.paths.logs, spec.id, 1).exists():
            found = archive.find(store.paths.home, spec.id, table.jobs)
            if found is not None:
                msg = f"the id {spec.id!r} is taken by a job in the archive: choose another"
                raise InvalidInputError(msg)
            for path in store.paths.logs.glob(f"{spec.id}.*.log"):  # of one that was pruned
                if path.name.removeprefix(f"{spec.id}.").removesuffix(".log").isdecimal():
                    path.unlink(missing_ok=True)


def remove_traces(store: Store, jobs: Sequence[JobRecord]) -> None:
    """Remove *jobs*, which have been pruned, from the archive, and their logs and run files."""
    archive.drop(store, jobs)
    for at in range(0, len(jobs), SLICE):
        with store.exclusive(timeout_s=None):
            gone = [job for job in jobs[at : at + SLICE] if job.id not in store.table.jobs]
            for job in gone:  # of any other a new job has the id, and the files
                for attempt in range(1, job.attempt + 1):
                    log = output.log_path(store.paths.logs, job.id, attempt)
                    log.unlink(missing_ok=True)
            _remove_runs(store, {job.id for job in gone})
    _sweep_environments(store)


def _remove_runs(store: Store, ids: set[str]) -> None:
    """Remove what a killed worker has left of runs of these jobs: `id.attempt.token.…`."""
    for path in store.paths.run.iterdir():
        if path.stem.rsplit(".", 2)[0] in ids:
            path.unlink(missing_ok=True)


def _sweep_environments(store: Store) -> None:
    """Remove kept environments that no job refers to; those of the last day may be about to be."""
    folder = store.paths.env
    old = environment.older_than(folder, UNUSED_AGE_S)
    if old:
        with store.exclusive(timeout_s=None):
            jobs = store.table.jobs.values()
            used = {reference for job in jobs for reference in (job.environ_ref, job.env_ref)}
            for reference in old.keys() - used:
                old[reference].unlink(missing_ok=True)


def keep(store: Store, variables: Iterable[Mapping[str, str]]) -> list[str | None]:
    """Write down each of *variables*; return their references, None where there is nothing.

    Raises:
        HomeGoneError: the home has been deleted.
        StoreFullError, HomeError: they cannot be written down.

    """
    try:
        folder = store.paths.env
        return [environment.keep(folder, some) if some else None for some in variables]
    except FileNotFoundError:
        store.catch_up()  # it says so
        raise
    except OSError as error:
        raise store.refusal(error) from None


def keep_again(store: Store, kept: Iterable[tuple[str | None, Mapping[str, str]]]) -> None:
    """Write down variables that were swept since they were kept, in the transaction; lock held."""
    for reference, variables in kept:
        if reference is not None:
            environment.keep_again(store.paths.env, reference, variables)
