"""The hooks of reads that may do anything: of C types, and as a user's class overrides them.

Their writes are in :mod:`cachescope.core.mapping_write_hooks`.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from cachescope.core import batch as b
from cachescope.core.closeup import TIMING, began, enter, loader_began, loader_took, lookup_ended, lookup_took, took
from cachescope.core.hooks import Hook, Meet, kind_of_hook
from cachescope.core.looking import REFUSED, is_there, owned_state, peek_or_refuse, state_of
from cachescope.core.settling import (
    INNER,
    busy_get,
    count_lookup,
    same_key,
    settle_open_set,
    tell_lookup,
)
from cachescope.core.state import (
    GET,
    KEY,
    LOADING,
    LOOKED,
    LOOKUP,
    MISSING,
    OP,
    RETIRED,
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
