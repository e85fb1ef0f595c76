"""How fast are the caches, what do misses cost, and what did the application's operations cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.text import Text

from cachescope.core.results import (
    Distribution,
    MemoryProfile,
    OperationLatency,
    OperationSummary,
    PerformanceMetrics,
    Report,
)
from cachescope.report import figures
from cachescope.report.table import Column, Table, worded
from cachescope.report.view import View

_ORDER = (
    ("lookup", "hit"),
    ("lookup", "miss"),
    ("set", ""),
    ("delete", ""),
    ("load", "ok"),
    ("load", "failed"),
)
_QUANTILES: tuple[tuple[str, int, Callable[[Distribution], float]], ...] = (
    ("p50", 0, lambda spread: spread.p50),
    ("p90", 5, lambda spread: spread.p90),
    ("p95", 3, lambda spread: spread.p95),
    ("p99", 1, lambda spread: spread.p99),
    ("p99.9", 4, lambda spread: spread.p999),
    ("Max", 2, lambda spread: spread.maximum),
)
"""A quantile's heading, how dear its place is, and where it is found."""


def how_fast(view: View) -> Iterator[Text]:
    """Lookups, sets and loads of each cache; those that spent most time loading first."""
    rows = sorted(
        (row for row in view.report.performance if row.operations or row.loads),
        key=lambda row: -(row.load_seconds or 0.0),
    )
    if not rows:
        return
    shown = rows[: view.few]
    yield from view.heading("How fast is it, and what do misses cost?")
    loading = [figures.rough_duration(row.load_seconds) if row.loads else "" for row in shown]
    saved = ["" if row.saved_seconds is None else figures.rough_duration(row.saved_seconds) for row in shown]
    failed = [figures.count(row.load_failures) if row.load_failures else "" for row in shown]

    def times(operation: str, outcome: str, quantile: Callable[[Distribution], float]) -> list[str]:
        found = [_find(row, operation, outcome) for row in shown]
        return ["" if one is None else view.time(quantile(one.seconds)) for one in found]

    def p50(operation: str, outcome: str) -> list[str]:
        return times(operation, outcome, lambda spread: spread.p50)

    def p99(operation: str, outcome: str) -> list[str]:
        return times(operation, outcome, lambda spread: spread.p99)

    table = Table(
        names=Column(heading="Cache", cells=[view.name(row.cache_name) for row in shown], left=True),
        columns=[
            view.figure("Hit p50", p50("lookup", "hit"), 4, "hit p50 {}"),
            view.extra("Hit p99", p99("lookup", "hit"), 6, "hit p99 {}"),
            view.extra("Miss p50", p50("lookup", "miss"), 9, "miss p50 {}"),
            view.extra("Miss p99", p99("lookup", "miss"), 10, "miss p99 {}"),
            view.extra("Set p50", p50("set", ""), 7, "set p50 {}"),
            view.extra("Set p99", p99("set", ""), 8, "set p99 {}"),
            view.figure("Load p50", p50("load", "ok"), 3, "load p50 {}"),
            view.extra("Load p99", p99("load", "ok"), 5, "load p99 {}"),
            view.extra("Load max", times("load", "ok", lambda spread: spread.maximum), 11, "load max {}"),
            view.counted("Loads", [row.loads for row in shown], 12, "load", only_verbose=True),
            Column(heading="Failed", cells=failed, rank=2, styles=["red"] * len(shown), below=worded("{} failed", failed)),
            view.figure("Loading", loading, 1, "{} spent loading"),
            view.figure("Saved", saved, 1, "{} saved by hits"),
        ],
    )  # fmt: skip
    yield from table.lines(view.width, view.glyphs)
    yield from view.more(len(rows) - len(shown), "cache")
    yield from view.prose(_accuracy(rows), 2, "dim")


def _find(metrics: PerformanceMetrics, operation: str, outcome: str) -> OperationLatency | None:
    for row in metrics.operations:
        if (row.operation, row.outcome) == (operation, outcome):
            return row
    return None


def _accuracy(rows: list[PerformanceMetrics]) -> str:
    """How sure the times are: on a sample or not, a quantile's relative error, and what hits are worth."""
    operations = [one for row in rows for one in row.operations]
    sampled = {one.sampled for one in operations}
    timed = {
        frozenset({True}): "timed on a sample",
        frozenset({True, False}): "partly timed on a sample",
        frozenset({False}): "every operation timed",
    }.get(frozenset(sampled), "loads counted")
    errors = [one.seconds.relative_error for one in operations if figures.is_known(one.seconds.relative_error)]
    if errors:
        timed += f", quantiles within {figures.ratio(max(errors)).replace('.0 %', ' %')}"
    saved = any(row.saved_seconds is not None for row in rows)
    return f"{timed}; saved: the mean load, times the hits" if saved else timed


def of_cache(view: View, cache: MemoryProfile) -> Iterator[Text]:
    """All operations of one cache with all quantiles, and what loading cost."""
    own = [row for row in view.report.performance if row.cache_name == cache.cache_name]
    rows = [one for metrics in own for one in metrics.operations]
    if not rows and not any(metrics.loads for metrics in own):
        return
    yield from view.heading("How fast is it, and what do misses cost?")
    if rows:
        rows.sort(key=_order)
        names = [view.safe(f"{row.operation} {row.outcome}".strip()) for row in rows]
        table = Table(
            names=Column(heading="Operation", cells=names, left=True),
            columns=[
                view.figure("Timed", [figures.count(row.seconds.count) for row in rows], 6, "{} timed"),
                *(
                    view.figure(heading, [view.time(of(row.seconds)) for row in rows], rank, f"{heading.lower()} {{}}")
                    for heading, rank, of in _QUANTILES
                ),
                view.extra("Mean", [view.time(row.seconds.mean) for row in rows], 7, "mean {}"),
            ],
        )
        yield from table.lines(view.width, view.glyphs)
    loads = [metrics for metrics in own if metrics.loads]
    if loads:
        yield from view.facts(_loading(loads))
    if rows:
        yield from view.prose(_accuracy(own), 2, "dim")


def _order(row: OperationLatency) -> int:
    kind = (row.operation, row.outcome)
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _loading(rows: list[PerformanceMetrics]) -> list[str]:
    failures = sum(row.load_failures for row in rows)
    saved = [row.saved_seconds for row in rows if row.saved_seconds is not None]
    facts = [
        figures.plural(sum(row.loads for row in rows), "load"),
        f"{figures.rough_duration(sum(row.load_seconds or 0.0 for row in rows))} spent loading",
    ]
    if failures:
        facts.insert(1, f"{figures.count(failures)} failed")
    if saved:
        facts.append(f"{figures.rough_duration(sum(saved))} saved by hits")
    return facts


def operations(view: View, only: MemoryProfile | None = None) -> Iterator[Text]:
    """What did the application's operations cost? Those that allocated most first, as the report has them."""
    rows = operations_of(view.report, only)
    if not rows:
        return
    yield from view.heading("What did the application's operations cost?")
    shown = rows[: view.top if only else view.few]
    deep = only is not None or view.verbose
    of_caches = [] if only else [view.name(row.cache_name) for row in shown]
    failed = [figures.count(row.failures) if row.failures else "" for row in shown]
    lookups = [row.hits + row.misses for row in shown]
    hits = [figures.ratio(row.hits / every) if every else "" for row, every in zip(shown, lookups, strict=True)]
    table = Table(
        names=Column(heading="Operation", cells=[view.name(row.operation) for row in shown], left=True),
        columns=[
            *([Column(heading="Cache", cells=of_caches, rank=6, left=True, below=worded("on {}", of_caches))]
              if of_caches else []),
            view.counted("Runs", [row.count for row in shown], 3, "run"),
            Column(heading="Failed", cells=failed, rank=2, styles=["red"] * len(shown), below=worded("{} failed", failed)),
            view.figure("p50", [view.time(row.duration_seconds.p50) for row in shown], 5, "p50 {}"),
            view.figure("p99", [view.time(row.duration_seconds.p99) for row in shown], 4, "p99 {}"),
            Column(
                heading="Max",
                cells=[view.time(row.duration_seconds.maximum) for row in shown],
                rank=9,
                below=[f"max {view.time(row.duration_seconds.maximum)}" for row in shown] if deep else (),
            ),
            view.figure("Allocated", [figures.byte_size(row.total_allocated_bytes) for row in shown], 1, "{} allocated"),
            view.figure("Net", [figures.signed_byte_size(row.memory_delta_bytes) for row in shown], 2, "net {}"),
            Column(heading="Hits", cells=hits, rank=8, below=worded("{} hits", hits) if deep else ()),
        ],
        notes=[_of_runs(view, row) if deep else [] for row in shown],
    )  # fmt: skip
    yield from table.lines(view.width, view.glyphs)
    yield from view.more(len(rows) - len(shown), "operation")


def operations_of(report: Report, only: MemoryProfile | None) -> list[OperationSummary]:
    """The operations on all caches, or on one."""
    return [row for row in report.operations if only is None or row.cache_name == only.cache_name]


def _of_runs(view: View, row: OperationSummary) -> list[str]:
    """What single runs allocated, and what ended some of them."""
    each = row.allocated_bytes
    parts = [f"a run sets {figures.byte_size(each.p50)} (p50), {figures.byte_size(each.p99)} (p99)"]
    parts += [f"{view.safe(error)} {figures.count(times)}x" for error, times in row.errors]
    return parts
