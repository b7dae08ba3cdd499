"""Run every benchmark, one after the other, each in a process of its own: ``python -m tests.benchmarks [name …]``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path


def main() -> int:
    wanted = set(sys.argv[1:])
    files = sorted(Path(__file__).parent.glob("bench_*.py"))
    names = {f.stem.removeprefix("bench_"): f for f in files}
    if wanted - set(names):
        sys.stderr.write(f"no benchmark {min(wanted - set(names))}; there are: {', '.join(names)}\n")
        return 2
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    failed = 0
    for name, file in names.items():
        if wanted and name not in wanted:
            continue
        print(f"\n== {name}", flush=True)
        failed |= subprocess.run([sys.executable, str(file)]).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
