"""Ctrl-C must not fall between a write and the memory of it.

Python raises `KeyboardInterrupt` between any two steps of the main thread, and only there. The
rule here: during a change the signal is kept, and raised when the change is whole.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType


class _Kept(list[tuple[int, FrameType | None]]):
    """Takes the signals that come while a change is under way."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.append((number, frame))


def undisturbed() -> AbstractContextManager[None]:
    """Put Ctrl-C off until the block has ended, in the main thread (the only one that gets it)."""
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and not isinstance(before, _Kept):
            return _putting_off(before)
    return nullcontext()


@contextmanager
def _putting_off(before: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    pressed = _Kept()
    signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            before(*pressed[0])
