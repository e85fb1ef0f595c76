"""How long a cache's operations take, and what its misses cost."""

from __future__ import annotations

from collections.abc import Sequence

from cachescope.core.analysis.latencies import LOADS, Latencies
from cachescope.core.analysis.totals import Totals
from cachescope.core.recording import CacheRecording
from cachescope.core.results import PerformanceMetrics

_LOADED, _FAILED = LOADS
LEAST_LOADS = 10
"""Fewer timed loads say nothing of the mean of all: one slow one among them would decide."""


def performance_of(name: str, parts: Sequence[CacheRecording]) -> PerformanceMetrics:
    """Sum a cache's timings.

    Args:
        name: The cache.
        parts: Its recordings, one per process.
    """
    timed, totals = Latencies(), Totals()
    for part in parts:
        timed.merge(part.activity.latencies)
        totals.merge(part.totals)
    exact = totals["loads"]
    seen = [sketch for sketch in (timed.kinds.get(_LOADED), timed.kinds.get(_FAILED)) if sketch is not None]
    loads = exact or round(sum(sketch.count for sketch in seen))
    failures = totals["load_failures"] if exact else round(seen_count(timed, _FAILED))
    spent = totals["load_ns"] * 1e-9 if exact else sum(sketch.total for sketch in seen)
    mean = spent / loads if exact or loads >= LEAST_LOADS else None if totals["misses"] else 0.0
    return PerformanceMetrics(
        cache_name=name,
        start_time=min(part.start_time for part in parts),
        end_time=max(part.end_time for part in parts),
        operations=timed.result(all_loads=bool(exact)),
        loads=loads,
        load_failures=failures,
        load_seconds=spent if exact else None if mean is None else mean * totals["misses"],
        saved_seconds=mean * totals["hits"] if mean and loads else None,
    )


def seen_count(timed: Latencies, kind: int) -> float:
    """How many operations of a kind were timed."""
    sketch = timed.kinds.get(kind)
    return 0.0 if sketch is None else sketch.count
