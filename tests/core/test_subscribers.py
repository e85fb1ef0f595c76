"""Subscribers: told in order on their own thread or loop, and nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from cachetools import LRUCache
from hypothesis import given
from hypothesis import strategies as st

from cachescope.core import faults
from cachescope.core import subscribers as module
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import MemoryEventType
from cachescope.core.results import MemoryAllocation
from cachescope.core.subscribers import MOST_SUBSCRIPTIONS, THREAD_NAME, Subscribers
from cachescope.core.subscription import MOST_WAITING

PRESSURE, EVICTION = MemoryEventType.PRESSURE, MemoryEventType.EVICTION
PATIENCE_SECONDS = 30  # how long a test waits for what must come; only a failing one waits so long
TOO_LONG_SECONDS = 10 * PATIENCE_SECONDS


def start_thread(body: Callable[[], None], name: str) -> None:
    threading.Thread(target=body, name=name, daemon=True).start()


def event(size_bytes: int = 1, cache_name: str = "", kind: MemoryEventType = PRESSURE) -> MemoryAllocation:
    return MemoryAllocation(
        cache_name=cache_name, key="*", size_bytes=size_bytes, timestamp=0.0, event_type=kind, thread_id=0
    )


def until(holds: Callable[[], object]) -> None:
    """Wait until it is so; fail if it never is."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up, "it never came about"
        time.sleep(0.001)


async def until_async(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not holds():  # what is waited for comes about in other threads as well
        assert time.monotonic() < give_up, "it never came about"
        await asyncio.sleep(0.001)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


@contextlib.contextmanager
def subscribing() -> Iterator[Subscribers]:
    subscribers = Subscribers(start_thread)
    try:
        yield subscribers
    finally:
        subscribers.close()


@pytest.fixture
def subscribers() -> Iterator[Subscribers]:
    assert threads() == []
    with subscribing() as out:
        yield out
    until(lambda: not threads())


# Who is told of what


def test_a_callback_is_told_in_order_on_a_thread_of_its_own(subscribers: Subscribers) -> None:
    """Not on the thread that publishes, which in use is the profiler's."""
    told: list[tuple[int, str]] = []
    subscription = subscribers.subscribe(lambda e: told.append((e.size_bytes, threading.current_thread().name)))
    for n in range(100):
        subscribers.publish([event(2 * n), event(2 * n + 1)])
    until(lambda: len(told) == 200)
    assert told == [(n, THREAD_NAME) for n in range(200)]
    assert (subscription.calls, subscription.failures, subscription.dropped) == (200, 0, 0)


def test_by_default_only_pressure_is_told(subscribers: Subscribers) -> None:
    """Nothing else is worth making, and the profiler can ask."""
    assert not subscribers.wants(PRESSURE)
    told: list[MemoryAllocation] = []
    subscription = subscribers.subscribe(told.append)
    assert [kind for kind in MemoryEventType if subscribers.wants(kind)] == [PRESSURE]
    subscribers.publish([event(1, kind=EVICTION), event(2)])
    until(lambda: subscription.idle)
    assert [e.size_bytes for e in told] == [2]
    every = subscribers.subscribe(print, kinds=None)
    assert all(map(subscribers.wants, MemoryEventType))
    every.cancel()
    assert not subscribers.wants(EVICTION)
    subscription.cancel()
    assert not subscribers.wants(PRESSURE)


names = st.sampled_from(["", "users", "users.a", "shop", "[x]", "a*b"])
patterns = st.sampled_from(["", "*", "users", "users.*", "[[]x]", "?hop", "a[*]b", "[!s]*", "USERS", "a|b"])


def fits(name: str, pattern: str) -> bool:
    """Only the star and the question mark are wildcards: key patterns and names are full of brackets."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


@given(
    st.lists(st.builds(event, st.just(1), names, st.sampled_from(MemoryEventType)), max_size=30),
    st.none() | st.lists(st.sampled_from(MemoryEventType), min_size=1),
    st.none() | st.lists(patterns, min_size=1, max_size=3),
)
def test_filters_choose_what_a_naive_filter_chooses(events: list[MemoryAllocation], kinds: Any, caches: Any) -> None:
    """An event is told if its kind is among the kinds, and its cache fits any of the patterns."""
    with subscribing() as subscribers:
        told: list[MemoryAllocation] = []
        subscription = subscribers.subscribe(told.append, kinds=kinds, caches=caches)
        subscribers.publish(events)
        until(lambda: subscription.idle)
    assert told == [
        e
        for e in events
        if (kinds is None or e.event_type in kinds)
        and (caches is None or any(fits(e.cache_name, pattern) for pattern in caches))
    ]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("callback", "options", "named"),
    [
        (None, {}, "callback: None is not allowed; expected a function"),
        (Unshowable(), {}, "callback: <Unshowable instance"),
        (
            print,
            {"kinds": ["pressure"]},
            r"kinds: 'pressure' is not allowed; expected some of: .*MemoryEventType\.PRES",
        ),
        (print, {"kinds": [[]]}, r"kinds: \[\] is not allowed"),
        (print, {"kinds": PRESSURE}, r"kinds: <MemoryEventType\.PRESSURE.*in a list, such as kinds=\[MemoryEventType"),
        (print, {"kinds": ()}, r"kinds: \(\) is not allowed; expected at least one.*None for all"),
        (print, {"caches": "users"}, r"caches: 'users' is not allowed; .*caches=\['users'"),
        (print, {"caches": [1]}, "caches: 1 is not allowed; expected names"),
        (print, {"caches": []}, r"caches: \[\] is not allowed"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_to_write(
    subscribers: Subscribers, callback: Any, options: dict[str, Any], named: str
) -> None:
    """The message names the argument, the value, what was expected; and nothing was subscribed."""
    with pytest.raises(ConfigurationError, match=named):
        subscribers.subscribe(callback, **options)
    assert not subscribers.wants(PRESSURE)
    assert threads() == []


def test_subscriptions_without_end_are_refused(subscribers: Subscribers) -> None:
    """One per request and never cancelled: memory stays bounded, and the message says what to do."""
    held = [subscribers.subscribe(print) for _ in range(MOST_SUBSCRIPTIONS)]
    with pytest.raises(ConfigurationError, match=r"more than 256 subscriptions; cancel\(\)"):
        subscribers.subscribe(print)
    held[0].cancel()
    assert subscribers.subscribe(print).active


# Callbacks that misbehave


def test_a_callback_that_blocks_holds_up_neither_publisher_nor_caller(subscribers: Subscribers) -> None:
    """10,000 events are published while it blocks: the newest 1,024 wait, the rest is dropped and counted."""
    entered, release = threading.Event(), threading.Event()
    told: list[int] = []

    def block(e: MemoryAllocation) -> None:
        entered.set()
        assert release.wait(PATIENCE_SECONDS)
        told.append(e.size_bytes)

    subscription = subscribers.subscribe(block)
    subscribers.publish([event(-1)])
    assert entered.wait(PATIENCE_SECONDS)
    for n in range(100):
        subscribers.publish([event(100 * n + i) for i in range(100)])
    release.set()  # not before: a publish() that waited would have hung
    until(lambda: subscription.idle)
    assert told == [-1, *range(10_000 - MOST_WAITING, 10_000)]
    assert (subscription.calls, subscription.dropped) == (1 + MOST_WAITING, 10_000 - MOST_WAITING)


def test_a_flood_in_one_batch_is_bounded_too(subscribers: Subscribers) -> None:
    """What is told and what is dropped add up to what was published."""
    subscription = subscribers.subscribe(lambda e: None, kinds=None)
    subscribers.publish([event(n) for n in range(10_000)])
    until(lambda: subscription.idle)
    assert subscription.dropped >= 10_000 - MOST_WAITING
    assert subscription.calls + subscription.dropped == 10_000


def test_publishers_in_many_threads_lose_nothing_uncounted(subscribers: Subscribers) -> None:
    """Calls and drops add up, and each thread's own order is kept."""
    told: list[tuple[int, int]] = []
    subscription = subscribers.subscribe(lambda e: told.append((int(e.cache_name), e.size_bytes)))

    def publish(number: int) -> None:
        for n in range(2_000):
            subscribers.publish([event(n, str(number))])

    workers = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    until(lambda: subscription.idle)
    assert len(told) == subscription.calls
    assert subscription.calls + subscription.dropped == 8_000
    assert all(
        [n for who, n in told if who == number] == sorted(n for who, n in told if who == number) for number in range(4)
    )


def test_a_callback_that_raises_stays_subscribed_and_is_logged_once(
    subscribers: Subscribers, caplog: pytest.LogCaptureFixture
) -> None:
    """Every failure is counted, sys.exit() too; the others are told all the same; the thread survives."""
    before = faults.counts.get("subscriber: ZeroDivisionError", 0)
    told: list[int] = []

    def fail(e: MemoryAllocation) -> None:
        if e.size_bytes == 3:
            sys.exit("enough")
        raise ZeroDivisionError

    with caplog.at_level(logging.INFO, "cachescope"):
        failing = subscribers.subscribe(fail)
        subscribers.subscribe(lambda e: told.append(e.size_bytes))
        subscribers.publish([event(n) for n in range(5)])
        until(lambda: failing.idle and len(told) == 5)
    assert (failing.calls, failing.failures, failing.active) == (5, 5, True)
    assert faults.counts["subscriber: ZeroDivisionError"] == before + 4
    (record,) = caplog.records
    assert "fail failed, and stays subscribed" in record.getMessage()
    assert record.exc_info is not None


def test_a_log_handler_that_raises_changes_nothing(subscribers: Subscribers) -> None:
    """A fault in the user's logging is swallowed as well."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError

    logger, handler = logging.getLogger("cachescope"), Broken()
    logger.addHandler(handler)
    try:
        subscription = subscribers.subscribe(lambda e: 1 / 0)
        subscribers.publish([event(), event()])
        until(lambda: subscription.idle)
    finally:
        logger.removeHandler(handler)
    assert (subscription.calls, subscription.failures) == (2, 2)


def test_a_lambda_that_returns_a_coroutine_is_a_failure_not_a_silence(subscribers: Subscribers) -> None:
    """Nobody would await it: counted, and closed without a warning about it."""

    async def told(e: MemoryAllocation) -> None: ...

    subscription = subscribers.subscribe(lambda e: told(e))
    subscribers.publish([event()])
    until(lambda: subscription.idle)
    assert subscription.failures == 1
    gc.collect()  # a coroutine never awaited would warn here, and warnings are errors


def test_a_slow_callback_takes_turns_with_the_others(subscribers: Subscribers) -> None:
    """One event each: a full queue does not hold back another subscriber's first event."""
    order: list[str] = []
    gate = threading.Event()
    subscribers.subscribe(lambda e: gate.wait(PATIENCE_SECONDS), caches=["gate"])
    first = subscribers.subscribe(lambda e: order.append("first"), caches=["x"])
    second = subscribers.subscribe(lambda e: order.append("second"), caches=["x"])
    subscribers.publish([event(1, "gate")])
    subscribers.publish([event(n, "x") for n in range(3)])
    gate.set()
    until(lambda: first.idle and second.idle)
    assert order == ["first", "second"] * 3


# Callbacks that call back


def test_a_callback_may_cancel_itself(subscribers: Subscribers) -> None:
    """It is not called again, and what waited for it is counted as dropped."""
    told: list[int] = []
    published = threading.Event()

    def once(e: MemoryAllocation) -> None:
        told.append(e.size_bytes)
        published.wait(PATIENCE_SECONDS)
        subscription.cancel()
        subscription.cancel()

    subscription = subscribers.subscribe(once)
    subscribers.publish([event(n) for n in range(5)])
    published.set()
    until(lambda: not threads())  # the last one that needs the thread is gone
    subscribers.publish([event(9)])
    assert (told, subscription.calls, subscription.dropped, subscription.active) == ([0], 1, 4, False)


def test_a_callback_may_subscribe_another_cancel_a_third_and_publish(subscribers: Subscribers) -> None:
    """No lock is held while it runs, so nothing of this can deadlock; others may subscribe meanwhile, too."""
    told: list[str] = []
    third = subscribers.subscribe(lambda e: told.append("third"), caches=["late"])

    def busy(e: MemoryAllocation) -> None:
        subscribers.subscribe(lambda e: told.append("another"), caches=["late"])
        third.cancel()
        other = threading.Thread(target=lambda: subscribers.subscribe(print).cancel())
        other.start()
        other.join(PATIENCE_SECONDS)
        assert not other.is_alive()
        subscribers.publish([event(1, "late")])

    subscription = subscribers.subscribe(busy, caches=["early"])
    subscribers.publish([event(1, "early")])
    until(lambda: told)
    until(lambda: subscription.idle)
    assert (told, subscription.failures) == (["another"], 0)


def test_a_callback_may_shrink_a_cache(subscribers: Subscribers) -> None:
    """What pressure events are for."""
    cache: LRUCache[int, bytes] = LRUCache(100)
    cache.update((n, b"x") for n in range(100))

    def shrink(e: MemoryAllocation) -> None:
        while len(cache) > 10:
            cache.popitem()

    subscription = subscribers.subscribe(shrink)
    subscribers.publish([event()])
    until(lambda: subscription.idle)
    assert (sorted(cache), subscription.failures) == (list(range(90, 100)), 0)


def test_a_callback_may_close_them_all(subscribers: Subscribers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown from inside a callback does not wait for itself."""
    monkeypatch.setattr(module, "_CLOSING_SECONDS", TOO_LONG_SECONDS)
    closed = threading.Event()

    def close(e: MemoryAllocation) -> None:
        subscribers.close()
        closed.set()

    subscription = subscribers.subscribe(close)
    subscribers.publish([event(), event()])
    assert closed.wait(PATIENCE_SECONDS)
    until(lambda: not threads())
    assert (subscription.calls, subscription.dropped) == (1, 1)


def test_a_subscription_ends_with_its_block_and_lives_without_its_handle(subscribers: Subscribers) -> None:
    """A bound method and its object are kept alive while subscribed, as a lambda is; and not afterwards."""

    class Owner:
        def told(self, e: MemoryAllocation) -> None:
            seen.append(e.size_bytes)

    seen: list[int] = []
    owner = Owner()
    alive = weakref.ref(owner)
    with subscribers.subscribe(owner.told) as subscription:
        del owner
        gc.collect()
        subscribers.publish([event(7)])
        until(lambda: seen)
    subscribers.publish([event(8)])
    assert (seen, subscription.active) == ([7], False)
    until(lambda: not threads())
    assert "told: ended, 1 calls" in repr(subscription)
    del subscription
    gc.collect()
    assert alive() is None


# The thread


def test_the_thread_runs_only_while_a_plain_callback_is_subscribed(subscribers: Subscribers) -> None:
    """Started with the first, shared by the next, gone with the last; and again."""
    for _ in range(3):
        first, second = subscribers.subscribe(print), subscribers.subscribe(print)
        assert len(threads()) == 1
        first.cancel()
        assert len(threads()) == 1
        second.cancel()
        until(lambda: not threads())


def test_when_no_thread_can_be_had_the_next_event_tries_again() -> None:
    """Under pressure a thread may be refused: subscribing works, what was queued is told later."""
    refused: list[str] = []

    def start(body: Callable[[], None], name: str) -> None:
        if len(refused) < 2:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        start_thread(body, name)

    subscribers, told = Subscribers(start), []
    first = subscribers.subscribe(lambda e: told.append(e.size_bytes))
    subscribers.publish([event(1)])
    assert (refused, told) == ([THREAD_NAME] * 2, [])
    second = subscribers.subscribe(lambda e: None)
    until(lambda: first.idle)
    assert told == [1]
    second.cancel()
    subscribers.close()
    never = Subscribers(lambda body, name: 1 / 0)  # type: ignore[arg-type]  # it never returns
    waiting = never.subscribe(print)
    never.publish([event()])
    never.close()
    assert (waiting.calls, waiting.dropped) == (0, 1)


def test_close_waits_for_what_is_queued_then_nothing_is_told(
    subscribers: Subscribers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last events of a program reach their subscriber; the thread is gone when close() returns."""
    monkeypatch.setattr(module, "_CLOSING_SECONDS", TOO_LONG_SECONDS)
    told: list[int] = []

    def tell(e: MemoryAllocation) -> None:
        time.sleep(0.0005)
        told.append(e.size_bytes)

    subscribers.subscribe(tell)
    subscribers.publish([event(n) for n in range(200)])
    subscribers.close()
    assert told == list(range(200))
    assert threads() == []
    subscribers.publish([event(999)])
    assert len(told) == 200
    again = subscribers.subscribe(lambda e: told.append(e.size_bytes))
    subscribers.publish([event(1)])
    until(lambda: again.idle)
    assert told[-1] == 1


def test_close_gives_up_on_a_callback_that_never_returns(subscribers: Subscribers) -> None:
    """It returns although the callback does not; what waited is counted as dropped."""
    entered, release = threading.Event(), threading.Event()

    def block(e: MemoryAllocation) -> None:
        entered.set()
        release.wait(PATIENCE_SECONDS)

    subscription = subscribers.subscribe(block)
    subscribers.publish([event(), event(), event()])
    assert entered.wait(PATIENCE_SECONDS)
    subscribers.close()
    assert (subscription.calls, subscription.dropped) == (1, 2)
    release.set()


def test_forgotten_subscribers_are_collected_and_their_thread_ends() -> None:
    """The thread refers to no profiler; a callback that refers to its own one makes a cycle, and that is all."""
    subscribers = Subscribers(start_thread)
    alive, told = weakref.ref(subscribers), []
    subscription = subscribers.subscribe(
        functools.partial(lambda owner, e: told.append(owner is not None), subscribers)
    )
    subscribers.publish([event()])
    until(lambda: told)
    del subscribers, subscription
    until(lambda: (gc.collect() and False) or alive() is None)
    until(lambda: not threads())
    assert told == [True]


# Coroutine functions


async def test_a_coroutine_function_runs_on_the_loop_of_its_subscription(subscribers: Subscribers) -> None:
    """On the loop's own thread, in order, one at a time, and without a thread of ours."""
    loop, told, running = asyncio.get_running_loop(), [], 0

    async def tell(e: MemoryAllocation) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        told.append(e.size_bytes)
        running -= 1

    subscription = subscribers.subscribe(tell)
    assert threads() == []
    for n in range(50):
        await asyncio.to_thread(subscribers.publish, [event(2 * n), event(2 * n + 1)])
    await until_async(lambda: subscription.idle)
    assert told == list(range(100))
    assert (subscription.calls, subscription.failures) == (100, 0)


class CallableObject:
    async def __call__(self, e: MemoryAllocation) -> None:
        assert asyncio.get_running_loop().is_running()

    async def method(self, e: MemoryAllocation) -> None:
        assert asyncio.get_running_loop().is_running()


@pytest.mark.parametrize(
    "callback",
    [
        CallableObject(),
        CallableObject().method,
        functools.partial(CallableObject()),
        functools.partial(CallableObject.method, CallableObject()),
    ],
    ids=["object", "method", "partial of an object", "partial of a function"],
)
async def test_whatever_is_a_coroutine_function_is_known_as_one(subscribers: Subscribers, callback: Any) -> None:
    """An object whose ``__call__`` is one, a bound method, a partial."""
    subscription = subscribers.subscribe(callback)
    subscribers.publish([event()])
    await until_async(lambda: subscription.idle)
    assert (subscription.calls, subscription.failures) == (1, 0)


def test_a_coroutine_function_without_a_loop_is_refused(subscribers: Subscribers) -> None:
    """The message says where to subscribe it."""
    with pytest.raises(ConfigurationError, match="no event loop runs here; subscribe it inside a coroutine"):
        subscribers.subscribe(CallableObject())


async def test_a_flood_neither_fills_the_loop_nor_holds_it(subscribers: Subscribers) -> None:
    """10,000 events and a callback that never waits: other tasks get their turn between any two calls."""
    turns: list[int] = []

    async def tell(e: MemoryAllocation) -> None: ...

    subscription = subscribers.subscribe(tell)
    for n in range(10_000):
        subscribers.publish([event(n)])
    assert len(asyncio.all_tasks()) == 1  # nothing of ours but one callback in the loop's queue
    while not subscription.idle:
        await asyncio.sleep(0)
        turns.append(subscription.calls)
    assert subscription.calls == MOST_WAITING
    assert subscription.dropped == 10_000 - MOST_WAITING
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 1


async def test_a_coroutine_that_raises_is_counted_and_leaves_no_trace_in_the_loop(
    subscribers: Subscribers, caplog: pytest.LogCaptureFixture
) -> None:
    """A CancelledError of its own is a failure like others; the loop's exception handler hears of nothing."""
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))

    async def fail(e: MemoryAllocation) -> None:
        if e.size_bytes == 1:
            raise asyncio.CancelledError
        raise ZeroDivisionError

    with caplog.at_level(logging.INFO, "cachescope"):
        subscription = subscribers.subscribe(fail)
        subscribers.publish([event(n) for n in range(4)])
        await until_async(lambda: subscription.idle)
    assert (subscription.calls, subscription.failures, subscription.active) == (4, 4, True)
    assert len(caplog.records) == 1
    gc.collect()
    await asyncio.sleep(0)
    assert heard == []


async def test_a_coroutine_may_cancel_itself_and_a_cancelled_task_ends_no_subscription(
    subscribers: Subscribers,
) -> None:
    """Somebody cancels all tasks of the loop: the next event begins anew."""
    told: list[int] = []

    async def tell(e: MemoryAllocation) -> None:
        told.append(e.size_bytes)
        if e.size_bytes == 1:
            await asyncio.sleep(PATIENCE_SECONDS)
        if e.size_bytes == 2:
            subscription.cancel()

    subscription = subscribers.subscribe(tell)
    subscribers.publish([event(1)])
    await until_async(lambda: told == [1])
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await until_async(lambda: subscription.idle)
    subscribers.publish([event(2), event(3)])
    await until_async(lambda: subscription.idle)
    assert (told, subscription.failures, subscription.dropped) == ([1, 2], 0, 1)
    assert not subscribers.wants(PRESSURE)


async def test_a_task_cancelled_before_its_first_step_does_not_wedge_the_subscription(subscribers: Subscribers) -> None:
    """Its body never ran, so only the task's end can say that nobody works on the queue."""
    told: list[int] = []

    async def tell(e: MemoryAllocation) -> None:
        told.append(e.size_bytes)

    subscription = subscribers.subscribe(tell)
    subscribers.publish([event(1)])
    loop = asyncio.get_running_loop()
    cancelled = loop.create_future()

    def cancel() -> None:  # queued behind the start of our task, and before its first step
        assert subscription.task is not None
        cancelled.set_result(subscription.task.cancel())

    loop.call_soon(cancel)
    assert await cancelled
    await until_async(lambda: subscription.idle)
    assert told == []
    subscribers.publish([event(2)])
    await until_async(lambda: subscription.idle)
    assert told == [1, 2]


async def test_a_task_factory_that_raises_is_a_fault_of_nobody(subscribers: Subscribers) -> None:
    """Swallowed and counted, and tried again with the next event."""
    loop, told = asyncio.get_running_loop(), []

    async def tell(e: MemoryAllocation) -> None:
        told.append(e.size_bytes)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError

    subscription = subscribers.subscribe(tell)
    loop.set_task_factory(refuse)
    subscribers.publish([event(1)])
    await until_async(lambda: subscription.idle)
    loop.set_task_factory(None)
    subscribers.publish([event(2)])
    await until_async(lambda: subscription.idle)
    assert told == [1, 2]
    assert faults.counts["subscriber's task: OSError"] >= 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_an_eager_loop_tells_the_same(subscribers: Subscribers) -> None:
    """A task that begins before create_task() returns, and may be over by then."""
    loop, told = asyncio.get_running_loop(), []
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]  # since 3.12

    async def tell(e: MemoryAllocation) -> None:
        told.append(e.size_bytes)

    subscription = subscribers.subscribe(tell)
    for n in range(100):
        await asyncio.to_thread(subscribers.publish, [event(n)])
    await until_async(lambda: subscription.idle)
    assert told == list(range(100))


def test_a_closed_loop_ends_the_subscription(subscribers: Subscribers, caplog: pytest.LogCaptureFixture) -> None:
    """The next event finds it closed: said in the log, no error, and no more events are made for it."""

    async def tell(e: MemoryAllocation) -> None: ...

    async def main() -> Any:
        return subscribers.subscribe(tell)

    subscription = asyncio.run(main())
    assert subscription.active
    with caplog.at_level(logging.INFO, "cachescope"):
        subscribers.publish([event()])
    assert not subscription.active
    assert not subscribers.wants(PRESSURE)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_loop_that_closes_with_work_in_hand_ends_the_subscription_too(subscribers: Subscribers) -> None:
    """asyncio.run() cancels the task in the middle of a call; that is no failure of the callback."""
    entered = threading.Event()

    async def tell(e: MemoryAllocation) -> None:
        entered.set()
        await asyncio.sleep(PATIENCE_SECONDS)

    async def main() -> Any:
        subscription = subscribers.subscribe(tell)
        subscribers.publish([event(), event()])
        await until_async(entered.is_set)
        return subscription

    subscription = asyncio.run(main())
    subscribers.publish([event()])
    assert (subscription.active, subscription.failures, subscription.calls) == (False, 0, 1)


def test_loops_that_come_and_go_while_events_are_published_never_disturb_the_publisher(
    subscribers: Subscribers,
) -> None:
    """A loop may close between any two steps of a publish()."""
    before = dict(faults.counts)
    over = threading.Event()

    def publish() -> None:
        while not over.is_set():
            subscribers.publish([event(), event()])

    async def tell(e: MemoryAllocation) -> None: ...

    async def main() -> None:
        subscription = subscribers.subscribe(tell)
        await until_async(lambda: subscription.calls)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(100):
            asyncio.run(main())
    finally:
        over.set()
        publisher.join()
    subscribers.publish([event()])
    assert not subscribers.wants(PRESSURE)
    ours = [what for what in faults.counts if what.startswith(("publish", "subscriber"))]
    assert [what for what in ours if faults.counts[what] != before.get(what)] == []


async def test_close_waits_for_a_loop_in_another_thread(
    subscribers: Subscribers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is queued is still told when the shutdown runs beside the loop."""
    monkeypatch.setattr(module, "_CLOSING_SECONDS", TOO_LONG_SECONDS)
    told: list[int] = []

    async def tell(e: MemoryAllocation) -> None:
        await asyncio.sleep(0)
        told.append(e.size_bytes)

    subscribers.subscribe(tell)
    subscribers.publish([event(n) for n in range(100)])
    await asyncio.to_thread(subscribers.close)
    assert told == list(range(100))


def test_close_does_not_wait_for_the_loop_that_it_holds_up(
    subscribers: Subscribers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the loop, what is queued could not run meanwhile: it is dropped and counted."""
    monkeypatch.setattr(module, "_CLOSING_SECONDS", TOO_LONG_SECONDS)

    async def tell(e: MemoryAllocation) -> None: ...

    async def main() -> None:
        subscription = subscribers.subscribe(tell)
        subscribers.publish([event(n) for n in range(5)])
        subscribers.close()
        await until_async(lambda: subscription.idle)
        assert (subscription.calls, subscription.dropped) == (0, 5)

    running = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    running.start()
    running.join(PATIENCE_SECONDS)
    assert not running.is_alive()


# Fork


FORKING = """
import asyncio, os, sys, threading, time
from cachescope.core.events import MemoryEventType
from cachescope.core.results import MemoryAllocation
from cachescope.core.subscribers import Subscribers, THREAD_NAME

def start_thread(body, name):
    threading.Thread(target=body, name=name, daemon=True).start()

def event(n):
    return MemoryAllocation(cache_name="", key="*", size_bytes=n, timestamp=0.0,
                            event_type=MemoryEventType.PRESSURE, thread_id=0)

def until(holds):
    give_up = time.monotonic() + 30
    while not holds():
        if time.monotonic() > give_up:
            print("it never came about", flush=True)
            os._exit(3)
        time.sleep(0.001)

def wait_for(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

subscribers = Subscribers(start_thread)
os.register_at_fork(after_in_child=subscribers.after_fork)
"""


def run_forking(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


@needs_fork
def test_a_forked_child_tells_its_own_events_on_its_own_thread() -> None:
    """Even when forked while a callback runs, events wait and a lock is held: nothing inherited is told, nothing hangs."""
    out = run_forking(
        """
        entered, release, told = threading.Event(), threading.Event(), []
        def tell(e):
            entered.set()
            if e.size_bytes == 0:
                release.wait(30)
            told.append(e.size_bytes)
        subscription = subscribers.subscribe(tell)
        subscribers.publish([event(n) for n in range(5)])
        entered.wait(30)
        subscription._lock.acquire(); subscribers._lock.acquire()
        def fork():
            pid = os.fork()
            if pid == 0:
                threads = threading.active_count()
                counts = subscription.calls, subscription.dropped
                subscribers.publish([event(7), event(8)])
                until(lambda: subscription.idle)
                print(threads, counts, told, subscription.calls, flush=True)
                subscribers.close()
                os._exit(0)
            print(wait_for(pid), flush=True)
        forking = threading.Thread(target=fork)
        forking.start(); forking.join()
        subscription._lock.release(); subscribers._lock.release()
        release.set()
        until(lambda: subscription.idle)
        print(told, flush=True)
        """
    )
    assert out.splitlines() == ["1 (0, 0) [7, 8] 2", "0", "[0, 1, 2, 3, 4]"]


@needs_fork
def test_a_callback_that_forks_leaves_a_child_that_ends() -> None:
    """The child's only thread is ours, inside the callback: it returns from it and is over, the parent goes on."""
    out = run_forking(
        """
        told = []
        def tell(e):
            told.append(e.size_bytes)
            if e.size_bytes == 0:
                pid = os.fork()
                if pid:
                    print(wait_for(pid), flush=True)
        subscription = subscribers.subscribe(tell)
        subscribers.publish([event(0), event(1)])
        until(lambda: subscription.idle)
        print(told, flush=True)
        """
    )
    assert out.splitlines() == ["0", "[0, 1]"]


@needs_fork
def test_in_a_forked_child_the_subscriptions_of_a_loop_end() -> None:
    """The parent's loop hears nothing from the child, and goes on."""
    out = run_forking(
        """
        told = []
        async def tell(e):
            told.append(e.size_bytes)
        async def main():
            subscription = subscribers.subscribe(tell)
            pid = os.fork()
            if pid == 0:
                print(subscription.active, subscribers.wants(MemoryEventType.PRESSURE), flush=True)
                subscribers.publish([event(7)])
                os._exit(0)
            print(wait_for(pid), subscription.active, flush=True)
            subscribers.publish([event(1)])
            while not subscription.idle:
                await asyncio.sleep(0.001)
            print(told, flush=True)
        asyncio.run(main())
        """
    )
    assert out.splitlines() == ["False False", "0 True", "[1]"]


@needs_fork
def test_a_program_ends_although_a_callback_blocks() -> None:
    """The thread is a daemon: nobody's exit waits for a subscriber."""
    out = run_forking(
        """
        entered = threading.Event()
        def tell(e):
            entered.set()
            time.sleep(3600)
        subscribers.subscribe(tell)
        subscribers.publish([event(0)])
        entered.wait(30)
        print("over", flush=True)
        """
    )
    assert out == "over\n"
