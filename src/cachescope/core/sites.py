"""Call sites: which line of the application's code filled a cache, and stacks that a person can read.

A line is recognised by ``id(code) + f_lasti``: unique while the code object lives, for the bytecode is embedded in it,
and ten times cheaper than hashing a code object (measured: 133 to 4,840 ns). These marks never leave this module: a mark
leads to a *number*, and a number is given once and for all to one text such as ``shop/users.py:14 load_user``. So marks
may be forgotten whenever there are too many, and the code objects with them (generated code: one for each function that
was ever made), while what was counted under a number stays right; the same text gets the same number again.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from itertools import count
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any

from cachescope.core.faults import swallow
from cachescope.core.origins import (
    APPLICATION,
    LIBRARY,
    OVERFLOW,
    PLUMBING,
    File,
    Names,
    Step,
    is_plumbing,
    plumbing_folders,
    short_path,
)

if TYPE_CHECKING:
    from cachescope.core.origins import Origin

__all__ = ["OVERFLOW", "Site", "Sites", "is_plumbing", "plumbing_folders", "short_path"]

_FARTHEST = 256
"""Frames looked at for the application's, and for a stack."""
_SETTLED = 256
"""A library's function that called caches so often without the application above it is taken for the application's."""
_METHOD = File(PLUMBING, "", "")
"""Where methods of cache classes are from, wherever that is: they are not shown."""


class Site:
    """One line that was seen to fill or ask a cache.

    Attributes:
        text: ``shop/users.py:14 load_user``; of the application, or of a library when there is no application above it.
        stack: It and its callers when it was first seen, nearest first; runs of library frames are one entry.
        built_at: Where the value was built that it put there, ``""`` for not known (see
            :mod:`cachescope.core.origins`).
        built_stack: That line and its callers.
    """

    __slots__ = ("built_at", "built_stack", "stack", "text")

    def __init__(
        self, text: str, stack: tuple[str, ...], built_at: str = "", built_stack: tuple[str, ...] = ()
    ) -> None:
        self.text, self.stack = text, stack
        self.built_at, self.built_stack = built_at, built_stack


class _Marks:
    """Marks that are known, and the code objects that must live as long as they are."""

    __slots__ = ("alone", "bytes", "codes", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.codes: dict[int, CodeType] = {}
        self.alone: dict[int, int] = {}
        self.bytes = 0

    def hold(self, code: CodeType, size_bytes: int) -> None:
        """Keep a code object alive, so that nothing else gets its address."""
        if id(code) not in self.codes:
            self.codes[id(code)] = code
            self.bytes += size_bytes


class Sites:
    """The sites of one process, numbered. Takes no lock; what two threads learn at once gets one number.

    At most *limit* sites in about *most_bytes*, at most twice as many marks, whose code objects take at most as much
    again. Measured (CPU time, 3.11 and 3.13): a known line takes 320 and 410 ns with two frames of ours between it and the
    question, and 140 to 190 ns for each frame more; a new one takes 8 to 20 us, however many there were before.

    Args:
        limit: Sites kept; later ones share the number :data:`OVERFLOW`.
        depth: Frames of the application kept in a stack.
        most_bytes: Memory for texts and stacks; sites that come later share :data:`OVERFLOW` as well.

    Attributes:
        known: Every site by its number.
        origins: What the numbers of origins stand for; :class:`~cachescope.core.origins.Origins` puts it here.
        overflowed: How many lines were given :data:`OVERFLOW`; one whose mark was forgotten counts again.
        unjoined: How often :meth:`joined` had no room to say where a value was built.
    """

    __slots__ = (
        "_by_text",
        "_joined",
        "_joins",
        "_marks",
        "_method_classes",
        "_methods",
        "_numbers",
        "_passed",
        "_serials",
        "depth",
        "known",
        "limit",
        "most_bytes",
        "names",
        "origins",
        "overflowed",
        "unjoined",
    )

    def __init__(self, limit: int = 4_096, depth: int = 6, most_bytes: int = 4 << 20) -> None:
        self.limit, self.depth, self.most_bytes = limit, depth, most_bytes
        self.names = Names(limit)
        self.known: dict[int, Site] = {OVERFLOW: Site("overflow", ())}
        self.origins: Mapping[int, Origin] = {}
        self.overflowed = self.unjoined = 0
        self._serials = count(OVERFLOW + 1)
        self._by_text: dict[str, int] = {}
        self._joins: dict[int, dict[int, int]] = {}
        self._joined = 0
        self._marks = _Marks()
        self._numbers = self._marks.numbers
        self._passed: dict[int, CodeType] = {}
        self._methods: dict[int, CodeType] = {}
        self._method_classes: weakref.WeakSet[type] = weakref.WeakSet()

    def here(self, level: int = 1) -> int:
        """The number of the application's nearest line, from *level* frames up; 0 when there is none."""
        try:
            start = sys._getframe(level + 1)
            frame: FrameType | None = start
            passed = self._passed
            while frame is not None:
                mark = id(frame.f_code)
                if mark not in passed:
                    number = self._numbers.get(mark + frame.f_lasti)
                    return self._find(start) if number is None else number
                frame = frame.f_back
            return self._find(start)
        except Exception as error:
            swallow("call site", error)
            return 0

    def joined(self, site: int, origin: int) -> int:
        """The number of the site that stands for both: who put a value into a cache, and where it was built.

        At most half of the table goes to these; beyond, it is *site* itself.

        Args:
            site: What :meth:`here` gave.
            origin: What :meth:`~cachescope.core.origins.Origins.of` gave; with 0 it is *site* itself.
        """
        if not origin:
            return site
        # Not by a pair: under tracemalloc each object that is made costs microseconds.
        by_site = self._joins.get(origin)
        number = None if by_site is None else by_site.get(site)
        return self._join(site, origin) if number is None else number

    def skip_methods(self, cls: type) -> None:
        """Take the methods of a cache's class for plumbing: the line that called them is what is asked for."""
        try:
            for owner in cls.__mro__:
                if owner in self._method_classes or len(self._methods) >= 4 * self.limit:
                    continue
                self._method_classes.add(owner)
                for code in _codes_of(owner):
                    self._methods[id(code)] = self._passed[id(code)] = code
        except Exception as error:  # a metaclass may do anything
            swallow("call site", error)

    def memory_bytes(self) -> int:
        """An estimate of the memory that all of this takes."""
        marks = self._marks
        held = marks.bytes + 110 * (len(marks.numbers) + len(marks.alone) + len(self._passed) + len(self._methods))
        return self.names.bytes + held + 400 * len(self.known) + 300 * len(self._joins)

    # What isn't known yet

    def _find(self, start: FrameType) -> int:
        """What :meth:`here` gives when it meets something new, or nothing of the application."""
        marks = self._marks
        nearest, best = start, PLUMBING + 1
        libraries: list[CodeType] = []
        frame: FrameType | None = start
        for _ in range(_FARTHEST):
            if frame is None:
                break
            code = frame.f_code
            file = self._file(frame)
            if file.rank == APPLICATION or marks.alone.get(id(code), 0) >= _SETTLED:
                for library in libraries if len(marks.codes) < 4 * self.limit else ():
                    marks.hold(library, 0)
                    marks.alone[id(library)] = -sys.maxsize  # it has the application above it
                return self._number(frame, id(code) + frame.f_lasti, "")
            if code.co_name in file.loops:
                break  # what runs an event loop has not called what runs in it
            self._pass(code)
            if file.rank == LIBRARY:
                libraries.append(code)
            if file.rank < best:
                nearest, best = frame, file.rank
            frame = frame.f_back
        return self._without_application(nearest, best)

    def _without_application(self, nearest: FrameType, rank: int) -> int:
        """The number of the nearest line that is a library's, or failing that anybody's."""
        code = nearest.f_code
        package = self._file(nearest).package if rank == LIBRARY else ""
        # Such a line counts only where no application is above it: it has a mark of its own, odd as no offset is.
        number = self._number(nearest, id(code) + nearest.f_lasti + 1, package)
        marks = self._marks
        if rank == LIBRARY and id(code) in marks.codes:
            times = marks.alone.get(id(code), 0) + 1
            marks.alone[id(code)] = times
            if times >= _SETTLED:  # an application that is installed: look no further from now on
                self._passed.pop(id(code), None)
        return number

    def _number(self, frame: FrameType, mark: int, package: str) -> int:
        number = self._marks.numbers.get(mark)
        if number is None:
            number = self._learn(frame, package)
            self._remember(mark, frame.f_code, number)
        return number

    def _remember(self, mark: int, code: CodeType, number: int) -> None:
        marks = self._marks
        size_bytes = _size_of(code)
        if len(marks.numbers) >= 2 * self.limit or marks.bytes + size_bytes > self.most_bytes:
            marks = _Marks()
            self._numbers = marks.numbers  # first: the old marks hold the code objects of the old numbers
            self._marks = marks
        if size_bytes <= self.most_bytes:
            marks.hold(code, size_bytes)  # first: a number whose code object may die is another's tomorrow
            marks.numbers[mark] = number

    def _learn(self, frame: FrameType, package: str) -> int:
        text = self._step(frame).text()
        number = self._by_text.get(text)
        if number is not None:
            return number
        if self._is_full():
            self.overflowed += 1
            return OVERFLOW
        text = self.names.intern(text)
        stack = self.names.fold(self._steps(frame), self.depth, package)
        number = next(self._serials)
        self.known[number] = Site(text, stack)
        first = self._by_text.setdefault(text, number)
        if first != number:  # another thread was faster
            del self.known[number]
        return first

    def _join(self, site: int, origin: int) -> int:
        who, where = self.known.get(site), self.origins.get(origin)
        if where is None or self._joined >= self.limit // 2 or self._is_full():
            self.unjoined += 1
            return site
        number = next(self._serials)
        text, stack = ("", ()) if who is None else (who.text, who.stack)
        self.known[number] = Site(text, stack, where.text, where.stack)
        first = self._joins.setdefault(origin, {}).setdefault(site, number)
        if first != number:
            del self.known[number]
        else:
            self._joined += 1
        return first

    def _is_full(self) -> bool:
        return len(self.known) >= self.limit or self.names.bytes + 400 * len(self.known) >= self.most_bytes

    # Frames

    def _pass(self, code: CodeType) -> None:
        if len(self._passed) >= 4 * self.limit:
            self._passed = dict(self._methods)
        self._passed[id(code)] = code

    def _file(self, frame: FrameType) -> File:
        if id(frame.f_code) in self._methods:
            return _METHOD
        return self.names.file(frame.f_code.co_filename, frame.f_globals)

    def _step(self, frame: FrameType) -> Step:
        code = frame.f_code
        return Step(self._file(frame), frame.f_lineno or code.co_firstlineno, code.co_qualname)

    def _steps(self, frame: FrameType) -> Iterator[Step]:
        caller: FrameType | None = frame
        for _ in range(_FARTHEST):
            if caller is None:
                return
            yield self._step(caller)
            caller = caller.f_back


def _codes_of(cls: type) -> Iterator[CodeType]:
    """The code of what a class itself defines; none of its descriptors runs."""
    for held in list(vars(cls).values()):
        parts: tuple[Any, ...] = (held.fget, held.fset, held.fdel) if type(held) is property else (held,)
        for part in parts:
            function = part.__func__ if type(part) in (classmethod, staticmethod) else part
            if type(function) is FunctionType:
                yield function.__code__


def _size_of(code: CodeType) -> int:
    """Bytes that keeping *code* may keep from being freed: its own and those of its constants, one level deep."""
    return 400 + sys.getsizeof(code) + sum(map(sys.getsizeof, code.co_consts))
