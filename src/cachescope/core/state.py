"""The state of one cache object: exact counters, its ledger, and what it is in the middle of.

The object holds its state (attribute :data:`ATTRIBUTE`) and everybody else holds it weakly, so that nothing here keeps a
cache or a value alive; when the object goes, ``State.__del__`` hands in the last figures.

Counters change only by ``slot += local`` with nothing called on the right: exact under the GIL without a lock, which the
collector, ``__del__`` and signal handlers could enter twice. ``tests/core/test_hooks.py`` disassembles the hooks and
holds them to it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cachescope.core import batch as b
from cachescope.core.batch import Batch, PatternText
from cachescope.core.charging import Ledger
from cachescope.core.faults import swallow
from cachescope.core.patterns import pattern_of
from cachescope.core.sites import Sites

if TYPE_CHECKING:
    from cachescope.core.record import CacheRecord

ATTRIBUTE = "_self_cachescope"
"""Where an object keeps its state. On a wrapt proxy, names that begin with ``_self_`` stay with the proxy."""
MISSING: Any = type("Missing", (), {"__slots__": (), "__repr__": lambda self: "<missing>"})()
"""Stands for 'not there', so that a stored None is a value like any other."""

FOLLOW_ALL = 65_521
"""Keys are followed when ``hash(key) * FOLLOW_MIX % FOLLOW_ALL`` is below the state's ``follow_below``. A prime, so that
neither consecutive ints nor aligned addresses fall on one side."""
FOLLOW_MIX = 40_503

# What a thread is in the middle of, on one cache object: a frame, a list with these columns.
OP, KEY, COMMITTED, CAUSE, PARENT, LOOKED, OWN_KEY_LEFT = range(7)
SET, SET_OPEN, DELETE_OPEN, POPITEM, EXPIRE, CLEAR, LOOKUP, GET, POP, SETDEFAULT, UPDATE = range(11)
Frame = list[Any]

# Keys of ``State.busy`` beside thread idents (which are positive).
ARMED = -1
RETIRED = -2

COUNTERS = (
    "lookups",
    "misses",
    "sets",
    "replacements",
    "clears",
    "deletes",
    "evictions",
    "expirations",
    "cleared",
    "resized_bytes",
    "deleted_bytes",
    "evicted_bytes",
    "expired_bytes",
    "cleared_bytes",
    "live_bytes",
)
"""The exact counters, in the order in which snapshots hold them. hits = lookups - misses."""

_serials = itertools.count(1)
_get_ident = threading.get_ident
_HELD_AS_IS = frozenset((str, bytes, int))


class View(Protocol):
    """How to look at a kind of cache object from the side, without changing it."""

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """The mapping that holds the entries; None when it can't be found."""

    def container_bytes(self, obj: Any) -> int:
        """What the cache's own tables, links and queues need, above those of an empty one."""

    def limits(self, obj: Any) -> tuple[float | None, float | None]:
        """``(maxsize, own current size in another unit than entries)``, None for what there isn't."""


class State:
    """What is known about one cache object; see the module's docstring."""

    __slots__ = (
        *COUNTERS,
        "__weakref__",
        "admission",
        "base",
        "batch",
        "busy",
        "data",
        "follow_below",
        "ledger",
        "owner",
        "peak_bytes",
        "plain",
        "record",
        "serial",
        "sites",
        "target",
    )

    lookups: int
    misses: int
    sets: int
    replacements: int
    clears: int
    deletes: int
    evictions: int
    expirations: int
    cleared: int
    resized_bytes: int
    deleted_bytes: int
    evicted_bytes: int
    expired_bytes: int
    cleared_bytes: int
    live_bytes: int

    def __init__(self, owner: int, data: Mapping[Any, Any] | None, record: CacheRecord | None, ledger: Ledger) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)
        self.peak_bytes = 0
        self.owner = owner
        self.data = data
        self.busy: dict[int, Any] = {}
        self.ledger = ledger
        self.plain = ledger.empty
        self.serial = next(_serials)
        self.record = record
        self.batch: Batch = record.batch if record is not None else Batch(0)
        self.sites: Sites | None = record.sites if record is not None else None
        self.follow_below = record.follow_below if record is not None else 0
        self.base: tuple[int, ...] = (0,) * len(COUNTERS)
        self.target: Callable[[], Any] = _nothing
        self.admission: Any = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        # A pickle must load where cachescope isn't installed: the state becomes None, and the copy is met anew.
        return _nothing_type, ()

    def __deepcopy__(self, memo: object) -> None:
        return None

    def __del__(self) -> None:
        try:
            record = self.record
            if record is not None:
                record.retire(self)
        except Exception as error:  # the interpreter may be half taken down
            swallow("retire", error)

    # Figures

    def counters(self) -> tuple[int, ...]:
        """The exact counters now, in the order of :data:`COUNTERS`."""
        return (
            self.lookups,
            self.misses,
            self.sets,
            self.replacements,
            self.clears,
            self.deletes,
            self.evictions,
            self.expirations,
            self.cleared,
            self.resized_bytes,
            self.deleted_bytes,
            self.evicted_bytes,
            self.expired_bytes,
            self.cleared_bytes,
            self.live_bytes,
        )

    @property
    def entries(self) -> int:
        """Entries held, by the count of what came and went."""
        return self.sets - self.deletes - self.evictions - self.expirations - self.cleared

    # Commits: what an operation turned out to mean. Cold beside the inline parts of the hooks, but still cheap.

    def commit_set(self, key: Hashable, new: object, old: object, suspicious: bool) -> None:
        """An entry is there now: new, or in place of *old* (MISSING when there was none)."""
        ledger = self.ledger
        if old is MISSING:
            size, guess = ledger.charge(key, new, suspicious)
            self.sets += 1
            self.live_bytes += size
            kind = b.SET
        else:
            freed, _ = ledger.discharge(key, old, -1)
            size, guess = ledger.charge(key, new, suspicious, resize=True)
            grown = size - freed
            self.replacements += 1
            self.resized_bytes += grown
            self.live_bytes += grown
            kind = b.REPLACED
        if self.live_bytes > self.peak_bytes:
            self.peak_bytes = self.live_bytes
        self.plain = ledger.empty
        self.note(kind, key, size + guess)

    def commit_removal(self, key: Hashable, value: object, cause: int) -> None:
        """An entry left, for *cause* (a value of :class:`~cachescope.core.events.Removal`)."""
        size, guess = self.ledger.discharge(key, value, cause)
        if cause == b.EVICTED:
            self.evictions += 1
            self.evicted_bytes += size
        elif cause == b.EXPIRED:
            self.expirations += 1
            self.expired_bytes += size
        elif cause == b.CLEARED:
            self.cleared += 1
            self.cleared_bytes += size
        else:
            self.deletes += 1
            self.deleted_bytes += size
        self.live_bytes -= size
        self.note(cause, key, size + guess)

    def commit_clear(self, entries: int) -> None:
        """The cache is empty now; *entries* were in it that no other commit has accounted for."""
        self.ledger.clear(b.CLEARED)
        size = self.live_bytes
        self.cleared += entries
        self.cleared_bytes += size
        self.live_bytes -= size
        self.clears += 1
        self.plain = self.ledger.empty
        self.batch.put((b.CLEARED, self.serial, 0, None, size, 0, _get_ident()))

    def note(self, kind: int, key: Hashable, size: int) -> None:
        """Hand an event of a followed key to the batch."""
        key_hash = hash(key)
        if key_hash * FOLLOW_MIX % FOLLOW_ALL < self.follow_below:
            sites = self.sites
            site = 0 if sites is None or kind < b.SET else sites.here(1)
            held = None if kind < b.SET else key if type(key) in _HELD_AS_IS else describe_key(key)
            self.batch.put((kind, self.serial, key_hash, held, size, site, _get_ident()))

    def note_read(self, key: Hashable, hit: bool) -> None:
        """Hand a sampled read to the batch; ends the sample when it has enough."""
        left = self.busy.get(ARMED, 0)
        if left <= 1:
            self.busy.pop(ARMED, None)
        else:
            self.busy[ARMED] = left - 1
        key_hash = hash(key)
        held = key if type(key) in _HELD_AS_IS else describe_key(key)
        site = 0 if self.sites is None else self.sites.here(1)
        self.batch.put((b.READ_HIT if hit else b.READ_MISS, self.serial, key_hash, held, 0, site, _get_ident()))

    # Frames

    def frame(self) -> Frame | None:
        """What the calling thread is in the middle of on this object."""
        found: Frame | None = self.busy.get(_get_ident())
        return found

    def push(self, op: int, key: object, cause: int) -> Frame:
        """Begin an operation that may call others on the same object."""
        ident = _get_ident()
        frame = [op, key, 0, cause, self.busy.get(ident), False, False]
        self.busy[ident] = frame
        return frame

    def pop(self, frame: Frame) -> None:
        """End the operation that *frame* stands for."""
        if frame[PARENT] is None:
            self.busy.pop(_get_ident(), None)
        else:
            self.busy[_get_ident()] = frame[PARENT]

    # Life

    def release(self) -> None:
        """Go inert: count nothing, hold nothing of the user's."""
        self.busy[RETIRED] = True
        self.record = None
        self.data = None
        self.ledger = Ledger(self.ledger.sizer, self.ledger.budget)
        self.sites = None
        self.follow_below = 0


def describe_key(key: object) -> PatternText:
    """A key's pattern, for keys that may not be held."""
    return PatternText(pattern_of(key))




def _nothing() -> None:
    return None


_nothing_type: Callable[..., Any] = type(None)
