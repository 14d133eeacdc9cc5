"""How long to wait before the next attempt.

Pure arithmetic: the dice are an argument, so the journal can hold the moment that was decided. The
rule here: whatever the numbers, the result is finite, not negative, and not above the cap.
"""

from __future__ import annotations


def backoff_s(
    attempts: int,
    *,
    base: float = 2.0,
    cap_s: float = 3600.0,
    jitter: float = 0.0,
    dice: float = 0.0,
) -> float:
    """Return the seconds to wait after the failed attempt number *attempts*.

    `min(cap_s, base ** attempts)`: 2, 4, 8 … with the default base, the exponential backoff of the
    queuectl family. With *jitter* (0 to 1) up to that fraction of the wait is taken off, by *dice*
    (0 to 1), so that jobs that failed together do not come back together.

    Example:
        >>> [backoff_s(n) for n in (1, 2, 3)]
        [2.0, 4.0, 8.0]
        >>> backoff_s(5000)
        3600.0

    """
    try:
        wait_s = min(cap_s, float(base) ** attempts)
    except OverflowError:
        wait_s = cap_s
    return max(0.0, wait_s * (1.0 - jitter * dice))
