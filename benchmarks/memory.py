"""Five million distinct keys through a cache of a million entries: our own memory, and the byte totals of key patterns.

Our own memory is the difference of the resident sets of two processes that do the same, profiled and bare, at the end, and
what the profiler says of itself. Truth of the patterns: the entries in the cache, summed one by one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from typing import Any

import psutil

PATTERNS = {"user:{int}:profile": 0.45, "session:{uuid}": 0.25, "product:{int}:page:{int}": 0.18, "geo:{hash}": 0.12}


def keys(count: int, seed: int) -> Any:
    """*count* distinct keys of the patterns, with their shares."""
    rng = random.Random(seed)
    hexes = "0123456789abcdef"
    for i in range(count):
        draw = rng.random()
        if draw < 0.45:
            yield f"user:{i}:profile", 150 + i % 100
        elif draw < 0.70:
            text = "".join(rng.choices(hexes, k=32))
            yield f"session:{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}", 300
        elif draw < 0.88:
            yield f"product:{i}:page:{i % 50}", int(rng.lognormvariate(5.5, 0.7))
        else:
            yield "geo:" + "".join(rng.choices(hexes, k=40)), 64


def worker(profiled: bool, count: int, size: int) -> dict[str, Any]:
    """Fill the cache in this process."""
    import cachetools

    profiler = None
    if profiled:
        import cachescope

        profiler = cachescope.current_profiler(cachescope.ProfilerConfig(level="basic"))
        cachescope.autopatch("cachetools")
    else:
        import wrapt  # noqa: F401  # so that the difference is the profiler's data

    cache: Any = cachetools.LRUCache(size)
    started = time.process_time()
    for key, length in keys(count, 1):
        cache[key] = bytes(length)
    out: dict[str, Any] = {"cpu": time.process_time() - started}
    if profiler is not None:
        time.sleep(0.5)
        from cachescope.core import patterns

        name = profiler.caches()[0]
        spots = {spot.key_pattern: spot for spot in profiler.get_memory_hotspots(name)}
        truth: dict[str, int] = {}
        for key, value in cache._Cache__data.items():
            pattern = patterns.pattern_of(key)
            truth[pattern] = truth.get(pattern, 0) + key.__sizeof__() + value.__sizeof__()
        total = sum(truth.values())
        out["patterns"] = {
            pattern: [size / total, (spots[pattern].live_bytes if pattern in spots else 0) / size - 1]
            for pattern, size in truth.items()
            if size >= 0.1 * total
        }
        profile = profiler.get_cache_profile(name)
        out["net"] = profile.net_memory_bytes / total - 1
        out["share"] = profile.sampling_rate
        out["own"] = profiler.report().processes[0].profiler_bytes
    out["rss"] = psutil.Process().memory_info().rss
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--size", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker[0] == "profiled", int(options.worker[1]), int(options.worker[2]))))
        return
    rows = {}
    for which in ("bare", "profiled"):
        command = [sys.executable, __file__, "--worker", which, str(options.keys), str(options.size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows[which] = json.loads(done.stdout.splitlines()[-1])
    bare, profiled = rows["bare"], rows["profiled"]
    print(
        f"own memory: {(profiled['rss'] - bare['rss']) / 2**20:.1f} MiB more resident, "
        f"{profiled['own'] / 2**20:.1f} MiB by its own account"
    )
    print(f"CPU: {profiled['cpu'] / bare['cpu']:.2f} times the bare process ({bare['cpu']:.1f} s)")
    print(f"followed share {profiled['share']:.3f}; all bytes {profiled['net']:+.3%}")
    for pattern, (share, error) in profiled["patterns"].items():
        print(f"{pattern:28} {share:6.1%} of the bytes, error {error:+.2%}")


if __name__ == "__main__":
    main()
