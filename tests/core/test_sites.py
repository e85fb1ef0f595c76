"""Call sites: the application's line, a stack that a person can read, and a table that generated code can't fill memory with."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cachescope
from cachescope.core import faults
from cachescope.core.origins import Origin
from cachescope.core.sites import OVERFLOW, Sites, plumbing_folders

OURS = os.path.join(os.path.dirname(cachescope.__file__), "core", "made_up.py")
STANDARD = os.path.join(sysconfig.get_paths()["stdlib"], "queue.py")
SITE_PACKAGES = os.path.join(os.sep, "venv", "lib", "site-packages")


def installed(name: str) -> str:
    return os.path.join(SITE_PACKAGES, *name.split("/"))


def made(filename: str, name: str = "call", source: str = "return f(*args)", **namespace: object) -> Callable[..., Any]:
    """A function from *filename* that calls what it is given."""
    exec(compile(f"def {name}(f, *args):\n    {source}", filename, "exec"), namespace)
    return namespace[name]  # type: ignore[return-value]


def chain(*functions: Callable[..., Any]) -> int:
    """Functions that call one another, the first one outermost."""
    first, *others = functions
    return first(*others)


def text_of(sites: Sites, number: int) -> str:
    return sites.known[number].text


def test_site_is_the_line_that_called_the_cache() -> None:
    """Our own frames are not in it, and the same line gives the same number."""
    sites = Sites()
    hook = made(OURS)
    numbers = {hook(made(OURS), sites.here) for _ in range(5)}
    line = sys._getframe().f_lineno - 1
    assert len(numbers) == 1
    site = sites.known[numbers.pop()]
    assert site.text.endswith(
        f"test_sites.py:{line} test_site_is_the_line_that_called_the_cache.<locals>.<setcomp>"
    ) or (
        site.text.endswith(f"test_sites.py:{line} test_site_is_the_line_that_called_the_cache")  # inlined since 3.12
    )
    assert site.stack[0] == site.text


def test_two_lines_have_two_numbers_and_two_calls_of_one_line_have_one() -> None:
    """A number stands for a text, whatever the bytecode."""
    sites = Sites()
    hook = made(OURS)
    one, two = hook(hook, sites.here), hook(hook, sites.here)
    three = hook(hook, sites.here)
    assert one == two != three


def test_site_is_the_application_above_a_library() -> None:
    """A cache inside an installed library is filled by the application's line that called the library."""
    sites = Sites()
    app, lib = made("/srv/app.py", "view"), made(installed("sqlalchemy/orm.py"))
    number = chain(app, lib, lib, made(STANDARD), lib, made(OURS), made(OURS), sites.here)
    assert text_of(sites, number) == "/srv/app.py:2 view"
    again = chain(app, lib, lib, made(STANDARD), lib, made(OURS), made(OURS), sites.here)
    assert again == number


def test_stack_has_the_applications_lines_and_one_entry_for_each_library() -> None:
    """Runs of library frames are folded, and named for the library that the application called."""
    sites = Sites()
    number = chain(
        made("/srv/main.py", "main"),
        made(installed("flask/app.py")),
        made(installed("werkzeug/local.py")),
        made(STANDARD),
        made("/srv/view.py", "view"),
        made(STANDARD),
        made("/srv/model.py", "load"),
        made(OURS),
        made(OURS),
        sites.here,
    )
    assert sites.known[number].stack[:5] == (
        "/srv/model.py:2 load",
        "[1 frame in queue]",
        "/srv/view.py:2 view",
        "[3 frames in flask]",
        "/srv/main.py:2 main",
    )


def test_cache_libraries_between_are_no_site_and_folded() -> None:
    """cachetools' own frames are plumbing once its adapter has said so."""
    folder = os.path.join(SITE_PACKAGES, "cachetools", "")
    plumbing_folders.append(folder)
    try:
        sites = Sites()
        cached = made(os.path.join(folder, "__init__.py"))
        app = made("/srv/app.py", "app")
        number = chain(
            app, made(OURS), cached, made("/srv/model.py", "load"), cached, made(OURS), made(OURS), sites.here
        )
    finally:
        plumbing_folders.remove(folder)
    assert sites.known[number].stack[:3] == ("/srv/model.py:2 load", "[1 frame in cachetools]", "/srv/app.py:2 app")


def test_stack_ends_after_depth_lines_of_the_application() -> None:
    """Library frames between don't count."""
    sites = Sites(depth=3)
    frames = []
    for i in range(9):
        frames += [made(f"/srv/{i}.py"), made(installed("flask/app.py"))]
    number = chain(*frames, made(OURS), made(OURS), sites.here)
    shown = [text for text in sites.known[number].stack if not text.startswith("[")]
    assert shown == ["/srv/8.py:2 call", "/srv/7.py:2 call", "/srv/6.py:2 call"]


def test_recursion_is_told_once() -> None:
    """A stack of one line repeated says nothing more."""
    sites = Sites()
    recurse = made("/srv/tree.py", "walk")
    number = chain(made("/srv/main.py", "main"), *[recurse] * 50, made(OURS), made(OURS), sites.here)
    assert sites.known[number].stack[:2] == ("/srv/tree.py:2 walk", "/srv/main.py:2 main")


def library_only(sites: Sites, *frames: Callable[..., Any]) -> int:
    """What is asked when nothing but installed code is on the stack."""
    first, *others = [*frames, made(OURS), made(OURS), sites.here]
    out: list[int] = []
    thread = threading.Thread(target=made(STANDARD, source="args[0](f(*args[1:]))"), args=(first, out.append, *others))
    thread.start()
    thread.join()
    return out[0]


def test_without_application_the_nearest_line_of_a_library_is_the_site() -> None:
    """An application that is installed is shown frame by frame; what else is installed is folded."""
    sites = Sites()
    mine, theirs = installed("shop/views.py"), installed("starlette/routing.py")
    number = library_only(
        sites, made(theirs), made(mine, "serve"), made(theirs), made(mine, "view"), made(mine, "load"), made(STANDARD)
    )
    site = sites.known[number]
    assert site.text.endswith("shop/views.py:2 load")
    assert [text.rpartition("/")[2] for text in site.stack[:4]] == [
        "views.py:2 load",
        "views.py:2 view",
        "[1 frame in starlette]",
        "views.py:2 serve",
    ]


def test_an_installed_line_is_the_site_only_where_no_application_is_above() -> None:
    """It does not take the application's sets, whichever came first."""
    sites = Sites()
    lib, app = made(installed("lib.py"), "fill"), made("/srv/app.py", "app")
    alone = library_only(sites, lib)
    above = chain(app, lib, made(OURS), made(OURS), sites.here)
    assert text_of(sites, alone).endswith("lib.py:2 fill")
    assert text_of(sites, above) == "/srv/app.py:2 app"
    assert library_only(sites, lib) == alone


def test_an_installed_line_stays_apart_when_too_many_functions_were_passed() -> None:
    """That it was passed over is forgotten, its mark is not; still the application's line is the site."""
    sites = Sites(limit=8)
    lib, app, hook = made(installed("lib.py"), "fill"), made("/srv/app.py", "app"), made(OURS)
    assert "lib.py" in text_of(sites, library_only(sites, lib))
    for _ in range(100):
        made(OURS)(made(OURS), sites.here)
        if id(lib.__code__) not in sites._passed:
            break
    hook(hook, sites.here)  # ours is passed again
    assert text_of(sites, app(lib, hook, hook, sites.here)) == "/srv/app.py:2 app"


def test_an_installed_application_settles_and_keeps_its_number() -> None:
    """After many calls without an application above, nobody looks for one; the line stays the same."""
    sites = Sites()
    lib = made(installed("shop.py"), "fill")
    assert len({library_only(sites, made(installed("uvicorn.py")), lib) for _ in range(300)}) == 1
    assert id(lib.__code__) not in sites._passed


def test_a_script_of_an_installed_tool_is_not_the_application() -> None:
    """``bin/gunicorn`` is below everything, and tells nothing."""
    sites = Sites()
    script = os.path.join(sysconfig.get_paths()["scripts"], "gunicorn")
    assert "shop.py" in text_of(sites, library_only(sites, made(script), made(installed("shop.py"))))


def test_nothing_but_plumbing_gives_its_nearest_line() -> None:
    """A standard-library thread that fills a cache by itself is a site too."""
    sites = Sites()
    assert "queue.py:2 call" in text_of(sites, library_only(sites))


def test_methods_of_a_cache_class_are_not_the_site() -> None:
    """Not even when they had been seen before their class was known."""

    class Cache(dict):  # type: ignore[type-arg]
        def fill(self, sites: Sites) -> int:
            return made(OURS)(made(OURS), sites.here)  # type: ignore[no-any-return]

        @classmethod
        def make(cls, sites: Sites) -> int:
            return cls().fill(sites)

        @property
        def one(self) -> int:
            return self.fill(sites)

    sites = Sites()
    assert "fill" in text_of(sites, Cache().fill(sites))
    sites.skip_methods(Cache)
    for number in (Cache().fill(sites), Cache.make(sites), Cache().one):
        assert "Cache" not in "".join(sites.known[number].stack)


def test_methods_stay_skipped_when_too_many_functions_were_passed() -> None:
    """What was told is kept; only what was found out is forgotten."""
    hook = made(OURS)

    class Cache(dict):  # type: ignore[type-arg]
        def fill(self, sites: Sites) -> int:
            return hook(hook, sites.here)  # type: ignore[no-any-return]

    sites = Sites(limit=8)
    assert "Cache" in text_of(sites, Cache().fill(sites))
    sites.skip_methods(Cache)
    for _ in range(100):
        made(OURS)(made(OURS), sites.here)
    assert len(sites._passed) <= 33
    hook(hook, sites.here)  # ours is passed again
    assert "Cache" not in text_of(sites, Cache().fill(sites))


def test_skipping_runs_no_code_of_the_class_and_never_raises() -> None:
    """Descriptors, odd attributes and metaclasses that refuse are left alone."""

    class Trap:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

        def __get__(self, *args: object) -> object:
            raise RuntimeError

    class Meta(type):
        def __hash__(cls) -> int:
            raise RuntimeError

    class Odd(metaclass=Meta):
        trap = Trap()

    class Plain:
        trap = Trap()

    before = faults.counts.get("call site: RuntimeError", 0)
    sites = Sites()
    sites.skip_methods(Plain)
    sites.skip_methods(Odd)
    assert faults.counts["call site: RuntimeError"] == before + 1


def test_endless_classes_stay_within_the_bound() -> None:
    """Cache classes made in a loop do not pile up."""
    sites = Sites(limit=4)
    for _ in range(500):
        sites.skip_methods(type("Made", (dict,), {"get": made("/srv/x.py")}))
    assert len(sites._methods) <= 17
    assert len(sites._passed) <= 17 + 17


def test_asking_without_a_frame_is_not_an_error() -> None:
    """There is no such caller, so there is no site."""
    assert Sites().here(10_000) == 0


# Marks


def test_a_code_object_that_took_a_dead_ones_address_gets_its_own_site() -> None:
    """Functions are made, asked and dropped: each answer is that of the function that asked."""
    sites = Sites(limit=1 << 16, most_bytes=100_000)
    addresses: dict[int, int] = {}
    for i in range(4_000):
        app = made(f"/srv/gen{i}.py", f"f{i}")
        addresses[id(app.__code__)] = addresses.get(id(app.__code__), 0) + 1
        number = chain(app, made(OURS), made(OURS), sites.here)
        assert text_of(sites, number) in (f"/srv/gen{i}.py:2 f{i}", "overflow")
        assert number == OVERFLOW or sites.known[number].stack[0] == f"/srv/gen{i}.py:2 f{i}"
        del app
    assert max(addresses.values()) > 1  # else nothing was tested


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=80), st.integers(2, 6))
def test_numbers_mean_what_they_say_whatever_is_forgotten(asked: list[int], limit: int) -> None:
    """Against a naive table of texts: the first that fit keep their numbers, all others are overflow."""
    sites, naive = Sites(limit=limit), {}
    for i in asked:
        app = made(f"/srv/{i}.py", "f")
        number = chain(app, made(OURS), made(OURS), sites.here)
        if i not in naive:
            naive[i] = number if len(naive) < limit - 1 else OVERFLOW
            if naive[i] == OVERFLOW:
                del naive[i]
        assert number == naive.get(i, OVERFLOW)
        assert text_of(sites, number) == (f"/srv/{i}.py:2 f" if i in naive else "overflow")


def test_generated_code_stays_within_the_bounds_and_is_not_kept_alive() -> None:
    """However many functions were made, the table, its bytes and the code that it holds are bounded."""
    sites = Sites(limit=100)
    hook = made(OURS)
    for i in range(2_000):
        made(f"/srv/{'long' * 1_000}{i}.py", "f" * 5_000 + str(i))(hook, hook, sites.here)
    assert len(sites.known) == 100
    assert len(sites._marks.numbers) <= 200
    assert len(sites._marks.codes) <= 200
    assert len(sites._passed) <= 401
    assert len(sites.names._files) <= 100
    assert max(len(site.text) for site in sites.known.values()) < 530
    assert sites.overflowed >= 1_900


def test_texts_stay_within_the_bytes() -> None:
    """Long names fill the bytes before they fill the number of sites."""
    sites = Sites(limit=1 << 16, most_bytes=200_000)
    hook = made(OURS)
    for i in range(2_000):
        made(f"/srv/{'long' * 100}{i}.py")(hook, hook, sites.here)
    assert sites.names.bytes + 400 * len(sites.known) < 210_000
    assert sites.memory_bytes() < 500_000
    assert sites.overflowed > 0


def test_one_huge_function_is_not_kept_alive() -> None:
    """Its constants may be larger than all else; it is asked for anew each time, and gets the same number."""
    sites = Sites(most_bytes=100_000)
    huge = made("/srv/huge.py", source=f"b'{'x' * 200_000}'; y = b'{'z' * 200_000}'; return f(*args)")
    one = chain(huge, made(OURS), made(OURS), sites.here)
    two = chain(huge, made(OURS), made(OURS), sites.here)
    assert one == two != OVERFLOW
    assert huge.__code__ not in sites._marks.codes.values()


def test_texts_are_kept_once() -> None:
    """Stacks share their lines."""
    sites = Sites()
    main = made("/srv/main.py", "main")
    numbers = [chain(main, made(f"/srv/{i}.py"), made(OURS), made(OURS), sites.here) for i in range(3)]
    assert len({id(sites.known[number].stack[1]) for number in numbers}) == 1


def test_threads_that_learn_at_once_agree() -> None:
    """One text never has two numbers."""
    sites = Sites()
    apps = [made(f"/srv/{i}.py") for i in range(50)]
    hook = made(OURS)
    seen: list[list[int]] = []
    go = threading.Barrier(4)

    def ask() -> None:
        go.wait()
        seen.append([app(hook, hook, sites.here) for app in apps])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(seen) == 4
    assert all(numbers == seen[0] for numbers in seen)
    assert [text_of(sites, number) for number in seen[0]] == [f"/srv/{i}.py:2 call" for i in range(50)]


# Kinds of code


async def asked_in_a_task(sites: Sites) -> int:
    await asyncio.sleep(0)
    return made(OURS)(made(OURS), sites.here)  # type: ignore[no-any-return]


async def awaiting(sites: Sites) -> int:
    return await asked_in_a_task(sites)


def test_stack_of_a_coroutine_ends_at_the_event_loop() -> None:
    """It has who awaits it; what runs the loop has not called it."""
    sites = Sites()
    number = asyncio.run(awaiting(sites))
    assert [text.rpartition(" ")[2] for text in sites.known[number].stack] == ["asked_in_a_task", "awaiting", "loop]"]
    assert sites.known[number].stack[-1] == "[event loop]"


def test_a_librarys_task_is_not_the_doing_of_what_runs_the_loop() -> None:
    """No application is in the task: the library's line is the site."""
    sites = Sites()
    lib = made(installed("lib.py"), "refresh")

    async def main() -> int:
        out: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(
            made(installed("lib.py"), "turn", "args[0](f(*args[1:]))"),
            lib,
            out.set_result,
            made(OURS),
            made(OURS),
            sites.here,
        )
        return await out

    assert text_of(sites, asyncio.run(main())).endswith("lib.py:2 refresh")


def test_generators_and_lambdas_are_sites() -> None:
    """A generator's line is the one that asked, and its consumer the next."""
    sites = Sites()

    def numbers() -> Any:
        yield made(OURS)(made(OURS), sites.here)

    number = next(numbers())
    assert text_of(sites, number).endswith("<locals>.numbers")
    assert sites.known[number].stack[1].endswith("test_generators_and_lambdas_are_sites")
    asks = lambda: made(OURS)(made(OURS), sites.here)
    assert text_of(sites, asks()).endswith("<lambda>")


@pytest.mark.parametrize(("filename", "shown"), [("<string>", "<string>"), ("", "<unknown>"), ("<stdin>", "<stdin>")])
def test_code_without_a_file_is_the_applications(filename: str, shown: str) -> None:
    """Unless the module in whose namespace it runs is a library's."""
    sites = Sites()
    assert text_of(sites, made(filename)(made(OURS), made(OURS), sites.here)) == f"{shown}:2 call"


def test_code_that_a_library_made_is_the_librarys() -> None:
    """Templates, ``__init__``s and such belong to the module that runs them."""
    sites = Sites()
    theirs = made("<template>", __file__=installed("jinja2/environment.py"))
    number = chain(made("/srv/app.py"), theirs, made(OURS), made(OURS), sites.here)
    assert text_of(sites, number) == "/srv/app.py:2 call"


# Joined with where values were built


def test_joined_site_tells_who_put_it_there_and_where_it_was_built() -> None:
    """The same pair has one number, and the site itself stays as it was."""
    sites = Sites()
    site = chain(made("/srv/app.py"), made(OURS), made(OURS), sites.here)
    sites.origins = {7: Origin("/srv/load.py:3", ("/srv/load.py:3", "/srv/app.py:2"))}
    number = sites.joined(site, 7)
    both = sites.known[number]
    assert number == sites.joined(site, 7) != site
    assert (both.text, both.stack) == (sites.known[site].text, sites.known[site].stack)
    assert (both.built_at, both.built_stack) == ("/srv/load.py:3", ("/srv/load.py:3", "/srv/app.py:2"))
    assert sites.known[site].built_at == ""


def test_joined_with_nothing_known_is_the_site() -> None:
    """0 means that it isn't known where the value was built."""
    sites = Sites()
    assert sites.joined(5, 0) == 5
    assert sites.joined(5, 99) == 5


def test_joins_leave_half_of_the_table_to_sites() -> None:
    """Beyond, who put it there is still told."""
    sites = Sites(limit=20)
    sites.origins = {i: Origin(f"/srv/{i}.py:1", ()) for i in range(1, 100)}
    numbers = [sites.joined(0, i) for i in range(1, 100)]
    assert len(set(numbers)) == 11
    assert numbers[10:] == [0] * 89
    assert sites.unjoined == 89
    assert chain(made("/srv/app.py"), made(OURS), made(OURS), sites.here) != OVERFLOW
