"""Allocation patterns: kinds of events, sizes, lifetimes, use and who allocates, against the program's own tally."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from itertools import pairwise

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument
from profiler.driving import Driven, close_buckets, events_of, size_of, wait_until


def at_random(driven: Driven, operations: int, seed: int = 0, keys: int = 300) -> None:
    """Sets, replacements, look-ups and deletes."""
    chance = random.Random(seed)
    for _ in range(operations):
        key, what = f"user:{chance.randrange(keys)}", chance.random()
        if what < 0.5:
            driven.set(key, chance.randrange(1, 2_000))
        elif what < 0.9:
            driven.get(key)
        elif key in driven.tally.held:
            driven.delete(key)


def expected_of(driven: Driven) -> dict[str, tuple[int, int]]:
    return {event: (count, driven.tally.bytes[event]) for event, count in driven.tally.counts.items()}


def test_events_equal_the_tally_in_counts_and_bytes(profiler: CacheMemoryProfiler) -> None:
    """Of every kind, and the ratios follow from them."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    at_random(driven, 4_000)
    found = profiler.get_allocation_patterns("c")
    tally = driven.tally
    assert events_of(found) == expected_of(driven)
    assert found.turnover_ratio == pytest.approx(tally.freed / tally.allocated)
    left = tally.counts["eviction"] + tally.counts["deallocation"]
    assert found.churn_per_s * found.duration_seconds == pytest.approx(tally.counts["allocation"] + left)
    assert found.churn_bytes_per_s * found.duration_seconds == pytest.approx(tally.allocated + tally.freed)
    for row in found.events:
        assert row.count_per_s * found.duration_seconds == pytest.approx(row.count)
        assert row.bytes_per_s * found.duration_seconds == pytest.approx(row.size_bytes)
    assert found.sampling_rate == 1.0


def test_sizes_and_lifetimes_are_those_of_the_entries(profiler: CacheMemoryProfiler) -> None:
    """Quantiles within their stated error; lifetimes by cause, as old as the entries were."""
    cache = instrument(cachetools.LRUCache(200), name="c", profiler=profiler)
    sizes = []
    for i in range(200):
        cache[f"user:{i}"] = bytes(10 * i)
        sizes.append(size_of(f"user:{i}", bytes(10 * i)))
    time.sleep(0.1)
    for i in range(50):
        del cache[f"user:{i}"]
    for i in range(80):
        cache[f"page:{i}"] = bytes(10)
        sizes.append(size_of(f"page:{i}", bytes(10)))
    cache.clear()
    found = profiler.get_allocation_patterns("c")
    spread = found.entry_bytes
    assert spread is not None
    assert (spread.count, spread.minimum, spread.maximum) == (280, min(sizes), max(sizes))
    assert spread.mean == pytest.approx(sum(sizes) / 280)
    ranked = sorted(sizes)
    assert spread.p50 == pytest.approx(ranked[139], rel=spread.relative_error + 0.02)
    assert spread.p99 == pytest.approx(ranked[277], rel=spread.relative_error + 0.02)
    assert sum(bar.count for bar in spread.histogram) == 280
    ages = {row.cause: row.age_seconds for row in found.lifetimes}
    assert {cause: age.count for cause, age in ages.items()} == {"deleted": 50, "evicted": 30, "cleared": 200}
    assert all(0.1 <= ages[cause].minimum <= ages[cause].maximum < 20 for cause in ("deleted", "evicted"))
    keys = [f"user:{i}" for i in range(200)] + [f"page:{i}" for i in range(80)]
    key_bytes = sum(map(len, keys)) + 280 * size_of("", b"") - 280 * len(b"") - 280 * b"".__sizeof__()
    assert found.key_to_value_ratio == pytest.approx(key_bytes / (sum(sizes) - key_bytes))


def test_fragmentation_is_what_containers_and_allocator_hold_beside_the_payload(
    profiler: CacheMemoryProfiler,
) -> None:
    """Many small entries waste more than a few large ones; an empty cache says nothing."""
    small = instrument(cachetools.LRUCache(10_000), name="small", profiler=profiler)
    large = instrument(cachetools.LRUCache(10_000), name="large", profiler=profiler)
    instrument(cachetools.LRUCache(10), name="empty", profiler=profiler)
    for i in range(2_000):
        small[f"{i}"] = b"x"
        large[f"{i}"] = bytes(5_000)
    ratios = {name: profiler.get_allocation_patterns(name).fragmentation_ratio for name in ("small", "large", "empty")}
    assert ratios["empty"] is None
    assert ratios["small"] is not None
    assert ratios["large"] is not None
    assert 0.3 < ratios["small"] < 0.9
    assert 0.0 < ratios["large"] < 0.1
    profile = profiler.get_cache_profile("small")
    payload = profile.net_memory_bytes
    assert ratios["small"] >= 1 - payload / profile.current_memory_bytes
    assert ratios["small"] == profile.fragmentation_ratio


def test_threads_are_told_apart_by_name(profiler: CacheMemoryProfiler) -> None:
    """Counts and bytes of each; together they are the cache's."""
    cache = instrument(cachetools.LRUCache(10_000), name="c", profiler=profiler)
    wanted = {"reader": (30, 100), "importer": (50, 900)}
    done = threading.Event()

    def work(name: str) -> None:
        count, size = wanted[name]
        for i in range(count):
            cache[f"{name}:{i}"] = bytes(size)
        done.wait(20)

    threads = [threading.Thread(target=work, args=(name,), name=name) for name in wanted]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(cache) == 80, "both threads")
    found = profiler.get_allocation_patterns("c")
    done.set()
    for thread in threads:
        thread.join()
    assert [(row.label, row.count) for row in found.by_thread] == [("importer", 50), ("reader", 30)]
    for row in found.by_thread:
        count, size = wanted[row.label]
        assert row.size_bytes == sum(size_of(f"{row.label}:{i}", bytes(size)) for i in range(count))
    assert sum(row.share for row in found.by_thread) == pytest.approx(1.0)
    assert [row.label for row in found.by_pattern] == ["importer:{int}", "reader:{int}"]
    assert sum(row.size_bytes for row in found.by_pattern) == sum(row.size_bytes for row in found.by_thread)


async def test_tasks_are_told_apart_by_their_coroutine(profiler: CacheMemoryProfiler) -> None:
    """However many tasks run one coroutine, it is one row; what runs in no task has none."""
    cache = instrument(cachetools.LRUCache(10_000), name="c", profiler=profiler)

    async def crawl(number: int) -> None:
        for i in range(5):
            cache[f"page:{number}:{i}"] = bytes(500)
            await asyncio.sleep(0)

    async def index(number: int) -> None:
        cache[f"word:{number}"] = bytes(20)

    await asyncio.gather(*(crawl(n) for n in range(10)), *(index(n) for n in range(10)))
    await asyncio.to_thread(lambda: cache.__setitem__("outside", bytes(10)))
    found = profiler.get_allocation_patterns("c")
    assert {row.label.rpartition(".")[2]: row.count for row in found.by_task} == {"crawl": 50, "index": 10}
    assert sum(row.share for row in found.by_task) == pytest.approx(1.0)


def test_a_window_begins_in_the_middle(profiler: CacheMemoryProfiler) -> None:
    """What came before is left out, what was set before and leaves inside counts as freed."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    at_random(driven, 1_000, seed=1)
    time.sleep(0.3)
    close_buckets(profiler)
    between, before = time.time(), expected_of(driven)
    at_random(driven, 1_000, seed=2)
    since = time.time() - between
    found = profiler.get_allocation_patterns("c", window_minutes=(since + 0.1) / 60)
    after = expected_of(driven)
    assert events_of(found) == {
        event: (count - before.get(event, (0, 0))[0], size - before.get(event, (0, 0))[1])
        for event, (count, size) in after.items()
    }
    assert found.duration_seconds == pytest.approx(since + 0.1, abs=0.15)
    assert found.start_time < found.end_time
    assert found.turnover_ratio is not None
    assert events_of(profiler.get_allocation_patterns("c", window_minutes=None)) == after


def test_windows_of_any_length_nest(profiler: CacheMemoryProfiler) -> None:
    """A longer one has at least as many events; the longest has all."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    for turn in range(12):
        at_random(driven, 60, seed=turn)
        time.sleep(0.03)
        close_buckets(profiler)
    counts = []
    for share in (0.001, 0.1, 0.3, 0.5, 0.8, 60):
        found = profiler.get_allocation_patterns("c", window_minutes=share / 60)
        counts.append(sum(row.count for row in found.events))
    assert all(one <= other for one, other in pairwise(counts))
    assert counts[-1] == sum(driven.tally.counts.values())
    assert len(set(counts)) > 2


def test_an_empty_window_has_no_events_and_no_ratio(profiler: CacheMemoryProfiler) -> None:
    """Nothing happened lately: rates are 0, ratios are None."""
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    at_random(driven, 200)
    close_buckets(profiler)
    time.sleep(0.2)
    found = profiler.get_allocation_patterns("c", window_minutes=0.05 / 60)
    assert (found.events, found.churn_per_s, found.turnover_ratio, found.entry_bytes) == ((), 0.0, None, None)
    assert (found.by_pattern, found.by_thread, found.lifetimes) == ((), (), ())
    never = instrument(cachetools.LRUCache(5), name="never used", profiler=profiler)
    found = profiler.get_allocation_patterns("never used")
    assert (found.events, found.turnover_ratio, found.one_hit_wonder_ratio, len(never)) == ((), None, None, 0)


# Use


def test_one_hit_wonders_and_efficiency_are_those_of_the_program() -> None:
    """Of entries that are set and leave, one half is read shortly before it leaves, the other never."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=0.02)) as profiler:
        cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)
        record = profiler.registry.records["c"]
        wait_until(lambda: record.watched, "reads to be watched")
        for i in range(200):
            cache[f"read:{i}"] = bytes(100)
            cache[f"never:{i}"] = bytes(300)
        time.sleep(0.3)
        for i in range(200):
            assert cache[f"read:{i}"] is not None
        for i in range(200):
            del cache[f"read:{i}"], cache[f"never:{i}"]
        found = profiler.get_allocation_patterns("c")
        assert found.one_hit_wonder_ratio == 0.5
        read, never = size_of("read:10", bytes(100)), size_of("never:10", bytes(300))
        assert found.one_hit_wonder_bytes_ratio == pytest.approx(never / (read + never), rel=0.02)
        assert found.memory_efficiency_ratio == pytest.approx(read / (read + never), rel=0.15)
        assert found.watched_ratio > 0.5


def test_below_detailed_nothing_is_said_of_use() -> None:
    """Reads of single entries are not watched at BASIC: None, and not a number."""
    with CacheMemoryProfiler(ProfilerConfig(level="basic", tick_seconds=0.02)) as profiler:
        driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
        for seed in range(5):
            at_random(driven, 200, seed)
            time.sleep(0.05)
        found = profiler.get_allocation_patterns("c")
        assert (found.memory_efficiency_ratio, found.one_hit_wonder_ratio, found.watched_ratio) == (None, None, 0.0)
        assert events_of(found) == expected_of(driven)


def test_expiry_is_an_event_of_its_own(profiler: CacheMemoryProfiler) -> None:
    """What leaves a TTL cache for its age is no eviction."""
    now = [0.0]
    cache = instrument(cachetools.TTLCache(1_000, 60, timer=lambda: now[0]), name="c", profiler=profiler)
    freed = 0
    for i in range(40):
        cache[f"user:{i}"] = bytes(i)
        freed += size_of(f"user:{i}", bytes(i))
    now[0] = 61.0
    cache.expire()
    found = events_of(profiler.get_allocation_patterns("c"))
    assert found == {"allocation": (40, freed), "expiration": (40, freed)}
