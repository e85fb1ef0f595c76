"""Which keys are hot, where were values built, and how hotspots come and go."""

import dataclasses

from cachescope.report import report_to_text
from report.analyses import USERS, hot_key
from report.reports import MIB, cache, hotspot, report, section

HOT = "Which keys are hot?"
BUILT = "Where were the values built?"


def asked(question, width=80, name=None, verbose=False, sort="bytes", caches=("users", "other"), **given):
    text = report_to_text(report(*map(cache, caches), **given), width=width, cache=name, verbose=verbose, sort=sort)
    return section(text, question)


def test_hot_keys_show_pattern_and_identity_and_where_they_are():
    """A keyed hash tells keys of one pattern apart without telling the key."""
    keys = (hot_key(cache_name="users"), hot_key("aa", "other", hits=7, live_bytes=0, live_entries=0, count_error=12))
    assert asked(HOT, keys=keys) == (
        "  Key                           Cache     Hits  Misses  Sets   Each\n"
        "  user:{int}:profile #9f2c41d8  users  181,200       2     2  524 B\n"
        "  user:{int}:profile #aa        other        7       2     2  524 B\n"
        "  counts may be too low by up to 12\n"
    )  # fmt: skip
    narrow = asked(HOT, width=50, keys=keys)
    assert "    in users · 2 misses · 524 B each\n" in narrow


def test_raw_key_stands_for_itself_where_it_may_be_shown():
    """With raw keys allowed, the pattern would only be in the way."""
    text = asked(HOT, keys=(hot_key(cache_name="users", key="user:17:profile"),))
    assert "user:17:profile " in text
    assert "{int}" not in text
    assert "#" not in text


def test_hot_keys_keep_their_order_unless_another_is_asked_for():
    """Most frequent first; by bytes is the order of other tables."""
    keys = (
        hot_key("often", "users", live_bytes=1, hits=50),
        hot_key("large", "users", live_bytes=9 * MIB, hits=10),
        hot_key("misses", "users", misses=900, hits=5),
    )
    assert asked(HOT, keys=keys).index("#often") < asked(HOT, keys=keys).index("#large")
    assert asked(HOT, keys=keys, sort="misses").splitlines()[1].startswith("  user:{int}:profile #misses")


def test_few_hot_keys_are_shown_and_all_when_verbose():
    """Five rows answer the question."""
    keys = tuple(hot_key(f"{place:016}", "users") for place in range(8))
    assert "and 3 more keys" in asked(HOT, keys=keys)
    assert asked(HOT, keys=keys, verbose=True).count("#0000000000") == 8


def test_hot_keys_of_one_cache_do_not_name_it():
    """And those of other caches are left out."""
    keys = (hot_key("mine", "users"), hot_key("theirs", "other"))
    text = asked(HOT, name="users", keys=keys)
    assert "#mine" in text
    assert "theirs" not in text
    assert "in users" not in text


def test_origins_tell_who_built_and_who_cached():
    """The two lines are rarely the same: built in a model, cached in a store."""
    built = hotspot(
        "users",
        site="shop/users.py:41 UserStore.load",
        built_at="shop/models.py:88 User.from_row",
        stack_trace=("shop/models.py:88 User.from_row", "shop/users.py:39 UserStore.load"),
    )
    text = asked(BUILT, width=120, origins=(built,))
    assert "shop/models.py:88  User.from_row  users  5.00 MiB" in text
    assert "cached at shop/users.py:41 UserStore.load" in text
    assert "shop/users.py:39" not in text
    assert "shop/users.py:39" in asked(BUILT, width=120, origins=(built,), verbose=True)
    same = dataclasses.replace(built, built_at=built.site)
    assert "cached at" not in asked(BUILT, origins=(same,))
    unknown = dataclasses.replace(built, built_at=None)
    assert "(not known)" in asked(BUILT, origins=(unknown,))


def test_course_and_churn_are_told_in_depth_and_where_room_allows():
    """They answer the second question about a hotspot, not the first."""
    row = hotspot("users", churned_bytes=60 * MIB, recurrence="burst", last_seen=1_760_000_604.0, share_of_process=0.31)
    question = "Which kind of key?"
    assert "came and went" not in asked(question, patterns=(row,))
    deep = asked(question, patterns=(row,), name="users").replace("\n    ", " · ")
    assert "60.0 MiB came and went" in deep
    assert "burst, 2 min before the end" in deep
    assert "31 % of resident memory" in deep
    wide = asked(question, patterns=(row,), width=200)
    for heading in ("Churned", "Course", "RSS"):
        assert heading in wide.splitlines()[0]
    assert "60.0 MiB  burst   31 %" in wide


def test_columns_about_the_course_are_left_out_where_nothing_is_known_of_it():
    """Old captures know none of it."""
    wide = asked("Which kind of key?", width=200, patterns=(hotspot(USERS),))
    for heading in ("Churned", "Course", "RSS"):
        assert heading not in wide
