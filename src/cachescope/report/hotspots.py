"""Which kind of key, which line of code, which key: the tables of hotspots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rich.text import Text

from cachescope.core.results import MemoryHotspot
from cachescope.report import figures
from cachescope.report.overview import left_out
from cachescope.report.table import Column, Table, worded
from cachescope.report.view import STACKS_SHOWN, View

SEVERAL = "(several)"
_SITE = re.compile(r"(.+:\d+) (.+)", re.DOTALL)
_LIBRARY_MARKS = ("site-packages", "dist-packages", "<frozen ", "lib/python", "lib\\python", "<string>")
"""Parts of a file's path that show that it is not the application's own."""


def patterns(view: View, hotspots: tuple[MemoryHotspot, ...], whole: float, *, alone: bool = False) -> Iterator[Text]:
    """Which kind of key?

    Args:
        view: How to look at it.
        hotspots: By pattern.
        whole: The bytes that shares are of.
        alone: All are of one cache, which is not named again.
    """
    if hotspots:
        yield from view.heading("Which kind of key?")
        yield from _hotspots(view, hotspots, whole, alone=alone, by_line=None, stacks=0)


def sites(
    view: View, hotspots: tuple[MemoryHotspot, ...], whole: float, *, alone: bool = False, stacks: bool = False
) -> Iterator[Text]:
    """Which line of code? With the stack below the first few when *stacks* is set."""
    if hotspots:
        yield from view.heading("Which line of code?")
        shown = STACKS_SHOWN if stacks else 0
        yield from _hotspots(view, hotspots, whole, alone=alone, by_line=_site_of, stacks=shown)


def origins(
    view: View, hotspots: tuple[MemoryHotspot, ...], whole: float, *, alone: bool = False, stacks: bool = False
) -> Iterator[Text]:
    """Where were the values built? Known by tracemalloc, where it was on."""
    if hotspots:
        yield from view.heading("Where were the values built?")
        shown = STACKS_SHOWN if stacks else 0
        yield from _hotspots(view, hotspots, whole, alone=alone, by_line=_origin_of, stacks=shown)


def _site_of(row: MemoryHotspot) -> str | None:
    return row.site


def _origin_of(row: MemoryHotspot) -> str | None:
    return row.built_at or "(not known)"


def _each(row: MemoryHotspot) -> float:
    """Bytes of an entry: of those held now, or of those set when none is."""
    return row.live_bytes / row.live_entries if row.live_entries else row.average_size_bytes


def _hotspots(
    view: View,
    hotspots: tuple[MemoryHotspot, ...],
    whole: float,
    *,
    alone: bool,
    by_line: Callable[[MemoryHotspot], str | None] | None,
    stacks: int,
) -> Iterator[Text]:
    """A table of hotspots: of the lines that *by_line* gives, or of kinds of keys without it."""
    ordered = view.ordered_hotspots(hotspots)
    rows, others = ordered[: view.top], ordered[view.top :]
    columns = _columns(view, rows, whole, alone=alone)
    if not alone:
        of_caches = [view.name(row.cache_name) for row in rows]
        columns.insert(0, Column(heading="Cache", cells=of_caches, rank=9, left=True, below=worded("in {}", of_caches)))
    if by_line:
        parts = [_line_and_function(by_line(row)) for row in rows]
        lines = [view.safe(line) for line, _ in parts]
        functions = [view.safe(function) if function else "" for _, function in parts]
        columns.insert(0, Column(heading="Function", cells=functions, rank=6, left=True, below=functions))
        names = Column(heading="Line", cells=lines, left=True)
        notes = [_filled(view, row, by_line(row)) for row in rows]
    else:
        names = Column(heading="Keys", cells=[view.safe(row.key_pattern or SEVERAL) for row in rows], left=True)
        notes = []
    table = Table(
        names=names,
        columns=columns,
        notes=notes,
        blocks=[stack_lines(view, row) if place < stacks else [] for place, row in enumerate(rows)],
    )
    yield from table.lines(view.width, view.glyphs)
    noun = "line" if by_line else "kind"
    yield from left_out(len(others), sum(row.live_bytes for row in others), noun)


def _columns(view: View, rows: list[MemoryHotspot], whole: float, *, alone: bool) -> list[Column]:
    """The figures of hotspots; those about their course are told below their rows only in depth."""
    churned = [figures.byte_size(row.churned_bytes) if row.churned_bytes else "" for row in rows]
    courses = [view.safe(row.recurrence) if row.recurrence else "" for row in rows]
    of_process = [figures.share(row.share_of_process) if row.share_of_process else "" for row in rows]
    deep = alone or view.verbose
    return [
        *view.live_columns([row.live_bytes for row in rows], [row.live_bytes_std_error for row in rows], whole),
        view.figure("Entries", [figures.count(row.live_entries) for row in rows], 4, "{} entries"),
        view.figure("Each", [figures.byte_size(_each(row)) for row in rows], 6, "{} each"),
        view.figure("Hits", [figures.ratio(row.hit_ratio) for row in rows], 1, "{} hits"),
        Column(
            heading="Sets",
            cells=[figures.count(row.allocation_count) for row in rows],
            rank=8,
            below=[figures.plural(row.allocation_count, "set") for row in rows],
        ),
        view.figure("Sets/s", [figures.rate(row.allocation_rate) for row in rows], 7, "{}/s"),
        view.figure("Churned", churned, 10, "{} came and went" if deep else ""),
        Column(heading="Course", cells=courses, rank=11, left=True, below=_courses(view, rows) if deep else ()),
        view.figure("RSS", of_process, 12, "{} of resident memory" if deep else ""),
    ]


def _courses(view: View, rows: list[MemoryHotspot]) -> list[str]:
    """How the sets are spread over time, in words; of a burst also when it was."""
    words = [view.safe(row.recurrence) if row.recurrence else "" for row in rows]
    return [
        f"{word}, {view.before_end(row.last_seen)}" if word == "burst" else word
        for word, row in zip(words, rows, strict=True)
    ]


def _filled(view: View, row: MemoryHotspot, line: str | None) -> list[str]:
    """What a line put into a cache, and which line did so where that is another one."""
    notes = [f"keys {view.safe(row.key_pattern)}"] if row.key_pattern else []
    if row.site and row.site != line:
        notes.insert(0, f"cached at {view.safe(row.site)}")
    return notes


def hot_keys(view: View, rows: tuple[MemoryHotspot, ...], *, alone: bool = False) -> Iterator[Text]:
    """Which keys are hot? Most frequent first, unless another order than that by bytes is asked for."""
    if not rows:
        return
    ordered = list(rows) if view.sort == "bytes" else view.ordered_hotspots(rows)
    rows, rest = tuple(ordered[: view.few]), len(ordered) - view.few
    yield from view.heading("Which keys are hot?")
    of_caches = [] if alone else [view.name(row.cache_name) for row in rows]
    each = [figures.byte_size(row.average_size_bytes) if row.allocation_count else "" for row in rows]
    table = Table(
        names=Column(heading="Key", cells=[_key(view, row) for row in rows], left=True),
        columns=[
            Column(heading="Cache", cells=of_caches, rank=9, left=True, below=worded("in {}", of_caches)),
            view.counted("Hits", [row.hits for row in rows], 1, "hit"),
            view.counted("Misses", [row.misses for row in rows], 3, "miss", "misses"),
            view.counted("Sets", [row.allocation_count for row in rows], 2, "set"),
            Column(heading="Each", cells=each, rank=4, below=worded("{} each", each)),
        ][1 if alone else 0 :],
    )
    yield from table.lines(view.width, view.glyphs)
    yield from view.more(rest, "key")
    error = max(row.count_error for row in rows)
    if error:
        yield from view.prose(f"counts may be too low by up to {figures.count(error)}", 2, "dim")


def _key(view: View, row: MemoryHotspot) -> str:
    """The key itself where it may be shown, else its pattern with what tells it apart."""
    if row.key is not None:
        return view.safe(row.key) if row.key else "(empty)"
    identity = f" #{view.safe(row.key_id if view.verbose else row.key_id[:8])}" if row.key_id else ""
    return f"{view.safe(row.key_pattern or SEVERAL)}{identity}"


def _line_and_function(site: str | None) -> tuple[str, str]:
    """Take ``shop/users.py:14 load_user`` apart, so that the line's number is never lost to shortening."""
    match = _SITE.fullmatch(site or SEVERAL)
    return (match[1], match[2]) if match else (site or SEVERAL, "")


def stack_lines(view: View, hotspot: MemoryHotspot) -> list[str]:
    """The stack of a hotspot: the application's frames first, the libraries' counted, or shown when verbose."""
    own = [frame for frame in hotspot.stack_trace if not _is_library(frame)]
    libraries = [frame for frame in hotspot.stack_trace if _is_library(frame)]
    lines = [f"  {view.safe(frame)}" for frame in own]
    if libraries and (view.verbose or not own):
        lines += [f"  {view.safe(frame)}" for frame in libraries]
    elif libraries:
        lines.append(f"  [{figures.plural(len(libraries), 'library frame')} hidden]")
    return lines


def _is_library(frame: str) -> bool:
    return any(mark in frame for mark in _LIBRARY_MARKS)
