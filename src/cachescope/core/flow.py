"""What is followed of one cache name: sums by key pattern and call site, lives, and the buckets of time, in fixed memory.

A life begins when a followed key is set and ends when the entry leaves. It remembers which line set it, so that the
bytes come off the same place again. When there are too many, half of the followed keys are dropped and the rest counts
double (see :class:`~cachescope.core.analysis.hotspots.Hotspots`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import inf
from random import random
from time import monotonic, time
from typing import Any

from cachescope.core.analysis.activity import KEYS_IN_RING, Activity
from cachescope.core.analysis.hotspots import OLDER, Cell, Hotspots, Place
from cachescope.core.analysis.key_counts import UNPRUNED, KeyCounts
from cachescope.core.analysis.lives import Lives
from cachescope.core.analysis.recurrence import recurrence_of
from cachescope.core.batch import CLEARED
from cachescope.core.config import ProfilerConfig
from cachescope.core.patterns import KeyPatterns
from cachescope.core.sites import Sites
from cachescope.core.windows import Windows

# A working cell: [pattern id, site, allocations, bytes, variance, live n, live bytes, live squares, hits, misses, first, last,
# churned bytes, and the allocations, bytes and churned bytes that closed buckets have].
# Live figures are of followed lives, unscaled; the others are scaled as they come.
PATTERN, SITE, ALLOCATIONS, BYTES, VARIANCE, LIVE_N, LIVE_BYTES, LIVE_SQUARES, HITS, MISSES, FIRST, LAST = range(12)
CHURNED, TOLD_ALLOCATIONS, TOLD_BYTES, TOLD_CHURNED = range(12, 16)
_MOST_CELLS = 8_192
COARSE = 3
"""Once a cache is so busy that only some entries are followed, distributions and hot keys take one in four events of these."""
Life = tuple[list[Any], int, float]
"""(the cell that it counts in, bytes, when it began by ``time.monotonic()``)."""
RecentEvent = tuple[float, int, int, int, int, int, Any]
"""(seconds, kind, pattern id, bytes, thread, site, raw key or None)."""


class Flow:
    """What is followed of one cache name.

    Args:
        patterns: Its key patterns.
        config: The profiler's settings.

    Attributes:
        windows: Everything that is told by bucket of time.
        watched_since: Since when every read of followed entries has been seen, by ``time.monotonic()``; inf while not.
    """

    __slots__ = (
        "_closed_bytes",
        "_config",
        "_drained_before",
        "_key_marks",
        "_measured_at",
        "_open_bytes",
        "cells",
        "drained",
        "keys",
        "lives",
        "older",
        "patterns",
        "recent",
        "scale",
        "watched_since",
        "windows",
    )

    def __init__(self, patterns: KeyPatterns, config: ProfilerConfig) -> None:
        self.patterns = patterns
        self._config = config
        self.recent: deque[RecentEvent] = deque(maxlen=config.recent_events)
        self.cells: dict[tuple[int, int], list[Any]] = {}
        self.lives: dict[int, dict[int, Life]] = {}
        self.older = Cell()
        self.keys = KeyCounts(config.hot_keys)
        self._key_marks = self.keys.marks()
        self.watched_since = inf
        self._drained_before = self._closed_bytes = self._open_bytes = 0
        self._measured_at = -1
        self.windows = self._new_windows()
        self.scale = 1.0
        self.drained = 0

    def _new_windows(self) -> Windows[Activity]:
        seconds = self._config.retention_minutes * 60.0
        return Windows(lambda: Activity(UNPRUNED), monotonic(), retention_seconds=seconds)

    @property
    def lives_count(self) -> int:
        """How many lives are followed now."""
        return sum(map(len, self.lives.values()))

    def memory_bytes(self) -> int:
        """An estimate of the memory that this takes. It is asked often, and of quiet caches mostly."""
        if self._measured_at != self.drained:
            self._measured_at = self.drained
            self._open_bytes = self.keys.memory_bytes() + self.windows.open.memory_bytes()
        return 410 * self.lives_count + 500 * len(self.cells) + self._open_bytes + self._closed_bytes

    def changed(self) -> bool:
        """Whether anything was followed or timed since the last bucket was closed."""
        return self.drained != self._drained_before or bool(self.windows.open.latencies.kinds)

    def cell(self, pattern: int, site: int, now: float) -> list[Any]:
        """The working cell of a place."""
        cell = self.cells.get((pattern, site))
        if cell is None:
            if len(self.cells) >= _MOST_CELLS:
                pattern, site = 0, 1
                cell = self.cells.get((pattern, site))
            if cell is None:
                cell = self.cells[(pattern, site)] = [
                    *(pattern, site, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, now, now),
                    *(0.0, 0.0, 0.0, 0.0),
                ]
        return cell

    def end(self, serial: int, at: float, reads: Mapping[int, float], cause: int = CLEARED) -> None:
        """All lives of one cache object end.

        Args:
            serial: The object's state.
            at: When, by ``time.monotonic()``.
            reads: When followed entries were last read, by key hash, as far as that was watched.
            cause: Why; a constant of :mod:`cachescope.core.batch`.
        """
        now, scale = time(), self.scale
        for key_hash, life in self.lives.pop(serial, {}).items():
            cell, size, _ = life
            cell[LIVE_N] -= 1
            cell[LIVE_BYTES] -= size
            cell[LIVE_SQUARES] -= size * size
            cell[CHURNED] += size * scale
            cell[LAST] = now
            self.life_ended(life, cause, at, reads.get(key_hash, 0.0))

    def life_ended(self, life: Life, cause: int, at: float, read: float) -> None:
        """Tell the folds of an entry that left, last read at *read* as far as that was watched."""
        _, size, born = life
        lives, scale = self.windows.open.lives, self.scale
        if scale == 1.0:
            lives.ended(cause, at - born, 1.0)
        elif not self.drained & COARSE:
            lives.ended(cause, at - born, scale * (COARSE + 1))
        watched = self.watched_since
        if watched < at:
            since = max(born, watched)
            lives.held(size * scale, since, read, at)
            if born >= watched:
                lives.lived(size, read >= born, scale)  # one from before is of a former entry of that key

    def value_ended(self, life: Life, at: float, read: float) -> None:
        """Tell the folds of a value that was replaced by another."""
        _, size, born = life
        if self.watched_since < at:
            self.windows.open.lives.held(size * self.scale, max(born, self.watched_since), read, at)

    # Watching reads

    def watch(self, now: float) -> None:
        """From now on every read of followed entries is seen."""
        self.watched_since = now

    def unwatch(self, now: float, reads_by_serial: Mapping[int, Mapping[int, float]]) -> None:
        """Not any more: what is still held is left open."""
        since, self.watched_since = self.watched_since, inf
        folded = self.windows.open.lives
        folded.watched_seconds += max(0.0, now - since)
        for serial, lives in self.lives.items():
            reads = reads_by_serial.get(serial, {})
            for key_hash, (_, size, born) in lives.items():
                folded.left_open(size * self.scale, max(born, since), reads.get(key_hash, 0.0), now)

    def use_so_far(self, now: float, reads_by_serial: Mapping[int, Mapping[int, float]]) -> Lives:
        """What can be said at this moment of the entries that are held: what lies behind their last read is of no use yet."""
        out = Lives()
        since = self.watched_since
        if since < now:
            out.watched_seconds = now - since
            for serial, lives in list(self.lives.items()):
                reads = reads_by_serial.get(serial, {})
                for key_hash, (_, size, born) in list(lives.items()):
                    out.held(size * self.scale, max(born, since), reads.get(key_hash, 0.0), now)
        return out

    # Buckets

    def close_bucket(self, now: float) -> None:
        """Give the open bucket what its time added to each cell, and open another."""
        add = self.windows.open.add_spot
        for place, cell in self.cells.items():
            if cell[ALLOCATIONS] != cell[TOLD_ALLOCATIONS] or cell[CHURNED] != cell[TOLD_CHURNED]:
                add(place, _untold(cell))
                cell[TOLD_ALLOCATIONS], cell[TOLD_BYTES], cell[TOLD_CHURNED] = (
                    cell[ALLOCATIONS],
                    cell[BYTES],
                    cell[CHURNED],
                )
        self.windows.close(now)
        self.windows.closed[-1].fold.keys = self.keys_since_bucket()
        self._key_marks = self.keys.marks()
        self._drained_before = self.drained
        self._measure_closed()

    def shorten(self, now: float) -> bool:
        """Keep half as many buckets from now on; whether there is anything left to halve."""
        halved = self.windows.shorten(now)
        if halved:
            self._measure_closed()
        return halved

    def _measure_closed(self) -> None:
        folds = [self.windows.whole, *(bucket.fold for bucket in self.windows.closed)]
        self._closed_bytes = sum(fold.memory_bytes() for fold in folds)
        self._measured_at = -1

    def keys_since_bucket(self) -> KeyCounts:
        """The keys used most since the last bucket was closed."""
        return self.keys.grown_since(self._key_marks, KEYS_IN_RING)

    def spots_since(self, then: float) -> tuple[dict[tuple[int, int], list[float]], float]:
        """``(what each cell took up and gave back since a moment, when that begins in fact)``."""
        activity, begins = self.windows.since(then)
        for place, cell in list(self.cells.items()):
            activity.add_spot(place, _untold(cell))
        return activity.spots, begins

    def recurrences(self) -> dict[tuple[int, int], str]:
        """Whether each cell's allocations come again and again, or came once; where there is enough to say."""
        buckets = [(bucket.start, bucket.end) for bucket in self.windows.closed]
        counts: dict[tuple[int, int], list[float]] = {}
        for column, bucket in enumerate(self.windows.closed):
            for place, row in bucket.fold.spots.items():
                counts.setdefault(place, [0.0] * len(buckets))[column] = row[0]
        found = {place: recurrence_of(buckets, row) for place, row in counts.items()}
        return {place: word for place, word in found.items() if word is not None}

    def forget_old(self, before: float) -> None:
        """Join cells of which nothing is held and nothing was seen since a moment, in seconds since the epoch, to one."""
        for place, cell in list(self.cells.items()):
            if not cell[LIVE_N] and cell[LAST] < before:
                del self.cells[place]
                self.older.add(_as_cell(cell, self.scale))

    def move(self, serial: int, other: Flow) -> None:
        """One cache object's lives go on under another name."""
        lives = self.lives.pop(serial, {})
        moved = other.lives.setdefault(serial, {})
        for key_hash, (cell, size, born) in lives.items():
            cell[LIVE_N] -= 1
            cell[LIVE_BYTES] -= size
            cell[LIVE_SQUARES] -= size * size
            cell[ALLOCATIONS] -= self.scale
            cell[BYTES] -= size * self.scale
            cell[TOLD_ALLOCATIONS] = min(cell[TOLD_ALLOCATIONS], cell[ALLOCATIONS])
            cell[TOLD_BYTES] = min(cell[TOLD_BYTES], cell[BYTES])
            pattern = other.patterns.id_of(self.patterns.text(self.patterns.resolve(cell[PATTERN])))
            there = other.cell(pattern, cell[SITE], cell[LAST])
            there[ALLOCATIONS] += other.scale
            there[BYTES] += size * other.scale
            there[LIVE_N] += 1
            there[LIVE_BYTES] += size
            there[LIVE_SQUARES] += size * size
            moved[key_hash] = (there, size, born)

    def thin(self, share: float) -> None:
        """New entries are followed with probability *share* from now on; :meth:`drop` says which old ones go."""
        self.scale = 1.0 / share
        for cell in self.cells.values():
            cell[LIVE_N] = cell[LIVE_BYTES] = cell[LIVE_SQUARES] = 0

    def drop(self, serial: int, factor: float) -> set[int]:
        """Keep each of one object's lives with probability *factor*; gives the key hashes of the others.

        Drawn, not taken from a hash of key and turn: those of following turns depend on one another.
        """
        lives = self.lives.get(serial, {})
        kept = {key_hash: life for key_hash, life in lives.items() if random() < factor}
        self.lives[serial] = kept
        for cell, size, _ in kept.values():
            cell[LIVE_N] += 1
            cell[LIVE_BYTES] += size
            cell[LIVE_SQUARES] += size * size
        return lives.keys() - kept.keys()

    def forget_flows(self) -> None:
        """Start what flowed at 0, and keep what is held (after a fork)."""
        self.recent.clear()
        self.drained = self._drained_before = self._closed_bytes = 0
        self._measured_at = -1
        self.older = Cell()
        self.keys = KeyCounts(self._config.hot_keys)
        self._key_marks = self.keys.marks()
        self.windows = self._new_windows()
        if self.watched_since != inf:
            self.watched_since = monotonic()  # what was seen before is in the parent's figures
        self.cells = {place: cell for place, cell in self.cells.items() if cell[LIVE_N]}
        for cell in self.cells.values():
            cell[ALLOCATIONS] = cell[BYTES] = cell[VARIANCE] = cell[CHURNED] = 0.0
            cell[TOLD_ALLOCATIONS] = cell[TOLD_BYTES] = cell[TOLD_CHURNED] = 0.0
            cell[HITS] = cell[MISSES] = 0

    def hotspots(self, sites: Sites | None, spots: Mapping[tuple[int, int], list[float]] | None = None) -> Hotspots:
        """The fold of what was followed so far.

        Args:
            sites: The process's call sites.
            spots: What to count as allocated, instead of all that ever was: see :meth:`spots_since`.
        """
        out = Hotspots()
        for place, row in list(self.cells.items()):
            cell = _as_cell(row, self.scale)
            if spots is not None:
                told = spots.get(place, (0.0, 0.0, 0.0))
                cell.allocations, cell.allocated_bytes, cell.churned_bytes = told
                cell.allocated_variance = 0.0
            out.update([(self.place_of(row[PATTERN], row[SITE], sites), cell)])
        if self.older.allocations and spots is None:
            out.update([((OLDER, OLDER, OLDER), self.older)])
        return out

    def place_of(self, pattern: int, number: int, sites: Sites | None) -> Place:
        """A cell's pattern, call site, and where its values were built, in words."""
        text = self.patterns.text(self.patterns.resolve(pattern))
        site = sites.known.get(number) if sites is not None and number else None
        return (text, "", "") if site is None else (text, site.text, site.built_at)


def _untold(cell: list[Any]) -> list[float]:
    return [
        cell[ALLOCATIONS] - cell[TOLD_ALLOCATIONS],
        cell[BYTES] - cell[TOLD_BYTES],
        cell[CHURNED] - cell[TOLD_CHURNED],
    ]


def _as_cell(row: list[Any], scale: float) -> Cell:
    return Cell(
        allocations=row[ALLOCATIONS],
        allocated_bytes=row[BYTES],
        allocated_variance=row[VARIANCE],
        live_entries=row[LIVE_N] * scale,
        live_bytes=row[LIVE_BYTES] * scale,
        live_variance=row[LIVE_SQUARES] * (scale * scale - scale),
        hits=row[HITS],
        misses=row[MISSES],
        first_seen=row[FIRST],
        last_seen=row[LAST],
        churned_bytes=row[CHURNED],
    )
