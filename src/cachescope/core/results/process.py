"""The process that figures come from."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.base import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo(Result):
    """The process that a capture or a report comes from."""

    pid: int
    parent_pid: int
    command: str
    python: str
    start_time: float
    end_time: float
    level: str
    rss_bytes: int
    profiler_bytes: int
    """An estimate of the profiler's own memory."""
    profiler_cpu_seconds: float
    """CPU time of our own thread; what hooks cost inline is not in it."""
    dropped_events: int
    faults: dict[str, int]
    """Our own faults, swallowed: what, and how often."""
    tracemalloc_bytes: int | None = None
    """Memory that tracemalloc itself needs; None unless it traces (COMPREHENSIVE)."""
    budget_bytes: int | None = None
    """What the process should stay below, by ``process_budget_bytes``."""
    collects: tuple[str, ...] = ()
    """What was on, in words, such as ``latency on a sample``."""
    exit_note: str = ""
    """How the program ended, when it ended badly."""
