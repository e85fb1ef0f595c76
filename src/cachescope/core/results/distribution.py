"""How a quantity is spread: quantiles with a stated relative error, and a histogram."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.base import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramBar(Result):
    """How many values lie in one range."""

    low: float
    """The lower end, exclusive but for the first bar."""
    high: float
    """The upper end, inclusive."""
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution(Result):
    """How a quantity is spread. Its unit is that of the field that holds it."""

    count: float
    """Values seen; scaled up where only some are followed."""
    minimum: float
    maximum: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    relative_error: float
    """A quantile is at most this far from the true one, as a share of it: 0.01 is one percent."""
    histogram: tuple[HistogramBar, ...] = ()
