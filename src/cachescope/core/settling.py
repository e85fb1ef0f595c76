"""What a call turned out to mean: frames, causes, and commits by what the cache holds afterwards.

Rules for nested calls on one object (a frame is what a thread is in the middle of):

* inside a stock set, popitem, expire or clear, reads are the library's own and no lookups;
* an entry that leaves inside a set of another key was evicted; inside expire, it expired; inside clear, it was cleared;
* whoever commits first marks the frame, so that an overriding method and the ``super()`` it calls count once.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from threading import get_ident
from time import perf_counter_ns
from types import CodeType, FrameType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began, looked_up, took
from cachescope.core.faults import swallow
from cachescope.core.hooks import Meet
from cachescope.core.looking import REFUSED, dict_get, owned_state, peek, peek_or_refuse
from cachescope.core.state import (
    CAUSE,
    CLEAR,
    COMMITTED,
    EXPIRE,
    GET,
    KEY,
    LOADING,
    LOOKED,
    LOOKUP,
    MISSING,
    NEW_SET,
    OP,
    OWN_KEY_LEFT,
    PARENT,
    POPITEM,
    RETIRED,
    SET,
    SET_OPEN,
    SETDEFAULT,
    UPDATE,
    Frame,
    State,
)

getrefcount = sys.getrefcount

GIVEN = OWN_KEY_LEFT + 1
"""A column that only frames of open sets and updates have: the value, or the keys, that they were given."""

_SEARCHED = 10_000
"""Entries among which a value is looked for that was stored past all hooks."""

INNER = frozenset((SET, POPITEM, EXPIRE, CLEAR, LOOKUP))
"""Operations inside which a read is the library's own."""

missed_before_setdefault: set[str] = set()
"""Modules whose ``setdefault`` follows a miss that was counted already; adapters add to it."""

set_codes: set[CodeType] = set()
"""The code of all hooks of plain sets, to know their frames by."""


def count_hit(state: State, key: Any) -> None:
    """Count a hit while something is up, unless the library read for itself."""
    frame = state.frame()
    if frame is not None:
        if frame[OP] in INNER:
            return
        frame[LOOKED] = True
    elif RETIRED in state.busy:
        return
    state.hidden_hits += 1
    if state.armed:
        tell_lookup(state, key, True)


def same_key(one: Any, other: Any) -> bool:
    """Whether a dict would take two keys for one; asks ``__eq__`` only where a dict would, and never raises."""
    if one is other:
        return True
    try:
        return hash(one) == hash(other) and bool(one == other)
    except Exception:  # no truth in it, or it raised: the dict will say so itself if it has to ask
        return False


def count_miss(state: State, key: Any) -> None:
    """Count a miss while something is up, unless the library read for itself."""
    frame = state.frame()
    if frame is not None:
        if frame[OP] == LOADING and same_key(frame[KEY], key):
            return  # an overriding __missing__ called this one, and counts
        if frame[OP] in INNER:
            if frame[OP] == LOOKUP:
                frame[LOOKED] = True  # tells an overriding __getitem__ that this was a miss, even if it hides it
            return
        frame[LOOKED] = True
    elif RETIRED in state.busy:
        return
    state.hidden_misses += 1
    if state.armed:
        tell_lookup(state, key, False)


def tell_lookup(state: State, key: Any, hit: bool) -> None:
    """Tell those who look closely of a look-up; never raises."""
    try:
        looked_up(state, key, hit)
    except Exception as error:
        swallow("close look", error)


def busy_get(state: State, key: Any, hit: bool) -> None:
    """Count the outcome of a ``get`` while something is up."""
    frame = state.frame()
    if frame is not None:
        if frame[OP] in INNER:
            return
        frame[LOOKED] = True
    elif RETIRED in state.busy:
        return
    count_lookup(state, key, hit)


def count_lookup(state: State, key: Any, hit: bool) -> None:
    """Count a lookup by its outcome, and tell those who look closely."""
    if hit:
        state.hidden_hits += 1
    else:
        state.hidden_misses += 1
    if state.armed:
        tell_lookup(state, key, hit)


def cold_set(original: Any, self: Any, key: Any, value: Any, meet: Meet) -> Any:
    """A set that is no plain one of a new key: a replacement, one inside another operation, or a first meeting."""
    return nested_set(owned_state(self, meet), original, self, key, value)


def settle_failed_set(state: State, data: Any, key: Any, old: Any, own_key_left: bool) -> None:
    """A set raised: account for what it did to the key before it did."""
    try:
        new = dict_get(data, key, MISSING)
        if own_key_left:
            old = MISSING
        if new is old:
            return
        if new is MISSING:
            state.commit_removal(key, old, b.EVICTED)
        else:
            state.commit_set(key, new, old, False)
    except Exception as error:
        swallow("failed set", error)


def nested_set(state: State, original: Any, self: Any, key: Any, value: Any) -> Any:
    """A set inside another operation of the same thread on the same object."""
    frame = state.frame()
    if RETIRED in state.busy or (frame is not None and is_being_set(frame, self, key)):
        return original(self, key, value)
    old = peek_or_refuse(state, self, key)
    if old is REFUSED:
        return original(self, key, value)
    since = began(state) if TIMING.up else 0
    mine = state.push(SET, key, b.EVICTED)
    try:
        if since:
            since = perf_counter_ns()
        result = original(self, key, value)
        if since:
            took(state, b.SET_TIME, perf_counter_ns() - since)
    except BaseException:
        state.pop(mine)
        if state.record is not None:
            settle_failed_set(state, state.data if state.data is not None else self, key, old, mine[OWN_KEY_LEFT])
        raise
    try:  # still in its frame, so that nobody takes it for a set that no hook has seen
        mark_setters(state, self, frame, key, value)
        _settle_set(state, self, key, old, value, mine)
    finally:
        state.pop(mine)
    return result


def is_being_set(frame: Frame | None, self: Any, key: Any, also: int = SET) -> bool:
    """Whether this set is part of another one of the same key, which will be committed by that.

    A set of another key inside a set is one of its own: a ``__del__``, a signal handler or a collector's callback ran.
    """
    while frame is not None:
        if frame[OP] == SET or (frame[OP] == also and not frame[COMMITTED]):
            other = _key_being_set(self) if frame is NEW_SET else frame[KEY]
            if same_key(other, key):
                return True
        frame = frame[PARENT]
    return False


def _key_being_set(self: Any) -> Any:
    """The key of a plain set in progress, which has written it down nowhere: from the frame of its hook.

    The set that asks may have come through such a hook too, and then through ``cold_set``; that one isn't meant.
    """
    caller: FrameType | None = sys._getframe(2)
    own = False
    while caller is not None:
        if caller.f_code is cold_set.__code__:
            own = True
        elif caller.f_code in set_codes and caller.f_locals.get("self") is self:
            if not own:
                return caller.f_locals["key"]
            own = False
        caller = caller.f_back
    return MISSING


def mark_setters(state: State, self: Any, frame: Frame | None, key: Any, value: Any) -> None:
    """Tell the sets around that this one was theirs: it has their key, or their value under a key of another form.

    What a loader inside a look-up sets is not theirs, nor what a callback sets in the middle of them.
    """
    while frame is not None and frame[OP] not in (LOOKUP, GET, LOADING):
        if frame[OP] in _SETTING and frame is not NEW_SET:
            given = frame[GIVEN] if len(frame) > GIVEN else MISSING
            if frame[OP] == UPDATE:
                theirs = key in given
            else:
                theirs = same_key(frame[KEY], key)
                theirs = theirs or (given is value and peek(state, self, frame[KEY]) is MISSING)
            if theirs:
                frame[COMMITTED] += 1
        frame = frame[PARENT]


def _settle_set(state: State, self: Any, key: Any, old: Any, value: Any, frame: Frame) -> None:
    try:
        new = peek(state, self, key)
        if new is old and new is not value and not frame[OWN_KEY_LEFT]:
            return  # refused without an error: it had expired before it came
        if frame[OWN_KEY_LEFT]:
            old = MISSING
        if new is not MISSING:
            state.commit_set(key, new, old, getrefcount(new) > NORMAL_REFERENCES + 3)  # three calls deeper
        elif old is not MISSING:
            state.commit_removal(key, old, b.EXPIRED)
    except Exception as error:
        swallow("set", error)


def next_victim(state: State, self: Any) -> tuple[Any, Any] | None:
    """The entry that would leave next, where the order tells."""
    data: Any = self if state.data is None else state.data
    try:
        key = next(OrderedDict.__iter__(data) if isinstance(data, OrderedDict) else dict.__iter__(data))
        return key, dict.__getitem__(data, key)
    except Exception:  # it is empty, or another thread changed it
        return None


def settle_victim(state: State, self: Any, frame: Frame | None, victim: tuple[Any, Any]) -> None:
    """The entry that was the oldest before a set: has it been evicted?"""
    try:
        data: Any = self if state.data is None else state.data
        if frame is None and dict.__len__(data) < state.entries and peek(state, self, victim[0]) is MISSING:
            state.commit_removal(victim[0], victim[1], b.EVICTED)
    except Exception as error:
        swallow("victim", error)


def settle_unseen(state: State, self: Any, frame: Frame | None, cause: int) -> None:
    """The outermost operation is over: has anything left past all hooks, as behind a proxy or under another key?"""
    if frame is not None or state.record is None or not _is_alone(state):
        return
    data: Any = self if state.data is None else state.data
    try:
        if dict.__len__(data) < state.entries:
            state.reconcile(data, cause)
    except Exception as error:
        swallow("unseen removals", error)


def settle_open_set(state: State, self: Any, key: Any, old: Any, value: Any = MISSING) -> None:
    """Account for what an overriding method, or one written in C, made of a key."""
    try:
        new = peek(state, self, key)
        if new is MISSING:
            if old is not MISSING:
                state.commit_removal(key, old, b.DELETED)
            else:
                _find_stored_elsewhere(state, self, value)
        elif new is not old or old is MISSING or new is value:
            state.commit_set(key, new, old, False)
    except Exception as error:
        swallow("set", error)


def _is_alone(state: State) -> bool:
    """Whether no other thread is inside the object, with a change that it has made and not yet committed."""
    ident = get_ident()
    return (state.setter <= 0 or state.setter == ident) and all(what == ident for what in list(state.busy))


def _find_stored_elsewhere(state: State, self: Any, value: Any) -> None:
    """An overriding set stored under another key (lower case, a prefix, …): the newest one, or one that was there."""
    data: Any = self if state.data is None else state.data
    size = dict.__len__(data)
    if not _is_alone(state):
        return
    if size > state.entries:
        key = next(dict.__reversed__(data))
        state.commit_set(key, dict_get(data, key, MISSING), MISSING, False)
    elif size == state.entries and size <= _SEARCHED and any(held is value for held in list(dict.values(data))):
        state.reconcile(data, b.DELETED)


def miss_was_counted() -> bool:
    """Whether the caller is a memoising wrapper that has looked the key up before (``@cached(lock=)``)."""
    return sys._getframe(2).f_globals.get("__name__") in missed_before_setdefault


def cold_delete(original: Any, self: Any, key: Any, meet: Meet) -> Any:
    """A delete that is no plain one: inside another operation, of a key that isn't there, or a first meeting."""
    state = owned_state(self, meet)
    frame = state.frame()
    value = peek_or_refuse(state, self, key)
    if value is REFUSED:
        return original(self, key)
    cause = b.DELETED
    try:
        return original(self, key)
    except BaseException:
        cause = b.EXPIRED  # a TTL cache removes the entry, then raises
        raise
    finally:
        settle_removal(state, self, key, value, cause, frame)


def cause_inside(frame: Frame, key: Any) -> int:
    """Why an entry leaves inside *frame*; tells every set around that it was its own key, where it was."""
    if frame is NEW_SET:
        return b.EVICTED
    op = frame[OP]
    cause: int = frame[CAUSE]
    if op == SET:
        if same_key(frame[KEY], key):
            frame[OWN_KEY_LEFT] = True
        return cause
    if op == SET_OPEN and same_key(frame[KEY], key):
        cause = b.DELETED  # an overriding __setitem__ that deletes before it sets
    around: Frame | None = frame
    removing = True
    while around is not None:
        if around[OP] in _SETTING:
            removing = False  # the set that this removal makes room for is yet to come
            if same_key(around[KEY], key):
                around[OWN_KEY_LEFT] = True
        elif removing:
            around[COMMITTED] += 1
        around = around[PARENT]
    return cause


def settle_removal(state: State, self: Any, key: Any, value: Any, cause: int, frame: Frame | None) -> None:
    """Commit a removal that no hook inside has committed, if there was one."""
    try:
        if value is not MISSING and state.record is not None and peek(state, self, key) is MISSING:
            if frame is not None:
                inside = cause_inside(frame, key)
                cause = inside if cause != b.EXPIRED else cause
            state.commit_removal(key, value, cause)
    except Exception as error:
        swallow("removal", error)


def cause_at(frame: Frame | None, key: Any) -> int:
    """Why an entry would leave by a removal that begins inside *frame*."""
    if frame is None:
        return b.DELETED
    if frame[OP] in _SETTING and same_key(frame[KEY], key) and key is not None:
        return b.DELETED
    return b.EVICTED if frame[OP] in _SETTING else int(frame[CAUSE])


def framed_popitem(state: State, original: Any, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``popitem`` with a frame of its own: what leaves inside left for the cause that is in force here."""
    frame = state.frame()
    if RETIRED in state.busy or (frame is not None and frame[OP] in _PASS_POPITEM):
        return original(self, *args, **kwargs)
    cause = cause_at(frame, None)
    mine = state.push(POPITEM, None, cause)
    try:
        result = original(self, *args, **kwargs)
    finally:
        state.pop(mine)
    if not mine[COMMITTED] and type(result) is tuple and len(result) == 2:
        try:
            cause_inside(mine, result[0])
            state.commit_removal(result[0], result[1], cause)
        except Exception as error:
            swallow("popitem", error)
    return result


_PASS_POPITEM = frozenset((POPITEM, EXPIRE, CLEAR))

PASS_SET = frozenset((SET, POPITEM, EXPIRE, CLEAR))

_SETTING = frozenset((SET, SET_OPEN, SETDEFAULT, UPDATE))


class _Probe:
    """Finds how many references a fresh value has inside a set hook on this interpreter."""

    seen = 0

    def __setitem__(self, key: str, value: object) -> None:
        held = {key: value}
        new = held.get(key, MISSING)
        _Probe.seen = getrefcount(new)


def _calibrate() -> int:
    probe = _Probe()
    probe["key"] = object()
    # The caller may keep it in a variable of its own, and pass it on from a function that does: two more.
    return _Probe.seen + 2


NORMAL_REFERENCES = _calibrate()
