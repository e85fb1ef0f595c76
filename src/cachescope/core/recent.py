"""Recent events: what is kept and told of single ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cachescope.core import batch as b
from cachescope.core.analysis.key_counts import is_small
from cachescope.core.events import MemoryEventType, Removal
from cachescope.core.filters import Filters
from cachescope.core.flow import Flow, RecentEvent
from cachescope.core.results import MemoryAllocation
from cachescope.core.sites import Sites

if TYPE_CHECKING:
    from cachescope.core.record import CacheRecord


def recent_rows(
    events: Sequence[b.Event],
    patterns: Sequence[int],
    records: Mapping[int, CacheRecord],
    now: float,
    filters: Filters,
    raw_keys: bool,
    newest: int = 0,
) -> Iterator[tuple[CacheRecord, RecentEvent]]:
    """What is kept of events as recent ones, each with its cache; of the *newest* only, when there is such a number."""
    first = max(0, len(events) - newest) if newest else 0
    for (kind, serial, _, key, size, site, thread, _, _), pattern in zip(events[first:], patterns[first:], strict=True):
        record = records.get(serial)
        if record is None or not record.listed or kind in (b.READ_HIT, b.READ_MISS, b.DIED):
            continue
        flow = record.flow
        if filters.everything or (filters.event(event_type_of(kind)) and kept(filters, flow, pattern, size)):
            yield record, (now, kind, pattern, size, thread, site, key if raw_keys and is_small(key) else None)


def allocation_of(record: CacheRecord, row: RecentEvent, sites: Sites) -> MemoryAllocation:
    """A recent event as it is told."""
    at, kind, pattern, size, thread, site, key = row
    known = sites.known.get(site) if site else None
    cause = None if kind in (b.SET, b.REPLACED) else Removal(kind)
    return MemoryAllocation(
        cache_name=record.name,
        key=repr(key) if key is not None else "*" if pattern < 0 else record.patterns.text(pattern),
        size_bytes=size,
        timestamp=at,
        event_type=event_type_of(kind),
        thread_id=thread,
        stack_trace=known.stack if known is not None else (),
        metadata=None if cause is None else {"cause": cause.name.lower()},
    )


def kept(filters: Filters, flow: Flow, pattern: int, size_bytes: int | None) -> bool:
    """Whether an entry is told apart from others; reads have no size."""
    if size_bytes is not None and not filters.size(size_bytes):
        return False
    return pattern <= 0 or filters.pattern(flow.patterns.text(pattern))


def event_type_of(kind: int) -> MemoryEventType:
    """What an event of that kind is reported as."""
    if kind in (b.SET, b.REPLACED):
        return MemoryEventType.ALLOCATION if kind == b.SET else MemoryEventType.RESIZE
    return Removal(kind).event_type
