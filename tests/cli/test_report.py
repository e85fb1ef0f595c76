"""The command, on captures that hold real recordings."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cachescope.cli.report import SORTS, report
from cachescope.core.analysis.hotspots import Cell, Hotspots
from cachescope.core.analysis.totals import Totals
from cachescope.core.capture import write_capture
from cachescope.core.recording import CacheRecording, ProcessRecording, Recording
from cachescope.core.state import COUNTERS
from cachescope.report import SORT_KEYS
from report.reports import START, process


def totals(**counters):
    out = Totals()
    out.update([counters.get(name, 0) for name in COUNTERS])
    return out


def recording(pid=4_242, start=START, seconds=724.0, **caches):
    """A recording of one process; each cache is given by the number of its hits."""
    end = start + seconds
    parts = {}
    for name, hits in (caches or {"users": 900}).items():
        spots = Hotspots()
        cell = Cell(200.0, 100_000.0, 0.0, 150.0, 75_000.0, 0.0, 9, 1, start, end)
        spots.update([(("user:{int}", "shop/users.py:41 load", ""), cell)])
        counters = {"hits": hits, "misses": 1_000 - hits, "sets": 200, "evictions": 50, "live_bytes": 75_000}
        parts[name] = CacheRecording(
            name=name,
            kind="cachetools.LRUCache",
            where="shop/users.py:14",
            start_time=start,
            end_time=end,
            instances=1,
            instances_total=1,
            container_bytes=5_000,
            peak_bytes=80_000,
            max_entries=150.0,
            totals=totals(**counters, evicted_bytes=25_000),
            hotspots=spots,
        )
    info = process(pid=pid, start_time=start, end_time=end, level="DETAILED")
    stacks = {"shop/users.py:41 load": ("shop/users.py:41 load", "shop/web.py:7 main")}
    return Recording([ProcessRecording(f"{pid}-{start}", "", info, parts, stacks)])


def captured(path, *args, **kwargs):
    write_capture(path, recording(*args, **kwargs).to_dict())
    return str(path)


def run(*arguments):
    return CliRunner().invoke(report, [str(argument) for argument in arguments])


def test_report_shows_a_capture(tmp_path):
    result = run(captured(tmp_path / "app.capture"))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "Which cache holds the memory?" in result.stdout
    assert "90.0 %" in result.stdout
    assert "user:{int}" in result.stdout
    assert "shop/users.py:41" in result.stdout
    assert "\x1b" not in result.stdout


def test_report_of_a_folder_merges_its_captures(tmp_path):
    captured(tmp_path / "a.capture", 1, users=900)
    captured(tmp_path / "b.capture", 2, users=500, pages=10)
    (tmp_path / "notes.txt").write_text("not a capture")
    document = json.loads(run(tmp_path, "--json").stdout)
    assert {cache["cache_name"]: cache["hits"] for cache in document["caches"]} == {"users": 1_400, "pages": 10}
    assert [one["pid"] for one in document["processes"]] == [1, 2]


def test_report_of_several_files_takes_those_and_no_others(tmp_path):
    files = [captured(tmp_path / f"app.{pid}.capture", pid) for pid in (1, 2, 3)]
    document = json.loads(run(*files[:2], "--json").stdout)
    assert [one["pid"] for one in document["processes"]] == [1, 2]


def test_file_given_twice_counts_once(tmp_path):
    file = captured(tmp_path / "app.capture")
    document = json.loads(run(file, tmp_path, file, "--json").stdout)
    assert document["caches"][0]["hits"] == 900


def test_single_file_brings_the_processes_of_its_run(tmp_path):
    main = captured(tmp_path / "app.capture", 1)
    captured(tmp_path / "app.2.capture", 2, start=START + 10, seconds=5)
    captured(tmp_path / "app.3.capture", 3, start=START - 9_000, seconds=5)  # of yesterday's run
    captured(tmp_path / "other.4.capture", 4)
    result = run(main, "--json")
    assert [one["pid"] for one in json.loads(result.stdout)["processes"]] == [1, 2]
    assert "with 1 more capture of the same run" in result.stderr
    alone = run(main, "--json", "--alone")
    assert [one["pid"] for one in json.loads(alone.stdout)["processes"]] == [1]
    assert alone.stderr == ""


def test_processes_of_a_run_are_found_by_way_of_each_other(tmp_path):
    captured(tmp_path / "app.capture", 1)
    captured(tmp_path / "app.2.capture", 2, start=START + 10, seconds=5)
    third = captured(tmp_path / "app.3.capture", 3, start=START + 600, seconds=5)
    assert [one["pid"] for one in json.loads(run(third, "--json").stdout)["processes"]] == [1, 2, 3]


def test_json_has_schema_and_goes_to_stdout_alone(tmp_path):
    result = run(captured(tmp_path / "app.capture"), "--json")
    document = json.loads(result.stdout)
    assert (document["schema"], document["schema_version"]) == ("cachescope.report", 1)
    assert document["caches"][0]["hit_ratio"] == 0.9


def test_json_of_one_cache(tmp_path):
    file = captured(tmp_path / "app.capture", users=900, pages=10)
    document = json.loads(run(file, "--json", "--cache", "pages").stdout)
    assert [cache["cache_name"] for cache in document["caches"]] == ["pages"]
    assert {row["cache_name"] for row in document["patterns"] + document["sites"]} == {"pages"}
    assert run(file, "--json", "--cache", "page").exit_code == 2


def test_one_cache(tmp_path):
    file = captured(tmp_path / "app.capture", users=900, pages=10)
    result = run(file, "--cache", "users")
    assert result.exit_code == 0
    assert "What came in, what left?" in result.stdout
    assert "shop/web.py:7 main" in result.stdout
    assert "pages" not in result.stdout


def test_unknown_cache_is_wrong_usage_and_names_the_near_ones(tmp_path):
    result = run(captured(tmp_path / "app.capture"), "--cache", "user")
    assert result.exit_code == 2
    assert "'users'" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_width(tmp_path, width):
    result = run(captured(tmp_path / "app.capture"), "--width", width, "--verbose")
    assert max(map(len, result.stdout.splitlines())) <= width


def test_sort_and_top(tmp_path):
    file = captured(tmp_path / "app.capture", aaa=900, bbb=10, ccc=500)
    shown = run(file, "--sort", "hit-ratio", "--top", 1).stdout.split("Which cache")[1].split("Which kind")[0]
    assert "bbb" in shown
    assert "aaa" not in shown
    assert "and 2 more caches" in shown


def test_orders_are_those_of_the_report():
    assert tuple(SORT_KEYS) == SORTS


@pytest.mark.parametrize(
    "arguments",
    [[], ["--sort", "colour", "x"], ["--top", "0", "x"], ["--top", "x", "x"], ["--width", "39", "x"], ["--nope", "x"]],
)
def test_wrong_usage(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_what_cannot_be_read_is_said_without_traceback(tmp_path):
    (tmp_path / "foreign.capture").write_text("hello")
    (tmp_path / "empty").mkdir()
    write_capture(tmp_path / "odd.capture", {"processes": [{}]})
    for path in (
        tmp_path / "missing.capture",
        tmp_path / "foreign.capture",
        tmp_path / "empty",
        tmp_path / "odd.capture",
    ):
        result = run(path)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("cachescope: ")
        assert str(path) in result.stderr
        assert "Traceback" not in result.stderr
        assert isinstance(result.exception, SystemExit)


def test_what_can_be_read_is_shown_all_the_same(tmp_path):
    captured(tmp_path / "a.capture")
    (tmp_path / "b.capture").write_bytes(b"")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "Which cache holds the memory?" in result.stdout
    assert "b.capture" in result.stderr


def test_help_shows_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "cachescope report app.capture --cache users\n" in result.stdout


def command(*arguments, **environment):
    script = "from cachescope.cli.report import report; report()"
    clean = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], env=clean | environment, capture_output=True, check=False
    )


def test_pipe_gets_plain_text_unless_colour_is_forced(tmp_path):
    file = captured(tmp_path / "app.capture")
    assert b"\x1b" not in command(file).stdout
    assert b"\x1b[" in command(file, FORCE_COLOR="1").stdout
    assert b"\x1b" not in command(file, FORCE_COLOR="1", NO_COLOR="1").stdout


def test_stream_without_unicode_gets_ascii(tmp_path):
    file = captured(tmp_path / "app.capture", **{"käse\x1b[2J漢": 900})
    result = command(file, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.returncode == 0
    assert result.stdout.isascii()
    assert rb"k\xe4se\x1b[2J\u6f22" in result.stdout
    assert b"#" in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_terminal_gets_colour(tmp_path, environment, colored):
    import pty

    file = captured(tmp_path / "app.capture")
    ours, theirs = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    script = "from cachescope.cli.report import report; report()"
    with subprocess.Popen(
        [sys.executable, "-c", script, file], stdout=theirs, env=clean | {"TERM": "xterm"} | environment
    ) as child:
        os.close(theirs)
        chunks = []
        while True:
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
        os.close(ours)
    assert child.returncode == 0
    assert (b"\x1b[" in b"".join(chunks)) == colored


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_is_one_line(tmp_path, options):
    path = captured(tmp_path / "run.capture")
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "cachescope", "report", path, *options],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
    assert ran.returncode == 1
    assert ran.stderr == "cachescope: can't write the report: No space left on device\n"
