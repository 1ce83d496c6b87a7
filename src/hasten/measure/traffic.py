"""How many requests there were, how they came out and where their time went, over the windows of the percentiles.

Everything is a count, times in nanoseconds too, so that workers' sums and those of slices add up exactly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from hasten.anatomy import STAGES, parts
from hasten.measure.latency import CALLS, PENDING, SLICES, TRACES
from hasten.measure.ledger import Ledger, Part
from hasten.measure.objectives import failed
from hasten.trace import Trace

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
        self._pending: list[Trace] = []

    def record(self, trace: Trace) -> None:
        """Take one finished request; it is counted by :meth:`fold`, off the hot path."""
        if trace.endpoint in CALLS and len(self._pending) < PENDING:
            self._pending.append(trace)

    def fold(self) -> Iterator[None]:
        """Count what was taken until now, a stretch at each step; to be done a few times a second, before a tick."""
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), TRACES):
            self.ledger.add(_count(pending[start : start + TRACES]))
            yield

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


def _count(traces: list[Trace]) -> Part:
    """Return the counts of a stretch of requests."""
    failures = well = inputs = outputs = cached = 0
    stages: defaultdict[str, float] = defaultdict(float)
    errors: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for trace in traces:
        if trace.error is None and trace.status < 400:
            well += 1
            for stage, seconds in (trace.parts or parts(trace)).items():
                stages[stage] += seconds
            models[trace.served_model] += 1
        else:
            errors[trace.error or str(trace.status)] += 1
            failures += failed(trace)
        if trace.cache and trace.engine:
            outcomes[trace.cache] += 1
        if trace.engine != "cache":
            inputs += trace.input_tokens or 0
            outputs += trace.output_tokens or trace.tokens_seen
            cached += trace.cached_tokens or 0
            for _, given, said in trace.discarded:
                inputs += given
                outputs += said
    part: Part = {
        _REQUESTS: {_ALL: len(traces), _FAILED: failures, _WELL: well},
        _TOKENS: {_INPUT: inputs, _OUTPUT: outputs, _CACHED: cached},
    }
    for stage, seconds in stages.items():
        part["stage", "stage", stage] = {0: round(seconds * 1e9)}
    for kind, counter in zip(_BY, (errors, outcomes, models), strict=True):
        for value, count in counter.items():
            part[kind, kind, value] = {0: count}
    return part
