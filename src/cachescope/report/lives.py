"""How long do entries live, and are they used? What caches set, how it leaves, and whether it was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from cachescope.core.results import AllocationPatterns, Distribution, Lifetime, MemoryProfile, Share
from cachescope.report import figures
from cachescope.report.bars import bars
from cachescope.report.table import Column, Table
from cachescope.report.view import BAR_WIDTH, View

SHARES_SHOWN = 5


def how_long(view: View) -> Iterator[Text]:
    """Lives and use of the entries of each cache, those that allocate most per second first."""
    rows = sorted(
        (row for row in view.report.allocation_patterns if _says_something(row)),
        key=lambda row: -row.churn_bytes_per_s if figures.is_known(row.churn_bytes_per_s) else 0.0,
    )
    if not rows:
        return
    shown = rows[: view.few]
    yield from view.heading("How long do entries live, and are they used?")
    sizes = [row.entry_bytes for row in shown]
    in_use = [view.unsure(row.memory_efficiency_ratio, row.memory_efficiency_std_error) for row in shown]
    unread = [view.unsure(row.one_hit_wonder_ratio, row.one_hit_wonder_std_error) for row in shown]
    table = Table(
        names=Column(heading="Cache", cells=[view.name(row.cache_name) for row in shown], left=True),
        columns=[
            view.figure("Median age", [_usual_end(view, row) for row in shown], 3, "median age: {}"),
            view.figure("In use", in_use, 1, "{} in use"),
            view.figure("Never read", unread, 2, "{} never read"),
            view.extra("Churn/s", [figures.rate(row.churn_per_s) for row in shown], 4, "churn {}/s"),
            view.extra("Turnover", [figures.share(row.turnover_ratio) for row in shown], 7, "turnover {}"),
            view.extra("Size p50", [_of_sizes(spread, "p50") for spread in sizes], 5, "size p50 {}"),
            view.extra("Size p99", [_of_sizes(spread, "p99") for spread in sizes], 6, "size p99 {}"),
            view.extra("Key:value", [_key_to_value(row) for row in shown], 8, "keys {} of values"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
    yield from view.more(len(rows) - len(shown), "cache")
    words = (
        ["in use: of the bytes over time, what lay between an entry's set and its last hit"] if _told(in_use) else []
    )
    if _told(unread):
        words.append("never read: of the entries that left, those that no lookup ever hit")
    if words:
        yield from view.prose("; ".join(words), 2, "dim")


def _told(cells: Sequence[str]) -> bool:
    """Whether a column is there at all: one in which nothing is known is left out."""
    return any(cell not in {"", figures.UNKNOWN} for cell in cells)


def _says_something(row: AllocationPatterns) -> bool:
    return row.entry_bytes is not None or bool(row.lifetimes) or row.churn_per_s > 0


def _of_sizes(spread: Distribution | None, quantile: str) -> str:
    return "" if spread is None else figures.byte_size(getattr(spread, quantile))


def _usual_end(view: View, row: AllocationPatterns) -> str:
    """How old entries are when they leave for the cause that most leave for."""
    usual = max(row.lifetimes, key=lambda life: life.age_seconds.count, default=None)
    if usual is None:
        return ""
    return f"{view.safe(usual.cause)} {view.time(usual.age_seconds.p50)}"


def _key_to_value(row: AllocationPatterns) -> str:
    return figures.share(row.key_to_value_ratio)


def of_cache(view: View, cache: MemoryProfile) -> Iterator[Text]:
    """The same in depth for one cache: sizes as bars, ages by cause, use, and who allocated."""
    for row in view.report.allocation_patterns:
        if row.cache_name == cache.cache_name and _says_something(row):
            yield from view.heading("How long do entries live, and are they used?")
            yield from _lifetimes(view, row.lifetimes)
            yield from view.pairs(_use(view, row))
            if row.entry_bytes is not None:
                yield from _sizes(view, row.entry_bytes)
            if view.verbose:
                yield from _events(view, row)
            yield from _shares(view, "By kind of key", row.by_pattern if view.verbose else ())
            yield from _shares(view, "By thread", row.by_thread)
            yield from _shares(view, "By task", row.by_task)


def _lifetimes(view: View, lifetimes: tuple[Lifetime, ...]) -> Iterator[Text]:
    rows = sorted(lifetimes, key=lambda life: -life.age_seconds.count)
    if not rows:
        return
    ages = [row.age_seconds for row in rows]
    table = Table(
        names=Column(heading="Age when", cells=[view.safe(row.cause) for row in rows], left=True),
        columns=[
            view.figure("Entries", [figures.count(round(age.count)) for age in ages], 3, "{} entries"),
            view.figure("p50", [view.time(age.p50) for age in ages], 0),
            view.figure("p90", [view.time(age.p90) for age in ages], 2, "p90 {}"),
            view.figure("p99", [view.time(age.p99) for age in ages], 1, "p99 {}"),
            view.figure("Max", [view.time(age.maximum) for age in ages], 4, "max {}"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)


def _use(view: View, row: AllocationPatterns) -> list[tuple[str, str, str]]:
    in_use = view.unsure(row.memory_efficiency_ratio, row.memory_efficiency_std_error)
    unread = view.unsure(row.one_hit_wonder_ratio, row.one_hit_wonder_std_error)
    wasted = figures.share(row.one_hit_wonder_bytes_ratio)
    followed = "" if row.sampling_rate >= 1 else f" of {figures.ratio(row.sampling_rate)} of the keys"
    return [
        ("in use", in_use, "of its bytes over time lay between an entry's set and its last hit"),
        ("never read", unread, f"of the entries that left, with {wasted} of the bytes set for them"),
        ("churn", f"{figures.rate(row.churn_per_s)}/s", f"entries came or left, {_each_second(row)}"),
        ("turnover", figures.share(row.turnover_ratio), "bytes freed for bytes set"),
        ("keys to values", _key_to_value(row), "bytes of keys for bytes of values"),
        ("reads seen", figures.share(row.watched_ratio), f"of the time every read{followed} was watched"),
        ("over", figures.duration(row.duration_seconds), "what all this is about"),
    ]


def _each_second(row: AllocationPatterns) -> str:
    return f"{figures.byte_size(row.churn_bytes_per_s)} a second"


def _sizes(view: View, spread: Distribution) -> Iterator[Text]:
    yield from bars(view, "Entry size", spread, figures.byte_size)
    names = (("p50", spread.p50), ("p90", spread.p90), ("p99", spread.p99), ("p99.9", spread.p999))
    facts = [f"{name} {figures.byte_size(size)}" for name, size in names]
    facts.append(f"max {figures.byte_size(spread.maximum)}")
    yield from view.facts(facts)


def _events(view: View, row: AllocationPatterns) -> Iterator[Text]:
    rows = [event for event in row.events if event.count]
    if not rows:
        return
    sizes = [figures.byte_size(event.size_bytes) if event.size_bytes else "" for event in rows]
    signs = [figures.spread(event.size_bytes, event.size_bytes_std_error, view.glyphs.plus_minus) for event in rows]
    rates = [figures.byte_size(event.bytes_per_s) if event.bytes_per_s else "" for event in rows]
    table = Table(
        names=Column(heading="Event", cells=[view.safe(event.event) for event in rows], left=True),
        columns=[
            Column(heading="Count", cells=[figures.count(event.count) for event in rows]),
            view.figure("Count/s", [figures.rate(event.count_per_s) for event in rows], 2, "{}/s"),
            view.figure("Bytes", sizes, 1, "{}"),
            Column(heading="", cells=signs, rank=1, gap=1, left=True, below=signs),
            view.figure("Bytes/s", rates, 3, "{}/s"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)


def _shares(view: View, heading: str, shares: tuple[Share, ...]) -> Iterator[Text]:
    """Who allocated: kinds of keys, threads or tasks; nothing when there is but one, which did it all."""
    if len(shares) < 2:
        return
    ordered = sorted(shares, key=lambda row: -row.size_bytes)
    rows = ordered if view.verbose else ordered[:SHARES_SHOWN]
    percentages, drawn, styles = view.drawn_shares([row.share for row in rows], BAR_WIDTH)
    table = Table(
        names=Column(heading=heading, cells=[view.name(row.label) for row in rows], left=True),
        columns=[
            view.figure("Set", [figures.byte_size(row.size_bytes) for row in rows], 0),
            Column(heading="Share", cells=percentages, rank=1, styles=styles),
            Column(heading="", cells=drawn, rank=3, gap=1, left=True, styles=styles),
            view.figure("Sets", [figures.count(row.count) for row in rows], 2, "{} sets"),
        ],
    )
    yield from table.lines(view.width, view.glyphs)
    yield from view.more(len(ordered) - len(rows), "row")
