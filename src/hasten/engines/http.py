"""The project's own pooled HTTP/1.1 client, as bare as a gateway's hot path wants it.

A :class:`Connection` carries one exchange at a time and pushes what arrives to a :class:`Receiver`, in the
socket's own callback: no task, no queue, no future a read. A :class:`Pool` keeps connections to one origin.
One timer a pool watches all deadlines, in place of a timer a request.

Never sends a request twice, but for one case (see :meth:`Pool.stale`): a kept connection that the server
closed before a single byte of the reply (RFC 9112, section 9.3.1).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import httptools

from hasten.errors import EngineError, EngineProtocol, EngineReset, EngineTimeout, Unavailable, translate
from hasten.settings import Timeouts, Tls
from hasten.types import Headers

TICK = 0.05  # seconds between two looks at the deadlines
MAX_HEAD_BYTES = 64 * 1024


class Receiver(Protocol):
    """Takes one response, in the order head, body*, and then complete or error."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The status and the headers, names in lower case."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body, of any size, framing removed. May also come after the receiver gave up."""

    def on_complete(self) -> None:
        """The body is complete."""

    def on_error(self, error: EngineError) -> None:
        """The response ends here; nothing more is called."""


class Connection(asyncio.Protocol):
    """One connection to an engine. Times are ``time.perf_counter`` seconds."""

    __slots__ = (
        "_framed",
        "_got_bytes",
        "_head_bytes",
        "_headers",
        "_idle",
        "_in_body",
        "_parser",
        "_paused",
        "_pool",
        "_receiver",
        "closed",
        "deadline",
        "idle_since",
        "now",
        "on_body",
        "transport",
        "uses",
        "waiting_for",
    )

    transport: asyncio.Transport
    on_body: Callable[[bytes], None]

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._receiver: Receiver | None = None
        self._headers: Headers = []
        self._parser: httptools.HttpResponseParser | None = None
        self._got_bytes = False
        self._head_bytes = 0
        self._in_body = False
        self._framed = False
        self._paused = False
        self.closed = False
        self.deadline = 0.0
        self.now = 0.0  # when something was last read
        self._idle = pool.timeouts.idle
        self.waiting_for = "first byte"
        self.idle_since = 0.0
        self.uses = 0

    # -- for the engine

    def send(self, data: bytes, receiver: Receiver) -> None:
        """Write one whole request and give its response to ``receiver``."""
        self._receiver = receiver
        # A parser an exchange: it takes nothing over from the last one, and it finds `on_body` here when it is made,
        # so that a piece of a body goes to its receiver in one call.
        self.on_body = receiver.on_body
        self._parser = httptools.HttpResponseParser(self)
        self._got_bytes = self._in_body = self._framed = False
        self._head_bytes = 0
        self.uses += 1
        self.deadline = perf_counter() + self._pool.timeouts.first_byte
        self.waiting_for = "first byte"
        self._pool.watch(self)
        self.transport.write(data)

    def pause(self) -> None:
        """Stop reading; the deadline is off until :meth:`resume`."""
        if not self.closed and not self._paused:
            self._paused = True
            self.deadline = float("inf")
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.closed and self._paused:
            self._paused = False
            self.deadline = perf_counter() + self._idle
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once. The receiver hears nothing."""
        self._receiver = None
        self._close()

    @property
    def is_stale(self) -> bool:
        """Whether a failure now may be put down to a kept connection that the server had closed already."""
        return self.uses > 1 and not self._got_bytes

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.now = perf_counter()
        self._got_bytes = True
        if self._receiver is None or self._parser is None:  # bytes that nobody asked for
            self._close()
            return
        if self._in_body:
            self.deadline = self.now + self._idle
        else:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(EngineProtocol("the engine's answer is not valid HTTP/1.1"))
            return
        if not self._in_body:
            if self._receiver is None:
                self._parser = None  # it refers to the receiver, and so to the whole answer
            elif self._head_bytes > MAX_HEAD_BYTES:
                self._fail(EngineProtocol(f"the engine's headers are larger than {MAX_HEAD_BYTES} bytes"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.forget(self)
        receiver, self._receiver = self._receiver, None
        self._parser = None
        if receiver is None:
            return
        if self._in_body and not self._framed and exc is None:
            receiver.on_complete()  # a body that ends with the connection
        else:
            receiver.on_error(
                translate(exc)
                if exc
                else EngineReset("the engine closed the connection before its reply was complete")
            )

    # -- httptools

    def on_message_begin(self) -> None:
        if self._receiver is None:  # a second answer in the same read: nobody asked for it
            self._close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer
            return
        name = name.lower()
        if name == b"content-length" or name == b"transfer-encoding":
            self._framed = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < 200:
            return
        self._in_body = True
        self.deadline = self.now + self._idle
        self.waiting_for = "more"
        if self._receiver is not None:
            self._receiver.on_head(status, headers)

    def on_message_complete(self) -> None:
        if not self._in_body:  # 1xx
            return
        receiver, self._receiver = self._receiver, None
        if receiver is None or self._parser is None:
            return
        self._in_body = False
        self.resume()  # the reader of this answer may be slow, the next one is another
        if self._parser.should_keep_alive() and not self._parser.should_upgrade():
            self._pool.put_back(self)
        else:
            self._close()
        receiver.on_complete()

    # -- own

    def check(self, now: float) -> None:
        """From the pool's timer: fail if the deadline has passed."""
        if now > self.deadline and self._receiver is not None:
            timeouts = self._pool.timeouts
            limit = timeouts.first_byte if self.waiting_for == "first byte" else timeouts.idle
            self._fail(
                EngineTimeout(f"the engine sent nothing for {limit:g} s (waiting for {self.waiting_for})")
            )

    def _fail(self, error: EngineError) -> None:
        receiver, self._receiver = self._receiver, None
        self._close()
        if receiver is not None:
            receiver.on_error(error)

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._pool.forget(self)
            self.transport.abort()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self._receiver else "idle"
        return f"<Connection {self._pool.origin} {state}, {self.uses} uses>"


class Pool:
    """Connections to one origin, the most recently used one first.

    ``idle_limit``: seconds after which an unused connection is closed. ``max_connections``: above it
    :meth:`connect` raises :class:`Unavailable`; queueing is the scheduler's business, not the pool's.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        timeouts: Timeouts | None = None,
        max_connections: int = 4096,
        idle_limit: float = 60.0,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.timeouts = timeouts or Timeouts()
        self.max_connections = max_connections
        self.idle_limit = idle_limit
        self.origin = f"{'https' if tls else 'http'}://{host}:{port}"
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._connecting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closing = False

    def take(self) -> Connection | None:
        """Return a kept connection, or ``None``."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.closed and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self) -> Connection:
        """Return a new connection.

        Raises :class:`~hasten.errors.EngineRefused`, :class:`EngineTimeout` or :class:`Unavailable`.
        """
        if len(self._busy) + self._connecting >= self.max_connections:
            raise Unavailable(
                f"all {self.max_connections} connections to the engine are in use", retry_after=1
            )
        self._connecting += 1
        try:
            async with asyncio.timeout(self.timeouts.connect):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self),
                    self.host,
                    self.port,
                    ssl=self.tls,
                    server_hostname=self.host if self.tls else None,
                )
        except TimeoutError:
            raise EngineTimeout(f"no connection to the engine within {self.timeouts.connect:g} s") from None
        except (OSError, ValueError) as exc:  # ValueError: a host name that no resolver takes
            raise translate(exc) from None
        finally:
            self._connecting -= 1
        return connection

    def put_back(self, connection: Connection) -> None:
        """Keep ``connection`` for the next exchange."""
        self._busy.discard(connection)
        if self._closing or connection.transport.get_write_buffer_size():
            connection.abort()  # an answer before the request was fully read: the framing cannot be trusted
            return
        connection.idle_since = perf_counter()
        self._idle.append(connection)

    def watch(self, connection: Connection) -> None:
        """Count ``connection`` as busy and see to its deadline."""
        self._busy.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def forget(self, connection: Connection) -> None:
        """Drop a closed connection."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close what is idle now and what is busy as it ends."""
        self._closing = True
        for connection in list(self._idle):
            connection.abort()
        if not self._busy and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = perf_counter()
        for connection in list(self._busy):
            connection.check(now)
        # The list is in order of use: the coldest connections are at its front.
        while self._idle and now - self._idle[0].idle_since > self.idle_limit:
            self._idle[0].abort()
        self._timer = self._loop.call_later(TICK, self._tick) if self._busy or self._idle else None

    def __repr__(self) -> str:
        return f"<Pool {self.origin} {len(self._busy)} busy, {len(self._idle)} idle>"


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that verifies, unless the settings say otherwise."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as exc:
        raise translate(exc) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
