"""The suite that every adapter must pass; shipped, so that authors of other adapters can run it too.

    from cachescope.testing import AdapterConformance

    class TestShelfCache(AdapterConformance):
        library = "shelfcache"                      # its name for autopatch(); None where classes can't be patched
        fresh = ("import shelfcache", "shelfcache.Shelf(8)")

        def make_cache(self):
            return shelfcache.Shelf(8)

What is held: the watched cache behaves as the bare one does; the bytes are conserved after every operation;
patching and undoing work in every order and restore exactly; and nothing breaks in threads, tasks, pickles, copies,
re-entrant values and keys that raise. A test can't be overridden: a class that redefines one is refused. What an
adapter really can't do goes into ``exempt`` with the reason; the test is still run, and fails when it passes after all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachescope.core import faults
from cachescope.core.config import ProfilerConfig
from cachescope.profiler import CacheMemoryProfiler
from cachescope.testing.suite.concurrency import Concurrency
from cachescope.testing.suite.conservation import Conservation
from cachescope.testing.suite.instrumenting import Instrumenting
from cachescope.testing.suite.life import Life
from cachescope.testing.suite.patching import Patching
from cachescope.testing.suite.subject import HOWS
from cachescope.testing.suite.transparency import Transparency
from cachescope.testing.suite.watched import Watched

WRAPPERS = ("closure", "wrapt")


# pytest runs the tests of the last base first.
class AdapterConformance(Instrumenting, Life, Concurrency, Patching, Conservation, Transparency):
    """See the module's docstring. Subclass it with a name that pytest collects, and say how a cache is made.

    A subclass of it may redefine what is not a test: the attributes, ``make_…`` and ``read``, ``write``, ``drop``.
    """

    # Refusals: what would switch a test off without anybody noticing

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, held in _ours().items():
            if inspect.getattr_static(cls, name) is not held:
                raise TypeError(
                    f"{cls.__name__}.{name} would override a test of AdapterConformance; "
                    "put what can't pass into exempt, with the reason"
                )
        unknown = set(cls.hows) - set(HOWS)
        if unknown or not cls.hows:
            raise TypeError(f"{cls.__name__}.hows: {cls.hows!r} is not allowed; expected some of {HOWS}")
        for name in cls.exempt:
            if not hasattr(cls, name.partition("[")[0]):
                raise TypeError(f"{cls.__name__}.exempt: there is no test {name!r}")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test each way, and expect the exempt ones to fail."""
        test = metafunc.function.__name__

        def marked(how: str) -> Any:
            reason = self.exempt.get(test) or self.exempt.get(f"{test}[{how}]")
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            return pytest.param(how, marks=marks)

        if "how" in metafunc.fixturenames:
            metafunc.parametrize("how", [marked(how) for how in self.hows])
        if "wrapper" in metafunc.fixturenames:
            metafunc.parametrize("wrapper", WRAPPERS)

    @pytest.fixture
    def profiler(self) -> Iterator[CacheMemoryProfiler]:
        """A profiler of its own; afterwards no fault of ours may have been swallowed."""
        faults.counts.clear()
        with CacheMemoryProfiler(ProfilerConfig(sizing_budget=1.0)) as profiler:
            yield profiler
        swallowed = dict(faults.counts)
        faults.counts.clear()
        assert swallowed == {}

    @pytest.fixture
    def watch(self, profiler: CacheMemoryProfiler, how: str) -> Iterator[Callable[..., Watched]]:
        """Watch a cache, a new one unless it is given, the way that is under test."""
        watched: list[Watched] = []

        def watch(bare: Any = None, **options: Any) -> Watched:
            chosen = self.make_cache() if bare is None else bare
            watched.append(Watched(chosen, how, profiler, self.library, **options))
            return watched[-1]

        yield watch
        for one in reversed(watched):
            one.undo()


def _ours() -> dict[str, Callable[..., Any]]:
    """What no subclass may redefine: the tests and what they are made of."""
    return {
        name: held
        for part in AdapterConformance.__mro__
        for name, held in vars(part).items()
        if name.startswith(("test_", "pytest_", "_")) and not name.startswith("__") and callable(held)
    }
