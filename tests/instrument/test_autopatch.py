"""autopatch() and unpatch(): whose classes, whose caches, and that nothing stays."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import types

import cachetools
import pytest

from cachescope import (
    CacheMemoryProfiler,
    ConfigurationError,
    autopatch,
    current_profiler,
    instrument,
    uninstrument,
    unpatch,
)
from cachescope.adapters import contract
from cachescope.adapters.contract import Adapter, Patch
from cachescope.core import faults
from cachescope.instrument.autopatch import patch_report
from cachescope.testing import hooks_left, snapshot

CLASSES = [cls for cls in vars(cachetools).values() if isinstance(cls, type) and issubclass(cls, cachetools.Cache)]


@pytest.fixture
def profiler():
    with CacheMemoryProfiler() as profiler:
        yield profiler


def row(library="cachetools"):
    return next(row for row in patch_report() if row.library == library)


def test_undo_leaves_every_class_of_the_library_as_it_was(profiler):
    before = [snapshot(cls) for cls in CLASSES]
    with autopatch("cachetools", profiler=profiler):
        assert all(hooks_left(cls) for cls in CLASSES)
        assert row().state == "patched"
    assert [snapshot(cls) for cls in CLASSES] == before
    assert row().state == "not patched"


def test_undo_twice_and_unpatch_of_nothing_are_nothing(profiler):
    handle = autopatch("cachetools", profiler=profiler)
    handle.undo()
    before = [snapshot(cls) for cls in CLASSES]
    handle.undo()
    unpatch()
    unpatch("cachetools")
    assert [snapshot(cls) for cls in CLASSES] == before
    assert row().state == "not patched"


def test_patching_twice_hooks_once(profiler):
    with autopatch("cachetools", profiler=profiler), autopatch("cachetools", profiler=profiler):
        cache = cachetools.LRUCache(4)
        cache["a"] = "1"
        assert cache._self_cachescope.sets == 1
    assert not hooks_left(cachetools.LRUCache)


def test_an_unknown_library_is_refused_with_those_that_are_known(profiler):
    with pytest.raises(ConfigurationError, match=r"'cachtools' is not known.*cachetools"):
        autopatch("cachtools", profiler=profiler)
    with pytest.raises(ConfigurationError, match="not known"):
        autopatch(exclude="cachtools", profiler=profiler)
    assert not hooks_left(cachetools.Cache)


def test_what_is_excluded_is_left_alone(profiler):
    with autopatch(exclude=("cachetools",), profiler=profiler) as handle:
        assert "cachetools" not in handle.libraries
        assert not hooks_left(cachetools.Cache)


def test_a_second_profiler_is_refused_and_the_first_goes_on(profiler):
    with autopatch("cachetools", profiler=profiler), CacheMemoryProfiler() as other:
        with pytest.raises(ConfigurationError, match="unpatch"):
            autopatch("cachetools", profiler=other)
        cache = cachetools.LRUCache(4)
        cache["a"] = "1"
        assert len(profiler.caches()) == 1
        assert other.caches() == ()


def test_the_profiler_of_the_process_is_started_when_none_is_given():
    try:
        with autopatch("cachetools"):
            counted = cachetools.LRUCache(4)
            counted["a"] = "1"
        profiler = current_profiler()
        assert len(profiler.caches()) == 1
        assert profiler.caches()[0].endswith(".counted")
    finally:
        current_profiler().shutdown()


def test_subclasses_of_before_during_and_after(profiler):
    class Before(cachetools.LRUCache):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)

    seen = []

    class Base(cachetools.LRUCache):
        def __init_subclass__(cls, *, code, **options):
            super().__init_subclass__(**options)
            seen.append((cls.__name__, code))

    with autopatch("cachetools", profiler=profiler):

        class During(Base, code=7):
            def __setitem__(self, key, value):
                super().__setitem__(key, value)

        caches = [Before(4), During(4)]
        for cache in caches:
            cache["a"] = "1"
            cache["a"] = "2"
            assert (cache._self_cachescope.sets, cache._self_cachescope.replacements) == (1, 1)
    assert seen == [("During", 7)]

    class After(Base, code=8):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)

    for cls in (Before, During, After):
        assert not hooks_left(cls)
    assert "__init_subclass__" not in vars(cachetools.Cache)


def test_objects_of_before_are_met_at_their_first_use_with_what_they_hold(profiler):
    cache = cachetools.LRUCache(4)
    cache["a"] = "1"
    with autopatch("cachetools", profiler=profiler):
        assert cache["a"] == "1"
        (name,) = profiler.caches()
        assert name.startswith("LRUCache@")
        profile = profiler.get_cache_profile(name)
        assert (profile.current_entries, profile.hits) == (1, 1)


def test_a_patched_cache_can_be_given_a_name(profiler):
    with autopatch("cachetools", profiler=profiler):
        cache = cachetools.LRUCache(4)
        cache["a"] = "1"
        assert instrument(cache, name="users", profiler=profiler) is cache
        cache["b"] = "2"
    assert profiler.caches() == ("users",)
    assert profiler.get_cache_profile("users").total_allocations == 2


def test_a_cache_instrumented_by_hand_stays_so_after_the_undo(profiler):
    handle = autopatch("cachetools", profiler=profiler)
    cache = cachetools.LRUCache(4)
    uninstrument(cache)
    handle.undo()
    instrument(cache, name="mine", profiler=profiler)
    with autopatch("cachetools", profiler=profiler):
        cache["a"] = "1"
    cache["b"] = "2"
    profile = profiler.get_cache_profile("mine")
    assert (profile.total_allocations, profile.current_entries) == (2, 2)
    uninstrument(cache)


@pytest.mark.parametrize(
    "method", ["__getitem__", "__setitem__", "__delitem__", "__missing__", "get", "pop", "setdefault", "clear"]
)
def test_another_tools_wrapper_is_called_as_often_as_without_us(profiler, monkeypatch, method):
    """Also where a hook could do what the original does by itself."""
    calls = []
    owner = next(cls for cls in cachetools.LRUCache.__mro__ if method in vars(cls))
    original = vars(owner)[method]

    @functools.wraps(original)
    def theirs(self, *args, **kwargs):
        calls.append(args[:1])
        return original(self, *args, **kwargs)

    def use():
        cache = cachetools.LRUCache(4)
        cache["a"] = "1"
        results = [
            cache["a"],
            cache.get("a"),
            cache.get("b"),
            cache.get("b", 5),
            cache.pop("a"),
            cache.setdefault("c", 3),
        ]
        cache["d"] = "4"
        del cache["d"]
        with contextlib.suppress(KeyError):
            cache["b"]
        cache.clear()
        made, calls[:] = list(calls), []
        return results, made

    monkeypatch.setattr(owner, method, theirs)
    expected = use()
    assert expected[1]
    with autopatch("cachetools", profiler=profiler):
        assert use() == expected
    assert use() == expected


def test_another_tools_undo_that_takes_ours_off_harms_nobody(profiler):
    """Some tools take off whatever wrapper is outermost (OpenTelemetry does); the cache goes on, unseen."""
    handle = autopatch("cachetools", profiler=profiler)
    cache = cachetools.LRUCache(4)
    cachetools.LRUCache.__setitem__ = cachetools.LRUCache.__setitem__.__wrapped__
    cache["a"] = "1"
    assert cache["a"] == "1"
    handle.undo()
    assert not hooks_left(cachetools.LRUCache)
    assert cache["a"] == "1"


class Broken(Adapter):
    """An adapter of somebody else's, with a mistake in it."""

    name = "brittle"
    module = "brittle"
    distribution = "pytest"  # there is such a distribution

    def recognises(self, obj):
        return False

    def patches(self):
        brittle = sys.modules["brittle"]
        yield Patch(brittle.Cache, "get", "get")
        yield Patch(brittle.Cache, "no_such_method", "get")


def test_an_adapter_that_fails_half_way_leaves_nothing(profiler, monkeypatch):
    module = types.ModuleType("brittle")
    module.Cache = type("Cache", (), {"get": lambda self, key, default=None: default})
    monkeypatch.setitem(sys.modules, "brittle", module)
    monkeypatch.setattr(contract, "_adapters", {**contract.adapters(), "brittle": Broken()})
    before = snapshot(module.Cache)
    with autopatch("brittle", profiler=profiler):
        assert snapshot(module.Cache) == before
        assert row("brittle").state.startswith("failed: AttributeError")
    assert faults.counts.pop("patching brittle: AttributeError") == 1


def test_threads_that_use_caches_while_they_are_patched_and_undone_see_only_results(profiler):
    cache, errors, stop = cachetools.LRUCache(8), [], threading.Event()

    def use():
        try:
            while not stop.is_set():
                cache["a"] = "1"
                assert cache["a"] == "1"
                assert cache.get("b", "default") == "default"
                assert cache.pop("a") == "1"
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(50):
            autopatch("cachetools", profiler=profiler).undo()
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert errors == []
    assert len(cache) == 0
