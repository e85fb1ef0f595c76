import dataclasses
import math

import pytest

from cachescope.core.results import TrendVerdict
from cachescope.report import report_to_text
from cachescope.report.findings import FindingKind, findings, fullness
from report.analyses import growing, lives, performance, pressure, towards_the_container, trend
from report.reports import MIB, START, cache, hotspot, leak, process, report, shop


def kinds(*caches, **given):
    return {(finding.cache_name, finding.kind) for finding in findings(report(*caches, **given))}


def test_healthy_cache_has_no_findings():
    assert findings(report(cache())) == ()


def test_empty_report_has_no_findings():
    assert findings(report()) == ()


def test_growing_cache_that_never_loses_an_entry_looks_like_a_leak():
    (finding,) = findings(report(leak("sessions")))
    assert finding.kind is FindingKind.UNBOUNDED
    assert finding.cache_name == "sessions"
    assert "leak" in finding.sentence
    assert "48,213 entries set in 12 min 4 s" in finding.evidence
    assert "612 MiB" in finding.evidence


def test_infinite_maximum_is_no_maximum():
    assert kinds(leak("a", max_entries=math.inf)) == {("a", FindingKind.UNBOUNDED)}


@pytest.mark.parametrize(
    "change",
    [
        {"max_entries": 100_000},
        {"total_evictions": 1, "total_deallocations": 1},
        {"total_expirations": 1, "total_deallocations": 1},
        {"total_deletions": 1, "total_deallocations": 1},
        {"clears": 1},
        {"total_allocations": 42, "current_entries": 42},
        {"current_entries": 10},
    ],
)
def test_cache_that_may_lose_entries_or_hardly_grew_is_no_leak(change):
    assert FindingKind.UNBOUNDED not in {kind for _, kind in kinds(leak(**change))}


def test_cache_filled_at_the_start_is_no_leak():
    early = (hotspot(first_seen=START + 1, last_seen=START + 9),)
    late = (*early, hotspot(last_seen=START + 700))
    assert kinds(leak("a", hotspots=early)) == set()
    assert kinds(leak("a", hotspots=late)) == {("a", FindingKind.UNBOUNDED)}


def test_reading_a_kind_of_key_is_no_growth_where_the_lines_that_set_it_are_known():
    read = leak("a", hotspots=(hotspot("a", last_seen=START + 723),))
    filled_by = hotspot("a", None, site="shop/i18n.py:3 load", last_seen=START + 9)
    read_by = hotspot("a", None, site="shop/i18n.py:9 text", last_seen=START + 723, allocation_count=0)
    assert kinds(read, sites=(filled_by, read_by)) == set()
    assert kinds(read) == {("a", FindingKind.UNBOUNDED)}


def test_full_cache_that_evicts_and_seldom_hits_thrashes():
    thrashing = cache("a", total_allocations=90_000, total_evictions=80_000, hits=10_000, misses=90_000)
    (finding,) = findings(report(thrashing))
    assert finding.kind is FindingKind.THRASHES
    assert "10.0 % of 100,000 lookups hit" in finding.evidence
    assert "100 % full" in finding.evidence


@pytest.mark.parametrize(
    "change",
    [{"hits": 90_000, "misses": 10_000}, {"total_evictions": 100}, {"current_entries": 5_000}, {"max_entries": None}],
)
def test_cache_that_evicts_but_hits_or_is_not_full_does_not_thrash(change):
    values = {"total_allocations": 90_000, "total_evictions": 80_000, "hits": 10_000, "misses": 90_000} | change
    assert FindingKind.THRASHES not in {kind for _, kind in kinds(cache(**values))}


def test_fullness_is_in_the_caches_own_unit_where_it_has_one():
    assert fullness(cache(own_size=50.0, max_entries=100)) == 0.5
    assert fullness(cache(max_entries=20_000)) == 0.5
    assert fullness(cache(max_entries=0)) is None
    assert fullness(cache(max_entries=None)) is None


def test_cache_without_hits_over_many_lookups_earns_nothing():
    assert kinds(cache("a", hits=3, misses=20_000)) == {("a", FindingKind.EARNS_NOTHING)}
    assert kinds(cache("a", hits=0, misses=299)) == set()
    assert kinds(cache("a", hits=0, misses=0)) == set()


def test_cache_far_from_its_maximum_is_not_limited_by_it():
    far = cache("a", max_entries=1_000_000, total_evictions=0, total_deallocations=0)
    (finding,) = findings(report(far))
    assert finding.kind is FindingKind.LIMIT_FAR
    assert "1 % of the maximum 1.0M" in finding.evidence
    assert kinds(cache("a", max_entries=1_000_000)) == set()  # it evicts, whatever its maximum


def test_objects_made_again_and_again_and_all_kept():
    (finding,) = findings(report(cache("a", instances=4_000, instances_total=4_000)))
    assert finding.kind is FindingKind.INSTANCES_KEPT
    assert kinds(cache("a", instances=4, instances_total=4_000)) == set()


def test_entries_held_long_after_their_last_hit():
    assert kinds(cache("a", memory_efficiency_ratio=0.04)) == {("a", FindingKind.HELD_UNUSED)}
    assert kinds(cache("a", memory_efficiency_ratio=None)) == set()


def test_mostly_overhead():
    assert kinds(cache("a", fragmentation_ratio=0.7)) == {("a", FindingKind.OVERHEAD)}


def test_cache_with_more_than_all_others_together_holds_most():
    big = cache("big", current_memory_bytes=100 * MIB)
    assert kinds(big, cache("small")) == {("big", FindingKind.HOLDS_MOST)}
    assert kinds(big) == set()
    assert kinds(cache("b", current_memory_bytes=900_000), cache("s", current_memory_bytes=1)) == set()


def test_most_urgent_first_then_the_larger_cache():
    found = findings(shop())
    assert [(finding.cache_name, finding.kind) for finding in found] == [
        ("shop.sessions:SessionStore.__init__.by_token", FindingKind.UNBOUNDED),
        ("shop.catalog:Catalog.page", FindingKind.THRASHES),
        ("shop.search:_suggestions", FindingKind.THRASHES),
    ]
    assert findings(report(leak("a"), leak("b"), processes=(process(),)))[0].cache_name == "a"


# -- from the analyses ---------------------------------------------------------------------------------------------


def test_process_that_grows_towards_its_container_is_said_first():
    """Before any cache, with the time that is left."""
    found = findings(report(leak("a"), trends=(towards_the_container(),)))
    assert [(one.kind, one.of_process) for one in found] == [
        (FindingKind.RUNS_OUT, True),
        (FindingKind.UNBOUNDED, False),
    ]
    assert found[0].cache_name == ""
    assert "the process grows towards a limit: container limit 2.00 GiB in about 8.6 min" in found[0].sentence
    assert "+52.1 MiB/min over 12 min 4 s" in found[0].evidence
    text = report_to_text(report(cache("a"), trends=(towards_the_container(),)))
    assert "the process as a whole" in text
    assert "What stands out?" not in report_to_text(report(cache("a"), trends=(towards_the_container(),)), cache="a")


def test_cache_without_a_name_is_not_the_process():
    """Its own report has its own findings."""
    result = report(cache(""), trends=(towards_the_container(),))
    assert "What stands out?" not in report_to_text(result, cache="")


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": TrendVerdict.SAWTOOTH},
        {"limit": None},
        {"limit": "maxsize 4,000"},
        {"seconds_to_limit": None},
        {"seconds_to_limit_high": None},
        {"seconds_to_limit_high": math.inf},
        {"seconds_to_limit": math.nan},
        {"seconds_to_limit": 30_000.0, "seconds_to_limit_high": 31_000.0},
    ],
)
def test_doubtful_or_harmless_growth_is_no_finding(change):
    """No far forecast, no open end; a cache that fills up to its maximum does what it should."""
    assert findings(report(cache("a"), trends=(dataclasses.replace(towards_the_container(), **change),))) == ()


def test_cache_that_grows_towards_its_budget():
    """The budget is one that somebody set."""
    row = towards_the_container(cache_name="a", limit="budget 8 MiB")
    assert kinds(cache("a"), trends=(row,)) == {("a", FindingKind.RUNS_OUT)}
    assert kinds(cache("a", current_memory_bytes=900_000), trends=(row,)) == set()


@pytest.mark.parametrize(
    ("row", "leaks"),
    [
        (trend("a"), False),
        (trend("a", TrendVerdict.SHIFTED), False),
        (trend("a", TrendVerdict.SHRINKING), False),
        (trend("a", TrendVerdict.UNKNOWN), True),
        (growing("a"), True),
        (trend("b"), True),
    ],
)
def test_cache_whose_trend_is_flat_does_not_look_like_a_leak(row, leaks):
    """Two sections of one report must not contradict each other."""
    assert (("a", FindingKind.UNBOUNDED) in kinds(leak("a"), trends=(row,))) is leaks


def test_critical_pressure_is_a_finding_and_high_is_none():
    """High is a warning before the event; critical is the event."""
    critical = pressure("critical", 12.0, used_bytes=1_990 * MIB)
    (finding,) = findings(report(cache("a"), pressure=(pressure("high", 100), critical)))
    assert (finding.kind, finding.of_process) == (FindingKind.RAN_SHORT, True)
    assert finding.sentence == "the container ran short of memory"
    assert finding.evidence == (
        "critical 1 time; last near its limit 12.0 s before the end; at most 1.94 GiB of 2.00 GiB (97 %); now critical"
    )
    assert kinds(cache("a"), pressure=(pressure("high", 100),)) == set()
    budget = pressure("critical", 3.0, scope="cache", cache_name="a")
    assert kinds(cache("a"), cache("b"), pressure=(budget,)) == {("a", FindingKind.RAN_SHORT)}


def test_entries_that_are_never_read():
    """Only where the share is high and sure, and where it says more than that nothing hits."""
    row = lives("a", one_hit_wonder_ratio=0.84, one_hit_wonder_std_error=0.01)
    (finding,) = findings(report(cache("a"), allocation_patterns=(row,)))
    assert finding.kind is FindingKind.NEVER_READ
    assert finding.evidence.startswith("84 % of the entries that left had never been hit, with 41 %")
    for change in (
        {"one_hit_wonder_ratio": None},
        {"one_hit_wonder_ratio": math.nan},
        {"one_hit_wonder_ratio": 0.69},
        {"one_hit_wonder_std_error": 0.08},
        {"one_hit_wonder_std_error": math.nan},
    ):
        assert kinds(cache("a"), allocation_patterns=(dataclasses.replace(row, **change),)) == set()
    useless = cache("a", hits=0, misses=20_000)
    assert kinds(useless, allocation_patterns=(row,)) == {("a", FindingKind.EARNS_NOTHING)}


def test_loads_that_often_fail():
    """Every tenth, of a hundred at least."""
    failing = performance("a", loads=400, load_failures=60)
    (finding,) = findings(report(cache("a"), performance=(failing,)))
    assert finding.kind is FindingKind.LOADS_FAIL
    assert finding.evidence == "60 of 400 loads failed (15 %)"
    for loads, failures in ((400, 39), (99, 99), (0, 0)):
        row = performance("a", loads=loads, load_failures=failures)
        assert kinds(cache("a"), performance=(row,)) == set()
