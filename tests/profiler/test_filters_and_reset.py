"""Filters leave rows out of lists; a reset forgets what flowed; neither touches what is held."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    MemoryAllocation,
    MemoryEventType,
    ProfilerConfig,
    UnknownCacheError,
    instrument,
)
from profiler.driving import Driven, captured, events_of, wait_until

QUESTIONS = (
    "get_cache_profile",
    "get_memory_hotspots",
    "get_allocation_patterns",
    "get_performance_metrics",
    "get_operations",
    "get_memory_trend",
    "stop_cache_profiling",
)


def test_excluded_caches_are_in_no_answer(tmp_path: Path) -> None:
    """Not listed, not reported, not captured, and unknown to every question; the others are."""
    settings = ProfilerConfig(level="detailed", include_caches=["shop.*", "users"], exclude_caches=["shop.tmp*"])
    with CacheMemoryProfiler(settings) as profiler:
        names = ("shop.prices", "shop.tmp.1", "users", "other")
        caches = {name: Driven(instrument(cachetools.LRUCache(20), name=name, profiler=profiler), 20) for name in names}
        for driven in caches.values():
            for i in range(30):
                driven.set(f"user:{i}", i)
        assert profiler.caches() == ("shop.prices", "users")
        for name in ("shop.tmp.1", "other"):
            for question in QUESTIONS:
                with pytest.raises(UnknownCacheError):
                    getattr(profiler, question)(name)
        assert {spot.cache_name for spot in profiler.get_memory_hotspots()} == {"shop.prices", "users"}
        taken = profiler.take_memory_snapshot()
        assert {use.cache_name for use in taken.caches} == {"shop.prices", "users"}
        profiler.write_capture(tmp_path / "x.capture")
        for report in (profiler.report(), captured(tmp_path)):
            assert {cache.cache_name for cache in report.caches} == {"shop.prices", "users"}
            assert {row.cache_name for row in report.allocation_patterns} == {"shop.prices", "users"}
        users = profiler.get_cache_profile("users")
        assert users.net_memory_bytes == caches["users"].tally.net


def test_excluded_patterns_and_small_entries_are_in_no_list_and_in_all_totals() -> None:
    """Hotspots and events leave them out; counters and bytes are the tally's."""
    settings = ProfilerConfig(
        level="detailed", exclude_patterns=["session:*"], min_size_bytes=200, event_kinds=["eviction"]
    )
    with CacheMemoryProfiler(settings) as profiler:
        driven = Driven(instrument(cachetools.LRUCache(60), name="c", profiler=profiler), 60)
        told: list[MemoryAllocation] = []
        profiler.subscribe(told.append, kinds=None)
        for i in range(60):
            driven.set(f"session:{i}", 1_000)
            driven.set(f"user:{i}", 1_000)
            driven.set(f"small:{i}", 10)
        (spot,) = profiler.get_memory_hotspots("c")
        assert (spot.key_pattern, spot.allocation_count) == ("user:{int}", 60)
        assert spot.share_of_cache < 1.0
        profile = profiler.get_cache_profile("c")
        assert profile.events
        assert {event.event_type for event in profile.events} == {MemoryEventType.EVICTION}
        assert all(event.size_bytes >= 200 for event in profile.events)
        assert events_of(profiler.get_allocation_patterns("c")) == {
            event: (count, driven.tally.bytes[event]) for event, count in driven.tally.counts.items()
        }
        assert profile.net_memory_bytes == driven.tally.net
        wait_until(lambda: told, "events")
        assert {event.event_type for event in told} == {MemoryEventType.EVICTION}


def test_only_included_patterns_are_listed() -> None:
    """Placeholders in braces stand for themselves."""
    with CacheMemoryProfiler(ProfilerConfig(include_patterns=["user:{int}:*"])) as profiler:
        driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler))
        for i in range(20):
            driven.set(f"user:{i}:profile", 10)
            driven.set(f"page:{i}", 10)
        assert [spot.key_pattern for spot in profiler.get_memory_hotspots("c")] == ["user:{int}:profile"]


# Reset


def everything(profiler: CacheMemoryProfiler, driven: Driven) -> None:
    """Have something of each kind to forget."""
    with profiler.profile_operation("c", "job"):
        for i in range(150):
            driven.set(f"user:{i % 120}", i)
            driven.get(f"user:{i}")
    driven.delete("user:20")
    profiler.take_memory_snapshot()


def test_a_reset_forgets_what_flowed_and_keeps_what_is_held(profiler: CacheMemoryProfiler) -> None:
    """Counters, hotspots, events, operations, snapshots start anew; bytes and entries stay."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    everything(profiler, driven)
    before = profiler.get_cache_profile("c")
    profiler.reset_profiling_data()
    after = profiler.get_cache_profile("c")
    flows = ("total_allocations", "total_deallocations", "total_resizes", "hits", "misses", "total_allocated_bytes")
    assert [getattr(after, name) for name in flows] == [0] * len(flows)
    assert (after.net_memory_bytes, after.events) == (0, ())
    assert (after.current_memory_bytes, after.current_entries) == (before.current_memory_bytes, before.current_entries)
    assert after.peak_memory_bytes == after.current_memory_bytes
    assert profiler.get_operations() == ()
    assert profiler.get_memory_snapshots() == ()
    assert profiler.get_allocation_patterns("c").events == ()
    assert profiler.get_memory_hotspots("c", 1) == profiler.get_memory_hotspots("c", 1, by="key") == []
    assert profiler.get_performance_metrics("c").operations == ()
    (held,) = profiler.get_memory_hotspots("c", 0)
    assert (held.live_entries, held.live_bytes) == (after.current_entries, driven.tally.net)
    assert (held.allocation_count, held.churned_bytes) == (0, 0)
    assert profiler.report().pressure == ()


@pytest.mark.parametrize("times", [1, 3])
def test_the_byte_law_holds_after_a_reset(profiler: CacheMemoryProfiler, times: int) -> None:
    """What is held now is what was held then, plus net; also when what was held then leaves, and after several."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    everything(profiler, driven)
    for turn in range(times):
        held = driven.tally.net
        profiler.reset_profiling_data()
        at_reset = profiler.get_cache_profile("c")
        driven.tally.counts.clear()
        for i in range(60):
            driven.set(f"page:{turn}:{i}", 500)
        driven.delete(next(iter(driven.tally.held)))
        profile = profiler.get_cache_profile("c")
        net = profile.total_allocated_bytes + profile.total_resized_bytes - profile.total_deallocated_bytes
        assert profile.net_memory_bytes == net == driven.tally.net - held
        charged = profile.current_memory_bytes - profile.container_bytes
        assert charged == at_reset.current_memory_bytes - at_reset.container_bytes + net == driven.tally.net
        assert profile.total_evictions == driven.tally.counts["eviction"]
        assert profile.current_entries == len(driven.tally.held)
        spots = profiler.get_memory_hotspots("c", 0)
        assert sum(spot.live_bytes for spot in spots) == driven.tally.net
        assert sum(spot.allocation_count for spot in spots) == 60
        assert sum(spot.share_of_cache for spot in spots) == pytest.approx(1.0)
    driven.cache.clear()
    profile = profiler.get_cache_profile("c")
    assert (profile.current_memory_bytes, profile.current_entries) == (0, 0)


def test_a_window_over_a_reset_counts_from_the_reset(profiler: CacheMemoryProfiler) -> None:
    """Not the difference to figures that are gone."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    window = profiler.start_cache_profiling("c")
    everything(profiler, driven)
    profiler.reset_profiling_data()
    for i in range(5):
        driven.set(f"page:{i}", 10)
    found = window.stop()
    assert (found.total_allocations, found.total_evictions, found.hits) == (5, 4, 0)  # one had been deleted


def test_manual_caches_survive_a_reset(profiler: CacheMemoryProfiler) -> None:
    """What was told to be held still is, and can be removed."""
    profiler.track_allocation("m", "a", 100)
    profiler.track_hit("m", "a")
    profiler.reset_profiling_data()
    profiler.track_allocation("m", "b", 30)
    profiler.track_deallocation("m", "a")
    profile = profiler.get_cache_profile("m")
    assert (profile.current_memory_bytes, profile.net_memory_bytes, profile.hits) == (30, -70, 0)
    assert (profile.total_allocations, profile.total_deletions, profile.current_entries) == (1, 1, 1)


def test_a_reset_under_traffic_loses_no_byte(profiler: CacheMemoryProfiler) -> None:
    """Resets while four threads set and delete: afterwards held bytes are those of what is in the cache."""
    driven = [Driven(instrument(cachetools.LRUCache(50), name=f"c{n}", profiler=profiler), 50) for n in range(4)]
    stop = threading.Event()

    def traffic(one: Driven) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            one.set(f"user:{turn % 130}", turn % 700)
            if turn % 5 == 0:
                one.delete(f"user:{turn % 130}")
            if turn % 20 == 0:
                time.sleep(0.001)

    threads = [threading.Thread(target=traffic, args=(one,)) for one in driven]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            profiler.reset_profiling_data()
            profiler.report()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for number, one in enumerate(driven):
        profile = profiler.get_cache_profile(f"c{number}")
        assert profile.current_memory_bytes - profile.container_bytes == one.tally.net
        assert profile.current_entries == len(one.tally.held)
