"""Reading a fold's state back from a capture: what is not as written is refused, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachescope.core.config_values import shown

_LATEST = 1e15
"""Seconds, in the year 30 million; false for NaN and for ints that no float can hold."""
_LARGEST = 1e100
"""Sums of sums stay far from overflow; false for NaN and for ints that no float can hold."""


def as_object(name: str, value: object) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        ValueError: It is something else; the message names it.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected an object, found {shown(value)}")
    return value


def as_amount(name: str, value: object) -> float:
    """A number from 0 on.

    Raises:
        ValueError: It is something else; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        raise ValueError(f"{name}: expected a number from 0 to {_LARGEST:g}, found {shown(value)}")
    return float(value)


def as_whole(name: str, value: object, *, least: int | None = 0) -> int:
    """A whole number from *least* on; any, where that is None.

    Raises:
        ValueError: It is something else; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number from {least}"
        raise ValueError(f"{name}: expected {wanted}, found {shown(value)}")
    return value


def as_moment(name: str, value: object) -> float:
    """Seconds since the epoch.

    Raises:
        ValueError: It is something else; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LATEST:
        raise ValueError(f"{name}: expected seconds since the epoch, found {shown(value)}")
    return float(value)
