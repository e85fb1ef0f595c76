"""Pressure and subscribers: told outside of the cache's calls, with room to act, and unable to do harm."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    ConfigurationError,
    MemoryAllocation,
    MemoryEventType,
    ProfilerConfig,
    instrument,
)
from cachescope.core import faults
from profiler.driving import Driven, events_of, wait_until


@pytest.fixture
def watching() -> Iterator[CacheMemoryProfiler]:
    """Caches called users have a budget of 1 MB; limits are looked at ten times a second."""
    settings = ProfilerConfig(
        snapshot_seconds=0.1, tick_seconds=0.02, cache_budgets={"users*": 1_000_000}, pressure_release=0.1
    )
    with CacheMemoryProfiler(settings) as profiler:
        yield profiler


def levels(events: list[MemoryAllocation], name: str = "users") -> list[object]:
    return [event.metadata["level"] for event in events if event.cache_name == name and event.metadata]


def test_a_budget_is_told_of_when_neared_and_when_it_is_over(watching: CacheMemoryProfiler) -> None:
    """High, critical, and normal again once a subscriber has shrunk the cache; each said once."""
    cache = instrument(cachetools.LRUCache(1_000), name="users", profiler=watching)
    other = instrument(cachetools.LRUCache(1_000), name="pages", profiler=watching)
    told: list[MemoryAllocation] = []
    callers: set[int] = set()
    may_shrink = threading.Event()

    def shrink(event: MemoryAllocation) -> None:
        told.append(event)
        callers.add(threading.get_ident())
        if event.metadata and event.metadata["level"] == "critical" and may_shrink.wait(20):
            while len(cache) > 10:
                cache.popitem()

    watching.subscribe(shrink)
    for i in range(85):
        cache[f"user:{i}"] = other[f"page:{i}"] = bytes(10_000)
    wait_until(lambda: levels(told) == ["high"], "high pressure")
    for i in range(85, 200):
        cache[f"user:{i}"] = bytes(10_000)
    wait_until(lambda: levels(told) == ["high", "critical"], "critical pressure")
    held = watching.get_cache_profile("users").current_memory_bytes
    may_shrink.set()
    wait_until(lambda: levels(told)[-1] == "normal", "the end of it")
    assert levels(told) == ["high", "critical", "normal"]
    assert levels(told, "pages") == []
    high, critical, normal = [event for event in told if event.cache_name == "users"]
    assert critical.event_type is MemoryEventType.PRESSURE
    assert critical.metadata is not None
    assert (critical.size_bytes, critical.metadata["limit_bytes"]) == (held, 1_000_000)
    assert critical.metadata["scope"] == "cache"
    assert high.timestamp <= critical.timestamp <= normal.timestamp
    assert threading.get_ident() not in callers
    assert levels([*watching.report().pressure]) == ["high", "critical", "normal"]
    assert watching.get_cache_profile("users").current_entries == 10


def limits_looked_at(profiler: CacheMemoryProfiler) -> None:
    """Wait until the background thread has looked at the limits twice: once it may have been doing so."""
    for _ in range(2):
        before = profiler._vitals._judged_at
        wait_until(lambda before=before: profiler._vitals._judged_at > before, "a look at the limits")


def test_what_trembles_around_the_mark_is_told_once(watching: CacheMemoryProfiler) -> None:
    """Down by less than the release share, the level stays."""
    cache = instrument(cachetools.LRUCache(1_000), name="users", profiler=watching)
    told: list[MemoryAllocation] = []
    watching.subscribe(told.append, caches=["users"])
    for i in range(82):
        cache[f"user:{i}"] = bytes(10_000)
    wait_until(lambda: levels(told) == ["high"], "high pressure")
    for _ in range(2):
        for i in range(76, 82):
            cache.pop(f"user:{i}")
        limits_looked_at(watching)
        for i in range(76, 82):
            cache[f"user:{i}"] = bytes(10_000)
        limits_looked_at(watching)
    assert levels(told) == ["high"]
    for i in range(40):
        cache.pop(f"user:{i}")
    wait_until(lambda: levels(told) == ["high", "normal"], "the end of it")


async def test_a_coroutine_function_is_awaited_on_the_loop_that_subscribed(watching: CacheMemoryProfiler) -> None:
    """And may shrink the cache there."""
    cache = instrument(cachetools.LRUCache(1_000), name="users", profiler=watching)
    where: list[tuple[asyncio.AbstractEventLoop, int]] = []
    over = asyncio.Event()

    async def shrink(event: MemoryAllocation) -> None:
        await asyncio.sleep(0)
        where.append((asyncio.get_running_loop(), threading.get_ident()))
        assert event.metadata is not None
        if event.metadata["level"] == "normal":
            over.set()
        cache.clear()

    with watching.subscribe(shrink, caches=["users"]):
        for i in range(200):
            cache[f"user:{i}"] = bytes(10_000)
        await asyncio.wait_for(over.wait(), 20)
    assert set(where) == {(asyncio.get_running_loop(), threading.get_ident())}


def test_a_coroutine_function_without_a_loop_is_refused(watching: CacheMemoryProfiler) -> None:
    """It would never run."""

    async def never(event: MemoryAllocation) -> None:
        raise AssertionError(event)

    with pytest.raises(ConfigurationError, match="loop"):
        watching.subscribe(never)


def test_evictions_come_to_whom_they_were_promised(profiler: CacheMemoryProfiler) -> None:
    """All of them, in order, of the caches asked for, and of no other kind."""
    driven = Driven(instrument(cachetools.LRUCache(50), name="c", profiler=profiler), 50)
    other = Driven(instrument(cachetools.LRUCache(50), name="other", profiler=profiler), 50)
    told: list[MemoryAllocation] = []
    subscription = profiler.subscribe(told.append, kinds=[MemoryEventType.EVICTION], caches=["c"])
    for i in range(300):
        driven.set(f"user:{i}", i)
        other.set(f"user:{i}", i)
    wait_until(lambda: len(told) >= 250, "all evictions")
    subscription.cancel()
    assert [event.size_bytes for event in told] == sorted(event.size_bytes for event in told)
    assert sum(event.size_bytes for event in told) == driven.tally.bytes["eviction"]
    assert {(event.cache_name, event.event_type) for event in told} == {("c", MemoryEventType.EVICTION)}
    assert {event.thread_id for event in told} == {threading.get_ident()}
    driven.set("one more", 10)
    profiler.beat()
    assert (len(told), subscription.dropped) == (250, 0)


def failing(event: MemoryAllocation) -> None:
    raise RuntimeError("on purpose")


def leaving(event: MemoryAllocation) -> None:
    raise SystemExit


@pytest.mark.parametrize("bad", [failing, leaving], ids=["raises", "exits"])
def test_a_subscriber_that_fails_disturbs_nobody(
    profiler: CacheMemoryProfiler, bad: Callable[[MemoryAllocation], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the other subscribers nor any figure; it is counted, and said once."""
    driven = Driven(instrument(cachetools.LRUCache(50), name="c", profiler=profiler), 50)
    good: list[MemoryAllocation] = []
    subscription = profiler.subscribe(bad, kinds=None)
    profiler.subscribe(good.append, kinds=[MemoryEventType.EVICTION])
    for i in range(200):
        driven.set(f"user:{i}", i)
    wait_until(lambda: len(good) == 150 and subscription.failures == 350, "all events")
    assert events_of(profiler.get_allocation_patterns("c")) == {
        event: (count, driven.tally.bytes[event]) for event, count in driven.tally.counts.items()
    }
    assert sum("failed, and stays subscribed" in record.message for record in caplog.records) == 1
    assert sum(profiler.report().processes[0].faults.values()) == 350
    faults.counts.clear()


def test_a_subscriber_that_blocks_holds_up_neither_folds_nor_questions(profiler: CacheMemoryProfiler) -> None:
    """Other plain subscribers wait for it, within a bound; what does not fit there is counted."""
    driven = Driven(instrument(cachetools.LRUCache(50), name="c", profiler=profiler), 50)
    stuck, go_on = threading.Event(), threading.Event()

    def blocking(event: MemoryAllocation) -> None:
        stuck.set()
        go_on.wait(20)

    told: list[MemoryAllocation] = []
    slow = profiler.subscribe(blocking, kinds=None)
    waiting = profiler.subscribe(told.append, kinds=[MemoryEventType.EVICTION])
    driven.set("user:0", 10)
    assert stuck.wait(20)
    for i in range(1, 2_000):
        driven.set(f"user:{i}", i)
    profiler.beat()
    assert profiler.get_memory_hotspots("c")[0].allocation_count == 2_000
    assert profiler.get_cache_profile("c").net_memory_bytes == driven.tally.net
    assert (slow.calls, waiting.calls) == (1, 0)
    slow.cancel()
    go_on.set()
    wait_until(lambda: waiting.calls + waiting.dropped == 1_950, "the other subscriber")
    assert waiting.dropped > 0
    assert slow.dropped > waiting.dropped
    assert told[-1].size_bytes == max(event.size_bytes for event in told)


def test_a_subscriber_may_end_itself_and_ask_the_profiler(profiler: CacheMemoryProfiler) -> None:
    """In its call; it is not called again."""
    driven = Driven(instrument(cachetools.LRUCache(50), name="c", profiler=profiler), 50)
    answers: list[int] = []

    def once(event: MemoryAllocation) -> None:
        answers.append(profiler.get_cache_profile("c").current_entries)
        answers.append(len(profiler.report().caches))
        subscription.cancel()

    subscription = profiler.subscribe(once, kinds=None)
    for i in range(60):
        driven.set(f"user:{i}", i)
    wait_until(lambda: not subscription.active, "the end of the subscription")
    profiler.beat()
    assert (subscription.calls, answers[1]) == (1, 1)


def test_a_budget_without_room_is_normal_at_first(watching: CacheMemoryProfiler) -> None:
    """An empty cache presses on nothing, and the process's level comes from the machine's alone."""
    instrument(cachetools.LRUCache(10), name="users", profiler=watching)
    told: list[MemoryAllocation] = []
    watching.subscribe(told.append, caches=["users"])
    wait_until(lambda: len(watching.get_memory_snapshots()) >= 3, "some snapshots")
    assert told == []
