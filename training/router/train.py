"""Train the frozen router: two ridge regressions on what a prompt shows, in numpy, on a CPU in minutes.

    python training/router/train.py --data dev.jsonl.gz --out src/hasten/route/model

``--data``: lines of ``source``, ``task``, ``prompt``, ``weak``, ``strong`` (scores 0..1), see README.md. Beside them
the prompts of ``data/`` are taken, whose scores are estimates.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from perturb import perturbed

from hasten.route.complexity import FAR, FILE, VERSION, Complexity, Stored
from hasten.route.features import FORMS, NAMES, Features, features
from hasten.route.fit import apgr, quantiles

HERE = Path(__file__).parent
#: Weight of a row whose scores are estimates: fewer, but of more kinds. Those of contrasts, easy and hard ones of one
#: kind, teach what the benchmarks do not: that the kind is not the difficulty.
WRITTEN = 4.0
CONTRASTS = 1.5
CONTRAST_FILES = ("brief", "craft", "everyday", "knowledge")
#: How much what is left of the gain within its group counts again, by form.
WITHIN = {"choice": 1.0, "story": 0.5, "open": 0.0}
DENSE_PENALTY = 3000.0  # a form's own weights; the common ones are let go further
WORD_PENALTY = 8.0
WORD_SHARE = 1.0
LEAST_TEXTS = 6  # that have a word or pair
STEPS = 40  # of conjugate gradients
#: LLMRouter's rows are sorted by task, which the data does not name: the first row of each.
TASKS = {
    "zebra": 0, "nlgraph": 150, "words": 255, "nq": 405, "trivia": 905, "race": 1405, "gpqa": 1905, "mbpp": 2344,
    "humaneval": 2842, "gsm": 3006, "csqa": 3506, "math": 4006, "obqa": 4503, "arc": 5003,
}  # fmt: skip


class Row(NamedTuple):
    """A prompt with the scores of a weak and a strong model. ``group``: its subject or task."""

    source: str
    group: str
    prompt: str
    weak: float
    strong: float

    @property
    def gain(self) -> float:
        """How much better the strong model answered, -1..1."""
        return self.strong - self.weak


def read_public(path: Path) -> list[Row]:
    """Return the rows of benchmarks."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    starts = sorted((start, name) for name, start in TASKS.items())
    rows, seen = [], 0
    for line in found:
        task = line.get("task") or line["source"]
        if line["source"] == "llmrouter":
            task = [name for start, name in starts if start <= seen][-1]
            seen += 1
        group = f"{line['source']} {task}"
        rows.append(Row(line["source"], group, line["prompt"], float(line["weak"]), float(line["strong"])))
    return rows


def read_written(folder: Path = HERE / "data") -> list[Row]:
    """Return the rows that were written for the project."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        source = "contrast" if path.stem in CONTRAST_FILES else "written"
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            rows.append(Row(source, f"written {line['kind']}", line["prompt"], line["small"], line["large"]))
    return rows


class Table:
    """The features of rows as arrays: fitted on any part of them, in the same columns."""

    def __init__(self, rows: Sequence[Row], seed: int = 0) -> None:
        rng = random.Random(seed)
        self.rows = rows
        self.gain = np.array([row.gain for row in rows])
        weights = {"written": WRITTEN, "contrast": CONTRASTS}
        self.weight = np.array([weights.get(row.source, 1.0) for row in rows])
        plain = [features(row.prompt) for row in rows]
        noisy = [features(perturbed(row.prompt, rng)) for row in rows]
        self.dense = np.array([found.dense for found in plain])
        self.noise = np.array([found.dense for found in noisy]) - self.dense
        self.means = self.dense.mean(0)
        self.scales = np.maximum(self.dense.std(0), 1e-3)
        self.form = np.array([FORMS.index(found.form) for found in plain])
        self.standard = np.clip((self.dense - self.means) / self.scales, -FAR, FAR)
        self.words = Words(plain)
        self.design = self._design()

    def _design(self) -> Any:
        """Return the columns: common ones, then each form's own, and 1 for each form."""
        parts = [self.standard]
        for i in range(len(FORMS) - 1):
            parts.append(self.standard * (self.form == i)[:, None])
        ones = (self.form[:, None] == np.arange(len(FORMS))).astype(float)
        return np.hstack([*parts, ones]).astype(np.float32)

    def within(self) -> Any:
        """Return the gains less their mean in the row's group, by the share of its form."""
        names = [row.group.split()[1] if row.group.startswith("written") else row.group for row in self.rows]
        _, group = np.unique(names, return_inverse=True)
        mean = np.bincount(group, self.gain) / np.bincount(group)
        share = np.array([WITHIN[form] for form in FORMS])[self.form]
        return share * (self.gain - mean[group])


class Words:
    """Which words and pairs each row has, as the places of ones in a sparse matrix, weighed by tf-idf."""

    def __init__(self, found: Sequence[Features]) -> None:
        grams = [text.grams() for text in found]
        counts = Counter(gram for row in grams for gram in row)
        self.names = sorted(gram for gram, n in counts.items() if n >= LEAST_TEXTS)
        place = {gram: i for i, gram in enumerate(self.names)}
        columns = [sorted(place[gram] for gram in row if gram in place) for row in grams]
        self.idf = np.log(len(found) / np.array([counts[gram] for gram in self.names]))
        self.column = np.array([i for row in columns for i in row])
        self.row = np.repeat(np.arange(len(found)), [len(row) for row in columns])
        self.n = len(found)
        norm = np.sqrt(np.bincount(self.row, self.idf[self.column] ** 2, self.n))
        self.value = self.idf[self.column] / np.maximum(norm, 1e-9)[self.row]

    def times(self, weights: Any) -> Any:
        """Return the matrix times a vector of the words."""
        return np.bincount(self.row, self.value * weights[self.column], self.n)

    def back(self, errors: Any) -> Any:
        """Return the transposed matrix times a vector of the rows."""
        return np.bincount(self.column, self.value * errors[self.row], len(self.names))

    def fit(self, target: Any, weight: Any, penalty: float = WORD_PENALTY) -> Any:
        """Return the weights of the ridge regression, by conjugate gradients (Hestenes and Stiefel 1952)."""
        weights = np.zeros(len(self.names))
        left = self.back(weight * target)
        way, size = left.copy(), left @ left
        for _ in range(STEPS):
            ahead = self.back(weight * self.times(way)) + penalty * way
            step = size / (way @ ahead)
            weights += step * way
            left -= step * ahead
            size, before = left @ left, size
            way = left + size / before * way
        return weights


class Model(NamedTuple):
    """The weights of the dense columns and of the words."""

    dense: Any
    words: Any

    def raw(self, table: Table) -> Any:
        """Return the expected gain of each row."""
        return table.design @ self.dense + WORD_SHARE * table.words.times(self.words)


def fit(table: Table, rows: Any) -> Model:
    """Return the model of those rows (a mask)."""
    weight = table.weight * rows
    design = table.design
    inputs = len(NAMES)
    penalty = np.repeat([DENSE_PENALTY] * len(FORMS) + [1.0], [inputs] * len(FORMS) + [len(FORMS)])[
        : design.shape[1]
    ]
    gram = design.T @ (design * weight[:, None].astype(np.float32)) + np.diag(penalty)
    # What a harmless change moves must not count: noise in the inputs is a penalty (Bishop 1995).
    noise = table.noise / table.scales
    gram[:inputs, :inputs] += noise.T @ (noise * weight[:, None])
    within = table.within()
    dense = np.linalg.solve(gram, design.T @ (weight * (table.gain + within)))
    mean = np.average(table.gain, weights=weight)
    return Model(dense, table.words.fit(table.gain - mean + within, weight))


def folds(rows: Sequence[Row], source: str, count: int) -> list[Any]:
    """Return masks of the rows to hold back together: whole groups of a source, in about even parts."""
    sizes = Counter(row.group for row in rows if row.source == source)
    parts: list[set[str]] = [set() for _ in range(min(count, len(sizes)))]
    held = [0] * len(parts)
    for group, size in sizes.most_common():
        least = held.index(min(held))
        parts[least].add(group)
        held[least] += size
    return [np.array([row.group in part for row in rows]) for part in parts]


def held_back(table: Table, count: int = 5) -> Any:
    """Return each row's expected gain by a model that saw nothing of its group."""
    raw = np.zeros(len(table.rows))
    for source in dict.fromkeys(row.source for row in table.rows):
        for part in folds(table.rows, source, count if source not in ("written", "contrast") else 2):
            raw[part] = fit(table, ~part).raw(table)[part]
    return raw


def calibrate(raw: Any, gain: Any, weight: Any) -> tuple[float, float]:
    """Return the line from expected gain to log-odds (Platt 1999), by Newton's steps on the logistic loss."""
    target = np.clip(gain, 0.0, 1.0)
    columns = np.stack([np.ones_like(raw), raw], 1)
    line = np.zeros(2)
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-columns @ line))
        slope = columns.T @ (weight * (target - p))
        line += np.linalg.solve(columns.T @ (columns * (weight * p * (1 - p))[:, None]), slope)
    return float(line[0]), float(line[1])


def stored(table: Table, model: Model, line: tuple[float, float], prior: list[float]) -> Stored:
    """Return the model as it is shipped, its values rounded."""
    bias, slope = line
    inputs = len(NAMES)
    common = model.dense[:inputs]
    weights, biases = {}, {}
    for i, form in enumerate(FORMS):
        own = model.dense[inputs * (i + 1) : inputs * (i + 2)] if i < len(FORMS) - 1 else 0.0
        weights[form] = [round(float(w), 5) for w in slope * (common + own)]
        biases[form] = round(float(bias + slope * model.dense[inputs * len(FORMS) + i]), 5)
    idf = table.words.idf
    terms = np.rint(1000 * slope * WORD_SHARE * model.words * idf).astype(int).tolist()
    norms = np.rint(1000 * idf**2).astype(int).tolist()
    words = {gram: (term, norm) for gram, term, norm in zip(table.words.names, terms, norms, strict=True)}
    return Stored(
        VERSION,
        list(NAMES),
        prior,
        [round(float(v), 6) for v in table.means],
        [round(float(v), 6) for v in table.scales],
        weights,
        biases,
        words,
    )


def main() -> None:
    """Train, calibrate on rows held back, write the model and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    table = Table([*read_public(args.data), *read_written()])
    raw = held_back(table)
    sources = np.array([row.source for row in table.rows])
    for source in dict.fromkeys(sources):
        at = sources == source
        print(f"{source}: APGR {apgr(raw[at].tolist(), table.gain[at].tolist()):.3f} by groups held back")
    bias, slope = calibrate(raw, table.gain, table.weight)
    prior = quantiles([round(float(p), 4) for p in 1 / (1 + np.exp(-(bias + slope * raw)))])
    model = stored(table, fit(table, np.ones(len(raw), bool)), (bias, slope), prior)
    (args.out / FILE).write_bytes(msgspec.json.encode(model) + b"\n")
    scores = [Complexity(args.out).score(row.prompt) for row in table.rows[:: max(1, len(raw) // 500)]]
    print(
        f"{args.out / FILE}: {(args.out / FILE).stat().st_size:,} bytes, scores {min(scores):.3f}..{max(scores):.3f}"
    )


if __name__ == "__main__":
    main()
