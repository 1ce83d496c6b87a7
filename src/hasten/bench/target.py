"""One OpenAI-compatible server as the target of a benchmark: sends a request, returns its record."""

from __future__ import annotations

import asyncio
import ssl
from time import perf_counter
from typing import NoReturn
from urllib.parse import urlsplit

import msgspec

from hasten.bench.record import Record
from hasten.engines.http import Connection, Pool
from hasten.engines.sse import EventSplitter, data_of
from hasten.errors import EngineError, EngineProtocol, EngineReset, EngineStatus, HastenError
from hasten.settings import Timeouts
from hasten.types import Chunk, Event, Headers, Usage

CONNECT_LIMIT = 5.0  # seconds

_decode_event = msgspec.json.Decoder(Event).decode


class TargetError(Exception):
    """The target cannot be measured at all; the text is one line for the user."""


class Exchange:
    """One response as it comes in (a :class:`hasten.engines.http.Receiver`).

    ``done`` is resolved when the response is complete and raises :class:`~hasten.errors.EngineError` when it is not
    what a benchmark can count. Times are ``time.perf_counter`` seconds, one for all that came in one read.
    """

    __slots__ = (
        "_finished",
        "_splitter",
        "connection",
        "done",
        "end",
        "first",
        "gaps",
        "last",
        "parts",
        "status",
        "usage",
    )

    def __init__(self, connection: Connection, done: asyncio.Future[None]) -> None:
        self.connection = connection
        self.done = done
        self.status = 0
        self.parts: list[bytes] = []
        self.first: float | None = None
        self.last = 0.0
        self.end = 0.0
        self.gaps: list[float] = []
        self.usage: Usage | None = None
        self._splitter: EventSplitter | None = None
        self._finished = False  # a choice had a finish reason, or [DONE] came

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        if status == 200 and kind.startswith(b"text/event-stream"):
            self._splitter = EventSplitter()

    def on_body(self, data: bytes) -> None:
        now = self.connection.now
        if self._splitter is None:
            self.parts.append(data)
            return
        try:
            for raw in self._splitter.feed(data):
                self._event(raw, now)
        except EngineError as exc:
            self.connection.abort()
            self.on_error(exc)

    def on_complete(self) -> None:
        self.end = perf_counter()
        if self.done.done():
            return
        if self._splitter is not None and not self._finished:
            self.on_error(EngineReset("the stream ended before the answer was complete"))
        elif self.status >= 300:
            self.on_error(EngineStatus(self.status, b"".join(self.parts)))
        else:
            self.done.set_result(None)

    def on_error(self, error: EngineError) -> None:
        self.end = perf_counter()
        if not self.done.done():
            self.done.set_exception(error)

    def _event(self, raw: bytes, now: float) -> None:
        data = data_of(raw)
        if data is None:
            return
        if data == b"[DONE]":
            self._finished = True
            return
        event = decode(data)
        if event is None:
            return
        if event.error is not None:
            raise InBand("the target sent an error within the stream")
        self.usage = event.usage or self.usage
        self._finished = self._finished or any(c.finish_reason is not None for c in event.choices or ())
        if Chunk(raw, event, now).token:
            if self.first is None:
                self.first = now
            else:
                self.gaps.append(now - self.last)
            self.last = now

    def fill(self, record: Record) -> None:
        """Put what a complete response brought into ``record``. Raises :class:`EngineError` if it is no answer."""
        record.first, record.gaps = self.first, self.gaps
        if self._splitter is None and (event := decode(b"".join(self.parts))) is not None:
            if event.error is not None:
                raise InBand("the target sent an error in place of an answer")
            self.usage = event.usage
        if self.usage is not None and self.usage.completion_tokens is not None:
            record.tokens = self.usage.completion_tokens
        elif self._splitter is not None:
            record.tokens = 0 if self.first is None else len(self.gaps) + 1
            record.counted = True


class InBand(EngineError):
    """An error object where an answer should be, after status 200."""

    code = "in_band"


def decode(data: bytes) -> Event | None:
    """Return the known part of the target's JSON, ``None`` where it has another shape.

    Raises :class:`EngineProtocol` if it is not JSON.
    """
    try:
        return _decode_event(data)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:
        raise EngineProtocol("the target sent malformed JSON") from None


def error_kind(error: HastenError | TimeoutError) -> str:
    """Return the short name under which ``error`` is counted: ``refused``, ``timeout``, ``status 429`` ..."""
    if isinstance(error, EngineStatus):
        return f"status {error.status}"
    return "timeout" if isinstance(error, TimeoutError) else (error.code or "error").removeprefix("engine_")


def base_of(url: str) -> str:
    """Return the base that ends where ``/chat/completions`` begins; ``/v1`` is added to a bare host.

    Raises :class:`ValueError` for what is not an http or https URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} is not an http:// or https:// URL")
    if parts.username or parts.query or parts.fragment or not url.isascii() or any(c <= " " for c in url):
        raise ValueError(f"{url!r}: expected scheme, host, port and path only")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


class Target:
    """Sends requests to one base URL. ``timeout``: seconds a request may take in all.

    Needs a running event loop. Close it when done.
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None, timeout: float = 300.0) -> None:
        self.base = base_of(url)
        self.timeout = timeout
        parts = urlsplit(self.base)
        secure = parts.scheme == "https"
        limits = Timeouts(connect=min(CONNECT_LIMIT, timeout), first_byte=timeout, idle=timeout)
        self._pool = Pool(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            ssl.create_default_context() if secure else None,
            limits,
            max_connections=1 << 20,
        )
        given = {"host": parts.netloc, "accept-encoding": "identity", "user-agent": "hasten-bench"}
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self._get_models = f"GET {parts.path}/models HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        self._post = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\n{lines}"
            "content-type: application/json\r\ncontent-length: "
        ).encode("latin-1")

    async def send(self, body: bytes, due: float | None = None) -> Record:
        """Send one chat completion and return its record, of a success or a failure.

        ``due``: when it should have been sent (``perf_counter`` seconds); default: now.
        """
        sent = perf_counter()
        record = Record(sent if due is None else due, sent, sent)
        try:
            exchange = await self._fetch(b"%b%d\r\n\r\n%b" % (self._post, len(body), body))
            exchange.fill(record)
            record.end = exchange.end
        except (HastenError, TimeoutError) as exc:
            record.error = error_kind(exc)
            record.end = perf_counter()
        return record

    async def models(self) -> list[str]:
        """Return the ids that ``/models`` lists. Raises :class:`TargetError`."""
        try:
            exchange = await self._fetch(self._get_models)
            listed = msgspec.json.decode(b"".join(exchange.parts))
            return [model["id"] for model in listed["data"]]
        except (HastenError, TimeoutError) as exc:
            if isinstance(exc, EngineStatus) and exc.status not in (401, 403):
                raise TargetError(f"{self.base}/models answered {exc.status}: name a --model") from None
            self._give_up(exc)
        except (msgspec.DecodeError, KeyError, TypeError):
            raise TargetError(f"{self.base}/models is not a list of models: name a --model") from None

    async def probe(self, body: bytes) -> None:
        """Send one request to see that the target can be measured.

        Raises :class:`TargetError` if it cannot be reached or refuses what is asked (4xx). What may pass (429, 5xx, a
        slow answer) is left to the run to count.
        """
        try:
            await self._fetch(b"%b%d\r\n\r\n%b" % (self._post, len(body), body))
        except EngineStatus as exc:
            if 400 <= exc.status < 500 and exc.status not in (408, 429):
                self._give_up(exc)
        except (HastenError, TimeoutError) as exc:
            self._give_up(exc)

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()

    async def _fetch(self, request: bytes) -> Exchange:
        """Raises :class:`HastenError` or :class:`TimeoutError`; cancelling it closes the connection."""
        async with asyncio.timeout(self.timeout):
            connection = self._pool.take()
            if connection is not None:
                try:
                    return await self._exchange(connection, request)
                except EngineReset:
                    if not connection.is_stale:
                        raise
            return await self._exchange(await self._pool.connect(), request)

    async def _exchange(self, connection: Connection, request: bytes) -> Exchange:
        exchange = Exchange(connection, asyncio.get_running_loop().create_future())
        connection.send(request, exchange)
        try:
            await exchange.done
        except EngineError:
            raise
        except BaseException:
            connection.abort()
            raise
        return exchange

    def _give_up(self, exc: HastenError | TimeoutError) -> NoReturn:
        if not isinstance(exc, EngineStatus):
            why = f"no answer within {self.timeout:g} s" if isinstance(exc, TimeoutError) else exc.message
            raise TargetError(f"{self.base}: {why.replace('the engine', 'the target')}") from None
        said = _message(exc.body)
        hint = " (is --api-key right?)" if exc.status in (401, 403) else ""
        raise TargetError(f"{self.base} answered {exc.status}{hint}{': ' * bool(said)}{said}") from None

    def __repr__(self) -> str:
        return f"<Target {self.base}, {self._pool}>"


def _message(body: bytes) -> str:
    """Return the text of an error envelope on one line, or the beginning of the body."""
    try:
        error = msgspec.json.decode(body)["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.DecodeError, KeyError, TypeError):
        text = body.decode("utf-8", "replace")
    return " ".join(text.split())[:300]
