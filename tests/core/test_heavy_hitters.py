"""Heavy hitters: the most frequent keys of any stream in fixed memory, with bounds that hold in any order."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import math
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.analysis.heavy_hitters import HeavyHitters, Hitter

TRACES = Path(__file__).parents[2] / "benchmarks" / "traces"
MOST_BYTES = 256 * 1024

Stream = list[tuple[int, float]]
# Whole weights, whose sums are exact in any order; few keys and a tiny capacity, so that pruning happens all the time.
streams = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8).map(float)), max_size=120)


def fed(stream: Iterable[tuple[Hashable, float]], capacity: int = HeavyHitters.CAPACITY) -> HeavyHitters:
    out = HeavyHitters(capacity)
    for key, weight in stream:
        out.update(key, weight)
    return out


def counted(stream: Iterable[tuple[Hashable, float]]) -> Counter[Hashable]:
    """The truth: a counter for every key."""
    out: Counter[Hashable] = Counter()
    for key, weight in stream:
        out[key] += weight  # type: ignore[assignment]  # a Counter may count in fractions
    return out


def assert_bounds(fold: HeavyHitters, truth: Counter[Hashable]) -> None:
    """The law: each figure is on its side of the truth, and the error within its bound."""
    assert len(fold) <= 2 * fold.capacity
    assert fold.total == pytest.approx(sum(truth.values()))
    assert fold.error <= fold.total / (fold.capacity + 1) * (1 + 1e-9)
    for key, true in truth.items():
        entry = fold.entries.get(key)
        if entry is None:
            assert true <= fold.error * (1 + 1e-9)
        else:
            assert entry.count * (1 - 1e-9) <= true <= entry.estimate * (1 + 1e-9)
            assert entry.missed <= fold.error


def own_bytes(fold: HeavyHitters) -> int:
    """``sys.getsizeof`` over all parts, each once."""
    parts: dict[int, object] = {id(part): part for part in (fold, fold.entries, fold.total, fold.error, fold._dropped)}
    for key, entry in fold.entries.items():
        parts |= {id(part): part for part in (key, entry, *(getattr(entry, name) for name in Hitter.__slots__))}
    return sum(map(sys.getsizeof, parts.values()))


def requests(trace: str) -> list[int]:
    with lzma.open(TRACES / f"{trace}.npz.xz") as file:
        keys: list[int] = numpy.load(io.BytesIO(file.read()))["key"].tolist()
    return keys


@pytest.mark.parametrize("trace", ["adapt_size", "c2k_web12"])
def test_the_top_20_of_a_real_trace_are_found(trace: str) -> None:
    """All of the true top 20 but for ties, and every figure within 1 % of the stream's length."""
    keys = requests(trace)
    truth = counted((key, 1.0) for key in keys)
    fold = fed((key, 1.0) for key in keys)
    twentieth = sorted(truth.values(), reverse=True)[19]
    top = fold.top(20)
    assert sum(truth[key] >= twentieth for key, _ in top) == 20
    assert_bounds(fold, truth)
    for key, entry in fold.entries.items():
        assert truth[key] - entry.count <= 0.01 * len(keys)
        assert entry.estimate - truth[key] <= 0.01 * len(keys)
    assert [entry.estimate for _, entry in top] == sorted((entry.estimate for _, entry in top), reverse=True)


@pytest.mark.parametrize("trace", ["adapt_size", "c2k_web12"])
def test_a_real_trace_takes_at_most_256_kib(trace: str) -> None:
    """At the fullest moments, with hashes as ids and all satellites in use: by our count and by tracemalloc's."""
    hashes = [hash(f"key:{key}") for key in requests(trace)[:10_000]]
    own, traced = 0, 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fold, held = HeavyHitters(), 0
        for number, key in enumerate(hashes):
            fold.update(int(str(key)), 1.5, 300.5 + number, 300 * (number & 1), 300 * (~number & 1))
            if len(fold) == 2 * fold.capacity != held:
                traced = max(traced, tracemalloc.get_traced_memory()[0] - before)
                own = max(own, own_bytes(fold))
            held = len(fold)
    finally:
        tracemalloc.stop()
    assert 0 < own <= MOST_BYTES
    assert 0 < traced <= MOST_BYTES


def heavy_among(fresh: Iterator[int], places: Callable[[int], bool]) -> Stream:
    """60,000 updates of which those at *places* are of five heavy keys, the others each of a fresh key."""
    return [(-1 - number % 5 if places(number) else next(fresh), 1.0) for number in range(60_000)]


ADVERSARIAL: dict[str, Callable[[int], bool]] = {
    "all distinct": lambda number: False,
    "heavy at the start": lambda number: number < 3_000,
    "heavy at the end": lambda number: number >= 57_000,
    "heavy throughout": lambda number: number % 20 < 5,
    "heavy in bursts": lambda number: number // 600 % 20 == 0,
}


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_the_error_law_holds_for_adversarial_streams(kind: str) -> None:
    """Fresh keys wash nothing away that has more than its share: heavy keys are on top wherever they came."""
    stream = heavy_among(itertools.count(1), ADVERSARIAL[kind])
    truth = counted(stream)
    fold = fed(stream)
    assert_bounds(fold, truth)
    heavy = {key for key, true in truth.items() if true > fold.total / (fold.capacity + 1)}
    assert len(heavy) == (0 if kind == "all distinct" else 5)
    assert {key for key, _ in fold.top(len(heavy))} == heavy


def test_the_error_law_holds_for_keys_that_take_turns() -> None:
    """One key more than there is room for, round and round: the worst case of counters, and each still has its bounds."""
    for keys in (21, 22, 41):
        stream: Stream = [(number % keys, 1.0) for number in range(5_000)]
        assert_bounds(fed(stream, capacity=20), counted(stream))


def test_ids_with_one_pattern_do_not_share_slots() -> None:
    """Multiples of 8,192, as the ids of ORM objects may be, find as much as any others."""
    keys = requests("adapt_size")
    truth = counted((key << 13, 1.0) for key in keys)
    fold = fed((key << 13, 1.0) for key in keys)
    twentieth = sorted(truth.values(), reverse=True)[19]
    assert sum(truth[key] >= twentieth for key, _ in fold.top(20)) == 20


@given(streams, st.integers(1, 6))
def test_the_error_law_holds_for_any_stream(stream: Stream, capacity: int) -> None:
    """Against a counter for every key, at capacities from 1 to 6."""
    assert_bounds(fed(stream, capacity), counted(stream))


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(1e-3, 1e6)), max_size=120))
def test_the_error_law_holds_for_fractional_weights(stream: Stream) -> None:
    """A sampled event stands for 1 / share others, which need not be whole; bounds are rounded up, never down."""
    assert_bounds(fed(stream, 3), counted(stream))


@given(st.lists(streams, min_size=1, max_size=6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_a_merge_in_any_order_keeps_the_bounds(parts: list[Stream], capacity: int, rng: random.Random) -> None:
    """Folds of parts, merged pair by pair in random order and updated further, obey the law of the whole."""
    folds = [fed(part, capacity) for part in parts]
    while len(folds) > 1:
        rng.shuffle(folds)
        folds[0].merge(folds.pop())
        assert len(folds[0]) <= 2 * capacity
    rest = parts[0]
    for key, weight in rest:
        folds[0].update(key, weight)
    assert_bounds(folds[0], counted(itertools.chain(*parts, rest)))


@given(streams, streams, streams)
def test_a_merge_without_pruning_is_exact(a: Stream, b: Stream, c: Stream) -> None:
    """While there is room for all keys: (a + b) + c equals c + (b + a) equals one pass, key by key."""
    one, two, inner = fed(a), fed(c), fed(b)
    one.merge(fed(b))
    one.merge(fed(c))
    inner.merge(fed(a))
    two.merge(inner)
    two.merge(HeavyHitters())
    whole = fed(a + b + c)
    assert one.entries == two.entries == whole.entries
    assert (one.total, one.error) == (two.total, two.error) == (whole.total, 0.0)


@given(streams, streams, st.integers(1, 4))
def test_a_merge_is_the_same_from_either_side(a: Stream, b: Stream, capacity: int) -> None:
    """a + b and b + a hold the same keys with the same figures, pruned or not; neither side's source changes."""
    left, right = fed(a, capacity), fed(b, capacity)
    before = right.to_dict()
    both = left.copy()
    both.merge(right)
    assert right.to_dict() == before
    right.merge(left)
    assert both.entries == right.entries
    assert (both.total, both.error, both._dropped) == (right.total, right.error, right._dropped)


@given(streams, streams, streams, st.integers(1, 4))
def test_captures_and_relabelled_folds_merge_within_the_bounds(a: Stream, b: Stream, c: Stream, capacity: int) -> None:
    """They have lost their slots, so that their error stands for these; updates and merges go on from there."""
    read = HeavyHitters.from_dict(json.loads(json.dumps(fed(a, capacity).to_dict(), allow_nan=False)))
    moved = fed(b, capacity).relabel(str)
    for key, weight in c:
        moved.update(str(key), weight)
    truth = counted((str(key), weight) for key, weight in a + b + c)
    one = read.copy()
    one.merge(moved)
    assert_bounds(one, truth)
    moved.merge(read)
    assert_bounds(moved, truth)


def test_satellites_belong_to_the_key_while_it_is_held() -> None:
    """Bytes, hits and misses add up and the first label stays; a key that was dropped starts anew, but for what it missed."""
    fold = HeavyHitters(capacity=1)
    label = ["never looked into"]
    fold.update(1, 2.0, 100, hit=1)
    fold.update(1, 1.0, 50.5, miss=1, describe=label)
    fold.update(1, 1.0, math.nan, describe="another")
    fold.update(1, 1.0, -5)
    assert fold.entries[1] == Hitter(5.0, 0.0, 150.5, 1, 1, label)
    assert fold.entries[1].label is label
    fold.update(2, 9.0, 7)
    fold.update(3, 1.0)  # one of two places is needed: key 1 goes, with 5
    assert set(fold.entries) == {2, 3}
    assert (fold.error, fold.entries[3].missed) == (5.0, 0.0)
    fold.update(1, 1.0, 10)
    assert fold.entries[1] == Hitter(1.0, 5.0, 10.0)
    assert fold.entries[1].estimate == 6.0


def dropping_key_1(weight: float) -> HeavyHitters:
    """A fold that had *weight* of key 1 and holds keys 2 and 3 now."""
    return fed([(1, weight), (2, 4 * weight), (3, weight / 2)], capacity=1)


@pytest.mark.parametrize("lost", [(), ("left",), ("right",), ("left", "right")], ids=str)
def test_a_key_that_both_sides_dropped_may_have_had_both(lost: tuple[str, ...]) -> None:
    """Slots add up in a merge; where one side has lost its own, its error stands for each of them."""
    # 2^24 + 1 is the first whole number that four bytes of float cannot hold: rounding goes up.
    left, right = dropping_key_1(2.0**24), dropping_key_1(1.0)
    left = HeavyHitters.from_dict(left.to_dict()).relabel(lambda key: int(str(key))) if "left" in lost else left
    right = HeavyHitters.from_dict(right.to_dict()).relabel(lambda key: int(str(key))) if "right" in lost else right
    left.merge(right)
    left.update(1, 1.0)
    assert left.entries[1].missed == 2.0**24 + 1


def test_a_copy_goes_its_own_way() -> None:
    """What the copy drops leaves nothing in the slots of the original."""
    fold = dropping_key_1(5.0)
    twin = fold.copy()
    assert fold._dropped is not None
    before = fold._dropped[:]
    for key in (4, 5, 6):
        twin.update(key, 100.0 * key)
    assert (fold._dropped, fold.error, set(fold.entries)) == (before, 5.0, {2, 3})
    assert (twin._dropped != before, twin.error, set(twin.entries)) == (True, 400.0, {5, 6})


def test_top_gives_copies_highest_first() -> None:
    """What a report holds does not change under it, and asking for more than there are gives all."""
    fold = fed([("a", 1.0), ("b", 3.0), ("c", 2.0)])
    top = fold.top(2)
    assert [(key, entry.count) for key, entry in top] == [("b", 3.0), ("c", 2.0)]
    fold.update("b")
    assert top[0][1].count == 3.0
    assert (len(fold.top(9)), fold.top(0), fold.top(-1)) == (3, [], [])


def test_relabel_gives_other_ids_and_labels() -> None:
    """For a capture: this process's hashes become keyed ones; two ids that become one add up."""
    fold = HeavyHitters()
    fold.update(11, 2.0, 10, hit=1, describe=7)
    fold.update(22, 1.0, 5)
    fold.update(31, 4.0, 1, miss=1, describe=8)
    moved = fold.relabel(lambda key: f"{key % 10:x}", lambda label: f"pattern {label}")  # type: ignore[operator]
    assert moved.entries == {"1": Hitter(6.0, 0.0, 11.0, 1, 1, "pattern 7"), "2": Hitter(1.0, 0.0, 5.0)}
    assert moved.total == fold.total
    assert fold.entries[11] == Hitter(2.0, 0.0, 10.0, 1, 0, 7)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, 0.0, -1.0, 10**400])
def test_a_weight_that_is_none_is_refused_quietly(weight: float) -> None:
    """It is counted as refused, and nothing else changes; a merge adds the refusals up."""
    fold = fed([("a", 1.0)])
    before = fold.to_dict()
    fold.update("b", weight, 5)
    assert fold.to_dict() == {**before, "refused": 1}
    fold.merge(fold)
    assert (fold.refused, fold.total) == (2, 2.0)


@given(streams, st.integers(1, 30))
def test_heavy_hitters_survive_a_capture(stream: Stream, capacity: int) -> None:
    """What is written is what is read; ids are texts there."""
    fold = fed(((f"{key:x}", weight) for key, weight in stream), capacity)
    fold.update("ff", 2.0, 3.5, 1, 0, "a label")
    read = HeavyHitters.from_dict(json.loads(json.dumps(fold.to_dict(), allow_nan=False)))
    assert read.to_dict() == fold.to_dict()
    assert read.entries == fold.entries


ROW: list[object] = ["ab", 2.0, 0.0, 10.0, 1, 0, None]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"total": "1"}, "total"),
        ({"total": -1}, "total"),
        ({"error": math.nan}, "error"),
        ({"error": 10**400}, "error"),
        ({"refused": 1.5}, "refused"),
        ({"keys": None}, "keys"),
        ({"keys": [ROW] * 700}, "600"),
        ({"keys": [ROW[:6]]}, "ab"),
        ({"keys": [[5, *ROW[1:]]]}, "text"),
        ({"keys": [["ab", "2", *ROW[2:]]]}, "ab"),
        ({"keys": [["ab", math.inf, *ROW[2:]]]}, "ab"),
        ({"keys": [[*ROW[:6], 5]]}, "label"),
    ],
)
def test_a_damaged_capture_is_named(change: dict[str, object], named: str) -> None:
    """ValueError says which part is not what it should be."""
    data = {**fed([("ab", 2.0)]).to_dict(), **change}
    with pytest.raises(ValueError, match=named):
        HeavyHitters.from_dict(data)
    with pytest.raises(ValueError, match="heavy hitters"):
        HeavyHitters.from_dict([])  # type: ignore[arg-type]  # what a capture may hold
