"""The documentation tells the truth: its Python examples run, print what they say, and its commands exist.

The ```` ```python ```` blocks of a page run in order, as one program, in a process of its own. A ``print(...)`` with a
comment at the end of its line must print that comment. Blocks that need more than the tests have (a
``{code-block} python`` with a caption) are only compiled. The table of settings in the guide is made from
:class:`~cachescope.ProfilerConfig`: ``python tests/test_docs.py`` writes it anew.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cachescope
from cachescope import ProfilerConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.is_file()]
FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
RUNNER = r"""
import io, sys, tokenize

page = sys.argv[1]
source = sys.stdin.read()
expected = {}
for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT and token.line.lstrip().startswith("print("):
        expected[token.start[0]] = token.string.removeprefix("#").strip()
printed, said = {}, print

def print(*values, **options):
    line = sys._getframe(1).f_lineno
    printed[line] = " ".join(map(str, values))
    said(*values, **options)

sys.modules["__main__"].__dict__.update(print=print, __name__="__main__", __file__=page)
exec(compile(source, page, "exec"), sys.modules["__main__"].__dict__)
wrong = [
    f"{page}:{line}: printed {printed.get(line)!r}, its comment says {text!r}"
    for line, text in expected.items()
    if printed.get(line) != text
]
sys.exit("\n".join(wrong) or 0)
"""


def blocks(page: Path, kind: str) -> list[tuple[int, str]]:
    """The fenced blocks of a kind: the line that each begins at, and its text."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start()) + 1, match["text"])
        for match in FENCE.finditer(text)
        if match["kind"].strip() == kind
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run_and_print_what_they_say(page: Path, tmp_path: Path) -> None:
    source = ""
    for line, text in blocks(page, "python"):
        source += "\n" * (line - source.count("\n")) + text  # a traceback shows the page's own lines
    if not source:
        pytest.skip("no example on this page")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CACHESCOPE")}
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", RUNNER, page.name],
        input=source,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_that_are_only_shown_compile(page: Path) -> None:
    for line, text in blocks(page, "{code-block} python"):
        program = re.sub(r"\A(:[^\n]*\n)+", "", text)
        assert compile("\n" * line + program, page.name, "exec").co_names  # a program that names nothing shows nothing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    import click

    from cachescope.cli import main

    with click.Context(main) as context:
        verbs = {name: main.get_command(context, name) for name in main.list_commands(context)}
    for line, text in blocks(page, "console"):
        for command in re.findall(r"^\$ (?:[A-Z_]+=\S* )*cachescope (.*)$", text, re.MULTILINE):
            verb, *arguments = command.split()
            if verb.startswith("-"):
                continue
            assert verb in verbs, f"{page.name}:{line}: no verb {verb!r}"
            known = {name for option in verbs[verb].params for name in option.opts} | {"--help", "-h"}
            if verb == "run":  # what follows the program is the program's
                program = next((i for i, word in enumerate(arguments) if word.endswith(".py")), len(arguments))
                arguments = arguments[: arguments.index("-m") + 1 if "-m" in arguments else program]
            for word in arguments:
                if word.startswith("-"):
                    assert word.partition("=")[0] in known, f"{page.name}:{line}: {verb} has no {word}"


SETTINGS = re.compile(r"(?<=<!-- settings -->\n\n).*?(?=\n<!-- end of settings -->)", re.DOTALL)


def settings_table() -> str:
    """Every field of ``ProfilerConfig``: its variable, default, range, and what its docstring says."""
    body = ast.parse(inspect.getsource(ProfilerConfig)).body[0]
    assert isinstance(body, ast.ClassDef)
    meanings: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            meanings[field.target.id] = " ".join(str(text.value.value).split()).replace("``", "`")
    defaults = ProfilerConfig().to_dict()
    lines = ["| variable `CACHESCOPE_…` | default | from, to | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(ProfilerConfig):
        low, high = field.metadata["low"], field.metadata["high"]
        default = defaults[field.name]
        shown = "none" if default is None else f"{default:,}" if type(default) is int else str(default).lower()
        allowed = "" if low is None else f"{low:,}, {high:,}"
        lines.append(f"| `{field.name.upper()}` | {shown} | {allowed} | {meanings[field.name]} |")
    return "\n".join(lines) + "\n"


def test_settings_in_the_guide_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    found = SETTINGS.search(page)
    assert found is not None
    assert found[0] == settings_table(), "run: python tests/test_docs.py"


def test_the_reference_names_everything_public() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in cachescope.__all__ if not re.search(rf"\b{name}\b", page)]
    assert not missing
    members = [
        f"{cls.__name__}.{name}"
        for cls in (cachescope.CacheMemoryProfiler, cachescope.CacheWindow)
        for name in vars(cls)
        if not name.startswith("_") and name not in {"beat", "last_beat", "after_fork"}
    ]
    assert not [member for member in members if f"`{member.partition('.')[2]}" not in page]
    results = [
        f"{cls.__name__}.{field.name}"
        for cls in (cachescope.MemoryProfile, cachescope.MemoryHotspot, cachescope.MemoryAllocation, cachescope.Report)
        for field in dataclasses.fields(cls)
    ]
    assert not [member for member in results if f"`{member.partition('.')[2]}`" not in page]


# Homes and installed packages, and any folder at the root but those that every machine has (and one URL's).
MACHINE_PATH = re.compile(
    r"(?:/home/|/root/|/Users/|/tmp/\w+/|site-packages/|(?<![\w.~/\])>*{}…-])/(?!var/|dev/|etc/|usr/|bin/|tmp/|item/)[\w.-]+/)\S*"
)


def test_no_page_shows_paths_of_a_machine() -> None:
    for page in PAGES:
        found = MACHINE_PATH.findall(page.read_text("utf-8"))
        assert not found, f"{page.name}: {found}"


if __name__ == "__main__":
    guide = ROOT / "docs" / "guide.md"
    guide.write_text(SETTINGS.sub(lambda _: settings_table(), guide.read_text(encoding="utf-8")), encoding="utf-8")
