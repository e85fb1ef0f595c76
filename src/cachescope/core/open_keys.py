"""What an open hook reads of a home-made cache from the side: where its entries are, what they are made of, their keys.

Nothing here calls a method of the user's, but ``__hash__`` and ``__eq__`` of keys.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any
from weakref import ReferenceType

import wrapt

from cachescope.core.state import MISSING

_Proxy = wrapt.BaseObjectProxy
_LEAVES = frozenset((str, bytes, int, float, bool, type(None)))
_MOST_ALIASES = 65_536
_MOST_TRANSFORMS = 4


# Where the entries are


class Place:
    """The way from a cache object to the dict that holds its entries: attribute names, read from the side.

    Args:
        names: Attributes, outermost first; none when there is no such dict.
    """

    __slots__ = ("name", "names")

    def __init__(self, *names: str) -> None:
        self.names = names
        self.name = names[0] if len(names) == 1 else ""

    def find(self, obj: Any) -> dict[Any, Any] | None:
        """The dict now; None when there is none. Runs no code of the user's."""
        if not self.names:
            return None
        try:
            for name in self.names:
                obj = object.__getattribute__(obj, name)
        except AttributeError:
            return None
        return obj if issubclass(type(obj), dict) else None


def bare(obj: Any) -> Any:
    """The cache behind a proxy, or the object itself."""
    return obj.__wrapped__ if issubclass(type(obj), _Proxy) else obj


def peek_at(data: dict[Any, Any], key: Any) -> Any:
    """What is held under *key*; MISSING when nothing, or when it can't be looked up."""
    try:
        return dict.get(data, key, MISSING)
    except Exception:
        return MISSING


# What an entry is made of


def parts_of(held: Any) -> Iterable[Any]:
    """What a stored wrapper holds directly: members of a small container, attributes of an entry object.

    Asking an instance for its ``__dict__`` would make one, which costs the user memory; the collector's view does not.
    """
    cls = type(held)
    if cls in _LEAVES:
        return ()
    if issubclass(cls, tuple):
        return tuple.__iter__(held)
    if issubclass(cls, list):
        return list(islice(list.__iter__(held), 16))
    if issubclass(cls, dict):
        return list(islice(dict.values(held), 16))
    if issubclass(cls, ReferenceType):
        return (held(),)
    parts = gc.get_referents(held)
    for part in parts:
        if type(part) is dict:  # the attributes of an instance that has been asked for them
            parts = [*parts, *islice(dict.values(part), 32)]
            break
    return parts


def holds(held: Any, value: Any) -> bool:
    """Whether *held* is *value*, or a wrapper around it."""
    if held is value:
        return True
    return any(part is value for part in parts_of(held))


# How a cache makes its keys of its callers'


def _strip_lower(text: str) -> str:
    return text.strip().lower()


_OF_TEXT: tuple[Callable[[str], str], ...] = (str, str.lower, str.upper, str.strip, _strip_lower, str.casefold)
Transform = Callable[[Any], Any]


class KeyTransforms:
    """What was learnt of a cache that keeps its entries under other keys than its callers use.

    Ways of making keys (lower case, a prefix, the text of a number, a tuple around it) are found from pairs that were
    seen, and kept while they hold; for others, such as hashes, the pairs themselves are remembered, up to a limit.
    """

    __slots__ = ("aliases", "known", "trusted", "ways")

    def __init__(self) -> None:
        self.known = False
        self.trusted = False
        """A way of making keys has held for two different keys."""
        self.aliases: dict[Any, Any] = {}
        self.ways: dict[tuple[Any, ...], Transform] = {}

    def inner(self, key: Any, data: dict[Any, Any]) -> Any:
        """The key in *data* for a caller's *key*; *key* itself when there is none."""
        for way in list(self.ways.values()):
            try:
                made = way(key)
                if dict.__contains__(data, made):
                    return made
            except Exception:  # not a key that it can be made of
                continue
        try:
            alias = self.aliases.get(key, key)
            return alias if dict.__contains__(data, alias) else key
        except Exception:
            return key

    def learn(self, key: Any, inner: Any) -> None:
        """Learn from one pair of a caller's key and the cache's."""
        self.known = True
        fitting = _ways(key, inner)
        if self.ways:
            held = {name: way for name, way in self.ways.items() if name in fitting}
            if held and key not in self.aliases:
                self.trusted = True
            self.ways = held or dict(list(fitting.items())[:_MOST_TRANSFORMS])
        else:
            self.ways = dict(list(fitting.items())[:_MOST_TRANSFORMS])
        if not self.trusted and is_leaf_key(key):
            if len(self.aliases) >= _MOST_ALIASES:
                self.aliases.pop(next(iter(self.aliases)), None)
            self.aliases[key] = inner

    def plausible(self, key: Any, inner: Any) -> bool:
        """Whether *inner* looks as if it was made of *key*."""
        return bool(_ways(key, inner)) or (is_leaf_key(key) and self.aliases.get(key, self) == inner)


def is_leaf_key(key: Any) -> bool:
    """Whether a key may be held: it is an immutable leaf, or a tuple of some."""
    return type(key) in _LEAVES or (type(key) is tuple and all(type(part) in _LEAVES for part in key))


def _ways(key: Any, inner: Any) -> dict[tuple[Any, ...], Transform]:
    """The ways in which *inner* may have been made of *key*, by what describes each."""
    found: dict[tuple[Any, ...], Transform] = {}
    if type(inner) is tuple:
        for at, part in enumerate(inner):
            if type(part) is type(key) and part == key:
                found["tuple", inner[:at], inner[at + 1 :]] = _around(inner[:at], inner[at + 1 :])
        return found
    if type(key) is tuple and type(inner) is str and len(key) > 1 and all(type(p) in (str, int) for p in key):
        texts = [str(part) for part in key]
        for separator in (":", "/", ".", "|", "-", "_", "::", " ", ""):
            joined = separator.join(texts)
            if joined and joined in inner:
                prefix, _, suffix = inner.partition(joined)
                found["joined", separator, prefix, suffix] = _joining(separator, prefix, suffix)
        return found
    if type(key) is int and type(inner) is str:
        key, number = str(key), True
    else:
        number = False
    if type(key) is not str or type(inner) not in (str, bytes):
        return found
    encoded = type(inner) is bytes
    try:
        text = inner.decode() if encoded else inner
    except UnicodeDecodeError:
        return found
    for change in _OF_TEXT:
        base = change(key)
        if base and base in text:
            prefix, _, suffix = text.partition(base)
            name = ("text", change.__name__, prefix, suffix, number, encoded)
            found[name] = _dressing(change, prefix, suffix, number, encoded)
    return found


def _around(before: tuple[Any, ...], after: tuple[Any, ...]) -> Transform:
    return lambda key: (*before, key, *after)


def _joining(separator: str, prefix: str, suffix: str) -> Transform:
    return lambda key: prefix + separator.join([str(part) for part in key]) + suffix


def _dressing(change: Callable[[str], str], prefix: str, suffix: str, number: bool, encoded: bool) -> Transform:
    def way(key: Any) -> Any:
        if type(key) is not (int if number else str):
            raise TypeError(type(key))
        text = prefix + change(str(key)) + suffix
        return text.encode() if encoded else text

    return way
