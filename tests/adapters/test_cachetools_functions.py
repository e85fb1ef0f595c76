"""``@cached`` and ``@cachedmethod`` over a plain dict, once cachetools is patched; on all its versions."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import os
import pickle
import subprocess
import sys
import threading
import traceback
import weakref
from collections import OrderedDict, UserDict, defaultdict
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path

import cachetools
import cachetools.func
import pytest
from cachetools import cached, cachedmethod
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.test_cachetools import VERSIONS, library  # noqa: F401  # a fixture
from cachescope import CacheMemoryProfiler, autopatch, instrument, profiled_cache, uninstrument, unpatch
from cachescope.core import faults

VERSION = tuple(int(part) for part in version("cachetools").split(".")[:2])
EIGHT = VERSION >= (8, 0)
METHODS = pytest.mark.skipif(not EIGHT, reason="before 8 nothing lives as long as the instance")
THIS = Path(__file__)
OPTIONS = [{}, {"lock": threading.RLock()}, {"info": True}, {"lock": threading.RLock(), "info": True}]
if VERSION >= (6, 0):
    OPTIONS += [{"condition": threading.Condition()}, {"condition": threading.Condition(), "info": True}]


@pytest.fixture
def profiler():
    """A private profiler that cachetools is patched for; nothing of ours fails meanwhile."""
    before = dict(faults.counts)
    with CacheMemoryProfiler() as profiler, autopatch("cachetools", profiler=profiler):
        yield profiler
    assert faults.counts == before


def text(x):
    return str(x) * 3


def figures(profiler, name):
    """Hits, misses, entries."""
    profile = profiler.get_cache_profile(name)
    return profile.hits, profile.misses, profile.current_entries


def only(profiler):
    (name,) = profiler.caches()
    return profiler.get_cache_profile(name)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
@pytest.mark.parametrize("kind", [dict, OrderedDict, partial(defaultdict, None)])
def test_a_plain_dict_is_seen_and_named_after_the_function(profiler, kind, options):
    """Every variant of the library's wrapper: each call is one look-up, and the line is the function's."""
    cache = kind()
    f = cached(cache, **options)(text)
    assert [f(x) for x in (1, 2, 1, 3, 1)] == [text(x) for x in (1, 2, 1, 3, 1)]
    seen = only(profiler)
    assert (seen.cache_name, seen.kind) == (f"{__name__}:text", type(cache).__name__)
    assert seen.where.endswith(f"test_cachetools_functions.py:{text.__code__.co_firstlineno}")
    assert (seen.hits, seen.misses, seen.current_entries, seen.total_allocations) == (2, 3, 3, 3)
    assert seen.current_memory_bytes > sum(sys.getsizeof(value) for value in cache.values())
    assert list(cache.values()) == ["111", "222", "333"]
    f.cache_clear()
    assert (only(profiler).current_entries, cache) == (0, {})


@settings(deadline=None, max_examples=30)
@given(calls=st.lists(st.integers(0, 6) | st.just(None), max_size=60), options=st.sampled_from(OPTIONS))
def test_any_calls_count_as_a_naive_cache_does(calls, options):
    """Results, hits, misses and entries are those of a dict and two counters; None empties the cache."""
    naive, hits, misses = {}, 0, 0
    with CacheMemoryProfiler() as profiler, autopatch("cachetools", profiler=profiler):
        f = cached({}, **options)(text)
        for call in calls:
            if call is None:
                f.cache_clear()
                naive.clear()
                continue
            hits, misses = hits + (call in naive), misses + (call not in naive)
            assert f(call) == naive.setdefault(call, text(call))
        assert figures(profiler, f"{__name__}:text") == (hits, misses, len(naive))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
def test_what_users_see_is_what_the_bare_library_shows(options):
    """The dict itself, the same attributes, signature, repr, pickle, copies and ``cache_info()``."""
    bare = cached({}, **options)(text)
    cache = {}
    with CacheMemoryProfiler() as profiler, autopatch("cachetools", profiler=profiler):
        f = cached(cache, **options)(text)
        f(1)
        bare(1)
        assert f.cache is cache
        assert vars(f).keys() == vars(bare).keys()
        for name in ("cache_key", "cache_lock", "cache_condition"):
            assert getattr(f, name, None) is getattr(bare, name, None)
        assert f.__class__ is bare.__class__
        assert type(f).__name__ == type(bare).__name__
        assert inspect.signature(f) == inspect.signature(bare) == inspect.signature(text)
        assert (f.__wrapped__, f.__name__, f.__doc__) == (text, "text", text.__doc__)
        assert repr(f).split(" at ")[0] == repr(bare).split(" at ")[0]
        assert copy.copy(f) is f
        assert copy.deepcopy(f) is f
        if options.get("info"):
            assert f.cache_info() == bare.cache_info() == (0, 1, None, 1)


@cached({})
def by_name(x):
    return x


def test_a_decorated_function_is_pickled_by_its_name(profiler, monkeypatch):
    """As the bare one is."""
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    f = cached({})(by_name.__wrapped__)
    monkeypatch.setattr(sys.modules[__name__], "by_name", f)
    assert pickle.loads(pickle.dumps(f)) is f
    assert f(1) == 1


def test_a_traceback_through_a_cached_function_has_no_frame_of_ours(profiler):
    """The function raises: nothing is stored, the miss is counted, and the frames are the library's."""

    def fails(x):
        raise ValueError(x)

    def frames_of(f):
        with pytest.raises(ValueError, match="7") as caught:
            f(7)
        assert caught.value.__context__ is None
        return [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(caught.tb)[1:]]

    f = cached({})(fails)
    seen = frames_of(f)
    with unpatched():
        assert seen == frames_of(cached({})(fails))
    assert figures(profiler, f.__module__ + ":" + fails.__qualname__)[:2] == (0, 1)
    assert len(f.cache) == 0


class unpatched:  # noqa: N801  # used as a function is
    """Undoes the patch; the fixture's own undo finds nothing then."""

    def __enter__(self):
        unpatch("cachetools")

    def __exit__(self, *error):
        return None


def test_methods_generators_and_coroutine_functions_work_as_before(profiler):
    """``cached`` on a function in a class binds; what async and generator functions return is cached as it is."""

    class Shop:
        @cached({}, key=lambda self, x: x)
        def price(self, x):
            return (self, x)

    shop = Shop()
    assert shop.price(3) is shop.price(3)
    assert Shop.price(shop, 3) is shop.price(3)

    @cached({})
    def some(n):
        yield from range(n)

    assert some(3) is some(3)
    assert list(some(3)) == [0, 1, 2]
    assert list(some(3)) == []

    @cached({})
    async def soon(x):
        return x

    task = soon(1)
    assert soon(1) is task
    assert asyncio.run(task) == 1
    assert figures(profiler, f"{__name__}:{Shop.price.__qualname__}") == (3, 1, 1)


def test_func_caches_without_a_limit_are_seen(profiler):
    """``cachetools.func`` gives them a plain dict, and keeps its own ``cache_parameters``."""
    f = cachetools.func.lru_cache(maxsize=None)(text)
    g = cachetools.func.fifo_cache(maxsize=None, typed=True)(text)
    for x in (1, 1, 2):
        f(x)
        g(x)
    assert f.cache_info() == (1, 2, None, 2)
    assert g.cache_parameters() == {"maxsize": None, "typed": True}
    assert figures(profiler, f"{__name__}:text") == (2, 4, 4)  # of one name: summed


@pytest.mark.parametrize("make", [lambda: cachetools.LRUCache(9), UserDict, type("Own", (dict,), {})])
def test_what_is_no_plain_dict_is_left_alone(profiler, make):
    """The library gets the very object."""
    cache = make()
    f = cached(cache)(text)
    assert f.cache is cache
    assert f(1) == f(1)
    seen = profiler.caches()
    assert len(seen) == isinstance(cache, cachetools.Cache)
    assert not any(name.endswith(":text") for name in seen)


def test_a_callable_without_a_name_is_called_as_it_is_stored(profiler):
    """A partial and a builtin have no line of their own: the one that decorates is shown."""
    stored = cached({})(partial(text, 5))
    assert stored() == "555"
    measured = cached({})(len)
    assert measured("ab") == 2
    assert {name.rpartition(".")[2] for name in profiler.caches()} == {"stored", "measured"}
    assert all("test_cachetools_functions.py" in profiler.get_cache_profile(name).where for name in profiler.caches())


def test_one_dict_under_two_functions_is_one_cache(profiler):
    """It is named after the first, and the second's entries are not counted twice."""
    shared = {}
    f = cached(shared)(text)
    g = cached(shared)(lambda x: text(x))
    f(1)
    assert g(1) == "111"
    assert figures(profiler, f"{__name__}:text") == (1, 1, 1)
    assert len(profiler.caches()) == 1


def test_a_dict_that_was_there_before_comes_with_what_it_holds(profiler):
    """Its entries are live from the start."""
    f = cached({cachetools.keys.hashkey(x): text(x) for x in range(5)})(text)
    assert figures(profiler, f"{__name__}:text") == (0, 0, 5)
    assert f(3) == "333"
    assert figures(profiler, f"{__name__}:text") == (1, 0, 5)


@pytest.mark.parametrize("held", [3, 40, 900])
@pytest.mark.parametrize("lock", [None, threading.RLock()])
def test_what_users_take_out_of_the_dict_is_gone_at_the_next_set(profiler, lock, held):
    """``f.cache.pop(key)`` counts as deleted and ``f.cache.clear()`` as cleared; nothing is taken for an eviction."""
    f = cached({}, lock=lock)(text)
    for x in range(100, 100 + held):
        f(x)
    full = only(profiler)
    f.cache.pop(f.cache_key(101))
    f(7)
    seen = only(profiler)
    assert (seen.current_entries, seen.total_deletions, seen.total_evictions) == (held, 1, 0)
    mean = full.current_memory_bytes / held
    assert (
        abs(seen.current_memory_bytes - seen.container_bytes - (full.current_memory_bytes - full.container_bytes))
        < mean
    )
    f.cache.clear()
    f(7)
    seen = only(profiler)
    assert (seen.current_entries, seen.total_cleared, seen.clears, seen.total_evictions) == (1, held, 1, 0)
    assert 0 < seen.current_memory_bytes - seen.container_bytes < 2 * mean + 200


def test_threads_that_take_out_and_call_leave_the_count_right(profiler):
    """Four threads call and clear the dict; at the end, one more set, and entries are what the dict holds."""
    f = cached({}, lock=threading.Lock())(text)

    def work(seed):
        for x in range(3_000):
            f((x * seed) % 97)
            if x % 50 == seed:
                with f.cache_lock:
                    f.cache.clear()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with f.cache_lock:
        f.cache.clear()
    f("last")
    hits, misses, entries = figures(profiler, f"{__name__}:text")
    assert entries == 1
    assert hits + misses >= 12_001  # a call that another thread was quicker than is a miss and a hit
    assert only(profiler).total_evictions == 0


# The patch


def makers():
    """What is replaced, wherever this version has it."""
    names = [
        ("cachetools", "_cached_wrapper"),
        ("cachetools._cached", "_wrapper"),
        ("cachetools._cachedmethod", "_wrapper"),
    ]
    return [
        (module, name, getattr(sys.modules[module], name))
        for module, name in names
        if module in sys.modules and hasattr(sys.modules[module], name)
    ]


def test_undo_restores_every_function_and_what_was_decorated_goes_on_without_us():
    """The library's functions are the same objects again, and a function decorated meanwhile is inert."""
    cached({})(text)
    before = makers()
    assert before
    with CacheMemoryProfiler() as profiler:
        with autopatch("cachetools", profiler=profiler):
            assert all(now is not was for (*_, now), (*_, was) in zip(makers(), before, strict=False))
            f = cached({})(text)
            f(1)
        assert makers()[: len(before)] == before
        assert [f(1), f(2), f(2)] == ["111", "222", "222"]
        assert len(f.cache) == 2
        assert figures(profiler, f"{__name__}:text")[:2] == (0, 1)
        assert cached({})(text)(1) == "111"


def test_patching_again_sees_what_the_first_patch_has_decorated():
    """For another profiler too; it comes with what it holds."""
    with CacheMemoryProfiler() as first:
        with autopatch("cachetools", profiler=first):
            f = cached({})(text)
            f(1)
        f(2)
        with CacheMemoryProfiler() as second, autopatch("cachetools", profiler=second):
            f(2)
            f(3)
            assert figures(second, f"{__name__}:text") == (1, 1, 3)
        assert figures(first, f"{__name__}:text")[:2] == (0, 1)


def test_a_profiler_that_is_shut_down_and_started_again_has_its_functions_back():
    """Between the two they are inert, and functions decorated then are met at their first use."""
    profiler = CacheMemoryProfiler()
    with profiler, autopatch("cachetools", profiler=profiler):
        f = cached({})(text)
        f(1)
        profiler.shutdown()
        f(2)
        g = cached({})(lambda x: x)
        g(1)
        profiler.start()
        f(3)
        g(2)
        assert figures(profiler, f"{__name__}:text")[2] == 3
        (other,) = set(profiler.caches()) - {f"{__name__}:text"}
        assert figures(profiler, other)[1:] == (1, 2)


def test_after_the_undo_a_new_start_of_the_profiler_takes_nothing_back():
    """The function stays inert: the patch is gone, whatever the profiler does."""
    profiler = CacheMemoryProfiler()
    with profiler:
        with autopatch("cachetools", profiler=profiler):
            f = cached({})(text)
            f(1)
        profiler.shutdown()
        profiler.start()
        f(2)
        assert profiler.caches() == ()


def test_one_dict_under_two_functions_has_one_stand_in_also_while_the_profiler_rests():
    """It is met once, when the profiler runs."""
    profiler = CacheMemoryProfiler()
    with profiler, autopatch("cachetools", profiler=profiler):
        profiler.shutdown()
        shared = {}
        f, g = cached(shared)(text), cached(shared)(lambda x: text(x))
        profiler.start()
        f(1)
        g(1)
        assert figures(profiler, f"{__name__}:text") == (1, 1, 1)
        assert len(profiler.caches()) == 1


def test_another_tool_s_wrapper_above_and_below_stays_where_it_is():
    """A tool wraps before, another after: both still run after the undo, and ours neither counts nor fails."""
    cached({})(text)
    module, name, stock = makers()[0]
    ran = []

    def tool(label, original):
        @wraps(original)
        def _wrapper(*args, **kwargs):
            ran.append(label)
            return original(*args, **kwargs)

        return _wrapper

    try:
        setattr(sys.modules[module], name, tool("below", stock))
        with CacheMemoryProfiler() as profiler:
            with autopatch("cachetools", profiler=profiler):
                setattr(sys.modules[module], name, tool("above", getattr(sys.modules[module], name)))
                f = cached({})(text)
                f(1)
                assert figures(profiler, f"{__name__}:text") == (0, 1, 1)
            assert getattr(sys.modules[module], name) is not stock
            g = cached({})(text)
            assert g(1) == "111"
            assert figures(profiler, f"{__name__}:text")[:2] == (0, 1)
            with autopatch("cachetools", profiler=profiler):  # on top of the one that the tool has kept
                before = dict(faults.counts)
                h = cached({})(text)
                assert [h(5), h(5)] == ["555", "555"]
                assert (h.cache, faults.counts) == ({cachetools.keys.hashkey(5): "555"}, before)
        assert ran == ["above", "below"] * 3
    finally:
        setattr(sys.modules[module], name, stock)


def test_instrument_names_it_and_uninstrument_takes_it_out(profiler):
    """By the dict that the user holds: one cache under the new name, then none, and the function goes on."""
    cache = {}
    f = cached(cache)(text)
    f(1)
    instrument(cache, name="theirs", profiler=profiler)
    f(1)
    assert profiler.caches() == ("theirs",)
    assert figures(profiler, "theirs") == (1, 1, 1)
    assert uninstrument(cache) is cache
    assert [f(1), f(2)] == ["111", "222"]
    assert figures(profiler, "theirs")[:2] == (1, 1)


def test_what_was_instrumented_by_hand_stays_so(profiler):
    """Before the decoration, by another profiler, or as the proxy itself."""
    mine = instrument({}, name="mine", profiler=profiler)
    f = cached(mine.__wrapped__)(text)
    f(1)
    assert figures(profiler, "mine") == (0, 1, 1)
    with CacheMemoryProfiler() as other:
        theirs = instrument({}, name="theirs", profiler=other)
        g = cached(theirs.__wrapped__)(text)
        g(1)
        h = cached(theirs)(text)
        h(2)
        assert h.cache is theirs
        assert figures(other, "theirs")[1] == 1
    assert profiler.caches() == ("mine",)


def test_profiled_cache_above_gives_the_name(profiler):
    """On every version, for the dict has a stand-in already."""
    f = cached({})(text)
    assert profiled_cache(f, name="theirs", profiler=profiler) is f
    f(1)
    f(1)
    assert profiler.caches() == ("theirs",)
    assert figures(profiler, "theirs") == (1, 1, 1)


def test_the_dict_goes_when_the_function_goes(profiler):
    """Nothing of ours keeps a function, its dict or its results alive."""

    class Result:
        pass

    def make():
        f = cached({})(lambda x: Result())
        return weakref.ref(f), weakref.ref(f(1))

    references = make()
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert only(profiler).current_entries == 0


# Version 8: objects that read their attribute


@METHODS
def test_another_cache_that_is_put_into_place_is_seen_from_then_on(profiler):
    """``f.cache = other``: a dict gets a stand-in of the same name, anything else is used as it is."""
    f = cached({})(text)
    f(1)
    other = f.cache = {}
    f(1)
    f(1)
    assert other == {cachetools.keys.hashkey(1): "111"}
    assert figures(profiler, f"{__name__}:text")[:2] == (1, 2)
    lru = f.cache = cachetools.LRUCache(2)
    f(1)
    assert (f.cache is lru, len(lru)) == (True, 1)
    del f.cache
    with pytest.raises(AttributeError, match="cache"):
        f(1)
    with pytest.raises(AttributeError, match="cache"):
        f.cache  # noqa: B018


@METHODS
@pytest.mark.parametrize("locked", [False, True])
def test_a_dict_of_each_instance_is_seen_under_the_method_s_name(profiler, locked):
    """Each instance's dict is a cache of its own, gone with it; users see their dict."""

    class Store:
        def __init__(self):
            self.held = {}

        @cachedmethod(lambda self: self.held, lock=(lambda self: threading.RLock()) if locked else None, info=True)
        def load(self, x):
            return text(x)

    one, two = Store(), Store()
    for store, x in [(one, 1), (one, 1), (two, 1), (two, 2)]:
        assert store.load(x) == text(x)
    name = f"{__name__}:{Store.load.__qualname__}"
    assert figures(profiler, name) == (1, 3, 3)
    assert profiler.get_cache_profile(name).instances == 2
    assert one.load.cache is one.held
    assert one.load.cache_info() == (1, 1, None, 1)
    one.held = {}
    one.load(1)
    assert len(one.held) == 1
    one.load.cache_clear()
    assert one.held == {}
    gone = weakref.ref(two)
    del two, store
    gc.collect()
    assert gone() is None
    assert figures(profiler, name)[2] == 0


class Store:
    def __init__(self):
        self.held = {}

    @cachedmethod(lambda self: self.held)
    def load(self, x):
        return text(x)


@METHODS
def test_an_instance_with_a_cached_method_is_copied_and_pickled_as_before(profiler, monkeypatch):
    """Its wrapper is rebuilt by the library, and what comes out has a dict of its own."""
    store = Store()
    watched = type("Store", (Store,), {"load": cachedmethod(lambda self: self.held)(Store.load.__wrapped__)})
    watched.__module__, watched.__qualname__ = __name__, "Store"
    monkeypatch.setattr(sys.modules[__name__], "Store", watched)
    store = watched()
    store.load(1)
    for twin in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        assert twin.held == store.held
        assert twin.held is not store.held
        twin.load(2)
        assert (len(twin.held), len(store.held)) == (2, 1)
    assert figures(profiler, f"{__name__}:Store.load")[1] == 3


# Every version


@pytest.mark.parametrize("version", [other for other in VERSIONS if other != version("cachetools")])
def test_all_of_this_holds_for_every_version(library, version, tmp_path):  # noqa: F811
    """This file again, with an older cachetools on the path."""
    path = [library(version), THIS.parents[2] / "src", THIS.parents[1]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", "0"]
    ran = subprocess.run(
        [*command, "-k", "not every_version", str(THIS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
