"""What one cache did and holds: its profile, its hotspots, its recent events."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from cachescope.core.events import MemoryEventType
from cachescope.core.results.base import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAllocation(Result):
    """One memory event of a followed key, as kept among a cache's recent events."""

    cache_name: str
    key: str
    """The key's pattern, unless raw keys are allowed by ``ProfilerConfig.raw_keys``."""
    size_bytes: int
    timestamp: float
    event_type: MemoryEventType
    thread_id: int
    stack_trace: tuple[str, ...] = ()
    metadata: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHotspot(Result):
    """A kind of key, a line of code, a key or an operation that holds, allocates or churns bytes of a cache."""

    cache_name: str
    key_pattern: str | None
    """Such as ``user:{int}:profile``; None when the hotspot is a line of code with several patterns."""
    site: str | None
    """Such as ``shop/users.py:14 load_user``; None below DETAILED, or when several lines fill this pattern."""
    allocation_count: int
    """Sets of new keys and replacements."""
    total_size_bytes: int
    """Bytes allocated over the whole time, replaced and removed ones included."""
    average_size_bytes: float
    live_bytes: int
    live_entries: int
    allocation_rate: float
    """Allocations per second over the time observed."""
    hits: int
    misses: int
    """Hits and misses are estimates from sampled reads, scaled to the cache's exact totals."""
    stack_trace: tuple[str, ...]
    first_seen: float
    last_seen: float
    live_bytes_std_error: float = 0.0
    total_size_bytes_std_error: float = 0.0
    share_of_cache: float = 0.0
    """Share of the cache's live bytes, from 0 to 1."""
    share_of_process: float = 0.0
    """Live bytes as a share of the process's resident memory, from 0 to 1; 0.0 where that is not known."""
    churned_bytes: int = 0
    """Bytes that were allocated and are gone again."""
    recurrence: str | None = None
    """``steady``, ``recurring`` or ``burst`` (once, and not again); None until there is enough to say."""
    operation: str | None = None
    """Such as ``set``, ``evict``; None unless hotspots were asked for by operation."""
    key: str | None = None
    """The key itself, where raw keys are allowed and hotspots were asked for by key."""
    key_id: str | None = None
    """Tells keys of one pattern apart, when asked for by key: a keyed hash, the same in all processes of a run."""
    count_error: int = 0
    """By key: the counts may be too low by this much."""
    built_at: str | None = None
    """COMPREHENSIVE: the line of code that built the values; *site* is the one that put them into the cache."""

    @property
    def hit_ratio(self) -> float | None:
        """Hits per lookup among sampled reads; None when none was sampled."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProfile(Result):
    """What one cache did between two moments, and what it holds at the end.

    ``net_memory_bytes`` = allocated + resized - deallocated: the byte law, on the charges of keys and values.
    ``current_memory_bytes`` adds what the container itself needs; it is what dropping the whole cache would free.
    """

    cache_name: str
    start_time: float
    end_time: float
    duration_seconds: float
    total_allocations: int
    total_deallocations: int
    """Every way an entry leaves: deleted, evicted, expired, cleared."""
    total_evictions: int
    total_expirations: int
    total_deletions: int
    total_cleared: int
    total_resizes: int
    total_allocated_bytes: int
    total_deallocated_bytes: int
    total_resized_bytes: int
    """New minus old bytes of all replacements; may be negative."""
    total_evicted_bytes: int
    total_expired_bytes: int
    net_memory_bytes: int
    current_memory_bytes: int
    peak_memory_bytes: int
    container_bytes: int
    """What the cache's own tables, links and queues need, above an empty one."""
    current_entries: int
    max_entries: float | None
    """The cache's ``maxsize`` where it has one, in its own unit."""
    own_size: float | None
    """What the cache itself says it holds, when it was given ``getsizeof``; in its own unit. Shown, never used."""
    instances: int
    """Cache objects that share the name and live now."""
    instances_total: int
    hits: int
    misses: int
    clears: int
    kind: str
    """The cache's class, such as ``cachetools.LRUCache``."""
    where: str
    """The line that made it, such as ``shop/users.py:14``."""
    hotspots: tuple[MemoryHotspot, ...] = ()
    events: tuple[MemoryAllocation, ...] = dataclasses.field(default=(), repr=False)
    value_types: tuple[ValueType, ...] = ()
    sampling_rate: float = 1.0
    """Share of the keys that are followed one by one; 1.0 means that figures by pattern and line are exact."""
    current_memory_bytes_std_error: float = 0.0
    total_allocated_bytes_std_error: float = 0.0
    total_deallocated_bytes_std_error: float = 0.0
    memory_efficiency_ratio: float | None = None
    """Share of byte-seconds held between an entry's set and its last hit; None until enough reads were watched."""
    memory_efficiency_std_error: float = 0.0
    fragmentation_ratio: float | None = None
    """1 - payload bytes / bytes that container and allocator hold for them; None for an empty cache."""
    notes: tuple[str, ...] = ()
    """What could not be seen, in words."""

    @property
    def hit_ratio(self) -> float | None:
        """Hits per lookup; None before the first lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None

    @property
    def allocation_rate_mb_per_sec(self) -> float:
        """Megabytes (10^6 bytes) allocated per second."""
        return self.total_allocated_bytes / 1e6 / self.duration_seconds if self.duration_seconds > 0 else 0.0

    @property
    def deallocation_rate_mb_per_sec(self) -> float:
        """Megabytes (10^6 bytes) that left per second."""
        return self.total_deallocated_bytes / 1e6 / self.duration_seconds if self.duration_seconds > 0 else 0.0

    @property
    def average_allocation_size_bytes(self) -> float:
        """Mean charge of a newly set entry; 0.0 before the first."""
        return self.total_allocated_bytes / self.total_allocations if self.total_allocations else 0.0

    @property
    def average_entry_bytes(self) -> float:
        """Live bytes per entry, the container's share included; 0.0 when empty."""
        return self.current_memory_bytes / self.current_entries if self.current_entries else 0.0

    @property
    def memory_turnover_ratio(self) -> float:
        """Freed bytes per allocated byte: 0 keeps everything, 1 keeps nothing."""
        return self.total_deallocated_bytes / self.total_allocated_bytes if self.total_allocated_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueType(Result):
    """The values of one type in a cache, and how well their bytes are known."""

    type_name: str
    entries: int
    live_bytes: int
    live_bytes_std_error: float
    sized: int
    """Values of this type whose deep size was measured."""
