"""How a registry looks at a kind of cache object from the side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class View(Protocol):
    """How to look at a kind of cache object from the side, without changing it."""

    def entries(self, obj: Any) -> Mapping[Any, Any] | None:
        """The mapping that holds the entries; None when it can't be found."""

    def container_bytes(self, obj: Any) -> int:
        """What the cache's own tables, links and queues need, above those of an empty one."""

    def limits(self, obj: Any) -> tuple[float | None, float | None]:
        """``(maxsize, own current size in another unit than entries)``, None for what there isn't."""
