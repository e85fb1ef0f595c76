"""The registry and many caches: work by turns, a cap on memory, and samples of all of them."""

from __future__ import annotations

import time

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument
from cachescope.core.registry import _CACHES_PER_TURN
from cachescope.core.samplers import _READS_PER_SAMPLE, Samplers


@pytest.fixture
def shop():
    """Makes a profiler whose own thread sleeps, with so many caches that hold an entry each."""
    running = []

    def make(count, **settings):
        profiler = CacheMemoryProfiler(ProfilerConfig(tick_seconds=60.0, **settings)).start()
        running.append(profiler)
        caches = [instrument(cachetools.LRUCache(100), name=f"c{n}", profiler=profiler) for n in range(count)]
        for cache in caches:
            cache["a"] = "v" * 100
        profiler.registry.fold()
        return profiler, caches

    yield make
    for profiler in running:
        profiler.shutdown()


def test_of_many_caches_some_are_looked_after_at_a_time(shop):
    """Each has its turn, and a beat takes no longer for there being more of them."""
    profiler, _caches = shop(2 * _CACHES_PER_TURN + 5)
    done = []
    for _ in range(3):
        profiler.registry.maintain()
        done.append(sum(record.peak_bytes > 0 for record in profiler.registry.records.values()))
    assert done == [_CACHES_PER_TURN, 2 * _CACHES_PER_TURN, 2 * _CACHES_PER_TURN + 5]


def test_a_cache_that_came_later_has_its_turn_in_the_next_round(shop):
    """A round is of those that were there when it began."""
    profiler, _caches = shop(1)
    profiler.registry.maintain()
    late = instrument(cachetools.LRUCache(9), name="late", profiler=profiler)
    late["a"] = "v"
    profiler.registry.maintain()
    assert profiler.registry.records["late"].peak_bytes > 0


def test_rings_are_shortened_when_memory_is_short_and_there_is_little_to_drop(shop):
    """Where no cache follows many entries, buckets go; the counts of all the time stay whole."""
    profiler, caches = shop(60, memory_limit_bytes=1 << 20, hot_keys=16)
    records = list(profiler.registry.records.values())
    for turn in range(1, 21):
        for cache in caches:
            for key in range(20):
                cache[f"user:{key}"] = "v" * 50
        profiler.registry.fold()
        for record in records:
            record.close_bucket(time.monotonic() + 5.0 * turn)
    assert min(len(record.flow.windows.closed) for record in records) == 20
    before = profiler.registry.own_bytes()
    profiler.registry.maintain()
    assert max(len(record.flow.windows.closed) for record in records) == 3
    assert profiler.registry.own_bytes() < before / 2
    assert all(record.flow.windows.all().lives.sizes.count == 1 + 20 * 20 for record in records)


def test_every_cache_is_sampled_however_many_there_are(shop):
    """Not all can be armed at once: others come first each time."""
    profiler, _caches = shop(600)
    samplers = Samplers(profiler.registry)
    states = [state for record in profiler.registry.records.values() for state in record.live_states()]
    for state in states:
        state.quota = 0
    samplers.sample_reads()
    assert 0 < sum(state.quota == _READS_PER_SAMPLE for state in states) < 600
    samplers.sample_reads()
    samplers.sample_reads()
    assert all(state.quota == _READS_PER_SAMPLE for state in states)


def test_look_ups_are_counted_like_totals(shop):
    """The quick count is the exact one, of objects that live and that went, and after a reset."""
    profiler, caches = shop(2)
    record = profiler.registry.records["c0"]

    def agree():
        totals = record.totals()
        return record.lookups() == totals["hits"] + totals["misses"]

    caches[0].get("a"), caches[0].get("b"), caches[0].get("c")
    assert agree()
    assert record.lookups() == 3
    profiler.registry.reset()
    caches[0].get("a")
    assert agree()
    assert record.lookups() == 1
    caches.clear()
    profiler.registry.fold()
    record.sum_up_retired()
    assert agree()
    assert record.lookups() == 1
