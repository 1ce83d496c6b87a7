"""Any OpenAI-compatible server as an engine."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from time import perf_counter, time
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from hasten.engines.http import Connection, Pool, tls_context
from hasten.engines.sse import EventSplitter, data_of
from hasten.errors import EngineError, EngineProtocol, EngineReset, EngineStatus, Unavailable
from hasten.settings import OpenAIEngine as Settings
from hasten.types import Chunk, Event, Headers, Reply, Request, Stream

MAX_REPLY_BYTES: Final = 256 * 1024 * 1024
PATHS: Final = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}

#: An engine's headers that clients can use; all others stay here.
_PASSED = (b"x-ratelimit-", b"openai-", b"content-encoding", b"retry-after")

_decode_event = msgspec.json.Decoder(Event).decode
_decode_any = msgspec.json.Decoder().decode
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class OpenAIEngine:
    """Sends requests to one OpenAI-compatible server.

    A ``managed`` one has no address until :meth:`move` gives it one (:attr:`ready` is false then), and may move again.
    """

    def __init__(
        self, name: str, settings: Settings, provider: str = "openai", managed: bool = False
    ) -> None:
        self.name = name
        self.provider = provider
        self.settings = settings
        self.model = settings.model
        self.inflight = 0
        self.base_url: str | None = None
        self._model_json = None if self.model is None else msgspec.Raw(msgspec.json.encode(self.model))
        self._secret = settings.api_key.reveal().encode() if settings.api_key else b""
        self._headers = {k: v.reveal() for k, v in settings.headers.items()}
        self._loop = asyncio.get_running_loop()
        self._pool: Pool | None = None
        self._heads: dict[str, bytes] = {}
        self.move(None if managed else settings.base_url)

    def move(self, base_url: str | None) -> None:
        """Send what comes from now on to ``base_url`` (``None``: nowhere for now)."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self.base_url = base_url
        if base_url is None:
            return
        url = urlsplit(base_url)
        secure = url.scheme == "https"
        host = url.hostname or ""
        port = url.port or (443 if secure else 80)
        context = tls_context(self.settings.tls) if secure else None
        self._pool = Pool(host, port, context, self.settings.timeouts, self.settings.max_connections)
        self._heads = {
            endpoint: self._head(url.netloc, url.path.rstrip("/") + path) for endpoint, path in PATHS.items()
        }

    def _head(self, netloc: str, target: str) -> bytes:
        lines = [f"POST {target} HTTP/1.1", f"host: {netloc}", "content-type: application/json"]
        given = {name.lower() for name in self._headers}
        if self._secret and "authorization" not in given:
            lines.append(f"authorization: Bearer {self._secret.decode()}")
        for name, value in (("accept-encoding", "identity"), ("user-agent", "hasten")):
            if name not in given:
                lines.append(f"{name}: {value}")
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        return ("\r\n".join(lines) + "\r\ncontent-length: ").encode("latin-1")

    @property
    def ready(self) -> bool:
        """Whether it has an address."""
        return self._pool is not None

    def body(self, request: Request) -> bytes:
        """Return the body to send. Only the model's name is changed, where this engine has its own or routing chose."""
        wanted = self.model or request.model
        if wanted == request.fields.model:
            return request.body
        top = _decode_top(request.body)
        top["model"] = self._model_json or msgspec.Raw(msgspec.json.encode(wanted))
        return msgspec.json.encode(top)

    def encode(self, request: Request) -> bytes:
        """Return the whole HTTP request."""
        body = self.body(request)
        trace = request.trace
        middle = f"{len(body)}\r\nx-request-id: {trace.id}\r\n{trace.propagated()}\r\n"
        return self._heads[request.endpoint] + middle.encode("latin-1") + body

    async def send(self, request: Request) -> Reply:
        """See :class:`hasten.engines.base.Engine`."""
        pool = self._pool
        if pool is None:
            raise Unavailable(f"the engine {self.name!r} is not ready yet", retry_after=1)
        data = self.encode(request)
        since = perf_counter()
        try:
            connection = pool.take()
            if connection is not None:
                try:
                    return await self._exchange(connection, data)
                except EngineReset:
                    if not connection.is_stale:
                        raise
                    since = request.trace.span("retry", since)
            try:
                connection = await pool.connect()
            finally:
                since = request.trace.span("connect", since)
            return await self._exchange(connection, data)
        finally:
            request.trace.span("upstream", since)

    async def _exchange(self, connection: Connection, data: bytes) -> Reply:
        call = Call(self, connection, self._loop.create_future())
        connection.send(data, call)
        try:
            return await call.future
        except BaseException:
            call.cancel()
            raise

    def redact(self, text: bytes) -> bytes:
        """Return ``text`` without this engine's credentials."""
        for secret in (self._secret, *(v.encode() for v in self._headers.values())):
            if len(secret) >= 4:
                text = text.replace(secret, b"***")
        return text

    def close(self) -> None:
        """See :class:`hasten.engines.base.Engine`."""
        if self._pool is not None:
            self._pool.close()

    def __repr__(self) -> str:
        return f"<OpenAIEngine {self.name!r} {self.inflight} in flight, {self._pool or 'not ready'}>"


class Line(Protocol):
    """What a call needs of its connection: :class:`hasten.engines.http.Connection`, or what plays its part."""

    now: float  #: when something was last read, ``time.perf_counter`` seconds

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Close at once."""


class Call:
    """One exchange: receives the response, feeds the stream.

    ``future`` gets the :class:`Reply`: when the body is complete, or when the first event of a stream is. Until
    then every failure is the future's; afterwards it is the stream's end.
    """

    __slots__ = (
        "_ended",
        "_finished",
        "_splitter",
        "connection",
        "engine",
        "future",
        "parts",
        "reply",
        "size",
    )

    def __init__(self, engine: OpenAIEngine, connection: Line, future: asyncio.Future[Reply]) -> None:
        self.engine = engine
        self.connection = connection
        self.future = future
        self.reply = Reply()
        self.parts: list[bytes] = []
        self.size = 0
        self._splitter: EventSplitter | None = None
        self._finished = False  # a choice had a finish reason, or [DONE] came
        self._ended = False
        engine.inflight += 1

    # -- hasten.types.Source

    def pause(self) -> None:
        if not self._ended:  # afterwards the connection is another call's
            self.connection.pause()

    def resume(self) -> None:
        if not self._ended:
            self.connection.resume()

    def cancel(self) -> None:
        if self._end():
            self.connection.abort()

    # -- hasten.engines.http.Receiver

    def on_head(self, status: int, headers: Headers) -> None:
        reply = self.reply
        reply.status = status
        for pair in headers:
            name = pair[0]
            if name == b"content-type":
                reply.content_type = pair[1]
            elif name.startswith(_PASSED):
                reply.headers.append(pair)
        if status == 200 and reply.content_type.startswith(b"text/event-stream"):
            self._splitter = EventSplitter()

    def on_body(self, data: bytes) -> None:
        if self._ended:
            return
        splitter = self._splitter
        if splitter is None:
            self.parts.append(data)
            self.size += len(data)
            if self.size > MAX_REPLY_BYTES:
                self._break(EngineProtocol(f"the engine's answer is larger than {MAX_REPLY_BYTES} bytes"))
            return
        try:
            # The usual case, one read with one event of one line, does without the splitter.
            if (
                data[-3:] == b"}\n\n"
                and data[:6] == b"data: "
                and data.find(b"\n") == len(data) - 2
                and not splitter.pending
            ):
                self._event(data, data[6:-2])
                return
            for raw in splitter.feed(data):
                self._event(raw, data_of(raw))
                if self._ended:
                    return
        except EngineError as exc:
            self._break(exc)

    def on_complete(self) -> None:
        if self._splitter is not None:
            self._complete_stream()
        elif self._end():
            self._complete_whole()

    def on_error(self, error: EngineError) -> None:
        if self._end():
            self._fail(error)

    # -- own

    def _event(self, raw: bytes, data: bytes | None) -> None:
        """Decode one event and pass it on. Raises :class:`EngineError` for one that must not be passed on."""
        event = None
        done = False
        if data:  # an event without data, or with an empty one, says nothing
            if data == b"[DONE]":
                done = self._finished = True
            else:
                try:  # what decode() begins with, to spare a call an event
                    event = _decode_event(data)
                except (msgspec.DecodeError, RecursionError):
                    event = decode(data)
                if event is not None and event.error is not None:
                    raise _error_event(event.error, self.engine.redact(data))
        chunk = Chunk(raw, event, self.connection.now, done)
        if chunk.finish is not None:
            self._finished = True
        stream = self.reply.stream
        if stream is None:
            stream = self.reply.stream = Stream(self)
            if not self.future.done():
                self.future.set_result(self.reply)
        stream.feed(chunk)
        if done:
            # Many clients read no further: they have not left, however long the engine takes to end the body.
            stream.end()
            self.resume()

    def _complete_stream(self) -> None:
        if self._ended:
            return
        splitter = self._splitter
        if splitter is not None and splitter.rest().strip():
            try:  # some servers leave out the last blank line
                raw = splitter.rest().rstrip(b"\r\n") + b"\n\n"
                self._event(raw, data_of(raw))
            except EngineError as exc:
                self._break(exc)
                return
        if not self._end():
            return
        if not self._finished:
            self._fail(EngineReset("the engine's stream ended before the answer was complete"))
        elif self.reply.stream is not None:
            self.reply.stream.end()

    def _complete_whole(self) -> None:
        reply = self.reply
        reply.body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        if reply.status == 200:
            if reply.content_type.startswith(b"application/json"):
                try:
                    reply.event = decode(reply.body)
                except EngineError as exc:
                    self._fail(exc)
                    return
            if not self.future.done():
                self.future.set_result(reply)
        else:
            self._fail(_error_status(reply, self.engine))

    def _end(self) -> bool:
        """Count the call as over; true the first time."""
        if self._ended:
            return False
        self._ended = True
        self.engine.inflight -= 1
        return True

    def _break(self, error: EngineError) -> None:
        """End because of what was received: the connection cannot be used on."""
        if self._end():
            self.connection.abort()
            self._fail(error)

    def _fail(self, error: EngineError) -> None:
        if self.reply.stream is not None:
            self.reply.stream.end(error)
        elif not self.future.done():
            self.future.set_exception(error)

    def __repr__(self) -> str:
        return f"<Call {self.connection!r} {'ended' if self._ended else 'running'}>"


def decode(data: bytes) -> Event | None:
    """Return the known part of an engine's JSON; ``None`` where it is JSON of another shape.

    Raises :class:`EngineProtocol` if it is not JSON.
    """
    try:
        return _decode_event(data)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, RecursionError):
        raise EngineProtocol("the engine sent malformed JSON") from None
    try:
        _decode_any(data)
    except (msgspec.DecodeError, RecursionError):
        raise EngineProtocol("the engine sent malformed JSON") from None
    return None


def _error_event(error: object, data: bytes) -> EngineStatus:
    code = error.get("code") if isinstance(error, dict) else None
    if code in (401, 403):
        return _refused_key(code)
    return EngineStatus(code if isinstance(code, int) and 400 <= code < 600 else 502, data)


def _error_status(reply: Reply, engine: OpenAIEngine) -> EngineStatus | EngineProtocol:
    if reply.status < 400:
        return EngineProtocol(f"the engine answered with status {reply.status}")
    if reply.status in (401, 403):  # ours, not the client's: nothing of it is passed on
        return _refused_key(reply.status)
    retry_after = next((parse_retry_after(v) for k, v in reply.headers if k == b"retry-after"), None)
    return EngineStatus(reply.status, engine.redact(reply.body), retry_after)


def _refused_key(status: int) -> EngineStatus:
    error = EngineStatus(502)
    error.message = f"the engine did not accept the gateway's credentials (status {status})"
    return error


def parse_retry_after(value: bytes) -> float | None:
    """Return the seconds of a ``Retry-After`` header, a number or a date (RFC 9110, 10.2.3)."""
    text = value.decode("latin-1").strip()
    try:
        return min(max(0.0, float(text)), 86400.0)
    except ValueError:
        pass
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time()), 86400.0)
    except (ValueError, TypeError, OverflowError):
        return None
