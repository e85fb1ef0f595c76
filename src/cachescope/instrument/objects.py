"""instrument() and uninstrument(): one cache object, in place or behind a wrapt proxy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from cachescope.adapters.contract import Adapter, adapters
from cachescope.core.charging import Weigher
from cachescope.core.errors import ConfigurationError, NotACacheError
from cachescope.core.faults import swallow
from cachescope.core.hooks import make_hook, unhooked
from cachescope.core.life_hooks import without_state
from cachescope.core.lifecycle import renew_after_fork
from cachescope.core.registry import CacheRegistry
from cachescope.core.state import ATTRIBUTE, State
from cachescope.instrument.binding import (
    Admission,
    Home,
    admit,
    detach,
    home_of,
    itself,
    meeting,
    registry_of,
    state_on,
)
from cachescope.instrument.naming import Origin, origin_of
from cachescope.instrument.proxies import CacheProxy, proxied, proxy_class

T = TypeVar("T")
_log = logging.getLogger("cachescope")
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


renew_after_fork(_renew_lock)
_WAYS = ("auto", "in place", "proxy")


def instrument(
    obj: T,
    *,
    name: str | None = None,
    how: str = "auto",
    weigher: Weigher | None = None,
    operations: Mapping[str, str] | None = None,
    profiler: Any = None,
) -> T:
    """Profile one cache object.

    Args:
        obj: A cache: of cachetools, a dict or other mutable mapping, or a home-made object, sync or async.
        name: What it is called in reports; caches that share a name are summed. None makes one up from the code that calls.
        how: ``"in place"`` gives the object a made-to-measure subclass, so that everybody who holds it is seen;
            ``"proxy"`` returns a wrapt proxy, and only what goes through it is seen; ``"auto"`` takes the first that works.
        weigher: ``weigher(key, value)`` gives the bytes of an entry without the container's cost, finite and >= 0; else
            ours are used, and it is counted.
        operations: What a home-made cache's methods mean, such as ``{"fetch": "get", "store": "set", "drop": "delete"}``.
        profiler: Whose cache it will be; None means the process's profiler, which is started if need be.

    Returns:
        *obj* itself, or a proxy with the same interface. A second call returns what the first one did.

    Raises:
        NotACacheError: No cache operation was recognised in *obj*.
        ConfigurationError: *obj* is profiled by another profiler, or an argument has a wrong value.
    """
    if how not in _WAYS:
        raise ConfigurationError(f"how: {how!r} is not allowed; expected one of: {', '.join(map(repr, _WAYS))}")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError(f"name: {name!r} is not allowed; expected a non-empty str, or None")
    if weigher is not None and not callable(weigher):
        raise ConfigurationError(f"weigher: {weigher!r} is not allowed; expected a function of key and value, or None")
    registry = registry_of(profiler)
    if not registry.open:
        raise ConfigurationError("the profiler was shut down; start it again before instrument()")
    with _lock:
        known = _known(obj)
        if known is not None:
            return cast(T, _again(known, name, registry))
        adapter = find_adapter(obj, operations)
        origin = origin_of(obj, 1)
        origin = origin._replace(name=name) if name is not None else origin
        return cast(T, _hook(obj, adapter, how, Origin(*origin), weigher, home_of(registry)))


def uninstrument(obj: T) -> T:
    """Stop profiling one cache object, and restore it exactly.

    Args:
        obj: What :func:`instrument` returned, or the object it was given.

    Returns:
        The bare object. What was gathered stays in the profiler.
    """
    with _lock:
        target = proxied(obj)
        bare = obj.__wrapped__ if target is not None else obj  # type: ignore[attr-defined]  # a proxy has it
        living = CacheProxy.living.get(id(bare))
        proxy = living() if living is not None else None
        for holder in (obj, bare, proxy if proxy is not None and proxy.__wrapped__ is bare else obj):
            state = state_on(holder)
            if state is not None and state.admission is not None and state.admission.home.registry is not None:
                state.admission.home.registry.expel(state)
            detach(holder)
        cls = type(bare)
        if vars(cls).get("_cachescope_made"):
            base = cls.__mro__[1]
            object.__dict__["__class__"].__set__(bare, base)  # plain assignment meets our property
        restore = getattr(type(obj), "_cachescope_restore", None)
        if restore is not None:
            restore(obj)
        return bare


def find_adapter(obj: Any, operations: Mapping[str, str] | None = None) -> Adapter:
    """The adapter that knows *obj*, the most specific first.

    Raises:
        NotACacheError: There is none; the message says what was expected and how to declare ``operations=``.
        ConfigurationError: *operations* names no method of *obj*, or no operation.
    """
    if operations is not None:
        from cachescope.adapters.homemade import with_operations

        return with_operations(obj, operations)
    for adapter in adapters().values():
        try:
            if adapter.recognises(obj):
                return adapter
        except Exception as error:  # an object may refuse to be looked at; the next adapter may ask less
            swallow(f"recognising {type(obj).__name__}", error)
    raise NotACacheError(
        f"instrument() got {_short(obj)}, in which no cache operation was recognised; expected a cachetools cache, a "
        "mutable mapping, or an object with methods such as get and set; for a function, use @profiled_cache. If it is a "
        "cache with methods of other names, "
        'say which: instrument(cache, operations={"fetch": "get", "store": "set", "drop": "delete"})'
    )


def _known(obj: Any) -> Any:
    """What stands for *obj* since it was instrumented: itself or its proxy; None when it wasn't."""
    if state_on(obj) is not None:
        return obj
    target = CacheProxy.living.get(id(obj))
    proxy = target() if target is not None else None
    return proxy if proxy is not None and proxy.__wrapped__ is obj and state_on(proxy) is not None else None


def _again(known: Any, name: str | None, registry: CacheRegistry) -> Any:
    state = state_on(known)
    assert state is not None  # that is how it was found
    assert state.record is not None
    if registry.records.get(state.record.name) is not state.record:
        raise ConfigurationError(
            f"{_short(known)} is profiled as {state.record.name!r} by another profiler; uninstrument() it first"
        )
    if name is not None and name != state.record.name:
        if state.admission is not None and not state.admission.by_hand:
            _rename(state, name, registry)
        else:
            _log.warning(
                "%s is instrumented as %r already; the name %r is ignored", _short(known), state.record.name, name
            )
    else:
        _log.info("%s is instrumented already", _short(known))
    if state.admission is not None:
        state.admission.by_hand = True
    return known


def _rename(state: State, name: str, registry: CacheRegistry) -> None:
    """A cache that auto-patching had named is given its name."""
    registry.rename(state, name)
    admission = state.admission
    admission.origin = admission.origin._replace(name=name)


def _hook(obj: Any, adapter: Adapter, how: str, origin: Origin, weigher: Weigher | None, home: Home) -> Any:
    if how in ("auto", "in place"):
        table = adapter.in_place(obj)
        reason = "only a proxy can stand for it" if table is None else _swap(obj, adapter, table, home)
        if not reason:
            admit(obj, Admission(home, adapter, origin, weigher, itself, by_hand=True))
            return obj
        if how == "in place":
            raise ConfigurationError(f"how='in place' is impossible for {_short(obj)}: {reason}; use how='proxy'")
    methods = adapter.proxied(obj)
    if methods is None:
        raise NotACacheError(f"{_short(obj)} can be hooked neither in place nor behind a proxy")
    cls = proxy_class(type(obj), adapter, methods, home)
    proxy = cls(obj)
    state = admit(proxy, Admission(home, adapter, origin, weigher, _wrapped, by_hand=True))
    _share_state(obj, state)
    return proxy


def _wrapped(proxy: Any) -> Any:
    return proxy.__wrapped__


def _share_state(obj: Any, state: State) -> None:
    """Let hooks that a class patch puts on the bare object find the proxy's state."""
    del obj, state


def _swap(obj: Any, adapter: Adapter, table: Mapping[str, str], home: Home) -> str:
    """Give *obj* a made-to-measure subclass; returns why not, or ``""``."""
    base = type(obj)
    try:
        object.__setattr__(obj, ATTRIBUTE, None)
    except (AttributeError, TypeError):
        return "it takes no new attributes"
    classes = home.made
    made = classes.get(base) if adapter.cacheable else None
    if made is None:
        try:
            made = _subclass(base, table, meeting(home, adapter), adapter.beneath(obj))
        except Exception as error:
            detach(obj)
            return f"its class refuses to be subclassed ({type(error).__name__}: {error})"
        if adapter.cacheable:
            classes[base] = made
    try:
        object.__dict__["__class__"].__set__(obj, made)  # past any __setattr__ of the user's
    except TypeError as error:
        detach(obj)
        return f"its class can't be replaced ({error})"
    return ""


def _subclass(
    base: type,
    table: Mapping[str, str],
    meet: Callable[[Any], State],
    beneath: tuple[type, Mapping[str, str]] | None = None,
) -> type:
    body = {
        **_body(base, table, meet),
        "__class__": property(lambda self: base),
    }
    reduce_ex: Any = base.__reduce_ex__

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        reduced = without_state(reduce_ex(self, protocol))
        if type(reduced) is not tuple:
            return reduced
        plain = list(reduced)
        plain[0] = base if plain[0] is made else plain[0]
        plain[1] = tuple(base if part is made else part for part in plain[1])
        return tuple(plain)

    body["__reduce_ex__"] = __reduce_ex__
    bases: tuple[type, ...] = (base,)
    if beneath is not None:  # it comes right after the user's classes: what they call by super() meets its hooks
        stock, stock_table = beneath
        metaclass: Callable[..., type] = type(stock)
        bases = (base, metaclass(stock.__name__, (stock,), _body(stock, stock_table, meet)))
    metaclass = type(base)
    made: type = metaclass(base.__name__, bases, body)
    return made


def _body(base: type, table: Mapping[str, str], meet: Callable[[Any], State]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "__slots__": (),
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_cachescope_made": True,
    }
    for method, kind in table.items():
        if kind != "reduce":
            body[method] = make_hook(kind, unhooked(getattr(base, method)), meet)
    return body


def _short(obj: Any) -> str:
    """What *obj* is, without asking it."""
    cls = type(obj)
    return f"an object of type {cls.__module__}.{cls.__qualname__}".replace("builtins.", "")
