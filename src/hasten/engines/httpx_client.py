"""An engine reached through the httpx library: for HTTP proxies and HTTP/2, which the own client leaves out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter

import httpx

from hasten.engines.call import Call
from hasten.engines.http import tls_context
from hasten.engines.openai import PATHS, OpenAIEngine
from hasten.errors import EngineError, EngineProtocol, EngineRefused, EngineReset, EngineStatus, EngineTimeout
from hasten.settings import OpenAIEngine as Settings
from hasten.types import Reply, Request

#: httpx's errors, most special first.
_FOREIGN: tuple[tuple[type[httpx.HTTPError], type[EngineError], str], ...] = (
    (httpx.ConnectTimeout, EngineTimeout, "no connection to the engine in time"),
    (httpx.TimeoutException, EngineTimeout, "the engine took too long"),
    (httpx.ConnectError, EngineRefused, "the engine could not be reached"),
    (httpx.ProxyError, EngineRefused, "the proxy refused"),
    (httpx.ProtocolError, EngineReset, "the engine broke off its answer"),
    (httpx.NetworkError, EngineReset, "the connection to the engine was lost"),
    (httpx.DecodingError, EngineProtocol, "the engine's answer is not valid HTTP"),
)


class HttpxEngine(OpenAIEngine):
    """As :class:`OpenAIEngine`, with ``settings.proxy`` and ``settings.http2``."""

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._client = httpx.AsyncClient(
            proxy=settings.proxy,
            http2=settings.http2,
            verify=tls_context(settings.tls),
            timeout=httpx.Timeout(None, connect=settings.timeouts.connect),
            limits=httpx.Limits(max_connections=settings.max_connections, max_keepalive_connections=100),
            trust_env=False,
            follow_redirects=False,
        )

    async def _send(self, request: Request, asked: bool) -> Reply:
        since = perf_counter()
        exchange = _Exchange(self._client, self, request, asked)
        call = Call(self, exchange, self._loop.create_future(), asked)
        try:
            exchange.start(call)
            return await call.future
        except BaseException:
            call.cancel()
            raise
        finally:
            request.trace.span("upstream", since)

    async def get(self, url: str, headers: Mapping[str, str], limit: int) -> bytes:
        """See :class:`hasten.engines.poll.Getter`."""
        body = b""
        try:
            async with self._client.stream("GET", url, headers=headers) as response:
                if response.status_code != 200:
                    raise EngineStatus(response.status_code)
                async for data in response.aiter_raw():
                    body += data
                    if len(body) > limit:
                        raise EngineProtocol(f"the page is larger than {limit} bytes")
        except httpx.HTTPError as exc:
            raise _translate(exc) from None
        except httpx.InvalidURL as exc:
            raise ValueError(str(exc)) from None
        return body

    def close(self) -> None:
        """See :class:`hasten.engines.base.Engine`."""
        super().close()
        self._closing = self._loop.create_task(self._client.aclose())


class _Exchange:
    """Plays the part of :class:`hasten.engines.http.Connection` for one request."""

    def __init__(self, client: httpx.AsyncClient, engine: HttpxEngine, request: Request, asked: bool) -> None:
        self._client = client
        self._engine = engine
        self._request = request
        self._asked = asked
        self._told = request.trace.propagated()  # now: another call may be noted until the task runs
        self.now = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._task: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None

    def start(self, call: Call) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(call))

    async def _run(self, call: Call) -> None:
        engine = self._engine
        timeouts = engine.settings.timeouts
        request = self._request
        url = engine.settings.base_url.rstrip("/") + PATHS[request.endpoint]
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-request-id": request.trace.id,
        }
        if engine.settings.api_key is not None:
            headers["authorization"] = f"Bearer {engine.settings.api_key.reveal()}"
        headers |= dict(line.split(": ", 1) for line in self._told.splitlines())
        headers |= {name.lower(): value.reveal() for name, value in engine.settings.headers.items()}
        body = engine.body(request, self._asked)
        try:
            async with asyncio.timeout(timeouts.first_byte) as self._limit:
                async with self._client.stream("POST", url, headers=headers, content=body) as response:
                    call.on_head(response.status_code, [(k.lower(), v) for k, v in response.headers.raw])
                    async for data in response.aiter_raw():
                        await self._open.wait()
                        self._extend()
                        call.on_body(data)
                call.on_complete()
        except TimeoutError:
            call.on_error(EngineTimeout("the engine sent nothing for too long"))
        except httpx.HTTPError as exc:
            call.on_error(_translate(exc))

    def _extend(self) -> None:
        self.now = perf_counter()
        if self._limit is not None and not self._limit.expired():
            loop = asyncio.get_running_loop()
            self._limit.reschedule(loop.time() + self._engine.settings.timeouts.idle)

    def pause(self) -> None:
        self._open.clear()
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(None)

    def resume(self) -> None:
        self._open.set()
        self._extend()

    def abort(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _translate(exc: httpx.HTTPError) -> EngineError:
    for foreign, ours, text in _FOREIGN:
        if isinstance(exc, foreign):
            return ours(text)
    return EngineError("the engine failed")
