"""Fits a sparse logistic regression, and tells what it is worth. Needs numpy only.

::

    minimise  1/n sum log(1 + exp(-y z)) + penalty sum |w|,      z = b + w (x - mean) / deviation

by FISTA (Beck and Teboulle 2009); the bias is free.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.route.check import Reading, features

Array = NDArray[np.float64]
PENALTIES = (0.006, 0.012, 0.024)
ROUNDS = 200


class Data:
    """``x``: features, a row an answer; ``bare``: the same answers without the marks of the data's format; ``wrong``:
    1 where the weak answer is; ``gap``: strong - weak score."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.names = list(features(Reading("", "")))
        self.x = self._features(rows, str)
        self.bare = self._features(rows, bare)
        weak = np.array([float(row["weak"]) for row in rows])
        strong = np.array([float(row["strong"]) for row in rows])
        self.gap: Array = strong - weak
        self.weak, self.strong = weak, strong
        self.wrong: Array = (weak < 0.5).astype(float)

    def _features(self, rows: list[dict[str, Any]], form: Callable[[str], str]) -> Array:
        found = [features(Reading(row["prompt"], form(row["weak_response"]))) for row in rows]
        return np.array([[f[name] for name in self.names] for f in found])

    def train(self, rows: NDArray[np.intp], penalty: float) -> Model:
        """Return the model of these rows, each in both forms."""
        x = np.vstack([self.x[rows], self.bare[rows]])
        return Model(x, np.tile(self.wrong[rows], 2), penalty)


def bare(answer: str) -> str:
    """Return an answer without GSM8K's marks, as most models write it: no ``<<2*3=6>>``, no ``#### 6``."""
    return re.sub(r"<<[^<>]*>>", "", re.sub(r"\n*####[^\n]*\s*$", "", answer))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file (JSON lines, gzip) that have a weak answer's text."""
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row.get("weak_response") and row.get("source") == "gsm8k"]


class Model:
    """``bias``, ``weights`` of the raw features, and the bounds to which a feature is cut."""

    def __init__(self, x: Array, y: Array, penalty: float) -> None:
        self.low, self.high = x.min(0), x.max(0)
        mean, deviation = x.mean(0), x.std(0)
        deviation[deviation < 1e-9] = np.inf
        z = (x - mean) / deviation
        w, b = _fista(z, y, penalty)
        self.weights: Array = w / deviation
        self.bias = float(b - (w * mean / deviation).sum())

    def score(self, x: Array) -> Array:
        """Return the probabilities."""
        logits = np.clip(x, self.low, self.high) @ self.weights + self.bias
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def _fista(z: Array, y: Array, penalty: float) -> tuple[Array, float]:
    n, d = z.shape
    design = np.hstack([z, np.ones((n, 1))])
    step = 4.0 * n / np.linalg.norm(design, 2) ** 2
    threshold = step * penalty * np.append(np.ones(d), 0.0)
    w = ahead = np.zeros(d + 1)
    t = 1.0
    for _ in range(ROUNDS):
        slope = design.T @ (1.0 / (1.0 + np.exp(-(design @ ahead))) - y) / n
        moved = ahead - step * slope
        following = np.sign(moved) * np.maximum(np.abs(moved) - threshold, 0.0)
        t_next = (1.0 + np.sqrt(1.0 + 4.0 * t * t)) / 2.0
        ahead = following + (t - 1.0) / t_next * (following - w)
        w, t = following, t_next
    return w[:-1], float(w[-1])


# -- worth


def apgr(score: Array, gap: Array) -> float:
    """Return the area under the recovered share of the gap, over the share sent to the strong model by ``score``."""
    order = np.argsort(-score, kind="stable")
    recovered = np.concatenate([[0.0], np.cumsum(gap[order])]) / gap.sum()
    return float(((recovered[1:] + recovered[:-1]) / 2).mean())


def mean_apgr(scores: list[Array], gap: Array, rows: NDArray[np.intp]) -> float:
    """Return the mean APGR of several scores, of these rows."""
    return float(np.mean([apgr(s[rows], gap[rows]) for s in scores]))


def folds(n: int, k: int, seed: int) -> list[NDArray[np.intp]]:
    """Return ``k`` parts of ``range(n)``."""
    return list(np.array_split(np.random.default_rng(seed).permutation(n), k))


def choose(data: Data, rows: NDArray[np.intp], seed: int) -> float:
    """Return the penalty with the least log loss, cross-validated on these rows alone."""
    losses = dict.fromkeys(PENALTIES, 0.0)
    for part in folds(len(rows), 5, seed):
        rest, held = np.setdiff1d(rows, rows[part]), rows[part]
        y = data.wrong[held]
        for penalty in PENALTIES:
            p = np.clip(data.train(rest, penalty).score(data.x[held]), 1e-6, 1 - 1e-6)
            losses[penalty] -= float((y * np.log(p) + (1 - y) * np.log(1 - p)).sum())
    return min(losses, key=lambda penalty: losses[penalty])


def cross_validated(data: Data, repeats: int = 3, k: int = 10) -> tuple[list[Array], list[Array]]:
    """Return scores by models that saw neither a row nor its fold, the penalty chosen within; an array a repeat.

    Of the answers as they are, and of their :func:`bare` form.
    """
    found: tuple[list[Array], list[Array]] = ([], [])
    everyone = np.arange(len(data.wrong))
    for seed in range(repeats):
        scores, of_bare = np.zeros(len(everyone)), np.zeros(len(everyone))
        for part in folds(len(everyone), k, seed):
            rest = np.setdiff1d(everyone, part)
            model = data.train(rest, choose(data, rest, seed))
            scores[part] = model.score(data.x[part])
            of_bare[part] = model.score(data.bare[part])
        found[0].append(scores)
        found[1].append(of_bare)
    return found


def interval(of: Callable[[NDArray[np.intp]], float], n: int, times: int = 2000) -> tuple[float, float]:
    """Return the 95% bootstrap interval (percentile) of a figure of resampled rows."""
    random = np.random.default_rng(0)
    values = [of(random.integers(0, n, n)) for _ in range(times)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
