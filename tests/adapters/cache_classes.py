"""Cache classes of users, in a module that a fresh process can import to load their pickles."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict

import cachetools


class Subclass(cachetools.LRUCache):
    def __setitem__(self, key, value):
        super().__setitem__(key, value)

    def __getitem__(self, key):
        return super().__getitem__(key)

    def popitem(self):
        return super().popitem()


def first(keys):
    return min(keys, key=repr)


def five_seconds(key, value, now):
    return now + 5


def size_of(value):
    return len(value) if isinstance(value, str) else 1


class PlainSubclass(dict):
    pass


class Bounded(OrderedDict):
    """The cache of a thousand web pages: an OrderedDict that drops its oldest entry."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > 8:
            self.popitem(last=False)

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value


class Wrapped(UserDict):
    pass


class MadeOnDemand(defaultdict):
    pass
