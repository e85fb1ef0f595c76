"""``cachescope demo``: the shop, and what is said of its caches."""

from __future__ import annotations

import ast
import json
import math
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from cachescope.cli import demo_shop
from cachescope.cli.demo import judge
from cachescope.core.results import MemoryProfile, Report
from cachescope_command import captures, run_cachescope, run_python

TOO_SMALL, LEAKS, USELESS = "too small", "leaks", "useless"


def test_the_demo_names_the_caches_that_are_set_up_badly_and_no_other(tmp_path):
    ran = run_cachescope("demo", "--seconds", "2", "--json", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr.decode()
    answer = json.loads(ran.stdout)
    verdicts = {verdict["cache_name"].split(":")[-1]: verdict["verdict"] for verdict in answer["verdicts"]}
    assert verdicts == {"product_pages": TOO_SMALL, "search_results": LEAKS, "prices": USELESS}
    seen = {cache["cache_name"].split(":")[-1] for cache in answer["report"]["caches"]}
    assert seen == {"product_pages", "search_results", "prices", "users", "rates", "sessions"}
    assert answer["report"]["processes"][0]["level"] == "detailed"
    assert captures(tmp_path) == []


def test_the_demo_ends_with_the_report_and_the_verdicts(tmp_path):
    ran = run_cachescope("demo", "--seconds", "1", "-o", "demo.capture", folder=tmp_path)
    text = ran.stdout.decode()
    assert ran.returncode == 0, ran.stderr.decode()
    assert "product_pages is too small" in text
    assert "search_results leaks" in text
    assert "prices is useless" in text
    assert "cachescope report demo.capture" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert captures(tmp_path) == [tmp_path / "demo.capture"]
    assert run_cachescope("demo", "-o", "demo.capture", folder=tmp_path).returncode == 1


def test_the_shop_is_ordinary_code(tmp_path):
    source = Path(demo_shop.__file__)
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not any(name.startswith("cachescope") for name in imported)
    ran = run_python(source, "0.2", folder=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


# -- verdicts follow the figures -------------------------------------------------------------------------------------


def profile(**figures: object) -> MemoryProfile:
    required = {field.name: 0 for field in fields(MemoryProfile) if field.default is MISSING}
    texts = {"cache_name": "shop:c", "kind": "cachetools.LRUCache", "where": "shop.py:1"}
    return MemoryProfile(**{**required, **texts, "own_size": None, "duration_seconds": 10.0, **figures})


HEALTHY = profile(max_entries=1000, current_entries=900, total_allocations=900, hits=9_000, misses=900)


PASSES_THROUGH = {
    "current_entries": 1_000,
    "total_allocations": 9_000,
    "total_evictions": 8_000,
    "total_deallocations": 8_000,
    "misses": 9_000,
}
UNLIMITED = {"instances": 1, "instances_total": 1, "max_entries": None}


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({}, None),
        ({**PASSES_THROUGH, "hits": 3_000}, TOO_SMALL),
        ({**PASSES_THROUGH, "hits": 0}, USELESS),
        ({"hits": 1, "misses": 9_000}, USELESS),
        (UNLIMITED, LEAKS),
        ({**UNLIMITED, "max_entries": math.inf}, LEAKS),
        ({**UNLIMITED, "total_deallocations": 500, "current_entries": 400}, None),
        ({"hits": 0, "misses": 0, "total_allocations": 3, "current_entries": 3}, None),
    ],
)
def test_a_verdict_follows_the_figures(figures, verdict):
    report = Report(
        schema_version=1,
        generated_at=0.0,
        start_time=0.0,
        end_time=10.0,
        duration_seconds=10.0,
        processes=(),
        caches=(replace(HEALTHY, **figures),),
        patterns=(),
        sites=(),
    )
    assert [found.verdict for found in judge(report)] == ([verdict] if verdict else [])
