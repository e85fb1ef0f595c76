"""What the suite runs in processes of their own, where no more is imported than it says."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

STEPS_OF_USE = ("import", "object", "subclass", "child")

ORDERS = textwrap.dedent(
    """
    import os, sys, traceback
    from cachescope import CacheMemoryProfiler, autopatch
    from cachescope.core.state import ATTRIBUTE, COUNTERS
    from cachescope.testing.guard import hooks_left, snapshot

    def use(*steps):
        made, space = {{}}, {{}}
        with CacheMemoryProfiler() as profiler:
            for step in steps:
                if step == "patch":
                    handle = autopatch({library!r}, profiler=profiler)
                elif step == "import":
                    exec({statement!r}, space)
                elif step == "object":
                    made["object"] = eval({expression!r}, space)
                elif step == "subclass":
                    class Sub(type(eval({expression!r}, space))):
                        def __setitem__(self, key, value):
                            super().__setitem__(key, value)
                    class Grandchild(Sub):
                        def __getitem__(self, key):
                            return super().__getitem__(key)
                else:
                    made["child"] = eval({expression!r}, space)
                    made["child"].__class__ = Grandchild
            for cache in made.values():
                cache["a"] = "1"; cache["a"]; cache.get("b"); cache.pop("a")
            for what, cache in made.items():
                state = getattr(cache, ATTRIBUTE)
                counted = dict(zip(COUNTERS, state.counters()))
                figures = (counted["sets"], counted["hits"], counted["misses"], counted["deletes"], state.entries)
                assert figures == (1, 2, 1, 1, 0), (what, figures)
            handle.undo()
            for what, cache in made.items():
                cache["c"] = "3"; cache["c"]
                assert getattr(cache, ATTRIBUTE, None) is None, what
                assert not hooks_left(type(cache)), hooks_left(type(cache))

    for order in {orders!r}:  # each in a child that has imported no more than this
        child = os.fork()
        if not child:
            try:
                use(*order)
                print("ok", flush=True)
            except BaseException:
                traceback.print_exc()
                print(order, file=sys.stderr)
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.waitpid(child, 0)
    """
)

LOADS = textwrap.dedent(
    """
    import pickle, sys
    sys.modules["cachescope"] = sys.modules["wrapt"] = None
    for name in sys.argv[1:]:
        with open(name, "rb") as file:
            cache = pickle.load(file)
        data = getattr(cache, "_Cache__data", getattr(cache, "data", cache))
        print(type(cache).__name__, repr(sorted(data.items(), key=repr)))
    """
)


def fresh_process(script: str, *arguments: str, folder: Any) -> subprocess.Popen[str]:
    """Start Python on *script*, with the import path of this process."""
    path = [entry for entry in sys.path if entry]
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
