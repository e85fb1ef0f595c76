"""``cachescope report``: show what captures say, of one process or of many."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from cachescope.core.capture import read_capture, sibling_captures
from cachescope.core.errors import CachescopeError, CaptureError, UnknownCacheError

if TYPE_CHECKING:
    from cachescope.core.recording import Recording
    from cachescope.core.results import Report

SORTS = ("bytes", "entries", "hits", "misses", "hit-ratio", "evictions", "name")
NARROWEST = 40


@click.command()
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, of all caches or of the one --cache.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="bytes",
    show_default=True,
    help="Order of the tables: largest first, but the lowest hit ratio first.",
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Rows of a table.")
@click.option("--cache", metavar="NAME", help="Show everything of this one cache.")
@click.option("--width", type=click.IntRange(min=NARROWEST), metavar="N", help="Cells in a line.  [default: terminal]")
@click.option("-v", "--verbose", is_flag=True, help="Also show stacks, processes, and lists in full.")
@click.option("--alone", is_flag=True, help="Read the named FILE only, not the other processes of its run.")
@click.pass_context
def report(
    ctx: click.Context,
    captures: tuple[Path, ...],
    as_json: bool,
    sort: str,
    top: int,
    cache: str | None,
    width: int | None,
    verbose: bool,
    alone: bool,
) -> None:
    """Show which caches, keys and lines hold how much, as captured.

    CAPTURE is a file, or a folder with all its *.capture files. Several make one
    report. A single file brings along those that other processes of its run
    wrote beside it.

    \b
    cachescope report app.capture
    cachescope report app.capture --cache users
    cachescope report /var/tmp/captures --sort hit-ratio --top 20
    cachescope report app.capture --json | jq '.caches[0].hit_ratio'

    Exit status: 0 fine; 1 a capture can't be read (what can be is shown all the
    same); 2 wrong usage, or no such cache.
    """  # noqa: D301 - \b is click's sign for: keep these lines
    problems: list[str] = []
    merged = _merged(captures, alone=alone, problems=problems)
    for problem in problems:
        click.echo(f"cachescope: {problem}", err=True)
    if merged is not None:
        from cachescope.core.answers.report import report_of

        result = report_of(merged)
        _show(result, as_json=as_json, sort=sort, top=top, cache=cache, width=width, verbose=verbose)
    if problems or merged is None:
        ctx.exit(1)


def _show(
    result: Report, *, as_json: bool, sort: str, top: int, cache: str | None, width: int | None, verbose: bool
) -> None:
    from cachescope.report import only, print_report, report_to_json

    try:
        if as_json:
            click.echo(report_to_json(result if cache is None else only(result, cache)))
        else:
            print_report(result, width=width, top=top, cache=cache, sort=sort, verbose=verbose, file=sys.stdout)
        sys.stdout.flush()  # whether it fits shows only here, when it is short
    except UnknownCacheError as error:
        raise click.BadParameter(str(error), param_hint="--cache") from None
    except BrokenPipeError:  # whoever read has seen enough
        raise
    except OSError as error:  # a full disk
        # What is still buffered would fail again when the interpreter flushes it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CachescopeError(f"can't write the report: {error.strerror}") from None


class _Loaded(NamedTuple):
    path: Path
    recording: Recording

    def span(self) -> tuple[float, float]:
        """From when to when it was recorded."""
        infos = [process.info for process in self.recording.processes.values()]
        return min((info.start_time for info in infos), default=0.0), max(
            (info.end_time for info in infos), default=0.0
        )


def _merged(captures: Iterable[Path], *, alone: bool, problems: list[str]) -> Recording | None:
    """One recording of everything that can be read; what can't is added to *problems*."""
    named = list(captures)
    loaded = list(_load(_files(named, problems), problems))
    if loaded and not alone and len(named) == 1 and not named[0].is_dir():
        companions = _companions(loaded[0], problems)
        if companions:
            what = "capture" if len(companions) == 1 else "captures"
            click.echo(
                f"cachescope: with {len(companions)} more {what} of the same run beside {named[0]}; --alone leaves "
                "them out",
                err=True,
            )
        loaded += companions
    merged: Recording | None = None
    for _, recording in loaded:
        merged = recording if merged is None else merged.merge(recording)
    return merged


def _files(captures: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    """The files that are meant, each once: a capture counted twice would double its figures."""
    seen: set[Path] = set()
    for capture in captures:
        found = [capture]
        if capture.is_dir():
            try:
                found = sorted(path for path in capture.iterdir() if path.suffix == ".capture" and path.is_file())
            except OSError as error:
                problems.append(f"can't read the folder {capture}: {error.strerror}")
                continue
            if not found:
                problems.append(f"there is no *.capture file in {capture}")
        for path in found:
            same = path.resolve()
            if same not in seen:
                seen.add(same)
                yield path


def _load(paths: Iterable[Path], problems: list[str]) -> Iterator[_Loaded]:
    from cachescope.core.recording import Recording

    for path in paths:
        try:
            content = read_capture(path)
        except CaptureError as error:
            problems.append(str(error))
            continue
        try:
            recording = Recording.from_dict(content)
        except CaptureError as error:  # knows the content, but not the path
            problems.append(f"{path}: {error}")
        else:
            yield _Loaded(path, recording)


def _companions(main: _Loaded, problems: list[str]) -> list[_Loaded]:
    """What other processes of the run recorded.

    A name alone does not tell two runs of one program in one folder apart, but their times do: what belongs together
    ran at the same time as something that belongs.
    """
    try:
        siblings = sibling_captures(main.path)
    except CaptureError as error:
        problems.append(str(error))
        return []
    waiting = [(one, one.span()) for one in _load(siblings, problems)]
    spans = [main.span()] if waiting else []
    companions: list[_Loaded] = []
    for start, end in spans:  # grows while it is walked
        together = [one for one in waiting if one[1][0] <= end and start <= one[1][1]]
        waiting = [one for one in waiting if one not in together]
        companions += [one for one, _ in together]
        spans += [span for _, span in together]
    return companions
