"""The walk over everything that a value reaches: each object charged once, large containers in bulk or by a sample."""

from __future__ import annotations

import gc
import random
import sys
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice, repeat
from operator import is_
from typing import Any

from cachescope.core.sizing_handlers import FAULT, GC_HEADER_BYTES, layout_bytes, plan_for, plans

_NoneType = type(None)
_getrefcount = sys.getrefcount
_int_sizeof = int.__sizeof__
_str_sizeof = str.__sizeof__
_bytes_sizeof = bytes.__sizeof__

# A one-character constant may be interned as an object of its own; held here, it is as immortal as the static one.
_INTERNED_CHARACTERS = tuple(sys.intern(chr(code)) for code in range(256))
# Objects that the interpreter itself keeps forever. From 3.12 on they, and interned constants, show by their refcount.
STATIC_IDS: frozenset[int] = frozenset(
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
IMMORTAL_REFS = 1 << 31 if sys.version_info >= (3, 12) else 1 << 62

# A loop variable with this refcount is referred to by one container only, so it can't be met again and needs no entry
# in `seen`; that saves half the cost of a leaf. Counted here in the shape of the code that relies on it.
NEVER = -1


def _count_unshared() -> tuple[int, int]:
    holder = [object()]
    pending = list(holder)
    pop = pending.pop
    obj: object = None
    refs_popped = NEVER
    while pending:
        obj = pop()
        refs_popped = _getrefcount(obj)
    obj = None
    return refs_popped, max(map(_getrefcount, holder))


UNSHARED, _UNSHARED_IN_MAP = _count_unshared() if GC_HEADER_BYTES else (NEVER, NEVER)

_BULK_IDS = frozenset(map(id, (str, int, float, bytes, _NoneType, bool)))

_SAMPLE_WINDOW = 65_536  # entries of a dict or set gone through for a sample, 0.5 ms
_CHUNK = 2048  # members of a large container taken at a time, so that a cap also bounds the sizer's own memory
_BULK_MIN = 12  # shorter containers are quicker one by one
_SAMPLE_DEPTH = 4  # samples within samples; below, members are walked in full


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


class Walk:
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
        static = STATIC_IDS | boundary if boundary else STATIC_IDS
        all_seen = seen.issuperset
        immortal = IMMORTAL_REFS
        room = self._room
        objects = self.objects
        size = 0
        visits_left = room * 8
        doubtful: list[Any] = []
        shared_texts = self.shared_texts
        for pending, limit in ((roots, unshared), (doubtful, NEVER)):
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
                if limit != NEVER and length <= left and id(type(next(iter(part)))) in _BULK_IDS:
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
        size = sum([self.run(pilot, NEVER, depth + 1) for pilot in pilots])
        variance_before = self.variance
        sizes = [self.run(pick, NEVER, depth + 1) for pick in rest]
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
