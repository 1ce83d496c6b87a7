"""What a dial is worth: those it acted on against those held back, from counts of all workers.

Who is acted on is drawn by a hash, so the two sides differ by the dial alone, and the difference of their means is its
effect. Two things make the interval too narrow: a conversation's requests fall on one side together, and so do
repetitions of one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hasten.measure.registry import Key

#: What is measured of a routed request. ``cost``: in the prices' currency; ``feedback``: the clients' score, 0 to 1.
MEASURES = ("e2e_seconds", "ttft_seconds", "cost", "feedback")
SIDES = ("act", "holdback", "off")
MOMENTS = "hasten_route_measured_total"
#: What :func:`route` needs of the metrics: their names begin so.
PREFIX = "hasten_route_"
FEW = 3  # observations that a side needs for an interval
_Z = 1.959964  # the normal distribution's 0.975 quantile


class Moments(NamedTuple):
    """A number of observations, their sum and the sum of their squares."""

    n: float = 0.0
    sum: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """The mean; 0 for none."""
        return self.sum / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """The unbiased variance; 0 for fewer than two."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.squares - self.sum * self.sum / self.n) / (self.n - 1))


class Difference(NamedTuple):
    """An estimate with its 95% interval."""

    lower: float
    estimate: float
    upper: float


def t_quantile(df: float) -> float:
    """Return the 0.975 quantile of Student's t, ``df`` >= 2: Cornish and Fisher's expansion (Abramowitz and Stegun
    1964, 26.7.5), within 1%."""
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / df ** (i + 1) for i, term in enumerate(terms))


def welch(one: Moments, other: Moments) -> Difference | None:
    """Return the difference of two means whose variances differ (Welch 1947); ``None`` for too few observations.

    ::

        d = m1 - m2,    v = s1^2/n1 + s2^2/n2,    d +- t(0.975, df) sqrt(v)
        df = v^2 / ((s1^2/n1)^2/(n1 - 1) + (s2^2/n2)^2/(n2 - 1))
    """
    if min(one.n, other.n) < FEW:
        return None
    first, second = one.variance / one.n, other.variance / other.n
    both = first + second
    estimate = one.mean - other.mean
    if both <= 0.0:
        return Difference(estimate, estimate, estimate)
    df = both * both / (first * first / (one.n - 1) + second * second / (other.n - 1))
    half = t_quantile(df) * math.sqrt(both)
    return Difference(estimate - half, estimate, estimate + half)


def moments(series: Mapping[Key, list[float]]) -> dict[str, dict[str, dict[str, Moments]]]:
    """Return what was counted: by routed name, measure and side."""
    found: dict[str, dict[str, dict[str, Moments]]] = {}
    for (family, labels), (value, *_) in series.items():
        if family == MOMENTS:
            model, side, measure, moment = labels
            sides = found.setdefault(model, {}).setdefault(measure, {})
            field = {"count": "n"}.get(moment, moment)
            sides[side] = sides.get(side, Moments())._replace(**{field: value})
    return found


def route_effect(series: Mapping[Key, list[float]]) -> dict[Key, list[float]]:
    """Return the series of ``hasten_route_effect``: act - holdback, where both sides have been seen often enough."""
    made: dict[Key, list[float]] = {}
    for model, measures in moments(series).items():
        for measure, sides in measures.items():
            difference = welch(sides.get("act", Moments()), sides.get("holdback", Moments()))
            if difference is not None:
                for bound, value in difference._asdict().items():
                    made["hasten_route_effect", (model, measure, bound)] = [value]
    return made


def route(series: Mapping[Key, list[float]]) -> dict[str, dict[str, Any]]:
    """Return all workers' counts of each routed name, as plain values for the admin's page.

    ``requests``: by tier and reason; ``measured``: by measure and side, ``n`` and ``mean``; ``effect``: by measure,
    act - holdback, with ``saved``: what that makes over all requests that were acted on.
    """
    made: dict[str, dict[str, Any]] = {}

    def of(model: str) -> dict[str, Any]:
        return made.setdefault(model, {"requests": {}, "measured": {}, "effect": {}, "feedback": {}})

    for (family, labels), (value, *_) in series.items():
        if family == "hasten_route_requests_total":
            model, tier, reason = labels
            of(model)["requests"].setdefault(tier, {})[reason] = value
        elif family == "hasten_route_feedback_total":
            model, tier, verdict = labels
            of(model)["feedback"].setdefault(tier, {})[verdict] = value
    for model, measures in moments(series).items():
        for measure, sides in measures.items():
            of(model)["measured"][measure] = {
                side: {"n": m.n, "mean": m.mean} for side, m in sides.items() if m.n
            }
            act = sides.get("act", Moments())
            difference = welch(act, sides.get("holdback", Moments()))
            if difference is not None:
                shown = {**difference._asdict(), "saved": -difference.estimate * act.n}
                of(model)["effect"][measure] = shown
    return made
