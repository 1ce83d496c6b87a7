"""What passes from stage to stage: a request in, a reply out, chunks of a streamed reply.

One callable type runs through everything: a :data:`Handler` takes a :class:`Request` and returns a
:class:`Reply`; a :class:`Stage` is given the next handler. A reply is whole (``body``) or in motion
(``stream``). A stage that wants to see a stream adds a :class:`Tap`; it never wraps the stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from hasten.errors import ClientGone, HastenError
from hasten.fields import Fields
from hasten.trace import Trace

#: (lower-case name, value) pairs, as bytes on the wire.
Headers = list[tuple[bytes, bytes]]


# -- the request ------------------------------------------------------------------------------------


class Request:
    """One call for an engine.

    ``endpoint``: ``chat``, ``completions`` or ``embeddings``. ``model``: as the client asked. ``body``: the
    JSON for the engine in OpenAI's format; bytes that no stage changed are the client's own. ``fields``: the
    decoded known fields of ``body``, read-only. ``headers``: the client's, lower-case names. ``wanted``: set by a
    stage that shares the answer; says whether others wait for it when this client leaves. ``gone``: it has left.
    ``models``: the models to try, in this order, where routing chose them; ``None``: ``model`` and its fallbacks.
    """

    __slots__ = (
        "body",
        "endpoint",
        "fields",
        "gone",
        "headers",
        "model",
        "models",
        "stream",
        "trace",
        "wanted",
    )

    def __init__(
        self,
        endpoint: str,
        fields: Fields,
        body: bytes,
        trace: Trace,
        headers: dict[bytes, bytes] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.fields = fields
        self.model = fields.model
        self.stream = bool(fields.stream)
        self.body = body
        self.trace = trace
        self.headers = headers or {}
        self.wanted: Callable[[], bool] | None = None
        self.gone = False
        self.models: tuple[str, ...] | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a streamed answer is to end with the token counts; in Anthropic's format it always does."""
        return self.fields.include_usage or self.trace.endpoint == "messages"

    def __repr__(self) -> str:
        return f"<Request {self.endpoint} {self.model!r} {len(self.body)} bytes{' stream' * self.stream}>"


# -- the reply --------------------------------------------------------------------------------------


# gc=False: these refer to nothing that refers back, and a stream makes three of them an event.


class Usage(msgspec.Struct, gc=False):
    """Token counts as OpenAI-compatible engines send them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: dict[str, Any] | None = None


class Delta(msgspec.Struct, gc=False):
    """The known part of a chat delta or message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    """The known part of a choice, of a chat or a text completion, streamed or whole."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Event(msgspec.Struct, gc=False):
    """The known part of one JSON object from an engine: an event's data or a whole answer."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Any = None  # llama.cpp's
    error: Any = None


class Chunk:
    """One server-sent event of a streamed reply.

    ``raw``: the whole event as the engine sent it, blank line included. ``event``: its data decoded, ``None``
    for comments, ``[DONE]`` and data of an unknown shape. ``at``: when it came, ``time.perf_counter`` seconds.
    ``done``: it is ``[DONE]``. ``token``: it carries a non-empty piece of output. ``finish``: a finish reason in it.
    """

    __slots__ = ("at", "done", "event", "finish", "raw", "token")

    def __init__(self, raw: bytes, event: Event | None, at: float, done: bool = False) -> None:
        self.raw = raw
        self.event = event
        self.at = at
        self.done = done
        self.token = False
        self.finish: str | None = None
        if event is not None and event.choices:
            for choice in event.choices:
                if choice.finish_reason is not None:
                    self.finish = choice.finish_reason
                delta = choice.delta
                if delta is None:
                    if choice.text:
                        self.token = True
                elif (
                    delta.content
                    or delta.reasoning_content
                    or delta.reasoning
                    or delta.tool_calls
                    or delta.refusal
                ):
                    self.token = True

    def __repr__(self) -> str:
        return f"<Chunk {self.raw[:60]!r}{' ...' * (len(self.raw) > 60)}>"


class Aside(Chunk):
    """An event that the gateway asked for and the client did not: ``raw``, which is passed on, is empty. ``kept``: it
    as the engine sent it."""

    __slots__ = ("kept",)

    def __init__(self, chunk: Chunk) -> None:
        super().__init__(b"", chunk.event, chunk.at)
        self.kept = chunk.raw


class Tap(Protocol):
    """Sees a stream pass. Must not raise and must not block."""

    def on_chunk(self, chunk: Chunk) -> None:
        """Called for each event, before the client gets it."""

    def on_end(self, error: HastenError | None) -> None:
        """Called once: ``None`` after a complete reply, else why it ended."""


class Source(Protocol):
    """What produces a stream: can be held, resumed and called off."""

    def pause(self) -> None:
        """Stop reading: the reader is slow."""

    def resume(self) -> None:
        """Read on."""

    def cancel(self) -> None:
        """Give the stream up; nothing more is fed."""


class Ended:
    """The source of a stream that is already complete."""

    def pause(self) -> None:
        """Nothing is read."""

    def resume(self) -> None:
        """Nothing is read."""

    def cancel(self) -> None:
        """Nothing runs."""


ENDED = Ended()


class Stream:
    """A reply in motion: the source feeds it, taps watch it, one sink takes it.

    Push, not pull: a chunk goes from the engine's socket to the client's in one call, without a task, a
    future or a queue between. What comes before the sink is attached is kept for it. ``wanted``: set by a stage that
    shares the stream; says whether others still read it when this client leaves or reads slowly: then the source goes
    on, for the taps, and what a slow client has not taken is kept for it here and not in its socket's buffer.
    """

    __slots__ = (
        "_attached",
        "_early",
        "_ended",
        "_sink",
        "error",
        "feed",
        "on_end",
        "source",
        "taps",
        "wanted",
    )

    #: From the source: one more event. Bound to where events go now, to spare a call an event.
    feed: Callable[[Chunk], None]

    def __init__(self, source: Source) -> None:
        self.source = source
        self.taps: list[Tap] = []
        self.on_end: list[Callable[[HastenError | None], None]] = []
        self.error: HastenError | None = None
        self.wanted: Callable[[], bool] | None = None
        self._sink: Tap | None = None
        self._attached = False
        self._early: list[Chunk] = []
        self._ended = False
        self.feed = self._early.append

    def end(self, error: HastenError | None = None) -> None:
        """From the source: the reply is complete, or ended with ``error``. A second call does nothing."""
        if self._ended:
            return
        self._ended = True
        self.error = error
        if self._attached:
            self._finish()

    def attach(self, sink: Tap) -> None:
        """From accept: ``sink`` takes the stream, beginning with what has come already. No tap can be added now."""
        # Taps are called from here on and not earlier, so that a stage can add one after `await next(request)`.
        self._sink = sink
        self._release(self._feed_taps if self.taps else sink.on_chunk)

    def _release(self, feed: Callable[[Chunk], None]) -> None:
        early, self._early = self._early, []
        self._attached = True
        self.feed = feed
        for chunk in early:
            self.feed(chunk)
        if self._ended:
            self._finish()

    def cancel(self) -> None:
        """From accept: the client is gone, its sink hears no more.

        Unless others want the stream, the source is called off and the taps end with :class:`ClientGone`.
        """
        self._sink = None
        shared = self.wanted is not None and self.wanted()
        if not shared and not self._ended:
            self._ended = self._attached = True
            self._early = []
            self.error = ClientGone("the client closed the connection")
            self.source.cancel()
            self._finish()
        elif not self._attached:
            self._release(self._feed_taps)
        elif shared:
            self.feed = self._feed_taps
            self._early = []
        elif self._ended:
            self._close()

    def pause(self) -> None:
        """From accept: the client reads slowly. The source waits for it, unless others read too."""
        if self.wanted is None or not self.wanted():
            self.source.pause()
        if self.wanted is not None:
            self.feed = self._hold

    def resume(self) -> None:
        """From accept: the client caught up."""
        if self.feed == self._hold:
            self.feed = self._feed_taps
            held, self._early = self._early, []
            for i, chunk in enumerate(held, 1):
                if self._sink is not None:
                    self._sink.on_chunk(chunk)
                if self.feed == self._hold:  # it is full again
                    self._early = held[i:]
                    return
            if self._ended:
                self._close()
        self.source.resume()

    def _hold(self, chunk: Chunk) -> None:
        if self.wanted is None or not self.wanted():  # the others have left
            self.source.pause()
        for tap in self.taps:
            tap.on_chunk(chunk)
        self._early.append(chunk)

    def _feed_taps(self, chunk: Chunk) -> None:
        for tap in self.taps:
            tap.on_chunk(chunk)
        if self._sink is not None:
            self._sink.on_chunk(chunk)

    def _finish(self) -> None:
        for call in self.on_end:
            call(self.error)
        for tap in self.taps:
            tap.on_end(self.error)
        if not self._early:  # else a slow client takes the rest first
            self._close()

    def _close(self) -> None:
        if self._sink is not None:
            self._sink.on_end(self.error)
        # No circles: an answer's memory is free as soon as it is over, and not when the collector comes round.
        self.feed, self.source = self._early.append, ENDED
        self._sink = self.wanted = None

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<Stream {state}, {len(self.taps)} taps, {len(self._early)} kept>"


class Reply:
    """An engine's answer on its way to the client.

    Either ``body`` holds it all, or ``stream`` brings it. ``event`` is the decoded ``body`` where a stage needed
    it. ``headers`` are the engine's own that are worth passing on.
    """

    __slots__ = ("body", "content_type", "event", "headers", "status", "stream")

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        content_type: bytes = b"application/json",
        stream: Stream | None = None,
        event: Event | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.stream = stream
        self.event = event
        self.headers: Headers = []

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.stream or f'{len(self.body)} bytes'}>"


Handler = Callable[[Request], Awaitable[Reply]]


class Stage(Protocol):
    """One step of a request's way: acts on the request, calls ``next``, may act on the reply or tap it."""

    async def __call__(self, request: Request, next: Handler) -> Reply:
        """Return the reply, from ``next`` or without it."""
