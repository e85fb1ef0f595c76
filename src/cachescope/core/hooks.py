"""The only maker of hot closures: a row of an adapter's table becomes a function that counts and calls the original.

``make_hook(kind, original, meet)`` gives a plain function with the original's signature. It is the one seam that a
compiled hook would replace.

How the hooks hold the bar (PERF sections 1 to 3): one attribute look-up finds the state; a lookup is one increment and a
call; nothing reads a clock; what a call means is settled after the original returned, by what the cache holds then.
While something is up (a thread is inside a compound operation, reads are being sampled, or the state was released),
``state.busy`` says so and the slots ``hits`` and ``misses`` aren't there: the read path needs no test, for its increment
fails and a slower one takes over.

Rules for nested calls on one object (INTERCEPTION section 2; a frame is what a thread is in the middle of):

* inside a stock set, popitem, expire, delete or clear, reads are the library's own and no lookups;
* an entry that leaves inside a set of another key was evicted; inside expire, it expired; inside clear, it was cleared;
* whoever commits first marks the frame, so that an overriding method and the ``super()`` it calls count once.
"""

from __future__ import annotations

import functools
import sys
import weakref
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import get_ident
from types import CodeType, FrameType, FunctionType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.faults import swallow
from cachescope.core.splicing import around, with_hits_counted
from cachescope.core.state import (
    ATTRIBUTE,
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
    NEW_SET,
    OP,
    OWN_KEY_LEFT,
    PARENT,
    POP,
    POPITEM,
    RETIRED,
    SET,
    SET_OPEN,
    SETDEFAULT,
    UP,
    UPDATE,
    Frame,
    State,
)

Hook = Callable[..., Any]
Meet = Callable[[Any], State]
"""Finds or makes the state of an object that has none yet; never raises."""

_dict_get = dict.get
_getrefcount = sys.getrefcount
_LEAVES = frozenset((str, bytes))
GIVEN = OWN_KEY_LEFT + 1
"""A column that only frames of open sets and updates have: the value, or the keys, that they were given."""
_SEARCHED = 10_000
"""Entries among which a value is looked for that was stored past all hooks."""
_INNER = frozenset((SET, POPITEM, EXPIRE, CLEAR, LOOKUP))
"""Operations inside which a read is the library's own."""
missed_before_setdefault: set[str] = set()
"""Modules whose ``setdefault`` follows a miss that was counted already; adapters add to it."""

_set_codes: set[CodeType] = set()
"""The code of all hooks of plain sets, to know their frames by."""
KINDS: dict[str, Callable[[Any, Meet], Hook]] = {}
"""The closed set of kinds, filled below and in :mod:`cachescope.core.async_hooks`."""


def make_hook(kind: str, original: Any, meet: Meet) -> Hook:
    """Make the hook of one method.

    Args:
        kind: What a call of the method means; one of :data:`KINDS`. A kind ending in ``_open`` is for a method that a user's
            class overrides, which may or may not call the library's own.
        original: The function to call.
        meet: Finds the state of an object that is met for the first time.

    Returns:
        A function that looks like *original* (name, docstring, signature, ``__wrapped__``).
    """
    hook = KINDS[kind](original, meet)
    functools.update_wrapper(hook, original)
    _made.add(hook)
    return hook


_made: weakref.WeakSet[Any] = weakref.WeakSet()
"""All hooks there are. A spliced one has the library's file name, so that its code doesn't tell."""


def _kind(name: str) -> Callable[[Callable[[Any, Meet], Hook]], Callable[[Any, Meet], Hook]]:
    def register(maker: Callable[[Any, Meet], Hook]) -> Callable[[Any, Meet], Hook]:
        KINDS[name] = maker
        return maker

    return register


# The hot ones are templates: module-level functions whose globals ``original`` and ``meet`` are filled in per hook, by a
# function object of its own over a copy of this module's globals. Loading a global is two instructions less than
# calling through a closure's cell, on a path where each is half a percent.

original: Any
meet: Meet


def _bound(template: Hook, original: Any, meet: Meet) -> Hook:
    namespace = {**globals(), "original": original, "meet": meet}
    assert isinstance(template, FunctionType)  # for the types' sake
    return FunctionType(template.__code__, namespace, template.__name__, template.__defaults__)


# Lookups


@_kind("lookup")
def _lookup(original: Any, meet: Meet) -> Hook:
    """A stock ``__getitem__`` that calls ``__missing__``, whose hook counts the misses."""

    def cold(self: Any, key: Any) -> None:
        _count_hit(state_of(self, meet), key)

    return with_hits_counted(original, cold) or _bound(_lookup_template, original, meet)


def _lookup_template(self: Any, key: Any) -> Any:
    value = original(self, key)
    try:
        self._self_cachescope.hits += 1
        return value
    except AttributeError:  # met for the first time, or something is up: then the slot isn't there
        _count_hit(state_of(self, meet), key)
        return value


def _count_hit(state: State, key: Any) -> None:
    """Count a hit while something is up, unless the library read for itself."""
    frame = state.frame()
    if frame is not None:
        if frame[OP] in _INNER:
            return
        frame[LOOKED] = True
    elif RETIRED in state.busy:
        return
    state.hidden_hits += 1
    if state.armed:
        _sample(state, key, True)


@_kind("lookup_base")
def _lookup_base(original: Any, meet: Meet) -> Hook:
    """The ``__getitem__`` of the base class, which its subclasses' own methods also call to read from the side."""
    overriding: set[type] = set()
    plain: set[type] = set()
    inner = _lookup(original, meet)

    def __getitem__(self: Any, key: Any) -> Any:
        cls = type(self)
        if cls in overriding:
            return original(self, key)
        if cls not in plain:
            own = getattr(cls, "__getitem__", None)  # its hook counts, and the library's side-reads come past it
            (overriding if own is not __getitem__ else plain).add(cls)
            return __getitem__(self, key)
        return inner(self, key)

    return __getitem__


@_kind("missing")
def _missing(original: Any, meet: Meet) -> Hook:
    """The stock ``__missing__``, which raises KeyError: every miss of a lookup comes by."""

    def __missing__(self: Any, key: Any) -> Any:
        try:
            self._self_cachescope.misses += 1
        except AttributeError:  # met for the first time, or something is up: then the slot isn't there
            _count_miss(state_of(self, meet), key)
        raise KeyError(key)  # all that the original does, with one frame less to unwind

    if hasattr(original, "__wrapped__") or type(original) is not FunctionType:  # another tool's wrapper wants its call
        return _missing_wrapped(original, meet)
    return __missing__


def _missing_wrapped(original: Any, meet: Meet) -> Hook:
    def __missing__(self: Any, key: Any) -> Any:
        _count_miss(state_of(self, meet), key)
        return original(self, key)

    return __missing__


def _count_miss(state: State, key: Any) -> None:
    frame = state.frame()
    if frame is not None:
        if frame[OP] == LOADING and (frame[KEY] is key or frame[KEY] == key):
            return  # an overriding __missing__ called this one, and counts
        if frame[OP] in _INNER:
            if frame[OP] == LOOKUP:
                frame[LOOKED] = True  # tells an overriding __getitem__ that this was a miss, even if it hides it
            return
        frame[LOOKED] = True
    elif RETIRED in state.busy:
        return
    state.hidden_misses += 1
    if state.armed:
        _sample(state, key, False)


@_kind("lookup_flat")
def _lookup_flat(original: Any, meet: Meet) -> Hook:
    """A ``__getitem__`` that raises KeyError on a miss by itself."""

    def __getitem__(self: Any, key: Any) -> Any:
        state = state_of(self, meet)
        busy = state.busy
        if busy:
            frame = state.frame()
            if RETIRED in busy or (frame is not None and frame[OP] in _INNER):
                return original(self, key)
            if frame is not None:
                frame[LOOKED] = True
        try:
            value = original(self, key)
        except KeyError:
            state.hidden_misses += 1
            if state.armed:
                _sample(state, key, False)
            raise
        state.hidden_hits += 1
        if state.armed:
            _sample(state, key, True)
        return value

    return __getitem__


def _sample(state: State, key: Any, hit: bool) -> None:
    try:
        state.note_read(key, hit)
    except Exception as error:
        swallow("read sample", error)


@_kind("lookup_open")
def _lookup_open(original: Any, meet: Meet) -> Hook:
    """``__getitem__`` as a user's class overrides it: one lookup, whatever it calls inside."""

    def __getitem__(self: Any, key: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in _INNER):
            return original(self, key)
        if frame is not None:
            frame[LOOKED] = True
        mine = state.push(LOOKUP, key, b.DELETED)
        missed: bool | None = None
        try:
            value = original(self, key)
            missed = bool(mine[LOOKED])  # __missing__ ran: it marks the frame
        except KeyError:
            missed = True
            raise
        except BaseException:
            missed = True if mine[LOOKED] else None  # its loader failed; or it was no lookup at all
            raise
        finally:
            state.pop(mine)
            if missed is not None:
                _count_lookup(state, key, not missed)
        return value

    return __getitem__


@_kind("missing_open")
def _missing_open(original: Any, meet: Meet) -> Hook:
    """``__missing__`` as a user's class overrides it: what it returns was missed all the same."""

    def __missing__(self: Any, key: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in _INNER and frame[OP] != LOOKUP):
            return original(self, key)
        if frame is not None and frame[OP] == LOADING and (frame[KEY] is key or frame[KEY] == key):
            return original(self, key)  # super() of an overriding one
        overridden = frame is not None and frame[OP] == LOOKUP  # then the hook of that __getitem__ counts
        if frame is not None:
            frame[LOOKED] = True
        mine = state.push(LOADING, key, b.DELETED)  # what a loader reads and sets are operations of their own
        try:
            value = original(self, key)
        except BaseException:
            if not overridden:
                state.hidden_misses += 1
            raise
        finally:
            state.pop(mine)
        if not overridden:
            state.hidden_misses += 1
            state.hidden_hits -= 1  # the hook of __getitem__ will take it for a hit
        return value

    return __missing__


@_kind("get")
def _get(original: Any, meet: Meet) -> Hook:
    """A stock ``get``: ``self[key]`` when the key is there, else the default.

    The hook does the same instead of calling the original, whose frame would cost as much as all the rest.
    """
    if hasattr(original, "__wrapped__") or type(original) is not FunctionType:  # another tool's wrapper wants its call
        return _get_wrapped(original, meet)
    return _bound(_get_template, original, meet)


def _get_wrapped(original: Any, meet: Meet) -> Hook:
    def get(self: Any, key: Any, default: Any = None) -> Any:
        value = original(self, key, MISSING)
        if value is not MISSING:
            return value
        _count_miss(state_of(self, meet), key)
        return default

    return get


def _get_template(self: Any, key: Any, default: Any = None) -> Any:
    if key in self:
        return self[key]
    try:
        self._self_cachescope.misses += 1
    except AttributeError:  # met for the first time, or something is up: then the slot isn't there
        _count_miss(state_of(self, meet), key)
    return default


def _busy_get(state: State, key: Any, hit: bool) -> None:
    frame = state.frame()
    if frame is not None:
        if frame[OP] in _INNER:
            return
        frame[LOOKED] = True
    elif RETIRED in state.busy:
        return
    _count_lookup(state, key, hit)


@_kind("get_flat")
def _get_flat(original: Any, meet: Meet) -> Hook:
    """A ``get`` written in C, which calls nothing on ``self``."""

    def get(self: Any, key: Any, default: Any = None, /) -> Any:
        value = original(self, key, MISSING)
        state = state_of(self, meet)
        if state.busy:
            _busy_get(state, key, value is not MISSING)
        elif value is MISSING:
            state.hidden_misses += 1
        else:
            state.hidden_hits += 1
        return default if value is MISSING else value

    return get


@_kind("lookup_default")
def _lookup_default(original: Any, meet: Meet) -> Hook:
    """``__getitem__`` of a defaultdict: a miss makes an entry."""

    def __getitem__(self: Any, key: Any) -> Any:
        state = owned_state(self, meet)
        if RETIRED in state.busy:
            return original(self, key)
        old = peek_or_refuse(state, self, key)
        if old is REFUSED:
            return original(self, key)
        try:
            value = original(self, key)
        except BaseException as error:
            if isinstance(error, KeyError):
                _count_lookup(state, key, False)
            raise
        _count_lookup(state, key, old is not MISSING)
        if old is MISSING and is_there(state, self, key):
            _settle_open_set(state, self, key, old, value)
        return value

    return __getitem__


@_kind("get_open")
def _get_open(original: Any, meet: Meet) -> Hook:
    """A ``get`` of any make: one lookup, a hit when the key is in the cache or an inner read hit."""

    def get(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = state_of(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in (*_INNER, GET)):
            return original(self, key, *args, **kwargs)
        if frame is not None:
            frame[LOOKED] = True
        resident = is_there(state, self, key)
        mine = state.push(GET, key, b.DELETED)
        try:
            value = original(self, key, *args, **kwargs)
        finally:
            state.pop(mine)
        if not mine[LOOKED]:
            _count_lookup(state, key, resident and is_there(state, self, key))
        return value

    return get


def _count_lookup(state: State, key: Any, hit: bool) -> None:
    if hit:
        state.hidden_hits += 1
    else:
        state.hidden_misses += 1
    if state.armed:
        _sample(state, key, hit)


# Sets


@_kind("set")
def _set(original: Any, meet: Meet) -> Hook:
    """A stock ``__setitem__`` of a cache whose entries are in an exact dict of its own, ``state.data``."""
    hook = around(original, _set_template, {"original": original, "meet": meet}) or _bound(_set_template, original, meet)
    _set_codes.add(hook.__code__)
    return hook


def _set_template(self: Any, key: Any, value: Any) -> Any:
    ident = get_ident()
    try:
        state = self._self_cachescope
        data = state.data
        if key in data or state.setter:
            state = None
    except BaseException:  # met for the first time; or unhashable, or __hash__ or __eq__ raised
        state = None
    if state is None:
        return _cold_set(original, self, key, value, meet)
    state.setter = ident  # nothing was called since it was seen free: no other thread came between
    try:
        original(self, key, value)
    except BaseException:
        state.setter = state.resting
        _settle_failed_set(state, data, key, MISSING, False)
        raise
    state.setter = state.resting
    try:
        new = data[key]
        if type(new) in _LEAVES and type(key) is str and _getrefcount(new) <= _NORMAL_REFERENCES:
            size = new.__sizeof__() + key.__sizeof__()
            if size < 4_096:
                state.live_bytes += size
                state.sets += 1
                if state.sets > state.next_followed:
                    state.begin(key, size)
                return
        state.commit_set(key, new, MISSING, _getrefcount(new) > _NORMAL_REFERENCES)
    except KeyError:  # it was not stored: the value had expired before it came
        return
    except Exception as error:
        swallow("set", error)


def _cold_set(original: Any, self: Any, key: Any, value: Any, meet: Meet) -> Any:
    """A set that is no plain one of a new key: a replacement, one inside another operation, or a first meeting."""
    return _nested_set(owned_state(self, meet), original, self, key, value)


@_kind("set_flat")
def _set_flat(original: Any, meet: Meet) -> Hook:
    """A ``__setitem__`` of a cache that is itself a dict, or whose entries are in one of another class."""

    def __setitem__(self: Any, key: Any, value: Any) -> Any:
        return _nested_set(owned_state(self, meet), original, self, key, value)

    return __setitem__


def _settle_failed_set(state: State, data: Any, key: Any, old: Any, own_key_left: bool) -> None:
    """A set raised: account for what it did to the key before it did."""
    try:
        new = _dict_get(data, key, MISSING)
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


def _nested_set(state: State, original: Any, self: Any, key: Any, value: Any) -> Any:
    """A set inside another operation of the same thread on the same object."""
    frame = state.frame()
    if RETIRED in state.busy or (frame is not None and _is_being_set(frame, self, key)):
        return original(self, key, value)
    old = peek_or_refuse(state, self, key)
    if old is REFUSED:
        return original(self, key, value)
    mine = state.push(SET, key, b.EVICTED)
    try:
        result = original(self, key, value)
    except BaseException:
        state.pop(mine)
        if state.record is not None:
            _settle_failed_set(state, state.data if state.data is not None else self, key, old, mine[OWN_KEY_LEFT])
        raise
    try:  # still in its frame, so that nobody takes it for a set that no hook has seen
        _mark_setters(state, self, frame, key, value)
        _settle_set(state, self, key, old, value, mine)
    finally:
        state.pop(mine)
    return result


def _is_being_set(frame: Frame | None, self: Any, key: Any, also: int = SET) -> bool:
    """Whether this set is part of another one of the same key, which will be committed by that.

    A set of another key inside a set is one of its own: a ``__del__``, a signal handler or a collector's callback ran.
    """
    while frame is not None:
        if frame[OP] == SET or (frame[OP] == also and not frame[COMMITTED]):
            other = _key_being_set(self) if frame is NEW_SET else frame[KEY]
            if other is key or other == key:
                return True
        frame = frame[PARENT]
    return False


def _key_being_set(self: Any) -> Any:
    """The key of a plain set in progress, which has written it down nowhere: from the frame of its hook."""
    caller: FrameType | None = sys._getframe(2)
    while caller is not None:
        if caller.f_code in _set_codes and caller.f_locals.get("self") is self:
            return caller.f_locals["key"]
        caller = caller.f_back
    return MISSING


def _mark_setters(state: State, self: Any, frame: Frame | None, key: Any, value: Any) -> None:
    """Tell the sets around that this one was theirs: it has their key, or their value under a key of another form.

    What a loader inside a look-up sets is not theirs, nor what a callback sets in the middle of them.
    """
    while frame is not None and frame[OP] not in (LOOKUP, GET, LOADING):
        if frame[OP] in _SETTING and frame is not NEW_SET:
            given = frame[GIVEN] if len(frame) > GIVEN else MISSING
            if frame[OP] == UPDATE:
                theirs = key in given
            else:
                theirs = frame[KEY] is key or frame[KEY] == key
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
            state.commit_set(key, new, old, _getrefcount(new) > _NORMAL_REFERENCES + 3)  # three calls deeper
        elif old is not MISSING:
            state.commit_removal(key, old, b.EXPIRED)
    except Exception as error:
        swallow("set", error)


@_kind("set_open")
def _set_open(original: Any, meet: Meet) -> Hook:
    """``__setitem__`` as a user's class overrides it; if the library's own runs inside, that one commits."""
    behind = getattr(original, BEHIND, False)

    def __setitem__(self: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and _is_being_set(frame, self, key, SET_OPEN)):
            return original(self, key, value, *args, **kwargs)
        old = peek_or_refuse(state, self, key)
        if old is REFUSED:
            return original(self, key, value, *args, **kwargs)
        # A dict's own methods can be called past all hooks: dict.popitem(self).
        victim = _next_victim(state, self) if behind or state.data is None else None
        mine = state.push(SET_OPEN, key, b.EVICTED)
        mine.append(value)
        try:
            result = original(self, key, value, *args, **kwargs)
        finally:
            if not mine[COMMITTED]:
                _settle_open_set(state, self, key, MISSING if mine[OWN_KEY_LEFT] else old, value)
            state.pop(mine)
            _mark_setters(state, self, frame, key, value)
            if victim is not None:
                _settle_victim(state, self, frame, victim)
            if behind:
                _settle_unseen(state, self, frame, b.EVICTED)
        return result

    return __setitem__


BEHIND = "_cachescope_behind"
"""Set on functions that run a method on what a proxy stands for, so that nothing it calls is seen."""


def _next_victim(state: State, self: Any) -> tuple[Any, Any] | None:
    data: Any = self if state.data is None else state.data
    try:
        key = next(OrderedDict.__iter__(data) if isinstance(data, OrderedDict) else dict.__iter__(data))
        return key, dict.__getitem__(data, key)
    except Exception:  # it is empty, or another thread changed it
        return None


def _settle_victim(state: State, self: Any, frame: Frame | None, victim: tuple[Any, Any]) -> None:
    """The entry that was the oldest before a set: has it been evicted?"""
    try:
        data: Any = self if state.data is None else state.data
        if frame is None and dict.__len__(data) < state.entries and peek(state, self, victim[0]) is MISSING:
            state.commit_removal(victim[0], victim[1], b.EVICTED)
    except Exception as error:
        swallow("victim", error)


def _settle_unseen(state: State, self: Any, frame: Frame | None, cause: int) -> None:
    """The outermost operation is over: has anything left past all hooks, as behind a proxy or under another key?"""
    if frame is not None or state.record is None or not _is_alone(state):
        return
    data: Any = self if state.data is None else state.data
    try:
        if dict.__len__(data) < state.entries:
            state.reconcile(data, cause)
    except Exception as error:
        swallow("unseen removals", error)


def _settle_open_set(state: State, self: Any, key: Any, old: Any, value: Any = MISSING) -> None:
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
        state.commit_set(key, _dict_get(data, key, MISSING), MISSING, False)
    elif size == state.entries and size <= _SEARCHED and any(held is value for held in list(dict.values(data))):
        state.reconcile(data, b.DELETED)


@_kind("setdefault")
def _setdefault(original: Any, meet: Meet) -> Hook:
    """``setdefault``: a hit, or a miss and a set."""
    behind = getattr(original, BEHIND, False)

    def setdefault(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and (frame[OP] in _INNER or frame[OP] == SETDEFAULT)):
            return original(self, key, *args, **kwargs)
        old = peek_or_refuse(state, self, key)
        if old is REFUSED:
            return original(self, key, *args, **kwargs)
        mine = state.push(SETDEFAULT, key, b.EVICTED)
        try:
            result = original(self, key, *args, **kwargs)
        finally:
            state.pop(mine)
        try:
            if not mine[LOOKED]:  # no self[key] ran inside: it was absent, or the type is written in C
                hit = old is not MISSING and not mine[COMMITTED]
                if hit or not _miss_was_counted():
                    _count_lookup(state, key, hit)
            if not mine[COMMITTED]:
                _settle_open_set(state, self, key, MISSING if mine[OWN_KEY_LEFT] else old)
            if behind:
                _settle_unseen(state, self, frame, b.EVICTED)
        except Exception as error:
            swallow("setdefault", error)
        return result

    return setdefault


def _miss_was_counted() -> bool:
    """Whether the caller is a memoising wrapper that has looked the key up before (``@cached(lock=)``)."""
    return sys._getframe(2).f_globals.get("__name__") in missed_before_setdefault


# Removals


@_kind("delete")
def _delete(original: Any, meet: Meet) -> Hook:
    """A stock ``__delitem__`` of a cache whose entries are in an exact dict of its own, ``state.data``."""
    return around(original, _delete_template, {"original": original, "meet": meet}) or _bound(
        _delete_template, original, meet
    )


def _delete_template(self: Any, key: Any) -> Any:
    try:
        state = self._self_cachescope
        value = state.data[key]
        setter = state.setter
    except BaseException:  # met for the first time, not there, or unhashable, or __hash__ or __eq__ raised
        setter = UP
    if setter and (setter != get_ident() or state.resting):
        return _cold_delete(original, self, key, meet)
    try:
        original(self, key)
    except BaseException:
        _settle_removal(state, self, key, value, b.EXPIRED, None)  # a TTL cache removes the entry, then raises
        raise
    try:
        if type(value) in _LEAVES and type(key) is str and not state.shares and not state.written:
            size = value.__sizeof__() + key.__sizeof__()
            if setter:
                state.evictions += 1
                state.evicted_bytes += size
            else:
                state.mark_peak()
                state.deletes += 1
                state.deleted_bytes += size
            state.live_bytes -= size
            if key in state.followed:
                state.note(b.EVICTED if setter else b.DELETED, key, size)
        else:
            state.commit_removal(key, value, b.EVICTED if setter else b.DELETED)
    except Exception as error:
        swallow("delete", error)


@_kind("delete_flat")
def _delete_flat(original: Any, meet: Meet) -> Hook:
    """A ``__delitem__`` of a cache that is itself a dict, or whose entries are in one of another class."""

    def __delitem__(self: Any, key: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        value = peek_or_refuse(state, self, key)
        if value is REFUSED or value is MISSING or RETIRED in state.busy:
            return original(self, key)
        mine = state.push(DELETE_OPEN, key, _cause_at(frame, key))  # seen by what looks for unseen removals
        try:
            return original(self, key)
        finally:
            _settle_removal(state, self, key, value, mine[CAUSE], frame)
            state.pop(mine)

    return __delitem__


def _cold_delete(original: Any, self: Any, key: Any, meet: Meet) -> Any:
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
        _settle_removal(state, self, key, value, cause, frame)


def _cause_inside(frame: Frame, key: Any) -> int:
    """Why an entry leaves inside *frame*; tells every set around that it was its own key, where it was."""
    if frame is NEW_SET:
        return b.EVICTED
    op = frame[OP]
    cause: int = frame[CAUSE]
    if op == SET:
        if frame[KEY] is key or frame[KEY] == key:
            frame[OWN_KEY_LEFT] = True
        return cause
    if op == SET_OPEN and (frame[KEY] is key or frame[KEY] == key):
        cause = b.DELETED  # an overriding __setitem__ that deletes before it sets
    around: Frame | None = frame
    removing = True
    while around is not None:
        if around[OP] in _SETTING:
            removing = False  # the set that this removal makes room for is yet to come
            if around[KEY] is key or around[KEY] == key:
                around[OWN_KEY_LEFT] = True
        elif removing:
            around[COMMITTED] += 1
        around = around[PARENT]
    return cause


def _settle_removal(state: State, self: Any, key: Any, value: Any, cause: int, frame: Frame | None) -> None:
    """Commit a removal that no hook inside has committed, if there was one."""
    try:
        if value is not MISSING and state.record is not None and peek(state, self, key) is MISSING:
            if frame is not None:
                inside = _cause_inside(frame, key)
                cause = inside if cause != b.EXPIRED else cause
            state.commit_removal(key, value, cause)
    except Exception as error:
        swallow("removal", error)


@_kind("delete_open")
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
        mine = state.push(DELETE_OPEN, key, _cause_at(frame, key))
        try:
            return original(self, key, *args, **kwargs)
        finally:
            state.pop(mine)
            if not mine[COMMITTED]:
                _settle_removal(state, self, key, value, mine[CAUSE], frame)
            if value is MISSING:
                _settle_unseen(state, self, frame, mine[CAUSE])

    return __delitem__


def _cause_at(frame: Frame | None, key: Any) -> int:
    """Why an entry would leave by a removal that begins inside *frame*."""
    if frame is None:
        return b.DELETED
    if frame[OP] in _SETTING and (frame[KEY] is key or frame[KEY] == key) and key is not None:
        return b.DELETED
    return b.EVICTED if frame[OP] in _SETTING else int(frame[CAUSE])


@_kind("pop")
def _pop(original: Any, meet: Meet) -> Hook:
    """``pop``: a hit and a delete, or a miss."""

    def pop(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and (frame[OP] in _PASS_SET or frame[OP] == POP)):
            return original(self, key, *args, **kwargs)
        value = peek_or_refuse(state, self, key)
        if value is REFUSED:
            return original(self, key, *args, **kwargs)
        cause = _cause_at(frame, key)
        mine = state.push(POP, key, cause)
        error: BaseException | None = None
        try:
            return original(self, key, *args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            state.pop(mine)
            if not mine[LOOKED] and cause == b.DELETED and (error is None or isinstance(error, KeyError)):
                _count_lookup(state, key, value is not MISSING and not is_there(state, self, key))
            if not mine[COMMITTED]:
                _settle_removal(state, self, key, value, cause, frame)
                if value is MISSING and mine[LOOKED]:
                    _settle_unseen(state, self, frame, cause)
            del error  # it refers to this frame

    return pop


@_kind("popitem")
def _popitem(original: Any, meet: Meet) -> Hook:
    """A stock ``popitem`` that reads and deletes through methods that are hooked."""

    def popitem(self: Any) -> Any:
        try:
            state = self._self_cachescope
            state.busy  # noqa: B018  # an unpickled state is None
        except AttributeError:
            state = meet(self)
        return _framed_popitem(state, original, self, (), {})

    return popitem


@_kind("popitem_open")
def _popitem_open(original: Any, meet: Meet) -> Hook:
    """``popitem`` of any make, with any arguments; what it returns is the entry that left."""

    def popitem(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _framed_popitem(owned_state(self, meet), original, self, args, kwargs)

    return popitem


def _framed_popitem(state: State, original: Any, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    frame = state.frame()
    if RETIRED in state.busy or (frame is not None and frame[OP] in _PASS_POPITEM):
        return original(self, *args, **kwargs)
    cause = _cause_at(frame, None)
    mine = state.push(POPITEM, None, cause)
    try:
        result = original(self, *args, **kwargs)
    finally:
        state.pop(mine)
    if not mine[COMMITTED] and type(result) is tuple and len(result) == 2:
        try:
            _cause_inside(mine, result[0])
            state.commit_removal(result[0], result[1], cause)
        except Exception as error:
            swallow("popitem", error)
    return result


_PASS_POPITEM = frozenset((POPITEM, EXPIRE, CLEAR))
_PASS_SET = frozenset((SET, POPITEM, EXPIRE, CLEAR))
_SETTING = frozenset((SET, SET_OPEN, SETDEFAULT, UPDATE))


@_kind("expire")
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
                    _cause_inside(mine, key)
                    state.commit_removal(key, value, b.EXPIRED)
            except Exception as error:
                swallow("expire", error)
        return result

    return expire


@_kind("clear")
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


@_kind("update")
def _update(original: Any, meet: Meet) -> Hook:
    """``update`` of a C type, which does not call ``__setitem__``: only the keys that it was given are looked at."""
    behind = getattr(original, BEHIND, False)

    def update(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = owned_state(self, meet)
        frame = state.frame()
        if RETIRED in state.busy or (frame is not None and frame[OP] in (UPDATE, CLEAR)):
            return original(self, *args, **kwargs)
        try:
            if args and not isinstance(args[0], Mapping) and not hasattr(args[0], "keys"):
                args = (list(args[0]), *args[1:])  # an iterator can be read once only
            before = {key: peek(state, self, key) for key in dict(*args, **kwargs)}
        except Exception:
            return original(self, *args, **kwargs)
        mine = state.push(UPDATE, None, b.EVICTED)
        mine.append(before)
        try:
            return original(self, *args, **kwargs)
        finally:
            if not mine[COMMITTED]:
                for key, old in before.items():
                    _settle_open_set(state, self, key, old)
            state.pop(mine)
            if behind:
                _settle_unseen(state, self, frame, b.EVICTED)

    return update


# Life


@_kind("init")
def _init(original: Any, meet: Meet) -> Hook:
    """``__init__``: the object is met at once, while the line that makes it is in sight."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _meet_quietly(self, meet)

    return __init__


@_kind("setstate")
def _setstate(original: Any, meet: Meet) -> Hook:
    """``__setstate__``: whatever came along in the state is not this object's."""

    def __setstate__(self: Any, state: Any) -> Any:
        if type(state) is dict and ATTRIBUTE in state:
            state = {name: value for name, value in state.items() if name != ATTRIBUTE}
        result = original(self, state)
        _meet_quietly(self, meet)
        return result

    return __setstate__


@_kind("copy")
def _copy(original: Any, meet: Meet) -> Hook:
    """``__copy__`` or ``copy``: the copy is an object of its own."""

    def __copy__(self: Any) -> Any:
        result = original(self)
        if result is not self and type(result) is type(self):
            try:
                own = object.__getattribute__(result, "__dict__")
                if own.get(ATTRIBUTE) is not None and own[ATTRIBUTE].owner != id(result):
                    del own[ATTRIBUTE]
            except Exception as error:
                swallow("copy", error)
            _meet_quietly(result, meet)
        return result

    return __copy__


@_kind("reduce")
def _reduce(original: Any, meet: Meet) -> Hook:
    """``__reduce_ex__``: pickles and copies hold nothing of ours."""

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return without_state(original(self, protocol))

    return __reduce_ex__


def without_state(reduced: Any) -> Any:
    """What ``__reduce_ex__`` gave, less our attribute."""
    if type(reduced) is tuple and len(reduced) > 2 and type(reduced[2]) is dict and ATTRIBUTE in reduced[2]:
        kept = {name: value for name, value in reduced[2].items() if name != ATTRIBUTE}
        return (*reduced[:2], kept, *reduced[3:])
    return reduced


def _meet_quietly(self: Any, meet: Meet) -> None:
    try:
        state = getattr(self, ATTRIBUTE, None)
        if state is None or state.owner != id(self) or state.data is None:
            meet(self)
    except Exception as error:
        swallow("meeting a cache", error)


# What all of them use


def peek(state: State, self: Any, key: Any) -> Any:
    """What the cache holds for *key* now, read from the side; MISSING when nothing."""
    data: Any = state.data
    return _dict_get(self if data is None else data, key, MISSING)


REFUSED: Any = type("Refused", (), {"__slots__": ()})()


def peek_or_refuse(state: State, self: Any, key: Any) -> Any:
    """The same; REFUSED when the key can't be looked up. The caller then lets the original say so, with no context of ours."""
    try:
        return peek(state, self, key)
    except Exception:
        return REFUSED


def is_there(state: State, self: Any, key: Any) -> bool:
    """Whether the cache holds *key*; False when that can't be told. Never raises but what interrupts."""
    try:
        return peek(state, self, key) is not MISSING
    except Exception:  # __eq__ raised, or another thread has undone the patch meanwhile
        return False


def state_of(self: Any, meet: Meet) -> State:
    """The object's state; an object met for the first time gets one."""
    try:
        state: State = self._self_cachescope
        state.busy  # noqa: B018  # an unpickled state is None
    except AttributeError:
        return meet(self)
    else:
        return state


def owned_state(self: Any, meet: Meet) -> State:
    """The object's state, and surely its own: a copied ``__dict__`` brings the original's along."""
    state = state_of(self, meet)
    return state if state.owner == id(self) else meet(self)


class _Probe:
    """Finds how many references a fresh value has inside a set hook on this interpreter."""

    seen = 0

    def __setitem__(self, key: str, value: object) -> None:
        held = {key: value}
        new = held.get(key, MISSING)
        _Probe.seen = _getrefcount(new)


def _calibrate() -> int:
    probe = _Probe()
    probe["key"] = object()
    # The caller may keep it in a variable of its own, and pass it on from a function that does: two more.
    return _Probe.seen + 2


_NORMAL_REFERENCES = _calibrate()


def is_hook(function: Any) -> bool:
    """Whether a method is a hook of ours, live or inert."""
    return type(function) is FunctionType and function in _made  # wrapt's wrappers only look like functions


def unhooked(function: Any) -> Any:
    """What a hook of ours calls; anything else as it is."""
    while is_hook(function) and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function
