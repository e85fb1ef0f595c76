"""Settings: what is wrong with one is said, whatever it is."""

from __future__ import annotations

import pytest

from cachescope import ConfigurationError, ProfilerConfig


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"followed_keys": 10**400}, "from 16 to 4,194,304"),
        ({"followed_keys": 10**5_000}, "followed_keys: a value of type int is not allowed"),
        ({"flush_seconds": 10**400}, "from 0.05 to 86,400.0"),
        ({"flush_seconds": float("nan")}, "flush_seconds: nan is not allowed"),
        ({"sizing_budget": float("inf")}, "from 0.0 to 1.0"),
        ({"memory_limit_bytes": 0}, "from 1,048,576 to 1,099,511,627,776"),
        ({"output": b"x" * 10_000}, "… is not allowed; expected a path, or nothing"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",  # not all have a repr
)
def test_a_value_out_of_all_bounds_is_refused_in_a_short_message(setting, words):
    with pytest.raises(ConfigurationError) as caught:
        ProfilerConfig(**setting)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400
