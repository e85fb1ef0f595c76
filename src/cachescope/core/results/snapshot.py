"""The memory of the machine, its container, the process and its caches at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from cachescope.core.results.base import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse(Result):
    """What one cache held at a moment."""

    cache_name: str
    size_bytes: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GcGeneration(Result):
    """One generation of the garbage collector."""

    pending: int
    """Objects allocated since it last ran (gc.get_count)."""
    collections: int
    collected: int
    uncollectable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot(Result):
    """Memory at one moment. A figure that could not be had is None, and *notes* say why."""

    timestamp: float
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
