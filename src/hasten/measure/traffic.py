"""How many requests there were, how they came out and where their time went, over the windows of the percentiles.

Everything is a count, times in nanoseconds too, so that workers' sums and those of slices add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from hasten.anatomy import STAGES
from hasten.measure.alike import Alike
from hasten.measure.latency import SLICES
from hasten.measure.ledger import Ledger, Part
from hasten.measure.objectives import failed

_REQUESTS = ("requests", "all", "")
_ALL, _FAILED, _WELL = range(3)
_TOKENS = ("tokens", "all", "")
_INPUT, _OUTPUT, _CACHED = range(3)
#: Counted by a value of their own: kind and dimension are the same.
_BY = ("error", "outcome", "model")


class Traffic:
    """One worker's counts, and with what it hears the fleet's. See :class:`~hasten.measure.ledger.Ledger`."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.ledger = Ledger(SLICES, clock)

    def take(self, requests: Alike) -> None:
        """Count finished requests."""
        if requests.call:
            self.ledger.add(_count(requests))

    def view(self, seconds: int) -> dict[str, Any]:
        """Return the counts of a window.

        ``errors`` are the failures that objectives count as such; ``error_codes`` are of all that did not come out
        well, the clients' own mistakes among them. ``parts_ms`` is the mean of those that did, like the percentiles,
        so the parts add up to their mean. ``tokens`` are those of engines, discarded answers among them.
        """
        found = self._all(seconds)
        requests = found.get(_REQUESTS, {})
        tokens = found.get(_TOKENS, {})
        well = requests.get(_WELL, 0)
        errors, outcomes, models = (
            {value: counts[0] for (kind, _, value), counts in sorted(found.items()) if kind == by}
            for by in _BY
        )
        stages = ((stage, found.get(("stage", "stage", stage))) for stage in STAGES)
        return {
            "requests": requests.get(_ALL, 0),
            "per_second": round(requests.get(_ALL, 0) / seconds, 3),
            "errors": requests.get(_FAILED, 0),
            "error_codes": errors,
            "parts_ms": {stage: round(took[0] / well / 1e6, 4) for stage, took in stages if took and well},
            "tokens": {
                "input": tokens.get(_INPUT, 0),
                "output": tokens.get(_OUTPUT, 0),
                "cached": tokens.get(_CACHED, 0),
            },
            "outcomes": outcomes,
            "models": models,
        }

    def _all(self, seconds: int) -> Part:
        return {series: self.ledger.counts(series, seconds) for series in self.ledger.series(seconds)}


def _count(requests: Alike) -> Part:
    total = len(requests)
    part: Part = {}
    failures = well = 0
    if requests.well:
        well = total
        part["model", "model", requests.served_model] = {0: total}
        for stage, seconds in requests.stages.items():
            part["stage", "stage", stage] = {0: round(sum(seconds) * 1e9)}
    else:
        part["error", "error", requests.error or str(requests.status)] = {0: total}
        failures = total if failed(requests.traces[0]) else 0
    part[_REQUESTS] = {_ALL: total, _FAILED: failures, _WELL: well}
    if requests.cache and requests.engine:
        part["outcome", "outcome", requests.cache] = {0: total}
    if requests.engine != "cache":
        traces = requests.traces
        discarded = [answer for trace in traces if trace.discarded for answer in trace.discarded]
        part[_TOKENS] = {
            _INPUT: sum([trace.input_tokens or 0 for trace in traces])
            + sum(given for _, given, _ in discarded),
            _OUTPUT: sum([trace.output_tokens or trace.tokens_seen for trace in traces])
            + sum(said for *_, said in discarded),
            _CACHED: sum([trace.cached_tokens or 0 for trace in traces]),
        }
    return part
