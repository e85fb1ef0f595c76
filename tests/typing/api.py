"""User code as mypy sees it: checked, never run."""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Hashable, MutableMapping
from pathlib import Path
from typing import Any, assert_type

from cachetools import LFUCache, LRUCache

from cachescope import (
    AllocationPatterns,
    CacheMemoryProfiler,
    CacheWindow,
    MemoryAllocation,
    MemoryEventType,
    MemoryHotspot,
    MemoryProfile,
    MemorySnapshot,
    MemoryTrend,
    OperationProfile,
    OperationSummary,
    PerformanceMetrics,
    ProfilingLevel,
    Report,
    SnapshotDiff,
    profiled_cache,
)
from cachescope.instrument.cached_function import AsyncCachedFunction, CachedFunction, CachedMethod
from cachescope.instrument.memo import CacheInfo


class User:
    def __init__(self, name: str) -> None:
        self.name = name


# Functions


@profiled_cache
def load_user(user_id: int, *, fresh: bool = False) -> User:
    return User(str(user_id))


assert_type(load_user(1), User)
assert_type(load_user(user_id=1, fresh=True), User)
load_user("1")  # type: ignore[arg-type]  # the parameters are the function's own
load_user()  # type: ignore[call-arg]
load_user(1, stale=True)  # type: ignore[call-arg]
assert_type(load_user.cache_info(), CacheInfo)
assert_type(load_user.cache_info().hits, int)
assert_type(load_user.cache_info().maxsize, int | None)
assert_type(load_user.cache_parameters(), dict[str, Any])
assert_type(load_user.cache, MutableMapping[Any, Any])
assert_type(load_user.cache_key(1), Hashable)
assert_type(load_user.__wrapped__(1), User)
load_user.cache_clear()
load_user.cache_purge()  # type: ignore[attr-defined]


@profiled_cache(maxsize=1_000, ttl=60, name="shop.prices", typed=True)
def price(article: str, currency: str = "EUR") -> float:
    return len(article) * 1.5


assert_type(price("tea"), float)
price(3)  # type: ignore[arg-type]
price.cache_clear()


def by_name(user: User, **options: str) -> Hashable:
    return user.name


def weigh(key: Hashable, value: list[str]) -> int:
    return sum(map(len, value))


@profiled_cache(cache=LFUCache(100), key=by_name, lock=threading.Lock(), weigher=weigh)
def orders(user: User) -> list[str]:
    return [user.name]


assert_type(orders(User("ada")), list[str])


@profiled_cache(maxsize=None, lock=None, profiler=CacheMemoryProfiler())
def forever(*numbers: int) -> int:
    return sum(numbers)


assert_type(forever(1, 2, 3), int)
assert_type(profiled_cache(len, maxsize=5)("text"), int)

profiled_cache(maxsize="many")  # type: ignore[call-overload]
profiled_cache(max_size=5)  # type: ignore[call-overload]


# Coroutine functions


@profiled_cache
async def fetch(url: str) -> bytes:
    return url.encode()


@profiled_cache(ttl=30.0)
async def fetch_all(*urls: str) -> list[bytes]:
    return [await fetch(url) for url in urls]


async def main() -> None:
    assert_type(await fetch("https://example.org"), bytes)
    assert_type(await fetch_all("a", "b"), list[bytes])
    pending: Coroutine[Any, Any, bytes] = fetch("a")
    await pending
    await fetch(1)  # type: ignore[arg-type]
    fetch.cache_clear()
    assert_type(fetch.cache_info(), CacheInfo)


# Methods


class Shop:
    @profiled_cache
    def find(self, article: str, limit: int = 10) -> list[User]:
        return [User(article)] * limit

    @profiled_cache(maxsize=10)
    async def stock(self, article: str) -> int:
        return len(article)

    @staticmethod
    @profiled_cache
    def tax(country: str) -> float:
        return 0.19

    @property
    @profiled_cache
    def owner(self) -> User:
        return User("ada")


async def visit(shop: Shop) -> None:
    assert_type(shop.find("tea"), list[User])
    assert_type(shop.find("tea", limit=3), list[User])
    wants_finder(shop.find)
    shop.find(5)  # type: ignore[arg-type]
    shop.find.cache_clear()
    assert_type(shop.find.cache_info(), CacheInfo)
    assert_type(Shop.find(shop, "tea"), list[User])
    assert_type(await shop.stock("tea"), int)
    assert_type(shop.stock.cache_info().currsize, int)
    assert_type(Shop.tax("de"), float)
    # shop.tax("de") works, but mypy would bind the object inside a staticmethod.
    assert_type(shop.owner, User)


# Classes


@profiled_cache
class Sessions(LRUCache[str, User]):
    def newest(self) -> User | None:
        return None


@profiled_cache(name="shop.articles", operations={"fetch": "get", "store": "set"}, weigher=weigh)
class Articles:
    def __init__(self, size: int) -> None:
        self.size = size

    def fetch(self, key: str) -> User | None:
        return None

    def store(self, key: str, value: User) -> None: ...


assert_type(Sessions(10), Sessions)
assert_type(Sessions(10).newest(), User | None)
assert_type(Articles(5), Articles)
assert_type(Articles(5).fetch("tea"), User | None)
Articles("5")  # type: ignore[arg-type]
assert_type(profiled_cache(Articles), type[Articles])


# What is handed on


def wants_finder(find: CachedMethod[[str, int], list[User]]) -> list[User]:
    return find("tea", 5)


def wants_function(function: CachedFunction[[int], str]) -> str:
    return function(1)


def wants_async(function: AsyncCachedFunction[[int], str]) -> None:
    function.cache_clear()


@profiled_cache
def text(number: int, /) -> str:
    return str(number)


@profiled_cache
async def slow_text(number: int, /) -> str:
    return str(number)


wants_function(text)
wants_async(slow_text)
wants_function(slow_text)  # type: ignore[arg-type]


# Questions


def ask(profiler: CacheMemoryProfiler) -> None:
    assert_type(profiler.caches(), tuple[str, ...])
    assert_type(profiler.get_cache_profile("users"), MemoryProfile)
    assert_type(profiler.get_memory_hotspots(), list[MemoryHotspot])
    assert_type(profiler.get_memory_hotspots("users", 5, "site", window_minutes=1.5, min_bytes=10), list[MemoryHotspot])
    assert_type(profiler.get_allocation_patterns("users", window_minutes=None), AllocationPatterns)
    assert_type(profiler.get_performance_metrics("users"), PerformanceMetrics)
    assert_type(profiler.get_operations(), tuple[OperationSummary, ...])
    assert_type(profiler.get_memory_trend(), MemoryTrend)
    assert_type(profiler.get_memory_trend("users", 60), MemoryTrend)
    assert_type(profiler.get_memory_snapshots(), tuple[MemorySnapshot, ...])
    assert_type(profiler.report(), Report)
    assert_type(profiler.write_capture("x.capture"), Path)
    before = profiler.take_memory_snapshot()
    assert_type(profiler.take_memory_snapshot().diff(before), SnapshotDiff)
    profiler.set_level("detailed")
    profiler.raise_level(ProfilingLevel.COMPREHENSIVE)
    profiler.reset_profiling_data()
    profiler.get_memory_hotspots("users", 5, "site", 1.5)  # type: ignore[call-arg]  # the window is named
    profiler.get_allocation_patterns()  # type: ignore[call-arg]
    profiler.get_allocation_patterns("users", "60")  # type: ignore[arg-type]
    profiler.get_cache_profile(5)  # type: ignore[arg-type]


def watch(profiler: CacheMemoryProfiler) -> None:
    window = profiler.start_cache_profiling("users")
    assert_type(window, CacheWindow)
    assert_type(window.profile(), MemoryProfile)
    assert_type(profiler.stop_cache_profiling("users"), MemoryProfile)


# Operations


async def attribute(profiler: CacheMemoryProfiler) -> None:
    with profiler.profile_operation("users", "import") as run:
        assert_type(run, OperationProfile)
    async with profiler.profile_operation("users", "import") as async_run:
        assert_type(async_run, OperationProfile)
        assert_type(async_run.memory_delta_bytes, int)

    @profiler.profile_operation("users", "import")
    def load(path: str) -> int:
        return len(path)

    @profiler.profile_operation("users", "import")
    async def load_slowly(path: str) -> int:
        return len(path)

    assert_type(load("a"), int)
    assert_type(await load_slowly("a"), int)
    load(5)  # type: ignore[arg-type]
    run.hits = 5  # type: ignore[misc]  # results are frozen


# Subscribers


def note(event: MemoryAllocation) -> None:
    assert_type(event.event_type, MemoryEventType)


async def note_slowly(event: MemoryAllocation) -> None:
    note(event)


def note_wrongly(event: str) -> None: ...


def subscribe(profiler: CacheMemoryProfiler) -> None:
    with profiler.subscribe(note) as subscription:
        assert_type(subscription.dropped, int)
    profiler.subscribe(note_slowly, kinds=None, caches=["users", "shop.*"]).cancel()
    profiler.subscribe(note, kinds=[MemoryEventType.PRESSURE])
    profiler.subscribe(note_wrongly)  # type: ignore[arg-type]
    profiler.subscribe(note, [MemoryEventType.PRESSURE])  # type: ignore[call-arg]
