"""A gateway whose name ``m`` cascades from ``weak`` to ``strong``, each a scripted upstream."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from hasten import config
from hasten.app import compose
from hasten.process.worker import Worker, listen
from hasten.route.book import Book
from hasten.route.complexity import Complexity
from hasten.route.stage import RouteStage
from hasten.testing import Script, ScriptedUpstream, chat_chunk
from hasten.trace import Trace
from tests.gateway import Gateway, eventually

QUESTION = "What is the capital of France?"
STRONG = ("It", " is", " Paris", ".")


def script(*tokens: str, finish: str = "stop", logprob: float | None = None, **given: Any) -> Script:
    """Return a script that says ``tokens``, streamed or whole."""
    logs = None if logprob is None else {"content": [{"token": "x", "logprob": logprob}]}
    events = [chat_chunk(token) for token in tokens]
    for event in events:
        event["choices"][0]["logprobs"] = logs
    events.append(chat_chunk(None, finish))
    texts = (*(msgspec.json.encode(event).decode() for event in events), "[DONE]")
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(tokens)},
        "finish_reason": finish,
        "logprobs": logs,
    }
    usage = {"prompt_tokens": 10, "completion_tokens": len(tokens), "total_tokens": 10 + len(tokens)}
    body = msgspec.json.encode({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})
    return Script(**{"events": texts, "body": body.decode(), **given})


class Cascading:
    """The gateway, its upstreams, what was counted and the records of its requests."""

    def __init__(self, gw: Gateway, weak: ScriptedUpstream, strong: ScriptedUpstream) -> None:
        self.gw = gw
        self.weak = weak
        self.strong = strong
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.traces: list[Trace] = []
        self.measured = 0.0  # of all requests on the dial's side that acts
        self.cost = 0.0  # of the mean request that the weak tier was chosen for

    def count(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        self.counts[(name, *labels)] += int(amount)

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """How often each outcome was counted, with its reason."""
        name = "hasten_route_cascade_total"
        return {(key[2], key[3]): n for key, n in self.counts.items() if key[0] == name}

    @property
    def discarded(self) -> dict[tuple[str, str], int]:
        """Tokens by model and kind."""
        name = "hasten_route_discarded_tokens_total"
        return {(key[1], key[2]): n for key, n in self.counts.items() if key[0] == name}

    @property
    def inflight(self) -> int:
        return sum(engine.inflight for engine in self.gw.worker.app.engines.values())

    async def ask(self, **fields: Any) -> tuple[str, dict[str, str]]:
        """Ask for a whole answer; return its text and headers."""
        reply = await self.gw.chat(**fields)
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]["message"]["content"], dict(reply.headers)

    async def stream(self, **fields: Any) -> tuple[str, dict[str, str], list[Any]]:
        """Ask for a stream; return its text, its headers and its events."""
        reply = await self.gw.chat(stream=True, **fields)
        assert reply.status_code == 200, reply.text
        lines = [line[6:] for line in reply.text.split("\n\n") if line.startswith("data: ")]
        assert lines[-1] == "[DONE]" or "error" in lines[-1]
        events = [msgspec.json.decode(line) for line in lines if line != "[DONE]"]
        pieces = [c["delta"].get("content") or "" for e in events for c in e.get("choices", ())]
        return "".join(pieces), dict(reply.headers), events


@contextlib.asynccontextmanager
async def cascading(weak: Script, strong: Script | None = None, **cascade: Any) -> AsyncIterator[Cascading]:
    """Run the gateway; nothing must be left of its requests at the end."""
    async with ScriptedUpstream(weak) as first, ScriptedUpstream(strong or script(*STRONG)) as second:
        engines = {"weak": first, "strong": second}
        settings = config.build(
            {
                "engines": {n: {"kind": "openai", "base_url": u.base_url} for n, u in engines.items()},
                "models": {
                    "weak": {"engines": ["weak"], "price": {"input": 1, "output": 2}},
                    "strong": {"engines": ["strong"], "price": {"input": 10, "output": 20}},
                    "m": {
                        "tiers": ["weak", "strong"],
                        "route": {"hold": {"strong_share": 0.0}, "holdback": 0.0, "cascade": cascade or True},
                    },
                },
                "log": {"access": False},
                "cache": {"exact": False, "semantic": False, "coalesce": False},
                "server": {"port": 0},
            },
            environ={},
        )
        worker = Worker(settings)
        sock = listen(settings)
        await worker.start(sock)
        made = Cascading(Gateway(worker, sock.getsockname()[1]), first, second)
        app = worker.app
        route = RouteStage(
            settings,
            Complexity(),
            app.dispatch.available,
            made.count,
            book=Book(settings, worker.metrics.gauge),
        )
        worker.server.handler = compose([route], app.dispatch)
        finished = worker.server.on_finish

        def on_finish(trace: Trace) -> None:
            made.traces.append(trace)
            finished(trace)

        worker.server.on_finish = on_finish
        before = asyncio.all_tasks()
        try:
            yield made
            await eventually(lambda: made.inflight == 0)
            worker.metrics.flush()
            made.cost = route.routed["m"].tiers[0].cost.value
            counted = ("hasten_route_measured_total", ("m", "act", "cost", "sum"))
            made.measured = worker.metrics.series().get(counted, [0.0])[0]
            own = {task for task in asyncio.all_tasks() - before if "hasten" in repr(task.get_coro())}
            left = {task for task in own if "upstream.py" not in repr(task) and "answer" in repr(task)}
            assert not left
        finally:
            await made.gw.http.aclose()
            worker.abort()
            await worker.close()
