"""How a report is to be looked at: by which order, how much of it, on what kind of paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from cachescope.core.results import MemoryHotspot, MemoryProfile, Report
from cachescope.report import figures
from cachescope.report.table import Column, worded
from cachescope.report.text import Glyphs, bar, pad, printable, wrap, wrap_parts

BAR_WIDTH = 6
STACKS_SHOWN = 3

_Row = MemoryProfile | MemoryHotspot


def _entries(row: _Row) -> int:
    return row.current_entries if isinstance(row, MemoryProfile) else row.live_entries


def _live(row: _Row) -> int:
    return row.current_memory_bytes if isinstance(row, MemoryProfile) else row.live_bytes


def _name(row: _Row) -> str:
    return row.cache_name if isinstance(row, MemoryProfile) else row.key_pattern or row.site or ""


SORT_KEYS: dict[str, Callable[[_Row], float | str]] = {
    "bytes": lambda row: -_live(row),
    "entries": lambda row: -_entries(row),
    "hits": lambda row: -row.hits,
    "misses": lambda row: -row.misses,
    "hit-ratio": lambda row: math.inf if row.hit_ratio is None else row.hit_ratio,
    "evictions": lambda row: -row.total_evictions if isinstance(row, MemoryProfile) else 0,
    "name": _name,
}
"""What tables can be sorted by: figures with the largest first, but hit ratios with the lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A report, and how it is looked at."""

    report: Report
    width: int
    glyphs: Glyphs
    encoding: str = "utf-8"
    top: int = 10
    sort: str = "bytes"
    verbose: bool = False

    @property
    def few(self) -> int:
        """Rows of the tables that answer questions further down: half of the first ones', all when verbose."""
        return self.top if self.verbose else max(self.top // 2, 1)

    def time(self, seconds: float | None) -> str:
        """A length of time that may be very short."""
        return figures.short_time(seconds, self.glyphs.micro)

    def before_end(self, moment: float) -> str:
        """How long before the report's end something was."""
        return f"{figures.duration(max(self.report.end_time - moment, 0.0))} before the end"

    def unsure(self, value: float | None, std_error: float) -> str:
        """A share with its standard error in points."""
        return figures.uncertain_share(value, std_error, self.glyphs.plus_minus)

    def more(self, rest: int, noun: str, many: str | None = None) -> Iterator[Text]:
        """How many rows a table has left out."""
        if rest > 0:
            yield Text(f"  and {figures.plural(rest, f'more {noun}', f'more {many}' if many else None)}", "dim")

    def facts(self, parts: list[str]) -> Iterator[Text]:
        """Short facts in a row, below a table."""
        for line in wrap_parts(parts, min(self.width, 100) - 2, self.glyphs):
            yield Text(f"  {line}", "dim")

    def safe(self, text: str | None) -> str:
        """Text from outside, fit to be printed."""
        return printable(text, self.encoding) if text else figures.UNKNOWN

    def name(self, text: str) -> str:
        """The name of a cache, which may be empty."""
        return printable(text, self.encoding) or "(no name)"

    def ordered_caches(self) -> list[MemoryProfile]:
        """All caches in the order asked for; the larger one first among equals."""
        return sorted(sorted(self.report.caches, key=SORT_KEYS["bytes"]), key=SORT_KEYS[self.sort])

    def ordered_hotspots(self, hotspots: tuple[MemoryHotspot, ...]) -> list[MemoryHotspot]:
        """All hotspots in the order asked for; the larger one first among equals."""
        return sorted(sorted(hotspots, key=SORT_KEYS["bytes"]), key=SORT_KEYS[self.sort])

    def heading(self, question: str) -> Iterator[Text]:
        """The start of a section: a blank line and its question."""
        yield Text()
        yield from (Text(line, "bold") for line in wrap(question, self.width))

    def prose(self, text: str, indent: int = 2, style: str = "") -> Iterator[Text]:
        """Running text in lines that fit; *text* has to be safe already."""
        for line in wrap(text, min(self.width, 100) - indent):
            yield Text(" " * indent + line, style)

    def pairs(self, rows: list[tuple[str, str, str]]) -> Iterator[Text]:
        """A label, a figure, and what it means, one a line."""
        rows = [row for row in rows if row[1] != figures.UNKNOWN]
        label_width = max((cell_len(label) for label, _, _ in rows), default=0)
        value_width = max((cell_len(value) for _, value, _ in rows), default=0)
        for label, value, meaning in rows:
            line = Text(f"  {pad(label, label_width)}  ")
            line.append(pad(value, value_width))
            indent = line.cell_len + 2
            room = min(self.width, 100) - indent
            if meaning and room >= 16:
                first, *others = wrap(meaning, room)
                line.append(f"  {first}", "dim")
                yield line
                yield from (Text(" " * indent + other, "dim") for other in others)
            else:
                yield line

    def live_columns(self, live: list[int], errors: list[float], whole: float) -> list[Column]:
        """The columns that all tables begin with: live bytes, how sure that is, and the share of *whole*."""
        shares = [size / whole if whole > 0 else 0.0 for size in live]
        signs = [figures.spread(size, error, self.glyphs.plus_minus) for size, error in zip(live, errors, strict=True)]
        percentages, bars, styles = self.drawn_shares(shares, BAR_WIDTH)
        percentages = percentages if whole > 0 else ["" for _ in percentages]
        return [
            Column(heading="Live", cells=[figures.byte_size(size) for size in live]),
            Column(heading="", cells=signs, rank=2, gap=1, left=True, below=signs),
            Column(
                heading="Share",
                cells=percentages,
                rank=3,
                styles=styles,
                below=worded("{} of bytes", percentages),
            ),
            Column(heading="", cells=bars, rank=5, gap=1, left=True, styles=styles),
        ]

    def drawn_shares(self, shares: list[float], width: int) -> tuple[list[str], list[str], list[str]]:
        """Shares as percentages, as bars of *width* cells, and the colours of both."""
        drawn = [pad(bar(value, width, self.glyphs), width) if any(shares) else "" for value in shares]
        return [figures.share(value) for value in shares], drawn, [share_style(value) for value in shares]

    @staticmethod
    def figure(heading: str, cells: list[str], rank: int, below: str = "") -> Column:
        """A column of figures, and how one of them reads on the line below its row."""
        return Column(heading=heading, cells=cells, rank=rank, below=worded(below, cells) if below else ())

    def counted(
        self,
        heading: str,
        numbers: list[int],
        rank: int,
        noun: str,
        many: str | None = None,
        *,
        only_verbose: bool = False,
    ) -> Column:
        """A column of counts, empty where all are 0, with their noun on the line below a row."""
        cells = [figures.count(number) if any(numbers) else "" for number in numbers]
        below = [figures.plural(number, noun, many) if number else "" for number in numbers]
        return Column(heading=heading, cells=cells, rank=rank, below=() if only_verbose and not self.verbose else below)

    def extra(self, heading: str, cells: list[str], rank: int, below: str) -> Column:
        """A column of figures that is left out where it finds no room, but for a verbose report."""
        return self.figure(heading, cells, rank, below if self.verbose else "")


def share_style(value: float) -> str:
    """The colour of a share: the thresholds are pyinstrument's, whose users know them."""
    if value > 0.6:
        return "red"
    if value > 0.2:
        return "yellow"
    return "green" if value > 0.05 else "dim"
