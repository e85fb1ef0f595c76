"""What a call of a home-made cache meant: settled from what the cache holds now and what its ledger has charged.

Nothing remembered from before an ``await`` decides, so overlapping calls of one key leave the ledger right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, ItemsView, ValuesView
from itertools import islice
from sys import _getframe, getrefcount
from types import FunctionType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.faults import swallow
from cachescope.core.open_commits import SMALL, current_data, drop, newest_first, put, settle_drift
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
    pairs,
)
from cachescope.core.open_keys import Place, bare, holds, parts_of
from cachescope.core.open_ledger import OpenLedger
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


# Beginning and ending an operation


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
    frames.set(frame)
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


def peek_at(data: dict[Any, Any], key: Any) -> Any:
    """What is held under *key*; MISSING when nothing, or when it can't be looked up."""
    try:
        return dict.get(data, key, MISSING)
    except Exception:
        return MISSING


def _rows(ledger: OpenLedger, data: dict[Any, Any] | None, keys: Any, op: int) -> dict[Any, tuple[Any, bool, Any]]:
    rows: dict[Any, tuple[Any, bool, Any]] = {}
    for key in keys:
        inner = ledger.resolve(data, key)
        try:
            held = MISSING if data is None else peek_at(data, inner)
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


Call = tuple[tuple[Any, ...], dict[str, Any], Any, Any]


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
    held = peek_at(data, inner)
    if not ledger.sure:
        data = _gather_evidence(state, ledger, data, inner, frame.given)
        held = peek_at(data, inner)
    if held is MISSING and not ledger.has(inner):
        inner = _find_inner(ledger, data, frame)
        if inner is MISSING or (frame.done and inner in frame.done):
            if inner is MISSING and call[3] is None and frame.given is not MISSING and not frame.done:
                ledger.stale = True  # stored under a key that we don't know, or refused
            return
        held = peek_at(data, inner)
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
            put(state, ledger, inner, held, was.given, suspicious(held, was.given))
        elif parts[4] != id(held) or was.known:
            same = was.before == id(held)
            if same and was.given is not MISSING and not holds(held, was.given):
                if type(held) in _UNCHANGING or frame.op == ADD:
                    return  # refused: what was there is still there
            elif same and frame.op == ADD:
                return
            if was.given is MISSING and same:
                return
            put(state, ledger, inner, held, was.given, suspicious(held, was.given))
        elif was.given is not MISSING and holds(held, was.given):
            # Another call that overlapped has settled it, or one of another value that lay at the same address.
            put(state, ledger, inner, held, was.given, suspicious(held, MISSING), replaced=False)
    _tell(parent, inner)


_UNCHANGING = (str, bytes, int, float, bool, type(None), tuple, frozenset)


def suspicious(held: Any, given: Any) -> bool:
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
    if len(ledger.places) == 1:
        ledger.sure = True
        return data
    target = state.target()
    if target is None or given is MISSING:
        return data
    telling = not _is_commonplace(given)
    if telling and _has_just_got(data, inner, given):
        ledger.sure = True
        return data
    obj = bare(target)
    found = [(place, other) for place in ledger.places if (other := place.find(obj)) is not None and other is not data]
    for place, other in found:
        if telling and _has_just_got(other, inner, given):
            ledger.sure = True
            return _move(state, ledger, place, other)
    if peek_at(data, inner) is MISSING:  # stored in another form, perhaps
        for place, other in found:
            if peek_at(other, inner) is not MISSING:
                return _move(state, ledger, place, other)
    return data


def _has_just_got(data: dict[Any, Any], inner: Any, given: Any) -> bool:
    """Whether a dict holds the value, under the key or as its newest."""
    if holds(peek_at(data, inner), given):
        return True
    try:
        newest = next(newest_first(data), MISSING)
    except RuntimeError:
        return False
    return newest is not MISSING and holds(peek_at(data, newest), given)


def _move(state: State, ledger: OpenLedger, place: Place, data: dict[Any, Any]) -> dict[Any, Any]:
    """The entries are there, not where they were looked for."""
    ledger.place, ledger.stale = place, ledger.stale or bool(ledger.charges)
    ledger.boundary |= {id(data)}
    state.data = data
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
        fresh = newest not in ledger.charges
        if newest is MISSING or (ledger.flying and ledger.is_flying(newest)):
            pass
        elif fresh or (ledger.transforms.plausible(frame.key, newest) and holds(peek_at(data, newest), frame.given)):
            inner = newest
    if inner is not MISSING:
        ledger.transforms.learn(frame.key, inner)
    return inner


def _settle_set_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    given = frame.given if isinstance(frame.given, dict) else pairs(frame.given or ())
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
        settle_key(state, ledger, inner, peek_at(data, inner), frame, _Was(known, before, value), parent)


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
    elif ledger.has(inner) and peek_at(data, inner) is MISSING:
        drop(state, ledger, inner, frame.cause, now=True)
        _tell(parent, inner)


def _settle_delete_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    keys = [row[0] for row in frame.keys.values()] if frame.keys else list(frame.given or ())
    for inner in keys:
        if ledger.has(inner) and (peek_at(data, inner) is MISSING if data is not None else call[3] is None):
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
    held = peek_at(data, frame.inner)
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
        after = peek_at(data, inner) if resident else MISSING
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
        if state.armed:
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
    held = peek_at(data, inner)
    if held is MISSING and old is MISSING and frame.op == LOAD and result is not MISSING:
        inner = _find_inner(ledger, data, frame) if not ledger.has(inner) else inner
        if inner is MISSING:
            return
        held = peek_at(data, inner)
    parts = ledger.charges.get(inner) if ledger.has(inner) else None
    if held is MISSING:
        if parts is not None:
            consumed = old is not MISSING and result is not MISSING and result is not None and holds(old, result)
            drop(state, ledger, inner, b.DELETED if consumed else b.EXPIRED, now=old is not MISSING)
    elif parts is None:
        if not ledger.rest or old is MISSING:
            put(state, ledger, inner, held, result if holds(held, result) else MISSING, suspicious(held, result))
    elif parts[4] != id(held):
        moved = result is not MISSING and old is not MISSING and holds(old, result)
        if frame.left and not moved and parts[4] == frame.before:
            drop(state, ledger, inner, b.EXPIRED, now=True)
        put(state, ledger, inner, held, MISSING, suspicious(held, MISSING), replaced=not moved)


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
        left = frame.old is not MISSING and peek_at(data, inner) is MISSING
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
            held = peek_at(data, inner)
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
