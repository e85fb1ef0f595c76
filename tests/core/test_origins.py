"""Where cached values were built, and who owns tracemalloc. It is the whole process's, so each test has a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cachescope.core import origins
from cachescope.core.origins import OVERFLOW, Names, Origins, Step
from cachescope.core.sites import Sites

START = """
import json, os, sys, threading, tracemalloc
from cachescope.core.origins import Origins, OVERFLOW
from cachescope.core.sites import Sites
from cachescope.core.tracing import Tracing
sites, tracing = Sites(), Tracing()
origins = Origins(sites)
"""


def run(tmp_path: Path, script: str, *options: str) -> list[str]:
    """What a script prints, in a process of its own."""
    path = tmp_path / "shop.py"
    path.write_text(START + textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, *options, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONTRACEMALLOC"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def line_of(script: str, part: str) -> int:
    """The number that a line has in the process that runs the script."""
    lines = (START + textwrap.dedent(script)).splitlines()
    return 1 + next(i for i, line in enumerate(lines) if part in line)


def test_value_built_in_one_function_and_cached_in_another(tmp_path: Path) -> None:
    """The origin is the line that built it; its stack has the callers of that line."""
    script = """
    tracing.start(10)
    def build():
        return bytearray(1_000)  # here
    def load():
        return build()  # caller
    def put(cache, value):
        cache["k"] = value
        return origins.of(cache["k"])
    number = put({}, load())
    print(origins.text(number))
    print(*origins.known[number].stack[:2])
    print(put({}, load()) == number, tracing.stop(), origins.of(bytearray(1)))
    """
    here, caller = line_of(script, "# here"), line_of(script, "# caller")
    assert run(tmp_path, script) == [
        f"shop.py:{here}",
        f"shop.py:{here} shop.py:{caller}",
        "True None 0",
    ]


def test_parsed_value_was_built_by_the_line_that_had_it_parsed(tmp_path: Path) -> None:
    """The standard library's frames are passed over; with one frame they are all there is."""
    script = """
    def parse(text):
        return json.loads(text)  # here
    tracing.start(10)
    deep = parse('{"a": "a text of some length"}')
    number = origins.of(deep["a"])
    print(origins.text(number), origins.known[number].stack[0])
    tracing.stop()
    tracing.start(1)
    print(origins.text(origins.of(parse('{"b": "a text of some length"}')["b"])).replace(os.sep, "/"))
    """
    deep, shallow = run(tmp_path, script)
    assert deep == f"shop.py:{line_of(script, '# here')} shop.py:{line_of(script, '# here')}"
    assert shallow.startswith("json/decoder.py:")


def test_frames_of_libraries_are_folded_and_cache_libraries_are_no_origin(tmp_path: Path) -> None:
    """What a decorated function made was built by the function, not by what called it."""
    script = """
    import cachetools
    from cachescope.core.sites import plumbing_folders
    plumbing_folders.append(os.path.dirname(cachetools.__file__) + os.sep)
    tracing.start(10)
    @cachetools.cached(cachetools.LRUCache(10))
    def load(n):
        return bytearray(n)  # here
    def serve():
        return load(5)  # caller
    number = origins.of(serve())
    print(*origins.known[number].stack[:3], sep="|")
    keys = list(load.cache)
    print(origins.text(origins.of(keys[0])))
    """
    here, caller = line_of(script, "# here"), line_of(script, "# caller")
    stack, key = run(tmp_path, script)
    assert stack == f"shop.py:{here}|[1 frame in cachetools]|shop.py:{caller}"
    assert key == f"shop.py:{caller}"


def test_value_built_in_another_thread(tmp_path: Path) -> None:
    """tracemalloc sees all threads."""
    script = """
    tracing.start(5)
    out = []
    def work():
        out.append(bytearray(100))  # here
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
    print(origins.text(origins.of(out[0])))
    """
    assert run(tmp_path, script) == [f"shop.py:{line_of(script, '# here')}"]


def test_what_was_not_built_while_tracing_has_no_origin(tmp_path: Path) -> None:
    """Values from before, None, small integers and constants give 0, and so does everything when nothing is traced."""
    script = """
    before = bytearray(2)
    print(origins.of(before))
    tracing.start(3)
    print([origins.of(value) for value in (before, None, 5, True, (), "", "constant", int, len)])
    print(repr(origins.text(0)))
    """
    assert run(tmp_path, script) == ["0", "[0, 0, 0, 0, 0, 0, 0, 0, 0]", "''"]


def test_a_list_on_a_block_from_before_has_no_origin_and_never_anothers(tmp_path: Path) -> None:
    """Python keeps blocks of dropped lists and the like; tracemalloc hears of those only that it had traced before."""
    script = """
    olds = [[i] for i in range(50)]
    del olds
    tracing.start(3)
    news = [[i] for i in range(200)]  # here
    print({origins.text(origins.of(new)) for new in news} - {""})
    news = [bytearray(i) for i in range(200)]  # there
    print({origins.text(origins.of(new)) for new in news})
    """
    here, there = line_of(script, "# here"), line_of(script, "# there")
    assert run(tmp_path, script) == [f"{{'shop.py:{here}'}}", f"{{'shop.py:{there}'}}"]


def test_origins_stay_within_the_bound(tmp_path: Path) -> None:
    """Later lines share one number; tracebacks that were forgotten give the same number again."""
    script = """
    origins = Origins(sites, limit=10)
    tracing.start(2)
    exec("makers = [\\n" + "".join(f"lambda: bytearray({i}),\\n" for i in range(100)) + "]")
    first = [origins.of(make()) for make in makers]
    again = [origins.of(make()) for make in makers]
    print(first == again, first.count(OVERFLOW), len(origins.known), len(origins._numbers) <= 10, origins.overflowed > 0)
    print(origins.text(OVERFLOW), origins.text(first[0]), origins.memory_bytes() < 20_000)
    """
    assert run(tmp_path, script) == ["True 91 10 True True", "overflow <string>:2 True"]


def test_origin_joined_with_who_put_it_there(tmp_path: Path) -> None:
    """One number tells both, and an event needs no further column."""
    script = """
    tracing.start(5)
    def build():
        return bytearray(1)  # built
    def put(value):
        return sites.joined(sites.here(-1), origins.of(value))  # put
    both = sites.known[put(build())]
    print(both.text, both.built_at, both.built_stack[0])
    """
    built, put = line_of(script, "# built"), line_of(script, "# put")
    assert run(tmp_path, script) == [f"shop.py:{put} put shop.py:{built} shop.py:{built}"]


def test_a_value_that_cannot_be_asked_is_counted_and_has_no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own faults stay ours."""
    found = Origins(Sites())
    monkeypatch.setattr(found, "_traceback_of", lambda value: 1 // 0)
    assert found.of("x") == 0


def test_without_the_inner_reader_the_public_one_says_the_same(tmp_path: Path) -> None:
    """The function below tracemalloc's own is only a shortcut."""
    script = """
    import _tracemalloc
    tracing.start(5)
    value = [1]
    inner = origins._traceback_of(value)
    del _tracemalloc._get_object_traceback
    from cachescope.core.origins import _reader
    outer = _reader()
    print(inner == outer(value), outer is not origins._traceback_of, outer(None))
    """
    assert run(tmp_path, script) == ["True True None"]


def test_a_traceback_of_unknown_frames_only_has_no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is with blocks that C code allocated outside any function, and with our own."""
    found = Origins(Sites())
    for frames in ((("<unknown>", 0),), ((origins.__file__, 5),), ()):
        monkeypatch.setattr(found, "_traceback_of", lambda value, frames=frames: frames)
        assert found.of("x") == 0
    assert found.known.keys() == {OVERFLOW}


def test_names_know_whose_a_file_is() -> None:
    """The application's, a library's, Python's, or ours."""
    names = Names(10)
    venv = os.path.join(os.sep, "venv", "site-packages")
    assert names.file("/srv/app.py").rank == origins.APPLICATION
    assert names.file(os.path.join(venv, "flask", "app.py"))[::2] == (origins.LIBRARY, "flask")
    assert names.file(os.path.join(venv, "six.py"))[::2] == (origins.LIBRARY, "six")
    assert names.file(subprocess.__file__)[::2] == (origins.STANDARD, "subprocess")
    assert names.file("<frozen importlib._bootstrap>")[::2] == (origins.STANDARD, "importlib")
    assert names.file(origins.__file__)[::2] == (origins.PLUMBING, "")


def test_a_folder_that_becomes_plumbing_later_is_plumbing() -> None:
    """Adapters make theirs known when their library is imported."""
    names = Names(10)
    assert names.file("/lib/newcache/lru.py").rank == origins.APPLICATION
    origins.plumbing_folders.append("/lib/newcache/")
    try:
        assert names.file("/lib/newcache/lru.py").rank == origins.PLUMBING
    finally:
        origins.plumbing_folders.remove("/lib/newcache/")


def test_long_names_keep_what_tells_most() -> None:
    """A file's end, a function's beginning."""
    text = Step(Names(10).file("/srv/" + "x" * 500 + "/end.py"), 5, "first" + "y" * 500).text()
    assert text.startswith("…x")
    assert "/end.py:5 firsty" in text
    assert text.endswith("y…")
    assert len(text) == 256 + len(":5 ") + 256


# Who owns tracemalloc


def test_tracing_that_somebody_else_started_is_left_alone(tmp_path: Path) -> None:
    """It is neither ours to stop nor to change."""
    script = """
    tracemalloc.start(3)
    print(tracing.start(10), tracing.mine, tracing.frames, "stays on" in tracing.cost())
    tracing.stop()
    print(tracemalloc.is_tracing(), origins.of(bytearray(1)) > 0)
    """
    assert run(tmp_path, script) == ["False False 3 True", "True True"]


def test_tracing_that_we_started_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    """Starting and stopping twice does no harm."""
    script = """
    print(tracing.frames, tracing.memory_bytes(), repr(tracing.cost()), tracing.stop())
    print(tracing.start(4), tracing.start(9), tracing.mine, tracing.frames, tracing.memory_bytes() > 0)
    print(tracing.cost().split(" in ")[0])
    tracing.stop(); tracing.stop()
    print(tracemalloc.is_tracing(), tracing.mine)
    print(tracing.start(), tracing.frames)
    """
    assert run(tmp_path, script) == [
        "0 None '' None",
        "True True True 4 True",
        "tracemalloc was started by cachescope: it keeps 4 frames of each block",
        "False False",
        "True 1",
    ]


@pytest.mark.parametrize("theirs", ["tracemalloc.stop(); tracemalloc.start(4)", "tracemalloc.clear_traces()"])
def test_tracing_that_somebody_began_anew_is_theirs(tmp_path: Path, theirs: str) -> None:
    """They rely on it now, as far as can be told."""
    script = f"""
    print(tracing.start(4))
    {theirs}
    print(tracing.mine)
    tracing.stop()
    print(tracemalloc.is_tracing())
    """
    assert run(tmp_path, script) == ["True", "False", "True"]


def test_tracing_that_somebody_stopped_is_not_stopped_again(tmp_path: Path) -> None:
    """And can be started again, by us too."""
    script = """
    tracing.start(4); tracemalloc.stop()
    print(tracing.mine, tracing.stop(), tracing.start(2), tracing.frames)
    """
    assert run(tmp_path, script) == ["False None True 2"]


def test_two_profilers_share_one_tracing_until_the_last_stops(tmp_path: Path) -> None:
    """Neither pulls it from under the other."""
    script = """
    other = Tracing()
    print(tracing.start(4), other.start(4), tracing.stop(), other.mine, tracemalloc.is_tracing(), tracing.mine)
    other.stop()
    print(tracemalloc.is_tracing())
    """
    assert run(tmp_path, script) == ["True True None True True False", "False"]


def test_a_number_of_frames_that_is_not_allowed_starts_nothing(tmp_path: Path) -> None:
    """It is counted as a fault of ours; the program goes on."""
    script = """
    from cachescope.core import faults
    print(tracing.start(0), tracemalloc.is_tracing(), faults.counts)
    """
    assert run(tmp_path, script) == ["False False {'tracemalloc: ValueError': 1}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_goes_on_tracing_and_stops_only_its_own(tmp_path: Path) -> None:
    """Values of before the fork keep their origin in the child."""
    script = """
    tracing.start(4)
    value = bytearray(1)
    number = origins.of(value)
    child = os.fork()
    if child == 0:
        same = tracing.mine and origins.of(value) == number and origins.of(bytearray(2)) > 0
        tracing.stop()
        os._exit(0 if same and not tracemalloc.is_tracing() else 1)
    print(os.waitpid(child, 0)[1], tracing.mine, tracemalloc.is_tracing(), origins.of(value) == number)
    """
    assert run(tmp_path, script) == ["0 True True True"]


def test_importing_starts_nothing_and_loads_no_tracemalloc() -> None:
    """What isn't asked for costs nothing."""
    script = "import sys; import cachescope.core.tracing, cachescope.core.origins; print('tracemalloc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
