"""The process's memory over time: snapshots at an interval, and pressure where a limit is neared."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from cachescope.core.analysis.pressure import Pressure, PressureChange, Threshold, measured
from cachescope.core.config import ProfilerConfig
from cachescope.core.process_memory import Pace, measure
from cachescope.core.results import CacheUse, MemoryAllocation, MemorySnapshot
from cachescope.core.snapshots import SnapshotHistory

_FIRST_SECONDS = 0.5
"""Between the first snapshots: a program that runs for some seconds has a course too. Thinning takes care of the number."""
_OF_AGE = 16.0
_PRESSURE_SECONDS = 1.0
"""Memory can run short between two snapshots; looking at the limits alone is cheap (below a millisecond)."""
_SHARE_OF_CORE = 0.002
"""What snapshots may take with USS and swap, for which the kernel walks all pages; as much those without; and judging."""
_SYSTEM_HIGH = 0.90
"""A machine of which four fifths are used is what its owner paid for."""


class Vitals:
    """Takes snapshots and judges them. One thread at a time, but for questions.

    Args:
        config: The profiler's settings.
    """

    def __init__(self, config: ProfilerConfig) -> None:
        self._config = config
        self._pace, self._quick_pace, self._judging_pace = (Pace(_SHARE_OF_CORE) for _ in range(3))
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._taken_at = self._judged_at = float("-inf")
        self.history = SnapshotHistory(config.max_snapshots)
        self.pressure = Pressure(_thresholds(config), release=config.pressure_release)

    def due(self) -> bool:
        """Whether it is time for the next snapshot."""
        now = time.monotonic()
        interval = min(self._config.snapshot_seconds, max(_FIRST_SECONDS, (now - self._began) / _OF_AGE))
        often = interval < self._config.snapshot_seconds
        return now - self._taken_at >= interval and (not often or self._quick_pace.due())

    def judgement_due(self) -> bool:
        """Whether it is time to look at the limits."""
        waited = time.monotonic() - self._judged_at
        return waited >= min(_PRESSURE_SECONDS, self._config.snapshot_seconds) and self._judging_pace.due()

    def take(self, uses: Iterable[CacheUse], *, whole: bool | None = None) -> MemorySnapshot:
        """Take a snapshot and keep it.

        Args:
            uses: What each cache holds.
            whole: With USS and swap; None for when the last ones were cheap enough.
        """
        whole = self._pace.due() if whole is None else whole
        snapshot = self._measured(uses, self._pace if whole else self._quick_pace, whole=whole)
        self._taken_at = time.monotonic()
        with self._lock:
            self.history.add(snapshot)
        return snapshot

    @staticmethod
    def _measured(uses: Iterable[CacheUse], pace: Pace, *, whole: bool) -> MemorySnapshot:
        began = time.thread_time()
        snapshot = measure(uses, whole=whole)
        pace.spent(time.thread_time() - began)
        return snapshot

    def judge(self, uses: Iterable[CacheUse]) -> list[MemoryAllocation]:
        """Look at the limits; the events of what changed, or lasts. *uses* are looked at only where a cache has one."""
        self._judged_at = time.monotonic()
        snapshot = self._measured(uses if self._config.cache_budgets else (), self._judging_pace, whole=False)
        return [change.event() for change in self.pressure.judge(time.time(), measured(snapshot))]

    def recent_pressure(self) -> tuple[MemoryAllocation, ...]:
        """The newest changes of pressure, oldest first."""
        return tuple(map(PressureChange.event, self.pressure.recent))

    def budget_of(self, cache_name: str) -> int | None:
        """What a cache should stay below; None where nobody said."""
        fitting = (threshold for threshold in self.pressure.thresholds if threshold.fits(("cache", cache_name)))
        return next((threshold.limit_bytes for threshold in fitting), None)

    def reset(self) -> None:
        """Forget the course so far."""
        with self._lock:
            self.history = SnapshotHistory(self._config.max_snapshots)
        self.pressure.recent = ()
        self._began = time.monotonic()
        self._taken_at = float("-inf")

    def after_fork(self) -> None:
        """In a forked child: a course of its own."""
        self._lock = threading.Lock()
        self.reset()


def _thresholds(config: ProfilerConfig) -> list[Threshold]:
    high, critical = config.pressure_high, config.pressure_critical
    out = [
        Threshold("container", high=high, critical=critical),
        Threshold("system", high=min(max(high, _SYSTEM_HIGH), critical), critical=critical),
    ]
    if config.process_budget_bytes is not None:
        out.append(Threshold("process", limit_bytes=config.process_budget_bytes, high=high, critical=critical))
    out += [
        Threshold("cache", cache_name=pattern, limit_bytes=budget, high=high, critical=critical)
        for pattern, budget in config.cache_budgets
    ]
    return out
