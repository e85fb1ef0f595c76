"""What every result is: a frozen dataclass with ``to_dict()``."""

from __future__ import annotations

import dataclasses
import enum


class Result:
    """The base of all results: gives them ``to_dict()``."""

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """The result as JSON types; properties that are figures are included."""
        out: dict[str, object] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            out[field.name] = _plain(getattr(self, field.name))
        for name, attribute in vars(type(self)).items():
            if isinstance(attribute, property):
                out[name] = _plain(getattr(self, name))
        return out


def _plain(value: object) -> object:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
