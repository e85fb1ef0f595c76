"""The course of a process's memory: snapshots, thinned so that a fixed number of them covers any length of time."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Sequence

from cachescope.core.results import CacheUse, GcGeneration, MemorySnapshot

OTHERS = "(others)"
"""The row that sums the caches beyond *MOST_CACHES* of a snapshot."""
MOST_CACHES = 256
"""Caches kept one by one in a snapshot, the largest ones."""

_LATE_SECONDS = 1.0  # two threads may hand in their snapshots in the wrong order; more than that is a clock set back
_FARTHEST_SECONDS = 1e11  # about 3,000 years either way: beyond, floats no longer tell milliseconds apart
_FIELDS = tuple(field.name for field in dataclasses.fields(MemorySnapshot))
_USE_FIELDS = tuple(field.name for field in dataclasses.fields(CacheUse))
_GC_FIELDS = tuple(field.name for field in dataclasses.fields(GcGeneration))


class SnapshotHistory:
    """Keep at most *most* snapshots of a course of any length: dense near now, sparser with age, never cut off.

    The first and the last are always kept. When there is one too many, that one goes whose removal leaves the gap
    which is smallest against its age. So for every gap between two neighbours in which something was left out,

        gap <= (1 - R ** (-1 / p)) * age,    p = (most - 1) // 2,

    where *age* is that of the gap's older end, and R is the length of the course divided by the shortest time between
    two snapshots that came. (The ages of the kept ones fall by no more than the factor R from first to last but one,
    over p disjoint candidates for removal; so the best of them spans no more than the p-th root of it. A gap's share of
    its age only falls as time goes on.) For a week of snapshots every 10 s, gaps are at most 17 % of their age with 120
    kept, and 6 % with 360.

    A clock that is set back by more than a second moves what was kept back with it, as if the step before had been
    followed by one of equal length: order and distances stay. Of several snapshots of one instant, the newest counts.

    Memory: O(most) snapshots of at most 257 cache rows, 4 KB each for 20 busy caches and 50 KB at worst; a cache that
    did not change shares its row with the snapshot before. Readers in other threads see whole states, without a lock;
    of two snapshots that are added at the very same time, one may be lost.

    Args:
        most: How many to keep, at least 3.

    Attributes:
        refused: Snapshots whose time is no time.
    """

    __slots__ = ("_kept", "most", "refused")

    def __init__(self, most: int = 360) -> None:
        if most < 3:
            raise ValueError(f"most: {most} is not allowed; expected at least 3, for a first, a last and one between")
        self.most = most
        self.refused = 0
        self._kept: list[MemorySnapshot] = []  # replaced as a whole, never changed: readers hold the former one

    def add(self, snapshot: MemorySnapshot) -> None:
        """Keep a snapshot; O(most) time."""
        at = snapshot.timestamp
        if not -_FARTHEST_SECONDS < at < _FARTHEST_SECONDS:  # a NaN is neither
            self.refused += 1
            return
        kept = list(self._kept)
        if kept and at < kept[-1].timestamp - _LATE_SECONDS:
            kept = _moved_before(kept, at)
        snapshot = _compact(snapshot, kept[-1] if kept else None)
        place = bisect_left(kept, at, key=_timestamp)
        if place < len(kept) and kept[place].timestamp == at:
            kept[place] = snapshot
        else:
            kept.insert(place, snapshot)
        self._kept = _thinned(kept, self.most)

    def __len__(self) -> int:
        return len(self._kept)

    def all(self) -> tuple[MemorySnapshot, ...]:
        """All that are kept, oldest first."""
        return tuple(self._kept)

    def since(self, timestamp: float) -> tuple[MemorySnapshot, ...]:
        """Those at *timestamp* or later, oldest first."""
        kept = self._kept
        return tuple(kept[bisect_left(kept, timestamp, key=_timestamp) :])

    def nearest(self, timestamp: float) -> MemorySnapshot | None:
        """The one closest to *timestamp*, the earlier of two; None when there is none."""
        kept = self._kept
        place = bisect_left(kept, timestamp, key=_timestamp)
        return min(kept[max(0, place - 1) : place + 1], key=lambda one: abs(one.timestamp - timestamp), default=None)

    @property
    def latest(self) -> MemorySnapshot | None:
        """The newest; None when there is none."""
        kept = self._kept
        return kept[-1] if kept else None

    # Series

    def series(self, cache_name: str | None = None) -> list[tuple[float, int]]:
        """(timestamp, bytes) of one cache, or of the process's resident memory for None.

        A snapshot that doesn't tell is left out, rather than counted as 0: an unknown RSS, a cache that was not there
        or was one of the ``(others)``.
        """
        if cache_name is None:
            return [(one.timestamp, one.rss_bytes) for one in self._kept if one.rss_bytes is not None]
        return self._of_cache(cache_name, lambda use: use.size_bytes)

    def entries_series(self, cache_name: str) -> list[tuple[float, int]]:
        """(timestamp, entries) of one cache; a snapshot that doesn't tell is left out."""
        return self._of_cache(cache_name, lambda use: use.entries)

    def _of_cache(self, name: str, figure: Callable[[CacheUse], int]) -> list[tuple[float, int]]:
        return [(one.timestamp, figure(use)) for one in self._kept for use in one.caches if use.cache_name == name]

    # Captures

    def to_list(self, most: int | None = None) -> list[dict[str, object]]:
        """The snapshots as JSON types, oldest first; thinned by the same law to *most* when given.

        A row is the snapshot's ``to_dict()``, but with caches and generations as lists of their figures: a capture is
        written every few seconds, and names of fields would be most of it.
        """
        kept = self._kept if most is None else _thinned(list(self._kept), max(most, 3))
        return [_row(one) for one in kept]

    @classmethod
    def from_list(cls, data: object, most: int = 360) -> SnapshotHistory:
        """The inverse of :meth:`to_list`.

        Raises:
            ValueError: *data* is not what :meth:`to_list` gives; the message names the snapshot and the field.
        """
        if not isinstance(data, list):
            raise ValueError(f"snapshots: expected a list, found {data!r:.100}")
        out = cls(most)
        before = -_FARTHEST_SECONDS
        for number, row in enumerate(data):
            try:
                snapshot = MemorySnapshot.from_dict(_unrowed(row))
            except ValueError as error:
                raise ValueError(f"snapshot {number}: {error}") from None
            if not before < snapshot.timestamp < _FARTHEST_SECONDS:
                raise ValueError(f"snapshot {number}: timestamp {snapshot.timestamp} is not after the one before")
            before = snapshot.timestamp
            out.add(snapshot)
        return out


def _timestamp(snapshot: MemorySnapshot) -> float:
    return snapshot.timestamp


def _thinned(kept: list[MemorySnapshot], most: int) -> list[MemorySnapshot]:
    """Remove from *kept*, in place, what the law of :class:`SnapshotHistory` can spare."""
    if len(kept) > most:
        newest = kept[-1].timestamp
        ages = [newest - one.timestamp for one in kept]
        while len(kept) > most:
            gone = _least_missed(ages)
            del ages[gone], kept[gone]
    return kept


def _least_missed(ages: Sequence[float]) -> int:
    """The index of the one whose removal leaves the smallest gap against the age of the gap's older end.

    Neither the first nor the newest two: the gap up to the newest is all of its age.
    """
    spans = [younger / older for older, younger in zip(ages, ages[2:-1], strict=False)]
    return spans.index(max(spans)) + 1


def _moved_before(kept: Sequence[MemorySnapshot], at: float) -> list[MemorySnapshot]:
    """The same course, ending before *at* on a clock that was set back."""
    step_seconds = max(kept[-1].timestamp - kept[-2].timestamp, 1.0) if len(kept) > 1 else 1.0
    by_seconds = kept[-1].timestamp + step_seconds - at
    out: list[MemorySnapshot] = []
    for one in kept:
        moved = dataclasses.replace(one, timestamp=one.timestamp - by_seconds)
        if out and moved.timestamp <= out[-1].timestamp:  # they were less apart than a float tells at this distance
            out.pop()
        out.append(moved)
    return out


def _compact(snapshot: MemorySnapshot, before: MemorySnapshot | None) -> MemorySnapshot:
    """The same with a bounded number of caches, and with the rows of *before* where they are equal."""
    caches = snapshot.caches
    named = [use for use in caches if use.cache_name != OTHERS]
    if len(named) > MOST_CACHES:
        named.sort(key=lambda use: (-use.size_bytes, use.cache_name))
        rest = [use for use in caches if use.cache_name == OTHERS] + named[MOST_CACHES:]
        others = CacheUse(
            cache_name=OTHERS,
            size_bytes=sum(use.size_bytes for use in rest),
            entries=sum(use.entries for use in rest),
        )
        caches = (*named[:MOST_CACHES], others)
    known = {use.cache_name: use for use in before.caches} if before is not None else {}
    shared = tuple(row if (row := known.get(use.cache_name)) == use else use for use in caches)
    return dataclasses.replace(snapshot, caches=shared)


def _row(snapshot: MemorySnapshot) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(snapshot, name) for name in _FIELDS}
    row["caches"] = [[use.cache_name, use.size_bytes, use.entries] for use in snapshot.caches]
    row["gc"] = [[one.pending, one.collections, one.collected, one.uncollectable] for one in snapshot.gc]
    row["notes"] = list(snapshot.notes)
    return row


def _unrowed(row: object) -> object:
    """A row of a capture in the form that MemorySnapshot reads; what doesn't fit is left for it to refuse."""
    if not isinstance(row, dict):
        return row
    out = dict(row)
    for name, fields in (("caches", _USE_FIELDS), ("gc", _GC_FIELDS)):
        figures = row.get(name)
        if isinstance(figures, list):
            out[name] = [
                dict(zip(fields, one, strict=True)) if isinstance(one, list) and len(one) == len(fields) else one
                for one in figures
            ]
    return out
