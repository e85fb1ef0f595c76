"""What questions are answered with: frozen dataclasses, each with ``to_dict()``; a file for each question.

Times are seconds since the epoch, sizes are bytes. An estimate has its standard error beside it, named
``…_std_error``; 0.0 there means that the figure is exact. Nothing in a result refers to a user's key or value.
"""

from cachescope.core.results.allocation_patterns import AllocationPatterns, EventRate, Lifetime, Share
from cachescope.core.results.base import Result
from cachescope.core.results.cache import MemoryAllocation, MemoryHotspot, MemoryProfile, ValueType
from cachescope.core.results.distribution import Distribution, HistogramBar
from cachescope.core.results.latency import OperationLatency, PerformanceMetrics
from cachescope.core.results.operation import OperationProfile, OperationSummary
from cachescope.core.results.process import ProcessInfo
from cachescope.core.results.report import REPORT_SCHEMA_VERSION, Report
from cachescope.core.results.snapshot import CacheUse, GcGeneration, MemorySnapshot, SnapshotDiff
from cachescope.core.results.trend import LevelShift, MemoryTrend, TrendVerdict

__all__ = [
    "REPORT_SCHEMA_VERSION",
    "AllocationPatterns",
    "CacheUse",
    "Distribution",
    "EventRate",
    "GcGeneration",
    "HistogramBar",
    "LevelShift",
    "Lifetime",
    "MemoryAllocation",
    "MemoryHotspot",
    "MemoryProfile",
    "MemorySnapshot",
    "MemoryTrend",
    "OperationLatency",
    "OperationProfile",
    "OperationSummary",
    "PerformanceMetrics",
    "ProcessInfo",
    "Report",
    "Result",
    "Share",
    "SnapshotDiff",
    "TrendVerdict",
    "ValueType",
]
