"""Every test of this room leaves the process as it found it, and makes no fault of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachescope import CacheMemoryProfiler, ProfilerConfig
from cachescope.core import faults
from cachescope.testing import leaves_nothing_behind

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No class stays patched, no thread of ours runs on, and nothing was swallowed; who provokes a fault clears it."""
    faults.counts.clear()
    with leaves_nothing_behind():
        yield
    assert faults.counts == {}


@pytest.fixture
def profiler() -> Iterator[CacheMemoryProfiler]:
    """A private profiler at DETAILED, shut down afterwards."""
    with CacheMemoryProfiler(ProfilerConfig(level="detailed")) as profiler:
        yield profiler
