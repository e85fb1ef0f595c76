"""The profiler: puts the rooms together, and answers every public question."""

from cachescope.profiler.process import (
    current_profiler,
    get_memory_profiler,
    running_profiler,
    shutdown_memory_profiler,
)
from cachescope.profiler.profiler import CacheMemoryProfiler
from cachescope.profiler.window import CacheWindow

__all__ = [
    "CacheMemoryProfiler",
    "CacheWindow",
    "current_profiler",
    "get_memory_profiler",
    "running_profiler",
    "shutdown_memory_profiler",
]
