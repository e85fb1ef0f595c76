"""What the methods of home-made caches are called and take, by what they are for."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

from cachescope.core import open_frames

NAMES: dict[str, tuple[str, ...]] = {
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
KEYLESS = frozenset(("open_clear", "open_expire", "open_evict", "open_popitem"))

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


def is_hookable(function: Any) -> bool:
    """Whether it is a plain function or coroutine function: generators are left alone."""
    return (
        isinstance(function, FunctionType)
        and not inspect.isgeneratorfunction(function)
        and not inspect.isasyncgenfunction(function)
    )


def takes(kind: str, name: str, function: Any) -> bool:
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
    if kind in KEYLESS:
        return not required or (
            kind in ("open_expire", "open_evict") and first in ("now", "n", "count", "timestamp", "size")
        )
    if kind in ("open_lookup_many", "open_set_many", "open_delete_many"):
        keywords = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return bool(positional) or various or (keywords and kind == "open_set_many")
    return True
