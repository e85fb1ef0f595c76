"""What else holds the process's memory? The newest snapshot of each process, and the caches' part in it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from cachescope.core.results import MemorySnapshot
from cachescope.report import figures
from cachescope.report.table import Column, Table, worded
from cachescope.report.view import View

_SLACK = 0.05
"""Below a twentieth of resident memory, what the C allocator keeps is not why a process is large."""
_Row = tuple[str, str, str]


def what_else(view: View) -> Iterator[Text]:
    """Resident memory and what it consists of; the container and the machine around it."""
    snapshots = [one for one in view.report.snapshots if one.rss_bytes is not None or one.container_limit_bytes]
    if not snapshots:
        return
    yield from view.heading("What else holds the process's memory?")
    if len(snapshots) == 1:
        (only,) = snapshots
        yield from view.pairs([*_process(view, only), *_around(view, only), *_inside(view, only)])
    else:
        yield from _processes(view, snapshots)
        newest = max(snapshots, key=lambda one: one.timestamp)
        yield from view.pairs(_around(view, newest))
    if view.verbose:
        for note in dict.fromkeys(note for one in view.report.snapshots for note in one.notes):
            yield from view.prose(view.safe(note), 2, "dim")


def cache_share(snapshot: MemorySnapshot) -> float | None:
    """The caches' part of resident memory; None where they hold their bytes elsewhere, or where it is not known."""
    if not snapshot.rss_bytes or snapshot.cache_bytes > snapshot.rss_bytes:
        return None
    return snapshot.cache_bytes / snapshot.rss_bytes


def _process(view: View, one: MemorySnapshot) -> list[_Row]:
    part = cache_share(one)
    size = figures.byte_size(one.cache_bytes)
    caches = f"caches hold {size}" if part is None else f"caches hold {figures.share(part)} of it, {size}"
    rows = [
        ("resident", figures.byte_size(one.rss_bytes), caches),
        ("its own", figures.byte_size(one.uss_bytes), "shared with no other process (USS)"),
    ]
    if one.swap_bytes or view.verbose:
        rows.append(("swapped out", figures.byte_size(one.swap_bytes), "of this process"))
    return rows


def _around(view: View, one: MemorySnapshot) -> list[_Row]:
    rows = []
    if one.container_limit_bytes:
        used, limit = figures.byte_size(one.container_used_bytes), figures.byte_size(one.container_limit_bytes)
        source = "" if one.container_source is None else f", {view.safe(one.container_source)}"
        share = figures.share(figures.per(one.container_used_bytes, one.container_limit_bytes))
        rows.append(("container", used if used != figures.UNKNOWN else limit, f"{share} of its limit {limit}{source}"))
    if one.system_total_bytes:
        free = figures.byte_size(one.system_available_bytes)
        share = figures.share(figures.per(one.system_available_bytes, one.system_total_bytes))
        rows.append(("machine", free, f"available, {share} of {figures.byte_size(one.system_total_bytes)}"))
    return rows


def _inside(view: View, one: MemorySnapshot) -> list[_Row]:
    """What Python and its allocators say of themselves; the unremarkable only when verbose."""
    rows = []
    slack = figures.per(one.allocator_free_bytes, one.rss_bytes)
    if slack is not None and (slack >= _SLACK or view.verbose):
        size = figures.byte_size(one.allocator_free_bytes)
        rows.append(("allocator", size, f"kept by the C allocator, used by nobody: {figures.share(slack)} of resident"))
    stuck = sum(generation.uncollectable for generation in one.gc)
    if stuck:
        rows.append(("uncollectable", figures.count(stuck), "objects that the garbage collector could not free"))
    if view.verbose:
        rows.append(("blocks", figures.count(one.python_blocks), "allocated by Python's own allocator"))
        rows += [
            (
                f"gc {place}",
                figures.count(generation.collections),
                f"collections freed {figures.count(generation.collected)}, {figures.count(generation.pending)} pending",
            )
            for place, generation in enumerate(one.gc)
        ]
        rows.append(("traced", figures.byte_size(one.traced_bytes), "allocated since tracemalloc is on"))
    return rows


def _processes(view: View, snapshots: list[MemorySnapshot]) -> Iterator[Text]:
    ordered = sorted(snapshots, key=lambda one: -(one.rss_bytes or 0))
    rows = ordered[: view.few]
    names = [str(one.pid) if one.pid is not None else f"no. {place + 1}" for place, one in enumerate(rows)]
    free = [figures.byte_size(one.allocator_free_bytes) for one in rows]
    table = Table(
        names=Column(heading="Process", cells=names, left=True),
        columns=[
            view.figure("Resident", [figures.byte_size(one.rss_bytes) for one in rows], 0),
            view.figure("Caches", [figures.byte_size(one.cache_bytes) for one in rows], 1, "caches {}"),
            view.figure("Share", [figures.share(cache_share(one)) for one in rows], 2, "{} of it"),
            view.figure("Its own", [figures.byte_size(one.uss_bytes) for one in rows], 3, "{} its own"),
            view.figure("Swapped", [figures.byte_size(one.swap_bytes or None) for one in rows], 4, "{} swapped"),
            Column(heading="Slack", cells=free, rank=5, below=worded("{} slack", free) if view.verbose else ()),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
    yield from view.more(len(ordered) - len(rows), "process", "processes")
