"""How fast is it, what do misses cost, and what did the application's operations cost?"""

from cachescope.report import report_to_text
from report.analyses import distribution, latency, operation, performance
from report.reports import cache, report, section

FAST = "How fast is it, and what do misses cost?"
COST = "What did the application's operations cost?"


def asked(question, width=80, name=None, verbose=False, **given):
    text = report_to_text(report(cache("users"), cache("b"), **given), width=width, cache=name, verbose=verbose)
    return section(text, question)


def test_caches_have_times_and_what_loading_cost():
    """Those that spent most time loading first; saved is said to be an estimate."""
    rows = (performance("b", loads=0, load_seconds=0.0, saved_seconds=None, operations=()), performance("users"))
    assert asked(FAST, performance=rows) == (
        "  Cache  Hit p50  Hit p99  Set p50  Set p99  Load p50  Load p99  Loading  Saved\n"
        "  users   410 ns  4.02 µs  1.90 µs  18.6 µs   4.20 ms   41.2 ms   22 min  6.9 h\n"
        "  partly timed on a sample, quantiles within 1 %; saved: the mean load, times\n"
        "  the hits\n"
    )


def test_slowest_loading_comes_first():
    """The cache whose misses cost most is the one to look at."""
    text = asked(FAST, performance=(performance("b", load_seconds=1.0), performance("users", load_seconds=2.0)))
    assert text.index("users") < text.index("\n  b ")


def test_failures_are_counted_where_there_are_any():
    """A column of zeros would only take room."""
    assert "Failed" not in asked(FAST, performance=(performance(),))
    failing = asked(FAST, width=120, performance=(performance(load_failures=31), performance("b")))
    assert "Failed" in failing
    assert failing.count(" 31 ") == 1


def test_one_cache_has_all_quantiles_in_the_order_of_a_lookup():
    """Hit, miss, set, load; what fails last."""
    failed = latency("load", "failed", 0.31, seconds=distribution(0.31, count=12.0))
    own = performance(operations=(failed, *performance().operations), load_failures=12)
    assert asked(FAST, name="users", performance=(own, performance("b"))) == (
        "  Operation     Timed      p50      p90      p95      p99    p99.9      Max\n"
        "  lookup hit   10,000   410 ns  1.23 µs  1.84 µs  4.02 µs  8.61 µs  12.7 µs\n"
        "  lookup miss  10,000   630 ns  1.89 µs  2.83 µs  6.17 µs  13.2 µs  19.5 µs\n"
        "  set          10,000  1.90 µs  5.70 µs  8.55 µs  18.6 µs  39.9 µs  58.9 µs\n"
        "  load ok      10,000  4.20 ms  12.6 ms  18.9 ms  41.2 ms  88.2 ms   130 ms\n"
        "  load failed      12   310 ms   930 ms   1.40 s   3.04 s   6.51 s   9.61 s\n"
        "  212,480 loads · 12 failed · 22 min spent loading · 6.9 h saved by hits\n"
        "  partly timed on a sample, quantiles within 1 %; saved: the mean load, times\n"
        "  the hits\n"
    )


def test_what_was_timed_is_said():
    """Slow tiers time every operation, fast ones a sample."""
    hits = latency("lookup", "hit", 1e-6)
    redis = latency("lookup", "hit", 1e-3, sampled=False)
    assert "  timed on a sample, quantiles" in asked(FAST, performance=(performance(operations=(hits,)),))
    assert "  every operation timed, quantiles" in asked(FAST, performance=(performance(operations=(redis,)),))
    assert "  loads counted; saved" in asked(FAST, performance=(performance(operations=()),))


def test_operations_have_runs_times_and_bytes():
    """In the report's order: those that allocated most first."""
    rows = (operation(), operation("import", "b", failures=2, count=1, hits=0, misses=0))
    assert asked(COST, operations=rows) == (
        "  Operation  Cache  Runs  Failed      p50     p99  Allocated        Net    Hits\n"
        "  checkout   users   412          21.0 ms  206 ms   18.0 MiB  +2.00 MiB  87.6 %\n"
        "  import     b         1       2  21.0 ms  206 ms   18.0 MiB  +2.00 MiB\n"
    )


def test_operations_of_one_cache_name_what_ended_them():
    """Errors by type, and what a run sets."""
    rows = (operation(failures=9, errors=(("PaymentError", 7), ("CancelledError", 2))), operation("other", "b"))
    text = asked(COST, name="users", operations=rows)
    assert "a run sets 40.0 KiB (p50), 392 KiB (p99) · PaymentError 7x" in text
    assert "CancelledError 2x" in text
    assert "other" not in text
    assert "PaymentError" not in asked(COST, operations=rows)


def test_without_figures_nothing_is_asked():
    """Below DETAILED there are none."""
    assert asked(FAST) == asked(COST) == asked(FAST, name="users") == asked(COST, name="users") == ""
