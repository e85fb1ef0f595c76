"""Heavy hitters: the keys used most often, and what is known of them, in fixed memory for any stream.

Source: Misra, Gries, Finding repeated elements, Science of Computer Programming 2(2), 1982, with pruning in batches; the
merge is that of Agarwal et al., Mergeable summaries, PODS 2012, section 3. Instead of subtracting from every counter when
room is needed, a counter starts at what its key may have had before: the same counters, shifted by ``error``.

As in Homem, Carvalho, Finding top-k elements in data streams, Information Sciences 180(24), 2010, dropped keys leave
their counts in a table of slots, so that a key that comes back starts at what it had, and a new one at little. Without the
table, as many counters found only 16 and 13 of the twenty most frequent keys on two of the four traces in ``benchmarks``.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import repeat
from operator import add

from cachescope.core.analysis.captured import as_amount, as_object, as_whole

_LARGEST = 1e30  # no size or weight is near; sums stay far from overflow
_SLOTS = 8_192  # in each of two rows: a key's bound is the lower of its two slots, so that one bad neighbour is no harm


@dataclass(slots=True)
class Hitter:
    """What is known of one key. All figures but *missed* are of the time since it was last taken in.

    Attributes:
        count: The weight of its updates: at most *missed* less than the true one, and never more.
        missed: What it may have had before it was taken in; 0.0 when the count is exact.
        size_bytes: The sum of its updates' bytes.
        hits: The sum of their hits.
        misses: The sum of their misses.
        label: What the first update that had a label said of the key; never looked into.
    """

    count: float = 0.0
    missed: float = 0.0
    size_bytes: float = 0.0
    hits: float = 0
    misses: float = 0
    label: object = None

    @property
    def estimate(self) -> float:
        """The count with what was missed: at most *missed* more than the true one, and never less."""
        return self.count + self.missed

    def add(self, other: Hitter) -> None:
        """Add what was seen of the same key elsewhere."""
        self.count += other.count
        self.missed += other.missed
        self.size_bytes += other.size_bytes
        self.hits += other.hits
        self.misses += other.misses
        if self.label is None:
            self.label = other.label


class HeavyHitters:
    """Keys by frequency: all whose share of the stream is above 1 / (capacity + 1) are held, whatever the order.

    At most twice *capacity* keys are held, some 250 bytes each besides their labels, and from the first pruning on 64 KiB
    of slots. A merge in any order and grouping keeps the bounds; while no key had to be dropped anywhere it is exact,
    and this a commutative monoid.

    Args:
        capacity: Keys that stay when there are too many.

    Attributes:
        entries: The keys held. Pruning makes another dict.
        total: The weight of all updates.
        error: No key that is not held has more than this, and no key's count misses more: at most
            ``total / (capacity + 1)``, of the smallest capacity that was merged; usually far less.
        refused: Updates that were not counted: their weight was no number, 0, negative or beyond 1e30.
    """

    CAPACITY = 300
    __slots__ = ("_dropped", "capacity", "entries", "error", "refused", "total")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = max(1, capacity)
        self.entries: dict[Hashable, Hitter] = {}
        self.total = 0.0
        self.error = 0.0
        self.refused = 0
        self._dropped: array[float] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def update(
        self,
        key_id: Hashable,
        weight: float = 1.0,
        size_bytes: float = 0.0,
        hit: float = 0,
        miss: float = 0,
        describe: object = None,
    ) -> None:
        """Count one use of a key.

        Args:
            key_id: Tells keys apart: a hash, or its text. It is kept, so it must not be a user's key.
            weight: How many uses this one stands for.
            size_bytes: Added to the key's bytes; left out when it is negative or no number.
            hit: Added to the key's hits.
            miss: Added to the key's misses.
            describe: A label for the key; the first that is not None stays while the key is held.
        """
        if not 0.0 < weight <= _LARGEST:  # true for NaN too
            self.refused += 1
            return
        self.total += weight
        entry = self.entries.get(key_id)
        if entry is None:
            entry = self._take_in(key_id)
        entry.count += weight
        if 0.0 < size_bytes <= _LARGEST:
            entry.size_bytes += size_bytes
        if hit:
            entry.hits += hit
        if miss:
            entry.misses += miss
        if describe is not None and entry.label is None:
            entry.label = describe

    def _take_in(self, key_id: Hashable) -> Hitter:
        """Hold another key; room is made first, so that the newcomer is never the one that goes."""
        if len(self.entries) >= 2 * self.capacity:
            self._prune()
        entry = self.entries[key_id] = Hitter(0.0, self._most(key_id))
        return entry

    def _most(self, key_id: Hashable) -> float:
        """The most that a key that is not held may have had."""
        if self._dropped is None:
            return self.error
        first, second = _slots(key_id)
        return min(self._dropped[first], self._dropped[second], self.error)

    def _prune(self) -> None:
        """Keep the keys that may have had more than the one at place capacity + 1; the others leave it in their slots.

        The bound: let each key held have a surplus, its estimate less ``error`` where that is positive. An update adds at
        most its weight to the surpluses. Raising ``error`` by x takes x from at least capacity + 1 of them.
        """
        estimates = sorted([entry.count + entry.missed for entry in self.entries.values()], reverse=True)
        enough = estimates[self.capacity]
        dropped = self._dropped
        if dropped is None:
            dropped = self._dropped = _rounded_up([self.error]) * (2 * _SLOTS)
        self.error = max(self.error, enough)
        kept = {}
        for key_id, entry in self.entries.items():
            estimate = entry.count + entry.missed
            if estimate > enough:
                kept[key_id] = entry
                continue
            for slot in _slots(key_id):
                if dropped[slot] < estimate:
                    dropped[slot] = estimate
                    if dropped[slot] < estimate:
                        dropped[slot] = estimate * _ROUND_UP
        self.entries = kept

    def merge(self, other: HeavyHitters) -> None:
        """Add what another thread or process counted.

        A key that only one side holds may have had something on the other side too, as far as its slots there allow.
        """
        merged = self.copy().entries
        theirs = other.copy()
        for key_id, entry in merged.items():
            if key_id not in theirs.entries:
                entry.missed += theirs._most(key_id)
        for key_id, entry in theirs.entries.items():
            known = merged.get(key_id)
            if known is None:
                entry.missed += self._most(key_id)
                merged[key_id] = entry
            else:
                known.add(entry)
        if self._dropped is not None or theirs._dropped is not None:
            ours = repeat(self.error, 2 * _SLOTS) if self._dropped is None else self._dropped
            also = repeat(theirs.error, 2 * _SLOTS) if theirs._dropped is None else theirs._dropped
            self._dropped = _rounded_up(list(map(add, ours, also)))
        self.entries = merged
        self.total += theirs.total
        self.error += theirs.error
        self.refused += theirs.refused
        if len(merged) > 2 * self.capacity:
            self._prune()

    def copy(self) -> HeavyHitters:
        """An equal fold that goes its own way."""
        out = self.relabel(lambda key_id: key_id)
        out._dropped = None if self._dropped is None else self._dropped[:]
        return out

    def relabel(
        self,
        key_of: Callable[[Hashable], Hashable],
        label_of: Callable[[object], object] | None = None,
    ) -> HeavyHitters:
        """A copy under other key ids, such as keyed hashes instead of this process's own; ids that become one add up.

        The slots are lost, which are by the old ids: keys that are not in the copy have at most ``error``.

        Args:
            key_of: The new id of an id.
            label_of: The new label of a label that is not None; labels stay when this is not given.
        """
        out = HeavyHitters(self.capacity)
        out.total, out.error, out.refused = self.total, self.error, self.refused
        for key_id, entry in list(self.entries.items()):
            moved = dataclasses.replace(entry)
            if label_of is not None and moved.label is not None:
                moved.label = label_of(moved.label)
            known = out.entries.setdefault(key_of(key_id), moved)
            if known is not moved:
                known.add(moved)
        return out

    def top(self, k: int) -> list[tuple[Hashable, Hitter]]:
        """Copies of the *k* keys with the highest estimates, highest first; of equal ones, those seen more often."""
        rows = sorted(self.entries.items(), key=lambda row: (row[1].estimate, row[1].count), reverse=True)
        return [(key_id, dataclasses.replace(entry)) for key_id, entry in rows[: max(0, k)]]

    # Captures

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types, without the slots; key ids and labels become texts."""
        keys: list[list[object]] = []
        for key_id, entry in list(self.entries.items()):
            label = None if entry.label is None else str(entry.label)
            keys.append([str(key_id), entry.count, entry.missed, entry.size_bytes, entry.hits, entry.misses, label])
        return {
            "capacity": self.capacity,
            "total": self.total,
            "error": self.error,
            "refused": self.refused,
            "keys": keys,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> HeavyHitters:
        """The inverse of :meth:`to_dict`, but for slots, and for key ids and labels that were no texts.

        Raises:
            ValueError: *data* is no such state.
        """
        data = as_object("heavy hitters", data)
        out = cls(as_whole("capacity", data.get("capacity"), least=1))
        out.total = as_amount("total", data.get("total"))
        out.error = as_amount("error", data.get("error"))
        out.refused = as_whole("refused", data.get("refused"))
        rows = data.get("keys")
        if not isinstance(rows, list) or len(rows) > 2 * out.capacity:
            raise ValueError(f"keys: expected a list of at most {2 * out.capacity}")
        for row in rows:
            if not isinstance(row, list) or len(row) != 7 or not isinstance(row[0], str):
                raise ValueError(f"key: expected its text, five numbers and a label, found {row!r}")
            if row[6] is not None and not isinstance(row[6], str):
                raise ValueError(f"key {row[0]!r}: expected a text or null as its label, found {row[6]!r}")
            count, missed, size_bytes, hits, misses = (as_amount(f"key {row[0]!r}", figure) for figure in row[1:6])
            out.entries[row[0]] = Hitter(count, missed, size_bytes, hits, misses, row[6])
        return out


_ROUND_UP = 1 + 2**-22


def _rounded_up(values: list[float]) -> array[float]:
    """The values in four bytes each, none of them less than it was; whole numbers below 2^24 stay what they are."""
    out = array("f", values)
    for slot, value in enumerate(values):
        if out[slot] < value:
            out[slot] = value * _ROUND_UP
    return out


def _slots(key_id: Hashable) -> tuple[int, int]:
    mixed = hash((key_id,))  # a tuple mixes: ids that are all multiples of 8, say, would leave most slots empty
    return mixed % _SLOTS, _SLOTS + (mixed >> 32) % _SLOTS
