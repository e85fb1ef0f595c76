"""Operations: each run counts its own, whatever overlaps; and the fold over all runs."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dis
import functools
import gc
import inspect
import json
import os
import pickle
import random
import sys
import threading
import tracemalloc
import types
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core import faults, operations
from cachescope.core.analysis.operations import OTHERS, Operations
from cachescope.core.errors import ConfigurationError
from cachescope.core.operations import Operation, current, saw
from cachescope.core.results.operation import OperationProfile


class Cache:
    """Stands for a cache's record: counts its open scopes, and reports as its hooks would."""

    def __init__(self, name="users"):
        self.name = name
        self.scopes = 0
        self.profiles = []

    def open_scope(self):
        self.scopes += 1

    def close_scope(self):
        self.scopes -= 1

    def operation(self, name="load"):
        return Operation(self, name, self.profiles.append)

    def put(self, size):
        saw(self.name, size, 0, 0, 1, 0, 0)


@pytest.fixture
def cache():
    """A cache; afterwards nothing is open and nothing went wrong inside."""
    before = dict(faults.counts)
    cache = Cache()
    yield cache
    assert cache.scopes == 0
    assert faults.counts == before


def bytes_of(profiles):
    return {profile.operation: profile.allocated_bytes for profile in profiles}


def test_a_block_counts_what_happened_in_it(cache):
    """Nothing before it, nothing after it; the profile is filled when the block ends."""
    cache.put(1)
    with cache.operation() as profile:
        assert profile.to_dict() == OperationProfile(cache_name="users", operation="load").to_dict()
        assert cache.scopes == 1
        saw("users", 100, 7, 30, 2, 3, 4)
        saw("others", 1, 1, 1, 1, 1, 1)
    cache.put(1)
    assert (profile.allocated_bytes, profile.freed_bytes, profile.memory_delta_bytes) == (100, 30, 77)
    assert (profile.allocations, profile.hits, profile.misses) == (2, 3, 4)
    assert (profile.error, profile.parent) == (None, None)
    assert profile.duration_seconds > 0
    assert isinstance(profile.rss_delta_bytes, int)
    assert len(cache.profiles) == 1
    assert cache.profiles[0] is profile


async def test_a_thousand_overlapping_tasks_count_their_own_bytes(cache):
    """One event loop, one operation object, awaits at random points: each run's bytes are exact."""
    rng = random.Random(5)
    shared = cache.operation()
    open_at_once = 0

    async def work(sizes, naps):
        nonlocal open_at_once
        async with shared as profile:
            for size, nap in zip(sizes, naps, strict=True):
                cache.put(size)
                open_at_once = max(open_at_once, cache.scopes)
                for _ in range(nap):
                    await asyncio.sleep(0)
        return profile

    plans = [[rng.randrange(1, 1 << 40) for _ in range(rng.randrange(1, 9))] for _ in range(1_000)]
    profiles = await asyncio.gather(*(work(plan, [rng.randrange(4) for _ in plan]) for plan in plans))
    assert [sum(plan) for plan in plans] == [profile.allocated_bytes for profile in profiles]
    assert [len(plan) for plan in plans] == [profile.allocations for profile in profiles]
    assert open_at_once > 500


def test_operations_count_for_those_around_them(cache):
    """Nested ones, on the same and on another cache; each names the innermost that it ran inside."""
    other = Cache("pages")
    with cache.operation("outer") as outer:
        cache.put(1)
        with other.operation("middle") as middle:
            cache.put(10)
            other.put(100)
            with cache.operation("inner") as inner:
                cache.put(1_000)
                other.put(10_000)
    assert (outer.allocated_bytes, middle.allocated_bytes, inner.allocated_bytes) == (1_011, 10_100, 1_000)
    assert (outer.parent, middle.parent, inner.parent) == (None, "outer", "middle")


async def test_threads_count_when_they_run_in_a_copy_of_the_context(cache):
    """``asyncio.to_thread`` does; a bare thread has a context of its own, and belongs to nobody."""
    with cache.operation() as profile:
        await asyncio.to_thread(cache.put, 5)
        thread = threading.Thread(target=contextvars.Context().run, args=(cache.put, 7))
        thread.start()
        thread.join()
    assert profile.allocated_bytes == 5


def test_threads_that_share_a_run_lose_nothing(cache):
    """Four threads in copies of one context, switched as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with cache.operation() as profile:
            work = [contextvars.copy_context() for _ in range(4)]
            threads = [
                threading.Thread(target=c.run, args=(lambda: [cache.put(3) for _ in range(20_000)],)) for c in work
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert (profile.allocated_bytes, profile.allocations) == (240_000, 80_000)


def between(code, first, last):
    """The instructions from the first load of the attribute *first* to the last that has to do with *last*."""
    ops = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    start = next(i for i, op in enumerate(ops) if op.opname == "LOAD_ATTR" and op.argval == first)
    end = max(i for i, op in enumerate(ops) if op.opname in ("STORE_ATTR", "LOAD_ATTR") and op.argval == last)
    return [op.opname for op in ops[start : end + 1]]


@pytest.mark.parametrize(("code", "first"), [(saw, "open"), (operations.Run._fill, "allocated")])
def test_figures_are_changed_and_read_in_one_go(code, first):
    """No call and no jump back, at which another thread, a signal handler or the collector could run."""
    names = between(code, first, "misses")
    assert len(names) > 6
    assert [name for name in names if name.startswith(("CALL", "PRECALL", "JUMP_BACK", "FOR_ITER"))] == []


async def test_tasks_made_inside_count_while_the_run_is_open(cache):
    """After it has ended they count for those around it that are still open."""
    go = asyncio.Event()

    async def later():
        cache.put(1)
        await go.wait()
        cache.put(10)

    with cache.operation("outer") as outer:
        with cache.operation("inner") as inner:
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        go.set()
        await task
    assert (inner.allocated_bytes, outer.allocated_bytes) == (1, 11)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_is_named_and_goes_on(cache, error):
    """Blocks and calls swallow nothing."""
    with pytest.raises(error) as caught, cache.operation() as profile:
        raise error("mine")
    assert caught.value.args == ("mine",)

    @cache.operation("call")
    def fails():
        raise error("mine")

    with pytest.raises(error):
        fails()
    assert [profile.error for profile in cache.profiles] == [error.__name__] * 2
    assert profile.error == error.__name__
    assert current.get() is None


async def test_a_cancelled_task_ends_its_run(cache):
    """CancelledError is the error's name, of an ``async with`` and of a decorated coroutine."""

    @cache.operation("call")
    async def forever():
        async with cache.operation("block"):
            cache.put(1)
            await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(p.operation, p.error, p.allocated_bytes) for p in cache.profiles] == [
        ("block", "CancelledError", 1),
        ("call", "CancelledError", 1),
    ]


def plain(a, b: int = 2, *, c="x") -> str:
    """Text."""


async def coroutine(a, b: int = 2, *, c="x") -> str:
    """Text."""


def generator(a, b: int = 2, *, c="x"):
    """Text."""
    yield a


async def async_generator(a, b: int = 2, *, c="x"):
    """Text."""
    yield a


@types.coroutine
def old_coroutine(a, b: int = 2, *, c="x"):
    """Text."""
    yield


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator, old_coroutine])
def test_a_decorated_function_looks_as_before(cache, function):
    """Its name, signature, text and kind stay."""
    decorated = cache.operation()(function)
    assert decorated is not function
    assert inspect.signature(decorated) == inspect.signature(function)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        assert getattr(decorated, attribute) == getattr(function, attribute)
    for kind in ("iscoroutinefunction", "isgeneratorfunction", "isasyncgenfunction"):
        assert getattr(inspect, kind)(decorated) is getattr(inspect, kind)(function)
    assert decorated.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE == (
        function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE
    )


async def test_every_kind_of_callable_can_be_decorated(cache):
    """Methods of classes, partials, and functions that have a cache of their own, which keep their attributes."""

    class Shop:
        @cache.operation("method")
        def method(self, size):
            cache.put(size)
            return self

        @cache.operation("static")
        @staticmethod
        def static(size):
            cache.put(size)

        @cache.operation("class")
        @classmethod
        def of_class(cls, size):
            cache.put(size)
            return cls

        @cache.operation("cached")
        @functools.lru_cache  # noqa: B019  # one shop, gone with the test
        def cached(self, size):
            cache.put(size)
            return size

    async def load(size):
        await asyncio.sleep(0)
        cache.put(size)

    class Loader:
        async def __call__(self, size):
            await load(size)

    shop = Shop()
    assert shop.method(1) is shop
    Shop.static(2)
    assert shop.of_class(3) is Shop
    assert [shop.cached(4), shop.cached(4)] == [4, 4]
    assert Shop.cached.cache_info().hits == 1
    partial = cache.operation("partial")(functools.partial(load, 5))
    assert inspect.iscoroutinefunction(partial)
    await partial()
    await cache.operation("object")(Loader())(6)
    found = [(p.operation, p.allocated_bytes) for p in cache.profiles]
    assert found[:3] == [("method", 1), ("static", 2), ("class", 3)]
    assert found[3:] == [("cached", 4), ("cached", 0), ("partial", 5), ("object", 6)]


_pickled = Cache("pickled").operation()
pickled = _pickled(copy.copy(plain))
pickled.__qualname__ = "pickled"


@_pickled
@functools.lru_cache
def pickled_too():
    """Has a cache of its own."""


@pytest.mark.parametrize("function", [pickled, pickled_too])
def test_a_decorated_function_is_pickled_by_its_name(monkeypatch, function):
    """As the bare one is, which worker processes need."""
    monkeypatch.setitem(sys.modules, function.__module__, sys.modules.get(function.__module__, types.ModuleType("m")))
    for name, value in (("pickled", pickled), ("pickled_too", pickled_too)):
        monkeypatch.setattr(sys.modules[function.__module__], name, value, raising=False)
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_function_that_calls_itself_has_a_run_for_each_call(cache):
    """The outer calls count what the inner ones did."""

    @cache.operation()
    def down(depth):
        cache.put(1)
        if depth > 1:
            down(depth - 1)

    down(5)
    assert [profile.allocated_bytes for profile in cache.profiles] == [1, 2, 3, 4, 5]
    assert [profile.parent for profile in cache.profiles] == ["load"] * 4 + [None]


def test_a_generator_counts_its_own_code_and_not_its_consumer(cache):
    """Between the steps the consumer's context is as before; what is open around a step counts the step."""

    @cache.operation("rows")
    def rows():
        cache.put(1)
        with cache.operation("inside"):
            yield
            cache.put(10)
            yield
        cache.put(100)

    steps = rows()
    with cache.operation("first"):
        next(steps)
        cache.put(1_000)
    assert current.get() is None
    with cache.operation("second"):
        next(steps)
        cache.put(1_000)
    assert current.get() is None
    with cache.operation("third"):
        assert list(steps) == []
    figures = {"first": 1_001, "second": 1_010, "inside": 10, "rows": 111, "third": 100}
    assert bytes_of(cache.profiles) == figures
    assert [p.parent for p in cache.profiles if p.operation in ("rows", "inside")] == ["rows", "first"]


def echo(log):
    """A generator that takes whatever comes, and says so."""
    got = None
    for _ in range(6):
        try:
            got = yield (got, "next")
        except KeyError as error:
            got = error.args
        finally:
            log.append(got)
        if got == "stop":
            return "stopped"
        if got == "fail":
            raise OSError(got)
    return "done"


def outcome(action, *args):
    try:
        return action(*args)
    except BaseException as error:
        return type(error), error.args, type(error.__cause__)


calls = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([None, None, 1, "stop", "fail"])),
        st.tuples(st.just("throw"), st.sampled_from([KeyError("k"), ValueError("v"), StopIteration("s")])),
        st.just(("close",)),
        st.just(("__next__",)),
    ),
    max_size=10,
)


@given(calls)
def test_a_decorated_generator_does_what_the_bare_one_does(steps):
    """send, throw and close in any order give the same values and errors, and the context is as before."""
    cache = Cache()
    bare_log, log = [], []
    bare, decorated = echo(bare_log), cache.operation()(echo)(log)
    for name, *args in steps:
        expected = outcome(getattr(bare, name), *args)
        assert outcome(getattr(decorated, name), *args) == expected
        assert current.get() is None
    bare.close()
    decorated.close()
    assert log == bare_log
    assert cache.scopes == 0


async def async_echo(log):
    """The same as a coroutine would."""
    got = None
    for _ in range(6):
        try:
            await asyncio.sleep(0)
            got = yield (got, "next")
            await asyncio.sleep(0)
        except KeyError as error:
            got = error.args
        finally:
            log.append(got)
        if got == "fail":
            raise OSError(got)


async_calls = st.lists(
    st.one_of(
        st.tuples(st.just("asend"), st.sampled_from([None, None, 1, "fail"])),
        st.tuples(st.just("athrow"), st.sampled_from([KeyError("k"), ValueError("v")])),
        st.just(("aclose",)),
        st.just(("__anext__",)),
    ),
    max_size=10,
)


@given(async_calls)
@settings(max_examples=50)
def test_a_decorated_async_generator_does_what_the_bare_one_does(steps):
    """asend, athrow and aclose in any order; the runs end, the context is as before."""
    cache = Cache()

    async def tried(action, *args):
        try:
            return await action(*args)
        except (Exception, asyncio.CancelledError) as error:
            return type(error), error.args

    async def main():
        bare_log, log = [], []
        bare, decorated = async_echo(bare_log), cache.operation()(async_echo)(log)
        for name, *args in steps:
            expected = await tried(getattr(bare, name), *args)
            assert await tried(getattr(decorated, name), *args) == expected
            assert current.get() is None
        await bare.aclose()
        await decorated.aclose()
        assert log == bare_log

    asyncio.run(main())
    assert cache.scopes == 0


async def test_overlapping_async_generators_count_their_own(cache):
    """Many in one task by turns, with awaits inside; the consumer's bytes are nobody's."""

    async def pages(count, size):
        for _ in range(count):
            await asyncio.sleep(0)
            cache.put(size)
            yield
            cache.put(size)

    streams = [cache.operation(f"s{i}")(pages)(3, 10**i) for i in range(5)]
    while streams:
        for stream in list(streams):
            try:
                await anext(stream)
            except StopAsyncIteration:
                streams.remove(stream)
            cache.put(7)
    assert bytes_of(cache.profiles) == {f"s{i}": 6 * 10**i for i in range(5)}


async def test_a_generator_asked_by_a_task_that_it_has_made_counts_once(cache):
    """The run is around that task already."""
    asked = []

    @cache.operation()
    async def stream():
        async def ask():
            cache.put(1)
            await anext(it)

        asked.append(asyncio.create_task(ask()))
        yield
        cache.put(10)
        yield
        cache.put(100)

    it = stream()
    await anext(it)
    await asked[0]
    assert [_ async for _ in it] == []
    assert cache.profiles[0].allocated_bytes == 111


def test_a_decorated_generator_keeps_nothing_alive(cache):
    """Neither what it has yielded, nor what was thrown into it."""

    class Thing:
        pass

    class ThingError(Exception):
        pass

    @cache.operation()
    def things():
        yield Thing()
        yield

    gc.disable()
    try:
        steps = things()
        thing = weakref.ref(next(steps))
        assert thing() is None
        error = ThingError()
        gone = weakref.ref(error)
        with pytest.raises(ThingError):
            steps.throw(error)
        del error
        assert sys.exception() is None
        assert gone() is None
    finally:
        gc.enable()
    assert cache.profiles[0].error == "ThingError"


async def test_a_block_may_be_left_in_another_task_than_it_was_entered_in(cache):
    """As a fixture that is an async generator is: its run ends, and no error reaches anybody."""

    async def fixture():
        async with cache.operation() as profile:
            yield profile

    steps = fixture()
    profile = await asyncio.create_task(anext(steps))
    cache.put(7)  # not in the task that entered it
    with cache.operation("around") as around:
        await asyncio.create_task(steps.aclose())
        cache.put(1)
    assert (profile.error, profile.allocated_bytes) == ("GeneratorExit", 0)
    assert (around.error, around.allocated_bytes) == (None, 1)


def test_blocks_of_one_object_left_elsewhere_are_each_ended_once(cache):
    """Even when it can't be told which of them is left."""
    shared = cache.operation()
    contexts = [contextvars.Context() for _ in range(3)]
    for context in contexts:
        context.run(shared.__enter__)
    contextvars.Context().run(shared.__exit__, None, None, None)
    for context in contexts[1:]:
        context.run(shared.__exit__, None, None, None)
    assert cache.scopes == 0
    assert len(cache.profiles) == 3
    shared.__exit__(None, None, None)  # once more than entered
    assert len(cache.profiles) == 3


def test_blocks_that_end_out_of_order_leave_the_others_open(cache):
    """A generator's plain ``with`` around a yield leaks into its consumer; what the consumer opens outlives it."""

    def leaky():
        with cache.operation("leaky"):
            yield

    steps = leaky()
    next(steps)
    with cache.operation("block") as block:
        cache.put(1)
        steps.close()
        cache.put(10)
    cache.put(100)
    assert (block.allocated_bytes, block.parent) == (11, "leaky")
    assert bytes_of(cache.profiles)["leaky"] == 1
    assert operations._open_from(current.get()) is None


def test_jobs_that_start_the_next_one_leave_no_chain(cache):
    """Each begins inside an earlier one that is still open: what has ended is forgotten."""
    shared = cache.operation("job")
    open_jobs = []
    context = contextvars.Context()
    for _ in range(500):
        context = context.copy()
        if len(open_jobs) == 3:
            ended = open_jobs.pop(0)
            ended.run(operations.Run.end, ended[current].run, None)
        run = operations.Run(shared)
        context.run(run.begin)
        context.run(run.enter)
        open_jobs.append(context)
    length, place = 0, context[current]
    while place is not None:
        length, place = length + 1, place.outer
    assert length <= 4
    for job in open_jobs:
        job[current].run.end(None)


def test_blocks_that_are_never_left_are_bounded(cache, monkeypatch):
    """The oldest ends when there are too many."""
    monkeypatch.setattr(Operation, "MOST_OPEN", 10)
    shared = cache.operation()
    for _ in range(100):
        shared.__enter__()
    assert cache.scopes == 10
    for _ in range(10):
        shared.__exit__(None, None, None)
    assert len(cache.profiles) == 100


@pytest.mark.parametrize("name", ["", "  ", None, 3, b"load"])
def test_a_wrong_name_is_refused_by_its_value(cache, name):
    """The message holds what was given."""
    with pytest.raises(ConfigurationError, match="name: ") as caught:
        cache.operation(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("target", [int, "load", property(plain)])
def test_what_is_no_function_is_refused(cache, target):
    """Classes too: there would be no class any more."""
    with pytest.raises(ConfigurationError, match="decorate a function"):
        cache.operation()(target)


def test_a_long_name_is_cut(cache):
    """To 200 characters."""
    with cache.operation("x" * 1_000) as profile:
        pass
    assert profile.operation == "x" * 200


def test_our_own_faults_reach_nobody():
    """A record that fails, a receiver that fails, figures that are none."""

    class Broken(Cache):
        def open_scope(self):
            raise OSError

    def refuse(profile):
        raise OSError

    before = faults.counts.get("operation: OSError", 0)
    with Operation(Broken(), "load", refuse) as profile:
        saw("users", 1, 1, 1, 1, 1, 1)
    assert profile.allocated_bytes == 0
    with Operation(Cache(), "load", refuse) as profile:
        saw("users", 1, 1, 1, 1, 1, 1)
        saw("users", "many", 1, 1, 1, 1, 1)
    assert profile.allocated_bytes == 1
    assert faults.counts.pop("operation: OSError") == before + 2
    assert faults.counts.pop("operation: TypeError") > 0


def test_memory_of_the_process_is_given_where_it_can_be_read(cache, monkeypatch):
    """tracemalloc's while it traces; none of psutil's when that is denied."""

    class Denied:
        pid = os.getpid()

        def memory_info(self):
            raise PermissionError

    with cache.operation() as profile:
        pass
    assert profile.traced_delta_bytes is None
    monkeypatch.setattr(operations, "_own_process", Denied())
    tracemalloc.start()
    try:
        with cache.operation() as profile:
            kept = bytearray(1 << 20)
    finally:
        tracemalloc.stop()
    assert profile.rss_delta_bytes is None
    assert profile.traced_delta_bytes is not None
    assert len(kept) <= profile.traced_delta_bytes < 2 * len(kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads_its_own_memory(cache):
    """psutil's object for the parent would give the parent's."""
    with cache.operation():
        pid = os.fork()
        if pid == 0:
            operations._memory_bytes()
            os._exit(0 if operations._own_process.pid == os.getpid() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


actions = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "leave", "saw", "saw", "copy"]),
        st.integers(0, 5),
        st.sampled_from(["users", "pages"]),
        st.integers(1, 1 << 50),
    ),
    max_size=60,
)


@given(actions)
@settings(max_examples=300)
def test_random_interleavings_count_as_a_naive_version_does(steps):
    """Contexts that are entered, left and copied in any order: a run has what was seen where it was open."""
    caches = {name: Cache(name) for name in ("users", "pages")}
    shared = {name: cache.operation(name) for name, cache in caches.items()}
    contexts = [contextvars.Context()]
    naive = [[]]  # the runs that are open in each context: [cache, bytes, the context that entered it, profile]
    ended = []
    for action, at, name, size in steps:
        at %= len(contexts)
        if action == "enter":
            naive[at].append([name, 0, at, contexts[at].run(shared[name].__enter__)])
        elif action == "copy":
            contexts.append(contexts[at].copy())
            naive.append(list(naive[at]))
        elif action == "saw":
            contexts[at].run(caches[name].put, size)
            for run in naive[at]:
                run[1] += size * (run[0] == name)
        elif naive[at] and naive[at][-1][2] == at:
            run = naive[at][-1]
            contexts[at].run(shared[run[0]].__exit__, None, None, None)
            naive = [[other for other in runs if other is not run] for runs in naive]
            ended.append(run)
    assert [run[1] for run in ended] == [run[3].allocated_bytes for run in ended]
    assert sum(cache.scopes for cache in caches.values()) == len({id(run) for runs in naive for run in runs})


# The fold

profiles = st.builds(
    OperationProfile,
    cache_name=st.just("users"),
    operation=st.sampled_from("abcd"),
    # Binary fractions, whose sums are exact in any order: the laws are about the fold, not about rounding.
    duration_seconds=st.integers(0, 1 << 20).map(lambda n: n / 1024),
    allocated_bytes=st.integers(0, 1 << 40),
    freed_bytes=st.integers(0, 1 << 40),
    memory_delta_bytes=st.integers(-(1 << 40), 1 << 40),
    allocations=st.integers(0, 100),
    hits=st.integers(0, 100),
    misses=st.integers(0, 100),
    error=st.sampled_from([None, None, "ValueError", "KeyError"]),
)
ends = st.lists(st.tuples(profiles, st.integers(0, 1_000).map(float)), max_size=20)


def folded(rows, most=256):
    out = Operations(most)
    for profile, now in rows:
        out.update(profile, now)
    return out


@given(ends, st.integers(0, 20))
def test_operations_cut_anywhere_and_merged_in_any_order_equal_one_pass(rows, cut):
    """Cut a stream, merge the parts either way: the same; an empty fold changes nothing."""
    there, back = folded(rows[:cut]), folded(rows[cut:])
    there.merge(folded(rows[cut:]))
    back.merge(folded(rows[:cut]))
    back.merge(Operations())
    # As one boolean: pytest's explanation of how two such dicts differ takes seconds, for each example that fails.
    same = folded(rows).to_dict() == there.to_dict() == back.to_dict()
    assert same


@given(ends)
def test_operations_survive_a_capture(rows):
    """What is written is what is read."""
    fold = folded(rows)
    read = Operations.from_dict(json.loads(json.dumps(fold.to_dict())))
    assert read.to_dict() == fold.to_dict()
    assert read.summaries("users") == fold.summaries("users")


@given(ends)
def test_summaries_equal_naive_sums(rows):
    """Each operation's figures are the sums over its profiles."""
    summaries = folded(rows).summaries("pages")
    assert {profile.operation for profile, _ in rows} == {summary.operation for summary in summaries}
    for summary in summaries:
        runs = [profile for profile, _ in rows if profile.operation == summary.operation]
        times = [now for profile, now in rows if profile.operation == summary.operation]
        errors = [profile.error for profile in runs if profile.error]
        assert (summary.cache_name, summary.count, summary.failures) == ("pages", len(runs), len(errors))
        assert dict(summary.errors) == {error: errors.count(error) for error in errors}
        assert summary.total_allocated_bytes == sum(profile.allocated_bytes for profile in runs)
        assert summary.total_freed_bytes == sum(profile.freed_bytes for profile in runs)
        assert summary.memory_delta_bytes == sum(profile.memory_delta_bytes for profile in runs)
        assert summary.hits == sum(profile.hits for profile in runs)
        assert summary.misses == sum(profile.misses for profile in runs)
        assert summary.duration_seconds.maximum == max(profile.duration_seconds for profile in runs)
        assert summary.allocated_bytes.minimum == min(profile.allocated_bytes for profile in runs)
        assert summary.allocated_bytes.count == summary.duration_seconds.count == len(runs)
        assert (summary.first_seen, summary.last_seen) == (min(times), max(times))
    order = [summary.total_allocated_bytes for summary in summaries]
    assert order == sorted(order, reverse=True)


def ran(operation="load", size=1, error=None):
    return OperationProfile(cache_name="users", operation=operation, allocated_bytes=size, error=error)


def test_operations_beyond_the_limit_are_others_and_lose_nothing():
    """Names and types of errors are bounded, also by a merge; the sums stay whole."""
    fold = folded([(ran(f"op{i}", i, f"Error{i}"), 1.0) for i in range(50)], most=10)
    fold.merge(folded([(ran(f"more{i}", 1), 2.0) for i in range(50)]))
    summaries = fold.summaries("users")
    assert {summary.operation for summary in summaries} == {OTHERS, *(f"op{i}" for i in range(10))}
    assert sum(summary.total_allocated_bytes for summary in summaries) == sum(range(50)) + 50
    others = summaries[0]
    assert (others.operation, others.count, others.failures) == (OTHERS, 90, 40)
    assert len(others.errors) == 17
    assert others.errors[0] == (OTHERS, 24)
    assert Operations.from_dict(fold.to_dict()).to_dict() == fold.to_dict()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ((), [], "operations: expected an object"),
        (("most",), 0, "most: expected a whole number from 1, found 0"),
        (("operations",), None, "operations: expected an object, found None"),
        (("operations",), {str(i): {} for i in range(300)}, "operations: expected at most 257, found 300"),
        (("operations", "load"), 3, "operation 'load': runs: expected an object, found 3"),
        (("operations", "load", "count"), True, "operation 'load': count: expected a whole number"),
        (("operations", "load", "hits"), -1, "hits: expected a whole number from 0, found -1"),
        (("operations", "load", "memory_delta_bytes"), 0.5, "memory_delta_bytes: expected a whole number, found 0.5"),
        (("operations", "load", "errors"), {"E": 9}, "errors: expected at most 1"),
        (("operations", "load", "errors"), {str(i): 1 for i in range(18)}, "errors: expected at most 17 types"),
        (("operations", "load", "errors"), {"E": "x"}, "errors of 'E': expected a whole number"),
        (("operations", "load", "first_seen"), float("nan"), "first_seen: expected seconds"),
        (("operations", "load", "last_seen"), 10**400, "last_seen: expected seconds"),
        (("operations", "load", "duration_seconds"), {}, "operation 'load': relative_error"),
        (("operations", "load", "allocated", "zeros"), -1, "operation 'load': zeros"),
    ],
)
def test_a_damaged_capture_is_refused_by_what_is_wrong(place, value, said):
    """ValueError names the operation and the figure."""
    data = json.loads(json.dumps(folded([(ran(error="OSError"), 1.0)]).to_dict()))
    if not place:
        data = value
    else:
        inner = data
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        Operations.from_dict(data)


async def test_a_coroutine_dropped_elsewhere_ends_its_run(cache):
    """Closed by the collector in another context, an async generator that waits leaves that context alone."""

    @cache.operation()
    async def stream():
        cache.put(1)
        await asyncio.Event().wait()
        yield

    steps = stream()
    asking = steps.asend(None)
    contextvars.copy_context().run(asking.send, None)
    with cache.operation("around") as around:
        with pytest.raises(RuntimeError):
            asking.throw(RuntimeError("dropped"))
        cache.put(10)
    assert (cache.profiles[0].error, cache.profiles[0].allocated_bytes) == ("RuntimeError", 1)
    assert around.allocated_bytes == 10
    assert current.get() is None
