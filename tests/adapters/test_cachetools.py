"""cachetools: the suite that every adapter must pass, and random operations on all its versions against an oracle."""

from __future__ import annotations

import cachetools

from adapters.cache_classes import Subclass, first, five_seconds, size_of
from cachescope.testing import AdapterConformance, FakeClock


class Cachetools(AdapterConformance):
    library = "cachetools"


class TestLRUCache(Cachetools):
    fresh = ("import cachetools", "cachetools.LRUCache(8)")

    def make_cache(self):
        return cachetools.LRUCache(8)


class TestFIFOCache(Cachetools):
    fresh = ("from cachetools import FIFOCache", "FIFOCache(8)")

    def make_cache(self):
        return cachetools.FIFOCache(8)


class TestLFUCache(Cachetools):
    fresh = ("from cachetools import LFUCache as Chosen", "Chosen(8)")

    def make_cache(self):
        return cachetools.LFUCache(8)


class TestRRCache(Cachetools):
    fresh = ("from cachetools import *", "RRCache(8)")

    def make_cache(self):
        return cachetools.RRCache(8, choice=first)


class TestCache(Cachetools):
    fresh = ("import cachetools as c", "c.Cache(8)")

    def make_cache(self):
        return cachetools.Cache(8)


CLOCK = FakeClock(start_ns=10**9)


class TestTTLCache(Cachetools):
    fresh = ("from cachetools import TTLCache", "TTLCache(8, 60)")
    supports_ttl = True

    def make_cache(self):
        return cachetools.TTLCache(8, 5, timer=CLOCK)

    def make_picklable(self):
        return cachetools.TTLCache(8, 500)

    def later(self):
        CLOCK.advance(5)


class TestTLRUCache(Cachetools):
    fresh = ("import cachetools", "cachetools.TLRUCache(8, lambda key, value, now: now + 60)")
    supports_ttl = True

    def make_cache(self):
        return cachetools.TLRUCache(8, five_seconds, timer=CLOCK)

    def make_picklable(self):
        return cachetools.TLRUCache(8, five_seconds)

    def later(self):
        CLOCK.advance(5)


class TestSubclass(Cachetools):
    fresh = ("import cachetools", "cachetools.LRUCache(8)")

    def make_cache(self):
        return Subclass(8)


class TestWeighed(Cachetools):
    fresh = ("import cachetools", "cachetools.LRUCache(800, len)")

    def make_cache(self):
        return cachetools.LRUCache(400, getsizeof=size_of)
