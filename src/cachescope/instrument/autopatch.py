"""Auto-patching: hooks on a library's classes, so that every cache of it is seen, made before or after.

Where a library's decorators keep results in a plain dict, what makes the decorated functions is replaced as well.

Patching walks the table that undoing walks back. A class patch is shared by all profilers of the process, of which one at
a time owns a library.
"""

from __future__ import annotations

import logging
import sys
import threading
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

import wrapt

from cachescope.adapters.contract import Adapter, Patch, adapters
from cachescope.core.errors import ConfigurationError
from cachescope.core.faults import swallow
from cachescope.core.hooks import Meet, is_hook, make_hook, unhooked
from cachescope.core.lifecycle import renew_after_fork
from cachescope.core.registry import CacheRegistry
from cachescope.instrument import stand_ins
from cachescope.instrument.binding import INERT, Home, detach, home_of, meeting, registry_of

_log = logging.getLogger("cachescope")
_ABSENT: Any = object()
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


renew_after_fork(_renew_lock)
_patched: dict[str, PatchedLibrary] = {}
_waiting: set[str] = set()


class PatchRow(NamedTuple):
    """A library as ``cachescope doctor`` shows it.

    ``state`` is ``patched``, ``waiting for import``, ``not patched``, ``not installed``, ``unsupported version`` or
    ``failed: why``.
    """

    library: str
    version: str
    state: str
    detail: str


class PatchedLibrary:
    """The hooks on one library's classes, and what replaces its functions."""

    def __init__(self, adapter: Adapter, home: Home) -> None:
        self.adapter, self.home = adapter, home
        self.failure = ""
        self._installed: list[tuple[Any, str, Any, Any]] = []
        meet = meeting(home, adapter)
        # A hook that another tool's wrapper keeps in place after the undo meets nobody.
        self._meet: Meet = lambda obj: INERT if self._undone else meet(obj)
        self._undone = False
        self._root: type | None = None

    def install(self) -> None:
        """Replace every method of the adapter's table by its hook."""
        try:
            for patch in list(self.adapter.patches()):
                self._root = self._root or patch.owner
                self._replace(patch)
            if self._root is not None:
                self._follow_subclasses(self._root)
            self._replace_functions()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            swallow(f"patching {self.adapter.name}", error)
            self.undo()

    def _replace_functions(self) -> None:
        """Replace what makes decorated functions, where the adapter names it, so that plain dicts get stand-ins."""
        name = self.adapter.name
        functions = getattr(self.adapter, "functions", None)
        if functions is None:
            return
        stand_ins.open_for(name, self.home)
        for patch in list(functions()):
            raw = vars(patch.owner)[patch.name]
            made = patch.replacement(raw, partial(stand_ins.stand_in, name))
            setattr(patch.owner, patch.name, made)
            self._installed.append((patch.owner, patch.name, raw, made))

    def _replace(self, patch: Patch) -> None:
        raw = vars(patch.owner).get(patch.method, _ABSENT)
        if is_hook(raw):  # an inert one, that somebody's wrapper once on top of it has put back
            raw = unhooked(raw)
        original = getattr(patch.owner, patch.method) if raw is _ABSENT else raw
        hook = make_hook(patch.kind, original, self._meet)
        setattr(patch.owner, patch.method, hook)
        self._installed.append((patch.owner, patch.method, raw, hook))

    def _follow_subclasses(self, root: type) -> None:
        """Patch a subclass when it is defined, if it overrides what is hooked."""
        raw = vars(root).get("__init_subclass__", _ABSENT)
        library = self

        def __init_subclass__(cls: Any, /, **kwargs: Any) -> None:
            if raw is _ABSENT:
                super(root, cls).__init_subclass__(**kwargs)  # type: ignore[arg-type]  # root is a class
            else:
                raw.__get__(None, cls)(**kwargs)
            library._meet_subclass(cls)

        installed: Any = classmethod(__init_subclass__)
        root.__init_subclass__ = installed  # type: ignore[method-assign]  # a class method by any other name
        self._installed.append((root, "__init_subclass__", raw, vars(root)["__init_subclass__"]))

    def _meet_subclass(self, cls: type) -> None:
        if self.home.registry is None or "_cachescope_made" in vars(cls):
            return
        try:
            for patch in list(self.adapter.later_patches(cls)):
                self._replace(patch)
        except Exception as error:
            swallow(f"patching {cls.__name__}", error)

    def undo(self) -> None:
        """Put every method back, the last one first; leave what somebody else has put on top, switched off."""
        self._undone = True
        stand_ins.close_for(self.adapter.name)
        while self._installed:
            owner, method, raw, hook = self._installed.pop()
            if vars(owner).get(method) is not hook:
                continue  # another tool's wrapper is on top: taking it off would take theirs too; our hook goes inert
            try:
                if raw is _ABSENT:
                    delattr(owner, method)
                else:
                    setattr(owner, method, raw)
            except Exception as error:
                swallow(f"restoring {owner.__name__}.{method}", error)


class AutopatchHandle:
    """What :func:`autopatch` gives: ends it by :meth:`undo`, or as a context manager."""

    def __init__(self, libraries: tuple[str, ...]) -> None:
        self.libraries = libraries

    def undo(self) -> None:
        """Restore these libraries' classes; their caches are not profiled any more."""
        unpatch(*self.libraries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<autopatch of {', '.join(self.libraries) or 'nothing'}>"


def autopatch(*libraries: str, exclude: tuple[str, ...] | str = (), profiler: Any = None) -> AutopatchHandle:
    """Profile every cache of the libraries that cachescope knows, now and when they are imported later.

    Args:
        libraries: Names such as ``"cachetools"``; none means all that can be patched by class.
        exclude: Names to leave alone.
        profiler: Whose caches they will be; None means the process's, which is started if need be.

    Returns:
        A handle: ``handle.undo()``, or ``with autopatch(): ...``.

    Raises:
        ConfigurationError: A name is not known, a library that was asked for by name isn't installed, or it is patched
            for another profiler already.
    """
    known = patchable()
    excluded = {exclude} if isinstance(exclude, str) else set(exclude)
    for name in (*libraries, *excluded):
        if name not in known:
            raise ConfigurationError(f"library {name!r} is not known; expected one of: {', '.join(sorted(known))}")
    registry = registry_of(profiler)
    home = home_of(registry)
    chosen = tuple(name for name in (libraries or known) if name not in excluded)
    for name in libraries:
        if name in chosen and _version(known[name]) == "":
            raise ConfigurationError(f"library {name!r} is not installed; install it, or leave it out of autopatch()")
    with _lock:
        for name in chosen:
            other = _patched.get(name)
            if other is not None and other.home is not home and other.home.registry is not None:
                raise ConfigurationError(
                    f"{name} is patched for another profiler already; undo that first: unpatch({name!r})"
                )
        for name in chosen:
            _patch(known[name], home)
    return AutopatchHandle(chosen)


def unpatch(*libraries: str) -> None:
    """Restore the classes of *libraries*, or of all that are patched; their hooks go inert wherever they were kept."""
    with _lock:
        for name in libraries or tuple({*_patched, *_waiting}):
            _waiting.discard(name)
            library = _patched.pop(name, None)
            if library is not None:
                library.undo()
                registry = library.home.registry
                if registry is not None:
                    _expel_patched(registry, library)
                library.home = Home()


def _expel_patched(registry: CacheRegistry, library: PatchedLibrary) -> None:
    """Let go of the objects that only the class patch has hooked."""
    for record in list(registry.records.values()):
        for state in record.live_states():
            admission = state.admission
            made = getattr(type(state.target()), "_cachescope_made", False)
            if admission is not None and admission.adapter is library.adapter and not made and not admission.by_hand:
                registry.expel(state)
                detach(state.target())


def profiler_stopped(registry: CacheRegistry) -> None:
    """Nothing to do with classes: their hooks find no registry and go inert; the next start finds them in place."""
    del registry


def patchable() -> dict[str, Adapter]:
    """The adapters whose library can be patched by class."""
    return {name: adapter for name, adapter in adapters().items() if adapter.module is not None}


def patch_report() -> tuple[PatchRow, ...]:
    """What is patched, what is not, and why."""
    rows = []
    for name, adapter in patchable().items():
        version = _version(adapter)
        library = _patched.get(name)
        if not version:
            state = "not installed"
        elif library is not None and library.failure:
            state = f"failed: {library.failure}"
        elif library is not None:
            state = "patched"
        elif name in _waiting:
            state = "waiting for import"
        else:
            state = "not patched"
        if version and not _is_supported(adapter, version):
            low, high = (".".join(map(str, bound)) for bound in adapter.supported)
            state = f"{state} (unsupported version: tested from {low} to below {high})"
        rows.append(PatchRow(name, version, state, "; ".join(adapter.cannot_see)))
    return tuple(rows)


def _patch(adapter: Adapter, home: Home) -> None:
    known = _patched.get(adapter.name)
    if known is not None:
        if known.home is home:
            return
        known.undo()
        del _patched[adapter.name]
    if adapter.module in sys.modules:
        _install(adapter, home)
        return
    _waiting.add(adapter.name)

    def when_imported(module: Any) -> None:
        try:
            with _lock:
                if adapter.name in _waiting:
                    _waiting.discard(adapter.name)
                    _install(adapter, home)
        except Exception as error:  # raised here, it would break the user's import
            swallow(f"patching {adapter.name}", error)

    wrapt.register_post_import_hook(when_imported, adapter.module or "")


def _install(adapter: Adapter, home: Home) -> None:
    library = PatchedLibrary(adapter, home)
    _patched[adapter.name] = library
    library.install()
    if library.failure:
        _log.warning("%s could not be patched: %s", adapter.name, library.failure)


def _version(adapter: Adapter) -> str:
    from importlib import metadata  # 20 ms, which a program that only imports us need not pay

    try:
        return metadata.version(adapter.distribution or adapter.name)
    except metadata.PackageNotFoundError:
        module = sys.modules.get(adapter.module or "")
        return str(getattr(module, "__version__", "")) if module is not None else ""


def _is_supported(adapter: Adapter, version: str) -> bool:
    digits = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    return adapter.supported[0] <= digits < adapter.supported[1]
