"""Hooks for caches whose insides nobody has described: home-made ones, sync and async.

A stock hook (:mod:`cachescope.core.hooks`) knows what its library does. These know only what a method is *for*, and settle
what a call meant by comparing what the cache holds with what its ledger has: *held now* against *charged now*. Nothing
remembered from before an ``await`` decides, so overlapping calls of one key leave the ledger right.

* :class:`OpenLedger` writes down every entry's charge, so that an entry whose leaving nobody saw can still be freed.
* A :class:`Frame` is an operation in progress. It is found through a contextvar, so it follows tasks; a dead frame, which
  a timer or a task made inside has copied, is passed over (INTERCEPTION 1.3). No task identity, no thread identity.
* Entries that leave unseen inside a call (``self._d.popitem()``) are found among the keys at the ends of the mapping.
  Others are counted at once, by length, and their bytes are freed by :meth:`OpenLedger.reconcile`, off the call path.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterable, Iterator, ValuesView
from contextvars import ContextVar
from itertools import islice
from sys import _getframe, getrefcount
from types import CoroutineType, FunctionType
from typing import Any

import wrapt

from cachescope.core import batch as b
from cachescope.core.faults import swallow
from cachescope.core.hooks import KINDS, Hook, Meet, owned_state
from cachescope.core.open_keys import bare, holds, parts_of
from cachescope.core.open_ledger import SMALL, OpenLedger, current_data, drop, newest_first, put, settle_drift
from cachescope.core.state import ARMED, MISSING, RETIRED, State

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
_KIND_NAMES = {
    "open_lookup": LOOKUP,
    "open_set": SET,
    "open_add": ADD,
    "open_delete": DELETE,
    "open_pop": POP,
    "open_popitem": POPITEM,
    "open_clear": CLEAR,
    "open_load": LOAD,
    "open_expire": EXPIRE,
    "open_evict": EVICT,
    "open_quiet": QUIET,
    "open_change": CHANGE,
    "open_lookup_many": LOOKUP_MANY,
    "open_set_many": SET_MANY,
    "open_delete_many": DELETE_MANY,
}
_READING = frozenset((LOOKUP, LOAD, LOOKUP_MANY))
_SETTING = frozenset((SET, ADD, SET_MANY, CHANGE))
_REMOVING = frozenset((DELETE, POP, DELETE_MANY))
_MANY = frozenset((LOOKUP_MANY, SET_MANY, DELETE_MANY))
_LEAVES_ENDS = frozenset((SET, ADD, SET_MANY, LOAD, LOOKUP, LOOKUP_MANY, EVICT, EXPIRE, POPITEM, CHANGE))
"""Operations inside which an entry may leave from an end of the mapping."""
_CAUSES = {
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

_VIEWS: frozenset[Any] = frozenset(
    vars(view)[method].__code__
    for view in (ItemsView, ValuesView)
    for method in ("__iter__", "__contains__")
    if isinstance(vars(view).get(method), FunctionType)
)
"""Code that reads a mapping entry by entry for ``items()`` and ``values()``: no look-ups."""


# Frames


class Frame:
    """An operation in progress on one cache object."""

    __slots__ = (
        "before",
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
    )

    def __init__(self, op: int, state: State, plan: Plan, parent: Frame | None) -> None:
        self.op, self.plan, self.parent = op, plan, parent
        self.state: State | None = state
        self.serial = state.serial
        self.live = True
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
        self.cause = _CAUSES.get(op, b.DELETED)

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
        if self.op in _REMOVING:
            return True
        while inside is not None and self.op != SET_MANY:
            if inside is self:
                return True
            inside = inside.parent
        return False

    def pending_keys(self) -> set[Any]:
        """The keys that this operation will settle."""
        if self.keys is not None:
            done = self.done or ()
            return {row[0] for row in self.keys.values() if row[0] not in done}
        if self.inner is MISSING:
            return set()
        try:
            return {self.inner}
        except TypeError:
            return set()

    def end(self) -> None:
        """Die, and hold nothing: a context that somebody copied may keep the frame itself."""
        self.live = False
        self.state = None
        self.key = self.inner = self.given = self.old = MISSING
        self.keys = self.done = self.looked = None
        self.ends = ()


_getattribute = object.__getattribute__
_dict_get = dict.get
_dict_len = dict.__len__
_dict_iter = dict.__iter__
_dict_contains = dict.__contains__
_ordered_iter = OrderedDict.__iter__
_Proxy = wrapt.BaseObjectProxy
_frames: ContextVar[Frame | None] = ContextVar("cachescope_open_frames", default=None)


def _frame_of(state: State) -> tuple[Frame | None, Frame | None]:
    """``(the nearest live frame, the nearest live one on this object)``."""
    frame = _frames.get()
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
        self.op, self.cause, self.reads = op, _CAUSES.get(op, b.DELETED), op in (LOOKUP, LOAD)
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
        if names and names[0] in NAMESPACE_NAMES and op not in _MANY:
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
            return (_pairs(batch) if self.op == SET_MANY else list(batch)), args
        if isinstance(batch, Iterator) and args:
            seen: list[Any] = []
            return seen, (_recorded(batch, seen), *args[1:])
        return [], args


_KEY_VIEWS = (type({}.keys()), type({}.items()), type({}.values()), range)


def _pairs(batch: Iterable[Any]) -> dict[Any, Any]:
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


# Beginning and ending an operation


def _begin(
    plan: Plan, state: State, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Frame | None, tuple[Any, ...]]:
    """Begin an operation; no frame when the call is part of one that settles for it."""
    ledger = state.ledger
    if type(ledger) is not OpenLedger:
        return None, args
    op = plan.op
    nearest, parent = _frame_of(state)
    if parent is not None and op in _READING and parent.op not in _READING:
        return None, args  # the cache's own reading
    if op == LOOKUP and parent is None and _getframe(2).f_code in _VIEWS:
        return None, args
    if op == QUIET and parent is not None:
        return None, args
    data = current_data(state, ledger, bare(self))
    many = op in _MANY or (op == DELETE and plan.various)
    key = inner = MISSING
    if op not in (CLEAR, EXPIRE, EVICT, QUIET, POPITEM) and not many:
        key = plan.key_of(args, kwargs)
        if key is not MISSING:
            inner = ledger.resolve(data, key)
            if parent is not None and parent.own(inner) and _leave_to(parent, op):
                return None, args
    if data is not None and (ledger.flying or state.entries != dict.__len__(data)):
        cause = ledger.external_cause() if parent is None else parent.cause
        if parent is None and ledger.flying:
            cause = _flying_cause(ledger, cause)
        settle_drift(state, ledger, data, cause, () if parent is None else parent.ends, parent)
    if not ledger.idle and not ledger.flying:
        ledger.idle.append(_idle_frame(state, plan))
    frame = Frame(op, state, plan, nearest)
    if key is not MISSING:
        frame.key, frame.inner = key, inner
        frame.known = ledger.has(inner)
        if data is not None:
            held = _peek(data, inner)
            frame.before = id(held) if held is not MISSING else 0
            if held is MISSING and frame.known and (ledger.lost or not ledger.flying):
                drop(state, ledger, inner, ledger.external_cause())
                frame.known = False
            if held is not MISSING and not frame.known and ledger.rest:
                frame.known = True
            if op in (LOOKUP, LOAD, POP):
                frame.old = held
        if op in _SETTING:
            frame.given = plan.value_of(args, kwargs)
        if parent is not None and op in (DELETE, POP) and not parent.own(inner):
            frame.cause = parent.cause
    elif many:
        keys, args = plan.keys_of(args, kwargs)
        if op == LOOKUP_MANY and parent is not None and parent.op in (LOOKUP, LOAD) and parent.key is not MISSING:
            frame.looked = {parent.key}  # a look-up made by way of a batch of one
        frame.keys = _rows(ledger, data, keys, op)
        if keys is not None and not isinstance(keys, dict):
            frame.given = keys  # an iterator's keys are known when it has been read
        elif op == SET_MANY:
            frame.given = keys
    elif parent is not None and op in (POPITEM, QUIET):
        frame.cause = parent.cause
    if data is not None and op in _LEAVES_ENDS:
        frame.ends = _ends(ledger, data)
    ledger.flying[id(frame)] = frame
    _frames.set(frame)
    return frame, args


def _idle_frame(state: State, plan: Plan) -> Frame:
    frame = Frame(LOOKUP, state, plan, None)
    frame.end()
    return frame


def _leave_to(parent: Frame, op: int) -> bool:
    """Whether an operation inside *parent*, on the same key, is settled by it."""
    if op in (DELETE, POP):
        if parent.op in (LOOKUP, LOAD) and op == DELETE:
            parent.left = True
        return True
    if op in _READING:
        return parent.op != LOOKUP_MANY
    return op in _SETTING


def _flying_cause(ledger: OpenLedger, otherwise: int) -> int:
    """Why something left while others' operations are in progress."""
    ops = {frame.op for frame in list(ledger.flying.values())}
    if ops & {SET, ADD, SET_MANY, LOAD, EVICT}:
        return b.EVICTED
    return b.EXPIRED if ops & {EXPIRE, LOOKUP} else otherwise


def _peek(data: dict[Any, Any], key: Any) -> Any:
    try:
        return dict.get(data, key, MISSING)
    except Exception:
        return MISSING


def _rows(ledger: OpenLedger, data: dict[Any, Any] | None, keys: Any, op: int) -> dict[Any, tuple[Any, bool, Any]]:
    rows: dict[Any, tuple[Any, bool, Any]] = {}
    for key in keys:
        inner = ledger.resolve(data, key)
        try:
            held = MISSING if data is None else _peek(data, inner)
            rows[key] = (
                inner,
                ledger.has(inner),
                held if op == LOOKUP_MANY else id(held) if held is not MISSING else 0,
            )
        except TypeError:
            continue
    return rows


def _ends(ledger: OpenLedger, data: dict[Any, Any]) -> tuple[Any, ...]:
    """The keys at both ends, of those mappings where finding them is quick.

    A plain dict whose oldest entries were deleted passes over the gaps again at each look; it is only asked while that is
    known to find something.
    """
    try:
        if isinstance(data, OrderedDict):
            front = OrderedDict.__iter__(data)
            return (*islice(front, 2), *islice(OrderedDict.__reversed__(data), 1))
        if ledger.ends_useful > 0 and dict.__len__(data) > SMALL:
            return (*islice(dict.__iter__(data), 2), *islice(dict.__reversed__(data), 1))
    except RuntimeError:  # another thread changed it
        return ()
    return ()


def _end(frame: Frame, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
    """Settle an operation by what the cache holds now. Never raises."""
    if not frame.live:
        return
    state = frame.state
    try:
        if _frames.get() is frame:
            _frames.set(frame.parent)
        ledger = state.ledger if state is not None else None
        if state is None or type(ledger) is not OpenLedger:
            return
        if ledger.flying.pop(id(frame), None) is None:
            ledger.flying.pop(1, None)
        if state.record is None:
            return
        data = current_data(state, ledger, bare(self))
        parent = frame.parent
        while parent is not None and (parent.serial != frame.serial or not parent.live):
            parent = parent.parent
        if data is not None:
            _candidates(state, ledger, data, frame)
        _SETTLE.get(frame.op, _settle_nothing)(state, ledger, data, frame, parent, (args, kwargs, result, error))
        if data is not None and (ledger.flying or state.entries != dict.__len__(data)):
            settle_drift(state, ledger, data, frame.cause, frame.ends, frame)
    except Exception as fault:
        swallow("open hook", fault)
    finally:
        frame.end()


def _candidates(state: State, ledger: OpenLedger, data: dict[Any, Any], frame: Frame) -> None:
    """Entries that were at the ends before, and are gone."""
    for key in frame.ends:
        if key in ledger.charges and not dict.__contains__(data, key) and not frame.own(key):
            if ledger.flying and ledger.is_leaving(key, frame):
                continue
            drop(state, ledger, key, frame.cause, now=True)
            ledger.ends_useful = 8


Call = tuple[tuple[Any, ...], dict[str, Any], Any, Any]


def _settle_nothing(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """What left is found by the mapping's length."""


def _settle_set(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    if frame.key is MISSING:
        return
    if data is None:
        if call[3] is None and not (frame.op == ADD and (call[2] is False or frame.known)) and frame.op != CHANGE:
            put(state, ledger, frame.inner, frame.given, frame.given, True)
        return
    inner = frame.inner
    held = _peek(data, inner)
    if not ledger.sure and held is not MISSING:
        data = _gather_evidence(state, ledger, data, inner, frame.given)
        held = _peek(data, inner)
    if held is MISSING and not ledger.has(inner):
        inner = _find_inner(ledger, data, frame)
        if inner is MISSING or (frame.done and inner in frame.done):
            if inner is MISSING and call[3] is None and frame.given is not MISSING and not frame.done:
                ledger.stale = True  # stored under a key that we don't know, or refused
            return
        held = _peek(data, inner)
    if frame.done and inner in frame.done:
        return
    settle_key(state, ledger, inner, held, frame, _Was(frame.known, frame.before, frame.given), parent)


class _Was:
    __slots__ = ("before", "given", "known")

    def __init__(self, known: bool, before: int, given: Any) -> None:
        self.known, self.before, self.given = known, before, given


def settle_key(
    state: State, ledger: OpenLedger, inner: Any, held: Any, frame: Frame, was: _Was, parent: Frame | None
) -> None:
    """Settle a set of one key: *held* is what the cache has for it now."""
    if held is MISSING:
        if ledger.has(inner):
            drop(state, ledger, inner, b.EVICTED if frame.op == SET_MANY else b.DELETED)
    else:
        parts = ledger.charges.get(inner)
        if parts is None:
            put(state, ledger, inner, held, was.given, _suspicious(held, was.given))
        elif parts[4] != id(held) or was.known:
            same = was.before == id(held)
            if same and was.given is not MISSING and not holds(held, was.given):
                if type(held) in _UNCHANGING or frame.op == ADD:
                    return  # refused: what was there is still there
            elif same and frame.op == ADD:
                return
            if was.given is MISSING and same:
                return
            put(state, ledger, inner, held, was.given, _suspicious(held, was.given))
        elif was.given is not MISSING and holds(held, was.given):
            # Another call that overlapped has settled it, or one of another value that lay at the same address.
            put(state, ledger, inner, held, was.given, _suspicious(held, MISSING), replaced=False)
    _tell(parent, inner)


_UNCHANGING = (str, bytes, int, float, bool, type(None), tuple, frozenset)


def _suspicious(held: Any, given: Any) -> bool:
    """Whether somebody else seems to hold it too: more references than the cache, its caller and we have."""
    return getrefcount(held) > (10 if held is given else 8)


def _tell(parent: Frame | None, inner: Any) -> None:
    """Tell the operations around that this key is settled."""
    serial = parent.serial if parent is not None else 0
    while parent is not None:
        if parent.live and parent.serial == serial:
            if parent.done is None:
                parent.done = set()
            parent.done.add(inner)
        parent = parent.parent


def _gather_evidence(state: State, ledger: OpenLedger, data: dict[Any, Any], inner: Any, given: Any) -> dict[Any, Any]:
    """Of several dicts, the one in which a value just set is found holds the entries."""
    if len(ledger.places) == 1 or (given is not MISSING and holds(_peek(data, inner), given)):
        ledger.sure = len(ledger.places) == 1 or not _is_commonplace(given)
        return data
    target = state.target()
    if target is None or given is MISSING or _is_commonplace(given):
        return data
    obj = bare(target)
    for place in ledger.places:
        other = place.find(obj)
        if other is not None and other is not data and holds(_peek(other, inner), given):
            ledger.place, ledger.sure = place, True
            ledger.boundary = ledger.boundary | {id(other)}
            state.data = other
            return other
    return data


def _is_commonplace(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float) or value in ("", b"")


def _find_inner(ledger: OpenLedger, data: dict[Any, Any], frame: Frame) -> Any:
    """The key under which a set has stored what its caller calls otherwise; MISSING when it isn't known."""
    inner: Any = MISSING
    if frame.done is not None and len(frame.done) == 1:
        (inner,) = frame.done
    else:
        try:
            newest = next(newest_first(data), MISSING)
        except RuntimeError:
            newest = MISSING
        if newest is not MISSING and not (ledger.flying and ledger.is_flying(newest)):
            if newest not in ledger.charges or (
                ledger.transforms.plausible(frame.key, newest) and holds(_peek(data, newest), frame.given)
            ):
                inner = newest
    if inner is not MISSING:
        ledger.transforms.learn(frame.key, inner)
    return inner


def _settle_set_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    given = frame.given if isinstance(frame.given, dict) else _pairs(frame.given or ())
    done = frame.done or ()
    rows = frame.keys or {}
    for key, value in given.items():
        inner, known, before = rows.get(key, (MISSING, False, 0))
        if inner is MISSING:
            inner = ledger.resolve(data, key)
        if data is None:
            if inner not in done and call[3] is None:
                put(state, ledger, inner, value, value, True)
                _tell(parent, inner)
            continue
        if not dict.__contains__(data, inner):
            inner = ledger.resolve(data, key)
        if inner in done:
            continue
        settle_key(state, ledger, inner, _peek(data, inner), frame, _Was(known, before, value), parent)


def _settle_delete(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    if frame.keys is not None:
        _settle_delete_many(state, ledger, data, frame, parent, call)
        return
    if frame.key is MISSING:
        return
    inner = frame.inner
    if data is None:
        if call[3] is None and call[2] is not False and drop(state, ledger, inner, frame.cause):
            _tell(parent, inner)
    elif ledger.has(inner) and _peek(data, inner) is MISSING:
        drop(state, ledger, inner, frame.cause, now=True)
        _tell(parent, inner)


def _settle_delete_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    keys = [row[0] for row in frame.keys.values()] if frame.keys else list(frame.given or ())
    for inner in keys:
        if ledger.has(inner) and (_peek(data, inner) is MISSING if data is not None else call[3] is None):
            drop(state, ledger, inner, frame.cause, now=True)
            _tell(parent, inner)


def _settle_clear(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    if data is None:
        emptied = call[3] is None and not call[0] and not call[1]
    else:
        emptied = dict.__len__(data) == 0 and call[3] is None
    if emptied and not ledger.flying:
        state.commit_clear(state.entries)
    elif emptied:
        for key in list(ledger.charges):
            if not ledger.is_flying(key) and (data is None or not dict.__contains__(data, key)):
                drop(state, ledger, key, b.CLEARED)
        state.clears += 1


def _settle_popitem(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    result = call[2]
    if type(result) is tuple and len(result) == 2:
        try:
            gone = ledger.has(result[0]) and (data is None or not dict.__contains__(data, result[0]))
        except TypeError:
            return
        if gone:
            drop(state, ledger, result[0], frame.cause, now=True)
            _tell(parent, result[0])


def _settle_change(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """``incr``, ``touch`` and the like: charged again if it holds something else now."""
    if frame.key is MISSING or data is None:
        return
    held = _peek(data, frame.inner)
    parts = ledger.charges.get(frame.inner)
    if held is MISSING:
        if parts is not None:
            drop(state, ledger, frame.inner, b.DELETED)
    elif parts is None or parts[4] != id(held):
        put(state, ledger, frame.inner, held, MISSING, False)
    _tell(parent, frame.inner)


# Look-ups


def _settle_lookup(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """A hit when the key was there and what it held was returned; then what became of the entry."""
    args, kwargs, result, error = call
    if frame.key is MISSING:
        return
    default = frame.plan.default_of(args, kwargs) if frame.op != LOAD else MISSING
    inner, old = frame.inner, frame.old
    resident = old is not MISSING
    if data is None:
        hit, counts = _lookup_without_mapping(state, ledger, frame, result, error, default)
    elif error is not None:
        hit = False
        counts = isinstance(error, KeyError) or (
            isinstance(error, Exception) and not resident and not isinstance(error, TypeError)
        )
        _settle_read_entry(state, ledger, data, frame, MISSING)
    elif not resident and not ledger.transforms.trusted and inner is frame.key and ledger.transforms.known:
        # Its keys are made of ours in a way that we can't repeat: the result has to tell.
        entries = state.entries
        _settle_read_entry(state, ledger, data, frame, result)
        counts, hit = True, result is not None and result is not default and not frame.done and state.entries == entries
    else:
        counts = True
        after = _peek(data, inner) if resident else MISSING
        hit = resident
        if resident and after is old:
            if result is None or result is default:
                hit = holds(old, result)
        elif resident:
            hit = holds(old, result)
        _settle_read_entry(state, ledger, data, frame, result)
    if counts and not _looked(parent, frame.key):
        if hit:
            state.hidden_hits += 1
        else:
            state.hidden_misses += 1
        if ARMED in state.busy:
            _sample(state, inner, hit)


def _sample(state: State, key: Any, hit: bool) -> None:
    try:
        state.note_read(key, hit)
    except Exception as fault:
        swallow("read sample", fault)


def _looked(parent: Frame | None, key: Any) -> bool:
    """Mark a key as looked up for the batches around; True if one of them had it marked already."""
    serial = parent.serial if parent is not None else 0
    while parent is not None:
        if parent.live and parent.serial == serial and parent.op == LOOKUP_MANY:
            if parent.looked is None:
                parent.looked = set()
            try:
                if key in parent.looked:
                    return True
                parent.looked.add(key)
            except TypeError:
                return False
        parent = parent.parent
    return False


def _settle_read_entry(state: State, ledger: OpenLedger, data: dict[Any, Any], frame: Frame, result: Any) -> None:
    """What a look-up did to its own entry: dropped it, moved it, loaded it."""
    inner, old = frame.inner, frame.old
    held = _peek(data, inner)
    if held is MISSING and old is MISSING and frame.op == LOAD and result is not MISSING:
        inner = _find_inner(ledger, data, frame) if not ledger.has(inner) else inner
        if inner is MISSING:
            return
        held = _peek(data, inner)
    parts = ledger.charges.get(inner) if ledger.has(inner) else None
    if held is MISSING:
        if parts is not None:
            consumed = old is not MISSING and result is not MISSING and result is not None and holds(old, result)
            drop(state, ledger, inner, b.DELETED if consumed else b.EXPIRED, now=old is not MISSING)
    elif parts is None:
        if not ledger.rest or old is MISSING:
            put(state, ledger, inner, held, result if holds(held, result) else MISSING, _suspicious(held, result))
    elif parts[4] != id(held):
        moved = result is not MISSING and old is not MISSING and holds(old, result)
        if frame.left and not moved and parts[4] == frame.before:
            drop(state, ledger, inner, b.EXPIRED, now=True)
        put(state, ledger, inner, held, MISSING, _suspicious(held, MISSING), replaced=not moved)


def _lookup_without_mapping(
    state: State, ledger: OpenLedger, frame: Frame, result: Any, error: Any, default: Any
) -> tuple[bool, bool]:
    """A look-up in a cache whose entries can't be seen: the result tells. Returns (hit, whether it counts)."""
    parts = ledger.charges.get(frame.inner) if ledger.has(frame.inner) else None
    if error is not None:
        missed = isinstance(error, LookupError)
        if missed and parts is not None:
            drop(state, ledger, frame.inner, ledger.external_cause())
        return False, missed
    if frame.op == LOAD:
        if parts is None or frame.done:
            put(state, ledger, frame.inner, result, result, True)
            return False, True
        return True, True
    hit = result is not None and result is not default
    if not hit and parts is not None:
        if result is None and parts[4] == id(None):
            return True, True  # a stored None
        drop(state, ledger, frame.inner, b.EXPIRED if ledger.knows_ttl else b.EVICTED)
    return hit, True


def _settle_pop(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """A hit and a delete, or a miss; inside another operation, a removal only."""
    _, _, result, error = call
    if frame.key is MISSING:
        return
    inner = frame.inner
    if data is None:
        was = ledger.has(inner)
        left = error is None and drop(state, ledger, inner, frame.cause)
        hit = was and left
    else:
        left = frame.old is not MISSING and _peek(data, inner) is MISSING
        # An expired entry that is popped leaves, but is not returned.
        hit = left and error is None and (result is not None or holds(frame.old, None))
        if left and result is call[1].get("default", _NO_DEFAULT) and not holds(frame.old, result):
            hit = False
        if left and ledger.has(inner):
            drop(state, ledger, inner, frame.cause if hit or parent is not None else b.EXPIRED, now=True)
    if left:
        _tell(parent, inner)
    if parent is None and (error is None or isinstance(error, KeyError)):
        if hit:
            state.hidden_hits += 1
        else:
            state.hidden_misses += 1


_NO_DEFAULT: Any = object()


def _settle_lookup_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    result, error = call[2], call[3]
    rows = frame.keys
    if not rows and isinstance(frame.given, list) and frame.given:
        rows = _rows(ledger, data, frame.given, LOOKUP_MANY)
    looked = frame.looked or ()
    aligned = list(result) if isinstance(result, (list, tuple)) and len(result) == len(rows) else None
    for at, (key, (inner, _, old)) in enumerate(rows.items()):
        if data is not None and old is not MISSING:
            held = _peek(data, inner)
            if held is MISSING and ledger.has(inner):
                drop(state, ledger, inner, b.EXPIRED, now=True)
            elif held is not MISSING and held is not old:
                put(state, ledger, inner, held, MISSING, False, replaced=not any(holds(held, p) for p in parts_of(old)))
        if key in looked or error is not None:
            continue
        given: Any
        if isinstance(result, dict):
            given = result.get(key, MISSING)
        else:
            given = aligned[at] if aligned is not None else None
        if data is None or (old is MISSING and ledger.transforms.known and not ledger.transforms.trusted):
            hit = given is not MISSING and given is not None
        elif old is MISSING or given is MISSING:
            hit = False
        elif given is None and (isinstance(result, dict) or aligned is not None):
            hit = holds(old, None)
        else:
            hit = True
        if hit:
            state.hidden_hits += 1
        else:
            state.hidden_misses += 1


_SETTLE: dict[int, Callable[..., None]] = {
    LOOKUP: _settle_lookup,
    LOAD: _settle_lookup,
    SET: _settle_set,
    ADD: _settle_set,
    DELETE: _settle_delete,
    POP: _settle_pop,
    POPITEM: _settle_popitem,
    CLEAR: _settle_clear,
    CHANGE: _settle_change,
    LOOKUP_MANY: _settle_lookup_many,
    SET_MANY: _settle_set_many,
    DELETE_MANY: _settle_delete_many,
}


# The hooks


def _maker(op: int) -> Callable[[Any, Meet], Hook]:
    def make(original: Any, meet: Meet) -> Hook:
        plan = Plan(original, op)
        if inspect.iscoroutinefunction(original):
            return _async_hook(plan, original, meet)
        if len(plan.key_names) == 1 and not plan.various:
            if plan.reads:
                return _lookup_hook(plan, original, meet)
            if op == SET and plan.value_at == 1:
                return _set_hook(plan, original, meet)
        return _hook(plan, original, meet)

    return make


def _hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame = None
        try:
            state = owned_state(self, meet)
            if RETIRED not in state.busy:
                frame, args = _begin(plan, state, self, args, kwargs)
        except Exception as fault:
            swallow("open hook", fault)
        if frame is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            _end(frame, self, args, kwargs, MISSING, error)
            raise
        if hasattr(type(result), "__await__") and not _is_the_value(frame, result):
            return _when_done(frame, self, args, kwargs, result)
        _end(frame, self, args, kwargs, result, None)
        return result

    return hook


def _lookup_hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    """A look-up that turns out to have changed nothing is counted on the spot; whatever else goes the long way."""
    default = MISSING if plan.op == LOAD else plan.default
    most = 9 if plan.op == LOAD else 1
    viewed = getattr(original, "__name__", "") == "__getitem__"

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame: Frame | None = None
        quick = False
        data: Any = None
        key: Any = None
        old: Any = MISSING
        entries = 0
        try:
            state = self._self_cachescope
            if state.owner != id(self):
                state = meet(self)
        except AttributeError:
            state = meet(self)
        ledger = state.ledger
        try:
            if 1 <= len(args) <= most and not kwargs and not state.busy and ledger.idle and _frames.get() is None:
                data = state.data
                obj = self.__wrapped__ if issubclass(type(self), _Proxy) else self
                if (
                    not ledger.flying
                    and not ledger.transforms.known
                    and _getattribute(obj, ledger.place.name or "__class__") is data
                    and not (viewed and _getframe(1).f_code in _VIEWS)
                ):
                    key = args[0]
                    old = _dict_get(data, key, MISSING)
                    entries = _dict_len(data)
                    frame = ledger.idle.pop()
                    frame.begin_again(state, plan, key, old, old is not MISSING)
                    ledger.flying[1] = frame
                    _frames.set(frame)
                    quick = True
            if not quick and RETIRED not in state.busy:
                frame, args = _begin(plan, state, self, args, kwargs)
        except Exception as fault:
            frame = None
            if not isinstance(fault, (TypeError, IndexError)):  # an unhashable key, or another thread took the frame
                swallow("open hook", fault)
        if frame is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            _end(frame, self, args, kwargs, MISSING, error)
            raise
        if hasattr(type(result), "__await__") and not _is_the_value(frame, result):
            return _when_done(frame, self, args, kwargs, result)
        if quick:
            try:
                if _dict_get(data, key, MISSING) is old and _dict_len(data) == entries and frame.done is None:
                    ledger.flying.pop(1, None)
                    _frames.set(None)
                    if old is not MISSING and (
                        (result is not None and result is not default) or old is result or holds(old, result)
                    ):
                        state.hidden_hits += 1
                    else:
                        state.hidden_misses += 1
                    frame.rest()
                    ledger.idle.append(frame)
                    return result
            except Exception as fault:
                swallow("open hook", fault)
        _end(frame, self, args, kwargs, result, None)
        return result

    return hook


def _set_hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    """A set that put one value under one key, and at most one entry out at the front; whatever else goes the long way."""

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame: Frame | None = None
        quick = False
        data: Any = None
        key: Any = None
        old: Any = MISSING
        first: Any = MISSING
        entries = before = 0
        try:
            state = self._self_cachescope
            if state.owner != id(self):
                state = meet(self)
        except AttributeError:
            state = meet(self)
        ledger = state.ledger
        try:
            if len(args) == 2 and not kwargs and RETIRED not in state.busy and ledger.idle and _frames.get() is None:
                data = state.data
                obj = self.__wrapped__ if issubclass(type(self), _Proxy) else self
                if (
                    ledger.sure
                    and not ledger.flying
                    and not ledger.lost
                    and not ledger.transforms.known
                    and _getattribute(obj, ledger.place.name or "__class__") is data
                ):
                    key, given = args
                    old = _dict_get(data, key, MISSING)
                    entries = _dict_len(data)
                    count = state.sets - state.deletes - state.evictions - state.expirations - state.cleared
                    if count == entries and (old is MISSING) is (key not in ledger.charges):
                        if isinstance(data, OrderedDict):
                            first = next(_ordered_iter(data), MISSING)
                        elif ledger.ends_useful > 0 and entries > SMALL:
                            first = next(_dict_iter(data), MISSING)
                        before = id(old)
                        frame = ledger.idle.pop()
                        frame.begin_again(state, plan, key, old, old is not MISSING)
                        frame.given = given
                        if first is not MISSING:
                            frame.ends = (first,)
                        ledger.flying[1] = frame
                        _frames.set(frame)
                        quick = True
                old = MISSING if old is MISSING else None  # it is not ours to keep
            if not quick and RETIRED not in state.busy:
                frame, args = _begin(plan, state, self, args, kwargs)
        except Exception as fault:
            frame = None
            if not isinstance(fault, (TypeError, IndexError)):  # an unhashable key, or another thread took the frame
                swallow("open hook", fault)
        if frame is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            _end(frame, self, args, kwargs, MISSING, error)
            raise
        if hasattr(type(result), "__await__"):
            return _when_done(frame, self, args, kwargs, result)
        if quick:
            try:
                held = _dict_get(data, key, MISSING)
                grown = _dict_len(data) - entries
                one_left = grown == (0 if old is MISSING else -1)
                if (
                    held is not MISSING
                    and (id(held) != before or held is args[1])
                    and frame.done is None
                    and state.data is data
                    and (one_left or grown == (1 if old is MISSING else 0))
                    and (
                        not one_left
                        or (first is not MISSING and not _dict_contains(data, first) and first in ledger.charges)
                    )
                ):
                    ledger.flying.pop(1, None)
                    _frames.set(None)
                    given = frame.given
                    frame.rest()
                    ledger.idle.append(frame)
                    if one_left:
                        drop(state, ledger, first, b.EVICTED, now=True)
                        ledger.ends_useful = 8
                    put(state, ledger, key, held, given, _suspicious(held, given))
                    return result
            except Exception as fault:
                swallow("open hook", fault)
        _end(frame, self, args, kwargs, result, None)
        return result

    return hook


def _async_hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    async def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame = None
        try:
            state = owned_state(self, meet)
            if RETIRED not in state.busy:
                frame, args = _begin(plan, state, self, args, kwargs)
        except Exception as fault:
            swallow("open hook", fault)
        if frame is None:
            return await original(self, *args, **kwargs)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            _end(frame, self, args, kwargs, MISSING, error)
            raise
        _end(frame, self, args, kwargs, result, None)
        return result

    return hook


def _is_the_value(frame: Frame, result: Any) -> bool:
    """Whether an awaitable that a plain method returned is a cached value, such as a Task that others wait for."""
    try:
        state = frame.state
        if state is None or state.data is None or frame.inner is MISSING or frame.op not in (LOOKUP, LOAD, POP):
            return False
        return holds(frame.old, result) or holds(_peek(state.data, frame.inner), result)  # type: ignore[arg-type]
    except Exception:
        return False


def _when_done(frame: Frame, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Settle when an awaitable that a plain method returned has a result."""
    if _frames.get() is frame:
        _frames.set(frame.parent)
    state = frame.state
    if state is not None and type(state.ledger) is OpenLedger:
        flying = state.ledger.flying
        if flying.get(1) is frame:
            del flying[1]
        flying.pop(id(frame), None)  # it may never be awaited; it flies when it is
        if asyncio.isfuture(result):
            flying[id(frame)] = frame
    if type(result) is CoroutineType:
        waiting = _awaiting(frame, self, args, kwargs, result)
        waiting.__name__, waiting.__qualname__ = result.__name__, result.__qualname__
        return waiting
    if asyncio.isfuture(result):

        def done(future: Any) -> None:
            if future.cancelled():
                _end(frame, self, args, kwargs, MISSING, asyncio.CancelledError())
                return
            error = getattr(future, "_exception", None)  # exception() would mark it as seen
            _end(frame, self, args, kwargs, MISSING if error is not None else future.result(), error)

        result.add_done_callback(done)
        return result
    return _Awaitable(result, frame, self, args, kwargs)


def _fly(frame: Frame) -> None:
    _frames.set(frame)
    state = frame.state
    if state is not None and type(state.ledger) is OpenLedger:
        state.ledger.flying[id(frame)] = frame


async def _awaiting(frame: Frame, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], coroutine: Any) -> Any:
    _fly(frame)
    try:
        result = await coroutine
    except BaseException as error:
        _end(frame, self, args, kwargs, MISSING, error)
        raise
    _end(frame, self, args, kwargs, result, None)
    return result


class _Awaitable(wrapt.ObjectProxy):  # type: ignore[misc]  # wrapt's stubs make it Any
    """Stands for an awaitable of the user's own make."""

    def __init__(self, wrapped: Any, *call: Any) -> None:
        super().__init__(wrapped)
        self._self_call = call

    def __await__(self) -> Any:
        frame, cache, args, kwargs = self._self_call
        _fly(frame)
        try:
            result = yield from self.__wrapped__.__await__()
        except BaseException as error:
            _end(frame, cache, args, kwargs, MISSING, error)
            raise
        _end(frame, cache, args, kwargs, result, None)
        return result


for _name, _op in _KIND_NAMES.items():
    KINDS[_name] = _maker(_op)
