"""Buckets of time: the whole is exact, and a window is what the buckets say that it covers."""

from __future__ import annotations

import random
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope import ProfilerConfig
from cachescope.core.flow import Flow
from cachescope.core.patterns import KeyPatterns
from cachescope.core.windows import Windows


class Log:
    """A fold that keeps everything: the moments at which something happened."""

    def __init__(self, moments=()):
        self.moments = list(moments)

    def merge(self, other):
        self.moments = sorted([*self.moments, *other.moments])

    def thinned(self):
        return Log(self.moments)


def windows_of(steps, **settings):
    """Windows that lived through *steps*: happen, close or skip, each some seconds later; and all that happened."""
    now, log = 1_000.0, []
    windows = Windows(Log, now, **settings)
    for step, seconds in steps:
        now += seconds
        if step == "happen":
            windows.open.merge(Log([now]))
            log.append(now)
        elif step == "skip" and not windows.open.moments:
            windows.skip(now)
        elif step != "skip":
            windows.close(now)
    return windows, log, now


steps = st.lists(
    st.tuples(st.sampled_from(["happen", "happen", "close", "skip"]), st.sampled_from([0.0, 0.5, 3.0, 7.0, 90.0])),
    max_size=60,
)


@given(steps, st.integers(1, 6), st.sampled_from([20.0, 10_000.0]))
def test_the_whole_is_exact_whatever_the_ring_drops(steps, most, retention):
    """Everything since the beginning is everything, however few buckets stay."""
    windows, log, _ = windows_of(steps, most=most, retention_seconds=retention)
    assert windows.all().moments == log
    assert len(windows.closed) <= most


@settings(max_examples=300)
@given(steps, st.integers(1, 6), st.sampled_from([20.0, 10_000.0]), st.floats(-10.0, 500.0))
def test_a_window_is_what_happened_since_it_says_that_it_begins(steps, most, retention, ago):
    """No more than what came later than its beginning, and no less; naively: a filter over the full log."""
    windows, log, now = windows_of(steps, most=most, retention_seconds=retention)
    fold, begins = windows.since(now - ago)
    naive = [at for at in log if at > begins]
    edge = [at for at in log if at == begins]  # a bucket's end is the next one's start
    assert naive == [at for at in fold.moments if at > begins]
    assert set(fold.moments) <= set(naive) | set(edge)


@given(steps, st.integers(2, 6))
def test_buckets_are_in_order_and_do_not_overlap(steps, most):
    """Each begins where the one before ended, or later."""
    windows, _, now = windows_of(steps, most=most)
    ends = [1_000.0, *(at for bucket in windows.closed for at in (bucket.start, bucket.end)), now]
    assert ends == sorted(ends)


def test_what_was_dropped_is_not_said_to_be_covered():
    """A window that reaches back beyond the retention begins where the ring does."""
    steps = [("happen", 5.0), ("close", 0.0)] * 100
    windows, _, now = windows_of(steps, retention_seconds=100.0)
    fold, begins = windows.since(now - 400.0)
    assert begins >= now - 110.0
    assert len(fold.moments) == pytest.approx((now - begins) / 5.0, abs=1)


def test_an_idle_gap_is_covered_and_empty():
    """What begins inside the gap begins there; the gap's own buckets are none."""
    windows, _, now = windows_of([("happen", 1.0), ("close", 1.0), *[("skip", 5.0)] * 50, ("happen", 1.0)])
    assert len(windows.closed) == 1
    fold, begins = windows.since(now - 100.0)
    assert (begins, fold.moments) == (now - 100.0, [now])


def test_an_idle_ring_forgets_what_is_too_old():
    """Nothing has to happen for that."""
    windows, log, _ = windows_of([("happen", 1.0), ("close", 1.0), *[("skip", 5.0)] * 30], retention_seconds=60.0)
    assert windows.closed == []
    assert windows.all().moments == log


def test_the_open_bucket_is_taken_whole_and_says_so():
    """A moment inside of it gives what is since it was opened."""
    windows, _, now = windows_of([("close", 5.0), ("happen", 1.0), ("happen", 3.0)])
    fold, begins = windows.since(now - 0.5)
    assert (begins, len(fold.moments)) == (now - 4.0, 2)


def test_a_clock_that_stands_still_or_goes_back_loses_nothing():
    """Buckets without length are kept, merged and counted like others."""
    windows, log, now = windows_of([("happen", 0.0), ("close", 0.0)] * 200, most=5)
    windows.close(now - 50.0)
    windows.skip(now - 50.0)
    assert windows.all().moments == log
    assert len(windows.closed) <= 5
    assert windows.since(now + 10.0)[1] == now


class Count:
    """A fold of one number, for long runs."""

    def __init__(self, n=0):
        self.n = n

    def merge(self, other):
        self.n += other.n

    def thinned(self):
        return Count(self.n)


def test_a_hundred_thousand_closes_stay_within_the_limit():
    """The last minute can be told to some seconds, the last hours to some minutes, from 24 buckets."""
    windows = Windows(Count, 0.0, most=24, retention_seconds=10_800.0)
    for turn in range(1, 100_001):
        windows.open.merge(Count(1))
        windows.close(turn * 5.0)
        if turn % 10_000 == 0:
            assert len(windows.closed) <= 24
    now = 500_000.0
    assert windows.all().n == 100_000
    for ago, slack in ((60.0, 30.0), (600.0, 150.0), (3_600.0, 900.0), (10_000.0, 2_500.0)):
        fold, begins = windows.since(now - ago)
        assert abs(now - begins - ago) <= slack
        assert fold.n == (now - begins) / 5.0


def test_a_bucket_is_due_when_it_is_old_enough():
    """By its own clock, in seconds."""
    windows = Windows(Count, 10.0, bucket_seconds=5.0)
    assert not windows.due(14.9)
    assert windows.due(15.0)
    windows.skip(15.0)
    assert not windows.due(19.0)


def test_closed_buckets_are_let_go():
    """What the ring drops is held by nobody."""
    windows = Windows(Log, 0.0, most=3)
    watch = []
    for turn in range(50):
        watch.append(weakref.ref(windows.open))
        windows.close(turn * 5.0)
    assert sum(ref() is not None for ref in watch) == 0


def test_a_flow_stays_small_whatever_happens_in_it():
    """Ten thousand keys in each of a hundred buckets: an own cap holds, and the estimate is not far from the truth."""
    rng = random.Random(1)
    flow = Flow(KeyPatterns(64), ProfilerConfig(hot_keys=64))
    for turn in range(100):
        for _ in range(1_000):
            flow.keys.sets.update(rng.randrange(1 << 40), 1.0, 100.0, describe="k")
        flow.drained += 1
        flow.close_bucket(time.monotonic() + turn * 5.0)
    assert len(flow.windows.closed) <= 24
    assert flow.memory_bytes() < 2_000_000


@given(steps, st.integers(1, 24))
def test_a_ring_that_is_shortened_keeps_the_whole_exact(steps, most):
    """Where memory is short a ring is halved, down to three buckets: everything is still everything."""
    windows, log, now = windows_of(steps, most=most)
    while windows.shorten(now):
        assert windows.all().moments == log
    assert len(windows.closed) <= 3


def test_a_flow_takes_less_memory_when_its_ring_is_shortened():
    """The estimate follows at once, so that the cap is not held twice."""
    flow = Flow(KeyPatterns(64), ProfilerConfig())
    for turn in range(30):
        for key in range(50):
            flow.keys.sets.update(key, 1.0, 100.0, describe="k")
        flow.drained += 1
        flow.close_bucket(time.monotonic() + turn * 5.0)
    before = flow.memory_bytes()
    while flow.shorten(time.monotonic() + 150.0):
        pass
    assert len(flow.windows.closed) == 3
    assert flow.memory_bytes() < before / 2
