"""Quantiles: within one percent of the true ones, and sketches of parts are the sketch of the whole."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys

import ddsketch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.analysis.quantiles import RELATIVE_ERROR, Quantiles

SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
Weighted = list[tuple[float, float]]

sizes = st.one_of(st.integers(0, 1 << 40), st.sampled_from([0, 100, 1000, 4096]))
# Whole weights and values: their sums are exact in any order. The laws are about the fold, not about rounding.
weighted = st.lists(st.tuples(sizes, st.integers(1, 64).map(float)), max_size=40)
measured = st.floats(1e-9, 1e30, allow_subnormal=False)


def sketch_of(values: Weighted) -> Quantiles:
    out = Quantiles()
    for value, weight in values:
        out.update(value, weight)
    return out


def naive_quantile(values: Weighted, q: float) -> float:
    """The value at rank ``q * (count - 1)`` of the list in which each value stands as often as it weighs."""
    rank = q * (sum(weight for _, weight in values) - 1)
    passed = 0.0
    for value, weight in sorted(values):
        passed += weight
        if passed > rank:
            return value
    return max(values)[0]


def spread(kind: str, weigh: bool) -> Weighted:
    rng = random.Random(f"{kind} {weigh}")
    draw = {
        "log-normal": lambda: rng.lognormvariate(6, 2),
        "bimodal": lambda: rng.gauss(300, 20) if rng.random() < 0.9 else rng.gauss(2_000_000, 1_000),
        "constant": lambda: 4_242,
        "durations": lambda: rng.lognormvariate(-13, 1.5),
        "mostly zero": lambda: rng.choice([0, 0, 0, 17.5]),
    }[kind]
    return [(draw(), rng.choice([1.0, 2.0, 16.0, 2.75]) if weigh else 1.0) for _ in range(20_000)]


@pytest.mark.parametrize("weigh", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("kind", ["log-normal", "bimodal", "constant", "durations", "mostly zero"])
def test_quantiles_are_within_the_stated_error(kind: str, weigh: bool) -> None:
    """Every quantile is at most one percent from that of the sorted values; the mean and the ends are exact."""
    values = spread(kind, weigh)
    sketch = sketch_of(values)
    for q in SHARES:
        found = sketch.quantile(q)
        assert found is not None
        assert abs(found - naive_quantile(values, q)) <= (RELATIVE_ERROR + 1e-12) * naive_quantile(values, q)
    shown = sketch.distribution()
    assert shown is not None
    assert (shown.p50, shown.p999) == (sketch.quantile(0.5), sketch.quantile(0.999))
    assert (
        (shown.minimum, shown.maximum) == (min(values)[0], max(values)[0]) == (sketch.quantile(0), sketch.quantile(1))
    )
    assert shown.count == pytest.approx(sum(weight for _, weight in values))
    assert shown.mean == pytest.approx(sum(x * weight for x, weight in values) / shown.count)
    assert shown.relative_error == RELATIVE_ERROR


@given(st.lists(st.tuples(measured, st.integers(1, 9)), min_size=1, max_size=60), st.floats(0, 1))
def test_bins_and_quantiles_are_those_of_the_ddsketch_library(values: list[tuple[float, int]], q: float) -> None:
    """Bin by bin the same weights, and the same value for any quantile, but that ours stays within the ends."""
    ours, theirs = Quantiles(), ddsketch.DDSketch(RELATIVE_ERROR)
    for value, weight in values:
        ours.update(value, weight)
        theirs.add(value, weight)
    store = theirs._store
    assert ours.bins == {index + store.offset: weight for index, weight in enumerate(store.bins) if weight}
    low, high = min(values)[0], max(values)[0]
    expected = {0.0: low, 1.0: high}.get(q, min(max(theirs.get_quantile_value(q), low), high))
    assert ours.quantile(q) == pytest.approx(expected, rel=1e-12)


def test_a_rank_between_two_values_goes_down() -> None:
    """Of three values the median is the second, of four too; a weight counts as so many values."""
    for values in (
        [(1, 1.0), (10, 1.0), (100, 1.0)],
        [(1, 1.0), (10, 1.0), (100, 1.0), (1_000, 1.0)],
        [(1, 1.0), (10, 3.0)],
    ):
        assert sketch_of(values).quantile(0.5) == pytest.approx(10, rel=RELATIVE_ERROR)


def test_merge_of_100_parts_is_the_whole_in_any_order() -> None:
    """A hundred processes' sketches add up to exactly the sketch that one process would have made."""
    rng = random.Random(2)
    values = [(float(int(rng.lognormvariate(8, 2))), rng.choice([1.0, 2.0, 4.0])) for _ in range(20_000)]
    whole = sketch_of(values).to_dict()
    parts = [sketch_of(values[start::100]) for start in range(100)]
    for seed in range(5):
        random.Random(seed).shuffle(parts)
        merged = Quantiles()
        for part in parts:
            merged.merge(part)
        assert merged.to_dict() == whole


@given(weighted, weighted, weighted)
def test_merge_in_any_order_and_grouping(a: Weighted, b: Weighted, c: Weighted) -> None:
    """(a + b) + c equals (c + b) + a equals one pass; the empty sketch changes nothing."""
    one, two = sketch_of(a), sketch_of(c)
    one.merge(sketch_of(b))
    one.merge(sketch_of(c))
    inner = sketch_of(b)
    inner.merge(sketch_of(a))
    two.merge(inner)
    two.merge(Quantiles())
    assert one.to_dict() == two.to_dict() == sketch_of(a + b + c).to_dict()


@given(st.lists(st.floats(1e-9, 1e30), max_size=60), st.integers(0, 60), st.randoms(use_true_random=False))
def test_collapsing_keeps_the_laws_and_the_high_quantiles(values: list[float], cut: int, rng: random.Random) -> None:
    """With a limit of 8 bins the highest 8 stay, the lowest of them has what lies below; order and cuts don't matter."""

    class Small(Quantiles):
        MOST_BINS = 8
        __slots__ = ()

    left, right, shuffled = Small(), Small(), Small()
    for value in values[:cut]:
        left.update(value)
    for value in values[cut:]:
        right.update(value)
    right.merge(left)
    for value in rng.sample(values, len(values)):
        shuffled.update(value)
    every = sketch_of([(value, 1.0) for value in values]).bins
    kept = sorted(every)[-8:]
    naive = {index: every[index] for index in kept}
    if naive:
        naive[kept[0]] += sum(every.values()) - sum(naive.values())
    assert shuffled.bins == right.bins == naive


def test_bins_never_pass_their_limit() -> None:
    """Values over 39 decades: 2,048 bins, some 200 KiB, the weight is whole and the upper half still within one percent."""
    values = [1e-9 * 1.015**exponent for exponent in range(6_000)]
    sketch = sketch_of([(value, 1.0) for value in values])
    assert len(sketch.bins) == Quantiles.MOST_BINS
    assert sketch.count == 6_000
    assert sketch.quantile(0.9) == pytest.approx(values[int(0.9 * 5_999)], rel=RELATIVE_ERROR)
    parts = [sketch, sketch.bins, *sketch.bins.keys(), *sketch.bins.values()]
    assert sum(map(sys.getsizeof, parts)) <= 256 * 1024


def test_a_small_sketch_is_small() -> None:
    """30 different values take at most 4 KiB; an empty sketch at most 256 bytes."""
    sketch = sketch_of([(value**3, 2.0) for value in range(1, 31)])
    parts = [sketch, sketch.bins, *sketch.bins.keys(), *sketch.bins.values()]
    assert sum(map(sys.getsizeof, parts)) <= 4_096
    assert sys.getsizeof(Quantiles()) + sys.getsizeof(Quantiles().bins) <= 256


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        (math.nan, 1.0),
        (math.inf, 1.0),
        (-math.inf, 1.0),
        (-1, 1.0),
        (-1e-12, 1.0),
        (10**400, 1.0),
        (5, math.nan),
        (5, math.inf),
        (5, 0.0),
        (5, -1.0),
        (0, -1.0),
        (0, math.nan),
    ],
)
def test_what_is_no_size_is_refused_quietly(value: float, weight: float) -> None:
    """It is counted as refused, and nothing else changes; a merge adds the refusals up."""
    sketch = sketch_of([(7, 1.0)])
    before = sketch.to_dict()
    sketch.update(value, weight)
    assert sketch.to_dict() == {**before, "refused": 1}
    other = sketch.copy()
    other.merge(sketch)
    assert other.refused == 2


def test_zero_and_next_to_nothing_are_exact_zeros() -> None:
    """Values below 1e-9 cannot be told from 0, and a cached None may well weigh nothing."""
    sketch = sketch_of([(0, 1.0), (-0.0, 1.0), (1e-10, 2.0), (5, 4.0)])
    assert (sketch.zeros, sketch.count, sketch.total) == (4.0, 8.0, 20.0)
    assert (sketch.minimum, sketch.quantile(0.25), sketch.maximum) == (0.0, 0.0, 5)
    assert [(bar.low, bar.high, bar.count) for bar in sketch.histogram()] == [(0.0, 0.0, 4.0), (2.0, 5.0, 4.0)]


def test_an_empty_sketch_says_nothing() -> None:
    """No quantile, no ends, no distribution: None rather than a number."""
    sketch = Quantiles()
    assert (sketch.quantile(0.5), sketch.minimum, sketch.maximum, sketch.distribution()) == (None,) * 4
    assert (sketch.count, sketch.total, sketch.histogram()) == (0.0, 0.0, ())


def test_round_values_stand_in_the_bar_that_they_end() -> None:
    """An end belongs to the bar below it, empty bars between are shown."""
    sketch = sketch_of([(100, 1.0), (95, 1.0), (104, 1.0), (1_000, 1.0), (1_000, 2.0)])
    assert [(bar.low, bar.high, bar.count) for bar in sketch.histogram()] == [
        (50.0, 100.0, 2.0),
        (100.0, 200.0, 1.0),
        (200.0, 500.0, 0.0),
        (500.0, 1_000.0, 3.0),
    ]


@given(st.lists(st.tuples(st.one_of(sizes, measured), st.integers(1, 9)), min_size=1, max_size=40))
def test_histogram_bars_touch_and_hold_everything(values: Weighted) -> None:
    """At most 24 bars, in order, without gaps but after zero; each has the values between its ends, to a bin's width."""
    bars = sketch_of(values).histogram()
    assert 1 <= len(bars) <= 24
    assert sum(bar.count for bar in bars) == sum(weight for _, weight in values)
    positive = [bar for bar in bars if bar.high]
    assert all(left.high == right.low for left, right in itertools.pairwise(positive))
    for bar in positive:
        inside = [weight for value, weight in values if bar.low * 1.0203 < value <= bar.high]
        around = [weight for value, weight in values if bar.low < value <= bar.high * 1.0203]
        assert sum(inside) <= bar.count <= sum(around)


@given(weighted)
def test_a_sketch_survives_a_capture(values: Weighted) -> None:
    """What is written is what is read, and a copy goes its own way."""
    sketch = sketch_of(values)
    read = Quantiles.from_dict(json.loads(json.dumps(sketch.to_dict(), allow_nan=False)))
    assert read.to_dict() == sketch.to_dict()
    assert read.distribution() == sketch.distribution()
    twin = sketch.copy()
    twin.update(3)
    assert twin.count == sketch.count + 1 == read.count + 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"relative_error": 0.02}, "relative_error"),
        ({"bins": None}, "bins"),
        ({"bins": [1, 2]}, "bins"),
        ({"bins": {"x": 1}}, "'x'"),
        ({"bins": {"999999": 1}}, "999999"),
        ({"bins": {"5": -1}}, "bin 5"),
        ({"bins": {"5": 0}}, "bin 5"),
        ({"bins": {"5": True}}, "bin 5"),
        ({"bins": {"5": 10**400}}, "bin 5"),
        ({"bins": {str(index): 1 for index in range(-1000, 1100)}}, "2048"),
        ({"zeros": "4"}, "zeros"),
        ({"zeros": math.nan}, "zeros"),
        ({"total": None}, "total"),
        ({"minimum": None}, "minimum"),
        ({"minimum": 1e9}, "minimum"),
        ({"refused": -1}, "refused"),
    ],
)
def test_a_damaged_capture_is_named(change: dict[str, object], named: str) -> None:
    """ValueError says which part is not what it should be."""
    data = {**sketch_of([(7, 1.0), (0, 2.0)]).to_dict(), **change}
    with pytest.raises(ValueError, match=named):
        Quantiles.from_dict(data)
    with pytest.raises(ValueError, match="sketch"):
        Quantiles.from_dict([])  # type: ignore[arg-type]  # what a capture may hold
