"""Lives: sizes, ages and use of entries of real caches, against a log of everything that happened to them."""

from __future__ import annotations

import gc
import random
import time
from types import SimpleNamespace

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, autopatch, instrument, unpatch
from cachescope.core import closeup
from cachescope.core import record as record_module
from cachescope.core import state as state_module
from cachescope.core.analysis.lives import Lives
from cachescope.testing import FakeClock


@pytest.fixture
def clock(monkeypatch):
    """The clock by which lives are told; it moves when a test says so."""
    clock = FakeClock(start_ns=10**12)
    monkeypatch.setattr(state_module, "_monotonic", clock)
    monkeypatch.setattr(closeup, "monotonic", clock)
    monkeypatch.setattr(record_module, "time", SimpleNamespace(monotonic=clock, time=time.time))
    return clock


@pytest.fixture
def profiler():
    """One that looks closely, and folds only when it is asked to."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=60.0)) as profiler:
        yield profiler


class Own:
    """A home-made cache."""

    def __init__(self):
        self._data = {}

    def __getitem__(self, key):
        return self._data[key]

    def __setitem__(self, key, value):
        self._data[key] = value

    def __delitem__(self, key):
        del self._data[key]

    def clear(self):
        self._data.clear()


class Log:
    """What is in a cache and what became of it, kept in full."""

    def __init__(self, clock):
        self.clock = clock
        self.since = clock()  # when the watch began
        self.held = {}
        self.useful = self.wasted = 0.0
        self.ages, self.sizes = [], []
        self.wonders = self.lives = 0

    def set(self, key, size):
        if key in self.held:
            self._settle(key)
        self.held[key] = [size, self.clock(), None]
        self.sizes.append(size)

    def hit(self, key):
        self.held[key][2] = self.clock()

    def _settle(self, key):
        size, born, read = self.held.pop(key)
        since = max(born, self.since)
        last = since if read is None else max(read, since)
        self.useful += size * (last - since)
        self.wasted += size * (self.clock() - last)
        return born, read

    def gone(self, key, cause):
        born, read = self._settle(key)
        self.ages.append((cause, self.clock() - born))
        if born >= self.since:
            self.lives += 1
            self.wonders += read is None


def compare(lives, log):
    """All that the fold says is what the log says."""
    assert lives.useful == pytest.approx(log.useful)
    assert lives.wasted == pytest.approx(log.wasted)
    assert (lives.watched_lives, lives.wonders) == (log.lives, log.wonders)
    assert (lives.sizes.count, lives.sizes.total) == (len(log.sizes), sum(log.sizes))
    for cause in ("deleted", "evicted", "expired", "cleared"):
        ages = sorted(age for why, age in log.ages if why == cause)
        found = lives.ages.get(cause)
        assert (0 if found is None else found.count) == len(ages)
        if ages:
            assert (found.minimum, found.maximum) == pytest.approx((ages[0], ages[-1]))
            assert found.total == pytest.approx(sum(ages))


def lives_of(profiler, name):
    profiler.registry.fold()
    return profiler.registry.records[name].flow.windows.all().lives


def size_of(value):
    return value.__sizeof__()


def drive(cache, clock, log, seed, steps=1_500):
    """Sets, replacements, reads, deletes and clears at random moments."""
    rng = random.Random(seed)
    for step in range(steps):
        clock.advance(rng.random())
        key, roll = f"k{rng.randrange(40)}", rng.random()
        if roll < 0.4:
            value = "v" * rng.randrange(2, 200)  # no text of one character: those are one object, charged once
            cache[key] = value
            log.set(key, size_of(value) + size_of(key))
            if isinstance(cache, cachetools.Cache):
                for gone in log.held.keys() - set(cache):
                    log.gone(gone, "evicted")
        elif roll < 0.85:
            try:
                cache[key]
            except KeyError:
                assert key not in log.held
            else:
                log.hit(key)
        elif roll < 0.99:
            if key in log.held:
                del cache[key]
                log.gone(key, "deleted")
        elif step % 3 == 0:
            cache.clear()
            for one in list(log.held):
                log.gone(one, "cleared")


@pytest.mark.parametrize("make", [lambda: cachetools.LRUCache(15), dict, Own], ids=["cachetools", "dict", "own"])
def test_a_watched_cache_is_told_as_a_full_log_tells_it(profiler, clock, make):
    """Efficiency, one-hit wonders, ages by cause and sizes, over sets, replacements, reads, deletes, evictions, clears."""
    cache = instrument(make(), name="watched", profiler=profiler)
    profiler.registry.records["watched"].watch()
    log = Log(clock)
    drive(cache, clock, log, seed=1)
    compare(lives_of(profiler, "watched"), log)
    assert log.lives > 100


def test_a_cache_under_autopatch_is_told_as_a_full_log_tells_it(profiler, clock):
    """By hooks on the class, spliced into the library's methods."""
    autopatch("cachetools", profiler=profiler)
    try:
        cache = cachetools.LRUCache(15)
        cache["k"] = "v"
        del cache["k"]
        (record,) = profiler.registry.records.values()
        profiler.registry.fold()
        before = lives_of(profiler, record.name).sizes.count
        record.watch()
        log = Log(clock)
        drive(cache, clock, log, seed=2)
        lives = lives_of(profiler, record.name)  # before the cache is let go, which ends them all
    finally:
        unpatch("cachetools")
    assert (lives.useful, lives.wasted) == pytest.approx((log.useful, log.wasted))
    assert (lives.watched_lives, lives.wonders) == (log.lives, log.wonders)
    assert lives.sizes.count == len(log.sizes) + before


def test_entries_of_a_ttl_cache_expire(profiler, clock):
    """By the cache's own timer: the age is that of the moment when the cache let go of it."""
    timer = FakeClock()
    cache = instrument(cachetools.TTLCache(100, ttl=10.0, timer=timer), name="ttl", profiler=profiler)
    profiler.registry.records["ttl"].watch()
    log = Log(clock)
    for number in range(50):
        key, value = f"k{number}", "v" * number
        cache[key] = value
        log.set(key, size_of(value) + size_of(key))
        if number % 2:
            clock.advance(0.5)
            assert cache[key] == value
            log.hit(key)
        clock.advance(1.0)
    timer.advance(11.0)
    cache.expire()
    for key in list(log.held):
        log.gone(key, "expired")
    compare(lives_of(profiler, "ttl"), log)
    assert lives_of(profiler, "ttl").wonder_ratios()[0] == 0.5


def test_an_object_that_dies_takes_its_entries_along(profiler, clock):
    """They are gone at the moment when it goes, as if it had been cleared."""
    cache = instrument(Own(), name="short", profiler=profiler)
    profiler.registry.records["short"].watch()
    log = Log(clock)
    drive(cache, clock, log, seed=3, steps=50)
    clock.advance(7.0)
    for key in list(log.held):
        log.gone(key, "cleared")
    del cache
    gc.collect()
    compare(lives_of(profiler, "short"), log)


def test_a_renamed_cache_goes_on_being_watched_by_its_new_name(profiler, clock):
    """Entries set before belong to the new name when they leave; nothing stays armed that nobody will disarm."""
    cache = instrument(cachetools.LRUCache(50), name="before", profiler=profiler)
    profiler.registry.records["before"].watch()
    (state,) = profiler.registry.records["before"].live_states()
    log = Log(clock)
    cache["a"] = "x" * 100
    log.set("a", size_of("x" * 100) + size_of("a"))
    clock.advance(5.0)
    profiler.registry.rename(state, "after")
    assert state.armed == 0
    clock.advance(5.0)
    del cache["a"]
    log.gone("a", "deleted")
    lives = lives_of(profiler, "after")
    assert lives.ages["deleted"].maximum == pytest.approx(10.0)


def test_keys_and_values_are_told_apart(profiler):
    """Bytes of keys per byte of values, of the entries whose keys can be measured."""
    cache = instrument(cachetools.LRUCache(500), name="ratio", profiler=profiler)
    keys = values = 0
    for number in range(300):
        key, value = f"key:{number}" * (1 + number % 5), "v" * number
        cache[key] = value
        keys, values = keys + size_of(key), values + size_of(value)
    lives = lives_of(profiler, "ratio")
    assert lives.key_to_value_ratio() == pytest.approx(keys / values)


def test_watched_for_a_part_of_the_time_the_efficiency_is_within_its_error(profiler, clock):
    """What was held outside of a watch is left out; what was open at its end is in the stated error."""
    cache = instrument(cachetools.LRUCache(30), name="part", profiler=profiler)
    record = profiler.registry.records["part"]
    rng = random.Random(4)
    log = Log(clock)
    for turn in range(60):
        profiler.registry.fold()
        if turn % 3 == 0:
            record.watch()
        elif turn % 3 == 2:
            record.unwatch()
        for _ in range(60):
            clock.advance(rng.random())
            key = f"k{min(int(rng.paretovariate(0.7)), 200)}"
            if key in cache:
                cache[key]
                log.hit(key)
            else:
                before = set(cache)
                cache[key] = "v" * 50
                log.set(key, 100)
                for gone in before - set(cache):
                    log.gone(gone, "evicted")
    for key in list(log.held):
        log.gone(key, "cleared")
    ratio, error = lives_of(profiler, "part").efficiency()
    truth = log.useful / (log.useful + log.wasted)
    assert abs(ratio - truth) <= error
    assert error < 0.4


def test_what_is_held_now_counts_up_to_its_last_read(profiler, clock):
    """While a watch goes on, the figures are those of this moment; asking changes nothing."""
    cache = instrument(cachetools.LRUCache(30), name="now", profiler=profiler)
    record = profiler.registry.records["now"]
    record.watch()
    cache["a"], cache["b"] = "x" * 10, "y" * 10
    clock.advance(6.0)
    cache["a"]
    clock.advance(4.0)
    profiler.registry.fold()
    for _ in range(2):
        lives = record.use_so_far()
        assert lives.useful / (lives.useful + lives.wasted) == pytest.approx(0.3)
        assert lives.watched_seconds == pytest.approx(10.0)
    record.unwatch()
    lives = lives_of(profiler, "now")
    assert lives.efficiency() == (None, 0.0)  # nearly all of it is open
    assert lives.open == pytest.approx(lives.useful * 14.0 / 6.0)


def test_a_read_from_before_an_entry_does_not_count_for_it(profiler, clock):
    """Another thread may tell of a read of an entry that has left meanwhile; the next one of that key was not read."""
    cache = instrument(cachetools.LRUCache(30), name="late", profiler=profiler)
    record = profiler.registry.records["late"]
    record.watch()
    (state,) = record.live_states()
    state.reads[hash("a")] = clock()
    clock.advance(1.0)
    cache["a"] = "x"
    clock.advance(1.0)
    del cache["a"]
    lives = lives_of(profiler, "late")
    assert (lives.wonders, lives.useful) == (1, 0.0)


def test_a_clock_that_goes_back_gives_no_negative_age():
    """Threads hand in their events a little late."""
    fold = Lives()
    fold.ended(0, -3.0, 1.0)
    fold.held(100.0, 5.0, 0.0, 4.0)
    fold.left_open(100.0, 5.0, 0.0, 4.0)
    assert (fold.ages["deleted"].maximum, fold.wasted, fold.open) == (0.0, 0.0, 0.0)


def test_few_lives_are_not_enough_to_say():
    """Below thirty there is no share; from there on it has an error."""
    fold = Lives()
    assert fold.wonder_ratios() == (None, None, 0.0)
    assert fold.efficiency() == (None, 0.0)
    assert fold.key_to_value_ratio() is None
    for number in range(30):
        fold.lived(100, number % 3 > 0, 2.0)
    share, by_bytes, error = fold.wonder_ratios()
    assert (share, by_bytes) == pytest.approx((1 / 3, 1 / 3))
    assert error == pytest.approx((2 / 9 / 30) ** 0.5)
