"""What a series looks like besides a line: a saw-tooth, a wave, a step, a bend.

Noise that wanders can be drawn through with anything. So shapes compete with the plain line, each with the noise that
fits it best, by the Bayesian information criterion; and a place that was searched for counts as parameters (the penalty of
Zhang & Siegmund 2007 for change points).
"""

from __future__ import annotations

import cmath
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul, sub

from cachescope.core.analysis.series import Fitting, Series, step_noise

_GROUPS = 120
"""Points that shapes are sought in; they are coarser than the ends of an interval."""
EDGE_POINTS = 5
"""On each side of a change; fewer are a spike or an end."""
_SEARCHED = 3.0
"""Parameters that a searched place or period counts for. With one, 9 % of 80 points of white noise and 80 % of AR(1) noise
with rho 0.9 had a shape; with two, 2 % and 25 %; with three, none and 4 %."""
_FEWEST_PERIODS = 2.5
"""Seen of a wave; with less, one bend of slow noise is a wave."""
_FEWEST_WAVE_POINTS = 30
"""Among 15 points of white noise 6 % of runs had a wave, among 30 1 %: few points have as many periods to choose from."""
_WAVE_SHARE = 0.5
"""Of what a line leaves, a wave explains at least this much; a smaller one is part of the noise."""
_FEWEST_FALLS = 3
_SUDDEN = 6.0
"""A fall of this many standard deviations of the usual change from point to point is sudden; Gaussian noise has none."""
_COMPARABLE = 0.35
"""Falls of less than this share of the largest are not the same kind of fall."""
_REGULAR = 0.25
"""Cycles whose lengths vary by less than this share of their mean are a period."""


@dataclass(frozen=True, slots=True)
class Sawtooth:
    """Cycles of filling and falling back.

    Attributes:
        troughs: The points right after the falls.
        swing: From a trough to the peak after it; the median.
        period_seconds: Of the cycles, when it is regular.
        sudden_rises: It jumps up as it falls: a square wave rather than a saw.
        resolution: How far it climbs from point to point; a trough is seen that much too high, or less.
    """

    troughs: Series
    swing: float
    period_seconds: float | None
    sudden_rises: bool
    resolution: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The best description found.

    Attributes:
        kind: ``line``, ``step``, ``bend`` or ``wave``.
        index: Of the first point after a step or bend.
        period_seconds: Of a wave.
    """

    kind: str
    index: int = 0
    period_seconds: float | None = None


def sawtooth(series: Series) -> Sawtooth | None:
    """The saw-tooth in *series*; None when there is none.

    At least three sudden falls of comparable size, and between any two of them it climbs at least half of the way back.
    """
    values = series.values
    if len(values) < 3 * _FEWEST_FALLS:
        return None
    changes = list(map(sub, values[1:], values))
    limit = max(_COMPARABLE * -min(changes), _SUDDEN * step_noise(values))
    falls = [index + 1 for index, change in enumerate(changes) if change < 0 and -change >= limit]
    if len(falls) < _FEWEST_FALLS:
        return None
    # The points of one fall that was caught halfway count as one.
    troughs = [a for a, b in zip(falls, [*falls[1:], len(values) + 1], strict=True) if b - a > 1]
    if len(troughs) < _FEWEST_FALLS:
        return None
    climbs = [max(values[a:b]) - values[a] for a, b in pairwise(troughs)]
    swing = statistics.median(climbs)
    if min(climbs) < _COMPARABLE * max(climbs) or swing < 0.5 * statistics.median(-changes[at - 1] for at in falls):
        return None
    at = [series.seconds[index] for index in troughs]
    cycles = list(map(sub, at[1:], at))
    mean = statistics.fmean(cycles)
    return Sawtooth(
        Series(at, [values[index] for index in troughs]),
        swing,
        mean if len(cycles) > 2 and statistics.pstdev(cycles) <= _REGULAR * mean else None,
        statistics.median(max(changes[a : b - 1]) for a, b in pairwise(troughs)) > 0.6 * swing,
        statistics.median([change for change in changes if change > 0]),
    )


def best_shape(series: Series) -> Shape:
    """What describes *series* best: a line, a step, a bend or a wave."""
    fitting = Fitting(series, _GROUPS)
    line = fitting.badness([fitting.times], 2)
    found = [(line, Shape("line"))]
    left = _off_line(fitting.times, fitting.values)
    for index in _steps(fitting):
        cut = fitting.cuts[index]
        found.append((fitting.badness([fitting.after(fitting.raw_time(cut))], 2 + _SEARCHED), Shape("step", cut)))
    for index in _bends(fitting):
        cut = fitting.cuts[index]
        at = fitting.raw_time(cut)
        for columns in ([fitting.past(at)], [fitting.before(at)], [fitting.times, fitting.past(at)]):
            badness = fitting.badness(columns, 1 + len(columns) + _SEARCHED)
            found.append((badness, Shape("bend", cut)))
    for cycles in _waves(fitting, left):
        columns = [fitting.times, *fitting.wave(cycles)]
        if _explained(fitting, columns, left) >= _WAVE_SHARE:
            shape = Shape("wave", period_seconds=fitting.span / cycles)
            found.append((fitting.badness(columns, 4 + _SEARCHED), shape))
    return min(found, key=lambda pair: pair[0])[1]


def _off_line(times: Sequence[float], values: Sequence[float]) -> list[float]:
    """What least squares leave."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    apart = [at - middle for at in times]
    square = sum(map(mul, apart, apart))
    slope = sum(map(mul, apart, values)) / square if square else 0.0
    return [value - mean - slope * at for at, value in zip(apart, values, strict=True)]


def _steps(fitting: Fitting) -> set[int]:
    """Where a step would be: where two means fit best, and where the largest change is."""
    values = fitting.values
    count, total = len(values), math.fsum(values)
    best, best_gain, sudden, head = 0, -1.0, 0, 0.0
    for index in range(1, count):
        head += values[index - 1]
        if not EDGE_POINTS <= index <= count - EDGE_POINTS:
            continue
        gain = (head / index - (total - head) / (count - index)) ** 2 * index * (count - index)
        if gain > best_gain:
            best, best_gain = index, gain
        if not sudden or abs(values[index] - values[index - 1]) > abs(values[sudden] - values[sudden - 1]):
            sudden = index
    return {index for index in (best, sudden) if index}


def _bends(fitting: Fitting) -> set[int]:
    """Where two lines that meet would meet, and where one of them may be level (least squares over all places)."""
    count = len(fitting.values)
    left = _off_line(fitting.times, fitting.values)
    best: dict[str, tuple[float, int]] = {}
    for index in range(EDGE_POINTS, count - EDGE_POINTS, max(1, count // 24)):
        hinge = [max(at - fitting.times[index], 0.0) for at in fitting.times]
        level = [at - past for at, past in zip(fitting.times, hinge, strict=True)]
        for name, column in (("began", hinge), ("ended", level)):
            rest = sum(x * x for x in _off_line(column, fitting.values))
            best[name] = min(best.get(name, (math.inf, 0)), (rest, index))
        # Frisch & Waugh 1933: what the hinge explains of what the line leaves.
        extra = _off_line(fitting.times, hinge)
        square = sum(x * x for x in extra)
        gain = sum(x * y for x, y in zip(left, extra, strict=True)) ** 2 / square if square else 0.0
        best["bent"] = min(best.get("bent", (math.inf, 0)), (-gain, index))
    return {index for _, index in best.values()}


def _waves(fitting: Fitting, left: Sequence[float]) -> list[float]:
    """Cycles in the span: the top of the periodogram of what a line leaves (Lomb 1976; Scargle 1982).

    Once as it is, and once of its changes, in which slow noise does not hide a faster wave.
    """
    if len(left) < _FEWEST_WAVE_POINTS:
        return []
    most = len(left) / 4
    changes = [b - a for a, b in pairwise(left)]
    middles = [(a + b) / 2 for a, b in pairwise(fitting.times)]
    out = []
    for times, values in ((fitting.times, left), (middles, changes)):
        best, best_power = 0.0, 0.0
        cycles = _FEWEST_PERIODS
        phases = [_turned(cycles, at) for at in times]
        steps = [_turned(0.25, at) for at in times]
        while cycles <= most:
            power = abs(sum(map(mul, values, phases)))
            if power > best_power:
                best, best_power = cycles, power
            cycles += 0.25
            phases = list(map(mul, phases, steps))
        if best:
            near = [best + sixteenths / 16 for sixteenths in range(-3, 4)]
            powers = [abs(sum(v * _turned(c, at) for at, v in zip(times, values, strict=True))) for c in near]
            out.append(near[powers.index(max(powers))])
    return out


def _turned(cycles: float, at: float) -> complex:
    return cmath.exp(2j * math.pi * cycles * at)


def _explained(fitting: Fitting, columns: Sequence[Sequence[float]], left: Sequence[float]) -> float:
    """The share of *left*, what a line leaves, that *columns* explain."""
    coefficients = fitting.least_squares(columns)
    if coefficients is None:
        return 0.0
    rest = fitting.residuals(columns, coefficients)
    total = sum(x * x for x in left)
    return 1.0 - sum(x * x for x in rest) / total if total else 0.0
