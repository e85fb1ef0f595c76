"""Proxies: wrapt object proxies whose methods are hooks, for objects that can't be changed in place."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import wrapt

from cachescope.adapters.contract import THROUGH, Adapter
from cachescope.core.hooks import make_hook, unhooked
from cachescope.core.state import ATTRIBUTE
from cachescope.instrument.binding import Admission, Home, admit, meeting, state_on


class CacheProxy(wrapt.ObjectProxy[Any]):
    """Stands for a cache; the methods that mean something are hooks, the rest is the cache's own."""

    living: ClassVar[dict[int, weakref.ref[Any]]] = {}
    """The proxies that live, by the id of what they stand for."""

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)
        key = id(wrapped)
        living = CacheProxy.living
        living[key] = weakref.ref(self, lambda _: living.pop(key, None))

    def __repr__(self) -> str:
        return f"<CacheProxy at {id(self):#x} for {type(self.__wrapped__).__name__} at {id(self.__wrapped__):#x}>"

    def __copy__(self) -> Any:
        return self._self_twin(copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._self_twin(copy.deepcopy(self.__wrapped__, memo))

    def __reduce__(self) -> Any:
        return self.__wrapped__.__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A pickle holds the bare cache, and loads where cachescope isn't installed.
        if type(self.__wrapped__) is dict:  # pickle knows it by its type, and old protocols don't otherwise
            return dict, (), None, None, iter(list(self.__wrapped__.items()))
        return self.__wrapped__.__reduce_ex__(protocol)

    def _self_twin(self, duplicate: Any) -> Any:
        """A proxy of a copy: an object of its own, under the same name."""
        twin = type(self)(duplicate)
        state = state_on(self)
        if state is not None and state.admission is not None:
            was: Admission = state.admission
            admit(twin, Admission(was.home, was.adapter, was.origin, was.weigher, was.contents, by_hand=True))
        return twin


def proxied(obj: Any) -> CacheProxy | None:
    """*obj* when it is one of our proxies, else None."""
    return obj if issubclass(type(obj), CacheProxy) else None


def proxy_class(base: type, adapter: Adapter, methods: Mapping[str, tuple[str, Any]], home: Home) -> type[CacheProxy]:
    """The proxy class for objects of class *base*.

    Args:
        base: The cache's class.
        adapter: What knows it.
        methods: Method, kind and original (which takes the proxy as ``self``).
        home: Whose caches they will be.
    """
    classes = home.proxies
    key = (base, adapter.name)
    known = classes.get(key) if adapter.cacheable else None
    if known is None:
        meet = meeting(home, adapter)
        body: dict[str, Any] = {"__doc__": base.__doc__}
        for method, (kind, original) in methods.items():
            body[method] = original if kind == THROUGH else make_hook(kind, unhooked(original), meet)
        # Its own name, for the library puts type(self).__name__ into messages.
        known = type(base.__name__, (CacheProxy,), body)
        if adapter.cacheable:
            classes[key] = known
    return known


__all__ = ["ATTRIBUTE", "CacheProxy", "proxied", "proxy_class"]
