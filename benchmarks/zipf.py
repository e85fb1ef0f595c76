"""What profiling a cache costs: Zipf get / set-on-miss, as a ratio to the bare cache in the same run.

Per variant one process with three copies of cachetools, freshly loaded so that inline caches of specialised bytecode never
see each other's types: bare, a second bare (the noise), and the profiled one. Chunks are interleaved in random order;
the ratio is the median over rounds of the paired ratio of thread CPU time, plus the CPU of our own thread over that of
the bare chunks. The caches are full before the clock starts.
"""

from __future__ import annotations

import argparse
import bisect
import importlib
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from types import ModuleType
from typing import Any

KEYS, SIZE, EXPONENT = 100_000, 10_000, 1.265
VARIANTS = {
    "basic": ("LRUCache", "class", "subscript", "basic"),
    "detailed": ("LRUCache", "class", "subscript", "detailed"),
    "basic .get()": ("LRUCache", "class", "get", "basic"),
    "basic in place": ("LRUCache", "in place", "subscript", "basic"),
    "basic proxy": ("LRUCache", "proxy", "subscript", "basic"),
    "basic TTLCache": ("TTLCache", "class", "subscript", "basic"),
    "basic dict proxy": ("dict", "proxy", "subscript", "basic"),
    "basic churn": ("LRUCache", "class", "churn", "basic"),
}


def zipf_keys(count: int, seed: int) -> list[str]:
    """*count* draws of ``user:<rank>:profile`` with a Zipf law over the ranks."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1.0 / rank**EXPONENT for rank in range(1, KEYS + 1)))
    total = weights[-1]
    names = [f"user:{rank}:profile" for rank in range(KEYS)]
    return [names[bisect.bisect(weights, rng.random() * total)] for _ in range(count)]


class Loader:
    """Returns fresh bytes of log-normal size, median 200."""

    def __init__(self) -> None:
        rng = random.Random(7)
        self.fresh = 0
        self.sizes = itertools.cycle([min(20_000, int(rng.lognormvariate(5.3, 0.6))) for _ in range(5_003)])

    def __call__(self, key: str) -> bytes:
        return bytes(next(self.sizes))


def by_subscript(cache: Any, keys: list[str], load: Loader) -> None:
    for key in keys:
        try:
            cache[key]
        except KeyError:
            cache[key] = load(key)


def by_get(cache: Any, keys: list[str], load: Loader) -> None:
    for key in keys:
        if cache.get(key) is None:
            cache[key] = load(key)


def by_churn(cache: Any, keys: list[str], load: Loader) -> None:
    """Nothing but sets of new keys, each of which evicts another: the dearest thing to watch."""
    for number, key in enumerate(keys):
        cache[f"{key}:{load.fresh + number}"] = load(key)
    load.fresh += len(keys)


def fresh_cachetools() -> ModuleType:
    for name in [name for name in sys.modules if name.split(".")[0] == "cachetools"]:
        del sys.modules[name]
    return importlib.import_module("cachetools")


def make(module: ModuleType, kind: str) -> Any:
    if kind == "dict":
        return {}
    return module.TTLCache(SIZE, ttl=3_600) if kind == "TTLCache" else getattr(module, kind)(SIZE)


def fresh_driver(access: str) -> Any:
    """A driver with code objects of its own, for the same reason as the copies of cachetools."""
    source = {"subscript": by_subscript, "get": by_get, "churn": by_churn}[access]
    return type(source)(source.__code__.replace(co_name=source.__name__), globals())


def worker(kind: str, how: str, access: str, level: str, rounds: int, chunk: int) -> dict[str, float]:
    """Measure one variant in this process."""
    bare, second = make(fresh_cachetools(), kind), make(fresh_cachetools(), kind)
    module = fresh_cachetools()
    import cachescope

    profiler = cachescope.current_profiler(cachescope.ProfilerConfig.from_environment(level=level))
    if how == "class":
        cachescope.autopatch("cachetools")
        profiled = make(module, kind)
    else:
        profiled = cachescope.instrument(make(module, kind), name="bench", how=how)
    contenders = [(cache, fresh_driver(access), Loader()) for cache in (bare, second, profiled)]
    warm = zipf_keys(150_000, 1)
    for cache, drive, load in contenders:
        drive(cache, warm, load)
        for filler in range(SIZE if kind != "dict" else 0):
            cache[f"fill:{filler}"] = b"x" * (filler % 90)
        drive(cache, warm[:50_000], load)
    time.sleep(0.3)
    stream = zipf_keys(chunk * 40, 2)
    ratios: list[float] = []
    noise: list[float] = []
    bare_ns = 0
    own = profiler._heart.cpu_seconds
    rng = random.Random(3)
    for turn in range(rounds):
        start = (turn % 40) * chunk
        keys = stream[start : start + chunk]
        took = [0, 0, 0]
        for index in rng.sample(range(3), 3):
            cache, drive, load = contenders[index]
            before = time.thread_time_ns()
            drive(cache, keys, load)
            took[index] = time.thread_time_ns() - before
        ratios.append(took[2] / took[0])
        noise.append(took[1] / took[0])
        bare_ns += took[0]
    time.sleep(0.25)
    own = profiler._heart.cpu_seconds - own
    profile = profiler.get_cache_profile(profiler.caches()[0])
    return {
        "ratio": statistics.median(ratios) + own * 1e9 / bare_ns,
        "hooks": statistics.median(ratios),
        "thread": own * 1e9 / bare_ns,
        "bare again": statistics.median(noise),
        "bare ns": bare_ns / (rounds * chunk),
        "hit ratio": profile.hit_ratio or 0.0,
        "followed": profile.sampling_rate,
    }


def measure(name: str, rounds: int, chunk: int) -> dict[str, float]:
    """Run :func:`worker` for a variant in a process of its own."""
    arguments = json.dumps([*VARIANTS[name], rounds, chunk])
    done = subprocess.run(
        [sys.executable, __file__, "--worker", arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}; all when none is given")
    parser.add_argument("--rounds", type=int, default=61)
    parser.add_argument("--chunk", type=int, default=20_000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(*json.loads(options.worker))))
        return
    print(
        f"{'variant':18} {'ratio':>6} {'hooks':>6} {'thread':>6} {'bare again':>10} {'bare ns':>8} {'hits':>6} {'followed':>8}"
    )
    for name in options.variants or VARIANTS:
        row = measure(name, options.rounds, options.chunk)
        print(
            f"{name:18} {row['ratio']:6.2f} {row['hooks']:6.2f} {row['thread']:6.2f} {row['bare again']:10.2f} "
            f"{row['bare ns']:8.0f} {row['hit ratio']:6.1%} {row['followed']:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
