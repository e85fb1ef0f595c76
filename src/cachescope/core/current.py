"""The process's own profiler: found or started from anywhere, without importing the room above.

``cachescope.profiler`` registers how a profiler is made; :func:`process_profiler` imports it by name when nobody has yet.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachescope.core.config import ProfilerConfig

_factory: Callable[[ProfilerConfig | None], Any] | None = None
_running: Callable[[], Any] | None = None


def register(factory: Callable[[ProfilerConfig | None], Any], running: Callable[[], Any]) -> None:
    """Say how the process's profiler is started, and how to see whether one runs."""
    global _factory, _running
    _factory, _running = factory, running


def process_profiler(config: ProfilerConfig | None = None) -> Any:
    """The process's profiler, a ``CacheMemoryProfiler``; started with *config* if there is none yet."""
    if _factory is None:
        importlib.import_module("cachescope.profiler")
    return _factory(config)  # type: ignore[misc]  # importing the profiler registers it


def running_profiler() -> Any | None:
    """The process's profiler if one runs, else None."""
    return None if _running is None else _running()
