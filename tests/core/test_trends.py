"""Trends: simulated series whose truth is known get the right verdict, and an honest interval."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core.analysis.series import Fitting, clean, despiked
from cachescope.core.analysis.shapes import sawtooth
from cachescope.core.analysis.trends import Limit, time_to_limit, trend_of
from cachescope.core.results import MemoryTrend, TrendVerdict

MIB = 1 << 20
NOW = 1_700_000_000.0
EVERY_SECONDS = 30.0
Points = list[tuple[float, float]]
V = TrendVerdict


def remembering(rng: random.Random, count: int, rho: float, sd: float) -> list[float]:
    """AR(1) noise: each value keeps *rho* of the one before it."""
    out, value = [], rng.gauss(0, sd)
    for _ in range(count):
        out.append(value)
        value = rho * value + rng.gauss(0, sd * math.sqrt(1 - rho * rho))
    return out


def series(
    shape: Callable[[float], float], seed: int = 1, count: int = 120, rho: float = 0.0, sd: float = MIB
) -> Points:
    """50 MiB plus *shape*, a function of 0 to 1 that gives bytes, under noise."""
    noise = remembering(random.Random(seed), count, rho, sd)
    return [(NOW + i * EVERY_SECONDS, 50 * MIB + shape(i / (count - 1)) + noise[i]) for i in range(count)]


def verdicts(runs: int, make: Callable[[int], Points]) -> Counter[TrendVerdict]:
    return Counter(trend_of(make(seed)).verdict for seed in range(runs))


def saw(cycles: float, swing: float = 30 * MIB) -> Callable[[float], float]:
    return lambda x: swing * (cycles * x % 1.0)


def figures(trend: MemoryTrend) -> list[float | None]:
    return [trend.slope_bytes_per_s, trend.slope_low_bytes_per_s, trend.slope_high_bytes_per_s]


# What it tells apart


@pytest.mark.parametrize(
    ("expected", "shape", "rho", "sd"),
    [
        (V.STEADY, lambda x: 0, 0.0, MIB),
        (V.GROWING, lambda x: 30 * MIB * x, 0.5, MIB),
        (V.GROWING, lambda x: 2 * MIB * x, 0.0, MIB),
        (V.GROWING, lambda x: 30 * MIB * max(x - 0.5, 0), 0.0, MIB),
        (V.SHRINKING, lambda x: -30 * MIB * x, 0.5, MIB),
        (V.SHIFTED, lambda x: 20 * MIB * (x > 0.6), 0.3, MIB),
        (V.SHIFTED, lambda x: -20 * MIB * (x > 0.6), 0.0, 100.0),
        (V.SHIFTED, lambda x: 60 * MIB * min(x / 0.3, 1), 0.3, MIB),
        (V.SHIFTED, lambda x: 60 * MIB * min(x / 0.7, 1), 0.0, MIB),
        (V.SAWTOOTH, saw(7.3), 0.0, MIB),
        (V.GROWING, lambda x: saw(7.3)(x) + 30 * MIB * x, 0.0, MIB),
        (V.PERIODIC, lambda x: 20 * MIB * math.sin(2 * math.pi * 6 * x), 0.5, MIB),
        (V.PERIODIC, lambda x: 20 * MIB * (6.2 * x % 1 < 0.5), 0.0, MIB),
        (V.GROWING, lambda x: 20 * MIB * math.sin(2 * math.pi * 6 * x) + 30 * MIB * x, 0.5, MIB),
    ],
)
def test_a_known_shape_gets_its_verdict(
    expected: TrendVerdict, shape: Callable[[float], float], rho: float, sd: float
) -> None:
    """Of 20 seeded runs at least 17 are right."""
    counts = verdicts(20, lambda seed: series(shape, seed, rho=rho, sd=sd))
    assert counts[expected] >= 17, counts


def test_a_cache_that_fills_ever_more_slowly_is_seldom_called_growing() -> None:
    """Random keys fill a cache along an exponential: it has no corner to be found, and still it has stopped."""
    counts = verdicts(20, lambda seed: series(lambda x: 60 * MIB * (1 - math.exp(-9 * x)), seed, 240, 0.3))
    assert counts[V.GROWING] <= 6, counts


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95])
def test_a_steady_series_is_seldom_called_growing(rho: float) -> None:
    """At most 5 % of 200 runs, however slow the noise; and shrinking as seldom."""
    counts = verdicts(200, lambda seed: series(lambda x: 0, seed, count=100, rho=rho, sd=6 * MIB))
    assert counts[V.GROWING] <= 10, counts
    assert counts[V.SHRINKING] <= 10, counts


def test_slow_wandering_is_not_enough_to_say() -> None:
    """AR(1) noise with rho 0.95 looks like any trend; it gets no verdict, and then no figures."""
    trends = [trend_of(series(lambda x: 0, seed, rho=0.95, sd=6 * MIB)) for seed in range(50)]
    unknown = [trend for trend in trends if trend.verdict is V.UNKNOWN]
    assert len(unknown) >= 40
    assert all(figures(trend) == [None, None, None] and trend.seconds_to_limit is None for trend in unknown)


def test_slow_wandering_within_a_twentieth_of_the_level_is_steady() -> None:
    """A full cache whose bytes wander by 1 % needs no statistics."""
    counts = verdicts(30, lambda seed: series(lambda x: 0, seed, rho=0.95, sd=0.4 * MIB))
    assert counts[V.STEADY] >= 26, counts


@pytest.mark.parametrize(("count", "rho"), [(60, 0.0), (60, 0.8), (200, 0.8), (200, 0.95)])
def test_the_interval_holds_the_true_slope(count: int, rho: float) -> None:
    """In at least 90 % of 200 runs, with noise that remembers itself."""
    true = 20 * MIB / ((count - 1) * EVERY_SECONDS)
    held = 0
    for seed in range(200):
        points = series(lambda x: 20 * MIB * x, seed, count, rho, 4 * MIB)
        pace = Fitting(clean(points, -math.inf, math.inf)).pace()
        assert pace is not None
        held += pace.low <= true <= pace.high
    assert held >= 180


def test_the_interval_holds_the_true_slope_of_thinned_points() -> None:
    """Older points are further apart, as the store of snapshots keeps them."""
    held = 0
    for seed in range(100):
        points = series(lambda x: 100 * MIB * x, seed, 600, 0.8, 4 * MIB)
        kept = [point for i, point in enumerate(points) if i >= 500 or i % 10 == 0]
        trend = trend_of(kept)
        low, high = trend.slope_low_bytes_per_s, trend.slope_high_bytes_per_s
        held += low is not None and high is not None and low <= 100 * MIB / (599 * EVERY_SECONDS) <= high
    assert held >= 90


# Figures


@given(st.floats(-1e5, 1e5).filter(lambda slope: abs(slope) > 1e3), st.integers(20, 200))
@settings(max_examples=30, deadline=None)
def test_a_clean_line_gives_the_slope_of_naive_least_squares(slope: float, count: int) -> None:
    """Without noise there is one answer."""
    points = [(NOW + 30.0 * i, 1e8 + slope * 30.0 * i) for i in range(count)]
    x = [at - NOW for at, _ in points]
    y = [value for _, value in points]
    mean_x, mean_y = sum(x) / count, sum(y) / count
    naive = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    assert Fitting(clean(points, -math.inf, math.inf)).pace().slope == pytest.approx(naive, rel=1e-4)  # type: ignore[union-attr]
    if abs(slope) * 30.0 * (count - 1) > 2e6:
        trend = trend_of(points)
        assert trend.verdict is (V.GROWING if slope > 0 else V.SHRINKING)
        assert trend.slope_bytes_per_s == pytest.approx(naive, rel=1e-4)


shapes = st.sampled_from(
    [lambda x: 30 * MIB * x, lambda x: -30 * MIB * x, lambda x: 20 * MIB * (x > 0.5), saw(6.3), lambda x: 0]
)


@given(shapes, st.integers(0, 1000), st.integers(0, 10 * MIB))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_constant_added_changes_neither_verdict_nor_slope(
    shape: Callable[[float], float], seed: int, constant: int
) -> None:
    """A trend is a matter of changes; only what matters is judged by the level, and here all changes do."""
    points = series(shape, seed, count=60)
    plain, raised = trend_of(points), trend_of([(at, value + constant) for at, value in points])
    assert (plain.verdict, plain.period_seconds) == (raised.verdict, raised.period_seconds)
    if plain.verdict in (
        TrendVerdict.GROWING,
        TrendVerdict.SHRINKING,
    ):  # else the level has a say in which line is told
        assert figures(raised) == [None if x is None else pytest.approx(x, rel=1e-3, abs=1e-2) for x in figures(plain)]


@given(shapes, st.integers(0, 1000), st.sampled_from([0.125, 0.5, 4.0, 64.0]))
@settings(max_examples=30, deadline=None)
def test_time_that_is_stretched_flattens_the_slope(shape: Callable[[float], float], seed: int, factor: float) -> None:
    """The verdict doesn't depend on the clock's unit."""
    points = series(shape, seed, count=60)
    plain, slow = trend_of(points), trend_of([(at * factor, value) for at, value in points])
    assert plain.verdict is slow.verdict
    assert figures(slow) == [
        None if x is None else pytest.approx(x / factor, rel=1e-3, abs=1e-2) for x in figures(plain)
    ]


@given(st.sampled_from([lambda x: 30 * MIB * x, lambda x: -30 * MIB * x]), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_time_that_runs_backwards_negates_the_slope(shape: Callable[[float], float], seed: int) -> None:
    """Of a line; a step or a saw-tooth is another thing from behind."""
    points = series(shape, seed, count=60)
    back = [(2 * NOW - at, value) for at, value in reversed(points)]
    paces = [Fitting(clean(each, -math.inf, math.inf)).pace() for each in (points, back)]
    assert paces[0] is not None
    assert paces[1] is not None
    assert paces[0].slope == pytest.approx(-paces[1].slope, rel=1e-3)
    assert paces[0].low == pytest.approx(-paces[1].high, rel=1e-2, abs=1.0)


def test_a_shift_says_when_and_between_which_levels() -> None:
    """The step is where it was put; a second one is found as well."""
    points = series(lambda x: 20 * MIB * ((x > 0.3) + (x > 0.7)), sd=0.2 * MIB)
    trend = trend_of(points)
    assert trend.verdict is V.SHIFTED
    assert [round((shift.at - NOW) / (119 * EVERY_SECONDS), 1) for shift in trend.shifts] == [0.3, 0.7]
    assert [round((shift.after - shift.before) / MIB) for shift in trend.shifts] in ([20, 20], [20, 30], [30, 20])


@pytest.mark.parametrize("shape", [saw(6.0), lambda x: 20 * MIB * math.sin(2 * math.pi * 6 * x)])
def test_the_period_of_cycles_is_found(shape: Callable[[float], float]) -> None:
    """Within 5 %."""
    trend = trend_of(series(shape))
    assert trend.period_seconds == pytest.approx(119 * EVERY_SECONDS / 6, rel=0.05)


def test_a_leak_under_a_sawtooth_has_the_slope_of_its_troughs() -> None:
    """The teeth themselves are a hundred times as steep."""
    trend = trend_of(series(lambda x: saw(9.3)(x) + 20 * MIB * x, count=400, sd=0.2 * MIB))
    assert trend.verdict is V.GROWING
    assert trend.slope_bytes_per_s == pytest.approx(20 * MIB / (399 * EVERY_SECONDS), rel=0.2)


def test_irregular_cycles_have_no_period() -> None:
    """A cache that is cleared now and then is a saw-tooth without a period."""
    lengths, points = [20, 15, 40, 16, 35, 15, 25], []
    for length in lengths:
        for i in range(length):
            points.append((NOW + 30.0 * len(points), 50.0 * MIB + i * MIB))
    trend = trend_of(points)
    assert trend.verdict is V.SAWTOOTH
    assert trend.period_seconds is None


def test_spikes_of_single_points_are_no_teeth() -> None:
    """A request that holds much memory for a moment may be caught by a snapshot again and again."""
    points = series(lambda x: 0)
    spiked = [(at, value + 200 * MIB * (i % 17 == 5)) for i, (at, value) in enumerate(points)]
    assert trend_of(spiked).verdict is V.STEADY
    assert sawtooth(despiked(clean(spiked, -math.inf, math.inf))) is None


@pytest.mark.parametrize("change", [0, 60_000, 400_000])
def test_a_change_that_does_not_matter_is_steady(change: int) -> None:
    """Below 64 KiB, or below 1 % of the level, however clean the line is."""
    trend = trend_of([(NOW + 30.0 * i, 50.0 * MIB + change * i / 99) for i in range(100)])
    assert trend.verdict is V.STEADY
    assert trend.slope_bytes_per_s == pytest.approx(change / (99 * 30.0), abs=1e-3)


# The limit


def test_a_growing_series_says_when_it_reaches_its_limit() -> None:
    """The interval holds the true time in at least 18 of 20 runs."""
    held = 0
    for seed in range(20):
        trend = trend_of(series(lambda x: 30 * MIB * x, seed, rho=0.5), limit=Limit("budget 110 MiB", 110 * MIB))
        true = 119 * EVERY_SECONDS
        low, high = trend.seconds_to_limit_low, trend.seconds_to_limit_high
        assert trend.limit == "budget 110 MiB"
        assert low is not None
        held += low <= true <= (high if high is not None else math.inf)
    assert held >= 18


def test_a_sawtooth_reaches_its_limit_with_its_peaks() -> None:
    """The troughs would have room for longer."""
    points = series(lambda x: saw(9.3)(x) + 20 * MIB * x, count=400, sd=0.2 * MIB)
    seconds = trend_of(points, limit=Limit("", 110 * MIB)).seconds_to_limit
    assert seconds == pytest.approx((110 - 100) / 20 * 399 * EVERY_SECONDS, rel=0.3)


@pytest.mark.parametrize("shape", [lambda x: 0, lambda x: -30 * MIB * x, lambda x: 20 * MIB * (x > 0.5), saw(6.3)])
def test_what_does_not_grow_reaches_no_limit(shape: Callable[[float], float]) -> None:
    """Not even named is the limit then."""
    trend = trend_of(series(shape), limit=Limit("budget 110 MiB", 110 * MIB))
    assert (trend.limit, trend.seconds_to_limit, trend.seconds_to_limit_high) == (None, None, None)


def test_growth_that_is_past_its_limit_is_there_now() -> None:
    """0 seconds, not a negative number."""
    trend = trend_of(series(lambda x: 30 * MIB * x), limit=Limit("", 60 * MIB))
    assert (trend.seconds_to_limit_low, trend.seconds_to_limit) == (0.0, 0.0)


def test_growth_that_is_small_but_fills_the_room_matters() -> None:
    """0.5 % of the level is no trend, but it is when it takes half of what is left."""
    points = [(NOW + 30.0 * i, 1000.0 * MIB + 5 * MIB * i / 99) for i in range(100)]
    assert trend_of(points).verdict is V.STEADY
    trend = trend_of(points, limit=Limit("container limit 1,010 MiB", 1010 * MIB))
    assert trend.verdict is V.GROWING
    assert trend.seconds_to_limit == pytest.approx(99 * 30.0, rel=0.01)


def test_entries_reach_a_maxsize() -> None:
    """The same machinery, with entries for bytes."""
    points = [(NOW + 10.0 * i, float(100 + 2 * i)) for i in range(50)]
    middle, low, high = time_to_limit(points, 400) or (0.0, 0.0, 0.0)
    assert middle == pytest.approx((400 - 198) / 0.2, rel=0.01)
    assert low <= middle <= (high or 0.0)
    assert time_to_limit([(at, 100.0) for at, _ in points], 400) is None


# Bad input


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "0 points"),
        ([(NOW, 1.0)], "point"),
        ([(NOW, float(i)) for i in range(50)], "point"),
        ([(NOW + i * 30.0, math.nan) for i in range(50)], "50 points left out"),
        ([(NOW + i * 1e-3, float(i * MIB)) for i in range(50)], "within"),
        ([(NOW + i * 30.0, float(i * MIB)) for i in range(7)], "7 points; 8 are the least"),
    ],
)
def test_too_little_to_say_is_said_in_words(points: Points, words: str) -> None:
    """No points, one, all at one time, not numbers, a moment, few."""
    for window in (None, (NOW - 10, NOW + 10_000)):
        trend = trend_of(points, window=window)
        assert trend.verdict is V.UNKNOWN
        assert words in trend.reason or (window is None and "one point" in trend.reason) or not points
        assert figures(trend) == [None, None, None]


@pytest.mark.parametrize("window", [(NOW, NOW), (NOW + 1000, NOW), (math.nan, NOW)])
def test_a_window_that_is_empty_is_said_to_be(window: tuple[float, float]) -> None:
    """Zero, negative, and not a number."""
    trend = trend_of(series(lambda x: 30 * MIB * x), window=window)
    assert trend.verdict is V.UNKNOWN
    assert "window is empty" in trend.reason


def test_a_window_looks_at_its_points_only() -> None:
    """Growth before it is not its matter."""
    points = series(lambda x: 60 * MIB * min(x / 0.5, 1), sd=0.1 * MIB)
    trend = trend_of(points, window=(points[65][0], points[-1][0]))
    assert (trend.verdict, trend.points, trend.start_time) == (V.STEADY, 55, points[65][0])
    assert trend.first_bytes == round(points[65][1])


def test_a_clock_that_goes_back_a_little_loses_a_point_and_far_loses_the_shorter_run() -> None:
    """Times that are not later than all before them can't be put in order; what is left out is said."""
    points = [(NOW + 30.0 * i, 50.0 * MIB + i * MIB) for i in range(60)]
    glitch = [*points[:30], (NOW, 0.0), *points[30:]]
    assert (trend_of(glitch).points, trend_of(glitch).verdict) == (60, V.GROWING)
    assert "1 point left out" in trend_of(glitch).reason
    back = [*points[:20], *((at - 3600.0, value) for at, value in points[20:])]
    assert (trend_of(back).points, trend_of(back).verdict) == (40, V.GROWING)
    assert "20 points left out" in trend_of(back).reason


def test_bad_points_among_good_ones_change_nothing_but_the_reason() -> None:
    """NaN from a weigher, an infinite time, no number at all."""
    points = series(lambda x: 30 * MIB * x)
    bad = [(math.nan, 1.0), (NOW, math.inf), (math.inf, 1.0), (NOW, None), (NOW, 10**400), (NOW,), None]
    mixed = [*points[:50], *bad, *points[50:]]
    trend, plain = trend_of(mixed), trend_of(points)  # type: ignore[arg-type]
    assert figures(trend) == figures(plain)
    assert "7 points left out" in trend.reason


numbers = st.one_of(st.floats(), st.integers(-(10**30), 10**30), st.sampled_from([0.0, 1.0, 1e9, 5e-324]))


@given(
    st.lists(st.tuples(numbers, numbers), max_size=40),
    st.one_of(st.none(), st.tuples(st.floats(), st.floats())),
    numbers,
)
@settings(max_examples=150, deadline=None)
def test_nothing_raises(points: Points, window: tuple[float, float] | None, limit: float) -> None:
    """Whatever comes: a verdict and a reason, and finite figures or none."""
    for each in (points, sorted(points, key=lambda point: point[0] if point[0] == point[0] else 0.0)):
        trend = trend_of(each, window=window, limit=Limit("some limit", limit))
        assert trend.reason
        assert all(x is None or math.isfinite(x) for x in (*figures(trend), trend.seconds_to_limit))
        time_to_limit(each, limit)


@given(st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 1e6, 1e16]))
@settings(max_examples=50, deadline=None)
def test_no_shape_of_steps_raises(seed: int, size: float) -> None:
    """Jumps, plateaus and repeats at random times: the corners of the search for shapes."""
    rng = random.Random(seed)
    at, value, points = NOW, 0.0, []
    for _ in range(rng.randrange(5, 80)):
        at += rng.choice([0.0, 1e-6, 1.0, 1.0, 1.0, 600.0])
        value = rng.choice([value, value, value + size, 0.0, value * 2 % 1e17])
        points.append((at, value))
    assert trend_of(points, limit=Limit("x", size * 3)).reason


def test_many_points_are_averaged_and_give_the_same_slope() -> None:
    """Five thousand points, of which a fit looks at a thousand averages: columns and values stay in step."""
    points = series(lambda x: 30 * MIB * x, count=5_000, sd=10.0)
    trend = trend_of(points)
    assert (trend.points, trend.verdict) == (5_000, V.GROWING)
    assert trend.slope_bytes_per_s == pytest.approx(30 * MIB / (4_999 * EVERY_SECONDS), rel=1e-4)
