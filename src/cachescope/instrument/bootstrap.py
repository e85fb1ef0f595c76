"""Start profiling while Python itself starts, because ``CACHESCOPE`` is set in the environment.

``start()`` is called by the line in ``cachescope-startup.pth`` or, where that file is not installed, by the
``sitecustomize`` that ``cachescope run`` puts on the path. Both run before the program, in every Python process that
inherits the environment, so what is written here has three duties: be silent where nothing is to be profiled, never
stop a program from starting, and import nothing of the command (click, rich).

Started: programs, ``-m``, ``-c``, interactive sessions, spawned workers, and the children of a fork server.
Not started: helper processes (multiprocessing's resource tracker, pip and its build steps, this command itself) and
sub-interpreters, which share a process and hence its capture with the main one.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from types import FrameType, ModuleType, TracebackType

SWITCH = "CACHESCOPE"
_OFF = frozenset({"", "0", "false", "no", "off"})

# Options of the interpreter that take the next argument when nothing follows in the same one.
_OPTIONS_WITH_VALUE = frozenset({"W", "X", "c", "m"})
_HELPER_MODULES = frozenset({"cachescope", "ensurepip", "pip", "venv", "virtualenv"})
_HELPER_SCRIPT = re.compile(
    r"(?:cachescope|get-pip\.py|pip[\d.]*|__pip-runner__\.py|_in_process\.py|virtualenv)(?:\.exe)?"
)
_RESOURCE_TRACKER = "from multiprocessing.resource_tracker import main"
_FORK_SERVER = "from multiprocessing.forkserver import main"

_done = False


def start() -> None:
    """Start the process's profiler from the environment, once, when the environment asks for it.

    Never raises. Whatever goes wrong is one line on stderr, and the program runs without a profiler.
    """
    global _done
    if _done or os.environ.get(SWITCH, "").strip().lower() in _OFF:
        return
    _done = True
    try:
        program = program_of(sys.orig_argv)
        if is_helper(*program) or not _is_main_interpreter():
            return
        site = _running_site()
        if site is not None:
            # More folders may be on the way to sys.path, ours among them (a virtual environment that also sees the
            # system's packages reads its .pth files first).
            _run_after_site(site, program)
        else:
            _start(program)
    except Exception as error:
        _complain(error)


def program_of(command: list[str]) -> tuple[str, str]:
    """Tell what an interpreter's command line runs.

    Args:
        command: The full command line, as in ``sys.orig_argv``.

    Returns:
        ``("c", code)``, ``("m", module)``, ``("script", path)``, or ``("", "")`` for an interactive session or stdin.
    """
    arguments = iter(command[1:])
    for argument in arguments:
        if argument == "-" or not argument.startswith("-"):
            return ("", "") if argument == "-" else ("script", argument)
        if argument.startswith("--"):
            if argument == "--check-hash-based-pycs":
                next(arguments, None)
            continue
        for position, letter in enumerate(argument[1:], start=2):
            if letter in _OPTIONS_WITH_VALUE:
                value = argument[position:] or next(arguments, "")
                if letter in "cm":
                    return letter, value
                break
    return "", ""


def is_helper(kind: str, program: str) -> bool:
    """Tell whether a program is machinery that nobody wants a profile of."""
    if kind == "c":
        return program.startswith(_RESOURCE_TRACKER)
    if kind == "m":
        return program.partition(".")[0] in _HELPER_MODULES
    if kind == "script":
        folder, name = os.path.split(program)
        if name == "__main__.py":
            return os.path.basename(folder) in _HELPER_MODULES
        return _HELPER_SCRIPT.fullmatch(name) is not None
    return False


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # 3.13 and newer; 3.11 and 3.12
        try:
            interpreters = __import__(name)
            current, main = interpreters.get_current(), interpreters.get_main()
        except (ImportError, AttributeError):
            continue
        return bool(current == main)
    return True


def _running_site() -> ModuleType | None:
    """The ``site`` module while it is still setting up ``sys.path``; None before and after."""
    site = sys.modules.get("site")
    if site is None:
        return None
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "execsitecustomize" and frame.f_globals is vars(site):
            return None  # sitecustomize has called us: the path is complete, and the hook below would come too late
        if frame.f_code.co_name == "main" and frame.f_globals is vars(site):
            return site
        frame = frame.f_back
    return None


def _run_after_site(site: ModuleType, program: tuple[str, str]) -> None:
    """Start once the path is complete and the user's ``sitecustomize`` has run."""
    original = site.execsitecustomize

    def execsitecustomize() -> None:
        site.execsitecustomize = original  # type: ignore[attr-defined]  # we put ourselves there
        try:
            original()
        finally:
            try:
                _start(program)
            except Exception as error:
                _complain(error)

    site.execsitecustomize = execsitecustomize  # type: ignore[attr-defined]  # the hook of autowrapt, too


def _start(program: tuple[str, str]) -> None:
    kind, code = program
    if kind == "c" and code.startswith(_FORK_SERVER):
        _start_in_children()
    else:
        _start_here()


def _start_here() -> None:
    import atexit

    from cachescope.core.current import process_profiler
    from cachescope.instrument.autopatch import autopatch

    problem = output_problem(process_profiler().config.output)
    if problem:
        _complain(problem, "no capture will be written")
    autopatch()
    # After the profiler's own: exit hooks run last in, first out, and the note has to be there when it writes.
    atexit.register(_note_unhandled_exception)


def _start_in_children() -> None:
    """Profile what a fork server forks, not the server: it runs no code of the program's."""
    # Imported once, here, so that each child finds them loaded; none of them starts a thread.
    for name in ("cachescope.core.current", "cachescope.instrument.autopatch", "cachescope.profiler"):
        importlib.import_module(name)

    started = False

    def start_in_child() -> None:
        nonlocal started
        if started:  # a fork of the child: the profiler it inherits looks after that itself
            return
        started = True
        try:
            _start_here()
            _write_at_end_of_process()
        except Exception as error:
            _complain(error)

    os.register_at_fork(after_in_child=start_in_child)


def _write_at_end_of_process() -> None:
    """Write the last capture of a fork server's child: it ends without exit hooks, but runs its finalizers."""
    from multiprocessing import util

    profiler = importlib.import_module("cachescope.core.current").running_profiler()
    # It forgets all finalizers that were made before its own fork hooks run; so ours is made by one of these.
    util.register_after_fork(profiler, lambda running: util.Finalize(None, running.last_beat, exitpriority=0))


def _note_unhandled_exception() -> None:
    """Tell the capture that the program ended by an exception: its type and line, since its text may hold keys."""
    from cachescope.core.current import running_profiler

    try:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        profiler = running_profiler()
        # In a session, it is only the last mistake.
        if error is None or profiler is None or sys.flags.interactive or hasattr(sys, "ps1"):
            return
        profiler.exit_note = f"ended by {type(error).__name__}{_raised_at(error.__traceback__)}"
    except Exception as error:
        _complain(error, "no exit note")


def _raised_at(trace: TracebackType | None) -> str:
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def output_problem(output: str | None) -> str:
    """Why no capture could be written now to where ``CACHESCOPE_OUTPUT`` says, and what to do; empty when one could."""
    from cachescope.core.capture import capture_path
    from cachescope.core.errors import CaptureError

    if output is None:
        return ""
    try:
        path = capture_path(output, script="python", pid=os.getpid())
    except CaptureError as error:
        return f"CACHESCOPE_OUTPUT: {error}"
    folder = path.parent
    if path.is_dir():
        return f"CACHESCOPE_OUTPUT: {path} is a folder; add a file's name, or a slash for the default one"
    if not folder.is_dir():
        return f"CACHESCOPE_OUTPUT: there is no folder {folder}; create it (mkdir -p {folder}) or choose another"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"CACHESCOPE_OUTPUT: the folder {folder} can't be written to by this user; choose another"
    return ""


def _complain(error: Exception | str, what: str = "not started") -> None:
    """One line on stderr, if there is one."""
    try:
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Exception) and (isinstance(error, ImportError) or not _is_ours(error)):
            text = f"{type(error).__name__}: {text}"
        print(f"cachescope: {what}: {text}", file=sys.stderr)
    except Exception:  # stderr is closed, or str() of the error fails; the program matters more
        pass


def _is_ours(error: Exception) -> bool:
    errors = sys.modules.get("cachescope.core.errors")
    return errors is not None and isinstance(error, errors.CachescopeError)
