"""Stand-ins: proxies of plain dicts that a library's decorators keep results in.

A dict can't be hooked in place, so the library is given a proxy of it. Users go on holding the dict itself: what they
take out of it is found by its length at the next set. Stand-ins outlive the patch, as the functions do that use them;
without it they are inert, and the next patch finds them in place.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections import OrderedDict, defaultdict
from inspect import unwrap
from threading import get_ident
from typing import Any, NamedTuple

from cachescope.adapters.contract import Adapter, adapters
from cachescope.core import batch as b
from cachescope.core.faults import swallow
from cachescope.core.hooks import make_hook
from cachescope.core.state import ATTRIBUTE, State
from cachescope.instrument import decoration
from cachescope.instrument.binding import INERT, Admission, Home, admit, detach, state_on
from cachescope.instrument.decoration import line_of
from cachescope.instrument.naming import Origin, origin_of
from cachescope.instrument.proxies import CacheProxy

_EXACT = (dict, OrderedDict, defaultdict)
_SMALL = 512
"""Entries up to which all are measured again when some left past the stand-in: less than a millisecond."""

_homes: dict[str, Home] = {}
"""Whose caches they are, by the library that is patched now."""
_classes: dict[type, type[CacheProxy]] = {}
_living: dict[int, weakref.ref[Any]] = {}


class _Claim(NamedTuple):
    """What a stand-in is met as, once: one that the user has taken out is not met again."""

    library: str
    origin: Origin


def open_for(library: str, home: Home) -> None:
    """From now on stand-ins are made for *library*; those of an earlier patch are met as *home*'s at their next use."""
    _be_ready_for_forks()
    with decoration.guard:
        _homes[library] = home
        for proxy in _made_for(library):
            if proxy._self_cachescope_claim is not None:
                detach(proxy)  # its next use asks whose it is


@functools.cache
def _be_ready_for_forks() -> None:
    """A lock that another thread held at a fork would never be released in the child."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=decoration.renew_guard)


def close_for(library: str) -> None:
    """The patch of *library* is undone: its stand-ins go inert, but those that the user has instrumented since."""
    with decoration.guard:
        _homes.pop(library, None)
        for proxy in _made_for(library):
            _let_go(proxy)


def stand_in(library: str, cache: Any, function: Any) -> Any:
    """The proxy that *library* is given in place of a plain dict; anything else as it is. Never raises.

    Args:
        library: The library's name, as its adapter has it.
        cache: What *function* keeps its results in.
        function: The function that is being decorated; the cache is named after it.
    """
    try:
        home = _homes.get(library)
        if home is None or type(cache) not in _EXACT:
            return cache
        with decoration.guard:
            found = _found(cache, home)
            if found is not None:
                return found
            claim = _Claim(library, _origin(function))
            proxy: Any = _class_for(cache)(cache)
            proxy._self_cachescope_made_for = proxy._self_cachescope_claim = claim
            key = id(proxy)
            _living[key] = weakref.ref(proxy, lambda _: _living.pop(key, None))
        _meet(proxy)
        return proxy
    except Exception as error:
        swallow("standing in for a dict", error)
        return cache


def _made_for(library: str) -> list[Any]:
    proxies = [reference() for reference in list(_living.values())]
    return [proxy for proxy in proxies if proxy is not None and proxy._self_cachescope_made_for.library == library]


def is_stand_in(obj: Any) -> bool:
    """Whether *obj* is one of these proxies."""
    return type(obj) in _classes.values()


def _found(cache: Any, home: Home) -> Any:
    """What stands for *cache* already; the dict itself when that is another profiler's; else None."""
    reference = CacheProxy.living.get(id(cache))
    proxy = None if reference is None else reference()
    if proxy is None or proxy.__wrapped__ is not cache:
        return None
    state = state_on(proxy)
    if state is None or state.admission is None:
        return proxy if is_stand_in(proxy) else None
    return proxy if state.admission.home is home else cache


def _origin(function: Any) -> Origin:
    """The function's own name and line; of a callable without them, what it is being stored as."""
    name, where = getattr(function, "__qualname__", None), line_of(function)
    if not isinstance(name, str) or not where:
        return origin_of(function, 2)
    module = getattr(unwrap(function), "__module__", None) or "?"
    return Origin(f"{'__main__' if module == '__mp_main__' else module}:{name}", where)


def _mappings() -> Adapter:
    return adapters()["mappings"]


def _class_for(cache: Any) -> type[CacheProxy]:
    """The proxy class for dicts of a type; one serves all profilers, for its hooks look for the home when they meet."""
    base = type(cache)
    made = _classes.get(base)
    if made is None:
        body: dict[str, Any] = {"__doc__": base.__doc__, "_self_cachescope_claim": None}
        for method, (kind, original) in (_mappings().proxied(cache) or {}).items():
            own = _SETTLING.get(method)
            if own is not None:
                store = getattr(base, method)
                original = functools.update_wrapper(own(store), store)
            body[method] = make_hook(kind, original, _meet)
        made = _classes[base] = type(base.__name__, (CacheProxy,), body)
    return made


def _meet(proxy: Any) -> State:
    try:
        with decoration.guard:
            known = state_on(proxy)
            if known is not None:
                return known
            claim: _Claim | None = proxy._self_cachescope_claim
            if claim is None:  # the user has taken it out: it need not ask again
                setattr(proxy, ATTRIBUTE, INERT)
                return INERT
            home = _homes.get(claim.library)
            if home is None:
                return INERT
            state = admit(proxy, Admission(home, _mappings(), claim.origin, None, _bare))
            if state is not INERT:
                proxy._self_cachescope_claim = None
            return state
    except Exception as error:
        swallow("meeting a cache", error)
        return INERT


def _bare(proxy: Any) -> Any:
    return proxy.__wrapped__


def _let_go(proxy: Any) -> None:
    """Make a stand-in inert; it keeps its state, which is quicker than to have none and to ask each time."""
    try:
        state = getattr(proxy, ATTRIBUTE, None)
        if not isinstance(state, State) or state.admission is None or state.admission.by_hand:
            return
        registry = state.admission.home.registry
        if registry is not None:
            registry.expel(state)
        state.admission = None  # or the profiler's next start would take it back
        proxy._self_cachescope_claim = proxy._self_cachescope_made_for
    except Exception as error:
        swallow("letting go of a cache", error)


# What left past the stand-in


def _set(store: Any) -> Any:
    def __setitem__(self: Any, key: Any, value: Any, /) -> None:
        data = self.__wrapped__
        _settle(self, data)
        store(data, key, value)

    return __setitem__


def _setdefault(store: Any) -> Any:
    def setdefault(self: Any, key: Any, default: Any = None, /) -> Any:
        data = self.__wrapped__
        _settle(self, data)
        return store(data, key, default)

    return setdefault


_SETTLING = {"__setitem__": _set, "setdefault": _setdefault}


def _settle(proxy: Any, data: dict[Any, Any]) -> None:
    """Account for entries that the user has taken out of the dict itself: ``f.cache.clear()``, ``f.cache.pop(key)``.

    A large dict is not measured again, for that would hold the application up: what left is taken to have had the mean
    size.
    """
    try:
        state = getattr(proxy, ATTRIBUTE, None)
        if not isinstance(state, State):
            return
        entries = state.entries
        held = dict.__len__(data)
        if held >= entries or state.record is None:
            return
        ident = get_ident()
        if any(other != ident for other in list(state.busy)) or state.entries != entries:
            return  # another thread is in the middle of a change
        if not held:
            state.commit_clear(entries)
        elif held <= _SMALL:
            state.reconcile(data, b.DELETED)
        else:
            gone = entries - held
            state.account(b.DELETED, gone, state.live_bytes * gone // entries)
    except Exception as error:
        swallow("unseen removals", error)
