"""Run the benches of this folder, each in a process of its own.

`make bench` runs all of them; `make bench ONLY=throughput,idle` these; `REPEAT=3` takes fewer
repetitions than the usual five. Each prints its tables and leaves them as JSON in
`.bench/results/`. The runner brings the peers in first when a bench needs them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import measuring
import peers

HERE = Path(__file__).parent
NEED_PEERS = {"throughput", "enqueue", "pickup"}


def benches() -> dict[str, Path]:
    """Return name → file of all benches."""
    found = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    return found | {"live_table": HERE / "live_table.py"}


def main() -> int:
    known = benches()
    wanted = [name for name in os.environ.get("ONLY", "").replace(",", " ").split() if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no bench {', '.join(unknown)}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = wanted or list(known)
    if NEED_PEERS & set(chosen):
        peers.install()
    about = measuring.machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    failed = []
    for name in chosen:
        print(f"\n## {name}", flush=True)
        if subprocess.run([sys.executable, known[name]], check=False).returncode:
            failed.append(name)
    kept = measuring.BENCH / "run"
    print(f"\nWhat the runs left lies in {kept.relative_to(measuring.ROOT)}; delete it only when")
    print("nothing will be measured for some minutes (see benchmarks/README.md).")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
