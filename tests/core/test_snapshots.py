"""The course of memory in a fixed number of snapshots: the law of thinning, order, bounds, captures."""

from __future__ import annotations

import itertools
import json
import random
import threading
import tracemalloc
from collections.abc import Sequence
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core.results import CacheUse, GcGeneration, MemorySnapshot
from cachescope.core.snapshots import MOST_CACHES, OTHERS, SnapshotHistory

sizes = st.integers(0, 1 << 50)
maybe_sizes = st.none() | sizes
moments = st.floats(-1e9, 4e9)
uses = st.builds(CacheUse, cache_name=st.text(max_size=8), size_bytes=sizes, entries=sizes)
snapshots = st.builds(
    MemorySnapshot,
    timestamp=moments,
    rss_bytes=maybe_sizes,
    uss_bytes=maybe_sizes,
    swap_bytes=maybe_sizes,
    system_total_bytes=maybe_sizes,
    system_available_bytes=maybe_sizes,
    container_limit_bytes=maybe_sizes,
    container_used_bytes=maybe_sizes,
    container_source=st.sampled_from([None, "cgroup v1", "cgroup v2"]),
    allocator_free_bytes=maybe_sizes,
    python_blocks=sizes,
    traced_bytes=maybe_sizes,
    gc=st.lists(
        st.builds(GcGeneration, pending=sizes, collections=sizes, collected=sizes, uncollectable=sizes), max_size=3
    ).map(tuple),
    cache_bytes=sizes,
    caches=st.lists(uses, max_size=3, unique_by=lambda use: use.cache_name).map(tuple),
    notes=st.lists(st.text(max_size=8), max_size=2).map(tuple),
)


def snapshot_at(timestamp: float, rss_bytes: int | None = 0, **caches: tuple[int, int]) -> MemorySnapshot:
    return MemorySnapshot(
        timestamp=timestamp,
        rss_bytes=rss_bytes,
        uss_bytes=None,
        swap_bytes=None,
        system_total_bytes=None,
        system_available_bytes=None,
        container_limit_bytes=None,
        container_used_bytes=None,
        container_source=None,
        allocator_free_bytes=None,
        python_blocks=0,
        traced_bytes=None,
        gc=(),
        cache_bytes=sum(size for size, _ in caches.values()),
        caches=tuple(CacheUse(cache_name=name, size_bytes=size, entries=n) for name, (size, n) in caches.items()),
    )


def filled(times: Sequence[float], most: int) -> SnapshotHistory:
    history = SnapshotHistory(most)
    for at in times:
        history.add(snapshot_at(at))
    return history


def assert_law(times: Sequence[float], history: SnapshotHistory) -> None:
    """*times* came in order; every gap that left one out is at most the stated share of its age."""
    kept = [one.timestamp for one in history.all()]
    assert len(kept) == min(history.most, len(times))
    assert (kept[0], kept[-1]) == (times[0], times[-1])
    shortest = min(later - earlier for earlier, later in itertools.pairwise(times))
    share = 1 - ((times[-1] - times[0]) / shortest) ** (-1 / ((history.most - 1) // 2))
    came = {at: number for number, at in enumerate(times)}
    for older, younger in itertools.pairwise(kept):
        if came[younger] > came[older] + 1:
            assert younger - older <= share * (kept[-1] - older) * (1 + 1e-9)


# The law of thinning


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=400),
    most=st.integers(3, 40),
    start=st.sampled_from([0.0, 1.7e9]),
)
def test_gaps_are_at_most_their_share_of_the_age_whenever_snapshots_come(
    steps: list[float], most: int, start: float
) -> None:
    """The law holds for any arrival times, and for every moment on the way."""
    times = list(itertools.accumulate(steps, initial=start))
    history = SnapshotHistory(most)
    for number, at in enumerate(times, 1):
        history.add(snapshot_at(at))
        if number >= 2:
            assert_law(times[:number], history)


@pytest.mark.parametrize("arrivals", ["regular", "poisson", "bursts", "slower and slower"])
def test_a_hundred_thousand_snapshots_keep_the_law_and_the_bound(arrivals: str) -> None:
    """A course of more than a week, every 10 s, in 60 points, by several kinds of arrival."""
    rng = random.Random(7)
    steps = {
        "regular": lambda n: 10.0,
        "poisson": lambda n: rng.expovariate(0.1) + 0.01,
        "bursts": lambda n: 0.05 if n % 100 else 1000.0,
        "slower and slower": lambda n: 0.001 * (n + 1),
    }[arrivals]
    times = list(itertools.accumulate((steps(n) for n in range(100_000 - 1)), initial=1.7e9))
    assert_law(times, filled(times, 60))


def test_a_week_at_ten_seconds_shows_its_whole_course() -> None:
    """With 120 kept, the figures that the class states: gaps of at most 17 % of the age, the last ten minutes dense."""
    times = [1.7e9 + 10.0 * n for n in range(7 * 8640)]
    kept = [one.timestamp for one in filled(times, 120).all()]
    for older, younger in itertools.pairwise(kept[:-1]):
        assert younger - older <= max(10.0, 0.17 * (times[-1] - older))
    assert sum(at >= times[-1] - 600 for at in kept) >= 25
    assert sum(at < times[-1] - 86_400 for at in kept) >= 15


@given(st.lists(st.integers(0, 30).map(float), max_size=60), st.integers(3, 8))
def test_equals_a_naive_thinning(steps: list[float], most: int) -> None:
    """Remove, one at a time, the inner point whose removal leaves the smallest gap against its age."""
    times = list(itertools.accumulate(steps, initial=0.0))
    naive: list[float] = []
    for at in times:
        naive = [*naive, at] if at not in naive else naive
        if len(naive) > most:
            inner = range(1, len(naive) - 2)
            gone = min(inner, key=lambda i: (naive[i + 1] - naive[i - 1]) / (at - naive[i - 1]))
            gaps = sorted((naive[i + 1] - naive[i - 1]) / (at - naive[i - 1]) for i in inner)
            if len(gaps) > 1 and gaps[1] - gaps[0] < 1e-9:
                return  # a tie, which rounding decides
            naive.pop(gone)
    assert naive == [one.timestamp for one in filled(times, most).all()]


# Bad clocks


@given(st.lists(st.floats(-1e9, 4e9) | st.sampled_from([nan, inf, -inf, 1e300]), max_size=60), st.integers(3, 10))
def test_any_clock_leaves_order_and_bound(times: list[float], most: int) -> None:
    """Jumps back and forth, repeated moments, NaN: what is kept ascends and is no more than allowed."""
    history = filled(times, most)
    kept = [one.timestamp for one in history.all()]
    assert len(kept) <= most
    assert all(older < younger for older, younger in itertools.pairwise(kept))
    assert history.refused == sum(not -1e11 < at < 1e11 for at in times)


def test_a_clock_set_back_moves_the_course_back_with_it() -> None:
    """The new snapshot is the latest, and the distances before it stay."""
    history = filled([1000.0, 1010.0, 1020.0], 10)
    history.add(snapshot_at(500.0, 77))
    assert [one.timestamp for one in history.all()] == [470.0, 480.0, 490.0, 500.0]
    assert history.latest is not None
    assert history.latest.rss_bytes == 77


def test_a_snapshot_a_little_late_finds_its_place() -> None:
    """Two threads that measure at once may hand in the wrong way round."""
    assert [one.timestamp for one in filled([1.0, 2.0, 3.0, 2.5], 10).all()] == [1.0, 2.0, 2.5, 3.0]


def test_of_one_instant_the_newest_counts() -> None:
    """A coarse clock gives the same time twice."""
    history = SnapshotHistory(10)
    history.add(snapshot_at(5.0, 1))
    history.add(snapshot_at(5.0, 2))
    assert history.series() == [(5.0, 2)]


def test_fewer_than_three_are_refused() -> None:
    """A first, a last and one between is the least that has a course."""
    with pytest.raises(ValueError, match=r"most: 2 is not allowed; expected at least 3"):
        SnapshotHistory(2)


# Questions


@given(st.lists(st.integers(0, 100).map(float), max_size=30), st.floats(-10, 110))
def test_since_and_nearest_equal_a_naive_search(times: list[float], moment: float) -> None:
    """Bisection finds what a walk over all finds."""
    history = filled(sorted(times), 50)
    kept = history.all()
    assert tuple(one for one in kept if one.timestamp >= moment) == history.since(moment)
    nearest = history.nearest(moment)
    assert (nearest is None) == (not kept)
    if nearest is not None:
        assert abs(nearest.timestamp - moment) == min(abs(one.timestamp - moment) for one in kept)
        assert nearest in kept
    assert (kept[-1] if kept else None) == history.latest


def test_series_leave_out_what_is_not_known() -> None:
    """An unknown RSS and an absent cache are not 0."""
    history = SnapshotHistory(10)
    history.add(snapshot_at(1.0, None, users=(10, 1)))
    history.add(snapshot_at(2.0, 50, pages=(7, 3)))
    history.add(snapshot_at(3.0, 60, users=(30, 2), pages=(8, 4)))
    assert history.series() == [(2.0, 50), (3.0, 60)]
    assert history.series("users") == [(1.0, 10), (3.0, 30)]
    assert history.entries_series("pages") == [(2.0, 3), (3.0, 4)]
    assert history.series("nobody") == []


# Memory


def test_a_snapshot_of_many_caches_keeps_the_largest_and_sums_the_rest() -> None:
    """A cache a request makes thousands of names; the sums stay whole, also when it is read back."""
    history = SnapshotHistory(10)
    history.add(snapshot_at(1.0, **{f"c{n:04}": (n, 2) for n in range(1000)}))
    for one in (*history.all(), *SnapshotHistory.from_list(history.to_list()).all()):
        assert len(one.caches) == MOST_CACHES + 1
        assert {f"c{n:04}" for n in range(1000 - MOST_CACHES, 1000)} | {OTHERS} == {u.cache_name for u in one.caches}
        assert one.cache_bytes == sum(use.size_bytes for use in one.caches)
        assert sum(use.entries for use in one.caches) == 2000


def test_a_cache_that_does_not_change_shares_its_row() -> None:
    """Idle caches cost a reference each."""
    history = SnapshotHistory(10)
    history.add(snapshot_at(1.0, idle=(10_000, 1000), busy=(1, 1)))
    history.add(snapshot_at(2.0, idle=(10_000, 1000), busy=(2, 1)))
    first, second = history.all()
    assert first.caches[0] is second.caches[0]
    assert second.caches[1].size_bytes == 2


def test_memory_stays_bounded_however_many_come() -> None:
    """Ten changing caches, 100 kept: what 2,000 leave is what 300 left."""
    history = SnapshotHistory(100)

    def add(first: int, last: int) -> int:
        for n in range(first, last):
            history.add(snapshot_at(10.0 * n, n, **{f"cache{i}": (10**6 + n, 10**4 + n) for i in range(10)}))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = add(0, 300)
        assert add(300, 2000) < 1.2 * early
    finally:
        tracemalloc.stop()


def test_readers_see_whole_states_while_another_thread_adds() -> None:
    """No lock and no torn state: what is read ascends and keeps the bound."""
    history, stop, torn = SnapshotHistory(20), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            kept = [one.timestamp for one in history.all()]
            if len(kept) > 20 or kept != sorted(set(kept)) or (kept and kept[0] != 0.0):
                torn.append(kept)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(3000):
        history.add(snapshot_at(float(n)))
    stop.set()
    reader.join()
    assert not torn


# Captures


@given(st.lists(snapshots, max_size=6, unique_by=lambda one: one.timestamp))
def test_a_history_survives_a_capture(rows: list[MemorySnapshot]) -> None:
    """What is written is what is read."""
    history = SnapshotHistory(10)
    for row in sorted(rows, key=lambda one: one.timestamp):
        history.add(row)
    read = SnapshotHistory.from_list(json.loads(json.dumps(history.to_list())), 10)
    assert history.all() == read.all()


def test_a_series_for_a_capture_is_thinned_by_the_same_law() -> None:
    """The history itself stays as it is; first and last are there."""
    history = filled([10.0 * n for n in range(300)], 360)
    rows = history.to_list(most=120)
    assert (len(rows), len(history)) == (120, 300)
    assert (rows[0]["timestamp"], rows[-1]["timestamp"]) == (0.0, 2990.0)
    times = [one.timestamp for one in SnapshotHistory.from_list(rows).all()]
    share = 1 - 299 ** (-1 / 59)
    assert all(b - a <= max(10.0, share * (times[-1] - a) * (1 + 1e-9)) for a, b in itertools.pairwise(times))


GOOD = snapshot_at(5.0, 1, users=(1, 1)).to_dict()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("text", "snapshots: expected a list, found 'text'"),
        ([[1]], r"snapshot 0: expected an object, found \[1\]"),
        ([GOOD, GOOD], r"snapshot 1: timestamp 5.0 is not after the one before"),
        ([{**GOOD, "timestamp": nan}], "snapshot 0: timestamp: expected seconds since the epoch, found nan"),
        ([{**GOOD, "timestamp": 1e12}], "snapshot 0: timestamp 1000000000000.0 is not"),
        ([{**GOOD, "timestamp": None}], "snapshot 0: timestamp: expected seconds"),
        ([{**GOOD, "timestamp": 10**400}], "snapshot 0: timestamp: expected seconds"),
        (
            [{**GOOD, "timestamp": 10**5000}],
            "snapshot 0: timestamp: expected seconds since the epoch, found a value of",
        ),
        ([{**GOOD, "rss_bytes": "1"}], "snapshot 0: rss_bytes: expected a whole number, found '1'"),
        ([{**GOOD, "python_blocks": True}], "snapshot 0: python_blocks: expected a whole number, found True"),
        ([{**GOOD, "container_source": 2}], "snapshot 0: container_source: expected a text or nothing, found 2"),
        ([{**GOOD, "gc": {}}], "snapshot 0: gc: expected a list, found {}"),
        ([{**GOOD, "gc": [{"pending": 1}]}], "snapshot 0: gc: collections: expected a whole number, found None"),
        ([{**GOOD, "caches": [None]}], "snapshot 0: caches: expected an object, found None"),
        ([{**GOOD, "caches": [{"cache_name": 1}]}], "snapshot 0: caches: cache_name: expected a text, found 1"),
        ([{**GOOD, "caches": [["a", 1]]}], r"snapshot 0: caches: expected an object, found \['a', 1\]"),
        ([{**GOOD, "caches": [["a", 1, "2"]]}], "snapshot 0: caches: entries: expected a whole number, found '2'"),
        ([{**GOOD, "gc": [[1, 2, 3, 4.5]]}], "snapshot 0: gc: uncollectable: expected a whole number, found 4.5"),
        ([{**GOOD, "notes": [1]}], "snapshot 0: notes: expected a text, found 1"),
    ],
)
def test_a_damaged_capture_is_refused_with_what_is_wrong(data: object, said: str) -> None:
    """The message names the snapshot, the field and what it holds."""
    with pytest.raises(ValueError, match=said):
        SnapshotHistory.from_list(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(GOOD)), inner, max_size=5),
        max_leaves=8,
    )
)
def test_garbage_is_a_value_error_and_nothing_else(data: object) -> None:
    """Whatever JSON holds."""
    for candidate in (data, [data], [{**GOOD, **data}] if isinstance(data, dict) else data):
        try:
            kept = SnapshotHistory.from_list(candidate)
        except ValueError:
            continue
        assert SnapshotHistory.from_list(json.loads(json.dumps(kept.to_list()))).all() == kept.all()


def test_a_capture_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    """New fields are left out; figures that are missing are unknown."""
    row = {**GOOD, "new": 1}
    del row["uss_bytes"]
    assert SnapshotHistory.from_list([row]).all() == (MemorySnapshot.from_dict(GOOD),)
