"""What a hostile user found: each was wrong once."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter, OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, autopatch, instrument


@pytest.fixture
def profiler() -> Iterator[CacheMemoryProfiler]:
    with CacheMemoryProfiler() as profiler:
        yield profiler


@pytest.mark.parametrize("how", ["in place", "proxy"])
@pytest.mark.parametrize("ttl", ["ttl", "ttu"])
def test_a_timed_get_freezes_its_clock(profiler: CacheMemoryProfiler, how: str, ttl: str) -> None:
    """An entry that expires between the look and the read is still returned; the clock is asked as often as bare."""

    def run(watch: Callable[[Any], Any]) -> list[object]:
        asked = 0

        def timer() -> int:
            nonlocal asked
            asked += 1
            return asked

        cache = (
            cachetools.TTLCache(10, 7, timer)
            if ttl == "ttl"
            else cachetools.TLRUCache(10, lambda k, v, t: t + 7, timer)
        )
        cache = watch(cache)
        out: list[object] = []
        for i in range(200):
            cache[i % 5] = i
            out += [cache.get(i % 5), cache.get((i + 3) % 5, "gone")]
        return [*out, asked]

    assert run(lambda cache: instrument(cache, name="c", how=how, profiler=profiler)) == run(lambda cache: cache)


class Own(dict):  # type: ignore[type-arg]
    """A subclass that takes attributes, and is changed in place."""


@pytest.mark.parametrize("make", [dict, OrderedDict, lambda: defaultdict(int), Own, UserDict, Counter])
def test_update_reads_nothing_ahead(profiler: CacheMemoryProfiler, make: Callable[[], Any]) -> None:
    """A generator may look at the dict that it fills, and raise half way: what came before stays."""

    def counting(cache: Any) -> dict[str, int]:
        cache.update((word, cache.get(word, 0) + 1) for word in ["a", "b", "a", "a"])
        return dict(cache)

    def failing(cache: Any) -> tuple[str, list[object]]:
        def pairs() -> Iterator[tuple[str, int]]:
            yield "a", 1
            yield "b", 2
            raise ZeroDivisionError("half way")

        with pytest.raises(ZeroDivisionError) as caught:
            cache.update(pairs())
        return str(caught.value), sorted(cache, key=str)

    for action in (counting, failing):
        bare, cache = make(), instrument(make(), name=action.__name__, profiler=profiler)
        assert action(cache) == action(bare)
        profile = profiler.get_cache_profile(action.__name__)
        assert profile.current_entries == len(bare)


class Column:
    """Like an SQLAlchemy column: comparing it gives no truth."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        raise TypeError("the truth value of this clause is not defined")


class Normalising(cachetools.LRUCache):  # type: ignore[type-arg]
    """An overriding set, as users write them."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)


@pytest.mark.parametrize("how", ["in place", "proxy", "class patch"])
@pytest.mark.parametrize("cls", [cachetools.LRUCache, Normalising])
def test_keys_are_compared_only_where_a_dict_would(profiler: CacheMemoryProfiler, cls: type, how: str) -> None:
    """Keys of different hashes are never asked whether they are equal."""
    handle = autopatch("cachetools", profiler=profiler) if how == "class patch" else None
    try:
        cache = cls(3)
        if handle is None:
            cache = instrument(cache, name="c", how=how, profiler=profiler)
        for i in range(10):
            cache[Column(i)] = bytes(10)
        (name,) = profiler.caches()
        profile = profiler.get_cache_profile(name)
        assert (profile.total_evictions, profile.current_entries) == (7, 3)
    finally:
        if handle is not None:
            handle.undo()


class Dying:
    """Sets in the cache that it is being dropped from."""

    def __init__(self, cache: Any, number: int) -> None:
        self.cache, self.number = cache, number

    def __del__(self) -> None:
        self.cache[f"del{self.number % 3}"] = "y"


@pytest.mark.parametrize("how", ["in place", "proxy"])
def test_what_del_sets_inside_a_set_is_a_set_of_its_own(profiler: CacheMemoryProfiler, how: str) -> None:
    """Entries agree with what is there, and bytes return to 0."""
    cache = instrument(cachetools.LRUCache(5), name="c", how=how, profiler=profiler)
    for i in range(30):
        cache[i % 9] = Dying(cache, i)
    assert profiler.get_cache_profile("c").current_entries == len(cache._Cache__data)


class Interrupting(str):
    """A key whose hash is interrupted, once it is told to."""

    __slots__ = ()
    armed = False

    def __hash__(self) -> int:
        if Interrupting.armed:
            raise KeyboardInterrupt
        return str.__hash__(self)


@pytest.mark.parametrize("action", ["set", "delete", "get", "pop"])
def test_an_interrupt_is_never_swallowed(profiler: CacheMemoryProfiler, action: str) -> None:
    """Ctrl-C in the middle of a hook reaches the user."""
    cache = instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
    key = Interrupting("k")
    cache[key] = 1
    Interrupting.armed = True
    try:
        with pytest.raises(KeyboardInterrupt):
            {"set": lambda: cache.__setitem__(key, 2), "delete": lambda: cache.__delitem__(key)}.get(
                action, lambda: getattr(cache, action)(key)
            )()
    finally:
        Interrupting.armed = False


def test_pop_and_setdefault_of_a_proxied_dict_lose_no_count_under_threads(profiler: CacheMemoryProfiler) -> None:
    """Eight threads, each with keys of its own, at the shortest switch interval."""
    cache = instrument({}, name="c", profiler=profiler)
    rounds, workers = 300, 8

    def work(number: int) -> None:
        rng = random.Random(number)
        for i in range(rounds):
            key = f"{number}:{rng.randrange(9)}"
            cache.setdefault(key, i)
            cache.pop(key)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    profile = profiler.get_cache_profile("c")
    assert (profile.total_allocations, profile.total_deletions) == (rounds * workers, rounds * workers)
    assert (profile.current_entries, profile.net_memory_bytes) == (0, 0)
