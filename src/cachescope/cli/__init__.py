"""The ``cachescope`` command: a file per verb, imported when the verb is used.

Exit status: 0 fine; 1 something can't be read, written or started; 2 wrong usage. ``run`` passes on the status of the
program that it ran, unchanged.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from typing import Any

import click

from cachescope.core.errors import CachescopeError

# A verb is a file of this folder and, in it, a click command of the same name. The order is that of the help.
VERBS = ("run", "report", "demo", "doctor")


class _VerbGroup(click.Group):
    """A group that knows its verbs by name and imports only the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb in VERBS if importlib.util.find_spec(f"{__name__}.{verb}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CachescopeError as error:
            click.echo(f"cachescope: {error}", err=True)
            ctx.exit(1)


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"cachescope {version()} (Python {sys.version.split()[0]})")
        ctx.exit()


def version() -> str:
    """The installed version; a copy that is only on the path has none."""
    try:
        return importlib.metadata.version("cachescope")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed, only on the path)"


@click.group(
    cls=_VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Start with: cachescope demo",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def main() -> None:
    """See what the caches of a Python program hold, cost and bring.

    \b
    cachescope run app.py            profile a program, then show the report
    cachescope run -m pytest -q      the same for a module
    cachescope report FILE           show a capture again
    CACHESCOPE=1 gunicorn app:app    profile without the command
    """  # noqa: D301 - \b is click's sign for: keep these lines
