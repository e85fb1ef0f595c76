"""What one cache did and holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cachescope.core.analysis.lives import Lives
from cachescope.core.analysis.totals import Totals
from cachescope.core.answers.hotspots import hotspots_of
from cachescope.core.recording import CacheRecording
from cachescope.core.results import MemoryProfile
from cachescope.core.sizing import allocated_bytes


def profile_of(
    name: str,
    parts: Sequence[CacheRecording],
    stacks: Mapping[str, tuple[str, ...]],
    *,
    window: tuple[float, float] | None = None,
    since: Totals | None = None,
    peak_bytes: int | None = None,
    rss_bytes: int = 0,
) -> MemoryProfile:
    """Sum a cache's recordings into its profile.

    Args:
        name: The cache.
        parts: Its recordings, one per process.
        stacks: Stacks of call sites.
        window: Start and end, seconds since the epoch; None means from the first start to the last end.
        since: Flows are counted from here on; None means all.
        peak_bytes: The peak of the window; None takes that of the recordings.
        rss_bytes: Resident memory of all processes; 0 where that is not known.
    """
    totals = Totals()
    for part in parts:
        totals.merge(part.totals)
    inherited_bytes = sum(part.inherited_bytes + part.carried_bytes for part in parts)
    entries = totals.entries + sum(part.inherited_entries + part.carried_entries for part in parts)
    live = totals.live()
    flows = totals if since is None else totals.minus(since)
    freed, resized = flows.freed(), flows.resized()
    net = flows.live()
    allocated = net.size_bytes - resized.size_bytes + freed.size_bytes
    charged = live.size_bytes + inherited_bytes
    container = sum(part.container_bytes for part in parts) if entries > 0 else 0
    held = container + charged
    spread = [part.max_entries for part in parts if part.max_entries is not None]
    own = [part.own_size for part in parts if part.own_size is not None]
    begin, end = window or (min(p.start_time for p in parts), max(p.end_time for p in parts))
    peak = max(held, peak_bytes if peak_bytes is not None else sum(part.peak_bytes for part in parts) + container)
    guessed = flows.proxy_bytes("in_proxy")
    efficiency, efficiency_error = lives_of(parts).efficiency()
    return MemoryProfile(
        cache_name=name,
        start_time=begin,
        end_time=end,
        duration_seconds=max(0.0, end - begin),
        total_allocations=flows["sets"],
        total_deallocations=flows["deletes"] + flows["evictions"] + flows["expirations"] + flows["cleared"],
        total_evictions=flows["evictions"],
        total_expirations=flows["expirations"],
        total_deletions=flows["deletes"],
        total_cleared=flows["cleared"],
        total_resizes=flows["replacements"],
        total_allocated_bytes=allocated,
        total_deallocated_bytes=freed.size_bytes,
        total_resized_bytes=resized.size_bytes,
        total_evicted_bytes=flows.freed("evicted").size_bytes,
        total_expired_bytes=flows.freed("expired").size_bytes,
        net_memory_bytes=net.size_bytes,
        current_memory_bytes=held,
        peak_memory_bytes=peak,
        container_bytes=container,
        current_entries=entries,
        max_entries=sum(spread) if spread else None,
        own_size=sum(own) if own else None,
        instances=sum(part.instances for part in parts),
        instances_total=sum(part.instances_total for part in parts),
        hits=flows["hits"],
        misses=flows["misses"],
        clears=flows["clears"],
        kind=next((part.kind for part in parts if part.kind), ""),
        where=next((part.where for part in parts if part.where), ""),
        hotspots=hotspots_of(name, parts, "pattern", stacks, rss_bytes=rss_bytes),
        events=tuple(event for part in parts for event in part.events),
        value_types=totals.value_types(),
        sampling_rate=min(part.sampling_rate for part in parts),
        current_memory_bytes_std_error=live.std_error,
        total_allocated_bytes_std_error=guessed.std_error,
        total_deallocated_bytes_std_error=freed.std_error,
        memory_efficiency_ratio=efficiency,
        memory_efficiency_std_error=efficiency_error,
        fragmentation_ratio=fragmentation(charged, held, entries),
        notes=tuple(dict.fromkeys([*(note for part in parts for note in part.notes), *_doubts(flows)])),
    )


def _doubts(flows: Totals) -> list[str]:
    """What should be known before the figures are believed."""
    sets, hits, misses = flows["sets"], flows["hits"], flows["misses"]
    if sets > 1_000 and hits > 0 and 2 * misses < sets:
        doubt = f"{sets:,} entries were set, but only {misses:,} look-ups missed: callers seem to ask `in` first"
        return [f"{doubt}, which is no look-up, so the hit ratio says little"]
    return []


def fragmentation(charged: int, held: int, entries: int) -> float | None:
    """1 - payload / what container and allocator hold for it; the allocator's part from the mean object."""
    if entries <= 0 or held <= 0:
        return None
    mean = charged / (2 * entries)  # a key and a value
    slack = 2 * entries * max(0.0, allocated_bytes(round(mean)) - mean)
    return max(0.0, 1.0 - charged / (held + slack))


def lives_of(parts: Sequence[CacheRecording]) -> Lives:
    """Sizes, ages and use of the entries of all parts."""
    lives = Lives()
    for part in parts:
        lives.merge(part.activity.lives)
    return lives
