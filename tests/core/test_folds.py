"""Every fold is a commutative monoid: cut anywhere and merge, in any order, and it equals one pass."""

from __future__ import annotations

import json
import math
import random

from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.analysis.hotspots import Cell, Hotspots
from cachescope.core.analysis.totals import Totals
from cachescope.core.charging import Kind, ratio_and_error
from cachescope.core.state import COUNTERS

counters = st.lists(st.integers(0, 1 << 40), min_size=len(COUNTERS), max_size=len(COUNTERS)).map(tuple)
cells = st.builds(
    Cell,
    # Binary fractions, whose sums are exact in any order: the laws are about the fold, not about rounding.
    *[st.integers(0, 1 << 30).map(lambda n: n / 8) for _ in range(6)],
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.integers(0, 10_000).map(float),
    st.integers(0, 10_000).map(float),
    st.integers(0, 1 << 30).map(lambda n: n / 8),
)
places = st.tuples(
    st.sampled_from("abcdef"), st.sampled_from(["", "x.py:1", "x.py:2"]), st.sampled_from(["", "made.py:7"])
)


def kinds_of(seed: int) -> dict[type, Kind]:
    rng = random.Random(seed)
    out: dict[type, Kind] = {}
    for value_type in (dict, list, set):
        kind = out[value_type] = Kind()
        for _ in range(rng.randrange(5)):
            proxy = rng.randrange(1, 1000)
            kind.observe(proxy, proxy * 3 + rng.randrange(50))
            kind.in_proxy += proxy
            kind.entries += 1
    return out


updates = st.lists(st.tuples(counters, st.integers(0, 50)), max_size=6)


def folded(rows: list[tuple[tuple[int, ...], int]]) -> Totals:
    out = Totals()
    for row, seed in rows:
        out.update(row, kinds_of(seed))
    return out


@given(updates, st.integers(0, 6))
def test_totals_cut_anywhere_and_merged_equal_one_pass(rows: list[tuple[tuple[int, ...], int]], cut: int) -> None:
    """A recording of two halves is the recording of the whole."""
    left, right = folded(rows[:cut]), folded(rows[cut:])
    left.merge(right)
    assert folded(rows).to_dict() == left.to_dict()


@given(updates, updates, updates)
def test_totals_merge_in_any_order_and_grouping(a: list, b: list, c: list) -> None:  # type: ignore[type-arg]
    """(a + b) + c equals c + (b + a); the empty fold changes nothing."""
    one, two = folded(a), folded(c)
    one.merge(folded(b))
    one.merge(folded(c))
    inner = folded(b)
    inner.merge(folded(a))
    two.merge(inner)
    two.merge(Totals())
    assert one.to_dict() == {**two.to_dict(), "kinds": {name: two.to_dict()["kinds"][name] for name in one.kinds}}  # type: ignore[index]


@given(updates)
def test_totals_survive_a_capture(rows: list[tuple[tuple[int, ...], int]]) -> None:
    """What is written is what is read."""
    fold = folded(rows)
    assert Totals.from_dict(json.loads(json.dumps(fold.to_dict()))).to_dict() == fold.to_dict()


@given(updates, updates)
def test_totals_minus_an_earlier_state_are_what_came_between(early: list, late: list) -> None:  # type: ignore[type-arg]
    """A window's flows are the difference of two moments."""
    before = folded(early)
    now = before.copy()
    now.merge(folded(late))
    assert folded(late).counters == now.minus(before).counters


@given(st.lists(st.tuples(places, cells), max_size=12), st.integers(0, 12))
def test_hotspots_cut_anywhere_and_merged_equal_one_pass(
    rows: list[tuple[tuple[str, str, str], Cell]], cut: int
) -> None:
    """Cells of one place add up, wherever the stream was cut."""
    whole, left, right = Hotspots(), Hotspots(), Hotspots()
    whole.update(rows)
    left.update(rows[:cut])
    right.update(rows[cut:])
    right.merge(left)
    assert {p: c.to_list() for p, c in whole.cells.items()} == {p: c.to_list() for p, c in right.cells.items()}
    assert Hotspots.from_dict(json.loads(json.dumps(whole.to_dict()))).cells == whole.cells


@given(st.lists(st.tuples(places, cells), max_size=12))
def test_hotspots_by_pattern_equal_a_naive_sum(rows: list[tuple[tuple[str, str, str], Cell]]) -> None:
    """Grouping by pattern is adding up the rows of that pattern."""
    fold = Hotspots()
    fold.update(rows)
    naive: dict[str, float] = {}
    for (pattern, _, _), cell in rows:
        naive[pattern] = naive.get(pattern, 0.0) + cell.live_bytes
    assert naive == {pattern: cell.live_bytes for pattern, cell in fold.grouped(0).items()}


def test_hotspots_stay_within_their_limit_and_lose_nothing() -> None:
    """Beyond the limit, places become ``overflow``; the sums stay whole."""
    fold = Hotspots(limit=10)
    fold.update([((f"p{i}", "", ""), Cell(live_bytes=1.0)) for i in range(100)])
    assert len(fold.cells) <= 11
    assert sum(cell.live_bytes for cell in fold.cells.values()) == 100
    assert "overflow" in fold.grouped(0)


def test_ratio_estimate_covers_the_truth_as_often_as_it_says() -> None:
    """Of 400 samples from a skewed population, at least 95 % are within three stated standard errors."""
    rng = random.Random(11)
    population = [(x := rng.randrange(50, 500), round(x * rng.lognormvariate(1, 0.5))) for _ in range(5_000)]
    truth = sum(y for _, y in population)
    proxies = sum(x for x, _ in population)
    inside = 0
    for _ in range(400):
        sample = rng.sample(population, 200)
        sums = [
            sum(x for x, _ in sample),
            sum(y for _, y in sample),
            sum(x * x for x, _ in sample),
            sum(x * y for x, y in sample),
            sum(y * y for _, y in sample),
        ]
        ratio, error = ratio_and_error(len(sample), *sums)
        inside += abs(proxies * ratio - truth) <= 3 * error * proxies * ratio
    assert inside >= 380


def test_ratio_of_nothing_measured_is_said_to_be_unknown() -> None:
    """Without a sample the error is as large as the estimate."""
    assert ratio_and_error(0, 0, 0, 0, 0, 0) == (1.0, 1.0)
    assert ratio_and_error(1, 10, 30, 100, 300, 900) == (3.0, 1.0)
    assert math.isfinite(ratio_and_error(5, 50, 0, 500, 0, 0)[1])
