#!/usr/bin/env python3
"""Work on cachescope: ``python3 dev.py demo | test | lint | bench | docs``.

One standard-library file. It makes ``.venv`` beside itself, installs this checkout there (editable) with what
the verb needs, and runs the verb. Nothing has to be installed before but Python 3.11 or newer; pip is found or made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

USAGE = """\
usage: python3 dev.py VERB [ARGUMENTS]

  demo    profile a small program and show its report   (ARGUMENTS: to `cachescope demo`)
  test    run the tests                                 (to pytest: dev.py test -k redis)
  lint    ruff, mypy and the import contracts           (to `ruff check`; --fix repairs what ruff can)
  bench   run the benchmarks                            (to benchmarks/run.py)
  docs    build the documentation, warnings are errors  (to sphinx)

The environment is .venv beside this file; CACHESCOPE_DEV_VENV names another folder.
"""
OLDEST = (3, 11)
IS_RECENT = "import sys; sys.exit(sys.version_info < %r)" % (OLDEST,)  # noqa: UP031 - read by older Pythons too


def runs(*command: object) -> bool:
    """Tell whether a command starts and succeeds; its output is dropped."""
    try:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.call([str(part) for part in command], **silent) == 0
    except OSError:
        return False


def restart_with_recent_python() -> None:
    """Hand over to a newer Python on PATH; called only when this one is too old."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python"):
        found = shutil.which(name)
        if found and runs(found, "-c", IS_RECENT):
            sys.exit(subprocess.call([found, os.path.abspath(__file__), *sys.argv[1:]]))
    sys.exit(
        "dev.py: this is Python %d.%d, and no newer one is on PATH. cachescope needs Python %d.%d or newer."  # noqa: UP031
        % (sys.version_info[:2] + OLDEST)
    )


if __name__ == "__main__" and sys.version_info < OLDEST:
    restart_with_recent_python()

import contextlib
import hashlib
import json
import time
import tomllib
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("CACHESCOPE_DEV_VENV") or ROOT / ".venv").absolute()
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "cachescope-dev.json"


def say(text: str) -> None:
    """Print one line of our own, apart from the tools' output."""
    print(f"dev: {text}", file=sys.stderr, flush=True)


# --- the environment ------------------------------------------------------------------------------------------------


def prepare(*extras: str) -> None:
    """Make the environment ready for a verb; when nothing changed, only a stamp is read."""
    with one_at_a_time():
        if not runs(PYTHON, "-c", IS_RECENT):
            make_environment()
        if not runs(PYTHON, "-m", "pip", "--version"):
            give_pip()
        install(set(extras))


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep two runs from setting up the same environment at once (where the system has file locks)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{VENV}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_environment() -> None:
    """Create the folder without pip: ensurepip, which would bring it, is missing on a bare Debian."""
    ours = (VENV / "pyvenv.cfg").exists()
    if VENV.exists() and not ours and any(VENV.iterdir()):
        sys.exit(f"dev.py: {VENV} is neither empty nor a Python environment. Point CACHESCOPE_DEV_VENV elsewhere.")
    say(f"making {shown(VENV)} with Python {sys.version.split()[0]}")
    venv.EnvBuilder(with_pip=False, clear=ours, symlinks=os.name != "nt").create(VENV)


def give_pip() -> None:
    """Put pip into the environment by the first way that works on this machine."""
    query = [PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.check_output([str(part) for part in query], text=True).strip()
    ways = (
        (PYTHON, "-m", "ensurepip", "--default-pip"),
        (sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "pip"),  # pip 22.3 or newer
        (sys.executable, "-m", "pip", "install", "--quiet", "--target", packages, "pip"),
    )
    if not any(runs(*way) and runs(PYTHON, "-m", "pip", "--version") for way in ways):
        sys.exit(
            f"dev.py: could not put pip into {VENV}. {sys.executable} needs ensurepip or pip"
            " (Debian and Ubuntu: python3-venv or python3-pip), and pip needs its package index."
        )


def install(extras: set[str]) -> None:
    """Install the checkout (editable) with its extras when the metadata or the wish for extras changed."""
    fingerprint = metadata_fingerprint()
    installed: set[str] = set()
    with contextlib.suppress(OSError, ValueError):
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        installed = set(stamp["extras"])
        if stamp["fingerprint"] == fingerprint and extras <= installed:
            return
    extras |= installed
    target = f".[{','.join(sorted(extras))}]"
    say(f"installing {target} into {shown(VENV)}")
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", target]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\ndev.py: pip failed (above): {' '.join(command)}")
    STAMP.write_text(json.dumps({"fingerprint": fingerprint, "extras": sorted(extras)}), encoding="utf-8")
    say(f"installed in {time.monotonic() - started:.0f} s")


def metadata_fingerprint() -> str:
    """Hash what an installation depends on; settings of the tools may change without one."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    relevant = [pyproject["build-system"], pyproject["project"], pyproject["tool"]["hatch"], str(ROOT)]
    startup = (ROOT / "src" / "cachescope-startup.pth").read_bytes()
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode() + startup).hexdigest()


# --- the verbs ------------------------------------------------------------------------------------------------------


def shown(path: Path) -> str:
    """Give a path as a person would type it from the checkout."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def run(*command: object) -> int:
    """Run a tool from the checkout with our output as its own; return its exit status."""
    status = subprocess.call([str(part) for part in command], cwd=ROOT)
    return status if status >= 0 else 128 - status  # killed by a signal: the shell's convention


def demo(arguments: list[str]) -> int:
    """Show the product on a small program."""
    prepare("all")
    return run(BIN / "cachescope", "demo", *arguments)


def test(arguments: list[str]) -> int:
    """Run the tests, on several processors unless the arguments say otherwise."""
    prepare("all", "test")
    alone = any(argument.startswith(("-n", "--numprocesses", "--pdb", "--trace")) for argument in arguments)
    spread = [] if alone else ["-n", str(max(2, min(os.cpu_count() or 2, 8)))]
    return run(PYTHON, "-m", "pytest", *spread, *arguments)


def lint(arguments: list[str]) -> int:
    """Run every check, also after one failed, and name those that did."""
    prepare("all", "test", "lint")
    check_format = [] if "--fix" in arguments else ["--check"]
    contracts = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_logo=True))"
    checks = {
        "ruff check": ["-m", "ruff", "check", *arguments],
        "ruff format": ["-m", "ruff", "format", *check_format],
        "mypy": ["-m", "mypy"],
        "import contracts": ["-c", contracts],
    }
    failed = []
    for name, command in checks.items():
        say(name)
        if run(PYTHON, *command):
            failed.append(name)
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def bench(arguments: list[str]) -> int:
    """Run the benchmarks."""
    prepare("all", "bench")
    return run(PYTHON, ROOT / "benchmarks" / "run.py", *arguments)


def docs(arguments: list[str]) -> int:
    """Build the documentation as HTML."""
    prepare("all", "docs")
    pages = ROOT / "docs" / "_build" / "html"
    status = run(PYTHON, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", *arguments, ROOT / "docs", pages)
    if not status:
        say(f"open {shown(pages / 'index.html')}")
    return status


VERBS: dict[str, Callable[[list[str]], int]] = {"demo": demo, "test": test, "lint": lint, "bench": bench, "docs": docs}


def main(arguments: list[str]) -> int:
    """Run the verb that the arguments name; return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"dev.py: no verb {verb!r}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    for inherited in ("PYTHONHOME", "PYTHONPATH", "CACHESCOPE"):  # they would test other sources, or profile the tests
        os.environ.pop(inherited, None)
    try:
        return VERBS[verb](rest)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
