"""A deployment's own router: a logistic layer upon the frozen one, fitted on its own traffic in plain Python.

A row is a prompt and its gain: how much better the strong tier answered than the small one, -1..1. The layer starts as
the frozen router (weight 1 on its log-odds, 0 on all else) and is drawn back to it, so that a few rows change little.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hasten.errors import SettingsError
from hasten.route.complexity import FILE, QUANTILES, VERSION, Complexity, Layer, Stored, logistic, read
from hasten.route.features import NAMES, features

LEAST = 50  # rows
EPOCHS = 30
PENALTY = 30.0  # as many rows' worth of belief in the frozen router, for each standardised weight
RATE = 0.05

Row = tuple[str, float]


def fit(rows: Sequence[Row], frozen: Complexity | None = None, seed: int = 0) -> Stored:
    """Return a model for ``rows``. Raises :class:`SettingsError` for too few of them, or none with a gain.

    Half a millisecond a row for the features, then about 20 ms a thousand rows and epoch.
    """
    frozen = frozen or Complexity()
    if len(rows) < LEAST:
        raise SettingsError([f"{len(rows)} prompts are too few for a router: it takes {LEAST} at least"])
    inputs = [[*features(text).dense, frozen.log_odds(text)] for text, _ in rows]
    targets = [min(1.0, max(0.0, gain)) for _, gain in rows]
    if not any(targets):
        raise SettingsError(["the strong tier was never better: there is nothing to route by"])
    layer = _start(inputs)
    centred = [layer.standard(row) for row in inputs]
    _descend(layer, centred, targets, random.Random(seed))
    scores = [logistic(_odds(layer, row)) for row in centred]
    return Stored(VERSION, list(NAMES), quantiles(scores), layer=layer)


def save(model: Stored, folder: Path) -> Path:
    """Write a model so that ``Complexity(folder)`` reads it; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(model))
    fresh.replace(path)
    read(folder)
    return path


def apgr(scores: Sequence[float], gains: Sequence[float]) -> float:
    """Return the area under the recovered gap over the share sent to the strong tier, by score; random is 0.5.

    Ong et al., "RouteLLM" (2024), as average performance gap recovered. Equal scores share what they gain. Raises
    :class:`ValueError` where there is no gap.
    """
    total = sum(gains)
    if total <= 0.0:
        raise ValueError("the strong tier is no better on these rows")
    groups: dict[float, list[float]] = {}
    for score, gain in zip(scores, gains, strict=True):
        groups.setdefault(score, []).append(gain)
    area = recovered = 0.0
    for score in sorted(groups, reverse=True):
        gained = sum(groups[score])
        area += len(groups[score]) * (recovered + gained / 2)
        recovered += gained
    return area / (len(gains) * total)


def quantiles(scores: Sequence[float], count: int = QUANTILES) -> list[float]:
    """Return ``count`` scores at even quantiles, the lowest first."""
    ordered = sorted(scores)
    return [ordered[int((i + 0.5) / count * len(ordered))] for i in range(count)]


def _start(inputs: list[list[float]]) -> Layer:
    n = len(inputs)
    columns = list(zip(*inputs, strict=True))
    means = [sum(column) / n for column in columns]
    scales = [
        math.sqrt(sum((value - mean) ** 2 for value in column) / n)
        for column, mean in zip(columns, means, strict=True)
    ]
    scales = [scale if scale > 1e-6 else 1.0 for scale in scales]
    return Layer(means, scales, [0.0] * (len(means) - 1) + [scales[-1]], means[-1])


def _odds(layer: Layer, row: Sequence[float]) -> float:
    return layer.bias + sum(w * x for w, x in zip(layer.weights, row, strict=True))


def _descend(layer: Layer, rows: list[list[float]], targets: list[float], rng: random.Random) -> None:
    """Stochastic gradient descent on the logistic loss, its steps falling, the mean of the last half kept (Polyak)."""
    start = list(layer.weights)
    n = len(rows)
    order = list(range(n))
    pull = PENALTY / n
    kept = [0.0] * len(start)
    bias = 0.0
    for epoch in range(EPOCHS):
        rng.shuffle(order)
        rate = RATE / (1.0 + epoch) / math.sqrt(len(start))
        for i in order:
            row = rows[i]
            wrong = rate * (targets[i] - logistic(_odds(layer, row)))
            layer.weights = [w + wrong * x for w, x in zip(layer.weights, row, strict=True)]
            layer.bias += wrong * len(start)
        # The pull is taken once an epoch, in closed form: it must not overshoot however few rows there are.
        hold = 1.0 / (1.0 + rate * n * pull)
        layer.weights = [s + hold * (w - s) for w, s in zip(layer.weights, start, strict=True)]
        if epoch >= EPOCHS // 2:
            kept = [k + w for k, w in zip(kept, layer.weights, strict=True)]
            bias += layer.bias
    share = 1.0 / (EPOCHS - EPOCHS // 2)
    layer.weights = [k * share for k in kept]
    layer.bias = bias * share
