"""``@profiled_cache``: a function's results in a profiled cachetools cache, or a class whose instances are profiled.

**When profiling begins.** Decorating is cheap and starts nothing: a program that only imports gets no thread. A
function's cache is bound to its profiler at the first call, a class's instances as they are made. While the profiler is
shut down the function goes on caching unprofiled, and the next start takes it back; a call doesn't undo a shutdown.

**Functions.** Every call is one lookup. ``cache_info()`` counts since the last ``cache_clear()``; a profile counts
since the function was bound. The lock is held around cache operations and never while a value is computed, so that two
threads that miss one key at a time both compute, as with ``functools.lru_cache``; the first value stays. A value whose
computation began before ``cache_clear()`` is not stored.

**Coroutine functions.** Awaits of one key on one event loop share one computation, which runs in a task of its own;
each waiter counts as a miss. A waiter that is cancelled, or times out, leaves the others their result; when the last
one goes, the computation is cancelled too. An exception reaches all who wait, and nothing is stored. A computation that
awaits its own key is not made to wait for itself. Without a running asyncio loop every await computes.

**Methods.** Each instance has a cache of its own, kept on the instance, so that nothing keeps the instance alive, and
all share the name; ``cache_info()`` and ``cache_clear()`` are about all of them. An instance without ``__dict__`` is
known by a weak reference. One that takes no weak references either, and every instance when ``cache=`` is given, shares
one cache in which ``self`` is part of the key, as with ``lru_cache``; so is the class in a class method's cache.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Hashable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from cachescope.adapters.contract import Adapter
from cachescope.core import current
from cachescope.core.charging import Ledger, SizingBudget, Weigher
from cachescope.core.errors import ConfigurationError, NotACacheError
from cachescope.core.faults import swallow
from cachescope.core.hooks import is_hook, make_hook, unhooked
from cachescope.core.registry import CacheRegistry
from cachescope.core.sites import short_path
from cachescope.core.sizing import Sizer
from cachescope.core.state import ATTRIBUTE, RETIRED, State
from cachescope.instrument.binding import INERT, Admission, Home, admit, home_of, itself, state_on
from cachescope.instrument.naming import Origin
from cachescope.instrument.objects import find_adapter, instrument, uninstrument

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C", bound=type)

_log = logging.getLogger("cachescope")
_guard = threading.RLock()
_HELD = "_cachescope_methods"
"""Where an instance keeps the caches of its methods."""
_LRU_CACHE = type(functools.lru_cache(len))
_ONE_SHOT = (CoroutineType, GeneratorType, AsyncGeneratorType)
_FUNCTION_ATTRIBUTES = frozenset(
    ("__code__", "__defaults__", "__kwdefaults__", "__globals__", "__closure__", "__annotations__")
)
"""What inspect and frameworks ask of a function; given by the wrapped one, so that a coroutine function stays one."""


class _Unset:
    def __repr__(self) -> str:
        return "<default>"


_UNSET: Any = _Unset()


class CacheInfo(NamedTuple):
    """What ``cache_info()`` gives, as ``functools.lru_cache`` does."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class _Options(NamedTuple):
    """The arguments of :func:`profiled_cache`."""

    maxsize: Any
    ttl: Any
    cache: Any
    key: Any
    lock: Any
    typed: Any
    name: str | None
    operations: Mapping[str, str] | None
    weigher: Weigher | None
    profiler: Any

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise if one of *names* was given."""
        for name in names:
            value = getattr(self, name)
            if value is not _UNSET and value is not None:
                raise ConfigurationError(f"{name}={value!r}: {why}")


# What both ways share: whose caches they are


def _process_life() -> tuple[str, bool] | None:
    """Which start of the process's profiler is the newest, and whether it runs; None before the first."""
    profiler = getattr(sys.modules.get("cachescope.profiler"), "_process_profiler", None)
    return None if profiler is None else (profiler.registry.uid, profiler.running)


class _Owner:
    """Finds the profiler that the caches of one decoration go to."""

    __slots__ = ("decorated_in", "profiler")

    def __init__(self, profiler: Any) -> None:
        if profiler is not None and not isinstance(getattr(profiler, "registry", None), CacheRegistry):
            raise ConfigurationError(f"profiler: {profiler!r} is not allowed; expected a CacheMemoryProfiler, or None")
        self.profiler = profiler
        self.decorated_in = _process_life()

    def now(self) -> Any:
        """The profiler, started if it is the process's and has not been shut down since; else None."""
        if self.profiler is not None:
            return self.profiler if self.profiler.registry.open else None
        running = current.running_profiler()
        if running is not None:
            return running
        return current.process_profiler() if _process_life() == self.decorated_in else None


# Functions


class _Slot:
    """One cache of a function, where it is profiled, and what is being computed for it."""

    __slots__ = ("__weakref__", "cache", "epoch", "home", "pending")

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.home = _NOWHERE
        self.epoch = 0
        self.pending: dict[tuple[int, Hashable], _Load] = {}


class _Held:
    """The caches of one instance's methods. Copies and pickles of the instance don't take them along."""

    __slots__ = ("instance", "slots")

    def __init__(self, instance: Any) -> None:
        self.instance = weakref.ref(instance)
        self.slots: dict[Any, _Slot] = {}

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return type(None), ()  # a pickle must load where cachescope isn't installed

    def __deepcopy__(self, memo: object) -> None:
        return None


_NOWHERE = Home()
"""Where a cache is that was not bound yet."""
_GIVEN_UP = Home()
"""Where a cache is that can't be bound; nobody tries again."""
_GIVEN_UP.registry = cast("CacheRegistry", INERT)
_functions: weakref.WeakSet[_Memo] = weakref.WeakSet()


class _Memo:
    """What sync and async functions with a cache have in common."""

    def __init__(self, function: Callable[..., Any], options: _Options) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), function)
        self._function = function
        module = getattr(function, "__module__", None) or type(function).__module__
        qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
        self.__dict__.setdefault("__name__", qualname.rpartition(".")[2])
        self.__dict__.setdefault("__qualname__", qualname)
        self._name = options.name or f"{module}:{qualname}"
        self._explicit_name = options.name is not None
        self._weigher = options.weigher
        self._owner = _Owner(options.profiler)
        self._hits = self._misses = 0
        self._make, self._maxsize, self._ttl = _cache_maker(options)
        self._given_cache = options.cache is not _UNSET
        self._plain_key, self._given_key = _key_functions(options)
        self._key = self._given_key or self._plain_key
        self._typed = options.typed is True
        self._owns_lock = options.lock is _UNSET
        self.cache_lock: Any = threading.RLock() if self._owns_lock else options.lock
        self._guarded: AbstractContextManager[Any] = nullcontext() if self.cache_lock is None else self.cache_lock
        self._per_instance = not self._given_cache and _looks_like_method(function)
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        self._slotted: dict[int, tuple[weakref.ref[Any], _Slot]] = {}
        self._shared: _Slot | None = None if self._per_instance else self._new_slot()
        _functions.add(self)
        _be_ready_for_forks()

    # As a function and a descriptor

    if not TYPE_CHECKING:  # else any attribute would pass

        def __getattr__(self, name: str) -> Any:
            if name in _FUNCTION_ATTRIBUTES:
                return getattr(self._function, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __set_name__(self, owner: type, name: str) -> None:
        self._become_method()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if not self._per_instance and instance is not owner:  # a classmethod, up to 3.12, gives the class for both
            self._become_method()
        return MethodType(cast("Callable[..., Any]", self), instance)

    def _become_method(self) -> None:
        if not self._given_cache and not self._per_instance:
            with _guard:
                self._per_instance = True
                if self._shared is not None and self._shared.home is _NOWHERE:
                    self._shared = None  # never used

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str:
        return str(vars(self)["__qualname__"])

    def __repr__(self) -> str:
        return f"<profiled_cache {self._name!r} of {self._function!r}>"

    # What it offers

    @property
    def cache(self) -> MutableMapping[Any, Any]:
        """The cache itself; for methods, the one of instances that can't have their own."""
        return cast("MutableMapping[Any, Any]", self._shared_slot().cache)

    @property
    def cache_key(self) -> Callable[..., Hashable]:
        """The function that makes keys from arguments; a method's gets ``self`` first, and leaves it out by default."""
        given = self._key
        if self._per_instance and self._given_key is None:

            def without_self(_self: Any, /, *args: Any, **kwargs: Any) -> Hashable:
                return given(*args, **kwargs)

            return without_self
        return given

    def cache_info(self) -> CacheInfo:
        """Hits and misses since the last ``cache_clear()``, ``maxsize``, and the entries held; purges nothing."""
        with self._guarded:
            held = sum(_size_from_the_side(slot.cache) for slot in self._all_slots())
            return CacheInfo(self._hits, self._misses, self._most(), held)

    def cache_clear(self) -> None:
        """Empty the cache, and count hits and misses from 0; a method's is emptied for all instances."""
        with self._guarded:
            for slot in self._all_slots():
                slot.epoch += 1
                slot.pending.clear()
                slot.cache.clear()
            self._hits = self._misses = 0

    def cache_parameters(self) -> dict[str, Any]:
        """``maxsize`` and ``typed``, as lru_cache has them, and ``ttl`` where there is one."""
        parameters = {"maxsize": self._most(), "typed": self._typed}
        return parameters if self._ttl is None else {**parameters, "ttl": self._ttl}

    def _most(self) -> int | None:
        if not self._given_cache:
            return self._maxsize
        most = getattr(self._shared_slot().cache, "maxsize", None)
        return None if most == math.inf else most

    # Which cache, which key

    def _place(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[_Slot, Hashable]:
        """The cache and the key for these arguments; the cache is bound to its profiler, if that runs."""
        key: Hashable
        if self._per_instance and args:
            slot = self._slot_of(args[0])
            if slot is None:
                slot = self._shared_slot()
                key = (args[0], self._key(*args, **kwargs))
            elif self._given_key is not None:
                key = self._given_key(*args, **kwargs)
            else:
                key = self._plain_key(*args[1:], **kwargs)
        else:
            slot = self._shared or self._shared_slot()
            key = self._key(*args, **kwargs)
        if slot.home.registry is None:
            self._bind(slot)
        return slot, key

    def _shared_slot(self) -> _Slot:
        slot = self._shared
        if slot is None:
            with _guard:
                slot = self._shared = self._shared or self._new_slot()
        return slot

    def _slot_of(self, instance: Any) -> _Slot | None:
        """The instance's own cache; None when it can have none."""
        # Not through __dict__: that would make a dict for the instance, and slow its attributes down.
        try:
            held = object.__getattribute__(instance, _HELD)
            if held is not None and held.instance() is instance:
                return cast("_Slot", held.slots[self])
        except (AttributeError, KeyError):
            pass
        known = self._slotted.get(id(instance))
        if known is not None and known[0]() is instance:
            return known[1]
        return self._first_slot_of(instance)

    def _first_slot_of(self, instance: Any) -> _Slot | None:
        with _guard:
            try:
                held = getattr(instance, _HELD, None) if not isinstance(instance, type) else None
                if type(held) is not _Held or held.instance() is not instance:
                    held = _Held(instance)
            except TypeError:
                return None  # it takes no weak reference
            try:
                object.__setattr__(instance, _HELD, held)
            except (AttributeError, TypeError):
                key, slotted = id(instance), self._slotted
                known = slotted.get(key)
                if known is not None and known[0]() is instance:
                    return known[1]
                slot = self._new_slot()
                slotted[key] = (weakref.ref(instance, lambda _: slotted.pop(key, None)), slot)
                return slot
            slot = held.slots.get(self) or self._new_slot()
            held.slots[self] = slot
            return slot

    def _new_slot(self) -> _Slot:
        slot = _Slot(self._make())
        with _guard:
            self._slots.add(slot)
        return slot

    def _all_slots(self) -> list[_Slot]:
        with _guard:
            return list(self._slots)

    # Profiling

    def _bind(self, slot: _Slot) -> None:
        """Give the cache to the profiler that runs now; while none does, go on without. Never raises."""
        try:
            profiler = self._owner.now()
            if profiler is None:
                return
            home = home_of(profiler.registry)
            with _guard:
                if slot.home.registry is None and slot.home is not home:
                    slot.cache = self._profiled(slot, profiler)
                    slot.home = home
        except Exception as error:
            slot.home = _GIVEN_UP
            swallow("profiled_cache", error)
            _log.warning("%s goes on without profiling: %s", self._name, error)

    def _profiled(self, slot: _Slot, profiler: Any) -> Any:
        cache = slot.cache
        state = state_on(cache)
        if state is not None and state.admission is not None and state.admission.by_hand and not self._explicit_name:
            return cache  # the user's own, instrumented under another name
        if slot.home is not _NOWHERE and state is None:
            cache = uninstrument(cache)  # a profiler that was replaced by another one
        cache = instrument(cache, name=self._name, weigher=self._weigher, profiler=profiler)
        state = state_on(cache)
        if state is not None and state.record is not None and state.record.instances_total == 1:
            state.record.where = _line_of(self._function)
        return cache

    def _store(self, slot: _Slot, key: Hashable, value: Any, epoch: int) -> None:
        """Keep a computed value, unless another thread's is there already or the cache was cleared meanwhile."""
        if isinstance(value, _ONE_SHOT):
            _log.warning("%s returned a %s, which can't be used twice: not cached", self._name, type(value).__name__)
            return
        with self._guarded:
            cache = slot.cache
            if slot.epoch != epoch or (self._asks_freely(cache) and key in cache):
                return
            try:
                cache[key] = value
            except ValueError:
                return  # cachetools: the value is too large

    def _asks_freely(self, cache: Any) -> bool:
        """Whether ``in`` is no lookup of this cache: MutableMapping's own calls ``self[key]``."""
        return not self._given_cache or getattr(type(cache), "__contains__", None) is not _mapping_contains


_mapping_contains = MutableMapping.__contains__


class CachedFunction(_Memo, Generic[P, R]):
    """A function whose results are kept in a profiled cache; made by :func:`profiled_cache`."""

    __wrapped__: Callable[P, R]

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        slot = self._shared
        if slot is None or self._per_instance or slot.home.registry is None:
            slot, key = self._place(args, kwargs)
        else:  # the same, with a call less
            key = self._key(*args, **kwargs)
        with self._guarded:
            try:
                value = slot.cache[key]
            except KeyError:
                self._misses += 1
                epoch = slot.epoch
            except TypeError:
                raise _refusal(key) from None
            else:
                self._hits += 1
                return cast("R", value)
        value = self._function(*args, **kwargs)
        self._store(slot, key, value, epoch)
        return cast("R", value)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> CachedMethod[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The function, or a bound method of it."""
        return super().__get__(instance, owner)


class AsyncCachedFunction(_Memo, Generic[P, R]):
    """A coroutine function whose results are kept in a profiled cache; made by :func:`profiled_cache`."""

    __wrapped__: Callable[P, Coroutine[Any, Any, R]]

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        slot, key = self._place(args, kwargs)
        with self._guarded:
            try:
                value = slot.cache[key]
            except KeyError:
                self._misses += 1
                epoch = slot.epoch
            except TypeError:
                raise _refusal(key) from None
            else:
                self._hits += 1
                return cast("R", value)
        loop = _running_loop()
        load = slot.pending.get((id(loop), key)) if loop is not None else None
        if loop is None or (load is not None and load.mark in _computing.get()):
            value = await self._function(*args, **kwargs)
            self._store(slot, key, value, epoch)
            return cast("R", value)
        token = (id(loop), key)
        if load is None:
            mark = _Mark()
            load = _Load(mark, loop.create_task(self._compute(mark, args, kwargs)))
            slot.pending[token] = load
        try:
            value = await load.result()
            if slot.pending.get(token) is load:
                del slot.pending[token]
                self._store(slot, key, value, epoch)
            return cast("R", value)
        finally:
            if not load.wanted and slot.pending.get(token) is load:
                del slot.pending[token]

    async def _compute(self, mark: _Mark, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _computing.set((*(one for one in _computing.get() if one.live), mark))
        try:
            return await self._function(*args, **kwargs)
        finally:
            mark.live = False

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncCachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> CachedMethod[Q, Coroutine[Any, Any, R]]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The function, or a bound method of it."""
        return super().__get__(instance, owner)


class CachedMethod(Protocol[Q, R_co]):
    """What an instance's attribute is when a method has a cache: a plain bound method, with the cache's attributes."""

    __self__: Any
    cache: MutableMapping[Any, Any]
    cache_key: Callable[..., Hashable]
    cache_lock: Any

    def __call__(self, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...
    def cache_info(self) -> CacheInfo:
        """See :meth:`CachedFunction.cache_info`; over all instances."""
    def cache_clear(self) -> None:
        """Empty the caches of all instances."""
    def cache_parameters(self) -> dict[str, Any]:
        """See :meth:`CachedFunction.cache_parameters`."""


class _Mark:
    """Stands for a computation in the context that it runs in; holds nothing of the user's."""

    __slots__ = ("live",)

    def __init__(self) -> None:
        self.live = True


_computing: ContextVar[tuple[_Mark, ...]] = ContextVar("cachescope_computing", default=())
"""What the running code is part of computing: awaiting one of these would be waiting for itself."""


class _Load:
    """One computation that several may wait for."""

    __slots__ = ("mark", "task", "waiters")

    def __init__(self, mark: _Mark, task: asyncio.Task[Any]) -> None:
        self.mark, self.task = mark, task
        self.waiters: set[asyncio.Future[None]] = set()
        task.add_done_callback(self._wake)

    @property
    def wanted(self) -> bool:
        """Whether it goes on for somebody."""
        return bool(self.waiters) and not self.task.done()

    def _wake(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # all who waited may be gone: asyncio must not complain that nobody asked
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def result(self) -> Any:
        """Wait for the value; whoever leaves last takes the computation along."""
        task = self.task
        if not task.done():
            waiter = task.get_loop().create_future()
            self.waiters.add(waiter)
            try:
                await waiter
            except asyncio.CancelledError as error:
                self.waiters.discard(waiter)
                if self.waiters or task.done():
                    raise
                task.cancel(*error.args)
                return await task  # as without us: it may clean up, or even refuse
            except GeneratorExit:
                self.waiters.discard(waiter)
                if not self.waiters:
                    task.cancel()
                raise
            finally:
                self.waiters.discard(waiter)
        return task.result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # another library's loop, or none
        return None


def _refusal(key: Hashable) -> BaseException:
    """The TypeError of an unhashable key, in the words of lru_cache; or the one that is being handled."""
    try:
        hash(key)
    except TypeError as error:
        return error
    return cast("BaseException", sys.exception())


def _cache_maker(options: _Options) -> tuple[Callable[[], Any], int | None, float | None]:
    """A function that makes the cache that the options ask for, ``maxsize`` and ``ttl``.

    Raises:
        ConfigurationError: A value is wrong, or two contradict each other.
    """
    import cachetools

    cache, maxsize, ttl = options.cache, options.maxsize, options.ttl
    if cache is not _UNSET:
        for name in ("maxsize", "ttl"):
            if getattr(options, name) is not _UNSET:
                raise ConfigurationError(
                    f"cache={_shown(cache)} and {name}={getattr(options, name)!r} contradict each other: a cache of "
                    f"your own has its own limits; leave {name} out, or cache"
                )
        if not all(hasattr(type(cache), name) for name in ("__getitem__", "__setitem__", "clear")):
            made = isinstance(cache, type) or callable(cache)
            raise ConfigurationError(
                f"cache: {_shown(cache)} is not allowed; expected a cachetools cache or another mutable mapping"
                f"{', such as what calling it gives' if made else ''}"
            )
        if not isinstance(cache, (cachetools.Cache, dict)) and state_on(cache) is None:
            find_adapter(cache)  # says what it is missing
        return lambda: cache, None, None
    maxsize = 128 if maxsize is _UNSET else maxsize
    if maxsize is not None and (not isinstance(maxsize, int) or isinstance(maxsize, bool) or maxsize < 0):
        raise ConfigurationError(
            f"maxsize: {maxsize!r} is not allowed; expected an int >= 0, or None for no limit "
            "(to decorate without arguments, write @profiled_cache)"
        )
    limit = math.inf if maxsize is None else maxsize
    if ttl is not _UNSET and ttl is not None:
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not 0 < ttl < math.inf:
            raise ConfigurationError(f"ttl: {ttl!r} is not allowed; expected seconds > 0, or None")
        return lambda: cachetools.TTLCache(limit, ttl), maxsize, ttl
    if maxsize is None:
        return lambda: cachetools.Cache(math.inf), None, None
    return lambda: cachetools.LRUCache(maxsize), maxsize, None


def _key_functions(options: _Options) -> tuple[Callable[..., Hashable], Callable[..., Hashable] | None]:
    """What makes keys by default, and the user's own."""
    from cachetools.keys import hashkey, typedkey

    key, typed, lock = options.key, options.typed, options.lock
    if typed is not _UNSET and not isinstance(typed, bool):
        raise ConfigurationError(f"typed: {typed!r} is not allowed; expected True or False")
    if key is not _UNSET and key is not None:
        if typed is True:
            raise ConfigurationError(
                f"key={_shown(key)} and typed=True contradict each other: a key function decides what is told apart; "
                "give key=cachetools.keys.typedkey, or leave key out"
            )
        if not callable(key):
            raise ConfigurationError(f"key: {key!r} is not allowed; expected a function of the call's arguments")
    if lock is not _UNSET and lock is not None and not hasattr(type(lock), "__enter__"):
        made = " (an asyncio lock is not needed: the lock is never held across an await)"
        raise ConfigurationError(
            f"lock: {lock!r} is not allowed; expected a lock such as threading.RLock(), or None for none"
            f"{made if hasattr(type(lock), '__aenter__') else ''}"
        )
    return typedkey if typed is True else hashkey, None if key is _UNSET else key


def _looks_like_method(function: Any) -> bool:
    """Whether a function stands in a class body and has a ``self``; what is set on a class later shows by itself."""
    body = getattr(function, "__qualname__", "").rpartition(".")[0]
    code = getattr(function, "__code__", None)
    inside = bool(body) and not body.endswith("<locals>")
    return inside and code is not None and code.co_argcount > 0 and code.co_varnames[0] == "self"


def _size_from_the_side(cache: Any) -> int:
    """A cache's size in its own unit, without making a TTL cache drop what has expired."""
    import cachetools

    inner = getattr(cache, "__wrapped__", cache)
    if isinstance(inner, cachetools.Cache):
        return cast("int", vars(cachetools.Cache)["currsize"].__get__(inner))
    return dict.__len__(inner) if isinstance(inner, dict) else len(inner)


def _line_of(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{short_path(code.co_filename)}:{code.co_firstlineno}"


@functools.cache
def _be_ready_for_forks() -> None:
    """A lock that another thread held at a fork would never be released in the child."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()
    for function in list(_functions):
        if function._owns_lock:
            function._guarded = function.cache_lock = threading.RLock()
        for slot in list(function._slots):
            slot.pending.clear()  # the parent's loops don't run here


# Classes


_class_hooks: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()
"""The hooks on the methods of decorated classes."""


class _ProfiledClass:
    """Hooks on a class's own methods, and what its instances have in common.

    The class is patched rather than its instances' class exchanged, so that ``type(x)``, pickles and
    ``__init_subclass__`` are as without us. What to patch is known at the first instance, for adapters look at objects;
    a subclass that overrides what is hooked is patched at its first instance.
    """

    def __init__(self, cls: type, options: _Options, where: str) -> None:
        self._cls = weakref.ref(cls)
        self._name = options.name or f"{cls.__module__}:{cls.__qualname__}"
        self._where = where
        self._operations, self._weigher = options.operations, options.weigher
        self._owner = _Owner(options.profiler)
        self._adapters: weakref.WeakKeyDictionary[type, Adapter] = weakref.WeakKeyDictionary()

    def install(self, cls: Any) -> None:
        """Patch what makes instances; the rest follows when there is one."""
        original = cls.__init__
        inherited = "__init__" not in vars(cls)

        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            following = super(cls, self).__init__ if inherited else None
            if following is None:
                original(self, *args, **kwargs)
            elif getattr(following, "__objclass__", None) is not object:
                following(*args, **kwargs)
            elif (args or kwargs) and not any("__new__" in vars(base) for base in type(self).__mro__[:-1]):
                raise TypeError(f"{type(self).__name__}() takes no arguments")  # else __new__ has taken them
            type(self)._cachescope_class.welcome(self)

        try:
            cls._cachescope_class = self
            cls._cachescope_restore = staticmethod(_leave_alone)
            cls.__init__ = functools.update_wrapper(initialise, original)
        except (AttributeError, TypeError) as error:
            raise NotACacheError(f"{_shown(cls)} can't be changed ({error}); subclass it and decorate that") from None

    def welcome(self, obj: Any) -> None:
        """An instance was made: profile it, if the profiler runs.

        Raises:
            NotACacheError: No cache operation was recognised in it, or only a proxy could stand for it.
        """
        state = state_on(obj)
        if state is not None and state.admission is not None and state.admission.by_hand:
            return  # met by a hook of ours while its __init__ ran, or instrumented there
        profiler = self._owner.now()
        if profiler is not None:
            self._admit(obj, profiler)

    def meet(self, obj: Any) -> State:
        """For hooks: the state of an object that was not welcomed, such as an unpickled one. Never raises."""
        try:
            state = state_on(obj)
            if state is not None:
                return state
            profiler = self._owner.now()
            adapter = self._adapters.get(type(obj))
            if profiler is None or (adapter is not None and adapter.entries(obj) is None):
                return INERT  # its __init__ has not come so far
            return self._admit(obj, profiler)
        except Exception as error:
            swallow("meeting a cache", error)
            return INERT

    def _admit(self, obj: Any, profiler: Any) -> State:
        with _guard:
            state = state_on(obj)
            adapter = self._prepared(obj)
            if state is not None:  # auto-patching was faster; it gets its name
                instrument(obj, name=self._name, profiler=profiler)
                return state
            origin = Origin(self._name, self._where)
            return admit(
                obj, Admission(home_of(profiler.registry), adapter, origin, self._weigher, itself, by_hand=True)
            )

    def _prepared(self, obj: Any) -> Adapter:
        """Patch the class of *obj*, once."""
        cls: Any = type(obj)
        adapter = self._adapters.get(cls)
        if adapter is not None:
            return adapter
        adapter = find_adapter(obj, self._operations)
        table = adapter.in_place(obj)
        if table is None:
            raise NotACacheError(
                f"objects of {_shown(cls)} can only be profiled through a proxy, which a class can't give; "
                "call instrument(obj) on each object, and use what it returns"
            )
        table = {**table, "__reduce_ex__": "reduce"}
        if "__copy__" not in table and hasattr(cls, "__copy__"):
            table["__copy__"] = "copy"
        for method, kind in table.items():
            owner = next((c for c in cls.__mro__ if method in vars(c)), None)
            if owner is None or vars(owner)[method] in _class_hooks:
                continue
            # A hook that is there is auto-patching's, which may be undone while ours stays.
            hook = make_hook(kind, unhooked(getattr(cls, method)), self.meet)
            _class_hooks.add(hook)
            setattr(cls, method, hook)
        self._adapters[cls] = adapter
        return adapter


def _leave_alone(obj: Any) -> None:
    """Let the hooks of an uninstrumented instance do nothing."""
    state = State(id(obj), None, None, Ledger(Sizer(), SizingBudget(0.0)))
    state.busy[RETIRED] = True
    object.__setattr__(obj, ATTRIBUTE, state)


def _profile_class(cls: Any, options: _Options, where: str) -> Any:
    options.refuse(
        ("maxsize", "ttl", "cache", "key", "lock", "typed"),
        f"is for functions; {_shown(cls)} is a class, whose instances are caches already",
    )
    if not cls.__flags__ & 1 << 9 or cls.__module__.partition(".")[0] in ("cachetools", "collections"):
        raise NotACacheError(
            f"{_shown(cls)} is a library's class, which others use too; subclass it and decorate that, "
            "or call instrument(obj) on each object, or autopatch()"
        )
    if cls.__dictoffset__ == 0 and not hasattr(cls, ATTRIBUTE):
        raise NotACacheError(
            f"instances of {_shown(cls)} can only be profiled through a proxy: its __slots__ leave no room; add "
            "'__dict__' and '__weakref__' to them, or call instrument(obj) on each object, and use what it returns"
        )
    for name in options.operations or ():
        if not hasattr(cls, name):
            raise ConfigurationError(f"operations: {_shown(cls)} has no method {name!r}")
    _ProfiledClass(cls, options, where).install(cls)
    return cls


# Functions that are cached already


def _profile_cached_function(function: Any, options: _Options) -> Any:
    """Profile the cache of a function that ``cachetools.cached`` has decorated."""
    options.refuse(
        ("maxsize", "ttl", "cache", "key", "lock", "typed", "operations"),
        f"{_shown(function)} has a cache of cachetools already; only name, weigher and profiler apply",
    )
    import cachetools

    cache = function.cache
    state = state_on(cache)
    if state is not None:
        if options.name is not None:
            instrument(cache, name=options.name, profiler=options.profiler)
        return function
    module = getattr(function, "__module__", "?")
    origin = Origin(options.name or f"{module}:{getattr(function, '__qualname__', '?')}", _line_of(function))
    replaceable = type(function).__module__.startswith("cachetools")
    if not isinstance(cache, cachetools.Cache) and not (replaceable and isinstance(cache, dict)):
        raise NotACacheError(
            f"{_shown(function)} keeps its results in {_shown(cache)}, which can't be profiled in place; give @cached "
            "a cachetools cache, such as cachetools.Cache(math.inf), or use @profiled_cache instead of it"
        )
    hooked = _hook_lazily(cache, _Owner(options.profiler), origin, options.weigher)
    if hooked is not cache:
        function.cache = hooked
    return function


def _hook_lazily(cache: Any, owner: _Owner, origin: Origin, weigher: Weigher | None) -> Any:
    """Hook a cache whose first operation binds it to its profiler; returns it, or its proxy."""
    from cachescope.instrument.objects import _subclass
    from cachescope.instrument.proxies import CacheProxy

    adapter = find_adapter(cache)

    def contents(obj: Any) -> Any:
        return getattr(obj, "__wrapped__", obj) if issubclass(type(obj), CacheProxy) else obj

    def meet(obj: Any) -> State:
        try:
            with _guard:
                state = state_on(obj)
                if state is not None:
                    return state
                profiler = owner.now()
                if profiler is None:
                    return INERT
                home = home_of(profiler.registry)
                return admit(obj, Admission(home, adapter, origin, weigher, contents, by_hand=True))
        except Exception as error:
            swallow("meeting a cache", error)
            return INERT

    table = adapter.in_place(cache)
    if table is not None:
        if not is_hook(getattr(type(cache), "__getitem__", None)):
            cache.__class__ = _subclass(type(cache), table, meet)
        return cache
    methods = adapter.proxied(cache) or {}
    body = {method: make_hook(kind, original, meet) for method, (kind, original) in methods.items()}
    return type("CacheProxy", (CacheProxy,), body)(cache)


# The decorator


class _Decorator(Protocol):
    """What ``profiled_cache(...)`` gives: decorates a class, a coroutine function or a function."""

    @overload
    def __call__(self, cls: C, /) -> C: ...  # type: ignore[overload-overlap]  # a class is a Callable too
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is a Callable too
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCachedFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...


@overload
def profiled_cache(  # type: ignore[overload-overlap]  # a class is a Callable too
    target: C,
    /,
    *,
    name: str | None = ...,
    operations: Mapping[str, str] | None = ...,
    weigher: Weigher | None = ...,
    profiler: Any = ...,
) -> C: ...
@overload
def profiled_cache(  # type: ignore[overload-overlap]  # a coroutine function is a Callable too
    target: Callable[P, Coroutine[Any, Any, R]],
    /,
    *,
    maxsize: int | None = ...,
    ttl: float | None = ...,
    cache: MutableMapping[Any, Any] = ...,
    key: Callable[..., Hashable] | None = ...,
    lock: AbstractContextManager[Any] | None = ...,
    typed: bool = ...,
    name: str | None = ...,
    weigher: Weigher | None = ...,
    profiler: Any = ...,
) -> AsyncCachedFunction[P, R]: ...
@overload
def profiled_cache(
    target: Callable[P, R],
    /,
    *,
    maxsize: int | None = ...,
    ttl: float | None = ...,
    cache: MutableMapping[Any, Any] = ...,
    key: Callable[..., Hashable] | None = ...,
    lock: AbstractContextManager[Any] | None = ...,
    typed: bool = ...,
    name: str | None = ...,
    weigher: Weigher | None = ...,
    profiler: Any = ...,
) -> CachedFunction[P, R]: ...
@overload
def profiled_cache(
    *,
    maxsize: int | None = ...,
    ttl: float | None = ...,
    cache: MutableMapping[Any, Any] = ...,
    key: Callable[..., Hashable] | None = ...,
    lock: AbstractContextManager[Any] | None = ...,
    typed: bool = ...,
    name: str | None = ...,
    operations: Mapping[str, str] | None = ...,
    weigher: Weigher | None = ...,
    profiler: Any = ...,
) -> _Decorator: ...
def profiled_cache(
    target: Any = _UNSET,
    /,
    *,
    maxsize: Any = _UNSET,
    ttl: Any = _UNSET,
    cache: Any = _UNSET,
    key: Any = _UNSET,
    lock: Any = _UNSET,
    typed: Any = _UNSET,
    name: str | None = None,
    operations: Mapping[str, str] | None = None,
    weigher: Weigher | None = None,
    profiler: Any = None,
) -> Any:
    """Keep a function's results in a profiled cache, or profile every instance of a cache class.

    Used bare, ``@profiled_cache``, or called, ``@profiled_cache(maxsize=1_000, ttl=60)``. On a function that
    ``cachetools.cached`` has decorated, that cache is profiled and the same function returned.

    Args:
        target: The class, function, coroutine function or method.
        maxsize: Results kept, the least recently used go first; None for no limit. 128 unless given.
        ttl: Seconds that a result may live; None for ever.
        cache: A cachetools cache, dict or other mutable mapping to keep results in, instead of ``maxsize`` and ``ttl``.
        key: Makes the key from the call's arguments, a method's ``self`` included.
        lock: Held around cache operations, never while computing; None for none. A lock of its own unless given.
        typed: Keep results for 3 and 3.0 apart.
        name: What the cache is called in reports; ``module:qualname`` unless given. All instances of a class share it.
        operations: For a class: what its methods mean, such as ``{"fetch": "get", "store": "set", "drop": "delete"}``.
        weigher: ``weigher(key, value)`` gives the bytes of an entry; else they are measured.
        profiler: Whose caches they will be; None means the process's profiler, started at the first call or instance.

    Returns:
        The class itself; for functions, a callable with ``cache_info()``, ``cache_clear()``, ``cache_parameters()``,
        ``cache``, ``cache_key``, ``cache_lock`` and ``__wrapped__``.

    Raises:
        ConfigurationError: An argument has a wrong value, or two contradict each other.
        NotACacheError: The target can't be cached or profiled; the message says what to do instead.
    """
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError(f"name: {name!r} is not allowed; expected a non-empty str, or None")
    if weigher is not None and not callable(weigher):
        raise ConfigurationError(f"weigher: {weigher!r} is not allowed; expected a function of key and value, or None")
    options = _Options(maxsize, ttl, cache, key, lock, typed, name, operations, weigher, profiler)
    if target is not _UNSET:
        return _decorate(target, options, sys._getframe(1).f_lineno)

    def decorator(target: Any) -> Any:
        return _decorate(target, options, sys._getframe(1).f_lineno)

    return decorator


def _decorate(target: Any, options: _Options, line: int) -> Any:
    if isinstance(target, type):
        filename = getattr(sys.modules.get(target.__module__), "__file__", None)
        return _profile_class(target, options, f"{short_path(filename)}:{line}" if filename else "")
    if isinstance(target, (staticmethod, classmethod)):
        return type(target)(_decorate(target.__func__, options, line))
    if isinstance(target, _Memo):
        raise ConfigurationError(f"{_shown(target)} is a profiled_cache already; decorate it once")
    _refuse_what_cannot(target)
    if hasattr(target, "cache_key") and hasattr(target, "cache_lock") and hasattr(target, "cache"):
        return _profile_cached_function(target, options)
    if options.operations is not None:
        raise ConfigurationError(f"operations={options.operations!r}: is for classes; {_shown(target)} is a function")
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__):
        return AsyncCachedFunction(target, options)
    return CachedFunction(target, options)


def _refuse_what_cannot(target: Any) -> None:
    """Say what to do instead.

    Raises:
        NotACacheError: *target* is none that a cache can be put on.
    """
    what = _shown(target)
    if isinstance(target, (property, functools.cached_property)):
        raise NotACacheError(f"profiled_cache can't decorate {what}; put it on the function, below @property")
    library = "functools.lru_cache" if isinstance(target, _LRU_CACHE) else type(target).__module__.partition(".")[0]
    if library in ("functools.lru_cache", "async_lru"):
        raise NotACacheError(
            f"{what} is cached already by {library}, whose caches profiled_cache does not support yet; replace that "
            "decorator by @profiled_cache(maxsize=…, typed=…), which has the same cache_info(), cache_clear() and "
            "cache_parameters()"
        )
    if not callable(target):
        raise NotACacheError(
            f"profiled_cache can't decorate {what}; expected a function or a class. To profile a cache object, call "
            "instrument(cache); to set the size, write profiled_cache(maxsize=…)"
        )
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise NotACacheError(
            f"{what} is a generator function, and what it gives can be read only once; cache a function that returns "
            "a list or tuple instead"
        )


def _shown(obj: Any) -> str:
    """What *obj* is, without asking it."""
    kind = obj if isinstance(obj, type) else type(obj)
    module = getattr(kind, "__module__", "?")
    qualname = vars(obj).get("__qualname__") if isinstance(obj, _Memo) else getattr(obj, "__qualname__", None)
    if isinstance(obj, type):
        return f"class {module}.{kind.__qualname__}".replace("builtins.", "")
    if isinstance(qualname, str):
        return f"{getattr(obj, '__module__', '?')}.{qualname}()"
    return f"an object of type {module}.{kind.__qualname__}".replace("builtins.", "")
