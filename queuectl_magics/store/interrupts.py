"""Ctrl-C must not fall between a write and the memory of it.

Python raises `KeyboardInterrupt` between any two steps of the main thread, and only there. The
rule here: during a change the signal is kept, and raised when the change is whole.
"""

from __future__ import annotations

# What `signal` wraps to make enums of what it returns, which nobody looks at here and which takes
# a fifth of all it takes to enqueue after a pause.
import _signal  # type: ignore[import-not-found]
import threading
from types import FrameType


class Undisturbed:
    """Puts Ctrl-C off until the block has ended, in the main thread (the only one that gets it).

    In a block within a block it does nothing, nor where somebody else ignores the signal.
    """

    __slots__ = ("_before", "_pressed")

    def __enter__(self) -> None:
        self._before = None
        if threading.current_thread() is threading.main_thread():
            before = _signal.getsignal(_signal.SIGINT)
            if callable(before) and getattr(before, "__func__", None) is not Undisturbed._keep:
                self._pressed: tuple[int, FrameType | None] | None = None
                _signal.signal(_signal.SIGINT, self._keep)
                self._before = before

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._pressed = number, frame

    def __exit__(self, *_: object) -> None:
        before = self._before
        if before is not None:
            _signal.signal(_signal.SIGINT, before)
            if self._pressed is not None:
                before(*self._pressed)
