"""Following events: cells and lives against a naive model that keeps a full log, and what thinning makes of them."""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections import defaultdict
from types import SimpleNamespace

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument
from cachescope.core import batch as b
from cachescope.core.batch import Batch, PatternText
from cachescope.core.closeup import SAMPLED, SCOPED, TIMING, WATCHED
from cachescope.core.filters import Filters
from cachescope.core.flow import (
    ALLOCATIONS,
    BYTES,
    CHURNED,
    HITS,
    LAST,
    LIVE_BYTES,
    LIVE_N,
    LIVE_SQUARES,
    MISSES,
    SITE,
    TOLD_ALLOCATIONS,
)
from cachescope.core.following import drain
from cachescope.core.record import CacheRecord

EVERYTHING = Filters(ProfilerConfig())


def record_of(**settings):
    return CacheRecord(
        "users", kind="dict", where="", view=None, batch=Batch(), config=ProfilerConfig(**settings), listed=True
    )


def events_of(n, seed, serials=(1, 2, 3)):
    """Random events: of known and unknown entries, clears, deaths, reads, and an object that nobody knows."""
    rng = random.Random(seed)
    keys = [*(f"user:{n}" for n in range(300)), *range(200), *((n, "x") for n in range(100)), PatternText("<Key>")]
    alive = list(serials)
    for at in range(n):
        roll = rng.random()
        serial = rng.choice(alive) if rng.random() < 0.99 else 999
        key = rng.choice(keys)
        held, size = hash(key), rng.randrange(1, 5_000)
        site, thread, now = rng.randrange(1, 4), 7, float(at)
        if roll < 0.45:
            yield (b.SET, serial, held, key, size, site, thread, now, 0)
        elif roll < 0.6:
            yield (b.REPLACED, serial, held, key, size, site, thread, now, 0.0)
        elif roll < 0.85:
            yield (rng.randrange(4), serial, held, None, size, 0, thread, now, 0.0)
        elif roll < 0.999:
            yield (rng.choice((b.READ_HIT, b.READ_MISS)), serial, held, key, 0, site, thread, now, 0)
        elif roll < 0.9998 or len(alive) == 1:
            yield (b.CLEARED, serial, 0, None, size, 0, thread, now, {})
        elif serial in alive:
            alive.remove(serial)
            yield (b.DIED, serial, 0, None, 0, 0, 0, now, {})


class Naive:
    """Who is there, what was allocated and what is gone, by call site."""

    def __init__(self):
        self.lives = {}
        self.dead = set()
        self.allocations, self.allocated, self.churned = defaultdict(int), defaultdict(int), defaultdict(int)
        self.hits, self.misses = defaultdict(int), defaultdict(int)

    def gone(self, place):
        site, size = self.lives.pop(place, (0, 0))
        self.churned[site] += size

    def follow(self, event):
        kind, serial, held, _, size, site, _, _, more = event
        if serial == 999 or serial in self.dead:
            return
        if kind in (b.SET, b.REPLACED):
            self.gone((serial, held))
            self.lives[serial, held] = (site, size)
            self.allocations[site] += 1
            self.allocated[site] += size
        elif kind in (b.READ_HIT, b.READ_MISS):
            (self.hits if kind == b.READ_HIT else self.misses)[site] += 1
        elif kind == b.DIED or (kind == b.CLEARED and type(more) is dict):
            for place in [place for place in self.lives if place[0] == serial]:
                self.gone(place)
            if kind == b.DIED:
                self.dead.add(serial)
        else:
            self.gone((serial, held))

    def live(self, site):
        return sum(size for at, size in self.lives.values() if at == site)


def test_two_hundred_thousand_events_give_what_a_naive_model_gives():
    """Live bytes and counts, allocations and what churned, of every line, after each of twenty drains."""
    record, naive = record_of(), Naive()
    records = dict.fromkeys((1, 2, 3), record)
    waiting = []
    for at, event in enumerate(events_of(200_000, seed=3), 1):
        waiting.append(event)
        naive.follow(event)
        if at % 10_000 == 0:
            drain(waiting, records, time.time(), EVERYTHING)
            waiting = []
            record.flow.close_bucket(time.monotonic())
    drain(waiting, records, time.time(), EVERYTHING)
    sums = defaultdict(lambda: defaultdict(float))
    for cell in record.flow.cells.values():
        for column in (ALLOCATIONS, BYTES, CHURNED, LIVE_N, LIVE_BYTES, LIVE_SQUARES, HITS, MISSES):
            sums[cell[SITE]][column] += cell[column]
    for site in (1, 2, 3):
        here = [size for at, size in naive.lives.values() if at == site]
        assert sums[site] == {
            ALLOCATIONS: naive.allocations[site],
            BYTES: naive.allocated[site],
            CHURNED: naive.churned[site],
            LIVE_N: len(here),
            LIVE_BYTES: sum(here),
            LIVE_SQUARES: sum(size * size for size in here),
            HITS: naive.hits[site],
            MISSES: naive.misses[site],
        }
    assert record.flow.lives_count == len(naive.lives)
    assert set(records) == {1, 2, 3} - naive.dead


def test_the_buckets_hold_what_the_cells_took_up():
    """What each place took up over all time is the sum over the buckets and what is not told yet."""
    record = record_of()
    records = dict.fromkeys((1, 2, 3), record)
    events = list(events_of(5_000, seed=4))
    for at in range(0, len(events), 500):
        drain(events[at : at + 500], records, time.time(), EVERYTHING)
        if at != 4_500:
            record.flow.close_bucket(time.monotonic())
    spots, begins = record.flow.spots_since(0.0)
    assert begins == record.flow.windows.began
    assert spots == {
        place: [cell[ALLOCATIONS], cell[BYTES], cell[CHURNED]]
        for place, cell in record.flow.cells.items()
        if place in spots
    }
    assert sum(row[0] for row in spots.values()) == sum(cell[ALLOCATIONS] for cell in record.flow.cells.values())


@pytest.mark.parametrize("key", [0, "", False], ids=repr)
def test_a_key_whose_hash_is_zero_is_one_among_others(key):
    """Its removal by a clear is no clear of everything."""
    record = record_of()
    events = [
        (b.SET, 1, hash(key), key, 100, 1, 7, 1.0, 0),
        (b.SET, 1, 12, "other", 50, 1, 7, 1.0, 0),
        (b.CLEARED, 1, hash(key), None, 100, 0, 7, 2.0, 0.0),
    ]
    drain(events, {1: record}, time.time(), EVERYTHING)
    assert record.flow.lives_count == 1
    assert [cell[LIVE_BYTES] for cell in record.flow.cells.values() if cell[LIVE_N]][-1] == 50


def test_two_keys_with_one_hash_leave_nothing_behind():
    """-1 and -2 have the same: the later one is followed, and no bytes stay when both have gone."""
    with CacheMemoryProfiler() as profiler:
        cache = instrument(cachetools.LRUCache(8), name="twins", profiler=profiler)
        cache[-1], cache[-2] = "a" * 100, "b" * 200
        del cache[-2]
        del cache[-1]
        profiler.registry.fold()
        flow = profiler.registry.records["twins"].flow
        assert flow.lives_count == 0
        assert all(cell[LIVE_N] == cell[LIVE_BYTES] == 0 for cell in flow.cells.values())


def test_entries_that_are_filtered_out_are_not_followed_whatever_becomes_of_them():
    """A large one that is replaced by a small one is gone; the small one is no hotspot; and the other way around."""
    record = record_of(min_size_bytes=100)
    filters = Filters(ProfilerConfig(min_size_bytes=100))
    drain([(b.SET, 1, 5, "k", 50, 1, 7, 1.0, 0)], {1: record}, time.time(), filters)
    assert record.flow.lives_count == 0
    drain([(b.REPLACED, 1, 5, "k", 500, 1, 7, 2.0, 0.0)], {1: record}, time.time(), filters)
    assert [cell[LIVE_BYTES] for cell in record.flow.cells.values()] == [500]
    drain([(b.REPLACED, 1, 5, "k", 50, 1, 7, 3.0, 0.0)], {1: record}, time.time(), filters)
    (cell,) = record.flow.cells.values()
    assert (cell[LIVE_N], cell[LIVE_BYTES], cell[CHURNED]) == (0, 0, 500)


def test_patterns_that_are_filtered_out_have_no_cell():
    """Only what is listed is told apart."""
    record = record_of()
    filters = Filters(ProfilerConfig(include_patterns=("user:*",)))
    events = [
        (b.SET, 1, hash(key), key, 100, 1, 7, 1.0, 0)
        for key in (f"{what}:{number}" for what in ("user", "session") for number in range(50))
    ]
    drain(events, {1: record}, time.time(), filters)
    assert record.flow.lives_count == 50


def thinned_totals(seed):
    """(estimate of live bytes, of churned bytes) after three thinnings, of caches of 4,000 entries."""
    record = record_of()
    state = SimpleNamespace(serial=1, share=1.0, followed=set(), followed_hashes=set(), reads={})
    record.live_states = lambda: [state]
    random.seed(seed)  # by which lives are drawn
    rng = random.Random(seed)
    followed, sizes, now = state.followed_hashes, {}, 0.0
    truth_churned = 0
    for turn in range(4):
        events = []
        for number in range(turn * 1_000, turn * 1_000 + 1_000):
            key = rng.getrandbits(60)
            sizes[key] = 100 + number % 900
            if rng.random() < record.share:
                followed.add(key)
                events.append((b.SET, 1, key, key, sizes[key], 1, 7, now, 0))
        for key in rng.sample(sorted(sizes), 300):
            truth_churned += sizes.pop(key)
            if key in followed:
                followed.discard(key)
                events.append((b.DELETED, 1, key, None, 0, 0, 7, now, 0.0))
        drain(events, {1: record}, time.time(), EVERYTHING)
        if turn < 3:
            record.thin(0.5)
    cell = record.flow.hotspots(None).grouped(0).values()
    live, churned = sum(one.live_bytes for one in cell), sum(one.churned_bytes for one in cell)
    error = sum(one.live_variance for one in cell) ** 0.5
    return live / sum(sizes.values()), churned / truth_churned, error / sum(sizes.values())


def test_thinning_keeps_estimates_unbiased_and_within_their_error():
    """Over 40 caches the mean is the truth within three standard errors of a mean, and 9 of 10 are within two of theirs."""
    rows = [thinned_totals(seed) for seed in range(40)]
    for column in (0, 1):
        values = [row[column] for row in rows]
        assert abs(statistics.mean(values) - 1.0) <= 3 * statistics.stdev(values) / len(values) ** 0.5
    assert sum(abs(live - 1.0) <= 2 * error for live, _, error in rows) >= 35


def test_what_is_set_while_a_cache_is_thinned_out_is_followed_to_its_end():
    """A set that waits in the batch has no life yet: its key stays followed, so that its removal will be seen."""
    with CacheMemoryProfiler(ProfilerConfig(tick_seconds=60.0)) as profiler:
        cache = instrument(cachetools.LRUCache(1_000), name="busy", profiler=profiler)
        record = profiler.registry.records["busy"]
        for number in range(200):
            cache[f"k{number}"] = "x"
        profiler.registry.fold()
        for number in range(200, 400):
            cache[f"k{number}"], cache[number] = "x", "y"  # between the fold and the thinning
        record.thin(0.5)
        cache.clear()
        for number in range(100):
            cache[number] = "y"
        for key in list(cache):
            del cache[key]
        profiler.registry.fold()
        assert record.flow.lives_count == 0


def test_single_removals_after_thinning_end_every_life():
    """No life stays that nobody will end."""
    with CacheMemoryProfiler(ProfilerConfig(tick_seconds=60.0)) as profiler:
        cache = instrument(cachetools.LRUCache(1_000), name="busy", profiler=profiler)
        record = profiler.registry.records["busy"]
        for number in range(200):
            cache[f"k{number}"] = "x"
        profiler.registry.fold()
        for number in range(200, 400):
            cache[f"k{number}"], cache[number] = "x", "y"
        record.thin(0.5)
        profiler.registry.fold()
        assert 400 < record.flow.lives_count < 600
        for key in list(cache):
            del cache[key]
        profiler.registry.fold()
        assert record.flow.lives_count == 0


def test_an_object_that_dies_ends_its_lives_even_when_the_batch_is_full():
    """Nothing else would: its entries' bytes would stay for ever."""
    with CacheMemoryProfiler(ProfilerConfig(tick_seconds=60.0)) as profiler:
        cache = instrument(cachetools.LRUCache(10), name="short", profiler=profiler)
        cache["a"] = "x"
        profiler.registry.fold()
        registry = profiler.registry
        registry.batch.limit = 0
        serial = cache._self_cachescope.serial
        del cache
        gc.collect()
        registry.fold()
        assert serial not in registry.by_serial
        assert registry.records["short"].flow.lives_count == 0


def test_recent_events_hold_no_large_key_even_when_keys_may_be_shown():
    """A key of a megabyte is shown by its pattern."""
    record = record_of()
    rows = [
        (b.SET, 1, 5, "k" * 1_000_000, 100, 1, 7, 1.0, 0),
        (b.SET, 1, 6, "small", 100, 1, 7, 1.0, 0),
        (b.READ_HIT, 1, 6, "small", 0, 1, 7, 1.0, 0),
        (b.CLEARED, 1, 0, None, 0, 0, 7, 1.0, {}),
    ]
    drain(rows, {1: record}, 1.0, EVERYTHING, raw_keys=True)
    found = list(record.flow.recent)
    assert [row[-1] for row in found] == [None, "small", None]
    assert [row[2] for row in found][-1] == -1


@pytest.mark.parametrize("raw_keys", [False, True])
def test_nothing_of_ours_holds_large_keys_after_the_fold(raw_keys):
    """Megabytes of keys that came, were read, and left: no object that the profiler can reach is large."""
    with CacheMemoryProfiler(ProfilerConfig(tick_seconds=60.0, level="detailed", raw_keys=raw_keys)) as profiler:
        cache = instrument(cachetools.LRUCache(100), name="large", profiler=profiler)
        state = cache._self_cachescope
        for seed in range(3):
            for key in (
                f"{seed}" * 1_000_000,
                b"%d" % seed * 1_000_000,
                10**400_000 + seed,
                ("a", f"{seed}" * 1_000_000),
            ):
                state.arm(1, 64)
                cache[key] = "x"
                cache[key]
                del cache[key]
        profiler.registry.fold()
        profiler.get_cache_profile("large")
        record = profiler.registry.records["large"]
        record.close_bucket(time.monotonic())
        reached, waiting = set(), [record.flow, state.followed, state.reads, state.pending, profiler.registry.batch]
        while waiting:
            one = waiting.pop()
            if id(one) not in reached and not isinstance(one, type):
                reached.add(id(one))
                assert not isinstance(one, (str, bytes, int)) or sys.getsizeof(one) < 10_000
                waiting += gc.get_referents(one)


class Hostile:
    """A key whose methods raise when they are told to."""

    armed = False

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        if Hostile.armed:
            raise RuntimeError("hash")
        return hash(self.name)

    def __eq__(self, other):
        if Hostile.armed:
            raise RuntimeError("eq")
        return isinstance(other, Hostile) and self.name == other.name


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


def totals_after_hostile_keys(make, closely):
    """What is counted of a cache whose keys raise; every exception is checked to be the key's own."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=60.0)) as profiler:
        cache = instrument(make(), name="hostile", profiler=profiler)
        record = profiler.registry.records["hostile"]
        (state,) = record.live_states()
        key = Hostile("a")
        try:
            if closely:
                for bit in (SAMPLED, WATCHED, SCOPED):
                    state.arm(bit, 64)
                TIMING.up, state.timings_left = True, 1_000
            cache[key] = "x"
            assert cache[Hostile("a")] == "x"
            Hostile.armed = True
            for call in (lambda: cache[key], lambda: cache.__setitem__(key, "y"), lambda: cache.__delitem__(key)):
                with pytest.raises(RuntimeError, match=r"^(hash|eq)$"):
                    call()
            Hostile.armed = False
            for call in (lambda: cache[[]], lambda: cache.__setitem__([], "y")):
                with pytest.raises(TypeError, match="unhashable"):
                    call()
            assert cache[key] == "x"
            del cache[key]
            with pytest.raises(KeyError):
                cache[key]
        finally:
            Hostile.armed = TIMING.up = False
        profiler.registry.fold()
        assert state.timing == {}
        assert record.flow.lives_count == 0
        return record.totals()


@pytest.mark.parametrize("make", [lambda: cachetools.LRUCache(10), dict, Own], ids=["cachetools", "dict", "own"])
def test_hostile_keys_change_nothing(make):
    """What they raise is what comes out, and the counters are the same whether anybody looks closely or not."""
    totals = totals_after_hostile_keys(make, closely=True)
    assert totals.counters == totals_after_hostile_keys(make, closely=False).counters
    assert (totals["hits"], totals["sets"], totals["deletes"], totals.entries) == (2, 1, 1, 0)


def test_old_cells_of_an_idle_cache_are_joined():
    """A place that holds nothing and was not seen for long is told apart no more, also when nothing happens at all."""
    record = record_of()
    drain(
        [(b.SET, 1, 5, "k", 500, 1, 7, 1.0, 0), (b.DELETED, 1, 5, None, 0, 0, 7, 2.0, 0.0)],
        {1: record},
        1_000.0,
        EVERYTHING,
    )
    drain([(b.SET, 1, 6, "other.k", 70, 2, 7, 1.0, 0)], {1: record}, 1_000.0, EVERYTHING)
    record.close_bucket(time.monotonic())
    record.close_bucket(time.monotonic())
    assert len(record.flow.cells) == 1
    assert (record.flow.older.allocations, record.flow.older.churned_bytes) == (1, 500)


def test_a_renamed_object_takes_its_lives_along():
    """Both names together have what was allocated, once; the old one holds nothing."""
    one, other = record_of(), record_of()
    events = [(b.SET, 1, number, number, 100, 1, 7, 1.0, 0) for number in range(10)]
    drain(events, {1: one}, time.time(), EVERYTHING)
    one.flow.close_bucket(time.monotonic())
    one.flow.move(1, other.flow)
    assert (one.flow.lives_count, other.flow.lives_count) == (0, 10)
    for flow, n in ((one.flow, 0), (other.flow, 10)):
        cells = list(flow.cells.values())
        assert sum(cell[ALLOCATIONS] for cell in cells) == n
        assert sum(cell[BYTES] for cell in cells) == sum(cell[LIVE_BYTES] for cell in cells) == 100 * n
        assert all(cell[TOLD_ALLOCATIONS] <= cell[ALLOCATIONS] for cell in cells)


def test_after_a_fork_or_a_reset_what_flows_begins_at_nothing():
    """What is held stays, with its place and its bytes."""
    record = record_of()
    drain(list(events_of(2_000, seed=9, serials=(1,))), {1: record}, time.time(), EVERYTHING)
    record.flow.watch(5.0)
    held = record.flow.lives_count
    record.flow.forget_flows()
    cells = list(record.flow.cells.values())
    assert sum(cell[LIVE_N] for cell in cells) == record.flow.lives_count == held
    assert sum(cell[ALLOCATIONS] + cell[BYTES] + cell[CHURNED] + cell[HITS] for cell in cells) == 0
    assert all(cell[LIVE_N] and cell[LAST] for cell in cells)
    assert record.flow.watched_since > 5.0
