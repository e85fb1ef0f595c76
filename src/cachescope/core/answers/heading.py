"""Where a cache, or the process, is heading."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cachescope.core.analysis.trends import Limit, time_to_limit, trend_of
from cachescope.core.results import MemoryTrend, TrendVerdict
from cachescope.core.snapshots import SnapshotHistory

Points = list[tuple[float, float]]
Window = tuple[float, float]


def process_trend(
    history: SnapshotHistory, window: Window | None = None, budget_bytes: int | None = None, pid: int | None = None
) -> MemoryTrend:
    """Where a process's resident memory is heading.

    Args:
        history: Its snapshots.
        window: Start and end, seconds since the epoch; None for all there is.
        budget_bytes: What it should stay below; the container's limit is known from the snapshots.
        pid: The process.
    """
    latest = history.latest
    limits = []
    if budget_bytes:
        limits.append(Limit(f"budget of {_size(budget_bytes)}", budget_bytes))
    if latest is not None and latest.container_limit_bytes:
        limits.append(Limit(f"container limit of {_size(latest.container_limit_bytes)}", latest.container_limit_bytes))
    limit = min(limits, key=lambda one: one.bytes, default=None)
    return dataclasses.replace(trend_of(history.series(), limit=limit, window=window), pid=pid)


def cache_trend(
    name: str,
    histories: Sequence[SnapshotHistory],
    *,
    window: Window | None = None,
    max_entries: float | None = None,
    budget_bytes: int | None = None,
) -> MemoryTrend:
    """Where a cache's bytes are heading, over all processes.

    Args:
        name: The cache.
        histories: The snapshots of each process.
        window: Start and end, seconds since the epoch; None for all there is.
        max_entries: Its ``maxsize``, when that counts entries.
        budget_bytes: What it should stay below.
    """
    points = _together([history.series(name) for history in histories])
    limit = Limit(f"budget of {_size(budget_bytes)}", budget_bytes) if budget_bytes else None
    trend = trend_of(points, cache_name=name, limit=limit, window=window)
    if trend.verdict is not TrendVerdict.GROWING or trend.limit is not None or not max_entries:
        return trend
    entries = [
        (at, count)
        for at, count in _together([history.entries_series(name) for history in histories])
        if window is None or window[0] <= at <= window[1]
    ]
    left = time_to_limit(entries, max_entries)
    if left is None:
        return trend
    return dataclasses.replace(
        trend,
        limit=f"maxsize of {max_entries:,.0f}",
        seconds_to_limit=left[0],
        seconds_to_limit_low=left[1],
        seconds_to_limit_high=left[2],
    )


def _together(series: Sequence[Sequence[tuple[float, int]]]) -> Points:
    """The sum of several processes' series: each counts from its first point to its last, at its latest figure."""
    if len(series) == 1:
        return [(at, float(value)) for at, value in series[0]]
    moves = sorted((at, number, value) for number, points in enumerate(series) for at, value in points)
    ends = {number: points[-1][0] for number, points in enumerate(series) if points}
    held: dict[int, int] = {}
    out: Points = []
    for at, number, value in moves:
        held[number] = value
        for other in [other for other in held if ends[other] < at]:
            del held[other]
        out.append((at, float(sum(held.values()))))
    return out


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.3g} GiB"
