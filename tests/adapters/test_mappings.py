"""Dicts and their kin, by the suite that every adapter must pass."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict

from cachescope.testing import AdapterConformance


class PlainSubclass(dict):
    pass


class Bounded(OrderedDict):
    """The cache of a thousand web pages: an OrderedDict that drops its oldest entry."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > 6:
            self.popitem(last=False)

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value


class Wrapped(UserDict):
    pass


class MadeOnDemand(defaultdict):
    pass


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
