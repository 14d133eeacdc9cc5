"""Everything that can go wrong and that a person can meet.

One family, so that each door translates it once: the notebook turns a `QueuectlError` into one red
line, the terminal into one line on stderr with exit code 1 or 2. The rule here: a message says
what happened, to which job or file, and what to do now; it never shows the value of an environment
variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BEGUN_MAX = 3


class QueuectlError(Exception):
    """The base of every error that a person can meet; its text is for that person."""


class InvalidInputError(QueuectlError):
    """What was typed cannot be understood or is out of bounds; nothing was changed."""


class UnknownJobError(QueuectlError):
    """No job has this id or name."""


class RefusedError(QueuectlError):
    """The job is in a state in which this verb makes no sense; nothing was changed."""


class HomeError(QueuectlError):
    """The home directory cannot be used: a file, unreadable, read-only, on a network disk."""


class HomeGoneError(HomeError):
    """The home was deleted or replaced while it was in use: it never gets better."""


class StoreDamagedError(QueuectlError):
    """A file of the store was altered; nothing is written until it has been repaired."""


class StoreBusyError(QueuectlError):
    """Another process has held the store's lock for longer than we were willing to wait."""


class StoreFullError(QueuectlError):
    """The disk is full; `accepted` jobs of this call were stored before it was.

    Attributes:
        accepted: ids of the jobs whose events did reach the journal.

    """

    def __init__(self, message: str, accepted: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.accepted = tuple(accepted)


class OutcomeUnknownError(QueuectlError):
    """The disk refused to confirm a write: the change may or may not survive a power cut."""


class JobFailedError(QueuectlError):
    """A job that was waited for did not complete."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for what *word* begins or is near to, or an empty text.

    Example:
        >>> did_you_mean("compelted", ["completed", "dead"])
        " Did you mean 'completed'?"
        >>> did_you_mean("--max", ["--max-output", "--tag", "--max-retries"])
        " Did you mean '--max-output' or '--max-retries'?"

    """
    import difflib

    known = list(known)
    begun = [repr(str(name)) for name in known if word.strip("-") and str(name).startswith(word)]
    if 0 < len(begun) <= BEGUN_MAX:
        return f" Did you mean {' or '.join(begun)}?"
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {str(near[0])!r}?" if near else ""
