"""The dashboard's first page, as plain values: whether it is fast, where the time goes, whether it is worth it, whether
it is healthy. Of all workers together. What is dear to put together is kept until it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from time import time
from typing import Any, NamedTuple

from hasten.measure import totals
from hasten.measure.history import EVERY
from hasten.measure.registry import Key
from hasten.measure.watch import Watch

#: What was lost, by the metrics that count it; what a hook held back was not.
_DROPPED = {
    "request_log": ("hasten_request_log_dropped_total",),
    "otel": ("hasten_otel_dropped_total",),
}
_STARTED = "hasten_worker_start_time_seconds"
_IN_FLIGHT = "hasten_engine_in_flight"
_READ = (_IN_FLIGHT, *totals.CACHE, *(name for names in _DROPPED.values() for name in names))


class EngineSeen(NamedTuple):
    """An engine as this worker sees it. ``load``: what the engine tells of itself."""

    name: str
    provider: str
    state: str
    load: object


#: Returns the counts of all workers of the metrics whose names begin so.
Series = Callable[..., Mapping[Key, list[float]]]


class Overview:
    """Puts the page together. ``cost``: what requests cost and saved, of a tenant or of all; ``None``: not known."""

    def __init__(
        self,
        watch: Watch,
        series: Series,
        engines: Callable[[], list[EngineSeen]],
        cached: bool,
        cost: Callable[[str | None], dict[str, Any] | None],
    ) -> None:
        self._watch = watch
        self._series = series
        self._engines = engines
        self._cached = cached
        self._cost = cost

    def view(self, tenant: str | None) -> dict[str, Any]:
        """Return the page; of objectives and costs what ``tenant`` may see."""
        series = self._series(*_READ)
        sums: Counter[str] = Counter()
        in_flight: Counter[str] = Counter()
        workers = 0
        for (family, labels), (value, *_) in series.items():
            if labels[-1:] != ("redacted",):
                sums[family] += value  # type: ignore[assignment]
            workers += family == _STARTED
            if family == _IN_FLIGHT:
                in_flight[labels[0]] += int(value)
        slo = self._watch.slo
        return {
            "now": time(),
            "every": EVERY,
            "workers": max(1, workers),
            "history": self._watch.history.view(),
            "windows": self._watch.windows(),
            "slo": {**slo.view(tenant), "limits": slo.rules.general},
            "cache": totals.cache(series) if self._cached else None,
            "cost": self._cost(tenant),
            "engines": [
                {
                    "name": engine.name,
                    "provider": engine.provider,
                    "state": engine.state,
                    "in_flight": in_flight[engine.name],
                    "load": engine.load,
                }
                for engine in self._engines()
            ],
            "dropped": {what: int(sum(sums[name] for name in names)) for what, names in _DROPPED.items()},
        }
