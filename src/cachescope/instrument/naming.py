"""What a cache is called when nobody says: the code that made it, and the name it was given there.

``shop.users:UserStore.__init__.cache`` stays the same from deploy to deploy; the line is shown beside it.
"""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType
from typing import Any, NamedTuple

from cachescope.core.faults import swallow
from cachescope.core.sites import is_plumbing, short_path

_STORES = {"STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF", "STORE_ATTR"}
_ENDS = {"POP_TOP", "RETURN_VALUE", "RETURN_CONST", "POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "FOR_ITER", "YIELD_VALUE"}
_FARTHEST = 48
"""Instructions looked at behind the call: a decorated function's name comes after its body is made."""


class Origin(NamedTuple):
    """Where a cache was made."""

    name: str
    where: str


def origin_of(obj: Any, level: int = 1) -> Origin:
    """Find the code that is making *obj*, from *level* frames up.

    Args:
        obj: The new object; frames of its own ``__init__`` are passed over.
        level: Frames between here and the first one to look at.

    Returns:
        The default name, and ``path:line``.
    """
    try:
        frame: FrameType | None = sys._getframe(level + 1)
        while frame is not None and _belongs(frame, obj):
            frame = frame.f_back
        if frame is None:
            return Origin(type(obj).__qualname__, "")
        code = frame.f_code
        where = f"{short_path(code.co_filename)}:{frame.f_lineno}"
        target = _target(code, frame.f_lasti)
        scope = "" if code.co_name == "<module>" else code.co_qualname
        label = ".".join(part for part in (scope, target) if part) or type(obj).__qualname__
        module = str(frame.f_globals.get("__name__", "?"))
        module = "__main__" if module == "__mp_main__" else module  # what a spawned worker calls its parent's script
        return Origin(f"{module}:{label}", where)
    except Exception as error:
        swallow("naming", error)
        return Origin(type(obj).__qualname__, "")


def adopted_origin(obj: Any, level: int = 1) -> Origin:
    """The name of an object that was there before us: its class and where it was first seen in use."""
    try:
        frame: FrameType | None = sys._getframe(level + 1)
        while frame is not None and _belongs(frame, obj):
            frame = frame.f_back
        if frame is not None:
            where = f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"
            return Origin(f"{type(obj).__qualname__}@{where}", where)
    except Exception as error:
        swallow("naming", error)
    return Origin(type(obj).__qualname__, "")


def _belongs(frame: FrameType, obj: Any) -> bool:
    """Whether a frame is plumbing, or part of making *obj* itself."""
    code = frame.f_code
    if is_plumbing(code.co_filename):
        return True
    return (
        code.co_name in ("__init__", "__new__", "__post_init__", "__call__")
        and code.co_argcount > 0
        and frame.f_locals.get(code.co_varnames[0]) is obj
    )


def _target(code: CodeType, offset: int) -> str:
    """The name that the value of the call at *offset* is stored under, as far as the bytecode tells."""
    looked = 0
    for instruction in dis.get_instructions(code):
        if instruction.offset <= offset:
            continue
        looked += 1
        if instruction.opname in _STORES:
            return str(instruction.argval)
        if instruction.opname.startswith("STORE_FAST_"):  # two in one, from 3.13 on
            names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
            return str(names[0])
        if instruction.opname in _ENDS or looked > _FARTHEST:
            break
    return ""
