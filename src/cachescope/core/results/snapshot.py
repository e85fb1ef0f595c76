"""The memory of the machine, its container, the process and its caches at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

from cachescope.core.results.base import Result

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse(Result):
    """What one cache held at a moment."""

    cache_name: str
    size_bytes: int
    entries: int

    @classmethod
    def from_dict(cls, data: object) -> CacheUse:
        """The inverse of :meth:`to_dict`; raises ValueError that names what is wrong."""
        fields = _fields(data)
        return cls(
            cache_name=_text(fields, "cache_name"),
            size_bytes=_whole(fields, "size_bytes"),
            entries=_whole(fields, "entries"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GcGeneration(Result):
    """One generation of the garbage collector."""

    pending: int
    """Objects allocated since it last ran (gc.get_count)."""
    collections: int
    collected: int
    uncollectable: int

    @classmethod
    def from_dict(cls, data: object) -> GcGeneration:
        """The inverse of :meth:`to_dict`; raises ValueError that names what is wrong."""
        fields = _fields(data)
        names = ("pending", "collections", "collected", "uncollectable")
        return cls(**{name: _whole(fields, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot(Result):
    """Memory at one moment. A figure that could not be had is None, and *notes* say why."""

    timestamp: float
    pid: int | None = None
    rss_bytes: int | None
    uss_bytes: int | None
    """What would be freed if the process ended: pages that no other process shares."""
    swap_bytes: int | None
    system_total_bytes: int | None
    system_available_bytes: int | None
    container_limit_bytes: int | None
    """None where no control group limits the process."""
    container_used_bytes: int | None
    """The group's working set: its use without the file cache that can be dropped at once."""
    container_source: str | None
    """``cgroup v1`` or ``cgroup v2``."""
    allocator_free_bytes: int | None
    """Bytes that the C allocator holds and nobody uses; None where the platform doesn't tell."""
    python_blocks: int
    """Blocks allocated by Python's own allocator."""
    traced_bytes: int | None
    """By tracemalloc; None unless it traces."""
    gc: tuple[GcGeneration, ...]
    cache_bytes: int
    """Of all caches."""
    caches: tuple[CacheUse, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: object) -> MemorySnapshot:
        """The inverse of :meth:`to_dict`; fields that this version doesn't know are left out.

        Raises:
            ValueError: *data* is not what :meth:`to_dict` gives; the message names the field and what it holds.
        """
        fields = _fields(data)
        source = fields.get("container_source")
        if source is not None and not isinstance(source, str):
            raise ValueError(f"container_source: expected a text or nothing, found {_shown(source)}")
        return cls(
            timestamp=_moment(fields, "timestamp"),
            container_source=source,
            pid=_whole_or_none(fields, "pid"),
            python_blocks=_whole(fields, "python_blocks"),
            gc=_rows(fields, "gc", GcGeneration.from_dict),
            cache_bytes=_whole(fields, "cache_bytes"),
            caches=_rows(fields, "caches", CacheUse.from_dict),
            notes=_rows(fields, "notes", _note),
            **{name: _whole_or_none(fields, name) for name in _MAY_BE_UNKNOWN},
        )

    def diff(self, earlier: MemorySnapshot) -> SnapshotDiff:
        """What changed from *earlier* to this snapshot."""
        before = {use.cache_name: use for use in earlier.caches}
        changes = []
        for use in self.caches:
            was = before.pop(use.cache_name, None)
            changes.append(
                CacheUse(
                    cache_name=use.cache_name,
                    size_bytes=use.size_bytes - (was.size_bytes if was else 0),
                    entries=use.entries - (was.entries if was else 0),
                )
            )
        changes += [
            CacheUse(cache_name=was.cache_name, size_bytes=-was.size_bytes, entries=-was.entries)
            for was in before.values()
        ]
        return SnapshotDiff(
            seconds=self.timestamp - earlier.timestamp,
            rss_bytes=_minus(self.rss_bytes, earlier.rss_bytes),
            uss_bytes=_minus(self.uss_bytes, earlier.uss_bytes),
            swap_bytes=_minus(self.swap_bytes, earlier.swap_bytes),
            system_available_bytes=_minus(self.system_available_bytes, earlier.system_available_bytes),
            container_used_bytes=_minus(self.container_used_bytes, earlier.container_used_bytes),
            allocator_free_bytes=_minus(self.allocator_free_bytes, earlier.allocator_free_bytes),
            python_blocks=self.python_blocks - earlier.python_blocks,
            traced_bytes=_minus(self.traced_bytes, earlier.traced_bytes),
            gc_collections=tuple(
                now.collections - then.collections for now, then in zip(self.gc, earlier.gc, strict=False)
            ),
            cache_bytes=self.cache_bytes - earlier.cache_bytes,
            caches=tuple(sorted(changes, key=lambda use: (-abs(use.size_bytes), use.cache_name))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDiff(Result):
    """What changed between two snapshots: later minus earlier; None where either did not know."""

    seconds: float
    rss_bytes: int | None
    uss_bytes: int | None
    swap_bytes: int | None
    system_available_bytes: int | None
    container_used_bytes: int | None
    allocator_free_bytes: int | None
    python_blocks: int
    traced_bytes: int | None
    gc_collections: tuple[int, ...]
    cache_bytes: int
    caches: tuple[CacheUse, ...]
    """Largest change first; caches of either snapshot."""


def _minus(now: int | None, then: int | None) -> int | None:
    return None if now is None or then is None else now - then


_MAY_BE_UNKNOWN = (
    "rss_bytes",
    "uss_bytes",
    "swap_bytes",
    "system_total_bytes",
    "system_available_bytes",
    "container_limit_bytes",
    "container_used_bytes",
    "allocator_free_bytes",
    "traced_bytes",
)


def _fields(data: object) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, found {_shown(data)}")
    return data


def _whole(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name}: expected a whole number, found {_shown(value)}")
    return value


def _whole_or_none(fields: Mapping[str, object], name: str) -> int | None:
    return None if fields.get(name) is None else _whole(fields, name)


def _moment(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name)
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value):
            return float(value)
    except OverflowError:  # an int that no float can hold
        pass
    raise ValueError(f"{name}: expected seconds since the epoch, found {_shown(value)}")


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a text, found {_shown(value)}")
    return value


def _note(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {_shown(value)}")
    return value


def _rows(fields: Mapping[str, object], name: str, read: Callable[[object], _R]) -> tuple[_R, ...]:
    rows = fields.get(name, [])
    if not isinstance(rows, list):
        raise ValueError(f"{name}: expected a list, found {_shown(rows)}")
    try:
        return tuple(map(read, rows))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _shown(value: object) -> str:
    try:
        return f"{value!r:.100}"
    except ValueError:  # an int of more than 4,300 digits has no decimal text
        return f"a value of type {type(value).__name__}"
