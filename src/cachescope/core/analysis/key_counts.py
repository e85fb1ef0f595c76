"""Hot keys: those set most often and those read most often.

Live, a key is told from others by its ``hash()`` within one process, and a small key itself is held to name it by. Outside,
:meth:`KeyCounts.named` puts a keyed hash for the one and the key's pattern for the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping
from operator import itemgetter

from cachescope.core.analysis.captured import as_object
from cachescope.core.analysis.heavy_hitters import HeavyHitters, Hitter
from cachescope.core.batch import PatternText
from cachescope.core.key_ids import key_id

_LONGEST_HELD = 256
_LARGEST_HELD_BITS = 8 * _LONGEST_HELD
UNPRUNED = 1 << 30
"""The capacity of counts that are bounded by what is put into them."""
Figures = tuple[float, float, float, float]
Marks = tuple[dict[Hashable, Figures], dict[Hashable, Figures]]
"""Count, bytes, hits and misses by key, of sets and of reads."""
_NOTHING: Figures = (0.0, 0.0, 0.0, 0.0)
_BYTES_PER_KEY = 330
_SLOTS_BYTES = 65_536
_RAW = "\0"
"""Between a pattern and the key itself, in the label of a key that may be shown."""


class LongKey:
    """Stands for a key that is too large to be held."""

    __slots__ = ("key_id", "pattern")

    def __init__(self, key: object, pattern: int) -> None:
        self.key_id, self.pattern = key_id(key), pattern


class KeyCounts:
    """Count sets and sampled reads of keys. A commutative monoid as far as :class:`HeavyHitters` is one.

    Memory: twice that of :class:`HeavyHitters`, and at most some 4 KiB for each key that is held to name it by.

    Args:
        capacity: Keys held for sets, and as many for reads.

    Attributes:
        sets: Sets by key, weighted by what a followed entry stands for, with their bytes.
        reads: Sampled reads by key, unweighted, as hits and misses.
    """

    __slots__ = ("reads", "sets")

    def __init__(self, capacity: int = HeavyHitters.CAPACITY) -> None:
        self.sets = HeavyHitters(capacity)
        self.reads = HeavyHitters(capacity)

    def merge(self, other: KeyCounts) -> None:
        """Add what another bucket, object or process counted."""
        self.sets.merge(other.sets)
        self.reads.merge(other.reads)

    def marks(self) -> Marks:
        """What each key has now, to tell later by how much it has grown."""
        return tuple(  # type: ignore[return-value]  # of two
            {
                key: (hitter.count, hitter.size_bytes, hitter.hits, hitter.misses)
                for key, hitter in counts.entries.items()
            }
            for counts in (self.sets, self.reads)
        )

    def grown_since(self, marks: Marks, most: int) -> KeyCounts:
        """The keys used most since *marks* were taken, with what was added to each: cheaper than to count them twice."""
        out = KeyCounts(UNPRUNED)
        for counts, before, grown in zip((self.sets, self.reads), marks, (out.sets, out.reads), strict=True):
            rows = []
            for key, hitter in counts.entries.items():
                then = before.get(key, _NOTHING)
                if hitter.count > then[0]:
                    rows.append((hitter.count - then[0], key, hitter, then))
            for added, key, hitter, then in heapq.nlargest(most, rows, key=itemgetter(0)):
                sizes, hits, misses = hitter.size_bytes - then[1], hitter.hits - then[2], hitter.misses - then[3]
                grown.update(key, added, sizes, hits, misses, hitter.label)
        return out

    def memory_bytes(self) -> int:
        """An estimate of the memory that this takes, with the keys that are held."""
        return sum(
            _BYTES_PER_KEY * len(counts) + (_SLOTS_BYTES if counts._dropped else 0)
            for counts in (self.sets, self.reads)
        )

    def named(self, pattern_of: Callable[[object], str], raw_keys: bool, process: str) -> KeyCounts:
        """A copy that holds no key: keyed hashes and patterns instead.

        Args:
            pattern_of: The pattern of a key, or of what stands for it.
            raw_keys: Show keys beside their patterns.
            process: Tells this process from others, for keys that only it can tell apart.
        """
        out = KeyCounts(self.sets.capacity)
        out.sets = _named(self.sets, pattern_of, raw_keys, process)
        out.reads = _named(self.reads, pattern_of, raw_keys, process)
        return out

    def top(self, most: int) -> list[tuple[str, str, str | None, Hitter | None, Hitter | None]]:
        """The keys used most: ``(key id, pattern, key if shown, sets, reads)``; of a fold that was :meth:`named`."""
        rows: dict[Hashable, list[Hitter | None]] = {}
        for column, counts in enumerate((self.sets, self.reads)):
            for identity, hitter in counts.top(most):
                rows.setdefault(identity, [self.sets.entries.get(identity), self.reads.entries.get(identity)])
                rows[identity][column] = hitter
        out = []
        for identity, (sets, reads) in rows.items():
            label = next((str(hitter.label) for hitter in (sets, reads) if hitter and hitter.label is not None), "")
            pattern, _, raw = label.partition(_RAW)
            out.append((str(identity), pattern, raw or None, sets, reads))
        return out

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types; of one that was :meth:`named`."""
        return {"sets": self.sets.to_dict(), "reads": self.reads.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> KeyCounts:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: A part is no state of heavy hitters; the message names it.
        """
        out = cls()
        data = as_object("keys", data)
        out.sets = HeavyHitters.from_dict(as_object("sets of keys", data.get("sets")))
        out.reads = HeavyHitters.from_dict(as_object("reads of keys", data.get("reads")))
        return out


def label_of(key: object, pattern: int) -> object:
    """What may be held to name a key by: itself if it is small, else what is needed of it."""
    return key if is_small(key) else LongKey(key, pattern)


def is_small(key: object) -> bool:
    """Whether a key that the batch held for a moment may be held for good."""
    kind = type(key)
    if kind is str or kind is bytes:
        return len(key) <= _LONGEST_HELD  # type: ignore[arg-type]  # both have a length
    if kind is int:
        return key.bit_length() <= _LARGEST_HELD_BITS  # type: ignore[attr-defined,no-any-return]  # it is one
    if kind is tuple:
        return all(map(is_small, key))  # type: ignore[call-overload]  # it is one, of few leaves
    return True


def _named(counts: HeavyHitters, pattern_of: Callable[[object], str], raw_keys: bool, process: str) -> HeavyHitters:
    labels = {identity: hitter.label for identity, hitter in counts.entries.items()}

    def identity_of(identity: Hashable) -> str:
        label = labels.get(identity)
        if type(label) is LongKey:
            return label.key_id
        if label is None or type(label) is PatternText:
            return f"{process}:{identity}"
        return key_id(label)

    def name_of(label: object) -> str:
        pattern = pattern_of(label)
        return f"{pattern}{_RAW}{label!r}" if raw_keys and type(label) not in (LongKey, PatternText) else pattern

    return counts.relabel(identity_of, name_of)
