"""The suite for adapters itself: it can't be switched off by accident, and it sees a wrong adapter."""

from __future__ import annotations

import pytest

from cachescope.testing import AdapterConformance, FakeClock, naive_bytes

pytest_plugins = ("pytester",)


def test_a_test_cannot_be_overridden():
    with pytest.raises(TypeError, match="would override a test"):

        class Lenient(AdapterConformance):
            def test_threads_lose_no_count(self, watch):
                pass


def test_nor_by_a_mixin_nor_by_something_that_is_no_function():
    class Mixin:
        test_threads_lose_no_count = None

    with pytest.raises(TypeError, match="would override a test"):
        type("Lenient", (Mixin, AdapterConformance), {})


def test_nor_can_the_ways_be_emptied_or_misspelt():
    for hows in ((), ("inplace",)):
        with pytest.raises(TypeError, match="hows"):
            type("Lenient", (AdapterConformance,), {"hows": hows})


def test_an_exemption_of_no_test_is_refused():
    with pytest.raises(TypeError, match="there is no test 'test_threads'"):
        type("Lenient", (AdapterConformance,), {"exempt": {"test_threads": "they are hard"}})


WRONG = """
from cachescope.adapters.mappings import MappingsAdapter
from cachescope.adapters import contract
from cachescope.testing import AdapterConformance

class Forgetful(MappingsAdapter):
    def proxied(self, obj):
        return {name: row for name, row in super().proxied(obj).items() if name != "setdefault"}

contract._adapters = {"mappings": Forgetful()}

class TestForgetful(AdapterConformance):
    hows = ("proxy",)
    exempt = {"test_names": "tried on purpose: it passes, and that is a failure"}

    def make_cache(self):
        return {}
"""


def test_a_wrong_adapter_and_a_needless_exemption_fail(pytester):
    pytester.makepyfile(WRONG)
    ran = pytester.runpytest_subprocess("-q", "-k", "conserved or test_names or counted_once", "-p", "no:cacheprovider")
    outcomes = ran.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (2, 1)
    ran.stdout.fnmatch_lines(["*FAILED*test_bytes_are_conserved*", "*FAILED*test_names*"])


def test_the_clock_moves_when_told_and_never_back():
    clock = FakeClock(start_ns=10)
    clock.advance(1.5)
    clock.advance_ns(5)
    assert (clock.ns(), clock()) == (1_500_000_015, 1.500000015)
    with pytest.raises(ValueError, match="can't go back"):
        clock.advance(-1)


def test_naive_bytes_counts_each_object_once_and_nothing_it_doesnt_know():
    shared = "x" * 100
    assert naive_bytes([shared, shared]) == naive_bytes([shared, None])
    assert naive_bytes(5) == naive_bytes(None) == 0
    with pytest.raises(TypeError, match="expected built-in values"):
        naive_bytes(object())
