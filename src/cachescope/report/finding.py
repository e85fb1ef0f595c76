"""One thing worth acting on, and the kinds of such things."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FindingKind(enum.Enum):
    """What was found; the order is that of urgency."""

    RAN_SHORT = "ran-short"
    RUNS_OUT = "runs-out"
    UNBOUNDED = "unbounded"
    INSTANCES_KEPT = "instances-kept"
    LOADS_FAIL = "loads-fail"
    EARNS_NOTHING = "earns-nothing"
    THRASHES = "thrashes"
    NEVER_READ = "never-read"
    LIMIT_FAR = "limit-far"
    HELD_UNUSED = "held-unused"
    OVERHEAD = "overhead"
    HOLDS_MOST = "holds-most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing worth acting on."""

    cache_name: str
    """Empty when it is about the process as a whole."""
    kind: FindingKind
    sentence: str
    """What it looks like, without the cache's name."""
    evidence: str
    """The figures that say so."""
    of_process: bool = False
    """It is about the process, its container or its machine, not about a cache."""
