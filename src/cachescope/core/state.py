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
from collections.abc import Callable, Hashable, Iterable, Mapping
from math import log as _log
from math import log1p as _log1p
from random import random as _random
from time import monotonic as _monotonic
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core import tasks
from cachescope.core.batch import Batch
from cachescope.core.charging import Ledger
from cachescope.core.closeup import SAMPLED, SCOPED, attribute, built, loaded
from cachescope.core.faults import swallow
from cachescope.core.held_keys import HELD_AS_IS, hold
from cachescope.core.sites import Sites

if TYPE_CHECKING:
    from cachescope.core.origins import Origins
    from cachescope.core.record import CacheRecord

ATTRIBUTE = "_self_cachescope"
"""Where an object keeps its state. On a wrapt proxy, names that begin with ``_self_`` stay with the proxy."""
MISSING: Any = type("Missing", (), {"__slots__": (), "__repr__": lambda self: "<missing>"})()
"""Stands for 'not there', so that a stored None is a value like any other."""

# What a thread is in the middle of, on one cache object: a frame, a list with these columns.
OP, KEY, COMMITTED, CAUSE, PARENT, LOOKED, OWN_KEY_LEFT = range(7)
# The first four are the library's own: a read inside them is no lookup.
SET, POPITEM, EXPIRE, CLEAR, LOOKUP, SET_OPEN, DELETE_OPEN, GET, POP, SETDEFAULT, UPDATE, LOADING = range(12)
Frame = list[Any]

NEW_SET: Frame = [SET, MISSING, 0, b.EVICTED, None, False, False]
"""The frame of every stock set of a key that is not there: nothing in it is ever changed."""

# Keys of ``State.busy`` beside thread idents (which are positive).
RETIRED = -2
# What ``State.setter`` holds beside the ident of a thread that is inside a plain set; 0 when nothing is up.
UP = -3
"""Something is up (see ``State.busy``): no set is a plain one now."""
WEIGHED = -4
"""The user weighs the entries: no set is ever a plain one."""

COUNTERS = (
    "hits",
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
    "loads",
    "load_failures",
    "load_ns",
)
"""The exact counters, in the order in which snapshots hold them."""

_serials = itertools.count(1)
_get_ident = threading.get_ident


class State:
    """What is known about one cache object; see the module's docstring."""

    __slots__ = (
        *COUNTERS,
        "__weakref__",
        "admission",
        "armed",
        "base",
        "batch",
        "busy",
        "data",
        "followed",
        "followed_hashes",
        "hidden_hits",
        "hidden_misses",
        "ledger",
        "loads_wanted",
        "next_followed",
        "origins",
        "owner",
        "peak_bytes",
        "pending",
        "quota",
        "reads",
        "record",
        "resting",
        "serial",
        "setter",
        "share",
        "sites",
        "shares",
        "target",
        "timing",
        "timings_left",
        "written",
    )

    hits: int
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
    loads: int
    load_failures: int
    load_ns: int

    def __init__(self, owner: int, data: Mapping[Any, Any] | None, record: CacheRecord | None, ledger: Ledger) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)
        self.peak_bytes = self.hidden_hits = self.hidden_misses = 0
        self.owner = owner
        self.data = data
        self.busy: dict[int, Any] = {}
        self.armed = self.quota = self.timings_left = self.loads_wanted = 0
        self.reads: dict[int, float] = {}
        """When followed entries were last read, by key hash, as far as reads are watched."""
        self.timing: dict[int, int] = {}
        """The threads inside an operation that is timed, and the nanoseconds that loaders took inside it."""
        self.pending: dict[tuple[int, int], int] = {}
        """Timed misses whose load has not ended: when they began, by task or thread and key hash."""
        self._hold(ledger)
        self.serial = next(_serials)
        self.record = record
        self.batch: Batch = record.batch if record is not None else Batch(0)
        self.sites: Sites | None = record.sites if record is not None else None
        self.origins: Origins | None = record.origins if record is not None else None
        self.share = record.share if record is not None else 0.0
        self.next_followed = 0
        self.followed: set[str] = set()
        self.followed_hashes: set[int] = set()
        self.base: tuple[int, ...] = (0,) * len(COUNTERS)
        self.target: Callable[[], Any] = _nothing
        self.admission: Any = None

    def _hold(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.written, self.shares = ledger.charges, ledger.shares  # the hooks look into them on the way
        self.setter = self.resting = 0 if ledger.weigher is None else WEIGHED

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
        hits, misses = self.hidden_hits, self.hidden_misses
        try:
            hits += self.hits
            misses += self.misses
        except AttributeError:  # something is up: all of them are in the hidden ones
            hits, misses = self.hidden_hits, self.hidden_misses
        return (
            hits,
            misses,
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
            # A non-ASCII str that grew since it was measured leaves a few bytes behind; an empty cache holds none.
            self.live_bytes if self.entries else 0,
            self.loads,
            self.load_failures,
            self.load_ns,
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
            if self.armed & SCOPED:
                attribute(self, size + guess, 0, 0, 1)
        else:
            freed, guessed = ledger.discharge(key, old, -1)
            size, guess = ledger.charge(key, new, suspicious, resize=True)
            grown = size - freed
            self.replacements += 1
            self.resized_bytes += grown
            self.live_bytes += grown
            kind = b.REPLACED
            if self.armed & SCOPED:
                attribute(self, 0, grown + guess - guessed, 0, 0)
        self.mark_peak()
        self.note(kind, key, size + guess)

    def mark_peak(self) -> None:
        """Note the highest value: on every set while all entries are followed, else on followed ones, and before a fall."""
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def account(self, cause: int, entries: int, size: int) -> None:
        """Count *entries* that left for *cause* and took *size* bytes along."""
        if self.armed & SCOPED:
            attribute(self, 0, 0, size, 0)
        if cause == b.EVICTED:
            self.evictions += entries
            self.evicted_bytes += size
        elif cause == b.EXPIRED:
            self.expirations += entries
            self.expired_bytes += size
        elif cause == b.CLEARED:
            self.cleared += entries
            self.cleared_bytes += size
        else:
            self.deletes += entries
            self.deleted_bytes += size
        self.live_bytes -= size

    def commit_removal(self, key: Hashable, value: object, cause: int) -> None:
        """An entry left, for *cause* (a value of :class:`~cachescope.core.events.Removal`)."""
        self.mark_peak()
        size, guess = self.ledger.discharge(key, value, cause)
        if self.armed & SCOPED:
            attribute(self, 0, 0, size + guess, 0)
        if cause == b.EVICTED:  # as account() does, without its call: this is every eviction of a full cache
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

    def commit_clear(self, entries: int, left: Iterable[tuple[Hashable, object]] = ()) -> None:
        """*entries* that no other commit has accounted for were cleared; *left* is what is held all the same."""
        self.ledger.clear(b.CLEARED)
        kept = 0
        for key, value in left:
            charged, _ = self.ledger.charge(key, value, False)
            kept += charged
        size = self.live_bytes - kept
        if self.armed & SCOPED:
            attribute(self, 0, 0, size, 0)
        self.cleared += entries
        self.cleared_bytes += size
        self.live_bytes -= size
        self.clears += 1
        self.followed.clear()
        self.followed_hashes.clear()
        reads, self.reads = self.reads, {}
        event = (b.CLEARED, self.serial, 0, None, size, 0, _get_ident(), _monotonic(), reads)
        self.batch.events.append(event)

    def reconcile(self, data: dict[Hashable, object], cause: int) -> None:
        """Account for entries that came or left past all hooks, by measuring all there are: slow, and exact."""
        self.ledger.clear(cause)
        held = list(dict.items(data))
        size = 0
        for key, value in held:
            charged, _ = self.ledger.charge(key, value, False)
            size += charged
        gone = self.entries - len(held)
        freed = self.live_bytes - size
        if self.armed & SCOPED and gone <= 0:
            attribute(self, -freed if gone else 0, 0 if gone else -freed, 0, -gone)
        if not gone:
            self.replacements += 1
            self.resized_bytes -= freed
            self.live_bytes -= freed
        elif gone < 0:
            self.sets -= gone
            self.live_bytes -= freed
        else:
            self.account(cause, gone, freed)

    def begin(self, key: Hashable, size: int) -> None:
        """A new entry whose turn it is to be followed; draws which one is next.

        Entries are followed with probability ``share``, each one decided when it is set, by gaps of random length:
        comparing a counter costs the hooks a quarter of what hashing the key would.
        """
        share = self.share
        if share < 1.0:
            if share <= 0.0:
                self.next_followed = self.sets + (1 << 30)
                return
            self.next_followed = self.sets + int(_log(1.0 - _random()) / _log1p(-share))
        self.mark_peak()
        batch = self.batch
        if len(batch.events) >= batch.limit:
            batch.dropped += 1
            return
        key_hash = hash(key)
        kind = type(key)
        if kind is str:
            self.followed.add(key)  # type: ignore[arg-type]  # it is one
        else:
            self.followed_hashes.add(key_hash)
        site = task = 0
        if self.sites is not None:
            site, task = self.sites.here(1), tasks.here()
            if self.origins is not None:
                site = built(self, key, site)
        held = key if kind in HELD_AS_IS else hold(key)
        event = (b.SET, self.serial, key_hash, held, size, site, _get_ident(), _monotonic(), task)
        batch.events.append(event)

    def note(self, kind: int, key: Hashable, size: int) -> None:
        """Hand in an event of an entry, if it is followed; a set decides whether it will be."""
        if self.pending and kind in (b.SET, b.REPLACED):
            loaded(self, key)
        if kind == b.SET:
            if self.sets > self.next_followed:
                self.begin(key, size)
            return
        key_hash = hash(key)
        if type(key) is str:
            if key not in self.followed:
                return
            if kind != b.REPLACED:
                self.followed.discard(key)
        else:
            if key_hash not in self.followed_hashes:
                return
            if kind != b.REPLACED:
                self.followed_hashes.discard(key_hash)
        site, held = 0, None
        if kind == b.REPLACED:
            if self.sites is not None:
                site = self.sites.here(1)
                if self.origins is not None:
                    site = built(self, key, site)
            held = key if type(key) in HELD_AS_IS else hold(key)
        read = self.reads.pop(key_hash, 0.0) if self.reads else 0.0
        # Beyond the limit too: no more of these can come than lives were begun.
        event = (kind, self.serial, key_hash, held, size, site, _get_ident(), _monotonic(), read)
        self.batch.events.append(event)

    # Frames

    def frame(self) -> Frame | None:
        """What the calling thread is in the middle of on this object."""
        ident = _get_ident()
        found: Frame | None = self.busy.get(ident)
        if found is None and self.setter == ident:
            return NEW_SET
        return found

    def push(self, op: int, key: object, cause: int) -> Frame:
        """Begin an operation that may call others on the same object."""
        ident = _get_ident()
        frame = [op, key, 0, cause, self.frame(), False, False]
        self.busy[ident] = frame
        self.hide()
        return frame

    def pop(self, frame: Frame) -> None:
        """End the operation that *frame* stands for."""
        parent = frame[PARENT]
        if parent is None or parent is NEW_SET:
            self.busy.pop(_get_ident(), None)
            self.show()
        else:
            self.busy[_get_ident()] = parent

    # While something is up. Between a test and the change that depends on it nothing is called, so that no other thread
    # comes between, and no increment is lost.

    def hide(self) -> None:
        """A thread is inside a compound operation: no set is a plain one, and no read."""
        if self.resting != WEIGHED:  # as hide_sets(), without its call
            self.resting = UP
            if self.setter == 0:
                self.setter = UP
        self.hide_reads()

    def hide_sets(self) -> None:
        """No set is a plain one, and no delete."""
        if self.resting != WEIGHED:
            self.resting = UP
            if self.setter == 0:
                self.setter = UP

    def hide_reads(self) -> None:
        """Take the slots away whose increment is all that a plain read does."""
        try:
            hits = self.hits
            del self.hits
        except AttributeError:
            return
        misses = self.misses
        del self.misses
        self.hidden_hits += hits
        self.hidden_misses += misses

    def show(self) -> None:
        """Make sets and reads plain again, as far as nothing else is up."""
        if not self.busy:
            if self.resting == UP and not self.armed & SCOPED and not self.pending:
                self.resting = 0
                if self.setter == UP:
                    self.setter = 0
            if not self.armed:
                try:
                    self.hits  # noqa: B018  # another thread has put them back, and may have counted since
                except AttributeError:
                    self.hits = self.misses = 0

    def arm(self, what: int, most: int = 0) -> None:
        """Look closely from now on.

        Args:
            what: Why: one of the bits of :mod:`cachescope.core.closeup`.
            most: Reads to sample until that ends by itself.
        """
        if what == SAMPLED:
            self.quota = most
        self.armed |= what
        if what == SCOPED:
            self.hide()
        else:
            self.hide_reads()

    def disarm(self, what: int) -> None:
        """Look no more for that reason."""
        self.armed &= ~what
        self.show()

    # Life

    def release(self) -> None:
        """Go inert: count nothing, hold nothing of the user's."""
        self.busy[RETIRED] = True
        self.hide()
        self.record = None
        self.data = None
        self._hold(Ledger(self.ledger.sizer, self.ledger.budget))
        self.sites = None
        self.share = 0.0
        self.origins = None
        self.armed = 0
        self.timings_left = 0
        self.reads, self.pending = {}, {}
        self.followed = set()
        self.followed_hashes = set()


def _nothing() -> None:
    return None


_nothing_type: Callable[..., Any] = type(None)
