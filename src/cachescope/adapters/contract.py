"""The contract between a library's adapter and the ways in.

An adapter is a table, not hot code. It says of each class which methods to hook and what a call of them means (a *kind* of
:data:`cachescope.core.hooks.KINDS`), and how to look at an object from the side. Third parties ship theirs under the
entry point group ``cachescope.adapters``; ``cachescope.testing`` has the conformance suite for it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from cachescope.core import life_hooks, mapping_read_hooks, mapping_write_hooks, stock_hooks  # noqa: F401  # they fill KINDS
from cachescope.core.faults import swallow

ENTRY_POINT_GROUP = "cachescope.adapters"
_log = logging.getLogger("cachescope")


THROUGH = "through"
"""The kind of a proxy's method (or property) that is no operation, but may call some on ``self``: it isn't hooked."""


_OF_THE_OBJECT = frozenset(
    f"__{name}__"
    for name in [
        "init",
        "new",
        "del",
        "repr",
        "str",
        "eq",
        "ne",
        "hash",
        "getattribute",
        "getattr",
        "setattr",
        "delattr",
        "dir",
        "sizeof",
        "format",
        "init_subclass",
        "subclasshook",
        "class_getitem",
        "reduce",
        "reduce_ex",
        "getstate",
        "setstate",
        "copy",
        "deepcopy",
    ]
)


def through(cls: type, hooked: Container[str]) -> dict[str, tuple[str, Any]]:
    """The methods and properties of a class in Python that a proxy runs with itself as ``self``, without a hook."""
    methods: dict[str, tuple[str, Any]] = {}
    for owner in reversed(cls.__mro__[:-1]):
        for name, held in vars(owner).items():
            if isinstance(held, (FunctionType, property)) and name not in hooked and name not in _OF_THE_OBJECT:
                methods[name] = (THROUGH, held)
    return methods


class Patch(NamedTuple):
    """One method of one class, to be replaced by a hook of a kind."""

    owner: type
    method: str
    kind: str


class Adapter:
    """What cachescope knows of one library or kind of cache. Subclass it, and name an instance in an entry point."""

    name: str = ""
    """The library's name, as users say it: ``autopatch("cachetools")``."""
    module: str | None = None
    """The module whose import means that the library is there; None when there is no library."""
    distribution: str | None = None
    """The library's distribution, for its version."""
    supported: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (10**6,))
    """Versions tested: at least the first, below the second."""
    cannot_see: tuple[str, ...] = ()
    """What stays hidden, in sentences for ``cachescope doctor``."""
    cacheable: bool = True
    """Whether all objects of a class are hooked alike, so that made classes can be shared."""
    order: int = 50
    """Adapters are asked in this order whether they recognise an object; the most specific come first."""

    def recognises(self, obj: Any) -> bool:
        """Whether *obj* is a cache of this kind."""
        raise NotImplementedError(f"{type(self).__name__}.recognises")  # the contract's one obligation

    def patches(self) -> Iterator[Patch]:
        """All methods to hook for auto-patching; the library is imported by then. None: it can't be patched by class."""
        return iter(())

    def later_patches(self, cls: type) -> Iterator[Patch]:
        """The methods to hook in a subclass that the user defines."""
        return iter(())

    def in_place(self, obj: Any) -> Mapping[str, str] | None:
        """Methods and kinds for a made-to-measure subclass of *obj*'s class; None when only a proxy will do."""
        return None

    def beneath(self, obj: Any) -> tuple[type, Mapping[str, str]] | None:
        """The library's class under a user's one, and its methods and kinds: for what overriding methods call by super()."""
        return None

    def proxied(self, obj: Any) -> Mapping[str, tuple[str, Any]] | None:
        """Methods, kinds and originals (functions that take the proxy as ``self``); None when no proxy will do."""
        return None

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """The mapping that holds the entries, found from the side; None when it can't be found."""
        return None

    def container_bytes(self, obj: Any) -> int:
        """What the cache's own tables, links and queues need, above those of an empty one."""
        return 0

    def limits(self, obj: Any) -> tuple[float | None, float | None]:
        """``(maxsize, its own current size where that has another unit than entries)``."""
        return None, None

    def describe(self, cls: type) -> str:
        """The class's name as reports show it."""
        module = (cls.__module__ or "").split(".")[0]
        return (
            cls.__qualname__
            if module in ("builtins", "collections", "__main__", "")
            else f"{module}.{cls.__qualname__}"
        )


def finite(limit: object) -> float | None:
    """A limit as a number; None for what is none, and for infinity, which limits nothing."""
    return float(limit) if isinstance(limit, (int, float)) and math.isfinite(limit) else None


_LIMIT_NAMES = ("maxsize", "max_size", "maxlen", "max_entries", "max_items", "capacity", "limit", "size_limit")


def stated_limit(obj: Any) -> float | None:
    """The limit that an object keeps as a number under one of the usual names, private ones too; None when it has none.

    Only instance attributes are read, so that no property of the user's runs.
    """
    attributes = getattr(obj, "__dict__", None)
    if type(attributes) is not dict:
        return None
    for name in _LIMIT_NAMES:
        for attribute in (name, f"_{name}", *(f"_{cls.__name__}__{name}" for cls in type(obj).__mro__[:-1])):
            value = attributes.get(attribute)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                return finite(value)
    return None


_adapters: dict[str, Adapter] | None = None


def adapters() -> dict[str, Adapter]:
    """All adapters by name, found through entry points; one that can't be loaded is left out and counted."""
    global _adapters
    if _adapters is None:
        found: list[Adapter] = []
        from importlib.metadata import entry_points  # 20 ms, which a program that only imports us need not pay

        for point in entry_points(group=ENTRY_POINT_GROUP):
            try:
                adapter = point.load()
                if not isinstance(adapter, Adapter) or not adapter.name:
                    raise TypeError(f"{point.value} is no Adapter with a name")
                found.append(adapter)
            except Exception as error:
                swallow(f"adapter {point.name}", error)
                _log.warning("adapter %r can't be loaded: %s", point.name, error)
        _adapters = {adapter.name: adapter for adapter in sorted(found, key=lambda adapter: adapter.order)}
        if not {"cachetools", "mappings", "homemade"} <= _adapters.keys():
            _adapters = {**_built_in(), **_adapters}  # not installed, only on the path: there are no entry points
    return _adapters


def _built_in() -> dict[str, Adapter]:
    from cachescope.adapters import cachetools, homemade, mappings

    return {module.ADAPTER.name: module.ADAPTER for module in (cachetools, mappings, homemade)}
