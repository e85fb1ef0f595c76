"""What :func:`profiled_cache` makes of a function and of a coroutine function, and what a method of either looks like.

Awaits of one key on one event loop share one computation; each waiter counts as a miss. Without a running asyncio loop
every await computes. What fails is not stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Hashable, MutableMapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from cachescope.instrument.memo import CacheInfo, Loading, Memo
from cachescope.instrument.shared_load import Load, Mark, computing, running_loop

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class CachedFunction(Memo, Generic[P, R]):
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
        with slot.loading(key):
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


class AsyncCachedFunction(Memo, Generic[P, R]):
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
        loop = running_loop()
        load = slot.pending.get((id(loop), key)) if loop is not None else None
        if loop is None or (load is not None and load.mark in computing.get()):
            with slot.loading(key):
                value = await self._function(*args, **kwargs)
            self._store(slot, key, value, epoch)
            return cast("R", value)
        token = (id(loop), key)
        if load is None:
            mark = Mark()
            load = Load(mark, loop.create_task(self._compute(mark, slot.loading(key), args, kwargs)))
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

    async def _compute(self, mark: Mark, load: Loading, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        computing.set((*(one for one in computing.get() if one.live), mark))
        try:
            with load:
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


def _refusal(key: Hashable) -> BaseException:
    """The TypeError of an unhashable key, in the words of lru_cache; or the one that is being handled."""
    try:
        hash(key)
    except TypeError as error:
        return error
    return cast("BaseException", sys.exception())
