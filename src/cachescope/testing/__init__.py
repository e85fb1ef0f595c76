"""For authors of adapters: the suite that every adapter must pass, a clock to move by hand, sizes counted naively."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachescope.testing.clock import FakeClock
from cachescope.testing.sizes import naive_bytes

if TYPE_CHECKING:
    from cachescope.testing.conformance import AdapterConformance
    from cachescope.testing.guard import hooks_left, leaves_nothing_behind, snapshot
    from cachescope.testing.suite.watched import Watched

__all__ = [
    "AdapterConformance",
    "FakeClock",
    "Watched",
    "hooks_left",
    "leaves_nothing_behind",
    "naive_bytes",
    "snapshot",
]


def __getattr__(name: str) -> Any:
    # The suite needs pytest, which the clock and the sizes do not.
    if name in ("AdapterConformance", "Watched"):
        import pytest

        pytest.register_assert_rewrite("cachescope.testing.conformance", "cachescope.testing.suite")
        from cachescope.testing import conformance

        return getattr(conformance, name)
    if name in __all__:
        from cachescope.testing import guard

        return getattr(guard, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
