"""Shares: who allocates, by thread or by task."""

from __future__ import annotations

from collections.abc import Mapping

from cachescope.core.analysis.captured import as_amount, as_object
from cachescope.core.results import Share

OTHERS = "(others)"
_LONGEST_LABEL = 200


class Shares:
    """Sum counts and bytes by label. A commutative monoid while there are at most *most* labels; the rest is one of its own.

    At most *most* + 1 rows of some 250 bytes; a label is cut at 200 characters.

    Args:
        most: Labels told apart, those that come first.
    """

    __slots__ = ("most", "rows")

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self.rows: dict[str, list[float]] = {}

    def update(self, label: str, count: float, size_bytes: float) -> None:
        """Add allocations under a label."""
        row = self.rows.get(label)
        if row is None:
            label = label[:_LONGEST_LABEL]
            if label not in self.rows and len(self.rows) - (OTHERS in self.rows) >= self.most:
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
    def from_dict(cls, data: Mapping[str, object]) -> Shares:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: A row is not two numbers; the message names it.
        """
        out = cls()
        for label, row in as_object("shares", data).items():
            if not isinstance(row, list) or len(row) != 2:
                raise ValueError(f"share {label!r}: expected a count and bytes, found {row!r}")
            out.update(
                label, as_amount(f"count of share {label!r}", row[0]), as_amount(f"bytes of share {label!r}", row[1])
            )
        return out
