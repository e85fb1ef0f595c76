"""Where a cache, or the process, is heading."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cachescope.core.results.base import Result


class TrendVerdict(enum.Enum):
    """What a series of measurements looks like."""

    UNKNOWN = "not enough to say"
    STEADY = "steady"
    GROWING = "growing"
    SHRINKING = "shrinking"
    SHIFTED = "shifted"
    """It went from one level to another, at once or by filling up, and is steady there."""
    SAWTOOTH = "sawtooth"
    """It grows and falls back again and again, and its troughs stay where they are."""
    PERIODIC = "periodic"
    """It goes up and down with a period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShift(Result):
    """A sudden change from one level to another."""

    at: float
    """Seconds since the epoch."""
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTrend(Result):
    """What the bytes of a cache, or of the process, did over a window, and where they are heading.

    Where there is not enough to say, *verdict* says so, *reason* says why, and the figures are None.
    """

    cache_name: str | None
    """None: the process's resident memory."""
    pid: int | None = None
    """The process, of its resident memory; None for a cache, whose bytes are those of all processes."""
    start_time: float
    end_time: float
    points: int
    verdict: TrendVerdict
    reason: str
    """In words: what the verdict rests on."""
    first_bytes: int
    """Of the first point; 0 when there is none."""
    last_bytes: int
    slope_bytes_per_s: float | None
    """Since the last change of level or pace; of a saw-tooth, the slope of its troughs."""
    slope_low_bytes_per_s: float | None
    """The slope's 95 % confidence interval."""
    slope_high_bytes_per_s: float | None
    shifts: tuple[LevelShift, ...] = ()
    period_seconds: float | None = None
    """Of a wave or of regular cycles, which may lie on a growing or shrinking line as well."""
    limit: str | None = None
    """The limit that it is heading for, in words: ``maxsize 4,000``, ``budget 64 MiB``, ``container limit 512 MiB``."""
    seconds_to_limit: float | None = None
    seconds_to_limit_low: float | None = None
    seconds_to_limit_high: float | None = None
    """The far end of the interval; None when the slope's lower end does not reach the limit within ten years."""
