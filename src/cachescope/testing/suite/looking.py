"""Looking at a cache from the side: nothing here is seen by a hook, or changes what a cache holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import wrapt

from cachescope.adapters.contract import Adapter, adapters
from cachescope.core.hooks import is_hook


def _adapter_of(cache: Any) -> Adapter | None:
    return next((adapter for adapter in adapters().values() if adapter.recognises(cache)), None)


def entries_of(cache: Any) -> list[tuple[Any, Any]] | None:
    """The entries, in their order, without touching the cache."""
    bare = cache.__wrapped__ if isinstance(cache, wrapt.ObjectProxy) else cache
    adapter = _adapter_of(bare)
    entries = None if adapter is None else adapter.entries(bare)
    return (
        None if entries is None else list(dict.items(entries)) if isinstance(entries, dict) else list(entries.items())
    )


def size_of(cache: Any) -> int:
    """How many entries there are."""
    entries = entries_of(cache)
    assert entries is not None
    return len(entries)


def sorted_entries(cache: Any) -> list[tuple[Any, Any]]:
    """The entries in an order that pickling keeps."""
    return sorted(entries_of(cache) or [], key=repr)


def attributes_of(cache: Any) -> list[str]:
    """The names in the object's own dict."""
    return list(getattr(cache, "__dict__", {}))


def outcome(call: Callable[..., Any], cache: Any) -> tuple[Any, ...]:
    """What a call returned, or its exception with arguments and what it says it came from."""
    try:
        return ("returned", call(cache))
    except Exception as error:
        told: Any = error.args
        if isinstance(error, TypeError) and "argument" in str(error):
            told = "wrong arguments"  # functions in C say it in other words
        return ("raised", type(error), told, type(error.__cause__), type(error.__context__))


def is_hooked(cache: Any, name: str) -> bool:
    """Whether a method of this object's class is a hook of ours."""
    return is_hook(inspect.getattr_static(type(cache), name, None))


def looks_of(cache: Any, name: str) -> tuple[Any, ...]:
    """What tools ask of a method: name, docstring, signature, kind."""
    method = getattr(cache, name, None)
    try:
        signature: Any = inspect.signature(method)  # type: ignore[arg-type]  # what is no callable has none
    except (TypeError, ValueError):
        signature = None
    return (
        getattr(method, "__name__", None),
        getattr(method, "__doc__", None),
        signature,
        inspect.iscoroutinefunction(method),
        inspect.isroutine(method),
    )
