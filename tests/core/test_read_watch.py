"""When reads are watched: quiet caches always, busy ones as much as the budget pays for."""

from __future__ import annotations

import pytest

from cachescope import ProfilerConfig
from cachescope.core.batch import Batch
from cachescope.core.charging import Ledger, SizingBudget
from cachescope.core.read_watch import READ_SECONDS, ReadWatch
from cachescope.core.record import CacheRecord
from cachescope.core.sizing import Sizer
from cachescope.core.state import State


@pytest.fixture
def make():
    """Makes records with one object each, whose hits a test may add to."""
    kept = []

    def make(name, listed=True):
        record = CacheRecord(
            name, kind="dict", where="", view=None, batch=Batch(), config=ProfilerConfig(), listed=listed
        )
        state = State(0, {}, record, Ledger(Sizer(), SizingBudget(0.02, unlimited=False)))
        record.adopt(state)
        kept.append(state)
        return record, state

    return make


def live(watch, rows, seconds, turn_seconds=0.1):
    """The share of the time that each cache was watched, at so many reads per second each."""
    watched, turns = [0] * len(rows), round(seconds / turn_seconds)
    for turn in range(turns):
        for (_, state), rate in rows:
            state.hidden_hits += round(rate * turn_seconds)
        watch.turn([record for (record, _), _ in rows], 1_000.0 + turn * turn_seconds)
        for at, ((record, _), _) in enumerate(rows):
            watched[at] += record.watched
    return [n / turns for n in watched]


def test_quiet_caches_are_watched_all_the_time(make):
    """A hundred of a few reads per second cost nothing to speak of."""
    rows = [(make(f"cache{n}"), 10.0) for n in range(100)]
    assert min(live(ReadWatch(0.02), rows, 60.0)) > 0.95


@pytest.mark.parametrize("rate", [50_000.0, 200_000.0, 1_000_000.0])
def test_a_busy_cache_is_watched_for_what_the_budget_pays(make, rate):
    """Over ten minutes no more than the budget and what was saved at the start, and not much less."""
    share, seconds = 0.02, 600.0
    (watched,) = live(ReadWatch(share), [(make("busy"), rate)], seconds)
    spent = watched * seconds * rate * READ_SECONDS
    assert spent <= share * seconds + share * 60.0 + rate * 0.2 * READ_SECONDS
    assert spent >= 0.5 * share * seconds


def test_a_busy_cache_takes_nothing_from_quiet_ones(make):
    """Cheap ones come first."""
    rows = [(make("busy"), 1_000_000.0), *((make(f"quiet{n}"), 5.0) for n in range(5))]
    busy, *quiet = live(ReadWatch(0.02), rows, 300.0)
    assert min(quiet) > 0.95
    assert 0.0 < busy < 0.1


def test_without_a_budget_nothing_is_watched(make):
    """Not even caches that nobody reads."""
    assert live(ReadWatch(0.0), [(make("idle"), 0.0), (make("busy"), 1_000.0)], 5.0) == [0.0, 0.0]


def test_what_is_not_listed_is_not_watched(make):
    """The settings leave it out."""
    assert live(ReadWatch(0.02), [(make("hidden", listed=False), 1.0)], 5.0) == [0.0]


def test_a_reset_gives_no_credit(make):
    """Counters that fall are no reads that were not made."""
    record, state = make("reset")
    watch = ReadWatch(0.02)
    live(watch, [((record, state), 100_000.0)], 5.0)
    before = watch._credit
    state.hidden_hits = 0
    watch.turn([record], 1_005.0)
    assert watch._credit <= before + 0.02 * 0.2
    assert all(rate >= 0.0 for _, _, rate in watch._looked.values())


def test_all_watches_can_be_ended(make):
    """Nothing stays armed."""
    rows = [(make(f"cache{n}"), 10.0) for n in range(5)]
    live(ReadWatch(0.02), rows, 1.0)
    ReadWatch.end([record for (record, _), _ in rows])
    assert [(record.watched, state.armed) for (record, state), _ in rows] == [(False, 0)] * 5
