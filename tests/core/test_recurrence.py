"""Recurrence: steady, recurring and once, told by when allocations happened."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.analysis.recurrence import BURST, RECURRING, STEADY, more_often, recurrence_of


def buckets(n, seconds=5.0):
    return [(at * seconds, (at + 1) * seconds) for at in range(n)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5.0] * 20, STEADY),
        ([100.0, 0.0] * 10, RECURRING),
        ([0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 60.0], RECURRING),
        ([0.0] * 4 + [500.0] + [0.0] * 15, BURST),
        ([500.0, 300.0] + [0.0] * 15, BURST),
        ([0.0] * 4 + [500.0] + [0.0] * 10 + [20.0], BURST),
        ([0.0] * 18 + [500.0, 500.0], None),  # it may go on
        ([9.0] + [0.0] * 15, None),  # too few
        ([100.0] * 4, None),  # too short
        ([], None),
        ([0.0] * 20, None),
    ],
)
def test_what_comes_when(counts, expected):
    """All the time, again and again, once; or not enough to say."""
    assert recurrence_of(buckets(len(counts)), counts) == expected


def test_buckets_of_all_lengths_count_by_their_time():
    """One long bucket of something is three quarters of the time."""
    rows = [(0.0, 80.0), (80.0, 85.0), (85.0, 90.0), (90.0, 95.0), (95.0, 100.0)]
    assert recurrence_of(rows, [50.0, 0.0, 0.0, 0.0, 0.0]) == STEADY
    assert recurrence_of(rows, [0.0, 50.0, 0.0, 0.0, 0.0]) == BURST


def test_gaps_between_buckets_are_quiet():
    """The ring has none while nothing happens: bursts with gaps between them are not one run."""
    rows = [(at, at + 5.0) for at in (0.0, 500.0, 1_000.0, 1_500.0, 2_000.0)]
    assert recurrence_of(rows, [30.0] * 5) == RECURRING


def test_a_clock_that_stands_still_says_nothing():
    """No time was observed."""
    assert recurrence_of([(7.0, 7.0)] * 10, [10.0] * 10) is None


@given(st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(0.0, 100.0)), max_size=40), st.floats(0.5, 50.0))
def test_units_do_not_matter(rows, factor):
    """Seconds or minutes, the answer is the same."""
    edges = list(itertools.accumulate((length for length, _ in rows), initial=0.0))
    spans = list(itertools.pairwise(edges))
    counts = [count for _, count in rows]
    word = recurrence_of(spans, counts)
    assert word in (STEADY, RECURRING, BURST, None)
    scaled = [(start * 2.0**4, end * 2.0**4) for start, end in spans]
    assert recurrence_of(scaled, counts) == word


def test_chance_is_steady_and_rare_chance_recurs():
    """Entries that come at random are no burst: of 200 streams, none."""
    rng = random.Random(5)
    words = [recurrence_of(buckets(24), [float(rng.random() < 0.3) * 20.0 for _ in range(24)]) for _ in range(200)]
    assert words.count(BURST) == 0
    assert words.count(RECURRING) >= 190


def test_of_two_parts_the_one_that_comes_more_often_counts():
    """Whatever the order; None knows nothing."""
    for words, expected in {
        (STEADY, BURST): STEADY,
        (RECURRING, BURST): RECURRING,
        (BURST, BURST): BURST,
        (None, BURST): BURST,
        (None, None): None,
    }.items():
        assert more_often(*words) == expected
        assert more_often(*reversed(words)) == expected
