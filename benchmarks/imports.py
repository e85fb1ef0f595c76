"""What ``import cachescope`` costs, against importing wrapt and psutil alone: time and resident memory, best of many."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import time, sys
began = time.perf_counter()
import {modules}
took = time.perf_counter() - began
import resource
print(took * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(sys.modules))
"""


def best(modules: str, runs: int = 15) -> tuple[float, float, int]:
    """Milliseconds, MiB and modules: the least of several fresh interpreters."""
    rows = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(modules=modules)], capture_output=True, text=True, check=True
        )
        took, resident, count = done.stdout.split()
        rows.append((float(took), float(resident), int(count)))
    return min(row[0] for row in rows), min(row[1] for row in rows), rows[0][2]


def main() -> None:
    print(f"{'import':16} {'ms':>7} {'MiB':>7} {'modules':>8}")
    for modules in ("sys", "wrapt, psutil", "cachescope"):
        took, resident, count = best(modules)
        print(f"{modules:16} {took:7.1f} {resident:7.1f} {count:8}")


if __name__ == "__main__":
    main()
