"""``@cachetools.cached`` and ``@cachedmethod`` over a plain dict, which no hook on the library's classes sees.

What they call to make a decorated function is replaced, not they: it is looked up at each decoration, so that a
``cached`` imported before the patch is seen too. Functions decorated before it are not.

The library is given a *stand-in* for the dict, and the user goes on seeing the dict:

* 5 to 7 make closures over what they are given; ``f.cache`` is an attribute beside it, and is set back to the dict.
* 8 makes objects that read ``self.cache`` at each call. Theirs gets a subclass whose methods are the library's own code,
  reading another attribute: same lines in tracebacks, no frame more. ``f.cache = other`` goes on working.
* ``cachedmethod`` asks for a cache at each call. What stands for it must live exactly as long as the instance does; only
  8 has an object that does, so before 8 its plain dicts are not seen.

A load's duration is not measured here: a clock around the function would be a frame in its tracebacks. It is sampled
as elsewhere, from a miss to the set that follows.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import update_wrapper
from types import FunctionType
from typing import Any, NamedTuple

from cachescope.core.faults import swallow

StandIn = Callable[[Any, Any], Any]
"""A function of a cache and the function that it is for; gives the cache itself if nothing is to stand for it."""

_READ = "_cachescope_cache"
"""What the library's own code reads in our subclasses in place of ``cache``."""
_REWRITTEN = ("__call__", "cache_clear")
"""``cache_info`` goes on looking at the dict."""
_twins: dict[type, type] = {}


class FunctionPatch(NamedTuple):
    """One function of one module, to be replaced."""

    owner: Any
    name: str
    replacement: Callable[[Any, StandIn], Any]
    """Makes what replaces it of the original and what gives stand-ins."""


def function_patches() -> Iterator[FunctionPatch]:
    """What this version of the library calls to make decorated functions."""
    library = sys.modules["cachetools"]
    if hasattr(library, "_cached_wrapper"):  # 5
        yield FunctionPatch(library, "_cached_wrapper", _for_functions)
        return
    for name, replacement in (("_cached", _for_functions), ("_cachedmethod", _for_methods)):
        try:
            module = importlib.import_module(f"cachetools.{name}")  # it would be at the first decoration
        except ImportError as error:  # a version to come: plain dicts stay unseen, all else works
            swallow(f"looking for cachetools.{name}", error)
            continue
        if isinstance(vars(module).get("_wrapper"), FunctionType):
            yield FunctionPatch(module, "_wrapper", replacement)


def _for_functions(original: Any, stand_in: StandIn) -> Any:
    def _wrapper(*args: Any, **kwargs: Any) -> Any:
        function, cache = args[:2] if len(args) > 1 else (None, None)
        standing = stand_in(cache, function)
        if standing is cache:
            return original(*args, **kwargs)
        if _reads_its_attribute(original):
            return _watched(original(*args, **kwargs), _FunctionTwin, lambda new: stand_in(new, function))
        made = original(function, standing, *args[2:], **kwargs)
        if getattr(made, "cache", None) is standing:
            made.cache = cache
        return made

    return update_wrapper(_wrapper, original)


def _for_methods(original: Any, stand_in: StandIn) -> Any:
    def _wrapper(*args: Any, **kwargs: Any) -> Any:
        descriptor = original(*args, **kwargs)
        try:
            inner = vars(descriptor).get("_MethodDescriptor__wrapper")
            if inner is not None:
                method = args[0]
                find = lambda cache: stand_in(cache, method)
                descriptor._MethodDescriptor__wrapper = lambda obj, its: _watched(inner(obj, its), _MethodTwin, find)
        except Exception as error:
            swallow("watching a method", error)
        return descriptor

    return update_wrapper(_wrapper, original)


def _reads_its_attribute(original: Any) -> bool:
    """Whether what the library makes are objects that read ``self.cache``, as from 8 on."""
    while hasattr(original, "__wrapped__"):
        original = original.__wrapped__
    return "_BasicWrapper" in getattr(getattr(original, "__code__", None), "co_names", ())


# Subclasses of what 8 makes


class _FunctionTwin:
    """What a decorated function has that the library's own has not."""

    __slots__ = ()

    @property
    def cache(self: Any) -> Any:
        try:
            return vars(self)["cache"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'cache'") from None

    @cache.setter
    def cache(self: Any, cache: Any) -> None:
        vars(self)["cache"] = cache
        setattr(self, _READ, self._cachescope_find(cache))

    @cache.deleter
    def cache(self: Any) -> None:
        if vars(self).pop("cache", self) is not self:
            delattr(self, _READ)


class _MethodTwin:
    """What the wrapper of an instance's method has that the library's own has not."""

    __slots__ = ()

    @property
    def _cachescope_cache(self: Any) -> Any:
        cache = self.cache
        held = self._cachescope_held
        if held is not None and held[0] is cache:
            return held[1]
        standing = self._cachescope_find(cache)
        self._cachescope_held = None if standing is cache else (cache, standing)
        return standing


def _watched(made: Any, twin: type, find: Callable[[Any], Any]) -> Any:
    """The library's object as one of our subclass; as it is, when that can't be made."""
    try:
        stock = type(made)
        if stock in _twins.values():  # by a patch that another tool's wrapper has kept in place
            return made
        cls = _twins.get(stock) or _twin_of(stock, twin)
        watched: Any = object.__new__(cls)
        watched.__dict__ = made.__dict__  # all that it is: nobody holds the other one
        watched._cachescope_find = find
        if twin is _FunctionTwin:
            watched.cache = made.__dict__["cache"]
        else:
            watched._cachescope_held = None
    except Exception as error:
        swallow("watching a cached function", error)
        return made
    return watched


def _twin_of(stock: type, twin: type) -> type:
    """The subclass of a class of the library's."""
    own = _READ if twin is _FunctionTwin else "_cachescope_held"
    body: dict[str, Any] = {
        "__slots__": (own, "_cachescope_find"),
        "__module__": stock.__module__,
        "__qualname__": stock.__qualname__,
        "__doc__": stock.__doc__,
        "__class__": property(lambda self: stock),
        **{method: _reading(getattr(stock, method)) for method in _REWRITTEN},
    }
    made = _twins[stock] = type(stock)(stock.__name__, (twin, stock), body)
    return made


def _reading(method: Any) -> FunctionType:
    """A method of the library's that reads :data:`_READ` where it read ``cache``.

    Raises:
        TypeError: It does not read that.
    """
    if type(method) is not FunctionType or "cache" not in method.__code__.co_names:
        raise TypeError(f"{method!r} is not as it was")
    code = method.__code__
    names = tuple(_READ if name == "cache" else name for name in code.co_names)
    function = FunctionType(
        code.replace(co_names=names), method.__globals__, method.__name__, method.__defaults__, method.__closure__
    )
    function.__kwdefaults__, function.__qualname__, function.__doc__ = (
        method.__kwdefaults__,
        method.__qualname__,
        method.__doc__,
    )
    return function
