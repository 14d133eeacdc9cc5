"""Which jobs are meant: by id, by a name that only one has, or by a handle.

Pure functions of a table, so that they can be asked inside a transaction: whoever names a job and
then changes it sees the same queue both times. The rule here: an id goes before a name, and each
job is found once however often it was named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from queuectl_magics.errors import UnknownJobError, did_you_mean
from queuectl_magics.job import JobRecord
from queuectl_magics.table import Table

IDS_NAMED_MAX = 10
NEAR_LOOKED_AT = 1000


def find_all(table: Table, words: Iterable[str]) -> list[JobRecord]:
    """Return the jobs that *words* mean, each once, in the order in which they were named.

    Raises:
        UnknownJobError: a word means no job, or several.

    """
    return list({job.id: job for job in (find(table, word) for word in words)}.values())


def find(table: Table, word: str) -> JobRecord:
    """Return the job that *word* means.

    Raises:
        UnknownJobError: there is none, or several have that name.

    """
    if word in table.jobs:
        return table.jobs[word]
    named = list(table.named(word))
    refuse_several(word, named)
    if named:
        return named[0]
    known = [*table.jobs, *(job.name for job in table.jobs.values() if job.name)]
    near = did_you_mean(word, known[-NEAR_LOOKED_AT:])
    msg = f"there is no job {word!r}.{near or ' See them with status.'}"
    raise UnknownJobError(msg)


def refuse_several(word: str, named: Sequence[JobRecord]) -> None:
    """Return if at most one job is *named* by *word*.

    Raises:
        UnknownJobError: several are.

    """
    if len(named) > 1:
        ids = ", ".join(job.id for job in named[-IDS_NAMED_MAX:])
        msg = f"{len(named)} jobs have the name {word!r}: use an id ({ids})"
        raise UnknownJobError(msg)
