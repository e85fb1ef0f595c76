"""Trends: is it growing, steady, or going up and down, and when does it reach its limit.

A series is cut where its level or its pace changed; what is said of the future rests on the part after the last change.
That part is a saw-tooth, of which the troughs are judged, or a line, with a wave or without. Whether the line rises is
judged by an interval that allows for noise that remembers itself (see :mod:`cachescope.core.analysis.series`): a trend
is one that the 95 % interval, the noise and the threshold of what matters all agree on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachescope.core.analysis.series import Estimate, Fitting, Series, clean, despiked
from cachescope.core.analysis.shapes import Sawtooth, best_shape, sawtooth
from cachescope.core.results import LevelShift, MemoryTrend, TrendVerdict

FEWEST_POINTS = 8
"""With fewer, noise alone fits a line; even of 8 points of white noise the interval is six times their spread."""
SHORTEST_SECONDS = 1.0
"""A shorter series is a burst of snapshots, not a history."""
FLOOR_BYTES = 65_536
"""A change of less than 64 KiB over the whole series is nobody's leak: an arena of the small-object allocator holds more."""
MATERIAL_SHARE = 0.01
"""A change of less than 1 % of the level is no trend; over a longer window it will be one, if it is."""
ROOM_SHARE = 0.1
"""Nor is one of less than a tenth of the room under the limit, if that is less than 1 % of the level."""
CALM_SHARE = 0.05
"""A series that stays within 5 % of its level is steady, however slow its ups and downs."""
CALM_NOISE = 3.0
"""It is steady, too, when a trend within the interval would move it by at most this many standard deviations of its noise."""
SETTLED_SHARE = 0.5
"""After a change, what may be going on since is judged beside the change: up to half of it, the change is over."""
_MOST_CUTS = 3
"""How deep parts are cut into parts."""
_MOST_SECONDS = 10 * 365.25 * 86_400
"""Ten years: an end of an interval that is further away is no end."""
_GROWTH = (TrendVerdict.GROWING, TrendVerdict.SHRINKING)


@dataclass(frozen=True, slots=True)
class Limit:
    """Where the growth of a cache or of the process ends.

    Attributes:
        words: What it is: ``budget 64 MiB``.
        bytes: At how many bytes it is reached.
    """

    words: str
    bytes: float


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a series, or a part of it, looks like; *crest* is how far its peaks stand above the line."""

    verdict: TrendVerdict
    reason: str
    line: Estimate | None = None
    crest: float = 0.0
    shifts: tuple[LevelShift, ...] = ()
    period_seconds: float | None = None


def trend_of(
    points: Sequence[tuple[float, float]],
    *,
    cache_name: str | None = None,
    limit: Limit | None = None,
    window: tuple[float, float] | None = None,
) -> MemoryTrend:
    """Say what the bytes in *points* did over a window, and where they are heading. Never raises.

    Args:
        points: Seconds since the epoch and bytes, in the order in which they were taken, unevenly spaced or not. Beyond
            1,000 they are averaged in groups first, which bounds time and memory.
        cache_name: Whose bytes; None for the process.
        limit: What it may be heading for.
        window: Start and end in seconds since the epoch; from the first to the last point when it is not given.

    Returns:
        The verdict, what it rests on and, where there is enough to say, the figures.
    """
    start, end = window if window is not None else (-math.inf, math.inf)
    series = clean(points, start, end)
    if window is None:
        start, end = (series.seconds[0], series.seconds[-1]) if series.seconds else (0.0, 0.0)
    if not start < end:
        finding = _Finding(TrendVerdict.UNKNOWN, "the window is empty: it does not end after it starts")
        if window is None and series.seconds:
            finding = _Finding(TrendVerdict.UNKNOWN, "there is one point in time only")
    else:
        finding = _findings(series, limit.bytes if limit else None, FLOOR_BYTES)
    reason = finding.reason
    if series.left_out:
        reason += f"; {_count(series.left_out, 'point')} left out: no number, or the clock did not go forward"
    line = finding.line if finding.verdict is not TrendVerdict.UNKNOWN else None
    to_limit = _time_to_limit(finding, limit.bytes) if limit else None
    return MemoryTrend(
        cache_name=cache_name,
        start_time=start,
        end_time=end,
        points=len(series),
        verdict=finding.verdict,
        reason=reason,
        first_bytes=round(series.values[0]) if series.values else 0,
        last_bytes=round(series.values[-1]) if series.values else 0,
        slope_bytes_per_s=line.slope if line else None,
        slope_low_bytes_per_s=line.low if line else None,
        slope_high_bytes_per_s=line.high if line else None,
        shifts=finding.shifts,
        period_seconds=finding.period_seconds,
        limit=limit.words if limit and to_limit else None,
        seconds_to_limit=to_limit[0] if to_limit else None,
        seconds_to_limit_low=to_limit[1] if to_limit else None,
        seconds_to_limit_high=to_limit[2] if to_limit else None,
    )


def time_to_limit(
    points: Sequence[tuple[float, float]], limit_value: float
) -> tuple[float, float, float | None] | None:
    """Seconds until a series of entries, or of anything, reaches *limit_value*, with the ends of their interval.

    None when it is not growing; the far end is None when it is more than ten years away.
    """
    series = clean(points, -math.inf, math.inf)
    return _time_to_limit(_findings(series, limit_value, 1.0), limit_value)


def _time_to_limit(finding: _Finding, limit: float) -> tuple[float, float, float | None] | None:
    line = finding.line
    if line is None or finding.verdict is not TrendVerdict.GROWING or not math.isfinite(limit):
        return None
    room = limit - line.level - finding.crest
    low = max(room - line.level_error, 0.0) / line.high
    high = max(room + line.level_error, 0.0) / line.low if line.low > 0 else math.inf
    middle = max(room, 0.0) / line.slope
    return (middle, low, high if high <= _MOST_SECONDS else None) if middle <= _MOST_SECONDS else None


def _findings(series: Series, limit: float | None, floor: float) -> _Finding:
    """What the whole series looks like."""
    if len(series) < FEWEST_POINTS:
        return _Finding(TrendVerdict.UNKNOWN, f"{_count(len(series), 'point')}; {FEWEST_POINTS} are the least")
    if series.span_seconds < SHORTEST_SECONDS:
        return _Finding(TrendVerdict.UNKNOWN, f"the points are within {series.span_seconds:.2g} s of each other")
    level = statistics.median(map(abs, series.values))
    material = MATERIAL_SHARE * level
    if limit is not None and limit > series.values[-1]:
        material = min(material, ROOM_SHARE * (limit - series.values[-1]))
    return _look(despiked(series), max(material, floor), CALM_SHARE * level, _MOST_CUTS)


def _look(series: Series, material: float, calm: float, cuts: int) -> _Finding:
    """What a part looks like.

    Args:
        series: The part.
        material: A change by less does not matter.
        calm: A series within less is steady.
        cuts: How often it may still be cut.
    """
    if len(series) < FEWEST_POINTS or series.span_seconds < SHORTEST_SECONDS:
        return _Finding(TrendVerdict.UNKNOWN, f"{_count(len(series), 'point')} in its last part, too few")
    if series.spread < material:
        still = Estimate(0.0, 0.0, 0.0, series.values[-1], 0.0, 0.0)
        line = (Fitting(series).pace() if series.spread else still) or still
        return _Finding(TrendVerdict.STEADY, "it stays within a change that does not matter", line)
    saw = sawtooth(series)
    if saw is not None:
        return _judge_sawtooth(saw, series.seconds[-1], material)
    shape = best_shape(series)
    if shape.kind == "wave" and shape.period_seconds is not None:
        return _judge_wave(series, shape.period_seconds, material)
    if shape.kind == "line" or not cuts:
        finding = _judge_line(series, Fitting(series).pace(), material, calm)
        stopped = _where_it_stopped(series, finding.line) if cuts and finding.verdict in _GROWTH else 0
        return _judge_change(series, "bend", stopped, (material, calm, 0)) if stopped else finding
    return _judge_change(series, shape.kind, shape.index, (material, calm, cuts - 1))


def _direction(line: Estimate | None, span: float, material: float) -> TrendVerdict | None:
    """Where a line is surely going, and by enough to matter and to be seen above the noise."""
    if line is None or abs(line.slope) * span < max(material, line.noise):
        return None
    if line.low > 0:
        return TrendVerdict.GROWING
    return TrendVerdict.SHRINKING if line.high < 0 else None


def _where_it_stopped(series: Series, line: Estimate | None) -> int:
    """The index from which a growth is surely slower than before and may be none: a bend too round to be found; or 0."""
    fitting = Fitting(series)
    for index in (len(series) // 8, len(series) // 4, len(series) // 2):
        cut = fitting.raw_time(index)
        turn, pace = fitting.turn_at(cut), fitting.pace_since(cut)
        if line is None or turn is None or pace is None or not pace.low <= 0 <= pace.high:
            continue
        if turn.high < 0 if line.slope > 0 else turn.low > 0:
            return index
    return 0


def _judge_line(series: Series, line: Estimate | None, material: float, calm: float) -> _Finding:
    span = series.span_seconds
    verdict = _direction(line, span, material)
    if line is None:
        return _Finding(TrendVerdict.UNKNOWN, "the points don't determine a line")
    if verdict is not None:
        return _Finding(verdict, f"a steady pace over {_duration(span)}, beyond what its noise could do", line)
    possible = max(abs(line.low), abs(line.high)) * span
    if possible <= max(material, CALM_NOISE * line.noise):
        return _Finding(TrendVerdict.STEADY, f"no trend over {_duration(span)} beyond its noise", line)
    if series.spread <= calm:
        return _Finding(TrendVerdict.STEADY, f"it stays within {CALM_SHARE:.0%} of its level", line)
    if not line.low <= 0 <= line.high:
        return _Finding(TrendVerdict.STEADY, "it changes by less than its noise, or by less than matters", line)
    return _Finding(
        TrendVerdict.UNKNOWN, f"over {_duration(span)} its ups and downs would hide a trend, or look like one"
    )


def _judge_sawtooth(saw: Sawtooth, end: float, material: float) -> _Finding:
    cycles, period, swing = f"{len(saw.troughs)} times it fell back", saw.period_seconds, saw.swing
    line = Fitting(saw.troughs).pace()
    verdict = _direction(line, saw.troughs.span_seconds, max(material, saw.resolution))
    if verdict is not None and line is not None:
        now = replace(line, level=line.level + line.slope * (end - saw.troughs.seconds[-1]))
        words = "higher" if verdict is TrendVerdict.GROWING else "lower"
        return _Finding(verdict, f"{cycles}, each time to a {words} level", now, swing, period_seconds=period)
    shape = TrendVerdict.PERIODIC if saw.sudden_rises and period else TrendVerdict.SAWTOOTH
    return _Finding(shape, f"{cycles}, to much the same level", line, swing, period_seconds=period)


def _judge_wave(series: Series, period: float, material: float) -> _Finding:
    fitting = Fitting(series)
    wave = fitting.wave(series.span_seconds / period)
    line = fitting.pace(wave)
    coefficients = fitting.least_squares([fitting.times, *wave])
    swing = math.hypot(*coefficients[2:]) * fitting.range if coefficients else 0.0
    verdict = _direction(line, series.span_seconds, material)
    words = f"a wave of {_duration(period)}"
    if verdict is not None:
        return _Finding(verdict, f"{words} on a steady pace", line, swing, period_seconds=period)
    return _Finding(TrendVerdict.PERIODIC, f"{words}, and no trend beyond it", line, swing, period_seconds=period)


def _judge_change(series: Series, kind: str, index: int, bounds: tuple[float, float, int]) -> _Finding:
    """What it has been doing since it changed."""
    head, tail = series.part(0, index), series.part(index)
    now = _look(tail, *bounds)
    if now.verdict is TrendVerdict.UNKNOWN:  # Too little by itself; but how the noise behaves is known from all of it.
        fitting = Fitting(series)
        cut = fitting.raw_time(index)
        now = replace(now, line=fitting.pace([fitting.after(cut)]) if kind == "step" else fitting.pace_since(cut))
    since = f"since it changed {_duration(tail.span_seconds)} before the end"
    before = statistics.median(head.values) if kind == "step" else head.values[0]
    after = statistics.median(tail.values)
    moved = abs(after - before)
    former = moved / head.span_seconds if kind != "step" and head.span_seconds > 0 else math.inf
    shift = LevelShift(at=tail.seconds[0], before=before, after=after)
    earlier = _look(head, *bounds).shifts if kind == "step" else ()
    shifts = (*earlier, shift, *now.shifts) if kind == "step" or now.verdict is TrendVerdict.STEADY else now.shifts
    if now.verdict is TrendVerdict.SHIFTED:
        return replace(now, shifts=shifts)
    if now.verdict is TrendVerdict.STEADY or (
        now.verdict is TrendVerdict.UNKNOWN and _settled(now, tail, moved, former)
    ):
        if moved < bounds[0]:  # It came back, or never went far.
            return replace(now, verdict=TrendVerdict.STEADY, reason=f"{now.reason}, {since}", shifts=())
        words = "it moved to another level" if kind == "step" else "it filled up" if after > before else "it fell"
        return replace(now, verdict=TrendVerdict.SHIFTED, reason=f"{words} and is steady {since}", shifts=shifts)
    return replace(now, reason=f"{now.reason}, {since}", shifts=shifts)


def _settled(now: _Finding, tail: Series, moved: float, former: float) -> bool:
    """Whether all that the last part did, or all that it may be doing, is little beside how far it *moved*.

    And so is its pace beside the *former* one: a short part of what goes on as before moves little, too.
    """
    twentieths = statistics.quantiles(tail.values, n=20)
    possible = twentieths[-1] - twentieths[0]  # Where nine of ten points are: the range grows with their number.
    if now.line is not None:
        possible = min(possible, max(abs(now.line.low), abs(now.line.high)) * tail.span_seconds)
    slower = possible <= former * tail.span_seconds / 2
    return slower and possible <= SETTLED_SHARE * moved


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
