"""The hot hooks: of a library's own methods, whose behaviour is known.

How they stay cheap: no wrapper's frame where it can be had; one attribute look-up finds the
state; a hit is one increment; nothing reads a clock; what a set or delete means is settled after it returned, by what the
cache holds then. While something is up (a thread is inside a compound operation, reads are being sampled, or the state
was released), ``state.busy`` says so and the slots ``hits`` and ``misses`` aren't there: the read path needs no test, for
its increment fails and a slower one takes over.
"""

from __future__ import annotations

from threading import get_ident
from types import FunctionType
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began, timed
from cachescope.core.faults import swallow
from cachescope.core.hooks import Hook, Meet, kind_of_hook
from cachescope.core.looking import state_of
from cachescope.core.settling import (
    NORMAL_REFERENCES,
    cold_delete,
    cold_set,
    count_hit,
    count_miss,
    framed_popitem,
    getrefcount,
    set_codes,
    settle_failed_set,
    settle_removal,
)
from cachescope.core.splicing import around, with_hits_counted
from cachescope.core.state import ATTRIBUTE, MISSING, UP

_LEAVES = frozenset((str, bytes))

# The hot ones are templates: functions whose ``original`` and ``meet`` are filled in per hook. Where the source of the
# library's method is to be had, it is put into them and both are compiled as one (see ``splicing``); else a function
# object of its own over a copy of this module's globals calls it, which costs two instructions less than a closure.
original: Any = None
meet: Any = None
timed_get: Any = None


def _bound(template: Hook, original: Any, meet: Meet, **more: Any) -> FunctionType:
    namespace = {**globals(), "original": original, "meet": meet, **more}
    assert isinstance(template, FunctionType)  # for the types' sake
    return FunctionType(template.__code__, namespace, template.__name__, template.__defaults__)


@kind_of_hook("lookup")
def _lookup(original: Any, meet: Meet) -> Hook:
    """A stock ``__getitem__`` that calls ``__missing__``, whose hook counts the misses."""

    def cold(self: Any, key: Any) -> None:
        count_hit(state_of(self, meet), key)

    inner = with_hits_counted(original, cold)
    if inner is None:  # its source isn't to be had: it isn't timed
        return _bound(_lookup_template, original, meet)
    return with_hits_counted(original, cold, _timed(b.LOOKUP_HIT, inner)) or inner


def _timed(what: int, inner: Any) -> Hook:
    """What runs instead of a hot hook while operations are timed: the same, with a clock around it where that is wanted."""

    def timed_hook(self: Any, key: Any, *more: Any) -> Any:
        state = getattr(self, ATTRIBUTE, None)
        if state is None or not began(state):
            return inner(self, key, *more)
        return timed(state, what, inner, self, key, *more)

    return timed_hook


def _lookup_template(self: Any, key: Any) -> Any:
    value = original(self, key)
    try:
        self._self_cachescope.hits += 1
        return value
    except AttributeError:  # met for the first time, or something is up: then the slot isn't there
        count_hit(state_of(self, meet), key)
        return value


@kind_of_hook("lookup_base")
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


@kind_of_hook("missing")
def _missing(original: Any, meet: Meet) -> Hook:
    """The stock ``__missing__``, which raises KeyError: every miss of a lookup comes by."""

    def __missing__(self: Any, key: Any) -> Any:
        try:
            self._self_cachescope.misses += 1
        except AttributeError:  # met for the first time, or something is up: then the slot isn't there
            count_miss(state_of(self, meet), key)
        raise KeyError(key)  # all that the original does, with one frame less to unwind

    if hasattr(original, "__wrapped__") or type(original) is not FunctionType:  # another tool's wrapper wants its call
        return _missing_wrapped(original, meet)
    return __missing__


def _missing_wrapped(original: Any, meet: Meet) -> Hook:
    def __missing__(self: Any, key: Any) -> Any:
        count_miss(state_of(self, meet), key)
        return original(self, key)

    return __missing__


@kind_of_hook("get")
def _get(original: Any, meet: Meet) -> Hook:
    """A stock ``get``: ``self[key]`` when the key is there, else the default.

    The hook does the same instead of calling the original, whose frame would cost as much as all the rest.
    """
    if hasattr(original, "__wrapped__") or type(original) is not FunctionType:  # another tool's wrapper wants its call
        return _get_wrapped(original, meet)
    return _bound(_get_template, original, meet, timed_get=_timed(b.LOOKUP_HIT, _bound(_get_inside, original, meet)))


@kind_of_hook("get_timed")
def _get_timed(original: Any, meet: Meet) -> Hook:
    """The stock ``get`` of a time-aware cache, which freezes its clock meanwhile."""
    if hasattr(original, "__wrapped__") or type(original) is not FunctionType:
        return _get_wrapped(original, meet)

    def inside(self: Any, key: Any, default: Any = None) -> Any:
        with self._TimedCache__timer:
            if key in self:
                return self[key]
        count_miss(state_of(self, meet), key)
        return default

    timed_get = _timed(b.LOOKUP_HIT, inside)

    def get(self: Any, key: Any, default: Any = None) -> Any:
        if TIMING.up:
            return timed_get(self, key, default)
        with self._TimedCache__timer:
            if key in self:
                return self[key]
        count_miss(state_of(self, meet), key)
        return default

    return get


def _get_wrapped(original: Any, meet: Meet) -> Hook:
    def get(self: Any, key: Any, default: Any = None) -> Any:
        value = original(self, key, MISSING)
        if value is not MISSING:
            return value
        count_miss(state_of(self, meet), key)
        return default

    return get


def _get_template(self: Any, key: Any, default: Any = None) -> Any:
    if TIMING.up:
        return timed_get(self, key, default)
    if key in self:
        return self[key]
    try:
        self._self_cachescope.misses += 1
    except AttributeError:  # met for the first time, or something is up: then the slot isn't there
        count_miss(state_of(self, meet), key)
    return default


def _get_inside(self: Any, key: Any, default: Any = None) -> Any:
    if key in self:
        return self[key]
    count_miss(state_of(self, meet), key)
    return default


@kind_of_hook("set")
def _set(original: Any, meet: Meet) -> Hook:
    """A stock ``__setitem__`` of a cache whose entries are in an exact dict of its own, ``state.data``."""
    given = {"original": original, "meet": meet}
    inner = around(original, _set_template, given)
    hook = None if inner is None else around(original, _set_template, given, _timed(b.SET_TIME, inner))
    if hook is None:
        hook = inner = _bound(_set_template, original, meet)
    set_codes.update(made.__code__ for made in (hook, inner) if made is not None)
    return hook


def _set_template(self: Any, key: Any, value: Any) -> Any:
    ident = get_ident()
    try:
        state = self._self_cachescope
        data = state.data
        if key in data or state.setter:
            state = None
    except Exception:  # met for the first time; or unhashable, or __hash__ or __eq__ raised
        state = None
    if state is None:
        return cold_set(original, self, key, value, meet)
    state.setter = ident  # nothing was called since it was seen free: no other thread came between
    try:
        original(self, key, value)
    except BaseException:
        state.setter = state.resting
        settle_failed_set(state, data, key, MISSING, False)  # type: ignore[possibly-undefined]  # it was read with state
        raise
    state.setter = state.resting
    try:
        new = data[key]  # type: ignore[possibly-undefined]  # as above
        if type(new) in _LEAVES and type(key) is str and getrefcount(new) <= NORMAL_REFERENCES:
            size = new.__sizeof__() + key.__sizeof__()
            if size < 4_096:
                state.live_bytes += size
                state.sets += 1
                if state.sets > state.next_followed:
                    state.begin(key, size)
                return None
        state.commit_set(key, new, MISSING, getrefcount(new) > NORMAL_REFERENCES)
    except KeyError:  # it was not stored: the value had expired before it came
        return None
    except Exception as error:
        swallow("set", error)


@kind_of_hook("delete")
def _delete(original: Any, meet: Meet) -> Hook:
    """A stock ``__delitem__`` of a cache whose entries are in an exact dict of its own, ``state.data``."""
    given = {"original": original, "meet": meet}
    inner = around(original, _delete_template, given)
    if inner is None:
        return _bound(_delete_template, original, meet)
    return around(original, _delete_template, given, _timed(b.DELETE_TIME, inner)) or inner


def _delete_template(self: Any, key: Any) -> Any:
    try:
        state = self._self_cachescope
        value = state.data[key]
        setter = state.setter
    except Exception:  # met for the first time, not there, or unhashable, or __hash__ or __eq__ raised
        setter = UP
    if setter and (setter != get_ident() or state.resting):  # type: ignore[possibly-undefined]  # UP is no ident
        return cold_delete(original, self, key, meet)
    try:
        original(self, key)
    except BaseException:
        # A TTL cache removes the entry, then raises.
        settle_removal(state, self, key, value, b.EXPIRED, None)  # type: ignore[possibly-undefined]  # read with state
        raise
    try:
        if type(value) in _LEAVES and type(key) is str and not state.shares and not state.written:  # type: ignore[possibly-undefined]  # as above
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


@kind_of_hook("popitem")
def _popitem(original: Any, meet: Meet) -> Hook:
    """A stock ``popitem`` that reads and deletes through methods that are hooked."""

    def popitem(self: Any) -> Any:
        try:
            state = self._self_cachescope
            state.busy  # noqa: B018  # an unpickled state is None
        except AttributeError:
            state = meet(self)
        return framed_popitem(state, original, self, (), {})

    return popitem
