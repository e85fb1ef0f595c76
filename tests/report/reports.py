"""Reports built by hand: only what matters is said, everything else is plausible."""

from __future__ import annotations

from typing import Any

from cachescope.core.events import MemoryEventType
from cachescope.core.results import (
    REPORT_SCHEMA_VERSION,
    MemoryAllocation,
    MemoryHotspot,
    MemoryProfile,
    ProcessInfo,
    Report,
    ValueType,
)

START = 1_760_000_000.0
MIB = 1 << 20


def section(text: str, question: str) -> str:
    """What a printed report says under *question*, without the heading; empty where it doesn't ask it."""
    _, asked, rest = text.partition(f"\n{question}\n")
    return rest.partition("\n\n")[0].rstrip("\n") + "\n" if asked else ""


def cache(name: str = "users", **given: Any) -> MemoryProfile:
    """A healthy, full LRU cache of 5 MiB that hits nine times out of ten, unless told otherwise."""
    seconds = given.pop("duration_seconds", 724.0)
    values: dict[str, Any] = {
        "cache_name": name,
        "start_time": START,
        "end_time": START + seconds,
        "duration_seconds": seconds,
        "total_allocations": 12_000,
        "total_deallocations": 2_000,
        "total_evictions": 2_000,
        "total_expirations": 0,
        "total_deletions": 0,
        "total_cleared": 0,
        "total_resizes": 310,
        "total_allocated_bytes": 6 * MIB,
        "total_deallocated_bytes": MIB,
        "total_resized_bytes": 0,
        "total_evicted_bytes": MIB,
        "total_expired_bytes": 0,
        "net_memory_bytes": 5 * MIB,
        "current_memory_bytes": 5 * MIB + 300_000,
        "peak_memory_bytes": 5 * MIB + 400_000,
        "container_bytes": 300_000,
        "current_entries": 10_000,
        "max_entries": 10_000,
        "own_size": None,
        "instances": 1,
        "instances_total": 1,
        "hits": 90_000,
        "misses": 10_000,
        "clears": 0,
        "kind": "cachetools.LRUCache",
        "where": "shop/users.py:14",
        "fragmentation_ratio": 0.07,
        "memory_efficiency_ratio": 0.62,
    }
    return MemoryProfile(**(values | given))


def leak(name: str = "shop.sessions:SessionStore.__init__.by_token", **given: Any) -> MemoryProfile:
    """An unbounded dict that grows and never loses an entry."""
    values: dict[str, Any] = {
        "total_allocations": 48_213,
        "total_deallocations": 0,
        "total_evictions": 0,
        "total_allocated_bytes": 600 * MIB,
        "total_deallocated_bytes": 0,
        "total_evicted_bytes": 0,
        "net_memory_bytes": 600 * MIB,
        "current_memory_bytes": 612 * MIB,
        "peak_memory_bytes": 612 * MIB,
        "container_bytes": 12 * MIB,
        "current_entries": 48_213,
        "max_entries": None,
        "hits": 90_412,
        "misses": 48_213,
        "kind": "builtins.dict",
        "where": "shop/sessions.py:31",
    }
    return cache(name, **(values | given))


def hotspot(cache_name: str = "users", pattern: str | None = "user:{int}:profile", **given: Any) -> MemoryHotspot:
    """A kind of key, or a line of code when *site* is given and *pattern* is None."""
    values: dict[str, Any] = {
        "cache_name": cache_name,
        "key_pattern": pattern,
        "site": None,
        "allocation_count": 12_000,
        "total_size_bytes": 6 * MIB,
        "average_size_bytes": 524.3,
        "live_bytes": 5 * MIB,
        "live_entries": 10_000,
        "allocation_rate": 16.57,
        "hits": 90_000,
        "misses": 10_000,
        "stack_trace": (),
        "first_seen": START + 1,
        "last_seen": START + 723,
        "share_of_cache": 0.94,
    }
    return MemoryHotspot(**(values | given))


def process(**given: Any) -> ProcessInfo:
    """One process that ran for twelve minutes without a fault."""
    values: dict[str, Any] = {
        "pid": 4_242,
        "parent_pid": 4_200,
        "command": "python -m shop.web --port 8000",
        "python": "3.11.7",
        "start_time": START,
        "end_time": START + 724,
        "level": "detailed",
        "rss_bytes": 1_600 * MIB,
        "profiler_bytes": 4_300_000,
        "profiler_cpu_seconds": 0.32,
        "dropped_events": 0,
        "faults": {},
    }
    return ProcessInfo(**(values | given))


def value_type(name: str = "shop.models.User", **given: Any) -> ValueType:
    """The values of one type, all of them measured."""
    values: dict[str, Any] = {
        "type_name": name,
        "entries": 10_000,
        "live_bytes": 4 * MIB,
        "live_bytes_std_error": 0.0,
        "sized": 10_000,
    }
    return ValueType(**(values | given))


def event(key: str = "user:{int}:profile", **given: Any) -> MemoryAllocation:
    """An entry that was set two seconds before the end."""
    values: dict[str, Any] = {
        "cache_name": "users",
        "key": key,
        "size_bytes": 524,
        "timestamp": START + 722,
        "event_type": MemoryEventType.ALLOCATION,
        "thread_id": 1,
    }
    return MemoryAllocation(**(values | given))


def report(*caches: MemoryProfile, **given: Any) -> Report:
    """A report of *caches*, largest first, from one process unless told otherwise."""
    seconds = given.pop("duration_seconds", 724.0)
    values: dict[str, Any] = {
        "schema_version": REPORT_SCHEMA_VERSION,
        "generated_at": START + seconds,
        "start_time": START,
        "end_time": START + seconds,
        "duration_seconds": seconds,
        "processes": (process(),),
        "caches": tuple(sorted(caches, key=lambda one: -one.current_memory_bytes)),
        "patterns": (),
        "sites": (),
        "notes": (),
    }
    return Report(**(values | given))


def shop() -> Report:
    """A web shop with six caches: a leak, one that thrashes, one that earns nothing, two with estimates."""
    sessions = "shop.sessions:SessionStore.__init__.by_token"
    prices = "shop.pricing:price_of"
    stack = (
        "shop/sessions.py:57 SessionStore.open",
        "shop/web.py:112 login",
        "/usr/lib/python3.11/site-packages/starlette/routing.py:288 handle",
        "/usr/lib/python3.11/site-packages/uvicorn/protocols/http/h11_impl.py:403 run_asgi",
    )
    return report(
        leak(sessions, notes=("reads through dict.items() can't be seen",), fragmentation_ratio=0.11),
        cache(
            "shop.users:UserStore.__init__.cache",
            current_memory_bytes=398 * MIB,
            current_memory_bytes_std_error=9.1 * MIB,
            peak_memory_bytes=402 * MIB,
            net_memory_bytes=395 * MIB,
            container_bytes=3 * MIB,
            current_entries=50_000,
            max_entries=50_000,
            total_allocations=212_480,
            total_evictions=162_480,
            total_deallocations=162_480,
            total_allocated_bytes=1_670 * MIB,
            total_allocated_bytes_std_error=31 * MIB,
            total_deallocated_bytes=1_275 * MIB,
            total_deallocated_bytes_std_error=24 * MIB,
            total_evicted_bytes=1_275 * MIB,
            hits=3_918_220,
            misses=212_480,
            sampling_rate=0.125,
            value_types=(
                value_type(live_bytes=372 * MIB, live_bytes_std_error=9 * MIB, entries=46_100, sized=812),
                value_type("builtins.dict", live_bytes=22 * MIB, entries=3_800, live_bytes_std_error=MIB, sized=310),
                value_type("builtins.NoneType", live_bytes=0, entries=100, sized=100),
            ),
            events=tuple(
                event(f"user:{{int}}:{part}", size_bytes=size, timestamp=START + 722 + size / 10_000, event_type=kind)
                for part, size, kind in (
                    ("profile", 8_240, MemoryEventType.ALLOCATION),
                    ("profile", 8_190, MemoryEventType.EVICTION),
                    ("cart", 4_120, MemoryEventType.RESIZE),
                )
            ),
        ),
        cache(
            "shop.catalog:Catalog.page",
            kind="functools.lru_cache",
            where="shop/catalog.py:88",
            current_memory_bytes=181 * MIB,
            current_memory_bytes_std_error=6 * MIB,
            peak_memory_bytes=181 * MIB,
            current_entries=128,
            max_entries=128,
            total_allocations=98_120,
            total_evictions=97_992,
            total_deallocations=97_992,
            hits=11_240,
            misses=98_120,
        ),
        cache(
            prices,
            kind="cachetools.TTLCache",
            where="shop/pricing.py:9",
            current_memory_bytes=42 * MIB,
            peak_memory_bytes=61 * MIB,
            current_entries=180_400,
            max_entries=250_000,
            total_evictions=0,
            total_expirations=1_203_311,
            total_allocations=1_383_711,
            total_deallocations=1_203_311,
            hits=9_812_455,
            misses=1_383_711,
        ),
        cache(
            "shop.search:_suggestions",
            where="shop/search.py:20",
            current_memory_bytes=6 * MIB,
            peak_memory_bytes=6 * MIB,
            current_entries=2_048,
            max_entries=2_048,
            hits=12,
            misses=8_411,
            total_allocations=8_411,
            total_evictions=6_363,
            total_deallocations=6_363,
        ),
        cache(
            "shop.i18n:messages",
            kind="functools.cache",
            where="shop/i18n.py:3",
            current_memory_bytes=210_000,
            peak_memory_bytes=210_000,
            current_entries=42,
            max_entries=None,
            total_allocations=42,
            total_deallocations=0,
            total_evictions=0,
            hits=881_200,
            misses=42,
            memory_efficiency_ratio=0.99,
        ),
        processes=(
            process(profiler_bytes=9_812_000, profiler_cpu_seconds=0.91),
            process(
                pid=4_243,
                rss_bytes=1_622 * MIB,
                dropped_events=1_812,
                faults={"sizing: RecursionError": 2, "hook: KeyError": 1},
                exit_note="killed by SIGKILL, perhaps for want of memory",
            ),
        ),
        patterns=(
            hotspot(
                sessions,
                "sess:{hex32}",
                live_bytes=596 * MIB,
                live_entries=48_190,
                allocation_count=48_190,
                allocation_rate=66.6,
                average_size_bytes=12_968.0,
                hits=90_400,
                misses=48_190,
            ),
            hotspot(
                "shop.users:UserStore.__init__.cache",
                live_bytes=372 * MIB,
                live_bytes_std_error=8.8 * MIB,
                live_entries=46_100,
                allocation_count=198_000,
                allocation_rate=273.5,
                average_size_bytes=8_460.0,
                hits=3_700_000,
                misses=190_000,
            ),
            hotspot(
                "shop.catalog:Catalog.page",
                "({int}, {str}, {bool})",
                live_bytes=180 * MIB,
                live_entries=128,
                allocation_count=98_120,
                allocation_rate=135.5,
                average_size_bytes=1_474_000.0,
                hits=11_240,
                misses=98_120,
            ),
            hotspot(prices, "price:{int}", live_bytes=31 * MIB, live_entries=180_400, allocation_count=1_383_711,
                    average_size_bytes=180.2, allocation_rate=1911.2, hits=9_812_455, misses=1_383_711),
            hotspot(
                "shop.users:UserStore.__init__.cache",
                "user:{int}:cart",
                live_bytes=22 * MIB,
                live_bytes_std_error=1.9 * MIB,
                live_entries=3_900,
                allocation_count=14_480,
                allocation_rate=20.0,
                average_size_bytes=5_915.0,
                hits=218_220,
                misses=22_480,
            ),
        ),
        sites=(
            hotspot(
                sessions,
                None,
                site="shop/sessions.py:57 SessionStore.open",
                live_bytes=596 * MIB,
                live_entries=48_190,
                allocation_count=48_190,
                allocation_rate=66.6,
                hits=0,
                misses=0,
                stack_trace=stack,
            ),
            hotspot(
                "shop.users:UserStore.__init__.cache",
                "user:{int}:profile",
                site="shop/users.py:41 UserStore.load",
                live_bytes=372 * MIB,
                live_bytes_std_error=8.8 * MIB,
                live_entries=46_100,
                allocation_count=198_000,
                allocation_rate=273.5,
                hits=0,
                misses=0,
                stack_trace=("shop/users.py:41 UserStore.load", "shop/web.py:77 profile", *stack[2:]),
            ),
        ),
    )  # fmt: skip
