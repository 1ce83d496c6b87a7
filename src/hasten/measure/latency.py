"""Percentiles of E2E, TTFT and TPOT over the last minute, five minutes and hour, by who asked and who answered.

Each of the dimensions stands alone; their cross product is not kept. Counted are answers that came out well: an
error that comes quickly would make a gateway look fast. Answers from the cache count, as the client got them; the
dimensions ``engine`` and ``cache`` tell them from the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from hasten.measure.alike import Alike
from hasten.measure.ledger import Ledger, Part, Series, add
from hasten.measure.registry import Key, buckets
from hasten.measure.sketch import BOUNDS, ERROR, quantiles

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
WINDOWS = {"1m": 60, "5m": 300, "1h": 3600}
#: By the width of the slices, seconds.
SLICES = {5: (60,), 10: (300,), 60: (3600,)}
MEASURES = ("e2e", "ttft", "tpot")

#: How many combinations of names are spread at a stretch, which takes one to three milliseconds.
COMBINATIONS = 8

_Names = tuple[str, str, str, str, str, str]
_Group = tuple[Counter[int], Counter[int], Counter[int]]


class Latency:
    """One worker's percentiles, and with what it hears the fleet's. See :class:`~hasten.measure.ledger.Ledger`."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.ledger = Ledger(SLICES, clock)
        self._groups: dict[_Names, _Group] = {}

    def take(self, requests: Alike) -> None:
        """Count finished requests, for now for their combination of names."""
        if not (requests.call and requests.well):
            return
        key = (
            *(requests.model, requests.engine, requests.served_model),
            *(requests.route, requests.cache, requests.tenant),
        )
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = (Counter(), Counter(), Counter())
        for counts, values in zip(group, (requests.e2e, requests.ttft, requests.tpot), strict=True):
            for bucket, count in buckets(values, BOUNDS):
                counts[bucket] += count

    def fold(self) -> Iterator[None]:
        """Spread what was counted over the dimensions, a stretch at each step; to be done a few times a second, before
        a tick."""
        groups, self._groups = list(self._groups.items()), {}
        for start in range(0, len(groups), COMBINATIONS):
            self.ledger.add(_spread(groups[start : start + COMBINATIONS]))
            yield

    def series(self, tenants: bool) -> dict[Key, list[float]]:
        """Return the gauges of ``/metrics``. ``tenants``: whether the tenants' may be seen too."""
        found: dict[Key, list[float]] = {}
        for window, seconds in WINDOWS.items():
            for series in self.ledger.series(seconds):
                measure, dimension, value = series
                if dimension == "tenant" and not tenants:
                    continue
                counts = self.ledger.counts(series, seconds)
                labels = (measure, dimension, value, window)
                found["hasten_latency_values", labels] = [sum(counts.values())]
                for q, seen in zip(QUANTILES, quantiles(counts, QUANTILES), strict=True):
                    found["hasten_latency_seconds", (*labels, f"{q:g}")] = [seen]
        return found

    def view(self, tenant: str | None) -> dict[str, Any]:
        """Return what ``/admin/latency`` shows: all, or what is ``tenant``'s."""
        windows = {name: self._rows(seconds, tenant) for name, seconds in WINDOWS.items()}
        return {"relative_error": ERROR, "windows": windows}

    def summary(self, series: Series, seconds: int) -> dict[str, float] | None:
        """Return ``n`` and the percentiles of a window; ``None`` if nothing was counted."""
        counts = self.ledger.counts(series, seconds)
        return {"n": sum(counts.values()), **_milliseconds(counts)} if counts else None

    def _rows(self, seconds: int, tenant: str | None) -> list[dict[str, Any]]:
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for series in sorted(self.ledger.series(seconds), key=_place):
            measure, dimension, value = series
            if tenant is None or (dimension, value) == ("tenant", tenant):
                row = rows.setdefault((dimension, value), {"dimension": dimension, "value": value})
                row[measure] = self.summary(series, seconds)
        return list(rows.values())


def _spread(combinations: list[tuple[_Names, _Group]]) -> Part:
    part: Part = {}
    for key, group in combinations:
        names = list(_names(*key))
        for measure, counts in zip(MEASURES, group, strict=True):
            if counts:
                add(part, {(measure, *name): counts for name in names})
    return part


def _names(
    model: str, engine: str, served: str, route: str, cache: str, tenant: str
) -> Iterator[tuple[str, str]]:
    """Yield the dimensions that a request has, and its value of each."""
    yield "all", ""
    if route:
        yield "route", f"{served}/{route.partition(' ')[0]}"  # of "needs tools" the first word
    for dimension, value in (("model", model), ("engine", engine), ("cache", cache), ("tenant", tenant)):
        if value:
            yield dimension, value


def _place(series: Series) -> tuple[str, str, int]:
    measure, dimension, value = series
    return dimension, value, MEASURES.index(measure)


def _milliseconds(counts: Mapping[int, int]) -> dict[str, float]:
    found = zip(QUANTILES, quantiles(counts, QUANTILES), strict=True)
    return {f"p{q * 100:g}_ms": round(seconds * 1e3, 3) for q, seconds in found}
