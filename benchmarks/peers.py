"""The peers: an environment of their own in `.bench/venv`, and which of them are there.

A peer that cannot be had is named as missing, with the reason, and never guessed. Those from the
system's packages are installed when we are root and it has `apt-get`; otherwise they are missing
until someone installs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import NamedTuple

from measuring import BENCH

PYTHON = BENCH / "venv" / "bin" / "python"


class Peer(NamedTuple):
    """A queue to compare with; `jobs` is how many it is given, fewer if it is slow."""

    name: str
    program: str
    jobs: int
    kept: str
    package: str | None = None
    command: str | None = None


PEERS = [
    Peer("joblib (loky)", "joblib", 2000, "nothing", "joblib"),
    Peer("litequeue, our loop", "litequeue", 2000, "SQLite, no fsync", "litequeue"),
    Peer("persist-queue, our loop", "persist_queue", 1000, "SQLite, fsync", "persist-queue"),
    Peer("task-spooler", "task_spooler", 800, "memory of its server", command="tsp"),
    Peer("huey", "huey", 1000, "SQLite, no fsync", "huey"),
    Peer("nq", "nq", 400, "a file per job", command="nq"),
    Peer("HyperQueue (wheel)", "hyperqueue", 2000, "nothing", "hyperqueue"),
    Peer("Dask distributed", "dask", 1000, "nothing", "distributed"),
    Peer("GNU parallel", "gnu_parallel", 400, "log of jobs", command="parallel"),
    Peer("queuectl of PyPI", "queuectl", 200, "SQLite, fsync", "queuectl"),
    Peer("rq + Redis", "rq", 100, "Redis, fsync each second", "rq", command="redis-server"),
    Peer("jobs.json rewritten", "naive", 250, "JSON, no fsync"),
]
DEBIAN = {name: name for name in ("nq", "parallel", "redis-server")} | {"tsp": "task-spooler"}


def install() -> None:
    """Bring in what is missing."""
    BENCH.mkdir(exist_ok=True)
    (BENCH / ".gitignore").write_text("*\n")
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", BENCH / "venv"], check=True)
    wanted = [peer.package for peer in PEERS if peer.package and not _has(peer.package)]
    for package in wanted:
        print(f"Installing {package} …", flush=True)
        _quietly([str(PYTHON), "-m", "pip", "install", "--quiet", package])
    commands = [
        DEBIAN[peer.command] for peer in PEERS if peer.command and not _found(peer.command)
    ]
    if commands and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {', '.join(commands)} …", flush=True)
        _quietly(["apt-get", "update", "-qq"])
        for package in commands:
            _quietly(["apt-get", "install", "-qq", "-y", "--no-install-recommends", package])


def _quietly(argv: list[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _found(command: str) -> bool:
    return shutil.which(command) is not None


def _has(package: str) -> bool:
    return bool(version(package))


def version(package: str) -> str:
    """Return the version of a Python package in the peers' environment, or an empty text."""
    program = f"from importlib.metadata import version as v; print(v({package!r}))"
    asked = [str(PYTHON), "-c", program]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def why_missing(peer: Peer) -> str:
    """Return why *peer* cannot be measured; empty if it can."""
    if peer.package and not _has(peer.package):
        return f"missing: {peer.package} cannot be installed from the package index"
    if peer.command and not _found(peer.command):
        root = "" if os.geteuid() == 0 else " (not root)"
        return f"missing: {peer.command} is not on PATH{root}"
    return ""


def versions() -> dict[str, str]:
    """Return peer → version, as far as it can be told."""
    found = {}
    for peer in PEERS:
        if peer.package:
            found[peer.name] = version(peer.package)
        elif peer.command and shutil.which("dpkg-query"):
            argv = ["dpkg-query", "-W", "-f", "${Version}", DEBIAN[peer.command]]
            asked = subprocess.run(argv, capture_output=True, text=True, check=False)
            found[peer.name] = asked.stdout.strip()
    return found
