"""cachetools: the suite that every adapter must pass, and random operations on all its versions against an oracle."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import cachetools
import pytest

from adapters import fuzz_cachetools
from adapters.cache_classes import Subclass, first, five_seconds, size_of
from cachescope import CacheMemoryProfiler, ProfilerConfig, autopatch, instrument, uninstrument
from cachescope.core.state import COUNTERS
from cachescope.testing import AdapterConformance, FakeClock


class Cachetools(AdapterConformance):
    library = "cachetools"
    exempt: ClassVar = {
        "test_an_attribute_dict_that_is_copied_over_brings_no_state_along[class patch]": (
            "the deletes of a clone that was made past __copy__ count for the original until another operation has met "
            "it; telling whose state it is would cost every delete and eviction"
        )
    }


class TestLRUCache(Cachetools):
    fresh = ("import cachetools", "cachetools.LRUCache(8)")

    def make_cache(self):
        return cachetools.LRUCache(8)


class TestFIFOCache(Cachetools):
    fresh = ("from cachetools import FIFOCache", "FIFOCache(8)")

    def make_cache(self):
        return cachetools.FIFOCache(8)


class TestLFUCache(Cachetools):
    fresh = ("from cachetools import LFUCache as Chosen", "Chosen(8)")

    def make_cache(self):
        return cachetools.LFUCache(8)


class TestRRCache(Cachetools):
    fresh = ("from cachetools import *", "RRCache(8)")

    def make_cache(self):
        return cachetools.RRCache(8, choice=first)


class TestCache(Cachetools):
    fresh = ("import cachetools as c", "c.Cache(8)")

    def make_cache(self):
        return cachetools.Cache(8)


CLOCK = FakeClock(start_ns=10**9)


class TestTTLCache(Cachetools):
    fresh = ("from cachetools import TTLCache", "TTLCache(8, 60)")
    supports_ttl = True

    def make_cache(self):
        return cachetools.TTLCache(8, 5, timer=CLOCK)

    def make_picklable(self):
        return cachetools.TTLCache(8, 500)

    def later(self):
        CLOCK.advance(5)


class TestTLRUCache(Cachetools):
    fresh = ("import cachetools", "cachetools.TLRUCache(8, lambda key, value, now: now + 60)")
    supports_ttl = True

    def make_cache(self):
        return cachetools.TLRUCache(8, five_seconds, timer=CLOCK)

    def make_picklable(self):
        return cachetools.TLRUCache(8, five_seconds)

    def later(self):
        CLOCK.advance(5)


class TestSubclass(Cachetools):
    exempt: ClassVar = {}  # an overriding method asks whose state it is
    fresh = ("import cachetools", "cachetools.LRUCache(8)")

    def make_cache(self):
        return Subclass(8)


class TestWeighed(Cachetools):
    fresh = ("import cachetools", "cachetools.LRUCache(800, len)")

    def make_cache(self):
        return cachetools.LRUCache(400, getsizeof=size_of)


# Random operations

VERSIONS = ("5.5.2", "6.2.4", "7.0.0", "8.0.1")
HOWS = ("in place", "proxy", "class patch")
FUZZ = Path(fuzz_cachetools.__file__)


@pytest.fixture(scope="session")
def library(request, tmp_path_factory):
    """Gives the folder of a version of cachetools; installed once, by pip, into pytest's cache."""

    def folder_of(version):
        target = request.config.cache.mkdir("cachetools") / version
        if not (target / "cachetools" / "__init__.py").exists():
            fresh = tmp_path_factory.mktemp("cachetools")
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--no-deps",
                    "--target",
                    fresh,
                    f"cachetools=={version}",
                ],
                check=True,
                capture_output=True,
            )
            with contextlib.suppress(OSError):  # another worker has been quicker
                fresh.rename(target)
        return target

    return folder_of


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("version", VERSIONS)
def test_random_operations_are_those_of_a_bare_twin_and_counted_as_the_oracle_says(library, version, seed, tmp_path):
    """2,000 operations on each kind, each way, each seed: no result, no entry, no counter and no byte differs."""
    folder = library(version)
    options = [option for how in HOWS for option in ("--how", how)]
    path = [folder, FUZZ.parents[2] / "src", FUZZ.parents[1]]
    ran = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            FUZZ,
            *options,
            "--operations",
            "2000",
            "--seed",
            str(seed),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ran.stderr == ""
    told = json.loads(ran.stdout)
    assert told["version"] == version
    assert ("MRUCache" in told["kinds"]) == version.startswith("5.")
    assert len(told["kinds"]) >= 18
    assert told["mismatches"] == []


# What is particular to cachetools


@pytest.fixture
def profiler():
    with CacheMemoryProfiler(ProfilerConfig(sizing_budget=1.0)) as profiler:
        yield profiler


def counted(cache):
    return SimpleNamespace(**dict(zip(COUNTERS, cache._self_cachescope.counters(), strict=True)))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("lock", [None, threading.RLock()])
@pytest.mark.parametrize("condition", [None, threading.Condition()])
def test_a_memoised_call_is_one_lookup(profiler, how, lock, condition):
    if lock is not None and condition is not None:
        pytest.skip("a condition is a lock")
    cache = cachetools.LRUCache(2)
    patch = autopatch("cachetools", profiler=profiler) if how == "class patch" else None
    watched = cache if patch else instrument(cache, how=how, profiler=profiler)

    @cachetools.cached(watched, lock=lock, condition=condition)
    def square(number):
        return f"{number * number}"

    assert [square(n) for n in (1, 1, 2, 3, 1)] == ["1", "1", "4", "9", "1"]
    s = counted(watched)
    assert (s.hits, s.misses, s.sets, s.evictions) == (1, 4, 4, 2)
    if patch:
        patch.undo()


def test_looking_at_a_ttl_cache_doesnt_expire_its_entries(profiler):
    clock = FakeClock()
    cache = instrument(cachetools.TTLCache(8, 5, timer=clock), name="ttl", profiler=profiler)
    cache["a"] = "1"
    clock.advance(9)
    profiler.report()
    assert profiler.get_cache_profile("ttl").current_entries == 1
    assert list(cache._Cache__data) == ["a"]
    assert len(cache) == 0
    profile = profiler.get_cache_profile("ttl")
    assert (profile.current_entries, profile.total_expirations, profile.total_evictions) == (0, 1, 0)


@pytest.mark.parametrize("how", HOWS)
def test_an_entry_leaves_by_another_key_that_is_equal_with_all_its_bytes(profiler, how):
    class Colour(enum.StrEnum):
        RED = "red"

    patch = autopatch("cachetools", profiler=profiler) if how == "class patch" else None
    bare = cachetools.LRUCache(8)
    cache = bare if patch else instrument(bare, how=how, profiler=profiler)
    for set_by, left_by in (
        (10**6, 1e6),
        (1e6, 10**6),
        ("red", Colour.RED),
        (Colour.RED, "red"),
        (1, True),
        (b"b", b"b"),
    ):
        cache[set_by] = "value"
        del cache[left_by]
        assert counted(cache).live_bytes == 0
    if patch:
        patch.undo()


def test_a_cache_that_a_class_patch_has_hooked_can_be_instrumented_too(profiler):
    cache = cachetools.LRUCache(2)
    with autopatch("cachetools", profiler=profiler):
        assert instrument(cache, name="both", profiler=profiler) is cache
        for number in range(3):
            cache[number] = "x"
        cache.get(2)
        cache.pop(2)
        s = counted(cache)
        assert (s.sets, s.evictions, s.hits, s.misses, s.deletes) == (3, 1, 2, 0, 1)
    uninstrument(cache)


def test_a_value_that_is_too_large_leaves_all_as_it_was(profiler):
    cache = instrument(cachetools.LRUCache(5, getsizeof=len), name="small", profiler=profiler)
    cache["a"] = "12345"
    before = cache._self_cachescope.counters()
    for key in ("a", "b"):
        with pytest.raises(ValueError, match="too large"):
            cache[key] = "123456"
    assert cache._self_cachescope.counters() == before
    assert cache["a"] == "12345"
