"""One process that is everything: a worker and the managed engines."""

from __future__ import annotations

import socket

from hasten.process.engines import ManagedEngines
from hasten.process.source import Source
from hasten.process.worker import Worker
from hasten.settings import Settings


class Single:
    """Has the same verbs as :class:`hasten.process.fleet.Fleet`."""

    def __init__(self, settings: Settings, source: Source, sock: socket.socket) -> None:
        self.settings = settings
        self.worker = Worker(settings)
        self.managed = ManagedEngines(self.worker.move)
        self._socket = sock

    async def start(self) -> None:
        """Start the managed engines and listen."""
        self.managed.update(self.settings)
        await self.worker.start(self._socket)

    def reload(self, settings: Settings) -> None:
        """Serve by new settings."""
        self.settings = settings
        self.managed.update(settings)
        self.worker.move(self.managed.addresses())
        self.worker.reload(settings)

    def reload_failed(self) -> None:
        """Count it."""
        self.worker.reload_failed()

    async def drain(self, delay: float | None) -> None:
        """Let what runs end, then stop the engines."""
        await self.worker.drain(delay)
        await self.managed.stop()

    async def abort(self) -> None:
        """End at once."""
        self.worker.abort()
        await self.worker.close()
        await self.managed.stop()
