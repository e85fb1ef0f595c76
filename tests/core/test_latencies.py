"""Latencies: every kind of operation is timed for each way of hooking, and being timed changes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, autopatch, instrument, unpatch
from cachescope.core import faults
from cachescope.core.analysis.latencies import OPERATIONS, Latencies
from cachescope.core.closeup import TIMING


class Own:
    """A home-made cache."""

    def __init__(self):
        self._data = {}

    def __getitem__(self, key):
        return self._data[key]

    def get(self, key, default=None):
        return self._data.get(key, default)

    def __setitem__(self, key, value):
        self._data[key] = value

    def __delitem__(self, key):
        del self._data[key]

    def pop(self, key):
        return self._data.pop(key)


class Folding(cachetools.LRUCache):
    """A user's own: it overrides what the library has."""

    def __getitem__(self, key):
        return super().__getitem__(key.lower())

    def get(self, key, default=None):
        return super().get(key.lower(), default)

    def __setitem__(self, key, value):
        super().__setitem__(key.lower(), value)

    def __delitem__(self, key):
        super().__delitem__(key.lower())


class Plain(dict):
    """A dict with another name."""


MAKERS = {
    "cachetools": lambda: cachetools.LRUCache(100),
    "ttl": lambda: cachetools.TTLCache(100, ttl=60),
    "overriding": lambda: Folding(100),
    "dict": dict,
    "subclass of dict": Plain,
    "own": Own,
}


@pytest.fixture
def profiler():
    """One that looks closely, and folds only when it is asked to."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=60.0)) as profiler:
        yield profiler
        assert faults.counts == {}


@pytest.fixture
def timing():
    """Operations are timed until the test ends."""
    faults.counts.clear()
    TIMING.up = TIMING.for_loads = True
    yield
    TIMING.up = TIMING.for_loads = False


def armed(cache, profiler, name):
    """The cache's state, with timings to spare."""
    (state,) = profiler.registry.records[name].live_states()
    state.timings_left = 1 << 20
    return state


def timed(profiler, name):
    """How often each kind was timed."""
    profiler.registry.fold()
    kinds = profiler.registry.records[name].flow.windows.all().latencies.kinds
    return {OPERATIONS[kind]: round(sketch.count) for kind, sketch in kinds.items()}


def scenario(cache):
    """Everything that is timed, a known number of times; what came out of it."""
    out = []
    for number in range(10):
        cache[f"k{number}"] = number * "v"
    out += [cache[f"k{number}"] for number in range(7)]
    out += [cache.get(f"k{number}") for number in range(5)]
    out += [cache.get(f"none{number}", "default") for number in range(4)]
    for number in range(3):
        try:
            cache[f"none{number}"]
        except KeyError as error:
            out.append(error.args)
    for number in range(2):
        cache["k0"] = number * "w"
    for number in range(6):
        del cache[f"k{number}"]
    try:
        del cache["none"]
    except KeyError as error:
        out.append(error.args)
    return out


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_is_timed_for_each_way_of_hooking(profiler, timing, name):
    """Hits and misses of both ways to look up, sets, replacements and deletes, as often as they happened."""
    cache = instrument(MAKERS[name](), name=name, profiler=profiler)
    armed(cache, profiler, name)
    scenario(cache)
    assert timed(profiler, name) == {
        ("lookup", "hit"): 12,
        ("lookup", "miss"): 7,
        ("set", ""): 12,
        ("delete", ""): 6,
    }


@pytest.mark.parametrize("make", [MAKERS["cachetools"], MAKERS["ttl"]], ids=["cachetools", "ttl"])
def test_every_kind_is_timed_under_autopatch(profiler, timing, make):
    """By the hooks on the classes."""
    autopatch("cachetools", profiler=profiler)
    try:
        cache = make()
        cache["k0"] = "v"
        (name,) = profiler.registry.records
        armed(cache, profiler, name)
        scenario(cache)
        found = timed(profiler, name)
    finally:
        unpatch("cachetools")
    assert found == {("lookup", "hit"): 12, ("lookup", "miss"): 7, ("set", ""): 12, ("delete", ""): 6}


def test_every_kind_is_timed_of_an_async_cache(profiler, timing):
    """What is awaited counts until it is there."""

    class Async:
        def __init__(self):
            self._data = {}

        async def get(self, key):
            await asyncio.sleep(0)
            return self._data.get(key)

        async def set(self, key, value):
            await asyncio.sleep(0)
            self._data[key] = value

        async def delete(self, key):
            self._data.pop(key, None)

    async def main():
        cache = instrument(Async(), name="async", profiler=profiler)
        armed(cache, profiler, "async")
        for number in range(5):
            assert await cache.get(f"k{number}") is None
            await cache.set(f"k{number}", "v")
            assert await cache.get(f"k{number}") == "v"
            await cache.delete(f"k{number}")

    asyncio.run(main())
    assert timed(profiler, "async") == {
        ("lookup", "hit"): 5,
        ("lookup", "miss"): 5,
        ("set", ""): 5,
        ("delete", ""): 5,
        ("load", "ok"): 5,
    }


@pytest.mark.parametrize("name", MAKERS)
def test_being_timed_changes_nothing(profiler, name):
    """Results, exceptions and counters are those of a run that nobody timed, and of a cache that nobody watches."""
    rows = []
    for up in (False, True):
        label = f"{name} {up}"
        cache = instrument(MAKERS[name](), name=label, profiler=profiler)
        state = armed(cache, profiler, label)
        TIMING.up = up
        try:
            out = scenario(cache)
        finally:
            TIMING.up = False
        assert state.timing == {}
        assert state.busy == {}
        counters = Counter(dict(enumerate(state.counters())))
        rows.append((out, counters))
    assert rows[0] == rows[1]
    assert rows[0][0] == scenario(MAKERS[name]())


@pytest.mark.parametrize("method", ["__getitem__", "get", "__setitem__", "__delitem__"])
@pytest.mark.parametrize("name", ["cachetools", "overriding", "dict", "own"])
def test_a_thread_that_is_interrupted_leaves_nothing_up(profiler, timing, name, method):
    """What is raised in the middle comes out, and the next operation is timed as any other."""

    class Interrupted(BaseException):
        pass

    class Key(str):
        __slots__ = ()
        armed = False

        def __hash__(self):
            if Key.armed:
                raise Interrupted
            return str.__hash__(self)

        def lower(self):
            if Key.armed:
                raise Interrupted
            return self

    cache = instrument(MAKERS[name](), name=name, profiler=profiler)
    state = armed(cache, profiler, name)
    key = Key("k")
    cache[key] = "v"
    Key.armed = True
    call = getattr(cache, method)
    with pytest.raises(Interrupted):
        call(key, "w") if method == "__setitem__" else call(key)
    Key.armed = False
    assert (state.timing, state.busy) == ({}, {})
    before = timed(profiler, name)
    assert cache["k"] == "v"
    assert timed(profiler, name)["lookup", "hit"] == before.get(("lookup", "hit"), 0) + 1


def test_a_lookup_that_loads_by_itself_is_a_miss_and_a_load(profiler, timing):
    """``__missing__`` of a user's class: the loader's time is no part of the look-up's."""
    waited = 0.02

    class Loading(cachetools.LRUCache):
        def __missing__(self, key):
            if key == "bad":
                raise ValueError(key)
            threading.Event().wait(waited)
            self[key] = "v"
            return "v"

    cache = instrument(Loading(10), name="loading", profiler=profiler)
    state = armed(cache, profiler, "loading")
    assert [cache["a"], cache["b"], cache["a"]] == ["v"] * 3
    with pytest.raises(ValueError, match="bad"):
        cache["bad"]
    found = timed(profiler, "loading")
    assert found[("load", "ok")] == 2
    assert found[("load", "failed")] == 1
    assert found[("lookup", "hit")] == 1
    assert found[("lookup", "miss")] >= 2
    kinds = profiler.registry.records["loading"].flow.windows.all().latencies.kinds
    assert kinds[4].minimum >= waited * 0.9
    assert kinds[1].minimum < waited / 2
    assert state.pending == {}


def test_a_fold_of_timings_says_how_long_each_kind_took():
    """In seconds, with hits and misses apart; loads are not sampled where all of them were timed."""
    fold = Latencies()
    fold.update([(0, 1_000)] * 99 + [(0, 1_000_000), (1, 5_000), (4, 2_000_000_000)])
    hit, miss, load = fold.result(all_loads=True)
    assert (hit.operation, hit.outcome, hit.seconds.count, hit.seconds.maximum) == ("lookup", "hit", 100, 0.001)
    assert hit.seconds.p50 == pytest.approx(1e-6, rel=0.01)
    assert (miss.outcome, miss.sampled, load.sampled) == ("miss", True, False)
    assert load.seconds.p50 == pytest.approx(2.0, rel=0.01)
    assert [row.sampled for row in fold.result(all_loads=False)] == [True, True, True]
    assert Latencies().result(all_loads=True) == ()
    assert fold.spread(5) is None
