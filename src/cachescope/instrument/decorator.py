"""``@profiled_cache``: a function's results in a profiled cachetools cache, or a class whose instances are profiled.

Here is what may be decorated, and with what; what comes of it is in :mod:`cachescope.instrument.cached_function`,
:mod:`cachescope.instrument.profiled_class` and :mod:`cachescope.instrument.cached_already`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Hashable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from cachescope.core.charging import Weigher
from cachescope.core.errors import ConfigurationError, NotACacheError
from cachescope.core.sites import short_path
from cachescope.instrument.cached_already import profile_cached_function
from cachescope.instrument.cached_function import AsyncCachedFunction, CachedFunction
from cachescope.instrument.decoration import UNSET, Options, shown
from cachescope.instrument.memo import Memo
from cachescope.instrument.profiled_class import profile_class

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_LRU_CACHE = type(functools.lru_cache(len))


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
    target: Any = UNSET,
    /,
    *,
    maxsize: Any = UNSET,
    ttl: Any = UNSET,
    cache: Any = UNSET,
    key: Any = UNSET,
    lock: Any = UNSET,
    typed: Any = UNSET,
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
    options = Options(maxsize, ttl, cache, key, lock, typed, name, operations, weigher, profiler)
    if target is not UNSET:
        return _decorate(target, options, sys._getframe(1).f_lineno)

    def decorator(target: Any) -> Any:
        return _decorate(target, options, sys._getframe(1).f_lineno)

    return decorator


def _decorate(target: Any, options: Options, line: int) -> Any:
    if isinstance(target, type):
        filename = getattr(sys.modules.get(target.__module__), "__file__", None)
        return profile_class(target, options, f"{short_path(filename)}:{line}" if filename else "")
    if isinstance(target, (staticmethod, classmethod)):
        return type(target)(_decorate(target.__func__, options, line))
    if isinstance(target, Memo):
        raise ConfigurationError(f"{shown(target)} is a profiled_cache already; decorate it once")
    _refuse_what_cannot(target)
    if hasattr(target, "cache_key") and hasattr(target, "cache_lock") and hasattr(target, "cache"):
        return profile_cached_function(target, options)
    if options.operations is not None:
        raise ConfigurationError(f"operations={options.operations!r}: is for classes; {shown(target)} is a function")
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__):
        return AsyncCachedFunction(target, options)
    return CachedFunction(target, options)


def _refuse_what_cannot(target: Any) -> None:
    """Say what to do instead.

    Raises:
        NotACacheError: *target* is none that a cache can be put on.
    """
    what = shown(target)
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
