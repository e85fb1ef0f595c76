"""Hooks for caches whose insides nobody has described: home-made ones, sync and async.

A stock hook (:mod:`cachescope.core.hooks`) knows what its library does. These know only what a method is *for*:

* :mod:`cachescope.core.open_frames`: an operation in progress, and where a method's key and value are;
* :mod:`cachescope.core.open_settling`: what a call meant, by comparing what is held with what is charged; of changes in
  :mod:`cachescope.core.open_changes`, of look-ups in :mod:`cachescope.core.open_lookups`;
* :mod:`cachescope.core.open_ledger` and :mod:`cachescope.core.open_commits`: every entry's charge, so that one whose
  leaving nobody saw is freed too. Entries that leave unseen inside a call (``self._d.popitem()``) are found among the
  keys at the ends of the mapping; others are counted at once, by length, and their bytes are freed by
  ``OpenLedger.reconcile``, off the call path;
* :mod:`cachescope.core.open_keys`: where the entries are, what they are made of, how their keys are made.

``async def`` methods get ``async def`` hooks; of plain methods, the result tells.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable
from sys import _getframe
from types import CoroutineType
from typing import Any

import wrapt

from cachescope.core import batch as b
from cachescope.core.closeup import lookup_took, took
from cachescope.core.faults import swallow
from cachescope.core.hooks import KINDS, Hook, Meet
from cachescope.core.looking import owned_state
from cachescope.core.open_changes import suspicious
from cachescope.core.open_commits import SMALL, drop, put
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
    POP,
    POPITEM,
    QUIET,
    SET,
    SET_MANY,
    Frame,
    Plan,
    frames,
    outside,
)
from cachescope.core.open_keys import holds, peek_at
from cachescope.core.open_ledger import OpenLedger
from cachescope.core.open_settling import VIEWS, begin_call, end_call
from cachescope.core.settling import tell_lookup
from cachescope.core.state import MISSING, RETIRED

_KIND_NAMES = {
    "open_lookup": LOOKUP,
    "open_set": SET,
    "open_add": ADD,
    "open_delete": DELETE,
    "open_pop": POP,
    "open_popitem": POPITEM,
    "open_clear": CLEAR,
    "open_load": LOAD,
    "open_expire": EXPIRE,
    "open_evict": EVICT,
    "open_quiet": QUIET,
    "open_change": CHANGE,
    "open_lookup_many": LOOKUP_MANY,
    "open_set_many": SET_MANY,
    "open_delete_many": DELETE_MANY,
}
_NEVER_AWAITED = frozenset((type(None), str, bytes, int, float, bool, dict, list, tuple, set))
_getattribute = object.__getattribute__
_dict_get = dict.get
_dict_len = dict.__len__
_dict_iter = dict.__iter__
_dict_contains = dict.__contains__
_ordered_iter = OrderedDict.__iter__
_Proxy = wrapt.BaseObjectProxy


# The hooks


def _maker(op: int) -> Callable[[Any, Meet], Hook]:
    def make(original: Any, meet: Meet) -> Hook:
        plan = Plan(original, op)
        if inspect.iscoroutinefunction(original):
            return _async_hook(plan, original, meet)
        if len(plan.key_names) == 1 and not plan.various:
            if plan.reads:
                return _lookup_hook(plan, original, meet)
            if op == SET and plan.value_at == 1:
                return _set_hook(plan, original, meet)
        return _hook(plan, original, meet)

    return make


def _hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame = None
        try:
            state = owned_state(self, meet)
            if RETIRED not in state.busy:
                frame, args = begin_call(plan, state, self, args, kwargs)
        except Exception as fault:
            swallow("open hook", fault)
        if frame is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            end_call(frame, self, args, kwargs, MISSING, error)
            raise
        if (
            type(result) not in _NEVER_AWAITED
            and hasattr(type(result), "__await__")
            and not _is_the_value(frame, result)
        ):
            return _when_done(frame, self, args, kwargs, result)
        end_call(frame, self, args, kwargs, result, None)
        return result

    return hook


def _lookup_hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    """A look-up that turns out to have changed nothing is counted on the spot; whatever else goes the long way."""
    default = MISSING if plan.op == LOAD else plan.default
    most = 9 if plan.op == LOAD else 1
    viewed = getattr(original, "__name__", "") == "__getitem__"

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame: Frame | None = None
        quick = False
        data: Any = None
        key: Any = None
        old: Any = MISSING
        entries = 0
        try:
            state = self._self_cachescope
            if state.owner != id(self):
                state = meet(self)
        except AttributeError:
            state = meet(self)
        ledger = state.ledger
        try:
            if (
                1 <= len(args) <= most
                and not kwargs
                and not state.busy
                and ledger.idle
                and (frames.get() is None or outside())
            ):
                data = state.data
                obj = self.__wrapped__ if issubclass(type(self), _Proxy) else self
                if (
                    not ledger.flying
                    and not ledger.transforms.known
                    and _getattribute(obj, ledger.place.name or "__class__") is data
                    and not (viewed and _getframe(1).f_code in VIEWS)
                ):
                    key = args[0]
                    old = _dict_get(data, key, MISSING)
                    entries = _dict_len(data)
                    frame = ledger.idle.pop()
                    frame.begin_again(state, plan, key, old, old is not MISSING)
                    ledger.flying[1] = frame
                    frames.set(frame)
                    quick = True
        except Exception:  # an unhashable key, or another thread was quicker: the long way knows what to do
            frame = None
        try:
            if frame is None and RETIRED not in state.busy:
                frame, args = begin_call(plan, state, self, args, kwargs)
        except Exception as fault:
            swallow("open hook", fault)
        if frame is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            end_call(frame, self, args, kwargs, MISSING, error)
            raise
        if (
            type(result) not in _NEVER_AWAITED
            and hasattr(type(result), "__await__")
            and not _is_the_value(frame, result)
        ):
            return _when_done(frame, self, args, kwargs, result)
        if quick:
            try:
                if _dict_get(data, key, MISSING) is old and _dict_len(data) == entries and frame.done is None:
                    ledger.flying.pop(1, None)
                    frames.set(None)
                    took_ns = frame.stop()
                    if old is not MISSING and (
                        (result is not None and result is not default) or old is result or holds(old, result)
                    ):
                        state.hidden_hits += 1
                        hit = True
                    else:
                        state.hidden_misses += 1
                        hit = False
                    frame.rest()
                    if state.armed:
                        tell_lookup(state, key, hit)
                    if took_ns and (hit or plan.op != LOAD):
                        lookup_took(state, key, hit, took_ns)
                    ledger.idle.append(frame)
                    return result
            except Exception as fault:
                swallow("open hook", fault)
        end_call(frame, self, args, kwargs, result, None)
        return result

    return hook


def _set_hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    """A set that put in one entry, and at most one out at the front, is settled on the spot."""

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame: Frame | None = None
        quick = False
        data: Any = None
        key: Any = None
        old: Any = MISSING
        first: Any = MISSING
        entries = before = 0
        try:
            state = self._self_cachescope
            if state.owner != id(self):
                state = meet(self)
        except AttributeError:
            state = meet(self)
        ledger = state.ledger
        try:
            if (
                len(args) == 2
                and not kwargs
                and RETIRED not in state.busy
                and ledger.idle
                and (frames.get() is None or outside())
            ):
                data = state.data
                obj = self.__wrapped__ if issubclass(type(self), _Proxy) else self
                if (
                    ledger.sure
                    and not ledger.flying
                    and not ledger.lost
                    and not ledger.transforms.known
                    and _getattribute(obj, ledger.place.name or "__class__") is data
                ):
                    key, given = args
                    old = _dict_get(data, key, MISSING)
                    entries = _dict_len(data)
                    count = state.sets - state.deletes - state.evictions - state.expirations - state.cleared
                    if count == entries and (old is MISSING) is (key not in ledger.charges):
                        if isinstance(data, OrderedDict):
                            first = next(_ordered_iter(data), MISSING)
                        elif ledger.ends_useful > 0 and entries > SMALL:
                            first = next(_dict_iter(data), MISSING)
                        before = id(old)
                        frame = ledger.idle.pop()
                        frame.begin_again(state, plan, key, old, old is not MISSING)
                        frame.given = given
                        if first is not MISSING:
                            frame.ends = (first,)
                        ledger.flying[1] = frame
                        frames.set(frame)
                        quick = True
                old = MISSING if old is MISSING else None  # it is not ours to keep
        except Exception:  # an unhashable key, or another thread was quicker: the long way knows what to do
            frame = None
        try:
            if frame is None and RETIRED not in state.busy:
                frame, args = begin_call(plan, state, self, args, kwargs)
        except Exception as fault:
            swallow("open hook", fault)
        if frame is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            end_call(frame, self, args, kwargs, MISSING, error)
            raise
        if type(result) not in _NEVER_AWAITED and hasattr(type(result), "__await__"):
            return _when_done(frame, self, args, kwargs, result)
        if quick:
            try:
                held = _dict_get(data, key, MISSING)
                grown = _dict_len(data) - entries
                one_left = grown == (0 if old is MISSING else -1)
                if (
                    held is not MISSING
                    and (id(held) != before or held is args[1])
                    and frame.done is None
                    and state.data is data
                    and (one_left or grown == (1 if old is MISSING else 0))
                    and (
                        not one_left
                        or (first is not MISSING and not _dict_contains(data, first) and first in ledger.charges)
                    )
                ):
                    ledger.flying.pop(1, None)
                    frames.set(None)
                    took_ns = frame.stop()
                    if took_ns:
                        took(state, b.SET_TIME, took_ns)
                    given = frame.given
                    frame.rest()
                    ledger.idle.append(frame)
                    if one_left:
                        drop(state, ledger, first, b.EVICTED, now=True)
                        ledger.ends_useful = 8
                    put(state, ledger, key, held, given, suspicious(held, given))
                    return result
            except Exception as fault:
                swallow("open hook", fault)
        end_call(frame, self, args, kwargs, result, None)
        return result

    return hook


def _async_hook(plan: Plan, original: Any, meet: Meet) -> Hook:
    async def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame = None
        try:
            state = owned_state(self, meet)
            if RETIRED not in state.busy:
                frame, args = begin_call(plan, state, self, args, kwargs)
        except Exception as fault:
            swallow("open hook", fault)
        if frame is None:
            return await original(self, *args, **kwargs)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            end_call(frame, self, args, kwargs, MISSING, error)
            raise
        end_call(frame, self, args, kwargs, result, None)
        return result

    return hook


def _is_the_value(frame: Frame, result: Any) -> bool:
    """Whether an awaitable that a plain method returned is a cached value, such as a Task that others wait for."""
    try:
        state = frame.state
        if state is None or state.data is None or frame.inner is MISSING or frame.op not in (LOOKUP, LOAD, POP):
            return False
        return holds(frame.old, result) or holds(peek_at(state.data, frame.inner), result)  # type: ignore[arg-type]  # a dict
    except Exception:
        return False


def _when_done(frame: Frame, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Settle when an awaitable that a plain method returned has a result."""
    if frames.get() is frame:
        frames.set(frame.parent)
    state = frame.state
    if state is not None and type(state.ledger) is OpenLedger:
        flying = state.ledger.flying
        if flying.get(1) is frame:
            del flying[1]
        flying.pop(id(frame), None)  # it may never be awaited; it flies when it is
        if asyncio.isfuture(result):
            flying[id(frame)] = frame
    if type(result) is CoroutineType:
        waiting: Any = _awaiting(frame, self, args, kwargs, result)
        waiting.__name__, waiting.__qualname__ = result.__name__, result.__qualname__
        return waiting
    if asyncio.isfuture(result):

        def done(future: Any) -> None:
            if future.cancelled():
                end_call(frame, self, args, kwargs, MISSING, asyncio.CancelledError())
                return
            error = getattr(future, "_exception", None)  # exception() would mark it as seen
            end_call(frame, self, args, kwargs, MISSING if error is not None else future.result(), error)

        result.add_done_callback(done)
        return result
    return _Awaitable(result, frame, self, args, kwargs)


def _fly(frame: Frame) -> None:
    frames.set(frame)
    state = frame.state
    if state is not None and type(state.ledger) is OpenLedger:
        state.ledger.flying[id(frame)] = frame


async def _awaiting(frame: Frame, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any], coroutine: Any) -> Any:
    _fly(frame)
    try:
        result = await coroutine
    except BaseException as error:
        end_call(frame, self, args, kwargs, MISSING, error)
        raise
    end_call(frame, self, args, kwargs, result, None)
    return result


class _Awaitable(wrapt.ObjectProxy):  # type: ignore[type-arg]  # generic in the stubs only
    """Stands for an awaitable of the user's own make."""

    def __init__(self, wrapped: Any, *call: Any) -> None:
        super().__init__(wrapped)
        self._self_call = call

    def __await__(self) -> Any:
        frame, cache, args, kwargs = self._self_call
        _fly(frame)
        try:
            result = yield from self.__wrapped__.__await__()
        except BaseException as error:
            end_call(frame, cache, args, kwargs, MISSING, error)
            raise
        end_call(frame, cache, args, kwargs, result, None)
        return result


for _name, _op in _KIND_NAMES.items():
    KINDS[_name] = _maker(_op)
