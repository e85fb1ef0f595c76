"""Shares: who allocates, by thread and by task, in bounded memory."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig, instrument
from cachescope.core.analysis.shares import OTHERS, Shares


def test_counts_and_bytes_are_those_of_a_naive_sum():
    """That with the most bytes first, with its share of the whole."""
    rng = random.Random(1)
    fold, counts, sizes = Shares(), Counter(), Counter()
    for _ in range(1_000):
        label, size = rng.choice("abcdef"), rng.randrange(1, 100)
        fold.update(label, 1.0, size)
        counts[label] += 1
        sizes[label] += size
    rows = fold.result()
    assert [(row.label, row.count, row.size_bytes) for row in rows] == [
        (label, counts[label], size) for label, size in sizes.most_common()
    ]
    assert sum(row.share for row in rows) == pytest.approx(1.0)


def test_labels_beyond_the_limit_are_one_and_the_sums_stay_whole():
    """Whatever is merged with whatever."""
    parts = [Shares(most=4) for _ in range(3)]
    for number in range(300):
        parts[number % 3].update(f"thread {number}", 1.0, 10.0)
    for part in parts[1:]:
        parts[0].merge(part)
    assert len(parts[0].rows) == 5
    assert OTHERS in parts[0].rows
    assert [sum(row[column] for row in parts[0].rows.values()) for column in (0, 1)] == [300.0, 3_000.0]


def test_long_labels_are_cut():
    """A thread may be called anything."""
    fold = Shares()
    for _ in range(2):
        fold.update("x" * 1_000_000, 1.0, 1.0)
    assert [(len(label), row) for label, row in fold.rows.items()] == [(200, [2.0, 2.0])]


def test_nothing_allocated_has_no_share():
    """Zero bytes are no reason to divide by them."""
    fold = Shares()
    assert fold.result() == ()
    fold.update("main", 1.0, 0.0)
    assert fold.result()[0].share == 0.0


def test_threads_and_tasks_of_a_real_cache_are_told_apart():
    """By the thread's name and by the coroutine's."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed", tick_seconds=60.0)) as profiler:
        cache = instrument(cachetools.LRUCache(100), name="who", profiler=profiler)
        done = threading.Event()

        def work():
            for number in range(5):
                cache[f"thread{number}"] = "x" * 100
            profiler.registry.fold()  # while this thread is there to be named
            done.set()

        async def fill():
            for number in range(7):
                cache[f"task{number}"] = "x" * 100

        async def main():
            await asyncio.gather(fill())

        thread = threading.Thread(target=work, name="worker 7")
        thread.start()
        thread.join()
        asyncio.run(main())
        profiler.registry.fold()
        activity = profiler.registry.records["who"].flow.windows.all()
        assert {label: row[0] for label, row in activity.threads.rows.items()} == {"worker 7": 5, "MainThread": 7}
        assert [(row.label.rpartition(".")[2], row.count) for row in activity.tasks.result()] == [("fill", 7)]
