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

from operator import itemgetter
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

_start = itemgetter(1)

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

    __slots__ = ("answered", "at", "first", "found", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.at = trace.t0
        self.found: list[Segment] = []
        self.first = trace.t_first  # when the first token came from the engine

    def segments(self) -> list[Segment]:
        trace, found = self.trace, self.found
        spans = sorted(trace.spans, key=_start)
        calls = [start for stage, start, _ in spans if stage == "upstream"]
        to_come = len(calls)
        self.answered = to_come > 0
        if self.first is not None and calls:
            # A tier's stream that passes was held from its first token on: the client's first one came later.
            for stage, start, _ in spans:
                if stage == "cascade" and start > calls[-1]:
                    self.first = min(self.first, start)
        for stage, start, end in spans:
            if start > self.at:
                self._rest(start, to_come < len(calls))
            if stage == "upstream":
                to_come -= 1
                if end > self.at:
                    self._upstream(end, to_come)
            elif end > self.at:
                # Where it led to no answer, connecting was in vain too.
                found.append(("retry" if stage == "connect" and to_come > 1 else stage, self.at, end))
                self.at = end
        if trace.t_end is not None and trace.t_end > self.at:
            # A call that was given up before it ended has left no span; a hit asked nobody, but its reply is a stream.
            asked = bool(calls or trace.attempts) or (trace.stream and trace.engine != "")
            self._rest(trace.t_end, asked)
        return found

    def _put(self, stage: str, end: float) -> None:
        self.found.append((stage, self.at, end))
        self.at = end

    def _upstream(self, end: float, to_come: int) -> None:
        """Lay out a call to an engine, until its answer was whole or its first event came; more are ``to_come``."""
        if to_come:
            self._put("retry", end)
        elif self.trace.stream:
            self._wait(end)
        else:
            self._whole(end)

    def _whole(self, end: float) -> None:
        prefill, decode = self.trace.engine_prefill, self.trace.engine_decode
        if prefill is None or decode is None:
            self._put("generate", end)
            return
        # The engine's clock may run otherwise: what it tells has to fit.
        decode = min(decode, end - self.at)
        prefill = min(prefill, end - decode - self.at)
        if end - decode - prefill > self.at:
            self._put("engine_queue", end - decode - prefill)
        if end - decode > self.at:
            self._put("prefill", end - decode)
        if end > self.at:
            self._put("decode", end)

    def _wait(self, end: float) -> None:
        """Lay out the wait for a stream's first token."""
        prefill, first = self.trace.engine_prefill, self.first
        if first is not None:
            end = min(end, first)
            if prefill is not None and first - prefill > self.at:
                self._put("engine_queue", min(end, first - prefill))
        if end > self.at:
            self._put("prefill", end)

    def _rest(self, end: float, asked: bool) -> None:
        """Lay out what nobody noted, up to ``end``."""
        trace = self.trace
        if not asked:
            self._put("gateway", end)
        elif trace.engine == "cache":
            self._put("cache", end)
        elif not trace.stream:
            # After its answer a call has nothing to wait for; one that was given up has no answer.
            self._put("gateway" if self.answered else "generate", end)
        else:
            if self.first is None or self.first > self.at:
                self._wait(end)
            if end > self.at:
                self._put("decode", end)
