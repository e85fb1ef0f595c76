"""Starting while Python starts: what is started, what is not, and that no program ever notices."""

from __future__ import annotations

import sys

import pytest

from cachescope.instrument.bootstrap import is_helper, program_of
from cachescope_command import ON_PATH, captures, report_of, run_python

IS_RUNNING = """
import sys
current = sys.modules.get("cachescope.core.current")
print("running" if current is not None and current.running_profiler() is not None else "not running")
"""


@pytest.mark.parametrize("value", ["1", "true", "ON", "anything"])
def test_the_switch_turns_it_on(tmp_path, value):
    ran = run_python("-c", IS_RUNNING, folder=tmp_path, CACHESCOPE=value)
    assert (ran.stdout, ran.stderr) == (b"running\n", b"")


@pytest.mark.parametrize("value", ["", "0", "False", "no", "OFF", " off "])
def test_the_switch_turns_it_off(tmp_path, value):
    ran = run_python("-c", IS_RUNNING, folder=tmp_path, CACHESCOPE=value)
    assert (ran.stdout, ran.stderr) == (b"not running\n", b"")


@pytest.mark.parametrize("option", ["-I", "-E", "-s", "-P", "-B", "-O"])
def test_it_starts_under_the_interpreters_options(tmp_path, option):
    ran = run_python(option, "-c", IS_RUNNING, folder=tmp_path, CACHESCOPE="1")
    assert (ran.stdout, ran.stderr) == (b"running\n", b"")


def test_without_the_switch_nothing_of_ours_is_imported(tmp_path):
    code = "import sys; print([name for name in sys.modules if name.startswith(('cachescope', 'wrapt'))])"
    assert run_python("-c", code, folder=tmp_path).stdout == b"[]\n"


def test_no_library_of_the_command_and_no_cache_library_is_imported(tmp_path):
    code = """
import sys
heavy = {"click", "rich", "cachetools", "redis", "numpy", "pandas", "unittest"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    ran = run_python("-c", code, folder=tmp_path, CACHESCOPE="1")
    assert (ran.stdout, ran.stderr) == (b"[]\n", b"")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CACHESCOPE_LEVEL", "deep\ndeeper"), ("CACHESCOPE_FOLLOWED_KEYS", "many"), ("CACHESCOPE_RAW_KEYS", "perhaps")],
)
def test_a_wrong_setting_is_one_line_and_the_program_runs(tmp_path, variable, value):
    ran = run_python("-c", IS_RUNNING + "sys.exit(3)", folder=tmp_path, CACHESCOPE="1", **{variable: value})
    assert (ran.returncode, ran.stdout) == (3, b"not running\n")
    lines = ran.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cachescope: not started: ")
    assert "is not allowed; expected " in lines[0]


@pytest.mark.parametrize("fault", ["raise RuntimeError('broken')", "import no_such_module", "class ObjectProxy: pass"])
def test_a_broken_dependency_is_one_line_and_the_program_runs(tmp_path, fault):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wrapt.py").write_text(fault)
    ran = run_python("-c", IS_RUNNING, folder=tmp_path, CACHESCOPE="1", PYTHONPATH=tmp_path / "broken")
    assert ran.returncode == 0
    assert ran.stdout in {b"not running\n", b"running\n"}
    if ran.stdout == b"not running\n":
        lines = ran.stderr.decode().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("cachescope: not started: ")


def test_a_closed_stderr_stops_nothing(tmp_path):
    code = f"import os, sys; os.close(2); os.execv({sys.executable!r}, ['python', '-c', 'print(1)'])"
    ran = run_python("-c", code, folder=tmp_path, CACHESCOPE="1", CACHESCOPE_LEVEL="deep")
    assert (ran.returncode, ran.stdout) == (0, b"1\n")


def test_starting_twice_is_starting_once(tmp_path):
    code = """
import atexit
from cachescope.core.current import running_profiler
from cachescope.instrument.bootstrap import start
profiler, n = running_profiler(), atexit._ncallbacks()
start(); start()
print(running_profiler() is profiler, atexit._ncallbacks() == n)
"""
    assert run_python("-c", code, folder=tmp_path, CACHESCOPE="1").stdout == b"True True\n"


def test_the_users_sitecustomize_runs_first_and_may_fail(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; print('cachescope.profiler' in sys.modules); 1 / 0")
    ran = run_python("-c", IS_RUNNING, folder=tmp_path, CACHESCOPE="1", PYTHONPATH=tmp_path)
    assert ran.stdout == b"False\nrunning\n"
    assert b"Error in sitecustomize" in ran.stderr


def test_a_caller_of_addsitedir_gets_it_at_once(tmp_path):
    """A program that reads .pth files itself has left site's own start-up long behind."""
    (tmp_path / "x.pth").write_text("import os; from cachescope.instrument.bootstrap import start; start()")
    code = f"import site; site.addsitedir({str(tmp_path)!r})" + IS_RUNNING
    ran = run_python("-c", code, folder=tmp_path, how=ON_PATH, CACHESCOPE="1")
    assert ran.stdout == b"running\n"


def test_output_is_written_only_when_asked_for(tmp_path):
    run_python("-c", "pass", folder=tmp_path, CACHESCOPE="1")
    assert list(tmp_path.iterdir()) == []
    run_python("-c", "pass", folder=tmp_path, CACHESCOPE="1", CACHESCOPE_OUTPUT="a.{pid}.capture")
    assert len(captures(tmp_path)) == 1


# -- helpers ---------------------------------------------------------------------------------------------------------


def test_the_helpers_of_multiprocessing_are_not_started_but_their_children_are(tmp_path):
    (tmp_path / "app.py").write_text(
        "import multiprocessing\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "def work(): pass\n"
        "if __name__ == '__main__':\n"
        "    block = SharedMemory(create=True, size=16)\n"  # starts the resource tracker
        "    for method in 'spawn', 'forkserver':\n"
        "        process = multiprocessing.get_context(method).Process(target=work)\n"
        "        process.start(); process.join()\n"
        "    block.close(); block.unlink()\n"
    )
    ran = run_python("app.py", folder=tmp_path, CACHESCOPE="1", CACHESCOPE_OUTPUT="{pid}.capture")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert len(captures(tmp_path)) == len(report_of(tmp_path).processes) == 3


def test_pip_and_this_command_are_not_started(tmp_path):
    for module in ("pip", "cachescope"):
        ran = run_python("-m", module, "--version", folder=tmp_path, CACHESCOPE="1", CACHESCOPE_OUTPUT="{pid}.capture")
        assert (ran.returncode, ran.stderr) == (0, b"")
    assert captures(tmp_path) == []


def test_a_subinterpreter_leaves_the_capture_to_the_main_one(tmp_path):
    code = (
        """
try:
    import _interpreters as interpreters
    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string
run(interpreters.create(), "import os, sys; os.write(1, b'%d ' % ('cachescope.profiler' in sys.modules))")
"""
        + IS_RUNNING
    )
    ran = run_python("-c", code, folder=tmp_path, CACHESCOPE="1", CACHESCOPE_OUTPUT="{pid}.capture")
    assert (ran.stdout, ran.stderr) == (b"0 running\n", b"")
    assert len(report_of(tmp_path).processes) == 1


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (["python"], ("", "")),
        (["python", "-i", "-"], ("", "")),
        (["python", "app.py", "-c", "x"], ("script", "app.py")),
        (["python", "-W", "error", "-X", "dev", "-Wignore", "-OO", "a/b.py"], ("script", "a/b.py")),
        (["python", "-c", "x = 1", "app.py"], ("c", "x = 1")),
        (["python", "-Ic", "x = 1"], ("c", "x = 1")),
        (["python", "-Icx"], ("c", "x")),
        (["python", "-Bm", "pip", "install"], ("m", "pip")),
        (["python", "-mpip"], ("m", "pip")),
        (["python", "--check-hash-based-pycs", "always", "app.py"], ("script", "app.py")),
        (["python", "-m"], ("m", "")),
        ([], ("", "")),
    ],
)
def test_what_a_command_line_runs(command, program):
    assert program_of(command) == program


@pytest.mark.parametrize(
    ("program", "helper"),
    [
        (("c", "from multiprocessing.resource_tracker import main;main(5)"), True),
        (("c", "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)"), False),
        (("c", "from multiprocessing.forkserver import main; main(3, 4)"), False),
        (("m", "pip"), True),
        (("m", "pip.__main__"), True),
        (("m", "ensurepip"), True),
        (("m", "pipeline"), False),
        (("script", "/usr/bin/pip3.11"), True),
        (("script", "/x/pip/__pip-runner__.py"), True),
        (("script", "/x/site-packages/pip/__main__.py"), True),
        (("script", "/x/pip/_vendor/pyproject_hooks/_in_process/_in_process.py"), True),
        (("script", "/venv/bin/cachescope"), True),
        (("script", "/venv/bin/gunicorn"), False),
        (("script", "pipeline.py"), False),
        (("script", "app/__main__.py"), False),
        (("", ""), False),
    ],
)
def test_what_counts_as_a_helper(program, helper):
    assert is_helper(*program) is helper


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("missing/{pid}.capture", "there is no folder missing; create it"),
        ("{pid}/x.capture", "{pid} in a folder's name"),
        (".", "names no capture file"),
        ("folder", "folder is a folder; add a file's name"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line_and_the_program_runs(tmp_path, output, words):
    (tmp_path / "folder").mkdir()
    ran = run_python("-c", IS_RUNNING, folder=tmp_path, CACHESCOPE="1", CACHESCOPE_OUTPUT=output)
    assert (ran.returncode, ran.stdout) == (0, b"running\n")
    (line,) = ran.stderr.decode().splitlines()
    assert line.startswith("cachescope: no capture will be written: CACHESCOPE_OUTPUT: ")
    assert words in line


# -- the exit note ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("pass", ""),
        ("raise SystemExit(3)", ""),
        ("\nraise ValueError('secret')", "ended by ValueError at <string>:2"),
        ("import sys\ntry: 1 / 0\nexcept ZeroDivisionError: pass", ""),
    ],
)
def test_the_capture_says_which_exception_ended_the_program(tmp_path, code, note):
    run_python("-c", code, folder=tmp_path, CACHESCOPE="1", CACHESCOPE_OUTPUT="{pid}.capture")
    (process,) = report_of(tmp_path).processes
    assert process.exit_note == note
