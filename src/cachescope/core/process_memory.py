"""One snapshot of memory: the machine, the container, the process, its garbage collector and its allocators.

Every source may be denied or absent. Its figure is None then, and a note says why; nothing here raises.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import psutil

from cachescope.core.containers import container_memory
from cachescope.core.results import CacheUse, GcGeneration, MemorySnapshot

_T = TypeVar("_T")

_MALLOC_FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)
_LEAST_HEAP_BYTES = 64 << 10  # no interpreter lives on less, so glibc's malloc is not the one in use
_REASONS = {
    "AccessDenied": "permission denied",
    "PermissionError": "permission denied",
    "NoSuchProcess": "the process can't be seen in /proc",
    "FileNotFoundError": "the system doesn't offer it",
    "NotImplementedError": "the system doesn't offer it",
    "AttributeError": "the system doesn't offer it",
}


class Pace:
    """Keep a dear question to a share of the time, however long the answer takes.

    Args:
        share: The share of one core that asking may take, from 0 to 1.
    """

    __slots__ = ("_next", "_share", "last_seconds")

    def __init__(self, share: float) -> None:
        self._share = share
        self._next = 0.0
        self.last_seconds = 0.0

    def due(self) -> bool:
        """Whether enough time has passed for what the last question took."""
        return time.monotonic() >= self._next

    def spent(self, seconds: float) -> None:
        """Say how long the question took that has just been asked."""
        self.last_seconds = seconds
        self._next = time.monotonic() + seconds / self._share


def measure(caches: Iterable[CacheUse], *, whole: bool = True) -> MemorySnapshot:
    """Take one snapshot of memory; never raises.

    USS and swap make the kernel walk all pages of the process: about 15 ms for each GB (the GIL is free meanwhile).
    The rest takes less than a millisecond, but for ``sys.getallocatedblocks``: 1 ms for each GB of small objects.

    Args:
        caches: What each cache holds now.
        whole: With USS and swap.
    """
    notes: list[str] = []
    rss_bytes, uss_bytes, swap_bytes = _process(notes, whole=whole)
    machine = _asked("system memory", psutil.virtual_memory, notes)
    container = container_memory()
    if container.note:
        notes.append(container.note)
    uses = _asked("caches", lambda: tuple(sorted(caches, key=lambda use: (-use.size_bytes, use.cache_name))), notes)
    return MemorySnapshot(
        timestamp=time.time(),
        pid=os.getpid(),
        rss_bytes=rss_bytes,
        uss_bytes=uss_bytes,
        swap_bytes=swap_bytes,
        system_total_bytes=None if machine is None else machine.total,
        system_available_bytes=None if machine is None else machine.available,
        container_limit_bytes=container.limit_bytes,
        container_used_bytes=container.used_bytes,
        container_source=container.source,
        allocator_free_bytes=_asked("allocator", _allocator.free_bytes, notes),
        python_blocks=_asked("python blocks", sys.getallocatedblocks, notes) or 0,
        traced_bytes=_asked("tracemalloc", _traced_bytes, notes),
        gc=_asked("garbage collector", _generations, notes) or (),
        cache_bytes=sum(use.size_bytes for use in uses or ()),
        caches=uses or (),
        notes=tuple(notes),
    )


def _process(notes: list[str], *, whole: bool) -> tuple[int | None, int | None, int | None]:
    """RSS, USS and swap of this process."""
    process = _asked("process memory", psutil.Process, notes)
    if process is None:
        return None, None, None
    if not whole:
        info = _asked("rss", process.memory_info, notes)
        notes.append("uss and swap: left out of a quick snapshot")
        return None if info is None else info.rss, None, None
    full = _asked("uss and swap", process.memory_full_info, notes)
    if full is None:  # smaps may be denied where the rest is not
        info = _asked("rss", process.memory_info, notes)
        return None if info is None else info.rss, None, None
    swap_bytes = getattr(full, "swap", None)
    if swap_bytes is None:
        notes.append("swap: the system doesn't offer it")
    return full.rss, full.uss, swap_bytes


def _traced_bytes() -> int | None:
    import _tracemalloc  # its Python side imports pickle and linecache, which an untraced program needn't have

    return _tracemalloc.get_traced_memory()[0] if _tracemalloc.is_tracing() else None


def _generations() -> tuple[GcGeneration, ...]:
    return tuple(
        GcGeneration(
            pending=pending,
            collections=figures["collections"],
            collected=figures["collected"],
            uncollectable=figures["uncollectable"],
        )
        for pending, figures in zip(gc.get_count(), gc.get_stats(), strict=False)
    )


class _UnknownError(Exception):
    """A source has nothing to say; the message tells the user why."""


class _Allocator:
    """Ask glibc how much its malloc holds that nobody uses: mallinfo2(3), ``fordblks``.

    That is free chunks in all arenas (not only the main one, as the manual page has it) and their unused ends; what a
    thread's own small cache keeps counts as used. glibc walks the free chunks under each arena's lock: 1 million take
    20 ms, in which other threads can't allocate. So it isn't asked for more than a thousandth of the time.
    """

    __slots__ = ("_ask", "_pace", "_why_not")

    def __init__(self) -> None:
        self._ask: Callable[[], Any] | None = None
        self._why_not = ""
        self._pace = Pace(0.001)

    def free_bytes(self) -> int:
        """Bytes that malloc holds and nobody uses."""
        if self._ask is None and not self._why_not:
            self._find()
        if self._ask is None:
            raise _UnknownError(self._why_not)
        if not self._pace.due():
            raise _UnknownError(f"not asked again so soon, for the last answer took {self._pace.last_seconds:.3f} s")
        started = time.perf_counter()
        info = self._ask()
        self._pace.spent(time.perf_counter() - started)
        if info.arena + info.hblkhd < _LEAST_HEAP_BYTES:
            raise _UnknownError("another malloc than glibc's is in use")
        return int(info.fordblks)

    def _find(self) -> None:
        """Look for mallinfo2, once; ctypes is not imported where it can't be there."""
        self._why_not = "only glibc 2.33 or newer tells what its malloc holds"
        if sys.platform != "linux":
            return
        try:
            import ctypes

            layout = type(
                "_MallInfo", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in _MALLOC_FIELDS]}
            )
            ask = ctypes.CDLL(None).mallinfo2
            ask.argtypes, ask.restype = (), layout
        except Exception:  # musl, an older glibc, a static build, a Python without libffi
            return
        self._ask = ask


_allocator = _Allocator()


def _asked(name: str, source: Callable[[], _T], notes: list[str]) -> _T | None:
    """What *source* says, or None and a note."""
    try:
        return source()
    except _UnknownError as error:
        notes.append(f"{name}: {error}")
    except Exception as error:  # whatever a platform thinks of; an error's own text may name paths and users
        kind = type(error).__name__
        notes.append(f"{name}: {_REASONS.get(kind, kind)}")
    return None
