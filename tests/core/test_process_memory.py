"""Snapshots of this very process, held against what the kernel says elsewhere."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cachescope.core import process_memory
from cachescope.core.process_memory import Pace, measure
from cachescope.core.results import CacheUse, MemorySnapshot

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MIB = 1 << 20


def kernel_bytes(file: str, *names: str) -> int:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/self/{file}").read_text().splitlines() if ":" in line)
    return sum(int(rows[name].split()[0]) for name in names) * 1024


def near(ours: int | None, theirs: int, slack_bytes: int = 4 * MIB) -> bool:
    return ours is not None and abs(ours - theirs) <= slack_bytes


def has_glibc() -> bool:
    name = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}) else None
    return name is not None and tuple(map(int, name.split()[1].split(".")[:2])) >= (2, 33)


glibc = pytest.mark.skipif(not has_glibc(), reason="needs glibc 2.33")


@linux
def test_rss_uss_and_swap_are_what_the_kernel_says() -> None:
    """/proc/self/status and smaps_rollup count the same pages, a moment later."""
    snapshot = measure([])
    assert near(snapshot.rss_bytes, kernel_bytes("status", "VmRSS"))
    assert near(snapshot.uss_bytes, kernel_bytes("smaps_rollup", "Private_Clean", "Private_Dirty"))
    assert near(snapshot.swap_bytes, kernel_bytes("smaps_rollup", "Swap"))


@linux
def test_the_machine_is_what_the_kernel_says() -> None:
    """/proc/meminfo holds both."""
    snapshot = measure([])
    rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    assert snapshot.system_total_bytes == int(rows["MemTotal"].split()[0]) * 1024
    assert near(snapshot.system_available_bytes, int(rows["MemAvailable"].split()[0]) * 1024, 2048 * MIB)


def test_rss_and_uss_grow_with_what_is_allocated() -> None:
    """64 MiB that are written to show in both."""
    before = measure([])
    held = bytearray(os.urandom(1)) * (64 * MIB)
    change = measure([]).diff(before)
    assert len(held) == 64 * MIB
    assert near(change.rss_bytes, 64 * MIB, 8 * MIB)
    assert near(change.uss_bytes, 64 * MIB, 8 * MIB)


def test_a_quick_snapshot_leaves_out_uss_and_swap_and_says_so() -> None:
    """They cost a walk over all pages."""
    snapshot = measure([], whole=False)
    assert snapshot.rss_bytes
    assert (snapshot.uss_bytes, snapshot.swap_bytes) == (None, None)
    assert "uss and swap: left out of a quick snapshot" in snapshot.notes


def test_the_garbage_collector_is_shown_by_generation() -> None:
    """A collection of the oldest generation is one more there."""
    before = measure([])
    gc.collect()
    after = measure([])
    assert len(after.gc) == len(gc.get_count())
    assert after.gc[-1].collections == before.gc[-1].collections + 1
    assert after.gc[-1].collected >= before.gc[-1].collected


def test_python_blocks_grow_with_small_objects() -> None:
    """100,000 small objects that live are as many blocks more."""
    before = measure([])
    held = [float(n) for n in range(100_000)]
    assert measure([]).python_blocks - before.python_blocks >= 95_000
    assert len(held) == 100_000


@pytest.mark.skipif(tracemalloc.is_tracing(), reason="something else traces")
def test_traced_bytes_are_there_only_while_tracemalloc_traces() -> None:
    """We never start it."""
    assert measure([]).traced_bytes is None
    tracemalloc.start()
    try:
        held = bytearray(3 * MIB)
        traced = measure([]).traced_bytes
    finally:
        tracemalloc.stop()
    assert len(held) == 3 * MIB
    assert traced is not None
    assert traced >= 3 * MIB
    assert measure([]).traced_bytes is None


def test_caches_come_largest_first_and_are_summed() -> None:
    """Ties by name."""
    rows = [("b", 5), ("a", 5), ("c", 9)]
    snapshot = measure(CacheUse(cache_name=name, size_bytes=size, entries=1) for name, size in rows)
    assert [use.cache_name for use in snapshot.caches] == ["c", "a", "b"]
    assert snapshot.cache_bytes == 19


def test_a_snapshot_survives_a_capture() -> None:
    """What is written is what is read."""
    snapshot = measure([CacheUse(cache_name="users", size_bytes=5, entries=1)])
    assert MemorySnapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


# The C allocator


@glibc
def test_what_malloc_holds_and_nobody_uses_is_told() -> None:
    """Three blocks of four of 32 MB freed leave 24 MB, which glibc can't give back."""
    script = """
from cachescope.core.process_memory import measure, _allocator
before = measure([])
blocks = [bytes(1000) for _ in range(32_000)]
blocks = blocks[::4]
after = measure([], whole=False)
while after.allocator_free_bytes is None:  # asked too soon after an answer that took long
    after = measure([], whole=False)
print(before.allocator_free_bytes, after.allocator_free_bytes)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, out.stdout.split())
    assert 22_000_000 <= after - before <= 28_000_000


@pytest.fixture
def fresh_allocator(monkeypatch: pytest.MonkeyPatch) -> Iterator[process_memory._Allocator]:
    allocator = process_memory._Allocator()
    monkeypatch.setattr(process_memory, "_allocator", allocator)
    return allocator


def test_elsewhere_than_on_linux_the_allocator_is_not_even_asked(
    monkeypatch: pytest.MonkeyPatch, fresh_allocator: process_memory._Allocator
) -> None:
    """None, and the reason in words, each time."""
    monkeypatch.setattr(sys, "platform", "win32")
    for _ in range(2):
        notes: list[str] = []
        assert process_memory._asked("allocator", fresh_allocator.free_bytes, notes) is None
        assert notes == ["allocator: only glibc 2.33 or newer tells what its malloc holds"]


@linux
def test_a_c_library_without_mallinfo2_gives_none(
    monkeypatch: pytest.MonkeyPatch, fresh_allocator: process_memory._Allocator
) -> None:
    """As musl and older glibc are: the symbol is not there."""
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    snapshot = measure([], whole=False)
    assert snapshot.allocator_free_bytes is None
    assert "allocator: only glibc 2.33 or newer tells what its malloc holds" in snapshot.notes


def test_importing_the_module_imports_neither_ctypes_nor_tracemalloc() -> None:
    """They cost milliseconds that a program which never asks needn't spend."""
    script = (
        "import sys, cachescope.core.process_memory; print([m for m in ('ctypes','tracemalloc') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    before = subprocess.run(
        [sys.executable, "-c", script.replace("cachescope.core.process_memory", "psutil, cachescope.core.results")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert before.stdout == out.stdout


def test_a_dear_question_waits_until_its_share_of_time_has_passed() -> None:
    """An answer of an hour at a thousandth is not asked for again; one of no time at all is."""
    pace = Pace(0.001)
    assert pace.due()
    pace.spent(3600.0)
    assert not pace.due()
    assert pace.last_seconds == 3600.0
    pace.spent(0.0)
    assert pace.due()


@glibc
def test_an_allocator_that_takes_long_is_left_alone_and_that_is_said(
    fresh_allocator: process_memory._Allocator,
) -> None:
    """The figure is missing rather than other threads stopped."""
    assert measure([], whole=False).allocator_free_bytes is not None
    fresh_allocator._pace.spent(12.0)
    snapshot = measure([], whole=False)
    assert snapshot.allocator_free_bytes is None
    assert "allocator: not asked again so soon, for the last answer took 12.000 s" in snapshot.notes


# Denied and absent sources


@linux
def test_without_proc_the_rest_is_still_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """psutil looks at an empty directory in place of /proc."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    snapshot = measure([CacheUse(cache_name="users", size_bytes=5, entries=1)])
    assert (snapshot.rss_bytes, snapshot.uss_bytes, snapshot.system_total_bytes) == (None, None, None)
    assert snapshot.cache_bytes == 5
    assert snapshot.python_blocks > 0
    assert any(note.startswith("system memory: ") for note in snapshot.notes)
    assert any(note.startswith(("process memory: ", "rss: ")) for note in snapshot.notes)


def test_a_denied_uss_leaves_rss(monkeypatch: pytest.MonkeyPatch) -> None:
    """smaps is closed where ptrace is; statm is not."""

    def denied(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    snapshot = measure([])
    assert snapshot.rss_bytes
    assert snapshot.uss_bytes is None
    assert "uss and swap: permission denied" in snapshot.notes


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), OSError(5, "I/O"), RuntimeError()])
def test_whatever_fails_nothing_is_raised(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """All sources fail at once: a snapshot comes, its notes name each of them."""

    def fail(*args: object) -> None:
        raise error

    for owner, name in [
        (psutil.Process, "memory_full_info"),
        (psutil.Process, "memory_info"),
        (psutil, "virtual_memory"),
        (gc, "get_stats"),
        (sys, "getallocatedblocks"),
    ]:
        monkeypatch.setattr(owner, name, fail)
    snapshot = measure(row for row in [None])  # type: ignore[misc]  # garbage from a caller, too
    assert (snapshot.rss_bytes, snapshot.system_total_bytes, snapshot.gc, snapshot.caches) == (None, None, (), ())
    heads = {note.split(":")[0] for note in snapshot.notes}
    assert {"rss", "uss and swap", "system memory", "garbage collector", "python blocks", "caches"} <= heads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_measures_itself() -> None:
    """Nothing of the parent's process is remembered."""
    measure([])
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        held = bytearray(os.urandom(1)) * (96 * MIB)
        rss_bytes = measure([]).rss_bytes or 0
        os.write(write, str(rss_bytes if held else 0).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        child_bytes = int(answers.read())
    os.waitpid(pid, 0)
    assert child_bytes >= 96 * MIB
