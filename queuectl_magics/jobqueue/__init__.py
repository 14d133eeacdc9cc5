"""The Python API: a queue and its jobs.

What the terminal and the notebook do with a queue are methods here, usable without either. A
`Job` is a live view of one record: it looks at the store each time it is asked. The rule here:
these two classes hold no truth of their own; the store does.
"""

from queuectl_magics.jobqueue.job import Job
from queuectl_magics.jobqueue.jobqueue import JobQueue
from queuectl_magics.jobqueue.shown import Details, JobList, Log, Pruned, WorkerList

__all__ = ["Details", "Job", "JobList", "JobQueue", "Log", "Pruned", "WorkerList"]
