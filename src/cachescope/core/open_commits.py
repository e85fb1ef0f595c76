"""Entries of a cache whose insides nobody has described: charged, freed, and made to agree with what the cache holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core.charging import LARGE_BYTES, LEDGER_LIMIT
from cachescope.core.closeup import SCOPED, attribute
from cachescope.core.state import MISSING, State

if TYPE_CHECKING:
    from cachescope.core.open_frames import Frame
    from cachescope.core.open_ledger import OpenLedger, Parts

SMALL = 64
"""A ledger of so many entries is looked through at once when an entry left unseen."""
_MOST_FLYING = 32
_NEWEST = 64

_CLAIMED: Parts = (0, -1, 0, None, 0)


def current_data(state: State, ledger: OpenLedger, obj: Any) -> dict[Any, Any] | None:
    """The dict that holds the entries now; a cache may have put another in its place."""
    data: Any = state.data
    if not ledger.place.names:
        return data  # type: ignore[no-any-return]  # a dict, by the rule of state.data
    found = ledger.place.find(obj)
    if found is data or found is None:
        return data  # type: ignore[no-any-return]  # a dict, by the rule of state.data
    ledger.boundary |= {id(found)}
    state.data = found
    return found


def put(
    state: State,
    ledger: OpenLedger,
    key: Hashable,
    held: Any,
    given: Any,
    suspicious: bool,
    *,
    replaced: bool = True,
) -> None:
    """An entry is there: charge it, in place of the charge it had, if any.

    Exact when threads overlap: a charge is put in and the former one taken out by plain subscripts in a row, with
    nothing called between, and whoever takes a charge out frees it.
    """
    charges = ledger.charges
    old = charges.get(key)
    kind = type(held)
    size = guess = 0
    parts = _CLAIMED
    if (kind is str or kind is bytes) and type(key) is str and not suspicious and ledger.weigher is None:
        size = held.__sizeof__()
        if size < LARGE_BYTES:  # what most are: no more to it than this
            size += key.__sizeof__()
            parts = (size, -1, 0, None, id(held))
    if parts is _CLAIMED:
        if old is not None and old[4] == id(held):  # the same object, maybe changed: its former charge goes first
            try:
                old = charges[key]
                charges[key] = _CLAIMED
            except KeyError:
                old = None
            if old is not None:
                _replace(state, 0, ledger.release(old, -1)[0])
        data: Any = state.data
        parts, size, guess = ledger.weigh(key, held, given, suspicious, data, resize=old is not None)
    if old is None and len(charges) >= LEDGER_LIMIT and key not in charges:
        _put_unwritten(state, ledger, size)
        return
    while True:
        other = charges.setdefault(key, parts)
        if other is parts:
            if state.armed & SCOPED:
                attribute(state, size + guess, 0, 0, 1)
            state.live_bytes += size
            if ledger.unmeasured:
                ledger.unmeasured -= 1
            else:
                state.sets += 1
            event = b.SET
            break
        try:
            other = charges[key]
            charges[key] = parts
        except KeyError:
            continue
        _replace(state, size, ledger.release(other, -1)[0])
        if replaced:
            state.replacements += 1
        event = b.REPLACED
        break
    live = state.live_bytes
    if live > state.peak_bytes:  # noqa: PLR1730  # a call fewer
        state.peak_bytes = live
    state.note(event, key, size + guess)


def _put_unwritten(state: State, ledger: OpenLedger, size: int) -> None:
    """The ledger is full: the entry counts, and its bytes go to those that are shared out as entries leave."""
    if state.data is not None and state.entries >= dict.__len__(state.data):  # type: ignore[arg-type]  # it is a dict
        freed = ledger.of_the_rest()
        state.replacements += 1
        _replace(state, size, freed)
    else:
        if state.armed & SCOPED:
            attribute(state, size, 0, 0, 1)
        state.sets += 1
        state.live_bytes += size
    ledger.rest += 1
    ledger.rest_bytes += size
    _peak(state)
    if state.record is not None:
        state.record.notes.add(f"beyond {LEDGER_LIMIT:,} entries, the bytes of those that leave are estimated")


def _replace(state: State, size: int, freed: int) -> None:
    grown = size - freed
    if state.armed & SCOPED:
        attribute(state, 0, grown, 0, 0)
    state.resized_bytes += grown
    state.live_bytes += grown


def _peak(state: State) -> None:
    live = state.live_bytes
    state.peak_bytes = max(state.peak_bytes, live)


def drop(state: State, ledger: OpenLedger, key: Hashable, cause: int, *, now: bool = False) -> bool:
    """An entry is not there any more: free its charge, if it has one.

    Args:
        state: The cache object's.
        ledger: Its ledger.
        key: The entry's key.
        cause: Why it left, unless it is one of those that were counted as gone before.
        now: It left just now, so it is none of those.
    """
    try:
        parts = ledger.charges.pop(key, None)
    except TypeError:
        return False
    if parts is None:
        return False
    counted = False
    if ledger.lost and not now:
        for column in (b.EVICTED, b.EXPIRED, b.DELETED, b.CLEARED):
            if ledger.parted[column] > 0:
                ledger.parted[column] -= 1
                ledger.lost -= 1
                cause, counted = column, True
                break
    size, guess = ledger.release(parts, cause)
    state.account(cause, 0 if counted else 1, size)
    state.note(cause, key, size + guess)
    return True


def settle_drift(
    state: State,
    ledger: OpenLedger,
    data: dict[Any, Any],
    cause: int,
    ends: tuple[Any, ...] = (),
    inside: Frame | None = None,
) -> None:
    """Make the number of entries agree with the mapping's length, and find which ones came or left.

    Args:
        state: The cache object's.
        ledger: Its ledger.
        data: What holds the entries.
        cause: Why an entry that left unseen has left.
        ends: Keys that were at the ends of the mapping before the call.
        inside: The operation in which they left.
    """
    flying: set[Any] = set()
    leaving: set[Any] = set()
    expected = state.entries
    if ledger.flying:
        for frame in list(ledger.flying.values()):
            pending = frame.pending_keys()
            flying |= pending
            if frame.may_take_out(inside):
                leaving |= pending
            if len(flying) > _MOST_FLYING:
                return  # found when they have landed
        for key in flying:
            charged = key in ledger.charges
            if dict.__contains__(data, key):
                expected += not charged
            elif charged and key in leaving:
                expected -= 1
    missing = expected - dict.__len__(data)
    if missing == 0:
        return
    charges = ledger.charges
    if missing > 0:
        found_at_ends = False
        for key in (*ends, *_some(charges, 2)):
            if missing > 0 and key in charges and not dict.__contains__(data, key) and key not in leaving:
                missing -= drop(state, ledger, key, cause, now=True)
                found_at_ends = True
        if missing > 0 and (len(charges) <= SMALL or missing * 8 >= len(charges)):
            for key in _some(charges, None):
                if missing > 0 and not dict.__contains__(data, key) and key not in leaving:
                    missing -= drop(state, ledger, key, cause, now=True)
        if missing > 0 and ledger.rest > 0:
            for _ in range(min(missing, ledger.rest)):
                state.account(cause, 1, ledger.of_the_rest())
                missing -= 1
        if missing > 0:
            ledger.parted[cause] += missing
            ledger.lost += missing
            state.account(cause, missing, 0)
        if found_at_ends:
            ledger.ends_useful = 8
        elif ledger.ends_useful > 0:
            ledger.ends_useful -= 1
        return
    extra = -missing
    if ledger.rest:
        newest: Iterable[Any] = ()
    elif len(charges) <= SMALL or extra * 8 >= len(charges):
        newest = _some(dict.keys(data), None)
    else:
        newest = _some(newest_first(data), min(_NEWEST, 2 * extra))
    for key in newest:
        if extra > 0 and key not in charges and key not in flying:
            value = dict.get(data, key, MISSING)
            if value is not MISSING:
                put(state, ledger, key, value, MISSING, False)
                extra -= 1
    if extra > 0:
        state.sets += extra
        ledger.unmeasured += extra


def _some(keys: Iterable[Any], most: int | None) -> list[Any]:
    """The first keys; none when another thread changes the mapping meanwhile."""
    try:
        return list(islice(keys, most))
    except RuntimeError:
        return []


def newest_first(data: dict[Any, Any]) -> Iterator[Any]:
    """A mapping's keys, the last one first."""
    return OrderedDict.__reversed__(data) if isinstance(data, OrderedDict) else dict.__reversed__(data)
