"""Our own faults inside the user's process: swallowed where they happen, counted here, shown in the report."""

from __future__ import annotations

import logging

_log = logging.getLogger("cachescope")
_log.addHandler(logging.NullHandler())  # nothing of ours on a user's stderr unless logging is set up
_MOST_KINDS = 256

counts: dict[str, int] = {}
"""How often each kind of fault happened, by ``where: ExceptionType``. Bounded; the rest goes to ``other``."""


def swallow(where: str, error: BaseException | None = None) -> None:
    """Count a fault of ours and go on; never raises.

    Args:
        where: The part of cachescope that failed, such as ``"set"`` or ``"weigher"``.
        error: What was caught; its type is kept, its text is not (it may hold a user's key).
    """
    try:
        kind = where if error is None else f"{where}: {type(error).__name__}"
        if kind not in counts and len(counts) >= _MOST_KINDS:
            kind = "other"
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] == 1:
            _log.debug("swallowed a fault in %s", kind, exc_info=error)
    except Exception:  # the last line of defence: there is nobody left to tell
        return
