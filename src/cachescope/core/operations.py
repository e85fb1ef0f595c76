"""Named operations of the application: what each run of one did to a cache, however many others overlap with it.

What is open lies in a context variable, so that tasks, and threads that run in a copy of a context, inherit it. A hook
reports to :func:`saw`, which adds to every open run around it. Figures change only by ``slot += local``, which needs no
lock under the GIL (see ``core/state.py``).
"""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
import types
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any, Protocol, TypeVar, cast

import wrapt

from cachescope.core.errors import ConfigurationError
from cachescope.core.faults import swallow
from cachescope.core.results.operation import OperationProfile

F = TypeVar("F", bound=Callable[..., Any])


class Scoped(Protocol):
    """The cache that operations are about; its hooks report to :func:`saw` while at least one scope is open."""

    name: str

    def open_scope(self) -> None:
        """One more run is open. Any thread may call it."""

    def close_scope(self) -> None:
        """One run less is open. Any thread may call it, in the garbage collector too."""


class Running:
    """A place in a context: the run that is open there, and the place around it.

    A place is never put around one that is older, so that going outwards comes to an end.
    """

    __slots__ = ("outer", "run")

    def __init__(self, run: Run, outer: Running | None) -> None:
        self.run = run
        self.outer = outer


current: ContextVar[Running | None] = ContextVar("cachescope_operation", default=None)
"""The innermost place of this context; its run, and those around it, may have ended meanwhile."""


def saw(record_name: str, allocated: int, resized: int, freed: int, allocations: int, hits: int, misses: int) -> None:
    """Add what a cache has just done to every open run around it. For hooks, in the application's thread; never raises.

    Exact when threads share a run: nothing is called between taking a figure and putting it back.

    Bytes: *allocated* of new entries, *resized* of replacements (new minus old), *freed* of entries that left. Times:
    *allocations* of new entries and replacements, *hits* and *misses* of lookups. All are plain ints.
    """
    try:
        place = current.get()
        while place is not None:
            run = place.run
            if run.open and run.cache_name == record_name:
                run.allocated += allocated
                run.resized += resized
                run.freed += freed
                run.allocations += allocations
                run.hits += hits
                run.misses += misses
            place = place.outer
    except Exception as error:
        swallow("operation", error)


class Run:
    """One run of an operation, from :meth:`begin` to :meth:`end`, as a context manager too. None of its methods raises."""

    __slots__ = (
        *("allocated", "resized", "freed", "allocations", "hits", "misses"),
        *("cache_name", "open", "operation", "parent", "profile", "_began", "_memory_bytes"),
    )

    def __init__(self, operation: Operation) -> None:
        self.allocated = self.resized = self.freed = self.allocations = self.hits = self.misses = 0
        self.open = False
        self.operation = operation
        self.cache_name = operation.record.name
        self.parent: str | None = None
        self.profile = OperationProfile(cache_name=self.cache_name, operation=operation.name)
        self._began = 0.0
        self._memory_bytes: tuple[int | None, int | None] = (None, None)

    def begin(self) -> None:
        """Open the run. It counts nothing before :meth:`enter`."""
        try:
            around = _open_from(current.get())
            self.parent = None if around is None else around.run.operation.name
            self._memory_bytes = _memory_bytes()
            self._began = perf_counter()
            self.operation.record.open_scope()
            self.open = True
        except Exception as error:
            swallow("operation", error)

    def enter(self) -> None:
        """Count from now on what happens in this context."""
        current.set(Running(self, _open_from(current.get())))

    def end(self, error: type[BaseException] | None) -> None:
        """Close the run, fill its profile and hand it in. Any thread or task may; a second time does nothing."""
        if not self.open:
            return
        self.open = False
        _safely(self._leave)
        _safely(self._fill, perf_counter(), error)
        _safely(self.operation.record.close_scope)
        _safely(self.operation.finished, self.profile)

    def _leave(self) -> None:
        # No token: it could not be used in another task, and would put back what was open then, not what is open now.
        place = current.get()
        if place is not None and place.run is self:
            current.set(_open_from(place.outer))

    def _fill(self, ended: float, error: type[BaseException] | None) -> None:
        # In one go, so that another thread's report is in all of these or in none.
        allocated, resized, freed = self.allocated, self.resized, self.freed
        allocations, hits, misses = self.allocations, self.hits, self.misses
        rss, traced = map(_delta, self._memory_bytes, _memory_bytes())
        figures = {
            "duration_seconds": max(ended - self._began, 0.0),
            "allocated_bytes": allocated,
            "resized_bytes": resized,
            "freed_bytes": freed,
            "memory_delta_bytes": allocated + resized - freed,
            "allocations": allocations,
            "hits": hits,
            "misses": misses,
            "rss_delta_bytes": rss,
            "traced_delta_bytes": traced,
            "error": None if error is None else error.__name__,
            "parent": self.parent,
        }
        for name, value in figures.items():  # in place, for the user has it since the block began
            object.__setattr__(self.profile, name, value)

    def __enter__(self) -> Run:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.end(kind)


class Operation:
    """A named operation on a cache: ``with`` and ``async with`` it, or decorate with it, as often and overlapping as you like.

    Each block or call is a run of its own, with a profile of its own that is filled when it ends. Also counted is what
    happens in tasks that were made inside, and in threads that run in a copy of the context (``asyncio.to_thread``), while
    the run is open; other threads aren't. A decorated generator counts what its own code does, not its consumer.

    Where a block is left in another context than it was entered in, as in fixtures that are async generators, its last
    run that is still open ends. At most *MOST_OPEN* blocks are open at a time; the oldest is ended beyond that.

    Args:
        record: The cache.
        name: What the operation is called; cut at 200 characters.
        finished: Told each profile when it is filled: in the application's thread, or in the garbage collector, so that it
            must not wait for a lock.

    Raises:
        ConfigurationError: *name* is no text, or an empty one.
    """

    MOST_OPEN = 16_384
    __slots__ = ("_entered", "finished", "name", "record")

    def __init__(self, record: Scoped, name: str, finished: Callable[[OperationProfile], None]) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"name: {reprlib.repr(name)} is not allowed; expected a non-empty str")
        self.record = record
        self.name = name[:200]
        self.finished = finished
        self._entered: dict[Run, bool] = {}
        _memory_bytes()  # loads psutil now, and not inside the first block

    def __enter__(self) -> OperationProfile:
        entered = self._entered
        if len(entered) >= self.MOST_OPEN:
            for oldest in list(entered)[:1]:
                self._end(oldest, None)
        run = Run(self)
        run.begin()
        run.enter()
        entered[run] = True
        return run.profile

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        place = current.get()
        while place is not None and not self._end(place.run, kind):
            place = place.outer
        if place is None:
            for run in list(self._entered)[-1:]:
                self._end(run, kind)

    def _end(self, run: Run, error: type[BaseException] | None) -> bool:
        """End *run* if it is that of a block which is open; whether it was."""
        if not self._entered.pop(run, False):
            return False
        run.end(error)
        return True

    async def __aenter__(self) -> OperationProfile:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Make each call of *function* a run: of a coroutine until it is done, of a generator from first to last step.

        Raises:
            ConfigurationError: *function* is a class, or nothing that can be called.
        """
        if isinstance(function, (staticmethod, classmethod)):
            return cast("F", type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            raise ConfigurationError(f"{reprlib.repr(function)} can't be an operation; decorate a function")
        if type(function) is types.FunctionType:  # a proxy of one says so too, but has more to keep
            return cast("F", functools.wraps(function)(self._profiled(function)))
        return cast("F", _ProfiledCallable(function, lambda f, _, args, kwargs: self._profiled(f)(*args, **kwargs)))

    def _profiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(function):
            return self._async_generator(function)
        if inspect.isgeneratorfunction(function):
            generator = self._generator(function)
            flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
            return types.coroutine(generator) if flags & inspect.CO_ITERABLE_COROUTINE else generator

        def call(*args: Any, **kwargs: Any) -> Any:
            with Run(self) as run:
                run.enter()
                return function(*args, **kwargs)

        async def call_and_wait(*args: Any, **kwargs: Any) -> Any:
            with Run(self) as run:
                run.enter()
                return await function(*args, **kwargs)

        waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        return call_and_wait if waits else call

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def steps(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with Run(self) as run:
                turn, inner = _Turn(run), function(*args, **kwargs)
                box: list[Any] = [None]  # hands values on, so that this frame keeps none alive
                resume = inner.send
                while True:
                    try:
                        with turn:
                            box.append(resume(box.pop()))
                    except StopIteration as stop:
                        return stop.value
                    try:
                        box.append((yield box.pop()))
                        resume = inner.send
                    except BaseException as error:
                        box.append(error)
                        resume = inner.throw

        return steps

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with Run(self) as run:
                turn, inner = _Turn(run), function(*args, **kwargs)
                box: list[Any] = [None]
                resume = inner.asend
                while True:
                    try:
                        with turn:
                            box.append(await resume(box.pop()))
                    except StopAsyncIteration:
                        return
                    try:
                        box.append((yield box.pop()))
                        resume = inner.asend
                    except BaseException as error:
                        box.append(error)
                        resume = inner.athrow

        return steps


class _Turn:
    """Puts a generator's run into the context while the generator's own code runs, and only then.

    Between, it keeps what that code has opened itself, and puts it around whoever asks for the next value.
    """

    __slots__ = ("_own", "_run", "_shared", "_token")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._own: list[Run] = []
        self._shared = False
        self._token: Token[Running | None]

    def __enter__(self) -> None:
        place = _open_from(current.get())
        self._shared = _holds(place, self._run)  # asked by a task that the generator's own code has made
        for run in () if self._shared else (self._run, *self._own):
            place = Running(run, place)
        self._token = current.set(place)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        own: list[Run] = []
        place = current.get()
        while place is not None and place.run is not self._run:
            own.insert(0, place.run)
            place = place.outer
        if not self._shared:
            self._own = own if place is not None else []
        try:
            current.reset(self._token)
        except ValueError:  # dropped in the middle of an await, and closed in another context
            pass


class _ProfiledCallable(wrapt.FunctionWrapper[..., Any]):
    """A decorated callable that is no plain function: keeps its attributes (``cache_info``) and how it binds."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)


def _open_from(place: Running | None) -> Running | None:
    """The innermost place from *place* outwards whose run is open.

    Takes those that ended out of the chain: where each job starts the next one, it would grow for ever.
    """
    first = inner = _skip_ended(place)
    while inner is not None:
        outer = _skip_ended(inner.outer)
        inner.outer = outer
        inner = outer
    return first


def _skip_ended(place: Running | None) -> Running | None:
    while place is not None and not place.run.open:
        place = place.outer
    return place


def _holds(place: Running | None, run: Run) -> bool:
    while place is not None and place.run is not run:
        place = place.outer
    return place is not None


def _safely(action: Callable[..., object], *args: object) -> None:
    try:
        action(*args)
    except Exception as error:
        swallow("operation", error)


# The process's memory

_own_process: Any = None


def _memory_bytes() -> tuple[int | None, int | None]:
    """What the process has resident, and what tracemalloc traces; None for what can't be read."""
    global _own_process
    import tracemalloc  # it loads pickle, which most programs need never

    traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else None
    try:
        if _own_process is None or _own_process.pid != os.getpid():  # a forked child needs one of its own
            import psutil

            _own_process = psutil.Process()
        return int(_own_process.memory_info().rss), traced
    except Exception:  # denied, or there is no /proc
        return None, traced


def _delta(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else now - before
