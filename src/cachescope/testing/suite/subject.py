"""The cache under test: how it is made, which ways it can be profiled, and how its operations are called."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

HOWS = ("in place", "proxy", "class patch")
STEPS = 400


class Subject:
    """What authors say of their cache; see :class:`cachescope.testing.AdapterConformance`."""

    library: ClassVar[str | None] = None
    """The adapter's name for ``autopatch()``."""
    hows: ClassVar[tuple[str, ...]] = HOWS
    """The ways in which such a cache can be profiled."""
    fresh: ClassVar[tuple[str, str]] = ("", "")
    """A statement that imports the library, and an expression that makes a cache: for processes of their own."""
    supports_ttl: ClassVar[bool] = False
    """Whether entries go by time; then :meth:`later` lets it pass."""
    threadsafe: ClassVar[bool] = False
    """Whether the library lets threads use one cache without a lock; else the tests take one."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """Tests that can't pass, ``{"test_x": reason}`` or ``{"test_x[proxy]": reason}``."""

    def make_cache(self) -> Any:
        """A new, empty cache for at least eight entries."""
        raise NotImplementedError(f"{type(self).__name__}.make_cache")

    def make_twin(self) -> Any:
        """A cache equal to what :meth:`make_cache` makes, that is never watched; needed where chance plays a part."""
        return self.make_cache()

    def make_picklable(self) -> Any:
        """A cache that a fresh process can load: nothing in it may come from a module of the tests."""
        return self.make_cache()

    def make_key(self, number: int) -> Any:
        """The key of a number."""
        return f"key:{number}"

    def make_value(self, number: int) -> Any:
        """A value that nobody else holds."""
        return f"value {number} " + "x" * (number % 60)

    def read(self, cache: Any, key: Any) -> Any:
        """A look-up that raises KeyError when *key* isn't there."""
        return cache[key]

    def write(self, cache: Any, key: Any, value: Any) -> None:
        """Set an entry."""
        cache[key] = value

    def drop(self, cache: Any, key: Any) -> None:
        """Delete an entry; raises KeyError when it isn't there."""
        del cache[key]

    def operations(self, chance: random.Random) -> Iterator[Callable[[Any], Any]]:
        """An endless run of operations, the same for the same *chance*."""
        number = 0
        while True:
            number += 1
            yield self._operation(chance, number)

    def _operation(self, chance: random.Random, number: int) -> Callable[[Any], Any]:
        key, other = self.make_key(chance.randrange(12)), self.make_key(chance.randrange(12))
        value, another = self.make_value(number), self.make_value(number + 100_000)
        default = chance.choice([(), (None,), ("default",)])
        choices: list[tuple[int, Callable[[Any], Any]]] = [
            (30, lambda c: self.write(c, key, value)),
            (25, lambda c: self.read(c, key)),
            (6, lambda c: self.drop(c, key)),
            (10, lambda c: c.get(key, *default)),
            (5, lambda c: c.pop(key, *default)),
            (5, lambda c: c.setdefault(key, value)),
            (4, lambda c: c.update({key: value, other: another})),
            (2, lambda c: c.update([(key, value)], **{str(other): another})),
            (3, lambda c: c.popitem()),
            (1, lambda c: c.clear()),
            (2, lambda c: key in c),
            (2, len),
            (2, list),
            (1, bool),
            (1, lambda c: sorted(map(repr, c.items()))),
            (2, lambda c: self.read(c, [])),
            (1, lambda c: self.write(c, {}, value)),
            (1, lambda c: c.get([])),
            (1, lambda c: c.get()),
            (1, lambda c: c.pop()),
            (1, lambda c: c.__getitem__()),
            (1, lambda c: c.get(key, 1, 2)),
            (1, lambda c: c.setdefault()),
        ]
        weights = [weight for weight, _ in choices]
        return chance.choices(choices, weights)[0][1]

    def later(self) -> None:
        """Let so much time pass that every entry has expired; needed with ``supports_ttl``."""
        raise NotImplementedError(f"{type(self).__name__}.later: supports_ttl needs it")
