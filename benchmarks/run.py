"""Run every benchmark behind a figure of the README: ``python3 dev.py bench [NAME…]``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ALL = {
    "imports": "what importing costs",
    "zipf": "what profiling a cache costs",
    "accuracy": "live bytes against tracemalloc",
    "memory": "our own memory under five million keys",
    "analyses": "what the folds cost, and a whole process at 200,000 operations a second",
    "sketches": "quantiles and heavy hitters: how right, how large, how fast",
    "patterns": "hidden key templates, recovered",
    "trends": "what simulated series are taken for",
}


def main() -> int:
    chosen = sys.argv[1:] or list(ALL)
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; expected some of: {', '.join(ALL)}", file=sys.stderr)
        return 2
    failed = 0
    for name in chosen:
        print(f"\n{name}: {ALL[name]}\n", flush=True)
        began = time.monotonic()
        failed |= subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False).returncode
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
