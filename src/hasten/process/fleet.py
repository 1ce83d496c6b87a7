"""Several workers on one socket: the parent owns the socket, the managed engines and the workers.

A worker is told everything over its standard input, a JSON object a line: first its place, socket and settings, later
new settings and addresses. When that pipe closes, the parent is gone and the worker drains; so no worker outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from hasten.engines.managed import Backoff
from hasten.measure.registry import ENDED
from hasten.process.engines import Addresses, ManagedEngines
from hasten.process.source import Source
from hasten.settings import Settings

log = logging.getLogger("hasten.process")


class Fleet:
    """The parent process. Has the same verbs as :class:`hasten.process.single.Single`."""

    def __init__(self, settings: Settings, source: Source, sock: socket.socket) -> None:
        self.settings = settings
        self._source = source
        self._socket = sock
        self._folder = Path(tempfile.mkdtemp(prefix="hasten-"))
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.managed = ManagedEngines(self._moved)

    async def start(self) -> None:
        """Start the managed engines and the workers."""
        self.managed.update(self.settings)
        for index in range(self.settings.server.workers):
            self._keepers.append(asyncio.create_task(self._keep(index)))

    def reload(self, settings: Settings) -> None:
        """Tell everybody about new settings."""
        self.settings = settings
        self.managed.update(settings)
        self._tell({"settings": self._source.text, "addresses": self.managed.addresses()})

    def reload_failed(self) -> None:
        """Tell a worker, so that it is counted."""
        self._tell({"reload_failed": True}, first=True)

    async def drain(self, delay: float | None) -> None:
        """Let all workers drain, then stop the engines."""
        self._stopping = True
        self._tell({"drain": delay})
        await asyncio.gather(*self._keepers)
        await self._close()

    async def abort(self) -> None:
        """End at once."""
        self._stopping = True
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*self._keepers)
        await self._close()

    async def _close(self) -> None:
        await self.managed.stop()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _keep(self, index: int) -> None:
        """Start worker ``index`` again whenever it ends, more slowly each time."""
        backoff = Backoff(first=0.2, most=5.0, stable=10.0)
        while not self._stopping:
            process = await self._spawn(index)
            backoff.ready()
            code = await process.wait()
            self._processes.pop(index, None)
            file = self._metrics_file(index, process)
            if file.exists():
                file.rename(f"{file}{ENDED}")
            if self._stopping:
                return
            wait = backoff.failed()
            log.error("worker %d ended with code %s; starting it again in %.1f s", index, code, wait)
            await asyncio.sleep(wait)

    async def _spawn(self, index: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hasten.process.child",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(self._socket.fileno(),),
            env=self._source.environ,
            start_new_session=True,  # Ctrl-C is the parent's to hear
        )
        self._processes[index] = process
        # A worker's counts outlive it: its successor counts on in a file of its own.
        order = {
            "index": index,
            "socket": self._socket.fileno(),
            "metrics": str(self._metrics_file(index, process)),
            "source": str(self._source),
            "settings": self._source.text,
            "addresses": self.managed.addresses(),
        }
        self._send(process, order)
        return process

    def _metrics_file(self, index: int, process: asyncio.subprocess.Process) -> Path:
        return self._folder / f"{index}-{process.pid}.slots"

    def _moved(self, addresses: Addresses) -> None:
        self._tell({"addresses": addresses})

    def _tell(self, order: dict[str, Any], first: bool = False) -> None:
        for process in list(self._processes.values())[: 1 if first else None]:
            self._send(process, order)

    @staticmethod
    def _send(process: asyncio.subprocess.Process, order: dict[str, Any]) -> None:
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(msgspec.json.encode(order) + b"\n")

    def __repr__(self) -> str:
        return f"<Fleet {len(self._processes)} of {self.settings.server.workers} workers>"
