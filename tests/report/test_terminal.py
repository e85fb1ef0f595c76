import dataclasses
import math
import re

import pytest

from cachescope.core.errors import UnknownCacheError
from cachescope.report import SORT_KEYS, report_to_text
from report.analyses import (
    USERS,
    performance,
    snapshot,
    towards_the_container,
)
from report.printing import assert_calm, crowd
from report.reports import MIB, cache, hotspot, leak, process, report, shop
from report.shops import full_shop, healthy_shop

# -- what is said --------------------------------------------------------------------------------------------------


def test_top_says_what_was_profiled_and_how_much_is_held():
    first, second = report_to_text(shop(), width=120).splitlines()[:2]
    assert first == "python -m shop.web --port 8000 · 2 processes · 12 min 4 s · detailed · 1 ended badly"
    assert second == "1.21 GiB ±1% live in 6 caches: 38 % of the 3.15 GiB resident."


def test_sections_come_in_the_order_of_the_questions():
    text = report_to_text(shop())
    questions = [line for line in text.splitlines() if line.endswith("?")]
    assert questions == [
        "What stands out?",
        "Which cache holds the memory?",
        "Which kind of key?",
        "Which line of code?",
        "What did this cost, what may be wrong?",
    ]


def test_deepest_report_asks_every_question_in_order():
    """A section for each question that a person asks, what stands out first."""
    asked = [line for line in report_to_text(full_shop()).splitlines() if line.endswith("?")]
    assert asked == [
        "What stands out?",
        "Which cache holds the memory?",
        "Which kind of key?",
        "Which line of code?",
        "Where were the values built?",
        "Is it growing?",
        "Which keys are hot?",
        "How long do entries live, and are they used?",
        "How fast is it, and what do misses cost?",
        "What did the application's operations cost?",
        "What else holds the process's memory?",
        "Did memory run short?",
        "What did this cost, what may be wrong?",
    ]
    alone = [line for line in report_to_text(full_shop(), cache=USERS).splitlines() if line.endswith("?")]
    assert alone == [
        "What does it hold?",
        "Is it growing?",
        "Is it worth it?",
        "How long do entries live, and are they used?",
        "How fast is it, and what do misses cost?",
        "What came in, what left?",
        "Which types of values?",
        "Which kind of key?",
        "Which keys are hot?",
        "Which line of code?",
        "Where were the values built?",
        "What did the application's operations cost?",
        "What happened last?",
        "What did this cost, what may be wrong?",
    ]


def test_healthy_report_stays_short_and_finds_nothing():
    """Two screens at most for a program that is well."""
    text = report_to_text(healthy_shop())
    assert "What stands out?" not in text
    assert len(text.splitlines()) <= 80
    assert len(report_to_text(healthy_shop(), verbose=True).splitlines()) > 80


def test_program_without_caches_still_hears_of_its_memory():
    """Its process may grow all the same."""
    text = report_to_text(report(snapshots=(snapshot(),), trends=(towards_the_container(),)))
    assert "No cache was seen." in text
    assert "the process  growing" in text
    assert "  resident   1.56 GiB" in text


def test_foot_says_what_was_collected_and_what_tracing_costs():
    """The reader knows what was on, and the price of it."""
    text = " ".join(report_to_text(full_shop()).split())
    assert "collected latency on a sample; reads of followed entries on 2 % of a core; tracemalloc, 10 frames" in text
    assert "tracemalloc was on: 176 MiB of memory; each allocation of Python's takes several times as long" in text
    assert "times are taken on a sample; whether entries are read was watched for part of the time" in text
    assert "tracemalloc" not in report_to_text(report(cache()))


def test_exact_report_names_what_is_sampled_all_the_same():
    """Bytes may be exact where times are not."""
    text = " ".join(report_to_text(report(cache(), performance=(performance(),))).split())
    assert "none: all figures are exact, but times are taken on a sample" in text


def test_cache_row_has_its_figures():
    text = report_to_text(shop(), width=200)
    (row,) = (line for line in text.splitlines() if line.startswith(f"  {USERS}  ") and "cachetools" in line)
    for part in (
        "shop/users.py:14",
        "cachetools.LRUCache",
        "398 MiB ±2%",
        "32 %",
        "50,000",
        "94.9 %",
        "224",
        "402 MiB",
    ):
        assert part in row


def test_figures_that_find_no_room_move_below_their_row():
    text = report_to_text(shop(), width=60)
    at = next(i for i, line in enumerate(text.splitlines()) if line.startswith("  shop.users:Us"))
    below = "\n".join(text.splitlines()[at + 1 : at + 3])
    for part in ("cachetools.LRUCache", "50,000 entries", "max 50,000", "224 evictions/s"):
        assert part in below


def test_pattern_row_has_its_figures():
    text = report_to_text(shop(), width=200)
    (row,) = (line for line in text.splitlines() if line.startswith("  user:{int}:cart"))
    for part in (USERS, "22.0 MiB ±9%", "2 %", "3,900", "5.78 KiB", "90.7 %", "14,480", "20.0"):
        assert part in row


def test_lines_of_code_are_left_out_without_sites():
    assert "Which line of code?" not in report_to_text(report(cache()))


def test_line_number_survives_shortening():
    site = "services/" + "deeply/nested/" * 8 + "store.py:1234 " + "Very.long.function." * 6
    text = report_to_text(report(cache(), sites=(hotspot(pattern=None, site=site),)), width=60)
    assert "store.py:1234" in text


def test_stacks_come_when_verbose_application_frames_first():
    assert "shop/web.py:112 login" not in report_to_text(shop())
    lines = [line.strip() for line in report_to_text(shop(), verbose=True, width=120).splitlines()]
    assert lines.index("shop/web.py:112 login") < next(i for i, line in enumerate(lines) if "starlette" in line)


def test_one_cache_shows_stack_with_library_frames_counted():
    text = report_to_text(shop(), cache=USERS)
    assert "shop/web.py:77 profile" in text
    assert "[2 library frames hidden]" in text
    assert "[2 library frames hidden]" not in report_to_text(shop(), cache=USERS, verbose=True)


def test_one_cache_shows_all_that_is_known():
    text = report_to_text(shop(), cache=USERS)
    for part in (
        "made at shop/users.py:14",
        "398 MiB ±2%",
        "50,000 of 50,000",
        "container",
        "not payload",
        "turnover 76 %",
        "-1.25 GiB",
        "shop.models.User",
        "812 of 46,100",
        "user:{int}:cart",
        "bytes in use",
        "What happened last?",
    ):
        assert part in text
    assert "shop.catalog" not in text


def test_one_cache_with_a_measure_of_its_own():
    text = report_to_text(report(cache(own_size=81_213.0, max_entries=100_000)), cache="users")
    assert "81,213 of 100,000" in text
    assert "10,000 of 100,000" not in text


def test_one_cache_tells_its_notes():
    name = shop().caches[0].cache_name
    assert "reads through dict.items() can't be seen" in report_to_text(shop(), cache=name)


def test_deleted_and_cleared_are_counted_apart_where_their_bytes_are_not():
    both = cache(total_deletions=7, total_cleared=11, clears=2, total_deallocations=2_018)
    text = report_to_text(report(both), cache="users")
    assert re.search(r"deleted or cleared +18 ", text)
    assert re.search(r"^ +deleted +7 ", text, re.MULTILINE)
    assert re.search(r"^ +cleared +11 ", text, re.MULTILINE)
    assert "cleared 2 times" in text


def test_unknown_cache_names_the_near_ones():
    with pytest.raises(UnknownCacheError, match=r"shop\.pricing:price_of"):
        report_to_text(shop(), cache="shop.pricing:prices_of")


def test_foot_says_cost_and_doubts():
    text = report_to_text(shop(), width=120)
    for part in (
        "13.5 MiB of memory",
        "± is one standard error",
        f"{USERS} (12.5 %)",
        "1,812 events not counted",
        "3 faults of our own, swallowed: sizing: RecursionError (2), hook: KeyError (1)",
        "pid 4243: killed by SIGKILL",
        "shop.sessions:SessionStore.__init__.by_token: reads through dict.items()",
    ):
        assert part in text.replace("\n               ", " ")


def test_nothing_is_missing_of_a_program_that_an_exception_ended():
    """Its last capture is written after that."""
    ended = process(exit_note="ended by ValueError at app.py:3")
    text = report_to_text(dataclasses.replace(shop(), processes=(ended,)), width=120)
    assert f"pid {ended.pid}: ended by ValueError at app.py:3\n" in text


def test_exact_report_says_that_nothing_is_estimated():
    text = report_to_text(report(cache()))
    assert "none: all figures are exact" in text
    assert "±" not in text
    for word in ("dropped", "faults", "ended badly"):
        assert word not in text


def test_empty_reports():
    for result in (report(), report(processes=())):
        text = report_to_text(result)
        assert "No cache was seen." in text
        assert_calm(text, 80)


def test_caches_without_memory_or_lookups_have_no_made_up_figures():
    bare = cache(
        current_memory_bytes=0, peak_memory_bytes=0, net_memory_bytes=0, container_bytes=0, current_entries=0, hits=0,
        misses=0, total_allocations=0, total_allocated_bytes=0, total_deallocations=0, total_deallocated_bytes=0,
        total_evictions=0, total_evicted_bytes=0, duration_seconds=0.0, fragmentation_ratio=None,
        memory_efficiency_ratio=None, own_size=math.nan, max_entries=math.nan,
    )  # fmt: skip
    for name in (None, "users"):
        text = report_to_text(report(bare, duration_seconds=0.0), cache=name)
        assert not re.search(r"\b(nan|inf|None)\b", text)
        assert_calm(text, 80)


def test_memory_held_elsewhere_is_no_share_of_the_process():
    text = report_to_text(report(cache(current_memory_bytes=4_000 * MIB)))
    assert "3.91 GiB live in 1 cache, beside 1.56 GiB of resident memory." in text


def test_findings_are_gathered_by_cache_and_limited():
    many = report(*(leak(f"cache-{i:02}", fragmentation_ratio=0.6) for i in range(9)))
    text = report_to_text(many)
    assert text.count("looks like a leak") == text.count("on overhead") == 5
    assert "and 4 more caches with findings" in text
    assert report_to_text(many, verbose=True).count("looks like a leak") == 9


def test_nothing_stands_out_in_a_healthy_report():
    assert "What stands out?" not in report_to_text(report(cache()))


# -- order and amount ----------------------------------------------------------------------------------------------


def test_top_limits_rows_and_says_what_is_left():
    text = report_to_text(crowd(), top=3)
    table = text.split("Which cache holds the memory?")[1]
    assert table.count("Thing") == 3
    assert "and 37 more caches, 666 MiB together" in text


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("bytes", "shop.sessions"),
        ("entries", "shop.pricing"),
        ("hits", "shop.pricing"),
        ("misses", "shop.pricing"),
        ("hit-ratio", "shop.search"),
        ("evictions", "shop.users"),
        ("name", "shop.catalog"),
    ],
)
def test_caches_are_sorted(sort, first):
    text = report_to_text(shop(), sort=sort, width=200)
    rows = text.split("Which cache holds the memory?")[1].splitlines()
    assert rows[2].strip().startswith(first)


def test_every_order_is_tested_and_others_are_refused():
    assert set(SORT_KEYS) == {"bytes", "entries", "hits", "misses", "hit-ratio", "evictions", "name"}
    with pytest.raises(ValueError, match="hit-ratio"):
        report_to_text(shop(), sort="colour")
