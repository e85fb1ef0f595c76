"""Captures of several processes: merged, everything that one process knows comes through."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, CaptureError, MemoryHotspot, ProfilerConfig, instrument, profiled_cache
from cachescope.core.answers.report import report_of
from cachescope.core.capture import read_capture
from cachescope.core.recording import Recording
from profiler.driving import captured, run_python, size_of

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FAMILY = """
import os, sys, time
import cachescope
from cachetools import LRUCache

folder = os.environ["FOLDER"]
profiler = cachescope.current_profiler(cachescope.ProfilerConfig(
    level="detailed", cache_budgets={"users": 20_000}, snapshot_seconds=0.1, tick_seconds=0.02))
users = cachescope.instrument(LRUCache(1_000), name="users")

@cachescope.profiled_cache(maxsize=50, name="square")
def square(number):
    return number * number

def work(kind, count):
    with profiler.profile_operation("users", "import"):
        for i in range(count):
            users[f"{kind}:{i}"] = bytes(500)
        for _ in range(5):
            users["same:1"] = bytes(100)
    for i in range(count):
        square(i)
    for _ in range(4):
        profiler.take_memory_snapshot()
    end = time.monotonic() + 20
    while not profiler.report().pressure and time.monotonic() < end:
        time.sleep(0.02)

children = []
for number in (0, 1):
    if (pid := os.fork()) == 0:
        work(f"child{number}", 60 + number)
        profiler.write_capture(f"{folder}/child{number}.capture")
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
work("parent", 50)
profiler.write_capture(f"{folder}/parent.capture")
print(users.currsize)
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The captures of a parent and its two children."""
    folder = tmp_path_factory.mktemp("family")
    run_python(FAMILY, FOLDER=str(folder))
    return folder


@needs_fork
def test_all_that_forked_workers_saw_is_in_one_report(family: Path) -> None:
    """Counters, keys, latencies, operations, snapshots, pressure of a parent and its two children."""
    report = captured(family)
    assert len(report.processes) == 3
    users = next(cache for cache in report.caches if cache.cache_name == "users")
    assert (users.total_allocations, users.total_resizes, users.current_entries) == (174, 12, 174)
    expected = 3 * size_of("same:1", bytes(100))
    for kind, count in (("child0", 60), ("child1", 61), ("parent", 50)):
        expected += sum(size_of(f"{kind}:{i}", bytes(500)) for i in range(count))
    assert users.net_memory_bytes == expected
    (operation,) = report.operations
    assert (operation.operation, operation.count, operation.failures) == ("import", 3, 0)
    assert operation.total_allocated_bytes == expected
    assert operation.duration_seconds.count == 3
    square = next(row for row in report.performance if row.cache_name == "square")
    assert (square.loads, square.load_failures) == (171, 0)
    loads = next(row for row in square.operations if row.operation == "load")
    assert loads.seconds.count == 171
    assert {snapshot.pid for snapshot in report.snapshots} == {info.pid for info in report.processes}
    assert {trend.pid for trend in report.trends if trend.cache_name is None} == {i.pid for i in report.processes}
    assert len([trend for trend in report.trends if trend.cache_name == "users"]) == 1
    assert len(report.pressure) >= 3
    assert {event.cache_name for event in report.pressure} == {"users"}
    patterns = next(row for row in report.allocation_patterns if row.cache_name == "users")
    assert {row.event: row.count for row in patterns.events}["allocation"] == 174
    assert patterns.entry_bytes is not None
    assert patterns.entry_bytes.count == 186
    json.dumps(report.to_dict(), allow_nan=False)


ANOTHER_RUN = """
import os, cachescope
from cachetools import LRUCache

profiler = cachescope.current_profiler()
users = cachescope.instrument(LRUCache(1_000), name="users")
users["same:1"] = bytes(100)
profiler.write_capture(os.environ["FOLDER"] + "/another.capture")
"""


@needs_fork
def test_the_same_key_has_the_same_id_in_all_processes_of_a_run(family: Path, tmp_path: Path) -> None:
    """So its counts add up; another run's ids are others."""
    hottest = next(spot for spot in captured(family).keys if spot.cache_name == "users")
    assert (hottest.key_pattern, hottest.allocation_count, hottest.key) == ("same:{int}", 15, None)
    assert len(list(family.glob("*.capture"))) == 3
    assert {keys_of(path)[0].key_id for path in family.glob("*.capture")} == {hottest.key_id}
    run_python(ANOTHER_RUN, FOLDER=str(tmp_path))
    (other,) = captured(tmp_path).keys
    assert (other.key_pattern, other.allocation_count) == ("same:{int}", 1)
    assert other.key_id != hottest.key_id


HEIRS = """
import os, time
import cachescope
from cachetools import LRUCache

folder = os.environ["FOLDER"]
profiler = cachescope.current_profiler(cachescope.ProfilerConfig(level="detailed", tick_seconds=0.02))
users = cachescope.instrument(LRUCache(1_000), name="users")
for i in range(200):
    users[f"warm:{i}"] = bytes(300 + i)
profiler.report()  # what the children inherit has been folded
for number in range(3):
    if (pid := os.fork()) == 0:
        for i in range(10):
            users[f"own:{number}:{i}"] = bytes(100)
        profiler.write_capture(f"{folder}/heir{number}.capture")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
profiler.write_capture(f"{folder}/parent.capture")
"""


@needs_fork
def test_what_forked_children_inherited_counts_once_by_kind_and_by_line_too(tmp_path: Path) -> None:
    """The parent holds it; each child adds its own entries only."""
    run_python(HEIRS, FOLDER=str(tmp_path))
    report = captured(tmp_path)
    assert {spot.key_pattern: spot.live_entries for spot in report.patterns} == {
        "warm:{int}": 200,
        "own:{int}:{int}": 30,
    }
    (cache,) = report.caches
    assert sum(spot.live_entries for spot in report.sites) == cache.current_entries == 230
    assert sum(spot.share_of_cache for spot in report.patterns) == pytest.approx(1.0)


def keys_of(path: Path) -> list[MemoryHotspot]:
    report = report_of(Recording.from_dict(read_capture(path)))
    return [spot for spot in report.keys if spot.cache_name == "users"]


def used(profiler: CacheMemoryProfiler) -> cachetools.LRUCache[str, bytes]:
    cache = instrument(cachetools.LRUCache(100), name="c", profiler=profiler)

    @profiled_cache(maxsize=100, name="square", profiler=profiler)
    def square(number: int) -> int:
        return number * number

    with profiler.profile_operation("c", "job"):
        for i in range(150):
            cache[f"user:{i % 120}"] = bytes(i)
            square(i % 40)
    for _ in range(3):
        profiler.take_memory_snapshot()
    return cache


def test_a_capture_says_what_the_live_report_says(profiler: CacheMemoryProfiler, tmp_path: Path) -> None:
    """Part by part, but for what goes on meanwhile: times, and what a longer time makes of rates."""
    cache = used(profiler)
    recording = profiler.recording()
    live = report_of(recording).to_dict()
    path = profiler.write_capture(tmp_path / "x.capture")
    written = read_capture(path)
    again = report_of(Recording.from_dict(json.loads(json.dumps(recording.to_dict())))).to_dict()
    live["generated_at"] = again["generated_at"] = 0
    for part in (live, again):
        for profile in part["caches"]:  # type: ignore[attr-defined]
            profile["events"] = []  # they stay in the process
    assert again == live
    assert set(written) >= {"processes"}
    assert len(cache) == 100


@pytest.mark.parametrize("part", ["activity", "operations", "totals", "hotspots", "recurrences"])
def test_a_capture_without_a_part_of_today_is_refused_clearly(profiler: CacheMemoryProfiler, part: str) -> None:
    """As an older version wrote it: the file is whole, and the error says why it is not understood."""
    cache = used(profiler)
    written = json.loads(json.dumps(profiler.recording().to_dict()))
    del written["processes"][0]["caches"][0][part]
    with pytest.raises(CaptureError, match=f"whole, but its content is not understood .*'{part}'.*another version"):
        Recording.from_dict(written)
    assert len(cache) == 100


@pytest.mark.parametrize("part", ["snapshots", "pressure", "stacks", "uid", "info"])
def test_a_process_without_a_part_of_today_is_refused_clearly(profiler: CacheMemoryProfiler, part: str) -> None:
    """The same of what is the process's."""
    cache = used(profiler)
    written = json.loads(json.dumps(profiler.recording().to_dict()))
    del written["processes"][0][part]
    with pytest.raises(CaptureError, match=f"'{part}'.*another version"):
        Recording.from_dict(written)
    assert len(cache) == 100


def corrupt(written: dict[str, object], path: tuple[object, ...], value: object) -> None:
    at: object = written
    for step in path[:-1]:
        at = at[step]  # type: ignore[index]
    at[path[-1]] = value  # type: ignore[index]


CACHE = ("processes", 0, "caches", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*CACHE, "activity", "lives"), []),
        ((*CACHE, "activity", "latencies"), {"99": {}}),
        ((*CACHE, "activity", "threads"), {"main": "many"}),
        ((*CACHE, "activity", "keys"), {"sets": 5, "reads": None}),
        ((*CACHE, "operations"), [1, 2]),
        ((*CACHE, "totals"), None),
        ((*CACHE, "hotspots"), "none"),
        ((*CACHE, "recurrences"), [["too", "few"]]),
        (("processes", 0, "snapshots"), [{"timestamp": "yesterday"}]),
        (("processes", 0, "pressure"), [{"level": "high"}]),
        (("processes", 0, "info"), {"pid": 1}),
        (("processes",), None),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, tuple) else "",
)
def test_a_damaged_part_is_a_capture_error_and_nothing_else(
    profiler: CacheMemoryProfiler, path: tuple[object, ...], value: object
) -> None:
    """Whoever reads a fleet's captures catches one kind of error."""
    cache = used(profiler)
    written = json.loads(json.dumps(profiler.recording().to_dict()))
    corrupt(written, path, value)
    with pytest.raises(CaptureError, match="another version"):
        Recording.from_dict(written)
    assert len(cache) == 100


def test_keys_and_values_are_in_no_capture(tmp_path: Path) -> None:
    """Their patterns are; with raw_keys the keys are too."""
    for raw in (False, True):
        with CacheMemoryProfiler(ProfilerConfig(level="detailed", raw_keys=raw)) as profiler:
            cache = instrument(cachetools.LRUCache(100), name="c", profiler=profiler)
            keys = [f"customer:{i}:anna-{i * 7}" for i in range(50)]
            for key in keys:
                cache[key] = b"value-of-" + key.encode()
            payload = json.dumps(read_capture(profiler.write_capture(tmp_path / f"{raw}.capture")))
            assert any(key in payload for key in keys) is raw
            assert "customer:{int}:anna-{int}" in payload
            assert "value-of" not in payload
