"""Others use the cache meanwhile: its own values and keys, a collector, a signal, threads, tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from cachescope.testing.suite.looking import entries_of, size_of
from cachescope.testing.suite.subject import Subject
from cachescope.testing.suite.watched import Watched

_THREADS = 8


class Concurrency(Subject):
    """Nothing breaks and no count is lost."""

    # Re-entry

    def test_values_that_use_the_cache_as_they_die(self, watch: Callable[..., Watched]) -> None:
        """A ``__del__`` that reads, sets and deletes in the same cache, during sets, deletes, pops, clears."""
        watched = watch()
        cache = watched.cache
        running = True

        class Clinging:
            def __init__(self, number: int) -> None:
                self.number = number

            def __del__(self) -> None:
                if not running:
                    return
                write(cache, key(100 + self.number % 3), "from the grave")
                with contextlib.suppress(KeyError):
                    read(cache, key(self.number))
                with contextlib.suppress(KeyError):
                    drop(cache, key(100 + (self.number + 1) % 3))

        write, read, drop, key = self.write, self.read, self.drop, self.make_key
        chance = random.Random(3)
        for number in range(200):
            turn = chance.randrange(10)
            if turn < 6:
                self.write(cache, self.make_key(chance.randrange(9)), Clinging(number))
            elif turn < 8:
                with contextlib.suppress(KeyError):
                    self.drop(cache, self.make_key(chance.randrange(9)))
            elif turn < 9:
                cache.pop(self.make_key(chance.randrange(9)), None)
            else:
                cache.clear()
            assert watched.counted.entries == size_of(watched.bare), f"operation {number}"
            assert watched.state.busy == {}, f"operation {number}"
        running = False
        cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    def test_keys_that_use_the_cache_as_they_are_compared(self, watch: Callable[..., Watched]) -> None:
        """``__hash__`` and ``__eq__`` that read and set another key of the same cache."""
        watched = watch()
        cache, inner = watched.cache, self.make_key(1)
        depth = [0]
        write, read = self.write, self.read

        class Nosy:
            def __init__(self, number: int) -> None:
                self.number = number

            def visit(self) -> None:
                if not depth[0]:
                    depth[0] = 1
                    try:
                        write(cache, inner, f"visit {self.number}")
                        read(cache, inner)
                    finally:
                        depth[0] = 0

            def __hash__(self) -> int:
                self.visit()
                return self.number % 2

            def __eq__(self, other: object) -> bool:
                self.visit()
                return isinstance(other, Nosy) and other.number == self.number

        for number in (1, 2, 3, 1, 2):
            self.write(cache, Nosy(number), number * 10**6)
            assert self.read(cache, Nosy(number)) == number * 10**6
            assert watched.counted.entries == size_of(watched.bare)
        self.drop(cache, Nosy(1))
        cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    def test_a_collector_and_a_signal_in_the_middle_of_a_set(self, watch: Callable[..., Watched]) -> None:
        """Callbacks that use other keys while the same thread is inside the cache, which has room for all of them."""
        watched = watch()
        cache = watched.cache
        rung = [0]

        def ring(*_: Any) -> None:
            rung[0] += 1
            with contextlib.suppress(RuntimeError):  # the library's own: it was iterating
                self.write(cache, self.make_key(100 + rung[0] % 2), self.make_value(rung[0]))
                self.read(cache, self.make_key(100 + rung[0] % 2))

        ring()
        ring()
        use_signal = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
        previous = signal.signal(signal.SIGALRM, ring) if use_signal else None
        thresholds = gc.get_threshold()

        def collected(phase: str, _: object) -> None:
            if phase == "stop" and rung[0] < 10_000:
                ring()

        gc.callbacks.append(collected)
        gc.set_threshold(20)
        try:
            if use_signal:
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(1_500):
                with contextlib.suppress(RuntimeError):
                    self.write(cache, self.make_key(number % 2), [self.make_value(number)])
                    if number % 5 == 0:
                        self.drop(cache, self.make_key(number % 2))
        finally:
            if use_signal:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(collected)
        assert rung[0] > 10
        assert len(seen := entries_of(watched.bare) or []) == watched.counted.sets - watched.counted.deletes, seen
        assert watched.counted.entries == size_of(watched.bare)
        cache.clear()
        assert (watched.counted.entries, watched.counted.live_bytes) == (0, 0)

    # Threads, tasks

    def test_threads_lose_no_count(self, watch: Callable[..., Watched]) -> None:
        """Eight threads, each with keys of its own, switched as often as can be: every counter is exact."""
        watched = watch()
        cache = watched.cache
        self.write(cache, self.make_key(-1), self.make_value(1))
        self.drop(cache, self.make_key(-1))
        guard: Any = contextlib.nullcontext() if self.threadsafe else threading.Lock()
        start, rounds, errors = threading.Barrier(_THREADS), 400, []

        def work(thread: int) -> None:
            try:
                start.wait()
                for number in range(rounds):
                    key = self.make_key(thread)
                    with guard:
                        self.write(cache, key, self.make_value(number))
                        self.read(cache, key)
                    with guard:
                        self.drop(cache, key)
                    with guard, contextlib.suppress(KeyError):
                        self.read(cache, key)
            except Exception as error:
                errors.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert errors == []
        s, total = watched.counted, _THREADS * rounds
        left = s.evictions
        assert (s.sets, s.hits + s.misses, s.deletes + left) == (total + 1, 2 * total, total + 1)
        assert (s.entries, s.live_bytes) == (0, 0)

    def test_tasks_lose_no_count(self, watch: Callable[..., Watched]) -> None:
        """Tasks that take turns between operations."""
        watched = watch()
        cache = watched.cache

        async def work(task: int) -> None:
            for number in range(20):
                self.write(cache, self.make_key(task), self.make_value(number))
                await asyncio.sleep(0)
                with contextlib.suppress(KeyError):
                    self.read(cache, self.make_key(task))
                await asyncio.sleep(0)

        async def everything() -> None:
            await asyncio.gather(*map(work, range(4)))

        asyncio.run(everything())
        s = watched.counted
        assert (s.sets + s.replacements, s.hits + s.misses) == (80, 80)
        assert s.entries == size_of(watched.bare)
