"""Straight lines, and what else is linear, through measurements whose noise remembers itself.

Memory wanders: what is high now is high a minute later too. Least squares takes a hundred such points for a hundred
witnesses and finds trends everywhere. Here the noise is an Ornstein-Uhlenbeck process, which is AR(1) for points at uneven
times: two points *dt* apart correlate by exp(-dt / tau). Every fit is made by generalised least squares for each *tau* of
a grid that reaches from white noise to a random walk (Aitken 1935; Robinson 1977 for the process in continuous time), and
estimates are averaged over the grid by their restricted likelihood (Patterson & Thompson 1971), so that not knowing *tau*
widens the interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, repeat
from operator import mul, sub

MOST_POINTS = 1_000
"""Points that a fit looks at; more are averaged in groups first."""
_LARGEST = 1e18
"""An exabyte, and thirty thousand million years: what is further from 0 was not measured."""
_SPIKE = 6.0
"""A single point this many standard deviations away from both neighbours is a spike; Gaussian noise has none in 10^8."""
_LEAST_VARIANCE = 1e-12
"""Of noise, where the range of the series is 1; a series without any would divide by 0."""
_SHORTEST = 1e-5
"""Of the correlation times, where the span is 1; points may be as close together as clocks tell."""
_T_TABLE = (12.706, 4.303, 3.182, 2.776)
_Z = 1.959964
_ROOT = math.sqrt(2)
_LASTING = 0.5
"""Before a series is seen, noise that remembers four times as long is held to be twice as likely. Likelihood alone takes a
random walk for noise that forgets (Hurwicz 1950), and would call 10 % of driftless random walks growing; so it is 4 to 6 %. It
costs width where points are few or their noise is slow."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points in the order of their times, which all differ.

    Attributes:
        seconds: Since the epoch.
        values: Bytes or entries.
        left_out: How many points were not fit to be in it.
    """

    seconds: Sequence[float]
    values: Sequence[float]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def span_seconds(self) -> float:
        """From the first point to the last."""
        return self.seconds[-1] - self.seconds[0] if self.seconds else 0.0

    @property
    def spread(self) -> float:
        """From the lowest value to the highest."""
        return max(self.values) - min(self.values) if self.values else 0.0

    def part(self, first: int, last: int | None = None) -> Series:
        """The points with the indices from *first* until before *last*."""
        return Series(self.seconds[first:last], self.values[first:last])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A slope, its 95 % confidence interval, and what goes with it.

    Attributes:
        slope: Units per second.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: What the line comes to at the last point.
        level_error: Half the width of the level's 95 % interval.
        noise: Standard deviation of the points around the fit.
    """

    slope: float
    low: float
    high: float
    level: float
    level_error: float
    noise: float


def clean(points: Sequence[tuple[float, float]], start: float, end: float) -> Series:
    """The points from *start* to *end* that can be used, in order.

    Left out are points that are not finite numbers, points at the time of an earlier one, and points around which the
    clock went back: those that are not later than all before them or, if these are many, all but the longest run.
    """
    inside: list[tuple[float, float]] = []
    seen = 0
    for point in points:
        try:
            seconds, value = map(float, point)
        except (TypeError, ValueError, OverflowError):
            seen += 1
            continue
        if abs(seconds) < _LARGEST and abs(value) < _LARGEST and not start <= seconds <= end:
            continue
        seen += 1
        if abs(seconds) < _LARGEST and abs(value) < _LARGEST:
            inside.append((seconds, value))
    later, runs = _later_points(inside), _runs(inside)
    kept = later if 10 * len(later) >= 9 * len(inside) else max(reversed(runs), key=len, default=[])
    return Series([seconds for seconds, _ in kept], [value for _, value in kept], seen - len(kept))


def _later_points(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for point in points:
        if not out or point[0] > out[-1][0]:
            out.append(point)
    return out


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if not runs or point[0] < runs[-1][-1][0]:
            runs.append([point])
        elif point[0] > runs[-1][-1][0]:
            runs[-1].append(point)
    return runs


def step_noise(values: Sequence[float]) -> float:
    """The robust standard deviation of the change from one value to the next."""
    changes = list(map(sub, values[1:], values))
    middle = statistics.median(changes)
    return 1.4826 * float(statistics.median(abs(change - middle) for change in changes))


def despiked(series: Series) -> Series:
    """The series without single points that stick out (Hampel's filter over three points; Pearson 2002)."""
    if len(series) < 4:
        return series
    values = series.values
    far = _SPIKE * step_noise(values)
    out = list(values)
    for index in range(1, len(values) - 1):
        middle = sorted(values[index - 1 : index + 2])[1]
        if abs(values[index] - middle) > far:
            out[index] = middle
    return Series(series.seconds, out, series.left_out)


class Fitting:
    """Fits of one series, which is averaged in groups of equal count first when it is long.

    Averages of points follow the averages of what is fitted to them, so nothing is lost but the ups and downs within
    a group. Memory: some thirty floats for each of at most *most* groups.

    Args:
        series: At least three points that span some time and are not all equal.
        most: Groups at most.
    """

    def __init__(self, series: Series, most: int = MOST_POINTS) -> None:
        self.start, self.span = series.seconds[0], series.span_seconds
        self.base, self.range = series.values[0], series.spread or 1.0
        count = len(series)
        groups = min(count, most)
        self.cuts = [count * index // groups for index in range(groups + 1)]
        self._raw_times = [(seconds - self.start) / self.span - 1.0 for seconds in series.seconds]
        self.times = self.column(self._raw_times)
        """From about -1 to 0, so that the intercept is the level at the end."""
        self.values = self.column([(value - self.base) / self.range for value in series.values])
        shortest = max(statistics.median(map(sub, self.times[1:], self.times)) / 2, _SHORTEST)
        taus = [0.0]
        while shortest * 2 ** (len(taus) - 1) < 2.0:
            taus.append(shortest * 2 ** (len(taus) - 1))
        taus += [4.0, 40.0]  # Forty spans: a random walk for all that can be seen of it.
        self._noises = [_Noise(self.times, self.values, tau, shortest) for tau in taus]

    def column(self, raw: Sequence[float]) -> list[float]:
        """Averages over the groups of *raw*, which has one figure for each point."""
        if len(self.cuts) == len(raw) + 1:
            return list(raw)
        return [statistics.fmean(raw[a:b]) for a, b in pairwise(self.cuts)]

    def after(self, cut: float) -> list[float]:
        """A column that is 0 before *cut* (in the unit of *times*) and 1 from there on."""
        return self.column([float(at >= cut) for at in self._raw_times])

    def past(self, cut: float) -> list[float]:
        """A column that is 0 before *cut* and counts the time from there on."""
        return self.column([max(at - cut, 0.0) for at in self._raw_times])

    def before(self, cut: float) -> list[float]:
        """A column that counts the time until *cut* and stays there."""
        return [at - past for at, past in zip(self.times, self.past(cut), strict=True)]

    def wave(self, cycles: float) -> list[list[float]]:
        """The two columns of a wave with *cycles* in the whole span."""
        turns = [2 * math.pi * cycles * at for at in self._raw_times]
        return [self.column([math.cos(turn) for turn in turns]), self.column([math.sin(turn) for turn in turns])]

    def raw_time(self, index: int) -> float:
        """The time of a point of the series, in the unit of *times*."""
        return self._raw_times[index]

    def least_squares(self, columns: Sequence[Sequence[float]]) -> list[float] | None:
        """Coefficients of a column of ones and of *columns*, for white noise; None when they can't be told apart."""
        fit = _fit(columns, self._noises[0])
        return fit.coefficients if fit is not None else None

    def residuals(self, columns: Sequence[Sequence[float]], coefficients: Sequence[float]) -> list[float]:
        """What *coefficients* leave of the values; the first is of a column of ones."""
        out = [value - coefficients[0] for value in self.values]
        for column, coefficient in zip(columns, coefficients[1:], strict=True):
            out = [left - coefficient * x for left, x in zip(out, column, strict=True)]
        return out

    def badness(self, columns: Sequence[Sequence[float]], parameters: float) -> float:
        """The Bayesian information criterion (Schwarz 1978) of the best fit; smaller is better."""
        count = len(self.values)
        best = math.inf
        for noise in self._noises[::-2]:  # A factor of four between them is near enough to choose by.
            fit = _fit(columns, noise)
            if fit is not None:
                best = min(best, count * math.log(fit.rest / count) + noise.log_det)
        return best + parameters * math.log(count)

    def pace(self, extra: Sequence[Sequence[float]] = ()) -> Estimate | None:
        """The slope of the whole next to *extra* columns; None when the points can't tell them apart."""
        return self.estimate([self.times, *extra])

    def pace_since(self, cut: float) -> Estimate | None:
        """The slope after *cut* of two lines that meet there; the noise is known from both."""
        # Both columns end at 0, so that the intercept is the level at the end.
        return self.estimate([[x + cut for x in self.past(cut)], [x - cut for x in self.before(cut)]])

    def turn_at(self, cut: float) -> Estimate | None:
        """How much the slope changes at *cut*, of two lines that meet there."""
        return self.estimate([self.past(cut), self.times])

    def estimate(self, columns: Sequence[Sequence[float]]) -> Estimate | None:
        """The coefficient of the first of *columns* as a slope, and the level at the end."""
        count, freedom = len(self.values), len(self.values) - len(columns) - 1
        fits = []
        for noise in self._noises:
            fit = _fit(columns, noise)
            if fit is not None and freedom > 0:
                weight = -0.5 * (freedom * math.log(fit.rest / freedom) + noise.log_det + fit.log_det) + noise.favour
                fits.append((weight, fit))
        if not fits:
            return None
        top = max(weight for weight, _ in fits)
        weights = [math.exp(weight - top) for weight, _ in fits]
        chances = [fit for _, fit in fits]
        slope, low, high = _interval(weights, chances, 1, freedom)
        level, level_low, level_high = _interval(weights, chances, 0, freedom)
        best = max(fits, key=lambda pair: pair[0])[1]
        noise_variance = sum(left * left for left in self.residuals(columns, best.coefficients)) / count
        unit = self.range / self.span
        return Estimate(
            slope=slope * unit,
            low=low * unit,
            high=high * unit,
            level=self.base + level * self.range,
            level_error=(level_high - level_low) / 2 * self.range,
            noise=math.sqrt(noise_variance) * self.range,
        )


class _Noise:
    """What makes noise with one correlation time white: each point less *carry* of the one before it, times *scale*.

    Attributes:
        carry: What a point keeps of the one before it.
        scale: One over the standard deviation of what is new in a point.
        log_det: The log of the determinant of the correlations.
        favour: The log of how likely it is before a series is seen.
        ones: A column of ones, made white.
        values: The series, made white.
    """

    __slots__ = ("carry", "favour", "log_det", "ones", "scale", "values")

    def __init__(self, times: Sequence[float], values: Sequence[float], tau: float, shortest: float) -> None:
        self.carry = [math.exp((a - b) / tau) if tau else 0.0 for a, b in pairwise(times)]
        left = [max(1.0 - x * x, 1e-9) for x in self.carry]
        self.scale = [1.0 / math.sqrt(x) for x in left]
        self.log_det = sum(map(math.log, left))
        self.favour = _LASTING * math.log(max(tau, shortest))
        self.ones = self.whiten([1.0] * len(times))
        self.values = self.whiten(values)

    def whiten(self, column: Sequence[float]) -> list[float]:
        """*column* as it is seen where the noise is white."""
        kept = map(mul, self.carry, column)
        return [column[0], *map(mul, map(sub, islice(column, 1, None), kept), self.scale)]


@dataclass(frozen=True, slots=True)
class _Fit:
    """Coefficients, the diagonal of the inverse of X'X, the log of its determinant, and the squares that are left."""

    coefficients: list[float]
    inverse: list[float]
    log_det: float
    rest: float


def _fit(columns: Sequence[Sequence[float]], noise: _Noise) -> _Fit | None:
    white = [noise.ones, *map(noise.whiten, columns)]
    size = len(white)
    gram = [[0.0] * size for _ in white]
    for i in range(size):
        for j in range(i + 1):
            gram[i][j] = gram[j][i] = sum(map(mul, white[i], white[j]))
    solved = _solve(gram, [sum(map(mul, column, noise.values)) for column in white])
    if solved is None:
        return None
    coefficients, inverse, log_det = solved
    left = noise.values
    for column, coefficient in zip(white, coefficients, strict=True):
        left = list(map(sub, left, map(mul, column, repeat(coefficient))))
    return _Fit(coefficients, inverse, log_det, max(sum(map(mul, left, left)), len(left) * _LEAST_VARIANCE))


def _solve(gram: list[list[float]], right: list[float]) -> tuple[list[float], list[float], float] | None:
    """Gauss and Jordan's elimination of a positive definite matrix; None when it is not one."""
    size = len(gram)
    rows = [[*row, *(float(i == j) for j in range(size)), right[i]] for i, row in enumerate(gram)]
    log_det = 0.0
    for k in range(size):
        pivot = rows[k][k]
        if pivot <= 1e-12 * gram[k][k] or not math.isfinite(pivot):
            return None
        log_det += math.log(pivot)
        rows[k] = [x / pivot for x in rows[k]]
        for i in range(size):
            if i != k and rows[i][k]:
                factor = rows[i][k]
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows], [rows[i][size + i] for i in range(size)], log_det


def _interval(weights: Sequence[float], fits: Sequence[_Fit], index: int, freedom: int) -> tuple[float, float, float]:
    """The mean of a coefficient over *fits*, and the 95 % interval of their mixture.

    Student's t is taken for a normal distribution that is wider by the ratio of the quantiles in question.
    """
    total = sum(weights)
    wide = quantile(freedom) / _Z
    parts = [
        (w / total, fit.coefficients[index], wide * math.sqrt(max(fit.inverse[index], 0.0) * fit.rest / freedom))
        for w, fit in zip(weights, fits, strict=True)
    ]
    parts = [(w, middle, max(error, 1e-12)) for w, middle, error in parts if w > 1e-6]
    mean = sum(w * middle for w, middle, _ in parts) / sum(w for w, _, _ in parts)
    return mean, _quantile_of(parts, 0.025), _quantile_of(parts, 0.975)


def _quantile_of(parts: Sequence[tuple[float, float, float]], share: float) -> float:
    """Where a mixture of normal distributions (weight, mean, standard deviation) has *share* below it; by bisection."""
    low = min(middle - 5 * error for _, middle, error in parts)
    high = max(middle + 5 * error for _, middle, error in parts)
    for _ in range(50):
        at = (low + high) / 2
        if sum(w * math.erfc((middle - at) / (error * _ROOT)) / 2 for w, middle, error in parts) < share:
            low = at
        else:
            high = at
    return (low + high) / 2


def quantile(freedom: int) -> float:
    """Student's t: the 97.5 % quantile (Fisher & Cornish 1960)."""
    if freedom <= len(_T_TABLE):
        return _T_TABLE[max(freedom, 1) - 1]
    z, n = _Z, freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n * n)
