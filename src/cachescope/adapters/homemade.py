"""Home-made caches, sync and async, and mutable mappings written in Python: whatever no other adapter knows.

A class is taken for a cache by what its methods are called and take: one that looks a key up and one that stores a
value under a key must be there (``get`` and ``set``, ``fetch`` and ``put``, …). ``operations=`` says it for others.

Sees: hits, misses, sets, replacements, deletes, clears, batches, loading look-ups; evictions and expirations, also
those on an inner dict (``self._d.popitem()``), of which the cause is:

* cleared inside ``clear``, ``reset``, ``flush``; expired inside ``expire``, ``cleanup``, ``sweep`` and the like, and
  when a look-up drops its own key; evicted inside a set, ``evict``, or a loading look-up of another key;
* outside every call, such as by a sweeper on the raw dict: expired if the class knows of times (a parameter or an
  attribute is named after them), else deleted.

Where the entries are: an attribute that is a dict (or holds a cache with one), found from the side; of several the one
that a value just set is found in. What is sized is what it holds: a wrapper ``(value, expires)`` with its value, a
link of a chain without its neighbours. Without such a dict the calls tell: what was stored and not removed is held, and
a result other than None is a hit.

Does not see:

* which entries left, when they were at neither end of the mapping and it is large: they are counted at once, their
  bytes follow with the next beat of the background thread or the next question;
* an entry that came and left within one call of a batch that goes past the class's own methods;
* a stored None that is ignored because it expired: it counts as a hit;
* methods set on the object itself, static and class methods, generators; ``dict(cache)`` is n look-ups;
* under keys that the class makes of its callers' in a way that can't be repeated: a replacement's bytes, until the next
  question, and look-ups of what nobody has set since: the result tells.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import UserDict
from collections.abc import Mapping, MutableMapping
from difflib import get_close_matches
from types import FunctionType, ModuleType
from typing import Any

from cachescope.adapters.contract import Adapter
from cachescope.adapters.homemade_names import KEYLESS, NAMES, OPERATIONS, is_hookable, takes
from cachescope.adapters.homemade_places import CONTAINERS, WEAK, attributes_of, places_of
from cachescope.core import open_hooks  # noqa: F401  # importing the hooks makes their kinds
from cachescope.core.charging import Ledger, SizingBudget, Weigher
from cachescope.core.errors import ConfigurationError
from cachescope.core.open_keys import Place, bare
from cachescope.core.open_ledger import OpenLedger
from cachescope.core.sizing import Sizer

_NO_CACHES = frozenset(
    (
        *("pandas", "numpy", "polars", "xarray", "bs4", "lxml", "sqlalchemy", "torch", "requests", "httpx", "aiohttp"),
        *("urllib3", "starlette", "werkzeug", "flask", "wrapt", "cachescope"),
    )
)
"""Libraries whose objects look like mappings of something else."""
_TIMES = (
    "ttl",
    "expir",
    "expiry",
    "timeout",
    "max_age",
    "maxage",
    "lifetime",
    "deadline",
    "time_to_live",
    "stale_after",
)
_LIMITS = (
    "maxsize",
    "max_size",
    "capacity",
    "max_entries",
    "max_items",
    "maxlen",
    "limit",
    "max_keys",
    "size_limit",
    "cap",
)


class HomemadeAdapter(Adapter):
    """See the module's docstring."""

    name = "homemade"
    order = 90
    cannot_see = (
        "at once, the bytes of an entry that left an inner dict from its middle: they follow with the next beat",
        "a stored None that is ignored because it has expired: it counts as a hit",
        "methods set on the object itself, static and class methods, generators",
    )

    def recognises(self, obj: Any) -> bool:
        """Whether its class is a mutable mapping written in Python, or has methods to look up and to store."""
        cls = type(obj)
        if isinstance(obj, (type, ModuleType, FunctionType)) or issubclass(cls, (dict, UserDict)) or _is_foreign(cls):
            return False
        if issubclass(cls, MutableMapping):
            return isinstance(inspect.getattr_static(cls, "__setitem__", None), FunctionType)
        table = self.table(obj)
        kinds = set(table.values())
        return bool(kinds & {"open_lookup", "open_load"}) and bool(
            kinds & {"open_set", "open_add"} or "open_load" in kinds
        )

    def table(self, obj: Any) -> dict[str, str]:
        """The methods of *obj* that mean something, and their kinds."""
        cls = type(obj)
        found: dict[str, str] = {}
        for kind, names in NAMES.items():
            for name in names:
                for method in (name, f"_{name}"):
                    if method.startswith("___") or (method in found and kind not in KEYLESS):
                        continue
                    function = inspect.getattr_static(cls, method, None)
                    if method in ("__repr__", "__str__", "__eq__") and function is getattr(object, method):
                        continue
                    if is_hookable(function) and not _hidden(obj, method) and takes(kind, method, function):
                        found[method] = kind
        return found

    def in_place(self, obj: Any) -> Mapping[str, str] | None:
        """The methods recognised."""
        return self.table(obj)

    def proxied(self, obj: Any) -> Mapping[str, tuple[str, Any]] | None:
        """The class's own methods, run with the proxy as ``self``."""
        cls = type(obj)
        return {method: (kind, getattr(cls, method)) for method, kind in self.table(obj).items()}

    def places(self, obj: Any) -> tuple[Place, ...]:
        """Where the entries of *obj* may be, the likeliest first."""
        return places_of(bare(obj))

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """The likeliest inner dict."""
        obj = bare(obj)
        for place in places_of(obj)[:1]:
            return place.find(obj)
        return None

    def ledger(self, obj: Any, sizer: Sizer, budget: SizingBudget, weigher: Weigher | None) -> Ledger:
        """A ledger that writes down every entry, so that those that leave unseen are freed too."""
        inner = bare(obj)
        return OpenLedger(sizer, budget, weigher, places_of(inner), _knows_times(inner))

    def container_bytes(self, obj: Any) -> int:
        """The tables of all the dicts, lists, orders and queues it has, above those of empty ones."""
        obj = bare(obj)
        place = places_of(obj)[:1]
        entries = place[0].find(obj) if place else None
        total = 0
        for value in attributes_of(obj).values():
            cls = type(value)
            base = next((c for c in cls.__mro__ if c.__module__ in ("builtins", "collections")), object)
            if base not in CONTAINERS:
                continue
            sizeof, empty = CONTAINERS[base]
            total += sizeof(value) - empty
            if issubclass(cls, dict) and value is not entries:
                some = next(iter(dict.values(value)), None)
                if type(some) is float:
                    total += 24 * dict.__len__(value)
        if entries is not None and len(place[0].names) > 1:
            total += dict.__sizeof__(entries) - {}.__sizeof__()
        return max(0, total)

    def limits(self, obj: Any) -> tuple[float | None, float | None]:
        """A number in an attribute named ``maxsize``, ``capacity`` or the like."""
        attributes = attributes_of(bare(obj))
        for name in _LIMITS:
            for attribute in (name, f"_{name}"):
                most = attributes.get(attribute)
                if isinstance(most, (int, float)) and not isinstance(most, bool) and 0 <= most < math.inf:
                    return float(most), None
        return None, None


class _WithOperations(HomemadeAdapter):
    """A home-made cache whose methods the user has named."""

    cacheable = False

    def __init__(self, operations: Mapping[str, str]) -> None:
        self.operations = dict(operations)

    def recognises(self, obj: Any) -> bool:
        return True

    def table(self, obj: Any) -> dict[str, str]:
        named = set(self.operations)
        # Names of other methods still mean what they say, but for those that look up and store.
        guessed = {m: k for m, k in super().table(obj).items() if k in ("open_expire", "open_evict", "open_quiet")}
        return {m: k for m, k in guessed.items() if m not in named} | self.operations


def with_operations(obj: Any, operations: Mapping[str, str]) -> Adapter:
    """An adapter for one object whose methods are named by the user.

    Args:
        obj: The cache.
        operations: What its methods do: names of methods to names of :data:`OPERATIONS`.

    Raises:
        ConfigurationError: There is no such method or operation, or nothing that looks up or stores.
    """
    if not isinstance(operations, Mapping) or not operations:
        raise ConfigurationError(
            f'operations: {operations!r} is not allowed; expected a mapping such as {{"fetch": "get", "store": "set"}}'
        )
    cls = type(bare(obj))
    methods = sorted({m for base in cls.__mro__[:-1] for m, f in vars(base).items() if is_hookable(f)})
    table: dict[str, str] = {}
    for method, operation in operations.items():
        if not isinstance(operation, str) or operation not in OPERATIONS:
            raise ConfigurationError(
                f"operations: {method!r}: {operation!r} is no operation; {_near(operation, OPERATIONS)}expected one "
                f"of: {', '.join(OPERATIONS)}"
            )
        if not isinstance(method, str) or method not in methods:
            raise ConfigurationError(
                f"operations: {method!r} is no method of {cls.__qualname__}; {_near(method, methods)}its methods are: "
                f"{', '.join(m for m in methods if not m.startswith('__')) or 'none'}"
            )
        table[method] = OPERATIONS[operation]
    if not set(table.values()) & {
        "open_lookup",
        "open_load",
        "open_lookup_many",
        "open_set",
        "open_add",
        "open_set_many",
    }:
        raise ConfigurationError(
            "operations: nothing in it looks a key up or stores a value; name a method for at least one of: "
            "get, set, add, get_or_set, get_batch, set_batch"
        )
    return _WithOperations(table)


def _near(wrong: object, known: Mapping[str, str] | list[str]) -> str:
    near = get_close_matches(str(wrong), list(known), n=3, cutoff=0.5)
    return f"did you mean {', '.join(map(repr, near))}? " if near else ""


def _is_foreign(cls: type) -> bool:
    """Whether a class belongs to the standard library, or to one whose objects are no caches."""
    top = (cls.__module__ or "").partition(".")[0]
    if top == "__main__":
        return False
    return (top in sys.stdlib_module_names and not issubclass(cls, WEAK)) or any(
        (base.__module__ or "").partition(".")[0] in _NO_CACHES for base in cls.__mro__[:-1]
    )


def _hidden(obj: Any, method: str) -> bool:
    """Whether the object has an attribute of its own in front of its class's method."""
    try:
        return method in object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return False


def _knows_times(obj: Any) -> bool:
    """Whether the class has to do with expiry: a parameter or an attribute is named after it."""
    names = set(attributes_of(obj))
    for cls in type(obj).__mro__[:-1]:
        for name, function in vars(cls).items():
            names.add(name)
            if isinstance(function, FunctionType):
                code = function.__code__
                names.update(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return any(part in name.lower() for name in names for part in _TIMES)


ADAPTER = HomemadeAdapter()
