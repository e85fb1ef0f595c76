"""``cachescope doctor``: is everything in place, which settings are in force, and which libraries are seen."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import click

from cachescope.cli import version
from cachescope.cli.program import STARTUP_FILE, python_command, startup_file
from cachescope.core.config import ENVIRONMENT_PREFIX, ProfilerConfig
from cachescope.core.errors import ConfigurationError
from cachescope.instrument.bootstrap import output_problem

_DEPENDENCIES = ("wrapt", "cachetools", "psutil", "click", "rich")
_CHILD_SECONDS = 60

# Asks a Python that started with CACHESCOPE=1 what came of it. The libraries are imported first, since a patch is
# made when its library comes.
_QUESTION = """\
import importlib, json, sys
answer = {"started": False, "rows": [], "errors": {}}
bootstrap = sys.modules.get("cachescope.instrument.bootstrap")
if bootstrap is not None:
    from cachescope.core.current import running_profiler
    from cachescope.instrument.autopatch import patch_report
    answer["started"] = running_profiler() is not None
    for row in patch_report():
        if row.state == "waiting for import":
            try:
                importlib.import_module(row.library)
            except Exception as error:
                answer["errors"][row.library] = f"{type(error).__name__}: {error}"
    answer["rows"] = [
        {"library": row.library, "version": row.version, "state": row.state, "detail": row.detail}
        for row in patch_report()
    ]
print("\\n" + json.dumps(answer))
"""


@dataclass(slots=True)
class Examination:
    """What was found out, and what is wrong."""

    python: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    startup: dict[str, Any] = field(default_factory=dict)
    settings: list[dict[str, Any]] = field(default_factory=list)
    libraries: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is as it should be, but may surprise."""
    problems: list[str] = field(default_factory=list)
    """One line each: what is broken, and what to do."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation, the settings in force and the libraries seen.

    Starts a Python with CACHESCOPE=1, to see whether the profiler comes up in
    it. Exit status 0: all is well. 1: something is broken; each problem is a
    line that says what to do.

    \b
    cachescope doctor
    CACHESCOPE_LEVEL=detailed cachescope doctor --json
    """  # noqa: D301 - \b is click's sign for: keep these lines
    found = Examination()
    _examine_python(found)
    _examine_settings(found)
    _examine_startup(found)
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "ok": not found.problems, **dataclasses.asdict(found)}, indent=2))
    else:
        _print(found)
    ctx.exit(1 if found.problems else 0)


def _examine_python(found: Examination) -> None:
    found.python = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(terse=True),
    }
    found.versions["cachescope"] = version()
    for name in _DEPENDENCIES:
        try:
            found.versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.versions[name] = None
            if importlib.util.find_spec(name) is None:
                found.problems.append(f"{name} is missing: python -m pip install {name}")
    found.python["wrapt extension"] = "yes" if _wrapt_is_compiled() else "no (works, but wrapped caches are slower)"


def _wrapt_is_compiled() -> bool:
    if importlib.util.find_spec("wrapt") is None or os.environ.get("WRAPT_DISABLE_EXTENSIONS"):
        return False
    return importlib.util.find_spec("wrapt._wrappers") is not None


def _examine_settings(found: Examination) -> None:
    """Read each variable by itself, so that one mistake does not hide the others."""
    defaults = ProfilerConfig().to_dict()
    variables = {ENVIRONMENT_PREFIX + name.upper(): name for name in defaults}
    for variable, name in variables.items():
        given = os.environ.get(variable, "").strip()
        value, source = defaults[name], "default"
        if given:
            try:
                value, source = ProfilerConfig.from_environment({variable: given}).to_dict()[name], variable
            except ConfigurationError as error:
                found.problems.append(f"{_named(str(error), variable)}; unset or correct {variable}")
                value, source = None, variable
        found.settings.append({"name": name, "value": value, "source": source})
    if not os.environ.get(f"{ENVIRONMENT_PREFIX}OUTPUT", "").strip():
        found.notes.append(
            "no output is set: with CACHESCOPE=1 alone the figures stay in the process; "
            "CACHESCOPE_OUTPUT=app.{pid}.capture writes them (`cachescope run` does by itself)"
        )
    else:
        problem = output_problem(os.environ[f"{ENVIRONMENT_PREFIX}OUTPUT"].strip())
        found.problems += [problem] if problem else []
    for variable in sorted(os.environ):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in variables:
            # Other tools may have variables of this prefix; only what looks like a slip is one.
            near = difflib.get_close_matches(variable, variables, n=1, cutoff=0.85)
            if near:
                found.problems.append(f"{variable} is no setting: did you mean {near[0]}?")


def _named(message: str, variable: str) -> str:
    return message if message.startswith(variable) else f"{variable}: {message.partition(': ')[2]}"


def _examine_startup(found: Examination) -> None:
    path = startup_file()
    found.startup = {"file": str(path) if path else None, "works": False, "said": ""}
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ENVIRONMENT_PREFIX)  # what is wrong with those is said above
    }
    environment["CACHESCOPE"] = "1"
    answer: dict[str, Any] = {}
    try:
        child = subprocess.run(
            [*python_command(), "-c", _QUESTION],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHILD_SECONDS,
            check=False,
        )
        found.startup["said"] = child.stderr.strip()
        answer = json.loads(child.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        found.startup["said"] = found.startup["said"] or f"{type(error).__name__}: {error}"
    found.startup["works"] = bool(answer.get("started"))
    if not found.startup["works"]:
        found.problems.append(_startup_problem(path is not None, found.startup["said"]))
    errors = answer.get("errors", {})
    for row in answer.get("rows", ()):
        found.libraries.append(row)
        library, state = row["library"], row["state"]
        if library in errors:
            found.problems.append(f"{library} can't be imported ({errors[library]}): repair or remove it")
        elif "unsupported version" in str(state):
            found.notes.append(f"{library} {row['version']}: {state}; its figures may be wrong")
        elif str(state).startswith("failed"):
            found.problems.append(f"{library} {row['version']} could not be patched ({state}): please report this")


def _startup_problem(is_installed: bool, said: str) -> str:
    if is_installed:
        last = said.splitlines()[-1] if said else "it said nothing"
        return f"CACHESCOPE=1 starts no profiler ({last}): python -m pip install --force-reinstall cachescope"
    return (
        f"{STARTUP_FILE} is not installed for this Python, so CACHESCOPE=1 does nothing: install cachescope with "
        "pip into this environment; until then, use `cachescope run`"
    )


def _print(found: Examination) -> None:
    _section("Python")
    for name, value in found.python.items():
        _line(name, value)
    _section("Versions")
    for name, number in found.versions.items():
        _line(name, number or "unknown (no metadata)")
    _section("Start-up (CACHESCOPE=1)")
    _line("file", found.startup["file"] or "not installed")
    _line("works", "yes, tried in a new process" if found.startup["works"] else "no")
    _section("Settings in force")
    for setting in found.settings:
        value = setting["value"]
        shown = _shown(value)
        if value is None and setting["source"] != "default":
            shown = "wrong, see below"
        _line(setting["name"], f"{shown:<16} {'' if setting['source'] == 'default' else setting['source']}")
    _section("Libraries")
    for row in found.libraries:
        _line(f"{row['library']} {row['version'] or ''}", f"{row['state']}", row["detail"] or "")
    if not found.libraries:
        _line("unknown", "the profiler did not start")
    click.echo()
    for note in found.notes:
        click.echo(click.wrap_text(f"note: {note}", 79, "", "  "))
    if not found.problems:
        click.echo("Everything is in place.")
    for problem in found.problems:
        click.echo(click.wrap_text(f"PROBLEM {problem}", 79, "", "  "))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _section(title: str) -> None:
    click.echo(f"{'' if title == 'Python' else chr(10)}{title}")


def _line(name: str, value: str, detail: str = "") -> None:
    line = f"  {name:<20} {value}".rstrip()
    if len(line) > 79 and "/" not in line:  # a path is left whole, to be copied
        line = click.wrap_text(line, 79, "", " " * 23)
    click.echo(line)
    if detail:
        click.echo(click.wrap_text(f"can't see: {detail}", 79, "      ", "      "))
