"""One subscription: a callback, the events that wait for it, and how it is called.

Whoever puts the first event into an idle queue sets somebody to work on it (a thread, or a task of an event loop), who
works until the queue is empty. So no two calls of one callback overlap, and their order is that of the events.
No lock is held while a callback runs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from cachescope.core.events import MemoryEventType
from cachescope.core.faults import swallow
from cachescope.core.results import MemoryAllocation

MOST_WAITING = 1_024
"""Events that wait for one callback; beyond that the oldest is dropped."""

Callback = Callable[[MemoryAllocation], object]
"""A function or coroutine function of one event; what it returns is ignored."""

_log = logging.getLogger("cachescope")


class Subscription:
    """A callback that is told of events; as a context manager, until the end of the block.

    It lives until it is cancelled, whether or not this object is kept, and keeps the callback alive: a lambda and a bound
    method alike, the latter with its object.

    Attributes:
        calls: How often the callback was called.
        failures: How many of these calls raised.
        dropped: Events it asked for that never reached it: it was too slow, or was cancelled before.
    """

    __slots__ = (
        "_busy",
        "_ended",
        "_fits_name",
        "_leave",
        "_lock",
        "_queue",
        "callback",
        "calls",
        "dropped",
        "failures",
        "kinds",
        "loop",
        "task",
        "turn",
    )
    _busy: bool
    _queue: deque[MemoryAllocation]

    def __init__(
        self,
        leave: Callable[[Subscription], None],
        callback: Callback,
        kinds: frozenset[MemoryEventType],
        fits_name: Callable[[str], object] | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._leave = leave
        self.callback = callback
        self.kinds = kinds
        self._fits_name = fits_name
        self.loop = loop
        self.task: asyncio.Task[None] | None = None  # a loop itself keeps its tasks only weakly
        self.turn = 0
        self._ended = False
        self.after_fork()

    def cancel(self) -> None:
        """End the subscription, from any thread and in the callback too; a second time does nothing.

        What waits is dropped. A call under way on another thread goes on to its end.
        """
        self._leave(self)
        self.end()

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __repr__(self) -> str:
        state = "active" if self.active else "ended"
        return (
            f"<Subscription of {_name_of(self.callback)}: {state}, {self.calls} calls, "
            f"{self.failures} failures, {self.dropped} dropped>"
        )

    # Its queue: for core/subscribers.py

    def wanted(self, events: Iterable[MemoryAllocation]) -> list[MemoryAllocation]:
        """Those of *events* that it asked for."""
        kinds, fits = self.kinds, self._fits_name
        return [event for event in events if event.event_type in kinds and (fits is None or fits(event.cache_name))]

    def put(self, events: Sequence[MemoryAllocation]) -> bool:
        """Queue *events*; True if nobody works on the queue, so that the caller must set somebody to it."""
        with self._lock:
            if self._ended:
                return False
            self.dropped += max(0, len(self._queue) + len(events) - MOST_WAITING)
            self._queue.extend(events)
            if self._busy:
                return False
            self._busy = True
            self.turn += 1
            return True

    def take(self) -> MemoryAllocation | None:
        """The next event; None when there is none, and then the work on the queue is over."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._busy = False
            return None

    def let_go(self, turn: int) -> None:
        """The work begun as *turn* broke off, unless it was over and another has begun since."""
        with self._lock:
            if self.turn == turn:
                self._busy = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._busy

    def end(self) -> None:
        """Take nothing in from now on, and drop what waits."""
        with self._lock:
            self._ended = True
            self.dropped += len(self._queue)
            self._queue.clear()

    def after_fork(self) -> None:
        """Begin with an empty queue, counts of 0, and a lock that nobody holds."""
        self._lock = threading.RLock()  # re-entrant: the garbage collector may run a cancel() inside
        self._queue = deque(maxlen=MOST_WAITING)
        self._busy = False
        self.calls = self.failures = self.dropped = 0

    def failed(self, error: BaseException) -> None:
        """Count a call that raised; the first one is logged."""
        self.failures += 1
        swallow("subscriber", error)
        if self.failures == 1:
            self.say(logging.WARNING, "subscriber %s failed, and stays subscribed; further failures are counted", error)

    def say(self, level: int, text: str, error: BaseException | None = None) -> None:
        """Log *text*, which has a place for the callback's name."""
        try:
            _log.log(level, text, _name_of(self.callback), exc_info=error)
        except Exception as fault:  # a log handler of the user's
            swallow("log", fault)


def call_next(subscription: Subscription) -> bool:
    """Call a plain callback with its next event; False if there is none. Never raises."""
    event = subscription.take()
    if event is None:
        return False
    subscription.calls += 1
    try:
        result = subscription.callback(event)
        if inspect.iscoroutine(result):  # a lambda around a coroutine function: nobody would ever run it
            result.close()
            raise TypeError("the callback returned a coroutine; subscribe the coroutine function itself")
    except BaseException as error:  # sys.exit() too: the thread is ours
        subscription.failed(error)
    return True


def begin_task(subscription: Subscription, loop: asyncio.AbstractEventLoop) -> None:
    """Work on the queue of a coroutine function, as a task. Called on the loop's thread; never raises."""
    turn = subscription.turn
    work = _await_all(subscription)

    def over(task: asyncio.Task[None]) -> None:
        subscription.let_go(turn)
        if subscription.task is task:
            subscription.task = None

    try:
        subscription.task = task = loop.create_task(work)
        task.add_done_callback(over)
    except Exception as error:  # a task factory of the user's
        work.close()
        subscription.let_go(turn)
        swallow("subscriber's task", error)


async def _await_all(subscription: Subscription) -> None:
    task = asyncio.current_task()
    while (event := subscription.take()) is not None:
        subscription.calls += 1
        try:
            await subscription.callback(event)  # type: ignore[misc]  # a coroutine function, checked at subscribe()
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling():
                raise
            subscription.failed(error)
        except Exception as error:
            subscription.failed(error)
        await asyncio.sleep(0)  # a callback that never waits must not hold the loop for a thousand events


def _name_of(callback: object) -> str:
    name = getattr(callback, "__qualname__", None)
    return name if isinstance(name, str) else type(callback).__qualname__
