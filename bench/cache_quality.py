"""What the semantic cache answers, and how much of that is right: labelled pairs of questions, asked over HTTP.

The gateway runs as it ships. The upstream's answer names the question that it was asked, so that a hit shows whose
answer was served.

isolated  each pair under a system prompt of its own: first a, then b
shared    one system prompt for all: first every a, then every b, which is not kept. A hit on the pair's own a counts by
          the pair's label; on another question's answer it is right only if the data says that question and b ask the
          same, or if they are the same but for case and punctuation. All else is wrong; "other" says how much of it
          the data says nothing about.

Pairs that the holdback sends to the model count as misses. The gateway learns from their answers, and turns its
semantic cache off when they show too many wrong ones; that is told. With --blind the answers tell it nothing.

Beside it stands what most caches do: the cosine of the MiniLM embeddings of the whole text, at 0.9 and at the threshold
that is best for these very pairs (highest recall with at most 1% of the hits wrong), which flatters it. Loopback only;
what is started is ended.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import cache_data
import numpy as np
from cache_data import DataSet, distinct
from cache_gateway import Answer, Cached, Client, need_semantic, state
from cache_judge import Labels, Messages, Outcome, Pair, Tally, best_threshold, form, judge
from candidates import MODEL
from command import attempt, say
from processes import Child, Failed, free_port
from results import write

from hasten.bench.report import environment
from hasten.cache.semantic.models import Embedder
from hasten.engines import weights

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data" / "semcache"
HITS = ("exact", "semantic", "coalesced")
MODES = ("isolated", "shared")
Mode = Literal["isolated", "shared"]
LETTERS = 600  # the last ones of a conversation, which the cosine is taken of
COLUMNS = ("pairs", "hits", "right", "wrong", "other", "held", "recall", "wrong of hits", "hit ms", "miss ms")


# -- the gateway


class Asked:
    """A gateway and an upstream that knows the answers to one data set's questions."""

    def __init__(
        self, data: DataSet, folder: Path, cores: Sequence[int], stack: ExitStack, blind: bool
    ) -> None:
        answers = data.answers(blind)
        self.data = data
        self.names = {name: question for question, (name, _) in answers.items()}
        table = folder / "answers.json"
        table.write_text(json.dumps(answers), encoding="utf-8")
        port = free_port()
        words = [sys.executable, str(HERE / "answering.py"), "--port", str(port), "--answers", str(table)]
        stack.push(Child(words, cores[-1], folder / "upstream.log"))
        self.running = Cached("hasten").start(port, cores[0], folder, stream=False)
        assert self.running.child is not None
        stack.push(self.running.child)
        need_semantic(self.running)
        self.client = Client(self.running.port)
        stack.callback(self.client.close)

    def ask(self, system: str, messages: Messages, **headers: str) -> Answer:
        """Ask one question under a system prompt."""
        said = [{"role": "system", "content": system}, *messages]
        return self.client.ask({"model": MODEL, "messages": said, "temperature": 0}, **headers)

    def outcome(self, pair: Pair, answer: Answer) -> Outcome:
        """Judge the answer to the pair's ``b``."""
        if answer.cache not in HITS:
            return Outcome(pair, answer.cache, "", "", answer.seconds * 1e3, answer.why)
        served = self.names.get(answer.json()["id"], "")
        verdict = judge(served, pair, self.data.labels)
        return Outcome(pair, answer.cache, verdict, served, answer.seconds * 1e3, answer.why)

    def isolated(self) -> list[Outcome]:
        """Ask each pair for itself."""
        found = []
        for i, pair in enumerate(self.data.pairs):
            system = f"You answer the questions of customer {i}."
            self.ask(system, pair.a)
            found.append(self.outcome(pair, self.ask(system, pair.b)))
        return found

    def shared(self) -> list[Outcome]:
        """Ask every ``a`` first, then every ``b``, whose answer is kept for no time."""
        system = "You answer the questions of customers."
        for messages in distinct([pair.a for pair in self.data.pairs]):
            if self.ask(system, messages).cache == "semantic":  # so that it is kept all the same
                self.ask(system, messages, x_hasten_cache="refresh")
        return [
            self.outcome(pair, self.ask(system, pair.b, x_hasten_cache_ttl="0")) for pair in self.data.pairs
        ]


def measure(data: DataSet, mode: Mode, cores: Sequence[int], blind: bool) -> tuple[list[Outcome], float]:
    """Return the outcomes of one data set, and the share that the gateway still serves: it can turn itself off."""
    with tempfile.TemporaryDirectory(prefix="hasten-bench-") as folder, ExitStack() as stack:
        asked = Asked(data, Path(folder), cores, stack, blind)
        found = asked.isolated() if mode == "isolated" else asked.shared()
        return found, state(asked.running)["semantic"]["share"]


# -- plain cosine


class Cosine:
    """The nearest stored question of each pair's ``b`` by cosine alone, judged like the gateway's hits."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Any] = {}

    def vectors(self, items: Sequence[Messages]) -> Any:
        """Return the unit vectors of ``items`` as rows."""
        for messages in items:
            key = form(messages)
            if key not in self._known:
                text = messages[0]["content"] if len(messages) == 1 else key[-LETTERS:]
                self._known[key] = self._embedder([text])[0]
        return np.array([self._known[form(messages)] for messages in items])

    def nearest(self, pairs: Sequence[Pair], labels: Labels, mode: Mode) -> list[tuple[float, Outcome]]:
        """Return for each pair the cosine of what would be served, and what that would be worth."""
        asked = self.vectors([pair.b for pair in pairs])
        stored = [pair.a for pair in pairs]
        if mode == "isolated":
            at = np.arange(len(pairs))
            scores = (asked * self.vectors(stored)).sum(1)
        else:
            stored = distinct(stored)
            table = asked @ self.vectors(stored).T
            at = table.argmax(1)
            scores = table.max(1)
        found = []
        for pair, i, score in zip(pairs, at.tolist(), scores.tolist(), strict=True):
            served = form(stored[i])
            found.append((score, Outcome(pair, "cosine", judge(served, pair, labels), served)))
        return found


def at_threshold(scored: Sequence[tuple[float, Outcome]], threshold: float) -> Tally:
    """Return what a cache with this threshold on the cosine would have done."""
    return Tally([o if score >= threshold else o._replace(verdict="") for score, o in scored])


# -- the result


def row(name: str, tally: Tally, timed: bool = True) -> str:
    """Return a line of the table."""
    hit, miss = (
        f"{stats.p50:.1f} / {stats.p99:.1f}" if stats is not None and timed else ""
        for stats in (tally.hit_ms, tally.miss_ms)
    )
    counts = (tally.pairs, tally.hits, tally.right, tally.hits - tally.right, tally.other, tally.held)
    cells = [name, *(f"{n:,}" for n in counts), str(tally.recall), str(tally.wrong), hit, miss]
    return "| " + " | ".join(cells) + " |"


def compare(
    name: str, mode: Mode, outcomes: list[Outcome], scored: list[tuple[float, Outcome]]
) -> dict[str, Any]:
    """Print the lines of one data set and return its figures."""
    tally = Tally(outcomes)
    best = best_threshold([(score, o.verdict == "right") for score, o in scored], 0.01)
    plain = at_threshold(scored, 0.9)
    print(row(f"{name}, {mode}: hasten", tally))
    print(row("cosine ≥ 0.9", plain, timed=False))
    made = {
        "hasten": tally.as_json(),
        "cosine_0.9": plain.as_json(),
        "cosine_best": None,
        "best_threshold": best,
    }
    if best is None:
        print(f"| cosine: no threshold keeps 1% |{' |' * len(COLUMNS)}", flush=True)
    else:
        at_best = at_threshold(scored, best)
        print(row(f"cosine ≥ {best:.3f}, best here", at_best, timed=False), flush=True)
        made["cosine_best"] = at_best.as_json()
    return made


def explain(name: str, tally: Tally, examples: int) -> None:
    """Tell what the table does not: traps, reasons, and whose answers were served instead."""
    traps = ", ".join(f"{trap} {share.k} of {share.n}" for trap, share in tally.traps.items())
    say(f"{name}: wrong per trap: {traps or 'none'}")
    say(f"{name}: kinds: {dict(tally.kinds)}; why not: {dict(tally.whys.most_common(8))}")
    for served, asked in tally.others[:examples]:
        say(f"{name}: other: {asked[-160:]!r} got the answer to {served[-160:]!r}")


def run(args: argparse.Namespace, cores: Sequence[int]) -> dict[str, Any]:
    """Measure all that was asked for; print the table as it comes."""
    path = weights.resolve("all-minilm-l6-v2")
    if path is None:
        raise Failed("the embedding model is not here: hasten models pull all-minilm-l6-v2")
    cosine = Cosine(Embedder(path))
    made: dict[str, Any] = {}
    print("| | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS), flush=True)
    for name in args.only:
        whole, *parts = cache_data.read(args.data, name, args.sample, args.limit)
        for mode in args.modes:
            outcomes, share = measure(whole, mode, cores, args.blind)
            if share < 1:
                say(f"{name}, {mode}: the semantic cache turned itself down to {share:g}")
            scored = cosine.nearest(whole.pairs, whole.labels, mode)
            key = f"{name}, {mode}"
            made[key] = compare(name, mode, outcomes, scored) | {"share_at_end": share}
            explain(key, Tally(outcomes), args.examples)
            for part, start in zip(parts, (0, 1), strict=False):
                made[f"{part.name}, {mode}"] = compare(part.name, mode, outcomes[start::2], scored[start::2])
    return made


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="see bench/cache_data.py")
    parser.add_argument(
        "--only", default=",".join(cache_data.FILES), metavar="A,B", help="default all: %(default)s"
    )
    parser.add_argument("--modes", default=",".join(MODES), metavar="A,B", help="default both: %(default)s")
    parser.add_argument("--sample", type=int, default=2000, help="pairs of qqp (default 2000)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many pairs of each set")
    parser.add_argument(
        "--blind",
        action="store_true",
        help="answers that tell nothing: it neither learns nor turns itself off",
    )
    parser.add_argument("--examples", type=int, default=3, help="of answers to other questions (default 3)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="FOLDER")
    args = parser.parse_args()
    args.only, args.modes = args.only.split(","), args.modes.split(",")
    if not set(args.only) <= set(cache_data.FILES) or not set(args.modes) <= set(MODES):
        parser.error(f"--only takes {', '.join(cache_data.FILES)}, --modes {', '.join(MODES)}")
    missing = [
        cache_data.FILES[name] for name in args.only if not (args.data / cache_data.FILES[name]).exists()
    ]
    if missing:
        say(f"not in {args.data}: {', '.join(missing)}. Where to get them:\n{cache_data.__doc__}")
        return 2
    made: dict[str, Any] = {}
    code = attempt(lambda: made.update(run(args, sorted(os.sched_getaffinity(0))[:2])))
    if code:
        return code
    settings = {
        "sample": args.sample,
        "limit": args.limit,
        "sets": args.only,
        "modes": args.modes,
        "blind": args.blind,
    }
    tree = {
        "schema": "hasten.cache-quality/1",
        "environment": environment(),
        "settings": settings,
        "sets": made,
    }
    name = f"cache-quality-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    say(f"written to {write(args.out, name, json.dumps(tree, indent=2) + chr(10))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
