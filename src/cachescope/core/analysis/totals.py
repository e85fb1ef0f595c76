"""Exact totals of a cache: how often, how many, how many bytes; and the estimates for values that were not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachescope.core.analysis.captured import as_object, as_whole
from cachescope.core.charging import Kind, ratio_and_error
from cachescope.core.results import ValueType
from cachescope.core.state import COUNTERS

_INDEX = {name: index for index, name in enumerate(COUNTERS)}
_KIND_FIELDS = (
    "entries",
    "exact_bytes",
    "in_proxy",
    "resized_proxy",
    "deleted_proxy",
    "evicted_proxy",
    "expired_proxy",
    "cleared_proxy",
    "n",
    "sum_x",
    "sum_y",
    "sum_xx",
    "sum_xy",
    "sum_yy",
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, and the standard error of what had to be estimated in them."""

    size_bytes: int
    std_error: float


class Totals:
    """Sum the counters and the value types of cache objects. A commutative monoid: order and cuts don't matter.

    O(1) memory but for one row per value type, of which at most *MOST_TYPES* are kept; the rest is ``overflow``.
    """

    MOST_TYPES = 64
    __slots__ = ("counters", "kinds")

    def __init__(self) -> None:
        self.counters = [0] * len(COUNTERS)
        self.kinds: dict[str, list[int]] = {}

    def update(self, counters: Sequence[int], kinds: Mapping[type, Kind] | None = None) -> None:
        """Add one cache object's counters (in the order of ``COUNTERS``) and value types."""
        for index, value in enumerate(counters):
            self.counters[index] += value
        for kind, figures in list(kinds.items()) if kinds else ():
            row = [
                figures.entries,
                figures.exact_bytes,
                figures.in_proxy,
                figures.resized_proxy,
                *figures.out_proxy,
                figures.n,
                figures.sum_x,
                figures.sum_y,
                figures.sum_xx,
                figures.sum_xy,
                figures.sum_yy,
            ]
            self._add_kind(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."), row)

    def merge(self, other: Totals) -> None:
        """Add what another thread, object or process saw."""
        for index, value in enumerate(other.counters):
            self.counters[index] += value
        for name, row in other.kinds.items():
            self._add_kind(name, row)

    def minus(self, earlier: Totals) -> Totals:
        """What happened since *earlier*; the value types' samples stay whole, for they only say how proxies count."""
        out = Totals()
        out.counters = [now - then for now, then in zip(self.counters, earlier.counters, strict=True)]
        for name, row in self.kinds.items():
            before = earlier.kinds.get(name, [0] * len(row))
            out.kinds[name] = [*(now - then for now, then in zip(row[:8], before[:8], strict=True)), *row[8:]]
        return out

    def copy(self) -> Totals:
        """An equal fold that goes its own way."""
        out = Totals()
        out.merge(self)
        return out

    def _add_kind(self, name: str, row: Sequence[int]) -> None:
        known = self.kinds.get(name)
        if known is None:
            if len(self.kinds) >= self.MOST_TYPES:
                name = "overflow"
                known = self.kinds.get(name)
            if known is None:
                self.kinds[name] = list(row)
                return
        for index, value in enumerate(row):
            known[index] += value

    def __getitem__(self, name: str) -> int:
        return self.counters[_INDEX[name]]

    # Results

    @property
    def entries(self) -> int:
        """Entries that came and have not left."""
        return self["sets"] - self["deletes"] - self["evictions"] - self["expirations"] - self["cleared"]

    def proxy_bytes(self, *columns: str) -> Estimate:
        """What the proxies in *columns* come to, over all value types."""
        size, variance = 0.0, 0.0
        for row in self.kinds.values():
            proxies = sum(row[_KIND_FIELDS.index(column)] for column in columns)
            if proxies:
                ratio, error = ratio_and_error(*row[8:14])
                size += proxies * ratio
                variance += (proxies * ratio * error) ** 2
        return Estimate(round(size), variance**0.5)

    def live(self) -> Estimate:
        """Bytes charged to what is in the cache: keys and values."""
        size, variance = float(self["live_bytes"]), 0.0
        for row in self.kinds.values():
            proxies = row[2] + row[3] - sum(row[4:8])
            if proxies:
                ratio, error = ratio_and_error(*row[8:14])
                size += proxies * ratio
                variance += (proxies * ratio * error) ** 2
        return Estimate(round(size), variance**0.5)

    def freed(self, *causes: str) -> Estimate:
        """Bytes that left for *causes* (deleted, evicted, expired, cleared); for all of them when none is given."""
        causes = causes or ("deleted", "evicted", "expired", "cleared")
        guess = self.proxy_bytes(*(f"{cause}_proxy" for cause in causes))
        return Estimate(sum(self[f"{cause}_bytes"] for cause in causes) + guess.size_bytes, guess.std_error)

    def resized(self) -> Estimate:
        """New minus old bytes of replacements."""
        guess = self.proxy_bytes("resized_proxy")
        return Estimate(self["resized_bytes"] + guess.size_bytes, guess.std_error)

    def value_types(self) -> tuple[ValueType, ...]:
        """The value types whose size is not a matter of course, largest first."""
        rows = []
        for name, row in self.kinds.items():
            if row[0] <= 0:
                continue
            ratio, error = ratio_and_error(*row[8:14])
            guessed = (row[2] + row[3] - sum(row[4:8])) * ratio
            rows.append(
                ValueType(
                    type_name=name,
                    entries=row[0],
                    live_bytes=round(row[1] + guessed),
                    live_bytes_std_error=guessed * error,
                    sized=row[8],
                )
            )
        return tuple(sorted(rows, key=lambda row: -row.live_bytes))

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types."""
        return {
            "counters": dict(zip(COUNTERS, self.counters, strict=True)),
            "kinds": {name: dict(zip(_KIND_FIELDS, row, strict=True)) for name, row in self.kinds.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, object]]) -> Totals:
        """The inverse of :meth:`to_dict`; counters that an older version did not have are 0."""
        out = cls()
        counters = data["counters"]
        out.counters = [as_whole(name, counters.get(name, 0), least=None) for name in COUNTERS]
        for name, row in data["kinds"].items():
            row = as_object(f"value type {name!r}", row)
            out.kinds[name] = [as_whole(f"{field} of {name}", row.get(field, 0), least=None) for field in _KIND_FIELDS]
        return out
