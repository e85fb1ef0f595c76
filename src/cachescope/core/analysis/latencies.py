"""Latencies: how long lookups, sets, deletes and loads take.

In-process caches are timed on a sample that is taken uniformly in time: for some milliseconds, three times a second, up to 64
operations a cache. An interval is what the application waits: for the library, for our hook, and for the clock (some 40 ns).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cachescope.core.analysis.captured import as_object
from cachescope.core.analysis.quantiles import Quantiles
from cachescope.core.results import Distribution, OperationLatency

OPERATIONS = (("lookup", "hit"), ("lookup", "miss"), ("set", ""), ("delete", ""), ("load", "ok"), ("load", "failed"))
"""Operation and outcome of each kind of timing, in the order of the constants in :mod:`cachescope.core.batch`."""
LOADS = (4, 5)
_KINDS = {str(kind): kind for kind in range(len(OPERATIONS))}
_NS = 1e-9


class Latencies:
    """Sum timings. A commutative monoid; a sketch of a few KB for each kind seen."""

    __slots__ = ("kinds",)

    def __init__(self) -> None:
        self.kinds: dict[int, Quantiles] = {}

    def update(self, timings: Iterable[tuple[int, int]]) -> None:
        """Add timings: pairs of a kind (an index of :data:`OPERATIONS`) and nanoseconds."""
        for kind, took_ns in timings:
            sketch = self.kinds.get(kind)
            if sketch is None:
                sketch = self.kinds[kind] = Quantiles()
            sketch.update(took_ns * _NS)

    def merge(self, other: Latencies) -> None:
        """Add what another bucket, object or process saw."""
        for kind, sketch in other.kinds.items():
            self.kinds.setdefault(kind, Quantiles()).merge(sketch)

    def spread(self, kind: int) -> Distribution | None:
        """How long one kind took, in seconds; None when it was not seen."""
        sketch = self.kinds.get(kind)
        return None if sketch is None else sketch.distribution()

    def result(self, *, all_loads: bool) -> tuple[OperationLatency, ...]:
        """Every kind that was seen.

        Args:
            all_loads: Whether every load was timed, and not only some.
        """
        out = []
        for kind, (operation, outcome) in enumerate(OPERATIONS):
            spread = self.spread(kind)
            if spread is not None:
                sampled = not (kind in LOADS and all_loads)
                out.append(OperationLatency(operation=operation, outcome=outcome, seconds=spread, sampled=sampled))
        return tuple(out)

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types."""
        return {str(kind): sketch.to_dict() for kind, sketch in self.kinds.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Latencies:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: There is a kind that this version does not know, or no sketch of it.
        """
        out = cls()
        for kind, sketch in as_object("latencies", data).items():
            if kind not in _KINDS:
                raise ValueError(f"kind of timing {kind!r}: expected a number below {len(OPERATIONS)}")
            out.kinds[_KINDS[kind]] = Quantiles.from_dict(as_object(f"timings of kind {kind}", sketch))
        return out
