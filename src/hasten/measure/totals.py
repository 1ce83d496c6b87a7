"""What all workers have counted of one subject, as plain values for the admin's pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hasten.measure.metrics import false_hit_rate
from hasten.measure.registry import Key

#: What :func:`cache` needs of the metrics: their names begin so.
CACHE = ("hasten_cache_", "hasten_worker_start_time_seconds")


def cache(series: Mapping[Key, list[float]]) -> dict[str, Any]:
    """Return the cache's counts. ``share``: the mean of the workers' dials."""

    def by(name: str) -> dict[str, float]:
        """Add up a metric by its last label."""
        sums: Counter[str] = Counter()
        for (family, labels), values in series.items():
            if family == name:
                sums[labels[-1] if labels else ""] += values[0]  # type: ignore[assignment]
        return dict(sums)

    def one(name: str) -> float:
        return by(f"hasten_cache_{name}").get("", 0.0)

    workers = max(1, len(by("hasten_worker_start_time_seconds")))
    return {
        "workers": workers,
        "requests": by("hasten_cache_requests_total"),
        "bypassed": by("hasten_cache_bypassed_total"),
        "unstored": by("hasten_cache_unstored_total"),
        "saved_seconds": one("saved_seconds_total"),
        "saved_tokens": by("hasten_cache_saved_tokens_total"),
        "renewals": by("hasten_cache_renewals_total"),
        "renewal_tokens": by("hasten_cache_renewal_tokens_total"),
        "verdicts": by("hasten_cache_semantic_verdicts_total"),
        "compared": by("hasten_cache_compared_total"),
        "false_hit_rate": {bound: value for (_, (bound,)), (value,) in false_hit_rate(series).items()},
        "share": one("semantic_share") / workers,
        "entries": int(one("entries")),
        "bytes": int(one("bytes")),
        "evictions": int(one("evictions_total")),
    }
