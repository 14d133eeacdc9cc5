"""Fold the journal into a new snapshot while others go on working.

The long part, writing down all jobs, needs no lock, since records never change. Then, under the
lock for a moment: the old journal announces the snapshot and is made durable; a new journal with
the lines since is written; both take their names by rename, the snapshot first. The rule here: at
every instant the two files on disk are the old pair, the new pair, or the new snapshot with the
old journal that announced it; a power cut at any point leaves one of the three.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from queuectl_magics import codec
from queuectl_magics.codec import FORMAT, Announced, Opened
from queuectl_magics.errors import QueuectlError
from queuectl_magics.journal import frame, read_span, sync_folder, write_file
from queuectl_magics.lock import Lock
from queuectl_magics.store.opening import checksum, snapshot_text
from queuectl_magics.store.store import Store

JOURNAL_BYTES_MIN = 4 * 1024 * 1024


def is_worthwhile(store: Store) -> bool:
    """Say whether the journal has outgrown its snapshot, so that opening would take long."""
    return store.current.offset > max(JOURNAL_BYTES_MIN, store.header.snapshot_bytes)


def is_cheap(store: Store) -> bool:
    """Say whether there is anything to fold, and folding it takes some milliseconds only."""
    current = store.current
    return (
        current.header.snapshot_bytes < JOURNAL_BYTES_MIN and current.table.seq > current.base_seq
    )


def tidy_if_cheap(store: Store) -> None:
    """Bring `jobs.json` up to date for human eyes, if that is quick and nobody else does."""
    if is_cheap(store) or is_worthwhile(store):
        with suppress(OSError, QueuectlError):  # whoever changes something next hears of it
            compact(store)


def compact(store: Store) -> bool:
    """Write a new snapshot of *store*; False if another process is doing so or got in between.

    Raises:
        OSError: the disk is full or failed; the store is as it was.
        QueuectlError: the store cannot be used.

    """
    only_one = Lock(store.paths.compact_lock)
    drafts = store.paths.home / "jobs.tmp", store.paths.home / "journal.tmp"
    try:
        if not only_one.try_acquire():
            return False
        try:
            return _compact(store, *drafts)
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)
    finally:
        only_one.close()


def _compact(store: Store, jobs_draft: Path, journal_draft: Path) -> bool:
    with store.reading() as table:
        upto, offset, header = table.seq, store.current.offset, store.header
        jobs, next_number = list(table.jobs.values()), table.next_number
    text = snapshot_text(jobs)
    write_file(jobs_draft, text)
    store.at("snapshot-written")
    with store.exclusive():
        if store.header.generation != header.generation:
            return False
        crc = checksum(text)
        now = store.now()
        since = read_span(store.current.fd, offset, store.current.offset)
        store.announce(
            Announced(
                at=now,
                upto=upto,
                next_number=next_number,
                snapshot_bytes=len(text),
                snapshot_crc=crc,
            )
        )
        store.at("announced")
        opened = Opened(
            at=now,
            format=FORMAT,
            store=header.store,
            generation=header.generation + 1,
            boot=store.boot,
            next_number=next_number,
            snapshot_bytes=len(text),
            snapshot_crc=crc,
        )
        write_file(journal_draft, frame(upto, upto, codec.encode_line(opened)) + since)
        store.at("journal-written")
        _keep_previous(store)
        store.at("previous-kept")
        jobs_draft.rename(store.paths.jobs)
        store.at("jobs-renamed")
        sync_folder(store.paths.home)
        store.at("jobs-durable")
        journal_draft.rename(store.paths.journal)
        store.at("journal-renamed")
        sync_folder(store.paths.home)
        store.at("journal-durable")
    store.catch_up()
    return True


def _keep_previous(store: Store) -> None:
    """Give the pair in force a second name, as the source of a repair; no must."""
    pairs = (
        (store.paths.jobs, store.paths.jobs_prev),
        (store.paths.journal, store.paths.journal_prev),
    )
    for path, prev in pairs:
        draft = prev.with_name(prev.name + ".tmp")
        with suppress(OSError):
            draft.unlink(missing_ok=True)
            os.link(path, draft)
            draft.rename(prev)
            draft.unlink(missing_ok=True)  # two names of one file: that rename did nothing
