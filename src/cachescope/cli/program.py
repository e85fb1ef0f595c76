"""Start another program under the profiler, stand between it and its signals, and end as it ended.

The program runs as plain Python would run it, in a child process with our three environment variables. What the
start-up file can't reach (cachescope is on PYTHONPATH but not installed), a ``sitecustomize`` in a temporary folder
does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cachescope.core.errors import CachescopeError, ConfigurationError
from cachescope.core.key_ids import share_secret

STARTUP_FILE = "cachescope-startup.pth"
_TICK_SECONDS = 0.1
_FROM_TERMINAL = frozenset({"SIGINT", "SIGQUIT", "SIGBREAK"})

# What a supervisor, a shell or a person sends to the process that they know, which is ours.
_FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)

_SITECUSTOMIZE = """\
# Written by `cachescope run`, because cachescope's start-up file is not installed for this Python.
# It hands over to the sitecustomize that it hides, then starts the profiler.
import os, sys
def _chain():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)
def _start():
    if sys.prefix != {prefix!r} or sys.version_info[:2] != {version!r}:
        return  # another Python, started by the program: not ours to profile
    try:
        from importlib import util
        if util.find_spec("cachescope") is None:
            sys.path.append({package_root!r})
        # By its path: helper processes, such as multiprocessing's, need not import the whole package.
        folder = util.find_spec("cachescope").submodule_search_locations[0]
        name = "cachescope.instrument.bootstrap"
        spec = util.spec_from_file_location(name, os.path.join(folder, "instrument", "bootstrap.py"))
        sys.modules[name] = bootstrap = util.module_from_spec(spec)
        spec.loader.exec_module(bootstrap)
        bootstrap.start()
    except Exception as error:
        sys.stderr.write("cachescope: not started: %s: %s\\n" % (type(error).__name__, error))
try:
    _chain()
finally:
    _start()
"""


def startup_file() -> Path | None:
    """The installed start-up file that this interpreter reads at start-up; None when there is none."""
    if sys.flags.no_site:
        return None
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return next((path for folder in folders if (path := Path(folder, STARTUP_FILE)).is_file()), None)


def python_command() -> list[str]:
    """This interpreter, with the options it was started with."""
    # Not public, but what multiprocessing uses for the same purpose since 2.7.
    options: list[str] = getattr(subprocess, "_args_from_interpreter_flags")()  # noqa: B009 - typeshed does not list it
    return [sys.executable, *options]


@contextlib.contextmanager
def profiled_environment(settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment in which Python programs start with the profiler on.

    Args:
        settings: ``CACHESCOPE_…`` variables to set beside the switch.

    Raises:
        ConfigurationError: Neither way of starting reaches a program of this interpreter.
    """
    environment = {**os.environ, **settings, "CACHESCOPE": "1"}
    share_secret(environment)
    if startup_file() is not None:
        yield environment
        return
    if sys.flags.no_site or sys.flags.ignore_environment:
        option = "-S" if sys.flags.no_site else "-I" if sys.flags.isolated else "-E"
        raise ConfigurationError(
            f"can't start the profiler under python {option}: {STARTUP_FILE} is not in effect. "
            f"Install cachescope for {sys.executable}, or leave {option} away"
        )
    folder = tempfile.mkdtemp(prefix="cachescope-startup-")
    try:
        text = _SITECUSTOMIZE.format(
            prefix=sys.prefix,
            version=sys.version_info[:2],
            package_root=str(Path(__file__).resolve().parents[2]),
        )
        Path(folder, "sitecustomize.py").write_text(text, encoding="utf-8")
        former = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{folder}{os.pathsep}{former}" if former else folder
        yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_program(
    command: Sequence[str], environment: Mapping[str, str], on_tick: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    """Run a command to its end, on our own stdin, stdout and stderr.

    Signals that are sent to us are passed on; those that the terminal sends (Ctrl-C) have reached the program by
    themselves. None of them ends us.

    Args:
        command: What to run.
        environment: The whole environment.
        on_tick: Called several times a second meanwhile.

    Returns:
        The ended process.

    Raises:
        CachescopeError: It can't be started.
    """
    run = _run_by_siginfo if hasattr(signal, "sigtimedwait") else _run_by_handlers
    try:
        return run(command, environment, on_tick)
    except OSError as error:
        raise CachescopeError(f"can't start {command[0]}: {error.strerror or error}") from error


def _run_by_siginfo(
    command: Sequence[str], environment: Mapping[str, str], on_tick: Callable[[], None] | None
) -> subprocess.Popen[bytes]:
    """Take signals from the queue, which tells who sent them; blocked before the start, so that none is lost."""
    awaited = {signal.SIGCHLD, *_FORWARDED}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, nobody learns how a child ended
    former = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            # Safe here: this process has no other thread.
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, former),  # noqa: PLW1509
        )
        while process.poll() is None:
            received = signal.sigtimedwait(awaited, _TICK_SECONDS if on_tick else 3_600)
            if received is None:
                if on_tick:
                    on_tick()
            elif received.si_signo != signal.SIGCHLD and received.si_code <= 0:  # from a process, not from the kernel
                process.send_signal(received.si_signo)
        return process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _run_by_handlers(
    command: Sequence[str], environment: Mapping[str, str], on_tick: Callable[[], None] | None
) -> subprocess.Popen[bytes]:
    """The same where signals come without their sender: in the foreground of a terminal, it is the terminal."""
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        elif not (signal.Signals(number).name in _FROM_TERMINAL and _in_foreground()):
            process.send_signal(number)

    former = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        process = subprocess.Popen(command, env=environment)
        for number in early:
            process.send_signal(number)
        while True:
            try:
                process.wait(_TICK_SECONDS if on_tick else None)
            except subprocess.TimeoutExpired:
                if on_tick:
                    on_tick()
            else:
                return process
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    if not hasattr(os, "tcgetpgrp"):
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def how_it_ended(status: int) -> str:
    """A ``Popen.returncode`` in words; empty for a plain success."""
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exit status {status}" if status else ""


def leave_like(status: int) -> NoReturn:
    """End this process as another one ended, so that a shell or a supervisor sees no difference.

    Args:
        status: A ``Popen.returncode``; minus the number of a signal when that was the end.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # Nobody reads on. Python would try again while it shuts down, and make it exit status 120.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if status >= 0:
        sys.exit(status)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # The program has left a core where it was asked to; ours would replace it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-status, signal.SIG_DFL)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-status])
    with contextlib.suppress(OSError):
        os.kill(os.getpid(), -status)
    sys.exit(128 - status)  # as the first process of a container, we can't kill ourselves: the shell's convention
