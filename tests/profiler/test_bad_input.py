"""Bad input: windows that are none, clocks that jump, weights that are no numbers, huge keys, generated code."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ConfigurationError, ProfilerConfig, UnknownCacheError, instrument
from cachescope.core import faults
from profiler.driving import Driven, clocks_later, close_buckets

ASKING: dict[str, Callable[[CacheMemoryProfiler, Any], Any]] = {
    "hotspots": lambda profiler, window: profiler.get_memory_hotspots("c", 0, window_minutes=window),
    "all hotspots": lambda profiler, window: profiler.get_memory_hotspots(None, 0, window_minutes=window),
    "allocation": lambda profiler, window: profiler.get_allocation_patterns("c", window),
    "trend": lambda profiler, window: profiler.get_memory_trend("c", window),
    "process trend": lambda profiler, window: profiler.get_memory_trend(None, window),
}


def used(profiler: CacheMemoryProfiler) -> Driven:
    driven = Driven(instrument(cachetools.LRUCache(100), name="c", profiler=profiler), 100)
    for i in range(200):
        driven.set(f"user:{i}", i)
        driven.get(f"user:{i // 2}")
    profiler.take_memory_snapshot()
    return driven


@pytest.mark.parametrize(
    "window",
    [0, -1, -0.0, math.nan, math.inf, -math.inf, "60", True, [], b"1", 1j, pytest.param(-(10**5_000), id="no text")],
)
@pytest.mark.parametrize("ask", ASKING)
def test_a_window_that_is_none_is_refused_by_name(profiler: CacheMemoryProfiler, ask: str, window: object) -> None:
    """With what was given and what is allowed."""
    driven = used(profiler)
    with pytest.raises(ConfigurationError, match=r"window_minutes: .* is not allowed; expected a number of minutes"):
        ASKING[ask](profiler, window)
    assert driven.cache


@pytest.mark.parametrize(
    "window",
    [1e-300, sys.float_info.min, 1e-9, 1e9, 1e300, sys.float_info.max, 10**30, 10**400],
    ids=lambda window: f"{len(str(int(window)))} digits" if window > 1 else f"{window:g}",
)
@pytest.mark.parametrize("ask", ASKING)
def test_a_window_of_any_length_has_an_answer_in_json(profiler: CacheMemoryProfiler, ask: str, window: float) -> None:
    """From nothing to longer than the world is old: finite figures, no negative rate."""
    driven = used(profiler)
    close_buckets(profiler)
    answer = ASKING[ask](profiler, window)
    rows = [row.to_dict() for row in answer] if isinstance(answer, list) else [answer.to_dict()]
    json.dumps(rows, allow_nan=False)
    assert not any(rate < 0 for row in rows for rate in rates_in(row))
    assert driven.cache


def rates_in(row: Any) -> list[float]:
    """All figures that are rates or times, however deep; a trend's slope may well be negative."""
    found = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += rates_in(value)
        elif isinstance(value, list):
            found += [rate for item in value if isinstance(item, dict) for rate in rates_in(item)]
        elif "slope" in name:
            continue
        elif isinstance(value, (int, float)) and name.endswith(("_per_s", "_rate", "duration_seconds", "mb_per_sec")):
            found.append(value)
    return found


@pytest.mark.parametrize("name", [None, 5, b"c", ["c"], ("c",), "", object()])
def test_a_name_that_is_none_is_an_unknown_cache(profiler: CacheMemoryProfiler, name: Any) -> None:
    """Said as for any other, by every question."""
    driven = used(profiler)
    questions: list[Callable[[Any], object]] = [
        profiler.get_cache_profile,
        profiler.get_allocation_patterns,
        profiler.get_performance_metrics,
    ]
    if name is not None:  # it means all caches, or the process
        questions += [profiler.get_memory_hotspots, profiler.get_operations, profiler.get_memory_trend]
    for question in questions:
        with pytest.raises(UnknownCacheError, match="known caches: 'c'"):
            question(name)
    assert driven.cache


# Clocks


@pytest.mark.parametrize("seconds", [-86_400, -30, 86_400])
def test_a_wall_clock_that_jumps_breaks_nothing(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Back or forth: figures stay exact, no rate is negative, and everything still goes into JSON."""
    settings = ProfilerConfig(level="detailed", tick_seconds=0.01, snapshot_seconds=0.1)
    with CacheMemoryProfiler(settings) as profiler:
        driven = used(profiler)
        window = profiler.start_cache_profiling("c")
        with profiler.profile_operation("c", "job"):
            clocks_later(monkeypatch, seconds, wall_only=True)
            for i in range(200, 400):
                driven.set(f"user:{i}", i)
        time.sleep(0.3)
        close_buckets(profiler)
        for _ in range(3):
            profiler.take_memory_snapshot()
        answers = [
            profiler.get_cache_profile("c"),
            profiler.report(),
            profiler.get_allocation_patterns("c"),
            profiler.get_allocation_patterns("c", 0.01),
            profiler.get_performance_metrics("c"),
            profiler.get_memory_trend("c"),
            profiler.get_memory_trend(),
            window.stop(),
            *profiler.get_operations("c"),
            *profiler.get_memory_snapshots(),
            *(spot for by in ("pattern", "site", "key", "operation") for spot in profiler.get_memory_hotspots(by=by)),
        ]
        for answer in answers:
            row = answer.to_dict()
            json.dumps(row, allow_nan=False)
            assert min(rates_in(row), default=0) >= 0, (type(answer), row)
        profile = profiler.get_cache_profile("c")
        tally = driven.tally
        assert (profile.total_allocations, profile.net_memory_bytes) == (tally.counts["allocation"], tally.net)
        assert sum(spot.live_bytes for spot in profiler.get_memory_hotspots("c")) == tally.net
        profiler.reset_profiling_data()
        monkeypatch.undo()
        driven.set("one:1", 10)
        json.dumps(profiler.report().to_dict(), allow_nan=False)
        assert profiler.get_cache_profile("c").total_allocations == 1


# Weights, keys, sites


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1, "heavy", None, 10**400, 2.5, True])
def test_a_weigher_s_nonsense_spoils_no_figure(profiler: CacheMemoryProfiler, weight: Any) -> None:
    """Ours is used instead, and it is counted; the byte law holds."""
    cache = instrument(cachetools.LRUCache(50), name="c", weigher=lambda *_: weight, profiler=profiler)
    with profiler.profile_operation("c", "job") as context:
        for i in range(80):
            cache[f"user:{i}"] = bytes(100)
    profile = profiler.get_cache_profile("c")
    net = profile.total_allocated_bytes + profile.total_resized_bytes - profile.total_deallocated_bytes
    assert (profile.net_memory_bytes, profile.current_entries, profile.total_evictions) == (net, 50, 30)
    assert context.memory_delta_bytes == net
    assert (context.allocated_bytes, context.freed_bytes) == (
        profile.total_allocated_bytes,
        profile.total_deallocated_bytes,
    )
    for answer in (profile, profiler.get_allocation_patterns("c"), profiler.report(), context):
        json.dumps(answer.to_dict(), allow_nan=False)
    faults.counts.clear()


def test_keys_of_megabytes_are_neither_held_nor_shown(profiler: CacheMemoryProfiler) -> None:
    """They are charged in full, described briefly, and die with the cache's entry."""
    cache = instrument(cachetools.LRUCache(4), name="c", profiler=profiler)
    keys: list[Any] = ["never in a cache" * 1_000]
    for i in range(12):
        keys += [f"{i}" + "x" * 5_000_000, bytes(5_000_000) + bytes([i])]
        cache[keys[-1]] = cache[keys[-2]] = b"small"
    profiler.beat()
    profile = profiler.get_cache_profile("c")
    assert 4 * 5_000_000 < profile.current_memory_bytes < 4 * 5_001_000
    texts = [spot.key_pattern or "" for spot in profiler.get_memory_hotspots("c", 0)]
    texts += [spot.key_pattern or "" for spot in profiler.get_memory_hotspots("c", 0, by="key")]
    texts += [event.key for event in profile.events]
    assert max(map(len, texts)) < 500
    assert len(json.dumps(profiler.report().to_dict())) < 1_000_000
    assert profiler.report().processes[0].profiler_bytes < 10_000_000
    cache.clear()
    profiler.beat()
    references = [sys.getrefcount(key) for key in keys]
    assert set(references) == {references[0]}


def test_twenty_thousand_generated_call_sites_stay_within_the_bound() -> None:
    """Code that is made while the program runs: what comes late is counted as one, and nothing is lost."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", max_sites=500)) as profiler:
        cache = instrument(cachetools.LRUCache(100_000), name="c", profiler=profiler)
        for i in range(20_000):
            exec(compile(f"cache['user:{i}'] = b'x' * 50", f"<generated {i}>", "exec"), {"cache": cache})
        spots = profiler.get_memory_hotspots("c", 0, by="site")
        assert len(spots) <= 501
        assert sum(spot.allocation_count for spot in spots) == 20_000
        overflow = max(spots, key=lambda spot: spot.allocation_count)
        assert overflow.site == "overflow"
        assert sum(spot.live_bytes for spot in spots) == profiler.get_cache_profile("c").net_memory_bytes
        (pattern,) = profiler.get_memory_hotspots("c")
        assert (pattern.allocation_count, pattern.site) == (20_000, None)
        assert profiler.report().processes[0].profiler_bytes < 64 << 20


def test_questions_after_the_end_are_answered() -> None:
    """What was gathered can still be asked for, also by window."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler:
        driven = used(profiler)
    for ask in ASKING.values():
        ask(profiler, None)
        ask(profiler, 1)
    for by in ("pattern", "site", "key", "operation"):
        assert profiler.get_memory_hotspots("c", 0, by=by)
    assert profiler.get_cache_profile("c").total_allocations == 200
    assert profiler.get_operations() == ()
    profiler.take_memory_snapshot()
    profiler.reset_profiling_data()
    assert len(driven.cache) == 100
