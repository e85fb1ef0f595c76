"""Which asyncio task runs here: known by the coroutine that it runs, so that a breakdown has few rows.

asyncio is never imported by us for this; where the program has not, there are no tasks.
"""

from __future__ import annotations

import sys
from threading import get_ident
from types import CodeType
from typing import Any

_MOST_LABELS = 512
_labels: dict[int, tuple[str, Any]] = {}
"""By the id of a coroutine's code object, which is held so that the id stays its own."""


def _current() -> Any:
    """The running task; None when there is none, or no asyncio."""
    asyncio = sys.modules.get("asyncio.tasks")
    events = sys.modules.get("asyncio.events")
    if asyncio is None or events is None:
        return None
    loop = events._get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


def owner() -> int:
    """What tells the running task, or the thread where none runs, from all others that run now."""
    task = _current()
    return get_ident() if task is None else id(task)


def here() -> int:
    """The number of the coroutine that the running task runs; 0 for none."""
    task = _current()
    if task is None:
        return 0
    try:
        coroutine = task.get_coro()
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    except Exception:  # a task of another make
        return 0
    if type(code) is not CodeType:
        return 0
    number = id(code)
    if number not in _labels:
        if len(_labels) >= _MOST_LABELS:
            return 1
        _labels[number] = (code.co_qualname, code)
    return number


def label(number: int) -> str:
    """The coroutine's qualified name, by its number."""
    known = _labels.get(number)
    return known[0] if known is not None else "(others)"
