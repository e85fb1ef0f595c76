"""The process's own profiler: started once, found from anywhere."""

from __future__ import annotations

import asyncio
import threading

from cachescope.core import current
from cachescope.core.config import ProfilerConfig
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import ProfilingLevel
from cachescope.profiler.profiler import CacheMemoryProfiler, checked_level

_process_lock = threading.Lock()
_process_profiler: CacheMemoryProfiler | None = None


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
    wanted = None if level is None else checked_level(level)
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
