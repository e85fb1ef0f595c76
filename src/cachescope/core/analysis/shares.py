"""Shares: who allocates, by thread or by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachescope.core.results import Share

OTHERS = "(others)"


class Shares:
    """Sum counts and bytes by label. A commutative monoid; at most *most* labels, the rest is one of its own."""

    __slots__ = ("most", "rows")

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self.rows: dict[str, list[float]] = {}

    def update(self, label: str, count: float, size_bytes: float) -> None:
        """Add allocations under a label."""
        row = self.rows.get(label)
        if row is None:
            if len(self.rows) >= self.most:
                label = OTHERS
            row = self.rows.setdefault(label, [0.0, 0.0])
        row[0] += count
        row[1] += size_bytes

    def merge(self, other: Shares) -> None:
        """Add what another bucket, object or process saw."""
        for label, (count, size_bytes) in other.rows.items():
            self.update(label, count, size_bytes)

    def result(self) -> tuple[Share, ...]:
        """Every label, that with the most bytes first."""
        whole = sum(row[1] for row in self.rows.values())
        rows = [
            Share(label=label, count=round(count), size_bytes=round(size), share=size / whole if whole > 0 else 0.0)
            for label, (count, size) in self.rows.items()
        ]
        return tuple(sorted(rows, key=lambda row: (-row.size_bytes, row.label)))

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types."""
        return {label: list(row) for label, row in self.rows.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shares:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: A row is not two numbers.
        """
        out = cls()
        for label, row in data.items():
            if not isinstance(row, list) or len(row) != 2 or not all(isinstance(x, (int, float)) for x in row):
                raise ValueError(f"share {label!r}: expected a count and bytes, found {row!r}")
            out.update(str(label), float(row[0]), float(row[1]))
        return out
