"""The library imported before, after, in a circle, again, lazily or never: patched in time, and undone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
START = """
import sys
from cachescope import CacheMemoryProfiler, autopatch, unpatch
from cachescope.testing import hooks_left
profiler = CacheMemoryProfiler().start()
def used(cache):
    cache["a"] = "1"; cache["a"]
    state = getattr(cache, "_self_cachescope", None)
    counted = (0, 0) if state is None else (state.sets, state.counters()[0])
    cache.clear()
    return counted
"""


def run(code, folder):
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(SOURCE)!r}, '.']\n{START}{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout.split("\n")[:-1]


PATCH = "handle = autopatch('cachetools', profiler=profiler)\n"
FORMS = {
    "import cachetools": "cachetools.LRUCache",
    "from cachetools import LRUCache": "LRUCache",
    "import cachetools as c": "c.LRUCache",
    "from cachetools import *": "LRUCache",
    "import importlib; m = importlib.import_module('cachetools')": "m.LRUCache",
    "import cachetools.keys": "cachetools.LRUCache",
    "import cachetools.func": "cachetools.LRUCache",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_every_form_of_import_before_and_after(tmp_path, form, order):
    steps = (form + "\n" + PATCH) if order == "before" else (PATCH + form + "\n")
    cls = FORMS[form]
    code = f"{steps}\nprint(used({cls}(4)))\nhandle.undo()\nprint(used({cls}(4)), hooks_left({cls}))"
    assert run(code, tmp_path) == ["(1, 1)", "(0, 0) []"]


def test_waiting_for_an_import_imports_nothing(tmp_path):
    code = (
        PATCH
        + "print('cachetools' in sys.modules)\nhandle.undo()\nimport cachetools\nprint(hooks_left(cachetools.LRUCache))"
    )
    assert run(code, tmp_path) == ["False", "[]"]


def test_undone_and_patched_again_before_the_import(tmp_path):
    code = f"{PATCH}handle.undo()\n{PATCH}import cachetools\nprint(used(cachetools.LRUCache(4)))\nhandle.undo()\n"
    assert run(code + "print(hooks_left(cachetools.LRUCache))", tmp_path) == ["(1, 1)", "[]"]


def test_what_a_module_makes_at_import_is_seen(tmp_path):
    (tmp_path / "shop.py").write_text(
        "from cachetools import LRUCache, cached\n"
        "USERS = LRUCache(4)\n"
        "setter = USERS.__setitem__\n"
        "class Mine(LRUCache):\n"
        "    def __setitem__(self, key, value): super().__setitem__(key, value)\n"
        "MINE = Mine(4)\n"
        "@cached(LRUCache(4))\n"
        "def load(n): return str(n)\n"
    )
    code = PATCH + (
        "import shop\nshop.setter('x', '1')\nprint(shop.USERS._self_cachescope.sets)\nprint(used(shop.MINE))\n"
        "shop.load(1); shop.load(1)\nprint(sorted(profiler.caches()))\n"
        "print(shop.load.cache._self_cachescope.counters()[:3])"
    )
    assert run(code, tmp_path) == ["1", "(1, 1)", "['shop:MINE', 'shop:USERS', 'shop:load']", "(1, 1, 1)"]


def test_a_circle_of_imports(tmp_path):
    (tmp_path / "one.py").write_text("import two\nfrom cachetools import LRUCache\nCACHE = LRUCache(4)\n")
    (tmp_path / "two.py").write_text("import one\nimport cachetools\nCACHE = cachetools.LRUCache(4)\n")
    assert run(PATCH + "import one, two\nprint(used(one.CACHE), used(two.CACHE))", tmp_path) == ["(1, 1) (1, 1)"]


def test_a_lazy_import(tmp_path):
    code = PATCH + (
        "import importlib.util\nspec = importlib.util.find_spec('cachetools')\n"
        "spec.loader = importlib.util.LazyLoader(spec.loader)\nlazy = importlib.util.module_from_spec(spec)\n"
        "sys.modules['cachetools'] = lazy\nspec.loader.exec_module(lazy)\nprint(used(lazy.LRUCache(4)))"
    )
    assert run(code, tmp_path) == ["(1, 1)"]


def test_a_library_that_fails_to_import_fails_as_it_would_without_us(tmp_path):
    (tmp_path / "cachetools").mkdir()
    (tmp_path / "cachetools" / "__init__.py").write_text("raise OSError('the disk is on fire')")
    code = (
        "sys.path.insert(0, '.')\n" + PATCH + "try:\n    import cachetools\nexcept OSError as error:\n    print(error)"
    )
    assert run(code, tmp_path) == ["the disk is on fire"]


def test_a_library_that_is_another_one_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "cachetools.py").write_text("class Cache: pass\nclass LRUCache(dict): pass\n")
    code = (
        "sys.path.insert(0, '.')\n"
        + PATCH
        + (
            "import cachetools\n"
            "print(cachetools.__file__.endswith('cachetools.py'), used({}), hooks_left(cachetools.Cache))\n"
            "cachetools.LRUCache()['a'] = 1\nhandle.undo()"
        )
    )
    assert run(code, tmp_path) == ["True (0, 0) []"]


def test_a_reloaded_library_breaks_nothing(tmp_path):
    """Its new classes are not patched (the hook runs at import); the old ones are still undone."""
    code = (
        "import cachetools, importlib\n"
        + PATCH
        + (
            "old = cachetools.LRUCache\ncache = old(4)\nimportlib.reload(cachetools)\nprint(used(cache))\n"
            "used(cachetools.LRUCache(4))\nhandle.undo()\nprint(hooks_left(old), hooks_left(cachetools.LRUCache))"
        )
    )
    assert run(code, tmp_path) == ["(1, 1)", "[] []"]


def test_threads_that_import_at_once(tmp_path):
    code = PATCH + (
        "import threading\ndef go():\n    from cachetools import LRUCache\n    out.append(used(LRUCache(4)))\n"
        "out = []\nthreads = [threading.Thread(target=go) for _ in range(8)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()\nprint(set(out), len(out))"
    )
    assert run(code, tmp_path) == ["{(1, 1)} 8"]
