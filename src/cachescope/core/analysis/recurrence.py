"""Recurrence: whether allocations of one kind come all the time, again and again, or came once in a burst."""

from __future__ import annotations

from collections.abc import Sequence

STEADY, RECURRING, BURST = "steady", "recurring", "burst"
_LEAST_BUCKETS = 5
"""Below, a run of buckets and a gap can't be told from chance."""
_LEAST_ALLOCATIONS = 10.0
_MOST_OF_TIME = 0.75
_BURST_OF_TIME = 0.25
"""A burst is over within a quarter of the time that was observed, and holds nearly all."""
_NEARLY_ALL = 0.9


def recurrence_of(buckets: Sequence[tuple[float, float]], counts: Sequence[float]) -> str | None:
    """Tell one kind's allocations apart by when they happened.

    Args:
        buckets: Start and end of each bucket in seconds, in order, of any lengths; between them, nothing happened.
        counts: Allocations in each of them.

    Returns:
        ``"steady"`` when there were some during three quarters of the time; ``"burst"`` when one run of neighbouring
        buckets, at most a quarter of the time, holds nine tenths, and nothing followed in as long again;
        ``"recurring"`` for what came at several times; None when there is not enough to say.
    """
    whole = sum(counts)
    if len(buckets) < _LEAST_BUCKETS or whole < _LEAST_ALLOCATIONS:
        return None
    seconds = [max(end - start, 0.0) for start, end in buckets]
    observed = buckets[-1][1] - buckets[0][0]
    if observed <= 0.0:
        return None
    active = sum(length for length, count in zip(seconds, counts, strict=True) if count > 0)
    if active >= _MOST_OF_TIME * observed:
        return STEADY
    runs: list[list[float]] = []  # [allocations, start, end] of each run of active buckets
    for (start, end), count in zip(buckets, counts, strict=True):
        if count <= 0:
            continue
        if runs and runs[-1][2] == start:
            runs[-1][0] += count
            runs[-1][2] = end
        else:
            runs.append([count, start, end])
    largest = max(runs, key=lambda run: run[0])
    length, quiet = largest[2] - largest[1], buckets[-1][1] - largest[2]
    if largest[0] >= _NEARLY_ALL * whole and length <= _BURST_OF_TIME * observed:
        return BURST if quiet >= length else None
    return RECURRING if len(runs) > 1 else None


def more_often(one: str | None, other: str | None) -> str | None:
    """Of two parts of the same kind, what comes more often: a burst beside something steady is steady."""
    known = [word for word in (STEADY, RECURRING, BURST) if word in (one, other)]
    return known[0] if known else None
