"""What the batch may hold of a key: nothing that keeps an object of the user's alive."""

from __future__ import annotations

from typing import cast

from cachescope.core.batch import PatternText
from cachescope.core.patterns import pattern_of

HELD_AS_IS = frozenset((str, bytes, int))
_LEAVES_OF_TUPLES = frozenset((str, bytes, int, float, bool, type(None)))
_MOST_ITEMS = 16


def hold(key: object) -> object:
    """What the batch may hold of a key for a moment: a leaf or a tuple of leaves as they are, else its pattern.

    A tuple is described later, off the application's threads and ten times faster, for tuples of one shape are known.
    """
    if type(key) in HELD_AS_IS:
        return key
    if issubclass(type(key), tuple):
        items = tuple.__getitem__(cast("tuple[object, ...]", key), slice(None))
        if len(items) <= _MOST_ITEMS and all(type(item) in _LEAVES_OF_TUPLES for item in items):
            return items
    return _described(key)


def _described(key: object) -> PatternText:
    """A key's pattern, for keys that may not be held."""
    return PatternText(pattern_of(key))
