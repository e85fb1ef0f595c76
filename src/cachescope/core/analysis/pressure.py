"""Pressure: how near memory is to a limit, said once when it gets near and once when it is over.

A figure that trembles around a mark must not make an event each time. So a level rises at once when its mark is reached,
and falls only when the figure is *release* below that mark: a Schmitt trigger for each mark (O. H. Schmitt, A thermionic
trigger, Journal of Scientific Instruments 15, 1938).

Nothing is measured here, and no clock is read: :meth:`Pressure.judge` is given both.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

from cachescope.core.config_values import name_matcher
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import MemoryEventType
from cachescope.core.results import MemoryAllocation, MemorySnapshot

SCOPES = ("process", "container", "system", "cache")
"""What can have a limit: the process's resident memory, its control group, the machine, one cache."""
_MOST_BYTES = 1 << 63  # what is above is no measurement

Place = tuple[str, str]
"""A scope and a cache's name; the name is ``""`` for scopes that are not a cache."""


_GREW = 0.10
"""So much of the limit more than the least since it was told is growth, and no trembling."""
_GREW_SECONDS = 1.0


@enum.unique
class PressureLevel(enum.IntEnum):
    """How near to its limit; levels compare by urgency."""

    NORMAL = 0
    HIGH = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level as events and captures say it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which share of a limit on there is pressure.

    Args:
        scope: One of :data:`SCOPES`.
        cache_name: With scope ``cache``: a name, or a shell-style pattern; each cache that fits is judged alone.
        limit_bytes: The budget; 0 for the limit that is measured along with the use. With both, the smaller counts.
        high: Share of the limit from which on the level is high.
        critical: Share of the limit from which on it is critical.

    Raises:
        ConfigurationError: A field has a value that is not allowed.
    """

    scope: str
    cache_name: str | None = None
    limit_bytes: int = 0
    high: float = 0.80
    critical: float = 0.95

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ConfigurationError(f"scope: {self.scope!r} is not allowed; expected one of: {', '.join(SCOPES)}")
        if self.scope == "cache" and not (isinstance(self.cache_name, str) and self.cache_name):
            raise ConfigurationError(
                f"cache_name: {self.cache_name!r} is not allowed; a cache's budget names the cache"
            )
        if self.scope != "cache" and self.cache_name:
            raise ConfigurationError(
                f"cache_name: {self.cache_name!r} is not allowed with scope {self.scope!r}; leave it out, or use 'cache'"
            )
        if _whole_bytes(self.limit_bytes) is None:
            raise ConfigurationError(f"limit_bytes: {self.limit_bytes!r} is not allowed; expected bytes, or 0 for none")
        if not (_is_share(self.high) and _is_share(self.critical) and self.high <= self.critical):
            raise ConfigurationError(
                f"high={self.high!r}, critical={self.critical!r}: not allowed; expected shares above 0, "
                "such as 0.8 and 0.95, with high not above critical"
            )

    def fits(self, place: Place) -> bool:
        """Whether this threshold is the one for *place*."""
        scope, name = place
        if scope != self.scope:
            return False
        return self.cache_name is None or name_matcher((self.cache_name,))(name)


class Measurement(NamedTuple):
    """What is used at a place now, and the limit where the place has one of its own; None for not known."""

    used_bytes: float | None
    limit_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class PressureChange:
    """A level that changed, or that lasts and is called to mind again.

    Attributes:
        timestamp: Seconds since the epoch.
        scope: One of :data:`SCOPES`.
        cache_name: ``""`` for scopes that are not a cache.
        level: The level from now on.
        before: The level until now; the same as *level* in a reminder.
        used_bytes: What is used.
        limit_bytes: The limit then in force; above 0.
    """

    timestamp: float
    scope: str
    cache_name: str
    level: PressureLevel
    before: PressureLevel
    used_bytes: int
    limit_bytes: int

    @property
    def ratio(self) -> float:
        """Used bytes per byte of the limit."""
        return self.used_bytes / self.limit_bytes

    @property
    def is_reminder(self) -> bool:
        """Whether the level lasts, and did not change."""
        return self.level is self.before

    def event(self) -> MemoryAllocation:
        """The change as subscribers and reports get it; no thread caused it, so ``thread_id`` is 0."""
        return MemoryAllocation(
            cache_name=self.cache_name,
            key="*",
            size_bytes=self.used_bytes,
            timestamp=self.timestamp,
            event_type=MemoryEventType.PRESSURE,
            thread_id=0,
            metadata={
                "scope": self.scope,
                "level": self.level.word,
                "used_bytes": self.used_bytes,
                "limit_bytes": self.limit_bytes,
                "ratio": self.ratio,
            },
        )

    def to_dict(self) -> dict[str, object]:
        """The change as JSON types."""
        row: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        return {**row, "level": self.level.word, "before": self.before.word}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> PressureChange:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: A field is missing or wrong; the message names it.
        """
        scope, name, at = data.get("scope"), data.get("cache_name"), data.get("timestamp")
        used, limit = _whole_bytes(data.get("used_bytes")), _whole_bytes(data.get("limit_bytes"))
        if not isinstance(scope, str) or scope not in SCOPES:
            raise ValueError(f"scope: expected one of {', '.join(SCOPES)}, found {scope!r}")
        if not isinstance(name, str):
            raise ValueError(f"cache_name: expected a text, found {name!r}")
        if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
            raise ValueError(f"timestamp: expected seconds, found {at!r}")
        if used is None or not limit:
            raise ValueError(
                "used_bytes, limit_bytes: expected bytes, the limit above 0, "
                f"found {data.get('used_bytes')!r} and {data.get('limit_bytes')!r}"
            )
        return cls(float(at), scope, name, _level_of(data, "level"), _level_of(data, "before"), used, limit)


class Pressure:
    """Judge measurements by thresholds, with hysteresis.

    Not a fold: a level depends on the order of what was measured. What is kept is one row for each place whose level is
    not normal, at most *MOST_RAISED*, and the newest *MOST_RECENT* changes. One thread judges; any thread may read.

    Args:
        thresholds: What has which limit. The first that fits a place judges it.
        release: How far below its mark a figure must be for the level to fall, as a share of the limit.
        remind_seconds: How often at most a level that lasts is called to mind again, unless use has grown by a tenth of
            the limit since; None for never.

    Raises:
        ConfigurationError: *release* or *remind_seconds* is not allowed.
    """

    MOST_RECENT = 256
    MOST_RAISED = 4_096
    __slots__ = ("_raised", "recent", "release", "remind_seconds", "thresholds")

    def __init__(
        self, thresholds: Iterable[Threshold] = (), *, release: float = 0.05, remind_seconds: float | None = 60.0
    ) -> None:
        self.thresholds = tuple(thresholds)
        self.release = release
        self.remind_seconds = remind_seconds
        self.recent: tuple[PressureChange, ...] = ()
        """The newest changes of a level, oldest first; reminders are not among them."""
        self._raised: dict[Place, _Raised] = {}
        lowest = min((threshold.high for threshold in self.thresholds), default=math.inf)
        if not (_is_number(release) and 0 <= release < lowest):
            raise ConfigurationError(
                f"release: {release!r} is not allowed; expected a share from 0 to below every high mark ({lowest:g}), "
                "or a level would never fall"
            )
        if remind_seconds is not None and not (_is_number(remind_seconds) and remind_seconds > 0):
            raise ConfigurationError(f"remind_seconds: {remind_seconds!r} is not allowed; expected seconds, or None")

    def judge(self, now: float, measurements: Mapping[Place, Measurement | None]) -> list[PressureChange]:
        """Say which levels changed, and which last long enough to be called to mind.

        A place that is not measured, whose figure is None, NaN or negative, or whose limit is not known keeps its level.

        Args:
            now: Seconds since the epoch; may jump back.
            measurements: What is used where; see :func:`measured`.
        """
        changes = []
        for place, measurement in measurements.items():
            threshold = self._threshold_of(place)
            change = self._judged(now, place, threshold, measurement) if threshold and measurement else None
            if change is not None:
                changes.append(change)
        lasting = [change for change in changes if not change.is_reminder]
        if lasting:
            self.recent = (*self.recent, *lasting)[-self.MOST_RECENT :]
        return changes

    def level(self, scope: str, cache_name: str = "") -> PressureLevel:
        """The level of a place now; normal where nothing was judged."""
        raised = self._raised.get((scope, cache_name))
        return PressureLevel.NORMAL if raised is None else raised.level

    def raised(self) -> dict[Place, PressureLevel]:
        """The places whose level is not normal now."""
        return {place: raised.level for place, raised in self._raised.copy().items()}

    def _threshold_of(self, place: Place) -> Threshold | None:
        return next((threshold for threshold in self.thresholds if threshold.fits(place)), None)

    def _judged(
        self, now: float, place: Place, threshold: Threshold, measurement: Measurement
    ) -> PressureChange | None:
        used = _whole_bytes(measurement.used_bytes)
        limit = min(filter(None, (threshold.limit_bytes, _whole_bytes(measurement.limit_bytes))), default=0)
        if used is None or not limit:
            return None
        raised = self._raised.get(place)
        before = PressureLevel.NORMAL if raised is None else raised.level
        level = self._level(threshold, used / limit, before)
        if level is before:
            if raised is None or not self._is_due(raised, now, used, limit):
                return None
        elif level is PressureLevel.NORMAL:
            del self._raised[place]
        elif raised is None:
            if len(self._raised) >= self.MOST_RAISED:
                return None
            self._raised[place] = _Raised(level, now, used)
        else:
            raised.level, raised.told_at, raised.lowest_bytes = level, now, used
        return PressureChange(now, *place, level=level, before=before, used_bytes=used, limit_bytes=int(limit))

    def _level(self, threshold: Threshold, ratio: float, before: PressureLevel) -> PressureLevel:
        for level, mark in ((PressureLevel.CRITICAL, threshold.critical), (PressureLevel.HIGH, threshold.high)):
            if ratio >= (mark - self.release if before >= level else mark):
                return level
        return PressureLevel.NORMAL

    def _is_due(self, raised: _Raised, now: float, used: int, limit: float) -> bool:
        """Whether a level that lasts is to be told again: after a time, or because it grew again since it was told.

        The latter is for whoever made room when told: what fills up again before the next look never leaves the level.
        """
        raised.told_at = min(raised.told_at, now)  # after the clock jumped back, wait the time once, not the jump too
        raised.lowest_bytes = min(raised.lowest_bytes, used)
        if self.remind_seconds is None:
            return False
        waited = now - raised.told_at
        grew = used - raised.lowest_bytes >= _GREW * limit and waited >= _GREW_SECONDS
        if not grew and not waited >= self.remind_seconds:
            return False
        raised.told_at, raised.lowest_bytes = now, used
        return True


def measured(snapshot: MemorySnapshot) -> dict[Place, Measurement]:
    """What a snapshot says about every place that can have a limit."""
    total, available = snapshot.system_total_bytes, snapshot.system_available_bytes
    used = None if total is None or available is None else total - available
    return {
        ("process", ""): Measurement(snapshot.rss_bytes),
        ("container", ""): Measurement(snapshot.container_used_bytes, snapshot.container_limit_bytes),
        ("system", ""): Measurement(used, total),
        **{("cache", use.cache_name): Measurement(use.size_bytes) for use in snapshot.caches},
    }


@dataclass(slots=True)
class _Raised:
    """A place whose level is not normal, and when that was last said."""

    level: PressureLevel
    told_at: float
    lowest_bytes: int
    """The least that was used since it was last said."""


def _whole_bytes(value: object) -> int | None:
    """*value* as bytes; None for what can be none."""
    return int(value) if _is_number(value) and 0 <= value < _MOST_BYTES else None


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 < value < math.inf


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _level_of(data: Mapping[str, object], field: str) -> PressureLevel:
    for level in PressureLevel:
        if data.get(field) == level.word:
            return level
    raise ValueError(f"{field}: expected one of normal, high, critical, found {data.get(field)!r}")
