"""The only reader of time.

Everything above takes the moment as an argument, so that a rule can be tested without waiting and
a replay gives the same jobs as the first run. Two clocks: wall time is written down for people,
the monotonic one measures how long we have been waiting; no decision compares the two.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the wall-clock time, aware, in UTC, to the microsecond."""
    return datetime.now(UTC)


def monotonic_s() -> float:
    """Return seconds on a clock that never goes back; only differences mean something."""
    return time.monotonic()
