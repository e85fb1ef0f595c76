"""The bytes are conserved, and every operation is counted once."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from cachescope.core import faults
from cachescope.testing.sizes import naive_bytes
from cachescope.testing.suite.looking import entries_of, outcome
from cachescope.testing.suite.subject import STEPS, Subject
from cachescope.testing.suite.watched import Watched


class Conservation(Subject):
    """What came, less what left, is what is held, after every operation."""

    def test_bytes_are_conserved_after_every_operation(self, watch: Callable[..., Watched]) -> None:
        """Net bytes are what came, less what left; and what is held, counted naively from the side; 0 after clear."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        for index, (operation, _) in enumerate(zip(self.operations(random.Random(2)), range(STEPS), strict=False)):
            outcome(operation, watched.cache)
            state, held = watched.state, entries_of(watched.bare) or []
            seen: set[int] = set()
            assert state.entries == len(held), f"operation {index}"
            assert state.live_bytes == sum(naive_bytes(part, seen) for entry in held for part in entry), (
                f"operation {index}"
            )
            if index % 10 == 0:
                self._conserved(watched, f"operation {index}")
            del held
        watched.cache.clear()
        self._conserved(watched, "clear")
        profile = watched.profiler.get_cache_profile(watched.state.record.name)  # type: ignore[union-attr]  # it has one
        assert (profile.net_memory_bytes, profile.current_entries, profile.current_memory_bytes) == (0, 0, 0)

    def _conserved(self, watched: Watched, when: str) -> None:
        held = entries_of(watched.bare)
        assert held is not None
        profile = watched.profiler.get_cache_profile(watched.state.record.name)  # type: ignore[union-attr]  # it has one
        came = profile.total_allocated_bytes + profile.total_resized_bytes
        assert profile.net_memory_bytes == came - profile.total_deallocated_bytes, when
        assert profile.total_allocations - profile.total_deallocations == profile.current_entries == len(held), when
        seen: set[int] = set()
        assert profile.net_memory_bytes == sum(naive_bytes(part, seen) for entry in held for part in entry), when

    def test_every_operation_is_counted_once(self, watch: Callable[..., Watched]) -> None:
        """One hit, one miss, one set, one replacement, one delete."""
        watched = watch()
        cache, one, two = watched.cache, self.make_key(1), self.make_key(2)
        self.write(cache, one, self.make_value(1))
        self.write(cache, one, self.make_value(2))
        self.read(cache, one)
        misses: tuple[Any, ...] = (two, [], two)
        for missing in misses:
            with contextlib.suppress(KeyError, TypeError):
                self.read(cache, missing)
        self.drop(cache, one)
        with contextlib.suppress(KeyError):
            self.drop(cache, one)
        s = watched.counted
        assert (s.sets, s.replacements, s.hits, s.misses, s.deletes, s.entries) == (1, 1, 1, 2, 1, 0)

    def test_a_stored_none_is_a_hit(self, watch: Callable[..., Watched]) -> None:
        """None, 0 and empty values are values."""
        watched = watch()
        for number, value in enumerate((None, 0, "", False)):
            self.write(watched.cache, self.make_key(number), value)
            assert self.read(watched.cache, self.make_key(number)) is value
        assert (watched.counted.hits, watched.counted.misses) == (4, 0)

    def test_entries_that_go_by_time_have_expired(self, watch: Callable[..., Watched]) -> None:
        """Not evicted, not deleted."""
        if not self.supports_ttl:
            pytest.skip("no entry goes by time")
        watched = watch()
        for number in range(3):
            self.write(watched.cache, self.make_key(number), self.make_value(number))
        self.later()
        with contextlib.suppress(KeyError):
            self.read(watched.cache, self.make_key(0))
        assert (watched.counted.misses, watched.counted.hits) == (1, 0)
        self.write(watched.cache, self.make_key(3), self.make_value(3))
        s = watched.counted
        assert (s.expirations, s.evictions, s.deletes, s.entries) == (3, 0, 0, 1)

    def test_a_weigher_says_what_an_entry_weighs(self, watch: Callable[..., Watched], how: str) -> None:
        """Its figures are charged; what it can't weigh is measured, and counted as a fault of its own."""
        if how == "class patch":
            pytest.skip("a weigher belongs to one cache")
        answers: list[Any] = [1_000, 2_500.9, 0]
        rubbish: list[Any] = ["heavy", None, -1, float("nan"), float("inf"), True, RuntimeError("no scales")]
        given = iter([*answers, *rubbish])

        def weigher(key: Any, value: Any) -> Any:
            answer = next(given)
            if isinstance(answer, Exception):
                raise answer
            return answer

        watched = watch(weigher=weigher)
        cache, number = watched.cache, 0
        for answer in answers:
            self.write(cache, self.make_key(number), self.make_value(number))
            assert watched.counted.live_bytes == int(answer)
            self.drop(cache, self.make_key(number))
            assert watched.counted.live_bytes == 0
        for number in range(len(rubbish)):
            self.write(cache, self.make_key(number), self.make_value(number))
            assert watched.counted.live_bytes == naive_bytes(self.make_key(number)) + naive_bytes(
                self.make_value(number)
            )
            self.drop(cache, self.make_key(number))
            assert watched.counted.live_bytes == 0
        assert sum(faults.counts.values()) == len(rubbish)
        assert all(what.startswith("weigher") for what in faults.counts)
        faults.counts.clear()

    def test_what_was_there_before_is_counted(self, watch: Callable[..., Watched]) -> None:
        """Entries of before are held now; they were set by nobody in sight."""
        bare = self.make_cache()
        for number in range(3):
            self.write(bare, self.make_key(number), self.make_value(number))
        watched = watch(bare)
        self.read(watched.cache, self.make_key(1))
        assert (watched.counted.entries, watched.counted.hits, watched.counted.misses) == (3, 1, 0)
        self.drop(watched.cache, self.make_key(1))
        self._conserved(watched, "after a delete")
