"""A cache under test that is being profiled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cachescope.core.state import COUNTERS, State
from cachescope.instrument.autopatch import AutopatchHandle, autopatch
from cachescope.instrument.binding import state_on
from cachescope.instrument.objects import instrument, uninstrument
from cachescope.profiler import CacheMemoryProfiler


class Watched:
    """A cache that is being profiled one of the three ways, until :meth:`undo`.

    Attributes:
        cache: What to call.
        bare: The cache itself; the same object unless it is behind a proxy.
    """

    def __init__(self, bare: Any, how: str, profiler: CacheMemoryProfiler, library: str | None, **options: Any) -> None:
        self.bare, self.how, self.profiler = bare, how, profiler
        self.patch: AutopatchHandle | None = None
        if how == "class patch":
            if library is None:
                raise TypeError("a class patch needs the adapter's library; set it, or leave 'class patch' out of hows")
            self.patch = autopatch(library, profiler=profiler)
            self.cache = bare
        else:
            self.cache = instrument(bare, how=how, profiler=profiler, **options)

    @property
    def state(self) -> State:
        """Its counters."""
        state = state_on(self.cache)
        if state is None:
            raise AssertionError("the cache was not met by any hook")
        return state

    @property
    def counted(self) -> SimpleNamespace:
        """Its counters by name, and the entries that they come to."""
        state = self.state
        return SimpleNamespace(**dict(zip(COUNTERS, state.counters(), strict=True)), entries=state.entries)

    @property
    def figures(self) -> tuple[int, ...]:
        """All counters; zeros before the cache was met."""
        state = state_on(self.cache)
        return state.counters() if state is not None else ()

    def undo(self) -> None:
        """Restore the cache or its classes."""
        if self.patch is not None:
            self.patch.undo()
        else:
            uninstrument(self.cache)
