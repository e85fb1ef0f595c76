"""What the analyses add to a report, built by hand: only what matters is said, everything else is plausible."""

from __future__ import annotations

from typing import Any

from cachescope.core.events import MemoryEventType
from cachescope.core.results import (
    AllocationPatterns,
    CacheUse,
    Distribution,
    EventRate,
    GcGeneration,
    HistogramBar,
    Lifetime,
    MemoryAllocation,
    MemoryHotspot,
    MemorySnapshot,
    MemoryTrend,
    OperationLatency,
    OperationSummary,
    PerformanceMetrics,
    Share,
    TrendVerdict,
)
from report.reports import MIB, START, hotspot

END = START + 724
SESSIONS = "shop.sessions:SessionStore.__init__.by_token"
USERS = "shop.users:UserStore.__init__.cache"
CATALOG = "shop.catalog:Catalog.page"
PRICES = "shop.pricing:price_of"
SEARCH = "shop.search:_suggestions"
MESSAGES = "shop.i18n:messages"


def distribution(middle: float, **given: Any) -> Distribution:
    """Log-normal of median *middle*: the tail is ten times as far out as the middle."""
    values: dict[str, Any] = {
        "count": 10_000.0,
        "minimum": middle / 4,
        "maximum": middle * 31,
        "mean": middle * 1.5,
        "p50": middle,
        "p90": middle * 3,
        "p95": middle * 4.5,
        "p99": middle * 9.8,
        "p999": middle * 21,
        "relative_error": 0.01,
    }
    return Distribution(**(values | given))


def histogram(low: float, *counts: float) -> tuple[HistogramBar, ...]:
    """Bars from *low*, each range twice as wide as the one before."""
    return tuple(
        HistogramBar(low=low * 2**place, high=low * 2 ** (place + 1), count=number)
        for place, number in enumerate(counts)
    )


def lives(cache_name: str = "users", **given: Any) -> AllocationPatterns:
    """A full LRU cache whose entries are evicted after minutes, and read before that as a rule."""
    values: dict[str, Any] = {
        "cache_name": cache_name,
        "start_time": START,
        "end_time": END,
        "duration_seconds": 724.0,
        "events": (
            EventRate(event="allocation", count=212_480, size_bytes=1_670 * MIB, count_per_s=293.5,
                      bytes_per_s=2.42e6, size_bytes_std_error=31.0 * MIB),
            EventRate(event="eviction", count=162_480, size_bytes=1_275 * MIB, count_per_s=224.4, bytes_per_s=1.85e6),
            EventRate(event="hit", count=3_918_220, size_bytes=0, count_per_s=5_411.9, bytes_per_s=0.0),
            EventRate(event="load", count=0, size_bytes=0, count_per_s=0.0, bytes_per_s=0.0),
        ),
        "churn_per_s": 517.9,
        "churn_bytes_per_s": 4.27e6,
        "turnover_ratio": 0.76,
        "memory_efficiency_ratio": 0.62,
        "memory_efficiency_std_error": 0.018,
        "fragmentation_ratio": 0.07,
        "entry_bytes": distribution(
            5_800.0, maximum=96_000.0, histogram=histogram(512, 310, 4_120, 21_900, 88_000, 71_300, 21_400, 5_100, 350)
        ),
        "lifetimes": (
            Lifetime(cause="deleted", age_seconds=distribution(12.0, count=410.0, maximum=190.0)),
            Lifetime(cause="evicted", age_seconds=distribution(121.0, count=162_070.0, p90=260.0, p99=410.0,
                                                               maximum=690.0)),
        ),
        "one_hit_wonder_ratio": 0.38,
        "one_hit_wonder_bytes_ratio": 0.41,
        "one_hit_wonder_std_error": 0.021,
        "key_to_value_ratio": 0.009,
        "by_pattern": (Share(label="user:{int}:profile", count=198_000, size_bytes=1_590 * MIB, share=0.95),
                       Share(label="user:{int}:cart", count=14_480, size_bytes=80 * MIB, share=0.05)),
        "by_thread": (
            Share(label="worker-1", count=110_300, size_bytes=868 * MIB, share=0.52),
            Share(label="worker-2", count=96_100, size_bytes=751 * MIB, share=0.45),
            Share(label="warmer", count=6_080, size_bytes=51 * MIB, share=0.03),
        ),
        "by_task": (
            Share(label="profile", count=198_000, size_bytes=1_590 * MIB, share=0.95),
            Share(label="cart", count=14_480, size_bytes=80 * MIB, share=0.05),
        ),
        "sampling_rate": 0.125,
        "watched_ratio": 0.31,
    }  # fmt: skip
    return AllocationPatterns(**(values | given))


def latency(operation: str, outcome: str, middle: float, **given: Any) -> OperationLatency:
    """How long one operation takes, with the median *middle*, in seconds."""
    return OperationLatency(
        operation=operation,
        outcome=outcome,
        seconds=given.pop("seconds", distribution(middle)),
        sampled=given.pop("sampled", operation != "load"),
    )


def performance(cache_name: str = "users", **given: Any) -> PerformanceMetrics:
    """A cache in the process, before a database that answers in some milliseconds."""
    values: dict[str, Any] = {
        "cache_name": cache_name,
        "start_time": START,
        "end_time": END,
        "operations": (
            latency("load", "ok", 0.0042),
            latency("lookup", "hit", 4.1e-7),
            latency("lookup", "miss", 6.3e-7),
            latency("set", "", 1.9e-6),
        ),
        "loads": 212_480,
        "load_failures": 0,
        "load_seconds": 1_338.6,
        "saved_seconds": 24_684.8,
    }
    return PerformanceMetrics(**(values | given))


def operation(name: str = "checkout", cache_name: str = "users", **given: Any) -> OperationSummary:
    """An operation of the application that ran some hundred times."""
    values: dict[str, Any] = {
        "cache_name": cache_name,
        "operation": name,
        "count": 412,
        "failures": 0,
        "errors": (),
        "duration_seconds": distribution(0.021, count=412.0),
        "allocated_bytes": distribution(41_000.0, count=412.0),
        "total_allocated_bytes": 18 * MIB,
        "total_freed_bytes": 16 * MIB,
        "memory_delta_bytes": 2 * MIB,
        "hits": 2_912,
        "misses": 412,
        "first_seen": START + 3,
        "last_seen": END - 4,
    }
    return OperationSummary(**(values | given))


def trend(cache_name: str | None = None, verdict: TrendVerdict = TrendVerdict.STEADY, **given: Any) -> MemoryTrend:
    """Where something is heading: nowhere, unless told otherwise."""
    values: dict[str, Any] = {
        "cache_name": cache_name,
        "start_time": START,
        "end_time": END,
        "points": 72,
        "verdict": verdict,
        "reason": "its changes are smaller than 1 % of its level",
        "first_bytes": 398 * MIB,
        "last_bytes": 398 * MIB,
        "slope_bytes_per_s": 120.0,
        "slope_low_bytes_per_s": -900.0,
        "slope_high_bytes_per_s": 1_140.0,
    }
    if verdict is TrendVerdict.UNKNOWN:
        values |= {
            "points": 3,
            "reason": "3 measurements; 8 are needed",
            "slope_bytes_per_s": None,
            "slope_low_bytes_per_s": None,
            "slope_high_bytes_per_s": None,
        }
    return MemoryTrend(**(values | given))


def growing(cache_name: str | None = None, **given: Any) -> MemoryTrend:
    """Growth of 52 MiB a minute."""
    values: dict[str, Any] = {
        "first_bytes": 40 * MIB,
        "last_bytes": 612 * MIB,
        "slope_bytes_per_s": 910_000.0,
        "slope_low_bytes_per_s": 880_000.0,
        "slope_high_bytes_per_s": 940_000.0,
        "reason": "the median slope over all pairs of 72 points, its interval corrected for autocorrelation",
    }
    return trend(cache_name, TrendVerdict.GROWING, **(values | given))


def towards_the_container(**given: Any) -> MemoryTrend:
    """The process on its way to its container's limit, six minutes ahead."""
    values: dict[str, Any] = {
        "first_bytes": 980 * MIB,
        "last_bytes": 1_600 * MIB,
        "limit": "container limit 2.00 GiB",
        "seconds_to_limit": 516.0,
        "seconds_to_limit_low": 499.0,
        "seconds_to_limit_high": 534.0,
    }
    return growing(given.pop("cache_name", None), **(values | given))


def snapshot(**given: Any) -> MemorySnapshot:
    """A process of 1.6 GiB, in a container of 2 GiB on a machine of 16 GiB."""
    values: dict[str, Any] = {
        "timestamp": END,
        "rss_bytes": 1_600 * MIB,
        "uss_bytes": 1_571 * MIB,
        "swap_bytes": 0,
        "system_total_bytes": 16 << 30,
        "system_available_bytes": 5 << 30,
        "container_limit_bytes": 2 << 30,
        "container_used_bytes": 1_702 * MIB,
        "container_source": "cgroup v2",
        "allocator_free_bytes": 31 * MIB,
        "python_blocks": 8_412_331,
        "traced_bytes": None,
        "gc": (
            GcGeneration(pending=412, collections=2_113, collected=81_002, uncollectable=0),
            GcGeneration(pending=3, collections=192, collected=9_120, uncollectable=0),
            GcGeneration(pending=8, collections=11, collected=2_204, uncollectable=0),
        ),
        "cache_bytes": 620 * MIB,
        "caches": (CacheUse(cache_name=SESSIONS, size_bytes=306 * MIB, entries=24_106),
                   CacheUse(cache_name=USERS, size_bytes=199 * MIB, entries=25_000)),
    }  # fmt: skip
    return MemorySnapshot(**(values | given))


def pressure(level: str, before_end: float, **given: Any) -> MemoryAllocation:
    """The container's limit was neared, or is no longer near."""
    used = given.pop("used_bytes", 1_957 * MIB)
    limit = given.pop("limit_bytes", 2 << 30)
    return MemoryAllocation(
        cache_name=given.pop("cache_name", ""),
        key="*",
        size_bytes=used,
        timestamp=END - before_end,
        event_type=MemoryEventType.PRESSURE,
        thread_id=1,
        metadata={
            "scope": given.pop("scope", "container"),
            "level": level,
            "used_bytes": used,
            "limit_bytes": limit,
            "ratio": used / limit,
        },
    )


def hot_key(key_id: str = "9f2c41d80a33b1e7", cache_name: str = USERS, **given: Any) -> MemoryHotspot:
    """A key that is read all the time."""
    values: dict[str, Any] = {
        "key_id": key_id,
        "allocation_count": 2,
        "live_bytes": 8_640,
        "live_entries": 1,
        "hits": 181_200,
        "misses": 2,
    }
    return hotspot(cache_name, given.pop("pattern", "user:{int}:profile"), **(values | given))
