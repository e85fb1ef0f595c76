"""What a call that changes a home-made cache did: settled from what the cache holds now and what was charged."""

from __future__ import annotations

from sys import getrefcount
from typing import Any

from cachescope.core import batch as b
from cachescope.core.open_commits import drop, newest_first, put
from cachescope.core.open_frames import ADD, CHANGE, SET_MANY, Frame, pairs
from cachescope.core.open_keys import Place, bare, holds, peek_at
from cachescope.core.open_ledger import OpenLedger
from cachescope.core.state import MISSING, State

Call = tuple[tuple[Any, ...], dict[str, Any], Any, Any]
"""A call that has ended: its arguments, what it returned and what it raised."""


def settle_set(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """``set``, ``add``: charged under the key that the cache keeps it by."""
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
        inner = find_inner(ledger, data, frame)
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
    tell(parent, inner)


_UNCHANGING = (str, bytes, int, float, bool, type(None), tuple, frozenset)


def suspicious(held: Any, given: Any) -> bool:
    """Whether somebody else seems to hold it too: more references than the cache, its caller and we have."""
    return getrefcount(held) > (10 if held is given else 8)


def tell(parent: Frame | None, inner: Any) -> None:
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


def find_inner(ledger: OpenLedger, data: dict[Any, Any], frame: Frame) -> Any:
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


def settle_set_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """A batch of sets: each key that nothing inside has settled."""
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
                tell(parent, inner)
            continue
        if not dict.__contains__(data, inner):
            inner = ledger.resolve(data, key)
        if inner in done:
            continue
        settle_key(state, ledger, inner, peek_at(data, inner), frame, _Was(known, before, value), parent)


def settle_delete(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """``delete`` and batches of it: freed, if it is gone."""
    if frame.keys is not None:
        settle_delete_many(state, ledger, data, frame, parent, call)
        return
    if frame.key is MISSING:
        return
    inner = frame.inner
    if data is None:
        if call[3] is None and call[2] is not False and drop(state, ledger, inner, frame.cause):
            tell(parent, inner)
    elif ledger.has(inner) and peek_at(data, inner) is MISSING:
        drop(state, ledger, inner, frame.cause, now=True)
        tell(parent, inner)


def settle_delete_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """A batch of deletes: freed is what is gone."""
    keys = [row[0] for row in frame.keys.values()] if frame.keys else list(frame.given or ())
    for inner in keys:
        if ledger.has(inner) and (peek_at(data, inner) is MISSING if data is not None else call[3] is None):
            drop(state, ledger, inner, frame.cause, now=True)
            tell(parent, inner)


def settle_clear(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """``clear``: everything is freed, but for what others are setting meanwhile."""
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


def settle_popitem(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """``popitem``: the result says which entry left."""
    result = call[2]
    if type(result) is tuple and len(result) == 2:
        try:
            gone = ledger.has(result[0]) and (data is None or not dict.__contains__(data, result[0]))
        except TypeError:
            return
        if gone:
            drop(state, ledger, result[0], frame.cause, now=True)
            tell(parent, result[0])


def settle_change(
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
    tell(parent, frame.inner)
