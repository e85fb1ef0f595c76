"""Random operations on caches of cachetools, watched, against a bare twin and an oracle that is none of our code.

Run as a program, so that any version of cachetools that comes first on ``PYTHONPATH`` can be tried::

    PYTHONPATH=folder/of/cachetools-6.2.4 python fuzz_cachetools.py --how proxy --kind LRUCache --operations 4000

The twin lives in a second copy of the library, loaded under another name, which nothing patches. Its storage is a dict
that logs what goes in and out; what each entry means is told from that log, from the fake clock and from the keys that
were there before: an entry that goes inside a set of another one was evicted, one whose time is over has expired.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from cachescope.core.state import COUNTERS
from cachescope.testing import FakeClock, naive_bytes

LARGE = 3
"""Large values that several entries share; they are charged once."""


def second_copy(name: str = "cachetools_bare") -> ModuleType:
    """The library once more, under another name, with classes of its own."""
    found = importlib.util.find_spec("cachetools")
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location(
        name, found.origin, submodule_search_locations=list(found.submodule_search_locations or ())
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Kind:
    """A class of caches under test, made alike from either copy of the library."""

    def __init__(
        self,
        make: Callable[[ModuleType, Callable[[], int], random.Random], Callable[[], Any]],
        *,
        ttl: int | None = None,
        ttu: bool = False,
        stores: bool = False,
        normalise: Callable[[Any], Any] = lambda key: key,
    ) -> None:
        self.make, self.ttl, self.ttu, self.stores, self.normalise = make, ttl, ttu, stores, normalise

    @property
    def timed(self) -> bool:
        return self.ttl is not None or self.ttu


def time_to_use(key: Any, value: Any, now: int) -> int:
    """Some values are past their time when they are set."""
    return now + len(repr(value)) % 11 - 2


def weigh(value: Any) -> int:
    return len(repr(value)) % 7


def lower(key: Any) -> Any:
    return key.lower() if isinstance(key, str) else key


def _stock(name: str, *arguments: Any, getsizeof: bool = False) -> Kind:
    def make(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
        cls = getattr(library, name)
        options: dict[str, Any] = {"getsizeof": weigh} if getsizeof else {}
        if name == "RRCache":
            options["choice"] = chance.choice
        if name in ("TTLCache", "TLRUCache"):
            options["timer"] = clock
        return lambda: cls(20 if getsizeof else 8, *arguments, **options)

    return Kind(make, ttl=arguments[0] if name == "TTLCache" else None, ttu=name == "TLRUCache")


def _calls_super(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Base(library.TTLCache):  # type: ignore[name-defined,misc]
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)

        def __delitem__(self, key: Any) -> None:
            super().__delitem__(key)

    class Everything(Base):
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)

        def __delitem__(self, key: Any) -> None:
            super().__delitem__(key)

        def __missing__(self, key: Any) -> Any:
            return super().__missing__(key)

        def get(self, key: Any, default: Any = None) -> Any:
            return super().get(key, default)

        def pop(self, key: Any, *default: Any) -> Any:
            return super().pop(key, *default)

        def setdefault(self, key: Any, default: Any = None) -> Any:
            return super().setdefault(key, default)

        def popitem(self) -> Any:
            return super().popitem()

        def clear(self) -> None:
            super().clear()

        def update(self, *args: Any, **kwargs: Any) -> None:
            super().update(*args, **kwargs)

    return lambda: Everything(8, 12, timer=clock)


def _expires(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Listening(library.TTLCache):  # type: ignore[name-defined,misc]
        def expire(self, time: Any = None) -> Any:
            gone = super().expire(time)
            self.seen = getattr(self, "seen", 0) + len(list(gone or ()))
            return gone

    return lambda: Listening(8, 9, timer=clock)


def _loads(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Loading(library.LRUCache):  # type: ignore[name-defined,misc]
        def __missing__(self, key: Any) -> Any:
            if hash(key) % 5 == 0:
                raise KeyError(key)
            value = f"loaded for {key!r}"
            self[key] = value
            return value

    return lambda: Loading(8)


def _hides_misses(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Hiding(library.LRUCache):  # type: ignore[name-defined,misc]
        def __getitem__(self, key: Any) -> Any:
            try:
                return super().__getitem__(key)
            except KeyError:
                return None

    return lambda: Hiding(8)


def _normalises(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Lower(library.LRUCache):  # type: ignore[name-defined,misc]
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(lower(key))

        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(lower(key), value)

        def __delitem__(self, key: Any) -> None:
            super().__delitem__(lower(key))

        def __contains__(self, key: Any) -> bool:
            return super().__contains__(lower(key))

    return lambda: Lower(8)


def _picks_victims(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Picking(library.Cache):  # type: ignore[name-defined,misc]
        def popitem(self) -> Any:
            if not len(self):
                raise KeyError("nothing to evict")
            key = sorted(self, key=repr)[0]
            return key, self.pop(key)

    return lambda: Picking(8)


def _deletes_victims(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Deleting(library.LFUCache):  # type: ignore[name-defined,misc]
        def __setitem__(self, key: Any, value: Any) -> None:
            if key not in self and len(self) >= 4:
                del self[sorted(self, key=repr)[-1]]
            super().__setitem__(key, value)

    return lambda: Deleting(8)


def _rewrites_compounds(library: ModuleType, clock: Callable[[], int], chance: random.Random) -> Callable[[], Any]:
    class Compound(library.FIFOCache):  # type: ignore[name-defined,misc]
        def get(self, key: Any, default: Any = None) -> Any:
            try:
                return self[key]
            except KeyError:
                return default

        def setdefault(self, key: Any, default: Any = None) -> Any:
            try:
                return self[key]
            except KeyError:
                self[key] = default
                return default

        def pop(self, key: Any, *default: Any) -> Any:
            try:
                value = self[key]
            except KeyError:
                if default:
                    return default[0]
                raise
            del self[key]
            return value

    return lambda: Compound(8)


def kinds(library: ModuleType) -> dict[str, Kind]:
    """All kinds that this version of the library can make, by name."""
    found = {
        "Cache": _stock("Cache"),
        "FIFOCache": _stock("FIFOCache"),
        "LFUCache": _stock("LFUCache"),
        "LRUCache": _stock("LRUCache"),
        "MRUCache": _stock("MRUCache"),
        "RRCache": _stock("RRCache"),
        "TTLCache": _stock("TTLCache", 10),
        "TLRUCache": _stock("TLRUCache", time_to_use),
        "LRUCache by weight": _stock("LRUCache", getsizeof=True),
        "TTLCache by weight": _stock("TTLCache", 10, getsizeof=True),
        "TLRUCache by weight": _stock("TLRUCache", time_to_use, getsizeof=True),
        "calls super": Kind(_calls_super, ttl=12),
        "overrides expire": Kind(_expires, ttl=9),
        "stores what it misses": Kind(_loads, stores=True),
        "hides misses": Kind(_hides_misses),
        "normalises keys": Kind(_normalises, normalise=lower),
        "picks victims": Kind(_picks_victims),
        "deletes victims": Kind(_deletes_victims),
        "rewrites compounds": Kind(_rewrites_compounds),
    }
    return {name: kind for name, kind in found.items() if name != "MRUCache" or hasattr(library, "MRUCache")}


class LoggedDict(dict):  # type: ignore[type-arg]
    """A dict that writes down what its owner does to it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.log: list[tuple[str, Any, Any]] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.log.append(("set", key, value))

    def __delitem__(self, key: Any) -> None:
        value = self[key]
        super().__delitem__(key)
        self.log.append(("del", key, value))

    def pop(self, key: Any, *default: Any) -> Any:
        if key in self:
            value = super().pop(key)
            self.log.append(("del", key, value))
            return value
        return super().pop(key, *default)

    def popitem(self) -> Any:
        key, value = super().popitem()
        self.log.append(("del", key, value))
        return key, value

    def clear(self) -> None:
        held = list(self.items())
        super().clear()
        self.log.append(("clear", None, held))

    def copy(self) -> Any:
        raise AssertionError("the fuzz doesn't copy")


class Oracle:
    """What ought to have been counted, told from the twin's log."""

    def __init__(self, kind: Kind, clock: Callable[[], int]) -> None:
        self.kind, self.clock = kind, clock
        self.figures = dict.fromkeys(COUNTERS, 0)
        self.expires: dict[Any, int] = {}
        self.held: dict[Any, tuple[int, str | None]] = {}
        self.keys: dict[Any, Any] = {}
        """The key that an entry was last set by, which may be 1.0 where the cache keeps an equal 1."""
        self.shares: dict[str, int] = {}

    # Bytes: a large value is charged to the first entry that holds it, and freed with the last

    def charge(self, key: Any, value: Any) -> int:
        size, share = naive_bytes(key), None
        value_bytes = naive_bytes(value)
        if value_bytes >= 4_096:
            share = value
            if self.shares.get(share, 0):
                value_bytes = 0
            self.shares[share] = self.shares.get(share, 0) + 1
        self.keys.pop(key, None)
        self.keys[key] = key
        self.held[key] = (size if share is not None else size + value_bytes, share)
        return size + value_bytes

    def discharge(self, key: Any) -> int:
        size, share = self.held.pop(key)
        if share is not None:
            self.shares[share] -= 1
            if not self.shares[share]:
                size += naive_bytes(share)
        return size

    # Operations

    def looked_up(self, key: Any, twin_data: dict[Any, Any]) -> None:
        """A look-up of *key* is about to happen."""
        key = self.kind.normalise(key)
        self.figures["misses" if key not in twin_data or self.over(key) else "hits"] += 1

    def over(self, key: Any) -> bool:
        return self.kind.timed and self.clock() >= self.expires[key]

    def settle(self, operation: str, log: list[tuple[str, Any, Any]]) -> None:
        """Account for what an operation did to the twin's storage."""
        f = self.figures
        for index, (what, key, value) in enumerate(log):
            if what == "set":
                if key in self.held:
                    before = self.discharge(key)
                    after = self.charge(key, value)
                    f["replacements"] += 1
                    f["resized_bytes"] += after - before
                    f["live_bytes"] += after - before
                else:
                    f["sets"] += 1
                    f["live_bytes"] += self.charge(key, value)
                if self.kind.ttl is not None:
                    self.expires[key] = self.clock() + self.kind.ttl
                elif self.kind.ttu:
                    self.expires[key] = time_to_use(key, value, self.clock())
            elif what == "del":
                cause = self.cause(operation, key, log[index:])
                self.leaves(key, cause)
            else:
                for held, _ in value:
                    self.leaves(held, "cleared")
        if operation == "clear":
            f["clears"] += 1

    def cause(self, operation: str, key: Any, rest: list[tuple[str, Any, Any]]) -> str:
        if self.over(key):
            return "expired"
        if operation == "clear":
            return "cleared"
        if operation in ("del", "pop", "popitem"):
            return "deleted"
        own = next((k for what, k, _ in rest if what == "set"), None)
        if own is None and self.kind.ttu:
            return "expired"  # it was set with a time that is over
        return "evicted"

    def leaves(self, key: Any, cause: str) -> None:
        size = self.discharge(key)
        count = {"deleted": "deletes", "evicted": "evictions", "expired": "expirations"}.get(cause, cause)
        self.figures[count] += 1
        self.figures[f"{cause}_bytes"] += size
        self.figures["live_bytes"] -= size


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """The result, or the exception's type and arguments."""
    try:
        return ("returned", call())
    except Exception as error:
        return ("raised", type(error), error.args)


class Fuzz:
    """One cache, its twin and the oracle, through *operations* random steps."""

    def __init__(self, kind_name: str, how: str, seed: int, profiler: Any, *, early: bool) -> None:
        import cachetools

        from cachescope import autopatch, instrument

        bare = sys.modules.get("cachetools_bare") or second_copy()
        self.how, self.kind = how, kinds(cachetools)[kind_name]
        self.chance = random.Random(f"{kind_name} {seed}")
        self.clock = FakeClock()
        self.clock.advance_ns(1_000)
        now = self.clock.ns
        make_twin = self.kind.make(bare, now, random.Random(seed))
        self.twin = make_twin()
        self.data = self.twin._Cache__data = LoggedDict()
        self.oracle = Oracle(self.kind, now)
        name = f"{kind_name}, {how}"
        self.patch = autopatch("cachetools", profiler=profiler) if how == "class patch" and early else None
        cache = self.kind.make(cachetools, now, random.Random(seed))()
        if how == "class patch":
            self.patch = self.patch or autopatch("cachetools", profiler=profiler)
            self.cache = instrument_name(cache, name, profiler)
        else:
            self.cache = instrument(cache, name=name, how=how, profiler=profiler)
        self.name, self.profiler = name, profiler
        self.bare_cache = cache
        self.mismatches: list[str] = []
        self.values = 0

    def value(self) -> tuple[Any, Any]:
        """A value for the cache and an equal one for the twin, that nobody else holds."""
        self.values += 1
        number = self.values
        shape = self.chance.randrange(8)
        if shape == 0:
            text = "L" * (5_000 + self.chance.randrange(LARGE))
            return LARGE_VALUES.setdefault(text, text), text
        makers: list[Callable[[], Any]] = [
            lambda: f"value {number}" + "x" * (number % 90),
            lambda: b"bytes %d" % number,
            lambda: 10**9 + number,
            lambda: f"größer {number}",
            lambda: [f"a {number}", number + 10**6],
            lambda: (f"t {number}", b"b %d" % number),
            lambda: {f"k {number}": float(number)},
        ]
        make = makers[shape - 1]
        return make(), make()

    def key(self) -> Any:
        number = self.chance.randrange(16)
        # Keys that are found by measuring everything are measured as the cache keeps them, 1.0 as 1.
        return self.chance.choice(KEYS if self.kind.normalise is not lower else KEYS[:-1])(number)

    def step(self) -> None:
        """One random operation on both, compared."""
        choose = self.chance.random()
        key = self.key()
        if choose < 0.02:
            self.both("len", lambda c: len(c))
        elif choose < 0.04:
            self.both("iter", lambda c: list(c))
        elif choose < 0.06:
            self.both("repr", str if self.how == "proxy" else repr)
        elif choose < 0.08:
            self.both("size", lambda c: (c.currsize, c.maxsize))
        elif choose < 0.11:
            self.both("in", lambda c: key in c)
        elif choose < 0.13 and self.kind.timed:
            self.both("expire", lambda c: list(c.expire() or ()))
        elif choose < 0.14:
            self.both("clear", lambda c: c.clear())
        elif choose < 0.16:
            self.both("popitem", lambda c: c.popitem())
        elif choose < 0.18:
            items = {key: self.value()}
            if not self.kind.ttu:  # of two values, the log doesn't tell which one was past its time
                items[self.key()] = self.value()
            self.pair("update", lambda c, n: c.update({k: v[n] for k, v in items.items()}))
        elif choose < 0.20:
            self.both("unhashable", self.chance.choice(UNHASHABLE))
        elif choose < 0.24:
            self.clock.advance_ns(self.chance.randrange(1, 5))
        elif choose < 0.30:
            self.both("del", lambda c: c.__delitem__(key))
        elif choose < 0.36:
            self.oracle.looked_up(key, self.data)
            default = self.chance.choice([(), (None,), ("gone",)])
            self.both("pop", lambda c: c.pop(key, *default))
        elif choose < 0.44:
            self.oracle.looked_up(key, self.data)
            new = self.value()
            self.pair("setdefault", lambda c, n: c.setdefault(key, new[n]))
        elif choose < 0.54:
            self.oracle.looked_up(key, self.data)
            default = self.chance.choice([(), (None,), ("gone",)])
            self.both("get", lambda c: c.get(key, *default))
        elif choose < 0.72:
            self.oracle.looked_up(key, self.data)
            self.both("[]", lambda c: c[key])
        else:
            new = self.value()
            self.pair("set", lambda c, n: c.__setitem__(key, new[n]))

    def both(self, operation: str, call: Callable[[Any], Any]) -> None:
        self.pair(operation, lambda c, _: call(c))

    def pair(self, operation: str, call: Callable[[Any, int], Any]) -> None:
        theirs = outcome(lambda: call(self.twin, 1))
        ours = outcome(lambda: call(self.cache, 0))
        log, self.data.log = self.data.log, []
        self.oracle.settle(operation, log)
        if ours != theirs:
            self.report(operation, f"{short(ours)} instead of {short(theirs)}")
        self.compare(operation, log)

    def compare(self, operation: str, log: list[tuple[str, Any, Any]]) -> None:
        held = self.bare_cache._Cache__data
        if held != self.data or list(held) != list(self.data):
            self.report(operation, "holds other entries than the twin")
        state = self.cache._self_cachescope
        figures = state.counters()
        if figures != tuple(self.oracle.figures.values()) or state.entries != dict.__len__(self.data):
            counted = dict(zip(COUNTERS, figures, strict=True))
            wrong = {n: (counted[n], v) for n, v in self.oracle.figures.items() if counted[n] != v}
            self.report(
                operation, f"(counted, true) {wrong}, entries {(state.entries, len(self.data))}, log {short(log)}"
            )
            for name, value in counted.items():
                self.oracle.figures[name] = value  # each fault is reported once
        if log and len(self.mismatches) < 6:
            truth = naive_charges(held, self.oracle.keys)
            if state.live_bytes != truth:
                self.report(operation, f"live bytes {state.live_bytes}, held {truth}")

    def report(self, operation: str, what: str) -> None:
        self.mismatches.append(f"{self.name}: {operation}: {what}"[:500])

    def check_profile(self) -> None:
        """The public figures say the same."""
        f = self.oracle.figures
        profile = self.profiler.get_cache_profile(self.name)
        freed = f["deleted_bytes"] + f["evicted_bytes"] + f["expired_bytes"] + f["cleared_bytes"]
        told = {
            "hits": f["hits"],
            "misses": f["misses"],
            "total_allocations": f["sets"],
            "total_resizes": f["replacements"],
            "total_deletions": f["deletes"],
            "total_evictions": f["evictions"],
            "total_expirations": f["expirations"],
            "total_cleared": f["cleared"],
            "total_deallocations": f["deletes"] + f["evictions"] + f["expirations"] + f["cleared"],
            "total_resized_bytes": f["resized_bytes"],
            "total_deallocated_bytes": freed,
            "total_allocated_bytes": f["live_bytes"] - f["resized_bytes"] + freed,
            "net_memory_bytes": f["live_bytes"],
            "current_entries": len(self.data),
        }
        wrong = {name: (getattr(profile, name), v) for name, v in told.items() if getattr(profile, name) != v}
        if wrong:
            self.report("profile", f"(told, true) {wrong}")

    def finish(self) -> None:
        self.check_profile()
        self.both("clear", lambda c: c.clear())
        self.check_profile()
        if self.patch is not None:
            self.patch.undo()


def short(what: Any) -> str:
    """Its repr without the large values."""
    return re.sub("L{9,}", "LLL", repr(what))


LARGE_VALUES: dict[str, str] = {}
KEYS: tuple[Callable[[int], Any], ...] = (
    lambda n: f"key:{n}",
    lambda n: f"KEY:{n}",
    lambda n: n,
    lambda n: (n, f"part {n}"),
    lambda n: f"schlüssel {n}" if n < 8 else b"key %d" % n,
    lambda n: float(n) if n % 2 else n * 10**9,
)
UNHASHABLE: tuple[Callable[[Any], Any], ...] = (
    lambda c: c[[]],
    lambda c: c.get([]),
    lambda c: c.pop([], None),
    lambda c: c.setdefault([], 1),
    lambda c: c.__setitem__([], 1),
    lambda c: c.__delitem__([]),
)


def naive_charges(held: dict[Any, Any], keys: dict[Any, Any]) -> int:
    """The bytes of what a cache holds, each large value once."""
    seen: set[int] = set()
    total = 0
    for key, value in held.items():
        total += naive_bytes(keys[key])
        size = naive_bytes(value)
        if size < 4_096 or id(value) not in seen:
            total += size
        seen.add(id(value))
    return total


def instrument_name(cache: Any, name: str, profiler: Any) -> Any:
    """Give a cache that the class patch has met, or will meet, a name of its own."""
    from cachescope.core.state import ATTRIBUTE

    cache.get("a first use makes it known")
    state = getattr(cache, ATTRIBUTE)
    profiler.registry.rename(state, name)
    state.hits = state.misses = state.hidden_hits = state.hidden_misses = 0
    return cache


def fuzz(kind: str, how: str, operations: int, seed: int = 1) -> list[str]:
    """Run one kind one way; returns what went wrong, in words."""
    from cachescope import CacheMemoryProfiler, ProfilerConfig
    from cachescope.core import faults

    faults.counts.clear()
    config = ProfilerConfig(
        level=["basic", "detailed", "comprehensive"][seed % 3], sizing_budget=1.0, trace_allocations=False
    )
    with CacheMemoryProfiler(config) as profiler:
        run = Fuzz(kind, how, seed, profiler, early=bool(seed % 2))
        for step in range(operations):
            run.step()
            if step % 500 == 499:
                run.check_profile()
            if len(run.mismatches) > 5:
                break
        run.finish()
    return run.mismatches + [f"fault swallowed: {what}" for what in faults.counts]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", action="append", required=True)
    parser.add_argument("--kind", action="append")
    parser.add_argument("--operations", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    import cachetools

    ran = options.kind or list(kinds(cachetools))
    wrong = [line for kind in ran for how in options.how for line in fuzz(kind, how, options.operations, options.seed)]
    print(json.dumps({"version": cachetools.__version__, "kinds": ran, "mismatches": wrong}))


if __name__ == "__main__":
    main()
