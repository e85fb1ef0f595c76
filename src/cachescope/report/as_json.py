"""A report for programs: one JSON object with a name and a version."""

from __future__ import annotations

import json
import math

from cachescope.core.results import REPORT_SCHEMA_VERSION, Report

SCHEMA = "cachescope.report"


def report_to_json(report: Report, *, indent: int | None = 2) -> str:
    """The whole report as JSON, ASCII only, keys in a fixed order.

    The object has ``schema`` (``"cachescope.report"``), ``schema_version`` (raised when a key is taken away or
    changes its meaning; new keys don't raise it), and then every field of :class:`~cachescope.core.results.Report`
    by its name, with the figures that are derived from others:

    - ``generated_at``, ``start_time``, ``end_time`` (seconds since the epoch), ``duration_seconds``, ``total_bytes``;
    - ``processes``: one object for each :class:`~cachescope.core.results.ProcessInfo`;
    - ``caches``: one for each :class:`~cachescope.core.results.MemoryProfile`, largest first, with ``hit_ratio`` and
      the rates; in it ``hotspots``, ``events``, ``value_types``;
    - ``patterns``, ``sites``, ``keys``, ``origins``: one for each :class:`~cachescope.core.results.MemoryHotspot`, by
      kind of key, by the line that set, by key, and by the line that built the values;
    - ``allocation_patterns``: one for each :class:`~cachescope.core.results.AllocationPatterns`, in it ``events``,
      ``entry_bytes``, ``lifetimes``, ``by_pattern``, ``by_thread``, ``by_task``;
    - ``performance``: one for each :class:`~cachescope.core.results.PerformanceMetrics`, in it ``operations``;
    - ``operations``: one for each :class:`~cachescope.core.results.OperationSummary`; in it, ``errors`` are pairs of a
      type's name and a count;
    - ``trends``: one for each :class:`~cachescope.core.results.MemoryTrend`; a ``cache_name`` of null is the process,
      ``verdict`` one of the words of :class:`~cachescope.core.results.TrendVerdict`;
    - ``snapshots``: the newest :class:`~cachescope.core.results.MemorySnapshot` of each process;
    - ``pressure``: one for each time that a limit was neared, ``metadata`` with ``scope``, ``level``, ``used_bytes``,
      ``limit_bytes``;
    - ``notes``: strings.

    A distribution (``entry_bytes``, ``age_seconds``, ``seconds``...) has its quantiles ``p50`` to ``p999``, their
    ``relative_error`` and a ``histogram``. Sizes are bytes, ratios lie between 0 and 1. What is unknown, infinite or
    not a number is ``null``, since JSON has no other word for it.

    Args:
        report: What is known.
        indent: Blanks for each level; None puts everything on one line.
    """
    document = {"schema": SCHEMA, "schema_version": REPORT_SCHEMA_VERSION, **report.to_dict()}
    return json.dumps(_finite(document), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)  # an event's metadata can hold anything
