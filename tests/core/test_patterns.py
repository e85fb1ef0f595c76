"""Key patterns: what keys read as, what a table learns, and the laws that hold whatever comes."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import functools
import hashlib
import json
import os
import pathlib
import random
import string
import subprocess
import sys
import uuid
from typing import Any

import pytest
from cachetools.keys import _HashedTuple, hashkey, typedkey
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core import key_sketch
from cachescope.core.pattern_trees import OVERFLOW
from cachescope.core.patterns import KeyPatterns, pattern_of


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Hostile:
    """Every method that a careless reader may call raises."""

    def _fail(self, *args: object) -> Any:
        raise RuntimeError("the profiler called a method of the user's key")

    __hash__ = __eq__ = __repr__ = __str__ = __len__ = __iter__ = __bool__ = __format__ = __int__ = __index__ = _fail

    @property
    def __class__(self) -> Any:
        raise RuntimeError("the profiler asked for __class__")


class HostileStr(str):
    __slots__ = ()
    __hash__ = __eq__ = __repr__ = __str__ = __len__ = __iter__ = __getitem__ = __format__ = Hostile._fail
    encode = translate = isascii = isprintable = Hostile._fail


class HostileBytes(bytes):
    __hash__ = __eq__ = __repr__ = __str__ = __len__ = __iter__ = __getitem__ = Hostile._fail
    translate = decode = isascii = Hostile._fail


class HostileTuple(tuple):
    __slots__ = ()
    __hash__ = __eq__ = __repr__ = __len__ = __iter__ = __getitem__ = Hostile._fail


class HostileMeta(type):
    __hash__ = __eq__ = __repr__ = Hostile._fail

    @property
    def __name__(cls) -> Any:
        raise RuntimeError

    @property
    def __module__(cls) -> Any:
        raise RuntimeError


class OfHostileMeta(metaclass=HostileMeta):
    pass


Point = collections.namedtuple("Point", "x y")


def recursive() -> tuple[object, ...]:
    inside: list[object] = []
    key = _HashedTuple((1, inside))
    inside.append(key)
    return key


def functools_key(*args: object, **kwargs: object) -> object:
    return functools._make_key(args, kwargs, typed=False)


def nested(depth: int) -> tuple[object, ...]:
    key: tuple[object, ...] = ()
    for _ in range(depth):
        key = (key,)
    return key


MD5 = hashlib.md5(b"a").hexdigest()
SHA1 = hashlib.sha1(b"a").hexdigest()
SHA256 = hashlib.sha256(b"a").hexdigest()
UUID = "5a3e1f2b-8c4d-4e6f-9a0b-1c2d3e4f5a6b"
HERE = Hostile.__module__

ROWS: list[tuple[object, str]] = [
    # numbers
    ("user:123:profile", "user:{int}:profile"),
    ("user:007", "user:{int}"),
    ("user:-5", "user:{int}"),
    ("a-5", "a-{int}"),
    ("user123", "user{int}"),
    ("page=2&size=-1", "page={int}&size={int}"),
    ("3.14", "{float}"),
    ("lat:-2.5:lon:1e-5", "lat:{float}:lon:{float}"),
    ("v1.2.3", "{version}"),
    ("pkg:1.2.3rc1", "pkg:{version}"),
    ("v2:user", "v{int}:user"),
    # random
    (f"order:{UUID}", "order:{uuid}"),
    (f"order:{UUID.upper()}:lines", "order:{uuid}:lines"),
    (f"user_{UUID}_x", "user_{uuid}_x"),
    (MD5, "{hash}"),
    (f"page:{SHA1}", "page:{hash}"),
    (f"page:{SHA256.upper()}", "page:{hash}"),
    ("0" * 32, "{hash}"),
    ("commit:1a2b3c4d", "commit:{hash}"),
    ("ptr:0x1f2e3d4c", "ptr:{hash}"),
    ("x:deadbeef", "x:deadbeef"),
    ("facade", "facade"),
    ("decade2020", "decade{int}"),
    ("session:V1StGXR8_Z5jdHi6B-myT", "session:{token}"),
    ("sess_4fK29dLmQ0xZ_profile", "sess_{token}_profile"),
    ("jwt:eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def_ghi", "jwt:{token}"),
    ("digest:rL0Y20zC+Fzt72VPzMSk2A==", "digest:{token}"),
    ("getUserProfileByEmail", "getUserProfileByEmail"),
    ("base64url", "base{int}url"),
    # time
    ("2024-01-15", "{date}"),
    ("stats:2024/01/15:eu", "stats:{date}:eu"),
    ("20240115", "{int}"),
    ("log:2024-01-15T10:00:00.123Z", "log:{datetime}"),
    ("log:2024-01-15 10:00:00+02:00", "log:{datetime}"),
    ("20240115T103000Z", "{datetime}"),
    # the net
    ("mail:bob.x+y@example.co.uk:in", "mail:{email}:in"),
    ("ip:10.0.0.1", "ip:{ip}"),
    ("10.0.0.1:8080", "{ip}:{int}"),
    ("999.0.0.1", "{ip}"),
    ("ip:2001:db8::1", "ip:{ip}"),
    ("fe80::1", "{ip}"),
    ("00:1a:2b:3c:4d:5e", "{mac}"),
    ("https://api.example.com/v1/users/5?x=1#y", "https://api.example.com/v{int}/users/{int}?{query}#{fragment}"),
    ("https://user:secret@h.com/", "https://{auth}@h.com/"),
    # paths
    ("/var/www/a/b.png", "/var/www/{path}"),
    ("cache:/api/v1/users/5/orders", "cache:/api/v{int}/users/{int}/orders"),
    ("/search?q=x", "/search?{query}"),
    ("images/2024/01/a.png", "images/{int}/{path}"),
    ("C:\\Users\\bob\\x.txt", "C:\\Users\\{path}"),
    # words
    ("tenant_acme:settings", "tenant_acme:settings"),
    ("post:how-to-cook-rice", "post:how-to-cook-rice"),
    ("post:10-best-laptops-of-2024-ranked", "post:{slug}"),
    ("SELECT id FROM users WHERE id = 5", "SELECT id FROM {text}"),
    ("ключ:123:имя", "ключ:{int}:имя"),
    ("{user1000}.following", "{user{int}}.following"),
    ("", ""),
    ("user::5", "user::{int}"),
    # bytes
    (b"user:12", "b'user:{int}'"),
    (b"\x00\x01\xff", "b'{bytes}'"),
    (b"user:\xff\xfe", "b'user:{bytes}'"),
    # tuples and the like
    (("user", 5), "('user', {int})"),
    ((1,), "({int},)"),
    ((), "()"),
    (("a", ("b", (1.5, None))), "('a', ('b', ({float}, None)))"),
    (nested(9), "(((((…),),),),)"),
    ((1,) * 20, "({int}, {int}, {int}, {int}, {int}, {int}, {int}, {int}, …)"),
    (("x", UUID), "('x', '{uuid}')"),
    (_HashedTuple((1, "de")), "({int}, 'de')"),
    (hashkey(1, "de"), "({int}, 'de')"),
    (hashkey(1, lang="de"), "({int}, lang='de')"),
    (typedkey(1, "a"), "({int}, 'a', int, str)"),
    (functools_key(1, "a", b=2), "({int}, 'a', b={int})"),
    (Point(1, "a"), "Point({int}, 'a')"),
    (recursive(), "({int}, <builtins.list>)"),
    (frozenset({1, 2, "a"}), "frozenset({int}|{str})"),
    (frozenset(), "frozenset()"),
    # other leaves
    (5, "{int}"),
    (10**5000, "{int}"),
    (None, "None"),
    (True, "True"),
    ((True, 1), "(True, {int})"),
    (1.5, "{float}"),
    (Color.RED, "Color.{name}"),
    (Level.LOW, "Level.{name}"),
    (uuid.UUID(UUID), "{uuid}"),
    (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "{datetime}"),
    (datetime.date(2024, 1, 1), "{date}"),
    (decimal.Decimal(1), "{decimal}"),
    (pathlib.PurePosixPath("/a"), "{path}"),
    (object(), "<builtins.object>"),
    # hostile
    ("x" * 1_000_000, "{token}…"),
    ("img:" + "Ab3" * 400_000, "img:{token}…"),
    ("lorem ipsum " * 100_000, "lorem ipsum lorem {text}…"),
    ("\ud800:5", "\\ud800:{int}"),
    (("\ud800", 5), "('\\ud800', {int})"),
    ("a\x00b\x1b[31m", "a\\x00b\\x1b[{int}m"),
    ("a\u202eb", "a\\u202eb"),
    (HostileStr("user:5"), "user:{int}"),
    (HostileBytes(b"user:5"), "b'user:{int}'"),
    (HostileTuple(("user", 5)), "HostileTuple('user', {int})"),
    (Hostile(), f"<{HERE}.Hostile>"),
    ((1, Hostile()), f"({{int}}, <{HERE}.Hostile>)"),
    ((1, HostileStr("a5")), "({int}, 'a{int}')"),
]


@pytest.mark.parametrize(("key", "pattern"), ROWS, ids=[pattern[:40] for _, pattern in ROWS])
def test_pattern_of_a_real_key_reads_as_expected(key: object, pattern: str) -> None:
    assert pattern_of(key) == pattern
    table = KeyPatterns()
    assert table.text(table.id_of(key)) == pattern
    assert table.text(table.id_of(key)) == pattern, "the second time, from a cache"


def test_pattern_of_a_class_whose_metaclass_raises_is_text() -> None:
    for key in (OfHostileMeta(), OfHostileMeta, (OfHostileMeta, 1), (OfHostileMeta(), 1)):
        assert "OfHostileMeta" in pattern_of(key)
        table = KeyPatterns()
        assert table.text(table.id_of(key)) == pattern_of(key)


# Keys built of fields that real ones have, so that shapes collide often, and of anything at all.
field = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=False).map(str),
    st.uuids().map(str),
    st.dates().map(str),
    st.datetimes().map(datetime.datetime.isoformat),
    st.ip_addresses().map(str),
    st.emails(),
    st.binary(min_size=4, max_size=20).map(bytes.hex),
    st.text("0123456789", min_size=1, max_size=34),
    st.text(string.ascii_letters + string.digits + "-_", max_size=30),
    st.text("0123456789abcdefTZ.:-/{}", max_size=40),
    st.sampled_from(["user", "tenant_acme", "/var/www/", "https://a.b/c?d", "{word}", "{int}", "v1"]),
    st.text(max_size=20),
)
texts = st.lists(field, min_size=1, max_size=4).flatmap(
    lambda fields: st.sampled_from([":", "/", "_", "-", ".", " ", ""]).map(lambda joint: joint.join(fields))
)
leaves = st.one_of(texts, st.integers(), st.floats(), st.none(), st.booleans(), st.binary(max_size=20), st.uuids())
keys = st.recursive(leaves, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=8)
DIGITS = str.maketrans("0123456789", "5820914736")


def swap_digits(key: object) -> object:
    if isinstance(key, str):
        return key.translate(DIGITS)
    return tuple(map(swap_digits, key)) if isinstance(key, tuple) else key


@given(keys)
def test_keys_of_one_shape_have_one_pattern(key: object) -> None:
    assert pattern_of(key) == pattern_of(swap_digits(key))


@given(keys)
def test_pattern_of_anything_is_short_and_printable(key: object) -> None:
    pattern = pattern_of(key)
    assert pattern.isprintable()
    assert len(pattern) <= 120


@given(st.lists(keys, max_size=30))
def test_a_cached_answer_is_the_uncached_one(many: list[object]) -> None:
    table = KeyPatterns()
    for key in many:
        table.id_of(key)
    for key in [*many, *map(swap_digits, many)]:
        found = table.id_of(key)
        for cache in (table._shapes, table._masks, table._tuples, table._bytes):
            cache.clear()
        assert table.id_of(key) == found
        assert table.text(found) == pattern_of(key), "few words: nothing was generalised"


# Few words, a low threshold: collapses happen at every place and in every order.
word = st.sampled_from([a + b for a in "abcdefgh" for b in "klmnopq"])
learned = st.one_of(
    st.builds("{}:{}".format, word, word),
    st.builds("app:{}:{}:7".format, word, word),
    st.builds("s:{}".format, word),
    st.builds(
        "j:{}{}{}".format, word, st.sampled_from(["-", "_", "-7-", "_7", "7-", "7_", "--", "__", "-_", "_-"]), word
    ),
    st.tuples(word, word),
)


def learn(many: list[Any], limit: int = 100_000, step: int = 3) -> KeyPatterns:
    table = KeyPatterns(limit)
    table._step = step
    for key in many:
        table.id_of(key)
    return table


def live(table: KeyPatterns) -> list[str]:
    found = {table.resolve(i) for i in range(len(table._parents))} - {0}
    assert len(found) == len(table)
    return sorted(table.text(i) for i in found)


@given(st.lists(learned, max_size=80), st.randoms(use_true_random=False))
def test_patterns_do_not_depend_on_the_order_of_keys(many: list[Any], rng: random.Random) -> None:
    shuffled = list(many)
    rng.shuffle(shuffled)
    one, other = learn(many), learn(shuffled)
    assert live(one) == live(other)
    assert [one.text(one.id_of(key)) for key in many] == [other.text(other.id_of(key)) for key in many]


@given(st.lists(learned, max_size=60), st.lists(learned, max_size=60), st.lists(learned, max_size=60))
def test_merge_equals_one_table_that_saw_all_in_any_grouping(a: list[Any], b: list[Any], c: list[Any]) -> None:
    whole = live(learn(a + b + c))
    left = learn(a)
    left.merge(learn(b))
    left.merge(learn(c))
    right, last = learn(b), learn(c)
    last.merge(right)
    last.merge(learn(a))
    assert live(left) == live(last) == whole


@given(st.lists(learned, max_size=60), st.lists(learned, max_size=60), st.sampled_from([3, 10, 100_000]))
def test_merge_maps_every_id_and_moves_every_count(a: list[Any], b: list[Any], limit: int) -> None:
    one, other = learn(a, limit), learn(b, limit)
    counts = collections.Counter(other.id_of(key) for key in b)
    mapped = one.merge(other)
    assert set(mapped) == set(range(len(other._parents)))
    assert all(one.resolve(i) == i for i in mapped.values())
    assert mapped[0] == 0
    if limit > 1000:
        for key in b:
            assert mapped[other.resolve(other.id_of(key))] == one.id_of(key)
    assert len(one) <= limit
    assert sum(counts.values()) == len(b)


@given(st.lists(learned, max_size=80), st.sampled_from([3, 10, 100_000]))
def test_a_table_survives_json(many: list[Any], limit: int) -> None:
    table = learn(many, limit)
    again = KeyPatterns.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again.to_dict() == table.to_dict()
    assert [again.text(i) for i in range(len(table._parents))] == [table.text(i) for i in range(len(table._parents))]
    assert [again.id_of(key) for key in many] == [table.id_of(key) for key in many]


def test_merge_with_itself_or_an_empty_table_changes_nothing() -> None:
    table = learn([f"s:{w}" for w in "abcdefgh"], step=0)
    before = table.to_dict()
    assert all(table.resolve(a) == b for a, b in table.merge(table).items())
    table.merge(KeyPatterns())
    assert table.to_dict() == before


def names(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(5, 12))) for _ in range(count)]


def test_few_words_stay_and_many_become_a_wildcard() -> None:
    table = KeyPatterns()
    few = [table.id_of("config:theme"), table.id_of("config:lang")]
    early = [table.id_of(f"tenant_{name}:settings") for name in names(20)]
    assert table.text(early[0]) == f"tenant_{names(1)[0]}:settings"
    assert table.generalisations == 0
    for name in names(40, seed=2):
        table.id_of(f"tenant_{name}:settings")
        table.id_of(f"session:{name}")
    assert table.generalisations == 2
    assert {table.text(i) for i in early} == {"tenant_{word}:settings"}
    assert {table.resolve(i) for i in early} == {table.id_of("tenant_new:settings")}
    assert [table.text(i) for i in few] == ["config:theme", "config:lang"]
    assert live(table) == ["config:lang", "config:theme", "session:{word}", "tenant_{word}:settings"]


def test_two_sparse_places_both_become_wildcards() -> None:
    table = KeyPatterns()
    for first, second in zip(names(300, 3), names(300, 4), strict=True):
        table.id_of(f"t_{first}:user_{second}")
    assert live(table) == ["t_{word}:user_{word}"]


def test_thirty_namespaces_keep_their_names() -> None:
    table = KeyPatterns()
    for name in names(30):
        table.id_of(f"{name}:5")
        table.id_of((name, 5))
    assert len(table) == 60


def test_counts_are_never_lost_while_patterns_fold() -> None:
    table = KeyPatterns()
    counts: collections.Counter[int] = collections.Counter()
    rng = random.Random(5)
    for name in names(2_000):
        counts[table.id_of(f"session:{name}")] += 1
        counts[table.id_of(f"user:{rng.randrange(10**6)}")] += 1
    total: collections.Counter[str] = collections.Counter()
    for i, count in counts.items():
        total[table.text(i)] += count
    assert total == {"session:{word}": 2_000, "user:{int}": 2_000}


def test_fifty_thousand_mixed_keys_of_seven_shapes_give_their_patterns() -> None:
    rng = random.Random(6)
    words = names(3_000, 7)

    def hex_(bits: int) -> str:
        return f"{rng.getrandbits(bits):0{bits // 4}x}"

    makers = [
        lambda: f"user:{rng.randrange(10**7)}:profile",
        lambda: f"tenant_{rng.choice(words)}:settings",
        lambda: f"order:{uuid.UUID(int=rng.getrandbits(128), version=4)}",
        lambda: f"page:{hex_(160)}",
        lambda: f"stats:2024-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}:{rng.choice(['eu', 'us', 'ap'])}",
        lambda: ("get_user", rng.randrange(10**6), rng.choice(["de", "en"])),
        lambda: f"mail:{rng.choice(words)}@example.com",
    ]
    table = KeyPatterns()
    counts: collections.Counter[int] = collections.Counter()
    for i in range(50_000):
        counts[table.id_of(makers[i % 7]())] += 1
    seen = {table.text(i) for i in counts}
    assert seen == {
        "user:{int}:profile",
        "tenant_{word}:settings",
        "order:{uuid}",
        "page:{hash}",
        "stats:{date}:eu",
        "stats:{date}:us",
        "stats:{date}:ap",
        "('get_user', {int}, 'de')",
        "('get_user', {int}, 'en')",
        "mail:{email}",
    }
    assert sum(counts.values()) == 50_000


def test_random_base64url_does_not_fill_the_table() -> None:
    rng = random.Random(8)
    alphabet = string.ascii_letters + string.digits + "-_"
    table = KeyPatterns()
    for _ in range(20_000):
        table.id_of("session:" + "".join(rng.choices(alphabet, k=22)))
    assert "session:{token}" in live(table)
    assert len(table) < 100
    assert OVERFLOW not in live(table)


def sizes(table: KeyPatterns) -> dict[str, int]:
    return {
        "ids": len(table._parents),
        "texts": sum(map(len, table._texts)),
        "live": len(table),
        "shapes": len(table._shapes) + len(table._masks) + len(table._tuples) + len(table._bytes),
        "trees": len(table._trees),
    }


def test_memory_is_bounded_whatever_the_keys() -> None:
    rng = random.Random(9)
    table = KeyPatterns()
    for i in range(200_000):
        table.id_of("w:" + "".join(rng.choices(string.ascii_lowercase, k=10)) + (":x" if i % 2 else ""))
    assert live(table) == ["w:{word}", "w:{word}:x"]
    found = sizes(table)
    assert found["shapes"] <= 4 * 2_048
    assert found["ids"] < 200


def test_memory_is_bounded_for_noise_and_the_rest_overflows() -> None:
    rng = random.Random(10)
    table = KeyPatterns()
    for _ in range(20_000):
        key = "".join(rng.choices(string.printable, k=rng.randint(1, 40)))
        table.id_of(key if rng.random() < 0.7 else (key, rng.random(), key.encode()))
    found = sizes(table)
    assert found["live"] <= 512
    assert found["trees"] <= 512
    assert found["ids"] <= 512 * 64 * 2
    assert found["shapes"] <= 4 * 2_048
    assert table.text(table.id_of("!a!b#c$d%e^f&g*")) == OVERFLOW


def test_a_full_table_is_content_with_fewer_words_before_it_overflows() -> None:
    table = KeyPatterns(limit=40)
    for a in range(10):
        for b in range(10):
            table.id_of(f"app:{names(10)[a]}:{names(10, 2)[b]}")
    assert live(table) == ["app:{word}:{word}"]
    assert table.text(0) == OVERFLOW


@pytest.mark.parametrize("limit", [1, 2, 5, 17])
def test_a_limit_is_kept_and_known_patterns_go_on(limit: int) -> None:
    table = KeyPatterns(limit)
    for key, _ in ROWS:
        table.id_of(key)
        assert len(table) <= limit
    assert table.text(table.id_of("user:1:profile")) in ("user:{int}:profile", OVERFLOW)
    assert table.text(table.id_of(object.__new__(Hostile))) == OVERFLOW


def test_wide_and_deep_tuples_are_read_within_a_budget() -> None:
    key: Any = "a"
    for _ in range(6):
        key = (key,) * 8
    assert len(pattern_of(key)) <= 120
    table = KeyPatterns()
    assert table.text(table.id_of(key)) == pattern_of(key)
    sketch = key_sketch.Sketch()
    sketch.of(key)
    assert -key_sketch.MOST_ITEMS_IN_ALL < sketch.room <= 0


def test_bytes_and_text_never_meet_in_a_cache() -> None:
    script = """
from cachescope.core.patterns import KeyPatterns
table = KeyPatterns()
random = "5a3e1f2b-8c4d-4e6f-9a0b-1c2d3e4f5a6b"
keys = ["a:b", b"a:b", ("a:b",), (b"a:b",), ("{uuid}",), (random,), frozenset({b"a", "b"})]
print([table.text(table.id_of(key)) for key in keys * 2])
"""
    source = pathlib.Path(key_sketch.__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-bb", "-c", script],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    texts = ["a:b", "b'a:b'", "('a:b',)", "(b'a:b',)", "('{uuid}',)", "('{uuid}',)", "frozenset({bytes}|{str})"]
    assert run.stdout.strip() == str(texts * 2)


def test_ids_that_were_never_given_out_raise() -> None:
    table = KeyPatterns()
    with pytest.raises(IndexError):
        table.resolve(-1)
    with pytest.raises(IndexError):
        table.text(1)
    with pytest.raises(ValueError, match="limit"):
        KeyPatterns(0)


GOOD = learn(["a:b", "c:5"], step=0).to_dict()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        {**GOOD, "version": 2},
        {**GOOD, "limit": 0},
        {**GOOD, "limit": True},
        {**GOOD, "limit": 1},
        {**GOOD, "step": 9},
        {**GOOD, "ids": "abc"},
        {**GOOD, "ids": []},
        {**GOOD, "ids": [0, 2, 1]},
        {**GOOD, "ids": [0, 1, 2, 3]},
        {**GOOD, "ids": [0, 1, 99]},
        {**GOOD, "coarse": [1]},
        {**GOOD, "patterns": {}},
        {**GOOD, "patterns": [5]},
        {**GOOD, "patterns": [[1, "\0:\0", ["a"]], [2, "x", []]]},
        {**GOOD, "patterns": [[1, "\x1b", []], [2, "x", []]]},
        {**GOOD, "patterns": [[1, "x", []], [2, "x", []]]},
        {**GOOD, "patterns": [[1, "x:\0", ["a"]], [2, "x:\0", ["{word}"]]]},
        {**GOOD, "patterns": [[1, "x:\0", ["a"]], [1, "x:\0", ["b"]]]},
        {**GOOD, "patterns": [[0, "x:\0", ["a"]], [1, "x:\0", ["b"]]]},
    ],
)
def test_from_dict_refuses_rubbish_with_a_message(bad: object) -> None:
    with pytest.raises(ValueError, match="key patterns"):
        KeyPatterns.from_dict(bad)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(GOOD)), json_like)
def test_from_dict_returns_a_table_or_raises_value_error(name: str, value: object) -> None:
    try:
        table = KeyPatterns.from_dict({**GOOD, name: value})
    except ValueError:
        return
    table.id_of("a:new")
    live(table)
