"""A report for a person at a terminal, or in a log: most is said at the top, and every line fits.

Colours appear on a terminal only. ``NO_COLOR`` (any text) turns them off, ``FORCE_COLOR`` (any text but ``0``) turns
them on for a pipe; ``NO_COLOR`` wins. Where the encoding has no block signs, plain ASCII stands in. Names and
patterns are data: markup in them is printed as it is, and what would steer the terminal is escaped.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import IO

from rich.console import Console
from rich.text import Text

from cachescope.core.results import Report
from cachescope.report import footer, growth, hotspots, lives, memory, one_cache, overview, pressure, speed
from cachescope.report.text import glyphs_for
from cachescope.report.view import SORT_KEYS, View

DEFAULT_WIDTH = 80
MIN_WIDTH = 40
DEFAULT_TOP = 10


def print_report(
    report: Report,
    *,
    console: Console | None = None,
    width: int | None = None,
    color: bool | None = None,
    top: int = DEFAULT_TOP,
    cache: str | None = None,
    sort: str = "bytes",
    verbose: bool = False,
    file: IO[str] | None = None,
) -> None:
    """Print *report*.

    Args:
        report: What is known.
        console: Where to print, with its own width and colours; made from *file* when not given.
        width: Cells in a line, at least 40. By default the terminal's; 80 (or ``COLUMNS``) where there is none.
        color: Whether to use colours; by default only on a terminal, see the module.
        top: Rows of each table.
        cache: Tell everything of this one cache instead.
        sort: One of :data:`~cachescope.report.view.SORT_KEYS`.
        verbose: Also show stacks, processes, and lists in full.
        file: Where to print without a console; standard output by default.

    Raises:
        UnknownCacheError: There is no cache of the name *cache*.
        ValueError: *sort* is none of the keys.
    """
    if sort not in SORT_KEYS:
        raise ValueError(f"can't sort by {sort!r}; expected one of: {', '.join(SORT_KEYS)}")
    if console is None:
        console = _console(file if file is not None else sys.stdout, width, color)
    view = View(
        report=report,
        width=max(width or console.width, MIN_WIDTH),
        glyphs=glyphs_for(console.encoding),
        encoding=console.encoding,
        top=max(top, 1),
        sort=sort,
        verbose=verbose,
    )
    lines = []
    for line in _lines(view, cache):
        line.rstrip()
        lines.append(line)
    console.print(Text("\n").join(lines), soft_wrap=True, markup=False, highlight=False, emoji=False)


def report_to_text(
    report: Report,
    *,
    width: int = DEFAULT_WIDTH,
    top: int = DEFAULT_TOP,
    cache: str | None = None,
    sort: str = "bytes",
    verbose: bool = False,
) -> str:
    """The same as plain text, as a log or a ticket wants it; see :func:`print_report`."""
    out = io.StringIO()
    print_report(report, file=out, width=width, color=False, top=top, cache=cache, sort=sort, verbose=verbose)
    return out.getvalue()


def _lines(view: View, name: str | None) -> Iterator[Text]:
    report = view.report
    cache = one_cache.find(report, name) if name is not None else None
    yield from overview.headline(view)
    if cache is not None:
        yield from one_cache.sections(view, cache)
        yield from footer.cost_and_doubts(view, cache)
        return
    if report.caches:
        yield from overview.stands_out(view)
        yield from overview.caches(view)
        yield from _hotspots(view)
        yield from growth.is_growing(view)
        yield from hotspots.hot_keys(view, report.keys, alone=len(report.caches) == 1)
        yield from lives.how_long(view)
        yield from speed.how_fast(view)
        yield from speed.operations(view)
    else:
        yield from overview.nothing_seen(view)
        yield from growth.is_growing(view)
    yield from memory.what_else(view)
    yield from pressure.ran_short(view, report.pressure)
    if report.caches or report.processes or report.notes:
        yield from footer.cost_and_doubts(view)


def _hotspots(view: View) -> Iterator[Text]:
    report = view.report
    whole, alone = report.total_bytes, len(report.caches) == 1
    yield from hotspots.patterns(view, report.patterns, whole, alone=alone)
    yield from hotspots.sites(view, report.sites, whole, alone=alone, stacks=view.verbose)
    yield from hotspots.origins(view, report.origins, whole, alone=alone, stacks=view.verbose)


def _console(file: IO[str], width: int | None, color: bool | None) -> Console:
    colored = _wants_color(file) if color is None else color
    return Console(
        file=file,
        width=width or _width(file),
        color_system="standard" if colored else None,  # the sixteen colours that a person's theme has set
        force_terminal=colored,
        force_jupyter=False,
        no_color=not colored,
        markup=False,
        highlight=False,
        emoji=False,
    )


def _wants_color(file: IO[str]) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR")
    if forced:
        return forced != "0"
    return _is_terminal(file) and os.environ.get("TERM") != "dumb"


def _width(file: IO[str]) -> int:
    if _is_terminal(file):
        return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() and int(columns) > 0 else DEFAULT_WIDTH


def _is_terminal(file: IO[str]) -> bool:
    try:
        return file.isatty()
    except (AttributeError, ValueError):  # not quite a file, or closed
        return False
