"""Bytes counted the plain way: slow, obvious, and no code of the sizer's, so that it can be held against it."""

from __future__ import annotations

import sys
from typing import Any

_FIXED = (type(None), bool, type(Ellipsis), type(NotImplemented))


def naive_bytes(value: Any, seen: set[int] | None = None) -> int:
    """What a value of built-in types requests from the allocator, each object once.

    Small ints, None and their like live for ever and cost nothing; an int is requested in whole 8 bytes.

    Args:
        value: Strings, bytes, numbers, and lists, tuples, sets and dicts of them.
        seen: Ids counted already.

    Raises:
        TypeError: A value of another type is in it.
    """
    kind = type(value)
    seen = set() if seen is None else seen
    if id(value) in seen or kind in _FIXED:
        return 0
    seen.add(id(value))
    if kind is int:
        return 0 if -5 <= value <= 256 else (sys.getsizeof(value) + 7) & -8
    if kind in (str, bytes, float, complex):
        return sys.getsizeof(value)
    if kind in (tuple, list, set, frozenset):
        return sys.getsizeof(value) + sum(naive_bytes(part, seen) for part in value)
    if kind is dict:
        return sys.getsizeof(value) + sum(naive_bytes(part, seen) for pair in value.items() for part in pair)
    raise TypeError(
        f"naive_bytes() got a {kind.__name__}; expected built-in values, and lists, tuples, sets and dicts of them"
    )
