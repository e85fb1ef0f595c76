"""COMPREHENSIVE: the line that built a cached value beside the one that stored it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument
from profiler.driving import captured


@pytest.fixture
def deep() -> Iterator[CacheMemoryProfiler]:
    with CacheMemoryProfiler(ProfilerConfig(level="comprehensive")) as profiler:
        yield profiler


def build_page(number: int) -> bytes:
    return bytes(5_000 + number)


def build_user(number: int) -> dict[str, object]:
    return {"id": number, "name": f"user {number}", "tags": [f"tag {number}"]}


def store(cache: cachetools.LRUCache[str, object], key: str, value: object) -> None:
    cache[key] = value


def line_of(function: object, offset: int = 1) -> str:
    code = function.__code__  # type: ignore[attr-defined]
    return f"test_comprehensive.py:{code.co_firstlineno + offset}"


def fill(cache: cachetools.LRUCache[str, object]) -> None:
    for i in range(40):
        store(cache, f"page:{i}", build_page(i))
        store(cache, f"user:{i}", build_user(i))


def test_origins_are_the_lines_that_built_and_sites_those_that_stored(deep: CacheMemoryProfiler) -> None:
    """One line stores what two lines built."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=deep)
    fill(cache)
    pages, users = deep.get_memory_hotspots("c", by="origin")
    assert (pages.built_at or "").endswith(line_of(build_page))
    assert (users.built_at or "").endswith(line_of(build_user))
    for spot, pattern in ((pages, "page:{int}"), (users, "user:{int}")):
        assert (spot.site or "").endswith(f"{line_of(store)} store")
        assert (spot.key_pattern, spot.allocation_count, spot.live_entries) == (pattern, 40, 40)
        assert spot.stack_trace[0] == spot.built_at
    assert pages.live_bytes > users.live_bytes
    (site,) = deep.get_memory_hotspots("c", by="site")
    assert (site.site or "").endswith(f"{line_of(store)} store")
    assert site.built_at is None  # two lines built what it stored
    assert site.live_bytes == pages.live_bytes + users.live_bytes
    both = deep.get_memory_hotspots("c")
    assert [spot.built_at for spot in both] == [pages.built_at, users.built_at]


def test_what_a_line_built_comes_off_it_when_it_leaves(deep: CacheMemoryProfiler) -> None:
    """Ranked by what is held."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=deep)
    fill(cache)
    for i in range(40):
        del cache[f"page:{i}"]
    first, second = deep.get_memory_hotspots("c", by="origin")
    assert (first.built_at or "").endswith(line_of(build_user))
    assert (second.live_bytes, second.live_entries) == (0, 0)
    assert second.churned_bytes == second.total_size_bytes > 200_000


def test_origins_are_in_report_and_capture(deep: CacheMemoryProfiler, tmp_path: Path) -> None:
    """The same in both, with the stack; values and keys are in neither."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=deep)
    fill(cache)
    live = deep.report()
    deep.write_capture(tmp_path / "x.capture")
    read = captured(tmp_path)
    asked = deep.get_memory_hotspots("c", by="origin")
    for report in (live, read):
        assert [(spot.built_at, spot.site, spot.live_bytes) for spot in report.origins] == [
            (spot.built_at, spot.site, spot.live_bytes) for spot in asked
        ]
        assert [spot.stack_trace for spot in report.origins] == [spot.stack_trace for spot in asked]
    assert any("tracemalloc was started by cachescope" in line for line in read.processes[0].collects)
    assert live.processes[0].tracemalloc_bytes is not None


def test_values_built_before_tracing_have_no_origin(deep: CacheMemoryProfiler) -> None:
    """They still have a site, and their bytes."""
    deep.set_level("detailed")
    built = [build_page(i) for i in range(20)]
    deep.set_level("comprehensive")
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=deep)
    for i, value in enumerate(built):
        store(cache, f"page:{i}", value)
    assert deep.get_memory_hotspots("c", by="origin") == []
    (site,) = deep.get_memory_hotspots("c", by="site")
    assert site.live_entries == 20


def test_every_value_s_deep_size_is_measured(deep: CacheMemoryProfiler) -> None:
    """No estimate is left, however dear."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=deep)
    for i in range(500):
        cache[f"user:{i}"] = [build_user(j) for j in range(i % 7)]
    profile = deep.get_cache_profile("c")
    assert profile.current_memory_bytes_std_error == 0.0
    assert profile.total_allocated_bytes_std_error == 0.0
    (row,) = profile.value_types
    assert (row.entries, row.live_bytes_std_error) == (500, 0.0)
