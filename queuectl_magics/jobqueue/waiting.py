"""Wait for jobs that any process may be running.

News of this process wakes us at once; news of others is looked for twenty times a second, for as
long as somebody waits and no longer. While many jobs are left we do not even wake at every news:
whoever waits takes time from the worker's thread. The rule here: an interrupted or expired wait
changes nothing.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from queuectl_magics import clock, values
from queuectl_magics.job import TERMINAL, JobRecord
from queuectl_magics.store import Store
from queuectl_magics.values import Seconds

NOT_THE_CALLER = (__name__.partition(".")[0], "asyncio")
POLL_S = 0.05
MANY = 16
MANY_S = 0.02
LOOK_S = 0.1
NAMED_MAX = 10


def pauses(
    store: Store,
    ids: Sequence[str],
    *,
    timeout: Seconds | None = None,
    on_look: Callable[[list[JobRecord]], None] = lambda _records: None,
    held_back_by: Callable[[list[JobRecord]], str],
) -> Iterator[float]:
    """Yield how long to pause before the next look, until each of these jobs is over or pruned.

    Warns once if *held_back_by* says why that will not happen by itself.

    Raises:
        InvalidInputError: *timeout* is no time.
        TimeoutError: some are not over by then.

    """
    timeout_s = math.inf if timeout is None else values.seconds("timeout", timeout)
    give_up_at = clock.monotonic_s() + timeout_s
    left, look_at_s, warned = deque(ids), 0.0, False
    while True:
        now_s, records = clock.monotonic_s(), None
        with store.reading() as table:
            while left and _is_over(table.jobs.get(left[0])):
                left.popleft()
            if now_s >= look_at_s or not left:
                records = [table.jobs[id] for id in ids if id in table.jobs]
        if records is not None:
            look_at_s = now_s + LOOK_S
            on_look(records)
        if not left:
            store.sync(store.seq)  # what we tell is true after a power cut, too
            return
        if records is not None and (why := held_back_by(records)) and not warned:
            warned = True
            warnings.warn(why, stacklevel=_level_of_the_caller())
        if now_s >= give_up_at:
            raise TimeoutError(_too_long(store, left, timeout_s))
        yield POLL_S if len(left) < MANY else MANY_S


def until_over(store: Store, looks: Iterable[float]) -> None:
    """Return when *looks*, the pauses between them, have come to their end."""
    for pause_s in looks:
        if pause_s < POLL_S:
            time.sleep(pause_s)
        else:
            store.wait_for_news(pause_s)


def _level_of_the_caller() -> int:
    """Return the `stacklevel` of the nearest code that is not ours, for a warning to name it."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - the only way that generators allow
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(NOT_THE_CALLER):
        level, frame = level + 1, frame.f_back
    return level


def _is_over(job: JobRecord | None) -> bool:
    return job is None or job.state in TERMINAL


def _too_long(store: Store, ids: Iterable[str], timeout_s: float) -> str:
    with store.reading() as table:
        left = [id for id in ids if not _is_over(table.jobs.get(id))]
    named = ", ".join(left[:NAMED_MAX]) + (" …" if len(left) > NAMED_MAX else "")
    return f"not over after {timeout_s:g} s: {named} (the jobs go on)"
