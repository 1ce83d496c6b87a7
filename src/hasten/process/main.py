"""Runs a :class:`Single` or a :class:`Fleet` under the system's signals.

======== ==========================================================================================
SIGTERM  drain: ``/ready`` fails, running answers end, exit within ``server.drain_timeout``
SIGINT   the same without ``server.drain_delay``
a second of either: end at once
SIGHUP   read the settings again; invalid ones are reported and the old ones stay
======== ==========================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import signal

from hasten.errors import SettingsError
from hasten.process.fleet import Fleet
from hasten.process.single import Single
from hasten.process.source import Source
from hasten.process.worker import listen
from hasten.settings import Settings

log = logging.getLogger("hasten.process")


class Main:
    """One run of ``hasten serve``."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._source = source
        sock = listen(settings)
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._node = (Fleet if settings.server.workers > 1 else Single)(settings, source, sock)
        self._ending: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal ends it."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, None)
        loop.add_signal_handler(signal.SIGINT, self._end, 0.0)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self._node.start()
        models = ", ".join(self._node.settings.models)
        log.info("serving on %s, models: %s; playground: %s/play", self.url, models, self.url)
        await self._ended.wait()

    def _end(self, delay: float | None) -> None:
        if self._ending is None:
            log.info("draining; a second signal ends at once")
            self._ending = asyncio.get_running_loop().create_task(self._drain(delay))
        elif not self._ended.is_set():
            self._ending.cancel()
            self._ending = asyncio.get_running_loop().create_task(self._abort())

    async def _drain(self, delay: float | None) -> None:
        await self._node.drain(delay)
        self._ended.set()

    async def _abort(self) -> None:
        await self._node.abort()
        self._ended.set()

    def _reload(self) -> None:
        if self._ending is not None:
            return
        old = self._node.settings.server
        try:
            settings = self._source.load()
            self._node.reload(settings)
        except SettingsError as exc:
            self._node.reload_failed()
            log.error("the new settings are refused, the old ones stay:\n  %s", "\n  ".join(exc.problems))
            return
        for key in ("host", "port", "workers"):
            if getattr(settings.server, key) != getattr(old, key):
                log.warning("server.%s changes at the next start only", key)
        log.info("settings reloaded, models: %s", ", ".join(settings.models))
