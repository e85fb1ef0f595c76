"""One computation that several coroutines wait for.

Awaits of one key on one event loop share one computation, which runs in a task of its own. A waiter that is cancelled,
or times out, leaves the others their result; when the last one goes, the computation is cancelled too. An exception
reaches all who wait. A computation that awaits its own key is not made to wait for itself.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any


class Mark:
    """Stands for a computation in the context that it runs in; holds nothing of the user's."""

    __slots__ = ("live",)

    def __init__(self) -> None:
        self.live = True


computing: ContextVar[tuple[Mark, ...]] = ContextVar("cachescope_computing", default=())
"""What the running code is part of computing: awaiting one of these would be waiting for itself."""


class Load:
    """One computation that several may wait for."""

    __slots__ = ("mark", "task", "waiters")

    def __init__(self, mark: Mark, task: asyncio.Task[Any]) -> None:
        self.mark, self.task = mark, task
        self.waiters: set[asyncio.Future[None]] = set()
        task.add_done_callback(self._wake)

    @property
    def wanted(self) -> bool:
        """Whether it goes on for somebody."""
        return bool(self.waiters) and not self.task.done()

    def _wake(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # all who waited may be gone: asyncio must not complain that nobody asked
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def result(self) -> Any:
        """Wait for the value; whoever leaves last takes the computation along."""
        task = self.task
        if not task.done():
            waiter = task.get_loop().create_future()
            self.waiters.add(waiter)
            try:
                await waiter
            except asyncio.CancelledError as error:
                self.waiters.discard(waiter)
                if self.waiters or task.done():
                    raise
                task.cancel(*error.args)
                return await task  # as without us: it may clean up, or even refuse
            except GeneratorExit:
                self.waiters.discard(waiter)
                if not self.waiters:
                    task.cancel()
                raise
            finally:
                self.waiters.discard(waiter)
        return task.result()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The asyncio loop that runs here, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # another library's loop, or none
        return None
