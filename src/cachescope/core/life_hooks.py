"""The hooks of what makes objects: construction, copies, pickles."""

from __future__ import annotations

from typing import Any

from cachescope.core.faults import swallow
from cachescope.core.hooks import Hook, Meet, kind_of_hook
from cachescope.core.state import ATTRIBUTE


@kind_of_hook("init")
def _init(original: Any, meet: Meet) -> Hook:
    """``__init__``: the object is met at once, while the line that makes it is in sight."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _meet_quietly(self, meet)

    return __init__


@kind_of_hook("setstate")
def _setstate(original: Any, meet: Meet) -> Hook:
    """``__setstate__``: whatever came along in the state is not this object's."""

    def __setstate__(self: Any, state: Any) -> Any:
        if type(state) is dict and ATTRIBUTE in state:
            state = {name: value for name, value in state.items() if name != ATTRIBUTE}
        result = original(self, state)
        _meet_quietly(self, meet)
        return result

    return __setstate__


@kind_of_hook("copy")
def _copy(original: Any, meet: Meet) -> Hook:
    """``__copy__`` or ``copy``: the copy is an object of its own."""

    def __copy__(self: Any) -> Any:
        result = original(self)
        if result is not self and type(result) is type(self):
            try:
                own = object.__getattribute__(result, "__dict__")
                if own.get(ATTRIBUTE) is not None and own[ATTRIBUTE].owner != id(result):
                    del own[ATTRIBUTE]
            except Exception as error:
                swallow("copy", error)
            _meet_quietly(result, meet)
        return result

    return __copy__


@kind_of_hook("reduce")
def _reduce(original: Any, meet: Meet) -> Hook:
    """``__reduce_ex__``: pickles and copies hold nothing of ours."""

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return without_state(original(self, protocol))

    return __reduce_ex__


def without_state(reduced: Any) -> Any:
    """What ``__reduce_ex__`` gave, less our attribute."""
    if type(reduced) is tuple and len(reduced) > 2 and type(reduced[2]) is dict and ATTRIBUTE in reduced[2]:
        kept = {name: value for name, value in reduced[2].items() if name != ATTRIBUTE}
        return (*reduced[:2], kept, *reduced[3:])
    return reduced


def _meet_quietly(self: Any, meet: Meet) -> None:
    try:
        state = getattr(self, ATTRIBUTE, None)
        if state is None or state.owner != id(self) or state.data is None:
            meet(self)
    except Exception as error:
        swallow("meeting a cache", error)
