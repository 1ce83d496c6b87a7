"""What is believed of one entry: how often its answer would be wrong for another wording.

The calibrated verifier gives the same limit to all entries. Some questions have more dangerous neighbours than others,
so each entry learns from what was seen of it: fresh answers to wordings it could have served (cf. vCache, Schroeder et
al. 2025, which learns a limit an embedding).

::

    P(wrong | score s) = sigma(a - b s + theta),   theta ~ N(0, tau^2)      theta: the entry's own risk

theta's posterior after marks (s_i, right_i) is taken as normal about its mode (Laplace). An entry is served at score
s if

::

    a - b s + mean + z (sd - tau) <= a - b t,      t: the limit for all

so that without marks the limit is t; right marks lower it (at most by :data:`MOST` logits), wrong ones raise it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hasten.cache.entry import Mark

TAU = 1.0  # how different entries are, logits
Z = 1.64  # one-sided 95%
MOST = 1.0  # how far right marks may lower the limit, logits
KEPT = 32  # marks kept for each entry, the newest


class Belief:
    """The common curve: ``a`` and ``b`` of P(wrong | s)."""

    __slots__ = ("a", "b")

    def __init__(self, a: float, b: float) -> None:
        self.a = a
        self.b = b

    def shift(self, marks: Sequence[Mark]) -> float:
        """Return by how much the limit on the score moves for an entry with ``marks``; > 0: stricter."""
        if not marks:
            return 0.0
        theta = 0.0
        precision = 1.0 / TAU**2
        for _ in range(8):  # Newton's method on a concave function of one number
            slope = -theta / TAU**2
            precision = 1.0 / TAU**2
            for score, right in marks:
                wrong = _sigmoid(self.a - self.b * score + theta)
                slope += (0.0 if right else 1.0) - wrong
                precision += wrong * (1.0 - wrong)
            step = slope / precision
            theta += step
            if abs(step) < 1e-6:
                break
        risk = theta + Z * (1.0 / math.sqrt(precision) - TAU)
        return max(risk, -MOST) / self.b


def learn(marks: tuple[Mark, ...], mark: Mark) -> tuple[Mark, ...]:
    """Return ``marks`` with one more; wrong ones are forgotten last."""
    kept = (*marks, mark)
    if len(kept) > KEPT:
        oldest = next((m for m in kept if m[1]), kept[0])
        kept = tuple(m for m in kept if m is not oldest)
    return kept


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -500 else 0.0
