"""What hooks hand over: bounded events of followed keys and sampled reads, taken away by one atomic swap.

An event is a tuple ``(kind, serial, key_hash, key, size_bytes, site, thread, at, more)``:

==========  =====================================================================================================
kind        one of the constants below
serial      the state (cache object) that it happened to
key_hash    ``hash(key)``, which identifies the life that it belongs to
key         the key itself when it is an immutable leaf, else a :class:`PatternText` made at once, so that no object
            of the user's is kept alive; None on removals
size_bytes  the charge of the entry: set, or freed
site        a call site's number (see :mod:`cachescope.core.sites`), 0 when not asked for
thread      the thread's ident
at          when, in seconds of ``time.monotonic()``
more        of a set: the number of the task (see :mod:`cachescope.core.tasks`), 0 for none; of what leaves or is
            replaced: when it was last read, as far as reads were watched, 0.0 for never; of a clear: those of all
            entries, by key hash
==========  =====================================================================================================
"""

from __future__ import annotations

from typing import Any

Event = tuple[int, int, int, Any, int, int, int, float, Any]
LOOKUP_HIT, LOOKUP_MISS, SET_TIME, DELETE_TIME, LOAD, LOAD_FAILED = range(6)
Timing = tuple[int, int, int]
"""(serial, one of the constants above, nanoseconds)."""

DELETED, EVICTED, EXPIRED, CLEARED = 0, 1, 2, 3  # the values of events.Removal, as plain ints for the hot path
SET, REPLACED, READ_HIT, READ_MISS, DIED = 4, 5, 6, 7, 8


class PatternText(str):
    """The pattern of a key that was described on the spot because the key itself may not be held."""

    __slots__ = ()


class Batch:
    """The events that hooks have appended since the last swap.

    Appending is ``events.append`` on a list found anew each time, with arguments that are locals: under the GIL no
    other thread runs between finding the list and appending, so a swap loses nothing.
    """

    __slots__ = ("dropped", "events", "limit", "timings")

    def __init__(self, limit: int = 65_536) -> None:
        self.events: list[Event] = []
        self.timings: list[Timing] = []
        self.limit = limit
        self.dropped = 0

    def put(self, event: Event) -> None:
        """Append unless full; a dropped event is counted."""
        if len(self.events) < self.limit:
            self.events.append(event)
        else:
            self.dropped += 1

    def swap(self) -> list[Event]:
        """Take away all events so far."""
        events, self.events = self.events, []
        return events

    def time(self, serial: int, what: int, took_ns: int) -> None:
        """Append how long an operation took, unless full."""
        timing = (serial, what, took_ns)  # first: what it takes may run the collector, and other threads with that
        if len(self.timings) < self.limit:
            self.timings.append(timing)
        else:
            self.dropped += 1

    def swap_timings(self) -> list[Timing]:
        """Take away all timings so far."""
        timings, self.timings = self.timings, []
        return timings
