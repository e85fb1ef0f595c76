"""Dicts and what behaves like them: ``dict``, ``OrderedDict``, ``defaultdict``, ``UserDict`` and subclasses.

Sees: look-ups, sets, deletes, ``pop``, ``popitem``, ``setdefault``, ``update``, ``|=``, ``clear``. A subclass that drops an
entry while another one is set has evicted it.

Does not see: what goes past the proxy of an exact dict (those who hold the dict itself), ``dict.__setitem__(d, …)``,
iteration, ``in``; and reads by ``items()``, ``values()``, ``dict(d)`` are no look-ups.

A subclass that takes attributes is changed in place; an exact ``dict``, ``OrderedDict`` or ``defaultdict`` can only be
proxied. Methods written in C call nothing on ``self``, so ``update`` looks at the keys it was given before and after.
``__iter__`` and ``keys`` are left alone: overriding them would turn ``dict(d)`` and ``{**d}`` into n reads.
"""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Mapping
from typing import Any

from cachescope.adapters.contract import Adapter, stated_limit, through
from cachescope.core.mapping_write_hooks import BEHIND

_FLAT = {
    "__getitem__": "lookup_flat",
    "__setitem__": "set_flat",
    "__delitem__": "delete_flat",
    "get": "get_flat",
    "pop": "pop",
    "popitem": "popitem_open",
    "setdefault": "setdefault",
    "update": "update",
    "clear": "clear",
    "__ior__": "update",
}
"""Kinds of methods that are written in C."""
_OPEN = {
    "__getitem__": "lookup_open",
    "__setitem__": "set_open",
    "__delitem__": "delete_open",
    "get": "get_open",
    "pop": "pop",
    "popitem": "popitem_open",
    "setdefault": "setdefault",
    "update": "update",
    "clear": "clear",
    "__ior__": "update",
}
"""Kinds of methods that a class written in Python defines."""
_EXACT = (dict, OrderedDict, defaultdict)


class MappingsAdapter(Adapter):
    """See the module's docstring."""

    name = "mappings"
    order = 20
    cannot_see = ("what goes to an exact dict past its proxy", "dict.__setitem__(d, key, value) called on the class")

    def recognises(self, obj: Any) -> bool:
        """Whether *obj* is a dict or a UserDict, or of a subclass."""
        return isinstance(obj, (dict, UserDict))

    def in_place(self, obj: Any) -> Mapping[str, str] | None:
        """A table for subclasses and UserDicts; exact types of C refuse."""
        cls = type(obj)
        if cls in _EXACT:
            return None
        table: dict[str, str] = {}
        for method, flat in _FLAT.items():
            owner = next((c for c in cls.__mro__ if method in vars(c)), None)
            if owner is None:
                continue
            written_in_c = owner in _EXACT
            table[method] = flat if written_in_c else _OPEN[method]
            if owner is UserDict and method in ("__getitem__", "__setitem__", "__delitem__"):
                table[method] = flat
            if not written_in_c and owner.__module__ == "collections.abc" and method in ("update", "setdefault"):
                del table[method]  # they go through self[key], which counts
        missing = next((c for c in cls.__mro__ if "__missing__" in vars(c)), None)
        if missing is defaultdict:
            if table["__getitem__"] == "lookup_flat":
                table["__getitem__"] = "lookup_default"
        elif missing is not None:
            table["__missing__"] = "missing_open"
        return table

    def beneath(self, obj: Any) -> tuple[type, Mapping[str, str]] | None:
        """dict, OrderedDict or defaultdict: what a subclass calls by super() is written in C."""
        cls = type(obj)
        exact = next((c for c in cls.__mro__ if c in _EXACT), None)
        if exact is None or all(
            method not in vars(c) for c in cls.__mro__[: cls.__mro__.index(exact)] for method in _FLAT
        ):
            return None
        table = {method: kind for method, kind in _FLAT.items() if hasattr(exact, method)}
        if exact is defaultdict:
            table["__getitem__"] = "lookup_default"
        return exact, table

    def proxied(self, obj: Any) -> Mapping[str, tuple[str, Any]] | None:
        """The dict's own methods, run on the dict behind the proxy; for classes in Python, run on the proxy."""
        cls = type(obj)
        table = self.in_place(obj) if cls not in _EXACT else dict(_FLAT)
        if table is None:
            return None
        if cls is defaultdict:
            table = {**table, "__getitem__": "lookup_default"}
        methods: dict[str, tuple[str, Any]] = {}
        for method, kind in table.items():
            original = getattr(cls, method)
            if method == "__ior__":
                original = _in_place_behind(original)
            elif issubclass(cls, dict):
                # Methods written in C refuse a proxy, also those that a subclass calls by super().
                original = _behind(original)
            methods[method] = (kind, original)
        if not issubclass(cls, dict):
            methods.update(through(cls, table))
        return methods

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """The dict itself, or the one inside a UserDict."""
        found = obj if isinstance(obj, dict) else getattr(obj, "data", None)
        return found if isinstance(found, dict) else None

    def limits(self, obj: Any) -> tuple[float | None, float | None]:
        """A number that a subclass keeps under a name such as ``maxsize``."""
        return stated_limit(obj), None

    def container_bytes(self, obj: Any) -> int:
        """The hash table, and an OrderedDict's links, above those of an empty one."""
        entries = self.entries(getattr(obj, "__wrapped__", obj))
        if entries is None:
            return 0
        ordered = isinstance(entries, OrderedDict)
        empty: dict[Any, Any] = OrderedDict() if ordered else {}
        sizeof = OrderedDict.__sizeof__ if ordered else dict.__sizeof__
        return int(sizeof(entries) - sizeof(empty))


def _behind(method: Any) -> Any:
    def original(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self.__wrapped__, *args, **kwargs)

    original.__name__ = method.__name__
    original.__doc__ = method.__doc__
    original.__wrapped__ = method  # type: ignore[attr-defined]  # its signature
    setattr(original, BEHIND, True)
    return original


def _in_place_behind(method: Any) -> Any:
    def __ior__(self: Any, value: Any, /) -> Any:
        result = method(self.__wrapped__, value)
        return self if result is self.__wrapped__ else result

    __ior__.__doc__ = method.__doc__
    __ior__.__wrapped__ = method  # type: ignore[attr-defined]  # its signature
    return __ior__


ADAPTER = MappingsAdapter()
