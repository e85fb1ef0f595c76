"""Did memory run short? Events of pressure, gathered by the limit that was neared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.text import Text

from cachescope.core.results import MemoryAllocation
from cachescope.report import figures
from cachescope.report.table import Column, Table
from cachescope.report.view import View

CACHE = "cache"
_SEVERITY = {"normal": 0, "high": 1, "critical": 2}
_WORDS = {"process": "the process", "container": "the container", "system": "the machine"}


@dataclass(slots=True, kw_only=True)
class Shortage:
    """How often, how badly and when one limit was neared."""

    scope: str
    """``process container system cache``."""
    cache_name: str
    """The cache whose budget it is; empty for other scopes."""
    first_seen: float
    last_seen: float
    times: int = 0
    """How often it rose from normal; a reminder that it is still high is no further time."""
    critical: int = 0
    """How often it rose to critical."""
    now: str = "normal"
    used_bytes: float | None = None
    """The most that was used, as a share of the limit then in force."""
    limit_bytes: float | None = None

    def _add(self, event: MemoryAllocation) -> None:
        given = event.metadata or {}
        level = str(given.get("level", ""))
        if level not in _SEVERITY:
            return
        before, after = _SEVERITY[self.now], _SEVERITY[level]
        self.times += before == 0 and after > 0
        self.critical += before < 2 and after == 2
        self.now = level
        if after:
            self.last_seen = event.timestamp
        used, limit = _number(given.get("used_bytes")), _number(given.get("limit_bytes"))
        used = float(event.size_bytes) if used is None else used
        if (figures.per(used, limit) or 0.0) >= (figures.per(self.used_bytes, self.limit_bytes) or 0.0):
            self.used_bytes, self.limit_bytes = used, limit

    @property
    def name(self) -> str:
        """What was short of memory, in words."""
        return self.cache_name if self.scope == CACHE else _WORDS.get(self.scope, self.scope)


def shortages(events: Iterable[MemoryAllocation]) -> list[Shortage]:
    """One row for each limit that was neared: the worst first, and the newest first among equals."""
    found: dict[tuple[str, str], Shortage] = {}
    for event in sorted(events, key=lambda one: one.timestamp):
        scope = str((event.metadata or {}).get("scope", ""))
        name = event.cache_name if scope == CACHE else ""
        row = found.get((scope, name))
        if row is None:
            row = Shortage(scope=scope, cache_name=name, first_seen=event.timestamp, last_seen=event.timestamp)
            found[scope, name] = row
        row._add(event)
    rows = [dataclasses.replace(row) for row in found.values() if row.times]
    return sorted(rows, key=lambda row: (not row.critical, -row.last_seen))


def of_cache(events: Iterable[MemoryAllocation], name: str) -> tuple[MemoryAllocation, ...]:
    """The events about one cache's own budget."""
    return tuple(event for event in events if (event.metadata or {}).get("scope") == CACHE and event.cache_name == name)


def ran_short(view: View, events: tuple[MemoryAllocation, ...]) -> Iterator[Text]:
    """Did memory run short? A row for each limit that was neared."""
    rows = shortages(events)
    if not rows:
        return
    yield from view.heading("Did memory run short?")
    critical = [figures.count(row.critical) if row.critical else "" for row in rows]
    most = [_most(row) for row in rows]
    table = Table(
        names=Column(heading="Limit of", cells=[_label(view, row) for row in rows], left=True),
        columns=[
            Column(
                heading="Now",
                cells=[row.now for row in rows],
                left=True,
                styles=["" if row.now == "normal" else "red" for row in rows],
            ),
            view.counted("Times", [row.times for row in rows], 2, "time"),
            view.figure("Critical", critical, 1, "{} critical"),
            view.figure("Most used", most, 3, "most used {}"),
            view.figure("Last before end", [_ago(view, row.last_seen) for row in rows], 4, "last {} before the end"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)


def used_of_limit(row: Shortage) -> str:
    """The most that was used, in bytes and as a share of the limit: ``498 MiB of 512 MiB (97 %)``."""
    part = figures.share(figures.per(row.used_bytes, row.limit_bytes))
    return f"{figures.byte_size(row.used_bytes)} of {figures.byte_size(row.limit_bytes)} ({part})"


def _most(row: Shortage) -> str:
    return used_of_limit(row) if figures.per(row.used_bytes, row.limit_bytes) is not None else ""


def _label(view: View, row: Shortage) -> str:
    return view.name(row.name)


def _ago(view: View, moment: float) -> str:
    return figures.duration(max(view.report.end_time - moment, 0.0))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
