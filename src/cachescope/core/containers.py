"""What the process's control group lets it use: cgroup v2, v1, and systems that mount both.

A limit on a group holds for all groups below it, so all levels from the process's own up to the mounted one are read
(Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst). Levels above the mount can't be seen; v1
names their limit in ``hierarchical_memory_limit``, v2 doesn't.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cachescope.core import faults

_NO_LIMIT_BYTES = 1 << 60  # v1 has no word for "none" and writes the largest number of whole pages, or of 64 bits
_MOST_LEVELS = 64
_MOST_READ_BYTES = 64 << 10
_MOST_MOUNTINFO_BYTES = 4 << 20  # a node with thousands of mounts has one of a megabyte
_MOST_DIGITS = 20


@dataclass(frozen=True, slots=True)
class ContainerMemory:
    """The tightest limit on the process's control groups, and what the group that bears it uses.

    Attributes:
        limit_bytes: None where nothing limits the process, or where that can't be read.
        used_bytes: The working set of the group that bears the limit, or of the process's own group if none does: its
            use without the file cache that can be dropped at once.
        source: ``cgroup v1`` or ``cgroup v2``; None when there is neither.
        note: What must be said about the figures; empty when there is nothing to say.
    """

    limit_bytes: int | None
    used_bytes: int | None
    source: str | None
    note: str


@dataclass(frozen=True, slots=True)
class _Version:
    """The files of one version of control groups; *limits* from the hardest to the softest."""

    name: str
    mount_point: str
    limits: tuple[str, ...]
    usage: str
    droppable: tuple[str, ...]


_V1 = _Version(
    name="cgroup v1",
    mount_point="/sys/fs/cgroup/memory",
    limits=("memory.limit_in_bytes",),
    usage="memory.usage_in_bytes",
    droppable=("total_inactive_file", "inactive_file"),
)
_V2 = _Version(
    name="cgroup v2",
    mount_point="/sys/fs/cgroup",
    limits=("memory.max", "memory.high"),
    usage="memory.current",
    droppable=("inactive_file",),
)


@dataclass(frozen=True, slots=True)
class _Level:
    """One group: its limit, the file that sets it, and its working set."""

    limit_bytes: int | None
    set_by: str
    used_bytes: int | None


def container_memory(root: Path = Path("/")) -> ContainerMemory:
    """Read the limit and the use of the process's control group; never raises.

    Args:
        root: Where ``proc`` and ``sys`` are looked for.
    """
    try:
        return _Look(root).result()
    except Exception as error:
        faults.swallow("container", error)
        return ContainerMemory(None, None, None, f"control group: could not be read ({type(error).__name__})")


class _Look:
    """One look at the control groups below *root*; collects what can't be read as it goes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._remarks: list[str] = []
        self._stats: dict[Path, dict[str, str]] = {}

    def result(self) -> ContainerMemory:
        version, path = self._membership()
        if version is None:
            return ContainerMemory(None, None, None, self._note())
        directories = self._directories(version, path)
        if not directories:
            self._remark(f"the {version.name} hierarchy for memory is not mounted here")
            return ContainerMemory(None, None, None, self._note())
        levels = [self._level(directory, version) for directory in directories]
        if version is _V1:
            levels = self._with_hidden_limit(levels, directories[0])
        limit_bytes, used_bytes = self._tightest(levels)
        return ContainerMemory(limit_bytes, used_bytes, version.name, self._note())

    # Where the process is

    def _membership(self) -> tuple[_Version | None, str]:
        """The version that governs memory, and the process's path in it."""
        text = self._text(self._root / "proc/self/cgroup")
        if text is None:
            self._remark("/proc/self/cgroup is absent")
            return None, ""
        unified: str | None = None
        for line in text.splitlines():
            identifier, _, rest = line.partition(":")
            controllers, colon, path = rest.partition(":")
            if "memory" in controllers.split(","):
                return _V1, path  # a controller is in one hierarchy only, so the v2 line of a hybrid says nothing
            if identifier == "0" and colon and not controllers:
                unified = path
        if unified is None:
            self._remark("/proc/self/cgroup names no group for memory")
            return None, ""
        return _V2, unified

    def _directories(self, version: _Version, path: str) -> list[Path]:
        """The process's own group and those above it, as far as they are mounted."""
        mounts = self._mounts(version)
        # The one that shows most levels comes first.
        for mount_root, mount_point in sorted(mounts, key=lambda mount: len(mount[0])):
            below = _below(path, mount_root)
            if below is not None and os.path.isdir(mount_point / below):
                own = mount_point / below
                return [own, *own.parents][: min(len(below.parts) + 1, _MOST_LEVELS)]
        for _, mount_point in mounts:
            if os.path.isdir(mount_point):
                # Moved out of its namespace, or only another group is mounted: what is there limits us most likely.
                self._remark("the process's own group can't be seen; the figures are those of the mounted one")
                return [mount_point]
        return []

    def _mounts(self, version: _Version) -> list[tuple[str, Path]]:
        """(Path of the group that is mounted, where) for each mount of the hierarchy."""
        text = self._text(self._root / "proc/self/mountinfo", _MOST_MOUNTINFO_BYTES)
        if text is None:
            return [("/", self._inside(version.mount_point))]
        out = []
        for line in text.splitlines():
            where, _, what = line.partition(" - ")
            fields, kind = where.split(" "), what.split(" ")
            if len(fields) < 6 or len(kind) < 3:
                continue
            if kind[0] == "cgroup2" if version is _V2 else (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
                out.append((_unescaped(fields[3]), self._inside(_unescaped(fields[4]))))
        return out

    def _inside(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    # What the groups say

    def _level(self, directory: Path, version: _Version) -> _Level:
        limit_bytes, set_by = None, ""
        for name in version.limits:
            value = self._number(directory / name)
            if value is not None and value < _NO_LIMIT_BYTES and (limit_bytes is None or value < limit_bytes):
                limit_bytes, set_by = value, name
        used_bytes = self._number(directory / version.usage)
        if used_bytes is not None:
            used_bytes = max(0, used_bytes - self._stat(directory, *version.droppable, default=0))
        return _Level(limit_bytes, set_by, used_bytes)

    def _with_hidden_limit(self, levels: list[_Level], own: Path) -> list[_Level]:
        """Heed what v1 says of the whole hierarchy, also of levels that aren't mounted."""
        effective = self._stat(own, "hierarchical_memory_limit", default=-1)
        if effective < 0:
            return levels
        # Without memory.use_hierarchy (kernels before 5.11) a group above may have a limit that doesn't bind those below.
        binding = levels[:1]
        for level in levels[1:]:
            binds = level.limit_bytes is None or level.limit_bytes >= effective
            binding.append(level if binds else _Level(None, "", level.used_bytes))
        tightest = min((level.limit_bytes for level in binding if level.limit_bytes is not None), default=None)
        if effective < _NO_LIMIT_BYTES and (tightest is None or effective < tightest):
            self._remark("the limit is set on a group that can't be seen; the use is that of the process's own group")
            binding.insert(0, _Level(effective, "hierarchical_memory_limit", levels[0].used_bytes))
        return binding

    def _tightest(self, levels: list[_Level]) -> tuple[int | None, int | None]:
        limited = [(level.limit_bytes, level) for level in levels if level.limit_bytes is not None]
        if not limited:
            if not self._remarks:
                self._remark("none limits the memory")
            return None, next((level.used_bytes for level in levels if level.used_bytes is not None), None)
        limit_bytes, tightest = min(limited, key=lambda pair: pair[0])
        if tightest.set_by == "memory.high":
            self._remark("the limit is memory.high: beyond it the kernel slows the process down, but doesn't kill it")
        if tightest.used_bytes is None:
            self._remark("the use of the group that bears the limit can't be read")
            return limit_bytes, None
        room_bytes = limit_bytes - tightest.used_bytes
        for other_bytes, level in limited:
            if level.used_bytes is not None and other_bytes - level.used_bytes < room_bytes:
                self._remark(f"a group above has less room: {level.used_bytes:,} of {other_bytes:,} bytes are used")
                break
        return limit_bytes, tightest.used_bytes

    # Files

    def _stat(self, directory: Path, *names: str, default: int) -> int:
        """The first of *names* that ``memory.stat`` holds."""
        rows = self._stats.get(directory)
        if rows is None:  # v1 asks twice
            rows = self._stats[directory] = dict(_pairs(self._text(directory / "memory.stat") or ""))
        for name in names:
            value = _whole(rows.get(name, ""))
            if value is not None:
                return value
        return default

    def _number(self, path: Path) -> int | None:
        """The number that a file holds; None for ``max`` and where there is no such file."""
        text = self._text(path)
        if text is None or text.strip() == "max":
            return None
        value = _whole(text.strip())
        if value is None:
            self._remark(f"{path.name} holds no number")
        return value

    def _text(self, path: Path, most_bytes: int = _MOST_READ_BYTES) -> str | None:
        try:
            with open(path, "rb") as file:
                return os.fsdecode(file.read(most_bytes))
        except (FileNotFoundError, NotADirectoryError):
            return None  # the root group has no limit and no use of its own
        except (OSError, ValueError) as error:
            self._remark(f"{path.name} can't be read ({getattr(error, 'strerror', None) or type(error).__name__})")
            return None

    def _remark(self, text: str) -> None:
        if text not in self._remarks:
            self._remarks.append(text)

    def _note(self) -> str:
        return "control group: " + "; ".join(self._remarks) if self._remarks else ""


def _below(path: str, mount_root: str) -> PurePosixPath | None:
    """*path* relative to *mount_root*; None when it isn't inside, or goes up (seen from another namespace)."""
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(mount_root):
        return None
    return group.relative_to(mount_root)


def _unescaped(field: str) -> str:
    """A path of mountinfo, where blanks and backslashes are octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        yield name, value.strip()


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
