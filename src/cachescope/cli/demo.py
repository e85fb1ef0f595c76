"""``cachescope demo``: run a small shop under the profiler, and name the caches that are set up badly."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cachescope.cli.program import how_it_ended, profiled_environment, python_command, run_program
from cachescope.cli.run import CapturePlan, merged_report, profiler_settings
from cachescope.core.errors import CachescopeError

if TYPE_CHECKING:
    from cachescope.core.results import Report

SHOP = Path(__file__).with_name("demo_shop.py")

# What a user would write: caches of cachetools are found by themselves, the home-made one is named.
_MAIN = """\
import shop
from cachescope import instrument

instrument(shop.sessions, name="shop:sessions")
shop.main({seconds!r})
"""

_TOO_SMALL, _LEAKS, _USELESS = "too small", "leaks", "useless"
_REMEDY = {
    _LEAKS: "give it a maximum, or a time to live",
    _USELESS: "take it out, or change its keys so that they come back",
    _TOO_SMALL: "give it a larger maximum, and look again",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one cache."""

    cache_name: str
    verdict: str
    evidence: str
    remedy: str


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 3600),
    default=7.0,
    show_default=True,
    metavar="N",
    help="How long the shop is open.",
)
@click.option("--json", "as_json", is_flag=True, help="Report and verdicts as JSON.")
@click.option("-o", "--output", metavar="FILE", help="Keep the capture.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the capture FILE.")
def demo(seconds: float, as_json: bool, output: str | None, force: bool) -> None:
    """See what cachescope does, on a small shop with six caches.

    Some of them are set up badly. The shop runs as `cachescope run` would run
    it, with visitors in four threads; then come the report and, from its
    figures, the caches that are too small, leak or are useless.

    \b
    cachescope demo
    cachescope demo --seconds 20 -o demo.capture
    """  # noqa: D301 - \b is click's sign for: keep these lines
    if not as_json:
        click.echo(f"A small shop opens for {seconds:g} seconds, its caches watched. Its code:\n  {SHOP}\n")
    from cachescope.report import print_report, report_to_json

    report = _profiled_shop(seconds, output, force=force)
    verdicts = judge(report)
    if as_json:
        # Its encoder knows what JSON can't say, such as an infinite maximum.
        answer = {
            "report": json.loads(report_to_json(report)),
            "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts],
        }
        click.echo(json.dumps(answer, indent=2))
        return
    print_report(report)
    click.echo("\n" + _in_words(verdicts))
    shown = output or "FILE"
    click.echo("Next, your own program:\n  cachescope run app.py")
    if output:
        click.echo(f"The demo's report again:\n  cachescope report {shown}")


def judge(report: Report) -> tuple[Verdict, ...]:
    """Name the caches that are set up badly, by the findings of the report and nothing else."""
    from cachescope.report import FindingKind, findings
    from cachescope.report.findings import EARNS_NOTHING_HITS

    ratios = {cache.cache_name: cache.hit_ratio for cache in report.caches}
    verdicts: dict[str, Verdict] = {}
    for finding in findings(report):
        if finding.kind is FindingKind.UNBOUNDED:
            verdict = _LEAKS
        elif finding.kind in {FindingKind.EARNS_NOTHING, FindingKind.THRASHES}:
            # A cache that pushes out what nobody asks for again is not too small.
            useless = (ratios[finding.cache_name] or 0.0) <= EARNS_NOTHING_HITS
            verdict = _USELESS if useless else _TOO_SMALL
        else:
            continue
        verdicts.setdefault(
            finding.cache_name, Verdict(finding.cache_name, verdict, finding.evidence, _REMEDY[verdict])
        )
    return tuple(verdicts.values())


def _profiled_shop(seconds: float, output: str | None, *, force: bool) -> Report:
    with tempfile.TemporaryDirectory(prefix="cachescope-demo-") as folder:
        plan = CapturePlan.of(output or os.path.join(folder, ""), script="demo")
        settings = profiler_settings("detailed", plan)
        plan.prepare(force=force)
        # Outside of our package, whose own code is no user's: no profiler names a cache or a line after itself.
        shutil.copyfile(SHOP, Path(folder, "shop.py"))
        main = Path(folder, "main.py")
        main.write_text(_MAIN.format(seconds=seconds), encoding="utf-8")
        with profiled_environment(settings) as environment, _progress(seconds) as show_progress:
            process = run_program([*python_command(), str(main)], environment, show_progress)
        report, problems = merged_report(plan.collect(process.pid))
    for problem in problems:
        click.echo(f"cachescope: {problem}", err=True)
    if process.returncode:
        raise CachescopeError(f"the shop did not run well: {how_it_ended(process.returncode)}; see: cachescope doctor")
    if report is None:
        raise CachescopeError("the shop left no capture; see: cachescope doctor")
    return report


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[], None] | None]:
    """A bar on stderr where somebody sees it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    started = time.monotonic()
    columns = (TextColumn("visitors in the shop"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    # No thread of its own: it would receive the signals that the main thread waits for.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=seconds)

        def show() -> None:
            progress.update(task, completed=min(time.monotonic() - started, seconds), refresh=True)

        yield show


def _in_words(verdicts: tuple[Verdict, ...]) -> str:
    if not verdicts:
        return "By these figures, no cache is set up badly; was the shop open long enough?\n"
    lines = [f"By these figures, {len(verdicts)} caches are set up badly:\n"]
    for verdict in verdicts:
        lines.append(f"  {verdict.cache_name} {_verb(verdict.verdict)}")
        # A number stays with its sign.
        evidence = click.wrap_text(verdict.evidence.replace(" %", "\N{NO-BREAK SPACE}%"), 78, "    ", "    ")
        lines.append(evidence.replace("\N{NO-BREAK SPACE}", " "))
        lines.append(f"    -> {verdict.remedy}\n")
    return "\n".join(lines)


def _verb(verdict: str) -> str:
    return verdict if verdict == _LEAKS else f"is {verdict}"
