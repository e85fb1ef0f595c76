import math

import pytest

from cachescope.report.findings import FindingKind, findings, fullness
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
