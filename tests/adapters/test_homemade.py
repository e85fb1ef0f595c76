"""Home-made caches as people write them, each beside a bare twin: same results, exact figures, and the byte law."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import pickle
import queue
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import cachetools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument, uninstrument
from cachescope.adapters import homemade
from cachescope.core import faults
from cachescope.core.charging import simple_bytes
from cachescope.core.errors import ConfigurationError, NotACacheError
from cachescope.core.sizing import Sizer

HOWS = ("in place", "proxy")


class Clock:
    """A time that only moves when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def profiler() -> Iterator[CacheMemoryProfiler]:
    faults.counts.clear()
    with CacheMemoryProfiler(ProfilerConfig(level="comprehensive", tick_seconds=30.0)) as profiler:
        yield profiler
    assert faults.counts == {}


# The caches


class Counted:
    def __init__(self) -> None:
        self.hits = self.misses = self.evicted = self.expired = 0


class LruCache(Counted):
    """An OrderedDict in an attribute; victims leave by popitem on it."""

    def __init__(self, clock: Clock, capacity: int = 16) -> None:
        super().__init__()
        self.capacity = capacity
        self._data: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self._data:
            self.misses += 1
            return default
        self._data.move_to_end(key)
        self.hits += 1
        return self._data[key]

    def set(self, key: str, value: Any) -> None:
        if key in self._data:
            self._data.move_to_end(key)
        self._data[key] = value
        while len(self._data) > self.capacity:
            self._data.popitem(last=False)
            self.evicted += 1

    def delete(self, key: str) -> bool:
        return self._data.pop(key, None) is not None

    def clear(self) -> None:
        self._data.clear()


class TtlCache(Counted):
    """Tuples of value and time; a get drops what has expired, ``cleanup`` sweeps."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.store: dict[str, tuple[Any, float]] = {}

    def get(self, key: str) -> Any:
        entry = self.store.get(key)
        if entry is None:
            self.misses += 1
            return None
        value, expires = entry
        if expires < self.clock():
            del self.store[key]
            self.expired += 1
            self.misses += 1
            return None
        self.hits += 1
        return value

    def set(self, key: str, value: Any, ttl: float = 10.0) -> None:
        self.store[key] = (value, self.clock() + ttl)

    def delete(self, key: str) -> None:
        self.store.pop(key, None)

    def cleanup(self) -> int:
        gone = [key for key, (_, expires) in self.store.items() if expires < self.clock()]
        for key in gone:
            del self.store[key]
        self.expired += len(gone)
        return len(gone)

    def clear(self) -> None:
        self.store = {}


class LazyTtlCache(Counted):
    """What has expired is ignored, and stays until it is written over."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._items: dict[str, tuple[Any, float]] = {}

    def fetch(self, key: str, default: Any = None) -> Any:
        entry = self._items.get(key)
        if entry is None or entry[1] < self.clock():
            self.misses += 1
            return default
        self.hits += 1
        return entry[0]

    def put(self, key: str, value: Any) -> None:
        self._items[key] = (value, self.clock() + 5)

    def invalidate(self, key: str) -> bool:
        return self._items.pop(key, None) is not None

    def flush(self) -> None:
        self._items.clear()


class PlainStore(Counted):
    """The simplest there is; None is stored too, and a miss raises."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._store: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        try:
            value = self._store[key]
        except KeyError:
            self.misses += 1
            raise
        self.hits += 1
        return value

    def set(self, key: str, value: Any) -> None:
        self._store[key] = value

    def delete(self, key: str) -> None:
        del self._store[key]

    def exists(self, key: str) -> bool:
        return key in self._store

    def clear(self) -> None:
        self._store.clear()


class Slotted:
    """No room for attributes: only a proxy can stand for it."""

    __slots__ = ("__entries", "evicted", "expired", "hits", "limit", "misses")

    def __init__(self, clock: Clock) -> None:
        self.hits = self.misses = self.evicted = self.expired = 0
        self.limit = 12
        self.__entries: dict[str, Any] = {}

    def lookup(self, key: str) -> Any:
        if key in self.__entries:
            self.hits += 1
            return self.__entries[key]
        self.misses += 1
        return None

    def store(self, key: str, value: Any) -> None:
        if key not in self.__entries and len(self.__entries) >= self.limit:
            del self.__entries[next(iter(self.__entries))]
            self.evicted += 1
        self.__entries[key] = value

    def remove(self, key: str) -> bool:
        return self.__entries.pop(key, None) is not None

    def reset(self) -> None:
        self.__entries = {}


class BoundedDict(OrderedDict[str, Any]):
    """A subclass of OrderedDict (the adapter of mappings knows it)."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.hits = self.misses = self.evicted = self.expired = 0

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > 10:
            self.popitem(last=False)
            self.evicted += 1


class LoadingCache(Counted):
    """Computes what it hasn't; plain dict, the oldest leaves."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.memo: dict[str, Any] = {}

    def get_or_compute(self, key: str, loader: Callable[[], Any]) -> Any:
        if key in self.memo:
            self.hits += 1
            return self.memo[key]
        self.misses += 1
        value = loader()
        if len(self.memo) >= 15:
            self.memo.pop(next(iter(self.memo)))
            self.evicted += 1
        self.memo[key] = value
        return value

    def invalidate(self, key: str) -> None:
        self.memo.pop(key, None)

    def put(self, key: str, value: Any) -> None:
        self.memo[key] = value


class OwnMapping(MutableMapping[str, Any]):
    """A mutable mapping with an inner dict; get, pop, setdefault, update and clear are the mixin's."""

    def __init__(self, clock: Clock) -> None:
        self.hits = self.misses = self.evicted = self.expired = 0
        self._mapping: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        return self._mapping[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self._mapping and len(self._mapping) >= 14:
            self.evicted += 1
            del self[next(iter(self._mapping))]
        self._mapping[key] = value

    def __delitem__(self, key: str) -> None:
        del self._mapping[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)


class TwoDicts(Counted):
    """Values in one dict, times in another, which comes first and has the same keys."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.times: dict[str, float] = {}
        self.contents: dict[str, Any] = {}

    def read(self, key: str) -> Any:
        if key not in self.contents:
            self.misses += 1
            return None
        if self.times[key] < self.clock():
            self._drop(key)
            self.expired += 1
            self.misses += 1
            return None
        self.hits += 1
        return self.contents[key]

    def write(self, key: str, value: Any) -> None:
        self.contents[key] = value
        self.times[key] = self.clock() + 4

    def _drop(self, key: str) -> None:
        del self.contents[key]
        del self.times[key]

    def remove(self, key: str) -> None:
        if key in self.contents:
            self._drop(key)

    def clear(self) -> None:
        self.contents.clear()
        self.times.clear()


class NormalizingCache(Counted):
    """Keys get a prefix and lose their case."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._cache: dict[str, Any] = {}

    @staticmethod
    def _key(key: str) -> str:
        return "app:v1:" + key.strip().lower()

    def get(self, key: str) -> Any:
        full = self._key(key)
        if full in self._cache:
            self.hits += 1
            return self._cache[full]
        self.misses += 1
        return None

    def set(self, key: str, value: Any) -> None:
        full = self._key(key)
        if full not in self._cache and len(self._cache) >= 20:
            self._cache.pop(next(iter(self._cache)))
            self.evicted += 1
        self._cache[full] = value

    def delete(self, key: str) -> bool:
        return self._cache.pop(self._key(key), None) is not None


@dataclass
class Entry:
    value: Any
    expires: float
    uses: int = field(default=0)


class LfuCache(Counted):
    """Entry objects, changed in place; the least used one leaves from anywhere in the dict."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.entries: dict[str, Entry] = {}

    def get(self, key: str) -> Any:
        entry = self.entries.get(key)
        if entry is not None and entry.expires < self.clock():
            self.entries.pop(key)
            self.expired += 1
            entry = None
        if entry is None:
            self.misses += 1
            return None
        entry.uses += 1
        self.hits += 1
        return entry.value

    def set(self, key: str, value: Any) -> None:
        entry = self.entries.get(key)
        if entry is not None:
            entry.value = value
            entry.expires = self.clock() + 20
            return
        if len(self.entries) >= 90:
            victim = min(self.entries, key=lambda other: self.entries[other].uses)
            del self.entries[victim]
            self.evicted += 1
        self.entries[key] = Entry(value, self.clock() + 20)

    def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None


class Node:
    __slots__ = ("key", "next", "prev", "value")

    def __init__(self, key: Any, value: Any) -> None:
        self.key, self.value = key, value
        self.prev: Node | None = None
        self.next: Node | None = None


class LinkedLru(Counted):
    """The one from the interview: a dict of nodes of a doubly linked list."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.map: dict[str, Node] = {}
        self.head, self.tail = Node(None, None), Node(None, None)
        self.head.next, self.tail.prev = self.tail, self.head

    def _unlink(self, node: Node) -> None:
        assert node.prev is not None
        assert node.next is not None
        node.prev.next, node.next.prev = node.next, node.prev

    def _append(self, node: Node) -> None:
        last = self.tail.prev
        assert last is not None
        last.next, node.prev, node.next, self.tail.prev = node, last, self.tail, node

    def get(self, key: str) -> Any:
        node = self.map.get(key)
        if node is None:
            self.misses += 1
            return None
        self._unlink(node)
        self._append(node)
        self.hits += 1
        return node.value

    def put(self, key: str, value: Any) -> None:
        if key in self.map:
            self._unlink(self.map.pop(key))
        node = Node(key, value)
        self.map[key] = node
        self._append(node)
        if len(self.map) > 100:
            oldest = self.head.next
            assert oldest is not None
            self._unlink(oldest)
            del self.map[oldest.key]
            self.evicted += 1

    def remove(self, key: str) -> None:
        node = self.map.pop(key, None)
        if node is not None:
            self._unlink(node)


class FifoCache(Counted):
    """The order is kept beside the dict, in a deque."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.queue: deque[str] = deque()
        self.values: dict[str, Any] = {}
        self.max_entries = 80

    def get(self, key: str) -> Any:
        if key in self.values:
            self.hits += 1
            return self.values[key]
        self.misses += 1
        return None

    def set(self, key: str, value: Any) -> None:
        if key not in self.values:
            if len(self.values) >= self.max_entries:
                self._evict()
            self.queue.append(key)
        self.values[key] = value

    def _evict(self) -> None:
        del self.values[self.queue.popleft()]
        self.evicted += 1

    def get_many(self, keys: list[str]) -> dict[str, Any]:
        found = {}
        for key in keys:
            if (value := self.get(key)) is not None:
                found[key] = value
        return found

    def set_many(self, mapping: dict[str, Any]) -> None:
        for key, value in mapping.items():
            self.set(key, value)


class BatchCache(Counted):
    """Batches that go past the single operations; a victim is drawn."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._values: dict[str, Any] = {}
        self._rng = random.Random(5)

    def get(self, key: str) -> Any:
        return self.mget(key)[0]

    def mget(self, *keys: str) -> list[Any]:
        for key in keys:
            if key in self._values:
                self.hits += 1
            else:
                self.misses += 1
        return [self._values.get(key) for key in keys]

    def put(self, key: str, value: Any) -> None:
        self.mset({key: value})

    def mset(self, mapping: dict[str, Any]) -> None:
        self._values.update(mapping)
        while len(self._values) > 30:
            self._values.pop(self._rng.choice(sorted(self._values.keys() - mapping.keys())))
            self.evicted += 1

    def delete(self, *keys: str) -> int:
        return sum(self._values.pop(key, None) is not None for key in keys)


class Base(Counted):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.__data: dict[str, Any] = {}
        self._lock = threading.RLock()

    def get(self, key: str, default: Any = None) -> Any:
        with self._lock:
            if key in self.__data:
                self.hits += 1
                value = self.__data.pop(key)
                self.__data[key] = value
                return value
            self.misses += 1
            return default

    def set(self, key: str, value: Any) -> None:
        with self._lock:
            self.__data.pop(key, None)
            self.__data[key] = value
            if len(self.__data) > 70:
                del self.__data[next(iter(self.__data))]
                self.evicted += 1

    def pop(self, key: str, default: Any = None) -> Any:
        with self._lock:
            if key in self.__data:
                self.hits += 1
            else:
                self.misses += 1
            return self.__data.pop(key, default)


class LockedLru(Base):
    """A private attribute of the base class, a lock, an override that calls ``super()``, dunders beside names."""

    def set(self, key: str, value: Any) -> None:
        if value is not None:
            super().set(key, value)

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)


class AroundLibrary(Counted):
    """A class around a cachetools cache."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._cache: cachetools.LRUCache[str, Any] = cachetools.LRUCache(25)

    def get(self, key: str) -> Any:
        if key in self._cache:
            self.hits += 1
            return self._cache[key]
        self.misses += 1
        return None

    def set(self, key: str, value: Any) -> None:
        if key not in self._cache and len(self._cache) == 25:
            self.evicted += 1
        self._cache[key] = value

    def delete(self, key: str) -> bool:
        return self._cache.pop(key, None) is not None


class ListCache(Counted):
    """No dict at all: what the calls say is all there is to know."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._rows: list[list[Any]] = []

    def get(self, key: str) -> Any:
        for row in self._rows:
            if row[0] == key:
                self.hits += 1
                return row[1]
        self.misses += 1
        return None

    def set(self, key: str, value: Any) -> None:
        self.delete(key)
        self._rows.append([key, value])

    def delete(self, key: str) -> bool:
        for at, row in enumerate(self._rows):
            if row[0] == key:
                del self._rows[at]
                return True
        return False


# How each is driven

Operation = Callable[[Any, str, Any, random.Random], Any]


def _names(*names: str) -> list[Operation]:
    def call(name: str) -> Operation:
        if name in ("set", "put", "store", "write", "__setitem__"):
            return lambda cache, key, value, rng: getattr(cache, name)(key, value)
        if name in ("clear", "flush", "reset", "cleanup"):
            return lambda cache, key, value, rng: getattr(cache, name)() if rng.random() < 0.02 else None
        return lambda cache, key, value, rng: getattr(cache, name)(key)

    return [call(name) for name in names]


def _fails(value: Any, rng: random.Random) -> Callable[[], Any]:
    fails = rng.random() < 0.1

    def loader() -> Any:
        if fails:
            raise RuntimeError("no such row")
        return value

    return loader


def _some_keys(key: str, rng: random.Random) -> list[str]:
    return sorted({key, *(f"key:{rng.randrange(40)}" for _ in range(3))})


CASES: dict[str, tuple[Callable[[Clock], Any], list[Operation], str]] = {
    "lru": (LruCache, _names("get", "set", "set", "delete", "clear"), "_data"),
    "ttl": (TtlCache, _names("get", "set", "get", "set", "delete", "cleanup", "clear"), "store"),
    "lazy ttl": (LazyTtlCache, _names("fetch", "put", "invalidate", "flush"), "_items"),
    "plain": (PlainStore, _names("get", "set", "exists", "delete", "clear"), "_store"),
    "slots": (Slotted, _names("lookup", "store", "store", "remove", "reset"), "_Slotted__entries"),
    "ordered dict": (BoundedDict, _names("__setitem__", "__setitem__", "__delitem__"), ""),
    "loading": (
        LoadingCache,
        [
            *_names("invalidate", "put"),
            lambda c, k, v, r: c.get_or_compute(k, _fails(v, r)),
            lambda c, k, v, r: c.get_or_compute(key=k, loader=_fails(v, r)),
        ],
        "memo",
    ),
    "mapping": (
        OwnMapping,
        [
            *_names("__setitem__", "__setitem__", "__delitem__", "clear"),
            lambda c, k, v, r: c.update({k: v, k + "b": v[1:]}),
            lambda c, k, v, r: (k in c, len(c), list(c.items())),
        ],
        "_mapping",
    ),
    "two dicts": (TwoDicts, _names("read", "write", "read", "write", "remove", "clear"), "contents"),
    "normalizing": (
        NormalizingCache,
        [
            lambda c, k, v, r: c.get(_odd(k, r)),
            lambda c, k, v, r: c.set(_odd(k, r), v),
            lambda c, k, v, r: c.set(value=v, key=_odd(k, r)),
            lambda c, k, v, r: c.delete(_odd(k, r)),
        ],
        "_cache",
    ),
    "lfu": (LfuCache, _names("get", "get", "set", "set", "set", "delete"), "entries"),
    "linked": (LinkedLru, _names("get", "put", "put", "remove"), "map"),
    "fifo": (
        FifoCache,
        [
            *_names("get", "set", "set"),
            lambda c, k, v, r: c.get_many(_some_keys(k, r)),
            lambda c, k, v, r: c.set_many({key: v[i:] for i, key in enumerate(_some_keys(k, r))}),
        ],
        "values",
    ),
    "batch": (
        BatchCache,
        [
            *_names("get", "put"),
            lambda c, k, v, r: c.mget(*_some_keys(k, r)),
            lambda c, k, v, r: c.mset({key: v[i:] for i, key in enumerate(_some_keys(k, r))}),
            lambda c, k, v, r: c.delete(*_some_keys(k, r)[:2]),
        ],
        "_values",
    ),
    "locked": (LockedLru, _names("get", "set", "__getitem__", "__setitem__", "set", "pop"), "_Base__data"),
    "around a library": (AroundLibrary, _names("get", "set", "set", "delete"), "_cache"),
    "list": (ListCache, _names("get", "set", "delete"), ""),
}


def _odd(key: str, rng: random.Random) -> str:
    return rng.choice((key, key.upper(), f" {key}", key.title()))


def _outcome(operation: Operation, cache: Any, key: str, value: Any, seed: int) -> Any:
    try:
        return operation(cache, key, value, random.Random(seed))
    except Exception as error:
        return type(error), str(error)


def held_entries(bare: Any, attribute: str) -> dict[Any, Any] | None:
    """The dict with the entries, as the cache's author knows it."""
    if attribute == "":
        return bare if isinstance(bare, dict) else None
    held = getattr(bare, attribute)
    return held if isinstance(held, dict) else held._Cache__data


def charge_of(entries: dict[Any, Any]) -> int:
    """The bytes of what is held, measured from scratch; one value under several keys once."""
    sizer = Sizer()
    total = 0
    seen: set[int] = set()
    for key, held in entries.items():
        neighbours = {id(n) for n in (getattr(held, "prev", None), getattr(held, "next", None))} - {id(None)}
        total += simple_bytes(key) if simple_bytes(key) >= 0 else sizer.measure(key).size_bytes
        if id(held) in seen:
            continue
        seen.add(id(held))
        if simple_bytes(held) >= 0:
            total += simple_bytes(held)
        else:
            total += sizer.measure(held, boundary=frozenset({id(key)} | neighbours)).size_bytes
    return total


def check_law(profile: Any) -> None:
    """Allocated + resized - freed = live; and every way of leaving is in the sum."""
    net = profile.total_allocated_bytes + profile.total_resized_bytes - profile.total_deallocated_bytes
    assert profile.net_memory_bytes == net
    assert profile.current_entries == profile.total_allocations - profile.total_deallocations


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("case", CASES)
def test_home_made_cache_beside_a_bare_twin_gives_the_same_results_and_exact_figures(
    case: str, how: str, profiler: CacheMemoryProfiler
) -> None:
    factory, operations, attribute = CASES[case]
    clock = Clock()
    bare, twin = factory(clock), factory(clock)
    if how == "in place" and hasattr(type(bare), "__slots__") and not hasattr(bare, "__dict__"):
        with pytest.raises(ConfigurationError, match="proxy"):
            instrument(bare, how=how, profiler=profiler)
        return
    if how == "proxy" and isinstance(bare, dict):
        return  # its methods of C refuse a proxy as self
    cache = instrument(bare, name="c", how=how, profiler=profiler)
    assert (cache is bare) == (how == "in place")
    rng = random.Random(f"{case} {how}")
    keys = 160 if case in ("lfu", "linked", "fifo", "locked") else 40
    for step in range(4_000):
        operation = rng.choice(operations)
        key, seed = f"key:{rng.randrange(keys)}", rng.randrange(1 << 30)
        value = "v" * rng.randrange(2, 300) + str(step)
        if case == "plain" and rng.random() < 0.1:
            value = rng.choice((None, 0, ""))
        assert _outcome(operation, cache, key, value, seed) == _outcome(operation, twin, key, value, seed)
        clock.now += rng.random() * 0.5
        if step % 501 == 0:
            profile = profiler.get_cache_profile("c")
            entries = held_entries(bare, attribute)
            if entries is not None:
                assert profile.current_entries == len(entries)
                assert profile.net_memory_bytes == charge_of(entries)
    profile = profiler.get_cache_profile("c")
    check_law(profile)
    entries = held_entries(bare, attribute)
    if entries is not None:
        assert profile.current_entries == len(entries)
        assert profile.net_memory_bytes == charge_of(entries)
    else:
        assert profile.current_entries == len(twin._rows)
        assert profile.net_memory_bytes == charge_of(dict(twin._rows))
    if case not in ("ordered dict", "mapping"):
        assert (profile.hits, profile.misses) == (twin.hits, twin.misses)
    assert profile.total_evictions == twin.evicted
    assert profile.total_expirations == twin.expired


def test_mutable_mapping_counts_each_look_up_once_and_views_as_none(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        cache = instrument(OwnMapping(Clock()), name=how, how=how, profiler=profiler)
        cache["a"] = 1
        cache.update(b=2)
        assert cache.get("a") == 1
        assert cache.get("zz") is None
        assert cache.setdefault("c", 3) == 3
        assert cache.setdefault("a", 9) == 1
        assert cache.pop("b") == 2
        assert dict(cache.items()) == {"a": 1, "c": 3}
        assert list(cache.values()) == [1, 3]
        assert "a" in cache
        with pytest.raises(KeyError):
            cache["zz"]
        profile = profiler.get_cache_profile(how)
        assert (profile.hits, profile.misses) == (3, 3)
        assert (profile.total_allocations, profile.total_deletions, profile.total_evictions) == (3, 1, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("get", "set", "delete", "tick", "cleanup", "raw")), st.integers(0, 6), st.integers(0, 90)
        ),
        max_size=60,
    ),
    st.sampled_from(HOWS),
)
def test_byte_law_holds_after_any_operations(steps: list[tuple[str, int, int]], how: str) -> None:
    with CacheMemoryProfiler(ProfilerConfig(level="comprehensive", tick_seconds=30.0)) as profiler:
        clock = Clock()
        bare = TtlCache(clock)
        cache = instrument(bare, name="c", how=how, profiler=profiler)
        for name, number, size in steps:
            key = f"k{number}"
            if name == "set":
                cache.set(key, ["x"] * size if size % 2 else bytes(size))
            elif name == "tick":
                clock.now += 4
            elif name == "cleanup":
                cache.cleanup()
            elif name == "raw":  # a sweeper that knows the inner dict
                bare.store.pop(key, None)
            else:
                getattr(cache, name)(key)
            profile = profiler.get_cache_profile("c")
            check_law(profile)
            assert profile.current_entries == len(bare.store)
            assert profile.net_memory_bytes == charge_of(bare.store)


def test_entries_of_a_large_cache_that_leave_from_the_middle_count_at_once_and_their_bytes_follow(
    profiler: CacheMemoryProfiler,
) -> None:
    for how in HOWS:
        bare = PlainStore(Clock())
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        for number in range(3_000):
            cache.set(f"k{number}", "x" * (number % 50))
        for number in range(1_000, 1_100):
            del bare._store[f"k{number}"]
        cache.set("k1050", "back again")
        with pytest.raises(KeyError):
            cache.get("k1001")
        profile = profiler.get_cache_profile(how)
        assert profile.current_entries == 2_901 == len(bare._store)
        assert profile.net_memory_bytes == charge_of(bare._store)
        assert profile.total_deletions + profile.total_expirations == 100
        check_law(profile)


def test_sweeper_thread_on_the_raw_dict_is_seen_as_expiration_where_the_class_knows_times(
    profiler: CacheMemoryProfiler,
) -> None:
    clock = Clock()
    bare = TtlCache(clock)
    cache = instrument(bare, name="c", profiler=profiler)
    for number in range(500):
        cache.set(f"k{number}", "x" * number, ttl=number)
    clock.now += 250.5

    def sweep() -> None:
        for key, (_, expires) in list(bare.store.items()):
            if expires < clock():
                bare.store.pop(key, None)

    thread = threading.Thread(target=sweep)
    thread.start()
    thread.join()
    profile = profiler.get_cache_profile("c")
    assert profile.total_expirations == 251
    assert profile.current_entries == 249
    assert profile.net_memory_bytes == charge_of(bare.store)


def test_stored_none_and_empty_values_that_are_found_are_hits(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        cache = instrument(LruCache(Clock()), name=how, how=how, profiler=profiler)
        for key, value in (("none", None), ("zero", 0), ("empty", "")):
            cache.set(key, value)
            assert cache.get(key) == value
        assert cache.get("not there") is None
        profile = profiler.get_cache_profile(how)
        assert (profile.hits, profile.misses) == (3, 1)


def test_large_value_under_two_keys_is_charged_once_until_the_last_leaves(profiler: CacheMemoryProfiler) -> None:
    cache = instrument(PlainStore(Clock()), name="c", profiler=profiler)
    value = bytes(100_000)
    cache.set("a", value)
    one = profiler.get_cache_profile("c").net_memory_bytes
    cache.set("b", value)
    assert profiler.get_cache_profile("c").net_memory_bytes < one + 1_000
    cache.delete("a")
    assert profiler.get_cache_profile("c").net_memory_bytes > 100_000
    cache.delete("b")
    assert profiler.get_cache_profile("c").net_memory_bytes == 0


def test_content_that_was_there_before_is_counted(profiler: CacheMemoryProfiler) -> None:
    bare = LruCache(Clock())
    for number in range(10):
        bare.set(f"k{number}", "x" * number)
    cache = instrument(bare, name="c", profiler=profiler)
    profile = profiler.get_cache_profile("c")
    assert profile.current_entries == 10
    assert profile.net_memory_bytes == charge_of(bare._data)
    assert profile.max_entries == 16
    cache.clear()
    assert profiler.get_cache_profile("c").net_memory_bytes == 0


def test_recursive_loader_counts_each_key_once(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        cache = instrument(LoadingCache(Clock()), name=how, how=how, profiler=profiler)

        def fib(n: int, cache: LoadingCache = cache) -> int:
            return n if n < 2 else cache.get_or_compute(str(n), lambda: fib(n - 1) + fib(n - 2))  # type: ignore[no-any-return]

        assert fib(10) == 55
        profile = profiler.get_cache_profile(how)
        assert (profile.hits, profile.misses) == (cache.hits, cache.misses) == (7, 9)
        assert profile.total_allocations == 9


class Rejecting:
    """Takes no large values, adds only what isn't there, pops."""

    def __init__(self) -> None:
        self.cache: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.cache.get(key)

    def set(self, key: str, value: str) -> bool:
        if len(value) > 100:
            return False
        self.cache[key] = value
        return True

    def add(self, key: str, value: str) -> bool:
        if key in self.cache:
            return False
        self.cache[key] = value
        return True

    def expire(self, key: str) -> None:
        self.cache.pop(key, None)

    def incr(self, key: str, by: int = 1) -> int:
        self.cache[key] = self.cache.get(key, 0) + by
        return self.cache[key]  # type: ignore[no-any-return]


def test_refused_sets_are_none(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        bare = Rejecting()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        assert cache.set("a", "x") is True
        assert cache.set("a", "y" * 200) is False
        assert cache.set("b", "y" * 200) is False
        assert cache.add("a", "z") is False
        assert cache.add("c", "z") is True
        cache.set("a", "longer than before")
        assert cache.incr("n") == 1
        assert cache.incr("n", by=1_000_000) == 1_000_001
        cache.expire("c")
        profile = profiler.get_cache_profile(how)
        assert profile.total_allocations == 3
        assert profile.total_deletions == 1
        assert profile.net_memory_bytes == charge_of(bare.cache)
        check_law(profile)


# Where the entries are, and under which keys


class Kept(Counted):
    """Four dicts beside each other, none with a telling name."""

    def __init__(self) -> None:
        self.a: dict[Any, Any] = {}
        self.b: dict[Any, Any] = {}
        self.c: OrderedDict[Any, None] = OrderedDict()
        self.n = {"x": 0}

    def get(self, key: Any) -> Any:
        if key in self.b:
            self.a[key] += 1
            return self.b[key]
        return None

    def set(self, key: Any, value: Any) -> None:
        self.a[key], self.c[key], self.b[key] = 0, None, value
        if len(self.b) > 100:
            oldest = self.c.popitem(last=False)[0]
            del self.b[oldest], self.a[oldest]

    def held(self) -> dict[Any, Any]:
        return self.b


class Hashing(Kept):
    """Keys that can't be made again from what was seen."""

    def get(self, key: Any) -> Any:
        return self.b.get(hashlib.md5(json.dumps(key).encode()).hexdigest())

    def set(self, key: Any, value: Any) -> None:
        self.b[hashlib.md5(json.dumps(key).encode()).hexdigest()] = value
        if len(self.b) > 100:
            self.b.pop(next(iter(self.b)))


class Numbered(Kept):
    def get(self, key: Any) -> Any:
        return self.b.get(f"u{key}")

    def set(self, key: Any, value: Any) -> None:
        self.b[f"u{key}"] = value


class Replacing(Kept):
    """A new dict at each change."""

    def get(self, key: Any) -> Any:
        return self.b.get(key)

    def set(self, key: Any, value: Any) -> None:
        self.b = {**self.b, key: value}


class Layered(Kept):
    """The entries are two objects away."""

    def __init__(self) -> None:
        self.layer = LruCache(Clock(), capacity=30)

    def get(self, key: Any) -> Any:
        return self.layer.get(key)

    def set(self, key: Any, value: Any) -> None:
        self.layer.set(key, value)

    def held(self) -> dict[Any, Any]:
        return self.layer._data


class OfTheClass(Kept):
    """One dict for all objects of the class."""

    shared: ClassVar[dict[Any, Any]] = {}

    def __init__(self) -> None:
        self.shared.clear()

    def get(self, key: Any) -> Any:
        return self.shared.get(key)

    def set(self, key: Any, value: Any) -> None:
        self.shared[key] = value

    def held(self) -> dict[Any, Any]:
        return self.shared


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", [Kept, Hashing, Numbered, Replacing, Layered, OfTheClass])
def test_entries_are_found_wherever_they_are(kind: type[Kept], how: str, profiler: CacheMemoryProfiler) -> None:
    bare = kind()
    cache = instrument(bare, name="c", how=how, profiler=profiler)
    rng = random.Random(11)
    hits = misses = 0
    for step in range(2_000):
        key = rng.randrange(150)
        if rng.random() < 0.5:
            if cache.get(key) is None:
                misses += 1
            else:
                hits += 1
        else:
            cache.set(key, "v" * rng.randrange(200) + str(step))
        if step % 199 == 0:
            profile = profiler.get_cache_profile("c")
            assert profile.current_entries == len(bare.held())
            assert profile.net_memory_bytes == charge_of(bare.held())
    profile = profiler.get_cache_profile("c")
    assert (profile.hits, profile.misses) == (hits, misses)
    check_law(profile)


def test_key_of_two_parameters_is_one_key(profiler: CacheMemoryProfiler) -> None:
    class Namespaced:
        def __init__(self) -> None:
            self.data: dict[str, Any] = {}

        def get(self, namespace: str, key: str) -> Any:
            return self.data.get(f"{namespace}:{key}")

        def set(self, namespace: str, key: str, value: Any) -> None:
            self.data[f"{namespace}:{key}"] = value

        def delete(self, namespace: str, key: str) -> None:
            self.data.pop(f"{namespace}:{key}", None)

    for how in HOWS:
        bare = Namespaced()
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        cache.set("a", "1", "x" * 9)
        cache.set("b", "1", "y" * 99)
        assert cache.get("a", key="1") == "x" * 9
        assert cache.get("c", "1") is None
        cache.set("b", "1", "z")
        cache.delete("a", "1")
        profile = profiler.get_cache_profile(how)
        assert (profile.hits, profile.misses, profile.total_allocations, profile.total_deletions) == (1, 1, 2, 1)
        assert profile.net_memory_bytes == charge_of(bare.data)


# Ways in and out


def test_operations_name_what_cannot_be_guessed(profiler: CacheMemoryProfiler) -> None:
    class Odd:
        def __init__(self) -> None:
            self.things: dict[str, Any] = {}

        def bring(self, what: str) -> Any:
            return self.things.get(what)

        def take_in(self, what: str, thing: Any) -> None:
            self.things[what] = thing

        def chuck(self, what: str) -> None:
            self.things.pop(what, None)

        def forget_everything(self) -> None:
            self.things.clear()

        def bring_all(self, whats: list[str]) -> list[Any]:
            return [self.bring(what) for what in whats]

    with pytest.raises(NotACacheError, match="operations="):
        instrument(Odd(), profiler=profiler)
    for how in HOWS:
        cache = instrument(
            Odd(),
            name=how,
            how=how,
            profiler=profiler,
            operations={
                "bring": "get",
                "take_in": "set",
                "chuck": "delete",
                "forget_everything": "clear",
                "bring_all": "get_batch",
            },
        )
        cache.take_in("a", "x" * 30)
        cache.take_in(what="b", thing="y" * 30)
        assert cache.bring_all(["a", "b", "c"]) == ["x" * 30, "y" * 30, None]
        cache.chuck("a")
        profile = profiler.get_cache_profile(how)
        assert (profile.hits, profile.misses) == (2, 1)
        assert (profile.total_allocations, profile.total_deletions, profile.current_entries) == (2, 1, 1)
        cache.forget_everything()
        assert profiler.get_cache_profile(how).clears == 1


@pytest.mark.parametrize(
    ("operations", "says"),
    [
        ({"gett": "get", "set": "set"}, "'gett' is no method of LruCache; did you mean 'get'"),
        ({"get": "gte", "set": "set"}, "'gte' is no operation; did you mean 'get'"),
        ({"get": 5}, "5 is no operation"),
        ({}, "expected a mapping"),
        (["get"], "expected a mapping"),
        ({"clear": "clear"}, "nothing in it looks a key up"),
    ],
)
def test_wrong_operations_are_refused_with_near_names(
    operations: Any, says: str, profiler: CacheMemoryProfiler
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        instrument(LruCache(Clock()), operations=operations, profiler=profiler)


class OnlyGet:
    def get(self, key: str) -> None: ...


class HttpSession:
    def get(self, url: str, **kwargs: Any) -> None: ...
    def put(self, url: str, data: Any = None, **kwargs: Any) -> None: ...
    def delete(self, url: str, **kwargs: Any) -> None: ...


class Jobs:
    def get(self, block: bool = True, timeout: float | None = None) -> None: ...
    def put(self, item: Any, block: bool = True) -> None: ...


def a_function(key: str) -> str:
    return key


@pytest.mark.parametrize(
    "thing",
    [
        OnlyGet(),
        HttpSession(),
        Jobs(),
        queue.Queue(),
        threading.Lock(),
        argparse.Namespace(get=1, set=2),
        os.environ,
        {}.keys(),
        {1: 2}.items(),
        [],
        (),
        "text",
        5,
        None,
        object(),
        LruCache,
        a_function,
        os,
        lambda key: key,
        iter(()),
        time.struct_time(range(9)),
        frozenset(),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_cache_is_refused(thing: Any, profiler: CacheMemoryProfiler) -> None:
    with pytest.raises(NotACacheError, match="no cache operation was recognised"):
        instrument(thing, profiler=profiler)


def test_session_of_requests_is_no_cache(profiler: CacheMemoryProfiler) -> None:
    requests = pytest.importorskip("requests")
    with requests.Session() as session, pytest.raises(NotACacheError):
        instrument(session, profiler=profiler)


def test_uninstrument_restores_class_and_behaviour(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        bare = LruCache(Clock())
        names = set(vars(bare))
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        assert cache.__class__ is LruCache
        assert isinstance(cache, LruCache)
        cache.set("a", 1)
        assert uninstrument(cache) is bare
        assert type(bare) is LruCache
        assert set(vars(bare)) == names
        bare.set("b", 2)
        assert bare.get("a") == 1
        profile = profiler.get_cache_profile(how)
        assert (profile.total_allocations, profile.hits) == (1, 0)


def test_hooks_go_inert_when_the_profiler_stops() -> None:
    bare = LruCache(Clock())
    with CacheMemoryProfiler(ProfilerConfig(tick_seconds=30.0)) as profiler:
        cache = instrument(bare, name="c", profiler=profiler)
        cache.set("a", 1)
    cache.set("b", 2)
    assert cache.get("a") == 1
    assert cache.get("c", "else") == "else"
    assert profiler.get_cache_profile("c").total_allocations == 1


def test_pickles_and_copies_hold_nothing_of_ours(profiler: CacheMemoryProfiler) -> None:
    for how in HOWS:
        bare = PlainStore(Clock())
        cache = instrument(bare, name=how, how=how, profiler=profiler)
        cache.set("a", "x" * 10)
        data = pickle.dumps(cache)
        assert b"cachescope" not in data
        loaded = pickle.loads(data)
        assert type(loaded) is PlainStore
        assert loaded.get("a") == "x" * 10
        deep = copy.deepcopy(cache)
        deep.set("b", 1)
        assert cache.exists("b") is False
        shallow = copy.copy(cache)
        assert shallow.get("a") == "x" * 10
        profile = profiler.get_cache_profile(how)
        assert profile.total_allocations >= 1
        assert profiler.get_cache_profile(how).current_entries >= 1


def test_no_value_is_kept_alive(profiler: CacheMemoryProfiler) -> None:
    import gc
    import weakref

    class Value:
        pass

    for how in HOWS:
        cache = instrument(LruCache(Clock(), capacity=2), name=how, how=how, profiler=profiler)
        values = [Value() for _ in range(4)]
        refs = [weakref.ref(value) for value in values]
        for number, value in enumerate(values):
            cache.set(str(number), value)
            cache.get(str(number))
        del values, value
        gc.collect()
        assert [ref() is None for ref in refs] == [True, True, False, False]
        target = weakref.ref(uninstrument(cache))
        del cache
        gc.collect()
        assert target() is None


def test_exceptions_come_through_unchanged(profiler: CacheMemoryProfiler) -> None:
    class Failing:
        def __init__(self) -> None:
            self.data: dict[Any, Any] = {}

        def get(self, key: Any) -> Any:
            return self.data[key]

        def set(self, key: Any, value: Any) -> None:
            self.data[key] = value
            raise OSError("disk full")

    for how in HOWS:
        cache = instrument(Failing(), name=how, how=how, profiler=profiler)
        with pytest.raises(OSError, match="disk full"):
            cache.set("a", 1)
        with pytest.raises(TypeError, match="unhashable"):
            cache.get([])
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
            cache.set("a")
        with pytest.raises(KeyError):
            cache.get("b")
        profile = profiler.get_cache_profile(how)
        assert (profile.current_entries, profile.hits, profile.misses) == (1, 0, 1)


def test_threads_leave_entries_and_bytes_right(profiler: CacheMemoryProfiler) -> None:
    bare = LockedLru(Clock())
    cache = instrument(bare, name="c", profiler=profiler)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(1_500):
            key = f"k{rng.randrange(150)}"
            rng.choice((cache.get, cache.pop, lambda k: cache.set(k, "v" * rng.randrange(1, 99))))(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profile = profiler.get_cache_profile("c")
    entries = held_entries(bare, "_Base__data")
    assert entries is not None
    assert profile.current_entries == len(entries)
    assert profile.net_memory_bytes == charge_of(entries)
    check_law(profile)


def test_weigher_is_given_the_value_that_was_stored(profiler: CacheMemoryProfiler) -> None:
    cache = instrument(TtlCache(Clock()), name="c", weigher=lambda key, value: len(value), profiler=profiler)
    cache.set("a", "x" * 1_000)
    assert profiler.get_cache_profile("c").net_memory_bytes == 1_000


def test_place_of_the_entries_is_found_by_evidence(profiler: CacheMemoryProfiler) -> None:
    cache = TwoDicts(Clock())
    adapter = homemade.ADAPTER
    assert adapter.recognises(cache)
    assert adapter.entries(cache) is cache.contents
    assert adapter.limits(LruCache(Clock())) == (16.0, None)
    assert adapter.container_bytes(cache) == 0
