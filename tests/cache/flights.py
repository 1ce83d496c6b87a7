"""Clients and an engine around the cache stage without a socket: what happens when is the test's to say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from hasten.cache.report import Report
from hasten.cache.stage import CacheStage
from hasten.cache.store.memory import MemoryStore
from hasten.errors import HastenError
from hasten.testing import FakeSource, chat_chunk
from hasten.types import Chunk, Event, Reply, Request, Stream
from tests.cache.parts import Counts, Sink, request, settings


def chunk(i: int) -> Chunk:
    data = msgspec.json.encode(chat_chunk(f"{i} "))
    return Chunk(b"data: " + data + b"\n\n", msgspec.json.decode(data, type=Event), 0.0)


class Source(FakeSource):
    """A stream's source that says nothing more once it is called off."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream(self)

    @property
    def cancelled(self) -> bool:
        return "cancel" in self.calls


class Upstream:
    """The engine's side: its calls, each answered when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, request: Request) -> Reply:
        call = Call()
        self.calls.append(call)
        try:
            return await call.head
        except asyncio.CancelledError:
            call.given_up = True
            raise


class Call:
    def __init__(self) -> None:
        self.head: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.source = Source()
        self.fed = 0
        self.over = False
        self.given_up = False

    def answer(self) -> None:
        """Send the head of a streamed answer."""
        if not self.head.done():
            self.head.set_result(Reply(content_type=b"text/event-stream", stream=self.source.stream))

    def feed(self) -> None:
        if self.head.done() and not self.over and not self.source.cancelled:
            self.source.stream.feed(chunk(self.fed))
            self.fed += 1

    def end(self, error: HastenError | None = None) -> None:
        if not self.over and not self.source.cancelled:
            self.over = True
            if self.head.done():
                self.source.stream.end(error)
            elif error is not None:
                self.head.set_exception(error)

    @property
    def running(self) -> bool:
        return not (self.over or self.given_up or self.source.cancelled)


class Client(Sink):
    """A client's side of an exchange: what :class:`hasten.accept.exchange.Exchange` does, without a socket."""

    def __init__(self, stage: CacheStage, upstream: Upstream, asked: Request | None = None) -> None:
        super().__init__()
        self.request = asked or request(stream=True)
        self.reply: Reply | None = None
        self.stream: Stream | None = None
        self.failed: BaseException | None = None
        self.gone = False
        self.full_at = 0
        self.task: asyncio.Task[None] | None = None
        self.running = asyncio.get_running_loop().create_task(self._run(stage, upstream))
        self.task = self.running

    async def _run(self, stage: CacheStage, upstream: Upstream) -> None:
        try:
            reply = await stage(self.request, upstream)
        except HastenError as exc:
            self.failed = exc
            return
        self.task = None
        if self.gone:
            if reply.stream is not None:
                reply.stream.cancel()
            return
        self.reply = reply
        if reply.stream is not None:
            self.stream = reply.stream
            reply.stream.attach(self)

    def on_chunk(self, chunk: Chunk) -> None:
        assert not self.gone
        super().on_chunk(chunk)
        if len(self.chunks) == self.full_at and self.stream is not None:
            self.stream.pause()

    def on_end(self, error: HastenError | None) -> None:
        super().on_end(error)
        self.stream = None

    def leave(self) -> None:
        if self.gone or self.ended or self.failed is not None:
            return
        self.gone = self.request.gone = True
        if self.task is not None:
            if self.request.wanted is None or not self.request.wanted():
                self.task.cancel()
        elif self.stream is not None:
            self.stream.cancel()
            self.stream = None


def make_stage(**cache: Any) -> CacheStage:
    given = settings(**{"exact": False, **cache})
    return CacheStage(given, MemoryStore(2**24), None, Counts(), Report())


def flights(stage: CacheStage) -> int:
    return len(stage._flights)


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def numbers(n: int) -> bytes:
    return b"".join(chunk(i).raw for i in range(n))
