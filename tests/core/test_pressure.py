"""Pressure: a level rises at once, falls late, and says so once."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.analysis.pressure import (
    Measurement,
    Place,
    Pressure,
    PressureChange,
    PressureLevel,
    Threshold,
    measured,
)
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import MemoryEventType
from cachescope.core.results import CacheUse, MemorySnapshot

NORMAL, HIGH, CRITICAL = PressureLevel
PROCESS: Place = ("process", "")
LIMIT = 1_000

figures = st.one_of(st.none(), st.just(math.nan), st.just(-1), st.integers(0, 1_300))


def fed(pressure: Pressure, *used: float | None, limit: float | None = None) -> list[PressureLevel]:
    """The levels that were said, for one figure a second."""
    told = []
    for second, figure in enumerate(used):
        told += pressure.judge(float(second), {PROCESS: Measurement(figure, limit)})
    return [change.level for change in told]


def of_process(**options: Any) -> Pressure:
    return Pressure([Threshold("process", limit_bytes=LIMIT)], **options)


def snapshot(**figures: Any) -> MemorySnapshot:
    unknown = dict.fromkeys(
        [
            *("rss_bytes", "uss_bytes", "swap_bytes", "system_total_bytes", "system_available_bytes"),
            *("container_limit_bytes", "container_used_bytes", "container_source", "allocator_free_bytes"),
            "traced_bytes",
        ]
    )
    return MemorySnapshot(**{**unknown, "timestamp": 1.0, "python_blocks": 0, "gc": (), "cache_bytes": 0, **figures})


def naive(used: list[Any], high: float, critical: float, release: float) -> list[int]:
    """The level after each figure: how many of two switches are on."""
    on, out = [False, False], []
    for figure in used:
        if figure is not None and figure >= 0:  # false for NaN
            for switch, mark in enumerate((high, critical)):
                on[switch] = figure / LIMIT >= (mark - release if on[switch] else mark)
        out.append(sum(on))
    return out


@given(
    st.lists(figures, max_size=60),
    st.sampled_from([0.5, 0.8, 0.9]),
    st.sampled_from([0.0, 0.02, 0.15]),
    st.sampled_from([0.0, 0.05, 0.3]),
)
def test_levels_equal_those_of_two_switches_with_hysteresis(
    used: list[Any], high: float, apart: float, release: float
) -> None:
    """After every figure the level is the naive one, and a change is said exactly when it differs from the one before."""
    critical = high + apart
    pressure = Pressure([Threshold("process", None, LIMIT, high, critical)], release=release, remind_seconds=None)
    before = NORMAL
    for second, (figure, expected) in enumerate(zip(used, naive(used, high, critical, release), strict=True)):
        changes = pressure.judge(float(second), {PROCESS: Measurement(figure)})
        assert pressure.level("process") == expected
        assert [(change.before, change.level) for change in changes] == [(before, expected)] * (before != expected)
        before = pressure.level("process")


@given(st.lists(st.integers(751, 849), min_size=1, max_size=50))
def test_a_figure_that_trembles_around_a_mark_makes_one_event(used: list[int]) -> None:
    """Within the release below a mark and the next mark above, nothing is said twice."""
    assert fed(of_process(remind_seconds=None), 800, *used) == [HIGH]


def test_a_level_rises_at_the_mark_and_falls_below_mark_minus_release() -> None:
    """0.80 and 0.95 of the limit raise; 0.90 and 0.75 hold, and one byte less falls."""
    assert fed(of_process(), 799) == []
    assert fed(of_process(remind_seconds=None), 800, 949, 950, 900, 899, 750, 749) == [HIGH, CRITICAL, HIGH, NORMAL]
    assert fed(of_process(), 2_000, 10) == [CRITICAL, NORMAL]


def test_use_that_grows_again_after_it_was_told_is_told_again() -> None:
    """Who made room when told, and sees it fill up before the next look, hears of it; trembling is no growth."""
    assert fed(of_process(), 990, 1_200) == [CRITICAL, CRITICAL]
    assert fed(of_process(), 1_500, 960, 1_070) == [CRITICAL, CRITICAL]
    assert fed(of_process(), 990, 1_080, 990, 1_080) == [CRITICAL]


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf, -1, 1 << 5_000, "900", True])
def test_what_is_no_figure_keeps_the_level(nothing: Any) -> None:
    """Permission denied, or a NaN from a weigher, neither raises nor clears an alarm."""
    pressure = of_process(remind_seconds=None)
    assert fed(pressure, nothing, 900, nothing) == [HIGH]
    assert pressure.judge(9.0, {PROCESS: None}) == []
    assert pressure.judge(9.0, {}) == []
    assert pressure.level("process") is HIGH


@pytest.mark.parametrize("unknown", [None, 0, 0.4, math.nan, math.inf, -5])
def test_a_limit_that_is_not_known_is_ignored(unknown: Any) -> None:
    """Without a limit there is no share of it."""
    pressure = Pressure([Threshold("container")])
    assert pressure.judge(1.0, {("container", ""): Measurement(10**9, unknown)}) == []
    assert pressure.level("container") is NORMAL


def test_a_limit_that_changes_is_taken_over() -> None:
    """A container made smaller is under pressure at the same use; made larger, it is not."""
    pressure = Pressure([Threshold("container")])
    said = [
        pressure.judge(float(second), {("container", ""): Measurement(500, limit)})
        for second, limit in enumerate([1_000, 600, 1_000, None, 2_000])
    ]
    assert [[(change.level, change.limit_bytes) for change in changes] for changes in said] == [
        [],
        [(HIGH, 600)],
        [(NORMAL, 1_000)],
        [],
        [],
    ]


def test_of_a_budget_and_a_measured_limit_the_smaller_counts() -> None:
    """A budget holds inside a larger container, and not above a smaller one."""
    pressure = Pressure([Threshold("container", limit_bytes=1_000)])
    (first,) = pressure.judge(1.0, {("container", ""): Measurement(960, 4_000)})
    assert (first.level, first.limit_bytes) == (CRITICAL, 1_000)
    (second,) = pressure.judge(62.0, {("container", ""): Measurement(960, 970)})
    assert (second.is_reminder, second.limit_bytes) == (True, 970)


def test_a_level_that_lasts_is_called_to_mind_at_most_every_minute() -> None:
    """High for 150 seconds: said at once, after 60 and after 120 seconds; normal is never called to mind."""
    pressure = of_process()
    told = [change for second in range(151) for change in pressure.judge(second, {PROCESS: Measurement(900)})]
    assert [(change.timestamp, change.is_reminder) for change in told] == [(0, False), (60, True), (120, True)]
    assert [len(pressure.judge(second, {PROCESS: Measurement(1)})) for second in range(151, 400)] == [1] + 248 * [0]


def test_a_change_of_level_starts_the_wait_for_a_reminder_anew() -> None:
    """Critical after 50 seconds of high is called to mind 60 seconds later, not 10."""
    pressure = of_process()
    used = [900] * 50 + [960] * 80
    told = [change for at, figure in enumerate(used) for change in pressure.judge(at, {PROCESS: Measurement(figure)})]
    assert [(change.timestamp, change.level) for change in told] == [(0, HIGH), (50, CRITICAL), (110, CRITICAL)]


def test_none_means_that_nothing_is_called_to_mind() -> None:
    """With ``remind_seconds=None`` a level is said once, however long it lasts."""
    assert fed(of_process(remind_seconds=None), *[900] * 500) == [HIGH]


def test_after_a_clock_that_jumps_back_the_next_reminder_comes_in_time() -> None:
    """An hour back delays the reminder by its own minute, not by the hour."""
    pressure = of_process()
    assert pressure.judge(10_000.0, {PROCESS: Measurement(900)})
    assert not pressure.judge(6_400.0, {PROCESS: Measurement(900)})
    assert not pressure.judge(6_459.0, {PROCESS: Measurement(900)})
    assert pressure.judge(6_460.0, {PROCESS: Measurement(900)})


def test_each_cache_is_judged_alone_by_the_first_threshold_that_fits() -> None:
    """A pattern stands for every cache that fits; an exact name before it has its own budget."""
    thresholds = [Threshold("cache", "users.big", 10_000), Threshold("cache", "users.*", 100)]
    pressure = Pressure(thresholds)
    use = {("cache", name): Measurement(99) for name in ("users.big", "users.a", "users.b", "other")}
    assert [change.cache_name for change in pressure.judge(1.0, use)] == ["users.a", "users.b"]
    assert pressure.judge(2.0, {("cache", "users.a"): Measurement(1)})[0].level is NORMAL
    assert pressure.raised() == {("cache", "users.b"): CRITICAL}


def test_an_event_says_what_is_near_which_limit() -> None:
    """A subscriber learns scope, level and figures; the key is every key."""
    pressure = Pressure([Threshold("cache", "users", 1_000)])
    (change,) = pressure.judge(12.5, {("cache", "users"): Measurement(850)})
    event = change.event()
    assert (event.cache_name, event.key, event.size_bytes, event.timestamp) == ("users", "*", 850, 12.5)
    assert event.event_type is MemoryEventType.PRESSURE
    assert event.metadata == {
        "scope": "cache",
        "level": "high",
        "used_bytes": 850,
        "limit_bytes": 1_000,
        "ratio": 0.85,
    }
    assert json.loads(json.dumps(event.to_dict()))["metadata"]["level"] == "high"


def test_a_change_survives_a_capture() -> None:
    """What is written is what is read."""
    (change,) = of_process().judge(3.5, {PROCESS: Measurement(960)})
    assert PressureChange.from_dict(json.loads(json.dumps(change.to_dict()))) == change


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("scope", "galaxy"),
        ("scope", ["process"]),
        ("cache_name", None),
        ("timestamp", math.nan),
        ("level", "severe"),
        ("before", 1),
        ("used_bytes", -1),
        ("limit_bytes", 0),
        ("limit_bytes", "1"),
    ],
)
def test_a_broken_capture_is_refused_by_the_name_of_the_field(field: str, wrong: object) -> None:
    """The message says which field, and what was found."""
    (change,) = of_process().judge(3.5, {PROCESS: Measurement(960)})
    with pytest.raises(ValueError, match=field) as refusal:
        PressureChange.from_dict({**change.to_dict(), field: wrong})
    assert repr(wrong) in str(refusal.value)


def test_the_newest_changes_are_kept_and_reminders_do_not_push_them_out() -> None:
    """A thousand changes leave the last 256; a day of reminders leaves the change."""
    pressure = of_process()
    fed(pressure, *[900, 0] * 500)
    assert [change.timestamp for change in pressure.recent] == list(range(744, 1_000))
    lasting = of_process(remind_seconds=0.5)
    assert len(fed(lasting, *[900] * 1_000)) == 1_000
    assert [change.timestamp for change in lasting.recent] == [0.0]


def test_memory_stays_bounded_when_caches_without_end_are_over_budget() -> None:
    """Rows are kept for at most so many places; the rest is not judged, and nothing repeats."""
    pressure = Pressure([Threshold("cache", "*", 10)], remind_seconds=None)
    use = {("cache", f"c{n}"): Measurement(10) for n in range(10_000)}
    assert len(pressure.judge(1.0, use)) == Pressure.MOST_RAISED
    assert pressure.judge(2.0, use) == []
    assert len(pressure.raised()) == Pressure.MOST_RAISED
    assert len(pressure.judge(3.0, dict.fromkeys(use, Measurement(0)))) == Pressure.MOST_RAISED
    assert pressure.raised() == {}


def test_a_snapshot_says_what_is_used_where() -> None:
    """The machine's use is its total without what is available; the limits come along."""
    full = snapshot(
        rss_bytes=50,
        container_used_bytes=60,
        container_limit_bytes=100,
        system_total_bytes=1_000,
        system_available_bytes=300,
        caches=(CacheUse(cache_name="users", size_bytes=7, entries=1),),
    )
    assert measured(full) == {
        ("process", ""): (50, None),
        ("container", ""): (60, 100),
        ("system", ""): (700, 1_000),
        ("cache", "users"): (7, None),
    }
    assert Pressure([Threshold("system"), Threshold("container")]).judge(1.0, measured(snapshot(caches=()))) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scope": "galaxy"}, "galaxy.*process, container, system, cache"),
        ({"scope": "cache"}, "cache_name: None"),
        ({"scope": "process", "cache_name": "users"}, "cache_name: 'users'"),
        ({"scope": "process", "limit_bytes": -1}, "limit_bytes: -1"),
        ({"scope": "process", "limit_bytes": math.nan}, "limit_bytes: nan"),
        ({"scope": "process", "high": 0}, "high=0,"),
        ({"scope": "process", "high": math.nan}, "high=nan"),
        ({"scope": "process", "high": 0.9, "critical": 0.8}, r"high=0\.9, critical=0\.8"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(fields: dict[str, Any], named: str) -> None:
    """The message names the field, its value and what is expected."""
    with pytest.raises(ConfigurationError, match=named):
        Threshold(**fields)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"release": 0.8}, r"release: 0\.8.*below every high mark \(0\.8\)"),
        ({"release": -0.1}, "release"),
        ({"release": math.nan}, "release"),
        ({"remind_seconds": 0}, "remind_seconds: 0"),
        ({"remind_seconds": "60"}, "remind_seconds: '60'"),
    ],
)
def test_settings_under_which_a_level_could_not_fall_are_refused(options: dict[str, Any], named: str) -> None:
    """A release as large as the mark would hold a level for ever."""
    with pytest.raises(ConfigurationError, match=named):
        of_process(**options)
