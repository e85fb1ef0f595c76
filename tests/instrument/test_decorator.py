"""profiled_cache: functions behave like their lru_cached twins, classes like themselves, and the profile is right."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import functools
import gc
import inspect
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import UserDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cachetools
import pytest
from cachetools import LRUCache, TTLCache

from cachescope import (
    CacheMemoryProfiler,
    ConfigurationError,
    NotACacheError,
    ProfilerConfig,
    ProfilingLevel,
    UnknownCacheError,
    autopatch,
    current_profiler,
    instrument,
    profiled_cache,
    uninstrument,
)
from cachescope.core import current, faults
from cachescope.core.state import ATTRIBUTE

CACHETOOLS = tuple(map(int, cachetools.__version__.split(".")[:2]))


@pytest.fixture
def profiler() -> Iterator[CacheMemoryProfiler]:
    with CacheMemoryProfiler(ProfilerConfig(level=ProfilingLevel.DETAILED, tick_seconds=60.0)) as profiler:
        yield profiler


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = dict(faults.counts)
    yield
    running = current.running_profiler()
    if running is not None:
        running.shutdown()
    assert dict(faults.counts) == before, "a fault of ours was swallowed"


def figures(profiler: CacheMemoryProfiler, name: str) -> tuple[int, int, int]:
    profile = profiler.get_cache_profile(name)
    return profile.hits, profile.misses, profile.current_entries


def text(x: Any) -> str:
    return str(x)


# Beside lru_cache


def test_plain_function_gives_what_lru_cache_gives(profiler):
    def body(x: Any, y: Any = 1, *rest: Any, **options: Any) -> tuple[Any, ...]:
        return (x, y, rest, sorted(options.items()))

    ours, theirs = profiled_cache(body, profiler=profiler, name="f"), functools.lru_cache(body)
    for args, kwargs in [((1,), {}), ((1,), {}), ((1, 2.0), {}), ((1, 2), {}), ((1,), {"a": 1}), ((1,), {"a": 1})]:
        assert ours(*args, **kwargs) == theirs(*args, **kwargs)
    assert ours.cache_info() == tuple(theirs.cache_info())
    assert ours.cache_parameters() == theirs.cache_parameters()
    assert figures(profiler, "f") == (ours.cache_info().hits, ours.cache_info().misses, ours.cache_info().currsize)


def test_least_recently_used_goes_first_as_with_lru_cache(profiler):
    calls: list[int] = []
    twin_calls: list[int] = []
    ours = profiled_cache(maxsize=3, profiler=profiler, name="f")(lambda x: calls.append(x))
    theirs = functools.lru_cache(maxsize=3)(lambda x: twin_calls.append(x))
    for x in [1, 2, 3, 1, 4, 2, 1, 5, 3, 3, 1, 2]:
        ours(x)
        theirs(x)
    assert calls == twin_calls
    assert ours.cache_info() == tuple(theirs.cache_info())
    assert profiler.get_cache_profile("f").total_evictions == len(calls) - 3


@pytest.mark.parametrize("maxsize", [0, 1, None])
def test_sizes_at_the_edge(profiler, maxsize):
    ours = profiled_cache(maxsize=maxsize, profiler=profiler, name="f")(text)
    theirs = functools.lru_cache(maxsize=maxsize)(text)
    for x in [1, 1, 2, 1, 3, 3]:
        assert ours(x) == theirs(x)
    assert ours.cache_info() == tuple(theirs.cache_info())
    info = theirs.cache_info()
    assert figures(profiler, "f") == (info.hits, info.misses, info.currsize)


def test_typed_tells_3_and_3_0_apart(profiler):
    ours = profiled_cache(typed=True, profiler=profiler, name="f")(text)
    assert (ours(3), ours(3.0), ours(3)) == ("3", "3.0", "3")
    assert ours.cache_info()[:2] == (1, 2)
    assert ours.cache_parameters() == {"maxsize": 128, "typed": True}


def test_unhashable_argument_is_the_type_error_of_lru_cache(profiler):
    ours = profiled_cache(profiler=profiler, name="f")(len)
    with pytest.raises(TypeError) as theirs:
        functools.lru_cache(len)([])
    with pytest.raises(TypeError) as error:
        ours([])
    assert str(error.value) == str(theirs.value)
    assert error.value.__suppress_context__
    assert ours.cache_info()[:2] == (0, 0)
    assert figures(profiler, "f") == (0, 0, 0)


def test_exceptions_are_not_cached_and_have_no_frame_or_context_more_than_needed(profiler):
    calls = []

    @profiled_cache(profiler=profiler, name="f")
    def f(x):
        calls.append(x)
        raise ZeroDivisionError(x)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as error:
            f(1)
        assert error.value.__context__ is None
    assert calls == [1, 1]
    assert figures(profiler, "f") == (0, 2, 0)


def test_stored_none_is_a_hit(profiler):
    f = profiled_cache(profiler=profiler, name="f")(lambda x: None)
    assert (f(1), f(1)) == (None, None)
    assert figures(profiler, "f") == (1, 1, 1)


def test_recursive_function_computes_each_value_once(profiler):
    @profiled_cache(maxsize=None, profiler=profiler, name="fib")
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(80) == 23416728348467685
    assert fib.cache_info() == (78, 81, None, 81)
    assert figures(profiler, "fib") == (78, 81, 81)


def test_clear_counts_anew_and_what_was_being_computed_is_not_stored(profiler):
    started, go_on = threading.Event(), threading.Event()

    @profiled_cache(profiler=profiler, name="f")
    def f(x):
        started.set()
        assert go_on.wait(10)
        return x

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(f, 1)
        assert started.wait(10)
        f.cache_clear()
        go_on.set()
        assert future.result(10) == 1
    assert f.cache_info() == (0, 0, 128, 0)
    f(1)
    f(1)
    assert f.cache_info() == (1, 1, 128, 1)


def test_value_too_large_is_returned_and_not_cached(profiler):
    f = profiled_cache(cache=LRUCache(10, getsizeof=len), profiler=profiler, name="f")(lambda n: "x" * n)
    assert (f(5), f(50), f(50), f(5)) == ("x" * 5, "x" * 50, "x" * 50, "x" * 5)
    assert f.cache_info() == (1, 3, 10, 5)
    assert figures(profiler, "f") == (1, 3, 1)


def test_what_can_be_used_once_is_not_cached(profiler, caplog):
    f = profiled_cache(profiler=profiler, name="f")(lambda n: (i for i in range(n)))
    assert (list(f(3)), list(f(3))) == ([0, 1, 2], [0, 1, 2])
    assert "not cached" in caplog.text


# As a function


@profiled_cache(name="module level")
def module_level(x: int, /, y: str = "y", *, z: float = 0.5) -> str:
    """The docstring."""
    return f"{x}{y}{z}"


@profiled_cache
async def async_module_level(x: int) -> int:
    return x


class Methods:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    @profiled_cache(name="Methods.find")
    def find(self, x: int) -> tuple[Methods, int]:
        self.calls.append(x)
        return self, x

    @profiled_cache(name="Methods.afind")
    async def afind(self, x: int) -> tuple[Methods, int]:
        self.calls.append(x)
        return self, x


def test_signature_name_and_doc_are_kept():
    bare = module_level.__wrapped__
    assert inspect.signature(module_level) == inspect.signature(bare)
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "The docstring."
    assert module_level.__module__ == __name__
    assert module_level.__annotations__ == bare.__annotations__
    assert inspect.getsource(module_level) == inspect.getsource(bare)
    assert not inspect.iscoroutinefunction(module_level)
    assert inspect.iscoroutinefunction(async_module_level)
    assert inspect.iscoroutinefunction(Methods().afind)
    assert not hasattr(module_level, "no_such_attribute")


@pytest.mark.parametrize("function", [module_level, async_module_level, Methods.find, Methods.afind])
def test_pickles_by_name_and_copies_are_itself(function):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) is function
    assert copy.copy(function) is function
    assert copy.deepcopy([function])[0] is function
    assert weakref.ref(function)() is function


def test_partial_and_callable_object_are_functions_too(profiler):
    class Adder:
        def __call__(self, x):
            return x + 1

    f = profiled_cache(functools.partial(pow, 2), profiler=profiler)
    g = profiled_cache(Adder(), profiler=profiler)
    assert (f(3), f(3), g(1), g(1)) == (8, 8, 2, 2)
    assert figures(profiler, "functools:partial") == (1, 1, 1)
    assert any(name.endswith("Adder") for name in profiler.caches())


def test_key_lock_and_cache_are_what_was_given(profiler):
    class Lock:
        entered = 0
        inside = False

        def __enter__(self):
            assert not self.inside
            self.inside = True
            self.entered += 1

        def __exit__(self, *_):
            self.inside = False

    lock, cache = Lock(), LRUCache(5)

    @profiled_cache(cache=cache, key=lambda user, **_: user["id"], lock=lock, profiler=profiler, name="f")
    def f(user, **options):
        assert not lock.inside, "held while computing"
        return user["name"]

    assert f({"id": 7, "name": "ada"}) == "ada"
    assert f({"id": 7, "name": "bob"}, verbose=True) == "ada"
    assert figures(profiler, "f") == (1, 1, 1)
    assert f.cache is cache
    assert dict(cache) == {7: "ada"}
    assert f.cache_lock is lock
    assert f.cache_key({"id": 3}) == 3
    assert lock.entered == 3
    assert profiled_cache(len, lock=None, profiler=profiler).cache_lock is None


@pytest.mark.parametrize("make", [dict, UserDict, lambda: LRUCache(9), type("Own", (dict,), {})])
def test_own_cache_of_every_kind_counts_each_call_once(profiler, make):
    f = profiled_cache(cache=make(), profiler=profiler, name="f")(text)
    for x in [1, 2, 1, 1, 3]:
        assert f(x) == str(x)
    assert f.cache_info()[:2] == (2, 3)
    assert f.cache_info().currsize == 3
    assert figures(profiler, "f") == (2, 3, 3)
    f.cache_clear()
    assert figures(profiler, "f") == (2, 3, 0)


def test_own_cache_keeps_the_name_it_was_instrumented_under(profiler):
    cache = instrument(LRUCache(5), name="mine", profiler=profiler)
    f = profiled_cache(cache=cache, profiler=profiler)(text)
    f(1)
    f(1)
    assert figures(profiler, "mine") == (1, 1, 1)
    assert profiler.caches() == ("mine",)


def test_cache_info_purges_nothing(profiler):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()
    f = profiled_cache(cache=TTLCache(10, 5, timer=clock), profiler=profiler, name="f")(text)
    f(1)
    clock.now = 100.0
    assert f.cache_info().currsize == 1
    assert figures(profiler, "f") == (0, 1, 1)
    f(1)
    assert figures(profiler, "f") == (0, 2, 1)
    assert profiler.get_cache_profile("f").total_expirations == 1


def test_ttl_makes_a_ttl_cache(profiler):
    f = profiled_cache(ttl=60, maxsize=None, profiler=profiler)(text)
    assert isinstance(f.cache, TTLCache)
    assert (f.cache.ttl, f.cache.maxsize) == (60, math.inf)
    assert f.cache_parameters() == {"maxsize": None, "typed": False, "ttl": 60}


def test_weigher_gives_the_bytes(profiler):
    f = profiled_cache(weigher=lambda key, value: 1_000, profiler=profiler, name="f")(text)
    f(1)
    f(2)
    assert profiler.get_cache_profile("f").net_memory_bytes == 2_000


def test_default_name_place_and_call_site(profiler):
    f = profiled_cache(Methods.find.__wrapped__, profiler=profiler)
    holder = Methods()
    line = inspect.currentframe().f_lineno + 1
    f(holder, 1)
    name = f"{__name__}:Methods.find"
    profile = profiler.get_cache_profile(name)
    assert profile.where.endswith(f"test_decorator.py:{Methods.find.__wrapped__.__code__.co_firstlineno}")
    (spot,) = profiler.get_memory_hotspots(name, min_allocations=1, by="site")
    assert spot.site is not None
    assert f"test_decorator.py:{line} " in spot.site


async def test_call_site_of_an_await(profiler):
    f = profiled_cache(async_module_level.__wrapped__, name="f", profiler=profiler)
    line = inspect.currentframe().f_lineno + 1
    await f(1)
    (spot,) = profiler.get_memory_hotspots("f", min_allocations=1, by="site")
    assert f"test_decorator.py:{line} " in spot.site


# Threads


def test_eight_threads_lose_no_count(profiler):
    f = profiled_cache(maxsize=50, profiler=profiler, name="f")(lambda x: str(x) * 10)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        barrier = threading.Barrier(8)

        def work(seed: int) -> None:
            barrier.wait()
            for i in range(3_000):
                x = (i * 7 + seed * 13) % 80
                assert f(x) == str(x) * 10

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    info = f.cache_info()
    assert info.hits + info.misses == 24_000
    assert figures(profiler, "f") == (info.hits, info.misses, 50)
    assert len(f.cache) == 50


def test_two_threads_that_miss_together_both_compute_and_the_first_value_stays(profiler):
    barrier = threading.Barrier(2)

    @profiled_cache(profiler=profiler, name="f")
    def f(x):
        barrier.wait(10)
        return object()

    with ThreadPoolExecutor(2) as pool:
        one, two = (future.result(10) for future in [pool.submit(f, 1), pool.submit(f, 1)])
    assert one is not two
    assert f(1) in (one, two)
    assert figures(profiler, "f") == (1, 2, 1)
    assert profiler.get_cache_profile("f").total_resizes == 0


# Coroutine functions


class Loader:
    """A coroutine function that counts, waits for a signal, and knows how it ended."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def load(self, x: Any) -> Any:
        self.calls += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return [x]


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def load(loader: Loader, profiler: CacheMemoryProfiler) -> Callable[..., Any]:
    async def load(x: Any) -> Any:
        return await loader.load(x)

    return profiled_cache(load, profiler=profiler, name="load")


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_awaits_of_one_key_share_one_computation(loader, load, profiler):
    tasks = [asyncio.create_task(load(x)) for x in (1, 1, 2, 1)]
    await turns()
    loader.go_on.set()
    first, second, other, third = await asyncio.gather(*tasks)
    assert first is second is third
    assert other == [2]
    assert loader.calls == 2
    assert await load(1) is first
    assert load.cache_info() == (1, 4, 128, 2)
    assert figures(profiler, "load") == (1, 4, 2)


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_cancelled_waiter_leaves_the_others_their_result(loader, load, which):
    tasks = [asyncio.create_task(load(1)) for _ in range(3)]
    await turns()
    tasks[which].cancel()
    await turns()
    loader.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(which), asyncio.CancelledError)
    assert results == [[1], [1]]
    assert (loader.calls, loader.cancelled) == (1, 0)
    assert load.cache_info().currsize == 1


async def test_last_waiter_that_is_cancelled_takes_the_computation_along(loader, load, profiler):
    tasks = [asyncio.create_task(load(1)) for _ in range(2)]
    await turns()
    for task in tasks:
        task.cancel("enough")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert (loader.calls, loader.cancelled) == (1, 1)
    loader.go_on.set()
    assert await load(1) == [1]
    assert loader.calls == 2
    assert figures(profiler, "load") == (0, 3, 1)


async def test_timeout_of_one_waiter(loader, load):
    patient = asyncio.create_task(load(1))
    await turns()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(load(1), 0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await load(1)
    loader.go_on.set()
    assert await patient == [1]
    assert loader.calls == 1


async def test_only_waiter_that_times_out_sees_the_function_clean_up(loader, load):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await load(1)
    assert loader.cancelled == 1


async def test_function_that_refuses_to_be_cancelled_gives_its_value(profiler):
    @profiled_cache(profiler=profiler, name="f")
    async def stubborn(x):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "anyway"

    task = asyncio.create_task(stubborn(1))
    await turns()
    task.cancel()
    assert await task == "anyway"


async def test_exception_reaches_all_who_wait_and_is_not_cached(loader, load, profiler):
    loader.error = ZeroDivisionError("no")
    tasks = [asyncio.create_task(load(1)) for _ in range(3)]
    await turns()
    loader.go_on.set()
    assert all(isinstance(e, ZeroDivisionError) for e in await asyncio.gather(*tasks, return_exceptions=True))
    loader.error = None
    assert await load(1) == [1]
    assert loader.calls == 2
    assert figures(profiler, "load") == (0, 4, 1)


async def test_waiters_all_gone_before_a_failure_leave_no_complaint(loader, load):
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    loader.error = ZeroDivisionError("no")
    tasks = [asyncio.create_task(load(1)) for _ in range(2)]
    await turns()
    loader.go_on.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    del tasks
    gc.collect()
    await turns()
    assert complaints == []


async def test_function_that_awaits_its_own_key_fails_as_the_bare_one_does(profiler):
    @profiled_cache(profiler=profiler, name="f")
    async def f(x):
        return await f(x)

    with pytest.raises(RecursionError):
        await asyncio.wait_for(f(1), 60)


async def test_clear_while_computing_starts_anew_and_stores_the_new_value(loader, load):
    old = asyncio.create_task(load(1))
    await turns()
    load.cache_clear()
    new = asyncio.create_task(load(1))
    await turns()
    assert loader.calls == 2
    loader.go_on.set()
    assert await old is not await new
    assert await load(1) is await new
    assert load.cache_info() == (1, 1, 128, 1)


async def test_function_sees_its_callers_context(profiler):
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")

    @profiled_cache(profiler=profiler, name="f")
    async def f(x):
        return request.get()

    request.set("r1")
    assert await f(1) == "r1"


async def test_nothing_of_a_load_outlives_it(profiler):
    class Value:
        pass

    seen: list[Any] = []

    async def background() -> None:
        await asyncio.sleep(60)

    @profiled_cache(maxsize=1, profiler=profiler, name="f")
    async def f(x):
        seen.append(asyncio.create_task(background()))  # it inherits the context
        return Value()

    value = weakref.ref(await f(1))
    await f(2)
    gc.collect()
    assert value() is None
    for task in seen:
        task.cancel()
    await asyncio.gather(*seen, return_exceptions=True)


def test_loops_in_two_threads_don_t_wait_for_each_other(profiler):
    barrier = threading.Barrier(2)

    @profiled_cache(profiler=profiler, name="f")
    async def f(x):
        barrier.wait(10)
        await asyncio.sleep(0)
        return x

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(lambda: asyncio.run(f(1))) for _ in range(2)]
        assert [future.result(10) for future in futures] == [1, 1]
    assert figures(profiler, "f") == (0, 2, 1)


def test_without_an_event_loop_it_computes(profiler):
    f = profiled_cache(async_module_level.__wrapped__, name="f", profiler=profiler)
    for _ in range(2):
        with pytest.raises(StopIteration) as stop:
            f(1).send(None)
        assert stop.value.value == 1
    assert figures(profiler, "f") == (1, 1, 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks(profiler):
    f = profiled_cache(async_module_level.__wrapped__, name="f", profiler=profiler)

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await asyncio.gather(f(1), f(1), f(2))

    assert asyncio.run(main()) == [1, 1, 2]
    assert f.cache_info().hits + f.cache_info().misses == 3


# Methods


def made_with(profiler: CacheMemoryProfiler, **options: Any) -> Any:
    class Shop:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        @profiled_cache(profiler=profiler, name="find", **options)
        def find(self, x: Any) -> Any:
            self.calls.append(x)
            return self, x

        @profiled_cache(profiler=profiler, name="afind", **options)
        async def afind(self, x: Any) -> Any:
            self.calls.append(x)
            return self, x

        @property
        @profiled_cache(profiler=profiler, name="owner")
        def owner(self) -> Any:
            return object()

        @classmethod
        @profiled_cache(profiler=profiler, name="made")
        def made(cls, x: Any) -> Any:
            return cls, object()

        @staticmethod
        @profiled_cache(profiler=profiler, name="tax")
        def tax(x: Any) -> Any:
            return object()

    return Shop


async def test_instances_have_caches_of_their_own_under_one_name(profiler):
    shop_class = made_with(profiler, maxsize=2)
    one, two = shop_class(), shop_class()
    for shop in (one, two):
        for x in (1, 2, 1):
            assert shop.find(x) == (shop, x)
            assert await shop.afind(x) == (shop, x)
        assert shop.calls == [1, 1, 2, 2]
    assert shop_class.find.cache_info() == one.find.cache_info() == (2, 4, 2, 4)
    assert figures(profiler, "find") == figures(profiler, "afind") == (2, 4, 4)
    assert profiler.get_cache_profile("find").instances == 2
    one.find.cache_clear()
    assert shop_class.find.cache_info() == (0, 0, 2, 0)


async def test_nothing_keeps_an_instance_alive_even_when_the_values_refer_to_it(profiler):
    shop = made_with(profiler)()
    shop.find(1)
    await shop.afind(1)
    shop.owner  # noqa: B018
    gone = weakref.ref(shop)
    del shop
    gc.collect()
    assert gone() is None
    profile = profiler.get_cache_profile("find")
    assert (profile.instances, profile.misses, profile.current_entries, profile.net_memory_bytes) == (0, 1, 0, 0)


def test_property_class_method_and_static_method(profiler):
    shop_class = made_with(profiler)
    shop = shop_class()
    assert shop.owner is shop.owner
    assert shop.owner is not shop_class().owner
    assert shop_class.made(1) is shop.made(1)
    assert shop_class.made(1)[0] is shop_class
    assert type("Sub", (shop_class,), {}).made(1)[0] is not shop_class
    assert shop_class.tax(1) is shop.tax(1)
    assert shop_class.made.cache_info() == (2, 2, 128, 2)
    assert shop_class.tax.cache_info() == (1, 1, 128, 1)


def test_decorator_above_staticmethod_and_classmethod(profiler):
    class Shop:
        @profiled_cache(profiler=profiler, name="s")
        @staticmethod
        def s(x):
            return object()

        @profiled_cache(profiler=profiler, name="c")
        @classmethod
        def c(cls, x):
            return cls, object()

    assert Shop.s(1) is Shop().s(1)
    assert Shop.c(1) is Shop().c(1)
    assert Shop.c(1)[0] is Shop


def test_method_is_a_bound_method_called_through_the_class_too(profiler):
    shop_class = made_with(profiler)
    shop = shop_class()
    assert inspect.ismethod(shop.find)
    assert shop.find == shop.find
    assert str(inspect.signature(shop.find)) == "(x: 'Any') -> 'Any'"
    shop.find(1)
    assert shop_class.find(shop, 1) == (shop, 1)
    assert functools.partial(shop.find, 1)() == (shop, 1)
    assert shop_class.find.cache_info()[:2] == (2, 1)
    assert shop_class.find.cache_key(shop, 1) == shop_class.find.cache_key(None, 1)


def test_copies_and_pickles_of_an_instance_have_their_own_caches():
    one = Methods()
    one.find(1)
    for two in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert two.find(1)[0] is two
        assert two.find(1)[0] is two
        assert one.find(1)[0] is one
    three = copy.copy(copy.copy(one))
    assert three.find(1)[0] is three


def test_instances_that_are_equal_or_unhashable_are_told_apart(profiler):
    class Point:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

        @profiled_cache(profiler=profiler, name="f")
        def f(self, x: int) -> Point:
            return self

    one, two = Point(), Point()
    assert one.f(1) is one
    assert two.f(1) is two


def test_instances_with_slots(profiler):
    class Weak:
        __slots__ = ("__weakref__", "calls")

        def __init__(self):
            self.calls = 0

        @profiled_cache(profiler=profiler, name="weak")
        def f(self, x):
            self.calls += 1
            return x

    class Closed(tuple):
        __slots__ = ()

        @profiled_cache(profiler=profiler, name="closed")
        def f(self, x):
            return len(self) + x

    weak = Weak()
    assert (weak.f(1), weak.f(1), weak.calls) == (1, 1, 1)
    gone = weakref.ref(weak)
    del weak
    gc.collect()
    assert gone() is None
    assert profiler.get_cache_profile("weak").instances == 0
    one, two = Closed("ab"), Closed("abc")
    assert (one.f(1), two.f(1), one.f(1)) == (3, 4, 3)
    assert Closed.f.cache_info() == (1, 2, 128, 2)
    assert figures(profiler, "closed") == (1, 2, 2)


def test_own_cache_and_key_of_a_method(profiler):
    class Shop:
        @profiled_cache(cache=LRUCache(10), profiler=profiler, name="shared")
        def shared(self, x):
            return self

        @profiled_cache(key=lambda self, user: user["id"], profiler=profiler, name="keyed")
        def keyed(self, user):
            return self

    one, two = Shop(), Shop()
    assert (one.shared(1), two.shared(1), one.shared(1)) == (one, two, one)
    assert len(Shop.shared.cache) == 2
    assert (one.keyed({"id": 1}), two.keyed({"id": 1}), one.keyed({"id": 1})) == (one, two, one)
    assert profiler.get_cache_profile("keyed").instances == 2


def test_method_put_on_a_class_later(profiler):
    class Shop:
        pass

    Shop.find = profiled_cache(lambda this, x: (this, x), profiler=profiler, name="later")
    shop = Shop()
    assert shop.find(1) is shop.find(1)
    gone = weakref.ref(shop)
    del shop
    gc.collect()
    assert gone() is None


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": {}, "maxsize": 5}, ["cache=", "maxsize=5"]),
        ({"cache": {}, "maxsize": None}, ["cache=", "maxsize=None"]),
        ({"cache": LRUCache(1), "ttl": 60}, ["cache=", "LRUCache", "ttl=60"]),
        ({"cache": LRUCache}, ["cache", "class cachetools.LRUCache", "what calling it gives"]),
        ({"cache": 5}, ["cache", "int"]),
        ({"key": len, "typed": True}, ["key=", "typed=True"]),
        ({"key": 3}, ["key", "3"]),
        ({"maxsize": -1}, ["maxsize", "-1"]),
        ({"maxsize": 2.5}, ["maxsize", "2.5"]),
        ({"maxsize": True}, ["maxsize", "True"]),
        ({"ttl": 0}, ["ttl", "0"]),
        ({"ttl": math.nan}, ["ttl", "nan"]),
        ({"typed": "yes"}, ["typed", "yes"]),
        ({"lock": 3}, ["lock", "3"]),
        ({"name": " "}, ["name"]),
        ({"weigher": 3}, ["weigher", "3"]),
        ({"profiler": "mine"}, ["profiler", "mine"]),
        ({"operations": {"a": "get"}}, ["operations", "classes"]),
    ],
)
def test_wrong_or_contradicting_parameters_are_named(options, words):
    with pytest.raises(ConfigurationError) as error:
        profiled_cache(**options)(str.upper)
    for word in words:
        assert word in str(error.value)


def test_asyncio_lock_is_refused_with_the_reason():
    with pytest.raises(ConfigurationError, match="not needed"):
        profiled_cache(lock=asyncio.Lock())(len)


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (generator, "generator"),
        (async_generator, "generator"),
        (functools.lru_cache(text), "lru_cache"),
        (LRUCache(5), r"instrument\(cache\)"),
        (128, "maxsize="),
        (property(len), "below @property"),
        (dict, "subclass it"),
        (LRUCache, "subclass it"),
    ],
)
def test_what_can_t_be_decorated_says_what_to_do(target, words):
    with pytest.raises(NotACacheError, match=words):
        profiled_cache(target)


def test_decorating_twice_is_refused():
    with pytest.raises(ConfigurationError, match="decorate it once"):
        profiled_cache(module_level)


# Functions that are cached by cachetools


def test_cachetools_cached_function_is_returned_and_its_cache_profiled(profiler):
    @cachetools.cached(LRUCache(3))
    def f(x):
        return str(x)

    cache = f.cache
    assert profiled_cache(f, name="theirs", profiler=profiler) is f
    assert f.cache is cache
    for x in [1, 2, 1, 3, 4, 1]:
        assert f(x) == str(x)
    hits, misses, entries = figures(profiler, "theirs")
    assert (hits + misses, entries) == (6, 3)
    assert profiler.get_cache_profile("theirs").total_evictions == misses - 3
    with pytest.raises(ConfigurationError, match="maxsize=5"):
        profiled_cache(f, maxsize=5)


def test_cachetools_cached_function_with_a_lock_counts_each_call_once(profiler):
    f = cachetools.cached(LRUCache(30), lock=threading.Lock())(text)
    profiled_cache(name="theirs", profiler=profiler)(f)
    for x in [1, 2, 1]:
        f(x)
    assert figures(profiler, "theirs") == (1, 2, 2)


def test_cachetools_cached_function_with_a_dict(profiler):
    f = cachetools.cached({})(text)
    if CACHETOOLS < (8, 0):
        with pytest.raises(NotACacheError, match=r"cachetools\.Cache"):
            profiled_cache(f, profiler=profiler)
        return
    assert profiled_cache(f, name="theirs", profiler=profiler) is f
    for x in [1, 2, 1]:
        f(x)
    assert figures(profiler, "theirs") == (1, 2, 2)


# Life with the profiler


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "CACHESCOPE": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_decorating_starts_nothing_the_first_call_and_instance_do():
    out = in_a_fresh_process(
        """
        import threading
        from cachetools import LRUCache, cached
        from cachescope import profiled_cache, current_profiler

        @profiled_cache
        def f(x): return x
        @profiled_cache
        @cached(LRUCache(5))
        def g(x): return x
        @profiled_cache
        class C(LRUCache): pass

        before = threading.active_count()
        g(1); g(1)
        after = threading.active_count()
        f(1); c = C(3); c[1] = 2
        print(before, after, *current_profiler().caches(), current_profiler().get_cache_profile("__main__:g").hits)
        """
    )
    assert out == "1 2 __main__:C __main__:f __main__:g 1"


def test_shutdown_leaves_the_function_caching_and_the_next_start_takes_it_back():
    calls: list[int] = []

    @profiled_cache(name="f")
    def f(x):
        calls.append(x)
        return x

    shop = Methods()
    f(1)
    first = current_profiler()
    first.shutdown()
    f(1)
    f(2)
    shop.find(1)
    assert current.running_profiler() is None
    assert calls == [1, 2]
    assert figures(first, "f") == (0, 1, 1)
    again = current_profiler()
    f(1)
    f(3)
    shop.find(1)
    assert figures(again, "f") == (1, 1, 3)
    assert figures(again, "Methods.find") == (1, 0, 1)
    assert f.cache_info() == (2, 3, 128, 3)


def test_function_that_was_first_called_after_a_shutdown_does_not_undo_it():
    f = profiled_cache(name="f")(text)
    current_profiler().shutdown()
    assert f(1) == "1"
    assert current.running_profiler() is None
    late = profiled_cache(name="late")(text)
    late(1)  # decorated after the shutdown: somebody wants it profiled
    assert current.running_profiler() is not None
    f(1)
    assert figures(current_profiler(), "f") == (1, 0, 1)


def test_profiler_that_replaces_another_takes_the_function_over():
    f = profiled_cache(name="f")(text)
    f(1)
    current_profiler().shutdown()
    new = current_profiler(ProfilerConfig(level=ProfilingLevel.DETAILED))
    f(1)
    f(2)
    assert figures(new, "f") == (1, 1, 2)


def test_private_profiler_that_is_shut_down(profiler):
    f = profiled_cache(name="f", profiler=profiler)(text)
    profiler.shutdown()
    assert (f(1), f(1)) == ("1", "1")
    with pytest.raises(UnknownCacheError):
        profiler.get_cache_profile("f")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_lock_held_by_another_thread_at_a_fork_does_not_hang_the_child(profiler):
    f = profiled_cache(name="f", profiler=profiler)(text)
    f(1)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with f.cache_lock:
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if f(1) == "1" and f(2) == "2" else 1)
    release.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


# Classes

CLASS_PROFILER = CacheMemoryProfiler(ProfilerConfig(tick_seconds=60.0))


@profiled_cache(name="sessions", profiler=CLASS_PROFILER)
class Sessions(LRUCache):
    """A user's cache."""

    def __init__(self, maxsize: int = 3) -> None:
        super().__init__(maxsize)


class LoudSessions(Sessions):
    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, f"{value}!")


def test_class_is_itself_and_its_instances_are_instrumented(profiler):
    made: list[type] = []

    @profiled_cache(profiler=profiler)
    class Cache(LRUCache):
        """A user's cache."""

        def __init_subclass__(cls, *, wanted: int, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            made.append(cls)

    one, two = Cache(3), Cache(maxsize=3)
    assert type(one) is Cache
    assert Cache.__doc__ == "A user's cache."
    assert str(inspect.signature(Cache)) == str(inspect.signature(LRUCache))
    for x in range(5):
        one[x] = x
    assert one[4] == 4
    assert one.get(0) is None
    two["a"] = "b"
    name = f"{__name__}:{Cache.__qualname__}"
    assert figures(profiler, name) == (1, 1, 4)
    profile = profiler.get_cache_profile(name)
    assert (profile.instances, profile.total_evictions) == (2, 2)
    assert "test_decorator.py:" in profile.where
    assert made == []
    assert Cache.__subclasses__() == []

    class Sub(Cache, wanted=1):
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(key)

    sub = Sub(3)
    sub[1] = 1
    assert (type(sub), sub[1], sub.get(2)) == (Sub, 1, None)
    assert made == [Sub]
    assert figures(profiler, name) == (2, 2, 5)
    assert profiler.get_cache_profile(name).instances == 3


@pytest.mark.parametrize("order", [(Sessions, LoudSessions), (LoudSessions, Sessions)])
def test_subclass_made_before_or_after_its_base(order, profiler):
    base = profiled_cache(type("Base", (LRUCache,), {}), name="order", profiler=profiler)

    class Loud(base):  # type: ignore[misc, valid-type]
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, f"{value}!")

    loud = Loud
    classes = (base, loud) if order[0] is Sessions else (loud, base)
    for cls in classes:
        cache = cls(2)
        for x in range(4):
            cache[x] = x
        assert cache[3] == ("3!" if cls is loud else 3)
        assert cache.get(0) is None
        del cache[3]
    profile = profiler.get_cache_profile("order")
    assert (profile.hits, profile.misses, profile.total_allocations, profile.total_evictions) == (2, 2, 8, 4)
    assert profile.total_deallocations == 4 + 2 + 1  # and the first cache is gone with the entry it had left


def test_instances_pickle_by_name_and_their_copies_are_counted():
    profiler = CLASS_PROFILER
    before = profiler.get_cache_profile("sessions").hits if "sessions" in profiler.caches() else 0
    one = Sessions()
    one["a"] = 1
    two = pickle.loads(pickle.dumps(one))
    three, four = copy.copy(one), copy.deepcopy(one)
    assert ATTRIBUTE.encode() not in pickle.dumps(one)
    for cache in (one, two, three, four):
        assert type(cache) is Sessions
        assert cache["a"] == 1
        cache["b"] = 2
    assert profiler.get_cache_profile("sessions").hits == before + 4
    assert profiler.get_cache_profile("sessions").instances == 4
    assert profiler.get_cache_profile("sessions").current_entries == 8


def test_dict_subclass_as_a_class(profiler):
    @profiled_cache(name="d", profiler=profiler, weigher=lambda key, value: 100)
    class Own(dict):
        pass

    own = Own(a=1)
    own["b"] = 2
    assert (own["a"], own.get("c"), own.pop("b")) == (1, None, 2)
    assert figures(profiler, "d") == (2, 1, 1)
    assert profiler.get_cache_profile("d").net_memory_bytes == 100
    twin = copy.copy(own)
    twin["x"] = 1
    assert "x" not in own
    assert figures(profiler, "d")[2] == 3
    assert type(twin) is Own


def test_home_made_class(profiler):
    @profiled_cache(name="home", operations={"recall": "get", "keep": "set", "drop": "delete"}, profiler=profiler)
    class Home:
        def __init__(self) -> None:
            self.held: dict[str, str] = {}

        def recall(self, key: str) -> str | None:
            return self.held.get(key)

        def keep(self, key: str, value: str) -> None:
            self.held[key] = value

        def drop(self, key: str) -> None:
            self.held.pop(key, None)

    one, two = Home(), Home()
    one.keep("a", "1")
    two.keep("a", "2")
    two.drop("a")
    assert (one.recall("a"), two.recall("a"), type(one)) == ("1", None, Home)
    assert figures(profiler, "home") == (1, 1, 1)
    assert profiler.get_cache_profile("home").instances == 2


async def test_home_made_async_class(profiler):
    @profiled_cache(name="home", profiler=profiler)
    class Home:
        def __init__(self) -> None:
            self._data: dict[str, str] = {}

        async def get(self, key: str) -> str | None:
            await asyncio.sleep(0)
            return self._data.get(key)

        async def set(self, key: str, value: str) -> None:
            await asyncio.sleep(0)
            self._data[key] = value

    home = Home()
    await asyncio.gather(*(home.set(key, key * 9) for key in "abc"))
    assert await asyncio.gather(home.get("a"), home.get("z")) == ["a" * 9, None]
    assert inspect.iscoroutinefunction(home.get)
    assert figures(profiler, "home") == (1, 1, 3)


def test_instances_are_not_kept_alive(profiler):
    cls = profiled_cache(type("Cache", (LRUCache,), {}), name="c", profiler=profiler)
    cache = cls(3)
    cache[1] = 1
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None
    assert profiler.get_cache_profile("c").instances == 0
    gone_class = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone_class() is None


def test_class_without_init_takes_what_it_took(profiler):
    class New:
        def __new__(cls, x):
            return super().__new__(cls)

    mixin = profiled_cache(type("Mixin", (), {}), name="m", profiler=profiler)
    mixed = type("Mixed", (mixin, LRUCache), {})
    assert mixed(3).maxsize == 3
    with pytest.raises(TypeError, match=r"Mixin\(\) takes no arguments"):
        mixin(3)
    new = profiled_cache(type("Newer", (New,), {}), name="n", profiler=profiler)
    with pytest.raises(NotACacheError):  # what __new__ has taken, object.__init__ did not refuse
        new(3)


def test_slots(profiler):
    class Slotted(dict):
        __slots__ = ()

    with pytest.raises(NotACacheError, match="__slots__"):
        profiled_cache(Slotted)

    @profiled_cache(name="roomy", profiler=profiler)
    class Roomy(dict):
        __slots__ = ("__dict__", "__weakref__")

    roomy = Roomy()
    roomy[1] = 1
    assert roomy[1] == 1
    assert figures(profiler, "roomy") == (1, 0, 1)


def test_class_that_is_no_cache_says_so_when_an_instance_is_made(profiler):
    @profiled_cache(profiler=profiler)
    class Nothing:
        pass

    with pytest.raises(NotACacheError, match=r"operations="):
        Nothing()


def test_class_takes_no_function_parameters():
    with pytest.raises(ConfigurationError, match="maxsize=5"):
        profiled_cache(maxsize=5)(type("Cache", (LRUCache,), {}))
    with pytest.raises(ConfigurationError, match=r"no method .fetch."):
        profiled_cache(operations={"fetch": "get"})(type("Cache", (LRUCache,), {}))


def test_decorated_subclass_has_its_own_name(profiler):
    base = profiled_cache(type("Base", (LRUCache,), {}), name="base", profiler=profiler)
    derived = profiled_cache(type("Derived", (base,), {}), name="derived", profiler=profiler)
    a, b = base(2), derived(2)
    a[1], b[1], b[2] = 1, 1, 2
    assert (figures(profiler, "base"), figures(profiler, "derived")) == ((0, 0, 1), (0, 0, 2))


def test_uninstrumented_instance_is_left_alone(profiler):
    cls = profiled_cache(type("Cache", (LRUCache,), {}), name="c", profiler=profiler)
    cache, other = cls(3), cls(3)
    cache[1] = 1
    assert uninstrument(cache) is cache
    cache[2] = 2
    other[1] = 1
    assert (cache[2], type(cache)) == (2, cls)
    profile = profiler.get_cache_profile("c")
    assert (profile.total_allocations, profile.hits, profile.instances) == (2, 0, 1)


def test_instances_live_through_a_shutdown():
    cls = profiled_cache(type("Cache", (LRUCache,), {}), name="c")
    early = cls(5)
    early[1] = 1
    current_profiler().shutdown()
    between = cls(5)
    early[2] = 2
    between[1] = 1
    assert current.running_profiler() is None
    profiler = current_profiler()
    assert (early[2], between[1]) == (2, 1)
    late = cls(5)
    late[1] = 1
    assert figures(profiler, "c") == (2, 0, 4)


def test_instances_made_by_eight_threads_are_all_counted(profiler):
    cls = profiled_cache(type("Cache", (LRUCache,), {}), name="c", profiler=profiler)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    kept: list[Any] = []
    try:

        def work() -> None:
            for _ in range(50):
                cache = cls(10)
                for x in range(20):
                    cache[x] = x
                    assert cache[x] == x
                kept.append(cache)

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(work) for _ in range(8)]:
                future.result()
    finally:
        sys.setswitchinterval(interval)
    assert figures(profiler, "c") == (8_000, 0, 4_000)
    assert profiler.get_cache_profile("c").instances == 400


@pytest.mark.parametrize("patched_first", [True, False])
def test_together_with_auto_patching(profiler, patched_first):
    with contextlib.ExitStack() as stack:
        if patched_first:
            stack.enter_context(autopatch("cachetools", profiler=profiler))
        f = profiled_cache(maxsize=2, name="f", profiler=profiler)(text)
        cls = profiled_cache(type("Cache", (LRUCache,), {}), name="c", profiler=profiler)
        for turn in range(2):
            for x in [1, 2, 3, 3]:
                f(x)
            cache = cls(2)
            cache[1] = 1
            assert (cache[1], cache.get(2)) == (1, None)
            if not patched_first and turn == 0:
                stack.enter_context(autopatch("cachetools", profiler=profiler))
        assert figures(profiler, "f")[:2] == f.cache_info()[:2] == (2, 6)
        assert figures(profiler, "c") == (2, 2, 1)
        assert profiler.get_cache_profile("c").instances == 1
        assert profiler.get_cache_profile("c").instances_total == 2
    if patched_first:  # else undoing takes our hooks along with those it has put on top of them
        assert cache[1] == 1
        assert figures(profiler, "c") == (3, 2, 1)


def test_module_level_objects_work_without_any_profiler_of_their_own():
    profiler = current_profiler()
    assert module_level(1) == module_level(1) == "1y0.5"
    assert figures(profiler, "module level") == (1, 1, 1)
