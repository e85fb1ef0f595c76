"""Everything that is folded of one cache over one bucket of time, beside what its records sum up for good."""

from __future__ import annotations

from collections.abc import Mapping

from cachescope.core.analysis.captured import as_object
from cachescope.core.analysis.heavy_hitters import HeavyHitters
from cachescope.core.analysis.key_counts import UNPRUNED, KeyCounts
from cachescope.core.analysis.latencies import Latencies
from cachescope.core.analysis.lives import Lives
from cachescope.core.analysis.shares import Shares
from cachescope.core.analysis.totals import Totals

KEYS_IN_RING = 64
"""Keys that a closed bucket keeps: the ring has many buckets."""


class Activity:
    """The folds of one bucket, merged as one. A commutative monoid as each of them.

    Args:
        keys: Keys counted.

    Attributes:
        totals: Exact counters: what changed in the bucket.
        lives: Sizes, ages and use of followed entries.
        keys: The keys set and read most often; in the buckets of a ring put there when they are closed.
        latencies: Timed operations.
        threads: Who allocates, by thread.
        tasks: The same by asyncio task.
        spots: By pattern and call site, as numbers: ``[allocations, bytes, churned bytes]``. Not captured.
    """

    __slots__ = ("keys", "latencies", "lives", "spots", "tasks", "threads", "totals")

    def __init__(self, keys: int = HeavyHitters.CAPACITY) -> None:
        self.totals = Totals()
        self.lives = Lives()
        self.keys = KeyCounts(keys)
        self.latencies = Latencies()
        self.threads = Shares()
        self.tasks = Shares()
        self.spots: dict[tuple[int, int], list[float]] = {}

    def merge(self, other: Activity) -> None:
        """Add another bucket's, object's or process's."""
        self.totals.merge(other.totals)
        self.lives.merge(other.lives)
        self.keys.merge(other.keys)
        self.latencies.merge(other.latencies)
        self.threads.merge(other.threads)
        self.tasks.merge(other.tasks)
        for place, row in other.spots.items():
            self.add_spot(place, row)

    def add_spot(self, place: tuple[int, int], row: list[float]) -> None:
        """Add allocations, bytes and churned bytes of one pattern at one call site."""
        known = self.spots.get(place)
        if known is None:
            self.spots[place] = list(row)
        else:
            for column, value in enumerate(row):
                known[column] += value

    def thinned(self) -> Activity:
        """The same with fewer keys, as the ring keeps it."""
        out = Activity(UNPRUNED)
        out.merge(self)
        out.keys = self.keys.grown_since(({}, {}), KEYS_IN_RING)
        return out

    def memory_bytes(self) -> int:
        """An estimate of the memory that this takes."""
        sketches = [self.lives.sizes, *self.lives.ages.values(), *self.latencies.kinds.values()]
        bins = sum(len(sketch.bins) for sketch in sketches)
        rows = len(self.spots) + len(self.threads.rows) + len(self.tasks.rows) + len(self.totals.kinds)
        return 2_000 + self.keys.memory_bytes() + 100 * bins + 250 * rows

    def to_dict(self) -> dict[str, object]:
        """The folds' states as JSON types; without totals and spots, which records keep for good."""
        return {
            "lives": self.lives.to_dict(),
            "keys": self.keys.to_dict(),
            "latencies": self.latencies.to_dict(),
            "threads": self.threads.to_dict(),
            "tasks": self.tasks.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Activity:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: A part is not what :meth:`to_dict` gives; the message names it.
        """
        out = cls()
        data = as_object("activity", data)
        out.lives = Lives.from_dict(as_object("lives", data.get("lives")))
        out.keys = KeyCounts.from_dict(as_object("keys", data.get("keys")))
        out.latencies = Latencies.from_dict(as_object("latencies", data.get("latencies")))
        out.threads = Shares.from_dict(as_object("threads", data.get("threads")))
        out.tasks = Shares.from_dict(as_object("tasks", data.get("tasks")))
        return out
