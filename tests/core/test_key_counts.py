"""Hot keys: counted by hash, named by a keyed hash and a pattern, and no large key is held."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument
from cachescope.core.analysis.key_counts import KeyCounts, LongKey, is_small, label_of
from cachescope.core.batch import PatternText
from cachescope.core.closeup import SAMPLED
from cachescope.core.key_ids import key_id


def pattern_of(key):
    return f"<{type(key).__name__}>"


def counted(keys, **settings):
    out = KeyCounts(**settings)
    for key in keys:
        out.sets.update(hash(key), 2.0, 100.0, describe=label_of(key, 7))
        out.reads.update(hash(key), 1.0, 0.0, 1, 0, label_of(key, 7))
    return out


def test_keys_are_named_without_being_shown():
    """A keyed hash and a pattern: nothing of the key leaves the process, and the same key has the same name again."""
    keys = ["user:1", b"raw", 42, ("a", 1)]
    fold = counted(keys).named(pattern_of, raw_keys=False, process="p1")
    text = json.dumps(fold.to_dict())
    assert "user:1" not in text
    assert set(fold.sets.entries) == {key_id(key) for key in keys}
    assert {hitter.label for hitter in fold.sets.entries.values()} == {"<str>", "<bytes>", "<int>", "<tuple>"}


def test_keys_are_shown_beside_their_pattern_when_that_is_asked_for():
    """Both in one label, so that a merge keeps them together."""
    fold = counted(["user:1"]).named(pattern_of, raw_keys=True, process="p1")
    ((identity, pattern, raw, sets, reads),) = fold.top(5)
    assert (identity, pattern, raw) == (key_id("user:1"), "<str>", "'user:1'")
    assert (sets.count, sets.size_bytes, reads.hits) == (2.0, 100.0, 1)


def test_keys_that_only_one_process_can_tell_apart_are_not_taken_for_one():
    """Objects are counted by their hash, which is another one elsewhere."""
    fold = KeyCounts()
    fold.sets.update(5, describe=PatternText("<Key>"))
    one, other = (fold.named(pattern_of, True, process) for process in ("p1", "p2"))
    one.merge(other)
    assert sorted(one.sets.entries) == ["p1:5", "p2:5"]


LARGE = ["x" * 257, b"x" * 257, 1 << 2_100, -(10**5_000), ("a", "x" * 1_000), (1, 10**6_000)]


@pytest.mark.parametrize("key", LARGE, ids=lambda key: type(key).__name__)
def test_large_keys_are_not_held(key):
    """What stands for one is small, and has the name that the key would have; huge ints can be named too."""
    label = label_of(key, 7)
    assert type(label) is LongKey
    assert (label.key_id, label.pattern) == (key_id(key), 7)
    for raw_keys in (True, False):
        named = counted([key]).named(pattern_of, raw_keys, "p1")
        assert list(named.sets.entries) == [key_id(key)]
        assert sys.getsizeof(named.to_dict()) < 1_000


@pytest.mark.parametrize("key", ["x" * 256, b"x" * 256, 1 << 2_000, ("a", 1, None, 2.5), PatternText("y" * 500)])
def test_small_keys_are_held_as_they_are(key):
    """To name them by."""
    assert is_small(key)
    assert label_of(key, 7) is key


def test_the_keys_that_grew_most_are_found_with_what_was_added():
    """Naively: two counters, one taken from the other."""
    rng = random.Random(3)
    fold, before = KeyCounts(10_000), Counter()
    for _ in range(5_000):
        key = int(rng.paretovariate(1.0))
        fold.sets.update(key, 1.0, 10.0)
        before[key] += 1
    marks, after = fold.marks(), Counter()
    for _ in range(5_000):
        key = int(rng.paretovariate(0.8))
        fold.sets.update(key, 1.0, 10.0)
        after[key] += 1
    grown = fold.grown_since(marks, 10)
    assert sorted((row.count for row in grown.sets.entries.values()), reverse=True) == [
        n for _, n in after.most_common(10)
    ]
    assert all(
        row.count == after[key] and row.size_bytes == 10.0 * after[key] for key, row in grown.sets.entries.items()
    )
    assert fold.grown_since(fold.marks(), 10).sets.entries == {}
    assert fold.sets.total == sum(before.values()) + sum(after.values())


def test_the_hottest_keys_of_a_real_cache_are_found():
    """Sets of every key, and a sample of reads, by pattern and not by key."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=60.0)) as profiler:
        cache = instrument(cachetools.LRUCache(1_000), name="hot", profiler=profiler)
        for number in range(1_000):
            cache[f"user:{number % 10 if number % 2 else number}"] = "x" * 50
        (state,) = profiler.registry.records["hot"].live_states()
        state.arm(SAMPLED, 64)
        for _ in range(64):
            cache["user:4"]
        recording = profiler._recorder.recordings()["hot"]
        rows = recording.activity.keys.top(5)
        hottest = {key_id(f"user:{number}") for number in (1, 3, 5, 7, 9)}
        assert hottest <= {row[0] for row in rows}
        reads = {row[0]: row[4].hits for row in rows if row[4] is not None}
        assert reads == {key_id("user:4"): 64}
        assert all("user" in row[1] and row[2] is None for row in rows)


def test_an_estimate_of_its_memory_grows_with_what_it_holds():
    """Slots are a large part of it, once keys were dropped."""
    fold = KeyCounts(10)
    small = fold.memory_bytes()
    for number in range(10):
        fold.sets.update(number)
    some = fold.memory_bytes()
    for number in range(100):
        fold.sets.update(number)
    assert small < some < fold.memory_bytes()
    assert fold.memory_bytes() > 65_536
