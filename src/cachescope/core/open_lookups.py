"""What a look-up in a home-made cache found, and what it did to the entry."""

from __future__ import annotations

from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import lookup_took, took
from cachescope.core.open_changes import Call, find_inner, suspicious, tell
from cachescope.core.open_commits import drop, put
from cachescope.core.open_frames import LOAD, LOOKUP_MANY, Frame
from cachescope.core.open_keys import holds, parts_of, peek_at
from cachescope.core.open_ledger import OpenLedger
from cachescope.core.settling import count_lookup, tell_lookup
from cachescope.core.state import MISSING, State

_NO_DEFAULT: Any = object()


def settle_lookup(
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
            tell_lookup(state, inner, hit)
        if frame.took_ns:
            if frame.op == LOAD and not hit:
                took(state, b.LOAD_FAILED if error is not None else b.LOAD, frame.took_ns)
            else:
                lookup_took(state, inner, hit, frame.took_ns)


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
        inner = find_inner(ledger, data, frame) if not ledger.has(inner) else inner
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


def settle_pop(
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
        tell(parent, inner)
    if parent is None and (error is None or isinstance(error, KeyError)):
        count_lookup(state, inner, hit)


def rows_of(ledger: OpenLedger, data: dict[Any, Any] | None, keys: Any, op: int) -> dict[Any, tuple[Any, bool, Any]]:
    """Of each key of a batch: how the cache keeps it, whether it is charged, and what is held, by itself or by id."""
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


def settle_lookup_many(
    state: State, ledger: OpenLedger, data: dict[Any, Any] | None, frame: Frame, parent: Frame | None, call: Call
) -> None:
    """A batch of look-ups: a hit or a miss for each key that nothing inside has looked up."""
    result, error = call[2], call[3]
    rows = frame.keys
    if not rows and isinstance(frame.given, list) and frame.given:
        rows = rows_of(ledger, data, frame.given, LOOKUP_MANY)
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
        count_lookup(state, inner, hit)
