"""``cachescope run``, from outside: real programs in real processes."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest

from cachescope_command import (
    INSTALLED,
    ON_PATH,
    caches_of,
    captures,
    environment,
    python,
    report_of,
    run_cachescope,
    run_python,
)

FILLS_USERS = """\
from cachetools import LRUCache
users = LRUCache(100)
def fill(n):
    for key in range(n):
        users[key] = "x" * 50
"""

# Stays until a capture has been written that knows all that was done before.
AWAIT_FLUSH = """\
import os, time
def await_flush():
    capture = os.environ["CACHESCOPE_OUTPUT"].replace("{pid}", str(os.getpid()))
    start = time.time_ns()
    for _ in range(2):  # the first one may have begun before
        while not os.path.exists(capture) or os.stat(capture).st_mtime_ns <= start:
            time.sleep(0.02)
        start = os.stat(capture).st_mtime_ns
"""

both_ways = pytest.mark.parametrize("how", [INSTALLED, ON_PATH])


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, *parts: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(textwrap.dedent(part) for part in parts))
        return path

    return write


# -- as plain Python -------------------------------------------------------------------------------------------------


@both_ways
def test_the_report_names_the_cache_and_stdout_stays_as_it_was(tmp_path, write, how):
    write("app.py", FILLS_USERS, "import sys; fill(30); sys.stdout.buffer.write(bytes(range(256)) * 300)\n")
    plain = run_python("app.py", folder=tmp_path, how=how)
    ran = run_cachescope("run", "app.py", folder=tmp_path, how=how)
    assert (ran.returncode, plain.returncode) == (0, 0), ran.stderr.decode()
    assert ran.stdout == plain.stdout
    assert "users" in ran.stderr.decode()
    assert caches_of(tmp_path) == {"users": 30}


SHOWS_ITSELF = """\
import json, os, sys
main = sys.modules["__main__"]
path = [entry for entry in sys.path]
print(json.dumps([sys.argv, __name__, globals().get("__file__"), __spec__ and __spec__.name, sys.path,
    sys.flags.__repr__(), main.__name__, "sitecustomize" in sys.modules]))
print(sorted(name for name in sys.modules if name.split(".")[0] in {"click", "rich"}), os.getcwd())
"""


@both_ways
@pytest.mark.parametrize(
    "arguments",
    [
        ["show.py"],
        ["sub/show.py", "--level", "x", "-o", "y", "--", "-z", ""],
        ["-m", "show", "--level", "x", "-m", "y"],
        ["-m", "sub", "--help"],
        ["-c", SHOWS_ITSELF, "-q", "--version"],
        ["-"],
    ],
)
def test_a_program_sees_what_it_sees_under_plain_python(tmp_path, write, how, arguments):
    for name in ("show.py", "sub/show.py", "sub/__main__.py"):
        write(name, SHOWS_ITSELF)
    plain = run_python(*arguments, folder=tmp_path, how=how, stdin=SHOWS_ITSELF.encode())
    ran = run_cachescope("run", *arguments, folder=tmp_path, how=how, stdin=SHOWS_ITSELF.encode())
    assert plain.returncode == ran.returncode == 0, ran.stderr.decode()
    if how == ON_PATH:  # a module of that name is there now, and nothing else is
        plain_text = plain.stdout.replace(b"false]\n", b"true]\n")
        assert ran.stdout == plain_text
    else:
        assert ran.stdout == plain.stdout


def test_options_of_the_interpreter_are_passed_on(tmp_path):
    code = "import sys; print(sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions)"
    options = ["-O", "-X", "dev", "-W", "error::UserWarning"]
    plain = run_python(*options, "-c", code, folder=tmp_path)
    ran = run_python(*options, "-m", "cachescope", "run", "-c", code, folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, plain.stdout), ran.stderr.decode()


def test_stdin_reaches_the_program(tmp_path):
    data = os.urandom(300_000)
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    assert run_cachescope("run", "-c", code, folder=tmp_path, stdin=data).stdout == data[::-1]


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("raise SystemExit('no')", 1), ("1 / 0", 1)])
def test_the_exit_status_passes_through(tmp_path, code, status):
    assert run_cachescope("run", "-c", code, folder=tmp_path).returncode == status


@both_ways
def test_a_missing_module_is_reported_by_python_alone(tmp_path, how):
    ran = run_cachescope("run", "-m", "no_such_module", folder=tmp_path, how=how)
    assert ran.returncode == 1
    assert b"No module named no_such_module" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_the_users_sitecustomize_still_runs_and_may_fail(tmp_path, write):
    write("custom/sitecustomize.py", "import builtins; builtins.CUSTOM = __file__\n")
    write("broken/sitecustomize.py", "1 / 0\n")
    write("app.py", FILLS_USERS, "import sys, sitecustomize; fill(3); print(CUSTOM, sitecustomize.__file__)\n")
    ran = run_cachescope("run", "app.py", folder=tmp_path, how=ON_PATH, PYTHONPATH=tmp_path / "custom")
    assert ran.stdout.decode().split() == [str(tmp_path / "custom" / "sitecustomize.py")] * 2
    assert caches_of(tmp_path) == {"users": 3}

    code = FILLS_USERS + "fill(3)"
    ran = run_cachescope("run", "-c", code, folder=tmp_path, how=ON_PATH, PYTHONPATH=tmp_path / "broken")
    assert ran.returncode == 0
    assert b"Error in sitecustomize" in ran.stderr
    assert b"ZeroDivisionError" in ran.stderr
    assert caches_of(tmp_path) == {"users": 6}


# -- options and refusals --------------------------------------------------------------------------------------------


def test_nothing_cached_is_said_plainly(tmp_path):
    ran = run_cachescope("run", "-c", "print('hello')", folder=tmp_path)
    assert ran.returncode == 0
    assert ran.stdout == b"hello\n"
    assert b"no cache was used" in ran.stderr
    assert b'cache = instrument(cache, name="users")' in ran.stderr


def test_the_next_commands_can_be_pasted(tmp_path, write):
    write("my app.py", FILLS_USERS, "fill(3)")
    ran = run_cachescope("run", "-o", "my run.capture", "my app.py", folder=tmp_path)
    assert captures(tmp_path) == [tmp_path / "my run.capture"]
    lines = ran.stderr.decode().splitlines()
    assert "  python -m cachescope report 'my run.capture'" in lines
    assert "  python -m cachescope report 'my run.capture' --json" in lines


def test_quiet_and_no_report(tmp_path):
    code = FILLS_USERS + "fill(3)"
    ran = run_cachescope("run", "--quiet", "--no-report", "-c", code, folder=tmp_path)
    assert ran.stderr == b""
    assert b"cachescope report" not in run_cachescope("run", "-q", "-c", code, folder=tmp_path).stderr
    no_report = run_cachescope("run", "--no-report", "-c", code, folder=tmp_path).stderr
    assert b"cachescope report" in no_report
    assert b"users" not in no_report
    assert len(captures(tmp_path)) == 3


@pytest.mark.parametrize(
    ("arguments", "variables", "level"),
    [
        ([], {}, "detailed"),
        ([], {"CACHESCOPE_LEVEL": "basic"}, "basic"),
        (["--level", "Comprehensive"], {"CACHESCOPE_LEVEL": "basic"}, "comprehensive"),
    ],
)
def test_the_level_comes_from_the_option_then_the_environment(tmp_path, arguments, variables, level):
    run_cachescope("run", *arguments, "-c", "pass", folder=tmp_path, **variables)
    assert report_of(tmp_path).processes[0].level == level


def test_an_existing_capture_is_overwritten_only_by_force(tmp_path):
    old = tmp_path / "run.capture"
    old.write_text("precious")
    code = FILLS_USERS + "print('ran'); fill(3)"
    ran = run_cachescope("run", "-o", "run.capture", "-c", code, folder=tmp_path)
    assert (ran.returncode, ran.stdout, old.read_text()) == (1, b"", "precious")
    assert b"--force" in ran.stderr
    ran = run_cachescope("run", "-f", "-o", "run.capture", "-c", code, folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, b"ran\n")
    assert caches_of(tmp_path) == {"users": 3}


def test_a_forced_run_does_not_mix_with_the_processes_of_the_one_before(tmp_path):
    code = (
        FILLS_USERS
        + "import os; pid = os.fork(); fill(3); pid and os.waitpid(pid, 0)\n"
        + AWAIT_FLUSH
        + "await_flush()"
    )
    for _ in range(2):
        ran = run_cachescope("run", "-f", "-o", "run.capture", "-c", code, folder=tmp_path)
        assert ran.returncode == 0
        assert len(captures(tmp_path)) == 2
        assert caches_of(tmp_path) == {"users": 6}
    ran = run_cachescope("run", "-o", "run.capture", "-c", code, folder=tmp_path)
    assert ran.returncode == 1


@pytest.mark.parametrize("output", ["no/such/folder/x.capture", "file/x.capture"])
def test_an_output_that_cannot_be_written_is_refused_before_the_start(tmp_path, output):
    (tmp_path / "file").touch()
    ran = run_cachescope("run", "-o", output, "-c", "print('ran')", folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.startswith(b"cachescope: can't write to ")
    assert len(ran.stderr.splitlines()) == 1


def test_an_output_may_be_a_folder_or_a_template(tmp_path):
    (tmp_path / "out").mkdir()
    code = FILLS_USERS + "fill(3)"
    run_cachescope("run", "-o", "out", "-c", code, folder=tmp_path)
    run_cachescope("run", "-c", code, folder=tmp_path, CACHESCOPE_OUTPUT="out/a-{pid}.capture")
    names = [path.name for path in captures(tmp_path / "out")]
    assert len(names) == 2
    assert names[0].startswith("a-")
    assert names[1].startswith("cachescope-c.")
    assert caches_of(tmp_path / "out") == {"users": 6}


@pytest.mark.parametrize(
    "arguments", [[], ["no_such_file.py"], ["-m"], ["-m", "-c", "x"], ["--level", "deep", "x.py"], ["--nonsense"]]
)
def test_wrong_usage_is_status_2(tmp_path, arguments):
    ran = run_cachescope("run", *arguments, folder=tmp_path)
    assert ran.returncode == 2
    assert b"Error: " in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_a_file_that_does_not_exist_is_named_with_a_hint(tmp_path):
    assert b"there is no file 'no_such.py'" in run_cachescope("run", "no_such.py", folder=tmp_path).stderr
    assert b"-m json" in run_cachescope("run", "json", folder=tmp_path).stderr


def test_a_wrong_setting_is_refused_before_the_start(tmp_path):
    ran = run_cachescope("run", "-c", "print('ran')", folder=tmp_path, CACHESCOPE_STACK_DEPTH="deep")
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert b"CACHESCOPE_STACK_DEPTH: 'deep'" in ran.stderr


@pytest.mark.parametrize("option", ["-S", "-I"])
def test_an_interpreter_that_nothing_of_ours_reaches_is_refused(tmp_path, option):
    how = INSTALLED if option == "-S" else ON_PATH
    start = (
        f"import sys; sys.path[:0] = {sys.path!r}; sys.argv[0] = 'cachescope'; from cachescope.cli import main; main()"
    )
    ran = run_python(option, "-c", start, "run", "-c", "print('ran')", folder=tmp_path, how=how)
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert f"python {option}".encode() in ran.stderr


def test_isolated_mode_works_where_the_startup_file_is_installed(tmp_path):
    code = FILLS_USERS + "import sys; fill(3); print(sys.flags.isolated)"
    ran = run_python("-I", "-m", "cachescope", "run", "-c", code, folder=tmp_path)
    assert ran.stdout == b"1\n", ran.stderr.decode()
    assert caches_of(tmp_path) == {"users": 3}


def test_help_fits_80_columns_and_has_examples(tmp_path):
    for verb in ([], ["run"], ["demo"], ["doctor"]):
        shown = run_cachescope(*verb, "--help", folder=tmp_path, COLUMNS=200).stdout.decode()
        assert "  cachescope " in shown
        assert max(map(len, shown.splitlines())) <= 80


# -- crashes and signals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_a_death_by_signal_is_repeated_after_the_report_of_the_last_flush(tmp_path, write, name):
    write(
        "app.py",
        FILLS_USERS,
        AWAIT_FLUSH,
        f"import signal; fill(7); await_flush(); os.kill(os.getpid(), signal.{name})",
    )
    ran = run_cachescope("run", "app.py", folder=tmp_path)
    assert ran.returncode == -getattr(signal, name)
    assert f"killed by {name}" in ran.stderr.decode()
    assert "users" in ran.stderr.decode()
    assert caches_of(tmp_path) == {"users": 7}


def test_an_end_without_exit_hooks_leaves_the_last_flush(tmp_path, write):
    write("app.py", FILLS_USERS, AWAIT_FLUSH, "fill(7); await_flush(); os._exit(5)")
    ran = run_cachescope("run", "app.py", folder=tmp_path)
    assert ran.returncode == 5
    assert caches_of(tmp_path) == {"users": 7}


def test_an_end_before_the_first_flush_is_explained_or_reported(tmp_path):
    ran = run_cachescope("run", "-c", "import os; os._exit(9)", folder=tmp_path, CACHESCOPE_FLUSH_SECONDS=3600)
    assert ran.returncode == 9
    assert b"no capture was written" in ran.stderr or b"no cache was used" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_an_unhandled_exception_is_noted_without_its_text(tmp_path, write):
    write("app.py", FILLS_USERS, "fill(7)\nraise KeyError('user:secret')\n")
    ran = run_cachescope("run", "app.py", folder=tmp_path)
    assert ran.returncode == 1
    (process,) = report_of(tmp_path).processes
    assert process.exit_note == "ended by KeyError at app.py:7"
    assert caches_of(tmp_path) == {"users": 7}


WAITS_FOR_SIGNALS = """
import os, signal, sys, time
seen = []
def note(number, frame):
    seen.append(signal.Signals(number).name)
    os.write(1, seen[-1].encode() + b"\\n")  # print() would refuse to be called inside print()
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), note)
fill(4)
os.write(1, b"ready\\n")
while "SIGUSR2" not in seen:
    time.sleep(0.01)
os.write(1, b"%d signals\\n" % len(seen))
sys.exit(7)
"""


def start(*arguments: str, folder: Path, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [python(INSTALLED), "-m", "cachescope", "run", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_signals_are_passed_on_once_and_the_report_still_comes(tmp_path, write):
    write("app.py", FILLS_USERS, WAITS_FOR_SIGNALS)
    with start("app.py", folder=tmp_path) as process:
        assert process.stdout.readline() == b"ready\n"
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            os.kill(process.pid, getattr(signal, name))
            assert process.stdout.readline().decode() == f"{name}\n"
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, b"5 signals\n")
    assert b"users" in err


def take_the_terminal() -> None:
    """Make stdin's terminal that of this new session, as the shell in a window has it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_ctrl_c_reaches_the_program_once_and_the_report_still_comes(tmp_path, write):
    write("app.py", FILLS_USERS, WAITS_FOR_SIGNALS)
    controller, terminal = pty.openpty()
    try:
        options = {"stdin": terminal, "start_new_session": True, "preexec_fn": take_the_terminal}
        with start("app.py", folder=tmp_path, **options) as process:
            assert process.stdout.readline() == b"ready\n"
            os.write(controller, b"\x03")
            assert process.stdout.readline() == b"SIGINT\n"
            # Passed on after it: had we passed on the SIGINT as well, it would have come first.
            os.kill(process.pid, signal.SIGUSR2)
            assert process.stdout.readline() == b"SIGUSR2\n"
            out, err = process.communicate(timeout=60)
    finally:
        os.close(controller)
        os.close(terminal)
    assert (process.returncode, out) == (7, b"2 signals\n")
    assert b"users" in err


def test_ctrl_c_in_a_program_without_a_handler_ends_both_by_sigint(tmp_path, write):
    write("app.py", FILLS_USERS, "import time; fill(4); print('ready', flush=True); time.sleep(600)")
    with start("app.py", folder=tmp_path) as process:
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in err
    assert b"users" in err
    assert caches_of(tmp_path) == {"users": 4}


def test_a_report_that_nobody_reads_on_changes_no_status(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [python(INSTALLED), "-m", "cachescope", "run", "-c", FILLS_USERS + "fill(3); raise SystemExit(4)"],
        cwd=tmp_path,
        env=environment(),
        stderr=writer,
        check=False,
    )
    os.close(writer)
    assert ran.returncode == 4


# -- more than one process -------------------------------------------------------------------------------------------

MAIN = """
if __name__ == "__main__":
    users["main"] = 1
    {body}
"""


@both_ways
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_are_merged(tmp_path, write, how, method):
    body = f"""
    import multiprocessing
    context = multiprocessing.get_context({method!r})
    processes = [context.Process(target=fill, args=(10 * n,)) for n in (1, 2)]
    for process in processes: process.start()
    for process in processes: process.join()
    """
    write("app.py", FILLS_USERS, MAIN.format(body=textwrap.dedent(body).replace("\n", "\n    ")))
    ran = run_cachescope("run", "app.py", folder=tmp_path, how=how)
    assert ran.returncode == 0, ran.stderr.decode()
    assert len(captures(tmp_path)) == 3
    assert sum(caches_of(tmp_path).values()) == 31
    assert b"3 processes wrote captures" in ran.stderr


def test_a_raw_fork_that_ends_without_hooks_is_merged(tmp_path, write):
    body = "pid = os.fork(); pid or (fill(10), await_flush(), os._exit(0)); os.waitpid(pid, 0)"
    write("app.py", FILLS_USERS, AWAIT_FLUSH, MAIN.format(body=body))
    assert run_cachescope("run", "app.py", folder=tmp_path).returncode == 0
    assert caches_of(tmp_path) == {"users": 11}


@both_ways
def test_a_python_that_the_program_starts_is_merged(tmp_path, write, how):
    write(
        "app.py",
        "import subprocess, sys\n",
        FILLS_USERS,
        MAIN.format(body="subprocess.check_call([sys.executable, 'b.py'])"),
    )
    write("b.py", FILLS_USERS, "fill(5)")
    ran = run_cachescope("run", "app.py", folder=tmp_path, how=how)
    assert ran.returncode == 0, ran.stderr.decode()
    assert len(captures(tmp_path)) == 2
    assert sum(caches_of(tmp_path).values()) == 6


def test_two_runs_at_once_in_one_folder_stay_apart(tmp_path, write):
    body = "pid = os.fork(); pid or (fill(10), await_flush(), os._exit(0)); os.waitpid(pid, 0)"
    write("app.py", FILLS_USERS, AWAIT_FLUSH, MAIN.format(body=body))
    runs = [start("app.py", folder=tmp_path) for _ in range(2)]
    for process in runs:
        _out, err = process.communicate(timeout=60)
        assert b"2 processes wrote captures" in err
    assert len(captures(tmp_path)) == 4


def test_a_process_that_outlives_the_program_is_named(tmp_path, write):
    body = """
    reader, writer = os.pipe()
    if os.fork() == 0:
        [os.close(file) for file in (0, 1, 2)]
        fill(10); await_flush(); os.write(writer, b"x")
        time.sleep(600)
    os.read(reader, 1)
    """
    write("app.py", FILLS_USERS, AWAIT_FLUSH, MAIN.format(body=textwrap.dedent(body).replace("\n", "\n    ")))
    ran = run_cachescope("run", "app.py", folder=tmp_path)
    last = [process.pid for process in report_of(tmp_path).processes][-1]
    os.kill(last, signal.SIGKILL)
    assert ran.returncode == 0
    assert f"still running, so only what they have flushed is counted: pid {last}\n" in ran.stderr.decode()
    assert sum(caches_of(tmp_path).values()) == 11


def test_another_python_that_the_program_starts_is_left_alone(tmp_path, write):
    write("b.py", FILLS_USERS, "fill(5); print(1)")
    code = f"import subprocess; subprocess.run([{python('neither')!r}, 'b.py'])"
    ran = run_cachescope("run", "-q", "--no-report", "-c", code, folder=tmp_path, how=ON_PATH)
    assert (ran.stdout, ran.stderr) == (b"1\n", b"")
    assert len(captures(tmp_path)) == 1
