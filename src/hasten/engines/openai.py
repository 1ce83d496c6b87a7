"""Any OpenAI-compatible server as an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hasten.engines.call import Call
from hasten.engines.http import Connection, Pool, tls_context
from hasten.engines.usage import Asking, asking
from hasten.errors import EngineReset, EngineStatus, Unavailable
from hasten.settings import OpenAIEngine as Settings
from hasten.types import Reply, Request

PATHS: Final = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}

_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class OpenAIEngine:
    """Sends requests to one OpenAI-compatible server.

    A ``managed`` one has no address until :meth:`move` gives it one (:attr:`ready` is false then), and may move again.
    ``on_refused``: told each time that it would not count a stream's tokens.
    """

    def __init__(
        self, name: str, settings: Settings, provider: str = "openai", managed: bool = False
    ) -> None:
        self.name = name
        self.provider = provider
        self.settings = settings
        self.model = settings.model
        self.inflight = 0
        self.on_refused: Callable[[], None] = lambda: None
        self.asking = Asking(settings.stream_usage == "always")
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

    def body(self, request: Request, asked: bool) -> bytes:
        """Return the body to send: the client's, but for the model's name, where this engine has its own or routing
        chose, and for the token counts, if they are to be ``asked`` for."""
        body = request.body
        wanted = self.model or request.model
        if wanted != request.fields.model:
            top = _decode_top(body)
            top["model"] = self._model_json or msgspec.Raw(msgspec.json.encode(wanted))
            body = msgspec.json.encode(top)
        return asking(body, request.fields.stream_options is not msgspec.UNSET) if asked else body

    def encode(self, request: Request, asked: bool) -> bytes:
        """Return the whole HTTP request."""
        body = self.body(request, asked)
        trace = request.trace
        middle = f"{len(body)}\r\nx-request-id: {trace.id}\r\n{trace.propagated()}\r\n"
        return self._heads[request.endpoint] + middle.encode("latin-1") + body

    def send(self, request: Request) -> Awaitable[Reply]:
        """See :class:`hasten.engines.base.Engine`."""
        return self._ask(request) if self.asking.wanted(request) else self._send(request, False)

    async def _ask(self, request: Request) -> Reply:
        """Send a request that asks for the counts; what is refused for them is sent again without them."""
        try:
            reply = await self._send(request, True)
        except EngineStatus as exc:
            if not self.asking.suspected(request, exc):
                raise
        else:
            self.asking.answered(request)
            return reply
        reply = await self._send(request, False)
        self.asking.refused(request)
        request.trace.reasons.append(f"{self.name}: stream_usage_refused")
        self.on_refused()
        return reply

    async def _send(self, request: Request, asked: bool) -> Reply:
        pool = self._pool
        if pool is None:
            raise Unavailable(f"the engine {self.name!r} is not ready yet", retry_after=1)
        data = self.encode(request, asked)
        since = perf_counter()
        try:
            connection = pool.take()
            if connection is not None:
                try:
                    return await self._exchange(connection, data, asked)
                except EngineReset:
                    if not connection.is_stale:
                        raise
                    since = request.trace.span("retry", since)
            try:
                connection = await pool.connect()
            finally:
                since = request.trace.span("connect", since)
            return await self._exchange(connection, data, asked)
        finally:
            request.trace.span("upstream", since)

    async def _exchange(self, connection: Connection, data: bytes, asked: bool) -> Reply:
        call = Call(self, connection, self._loop.create_future(), asked)
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
