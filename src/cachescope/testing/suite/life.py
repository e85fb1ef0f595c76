"""Pickles, copies and the end of a watched cache."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from cachescope.testing.suite.fresh_process import LOADS, fresh_process
from cachescope.testing.suite.looking import entries_of, outcome, sorted_entries
from cachescope.testing.suite.subject import Subject
from cachescope.testing.suite.watched import Watched


class Life(Subject):
    """What is made of a cache is no longer ours to count, and nothing of ours keeps it alive."""

    # Pickles, copies

    def test_pickles_load_where_cachescope_is_not_installed(self, watch: Callable[..., Watched], tmp_path: Any) -> None:
        """By every protocol that the bare cache can be pickled by; by the others, neither."""
        protocols = range(pickle.HIGHEST_PROTOCOL + 1)
        bare = self.make_picklable()
        self.write(bare, self.make_key(1), self.make_value(1))
        possible = [
            protocol
            for protocol in protocols
            if outcome(lambda c, p=protocol: pickle.dumps(c, p), bare)[0] == "returned"
        ]
        watched = watch(bare)
        with contextlib.suppress(KeyError):
            self.read(watched.cache, self.make_key(1))
        for protocol in protocols:
            if protocol not in possible:
                assert outcome(lambda c, p=protocol: pickle.dumps(c, p), watched.cache)[0] == "raised"
                continue
            pickled = pickle.dumps(watched.cache, protocol)
            assert b"cachescope" not in pickled
            assert b"wrapt" not in pickled
            (tmp_path / f"{protocol}.pickle").write_bytes(pickled)
        run = fresh_process(LOADS, *(f"{protocol}.pickle" for protocol in possible), folder=tmp_path)
        out, err = run.communicate(timeout=60)
        assert (out, err) == (f"{type(bare).__name__} {sorted_entries(bare)!r}\n" * len(possible), "")

    def test_copies_are_objects_of_their_own(self, watch: Callable[..., Watched]) -> None:
        """What is done to a copy doesn't count for the original, and the other way round."""
        for copier in (copy.copy, copy.deepcopy):
            watched = watch()
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            figures = watched.figures
            double = copier(watched.cache)
            assert type(double).__name__ == type(watched.cache).__name__
            assert isinstance(double, type(self.make_cache()))
            assert watched.figures[2:] == figures[2:], copier.__name__
            self.write(double, self.make_key(2), self.make_value(2))
            self.drop(double, self.make_key(1))
            double.clear()
            assert watched.figures[2:] == figures[2:], copier.__name__
            assert entries_of(watched.bare) == [(self.make_key(1), self.make_value(1))]
            self.drop(watched.cache, self.make_key(1))
            assert watched.counted.entries == 0
            watched.undo()

    def test_an_attribute_dict_that_is_copied_over_brings_no_state_along(self, watch: Callable[..., Watched]) -> None:
        """``twin.__dict__.update(cache.__dict__)``, as some copy methods are written."""
        watched = watch()
        if not hasattr(watched.bare, "__dict__") or isinstance(watched.bare, dict):
            pytest.skip("its entries are not in its attributes")
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        cls = watched.cache.__class__
        double = cls.__new__(cls)
        double.__dict__.update(copy.deepcopy(watched.bare).__dict__)
        double.__dict__.update({k: v for k, v in vars(watched.bare).items() if k.startswith("_self_")})
        figures = watched.figures
        self.write(double, self.make_key(2), self.make_value(2))
        with contextlib.suppress(KeyError):
            self.drop(double, self.make_key(1))
        assert watched.figures == figures

    # Life

    def test_it_dies_when_the_bare_one_does(self, watch: Callable[..., Watched]) -> None:
        """Nothing of ours keeps a cache or its values alive: dropped, they are gone at once, without a collection."""

        class Value:
            pass

        def gone(cache: Any) -> tuple[bool, bool]:
            value = Value()
            self.write(cache, self.make_key(1), value)
            self.read(cache, self.make_key(1))
            held = weakref.ref(value)
            try:
                ref: Any = weakref.ref(cache)
            except TypeError:
                ref = lambda: None
            del value, cache
            return ref() is None, held() is None

        gc.collect()
        gc.disable()
        try:
            expected = gone(self.make_cache())
            made: list[Any] = [self.make_cache()]
            watched = watch(made.pop())
            handed = [watched.cache]
            del watched.cache, watched.bare
            got = gone(handed.pop())
            watched.cache = watched.bare = self.make_cache()
        finally:
            gc.enable()
        assert got == expected

    def test_a_dead_cache_keeps_its_figures(self, watch: Callable[..., Watched]) -> None:
        """What it did is still told, and nothing is held any more."""
        watched = watch()
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        name = watched.state.record.name  # type: ignore[union-attr]  # a profiled state has a record
        watched.cache = watched.bare = self.make_cache()
        gc.collect()
        profile = watched.profiler.get_cache_profile(name)
        assert (profile.total_allocations, profile.current_entries, profile.net_memory_bytes) == (1, 0, 0)
        assert (profile.instances, profile.instances_total) == (0, 1)
