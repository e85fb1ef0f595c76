"""Reading a fold's state back from a capture: what is not as written is refused, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LARGEST = 1e100
"""Sums of sums stay far from overflow; false for NaN and for ints that no float can hold."""


def as_object(name: str, value: object) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        ValueError: It is something else; the message names it.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected an object, found {_short(value)}")
    return value


def as_amount(name: str, value: object) -> float:
    """A number from 0 on.

    Raises:
        ValueError: It is something else; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        raise ValueError(f"{name}: expected a number from 0 to {_LARGEST:g}, found {_short(value)}")
    return float(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
