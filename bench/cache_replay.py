"""Questions as people ask them, some often, most seldom, replayed over the embedded engine with the cache off and on.

The questions of ``bench/questions.py``, every wording for itself, are drawn by Zipf's law (the n-th most frequent one
with weight 1/n) from a seed. The same sequence is asked twice, streamed, one request after the other: of a gateway with
its cache off until its share of the time is over, then of one as it ships. An exact hit must bring the bytes that were
sent when it was stored. A semantic hit whose answer belongs to another question's wordings is counted as wrong.

Bounded in time and count, loopback only, ends what it starts. Needs the default model: hasten models pull smollm2-135m.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from cache_gateway import OFF, Answer, Client, need_semantic
from candidates import Running
from command import attempt, say
from processes import Child, Failed, free_port
from questions import QUESTIONS
from results import write

from hasten.bench.report import environment
from hasten.bench.stats import describe
from hasten.config import DEFAULT

MODEL = "smollm2-135m"
SYSTEM = "You are a helpful assistant. Answer in one short sentence."
OFF_SHARE = 0.6  # of the time that is for the gateway without a cache: it is the slower one


class Asked(NamedTuple):
    """A question of the list: which one, in which wording."""

    row: int
    wording: int

    @property
    def text(self) -> str:
        return QUESTIONS[self.row][self.wording]


def draw(count: int, distinct: int, seed: int) -> list[Asked]:
    """Return ``count`` draws by Zipf's law from ``distinct`` questions, which are shuffled first."""
    rng = random.Random(seed)
    known = [Asked(i, j) for i, row in enumerate(QUESTIONS) for j in range(len(row))]
    rng.shuffle(known)
    known = known[:distinct]
    return rng.choices(known, [1 / n for n in range(1, len(known) + 1)], k=count)


class Got(NamedTuple):
    """A question with its answer, and what the answer says of its tokens."""

    asked: Asked
    answer: Answer
    prompt_tokens: int
    tokens: int


def fields(asked: Asked, max_tokens: int) -> dict[str, Any]:
    """Return one request."""
    said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked.text}]
    return {
        "model": MODEL,
        "messages": said,
        "temperature": 0,
        "max_tokens": max_tokens,
        "stop": ["."],  # a sentence: what is cut off at max_tokens is not kept
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def replay(port: int, sequence: list[Asked], seconds: float, max_tokens: int) -> list[Got]:
    """Ask ``sequence`` in order until it ends or the time is over; return what came."""
    client = Client(port)
    found = []
    end = monotonic() + seconds
    try:
        for asked in sequence:
            if monotonic() > end:
                break
            answer = client.ask(fields(asked, max_tokens))
            usage = re.findall(rb'"(prompt|completion)_tokens": ?(\d+)', answer.body)
            counts = {name: int(n) for name, n in usage}
            found.append(Got(asked, answer, counts.get(b"prompt", 0), counts.get(b"completion", 0)))
    finally:
        client.close()
    return found


def serve(folder: Path, cores: list[int], name: str, sections: str) -> tuple[Child, int]:
    """Start ``hasten serve`` with its default settings and ``sections``; return it when it is ready."""
    port = free_port()
    words = [sys.executable, "-m", "hasten", "serve"]
    if sections:
        config = folder / f"{name}.yaml"
        config.write_text(DEFAULT + sections)
        words.append(str(config))
    child = Child([*words, "--port", str(port)], ",".join(map(str, cores)), folder / f"{name}.log")
    try:
        child.wait_ready(urllib.request.Request(f"http://127.0.0.1:{port}/ready"), 120)
    except BaseException:
        child.end()
        raise
    return child, port


# -- what came of it


def stored_wrongly(found: list[Got]) -> tuple[int, int]:
    """Return how many exact hits there were, and how many brought other bytes than were sent before."""
    sent: dict[Asked, bytes] = {}
    hits = different = 0
    for got in found:
        if got.answer.cache == "exact":
            hits += 1
            different += got.answer.body != sent.get(got.asked)
        elif got.answer.cache == "miss":
            sent[got.asked] = got.answer.body
    return hits, different


def others(found: list[Got]) -> tuple[int, int]:
    """Return how many semantic hits there were, and how many served the answer of another row of the list."""
    rows: dict[bytes, set[int]] = {}
    hits = wrong = 0
    for got in found:
        if got.answer.cache == "semantic":
            hits += 1
            wrong += got.asked.row not in rows.get(got.answer.body, set())
        elif got.answer.cache == "miss":
            rows.setdefault(got.answer.body, set()).add(got.asked.row)
    return hits, wrong


def figures(found: list[Got]) -> dict[str, Any]:
    """Return the figures of one replay. Tokens are saved where no engine was asked."""
    hit = [got.answer.cache in ("exact", "semantic", "coalesced") for got in found]
    of_kind: dict[str, list[float]] = {}
    for got in found:
        of_kind.setdefault(got.answer.cache, []).append(got.answer.seconds)
    exact, different = stored_wrongly(found)
    semantic, wrong = others(found)
    e2e = describe((got.answer.seconds for got in found), 1e3)
    ttft = describe((got.answer.first for got in found), 1e3)
    return {
        "requests": len(found),
        "kinds": dict(Counter(got.answer.cache for got in found)),
        "e2e_mean_ms": e2e.mean if e2e else None,
        "e2e_p50_ms": e2e.p50 if e2e else None,
        "ttft_mean_ms": ttft.mean if ttft else None,
        "ttft_p50_ms": ttft.p50 if ttft else None,
        "tokens_computed": sum(g.tokens for g, h in zip(found, hit, strict=True) if not h),
        "tokens_saved": sum(g.tokens for g, h in zip(found, hit, strict=True) if h),
        "prompt_tokens_computed": sum(g.prompt_tokens for g, h in zip(found, hit, strict=True) if not h),
        "prompt_tokens_saved": sum(g.prompt_tokens for g, h in zip(found, hit, strict=True) if h),
        "cut_off": sum(b'"finish_reason":"length"' in got.answer.body for got in found),
        "exact_hits": exact,
        "exact_hits_with_other_bytes": different,
        "semantic_hits": semantic,
        "semantic_hits_of_another_question": wrong,
        "e2e_ms": {kind: _spread(seconds) for kind, seconds in of_kind.items()},
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    stats = describe(seconds, 1e3)
    assert stats is not None
    return {"n": stats.n, "mean": stats.mean, "p50": stats.p50, "p99": stats.p99}


ROWS = (
    ("requests", "requests"),
    ("mean E2E ms", "e2e_mean_ms"),
    ("p50 E2E ms", "e2e_p50_ms"),
    ("mean TTFT ms", "ttft_mean_ms"),
    ("p50 TTFT ms", "ttft_p50_ms"),
    ("tokens computed", "tokens_computed"),
    ("tokens saved", "tokens_saved"),
    ("prompt tokens computed", "prompt_tokens_computed"),
    ("prompt tokens saved", "prompt_tokens_saved"),
    ("answers cut off at max_tokens", "cut_off"),
    ("exact hits", "exact_hits"),
    ("… with other bytes than stored", "exact_hits_with_other_bytes"),
    ("semantic hits", "semantic_hits"),
    ("… of another question", "semantic_hits_of_another_question"),
)


def table(off: dict[str, Any], on: dict[str, Any]) -> str:
    """Return both replays side by side, and the latencies of each kind of answer."""
    lines = ["| | cache off | cache on | on / off |", "|---|---:|---:|---:|"]
    for label, key in ROWS:
        a, b = off[key], on[key]
        ratio = f"{b / a:.3f}" if a and b is not None and key.endswith(("_ms", "_computed")) else ""
        cells = [f"{v:,.1f}" if isinstance(v, float) else f"{v:,}" if v is not None else "" for v in (a, b)]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | {ratio} |")
    lines += ["", "| cache on: E2E ms | requests | mean | p50 | p99 |", "|---|---:|---:|---:|---:|"]
    for kind, f in on["e2e_ms"].items():
        lines.append(f"| {kind} | {f['n']:,} | {f['mean']:,.2f} | {f['p50']:,.2f} | {f['p99']:,.2f} |")
    return "\n".join(lines)


def run(args: argparse.Namespace, cores: list[int]) -> dict[str, dict[str, Any]]:
    """Replay without and with the cache; return the figures of both."""
    sequence = draw(args.requests, args.distinct, args.seed)
    with tempfile.TemporaryDirectory(prefix="hasten-bench-") as name:
        folder = Path(name)
        child, port = serve(folder, cores, "off", OFF)
        with child:
            replay(port, sequence[:1], 60, 4)  # the engine's first request is slower
            off = replay(port, sequence, args.seconds * OFF_SHARE, args.max_tokens)
        say(f"cache off: {len(off)} requests")
        child, port = serve(folder, cores, "on", "")
        with child:
            need_semantic(Running("on", port, child, {}))
            replay(port, sequence[:1], 60, 4)
            on = replay(port, sequence[: len(off)], args.seconds * (1 - OFF_SHARE), args.max_tokens)
        say(f"cache on: {len(on)} requests")
    if not on:
        raise Failed("nothing was answered")
    return {"off": figures(off[: len(on)]), "on": figures(on)}


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = sum(map(len, QUESTIONS))
    parser.add_argument("--seconds", type=float, default=240, help="for both replays (default 240)")
    parser.add_argument("--requests", type=int, default=1000, help="at most (default 1000)")
    parser.add_argument(
        "--distinct", type=int, default=everything, help="questions (default and most: %(default)s)"
    )
    parser.add_argument("--max-tokens", type=int, default=48, help="of an answer (default 48)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="FOLDER")
    args = parser.parse_args()
    if args.seconds <= 0 or args.requests < 1 or args.distinct < 1:
        parser.error("needs a second, a request and a question at least")
    made: dict[str, Any] = {}
    code = attempt(lambda: made.update(run(args, sorted(os.sched_getaffinity(0)))))
    if code:
        return code
    print(table(made["off"], made["on"]))
    settings = {k: getattr(args, k) for k in ("seconds", "requests", "distinct", "max_tokens", "seed")}
    tree = {"schema": "hasten.cache-replay/1", "environment": environment(), "settings": settings, **made}
    name = f"cache-replay-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    say(f"written to {write(args.out, name, json.dumps(tree, indent=2) + chr(10))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
