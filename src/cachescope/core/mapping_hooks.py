"""The hooks of methods that may do anything: of C types, and of what a user's class overrides."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from types import FunctionType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began, enter, loader_began, loader_took, lookup_ended, lookup_took, took
from cachescope.core.faults import swallow
from cachescope.core.hooks import Hook, Meet, kind_of_hook
from cachescope.core.looking import REFUSED, is_there, owned_state, peek, peek_or_refuse, state_of
from cachescope.core.settling import (
    INNER,
    PASS_SET,
    busy_get,
    cause_at,
    cause_inside,
    count_lookup,
    framed_popitem,
    is_being_set,
    mark_setters,
    miss_was_counted,
    nested_set,
    next_victim,
    same_key,
    settle_open_set,
    settle_removal,
    settle_unseen,
    settle_victim,
    tell_lookup,
)
from cachescope.core.state import (
    CAUSE,
    CLEAR,
    COMMITTED,
    DELETE_OPEN,
    EXPIRE,
    GET,
    KEY,
    LOADING,
    LOOKED,
    LOOKUP,
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


@kind_of_hook("lookup_flat")
def _lookup_flat(original: Any, meet: Meet) -> Hook:
    """A ``__getitem__`` that raises KeyError on a miss by itself."""

    def __getitem__(self: Any, key: Any) -> Any:
        state = state_of(self, meet)
        busy = state.busy
        if busy:
            frame = state.frame()
            if RETIRED in busy or (frame is not None and frame[OP] in INNER):
                return original(self, key)
            if frame is not None:
                frame[LOOKED] = True
        since = enter(state) if TIMING.up else 0
        hit: bool | None = None
        try:
            value = original(self, key)
            hit = True
        except KeyError:
            hit = False
            state.hidden_misses += 1
            if state.armed:
                tell_lookup(state, key, False)
            raise
        finally:
            if since:
                lookup_ended(state, key, hit, perf_counter_ns() - since)
        state.hidden_hits += 1
        if state.armed:
            tell_lookup(state, key, True)
        return value

    return __getitem__


@kind_of_hook("lookup_open")
def _lookup_open(original: Any, meet: Meet) -> Hook:
    """``__getitem__`` as a user's class overrides it: one lookup, whatever it calls inside."""

    def __getitem__(self: Any, key: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in INNER):
            return original(self, key)
        if frame is not None:
            frame[LOOKED] = True
        since = enter(state) if TIMING.up else 0
        mine = state.push(LOOKUP, key, b.DELETED)
        missed: bool | None = None
        took_ns = 0
        try:
            if since:
                since = perf_counter_ns()
            value = original(self, key)
            missed = bool(mine[LOOKED])  # __missing__ ran: it marks the frame
        except KeyError:
            missed = True
            raise
        except BaseException:
            missed = True if mine[LOOKED] else None  # its loader failed; or it was no lookup at all
            raise
        finally:
            if since:
                took_ns = perf_counter_ns() - since
            state.pop(mine)
            if missed is not None:
                count_lookup(state, key, not missed)
            if since:
                lookup_ended(state, key, None if missed is None else not missed, took_ns)
        return value

    return __getitem__


@kind_of_hook("missing_open")
def _missing_open(original: Any, meet: Meet) -> Hook:
    """``__missing__`` as a user's class overrides it: what it returns was missed all the same."""

    def __missing__(self: Any, key: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in INNER and frame[OP] != LOOKUP):
            return original(self, key)
        if frame is not None and frame[OP] == LOADING and same_key(frame[KEY], key):
            return original(self, key)  # super() of an overriding one
        overridden = frame is not None and frame[OP] == LOOKUP  # then the hook of that __getitem__ counts
        if frame is not None:
            frame[LOOKED] = True
        since = loader_began(state)
        mine = state.push(LOADING, key, b.DELETED)  # what a loader reads and sets are operations of their own
        failed = True
        try:
            value = original(self, key)
            failed = False
        except BaseException:
            if not overridden:
                count_lookup(state, key, False)
            raise
        finally:
            if since:
                loader_took(state, perf_counter_ns() - since, failed)
            state.pop(mine)
        if not overridden:
            count_lookup(state, key, False)
            state.hidden_hits -= 1  # the hook of __getitem__ will take it for a hit
        return value

    return __missing__


@kind_of_hook("get_flat")
def _get_flat(original: Any, meet: Meet) -> Hook:
    """A ``get`` written in C, which calls nothing on ``self``."""

    def get(self: Any, key: Any, default: Any = None, /) -> Any:
        since = began(state_of(self, meet)) if TIMING.up else 0
        value = original(self, key, MISSING)
        took_ns = perf_counter_ns() - since if since else 0
        state = state_of(self, meet)
        if took_ns:
            lookup_took(state, key, value is not MISSING, took_ns)
        if state.busy or state.armed:
            busy_get(state, key, value is not MISSING)
        elif value is MISSING:
            state.hidden_misses += 1
        else:
            state.hidden_hits += 1
        return default if value is MISSING else value

    return get


@kind_of_hook("lookup_default")
def _lookup_default(original: Any, meet: Meet) -> Hook:
    """``__getitem__`` of a defaultdict: a miss makes an entry."""

    def __getitem__(self: Any, key: Any) -> Any:
        state = owned_state(self, meet)
        if RETIRED in state.busy:
            return original(self, key)
        old = peek_or_refuse(state, self, key)
        if old is REFUSED:
            return original(self, key)
        since = began(state) if TIMING.up else 0
        try:
            value = original(self, key)
        except BaseException as error:
            if isinstance(error, KeyError):
                count_lookup(state, key, False)
            raise
        if since:
            took(state, b.LOOKUP_MISS if old is MISSING else b.LOOKUP_HIT, perf_counter_ns() - since)
        count_lookup(state, key, old is not MISSING)
        if old is MISSING and is_there(state, self, key):
            settle_open_set(state, self, key, old, value)
        return value

    return __getitem__


@kind_of_hook("get_open")
def _get_open(original: Any, meet: Meet) -> Hook:
    """A ``get`` of any make: one lookup, a hit when the key is in the cache or an inner read hit."""

    def get(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in (*INNER, GET)):
            return original(self, key, *args, **kwargs)
        if frame is not None:
            frame[LOOKED] = True
        resident = is_there(state, self, key)
        since = enter(state) if TIMING.up else 0
        mine = state.push(GET, key, b.DELETED)
        hit: bool | None = None
        try:
            if since:
                since = perf_counter_ns()
            value = original(self, key, *args, **kwargs)
            hit = resident
        finally:
            took_ns = perf_counter_ns() - since if since else 0
            state.pop(mine)
            if since:
                lookup_ended(state, key, hit, took_ns)
        if not mine[LOOKED]:
            count_lookup(state, key, resident and is_there(state, self, key))
        return value

    return get


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


BEHIND = "_cachescope_behind"
"""Set on functions that run a method on what a proxy stands for, so that nothing it calls is seen."""


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
