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
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Mapping, MutableMapping
from difflib import get_close_matches
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from cachescope.adapters.contract import Adapter
from cachescope.core import open_frames, open_hooks  # noqa: F401  # importing the hooks makes their kinds
from cachescope.core.charging import Ledger, SizingBudget, Weigher
from cachescope.core.errors import ConfigurationError
from cachescope.core.open_keys import Place, bare
from cachescope.core.open_ledger import OpenLedger
from cachescope.core.sizing import Sizer

_NAMES: dict[str, tuple[str, ...]] = {
    "open_lookup": (
        *(
            "get",
            "fetch",
            "lookup",
            "look_up",
            "read",
            "retrieve",
            "find",
            "__getitem__",
            "get_item",
            "getitem",
            "peek",
        ),
        *(
            "cache_get",
            "get_cache",
            "get_cached",
            "get_value",
            "get_from_cache",
            "get_entry",
            "try_get",
            "aget",
            "query",
        ),
        *("get_async", "async_get"),
    ),
    "open_set": (
        *(
            "set",
            "put",
            "store",
            "write",
            "save",
            "insert",
            "__setitem__",
            "set_item",
            "setitem",
            "cache_set",
            "set_cache",
        ),
        *("put_item", "set_value", "upsert", "update_key", "remember", "aset", "set_async", "async_set", "set_entry"),
        *("set_in_cache", "add_to_cache", "cache_put", "put_cache", "put_value"),
    ),
    "open_add": ("add", "add_item", "setnx", "set_if_absent", "put_if_absent", "aadd", "set_if_not_exists"),
    "open_delete": (
        *(
            "delete",
            "remove",
            "drop",
            "discard",
            "invalidate",
            "evict",
            "__delitem__",
            "delete_item",
            "delitem",
            "unset",
        ),
        *(
            "forget",
            "expire_key",
            "cache_delete",
            "delete_key",
            "remove_key",
            "invalidate_key",
            "adelete",
            "rm",
            "dele",
        ),
        *("delete_async", "async_delete", "erase", "remove_item", "evict_key", "_remove", "_delete", "_drop", "_evict"),
        *("_discard", "_remove_key", "_delete_key", "_evict_key", "_remove_entry", "_delete_entry", "_del", "expire"),
        *("_expire_key", "_expire", "_invalidate"),
    ),
    "open_pop": ("pop", "take", "get_and_delete", "pop_item", "apop"),
    "open_popitem": ("popitem", "pop_oldest", "poplast", "popfirst", "pop_lru", "pop_random"),
    "open_clear": (
        *("clear", "flush", "reset", "purge", "flush_all", "clear_all", "clear_cache", "wipe", "empty", "delete_all"),
        *("remove_all", "invalidate_all", "cache_clear", "aclear", "flushall", "drop_all", "truncate", "flush_cache"),
        *("reset_cache", "evict_all", "purge_all"),
    ),
    "open_load": (
        *("get_or_set", "get_or_create", "get_or_load", "get_or_compute", "setdefault", "get_or_add", "get_or_fetch"),
        *("get_or_else", "get_or_put", "fetch_or_compute", "get_or_insert", "compute_if_absent", "get_or_store"),
        *("aget_or_set", "load", "memoize_call", "get_or_call", "get_or_make", "fetch_or_load", "get_or_generate"),
    ),
    "open_expire": (
        *("expire", "expire_all", "expire_entries", "expire_keys", "cleanup", "clean_up", "clean", "sweep", "prune"),
        *("cleanup_expired", "clean_expired", "purge_expired", "remove_expired", "delete_expired", "evict_expired"),
        *("clear_expired", "drop_expired", "sweep_expired", "expire_old", "gc", "collect", "vacuum", "reap", "purge"),
        *("expire_items", "remove_stale", "purge_stale", "drop_stale", "cull_expired", "invalidate_expired"),
    ),
    "open_evict": (
        *("evict", "evict_if_needed", "evict_lru", "evict_lfu", "evict_oldest", "evict_one", "evict_entries", "cull"),
        *("trim", "shrink", "enforce_limit", "enforce_size", "make_room", "maybe_evict", "check_size", "evict_fifo"),
        *("evict_items", "evict_random", "ensure_capacity", "resize", "evict_until", "shrink_to_fit", "evict_batch"),
    ),
    "open_quiet": (
        *("__contains__", "contains", "exists", "has", "has_key", "is_cached", "__len__", "size", "keys", "values"),
        *("items", "stats", "info", "get_stats", "cache_info", "__repr__", "__str__", "__eq__", "ttl", "get_ttl"),
        *("snapshot", "to_dict", "dump"),
    ),
    "open_change": (
        *(
            "incr",
            "increment",
            "decr",
            "decrement",
            "touch",
            "replace",
            "append",
            "prepend",
            "incrby",
            "decrby",
            "renew",
        ),
        *("refresh_ttl", "set_ttl", "extend", "persist"),
    ),
    "open_lookup_many": (
        *("get_many", "get_batch", "get_multi", "mget", "multi_get", "get_all", "fetch_many", "fetch_all", "bulk_get"),
        *("fetch_batch", "read_many", "lookup_many", "batch_get", "get_bulk", "multiget", "aget_many", "load_many"),
    ),
    "open_set_many": (
        *("set_many", "set_batch", "set_multi", "mset", "multi_set", "put_many", "store_many", "bulk_set", "put_batch"),
        *("batch_set", "set_bulk", "put_all", "set_all", "write_many", "update", "multiset", "aset_many", "add_many"),
        *("store_batch", "insert_many"),
    ),
    "open_delete_many": (
        *("delete_many", "delete_batch", "delete_multi", "mdelete", "multi_delete", "remove_many", "bulk_delete"),
        *("batch_delete", "delete_bulk", "invalidate_many", "drop_many", "evict_many", "adelete_many", "mdel"),
    ),
}
"""Methods by what they are for. A name that stands under several is told apart by its parameters."""
_KEYLESS = frozenset(("open_clear", "open_expire", "open_evict", "open_popitem"))

OPERATIONS: dict[str, str] = {
    "get": "open_lookup",
    "set": "open_set",
    "add": "open_add",
    "delete": "open_delete",
    "pop": "open_pop",
    "popitem": "open_popitem",
    "clear": "open_clear",
    "get_or_set": "open_load",
    "setdefault": "open_load",
    "expire": "open_expire",
    "evict": "open_evict",
    "contains": "open_quiet",
    "update": "open_change",
    "get_batch": "open_lookup_many",
    "get_many": "open_lookup_many",
    "set_batch": "open_set_many",
    "set_many": "open_set_many",
    "delete_batch": "open_delete_many",
    "delete_many": "open_delete_many",
}
"""What ``operations=`` may say that a method does."""

_NO_KEYS = frozenset(
    (
        *("url", "uri", "request", "block", "timeout", "section", "entity", "path", "filename", "file", "query", "sql"),
        *(
            "size",
            "n",
            "count",
            "index",
            "amount",
            "chunk_size",
            "nbytes",
            "fp",
            "stream",
            "msg",
            "message",
            "statement",
        ),
    )
)
"""A first parameter of such a name is no cache key."""
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
        for kind, names in _NAMES.items():
            for name in names:
                for method in (name, f"_{name}"):
                    if method.startswith("___") or (method in found and kind not in _KEYLESS):
                        continue
                    function = inspect.getattr_static(cls, method, None)
                    if method in ("__repr__", "__str__", "__eq__") and function is getattr(object, method):
                        continue
                    if _is_hookable(function) and not _hidden(obj, method) and _takes(kind, method, function):
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
        return _places(bare(obj))

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """The likeliest inner dict."""
        obj = bare(obj)
        for place in _places(obj)[:1]:
            return place.find(obj)
        return None

    def ledger(self, obj: Any, sizer: Sizer, budget: SizingBudget, weigher: Weigher | None) -> Ledger:
        """A ledger that writes down every entry, so that those that leave unseen are freed too."""
        inner = bare(obj)
        return OpenLedger(sizer, budget, weigher, _places(inner), _knows_times(inner))

    def container_bytes(self, obj: Any) -> int:
        """The tables of all the dicts, lists, orders and queues it has, above those of empty ones."""
        obj = bare(obj)
        place = _places(obj)[:1]
        entries = place[0].find(obj) if place else None
        total = 0
        for value in _attributes(obj).values():
            cls = type(value)
            base = next((c for c in cls.__mro__ if c.__module__ in ("builtins", "collections")), object)
            if base not in _CONTAINERS:
                continue
            sizeof, empty = _CONTAINERS[base]
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
        attributes = _attributes(bare(obj))
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
    methods = sorted({m for base in cls.__mro__[:-1] for m, f in vars(base).items() if _is_hookable(f)})
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


# Recognising


def _is_foreign(cls: type) -> bool:
    """Whether a class belongs to the standard library, or to one whose objects are no caches."""
    top = (cls.__module__ or "").partition(".")[0]
    if top == "__main__":
        return False
    return (top in sys.stdlib_module_names and not issubclass(cls, _WEAK)) or any(
        (base.__module__ or "").partition(".")[0] in _NO_CACHES for base in cls.__mro__[:-1]
    )


_WEAK = (WeakValueDictionary, WeakKeyDictionary)


def _is_hookable(function: Any) -> bool:
    return (
        isinstance(function, FunctionType)
        and not inspect.isgeneratorfunction(function)
        and not inspect.isasyncgenfunction(function)
    )


def _hidden(obj: Any, method: str) -> bool:
    """Whether the object has an attribute of its own in front of its class's method."""
    try:
        return method in object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return False


def _takes(kind: str, name: str, function: Any) -> bool:
    """Whether a method's parameters fit what its name says."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    various = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    first = required[0].name if required else ""
    if kind in ("open_set", "open_add"):
        return len(required) >= 2 and first not in _NO_KEYS
    if kind == "open_load":
        fits = len(positional) >= 2 or name.strip("_").startswith("get_or") or name == "setdefault"
        return bool(required) and fits and first not in _NO_KEYS and (name.strip("_") != "load" or len(required) >= 2)
    if kind in ("open_lookup", "open_pop"):
        return len(required) == 1 + (first in open_frames.NAMESPACE_NAMES) and first not in _NO_KEYS
    if kind == "open_delete":
        if name.strip("_") in ("expire", "evict", "invalidate") and not required and not various:
            return False
        # A number of entries or a moment is no key.
        return (bool(required) and first not in (*_NO_KEYS, "now", "force", "timestamp")) or (various and not required)
    if kind in _KEYLESS:
        return not required or (
            kind in ("open_expire", "open_evict") and first in ("now", "n", "count", "timestamp", "size")
        )
    if kind in ("open_lookup_many", "open_set_many", "open_delete_many"):
        keywords = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return bool(positional) or various or (keywords and kind == "open_set_many")
    return True


def _knows_times(obj: Any) -> bool:
    """Whether the class has to do with expiry: a parameter or an attribute is named after it."""
    names = set(_attributes(obj))
    for cls in type(obj).__mro__[:-1]:
        for name, function in vars(cls).items():
            names.add(name)
            if isinstance(function, FunctionType):
                code = function.__code__
                names.update(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return any(part in name.lower() for name in names for part in _TIMES)


# Looking from the side

_CONTAINERS: dict[type, tuple[Callable[[Any], int], int]] = {
    dict: (dict.__sizeof__, {}.__sizeof__()),
    OrderedDict: (OrderedDict.__sizeof__, OrderedDict[Any, Any]().__sizeof__()),
    defaultdict: (defaultdict.__sizeof__, {}.__sizeof__()),
    list: (list.__sizeof__, [].__sizeof__()),
    set: (set.__sizeof__, set[Any]().__sizeof__()),
    deque: (deque.__sizeof__, deque[Any]().__sizeof__()),
}
"""How much each takes, and how much of that an empty one does."""


def _attributes(obj: Any) -> dict[str, Any]:
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


def _places(obj: Any) -> tuple[Place, ...]:
    rated: list[tuple[float, int, Place]] = []
    attributes = _attributes(obj)
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
            for deeper, held in _attributes(value).items():
                if isinstance(held, dict) and not deeper.startswith("_self_"):
                    rated.append((_rating(f"{name}_{deeper}", held), len(rated), Place(name, deeper)))
    rated = [row for row in rated if row[0] > -3]
    return tuple(place for _, _, place in sorted(rated, key=lambda row: (-row[0], row[1])))


def _inside(value: Any) -> tuple[str, dict[Any, Any]] | None:
    """The dict inside a cache of a library that keeps one."""
    for attribute in ("_Cache__data", "data"):
        if attribute == "data" and not isinstance(value, (UserDict, *_WEAK)):
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


ADAPTER = HomemadeAdapter()
