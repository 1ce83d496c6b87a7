"""The server: an ``asyncio.Protocol`` on httptools, from bytes to :class:`~hasten.accept.exchange.Exchange`.

Checks framing strictly: what two HTTP parsers could read in two ways is refused and the connection closed
(RFC 9112, sections 6.3 and 11.2). One timer a second watches all connections, in place of timers a request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from time import perf_counter, time

import httptools

from hasten.accept.auth import Keys
from hasten.accept.exchange import Exchange, error_answer
from hasten.accept.framing import body_too_large, check_head, too_large, without_upgrade
from hasten.accept.routes import Head, Router
from hasten.errors import (
    HastenError,
    RequestError,
    RequestTimeout,
    Unsupported,
)
from hasten.settings import Settings
from hasten.trace import Trace
from hasten.types import Handler

MAX_PIPELINED = 16  # requests that may wait behind the one that is answered
MAX_PIPELINED_BYTES = 1024 * 1024  # of their bodies, the last one aside
WRITE_BUFFER = 64 * 1024
LINGER = 1.0  # seconds that a refused client may go on sending before the connection is cut

#: Headers that must not come twice: their meaning would depend on who reads them.
_ONCE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-api-key", b"expect")
)


class Server:
    """What all connections of a worker share. :meth:`configure` may replace it all while requests run."""

    def __init__(
        self,
        settings: Settings,
        handler: Handler,
        router: Router,
        on_finish: Callable[[Trace], None] = lambda trace: None,
    ) -> None:
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = ""
        self.on_begin: Callable[[Trace], None] = lambda trace: None  # of requests for a model, not of pages
        self.on_finish = on_finish
        self.malformed = 0
        self._timer: asyncio.TimerHandle | None = None
        self.loop = asyncio.get_running_loop()
        self.configure(settings, handler, router)
        self._tick()

    def configure(self, settings: Settings, handler: Handler, router: Router) -> None:
        """Use these for what comes from now on."""
        self.settings = settings.server
        self.handler = handler
        self.router = router
        self.keys = Keys(settings)

    def __call__(self) -> Connection:
        """Return a protocol for a new connection."""
        return Connection(self)

    @property
    def active(self) -> int:
        """Requests that have not been answered to their end."""
        return sum(connection.busy for connection in self.connections)

    def drain(self) -> None:
        """Close idle connections now and the others after their answer."""
        self.draining = True
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()

    def abort(self, error: HastenError) -> None:
        """End what still runs, telling the clients ``error``."""
        for connection in list(self.connections):
            connection.abort(error)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.date = formatdate(time(), usegmt=True)
        now = perf_counter()
        for connection in list(self.connections):
            connection.check(now)
        self._timer = self.loop.call_later(1.0, self._tick)

    def __repr__(self) -> str:
        return (
            f"<Server {len(self.connections)} connections, {self.active} active{' draining' * self.draining}>"
        )


class Connection(asyncio.Protocol):
    """One client's connection. Requests on it are answered one after the other, in order."""

    __slots__ = (
        "_body",
        "_exchange",
        "_head",
        "_head_bytes",
        "_held",
        "_parser",
        "_paused_since",
        "_phase",
        "_queue",
        "_since",
        "server",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._queue: deque[tuple[Head, bytes]] = deque()
        self._head = Head(0.0)
        self._body: list[bytes] | bytes = b""
        self._head_bytes = 0
        self._held = False  # reading is paused: too much waits
        self._phase = "idle"  # idle, head, upgrade, body, refused
        self._since = perf_counter()
        self._paused_since = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""
        return self._exchange is not None or self._phase in ("head", "body")

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == "refused" or self._parser is None:
            return
        self._head_bytes += len(data)
        if phase == "body":
            self._since = perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._phase == "upgrade":
                self._decline_upgrade(data[exc.args[0] :])
        except httptools.HttpParserError:
            if self._phase != "refused":
                self.server.malformed += 1
                self._refuse(RequestError("the request is not valid HTTP/1.1"))
        else:
            # In a body only what is not content counts: trailers, chunk extensions.
            if self._phase in ("head", "body") and self._head_bytes > self.server.settings.max_header_bytes:
                self._refuse(too_large(self.server.settings))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self._parser = None  # it refers back to this object
        self._queue.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._paused_since = perf_counter()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._paused_since = 0.0
        if self._exchange is not None:
            self._exchange.resume()
        elif self._queue and self._phase != "refused":
            self._next()

    # -- httptools

    def on_message_begin(self) -> None:
        if self._phase == "refused":  # the same read may hold more requests: they must not count
            return
        now = perf_counter()
        self._head = Head(now)
        self._since = now
        self._phase = "head"
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != "head":  # a trailer: it comes after the checks, so it counts for nothing
            return
        headers = self._head.headers
        name = name.lower()
        value = value.rstrip(b" \t")
        if name in headers:
            if name in _ONCE:
                self._head.error = RequestError(f"the header {name.decode('latin-1')} was sent twice")
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        if self._phase == "refused" or self._parser is None:
            return
        head = self._head
        head.method = self._parser.get_method()
        version = self._parser.get_http_version()
        head.http10 = version == "1.0"
        if version not in ("1.0", "1.1"):
            head.error = RequestError("only HTTP/1.1 and HTTP/1.0 are spoken here")
        head.keep_alive = self._parser.should_keep_alive()
        head.settle()
        server = self.server
        error = check_head(head, server.settings, server.router, server.keys)
        if error is not None:
            self._refuse(error)
            return
        self._head_bytes = 0
        if self._parser.should_upgrade():
            self._phase = "upgrade"  # the parser stops here, before the body
            return
        self._phase = "body"
        if head.headers.get(b"expect", b"").lower() == b"100-continue" and self._exchange is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._phase != "body":
            return
        self._head_bytes = 0
        if not self._body:
            self._body = data
            head_size = len(data)
        else:
            if isinstance(self._body, bytes):
                self._body = [self._body]
            self._body.append(data)
            head_size = self._head.body_size + len(data)
        self._head.body_size = head_size
        if head_size > self.server.settings.max_body_bytes:
            self._refuse(body_too_large(self.server.settings))

    def on_message_complete(self) -> None:
        if self._phase != "body":
            return
        self._phase = "idle"
        body = self._body if isinstance(self._body, bytes) else b"".join(self._body)
        self._body = b""
        if self._exchange is None and not self._paused_since:
            self._start(self._head, body)
        else:
            self._queue.append((self._head, body))
            waiting = sum(len(body) for _, body in self._queue)
            if not self._held and (len(self._queue) >= MAX_PIPELINED or waiting >= MAX_PIPELINED_BYTES):
                self._held = True
                self.transport.pause_reading()

    # -- own

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request again as one that offers no other protocol; ``rest`` is what came behind its head."""
        if self._head.method == b"CONNECT":
            self._refuse(Unsupported("this is no proxy", 400))
            return
        self._phase = "idle"
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(without_upgrade(self._head) + rest)

    def _start(self, head: Head, body: bytes) -> None:
        exchange = self._exchange = Exchange(self, head, self.server)
        exchange.start(body)

    def finished(self, keep: bool) -> None:
        """From the exchange: its answer is written to the end."""
        self._exchange = None
        self._since = perf_counter()
        if self._phase == "refused":
            return
        if not keep or self.server.draining:
            self.close()
        elif self._queue and not self._paused_since:  # a client that does not read gets no further answer
            self._next()

    def _next(self) -> None:
        """Answer the request that has waited longest."""
        if self._held:
            self._held = False
            self.transport.resume_reading()
        self._start(*self._queue.popleft())

    def _refuse(self, error: HastenError) -> None:
        """Answer with ``error`` and read nothing more from this connection."""
        if self._phase == "refused":
            return
        self._phase = "refused"
        self._queue.clear()
        head = self._head
        self._body = b""
        if self._exchange is not None:  # an earlier request's answer is under way: it ends the connection
            self._exchange.last()
            return
        trace = Trace(head.t0) if head.t0 else Trace()
        trace.status = error.status
        trace.error = error.code or error.type
        self.transport.write(error_answer(error, head, trace, self.server.date, "connection: close\r\n"))
        trace.endpoint = head.route.name if head.route is not None else ""
        trace.t_end = perf_counter()
        self.server.on_finish(trace)
        # Closing with unread bytes would reset the connection and could take the answer with it.
        self._since = perf_counter()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        """Close after what is written."""
        if not self.transport.is_closing():
            self.transport.close()

    def abort(self, error: HastenError) -> None:
        """Tell the client ``error`` where that is still possible, and close."""
        if self._exchange is not None:
            self._exchange.abort(error)
        self.close()

    def check(self, now: float) -> None:
        """From the server's timer: close what has been idle, slow or deaf for too long."""
        settings = self.server.settings
        waited = now - self._since
        if self._paused_since and now - self._paused_since > settings.write_timeout:
            self.transport.abort()
        elif self._phase == "refused":
            if waited > LINGER and self._exchange is None:
                self.transport.abort()
        elif self._phase in ("head", "body"):
            if waited > settings.request_timeout:
                self._refuse(
                    RequestTimeout(f"the request was not complete after {settings.request_timeout:g} s")
                )
        elif self._exchange is None and waited > settings.keep_alive:
            self.close()

    def __repr__(self) -> str:
        return f"<Connection {self._phase} {self._exchange or ''}>"
