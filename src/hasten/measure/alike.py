"""Finished requests that are alike in all that they are counted by, so that several are counted in one go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import attrgetter

from hasten.anatomy import parts
from hasten.trace import Trace

#: Paths that lead to an engine; on others little is measured.
CALLS = frozenset(("chat", "completions", "embeddings", "messages"))

_NAMES = (
    *("endpoint", "stream", "status", "error", "cache"),
    *("model", "served_model", "engine", "provider", "tenant", "route"),
)
_names = attrgetter(*_NAMES)


class Alike:
    """Requests of the same names and outcome; names are those of :class:`~hasten.trace.Trace`.

    ``e2e``, ``ttft``, ``tpot``: seconds, of those that have them. ``stages``: seconds of each stage, by its name.
    ``well``: they came out well. ``call``: they were for an engine.
    """

    __slots__ = (*_NAMES, "call", "e2e", "stages", "tpot", "traces", "ttft", "well")

    def __init__(self, traces: list[Trace]) -> None:
        self.endpoint, self.stream, self.status, self.error, self.cache, *names = _names(traces[0])
        self.model, self.served_model, self.engine, self.provider, self.tenant, self.route = names
        self.traces = traces
        self.call: bool = self.endpoint in CALLS
        self.well: bool = self.error is None and self.status < 400
        self.e2e = [(trace.t_end or trace.t0) - trace.t0 for trace in traces]
        streams = [trace for trace in traces if trace.t_first is not None]
        self.ttft = [ttft for trace in streams if (ttft := trace.ttft) is not None]
        self.tpot = [tpot for trace in streams if (tpot := trace.tpot) is not None]
        self.stages: defaultdict[str, list[float]] = defaultdict(list)
        for trace in traces:
            for stage, seconds in parts(trace).items():
                self.stages[stage].append(seconds)

    def __len__(self) -> int:
        return len(self.traces)

    def __repr__(self) -> str:
        return f"<Alike {len(self)} of {self.endpoint} {self.model!r} -> {self.engine!r}>"


def alike(traces: Iterable[Trace]) -> Iterator[Alike]:
    """Yield finished ``traces`` by what they are alike in."""
    found: defaultdict[object, list[Trace]] = defaultdict(list)
    for trace in traces:
        found[_names(trace)].append(trace)
    return map(Alike, found.values())
