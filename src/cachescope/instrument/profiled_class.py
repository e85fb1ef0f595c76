"""``@profiled_cache`` on a class: every instance is profiled, from when it is made, under the class's name."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from cachescope.adapters.contract import Adapter
from cachescope.core.charging import Ledger, SizingBudget
from cachescope.core.errors import ConfigurationError, NotACacheError
from cachescope.core.faults import swallow
from cachescope.core.hooks import make_hook, unhooked
from cachescope.core.sizing import Sizer
from cachescope.core.state import ATTRIBUTE, RETIRED, State
from cachescope.instrument import decoration
from cachescope.instrument.binding import INERT, Admission, admit, home_of, itself, state_on
from cachescope.instrument.decoration import Options, Owner, shown
from cachescope.instrument.naming import Origin
from cachescope.instrument.objects import find_adapter, instrument

_class_hooks: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()
"""The hooks on the methods of decorated classes."""


class _ProfiledClass:
    """Hooks on a class's own methods, and what its instances have in common.

    The class is patched rather than its instances' class exchanged, so that ``type(x)``, pickles and
    ``__init_subclass__`` are as without us. What to patch is known at the first instance, for adapters look at objects;
    a subclass that overrides what is hooked is patched at its first instance.
    """

    def __init__(self, cls: type, options: Options, where: str) -> None:
        self._cls = weakref.ref(cls)
        self._name = options.name or f"{cls.__module__}:{cls.__qualname__}"
        self._where = where
        self._operations, self._weigher = options.operations, options.weigher
        self._owner = Owner(options.profiler)
        self._adapters: weakref.WeakKeyDictionary[type, Adapter] = weakref.WeakKeyDictionary()

    def install(self, cls: Any) -> None:
        """Patch what makes instances; the rest follows when there is one."""
        original = cls.__init__
        inherited = "__init__" not in vars(cls)

        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            following = super(cls, self).__init__ if inherited else None
            if following is None:
                original(self, *args, **kwargs)
            elif getattr(following, "__objclass__", None) is not object:
                following(*args, **kwargs)
            elif (args or kwargs) and not any("__new__" in vars(base) for base in type(self).__mro__[:-1]):
                raise TypeError(f"{type(self).__name__}() takes no arguments")  # else __new__ has taken them
            type(self)._cachescope_class.welcome(self)

        try:
            cls._cachescope_class = self
            cls._cachescope_restore = staticmethod(_leave_alone)
            cls.__init__ = functools.update_wrapper(initialise, original)
        except (AttributeError, TypeError) as error:
            raise NotACacheError(f"{shown(cls)} can't be changed ({error}); subclass it and decorate that") from None

    def welcome(self, obj: Any) -> None:
        """An instance was made: profile it, if the profiler runs.

        Raises:
            NotACacheError: No cache operation was recognised in it, or only a proxy could stand for it.
        """
        state = state_on(obj)
        if state is not None and state.admission is not None and state.admission.by_hand:
            return  # met by a hook of ours while its __init__ ran, or instrumented there
        profiler = self._owner.now()
        if profiler is not None:
            self._admit(obj, profiler)

    def meet(self, obj: Any) -> State:
        """For hooks: the state of an object that was not welcomed, such as an unpickled one. Never raises."""
        try:
            state = state_on(obj)
            if state is not None:
                return state
            profiler = self._owner.now()
            adapter = self._adapters.get(type(obj))
            if profiler is None or (adapter is not None and adapter.entries(obj) is None):
                return INERT  # its __init__ has not come so far
            return self._admit(obj, profiler)
        except Exception as error:
            swallow("meeting a cache", error)
            return INERT

    def _admit(self, obj: Any, profiler: Any) -> State:
        with decoration.guard:
            state = state_on(obj)
            adapter = self._prepared(obj)
            if state is not None:  # auto-patching was faster; it gets its name
                instrument(obj, name=self._name, profiler=profiler)
                return state
            origin = Origin(self._name, self._where)
            return admit(
                obj, Admission(home_of(profiler.registry), adapter, origin, self._weigher, itself, by_hand=True)
            )

    def _prepared(self, obj: Any) -> Adapter:
        """Patch the class of *obj*, once."""
        cls: Any = type(obj)
        adapter = self._adapters.get(cls)
        if adapter is not None:
            return adapter
        adapter = find_adapter(obj, self._operations)
        table = adapter.in_place(obj)
        if table is None:
            raise NotACacheError(
                f"objects of {shown(cls)} can only be profiled through a proxy, which a class can't give; "
                "call instrument(obj) on each object, and use what it returns"
            )
        table = {**table, "__reduce_ex__": "reduce"}
        if "__copy__" not in table and hasattr(cls, "__copy__"):
            table["__copy__"] = "copy"
        for method, kind in table.items():
            owner = next((c for c in cls.__mro__ if method in vars(c)), None)
            if owner is None or vars(owner)[method] in _class_hooks:
                continue
            # A hook that is there is auto-patching's, which may be undone while ours stays.
            hook = make_hook(kind, unhooked(getattr(cls, method)), self.meet)
            _class_hooks.add(hook)
            setattr(cls, method, hook)
        self._adapters[cls] = adapter
        return adapter


def _leave_alone(obj: Any) -> None:
    """Let the hooks of an uninstrumented instance do nothing."""
    state = State(id(obj), None, None, Ledger(Sizer(), SizingBudget(0.0)))
    state.busy[RETIRED] = True
    object.__setattr__(obj, ATTRIBUTE, state)


def profile_class(cls: Any, options: Options, where: str) -> Any:
    """Profile every instance of a class; *where* it was decorated.

    Raises:
        ConfigurationError: An option is for functions, or names a method that isn't there.
        NotACacheError: It is a library's class, or its instances could only be profiled through a proxy.
    """
    options.refuse(
        ("maxsize", "ttl", "cache", "key", "lock", "typed"),
        f"is for functions; {shown(cls)} is a class, whose instances are caches already",
    )
    if not cls.__flags__ & 1 << 9 or cls.__module__.partition(".")[0] in ("cachetools", "collections"):
        raise NotACacheError(
            f"{shown(cls)} is a library's class, which others use too; subclass it and decorate that, "
            "or call instrument(obj) on each object, or autopatch()"
        )
    if cls.__dictoffset__ == 0 and not hasattr(cls, ATTRIBUTE):
        raise NotACacheError(
            f"instances of {shown(cls)} can only be profiled through a proxy: its __slots__ leave no room; add "
            "'__dict__' and '__weakref__' to them, or call instrument(obj) on each object, and use what it returns"
        )
    for name in options.operations or ():
        if not hasattr(cls, name):
            raise ConfigurationError(f"operations: {shown(cls)} has no method {name!r}")
    _ProfiledClass(cls, options, where).install(cls)
    return cls
