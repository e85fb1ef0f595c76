"""The vocabulary: profiling levels, and what an operation means for bytes."""

from __future__ import annotations

import enum


class MemoryEventType(enum.Enum):
    """What an operation on a cache meant for its bytes.

    The value is the word that reports and captures use.
    """

    ALLOCATION = "allocation"
    """A new key was set: plus one entry."""
    RESIZE = "resize"
    """A key that was there was set again: plus the new size, minus the old one."""
    DEALLOCATION = "deallocation"
    """An entry was deleted or popped on request."""
    EVICTION = "eviction"
    """An entry left for want of capacity."""
    CLEANUP = "cleanup"
    """An entry left because its time was over, or the cache was cleared; the cause says which."""
    PRESSURE = "pressure"
    """A limit was neared: of the process, its container or a budget. Moves no bytes."""


@enum.unique
class ProfilingLevel(enum.IntEnum):
    """How much is collected, and therefore what it costs. Levels compare by depth."""

    BASIC = 1
    """Counters, live and peak bytes, evictions by cause, key patterns: always on in production."""
    DETAILED = 2
    """BASIC, and the line of code that fills a cache."""
    COMPREHENSIVE = 3
    """DETAILED, and the deep size of every value."""

    @classmethod
    def parse(cls, value: object) -> ProfilingLevel:
        """Turn a level, its name in any case, or its number into a level.

        Raises:
            ValueError: *value* is none of these; the message lists what is allowed.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and value.strip().upper() in cls.__members__:
            return cls[value.strip().upper()]
        if isinstance(value, int) and not isinstance(value, bool) and value in cls._value2member_map_:
            return cls(value)
        allowed = ", ".join(name.lower() for name in cls.__members__)
        raise ValueError(f"{value!r} is no profiling level; expected one of: {allowed}")


class Removal(enum.IntEnum):
    """Why an entry left. The order is that of the columns in :class:`~cachescope.core.state.State`."""

    DELETED = 0
    EVICTED = 1
    EXPIRED = 2
    CLEARED = 3

    @property
    def event_type(self) -> MemoryEventType:
        """The memory event that this cause is reported as."""
        return _EVENT_OF_REMOVAL[self]


_EVENT_OF_REMOVAL = {
    Removal.DELETED: MemoryEventType.DEALLOCATION,
    Removal.EVICTED: MemoryEventType.EVICTION,
    Removal.EXPIRED: MemoryEventType.CLEANUP,
    Removal.CLEARED: MemoryEventType.CLEANUP,
}
