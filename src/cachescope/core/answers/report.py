"""The report over all processes of a recording."""

from __future__ import annotations

import time

from cachescope.core.analysis.operations import Operations
from cachescope.core.answers.allocation import allocation_patterns_of
from cachescope.core.answers.heading import cache_trend, process_trend
from cachescope.core.answers.hotspots import hotspots_of, key_hotspots_of, weight
from cachescope.core.answers.performance import performance_of
from cachescope.core.answers.profile import profile_of
from cachescope.core.recording import CacheRecording, Recording, without_inherited
from cachescope.core.results import REPORT_SCHEMA_VERSION, MemoryHotspot, MemoryTrend, Report
from cachescope.core.snapshots import SnapshotHistory

_MOST_KEYS = 50


def report_of(recording: Recording) -> Report:
    """All that a recording knows."""
    processes = sorted(recording.processes.values(), key=lambda process: (process.info.start_time, process.info.pid))
    infos = tuple(process.info for process in processes)
    start = min((info.start_time for info in infos), default=0.0)
    end = max((info.end_time for info in infos), default=0.0)
    rss_bytes = sum(info.rss_bytes for info in infos)
    stacks: dict[str, tuple[str, ...]] = {}
    parts: dict[str, list[CacheRecording]] = {}
    for process in processes:
        stacks.update(process.stacks)
        counted_by_parent = process.parent_uid in recording.processes
        for cache in process.caches.values():
            parts.setdefault(cache.name, []).append(without_inherited(cache) if counted_by_parent else cache)
    caches = [profile_of(name, pieces, stacks, rss_bytes=rss_bytes) for name, pieces in parts.items()]
    caches.sort(key=lambda cache: (-cache.current_memory_bytes, cache.cache_name))
    order = {cache.cache_name: place for place, cache in enumerate(caches)}
    ordered = sorted(parts.items(), key=lambda item: order[item[0]])

    def spots(by: str) -> tuple[MemoryHotspot, ...]:
        found = [s for name, some in ordered for s in hotspots_of(name, some, by, stacks, rss_bytes=rss_bytes)]
        return tuple(sorted(found, key=weight))

    keys = [spot for name, pieces in ordered for spot in key_hotspots_of(name, pieces, _MOST_KEYS)]
    keys.sort(key=lambda spot: -(spot.allocation_count + spot.hits + spot.misses))
    histories = [process.snapshots for process in processes]
    trends = [
        process_trend(process.snapshots, None, process.info.budget_bytes, process.info.pid) for process in processes
    ]
    trends += [_cache_trend(name, histories, pieces) for name, pieces in ordered]
    return Report(
        schema_version=REPORT_SCHEMA_VERSION,
        generated_at=time.time(),
        start_time=start,
        end_time=end,
        duration_seconds=max(0.0, end - start),
        processes=infos,
        caches=tuple(caches),
        patterns=spots("pattern"),
        sites=spots("site"),
        origins=spots("origin"),
        keys=tuple(keys[:_MOST_KEYS]),
        allocation_patterns=tuple(allocation_patterns_of(name, pieces) for name, pieces in ordered),
        performance=tuple(
            found for name, pieces in ordered if (found := performance_of(name, pieces)).operations or found.loads
        ),
        operations=tuple(
            sorted(
                (row for name, pieces in ordered for row in _operations(pieces).summaries(name)),
                key=lambda row: (-row.total_allocated_bytes, row.cache_name, row.operation),
            )
        ),
        trends=tuple(trends),
        snapshots=tuple(process.snapshots.latest for process in processes if process.snapshots.latest is not None),
        pressure=tuple(sorted((e for process in processes for e in process.pressure), key=lambda e: e.timestamp)),
    )


def _cache_trend(name: str, histories: list[SnapshotHistory], parts: list[CacheRecording]) -> MemoryTrend:
    budgets = [part.budget_bytes for part in parts if part.budget_bytes is not None]
    return cache_trend(name, histories, max_entries=_max_entries(parts), budget_bytes=sum(budgets) if budgets else None)


def _max_entries(parts: list[CacheRecording]) -> float | None:
    limits = [part.max_entries for part in parts if part.max_entries is not None and part.own_size is None]
    return sum(limits) if limits else None


def _operations(parts: list[CacheRecording]) -> Operations:
    merged = Operations()
    for part in parts:
        merged.merge(part.operations)
    return merged
