"""One exchange with an engine: from the bytes of its answer to a :class:`Reply`, checked and decoded."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from time import time
from typing import Final, Protocol

import msgspec

from hasten.engines.sse import EventSplitter, data_of
from hasten.errors import EngineError, EngineProtocol, EngineReset, EngineStatus
from hasten.types import Aside, Chunk, Event, Headers, Reply, Stream

MAX_REPLY_BYTES: Final = 256 * 1024 * 1024

#: An engine's headers that clients can use; all others stay here.
_PASSED = (b"x-ratelimit-", b"openai-", b"content-encoding", b"retry-after")

_decode_event = msgspec.json.Decoder(Event).decode
_decode_any = msgspec.json.Decoder().decode


class Caller(Protocol):
    """What a call needs of its engine. ``inflight``: calls begun and not ended."""

    inflight: int

    def redact(self, text: bytes) -> bytes:
        """Return ``text`` without the engine's credentials."""


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
    then every failure is the future's; afterwards it is the stream's end. ``asked``: the gateway asked for the stream's
    token counts where the client did not; the event that has nothing else is kept from it.
    """

    __slots__ = (
        "_asked",
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

    def __init__(
        self, engine: Caller, connection: Line, future: asyncio.Future[Reply], asked: bool = False
    ) -> None:
        self._asked = asked
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
        if not chunk.token and self._asked and event is not None and event.usage and not event.choices:
            chunk = Aside(chunk)
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


def _error_status(reply: Reply, engine: Caller) -> EngineStatus | EngineProtocol:
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
