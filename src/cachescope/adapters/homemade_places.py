"""Where a home-made cache keeps its entries, found from the side: none of its code runs."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from cachescope.core.open_keys import Place

_DATA_NAMES = ("data", "store", "storage", "cache", "values", "items", "entries", "map", "dict", "memo", "table", "d")
_SIDE_NAMES = (
    *("exp", "ttl", "time", "freq", "count", "hit", "lock", "order", "stat", "access", "meta", "age", "seen", "metric"),
    *(
        "touched",
        "inflight",
        "in_flight",
        "pending",
        "waiters",
        "queue",
        "tasks",
        "futures",
        "config",
        "options",
        "index",
    ),
)
WEAK = (WeakValueDictionary, WeakKeyDictionary)

CONTAINERS: dict[type, tuple[Callable[[Any], int], int]] = {
    dict: (dict.__sizeof__, {}.__sizeof__()),
    OrderedDict: (OrderedDict.__sizeof__, OrderedDict[Any, Any]().__sizeof__()),
    defaultdict: (defaultdict.__sizeof__, {}.__sizeof__()),
    list: (list.__sizeof__, [].__sizeof__()),
    set: (set.__sizeof__, set[Any]().__sizeof__()),
    deque: (deque.__sizeof__, deque[Any]().__sizeof__()),
}
"""How much each takes, and how much of that an empty one does."""


def places_of(obj: Any) -> tuple[Place, ...]:
    """The ways to the dicts that may hold the entries, the likeliest first."""
    rated: list[tuple[float, int, Place]] = []
    attributes = attributes_of(obj)
    for name, value in attributes.items():
        if isinstance(value, dict):
            rated.append((_rating(name, value), len(rated), Place(name)))
    for name, value in attributes.items():
        inner = _inside(value)
        if inner is not None:
            attribute, held = inner
            rated.append((_rating(name, held) - 0.5, len(rated), Place(name, attribute)))
    if not rated:
        for name, value in attributes.items():
            if type(value).__module__ in ("builtins", "collections") or isinstance(
                value, (type, ModuleType, FunctionType)
            ):
                continue
            for deeper, held in attributes_of(value).items():
                if isinstance(held, dict) and not deeper.startswith("_self_"):
                    rated.append((_rating(f"{name}_{deeper}", held), len(rated), Place(name, deeper)))
    rated = [row for row in rated if row[0] > -3]
    return tuple(place for _, _, place in sorted(rated, key=lambda row: (-row[0], row[1])))


def _inside(value: Any) -> tuple[str, dict[Any, Any]] | None:
    """The dict inside a cache of a library that keeps one."""
    for attribute in ("_Cache__data", "data"):
        if attribute == "data" and not isinstance(value, (UserDict, *WEAK)):
            continue
        try:
            held = object.__getattribute__(value, attribute)
        except AttributeError:
            continue
        if isinstance(held, dict):
            return attribute, held
    return None


def _rating(name: str, held: dict[Any, Any]) -> float:
    """How likely a dict is the one that holds the entries."""
    text = name.lower().strip("_")
    rating = 0.0
    if any(part == text or part in text.split("_") for part in _DATA_NAMES):
        rating += 1
    if any(part in text for part in _SIDE_NAMES):
        rating -= 2
    some = next(iter(dict.values(held)), None)
    if dict.__len__(held):
        if type(some) in (float, int, type(None), set, bool):
            rating -= 1
        else:
            rating += 0.5
    return rating


def attributes_of(obj: Any) -> dict[str, Any]:
    """An object's attributes, those in slots and plain ones of its classes too; none of its code runs."""
    found: dict[str, Any] = {}
    for cls in reversed(type(obj).__mro__[:-1]):
        for name, member in vars(cls).items():
            if type(member) is MemberDescriptorType:
                try:
                    found[name if not _is_private(name) else f"_{cls.__name__.lstrip('_')}{name}"] = member.__get__(
                        obj, cls
                    )
                except AttributeError:
                    continue
            elif not name.startswith("__") and isinstance(member, (dict, int, float)) and not isinstance(member, bool):
                found[name] = member
    try:
        found.update(object.__getattribute__(obj, "__dict__"))
    except AttributeError:
        pass
    return found


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")
