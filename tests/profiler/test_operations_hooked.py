"""profile_operation on caches hooked in every way: a run's own bytes, and nobody else's."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    MemoryEventType,
    OperationProfile,
    autopatch,
    instrument,
)
from profiler.driving import Tally, assert_counted, size_of


class Homemade:
    """A cache of somebody's own, with words of its own."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def fetch(self, key: str) -> bytes | None:
        return self._entries.get(key)

    def store(self, key: str, value: bytes) -> None:
        self._entries[key] = value

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)


class AsyncHomemade:
    """The same for an event loop."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        await asyncio.sleep(0)
        return self._entries.get(key)

    async def set(self, key: str, value: bytes) -> None:
        await asyncio.sleep(0)
        self._entries[key] = value

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self._entries.pop(key, None)


Ways = tuple[str, Callable[[str], object], Callable[[str, bytes], object], Callable[[str], object]]


def patched(profiler: CacheMemoryProfiler) -> Iterator[Ways]:
    with autopatch("cachetools", profiler=profiler):
        cache: cachetools.LRUCache[str, bytes] = cachetools.LRUCache(100)
        (name,) = profiler.caches()
        yield name, cache.get, cache.__setitem__, cache.__delitem__
        del cache


def instrumented(profiler: CacheMemoryProfiler, how: str, bare: Callable[[], Any]) -> Iterator[Ways]:
    cache = instrument(bare(), name="c", how=how, profiler=profiler)
    yield "c", cache.get, lambda key, value: cache.__setitem__(key, value), lambda key: cache.__delitem__(key)


def homemade(profiler: CacheMemoryProfiler) -> Iterator[Ways]:
    words = {"fetch": "get", "store": "set", "drop": "delete"}
    cache = instrument(Homemade(), name="c", operations=words, profiler=profiler)
    yield "c", cache.fetch, cache.store, cache.drop


def manual(profiler: CacheMemoryProfiler) -> Iterator[Ways]:
    held: dict[str, bytes] = {}

    def get(key: str) -> None:
        (profiler.track_hit if key in held else profiler.track_miss)("m", key)

    def put(key: str, value: bytes) -> None:
        held[key] = value
        profiler.track_allocation("m", key, size_of(key, value))

    def drop(key: str) -> None:
        del held[key]
        profiler.track_event("m", MemoryEventType.EVICTION, key)

    yield "m", get, put, drop


WAYS: dict[str, Callable[[CacheMemoryProfiler], Iterator[Ways]]] = {
    "class patch": patched,
    "in place": functools.partial(instrumented, how="in place", bare=lambda: cachetools.LRUCache(100)),
    "proxy": functools.partial(instrumented, how="proxy", bare=lambda: cachetools.LRUCache(100)),
    "TTL": functools.partial(instrumented, how="auto", bare=lambda: cachetools.TTLCache(100, 60)),
    "dict": functools.partial(instrumented, how="auto", bare=dict),
    "OrderedDict": functools.partial(instrumented, how="auto", bare=OrderedDict),
    "home-made": homemade,
    "manual": manual,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_s_bytes_are_exact_however_the_cache_is_hooked(profiler: CacheMemoryProfiler, way: str) -> None:
    """Sets, replacements, deletes, hits and misses inside; the same outside are not the run's."""
    for name, get, put, drop in WAYS[way](profiler):

        def work(kind: str, tally: Tally, get: Any = get, put: Any = put, drop: Any = drop) -> None:
            for i in range(10):
                key, value = f"{kind}:{i}", bytes(100 + i)
                put(key, value)
                tally.set(key, value)
            for key in (f"{kind}:1", f"{kind}:2", f"{kind}:none"):
                get(key)
                tally.get(key)
            key, value = f"{kind}:5", bytes(4_000)
            put(key, value)
            tally.set(key, value)
            drop(f"{kind}:7")
            tally.delete(f"{kind}:7")

        outside, inside = Tally(), Tally()
        work("before", outside)
        with profiler.profile_operation(name, "job") as context:
            work("inside", inside)
        work("after", outside)
        assert_counted(context, inside)
        profile = profiler.get_cache_profile(name)
        assert profile.total_allocated_bytes == inside.allocated + outside.allocated
        assert profile.net_memory_bytes == inside.net + outside.net
        assert (profile.hits, profile.misses) == (6, 3)


async def test_a_run_on_an_async_cache_has_its_own_calls_alone(profiler: CacheMemoryProfiler) -> None:
    """Two tasks overlap inside the cache's own awaits."""
    cache = instrument(AsyncHomemade(), name="c", profiler=profiler)

    async def job(number: int) -> tuple[OperationProfile, Tally]:
        tally = Tally()
        async with profiler.profile_operation("c", "job") as context:
            for i in range(10):
                key, value = f"user:{number}:{i}", bytes(number + i)
                await cache.set(key, value)
                tally.set(key, value)
            for i in range(5, 15):
                await cache.get(f"user:{number}:{i}")
                tally.get(f"user:{number}:{i}")
            await cache.delete(f"user:{number}:3")
            tally.delete(f"user:{number}:3")
        return context, tally

    for context, tally in await asyncio.gather(*map(job, range(50))):
        assert_counted(context, tally)
