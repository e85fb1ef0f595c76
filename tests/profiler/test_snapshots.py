"""Snapshots: on demand and in the background, kept within a bound, compared, and honest where the system refuses."""

from __future__ import annotations

import gc
import json
import tracemalloc
from itertools import pairwise

import cachetools
import psutil
import pytest

from cachescope import CacheMemoryProfiler, MemorySnapshot, ProfilerConfig, instrument
from profiler.driving import wait_until


def test_a_snapshot_tells_the_process_the_machine_and_the_caches(profiler: CacheMemoryProfiler) -> None:
    """As psutil and the caches' own profiles tell them."""
    cache = instrument(cachetools.LRUCache(100), name="c", profiler=profiler)
    for i in range(50):
        cache[f"user:{i}"] = bytes(1_000)
    taken = profiler.take_memory_snapshot()
    own = psutil.Process()
    assert taken.pid == own.pid
    assert taken.rss_bytes == pytest.approx(own.memory_info().rss, rel=0.1)
    assert taken.uss_bytes is not None
    assert 0 < taken.uss_bytes < taken.rss_bytes * 1.1
    assert taken.system_total_bytes == psutil.virtual_memory().total
    assert len(taken.gc) == len(gc.get_count())
    (use,) = taken.caches
    profile = profiler.get_cache_profile("c")
    assert (use.cache_name, use.size_bytes, use.entries) == ("c", profile.current_memory_bytes, 50)
    assert taken.cache_bytes == use.size_bytes
    assert taken.traced_bytes is None
    assert MemorySnapshot.from_dict(json.loads(json.dumps(taken.to_dict()))) == taken
    assert profiler.get_memory_snapshots()[-1] == taken
    assert profiler.report().snapshots[-1].timestamp >= taken.timestamp


def test_two_snapshots_differ_by_what_happened_between(profiler: CacheMemoryProfiler) -> None:
    """Entries and bytes of each cache, those included that came meanwhile."""
    cache = instrument(cachetools.LRUCache(5_000), name="old", profiler=profiler)
    cache["a:1"] = bytes(100)
    before = profiler.take_memory_snapshot()
    held_before = profiler.get_cache_profile("old").current_memory_bytes
    keep = [bytearray(b"x" * 10_000_000)]
    for i in range(1_000):
        cache[f"user:{i}"] = bytes(2_000)
    young = instrument(cachetools.LRUCache(10), name="young", profiler=profiler)
    young["b:1"] = bytes(100)
    gc.collect()
    after = profiler.take_memory_snapshot()
    difference = after.diff(before)
    changes = {use.cache_name: (use.entries, use.size_bytes) for use in difference.caches}
    held = {name: profiler.get_cache_profile(name).current_memory_bytes for name in ("old", "young")}
    assert changes == {"old": (1_000, held["old"] - held_before), "young": (1, held["young"])}
    assert difference.cache_bytes == sum(held.values()) - held_before
    assert difference.rss_bytes is not None
    assert difference.rss_bytes > 5_000_000
    assert difference.seconds > 0
    assert difference.gc_collections[-1] >= 1
    assert before.diff(after).caches[0].entries == -1_000
    assert len(keep) == 1


def test_they_are_taken_in_the_background_and_kept_within_the_bound() -> None:
    """Thinned, not cut: the first and the newest stay."""
    settings = ProfilerConfig(snapshot_seconds=0.1, max_snapshots=8, tick_seconds=0.01)
    with CacheMemoryProfiler(settings) as profiler:
        instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
        wait_until(profiler.get_memory_snapshots, "the first snapshot")
        first = profiler.get_memory_snapshots()[0]
        for _ in range(40):
            profiler.take_memory_snapshot()
            assert len(profiler.get_memory_snapshots()) <= 8
        newest = profiler.get_memory_snapshots()[-1].timestamp
        wait_until(lambda: profiler.get_memory_snapshots()[-1].timestamp > newest, "one more in the background")
        kept = profiler.get_memory_snapshots()
        assert kept[0].timestamp == first.timestamp
        assert all(one.timestamp <= other.timestamp for one, other in pairwise(kept))
        assert 4 <= len(kept) <= 8


def test_what_the_system_refuses_is_none_with_a_note(
    profiler: CacheMemoryProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No permission, as in some sandboxes: nothing raises, and the report still comes."""

    def denied(self: psutil.Process) -> None:
        raise psutil.AccessDenied(self.pid)

    cache = instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
    cache["a:1"] = b"x"
    for name in ("memory_info", "memory_full_info", "memory_footprint", "memory_info_ex"):
        if hasattr(psutil.Process, name):
            monkeypatch.setattr(psutil.Process, name, denied)
    taken = profiler.take_memory_snapshot()
    assert (taken.rss_bytes, taken.uss_bytes, taken.swap_bytes) == (None, None, None)
    assert any("permission denied" in note for note in taken.notes)
    assert taken.caches[0].entries == 1
    assert taken.diff(taken).rss_bytes is None
    with profiler.profile_operation("c", "job") as context:
        pass
    assert context.rss_delta_bytes is None
    report = profiler.report()
    assert report.processes[0].rss_bytes == 0
    assert profiler.get_memory_hotspots("c", 0)[0].share_of_process == 0.0
    assert profiler.get_memory_trend(None).slope_bytes_per_s is None


def test_when_the_process_itself_can_not_be_seen(
    profiler: CacheMemoryProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No /proc, as under some hardenings."""

    def gone(*_: object) -> None:
        raise psutil.NoSuchProcess(1)

    instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
    monkeypatch.setattr(psutil, "Process", gone)
    monkeypatch.setattr(psutil, "virtual_memory", gone)
    taken = profiler.take_memory_snapshot()
    assert (taken.rss_bytes, taken.uss_bytes, taken.system_total_bytes) == (None, None, None)
    assert len(taken.notes) >= 2
    assert profiler.report().processes[0].rss_bytes == 0


def test_traced_bytes_are_told_while_somebody_traces(profiler: CacheMemoryProfiler) -> None:
    """Also when it was not us who started it, and in operations."""
    cache = instrument(cachetools.LRUCache(10), name="c", profiler=profiler)
    tracemalloc.start()
    try:
        with profiler.profile_operation("c", "job") as context:
            cache["a:1"] = bytes(100_000)
        taken = profiler.take_memory_snapshot()
    finally:
        tracemalloc.stop()
    assert taken.traced_bytes is not None
    assert taken.traced_bytes > 100_000
    assert context.traced_delta_bytes is not None
    assert context.traced_delta_bytes >= 100_000
    assert profiler.take_memory_snapshot().traced_bytes is None
