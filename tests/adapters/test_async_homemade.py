"""Home-made async caches, each beside a bare twin: overlapping tasks, cancellation, timers and the byte law."""

from __future__ import annotations

import asyncio
import inspect
import random
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument, uninstrument
from cachescope.core import faults, open_frames
from cachescope.core.charging import simple_bytes
from cachescope.core.sizing import Sizer

HOWS = ("in place", "proxy")


@pytest.fixture
def profiler() -> Iterator[CacheMemoryProfiler]:
    faults.counts.clear()
    with CacheMemoryProfiler(ProfilerConfig(level="comprehensive", tick_seconds=30.0)) as profiler:
        yield profiler
    assert faults.counts == {}


def charge_of(entries: dict[Any, Any]) -> int:
    """The bytes of what is held, measured from scratch."""
    sizer = Sizer()
    total = 0
    for key, held in entries.items():
        total += simple_bytes(key)
        total += simple_bytes(held) if simple_bytes(held) >= 0 else sizer.measure(held).size_bytes
    return total


def check(profiler: CacheMemoryProfiler, name: str, entries: dict[Any, Any]) -> Any:
    """The byte law, and that the figures are of what is held."""
    profile = profiler.get_cache_profile(name)
    net = profile.total_allocated_bytes + profile.total_resized_bytes - profile.total_deallocated_bytes
    assert profile.net_memory_bytes == net
    assert profile.current_entries == len(entries)
    assert profile.net_memory_bytes == charge_of(entries)
    return profile


class AsyncLru:
    """An asyncio.Lock, an OrderedDict, batches by gather."""

    def __init__(self, capacity: int = 20) -> None:
        self._lock = asyncio.Lock()
        self._data: OrderedDict[str, Any] = OrderedDict()
        self.capacity = capacity
        self.hits = self.misses = self.evicted = 0

    async def get(self, key: str, default: Any = None) -> Any:
        async with self._lock:
            await asyncio.sleep(0)
            if key not in self._data:
                self.misses += 1
                return default
            self._data.move_to_end(key)
            self.hits += 1
            return self._data[key]

    async def set(self, key: str, value: Any) -> None:
        async with self._lock:
            await asyncio.sleep(0)
            self._data[key] = value
            self._data.move_to_end(key)
            if len(self._data) > self.capacity:
                self._data.popitem(last=False)
                self.evicted += 1

    async def delete(self, key: str) -> bool:
        async with self._lock:
            return self._data.pop(key, None) is not None

    async def clear(self) -> None:
        async with self._lock:
            self._data.clear()

    async def set_batch(self, items: dict[str, Any]) -> None:
        await asyncio.gather(*(self.set(key, value) for key, value in items.items()))

    async def get_batch(self, keys: list[str]) -> dict[str, Any]:
        values = await asyncio.gather(*(self.get(key) for key in keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def get_or_set(self, key: str, loader: Callable[[], Awaitable[Any]]) -> Any:
        value = await self.get(key)
        if value is None:
            value = await loader()
            await self.set(key, value)
        return value


class Unlocked:
    """No lock: sets of one key overlap; tuples with a time, timers by call_later."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Any, float]] = {}

    async def fetch(self, key: str) -> Any:
        await asyncio.sleep(0)
        entry = self.entries.get(key)
        return None if entry is None else entry[0]

    async def store(self, key: str, value: Any, ttl: float | None = None, pause: float = 0) -> None:
        self.entries[key] = (value, ttl or 0.0)
        await asyncio.sleep(pause)
        if ttl is not None:
            asyncio.get_running_loop().call_later(ttl, self.drop, key)

    def drop(self, key: str) -> None:
        self.entries.pop(key, None)

    async def sweep(self) -> None:
        self.entries.clear()


@pytest.mark.parametrize("how", HOWS)
async def test_async_cache_beside_a_bare_twin_gives_the_same_results_and_exact_figures(
    how: str, profiler: CacheMemoryProfiler
) -> None:
    bare, twin = AsyncLru(), AsyncLru()
    cache = instrument(bare, name="c", how=how, profiler=profiler)
    rng = random.Random(how)
    for step in range(2_500):
        key, value = f"key:{rng.randrange(45)}", "v" * rng.randrange(2, 200) + str(step)
        keys = sorted({f"key:{rng.randrange(45)}" for _ in range(4)})
        pick = rng.randrange(8)
        outcomes = []
        for each in (cache, twin):
            if pick < 2:
                outcomes.append(await each.get(key))
            elif pick < 4:
                outcomes.append(await each.set(key, value))
            elif pick == 4:
                outcomes.append(await each.delete(key))
            elif pick == 5:
                outcomes.append(await each.set_batch({k: value[at:] for at, k in enumerate(keys)}))
            elif pick == 6:
                outcomes.append(await each.get_batch(keys))
            elif step % 97 == 0:
                outcomes.append(await each.clear())
        assert outcomes == [] or outcomes[0] == outcomes[1]
        if step % 301 == 0:
            check(profiler, "c", bare._data)
    profile = check(profiler, "c", bare._data)
    assert (profile.hits, profile.misses) == (twin.hits, twin.misses)
    assert profile.total_evictions == twin.evicted
    assert profile.total_expirations == 0


@pytest.mark.parametrize("how", HOWS)
async def test_overlapping_tasks_leave_the_ledger_right(how: str, profiler: CacheMemoryProfiler) -> None:
    bare = Unlocked()
    cache = instrument(bare, name="c", how=how, profiler=profiler)
    rng = random.Random(7)

    async def worker(seed: int) -> None:
        rng = random.Random(seed)
        for step in range(300):
            key = f"k{rng.randrange(12)}"
            value = "v" * rng.randrange(2, 99) + str(step)
            pick = rng.randrange(5)
            if pick == 0:
                await cache.fetch(key)
            elif pick == 1:
                cache.drop(key)
            elif pick == 2:
                task = asyncio.create_task(cache.store(key, value, pause=0.0005))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            elif pick == 3:
                await asyncio.gather(cache.store(key, value), cache.store(key, value + "x"), cache.fetch(key))
            elif step % 40 == 0:
                await cache.sweep()

    await asyncio.gather(*(worker(rng.randrange(1 << 30)) for _ in range(8)))
    check(profiler, "c", bare.entries)


async def test_two_overlapping_sets_of_one_key_are_one_entry(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        bare = Unlocked()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        await asyncio.gather(cache.store("a", "x" * 100, pause=0.01), cache.store("a", "y" * 50))
        profile = check(profiler, how, bare.entries)
        assert profile.total_allocations == 1
        await asyncio.gather(cache.store("a", "x" * 100, pause=0.01), cache.store("a", "y" * 50))
        profile = check(profiler, how, bare.entries)
        assert profile.total_allocations == 1
        assert profile.total_resizes >= 1


async def test_get_or_set_is_a_miss_and_a_set_then_a_hit(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        bare = AsyncLru()
        cache = instrument(bare, name=how, how=how, profiler=profiler)

        async def load() -> str:
            await asyncio.sleep(0)
            return "loaded"

        async def fail() -> str:
            raise RuntimeError("no such row")

        assert await cache.get_or_set("a", load) == "loaded"
        assert await cache.get_or_set("a", load) == "loaded"
        with pytest.raises(RuntimeError, match="no such row"):
            await cache.get_or_set("b", fail)
        profile = check(profiler, how, bare._data)
        assert (profile.hits, profile.misses, profile.total_allocations) == (1, 2, 1)


async def test_timer_that_was_armed_inside_a_set_fires_as_an_operation_of_its_own(
    profiler: CacheMemoryProfiler,
) -> None:
    for how in HOWS:
        bare = Unlocked()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        await cache.store("a", "x", ttl=0.001)
        await cache.store("b", "y")
        await asyncio.sleep(0.05)
        assert list(bare.entries) == ["b"]
        profile = check(profiler, how, bare.entries)
        assert profile.total_evictions == 0
        assert profile.total_deletions + profile.total_expirations == 1


async def test_background_task_that_was_started_inside_a_set_is_not_part_of_it(
    profiler: CacheMemoryProfiler,
) -> None:
    class Spawning:
        def __init__(self) -> None:
            self.data: dict[str, Any] = {}
            self.task: asyncio.Task[None] | None = None

        async def get(self, key: str) -> Any:
            return self.data.get(key)

        async def set(self, key: str, value: Any) -> None:
            self.data[key] = value
            self.task = asyncio.create_task(self.later(key))

        async def delete(self, key: str) -> None:
            self.data.pop(key, None)

        async def later(self, key: str) -> None:
            await asyncio.sleep(0.001)
            await self.get(key)
            await self.delete(key)

    for how in HOWS:
        bare = Spawning()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        await cache.set("a", 1)
        assert bare.task is not None
        await bare.task
        profile = check(profiler, how, bare.data)
        assert (profile.total_deletions, profile.total_evictions) == (1, 0)
        assert profile.hits == (1 if how == "in place" else profile.hits)


async def test_sweeper_task_on_the_raw_dict_is_seen(profiler: CacheMemoryProfiler) -> None:
    class Swept:
        def __init__(self) -> None:
            self._store: dict[str, tuple[Any, float]] = {}
            self._now = 0.0
            self._sweeper = asyncio.create_task(self._run())

        async def _run(self) -> None:
            while True:
                await asyncio.sleep(0)
                for key in [key for key, (_, expires) in self._store.items() if expires < self._now]:
                    del self._store[key]

        async def get(self, key: str) -> Any:
            entry = self._store.get(key)
            return entry[0] if entry else None

        async def set(self, key: str, value: Any, ttl: float = 5) -> None:
            self._store[key] = (value, self._now + ttl)

    for how in HOWS:
        bare = Swept()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        rng = random.Random(3)
        for step in range(2_000):
            bare._now += rng.random()
            await cache.set(f"k{rng.randrange(100)}", "v" * rng.randrange(90) + str(step))
            await cache.get(f"k{rng.randrange(100)}")
            if step % 3 == 0:
                await asyncio.sleep(0)
        profile = check(profiler, how, bare._store)
        assert profile.total_evictions == 0
        assert profile.total_expirations > 100
        bare._sweeper.cancel()


async def test_methods_stay_what_they_were(profiler: CacheMemoryProfiler) -> None:
    class Mixed(AsyncLru):
        async def keys_of(self) -> AsyncIterator[str]:
            for key in list(self._data):
                await asyncio.sleep(0)
                yield key

        async def get_many(self, keys: list[str]) -> AsyncIterator[Any]:
            for key in keys:
                yield await self.get(key)

        def put(self, key: str, value: Any) -> Awaitable[None]:
            return self.set(key, value)

    for how in HOWS:
        cache = instrument(Mixed(), name=how, how=how, profiler=profiler)
        assert inspect.iscoroutinefunction(cache.get)
        assert inspect.signature(cache.get) == inspect.signature(Mixed().get)
        assert inspect.isasyncgenfunction(cache.get_many)
        assert not inspect.iscoroutinefunction(cache.put)
        await cache.put("a", 1)
        assert [key async for key in cache.keys_of()] == ["a"]
        assert [value async for value in cache.get_many(["a", "b"])] == [1, None]
        generator = cache.get_many(["a"])
        async for _ in generator:
            break
        await generator.aclose()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cache.get("a")
        assert ["coroutine 'AsyncLru.get' was never awaited" in str(w.message) for w in caught] == [True]
        assert type(uninstrument(cache)) is Mixed


class Waiting:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __await__(self) -> Generator[Any, None, Any]:
        return self.inner.__await__()  # type: ignore[no-any-return]


class Returning:
    """Plain methods that return coroutines, tasks, and awaitables of their own."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    async def _get(self, key: str) -> Any:
        await asyncio.sleep(0)
        return self.data[key]

    async def _put(self, key: str, value: Any) -> str:
        await asyncio.sleep(0)
        self.data[key] = value
        return "stored"

    def read(self, key: str) -> Any:
        if not isinstance(key, str):
            raise TypeError("a key is a str")
        return self._get(key)

    def write(self, key: str, value: Any) -> asyncio.Task[str]:
        return asyncio.create_task(self._put(key, value))

    def insert(self, key: str, value: Any) -> Waiting:
        return Waiting(self._put(key, value))


async def test_plain_methods_that_return_awaitables_are_settled_when_these_are_done(
    profiler: CacheMemoryProfiler,
) -> None:
    for how in HOWS:
        bare = Returning()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        with pytest.raises(TypeError, match="a key is a str"):
            cache.read(5)  # type: ignore[arg-type]  # refused at once, not when awaited
        task = cache.write("a", "x" * 10)
        assert type(task) is asyncio.Task
        assert await task == "stored"
        await asyncio.sleep(0)
        waiting = cache.insert("b", "y" * 20)
        assert isinstance(waiting, Waiting)
        assert await waiting == "stored"
        coroutine = cache.read("a")
        assert inspect.iscoroutine(coroutine)
        assert await coroutine == "x" * 10
        with pytest.raises(KeyError):
            await cache.read("c")
        task = cache.write("d", "never")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        profile = check(profiler, how, bare.data)
        assert (profile.hits, profile.misses, profile.total_allocations) == (1, 1, 2)


async def test_failed_task_that_nobody_asks_still_says_so(profiler: CacheMemoryProfiler) -> None:
    class Failing:
        def __init__(self) -> None:
            self.data: dict[str, Any] = {}

        def get(self, key: str) -> Any:
            return self.data.get(key)

        def set(self, key: str, value: Any) -> asyncio.Task[None]:
            return asyncio.create_task(self._fail())

        async def _fail(self) -> None:
            raise OSError("disk full")

    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["message"]))
    cache = instrument(Failing(), profiler=profiler)
    cache.set("a", 1)
    for _ in range(3):
        await asyncio.sleep(0)
    import gc

    gc.collect()
    assert said == ["Task exception was never retrieved"]


async def test_cached_task_is_a_value(profiler: CacheMemoryProfiler) -> None:
    class Deduplicating:
        """Callers of one key share one task, which is what the cache holds."""

        def __init__(self) -> None:
            self.tasks_by_key: dict[str, asyncio.Task[Any]] = {}

        def get_or_create(self, key: str, loader: Callable[[], Any]) -> asyncio.Task[Any]:
            task = self.tasks_by_key.get(key)
            if task is None:
                task = self.tasks_by_key[key] = asyncio.create_task(loader())
            return task

        def put(self, key: str, value: Any) -> None:
            self.tasks_by_key[key] = value

    async def load() -> str:
        return "x"

    for how in HOWS:
        cache = instrument(Deduplicating(), name=how, how=how, profiler=profiler)
        first = cache.get_or_create("a", load)
        assert cache.get_or_create("a", load) is first
        assert await first == "x"
        profile = profiler.get_cache_profile(how)
        assert (profile.hits, profile.misses, profile.current_entries) == (1, 1, 1)


async def test_timeouts_and_cancellation_come_through_and_leave_no_frame(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        bare = Unlocked()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.store("a", "x", pause=60), 0.001)
        task = asyncio.create_task(cache.store("b", "y", pause=60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_frames.frames.get() is None
        assert await cache.fetch("a") == "x"  # it was stored before it was cancelled
        profile = check(profiler, how, bare.entries)
        assert (profile.hits, profile.current_entries) == (1, 2)


async def test_closed_coroutine_leaves_no_frame(profiler: CacheMemoryProfiler) -> None:
    cache = instrument(Unlocked(), name="c", profiler=profiler)
    coroutine = cache.store("a", "x", pause=60)
    coroutine.send(None)
    coroutine.close()
    assert open_frames.frames.get() is None
    assert profiler.get_cache_profile("c").current_entries == 1


async def test_other_caches_inside_are_events_of_their_own(profiler: CacheMemoryProfiler) -> None:
    class Tiered(AsyncLru):
        def __init__(self, below: AsyncLru) -> None:
            super().__init__()
            self.below = below

        async def get(self, key: str, default: Any = None) -> Any:
            value = await super().get(key)
            if value is None:
                value = await self.below.get(key)
                if value is not None:
                    await self.set(key, value)
            return value

    for how in HOWS:
        below = instrument(AsyncLru(), name=f"below {how}", how=how, profiler=profiler)
        cache = instrument(Tiered(below), name=how, how=how, profiler=profiler)
        await below.set("a", "x" * 40)
        assert await cache.get("a") == "x" * 40
        assert await cache.get("a") == "x" * 40
        assert await cache.get("b") is None
        upper, lower = profiler.get_cache_profile(how), profiler.get_cache_profile(f"below {how}")
        assert (upper.hits, upper.misses, upper.total_allocations) == (1, 2, 1)
        assert (lower.hits, lower.misses, lower.total_allocations) == (1, 1, 1)
