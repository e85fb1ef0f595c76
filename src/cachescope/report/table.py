"""A table that fits: columns that find no room move to a line below their row, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from cachescope.report.figures import UNKNOWN
from cachescope.report.text import Glyphs, pad, shorten, wrap_parts

INDENT = 2
DETAIL_INDENT = 4
NAME_AT_LEAST = 26
"""Cells that a name gets before figures may take room: most of ``package.module:Class.attribute``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One column of a table.

    Attributes:
        heading: What stands above it.
        cells: One text a row.
        rank: How dear its place is: of the columns that don't fit, those of the highest rank leave first; 0 stays.
        below: How the cells read on the line below their rows when the column leaves; empty ones are left out.
        left: Texts stand on the left, figures on the right.
        gap: Blanks before it.
        styles: One style a row, or none.
    """

    heading: str
    cells: Sequence[str]
    rank: int = 0
    below: Sequence[str] = ()
    left: bool = False
    gap: int = 2
    styles: Sequence[str] = ()

    @property
    def width(self) -> int:
        """Cells that the widest text needs."""
        return max(cell_len(text) for text in (self.heading, *self.cells))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Names with figures: the first column is shortened in its middle, the others are never cut."""

    names: Column
    columns: Sequence[Column]
    notes: Sequence[Sequence[str]] = ()
    """For each row, what is always said on the line below it, after the columns that left."""
    blocks: Sequence[Sequence[str]] = ()
    """For each row, lines that are printed below it as they are, but shortened."""

    def lines(self, width: int, glyphs: Glyphs) -> Iterator[Text]:
        """Lay the table out for *width* cells."""
        shown, moved = self._arrange(width)
        rest = sum(column.gap + column.width for column in shown)
        name_width = max(min(self.names.width, width - INDENT - rest), 1)
        heading = Text(" " * INDENT + pad(shorten(self.names.heading, name_width, glyphs.ellipsis), name_width))
        for column in shown:
            heading.append(" " * column.gap + pad(column.heading, column.width, right=not column.left))
        heading.stylize("dim")
        yield heading
        for row, name in enumerate(self.names.cells):
            line = Text(" " * INDENT)
            style = self.names.styles[row] if self.names.styles else ""
            line.append(pad(shorten(name, name_width, glyphs.ellipsis), name_width), style)
            for column in shown:
                line.append(" " * column.gap)
                cell = pad(column.cells[row], column.width, right=not column.left)
                line.append(cell, column.styles[row] if column.styles else "")
            yield line
            details = [column.below[row] for column in moved if column.below and column.below[row]]
            details += self.notes[row] if self.notes else ()
            blocks = self.blocks[row] if self.blocks else ()
            for detail in wrap_parts(details, width - DETAIL_INDENT, glyphs):
                yield Text(" " * DETAIL_INDENT + detail, "dim")
            for block in blocks:
                yield Text(" " * DETAIL_INDENT + shorten(block, width - DETAIL_INDENT, glyphs.ellipsis), "dim")

    def _arrange(self, width: int) -> tuple[list[Column], list[Column]]:
        """Divide the columns into those that fit beside a readable name, and those that move below."""
        shown = [column for column in self.columns if any(cell not in {"", UNKNOWN} for cell in column.cells)]
        moved: list[Column] = []
        room = width - INDENT - min(self.names.width, NAME_AT_LEAST)
        while sum(column.gap + column.width for column in shown) > room:
            dearest = max(shown, key=lambda column: column.rank)
            if not dearest.rank:
                break
            shown.remove(dearest)
            moved.append(dearest)
        return shown, [column for column in self.columns if column in moved]


def worded(wording: str, cells: Sequence[str]) -> list[str]:
    """Each of *cells* put into *wording* (at ``{}``), for the line below a row; nothing for what is unknown."""
    return ["" if cell in {"", UNKNOWN} else wording.format(cell) for cell in cells]
