"""One worker: listens, serves, reloads, drains. The same object in a single process and in a fleet."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine, Mapping
from pathlib import Path

from hasten.accept.server import Server
from hasten.app import App
from hasten.errors import ShuttingDown, tell_end
from hasten.measure.metrics import Metrics
from hasten.measure.requestlog import REASONS, RequestLog
from hasten.measure.shelf import Shelf
from hasten.measure.webhook import Webhook
from hasten.measure.windows import keep
from hasten.process.otel import Exporter
from hasten.settings import Settings
from hasten.trace import Trace

log = logging.getLogger("hasten.process")

BACKLOG = 2048
SOON = 0.01  # seconds after which a request is counted at the latest
_UNLOGGED = frozenset(
    ("health", "ready", "metrics", "dashboard", "view")
)  # asked every few seconds by machines


def listen(settings: Settings) -> socket.socket:
    """Return a listening socket for ``server.host`` and ``server.port``; raises :class:`OSError`."""
    host, port = settings.server.host, settings.server.port
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


class Worker:
    """Serves one socket with one configuration at a time."""

    def __init__(self, settings: Settings, metrics_file: Path | None = None, index: int = 0) -> None:
        self.settings = settings
        self.metrics = Metrics(metrics_file, str(index))
        self.metrics.gauges.append(self._gauges)
        self._addresses: dict[str, str | None] = {}
        self._listener: asyncio.Server | None = None
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._gauge_timer: asyncio.TimerHandle | None = None
        self._sharing: asyncio.Task[None] | None = None
        self.app = App(settings, self.metrics, self._not_ready)
        self._flush_timer: asyncio.TimerHandle | None = None
        self.metrics.first, self.metrics.after = self._flush_soon, self._counted
        self.server = Server(settings, self.app.handler, self.app.router, self.metrics.record)
        self._log = self._make_log(settings)
        self._webhook: Webhook | None = None
        self._otel: Exporter | None = None
        self._promise(settings)

    # -- life

    async def start(self, sock: socket.socket) -> None:
        """Begin to accept connections on ``sock``."""
        loop = asyncio.get_running_loop()
        await self.app.open()
        self._listener = await loop.create_server(self.server, sock=sock, backlog=BACKLOG)
        self._every_second()
        self._export(self.settings)
        folder = self.metrics.folder
        shelf = Shelf(folder / "slices", str(os.getpid())) if folder is not None else None
        self._sharing = loop.create_task(
            keep(self.metrics.watch.keepers(shelf), self.metrics.fold, self._look)
        )
        self._sharing.set_name("the windows' task")
        self._sharing.add_done_callback(tell_end)

    async def drain(self, delay: float | None = None) -> None:
        """Stop: ``/ready`` fails at once, after ``delay`` nothing new is taken, running answers end, then close.

        What still runs at ``server.drain_timeout`` is ended with an error that the client sees.
        """
        loop = asyncio.get_running_loop()
        settings = self.settings.server
        self._stopping = True
        deadline = loop.time() + settings.drain_timeout
        await asyncio.sleep(settings.drain_delay if delay is None else delay)
        self.server.drain()
        while self.server.active and loop.time() < deadline:  # noqa: ASYNC110  an answer may end in many places
            await asyncio.sleep(0.02)
        self.abort()
        await self.close()

    def abort(self) -> None:
        """End all that runs, telling the clients."""
        self.server.abort(ShuttingDown("the gateway is shutting down", retry_after=1))

    async def close(self) -> None:
        """Release everything; the request log last, whatever happened."""
        try:
            await self._release()
        finally:
            if self._log is not None:
                await asyncio.to_thread(self._log.close)

    async def _release(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.server.close()
        if self._gauge_timer is not None:
            self._gauge_timer.cancel()
        if self._sharing is not None:
            self._sharing.cancel()
        if self._webhook is not None:
            self._webhook.close()
        self.app.close()
        await asyncio.gather(self.app.close_cache(), *self._tasks)
        if self._sharing is not None:
            await asyncio.wait([self._sharing])
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self.metrics.flush()
        if self._otel is not None:
            await self._otel.close()
        await asyncio.sleep(0)  # the transports' last callbacks

    # -- changes

    def reload(self, settings: Settings) -> None:
        """Serve what comes from now on by ``settings``; what runs ends by the old ones.

        Raises :class:`~hasten.errors.SettingsError` where they are refused, and then all is as it was.
        """
        self.metrics.flush()  # what ended by the old ones is logged and judged by them
        # First: it may be refused, and an app takes from its former one.
        log = self._make_log(settings) if settings.log != self.settings.log else self._log
        try:
            app = App(settings, self.metrics, self._not_ready, self.app)
        except BaseException:
            self._let_go(log, self._log)
            raise
        old, self.app = self.app, app
        former_log, self._log = self._log, log
        self._let_go(former_log, log)
        changed = settings.otel != self.settings.otel
        self.settings = settings
        self._promise(settings)
        if changed:
            self._export(settings)
        self.app.move(self._addresses)
        self.server.configure(settings, self.app.handler, self.app.router)
        old.close()
        store, former = (app.cache.store if app.cache is not None else None for app in (self.app, old))
        if store is not former:
            self._spawn(self.app.open())
            self._spawn(old.close_cache())
        self.metrics.gauge("hasten_settings_reloads_total", "ok").add()

    def reload_failed(self) -> None:
        """Count a reload whose settings were refused."""
        self.metrics.gauge("hasten_settings_reloads_total", "refused").add()

    def move(self, addresses: Mapping[str, str | None]) -> None:
        """Learn where the managed engines listen now."""
        self._addresses = dict(addresses)
        self.app.move(addresses)

    def _let_go(self, old: RequestLog | None, kept: RequestLog | None) -> None:
        if old is not None and old is not kept:
            self._spawn(asyncio.to_thread(old.close))  # its sink may be slow

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- views

    def _not_ready(self) -> str | None:
        if self._stopping:
            return "shutting down"
        return self.app.not_ready()

    def _flush_soon(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = self.server.loop.call_later(SOON, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self.metrics.flush()

    def _counted(self, traces: list[Trace]) -> None:
        log, otel = self._log, self._otel
        for trace in traces:
            if log is not None and trace.endpoint not in _UNLOGGED:
                log.add(trace)
            else:
                trace.transcript = None  # the log was turned off meanwhile
            if otel is not None and trace.context is not None:
                otel.add(trace)

    def _gauges(self) -> None:
        server = self.server
        gauge = self.metrics.gauge
        gauge("hasten_connections").set(len(server.connections))
        gauge("hasten_requests_in_flight").set(server.active)
        gauge("hasten_malformed_requests_total").set(server.malformed)
        self.app.update_gauges()

    def _every_second(self) -> None:
        self.metrics.update_gauges()
        self._gauge_timer = asyncio.get_running_loop().call_later(1.0, self._every_second)

    def _promise(self, settings: Settings) -> None:
        """Hold requests against the prices and objectives of ``settings``, and tell its webhook."""
        self.metrics.cost.configure(settings.models)
        self.metrics.slo.configure(settings.slo)
        url, old = settings.slo.webhook, self._webhook
        if old is not None and old.url == url:
            return
        if old is not None:
            old.close()
        self._webhook = None
        if url is not None and self.metrics.worker == "0":  # all workers know of an alert; one tells it
            outcomes = {
                name: self.metrics.gauge("hasten_slo_webhook_total", name)
                for name in ("sent", "failed", "dropped")
            }
            self._webhook = Webhook(url, lambda outcome: outcomes[outcome].add())

    def _export(self, settings: Settings) -> None:
        """Export the spans of what ends from now on as ``settings`` say.

        The process for the old ones has seconds to send what it was given; what it has not told of by then is lost.
        """
        old, self._otel = self._otel, None
        if old is not None:
            self._spawn(old.close())
        self.server.on_begin = lambda trace: None
        if settings.otel is not None:
            self._otel = Exporter(settings.otel, self.metrics, lambda: self.app.addresses())
            self.server.on_begin = self._otel.begin
            self._otel.start()

    def _look(self) -> None:
        """Take note of what the windows show now."""
        self.metrics.watch.history.tick()
        self._alert()

    def _alert(self) -> None:
        for change in self.metrics.slo.check():
            if self._webhook is not None:
                self._webhook.tell(change)

    def _make_log(self, settings: Settings) -> RequestLog | None:
        if not settings.log.access:
            return None
        dropped = {
            reason: self.metrics.gauge("hasten_request_log_dropped_total", reason) for reason in REASONS
        }
        return RequestLog(settings.log, lambda reason, count: dropped[reason].add(count))

    def __repr__(self) -> str:
        return f"<Worker {self.server!r}>"
