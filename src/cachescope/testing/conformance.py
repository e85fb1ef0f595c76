"""The suite that every adapter must pass; shipped, so that authors of other adapters can run it too.

    from cachescope.testing import AdapterConformance

    class TestShelfCache(AdapterConformance):
        library = "shelfcache"                      # its name for autopatch(); None where classes can't be patched
        fresh = ("import shelfcache", "shelfcache.Shelf(8)")

        def make_cache(self):
            return shelfcache.Shelf(8)

What is held: the watched cache behaves as the bare one does; the bytes are conserved after every operation;
patching and undoing work in every order and restore exactly; and nothing breaks in threads, tasks, pickles, copies,
re-entrant values and keys that raise. A test can't be overridden: a class that redefines one is refused. What an
adapter really can't do goes into ``exempt`` with the reason; the test is still run, and fails when it passes after all.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import wrapt

from cachescope.adapters.contract import Adapter, adapters
from cachescope.core import faults
from cachescope.core.config import ProfilerConfig
from cachescope.core.errors import ConfigurationError
from cachescope.core.hooks import is_hook
from cachescope.core.state import COUNTERS, State
from cachescope.instrument.autopatch import AutopatchHandle, autopatch
from cachescope.instrument.binding import state_on
from cachescope.instrument.objects import instrument, uninstrument
from cachescope.profiler import CacheMemoryProfiler
from cachescope.testing.guard import hooks_left, snapshot
from cachescope.testing.sizes import naive_bytes

HOWS = ("in place", "proxy", "class patch")
WRAPPERS = ("closure", "wrapt")
_STEPS = 400
_THREADS = 8


class Watched:
    """A cache that is being profiled one of the three ways, until :meth:`undo`.

    Attributes:
        cache: What to call.
        bare: The cache itself; the same object unless it is behind a proxy.
    """

    def __init__(self, bare: Any, how: str, profiler: CacheMemoryProfiler, library: str | None, **options: Any) -> None:
        self.bare, self.how, self.profiler = bare, how, profiler
        self.patch: AutopatchHandle | None = None
        if how == "class patch":
            if library is None:
                raise TypeError("a class patch needs the adapter's library; set it, or leave 'class patch' out of hows")
            self.patch = autopatch(library, profiler=profiler)
            self.cache = bare
        else:
            self.cache = instrument(bare, how=how, profiler=profiler, **options)

    @property
    def state(self) -> State:
        """Its counters."""
        state = state_on(self.cache)
        if state is None:
            raise AssertionError("the cache was not met by any hook")
        return state

    @property
    def counted(self) -> SimpleNamespace:
        """Its counters by name, and the entries that they come to."""
        state = self.state
        return SimpleNamespace(**dict(zip(COUNTERS, state.counters(), strict=True)), entries=state.entries)

    @property
    def figures(self) -> tuple[int, ...]:
        """All counters; zeros before the cache was met."""
        state = state_on(self.cache)
        return state.counters() if state is not None else ()

    def undo(self) -> None:
        """Restore the cache or its classes."""
        if self.patch is not None:
            self.patch.undo()
        else:
            uninstrument(self.cache)


class AdapterConformance:
    """See the module's docstring. Subclass it with a name that pytest collects, and say how a cache is made.

    A subclass of it may redefine what is not a test: the attributes, ``make_…`` and ``read``, ``write``, ``drop``.
    """

    library: ClassVar[str | None] = None
    """The adapter's name for ``autopatch()``."""
    hows: ClassVar[tuple[str, ...]] = HOWS
    """The ways in which such a cache can be profiled."""
    fresh: ClassVar[tuple[str, str]] = ("", "")
    """A statement that imports the library, and an expression that makes a cache: for processes of their own."""
    supports_ttl: ClassVar[bool] = False
    """Whether entries go by time; then :meth:`later` lets it pass."""
    threadsafe: ClassVar[bool] = False
    """Whether the library lets threads use one cache without a lock; else the tests take one."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """Tests that can't pass, ``{"test_x": reason}`` or ``{"test_x[proxy]": reason}``."""

    def make_cache(self) -> Any:
        """A new, empty cache for at least eight entries."""
        raise NotImplementedError(f"{type(self).__name__}.make_cache")

    def make_twin(self) -> Any:
        """A cache equal to what :meth:`make_cache` makes, that is never watched; needed where chance plays a part."""
        return self.make_cache()

    def make_picklable(self) -> Any:
        """A cache that a fresh process can load: nothing in it may come from a module of the tests."""
        return self.make_cache()

    def make_key(self, number: int) -> Any:
        """The key of a number."""
        return f"key:{number}"

    def make_value(self, number: int) -> Any:
        """A value that nobody else holds."""
        return f"value {number} " + "x" * (number % 60)

    def read(self, cache: Any, key: Any) -> Any:
        """A look-up that raises KeyError when *key* isn't there."""
        return cache[key]

    def write(self, cache: Any, key: Any, value: Any) -> None:
        """Set an entry."""
        cache[key] = value

    def drop(self, cache: Any, key: Any) -> None:
        """Delete an entry; raises KeyError when it isn't there."""
        del cache[key]

    def operations(self, chance: random.Random) -> Iterator[Callable[[Any], Any]]:
        """An endless run of operations, the same for the same *chance*."""
        number = 0
        while True:
            number += 1
            yield self._operation(chance, number)

    def _operation(self, chance: random.Random, number: int) -> Callable[[Any], Any]:
        key, other = self.make_key(chance.randrange(12)), self.make_key(chance.randrange(12))
        value, another = self.make_value(number), self.make_value(number + 100_000)
        default = chance.choice([(), (None,), ("default",)])
        choices: list[tuple[int, Callable[[Any], Any]]] = [
            (30, lambda c: self.write(c, key, value)),
            (25, lambda c: self.read(c, key)),
            (6, lambda c: self.drop(c, key)),
            (10, lambda c: c.get(key, *default)),
            (5, lambda c: c.pop(key, *default)),
            (5, lambda c: c.setdefault(key, value)),
            (4, lambda c: c.update({key: value, other: another})),
            (2, lambda c: c.update([(key, value)], **{str(other): another})),
            (3, lambda c: c.popitem()),
            (1, lambda c: c.clear()),
            (2, lambda c: key in c),
            (2, len),
            (2, list),
            (1, bool),
            (1, lambda c: sorted(map(repr, c.items()))),
            (2, lambda c: self.read(c, [])),
            (1, lambda c: self.write(c, {}, value)),
            (1, lambda c: c.get([])),
            (1, lambda c: c.get()),
            (1, lambda c: c.pop()),
            (1, lambda c: c.__getitem__()),
            (1, lambda c: c.get(key, 1, 2)),
            (1, lambda c: c.setdefault()),
        ]
        weights = [weight for weight, _ in choices]
        return chance.choices(choices, weights)[0][1]

    def later(self) -> None:
        """Let so much time pass that every entry has expired; needed with ``supports_ttl``."""
        raise NotImplementedError(f"{type(self).__name__}.later: supports_ttl needs it")

    # Refusals: what would switch a test off without anybody noticing

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, held in vars(AdapterConformance).items():
            if (
                name.startswith(("test_", "pytest_", "_"))
                and callable(held)
                and inspect.getattr_static(cls, name) is not held
            ):
                if name in ("__init__", "__repr__") or name.startswith("__"):
                    continue
                raise TypeError(
                    f"{cls.__name__}.{name} would override a test of AdapterConformance; "
                    "put what can't pass into exempt, with the reason"
                )
        unknown = set(cls.hows) - set(HOWS)
        if unknown or not cls.hows:
            raise TypeError(f"{cls.__name__}.hows: {cls.hows!r} is not allowed; expected some of {HOWS}")
        for name in cls.exempt:
            if not hasattr(cls, name.partition("[")[0]):
                raise TypeError(f"{cls.__name__}.exempt: there is no test {name!r}")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test each way, and expect the exempt ones to fail."""
        test = metafunc.function.__name__

        def marked(how: str) -> Any:
            reason = self.exempt.get(test) or self.exempt.get(f"{test}[{how}]")
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            return pytest.param(how, marks=marks)

        if "how" in metafunc.fixturenames:
            metafunc.parametrize("how", [marked(how) for how in self.hows])
        if "wrapper" in metafunc.fixturenames:
            metafunc.parametrize("wrapper", WRAPPERS)

    @pytest.fixture
    def profiler(self) -> Iterator[CacheMemoryProfiler]:
        """A profiler of its own; afterwards no fault of ours may have been swallowed."""
        faults.counts.clear()
        with CacheMemoryProfiler(ProfilerConfig(sizing_budget=1.0)) as profiler:
            yield profiler
        swallowed = dict(faults.counts)
        faults.counts.clear()
        assert swallowed == {}

    @pytest.fixture
    def watch(self, profiler: CacheMemoryProfiler, how: str) -> Iterator[Callable[..., Watched]]:
        """Watch a cache, a new one unless it is given, the way that is under test."""
        watched: list[Watched] = []

        def watch(bare: Any = None, **options: Any) -> Watched:
            chosen = self.make_cache() if bare is None else bare
            watched.append(Watched(chosen, how, profiler, self.library, **options))
            return watched[-1]

        yield watch
        for one in reversed(watched):
            one.undo()

    # Transparency

    def test_results_and_exceptions_are_those_of_the_bare_cache(self, watch: Callable[..., Watched]) -> None:
        """Same results, exceptions and their arguments, contexts, order, entries."""
        expected = []
        twin = self.make_twin()
        for operation, _ in zip(self.operations(random.Random(1)), range(_STEPS), strict=False):
            expected.append((_outcome(operation, twin), _entries(twin)))
        cache = watch().cache
        for index, (operation, want) in enumerate(zip(self.operations(random.Random(1)), expected, strict=False)):
            got = _outcome(operation, cache), _entries(cache)
            assert got == want, f"operation {index}"

    def test_it_passes_for_the_bare_cache(self, watch: Callable[..., Watched], how: str) -> None:
        """isinstance, class, repr, truth and equality are the bare cache's."""
        bare = self.make_cache()
        self.write(bare, self.make_key(1), self.make_value(1))
        cls, shown, text, true = type(bare), repr(bare), str(bare), bool(bare)
        cache = watch(bare).cache
        assert isinstance(cache, cls)
        assert cache.__class__ is cls
        assert (type(cache) is cls) == (how == "class patch")
        assert bool(cache) is true
        assert cache == cache  # noqa: PLR0124  # that is what is asked
        assert str(cache) == text
        if how != "proxy":
            assert repr(cache) == shown
            assert cache is bare

    def test_methods_keep_their_signatures(self, watch: Callable[..., Watched]) -> None:
        """Names, docstrings, signatures, defaults, coroutine-ness."""
        bare = self.make_cache()
        names = [name for name in dir(type(bare)) if name != "__class__"]
        expected = {name: _looks(bare, name) for name in names}
        cache = watch(bare).cache
        got = {name: _looks(cache, name) for name in names if _is_hook(cache, name)}
        assert got, "no method is hooked"
        assert got == {name: expected[name] for name in got}

    def test_it_is_as_hashable_and_as_referable_as_the_bare_cache(self, watch: Callable[..., Watched]) -> None:
        """Hash and weak references."""
        bare = self.make_cache()
        expected = [_outcome(call, bare)[:2] for call in (hash, lambda c: type(weakref.ref(c)))]
        cache = watch(bare).cache
        got = [_outcome(call, cache)[:2] for call in (hash, lambda c: type(weakref.ref(c)))]
        assert got[0] == expected[0]
        if expected[1][0] == "returned":
            assert got[1] == expected[1]

    # Conservation

    def test_bytes_are_conserved_after_every_operation(self, watch: Callable[..., Watched]) -> None:
        """Net bytes are what came, less what left; and what is held, counted naively from the side; 0 after clear."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        for index, (operation, _) in enumerate(zip(self.operations(random.Random(2)), range(_STEPS), strict=False)):
            _outcome(operation, watched.cache)
            state, held = watched.state, _entries(watched.bare) or []
            seen: set[int] = set()
            assert state.entries == len(held), f"operation {index}"
            assert state.live_bytes == sum(naive_bytes(part, seen) for entry in held for part in entry), (
                f"operation {index}"
            )
            if index % 10 == 0:
                self._conserved(watched, f"operation {index}")
            del held
        watched.cache.clear()
        self._conserved(watched, "clear")
        profile = watched.profiler.get_cache_profile(watched.state.record.name)  # type: ignore[union-attr]
        assert (profile.net_memory_bytes, profile.current_entries, profile.current_memory_bytes) == (0, 0, 0)

    def _conserved(self, watched: Watched, when: str) -> None:
        held = _entries(watched.bare)
        assert held is not None
        profile = watched.profiler.get_cache_profile(watched.state.record.name)  # type: ignore[union-attr]
        came = profile.total_allocated_bytes + profile.total_resized_bytes
        assert profile.net_memory_bytes == came - profile.total_deallocated_bytes, when
        assert profile.total_allocations - profile.total_deallocations == profile.current_entries == len(held), when
        seen: set[int] = set()
        assert profile.net_memory_bytes == sum(naive_bytes(part, seen) for entry in held for part in entry), when

    def test_every_operation_is_counted_once(self, watch: Callable[..., Watched]) -> None:
        """One hit, one miss, one set, one replacement, one delete."""
        watched = watch()
        cache, one, two = watched.cache, self.make_key(1), self.make_key(2)
        self.write(cache, one, self.make_value(1))
        self.write(cache, one, self.make_value(2))
        self.read(cache, one)
        misses: tuple[Any, ...] = (two, [], two)
        for missing in misses:
            with contextlib.suppress(KeyError, TypeError):
                self.read(cache, missing)
        self.drop(cache, one)
        with contextlib.suppress(KeyError):
            self.drop(cache, one)
        s = watched.counted
        assert (s.sets, s.replacements, s.hits, s.misses, s.deletes, s.entries) == (1, 1, 1, 2, 1, 0)

    def test_a_stored_none_is_a_hit(self, watch: Callable[..., Watched]) -> None:
        """None, 0 and empty values are values."""
        watched = watch()
        for number, value in enumerate((None, 0, "", False)):
            self.write(watched.cache, self.make_key(number), value)
            assert self.read(watched.cache, self.make_key(number)) is value
        assert (watched.counted.hits, watched.counted.misses) == (4, 0)

    def test_entries_that_go_by_time_have_expired(self, watch: Callable[..., Watched]) -> None:
        """Not evicted, not deleted."""
        if not self.supports_ttl:
            pytest.skip("no entry goes by time")
        watched = watch()
        for number in range(3):
            self.write(watched.cache, self.make_key(number), self.make_value(number))
        self.later()
        with contextlib.suppress(KeyError):
            self.read(watched.cache, self.make_key(0))
        assert (watched.counted.misses, watched.counted.hits) == (1, 0)
        self.write(watched.cache, self.make_key(3), self.make_value(3))
        s = watched.counted
        assert (s.expirations, s.evictions, s.deletes, s.entries) == (3, 0, 0, 1)

    # Patch, undo

    def test_undo_restores_exactly(self, watch: Callable[..., Watched], how: str) -> None:
        """The classes' attributes, their order and the object's own are those of before."""
        bare = self.make_cache()
        cls, before, own = type(bare), snapshot(type(bare)), _attributes(bare)
        watched = watch(bare)
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        if how == "class patch":
            assert hooks_left(cls)
        self.drop(watched.cache, self.make_key(1))
        watched.undo()
        assert snapshot(cls) == before
        assert type(bare) is cls
        if how != "class patch":
            assert _attributes(bare) == own
        figures = watched.figures
        self.write(bare, self.make_key(2), self.make_value(2))
        assert watched.figures in (figures, ())

    def test_it_can_be_patched_and_undone_again_and_again(self, watch: Callable[..., Watched]) -> None:
        """Each time it is seen, and each time nothing stays."""
        bare = self.make_cache()
        before = snapshot(type(bare))
        for number in range(3):
            watched = watch(bare)
            self.write(watched.cache, self.make_key(number), self.make_value(number))
            assert watched.counted.entries == number + 1
            watched.undo()
            assert snapshot(type(bare)) == before

    def test_hooks_of_an_ended_profiler_count_nothing(self, how: str) -> None:
        """They call the original, and work again after the next start."""
        profiler = CacheMemoryProfiler().start()
        try:
            watched = Watched(self.make_cache(), how, profiler, self.library)
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            name = watched.state.record.name  # type: ignore[union-attr]
            profiler.shutdown()
            self.write(watched.cache, self.make_key(2), self.make_value(2))
            assert profiler.get_cache_profile(name).total_allocations == 1
            profiler.start()
            self.write(watched.cache, self.make_key(3), self.make_value(3))
            assert self.read(watched.cache, self.make_key(2)) == self.make_value(2)
            assert watched.counted.entries == 3
            assert watched.counted.hits == 1
            watched.undo()
        finally:
            profiler.shutdown()

    def test_another_tools_wrapper_below_is_called_and_kept(
        self, watch: Callable[..., Watched], how: str, wrapper: str
    ) -> None:
        """Their wrapper was there first; patching on top and undoing leaves it in its place."""
        cls = type(self.make_cache())
        with _foreign(cls, "__setitem__", wrapper) as calls:
            before = snapshot(cls)
            watched = watch()
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            assert (len(calls), watched.counted.sets) == (1, 1)
            watched.undo()
            assert snapshot(cls) == before
            self.write(watched.bare, self.make_key(2), self.make_value(2))
            assert len(calls) == 2
        del how

    def test_another_tools_wrapper_on_top_survives_our_undo(
        self, watch: Callable[..., Watched], how: str, wrapper: str
    ) -> None:
        """Ours goes inert below it, and what they undo later is theirs."""
        if how != "class patch":
            pytest.skip("nobody wraps the methods of a class that was made for one object")
        watched = watch()
        cls = type(watched.bare)
        owner = next(c for c in cls.__mro__ if "__setitem__" in vars(c))
        with _foreign(cls, "__setitem__", wrapper) as calls:
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            assert (len(calls), watched.counted.sets) == (1, 1)
            figures = watched.figures
            watched.undo()
            self.write(watched.cache, self.make_key(2), self.make_value(2))
            assert len(calls) == 2
            assert watched.figures in (figures, ())
            again = watch()
            self.write(again.cache, self.make_key(1), self.make_value(1))
            assert (len(calls), again.counted.sets) == (3, 1)
            again.undo()
        # They have put our inert hook back, which they had found; the next patch takes it off.
        assert is_hook(vars(owner)["__setitem__"])
        watch().undo()
        assert not hooks_left(cls)

    def test_every_order_of_import_patch_and_use(self, how: str, tmp_path: Any) -> None:
        """Library, object, subclass and its object before or after the patch, in processes of their own."""
        if how != "class patch":
            pytest.skip("only classes are patched at import")
        if not hasattr(os, "fork"):
            pytest.skip("each order takes a process of its own, and this system has no fork")
        statement, expression = self.fresh
        assert expression, "fresh must say how a process of its own makes a cache"
        orders = [
            (*before, "patch", *(step for step in _STEPS_OF_USE if step not in before))
            for before in (_STEPS_OF_USE[:n] for n in range(len(_STEPS_OF_USE) + 1))
        ]
        orders.append(("import", "subclass", "patch", "object", "child"))
        script = _ORDERS.format(library=self.library, statement=statement, expression=expression, orders=orders)
        out, err = _fresh_process(script, folder=tmp_path).communicate(timeout=60)
        assert (out, err) == ("ok\n" * len(orders), "")

    # Re-entry

    def test_values_that_use_the_cache_as_they_die(self, watch: Callable[..., Watched]) -> None:
        """A ``__del__`` that reads, sets and deletes in the same cache, during sets, deletes, pops, clears."""
        watched = watch()
        cache = watched.cache
        running = True

        class Clinging:
            def __init__(self, number: int) -> None:
                self.number = number

            def __del__(self) -> None:
                if not running:
                    return
                write(cache, key(100 + self.number % 3), "from the grave")
                with contextlib.suppress(KeyError):
                    read(cache, key(self.number))
                with contextlib.suppress(KeyError):
                    drop(cache, key(100 + (self.number + 1) % 3))

        write, read, drop, key = self.write, self.read, self.drop, self.make_key
        chance = random.Random(3)
        for number in range(200):
            turn = chance.randrange(10)
            if turn < 6:
                self.write(cache, self.make_key(chance.randrange(9)), Clinging(number))
            elif turn < 8:
                with contextlib.suppress(KeyError):
                    self.drop(cache, self.make_key(chance.randrange(9)))
            elif turn < 9:
                cache.pop(self.make_key(chance.randrange(9)), None)
            else:
                cache.clear()
            assert watched.counted.entries == _size(watched.bare), f"operation {number}"
            assert watched.state.busy == {}, f"operation {number}"
        running = False
        cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    def test_keys_that_use_the_cache_as_they_are_compared(self, watch: Callable[..., Watched]) -> None:
        """``__hash__`` and ``__eq__`` that read and set another key of the same cache."""
        watched = watch()
        cache, inner = watched.cache, self.make_key(1)
        depth = [0]
        write, read = self.write, self.read

        class Nosy:
            def __init__(self, number: int) -> None:
                self.number = number

            def visit(self) -> None:
                if not depth[0]:
                    depth[0] = 1
                    try:
                        write(cache, inner, f"visit {self.number}")
                        read(cache, inner)
                    finally:
                        depth[0] = 0

            def __hash__(self) -> int:
                self.visit()
                return self.number % 2

            def __eq__(self, other: object) -> bool:
                self.visit()
                return isinstance(other, Nosy) and other.number == self.number

        for number in (1, 2, 3, 1, 2):
            self.write(cache, Nosy(number), number * 10**6)
            assert self.read(cache, Nosy(number)) == number * 10**6
            assert watched.counted.entries == _size(watched.bare)
        self.drop(cache, Nosy(1))
        cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    def test_a_collector_and_a_signal_in_the_middle_of_a_set(self, watch: Callable[..., Watched]) -> None:
        """Callbacks that use other keys while the same thread is inside the cache, which has room for all of them."""
        watched = watch()
        cache = watched.cache
        rung = [0]

        def ring(*_: Any) -> None:
            rung[0] += 1
            with contextlib.suppress(RuntimeError):  # the library's own: it was iterating
                self.write(cache, self.make_key(100 + rung[0] % 2), self.make_value(rung[0]))
                self.read(cache, self.make_key(100 + rung[0] % 2))

        ring()
        ring()
        use_signal = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
        previous = signal.signal(signal.SIGALRM, ring) if use_signal else None
        thresholds = gc.get_threshold()

        def collected(phase: str, _: object) -> None:
            if phase == "stop" and rung[0] < 10_000:
                ring()

        gc.callbacks.append(collected)
        gc.set_threshold(20)
        try:
            if use_signal:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(1_500):
                with contextlib.suppress(RuntimeError):
                    self.write(cache, self.make_key(number % 2), [self.make_value(number)])
                    if number % 5 == 0:
                        self.drop(cache, self.make_key(number % 2))
        finally:
            if use_signal:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(collected)
        assert rung[0] > 10
        assert len(seen := _entries(watched.bare) or []) == watched.counted.sets - watched.counted.deletes, seen
        assert watched.counted.entries == _size(watched.bare)
        cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    # Threads, tasks

    def test_threads_lose_no_count(self, watch: Callable[..., Watched]) -> None:
        """Eight threads, each with keys of its own, switched as often as can be: every counter is exact."""
        watched = watch()
        cache = watched.cache
        self.write(cache, self.make_key(-1), self.make_value(1))
        self.drop(cache, self.make_key(-1))
        guard: Any = contextlib.nullcontext() if self.threadsafe else threading.Lock()
        start, rounds, errors = threading.Barrier(_THREADS), 400, []

        def work(thread: int) -> None:
            try:
                start.wait()
                for number in range(rounds):
                    key = self.make_key(thread)
                    with guard:
                        self.write(cache, key, self.make_value(number))
                        self.read(cache, key)
                    with guard:
                        self.drop(cache, key)
                    with guard, contextlib.suppress(KeyError):
                        self.read(cache, key)
            except Exception as error:
                errors.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert errors == []
        s, total = watched.counted, _THREADS * rounds
        left = s.evictions
        assert (s.sets, s.hits + s.misses, s.deletes + left) == (total + 1, 2 * total, total + 1)
        assert (s.entries, s.live_bytes) == (0, 0)

    def test_tasks_lose_no_count(self, watch: Callable[..., Watched]) -> None:
        """Tasks that take turns between operations."""
        watched = watch()
        cache = watched.cache

        async def work(task: int) -> None:
            for number in range(20):
                self.write(cache, self.make_key(task), self.make_value(number))
                await asyncio.sleep(0)
                with contextlib.suppress(KeyError):
                    self.read(cache, self.make_key(task))
                await asyncio.sleep(0)

        async def everything() -> None:
            await asyncio.gather(*map(work, range(4)))

        asyncio.run(everything())
        s = watched.counted
        assert (s.sets + s.replacements, s.hits + s.misses) == (80, 80)
        assert s.entries == _size(watched.bare)

    # Pickles, copies

    def test_pickles_load_where_cachescope_is_not_installed(self, watch: Callable[..., Watched], tmp_path: Any) -> None:
        """By every protocol that the bare cache can be pickled by; by the others, neither."""
        protocols = range(pickle.HIGHEST_PROTOCOL + 1)
        bare = self.make_picklable()
        self.write(bare, self.make_key(1), self.make_value(1))
        possible = [
            protocol
            for protocol in protocols
            if _outcome(lambda c, p=protocol: pickle.dumps(c, p), bare)[0] == "returned"
        ]
        watched = watch(bare)
        with contextlib.suppress(KeyError):
            self.read(watched.cache, self.make_key(1))
        for protocol in protocols:
            if protocol not in possible:
                assert _outcome(lambda c, p=protocol: pickle.dumps(c, p), watched.cache)[0] == "raised"
                continue
            pickled = pickle.dumps(watched.cache, protocol)
            assert b"cachescope" not in pickled
            assert b"wrapt" not in pickled
            (tmp_path / f"{protocol}.pickle").write_bytes(pickled)
        run = _fresh_process(_LOADS, *(f"{protocol}.pickle" for protocol in possible), folder=tmp_path)
        out, err = run.communicate(timeout=60)
        assert (out, err) == (f"{type(bare).__name__} {_plain(bare)!r}\n" * len(possible), "")

    def test_copies_are_objects_of_their_own(self, watch: Callable[..., Watched]) -> None:
        """What is done to a copy doesn't count for the original, and the other way round."""
        for copier in (copy.copy, copy.deepcopy):
            watched = watch()
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            figures = watched.figures
            double = copier(watched.cache)
            assert type(double).__name__ == type(watched.cache).__name__
            assert isinstance(double, type(self.make_cache()))
            assert watched.figures[2:] == figures[2:], copier.__name__
            self.write(double, self.make_key(2), self.make_value(2))
            self.drop(double, self.make_key(1))
            double.clear()
            assert watched.figures[2:] == figures[2:], copier.__name__
            assert _entries(watched.bare) == [(self.make_key(1), self.make_value(1))]
            self.drop(watched.cache, self.make_key(1))
            assert watched.counted.entries == 0
            watched.undo()

    def test_an_attribute_dict_that_is_copied_over_brings_no_state_along(self, watch: Callable[..., Watched]) -> None:
        """``twin.__dict__.update(cache.__dict__)``, as some copy methods are written."""
        watched = watch()
        if not hasattr(watched.bare, "__dict__") or isinstance(watched.bare, dict):
            pytest.skip("its entries are not in its attributes")
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        cls = watched.cache.__class__
        double = cls.__new__(cls)
        double.__dict__.update(copy.deepcopy(watched.bare).__dict__)
        double.__dict__.update({k: v for k, v in vars(watched.bare).items() if k.startswith("_self_")})
        figures = watched.figures
        self.write(double, self.make_key(2), self.make_value(2))
        with contextlib.suppress(KeyError):
            self.drop(double, self.make_key(1))
        assert watched.figures == figures

    # Life

    def test_it_dies_when_the_bare_one_does(self, watch: Callable[..., Watched]) -> None:
        """Nothing of ours keeps a cache or its values alive: dropped, they are gone at once, without a collection."""

        class Value:
            pass

        def gone(cache: Any) -> tuple[bool, bool]:
            value = Value()
            self.write(cache, self.make_key(1), value)
            self.read(cache, self.make_key(1))
            held = weakref.ref(value)
            try:
                ref: Any = weakref.ref(cache)
            except TypeError:
                ref = lambda: None
            del value, cache
            return ref() is None, held() is None

        gc.collect()
        gc.disable()
        try:
            expected = gone(self.make_cache())
            made: list[Any] = [self.make_cache()]
            watched = watch(made.pop())
            handed = [watched.cache]
            del watched.cache, watched.bare
            got = gone(handed.pop())
            watched.cache = watched.bare = self.make_cache()
        finally:
            gc.enable()
        assert got == expected

    def test_a_dead_cache_keeps_its_figures(self, watch: Callable[..., Watched]) -> None:
        """What it did is still told, and nothing is held any more."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        name = watched.state.record.name  # type: ignore[union-attr]
        watched.cache = watched.bare = self.make_cache()
        gc.collect()
        profile = watched.profiler.get_cache_profile(name)
        assert (profile.total_allocations, profile.current_entries, profile.net_memory_bytes) == (1, 0, 0)
        assert (profile.instances, profile.instances_total) == (0, 1)

    # Hostile keys and weighers

    def test_keys_that_raise_raise_the_same_and_count_nothing(self, watch: Callable[..., Watched]) -> None:
        """``__hash__``, ``__eq__`` and ``__repr__`` that raise, and keys without a hash."""
        keys: list[Any] = [[], {}, _BadHash(), _BadEq(), _BadRepr(), (1, [])]
        calls: list[Callable[[Any, Any], Any]] = [
            self.read,
            self.drop,
            lambda c, k: self.write(c, k, "value"),
            lambda c, k: c.get(k),
            lambda c, k: c.pop(k, None),
            lambda c, k: c.setdefault(k, "value"),
        ]

        def outcomes(cache: Any) -> list[Any]:
            self.write(cache, _BadEq(calm=True), "something to compare with")
            return [_outcome(lambda c, k=key, f=call: f(c, k), cache) for key in keys for call in calls]

        expected = outcomes(self.make_cache())
        watched = watch()
        assert [row[:2] for row in outcomes(watched.cache)] == [row[:2] for row in expected]
        assert watched.counted.entries == _size(watched.bare)
        watched.cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    def test_unhashable_keys_count_nothing(self, watch: Callable[..., Watched]) -> None:
        """The exception is the cache's own, and no counter moves."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        figures = watched.figures
        for call in (self.read, self.drop, lambda c, k: self.write(c, k, 1), lambda c, k: c.setdefault(k, 1)):
            with pytest.raises(TypeError):
                call(watched.cache, [])
        assert watched.figures == figures

    def test_a_weigher_says_what_an_entry_weighs(self, watch: Callable[..., Watched], how: str) -> None:
        """Its figures are charged; what it can't weigh is measured, and counted as a fault of its own."""
        if how == "class patch":
            pytest.skip("a weigher belongs to one cache")
        answers: list[Any] = [1_000, 2_500.9, 0]
        rubbish: list[Any] = ["heavy", None, -1, float("nan"), float("inf"), True, RuntimeError("no scales")]
        given = iter([*answers, *rubbish])

        def weigher(key: Any, value: Any) -> Any:
            answer = next(given)
            if isinstance(answer, Exception):
                raise answer
            return answer

        watched = watch(weigher=weigher)
        cache, number = watched.cache, 0
        for answer in answers:
            self.write(cache, self.make_key(number), self.make_value(number))
            assert watched.counted.live_bytes == int(answer)
            self.drop(cache, self.make_key(number))
            assert watched.counted.live_bytes == 0
        for number in range(len(rubbish)):
            self.write(cache, self.make_key(number), self.make_value(number))
            assert watched.counted.live_bytes == naive_bytes(self.make_key(number)) + naive_bytes(
                self.make_value(number)
            )
            self.drop(cache, self.make_key(number))
            assert watched.counted.live_bytes == 0
        assert sum(faults.counts.values()) == len(rubbish)
        assert all(what.startswith("weigher") for what in faults.counts)
        faults.counts.clear()

    # instrument() and uninstrument()

    def test_instrumenting_twice_gives_what_the_first_gave(self, watch: Callable[..., Watched], how: str) -> None:
        """Nothing is counted twice."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        again = instrument(watched.cache, profiler=watched.profiler)
        assert again is watched.cache
        if how != "class patch":
            assert instrument(watched.bare, how=how, profiler=watched.profiler) is watched.cache
        self.write(again, self.make_key(2), self.make_value(2))
        self.read(again, self.make_key(1))
        assert (watched.counted.sets, watched.counted.hits) == (2, 1)

    def test_another_profiler_is_refused(self, watch: Callable[..., Watched]) -> None:
        """One cache has one profiler."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        with CacheMemoryProfiler() as other, pytest.raises(ConfigurationError, match="uninstrument"):
            instrument(watched.cache, profiler=other)

    def test_uninstrument_gives_the_bare_cache_back(self, watch: Callable[..., Watched], how: str) -> None:
        """With its entries; what was gathered stays; a second time does nothing."""
        if how == "class patch":
            pytest.skip("a class patch is undone by its handle")
        watched = watch(name="users")
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        bare = uninstrument(watched.cache)
        assert bare is watched.bare
        assert uninstrument(bare) is bare
        assert self.read(bare, self.make_key(1)) == self.make_value(1)
        self.write(watched.cache, self.make_key(2), self.make_value(2))
        profile = watched.profiler.get_cache_profile("users")
        assert (profile.total_allocations, profile.hits, profile.current_entries) == (1, 0, 0)

    def test_names(self, profiler: CacheMemoryProfiler, how: str) -> None:
        """The given one; else one made of the code and the name it is assigned to. Caches of one name are summed."""
        if how == "class patch":
            pytest.skip("see the tests of auto-patching")
        one = instrument(self.make_cache(), name="shared", how=how, profiler=profiler)
        two = instrument(self.make_cache(), name="shared", how=how, profiler=profiler)
        named_by_code = instrument(self.make_cache(), how=how, profiler=profiler)
        for cache in (one, two, named_by_code):
            self.write(cache, self.make_key(1), self.make_value(1))
        shared = profiler.get_cache_profile("shared")
        assert (shared.instances, shared.current_entries) == (2, 2)
        names = set(profiler.caches()) - {"shared"}
        assert len(names) == 1
        for name in ("", "  ", 5):
            with pytest.raises(ConfigurationError, match="name"):
                instrument(self.make_cache(), name=name, profiler=profiler)  # type: ignore[arg-type]  # on purpose
        for cache in (one, two, named_by_code):
            uninstrument(cache)

    def test_what_was_there_before_is_counted(self, watch: Callable[..., Watched]) -> None:
        """Entries of before are held now; they were set by nobody in sight."""
        bare = self.make_cache()
        for number in range(3):
            self.write(bare, self.make_key(number), self.make_value(number))
        watched = watch(bare)
        self.read(watched.cache, self.make_key(1))
        assert (watched.counted.entries, watched.counted.hits, watched.counted.misses) == (3, 1, 0)
        self.drop(watched.cache, self.make_key(1))
        self._conserved(watched, "after a delete")


# What a process of its own runs

_STEPS_OF_USE = ("import", "object", "subclass", "child")

_ORDERS = textwrap.dedent(
    """
    import os, sys, traceback
    from cachescope import CacheMemoryProfiler, autopatch
    from cachescope.core.state import ATTRIBUTE, COUNTERS
    from cachescope.testing.guard import hooks_left, snapshot

    def use(*steps):
        made, space = {{}}, {{}}
        with CacheMemoryProfiler() as profiler:
            for step in steps:
                if step == "patch":
                    handle = autopatch({library!r}, profiler=profiler)
                elif step == "import":
                    exec({statement!r}, space)
                elif step == "object":
                    made["object"] = eval({expression!r}, space)
                elif step == "subclass":
                    class Sub(type(eval({expression!r}, space))):
                        def __setitem__(self, key, value):
                            super().__setitem__(key, value)
                    class Grandchild(Sub):
                        def __getitem__(self, key):
                            return super().__getitem__(key)
                else:
                    made["child"] = eval({expression!r}, space)
                    made["child"].__class__ = Grandchild
            for cache in made.values():
                cache["a"] = "1"; cache["a"]; cache.get("b"); cache.pop("a")
            for what, cache in made.items():
                state = getattr(cache, ATTRIBUTE)
                counted = dict(zip(COUNTERS, state.counters()))
                figures = (counted["sets"], counted["hits"], counted["misses"], counted["deletes"], state.entries)
                assert figures == (1, 2, 1, 1, 0), (what, figures)
            handle.undo()
            for what, cache in made.items():
                cache["c"] = "3"; cache["c"]
                assert getattr(cache, ATTRIBUTE, None) is None, what
                assert not hooks_left(type(cache)), hooks_left(type(cache))

    for order in {orders!r}:  # each in a child that has imported no more than this
        child = os.fork()
        if not child:
            try:
                use(*order)
                print("ok", flush=True)
            except BaseException:
                traceback.print_exc()
                print(order, file=sys.stderr)
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.waitpid(child, 0)
    """
)

_LOADS = textwrap.dedent(
    """
    import pickle, sys
    sys.modules["cachescope"] = sys.modules["wrapt"] = None
    for name in sys.argv[1:]:
        with open(name, "rb") as file:
            cache = pickle.load(file)
        data = getattr(cache, "_Cache__data", getattr(cache, "data", cache))
        print(type(cache).__name__, repr(sorted(data.items(), key=repr)))
    """
)


def _fresh_process(script: str, *arguments: str, folder: Any) -> subprocess.Popen[str]:
    path = [entry for entry in sys.path if entry]
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Looking from the side


def _adapter_of(cache: Any) -> Adapter | None:
    return next((adapter for adapter in adapters().values() if adapter.recognises(cache)), None)


def _entries(cache: Any) -> list[tuple[Any, Any]] | None:
    """The entries, in their order, without touching the cache."""
    bare = cache.__wrapped__ if isinstance(cache, wrapt.ObjectProxy) else cache
    adapter = _adapter_of(bare)
    entries = None if adapter is None else adapter.entries(bare)
    return (
        None if entries is None else list(dict.items(entries)) if isinstance(entries, dict) else list(entries.items())
    )


def _size(cache: Any) -> int:
    entries = _entries(cache)
    assert entries is not None
    return len(entries)


def _plain(cache: Any) -> list[tuple[Any, Any]]:
    return sorted(_entries(cache) or [], key=repr)


def _attributes(cache: Any) -> list[str]:
    return list(getattr(cache, "__dict__", {}))


def _outcome(call: Callable[..., Any], cache: Any) -> tuple[Any, ...]:
    """What a call returned, or its exception with arguments and what it says it came from."""
    try:
        return ("returned", call(cache))
    except Exception as error:
        told: Any = error.args
        if isinstance(error, TypeError) and "argument" in str(error):
            told = "wrong arguments"  # functions in C say it in other words
        return ("raised", type(error), told, type(error.__cause__), type(error.__context__))


def _is_hook(cache: Any, name: str) -> bool:
    return is_hook(inspect.getattr_static(type(cache), name, None))


def _looks(cache: Any, name: str) -> tuple[Any, ...]:
    method = getattr(cache, name, None)
    try:
        signature: Any = inspect.signature(method)  # type: ignore[arg-type]  # what is no callable has none
    except (TypeError, ValueError):
        signature = None
    return (
        getattr(method, "__name__", None),
        getattr(method, "__doc__", None),
        signature,
        inspect.iscoroutinefunction(method),
        inspect.isroutine(method),
    )


@contextlib.contextmanager
def _foreign(cls: type, name: str, wrapper: str) -> Iterator[list[Any]]:
    """Another tool's wrapper around a method, put on the class that has it, taken off as such tools do."""
    calls: list[Any] = []
    owner = next(c for c in cls.__mro__ if name in vars(c))
    if owner.__module__ == "builtins" or owner is OrderedDict:
        pytest.skip("its methods are written in C: nobody can wrap them")
    original = vars(owner)[name]

    def closure(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(self, *args, **kwargs)

    def wrapped(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        calls.append(args)
        return wrapped(*args, **kwargs)

    theirs: Any = closure if wrapper == "closure" else wrapt.FunctionWrapper(original, wrapped)
    setattr(owner, name, theirs)
    try:
        yield calls
    finally:
        setattr(owner, name, original)


class _BadHash:
    def __hash__(self) -> int:
        raise RuntimeError("no hash today")


class _BadEq:
    def __init__(self, *, calm: bool = False) -> None:
        self.calm = calm

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        if self.calm and getattr(other, "calm", False):
            return True
        raise RuntimeError("incomparable")


class _BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no words")
