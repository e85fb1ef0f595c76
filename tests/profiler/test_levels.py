"""Levels change live: no counter is lost, what was gathered stays, and tracemalloc is on only where it is wanted."""

from __future__ import annotations

import threading
import time
import tracemalloc

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    ConfigurationError,
    ProfilerConfig,
    ProfilingLevel,
    instrument,
)
from profiler.driving import Driven, size_of

UP_AND_DOWN = ("detailed", "comprehensive", "basic", "comprehensive", "detailed", "basic")


def test_levels_change_under_traffic_without_losing_a_count() -> None:
    """Four threads set, read and delete, each in a cache of its own and all in one, while the level goes up and down."""
    with CacheMemoryProfiler(ProfilerConfig(level="basic", tick_seconds=0.01)) as profiler:
        own = [Driven(instrument(cachetools.LRUCache(100), name=f"own {n}", profiler=profiler), 100) for n in range(4)]
        shared = instrument(cachetools.LRUCache(1 << 30), name="shared", profiler=profiler)
        stop = threading.Event()
        sets = [0, 0, 0, 0]

        def traffic(number: int) -> None:
            driven, turn = own[number], 0
            while not stop.is_set():
                turn += 1
                key = f"user:{turn % 300}"
                driven.set(key, turn % 500)
                driven.get(f"user:{(turn * 7) % 400}")
                if turn % 3 == 0:
                    driven.delete(key)
                shared[f"{number}:{turn}"] = bytes(10)
                sets[number] += 1
                if turn % 10 == 0:
                    time.sleep(0.005)  # five threads that never wait leave the profiler a fifth of one core

        threads = [threading.Thread(target=traffic, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for level in UP_AND_DOWN:
                time.sleep(0.05)
                profiler.set_level(level)
                assert profiler.level is ProfilingLevel.parse(level)
                assert tracemalloc.is_tracing() == (level == "comprehensive")
            time.sleep(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for number, driven in enumerate(own):
            profile, tally = profiler.get_cache_profile(f"own {number}"), driven.tally
            assert (profile.total_allocations, profile.total_resizes) == (
                tally.counts["allocation"],
                tally.counts["resize"],
            )
            assert (profile.total_evictions, profile.total_deletions) == (
                tally.counts["eviction"],
                tally.counts["deallocation"],
            )
            assert (profile.hits, profile.misses) == (tally.counts["hit"], tally.counts["miss"])
            assert (profile.total_allocated_bytes, profile.net_memory_bytes) == (tally.allocated, tally.net)
        profile = profiler.get_cache_profile("shared")
        assert (profile.total_allocations, profile.current_entries) == (sum(sets), sum(sets))
        assert profiler.report().processes[0].dropped_events == 0


def test_what_was_gathered_stays_and_more_is_gathered_from_then_on() -> None:
    """Sites of the time at DETAILED are told at a lower level too, and go on when it is DETAILED again."""
    with CacheMemoryProfiler(ProfilerConfig(level="basic")) as profiler:
        cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)
        for i in range(20):
            cache[f"basic:{i}"] = bytes(10)
        profiler.set_level("detailed")
        for i in range(30):
            cache[f"detailed:{i}"] = bytes(10)
        assert [spot.allocation_count for spot in profiler.get_memory_hotspots("c", by="site")] == [30]
        profiler.set_level(ProfilingLevel.BASIC)
        assert [spot.allocation_count for spot in profiler.get_memory_hotspots("c", by="site")] == [30]
        for i in range(40):
            cache[f"again:{i}"] = bytes(10)
        profiler.set_level(2)
        (site,) = profiler.get_memory_hotspots("c", by="site")
        assert (site.allocation_count, site.live_bytes) == (
            30,
            sum(size_of(f"detailed:{i}", bytes(10)) for i in range(30)),
        )
        spots = {spot.key_pattern: spot.allocation_count for spot in profiler.get_memory_hotspots("c")}
        assert spots == {"basic:{int}": 20, "detailed:{int}": 30, "again:{int}": 40}


@pytest.mark.parametrize("level", ["deep", 0, 4, None, True, 2.5])
def test_what_is_no_level_changes_nothing(profiler: CacheMemoryProfiler, level: object) -> None:
    """It is named, with what is allowed."""
    with pytest.raises(ConfigurationError, match=r"level: .*expected one of: basic, detailed, comprehensive"):
        profiler.set_level(level)  # type: ignore[arg-type]
    assert profiler.level is ProfilingLevel.DETAILED


def test_tracing_that_the_user_began_goes_on() -> None:
    """With the user's frames; we neither stop it at a lower level nor at the end."""
    tracemalloc.start(3)
    try:
        with CacheMemoryProfiler(ProfilerConfig(level="comprehensive")) as profiler:
            assert tracemalloc.get_traceback_limit() == 3
            (process,) = profiler.report().processes
            assert process.tracemalloc_bytes is not None
            assert any("was on already, and stays on" in line for line in process.collects)
            profiler.set_level("basic")
            assert tracemalloc.is_tracing()
            profiler.set_level("comprehensive")
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_tracing_that_the_user_ends_is_ended() -> None:
    """And we do not stop one that was begun anew since."""
    with CacheMemoryProfiler(ProfilerConfig(level="comprehensive")) as profiler:
        assert tracemalloc.is_tracing()
        tracemalloc.stop()
        assert profiler.report().processes[0].tracemalloc_bytes is None
        tracemalloc.start()
        profiler.set_level("basic")
        assert tracemalloc.is_tracing()
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


def test_what_it_costs_is_said_in_the_report() -> None:
    """At COMPREHENSIVE tracemalloc's memory and slowdown; below, nothing of it."""
    with CacheMemoryProfiler(ProfilerConfig(level="comprehensive", tracemalloc_frames=1)) as profiler:
        (process,) = profiler.report().processes
        assert process.tracemalloc_bytes is not None
        assert any("was started by cachescope: it keeps 1 frame of each block" in line for line in process.collects)
        assert {"call sites", "latency on a sample", "reads of followed entries"} < set(process.collects)
        profiler.set_level("detailed")
        (process,) = profiler.report().processes
        assert process.tracemalloc_bytes is None
        assert not any("tracemalloc" in line for line in process.collects)
        profiler.set_level("basic")
        assert profiler.report().processes[0].collects == ()


def test_without_permission_comprehensive_does_not_trace() -> None:
    """trace_allocations=False."""
    settings = ProfilerConfig(level="comprehensive", trace_allocations=False)
    with CacheMemoryProfiler(settings) as profiler:
        assert not tracemalloc.is_tracing()
        cache = instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
        cache["a:1"] = bytes(10)
        assert profiler.get_memory_hotspots("c", 0, by="origin") == []
