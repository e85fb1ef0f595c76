"""How long do entries live, and are they used?"""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.results import HistogramBar, Lifetime, Share
from cachescope.report import report_to_text
from cachescope.report.bars import joined
from report.analyses import distribution, histogram, lives
from report.reports import cache, report, section

QUESTION = "How long do entries live, and are they used?"


def asked(*rows, width=80, name=None, verbose=False):
    caches = dict.fromkeys(["users", *(row.cache_name for row in rows)])
    text = report_to_text(
        report(*map(cache, caches), allocation_patterns=rows), width=width, cache=name, verbose=verbose
    )
    return section(text, QUESTION)


def test_caches_have_their_usual_end_and_their_use():
    """The cause that most entries leave for, efficiency, one-hit wonders, with errors in points."""
    expiring = lives(
        "prices",
        lifetimes=(Lifetime(cause="expired", age_seconds=distribution(60.0)),),
        one_hit_wonder_ratio=None,
        memory_efficiency_std_error=0.0,
        churn_bytes_per_s=1.0,
    )
    assert asked(lives(), expiring) == (
        "  Cache          Median age   In use  Never read  Churn/s  Size p50  Size p99\n"
        "  users   evicted 2 min 1 s  62 ±2 %     38 ±2 %      518  5.66 KiB  55.5 KiB\n"
        "  prices      expired 1 min     62 %           -      518  5.66 KiB  55.5 KiB\n"
        "  in use: of the bytes over time, what lay between an entry's set and its last\n"
        "  hit; never read: of the entries that left, those that no lookup ever hit\n"
    )


def test_silent_caches_are_left_out():
    """A cache that took nothing and lost nothing has no lives to tell of."""
    silent = lives("b", entry_bytes=None, lifetimes=(), churn_per_s=0.0)
    assert asked(silent) == ""
    assert asked(silent, name="b") == ""
    assert "b  " not in asked(lives("a"), silent)


def test_few_rows_are_shown_and_all_when_verbose():
    """Those that allocate most per second first."""
    rows = [lives(f"cache-{place}", churn_bytes_per_s=float(place)) for place in range(8)]
    text = asked(*rows)
    assert text.splitlines()[1].startswith("  cache-7")
    assert "and 3 more caches" in text
    assert "cache-0" in asked(*rows, verbose=True)


def test_one_cache_in_depth():
    """Ages by cause, sizes as bars, threads and tasks."""
    text = asked(lives(), name="users")
    assert text.startswith(
        "  Age when  Entries        p50         p90         p99          Max\n"
        "  evicted   162,070  2 min 1 s  4 min 20 s  6 min 50 s  11 min 30 s\n"
        "  deleted       410     12.0 s      36.0 s  1 min 58 s   3 min 10 s\n"
    )
    for part in (
        "  never read      38 ±2 %     of the entries that left, with 41 % of the bytes",
        "  churn           518/s       entries came or left, 4.07 MiB a second\n",
        "  keys to values  1 %         bytes of keys for bytes of values\n",
        "  up to 4.00 KiB   21,900   10 % ██████\n",
        "  up to 8.00 KiB   88,000   41 % ████████████████████████\n",
        "  p50 5.66 KiB · p90 17.0 KiB · p99 55.5 KiB · p99.9 119 KiB · max 93.8 KiB\n",
        "  worker-2    751 MiB   45 % ██▊      96,100\n",
        "  By task       Set  Share            Sets\n",
    ):
        assert part in text
    assert "allocation" not in text


def test_one_cache_verbose_has_rates_and_kinds_of_keys():
    """Each kind of event with its rate and its bytes; kinds that never happened are left out."""
    text = asked(lives(), name="users", verbose=True)
    assert "  allocation  212,480      294  1.63 GiB ±2%  2.31 MiB\n" in text
    assert "  hit            3.9M    5,412\n" in text
    assert "  load " not in text
    assert "  user:{int}:cart     80.0 MiB    5 %" in text


def test_one_thread_that_did_it_all_is_no_news():
    """A table of one row with 100 % in it says nothing."""
    alone = (Share(label="MainThread", count=5, size_bytes=5, share=1.0),)
    assert "MainThread" not in asked(lives(by_thread=alone), name="users")


def test_efficiency_is_told_once():
    """The profile has it as well, without its error."""
    shown = report_to_text(report(cache(), allocation_patterns=(lives(),)), cache="users")
    assert "bytes in use" not in shown
    assert "bytes in use" in report_to_text(report(cache()), cache="users")


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_odd_figures_are_not_shown(odd):
    """A damaged capture breaks no report."""
    row = lives(
        churn_per_s=1.0,
        churn_bytes_per_s=odd,
        memory_efficiency_ratio=odd,
        one_hit_wonder_std_error=odd,
        entry_bytes=distribution(odd, histogram=(HistogramBar(low=0.0, high=odd, count=odd),)),
        lifetimes=(Lifetime(cause="evicted", age_seconds=distribution(odd)),),
    )
    for name in (None, "users"):
        text = asked(row, name=name, verbose=True)
        assert "nan" not in text
        assert "inf" not in text


@given(st.lists(st.integers(0, 1_000), max_size=40), st.integers(1, 12))
def test_joined_bars_keep_every_entry_and_both_ends(counts, most):
    """Fewer bars of the same whole."""
    rows = list(histogram(1.0, *map(float, counts)))
    fewer = joined(rows, most)
    assert len(fewer) <= most
    assert sum(one.count for one in fewer) == sum(counts)
    if rows:
        assert (fewer[0].low, fewer[-1].high) == (rows[0].low, rows[-1].high)
    assert all(left.high == right.low for left, right in itertools.pairwise(fewer))


def test_many_bars_are_joined_unless_verbose():
    """A dozen tells the shape."""
    spread = dataclasses.replace(lives().entry_bytes, histogram=histogram(1.0, *range(1, 21)))
    assert asked(lives(entry_bytes=spread), name="users").count("  up to ") == 10
    assert asked(lives(entry_bytes=spread), name="users", verbose=True).count("  up to ") == 20
