"""Dicts and their kin, by the suite that every adapter must pass."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict

from adapters.cache_classes import Bounded, MadeOnDemand, PlainSubclass, Wrapped
from cachescope.testing import AdapterConformance


class TestDict(AdapterConformance):
    hows = ("proxy",)

    threadsafe = True

    def make_cache(self):
        return {}


class TestOrderedDict(TestDict):
    def make_cache(self):
        return OrderedDict()


class TestDefaultdict(TestDict):
    def make_cache(self):
        return defaultdict()


class TestSubclass(AdapterConformance):
    hows = ("in place", "proxy")
    threadsafe = True

    def make_cache(self):
        return PlainSubclass()


class TestBounded(AdapterConformance):
    hows = ("in place", "proxy")

    def make_cache(self):
        return Bounded()


class TestUserDict(AdapterConformance):
    hows = ("in place", "proxy")
    threadsafe = True

    def make_cache(self):
        return Wrapped()


class TestExactUserDict(TestUserDict):
    def make_cache(self):
        return UserDict()


class TestMadeOnDemand(AdapterConformance):
    hows = ("in place", "proxy")
    threadsafe = True

    def make_cache(self):
        return MadeOnDemand()
