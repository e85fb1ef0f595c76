"""cachescope profiles the memory of the caches inside a Python process.

Which cache, which kind of key and which line of code holds, allocates and churns how many bytes, and how well it hits.
"""

from cachescope.core.config import ProfilerConfig
from cachescope.core.errors import (
    CachescopeError,
    CaptureError,
    ConfigurationError,
    NotACacheError,
    NotCollectedError,
    UnknownCacheError,
)
from cachescope.core.events import MemoryEventType, ProfilingLevel
from cachescope.core.results import (
    AllocationPatterns,
    MemoryAllocation,
    MemoryHotspot,
    MemoryProfile,
    MemorySnapshot,
    MemoryTrend,
    OperationProfile,
    OperationSummary,
    PerformanceMetrics,
    Report,
    SnapshotDiff,
    TrendVerdict,
)
from cachescope.core.subscription import Subscription
from cachescope.instrument import instrument, uninstrument
from cachescope.instrument.autopatch import autopatch, unpatch
from cachescope.instrument.decorator import profiled_cache
from cachescope.profiler import (
    CacheMemoryProfiler,
    CacheWindow,
    current_profiler,
    get_memory_profiler,
    shutdown_memory_profiler,
)

__version__ = "0.1.0"

__all__ = [
    "AllocationPatterns",
    "CacheMemoryProfiler",
    "CacheWindow",
    "CachescopeError",
    "CaptureError",
    "ConfigurationError",
    "MemoryAllocation",
    "MemoryEventType",
    "MemoryHotspot",
    "MemoryProfile",
    "MemorySnapshot",
    "MemoryTrend",
    "NotACacheError",
    "NotCollectedError",
    "OperationProfile",
    "OperationSummary",
    "PerformanceMetrics",
    "ProfilerConfig",
    "ProfilingLevel",
    "Report",
    "SnapshotDiff",
    "Subscription",
    "TrendVerdict",
    "UnknownCacheError",
    "autopatch",
    "current_profiler",
    "get_memory_profiler",
    "instrument",
    "profiled_cache",
    "shutdown_memory_profiler",
    "uninstrument",
    "unpatch",
]
