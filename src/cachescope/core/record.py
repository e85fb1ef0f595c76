"""One cache in a report: a name, the objects that share it, and their sums."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from typing import Any

from cachescope.core.analysis.hotspots import Hotspots
from cachescope.core.analysis.lives import Lives
from cachescope.core.analysis.operations import Operations
from cachescope.core.analysis.totals import Totals
from cachescope.core.batch import DIED, Batch
from cachescope.core.closeup import SCOPED, WATCHED
from cachescope.core.config import ProfilerConfig
from cachescope.core.faults import swallow
from cachescope.core.flow import Flow
from cachescope.core.origins import Origins
from cachescope.core.patterns import KeyPatterns
from cachescope.core.sites import Sites
from cachescope.core.state import COUNTERS, MISSING, State
from cachescope.core.views import View

_HITS, _MISSES = COUNTERS.index("hits"), COUNTERS.index("misses")
_CLEARED = COUNTERS.index("cleared")
_CLEARED_BYTES = COUNTERS.index("cleared_bytes")
_LIVE = COUNTERS.index("live_bytes")
_SETS = COUNTERS.index("sets")
_LEAVING = tuple(map(COUNTERS.index, ("deletes", "evictions", "expirations", "cleared")))


class CacheRecord:
    """All cache objects of one name. Holds them weakly; what they did is kept when they go.

    Args:
        name: What the cache is called in reports.
        kind: Its class, such as ``cachetools.LRUCache``.
        where: The line that made it.
        view: How to look at its objects from the side; None for manual caches.
        batch: Where its hooks put events.
        config: The profiler's settings.
        sites: The process's call sites, or None below DETAILED.
        origins: Where values were built, or None below COMPREHENSIVE.
        listed: Whether the settings leave it in; else nothing of it is followed.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: str,
        where: str,
        view: View | None,
        batch: Batch,
        config: ProfilerConfig,
        sites: Sites | None = None,
        origins: Origins | None = None,
        listed: bool = True,
    ) -> None:
        self.name, self.kind, self.where, self.view = name, kind, where, view
        self.batch, self.sites, self.origins = batch, sites, origins
        self.listed = listed
        self.share = 1.0 if listed else 0.0
        """The probability with which a new entry is followed."""
        self.created = time.time()
        self.patterns = KeyPatterns(config.max_patterns)
        self.flow = Flow(self.patterns, config)
        self.operations = Operations(config.max_operations)
        self._config = config
        self._scopes = 0
        self._scope_lock = threading.RLock()
        self._told = Totals()
        self.states: dict[int, weakref.ref[State]] = {}
        self.instances_total = 0
        self.peak_bytes = 0
        self.notes: set[str] = set()
        self._retired: deque[tuple[tuple[int, ...], dict[type, Any]]] = deque()
        self._past = Totals()
        self._past_lock = threading.RLock()
        self._inherited_kinds = Totals()
        self.inherited = (0, 0)
        """Bytes and entries that a forked child got from its parent; a merge counts them once."""
        self.inherited_cells = Hotspots()
        """The same by pattern and call site."""
        self.carried = (0, 0)
        """Bytes and entries that were held when everything was reset."""

    def adopt(self, state: State) -> None:
        """Count an object's state as one of this name's."""
        self.states[state.serial] = weakref.ref(state)
        self.instances_total += 1
        for reason, wanted in ((SCOPED, self._scopes > 0), (WATCHED, self.watched)):
            if wanted:
                state.arm(reason)
            elif state.armed & reason:  # it had another name
                state.disarm(reason)

    def retire(self, state: State) -> None:
        """An object went: keep what it did. Called from ``__del__``, so it only appends."""
        self.states.pop(state.serial, None)
        now = list(state.counters())
        if state.data is not None or state.live_bytes:
            now[_CLEARED] += state.entries
            now[_CLEARED_BYTES] += now[_LIVE]
            now[_LIVE] = 0
            state.ledger.clear(3)
        flow = tuple(value - base for value, base in zip(now, state.base, strict=True))
        self._retired.append((flow, state.ledger.kinds))
        # Beyond the limit too: nothing else would end the lives of its entries.
        event = (DIED, state.serial, 0, None, 0, 0, 0, time.monotonic(), state.reads)
        self.batch.events.append(event)

    def keep(self, flow: tuple[int, ...], kinds: dict[type, Any]) -> None:
        """Keep the figures of an object that lives on unwatched."""
        self._retired.append((flow, kinds))

    def live_states(self) -> list[State]:
        """The states of the objects that live now."""
        return [state for ref in list(self.states.values()) if (state := ref()) is not None]

    # Looking closely

    def open_scope(self) -> None:
        """One more operation of the application is open, to which what happens is attributed."""
        with self._scope_lock:
            self._scopes += 1
            if self._scopes == 1:
                for state in self.live_states():
                    state.arm(SCOPED)

    def close_scope(self) -> None:
        """One operation less is open."""
        with self._scope_lock:
            self._scopes = max(0, self._scopes - 1)
            if self._scopes == 0:
                for state in self.live_states():
                    state.disarm(SCOPED)

    @property
    def watched(self) -> bool:
        """Whether every read of followed entries is seen now."""
        return self.flow.watched_since != math.inf

    def watch(self) -> None:
        """See every read of followed entries from now on; call after what waits was folded."""
        for state in self.live_states():
            state.reads = {}
            state.arm(WATCHED)
        self.flow.watch(time.monotonic())

    def unwatch(self) -> None:
        """See them no more; call after what waits was folded."""
        states = self.live_states()
        for state in states:
            state.disarm(WATCHED)
        self.flow.unwatch(time.monotonic(), {state.serial: state.reads for state in states})
        for state in states:
            state.reads = {}

    def use_so_far(self) -> Lives:
        """What the watch that goes on has seen of the entries that are held."""
        return self.flow.use_so_far(time.monotonic(), {state.serial: state.reads for state in self.live_states()})

    # Buckets of time

    def close_bucket(self, now: float) -> None:
        """Close the bucket that is open, with what the counters counted meanwhile; *now* is of ``time.monotonic()``."""
        totals = self.totals()
        if totals.counters == self._told.counters and not self.flow.changed():
            self.flow.windows.skip(now)
            self.flow.forget_old(time.time() - self._config.retention_minutes * 60.0)
            return
        self.flow.windows.open.totals = totals.minus(self._told)
        self._told = totals
        self.flow.close_bucket(now)
        self.flow.forget_old(time.time() - self._config.retention_minutes * 60.0)

    def totals_since_bucket(self) -> Totals:
        """What the counters counted since the last bucket was closed."""
        return self.totals().minus(self._told)

    def sum_up_retired(self) -> None:
        """Add what the objects did that went to one sum, so that a name costs no memory for each of them."""
        with self._past_lock:
            while self._retired:
                flow, kinds = self._retired.popleft()
                self._past.update(flow, kinds)

    def totals(self) -> Totals:
        """The sums over all objects, past and present."""
        with self._past_lock:
            self.sum_up_retired()
            out = self._past.copy()
        for state in self.live_states():
            out.update([now - base for now, base in zip(state.counters(), state.base, strict=True)], state.ledger.kinds)
        return out.minus(self._inherited_kinds) if self._inherited_kinds.kinds else out

    def mark_peak(self) -> int:
        """The highest sum of live bytes seen so far; a sum of peaks while several objects live."""
        states = self.live_states()
        peak = sum(max(state.peak_bytes, state.live_bytes) for state in states)
        self.peak_bytes = max(self.peak_bytes, peak if len(states) == 1 else sum(state.live_bytes for state in states))
        return self.peak_bytes

    def reconcile(self) -> bool:
        """Make the ledgers of caches that lose entries unseen agree with what these hold; whether there is any."""
        found = False
        for state in self.live_states():
            reconcile = getattr(state.ledger, "reconcile", None)
            if reconcile is not None:
                found = True
                try:
                    reconcile(state)
                except Exception as error:
                    swallow("reconciling", error)
        return found

    def restart_peaks(self) -> None:
        """Begin a new highest value from what is held now, for a window that starts."""
        for state in self.live_states():
            state.peak_bytes = state.live_bytes

    def lookups(self) -> int:
        """Hits and misses so far; cheap, for it is asked of every cache again and again. Falls when all is reset."""
        count = self._past["hits"] + self._past["misses"]
        for state in self.live_states():
            now, base = state.counters(), state.base
            count += now[_HITS] + now[_MISSES] - base[_HITS] - base[_MISSES]
        return count

    def held(self) -> tuple[int, int]:
        """``(bytes charged to what is held now, without the container's own, entries)``."""
        totals = self.totals()
        size_bytes = totals.live().size_bytes + self.inherited[0] + self.carried[0]
        return size_bytes, totals.entries + self.inherited[1] + self.carried[1]

    def held_bytes(self) -> int:
        """Bytes charged to what is held now, without the container's own."""
        return self.held()[0]

    def container_bytes(self) -> int:
        """What the objects' own tables, links and queues need."""
        return sum(self._seen("container_bytes", state) or 0 for state in self.live_states() if state.entries > 0)

    def limits(self) -> tuple[float | None, float | None]:
        """The sum of ``maxsize`` over the objects, and of their own sizes in a unit of their own."""
        most: float | None = None
        own: float | None = None
        for state in self.live_states():
            limits = self._seen("limits", state)
            if limits is not None:
                if limits[0] is not None:
                    most = (most or 0) + limits[0]
                if limits[1] is not None:
                    own = (own or 0) + limits[1]
        return most, own

    def _seen(self, what: str, state: State) -> Any:
        target = state.target()
        if self.view is None or target is None:
            return None
        try:
            return getattr(self.view, what)(target)
        except Exception:  # a user's subclass may hide what we look for; then it is not known
            return None

    def thin(self, factor: float) -> None:
        """Follow only *factor* of the entries that are followed now, and of new ones."""
        self.share *= factor
        states = self.live_states()
        for state in states:
            state.share = self.share
        self.flow.thin(self.share)
        for state in states:
            dropped = self.flow.drop(state.serial, factor)
            # Hooks go on adding meanwhile: keys whose set waits in the batch have no life yet, and stay.
            state.followed.difference_update([key for key in _copy_of(state.followed) if hash(key) in dropped])
            state.followed_hashes.difference_update(dropped)
            for key_hash in dropped:
                state.reads.pop(key_hash, None)

    def fresh_entries(self, most: int) -> int:
        """Measure up to *most* resident values whose kind is not well known; returns the nanoseconds spent."""
        spent = 0
        for state in self.live_states():
            ledger = state.ledger
            wanted = {
                kind for kind, figures in list(ledger.kinds.items()) if figures.live_proxy > 0 and figures.n < 2_000
            }
            if not wanted or state.data is None or ledger.budget.credit_ns <= 0:
                continue
            for value in _some_values(state.data, most):
                if type(value) in wanted:
                    took = ledger.observe(value)
                    ledger.budget.spend(took)
                    spent += took
                    if ledger.budget.credit_ns <= 0:
                        break
        return spent

    def settle_at_fork(self) -> None:
        """In a forked child: flows start at 0, what is held was inherited."""
        self._past_lock = threading.RLock()  # a thread that isn't here may hold the parent's
        self._scope_lock = threading.RLock()
        self._scopes = 0  # operations of threads that aren't here never end; those of this one end unseen
        for state in self.live_states():
            state.busy.clear()
            state.timing.clear()
            state.pending.clear()
            state.disarm(SCOPED)
        self.inherited = self._start_anew()
        self.inherited_cells = self.flow.hotspots(self.sites)
        self.carried = (0, 0)

    def reset(self) -> None:
        """Flows start at 0 and what was gathered goes; what is held stays."""
        live, entries = self._start_anew()
        self.carried = (live - self.inherited[0], entries - self.inherited[1])
        self.restart_peaks()
        self.peak_bytes = 0
        self.notes.clear()

    def _start_anew(self) -> tuple[int, int]:
        """Count flows from here on; the bytes and entries of all objects together."""
        self.created = time.time()
        self._retired.clear()
        self._past = Totals()
        self._told = Totals()
        self._inherited_kinds = Totals()
        self.operations = Operations(self._config.max_operations)
        live = entries = 0
        for state in self.live_states():
            self._inherited_kinds.update((), state.ledger.kinds)
            state.base = now = state.counters()  # once: others go on meanwhile
            live += now[_LIVE]
            entries += now[_SETS] - sum(now[column] for column in _LEAVING)
        self.instances_total = len(self.states)
        self.flow.forget_flows()
        return live + self._inherited_kinds.live().size_bytes, entries


def _copy_of(changing: set[Any]) -> set[Any]:
    """A copy of a set that other threads change; copying runs no Python code, so it can't be torn."""
    return changing.copy()


def _some_values(data: Any, most: int) -> list[Any]:
    """Up to *most* values spread over a mapping that other threads change meanwhile."""
    from itertools import islice
    from random import randrange

    size = len(data)
    step = max(1, min(size // max(most, 1), 64))
    start = randrange(max(1, min(size - most * step, 200_000))) if size > most else 0
    try:
        keys = list(islice(dict.__iter__(data), start, start + most * step, step))
    except RuntimeError:  # it grew while we looked; the next tick tries again
        return []
    return [value for key in keys if (value := dict.get(data, key, MISSING)) is not MISSING]
