"""Jobs that leave evidence of their own: what a soak saw is told by files, not by the queue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

# The lock tells if two attempts of a job are ever alive at once: descriptor 8 is inherited by
# `sleep`, as the run file is, so that what is left behind counts too.
COMMAND = """
exec 8>"lock.$QUEUECTL_JOB_ID"
flock -n 8 || echo "$QUEUECTL_JOB_ID" >>overlaps
echo "$QUEUECTL_JOB_ID" >>begun
sleep {seconds:.3f}
echo "$QUEUECTL_JOB_ID" >>ended
echo "output of $QUEUECTL_JOB_ID"
"""


def command(seconds: float) -> str:
    """Return a command that takes so long and leaves evidence where it runs."""
    return COMMAND.format(seconds=seconds)


def evidence(work: Path, name: str) -> Counter[str]:
    """Return how often each job has left that evidence: `begun`, `ended` or `overlaps`."""
    path = work / name
    return Counter(path.read_text().split()) if path.exists() else Counter()
