"""Everything that is known about one cache, in the order of the questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol, TypeVar

from rich.text import Text

from cachescope.core.errors import UnknownCacheError
from cachescope.core.results import MemoryHotspot, MemoryProfile, Report
from cachescope.report import figures, growth, hotspots, lives, overview, pressure, speed
from cachescope.report.findings import limit_of
from cachescope.report.table import Column, Table
from cachescope.report.text import shorten, wrap_parts
from cachescope.report.view import View

EVENTS_SHOWN = 5
EVENTS_SHOWN_VERBOSE = 25


def find(report: Report, name: str) -> MemoryProfile:
    """The cache of that name.

    Raises:
        UnknownCacheError: There is none; the message gives the near names.
    """
    for cache in report.caches:
        if cache.cache_name == name:
            return cache
    raise UnknownCacheError(name, [cache.cache_name for cache in report.caches])


def only(report: Report, name: str) -> Report:
    """The same report without all other caches, for those who read it as JSON; the process's own memory stays.

    Raises:
        UnknownCacheError: There is no such cache.
    """
    return dataclasses.replace(
        report,
        caches=(find(report, name),),
        patterns=_of(report.patterns, name),
        sites=_of(report.sites, name),
        keys=_of(report.keys, name),
        origins=_of(report.origins, name),
        allocation_patterns=_of(report.allocation_patterns, name),
        performance=_of(report.performance, name),
        operations=_of(report.operations, name),
        trends=tuple(row for row in report.trends if row.cache_name in {None, name}),
        snapshots=tuple(
            dataclasses.replace(one, caches=tuple(use for use in one.caches if use.cache_name == name))
            for one in report.snapshots
        ),
        pressure=tuple(
            event
            for event in report.pressure
            if event.cache_name == name or (event.metadata or {}).get("scope") != pressure.CACHE
        ),
    )


class _Named(Protocol):
    @property
    def cache_name(self) -> str: ...


_Row = TypeVar("_Row", bound=_Named)


def _of(rows: tuple[_Row, ...], name: str) -> tuple[_Row, ...]:
    return tuple(row for row in rows if row.cache_name == name)


def hotspots_of(report: Report, cache: MemoryProfile) -> tuple[tuple[MemoryHotspot, ...], tuple[MemoryHotspot, ...]]:
    """The cache's kinds of keys and its lines of code: of the whole report, or else the cache's own list."""
    patterns, sites = _of(report.patterns, cache.cache_name), _of(report.sites, cache.cache_name)
    own_patterns = tuple(row for row in cache.hotspots if row.key_pattern is not None)
    own_sites = tuple(row for row in cache.hotspots if row.key_pattern is None)
    return patterns or own_patterns, sites or own_sites


def sections(view: View, cache: MemoryProfile) -> Iterator[Text]:
    """All sections about *cache*, without the report's head and foot."""
    patterns, sites = hotspots_of(view.report, cache)
    yield from _who(view, cache)
    yield from overview.stands_out(view, cache.cache_name)
    yield from _bytes(view, cache)
    yield from growth.of_cache(view, cache)
    yield from _worth(view, cache)
    yield from lives.of_cache(view, cache)
    yield from speed.of_cache(view, cache)
    yield from _flow(view, cache)
    yield from _value_types(view, cache)
    whole = cache.current_memory_bytes
    yield from hotspots.patterns(view, patterns, whole, alone=True)
    yield from hotspots.hot_keys(view, _of(view.report.keys, cache.cache_name), alone=True)
    yield from hotspots.sites(view, sites, whole, alone=True, stacks=True)
    yield from hotspots.origins(view, _of(view.report.origins, cache.cache_name), whole, alone=True, stacks=True)
    yield from speed.operations(view, cache)
    yield from pressure.ran_short(view, pressure.of_cache(view.report.pressure, cache.cache_name))
    yield from _events(view, cache)
    if cache.notes:
        yield from view.heading("What could not be seen?")
        for note in cache.notes:
            yield from view.prose(view.safe(note))


def _who(view: View, cache: MemoryProfile) -> Iterator[Text]:
    yield Text()
    yield Text(shorten(view.name(cache.cache_name), view.width, view.glyphs.ellipsis), "bold")
    parts = [view.safe(cache.kind)]
    if cache.where:
        parts.append(f"made at {view.safe(cache.where)}")
    parts.append(overview.instances(cache))
    parts.append(f"seen for {figures.duration(cache.duration_seconds)}")
    for line in wrap_parts(parts, view.width - 2, view.glyphs):
        yield Text(f"  {line}", "dim")


def _bytes(view: View, cache: MemoryProfile) -> Iterator[Text]:
    yield from view.heading("What does it hold?")
    limit = limit_of(cache)
    total = view.report.total_bytes
    sign = figures.spread(cache.current_memory_bytes, cache.current_memory_bytes_std_error, view.glyphs.plus_minus)
    share = f"{figures.share(cache.current_memory_bytes / total)} of all caches" if total > 0 else ""
    resident = sum(process.rss_bytes for process in view.report.processes)
    if share and total <= resident:
        share += f", {figures.share(cache.current_memory_bytes / resident)} of resident memory"
    entries = figures.count(cache.current_entries)
    of = "" if cache.own_size is not None else " of " + figures.count(limit) if limit is not None else ", no maximum"
    rows = [
        (
            "live",
            f"{figures.byte_size(cache.current_memory_bytes)} {sign}".rstrip(),
            share,
        ),
        ("peak", figures.byte_size(cache.peak_memory_bytes), "the most that it held"),
        ("keys and values", figures.byte_size(cache.net_memory_bytes), "what was set, less what left"),
        ("container", figures.byte_size(cache.container_bytes), "its tables, links and queues"),
        ("not payload", figures.share(cache.fragmentation_ratio), "of what container and allocator hold"),
        ("entries", f"{entries}{of}", f"{figures.byte_size(cache.average_entry_bytes)} each" if entries != "0" else ""),
    ]
    if cache.own_size is not None:
        maximum = f" of {figures.count(limit)}" if limit is not None else ""
        rows.append(("its own measure", f"{figures.count(cache.own_size)}{maximum}", "what its getsizeof adds up to"))
    yield from view.pairs(rows)


def _worth(view: View, cache: MemoryProfile) -> Iterator[Text]:
    yield from view.heading("Is it worth it?")
    lookups = cache.hits + cache.misses
    each = figures.per(cache.current_memory_bytes, cache.hits)
    meaning = "of its bytes over time lay between an entry's set and its last hit"
    in_use = [("bytes in use", figures.ratio(cache.memory_efficiency_ratio), meaning)]
    if _of(view.report.allocation_patterns, cache.cache_name):
        in_use = []  # said below, with its error
    yield from view.pairs(
        [
            ("hit ratio", figures.ratio(cache.hit_ratio) if lookups else "none yet", "of lookups" if lookups else ""),
            ("hits", figures.count(cache.hits), _rate(cache.hits, cache)),
            ("misses", figures.count(cache.misses), _rate(cache.misses, cache)),
            ("bytes a hit", figures.byte_size(each), "live bytes for each hit so far"),
            *in_use,
        ]
    )


def _rate(number: int, cache: MemoryProfile) -> str:
    rate = figures.per(number, cache.duration_seconds)
    return "" if rate is None else f"{figures.rate(rate)}/s"


def _flow(view: View, cache: MemoryProfile) -> Iterator[Text]:
    """What came in and what left: the byte law, line by line."""
    yield from view.heading("What came in, what left?")
    other_bytes = cache.total_deallocated_bytes - cache.total_evicted_bytes - cache.total_expired_bytes
    rows: list[tuple[str, int, int | None, float]] = [
        ("set, new", cache.total_allocations, cache.total_allocated_bytes, cache.total_allocated_bytes_std_error),
        ("replaced", cache.total_resizes, cache.total_resized_bytes, 0.0),
        ("evicted", cache.total_evictions, -cache.total_evicted_bytes, 0.0),
        ("expired", cache.total_expirations, -cache.total_expired_bytes, 0.0),
    ]
    if cache.total_cleared and cache.total_deletions:  # their bytes are known together only
        rows.append(("deleted or cleared", cache.total_deletions + cache.total_cleared, -other_bytes, 0.0))
        rows.append(("  deleted", cache.total_deletions, None, 0.0))
        rows.append(("  cleared", cache.total_cleared, None, 0.0))
    else:
        rows.append(
            (
                "cleared" if cache.total_cleared else "deleted",
                cache.total_deletions + cache.total_cleared,
                -other_bytes,
                0.0,
            )
        )
    rows.append(
        (
            "all that left",
            cache.total_deallocations,
            -cache.total_deallocated_bytes,
            cache.total_deallocated_bytes_std_error,
        )
    )
    signs = [figures.spread(size, error, view.glyphs.plus_minus) for _, _, size, error in rows]
    table = Table(
        names=Column(heading="", cells=[row[0] for row in rows], left=True),
        columns=[
            Column(heading="Entries", cells=[figures.count(row[1]) for row in rows]),
            Column(
                heading="Bytes",
                cells=["" if row[2] is None else figures.signed_byte_size(row[2]) for row in rows],
            ),
            Column(heading="", cells=signs, gap=1, left=True, rank=2),
            Column(
                heading="Entries/s",
                cells=[figures.rate(figures.per(row[1], cache.duration_seconds)) for row in rows],
                rank=1,
            ),
            Column(
                heading="Bytes/s",
                cells=[figures.signed_byte_size(figures.per(row[2], cache.duration_seconds)) for row in rows],
                rank=1,
            ),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
    facts = [f"turnover {figures.share(cache.memory_turnover_ratio)}: bytes freed for bytes set"]
    if cache.total_allocations:
        facts.insert(0, f"{figures.byte_size(cache.average_allocation_size_bytes)} for each entry set")
    if cache.clears:
        facts.append(f"cleared {figures.plural(cache.clears, 'time')}")
    for line in wrap_parts(facts, view.width - 2, view.glyphs):
        yield Text(f"  {line}", "dim")


def _value_types(view: View, cache: MemoryProfile) -> Iterator[Text]:
    if not cache.value_types:
        return
    yield from view.heading("Which types of values?")
    ordered = sorted(cache.value_types, key=lambda row: -row.live_bytes)
    rows = ordered[: view.top]
    live, errors = [row.live_bytes for row in rows], [row.live_bytes_std_error for row in rows]
    measured = [
        "all" if row.sized >= row.entries else f"{figures.count(row.sized)} of {figures.count(row.entries)}"
        for row in rows
    ]
    table = Table(
        names=Column(heading="Type", cells=[view.safe(row.type_name) for row in rows], left=True),
        columns=[
            *view.live_columns(live, errors, cache.current_memory_bytes),
            view.figure("Entries", [figures.count(row.entries) for row in rows], 1, "{} entries"),
            view.figure("Measured", measured, 4, "{} measured"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
    if len(ordered) > len(rows):
        yield Text(f"  and {figures.plural(len(ordered) - len(rows), 'more type')}", "dim")


def _events(view: View, cache: MemoryProfile) -> Iterator[Text]:
    shown = EVENTS_SHOWN_VERBOSE if view.verbose else EVENTS_SHOWN
    newest = sorted(cache.events, key=lambda event: event.timestamp)[-shown:]
    if not newest:
        return
    yield from view.heading("What happened last?")
    ages = [max(cache.end_time - event.timestamp, 0.0) for event in newest]
    table = Table(
        names=Column(heading="Key", cells=[view.safe(event.key) for event in newest], left=True),
        columns=[
            Column(heading="Event", cells=[event.event_type.value for event in newest], left=True),
            Column(heading="Bytes", cells=[figures.byte_size(event.size_bytes) for event in newest]),
            Column(heading="Before end", cells=[figures.duration(age) for age in ages], rank=1),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
