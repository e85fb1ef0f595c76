"""CacheMemoryProfiler: puts the rooms together, and answers every public question."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachescope.core import capture, current, faults
from cachescope.core.analysis.totals import Totals
from cachescope.core.config import ProfilerConfig
from cachescope.core.errors import ConfigurationError, NotCollectedError, UnknownCacheError
from cachescope.core.events import MemoryEventType, ProfilingLevel
from cachescope.core.lifecycle import Heart
from cachescope.core.manual import ManualCaches
from cachescope.core.record import CacheRecord
from cachescope.core.recording import CacheRecording, Recording, hotspots_of, profile_of
from cachescope.core.registry import MANUAL, CacheRegistry
from cachescope.core.results import MemoryHotspot, MemoryProfile, Report
from cachescope.instrument import autopatch, binding

_BEATS_PER_SAMPLE = 3
"""Look-ups are sampled on every so many beats of the background thread."""
_process_lock = threading.Lock()
_process_profiler: CacheMemoryProfiler | None = None


class CacheWindow:
    """A window over one cache, from :meth:`CacheMemoryProfiler.start_cache_profiling` to :meth:`stop`."""

    def __init__(self, profiler: CacheMemoryProfiler, record: CacheRecord) -> None:
        self.cache_name = record.name
        self.end_time: float | None = None
        self._profiler = profiler
        self._record = record
        self._profile: MemoryProfile | None = None
        self._begin()

    def _begin(self) -> None:
        """What is counted from now on is the window's; in a forked child, from the fork on."""
        self.start_time = time.time()
        self._since = self._record.totals()
        self._peak_bytes = _held_now(self._record)

    @property
    def open(self) -> bool:
        """Whether the window still runs."""
        return self._profile is None

    def profile(self) -> MemoryProfile:
        """The cache's profile from the window's start until now, or until it was stopped."""
        return self._profile or self._profiler._windowed(self._record, self)

    def stop(self) -> MemoryProfile:
        """End this window, whichever others are open; a second stop gives the same profile."""
        if self._profile is None:
            self._profile = self.profile()
            self.end_time = self._profile.end_time
            self._profiler._closed(self)
        return self._profile


class CacheMemoryProfiler:
    """Profiles the memory of caches in this process.

    One per process is the rule (:func:`get_memory_profiler`); private ones are context managers::

        with CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler:
            cache = instrument(LRUCache(100), name="users", profiler=profiler)

    Args:
        config: The settings; None reads the ``CACHESCOPE_*`` environment variables.
    """

    def __init__(self, config: ProfilerConfig | None = None) -> None:
        if config is not None and not isinstance(config, ProfilerConfig):
            raise ConfigurationError(f"config: {config!r} is not allowed; expected a ProfilerConfig or None")
        self.config = config or ProfilerConfig.from_environment()
        self.registry = CacheRegistry(self.config)
        self.exit_note = ""
        self._heart = Heart(self, self.config.tick_seconds)
        self._windows: list[CacheWindow] = []
        self._beats = 0
        self._manual = ManualCaches(self.registry)
        self._running = False
        self._flushed_at = time.monotonic()
        self._lock = threading.RLock()

    # Life

    @property
    def running(self) -> bool:
        """Whether the profiler has been started and not shut down."""
        return self._running

    @property
    def level(self) -> ProfilingLevel:
        """How deep it looks now."""
        return self.registry.level

    def start(self) -> Self:
        """Start the background thread; after a shutdown, begin anew and take hooked caches back."""
        with self._lock:
            if self._running:
                return self
            if not self.registry.open:
                home = self.registry.home
                self.registry = CacheRegistry(self.config)
                self.registry.home = home
                self._manual = ManualCaches(self.registry)
                self._windows = []
            self._running = True
            self._flushed_at = time.monotonic()
            self._heart.start()
        binding.profiler_started(self.registry)
        return self

    def shutdown(self) -> None:
        """Stop: hooks go inert, the last capture is written, what was gathered can still be asked for."""
        with self._lock:
            if not self._running:
                return
            self._running = False
            self._heart.stop()
            for window in list(self._windows):
                window.stop()
            self._flush()
        autopatch.profiler_stopped(self.registry)
        binding.profiler_stopped(self.registry)
        self.registry.fold()
        self.registry.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.shutdown)

    def raise_level(self, level: ProfilingLevel | str | int) -> None:
        """Look at least as deep as *level* from now on; a lower level than now changes nothing.

        Raises:
            ConfigurationError: *level* is no level.
        """
        wanted = _level(level)
        if wanted > self.registry.level:
            self.registry.set_level(wanted)

    def beat(self) -> None:
        """One turn of the background thread."""
        registry = self.registry
        registry.fold()
        registry.maintain()
        self._beats += 1
        if self._beats % _BEATS_PER_SAMPLE == 0:
            registry.sample_reads()
        for window in list(self._windows):
            window._peak_bytes = max(window._peak_bytes, _held_now(window._record))
        if self.config.output is not None and time.monotonic() - self._flushed_at >= self.config.flush_seconds:
            self._flush()

    def last_beat(self) -> None:
        """The process ends: fold and write what there is."""
        note = getattr(sys, "last_value", None)
        if note is not None and not self.exit_note:
            self.exit_note = f"ended by {type(note).__name__}"
        self.registry.fold()
        self._flush()

    def after_fork(self) -> None:
        """In a forked child: flows start at 0."""
        self._lock = threading.RLock()
        self.registry.after_fork()
        for window in self._windows:
            window._begin()
        self._flushed_at = time.monotonic()

    def _flush(self) -> None:
        self._flushed_at = time.monotonic()
        if self.config.output is None:
            return
        try:
            self.write_capture()
        except Exception as error:
            faults.swallow("capture", error)

    # Questions

    def caches(self) -> tuple[str, ...]:
        """The names of all caches seen so far, sorted."""
        return tuple(sorted(self.registry.records))

    def get_cache_profile(self, cache_name: str) -> MemoryProfile:
        """What a cache has done so far and holds now.

        Raises:
            UnknownCacheError: No cache has that name.
        """
        record = self._known(cache_name)
        return profile_of(cache_name, [self._recording(record)], self._stacks())

    def get_memory_hotspots(
        self, cache_name: str | None = None, min_allocations: int = 10, by: str = "pattern"
    ) -> list[MemoryHotspot]:
        """The kinds of keys, or the lines of code, that hold, allocate and churn the most bytes, largest first.

        Args:
            cache_name: One cache; None means all of them.
            min_allocations: Leave out what was set less often.
            by: ``"pattern"`` or ``"site"``.

        Raises:
            UnknownCacheError: No cache has that name.
            NotCollectedError: Sites were asked for below DETAILED.
            ValueError: *by* is something else.
        """
        if by not in ("pattern", "site"):
            raise ValueError(f"by: {by!r} is not allowed; expected 'pattern' or 'site'")
        if by == "site" and self.level < ProfilingLevel.DETAILED:
            raise NotCollectedError(
                f"call sites are collected from level DETAILED on, and the level is {self.level.name}; "
                "call raise_level('detailed') or set CACHESCOPE_LEVEL=detailed"
            )
        records = [self._known(cache_name)] if cache_name is not None else list(self.registry.records.values())
        stacks = self._stacks()
        spots = [s for r in records for s in hotspots_of(r.name, [self._recording(r)], by, stacks)]
        spots = [spot for spot in spots if spot.allocation_count >= min_allocations]
        return sorted(spots, key=lambda spot: (-spot.live_bytes, -spot.total_size_bytes))

    def report(self) -> Report:
        """All that is known about all caches now."""
        return self.recording().report()

    def recording(self) -> Recording:
        """The state of all folds now, as a capture holds it."""
        self.registry.exit_note = self.exit_note
        return Recording([self.registry.process_recording(self._heart.cpu_seconds)])

    def write_capture(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write a capture now.

        Args:
            path: Where to; None means ``config.output``, with ``{pid}`` filled in.

        Raises:
            ConfigurationError: Neither says where to.
            CaptureError: It can't be written.
        """
        template = os.fspath(path) if path is not None else self.config.output
        if template is None:
            raise ConfigurationError("output: no path; give write_capture(path) or set CACHESCOPE_OUTPUT")
        child = path is None and self.registry.parent_uid != ""
        target = capture.capture_path(template, script=Path(sys.argv[0] or "python").name, pid=os.getpid(), child=child)
        capture.write_capture(target, self.recording().to_dict())
        return target

    # Windows

    def start_cache_profiling(self, cache_name: str) -> CacheWindow:
        """Open a window over a cache, hooked or manual; several may overlap.

        A name that is not known yet becomes a manual cache, fed by ``track_…``.
        """
        with self._lock:
            known = self.registry.records.get(cache_name) if isinstance(cache_name, str) else None
            record = known or self._manual.record(cache_name)
            self._mark_peaks(record)
            record.restart_peaks()
            window = CacheWindow(self, record)
            self._windows.append(window)
            return window

    def stop_cache_profiling(self, cache_name: str) -> MemoryProfile:
        """End the newest open window over a cache and give its profile.

        Raises:
            UnknownCacheError: No cache has that name.
            ConfigurationError: No window over it is open.
        """
        self._known(cache_name)
        for window in reversed(self._windows):
            if window.cache_name == cache_name:
                return window.stop()
        raise ConfigurationError(
            f"no window over {cache_name!r} is open; call start_cache_profiling({cache_name!r}) first, "
            "or get_cache_profile() for everything so far"
        )

    def _windowed(self, record: CacheRecord, window: CacheWindow) -> MemoryProfile:
        with self._lock:
            self._mark_peaks(record)
            return profile_of(
                record.name,
                [self._recording(record)],
                self._stacks(),
                window=(window.start_time, time.time()),
                since=window._since,
                peak_bytes=window._peak_bytes + record.container_bytes(),
            )

    def _closed(self, window: CacheWindow) -> None:
        with self._lock:
            if window in self._windows:
                self._windows.remove(window)

    def _mark_peaks(self, record: CacheRecord) -> None:
        """Give every open window over *record* the highest value since the last mark."""
        states = record.live_states()
        peak = states[0].peak_bytes if len(states) == 1 else _held_now(record)
        record.mark_peak()
        for window in self._windows:
            if window._record is record:
                window._peak_bytes = max(window._peak_bytes, peak)
        record.restart_peaks()

    # Manual caches

    def track_allocation(
        self, cache_name: str, key: Any, size_bytes: int, metadata: dict[str, object] | None = None
    ) -> None:
        """Say that a manual cache holds *key* with *size_bytes* in total; a second time, that it was resized."""
        self._manual.allocation(cache_name, key, size_bytes, metadata)

    def track_deallocation(self, cache_name: str, key: Any, size_bytes: int = 0) -> None:
        """Say that *key* was deleted; what was charged for it is freed, whatever *size_bytes* says."""
        self._manual.removal(cache_name, key, MemoryEventType.DEALLOCATION)

    def track_event(self, cache_name: str, event_type: MemoryEventType, key: Any, size_bytes: int = 0) -> None:
        """Say what happened to *key* of a manual cache."""
        self._manual.event(cache_name, event_type, key, size_bytes)

    def track_hit(self, cache_name: str, key: Any) -> None:
        """Say that a look-up of *key* was answered."""
        self._manual.lookup(cache_name, key, hit=True)

    def track_miss(self, cache_name: str, key: Any) -> None:
        """Say that a look-up of *key* was not answered."""
        self._manual.lookup(cache_name, key, hit=False)

    # Inside

    def _known(self, cache_name: str) -> CacheRecord:
        record = self.registry.records.get(cache_name) if isinstance(cache_name, str) else None
        if record is None:
            raise UnknownCacheError(cache_name, self.registry.records)
        return record

    def _recording(self, record: CacheRecord) -> CacheRecording:
        self.registry.fold()
        return self.registry.recording_of(record)

    def _stacks(self) -> dict[str, tuple[str, ...]]:
        return {site.text: site.stack for site in list(self.registry.sites.known.values())}

    def __repr__(self) -> str:
        word = "running" if self._running else "stopped"
        return f"<CacheMemoryProfiler {word}, level {self.level.name}, {len(self.registry.records)} caches>"


def _held_now(record: CacheRecord) -> int:
    totals: Totals = record.totals()
    return totals.live().size_bytes + record.inherited[0]


def _level(level: ProfilingLevel | str | int) -> ProfilingLevel:
    try:
        return ProfilingLevel.parse(level)
    except ValueError as error:
        raise ConfigurationError(f"level: {error}") from None


def current_profiler(config: ProfilerConfig | None = None) -> CacheMemoryProfiler:
    """The process's profiler, from any thread; started if there is none.

    Args:
        config: Settings for the start; ignored, but for a higher level, when it runs already.

    Raises:
        ConfigurationError: *config* is no ``ProfilerConfig``.
    """
    global _process_profiler
    if config is not None and not isinstance(config, ProfilerConfig):
        raise ConfigurationError(f"config: {config!r} is not allowed; expected a ProfilerConfig or None")
    with _process_lock:
        profiler = _process_profiler
        if profiler is None or not profiler.running:
            if profiler is None or config is not None:
                profiler = CacheMemoryProfiler(config)
            _process_profiler = profiler
            profiler.start()
        elif config is not None:
            profiler.raise_level(config.level)
        return profiler


async def get_memory_profiler(level: ProfilingLevel | str | int | None = None) -> CacheMemoryProfiler:
    """The process's profiler, started once; a later call returns the same one and only ever raises its level.

    Args:
        level: At least this deep; None leaves it to ``CACHESCOPE_LEVEL``, which is BASIC unless set.

    Raises:
        ConfigurationError: *level* is no level.
    """
    wanted = None if level is None else _level(level)
    profiler = current_profiler()
    if wanted is not None:
        profiler.raise_level(wanted)
    return profiler


async def shutdown_memory_profiler() -> None:
    """Shut the process's profiler down; does nothing when none runs."""
    profiler = running_profiler()
    if profiler is not None:
        await asyncio.to_thread(profiler.shutdown)


def running_profiler() -> CacheMemoryProfiler | None:
    """The process's profiler if it runs, else None."""
    profiler = _process_profiler
    return profiler if profiler is not None and profiler.running else None


current.register(current_profiler, running_profiler)
__all__ = ["MANUAL", "CacheMemoryProfiler", "CacheWindow", "current_profiler", "get_memory_profiler"]
