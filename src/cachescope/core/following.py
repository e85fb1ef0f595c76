"""Following events: each goes to its cell, its life and the folds of the open bucket, in the order in which it came.

This loop is most of what our thread does: it is written for speed, with the constants of :mod:`cachescope.core.batch` and
the columns of :mod:`cachescope.core.flow` inlined.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core import tasks
from cachescope.core.analysis.key_counts import label_of
from cachescope.core.filters import Filters
from cachescope.core.flow import COARSE, Flow, Life
from cachescope.core.recent import kept, recent_rows

if TYPE_CHECKING:
    from cachescope.core.record import CacheRecord

_RECENT_PER_DRAIN = 64
_SIZED_KEYS = frozenset((str, bytes, int))


def drain(
    events: list[b.Event], records: dict[int, CacheRecord], now: float, filters: Filters, raw_keys: bool = False
) -> list[int]:
    """Follow *events* in their order.

    Args:
        events: What hooks saw.
        records: The cache of each state, by serial.
        now: Seconds since the epoch.
        filters: What is to be left out of all but the exact counters.
        raw_keys: Keep keys themselves in recent events.

    Returns:
        The number of each event's key pattern; -1 where it has none.
    """
    patterns = _follow(events, records, now, filters)
    for record, row in recent_rows(events, patterns, records, now, filters, raw_keys, _RECENT_PER_DRAIN):
        record.flow.recent.append(row)
    return patterns


def _follow(events: Iterable[b.Event], records: dict[int, CacheRecord], now: float, filters: Filters) -> list[int]:
    patterns: list[int] = []
    seen = patterns.append
    last, scale = -1, 1.0
    flow: Flow
    cells: dict[tuple[int, int], list[Any]] = {}
    lives: dict[int, Life] = {}
    id_of: Any = None
    folds: Any = None
    names = _thread_names()
    choosy = not filters.everything
    for kind, serial, key_hash, key, size, site, thread, at, more in events:
        if serial != last:
            record = records.get(serial)
            if record is None:
                seen(-1)
                continue
            last = serial
            flow = record.flow
            folds = flow.windows.open
            cells, scale = flow.cells, flow.scale
            id_of = flow.patterns.id_of
            lives = flow.lives.setdefault(serial, {})
        flow.drained += 1
        if kind < 4:  # it left
            if kind == 3 and type(more) is dict:  # all of them
                flow.end(serial, at, more)
                last = -1
                seen(-1)
                continue
            life = lives.pop(key_hash, None)
            if life is None:
                seen(-1)
            else:
                cell, size, _ = life
                seen(cell[0])
                cell[5] -= 1
                cell[6] -= size
                cell[7] -= size * size
                cell[11] = now
                cell[12] += size * scale
                flow.life_ended(life, kind, at, more)
            continue
        if kind == 8:
            flow.end(serial, at, more)
            records.pop(serial, None)
            last = -1
            seen(-1)
            continue
        pattern = id_of(key)
        seen(pattern)
        if choosy and not kept(filters, flow, pattern, size if kind < 6 else None):
            if kind == 5:  # by one that is too small to be told apart
                _forget_replaced(flow, lives, key_hash, at, more)
            continue
        cell = cells.get((pattern, site)) or flow.cell(pattern, site, now)
        cell[11] = now
        if kind > 5:
            hit = kind == 6
            cell[8 if hit else 9] += 1
            counts = flow.keys.reads
            label = None if key_hash in counts.entries else label_of(key, pattern)
            counts.update(key_hash, 1.0, 0.0, hit, not hit, label)
            continue
        added = size * scale
        cell[2] += scale
        cell[3] += added
        if scale != 1.0:
            cell[4] += size * size * (scale * scale - scale)
        if scale == 1.0 or not flow.drained & COARSE:  # a sample of the sample will do: each stands for more then
            weight = scale if scale == 1.0 else scale * (COARSE + 1)
            folds.lives.began(size, key.__sizeof__() if type(key) in _SIZED_KEYS else 0, weight)
            counts, label = flow.keys.sets, None
            if key_hash not in counts.entries:
                label = label_of(key, pattern)
            counts.update(key_hash, weight, size * weight, 0, 0, label)
            folds.threads.update(names.get(thread, "(ended)"), weight, size * weight)
            if kind == 4 and more:
                folds.tasks.update(tasks.label(more), weight, size * weight)
        if key_hash in lives:  # replaced; or two keys have one hash, as -1 and -2: the later one is followed
            _forget_replaced(flow, lives, key_hash, at, more if kind == 5 else 0.0)
        lives[key_hash] = (cell, size, at)
        cell[5] += 1
        cell[6] += size
        cell[7] += size * size
    return patterns


def _forget_replaced(flow: Flow, lives: dict[int, Life], key_hash: int, at: float, read: float) -> None:
    """End the life of a value that was replaced by another."""
    life = lives.pop(key_hash, None)
    if life is not None:
        cell, size, _ = life
        cell[5] -= 1
        cell[6] -= size
        cell[7] -= size * size
        cell[12] += size * flow.scale
        flow.value_ended(life, at, read)


def follow_timings(timings: Iterable[b.Timing], records: Mapping[int, CacheRecord]) -> None:
    """Give timed operations to the open buckets."""
    for serial, what, took_ns in timings:
        record = records.get(serial)
        if record is not None:
            record.flow.windows.open.latencies.update(((what, took_ns),))


def _thread_names() -> dict[int, str]:
    return {thread.ident: thread.name for thread in threading.enumerate() if thread.ident is not None}
