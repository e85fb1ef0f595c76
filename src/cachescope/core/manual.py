"""Manual caches: those that no adapter can see, fed by ``track_…`` calls.

The size given for a key is its new total, so a second allocation of a key is a resize; on removal the ledger's charge
counts. Nothing here raises on data: what can't be used is refused, counted, and warned about once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from numbers import Real
from typing import Any

from cachescope.core import batch as b
from cachescope.core.charging import TOO_MANY_BYTES, Ledger
from cachescope.core.closeup import SCOPED, attribute, looked_up
from cachescope.core.events import MemoryEventType
from cachescope.core.faults import swallow
from cachescope.core.record import CacheRecord
from cachescope.core.registry import MANUAL, CacheRegistry
from cachescope.core.state import MISSING, State

_log = logging.getLogger("cachescope")
_SHOWN_CHARACTERS = 200
_type_name = type.__dict__["__name__"].__get__  # whatever a metaclass makes of it
_REMOVALS = {
    MemoryEventType.DEALLOCATION: b.DELETED,
    MemoryEventType.EVICTION: b.EVICTED,
    MemoryEventType.CLEANUP: b.EXPIRED,
}


class ManualCaches:
    """The manual caches of one profiler; made on first use."""

    def __init__(self, registry: CacheRegistry) -> None:
        self._registry = registry
        self._states: dict[str, State] = {}
        self._sizes: dict[str, dict[Any, int]] = {}
        self._lock = threading.RLock()
        self._warned: set[str] = set()

    def after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._lock = threading.RLock()

    def record(self, name: str) -> CacheRecord:
        """The record of a manual cache."""
        state = self._state(name)
        assert state.record is not None  # just made, or alive as long as this object
        return state.record

    def allocation(self, name: str, key: Any, size_bytes: Any, metadata: Mapping[str, object] | None = None) -> None:
        """*key* is held with *size_bytes* in all."""
        size = self._usable(name, size_bytes)
        if size is None:
            return
        try:
            with self._lock:
                state, sizes = self._state(name), self._sizes[name]
                old = sizes.get(key, MISSING)
                sizes[key] = size
                if state.armed & SCOPED:
                    first = old is MISSING
                    attribute(state, size if first else 0, 0 if first else size - old, 0, int(first))
                if old is MISSING:
                    state.sets += 1
                    state.live_bytes += size
                else:
                    grown = size - old
                    state.replacements += 1
                    state.resized_bytes += grown
                    state.live_bytes += grown
                state.peak_bytes = max(state.peak_bytes, state.live_bytes)
                state.note(b.SET if old is MISSING else b.REPLACED, key, size)
        except Exception as error:
            self._refuse(name, f"key of type {_type_name(type(key))}", error)

    def removal(self, name: str, key: Any, event_type: MemoryEventType) -> None:
        """*key* has left."""
        try:
            with self._lock:
                state, sizes = self._state(name), self._sizes[name]
                size = sizes.pop(key, MISSING)
                if size is MISSING:
                    self._refuse(name, "removal of a key that is not there", None)
                    return
                cause = _REMOVALS[event_type]
                state.account(cause, 1, size)
                state.note(cause, key, size)
        except Exception as error:
            self._refuse(name, f"key of type {_type_name(type(key))}", error)

    def event(self, name: str, event_type: Any, key: Any, size_bytes: Any) -> None:
        """Any memory event by its type."""
        if not isinstance(event_type, MemoryEventType) or event_type is MemoryEventType.PRESSURE:
            self._refuse(name, f"event type {_shown(event_type)}", None)
        elif event_type in _REMOVALS:
            self.removal(name, key, event_type)
        else:
            self.allocation(name, key, size_bytes)

    def lookup(self, name: str, key: Any, *, hit: bool) -> None:
        """*key* was looked up."""
        try:
            with self._lock:
                state = self._state(name)
                if hit:
                    state.hidden_hits += 1
                else:
                    state.hidden_misses += 1
                if state.armed:
                    looked_up(state, key, hit)
        except Exception as error:
            self._refuse(name, "lookup", error)

    def _state(self, name: str) -> State:
        state = self._states.get(name) if isinstance(name, str) else None
        if state is None:
            if not isinstance(name, str) or not name:
                raise TypeError(f"cache name {_shown(name)}: expected a non-empty str")
            registry = self._registry
            record = registry.record(name, kind=MANUAL)
            state = State(0, None, record, Ledger(registry.sizer, registry.budget))
            registry.by_serial[state.serial] = record
            record.adopt(state)
            self._states[name] = state
            self._sizes[name] = {}
        return state

    def _usable(self, name: str, size_bytes: Any) -> int | None:
        try:
            a_number = isinstance(size_bytes, Real) and not isinstance(size_bytes, bool)  # numpy's are Real too
            if a_number and 0 <= size_bytes < TOO_MANY_BYTES:
                return int(size_bytes)
        except Exception as error:  # a number of the user's own make
            self._refuse(name, f"size of type {_type_name(type(size_bytes))}", error)
            return None
        self._refuse(name, f"size {_shown(size_bytes)}: expected a number of bytes >= 0", None)
        return None

    def _refuse(self, name: object, what: str, error: BaseException | None) -> None:
        swallow(f"manual cache: {what.split(':', maxsplit=1)[0].split(' ', maxsplit=1)[0]} refused", error)
        shown = _shown(name)
        if shown not in self._warned and len(self._warned) < 1_000:
            self._warned.add(shown)
            _log.warning("manual cache %s: refused %s; later refusals of this cache are only counted", shown, what)


def _shown(given: object) -> str:
    """What the user gave, for a message; its ``repr()`` may raise, as an int's of more than 4,300 digits does."""
    try:
        return repr(given)[:_SHOWN_CHARACTERS]
    except Exception:
        return f"of type {_type_name(type(given))}"
