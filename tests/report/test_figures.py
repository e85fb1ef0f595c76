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
