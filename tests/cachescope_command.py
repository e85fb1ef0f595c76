"""Run Python and the ``cachescope`` command as a user would: in new processes, in environments of their own."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile
import venv
from collections import Counter
from pathlib import Path

import click

import cachescope
from cachescope.cli.run import merged_report
from cachescope.core.results import Report

SOURCE = Path(cachescope.__path__[0]).parent
DEPENDENCIES = Path(click.__file__).parents[1]
STARTUP_FILE = Path(__file__).parents[1] / "src" / "cachescope-startup.pth"

INSTALLED, ON_PATH = "installed", "on PYTHONPATH"
"""The two ways in which cachescope can be there: with its start-up file, and as nothing but a folder on the path."""


@functools.cache
def python(how: str) -> str:
    """A Python of its own in which cachescope is there in one of the two ways, or not at all."""
    folder = tempfile.mkdtemp(prefix="cachescope-test-")
    atexit.register(_remove, folder, os.getpid())
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": folder, "platbase": folder}))
    # Read last, as the system's packages are: whoever imports one while the other files are read, fails.
    (packages / "zz-dependencies.pth").write_text(f"{DEPENDENCIES}\n")
    if how == INSTALLED:
        (packages / "cachescope-path.pth").write_text(f"{SOURCE}\n")
        shutil.copy(STARTUP_FILE, packages)
    return str(Path(folder, "Scripts" if os.name == "nt" else "bin", "python"))


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def environment(how: str = INSTALLED, **variables: object) -> dict[str, str]:
    """Ours, without what steers Python or cachescope, and with *variables*."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CACHESCOPE", "PYTHON", "COV_"))}
    if how == ON_PATH:
        clean["PYTHONPATH"] = str(SOURCE)
    given = {name: str(value) for name, value in variables.items()}
    if how == ON_PATH and "PYTHONPATH" in given:
        given["PYTHONPATH"] += os.pathsep + str(SOURCE)
    return {**clean, "CACHESCOPE_FLUSH_SECONDS": "0.2", **given}


def run_python(
    *arguments: object, folder: Path, how: str = INSTALLED, stdin: bytes = b"", **variables: object
) -> subprocess.CompletedProcess[bytes]:
    """Run Python to its end."""
    return subprocess.run(
        [python(how), *map(str, arguments)],
        cwd=folder,
        env=environment(how, **variables),
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )


def run_cachescope(
    *arguments: object, folder: Path, how: str = INSTALLED, stdin: bytes = b"", **variables: object
) -> subprocess.CompletedProcess[bytes]:
    """Run ``cachescope`` to its end."""
    return run_python("-m", "cachescope", *arguments, folder=folder, how=how, stdin=stdin, **variables)


def captures(folder: Path) -> list[Path]:
    """The captures in a folder."""
    return sorted(folder.glob("*.capture"))


def report_of(folder: Path) -> Report:
    """One report over all captures in a folder."""
    report, problems = merged_report(captures(folder))
    assert not problems
    assert report is not None
    return report


def caches_of(folder: Path) -> dict[str, int]:
    """The caches in a folder's captures, by the last part of their name, and how many entries were set in each."""
    sets: Counter[str] = Counter()
    for cache in report_of(folder).caches:
        sets[cache.cache_name.split(":")[-1]] += cache.total_allocations
    return dict(sets)
