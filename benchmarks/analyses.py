"""What the analyses cost: the folds by themselves, and a whole process that does 200,000 cache operations a second.

The process gets and sets on a miss, Zipf-distributed keys on an LRUCache, in bursts of 2 ms work paced to the rate. Its CPU time
(all threads) is that of the steady state, after the caches are full and what is followed has been thinned out. Bare and profiled
processes run in turns; the ratio is that of their medians, with a second set of bare ones beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from typing import Any

from zipf import Loader, by_subscript, zipf_keys

RATE, BURST, SIZE = 200_000, 2_000, 10_000
LEVELS = ("basic", "detailed")


def paced(level: str, seconds: float) -> dict[str, float]:
    """Run the load in this process; the CPU seconds per second of its steady state."""
    import cachetools

    profiler = None
    if level != "bare":
        import cachescope

        profiler = cachescope.current_profiler(cachescope.ProfilerConfig(level=level))
        cachescope.autopatch("cachetools")
    cache: Any = cachetools.LRUCache(SIZE)
    keys, load = zipf_keys(400_000, 2), Loader()
    for filler in range(SIZE):
        cache[f"fill:{filler}"] = b"x" * (filler % 90)
    at = done = 0
    began: float | None = None
    cpu = 0.0
    start = time.monotonic()
    while True:
        now = time.monotonic()
        if began is None and now - start >= seconds:
            began, cpu, done = now, time.process_time(), 0
        elif began is not None and now - began >= seconds:
            break
        by_subscript(cache, keys[at : at + BURST], load)
        at = (at + BURST) % len(keys)
        done += BURST
        ahead = done / RATE - (time.monotonic() - (began or start))
        if ahead > 0:
            time.sleep(ahead)
    lasted = time.monotonic() - began
    out = {"cpu": (time.process_time() - cpu) / lasted, "rate": done / lasted}
    if profiler is not None:
        out["thread"] = profiler._heart.cpu_seconds / (time.monotonic() - start)
        out["share"] = profiler.get_cache_profile(profiler.caches()[0]).sampling_rate
    return out


def fold_ns(events: int) -> float:
    """Nanoseconds an event takes in the folds: sets, evictions and sampled reads as hooks hand them over."""
    import cachetools

    import cachescope
    from cachescope.core.following import drain

    with cachescope.CacheMemoryProfiler(cachescope.ProfilerConfig(level="basic", tick_seconds=60)) as profiler:
        cache = cachescope.instrument(cachetools.LRUCache(2_000), name="bench", profiler=profiler)
        rng, registry = random.Random(1), profiler.registry
        took = folded = 0
        while folded < events:
            for number in range(20_000):
                cache[f"user:{rng.randrange(50_000)}:profile"] = bytes(number % 400)
            batch = registry.batch.swap()
            before = time.thread_time_ns()
            drain(batch, registry.by_serial, time.time(), registry.filters)
            took += time.thread_time_ns() - before
            folded += len(batch)
    return took / folded


def child(*arguments: object) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(paced(*json.loads(options.worker))))
        return
    each = statistics.median(fold_ns(100_000) for _ in range(3))
    print(f"folds: {each:,.0f} ns an event, {1e9 / each:,.0f} events a second")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("bare", "bare again", *LEVELS)}
    for _ in range(options.turns):
        for name, rows in runs.items():
            rows.append(child("bare" if name.startswith("bare") else name, options.seconds))
    bare = statistics.median(row["cpu"] for row in runs["bare"])
    print(f"{'process':12} {'CPU/s':>6} {'ratio':>6} {'ops/s':>9} {'our thread':>10} {'followed':>8}")
    for name, rows in runs.items():
        cpu = statistics.median(row["cpu"] for row in rows)
        thread = statistics.median(row.get("thread", 0.0) for row in rows)
        rate = statistics.median(row["rate"] for row in rows)
        share = statistics.median(row.get("share", 0.0) for row in rows)
        print(f"{name:12} {cpu:6.3f} {cpu / bare:6.2f} {rate:9,.0f} {thread:10.4f} {share:8.3f}")


if __name__ == "__main__":
    main()
