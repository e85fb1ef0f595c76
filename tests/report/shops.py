"""The shop of ``reports`` with all that the deepest level knows of it, and one in which nothing is wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

from cachescope.core.results import LevelShift, Lifetime, Report, TrendVerdict
from report.analyses import (
    CATALOG,
    END,
    MESSAGES,
    PRICES,
    SEARCH,
    SESSIONS,
    USERS,
    distribution,
    growing,
    hot_key,
    latency,
    lives,
    operation,
    performance,
    pressure,
    snapshot,
    towards_the_container,
    trend,
)
from report.reports import MIB, START, process, shop


def full_shop() -> Report:
    """The shop, with all that the deepest level knows of it."""
    bare = shop()
    return dataclasses.replace(
        bare,
        processes=tuple(
            dataclasses.replace(
                one,
                level="comprehensive",
                collects=("latency on a sample", "reads of followed entries on 2 % of a core", "tracemalloc, 10 frames"),
                tracemalloc_bytes=88 * MIB,
            )
            for one in bare.processes
        ),
        patterns=(
            dataclasses.replace(bare.patterns[0], recurrence="steady", share_of_process=0.185),
            dataclasses.replace(bare.patterns[1], recurrence="steady", churned_bytes=1_218 * MIB, share_of_process=0.12),
            dataclasses.replace(bare.patterns[2], recurrence="recurring", churned_bytes=138_000 * MIB),
            bare.patterns[3],
            dataclasses.replace(
                bare.patterns[4], recurrence="burst", churned_bytes=60 * MIB, last_seen=START + 81, share_of_process=0.007
            ),
        ),
        keys=(
            hot_key(count_error=1_204),
            hot_key("", CATALOG, pattern="({int}, {str}, {bool})", key="(1, 'en', True)", hits=9_800, misses=1_840,
                    allocation_count=1_840, live_bytes=1_474_000),
            hot_key("77aa01b3c4d5e6f7", PRICES, pattern="price:{int}", hits=8_120, misses=34, allocation_count=34,
                    live_bytes=180),
            hot_key("00112233445566", hits=4_410, misses=3, allocation_count=3, live_bytes=0, live_entries=0),
            hot_key("deadbeefdeadbeef", hits=4_001, misses=1, allocation_count=1, live_bytes=9_100),
            hot_key("0f0f0f0f0f0f0f0f", SESSIONS, pattern="sess:{hex32}", hits=812, misses=1, allocation_count=1,
                    live_bytes=12_900),
        ),
        origins=(
            dataclasses.replace(
                bare.sites[0],
                built_at="shop/auth.py:203 Session.from_cookie",
                key_pattern="sess:{hex32}",
                stack_trace=("shop/auth.py:203 Session.from_cookie", "shop/web.py:109 login"),
            ),
            dataclasses.replace(
                bare.sites[1],
                built_at="shop/models.py:88 User.from_row",
                stack_trace=("shop/models.py:88 User.from_row", "shop/users.py:39 UserStore.load"),
            ),
        ),
        allocation_patterns=(
            lives(USERS),
            lives(
                CATALOG, churn_per_s=270.9, churn_bytes_per_s=4.0e8, turnover_ratio=0.998, memory_efficiency_ratio=0.11,
                one_hit_wonder_ratio=0.84, one_hit_wonder_std_error=0.011, one_hit_wonder_bytes_ratio=0.86,
                entry_bytes=distribution(1_200_000.0),
                lifetimes=(Lifetime(cause="evicted", age_seconds=distribution(0.31, count=97_992.0)),),
            ),
            lives(
                PRICES, churn_per_s=3_573.0, churn_bytes_per_s=643_000.0, turnover_ratio=0.87, sampling_rate=0.01,
                memory_efficiency_ratio=0.55, one_hit_wonder_ratio=0.24, entry_bytes=distribution(174.0),
                lifetimes=(Lifetime(cause="expired", age_seconds=distribution(60.0, p90=60.4, p99=61.0, maximum=64.0)),),
            ),
            lives(
                SESSIONS, churn_per_s=66.6, churn_bytes_per_s=869_000.0, turnover_ratio=0.0, lifetimes=(),
                one_hit_wonder_ratio=None, one_hit_wonder_bytes_ratio=None, memory_efficiency_ratio=0.31,
                entry_bytes=distribution(12_900.0), sampling_rate=1.0, memory_efficiency_std_error=0.0,
            ),
            lives(
                SEARCH, churn_per_s=20.4, churn_bytes_per_s=60_000.0, turnover_ratio=0.76, entry_bytes=distribution(2_800.0),
                memory_efficiency_ratio=0.002, memory_efficiency_std_error=0.001, one_hit_wonder_ratio=0.998,
                one_hit_wonder_std_error=0.0008,
                lifetimes=(Lifetime(cause="evicted", age_seconds=distribution(150.0, count=6_363.0)),),
            ),
            lives(MESSAGES, churn_per_s=0.06, churn_bytes_per_s=290.0, lifetimes=(), turnover_ratio=0.0,
                  one_hit_wonder_ratio=None, memory_efficiency_ratio=0.99, memory_efficiency_std_error=0.0,
                  entry_bytes=distribution(4_900.0)),
        ),
        performance=(
            performance(USERS),
            performance(
                CATALOG,
                operations=(
                    latency("lookup", "hit", 9.0e-8),
                    latency("load", "ok", 0.084),
                    latency("load", "failed", 0.31),
                ),
                loads=98_120,
                load_failures=12_310,
                load_seconds=12_400.0,
                saved_seconds=1_420.0,
            ),
            performance(PRICES, operations=(latency("lookup", "hit", 7.4e-7), latency("set", "", 2.4e-6)), loads=0,
                        load_seconds=0.0, saved_seconds=None),
            performance(SEARCH, loads=8_411, load_seconds=16.8, saved_seconds=0.024),
        ),
        operations=(
            operation("nightly_import", CATALOG, count=1, failures=1, errors=(("TimeoutError", 1),), hits=0, misses=98_000,
                      duration_seconds=distribution(312.0, count=1.0, p99=312.0, maximum=312.0),
                      total_allocated_bytes=138_000 * MIB, memory_delta_bytes=180 * MIB),
            operation("checkout", USERS, failures=9, errors=(("PaymentError", 7), ("CancelledError", 2))),
            operation("search", SEARCH, count=8_423, hits=12, misses=8_411, total_allocated_bytes=24 * MIB,
                      memory_delta_bytes=6 * MIB, duration_seconds=distribution(0.0023)),
        ),
        trends=(
            towards_the_container(),
            towards_the_container(last_bytes=1_622 * MIB, seconds_to_limit=490.0, seconds_to_limit_low=470.0,
                                  seconds_to_limit_high=None),
            growing(SESSIONS),
            trend(USERS),
            trend(CATALOG),
            trend(PRICES, TrendVerdict.SAWTOOTH, first_bytes=38 * MIB, last_bytes=42 * MIB, period_seconds=61.0,
                  reason="11 falls of more than 15 MiB; the troughs stay where they are"),
            trend(SEARCH, TrendVerdict.SHIFTED, last_bytes=6 * MIB, reason="one shift explains 98 % of all changes",
                  shifts=(LevelShift(at=START + 260, before=1.2 * MIB, after=6.0 * MIB),)),
            trend(MESSAGES, TrendVerdict.UNKNOWN),
        ),
        snapshots=(
            snapshot(),
            snapshot(timestamp=END - 3, rss_bytes=1_622 * MIB, uss_bytes=1_590 * MIB, swap_bytes=12 * MIB,
                     allocator_free_bytes=140 * MIB, notes=("the container's limit is memory.high of a parent group",)),
        ),
        pressure=(
            pressure("high", 400, used_bytes=1_690 * MIB),
            pressure("normal", 380, used_bytes=1_500 * MIB),
            pressure("high", 200, used_bytes=1_690 * MIB),
            pressure("high", 140, used_bytes=1_780 * MIB),
            pressure("critical", 123),
            pressure("high", 90, used_bytes=1_880 * MIB),
            pressure("critical", 12, used_bytes=1_990 * MIB),
            pressure("high", 500, scope="cache", cache_name=PRICES, used_bytes=58 * MIB, limit_bytes=64 * MIB),
            pressure("normal", 300, scope="cache", cache_name=PRICES, used_bytes=42 * MIB, limit_bytes=64 * MIB),
        ),
    )  # fmt: skip


def healthy_shop() -> Report:
    """One process with three good caches, of which all is known and nothing stands out."""
    bare = full_shop()
    good = {USERS, PRICES, MESSAGES}

    def of(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(row for row in rows if row.cache_name in good)

    return dataclasses.replace(
        bare,
        processes=(process(collects=("latency on a sample",)),),
        caches=tuple(
            dataclasses.replace(one, current_memory_bytes=398 * MIB) if one.cache_name == PRICES else one
            for one in of(bare.caches)
        ),
        patterns=tuple(
            dataclasses.replace(one, live_bytes=390 * MIB) if one.cache_name == PRICES else one
            for one in of(bare.patterns)
        ),
        sites=of(bare.sites),
        keys=of(bare.keys),
        origins=(),
        allocation_patterns=of(bare.allocation_patterns),
        performance=of(bare.performance),
        operations=(),
        trends=(trend(), *(trend(name) for name in sorted(good))),
        snapshots=(snapshot(),),
        pressure=(),
    )
