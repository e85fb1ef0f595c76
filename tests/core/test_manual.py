"""Manual caches take what anybody tells them, and never raise."""

from __future__ import annotations

import decimal
import fractions

import numpy
import pytest

from cachescope import CacheMemoryProfiler, MemoryEventType
from cachescope.core import faults


class Unshowable:
    """Has neither a repr nor an equal."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        raise ValueError("no comparison")

    def __repr__(self):
        raise ValueError("no repr")

    __str__ = __repr__


class Incomparable(float):
    def __le__(self, other):
        raise ValueError("no order")

    __lt__ = __ge__ = __gt__ = __le__


class NamelessMeta(type):
    @property
    def __name__(cls):
        raise ValueError("no name")


class Nameless(metaclass=NamelessMeta):
    __hash__ = None


@pytest.fixture
def profiler():
    with CacheMemoryProfiler() as profiler:
        yield profiler


def refusals():
    return sum(count for kind, count in faults.counts.items() if "refused" in kind)


@pytest.mark.parametrize(
    "size",
    [Unshowable(), Incomparable(1.0), 10**400, 10**5_000, -(10**5_000), 1 << 63, float("inf"), decimal.Decimal(5)],
    ids=lambda size: type(size).__name__,  # not all have a repr
)
def test_a_size_that_is_none_is_refused_and_spoils_no_figure(profiler, size):
    profiler.track_allocation("manual", "good", 10)
    before = refusals()
    profiler.track_allocation("manual", "bad", size)
    assert refusals() == before + 1
    profile = profiler.get_cache_profile("manual")
    assert (profile.current_entries, profile.net_memory_bytes) == (1, 10)


@pytest.mark.parametrize(
    ("size", "counted"), [(numpy.int64(5), 5), (numpy.float32(2), 2), (fractions.Fraction(5, 2), 2), (7.9, 7)]
)
def test_a_number_of_any_make_is_a_size(profiler, size, counted):
    profiler.track_allocation("manual", "key", size)
    assert profiler.get_cache_profile("manual").net_memory_bytes == counted


def test_nothing_that_is_told_raises(profiler):
    before = refusals()
    for odd in (Unshowable(), Nameless(), [], None):
        profiler.track_event("manual", odd, "key")
        profiler.track_allocation(odd, "key", 1)
        profiler.track_deallocation(odd, "key")
        profiler.track_hit(odd, "key")
    profiler.track_allocation("manual", Nameless(), 1)
    profiler.track_deallocation("manual", Nameless())
    profiler.track_event("manual", MemoryEventType.PRESSURE, "key")
    assert refusals() == before + 4 * 4 + 3
