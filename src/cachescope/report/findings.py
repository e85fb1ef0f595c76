"""What is worth acting on, said in plain words from the figures of a report, each with its evidence.

Rules read results and nothing else. They name what can be seen, never what a change would bring: a predicted
effect has to be checked by replay. A rule speaks only when the figures leave little doubt, so that a healthy
program gets no findings at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from cachescope.core.results import MemoryProfile, Report
from cachescope.report import analysis_rules, figures
from cachescope.report.analysis_rules import MIN_BYTES
from cachescope.report.finding import Finding, FindingKind

__all__ = ["Finding", "FindingKind", "findings", "fullness", "limit_of"]

MIN_SETS = 100
"""A cache that took fewer entries than this has not shown yet how it behaves."""
MIN_LOOKUPS = 300
"""With 300 lookups and no hit, the true hit ratio is below 1 % with 95 % confidence (the rule of three)."""
HOLDS_MOST = 0.5
"""More than all other caches together."""
LATE = 0.5
"""A cache that took no new entry in the last half of the time has been filled, it does not grow."""
KEPT = 0.99
"""Share of the entries ever set that a cache which never loses one still holds; the rest is a margin for races."""
FULL = 0.9
"""Caches with an own measure of size, and those of several objects, are full somewhat below their maximum."""
THRASHING_EVICTIONS = 0.5
"""At one eviction for two new entries a cache is past filling up; it passes entries through."""
THRASHING_HITS = 0.5
"""When most lookups hit all the same, evictions are the cache doing its work."""
EARNS_NOTHING_HITS = 0.01
"""One hit in a hundred lookups seldom pays for the bytes and for the lookups that miss."""
FAR_FROM_MAXIMUM = 0.25
"""A cache whose maximum is four times what it ever held is not limited by it."""
UNUSED_BYTE_SECONDS = 0.1
"""Nine tenths of the memory, over time, held entries after their last hit."""
OVERHEAD = 0.5
"""More bytes for containers and padding than for keys and values."""
MANY_INSTANCES = 100
"""So many objects from one line of code are made for each request or object, not once."""
_URGENCY = {kind: place for place, kind in enumerate(FindingKind)}


def findings(report: Report) -> tuple[Finding, ...]:
    """Everything worth acting on: the most urgent first, and the larger cache first among equals.

    Empty when nothing is worth saying. Several findings about one cache stay separate.
    """
    process = list(analysis_rules.of_process(report))
    found = [(_URGENCY[finding.kind], -math.inf, 0, finding) for finding in process]
    for place, cache in enumerate(report.caches):
        own = list(_of_cache(cache, report))
        own += analysis_rules.of_cache(cache, report, {finding.kind for finding in own})
        found += [(_URGENCY[finding.kind], -float(cache.current_memory_bytes), place, finding) for finding in own]
    return tuple(finding for *_, finding in sorted(found, key=lambda item: item[:3]))


def limit_of(cache: MemoryProfile) -> float | None:
    """The cache's maximum in its own unit; None when it has none, or an infinite one."""
    limit = cache.max_entries
    return limit if limit is not None and math.isfinite(limit) else None


def fullness(cache: MemoryProfile) -> float | None:
    """How much of its maximum a cache holds, in its own unit; None when it has no maximum."""
    limit = limit_of(cache)
    if limit is None or limit <= 0:
        return None
    held = cache.own_size if cache.own_size is not None else cache.current_entries
    return held / limit if math.isfinite(held) else None


def _of_cache(cache: MemoryProfile, report: Report) -> Iterator[Finding]:
    def finding(kind: FindingKind, sentence: str, evidence: str) -> Finding:
        return Finding(cache_name=cache.cache_name, kind=kind, sentence=sentence, evidence=evidence)

    size = figures.byte_size(cache.current_memory_bytes)
    lookups = cache.hits + cache.misses
    hits = f"{figures.ratio(cache.hit_ratio)} of {figures.count(lookups)} lookups hit"
    if _never_loses_an_entry(cache, report):
        yield finding(
            FindingKind.UNBOUNDED,
            "looks like a leak: unbounded, it grows and never loses an entry",
            f"{figures.count(cache.total_allocations)} entries set in {figures.duration(cache.duration_seconds)}, "
            f"none evicted, expired or deleted; no maximum; holds {size}",
        )
    if cache.instances >= MANY_INSTANCES and cache.instances == cache.instances_total:
        yield finding(
            FindingKind.INSTANCES_KEPT,
            "is made again and again, and never let go",
            f"{figures.count(cache.instances)} cache objects were made under this name, all of them live",
        )
    if _thrashes(cache):
        yield finding(
            FindingKind.THRASHES,
            "is too small or useless: it evicts entries before they are asked for again",
            f"{figures.count(cache.total_evictions)} evictions for {figures.count(cache.total_allocations)} new "
            f"entries; {hits}; {figures.share(fullness(cache))} full",
        )
    elif _earns_nothing(cache):
        yield finding(FindingKind.EARNS_NOTHING, "earns nothing so far: hardly a lookup hits", f"{hits}; holds {size}")
    elif _holds_unused(cache):
        yield finding(
            FindingKind.HELD_UNUSED,
            "holds entries long after their last hit",
            f"{figures.ratio(cache.memory_efficiency_ratio)} of its bytes over time lay between an entry's set and "
            f"its last hit; holds {size}",
        )
    if _limit_is_far(cache):
        limit = limit_of(cache)
        own = "" if cache.own_size is None else " in its own unit"
        yield finding(
            FindingKind.LIMIT_FAR,
            "has a maximum that it never came near, so nothing limits it",
            f"{figures.share(fullness(cache))} of the maximum {figures.count(limit)}{own}; no entry was ever "
            f"evicted or expired; holds {size}",
        )
    if cache.current_memory_bytes >= MIN_BYTES and (cache.fragmentation_ratio or 0.0) >= OVERHEAD:
        yield finding(
            FindingKind.OVERHEAD,
            "spends most of its bytes on overhead",
            f"{figures.share(cache.fragmentation_ratio)} of what is held is not payload; "
            f"{figures.byte_size(figures.per(cache.current_memory_bytes, cache.current_entries))} an entry",
        )
    if _holds_most(cache, report):
        yield finding(
            FindingKind.HOLDS_MOST,
            "holds most of the bytes",
            f"{size} of {figures.byte_size(report.total_bytes)} in {len(report.caches)} caches "
            f"({figures.share(cache.current_memory_bytes / report.total_bytes)})",
        )


def _loses_entries(cache: MemoryProfile) -> bool:
    return bool(cache.total_deallocations or cache.total_evictions or cache.total_expirations or cache.clears)


def _grew_lately(cache: MemoryProfile, report: Report) -> bool:
    """Tell whether entries were still coming in near the end, where that is known.

    A line of code that sets entries is seen when it does; a kind of key also when it is read. So lines count first.
    """
    lines = [row.last_seen for row in report.sites if row.cache_name == cache.cache_name and row.allocation_count]
    kinds = [row.last_seen for row in cache.hotspots if row.allocation_count]
    return max(lines or kinds, default=cache.end_time) >= cache.end_time - LATE * cache.duration_seconds


def _never_loses_an_entry(cache: MemoryProfile, report: Report) -> bool:
    return (
        limit_of(cache) is None
        and not _loses_entries(cache)
        and cache.total_allocations >= MIN_SETS
        and cache.current_entries >= KEPT * cache.total_allocations
        and _grew_lately(cache, report)
        and not analysis_rules.no_longer_grows(cache, report)
    )


def _thrashes(cache: MemoryProfile) -> bool:
    return (
        cache.total_allocations >= MIN_SETS
        and cache.hits + cache.misses >= MIN_LOOKUPS
        and cache.total_evictions >= THRASHING_EVICTIONS * cache.total_allocations
        and (cache.hit_ratio or 0.0) < THRASHING_HITS
        and (fullness(cache) or 0.0) >= FULL
    )


def _earns_nothing(cache: MemoryProfile) -> bool:
    return cache.hits + cache.misses >= MIN_LOOKUPS and (cache.hit_ratio or 0.0) <= EARNS_NOTHING_HITS


def _holds_unused(cache: MemoryProfile) -> bool:
    return (
        cache.current_memory_bytes >= MIN_BYTES
        and cache.memory_efficiency_ratio is not None
        and cache.memory_efficiency_ratio <= UNUSED_BYTE_SECONDS
    )


def _limit_is_far(cache: MemoryProfile) -> bool:
    filled = fullness(cache)
    return (
        filled is not None
        and filled <= FAR_FROM_MAXIMUM
        and cache.current_memory_bytes >= MIN_BYTES
        and cache.total_allocations >= MIN_SETS
        and not _loses_entries(cache)
    )


def _holds_most(cache: MemoryProfile, report: Report) -> bool:
    return (
        len(report.caches) > 1
        and cache.current_memory_bytes >= MIN_BYTES
        and cache.current_memory_bytes > HOLDS_MOST * report.total_bytes
    )
