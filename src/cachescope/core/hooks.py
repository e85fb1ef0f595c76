"""The only maker of hot closures: a row of an adapter's table becomes a function that counts and calls the original.

``make_hook(kind, original, meet)`` is the one seam that a compiled hook would replace. The kinds are a closed set, filled by
:mod:`~cachescope.core.stock_hooks` (a library's own methods: the hot path), :mod:`~cachescope.core.mapping_read_hooks` and
:mod:`~cachescope.core.mapping_write_hooks` (methods that may do anything), :mod:`~cachescope.core.life_hooks` and
:mod:`~cachescope.core.open_hooks` (home-made and async caches).
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

from cachescope.core.state import State

Hook = Callable[..., Any]

Meet = Callable[[Any], State]
"""Finds or makes the state of an object that has none yet; never raises."""

KINDS: dict[str, Callable[[Any, Meet], Hook]] = {}
"""The closed set of kinds, by name."""


def make_hook(kind: str, original: Any, meet: Meet) -> Hook:
    """Make the hook of one method.

    Args:
        kind: What a call of the method means; one of :data:`KINDS`. A kind ending in ``_open`` is for a method that a user's
            class overrides, which may or may not call the library's own.
        original: The function to call.
        meet: Finds the state of an object that is met for the first time.

    Returns:
        A function that looks like *original* (name, docstring, signature, ``__wrapped__``).
    """
    hook = KINDS[kind](original, meet)
    functools.update_wrapper(hook, original)
    _made.add(hook)
    return hook


_made: weakref.WeakSet[Any] = weakref.WeakSet()
"""All hooks there are. A spliced one has the library's file name, so that its code doesn't tell."""


def kind_of_hook(name: str) -> Callable[[Callable[[Any, Meet], Hook]], Callable[[Any, Meet], Hook]]:
    """Register what makes the hooks of a kind.

    Args:
        name: The kind, as adapters' tables call it.
    """

    def register(maker: Callable[[Any, Meet], Hook]) -> Callable[[Any, Meet], Hook]:
        KINDS[name] = maker
        return maker

    return register


def is_hook(function: Any) -> bool:
    """Whether a method is a hook of ours, live or inert."""
    return type(function) is FunctionType and function in _made  # wrapt's wrappers only look like functions


def unhooked(function: Any) -> Any:
    """What a hook of ours calls; anything else as it is."""
    while is_hook(function) and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function
