"""The profiler: one per process, private ones, windows, manual caches, captures, forks and restarts."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import cachetools
import pytest

import cachescope
from cachescope import (
    CacheMemoryProfiler,
    ConfigurationError,
    MemoryEventType,
    NotCollectedError,
    ProfilerConfig,
    ProfilingLevel,
    UnknownCacheError,
    current_profiler,
    get_memory_profiler,
    instrument,
    shutdown_memory_profiler,
)
from cachescope.core.answers.report import report_of
from cachescope.core.capture import read_capture
from cachescope.core.recording import Recording


@pytest.fixture
def profiler() -> Iterator[CacheMemoryProfiler]:
    """A private profiler, shut down afterwards."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler:
        yield profiler


def fill(cache: object, count: int, size: int = 100) -> None:
    for i in range(count):
        cache[f"user:{i}:profile"] = b"x" * (size + i % 10)  # type: ignore[index]


# Life


async def test_the_process_has_one_profiler_and_its_level_only_rises() -> None:
    """A later call returns the same one; a lower level than now changes nothing."""
    first = await get_memory_profiler(ProfilingLevel.BASIC)
    try:
        assert first is await get_memory_profiler("detailed")
        assert first.level is ProfilingLevel.DETAILED
        await get_memory_profiler(ProfilingLevel.BASIC)
        assert first.level is ProfilingLevel.DETAILED
        assert current_profiler() is first
        assert await asyncio.to_thread(current_profiler) is first
    finally:
        await shutdown_memory_profiler()
    assert not first.running
    await shutdown_memory_profiler()


async def test_a_wrong_level_is_named() -> None:
    """The message names the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=r"'deep'.*basic, detailed, comprehensive"):
        await get_memory_profiler("deep")
    await shutdown_memory_profiler()


def test_after_a_shutdown_hooks_are_inert_and_the_next_start_takes_the_caches_back() -> None:
    """Nothing is counted in between; afterwards what is in the cache counts as held."""
    profiler = CacheMemoryProfiler(ProfilerConfig()).start()
    cache = instrument(cachetools.LRUCache(50), name="c", profiler=profiler)
    fill(cache, 10)
    profiler.shutdown()
    assert profiler.get_cache_profile("c").total_allocations == 10
    fill(cache, 20)
    assert profiler.get_cache_profile("c").total_allocations == 10
    profiler.start()
    try:
        profile = profiler.get_cache_profile("c")
        assert profile.current_entries == 20
        cache["one more"] = b"x" * 100
        assert profiler.get_cache_profile("c").current_entries == 21
    finally:
        profiler.shutdown()


def test_a_private_profiler_ends_with_its_block_and_leaves_no_thread() -> None:
    """The background thread is gone; the figures can still be asked for."""
    with CacheMemoryProfiler() as profiler:
        cache = instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
        fill(cache, 5)
    assert not [thread for thread in threading.enumerate() if thread.name == "cachescope"]
    assert profiler.get_cache_profile("c").total_allocations == 5


def test_two_profilers_don_t_share_a_cache(profiler: CacheMemoryProfiler) -> None:
    """The second one is refused, with what to do."""
    cache = instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
    with (
        CacheMemoryProfiler() as other,
        pytest.raises(ConfigurationError, match="'c' by another profiler; uninstrument"),
    ):
        instrument(cache, profiler=other)
    assert instrument(cache, profiler=profiler) is cache


def test_dropped_caches_are_summed_and_counted_as_gone(profiler: CacheMemoryProfiler) -> None:
    """Per-request caches of one name: their flows stay, their bytes go."""
    for _ in range(5):
        cache = instrument(cachetools.LRUCache(10), name="request", profiler=profiler)
        fill(cache, 3)
        alive = weakref.ref(cache)
        del cache
        assert alive() is None
    profile = profiler.get_cache_profile("request")
    assert (profile.instances, profile.instances_total) == (0, 5)
    assert profile.total_allocations == 15
    assert profile.total_cleared == 15
    assert profile.current_entries == profile.net_memory_bytes == profile.current_memory_bytes == 0
    assert [spot.live_bytes for spot in profile.hotspots] == [0]


def test_many_objects_of_one_name_are_summed(profiler: CacheMemoryProfiler) -> None:
    """Entries, bytes and limits add up."""
    caches = [instrument(cachetools.LRUCache(10), name="c", profiler=profiler) for _ in range(3)]
    for cache in caches:
        fill(cache, 4)
    profile = profiler.get_cache_profile("c")
    assert (profile.instances, profile.current_entries, profile.max_entries) == (3, 12, 30.0)


# Questions


def test_unknown_caches_are_named_with_the_near_ones(profiler: CacheMemoryProfiler) -> None:
    """A typo is answered with what was meant."""
    instrument(cachetools.LRUCache(5), name="users", profiler=profiler)
    with pytest.raises(UnknownCacheError, match=r"'user'; did you mean 'users'"):
        profiler.get_cache_profile("user")
    with pytest.raises(UnknownCacheError, match="'nothing alike'; known caches: 'users'"):
        profiler.get_memory_hotspots("nothing alike")
    with pytest.raises(UnknownCacheError):
        profiler.stop_cache_profiling("nope")


def test_hotspots_by_pattern_are_exact_while_all_keys_are_followed(profiler: CacheMemoryProfiler) -> None:
    """Counts and bytes of two kinds of keys equal a naive sum."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)
    for i in range(300):
        cache[f"user:{i}:profile"] = bytes(1_000)
    for i in range(50):
        cache[f"page:{i}"] = bytes(10)
    for i in range(100):
        del cache[f"user:{i}:profile"]
    users, pages = profiler.get_memory_hotspots("c")
    assert (users.key_pattern, users.allocation_count, users.live_entries) == ("user:{int}:profile", 300, 200)
    entries = cache._Cache__data.items()
    assert users.live_bytes == sum(sys.getsizeof(k) + sys.getsizeof(v) for k, v in entries if k.startswith("user"))
    assert (pages.key_pattern, pages.allocation_count, pages.live_entries) == ("page:{int}", 50, 50)
    assert users.live_bytes_std_error == 0
    assert [spot.key_pattern for spot in profiler.get_memory_hotspots("c", min_allocations=51)] == [
        "user:{int}:profile"
    ]


def test_hotspots_by_site_name_the_line_that_set(profiler: CacheMemoryProfiler) -> None:
    """Two lines that fill one cache are told apart; removals come off the line that set."""
    cache = instrument(cachetools.LRUCache(1_000), name="c", profiler=profiler)
    for i in range(20):
        cache[f"a{i}"] = b"x" * 500
    for i in range(30):
        cache[f"b{i}"] = b"x" * 100
    for i in range(20):
        cache.pop(f"a{i}")
    spots = {spot.site: spot for spot in profiler.get_memory_hotspots("c", by="site")}
    here = test_hotspots_by_site_name_the_line_that_set.__code__
    first, second = sorted(spots.values(), key=lambda spot: spot.allocation_count)
    assert (first.allocation_count, first.live_bytes) == (20, 0)
    assert (second.allocation_count, second.live_entries) == (30, 30)
    assert all("test_profiler.py" in site and site.endswith(here.co_name) for site in spots if site)
    assert here.co_name in second.stack_trace[0]


def test_sites_below_detailed_are_refused_with_the_level_that_collects_them() -> None:
    """NotCollectedError says what to do."""
    with CacheMemoryProfiler(ProfilerConfig(level="basic")) as profiler:
        instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
        with pytest.raises(NotCollectedError, match="DETAILED"):
            profiler.get_memory_hotspots("c", by="site")
        profiler.raise_level("detailed")
        assert profiler.get_memory_hotspots("c", by="site") == []
        with pytest.raises(ValueError, match="'colour' is not allowed"):
            profiler.get_memory_hotspots("c", by="colour")


def test_recent_events_show_patterns_not_keys() -> None:
    """Keys stay in the process unless they are asked for."""
    for raw, expected in ((False, "user:{int}:profile"), (True, "'user:0:profile'")):
        with CacheMemoryProfiler(ProfilerConfig(raw_keys=raw)) as profiler:
            cache = instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
            fill(cache, 1)
            (event,) = profiler.get_cache_profile("c").events
            assert (event.key, event.event_type) == (expected, MemoryEventType.ALLOCATION)
            assert event.thread_id == threading.get_ident()


def test_results_become_json(profiler: CacheMemoryProfiler) -> None:
    """Every result has to_dict(), and it is JSON."""
    cache = instrument(cachetools.LRUCache(5), name="c", profiler=profiler)
    fill(cache, 12)
    report = json.loads(json.dumps(profiler.report().to_dict()))
    assert report["caches"][0]["cache_name"] == "c"
    assert report["caches"][0]["total_evictions"] == 7
    assert report["total_bytes"] == profiler.get_cache_profile("c").current_memory_bytes


@pytest.mark.parametrize(
    "make",
    [
        lambda i: {
            "id": i + 1_000,
            "name": f"user {i}",
            "tags": [f"a{i}", f"b{i}"],
            "home": {"street": f"s {i}", "city": "B"},
        },
        lambda i: {"id": i + 1_000, "name": f"user {i}"},
        lambda i: (i + 1_000, f"user {i}", i + 0.5),
        lambda i: json.loads(json.dumps([{"sku": f"s{i}{j}", "price": j + 0.5} for j in range(10)])),
    ],
    ids=["record", "small record", "tuple", "JSON"],
)
def test_live_bytes_are_those_that_tracemalloc_sees(make: Callable[[int], object]) -> None:
    """Within 5 %, also for records, whose keys are the program's own and freed by no cache; back to 0 after clear()."""
    count = 1_000
    gc.collect()
    tracemalloc.start()
    try:
        bare: dict[str, object] = cachetools.LRUCache(count)
        empty = tracemalloc.get_traced_memory()[0]
        for i in range(count):
            bare[f"item:{i}"] = make(i)
        gc.collect()
        truth = tracemalloc.get_traced_memory()[0] - empty
    finally:
        tracemalloc.stop()
    # Only now: what the profiler's own thread allocates is no part of the truth.
    with CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler:
        cache = instrument(cachetools.LRUCache(count), name="c", profiler=profiler)
        for i in range(count):
            cache[f"item:{i}"] = make(i)
        profile = profiler.get_cache_profile("c")
        assert profile.current_memory_bytes == pytest.approx(truth, rel=0.05)
        cache.clear()
        profile = profiler.get_cache_profile("c")
        assert profile.current_memory_bytes == profile.net_memory_bytes == 0


# Windows


def test_windows_over_a_cache_may_overlap(profiler: CacheMemoryProfiler) -> None:
    """Each counts from its own start, and keeps its own peak."""
    cache = instrument(cachetools.LRUCache(100), name="c", profiler=profiler)
    fill(cache, 10)
    outer = profiler.start_cache_profiling("c")
    fill(cache, 15)
    inner = profiler.start_cache_profiling("c")
    cache["a"] = b"x" * 3_000
    del cache["a"]
    newest = profiler.stop_cache_profiling("c")
    assert (newest.total_allocations, newest.total_deletions) == (1, 1)
    assert newest == inner.stop()
    cache["b"] = b"y" * 10
    whole = outer.stop()
    assert (whole.total_allocations, whole.total_resizes) == (7, 10)
    assert (
        whole.net_memory_bytes
        == whole.total_allocated_bytes + whole.total_resized_bytes - whole.total_deallocated_bytes
    )
    assert whole.peak_memory_bytes >= 3_000 > profiler.get_cache_profile("c").current_memory_bytes / 10
    with pytest.raises(ConfigurationError, match="no window over 'c' is open"):
        profiler.stop_cache_profiling("c")


# Manual caches


def test_manual_caches_obey_the_byte_law(profiler: CacheMemoryProfiler) -> None:
    """A second allocation resizes; the ledger's charge counts on removal; hits and misses are as said."""
    profiler.track_allocation("m", "key1", 1024)
    profiler.track_allocation("m", "key2", 100, metadata={"why": "test"})
    profiler.track_allocation("m", "key1", 2000)
    profiler.track_deallocation("m", "key1", 5)
    profiler.track_event("m", MemoryEventType.EVICTION, "key2", 100)
    profiler.track_hit("m", "key1")
    profiler.track_miss("m", "key2")
    profile = profiler.get_cache_profile("m")
    assert (profile.total_allocations, profile.total_resizes, profile.total_deallocations) == (2, 1, 2)
    assert (profile.total_allocated_bytes, profile.total_resized_bytes) == (1124, 976)
    assert profile.total_deallocated_bytes == 2100
    assert profile.net_memory_bytes == profile.current_memory_bytes == 0
    assert (profile.hits, profile.misses, profile.hit_ratio) == (1, 1, 0.5)
    assert profile.peak_memory_bytes == 2100


@pytest.mark.parametrize(
    ("key", "size"), [("k", -1), ("k", float("nan")), ("k", "big"), ("k", True), ([], 10), ({}, 10)]
)
def test_manual_calls_never_raise_on_data(profiler: CacheMemoryProfiler, key: object, size: object) -> None:
    """What can't be used is refused and counted."""
    profiler.track_allocation("m", key, size)  # type: ignore[arg-type]
    profiler.track_deallocation("m", "never there", 3)
    profiler.track_event("m", MemoryEventType.PRESSURE, "x", 0)
    assert profiler.get_cache_profile("m").total_allocations == 0
    faults = profiler.report().processes[0].faults
    assert any("refused" in fault for fault in faults)
    from cachescope.core import faults as counted

    counted.counts.clear()


# Captures


def test_a_capture_holds_what_the_profiler_knew(profiler: CacheMemoryProfiler, tmp_path: Path) -> None:
    """Read back and reported, the figures are the live ones."""
    cache = instrument(cachetools.LRUCache(50), name="c", profiler=profiler)
    fill(cache, 80)
    path = profiler.write_capture(tmp_path / "x.capture")
    again = report_of(Recording.from_dict(read_capture(path)))
    (live,), (read,) = profiler.report().caches, again.caches
    for field in (
        "total_allocations",
        "total_evictions",
        "net_memory_bytes",
        "current_memory_bytes",
        "current_entries",
    ):
        assert getattr(live, field) == getattr(read, field)
    assert [spot.live_bytes for spot in again.patterns] == [spot.live_bytes for spot in profiler.report().patterns]
    with pytest.raises(ConfigurationError, match="CACHESCOPE_OUTPUT"):
        profiler.write_capture()


def test_merging_captures_is_a_union(profiler: CacheMemoryProfiler, tmp_path: Path) -> None:
    """The same capture twice counts once; order doesn't matter."""
    cache = instrument(cachetools.LRUCache(50), name="c", profiler=profiler)
    fill(cache, 10)
    early = profiler.recording()
    fill(cache, 30)
    late = profiler.recording()
    with CacheMemoryProfiler() as other:
        small = instrument(cachetools.LRUCache(5), name="c", profiler=other)
        fill(small, 5)
        third = other.recording()
    a = report_of(early.merge(late).merge(third))
    b = report_of(third.merge(late.merge(early)).merge(Recording()))
    assert a.caches == b.caches
    assert a.caches[0].current_entries == 35


def run_python(code: str, *, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def captured(folder: Path) -> Recording:
    recording = Recording()
    for path in sorted(folder.glob("*.capture")):
        recording = recording.merge(Recording.from_dict(read_capture(path)))
    return recording


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_at_zero_and_inherited_bytes_count_once(tmp_path: Path) -> None:
    """Parent 100 entries; the child inherits them and adds 7: together 107, 107 allocations."""
    run_python(
        """
        import os, cachetools, cachescope
        p = cachescope.current_profiler(cachescope.ProfilerConfig(level="detailed"))
        cache = cachescope.instrument(cachetools.LRUCache(1000), name="c")
        for i in range(100): cache[f"user:{i}"] = bytes(200)
        if (pid := os.fork()) == 0:
            for i in range(100, 107): cache[f"user:{i}"] = bytes(200)
            own = p.get_cache_profile("c")
            assert own.total_allocations == 7, own
            assert own.current_entries == 107, own
            p.write_capture(os.environ["FOLDER"] + "/child.capture")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        p.write_capture(os.environ["FOLDER"] + "/parent.capture")
        """,
        FOLDER=str(tmp_path),
    )
    (cache,) = report_of(captured(tmp_path)).caches
    assert (cache.total_allocations, cache.current_entries) == (107, 107)
    entry = sys.getsizeof("user:50") + sys.getsizeof(bytes(200))
    assert abs(cache.current_memory_bytes - cache.container_bytes - 107 * entry) <= 107


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_write_their_captures(tmp_path: Path, method: str) -> None:
    """However they are started, children that end in order leave a capture each."""
    (tmp_path / "work.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, cachetools
            def job(n):
                cache = cachetools.LRUCache(10)
                for i in range(n): cache[f"k{i}"] = bytes(10)
            if __name__ == "__main__":
                context = multiprocessing.get_context(sys.argv[1])
                workers = [context.Process(target=job, args=(n,)) for n in (3, 5)]
                [w.start() for w in workers]; [w.join() for w in workers]
                assert [w.exitcode for w in workers] == [0, 0]
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "work.py", method],
        cwd=tmp_path,
        env={**os.environ, "CACHESCOPE": "1", "CACHESCOPE_OUTPUT": str(tmp_path / "x.{pid}.capture")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sum(cache.total_allocations for cache in report_of(captured(tmp_path)).caches) == 8


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL leaves the capture of the last flush."""
    done = run_python(
        """
        import os, signal, time, cachetools, cachescope
        cachescope.current_profiler()
        cache = cachescope.instrument(cachetools.LRUCache(100), name="c")
        for i in range(40): cache[i] = "x" * 50
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        check=False,
        CACHESCOPE_FLUSH_SECONDS="0.1",
        CACHESCOPE_OUTPUT=str(tmp_path / "x.{pid}.capture"),
    )
    assert done.returncode == -9
    (cache,) = report_of(captured(tmp_path)).caches
    assert cache.total_allocations == 40


# Manners


def test_importing_stays_light() -> None:
    """No cache library, no numpy, no rich, no click come with ``import cachescope``."""
    done = run_python("import cachescope, sys, json; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"cachetools", "numpy", "rich", "click", "redis", "pandas"}


def test_values_die_when_the_cache_lets_them_go(profiler: CacheMemoryProfiler) -> None:
    """Neither ledger nor events nor sizing keep a value, a key's holder or the cache."""

    class Value:
        pass

    cache = instrument(cachetools.LRUCache(2), name="c", profiler=profiler)
    values = [Value() for _ in range(5)]
    refs = [weakref.ref(value) for value in values]
    for i, value in enumerate(values):
        cache["k", i] = value
    del values, value
    assert [ref() is None for ref in refs] == [True, True, True, False, False]
    profiler.beat()
    holder = weakref.ref(cache)
    del cache
    assert holder() is None
    assert all(ref() is None for ref in refs)
    gc.collect()


def test_the_profiler_s_own_memory_is_bounded() -> None:
    """300,000 keys through a small followed set: what is followed stays below what was allowed."""
    with CacheMemoryProfiler(ProfilerConfig(followed_keys=2_000)) as profiler:
        cache = instrument(cachetools.LRUCache(50_000), name="c", profiler=profiler)
        for i in range(300_000):
            cache[f"user:{i}"] = b"x" * 10
            if i % 20_000 == 0:
                profiler.beat()
        profiler.beat()
        record = profiler.registry.records["c"]
        assert record.flow.lives_count <= 2_000
        assert len(cache._self_cachescope.followed) <= 2_500
        profile = profiler.get_cache_profile("c")
        assert profile.sampling_rate < 0.1
        (spot,) = profile.hotspots
        assert abs(spot.live_bytes - profile.net_memory_bytes) < 0.02 * profile.net_memory_bytes
        assert spot.live_bytes_std_error >= 0
        assert profiler.report().processes[0].profiler_bytes < 16 << 20


def test_version_is_the_distribution_s() -> None:
    """__version__ equals what is installed."""
    import importlib.metadata

    assert cachescope.__version__ == importlib.metadata.version("cachescope")


@pytest.mark.parametrize("name", [None, 5, [], b"users", ("users",)])
def test_what_is_no_name_is_an_unknown_cache(profiler: CacheMemoryProfiler, name: object) -> None:
    """It is said as for any other; a window, which would make a manual cache, says what a name is."""
    profiler.track_allocation("users", "key", 1)
    for ask in (profiler.get_cache_profile, profiler.stop_cache_profiling):
        with pytest.raises(UnknownCacheError, match="known caches: 'users'"):
            ask(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a non-empty str"):
        profiler.start_cache_profiling(name)  # type: ignore[arg-type]


def test_a_level_in_place_of_a_config_is_refused_also_when_one_runs() -> None:
    """Elsewhere a level's name is enough."""
    with current_profiler(), pytest.raises(ConfigurationError, match="expected a ProfilerConfig or None"):
        current_profiler("detailed")  # type: ignore[arg-type]


def test_objects_that_went_cost_no_memory_when_nobody_asks() -> None:
    """A cache for each request, in a service that nobody asks for figures."""
    with CacheMemoryProfiler() as profiler:

        def request() -> None:
            instrument(cachetools.LRUCache(4), name="per request", profiler=profiler)["key"] = object()

        def held() -> int:
            gc.collect()
            profiler.beat()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        for _ in range(100):
            request()
        tracemalloc.start()
        try:
            before = held()
            for _ in range(2_000):
                request()
            grown = held() - before
        finally:
            tracemalloc.stop()
        assert grown < 200_000
        profile = profiler.get_cache_profile("per request")
        assert (profile.total_allocations, profile.instances_total, profile.current_entries) == (2_100, 2_100, 0)


@pytest.mark.parametrize("how", ["in place", "proxy"])
def test_the_classes_made_for_a_private_profiler_go_with_it(how: str) -> None:
    """As in a test suite that makes one for each test."""

    class Cache(cachetools.LRUCache):  # type: ignore[type-arg]
        """A class that nobody else has made a subclass of."""

    made: list[weakref.ref[type]] = []
    for _ in range(3):
        with CacheMemoryProfiler() as profiler:
            made.append(weakref.ref(type(instrument(Cache(4), how=how, profiler=profiler))))
        del profiler
    gc.collect()
    assert [ref() for ref in made] == [None, None, None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_window_over_a_fork_counts_what_the_child_did(profiler: CacheMemoryProfiler) -> None:
    """Not that less what the parent had done before."""
    cache = instrument(cachetools.LRUCache(100), name="forked", profiler=profiler)
    fill(cache, 50)
    window = profiler.start_cache_profiling("forked")
    fill(cache, 60)
    if (pid := os.fork()) == 0:
        try:
            fill(cache, 65)
            found = window.stop()
            os._exit(0 if (found.total_allocations, found.total_resizes) == (5, 60) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert window.stop().total_allocations == 10


def test_a_weight_that_no_machine_has_is_refused_and_spoils_no_report(profiler: CacheMemoryProfiler) -> None:
    """It is finite, and not negative."""
    cache = instrument(cachetools.LRUCache(4), name="heavy", weigher=lambda *_: 10**400, profiler=profiler)
    cache["key"] = b"x" * 100
    assert 100 < profiler.get_cache_profile("heavy").net_memory_bytes < 1_000
    assert profiler.report().total_bytes < 10_000
