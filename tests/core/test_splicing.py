"""Splicing: the library's own statements with ours among them, or nothing at all where that can't be had."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
import traceback
import zipfile
from pathlib import Path

import cachetools
import pytest

from cachescope import CacheMemoryProfiler, autopatch
from cachescope.core.splicing import around, with_hits_counted
from cachescope.core.stock_hooks import _set_template


def cold(self: object, key: object) -> None:
    """Stands for what counts while something is up."""


@pytest.mark.parametrize("name", ["Cache", "LRUCache", "LFUCache", "TTLCache", "TLRUCache"])
def test_look_ups_of_the_library_can_be_spliced(name: str) -> None:
    """Each with two parameters, the library's file and line, and its captured default as a constant."""
    original = getattr(cachetools, name).__getitem__
    spliced = with_hits_counted(original, cold)
    assert spliced is not None
    assert spliced.__code__.co_filename == original.__code__.co_filename
    assert spliced.__code__.co_firstlineno == original.__code__.co_firstlineno
    assert spliced.__code__.co_qualname == original.__code__.co_qualname
    assert list(inspect.signature(spliced).parameters) == ["self", "key"]


def test_what_is_unusual_is_left_to_a_wrapper() -> None:
    """No source, a closure, a generator, a decorated or foreign wrapper, a parameter that is changed: None each time."""
    scope: dict[str, object] = {}
    exec("def __getitem__(self, key): return key", scope)  # no source to be had
    outside = 1

    def closure(self, key):
        return outside

    def generator(self, key):
        yield key

    def changed(self, key, data=None):
        data = {}
        return data[key]

    def too_many(self, key, other, more):
        return key

    for function in (scope["__getitem__"], closure, generator, changed, too_many, dict.__getitem__, len):
        assert with_hits_counted(function, cold) is None


def test_a_method_that_returns_early_is_not_put_into_a_hook() -> None:
    """What stands behind it in the hook would not run."""

    def __setitem__(self, key, value):  # noqa: N807  # named like what it stands for
        if key:
            return
        self.data[key] = value

    assert around(__setitem__, _set_template, {"original": __setitem__, "meet": None}) is None
    given = {"original": cachetools.LRUCache.__setitem__, "meet": None}
    assert around(cachetools.LRUCache.__setitem__, _set_template, given) is not None


def test_tracebacks_read_as_if_nothing_were_there() -> None:
    """The frames of a failing look-up and set are the library's, at the library's lines."""

    def frames(action: object) -> list[tuple[str, int, str]]:
        try:
            action()  # type: ignore[operator]
        except Exception as error:
            return [(Path(f.filename).name, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)[1:]]  # type: ignore[misc]
        raise AssertionError("it should have failed")

    cache = cachetools.LRUCache(2, getsizeof=lambda value: 9)
    actions = [lambda: cache[[]], lambda: cache.__setitem__("k", 1), lambda: cache.__delitem__("nope")]
    bare = [frames(action) for action in actions]
    with CacheMemoryProfiler() as profiler, autopatch("cachetools", profiler=profiler):
        patched = [frames(action) for action in actions]
    assert patched[0] == bare[0]
    assert [frame for frame in patched[1] if frame[0] == "__init__.py"][-1] == bare[1][-1]
    assert [frame for frame in patched[2] if frame[0] == "__init__.py"][-1] == bare[2][-1]


def test_a_library_without_source_is_hooked_by_wrappers(tmp_path: Path) -> None:
    """Byte code alone in a zip: the figures are the same."""
    program = textwrap.dedent(
        """
        import sys
        import cachescope, cachetools, inspect
        assert ".zip" in cachetools.__file__, cachetools.__file__
        try:
            inspect.getsource(cachetools.LRUCache.__getitem__)
        except OSError:
            pass
        else:
            raise SystemExit("there is a source after all")
        with cachescope.CacheMemoryProfiler() as profiler, cachescope.autopatch("cachetools", profiler=profiler):
            cache = cachetools.LRUCache(3)
            for i in range(5):
                cache[f"k{i}"] = bytes(100)
            cache["k4"], cache.get("k3"), cache.get("k0")
            (name,) = profiler.caches()
            profile = profiler.get_cache_profile(name)
            assert (profile.hits, profile.misses, profile.total_evictions, profile.current_entries) == (2, 1, 2, 3), profile
            assert profile.net_memory_bytes == 3 * (sys.getsizeof("k4") + sys.getsizeof(bytes(100)))
        """
    )
    folder = Path(cachetools.__file__).parent
    built = tmp_path / "built" / "cachetools"
    built.mkdir(parents=True)
    for source in folder.glob("*.py"):
        import py_compile

        py_compile.compile(str(source), cfile=str(built / f"{source.stem}.pyc"), dfile=f"gone/{source.name}")
    with zipfile.ZipFile(tmp_path / "library.zip", "w") as archive:
        for compiled in built.iterdir():
            archive.write(compiled, f"cachetools/{compiled.name}")
    script = tmp_path / "program.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(tmp_path / 'library.zip')!r})\n{program}")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
