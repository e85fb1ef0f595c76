"""Verdicts over simulated series whose truth is known: how often each was given, and whether the interval held the slope.

Each family is made from seeds, so that the table is the same in every run. Run: ``python benchmarks/trends.py``.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from collections.abc import Callable

from cachescope.core.analysis.trends import trend_of

MIB = 1 << 20
BASE = 50.0 * MIB
Family = Callable[[random.Random, int], list[float]]


def remembering(rng: random.Random, count: int, rho: float, sd: float) -> list[float]:
    """AR(1) noise with standard deviation *sd*; for rho 1 a random walk with steps of a tenth of it."""
    out, value = [], rng.gauss(0, sd) if rho < 1 else 0.0
    step = sd * math.sqrt(1 - rho * rho) if rho < 1 else sd / 10
    for _ in range(count):
        out.append(value)
        value = rho * value + rng.gauss(0, step)
    return out


def family(shape: Callable[[float], float], rho: float = 0.0, sd: float = 2 * MIB) -> Family:
    """Series of *shape*, a function of 0 to 1, under noise."""

    def make(rng: random.Random, count: int) -> list[float]:
        noise = remembering(rng, count, rho, sd)
        return [BASE + shape(i / (count - 1)) + noise[i] for i in range(count)]

    return make


def saw(cycles: float, swing: float) -> Callable[[float], float]:
    """Fill and clear."""
    return lambda x: swing * (cycles * x % 1.0)


def families() -> dict[str, tuple[str, Family]]:
    """Name -> the right verdict, and the series."""
    day = lambda x: 10 * MIB * math.sin(14 * math.pi * x)
    return {
        "steady, white noise": ("steady", family(lambda x: 0)),
        "steady, AR 0.5": ("steady", family(lambda x: 0, 0.5)),
        "steady, AR 0.8": ("steady", family(lambda x: 0, 0.8)),
        "steady, AR 0.95": ("not enough to say", family(lambda x: 0, 0.95, 8 * MIB)),
        "random walk": ("not enough to say", family(lambda x: 0, 1.0, 20 * MIB)),
        "steady, full cache (0.5 %)": ("steady", family(lambda x: 0, 0.9, 0.25 * MIB)),
        "growing 40 MiB, white 2": ("growing", family(lambda x: 40 * MIB * x)),
        "growing 40 MiB, AR 0.8": ("growing", family(lambda x: 40 * MIB * x, 0.8)),
        "growing slowly 3 MiB, white 2": ("growing", family(lambda x: 3 * MIB * x)),
        "growing, accelerating": ("growing", family(lambda x: 40 * MIB * x * x, 0.5)),
        "growth began halfway": ("growing", family(lambda x: 40 * MIB * max(x - 0.5, 0))),
        "shrinking 40 MiB, AR 0.5": ("shrinking", family(lambda x: -40 * MIB * x, 0.5)),
        "step": ("shifted", family(lambda x: 20 * MIB * (x > 0.6), 0.5)),
        "step, no noise": ("shifted", family(lambda x: 20 * MIB * (x > 0.6), 0, 1000.0)),
        "two steps": ("shifted", family(lambda x: 20 * MIB * ((x > 0.3) + (x > 0.7)), 0.5)),
        "filled up": ("shifted", family(lambda x: 60 * MIB * min(x / 0.4, 1), 0.5)),
        "filled up, no noise": ("shifted", family(lambda x: 60 * MIB * min(x / 0.4, 1), 0, 100.0)),
        "filled up, saturating": ("shifted", family(lambda x: 60 * MIB * (1 - math.exp(-12 * x)), 0.5, MIB)),
        "growth that stopped late": ("shifted", family(lambda x: 60 * MIB * min(x / 0.75, 1))),
        "saw-tooth": ("sawtooth", family(saw(9.3, 30 * MIB), 0, MIB)),
        "saw-tooth, no noise": ("sawtooth", family(saw(6.5, 30 * MIB), 0, 100.0)),
        "leak under a saw-tooth": ("growing", family(lambda x: saw(9.3, 30 * MIB)(x) + 20 * MIB * x, 0, MIB)),
        "leak under a long saw-tooth": ("growing", family(lambda x: saw(5.3, 30 * MIB)(x) + 30 * MIB * x, 0, MIB)),
        "daily wave": ("periodic", family(day, 0.5)),
        "three days": ("periodic", family(lambda x: 10 * MIB * math.sin(6 * math.pi * x), 0.5)),
        "square wave": ("periodic", family(lambda x: 20 * MIB * (6.2 * x % 1 < 0.5), 0, MIB)),
        "wave on growth": ("growing", family(lambda x: day(x) + 30 * MIB * x, 0.5)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--points", type=int, nargs="*", default=[60, 200])
    args = parser.parse_args()
    for count in args.points:
        print(f"\n{count} points, {args.runs} runs each")
        for name, (expected, make) in families().items():
            verdicts: Counter[str] = Counter()
            began = time.perf_counter()
            for seed in range(args.runs):
                values = make(random.Random(seed), count)
                verdicts[trend_of([(1e9 + 30.0 * i, value) for i, value in enumerate(values)]).verdict.value] += 1
            each = (time.perf_counter() - began) / args.runs * 1e3
            others = ", ".join(f"{word} {n / args.runs:.0%}" for word, n in verdicts.most_common() if word != expected)
            print(f"{name:32} {expected:18} {verdicts[expected] / args.runs:4.0%}  {each:5.1f} ms  {others}")


if __name__ == "__main__":
    main()
