"""Threads, exit and fork: the only place that owns them.

A :class:`Heart` beats in a daemon thread: it calls the profiler's ``beat`` at an interval, sooner when asked. At exit and in
forked children it does what is needed so that what was gathered is on disk and is counted once.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from cachescope.core.faults import swallow


class Beating(Protocol):
    """What a heart keeps going."""

    def beat(self) -> None:
        """Fold what the hooks saw, and whatever else is due."""

    def last_beat(self) -> None:
        """The process ends: write what there is."""

    def after_fork(self) -> None:
        """This is a forked child: start flows at 0 and find new locks."""


_renewals: list[Callable[[], None]] = []
_hearts: weakref.WeakSet[Heart] = weakref.WeakSet()
_registered = False


class Heart:
    """Beats for one profiler, from :meth:`start` to :meth:`stop`.

    Args:
        body: What is kept going; held weakly, so that a forgotten profiler ends.
        seconds: Between beats.
    """

    def __init__(self, body: Beating, seconds: float) -> None:
        self._body = weakref.ref(body)
        self.seconds = seconds
        self.cpu_seconds = 0.0
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin to beat; does nothing when it beats already."""
        if self._thread is not None and self._thread.is_alive() and self._pid == os.getpid():
            return
        self._stopping = False
        self._pid = os.getpid()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachescope", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started while the interpreter ends
            self._thread.start()
        _hearts.add(self)
        _register()

    def stop(self) -> None:
        """Stop beating, and wait until the beat under way is over."""
        self._stopping = True
        self._wake.set()
        thread, self._thread = self._thread, None
        _hearts.discard(self)
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def hurry(self) -> None:
        """Beat soon."""
        self._wake.set()

    def _run(self) -> None:
        wake = self._wake
        while not self._stopping:
            wake.wait(self.seconds)
            wake.clear()
            body = self._body()
            if body is None or self._stopping:
                return
            try:
                body.beat()
            except Exception as error:
                swallow("background thread", error)
            del body
            self.cpu_seconds = time.thread_time()

    def _after_fork(self) -> None:
        self._thread = None
        self.cpu_seconds = 0.0
        body = self._body()
        if body is not None:
            body.after_fork()
            self.start()
            _finalize_in_multiprocessing(self)

    def _end(self) -> None:
        body = self._body()
        if body is not None and not self._stopping:
            body.last_beat()


def start_thread(body: Callable[[], None], name: str) -> None:
    """Run *body* on a daemon thread of its own.

    Raises:
        RuntimeError: No thread can be had: there are too many, or the interpreter ends.
    """
    threading.Thread(target=body, name=name, daemon=True).start()


def _register() -> None:
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_each, Heart._end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)


def renew_after_fork(renew: Callable[[], None]) -> None:
    """Have *renew* called first in every forked child: it makes locks anew that a thread which isn't there may hold."""
    _renewals.append(renew)


def _after_fork() -> None:
    for renew in _renewals:
        renew()
    _each(Heart._after_fork)


def _each(action: Callable[[Heart], Any]) -> None:
    for heart in list(_hearts):
        try:
            action(heart)
        except Exception as error:
            swallow("exit or fork", error)


def _finalize_in_multiprocessing(heart: Heart) -> None:
    """A forked ``multiprocessing`` child ends without atexit, but runs its finalizers.

    It forgets all finalizers that it inherited, after the fork hooks have run; so ours is made by its own hook, later.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(heart, _finalize)


def _finalize(heart: Heart) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _end_by_reference, args=(weakref.ref(heart),), exitpriority=0)


def _end_by_reference(reference: weakref.ref[Heart]) -> None:
    heart = reference()
    if heart is not None:
        heart._end()
