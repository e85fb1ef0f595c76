"""What kinds of keys, lines of code, keys and operations hold, allocate and churn the bytes of a cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cachescope.core.analysis.hotspots import OLDER, Cell, Hotspots, Place
from cachescope.core.analysis.key_counts import KeyCounts
from cachescope.core.analysis.recurrence import more_often
from cachescope.core.analysis.totals import Totals
from cachescope.core.recording import CacheRecording
from cachescope.core.results import MemoryHotspot

LEAST_READS = 30
"""Sampled reads of a cache below which nothing is said of hits by kind of key."""
_LEAST_READS_OF_KEY = 3
"""Sampled reads of a key below which it may be any key."""
COLUMNS = {"pattern": 0, "site": 1, "origin": 2}
Stacks = Mapping[str, tuple[str, ...]]


class _Scales:
    """What sums over followed entries are multiplied with, so that all together give the cache's own exact totals.

    A ratio estimate: steadier than 1/p, and unbiased up to terms of order 1/n.
    """

    def __init__(
        self, cells: Sequence[Cell], totals: Totals, flows: Totals, held_before: tuple[int, int], sampled: bool
    ):
        self.live_bytes = totals.live().size_bytes + held_before[0]
        entries = totals.entries + held_before[1]
        allocated = flows.live().size_bytes + flows.freed().size_bytes + (held_before[0] if flows is totals else 0)
        self.live = _calibration(self.live_bytes, sum(cell.live_bytes for cell in cells), sampled)
        self.entries = _calibration(entries, sum(cell.live_entries for cell in cells), sampled)
        self.count = _calibration(
            flows["sets"] + flows["replacements"], sum(cell.allocations for cell in cells), sampled
        )
        self.allocated = _calibration(allocated, sum(cell.allocated_bytes for cell in cells), sampled)
        hits, misses = sum(cell.hits for cell in cells), sum(cell.misses for cell in cells)
        enough = hits + misses >= LEAST_READS
        self.hits = totals["hits"] / hits if hits and enough else 0.0
        self.misses = totals["misses"] / misses if misses and enough else 0.0


def hotspots_of(
    name: str,
    parts: Sequence[CacheRecording],
    by: str,
    stacks: Stacks,
    *,
    rss_bytes: int = 0,
    flows: Totals | None = None,
    seconds: float | None = None,
) -> tuple[MemoryHotspot, ...]:
    """A cache's hotspots, largest first.

    Args:
        name: The cache.
        parts: Its recordings, one per process.
        by: ``"pattern"``, ``"site"`` or ``"origin"``.
        stacks: Stacks of call sites.
        rss_bytes: Resident memory of all processes; 0 where that is not known.
        flows: What the counters counted in the time that the cells are of; None for all the time.
        seconds: How long that was; None for all the time.
    """
    merged, totals = Hotspots(), Totals()
    recurrences: dict[str, str | None] = {}
    for part in parts:
        merged.merge(part.hotspots)
        totals.merge(part.totals)
        for place, word in part.recurrences.items():
            label = place[COLUMNS[by]]
            recurrences[label] = more_often(recurrences.get(label), word)
    held_before = (
        sum(part.inherited_bytes + part.carried_bytes for part in parts),
        sum(part.inherited_entries + part.carried_entries for part in parts),
    )
    every = list(merged.cells.values())
    whole, seen = _Whole(every), _seen_with(merged.cells, COLUMNS[by])
    sampled = min(part.sampling_rate for part in parts) < 1.0
    scales = _Scales(every, totals, totals if flows is None else flows, held_before, sampled)
    if seconds is None:
        seconds = max(p.end_time for p in parts) - min(p.start_time for p in parts)
    cells = merged.grouped(COLUMNS[by])
    for unknown in ("\0" if by == "pattern" else "", OLDER):
        cells.pop(unknown, None)
    alone = len(cells) == 1 and by == "pattern"
    out = []
    for label, cell in cells.items():
        pattern, site, built_at = _places(label, COLUMNS[by], seen)
        held, count = cell.live_bytes * scales.live, cell.allocations * scales.count
        allocated = cell.allocated_bytes * scales.allocated
        live_error = _share_error(cell.live_bytes, cell.live_variance, whole.live)
        allocated_error = _share_error(cell.allocated_bytes, cell.allocated_variance, whole.allocated)
        out.append(
            MemoryHotspot(
                cache_name=name,
                key_pattern=pattern,
                site=site,
                built_at=built_at,
                allocation_count=round(count),
                total_size_bytes=round(allocated),
                average_size_bytes=allocated / count if count else 0.0,
                live_bytes=max(0, round(held)),
                live_entries=max(0, round(cell.live_entries * scales.entries)),
                allocation_rate=count / max(seconds, 1e-9),
                hits=totals["hits"] if alone else round(cell.hits * scales.hits),
                misses=totals["misses"] if alone else round(cell.misses * scales.misses),
                stack_trace=stacks.get(label, ()) if by != "pattern" else stacks.get(site, ()) if site else (),
                first_seen=cell.first_seen,
                last_seen=cell.last_seen,
                live_bytes_std_error=live_error * scales.live,
                total_size_bytes_std_error=allocated_error * scales.allocated,
                share_of_cache=held / scales.live_bytes if scales.live_bytes > 0 else 0.0,
                share_of_process=held / rss_bytes if rss_bytes > 0 else 0.0,
                churned_bytes=round(cell.churned_bytes * scales.allocated),
                recurrence=recurrences.get(label),
            )
        )
    return tuple(sorted(out, key=weight))


def _seen_with(places: Iterable[Place], column: int) -> dict[str, tuple[set[str], ...]]:
    """For each label in a column of *places* the known ones beside it, column by column; in one go, for there are many."""
    out: dict[str, tuple[set[str], ...]] = {}
    for place in places:
        beside = out.setdefault(place[column], (set(), set(), set()))
        for labels, label in zip(beside, place, strict=True):
            if label:
                labels.add(label)
    return out


def _places(
    label: str, column: int, seen: Mapping[str, tuple[set[str], ...]]
) -> tuple[str | None, str | None, str | None]:
    """``(pattern, site, origin)`` of a hotspot: what it is told by, and of the others the one there is if there is one."""
    found = [next(iter(labels)) if len(labels) == 1 else None for labels in seen[label]]
    found[column] = label
    return found[0], found[1], found[2]


def _calibration(exact: float, estimated: float, sampled: bool) -> float:
    return exact / estimated if sampled and estimated > 0 and exact > 0 else 1.0


class _Whole:
    """``(bytes, variance)`` of all cells together."""

    def __init__(self, cells: Sequence[Cell]):
        self.live = (sum(cell.live_bytes for cell in cells), sum(cell.live_variance for cell in cells))
        self.allocated = (sum(cell.allocated_bytes for cell in cells), sum(cell.allocated_variance for cell in cells))


def _share_error(size_bytes: float, own: float, whole: tuple[float, float]) -> float:
    """Standard error of a cell's bytes, of variance *own*, as a share of an exactly known total."""
    total, variance = whole
    if own <= 0 or total <= 0:
        return 0.0
    share = size_bytes / total
    return float(((1 - share) ** 2 * own + share**2 * max(0.0, variance - own)) ** 0.5)


def weight(spot: MemoryHotspot) -> tuple[float, float, str, str]:
    """The order of hotspots: largest first."""
    return (-spot.live_bytes, -spot.total_size_bytes, spot.key_pattern or "", spot.site or "")


def key_hotspots_of(
    name: str, parts: Sequence[CacheRecording], most: int, *, seconds: float | None = None
) -> tuple[MemoryHotspot, ...]:
    """The keys of a cache that are set and read most often, most frequent first.

    Args:
        name: The cache.
        parts: Its recordings, one per process; their keys are named.
        most: How many.
        seconds: The time that the counts are of; None for all the time.
    """
    counts, totals = KeyCounts(), Totals()
    for part in parts:
        counts.merge(part.activity.keys)
        totals.merge(part.totals)
    begin, end = min(part.start_time for part in parts), max(part.end_time for part in parts)
    seconds = max(end - begin if seconds is None else seconds, 1e-9)
    read = sum(hitter.hits + hitter.misses for hitter in counts.reads.entries.values())
    scale = (totals["hits"] + totals["misses"]) / max(counts.reads.total, 1.0) if read >= LEAST_READS else 0.0
    out = []
    for identity, pattern, raw, sets, reads in counts.top(most):
        allocations = sets.count if sets is not None else 0.0
        size = sets.size_bytes if sets is not None else 0.0
        told = reads is not None and reads.hits + reads.misses >= _LEAST_READS_OF_KEY
        if not told and sets is None:
            continue
        hits, misses = (reads.hits * scale, reads.misses * scale) if told and reads is not None else (0.0, 0.0)
        out.append(
            MemoryHotspot(
                cache_name=name,
                key_pattern=pattern,
                key=raw,
                key_id=identity,
                site=None,
                allocation_count=round(allocations),
                total_size_bytes=round(size),
                average_size_bytes=size / allocations if allocations else 0.0,
                live_bytes=0,
                live_entries=0,
                allocation_rate=allocations / seconds,
                hits=round(hits),
                misses=round(misses),
                stack_trace=(),
                first_seen=begin,
                last_seen=end,
                count_error=round(sets.missed) if sets is not None else 0,
            )
        )
    return tuple(sorted(out, key=lambda spot: -(spot.allocation_count + spot.hits + spot.misses))[:most])


_OPERATIONS = (
    ("set", "sets", ""),
    ("replace", "replacements", ""),
    ("delete", "deletes", "deleted"),
    ("evict", "evictions", "evicted"),
    ("expire", "expirations", "expired"),
    ("clear", "cleared", "cleared"),
)


def operation_hotspots_of(
    name: str, parts: Sequence[CacheRecording], *, flows: Totals | None = None, seconds: float | None = None
) -> tuple[MemoryHotspot, ...]:
    """What each kind of operation allocated or freed, most bytes first; exact."""
    totals = Totals()
    for part in parts:
        totals.merge(part.totals)
    counted = totals if flows is None else flows
    begin, end = min(part.start_time for part in parts), max(part.end_time for part in parts)
    seconds = max(end - begin if seconds is None else seconds, 1e-9)
    freed, resized = counted.freed(), counted.resized()
    out = []
    for operation, counter, cause in _OPERATIONS:
        count = counted[counter]
        if not count:
            continue
        if cause:
            size = counted.freed(cause)
        elif operation == "replace":
            size = resized
        else:
            size = counted.live()
        moved = size.size_bytes if operation != "set" else size.size_bytes - resized.size_bytes + freed.size_bytes
        out.append(
            MemoryHotspot(
                cache_name=name,
                key_pattern=None,
                site=None,
                operation=operation,
                allocation_count=count,
                total_size_bytes=moved,
                average_size_bytes=moved / count,
                live_bytes=0,
                live_entries=0,
                allocation_rate=count / seconds,
                hits=0,
                misses=0,
                stack_trace=(),
                first_seen=begin,
                last_seen=end,
                total_size_bytes_std_error=size.std_error,
                churned_bytes=moved if cause else 0,
            )
        )
    return tuple(sorted(out, key=lambda spot: -abs(spot.total_size_bytes)))
