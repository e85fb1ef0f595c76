"""What the options of a function's cache mean: the cache that is made, and the keys; wrong ones are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

from cachescope.core.errors import ConfigurationError
from cachescope.instrument.binding import state_on
from cachescope.instrument.decoration import UNSET, Options, shown
from cachescope.instrument.objects import find_adapter


def cache_maker(options: Options) -> tuple[Callable[[], Any], int | None, float | None]:
    """A function that makes the cache that the options ask for, ``maxsize`` and ``ttl``.

    Raises:
        ConfigurationError: A value is wrong, or two contradict each other.
    """
    import cachetools

    cache, maxsize, ttl = options.cache, options.maxsize, options.ttl
    if cache is not UNSET:
        for name in ("maxsize", "ttl"):
            if getattr(options, name) is not UNSET:
                raise ConfigurationError(
                    f"cache={shown(cache)} and {name}={getattr(options, name)!r} contradict each other: a cache of "
                    f"your own has its own limits; leave {name} out, or cache"
                )
        if not all(hasattr(type(cache), name) for name in ("__getitem__", "__setitem__", "clear")):
            made = isinstance(cache, type) or callable(cache)
            raise ConfigurationError(
                f"cache: {shown(cache)} is not allowed; expected a cachetools cache or another mutable mapping"
                f"{', such as what calling it gives' if made else ''}"
            )
        if not isinstance(cache, (cachetools.Cache, dict)) and state_on(cache) is None:
            find_adapter(cache)  # says what it is missing
        return lambda: cache, None, None
    maxsize = 128 if maxsize is UNSET else maxsize
    if maxsize is not None and (not isinstance(maxsize, int) or isinstance(maxsize, bool) or maxsize < 0):
        raise ConfigurationError(
            f"maxsize: {maxsize!r} is not allowed; expected an int >= 0, or None for no limit "
            "(to decorate without arguments, write @profiled_cache)"
        )
    limit = math.inf if maxsize is None else maxsize
    if ttl is not UNSET and ttl is not None:
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not 0 < ttl < math.inf:
            raise ConfigurationError(f"ttl: {ttl!r} is not allowed; expected seconds > 0, or None")
        return lambda: cachetools.TTLCache(limit, ttl), maxsize, ttl
    if maxsize is None:
        return lambda: cachetools.Cache(math.inf), None, None
    return lambda: cachetools.LRUCache(maxsize), maxsize, None


def key_functions(options: Options) -> tuple[Callable[..., Hashable], Callable[..., Hashable] | None]:
    """What makes keys by default, and the user's own."""
    from cachetools.keys import hashkey, typedkey

    key, typed, lock = options.key, options.typed, options.lock
    if typed is not UNSET and not isinstance(typed, bool):
        raise ConfigurationError(f"typed: {typed!r} is not allowed; expected True or False")
    if key is not UNSET and key is not None:
        if typed is True:
            raise ConfigurationError(
                f"key={shown(key)} and typed=True contradict each other: a key function decides what is told apart; "
                "give key=cachetools.keys.typedkey, or leave key out"
            )
        if not callable(key):
            raise ConfigurationError(f"key: {key!r} is not allowed; expected a function of the call's arguments")
    if lock is not UNSET and lock is not None and not hasattr(type(lock), "__enter__"):
        made = " (an asyncio lock is not needed: the lock is never held across an await)"
        raise ConfigurationError(
            f"lock: {lock!r} is not allowed; expected a lock such as threading.RLock(), or None for none"
            f"{made if hasattr(type(lock), '__aenter__') else ''}"
        )
    return typedkey if typed is True else hashkey, None if key is UNSET else key
