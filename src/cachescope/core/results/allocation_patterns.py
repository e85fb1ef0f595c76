"""How a cache takes memory up and gives it back: kinds of events, sizes, lifetimes, use."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.base import Result
from cachescope.core.results.distribution import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRate(Result):
    """How often one kind of event happened, and the bytes that it moved."""

    event: str
    """``allocation resize deallocation eviction expiration clear hit miss load``: the operations' own words."""
    count: int
    size_bytes: int
    """Bytes allocated or freed; new minus old ones of a resize; 0 for hits and misses."""
    count_per_s: float
    bytes_per_s: float
    size_bytes_std_error: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime(Result):
    """How old entries were when they left for one cause."""

    cause: str
    """``deleted evicted expired cleared``."""
    age_seconds: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Result):
    """What one pattern, thread or task has to do with a cache's allocations."""

    label: str
    count: int
    """Allocations and resizes, scaled up where only some entries are followed."""
    size_bytes: int
    share: float
    """Of the bytes allocated, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationPatterns(Result):
    """How a cache took memory up and gave it back, over a window of time.

    What follows single entries is estimated from those that are followed (``sampling_rate``).
    """

    cache_name: str
    start_time: float
    end_time: float
    duration_seconds: float
    events: tuple[EventRate, ...]
    churn_per_s: float
    """Entries that came plus entries that left, per second."""
    churn_bytes_per_s: float
    turnover_ratio: float | None
    """Freed bytes per allocated byte; None when nothing was allocated."""
    memory_efficiency_ratio: float | None
    """Share of the byte-seconds held that lie between an entry's set and its last hit."""
    memory_efficiency_std_error: float
    fragmentation_ratio: float | None
    entry_bytes: Distribution | None
    """Sizes of the entries set; None before the first."""
    lifetimes: tuple[Lifetime, ...]
    one_hit_wonder_ratio: float | None
    """Share of the entries that left without ever being read again; None until enough were watched to say."""
    one_hit_wonder_bytes_ratio: float | None
    """Their share of the bytes that were allocated for entries that left."""
    one_hit_wonder_std_error: float
    key_to_value_ratio: float | None
    """Bytes of keys per byte of values, over the entries set; None where keys could not be measured."""
    by_pattern: tuple[Share, ...]
    by_thread: tuple[Share, ...]
    by_task: tuple[Share, ...]
    """By the coroutine that the event loop's task runs; empty without asyncio and below DETAILED."""
    sampling_rate: float
    watched_ratio: float
    """Share of the window during which every read of followed entries was seen, from 0 to 1."""
