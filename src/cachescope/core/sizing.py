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
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from operator import is_
from types import FunctionType
from typing import Any, NamedTuple

from cachescope.core.sizing_handlers import (
    FAULT,
    GC_HEADER_BYTES,
    HAVE_GC,
    layout_bytes,
    ndarray_base,
    own_bytes,
    plan_for,
    plans,
)

LEAF_TYPES: frozenset[type] = frozenset(
    {
        str, bytes, int, float, complex, bool, type(None),
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    }
    # A Decimal carries a collector header from 3.13 on, which its __sizeof__ leaves out.
    | ({decimal.Decimal} if not decimal.Decimal.__flags__ & HAVE_GC else set())
)  # fmt: skip
"""Exact immutable types that refer to nothing they own: an object's ``__sizeof__`` is the whole truth."""

_NoneType = type(None)
_getrefcount = sys.getrefcount
_new_tuple = tuple.__new__
_int_sizeof = int.__sizeof__
_str_sizeof = str.__sizeof__
_bytes_sizeof = bytes.__sizeof__

# A one-character constant may be interned as an object of its own; held here, it is as immortal as the static one.
_INTERNED_CHARACTERS = tuple(sys.intern(chr(code)) for code in range(256))
# Objects that the interpreter itself keeps forever. From 3.12 on they, and interned constants, show by their refcount.
_STATIC_IDS: frozenset[int] = frozenset(
    map(
        id,
        chain(
            (None, True, False, Ellipsis, NotImplemented, "", b"", ()),
            range(-5, 257),
            map(chr, range(256)),
            _INTERNED_CHARACTERS,
            (bytes((code,)) for code in range(256)),
        ),
    )
)
_IMMORTAL_REFS = 1 << 31 if sys.version_info >= (3, 12) else 1 << 62

# A loop variable with this refcount is referred to by one container only, so it can't be met again and needs no entry
# in `seen`; that saves half the cost of a leaf. Counted here in the shape of the code that relies on it.
_NEVER = -1


def _count_unshared() -> tuple[int, int]:
    holder = [object()]
    pending = list(holder)
    pop = pending.pop
    obj: object = None
    refs_popped = _NEVER
    while pending:
        obj = pop()
        refs_popped = _getrefcount(obj)
    obj = None
    return refs_popped, max(map(_getrefcount, holder))


_UNSHARED, _UNSHARED_IN_MAP = _count_unshared() if GC_HEADER_BYTES else (_NEVER, _NEVER)

_NO_IDS: frozenset[int] = frozenset()
_LEAF_IDS = frozenset(map(id, LEAF_TYPES))
_BULK_IDS = frozenset(map(id, (str, int, float, bytes, _NoneType, bool)))

_SAMPLE_WINDOW = 65_536  # entries of a dict or set gone through for a sample, 0.5 ms
_CHUNK = 2048  # members of a large container taken at a time, so that a cap also bounds the sizer's own memory
_BULK_MIN = 12  # shorter containers are quicker one by one
_SAMPLE_DEPTH = 4  # samples within samples; below, members are walked in full


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
    if _getrefcount(value) >= _IMMORTAL_REFS or id(value) in _STATIC_IDS:
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
        return value.__sizeof__() + GC_HEADER_BYTES  # type: ignore[no-any-return]
    if _getrefcount(value) >= _IMMORTAL_REFS or id(value) in _STATIC_IDS:
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
        return value.__sizeof__()  # type: ignore[no-any-return]
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


def _bulk_bytes(members: Any) -> int:
    """Bytes of at least one member, all leaves of one type that nothing else refers to; -1 if they are not that.

    Works at C speed: no Python bytecode runs for a member.
    """
    length = len(members)
    kind = type(next(iter(members)))
    if kind is int:
        try:
            # Neither a bool nor an int with attributes measures 28; so this is the test of type, too.
            if list(map(_int_sizeof, members)).count(28) == length:
                return 32 * length if list(map(_getrefcount, members)).count(_UNSHARED_IN_MAP) == length else -1
        except TypeError:
            return -1
    # Not list.count, which would ask a foreign metaclass whether it equals.
    if not all(map(is_, map(type, members), repeat(kind))):
        return -1
    if kind is _NoneType or kind is bool:
        return 0
    if list(map(_getrefcount, members)).count(_UNSHARED_IN_MAP) != length:
        return -1
    if kind is int:
        return sum([(size + 7) & -8 for size in map(_int_sizeof, members)])
    if kind is str:
        return sum(map(_str_sizeof, members))
    if kind is float:
        return 24 * length
    return sum(map(_bytes_sizeof, members)) if min(map(len, members)) > 1 else -1


_MOST_SHARED_TEXTS = 64


class _Walk:
    """One walk over the graph of a value: what is shared by its stages, and the counts so far."""

    __slots__ = (
        "_boundary",
        "_random",
        "_room",
        "_sample_members",
        "_seen",
        "capped",
        "faults",
        "objects",
        "shared_texts",
        "variance",
    )

    def __init__(self, room: int, sample_members: int, rng: random.Random, seen: set[int], boundary: frozenset[int]):
        self._room = room
        self._sample_members = sample_members
        self._random = rng
        self._seen = seen
        self._boundary = boundary
        self.objects = 0
        self.faults = 0
        self.capped = False
        self.variance = 0.0
        self.shared_texts: list[str] = []

    def run(self, roots: list[Any], unshared: int, depth: int) -> int:
        """Charge *roots* (emptied) and all they reach; return the bytes.

        Two stages. In the first, members come from exact built-in containers alone, each reference being one that
        the refcount counts: a member with the refcount *unshared* is charged without an entry in `seen`. What the
        collector or a handler tells (which may name an object twice for one reference) waits for the second.
        """
        seen = self._seen
        boundary = self._boundary
        static = _STATIC_IDS | boundary if boundary else _STATIC_IDS
        all_seen = seen.issuperset
        immortal = _IMMORTAL_REFS
        room = self._room
        objects = self.objects
        size = 0
        visits_left = room * 8
        doubtful: list[Any] = []
        shared_texts = self.shared_texts
        for pending, limit in ((roots, unshared), (doubtful, _NEVER)):
            pop = pending.pop
            extend = pending.extend
            later: list[Iterator[Any]] = []
            while True:
                while pending and objects < room:
                    obj = pop()
                    refs = _getrefcount(obj)
                    if refs != limit:
                        obj_id = id(obj)
                        if obj_id in seen or obj_id in static or refs >= immortal:
                            continue
                        seen.add(obj_id)
                        if type(obj) is str and len(shared_texts) < _MOST_SHARED_TEXTS:
                            shared_texts.append(obj)
                    cls = type(obj)
                    if cls is str:
                        objects += 1
                        size += obj.__sizeof__()
                    elif cls is int:
                        objects += 1
                        size += (obj.__sizeof__() + 7) & -8
                    elif cls is float:
                        objects += 1
                        size += 24
                    elif cls is bytes:
                        if len(obj) > 1:
                            objects += 1
                            size += obj.__sizeof__()
                    elif boundary and id(obj) in boundary:
                        continue
                    elif cls is dict:
                        objects += 1
                        size += obj.__sizeof__() + GC_HEADER_BYTES
                        if len(obj) < _BULK_MIN:
                            try:
                                # Records have keys in common; this is half the cost of going through them again.
                                if not all_seen(map(id, obj)):
                                    extend(obj)
                                extend(obj.values())
                            except RuntimeError:
                                self._reread(obj, doubtful)
                        else:
                            self.objects = objects
                            size += self._large(obj, cls, pending, later, limit, depth, doubtful)
                            objects = self.objects
                    elif cls is list or cls is tuple or cls is set or cls is frozenset or cls is deque:
                        objects += 1
                        size += obj.__sizeof__() + GC_HEADER_BYTES
                        if len(obj) < _BULK_MIN:
                            try:
                                extend(obj)
                            except RuntimeError:
                                self._reread(obj, doubtful)
                        else:
                            self.objects = objects
                            size += self._large(obj, cls, pending, later, limit, depth, doubtful)
                            objects = self.objects
                    else:
                        plan = plans.get(id(cls)) or plan_for(cls)
                        expand = plan.expand
                        if expand is None:
                            continue
                        try:
                            own, members, trusted = expand(obj, seen)
                        except Exception:
                            own, members, trusted = FAULT + layout_bytes(cls), (), False
                        if own >= FAULT:
                            own -= FAULT
                            self.faults += 1
                        if own:
                            objects += 1
                            size += own
                        if trusted:
                            extend(members)
                            del members  # else the last of them would look shared
                        else:
                            doubtful.extend(members)
                if not pending and not later:
                    break
                if objects >= room or visits_left <= 0:
                    self.capped = True
                    break
                if later:
                    chunk = list(islice(later[-1], min(_CHUNK, room - objects)))
                    visits_left -= len(chunk)
                    if chunk:
                        extend(chunk)
                    else:
                        later.pop()
                    del chunk  # its references would make every member look shared
            if self.capped or not doubtful:
                break
        self.objects = objects
        return size

    def _reread(self, container: Any, doubtful: list[Any]) -> None:
        """Take the members of a container that changed while it was read."""
        for _ in range(3):
            try:
                members = list(container)
                if type(container) is dict:
                    members += list(container.values())
                break
            except RuntimeError:
                continue
        else:
            self.faults += 1
            members = gc.get_referents(container)
        doubtful.extend(members)

    def _large(
        self,
        container: Any,
        cls: type,
        pending: list[Any],
        later: list[Iterator[Any]],
        limit: int,
        depth: int,
        doubtful: list[Any],
    ) -> int:
        """Members of a container worth more than a loop: sampled, summed in bulk, or queued; bytes charged at once."""
        length = len(container)
        if 0 < 2 * self._sample_members < length and depth < _SAMPLE_DEPTH:
            sampled = self._sample(container, cls, length, depth)
            if sampled is not None:
                return sampled
        size = 0
        left = self._room - self.objects
        try:
            for part in (container, container.values()) if cls is dict else (container,):
                if limit != _NEVER and length <= left and id(type(next(iter(part)))) in _BULK_IDS:
                    bulk = _bulk_bytes(part)
                    if bulk >= 0:
                        size += bulk
                        self.objects += length if bulk else 0
                        continue
                if length <= _CHUNK and length <= left:
                    pending.extend(part)
                else:
                    # A list may grow or shrink between chunks; others must not change, so a copy is read.
                    later.append(iter(part if cls is list or cls is tuple else list(part)))
        except (RuntimeError, StopIteration):
            self._reread(container, doubtful)
        return size

    def _sample(self, container: Any, cls: type, length: int, depth: int) -> int | None:
        """Estimate what the members hold from some of them; None if they are of several types."""
        wanted = self._sample_members
        try:
            picks = self._pick(container, cls, length, wanted)
        except (RuntimeError, IndexError, StopIteration):
            return None
        kinds = {id(type(pick[-1])) for pick in picks if pick[-1] is not None}
        if len(kinds) > 1:
            return None
        pilots = picks[::4] if wanted > 1 else []
        rest = [pick for number, pick in enumerate(picks) if number % 4] if wanted > 1 else picks
        size = sum([self.run(pilot, _NEVER, depth + 1) for pilot in pilots])
        variance_before = self.variance
        sizes = [self.run(pick, _NEVER, depth + 1) for pick in rest]
        count = len(sizes)
        population = length - len(pilots)
        mean = sum(sizes) / count
        scale = population / count
        if count > 1:
            spread = sum([(one - mean) ** 2 for one in sizes]) / (count - 1)
        else:
            spread = mean * mean
        within = self.variance - variance_before
        self.variance = variance_before + population * population * (1 - 1 / scale) * spread / count + within * scale
        return size + round(mean * population)

    def _pick(self, container: Any, cls: type, length: int, wanted: int) -> list[list[Any]]:
        """One member at random from each of *wanted* equal stretches, as walk roots ([member] or [key, value])."""
        rand = self._random.random
        if cls is list or cls is tuple:
            step = length / wanted
            return [[container[int((number + rand()) * step)]] for number in range(wanted)]
        # Others can only be iterated. Of very large ones, both ends are read (of a set, one).
        step = min(length, _SAMPLE_WINDOW) / wanted
        picks: list[list[Any]] = []
        entries = iter(container.items() if cls is dict else container)
        turn = wanted // 2 if length > _SAMPLE_WINDOW and hasattr(cls, "__reversed__") else wanted
        position = 0
        for number in range(wanted):
            if number == turn:
                entries = reversed(container.items() if cls is dict else container)
                position = int(number * step)
            target = int((number + rand()) * step)
            entry = next(islice(entries, target - position, None))
            position = target + 1
            picks.append(list(entry) if cls is dict else [entry])
        return picks


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
                if size > 80 and _getrefcount(value) < _IMMORTAL_REFS:
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
                size, members, _ = plan.expand(value, seen)  # type: ignore[misc]
                if not members:
                    return _new_tuple(Measurement, (size, 1, 0, False, 0.0))
            unshared = _UNSHARED
        else:
            unshared = _NEVER
        try:
            walk = _Walk(self._max_objects, self._sample_members, self._random, seen, boundary or _NO_IDS)
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
                    if refs >= _IMMORTAL_REFS or id(member) in _STATIC_IDS:
                        continue
                    if refs != _UNSHARED:
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
        size, members, _ = plan.expand(value, set())  # type: ignore[misc]
        return -1 if members else size
    if cls is bytearray or cls is array or id(cls) in _LEAF_IDS:
        return own_bytes(value)
    return -1
