"""How many bytes a value holds: the deep sizer, and the cheap figures that stand in for it.

Bytes are those *requested* from the allocator, which is what tracemalloc sees and what the byte law counts; the bar
is agreement with tracemalloc within 5 %. What the allocator hands out on top is `allocated_bytes`.

Measuring leaves no trace in what it measures: no instance ``__dict__`` comes into being, no value is kept, and of the
user's code only ``__sizeof__`` runs. It never raises because of a value: a fault is counted and a fallback used.

Charged: everything reachable that dropping the value might free. Not charged: shared infrastructure (see
`sizing_handlers`), immortal objects (None, small ints, one-character strings, interned constants from Python 3.12 on).
A str that is also somebody else's (a dict key written as a literal, up to 3.11) is charged, once for each `seen`.
"""

from __future__ import annotations

import datetime
import decimal
import gc
import random
import sys
from array import array
from collections import deque
from collections.abc import Iterable
from itertools import chain, islice
from types import FunctionType
from typing import Any, NamedTuple

from cachescope.core.sizing_handlers import (
    FAULT,
    GC_HEADER_BYTES,
    HAVE_GC,
    ndarray_base,
    own_bytes,
    plan_for,
    plans,
)
from cachescope.core.sizing_walk import IMMORTAL_REFS, NEVER, STATIC_IDS, UNSHARED, Walk

LEAF_TYPES: frozenset[type] = frozenset(
    {
        str, bytes, int, float, complex, bool, type(None),
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    }
    # A Decimal carries a collector header from 3.13 on, which its __sizeof__ leaves out.
    | ({decimal.Decimal} if not decimal.Decimal.__flags__ & HAVE_GC else set())
)  # fmt: skip
"""Exact immutable types that refer to nothing they own: an object's ``__sizeof__`` is the whole truth."""

_getrefcount = sys.getrefcount
_new_tuple = tuple.__new__

_NO_IDS: frozenset[int] = frozenset()
_LEAF_IDS = frozenset(map(id, LEAF_TYPES))


class Measurement(NamedTuple):
    """What `Sizer.measure` found."""

    size_bytes: int
    """Deep size; a lower bound if `capped`, an estimate if `std_error_bytes` > 0."""
    objects: int
    """Objects charged; of a sampled container, those that were walked."""
    faults: int
    """Objects whose size had to be guessed, and containers that changed while being read."""
    capped: bool
    """Whether `max_objects` ended the walk."""
    std_error_bytes: float
    """Standard error of `size_bytes`; 0 when nothing was sampled."""


def leaf_bytes(value: Any) -> int:
    """Bytes of a value whose exact type is in `LEAF_TYPES`; 0 if it is immortal.

    An int counts what CPython requests for it: 32 bytes, where ``__sizeof__`` says 28.
    """
    if _getrefcount(value) >= IMMORTAL_REFS or id(value) in STATIC_IDS:
        return 0
    cls = type(value)
    if cls is bytes and len(value) < 2:
        return 0  # a constant of one byte is a copy of the static object
    size: int = value.__sizeof__()
    return (size + 7) & -8 if cls is int else size


def allocated_bytes(requested: int) -> int:
    """Bytes the allocator sets aside for a request: pymalloc's 16-byte classes to 512, glibc's malloc above."""
    if requested <= 0:
        return 0
    if requested <= 512:
        return (requested + 15) & -16
    if requested < 128 * 1024:
        return (requested + 8 + 15) & -16
    return (requested + 16 + 4095) & -4096  # mapped by itself, in whole pages


def shallow_bytes(value: Any) -> int:
    """The value's own bytes, collector header included, members not; 0 if immortal. Never raises."""
    cls = type(value)
    if cls is str or cls is int or cls is bytes or cls is float:
        return leaf_bytes(value)
    if cls is dict or cls is list or cls is set:
        return value.__sizeof__() + GC_HEADER_BYTES  # type: ignore[no-any-return]  # an int, by its contract
    if _getrefcount(value) >= IMMORTAL_REFS or id(value) in STATIC_IDS:
        return 0
    plan = plans.get(id(cls)) or plan_for(cls)
    if plan.expand is not None and plan.fixed_bytes >= 0:
        return plan.fixed_bytes
    return own_bytes(value) & (FAULT - 1)


def proxy_bytes(value: Any) -> int:
    """A cheap stand-in that grows with the deep size, for ratio estimators; > 0, never raises.

    The shallow size plus the shallow sizes of the first few members, scaled by the length.
    """
    cls = type(value)
    if cls is str or cls is bytes:
        return value.__sizeof__()  # type: ignore[no-any-return]  # an int, by its contract
    members: Iterable[Any]
    total = instance_bytes = 0
    try:
        if cls is dict:
            taken = 3
            members = chain(islice(value, taken), islice(value.values(), taken))
        elif cls is list or cls is tuple or cls is set or cls is frozenset or cls is deque:
            taken = 6
            members = islice(value, taken)
        else:
            plan = plans.get(id(cls)) or plan_for(cls)
            if plan.fixed_bytes <= 0 or plan.base is not None or cls is FunctionType:
                return _proxy_bytes_of_rare(value, cls)
            # A fixed size means a plain instance, whose attributes are few.
            instance_bytes = plan.fixed_bytes
            taken = 0
            referents = gc.get_referents(value)
            if referents and referents[-1] is cls:
                referents.pop()
            members = referents[:6]
        for member in members:
            kind = type(member)
            if kind is str or kind is float or kind is int or kind is bytes:
                total += member.__sizeof__()
            elif kind is dict or kind is list:
                total += member.__sizeof__() + 64 * len(member)
            elif member is not None:
                total += shallow_bytes(member)
        if not taken:
            return instance_bytes + total
        length = len(value)
        size: int = value.__sizeof__() + GC_HEADER_BYTES
        return size + (total * length // taken if length > taken else total)
    except Exception:
        return 64


def _proxy_bytes_of_rare(value: Any, cls: type) -> int:
    plan = plans.get(id(cls)) or plan_for(cls)
    size = shallow_bytes(value)
    if plan.base is not None:
        base: Any = plan.base  # its own methods, as a subclass may override them
        length: int = base.__len__(value)
        members = list(islice(base.__iter__(value), 4))
        if base is dict:
            members += islice(dict.values(value), 4)
        size += sum(map(shallow_bytes, members)) * length // max(min(length, 4), 1)
    elif cls is memoryview:
        size += value.nbytes
    elif plan.is_array and plan.expand is not None:
        base = ndarray_base(value)
        if base is not None:
            size += shallow_bytes(base)
    return size or 1


class Sizer:
    """Measures values.

    Args:
        max_objects: Objects charged before a walk ends and says `capped`.
        sample_members: 0 walks everything. k > 0 walks k members, spread over it, of each container of more than 2 k
            members of one type, and scales. What the first quarter of them holds is charged as it is and not met
            again, so that parts common to all members (dict keys) are not scaled. Parts that only some members share
            are overestimated.
    """

    __slots__ = ("_max_objects", "_random", "_sample_members", "shared_texts")

    def __init__(self, *, max_objects: int = 100_000, sample_members: int = 0) -> None:
        self._max_objects = max_objects
        self._sample_members = sample_members
        self._random = random.Random(0x5EED)
        self.shared_texts: list[str] = []
        """Texts in the value measured last that are referred to from more than one place, some of them perhaps outside."""

    def measure(
        self, value: Any, seen: set[int] | None = None, *, boundary: frozenset[int] | None = None
    ) -> Measurement:
        """Deep size of a value.

        Args:
            value: Anything.
            seen: Ids of objects already charged; what this call charges is added. Pass one set to charge what several
                values share once. Ids name objects only while these live, so keep the values alive meanwhile.
            boundary: Ids of objects not to charge or enter, such as the cache the value is in.

        Returns:
            The measurement; the size is 0 if the value itself is immortal, seen, or a boundary.
        """
        if seen is None:
            cls = type(value)
            if cls is str or cls is bytes:
                size = value.__sizeof__()
                # Immortal strings are short, but the two sizes of one-character strings are not worth knowing here.
                if size > 80 and _getrefcount(value) < IMMORTAL_REFS:
                    return _new_tuple(Measurement, (size, 1, 0, False, 0.0))
                size = leaf_bytes(value)
                return _new_tuple(Measurement, (size, 1 if size else 0, 0, False, 0.0))
            if id(cls) in _LEAF_IDS:
                size = leaf_bytes(value)
                return _new_tuple(Measurement, (size, 1 if size else 0, 0, False, 0.0))
            seen = set()
            plan = plans.get(id(cls))
            if plan is not None and plan.is_array and not boundary:
                # A numeric array that owns its buffer: by far the largest of the quick ones.
                size, members, _ = plan.expand(value, seen)  # type: ignore[misc]  # arrays have one
                if not members:
                    return _new_tuple(Measurement, (size, 1, 0, False, 0.0))
            unshared = UNSHARED
        else:
            unshared = NEVER
        try:
            walk = Walk(self._max_objects, self._sample_members, self._random, seen, boundary or _NO_IDS)
            size = walk.run([value], unshared, 0)
            self.shared_texts = walk.shared_texts
            error = walk.variance**0.5 if walk.variance else 0.0
            return _new_tuple(Measurement, (size, walk.objects, walk.faults, walk.capped, error))
        except Exception:
            # Out of memory, or called at the recursion limit.
            return Measurement(own_bytes(value) & (FAULT - 1), 1, 1, True, 0.0)

    def measure_cheap(self, value: Any) -> int:
        """Exact deep bytes if finding them costs about as little as a call or two; else -1, quickly.

        Cheap are leaves, arrays, bytearrays, and flat built-in containers of at most 8 leaves.
        """
        cls = type(value)
        if cls is str or cls is bytes or cls is int or cls is float or value is None or cls is bool:
            return leaf_bytes(value)
        members: Iterable[Any]
        if cls is dict:
            if len(value) > 4:
                return -1
            members = chain(value.values(), value)  # values first, as they are what may be dear
        elif cls is list or cls is tuple or cls is set or cls is frozenset:
            if len(value) > 8:
                return -1
            members = value
        else:
            return _cheap_bytes_of_rare(value, cls)
        size: int = value.__sizeof__() + GC_HEADER_BYTES
        shared: list[Any] = []
        try:
            for member in members:
                kind = type(member)
                if kind is str or kind is int or kind is float or kind is bytes:
                    refs = _getrefcount(member)
                    if refs >= IMMORTAL_REFS or id(member) in STATIC_IDS:
                        continue
                    if refs != UNSHARED:
                        if any(member is other for other in shared):
                            continue
                        shared.append(member)
                    if kind is bytes and len(member) < 2:
                        continue
                    own: int = member.__sizeof__()
                    size += (own + 7) & -8 if kind is int else own
                elif member is not None and kind is not bool:
                    return -1
        except RuntimeError:
            return -1
        return 0 if value == () and cls is tuple else size


def _cheap_bytes_of_rare(value: Any, cls: type) -> int:
    plan = plans.get(id(cls)) or plan_for(cls)
    if plan.is_array:
        size, members, _ = plan.expand(value, set())  # type: ignore[misc]  # arrays have one
        return -1 if members else size
    if cls is bytearray or cls is array or id(cls) in _LEAF_IDS:
        return own_bytes(value)
    return -1
