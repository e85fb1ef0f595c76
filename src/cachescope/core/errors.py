"""Every exception that cachescope raises on purpose.

    CachescopeError
    ├── ConfigurationError   (ValueError)   a setting is wrong, or two settings contradict each other
    ├── NotACacheError       (TypeError)    instrument() was given something it can't observe
    ├── UnknownCacheError    (LookupError)  a question about a cache that nobody has named
    ├── NotCollectedError    (LookupError)  the answer needs a level or switch that is off
    └── CaptureError         (OSError-like) a capture can't be written, or isn't one that we can read

None of them is ever raised from inside a cache operation: hooks swallow and count (see ``core/faults.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CachescopeError(Exception):
    """The base of all errors that cachescope raises on purpose."""


class ConfigurationError(CachescopeError, ValueError):
    """A setting has a value that isn't allowed, or contradicts another one."""


class NotACacheError(CachescopeError, TypeError):
    """An object was handed over for profiling in which no cache operation could be recognised."""


class UnknownCacheError(CachescopeError, LookupError):
    """A question was asked about a cache name that the profiler has never seen.

    Args:
        name: The name that was asked for.
        known: The names that exist; the nearest ones are suggested.
    """

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name = name
        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.4) if isinstance(name, str) else []
        if near:
            hint = f"did you mean {', '.join(map(repr, near))}?"
        elif names:
            hint = f"known caches: {', '.join(map(repr, names[:8]))}{', …' if len(names) > 8 else ''}"
        else:
            hint = "no cache has been profiled yet: call instrument(cache, name=...), autopatch() or start_cache_profiling()"
        super().__init__(f"unknown cache {name!r}; {hint}")


class NotCollectedError(CachescopeError, LookupError):
    """The answer was not collected: the message names the level or switch that collects it."""


class CaptureError(CachescopeError):
    """A capture file can't be written, or is not one that this version can read."""
