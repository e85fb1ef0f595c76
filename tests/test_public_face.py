"""The public face: what `from cachescope import …` gives, and the one name that is a function and a package."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import cachescope

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("src", "tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
PUBLIC = ROOT / "src" / "cachescope" / "__init__.py"


SIGNATURES = {
    "caches": "()",
    "get_allocation_patterns": "(cache_name, window_minutes=60)",
    "get_cache_profile": "(cache_name)",
    "get_memory_hotspots": "(cache_name=None, min_allocations=10, by='pattern', *, window_minutes=None, min_bytes=0)",
    "get_memory_snapshots": "()",
    "get_memory_trend": "(cache_name=None, window_minutes=60)",
    "get_operations": "(cache_name=None)",
    "get_performance_metrics": "(cache_name)",
    "profile_operation": "(cache_name, operation)",
    "raise_level": "(level)",
    "report": "()",
    "reset_profiling_data": "()",
    "set_level": "(level)",
    "shutdown": "()",
    "start": "()",
    "start_cache_profiling": "(cache_name)",
    "stop_cache_profiling": "(cache_name)",
    "subscribe": "(callback, *, kinds=(<MemoryEventType.PRESSURE: 'pressure'>,), caches=None)",
    "take_memory_snapshot": "()",
    "track_allocation": "(cache_name, key, size_bytes, metadata=None)",
    "track_deallocation": "(cache_name, key, size_bytes=0)",
    "track_event": "(cache_name, event_type, key, size_bytes=0)",
    "track_hit": "(cache_name, key)",
    "track_miss": "(cache_name, key)",
    "write_capture": "(path=None)",
}
"""What users call: changing one of these breaks their programs."""
RESULTS = (
    "AllocationPatterns",
    "MemoryAllocation",
    "MemoryHotspot",
    "MemoryProfile",
    "MemorySnapshot",
    "MemoryTrend",
    "OperationProfile",
    "OperationSummary",
    "PerformanceMetrics",
    "Report",
    "SnapshotDiff",
)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node


def test_every_name_in_all_is_there_and_is_listed_once_in_order():
    assert sorted(cachescope.__all__) == list(cachescope.__all__)
    assert len(set(cachescope.__all__)) == len(cachescope.__all__)
    assert [name for name in cachescope.__all__ if not hasattr(cachescope, name)] == []


def test_every_public_name_is_in_all():
    modules = {name for name in vars(cachescope) if importlib.util.find_spec(f"cachescope.{name}")}
    public = {name for name in vars(cachescope) if not name.startswith("_")} - modules | {"instrument"}
    assert public == set(cachescope.__all__)


def test_no_public_name_but_instrument_is_also_a_module():
    assert [n for n in cachescope.__all__ if importlib.util.find_spec(f"cachescope.{n}") is not None] == ["instrument"]


def test_every_public_thing_says_what_it_is():
    assert [n for n in cachescope.__all__ if not getattr(getattr(cachescope, n), "__doc__", None)] == []


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_profiler_s_methods_are_called_as_promised(name):
    method = getattr(cachescope.CacheMemoryProfiler, name)
    signature = inspect.signature(method)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    plain = signature.replace(parameters=parameters, return_annotation=signature.empty)
    assert str(plain) == SIGNATURES[name]
    assert inspect.getdoc(method)


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_frozen_and_become_dicts(name):
    result = getattr(cachescope, name)
    assert dataclasses.is_dataclass(result)
    assert result.__dataclass_params__.frozen
    assert callable(result.to_dict)


@pytest.mark.parametrize(
    "first",
    [
        "cachescope",
        "cachescope.instrument",
        "cachescope.instrument.autopatch",
        "cachescope.core",
        "cachescope.profiler",
        "cachescope.testing",
    ],
)
@pytest.mark.parametrize("then", ["", "cachescope.instrument.autopatch", "cachescope.instrument.bootstrap"])
def test_instrument_is_the_function_whatever_is_imported_first(first, then):
    code = f"""
import importlib, types
importlib.import_module({first!r})
{f"importlib.import_module({then!r})" if then else ""}
import cachescope
from cachescope import instrument
assert type(instrument) is types.FunctionType and cachescope.instrument is instrument
from cachescope.instrument import autopatch
assert isinstance(autopatch, types.ModuleType)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_nobody_imports_the_package_as_a_plain_module():
    """``import cachescope.instrument.x`` compiles, and gives a function where a module is meant."""
    bad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in imports_of(path)
        if isinstance(node, ast.Import) and any(alias.name.startswith("cachescope.instrument") for alias in node.names)
    ]
    assert bad == []


def test_inside_the_package_names_come_from_where_they_are_defined():
    bad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "src") and path != PUBLIC
        for node in imports_of(path)
        if isinstance(node, ast.ImportFrom) and (node.module == "cachescope" or node.level)
    ]
    assert bad == []


def test_tests_patch_objects_not_dotted_strings():
    bad = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("setattr", "patch")
            ):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and str(first.value).startswith("cachescope.instrument"):
                    bad.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bad == []


def test_importing_the_package_imports_no_cache_library_and_no_output():
    heavy = {"click", "rich", "cachetools", "redis", "numpy", "pytest"}
    code = f"import sys, cachescope; print(*sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ran.stdout, ran.stderr) == ("\n", "")
