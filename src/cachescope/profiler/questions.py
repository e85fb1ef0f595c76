"""The questions that a profiler answers about the caches of this process."""

from __future__ import annotations

import dataclasses
import math
import os
import time

from cachescope.core.answers.allocation import allocation_patterns_of
from cachescope.core.answers.heading import cache_trend, process_trend
from cachescope.core.answers.hotspots import hotspots_of, key_hotspots_of, operation_hotspots_of, weight
from cachescope.core.answers.performance import performance_of
from cachescope.core.answers.profile import profile_of
from cachescope.core.answers.report import report_of
from cachescope.core.config import ProfilerConfig
from cachescope.core.config_values import shown
from cachescope.core.errors import ConfigurationError, NotCollectedError, UnknownCacheError
from cachescope.core.events import ProfilingLevel
from cachescope.core.lifecycle import Heart
from cachescope.core.record import CacheRecord
from cachescope.core.recorder import Recorder
from cachescope.core.recording import CacheRecording, Recording
from cachescope.core.registry import CacheRegistry
from cachescope.core.results import (
    AllocationPatterns,
    MemoryHotspot,
    MemoryProfile,
    MemorySnapshot,
    MemoryTrend,
    OperationSummary,
    PerformanceMetrics,
    Report,
)
from cachescope.core.tracing import Tracing
from cachescope.core.vitals import Vitals
from cachescope.profiler.window import CacheWindow

_BY = ("pattern", "site", "key", "operation", "origin")
_MOST_KEYS = 100
_MOST_MINUTES = 60 * 24 * 36_525
"""A century; a longer window is all the time too, and figures stay finite."""


class Questions:
    """What can be asked of a profiler; the base of :class:`~cachescope.CacheMemoryProfiler`."""

    config: ProfilerConfig
    registry: CacheRegistry
    exit_note: str
    _heart: Heart
    _recorder: Recorder
    _vitals: Vitals
    _tracing: Tracing

    def _fold(self) -> None:
        """Bring all folds up to date."""
        raise NotImplementedError

    @property
    def level(self) -> ProfilingLevel:
        """How deep it looks now."""
        return self.registry.level

    def caches(self) -> tuple[str, ...]:
        """The names of all caches seen so far, sorted."""
        return tuple(sorted(name for name, record in list(self.registry.records.items()) if record.listed))

    def get_cache_profile(self, cache_name: str) -> MemoryProfile:
        """What a cache has done so far and holds now.

        Raises:
            UnknownCacheError: No cache has that name.
        """
        return profile_of(cache_name, [self._recording(self._known(cache_name))], self._stacks(), rss_bytes=self._rss())

    def get_memory_hotspots(
        self,
        cache_name: str | None = None,
        min_allocations: int = 10,
        by: str = "pattern",
        *,
        window_minutes: float | None = None,
        min_bytes: int = 0,
    ) -> list[MemoryHotspot]:
        """What holds, allocates and churns the most bytes, largest first; of keys and operations, the most frequent first.

        Args:
            cache_name: One cache; None means all of them.
            min_allocations: Leave out what was set less often; of keys, what was set and read less often together.
            by: ``"pattern"``: kinds of keys; ``"site"``: lines of code (from DETAILED on); ``"key"``: single keys;
                ``"operation"``: kinds of operation; ``"origin"``: lines that built the values (COMPREHENSIVE).
            window_minutes: Count what was allocated in the last minutes only; None for all the time. What is held is always
                that of now.
            min_bytes: Leave out what neither holds nor allocated so many bytes.

        Raises:
            UnknownCacheError: No cache has that name.
            NotCollectedError: The level is too low for what was asked for.
            ConfigurationError: *window_minutes* is not a number above 0.
            ValueError: *by* is something else.
        """
        if by not in _BY:
            raise ValueError(f"by: {by!r} is not allowed; expected one of: {', '.join(_BY)}")
        since = self._since(window_minutes)
        records = [self._known(cache_name)] if cache_name is not None else self._listed()
        spots = [spot for record in records for spot in self._spots(record, by, since)]
        if not spots and by == "site":  # what was gathered at a higher level is told at a lower one too
            self._need(ProfilingLevel.DETAILED, "call sites are")
        elif not spots and by == "origin":
            self._need(ProfilingLevel.COMPREHENSIVE, "where values are built is")
        spots = [
            spot
            for spot in spots
            if spot.allocation_count + (spot.hits + spot.misses if by == "key" else 0) >= min_allocations
            and max(spot.live_bytes, abs(spot.total_size_bytes)) >= min_bytes
        ]
        if by == "key":
            return sorted(spots, key=lambda spot: -(spot.allocation_count + spot.hits + spot.misses))
        return sorted(spots, key=weight)

    def get_allocation_patterns(self, cache_name: str, window_minutes: float | None = 60) -> AllocationPatterns:
        """How a cache took memory up and gave it back: kinds of events, sizes, lifetimes, use, and who allocates.

        Args:
            cache_name: The cache.
            window_minutes: The last so many; None for all the time.

        Raises:
            UnknownCacheError: No cache has that name.
            ConfigurationError: *window_minutes* is not a number above 0.
        """
        record, since = self._known(cache_name), self._since(window_minutes)
        if since is None or since <= record.flow.windows.began:
            return allocation_patterns_of(cache_name, [self._recording(record)])
        part, begins = self._windowed_recording(record, since)
        flows, now = part.activity.totals, time.time()
        start = now - (time.monotonic() - begins)
        return allocation_patterns_of(cache_name, [part], window=(start, now), flows=flows)

    def get_performance_metrics(self, cache_name: str) -> PerformanceMetrics:
        """How long a cache's operations take, hits and misses apart, and what its misses cost to load.

        Raises:
            UnknownCacheError: No cache has that name.
            NotCollectedError: Nothing is timed below DETAILED.
        """
        record = self._known(cache_name)
        answer = performance_of(cache_name, [self._recording(record)])
        if not answer.operations and not answer.loads:
            self._need(ProfilingLevel.DETAILED, "latencies are")
            if not self.config.latency:
                raise NotCollectedError("latencies are switched off; set latency=True, or CACHESCOPE_LATENCY=1")
        return answer

    def get_operations(self, cache_name: str | None = None) -> tuple[OperationSummary, ...]:
        """What the application's own operations did to a cache, those that allocated most first.

        Args:
            cache_name: One cache; None means all of them.

        Raises:
            UnknownCacheError: No cache has that name.
        """
        self._fold()
        records = [self._known(cache_name)] if cache_name is not None else self._listed()
        rows = [row for record in records for row in record.operations.summaries(record.name)]
        return tuple(sorted(rows, key=lambda row: (-row.total_allocated_bytes, row.cache_name, row.operation)))

    def get_memory_trend(self, cache_name: str | None = None, window_minutes: float | None = 60) -> MemoryTrend:
        """Where a cache's bytes are heading, from the snapshots that are taken in the background.

        Args:
            cache_name: The cache; None for the process's resident memory.
            window_minutes: The last so many; None for all the time.

        Raises:
            UnknownCacheError: No cache has that name.
            ConfigurationError: *window_minutes* is not a number above 0.
        """
        now, seconds = time.time(), self._window_seconds(window_minutes)
        window = None if seconds is None else (now - seconds, now)
        history = self._vitals.history
        if cache_name is None:
            return process_trend(history, window, self.config.process_budget_bytes, os.getpid())
        record = self._known(cache_name)
        most, own = record.limits()
        budget = self._vitals.budget_of(cache_name)
        return cache_trend(
            cache_name, [history], window=window, max_entries=None if own is not None else most, budget_bytes=budget
        )

    def get_memory_snapshots(self) -> tuple[MemorySnapshot, ...]:
        """The snapshots that are kept, oldest first: dense near now, sparser with age."""
        return self._vitals.history.all()

    def report(self) -> Report:
        """All that is known about all caches now."""
        return report_of(self.recording())

    def recording(self) -> Recording:
        """The state of all folds now, as a capture holds it."""
        self._fold()
        self.registry.exit_note = self.exit_note
        process = self._recorder.process_recording(self._heart.cpu_seconds)
        process.snapshots, process.pressure = self._vitals.history, self._vitals.recent_pressure()
        for cache in process.caches.values():
            cache.budget_bytes = self._vitals.budget_of(cache.name)
        process.info = dataclasses.replace(
            process.info,
            budget_bytes=self.config.process_budget_bytes,
            tracemalloc_bytes=self._tracing.memory_bytes(),
            collects=self._collects(),
        )
        return Recording([process])

    # Inside

    def _collects(self) -> tuple[str, ...]:
        """What is on, in words."""
        config, level = self.config, self.level
        out = []
        if level >= ProfilingLevel.DETAILED:
            out.append("call sites")
            if config.latency:
                out.append("latency on a sample")
            if config.watch_reads:
                out.append("reads of followed entries")
        cost = self._tracing.cost()
        return (*out, cost) if cost else tuple(out)

    def _spots(self, record: CacheRecord, by: str, since: float | None) -> tuple[MemoryHotspot, ...]:
        if since is None or since <= record.flow.windows.began:
            part, flows, seconds = self._recording(record), None, None
        else:
            part, begins = self._windowed_recording(record, since)
            flows, seconds = part.activity.totals, time.monotonic() - begins
        if by == "key":
            return key_hotspots_of(record.name, [part], _MOST_KEYS, seconds=seconds)
        if by == "operation":
            return operation_hotspots_of(record.name, [part], flows=flows, seconds=seconds)
        return hotspots_of(record.name, [part], by, self._stacks(), rss_bytes=self._rss(), flows=flows, seconds=seconds)

    def _windowed_recording(self, record: CacheRecord, since: float) -> tuple[CacheRecording, float]:
        self._fold()
        return self._recorder.windowed_recording_of(record, since)

    def _window_profile(self, record: CacheRecord, window: CacheWindow) -> MemoryProfile:
        return profile_of(
            record.name,
            [self._recording(record)],
            self._stacks(),
            window=(window.start_time, time.time()),
            since=window.since,
            peak_bytes=window.peak_bytes + record.container_bytes(),
            rss_bytes=self._rss(),
        )

    def _need(self, level: ProfilingLevel, what: str) -> None:
        if self.level < level:
            raise NotCollectedError(
                f"{what} collected from level {level.name} on, and the level is {self.level.name}; "
                f"call set_level({level.name.lower()!r}) or set CACHESCOPE_LEVEL={level.name.lower()}"
            )

    @staticmethod
    def _window_seconds(window_minutes: float | None) -> float | None:
        """How long a window is; None for all the time."""
        if window_minutes is None:
            return None
        number = isinstance(window_minutes, (int, float)) and not isinstance(window_minutes, bool)
        if not number or not 0 < window_minutes < math.inf:
            raise ConfigurationError(
                f"window_minutes: {shown(window_minutes)} is not allowed; expected a number of minutes above 0, or None "
                "for all the time"
            )
        return min(window_minutes, _MOST_MINUTES) * 60.0

    def _since(self, window_minutes: float | None) -> float | None:
        """The moment of ``time.monotonic()`` at which a window begins."""
        seconds = self._window_seconds(window_minutes)
        return None if seconds is None else time.monotonic() - seconds

    def _known(self, cache_name: str) -> CacheRecord:
        record = self.registry.records.get(cache_name) if isinstance(cache_name, str) else None
        if record is None or not record.listed:
            raise UnknownCacheError(cache_name, self.caches())
        return record

    def _listed(self) -> list[CacheRecord]:
        return [record for record in list(self.registry.records.values()) if record.listed]

    def _recording(self, record: CacheRecord) -> CacheRecording:
        self._fold()
        return self._recorder.recording_of(record)

    def _rss(self) -> int:
        latest = self._vitals.history.latest
        return latest.rss_bytes or 0 if latest is not None else 0

    def _stacks(self) -> dict[str, tuple[str, ...]]:
        return self._recorder.stacks()
