"""``@profiled_cache`` on a function that ``cachetools.cached`` has decorated: its cache is profiled where it is."""

from __future__ import annotations

from typing import Any

from cachescope.core.charging import Weigher
from cachescope.core.errors import NotACacheError
from cachescope.core.faults import swallow
from cachescope.core.hooks import is_hook, make_hook
from cachescope.core.state import State
from cachescope.instrument import decoration
from cachescope.instrument.binding import INERT, Admission, admit, home_of, state_on
from cachescope.instrument.decoration import Options, Owner, line_of, shown
from cachescope.instrument.naming import Origin
from cachescope.instrument.objects import _known, find_adapter, instrument


def profile_cached_function(function: Any, options: Options) -> Any:
    """Profile the cache of a function that ``cachetools.cached`` has decorated."""
    options.refuse(
        ("maxsize", "ttl", "cache", "key", "lock", "typed", "operations"),
        f"{shown(function)} has a cache of cachetools already; only name, weigher and profiler apply",
    )
    import cachetools

    cache = function.cache
    if _known(cache) is not None:  # by auto-patching, or by hand
        if options.name is not None:
            instrument(cache, name=options.name, profiler=options.profiler)
        return function
    module = getattr(function, "__module__", "?")
    origin = Origin(options.name or f"{module}:{getattr(function, '__qualname__', '?')}", line_of(function))
    replaceable = type(function).__module__.startswith("cachetools")
    if not isinstance(cache, cachetools.Cache) and not (replaceable and isinstance(cache, dict)):
        raise NotACacheError(
            f"{shown(function)} keeps its results in {shown(cache)}, which can't be profiled in place; give @cached "
            "a cachetools cache, such as cachetools.Cache(math.inf), or use @profiled_cache instead of it"
        )
    hooked = _hook_lazily(cache, Owner(options.profiler), origin, options.weigher)
    if hooked is not cache:
        function.cache = hooked
    return function


def _hook_lazily(cache: Any, owner: Owner, origin: Origin, weigher: Weigher | None) -> Any:
    """Hook a cache whose first operation binds it to its profiler; returns it, or its proxy."""
    from cachescope.instrument.objects import _subclass
    from cachescope.instrument.proxies import CacheProxy

    adapter = find_adapter(cache)

    def contents(obj: Any) -> Any:
        return getattr(obj, "__wrapped__", obj) if issubclass(type(obj), CacheProxy) else obj

    def meet(obj: Any) -> State:
        try:
            with decoration.guard:
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
