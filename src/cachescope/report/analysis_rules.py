"""The rules that read the analyses: trends, lives, loads, pressure. What a rule may say is told in ``findings``."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cachescope.core.results import AllocationPatterns, MemoryProfile, MemoryTrend, Report, TrendVerdict
from cachescope.report import figures
from cachescope.report.finding import Finding, FindingKind
from cachescope.report.growth import limit_ahead, process_labels
from cachescope.report.pressure import CACHE, Shortage, shortages, used_of_limit

MIN_BYTES = 1 << 20
"""Below 1 MiB nobody's memory is at stake; findings about size keep quiet."""
FORECAST = 20
"""A line drawn more than twenty times as far as it was seen is no forecast."""
NEVER_READ = 0.7
"""Seven of ten entries set in vain. Caches of a content network, which hold whatever is asked for, see about as many
(Maggs and Sitaraman, Algorithmic Nuggets in Content Delivery, CCR 2015: three quarters)."""
SURE = 2.0
"""Two standard errors: the true share is above the mark with about 98 % confidence."""
MIN_LOADS = 100
LOADS_FAIL = 0.1
"""Every tenth load fails: no single hiccup."""
_FILLED = {TrendVerdict.STEADY, TrendVerdict.SHRINKING, TrendVerdict.SHIFTED}


def of_cache(cache: MemoryProfile, report: Report, kinds: Collection[FindingKind]) -> Iterator[Finding]:
    """What the analyses of one cache say; *kinds* were found already, and nothing is said twice."""
    for trend in report.trends:
        if trend.cache_name == cache.cache_name and cache.current_memory_bytes >= MIN_BYTES:
            yield from _runs_out(trend)
    for row in shortages(report.pressure):
        if row.scope == CACHE and row.cache_name == cache.cache_name and row.critical:
            yield _ran_short(row, report, "went over its budget, or nearly so")
    for patterns in report.allocation_patterns:
        if (
            patterns.cache_name == cache.cache_name
            and cache.current_memory_bytes >= MIN_BYTES
            and FindingKind.EARNS_NOTHING not in kinds
        ):
            yield from _never_read(patterns)
    yield from _loads_fail(cache.cache_name, report)


def of_process(report: Report) -> Iterator[Finding]:
    """What is said of the process, its container and its machine."""
    for row in shortages(report.pressure):
        if row.scope != CACHE and row.critical:
            yield _ran_short(row, report, f"{row.name} ran short of memory")
    labels = process_labels(report)
    for trend in report.trends:
        if trend.cache_name is None:
            yield from _runs_out(trend, f"{labels[id(trend)]} ")


def no_longer_grows(cache: MemoryProfile, report: Report) -> bool:
    """Tell whether a trend says so: the cache was filled and stays, whatever its totals look like."""
    verdicts = {trend.verdict for trend in report.trends if trend.cache_name == cache.cache_name}
    return bool(verdicts) and verdicts <= _FILLED


def _runs_out(trend: MemoryTrend, who: str = "") -> Iterator[Finding]:
    """Growth towards a limit that hurts: a cache that fills up to its own maximum does what it should."""
    seconds, latest = trend.seconds_to_limit, trend.seconds_to_limit_high
    if (
        trend.verdict is TrendVerdict.GROWING
        and trend.limit
        and not trend.limit.startswith("maxsize")
        and seconds is not None
        and figures.is_known(seconds)
        and figures.is_known(latest)
        and 0 <= seconds <= FORECAST * (trend.end_time - trend.start_time)
    ):
        yield Finding(
            cache_name=trend.cache_name or "",
            kind=FindingKind.RUNS_OUT,
            sentence=f"{who}grows towards a limit: {limit_ahead(trend.limit, trend)}",
            evidence=f"{figures.slope(trend.slope_bytes_per_s)} over "
            f"{figures.duration(trend.end_time - trend.start_time)}, if it goes on like this; "
            f"now {figures.byte_size(trend.last_bytes)}",
            of_process=trend.cache_name is None,
        )  # fmt: skip


def _ran_short(row: Shortage, report: Report, sentence: str) -> Finding:
    ago = figures.duration(max(report.end_time - row.last_seen, 0.0))
    return Finding(
        cache_name=row.cache_name,
        kind=FindingKind.RAN_SHORT,
        sentence=sentence,
        evidence=f"critical {figures.plural(row.critical, 'time')}; last near its limit {ago} before the end; at most "
        f"{used_of_limit(row)}; now {row.now}",
        of_process=row.scope != CACHE,
    )


def _never_read(patterns: AllocationPatterns) -> Iterator[Finding]:
    share, error = patterns.one_hit_wonder_ratio, patterns.one_hit_wonder_std_error
    if share is not None and share - SURE * error >= NEVER_READ:
        bytes_too = figures.share(patterns.one_hit_wonder_bytes_ratio)
        yield Finding(
            cache_name=patterns.cache_name,
            kind=FindingKind.NEVER_READ,
            sentence="is filled with entries that are never read",
            evidence=f"{figures.share(share)} of the entries that left had never been hit, with "
            f"{bytes_too} of the bytes set for them",
        )


def _loads_fail(name: str, report: Report) -> Iterator[Finding]:
    own = [row for row in report.performance if row.cache_name == name]
    loads, failures = sum(row.loads for row in own), sum(row.load_failures for row in own)
    if loads >= MIN_LOADS and failures >= LOADS_FAIL * loads:
        yield Finding(
            cache_name=name,
            kind=FindingKind.LOADS_FAIL,
            sentence="often fails to load what it misses",
            evidence=f"{figures.count(failures)} of {figures.plural(loads, 'load')} failed "
            f"({figures.share(failures / loads)})",
        )
