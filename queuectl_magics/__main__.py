"""The process `queuectl`, or `python -m queuectl_magics`.

A short command spends its time on loading modules, and a quarter of that went to looking whether
any of them had become garbage, while they were loaded and once more at the end. The rule here:
what is loaded stays, so the garbage collector passes over it; and what `typing` can do as well is
not loaded a second time.
"""

import gc
import sys
from typing import Any


def main() -> None:
    """Run one verb and end the process with its exit code."""
    gc.disable()
    modules: dict[str, Any] = sys.modules
    hidden = "typing_extensions" not in modules
    if hidden:  # msgspec would load it where there is one, for 4 ms, and takes `typing` where not
        modules["typing_extensions"] = None
    from queuectl_magics import cli

    if hidden:
        del modules["typing_extensions"]
    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
