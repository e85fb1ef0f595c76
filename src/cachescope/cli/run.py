"""``cachescope run``: run a program under the profiler, then show what its caches did."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cachescope.cli.program import (
    how_it_ended,
    leave_like,
    profiled_environment,
    python_command,
    run_program,
)
from cachescope.core.capture import MAGIC, capture_path, read_capture, sibling_captures
from cachescope.core.config import ENVIRONMENT_PREFIX, ProfilerConfig
from cachescope.core.errors import CachescopeError, CaptureError
from cachescope.core.events import ProfilingLevel

if TYPE_CHECKING:
    from cachescope.core.results import Report

LEVELS = [level.name.lower() for level in ProfilingLevel]
FLUSH_SECONDS = "2"
"""More often than a service would want it: a program that is run by hand may crash early."""
NOTHING_CACHED = (
    "no cache was used, as far as can be seen.",
    "Caches of the libraries that cachescope knows are found by themselves.",
    "A dict, or a class of your own, has to be named once, where it is made:",
    "  from cachescope import instrument",
    '  cache = instrument(cache, name="users")',
)


@click.command(
    options_metavar="[OPTIONS]",
    # What follows the program's name is the program's, also when it looks like ours.
    context_settings={"allow_interspersed_args": False},
    epilog="The program's exit status is passed on. Its stdout is left alone; the report goes to stderr.",
)
@click.option("-m", "is_module", is_flag=True, help="Run a module, as python -m does.")
@click.option("-c", "is_code", is_flag=True, help="Run code, as python -c does.")
@click.option("-o", "--output", metavar="FILE", help="Where the capture goes; {pid} in it is filled in.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the capture FILE.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="How deep to look.  [default: detailed]")
@click.option("--no-report", is_flag=True, help="Write the capture only.")
@click.option("-q", "--quiet", is_flag=True, help="Show the report only, no lines around it.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="PROGRAM [ARGS]...")
@click.pass_context
def run(
    ctx: click.Context,
    is_module: bool,
    is_code: bool,
    output: str | None,
    force: bool,
    level: str | None,
    no_report: bool,
    quiet: bool,
    program: tuple[str, ...],
) -> None:
    """Run a program under the profiler, then show what its caches did.

    PROGRAM is a script, or a module with -m, or code with -c. All that follows
    it is passed to the program.

    \b
    cachescope run app.py --port 8000
    cachescope run -m pytest -q
    cachescope run -o before.capture --level comprehensive app.py
    cachescope run -m gunicorn -w 4 app:app   (workers are merged)

    Each process writes its own capture, every few seconds and at its end, so
    that a crash leaves one too. CACHESCOPE_LEVEL, CACHESCOPE_OUTPUT and other
    CACHESCOPE_... variables count where no option is given.
    """  # noqa: D301 - \b is click's sign for: keep these lines
    arguments = _python_arguments(is_module, is_code, program)
    name = "c" if is_code else program[0]
    plan = CapturePlan.of(output or os.environ.get(f"{ENVIRONMENT_PREFIX}OUTPUT") or None, script=name)
    settings = profiler_settings(level, plan)
    plan.prepare(force=force)
    say = _keep_quiet if quiet else _say

    with profiled_environment(settings) as environment:
        process = run_program([*python_command(), *arguments], environment)
    try:
        _show(plan, process.pid, process.returncode, _command_name(ctx), say, with_report=not no_report)
    except CachescopeError as error:
        _say(f"no report: {error}")
    except (KeyboardInterrupt, BrokenPipeError, SystemExit):  # rich makes SystemExit(1) of a broken pipe
        # Somebody has seen enough; the program's status counts all the same.
        pass
    leave_like(process.returncode)


def _python_arguments(is_module: bool, is_code: bool, program: tuple[str, ...]) -> list[str]:
    """What comes after ``python`` on the command line."""
    if is_module and is_code:
        raise click.UsageError("give either -m MODULE or -c CODE, not both")
    if not program:
        raise click.UsageError("nothing to run: give a script, -m MODULE or -c CODE")
    if is_module or is_code:
        return ["-m" if is_module else "-c", *program]
    script = program[0]
    if script != "-" and not os.path.exists(script):
        raise click.UsageError(f"there is no file {script!r}{_hint(script)}")
    # A name that starts with a dash would be an option of Python's.
    return [script if script == "-" or not script.startswith("-") else os.path.join(os.curdir, script), *program[1:]]


def _hint(script: str) -> str:
    if os.path.basename(script) != script:
        return ""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        if script.isidentifier() and importlib.util.find_spec(script):
            return f"; did you mean the module? That is: -m {script}"
    found = shutil.which(script)
    return f"; did you mean {found}?" if found else ""


def profiler_settings(level: str | None, plan: CapturePlan) -> dict[str, str]:
    """The variables for the program; what is wrong with any of them is said here, before it starts.

    Raises:
        ConfigurationError: A ``CACHESCOPE_…`` variable has a value that is not allowed.
    """
    settings = {"LEVEL": "detailed", "FLUSH_SECONDS": FLUSH_SECONDS}
    settings = {
        variable: os.environ.get(variable, "").strip() or default
        for variable, default in ((ENVIRONMENT_PREFIX + name, value) for name, value in settings.items())
    }
    if level:
        settings[f"{ENVIRONMENT_PREFIX}LEVEL"] = level
    settings[f"{ENVIRONMENT_PREFIX}OUTPUT"] = str(plan.template)
    ProfilerConfig.from_environment({**os.environ, **settings})
    return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePlan:
    """Where the captures of one run go.

    Every process writes its own file, so what the processes are told always has ``{pid}`` in it, and something before
    it that no other run in this folder uses: by name alone, ``report FILE`` finds what belongs together.
    """

    template: Path
    """Absolute, with ``{pid}`` in its name."""
    asked: Path | None
    """The one file that was asked for; the main process's capture gets this name in the end."""
    before: frozenset[tuple[str, int]] = frozenset()
    """Captures that fitted the template before the start: names and times."""

    @classmethod
    def of(cls, output: str | None, *, script: str) -> CapturePlan:
        """Plan for what ``--output`` says.

        Raises:
            CaptureError: *output* can't be understood.
        """
        output = os.path.join(output, "") if output and os.path.isdir(os.path.expanduser(output)) else output
        by_default = not output or output.endswith(("/", os.sep))
        path = capture_path(output, script=script, pid=os.getpid(), folder=os.getcwd())
        if by_default:
            asked, stem = None, path.stem  # our own pid stands for the run
        elif output and "{pid}" in output:
            path = path.parent / Path(output).name
            return cls(template=path, asked=None, before=_stamps(path))
        else:
            asked, stem = path, path.stem
        return cls(template=path.with_name(f"{stem}.{{pid}}{path.suffix}"), asked=asked)

    def prepare(self, *, force: bool) -> None:
        """Make sure, before the program starts, that its captures can be written.

        Raises:
            CaptureError: They can't, or would overwrite something.
        """
        folder = self.template.parent
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except FileNotFoundError:
            raise CaptureError(f"can't write to {folder}: there is no such folder; create it first") from None
        except OSError as error:
            raise CaptureError(f"can't write to {folder}: {error.strerror}; give another -o FILE") from None
        if self.asked is None:
            return
        there = [path for path in (self.asked, *sibling_captures(self.asked)) if os.path.lexists(path)]
        if not there:
            return
        if not force:
            raise CaptureError(f"{there[0]} exists; overwrite it with --force (-f), or give another -o FILE")
        for path in there:
            if not path.is_file():
                raise CaptureError(f"{path} is no file; give another -o FILE")
            if path == self.asked or _is_capture(path):
                path.unlink()

    def collect(self, main_pid: int) -> list[Path]:
        """The captures that the run has left, the main process's first."""
        main = self.template.with_name(self.template.name.replace("{pid}", str(main_pid)))
        others = [
            path
            for path in sibling_captures(self.template)
            if path != main and (path.name, path.stat().st_mtime_ns) not in self.before
        ]
        if self.asked is not None and main.exists():
            main = main.replace(self.asked)
        return [main, *others] if main.exists() else others


def _stamps(template: Path) -> frozenset[tuple[str, int]]:
    return frozenset((path.name, path.stat().st_mtime_ns) for path in sibling_captures(template))


def _is_capture(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def merged_report(captures: Sequence[Path]) -> tuple[Report | None, list[str]]:
    """One report over several captures, and what is wrong with those that can't be read."""
    from cachescope.core.answers.report import report_of
    from cachescope.core.recording import Recording

    merged: Recording | None = None
    problems = []
    for path in captures:
        try:
            recording = Recording.from_dict(read_capture(path))
        except CaptureError as error:
            problems.append(str(error))
            continue
        merged = recording if merged is None else merged.merge(recording)
    return (report_of(merged) if merged is not None else None), problems


def _show(
    plan: CapturePlan,
    main_pid: int,
    status: int,
    command_name: str,
    say: Callable[..., None],
    *,
    with_report: bool,
) -> None:
    captures = plan.collect(main_pid)
    ending = how_it_ended(status)
    if not captures:
        _say(
            f"no capture was written{f' ({ending})' if ending else ''}.",
            "Either the profiler did not start in the program, or the program ended before",
            "the first capture was due. To find out whether something is broken:",
            f"  {command_name} doctor",
        )
        return
    if status < 0:
        say(f"the program was {ending}; the figures are those of the last flush")
    if with_report:
        report, problems = merged_report(captures)
        for problem in problems:
            _say(problem)
        if report is not None:
            if not report.caches:
                _say(*NOTHING_CACHED)
            if running := _still_running(report, main_pid):
                say(f"still running, so only what they have flushed is counted: pid {', '.join(map(str, running))}")
            if report.caches or report.notes or any(process.faults for process in report.processes):
                _print(report)
    shown = shlex.quote(_relative(captures[0]))
    say(
        *([f"{len(captures)} processes wrote captures; the report is of all of them"] if len(captures) > 1 else []),
        "to see the report again, or as JSON:",
        f"  {command_name} report {shown}",
        f"  {command_name} report {shown} --json",
    )


def _still_running(report: Report, main_pid: int) -> list[int]:
    """Processes of the program that have outlived it, such as workers that detached themselves."""
    import psutil

    return [process.pid for process in report.processes if process.pid != main_pid and psutil.pid_exists(process.pid)]


def _print(report: Report) -> None:
    from cachescope.report import print_report

    print_report(report, file=sys.stderr)


def _say(*lines: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print("cachescope: " + "\n".join(lines), file=sys.stderr, flush=True)


def _keep_quiet(*_lines: str) -> None:
    """Take the place of ``_say`` under ``--quiet``."""


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _command_name(ctx: click.Context) -> str:
    return ctx.find_root().info_name or "cachescope"
