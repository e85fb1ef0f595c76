"""What the tests of this room share: a naive model of an LRU cache, waiting, and clocks that are moved on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from cachescope import CacheMemoryProfiler, OperationProfile, Report
from cachescope.core.answers.report import report_of
from cachescope.core.capture import read_capture
from cachescope.core.recording import Recording


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Poll until *condition* holds; a test that waits in vain says for what."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)


def size_of(key: object, value: object) -> int:
    """The charge of an entry whose key and value hold nothing else."""
    return sys.getsizeof(key) + sys.getsizeof(value)


class Tally:
    """What an LRU cache does, by a naive model: how often each kind of event happens, and the bytes that it moves."""

    def __init__(self, maxsize: float = float("inf")) -> None:
        self.maxsize = maxsize
        self.held: OrderedDict[Any, int] = OrderedDict()
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def note(self, event: str, size_bytes: int = 0) -> None:
        self.counts[event] += 1
        self.bytes[event] += size_bytes

    def set(self, key: Any, value: Any) -> None:
        size = size_of(key, value)
        if key in self.held:
            self.note("resize", size - self.held[key])
        else:
            if len(self.held) >= self.maxsize:
                self.note("eviction", self.held.popitem(last=False)[1])
            self.note("allocation", size)
        self.held[key] = size
        self.held.move_to_end(key)

    def get(self, key: Any) -> None:
        self.note("hit" if key in self.held else "miss")
        if key in self.held:
            self.held.move_to_end(key)

    def delete(self, key: Any) -> None:
        self.note("deallocation", self.held.pop(key))

    @property
    def allocated(self) -> int:
        return self.bytes["allocation"]

    @property
    def freed(self) -> int:
        return sum(self.bytes[event] for event in ("deallocation", "eviction", "expiration", "clear"))

    @property
    def net(self) -> int:
        return self.allocated + self.bytes["resize"] - self.freed


class Driven:
    """A cache and the model of it, driven together."""

    def __init__(self, cache: MutableMapping[Any, Any], maxsize: float = float("inf")) -> None:
        self.cache, self.tally = cache, Tally(maxsize)

    def set(self, key: Any, size_bytes: int) -> None:
        value = bytes(size_bytes)
        self.cache[key] = value
        self.tally.set(key, value)

    def get(self, key: Any) -> None:
        self.cache.get(key)
        self.tally.get(key)

    def delete(self, key: Any) -> None:
        del self.cache[key]
        self.tally.delete(key)


def figures(profile: OperationProfile) -> tuple[int, int, int, int]:
    """Bytes allocated and freed, hits and misses."""
    return profile.allocated_bytes, profile.freed_bytes, profile.hits, profile.misses


def assert_counted(run: OperationProfile, tally: Tally) -> None:
    """Fail unless a run counted what the tally did."""
    assert figures(run) == (tally.allocated, tally.freed, tally.counts["hit"], tally.counts["miss"])
    assert run.memory_delta_bytes == tally.net
    assert run.allocations == tally.counts["allocation"]
    assert run.duration_seconds > 0
    assert run.error is None


def events_of(patterns: Any) -> dict[str, tuple[int, int]]:
    """Counts and bytes by kind of event."""
    return {row.event: (row.count, row.size_bytes) for row in patterns.events}


def close_buckets(profiler: CacheMemoryProfiler) -> None:
    """Close all open buckets now, as the background thread does every few seconds."""
    records = list(profiler.registry.records.values())
    before = [record.flow.windows._seconds for record in records]
    for record in records:
        record.flow.windows._seconds = 0.0
    profiler.beat()
    for record, seconds in zip(records, before, strict=True):
        record.flow.windows._seconds = seconds


def clocks_later(monkeypatch: pytest.MonkeyPatch, seconds: float, *, wall_only: bool = False) -> None:
    """From now on clocks say that it is *seconds* later than it is; the wall clock may go back."""
    wall, steady = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: wall() + seconds)
    if not wall_only:
        monkeypatch.setattr(time, "monotonic", lambda: steady() + seconds)


def run_python(code: str, **environment: str) -> str:
    """What a fresh process prints that runs *code*; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def captured(folder: Path) -> Report:
    """The report over all captures of a folder."""
    recording = Recording()
    for path in sorted(folder.glob("*.capture")):
        recording = recording.merge(Recording.from_dict(read_capture(path)))
    return report_of(recording)
