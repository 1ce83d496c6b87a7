"""A gateway under a mixed load that looks like a real one's: two models, repeated prompts, a few failures."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx

from hasten.testing import ScriptedUpstream
from tests.gateway import Gateway, gateway

TOPICS = ("tides", "maps", "glass", "bread", "violins", "bees", "rivers", "clocks", "paper", "salt")
EASY = ("What is the word for {} in French?", "Name one fact about {}.", "Spell {} backwards.")
HARD = (
    "Prove, step by step, why the theory of {} needs both assumptions, and derive the formula for the general case.",
    "Write a Python module about {} with classes, tests and an analysis of its complexity; explain each trade-off.",
)
SECTIONS: dict[str, Any] = {
    "models": {
        "small-8b": {"engines": ["gpu-a", "gpu-b"], "price": {"input": 0.2, "output": 0.6}},
        "large-70b": {"engines": ["gpu-c"], "price": {"input": 2.5, "output": 8.0}},
        "auto": {"tiers": ["small-8b", "large-70b"], "route": {"hold": {"strong_share": 0.3}, "sticky": 0}},
    },
    "cache": {"semantic": False},
    "slo": {"ttft_p95_ms": 450, "tpot_p95_ms": 30, "e2e_p99_ms": 4000, "errors": 0.02},
}


def script(draw: random.Random, hard: bool, slow: float) -> dict[str, Any]:
    """Return what the upstream does with a prompt: more slowly where it is a hard one, and seldom wrong."""
    said: dict[str, Any] = {
        "ttft": draw.lognormvariate(-2.4, 0.45) * (2.2 if hard else 1.0) * slow,
        "itl": draw.uniform(0.018, 0.024) if hard else draw.uniform(0.007, 0.011),
        "repeat": draw.randint(3, 14) if hard else draw.randint(1, 7),
    }
    if draw.random() < 0.02:
        said["reset_after"] = 3
    return said


async def ask(
    http: httpx.AsyncClient, draw: random.Random, popular: list[dict[str, Any]], slow: float = 1.0
) -> None:
    """Send one request, in a third of the cases one that was sent before."""
    if popular and draw.random() < 0.33:
        body = popular[min(int(draw.expovariate(0.1)), len(popular) - 1)]
    else:
        hard = draw.random() < 0.35
        text = draw.choice(HARD if hard else EASY).format(draw.choice(TOPICS)) + f" ({draw.randint(1, 999)})"
        body = {
            "model": draw.choices(("auto", "small-8b", "large-70b"), (6, 3, 1))[0],
            "messages": [{"role": "user", "content": text}],
            "stream": draw.random() < 0.85,
            "x_script": script(draw, hard, slow),
        }
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        if len(popular) < 50:
            popular.append(body)
    with contextlib.suppress(httpx.HTTPError):
        await http.post("/v1/chat/completions", json=body)


async def load(gw: Gateway, rate: float, slow: float = 1.0, seed: int = 7) -> None:
    """Send requests without end, ``rate`` a second, as they come from many independent people (Poisson).

    ``slow``: by how much engines take longer to the first token.
    """
    draw = random.Random(seed)
    popular: list[dict[str, Any]] = []
    async with (
        httpx.AsyncClient(base_url=gw.url, timeout=30, trust_env=False) as http,
        asyncio.TaskGroup() as group,
    ):
        while True:
            group.create_task(ask(http, draw, popular, slow))
            await asyncio.sleep(draw.expovariate(rate))


@contextlib.asynccontextmanager
async def house(**sections: Any) -> AsyncIterator[Gateway]:
    """Run a gateway with three engines and two models, and nobody who asks for anything yet."""
    async with (
        ScriptedUpstream(keep=False) as a,
        ScriptedUpstream(keep=False) as b,
        ScriptedUpstream(keep=False) as c,
    ):
        engines = {
            name: {"kind": "openai", "base_url": upstream.base_url}
            for name, upstream in (("gpu-a", a), ("gpu-b", b), ("gpu-c", c))
        }
        async with gateway(**{"engines": engines, **SECTIONS, **sections}) as gw:
            yield gw


@contextlib.asynccontextmanager
async def asked(gw: Gateway, rate: float, slow: float = 1.0) -> AsyncIterator[None]:
    """Keep the load on a gateway while the body runs."""
    working = asyncio.create_task(load(gw, rate, slow))
    try:
        yield
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
