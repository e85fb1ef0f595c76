"""Which profiler an object's figures go to, and how an object is met for the first time.

A :class:`Home` is where hooks find the registry of the profiler that runs now; it outlives the profiler, so that hooks
made before a shutdown work again after the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from wrapt import BaseObjectProxy

from cachescope.adapters.contract import Adapter
from cachescope.core import current
from cachescope.core.charging import Ledger, SizingBudget, Weigher
from cachescope.core.errors import ConfigurationError
from cachescope.core.faults import swallow
from cachescope.core.lifecycle import renew_after_fork
from cachescope.core.registry import CacheRegistry, all_states
from cachescope.core.sizing import Sizer
from cachescope.core.state import ATTRIBUTE, RETIRED, State
from cachescope.instrument.naming import Origin, adopted_origin, origin_of

INERT = State(0, None, None, Ledger(Sizer(), SizingBudget(0.0)))
"""The state of objects that nobody profiles now: its hooks only call the original."""
INERT.busy[RETIRED] = True
INERT.hide()


class Home:
    """Where the objects of one profiler find its registry; None while it doesn't run."""

    def __init__(self) -> None:
        self.registry: CacheRegistry | None = None
        self.made: dict[type, type] = {}
        """Subclasses made for its objects, by the class they stand for; let go when the profiler stops. Their hooks hold
        the home, and are held by code objects, which the collector does not look into: it would never find the circle."""
        self.proxies: dict[tuple[type, str], type] = {}
        """Classes of proxies, in the same way."""


class Admission:
    """What is needed to admit an object again after its profiler was started anew; kept in ``State.origin``."""

    __slots__ = ("adapter", "by_hand", "contents", "home", "origin", "weigher")

    def __init__(
        self,
        home: Home,
        adapter: Adapter,
        origin: Origin,
        weigher: Weigher | None,
        contents: Callable[[Any], Any],
        *,
        by_hand: bool = False,
    ) -> None:
        self.home, self.adapter, self.origin = home, adapter, origin
        self.weigher, self.contents = weigher, contents
        self.by_hand = by_hand


_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


renew_after_fork(_renew_lock)


def registry_of(profiler: Any) -> CacheRegistry:
    """The registry of *profiler*; of the process's own, which is started if need be, when that is None.

    Raises:
        ConfigurationError: It is no profiler.
    """
    registry = getattr(current.process_profiler() if profiler is None else profiler, "registry", None)
    if not isinstance(registry, CacheRegistry):
        raise ConfigurationError(f"profiler: {profiler!r} is not allowed; expected a CacheMemoryProfiler, or None")
    return registry


def home_of(registry: CacheRegistry) -> Home:
    """The home of a registry's profiler."""
    home = registry.home
    if not isinstance(home, Home):
        home = registry.home = Home()
        home.registry = registry if registry.open else None
    return home


def admit(obj: Any, admission: Admission) -> State:
    """Give *obj* a state in the registry that its home has now, and put it on the object.

    Args:
        obj: What the hooks are on: the cache, or a proxy of it.
        admission: Who it is.

    Returns:
        Its state; :data:`INERT` while the profiler doesn't run.
    """
    registry = admission.home.registry
    if registry is None or not registry.open:
        return INERT
    adapter = admission.adapter
    inner = admission.contents(obj)
    data = adapter.entries(inner)
    state = registry.admit(
        obj,
        name=admission.origin.name,
        kind=adapter.describe(type(inner)),
        where=admission.origin.where,
        view=adapter,
        data=data if data is not inner or inner is not obj else None,
        contents=data,
        weigher=admission.weigher,
        boundary=(id(inner),),
    )
    state.admission = admission
    registry.sites.skip_methods(type(inner))
    _attach(obj, state)
    return state


def _attach(obj: Any, state: State) -> None:
    if issubclass(type(obj), BaseObjectProxy):
        setattr(obj, ATTRIBUTE, state)  # stays with the proxy, for its name begins with _self_
    else:
        object.__setattr__(obj, ATTRIBUTE, state)  # past any __setattr__ of the user's


def detach(obj: Any) -> None:
    """Take the state off an object, if it has one."""
    try:
        if issubclass(type(obj), BaseObjectProxy):
            delattr(obj, ATTRIBUTE)
        else:
            object.__delattr__(obj, ATTRIBUTE)
    except (AttributeError, TypeError):
        return


def state_on(obj: Any) -> State | None:
    """The live state that *obj* itself has; None when it has none of its own."""
    try:
        state = object.__getattribute__(obj, ATTRIBUTE)
    except AttributeError:
        return None
    if isinstance(state, State) and state.owner == id(obj) and state.record is not None:
        return state
    return None


def itself(obj: Any) -> Any:
    """The cache behind an object that is hooked itself."""
    return obj


def meeting(home: Home, adapter: Adapter) -> Callable[[Any], State]:
    """Make the function that hooks call for an object they have not met; it never raises.

    Args:
        home: Whose objects they will be.
        adapter: What knows them.
    """

    def meet(obj: Any) -> State:
        try:
            known = state_on(obj)
            if known is not None:
                return known
            registry = home.registry
            if registry is None or not registry.open:
                return INERT
            with _lock:
                known = state_on(obj)
                if known is not None:
                    return known
                fresh = not adapter.entries(obj)
                origin = origin_of(obj, 1) if fresh else adopted_origin(obj, 1)
                return admit(obj, Admission(home, adapter, origin, None, itself))
        except Exception as error:
            swallow("meeting a cache", error)
            return INERT

    return meet


def profiler_started(registry: CacheRegistry) -> None:
    """Take back the objects whose profiler was shut down before."""
    home = home_of(registry)
    home.registry = registry
    for state in all_states():
        admission = state.admission
        if admission is not None and admission.home is home and state.record is None:
            obj = state.target()
            try:
                if obj is not None and object.__getattribute__(obj, ATTRIBUTE) is state:
                    admit(obj, admission)
            except Exception as error:
                swallow("taking a cache back", error)


def profiler_stopped(registry: CacheRegistry) -> None:
    """Hooks go inert: objects met from now on are nobody's."""
    home = home_of(registry)
    home.registry = None
    home.made.clear()
    home.proxies.clear()
