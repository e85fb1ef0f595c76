"""A function with a profiled cache: which cache and which key a call has, where the cache is profiled, what is kept.

**Functions.** Every call is one lookup. ``cache_info()`` counts since the last ``cache_clear()``; a profile counts
since the function was bound. The lock is held around cache operations and never while a value is computed, so that two
threads that miss one key at a time both compute, as with ``functools.lru_cache``; the first value stays. A value whose
computation began before ``cache_clear()`` is not stored.

**Methods.** Each instance has a cache of its own, kept on the instance, so that nothing keeps the instance alive, and
all share the name; ``cache_info()`` and ``cache_clear()`` are about all of them. An instance without ``__dict__`` is
known by a weak reference. One that takes no weak references either, and every instance when ``cache=`` is given, shares
one cache in which ``self`` is part of the key, as with ``lru_cache``; so is the class in a class method's cache.

**Profiling.** A cache is bound to its profiler at the first call. While the profiler is shut down the function goes on
caching unprofiled, and the next start takes it back.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Hashable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from cachescope.core.closeup import load_took
from cachescope.core.faults import swallow
from cachescope.core.registry import CacheRegistry
from cachescope.instrument import decoration
from cachescope.instrument.binding import INERT, Home, home_of, state_on
from cachescope.instrument.decoration import UNSET, Options, Owner, line_of
from cachescope.instrument.memo_options import cache_maker, key_functions
from cachescope.instrument.objects import instrument, uninstrument
from cachescope.instrument.shared_load import Load

_log = logging.getLogger("cachescope")
_HELD = "_cachescope_methods"
"""Where an instance keeps the caches of its methods."""
_ONE_SHOT = (CoroutineType, GeneratorType, AsyncGeneratorType)
_FUNCTION_ATTRIBUTES = frozenset(
    ("__code__", "__defaults__", "__kwdefaults__", "__globals__", "__closure__", "__annotations__")
)
"""What inspect and frameworks ask of a function; given by the wrapped one, so that a coroutine function stays one."""


class CacheInfo(NamedTuple):
    """What ``cache_info()`` gives, as ``functools.lru_cache`` does."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class _Slot:
    """One cache of a function, where it is profiled, and what is being computed for it."""

    __slots__ = ("__weakref__", "cache", "epoch", "home", "pending")

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.home = _NOWHERE
        self.epoch = 0
        self.pending: dict[tuple[int, Hashable], Load] = {}

    def loading(self, key: Hashable) -> Loading:
        """What times the load of a key."""
        return Loading(self, key)


class Loading:
    """Times one load: a context manager around it. Never raises."""

    __slots__ = ("_began", "_key", "_slot")

    def __init__(self, slot: _Slot, key: Hashable) -> None:
        self._slot, self._key = slot, key
        self._began = 0

    def __enter__(self) -> None:
        self._began = perf_counter_ns()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        took_ns = perf_counter_ns() - self._began
        try:
            state = state_on(self._slot.cache)
            if state is not None and state.record is not None:
                load_took(state, self._key, took_ns, kind is not None)
        except Exception as fault:
            swallow("load", fault)


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
_functions: weakref.WeakSet[Memo] = weakref.WeakSet()


class Memo:
    """What sync and async functions with a cache have in common."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), function)
        self._function = function
        module = getattr(function, "__module__", None) or type(function).__module__
        qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
        self.__dict__.setdefault("__name__", qualname.rpartition(".")[2])
        self.__dict__.setdefault("__qualname__", qualname)
        self._name = options.name or f"{module}:{qualname}"
        self._explicit_name = options.name is not None
        self._weigher = options.weigher
        self._owner = Owner(options.profiler)
        self._hits = self._misses = 0
        self._make, self._maxsize, self._ttl = cache_maker(options)
        self._given_cache = options.cache is not UNSET
        self._plain_key, self._given_key = key_functions(options)
        self._key = self._given_key or self._plain_key
        self._typed = options.typed is True
        self._owns_lock = options.lock is UNSET
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
            with decoration.guard:
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
            with decoration.guard:
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
        with decoration.guard:
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
        with decoration.guard:
            self._slots.add(slot)
        return slot

    def _all_slots(self) -> list[_Slot]:
        with decoration.guard:
            return list(self._slots)

    # Profiling

    def _bind(self, slot: _Slot) -> None:
        """Give the cache to the profiler that runs now; while none does, go on without. Never raises."""
        try:
            profiler = self._owner.now()
            if profiler is None:
                return
            home = home_of(profiler.registry)
            with decoration.guard:
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
            state.record.where = line_of(self._function)
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


@functools.cache
def _be_ready_for_forks() -> None:
    """A lock that another thread held at a fork would never be released in the child."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    decoration.renew_guard()
    for function in list(_functions):
        if function._owns_lock:
            function._guarded = function.cache_lock = threading.RLock()
        for slot in list(function._slots):
            slot.pending.clear()  # the parent's loops don't run here
