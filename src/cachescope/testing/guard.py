"""What a test may have left behind: hooks on classes, patches, threads, a running profiler."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from cachescope.adapters.contract import adapters
from cachescope.core import current, hooks
from cachescope.instrument import autopatch


def hooks_left(cls: type) -> list[str]:
    """The attributes of *cls* and of the classes it derives from that are hooks of ours."""
    return [f"{owner.__name__}.{name}" for owner in cls.__mro__ for name, held in vars(owner).items() if _is_ours(held)]


def snapshot(cls: type) -> list[tuple[type, list[tuple[str, Any]]]]:
    """The attributes of *cls* and of the classes it derives from, in their order; equal only if they are the same."""
    return [(owner, [(name, _Same(held)) for name, held in vars(owner).items()]) for owner in cls.__mro__]


@contextlib.contextmanager
def leaves_nothing_behind() -> Iterator[None]:
    """Fail if what is done inside leaves a class patched, a thread of ours, or the process's profiler running."""
    yield
    left = [
        f"{row.library} is {row.state}"
        for row in autopatch.patch_report()
        if row.state.startswith(("patched", "waiting", "failed"))
    ]
    left += [f"thread {thread.name}" for thread in threading.enumerate() if thread.name.startswith("cachescope")]
    left += ["a running profiler"] if current.running_profiler() is not None else []
    for adapter in adapters().values():
        module = sys.modules.get(adapter.module or "")
        for cls in list(vars(module).values()) if module is not None else ():
            if isinstance(cls, type):
                left += hooks_left(cls)
    if left:
        raise AssertionError(f"left behind: {', '.join(dict.fromkeys(left))}")


class _Same:
    """Equal to what stands for the very same object."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)

    def __repr__(self) -> str:
        return repr(self.held)


def _is_ours(held: Any) -> bool:
    function = getattr(held, "__func__", held)
    return hooks.is_hook(function) or getattr(function, "__module__", "") == autopatch.__name__
