"""Tasks: known by the coroutine that they run, and told apart while they run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

from cachescope.core import tasks


async def named():
    return tasks.label(tasks.here())


def test_a_task_is_known_by_its_coroutine():
    """All tasks of one coroutine function have one number, which stays its own."""

    async def other():
        return tasks.here()

    async def main():
        first, second = await asyncio.gather(other(), other())
        return await asyncio.create_task(named()), first == second, tasks.label(first)

    label, same, inner = asyncio.run(main())
    assert (label, same) == ("named", True)
    assert inner.endswith("other")


def test_outside_of_tasks_there_is_none():
    """Threads are told apart by their ident, and a callback of the loop runs in no task."""
    found = []
    thread = threading.Thread(target=lambda: found.append((tasks.here(), tasks.owner())))
    thread.start()
    thread.join()

    async def main():
        asyncio.get_running_loop().call_soon(lambda: found.append((tasks.here(), tasks.owner())))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [here for here, _ in found] == [0, 0]
    assert found[1][1] == tasks.owner() == threading.get_ident() != found[0][1]


def test_tasks_that_run_at_one_time_are_told_apart():
    """Two of one coroutine function, and the same one before and after it waited."""

    async def owner():
        before = tasks.owner()
        await asyncio.sleep(0)
        return before, tasks.owner()

    async def main():
        return await asyncio.gather(*(owner() for _ in range(20)))

    rows = asyncio.run(main())
    assert all(before == after for before, after in rows)
    assert len({before for before, _ in rows}) == 20


def test_a_program_may_make_any_number_of_coroutine_functions(monkeypatch):
    """Beyond 512 they are others."""
    monkeypatch.setattr(tasks, "_labels", {})
    space = {"tasks": tasks}
    exec("\n".join(f"async def f{n}(): return tasks.here()" for n in range(700)), space)

    async def main():
        return [await asyncio.create_task(space[f"f{n}"]()) for n in range(700)]

    labels = [tasks.label(number) for number in asyncio.run(main())]
    assert labels[:512] == [f"f{n}" for n in range(512)]
    assert set(labels[512:]) == {"(others)"}
    assert len(tasks._labels) == 512


def test_a_task_of_another_make_is_none():
    """Whatever its coroutine is, or if it has none."""

    class Odd(asyncio.Task):
        def get_coro(self):
            raise RuntimeError("none of yours")

    async def here():
        return tasks.here()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coroutine, **more: Odd(coroutine, loop=loop, **more))
        return await loop.create_task(here())

    assert asyncio.run(main()) == 0


def test_asyncio_is_not_imported_for_it():
    """A program without it pays nothing."""
    script = "import sys; from cachescope.core import tasks; print(tasks.here(), 'asyncio.tasks' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "0"
