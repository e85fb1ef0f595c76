"""Trends, through real snapshots that the background thread takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableMapping
from itertools import count

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, MemoryTrend, ProfilerConfig, UnknownCacheError, instrument
from cachescope.core.results import TrendVerdict
from profiler.driving import wait_until


@pytest.fixture
def quick() -> Iterator[CacheMemoryProfiler]:
    """Takes a snapshot every tenth of a second."""
    settings = ProfilerConfig(snapshot_seconds=0.1, tick_seconds=0.02, cache_budgets={"budgeted": 100 << 20})
    with CacheMemoryProfiler(settings) as profiler:
        yield profiler


def watched(profiler: CacheMemoryProfiler, turn: Callable[[], object], points: int = 25) -> None:
    """Have *turn* called again and again until there are so many snapshots, those of the background and ours."""
    turns = count()

    def enough() -> bool:
        turn()
        if next(turns) % 6 == 5:
            profiler.take_memory_snapshot()
        return len(profiler.get_memory_snapshots()) >= points

    wait_until(enough, f"{points} snapshots")


def growing(cache: MutableMapping[str, bytes], size_bytes: int, per_second: int = 300) -> Callable[[], None]:
    """What keeps a cache growing at a pace that does not depend on how busy the machine is."""
    began = time.monotonic()

    def turn() -> None:
        while len(cache) < (time.monotonic() - began) * per_second:
            cache[f"user:{len(cache)}"] = b"x" * size_bytes  # written to, so that it is resident

    return turn


def test_a_dict_that_only_grows_is_growing(quick: CacheMemoryProfiler) -> None:
    """With a slope whose interval holds the program's own pace."""
    cache = instrument(dict[str, bytes](), name="c", profiler=quick)
    watched(quick, growing(cache, 10_000))
    trend = quick.get_memory_trend("c")
    assert trend.verdict is TrendVerdict.GROWING, trend.reason
    assert trend.slope_bytes_per_s is not None
    assert trend.slope_low_bytes_per_s is not None
    assert trend.slope_high_bytes_per_s is not None
    assert 0 < trend.slope_low_bytes_per_s <= trend.slope_bytes_per_s <= trend.slope_high_bytes_per_s
    assert trend.slope_bytes_per_s == pytest.approx(300 * 10_000, rel=0.3)
    assert (trend.limit, trend.seconds_to_limit) == (None, None)
    assert trend.last_bytes > trend.first_bytes
    (reported,) = [row for row in quick.report().trends if row.cache_name == "c"]
    assert reported.verdict is TrendVerdict.GROWING


def test_a_full_cache_is_steady(quick: CacheMemoryProfiler) -> None:
    """However much goes through it."""
    cache = instrument(cachetools.LRUCache(200), name="c", profiler=quick)
    for i in range(200):
        cache[f"user:{i}"] = bytes(20_000)
    serial = iter(range(200, 10**9))
    watched(quick, lambda: cache.__setitem__(f"user:{next(serial)}", bytes(20_000)))
    trend = quick.get_memory_trend("c")
    assert trend.verdict in (TrendVerdict.STEADY, TrendVerdict.SHIFTED), trend.reason
    assert trend.seconds_to_limit is None


def test_three_points_are_not_enough_to_say(profiler: CacheMemoryProfiler) -> None:
    """No slope, no forecast, but why."""
    cache = instrument(dict[str, bytes](), name="c", profiler=profiler)
    for i in range(3):
        cache[f"user:{i}"] = bytes(1_000_000)
        profiler.take_memory_snapshot()
    for name in ("c", None):
        trend = profiler.get_memory_trend(name)
        assert trend.verdict is TrendVerdict.UNKNOWN
        assert (trend.slope_bytes_per_s, trend.seconds_to_limit) == (None, None)
        assert trend.reason
        assert trend.cache_name == name


def near(trend: MemoryTrend, expected_seconds: float) -> bool:
    low, high = trend.seconds_to_limit_low, trend.seconds_to_limit_high
    return low is not None and low <= expected_seconds * 1.5 and (high is None or high >= expected_seconds / 1.5)


def test_a_cache_heading_for_its_maxsize_gets_the_time_to_it(quick: CacheMemoryProfiler) -> None:
    """From entries, not from bytes."""
    cache = instrument(cachetools.LRUCache(100_000), name="c", profiler=quick)
    watched(quick, growing(cache, 10_000))
    left = (100_000 - len(cache)) / 300
    trend = quick.get_memory_trend("c")
    assert trend.verdict is TrendVerdict.GROWING, trend.reason
    assert trend.limit == "maxsize of 100,000"
    assert trend.seconds_to_limit is not None
    assert near(trend, left), (trend, left)


def test_a_cache_heading_for_its_budget_gets_the_time_to_it(quick: CacheMemoryProfiler) -> None:
    """The budget comes before maxsize."""
    cache = instrument(cachetools.LRUCache(100_000), name="budgeted", profiler=quick)
    watched(quick, growing(cache, 10_000))
    trend = quick.get_memory_trend("budgeted")
    assert trend.verdict is TrendVerdict.GROWING, trend.reason
    assert trend.limit == "budget of 100 MiB"
    assert trend.slope_bytes_per_s is not None
    left = ((100 << 20) - trend.last_bytes) / trend.slope_bytes_per_s
    assert near(trend, left), (trend, left)


def test_a_window_looks_at_its_own_points_alone(quick: CacheMemoryProfiler) -> None:
    """Growth that has been over for the whole window is none."""
    cache = instrument(dict[str, bytes](), name="c", profiler=quick)
    watched(quick, growing(cache, 10_000), points=15)
    began = time.time()
    watched(quick, lambda: time.sleep(0.01), points=45)
    window = (time.time() - began - 0.2) / 60
    trend = quick.get_memory_trend("c", window_minutes=window)
    assert trend.verdict is TrendVerdict.STEADY, trend.reason
    assert 5 < trend.points < len(quick.get_memory_snapshots())
    assert trend.end_time - trend.start_time == pytest.approx(window * 60, abs=0.01)
    whole = quick.get_memory_trend("c", window_minutes=None)
    assert whole.points >= 45
    assert whole.last_bytes - whole.first_bytes > trend.last_bytes - trend.first_bytes


def test_the_process_has_a_trend_of_its_own(quick: CacheMemoryProfiler) -> None:
    """Its resident memory, with its pid."""
    held: dict[str, bytes] = {}
    for _ in range(4):  # what else the process does may hide it for a while
        watched(quick, growing(held, 500_000, per_second=40))
        trend = quick.get_memory_trend()
        if trend.verdict is TrendVerdict.GROWING:
            break
    assert (trend.cache_name, trend.pid) == (None, quick.get_memory_snapshots()[-1].pid)
    # What else this process does may hide the growth, but never make a fall or a rest of it.
    assert trend.verdict in (TrendVerdict.GROWING, TrendVerdict.SHIFTED, TrendVerdict.UNKNOWN), trend.reason
    assert trend.points >= 8
    assert trend.last_bytes > trend.first_bytes


def test_a_trend_of_what_is_no_cache_is_refused(profiler: CacheMemoryProfiler) -> None:
    """By name, as all questions do."""
    with pytest.raises(UnknownCacheError, match="'nope'"):
        profiler.get_memory_trend("nope")
