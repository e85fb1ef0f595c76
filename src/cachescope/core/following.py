"""Followed lives: from what hooks saw of a key to sums by key pattern and call site, in fixed memory.

A life begins when a followed key is set and ends when the entry leaves. It remembers which line set it, so that the
bytes come off the same place again. When there are too many, half of the followed keys are dropped and the rest counts
double (see :class:`~cachescope.core.analysis.hotspots.Hotspots`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core.analysis.hotspots import Cell, Hotspots
from cachescope.core.patterns import KeyPatterns
from cachescope.core.sites import Sites

if TYPE_CHECKING:
    from cachescope.core.record import CacheRecord

# A working cell: [pattern id, site, allocations, bytes, variance, live n, live bytes, live squares, hits, misses, first, last].
# Live figures are of followed lives, unscaled; the others are scaled as they come.
PATTERN, SITE, ALLOCATIONS, BYTES, VARIANCE, LIVE_N, LIVE_BYTES, LIVE_SQUARES, HITS, MISSES, FIRST, LAST = range(12)
_MOST_CELLS = 8_192
_RECENT_PER_DRAIN = 512
RecentEvent = tuple[float, int, int, int, int, int, Any]
"""(seconds, kind, pattern id, bytes, thread, site, raw key or None)."""


class Flow:
    """What is followed of one cache name.

    Args:
        patterns: Its key patterns.
        recent_events: Newest events kept.
    """

    __slots__ = ("cells", "drained", "lives", "patterns", "recent", "scale", "thinned")

    def __init__(self, patterns: KeyPatterns, recent_events: int) -> None:
        self.patterns = patterns
        self.recent: deque[RecentEvent] = deque(maxlen=recent_events)
        self.cells: dict[tuple[int, int], list[Any]] = {}
        self.lives: dict[int, dict[int, tuple[list[Any], int]]] = {}
        self.scale = 1.0
        self.drained = 0
        self.thinned = 0

    @property
    def lives_count(self) -> int:
        """How many lives are followed now."""
        return sum(map(len, self.lives.values()))

    def cell(self, pattern: int, site: int, now: float) -> list[Any]:
        """The working cell of a place."""
        cell = self.cells.get((pattern, site))
        if cell is None:
            if len(self.cells) >= _MOST_CELLS:
                pattern, site = 0, 1
                cell = self.cells.get((pattern, site))
            if cell is None:
                cell = self.cells[(pattern, site)] = [pattern, site, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, now, now]
        return cell

    def end(self, serial: int) -> None:
        """All lives of one cache object end."""
        lives = self.lives.pop(serial, None)
        for cell, size in lives.values() if lives else ():
            cell[LIVE_N] -= 1
            cell[LIVE_BYTES] -= size
            cell[LIVE_SQUARES] -= size * size

    def move(self, serial: int, other: Flow) -> None:
        """One cache object's lives go on under another name."""
        lives = dict(self.lives.get(serial, {}))
        self.end(serial)
        moved = other.lives.setdefault(serial, {})
        for key_hash, (cell, size) in lives.items():
            pattern = other.patterns.id_of(self.patterns.text(self.patterns.resolve(cell[PATTERN])))
            there = other.cell(pattern, cell[SITE], cell[LAST])
            there[ALLOCATIONS] += 1
            there[BYTES] += size
            there[LIVE_N] += 1
            there[LIVE_BYTES] += size
            there[LIVE_SQUARES] += size * size
            moved[key_hash] = (there, size)

    def thin(self, share: float) -> None:
        """New entries are followed with probability *share* from now on; :meth:`keep` says which old ones stay."""
        self.scale = 1.0 / share
        self.thinned += 1
        for cell in self.cells.values():
            cell[LIVE_N] = cell[LIVE_BYTES] = cell[LIVE_SQUARES] = 0

    def keep(self, serial: int, factor: float) -> set[int]:
        """Keep *factor* of one object's lives, chosen by a hash of their own; gives the key hashes of those kept."""
        lives = self.lives.get(serial, {})
        below = int(factor * (1 << 32))
        salt = self.thinned
        kept = {h: life for h, life in lives.items() if hash((h, salt)) & 0xFFFFFFFF < below}
        self.lives[serial] = kept
        for cell, size in kept.values():
            cell[LIVE_N] += 1
            cell[LIVE_BYTES] += size
            cell[LIVE_SQUARES] += size * size
        return set(kept)

    def forget_flows(self) -> None:
        """Start what flowed at 0, and keep what is held (after a fork)."""
        self.recent.clear()
        self.drained = 0
        for cell in self.cells.values():
            cell[ALLOCATIONS] = cell[BYTES] = cell[VARIANCE] = 0.0
            cell[HITS] = cell[MISSES] = 0

    def hotspots(self, sites: Sites | None) -> Hotspots:
        """The fold of what was followed so far."""
        scale = self.scale
        out = Hotspots()
        text, resolve = self.patterns.text, self.patterns.resolve
        for row in list(self.cells.values()):
            site = sites.known.get(row[SITE]) if sites is not None and row[SITE] else None
            cell = Cell(
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
            )
            out.update([((text(resolve(row[PATTERN])), site.text if site is not None else ""), cell)])
        return out


def drain(events: list[b.Event], records: dict[int, CacheRecord], now: float, raw_keys: bool = False) -> None:
    """Follow *events* in their order.

    Args:
        events: What hooks saw.
        records: The cache of each state, by serial.
        now: Seconds since the epoch.
        raw_keys: Keep keys themselves in recent events.
    """
    _follow(events, records, now)
    for kind, serial, key_hash, key, size, site, thread in events[-_RECENT_PER_DRAIN:]:
        record = records.get(serial)
        if record is None or kind in (b.READ_HIT, b.READ_MISS, b.DIED):
            continue
        whole = kind == b.CLEARED and key is None and key_hash == 0
        pattern = -1 if whole or key is None else record.flow.patterns.id_of(key)
        record.flow.recent.append((now, kind, pattern, size, thread, site, key if raw_keys else None))


def _follow(events: Iterable[b.Event], records: dict[int, CacheRecord], now: float) -> None:
    last, scale = -1, 1.0
    flow: Flow
    cells: dict[tuple[int, int], list[Any]] = {}
    lives: dict[int, tuple[list[Any], int]] = {}
    id_of: Any = None
    for kind, serial, key_hash, key, size, site, _ in events:
        if serial != last:
            record = records.get(serial)
            if record is None:
                continue
            last = serial
            flow = record.flow
            cells, scale = flow.cells, flow.scale
            id_of = flow.patterns.id_of
            lives = flow.lives.setdefault(serial, {})
        flow.drained += 1
        if kind < 4:  # it left; the constants of core.batch, inlined here: this loop is most of our thread's time
            if key_hash == 0 and key is None and kind == 3:
                flow.end(serial)
                last = -1
                continue
            life = lives.pop(key_hash, None)
            if life is not None:
                cell, size = life
                cell[5] -= 1
                cell[6] -= size
                cell[7] -= size * size
                cell[11] = now
            continue
        if kind == 8:
            flow.end(serial)
            records.pop(serial, None)
            last = -1
            continue
        pattern = id_of(key)
        cell = cells.get((pattern, site)) or flow.cell(pattern, site, now)
        cell[11] = now
        if kind > 5:
            cell[8 if kind == 6 else 9] += 1
            continue
        cell[2] += scale
        cell[3] += size * scale
        if scale != 1.0:
            cell[4] += size * size * (scale * scale - scale)
        if kind == 5:
            life = lives.get(key_hash)
            if life is not None:
                was, old = life
                was[5] -= 1
                was[6] -= old
                was[7] -= old * old
        lives[key_hash] = (cell, size)
        cell[5] += 1
        cell[6] += size
        cell[7] += size * size
