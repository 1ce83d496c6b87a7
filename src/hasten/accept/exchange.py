"""One request and its answer on a client's connection. Here is the one loop that writes a stream."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

from hasten.accept.wire import Encoder, openai_error
from hasten.anatomy import parts
from hasten.errors import ClientGone, HastenError, ShuttingDown
from hasten.fields import asked_of
from hasten.tokens import Said, fill
from hasten.trace import Trace, timing
from hasten.types import Chunk, Reply, Request, Stream

if TYPE_CHECKING:
    from hasten.accept.routes import Head
    from hasten.accept.server import Connection, Server

log = logging.getLogger("hasten.accept")

_STATUS_LINE = {status.value: f"{status.value} {status.phrase}\r\n" for status in HTTPStatus}
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,64})?")
_TRACESTATE = re.compile(rb"[ -~]{1,512}")


def error_answer(error: HastenError, head: Head, trace: Trace, date: str, more: str) -> bytes:
    """Return a whole answer with the error in the client's format; ``more``: further header lines."""
    wire = head.route.wire if head.route is not None else None
    body = wire.error(error) if wire is not None else openai_error(error)
    lines = _STATUS_LINE.get(error.status) or f"{error.status} Error\r\n"
    lines += "content-type: application/json\r\n"
    if error.retry_after is not None:
        lines += f"retry-after: {max(1, round(error.retry_after))}\r\n"
    if error.status == 401:
        lines += "www-authenticate: Bearer\r\n"
    answer = (
        f"HTTP/1.1 {lines}content-length: {len(body)}\r\ndate: {date}\r\n"
        f"x-request-id: {trace.id}\r\n{more}\r\n"
    ).encode("latin-1")
    return answer if head.method == b"HEAD" else answer + body


class Exchange:
    """Runs one request through the handler and writes what comes back; the sink of a streamed reply."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_done",
        "_encoder",
        "_head",
        "_held",
        "_keep",
        "_request",
        "_said",
        "_server",
        "_stream",
        "_task",
        "_trailers",
        "_transport",
        "trace",
    )

    def __init__(self, connection: Connection, head: Head, server: Server) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._done = False
        self._head = head
        self._held: float | None = None  # since when the client has been reading slowly
        self._server = server
        self._keep = head.keep_alive
        self._chunked = not head.http10
        self._trailers = self._chunked and b"trailers" in head.headers.get(b"te", b"")  # RFC 9110, 6.5.1
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._encoder: Encoder  # of a stream
        self._request: Request | None = None
        self._said: Said | None = None  # of a stream, for its tokens
        sent_id = head.headers.get(b"x-request-id")
        if sent_id is not None and _SAFE_ID.fullmatch(sent_id):
            trace = Trace(head.t0, sent_id.decode())
        else:
            trace = Trace(head.t0)
        self.trace = trace
        parent = head.headers.get(b"traceparent")
        if parent is not None and _TRACEPARENT.fullmatch(parent):
            trace.parent = parent.decode()
            state = head.headers.get(b"tracestate", b"")
            if _TRACESTATE.fullmatch(state):
                trace.state = state.decode()

    def start(self, body: bytes) -> None:
        """Begin; returns at once."""
        self._task = self._server.loop.create_task(self._run(body))

    async def _run(self, body: bytes) -> None:
        head = self._head
        route = head.route
        assert route is not None
        trace = self.trace
        trace.endpoint = route.name
        trace.tenant = head.caller.tenant
        answer = b""
        try:
            if route.page is not None:
                head.body = body
                reply = await route.page(head)
                answer = reply.body
            else:
                assert route.wire is not None
                if self._server.draining:
                    raise ShuttingDown("the gateway is shutting down", retry_after=1)
                self._server.on_begin(trace)
                request = route.wire.decode(body, trace, head.headers, self._server.settings.max_depth)
                self._request = request
                trace.model = request.model
                trace.stream = request.stream
                trace.asked = asked_of(request.fields, len(body))
                trace.span("accept", trace.t0)
                reply = await self._server.handler(request)
                if reply.stream is None:
                    if reply.event is not None:
                        trace.saw(reply.event)
                        counted = trace.input_tokens is not None and trace.output_tokens is not None
                        if not counted and reply.event.error is None:
                            fill(trace, request, Said([reply.event]))
                    answer = route.wire.whole(request, reply)
        except HastenError as exc:
            self._task = None
            self._fail(exc)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            log.exception("request %s failed", trace.id)
            self._task = None
            self._fail(HastenError(f"an internal error occurred ({type(exc).__name__})"))
        else:
            self._task = None
            self._answer(reply, answer)

    # -- writing

    def _headers(self, reply: Reply) -> str:
        trace = self.trace
        lines = _STATUS_LINE.get(reply.status) or f"{reply.status} Status\r\n"
        request = self._request
        if request is None:
            shown = ""
        else:
            shown = (
                f"server-timing: {trace.server_timing()}\r\nx-hasten-cache: {trace.cache or 'bypass'}\r\n"
                f"x-hasten-model: {trace.served_model}\r\nx-hasten-engine: {trace.engine}\r\n"
            )
            if trace.cache_why:
                shown += f"x-hasten-cache-why: {trace.cache_why}\r\n"
            if way := trace.way:
                shown += f"x-hasten-route: {way}\r\n"
            if trace.complexity is not None:
                shown += f"x-hasten-complexity: {trace.complexity:.3f}\r\n"
        for name, value in reply.headers:
            shown += f"{name.decode('latin-1')}: {value.decode('latin-1')}\r\n"
        if not self._keep or self._server.draining:
            self._keep = False
            shown += "connection: close\r\n"
        elif self._head.http10:
            shown += "connection: keep-alive\r\n"
        return (
            f"HTTP/1.1 {lines}content-type: {reply.content_type.decode('latin-1')}\r\ndate: {self._server.date}\r\n"
            f"x-request-id: {trace.id}\r\n{shown}"
        )

    def _answer(self, reply: Reply, body: bytes) -> None:
        trace = self.trace
        transport = self._transport
        stream = reply.stream
        if transport.is_closing():
            if stream is not None:
                stream.cancel()
            self._gone()
            return
        trace.status = reply.status
        if stream is None:
            head = f"{self._headers(reply)}content-length: {len(body)}\r\n\r\n".encode("latin-1")
            bare = self._head.method == b"HEAD" or reply.status == 304
            transport.write(head if bare else head + body)
            self._finish()
            return
        assert self._head.route is not None
        assert self._head.route.wire is not None
        assert self._request is not None
        self._stream = stream
        self._said = Said()
        self._encoder = self._head.route.wire.encoder(self._request)
        if self._chunked:
            framing = "transfer-encoding: chunked\r\n"
            if self._trailers:
                framing += "trailer: server-timing\r\n"
        else:
            framing = ""
            self._keep = False
        headers = self._headers(reply)
        transport.write(
            f"{headers}cache-control: no-store\r\nx-accel-buffering: no\r\n{framing}\r\n".encode("latin-1")
        )
        stream.attach(self)

    def on_chunk(self, chunk: Chunk) -> None:
        """See :class:`hasten.types.Tap`: write one event to the client and note it on the trace."""
        self._done = chunk.done
        data = self._encoder.chunk(chunk)
        if data:
            # %x and not an f-string: one call makes the bytes that go out.
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        trace = self.trace
        if chunk.token:
            if trace.t_first is None:
                trace.t_first = chunk.at
            trace.t_last = chunk.at
            trace.tokens_seen += 1
        if chunk.finish is not None:
            trace.finish_reason = chunk.finish
        event = chunk.event
        if event is not None:
            if chunk.token and self._said is not None:
                self._said.note(event, len(chunk.raw))
            if event.usage is not None:
                trace.saw_usage(event.usage)
            if event.timings is not None:
                trace.saw_timings(event.timings)

    def on_end(self, error: HastenError | None) -> None:
        """See :class:`hasten.types.Tap`: the stream is over; an error is told in-band."""
        self._stream = None
        if error is not None:
            self.trace.error = error.code or error.type
        self._count()
        rest = self._encoder.end(error, self._done)
        if self._chunked:
            rest = (b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\n"
            if self._trailers:
                self._note_held()
                self.trace.t_end = perf_counter()
                rest += f"server-timing: {timing(parts(self.trace))}\r\n".encode("latin-1")
            rest += b"\r\n"
        if rest:
            self._transport.write(rest)
        self._finish()

    def _fail(self, error: HastenError) -> None:
        trace = self.trace
        transport = self._transport
        if transport.is_closing():
            self._gone()
            return
        trace.status = error.status
        trace.error = error.code or error.type
        shown = f"server-timing: {trace.server_timing()}\r\n" if trace.spans else ""
        if trace.engine:
            shown += f"x-hasten-engine: {trace.engine}\r\nx-hasten-model: {trace.served_model}\r\n"
        if not self._keep or self._server.draining:
            self._keep = False
            shown += "connection: close\r\n"
        transport.write(error_answer(error, self._head, trace, self._server.date, shown))
        self._finish()

    def _count(self) -> None:
        """Count the tokens of a stream's answer, if the engine did not."""
        trace, said, self._said = self.trace, self._said, None
        if said is None or self._request is None:
            return
        if said or (trace.error is None and not trace.tokens_seen):
            fill(trace, self._request, said)

    def _finish(self) -> None:
        self._note_held()
        if self.trace.t_end is None:
            self.trace.t_end = perf_counter()
        self._connection.finished(self._keep)
        self._server.on_finish(self.trace)

    # -- from the connection

    def pause(self) -> None:
        """The client reads slowly: hold the engine."""
        if self._stream is not None:
            self._held = perf_counter()
            self._stream.pause()

    def resume(self) -> None:
        """The client caught up."""
        self._note_held()
        if self._stream is not None:
            self._stream.resume()

    def _note_held(self) -> None:
        if self._held is not None:
            self.trace.span("client", self._held)
            self._held = None

    def last(self) -> None:
        """Close the connection after this answer."""
        self._keep = False

    def client_gone(self) -> None:
        """The connection is lost: give the request up, at the engine too unless others wait for the same answer."""
        request = self._request
        if request is not None:
            request.gone = True
        if self._task is not None:
            if request is None or request.wanted is None or not request.wanted():
                self._task.cancel()
            else:
                self.trace = self.trace.copy()
            self._task = None
        elif self._stream is not None:
            if self._stream.wanted is not None and self._stream.wanted():
                self.trace = self.trace.copy()
                self._said = None  # counted with the call, when it ends
            self._stream.cancel()
            self._stream = None
        else:
            return
        self._gone()

    def _gone(self) -> None:
        """Count the request as given up by the client, once."""
        trace = self.trace
        if trace.t_end is not None:
            return
        trace.error = ClientGone.code
        self._count()
        trace.status = trace.status or ClientGone.status
        self._note_held()
        trace.t_end = perf_counter()
        self._server.on_finish(trace)

    def abort(self, error: HastenError) -> None:
        """End now, telling the client why: by a status if nothing was sent yet, else in-band."""
        self._keep = False
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._fail(error)
        elif self._stream is not None:
            stream, self._stream = self._stream, None
            stream.cancel()
            self.on_end(error)

    def __repr__(self) -> str:
        return f"<Exchange {self.trace!r}>"
