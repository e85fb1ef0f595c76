"""The sections about all caches: what was profiled, what stands out, and which cache holds the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from cachescope.core.results import MemoryProfile
from cachescope.report import figures
from cachescope.report.findings import Finding, FindingKind, findings, limit_of
from cachescope.report.table import Column, Table
from cachescope.report.text import shorten
from cachescope.report.view import View

CACHES_WITH_FINDINGS = 5
"""More than a handful of things to do is nothing to do."""
HIGHER_PEAK = 1.1
"""Where room is short, a peak within a tenth of what is held now says nothing new."""
_CALM = {FindingKind.HOLDS_MOST, FindingKind.OVERHEAD, FindingKind.LIMIT_FAR, FindingKind.NEVER_READ}


def headline(view: View) -> Iterator[Text]:
    """What was profiled, and how much memory this is about."""
    report = view.report
    commands = list(dict.fromkeys(process.command for process in report.processes if process.command))
    command = view.safe(commands[0]) if commands else "this process"
    if len(commands) > 1:
        command = f"{command} and {figures.plural(len(commands) - 1, 'more command')}"
    facts = [figures.duration(report.duration_seconds)]
    if report.processes:
        facts.insert(0, figures.plural(len(report.processes), "process", "processes"))
        facts.append("/".join(dict.fromkeys(view.safe(process.level.lower()) for process in report.processes)))
    badly = sum(1 for process in report.processes if process.exit_note)
    if badly:
        facts.append(f"{figures.count(badly)} ended badly")
    tail = view.glyphs.dot + view.glyphs.dot.join(facts)
    room = view.width - cell_len(tail)
    if room >= min(cell_len(command), 24):
        yield Text.assemble((shorten(command, room, view.glyphs.ellipsis), "bold"), (tail, "dim"))
    else:
        yield Text(shorten(command, view.width, view.glyphs.ellipsis), "bold")
        yield from view.prose(view.glyphs.dot.join(facts), 0, "dim")
    yield from view.prose(_total(view), 0)


def _total(view: View) -> str:
    report = view.report
    if not report.caches:
        return "No cache was seen."
    error = math.sqrt(sum(cache.current_memory_bytes_std_error**2 for cache in report.caches))
    sign = figures.spread(report.total_bytes, error, view.glyphs.plus_minus)
    size = f"{figures.byte_size(report.total_bytes)}{' ' if sign else ''}{sign}"
    sentence = f"{size} live in {figures.plural(len(report.caches), 'cache')}"
    resident = sum(process.rss_bytes for process in report.processes)
    if resident <= 0:
        return f"{sentence}."
    memory = figures.byte_size(resident)
    if report.total_bytes > resident:  # on a server, on disk, swapped out, or shared between workers
        return f"{sentence}, beside {memory} of resident memory."
    return f"{sentence}: {figures.share(report.total_bytes / resident)} of the {memory} resident."


def nothing_seen(view: View) -> Iterator[Text]:
    """What to do about a report without caches."""
    yield from view.prose(
        "Caches of the libraries that cachescope knows are found by themselves; any other object is followed after "
        'cachescope.instrument(cache, name="...").',
        0,
        "dim",
    )


def stands_out(view: View, only: str | None = None) -> Iterator[Text]:
    """The findings, gathered by cache; nothing at all when there are none."""
    gathered: dict[tuple[bool, str], list[Finding]] = {}
    for finding in findings(view.report):
        if only is None or (finding.cache_name == only and not finding.of_process):
            gathered.setdefault((finding.of_process, finding.cache_name), []).append(finding)
    if not gathered:
        return
    yield from view.heading("What stands out?")
    shown = len(gathered) if view.verbose else CACHES_WITH_FINDINGS
    for (of_process, name), found in list(gathered.items())[:shown]:
        calm = all(finding.kind in _CALM for finding in found)
        line = Text("  ").append(view.glyphs.bullet, "yellow" if calm else "red").append(" ")
        label = "the process as a whole" if of_process else view.name(name)
        yield line.append(shorten(label, view.width - 4, view.glyphs.ellipsis), "bold")
        for finding in found:
            yield from view.prose(view.safe(finding.sentence), 4)
            yield from view.prose(view.safe(finding.evidence), 6, "dim")
    if len(gathered) > shown:
        yield Text(f"  and {figures.plural(len(gathered) - shown, 'more cache')} with findings", "dim")


def caches(view: View) -> Iterator[Text]:
    """Which cache holds the memory?"""
    ordered = view.ordered_caches()
    rows, others = ordered[: view.top], ordered[view.top :]
    yield from view.heading("Which cache holds the memory?")
    kinds = [view.safe(cache.kind) for cache in rows]
    places = [view.safe(cache.where) if cache.where else "" for cache in rows]
    live = [cache.current_memory_bytes for cache in rows]
    errors = [cache.current_memory_bytes_std_error for cache in rows]
    peaks = [figures.byte_size(cache.peak_memory_bytes) for cache in rows]
    higher = [
        f"peak {peak}" if cache.peak_memory_bytes > HIGHER_PEAK * cache.current_memory_bytes else ""
        for cache, peak in zip(rows, peaks, strict=True)
    ]
    maxima = [_maximum(cache) for cache in rows]
    evicted = [figures.rate(figures.per(cache.total_evictions, cache.duration_seconds)) for cache in rows]
    leaving = ["" if evictions == "0" else f"{evictions} evictions/s" for evictions in evicted]
    table = Table(
        names=Column(heading="Cache", cells=[view.name(cache.cache_name) for cache in rows], left=True),
        columns=[
            Column(heading="Made at", cells=places, rank=10, left=True, below=places),
            Column(heading="Kind", cells=kinds, rank=9, left=True, below=kinds),
            *view.live_columns(live, errors, view.report.total_bytes),
            view.figure("Entries", [figures.count(cache.current_entries) for cache in rows], 4, "{} entries"),
            Column(heading="Max", cells=maxima, rank=7, below=[_worded_maximum(maximum) for maximum in maxima]),
            view.figure("Hits", [figures.ratio(cache.hit_ratio) for cache in rows], 1, "{} hits"),
            Column(heading="Evict/s", cells=evicted, rank=6, below=leaving),
            Column(heading="Peak", cells=peaks, rank=8, below=higher),
        ],
        notes=[_about(cache) for cache in rows],
    )
    yield from table.lines(view.width, view.glyphs)
    yield from left_out(len(others), sum(cache.current_memory_bytes for cache in others), "cache")


def _maximum(cache: MemoryProfile) -> str:
    limit = limit_of(cache)
    if limit is None:
        return "none"
    return figures.count(limit) if cache.own_size is None else ""


def _worded_maximum(maximum: str) -> str:
    return {"": "", "none": "no maximum"}.get(maximum, f"max {maximum}")


def _about(cache: MemoryProfile) -> list[str]:
    """What is said of a cache on the line below its row, when it applies."""
    parts: list[str] = []
    limit = limit_of(cache)
    if cache.own_size is not None:
        of = f" of {figures.count(limit)}" if limit is not None else ""
        parts.append(f"{figures.count(cache.own_size)}{of} in its own unit")
    if cache.instances_total > 1:
        parts.append(instances(cache))
    if cache.total_expirations > cache.total_evictions:
        parts.append(f"{figures.rate(figures.per(cache.total_expirations, cache.duration_seconds))} expirations/s")
    return parts


def instances(cache: MemoryProfile) -> str:
    """How many cache objects share the name: those that live, of those that were made."""
    if cache.instances == cache.instances_total:
        return figures.plural(cache.instances, "object")
    return f"{figures.count(cache.instances)} of {figures.plural(cache.instances_total, 'object')} live"


def left_out(number: int, size: int, noun: str) -> Iterator[Text]:
    """How many rows a table has left out, and their bytes."""
    if number:
        yield Text(f"  and {figures.plural(number, f'more {noun}')}, {figures.byte_size(size)} together", "dim")


def several(texts: Sequence[str], shown: int = 3) -> str:
    """The first few of *texts* in a row, and how many more there are."""
    rest = len(texts) - shown
    return ", ".join(texts[:shown]) + (f" and {figures.count(rest)} more" if rest > 0 else "")
