import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.report import figures

numbers = st.one_of(st.none(), st.integers(-(10**20), 10**20), st.floats(allow_nan=True, allow_infinity=True))


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (0.2, "0 B"),
        (1, "1 B"),
        (1_023, "1023 B"),
        (1_024, "1.00 KiB"),
        (1_290_000, "1.23 MiB"),
        (64 << 20, "64.0 MiB"),
        (612 << 20, "612 MiB"),
        ((1 << 20) - 1, "1.00 MiB"),
        ((1 << 30) - 1, "1.00 GiB"),
        (1 << 30, "1.00 GiB"),
        (-(3 << 20), "-3.00 MiB"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_byte_size_is_iec_with_three_digits(size, shown):
    assert figures.byte_size(size) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (12_345, "12,345"),
        (999_999, "999,999"),
        (1_234_567, "1.2M"),
        (99_949_999, "99.9M"),
        (99_960_000, "100M"),
        (999_499_999, "999M"),
        (999_600_000, "1.0G"),
        (12.5, "12.5"),
        (10_000.0, "10,000"),
        (-12_345, "-12,345"),
        (math.nan, "-"),
    ],
)
def test_count_is_whole_below_a_million(number, shown):
    assert figures.count(number) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.943, "94.3 %"), (0, "0 %"), (1.0, "100 %"), (1e-9, "<0.1 %"), (1 - 1e-9, ">99.9 %"), (None, "-")],
)
def test_ratio_reads_as_percentage_that_is_never_rounded_to_an_end(value, shown):
    assert figures.ratio(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0421, "42 ms"),
        (59.99, "1 min"),
        (12.34, "12.3 s"),
        (724.2, "12 min 4 s"),
        (3_599.9, "1 h"),
        (11_520, "3 h 12 min"),
        (190_000, "2 d 4 h"),
        (-1, "0 ms"),
        (math.nan, "-"),
    ],
)
def test_duration_has_its_two_largest_units(seconds, shown):
    assert figures.duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (1_000, 30, "±3%"),
        (1_000, 0, ""),
        (1_000, None, ""),
        (1_000, math.nan, ""),
        (0, 2_048, "±2.00 KiB"),
        (100, 300, "±300 B"),
        (100_000, 1, "±<1%"),
    ],
)
def test_spread_is_empty_for_what_is_exact(value, error, shown):
    assert figures.spread(value, error) == shown


@given(numbers, st.sampled_from([figures.byte_size, figures.count, figures.rate, figures.duration, figures.ratio]))
def test_no_figure_ever_says_nan_or_infinity(number, figure):
    shown = figure(number)
    assert shown
    assert not re.search(r"nan|inf|none", shown, re.IGNORECASE)


@given(st.integers(0, 1 << 69))
def test_byte_size_stays_within_eight_cells(size):
    assert len(figures.byte_size(size)) <= 8


@given(numbers, numbers)
def test_per_never_divides_by_nothing(amount, seconds):
    result = figures.per(amount, seconds)
    assert result is None or not math.isnan(result)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (math.nan, "-"),
        (-1, "0 s"),
        (0, "0 s"),
        (1e-12, "<1 ns"),
        (4.1e-7, "410 ns"),
        (9.994e-7, "999 ns"),
        (9.996e-7, "1.00 us"),
        (0.0123, "12.3 ms"),
        (0.99951, "1.00 s"),
        (59.9, "59.9 s"),
        (724, "12 min 4 s"),
    ],
)
def test_short_time_spans_nanoseconds_to_days(seconds, shown):
    """Three digits in the unit that fits."""
    assert figures.short_time(seconds, "us") == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (math.inf, "-"),
        (-1, "0 ms"),
        (0.042, "42 ms"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "60 s"),
        (59.8, "1.0 min"),
        (12_400, "3.4 h"),
        (190_000, "2.2 d"),
        (86_400 * 4_000, "4,000 d"),
    ],
)
def test_rough_duration_has_one_unit_and_two_digits(seconds, shown):
    """An estimate pretends to no more."""
    assert figures.rough_duration(seconds) == shown


def test_slopes_come_by_the_unit_that_shows_them():
    """By the minute where that is 64 KiB at least, else by the hour, else by the day; the interval likewise."""
    assert figures.slope(910_000) == "+52.1 MiB/min"
    assert figures.slope(-120) == "-422 KiB/h"
    assert figures.slope(0.0) == "0 B/d"
    assert figures.slope(math.nan) == figures.slope(None) == "-"
    assert figures.slope_interval(880_000, 940_000, 910_000) == "+50.4 to +53.8 MiB"
    assert figures.slope_interval(-10, 940_000, 910_000) == "-600 B to +53.8 MiB"
    assert figures.slope_interval(None, 1.0, 1.0) == figures.slope_interval(1.0, math.inf, 1.0) == ""


@given(numbers, st.floats(allow_nan=True, allow_infinity=True))
def test_uncertain_share_says_points_or_nothing(value, error):
    """Never nan, and no error beside an exact figure."""
    shown = figures.uncertain_share(value, error)
    assert "nan" not in shown
    assert "inf" not in shown
    if figures.is_known(value) and math.isfinite(value * 100.0) and error > 0 and math.isfinite(error * 100):
        assert "±" in shown


def test_uncertain_share_is_in_points():
    """62 percent, give or take two of the hundred."""
    assert figures.uncertain_share(0.624, 0.02, "+/-") == "62 +/-2 %"
    assert figures.uncertain_share(0.624, 1e-9) == "62.4 ±0.1 %"
    assert figures.uncertain_share(0.624, 0.0) == "62 %"
    assert figures.uncertain_share(None, 0.1) == "-"
