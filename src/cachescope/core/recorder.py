"""What the folds of a registry are at this moment, as recordings: for answers, and for captures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import psutil

from cachescope.core import faults
from cachescope.core.analysis.activity import Activity
from cachescope.core.analysis.hotspots import Place
from cachescope.core.analysis.key_counts import LongKey
from cachescope.core.analysis.recurrence import more_often
from cachescope.core.patterns import KeyPatterns
from cachescope.core.recent import allocation_of
from cachescope.core.record import CacheRecord
from cachescope.core.recording import CacheRecording, ProcessRecording
from cachescope.core.registry import CacheRegistry
from cachescope.core.results import CacheUse, ProcessInfo


class Recorder:
    """Makes recordings.

    Args:
        registry: The caches.
    """

    def __init__(self, registry: CacheRegistry) -> None:
        self._registry = registry

    def recordings(self) -> dict[str, CacheRecording]:
        """The folds of every cache, up to date."""
        with self._registry.lock:
            self._registry.fold()
            return {
                name: self.recording_of(record)
                for name, record in list(self._registry.records.items())
                if record.listed
            }

    def recording_of(self, record: CacheRecord) -> CacheRecording:
        """The folds of one cache; call after :meth:`fold`."""
        with self._registry.lock:
            if record.reconcile():
                self._registry.fold()
        most, own = record.limits()
        sites, flow = self._registry.sites, record.flow
        return CacheRecording(
            name=record.name,
            kind=record.kind,
            where=record.where,
            start_time=record.created,
            end_time=time.time(),
            instances=len(record.states),
            instances_total=record.instances_total,
            container_bytes=record.container_bytes(),
            peak_bytes=record.mark_peak(),
            max_entries=most,
            own_size=own,
            sampling_rate=record.share,
            inherited_bytes=record.inherited[0],
            inherited_entries=record.inherited[1],
            inherited_hotspots=record.inherited_cells,
            notes=tuple(sorted(record.notes | _standing_notes())),
            totals=record.totals(),
            hotspots=flow.hotspots(sites),
            activity=self.activity_of(record),
            operations=record.operations,
            recurrences=self._recurrences(record),
            carried_bytes=record.carried[0],
            carried_entries=record.carried[1],
            watching=record.watched,
            events=tuple(allocation_of(record, row, self._registry.sites) for row in list(record.flow.recent)),
        )

    def activity_of(self, record: CacheRecord, since: float | None = None) -> Activity:
        """The folds of one cache, over all the time or since a moment of ``time.monotonic()``; keys by their patterns."""
        windows = record.flow.windows
        activity = windows.all() if since is None else windows.since(since)[0]
        activity.totals.merge(record.totals_since_bucket())
        activity.lives.merge(record.use_so_far())
        patterns = record.flow.patterns
        process = f"{self._registry.uid[:6]}"
        if since is None or since <= windows.began:
            activity.keys = record.flow.keys
        else:
            activity.keys.merge(record.flow.keys_since_bucket())
        activity.keys = activity.keys.named(
            lambda key: _pattern_of(patterns, key), self._registry.config.raw_keys, process
        )
        return activity

    def _recurrences(self, record: CacheRecord) -> dict[Place, str]:
        found: dict[Place, str] = {}
        for (pattern, site), word in record.flow.recurrences().items():
            place = record.flow.place_of(pattern, site, self._registry.sites)
            found[place] = more_often(found.get(place), word) or word
        return found

    def process_recording(self, cpu_seconds: float) -> ProcessRecording:
        """Everything, as it goes into a capture."""
        caches = self.recordings()
        return ProcessRecording(
            uid=self._registry.uid,
            parent_uid=self._registry.parent_uid,
            info=self.process_info(cpu_seconds),
            caches=caches,
            stacks=self.stacks(),
        )

    def stacks(self) -> dict[str, tuple[str, ...]]:
        """The stack of each call site, and of each line that built values, by its text."""
        found = {site.text: site.stack for site in list(self._registry.sites.known.values()) if site.stack}
        built = {
            site.built_at: site.built_stack for site in list(self._registry.sites.known.values()) if site.built_stack
        }
        return {**built, **found}

    def uses(self) -> Iterator[CacheUse]:
        """What each cache holds now, as a snapshot tells it; found out while it is asked for, whose cost is watched."""
        for record in list(self._registry.records.values()):
            if record.listed:
                size_bytes, entries = record.held()
                yield CacheUse(
                    cache_name=record.name, size_bytes=size_bytes + record.container_bytes(), entries=entries
                )

    def windowed_recording_of(self, record: CacheRecord, since: float) -> tuple[CacheRecording, float]:
        """``(a recording whose flows are those since a moment, when that begins in fact)``, by ``time.monotonic()``."""
        recording = self.recording_of(record)
        recording.activity = self.activity_of(record, since)
        spots, begins = record.flow.spots_since(since)
        recording.hotspots = record.flow.hotspots(self._registry.sites, spots)
        return recording, begins

    def process_info(self, cpu_seconds: float) -> ProcessInfo:
        """The process's particulars now."""
        try:
            rss = int(psutil.Process().memory_info().rss)
        except psutil.Error:
            rss = 0
        return ProcessInfo(
            pid=os.getpid(),
            parent_pid=os.getppid(),
            command=_command(),
            python=".".join(map(str, sys.version_info[:3])),
            start_time=self._registry.start_time,
            end_time=time.time(),
            level=self._registry.level.name.lower(),
            rss_bytes=rss,
            profiler_bytes=self._registry.own_bytes(),
            profiler_cpu_seconds=cpu_seconds,
            dropped_events=self._registry.batch.dropped,
            faults=dict(faults.counts),
            exit_note=self._registry.exit_note,
        )


def _pattern_of(patterns: KeyPatterns, key: object) -> str:
    if type(key) is LongKey:
        return patterns.text(patterns.resolve(key.pattern))
    return patterns.text(patterns.id_of(key))


def _standing_notes() -> set[str]:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return {"free-threaded Python: counts are approximate"} if enabled is not None and not enabled() else set()


def _command() -> str:
    argv = getattr(sys, "orig_argv", None) or sys.argv
    return " ".join(os.path.basename(argv[0]) if i == 0 else arg for i, arg in enumerate(argv))[:200]
