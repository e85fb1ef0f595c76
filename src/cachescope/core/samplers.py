"""Looking closely for a moment: reads are sampled, operations timed, and reads of followed entries watched.

Called by the background thread, each on beats of its own.
"""

from __future__ import annotations

import time

from cachescope.core.closeup import SAMPLED, TIMING, give_up_loads
from cachescope.core.events import ProfilingLevel
from cachescope.core.read_watch import ReadWatch
from cachescope.core.registry import CacheRegistry
from cachescope.core.state import State

_READS_PER_SAMPLE = 64
_TIMINGS_PER_SAMPLE = 64
_LOADS_PER_SAMPLE = 4
"""Loads that are timed until the next sample where reads are watched anyway: quiet caches have few misses in a moment."""
_LONGEST_LOAD_NS = 5_000_000_000
_SAMPLES_PER_LOADS = 2
"""Of so many samples of times one is of loads."""
_ARMED_SECONDS = 0.001
_TIMED_SECONDS = 0.003
_STATES_ARMED_AT_ONCE = 256
_BUSY_TURN = 3
"""Every third sample of times is of caches that used the last one up, the others are of the quiet ones."""


class Samplers:
    """Samples what the hooks of one profiler's caches see.

    Args:
        registry: The caches.
    """

    def __init__(self, registry: CacheRegistry) -> None:
        self._registry = registry
        self._watch = ReadWatch(registry.config.read_budget)
        self._turns = self._first = 0
        self._busy: set[int] = set()

    def sample_reads(self) -> None:
        """Let look-ups be sampled for a moment, and then no more.

        Armed for longer, a busy cache would pay for it and a quiet one would gain nothing.
        """
        armed = self._states()[:_STATES_ARMED_AT_ONCE]  # others than the last time, where there are more
        for state in armed:
            state.arm(SAMPLED, _READS_PER_SAMPLE)
        time.sleep(_ARMED_SECONDS)
        for state in armed:
            state.disarm(SAMPLED)

    def time_operations(self) -> None:
        """Let operations be timed for a moment, and then no more; give up waiting for loads that never ended.

        The moment may last longer than wanted, for this thread has to get its turn to end it. So busy caches are timed
        apart from quiet ones, and end it themselves when they have had their number.
        """
        if not self._wanted(self._registry.config.latency):
            return
        self._turns += 1
        loads = self._turns // _BUSY_TURN % _SAMPLES_PER_LOADS == 0
        busy_turn = self._turns % _BUSY_TURN == 0
        armed: list[State] = []
        for state in self._states():
            state.loads_wanted = _LOADS_PER_SAMPLE
            if state.pending:
                give_up_loads(state, time.perf_counter_ns() - _LONGEST_LOAD_NS)
            if (state.serial in self._busy) is busy_turn and len(armed) < _STATES_ARMED_AT_ONCE:
                state.timings_left = _TIMINGS_PER_SAMPLE
                armed.append(state)
        if not armed:
            return
        TIMING.begin(len(armed), loads=loads)
        time.sleep(_TIMED_SECONDS)
        TIMING.up = False
        for state in armed:
            (self._busy.add if state.timings_left <= 0 else self._busy.discard)(state.serial)
            state.timings_left = 0

    def watch_reads(self) -> None:
        """Watch the reads of those caches that the budget allows for."""
        registry = self._registry
        with registry.lock:
            records = list(registry.records.values())
            if not self._wanted(registry.config.watch_reads):
                self._watch.end(records)
                return
            registry.fold()
            self._watch.turn(records, time.monotonic())

    def _wanted(self, setting: bool) -> bool:
        return setting and self._registry.level >= ProfilingLevel.DETAILED

    def _states(self) -> list[State]:
        """All states; where not all can be armed at once, each time from another one on."""
        states = [state for record in list(self._registry.records.values()) for state in record.live_states()]
        if len(states) <= _STATES_ARMED_AT_ONCE:
            return states
        self._first = (self._first + _STATES_ARMED_AT_ONCE) % len(states)
        return states[self._first :] + states[: self._first]
