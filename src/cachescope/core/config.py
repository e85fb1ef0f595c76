"""Every setting of a profiler, checked once; each is also a ``CACHESCOPE_*`` environment variable."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cachescope.core.errors import ConfigurationError
from cachescope.core.events import ProfilingLevel

ENVIRONMENT_PREFIX = "CACHESCOPE_"
_SHOWN_CHARACTERS = 200


def _setting(default: object, low: float | None = None, high: float | None = None, note: str = "") -> object:
    return field(default=default, metadata={"low": low, "high": high, "note": note})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerConfig:
    """The settings of one profiler; immutable once made.

    Every field can also be given as an environment variable: ``CACHESCOPE_`` and the field's name in capitals
    (``CACHESCOPE_LEVEL=detailed``, ``CACHESCOPE_FOLLOWED_KEYS=20000``).

    Raises:
        ConfigurationError: A field has a wrong type or is out of range. The message names the field, the value
            that was given and what is allowed.
    """

    level: ProfilingLevel = _setting(ProfilingLevel.BASIC)  # type: ignore[assignment]  # noqa: RUF009 # field() in a helper
    """How deep to look; a level's name in any case is accepted too."""
    followed_keys: int = _setting(98_304, 16, 1 << 22)  # type: ignore[assignment]
    """How many entries are followed one by one, over all caches. While all entries fit, figures by pattern and by line
    are exact; beyond that they are unbiased estimates with a standard error."""
    max_patterns: int = _setting(512, 2, 1 << 16)  # type: ignore[assignment]
    """Key patterns kept per cache; what comes later is counted as ``overflow``."""
    max_sites: int = _setting(4_096, 2, 1 << 20)  # type: ignore[assignment]
    """Call sites kept per process; what comes later is counted as ``overflow``."""
    stack_depth: int = _setting(6, 1, 64)  # type: ignore[assignment]
    """Frames of the caller's stack that are kept for a call site at DETAILED."""
    recent_events: int = _setting(256, 0, 1 << 20)  # type: ignore[assignment]
    """Newest memory events kept per cache, for ``MemoryProfile.events``."""
    sizing_budget: float = _setting(0.02, 0.0, 1.0)  # type: ignore[assignment]
    """Share of one core that may be spent on deep sizes of values for which that is dear."""
    max_value_objects: int = _setting(100_000, 16, 1 << 30)  # type: ignore[assignment]
    """Objects walked inside one value before its size is given as a lower bound."""
    memory_limit_bytes: int = _setting(64 << 20, 1 << 20, 1 << 40)  # type: ignore[assignment]
    """The cap on the profiler's own memory; followed keys are thinned out to stay below."""
    tick_seconds: float = _setting(0.1, 0.005, 60.0)  # type: ignore[assignment]
    """How often the background thread folds what the hooks saw."""
    flush_seconds: float = _setting(10.0, 0.05, 86_400.0)  # type: ignore[assignment]
    """How often the capture is written, so that an abrupt end loses no more than this."""
    output: str | None = _setting(None)  # type: ignore[assignment]
    """Where the capture goes; ``{pid}`` in it is replaced. None writes none."""
    raw_keys: bool = _setting(False)  # type: ignore[assignment]
    """Show keys themselves in recent events. Off: their pattern stands in, so that no key leaves the process."""

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = _checked(setting, getattr(self, setting.name))
            object.__setattr__(self, setting.name, value)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: object) -> ProfilerConfig:
        """Read the ``CACHESCOPE_*`` variables; *overrides* win over them.

        Args:
            environment: Where to look; None means ``os.environ``. An empty value counts as not given.
            overrides: Fields given explicitly.

        Raises:
            ConfigurationError: A variable's text does not fit its field.
        """
        source = os.environ if environment is None else environment
        values: dict[str, object] = {}
        for setting in dataclasses.fields(cls):
            variable = ENVIRONMENT_PREFIX + setting.name.upper()
            text = source.get(variable, "").strip()
            if text:
                values[setting.name] = _checked(setting, _parsed(setting, text, variable), variable)
        values.update(overrides)
        return cls(**values)  # type: ignore[arg-type]  # checked field by field in __post_init__

    def to_dict(self) -> dict[str, object]:
        """The settings as JSON types."""
        values = {setting.name: getattr(self, setting.name) for setting in dataclasses.fields(self)}
        values["level"] = self.level.name.lower()
        return values


def _kind(setting: dataclasses.Field[object]) -> str:
    return str(setting.type).removesuffix(" | None")


def _parsed(setting: dataclasses.Field[object], text: str, variable: str) -> object:
    kind = _kind(setting)
    try:
        if kind == "bool":
            return {
                "1": True,
                "true": True,
                "yes": True,
                "on": True,
                "0": False,
                "false": False,
                "no": False,
                "off": False,
            }[text.lower()]
        if kind == "int":
            return int(text.replace("_", ""))
        if kind == "float":
            return float(text)
    except (KeyError, ValueError):
        raise _refusal(variable, text, _allowed(setting)) from None
    return text


def _checked(setting: dataclasses.Field[object], value: object, said_as: str = "") -> object:
    kind, name = _kind(setting), said_as or setting.name
    if kind == "ProfilingLevel":
        try:
            return ProfilingLevel.parse(value)
        except ValueError:
            raise _refusal(name, value, _allowed(setting)) from None
    if kind == "str":
        if value is None or (isinstance(value, (str, os.PathLike)) and os.fspath(value)):
            return None if value is None else os.fspath(value)
        raise _refusal(name, value, _allowed(setting))
    if kind == "bool":
        if not isinstance(value, bool):
            raise _refusal(name, value, _allowed(setting))
        return value
    number = (int, float) if kind == "float" else (int,)
    if not isinstance(value, number) or isinstance(value, bool):
        raise _refusal(name, value, _allowed(setting))
    low, high = setting.metadata["low"], setting.metadata["high"]
    if not ((low is None or low <= value) and (high is None or value <= high)):  # a NaN is neither
        raise _refusal(name, value, _allowed(setting))
    return float(value) if kind == "float" else value


def _allowed(setting: dataclasses.Field[object]) -> str:
    kind = _kind(setting)
    if kind == "ProfilingLevel":
        return "one of " + ", ".join(name.lower() for name in ProfilingLevel.__members__)
    if kind == "bool":
        return "true or false (also 1, 0, yes, no, on, off)"
    if kind == "str":
        return "a path, or nothing"
    words = "a whole number" if kind == "int" else "a number"
    return f"{words} from {setting.metadata['low']:,} to {setting.metadata['high']:,}"


def _refusal(name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{name}: {_shown(value)} is not allowed; expected {allowed}")


def _shown(value: object) -> str:
    """A wrong value as a message can hold it: one that is long, or that has no ``repr()``, must not hide what is wrong."""
    try:
        text = repr(value)
    except Exception:  # an int of more than 4,300 digits has none either
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
