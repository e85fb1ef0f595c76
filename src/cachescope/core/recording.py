"""What a capture holds: the folds of every cache of one or several processes, and the report that they make.

A recording is a set of processes; merging is the union of sets, so a capture that is given twice counts once, and order
doesn't matter. Sums over processes are made when a report is asked for, by the same folds that run live.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachescope.core.analysis.hotspots import Cell, Hotspots
from cachescope.core.analysis.totals import Totals
from cachescope.core.errors import CaptureError
from cachescope.core.results import (
    REPORT_SCHEMA_VERSION,
    MemoryAllocation,
    MemoryHotspot,
    MemoryProfile,
    ProcessInfo,
    Report,
)
from cachescope.core.sizing import allocated_bytes

_LEAST_READS = 30
"""Sampled reads of a cache below which nothing is said of hits by kind of key."""


@dataclass(slots=True)
class CacheRecording:
    """One cache of one process: its folds, and what can only be said of the moment."""

    name: str
    kind: str = ""
    where: str = ""
    start_time: float = 0.0
    end_time: float = 0.0
    instances: int = 0
    instances_total: int = 0
    container_bytes: int = 0
    peak_bytes: int = 0
    max_entries: float | None = None
    own_size: float | None = None
    sampling_rate: float = 1.0
    inherited_bytes: int = 0
    inherited_entries: int = 0
    notes: tuple[str, ...] = ()
    totals: Totals = field(default_factory=Totals)
    hotspots: Hotspots = field(default_factory=Hotspots)
    events: tuple[MemoryAllocation, ...] = ()
    """Not captured: they stay in the process."""

    def to_dict(self) -> dict[str, object]:
        """JSON types."""
        out: dict[str, object] = {name: getattr(self, name) for name in _PLAIN}
        out["notes"] = list(self.notes)
        out["totals"] = self.totals.to_dict()
        out["hotspots"] = self.hotspots.to_dict()
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CacheRecording:
        """The inverse of :meth:`to_dict`."""
        out = cls(**{name: data[name] for name in _PLAIN if name in data})
        out.notes = tuple(map(str, data.get("notes", ())))
        out.totals = Totals.from_dict(data["totals"])
        out.hotspots = Hotspots.from_dict(data["hotspots"])
        return out


_PLAIN = (
    "name",
    "kind",
    "where",
    "start_time",
    "end_time",
    "instances",
    "instances_total",
    "container_bytes",
    "peak_bytes",
    "max_entries",
    "own_size",
    "sampling_rate",
    "inherited_bytes",
    "inherited_entries",
)


@dataclass(slots=True)
class ProcessRecording:
    """All caches of one process.

    Attributes:
        uid: Names this process among all processes of all machines.
        parent_uid: The process that it was forked from, ``""`` for none.
        info: Its particulars.
        caches: By name.
        stacks: The stack of each call site, by the site's text.
    """

    uid: str
    parent_uid: str
    info: ProcessInfo
    caches: dict[str, CacheRecording]
    stacks: dict[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, object]:
        """JSON types."""
        return {
            "uid": self.uid,
            "parent_uid": self.parent_uid,
            "info": self.info.to_dict(),
            "caches": [cache.to_dict() for cache in self.caches.values()],
            "stacks": {site: list(stack) for site, stack in self.stacks.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessRecording:
        """The inverse of :meth:`to_dict`."""
        caches = [CacheRecording.from_dict(cache) for cache in data["caches"]]
        return cls(
            uid=str(data["uid"]),
            parent_uid=str(data["parent_uid"]),
            info=ProcessInfo(**data["info"]),
            caches={cache.name: cache for cache in caches},
            stacks={site: tuple(stack) for site, stack in data["stacks"].items()},
        )


class Recording:
    """The recordings of several processes, by uid."""

    def __init__(self, processes: Iterable[ProcessRecording] = ()) -> None:
        self.processes: dict[str, ProcessRecording] = {}
        for process in processes:
            known = self.processes.get(process.uid)
            if known is None or _age(known) < _age(process):
                self.processes[process.uid] = process

    def merge(self, other: Recording) -> Recording:
        """The recording of both; of a process that is in both, the later state."""
        return Recording([*self.processes.values(), *other.processes.values()])

    def to_dict(self) -> dict[str, object]:
        """The payload of a capture."""
        return {"processes": [process.to_dict() for process in self.processes.values()]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recording:
        """The inverse of :meth:`to_dict`.

        Raises:
            CaptureError: The payload is not what this version writes.
        """
        try:
            return cls([ProcessRecording.from_dict(process) for process in data["processes"]])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaptureError(
                f"the capture is whole, but its content is not understood ({type(error).__name__}: {error}); "
                "it was written by another version of cachescope"
            ) from error

    def report(self) -> Report:
        """The report over all processes."""
        processes = sorted(self.processes.values(), key=lambda process: (process.info.start_time, process.info.pid))
        infos = tuple(process.info for process in processes)
        start = min((info.start_time for info in infos), default=0.0)
        end = max((info.end_time for info in infos), default=0.0)
        stacks: dict[str, tuple[str, ...]] = {}
        parts: dict[str, list[CacheRecording]] = {}
        for process in processes:
            stacks.update(process.stacks)
            counted_by_parent = process.parent_uid in self.processes
            for cache in process.caches.values():
                parts.setdefault(cache.name, []).append(_without_inherited(cache) if counted_by_parent else cache)
        caches = [profile_of(name, pieces, stacks) for name, pieces in parts.items()]
        caches.sort(key=lambda cache: (-cache.current_memory_bytes, cache.cache_name))
        patterns = [spot for name, pieces in parts.items() for spot in hotspots_of(name, pieces, "pattern", stacks)]
        sites = [spot for name, pieces in parts.items() for spot in hotspots_of(name, pieces, "site", stacks)]
        return Report(
            schema_version=REPORT_SCHEMA_VERSION,
            generated_at=time.time(),
            start_time=start,
            end_time=end,
            duration_seconds=max(0.0, end - start),
            processes=infos,
            caches=tuple(caches),
            patterns=tuple(sorted(patterns, key=_weight)),
            sites=tuple(sorted(sites, key=_weight)),
        )


def _age(process: ProcessRecording) -> tuple[float, str]:
    return process.info.end_time, repr(process.info)


def _without_inherited(cache: CacheRecording) -> CacheRecording:
    """The same without what its parent process counts already."""
    totals = cache.totals.copy()
    shared = min(cache.inherited_bytes, max(0, totals["live_bytes"] + cache.inherited_bytes))
    out = CacheRecording(**{name: getattr(cache, name) for name in _PLAIN})
    out.notes, out.totals, out.hotspots = cache.notes, totals, cache.hotspots
    out.container_bytes = 0 if totals.entries <= 0 else cache.container_bytes
    out.peak_bytes = max(0, cache.peak_bytes - shared)
    out.inherited_bytes = out.inherited_entries = 0
    return out


def profile_of(
    name: str,
    parts: Sequence[CacheRecording],
    stacks: Mapping[str, tuple[str, ...]],
    *,
    window: tuple[float, float] | None = None,
    since: Totals | None = None,
    peak_bytes: int | None = None,
) -> MemoryProfile:
    """Sum a cache's recordings into its profile.

    Args:
        name: The cache.
        parts: Its recordings, one per process.
        stacks: Stacks of call sites.
        window: Start and end, seconds since the epoch; None means from the first start to the last end.
        since: Flows are counted from here on; None means all.
        peak_bytes: The peak of the window; None takes that of the recordings.
    """
    totals = Totals()
    for part in parts:
        totals.merge(part.totals)
    inherited_bytes = sum(part.inherited_bytes for part in parts)
    entries = totals.entries + sum(part.inherited_entries for part in parts)
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
        hotspots=hotspots_of(name, parts, "pattern", stacks),
        events=tuple(event for part in parts for event in part.events),
        value_types=totals.value_types(),
        sampling_rate=min(part.sampling_rate for part in parts),
        current_memory_bytes_std_error=live.std_error,
        total_allocated_bytes_std_error=guessed.std_error,
        total_deallocated_bytes_std_error=freed.std_error,
        fragmentation_ratio=_fragmentation(charged, held, entries),
        notes=tuple(dict.fromkeys([*(note for part in parts for note in part.notes), *_doubts(flows)])),
    )


def _doubts(flows: Totals) -> list[str]:
    """What should be known before the figures are believed."""
    sets, hits, misses = flows["sets"], flows["hits"], flows["misses"]
    if sets > 1_000 and hits > 0 and 2 * misses < sets:
        doubt = f"{sets:,} entries were set, but only {misses:,} look-ups missed: callers seem to ask `in` first"
        return [f"{doubt}, which is no look-up, so the hit ratio says little"]
    return []


def _fragmentation(charged: int, held: int, entries: int) -> float | None:
    """1 - payload / what container and allocator hold for it; the allocator's part from the mean object."""
    if entries <= 0 or held <= 0:
        return None
    mean = charged / (2 * entries)  # a key and a value
    slack = 2 * entries * max(0.0, allocated_bytes(round(mean)) - mean)
    return max(0.0, 1.0 - charged / (held + slack))


def hotspots_of(
    name: str, parts: Sequence[CacheRecording], by: str, stacks: Mapping[str, tuple[str, ...]]
) -> tuple[MemoryHotspot, ...]:
    """A cache's hotspots by ``"pattern"`` or ``"site"``, largest first.

    Where only some keys are followed, their sums are scaled so that all of them together give the cache's own totals
    (a ratio estimate: steadier than 1/p, and unbiased up to terms of order 1/n).
    """
    merged = Hotspots()
    totals = Totals()
    for part in parts:
        merged.merge(part.hotspots)
        totals.merge(part.totals)
    begin, end = min(p.start_time for p in parts), max(p.end_time for p in parts)
    seconds = max(end - begin, 1e-9)
    live, freed = totals.live().size_bytes, totals.freed().size_bytes
    live += sum(part.inherited_bytes for part in parts)
    entries = totals.entries + sum(part.inherited_entries for part in parts)
    sampled = min(part.sampling_rate for part in parts) < 1.0
    cells = merged.by_pattern() if by == "pattern" else merged.by_site()
    cells.pop("" if by == "site" else "\0", None)
    every = list(merged.cells.values())
    live_scale = _calibration(live, sum(cell.live_bytes for cell in every), sampled)
    entries_scale = _calibration(entries, sum(cell.live_entries for cell in every), sampled)
    count_scale = _calibration(
        totals["sets"] + totals["replacements"], sum(cell.allocations for cell in every), sampled
    )
    allocated_scale = _calibration(live + freed, sum(cell.allocated_bytes for cell in every), sampled)
    reads_hit, reads_missed = sum(cell.hits for cell in every), sum(cell.misses for cell in every)
    enough = reads_hit + reads_missed >= _LEAST_READS
    hit_scale = totals["hits"] / reads_hit if reads_hit and enough else 0.0
    miss_scale = totals["misses"] / reads_missed if reads_missed and enough else 0.0
    alone = len(cells) == 1 and by == "pattern"
    out = []
    for label, cell in cells.items():
        allocated = cell.allocated_bytes * allocated_scale
        held = cell.live_bytes * live_scale
        count = cell.allocations * count_scale
        sites = {place[1] for place in merged.cells if place[0] == label and place[1]} if by == "pattern" else set()
        patterns = {place[0] for place in merged.cells if place[1] == label} if by == "site" else set()
        site = label if by == "site" else (next(iter(sites)) if len(sites) == 1 else None)
        out.append(
            MemoryHotspot(
                cache_name=name,
                key_pattern=label if by == "pattern" else (next(iter(patterns)) if len(patterns) == 1 else None),
                site=site,
                allocation_count=round(count),
                total_size_bytes=round(allocated),
                average_size_bytes=allocated / count if count else 0.0,
                live_bytes=max(0, round(held)),
                live_entries=max(0, round(cell.live_entries * entries_scale)),
                allocation_rate=count / seconds,
                hits=totals["hits"] if alone else round(cell.hits * hit_scale),
                misses=totals["misses"] if alone else round(cell.misses * miss_scale),
                stack_trace=stacks.get(site, ()) if site else (),
                first_seen=cell.first_seen,
                last_seen=cell.last_seen,
                live_bytes_std_error=_share_error(cell, "live", every) * live_scale,
                total_size_bytes_std_error=_share_error(cell, "allocated", every) * allocated_scale,
                share_of_cache=held / live if live > 0 else 0.0,
            )
        )
    return tuple(sorted(out, key=_weight))


def _calibration(exact: float, estimated: float, sampled: bool) -> float:
    return exact / estimated if sampled and estimated > 0 and exact > 0 else 1.0


def _share_error(cell: Cell, what: str, every: Sequence[Cell]) -> float:
    """Standard error of a cell's bytes as a share of an exactly known total."""
    total = sum(getattr(other, f"{what}_bytes") for other in every)
    own: float = getattr(cell, f"{what}_variance")
    if own <= 0 or total <= 0:
        return 0.0
    share = getattr(cell, f"{what}_bytes") / total
    rest = sum(getattr(other, f"{what}_variance") for other in every) - own
    return float(((1 - share) ** 2 * own + share**2 * max(0.0, rest)) ** 0.5)


def _weight(spot: MemoryHotspot) -> tuple[float, float, str, str]:
    return (-spot.live_bytes, -spot.total_size_bytes, spot.key_pattern or "", spot.site or "")
