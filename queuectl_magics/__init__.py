"""A job queue that lives in a Jupyter notebook and outlives it.

`%load_ext queuectl_magics`, then `%enqueue python train.py`: the command runs in the background,
with retries, its output is kept, and it goes on when the kernel is restarted or killed. The rule
here: importing this package is cheap; IPython, pandas and the rest are loaded when they are first
needed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    msg = "queuectl_magics runs on Linux and macOS; on Windows use it within WSL"
    raise ImportError(msg)

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from queuectl_magics.errors import (
        InvalidInputError,
        JobFailedError,
        QueuectlError,
        RefusedError,
        UnknownJobError,
    )
    from queuectl_magics.job import JobSpec, State
    from queuectl_magics.jobqueue import Job, JobQueue

__all__ = [
    "InvalidInputError",
    "Job",
    "JobFailedError",
    "JobQueue",
    "JobSpec",
    "QueuectlError",
    "RefusedError",
    "State",
    "UnknownJobError",
    "load_ipython_extension",
    "unload_ipython_extension",
]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give the notebook its magics: `%load_ext queuectl_magics`."""
    from queuectl_magics import magics

    magics.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away again and leave running jobs to the next worker."""
    from queuectl_magics import magics

    magics.unload(shell)


def __getattr__(name: str) -> Any:
    if name in ("Job", "JobQueue"):
        from queuectl_magics import jobqueue

        return getattr(jobqueue, name)
    if name in ("JobSpec", "State"):
        from queuectl_magics import job

        return getattr(job, name)
    if name in __all__:
        from queuectl_magics import errors

        return getattr(errors, name)
    if name == "__version__":
        from queuectl_magics.version import version

        return version()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
