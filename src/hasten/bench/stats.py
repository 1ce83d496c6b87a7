"""From records to figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from hasten.bench.record import Record
from hasten.bench.slo import Slo


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the ``q`` quantile (0..1) of values in ascending order, linear between neighbours.

    Definition 7 of Hyndman & Fan (1996), the usual default. Raises :class:`ValueError` if there are none.
    """
    if not ordered:
        raise ValueError("no values")
    if not 0 <= q <= 1:
        raise ValueError(f"q must be in [0, 1], got {q}")
    at = q * (len(ordered) - 1)
    low = int(at)
    if low + 1 >= len(ordered):
        return ordered[-1]
    below, above = ordered[low], ordered[low + 1]
    return min(below + (above - below) * (at - low), above)


class Stats(msgspec.Struct, frozen=True):
    """A distribution in a line."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


def describe(values: Iterable[float | None], scale: float = 1.0) -> Stats | None:
    """Return the :class:`Stats` of ``values`` times ``scale``; ``None`` values are left out."""
    ordered = sorted(v * scale for v in values if v is not None)
    if not ordered:
        return None
    mean = min(max(sum(ordered) / len(ordered), ordered[0]), ordered[-1])
    p50, p90, p95, p99 = (quantile(ordered, q) for q in (0.5, 0.9, 0.95, 0.99))
    return Stats(len(ordered), mean, p50, p90, p95, p99, ordered[-1])


class Summary(msgspec.Struct, frozen=True):
    """A run in figures. Latencies are those of requests that succeeded; ``_ms``: milliseconds.

    ``otps``: output tokens/s of each request; ``output_tokens_per_s``: of all together. ``lag_ms``: how late the
    load generator itself sent (open loop); it is part of the latencies. ``tokens_from``: ``usage`` (as the target
    reports), ``events`` (counted here) or ``mixed``.
    """

    wall_s: float
    requests: int
    ok: int
    failed: int
    errors: dict[str, int]
    requests_per_s: float
    output_tokens: int
    output_tokens_per_s: float
    tokens_from: str | None
    goodput_per_s: float | None
    goodput_share: float | None
    ttft_ms: Stats | None
    tpot_ms: Stats | None
    itl_ms: Stats | None
    e2e_ms: Stats | None
    otps: Stats | None
    lag_ms: Stats | None


def summarise(records: Sequence[Record], wall: float, slo: Slo | None = None) -> Summary:
    """Return the :class:`Summary` of what ended within ``wall`` seconds."""
    good = [r for r in records if r.error is None]
    tokens = sum(r.tokens or 0 for r in good)
    sources = {"events" if r.counted else "usage" for r in good if r.tokens is not None}
    per_s = 1 / wall if wall > 0 else 0.0
    met = sum(map(slo.met, records)) if slo else 0
    return Summary(
        wall_s=wall,
        requests=len(records),
        ok=len(good),
        failed=len(records) - len(good),
        errors=dict(Counter(r.error for r in records if r.error is not None).most_common()),
        requests_per_s=len(good) * per_s,
        output_tokens=tokens,
        output_tokens_per_s=tokens * per_s,
        tokens_from="mixed" if len(sources) > 1 else next(iter(sources), None),
        goodput_per_s=slo.goodput(records, wall) if slo else None,
        goodput_share=met / len(records) if slo and records else None,
        ttft_ms=describe((r.ttft for r in good), 1e3),
        tpot_ms=describe((r.tpot for r in good), 1e3),
        itl_ms=describe((gap for r in good for gap in r.gaps), 1e3),
        e2e_ms=describe((r.e2e for r in good), 1e3),
        otps=describe(r.otps for r in good),
        lag_ms=describe((r.sent - r.due for r in records if r.sent != r.due), 1e3),
    )
