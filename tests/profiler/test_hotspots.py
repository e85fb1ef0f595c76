"""Hotspots: by pattern, call site, key, operation and origin, against the program's own tally."""

from __future__ import annotations

import random
import time
from collections import Counter

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, MemoryHotspot, NotCollectedError, ProfilerConfig, instrument
from profiler.driving import Driven, clocks_later, close_buckets, size_of, wait_until


def by_pattern(spots: list[MemoryHotspot]) -> dict[str | None, MemoryHotspot]:
    return {spot.key_pattern: spot for spot in spots}


def test_patterns_equal_the_programs_own_tally(profiler: CacheMemoryProfiler) -> None:
    """Sets, replacements, evictions and deletes of three kinds of keys at random: counts and bytes are exact."""
    driven = Driven(instrument(cachetools.LRUCache(200), name="c", profiler=profiler), 200)
    chance = random.Random(5)
    count, allocated, held = Counter[str](), Counter[str](), {}
    for _ in range(3_000):
        kind = chance.choice(("user", "page", "cart"))
        key, size = f"{kind}:{chance.randrange(150)}:data", chance.randrange(1, 500)
        if chance.random() < 0.2 and key in driven.tally.held:
            driven.delete(key)
        else:
            driven.set(key, size)
            count[kind] += 1
            allocated[kind] += size_of(key, bytes(size))
    for key, size in driven.tally.held.items():
        held[key.partition(":")[0]] = held.get(key.partition(":")[0], 0) + size
    spots = by_pattern(profiler.get_memory_hotspots("c"))
    assert set(spots) == {f"{kind}:{{int}}:data" for kind in count}
    for kind, sets in count.items():
        spot = spots[f"{kind}:{{int}}:data"]
        assert (spot.allocation_count, spot.total_size_bytes, spot.live_bytes) == (sets, allocated[kind], held[kind])
        assert spot.churned_bytes == allocated[kind] - held[kind]
        assert spot.average_size_bytes == allocated[kind] / sets
        assert spot.live_bytes_std_error == spot.total_size_bytes_std_error == 0.0
    assert sum(spot.share_of_cache for spot in spots.values()) == pytest.approx(1.0)
    assert sum(spot.live_entries for spot in spots.values()) == 200


def test_the_largest_come_first_and_small_and_rare_ones_are_left_out(profiler: CacheMemoryProfiler) -> None:
    """min_bytes and min_allocations leave out, and nothing else does."""
    driven = Driven(instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler))
    for kind, number, size in (("large", 20, 5_000), ("many", 100, 10), ("few", 3, 9_000)):
        for i in range(number):
            driven.set(f"{kind}:{i}", size)

    def names(**wanted: int) -> list[str | None]:
        return [spot.key_pattern for spot in profiler.get_memory_hotspots("c", **wanted)]

    assert names(min_allocations=0) == ["large:{int}", "few:{int}", "many:{int}"]
    assert names() == ["large:{int}", "many:{int}"]
    assert names(min_bytes=20_000) == ["large:{int}"]
    assert names(min_allocations=0, min_bytes=20_000) == ["large:{int}", "few:{int}"]
    assert names(min_allocations=101) == []


def test_first_and_last_seen_are_when_the_program_set(profiler: CacheMemoryProfiler) -> None:
    """To the beat of the background thread, which dates events."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler))
    moments = [time.time()]
    driven.set("user:1", 10)
    profiler.get_memory_hotspots("c")
    moments.append(time.time())
    time.sleep(0.02)
    moments.append(time.time())
    driven.set("user:2", 10)
    (spot,) = profiler.get_memory_hotspots("c", 1)
    moments.append(time.time())
    assert moments[0] <= spot.first_seen <= moments[1] < moments[2] <= spot.last_seen <= moments[3]


def fill_here(cache: cachetools.LRUCache[str, bytes], count: int) -> None:
    for i in range(count):
        cache[f"a:{i}"] = bytes(300)


def fill_there(cache: cachetools.LRUCache[str, bytes], count: int) -> None:
    for i in range(count):
        cache[f"b:{i}"] = bytes(700)


def test_sites_are_the_lines_that_set_whatever_line_removes(profiler: CacheMemoryProfiler) -> None:
    """Each line's bytes come off it again; its stack is told, nearest first."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)
    fill_here(cache, 40)
    fill_there(cache, 30)
    for i in range(10):
        del cache[f"a:{i}"]
    there, here = profiler.get_memory_hotspots("c", by="site")
    line = fill_here.__code__.co_firstlineno + 2
    assert (here.site or "").endswith(f"test_hotspots.py:{line} fill_here")
    assert (here.allocation_count, here.live_entries, here.churned_bytes) == (40, 30, 10 * size_of("a:1", bytes(300)))
    assert here.live_bytes == sum(size_of(f"a:{i}", bytes(300)) for i in range(10, 40))
    assert (there.allocation_count, there.live_entries, there.churned_bytes) == (30, 30, 0)
    assert here.stack_trace[0] == here.site
    assert here.stack_trace[1].endswith("test_sites_are_the_lines_that_set_whatever_line_removes")
    assert here.key_pattern == "a:{int}"
    assert here.share_of_cache + there.share_of_cache == pytest.approx(1.0)


def test_cache_wide_and_named_questions_agree(profiler: CacheMemoryProfiler) -> None:
    """Without a name, all caches' hotspots, largest first."""
    for name, size in (("small", 10), ("large", 1_000)):
        driven = Driven(instrument(cachetools.LRUCache(100), name=name, profiler=profiler))
        for i in range(20):
            driven.set(f"{name}:{i}", size)
    both = profiler.get_memory_hotspots()
    assert [spot.cache_name for spot in both] == ["large", "small"]
    assert [spot.live_bytes for spot in both] == [
        profiler.get_memory_hotspots(name)[0].live_bytes for name in ("large", "small")
    ]


def test_keys_are_ranked_by_use_and_named_only_if_allowed() -> None:
    """Counts of sets are exact while all keys fit; a key is shown with raw_keys alone, its id always."""
    for raw in (False, True):
        with CacheMemoryProfiler(ProfilerConfig(raw_keys=raw)) as profiler:
            driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler))
            for i in range(40):
                for _ in range(1 + 5 * (i == 7) + 9 * (i == 3)):
                    driven.set(f"user:{i}", 100)
            spots = profiler.get_memory_hotspots("c", min_allocations=0, by="key")
            assert [spot.allocation_count for spot in spots[:3]] == [10, 6, 1]
            assert len({spot.key_id for spot in spots}) == len(spots) == 40
            assert {spot.key_pattern for spot in spots} == {"user:{int}"}
            assert [spot.key for spot in spots[:2]] == (["'user:3'", "'user:7'"] if raw else [None, None])
            assert spots[0].total_size_bytes == 10 * size_of("user:3", bytes(100))
            assert len(profiler.get_memory_hotspots("c", min_allocations=2, by="key")) == 2


def test_a_key_that_is_read_often_is_hot_though_it_was_set_once(profiler: CacheMemoryProfiler) -> None:
    """Reads are sampled, and scaled to the cache's exact number."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler))
    for i in range(50):
        driven.set(f"user:{i}", 10)
    chance = random.Random(1)

    def reads_seen() -> bool:
        for _ in range(2_000):
            driven.get("user:7" if chance.random() < 0.6 else f"user:{chance.randrange(50)}")
        return profiler.get_memory_hotspots("c", 100, by="key") != [] and most_read().hits > 2_000

    def most_read() -> MemoryHotspot:
        return max(profiler.get_memory_hotspots("c", 0, by="key"), key=lambda spot: spot.hits)

    wait_until(reads_seen, "enough sampled reads")
    spots = profiler.get_memory_hotspots("c", 0, by="key")
    assert spots[0].hits > sum(spot.hits for spot in spots) / 3
    hits = driven.tally.counts["hit"]  # 0.608 of them of that key; a key that was sampled once or twice counts none
    assert 0.45 * hits < spots[0].hits < 0.75 * hits
    assert sum(spot.hits for spot in spots) <= 1.02 * hits


def test_operations_count_exactly_what_moved_bytes(profiler: CacheMemoryProfiler) -> None:
    """Set, replace, delete, evict, clear: counts and bytes of the tally."""
    driven = Driven(instrument(cachetools.LRUCache(50), name="c", profiler=profiler), 50)
    for i in range(80):
        driven.set(f"user:{i % 60}", 100 + i)
    for i in range(45, 50):
        driven.delete(f"user:{i}")
    tally = driven.tally
    held = tally.net
    driven.cache.clear()
    spots = {spot.operation: spot for spot in profiler.get_memory_hotspots("c", 1, by="operation")}
    expected = {
        "set": (tally.counts["allocation"], tally.bytes["allocation"]),
        "replace": (tally.counts["resize"], tally.bytes["resize"]),
        "delete": (tally.counts["deallocation"], tally.bytes["deallocation"]),
        "evict": (tally.counts["eviction"], tally.bytes["eviction"]),
        "clear": (len(tally.held), held),
    }
    assert {k: v for k, v in expected.items() if v[0]} == {
        name: (spot.allocation_count, spot.total_size_bytes) for name, spot in spots.items()
    }


# Windows


@pytest.mark.parametrize("by", ["pattern", "site", "operation", "key"])
def test_a_window_counts_what_was_allocated_in_it_and_holds_what_is_held_now(
    profiler: CacheMemoryProfiler, by: str
) -> None:
    """What came before its beginning is not counted; all the time and a window longer than it are the same."""
    driven = Driven(instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler))
    for i in range(60):
        driven.set(f"user:{i}", 100)
    time.sleep(0.3)
    close_buckets(profiler)
    between = time.monotonic()
    for i in range(20):
        driven.set(f"user:{i + 100}", 100)
    close_buckets(profiler)

    def sets(window_minutes: float | None) -> int:
        spots = profiler.get_memory_hotspots("c", 1, by=by, window_minutes=window_minutes)
        return sum(spot.allocation_count for spot in spots)

    assert sets(None) == sets(60) == 80
    assert sets((time.monotonic() - between + 0.1) / 60) == 20
    if by in ("pattern", "site"):
        (spot,) = profiler.get_memory_hotspots("c", 1, by=by, window_minutes=(time.monotonic() - between + 0.1) / 60)
        assert (spot.live_entries, spot.live_bytes) == (80, driven.tally.net)
        assert spot.allocation_rate == pytest.approx(20 / (time.monotonic() - between), rel=0.5)


def test_a_burst_is_told_from_what_comes_all_the_time(profiler: CacheMemoryProfiler) -> None:
    """One kind in each of many buckets, one in the first alone."""
    driven = Driven(instrument(cachetools.LRUCache(5_000), name="c", profiler=profiler))
    for turn in range(16):
        for i in range(5):
            driven.set(f"steady:{turn * 10 + i}", 10)
        if turn == 4:
            for i in range(100):
                driven.set(f"once:{i}", 10)
        if turn in (2, 3, 8, 9, 14, 15):
            for i in range(10):
                driven.set(f"again:{turn * 100 + i}", 10)
        time.sleep(0.02)
        close_buckets(profiler)
    spots = by_pattern(profiler.get_memory_hotspots("c"))
    assert {pattern: spot.recurrence for pattern, spot in spots.items()} == {
        "steady:{int}": "steady",
        "once:{int}": "burst",
        "again:{int}": "recurring",
    }


def test_old_hotspots_are_cleaned_up_and_what_is_held_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retention a kind of key of which nothing is left goes; totals stay exact."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", retention_minutes=1, tick_seconds=30)) as profiler:
        driven = Driven(instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler))
        for i in range(20):
            driven.set(f"gone:{i}", 100)
            driven.set(f"held:{i}", 100)
        for i in range(20):
            driven.delete(f"gone:{i}")
        profiler.beat()
        assert set(by_pattern(profiler.get_memory_hotspots("c"))) == {"gone:{int}", "held:{int}"}
        clocks_later(monkeypatch, 90)
        driven.set("new:1", 10)
        profiler.beat()
        spots = by_pattern(profiler.get_memory_hotspots("c", 1))
        assert set(spots) == {"held:{int}", "new:{int}"}
        assert spots["held:{int}"].live_entries == 20
        profile = profiler.get_cache_profile("c")
        assert (profile.total_allocations, profile.net_memory_bytes) == (41, driven.tally.net)


# Levels


def test_what_a_level_does_not_collect_is_refused_by_name() -> None:
    """Sites from DETAILED on, origins at COMPREHENSIVE: the error says which level and which setting."""
    with CacheMemoryProfiler(ProfilerConfig(level="basic")) as profiler:
        instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
        with pytest.raises(NotCollectedError, match=r"DETAILED.*BASIC.*CACHESCOPE_LEVEL=detailed"):
            profiler.get_memory_hotspots("c", by="site")
        with pytest.raises(NotCollectedError, match=r"COMPREHENSIVE.*CACHESCOPE_LEVEL=comprehensive"):
            profiler.get_memory_hotspots("c", by="origin")
        with pytest.raises(ValueError, match=r"'size' is not allowed; expected one of: pattern, site, key"):
            profiler.get_memory_hotspots("c", by="size")
