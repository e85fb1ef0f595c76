"""Quantiles of sizes, ages and durations with a stated relative error, in fixed memory.

A sketch of geometric bins: bin *i* holds the values in (g^(i-1), g^i], where g is 1.01 / 0.99, so that one value stands for
all in a bin and is at most one percent away. Bins add up: sketches of parts merge into exactly the sketch of the whole.

Source: Masson, Rim, Lee, DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees, PVLDB 12(12),
2019. The bins are those of the ``ddsketch`` library, which the tests compare with; it is not imported here, because it
takes twice as long for each value, and keeps a slot for every bin between two values that are far apart.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from math import ceil, log2

from cachescope.core.analysis.captured import as_amount, as_object
from cachescope.core.results import Distribution, HistogramBar

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_BINS_PER_OCTAVE = math.log(2) / math.log1p(2 * RELATIVE_ERROR / (1 - RELATIVE_ERROR))
_SMALLEST = 1e-9
_LARGEST = 1e30  # no size, age or weight is near; sums of products stay far from overflow
_MOST_BARS = 24
_GRIDS = ((1, (1, 2, 5)), (1, (1,)), (3, (1,)))  # decades from step to step, and the ends of bars in a step


def _index(value: float) -> int:
    return ceil(log2(value) * _BINS_PER_OCTAVE)


_INDICES = range(_index(_SMALLEST), _index(_LARGEST) + 1)


class Quantiles:
    """A DDSketch: quantiles within 1 % of the true ones. A commutative monoid: order and cuts don't matter.

    At most *MOST_BINS* bins (some 200 KiB), made as values come: 30 different values take 2 KiB. They span a factor of
    6 * 10^17, such as a nanosecond to twenty years; were it more, the lowest bins would become one, and only quantiles in
    that one lose their accuracy.

    Attributes:
        bins: The weight in each bin that has any.
        zeros: The weight of zeros, and of values below 1e-9, which count as zeros.
        total: The weighted sum of the values.
        refused: Updates that were not counted: a value or a weight was no number, negative or beyond 1e30; a weight was 0.
    """

    MOST_BINS = 2_048
    __slots__ = ("_highest", "_lowest", "bins", "refused", "total", "zeros")

    def __init__(self) -> None:
        self.bins: dict[int, float] = {}
        self.zeros = 0.0
        self.total = 0.0
        self.refused = 0
        self._lowest = math.inf
        self._highest = -math.inf

    def update(self, value: float, weight: float = 1.0) -> None:
        """Add a value that stands for *weight* values."""
        if not (_SMALLEST <= value <= _LARGEST and 0.0 < weight <= _LARGEST):
            self._update_zeros(value, weight)
            return
        # What takes time here is calls and look-ups: one look-up for a bin that is there, and no min() or max(), 75 ns each.
        try:
            self.bins[ceil(log2(value) * _BINS_PER_OCTAVE)] += weight
        except KeyError:
            self._add_bin(_index(value), weight)
        self.total += value * weight
        if value < self._lowest:  # noqa: PLR1730  # see above: min() and max() take longer
            self._lowest = value
        if value > self._highest:  # noqa: PLR1730  # see above: min() and max() take longer
            self._highest = value

    def _update_zeros(self, value: float, weight: float) -> None:
        if not (0.0 <= value < _SMALLEST and 0.0 < weight <= _LARGEST):  # true for NaN too
            self.refused += 1
            return
        self.zeros += weight
        self._lowest = 0.0
        self._highest = max(self._highest, 0.0)

    def merge(self, other: Quantiles) -> None:
        """Add what another thread, object or process saw."""
        for index, weight in list(other.bins.items()):
            if index in self.bins:
                self.bins[index] += weight
            else:
                self._add_bin(index, weight)
        self.zeros += other.zeros
        self.total += other.total
        self.refused += other.refused
        self._lowest = min(self._lowest, other._lowest)
        self._highest = max(self._highest, other._highest)

    def _add_bin(self, index: int, weight: float) -> None:
        """Make a bin; where there are too many, the highest stay and the lowest of them takes what lies below.

        Which ones stay depends on the set of all bins alone: collapsing keeps the laws of a fold.
        """
        bins = self.bins
        if len(bins) >= self.MOST_BINS:
            lowest = min(bins)
            if index < lowest:
                bins[lowest] += weight
                return
            below = bins.pop(lowest)
            bins[index] = weight
            bins[min(bins)] += below
            return
        bins[index] = weight

    def copy(self) -> Quantiles:
        """An equal sketch that goes its own way."""
        out = Quantiles()
        out.merge(self)
        return out

    # Results

    @property
    def count(self) -> float:
        """The weight of all values."""
        return math.fsum(self.bins.values()) + self.zeros

    @property
    def minimum(self) -> float | None:
        """The smallest value, exact; None when empty."""
        return self._lowest if self._lowest <= self._highest else None

    @property
    def maximum(self) -> float | None:
        """The largest value, exact; None when empty."""
        return self._highest if self._lowest <= self._highest else None

    def quantile(self, q: float) -> float | None:
        """The value that a share *q* of the others lies below, within 1 %; exact at 0 and 1, None when empty.

        It is the value at rank ``q * (count - 1)``, rounded down, in ascending order from rank 0.
        """
        if self._lowest > self._highest:
            return None
        if q <= 0.0 or q >= 1.0:
            return self._lowest if q <= 0.0 else self._highest
        rank = q * (self.count - 1.0)
        passed = self.zeros
        if passed > rank:
            return 0.0
        for index in sorted(self.bins):
            passed += self.bins[index]
            if passed > rank:
                middle: float = 2.0 ** (index / _BINS_PER_OCTAVE) * 2.0 / (1.0 + _GAMMA)
                return min(max(middle, self._lowest), self._highest)
        return self._highest

    def distribution(self) -> Distribution | None:
        """How the values are spread; None when there are none."""
        count = self.count
        if not count:
            return None
        p50, p90, p95, p99, p999 = (self.quantile(q) or 0.0 for q in (0.5, 0.9, 0.95, 0.99, 0.999))
        return Distribution(
            count=count,
            minimum=self._lowest,
            maximum=self._highest,
            mean=self.total / count,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999,
            relative_error=RELATIVE_ERROR,
            histogram=self.histogram(),
        )

    def histogram(self) -> tuple[HistogramBar, ...]:
        """Bars that touch, with ends at 1, 2 and 5 times powers of ten; powers of ten alone, or of 1,000, for a wide range.

        At most 24 of them, the empty ones between included. Zeros have a bar of their own, from 0 to 0. A bin that an end
        lies in belongs to the bar below: round values are where they should be, others up to 2 % above may be there too.
        """
        zeros = (HistogramBar(low=0.0, high=0.0, count=self.zeros),) if self.zeros else ()
        if not self.bins:
            return zeros
        edges = _edges(min(self.bins), max(self.bins), _MOST_BARS - len(zeros))
        ends = [_index(edge) for edge in edges]
        counts: list[list[float]] = [[] for _ in edges]
        for index, weight in self.bins.items():
            counts[bisect_left(ends, index)].append(weight)
        bars = zip(edges, edges[1:], counts[1:], strict=False)
        return zeros + tuple(HistogramBar(low=low, high=high, count=math.fsum(some)) for low, high, some in bars)

    # Captures

    def to_dict(self) -> dict[str, object]:
        """The sketch's state as JSON types."""
        return {
            "relative_error": RELATIVE_ERROR,
            "bins": {str(index): _short(self.bins[index]) for index in sorted(self.bins)},
            "zeros": _short(self.zeros),
            "total": _short(self.total),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "refused": self.refused,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Quantiles:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: *data* is no sketch, or one of another relative error.
        """
        data = as_object("sketch", data)
        if data.get("relative_error") != RELATIVE_ERROR:
            raise ValueError(f"relative_error: expected {RELATIVE_ERROR}, found {data.get('relative_error')!r}")
        out = cls()
        bins = data.get("bins")
        if not isinstance(bins, Mapping) or len(bins) > cls.MOST_BINS:
            raise ValueError(f"bins: expected an object of at most {cls.MOST_BINS} weights")
        for name, weight in bins.items():
            out.bins[_known_index(name)] = as_amount(f"bin {name}", weight)
            if not weight:
                raise ValueError(f"bin {name}: expected a weight above 0")
        out.zeros = as_amount("zeros", data.get("zeros"))
        out.total = as_amount("total", data.get("total"))
        out.refused = int(as_amount("refused", data.get("refused")))
        if out.bins or out.zeros:
            out._lowest = as_amount("minimum", data.get("minimum"))
            out._highest = as_amount("maximum", data.get("maximum"))
            if out._lowest > out._highest:
                raise ValueError(f"minimum {out._lowest!r} lies above the maximum {out._highest!r}")
        return out


def _edges(lowest: int, highest: int, most: int) -> list[float]:
    """The ends of at most *most* bars over the bins from *lowest* to *highest*, on the finest grid that needs no more."""
    edges: list[float] = []
    for decades, factors in _GRIDS:
        grid = [float(f"{factor}e{exponent}") for exponent in range(-12, 34, decades) for factor in factors]
        ends = [_index(edge) for edge in grid]
        edges = grid[bisect_left(ends, lowest) - 1 : bisect_left(ends, highest) + 1]
        if len(edges) <= most + 1:
            break
    return edges


def _short(value: float) -> float:
    """The same number, written without ``.0`` where it is whole."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _known_index(name: object) -> int:
    try:
        index = int(name) if isinstance(name, str) else None
    except ValueError:
        index = None
    if index is None or index not in _INDICES:
        raise ValueError(f"bins: expected whole numbers from {_INDICES[0]} to {_INDICES[-1]} as names, found {name!r}")
    return index
