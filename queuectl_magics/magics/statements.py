"""Whether a magic stands alone in its line, so that nobody takes its value.

IPython shows the value of a cell's last line and of no other: three `%enqueue` would leave one
line, and two in a loop none. The rule here: a value that is assigned is left to whoever takes it.
"""

from __future__ import annotations

import linecache
import sys

FRAMES_MAX = 6
NOT_A_CELL = ("IPython.", "queuectl_magics.")


def is_statement(magic: str) -> bool:
    """Say whether `%magic`, which is being called, is a whole statement of the code that runs.

    IPython has made `get_ipython().run_line_magic('magic', …)` of it, in the same line. Where it
    does not keep the lines, as below `%%time`, the answer is no.
    """
    call = f"get_ipython().run_line_magic({magic!r},"
    frame = sys._getframe(1)  # noqa: SLF001 - who calls is what is asked
    for _ in range(FRAMES_MAX):
        if frame.f_back is None:
            break
        frame = frame.f_back
        if frame.f_globals.get("__name__", "").startswith(NOT_A_CELL):
            continue  # nor need their files be read
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if call in line:
            return line.lstrip().startswith(call)
    return False
