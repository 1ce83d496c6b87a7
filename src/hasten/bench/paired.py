"""A against B on a machine that drifts: short alternating rounds, ratios within each pair of rounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from math import exp, isfinite, log

import msgspec

from hasten.bench.stats import Stats, Summary, quantile


def schedule(pairs: int) -> Iterator[tuple[int, int]]:
    """Yield (pair, side) for A B B A A B B A ...: a steady drift weighs on both sides alike. A is 0, B is 1."""
    for pair in range(pairs):
        sides = (0, 1) if pair % 2 == 0 else (1, 0)
        for side in sides:
            yield pair, side


class Ratio(msgspec.Struct, frozen=True):
    """A/B of one metric over ``pairs`` pairs of rounds; ``low`` and ``high`` bound it (see :func:`ratio`)."""

    estimate: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(
    pairs: Sequence[tuple[float, float]],
    rng: random.Random,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Ratio | None:
    """Return the ratio A/B with its percentile-bootstrap interval.

    ::

        ratio = exp(mean over pairs of log(a / b))          (the geometric mean: B/A is its inverse)

    The pairs are what is resampled, never the requests: those within a round are not independent (Efron &
    Tibshirani, "An Introduction to the Bootstrap", chapter 13). With few pairs the interval is somewhat narrow.
    ``None`` with fewer than two pairs of positive values.
    """
    logs = [log(a / b) for a, b in pairs if a > 0 and b > 0 and isfinite(a) and isfinite(b)]
    if len(logs) < 2:
        return None
    n = len(logs)
    means = sorted(sum(rng.choices(logs, k=n)) / n for _ in range(resamples))
    tail = (1 - confidence) / 2
    middle = sum(logs) / n
    low, high = quantile(means, tail), quantile(means, 1 - tail)
    return Ratio(exp(middle), exp(min(low, middle)), exp(max(high, middle)), n)


def _of(field: str, figure: str) -> Callable[[Summary], float | None]:
    def get(summary: Summary) -> float | None:
        stats: Stats | None = getattr(summary, field)
        return None if stats is None else float(getattr(stats, figure))

    return get


#: What is compared, in the order shown.
METRICS: dict[str, Callable[[Summary], float | None]] = {
    "TTFT p50": _of("ttft_ms", "p50"),
    "TTFT p95": _of("ttft_ms", "p95"),
    "TPOT p50": _of("tpot_ms", "p50"),
    "ITL p99": _of("itl_ms", "p99"),
    "E2E p50": _of("e2e_ms", "p50"),
    "E2E p95": _of("e2e_ms", "p95"),
    "requests/s": lambda s: s.requests_per_s,
    "output tokens/s": lambda s: s.output_tokens_per_s,
    "goodput": lambda s: s.goodput_per_s,
}


def compare(a: Sequence[Summary], b: Sequence[Summary], seed: int) -> dict[str, Ratio]:
    """Return A/B of every metric that both sides have; ``a`` and ``b`` hold one summary a round, in pairs."""
    ratios = {}
    for name, get in METRICS.items():
        both = ((get(x), get(y)) for x, y in zip(a, b, strict=False))
        found = ratio([(x, y) for x, y in both if x is not None and y is not None], random.Random(seed))
        if found is not None:
            ratios[name] = found
    return ratios
