"""How a cache takes memory up and gives it back."""

from __future__ import annotations

from collections.abc import Sequence

from cachescope.core.analysis.activity import Activity
from cachescope.core.analysis.totals import Estimate, Totals
from cachescope.core.answers.hotspots import hotspots_of
from cachescope.core.answers.profile import fragmentation
from cachescope.core.recording import CacheRecording
from cachescope.core.results import AllocationPatterns, EventRate, Share

_MOST_PATTERNS = 20


def allocation_patterns_of(
    name: str,
    parts: Sequence[CacheRecording],
    *,
    window: tuple[float, float] | None = None,
    flows: Totals | None = None,
) -> AllocationPatterns:
    """Sum a cache's recordings over a window.

    Args:
        name: The cache.
        parts: Its recordings, one per process; their activity, hotspots and keys are those of the window.
        window: Start and end, seconds since the epoch; None for all the time.
        flows: What the counters counted in the window; None for all the time.
    """
    activity, totals = Activity(), Totals()
    for part in parts:
        activity.merge(part.activity)
        totals.merge(part.totals)
    counted = totals if flows is None else flows
    begin, end = window or (min(part.start_time for part in parts), max(part.end_time for part in parts))
    seconds = max(end - begin, 0.0)
    per_s = 1.0 / seconds if seconds > 0 else 0.0
    events = _events(counted, activity, per_s)
    freed, resized = counted.freed(), counted.resized()
    allocated = counted.live().size_bytes - resized.size_bytes + freed.size_bytes
    gone = sum(counted[name] for name in ("deletes", "evictions", "expirations", "cleared"))
    lives = activity.lives
    efficiency, efficiency_error = lives.efficiency()
    wonders, wonder_bytes, wonder_error = lives.wonder_ratios()
    entries = totals.entries + sum(part.inherited_entries + part.carried_entries for part in parts)
    charged = totals.live().size_bytes + sum(part.inherited_bytes + part.carried_bytes for part in parts)
    spots = hotspots_of(name, parts, "pattern", {}, flows=flows, seconds=seconds)
    return AllocationPatterns(
        cache_name=name,
        start_time=begin,
        end_time=end,
        duration_seconds=seconds,
        events=events,
        churn_per_s=(counted["sets"] + gone) * per_s,
        churn_bytes_per_s=(allocated + freed.size_bytes) * per_s,
        turnover_ratio=freed.size_bytes / allocated if allocated > 0 else None,
        memory_efficiency_ratio=efficiency,
        memory_efficiency_std_error=efficiency_error,
        fragmentation_ratio=fragmentation(
            charged, charged + sum(part.container_bytes for part in parts) if entries > 0 else 0, entries
        ),
        entry_bytes=lives.sizes.distribution(),
        lifetimes=lives.lifetimes(),
        one_hit_wonder_ratio=wonders,
        one_hit_wonder_bytes_ratio=wonder_bytes,
        one_hit_wonder_std_error=wonder_error,
        key_to_value_ratio=lives.key_to_value_ratio(),
        by_pattern=_shares([(spot.key_pattern or "", spot.allocation_count, spot.total_size_bytes) for spot in spots]),
        by_thread=activity.threads.result(),
        by_task=activity.tasks.result(),
        sampling_rate=min(part.sampling_rate for part in parts),
        watched_ratio=min(1.0, lives.watched_seconds / (seconds * len(parts))) if seconds > 0 else 0.0,
    )


def _events(counted: Totals, activity: Activity, per_s: float) -> tuple[EventRate, ...]:
    freed, resized = counted.freed(), counted.resized()
    set_bytes = counted.live().size_bytes - resized.size_bytes + freed.size_bytes
    allocated = Estimate(set_bytes, counted.proxy_bytes("in_proxy").std_error)
    nothing = Estimate(0, 0.0)
    rows = (
        ("allocation", counted["sets"], allocated),
        ("resize", counted["replacements"], resized),
        ("deallocation", counted["deletes"], counted.freed("deleted")),
        ("eviction", counted["evictions"], counted.freed("evicted")),
        ("expiration", counted["expirations"], counted.freed("expired")),
        ("clear", counted["cleared"], counted.freed("cleared")),
        ("hit", counted["hits"], nothing),
        ("miss", counted["misses"], nothing),
        ("load", counted["loads"], nothing),
    )
    return tuple(
        EventRate(
            event=event,
            count=count,
            size_bytes=size.size_bytes,
            count_per_s=count * per_s,
            bytes_per_s=size.size_bytes * per_s,
            size_bytes_std_error=size.std_error,
        )
        for event, count, size in rows
        if count
    )


def _shares(rows: list[tuple[str, int, int]]) -> tuple[Share, ...]:
    whole = sum(size for _, _, size in rows)
    shares = [
        Share(label=label, count=count, size_bytes=size, share=size / whole if whole > 0 else 0.0)
        for label, count, size in rows
        if count
    ]
    return tuple(sorted(shares, key=lambda share: -share.size_bytes)[:_MOST_PATTERNS])
