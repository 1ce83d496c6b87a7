"""Doubles without sockets: a clock, an engine, a stream."""

from __future__ import annotations

from collections import deque

import msgspec

from hasten.errors import HastenError
from hasten.testing.answers import chat_chunk
from hasten.types import Chunk, Event, Reply, Request, Stream


class FakeClock:
    """A clock that moves when told to; call it for the time in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds

    def __repr__(self) -> str:
        return f"<FakeClock {self.now}>"


class FakeEngine:
    """An engine (:class:`hasten.engines.base.Engine`) that answers from a list, without a socket.

    ``answers``: replies or errors to raise, used in turn; the last one stays.
    """

    def __init__(self, name: str, *answers: Reply | HastenError) -> None:
        self.name = name
        self.provider = "fake"
        self.inflight = 0
        self.ready = True
        self.requests: list[Request] = []
        self.answers = deque(answers or (Reply(body=b"{}"),))

    async def send(self, request: Request) -> Reply:
        self.requests.append(request)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, HastenError):
            raise answer
        return answer

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"<FakeEngine {self.name!r} {len(self.requests)} requests>"


class FakeSource:
    """A stream's source that counts what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def cancel(self) -> None:
        self.calls.append("cancel")


def fake_stream(*texts: str) -> Stream:
    """Return a complete stream with one chat chunk for each text."""
    stream = Stream(FakeSource())
    for i, text in enumerate(texts):
        finish = "stop" if i == len(texts) - 1 else None
        data = msgspec.json.encode(chat_chunk(text, finish))
        stream.feed(Chunk(b"data: " + data + b"\n\n", msgspec.json.decode(data, type=Event), float(i)))
    stream.feed(Chunk(b"data: [DONE]\n\n", None, float(len(texts)), done=True))
    stream.end()
    return stream
