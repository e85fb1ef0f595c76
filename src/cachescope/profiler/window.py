"""A window over one cache: what it did between two moments."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachescope.core.record import CacheRecord
from cachescope.core.results import MemoryProfile


class CacheWindow:
    """A window over one cache, from :meth:`~cachescope.CacheMemoryProfiler.start_cache_profiling` to :meth:`stop`."""

    def __init__(
        self,
        record: CacheRecord,
        profile: Callable[[CacheWindow], MemoryProfile],
        closed: Callable[[CacheWindow], None],
    ) -> None:
        self.cache_name = record.name
        self.end_time: float | None = None
        self._ask, self._tell_closed = profile, closed
        self.record = record
        self._profile: MemoryProfile | None = None
        self._begin()

    def _begin(self) -> None:
        """What is counted from now on is the window's; in a forked child, from the fork on."""
        self.start_time = time.time()
        self.since = self.record.totals()
        self.peak_bytes = self.record.held_bytes()

    @property
    def open(self) -> bool:
        """Whether the window still runs."""
        return self._profile is None

    def profile(self) -> MemoryProfile:
        """The cache's profile from the window's start until now, or until it was stopped."""
        return self._profile or self._ask(self)

    def stop(self) -> MemoryProfile:
        """End this window, whichever others are open; a second stop gives the same profile."""
        if self._profile is None:
            self._profile = self.profile()
            self.end_time = self._profile.end_time
            self._tell_closed(self)
        return self._profile
