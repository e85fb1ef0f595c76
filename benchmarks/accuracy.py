"""Live bytes against tracemalloc's figure for a bare cache of the same content.

For each kind of content and level, one process fills a bare ``LRUCache`` under tracemalloc and then, without it, a profiled
one; printed are the error and, where bytes were estimated, the error in units of the stated standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(slots=True)
class User:
    """A value with slots."""

    name: str
    age: int
    mail: str
    tags: list[str]


def document(rng: random.Random) -> dict[str, Any]:
    """A JSON-like document of some 3 to 10 kB."""
    return {
        f"field{i}": {
            "id": rng.randrange(10**9),
            "text": f"{rng.random()}" * 3,
            "list": [rng.random() for _ in range(5)],
        }
        for i in range(rng.randrange(5, 15))
    }


def contents() -> dict[str, tuple[int, Callable[[int, random.Random], Any]]]:
    """Name -> how many entries, and what makes a value."""
    shared = [f"shared value {i}" for i in range(50)]

    def array(_: int, rng: random.Random) -> Any:
        import numpy

        return numpy.full(131_072, rng.random())

    return {
        "100-byte strings": (5_000, lambda i, rng: f"{i:0>51}"),
        "10 kB bytes": (2_000, lambda i, rng: bytes(10_000)),
        "dicts of 20": (3_000, lambda i, rng: {f"key{j}-{i}": rng.randrange(1000, 10**6) for j in range(20)}),
        "lists of 1,000 ints": (1_500, lambda i, rng: [rng.randrange(1000, 10**6) for _ in range(1000)]),
        "slots dataclasses": (
            5_000,
            lambda i, rng: User(f"name {i}", i + 1000, f"{i}@example.org", [f"t{i}", f"u{i}"]),
        ),
        "records, literal keys": (
            3_000,
            lambda i, rng: {
                "id": i + 1000,
                "name": f"user {i}",
                "tags": [f"t{i}"],
                "home": {"street": f"s {i}", "city": "B"},
            },
        ),
        "nested JSON": (2_000, lambda i, rng: document(rng)),
        "1 MB numpy arrays": (100, array),
        "one value shared": (3_000, lambda i, rng: shared),
        "heavily skewed": (
            5_000,
            lambda i, rng: ["x" * 60 + str(i)] * 1 + [rng.random() for _ in range(int(rng.lognormvariate(3, 1.5)))],
        ),
    }


def worker(name: str, level: str) -> dict[str, float]:
    """Measure one kind of content at one level."""
    import cachetools

    size, make = contents()[name]
    rng = random.Random(5)
    make(0, random.Random(1))
    gc.collect()
    tracemalloc.start()
    bare: Any = cachetools.LRUCache(size)
    empty = tracemalloc.get_traced_memory()[0]
    for i in range(size):
        bare[f"item:{i}"] = make(i, rng)
    gc.collect()
    truth = tracemalloc.get_traced_memory()[0] - empty
    tracemalloc.stop()
    shared_bytes = 0
    if (
        name == "one value shared"
    ):  # made before tracemalloc looked; the cache alone would not free it, we charge it once
        shared_bytes = sys.getsizeof(bare["item:0"]) + sum(map(sys.getsizeof, bare["item:0"]))
    del bare
    gc.collect()

    import cachescope

    rng = random.Random(5)
    with cachescope.CacheMemoryProfiler(cachescope.ProfilerConfig(level=level)) as profiler:
        cache: Any = cachescope.instrument(cachetools.LRUCache(size), name="c", profiler=profiler)
        for i in range(size):
            cache[f"item:{i}"] = make(i, rng)
        at_once = profiler.get_cache_profile("c")
        deadline = time.monotonic() + 12
        profile = at_once
        while time.monotonic() < deadline:
            profile = profiler.get_cache_profile("c")
            sized = min((kind.sized for kind in profile.value_types), default=10**9)
            if profile.current_memory_bytes_std_error == 0 or sized >= 700:
                break
            time.sleep(0.2)
        cache.clear()
        after = profiler.get_cache_profile("c")
    truth += shared_bytes
    return {
        "truth": truth,
        "error": profile.current_memory_bytes / truth - 1,
        "error at once": at_once.current_memory_bytes / truth - 1,
        "sigmas": (at_once.current_memory_bytes - truth) / at_once.current_memory_bytes_std_error
        if at_once.current_memory_bytes_std_error
        else 0.0,
        "std error": profile.current_memory_bytes_std_error / truth,
        "sized": min((kind.sized for kind in profile.value_types), default=0),
        "after clear": after.current_memory_bytes + after.net_memory_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(*options.worker)))
        return
    print(
        f"{'content':22} {'level':14} {'truth MB':>8} {'error':>7} {'stated ±':>8} "
        f"{'at once':>8} {'sigmas':>7} {'sized':>6} {'cleared':>7}"
    )
    for name in contents():
        for level in ("basic", "detailed", "comprehensive"):
            command = [sys.executable, __file__, "--worker", name, level]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name:22} {level:14} {row['truth'] / 1e6:8.2f} {row['error']:+7.1%} {row['std error']:8.1%} "
                f"{row['error at once']:+8.1%} {row['sigmas']:+7.2f} {row['sized']:6.0f} {row['after clear']:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
