"""Where a line of code belongs, how a stack reads, and where a cached value was *built*.

The one who puts a value into a cache is often not the one who spent the memory: tracemalloc knows which line did.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from cachescope.core.faults import swallow

if TYPE_CHECKING:
    from cachescope.core.sites import Sites

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PATHS = sysconfig.get_paths()
_STANDARD_LIBRARY = tuple({os.path.join(_PATHS[name], "") for name in ("stdlib", "platstdlib")})
_SCRIPTS = os.path.join(_PATHS["scripts"], "")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_LOOPS = {
    os.path.join("asyncio", "events.py"): ("_run",),
    os.path.join("asyncio", "base_events.py"): ("_run_once", "run_forever", "run_until_complete"),
    os.path.join("asyncio", "runners.py"): ("run",),
    os.path.join("trio", "_core", "_run.py"): ("unrolled_run",),
}
"""Functions that run an event loop: they haven't called what runs in it."""

plumbing_folders: list[str] = [_OURS]
"""Folders whose frames are never a call site: ours, and those of the cache libraries that adapters know."""
OVERFLOW = 1
"""The number of all sites that came when the table was full."""
APPLICATION, LIBRARY, STANDARD, PLUMBING = range(4)
"""Whose code it is; the lower, the more it tells."""
_LONGEST = 256
"""Characters of a file's or function's name; generated ones have no end."""
Frames = tuple[tuple[str, int], ...]
"""A traceback as tracemalloc keeps it: (file, line), nearest first."""


class File(NamedTuple):
    """What is known of the file that code comes from; *loops* are those of its functions that run an event loop."""

    rank: int
    name: str
    package: str
    loops: tuple[str, ...] = ()


class Step(NamedTuple):
    """A line in a stack; *function* is ``""`` where it isn't known."""

    file: File
    line: int
    function: str

    def text(self) -> str:
        """``shop/users.py:14 load_user``."""
        where = f"{self.file.name}:{self.line}"
        if len(self.function) > _LONGEST:
            return f"{where} {self.function[: _LONGEST - 1]}…"
        return f"{where} {self.function}" if self.function else where


class Names:
    """What sites and origins share: whose files are whose, and of each text one copy.

    At most *limit* files, whose names are cut to 256 characters, and the texts that were asked to be kept.
    """

    __slots__ = ("_files", "_folders", "_texts", "bytes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._files: dict[str, File] = {}
        self._folders = 0
        self._texts: dict[str, str] = {}

    def file(self, filename: str, namespace: dict[str, object] | None = None) -> File:
        """Whose code it is; that of no file (``<string>``) is the module's in whose *namespace* it runs."""
        if filename.startswith("<") and not filename.startswith("<frozen"):
            home = None if namespace is None else dict.get(namespace, "__file__")
            if not isinstance(home, str) or home.startswith("<"):
                return File(APPLICATION, _cut(filename), "")
            owner = self.file(home)
            return File(owner.rank, _cut(filename), owner.package)
        if len(plumbing_folders) != self._folders or len(self._files) >= self.limit:
            self._folders, self._files = len(plumbing_folders), {}
        file = self._files.get(filename)
        if file is None:
            loops = next((found for ending, found in _LOOPS.items() if filename.endswith(ending)), ())
            file = File(_rank_of(filename), _cut(short_path(filename)) or "<unknown>", _package_of(filename), loops)
            if len(filename) <= _LONGEST:
                self._files[filename] = file
        return file

    def intern(self, text: str) -> str:
        """The one copy of *text*."""
        if text not in self._texts:
            self.bytes += 120 + sys.getsizeof(text)
        return self._texts.setdefault(text, text)

    def fold(self, steps: Iterable[Step], depth: int, home: str) -> tuple[str, ...]:
        """A stack from its nearest line on: the application's lines, and what lies between as ``[3 frames in flask]``.

        Args:
            steps: Nearest first; it ends at an event loop.
            depth: Lines of the application at most.
            home: A library that is taken for the application, ``""`` for none.
        """
        out: list[str] = []
        between: list[File] = []
        for step in steps:
            file = step.file
            if step.function.rpartition(".")[2] in file.loops:
                return (*out, *self._between(between), self.intern("[event loop]"))
            if out and file.rank != APPLICATION and (not home or file.package != home):
                between.append(file)
                continue
            text = step.text()
            if between or out[-1:] != [text]:  # a recursion is told once
                out += [*self._between(between), self.intern(text)]
                between, depth = [], depth - 1
            if depth <= 0:
                break
        return (*out, *self._between(between))

    def _between(self, files: list[File]) -> tuple[str, ...]:
        """One entry for a run of frames: it is named for the library that the application called."""
        shown = [file for file in files if file.package]
        if not shown:
            return ()
        outermost = next((file for file in reversed(shown) if file.rank == LIBRARY), shown[-1])
        return (self.intern(f"[{len(shown)} frame{'s' * (len(shown) > 1)} in {outermost.package}]"),)


class Origin:
    """One line that was seen to build values.

    Attributes:
        text: ``shop/users.py:14`` (tracemalloc knows no functions); the application's, or failing that a library's.
        stack: It and its callers when it was first seen, nearest first; runs of library frames are one entry.
    """

    __slots__ = ("stack", "text")

    def __init__(self, text: str, stack: tuple[str, ...]) -> None:
        self.text, self.stack = text, stack


class Origins:
    """The lines that built cached values, numbered like sites; at most *limit* of them, and as many known tracebacks.

    Measured (CPU time, 3.11): asking for a known traceback takes 0.3 us while tracemalloc keeps 1 frame, 0.9 us with 10 and
    3.5 us with 25, for each frame of the answer is made anew, and itself traced; 0.1 us when there is none.

    Args:
        sites: Those that these are joined with; names and texts are shared.
        limit: Origins kept; later ones share the number :data:`OVERFLOW`.

    Attributes:
        known: Every origin by its number.
        overflowed: How many tracebacks were given :data:`OVERFLOW`; one that was forgotten counts again.
    """

    __slots__ = ("_by_text", "_numbers", "_serials", "_traceback_of", "known", "limit", "overflowed", "sites")

    def __init__(self, sites: Sites, limit: int = 4_096) -> None:
        self.sites, self.limit = sites, limit
        self.known: dict[int, Origin] = {OVERFLOW: Origin("overflow", ())}
        self.overflowed = 0
        self._serials = count(OVERFLOW + 1)
        self._by_text: dict[str, int] = {}
        self._numbers: dict[Frames, int] = {}
        self._traceback_of = _reader()
        sites.origins = self.known

    def of(self, value: object) -> int:
        """The number of the line that built *value*, for :meth:`~cachescope.core.sites.Sites.joined`.

        Of a container it is the line that made the container. 0 when that isn't known: the value was built before tracing
        began, or isn't built at all (None, small integers, constants of code that was loaded before), or is a list, dict,
        tuple or float on one of the few blocks that Python had put by for such before tracing began.
        """
        try:
            frames = self._traceback_of(value)
            if not frames:
                return 0
            number = self._numbers.get(frames)
            return self._learn(frames) if number is None else number
        except Exception as error:
            swallow("origin", error)
            return 0

    def text(self, number: int) -> str:
        """The line in words; ``""`` for not known."""
        origin = self.known.get(number)
        return "" if origin is None else origin.text

    def memory_bytes(self) -> int:
        """An estimate of the memory that all of this takes, without the names that it shares with the sites."""
        frames = sum(map(len, list(self._numbers)))
        return 300 * len(self.known) + 160 * len(self._numbers) + 96 * frames

    def _learn(self, frames: Frames) -> int:
        number = self._number(frames)
        if len(self._numbers) >= self.limit:
            self._numbers = {}
        if all(len(filename) <= _LONGEST for filename, _ in frames):
            self._numbers[frames] = number
        return number

    def _number(self, frames: Frames) -> int:
        names = self.sites.names
        steps = [Step(names.file(filename), line, "") for filename, line in frames if filename != "<unknown>"]
        best = min((step.file.rank for step in steps), default=PLUMBING)
        if best == PLUMBING:
            return 0
        while steps[0].file.rank != best:
            del steps[0]
        text = steps[0].text()
        number = self._by_text.get(text)
        if number is not None:
            return number
        if len(self.known) >= self.limit or names.bytes >= self.sites.most_bytes:
            self.overflowed += 1
            return OVERFLOW
        home = steps[0].file.package if best == LIBRARY else ""
        number = next(self._serials)
        self.known[number] = Origin(names.intern(text), names.fold(steps, self.sites.depth, home))
        first = self._by_text.setdefault(text, number)
        if first != number:  # another thread was faster
            del self.known[number]
        return first


def _reader() -> Callable[[object], Frames | None]:
    """What gives a value's traceback, nearest frame first.

    The function below tracemalloc's own is used where it is there: a Traceback is hashed and compared in Python, which
    costs more than all the rest.
    """
    try:
        from _tracemalloc import _get_object_traceback

        reader: Callable[[object], Any] = _get_object_traceback
    except ImportError:
        from tracemalloc import get_object_traceback

        def reader(value: object) -> Any:
            found = get_object_traceback(value)
            return found and tuple((frame.filename, frame.lineno) for frame in reversed(found))

    return reader


def _rank_of(filename: str) -> int:
    if is_plumbing(filename):
        return PLUMBING if filename.startswith(tuple(plumbing_folders)) else STANDARD
    installed = filename.startswith(_SCRIPTS) or any(part in filename for part in _INSTALLED)
    return LIBRARY if installed else APPLICATION


def _package_of(filename: str) -> str:
    """``flask`` for what is installed as that, ``asyncio`` for what comes with Python; ``""`` for ours."""
    if filename.startswith(_OURS):
        return ""
    if filename.startswith("<frozen "):
        return filename[8:].rstrip(">").partition(".")[0]
    for folder in _INSTALLED:
        filename = filename.rpartition(folder)[2]
    for folder in (*_STANDARD_LIBRARY, _SCRIPTS):
        filename = filename.removeprefix(folder)
    return filename.partition(os.sep)[0].removesuffix(".py")[:_LONGEST]


def _cut(name: str) -> str:
    """The end of a long name of a file: that tells most."""
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def is_plumbing(filename: str) -> bool:
    """Whether code in *filename* is cachescope's, a cache library's or the standard library's."""
    if filename.startswith(("<frozen", *plumbing_folders)):
        return True
    return filename.startswith(_STANDARD_LIBRARY) and not any(part in filename for part in _INSTALLED)


def short_path(filename: str) -> str:
    """The shortest of *filename* relative to the working folder and to the folders of ``sys.path``."""
    best = filename
    try:
        roots = [os.getcwd(), *(p for p in sys.path if isinstance(p, str) and p)]
    except OSError:  # the working folder was removed
        roots = []
    for root in roots:
        if filename.startswith(root):
            prefix = os.path.join(root, "")
            if len(prefix) > 1 and filename.startswith(prefix) and len(filename) - len(prefix) < len(best):
                best = filename[len(prefix) :]
    return best
