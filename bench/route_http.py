"""What routing saves over HTTP: a weak tier that takes 0.2 s and a strong one that takes 2 s behind one name.

All to the strong tier, routed, and by dice with the share that routing used; the same prompts in the same order.
The prompts are the project's own (training/router/data); with each stands how likely a small and a large model are to
answer it well, as a language model estimates: that is the quality here. Then conversations, which must never go down.

Loopback only; some two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import httpx
from command import attempt, say
from processes import Child, Failed, free_port

from hasten.bench.report import environment
from hasten.testing import Script, ScriptedUpstream

DATA = Path(__file__).parent.parent / "training" / "router" / "data"
PRICES = {"fast": (0.2, 0.2), "smart": (2.5, 10.0)}  # per million tokens, in and out
SECONDS = {"fast": 0.2, "smart": 2.0}
CONFIG = """\
engines:
  small: {{kind: openai, base_url: '{fast}'}}
  large: {{kind: openai, base_url: '{smart}'}}
models:
  fast: {{engines: [small], price: {{input: 0.2, output: 0.2}}}}
  smart: {{engines: [large], price: {{input: 2.5, output: 10}}}}
  auto: {{tiers: [fast, smart], route: {{hold: {{strong_share: {share}}}, holdback: 0}}}}
cache: {{exact: false, semantic: false, coalesce: false}}
log: {{access: false}}
"""


class Prompt(NamedTuple):
    """A prompt, and how likely a small and a large model are to answer it well."""

    prompt: str
    small: float
    large: float


class Answered(NamedTuple):
    """One answer: the tier, seconds, what it cost, and how good it is expected to be."""

    tier: str
    seconds: float
    cost: float
    quality: float


def prompts(count: int, seed: int) -> list[Prompt]:
    """Return ``count`` prompts in random order."""
    rows = [json.loads(line) for path in sorted(DATA.glob("*.jsonl")) for line in path.open()]
    chosen = random.Random(seed).sample(rows, min(count, len(rows)))
    return [Prompt(row["prompt"], row["small"], row["large"]) for row in chosen]


async def ask(
    client: httpx.AsyncClient, model: str, turns: Sequence[str]
) -> tuple[str, float, dict[str, Any]]:
    """Return the tier that answered, the seconds, and the answer. Raises :class:`Failed` for anything but a 200."""
    said = [{"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)]
    since = perf_counter()
    reply = await client.post("/v1/chat/completions", json={"model": model, "messages": said})
    seconds = perf_counter() - since
    if reply.status_code != 200:
        raise Failed(f"status {reply.status_code}: {reply.text[:300]}")
    return reply.headers["x-hasten-model"], seconds, reply.json()


async def run(
    client: httpx.AsyncClient, asked: list[Prompt], model_of: Callable[[int], str], at_once: int
) -> list[Answered]:
    """Ask all prompts, ``at_once`` at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(i: int, prompt: Prompt) -> Answered:
        async with gate:
            tier, seconds, body = await ask(client, model_of(i), [prompt.prompt])
        into, out = PRICES[tier]
        usage = body["usage"]
        cost = (usage["prompt_tokens"] * into + usage["completion_tokens"] * out) / 1e6
        return Answered(tier, seconds, cost, prompt.small if tier == "fast" else prompt.large)

    return await asyncio.gather(*(one(i, prompt) for i, prompt in enumerate(asked)))


async def flips(client: httpx.AsyncClient, count: int, seed: int) -> tuple[int, int, int]:
    """Play conversations of mixed turns; return the turns, how often one went up, and how often down."""
    rng = random.Random(seed)
    pool = [row.prompt for row in prompts(4 * count, seed + 1)]
    turns = up = down = 0

    async def play() -> None:
        nonlocal turns, up, down
        said: list[str] = []
        last = None
        for _ in range(5):
            said.append(rng.choice(("yes, go on", "ok", "and then?", rng.choice(pool), rng.choice(pool))))
            tier, _, body = await ask(client, "auto", said)
            said.append(body["choices"][0]["message"]["content"])
            turns += 1
            up += (last, tier) == ("fast", "smart")
            down += (last, tier) == ("smart", "fast")
            last = tier

    await asyncio.gather(*(play() for _ in range(count)))
    return turns, up, down


def interval(values: Sequence[float], seed: int = 1) -> str:
    """Return a mean with its bootstrap 95% interval (Efron 1979, percentile)."""
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(500))
    return f"{sum(values) / len(values):.4g} [{means[12]:.4g}, {means[487]:.4g}]"


def table(runs: dict[str, list[Answered]]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| | strong share | mean E2E, s | cost of 1,000 requests | expected quality |",
        "|---|---|---|---|---|",
    ]
    for name, answers in runs.items():
        share = sum(a.tier == "smart" for a in answers) / len(answers)
        shown = (
            interval([a.seconds for a in answers]),
            interval([1e3 * a.cost for a in answers]),
            interval([a.quality for a in answers]),
        )
        lines.append(f"| {name} | {share:.1%} | {' | '.join(shown)} |")
    return "\n".join(lines)


async def measure(args: argparse.Namespace) -> str:
    """Start both tiers and the gateway, run everything, return the report."""
    weak = ScriptedUpstream(Script(ttft=SECONDS["fast"], repeat=20), keep=False)
    strong = ScriptedUpstream(Script(ttft=SECONDS["smart"], repeat=20), keep=False)
    async with weak, strong:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "route.yaml"
            config.write_text(
                CONFIG.format(fast=weak.base_url, smart=strong.base_url, share=args.share), encoding="utf-8"
            )
            port = free_port()
            command = [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(port)]
            with Child(command, args.core, Path(folder) / "gateway.log") as child:
                ready = urllib.request.Request(f"http://127.0.0.1:{port}/ready")
                await asyncio.to_thread(child.wait_ready, ready, 30)
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False
                ) as client:
                    return await report(client, args)


async def report(client: httpx.AsyncClient, args: argparse.Namespace) -> str:
    """Run the three ways and the conversations."""
    asked = prompts(args.requests, args.seed)
    runs: dict[str, list[Answered]] = {}
    say("routed")
    routed = await run(client, asked, lambda i: "auto", args.at_once)
    share = sum(a.tier == "smart" for a in routed) / len(routed)
    dice = random.Random(args.seed)
    thrown = ["smart" if dice.random() < share else "fast" for _ in asked]
    say("all strong, by dice, conversations")
    runs["all strong"] = await run(client, asked, lambda i: "smart", args.at_once)
    runs["routed"] = routed
    runs["by dice, the same share"] = await run(client, asked, thrown.__getitem__, args.at_once)
    turns, up, down = await flips(client, args.conversations, args.seed)
    machine = ", ".join(f"{key} {value}" for key, value in environment().items())
    e2e = {name: sum(a.seconds for a in answers) / len(answers) for name, answers in runs.items()}
    cost = {name: sum(a.cost for a in answers) for name, answers in runs.items()}
    saved = (
        f"E2E {1 - e2e['routed'] / e2e['all strong']:.1%}, cost {1 - cost['routed'] / cost['all strong']:.1%}"
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n{table(runs)}\n\nsaved against all strong: {saved}\n"
        f"conversations: {args.conversations}, {turns} turns, {up} went up, {down} went down\n\n{machine}"
    )


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--share", type=float, default=0.3, help="for the strong tier")
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--core", default="1", help="the gateway's")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    return attempt(lambda: print(asyncio.run(measure(args))))


if __name__ == "__main__":
    sys.exit(main())
