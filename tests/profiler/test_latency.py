"""Performance metrics: latencies of operations, hits and misses apart, and what misses cost to load."""

from __future__ import annotations

import asyncio
import time
from itertools import count, pairwise

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    NotCollectedError,
    PerformanceMetrics,
    ProfilerConfig,
    instrument,
    profiled_cache,
)
from cachescope.core.results import OperationLatency
from profiler.driving import wait_until


def rows_of(found: PerformanceMetrics) -> dict[tuple[str, str], OperationLatency]:
    return {(row.operation, row.outcome): row for row in found.operations}


def test_operations_of_a_cache_are_timed_on_a_sample(profiler: CacheMemoryProfiler) -> None:
    """Hits and misses apart; quantiles in order, within minimum and maximum, with the relative error stated."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)

    def timed() -> bool:
        for i in range(500):
            cache[f"user:{i}"] = i
            cache.get(f"user:{i}")
            cache.get(f"nobody:{i}")
            del cache[f"user:{i}"]
        try:
            rows = rows_of(profiler.get_performance_metrics("c"))
        except NotCollectedError:
            return False
        wanted = {("lookup", "hit"), ("lookup", "miss"), ("set", ""), ("delete", "")}
        return wanted <= set(rows) and all(rows[kind].seconds.count >= 20 for kind in wanted)

    wait_until(timed, "enough timings")
    for (operation, _), row in rows_of(profiler.get_performance_metrics("c")).items():
        if operation == "load":
            continue
        spread = row.seconds
        assert row.sampled
        ranks = (spread.minimum, spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.maximum)
        assert all(one <= other * 1.0001 for one, other in pairwise(ranks))
        assert 0 < spread.p50 < 1
        assert 0 < spread.relative_error <= 0.02


def timed_kinds(profiler: CacheMemoryProfiler) -> dict[tuple[str, str], OperationLatency]:
    try:
        return rows_of(profiler.get_performance_metrics("c"))
    except NotCollectedError:
        return {}


def test_a_slow_look_up_is_as_slow_as_the_library_makes_it(profiler: CacheMemoryProfiler) -> None:
    """A subclass that takes 5 ms to look up: hits say so, sets do not."""

    class Slow(cachetools.LRUCache[str, bytes]):
        def __getitem__(self, key: str) -> bytes:
            time.sleep(0.005)
            return super().__getitem__(key)

    cache = instrument(Slow(100), name="c", profiler=profiler)

    def timed() -> bool:
        for i in range(20):
            cache[f"user:{i}"] = b"x"
            assert cache[f"user:{i}"] == b"x"
        return {("lookup", "hit"), ("set", "")} <= set(timed_kinds(profiler))

    wait_until(timed, "a timed hit and a timed set")
    rows = timed_kinds(profiler)
    assert rows["lookup", "hit"].seconds.p50 >= 0.0049
    assert rows["set", ""].seconds.minimum < 0.004


def test_a_cache_that_loads_by_itself_has_its_loads_told_from_its_look_ups(profiler: CacheMemoryProfiler) -> None:
    """A ``__missing__`` of the user's is a loader: its time is no part of the miss."""

    class Loading(cachetools.LRUCache[str, bytes]):
        def __missing__(self, key: str) -> bytes:
            time.sleep(0.005)
            self[key] = value = key.encode()
            return value

    cache = instrument(Loading(10_000), name="c", profiler=profiler)
    turn = count()

    def timed() -> bool:
        for _ in range(20):
            assert cache[f"user:{next(turn)}"]
        return {("lookup", "miss"), ("load", "ok")} <= set(timed_kinds(profiler))

    wait_until(timed, "a timed miss and its load")
    rows = timed_kinds(profiler)
    assert rows["load", "ok"].seconds.minimum >= 0.0049
    assert rows["lookup", "miss"].seconds.minimum < 0.004


def test_memoised_functions_have_all_their_loads_timed(profiler: CacheMemoryProfiler) -> None:
    """Every call of the function, those that fail apart; hits save the mean load."""

    @profiled_cache(maxsize=100, name="square", profiler=profiler)
    def square(number: int) -> int:
        time.sleep(0.002)
        if number < 0:
            raise ValueError("negative")
        return number * number

    for _ in range(3):
        for number in range(10):
            assert square(number) == number * number
    for _ in range(4):
        with pytest.raises(ValueError, match="negative"):
            square(-1)
    found = profiler.get_performance_metrics("square")
    rows = rows_of(found)
    assert (found.loads, found.load_failures) == (14, 4)
    assert (rows["load", "ok"].seconds.count, rows["load", "failed"].seconds.count) == (10, 4)
    assert not rows["load", "ok"].sampled
    assert rows["load", "ok"].seconds.minimum >= 0.0019
    assert found.load_seconds >= 14 * 0.0019
    assert found.saved_seconds == pytest.approx(found.load_seconds / 14 * 20)


async def test_a_coroutine_s_load_is_the_time_that_it_was_awaited(profiler: CacheMemoryProfiler) -> None:
    """And look-ups of the cache are not charged with it."""

    @profiled_cache(maxsize=100, name="fetch", profiler=profiler)
    async def fetch(number: int) -> bytes:
        await asyncio.sleep(0.02)
        if number == 7:
            raise OSError("gone")
        return bytes(number)

    await asyncio.gather(*(fetch(number) for number in range(7)))
    for _ in range(3):
        with pytest.raises(OSError, match="gone"):
            await fetch(7)
    for number in range(7):
        await fetch(number)
    found = profiler.get_performance_metrics("fetch")
    rows = rows_of(found)
    assert (found.loads, found.load_failures) == (10, 3)
    assert rows["load", "ok"].seconds.minimum >= 0.019
    for kind in (("lookup", "hit"), ("lookup", "miss"), ("set", "")):
        assert kind not in rows or rows[kind].seconds.p50 < 0.015


def test_get_and_set_on_a_miss_is_a_load(profiler: CacheMemoryProfiler) -> None:
    """The time from a miss to the set of the same key, on a sample; other keys' sets end nothing."""
    cache = instrument(cachetools.LRUCache(10_000), name="c", profiler=profiler)
    turns = count()

    def timed() -> bool:
        for _ in range(20):
            turn = next(turns)
            if cache.get(f"user:{turn}") is None:
                cache[f"other:{turn}"] = b"x"
                time.sleep(0.005)
                cache[f"user:{turn}"] = b"x"
        return profiler.get_performance_metrics("c").loads >= 10

    wait_until(timed, "enough sampled loads")
    found = profiler.get_performance_metrics("c")
    load = rows_of(found)["load", "ok"]
    assert load.sampled
    assert load.seconds.minimum >= 0.0049
    misses = profiler.get_cache_profile("c").misses
    assert found.load_seconds == pytest.approx(load.seconds.mean * misses, rel=0.02)


def test_what_is_switched_off_is_refused_with_what_switches_it_on() -> None:
    """Below DETAILED the level is named, at DETAILED the setting."""
    with CacheMemoryProfiler(ProfilerConfig(level="basic")) as profiler:
        instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
        with pytest.raises(NotCollectedError, match=r"DETAILED.*BASIC.*set_level\('detailed'\).*CACHESCOPE_LEVEL"):
            profiler.get_performance_metrics("c")
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", latency=False)) as profiler:
        instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
        with pytest.raises(NotCollectedError, match="latency=True, or CACHESCOPE_LATENCY=1"):
            profiler.get_performance_metrics("c")


def test_a_cache_that_nobody_used_yet_has_no_latencies(profiler: CacheMemoryProfiler) -> None:
    """It is no error at DETAILED: there is nothing to time."""
    instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
    found = profiler.get_performance_metrics("c")
    assert (found.operations, found.loads, found.load_seconds, found.saved_seconds) == ((), 0, 0.0, None)


def test_timings_end_up_in_the_report(profiler: CacheMemoryProfiler) -> None:
    """A memoised function's, as asked for and as reported."""

    @profiled_cache(maxsize=100, name="square", profiler=profiler)
    def square(number: int) -> int:
        return number * number

    for number in range(10):
        square(number)
    (row,) = profiler.report().performance
    asked = profiler.get_performance_metrics("square")
    assert (row.cache_name, row.loads) == ("square", 10)
    assert rows_of(row)["load", "ok"] == rows_of(asked)["load", "ok"]
