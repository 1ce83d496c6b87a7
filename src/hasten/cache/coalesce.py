"""Identical requests in flight share one upstream call.

The first one, the leader, goes on to the engine in its own task. Who comes after it waits for the same answer; a
stream's late joiner gets what has passed and then the live rest. When the leader's client leaves and others wait, the
call goes on for them; when the last one leaves, it ends. A slow joiner holds nobody up: it reads on from what is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hasten.errors import HastenError
from hasten.trace import Trace
from hasten.types import Chunk, Reply, Request, Stream

#: What requests must have in common to share one call.
Form = tuple[bytes, tuple[bool, bool, str, bool], bool, float | None, int]


class Flight:
    """One call on its way: the tap on the leader's stream, and what the others wait for.

    ``flights``: those that can be joined, by form. ``then``: called when the stream has ended, with the flight and
    why; ``None`` after a complete answer.
    """

    __slots__ = (
        "_ended",
        "_error",
        "_flights",
        "_form",
        "_limit",
        "_request",
        "_task",
        "chunks",
        "joiners",
        "size",
        "stream",
        "then",
        "waiters",
    )

    def __init__(self, request: Request, form: Form, flights: dict[Form, Flight], limit: int) -> None:
        self.waiters: list[asyncio.Future[Reply | None]] = []
        self.joiners: list[Joiner] = []
        self.chunks: list[Chunk] = []
        self.size = 0
        self.stream: Stream | None = None
        self.then: Callable[[Flight, HastenError | None], None] | None = None
        self._request = request
        self._task = asyncio.current_task()
        self._form = form
        self._flights = flights
        self._limit = limit
        self._ended = False
        request.wanted = self.wanted
        self._error: HastenError | None = None

    @property
    def trace(self) -> Trace:
        """The leader's."""
        return self._request.trace

    def _close(self) -> None:
        """Let nobody join any more."""
        if self._flights.get(self._form) is self:
            del self._flights[self._form]

    # -- the leader

    def wanted(self) -> bool:
        """Whether others wait for the answer or read it."""
        return bool(self.waiters or self.joiners)

    def landed(self, reply: Reply) -> None:
        """The leader has its reply: whole ones are handed out, streams are joined."""
        if reply.stream is None:
            self._over()
        else:
            self.stream = reply.stream
            reply.stream.taps.insert(0, self)
            reply.stream.wanted = self.wanted
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                # Streams are joined here and not when the waiter wakes: the leader's client may be gone already, and
                # the stream ends when nobody has joined it.
                waiter.set_result(_copy(reply) if reply.stream is None else self._join(reply.stream))

    def failed(self, error: BaseException) -> None:
        """The leader's call failed: so it did for all. A leader that was called off only leaves them to themselves."""
        self._over()
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if isinstance(error, Exception):
                waiter.set_exception(error)
            else:  # it joined just as the last one left
                waiter.set_result(None)

    def _over(self) -> None:
        self._close()
        # No circles: what refers to the flight is free of it, and all of it goes with its last user.
        self.stream = self._request.wanted = None

    # -- hasten.types.Tap

    def on_chunk(self, chunk: Chunk) -> None:
        self.size += len(chunk.raw)
        if self.size > self._limit:  # nobody new: what has passed is not kept for ever
            self._close()
            if not self.joiners:
                self.chunks.clear()
                return
        self.chunks.append(chunk)
        for joiner in self.joiners:
            joiner.pump()

    def on_end(self, error: HastenError | None) -> None:
        self._over()
        self._ended, self._error = True, error
        for joiner in tuple(self.joiners):
            joiner.pump()
        if self.then is not None:
            self.then(self, error)

    # -- the others

    async def wait(self) -> Reply | None:
        """Return the leader's reply, or a stream of one's own of it; raises what the leader's call raised.

        ``None``: the leader was called off, and the request is as good as new.
        """
        if self.stream is not None:
            return self._join(self.stream)
        waiter: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self.waiters:
                self.waiters.remove(waiter)
                self.left()
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                reply = waiter.result()
                if reply is not None and reply.stream is not None:
                    reply.stream.cancel()
            raise

    def _join(self, stream: Stream) -> Reply:
        joiner = Joiner(self)
        self.joiners.append(joiner)
        stream.source.resume()  # a slow leader may have held it
        joiner.pump()
        return Reply(content_type=b"text/event-stream; charset=utf-8", stream=joiner.stream)

    def left(self) -> None:
        """One of the others left; the last one ends a call whose leader has gone."""
        if self._request.gone and not self.waiters and not self.joiners and not self._ended:
            if self.stream is not None:
                self.stream.cancel()
            elif self._task is not None:
                self._task.cancel()

    @property
    def ended(self) -> tuple[bool, HastenError | None]:
        """Whether nothing more comes, and why."""
        return self._ended, self._error

    def __repr__(self) -> str:
        return f"<Flight {len(self.waiters)} waiting, {len(self.joiners)} joined, {self.size} bytes>"


def _copy(reply: Reply) -> Reply:
    """Return a whole reply for another client, without what the engine said of the leader's account."""
    made = Reply(reply.status, reply.body, reply.content_type, event=reply.event)
    made.headers = [pair for pair in reply.headers if not pair[0].startswith(b"x-ratelimit-")]
    return made


class Joiner:
    """The source of one joined stream: a place in the flight's chunks."""

    __slots__ = ("_at", "_flight", "_paused", "stream")

    def __init__(self, flight: Flight) -> None:
        self.stream = Stream(self)
        self._flight = flight
        self._at = 0
        self._paused = False

    def pump(self) -> None:
        """Feed what has come since."""
        chunks = self._flight.chunks
        while not self._paused and self._at < len(chunks):
            chunk = chunks[self._at]
            self._at += 1
            self.stream.feed(chunk)
        ended, error = self._flight.ended
        if ended and self._at == len(chunks) and self in self._flight.joiners:
            self._flight.joiners.remove(self)
            self.stream.end(error)

    # -- hasten.types.Source

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.pump()

    def cancel(self) -> None:
        if self in self._flight.joiners:
            self._flight.joiners.remove(self)
            self._flight.left()
