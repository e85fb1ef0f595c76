"""The caches of one profiler: who is called what, what hooks put their figures into, and how they are folded."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Iterable
from itertools import islice
from typing import Any

from cachescope.core import batch as b
from cachescope.core import faults
from cachescope.core.batch import Batch
from cachescope.core.charging import Ledger, SizingBudget, Weigher
from cachescope.core.closeup import TIMING
from cachescope.core.config import ProfilerConfig
from cachescope.core.events import MemoryEventType, ProfilingLevel
from cachescope.core.filters import Filters
from cachescope.core.following import drain, follow_timings
from cachescope.core.key_ids import make_secret
from cachescope.core.origins import Origins
from cachescope.core.recent import allocation_of, recent_rows
from cachescope.core.record import CacheRecord
from cachescope.core.sites import Sites
from cachescope.core.sizing import Sizer
from cachescope.core.state import MISSING, State
from cachescope.core.subscribers import Subscribers
from cachescope.core.views import View

MANUAL = "manual"
"""The kind of caches that no adapter can see."""
_ADOPT_EXACTLY = 50_000
"""Entries of a cache that existed before us which are measured one by one; more are measured on a sample."""
_FREE_EVENTS = 20_000
"""Followed events that a cache may have before its rate decides how many of its entries are followed."""
_EVENTS_PER_SECOND = 3_000
"""What a busy cache is thinned out to, as far as its size allows: at 1 to 2 us each, half a percent of a core."""
_BUSY_CACHES = 2
"""So many caches may be as busy as that at a time."""
_CACHES_PER_TURN = 128
"""Caches that are looked after on one beat: a thousand quiet ones must not cost a fifth of a core."""
_SHARE_BY_ENTRIES = 1.0 / 12_000_000
_LEAST_SHARE, _MOST_LEAST_SHARE = 1.0 / 64, 1.0 / 12
_LEAST_LIVES = 64
"""A cache that is merely busy is followed by at least this share: one in 64 (32 from DETAILED on), one in 12 from a million
entries on, for the figures of a large cache are to be good to a percent; and so many lives, if it is small."""

_KINDS_OF_ENTRIES = tuple(kind for kind in MemoryEventType if kind is not MemoryEventType.PRESSURE)

_all_states: weakref.WeakSet[State] = weakref.WeakSet()


class CacheRegistry:
    """Owns records, batch, sites and budget; folds what hooks saw when asked to.

    Args:
        config: The profiler's settings.
        subscribers: Who is told of events.
    """

    def __init__(self, config: ProfilerConfig, subscribers: Subscribers | None = None) -> None:
        self.config = config
        self._subscribers = subscribers
        self.level = config.level
        self.uid, self.parent_uid = uuid.uuid4().hex, ""
        self.pid = os.getpid()
        self.start_time = time.time()
        self.batch = Batch()
        self.sites = Sites(config.max_sites, config.stack_depth)
        self.origins = Origins(self.sites)
        self.filters = Filters(config)
        self.sizer = Sizer(max_objects=config.max_value_objects)
        self.budget = SizingBudget(config.sizing_budget, unlimited=config.level >= ProfilingLevel.COMPREHENSIVE)
        self.records: dict[str, CacheRecord] = {}
        self.by_serial: dict[int, CacheRecord] = {}
        self.open = True
        self.home: object = None
        """Where hooks find this registry (see ``cachescope.instrument.binding``)."""
        self.exit_note = ""
        self.lock = threading.RLock()
        make_secret()
        self._rates: dict[str, tuple[int, float]] = {}
        self._waiting: list[CacheRecord] = []
        """Those whose turn has yet to come in this round of :meth:`maintain`."""

    # Caches come and go

    def record(self, name: str, *, kind: str = "", where: str = "", view: View | None = None) -> CacheRecord:
        """The record of a name; made on first use."""
        record = self.records.get(name)
        if record is None:
            fresh = CacheRecord(
                name,
                kind=kind,
                where=where,
                view=view,
                batch=self.batch,
                config=self.config,
                sites=self.sites if self.level >= ProfilingLevel.DETAILED else None,
                origins=self.origins if self.level >= ProfilingLevel.COMPREHENSIVE else None,
                listed=self.filters.cache(name),
            )
            record = self.records.setdefault(name, fresh)
        return record

    def admit(
        self,
        obj: Any,
        *,
        name: str,
        kind: str,
        where: str,
        view: View | None,
        data: Any,
        contents: Any = None,
        weigher: Weigher | None = None,
        boundary: Iterable[int] = (),
    ) -> State:
        """Give an object its state, and count what is in it already.

        Args:
            obj: What the hooks are on; it will hold the state.
            name: The cache's name.
            kind: The cache's class.
            where: The line that made it.
            view: How to look at it from the side.
            data: The mapping that its entries are in, when that is not *obj* itself; held by the state.
            contents: The mapping to count entries in now, when it is neither.
            weigher: The user's ``weigher(key, value)``.
            boundary: Ids of objects that sizing must not enter beside *obj*.
        """
        record = self.record(name, kind=kind, where=where, view=view)
        made = getattr(view, "ledger", None)
        ledger = (
            Ledger(self.sizer, self.budget, weigher) if made is None else made(obj, self.sizer, self.budget, weigher)
        )
        ledger.boundary = frozenset((id(obj), *boundary, *(() if data is None else (id(data),))))
        state = State(id(obj), data, record, ledger)
        try:
            state.target = weakref.ref(obj)
        except TypeError:  # no weak references to it (exact dict): its entries are all there is to look at
            state.target = _Constant(data)
        self.by_serial[state.serial] = record
        record.adopt(state)
        _all_states.add(state)
        inside = contents if contents is not None else data if data is not None else obj
        if inside is not obj or isinstance(obj, dict):  # else nobody knows where its entries are
            self._count_contents(state, inside)
        return state

    def rename(self, state: State, name: str) -> None:
        """Let an object's figures count under another name from the beginning."""
        with self.lock:
            self.fold()
            old = state.record
            if old is None:
                return
            record = self.record(name, kind=old.kind, where=old.where, view=old.view)
            old.flow.move(state.serial, record.flow)
            old.states.pop(state.serial, None)
            old.instances_total -= 1
            record.adopt(state)
            self.by_serial[state.serial] = record
            state.record = record
            state.share = record.share
            if not old.states and old.instances_total == 0:
                self.records.pop(old.name, None)

    def _count_contents(self, state: State, data: Any) -> None:
        try:
            size = len(data) if not isinstance(data, dict) else dict.__len__(data)
        except Exception:  # it can't be looked at from the side
            return
        if not size:
            return
        step = 1 if size <= _ADOPT_EXACTLY else size // (_ADOPT_EXACTLY // 4) + 1
        try:
            items = list(islice(dict.items(data) if isinstance(data, dict) else data.items(), 0, None, step))
        except Exception as error:
            faults.swallow("census", error)
            return
        sites, state.sites = state.sites, None  # nobody in sight set these
        for key, value in items:
            state.commit_set(key, value, MISSING, False)
        state.sites = sites
        if step > 1 and state.record is not None:
            seen = len(items)
            state.live_bytes += state.live_bytes * (size - seen) // max(seen, 1)
            state.sets += size - seen
            state.record.notes.add(f"{size:,} entries were there before; their bytes are estimated from {seen:,}")
        state.peak_bytes = state.live_bytes

    def expel(self, state: State) -> None:
        """An object is not profiled any more: keep what it did, let it go inert."""
        record = state.record
        if record is not None:
            record.retire(state)
        state.release()

    def close(self) -> None:
        """Let go of all objects; what they did stays."""
        self.open = False
        for record in list(self.records.values()):
            for state in record.live_states():
                frozen = _Frozen(state, record)
                state.release()
                record.states.pop(state.serial, None)
                record.keep(frozen.flow, frozen.kinds)

    # Beats

    def fold(self) -> None:
        """Follow what the hooks saw since the last time."""
        with self.lock:
            timings = self.batch.swap_timings()  # first: an event tells when an object has gone
            if timings:
                follow_timings(timings, self.by_serial)
            events = self.batch.swap()
            if events:
                now = time.time()
                patterns = drain(events, self.by_serial, now, self.filters, self.config.raw_keys)
                self._tell(events, patterns, now)

    def _tell(self, events: list[b.Event], patterns: list[int], now: float) -> None:
        """Tell subscribers, if there are any for what happens to entries."""
        subscribers = self._subscribers
        if subscribers is not None and any(map(subscribers.wants, _KINDS_OF_ENTRIES)):
            rows = recent_rows(events, patterns, self.by_serial, now, self.filters, self.config.raw_keys)
            subscribers.publish([allocation_of(record, row, self.sites) for record, row in rows])

    def maintain(self) -> None:
        """What is done between folds: thin out, measure residents, mark peaks. Of many caches, of some at a time."""
        with self.lock:
            self._thin_out()
            if not self._waiting:
                self._keep_within_memory()
                self._waiting = list(self.records.values())
            self.budget.refill()
            turn, self._waiting = self._waiting[:_CACHES_PER_TURN], self._waiting[_CACHES_PER_TURN:]
            for record in turn:
                if self.budget.credit_ns > 0:
                    record.fresh_entries(64)
                record.sum_up_retired()
                record.reconcile()
                record.mark_peak()
                if record.flow.windows.due(time.monotonic()):
                    record.close_bucket(time.monotonic())

    def _thin_out(self) -> None:
        records = list(self.records.values())
        lives = sum(record.flow.lives_count for record in records)
        while lives > self.config.followed_keys:
            largest = max(records, key=lambda record: record.flow.lives_count)
            before = largest.flow.lives_count
            if before <= 1:
                break
            self._thin(largest, 0.5)
            lives -= before - largest.flow.lives_count
        rates = self._event_rates(records)
        # A few busy caches may have that many events each; of more, all together.
        allowed = min(
            _EVENTS_PER_SECOND, _EVENTS_PER_SECOND * _BUSY_CACHES * _EVENTS_PER_SECOND / max(sum(rates.values()), 1.0)
        )
        for record in records:
            rate = rates.get(record.name, 0.0)
            if record.flow.drained > _FREE_EVENTS and rate > allowed:
                factor = max(allowed / rate, self._least_share(record) / record.share)
                if factor < 0.8:
                    self._thin(record, factor)

    def _event_rates(self, records: list[CacheRecord]) -> dict[str, float]:
        """Followed events per second since the last look, of caches that were not looked at just now."""
        now = time.monotonic()
        rates: dict[str, float] = {}
        for record in records:
            drained = record.flow.drained
            before, at = self._rates.get(record.name, (0, now - 1.0))
            if now - at >= 0.05:
                self._rates[record.name] = (drained, now)
                rates[record.name] = (drained - before) / (now - at)
        return rates

    def _least_share(self, record: CacheRecord) -> float:
        """The share of its entries by which a cache is followed however busy it is."""
        # What it may grow to counts: lives that are dropped while it fills don't come back.
        entries = max(sum(state.entries for state in record.live_states()), record.limits()[0] or 0)
        share = _LEAST_SHARE * (2 if self.level >= ProfilingLevel.DETAILED else 1)
        least = min(_MOST_LEAST_SHARE, max(share, entries * _SHARE_BY_ENTRIES))
        return max(least, min(1.0, _LEAST_LIVES / max(entries, 1)))

    def _keep_within_memory(self) -> None:
        """Hold the cap: follow fewer entries, keep fewer buckets, write no more charges down while memory is used up."""
        limit = self.config.memory_limit_bytes
        own = self.own_bytes()
        self.budget.exhausted = own > 0.9 * limit
        while own > limit:
            records = list(self.records.values())
            largest = max(records, key=lambda record: record.flow.lives_count, default=None)
            if largest is not None and largest.flow.lives_count >= 64:
                self._thin(largest, 0.5)
            else:
                shortened = [record.flow.shorten(time.monotonic()) for record in records]
                if not any(shortened):
                    return
            own = self.own_bytes()

    def _thin(self, record: CacheRecord, factor: float) -> None:
        self.fold()  # what waits was followed at the old share
        record.thin(factor)

    # Memory

    def own_bytes(self) -> int:
        """An estimate of the memory that profiling takes in this process."""
        followed = ledger = states = 0
        for record in list(self.records.values()):
            followed += record.flow.memory_bytes()
            for state in record.live_states():
                states += 1
                ledger += sys.getsizeof(state.ledger.charges) + 32 * len(state.ledger.charges)
                ledger += 160 * len(state.ledger.shares) + 90 * len(state.reads)
        return (
            followed
            + 800 * states
            + ledger
            + 220 * len(self.batch.events)
            + self.sites.memory_bytes()
            + self.origins.memory_bytes()
        )

    # Level, fork

    def set_level(self, level: ProfilingLevel) -> None:
        """Look deeper, or less deep, from now on; what was gathered stays."""
        self.level = level
        self.budget.unlimited = level >= ProfilingLevel.COMPREHENSIVE
        sites = self.sites if level >= ProfilingLevel.DETAILED else None
        origins = self.origins if level >= ProfilingLevel.COMPREHENSIVE else None
        for record in list(self.records.values()):
            record.sites, record.origins = sites, origins
            for state in record.live_states():
                state.sites, state.origins = sites, origins

    def reset(self) -> None:
        """Forget what was gathered; what is held stays."""
        with self.lock:
            self.fold()
            for record in list(self.records.values()):
                if record.watched:
                    record.unwatch()
            self.start_time = time.time()
            self.batch.dropped = 0
            faults.counts.clear()
            for record in list(self.records.values()):
                record.reset()

    def after_fork(self) -> None:
        """In a forked child: new identity, new lock, flows from 0."""
        self.lock = threading.RLock()
        self.batch.events = []
        self.batch.timings = []
        self.batch.dropped = 0
        TIMING.up = False
        self.parent_uid, self.uid = self.uid, uuid.uuid4().hex
        self.pid = os.getpid()
        self.start_time = time.time()
        faults.counts.clear()
        for record in list(self.records.values()):
            record.created = self.start_time
            record.settle_at_fork()


class _Constant:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value


class _Frozen:
    """The last figures of a state that is let go while its object lives on."""

    def __init__(self, state: State, record: CacheRecord) -> None:
        self.flow = tuple(now - base for now, base in zip(state.counters(), state.base, strict=True))
        self.kinds = state.ledger.kinds


def all_states() -> list[State]:
    """The states of all objects in the process, of whatever profiler."""
    return list(_all_states)
