"""Settings: each is read from text or code alike, kept in one form, and what is wrong with one is said, whatever it is."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope import ConfigurationError, MemoryEventType, ProfilerConfig
from cachescope.core.config_values import EVENT_KINDS, covers, name_matcher, size_in_bytes


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"followed_keys": 10**400}, "from 16 to 4,194,304"),
        ({"followed_keys": 10**5_000}, "followed_keys: a value of type int is not allowed"),
        ({"followed_keys": "64MiB"}, "followed_keys: '64MiB' is not allowed; expected a whole number"),
        ({"flush_seconds": 10**400}, "from 0.05 to 86,400.0"),
        ({"flush_seconds": float("nan")}, "flush_seconds: nan is not allowed"),
        ({"sizing_budget": float("inf")}, "from 0.0 to 1.0"),
        ({"memory_limit_bytes": 0}, "from 1,048,576 to 1,099,511,627,776"),
        ({"memory_limit_bytes": "64 MiBs"}, "or text such as '64MiB'"),
        ({"memory_limit_bytes": None}, "memory_limit_bytes: None is not allowed"),
        ({"memory_limit_bytes": "9" * 5_000}, "… is not allowed"),
        ({"min_size_bytes": "-1"}, "min_size_bytes: '-1' is not allowed"),
        ({"output": b"x" * 10_000}, "… is not allowed; expected a path, or nothing"),
        ({"output": ""}, "expected a path, or nothing"),
        ({"include_caches": ()}, "expected one or more texts such as 'users'"),
        ({"include_patterns": ["session:*", ""]}, "include_patterns: ['session:*', ''] is not allowed"),
        ({"exclude_caches": [1]}, "exclude_caches: [1] is not allowed"),
        ({"exclude_caches": 7}, "at most 256"),
        ({"exclude_caches": [str(i) for i in range(300)]}, "at most 256"),
        ({"exclude_patterns": "x" * 1_000}, "exclude_patterns: 'xxx"),
        ({"event_kinds": "allocation,hit"}, "expected some of allocation, resize, deallocation, eviction, cleanup"),
        ({"retention_minutes": 0}, "from 1 to 10,080"),
        ({"retention_minutes": 1.5}, "retention_minutes: 1.5 is not allowed; expected a whole number"),
        ({"snapshot_seconds": 0.0}, "from 0.1 to 86,400.0"),
        ({"max_snapshots": 7}, "from 8 to 100,000"),
        ({"hot_keys": 65_537}, "from 16 to 65,536"),
        ({"process_budget_bytes": "lots"}, "or text such as '64MiB' or '1.5GB'), or None"),
        ({"cache_budgets": {"users": "-1"}}, "cache_budgets: {'users': '-1'} is not allowed"),
        ({"cache_budgets": {"users": 0}}, "with bytes from 1"),
        ({"cache_budgets": {"users": True}}, "with bytes from 1"),
        ({"cache_budgets": "users"}, "users=64MiB,shop.*=1GB"),
        ({"cache_budgets": "=1GB"}, "users=64MiB,shop.*=1GB"),
        ({"cache_budgets": "users=1GB,users=2GB"}, "each once"),
        ({"cache_budgets": ["users"]}, "patterns of cache names"),
        ({"pressure_high": float("nan")}, "pressure_high: nan is not allowed; expected a number from 0.01 to 1.0"),
        ({"tracemalloc_frames": 65}, "from 1 to 64"),
        ({"latency": 1}, "latency: 1 is not allowed; expected true or false"),
        ({"read_budget": -0.1}, "from 0.0 to 1.0"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",  # not all have a repr
)
def test_a_value_out_of_all_bounds_is_refused_in_a_short_message(setting, words):
    """The message names the setting, the value and what is allowed, however long or odd the value is."""
    with pytest.raises(ConfigurationError) as caught:
        ProfilerConfig(**setting)
    assert words in str(caught.value)
    assert str(caught.value).startswith(next(iter(setting)))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"include_caches": "users", "exclude_caches": "users"},
            "include_caches: 'users' is not allowed together with",
        ),
        ({"include_caches": "users.*", "exclude_caches": ["tmp", "users*"]}, "exclude_caches 'users*'"),
        ({"include_patterns": "user:{int}:*", "exclude_patterns": "user:*"}, "take it out of the other"),
        ({"pressure_high": 0.9, "pressure_critical": 0.8}, "raise pressure_critical or lower pressure_high"),
        ({"pressure_high": 0.3, "pressure_release": 0.3}, "lower pressure_release"),
    ],
)
def test_two_settings_that_contradict_each_other_are_refused_with_what_to_do(settings, words):
    """Neither of the two is silently preferred."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        ProfilerConfig(**settings)


def test_an_include_that_an_exclude_narrows_down_is_no_contradiction():
    """All of ``users.*`` but the debugging ones is a sensible wish, and so is everything but one."""
    narrowed = ProfilerConfig(include_caches="users.*", exclude_caches="users.debug")
    assert (narrowed.include_caches, narrowed.exclude_caches) == (("users.*",), ("users.debug",))
    apart = ProfilerConfig(exclude_caches="users", exclude_patterns="*:lock")
    assert (apart.exclude_caches, apart.exclude_patterns) == (("users",), ("*:lock",))
    assert ProfilerConfig(include_caches="user*", exclude_caches="user?").exclude_caches == ("user?",)
    assert ProfilerConfig(pressure_high=0.9, pressure_critical=0.9).pressure_critical == 0.9


def test_every_setting_is_read_from_its_variable_as_from_code():
    """Text from the environment gives the same settings as values of the field's own type."""
    environment = {
        "CACHESCOPE_LEVEL": "Detailed",
        "CACHESCOPE_INCLUDE_CACHES": " users , shop.* ,users",
        "CACHESCOPE_EXCLUDE_PATTERNS": "session:*,a[{int}]",
        "CACHESCOPE_EVENT_KINDS": "EVICTION, pressure",
        "CACHESCOPE_MIN_SIZE_BYTES": "1.5 KiB",
        "CACHESCOPE_MEMORY_LIMIT_BYTES": "33_554_432",
        "CACHESCOPE_PROCESS_BUDGET_BYTES": "2GB",
        "CACHESCOPE_CACHE_BUDGETS": "users=64MiB, shop.*=1GB,a=b=5",
        "CACHESCOPE_WATCH_READS": "off",
        "CACHESCOPE_READ_BUDGET": "0.5",
        "CACHESCOPE_RETENTION_MINUTES": "",
    }
    assert ProfilerConfig.from_environment(environment) == ProfilerConfig(
        level="detailed",
        include_caches=("users", "shop.*"),
        exclude_patterns=["session:*", "a[{int}]"],
        event_kinds=[MemoryEventType.EVICTION, "pressure"],
        min_size_bytes=1536,
        memory_limit_bytes=32 << 20,
        process_budget_bytes=2_000_000_000,
        cache_budgets={"users": 64 << 20, "shop.*": 10**9, "a=b": 5},
        watch_reads=False,
        read_budget=0.5,
    )


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CACHESCOPE_EVENT_KINDS", "hit"),
        ("CACHESCOPE_PROCESS_BUDGET_BYTES", "64 cows"),
        ("CACHESCOPE_CACHE_BUDGETS", "users"),
        ("CACHESCOPE_INCLUDE_CACHES", "a,,b"),
        ("CACHESCOPE_HOT_KEYS", "15"),
        ("CACHESCOPE_LATENCY", "maybe"),
        ("CACHESCOPE_PRESSURE_HIGH", "nan"),
    ],
)
def test_a_wrong_variable_is_named_as_the_user_wrote_it(variable, text):
    """Who set a variable looks for a variable's name."""
    with pytest.raises(ConfigurationError, match=f"^{variable}: '?{text}"):
        ProfilerConfig.from_environment({variable: text})


names = st.text(min_size=1, max_size=8)
odd_settings = st.fixed_dictionaries(
    {},
    optional={
        "level": st.sampled_from(["basic", "detailed", "comprehensive"]),
        "include_caches": st.lists(st.text("ab?", min_size=1, max_size=8), min_size=1, max_size=3),
        "exclude_patterns": st.lists(names, max_size=3),
        "event_kinds": st.lists(st.sampled_from(EVENT_KINDS), max_size=3),
        "process_budget_bytes": st.none() | st.integers(1 << 20, 1 << 50),
        "cache_budgets": st.dictionaries(names, st.integers(1, 1 << 50), max_size=3),
        "retention_minutes": st.integers(1, 10_080),
        "snapshot_seconds": st.floats(0.1, 86_400),
        "raw_keys": st.booleans(),
        "output": st.none() | names,
    },
)


@given(odd_settings)
def test_settings_survive_json_and_can_be_hashed(settings):
    """What ``to_dict()`` gives makes the same settings again, through JSON too."""
    config = ProfilerConfig(**settings)
    again: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    assert ProfilerConfig(**again) == config
    assert hash(ProfilerConfig(**again)) == hash(config)
    assert set(again) == {field.name for field in dataclasses.fields(ProfilerConfig)}


def test_budgets_are_an_object_in_json_in_the_order_given():
    """The first pattern that fits counts, so the order is part of the setting."""
    budgets = {"users": 5, "shop.*": 7, "*": 6}
    found = ProfilerConfig(cache_budgets=budgets).to_dict()["cache_budgets"]
    assert found == budgets
    assert list(found) == list(budgets)


@given(st.sampled_from([field.name for field in dataclasses.fields(ProfilerConfig)]), st.from_type(object))
def test_any_value_is_taken_or_refused_with_the_setting_named(name, value):
    """Whatever a setting is given, no other exception gets out."""
    said = name
    try:
        ProfilerConfig(**{name: value})
    except ConfigurationError as error:
        said = str(error)
    assert name.partition("_")[0] in said  # pressure_high may be fine but for pressure_critical


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4_096B", 4096),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("1.5GB", 1_500_000_000),
        ("0.5kB", 500),
        ("2TiB", 2 << 40),
        (" 7KB ", 7_000),
    ],
)
def test_sizes_are_read_with_their_units(text, size):
    """kB counts by 1,000 and KiB by 1,024, in any case."""
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e3", "64M", "1.5.2GB", "nan", "64MiB,", "\u0664", "9" * 10_000])
def test_text_that_is_no_size_is_refused(text):
    """64M is refused: it means one thing to Docker and another to Kubernetes."""
    with pytest.raises(ValueError):  # noqa: PT011 # the text is the message; checked() says it in full
        size_in_bytes(text)


def naive(pattern: str, text: str) -> bool:
    """Match by trying every way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return naive(pattern[1:], text) or bool(text and naive(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and naive(pattern[1:], text[1:])


globs = st.text("ab*?{[\n", max_size=8)
subjects = st.text("ab{[\n", max_size=8)


@given(st.lists(globs, max_size=3), subjects)
def test_a_pattern_matches_as_trying_every_way_does(patterns, text):
    """Nothing but ``*`` and ``?`` is special: key patterns are full of braces and brackets."""
    assert name_matcher(patterns)(text) == any(naive(pattern, text) for pattern in patterns)


@given(globs, globs, subjects)
def test_what_a_pattern_covers_it_matches(general, special, text):
    """A contradiction is only reported where nothing could be left."""
    if covers(general, special) and naive(special, text):
        assert naive(general, text)


def test_a_pattern_of_many_stars_is_as_fast_as_any():
    """Trying every split of this text would take longer than the universe has."""
    assert not name_matcher(["*a" * 40 + "*b"])("a" * 10_000)
