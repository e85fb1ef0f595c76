"""profile_operation: each run's own bytes, however many overlap, on caches hooked in every way."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import OrderedDict
from contextlib import nullcontext
from typing import Any

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    ConfigurationError,
    OperationProfile,
    UnknownCacheError,
    instrument,
)
from profiler.driving import Driven, Tally, assert_counted, figures, size_of

# One run


def drive(driven: Driven) -> None:
    """10 sets, 5 hits, 3 misses, 2 deletes, 1 replacement; of a cache of 8 entries, some evictions."""
    for i in range(10):
        driven.set(f"user:{i}", 100 * i)
    for i in range(4, 9):
        driven.get(f"user:{i}")
    for i in range(3):
        driven.get(f"nobody:{i}")
    driven.delete("user:7")
    driven.delete("user:8")
    driven.set("user:3", 5_000)


def test_with_counts_what_happens_inside(profiler: CacheMemoryProfiler) -> None:
    """And nothing before or after."""
    cache = instrument(cachetools.LRUCache(8), name="c", profiler=profiler)
    before = Driven(cache, 8)
    for i in range(3):
        before.set(f"before:{i}", 77)
    with profiler.profile_operation("c", "import") as context:
        inside = Driven(cache, 8)
        inside.tally.held.update(before.tally.held)
        drive(inside)
        assert figures(context) == (0, 0, 0, 0)
    cache["after"] = bytes(9_000)
    assert_counted(context, inside.tally)
    assert (context.cache_name, context.operation, context.parent) == ("c", "import", None)
    assert context.rss_delta_bytes is not None
    assert context.traced_delta_bytes is None


async def test_async_with_and_both_decorators_count_the_same(profiler: CacheMemoryProfiler) -> None:
    """A block, a function, a coroutine function: one way of counting."""
    for number in range(4):
        name = f"c{number}"
        driven = Driven(instrument(cachetools.LRUCache(8), name=name, profiler=profiler), 8)

        @profiler.profile_operation(name, "job")
        def job(driven: Driven = driven) -> str:
            drive(driven)
            return "done"

        @profiler.profile_operation(name, "job")
        async def async_job(driven: Driven = driven) -> str:
            await asyncio.sleep(0)
            drive(driven)
            return "done"

        if number == 0:
            with profiler.profile_operation(name, "job"):
                drive(driven)
        elif number == 1:
            async with profiler.profile_operation(name, "job"):
                await asyncio.sleep(0)
                drive(driven)
        elif number == 2:
            assert job() == "done"
            assert job.__name__ == "job"
        else:
            assert await async_job() == "done"
            assert asyncio.iscoroutinefunction(async_job)
        (summary,) = profiler.get_operations(name)
        tally = driven.tally
        assert (summary.count, summary.failures) == (1, 0)
        assert (summary.total_allocated_bytes, summary.total_freed_bytes) == (tally.allocated, tally.freed)
        assert (summary.hits, summary.misses) == (5, 3)
        assert summary.memory_delta_bytes == tally.net


def test_an_exception_goes_through_and_is_named(profiler: CacheMemoryProfiler) -> None:
    """What the run did until then counts; the summary says how many failed, and of what."""
    cache = instrument(cachetools.LRUCache(100), name="c", profiler=profiler)
    for i, error in enumerate((ValueError, ValueError, KeyError, None)):
        key = f"user:{i}"
        expected = pytest.raises(error, match="on purpose") if error else nullcontext()
        with expected, profiler.profile_operation("c", "import") as context:
            cache[key] = bytes(100)
            if error is not None:
                raise error("on purpose")
        assert context.error == (error.__name__ if error else None)
        assert context.allocated_bytes == size_of(key, bytes(100))
    (summary,) = profiler.get_operations("c")
    assert (summary.count, summary.failures, summary.errors) == (4, 3, (("ValueError", 2), ("KeyError", 1)))


def test_what_runs_inside_counts_for_the_outer_too(profiler: CacheMemoryProfiler) -> None:
    """Nested runs of one cache, and of two."""
    users = instrument(cachetools.LRUCache(100), name="users", profiler=profiler)
    pages = instrument(cachetools.LRUCache(100), name="pages", profiler=profiler)
    with profiler.profile_operation("users", "outer") as outer:
        users["outer:1"] = bytes(10)
        with profiler.profile_operation("users", "inner") as inner, profiler.profile_operation("pages", "page") as page:
            users["inner:1"] = bytes(1_000)
            pages["page:1"] = bytes(5)
        users["outer:2"] = bytes(10)
    small, large = size_of("outer:1", bytes(10)), size_of("inner:1", bytes(1_000))
    assert (outer.allocated_bytes, inner.allocated_bytes) == (2 * small + large, large)
    assert page.allocated_bytes == size_of("page:1", bytes(5))
    assert (outer.parent, inner.parent, page.parent) == (None, "outer", "inner")
    assert [row.operation for row in profiler.get_operations()] == ["outer", "inner", "page"]
    assert [row.operation for row in profiler.get_operations("pages")] == ["page"]
    with pytest.raises(UnknownCacheError):
        profiler.get_operations("nobody")


@pytest.mark.parametrize("name", ["", None, 5, b"import"])
def test_a_name_that_is_none_is_refused(profiler: CacheMemoryProfiler, name: Any) -> None:
    """At once, before anything is opened."""
    with pytest.raises(ConfigurationError, match=r"operation: .* is not allowed; expected a non-empty str"):
        profiler.profile_operation("never seen", name)
    assert profiler.caches() == ()


# Overlap


async def test_a_thousand_overlapping_runs_on_one_cache_are_exact(profiler: CacheMemoryProfiler) -> None:
    """Each one's allocated, resized and freed bytes, evictions that it caused included, equal its own tally."""
    capacity = 500
    cache = instrument(cachetools.LRUCache(capacity), name="c", profiler=profiler)
    model: OrderedDict[str, int] = OrderedDict()
    chance, open_runs, most_open = random.Random(3), 0, 0

    async def job(number: int) -> tuple[OperationProfile, Tally]:
        nonlocal open_runs, most_open
        mine = Tally(capacity)
        mine.held = model  # all see one cache, and each counts what it does to it
        async with profiler.profile_operation("c", "job") as context:
            open_runs += 1
            most_open = max(most_open, open_runs)
            for _ in range(chance.randrange(2, 7)):
                await asyncio.sleep(chance.random() / 100)
                key = f"user:{chance.randrange(700)}"
                if chance.random() < 0.3:
                    assert (cache.get(key) is not None) == (key in model)
                    mine.get(key)
                elif chance.random() < 0.1 and key in model:
                    del cache[key]
                    mine.delete(key)
                else:
                    value = bytes(chance.randrange(1, 4_000))
                    cache[key] = value
                    mine.set(key, value)
            await asyncio.sleep(0.05)
            open_runs -= 1
        return context, mine

    finished = await asyncio.gather(*map(job, range(1_000)))
    assert most_open == 1_000
    for context, mine in finished:
        assert figures(context) == (mine.allocated, mine.freed, mine.counts["hit"], mine.counts["miss"])
        assert context.memory_delta_bytes == mine.net
    assert sum(mine.counts["eviction"] for _, mine in finished) > 300
    profile = profiler.get_cache_profile("c")
    assert sum(context.allocated_bytes for context, _ in finished) == profile.total_allocated_bytes
    assert sum(context.freed_bytes for context, _ in finished) == profile.total_deallocated_bytes
    (summary,) = profiler.get_operations("c")
    assert (summary.count, summary.failures, summary.total_allocated_bytes) == (1_000, 0, profile.total_allocated_bytes)
    assert summary.allocated_bytes.count == summary.duration_seconds.count == 1_000


def test_threads_are_told_apart(profiler: CacheMemoryProfiler) -> None:
    """Eight at once on one cache, without evictions: each run has its own bytes."""
    cache = instrument(cachetools.LRUCache(100_000), name="c", profiler=profiler)
    together = threading.Barrier(8)
    found: dict[int, tuple[OperationProfile, int]] = {}

    def work(number: int) -> None:
        with profiler.profile_operation("c", f"thread {number}") as context:
            together.wait(20)
            expected = 0
            for i in range(500):
                key, value = f"user:{number}:{i}", bytes(number * 10 + i)
                cache[key] = value
                expected += size_of(key, value)
        found[number] = (context, expected)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: run.allocated_bytes for number, (run, _) in found.items()} == {
        number: expected for number, (_, expected) in found.items()
    }
    assert len(profiler.get_operations("c")) == 8


async def test_tasks_and_threads_started_inside_count_for_the_run(profiler: CacheMemoryProfiler) -> None:
    """A run is a context's: what it starts with a copy of that context belongs to it."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)

    async def child(number: int) -> None:
        await asyncio.sleep(0.001)
        cache[f"task:{number}"] = bytes(50)

    async with profiler.profile_operation("c", "parent") as context:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(child(number))
        await asyncio.to_thread(cache.__setitem__, "thread:1", bytes(50))
    expected = sum(size_of(f"task:{n}", bytes(50)) for n in range(5)) + size_of("thread:1", bytes(50))
    assert context.allocated_bytes == expected


def test_a_name_that_is_not_known_is_a_manual_cache(profiler: CacheMemoryProfiler) -> None:
    """The block may come before the first track_ call."""
    with profiler.profile_operation("remote", "warm up") as context:
        profiler.track_allocation("remote", "key", 500)
        profiler.track_hit("remote", "key")
    assert figures(context) == (500, 0, 1, 0)
    assert profiler.get_cache_profile("remote").kind == "manual"


def test_after_the_last_run_the_hot_path_is_free_again(profiler: CacheMemoryProfiler) -> None:
    """Attribution is paid only while an operation is open."""
    cache = instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
    states = profiler.registry.records["c"].live_states()
    with profiler.profile_operation("c", "a"), profiler.profile_operation("c", "b"):
        assert all(state.armed & 4 for state in states)
        late = instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
        with profiler.profile_operation("c", "late") as context:
            late["key:1"] = bytes(10)
        assert context.allocated_bytes == size_of("key:1", bytes(10))
    assert not any(state.armed & 4 for state in profiler.registry.records["c"].live_states())
    assert len(cache) == 0
