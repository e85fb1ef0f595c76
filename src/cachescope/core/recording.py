"""What a capture holds: the folds of every cache of one or several processes.

A recording is a set of processes; merging is the union of sets, so a capture that is given twice counts once, and order
doesn't matter. Sums over processes are made when a report is asked for, by the same folds that run live.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachescope.core.analysis.activity import Activity
from cachescope.core.analysis.hotspots import Cell, Hotspots, Place
from cachescope.core.analysis.operations import Operations
from cachescope.core.analysis.totals import Totals
from cachescope.core.errors import CaptureError
from cachescope.core.events import MemoryEventType
from cachescope.core.results import MemoryAllocation, ProcessInfo
from cachescope.core.snapshots import SnapshotHistory

CAPTURED_SNAPSHOTS = 120
"""Enough to see where memory is heading; a capture stays small."""


@dataclass(slots=True)
class CacheRecording:
    """One cache of one process: its folds, and what can only be said of the moment."""

    name: str
    kind: str = ""
    where: str = ""
    start_time: float = 0.0
    end_time: float = 0.0
    instances: int = 0
    instances_total: int = 0
    container_bytes: int = 0
    peak_bytes: int = 0
    max_entries: float | None = None
    own_size: float | None = None
    sampling_rate: float = 1.0
    inherited_bytes: int = 0
    inherited_entries: int = 0
    carried_bytes: int = 0
    carried_entries: int = 0
    watching: bool = False
    budget_bytes: int | None = None
    """What it should stay below, by ``cache_budgets``."""
    notes: tuple[str, ...] = ()
    totals: Totals = field(default_factory=Totals)
    hotspots: Hotspots = field(default_factory=Hotspots)
    inherited_hotspots: Hotspots = field(default_factory=Hotspots)
    """What a forked child got from its parent, by place."""
    activity: Activity = field(default_factory=Activity)
    operations: Operations = field(default_factory=Operations)
    recurrences: dict[Place, str] = field(default_factory=dict)
    """Whether the allocations of a place come again and again, where there is enough to say."""
    events: tuple[MemoryAllocation, ...] = ()
    """Not captured: they stay in the process."""

    def to_dict(self) -> dict[str, object]:
        """JSON types."""
        out: dict[str, object] = {name: getattr(self, name) for name in _PLAIN}
        out["notes"] = list(self.notes)
        out["totals"] = self.totals.to_dict()
        out["hotspots"] = self.hotspots.to_dict()
        out["inherited_hotspots"] = self.inherited_hotspots.to_dict()
        out["activity"] = self.activity.to_dict()
        out["operations"] = self.operations.to_dict()
        out["recurrences"] = [[*place, word] for place, word in self.recurrences.items()]
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CacheRecording:
        """The inverse of :meth:`to_dict`."""
        out = cls(**{name: data[name] for name in _PLAIN if name in data})
        out.notes = tuple(map(str, data.get("notes", ())))
        out.totals = Totals.from_dict(data["totals"])
        out.hotspots = Hotspots.from_dict(data["hotspots"])
        out.inherited_hotspots = Hotspots.from_dict(data["inherited_hotspots"])
        out.activity = Activity.from_dict(data["activity"])
        out.operations = Operations.from_dict(data["operations"])
        out.recurrences = {(str(p), str(s), str(b)): str(word) for p, s, b, word in data["recurrences"]}
        return out


_PLAIN = (
    "name",
    "kind",
    "where",
    "start_time",
    "end_time",
    "instances",
    "instances_total",
    "container_bytes",
    "peak_bytes",
    "max_entries",
    "own_size",
    "sampling_rate",
    "inherited_bytes",
    "inherited_entries",
    "carried_bytes",
    "carried_entries",
    "watching",
    "budget_bytes",
)


@dataclass(slots=True)
class ProcessRecording:
    """All caches of one process.

    Attributes:
        uid: Names this process among all processes of all machines.
        parent_uid: The process that it was forked from, ``""`` for none.
        info: Its particulars.
        caches: By name.
        stacks: The stack of each call site, by the site's text.
        snapshots: Of the process's memory, thinned out.
        pressure: When a limit was neared.
    """

    uid: str
    parent_uid: str
    info: ProcessInfo
    caches: dict[str, CacheRecording]
    stacks: dict[str, tuple[str, ...]]
    snapshots: SnapshotHistory = field(default_factory=lambda: SnapshotHistory(CAPTURED_SNAPSHOTS))
    pressure: tuple[MemoryAllocation, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """JSON types."""
        return {
            "uid": self.uid,
            "parent_uid": self.parent_uid,
            "info": self.info.to_dict(),
            "caches": [cache.to_dict() for cache in self.caches.values()],
            "stacks": {site: list(stack) for site, stack in self.stacks.items()},
            "snapshots": self.snapshots.to_list(CAPTURED_SNAPSHOTS),
            "pressure": [event.to_dict() for event in self.pressure],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessRecording:
        """The inverse of :meth:`to_dict`."""
        caches = [CacheRecording.from_dict(cache) for cache in data["caches"]]
        return cls(
            uid=str(data["uid"]),
            parent_uid=str(data["parent_uid"]),
            info=ProcessInfo(**{**data["info"], "collects": tuple(data["info"].get("collects", ()))}),
            caches={cache.name: cache for cache in caches},
            stacks={site: tuple(stack) for site, stack in data["stacks"].items()},
            snapshots=SnapshotHistory.from_list(data["snapshots"], CAPTURED_SNAPSHOTS),
            pressure=tuple(map(_pressure_event, data["pressure"])),
        )


class Recording:
    """The recordings of several processes, by uid."""

    def __init__(self, processes: Iterable[ProcessRecording] = ()) -> None:
        self.processes: dict[str, ProcessRecording] = {}
        for process in processes:
            known = self.processes.get(process.uid)
            if known is None or _age(known) < _age(process):
                self.processes[process.uid] = process

    def merge(self, other: Recording) -> Recording:
        """The recording of both; of a process that is in both, the later state."""
        return Recording([*self.processes.values(), *other.processes.values()])

    def to_dict(self) -> dict[str, object]:
        """The payload of a capture."""
        return {"processes": [process.to_dict() for process in self.processes.values()]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recording:
        """The inverse of :meth:`to_dict`.

        Raises:
            CaptureError: The payload is not what this version writes.
        """
        try:
            return cls([ProcessRecording.from_dict(process) for process in data["processes"]])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaptureError(
                f"the capture is whole, but its content is not understood ({type(error).__name__}: {error}); "
                "it was written by another version of cachescope"
            ) from error


def _age(process: ProcessRecording) -> tuple[float, str]:
    return process.info.end_time, repr(process.info)


def _pressure_event(data: Mapping[str, Any]) -> MemoryAllocation:
    return MemoryAllocation(
        cache_name=str(data["cache_name"]),
        key=str(data["key"]),
        size_bytes=int(data["size_bytes"]),
        timestamp=float(data["timestamp"]),
        event_type=MemoryEventType(data["event_type"]),
        thread_id=int(data["thread_id"]),
        metadata=dict(data["metadata"]),
    )


def without_inherited(cache: CacheRecording) -> CacheRecording:
    """The same without what its parent process counts already."""
    totals = cache.totals.copy()
    shared = min(cache.inherited_bytes, max(0, totals["live_bytes"] + cache.inherited_bytes))
    out = CacheRecording(**{name: getattr(cache, name) for name in _PLAIN})
    out.notes, out.totals = cache.notes, totals
    out.hotspots.merge(cache.hotspots)
    out.hotspots.update(
        (place, Cell(live_entries=-cell.live_entries, live_bytes=-cell.live_bytes))
        for place, cell in cache.inherited_hotspots.cells.items()
    )
    out.activity, out.operations, out.recurrences = cache.activity, cache.operations, cache.recurrences
    out.container_bytes = 0 if totals.entries <= 0 else cache.container_bytes
    out.peak_bytes = max(0, cache.peak_bytes - shared)
    out.inherited_bytes = out.inherited_entries = 0
    return out
