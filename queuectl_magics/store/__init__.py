"""The JSON store: a snapshot, a journal of what happened since, and one lock.

`jobs.json` is a plain array that any tool can open; `journal.jsonl` takes one line per event, so
that a change costs the same whatever the history. `Store` brings both together; `opening` reads
them and `generation` mends what a crash left behind; `compaction` folds the journal into a new
snapshot while others work; `archive` takes in what has long been over; `repair` writes down what
`salvage` can read in a damaged home. The rule here: a complete line that was once visible is never
taken back, and nothing is acknowledged before the disk has it (with `durability = commit`).
"""

from queuectl_magics.store.store import Store

__all__ = ["Store"]
