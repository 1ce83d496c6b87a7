"""How well the frozen router tells prompts for the small tier from prompts for the strong one, and what it costs.

Quality: the router is fitted anew without whole groups (subjects of MMLU, tasks of LLMRouter, all of GSM8K) and ranks
the prompts held back. APGR is the area under the recovered gap over the share sent to the strong tier (random: .5);
CPT50 and CPT80 are the smallest shares that recover 50% and 80% of the gap. Intervals: 95%, bootstrap over prompts.
Beside it stand random, the prompt's length, and TF-IDF with ridge regression on the gain, held back alike, if
scikit-learn is there. Then the stability of the tier at half share under harmless changes, and time and memory of the
router as shipped.

``--data``: see training/router/README.md. Needs numpy.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from command import attempt, say
from processes import Failed
from results import write

from hasten.bench.report import environment
from hasten.route.complexity import Complexity
from hasten.route.fit import quantiles

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training" / "router"))

import perturb  # noqa: E402
import train  # noqa: E402

DRAWS = 1000
TOKENS = (10, 200, 2000)
LETTERS_PER_TOKEN = 4.2
LOADED = """
import re, time
import hasten.errors, msgspec
def size(): return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, start = size(), time.process_time()
from hasten.route.complexity import Complexity
Complexity().score("warm")
print((time.process_time() - start) * 1e3, size() - before)
"""


# -- quality


def figures(score: Any, gain: Any) -> tuple[float, float, float]:
    """Return APGR, CPT50 and CPT80 of one ranking; equal scores stay as they came."""
    recovered = np.cumsum(gain[np.argsort(-score, kind="stable")]) / gain.sum()
    before = np.concatenate([[0.0], recovered[:-1]])
    shares = [float(np.argmax(recovered >= part) + 1) / len(gain) for part in (0.5, 0.8)]
    return float(((before + recovered) / 2).mean()), shares[0], shares[1]


def intervals(score: Any, gain: Any, seed: int = 0) -> list[dict[str, float]]:
    """Return each figure with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        at = rng.integers(0, len(gain), len(gain))
        if gain[at].sum() > 0:
            drawn.append(figures(score[at], gain[at]))
    low, high = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    values = figures(score, gain)
    return [
        {"value": v, "low": float(a), "high": float(b)} for v, a, b in zip(values, low, high, strict=True)
    ]


def tf_idf(table: train.Table) -> Any | None:
    """Return the gains that TF-IDF and ridge regression expect, by the same groups held back."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
    except ImportError:
        return None
    public = np.array([row.source != "written" for row in table.rows])
    prompts = [row.prompt for row in table.rows]
    columns = TfidfVectorizer(min_df=3, ngram_range=(1, 2), sublinear_tf=True).fit_transform(prompts)
    expected = np.zeros(len(prompts))
    for source in ("mmlu", "llmrouter", "gsm8k"):
        for part in train.folds(table.rows, source, 5):
            rest = public & ~part
            fitted = Ridge(8.0, solver="sparse_cg", max_iter=60).fit(columns[rest], table.gain[rest])
            expected[part] = fitted.predict(columns[part])
    return expected


def quality(table: train.Table, mine: Any) -> dict[str, Any]:
    """Print the table of all rankings and return its figures."""
    sources = np.array([row.source for row in table.rows])
    rankings = {
        "hasten": mine,
        "random": np.random.default_rng(0).random(len(mine)),
        "length": np.array([float(len(row.prompt)) for row in table.rows]),
    }
    other = tf_idf(table)
    if other is None:
        say("no scikit-learn: TF-IDF is left out")
    else:
        rankings["TF-IDF"] = other
    made: dict[str, Any] = {}
    print("| set | prompts | ranked by | APGR | CPT50 | CPT80 |\n|---|---:|---|---:|---:|---:|")
    for source in ("mmlu", "gsm8k", "llmrouter"):
        at = sources == source
        for name, score in rankings.items():
            found = intervals(score[at], table.gain[at])
            made[f"{source}, {name}"] = dict(zip(("apgr", "cpt50", "cpt80"), found, strict=True))
            cells = [f"{f['value']:.3f} [{f['low']:.3f}, {f['high']:.3f}]" for f in found]
            print(f"| {source} | {at.sum():,} | {name} | " + " | ".join(cells) + " |", flush=True)
    return made


# -- stability


def stability(rows: Sequence[train.Row], count: int) -> dict[str, float]:
    """Return for each kind of change the share of prompts that stay on their side of the middle score of their set."""
    router = Complexity()
    kept: dict[str, list[bool]] = {}
    for source in dict.fromkeys(row.source for row in rows):
        rng = random.Random(source)
        prompts = [row.prompt for row in rows if row.source == source]
        prompts = rng.sample(prompts, min(count, len(prompts)))
        scores = [router.score(prompt) for prompt in prompts]
        middle = median(scores)
        for kind, change in perturb.KINDS.items():
            for prompt, score in zip(prompts, scores, strict=True):
                same = (router.score(change(prompt, rng)) > middle) == (score > middle)
                kept.setdefault(kind, []).append(same)
                kept.setdefault(source, []).append(same)
    found = {name: sum(same) / len(same) for name, same in kept.items()}
    found["all"] = sum(found[kind] for kind in perturb.KINDS) / len(perturb.KINDS)
    print("| kept its tier | share |\n|---|---:|")
    for name, share in found.items():
        print(f"| {name} | {share:.1%} |", flush=True)
    return found


# -- cost


def cost(rows: Sequence[train.Row], times: int = 1000) -> dict[str, Any]:
    """Print and return CPU milliseconds a prompt, what loading takes, and the spread of the scores."""
    router = Complexity()
    text = "\n".join(row.prompt for row in random.Random(0).sample(list(rows), 400))
    made: dict[str, Any] = {}
    print("| tokens | p50 ms | p99 ms |\n|---:|---:|---:|")
    for tokens in TOKENS:
        size = int(tokens * LETTERS_PER_TOKEN)
        taken = []
        for i in range(times):
            at = i * 97 % (len(text) - size)
            start = time.process_time()
            router.score(text[at : at + size])
            taken.append((time.process_time() - start) * 1e3)
        spread = quantiles(taken, 100)
        made[str(tokens)] = {"p50_ms": spread[50], "p99_ms": spread[99]}
        print(f"| {tokens:,} | {spread[50]:.3f} | {spread[99]:.3f} |", flush=True)
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    load, memory = map(float, said.split())
    print(f"load {load:.0f} ms of CPU time, {memory:.1f} MiB more in memory")
    return made | {"load_ms": load, "memory_mib": memory}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all; print the tables as they come."""
    if not args.data.exists():
        raise Failed(f"not there: {args.data}. Where to get it: training/router/README.md")
    rows = [*train.read_public(args.data), *train.read_written()]
    public = [row for row in rows if row.source != "written"]
    made: dict[str, Any] = {"cost": cost(public), "stability": stability(public, args.sample)}
    if not args.quick:
        table = train.Table(rows)
        made["quality"] = quality(table, train.held_back(table))
    say(f"peak of this program {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    return made


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="dev.jsonl.gz")
    parser.add_argument(
        "--sample", type=int, default=500, metavar="N", help="prompts a set for the stability"
    )
    parser.add_argument("--quick", action="store_true", help="only cost and stability")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="FOLDER")
    args = parser.parse_args()
    made: dict[str, Any] = {}
    code = attempt(lambda: made.update(run(args)))
    if code:
        return code
    tree = {"schema": "hasten.route-quality/1", "environment": environment(), **made}
    name = f"route-quality-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    say(f"written to {write(args.out, name, json.dumps(tree, indent=2) + chr(10))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
