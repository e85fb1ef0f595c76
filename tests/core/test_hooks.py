"""The laws of the hot closures: read off their bytecode, and tried on originals that misbehave."""

from __future__ import annotations

import dis
import sys
import threading
import types

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, instrument
from cachescope.core import closeup, hooks, mapping_read_hooks, mapping_write_hooks, settling, state, stock_hooks
from cachescope.core.closeup import SAMPLED
from cachescope.core.state import COUNTERS

SHARED = frozenset((*COUNTERS, "hidden_hits", "hidden_misses"))
"""What several threads add to without a lock."""
STARTED_ANEW_IN = frozenset(("__init__", "show"))
"""The functions that may assign to one of them: nobody else can reach the object, or the slot isn't there."""
RUNS_NOTHING = frozenset(
    (
        *(
            "LOAD_FAST",
            "LOAD_FAST_BORROW",
            "LOAD_FAST_CHECK",
            "LOAD_FAST_LOAD_FAST",
            "LOAD_FAST_BORROW_LOAD_FAST_BORROW",
        ),
        *("LOAD_CONST", "LOAD_SMALL_INT", "LOAD_DEREF", "SWAP", "COPY", "BINARY_OP", "NOP", "EXTENDED_ARG", "CACHE"),
    )
)
"""May stand between taking a counter and putting it back: lets no thread, signal handler or collector run."""


def functions_of(*modules):
    """Every piece of code in the modules, closures included."""
    for module in modules:
        with open(module.__file__, encoding="utf-8") as file:
            waiting = [compile(file.read(), module.__file__, "exec")]
        while waiting:
            code = waiting.pop()
            waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
            yield code


def stores(code):
    """The instructions that change a shared counter, with those before them."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    for index, instruction in enumerate(instructions):
        if instruction.opname == "STORE_ATTR" and instruction.argval in SHARED:
            yield instruction, instructions[:index]


def taken_at(name, before):
    """Where the counter that is put back was taken: ``LOAD_ATTR`` after ``COPY``, as in an augmented assignment."""
    for index in range(len(before) - 1, 0, -1):
        if before[index].opname == "LOAD_ATTR" and before[index].argval == name and before[index - 1].opname == "COPY":
            return index
    return None


def breaches(code):
    """Where a shared counter changes otherwise than by one uninterrupted addition of a local or a constant."""
    for instruction, before in stores(code):
        where = f"{code.co_qualname}, line {instruction.positions.lineno}: {instruction.argval}"
        if [i.opname for i in before[-2:]] != ["BINARY_OP", "SWAP"]:
            if code.co_name not in STARTED_ANEW_IN:
                yield f"{where} is assigned, not added to"
            continue
        start = taken_at(instruction.argval, before)
        between = [i.opname for i in before[start + 1 :]] if start is not None else ["?"]
        if not set(between) <= RUNS_NOTHING or between.count("BINARY_OP") != 1:
            yield f"{where} is added to by {between}"


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        (stock_hooks, True),
        (mapping_read_hooks, True),
        (mapping_write_hooks, False),  # what they see is committed by settling
        (settling, True),
        (state, True),
        (closeup, True),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_shared_counters_change_by_one_uninterrupted_addition(module, counts):
    codes = list(functions_of(module))
    assert any(True for code in codes for _ in stores(code)) is counts
    assert [breach for code in codes for breach in breaches(code)] == []


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("s.live_bytes += size", True),
        ("s.sets -= 1", True),
        ("s.live_bytes += len(v)", False),
        ("s.live_bytes += v[0]", False),
        ("s.live_bytes += v.size", False),
        ("s.live_bytes += a - b", False),
        ("s.live_bytes = s.live_bytes + 1", False),
        ("s.sets = 0", False),
    ],
)
def test_the_law_tells_right_from_wrong(source, kept):
    code = compile(f"def f(s, v, a, b, size): {source}", "sample", "exec").co_consts[0]
    assert (list(breaches(code)) == []) is kept


def test_counters_are_taken_away_without_losing_an_addition():
    """hide_reads() reads a slot and deletes it, with nothing in between that lets anybody add to it."""
    instructions = list(dis.get_instructions(state.State.hide_reads))
    for name in ("hits", "misses"):
        load = next(i for i, op in enumerate(instructions) if op.opname == "LOAD_ATTR" and op.argval == name)
        delete = next(i for i, op in enumerate(instructions) if op.opname == "DELETE_ATTR" and op.argval == name)
        between = {op.opname for op in instructions[load + 1 : delete]} - {"STORE_FAST", "STORE_FAST_LOAD_FAST"}
        assert between <= RUNS_NOTHING


@pytest.fixture
def profiler():
    with CacheMemoryProfiler() as profiler:
        yield profiler


class Interrupted(BaseException):
    """As KeyboardInterrupt, or a timeout that a signal handler raises."""


@pytest.mark.parametrize("error", [KeyError, ValueError, Interrupted])
@pytest.mark.parametrize(
    "method", ["__getitem__", "__setitem__", "__delitem__", "popitem", "pop", "setdefault", "clear"]
)
@pytest.mark.parametrize("there", [False, True])
def test_an_original_that_raises_is_called_once_and_its_exception_is_its_own(profiler, method, there, error):
    calls = []

    class Raising(cachetools.LRUCache):
        pass

    Raising.__module__ = "cachetools"  # so that the hooks of stock methods are put on it

    def original(self, *args):
        calls.append(args)
        raise error("by the original")

    setattr(Raising, method, original)
    cache = instrument(Raising(4), profiler=profiler)
    if there:
        cachetools.LRUCache.__setitem__(cache, "a", "1")
    args = {"__setitem__": ("a", "2"), "popitem": (), "clear": ()}.get(method, ("a",))
    with pytest.raises(error, match="by the original") as raised:
        getattr(cache, method)(*args)
    assert len(calls) == 1
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None
    assert cache._self_cachescope.busy == {}
    assert cache._self_cachescope.setter <= 0


@pytest.mark.parametrize("bad", ["__hash__", "__eq__"])
def test_an_interrupt_inside_a_key_is_not_swallowed(profiler, bad):
    class Key:
        def __hash__(self):
            return hash("a")

        def __eq__(self, other):
            return self is other

    def interrupt(self, *_):
        raise Interrupted("inside a key")

    setattr(Key, bad, interrupt)
    cache = instrument(cachetools.LRUCache(4), profiler=profiler)
    cache["a"] = "1"
    for call in (
        lambda: cache[Key()],
        lambda: cache.__setitem__(Key(), "2"),
        lambda: cache.__delitem__(Key()),
        lambda: cache.get(Key()),
        lambda: cache.pop(Key()),
        lambda: cache.setdefault(Key(), "2"),
    ):
        with pytest.raises(Interrupted):
            call()
    assert (cache._self_cachescope.entries, len(cache)) == (1, 1)


def test_reads_of_many_threads_are_all_counted(profiler):
    """While sets, samples and other operations take the counters' slots away and put them back."""
    cache = instrument(cachetools.LRUCache(64), profiler=profiler)
    for number in range(64):
        cache[number] = "x"
    lock, stop = threading.Lock(), threading.Event()

    def read(rounds=4_000):
        for number in range(rounds):
            cachetools.Cache.__getitem__  # noqa: B018  # bytecode to be switched at
            with lock:
                cache[number % 64]

    def disturb():
        while not stop.is_set():
            cache._self_cachescope.arm(SAMPLED, 1)
            with lock:
                cache.get("not there")

    before = cache._self_cachescope.counters()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        other = threading.Thread(target=disturb)
        readers = [threading.Thread(target=read) for _ in range(4)]
        other.start()
        for thread in readers:
            thread.start()
        for thread in readers:
            thread.join()
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(interval)
    assert cache._self_cachescope.counters()[0] - before[0] == 16_000


def test_hooks_look_like_their_originals():
    def original(self, key, default=None):
        """Its words."""

    for kind in hooks.KINDS:
        hook = hooks.make_hook(kind, original, lambda obj: None)
        assert (hook.__name__, hook.__doc__, hook.__wrapped__) == ("original", "Its words.", original)
        assert type(hook) is types.FunctionType
