"""Every test of this room leaves the process as it found it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachescope.testing import leaves_nothing_behind

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No class stays patched, no thread of ours and no profiler runs on."""
    with leaves_nothing_behind():
        yield
