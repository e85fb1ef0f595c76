"""What named operations of the application cost a cache."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.base import Result
from cachescope.core.results.distribution import Distribution


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # it is filled in later, so only itself is equal to it
class OperationProfile(Result):
    """One run of an operation: what it alone did to a cache, however many others overlapped with it.

    Filled when the block ends; all 0 and None until then. Operations inside it count for it too.
    """

    cache_name: str
    operation: str
    duration_seconds: float = 0.0
    allocated_bytes: int = 0
    resized_bytes: int = 0
    """New minus old bytes of entries that were replaced."""
    freed_bytes: int = 0
    memory_delta_bytes: int = 0
    """Net bytes: allocated + resized - freed."""
    allocations: int = 0
    """New entries; replacements only change bytes."""
    hits: int = 0
    misses: int = 0
    rss_delta_bytes: int | None = None
    """Of the whole process, whoever caused it; None where it can't be read."""
    traced_delta_bytes: int | None = None
    """Of the whole process by tracemalloc; None unless it traces."""
    error: str | None = None
    """The type of the exception that ended it."""
    parent: str | None = None
    """The operation that it ran inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSummary(Result):
    """All runs of one operation on one cache."""

    cache_name: str
    operation: str
    count: int
    failures: int
    errors: tuple[tuple[str, int], ...]
    """Types of exceptions and how often each ended it, most frequent first."""
    duration_seconds: Distribution
    allocated_bytes: Distribution
    total_allocated_bytes: int
    total_freed_bytes: int
    memory_delta_bytes: int
    hits: int
    misses: int
    first_seen: float
    last_seen: float
