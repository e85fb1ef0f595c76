"""Filters: what is left out is what the settings name, and nothing else."""

from __future__ import annotations

import math
import random
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cachescope import ConfigurationError, MemoryEventType, ProfilerConfig
from cachescope.core import filters
from cachescope.core.filters import Filters

names = st.text("ab:{}", min_size=1, max_size=6)
patterns = st.lists(st.text("ab:{}*?", min_size=1, max_size=6), min_size=1, max_size=3)


def wanted(text: str, include: list[str], exclude: list[str]) -> bool:
    """The rule, naively; fnmatch agrees where no ``[`` is in a pattern."""
    return any(fnmatchcase(text, p) for p in include) and not any(fnmatchcase(text, p) for p in exclude)


def config(**settings: object) -> ProfilerConfig:
    try:
        return ProfilerConfig(**settings)  # type: ignore[arg-type]
    except ConfigurationError:
        assume(False)
        raise


@given(patterns, patterns, st.lists(names, max_size=20))
def test_names_and_patterns_are_filtered_as_the_naive_rule_says(include, exclude, texts):
    """Included by one and excluded by none, the first time and from memory."""
    ours = Filters(
        config(include_caches=include, exclude_caches=exclude, include_patterns=include, exclude_patterns=exclude)
    )
    for text in texts * 2:
        assert ours.cache(text) == ours.pattern(text) == wanted(text, include, exclude)


@given(
    patterns | st.just(["*"]),
    st.lists(st.sampled_from(list(MemoryEventType))) | st.just(list(MemoryEventType)),
    st.integers(0, 2),
    names,
)
def test_everything_means_that_each_question_is_answered_with_yes(include, kinds, least, text):
    """A caller that sees ``everything`` may skip asking."""
    ours = Filters(config(include_patterns=include, event_kinds=kinds, min_size_bytes=least))
    assert all(ours.event(kind) == (kind in kinds) for kind in MemoryEventType)
    assert [ours.size(size) for size in range(4)] == [size >= least for size in range(4)]
    if ours.everything:
        assert ours.cache(text)
        assert ours.pattern(text)
        assert all(map(ours.event, MemoryEventType))
        assert ours.size(0)
        assert ours.size(math.nan)
    else:
        assert "*" not in include or set(kinds) != set(MemoryEventType) or least


def test_the_default_filters_nothing():
    """Callers of an unfiltered profiler pay for one attribute."""
    assert Filters(ProfilerConfig()).everything


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("session:*", "session:{uuid}", True),
        ("user:{int}", "user:{int}", True),
        ("user:{int}", "user:5", False),
        ("a[{int}]", "a[{int}]", True),
        ("[ab]", "a", False),
        ("{*}", "{int}", True),
        ("*:{word}…", "x:{word}…", True),
        ("Session:*", "session:{uuid}", False),
        ("('get_user', *)", "('get_user', {int}, 'de')", True),
        ("user", "user:{int}", False),
    ],
)
def test_brackets_and_braces_of_a_key_pattern_stand_for_themselves(pattern, text, fits):
    """A pattern copied from a report matches just the line it was copied from."""
    assert Filters(ProfilerConfig(include_patterns=[pattern])).pattern(text) is fits


def test_what_filters_remember_is_bounded_whatever_they_are_asked():
    """Names may be generated without end; answers stay right."""
    rng = random.Random(1)
    ours = Filters(ProfilerConfig(include_patterns="a*", include_caches="a*"))
    for i in range(10_000):
        text = f"{rng.choice('ab')}{i}"
        assert ours.pattern(text) == ours.cache(text) == text.startswith("a")
        assert len(ours._patterns) <= filters._MOST_REMEMBERED
        assert len(ours._caches) <= filters._MOST_REMEMBERED
    assert ours.pattern("a" * 10**6)
    assert max(map(len, ours._patterns)) <= 512
