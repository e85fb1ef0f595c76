"""A clock that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """Time for caches and profilers under test.

    Call it for seconds, as ``time.monotonic`` is called: ``TTLCache(100, 60, timer=clock)``.

    Args:
        start_ns: Where it begins, in nanoseconds.
    """

    __slots__ = ("_now_ns",)

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def __call__(self) -> float:
        """Seconds."""
        return self._now_ns / 1e9

    def ns(self) -> int:
        """Nanoseconds, as ``time.monotonic_ns`` gives them."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; time never goes back.

        Raises:
            ValueError: *seconds* is negative.
        """
        self.advance_ns(round(seconds * 1e9))

    def advance_ns(self, nanoseconds: int) -> None:
        """Let *nanoseconds* pass.

        Raises:
            ValueError: *nanoseconds* is negative.
        """
        if nanoseconds < 0:
            raise ValueError(f"a clock can't go back; got {nanoseconds} ns, expected 0 or more")
        self._now_ns += nanoseconds

    def __repr__(self) -> str:
        return f"<FakeClock at {self._now_ns} ns>"
