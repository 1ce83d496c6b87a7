"""What it costs to ask engines for token counts: of an event, and of a request.

``python -m bench.asking`` calls what the hot path calls, without sockets, in a tight loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

import msgspec

from hasten.accept.openai import OpenAIWire
from hasten.engines.call import Call
from hasten.engines.openai import OpenAIEngine
from hasten.errors import HastenError
from hasten.settings import OpenAIEngine as Settings
from hasten.testing import chat_chunk
from hasten.trace import Trace
from hasten.types import Chunk

ROUNDS = 15
EVENT = b"data: " + msgspec.json.encode(chat_chunk(" word")) + b"\n\n"


class Nobody:
    """Both ends of a call: a connection that brings nothing, a sink that takes everything."""

    now = 0.0

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...

    def on_chunk(self, chunk: Chunk) -> None: ...

    def on_end(self, error: HastenError | None) -> None: ...


def best(work: Callable[[int], None], times: int) -> float:
    """Return the microseconds that one of ``times`` takes in the best of the rounds."""
    found = []
    for _ in range(ROUNDS):
        since = perf_counter()
        work(times)
        found.append((perf_counter() - since) / times)
    return min(found) * 1e6


def event(engine: OpenAIEngine, asked: bool) -> float:
    """Return what an event costs from the connection's callback to the sink."""

    def work(times: int) -> None:
        call = Call(engine, Nobody(), asyncio.get_running_loop().create_future(), asked)
        call.on_head(200, [(b"content-type", b"text/event-stream")])
        call.on_body(EVENT)
        assert call.reply.stream is not None
        call.reply.stream.attach(Nobody())
        take = call.on_body
        for _ in range(times):
            take(EVENT)

    return best(work, 20_000)


def request(engine: OpenAIEngine, chars: int) -> tuple[int, float]:
    """Return the bytes of a request with a prompt of so many characters, and what it costs to make it."""
    fields = {"model": "m", "messages": [{"role": "user", "content": "x" * chars}], "stream": True}
    made = OpenAIWire("chat").decode(msgspec.json.encode(fields), Trace(0.0), {}, 64)
    wanted, encode = engine.asking.wanted, engine.encode

    def work(times: int) -> None:
        for _ in range(times):
            encode(made, wanted(made))

    return len(made.body), best(work, 3000 if chars < 10_000 else 300)


async def main() -> None:
    """Print a table, microseconds."""
    for mode in ("as_asked", "always"):
        engine = OpenAIEngine("e", Settings(base_url="http://127.0.0.1:1/v1", stream_usage=mode))  # type: ignore[arg-type]
        print(f"{mode:>9}: an event {event(engine, mode == 'always'):.2f}", end="")
        for chars in (200, 4000, 100_000):
            size, took = request(engine, chars)
            print(f", a request of {size} bytes {took:.2f}", end="")
        print()


if __name__ == "__main__":
    asyncio.run(main())
