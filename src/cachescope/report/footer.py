"""What the figures cost, and what may be wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.text import Text

from cachescope.core.results import MemoryProfile, ProcessInfo
from cachescope.report import figures
from cachescope.report.overview import several
from cachescope.report.table import Column, Table
from cachescope.report.text import shorten, wrap
from cachescope.report.view import View

NOTES_SHOWN = 6
ITEM_LINES = 8
"""What takes more lines than this is no note but a dump."""
_LABELS = ("collected", "cost", "tracing", "estimates", "dropped", "faults", "ended badly", "note")
_LABEL_WIDTH = max(map(len, _LABELS))


def cost_and_doubts(view: View, only: MemoryProfile | None = None) -> Iterator[Text]:
    """The foot of a report; *only* narrows what is said of caches down to one."""
    report = view.report
    considered = report.caches if only is None else (only,)
    processes = report.processes
    yield from view.heading("What did this cost, what may be wrong?")
    if processes:
        collected = dict.fromkeys(view.safe(what) for process in processes for what in process.collects)
        if collected:
            yield from _item(view, "collected", "; ".join(collected))
        yield from _item(view, "cost", _cost(processes))
        yield from _tracing(view, processes)
    yield from _item(view, "estimates", _estimates(view, considered))
    dropped = sum(process.dropped_events for process in processes)
    if dropped:
        yield from _item(view, "dropped", f"{figures.plural(dropped, 'event')} not counted", "yellow")
    faults = Counter[str]()
    for process in processes:
        faults.update(process.faults)
    if faults:
        named = [f"{view.safe(what)} ({figures.count(number)})" for what, number in faults.most_common()]
        shown = len(named) if view.verbose else 3
        total = figures.plural(faults.total(), "fault")
        yield from _item(view, "faults", f"{total} of our own, swallowed: {several(named, shown)}", "yellow")
    for process in processes:
        if process.exit_note:
            text = f"pid {process.pid}: {view.safe(process.exit_note)}"
            yield from _item(view, "ended badly", text, "red")
    yield from _notes(view, considered, with_caches=only is None)
    if view.verbose and processes:
        yield from _processes(view)


def _item(view: View, label: str, text: str, style: str = "dim") -> Iterator[Text]:
    room = min(view.width, 100) - _LABEL_WIDTH - 4
    for place, line in enumerate(wrap(shorten(text, ITEM_LINES * room, view.glyphs.ellipsis), room)):
        head = label if not place else ""
        yield Text("  ").append(head.ljust(_LABEL_WIDTH), style).append("  ").append(line, "dim")


def _cost(processes: tuple[ProcessInfo, ...]) -> str:
    memory = figures.byte_size(sum(process.profiler_bytes for process in processes))
    seconds = sum(process.profiler_cpu_seconds for process in processes)
    lived = sum(max(process.end_time - process.start_time, 0.0) for process in processes)
    of = f" ({figures.ratio(seconds / lived)} of one core)" if lived > 0 else ""
    return (
        f"{memory} of memory and {figures.duration(seconds)} of CPU{of} for cachescope's thread; hooks run inside yours"
    )


def _tracing(view: View, processes: tuple[ProcessInfo, ...]) -> Iterator[Text]:
    """What tracemalloc costs: its own figures for memory, its known price for time."""
    traced = [process.tracemalloc_bytes for process in processes if process.tracemalloc_bytes is not None]
    if traced:
        memory = figures.byte_size(sum(traced))
        text = f"tracemalloc was on: {memory} of memory; each allocation of Python's takes several times as long"
        yield from _item(view, "tracing", text, "yellow")


def _estimates(view: View, caches: tuple[MemoryProfile, ...]) -> str:
    sign = view.glyphs.plus_minus
    unsure = any(_has_error(cache) for cache in caches)
    sampled = [cache for cache in caches if cache.sampling_rate < 1]
    if not unsure and not sampled:
        sampled_all_the_same = _sampled(view)
        but = f", but {'; '.join(sampled_all_the_same)}" if sampled_all_the_same else ""
        return f"none: all figures are exact{but}"
    parts = [f"{sign} is one standard error; figures without it are exact"] if unsure else []
    if sampled:
        named = [f"{view.name(cache.cache_name)} ({figures.ratio(cache.sampling_rate)})" for cache in sampled]
        shown = len(named) if view.verbose else 2
        parts.append(f"by kind of key and by line from a sample of the keys: {several(named, shown)}")
    return "; ".join(parts + _sampled(view)[1:])


_NEARLY_ALWAYS = 0.995


def _sampled(view: View) -> list[str]:
    """What is taken on a sample even where bytes and counts are exact."""
    report = view.report
    parts = ["hits by kind of key are sampled"] if report.patterns else []
    if any(one.sampled for row in report.performance for one in row.operations):
        parts.append("times are taken on a sample")
    watched = [row.watched_ratio for row in report.allocation_patterns if 0 < row.watched_ratio < _NEARLY_ALWAYS]
    if watched:
        parts.append(
            f"whether entries are read was watched for part of the time (at least {figures.share(min(watched))})"
        )
    return parts


def _has_error(cache: MemoryProfile) -> bool:
    return cache.current_memory_bytes_std_error > 0 or any(row.live_bytes_std_error > 0 for row in cache.value_types)


def _notes(view: View, caches: tuple[MemoryProfile, ...], *, with_caches: bool) -> Iterator[Text]:
    notes = [view.safe(note) for note in dict.fromkeys(view.report.notes)]
    if with_caches:
        of_note: dict[str, list[str]] = {}
        for cache in caches:
            for note in cache.notes:
                of_note.setdefault(note, []).append(view.name(cache.cache_name))
        notes += [f"{several(names, 2)}: {view.safe(note)}" for note, names in of_note.items()]
    shown = len(notes) if view.verbose else NOTES_SHOWN
    for note in notes[:shown]:
        yield from _item(view, "note", note)
    if len(notes) > shown:
        yield from _item(view, "", f"and {figures.plural(len(notes) - shown, 'more note')}")


def _processes(view: View) -> Iterator[Text]:
    yield from view.heading("Which processes?")
    rows = view.report.processes
    lived = [figures.duration(max(process.end_time - process.start_time, 0.0)) for process in rows]
    cpu = [figures.duration(process.profiler_cpu_seconds) for process in rows]
    table = Table(
        names=Column(heading="Command", cells=[view.safe(process.command) for process in rows], left=True),
        columns=[
            Column(heading="Pid", cells=[str(process.pid) for process in rows]),
            view.figure("Parent", [str(process.parent_pid) for process in rows], 5, "parent {}"),
            view.figure("Lived", lived, 2, "lived {}"),
            view.figure("RSS", [figures.byte_size(process.rss_bytes) for process in rows], 1, "{} resident"),
            view.figure("Ours", [figures.byte_size(process.profiler_bytes) for process in rows], 3, "{} ours"),
            view.figure("Our CPU", cpu, 4, "{} CPU ours"),
            view.figure("Python", [view.safe(process.python) for process in rows], 6, "Python {}"),
            view.figure("Level", [view.safe(process.level.lower()) for process in rows], 7, "{}"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
