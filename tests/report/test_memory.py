"""What else holds the process's memory, and did memory run short?"""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from cachescope.core.results import GcGeneration
from cachescope.report import report_to_text
from cachescope.report.pressure import shortages
from report.analyses import pressure, snapshot
from report.reports import MIB, cache, process, report, section

HOLDS = "What else holds the process's memory?"
SHORT = "Did memory run short?"


def asked(question, width=80, name=None, verbose=False, **given):
    return section(report_to_text(report(cache(), **given), width=width, cache=name, verbose=verbose), question)


# -- snapshots -----------------------------------------------------------------------------------------------------


def test_one_process_with_its_container_and_machine():
    """The caches' part first: the answer to whether they are to blame."""
    assert asked(HOLDS, snapshots=(snapshot(),)) == (
        "  resident   1.56 GiB  caches hold 39 % of it, 620 MiB\n"
        "  its own    1.53 GiB  shared with no other process (USS)\n"
        "  container  1.66 GiB  83 % of its limit 2.00 GiB, cgroup v2\n"
        "  machine    5.00 GiB  available, 31 % of 16.0 GiB\n"
    )


def test_what_is_unusual_is_said_without_being_asked():
    """Swap, much slack, what the collector could not free."""
    stuck = (GcGeneration(pending=0, collections=1, collected=0, uncollectable=7),)
    text = asked(HOLDS, snapshots=(snapshot(swap_bytes=12 * MIB, allocator_free_bytes=400 * MIB, gc=stuck),))
    assert "  swapped out    12.0 MiB  of this process\n" in text
    assert "  allocator      400 MiB   kept by the C allocator, used by nobody: 25 % of" in text
    assert "  uncollectable  7 " in text


def test_verbose_says_all_and_why_something_is_missing():
    """Blocks, generations, slack, notes."""
    text = asked(HOLDS, verbose=True, snapshots=(snapshot(uss_bytes=None, notes=("USS: permission denied",)),))
    for part in ("its own", "traced"):
        assert part not in text
    for part in ("  blocks ", "8.4M", "  gc 0 ", "  gc 2 ", "allocator", "USS: permission denied"):
        assert part in text


def test_unknown_figures_and_no_container_are_left_out():
    """Outside of a container, on a machine that tells nothing."""
    bare = snapshot(uss_bytes=None, container_limit_bytes=None, system_total_bytes=None, allocator_free_bytes=None)
    assert asked(HOLDS, snapshots=(bare,)) == "  resident  1.56 GiB  caches hold 39 % of it, 620 MiB\n"
    assert asked(HOLDS, snapshots=(dataclasses.replace(bare, rss_bytes=None),)) == ""
    elsewhere = dataclasses.replace(bare, cache_bytes=4_000 * MIB)  # on a server
    assert asked(HOLDS, snapshots=(elsewhere,)) == "  resident  1.56 GiB  caches hold 3.91 GiB\n"


def test_several_processes_are_a_table_the_largest_first():
    """By their numbers where it is known which is which."""
    two = (snapshot(pid=7), snapshot(pid=8, rss_bytes=1_700 * MIB, uss_bytes=None))
    text = asked(HOLDS, snapshots=two, processes=(process(pid=7), process(pid=8)))
    lines = text.splitlines()
    assert lines[0].split() == ["Process", "Resident", "Caches", "Share", "Its", "own", "Slack"]
    assert lines[1].split()[0] == "8"
    assert lines[2].split()[:2] == ["7", "1.56"]
    assert lines[3].startswith("  container")
    assert "no. 2" in asked(HOLDS, snapshots=tuple(dataclasses.replace(one, pid=None) for one in two))


# -- pressure ------------------------------------------------------------------------------------------------------


def test_pressure_is_gathered_by_limit():
    """How often, how badly, how near, when last."""
    events = (
        pressure("high", 400, used_bytes=1_690 * MIB),
        pressure("normal", 380, used_bytes=1_500 * MIB),
        pressure("high", 200, used_bytes=1_690 * MIB),
        pressure("high", 140, used_bytes=1_700 * MIB),
        pressure("critical", 123),
        pressure("high", 500, scope="cache", cache_name="users", used_bytes=58 * MIB, limit_bytes=64 * MIB),
        pressure("normal", 300, scope="cache", cache_name="users", used_bytes=42 * MIB, limit_bytes=64 * MIB),
    )
    assert asked(SHORT, width=100, pressure=events) == (
        "  Limit of       Now       Times  Critical                    Most used  Last before end\n"
        "  the container  critical      2         1  1.91 GiB of 2.00 GiB (96 %)        2 min 3 s\n"
        "  users          normal        1            58.0 MiB of 64.0 MiB (91 %)       8 min 20 s\n"
    )
    alone = asked(SHORT, name="users", pressure=events)
    assert "users" in alone
    assert "container" not in alone


def test_reminders_are_no_further_times():
    """While a level stays, an event a minute says that it still does."""
    (row,) = shortages([pressure("critical", ago) for ago in (240, 180, 120, 60)])
    assert (row.times, row.critical, row.now) == (1, 1, "critical")


def test_order_of_events_does_not_matter_and_strange_ones_are_passed_over():
    """Merged captures bring them out of order; an older or newer version may have other words."""
    first, second = pressure("high", 100), pressure("normal", 50)
    assert shortages([second, first]) == shortages([first, second])
    assert shortages([dataclasses.replace(first, metadata=None), pressure("odd", 3), pressure("normal", 2)]) == []
    unmeasured = dataclasses.replace(first, metadata={"level": "high", "scope": "tenant", "limit_bytes": "many"})
    text = asked(SHORT, pressure=(unmeasured,))
    assert "  tenant " in text
    assert "None" not in text


@given(st.lists(st.sampled_from(["normal", "high", "critical"]), max_size=30))
def test_times_are_rises_from_normal(levels):
    """Against a naive count over pairs of neighbours."""
    events = [pressure(level, 1_000 - place) for place, level in enumerate(levels)]
    pairs = list(zip(["normal", *levels], levels, strict=False))
    rises = sum(before == "normal" and after != "normal" for before, after in pairs)
    criticals = sum(before != "critical" and after == "critical" for before, after in pairs)
    rows = shortages(events)
    assert [(row.times, row.critical, row.now) for row in rows] == ([(rises, criticals, levels[-1])] if rises else [])
