"""Percentiles of E2E, TTFT and TPOT over the last minute, five minutes and hour, by who asked and who answered.

Each of the dimensions stands alone; their cross product is not kept. Counted are answers that came out well: an
error that comes quickly would make a gateway look fast. Answers from the cache count, as the client got them; the
dimensions ``engine`` and ``cache`` tell them from the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from hasten.measure.ledger import Ledger, Part, Series, add
from hasten.measure.registry import Key
from hasten.measure.sketch import ERROR, bucket, quantiles
from hasten.trace import Trace

#: Paths that lead to an engine; on others nothing is measured.
CALLS = frozenset(("chat", "completions", "embeddings", "messages"))
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
WINDOWS = {"1m": 60, "5m": 300, "1h": 3600}
#: By the width of the slices, seconds.
SLICES = {5: (60,), 10: (300,), 60: (3600,)}
MEASURES = ("e2e", "ttft", "tpot")

#: How much is done at a stretch, one to three milliseconds: traces counted, combinations spread.
TRACES, COMBINATIONS = 200, 8
#: Traces that may wait to be counted, some ten seconds' worth; were nothing counted any more, it would end there.
PENDING = 100_000

_Names = tuple[str, str, str, str, str, str]
_Group = tuple[defaultdict[int, int], defaultdict[int, int], defaultdict[int, int]]


class Latency:
    """One worker's percentiles, and with what it hears the fleet's. See :class:`~hasten.measure.ledger.Ledger`."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.ledger = Ledger(SLICES, clock)
        self._pending: list[Trace] = []

    def record(self, trace: Trace) -> None:
        """Take one finished request; it is counted by :meth:`fold`, off the hot path."""
        if (
            trace.error is None
            and trace.status < 400
            and trace.endpoint in CALLS
            and len(self._pending) < PENDING
        ):
            self._pending.append(trace)

    def fold(self) -> Iterator[None]:
        """Count what was taken until now, a stretch at each step; to be done a few times a second, before a tick.

        A request is counted once for its combination of names, and the counts are then spread over the dimensions.
        """
        pending, self._pending = self._pending, []
        groups: dict[_Names, _Group] = {}
        for start in range(0, len(pending), TRACES):
            _count(groups, pending[start : start + TRACES])
            yield
        combinations = list(groups.items())
        for start in range(0, len(combinations), COMBINATIONS):
            self.ledger.add(_spread(combinations[start : start + COMBINATIONS]))
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


def _count(groups: dict[_Names, _Group], traces: list[Trace]) -> None:
    for trace in traces:
        key = (trace.model, trace.engine, trace.served_model, trace.route, trace.cache, trace.tenant)
        group = groups.get(key)
        if group is None:
            group = groups[key] = (defaultdict(int), defaultdict(int), defaultdict(int))
        e2e, ttfts, tpots = group
        e2e[bucket(trace.duration)] += 1
        ttft = trace.ttft
        if ttft is not None:
            ttfts[bucket(ttft)] += 1
            tpot = trace.tpot
            if tpot is not None:
                tpots[bucket(tpot)] += 1


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
