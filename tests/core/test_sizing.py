"""The sizer against tracemalloc, against a naive sizer, and against objects that misbehave."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import functools
import gc
import json
import random
import sys
import threading
import tracemalloc
import weakref
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core.sizing import (
    LEAF_TYPES,
    Measurement,
    Sizer,
    allocated_bytes,
    leaf_bytes,
    proxy_bytes,
    shallow_bytes,
)

HEADER = sys.getsizeof([]) - [].__sizeof__()


@dataclass
class Plain:
    number: int
    name: str
    ratio: float
    parts: list[int]
    raw: bytes


@dataclass(slots=True)
class Slotted:
    number: int
    name: str
    ratio: float
    parts: list[int]
    raw: bytes


class SlottedChild(Slotted):
    __slots__ = ("extra",)


class HoldsDict:
    def __init__(self, i: int) -> None:
        self.data = {f"key-{i}": i + 0.5}


def fields(i: int) -> tuple[int, str, float, list[int], bytes]:
    return i + 1000, f"name {i}", i + 0.5, [i + 1000, i + 2000, i + 3000], b"raw %d" % i


def slotted_child(i: int) -> SlottedChild:
    child = SlottedChild(*fields(i))
    child.extra = [f"extra {i}"]
    return child


def document(i: int) -> Any:
    rng = random.Random(i)
    items = [
        {
            "sku": f"SKU-{rng.randrange(10**6):06d}",
            "quantity": rng.randrange(300, 5000),
            "price": rng.random() * 100,
            "tags": [f"tag {rng.randrange(1000)}" for _ in range(3)],
            "in_stock": True,
            "note": None,
            "size": {"width": rng.random(), "height": rng.random()},
        }
        for _ in range(55)
    ]
    return json.loads(json.dumps({"id": i + 1000, "items": items}))


def default_dict(i: int) -> dict[str, list[float]]:
    made: dict[str, list[float]] = collections.defaultdict(list)
    for j in range(20):
        made[f"key {i} {j}"].append(j + 0.5)
    return made


def closure(i: int) -> Callable[[], list[float]]:
    held = [i + 0.5, i + 1.5]
    return lambda: held


MAKERS: dict[str, Callable[[int], Any]] = {
    "str of 100 B": lambda i: f"{i:08d}" * 12 + "abcd",
    "bytes of 10 kB": lambda i: bytes(10_000),
    "dict of 20 own keys": lambda i: {f"key {i} {j}": 1000 + 20 * i + j for j in range(20)},
    "list of 1000 ints": lambda i: [100_000 + 1000 * i + j for j in range(1000)],
    "slots dataclass": lambda i: Slotted(*fields(i)),
    "inherited slots": slotted_child,
    "plain dataclass": lambda i: Plain(*fields(i)),
    "instance holding one dict": HoldsDict,
    "JSON document of 10 kB": document,
    "set": lambda i: {f"member {i} {j}" for j in range(50)},
    "tuple": lambda i: (f"a {i}", i + 0.5, (i + 1.5,)),
    "deque": lambda i: collections.deque(i + j + 0.5 for j in range(100)),
    "OrderedDict": lambda i: collections.OrderedDict((f"key {i} {j}", j + 0.5) for j in range(30)),
    "defaultdict": default_dict,
    "exception": lambda i: ValueError(f"failed {i}", i + 1000),
    "bytearray": lambda i: bytearray(5000),
    "array": lambda i: array("d", bytes(8000)),
    "memoryview": lambda i: memoryview(bytearray(5000)),
    "closure": closure,
    "bound method": lambda i: Plain(*fields(i)).__repr__,
    "Decimal": lambda i: decimal.Decimal(i + 10**40),
}


def traced_bytes(make: Callable[[int], Any], copies: int) -> tuple[float, list[Any]]:
    """Bytes that tracemalloc sees in one of *copies* values, and the values."""
    for i in range(40):  # the first instances of a class get larger value arrays
        make(i)
    values: list[Any] = [None] * copies
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(copies):
            values[i] = make(i + 300)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / copies, values
    finally:
        tracemalloc.stop()


def measured_bytes(values: list[Any]) -> float:
    sizer = Sizer()
    found = [sizer.measure(value) for value in values]
    assert not any(one.faults or one.capped or one.std_error_bytes for one in found)
    return sum(one.size_bytes for one in found) / len(values)


@pytest.mark.parametrize("name", MAKERS)
def test_measure_of_common_values_agrees_with_tracemalloc(name: str) -> None:
    """Within 3 %."""
    truth, values = traced_bytes(MAKERS[name], 30 if "JSON" in name else 200)
    assert measured_bytes(values) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("name", MAKERS)
def test_measure_leaves_nothing_behind_in_values(name: str) -> None:
    """No instance dict, no cache entry: at most 8 bytes an object."""
    values = [MAKERS[name](i) for i in range(50 if "MB" in name or "numpy" in name else 400)]
    sizer = Sizer()
    sizer.measure(values[0])
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for value in values:
            sizer.measure(value)
            sizer.measure_cheap(value)
            proxy_bytes(value)
            shallow_bytes(value)
        gc.collect()
        # Other threads (the test runner's) allocate too, once and for all: some 1 kB was seen.
        assert tracemalloc.get_traced_memory()[0] - before <= 8 * len(values) + 2_048
    finally:
        tracemalloc.stop()


def test_measure_of_instance_whose_dict_exists_charges_dict_without_names() -> None:
    """A dict that the application asked for is part of the instance."""

    def make(i: int) -> HoldsDict:
        made = HoldsDict(i)
        made.__dict__["later"] = i + 0.5
        return made

    truth, values = traced_bytes(make, 200)
    assert measured_bytes(values) == pytest.approx(truth, rel=0.15)


# ------------------------------------------------------------------------------------------------ numpy, pandas


def test_measure_of_array_counts_buffer_it_owns() -> None:
    """1 MB of numpy."""
    numpy = pytest.importorskip("numpy")
    truth, values = traced_bytes(lambda i: numpy.zeros(131_072), 20)
    assert measured_bytes(values) == pytest.approx(truth, rel=0.03)


def test_measure_of_views_charges_base_once() -> None:
    """A view alone holds its base; two views with one `seen` hold it once."""
    numpy = pytest.importorskip("numpy")
    base = numpy.zeros(131_072)
    sizer = Sizer()
    alone = sizer.measure(base[10:20]).size_bytes
    assert base.nbytes < alone < base.nbytes + 500
    seen: set[int] = set()
    views = [base[::2], base[5:], base[::2][::2]]
    total = sum(sizer.measure(view, seen).size_bytes for view in views)
    assert base.nbytes < total < base.nbytes + 1000
    assert sizer.measure(views).size_bytes < base.nbytes + 1200


def test_measure_of_object_array_walks_elements_once() -> None:
    """Elements of object arrays, of object fields, and through views."""
    numpy = pytest.importorskip("numpy")
    texts = [f"text number {i}" for i in range(100)]
    inside = sum(map(sys.getsizeof, texts))
    holder = numpy.array(texts, dtype=object)
    assert Sizer().measure(holder).size_bytes == sys.getsizeof(holder) + inside
    view = holder[:50]
    assert Sizer().measure([holder, view]).size_bytes < sys.getsizeof(holder) + inside + 300
    record = numpy.zeros(100, dtype=[("number", "i8"), ("text", "O")])
    record["text"] = texts
    assert Sizer().measure(record).size_bytes == sys.getsizeof(record) + inside


def test_measure_of_array_over_foreign_memory_charges_owner() -> None:
    """An array made over bytes holds the bytes."""
    numpy = pytest.importorskip("numpy")
    raw = bytes(50_000)
    assert 50_000 < Sizer().measure(numpy.frombuffer(raw, dtype="u1")).size_bytes < 50_500


def test_measure_of_pandas_agrees_with_tracemalloc_and_fills_no_cache() -> None:
    """Frame, series and index within 10 %; their deep ``__sizeof__`` is not added to the walk."""
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")

    def frame(i: int) -> Any:
        rng = numpy.random.default_rng(i)
        columns = {"a": rng.integers(0, 1000, 1000), "b": rng.random(1000), "s": [f"row {i} {j}" for j in range(1000)]}
        return pandas.DataFrame(columns)

    for make in (frame, lambda i: frame(i)["b"], lambda i: pandas.Index([f"row {i} {j}" for j in range(1000)])):
        truth, values = traced_bytes(make, 20)
        assert measured_bytes(values) == pytest.approx(truth, rel=0.10)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            measured_bytes(values)
            assert all(shallow_bytes(value) < 1000 for value in values)
            gc.collect()
            assert (tracemalloc.get_traced_memory()[0] - before) / len(values) < 100
        finally:
            tracemalloc.stop()


# ------------------------------------------------------------------------------------------------ graphs


def test_measure_of_deep_and_cyclic_graphs_ends() -> None:
    """No recursion: a list of 100 000 links, and a cycle."""
    chain: list[Any] = []
    for _ in range(100_000):
        chain = [chain]
    found = Sizer(max_objects=200_000).measure(chain)
    assert found.objects == 100_001
    assert not found.capped
    while chain:
        chain = chain[0]
    cycle: list[Any] = [1.5]
    cycle.append({"self": cycle})
    again = Sizer().measure(cycle)
    assert again == Sizer().measure(cycle)
    assert again.objects == 4 - (sys.version_info >= (3, 12))  # an immortal key is not charged


@pytest.mark.parametrize("huge", [list(range(1000, 60_000)), {i: [i] for i in range(1000, 60_000)}, [[None] * 60_000]])
def test_measure_of_huge_graph_stops_at_cap(huge: Any) -> None:
    """`capped` says so, and no more objects are charged than allowed."""
    found = Sizer(max_objects=1000).measure(huge)
    assert found.objects <= 1000
    assert found.size_bytes >= sys.getsizeof(huge)
    assert found.capped or isinstance(huge[0], list)


def test_measure_charges_shared_parts_once_over_calls_with_seen() -> None:
    """What two values share is charged to the first."""
    shared = [i + 0.5 for i in range(1000)]
    first, second = {"part": shared}, {"part": shared, "own": "x" * len(shared)}
    sizer = Sizer()
    seen: set[int] = set()
    assert sizer.measure(first, seen).size_bytes > 32_000
    assert 1000 < sizer.measure(second, seen).size_bytes < 1500
    assert sizer.measure(second, seen) == Measurement(0, 0, 0, False, 0.0)


def test_measure_charges_one_object_met_twice_once() -> None:
    """By identity, not by equality."""
    text, number = "some text of mine", 12345678901
    once = Sizer().measure([text, number]).size_bytes
    assert Sizer().measure([text, number] * 50).size_bytes == once + 8 * 98
    assert Sizer().measure((text, number, {text: number})).size_bytes > once


def test_measure_does_not_enter_boundaries_named_by_the_caller() -> None:
    """The cache itself, say, which a value may refer back to."""
    cache: dict[str, Any] = {"other": bytes(100_000)}
    value = {"cache": cache, "inner": [[1.5, 2.5]]}
    boundary = frozenset({id(cache), id(value["inner"][0])})
    assert Sizer().measure(value, boundary=boundary).size_bytes < 600
    assert Sizer().measure(cache, boundary=boundary).size_bytes == 0


def test_measure_charges_no_immortal_objects() -> None:
    """None, small ints, one-character strings, and constants interned for ever."""
    singles = [None, True, False, *range(-5, 257), "", "a", "\xe9", b"", b"x", (), ...]
    assert Sizer().measure(singles).size_bytes == sys.getsizeof(singles)
    assert all(leaf_bytes(single) == 0 for single in singles if type(single) in LEAF_TYPES)
    assert Sizer().measure(None) == Measurement(0, 0, 0, False, 0.0)
    if sys.version_info >= (3, 12):
        constant = sys.intern("a_constant_of_this_test")
        if sys.getrefcount(constant) > 2**31:
            assert Sizer().measure(constant).size_bytes == 0
            assert Sizer().measure([constant]).size_bytes == sys.getsizeof([constant])


class Colour(enum.Enum):
    RED = "r"


def test_measure_does_not_charge_shared_infrastructure() -> None:
    """Types, modules, functions of modules, code, frames, threads, loggers, enum members: not freed with a value."""
    import logging

    shared = [int, Plain, sys, json.dumps, len, sys._getframe(), threading.current_thread(), Colour.RED]
    shared += [logging.getLogger("x"), document.__code__, Plain.__eq__, str.join, functools.partial(len).func]
    for one in shared:
        assert Sizer().measure(one).size_bytes == 0, one
        assert shallow_bytes(one) >= 0
        assert proxy_bytes(one) > 0
    assert Sizer().measure(shared).size_bytes == sys.getsizeof(shared)


def test_measure_does_not_follow_weak_references() -> None:
    """They keep nothing alive."""
    target = Plain(1, "x" * 10_000, 1.5, [], b"")
    assert Sizer().measure(weakref.ref(target)).size_bytes < 200
    assert Sizer().measure(weakref.proxy(target)).size_bytes < 200


def test_measure_enters_generators_and_partials() -> None:
    """What a suspended generator or a partial holds is held by the value."""

    def numbers() -> Any:
        held = bytes(50_000)
        yield 1
        yield held

    running = numbers()
    next(running)
    assert 50_000 < Sizer().measure(running).size_bytes < 52_000
    assert 50_000 < Sizer().measure(functools.partial(print, bytes(50_000))).size_bytes < 51_000


def test_measure_keeps_nothing_alive() -> None:
    """Neither value nor class outlives the measuring, and no cycle is left for the collector."""
    gc.collect()
    gc.disable()
    try:
        value = type("Local", (), {})()
        value.bad = type("Bad", (), {"__sizeof__": lambda self: 1 / 0})()
        gone = weakref.ref(value), weakref.ref(value.bad)
        Sizer().measure(value)
        Sizer(sample_members=2).measure([value] * 20)
        del value
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()
    local = weakref.ref(type("Local", (), {}))
    made = local()
    if made is not None:
        Sizer().measure(made())
    del made
    gc.collect()
    assert local() is None


# ------------------------------------------------------------------------------------------------ misbehaviour


class Quits(BaseException):
    pass


def raises(error: BaseException) -> Callable[[Any], int]:
    namespace: dict[str, Any] = {"error": error}
    exec("def __sizeof__(self): raise error", namespace)  # named as a method is
    return namespace["__sizeof__"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "answer",
    [lambda s: -5, lambda s: "x", lambda s: 2**70, lambda s: None, lambda s: 1.5]
    + [raises(error) for error in (ZeroDivisionError(), Quits(), SystemExit(), KeyboardInterrupt(), MemoryError())],
)
def test_measure_of_broken_sizeof_counts_fault_and_goes_on(answer: Any) -> None:
    """The fallback is the fixed layout; the members are still charged."""
    for bases in ((), (dict,), (list,)):
        broken = type("Broken", bases, {"__sizeof__": answer, "__slots__": ("held",)})()
        broken.held = bytes(5000)
        found = Sizer().measure([broken])
        assert found.faults == 1
        assert 5000 < found.size_bytes < 5400
        assert 0 < shallow_bytes(broken) < 300
        assert proxy_bytes(broken) > 0
        assert Sizer().measure_cheap(broken) == -1


def test_measure_of_liars_runs_none_of_their_code() -> None:
    """No ``__class__``, ``__eq__``, ``__hash__``, ``__len__``, ``__iter__``, ``__getattr__`` or metaclass hook runs."""
    ran: list[str] = []

    def trap(name: str) -> Any:
        def run(*_: Any, **__: Any) -> Any:
            ran.append(name)
            raise RuntimeError(name)

        return run

    hooks = ("__eq__", "__hash__", "__len__", "__iter__", "__getattr__", "__getattribute__", "__bool__", "__getitem__")
    traps: dict[str, Any] = {name: trap(name) for name in hooks}
    traps["__class__"] = property(trap("__class__"))
    traps["__dict__"] = property(trap("__dict__"))
    meta_traps = {name: traps[name] for name in ("__eq__", "__hash__", "__getattribute__", "__bool__", "__len__")}
    meta_traps["__instancecheck__"] = trap("__instancecheck__")
    for bases in ((), (dict,), (list,), (set,), (tuple,), (str,), (int,), (collections.OrderedDict,), (ValueError,)):
        liar = type("Meta", (type,), meta_traps)("Liar", bases, traps)
        made = object.__new__(liar) if not bases else bases[0].__new__(liar)
        ran.clear()
        for value in (made, [made], {"key": made}, (made,) * 20, [*["text"] * 20, made, "text"]):
            found = Sizer().measure(value)
            assert found.size_bytes > 0
            assert not found.faults
            assert not found.capped
            Sizer(sample_members=2).measure([value] * 30)
            assert proxy_bytes(value) > 0
            assert shallow_bytes(value) > 0
            assert Sizer().measure_cheap(value) == -1
        assert ran == [], bases


def test_measure_at_recursion_limit_answers() -> None:
    """Called from as deep as Python allows, it still returns."""
    sizer = Sizer()
    value = {"a": [Plain(*fields(1))]}

    def dive() -> Measurement:
        try:
            return dive()
        except RecursionError:
            return sizer.measure(value)

    assert isinstance(dive(), Measurement)


def test_measure_while_others_write_never_raises() -> None:
    """Values change under the sizer's hands in threaded programs."""
    value: dict[Any, Any] = {i: [i] for i in range(1000, 3000)}
    value["set"] = set(range(1000, 2000))
    stop = threading.Event()

    def write() -> None:
        rng = random.Random(1)
        while not stop.is_set():
            value[rng.randrange(10_000)] = [rng.random()]
            value.pop(rng.randrange(10_000), None)
            value["set"].add(rng.randrange(10_000))
            value["set"].discard(rng.randrange(10_000))

    writer = threading.Thread(target=write)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    writer.start()
    try:
        for sizer in (Sizer(), Sizer(sample_members=8)):
            for _ in range(20):
                assert sizer.measure(value).size_bytes > 0
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(interval)


# ------------------------------------------------------------------------------------------------ against a naive sizer


def naive_bytes(value: Any, seen: set[int]) -> int:
    """The definition, in as few words as it takes."""
    if id(value) in seen or value is None or isinstance(value, bool) or leaf_or_one(value) == 0:
        return 0
    seen.add(id(value))
    size = leaf_bytes(value) if type(value) in LEAF_TYPES else sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(naive_bytes(part, seen) for item in value.items() for part in item)
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + sum(naive_bytes(part, seen) for part in value)
    return size


def leaf_or_one(value: Any) -> int:
    return leaf_bytes(value) if type(value) in LEAF_TYPES else int(value != ())


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-10, 300), st.floats(), st.text(), st.binary(),
    st.just(datetime.date(2020, 1, 1)),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=30),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=20),
        st.dictionaries(st.integers(), inner, max_size=20),
        st.frozensets(st.text(), max_size=20),
        inner.map(lambda part: [part, part]),
    ),
    max_leaves=60,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_measure_of_json_like_values_equals_naive_sizer(value: Any) -> None:
    """With private and with given `seen`; and where measure_cheap answers, it answers the same."""
    expected = naive_bytes(value, set())
    assert Sizer().measure(value).size_bytes == expected
    assert Sizer().measure(value, set()).size_bytes == expected
    assert Sizer().measure_cheap(value) in (-1, expected)
    assert proxy_bytes(value) > 0


def test_measure_cheap_answers_for_leaves_arrays_and_small_flat_containers() -> None:
    """And is -1 for the rest."""
    sizer = Sizer()
    for value in ("x" * 100, 10**20, 1.5, bytes(100), bytearray(100), array("q", [1, 2]), datetime.date(2020, 1, 1),
                  [1000, "ab", None, 1.5], {"key one": 1000}, ("ab", "ab"), {"member"}, [], {}, ()):  # fmt: skip
        assert sizer.measure_cheap(value) == sizer.measure(value).size_bytes, value
    for value in ([[1]], list(range(100)), {"a": {}}, Plain(*fields(1)), ("x", ("y",)), object()):
        assert sizer.measure_cheap(value) == -1, value


# ------------------------------------------------------------------------------------------------ samples, stand-ins


def test_measure_with_samples_estimates_within_stated_error() -> None:
    """Within four standard errors (and a thousandth, for parts that only some members share) nearly always."""
    inside = 0
    for trial in range(40):
        rng = random.Random(trial)
        value: Any = [
            {"identifier": i + 1000, "text": "x" * rng.randrange(20, 400), "parts": [rng.random()] * rng.randrange(30)}
            for i in range(600)
        ]
        if trial % 2:
            value = {f"key {i}": part for i, part in enumerate(value)}
        exact = Sizer().measure(value)
        found = Sizer(sample_members=32).measure(value)
        assert exact.std_error_bytes == 0 < found.std_error_bytes < 0.2 * exact.size_bytes
        assert found.objects < exact.objects / 5
        inside += abs(found.size_bytes - exact.size_bytes) <= 4 * found.std_error_bytes + exact.size_bytes / 1000
    assert inside >= 38


def test_measure_with_samples_does_not_scale_common_keys() -> None:
    """Members of one size: the estimate is exact, their common keys counted once."""
    value = json.loads(json.dumps([{"a long name of a field": i + 0.5} for i in range(1000)]))
    exact, found = Sizer().measure(value), Sizer(sample_members=8).measure(value)
    assert found.size_bytes == exact.size_bytes
    assert found.std_error_bytes == 0


@pytest.mark.parametrize("sample_members", [1, 2, 3, 50])
def test_measure_with_samples_of_any_size_works(sample_members: int) -> None:
    """Nested and empty containers, sets, deques, mixed types included."""
    nested = [[f"{i} {j}" for j in range(300)] for i in range(300)]
    exact = Sizer().measure(nested).size_bytes
    sizer = Sizer(sample_members=sample_members)
    assert sizer.measure(nested).size_bytes == pytest.approx(exact, rel=0.05)
    many: Any
    for many in (
        {str(i) for i in range(100_000)},
        {str(i): 1.5 for i in range(100_000)},
        collections.deque([[]] * 500),
    ):
        assert sizer.measure(many).size_bytes > sys.getsizeof(many)
    mixed = [1.5, "text"] * 500
    assert sizer.measure(mixed) in (Sizer().measure(mixed), sizer.measure(mixed))
    assert sizer.measure([]).size_bytes == sys.getsizeof([])


@pytest.mark.parametrize("name", MAKERS)
def test_proxy_and_shallow_bytes_are_positive_and_below_deep(name: str) -> None:
    """A stand-in of the right order of magnitude; the shallow size is never above the deep."""
    value = MAKERS[name](7)
    deep = Sizer().measure(value).size_bytes
    assert 0 < shallow_bytes(value) <= deep
    assert deep / 20 < proxy_bytes(value) < 20 * deep


def test_proxy_bytes_grows_with_length() -> None:
    """Twice the members, about twice the stand-in; subclasses of containers too."""
    for kind in (list, tuple, set, collections.deque, type("Mine", (list,), {})):
        small, large = (kind([f"member {i}" for i in range(count)]) for count in (1000, 2000))
        assert proxy_bytes(large) == pytest.approx(2 * proxy_bytes(small), rel=0.5)


def test_allocated_bytes_follows_size_classes() -> None:
    """16-byte classes to 512, malloc above, never less than asked."""
    assert [allocated_bytes(n) for n in (-1, 0, 1, 16, 17, 512)] == [0, 0, 16, 16, 32, 512]
    assert allocated_bytes(1000) == 1008
    assert allocated_bytes(1_000_000) % 4096 == 0
    sizes = [allocated_bytes(n) for n in range(1, 5000)]
    assert sizes == sorted(sizes)
    assert all(given >= asked for asked, given in enumerate(sizes, 1))


def test_leaf_bytes_of_int_is_what_is_requested() -> None:
    """32, where ``__sizeof__`` says 28."""
    assert leaf_bytes(1000) == 32
    assert leaf_bytes(2**40) == 32
    assert leaf_bytes("x" * 100) == sys.getsizeof("x" * 100)
    assert shallow_bytes([]) == sys.getsizeof([]) == [].__sizeof__() + HEADER
