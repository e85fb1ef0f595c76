"""Subscribers: who is told of which memory events, without ever holding up the one who tells.

The profiler's background thread publishes; that only puts events into bounded queues. Plain callbacks run on a thread of
their own, one after another; coroutine functions run as a task of the event loop on which they were subscribed. So a
callback that blocks delays other subscribers at most, never the profiler, and nobody inside a cache operation. No lock is
held while a callback runs: it may subscribe, cancel, publish, ask the profiler, or shrink a cache.

Threads are owned by ``core/lifecycle.py``; this is what it must offer, raising ``RuntimeError`` when no thread can be had::

    def start_thread(body: Callable[[], None], name: str) -> None:
        threading.Thread(target=body, name=name, daemon=True).start()
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import reprlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any

from cachescope.core.config_values import name_matcher
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import MemoryEventType
from cachescope.core.faults import swallow
from cachescope.core.results import MemoryAllocation
from cachescope.core.subscription import Callback, Subscription, begin_task, call_next

THREAD_NAME = "cachescope-subscribers"
MOST_SUBSCRIPTIONS = 256
_CLOSING_SECONDS = 2.0
_LOOK_SECONDS = 0.002

StartThread = Callable[[Callable[[], None], str], None]
"""Runs its first argument on a new daemon thread, which is named by the second."""


class Dispatcher:
    """Calls plain callbacks on a thread, in turn: one event of each that has some.

    It refers to nothing but the subscriptions that have work, so that a forgotten profiler is not kept.
    """

    def __init__(self) -> None:
        self.started = False
        self.stopped = False
        self.thread: threading.Thread | None = None
        self._ready: SimpleQueue[Subscription | None] = SimpleQueue()  # put() never blocks, and is re-entrant

    def begin(self, subscription: Subscription) -> None:
        """Work on a subscription's queue until it is empty."""
        self._ready.put(subscription)

    def stop(self) -> None:
        """End after the call under way."""
        self.stopped = True
        self._ready.put(None)

    def run(self) -> None:
        """The body of the thread."""
        self.thread = threading.current_thread()
        while not self.stopped and (subscription := self._ready.get()) is not None:
            if call_next(subscription):
                self._ready.put(subscription)
            del subscription  # hold nothing while waiting

    def is_here(self) -> bool:
        """Whether the caller is inside one of its callbacks."""
        return self.thread is threading.current_thread()


class Subscribers:
    """Who is told what.

    Memory: at most 256 subscriptions with at most 1,024 waiting events each.

    Args:
        start_thread: Starts a daemon thread; see the module's text.
    """

    def __init__(self, start_thread: StartThread) -> None:
        self._start_thread = start_thread
        self._lock = threading.RLock()
        self._all: tuple[Subscription, ...] = ()  # replaced, never changed: readers need no lock
        self._kinds: frozenset[MemoryEventType] = frozenset()
        self._dispatcher: Dispatcher | None = None

    def subscribe(
        self,
        callback: Callback,
        *,
        kinds: Iterable[MemoryEventType] | None = (MemoryEventType.PRESSURE,),
        caches: Iterable[str] | None = None,
    ) -> Subscription:
        """Have *callback* called with each event of these kinds.

        Args:
            callback: A function runs on a thread of its own. A coroutine function runs on the event loop that runs
                here and now, one event after another; the subscription ends with that loop, and in a forked child.
            kinds: The kinds of event; None for all.
            caches: Names, or shell-style patterns; None for all, and for pressure on what is not a cache (the process,
                its container, the machine), whose name is ``""``.

        Raises:
            ConfigurationError: An argument has a value that is not allowed, a coroutine function was given where no
                loop runs, or there are too many subscriptions.
        """
        if not callable(callback):
            raise ConfigurationError(
                f"callback: {_shown(callback)} is not allowed; expected a function or a coroutine function of one event"
            )
        wanted, fits_name = _checked_kinds(kinds), _checked_names(caches)
        loop = _loop_for(callback) if _is_coroutine_function(callback) else None
        subscription = Subscription(self._leave, callback, wanted, fits_name, loop)
        with self._lock:
            if len(self._all) >= MOST_SUBSCRIPTIONS:
                raise ConfigurationError(
                    f"callback: {_shown(callback)} would be one of more than {MOST_SUBSCRIPTIONS} subscriptions; "
                    "cancel() those that are no longer needed"
                )
            if loop is None and self._dispatcher is None:
                self._dispatcher = Dispatcher()  # first: publish() takes no lock
            self._set((*self._all, subscription))
        self._ensure_thread()
        return subscription

    def wants(self, kind: MemoryEventType) -> bool:
        """Whether anybody asked for events of this kind, so that they are worth making."""
        return kind in self._kinds

    def publish(self, events: Sequence[MemoryAllocation]) -> None:
        """Hand *events* over to those who asked for them. Never blocks, never raises."""
        for subscription in self._all:
            try:
                wanted = subscription.wanted(events)
                if not wanted:
                    continue
                if subscription.loop is not None:
                    _hand_to_loop(subscription, subscription.loop, wanted)
                elif subscription.put(wanted):
                    self._hand_to_thread(subscription)
            except Exception as error:
                swallow("publish", error)

    def close(self) -> None:
        """End all subscriptions; waits at most 2 seconds for what is queued.

        What could only run on the calling thread is not waited for: events for its event loop or, inside a callback,
        for the thread of callbacks. These are dropped, as is what remains after the time.
        """
        give_up = time.monotonic() + _CLOSING_SECONDS
        with self._lock:
            ending, dispatcher, self._dispatcher = self._all, self._dispatcher, None
            self._set(())
        waited_for = [subscription for subscription in ending if _can_drain(subscription, dispatcher)]
        while time.monotonic() < give_up and not all(subscription.idle for subscription in waited_for):
            time.sleep(_LOOK_SECONDS)
        for subscription in ending:
            subscription.end()
        if dispatcher is None:
            return
        dispatcher.stop()
        while dispatcher.started and dispatcher.thread is None and time.monotonic() < give_up:
            time.sleep(_LOOK_SECONDS)
        if dispatcher.thread is not None and not dispatcher.is_here():
            dispatcher.thread.join(max(0.0, give_up - time.monotonic()))

    def after_fork(self) -> None:
        """In a forked child: nothing waits, and the thread is started by the first event.

        Subscriptions of an event loop end here: its selector is shared with the parent, whose loop we would wake.
        """
        self._lock = threading.RLock()
        inherited, dispatcher, self._dispatcher = self._all, self._dispatcher, None
        for subscription in inherited:
            subscription.after_fork()
            if subscription.loop is not None:
                subscription.end()
        if dispatcher is not None:
            dispatcher.stopped = True  # when it was a callback that forked, it goes on here as this very thread
            self._dispatcher = Dispatcher()
        self._set(tuple(subscription for subscription in inherited if subscription.loop is None))

    def __del__(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop()

    def _set(self, subscriptions: tuple[Subscription, ...]) -> None:
        self._all = subscriptions
        self._kinds = frozenset(kind for subscription in subscriptions for kind in subscription.kinds)

    def _leave(self, leaving: Subscription) -> None:
        with self._lock:
            self._set(tuple(subscription for subscription in self._all if subscription is not leaving))
            if self._dispatcher is not None and all(subscription.loop is not None for subscription in self._all):
                self._dispatcher.stop()
                self._dispatcher = None

    def _hand_to_thread(self, subscription: Subscription) -> None:
        dispatcher = self._dispatcher
        if dispatcher is None:  # closed since
            subscription.let_go(subscription.turn)
            return
        dispatcher.begin(subscription)
        self._ensure_thread()  # after a fork, and when no thread could be had before

    def _ensure_thread(self) -> None:
        with self._lock:
            dispatcher = self._dispatcher
            if dispatcher is None or dispatcher.started:
                return
            dispatcher.started = True
        try:
            self._start_thread(dispatcher.run, THREAD_NAME)
        except Exception as error:  # too many threads, or the interpreter ends; the next event tries again
            dispatcher.started = False
            swallow("subscribers' thread", error)


def _hand_to_loop(
    subscription: Subscription, loop: asyncio.AbstractEventLoop, events: Sequence[MemoryAllocation]
) -> None:
    try:
        if not loop.is_closed():
            if subscription.put(events):
                loop.call_soon_threadsafe(begin_task, subscription, loop)
            return
    except RuntimeError:  # closed since
        if not loop.is_closed():
            subscription.let_go(subscription.turn)
            raise
    subscription.cancel()
    subscription.say(logging.INFO, "subscriber %s ended with its event loop")


def _can_drain(subscription: Subscription, dispatcher: Dispatcher | None) -> bool:
    """Whether what waits for a callback can get to it while the calling thread waits."""
    loop = subscription.loop
    if loop is None:
        return dispatcher is not None and dispatcher.started and not dispatcher.is_here()
    return loop.is_running() and loop is not _loop_here()


# Arguments


def _is_coroutine_function(callback: Any) -> bool:
    while isinstance(callback, functools.partial):
        callback = callback.func
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__)


def _loop_here() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _loop_for(callback: Callback) -> asyncio.AbstractEventLoop:
    loop = _loop_here()
    if loop is None:
        raise ConfigurationError(
            f"callback: {_shown(callback)} is a coroutine function, and no event loop runs here; "
            "subscribe it inside a coroutine, or give a plain function"
        )
    return loop


def _checked_kinds(kinds: Iterable[MemoryEventType] | None) -> frozenset[MemoryEventType]:
    if kinds is None:
        return frozenset(MemoryEventType)
    given = _items("kinds", kinds, "kinds=[MemoryEventType.PRESSURE]")
    for kind in given:
        if not isinstance(kind, MemoryEventType):
            known = ", ".join(f"MemoryEventType.{name}" for name in MemoryEventType.__members__)
            raise ConfigurationError(f"kinds: {_shown(kind)} is not allowed; expected some of: {known}")
    return frozenset(given)


def _checked_names(names: Iterable[str] | None) -> Callable[[str], object] | None:
    if names is None:
        return None
    given = _items("caches", names, "caches=['users', 'shop.*']")
    for name in given:
        if not isinstance(name, str):
            raise ConfigurationError(f"caches: {_shown(name)} is not allowed; expected names of caches, or patterns")
    return name_matcher(given)


def _items(argument: str, given: object, example: str) -> list[Any]:
    items = [] if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) else list(given)
    if not items:
        raise ConfigurationError(
            f"{argument}: {_shown(given)} is not allowed; expected at least one in a list, such as {example}, "
            "or None for all"
        )
    return items


_short = reprlib.Repr()
_short.maxother = _short.maxstring = 200


def _shown(value: object) -> str:
    return _short.repr(value)  # also of a value whose own repr() raises
