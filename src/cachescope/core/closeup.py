"""Looking closely at a cache for a while: reads sampled or watched, operations timed, or attributed to the application's own.

A bit of ``State.armed`` is up for each reason to see reads. While any is, they leave the hot path and come by
:func:`looked_up`; while :data:`SCOPED` is, sets and deletes leave it too. Timing leaves the hot path as it is, and puts a
clock around it. Everything here runs in the application's threads, inside a cache's call:
it takes no lock, and what it adds up is handed to the batch.
"""

from __future__ import annotations

from collections.abc import Hashable
from threading import get_ident
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any

from cachescope.core import batch as b
from cachescope.core import operations, tasks
from cachescope.core.faults import swallow
from cachescope.core.held_keys import hold

if TYPE_CHECKING:
    from cachescope.core.state import State

SAMPLED = 1
"""The next reads are sampled, whatever their keys."""
WATCHED = 2
"""Every read of a followed entry is noted with its time."""
SCOPED = 4
"""An operation of the application is open: what happens in its context is attributed to it."""


class Switch:
    """Something that is up or not, for one of two purposes."""

    __slots__ = ("for_loads", "left", "up")

    def __init__(self) -> None:
        self.up = self.for_loads = False
        self.left = 0

    def begin(self, caches: int, *, loads: bool) -> None:
        """Begin to time so many caches."""
        self.left, self.for_loads = caches, loads
        self.up = True

    def one_done(self) -> None:
        """One of them has had its number; after the last, it is down."""
        self.left -= 1
        if self.left <= 0:
            self.up = False


TIMING = Switch()
"""Whether any state is being timed. Hot hooks look here first: an attribute of a constant is the cheapest thing to test.
Either operations are timed or, with *for_loads*, timed misses begin loads: waiting for the set that ends one makes sets slower.
"""

_MOST_PENDING = 8


def looked_up(state: State, key: Hashable, hit: bool) -> None:
    """Tell those who look closely of a look-up."""
    armed = state.armed
    if armed & SCOPED and state.record is not None:
        operations.saw(state.record.name, 0, 0, 0, 0, int(hit), int(not hit))
    if armed & WATCHED and not hit and state.loads_wanted > 0:
        state.loads_wanted -= 1
        _begin_load(state, key)
    if armed & WATCHED and hit:
        key_hash = hash(key)
        if key in state.followed if type(key) is str else key_hash in state.followed_hashes:
            state.reads[key_hash] = monotonic()
    if armed & SAMPLED:
        _sample(state, key, hit)


def _sample(state: State, key: Hashable, hit: bool) -> None:
    """Hand a read to the batch; ends the sample when it has enough."""
    left = state.quota
    if left <= 1:
        state.disarm(SAMPLED)
    else:
        state.quota = left - 1
    site = 0 if state.sites is None else state.sites.here(2)
    kind = b.READ_HIT if hit else b.READ_MISS
    state.batch.put((kind, state.serial, hash(key), hold(key), 0, site, get_ident(), monotonic(), 0))


# Times


def began(state: State) -> int:
    """When an operation begins that is to be timed, of the clock ``perf_counter_ns``; 0 when it is not.

    What runs inside another operation on the same object is a part of that.
    """
    if TIMING.up and state.timings_left > 0 and state.frame() is None and get_ident() not in state.timing:
        return perf_counter_ns()
    return 0


def took(state: State, what: int, took_ns: int) -> None:
    """Hand in how long an operation took."""
    state.timings_left -= 1
    if state.timings_left == 0:
        TIMING.one_done()
    state.batch.time(state.serial, what, took_ns)


def lookup_took(state: State, key: Hashable, hit: bool, took_ns: int) -> None:
    """Hand in how long a look-up took. If it missed, a load begins; the set of that key will end it. Never raises."""
    try:
        took(state, b.LOOKUP_HIT if hit else b.LOOKUP_MISS, took_ns)
        if not hit and TIMING.for_loads:
            _begin_load(state, key)
    except Exception as error:
        swallow("timing", error)


def _begin_load(state: State, key: Hashable) -> None:
    """A miss: the set of its key by the same task or thread will end its load."""
    if len(state.pending) < _MOST_PENDING and state.record is not None:
        state.pending[tasks.owner(), hash(key)] = perf_counter_ns()
        state.hide_sets()


def enter(state: State) -> int:
    """As :func:`began`; loaders that run inside are told apart until :func:`lookup_ended`."""
    since = began(state)
    if since:
        state.timing[get_ident()] = 0
    return since


def lookup_ended(state: State, key: Hashable, hit: bool | None, took_ns: int) -> None:
    """Hand in how long a look-up took that was entered; *hit* is None when it was none. Never raises."""
    loader_ns = state.timing.pop(get_ident(), 0)
    if hit is not None and loader_ns:
        took(state, b.LOOKUP_MISS, max(took_ns - loader_ns, 1))  # its load was handed in already
    elif hit is not None:
        lookup_took(state, key, hit, took_ns)


def loader_began(state: State) -> int:
    """When a loader begins that a look-up calls by itself; 0 when that is not timed."""
    return perf_counter_ns() if TIMING.up and get_ident() in state.timing else 0


def loader_took(state: State, took_ns: int, failed: bool) -> None:
    """Hand in how long that loader took, which is no part of the look-up around it."""
    took(state, b.LOAD_FAILED if failed else b.LOAD, took_ns)
    ident = get_ident()
    if ident in state.timing:
        state.timing[ident] += max(took_ns, 1)


def timed(state: State, what: int, inner: Any, self: Any, key: Any, *more: Any) -> Any:
    """Run a hook with a clock around it.

    Args:
        state: The cache object's; its entries are in a dict of its own.
        what: What it does: one of the constants of timings; a hit stands for any look-up.
        inner: The hook.
        self: The cache.
        key: The key that it is about.
        more: Its other arguments.
    """
    ident = get_ident()
    state.timing[ident] = 0
    hit: bool | None = None
    took_ns = 0
    try:
        held = _held(state, key) if what == b.LOOKUP_HIT else None
        since = perf_counter_ns()
        try:
            result = inner(self, key, *more)
            took_ns = perf_counter_ns() - since
            hit = result is held
        except KeyError:
            if what == b.LOOKUP_HIT:
                took_ns, hit = perf_counter_ns() - since, False
            raise
    finally:
        if what == b.LOOKUP_HIT:
            lookup_ended(state, key, hit, took_ns)
        else:
            state.timing.pop(ident, None)
            if took_ns:
                took(state, what, took_ns)
    return result


_NOTHING: Any = object()


def _held(state: State, key: Any) -> Any:
    """What is in a cache for a key before it is looked up, expired or not."""
    data: Any = state.data
    try:
        return data.get(key, _NOTHING)
    except Exception:  # unhashable, or its methods raise: the hook will say so itself
        return _NOTHING


def load_took(state: State, key: Hashable, took_ns: int, failed: bool) -> None:
    """A load ended, of a cache all of whose loads are timed where they are made."""
    if state.pending:
        # It is not timed twice, whoever missed: tasks that want one key wait for the load of another task.
        key_hash = hash(key)
        for place in [place for place in list(state.pending) if place[1] == key_hash]:
            state.pending.pop(place, None)
        state.show()
    state.loads += 1
    state.load_ns += took_ns
    if failed:
        state.load_failures += 1
    state.batch.time(state.serial, b.LOAD_FAILED if failed else b.LOAD, took_ns)


def loaded(state: State, key: Hashable) -> None:
    """A set: it ends the load that a timed miss of this key began in the same task or thread."""
    since = state.pending.pop((tasks.owner(), hash(key)), 0)
    if since:
        state.batch.time(state.serial, b.LOAD, perf_counter_ns() - since)
    if not state.pending:
        state.show()


def give_up_loads(state: State, before_ns: int) -> None:
    """Wait no longer for loads that began before a moment of the clock ``perf_counter_ns``."""
    for place, since in list(state.pending.items()):
        if since < before_ns:
            state.pending.pop(place, None)
    if not state.pending:
        state.show()


# Attribution


def attribute(state: State, allocated: int, resized: int, freed: int, entries: int) -> None:
    """Tell the operations that this happens in what it did to the cache's bytes."""
    record = state.record
    if record is not None:
        operations.saw(record.name, allocated, resized, freed, entries, 0, 0)


def built(state: State, key: Hashable, site: int) -> int:
    """The number of a call site together with the place where the value was built that it put in."""
    sites, origins = state.sites, state.origins
    data: Any = state.data if state.data is not None else state.target()
    if sites is None or origins is None or not isinstance(data, dict):
        return site
    return sites.joined(site, origins.of(dict.get(data, key)))
