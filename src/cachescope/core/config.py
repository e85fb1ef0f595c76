"""Every setting of a profiler, checked once; each is also a ``CACHESCOPE_*`` environment variable."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachescope.core import config_values as values
from cachescope.core.errors import ConfigurationError
from cachescope.core.events import ProfilingLevel

ENVIRONMENT_PREFIX = "CACHESCOPE_"


def _setting(
    default: object,
    low: float | None = None,
    high: float | None = None,
    *,
    read: Callable[[object], str] = values.name,
    needed: bool = False,
) -> Any:  # as dataclasses.field() does: what it returns stands for a value of the field's own type
    """One field: its default, its range, and for texts what reads each and whether there must be one."""
    return field(default=default, metadata={"low": low, "high": high, "read": read, "needed": needed})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerConfig:
    """The settings of one profiler; immutable once made.

    Every field can also be given as an environment variable: ``CACHESCOPE_`` and the field's name in capitals
    (``CACHESCOPE_LEVEL=detailed``, ``CACHESCOPE_FOLLOWED_KEYS=20000``, ``CACHESCOPE_EXCLUDE_CACHES=tmp.*,debug``). What
    counts bytes takes text such as ``64MiB`` or ``1.5GB`` too.

    In patterns over names, ``*`` stands for any text and ``?`` for any character; all else, ``[`` and ``{`` too, stands
    for itself. Filters leave rows out of lists; they never touch a cache's exact totals, so what is listed may add up
    to less.

    Raises:
        ConfigurationError: A field has a wrong type or is out of range, or two contradict each other. The message names
            the field, the value that was given and what is allowed.
    """

    level: ProfilingLevel = _setting(ProfilingLevel.BASIC)  # noqa: RUF009 # field() in a helper
    """How deep to look; a level's name in any case is accepted too."""
    followed_keys: int = _setting(98_304, 16, 1 << 22)
    """How many entries are followed one by one, over all caches. While all entries fit, figures by pattern and by line
    are exact; beyond that they are unbiased estimates with a standard error."""
    max_patterns: int = _setting(512, 2, 1 << 16)
    """Key patterns kept per cache; what comes later is counted as ``overflow``."""
    max_sites: int = _setting(4_096, 2, 1 << 20)
    """Call sites kept per process; what comes later is counted as ``overflow``."""
    stack_depth: int = _setting(6, 1, 64)
    """Frames of the caller's stack that are kept for a call site at DETAILED."""
    hot_keys: int = _setting(300, 16, 1 << 16)
    """Keys counted per cache, to find the ones used most."""
    max_operations: int = _setting(256, 2, 1 << 16)
    """Names of operations kept; what comes later is counted as ``overflow``."""
    recent_events: int = _setting(256, 0, 1 << 20)
    """Newest memory events kept per cache, for ``MemoryProfile.events``."""
    sizing_budget: float = _setting(0.02, 0.0, 1.0)
    """Share of one core that may be spent on deep sizes of values for which that is dear."""
    max_value_objects: int = _setting(100_000, 16, 1 << 30)
    """Objects walked inside one value before its size is given as a lower bound."""
    memory_limit_bytes: int = _setting(64 << 20, 1 << 20, 1 << 40)
    """The cap on the profiler's own memory; followed keys are thinned out to stay below."""
    tick_seconds: float = _setting(0.1, 0.005, 60.0)
    """How often the background thread folds what the hooks saw."""
    flush_seconds: float = _setting(10.0, 0.05, 86_400.0)
    """How often the capture is written, so that an abrupt end loses no more than this."""
    output: str | None = _setting(None)
    """Where the capture goes; ``{pid}`` in it is replaced. None writes none."""
    raw_keys: bool = _setting(False)
    """Show keys themselves in recent events. Off: their pattern stands in, so that no key leaves the process."""
    include_caches: tuple[str, ...] = _setting(("*",), needed=True)
    """Patterns of the cache names to list; in the environment with commas between them."""
    exclude_caches: tuple[str, ...] = _setting(())
    """Patterns of the cache names to leave out; wins over ``include_caches``."""
    include_patterns: tuple[str, ...] = _setting(("*",), needed=True)
    """Patterns of the key patterns to list, such as ``session:*`` or ``user:{int}:*``."""
    exclude_patterns: tuple[str, ...] = _setting(())
    """Patterns of the key patterns to leave out; wins over ``include_patterns``."""
    event_kinds: tuple[str, ...] = _setting(values.EVENT_KINDS, read=values.event_kind)
    """Kinds of memory events that are kept as recent ones and told to subscribers."""
    min_size_bytes: int = _setting(0, 0, 1 << 40)
    """Smaller entries stay out of hotspots, recent events and distributions."""
    retention_minutes: int = _setting(180, 1, 10_080)
    """Windows, and hotspots not seen since, are cleaned up after this long."""
    snapshot_seconds: float = _setting(10.0, 0.1, 86_400.0)
    """How often the process's memory and the caches' bytes are noted in the background; more often in the first minutes.
    Short intervals are kept only as far as that takes no more than a few thousandths of a core."""
    max_snapshots: int = _setting(720, 8, 100_000)
    """Snapshots kept; beyond that the older ones are thinned out, not cut off."""
    process_budget_bytes: int | None = _setting(None, 1 << 20, 1 << 50)
    """What the process's memory should stay below; None watches the container's and the system's limits only."""
    cache_budgets: tuple[tuple[str, int], ...] = _setting(())
    """Patterns of cache names and the bytes that each such cache should stay below; the first that fits counts. Takes a
    dict, and in the environment ``users=64MiB,shop.*=1GB``."""
    pressure_high: float = _setting(0.80, 0.01, 1.0)
    """Share of a limit from which on pressure is high."""
    pressure_critical: float = _setting(0.95, 0.01, 1.0)
    """Share of a limit from which on pressure is critical; at least ``pressure_high``."""
    pressure_release: float = _setting(0.05, 0.0, 0.5)
    """How far below a threshold use has to fall, as a share of the limit, before that level of pressure ends."""
    trace_allocations: bool = _setting(True)
    """Whether COMPREHENSIVE may start tracemalloc; one that runs already is used in any case."""
    tracemalloc_frames: int = _setting(10, 1, 64)
    """Frames that tracemalloc keeps of each allocation when COMPREHENSIVE starts it."""
    latency: bool = _setting(True)
    """Whether operations are timed, from DETAILED on."""
    watch_reads: bool = _setting(True)
    """Whether reads of followed entries are seen, from DETAILED on: for efficiency and one-hit wonders."""
    read_budget: float = _setting(0.02, 0.0, 1.0)
    """Share of one core that may be spent on seeing those reads."""

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = values.checked(setting, getattr(self, setting.name))
            object.__setattr__(self, setting.name, value)
        self._refuse_contradictions()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: object) -> ProfilerConfig:
        """Read the ``CACHESCOPE_*`` variables; *overrides* win over them.

        Args:
            environment: Where to look; None means ``os.environ``. An empty value counts as not given.
            overrides: Fields given explicitly.

        Raises:
            ConfigurationError: A variable's text does not fit its field, or two settings contradict each other.
        """
        source = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for setting in dataclasses.fields(cls):
            variable = ENVIRONMENT_PREFIX + setting.name.upper()
            text = source.get(variable, "").strip()
            if text:
                given[setting.name] = values.checked(setting, values.parsed(setting, text, variable), variable)
        given.update(overrides)
        return cls(**given)  # type: ignore[arg-type]  # checked field by field in __post_init__

    def to_dict(self) -> dict[str, object]:
        """The settings as JSON types; ``ProfilerConfig(**config.to_dict()) == config``."""
        return {setting.name: values.json_value(getattr(self, setting.name)) for setting in dataclasses.fields(self)}

    def _refuse_contradictions(self) -> None:
        for what in ("caches", "patterns"):
            for wanted in getattr(self, f"include_{what}"):
                for unwanted in getattr(self, f"exclude_{what}"):
                    if wanted != "*" and values.covers(unwanted, wanted):
                        raise ConfigurationError(
                            f"include_{what}: {values.shown(wanted)} is not allowed together with exclude_{what} "
                            f"{values.shown(unwanted)}, which leaves nothing of it; expected it in one of the two: "
                            f"take it out of the other"
                        )
        if self.pressure_critical < self.pressure_high:
            raise ConfigurationError(
                f"pressure_critical: {self.pressure_critical} is not allowed with pressure_high {self.pressure_high}; "
                "expected at least as much: raise pressure_critical or lower pressure_high"
            )
        if self.pressure_release >= self.pressure_high:
            raise ConfigurationError(
                f"pressure_release: {self.pressure_release} is not allowed with pressure_high {self.pressure_high}; "
                "expected less, or high pressure never ends: lower pressure_release"
            )
