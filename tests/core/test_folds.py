"""Every fold is a commutative monoid: cut anywhere and merge, in any order, and it equals one pass."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachescope.core.analysis.activity import Activity
from cachescope.core.analysis.heavy_hitters import HeavyHitters
from cachescope.core.analysis.hotspots import Cell, Hotspots
from cachescope.core.analysis.key_counts import KeyCounts
from cachescope.core.analysis.latencies import Latencies
from cachescope.core.analysis.lives import CAUSES, Lives
from cachescope.core.analysis.operations import Operations
from cachescope.core.analysis.quantiles import Quantiles
from cachescope.core.analysis.shares import Shares
from cachescope.core.analysis.totals import Totals
from cachescope.core.charging import Kind, ratio_and_error
from cachescope.core.results.operation import OperationProfile
from cachescope.core.state import COUNTERS

# Binary fractions, whose sums are exact in any order: the laws are about the fold, not about rounding.
amounts = st.integers(0, 1 << 30).map(lambda n: n / 8)
weights = st.sampled_from([1.0, 2.0, 4.0])
names = st.sampled_from("abcdef")
counters = st.lists(st.integers(0, 1 << 40), min_size=len(COUNTERS), max_size=len(COUNTERS)).map(tuple)
cells = st.builds(
    Cell,
    *[amounts for _ in range(6)],
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.integers(0, 10_000).map(float),
    st.integers(0, 10_000).map(float),
    amounts,
)
places = st.tuples(names, st.sampled_from(["", "x.py:1", "x.py:2"]), st.sampled_from(["", "made.py:7"]))
profiles = st.builds(
    OperationProfile,
    cache_name=st.just("users"),
    operation=names,
    duration_seconds=amounts,
    allocated_bytes=st.integers(0, 1 << 30),
    freed_bytes=st.integers(0, 1 << 30),
    memory_delta_bytes=st.integers(-(1 << 30), 1 << 30),
    hits=st.integers(0, 9),
    error=st.sampled_from([None, "KeyError", "ValueError"]),
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


def live(fold: Lives, row: tuple[int, int, float, float, float, bool]) -> None:
    """One entry's life: set, held, and gone or left open."""
    cause, size, weight, since, length, gone = row
    fold.began(size, size // 2, weight)
    fold.watched_seconds += length
    if gone:
        fold.ended(cause, length, weight)
        fold.held(size * weight, since, since + length / 2, since + length)
        fold.lived(size, cause % 2 == 0, weight)
    else:
        fold.left_open(size * weight, since, 0.0, since + length)


def act(fold: Activity, row: tuple[tuple[int, int, float, float, float, bool], str, int]) -> None:
    """One entry's life, and who set it under which key."""
    life, name, took_ns = row
    live(fold.lives, life)
    fold.keys.sets.update(name, life[2], float(life[1]), describe=f"{name}:*")
    fold.latencies.update([(life[0], took_ns << 20)])
    fold.threads.update(name, life[2], float(life[1]))
    fold.tasks.update(name * 2, life[2], float(life[1]))
    fold.add_spot((life[0], 1), [life[2], life[3], life[4]])


@dataclass(frozen=True)
class Law:
    """How one fold is made and fed, and what its updates are."""

    make: Callable[[], Any]
    feed: Callable[[Any, Any], object]
    rows: st.SearchStrategy[Any]

    def folded(self, rows: list[Any]) -> Any:
        out = self.make()
        for row in rows:
            self.feed(out, row)
        return out


entry_lives = st.tuples(st.integers(0, 3), st.integers(0, 1 << 20), weights, amounts, amounts, st.booleans())
hits = st.tuples(names, weights, amounts, st.integers(0, 1), st.integers(0, 1))
LAWS = {
    "Totals": Law(Totals, lambda f, r: f.update(r[0], kinds_of(r[1])), st.tuples(counters, st.integers(0, 50))),
    "Hotspots": Law(Hotspots, lambda f, r: f.update([r]), st.tuples(places, cells)),
    "Quantiles": Law(Quantiles, lambda f, r: f.update(*r), st.tuples(amounts, weights)),
    "HeavyHitters": Law(HeavyHitters, lambda f, r: f.update(r[0], *r[1:], describe=f"{r[0]}:*"), hits),
    "Lives": Law(Lives, live, entry_lives),
    "Latencies": Law(
        # Whole seconds: nanoseconds as seconds are no binary fractions.
        Latencies,
        lambda f, r: f.update([(r[0], r[1] * 1_000_000_000)]),
        st.tuples(st.integers(0, 5), st.integers(0, 100)),
    ),
    "Shares": Law(Shares, lambda f, r: f.update(*r), st.tuples(names, weights, amounts)),
    "KeyCounts": Law(
        KeyCounts, lambda f, r: (f.sets if r[3] else f.reads).update(r[0], *r[1:], describe=f"{r[0]}:*"), hits
    ),
    "Operations": Law(Operations, lambda f, r: f.update(*r), st.tuples(profiles, amounts)),
    "Activity": Law(Activity, act, st.tuples(entry_lives, names, st.just(0))),
}
each_fold = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
lawful = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def state_of(fold: Any) -> str:
    """All that a fold knows, whatever the order in which it came."""
    return json.dumps(_sorted(fold.to_dict()), sort_keys=True)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(one) for one in value), key=repr)
    return float(value) if type(value) is int else value


@each_fold
@lawful
@given(st.data())
def test_cut_anywhere_and_merged_in_any_order_it_equals_one_pass(law: Law, data: st.DataObject) -> None:
    """A recording of parts is the recording of the whole, however they are cut, ordered and grouped."""
    rows = data.draw(st.lists(law.rows, max_size=12))
    one, other = sorted((data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))))
    parts = data.draw(st.permutations([rows[:one], rows[one:other], rows[other:]]))
    left, right = law.folded(parts[0]), law.folded(parts[1])
    right.merge(law.folded(parts[2]))
    left.merge(right)
    assert state_of(law.folded(rows)) == state_of(left)


@each_fold
@lawful
@given(st.data())
def test_a_merge_with_nothing_changes_nothing(law: Law, data: st.DataObject) -> None:
    """The empty fold is neutral on both sides, and what was merged in is not changed by what comes later."""
    rows = data.draw(st.lists(law.rows, min_size=1, max_size=6))
    fold, into = law.folded(rows), law.make()
    before = state_of(fold)
    fold.merge(law.make())
    into.merge(fold)
    assert state_of(fold) == before
    assert state_of(into) == before
    for row in rows:
        law.feed(into, row)
    assert state_of(fold) == before


@each_fold
@lawful
@given(st.data())
def test_it_survives_a_capture(law: Law, data: st.DataObject) -> None:
    """What is written is what is read."""
    fold = law.folded(data.draw(st.lists(law.rows, max_size=6)))
    written = json.loads(json.dumps(fold.to_dict()))
    assert state_of(type(fold).from_dict(written)) == state_of(fold)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something in a tree of JSON types."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inside for found in paths_of(one, (*path, key)))]


CHECKED = [name for name in LAWS if name not in ("Totals", "Hotspots")]
"""Those that refuse whatever is not as they write it; a capture refuses the others' errors as a whole."""


@pytest.mark.parametrize("name", CHECKED)
@lawful
@given(st.data())
def test_garbage_in_a_capture_is_refused_with_a_value_error(name: str, data: st.DataObject) -> None:
    """Whatever stands in one place instead of what was written, it is read as a number, or refused by a ValueError."""
    law = LAWS[name]
    written = json.loads(json.dumps(law.folded(data.draw(st.lists(law.rows, min_size=1, max_size=3))).to_dict()))
    path = data.draw(st.sampled_from(paths_of(written)))
    garbage = data.draw(st.sampled_from([[], {}, "x", -1.5, None, True, math.nan, math.inf, 10**400, [1, 2, 3]]))
    if not path:
        written = garbage
    else:
        place = written
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = garbage
    try:
        read = type(law.make()).from_dict(written)
    except ValueError:
        return
    again = type(law.make()).from_dict(json.loads(json.dumps(read.to_dict(), allow_nan=False)))
    assert again.to_dict() == read.to_dict()


@pytest.mark.parametrize(
    ("read", "written", "named"),
    [
        (Lives, {}, "key_bytes"),
        (Lives, {**Lives().to_dict(), "useful": -1}, "useful"),
        (Lives, {**Lives().to_dict(), "sizes": 3}, "sizes"),
        (Lives, {**Lives().to_dict(), "ages": {"tired": Quantiles().to_dict()}}, "tired"),
        (Latencies, {"6": Quantiles().to_dict()}, "'6'"),
        (Latencies, {"²": Quantiles().to_dict()}, "'²'"),
        (Latencies, {"0": []}, "kind 0"),
        (Shares, {"main": [1, "x"]}, "main"),
        (Shares, [], "shares"),
        (KeyCounts, {"sets": HeavyHitters().to_dict()}, "reads"),
        (Activity, {"lives": Lives().to_dict()}, "keys"),
        (Activity, None, "activity"),
    ],
)
def test_what_is_wrong_is_named(read: Any, written: Any, named: str) -> None:
    """The message says which part is not as it was written."""
    with pytest.raises(ValueError, match=named):
        read.from_dict(written)


def test_every_cause_of_a_removal_has_ages() -> None:
    """The causes are in the order of the events' constants."""
    fold = Lives()
    for cause in range(4):
        fold.ended(cause, cause + 1.0, 1.0)
    assert {name: ages.maximum for name, ages in fold.ages.items()} == dict(
        zip(CAUSES, (1.0, 2.0, 3.0, 4.0), strict=True)
    )


updates = st.lists(st.tuples(counters, st.integers(0, 50)), max_size=6)


@given(updates, updates)
def test_totals_minus_an_earlier_state_are_what_came_between(early: list, late: list) -> None:  # type: ignore[type-arg]
    """A window's flows are the difference of two moments."""
    before = LAWS["Totals"].folded(early)
    now = before.copy()
    now.merge(LAWS["Totals"].folded(late))
    assert LAWS["Totals"].folded(late).counters == now.minus(before).counters


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
