"""Is it growing? Where the process and its caches are heading."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from cachescope.core.results import MemoryProfile, MemoryTrend, Report, TrendVerdict
from cachescope.report import figures
from cachescope.report.table import Column, Table, worded
from cachescope.report.text import wrap
from cachescope.report.view import View

_SETTLED = {TrendVerdict.STEADY, TrendVerdict.UNKNOWN}
"""What a line about all of them is enough for."""
_SLOPING = {TrendVerdict.GROWING, TrendVerdict.SHRINKING}
"""What a slope describes; that of a saw-tooth or of a sudden change is there for those who ask for the reasons."""
_STYLES = {TrendVerdict.GROWING: "red", TrendVerdict.SHRINKING: "green", TrendVerdict.UNKNOWN: "dim"}
_SHIFTS_SHOWN = 3
PROCESSES_BESIDE = 2


def is_growing(view: View) -> Iterator[Text]:
    """The process, and the caches that are neither steady nor too little known; all of them when verbose."""
    trends = view.report.trends
    if not trends:
        return
    yield from view.heading("Is it growing?")
    labels = process_labels(view.report)
    rows = [trend for trend in trends if view.verbose or trend.verdict not in _SETTLED]
    rows.sort(key=_place)
    processes = [trend for trend in rows if trend.cache_name is None]
    caches = [trend for trend in rows if trend.cache_name is not None]
    shown = processes[: view.few] + caches[: view.top]
    if shown:
        names = [_label(view, trend, labels) for trend in shown]
        yield from _table(view, shown, names, deep=view.verbose, reasons=len(shown) if view.verbose else 0)
        yield from view.more(len(rows) - len(shown), "row")
    if not view.verbose:
        yield from _settled(view, trends)


def of_cache(view: View, cache: MemoryProfile) -> Iterator[Text]:
    """The same for one cache, with what the verdict rests on; the process stands beside it."""
    own = [trend for trend in view.report.trends if trend.cache_name == cache.cache_name]
    if not own:
        return
    yield from view.heading("Is it growing?")
    known = [trend for trend in own if trend.verdict is not TrendVerdict.UNKNOWN]
    for trend in own:
        if trend.verdict is TrendVerdict.UNKNOWN:
            yield from view.prose(f"not enough to say: {_reason(view, trend)}")
    if known:
        labels = process_labels(view.report)
        processes = [trend for trend in view.report.trends if trend.cache_name is None]
        beside = [trend for trend in processes if trend.verdict is not TrendVerdict.UNKNOWN]
        beside = beside if view.verbose else sorted(beside, key=_place)[:PROCESSES_BESIDE]
        names = ["this cache" for _ in known] + [_label(view, trend, labels) for trend in beside]
        yield from _table(view, known + beside, names, deep=True, reasons=len(known))


def process_labels(report: Report) -> dict[int, str]:
    """A name for each process's trend, by its identity: with its number where there are several processes."""
    own = [trend for trend in report.trends if trend.cache_name is None]
    if len(own) == 1:
        return {id(own[0]): "the process"}
    return {id(trend): "a process" if trend.pid is None else f"process {trend.pid}" for trend in own}


def _label(view: View, trend: MemoryTrend, labels: dict[int, str]) -> str:
    return labels[id(trend)] if trend.cache_name is None else view.name(trend.cache_name)


def _place(trend: MemoryTrend) -> tuple[bool, bool, float]:
    """The processes first, then the caches that grow, the fastest first."""
    slope = trend.slope_bytes_per_s
    speed = abs(slope) if slope is not None and figures.is_known(slope) else 0.0
    return trend.cache_name is not None, trend.verdict is not TrendVerdict.GROWING, -speed


def _table(view: View, rows: list[MemoryTrend], names: list[str], *, deep: bool, reasons: int) -> Iterator[Text]:
    """A row for each trend; the first *reasons* of them with what their verdicts rest on."""
    sloping = [deep or row.verdict in _SLOPING for row in rows]
    slopes = [figures.slope(row.slope_bytes_per_s) if shown else "" for row, shown in zip(rows, sloping, strict=True)]
    intervals = [
        figures.slope_interval(row.slope_low_bytes_per_s, row.slope_high_bytes_per_s, row.slope_bytes_per_s)
        if shown
        else ""
        for row, shown in zip(rows, sloping, strict=True)
    ]
    now = [figures.byte_size(row.last_bytes) for row in rows]
    over = [figures.duration(max(row.end_time - row.start_time, 0.0)) for row in rows]
    table = Table(
        names=Column(heading="What", cells=names, left=True),
        columns=[
            Column(
                heading="Verdict",
                cells=[row.verdict.value for row in rows],
                left=True,
                styles=[_STYLES.get(row.verdict, "") for row in rows],
            ),
            view.figure("By", slopes, 1, "by {}"),
            view.figure("95 % sure", intervals, 2, "95 % sure: {}"),
            Column(heading="Now", cells=now, rank=3, below=worded("now {}", now) if deep else ()),
            Column(heading="Over", cells=over, rank=4, below=worded("over {}", over) if deep else ()),
        ],
        notes=[_course(view, row) for row in rows],
        blocks=[_behind(view, row, reason=place < reasons) for place, row in enumerate(rows)],
    )
    yield from table.lines(view.width, view.glyphs)


def _course(view: View, trend: MemoryTrend) -> list[str]:
    """What a slope doesn't tell: sudden changes, a period."""
    newest = trend.shifts[-_SHIFTS_SHOWN:] if view.verbose else trend.shifts[-1:]
    parts = [
        f"from {figures.byte_size(shift.before)} to {figures.byte_size(shift.after)} {view.before_end(shift.at)}"
        for shift in newest
    ]
    if trend.period_seconds is not None and figures.is_known(trend.period_seconds):
        parts.append(f"again every {figures.duration(trend.period_seconds)}")
    return parts


def _behind(view: View, trend: MemoryTrend, *, reason: bool) -> list[str]:
    """The limit ahead, and what the verdict rests on, in lines that fit."""
    texts = [limit_ahead(view.safe(trend.limit), trend)] if trend.limit else []
    texts += [_reason(view, trend)] if reason else []
    return [line for text in texts for line in wrap(text, min(view.width, 100) - 4)]


def limit_ahead(limit: str, trend: MemoryTrend) -> str:
    """When a limit will be reached if it goes on like this, and how sure that is."""
    if trend.seconds_to_limit is None or not figures.is_known(trend.seconds_to_limit):
        return f"limit: {limit}"
    if trend.seconds_to_limit <= 0:
        return f"past its limit: {limit}"
    text = f"{limit} in about {figures.rough_duration(trend.seconds_to_limit)}"
    low, high = trend.seconds_to_limit_low, trend.seconds_to_limit_high
    if figures.is_known(low) and figures.is_known(high):
        return f"{text} ({figures.rough_duration(low)} to {figures.rough_duration(high)})"
    return f"{text} ({figures.rough_duration(low)} at the earliest)" if figures.is_known(low) else text


def _reason(view: View, trend: MemoryTrend) -> str:
    return view.safe(trend.reason) if trend.reason else "no reason given"


def _settled(view: View, trends: tuple[MemoryTrend, ...]) -> Iterator[Text]:
    """Who is steady, and who is too little known, with the reason of the first of these."""
    steady = [row for row in trends if row.verdict is TrendVerdict.STEADY]
    if steady:
        yield from view.prose(f"steady: {_counted(steady)}", 2, "dim")
    unknown = sorted(
        (row for row in trends if row.verdict is TrendVerdict.UNKNOWN), key=lambda row: row.cache_name is not None
    )
    if unknown:
        yield from view.prose(f"not enough to say of {_counted(unknown)}: {_reason(view, unknown[0])}", 2, "dim")


def _counted(trends: list[MemoryTrend]) -> str:
    """``the process and 3 caches``."""
    caches = sum(1 for row in trends if row.cache_name is not None)
    processes = len(trends) - caches
    parts = ["the process" if processes == 1 else figures.plural(processes, "process", "processes")] * bool(processes)
    return " and ".join(parts + [figures.plural(caches, "cache")] * bool(caches))
