"""What the settings leave out of lists: by cache, key pattern, event kind and size.

A filter decides what is shown, kept as a recent event, told to subscribers or counted in a distribution. It never touches
a cache's exact totals: bytes in minus bytes out stay bytes held, whatever is filtered.
"""

from __future__ import annotations

from typing import Final

from cachescope.core.config import ProfilerConfig
from cachescope.core.config_values import EVENT_KINDS, name_matcher
from cachescope.core.events import MemoryEventType

_MOST_REMEMBERED: Final = 4_096
_MOST_CHARACTERS: Final = 512  # a key pattern has at most 120; a longer text is matched each time, not kept


class Filters:
    """The filters of one configuration. Pure: the same question always has the same answer.

    Memory: at most 4,096 texts of at most 512 characters, twice. Time (CPython 3.11): 0.1 us for a text that was asked
    about before, and for all of them when nothing is filtered. Any thread may ask: the worst that two can do is to
    work one answer out twice.

    Attributes:
        everything: Nothing is filtered at all, so callers can skip asking.
    """

    __slots__ = (
        "_cache_in",
        "_cache_out",
        "_caches",
        "_every_cache",
        "_every_pattern",
        "_kinds",
        "_min_size_bytes",
        "_pattern_in",
        "_pattern_out",
        "_patterns",
        "everything",
    )

    def __init__(self, config: ProfilerConfig) -> None:
        self._cache_in, self._cache_out = name_matcher(config.include_caches), name_matcher(config.exclude_caches)
        self._pattern_in, self._pattern_out = (
            name_matcher(config.include_patterns),
            name_matcher(config.exclude_patterns),
        )
        self._kinds = frozenset(MemoryEventType(kind) for kind in config.event_kinds)
        self._min_size_bytes = config.min_size_bytes
        self._caches: dict[str, bool] = {}
        self._patterns: dict[str, bool] = {}
        self._every_cache = "*" in config.include_caches and not config.exclude_caches
        self._every_pattern = "*" in config.include_patterns and not config.exclude_patterns
        self.everything: bool = (
            self._every_cache
            and self._every_pattern
            and len(self._kinds) == len(EVENT_KINDS)
            and config.min_size_bytes == 0
        )

    def cache(self, name: str) -> bool:
        """Is a cache of this name listed?"""
        if self._every_cache:
            return True
        found = self._caches.get(name)
        if found is None:
            found = self._cache_in(name) and not self._cache_out(name)
            _remember(self._caches, name, found)
        return found

    def pattern(self, text: str) -> bool:
        """Is a key pattern of this text listed?"""
        if self._every_pattern:
            return True
        found = self._patterns.get(text)
        if found is None:
            found = self._pattern_in(text) and not self._pattern_out(text)
            _remember(self._patterns, text, found)
        return found

    def event(self, kind: MemoryEventType) -> bool:
        """Are events of this kind kept and told?"""
        return kind in self._kinds

    def size(self, size_bytes: float) -> bool:
        """Is an entry of so many bytes large enough? One of unknown size (NaN) is, unless a least size is set."""
        return self._min_size_bytes == 0 or size_bytes >= self._min_size_bytes


def _remember(answers: dict[str, bool], text: str, answer: bool) -> None:
    if len(text) <= _MOST_CHARACTERS:
        if len(answers) >= _MOST_REMEMBERED:
            answers.clear()  # what is asked about again comes back, one match each
        answers[text] = answer
