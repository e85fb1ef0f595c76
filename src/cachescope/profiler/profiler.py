"""CacheMemoryProfiler: puts the rooms together, and keeps them going."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachescope.core import capture, faults
from cachescope.core.config import ProfilerConfig
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import MemoryEventType, ProfilingLevel
from cachescope.core.lifecycle import Heart, start_thread
from cachescope.core.manual import ManualCaches
from cachescope.core.operations import Operation
from cachescope.core.process_memory import Pace
from cachescope.core.record import CacheRecord
from cachescope.core.recorder import Recorder
from cachescope.core.registry import CacheRegistry
from cachescope.core.results import MemoryProfile, MemorySnapshot, OperationProfile
from cachescope.core.samplers import Samplers
from cachescope.core.subscribers import Subscribers
from cachescope.core.subscription import Callback, Subscription
from cachescope.core.tracing import Tracing
from cachescope.core.vitals import Vitals
from cachescope.instrument import autopatch, binding
from cachescope.profiler.questions import Questions
from cachescope.profiler.window import CacheWindow

_BEATS_PER_SAMPLE = 3
"""Look-ups are sampled on every so many beats of the background thread, and operations timed on as many others."""
_MOST_FINISHED = 65_536
_FLUSH_SHARE = 0.02
"""What writing captures may take of a core, where they are large or wanted often."""
_LONGEST_UNFLUSHED = 10.0


class CacheMemoryProfiler(Questions):
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
        self.exit_note = ""
        self._subscribers = Subscribers(start_thread)
        self._tracing = Tracing()
        self._heart = Heart(self, self.config.tick_seconds)
        self._beats = 0
        self._running = False
        self._flushed_at = time.monotonic()
        self._flush_pace = Pace(_FLUSH_SHARE)
        self._lock = threading.RLock()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.registry = CacheRegistry(self.config, self._subscribers)
        self._samplers, self._recorder = Samplers(self.registry), Recorder(self.registry)
        self._manual = ManualCaches(self.registry)
        self._vitals = Vitals(self.config)
        self._windows: list[CacheWindow] = []
        self._finished: deque[tuple[CacheRecord, OperationProfile]] = deque(maxlen=_MOST_FINISHED)

    # Life

    @property
    def running(self) -> bool:
        """Whether the profiler has been started and not shut down."""
        return self._running

    def start(self) -> Self:
        """Start the background thread; after a shutdown, begin anew and take hooked caches back."""
        with self._lock:
            if self._running:
                return self
            if not self.registry.open:
                home = self.registry.home
                self._begin_anew()
                self.registry.home = home
            self._running = True
            self._flushed_at = time.monotonic()
            self._trace()
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
            self._note_vitals()
            self._flush()
        autopatch.profiler_stopped(self.registry)
        binding.profiler_stopped(self.registry)
        self._fold()
        self.registry.close()
        self._subscribers.close()
        self._tracing.stop()

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

    def set_level(self, level: ProfilingLevel | str | int) -> None:
        """Look deeper, or less deep, from now on; what was gathered stays.

        Raises:
            ConfigurationError: *level* is no level.
        """
        wanted = checked_level(level)
        with self._lock:
            if wanted != self.registry.level:
                self.registry.set_level(wanted)
                if self._running:
                    self._trace()

    def raise_level(self, level: ProfilingLevel | str | int) -> None:
        """Look at least as deep as *level* from now on; a lower level than now changes nothing.

        Raises:
            ConfigurationError: *level* is no level.
        """
        if checked_level(level) > self.registry.level:
            self.set_level(level)

    def _trace(self) -> None:
        """Have tracemalloc on at COMPREHENSIVE, and as it was below."""
        if self.registry.level >= ProfilingLevel.COMPREHENSIVE and self.config.trace_allocations:
            self._tracing.start(self.config.tracemalloc_frames)
        else:
            self._tracing.stop()

    def beat(self) -> None:
        """One turn of the background thread."""
        self._fold()
        self.registry.maintain()
        self._beats += 1
        turn = self._beats % _BEATS_PER_SAMPLE
        if turn == 0:
            self._samplers.sample_reads()
        elif turn == 1:
            self._samplers.time_operations()
        else:
            self._samplers.watch_reads()
        for window in list(self._windows):
            window.peak_bytes = max(window.peak_bytes, window.record.held_bytes())
        self._note_vitals(only_when_due=True)
        if self.config.output is not None and self._flush_due():
            self._flush()

    def last_beat(self) -> None:
        """The process ends: fold and write what there is."""
        note = getattr(sys, "last_value", None)
        if note is not None and not self.exit_note:
            self.exit_note = f"ended by {type(note).__name__}"
        self._fold()
        self._note_vitals()
        self._flush()

    def after_fork(self) -> None:
        """In a forked child: flows start at 0."""
        self._lock = threading.RLock()
        self._subscribers.after_fork()
        self._manual.after_fork()
        self.registry.after_fork()
        self._vitals.after_fork()
        self._finished.clear()
        for window in self._windows:
            window._begin()
        self._flushed_at = time.monotonic()

    def _fold(self) -> None:
        self.registry.fold()
        while self._finished:
            record, profile = self._finished.popleft()
            record.operations.update(profile, time.time())

    def _note_vitals(self, *, only_when_due: bool = False) -> None:
        try:
            if not only_when_due or self._vitals.due():
                self._vitals.take(self._recorder.uses())
            if self._vitals.judgement_due():
                self._subscribers.publish(self._vitals.judge(self._recorder.uses()))
        except Exception as error:
            faults.swallow("snapshot", error)

    def _flush_due(self) -> bool:
        waited = time.monotonic() - self._flushed_at
        return waited >= self.config.flush_seconds and (self._flush_pace.due() or waited >= _LONGEST_UNFLUSHED)

    def _flush(self) -> None:
        self._flushed_at = time.monotonic()
        if self.config.output is None:
            return
        began = time.thread_time()
        try:
            self.write_capture()
        except Exception as error:
            faults.swallow("capture", error)
        self._flush_pace.spent(time.thread_time() - began)

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

    def reset_profiling_data(self) -> None:
        """Forget what was gathered: counters, hotspots, snapshots, operations start anew. What caches hold stays counted."""
        with self._lock:
            self._fold()
            self.registry.reset()
            self._vitals.reset()
            for window in self._windows:
                window._begin()

    # Windows, operations, snapshots, subscribers

    def start_cache_profiling(self, cache_name: str) -> CacheWindow:
        """Open a window over a cache, hooked or manual; several may overlap.

        A name that is not known yet becomes a manual cache, fed by ``track_…``.
        """
        with self._lock:
            record = self._known_or_manual(cache_name)
            self._mark_peaks(record)
            record.restart_peaks()
            window = CacheWindow(record, self._profile_of_window, self._window_closed)
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

    def profile_operation(self, cache_name: str, operation: str) -> Operation:
        """Attribute what happens to a cache inside a block, or a function, to an operation of that name.

        For ``with``, ``async with`` and as a decorator; overlapping blocks are told apart, in tasks and in threads::

            async with profiler.profile_operation("users", "bulk_insert") as context:
                ...
            print(context.memory_delta_bytes)

        What the block gives is an :class:`~cachescope.OperationProfile`, filled when the block ends.

        Args:
            cache_name: The cache; a name that is not known yet becomes a manual one.
            operation: What to call it in reports.

        Raises:
            ConfigurationError: *operation* is no text, or an empty one.
        """
        if not isinstance(operation, str) or not operation:
            raise ConfigurationError(f"operation: {operation!r} is not allowed; expected a non-empty str")
        record = self._known_or_manual(cache_name)
        return Operation(record, operation, lambda profile: self._finished.append((record, profile)))

    def take_memory_snapshot(self) -> MemorySnapshot:
        """Take a snapshot of memory now; it is kept with those that are taken in the background."""
        return self._vitals.take(self._recorder.uses(), whole=True)

    def subscribe(
        self,
        callback: Callback,
        *,
        kinds: Iterable[MemoryEventType] | None = (MemoryEventType.PRESSURE,),
        caches: Iterable[str] | None = None,
    ) -> Subscription:
        """Have *callback* called with memory events, never inside a cache's call.

        Plain functions run on a thread of ours, coroutine functions on the event loop that runs here and now. They may
        take their time, raise, shrink a cache, ask the profiler, or end their subscription.

        Args:
            callback: Gets one :class:`~cachescope.MemoryAllocation`.
            kinds: The kinds of event; None for all. ``PRESSURE`` says that a limit is near; the others come a tenth of a
                second late, and of followed entries only.
            caches: Names or shell-style patterns; None for all.

        Returns:
            The subscription, with ``cancel()``.

        Raises:
            ConfigurationError: An argument is not allowed, or a coroutine function was given where no loop runs.
        """
        return self._subscribers.subscribe(callback, kinds=kinds, caches=caches)

    def _profile_of_window(self, window: CacheWindow) -> MemoryProfile:
        with self._lock:
            self._mark_peaks(window.record)
            return self._window_profile(window.record, window)

    def _window_closed(self, window: CacheWindow) -> None:
        with self._lock:
            if window in self._windows:
                self._windows.remove(window)

    def _mark_peaks(self, record: CacheRecord) -> None:
        """Give every open window over *record* the highest value since the last mark."""
        states = record.live_states()
        peak = states[0].peak_bytes if len(states) == 1 else record.held_bytes()
        record.mark_peak()
        for window in self._windows:
            if window.record is record:
                window.peak_bytes = max(window.peak_bytes, peak)
        record.restart_peaks()

    def _known_or_manual(self, cache_name: str) -> CacheRecord:
        known = self.registry.records.get(cache_name) if isinstance(cache_name, str) else None
        return known or self._manual.record(cache_name)

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

    def __repr__(self) -> str:
        word = "running" if self._running else "stopped"
        return f"<CacheMemoryProfiler {word}, level {self.level.name}, {len(self.registry.records)} caches>"


def checked_level(level: ProfilingLevel | str | int) -> ProfilingLevel:
    """A level, however it was given.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        return ProfilingLevel.parse(level)
    except ValueError as error:
        raise ConfigurationError(f"level: {error}") from None
