"""An operation on a home-made cache begins, and ends: what it meant is settled then.

It is settled from what the cache holds now and what its ledger has charged. Nothing remembered from before an ``await``
decides, so overlapping calls of one key leave the ledger right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, ItemsView, ValuesView
from itertools import islice
from sys import _getframe
from types import FunctionType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began, took
from cachescope.core.faults import swallow
from cachescope.core.open_changes import (
    settle_change,
    settle_clear,
    settle_delete,
    settle_delete_many,
    settle_popitem,
    settle_set,
    settle_set_many,
)
from cachescope.core.open_commits import SMALL, current_data, drop, settle_drift
from cachescope.core.open_frames import (
    ADD,
    CHANGE,
    CLEAR,
    DELETE,
    DELETE_MANY,
    EVICT,
    EXPIRE,
    LOAD,
    LOOKUP,
    LOOKUP_MANY,
    MANY,
    POP,
    POPITEM,
    QUIET,
    READING,
    SET,
    SET_MANY,
    SETTING,
    Frame,
    Plan,
    frame_of,
    frames,
)
from cachescope.core.open_keys import bare, peek_at
from cachescope.core.open_ledger import OpenLedger
from cachescope.core.open_lookups import rows_of, settle_lookup, settle_lookup_many, settle_pop
from cachescope.core.state import MISSING, State

_LEAVES_ENDS = frozenset((SET, ADD, SET_MANY, LOAD, LOOKUP, LOOKUP_MANY, EVICT, EXPIRE, POPITEM, CHANGE))
"""Operations inside which an entry may leave from an end of the mapping."""

VIEWS: frozenset[Any] = frozenset(
    vars(view)[method].__code__
    for view in (ItemsView, ValuesView)
    for method in ("__iter__", "__contains__")
    if isinstance(vars(view).get(method), FunctionType)
)
"""Code that reads a mapping entry by entry for ``items()`` and ``values()``: no look-ups."""


def begin_call(
    plan: Plan, state: State, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Frame | None, tuple[Any, ...]]:
    """Begin an operation; no frame when the call is part of one that settles for it."""
    ledger = state.ledger
    if type(ledger) is not OpenLedger:
        return None, args
    op = plan.op
    nearest, parent = frame_of(state)
    if parent is not None and op in READING and parent.op not in READING:
        return None, args  # the cache's own reading
    if op == LOOKUP and parent is None and _getframe(2).f_code in VIEWS:
        return None, args
    if op == QUIET and parent is not None:
        return None, args
    data = current_data(state, ledger, bare(self))
    many = op in MANY or (op == DELETE and plan.various)
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
            held = peek_at(data, inner)
            frame.before = id(held) if held is not MISSING else 0
            if held is MISSING and frame.known and (ledger.lost or not ledger.flying):
                drop(state, ledger, inner, ledger.external_cause())
                frame.known = False
            if held is not MISSING and not frame.known and ledger.rest:
                frame.known = True
            if op in (LOOKUP, LOAD, POP):
                frame.old = held
        if op in SETTING:
            frame.given = plan.value_of(args, kwargs)
        if parent is not None and op in (DELETE, POP) and not parent.own(inner):
            frame.cause = parent.cause
    elif many:
        keys, args = plan.keys_of(args, kwargs)
        if op == LOOKUP_MANY and parent is not None and parent.op in (LOOKUP, LOAD) and parent.key is not MISSING:
            frame.looked = {parent.key}  # a look-up made by way of a batch of one
        frame.keys = rows_of(ledger, data, keys, op)
        if keys is not None and not isinstance(keys, dict):
            frame.given = keys  # an iterator's keys are known when it has been read
        elif op == SET_MANY:
            frame.given = keys
    elif parent is not None and op in (POPITEM, QUIET):
        frame.cause = parent.cause
    if data is not None and op in _LEAVES_ENDS:
        frame.ends = _ends(ledger, data)
    ledger.flying[id(frame)] = frame
    frames.set(frame)
    if TIMING.up and parent is None:
        frame.began = began(state)
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
    if op in READING:
        return parent.op != LOOKUP_MANY
    return op in SETTING


def _flying_cause(ledger: OpenLedger, otherwise: int) -> int:
    """Why something left while others' operations are in progress."""
    ops = {frame.op for frame in list(ledger.flying.values())}
    if ops & {SET, ADD, SET_MANY, LOAD, EVICT}:
        return b.EVICTED
    return b.EXPIRED if ops & {EXPIRE, LOOKUP} else otherwise


def _ends(ledger: OpenLedger, data: dict[Any, Any]) -> tuple[Any, ...]:
    """The keys at both ends, of those mappings where finding them is quick.

    A plain dict whose oldest entries were deleted passes over the gaps again at each look; it is only asked while that
    is known to find something.
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


def end_call(frame: Frame, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
    """Settle an operation by what the cache holds now. Never raises."""
    if not frame.live:
        return
    state = frame.state
    took_ns = frame.stop()
    try:
        if frames.get() is frame:
            frames.set(frame.parent)
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
        if took_ns and error is None and frame.op in _TIMED:
            took(state, _TIMED[frame.op], took_ns)
        settle = _SETTLE.get(frame.op)
        if settle is not None:  # else what left is found by the mapping's length
            settle(state, ledger, data, frame, parent, (args, kwargs, result, error))
            now: Any = state.data
            data = now if data is not None else None  # it may have turned out to be another
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


_TIMED = {SET: b.SET_TIME, ADD: b.SET_TIME, DELETE: b.DELETE_TIME, POP: b.DELETE_TIME}
"""What is timed whatever it turns out to be; a look-up has to be settled to know whether it hit."""

_SETTLE: dict[int, Callable[..., None]] = {
    LOOKUP: settle_lookup,
    LOAD: settle_lookup,
    SET: settle_set,
    ADD: settle_set,
    DELETE: settle_delete,
    POP: settle_pop,
    POPITEM: settle_popitem,
    CLEAR: settle_clear,
    CHANGE: settle_change,
    LOOKUP_MANY: settle_lookup_many,
    SET_MANY: settle_set_many,
    DELETE_MANY: settle_delete_many,
}
