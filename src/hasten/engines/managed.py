"""Engines that are child processes: started, watched, restarted, stopped. One supervisor, a recipe a kind."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from typing import Literal, Protocol

from hasten.errors import Unavailable

State = Literal["starting", "ready", "backoff", "stopped", "failed"]

#: Lines of output kept for the message when a child ends, and the longest line, bytes.
TAIL, LINE = 50, 8192
#: Seconds for one readiness probe, and the longest pause between two.
PROBE, PAUSE = 2.0, 0.5
#: A child that ends with this status says that starting it again is of no use (EX_CONFIG in sysexits.h).
HOPELESS = 78
#: Starts in a row that never became ready until a process that was never ready is given up.
GIVE_UP = 5


class Recipe(Protocol):
    """What a kind of engine needs to be run.

    ``name``: for logs. ``ready_path``: answers 200 to a GET when the engine can take requests. The command must
    end when its standard input does; a foreign program is wrapped with :mod:`hasten.engines.leash`.
    """

    name: str
    ready_path: str

    def command(self, port: int) -> list[str]:
        """Return the program and its arguments; it listens on 127.0.0.1 and ``port``."""

    def env(self) -> dict[str, str]:
        """Return what is added to the environment."""

    def base_url(self, port: int) -> str:
        """Return the address that ends where ``/chat/completions`` begins."""


class Backoff:
    """How long to wait before the next start: doubling, with jitter, forgotten after a stable time.

    Plain and synchronous; times in seconds. ``first`` and ``most`` bound the wait before jitter, which takes up to
    half of it away. ``stable``: so long ready, and the count begins anew.
    """

    def __init__(
        self,
        first: float = 0.2,
        most: float = 30.0,
        stable: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.first, self.most, self.stable = first, most, stable
        self.failures = 0
        self._clock, self._rand = clock, rand
        self._ready_at: float | None = None

    def ready(self) -> None:
        """Note that the process became ready."""
        self._ready_at = self._clock()

    def failed(self) -> float:
        """Note that it ended; returns the wait, seconds."""
        if self._ready_at is not None and self._clock() - self._ready_at >= self.stable:
            self.failures = 0
        self._ready_at = None
        self.failures += 1
        # 2 ** 30 seconds are enough; a larger exponent overflows some day.
        wait = min(self.most, self.first * 2.0 ** min(self.failures - 1, 30))
        return wait * (1.0 - 0.5 * self._rand())


class ManagedProcess:
    """One engine process under supervision.

    ``on_change`` is called in the event loop after each change of ``state`` or ``port``; it must not raise.
    ``restarts`` counts starts after the first. ``tail``: the last lines that the child wrote.
    A child that has never been ready and fails :data:`GIVE_UP` times in a row, ends with :data:`HOPELESS`, or cannot
    be executed, is ``failed``; one that was ready is restarted for ever.
    """

    def __init__(
        self,
        recipe: Recipe,
        on_change: Callable[[ManagedProcess], None] | None = None,
        *,
        start_timeout: float = 120.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.recipe = recipe
        self.state: State = "stopped"
        self.port = 0
        self.restarts = 0
        self.reason = ""
        self.tail: collections.deque[str] = collections.deque(maxlen=TAIL)
        self._on_change = on_change or (lambda process: None)
        self._start_timeout = start_timeout
        self._backoff = backoff or Backoff()
        self._was_ready = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._log = logging.getLogger(f"hasten.engine.{recipe.name}")

    # -- from outside -------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The running child's process id, which is its group's, too."""
        return self._process.pid if self._process is not None else None

    @property
    def base_url(self) -> str | None:
        """Where requests go, while it is ready."""
        return self.recipe.base_url(self.port) if self.state == "ready" else None

    def start(self) -> None:
        """Begin to run it; returns at once. Needs a running event loop."""
        if self._task is None or self._task.done():
            self._was_ready, self._backoff.failures = False, 0
            self._set("starting")
            self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until it is ready. Raises :class:`~hasten.errors.Unavailable` when it fails, stops, or takes longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.state in ("starting", "backoff"):
                    self._changed.clear()
                    await self._changed.wait()
        if self.state != "ready":
            raise Unavailable(self.describe())

    async def stop(self, grace: float = 5.0) -> None:
        """End it: SIGTERM, after ``grace`` seconds SIGKILL for its whole group. Harmless when it does not run."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await process.wait()
            await self._reap(process)
        self._set("stopped")

    def describe(self) -> str:
        """Return what is the matter with it, the last output included."""
        text = f"the engine {self.recipe.name} is {self.state}"
        if self.reason:
            text += f": {self.reason}"
        return text + "".join(f"\n  {line}" for line in self.tail) if self.state != "ready" else text

    def __repr__(self) -> str:
        where = f"pid={self.pid} port={self.port}"
        return f"<ManagedProcess {self.recipe.name} {self.state} {where} {self.restarts} restarts>"

    # -- supervision --------------------------------------------------------------------------------

    def _set(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._on_change(self)

    async def _supervise(self) -> None:
        while True:
            status = await self._run_once()
            if status in (HOPELESS, None):
                return self._set("failed")
            wait = self._backoff.failed()
            if not self._was_ready and self._backoff.failures >= GIVE_UP:
                return self._set("failed")
            self._log.warning("%s; starting it again in %.1f s", self.reason, wait)
            self._set("backoff")
            await asyncio.sleep(wait)
            self.restarts += 1

    async def _run_once(self) -> int | None:
        """Run the child until it ends; returns its status, ``None`` if it cannot be executed at all."""
        if not self.port or not port_is_free(self.port):
            self.port = free_port()
        self.tail.clear()
        self._set("starting")
        try:
            process = await self._spawn()
        except OSError as exc:
            self.reason = f"it cannot be started: {exc}"
            return None
        self._output = asyncio.create_task(self._read(process))
        watch = asyncio.create_task(self._await_ready(process))
        try:
            status = await process.wait()
        finally:
            watch.cancel()
        late = watch.done() and self.state == "starting"
        self.reason = f"it was not ready after {self._start_timeout:g} s" if late else _cause(status)
        await self._reap(process)
        return status

    async def _spawn(self) -> asyncio.subprocess.Process:
        """Start the child and note it in ``_process``."""
        self._output = None
        spawn = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self.recipe.command(self.port),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **self.recipe.env()},
                # A session of its own: Ctrl-C in the terminal reaches the gateway only, which drains first.
                start_new_session=True,
            )
        )
        try:
            self._process = await asyncio.shield(spawn)
        except asyncio.CancelledError:
            # Stopped at this very moment: cancelled half way, it would leave a child that nobody knows.
            with contextlib.suppress(OSError):
                self._process = await spawn
            raise
        return self._process

    async def _await_ready(self, process: asyncio.subprocess.Process) -> None:
        """Probe until it is ready, or kill it when it takes too long."""
        pause = 0.02
        try:
            async with asyncio.timeout(self._start_timeout):
                while not await probe(self.port, self.recipe.ready_path):
                    await asyncio.sleep(pause)
                    pause = min(PAUSE, pause * 1.5)
        except TimeoutError:
            _kill_group(process.pid)
            return
        self._was_ready = True
        self.reason = ""
        self._backoff.ready()
        self._set("ready")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Take the child's output as it comes: a full pipe would block it."""
        assert process.stdout is not None
        rest = b""
        while block := await process.stdout.read(65536):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._note(line)
        if rest:
            self._note(rest)

    def _note(self, line: bytes) -> None:
        text = line[:LINE].decode(errors="replace").rstrip()
        self.tail.append(text)
        self._log.debug("%s", text)

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        """Kill what is left of the group, take its last words, close the pipes."""
        _kill_group(process.pid)
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self._output is not None:
            # Not for long: a descendant that left the group may hold the pipe open.
            await asyncio.wait([self._output], timeout=1.0)
            self._output.cancel()
        if self._process is process:
            self._process = None


def _kill_group(pid: int) -> None:
    # macOS says PermissionError for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _cause(status: int) -> str:
    return (
        f"it was killed by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
    )


async def probe(port: int, path: str) -> bool:
    """Whether a GET of ``path`` on loopback answers 200 within :data:`PROBE` seconds."""
    try:
        async with asyncio.timeout(PROBE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, ValueError):
        return False


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether ``port`` on loopback can be listened on now; connections that only linger do not count."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
