"""The main module of a fleet's worker: ``python -m hasten.process.child``, orders on standard input."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from hasten import config
from hasten.errors import SettingsError
from hasten.process.logs import calm_gc, set_up_logging
from hasten.process.worker import Worker

log = logging.getLogger("hasten.process")

MAX_ORDER = 16 * 1024 * 1024  # bytes


class Child:
    """Carries out the parent's orders on a :class:`Worker`."""

    def __init__(self, first: dict[str, Any]) -> None:
        self._source = first["source"]
        settings = config.parse(first["settings"], self._source, os.environ)
        self._worker = Worker(settings, Path(first["metrics"]), first["index"])
        self._worker.move(first["addresses"])
        self._socket = socket.socket(fileno=first["socket"])
        self._draining: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def start(self) -> None:
        """Begin to serve."""
        await self._worker.start(self._socket)

    def obey(self, order: dict[str, Any]) -> None:
        """Carry out one order."""
        if "addresses" in order:
            self._worker.move(order["addresses"])
        if "settings" in order:
            try:
                self._worker.reload(config.parse(order["settings"], self._source, os.environ))
            except SettingsError as exc:  # what only shows when it is made; the old ones stay
                log.error("the settings cannot be used: %s", exc)
                self._worker.reload_failed()
        if "reload_failed" in order:
            self._worker.reload_failed()
        if "drain" in order:
            self.drain(order["drain"])

    def drain(self, delay: float | None = None) -> None:
        """Drain and end; a second call does nothing."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(delay))

    def abort(self) -> None:
        """End what runs, and then oneself."""
        self._worker.abort()
        self.drain(0)

    async def _drain(self, delay: float | None) -> None:
        await self._worker.drain(delay)
        self.ended.set()


async def _run() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=MAX_ORDER)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    line = await orders.readline()
    if not line:
        return
    child = Child(msgspec.json.decode(line))
    loop.add_signal_handler(signal.SIGTERM, child.abort)
    await child.start()

    async def listen() -> None:
        while line := await orders.readline():
            child.obey(msgspec.json.decode(line))
        child.drain()

    listening = asyncio.create_task(listen())
    await child.ended.wait()
    listening.cancel()


if __name__ == "__main__":
    set_up_logging()
    calm_gc()
    uvloop.run(_run())
