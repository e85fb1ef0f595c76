"""Operations: what all runs of each named operation took and did to a cache."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cachescope.core.analysis.captured import as_moment, as_object, as_whole
from cachescope.core.analysis.quantiles import Quantiles
from cachescope.core.results.operation import OperationProfile, OperationSummary

OTHERS = "(others)"
"""The name of what came when there were as many names as are kept."""
_LONGEST_NAME = 200
_SUMS = ("allocated_bytes", "freed_bytes", "memory_delta_bytes", "allocations", "hits", "misses")


class _Row:
    """The runs of one operation."""

    MOST_ERRORS = 16
    __slots__ = ("allocated", "count", "durations", "errors", "first_seen", "last_seen", "sums")

    def __init__(self) -> None:
        self.count = 0
        self.sums = [0] * len(_SUMS)
        self.errors: dict[str, int] = {}
        self.durations = Quantiles()
        self.allocated = Quantiles()
        self.first_seen = math.inf
        self.last_seen = -math.inf

    def update(self, profile: OperationProfile, now: float) -> None:
        self.count += 1
        for index, name in enumerate(_SUMS):
            self.sums[index] += getattr(profile, name)
        if profile.error is not None:
            self.add_errors(profile.error[:_LONGEST_NAME], 1)
        self.durations.update(profile.duration_seconds)
        self.allocated.update(profile.allocated_bytes)
        self.first_seen = min(self.first_seen, now)
        self.last_seen = max(self.last_seen, now)

    def merge(self, other: _Row) -> None:
        self.count += other.count
        for index, value in enumerate(other.sums):
            self.sums[index] += value
        for error, count in list(other.errors.items()):
            self.add_errors(error, count)
        self.durations.merge(other.durations)
        self.allocated.merge(other.allocated)
        self.first_seen = min(self.first_seen, other.first_seen)
        self.last_seen = max(self.last_seen, other.last_seen)

    def add_errors(self, error: str, count: int) -> None:
        if error not in self.errors and len(self.errors) >= self.MOST_ERRORS:
            error = OTHERS
        self.errors[error] = self.errors.get(error, 0) + count

    def summary(self, cache_name: str, operation: str) -> OperationSummary | None:
        durations, allocated = self.durations.distribution(), self.allocated.distribution()
        if durations is None or allocated is None:  # no run had a figure that is a number
            return None
        allocated_bytes, freed_bytes, net_bytes, _, hits, misses = self.sums
        return OperationSummary(
            cache_name=cache_name,
            operation=operation,
            count=self.count,
            failures=sum(self.errors.values()),
            errors=tuple(sorted(self.errors.items(), key=lambda error: (-error[1], error[0]))),
            duration_seconds=durations,
            allocated_bytes=allocated,
            total_allocated_bytes=allocated_bytes,
            total_freed_bytes=freed_bytes,
            memory_delta_bytes=net_bytes,
            hits=hits,
            misses=misses,
            first_seen=self.first_seen,
            last_seen=self.last_seen,
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "count": self.count,
            **dict(zip(_SUMS, self.sums, strict=True)),
            "errors": dict(self.errors),
            "duration_seconds": self.durations.to_dict(),
            "allocated": self.allocated.to_dict(),
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> _Row:
        out = cls()
        out.count = as_whole("count", data.get("count"), least=1)
        out.sums = [as_whole(name, data.get(name), least=None if name == "memory_delta_bytes" else 0) for name in _SUMS]
        errors = as_object("errors", data.get("errors"))
        if len(errors) > cls.MOST_ERRORS + 1:
            raise ValueError(f"errors: expected at most {cls.MOST_ERRORS + 1} types, found {len(errors)}")
        out.errors = {str(error): as_whole(f"errors of {error!r}", count, least=1) for error, count in errors.items()}
        if sum(out.errors.values()) > out.count:
            raise ValueError(f"errors: expected at most {out.count}, as many as runs, found {sum(out.errors.values())}")
        out.durations = Quantiles.from_dict(as_object("duration_seconds", data.get("duration_seconds")))
        out.allocated = Quantiles.from_dict(as_object("allocated", data.get("allocated")))
        out.first_seen = as_moment("first_seen", data.get("first_seen"))
        out.last_seen = as_moment("last_seen", data.get("last_seen"))
        return out


class Operations:
    """Sum profiles by operation. A commutative monoid: order and cuts don't matter while there are at most *most* names.

    At most *most* names are kept, those that came first; the rest is one more, ``(others)``, so that the sums stay whole.
    A name takes two sketches of quantiles (each some 3 KiB, at most 200) and 16 types of errors.

    Args:
        most: Names kept.
    """

    __slots__ = ("most", "rows")

    def __init__(self, most: int = 256) -> None:
        self.most = most
        self.rows: dict[str, _Row] = {}

    def update(self, profile: OperationProfile, now: float) -> None:
        """Add a run that ended at *now*, in seconds since the epoch."""
        self._row(profile.operation).update(profile, now)

    def merge(self, other: Operations) -> None:
        """Add what another thread, object or process saw."""
        for name, row in list(other.rows.items()):
            self._row(name).merge(row)

    def _row(self, name: str) -> _Row:
        row = self.rows.get(name)
        if row is None:
            if len(self.rows) - (OTHERS in self.rows) >= self.most:
                name = OTHERS
            row = self.rows.setdefault(name, _Row())
        return row

    def summaries(self, cache_name: str) -> tuple[OperationSummary, ...]:
        """The operations of the cache that is called *cache_name*; those that allocated most bytes come first."""
        found = [row.summary(cache_name, name) for name, row in list(self.rows.items())]
        return tuple(
            sorted(
                (summary for summary in found if summary is not None),
                key=lambda summary: (-summary.total_allocated_bytes, -summary.count, summary.operation),
            )
        )

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types."""
        return {"most": self.most, "operations": {name: row.to_dict() for name, row in list(self.rows.items())}}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Operations:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: *data* is nothing that :meth:`to_dict` gives; the message names the operation and the figure.
        """
        out = cls(as_whole("most", as_object("operations", data).get("most"), least=1))
        rows = as_object("operations", data.get("operations"))
        if len(rows) > out.most + 1:
            raise ValueError(f"operations: expected at most {out.most + 1}, found {len(rows)}")
        for name, row in rows.items():
            try:
                out.rows[str(name)] = _Row.from_dict(as_object("runs", row))
            except ValueError as error:
                raise ValueError(f"operation {name!r}: {error}") from None
        return out
