"""The hooks of writes and removals that may do anything: of C types, and as a user's class overrides them.

Their reads are in :mod:`cachescope.core.mapping_read_hooks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from types import FunctionType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began, took
from cachescope.core.faults import swallow
from cachescope.core.hooks import Hook, Meet, kind_of_hook
from cachescope.core.looking import REFUSED, is_there, owned_state, peek, peek_or_refuse, state_of
from cachescope.core.settling import (
    INNER,
    PASS_SET,
    cause_at,
    cause_inside,
    count_lookup,
    framed_popitem,
    is_being_set,
    mark_setters,
    miss_was_counted,
    nested_set,
    next_victim,
    settle_open_set,
    settle_removal,
    settle_unseen,
    settle_victim,
)
from cachescope.core.state import (
    CAUSE,
    CLEAR,
    COMMITTED,
    DELETE_OPEN,
    EXPIRE,
    LOOKED,
    MISSING,
    OP,
    OWN_KEY_LEFT,
    POP,
    RETIRED,
    SET_OPEN,
    SETDEFAULT,
    UPDATE,
    State,
)

BEHIND = "_cachescope_behind"
"""Set on functions that run a method on what a proxy stands for, so that nothing it calls is seen."""


@kind_of_hook("set_flat")
def _set_flat(original: Any, meet: Meet) -> Hook:
    """A ``__setitem__`` of a cache that is itself a dict, or whose entries are in one of another class."""

    def __setitem__(self: Any, key: Any, value: Any) -> Any:
        return nested_set(owned_state(self, meet), original, self, key, value)

    return __setitem__


@kind_of_hook("set_open")
def _set_open(original: Any, meet: Meet) -> Hook:
    """``__setitem__`` as a user's class overrides it; if the library's own runs inside, that one commits."""
    behind = getattr(original, BEHIND, False)

    def __setitem__(self: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and is_being_set(frame, self, key, SET_OPEN)):
            return original(self, key, value, *args, **kwargs)
        old = peek_or_refuse(state, self, key)
        if old is REFUSED:
            return original(self, key, value, *args, **kwargs)
        # A dict's own methods can be called past all hooks: dict.popitem(self).
        victim = next_victim(state, self) if behind or state.data is None else None
        since = began(state) if TIMING.up else 0
        mine = state.push(SET_OPEN, key, b.EVICTED)
        mine.append(value)
        try:
            if since:
                since = perf_counter_ns()
            result = original(self, key, value, *args, **kwargs)
            if since:
                took(state, b.SET_TIME, perf_counter_ns() - since)
        finally:
            if not mine[COMMITTED]:
                settle_open_set(state, self, key, MISSING if mine[OWN_KEY_LEFT] else old, value)
            state.pop(mine)
            mark_setters(state, self, frame, key, value)
            if victim is not None:
                settle_victim(state, self, frame, victim)
            if behind:
                settle_unseen(state, self, frame, b.EVICTED)
        return result

    return __setitem__


@kind_of_hook("setdefault")
def _setdefault(original: Any, meet: Meet) -> Hook:
    """``setdefault``: a hit, or a miss and a set."""
    behind = getattr(original, BEHIND, False)

    def setdefault(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and (frame[OP] in INNER or frame[OP] == SETDEFAULT)):
            return original(self, key, *args, **kwargs)
        old = peek_or_refuse(state, self, key)
        if old is REFUSED:
            return original(self, key, *args, **kwargs)
        mine = state.push(SETDEFAULT, key, b.EVICTED)
        try:
            result = original(self, key, *args, **kwargs)
        except BaseException:
            state.pop(mine)
            raise
        try:
            if not mine[LOOKED]:  # no self[key] ran inside: it was absent, or the type is written in C
                hit = old is not MISSING and not mine[COMMITTED]
                if hit or not miss_was_counted():
                    count_lookup(state, key, hit)
            if not mine[COMMITTED]:
                settle_open_set(state, self, key, MISSING if mine[OWN_KEY_LEFT] else old)
        except Exception as error:
            swallow("setdefault", error)
        finally:
            state.pop(mine)
        if behind:
            settle_unseen(state, self, frame, b.EVICTED)
        return result

    return setdefault


def _deleted(state: State, original: Any, self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call what removes an entry, and hand in how long that took."""
    since = perf_counter_ns()
    result = original(self, *args, **kwargs)
    took(state, b.DELETE_TIME, perf_counter_ns() - since)
    return result


@kind_of_hook("delete_flat")
def _delete_flat(original: Any, meet: Meet) -> Hook:
    """A ``__delitem__`` of a cache that is itself a dict, or whose entries are in one of another class."""

    def __delitem__(self: Any, key: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        value = peek_or_refuse(state, self, key)
        if value is REFUSED or value is MISSING or RETIRED in state.busy:
            return original(self, key)
        since = began(state) if TIMING.up else 0
        mine = state.push(DELETE_OPEN, key, cause_at(frame, key))  # seen by what looks for unseen removals
        try:
            return original(self, key) if not since else _deleted(state, original, self, key)
        finally:
            settle_removal(state, self, key, value, mine[CAUSE], frame)
            state.pop(mine)

    return __delitem__


@kind_of_hook("delete_open")
def _delete_open(original: Any, meet: Meet) -> Hook:
    """``__delitem__`` as a user's class overrides it; if the library's own runs inside, that one commits."""

    def __delitem__(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] == DELETE_OPEN):
            return original(self, key, *args, **kwargs)
        value = peek_or_refuse(state, self, key)
        if value is REFUSED:
            return original(self, key, *args, **kwargs)
        since = began(state) if TIMING.up else 0
        mine = state.push(DELETE_OPEN, key, cause_at(frame, key))
        try:
            if since:
                return _deleted(state, original, self, key, *args, **kwargs)
            return original(self, key, *args, **kwargs)
        finally:
            state.pop(mine)
            if not mine[COMMITTED]:
                settle_removal(state, self, key, value, mine[CAUSE], frame)
            if value is MISSING:
                settle_unseen(state, self, frame, mine[CAUSE])

    return __delitem__


@kind_of_hook("pop")
def _pop(original: Any, meet: Meet) -> Hook:
    """``pop``: a hit and a delete, or a miss."""

    def pop(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and (frame[OP] in PASS_SET or frame[OP] == POP)):
            return original(self, key, *args, **kwargs)
        value = peek_or_refuse(state, self, key)
        if value is REFUSED:
            return original(self, key, *args, **kwargs)
        cause = cause_at(frame, key)
        since = began(state) if TIMING.up and value is not MISSING else 0
        mine = state.push(POP, key, cause)
        error: BaseException | None = None
        try:
            if since:
                return _deleted(state, original, self, key, *args, **kwargs)
            return original(self, key, *args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            # Settled inside the frame: other threads that look for unseen removals leave this one alone meanwhile.
            if not mine[LOOKED] and cause == b.DELETED and (error is None or isinstance(error, KeyError)):
                count_lookup(state, key, value is not MISSING and not is_there(state, self, key))
            unsettled = not mine[COMMITTED]
            if unsettled:
                settle_removal(state, self, key, value, cause, frame)
            state.pop(mine)
            if unsettled and value is MISSING and mine[LOOKED]:
                settle_unseen(state, self, frame, cause)
            del error  # it refers to this frame

    return pop


@kind_of_hook("popitem_open")
def _popitem_open(original: Any, meet: Meet) -> Hook:
    """``popitem`` of any make, with any arguments; what it returns is the entry that left."""

    def popitem(self: Any, *args: Any, **kwargs: Any) -> Any:
        return framed_popitem(owned_state(self, meet), original, self, args, kwargs)

    return popitem


@kind_of_hook("expire")
def _expire(original: Any, meet: Meet) -> Hook:
    """``expire``: what is deleted inside has expired; or what it returns, if no hook saw it go."""

    def expire(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] == EXPIRE):
            return original(self, *args, **kwargs)
        mine = state.push(EXPIRE, None, b.EXPIRED)
        try:
            result = original(self, *args, **kwargs)
        finally:
            state.pop(mine)
        if not mine[COMMITTED] and type(result) is list:
            try:
                for key, value in result:
                    cause_inside(mine, key)
                    state.commit_removal(key, value, b.EXPIRED)
            except Exception as error:
                swallow("expire", error)
        return result

    return expire


@kind_of_hook("clear")
def _clear(original: Any, meet: Meet) -> Hook:
    """``clear``: what is left after nested removals were counted goes at once."""

    def clear(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] == CLEAR):
            return original(self, *args, **kwargs)
        mine = state.push(CLEAR, None, b.CLEARED)
        try:
            result = original(self, *args, **kwargs)
        finally:
            state.pop(mine)
        try:
            data: Any = state.data if state.data is not None else self
            left = dict.__len__(data)
            if left == 0:
                state.commit_clear(state.entries)
            elif state.record is not None:  # a callback, or an overriding clear, has set something meanwhile
                state.commit_clear(max(0, state.entries - left), list(dict.items(data)))
        except Exception as error:
            swallow("clear", error)
        return result

    return clear


def _watched(
    state: State, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], before: dict[Any, Any]
) -> tuple[Any, ...]:
    """The arguments of an ``update``, such that what was there for a key is written down just before it is set.

    Nothing is read ahead: a generator may look at the dict that it fills, and may raise half way.
    """

    def note(key: Any) -> None:
        try:
            if key not in before:
                before[key] = peek(state, self, key)
        except Exception:  # unhashable, or its methods raise: the original says so itself
            return

    def pairs_of(mapping: Any) -> Iterator[Any]:
        for key in mapping.keys():  # noqa: SIM118  # what update() itself asks for
            value = mapping[key]
            note(key)
            yield key, value

    def watched(pairs: Iterator[Any]) -> Iterator[Any]:
        for pair in pairs:
            if type(pair) in (tuple, list, str) and len(pair) == 2:
                note(pair[0])
            yield pair

    for key in kwargs:
        note(key)
    if len(args) != 1:
        return args
    given = args[0]
    if isinstance(given, dict):
        for key in dict.__iter__(given):
            note(key)
        return args
    try:
        return (pairs_of(given),) if hasattr(given, "keys") else (watched(iter(given)),)
    except TypeError:  # nothing that can be read: the original says so itself
        return args


@kind_of_hook("update")
def _update(original: Any, meet: Meet) -> Hook:
    """``update`` of a C type, which does not call ``__setitem__``: only the keys that it was given are looked at."""
    behind = getattr(original, BEHIND, False)

    def update(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in (UPDATE, CLEAR)):
            return original(self, *args, **kwargs)
        before: dict[Any, Any] = {}
        if type(original) is not FunctionType or behind:  # a class's own update in Python goes through hooked methods
            args = _watched(state, self, args, kwargs, before)
        mine = state.push(UPDATE, None, b.EVICTED)
        mine.append(before)
        try:
            return original(self, *args, **kwargs)
        finally:
            if not mine[COMMITTED]:
                for key, old in before.items():
                    settle_open_set(state, self, key, old)
            state.pop(mine)
            if behind:
                settle_unseen(state, self, frame, b.EVICTED)

    return update
