"""A pattern table that was written down, checked as it is read: it comes from a file, which anybody may have made."""

from __future__ import annotations

from typing import Any

from cachescope.core.key_masks import HOLE
from cachescope.core.key_sketch import LONGEST_PATTERN, unsealed


def brief(data: object) -> str:
    """Foreign data as a message can hold it."""
    text = ascii(data)
    return text if len(text) <= 60 else text[:60] + "..."


def number(data: dict[Any, Any], name: str, least: int, most: int) -> int:
    """A whole number of a table, within its range.

    Raises:
        ValueError: It is missing, or something else.
    """
    value = data.get(name)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"key patterns: {name!r} should be an int from {least} to {most}, got {brief(value)}")
    return value


def pattern_row(row: object) -> tuple[int, str, list[str]]:
    """One row of a table's patterns: its id, skeleton and words.

    Raises:
        ValueError: It is no such row.
    """
    if isinstance(row, list) and len(row) == 3:
        leaf, skeleton, path = row
        if (
            type(leaf) is int
            and type(skeleton) is str
            and len(skeleton) <= LONGEST_PATTERN
            and unsealed(skeleton).replace(HOLE, "").isprintable()
            and isinstance(path, list)
            and len(path) == skeleton.count(HOLE)
            and all(type(word) is str and len(word) <= LONGEST_PATTERN and word.isprintable() for word in path)
        ):
            return leaf, skeleton, path
    raise ValueError(f"key patterns: expected [id, skeleton, words], a printable word for each hole, got {brief(row)}")
