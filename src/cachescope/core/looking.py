"""How hooks look at an object: its state, and what it holds for a key, read from the side."""

from __future__ import annotations

from typing import Any

from cachescope.core.hooks import Meet
from cachescope.core.state import MISSING, State

dict_get = dict.get


def peek(state: State, self: Any, key: Any) -> Any:
    """What the cache holds for *key* now, read from the side; MISSING when nothing."""
    data: Any = state.data
    return dict_get(self if data is None else data, key, MISSING)


REFUSED: Any = type("Refused", (), {"__slots__": ()})()


def peek_or_refuse(state: State, self: Any, key: Any) -> Any:
    """The same; REFUSED when the key can't be looked up. The caller then lets the original say so, with no context of ours."""
    try:
        return peek(state, self, key)
    except Exception:
        return REFUSED


def is_there(state: State, self: Any, key: Any) -> bool:
    """Whether the cache holds *key*; False when that can't be told. Never raises but what interrupts."""
    try:
        return peek(state, self, key) is not MISSING
    except Exception:  # __eq__ raised, or another thread has undone the patch meanwhile
        return False


def state_of(self: Any, meet: Meet) -> State:
    """The object's state; an object met for the first time gets one."""
    try:
        state: State = self._self_cachescope
        state.busy  # noqa: B018  # an unpickled state is None
    except AttributeError:
        return meet(self)
    else:
        return state


def owned_state(self: Any, meet: Meet) -> State:
    """The object's state, and surely its own: a copied ``__dict__`` brings the original's along."""
    state = state_of(self, meet)
    return state if state.owner == id(self) else meet(self)
