"""What the cascade's judge is worth and what it costs.

``--data`` is a file of word problems with a weak model's answers, JSON lines in gzip: ``prompt``, ``weak_response``,
``weak`` and ``strong`` (scores, 0 to 1), ``source``. The learned check is trained anew on nine tenths of it and judged
on the last, in turn. Latencies are of scripted tiers: the rest of the way is the gateway's own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import msgspec
import numpy as np
from command import attempt, say

sys.path.insert(0, str(Path(__file__).parents[1] / "training" / "cascade"))
from fit import Array, Data, apgr, cross_validated, interval, mean_apgr, read

from hasten import config
from hasten.app import compose
from hasten.engines.dispatch import Dispatch
from hasten.engines.openai import OpenAIEngine
from hasten.errors import HastenError
from hasten.fields import ChatFields
from hasten.route.check import Check
from hasten.route.complexity import Complexity
from hasten.route.stage import RouteStage
from hasten.testing import Script, ScriptedUpstream
from hasten.trace import Trace
from hasten.types import Chunk, Request

LIMITS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WORDS = tuple(f" w{i}" for i in range(60))
GOOD = Script(tokens=WORDS, ttft=0.1, itl=0.01)
SHORT = Script(tokens=("I'm", " sorry", ", but", " I", *WORDS[:56]), ttft=0.1, itl=0.01)
STRONG = Script(tokens=WORDS, ttft=0.3, itl=0.02)
TIMES = 7


def share_for(score: Array, gap: Array, recovered: float) -> float:
    """Return the smallest share sent to the strong model that recovers a part of the gap (CPT)."""
    sums = np.cumsum(gap[np.argsort(-score, kind="stable")]) / gap.sum()
    return float((int(np.argmax(sums >= recovered)) + 1) / len(gap))


def worth(path: Path) -> None:
    """Print what the check is worth."""
    rows = read(path)
    data = Data(rows)
    say(f"{len(rows)} answers, {len(data.names)} features; cross-validating")
    checks, of_bare = cross_validated(data)
    length = np.array([float(len(row["prompt"])) for row in rows])
    print("| score | APGR | 95% interval | CPT50 | CPT80 |\n|---|---:|---:|---:|---:|")
    compared = {
        "length of the question": [length],
        "the check, cross-validated": checks,
        "the same, answers without the data's marks": of_bare,
    }
    for name, scores in compared.items():
        low, high = interval(partial(mean_apgr, scores, data.gap), len(rows))
        figures = [np.mean([share_for(s, data.gap, part) for s in scores]) for part in (0.5, 0.8)]
        value = np.mean([apgr(s, data.gap) for s in scores])
        print(f"| {name} | {value:.3f} | {low:.3f} to {high:.3f} | {figures[0]:.2f} | {figures[1]:.2f} |")
    weak, strong = data.weak.mean(), data.strong.mean()
    print(f"\nThe weak model alone is right in {weak:.1%}, the strong one in {strong:.1%}.\n")
    print("| `limit` | raised | of the wrong answers | of the right ones | right in the end |")
    print("|---|---:|---:|---:|---:|")
    index = data.names.index("any wrong")
    wrong = data.wrong > 0
    for limit in LIMITS:
        raised = np.mean([(s > limit) | (data.x[:, index] > 0) for s in checks], axis=0)
        right = (raised * data.strong + (1 - raised) * data.weak).mean()
        shown = (raised.mean(), raised[wrong].mean(), raised[~wrong].mean(), right)
        print(f"| {limit} | " + " | ".join(f"{value:.1%}" for value in shown) + " |")
    check = Check.load()
    took = []
    for row in rows:
        since = process_time()
        check.verdict(row["prompt"], row["weak_response"], 0.5)
        took.append((process_time() - since) * 1e3)
    took.sort()
    print(f"\nThe check takes {median(took):.2f} ms of CPU (p99 {took[int(len(took) * 0.99)]:.2f}).\n")


# -- latency


class Sink:
    """Notes when the first token came and when the stream ended."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.end: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def on_chunk(self, chunk: Chunk) -> None:
        """See :class:`hasten.types.Tap`."""
        if chunk.token and self.first is None:
            self.first = perf_counter()

    def on_end(self, error: HastenError | None) -> None:
        """See :class:`hasten.types.Tap`."""
        self.end.set_result(perf_counter())


async def once(weak: Script, stream: bool, cascade: Any, wish: str | None = None) -> tuple[float, float, int]:
    """Return TTFT and E2E (seconds) of one request, and the tokens that were discarded."""
    strong = STRONG if stream else _whole(STRONG)
    async with ScriptedUpstream(weak) as first, ScriptedUpstream(strong) as second:
        tiers = {"weak": first, "strong": second}
        settings = config.build(
            {
                "engines": {n: {"kind": "openai", "base_url": u.base_url} for n, u in tiers.items()},
                "models": {n: {"engines": [n]} for n in tiers}
                | {
                    "m": {
                        "tiers": list(tiers),
                        "route": {"hold": {"strong_share": 0}, "holdback": 0, "cascade": cascade},
                    }
                },
            },
            environ={},
        )
        engines = {n: OpenAIEngine(n, settings.engines[n]) for n in tiers}  # type: ignore[arg-type]
        dispatch = Dispatch(settings.models, engines)
        route = RouteStage(settings, Complexity(), dispatch.available, lambda *counted: None)
        handler = compose([route], dispatch)
        body = msgspec.json.encode(
            {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "What is it?"}]}
        )
        headers = {b"x-hasten-route": wish.encode()} if wish else {}
        request = Request("chat", msgspec.json.decode(body, type=ChatFields), body, Trace(), headers)
        since = perf_counter()
        reply = await handler(request)
        end = perf_counter()
        seen = end
        if reply.stream is not None:
            sink = Sink()
            reply.stream.attach(sink)
            end = await sink.end
            seen = sink.first or end
        for engine in engines.values():
            engine.close()
        return seen - since, end - since, sum(said for _, _, said in request.trace.discarded)


async def latency() -> None:
    """Print what a cascade adds."""
    print("| | TTFT ms, streamed | E2E ms, streamed | E2E ms, whole | output tokens discarded, streamed |")
    print("|---|---:|---:|---:|---:|")
    ahead = {"speculative": True}
    cases: dict[str, tuple[Script, Any, str | None]] = {
        "weak tier alone": (GOOD, False, None),
        "strong tier alone": (GOOD, False, "strong"),
        "cascade, passes": (GOOD, True, None),
        "cascade, raised": (SHORT, True, None),
        "cascade, speculative, passes": (GOOD, ahead, None),
        "cascade, speculative, raised": (SHORT, ahead, None),
    }
    for name, (weak, cascade, wish) in cases.items():
        streamed = [await once(weak, True, cascade, wish) for _ in range(TIMES)]
        # A whole answer of the scripted tiers takes as long as its stream does.
        whole = [await once(_whole(weak), False, cascade, wish) for _ in range(TIMES)]
        ttft, e2e, lost = (median(values) for values in zip(*streamed, strict=True))
        print(
            f"| {name} | {ttft * 1e3:.0f} | {e2e * 1e3:.0f} | {median(w[1] for w in whole) * 1e3:.0f} | {lost:.0f} |"
        )


def _whole(script: Script) -> Script:
    return msgspec.structs.replace(script, ttft=script.ttft + script.itl * len(script.tokens))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The cascade: what its judge is worth, what it costs.")
    parser.add_argument(
        "--data", type=Path, help="word problems with answers; without it only latency is measured"
    )
    args = parser.parse_args()

    def work() -> None:
        if args.data is not None:
            worth(args.data)
        asyncio.run(latency())

    return attempt(work)


if __name__ == "__main__":
    sys.exit(main())
