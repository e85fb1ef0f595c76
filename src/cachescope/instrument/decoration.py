"""What one ``@profiled_cache`` was asked for, and whose profiler its caches go to.

Decorating is cheap and starts nothing: the profiler is looked for when a function is called or an instance is made.
While it is shut down there is none; a call doesn't undo a shutdown.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from cachescope.core import current
from cachescope.core.charging import Weigher
from cachescope.core.errors import ConfigurationError
from cachescope.core.registry import CacheRegistry
from cachescope.core.sites import short_path

guard = threading.RLock()
"""Held while caches are bound to profilers. Read it from here each time: a fork replaces it."""


def renew_guard() -> None:
    """In a fork's child: a lock that another thread held would never be released there."""
    global guard
    guard = threading.RLock()


class _Unset:
    def __repr__(self) -> str:
        return "<default>"


UNSET: Any = _Unset()


class Options(NamedTuple):
    """The arguments of :func:`profiled_cache`."""

    maxsize: Any
    ttl: Any
    cache: Any
    key: Any
    lock: Any
    typed: Any
    name: str | None
    operations: Mapping[str, str] | None
    weigher: Weigher | None
    profiler: Any

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise if one of *names* was given."""
        for name in names:
            value = getattr(self, name)
            if value is not UNSET and value is not None:
                raise ConfigurationError(f"{name}={value!r}: {why}")


def _process_life() -> tuple[str, bool] | None:
    """Which start of the process's profiler is the newest, and whether it runs; None before the first."""
    profiler = getattr(sys.modules.get("cachescope.profiler.process"), "_process_profiler", None)
    return None if profiler is None else (profiler.registry.uid, profiler.running)


class Owner:
    """Finds the profiler that the caches of one decoration go to."""

    __slots__ = ("decorated_in", "profiler")

    def __init__(self, profiler: Any) -> None:
        if profiler is not None and not isinstance(getattr(profiler, "registry", None), CacheRegistry):
            raise ConfigurationError(f"profiler: {profiler!r} is not allowed; expected a CacheMemoryProfiler, or None")
        self.profiler = profiler
        self.decorated_in = _process_life()

    def now(self) -> Any:
        """The profiler, started if it is the process's and has not been shut down since; else None."""
        if self.profiler is not None:
            return self.profiler if self.profiler.registry.open else None
        running = current.running_profiler()
        if running is not None:
            return running
        return current.process_profiler() if _process_life() == self.decorated_in else None


def shown(obj: Any) -> str:
    """What *obj* is, without asking it."""
    kind = obj if isinstance(obj, type) else type(obj)
    module = getattr(kind, "__module__", "?")
    qualname = getattr(obj, "__qualname__", None)
    if isinstance(obj, type):
        return f"class {module}.{kind.__qualname__}".replace("builtins.", "")
    if isinstance(qualname, str):
        return f"{getattr(obj, '__module__', '?')}.{qualname}()"
    return f"an object of type {module}.{kind.__qualname__}".replace("builtins.", "")


def line_of(function: Any) -> str:
    """Where a function is defined, below whatever wraps it; empty for one without code."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{short_path(code.co_filename)}:{code.co_firstlineno}"
