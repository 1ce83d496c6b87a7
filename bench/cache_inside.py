"""How long the cache takes inside the gateway, without HTTP: run as a program on a core of its own.

Every request goes through the composed handler of the shipped settings; the engine behind it answers at once. Prints
one JSON object: for each case the number of requests and their p50 and p99 in microseconds.

exact, exact streamed   the same request again
canonical               another case, no punctuation: found without a model
verified                another wording that the verifier let pass: embedding, nearest neighbours, verifier
refused                 another wording that it did not let pass
unlike                  a question that nothing stored is like: embedding and nearest neighbours
first                   a question in a scope of its own: nothing to compare with
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import msgspec
import uvloop
from questions import QUESTIONS

from hasten import config
from hasten.accept.openai import OpenAIWire
from hasten.app import App, compose, stages
from hasten.cache.stage import CacheStage
from hasten.errors import HastenError
from hasten.measure.metrics import Metrics
from hasten.testing import fake_stream
from hasten.trace import Trace
from hasten.types import Chunk, Event, Handler, Reply, Request

ANSWER = {
    "id": "chatcmpl-9f2c4e7a1b6d4c0f8a35e1d27b90c684",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It is as the question says, and has been for long."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32},
}
BODY = msgspec.json.encode(ANSWER)
SETTINGS = {
    "engines": {"up": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {"m": {"engines": ["up"]}},
}
#: Nothing of these is kept, so that they can be asked again.
FLEETING = {b"x-hasten-cache-ttl": b"0"}
PARTS = (
    (
        "blue",
        "wooden",
        "quiet",
        "rusty",
        "ancient",
        "frozen",
        "hollow",
        "painted",
        "crooked",
        "velvet",
        "lonely",
    ),
    (
        "harbour",
        "violin",
        "glacier",
        "bakery",
        "compass",
        "orchard",
        "turbine",
        "lantern",
        "saddle",
        "canyon",
    ),
    ("weather", "taxes", "poetry", "cooking", "chess", "welding", "law", "gardening", "sailing", "algebra"),
    (
        "farmers",
        "pilots",
        "children",
        "nurses",
        "tourists",
        "bankers",
        "actors",
        "miners",
        "dancers",
        "judges",
    ),
)


def unlike() -> Iterator[str]:
    """Yield questions that are unlike each other, as far as a generator of sentences can make them."""
    for i in range(10_000):
        a, b, c, d = (part[(i * step) % len(part)] for part, step in zip(PARTS, (1, 3, 7, 9), strict=True))
        yield f"What does the {a} {b} number of {d} have to do with {c} in round {i}?"


class Sink:
    """Reads a stream to its end."""

    def __init__(self) -> None:
        self.events = 0
        self.ended = False

    def on_chunk(self, chunk: Chunk) -> None:
        self.events += 1

    def on_end(self, error: HastenError | None) -> None:
        self.ended = True


async def engine(request: Request) -> Reply:
    """Answer at once."""
    request.trace.engine, request.trace.provider, request.trace.served_model = "up", "fake", request.model
    if request.stream:
        return Reply(content_type=b"text/event-stream", stream=fake_stream(*("one ", "two ", "three ") * 20))
    return Reply(body=BODY, event=msgspec.json.decode(BODY, type=Event))


class Inside:
    """The composed handler, and the latencies of each case."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.wire = OpenAIWire("chat")
        self.found: dict[str, list[float]] = {}

    async def ask(
        self,
        text: str,
        system: str = "Be brief.",
        stream: bool = False,
        headers: dict[bytes, bytes] | None = None,
    ) -> tuple[Trace, float]:
        """Send one question; return its record and how long it took."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        body = msgspec.json.encode({"model": "m", "messages": messages, "temperature": 0, "stream": stream})
        trace = Trace()
        trace.endpoint = "chat"
        request = self.wire.decode(body, trace, dict(headers or {}), 64)
        sink = Sink()
        since = perf_counter()
        reply = await self.handler(request)
        if reply.stream is not None:
            reply.stream.attach(sink)
        took = perf_counter() - since
        assert sink.ended or reply.stream is None
        await asyncio.sleep(0)  # what goes on in the background is not this request's
        return trace, took

    def note(self, case: str, seconds: float) -> None:
        """Keep a latency."""
        self.found.setdefault(case, []).append(seconds)

    async def exact(self, count: int) -> None:
        """Ask the same again, whole and streamed."""
        for case, stream in (("exact", False), ("exact streamed", True)):
            text = f"{QUESTIONS[0][0]} ({case})"
            for i in range(count + 20):
                trace, took = await self.ask(text, "You are asked the same again.", stream)
                assert i < 2 or trace.cache == "exact", (trace.cache, trace.cache_why)
                if i >= 20:
                    self.note(case, took)

    async def wordings(self, rounds: int) -> None:
        """Store a question of each row, then ask the other wordings, again and again."""
        for first, *_ in QUESTIONS:
            await self.ask(first)
        for number in range(rounds + 1):
            for row in QUESTIONS:
                for text in (row[0].upper().rstrip("?."), *row[1:]):
                    trace, took = await self.ask(text, headers=FLEETING)
                    if number:  # the first round warms up
                        self.note(case_of(trace), took)

    async def misses(self, count: int) -> None:
        """Ask what nothing is like, and what is alone in its scope."""
        for i, text in zip(range(count), unlike(), strict=False):
            trace, took = await self.ask(text, headers=FLEETING)
            self.note(case_of(trace), took)
            trace, took = await self.ask(text, f"Be brief. You are number {i}.", headers=FLEETING)
            self.note("first", took)


def case_of(trace: Trace) -> str:
    """Return which way a request went."""
    why = trace.cache_why
    if why.startswith("verifier"):
        return "verified" if trace.cache == "semantic" else "refused"
    if trace.cache == "semantic":
        return "canonical" if why.startswith("same canonical") else "misspelt"
    return "unlike" if why.startswith("nothing like") else why.partition(":")[0]


async def ready(cache: CacheStage | None) -> None:
    """Wait for the models. Raises RuntimeError if there are none."""
    semantic = cache.semantic if cache is not None else None
    for _ in range(600):
        if semantic is None or semantic.state != "loading":
            break
        await asyncio.sleep(0.1)
    if semantic is None or semantic.state != "ready":
        raise RuntimeError(f"the semantic cache does not work here: {semantic and semantic.state}")


async def run(count: int, rounds: int) -> dict[str, Any]:
    """Return the figures of all cases."""
    settings = config.build(SETTINGS, environ={})
    app = App(settings, Metrics(), lambda: None)
    await app.open()
    try:
        await ready(app.cache)
        inside = Inside(compose(stages(settings, None, app.cache, None), engine))
        await inside.exact(count)
        await inside.wordings(rounds)
        await inside.misses(min(count, 200))
    finally:
        await app.close_cache()
        app.close()
    return {case: figures(seconds) for case, seconds in inside.found.items()}


def figures(seconds: list[float]) -> dict[str, float]:
    """Return count, p50 and p99 (microseconds)."""
    ordered = sorted(seconds)
    n = len(ordered)
    return {"n": n, "p50_us": ordered[n // 2] * 1e6, "p99_us": ordered[min(n - 1, n * 99 // 100)] * 1e6}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000, help="exact hits")
    parser.add_argument("--rounds", type=int, default=5, help="of the other wordings")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(args.count, args.rounds))))
