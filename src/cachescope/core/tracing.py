"""tracemalloc, which is the whole process's: we start it only when nobody has, and stop only what we started.

Nothing here is needed below COMPREHENSIVE, and tracemalloc is not imported before it is asked for.
"""

from __future__ import annotations

import weakref

from cachescope.core.faults import swallow

_COST = ("about 2 times as long", "up to 15 times as long at 25 frames")
"""How much longer a program runs that reads and fills a cache, at one frame (measured: 1.8 to 1.95) and with more (8 to 15).

One that does nothing but allocate suffers ten times more than that.
"""


class _Token:
    """Something that is traced as long as the tracing goes on in which it was made."""

    __slots__ = ()


_holders: weakref.WeakSet[Tracing] = weakref.WeakSet()
"""Who wants the tracing that we started; it ends with the last one."""
_session: list[_Token] = []
"""The token of the tracing that we started, if we did."""


class Tracing:
    """A profiler's wish that tracemalloc is on. Several in one process share one tracing.

    A forked child inherits the tracing, the traces and the wishes, and stopping there leaves the parent's alone; nothing
    has to be done after a fork.
    """

    __slots__ = ("__weakref__",)

    def start(self, frames: int = 1) -> bool:
        """Switch tracemalloc on, unless it is.

        Args:
            frames: Frames to keep for each block, from 1; the tracing that is on already keeps its own number.

        Returns:
            Whether it is on because of us; if not, somebody else has started it, and has to stop it.
        """
        try:
            import tracemalloc

            if not tracemalloc.is_tracing():
                tracemalloc.start(frames)
                _session[:] = [_Token()]
            if not _is_ours():
                return False
            _holders.add(self)
        except Exception as error:
            swallow("tracemalloc", error)
        return self.mine

    def stop(self) -> None:
        """Switch tracemalloc off, if we have switched it on, nobody has begun anew since, and no other profiler needs it."""
        try:
            if self not in _holders:
                return
            _holders.discard(self)
            if len(_holders) == 0 and _is_ours():
                import tracemalloc

                _session.clear()
                tracemalloc.stop()
        except Exception as error:
            swallow("tracemalloc", error)

    @property
    def mine(self) -> bool:
        """Whether it is on because of us."""
        return self in _holders and _is_ours()

    @property
    def frames(self) -> int:
        """How many frames are kept for each block; 0 while it is off."""
        import tracemalloc

        return tracemalloc.get_traceback_limit() if tracemalloc.is_tracing() else 0

    def memory_bytes(self) -> int | None:
        """The memory that tracemalloc takes for itself; None while it is off."""
        import tracemalloc

        return tracemalloc.get_tracemalloc_memory() if tracemalloc.is_tracing() else None

    def cost(self) -> str:
        """What tracing costs, for the report; ``""`` while it is off."""
        held = self.memory_bytes()
        frames = self.frames
        if held is None or not frames:
            return ""
        who = "was started by cachescope" if self.mine else "was on already, and stays on"
        kept = f"{frames} frame{'s' * (frames > 1)} of each block in {held / 2**20:.1f} MiB"
        return f"tracemalloc {who}: it keeps {kept}, and a program with busy caches runs {_COST[frames > 1]}"


def _is_ours() -> bool:
    """Whether the tracing that goes on is the one that we started.

    Our token's trace is gone when somebody stopped and started it since; or cleared the traces, which is as good a reason
    to leave it to them.
    """
    import tracemalloc

    return bool(_session) and tracemalloc.get_object_traceback(_session[0]) is not None
