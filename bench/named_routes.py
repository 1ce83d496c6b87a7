"""How many texts a route by examples leads, of its own intent and of others, by threshold.

    python bench/named_routes.py FILE...

Each file: JSON lines, gzipped or not, with ``text`` and ``intent`` (``oos``: out of scope). Each intent is a route
once.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np

from hasten.cache.semantic.models import Embedder
from hasten.engines import weights

EXAMPLES = (3, 8)
TEXTS = 24  # of an intent: the first are examples, those from the eighth on are asked
OUT_OF_SCOPE = 400
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


class Row(msgspec.Struct):
    """One labelled text."""

    text: str
    intent: str


def sample(path: Path, seed: int) -> list[Row]:
    """Return some of each intent's texts, those of an intent together."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in map(msgspec.json.Decoder(Row).decode, data.splitlines()):
        groups[row.intent].append(row)
    draw = random.Random(seed)
    made: list[Row] = []
    for intent, rows in groups.items():
        made += draw.sample(rows, min(len(rows), OUT_OF_SCOPE if intent == "oos" else TEXTS))
    return made


def measure(rows: list[Row], embed: Embedder) -> None:
    """Print a line for each number of examples and each threshold."""
    vectors = np.stack([embed([row.text])[0] for row in rows])
    labels = np.array([row.intent for row in rows])
    outside = labels == "oos"
    for count in EXAMPLES:
        led: defaultdict[float, list[tuple[float, float, float]]] = defaultdict(list)
        for intent in set(labels) - {"oos"}:
            own = np.flatnonzero(labels == intent)
            near = (vectors @ vectors[own[:count]].T).max(1)
            others = (labels != intent) & ~outside
            for threshold in THRESHOLDS:
                over = near >= threshold
                out = over[outside].mean() if outside.any() else float("nan")
                led[threshold].append((over[own[max(EXAMPLES) :]].mean(), over[others].mean(), out))
        for threshold, shares in led.items():
            own_, others_, out_ = np.mean(shares, axis=0) * 100
            print(
                f"  {count} examples, {threshold}: own {own_:.1f}%, others' {others_:.2f}%, out of scope {out_:.2f}%"
            )


def main() -> None:
    """Measure each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    path = weights.resolve("all-minilm-l6-v2")
    if path is None:
        parser.error("run 'hasten models pull all-minilm-l6-v2' first")
    for file in args.files:
        print(file.name)
        measure(sample(file, args.seed), Embedder(path))


if __name__ == "__main__":
    main()
