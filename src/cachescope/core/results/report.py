"""All that is known, of one or several processes."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.allocation_patterns import AllocationPatterns
from cachescope.core.results.base import Result
from cachescope.core.results.cache import MemoryAllocation, MemoryHotspot, MemoryProfile
from cachescope.core.results.latency import PerformanceMetrics
from cachescope.core.results.operation import OperationSummary
from cachescope.core.results.process import ProcessInfo
from cachescope.core.results.snapshot import MemorySnapshot
from cachescope.core.results.trend import MemoryTrend

REPORT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Result):
    """All that is known about the caches of one or several processes."""

    schema_version: int
    generated_at: float
    start_time: float
    end_time: float
    duration_seconds: float
    processes: tuple[ProcessInfo, ...]
    caches: tuple[MemoryProfile, ...]
    """Largest first, by live bytes."""
    patterns: tuple[MemoryHotspot, ...]
    """Kinds of keys over all caches, largest first."""
    sites: tuple[MemoryHotspot, ...]
    """Lines of code over all caches, largest first; empty at BASIC."""
    keys: tuple[MemoryHotspot, ...] = ()
    """The keys set and read most often, over all caches, most frequent first."""
    origins: tuple[MemoryHotspot, ...] = ()
    """Where values were built, over all caches, largest first; empty below COMPREHENSIVE."""
    allocation_patterns: tuple[AllocationPatterns, ...] = ()
    """How each cache took memory up and gave it back."""
    performance: tuple[PerformanceMetrics, ...] = ()
    """How long each cache's operations took; empty below DETAILED."""
    operations: tuple[OperationSummary, ...] = ()
    """The application's own operations, those that allocated most first."""
    trends: tuple[MemoryTrend, ...] = ()
    """Of each process's resident memory, then of each cache."""
    snapshots: tuple[MemorySnapshot, ...] = ()
    """The newest of each process."""
    pressure: tuple[MemoryAllocation, ...] = ()
    """When a limit was neared, oldest first; ``metadata`` has scope, level, used and limit bytes."""
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Live bytes of all caches."""
        return sum(cache.current_memory_bytes for cache in self.caches)
