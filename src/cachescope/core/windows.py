"""Time windows: a bounded ring of buckets of folds.

The newest bucket is open. When it is old enough it is closed, and joins the sum of all there ever was. The ring keeps
closed ones for a while: when there are too many, the two neighbours are merged that together are the shortest in
relation to their age. So the last minute can be asked for to some seconds, the last hours to a few minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar


class Fold(Protocol):
    """What a bucket holds."""

    def merge(self, other: Self) -> None:
        """Add another bucket's."""

    def thinned(self) -> Self:
        """What the ring keeps of it: the same in less memory."""


F = TypeVar("F", bound=Fold)


_LEAST_KEPT = 3
"""Closed buckets that are kept even when memory is short."""


@dataclass(slots=True)
class Bucket(Generic[F]):
    """What happened from *start* to *end*, seconds of ``time.monotonic()``."""

    start: float
    end: float
    fold: F


class Windows(Generic[F]):
    """A ring of buckets.

    Args:
        make: Makes an empty fold.
        now: Seconds of ``time.monotonic()``.
        bucket_seconds: How long a bucket is open.
        most: Closed buckets kept.
        retention_seconds: How long they are kept at the most.
    """

    def __init__(
        self,
        make: Callable[[], F],
        now: float,
        *,
        bucket_seconds: float = 5.0,
        most: int = 24,
        retention_seconds: float = 10_800.0,
    ) -> None:
        self._make = make
        self._seconds, self._most, self._retention = bucket_seconds, most, retention_seconds
        self._opened = now
        self.began = now
        self._dropped_until = now
        self.open = make()
        self.whole = make()
        """All closed ones, those that the ring has dropped included."""
        self.closed: list[Bucket[F]] = []

    def due(self, now: float) -> bool:
        """Whether the open bucket is old enough to be closed."""
        return now - self._opened >= self._seconds

    def close(self, now: float) -> None:
        """Close the open bucket and open another."""
        closed, self.open = self.open, self._make()
        self.whole.merge(closed)
        start, self._opened = self._opened, max(now, self._opened)
        self.closed.append(Bucket(start, self._opened, closed.thinned()))
        self._drop_old(now)
        while len(self.closed) > self._most:
            self._join(now)

    def skip(self, now: float) -> None:
        """Nothing happened since the open bucket was opened: let it begin now. The ring keeps a gap there."""
        self._opened = max(now, self._opened)
        self._drop_old(now)

    def shorten(self, now: float) -> bool:
        """Keep half as many closed buckets from now on; whether that was possible."""
        if self._most <= _LEAST_KEPT:
            return False
        self._most = max(_LEAST_KEPT, self._most // 2)
        while len(self.closed) > self._most:
            self._join(now)
        return True

    def _drop_old(self, now: float) -> None:
        while self.closed and now - self.closed[0].end > self._retention:
            self._dropped_until = self.closed.pop(0).end

    def _join(self, now: float) -> None:
        def relative(at: int) -> float:
            one, other = self.closed[at], self.closed[at + 1]
            return (other.end - one.start) / max(now - one.start, 1e-9)

        at = min(range(len(self.closed) - 1), key=relative)
        one, other = self.closed[at], self.closed.pop(at + 1)
        one.fold.merge(other.fold)
        one.fold = one.fold.thinned()
        one.end = other.end

    def all(self) -> F:
        """Everything since the beginning."""
        out = self._make()
        out.merge(self.whole)
        out.merge(self.open)
        return out

    def since(self, then: float) -> tuple[F, float]:
        """``(what happened since *then*, when that begins in fact)``.

        A bucket is taken whole when most of it is later, the open one in any case. What the ring has dropped is only
        in everything since the beginning.
        """
        if then <= self.began:
            return self.all(), self.began
        out = self._make()
        begins = max(then, self._dropped_until)
        for bucket in self.closed:
            if (bucket.start + bucket.end) / 2 < then:
                begins = max(begins, bucket.end)
            else:
                out.merge(bucket.fold)
                begins = min(begins, bucket.start)
        out.merge(self.open)
        return out, min(begins, self._opened)
