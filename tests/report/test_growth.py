"""Is it growing? The verdicts of trends, as a person reads them."""

import dataclasses

from cachescope.core.results import LevelShift, TrendVerdict
from cachescope.report import report_to_text
from report.analyses import growing, towards_the_container, trend
from report.reports import MIB, START, cache, process, report, section

QUESTION = "Is it growing?"


def asked(*trends, width=80, name=None, verbose=False, top=10, caches=("users",), **given):
    text = report_to_text(
        report(*map(cache, caches), trends=trends, **given), width=width, cache=name, verbose=verbose, top=top
    )
    return section(text, QUESTION)


def test_without_trends_the_question_is_not_asked():
    """BASIC reports and old captures have none."""
    assert asked() == ""


def test_growing_process_has_slope_interval_and_time_to_its_limit():
    """The row that a person at night looks for."""
    assert asked(towards_the_container(), trend("users")) == (
        "  What         Verdict             By           95 % sure       Now        Over\n"
        "  the process  growing  +52.1 MiB/min  +50.4 to +53.8 MiB  1.56 GiB  12 min 4 s\n"
        "    container limit 2.00 GiB in about 8.6 min (8.3 min to 8.9 min)\n"
        "  steady: 1 cache\n"
    )


def test_steady_and_unknown_take_one_line_each():
    """A healthy program's answer is short, and says why what is not known is not known."""
    assert asked(trend(), trend("a"), trend("b"), trend("c", TrendVerdict.UNKNOWN)) == (
        "  steady: the process and 2 caches\n  not enough to say of 1 cache: 3 measurements; 8 are needed\n"
    )
    unknown = TrendVerdict.UNKNOWN
    assert asked(trend("c", unknown, reason="of a cache"), trend(None, unknown, reason="of the process")) == (
        "  not enough to say of the process and 1 cache: of the process\n"
    )


def test_far_end_that_never_reaches_the_limit_is_left_open():
    """The slope's lower end may be too flat."""
    text = asked(towards_the_container(seconds_to_limit_high=None))
    assert "container limit 2.00 GiB in about 8.6 min (8.3 min at the earliest)" in text


def test_shifted_cache_tells_from_where_to_where_and_no_slope():
    """A slope through a sudden change describes nothing."""
    shifts = (
        LevelShift(at=START + 100, before=MIB, after=2 * MIB),
        LevelShift(at=START + 664, before=2 * MIB, after=MIB),
    )
    shifted = trend("users", TrendVerdict.SHIFTED, shifts=shifts)
    text = asked(shifted)
    assert "from 2.00 MiB to 1.00 MiB 1 min before the end" in text
    assert "from 1.00 MiB to 2.00 MiB" not in text
    assert "/h" not in text
    assert "from 1.00 MiB to 2.00 MiB" in asked(shifted, verbose=True)


def test_periodic_cache_tells_its_period():
    """Ups and downs are no growth."""
    assert "again every 1 d" in asked(trend("users", TrendVerdict.PERIODIC, period_seconds=86_400.0))


def test_fastest_growth_comes_first_after_the_process():
    """Whoever reads only the top has read what matters."""
    rows = asked(
        growing("slow", slope_bytes_per_s=1_000.0),
        trend("up and down", TrendVerdict.SAWTOOTH, slope_bytes_per_s=9e9),
        growing("fast"),
        towards_the_container(),
    ).splitlines()
    names = [row.split("  ")[1] for row in rows if row.startswith("  ") and row[2] != " "]
    assert names == ["What", "the process", "fast", "slow", "up and down"]


def test_several_processes_are_told_apart_and_limited():
    """A server has dozens of workers; their rows must not hide the caches'."""
    workers = tuple(process(pid=pid) for pid in range(100, 130))
    trends = (*(dataclasses.replace(towards_the_container(), pid=one.pid) for one in workers), growing("users"))
    text = asked(*trends, processes=workers)
    assert "process 100 " in text
    assert "users " in text
    assert "and 25 more rows" in text
    assert "process 109 " in asked(*trends, processes=workers, verbose=True)
    assert "process 129 " in asked(*trends, processes=workers, verbose=True, top=30)
    assert "  a process " in asked(*(towards_the_container() for _ in workers), processes=workers)


def test_one_cache_has_its_reason_with_the_process_beside_it():
    """In depth, what the verdict rests on is part of the answer."""
    text = asked(growing("users"), trend("other"), towards_the_container(), name="users", caches=("users", "other"))
    assert text.splitlines()[1].startswith("  this cache   growing  +52.1 MiB/min")
    assert "the median slope over all pairs of 72 points" in text
    assert text.count("the median slope") == 1
    assert "the process  growing" in text
    assert "other" not in text


def test_one_cache_of_which_too_little_is_known_says_why():
    """No table, no figures."""
    text = asked(trend("users", TrendVerdict.UNKNOWN), trend(None, TrendVerdict.UNKNOWN), name="users")
    assert text == "  not enough to say: 3 measurements; 8 are needed\n"


def test_nothing_is_made_up_of_missing_figures():
    """A trend from an odd capture may lack anything."""
    bare = dataclasses.replace(
        growing("users"),
        slope_bytes_per_s=None,
        slope_low_bytes_per_s=float("nan"),
        limit="budget 64 MiB",
        period_seconds=float("inf"),
        reason="",
    )
    for verbose in (False, True):
        text = asked(bare, verbose=verbose)
        assert "limit: budget 64 MiB" in text
        assert "nan" not in text
        assert "None" not in text
