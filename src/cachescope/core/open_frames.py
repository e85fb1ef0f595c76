"""Operations in progress on home-made caches, and which parameters of a method are its key and its value.

A :class:`Frame` is found through a contextvar, so it follows tasks; a dead one, which a timer or a task made inside has
copied, is passed over. Neither the identity of a task nor that of a thread is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from time import perf_counter_ns
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began
from cachescope.core.state import MISSING, State

(
    LOOKUP,
    SET,
    ADD,
    DELETE,
    POP,
    POPITEM,
    CLEAR,
    LOAD,
    EXPIRE,
    EVICT,
    QUIET,
    CHANGE,
    LOOKUP_MANY,
    SET_MANY,
    DELETE_MANY,
) = range(15)
READING = frozenset((LOOKUP, LOAD, LOOKUP_MANY))
SETTING = frozenset((SET, ADD, SET_MANY, CHANGE))
REMOVING = frozenset((DELETE, POP, DELETE_MANY))
MANY = frozenset((LOOKUP_MANY, SET_MANY, DELETE_MANY))
CAUSES = {
    SET: b.EVICTED,
    ADD: b.EVICTED,
    SET_MANY: b.EVICTED,
    CHANGE: b.EVICTED,
    LOAD: b.EVICTED,
    EVICT: b.EVICTED,
    LOOKUP: b.EXPIRED,
    LOOKUP_MANY: b.EXPIRED,
    EXPIRE: b.EXPIRED,
    QUIET: b.EXPIRED,
    CLEAR: b.CLEARED,
}
"""Why an entry other than the operation's own leaves inside it; deleted unless said here."""


# Frames


class Frame:
    """An operation in progress on one cache object."""

    __slots__ = (
        "before",
        "began",
        "cause",
        "done",
        "ends",
        "given",
        "inner",
        "key",
        "keys",
        "known",
        "left",
        "live",
        "looked",
        "old",
        "op",
        "parent",
        "plan",
        "serial",
        "state",
        "took_ns",
    )

    def __init__(self, op: int, state: State, plan: Plan, parent: Frame | None) -> None:
        self.op, self.plan, self.parent = op, plan, parent
        self.state: State | None = state
        self.serial = state.serial
        self.live = True
        self.began = self.took_ns = 0  # of the clock perf_counter_ns; 0 unless it is timed
        self.key: Any = MISSING  # as the caller gave it
        self.inner: Any = MISSING  # as the cache keeps it
        self.given: Any = MISSING  # the value to store
        self.old: Any = MISSING  # what was held before, for look-ups only
        self.before = 0  # id of what was held before
        self.known = False  # it was charged before
        self.left = False  # a method removed it inside
        self.keys: Any = None  # batches: the keys as given, each with (inner key, known, id held, hit before)
        self.done: set[Any] | None = None  # keys that inner operations have committed
        self.looked: set[Any] | None = None  # keys that inner look-ups have counted
        self.ends: tuple[Any, ...] = ()
        self.cause = CAUSES.get(op, b.DELETED)

    def begin_again(self, state: State, plan: Plan, key: Any, old: Any, known: bool) -> None:
        """Live again, for a plain operation on one key."""
        self.op, self.cause = plan.op, plan.cause
        self.plan, self.state = plan, state
        self.key = self.inner = key
        self.old = old if plan.reads else MISSING
        self.before = id(old) if old is not MISSING else 0
        self.known = known
        self.left = False
        self.live = True
        self.began = began(state) if TIMING.up else 0
        self.took_ns = 0

    def stop(self) -> int:
        """How long the call took that this stands for, in nanoseconds; 0 when it isn't timed."""
        if self.began:
            self.took_ns = perf_counter_ns() - self.began
            self.began = 0
        return self.took_ns

    def rest(self) -> None:
        """Die after an operation inside which nothing else happened."""
        self.live = False
        self.state = None
        self.key = self.inner = self.old = self.given = MISSING
        self.ends = ()

    def own(self, inner: Any) -> bool:
        """Whether this operation is about that key."""
        if self.inner is MISSING:
            return False
        return self.inner is inner or bool(self.inner == inner)

    def may_take_out(self, inside: Frame | None) -> bool:
        """Whether a key of its own that is missing now, in operation *inside*, may have been taken out by it.

        A removal takes its key out. Look-ups and sets do so for a moment, to put it in again at the end: those around
        *inside* may be in the middle of that, while others wait for a lock, say.
        """
        if self.op in REMOVING:
            return True
        while inside is not None and self.op != SET_MANY:
            if inside is self:
                return True
            inside = inside.parent
        return False

    def pending_keys(self) -> set[Any]:
        """The keys that this operation will settle."""
        keys, inner = self.keys, self.inner  # another thread may ask while it ends
        if keys is not None:
            done = self.done or ()
            return {row[0] for row in keys.values() if row[0] not in done}
        if inner is MISSING:
            return set()
        try:
            return {inner}
        except TypeError:
            return set()

    def end(self) -> None:
        """Die, and hold nothing: a context that somebody copied may keep the frame itself."""
        self.live = False
        self.state = None
        self.key = self.inner = self.given = self.old = MISSING
        self.keys = self.done = self.looked = None
        self.ends = ()


frames: ContextVar[Frame | None] = ContextVar("cachescope_open_frames", default=None)


def outside() -> bool:
    """Whether no operation is in progress here, on whatever object."""
    frame = frames.get()
    return frame is None or (not frame.live and frame.parent is None)


def frame_of(state: State) -> tuple[Frame | None, Frame | None]:
    """``(the nearest live frame, the nearest live one on this object)``."""
    frame = frames.get()
    while frame is not None and not frame.live:
        frame = frame.parent
    nearest = frame
    serial = state.serial
    while frame is not None and (frame.serial != serial or not frame.live):
        frame = frame.parent
    return nearest, frame


# What a method's parameters are

_VALUE_NAMES = frozenset(
    ("value", "val", "v", "data", "obj", "item", "payload", "result", "entry", "content", "object")
)
_END_OF_KEY = _VALUE_NAMES | frozenset(
    (
        *("loader", "factory", "func", "fn", "f", "compute", "creator", "create", "producer", "callback", "supplier"),
        *("default", "fallback", "load", "fetch", "callable", "function", "getter", "builder", "coro", "awaitable"),
        *("ttl", "timeout", "expire", "expires", "ex", "max_age", "maker", "provider", "method", "call", "cb", "func_"),
    )
)
NAMESPACE_NAMES = frozenset(
    (
        *("namespace", "ns", "region", "bucket", "group", "prefix", "section", "table", "kind", "category", "scope"),
        *("collection", "tenant", "domain", "partition", "model", "tenant_id", "shard"),
    )
)
"""A first parameter of such a name is the first part of a key of several parts."""
_DEFAULT_NAMES = ("default", "fallback", "d", "default_value")


class Plan:
    """Which parameters of a method are the key, the value and the default.

    Args:
        original: The method's function.
        op: What it is for.
    """

    __slots__ = (
        "cause",
        "default",
        "default_at",
        "default_name",
        "key_names",
        "op",
        "reads",
        "value_at",
        "value_name",
        "various",
    )

    def __init__(self, original: Any, op: int) -> None:
        self.op, self.cause, self.reads = op, CAUSES.get(op, b.DELETED), op in (LOOKUP, LOAD)
        self.default: Any = None
        self.default_at, self.default_name = -1, ""
        self.value_at, self.value_name = 1, "value"
        self.key_names: tuple[str, ...] = ("key",)
        self.various = False
        try:
            parameters = list(inspect.signature(original).parameters.values())[1:]
        except (TypeError, ValueError):
            return
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.various = bool(parameters) and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
        names = [parameter.name for parameter in positional[:1]]
        if names and names[0] in NAMESPACE_NAMES and op not in MANY:
            for parameter in positional[1:]:
                if parameter.name in _END_OF_KEY or parameter.default is not parameter.empty:
                    break
                names.append(parameter.name)
        self.key_names = tuple(names) or ("key",)
        self.value_at = len(self.key_names)
        if len(positional) > self.value_at:
            self.value_name = positional[self.value_at].name
        for at, parameter in enumerate(positional):
            if parameter.name in _DEFAULT_NAMES and at > 0:
                self.default_at, self.default_name = at, parameter.name
                if parameter.default is not parameter.empty:
                    self.default = parameter.default

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The key that a call is about; a tuple when it has several parts; MISSING when it has none."""
        names = self.key_names
        if len(names) == 1:
            return args[0] if args else kwargs.get(names[0], MISSING)
        found = (*args[: len(names)], *(kwargs.get(name, MISSING) for name in names[len(args) :]))
        return MISSING if any(part is MISSING for part in found) else found

    def value_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value that a call wants to store."""
        return args[self.value_at] if len(args) > self.value_at else kwargs.get(self.value_name, MISSING)

    def default_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a look-up gives when there is nothing."""
        at = self.default_at
        if at < 0:
            return None
        return args[at] if len(args) > at else kwargs.get(self.default_name, self.default)

    def keys_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        """The keys (a mapping of keys to values, or keys) of a batch, and the arguments to call with."""
        if self.various:
            return list(args), args
        name = self.key_names[0]
        batch = args[0] if args else kwargs.get(name, MISSING)
        if batch is MISSING:
            return (dict(kwargs) if self.op == SET_MANY else []), args
        if isinstance(batch, dict):
            return (dict(batch) if self.op == SET_MANY else list(batch)), args
        if isinstance(batch, (list, tuple, set, frozenset)) or type(batch) in _KEY_VIEWS:
            return (pairs(batch) if self.op == SET_MANY else list(batch)), args
        if isinstance(batch, Iterator) and args:
            seen: list[Any] = []
            return seen, (_recorded(batch, seen), *args[1:])
        return [], args


_KEY_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.items()), type({}.values()), range)


def pairs(batch: Iterable[Any]) -> dict[Any, Any]:
    """A dict of those members of a batch that are pairs."""
    found: dict[Any, Any] = {}
    for row in batch:
        if type(row) in (tuple, list) and len(row) >= 2:
            try:
                found[row[0]] = row[1]
            except TypeError:
                continue
    return found


def _recorded(batch: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for row in batch:
        seen.append(row)
        yield row
