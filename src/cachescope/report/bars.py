"""A histogram, drawn with a bar for each range."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.text import Text

from cachescope.core.results import Distribution, HistogramBar
from cachescope.report import figures
from cachescope.report.table import Column, Table
from cachescope.report.text import bar, pad
from cachescope.report.view import View

BARS_SHOWN = 12
BAR_CELLS = 24


def bars(view: View, heading: str, spread: Distribution, worded: Callable[[float], str]) -> Iterator[Text]:
    """The histogram of *spread*, its ends in words; neighbours are joined until few are left, unless verbose."""
    rows = [one for one in spread.histogram if figures.is_known(one.count)]
    rows = rows if view.verbose else joined(rows, BARS_SHOWN)
    whole = sum(one.count for one in rows)
    if not whole > 0:
        return
    shares = [one.count / whole for one in rows]
    most = max(shares)
    lengths = [pad(bar(share / most, BAR_CELLS, view.glyphs), BAR_CELLS) for share in shares]
    table = Table(
        names=Column(heading=heading, cells=[f"up to {worded(one.high)}" for one in rows], left=True),
        columns=[
            Column(heading="Entries", cells=[figures.count(round(one.count)) for one in rows], rank=2),
            Column(heading="Share", cells=[figures.share(share) for share in shares]),
            Column(heading="", cells=lengths, rank=1, gap=1, left=True, styles=["cyan"] * len(rows)),
        ],
    )
    yield from table.lines(view.width, view.glyphs)


def joined(rows: list[HistogramBar], most: int) -> list[HistogramBar]:
    """At most *most* bars: neighbours are joined two by two, as often as needed."""
    while len(rows) > most:
        pairs = [rows[place : place + 2] for place in range(0, len(rows), 2)]
        rows = [
            HistogramBar(low=pair[0].low, high=pair[-1].high, count=sum(one.count for one in pair)) for pair in pairs
        ]
    return rows
