"""Quantiles and heavy hitters: how right they are, what they hold, what an update takes.

Quantiles are compared with the ``ddsketch`` library's own sketch in the same run, time and bins. Heavy hitters are fed all
requests of each trace, under the hashes of text keys; the truth is a Counter. Times are of the thread's CPU, the best of several
passes; bytes of heavy hitters are those at the fullest moment, all satellites in use.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable

import ddsketch
import traces

from cachescope.core.analysis.heavy_hitters import HeavyHitters
from cachescope.core.analysis.quantiles import Quantiles


def update_ns(make: Callable[[], Callable[[float], object]], values: list[float], passes: int = 7) -> float:
    """Nanoseconds for each call of what *make* returns, which takes one value."""
    best = float("inf")
    for _ in range(passes):
        update = make()
        began = time.thread_time_ns()
        for value in values:
            update(value)
        best = min(best, (time.thread_time_ns() - began) / len(values))
    return best


def traced_bytes(make: Callable[[], object]) -> int:
    """What the object that *make* returns holds, by tracemalloc."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del made
    return after - before


def filled(values: Iterable[float]) -> Quantiles:
    out = Quantiles()
    for value in values:
        out.update(value)
    return out


def quantiles() -> None:
    rng = random.Random(3)
    sizes: list[float] = [int(rng.lognormvariate(8, 2)) + 1 for _ in range(100_000)]
    kinds: dict[str, list[float]] = {
        "log-normal sizes": sizes,
        "30 sizes": [rng.choice(sizes[:30]) for _ in sizes],
        "durations": [rng.lognormvariate(-12, 1) for _ in sizes],
        "bimodal": [rng.gauss(300, 20) if rng.random() < 0.9 else rng.gauss(40_000, 2_000) for _ in sizes],
    }
    print(
        f"{'quantiles of':18} {'ns':>5} {'ddsketch':>8} {'ratio':>6} {'bins':>5} {'same':>5} {'worst error':>11} {'KiB':>6}"
    )
    for name, values in kinds.items():
        ours = update_ns(lambda: Quantiles().update, values)
        theirs = update_ns(lambda: ddsketch.DDSketch(0.01).add, values)
        sketch, oracle = filled(values), ddsketch.DDSketch(0.01)
        for value in values:
            oracle.add(value)
        store = oracle.store if hasattr(oracle, "store") else oracle._store
        same = sketch.bins == {index + store.offset: weight for index, weight in enumerate(store.bins) if weight}
        ordered = sorted(values)
        worst = max(
            abs((sketch.quantile(q) or 0.0) / ordered[int(q * (len(ordered) - 1))] - 1)
            for q in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
        )
        held = traced_bytes(lambda values=values: filled(values))  # type: ignore[misc]  # bound now, not later
        print(
            f"{name:18} {ours:5.0f} {theirs:8.0f} {ours / theirs:6.2f} {len(sketch.bins):5} {'yes' if same else 'NO':>5} "
            f"{worst:11.3%} {held / 1024:6.1f}"
        )


def own_bytes(fold: HeavyHitters) -> int:
    """``sys.getsizeof`` over all parts, each once."""
    parts: dict[int, object] = {}
    for part in (fold, fold.entries, fold.total, fold.error, fold._dropped):
        parts[id(part)] = part
    for key_id, entry in fold.entries.items():
        for part in (key_id, entry, *(getattr(entry, name) for name in entry.__slots__)):
            parts[id(part)] = part
    return sum(map(sys.getsizeof, parts.values()))


def most_bytes(requests: Iterable[int]) -> tuple[int, int]:
    """Our count of the bytes held and tracemalloc's, at the fullest moments; every update has all satellites."""
    fold, own, traced, held = HeavyHitters(), 0, 0, 0
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, key in enumerate(requests):
        fold.update(
            int(str(key)), 1.0, 300.5 + number, 300 * (number & 1), 300 * (~number & 1)
        )  # a key object of its own
        if len(fold) == 2 * fold.capacity != held:
            traced = max(traced, tracemalloc.get_traced_memory()[0] - before)
            own = max(own, own_bytes(fold))
        held = len(fold)
    tracemalloc.stop()
    return own, traced


def heavy_hitters() -> None:
    print(
        f"\n{'heavy hitters of':16} {'requests':>9} {'top 20':>6} {'count error':>11} {'estimate':>8} {'error':>7} {'bound':>7} "
        f"{'held':>5} {'KiB':>5} {'traced':>6} {'ns':>5}"
    )
    for name in traces.NAMES:
        keys = [hash(f"key:{key}") for key in traces.column(name)]
        truth = Counter(keys)
        least = sorted(truth.values(), reverse=True)[19]
        took = update_ns(lambda: HeavyHitters().update, keys, 3)  # type: ignore[arg-type]  # ints
        own, traced = most_bytes(keys[:500_000])
        fold = HeavyHitters()
        for key in keys:
            fold.update(key)
        found = sum(truth[key] >= least for key, _ in fold.top(20))  # type: ignore[index]  # ints
        rows = [(truth[key], entry) for key, entry in fold.entries.items()]  # type: ignore[index]  # ints
        low = max(true - entry.count for true, entry in rows) / len(keys)
        high = max(entry.estimate - true for true, entry in rows) / len(keys)
        print(
            f"{name:16} {len(keys):9,} {found:6} {low:11.3%} {high:8.3%} {fold.error / len(keys):7.3%} "
            f"{1 / (fold.capacity + 1):7.3%} {len(fold):5} {own / 1024:5.0f} {traced / 1024:6.0f} {took:5.0f}",
            flush=True,
        )


def main() -> None:
    quantiles()
    heavy_hitters()


if __name__ == "__main__":
    main()
