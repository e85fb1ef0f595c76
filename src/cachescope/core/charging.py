"""What an entry is charged, and how the same charge is found again when the entry leaves.

Three ways, cheapest first:

* Exact immutable leaves (str, bytes, int, …) need no ledger: they are measured again as they leave.
* Everything else has its charge written down under the cache's own key object: the *ledger*. What is freed is what was
  charged, even if the value was changed since.
* A value that seems to be held elsewhere too, or is large, is also known by identity: the *shares*. Several entries
  of one cache that hold one value are charged once, until the last of them leaves.

Values whose deep size is dear are measured within a budget of time. The rest are charged a *proxy*, a cheap size that is
proportional to the deep one, and the ratio deep/proxy of the measured ones turns proxies into bytes (ratio estimator;
Cochran, Sampling Techniques, 1977, chapter 6), with its standard error.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable
from numbers import Real
from sys import getrefcount
from time import perf_counter_ns
from typing import Any

from cachescope.core.faults import swallow
from cachescope.core.sizing import LEAF_TYPES, Sizer, leaf_bytes, proxy_bytes

LARGE_BYTES = 4_096
"""Values from this size on are always known by identity: what that costs is small beside them."""
_EVERYBODYS = 3
"""Values that a text is met in before it is taken for everybody's."""
_MOST_TEXTS = 512
_IMMORTAL = 1 << 31 if sys.version_info >= (3, 12) else 1 << 62
"""References from which on the sizer charges an object to nobody anyway. (Up to 3.11 the interpreter's own identifiers, such
as ``"name"``, have some 10^9, and are charged.)"""
_OWN_REFERENCES = 4
"""References that a key of one dict alone has while we look at it; a record's has more."""
LEDGER_LIMIT = 262_144
"""Entries written down per cache object; beyond it, proxies are measured again as entries leave."""

TOO_MANY_BYTES = 1 << 63
"""No machine has them; and a sum of sizes below stays a number that a float can hold."""

Weigher = Callable[[Any, Any], int]


def simple_bytes(value: Any) -> int:
    """Bytes of an exact leaf, the same whenever it is asked; -1 when *value* is no such leaf.

    A str with non-ASCII characters grows once, when C code asks for its UTF-8 form; that is a matter of some bytes.
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return int(value.__sizeof__())
    return leaf_bytes(value) if kind in LEAF_TYPES else -1


def key_bytes_unwritten(key: Any) -> int:
    """Bytes of a key that can be measured again as its entry leaves, whatever equal key it leaves by; -1 for others.

    An entry set as ``c[1]`` may leave as ``del c[1.0]``, one set as ``c["red"]`` by an ``Enum`` that equals it. So only
    str, bytes and int keys go unwritten, and whatever equals one of them is measured as one.
    """
    kind = type(key)
    return simple_bytes(key) if kind is str or kind is bytes or kind is int else -1


def _bytes_of_equal(key: Any) -> int:
    """Bytes of the unwritten key that *key*, of another type, is equal to; -1 when there can be none."""
    try:
        if isinstance(key, str):
            return simple_bytes(str.__str__(key))
        if isinstance(key, bytes):
            return simple_bytes(bytes.__getitem__(key, slice(None)))
        whole = int(key)
        return leaf_bytes(whole) if whole == key else -1
    except Exception:  # no number either: nothing that goes unwritten is equal to it
        return -1


class SizingBudget:
    """Time for deep sizes, in nanoseconds, shared by all caches of a profiler.

    Args:
        share: Share of one core; credit grows by it with time, and starts with a second's worth times ten.
        unlimited: Size everything (COMPREHENSIVE).
    """

    __slots__ = ("credit_ns", "exhausted", "most_ns", "refilled_ns", "share", "spent_ns", "unlimited")

    def __init__(self, share: float, *, unlimited: bool = False) -> None:
        self.share, self.unlimited = share, unlimited
        self.most_ns = int(share * 10e9)
        self.credit_ns = self.most_ns
        self.spent_ns = 0
        self.exhausted = False
        """Whether the profiler's memory is used up: then no more charges are written down."""
        self.refilled_ns = perf_counter_ns()

    def refill(self) -> None:
        """Add the credit earned since the last call."""
        now = perf_counter_ns()
        self.credit_ns = min(self.most_ns, self.credit_ns + int((now - self.refilled_ns) * self.share))
        self.refilled_ns = now

    def spend(self, nanoseconds: int) -> None:
        """Take *nanoseconds* off the credit, which may fall below zero."""
        self.credit_ns -= nanoseconds
        self.spent_ns += nanoseconds


class Kind:
    """The values of one type in one cache object: those measured exactly, those by proxy, and the sample between."""

    __slots__ = (
        "entries",
        "exact_bytes",
        "in_proxy",
        "n",
        "out_proxy",
        "resized_proxy",
        "sum_x",
        "sum_xx",
        "sum_xy",
        "sum_y",
        "sum_yy",
    )

    def __init__(self) -> None:
        self.entries = self.exact_bytes = 0
        self.in_proxy = self.resized_proxy = 0
        self.out_proxy = [0, 0, 0, 0]
        self.n = self.sum_x = self.sum_y = self.sum_xx = self.sum_xy = self.sum_yy = 0

    @property
    def live_proxy(self) -> int:
        """Proxy bytes of the entries that are in the cache now and were not measured."""
        return self.in_proxy + self.resized_proxy - sum(self.out_proxy)

    def guess(self, proxy: int) -> int:
        """What *proxy* comes to by the ratio known so far."""
        return proxy * self.sum_y // self.sum_x if self.sum_x else proxy

    def observe(self, proxy: int, deep: int) -> None:
        """Learn from one value that was measured: its proxy and its deep size."""
        self.n += 1
        self.sum_x += proxy
        self.sum_y += deep
        self.sum_xx += proxy * proxy
        self.sum_xy += proxy * deep
        self.sum_yy += deep * deep


def ratio_and_error(n: int, x: int, y: int, xx: int, xy: int, yy: int) -> tuple[float, float]:
    """The ratio deep/proxy of a sample of *n* pairs, and its relative standard error.

    Args:
        n: Size of the sample.
        x: Sum of the proxies.
        y: Sum of the deep sizes.
        xx: Sum of squared proxies.
        xy: Sum of products.
        yy: Sum of squared deep sizes.

    Returns:
        ``(ratio, relative standard error)``; ``(1.0, 1.0)`` while nothing was measured, and an error of 1.0 while
        there is only one pair.
    """
    if n == 0 or x == 0:
        return 1.0, 1.0
    ratio = y / x
    if n == 1 or y == 0:
        return ratio, 1.0
    residuals = max(0.0, yy - 2 * ratio * xy + ratio * ratio * xx)
    error = math.sqrt(residuals / (n - 1) / n) / (x / n)
    # A sample that happened to be uniform says little about what it has not seen: one unseen value in n+1.
    return ratio, max(error / ratio, 0.2 / n)


class Ledger:
    """The charges of one cache object that can't be found again by measuring.

    Args:
        sizer: Measures deep sizes.
        budget: Time for dear ones.
        weigher: The user's own ``weigher(key, value) -> bytes``, or None.
    """

    __slots__ = ("_texts", "boundary", "budget", "charges", "kinds", "shares", "sizer", "weigher")

    def __init__(self, sizer: Sizer, budget: SizingBudget, weigher: Weigher | None = None) -> None:
        self.sizer, self.budget, self.weigher = sizer, budget, weigher
        self.boundary: frozenset[int] = frozenset()
        """Ids of objects that sizing doesn't enter: the cache itself, and texts that are everybody's."""
        self._texts: dict[int, list[Any]] = {}
        self.charges: dict[Hashable, int | tuple[int, int]] = {}
        self.shares: dict[int, list[int]] = {}
        self.kinds: dict[type, Kind] = {}

    @property
    def empty(self) -> bool:
        """Whether every entry can be measured again as it leaves."""
        return not self.charges and not self.shares and self.weigher is None

    def charge(self, key: Hashable, value: object, suspicious: bool, *, resize: bool = False) -> tuple[int, int]:
        """Charge an entry, and write down what is needed to free the same later.

        Args:
            key: The entry's key, as the caller gave it.
            value: What the cache holds for it now.
            suspicious: Somebody else seems to hold the value too.
            resize: The entry replaces another one, so that a proxy counts as resized, not as allocated.

        Returns:
            ``(exact, guess)``: the bytes charged exactly, and what the proxy (kept in :attr:`kinds`) comes to by today's
            ratio.
        """
        if self.weigher is not None:
            weight = self._weigh(key, value)
            if weight is not None:
                self.charges[key] = weight
                return weight, 0
        key_bytes = key_bytes_unwritten(key)
        simple_key = key_bytes >= 0
        if not simple_key:
            key_bytes = self.sizer.measure(key, boundary=self.boundary).size_bytes
        simple_value = simple_bytes(value) >= 0
        full = len(self.charges) >= LEDGER_LIMIT or self.budget.exhausted
        size, proxy = self._size(value, exact=simple_value or not full)
        if (suspicious or size >= LARGE_BYTES or proxy >= LARGE_BYTES) and not full:
            share = self.shares.get(id(value))
            if share is None:
                self.shares[id(value)] = [1, size, proxy]
            else:
                share[0] += 1
                size, proxy = 0, -1
            if not simple_key:
                self.charges[key] = (key_bytes, -1)
        elif proxy >= 0:
            if not full:
                self.charges[key] = (key_bytes, proxy)
        elif not (simple_key and simple_value) and not full:
            self.charges[key] = key_bytes + size
        guess = 0
        if not simple_value:
            kind = self._kind(value)
            kind.entries += 1
            if proxy < 0:
                kind.exact_bytes += size
            else:
                guess = kind.guess(proxy)
                if resize:
                    kind.resized_proxy += proxy
                else:
                    kind.in_proxy += proxy
        return key_bytes + size, guess

    def discharge(self, key: Hashable, value: object, cause: int) -> tuple[int, int]:
        """Free an entry's charge.

        Args:
            key: The entry's key.
            value: What the cache held for it.
            cause: The column of :class:`~cachescope.core.events.Removal`; -1 for a replacement.

        Returns:
            ``(exact, guess)``, as :meth:`charge` gives them.
        """
        written = self.charges.pop(key, None)
        if type(written) is int and self.weigher is not None:
            return written, 0
        simple = simple_bytes(value)
        proxy = -1
        if type(written) is int:
            freed, size = written, written
        else:
            if written is None:
                key_bytes = key_bytes_unwritten(key)
                if key_bytes < 0:
                    key_bytes = _bytes_of_equal(key)
                if key_bytes < 0:  # the ledger was full when it came
                    key_bytes = self.sizer.measure(key, boundary=self.boundary).size_bytes
                proxy = -1
            else:
                key_bytes, proxy = written  # type: ignore[misc]  # it is no int: mypy doesn't follow type() is int
            size = 0
            if proxy < 0:
                share = self.shares.get(id(value)) if self.shares else None
                if share is not None:
                    share[0] -= 1
                    if share[0] <= 0:
                        del self.shares[id(value)]
                        size, proxy = share[1], share[2]
                elif simple >= 0:
                    size = simple
                elif written is None:  # the ledger was full when it came: its proxy is measured again
                    proxy = proxy_bytes(value)
            freed = key_bytes + size
        guess = 0
        if simple < 0:
            kind = self._kind(value)
            kind.entries -= 1
            if proxy < 0:
                kind.exact_bytes = max(0, kind.exact_bytes - size)
            else:
                guess = kind.guess(proxy)
                if cause < 0:
                    kind.resized_proxy -= proxy
                else:
                    kind.out_proxy[cause] += proxy
        return freed, guess

    def clear(self, cause: int) -> None:
        """Free everything: the cache is empty."""
        self.charges.clear()
        self.shares.clear()
        for kind in self.kinds.values():
            kind.out_proxy[cause] += kind.live_proxy
            kind.entries = kind.exact_bytes = 0

    def observe(self, value: object) -> int:
        """Measure a resident value for the ratio of its kind; returns the nanoseconds it took."""
        start = perf_counter_ns()
        if simple_bytes(value) < 0 and self.sizer.measure_cheap(value) < 0:
            deep = self._measured(value)
            self._kind(value).observe(proxy_bytes(value), deep)
        return perf_counter_ns() - start

    def _measured(self, value: object, boundary: frozenset[int] | None = None) -> int:
        """Deep size of a value; learns which texts in it are not its own.

        The keys of records are written once in the program and shared by all of them: dropping the cache would not free
        them. Such a text is known by being met in several values; it is held here, so that its id stays its own.
        """
        size = self.sizer.measure(value, boundary=self.boundary if boundary is None else boundary).size_bytes
        if self.sizer.shared_texts:
            self._learn_texts(self.sizer.shared_texts)
        return size

    def _learn_texts(self, texts: list[str]) -> None:
        known = self._texts
        for text in texts:
            met = known.get(id(text))
            if met is None:
                if len(known) >= _MOST_TEXTS:
                    known.clear()
                known[id(text)] = [text, 1]
            elif met[1] < _EVERYBODYS:
                met[1] += 1
                if met[1] == _EVERYBODYS:
                    self.boundary |= {id(text)}

    def _cheap(self, value: object) -> int:
        """Exact bytes of what is cheap to measure, without the texts that are everybody's; -1 for the rest."""
        size = self.sizer.measure_cheap(value)
        if size > 0 and type(value) is dict:
            texts = [key for key in value if type(key) is str and _OWN_REFERENCES < getrefcount(key) < _IMMORTAL]
            if texts:
                size -= sum(text.__sizeof__() for text in texts if id(text) in self.boundary)
                self._learn_texts(texts)
        return size

    def _size(self, value: object, *, exact: bool) -> tuple[int, int]:
        """Exact bytes and -1; or 0 and the proxy, when time is short or *exact* is not asked for."""
        size = simple_bytes(value)
        if size < 0:
            size = self._cheap(value)
        if size >= 0:
            if exact:
                return size, -1
            proxy = max(1, proxy_bytes(value))
            self._kind(value).observe(proxy, size)
            return 0, proxy
        budget = self.budget
        if size < 0 and (budget.unlimited or budget.credit_ns > 0):
            start = perf_counter_ns()
            size = self._measured(value)
            self._kind(value).observe(max(1, proxy_bytes(value)), size)
            budget.spend(perf_counter_ns() - start)
            if exact:
                return size, -1
        return 0, max(1, proxy_bytes(value))

    def _kind(self, value: object) -> Kind:
        kind = self.kinds.get(type(value))
        if kind is None:
            kind = self.kinds.setdefault(type(value), Kind())
        return kind

    def _weigh(self, key: object, value: object) -> int | None:
        try:
            weight: Any = self.weigher(key, value)  # type: ignore[misc]  # only called when there is one
            a_number = isinstance(weight, Real) and not isinstance(weight, bool)  # numpy's are Real too
            if a_number and 0 <= weight < TOO_MANY_BYTES:
                return int(weight)
            swallow("weigher: not a finite number >= 0")
        except Exception as error:
            swallow("weigher", error)
        return None
