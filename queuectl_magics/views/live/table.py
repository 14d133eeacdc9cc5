"""The kernel's side: what the browser asks, and what it is sent.

A view says hello and gets a snapshot; from then on it gets numbered deltas for as long as it says,
every few seconds, that it is still watched. It asks for jobs to be cancelled or retried, for the
queue to be paused, for a log. The rules here: a request is answered once and its answer kept, for
it may come by two roads; requests come on any thread, so what they change is guarded; only the
pusher's thread sends rows.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from queuectl_magics.views.live import wire
from queuectl_magics.views.live.log import Following
from queuectl_magics.views.live.pusher import the_pusher
from queuectl_magics.views.live.searching import Searching
from queuectl_magics.views.live.source import Changes, Source, Standing
from queuectl_magics.views.live.tails import Tails
from queuectl_magics.views.words import one_line

LEASE_S = 20.0
STANDING_S = 1.0
SNAPSHOT_TAILS_S = 0.05
ANSWERS_MAX = 200
FOLLOWING_MAX = 8


Send = Callable[[dict[str, Any], list[bytes] | None], None]


class LiveTable:
    """The kernel's side of a live table.

    Args:
        source: whose jobs.
        send: sends a message, and perhaps bytes with it, to every view.
        on_turn: called by the pusher's thread after each turn in which jobs had changed.

    """

    def __init__(
        self, source: Source, send: Send, on_turn: Callable[[], None] = lambda: None
    ) -> None:
        self._send_raw = send
        self._source = source
        self._on_turn = on_turn
        self._tails = Tails(source)
        self._searching = Searching(source)
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._answered: OrderedDict[str, Future[dict[str, Any]]] = OrderedDict()
        self._following: dict[str, Following] = {}
        self._wanted: set[str] = set()
        self._watched_until_s = 0.0
        self._wants_all = False
        self._known: dict[str, int] = {}
        self._seq: int | None = None
        self._epoch = os.urandom(4).hex()
        self._number = 0
        self._standing: Standing | None = None
        self._standing_at_s = 0.0
        the_pusher().add(self)

    # --- what the browser asks ----------------------------------------------------------------

    def hear(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """Answer a message of the first road."""
        self._send(self.answer(content))

    def answer(self, content: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked, unless it was done already, and return the answer."""
        request = str(content.get("rid", ""))
        with self._lock:
            self._watched_until_s = time.monotonic() + LEASE_S
            known = self._answered.get(request)
            promise = self._answered.setdefault(request, Future())
            while len(self._answered) > ANSWERS_MAX:
                self._answered.popitem(last=False)
        if known is None:
            done: dict[str, Any] = {
                "error": "it was interrupted in the middle: look, and ask again"
            }
            try:
                done = self._do(content)
            finally:  # the other road may be waiting for it
                promise.set_result({"kind": "answer", "rid": request, **done})
            the_pusher().poke()
        return promise.result()

    def _do(self, content: dict[str, Any]) -> dict[str, Any]:
        deed = REQUESTS.get(str(content.get("op")))
        if deed is None:
            return {"error": "the page asks for something that this kernel does not know"}
        try:
            return deed(self, content)
        except Exception as error:  # noqa: BLE001 - it is shown to the person who clicked
            return {"error": one_line(str(error)) or type(error).__name__}

    def _hello(self, _content: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._wants_all = True
        return {}

    def _beat(self, _content: dict[str, Any]) -> dict[str, Any]:
        return {"epoch": self._epoch}

    def _leave(self, content: dict[str, Any]) -> dict[str, Any]:
        """Hear that a view is out of sight; another one may still be watched."""
        with self._lock:
            self._following.pop(str(content.get("view")), None)
        return {}

    def _look(self, content: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._wanted.update(map(str, content["jobs"]))
        return {}

    def _find(self, content: dict[str, Any]) -> dict[str, Any]:
        self._searching.ask(str(content["view"]), str(content["query"]))
        return {}

    def _cancel(self, content: dict[str, Any]) -> dict[str, Any]:
        return {"count": self._source.cancel(list(map(str, content["jobs"])))}

    def _retry(self, content: dict[str, Any]) -> dict[str, Any]:
        return {"count": self._source.retry(list(map(str, content["jobs"])))}

    def _pause(self, _content: dict[str, Any]) -> dict[str, Any]:
        self._standing_at_s = 0.0
        self._source.pause()
        return {}

    def _resume(self, _content: dict[str, Any]) -> dict[str, Any]:
        self._standing_at_s = 0.0
        self._source.resume()
        return {}

    def _follow(self, content: dict[str, Any]) -> dict[str, Any]:
        view, job, attempt = str(content["view"]), str(content["job"]), int(content["attempt"])
        with self._lock:
            self._following.pop(view, None)
            self._following[view] = Following(self._source, view, job, attempt)
            while len(self._following) > FOLLOWING_MAX:  # of a page that was left nobody tells us
                del self._following[next(iter(self._following))]
        return {}

    # --- what the browser is sent -------------------------------------------------------------

    def is_watched(self) -> bool:
        """Say whether a view has been heard of lately."""
        return time.monotonic() < self._watched_until_s

    def turn(self) -> None:
        """Send what is new: everything to a view that says hello, else what changed."""
        with self._lock:
            wants_all, self._wants_all = self._wants_all, False
            following, wanted = list(self._following.values()), self._wanted
            self._wanted = set()
        changes = self._source.changes(None if wants_all else self._seq)
        self._seq = changes.seq
        if changes.whole:
            self._send_snapshot(changes)
        else:
            self._tails.want(wanted)
            self._send_delta(changes)
        for log in following:
            piece = log.look()
            if piece is not None:
                self._send({"kind": "log", **piece})
        if changes.jobs or changes.gone:
            self._in_a_cell(self._on_turn)

    def stumble(self, error: Exception) -> None:
        """Tell the viewers why nothing comes any more, and rest until one asks again."""
        self._watched_until_s = 0.0
        self._seq = None
        self._send({"kind": "trouble", "text": one_line(str(error)) or type(error).__name__})

    def _send_snapshot(self, changes: Changes) -> None:
        self._number += 1
        self._known = {job.id: job.order for job in changes.jobs}
        self._tails.forget()
        self._searching.begin()
        self._tails.note(changes.jobs)
        heard = dict(self._tails.look(SNAPSHOT_TAILS_S))
        heard |= self._tails.heard
        head = {"kind": "snapshot", "epoch": self._epoch, "number": self._number}
        head |= {"count": len(changes.jobs), "queue": self._queue(always=True)}
        for first, packed in wire.chunks(changes.jobs, heard):
            self._send({**head, "first": first, "now": _now_ms()}, packed)

    def _send_delta(self, changes: Changes) -> None:
        new = [job for job in changes.jobs if self._known.get(job.id) != job.order]
        changed = [job for job in changes.jobs if self._known.get(job.id) == job.order]
        # of those that are new, some have the id of one that was pruned since the last turn
        gone = [*changes.gone, *(job.id for job in new if job.id in self._known)]
        for id in gone:
            self._known.pop(id, None)
        self._known.update((job.id, job.order) for job in new)
        self._tails.drop(gone)
        self._tails.note(changes.jobs)
        self._searching.drop(gone)
        self._searching.note(changes.jobs)
        found = [(job.id, self._tails.read(job), words) for job, words in self._searching.look()]
        spoken = self._tails.look()
        self._searching.hear(self._tails.grown)
        body = wire.delta(new=new, changed=changed, spoken=spoken, found=found, gone=gone)
        queue = self._queue()
        if not body and queue is None:
            return
        self._number += 1
        head = {"kind": "delta", "epoch": self._epoch, "number": self._number, "now": _now_ms()}
        self._send(head if queue is None else {**head, "queue": queue}, wire.pack(body))

    def _queue(self, *, always: bool = False) -> dict[str, Any] | None:
        """Return how the queue stands, if that is new; it is asked once a second."""
        now_s = time.monotonic()
        if not always and now_s - self._standing_at_s < STANDING_S:
            return None
        standing, self._standing_at_s = self._source.standing(), now_s
        if standing == self._standing and not always:
            return None
        self._standing = standing
        return standing._asdict()

    def _send(self, content: dict[str, Any], packed: bytes | None = None) -> None:
        self._in_a_cell(self._send_raw, content, None if packed is None else [packed])

    def _in_a_cell(self, function: Callable[..., None], *args: object) -> None:
        """Call what sends something; where no cell is known, as in the cell of this table."""
        try:
            function(*args)
        except LookupError:  # ipykernel 7.0 knows no cell outside of a cell's own context
            self._context.copy().run(function, *args)


def _now_ms() -> int:
    return int(time.time() * 1000)


REQUESTS: dict[str, Callable[[LiveTable, dict[str, Any]], dict[str, Any]]] = {
    "hello": LiveTable._hello,  # noqa: SLF001 - this module's own
    "beat": LiveTable._beat,  # noqa: SLF001
    "leave": LiveTable._leave,  # noqa: SLF001
    "look": LiveTable._look,  # noqa: SLF001
    "find": LiveTable._find,  # noqa: SLF001
    "follow": LiveTable._follow,  # noqa: SLF001
    "cancel": LiveTable._cancel,  # noqa: SLF001
    "retry": LiveTable._retry,  # noqa: SLF001
    "pause": LiveTable._pause,  # noqa: SLF001
    "resume": LiveTable._resume,  # noqa: SLF001
}
