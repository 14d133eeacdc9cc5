"""The verbs, each defined once, for both doors.

`verbs` is the tree of all of them: `queuectl <verb>` in a terminal, `%queue_<verb>` in a notebook
(`%enqueue` for the first). The rule here: a new verb is one function in one of these files; both
doors have it without another line.
"""

from queuectl_magics.commands.asking import list_, logs, show, status, timeline
from queuectl_magics.commands.changing import cancel, config, dlq, prune, retry
from queuectl_magics.commands.enqueueing import enqueue
from queuectl_magics.commands.repairing import repair
from queuectl_magics.commands.verb import Family
from queuectl_magics.commands.working import pause, resume, run, wait, worker

verbs = Family(
    "queuectl",
    commands=[
        enqueue,
        run,
        worker,
        status,
        list_,
        show,
        timeline,
        logs,
        wait,
        cancel,
        retry,
        dlq,
        config,
        prune,
        pause,
        resume,
        repair,
    ],
    help="A job queue that lives in a notebook and outlives it.",
)

__all__ = ["verbs"]
