"""One setting's value: read from text, checked, and refused with what was given, what is allowed and what to do.

The kind of a setting is its annotation, as text; its range and unit are in the field's metadata.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from cachescope.core.errors import ConfigurationError
from cachescope.core.events import MemoryEventType, ProfilingLevel

Setting = dataclasses.Field[Any]

_SHOWN_CHARACTERS: Final = 200
_MOST_NAMES: Final = 256
_LONGEST_NAME: Final = 256
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(b|kb|mb|gb|tb|kib|mib|gib|tib)?", re.IGNORECASE)
_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    f"{letter}{tail}": base**power
    for power, letter in enumerate("kmgt", 1)
    for tail, base in (("b", 1000), ("ib", 1024))
}
EVENT_KINDS: Final = tuple(kind.value for kind in MemoryEventType)


def parsed(setting: Setting, text: str, said_as: str) -> object:
    """Turn the text of an environment variable into what the setting takes; :func:`checked` does the rest.

    Raises:
        ConfigurationError: The text is none of the setting's kind.
    """
    kind = kind_of(setting)
    try:
        if kind == "bool":
            return _BOOLEANS[text.lower()]
        if kind == "int" and not _is_bytes(setting):
            return int(text.replace("_", ""))
        if kind == "float":
            return float(text)
    except (KeyError, ValueError):
        raise refusal(said_as, text, _allowed(setting)) from None
    return text


def checked(setting: Setting, value: object, said_as: str = "") -> object:
    """Return the value in the one form that is kept.

    Raises:
        ConfigurationError: It has a wrong type or is out of range.
    """
    if value is None and str(setting.type).endswith("| None"):
        return None
    try:
        return _CHECKS[kind_of(setting)](setting, value)
    except (ValueError, TypeError, OverflowError):
        raise refusal(said_as or setting.name, value, _allowed(setting)) from None


def kind_of(setting: Setting) -> str:
    """The setting's annotation without its None."""
    return str(setting.type).removesuffix(" | None")


def json_value(value: object) -> object:
    """A kept value as JSON types, which :func:`checked` takes back."""
    if isinstance(value, ProfilingLevel):
        return value.name.lower()
    if isinstance(value, tuple):
        return dict(value) if value and isinstance(value[0], tuple) else list(value)
    return value


def size_in_bytes(text: str) -> int:
    """Read ``64MiB``, ``1.5 GB`` or ``4096``: kB, MB, GB, TB count by 1,000; KiB, MiB, GiB, TiB by 1,024.

    Raises:
        ValueError: It is no such text.
    """
    found = _SIZE.fullmatch(text.strip().replace("_", ""))
    if found is None or len(text) > _SHOWN_CHARACTERS:
        raise ValueError(text)
    number, unit = found.groups()
    factor: int = _UNITS[(unit or "").lower()]
    return int(number) * factor if "." not in number else round(float(number) * factor)


def name_matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a test whether a whole text fits one of the patterns.

    ``*`` stands for any text and ``?`` for any character; all else, ``[`` and ``{`` too, stands for itself, since key
    patterns are full of those. Upper and lower case differ.
    """
    wanted = tuple(dict.fromkeys(patterns))
    if "*" in wanted:
        return lambda text: True
    if not any("*" in pattern or "?" in pattern for pattern in wanted):
        return frozenset(wanted).__contains__
    # Atomic groups: `*a*a*a*a` over a long text would try every split of it otherwise.
    fullmatch = re.compile("|".join(f"(?:{_expression(pattern)})" for pattern in wanted), re.DOTALL).fullmatch
    return lambda text: fullmatch(text) is not None


def covers(general: str, special: str) -> bool:
    """Tell whether all that fits *special* fits *general* too."""
    fits = name_matcher((general,))
    # A probe with texts that no pattern holds: what fits none, one and several of them fits any.
    probes = (special.replace("?", "\0").replace("*", filler) for filler in ("", "\1", "\1\2\3\4\5"))
    return all(fits(probe) for probe in probes)


def refusal(name: str, value: object, allowed: str) -> ConfigurationError:
    """The error for a value that is not allowed."""
    return ConfigurationError(f"{name}: {shown(value)} is not allowed; expected {allowed}")


def shown(value: object) -> str:
    """A wrong value as a message can hold it: one that is long, or that has no ``repr()``, must not hide what is wrong."""
    try:
        text = repr(value)
    except Exception:  # an int of more than 4,300 digits has none either
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _expression(pattern: str) -> str:
    """The pattern as a regular expression that never backtracks into a ``*`` it has left."""
    first, *rest = re.sub(r"\*+", "*", pattern).split("*")
    pieces = ["".join("." if c == "?" else re.escape(c) for c in piece) for piece in (first, *rest)]
    if not rest:
        return pieces[0]
    between = "".join(f"(?>.*?{piece})" for piece in pieces[1:-1])
    return f"{pieces[0]}{between}.*{pieces[-1]}"


def _is_bytes(setting: Setting) -> bool:
    return setting.name.endswith("_bytes")


def _bool(setting: Setting, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _number(setting: Setting, value: object) -> float:
    whole = kind_of(setting) == "int"
    if whole and _is_bytes(setting) and isinstance(value, str):
        value = size_in_bytes(value)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError
    if not setting.metadata["low"] <= value <= setting.metadata["high"]:  # a NaN is neither
        raise ValueError
    return value if whole else float(value)


def _path(setting: Setting, value: object) -> str:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if not path or not isinstance(path, str):
        raise TypeError
    return path


def _names(setting: Setting, value: object) -> tuple[str, ...]:
    """Names or patterns: a sequence of texts, or one text with commas."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    elif isinstance(value, (set, frozenset)):
        value = sorted(value)
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_NAMES:
        raise TypeError
    names = tuple(dict.fromkeys(setting.metadata["read"](item) for item in value))
    if not names and setting.metadata["needed"]:
        raise ValueError
    return names


def name(value: object) -> str:
    """A pattern over names, kept as it is.

    Raises:
        ValueError: It is empty, too long, or no text.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise ValueError
    return value


def event_kind(value: object) -> str:
    """The word for an event kind; a :class:`MemoryEventType` or its name in any case is accepted.

    Raises:
        ValueError: There is no such kind.
    """
    if isinstance(value, str):
        value = MemoryEventType(value.lower())
    if not isinstance(value, MemoryEventType):
        raise ValueError
    return value.value


def _budgets(setting: Setting, value: object) -> tuple[tuple[str, int], ...]:
    """Pairs of a pattern and bytes, in the order given: a mapping, pairs, or ``name=size`` with commas."""
    pairs: Iterable[Any]
    if isinstance(value, str):
        pairs = [(left.strip(), right) for left, _, right in (part.rpartition("=") for part in value.split(","))]
    elif isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, (tuple, list)):
        pairs = value
    else:
        raise TypeError
    out = [(name(pattern), _budget(size)) for pattern, size in pairs]
    if len(out) > _MOST_NAMES or len(dict(out)) < len(out):
        raise ValueError
    return tuple(out)


def _budget(size: object) -> int:
    number = size_in_bytes(size) if isinstance(size, str) else size
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1 << 50:
        raise ValueError
    return number


_CHECKS: Final[dict[str, Callable[[Setting, object], object]]] = {
    "ProfilingLevel": lambda setting, value: ProfilingLevel.parse(value),
    "bool": _bool,
    "int": _number,
    "float": _number,
    "str": _path,
    "tuple[str, ...]": _names,
    "tuple[tuple[str, int], ...]": _budgets,
}


def _allowed(setting: Setting) -> str:
    kind = kind_of(setting)
    if kind == "ProfilingLevel":
        return "one of " + ", ".join(level.lower() for level in ProfilingLevel.__members__)
    if kind == "bool":
        return "true or false (also 1, 0, yes, no, on, off)"
    if kind == "str":
        return "a path, or nothing"
    if kind == "tuple[str, ...]":
        if setting.metadata["read"] is event_kind:
            return f"some of {', '.join(EVENT_KINDS)}"
        least = "one or more" if setting.metadata["needed"] else "any number of"
        return (
            f"{least} texts such as 'users', 'shop.*' ('*' for any text, '?' for any character), at most {_MOST_NAMES}"
        )
    if kind == "tuple[tuple[str, int], ...]":
        return (
            "patterns of cache names, each once, with bytes from 1, as {'users': '64MiB'} or users=64MiB,shop.*=1GB, "
            f"at most {_MOST_NAMES}"
        )
    low, high = setting.metadata["low"], setting.metadata["high"]
    words = "a whole number" if kind == "int" else "a number"
    text = " (bytes, or text such as '64MiB' or '1.5GB')" if _is_bytes(setting) else ""
    return f"{words} from {low:,} to {high:,}{text}{_or_none(setting)}"


def _or_none(setting: Setting) -> str:
    return ", or None" if str(setting.type).endswith("| None") else ""
