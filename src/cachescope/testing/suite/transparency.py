"""The watched cache behaves as the bare one does."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from cachescope.testing.suite.looking import entries_of, is_hooked, looks_of, outcome, size_of
from cachescope.testing.suite.subject import STEPS, Subject
from cachescope.testing.suite.watched import Watched


class Transparency(Subject):
    """Same results, exceptions, classes, signatures; keys that raise too."""

    def test_results_and_exceptions_are_those_of_the_bare_cache(self, watch: Callable[..., Watched]) -> None:
        """Same results, exceptions and their arguments, contexts, order, entries."""
        expected = []
        twin = self.make_twin()
        for operation, _ in zip(self.operations(random.Random(1)), range(STEPS), strict=False):
            expected.append((outcome(operation, twin), entries_of(twin)))
        cache = watch().cache
        for index, (operation, want) in enumerate(zip(self.operations(random.Random(1)), expected, strict=False)):
            got = outcome(operation, cache), entries_of(cache)
            assert got == want, f"operation {index}"

    def test_it_passes_for_the_bare_cache(self, watch: Callable[..., Watched], how: str) -> None:
        """isinstance, class, repr, truth and equality are the bare cache's."""
        bare = self.make_cache()
        self.write(bare, self.make_key(1), self.make_value(1))
        cls, shown, text, true = type(bare), repr(bare), str(bare), bool(bare)
        cache = watch(bare).cache
        assert isinstance(cache, cls)
        assert cache.__class__ is cls
        assert (type(cache) is cls) == (how == "class patch")
        assert bool(cache) is true
        assert cache == cache  # noqa: PLR0124  # that is what is asked
        assert str(cache) == text
        if how != "proxy":
            assert repr(cache) == shown
            assert cache is bare

    def test_methods_keep_their_signatures(self, watch: Callable[..., Watched]) -> None:
        """Names, docstrings, signatures, defaults, coroutine-ness."""
        bare = self.make_cache()
        names = [name for name in dir(type(bare)) if name != "__class__"]
        expected = {name: looks_of(bare, name) for name in names}
        cache = watch(bare).cache
        got = {name: looks_of(cache, name) for name in names if is_hooked(cache, name)}
        assert got, "no method is hooked"
        assert got == {name: expected[name] for name in got}

    def test_it_is_as_hashable_and_as_referable_as_the_bare_cache(self, watch: Callable[..., Watched]) -> None:
        """Hash and weak references."""
        bare = self.make_cache()
        expected = [outcome(call, bare)[:2] for call in (hash, lambda c: type(weakref.ref(c)))]
        cache = watch(bare).cache
        got = [outcome(call, cache)[:2] for call in (hash, lambda c: type(weakref.ref(c)))]
        assert got[0] == expected[0]
        if expected[1][0] == "returned":
            assert got[1] == expected[1]

    def test_keys_that_raise_raise_the_same_and_count_nothing(self, watch: Callable[..., Watched]) -> None:
        """``__hash__``, ``__eq__`` and ``__repr__`` that raise, and keys without a hash."""
        keys: list[Any] = [[], {}, _BadHash(), _BadEq(), _BadRepr(), (1, [])]
        calls: list[Callable[[Any, Any], Any]] = [
            self.read,
            self.drop,
            lambda c, k: self.write(c, k, "value"),
            lambda c, k: c.get(k),
            lambda c, k: c.pop(k, None),
            lambda c, k: c.setdefault(k, "value"),
        ]

        def outcomes(cache: Any) -> list[Any]:
            self.write(cache, _BadEq(calm=True), "something to compare with")
            return [outcome(lambda c, k=key, f=call: f(c, k), cache) for key in keys for call in calls]

        expected = outcomes(self.make_cache())
        watched = watch()
        assert [row[:2] for row in outcomes(watched.cache)] == [row[:2] for row in expected]
        assert watched.counted.entries == size_of(watched.bare)
        watched.cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    def test_unhashable_keys_count_nothing(self, watch: Callable[..., Watched]) -> None:
        """The exception is the cache's own, and no counter moves."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        figures = watched.figures
        for call in (self.read, self.drop, lambda c, k: self.write(c, k, 1), lambda c, k: c.setdefault(k, 1)):
            with pytest.raises(TypeError):
                call(watched.cache, [])
        assert watched.figures == figures


class _BadHash:
    def __hash__(self) -> int:
        raise RuntimeError("no hash today")


class _BadEq:
    def __init__(self, *, calm: bool = False) -> None:
        self.calm = calm

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        if self.calm and getattr(other, "calm", False):
            return True
        raise RuntimeError("incomparable")


class _BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no words")
