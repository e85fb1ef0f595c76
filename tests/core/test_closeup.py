"""The close look: loads are paired with their misses, and whatever is armed meanwhile, no count is lost."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument, profiled_cache
from cachescope.core import closeup, faults
from cachescope.core.analysis.latencies import OPERATIONS
from cachescope.core.closeup import SAMPLED, SCOPED, TIMING, WATCHED, give_up_loads


@pytest.fixture
def profiler():
    """One that looks closely, and folds only when it is asked to."""
    faults.counts.clear()
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=60.0)) as profiler:
        yield profiler
        TIMING.up = TIMING.for_loads = False
        assert faults.counts == {}


def timing(profiler, name):
    """From now on operations of a cache are timed; its state."""
    TIMING.up = TIMING.for_loads = True
    (state,) = profiler.registry.records[name].live_states()
    state.timings_left = 1 << 20
    return state


def sketches(profiler, name):
    """What was timed, by operation and outcome."""
    profiler.registry.fold()
    kinds = profiler.registry.records[name].flow.windows.all().latencies.kinds
    return {OPERATIONS[kind]: sketch for kind, sketch in kinds.items()}


def loads_of(profiler, name):
    """(how many loads were timed, the shortest, the longest)."""
    sketch = sketches(profiler, name).get(("load", "ok"))
    return (0, None, None) if sketch is None else (round(sketch.count), sketch.minimum, sketch.maximum)


def test_a_load_is_the_time_from_a_miss_to_the_set_of_its_key(profiler):
    """By the same thread; the set of another key ends nothing, and a hit begins nothing."""
    cache = instrument(cachetools.LRUCache(100), name="loads", profiler=profiler)
    state = timing(profiler, "loads")
    assert cache.get("a") is None
    time.sleep(0.02)
    cache["b"] = "other"
    assert loads_of(profiler, "loads")[0] == 0
    cache["a"] = "value"
    cache["a"] = "again"
    n, shortest, _ = loads_of(profiler, "loads")
    assert (n, state.pending, state.setter) == (1, {}, 0)
    assert shortest >= 0.02


@pytest.mark.parametrize("same_key", [True, False])
def test_loads_of_several_threads_are_told_apart(profiler, same_key):
    """Each ends its own, also when all of them load the same key: naively, a list of who waited how long."""
    cache = instrument(cachetools.LRUCache(100), name="threads", profiler=profiler)
    state = timing(profiler, "threads")
    barrier, waits = threading.Barrier(4), [0.01, 0.03, 0.06, 0.1]

    def load(number):
        key = "key" if same_key else f"key{number}"
        assert cache.get(key) is None
        barrier.wait()
        time.sleep(waits[number])
        cache[key] = "value"

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    n, shortest, longest = loads_of(profiler, "threads")
    assert (n, state.pending) == (4, {})
    assert shortest >= waits[0]
    assert longest >= waits[-1]
    spread = sketches(profiler, "threads")["load", "ok"]
    assert spread.total >= sum(waits)


@pytest.mark.parametrize("same_key", [True, False])
def test_loads_of_several_tasks_are_told_apart(profiler, same_key):
    """In one event loop, all of them between the others' misses and sets."""
    cache = instrument({}, name="tasks", profiler=profiler)
    state = timing(profiler, "tasks")
    waits = [0.01, 0.03, 0.06, 0.1]

    async def load(number):
        key = "key" if same_key else f"key{number}"
        assert cache.get(key) is None
        await asyncio.sleep(waits[number])
        cache[key] = "value"

    async def main():
        await asyncio.gather(*(load(number) for number in range(4)))

    asyncio.run(main())
    n, shortest, longest = loads_of(profiler, "tasks")
    assert (n, state.pending) == (4, {})
    assert shortest >= waits[0] * 0.9
    assert longest >= waits[-1] * 0.9
    assert sketches(profiler, "tasks")["load", "ok"].total >= sum(waits) * 0.9


def test_a_load_that_never_ends_is_given_up(profiler):
    """Meanwhile it is one of at most sixteen that are waited for; then sets are plain again."""
    cache = instrument(cachetools.LRUCache(100), name="endless", profiler=profiler)
    state = timing(profiler, "endless")
    for number in range(40):
        assert cache.get(number) is None
    assert 0 < len(state.pending) <= 16
    give_up_loads(state, 0)
    assert state.pending
    give_up_loads(state, time.perf_counter_ns() + 1)
    assert (state.pending, state.setter, state.resting) == ({}, 0, 0)
    cache[1] = "late"
    assert loads_of(profiler, "endless")[0] == 0


def test_every_load_of_a_profiled_function_is_counted(profiler):
    """Those that end and those that fail, whatever is timed; and none of them twice."""

    @profiled_cache(maxsize=100, name="function", profiler=profiler)
    def load(key):
        if key < 0:
            raise ValueError(key)
        time.sleep(0.002)
        return key

    load(0)
    timing(profiler, "function")
    for key in (1, 2, 3, 1, 2, 3):
        assert load(key) == key
    for _ in range(2):
        with pytest.raises(ValueError, match="-1"):
            load(-1)
    totals = profiler.registry.records["function"].totals()
    assert (totals["loads"], totals["load_failures"]) == (6, 2)
    assert totals["load_ns"] >= 4 * 2_000_000
    found = sketches(profiler, "function")
    assert (found["load", "ok"].count, found["load", "failed"].count) == (4, 2)


def test_coalesced_loads_of_a_coroutine_function_are_one(profiler):
    """Three tasks that want one key wait for one load; each failure is one too."""
    calls = []

    @profiled_cache(maxsize=100, name="coroutine", profiler=profiler)
    async def load(key):
        calls.append(key)
        await asyncio.sleep(0.005)
        if key == "bad":
            raise ValueError(key)
        return key

    async def main():
        await load("first")
        timing(profiler, "coroutine")
        assert await asyncio.gather(*(load("a") for _ in range(3))) == ["a"] * 3
        found = await asyncio.gather(*(load("bad") for _ in range(5)), return_exceptions=True)
        assert all(isinstance(one, ValueError) for one in found)

    asyncio.run(main())
    totals = profiler.registry.records["coroutine"].totals()
    failed = calls.count("bad")
    assert (totals["loads"], totals["load_failures"]) == (2 + failed, failed)
    found = sketches(profiler, "coroutine")
    assert (found["load", "ok"].count, found["load", "failed"].count) == (2, failed)


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


@pytest.mark.parametrize("make", [lambda: cachetools.LRUCache(200), dict, Own], ids=["cachetools", "dict", "own"])
def test_no_count_is_lost_while_others_arm_and_disarm(profiler, make):
    """Hits, misses, sets and deletes of four threads, with everything switched on and off under them."""
    cache = instrument(make(), name="armed", profiler=profiler)
    (state,) = profiler.registry.records["armed"].live_states()
    record = profiler.registry.records["armed"]
    lock, stop, rounds = threading.Lock(), threading.Event(), 300

    def work(number):
        key = f"key{number}"
        for _ in range(rounds):
            with lock:
                cache[key] = "value"
            with lock:
                cache[key]
            with lock:
                cache.get(f"none{number}")
            with lock:
                del cache[key]

    def disturb():
        for turn in itertools.cycle(range(4)):
            if stop.is_set():
                return
            if turn == 0:
                record.open_scope()
                record.close_scope()
            elif turn == 1:
                state.timings_left = 10
                TIMING.up = TIMING.for_loads = True
                time.sleep(0)
                TIMING.up = TIMING.for_loads = False
                give_up_loads(state, time.perf_counter_ns())
            elif turn == 2:
                state.arm(WATCHED)
                state.disarm(WATCHED)
            else:
                state.arm(SAMPLED, 2)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    other = threading.Thread(target=disturb)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    try:
        for thread in (other, *workers):
            thread.start()
        for thread in workers:
            thread.join()
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(interval)
    give_up_loads(state, time.perf_counter_ns())
    state.disarm(SAMPLED | WATCHED)
    totals = record.totals()
    each = 4 * rounds
    assert [totals[name] for name in ("hits", "misses", "sets", "deletes")] == [each] * 4
    assert (totals.entries, state.timing, state.pending, state.armed) == (0, {}, {}, 0)
    if make is not Own:
        assert (state.setter, state.resting) == (0, 0)


def test_a_sample_ends_by_itself(profiler):
    """After as many reads as were asked for, and they are in the batch."""
    cache = instrument(cachetools.LRUCache(100), name="sample", profiler=profiler)
    cache["a"] = "v"
    (state,) = profiler.registry.records["sample"].live_states()
    state.arm(SAMPLED, 5)
    for _ in range(20):
        cache["a"]
    assert state.armed == 0
    profiler.registry.fold()
    keys = profiler.registry.records["sample"].flow.keys
    assert [(row.hits, row.misses) for row in keys.reads.entries.values()] == [(5, 0)]


def test_a_switch_is_down_until_it_is_put_up():
    """So that nothing is timed by accident."""
    assert not closeup.Switch().up


def test_an_operation_sees_what_happens_in_its_context_only(profiler):
    """Reads and sets inside are its own; those of another thread meanwhile are not."""
    cache = instrument(cachetools.LRUCache(100), name="scoped", profiler=profiler)
    (state,) = profiler.registry.records["scoped"].live_states()
    with profiler.profile_operation("scoped", "load") as profile:
        assert state.armed & SCOPED
        cache["a"] = "x" * 100
        cache["a"]
        cache.get("none")
        other = threading.Thread(target=lambda: cache.__setitem__("b", "y" * 5_000))
        other.start()
        other.join()
    assert (state.armed, state.setter) == (0, 0)
    assert (profile.hits, profile.misses, profile.allocations) == (1, 1, 1)
    assert profile.allocated_bytes == ("x" * 100).__sizeof__() + "a".__sizeof__()
