"""instrument() and uninstrument(): what they take, what they refuse, what they leave alone."""

from __future__ import annotations

import copy
import logging
import pickle
from collections import OrderedDict

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, ConfigurationError, NotACacheError, autopatch, instrument, uninstrument
from cachescope.core.state import ATTRIBUTE
from cachescope.testing import hooks_left


@pytest.fixture
def profiler():
    with CacheMemoryProfiler() as profiler:
        yield profiler


class Plain(dict):
    pass


class Slotted(dict):
    __slots__ = ()


class Registered(dict):
    """A class whose subclasses must say who they are."""

    def __init_subclass__(cls, *, code, **options):
        super().__init_subclass__(**options)


class Frozen(dict):
    def __setattr__(self, name, value):
        raise AttributeError(f"{name} can't be set")


class Meta(type):
    pass


class Made(dict, metaclass=Meta):
    pass


@pytest.mark.parametrize("bad", [None, 5, "text", object(), [], (), {1, 2}, len, int, dict, cachetools.LRUCache])
def test_what_is_no_cache_is_refused_with_advice(profiler, bad):
    with pytest.raises(NotACacheError, match="operations="):
        instrument(bad, profiler=profiler)
    assert profiler.caches() == ()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"how": "by magic"}, "how"),
        ({"how": None}, "how"),
        ({"name": ""}, "name"),
        ({"name": b"users"}, "name"),
        ({"weigher": 5}, "weigher"),
    ],
)
def test_wrong_arguments_are_refused_by_name(profiler, options, field):
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        instrument(Plain(), profiler=profiler, **options)
    assert profiler.caches() == ()


@pytest.mark.parametrize("exact", [{}, OrderedDict()])
def test_in_place_is_refused_where_it_is_impossible(profiler, exact):
    with pytest.raises(ConfigurationError, match="use how='proxy'"):
        instrument(exact, how="in place", profiler=profiler)
    assert profiler.caches() == ()


@pytest.mark.parametrize("make", [Slotted, Registered, Frozen, Made, Plain])
def test_auto_takes_what_works_and_leaves_the_object_alone_where_it_fails(profiler, make):
    bare = make()
    cache = instrument(bare, name="any", profiler=profiler)
    cache["a"] = "1"
    assert cache["a"] == "1"
    assert dict(bare) == {"a": "1"}
    assert isinstance(cache, make)
    profile = profiler.get_cache_profile("any")
    assert (profile.total_allocations, profile.hits, profile.current_entries) == (1, 1, 1)
    if cache is not bare:
        assert type(bare) is make
        assert not hasattr(bare, ATTRIBUTE)
    assert uninstrument(cache) is bare
    assert type(bare) is make
    assert vars(bare) == {} if hasattr(bare, "__dict__") else True


def test_the_metaclass_stays(profiler):
    cache = instrument(Made(), profiler=profiler)
    assert type(type(cache)) is Meta


def test_objects_of_one_class_share_the_class_that_is_made(profiler):
    one, two = (instrument(Plain(), profiler=profiler) for _ in range(2))
    assert type(one) is type(two)
    assert type(one) is not Plain
    assert type(one).__name__ == "Plain"


def test_a_shut_down_profiler_takes_no_cache():
    with CacheMemoryProfiler() as profiler:
        pass
    with pytest.raises(ConfigurationError, match="start it again"):
        instrument(Plain(), profiler=profiler)


def test_a_second_name_is_not_taken_silently(profiler, caplog):
    cache = instrument(Plain(), name="first", profiler=profiler)
    with caplog.at_level(logging.INFO, "cachescope"):
        assert instrument(cache, name="second", profiler=profiler) is cache
        assert instrument(cache, name="first", profiler=profiler) is cache
    assert profiler.caches() == ("first",)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "'second'" in caplog.records[0].getMessage()


def test_no_name_is_the_code_and_the_target(profiler):
    users = instrument(Plain(), profiler=profiler)
    (name,) = profiler.caches()
    assert name.endswith("test_no_name_is_the_code_and_the_target.users")
    assert users == {}


def test_uninstrument_of_what_never_was_is_nothing(profiler):
    bare = Plain(a=1)
    assert uninstrument(bare) is bare
    assert uninstrument(5) == 5
    assert vars(bare) == {}


def test_an_uninstrumented_cache_can_be_instrumented_by_another_profiler(profiler):
    cache = cachetools.LRUCache(4)
    instrument(cache, name="one", profiler=profiler)
    cache["a"] = "1"
    uninstrument(cache)
    with CacheMemoryProfiler() as other:
        instrument(cache, name="two", profiler=other)
        cache["b"] = "2"
        assert other.get_cache_profile("two").current_entries == 2
        uninstrument(cache)
    assert profiler.get_cache_profile("one").total_allocations == 1
    assert type(cache) is cachetools.LRUCache
    assert not hooks_left(type(cache))


def test_a_proxy_can_be_uninstrumented_by_what_it_stands_for_or_by_itself(profiler):
    for by_itself in (True, False):
        bare = {}
        proxy = instrument(bare, name="proxied", how="proxy", profiler=profiler)
        proxy["a"] = "1"
        assert uninstrument(proxy if by_itself else bare) is bare
        before = profiler.get_cache_profile("proxied").total_allocations
        proxy["b"] = "2"
        assert bare == {"a": "1", "b": "2"}
        assert profiler.get_cache_profile("proxied").total_allocations == before


def test_a_dropped_proxy_makes_room_for_another(profiler):
    bare = {}
    instrument(bare, name="first", how="proxy", profiler=profiler)
    second = instrument(bare, name="second", how="proxy", profiler=profiler)
    second["a"] = "1"
    assert profiler.get_cache_profile("second").current_entries == 1


@pytest.mark.parametrize("how", ["in place", "proxy"])
def test_copies_of_a_copy_are_counted_under_the_same_name(profiler, how):
    cache = instrument(cachetools.LRUCache(4), name="copied", how=how, profiler=profiler)
    cache["a"] = "1"
    first = copy.copy(cache)
    second = copy.deepcopy(first)
    second["b"] = "2"
    assert (len(cache), len(first), len(second)) == (1, 1, 2)
    assert profiler.get_cache_profile("copied").current_entries >= 1
    assert cache._self_cachescope.entries == 1


@pytest.mark.parametrize("how", ["in place", "proxy"])
def test_a_pickled_cache_comes_back_bare(profiler, how):
    cache = instrument(cachetools.LRUCache(4), how=how, profiler=profiler)
    cache["a"] = "1"
    back = pickle.loads(pickle.dumps(cache))
    assert type(back) is cachetools.LRUCache
    assert back["a"] == "1"
    assert getattr(back, ATTRIBUTE, None) is None
    assert dict(back.items()) == {"a": "1"}


def test_a_method_taken_before_is_the_one_hole_of_a_change_in_place(profiler):
    cache = cachetools.LRUCache(4)
    taken = cache.__setitem__
    instrument(cache, name="holed", profiler=profiler)
    taken("a", "1")
    assert profiler.get_cache_profile("holed").total_allocations == 0
    assert cache["a"] == "1"


def test_thousands_of_short_lived_caches_leave_no_objects_behind(profiler):
    for _ in range(2_000):
        cache = instrument(cachetools.LRUCache(4), name="per request", profiler=profiler)
        cache["a"] = "1"
    del cache
    profile = profiler.get_cache_profile("per request")
    assert (profile.instances, profile.instances_total, profile.current_entries) == (0, 2_000, 0)
    assert profile.total_allocations == 2_000
    registry = profiler.registry
    assert len(registry.by_serial) == 0


@pytest.mark.parametrize("wrong", [5, "private", object()])
def test_what_is_no_profiler_is_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=r"^profiler: .* is not allowed; expected a CacheMemoryProfiler"):
        instrument(cachetools.LRUCache(4), profiler=wrong)
    with pytest.raises(ConfigurationError, match=r"^profiler: .* is not allowed; expected a CacheMemoryProfiler"):
        autopatch(profiler=wrong)
