"""``instrument()`` and ``uninstrument()``: once, for one profiler, under a name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachescope.core.errors import ConfigurationError
from cachescope.instrument.objects import instrument, uninstrument
from cachescope.profiler import CacheMemoryProfiler
from cachescope.testing.suite.subject import Subject
from cachescope.testing.suite.watched import Watched


class Instrumenting(Subject):
    """A second time changes nothing; what was gathered stays; caches have names."""

    def test_instrumenting_twice_gives_what_the_first_gave(self, watch: Callable[..., Watched], how: str) -> None:
        """Nothing is counted twice."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        again = instrument(watched.cache, profiler=watched.profiler)
        assert again is watched.cache
        if how != "class patch":
            assert instrument(watched.bare, how=how, profiler=watched.profiler) is watched.cache
        self.write(again, self.make_key(2), self.make_value(2))
        self.read(again, self.make_key(1))
        assert (watched.counted.sets, watched.counted.hits) == (2, 1)

    def test_another_profiler_is_refused(self, watch: Callable[..., Watched]) -> None:
        """One cache has one profiler."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        with CacheMemoryProfiler() as other, pytest.raises(ConfigurationError, match="uninstrument"):
            instrument(watched.cache, profiler=other)

    def test_uninstrument_gives_the_bare_cache_back(self, watch: Callable[..., Watched], how: str) -> None:
        """With its entries; what was gathered stays; a second time does nothing."""
        if how == "class patch":
            pytest.skip("a class patch is undone by its handle")
        watched = watch(name="users")
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        bare = uninstrument(watched.cache)
        assert bare is watched.bare
        assert uninstrument(bare) is bare
        assert self.read(bare, self.make_key(1)) == self.make_value(1)
        self.write(watched.cache, self.make_key(2), self.make_value(2))
        profile = watched.profiler.get_cache_profile("users")
        assert (profile.total_allocations, profile.hits, profile.current_entries) == (1, 0, 0)

    def test_names(self, profiler: CacheMemoryProfiler, how: str) -> None:
        """The given one; else one made of the code and the name it is assigned to. Caches of one name are summed."""
        if how == "class patch":
            pytest.skip("see the tests of auto-patching")
        one = instrument(self.make_cache(), name="shared", how=how, profiler=profiler)
        two = instrument(self.make_cache(), name="shared", how=how, profiler=profiler)
        named_by_code = instrument(self.make_cache(), how=how, profiler=profiler)
        for cache in (one, two, named_by_code):
            self.write(cache, self.make_key(1), self.make_value(1))
        shared = profiler.get_cache_profile("shared")
        assert (shared.instances, shared.current_entries) == (2, 2)
        names = set(profiler.caches()) - {"shared"}
        assert len(names) == 1
        for name in ("", "  ", 5):
            with pytest.raises(ConfigurationError, match="name"):
                instrument(self.make_cache(), name=name, profiler=profiler)  # type: ignore[arg-type]  # on purpose
        for cache in (one, two, named_by_code):
            uninstrument(cache)
