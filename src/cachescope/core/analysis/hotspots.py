"""Hotspots: what kinds of keys, and which lines, hold, allocate and churn bytes.

Fed with what was seen of followed keys. A key is followed with probability p, decided by its hash alone, so that all
events of a key are seen or none; sums are scaled by 1/p (Horvitz & Thompson 1952). While p is 1 they are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Cell:
    """The sums of one key pattern and one call site.

    Attributes:
        allocations: Sets of new keys and replacements, scaled.
        allocated_bytes: Their bytes, scaled.
        allocated_variance: Of *allocated_bytes*, from following only some keys.
        live_entries: Entries in the cache now, scaled.
        live_bytes: Their bytes, scaled.
        live_variance: Of *live_bytes*.
        hits: Sampled reads that hit; not scaled.
        misses: Sampled reads that missed; not scaled.
        first_seen: Seconds since the epoch; 0.0 for never.
        last_seen: Seconds since the epoch.
        churned_bytes: Bytes allocated that are gone again, scaled.
    """

    allocations: float = 0.0
    allocated_bytes: float = 0.0
    allocated_variance: float = 0.0
    live_entries: float = 0.0
    live_bytes: float = 0.0
    live_variance: float = 0.0
    hits: int = 0
    misses: int = 0
    first_seen: float = 0.0
    last_seen: float = 0.0
    churned_bytes: float = 0.0

    def add(self, other: Cell) -> None:
        """Add another cell's sums."""
        self.allocations += other.allocations
        self.allocated_bytes += other.allocated_bytes
        self.allocated_variance += other.allocated_variance
        self.live_entries += other.live_entries
        self.live_bytes += other.live_bytes
        self.live_variance += other.live_variance
        self.hits += other.hits
        self.misses += other.misses
        seen = [at for at in (self.first_seen, other.first_seen) if at]
        self.first_seen = min(seen, default=0.0)
        self.last_seen = max(self.last_seen, other.last_seen)
        self.churned_bytes += other.churned_bytes

    def to_list(self) -> list[float]:
        """The figures in the order of the fields."""
        return [getattr(self, name) for name in self.__slots__]


OLDER = "(older)"
"""The place of all that was seen so long ago that it is not told apart any more."""
Place = tuple[str, str, str]
"""A key pattern, the call site, and where the value was built, in words; ``""`` for not known."""


class Hotspots:
    """Sum cells by place. A commutative monoid; at most *limit* places are kept, the rest is one ``overflow`` place."""

    __slots__ = ("cells", "limit")

    def __init__(self, limit: int = 8_192) -> None:
        self.limit = limit
        self.cells: dict[Place, Cell] = {}

    def update(self, batch: Iterable[tuple[Place, Cell]]) -> None:
        """Add what was seen, by place."""
        for place, cell in batch:
            known = self.cells.get(place)
            if known is None:
                if len(self.cells) >= self.limit:
                    place = ("overflow", "overflow", "overflow")
                known = self.cells.setdefault(place, Cell())
            known.add(cell)

    def merge(self, other: Hotspots) -> None:
        """Add what another thread or process saw."""
        self.update(other.cells.items())

    def grouped(self, column: int) -> dict[str, Cell]:
        """The sums by one column of the places: 0 for key patterns, 1 for call sites, 2 for where values were built."""
        out: dict[str, Cell] = {}
        for place, cell in self.cells.items():
            out.setdefault(place[column], Cell()).add(cell)
        return out

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types."""
        return {"cells": [[*place, *cell.to_list()] for place, cell in self.cells.items()]}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Hotspots:
        """The inverse of :meth:`to_dict`."""
        out = cls()
        rows = data["cells"]
        if not isinstance(rows, list):
            raise ValueError(f"cells: expected a list, found {rows!r}")
        width = len(Cell.__slots__)
        for row in rows:
            if (
                not isinstance(row, list)
                or len(row) != 3 + width
                or not all(isinstance(x, (int, float)) for x in row[3:])
            ):
                raise ValueError(f"cell: expected a pattern, a site, an origin and {width} numbers, found {row!r}")
            out.update([((str(row[0]), str(row[1]), str(row[2])), Cell(*row[3:]))])
        return out
