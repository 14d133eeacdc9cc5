"""What Tab offers after one of our magics: options, ids and names, states, settings.

IPython asks every matcher at each Tab; ours answers only on a line that holds one of our magics,
and then alone, so that no Python names are mixed in. Where it has nothing to offer (the command of
`%enqueue`, a directory), the others answer. The rule here: every Tab passes through this file, so
what it takes to know the offers is loaded only on a line of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from queuectl_magics.magics.names import CELL_MAGICS, LINE_MAGICS

if TYPE_CHECKING:
    from queuectl_magics.magics.door import QueueMagics

_LINE = r"(?s)^\s*(?:[^%]*=\s*)?(?P<sign>%%?)(?P<magic>\w+)[ \t]+(?P<rest>.*)$"


class Completion:
    """The matcher of one shell."""

    def __init__(self, door: QueueMagics) -> None:
        self._door = door

        @context_matcher()  # type: ignore[untyped-decorator,unused-ignore]
        def queuectl_matcher(context: Any) -> Any:
            return self._match(context.text_until_cursor)

        self._matcher = queuectl_matcher

    @property
    def _matchers(self) -> list[Any]:
        completer = getattr(self._door.shell, "Completer", None)
        return [] if completer is None else completer.custom_matchers

    def open(self) -> None:
        """Offer completions from now on."""
        self._matchers.insert(0, self._matcher)

    def close(self) -> None:
        """Offer nothing any more."""
        if self._matcher in self._matchers:
            self._matchers.remove(self._matcher)

    def _match(self, before: str) -> dict[str, Any]:
        """Return what may follow, in the form that IPython wants of a matcher."""
        found = re.match(_LINE, before)
        known = CELL_MAGICS if found and found["sign"] == "%%" else LINE_MAGICS
        if found is None or found["magic"] not in known:
            return {"completions": [], "suppress": False}
        from queuectl_magics.magics.calling import command_of
        from queuectl_magics.magics.offers import offers

        *words, fragment = re.split(r"[ \t]+", found["rest"])
        words = [word for word in words if word]
        offered = offers(command_of(found["magic"]), words, fragment, self._door.opened)
        fitting = [word for word in dict.fromkeys(offered) if word.startswith(fragment)]
        return {
            "completions": [SimpleCompletion(word, type="queue") for word in fitting],
            "suppress": bool(fitting),
            "matched_fragment": fragment,
            "ordered": True,
        }
