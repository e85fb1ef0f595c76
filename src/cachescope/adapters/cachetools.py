"""cachetools 5.5 to 8: ``Cache`` and its subclasses, those of users too; ``@cached`` and ``@cachedmethod`` through their cache.

A plain dict of theirs is seen by way of :mod:`cachescope.adapters.cachetools_functions`.

Sees: hits, misses, sets, replacements, deletes, evictions, expirations, clears; also those inside the library.

Does not see: methods captured before patching (bound methods, default arguments of a user's class), a plain dict of a
function that was decorated before patching, one that ``@cachedmethod`` asks for before cachetools 8, and entries put past
the methods.

Hooks, on every class that defines them:

``__getitem__``
    A lookup. Subclasses captured the base's at definition time, so patching ``Cache`` alone sees nothing; and
    ``popitem`` and ``expire`` look ``Cache.__getitem__`` up when called, so those reads must not count.
``get``
    Only on ``Cache``: a missed get never reaches ``__getitem__``. ``_TimedCache.get`` calls this one.
``__setitem__``, ``__delitem__``, ``popitem``, ``expire``
    popitem inside a set is an eviction; expire, also from ``len()`` and ``repr()``, is an expiration.
``pop``, ``setdefault``, ``clear``
    Compound; ``clear`` and ``popitem`` are put on ``Cache`` too where it inherits them from MutableMapping.
``__missing__``
    A miss, also of an expired entry; where a user's class overrides it, what it returns was missed all the same.
``__init__``, ``__copy__``, ``__setstate__``, ``__reduce_ex__``
    New objects are met at once, copies as objects of their own; pickles hold nothing of ours.

Bytes: measured; ``getsizeof``, whose unit is its owner's choice, is shown beside them.
Read from the side: ``_Cache__data``, the same name in all four versions; ``len()`` and ``currsize`` would expire entries.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from types import FunctionType
from typing import Any

from cachescope.adapters.cachetools_functions import FunctionPatch, function_patches
from cachescope.adapters.contract import THROUGH, Adapter, Patch, finite, through
from cachescope.core import settling, sites

HOOKED = {
    "__getitem__": "lookup",
    "__missing__": "missing",
    "__setitem__": "set",
    "__delitem__": "delete",
    "get": "get",
    "pop": "pop",
    "setdefault": "setdefault",
    "popitem": "popitem",
    "expire": "expire",
    "clear": "clear",
}
"""Kinds of the library's own methods; a user's override has the kind with ``_open``, where there is one."""
LIFE = {"__init__": "init", "__copy__": "copy", "__setstate__": "setstate", "__reduce_ex__": "reduce"}
_OPEN = {
    "__getitem__": "lookup_open",
    "__missing__": "missing_open",
    "__setitem__": "set_open",
    "__delitem__": "delete_open",
    "get": "get_open",
    "popitem": "popitem_open",
}
_BASE = {"__getitem__": "lookup_base"}
_TABLES = ("data", "size", "order", "links", "items", "index", "keys", "counter")
"""Attributes of the library's classes that grow with the entries, less the mangling. They are asked for one by one:
touching an instance's ``__dict__`` would make one for it, and slow every access to the cache down."""
_EMPTY_BYTES = {kind: kind().__sizeof__() for kind in (dict, OrderedDict, list, Counter)}
_LINK_BYTES = 72 + 16
"""A link of the time-aware and LFU caches: five slots and a GC header."""


class CachetoolsAdapter(Adapter):
    """See the module's docstring."""

    name = "cachetools"
    module = "cachetools"
    distribution = "cachetools"
    supported = ((5, 5), (9,))
    order = 10
    cannot_see = (
        "calls through methods captured before patching (bound methods, default arguments)",
        "plain dicts of functions that were decorated before patching",
        "plain dicts of @cachedmethod before cachetools 8",
    )

    def recognises(self, obj: Any) -> bool:
        """Whether *obj* is an instance of ``cachetools.Cache``."""
        module = sys.modules.get("cachetools")
        return module is not None and isinstance(obj, module.Cache)

    def patches(self) -> Iterator[Patch]:
        """Every class of the library, and every user's class there is."""
        base = self._base()
        if not (isinstance(base, type) and issubclass(base, MutableMapping) and hasattr(base, "getsizeof")):
            raise TypeError("the module of that name is another one")
        _know_the_library(base)
        yield from self.later_patches(base)
        seen: set[type] = set()
        waiting = list(base.__subclasses__())
        while waiting:
            cls = waiting.pop(0)
            if cls not in seen and not getattr(cls, "_cachescope_made", False):
                seen.add(cls)
                waiting.extend(cls.__subclasses__())
                yield from self.later_patches(cls)

    def functions(self) -> Iterator[FunctionPatch]:
        """What makes the decorated functions, for those that keep their results in a plain dict."""
        return function_patches()

    def later_patches(self, cls: type) -> Iterator[Patch]:
        """What *cls* itself defines; for ``Cache``, also what it inherits from MutableMapping."""
        stock = is_stock(cls)
        is_base = cls is self._base()
        for method, kind in {**HOOKED, **LIFE}.items():
            defined = method in vars(cls)
            if not defined and not (is_base and hasattr(cls, method) and method != "__copy__"):
                continue
            if is_base and not defined and method == "__setstate__":
                continue
            if stock and not is_base and method in ("get", "pop", "setdefault", "__init__"):
                continue  # _TimedCache's call Cache's
            if is_base:
                kind = _BASE.get(method, kind)
            if method == "popitem" and stock and reads_past_hooks(cls):
                continue
            yield Patch(cls, method, kind if stock else _OPEN.get(method, kind))

    def in_place(self, obj: Any) -> Mapping[str, str] | None:
        """One table over the whole line of classes of *obj*."""
        cls = type(obj)
        _know_the_library(self._base())
        out: dict[str, str] = {}
        for method, kind in HOOKED.items():
            owner = next((c for c in cls.__mro__ if method in vars(c)), None)
            if owner is not None and not (method == "popitem" and reads_past_hooks(owner, made_to_measure=True)):
                out[method] = self._kind_in_place(method, kind, owner)
        life = {method: kind for method, kind in LIFE.items() if method in ("__copy__", "__setstate__")}
        return out | {method: kind for method, kind in life.items() if hasattr(cls, method)}

    def beneath(self, obj: Any) -> tuple[type, Mapping[str, str]] | None:
        """The nearest class of the library, when that isn't the object's own."""
        stock = next(c for c in type(obj).__mro__ if is_stock(c))
        if stock is type(obj):
            return None
        owners = {m: next(c for c in stock.__mro__ if m in vars(c)) for m in HOOKED if hasattr(stock, m)}
        return stock, {method: self._kind_in_place(method, HOOKED[method], owner) for method, owner in owners.items()}

    def _kind_in_place(self, method: str, kind: str, owner: type) -> str:
        if not is_stock(owner):
            return _OPEN.get(method, kind)
        return "get_timed" if method == "get" and owner.__name__ == "_TimedCache" else kind

    def proxied(self, obj: Any) -> Mapping[str, tuple[str, Any]] | None:
        """The class's own methods, run with the proxy as ``self``, so that what they call on it is seen."""
        cls = type(obj)
        table = self.in_place(obj) or {}
        methods: dict[str, tuple[str, Any]] = {m: (kind, getattr(cls, m)) for m, kind in table.items() if m not in LIFE}
        methods.update(through(cls, table))
        shown: Any = cls.__str__
        if shown is object.__str__:
            shown = cls.__repr__
        methods["__str__"] = (THROUGH, shown)
        return methods

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """``_Cache__data``."""
        found = getattr(obj, "_Cache__data", None)
        return found if isinstance(found, dict) else None

    def container_bytes(self, obj: Any) -> int:
        """The dicts, orders, heaps and links that the cache keeps beside its entries."""
        total = 0
        for name in {cls.__name__ for cls in type(obj).__mro__ if is_stock(cls)}:  # a made class has its base's name
            for table in _TABLES:
                value = getattr(obj, f"_{name}__{table}", None)
                kind = type(value)
                if kind in _EMPTY_BYTES and value is not None:
                    total += kind.__sizeof__(value) - _EMPTY_BYTES[kind]
                    if table in ("links", "items") and name in ("TTLCache", "TLRUCache"):
                        total += _LINK_BYTES * dict.__len__(value)
        return total

    def limits(self, obj: Any) -> tuple[float | None, float | None]:
        """``maxsize``, and ``currsize`` when a ``getsizeof`` gives it another unit; neither is asked of the cache."""
        most = getattr(obj, "_Cache__maxsize", None)
        own = getattr(obj, "_Cache__currsize", None) if type(getattr(obj, "_Cache__size", None)) is dict else None
        return finite(most), finite(own)

    def describe(self, cls: type) -> str:
        """``cachetools.LRUCache``, or the user's class and the library's behind it."""
        stock = next((c for c in cls.__mro__ if is_stock(c)), cls)
        shown = f"cachetools.{stock.__name__}"
        return shown if stock is cls else f"{cls.__qualname__}({shown})"

    def _base(self) -> type:
        base: type = sys.modules["cachetools"].Cache
        return base


def reads_past_hooks(cls: type, *, made_to_measure: bool = False) -> bool:
    """Whether the stock ``popitem`` of *cls* only deletes through a method that is hooked, so that it needs none itself.

    From cachetools 8 on it reads through ``Cache.__getitem__``, which isn't counted for a class that has its own, as a
    made-to-measure one always has.
    """
    popitem = vars(cls).get("popitem")
    names = popitem.__code__.co_names if isinstance(popitem, FunctionType) else ()
    return (
        is_stock(cls)
        and "__getitem__" in names
        and "pop" not in names
        and (made_to_measure or "__getitem__" in vars(cls))
    )


def is_stock(cls: type) -> bool:
    """Whether *cls* is the library's own."""
    module = getattr(cls, "__module__", None) or ""
    return module == "cachetools" or module.startswith(("cachetools.", "collections", "_collections_abc"))


def _know_the_library(base: type) -> None:
    """Its frames are no call sites, and its locking wrappers have missed before they call ``setdefault``."""
    filename = getattr(sys.modules["cachetools"], "__file__", None)
    if filename:
        folder = filename.rsplit("__init__", 1)[0]
        if folder not in sites.plumbing_folders:
            sites.plumbing_folders.append(folder)
    settling.missed_before_setdefault.update(
        f"cachetools.{name}" for name in ("_cached", "_cachedmethod", "_decorator", "_decorators", "_descriptor")
    )


ADAPTER = CachetoolsAdapter()
