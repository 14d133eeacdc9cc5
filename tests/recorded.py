"""Attempts for the tests of the recorder, without a queue, a store or a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path

from processes import is_alive, processes_with, session_of
from queuectl_magics import recorder
from queuectl_magics.spawning import Environment

SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"]


class Attempt:
    """One command under a recorder, in a folder of its own, reached as an engine would."""

    def __init__(self, folder: Path, command: str, *, form: str = "short") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.marker = f"{uuid.uuid4().hex}-1.1-0"
        self.path = recorder.run_path(folder, "1", 1, "t0ken")
        self.log = folder / "log"
        program = ["/bin/sh"] if form == "a program's" else []
        command = {
            "asks for its pid": "# $$\n",
            "long": f"#{'x' * recorder.ARGUMENT_BYTES_MAX}\n",
        }.get(form, "") + command
        fd = recorder.claim(self.path)
        try:
            argv = recorder.arguments(command, str(folder), program, folder / "script")
            self.pid = recorder.spawn(fd, self.log, argv, Environment(self.environ()), {})
        finally:
            os.close(fd)

    def environ(self) -> dict[str, str]:
        """Return what the command is given."""
        return {"PATH": os.environ["PATH"], recorder.MARKER_VARIABLE: self.marker}

    @property
    def output(self) -> bytes:
        """What it has printed."""
        return self.log.read_bytes()

    @property
    def code(self) -> int | None:
        """The exit code in its record."""
        return recorder.read_record(self.path, self.marker).code

    def wait(self) -> int:
        """Return the exit code of the recorder."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def members(self) -> set[int]:
        """Return what is alive of it besides the recorder."""
        wanted = f"{recorder.MARKER_VARIABLE}={self.marker}".encode()
        found = {*session_of(self.pid), *processes_with(wanted, files=["environ"])}
        return set(filter(is_alive, found)) - {self.pid}

    def signal(self, number: int) -> int:
        """Signal the whole tree."""
        return recorder.signal_tree(self.path, self.marker, number)

    def kill(self) -> set[int]:
        """Kill what is alive of it, and return what that was."""
        found = self.members()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        return found


def without_names(text: bytes) -> list[bytes]:
    """Return the lines, without the `sh: 1: ` or `/path/script: 3: ` before a complaint.

    A signal's `Killed` is said by the shell above, which a plain `sh -c` does not have.
    """
    said_above = (b"Killed", b"Terminated", b"Segmentation fault")
    lines = [line.rpartition(b": ")[2] for line in text.split(b"\n")]
    return [line for line in lines if line not in said_above]
