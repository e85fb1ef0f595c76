"""``cachescope doctor``, from outside."""

from __future__ import annotations

import json

import pytest

from cachescope_command import INSTALLED, ON_PATH, python, run_cachescope


def test_all_is_well_where_the_startup_file_is_installed(tmp_path):
    ran = run_cachescope("doctor", folder=tmp_path)
    text = ran.stdout.decode()
    assert (ran.returncode, ran.stderr) == (0, b""), text
    assert "Everything is in place." in text
    assert python(INSTALLED) in text
    assert "cachescope-startup.pth" in text
    assert "yes, tried in a new process" in text
    assert max(len(line) for line in text.splitlines() if "/" not in line) <= 80
    assert "\x1b" not in text


def test_a_missing_startup_file_is_a_problem_with_a_remedy(tmp_path):
    ran = run_cachescope("doctor", folder=tmp_path, how=ON_PATH)
    assert ran.returncode == 1
    (problem,) = [line for line in ran.stdout.decode().splitlines() if line.startswith("PROBLEM")]
    assert "cachescope-startup.pth is not installed" in problem


def test_the_libraries_seen_are_really_patched(tmp_path):
    found = json.loads(run_cachescope("doctor", "--json", folder=tmp_path).stdout)
    rows = {row["library"]: row for row in found["libraries"]}
    assert rows["cachetools"]["state"] == "patched"
    assert rows["cachetools"]["version"]
    assert found["ok"] is True
    assert found["python"]["wrapt extension"].startswith(("yes", "no"))


def test_settings_come_with_their_source(tmp_path):
    ran = run_cachescope("doctor", "--json", folder=tmp_path, CACHESCOPE_LEVEL="Detailed", CACHESCOPE_MAX_SITES="1_000")
    settings = {row["name"]: (row["value"], row["source"]) for row in json.loads(ran.stdout)["settings"]}
    assert settings["level"] == ("detailed", "CACHESCOPE_LEVEL")
    assert settings["max_sites"] == (1000, "CACHESCOPE_MAX_SITES")
    assert settings["raw_keys"] == (False, "default")
    assert settings["flush_seconds"] == (0.2, "CACHESCOPE_FLUSH_SECONDS")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CACHESCOPE_LEVEL", "deep", "expected one of basic, detailed, comprehensive"),
        ("CACHESCOPE_MAX_SITES", "0", "CACHESCOPE_MAX_SITES: 0 is not allowed"),
        ("CACHESCOPE_LEVL", "basic", "did you mean CACHESCOPE_LEVEL?"),
        ("CACHESCOPE_OUTPUT", "missing/app.capture", "there is no folder missing; create it"),
    ],
)
def test_a_wrong_variable_is_a_problem_and_hides_nothing_else(tmp_path, variable, value, words):
    ran = run_cachescope("doctor", "--json", folder=tmp_path, CACHESCOPE_STACK_DEPTH="x", **{variable: value})
    found = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert len(found["problems"]) == 2
    assert any(words in problem for problem in found["problems"])
    assert any("CACHESCOPE_STACK_DEPTH: 'x'" in problem for problem in found["problems"])
    assert found["startup"]["works"] is True


def test_variables_of_others_are_no_problem(tmp_path):
    assert run_cachescope("doctor", folder=tmp_path, CACHESCOPE_DEV_VENV="/x").returncode == 0


def test_a_profiler_that_does_not_start_is_a_problem_with_its_reason(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'CACHESCOPE' in os.environ: sys.modules['wrapt'] = None"
    )
    ran = run_cachescope("doctor", folder=tmp_path, PYTHONPATH=tmp_path)
    assert ran.returncode == 1
    assert "starts no profiler" in ran.stdout.decode()
    assert "Traceback" not in ran.stdout.decode() + ran.stderr.decode()


def test_a_library_that_cannot_be_imported_is_a_problem(tmp_path):
    (tmp_path / "cachetools.py").write_text("raise RuntimeError('broken')")
    ran = run_cachescope("doctor", "--json", folder=tmp_path, PYTHONPATH=tmp_path)
    assert ran.returncode == 1
    assert any("cachetools" in problem for problem in json.loads(ran.stdout)["problems"])
