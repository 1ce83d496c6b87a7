"""A real Redis server, of a version that has vector sets, on a Unix socket of its own."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "redis8.sh"


@functools.cache
def command() -> tuple[str, ...] | str:
    """Return the words that start Redis 8, or why there is none."""
    found = subprocess.run([TOOL], capture_output=True, text=True, check=False)
    return tuple(shlex.split(found.stdout)) if found.returncode == 0 else found.stderr.strip()


class RedisServer:
    """One server process. It keeps nothing on the disk: restarted, it is empty."""

    def __init__(self, folder: Path, *options: str) -> None:
        found = command()
        if isinstance(found, str):
            # Where everything is meant to be tested, a missing server is a fault.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Redis 8: {found}")
        self._socket = folder / "redis.sock"
        self._command = [*found, "--port", "0", "--unixsocket", str(self._socket), "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--logfile", str(folder / "log"), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        """Start it and wait until it accepts."""
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command)
        until = time.monotonic() + 10
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self._socket)) == 0:
                    return
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server does not accept"
            time.sleep(0.005)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop it from doing anything, its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests that only store things; each takes a prefix of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One to be killed, frozen and started again."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()
