"""Patching and undoing work in every order and restore exactly, with other tools' wrappers above or below."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wrapt

from cachescope.core.hooks import is_hook
from cachescope.profiler import CacheMemoryProfiler
from cachescope.testing.guard import hooks_left, snapshot
from cachescope.testing.suite.fresh_process import ORDERS, STEPS_OF_USE, fresh_process
from cachescope.testing.suite.looking import attributes_of
from cachescope.testing.suite.subject import Subject
from cachescope.testing.suite.watched import Watched


class Patching(Subject):
    """Undo is exact, again and again, and in every order of import, patch and use."""

    def test_undo_restores_exactly(self, watch: Callable[..., Watched], how: str) -> None:
        """The classes' attributes, their order and the object's own are those of before."""
        bare = self.make_cache()
        cls, before, own = type(bare), snapshot(type(bare)), attributes_of(bare)
        watched = watch(bare)
        self.write(watched.cache, self.make_key(1), self.make_value(1))
        if how == "class patch":
            assert hooks_left(cls)
        self.drop(watched.cache, self.make_key(1))
        watched.undo()
        assert snapshot(cls) == before
        assert type(bare) is cls
        if how != "class patch":
            assert attributes_of(bare) == own
        figures = watched.figures
        self.write(bare, self.make_key(2), self.make_value(2))
        assert watched.figures in (figures, ())

    def test_it_can_be_patched_and_undone_again_and_again(self, watch: Callable[..., Watched]) -> None:
        """Each time it is seen, and each time nothing stays."""
        bare = self.make_cache()
        before = snapshot(type(bare))
        for number in range(3):
            watched = watch(bare)
            self.write(watched.cache, self.make_key(number), self.make_value(number))
            assert watched.counted.entries == number + 1
            watched.undo()
            assert snapshot(type(bare)) == before

    def test_hooks_of_an_ended_profiler_count_nothing(self, how: str) -> None:
        """They call the original, and work again after the next start."""
        profiler = CacheMemoryProfiler().start()
        try:
            watched = Watched(self.make_cache(), how, profiler, self.library)
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            name = watched.state.record.name  # type: ignore[union-attr]  # a profiled state has a record
            profiler.shutdown()
            self.write(watched.cache, self.make_key(2), self.make_value(2))
            assert profiler.get_cache_profile(name).total_allocations == 1
            profiler.start()
            self.write(watched.cache, self.make_key(3), self.make_value(3))
            assert self.read(watched.cache, self.make_key(2)) == self.make_value(2)
            assert watched.counted.entries == 3
            assert watched.counted.hits == 1
            watched.undo()
        finally:
            profiler.shutdown()

    def test_another_tools_wrapper_below_is_called_and_kept(
        self, watch: Callable[..., Watched], how: str, wrapper: str
    ) -> None:
        """Their wrapper was there first; patching on top and undoing leaves it in its place."""
        cls = type(self.make_cache())
        with _foreign(cls, "__setitem__", wrapper) as calls:
            before = snapshot(cls)
            watched = watch()
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            assert (len(calls), watched.counted.sets) == (1, 1)
            watched.undo()
            assert snapshot(cls) == before
            self.write(watched.bare, self.make_key(2), self.make_value(2))
            assert len(calls) == 2
        del how

    def test_another_tools_wrapper_on_top_survives_our_undo(
        self, watch: Callable[..., Watched], how: str, wrapper: str
    ) -> None:
        """Ours goes inert below it, and what they undo later is theirs."""
        if how != "class patch":
            pytest.skip("nobody wraps the methods of a class that was made for one object")
        watched = watch()
        cls = type(watched.bare)
        owner = next(c for c in cls.__mro__ if "__setitem__" in vars(c))
        with _foreign(cls, "__setitem__", wrapper) as calls:
            self.write(watched.cache, self.make_key(1), self.make_value(1))
            assert (len(calls), watched.counted.sets) == (1, 1)
            figures = watched.figures
            watched.undo()
            self.write(watched.cache, self.make_key(2), self.make_value(2))
            assert len(calls) == 2
            assert watched.figures in (figures, ())
            again = watch()
            self.write(again.cache, self.make_key(1), self.make_value(1))
            assert (len(calls), again.counted.sets) == (3, 1)
            again.undo()
        # They have put our inert hook back, which they had found; the next patch takes it off.
        assert is_hook(vars(owner)["__setitem__"])
        watch().undo()
        assert not hooks_left(cls)

    def test_every_order_of_import_patch_and_use(self, how: str, tmp_path: Any) -> None:
        """Library, object, subclass and its object before or after the patch, in processes of their own."""
        if how != "class patch":
            pytest.skip("only classes are patched at import")
        if not hasattr(os, "fork"):
            pytest.skip("each order takes a process of its own, and this system has no fork")
        statement, expression = self.fresh
        assert expression, "fresh must say how a process of its own makes a cache"
        orders = [
            (*before, "patch", *(step for step in STEPS_OF_USE if step not in before))
            for before in (STEPS_OF_USE[:n] for n in range(len(STEPS_OF_USE) + 1))
        ]
        orders.append(("import", "subclass", "patch", "object", "child"))
        script = ORDERS.format(library=self.library, statement=statement, expression=expression, orders=orders)
        out, err = fresh_process(script, folder=tmp_path).communicate(timeout=60)
        assert (out, err) == ("ok\n" * len(orders), "")


@contextlib.contextmanager
def _foreign(cls: type, name: str, wrapper: str) -> Iterator[list[Any]]:
    """Another tool's wrapper around a method, put on the class that has it, taken off as such tools do."""
    calls: list[Any] = []
    owner = next(c for c in cls.__mro__ if name in vars(c))
    if owner.__module__ == "builtins" or owner is OrderedDict:
        pytest.skip("its methods are written in C: nobody can wrap them")
    original = vars(owner)[name]

    def closure(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(self, *args, **kwargs)

    def wrapped(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        calls.append(args)
        return wrapped(*args, **kwargs)

    theirs: Any = closure if wrapper == "closure" else wrapt.FunctionWrapper(original, wrapped)
    setattr(owner, name, theirs)
    try:
        yield calls
    finally:
        setattr(owner, name, original)
