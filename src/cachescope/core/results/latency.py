"""How long operations take."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.base import Result
from cachescope.core.results.distribution import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationLatency(Result):
    """How long one kind of operation took, as the library runs it; in-process caches are timed on a sample."""

    operation: str
    """``lookup set delete load``."""
    outcome: str
    """``hit`` or ``miss`` of a lookup, ``ok`` or ``failed`` of a load, else empty."""
    seconds: Distribution
    sampled: bool
    """Whether only some operations were timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceMetrics(Result):
    """How long a cache's operations took, hits and misses apart, and what its misses cost to load."""

    cache_name: str
    start_time: float
    end_time: float
    operations: tuple[OperationLatency, ...]
    loads: int
    """Loads seen to end, the failed ones too: timed from the miss to the set of the same key, or around the memoised function."""
    load_failures: int
    load_seconds: float | None
    """Time spent loading, over all misses: the mean load times the misses; None where too few were timed to say. Loads
    of less than some 50 us are overstated: the time from the miss to the set holds our hooks, too."""
    saved_seconds: float | None
    """Time that hits saved: the mean load times the hits; None where too few loads were timed to say."""
