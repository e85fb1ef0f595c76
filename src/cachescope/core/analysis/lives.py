"""Lives: how large entries are, how old they get, and how much of the time that they are held they are of use.

Fed with what was seen of followed entries, each with its weight (see :mod:`~cachescope.core.analysis.hotspots`). Sizes and ages
need nothing else. Use needs every read of the entry, so it is known only for while reads were *watched*; time held outside is
left out. Within, a byte-second counts as useful when it lies before the entry's last read, as wasted when it lies behind
it and the entry has left, and as open when the watch ended first.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachescope.core.analysis.captured import as_amount, as_object
from cachescope.core.analysis.quantiles import Quantiles
from cachescope.core.results import Lifetime

CAUSES = ("deleted", "evicted", "expired", "cleared")
"""In the order of the constants in :mod:`cachescope.core.batch`."""
_SUMS = (
    "key_bytes",
    "value_bytes",
    "useful",
    "wasted",
    "open",
    "watched_lives",
    "watched_bytes",
    "wonders",
    "wonder_bytes",
    "lives_counted",
    "watched_seconds",
)
_ENOUGH_LIVES = 30
"""Below, a share of lives has a standard error of a tenth and more."""
_MOST_OPEN = 0.5
"""Where more of the byte-seconds than this were open when the watch ended, there is not enough to say."""


class Lives:
    """Sum lives. A commutative monoid; a few KB, whatever the number of entries.

    Attributes:
        sizes: Bytes of the entries set, keys included.
        ages: Seconds from the set until the entry left, for each of :data:`CAUSES`.
        key_bytes: Of the entries set whose keys could be measured.
        value_bytes: Of the same entries.
        useful: Byte-seconds before a last read.
        wasted: Byte-seconds behind it, of entries that have left.
        open: Byte-seconds of which nobody knows, for the watch ended before the entry did.
        watched_lives: Entries whose whole life was watched.
        watched_bytes: Their bytes.
        wonders: Those of them that were never read.
        wonder_bytes: Their bytes.
        lives_counted: Watched lives, each counted once however much it stands for; for the standard error.
        watched_seconds: How long reads were watched.
    """

    __slots__ = ("ages", "sizes", *_SUMS)

    key_bytes: float
    value_bytes: float
    useful: float
    wasted: float
    open: float
    watched_lives: float
    watched_bytes: float
    wonders: float
    wonder_bytes: float
    lives_counted: float
    watched_seconds: float

    def __init__(self) -> None:
        self.sizes = Quantiles()
        self.ages: dict[str, Quantiles] = {}
        for name in _SUMS:
            setattr(self, name, 0.0)

    def began(self, size_bytes: int, key_bytes: int, weight: float) -> None:
        """An entry was set; *key_bytes* is 0 when its key could not be measured."""
        self.sizes.update(size_bytes, weight)
        if 0 < key_bytes <= size_bytes:  # a user's weigher may say less than the key alone has
            self.key_bytes += key_bytes * weight
            self.value_bytes += (size_bytes - key_bytes) * weight

    def ended(self, cause: int, age_seconds: float, weight: float) -> None:
        """An entry left at that age."""
        name = CAUSES[cause]
        ages = self.ages.get(name)
        if ages is None:
            ages = self.ages[name] = Quantiles()
        ages.update(max(age_seconds, 0.0), weight)  # another thread may be late to hand its event in

    def held(self, size_bytes: float, since: float, read: float, until: float) -> None:
        """An entry was held from *since* to *until*, watched, last read at *read* (0.0 for never), and has left."""
        if read > since:
            self.useful += size_bytes * (read - since)
            since = read
        if until > since:
            self.wasted += size_bytes * (until - since)

    def left_open(self, size_bytes: float, since: float, read: float, until: float) -> None:
        """The same of an entry that is still there when the watch ends."""
        if read > since:
            self.useful += size_bytes * (read - since)
            since = read
        if until > since:
            self.open += size_bytes * (until - since)

    def lived(self, size_bytes: float, was_read: bool, weight: float) -> None:
        """An entry left whose whole life was watched."""
        self.watched_lives += weight
        self.watched_bytes += size_bytes * weight
        self.lives_counted += 1
        if not was_read:
            self.wonders += weight
            self.wonder_bytes += size_bytes * weight

    def merge(self, other: Lives) -> None:
        """Add what another bucket, object or process saw."""
        self.sizes.merge(other.sizes)
        for name, ages in other.ages.items():
            self.ages.setdefault(name, Quantiles()).merge(ages)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    # Results

    def efficiency(self) -> tuple[float | None, float]:
        """``(useful share of the byte-seconds held, its standard error)``; None until there is enough to say.

        What was open when a watch ended is taken to go on as the rest did; that it may not have is in the error.
        """
        known = self.useful + self.wasted
        total = known + self.open
        if known <= 0.0 or self.open > _MOST_OPEN * total:
            return None, 0.0
        ratio = self.useful / known
        return ratio, self.open / total * max(ratio, 1.0 - ratio)

    def wonder_ratios(self) -> tuple[float | None, float | None, float]:
        """``(share of entries never read, share of bytes, standard error)``; None until there is enough to say."""
        if self.lives_counted < _ENOUGH_LIVES or self.watched_lives <= 0:
            return None, None, 0.0
        share = self.wonders / self.watched_lives
        by_bytes = self.wonder_bytes / self.watched_bytes if self.watched_bytes else None
        return share, by_bytes, (share * (1.0 - share) / self.lives_counted) ** 0.5

    def key_to_value_ratio(self) -> float | None:
        """Bytes of keys per byte of values; None where no key could be measured."""
        return self.key_bytes / self.value_bytes if self.key_bytes and self.value_bytes > 0 else None

    def lifetimes(self) -> tuple[Lifetime, ...]:
        """Ages of entries that left, by cause."""
        out = []
        for cause in CAUSES:
            spread = self.ages[cause].distribution() if cause in self.ages else None
            if spread is not None:
                out.append(Lifetime(cause=cause, age_seconds=spread))
        return tuple(out)

    def to_dict(self) -> dict[str, object]:
        """The fold's state as JSON types."""
        out: dict[str, object] = {name: getattr(self, name) for name in _SUMS}
        out["sizes"] = self.sizes.to_dict()
        out["ages"] = {name: ages.to_dict() for name, ages in self.ages.items()}
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Lives:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: A part is not what :meth:`to_dict` gives; the message names it.
        """
        out = cls()
        data = as_object("lives", data)
        for name in _SUMS:
            setattr(out, name, as_amount(name, data.get(name)))
        out.sizes = Quantiles.from_dict(as_object("sizes", data.get("sizes")))
        for cause, ages in as_object("ages", data.get("ages")).items():
            if cause not in CAUSES:
                raise ValueError(f"ages: expected causes among {', '.join(CAUSES)}, found {cause!r}")
            out.ages[cause] = Quantiles.from_dict(as_object(f"ages of {cause}", ages))
        return out
