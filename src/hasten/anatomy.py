"""Where a request's time went: stages one after the other, from its first byte to the end of its reply.

What the stages noted of themselves is laid out on one line, on which each moment belongs to one stage, so the parts add
up to the whole. What nobody noted is told from where it lies: after the engine was asked and before the first token
it is ``prefill``, after that ``decode``, and all else the gateway's own.

============ ==========================================================================================
accept       reading and checking the request: the network's time and the client's, to send it
queue        waiting in the gateway for a free engine
named        finding a named route
cache        key and look-ups; of hits and coalesced requests also the wait for, and the replay of, the answer
route        score and decision
compress     shortening the prompt
cascade      a weak tier's answer that was heard or held
retry        engines that failed and were passed over
connect      a new connection to the engine
engine_queue at the engine, before it began; only where the engine tells its own times
prefill      to the first token
decode       from there to the end
generate     both: a whole answer of an engine that does not tell its times
client       a stream was held because the client read slowly
gateway      the rest: the gateway's own time between the stages
============ ==========================================================================================
"""

from __future__ import annotations

from typing import Literal, get_args

from hasten.trace import Trace

Stage = Literal[
    "accept",
    "queue",
    "named",
    "cache",
    "route",
    "compress",
    "cascade",
    "retry",
    "connect",
    "engine_queue",
    "prefill",
    "decode",
    "generate",
    "client",
    "gateway",
]
STAGES: tuple[str, ...] = get_args(Stage)

#: A stage with its begin and its end, ``time.perf_counter`` seconds.
Segment = tuple[str, float, float]


def parts(trace: Trace) -> dict[str, float]:
    """Return the seconds of each stage that took any; they add up to ``trace.duration`` of a finished request."""
    found = trace.parts
    if found is None:
        found = {}
        for stage, start, end in segments(trace):
            found[stage] = found.get(stage, 0.0) + end - start
        if trace.t_end is not None:
            trace.parts = found
    return found


def segments(trace: Trace) -> list[Segment]:
    """Return the stages as they followed each other, without gaps; of a request that still runs, what is known."""
    return _Line(trace).segments()


class _Line:
    """One request's time line, filled from left to right."""

    __slots__ = ("_at", "_calls", "_found", "_trace")

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._at = trace.t0
        self._found: list[Segment] = []
        self._calls = 0  # to engines, as yet to come

    def segments(self) -> list[Segment]:
        trace = self._trace
        spans = sorted(trace.spans, key=_start) if len(trace.spans) > 1 else trace.spans
        self._calls = sum([stage == "upstream" for stage, _, _ in spans])
        asked = False
        for stage, start, end in spans:
            if start > self._at:
                self._rest(start, asked)
            if stage == "upstream":
                asked = True
                self._upstream(end)
            elif end > self._at:
                self._put(stage, end)
        if trace.t_end is not None and trace.t_end > self._at:
            # A call that was given up before it ended has left no span; a hit asked nobody, but its reply is a stream.
            self._rest(trace.t_end, asked or bool(trace.attempts) or (trace.stream and trace.engine != ""))
        return self._found

    def _put(self, stage: str, end: float) -> None:
        self._found.append((stage, self._at, end))
        self._at = end

    def _upstream(self, end: float) -> None:
        """Lay out a call to an engine, until its answer was whole or its first event came."""
        self._calls -= 1
        if end <= self._at:
            return
        if self._calls:
            self._put("retry", end)
        elif self._trace.stream:
            self._wait(end)
        else:
            self._whole(end)

    def _whole(self, end: float) -> None:
        prefill, decode = self._trace.engine_prefill, self._trace.engine_decode
        if prefill is None or decode is None:
            self._put("generate", end)
            return
        # The engine's clock may run otherwise: what it tells has to fit.
        decode = min(decode, end - self._at)
        prefill = min(prefill, end - decode - self._at)
        if end - decode - prefill > self._at:
            self._put("engine_queue", end - decode - prefill)
        if end - decode > self._at:
            self._put("prefill", end - decode)
        if end > self._at:
            self._put("decode", end)

    def _wait(self, end: float) -> None:
        """Lay out the wait for a stream's first token."""
        prefill = self._trace.engine_prefill
        first = self._trace.t_first
        if prefill is not None and first is not None and first - prefill > self._at:
            self._put("engine_queue", min(end, first - prefill))
        if end > self._at:
            self._put("prefill", end)

    def _rest(self, end: float, asked: bool) -> None:
        """Lay out what nobody noted, up to ``end``."""
        trace = self._trace
        if not asked:
            self._put("gateway", end)
        elif trace.engine == "cache":
            self._put("cache", end)
        elif not trace.stream:
            # After its answer a call has nothing to wait for; one that was given up has no answer.
            answered = any(stage == "upstream" for stage, _, _ in trace.spans)
            self._put("gateway" if answered else "generate", end)
        else:
            first = trace.t_first
            if first is None or first > self._at:
                self._wait(end if first is None else min(end, first))
            if end > self._at:
                self._put("decode", end)


def _start(span: Segment) -> float:
    return span[1]
